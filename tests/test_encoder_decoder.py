"""A T5 and a BART behind a prompt, against PEFT: the prompt stands in front of the encoder."""

import copy

import peft
import pytest
import torch
from batches import ROWS, padded
from families import bart, t5
from prompted import as_peft

from softprompt_lab import PromptTuningConfig, SoftPromptModel
from softprompt_lab.batch import Example, Target

P, WIDTH = 4, 32
TARGETS = [[31, 7, 1], [40, 1], [8, 9, 10, 1]]


@pytest.fixture(scope="module", params=[t5, bart], ids=["t5", "bart"])
def base(request):
    return request.param()


@pytest.fixture
def model(base):
    start = torch.randn(P, WIDTH, generator=torch.Generator().manual_seed(3))
    config = PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=P, num_transformer_submodules=1
    )
    return SoftPromptModel(base, config, start=start)


@pytest.fixture
def reference(model):
    return as_peft(model)


def target_batch() -> torch.Tensor:
    """Labels (B, S), -100 behind a shorter target."""
    longest = max(map(len, TARGETS))
    return torch.tensor([target + [-100] * (longest - len(target)) for target in TARGETS])


def check(model, reference, ids, mask, labels, examples):
    """Loss and gradient of forward, `loss` and the training path against PEFT's."""
    theirs = reference(input_ids=ids, attention_mask=mask, labels=labels).loss
    (expected,) = torch.autograd.grad(theirs, reference.prompt_encoder["default"].embedding.weight)
    weight = model.prompts["default"].embedding.weight
    ways = (
        lambda: model(ids, mask, labels).loss,
        lambda: model.loss(ids, mask, labels),
        lambda: model.engine.example_loss(model.base_model, [model.prompt], examples),
    )
    for way in ways:
        loss = way()
        torch.testing.assert_close(loss, theirs, rtol=1e-6, atol=1e-6)
        assert (torch.autograd.grad(loss, weight)[0] - expected).norm() <= 1e-5 * expected.norm()


def test_rows_of_one_length_equal_peft(model, reference):
    """Invariant 3."""
    ids = torch.tensor([row[:3] for row in ROWS])
    labels = target_batch()
    examples = [
        Example(row.tolist(), [Target.of(target)]) for row, target in zip(ids, TARGETS, strict=True)
    ]
    check(model, reference, ids, torch.ones_like(ids), labels, examples)


def test_a_right_padded_batch_equals_peft(model, reference):
    """Where PEFT is right."""
    ids, mask, _ = padded(ROWS, "right")
    examples = [
        Example(row, [Target.of(target)]) for row, target in zip(ROWS, TARGETS, strict=True)
    ]
    check(model, reference, ids, mask, target_batch(), examples)


@pytest.mark.parametrize("side", ["left", "right"])
def test_no_row_depends_on_its_batch(model, side):
    """Invariant 2: loss and generated tokens of a padded batch are those of its rows alone."""
    ids, mask, _ = padded(ROWS, side)
    labels = target_batch()
    output = model(ids, mask, labels)
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    generated = model.generate(ids, mask, **options)
    for number, row in enumerate(ROWS):
        alone = model(torch.tensor([row]), labels=labels[number : number + 1])
        torch.testing.assert_close(output.logits[number], alone.logits[0], rtol=1e-5, atol=1e-5)
        assert torch.equal(generated[number], model.generate(torch.tensor([row]), **options)[0])


def test_several_targets_share_one_pass_of_the_encoder(model):
    """Rank classification scores each as alone."""
    examples = [Example(row, [Target.of(target) for target in TARGETS]) for row in ROWS]
    together = model.engine.example_loss(model.base_model, [model.prompt], examples)
    pairs = [(example.context, target) for example in examples for target in example.targets]
    losses = [
        model.engine.example_loss(model.base_model, [model.prompt], [Example(row, [target])])
        for row, target in pairs
    ]
    lengths = torch.tensor([len(target.ids) for _, target in pairs])
    expected = (torch.stack(losses) * lengths).sum() / lengths.sum()
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("submodules", [1, 2])
def test_folders_go_both_ways(model, tmp_path, submodules):
    """P rows or PEFT's 2P, of which the second half is read by nobody."""
    config = {"num_virtual_tokens": P, "num_transformer_submodules": submodules}
    ids, labels = torch.tensor([ROWS[0]]), target_batch()[:1]
    theirs = peft.get_peft_model(
        copy.deepcopy(model.base_model), peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", **config)
    ).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = SoftPromptModel.from_pretrained(model.base_model, tmp_path / "theirs")
    assert ours.prompts["default"].embedding.weight.shape == (P * submodules, WIDTH)
    expected = theirs(input_ids=ids, labels=labels)
    torch.testing.assert_close(
        ours(ids, labels=labels).logits, expected.logits, rtol=1e-5, atol=1e-5
    )
    ours.save_pretrained(tmp_path / "ours")
    back = peft.PeftModel.from_pretrained(copy.deepcopy(model.base_model), tmp_path / "ours").eval()
    torch.testing.assert_close(
        back(input_ids=ids, labels=labels).logits, expected.logits, rtol=1e-5, atol=1e-5
    )
