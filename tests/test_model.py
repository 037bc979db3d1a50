"""Invariants 1 to 4 of the design, on six families of decoders, against plain transformers and PEFT."""

import copy

import pytest
import torch
from batches import ROWS, padded, text_of
from families import VOCABULARY, WIDTH
from prompted import as_peft

from softprompt_lab import PromptTuningConfig, SoftPromptModel, TaskType
from softprompt_lab.engine import FastEngine, fast, strategies
from softprompt_lab.engine.selection import exact_strategies
from softprompt_lab.model import get_soft_prompt_model

P = 4
PADDING = ["left", "right"]


@pytest.fixture
def model(family):
    """A family's model behind a random prompt at the scale of its words."""
    start = torch.randn(P, WIDTH, generator=torch.Generator().manual_seed(3)) * 0.2
    return SoftPromptModel(family, PromptTuningConfig(num_virtual_tokens=P), start=start)


def gradient(model: SoftPromptModel, loss: torch.Tensor) -> torch.Tensor:
    """The prompt's gradient of a loss."""
    return torch.autograd.grad(loss, model.prompts["default"].embedding.weight)[0]


def test_words_as_prompt_equal_the_words_in_front(family):
    """Invariant 1."""
    text, ids = torch.tensor([11, 45, 77]), torch.tensor([[5, 17, 33, 8]])
    start = family.get_input_embeddings()(text).detach()
    model = SoftPromptModel(family, PromptTuningConfig(num_virtual_tokens=3), start=start)
    with torch.no_grad():
        plain = family(torch.cat([text[None], ids], dim=1)).logits[:, 3:]
        torch.testing.assert_close(model(ids).logits, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", PADDING)
def test_logits_do_not_depend_on_batch_mates(model, side):
    """Invariant 2, forward: each row of a padded batch against the row alone."""
    ids, mask, _ = padded(ROWS, side)
    with torch.no_grad():
        together = model(ids, mask).logits
        assert together.shape == (*ids.shape, VOCABULARY)
        for logits, row in zip(text_of(together, mask), ROWS, strict=True):
            torch.testing.assert_close(
                logits, model(torch.tensor([row])).logits[0], rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("side", PADDING)
@pytest.mark.parametrize("way", ["forward", "loss"])
def test_loss_and_gradient_do_not_depend_on_batch_mates(model, side, way):
    """Invariant 2, loss and gradient: the batch's mean is the mean of the rows alone (equal numbers of labels)."""
    batch = padded(ROWS, side)
    loss = model(*batch).loss if way == "forward" else model.loss(*batch)
    alone = torch.stack([model(*padded([row], side)).loss for row in ROWS]).mean()
    torch.testing.assert_close(loss, alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient(model, loss), gradient(model, alone), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("side", PADDING)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_generation_does_not_depend_on_batch_mates(model, side, options):
    """Invariant 2, generate: ids and new tokens as transformers returns them, row by row as alone."""
    ids, mask, _ = padded(ROWS, side)
    options = {**options, "max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    together = model.generate(ids, mask, **options)
    assert together.shape == (len(ROWS), ids.shape[1] + 5)
    assert torch.equal(together[:, : ids.shape[1]], ids)
    for sequence, row in zip(together, ROWS, strict=True):
        alone = model.generate(torch.tensor([row]), **options)
        assert sequence[ids.shape[1] :].tolist() == alone[0, len(row) :].tolist()


def test_unpadded_equals_peft(model):
    """Invariant 3: logits, loss, the prompt's gradient and generated tokens of rows of one length."""
    reference = as_peft(model)
    ids = torch.tensor([row[:3] for row in ROWS])
    labels = ids.clone()
    labels[:, 0] = -100
    ours, theirs = model(ids, labels=labels), reference(input_ids=ids, labels=labels)
    torch.testing.assert_close(ours.logits, theirs.logits[:, P:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-6, atol=1e-6)
    expected = torch.autograd.grad(
        theirs.loss, reference.prompt_encoder["default"].embedding.weight
    )[0]
    fast = model.loss(ids, None, labels)
    torch.testing.assert_close(fast, theirs.loss, rtol=1e-6, atol=1e-6)
    for loss in (ours.loss, fast):
        assert (gradient(model, loss) - expected).norm() <= 1e-5 * expected.norm()
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    generated = reference.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    assert torch.equal(model.generate(ids, **options), generated)


def test_right_padded_loss_equals_peft(model):
    """Invariant 3 where PEFT is right: a right-padded batch."""
    ids, mask, labels = padded(ROWS, "right")
    reference = as_peft(model)
    theirs = reference(input_ids=ids, attention_mask=mask, labels=labels).loss
    expected = torch.autograd.grad(theirs, reference.prompt_encoder["default"].embedding.weight)[0]
    loss = model.loss(ids, mask, labels)
    torch.testing.assert_close(loss, theirs, rtol=1e-6, atol=1e-6)
    assert (gradient(model, loss) - expected).norm() <= 1e-5 * expected.norm()


def test_every_way_equals_peft(model, monkeypatch):
    """Blocks or a mask, in one row and several, prefixed, padded: loss to 1e-6, the prompt's gradient to 1e-5."""
    ids, mask, labels = padded(ROWS, "right")
    reference = as_peft(model)
    theirs = reference(input_ids=ids, attention_mask=mask, labels=labels).loss
    expected = torch.autograd.grad(theirs, reference.prompt_encoder["default"].embedding.weight)[0]
    ways = [(way, False) for way in exact_strategies(model.base_model)]
    if ways[0][0] is strategies.blocks:
        ways += [(strategies.packed, True), (strategies.blocks, True)]
    for way, row_each in ways:  # row_each: each example gets a row of its own
        with monkeypatch.context() as patch:
            patch.setattr(fast, "select_strategy", lambda *arguments, way=way: way)
            if row_each:
                patch.setattr(strategies, "MOST_ROW_TOKENS", 1.0)
                patch.setitem(strategies.DENSE_TOKENS, "cpu", 1.0)
            weight = model.prompts["default"].embedding.weight
            weight.grad = None
            loss = model.loss(ids, mask, labels)
            loss.backward()
        torch.testing.assert_close(loss, theirs.detach(), rtol=1e-6, atol=1e-6)
        assert (weight.grad - expected).norm() <= 1e-5 * expected.norm()


def test_the_first_token_is_predicted_by_the_prompt(model):
    """A label on a row's first token counts, as in PEFT, by the fast way too."""
    ids = torch.tensor([ROWS[0]])
    theirs = as_peft(model)(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(model(ids, labels=ids).loss, theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.loss(ids, None, ids), theirs, rtol=1e-6, atol=1e-6)


def test_the_base_model_never_changes(model):
    """Invariant 4: not a bit of its weights, and no gradient, over an optimiser's step."""
    before = copy.deepcopy(model.base_model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model.train()
    start = model.prompt.detach().clone()
    model.loss(*padded(ROWS, "left")).backward()
    optimizer.step()
    assert not torch.equal(model.prompt, start)
    assert all(
        torch.equal(value, before[key]) for key, value in model.base_model.state_dict().items()
    )
    assert all(parameter.grad is None for parameter in model.base_model.parameters())
    assert not model.base_model.training


def test_the_ways_are_found_by_asking(family):
    """Only BLOOM, whose positions come from its mask, takes no packed row."""
    packed = [strategies.blocks, strategies.packed]
    packed = [] if family.config.model_type == "bloom" else packed
    assert exact_strategies(family) == [*packed, strategies.prefixed, strategies.padded]


def test_trainable_parameters_as_peft_prints_them(capsys):
    """The numbers and the line that the tutorial shows."""
    from families import gpt2

    model = get_soft_prompt_model(gpt2(), PromptTuningConfig(num_virtual_tokens=8))
    model.print_trainable_parameters()
    ours = capsys.readouterr().out
    as_peft(model).print_trainable_parameters()
    assert ours == capsys.readouterr().out


def test_sampling_returns_several_sequences():
    """`num_return_sequences` repeats each row's ids in front of its continuations."""
    from families import llama

    model = SoftPromptModel(llama(), PromptTuningConfig(num_virtual_tokens=P))
    ids, mask, _ = padded(ROWS, "left")
    torch.manual_seed(0)
    output = model.generate(
        ids, mask, do_sample=True, num_return_sequences=2, max_new_tokens=3, min_new_tokens=3
    )
    assert output.shape == (6, ids.shape[1] + 3)
    assert torch.equal(output[::2, : ids.shape[1]], ids)
    assert torch.equal(output[1::2, : ids.shape[1]], ids)


def test_max_length_counts_the_input_but_no_virtual_token():
    """As in transformers, seen from outside: the returned row has `max_length` tokens."""
    from families import gpt2

    model = SoftPromptModel(gpt2(), PromptTuningConfig(num_virtual_tokens=P))
    assert model.generate(torch.tensor([ROWS[0]]), max_length=10, min_new_tokens=3).shape == (1, 10)
    with pytest.raises(ValueError, match="max_length=7 leaves no room"):
        model.generate(torch.tensor([ROWS[0]]), max_length=7)


def test_several_prompts_on_one_base():
    """The active prompt answers, alone has a gradient, and the others stay."""
    from families import gpt2

    model = SoftPromptModel(gpt2(), PromptTuningConfig(num_virtual_tokens=2))
    model.add_prompt("other", PromptTuningConfig(num_virtual_tokens=5))
    ids = torch.tensor([ROWS[0]])
    first = model(ids).logits
    model.set_prompt("other")
    assert not torch.allclose(first, model(ids).logits)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        "prompts.other.embedding.weight"
    ]
    model.set_prompt("default")
    assert torch.equal(first, model(ids).logits)
    for name in ("default", "no.name"):
        with pytest.raises(ValueError, match=name):
            model.add_prompt(name, PromptTuningConfig())
    with pytest.raises(ValueError, match="'missing'; there are: default, other"):
        model.set_prompt("missing")


def test_hidden_states_line_up_too():
    """Whatever the base returns by place is cut and sorted like the logits."""
    from families import llama

    model = SoftPromptModel(llama(), PromptTuningConfig(num_virtual_tokens=P))
    ids, mask, _ = padded(ROWS, "left")
    states = model(ids, mask, output_hidden_states=True).hidden_states
    assert all(layer.shape == (*ids.shape, WIDTH) for layer in states)
    alone = model(torch.tensor([ROWS[1]]), output_hidden_states=True).hidden_states[-1][0]
    torch.testing.assert_close(text_of(states[-1], mask)[1], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_mask": torch.ones(1, 3, dtype=torch.long)}, r"attention_mask is \(1, 3\)"),
        ({"attention_mask": torch.zeros(1, 7, dtype=torch.long)}, r"rows \[0\] hold no text"),
        ({"labels": torch.ones(1, 3, dtype=torch.long)}, r"labels are \(1, 3\)"),
        ({"position_ids": torch.arange(7)[None]}, "position_ids cannot be passed"),
        ({"past_key_values": object()}, "past_key_values cannot be passed"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, message):
    """Errors name the argument and its value."""
    from families import gpt2

    model = SoftPromptModel(gpt2(), PromptTuningConfig(num_virtual_tokens=P))
    with pytest.raises(ValueError, match=message):
        model(torch.tensor([ROWS[0]]), **change)


def test_a_labelled_pad_and_a_batch_without_labels_are_refused():
    """The first would teach pads, the second nothing."""
    from families import gpt2

    model = SoftPromptModel(gpt2(), PromptTuningConfig(num_virtual_tokens=P))
    ids, mask, labels = padded(ROWS, "right")
    with pytest.raises(ValueError, match="a pad has a label"):
        model.loss(ids, mask, ids)
    with pytest.raises(ValueError, match="no token of this batch has a label"):
        model.loss(ids, mask, torch.full_like(labels, -100))


def test_task_types_that_do_not_fit_are_refused():
    """A decoder takes no SEQ_2_SEQ_LM prompt, and a width must be the words' width."""
    from families import gpt2

    with pytest.raises(ValueError, match="needs SEQ_2_SEQ_LM"):
        SoftPromptModel(gpt2(), PromptTuningConfig(task_type=TaskType.SEQ_2_SEQ_LM))
    with pytest.raises(ValueError, match="no module called classifier or score"):
        SoftPromptModel(gpt2(), PromptTuningConfig(task_type="SEQ_CLS"))
    with pytest.raises(ValueError, match="token_dim=8, but the base model's words are 32 wide"):
        SoftPromptModel(gpt2(), PromptTuningConfig(token_dim=8))


def test_an_empty_context_and_several_targets_score_as_each_alone(family):
    """The tree mask: targets that share a context do not see each other."""
    from softprompt_lab.batch import Example, Target

    prompt = torch.randn(P, WIDTH, generator=torch.Generator().manual_seed(1)) * 0.2
    targets = [Target.of([4, 5]), Target.of([6, 7, 8]), Target.of([9])]
    examples = [Example([1, 2, 3], targets), Example([], targets[:2]), Example([30], targets[1:])]
    together = FastEngine().example_loss(family, [prompt], examples)
    pairs = [(example, target) for example in examples for target in example.targets]
    losses = [
        FastEngine().example_loss(family, [prompt], [Example(example.context, [target])])
        for example, target in pairs
    ]
    lengths = torch.tensor([len(target.ids) for _, target in pairs])
    expected = (torch.stack(losses) * lengths).sum() / lengths.sum()
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-6)
