"""Evaluations beside each other: differences and votes against loops one can read."""

import math
import random
from dataclasses import replace

import pandas as pd
import pytest
import torch
from bag_of_words import task_of_bytes
from families import byte_tokenizer, llama

from softprompt_lab import PromptTuningConfig, SoftPromptModel, evaluate, reading
from softprompt_lab.evaluation import label_probabilities
from softprompt_lab.reading import comparison

TASK = task_of_bytes(24)


@pytest.fixture(scope="module")
def model() -> SoftPromptModel:
    """Llama behind four sampled tokens."""
    base = llama()
    base.resize_token_embeddings(257, mean_resizing=False)
    torch.manual_seed(0)
    return SoftPromptModel(
        base, PromptTuningConfig(num_virtual_tokens=4), tokenizer=byte_tokenizer()
    )


def test_a_difference_is_that_of_the_figures_and_its_interval_that_of_resampled_rows(model):
    """Against resampling in a loop; of an evaluation and itself nothing is left."""
    found = evaluate(
        model, TASK, prompts={"own": model.prompt, "other": 0.3 * model.prompt.flip(0)}
    )
    one, other = found["own"], found["other"]
    change = reading.compared(one, other)
    assert (change["loss"], change["accuracy"], change["n"]) == (one.loss, one.accuracy, 24)
    assert change["loss_change"] == pytest.approx(one.loss - other.loss)
    assert change["accuracy_change"] == pytest.approx(one.accuracy - other.accuracy)
    assert change["accuracy_low"] <= change["accuracy_change"] <= change["accuracy_high"]
    shuffler, drawn = random.Random(1), []
    for _ in range(2000):
        rows = shuffler.choices(range(one.n), k=one.n)
        first, second = (each.predictions["loss"].to_numpy()[rows].sum() for each in (one, other))
        drawn.append((first - second) / one.predictions["tokens"].to_numpy()[rows].sum())
    spread = change["loss_high"] - change["loss_low"]
    for end, quantile in (("low", 0.025), ("high", 0.975)):
        expected = pd.Series(drawn).quantile(quantile)
        assert change[f"loss_{end}"] == pytest.approx(expected, abs=0.1 * spread)
    nothing = reading.compared(one, one)
    for measure in ("loss", "accuracy"):
        assert [nothing[f"{measure}_{end}"] for end in ("change", "low", "high")] == [0, 0, 0]
    with pytest.raises(ValueError, match="other rows"):
        reading.compared(one, evaluate(model, TASK, limit=5))


def test_a_vote_combines_what_prompts_answer(model):
    """Mean probability and majority vote as a loop computes them."""
    generator = torch.Generator().manual_seed(3)
    prompts = {"own": model.prompt.detach()}
    prompts |= {
        f"other {rows}": 0.3 * torch.randn(rows, 32, generator=generator) for rows in (3, 5)
    }
    found = reading.vote(evaluate(model, TASK, prompts=prompts))
    texts = TASK.test[TASK.text_column]
    shares = [
        label_probabilities(model, TASK, texts, prompts={name: vectors}).droplevel("prompt")
        for name, vectors in prompts.items()
    ]
    assert found["text"].tolist() == list(texts)
    mean = sum(shares) / 3
    assert found["mean_probability"].tolist() == mean.idxmax(axis=1).tolist()
    votes = pd.concat([share.idxmax(axis=1) for share in shares], axis=1)
    assert found["majority_vote"].tolist() == [row.mode()[0] for _, row in votes.iterrows()]


def test_equal_prompts_are_measured_once(model, monkeypatch):
    measured = []

    def counting(*args, prompts, **options):
        measured.extend(prompts)
        return evaluate(*args, prompts=prompts, **options)

    monkeypatch.setattr(comparison, "evaluate", counting)
    own = model.prompt.detach()
    first, none, again = comparison.evaluate_each(
        model, TASK, "test", [own, own[:0], own.clone()], 4
    )
    assert len(measured) == 2
    assert first is again
    assert none.loss != first.loss


def test_levels_are_those_of_the_rows_measured_and_no_others():
    """By loops: the label that is commonest in training for every row, and the mean agreement of the raters."""
    agreement = [0.5 + 0.01 * row for row in range(len(TASK.test))]
    rated, n = replace(TASK, test=TASK.test.add_column("agreement", agreement)), 7
    labels = [*TASK.train["text_label"]]
    commonest = max(sorted({*labels}), key=labels.count)
    right = [label == commonest for label in TASK.test["text_label"]]
    found = reading.levels(rated, "test", n)
    assert found["n"] == n
    assert found["majority"] == pytest.approx(sum(right[:n]) / n)
    assert found["ceiling"] == pytest.approx(sum(agreement[:n]) / n)
    assert math.isnan(reading.levels(TASK, "test", n)["ceiling"])
    assert reading.levels(rated, "test")["majority"] == pytest.approx(sum(right) / len(right))


def test_what_is_kept_is_not_measured_again(model):
    """The same vectors on the same rows, whoever asks; on other rows they are."""
    prompt, kept = model.prompt.detach(), {}
    with reading.keeping(kept):
        first = reading.evaluate_each(model, TASK, "test", [prompt, 0 * prompt, -0.0 * prompt], 4)
        again = reading.evaluate_each(model, TASK, "test", [prompt.clone()], 4)
        (more,) = reading.evaluate_each(model, TASK, "test", [prompt], 5)
    assert first[0] is again[0]
    assert first[1] is first[2]
    assert (first[0].n, more.n, len(kept)) == (4, 5, 3)
    (anew,) = reading.evaluate_each(model, TASK, "test", [prompt], 4)
    assert anew is not first[0]
    assert anew.loss == first[0].loss
