"""Classification behind a prompt, on encoders and decoders: rows alone, PEFT where it is right, else a reference."""

import peft
import pytest
import torch
import transformers
from batches import ROWS
from families import CLASSES, CLASSES_OF, CONFIGS, ENCODERS, HEADS_BY_HAND, _build, base_of
from prompted import P, as_peft, model_of, outputs

from softprompt_lab import (
    AdapterError,
    PromptTuningConfig,
    SoftPromptModel,
    evaluate,
    load_task,
    train,
)
from softprompt_lab.heads.classify import first_position, looks_back_only

FAMILIES = pytest.mark.parametrize("family", CONFIGS)
TASKS = pytest.mark.parametrize("task", CLASSES_OF)


def padded(side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """`input_ids` and `attention_mask` of the rows."""
    longest = max(map(len, ROWS))
    pads = [[0] * (longest - len(row)) for row in ROWS]
    ids = [pad + row if side == "left" else row + pad for pad, row in zip(pads, ROWS, strict=True)]
    ones = [[1] * len(row) for row in ROWS]
    mask = [pad + row if side == "left" else row + pad for pad, row in zip(pads, ones, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoders_classifier_reads_the_texts_first_token(family):
    """The plain model's states of [prompt | text], the head on the text's part; PEFT's head reads the prompt's."""
    model = model_of(family, "SEQ_CLS")
    base, ids = model.base_model, torch.tensor([ROWS[0]])
    words = torch.cat([model.prompt[None], model.word_embeddings_module(ids)], dim=1)
    states = base(inputs_embeds=words, output_hidden_states=True).hidden_states[-1]
    ours = model(ids).logits
    torch.testing.assert_close(
        ours, HEADS_BY_HAND[family](base, states[:, P:]), rtol=1e-5, atol=1e-5
    )
    theirs = as_peft(model)(input_ids=ids).logits
    torch.testing.assert_close(theirs, HEADS_BY_HAND[family](base, states), rtol=1e-5, atol=1e-5)
    assert (ours - theirs).abs().max() > 1e-3


@FAMILIES
def test_token_losses_equal_a_loop(family):
    """The mean of the labelled tokens' cross-entropies, whatever the padding; PEFT raises."""
    model = model_of(family, "TOKEN_CLS")
    ids, mask = padded("right")
    labels = torch.where(mask.bool(), ids % CLASSES, -100)
    labels[0, 0] = -100
    logits = [model(torch.tensor([row])).logits[0] for row in ROWS]
    losses = [
        torch.nn.functional.cross_entropy(logits[row][place], labels[row, place])
        for row in range(len(ROWS))
        for place in range(len(ROWS[row]))
        if labels[row, place] != -100
    ]
    loss = model(ids, mask, labels).loss
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    loss.backward()
    assert model.prompt.grad is None
    assert model.prompts["default"].embedding.weight.grad.norm() > 0
    assert all(weight.grad.norm() > 0 for weight in model.heads["default"].parameters())
    assert all(weight.grad is None for weight in model.base_model.parameters())


@FAMILIES
def test_spans_are_places_of_the_text(family):
    """Cross-entropy over the text's own places; a pad is never the answer."""
    model = model_of(family, "QUESTION_ANS")
    ids, mask = padded("left")
    starts, ends = torch.tensor([1, 5, 3]), torch.tensor([2, 6, 4])
    output = model(ids, mask, start_positions=starts, end_positions=ends)
    losses = []
    for number, row in enumerate(ROWS):
        alone = model(torch.tensor([row]))
        pads = len(ids[number]) - len(row)
        for logits, place in ((alone.start_logits, starts), (alone.end_logits, ends)):
            losses.append(torch.nn.functional.cross_entropy(logits[0], place[number] - pads))
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())
    assert mask.bool().gather(1, output.start_logits.argmax(dim=1)[:, None]).all()
    with pytest.raises(ValueError, match=r"start_positions=tensor\(\[0, 0, 0\]\)"):
        model(ids, mask, start_positions=torch.zeros(3, dtype=torch.long), end_positions=ends)


@FAMILIES
def test_text_losses_and_gradients_equal_peft_or_the_rows(family):
    """Cross-entropy of the classes; on an unpadded decoder's row the gradients are PEFT's."""
    model = model_of(family, "SEQ_CLS")
    ids, mask = padded("right")
    labels = torch.tensor([0, 2, 1])
    logits = torch.cat([model(torch.tensor([row])).logits for row in ROWS])
    loss = model(ids, mask, labels).loss
    torch.testing.assert_close(
        loss, torch.nn.functional.cross_entropy(logits, labels), rtol=1e-5, atol=1e-6
    )
    if family not in ENCODERS:
        one = {"input_ids": ids[:1], "attention_mask": mask[:1], "labels": labels[:1]}
        model(**one).loss.backward()
        reference = as_peft(model)
        reference(**one).loss.backward()
        ours = model.prompts["default"].embedding.weight.grad
        torch.testing.assert_close(ours, reference.prompt_encoder["default"].embedding.weight.grad)
        theirs = reference.base_model.score.modules_to_save["default"].weight.grad
        torch.testing.assert_close(model.heads["default"].copies[0].grad, theirs)


@FAMILIES
@TASKS
def test_what_is_saved_loads_in_peft_and_back(family, task, tmp_path):
    """Prompt and trained head, under PEFT's keys, both ways."""
    model = model_of(family, task)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn(
                    weight.shape, generator=torch.Generator().manual_seed(2)
                )
    ids = torch.tensor([ROWS[0]])
    model.save_pretrained(tmp_path / "ours")
    again = SoftPromptModel.from_pretrained(base_of(family, task), tmp_path / "ours")
    for ours, theirs in zip(outputs(task, again(ids)), outputs(task, model(ids)), strict=True):
        assert torch.equal(ours, theirs)
    theirs = peft.PeftModel.from_pretrained(base_of(family, task), tmp_path / "ours").eval()
    assert torch.equal(theirs.prompt_encoder["default"].embedding.weight, model.prompt)
    for name, weight in model.heads["default"].weights().items():
        module, _, part = name.rpartition(".")
        wrapped = dict(theirs.named_parameters())
        saved = [
            value
            for key, value in wrapped.items()
            if "modules_to_save.default" in key and key.endswith(part)
        ]
        assert any(value.shape == weight.shape and torch.equal(value, weight) for value in saved), (
            module
        )
    theirs.save_pretrained(tmp_path / "theirs")
    back = SoftPromptModel.from_pretrained(base_of(family, task), tmp_path / "theirs")
    for ours, expected in zip(outputs(task, back(ids)), outputs(task, model(ids)), strict=True):
        torch.testing.assert_close(ours, expected)
    assert (
        back.prompt_config.modules_to_save == model.prompt_config.modules_to_save
    )  # PEFT's list grows each time


def test_where_a_head_reads_is_found_by_asking():
    """Encoders look both ways, from the position behind RoBERTa's padding token; decoders look back only."""
    firsts = {family: first_position(base_of(family, "SEQ_CLS")) for family in CONFIGS}
    assert firsts == {
        "Bert": 0,
        "Roberta": 1,
        "DistilBert": 0,
        "GPT2": None,
        "Llama": None,
        "Qwen2": None,
    }
    assert [family for family in CONFIGS if looks_back_only(base_of(family, "SEQ_CLS"))] == [
        "GPT2",
        "Llama",
        "Qwen2",
    ]


def test_a_model_whose_positions_cannot_be_given_is_refused():
    """T5's encoder: its positions are relative, and its classifier is another."""
    shape = {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 99,
    }
    base = _build(
        transformers.T5ForTokenClassification,
        transformers.T5Config(**shape, is_encoder_decoder=False),
    )
    model = SoftPromptModel(base, PromptTuningConfig(P, task_type="TOKEN_CLS"))
    assert model(torch.tensor([ROWS[0]])).logits.shape == (1, 7, 2)
    model.prompt_config.task_type = type(model.prompt_config.task_type)("SEQ_CLS")
    with pytest.raises(ValueError, match="takes no position_ids"):
        model(torch.tensor([ROWS[0]]))


def test_pairs_of_texts_keep_their_types():
    """`token_type_ids` line up with `input_ids`, on either side of the pads; the prompt has type 0, as in PEFT."""
    model = model_of("Bert", "TOKEN_CLS")
    types = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    ids = torch.tensor([ROWS[0]])
    ours, untyped = model(ids, token_type_ids=types).logits, model(ids).logits
    theirs = as_peft(model)(input_ids=ids, token_type_ids=types).logits[:, P:]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (untyped - theirs).abs().max() > 1e-3


def test_wrong_heads_are_refused(tmp_path):
    """No head, another number of classes, two heads at once, generation."""
    with pytest.raises(ValueError, match="no module called qa_outputs"):
        SoftPromptModel(base_of("Bert", "SEQ_CLS"), PromptTuningConfig(P, task_type="QUESTION_ANS"))
    model = model_of("GPT2", "SEQ_CLS")
    model.save_pretrained(tmp_path)
    other = _build(transformers.GPT2ForSequenceClassification, CONFIGS["GPT2"](num_labels=5))
    with pytest.raises(
        AdapterError, match=r"score.weight has shape \(3, 32\); the base model's has \(5, 32\)"
    ):
        SoftPromptModel.from_pretrained(other, tmp_path)
    model.add_prompt("second", PromptTuningConfig(P, task_type="SEQ_CLS"))
    with pytest.raises(ValueError, match="a head of its own"):
        model(torch.tensor([ROWS[0]] * 2), prompt_names=["default", "second"])
    with pytest.raises(ValueError, match="generates no text"):
        model.generate(torch.tensor([ROWS[0]]))
    with pytest.raises(ValueError, match="task_type=SEQ_CLS predicts no text"):
        train(model, load_task("complaints"))
    with pytest.raises(ValueError, match="task_type=SEQ_CLS predicts no text"):
        evaluate(model, load_task("complaints"))
    for task, other in (
        ("TOKEN_CLS", "SEQ_CLS"),
        ("SEQ_CLS", "TOKEN_CLS"),
        ("FEATURE_EXTRACTION", "SEQ_CLS"),
    ):
        wrong = SoftPromptModel(base_of("GPT2", other), PromptTuningConfig(P, task_type=task))
        with pytest.raises(ValueError, match=f"is no model for task_type={task}"):
            wrong(torch.tensor([ROWS[0]]))
