"""PEFT's numbers on request, each place where ours differ from them, and the table in README.md that lists those."""

import re
from pathlib import Path

import peft
import pytest
import torch
from batches import ROWS, padded
from families import CONFIGS, ENCODERS, base_of, t5
from prompted import P, as_peft, with_prompt

from softprompt_lab import SoftPromptModel
from softprompt_lab.interop.compatibility import forward_like_peft

ROOT = Path(__file__).parents[1]


def pair(base, task: str) -> tuple[SoftPromptModel, peft.PeftModel]:
    """Ours and PEFT's over copies of one base model, behind the same prompt."""
    ours = with_prompt(base, task)
    return ours, as_peft(ours)


@pytest.mark.parametrize("side", ["left", "right"])
def test_causal_numbers_are_pefts(family, side):
    """Logits at every place, loss and the prompt's gradient, on padded batches too."""
    ours, theirs = pair(family, "CAUSAL_LM")
    ids, mask, labels = padded(ROWS, side)
    output, expected = forward_like_peft(ours, ids, mask, labels), theirs(ids, mask, labels=labels)
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(output.loss, expected.loss)
    (gradient,) = torch.autograd.grad(output.loss, ours.prompts["default"].embedding.weight)
    (right,) = torch.autograd.grad(expected.loss, theirs.prompt_encoder["default"].embedding.weight)
    torch.testing.assert_close(gradient, right)


def test_left_padding_changes_pefts_results():
    """GPT-2: the row with pads between prompt and text against the row alone, in PEFT and here."""
    from families import gpt2

    ours, theirs = pair(gpt2(), "CAUSAL_LM")
    ids, mask, _ = padded(ROWS, "left")
    alone = torch.tensor([ROWS[1]])
    length = alone.shape[1]
    moved = (theirs(ids, mask).logits[1, -length:] - theirs(alone).logits[0, -length:]).abs().max()
    kept = (ours(ids, mask).logits[1, -length:] - ours(alone).logits[0]).abs().max()
    assert moved > 0.1
    assert kept < 1e-5


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"])
def test_numbers_of_heads_are_pefts(family, task):
    """A right-padded batch, the prompt's places and all."""
    ours, theirs = pair(base_of(family, task), task)
    ids, mask, _ = padded(ROWS, "right")
    labels = {"SEQ_CLS": {"labels": torch.tensor([0, 1, 2])}}.get(task, {})
    if task == "QUESTION_ANS":
        labels = {
            "start_positions": torch.tensor([1, 0, 2]),
            "end_positions": torch.tensor([2, 1, 3]),
        }
    output = forward_like_peft(ours, ids, mask, **labels)
    expected = theirs(input_ids=ids, attention_mask=mask, **labels)
    for name in {"loss", "logits", "start_logits", "end_logits", "last_hidden_state"} & set(
        expected
    ):
        torch.testing.assert_close(output[name], expected[name])


def test_encoder_decoder_numbers_are_pefts():
    """One submodule: the prompt in front of the encoder."""
    ours, theirs = pair(t5(), "SEQ_2_SEQ_LM")
    ids, mask, _ = padded(ROWS, "right")
    labels = torch.tensor([[4, 1], [7, 1], [9, 1]])
    torch.testing.assert_close(
        forward_like_peft(ours, ids, mask, labels).loss, theirs(ids, mask, labels=labels).loss
    )


@pytest.mark.parametrize("family", [name for name in CONFIGS if name not in ENCODERS])
def test_padding_changes_pefts_decoder_classes(family):
    """Its classifier reads a pad of the right-padded row; ours the last word."""
    ours, theirs = pair(base_of(family, "SEQ_CLS"), "SEQ_CLS")
    ids, mask, _ = padded(ROWS, "right")
    alone = torch.tensor([ROWS[1]])
    moved = (
        (theirs(input_ids=ids, attention_mask=mask).logits[1] - theirs(input_ids=alone).logits[0])
        .abs()
        .max()
    )
    assert moved > 1e-2
    assert (ours(ids, mask).logits[1] - ours(alone).logits[0]).abs().max() < 1e-5


def test_peft_takes_no_labels_of_tokens():
    """Its logits have P places more than the labels; here they line up."""
    ours, theirs = pair(base_of("Bert", "TOKEN_CLS"), "TOKEN_CLS")
    ids = torch.tensor([ROWS[0]])
    with pytest.raises(ValueError, match="batch_size"):
        theirs(input_ids=ids, labels=ids % 3)
    with pytest.raises(ValueError, match="batch_size"):
        forward_like_peft(ours, ids, labels=ids % 3)
    assert ours(ids, labels=ids % 3).loss > 0


def test_pefts_spans_count_from_the_prompt():
    """Its place 1 is the second virtual token; ours the text's second token."""
    ours, theirs = pair(base_of("Bert", "QUESTION_ANS"), "QUESTION_ANS")
    ids = torch.tensor([ROWS[0]])
    torch.testing.assert_close(theirs(input_ids=ids).start_logits[:, P:], ours(ids).start_logits)
    places = {"start_positions": torch.tensor([1]), "end_positions": torch.tensor([2])}
    shifted = {name: place + P for name, place in places.items()}
    right = theirs(input_ids=ids, **shifted).loss  # over the prompt's places too
    assert (theirs(input_ids=ids, **places).loss - right).abs() > 1e-2
    over_text = [
        torch.nn.functional.cross_entropy(ours(ids)[f"{end}_logits"], places[f"{end}_positions"])
        for end in ("start", "end")
    ]
    torch.testing.assert_close(ours(ids, **places).loss, sum(over_text) / 2)


def test_the_table_names_tests_that_there_are():
    """Every difference in README.md names the test that shows it."""
    lines = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .split("## Where PEFT differs")[1]
        .split("\n## ")[0]
    )
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", lines)
    assert len(named) >= 8
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"
