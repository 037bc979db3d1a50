"""Training and evaluation on a small random model, against loops one can read."""

import dataclasses
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from families import gpt2, llama
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from softprompt_lab import (
    LabError,
    PromptTuningConfig,
    SoftPromptModel,
    evaluate,
    load_task,
    train,
    training,
)
from softprompt_lab.engine import FastEngine
from softprompt_lab.evaluation import (
    label_probabilities,
    wilson_interval,
)
from softprompt_lab.training import batches, encode_training_rows, training_steps

WORDS = "good bad red blue green one two three four five six seven text : Label"


@pytest.fixture(scope="module")
def tokenizer():
    """A word-level tokenizer over a handful of words."""
    vocabulary = {word: place + 3 for place, word in enumerate(WORDS.split())} | {
        "<unk>": 0,
        "<eos>": 2,
    }
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token="<eos>", unk_token="<unk>", pad_token="<eos>"
    )


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Texts of colours and numbers; red ones are bad."""
    numbers = ["one", "two", "three", "four", "five", "six", "seven"]
    texts = [
        f"{c} {a} {b}" for c in ("red", "blue", "green") for a in numbers for b in numbers if a != b
    ]
    labels = ["bad" if text.startswith("red") else "good" for text in texts]
    path = tmp_path_factory.mktemp("data") / "colours.csv"
    pd.DataFrame({"text": texts, "label": labels}).to_csv(path, index=False)
    return load_task(path)


def make(tokenizer, seed: int = 0) -> SoftPromptModel:
    """Llama behind four sampled words."""
    torch.manual_seed(seed)
    return SoftPromptModel(llama(), PromptTuningConfig(num_virtual_tokens=4), tokenizer=tokenizer)


def test_training_lowers_the_loss_and_records_it(tokenizer, task):
    """Losses, snapshots, evaluations, table; the model holds the last snapshot."""
    model = make(tokenizer)
    history = train(model, task, steps=30, evaluate_every=10, learning_rate=0.05, progress=False)
    assert len(history.losses) == 30
    assert sum(history.losses[-5:]) < 0.7 * sum(history.losses[:5])
    assert sorted(history.snapshots) == [0, 10, 20, 30]
    assert [entry["step"] for entry in history.evaluations] == [10, 20, 30]
    assert torch.equal(history.snapshots[30], model.prompt)
    table = history.to_pandas()
    assert table["loss"].tolist() == pytest.approx(history.losses)
    assert (
        table.loc[table["step"] == 20, "validation_accuracy"].item()
        == history.evaluations[1]["accuracy"]
    )
    assert history.settings["steps"] == 30
    assert history.seconds > 0


def test_a_long_run_keeps_about_a_hundred_snapshots(tokenizer, task, monkeypatch):
    """Evenly over 10,000 steps, with the start, the end and the best evaluation, here at step 4,500."""

    def steps_of(model, task, *, steps, **settings):
        for step in range(1, steps + 1):
            model.prompt.data.fill_(step)
            yield training.Step(step, 1.0, None, dict)

    def loss_of(model, *arguments, **options):
        loss = abs(float(model.prompt[0, 0].detach()) - 4_437)
        return {"now": SimpleNamespace(loss=loss, accuracy=0.5)}

    monkeypatch.setattr(training, "training_steps", steps_of)
    monkeypatch.setattr(training, "evaluate", loss_of)
    model = make(tokenizer)
    start = model.prompt.detach().clone()
    kept = {"evaluate_every": 750, "patience": 99}
    history = train(model, task, steps=10_000, progress=False, **kept)
    assert sorted(history.snapshots) == sorted({*range(0, 10_001, 100), *range(750, 10_000, 750)})
    assert torch.equal(history.snapshots[0], start)
    assert all((history.snapshots[step] == step).all() for step in history.snapshots if step)
    assert history.best_step == 4_500
    assert (model.prompt == 4_500).all()


def test_the_same_seeds_give_the_same_prompt(tokenizer, task):
    """And another seed another order, hence another prompt."""
    prompts = []
    for seed in (1, 1, 2):
        model = make(tokenizer)
        train(model, task, steps=6, seed=seed, progress=False)
        prompts.append(model.prompt.detach())
    assert torch.equal(prompts[0], prompts[1])
    assert not torch.equal(prompts[0], prompts[2])


def test_one_step_is_adamw_on_the_mean_loss(tokenizer, task):
    """Against torch's optimiser on the padded forward, with the same batch."""
    ours, theirs = make(tokenizer), make(tokenizer)
    train(ours, task, steps=1, learning_rate=0.01, progress=False)
    examples = encode_training_rows(task, tokenizer)
    batch = next(batches(examples, 8, 1, seed=0))
    rows = [context + label for context, label in batch]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    labels = ids.masked_fill(mask == 0, -100)
    for number, (context, _) in enumerate(batch):
        labels[number, : len(context)] = -100
    optimizer = torch.optim.AdamW(theirs.prompts.parameters(), lr=0.01, weight_decay=0.0)
    theirs(ids, mask, labels).loss.backward()
    torch.nn.utils.clip_grad_norm_(theirs.prompts.parameters(), 1.0)
    optimizer.step()
    torch.testing.assert_close(ours.prompt, theirs.prompt, rtol=1e-4, atol=1e-5)


def test_a_call_that_runs_out_of_memory_says_which_number_to_lower(tokenizer, task, monkeypatch):
    """And leaves the prompt as it was."""
    model = make(tokenizer)
    before = model.prompt.detach().clone()

    def full(*arguments):
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )

    monkeypatch.setattr(FastEngine, "label_logits", full)
    with pytest.raises(
        LabError, match=r"memory ran out at step 1.*Lower batch_size \(8 now\), max_length \(77\)"
    ):
        train(model, task, steps=1, max_length=77, progress=False)
    assert torch.equal(before, model.prompt)


def test_vectors_are_measured_without_becoming_a_prompt(tokenizer, task):
    """Of other lengths than the model's own, and of none: each as `evaluate` measures it alone."""
    model = make(tokenizer)
    before = model.prompt.detach().clone()
    long = torch.randn(6, before.shape[1], generator=torch.Generator().manual_seed(3))
    found = evaluate(
        model, task, prompts={"own": model.prompt, "long": long, "none": long[:0]}, limit=20
    )
    bare = evaluate(model.base_model, task, limit=20, tokenizer=tokenizer)
    six = PromptTuningConfig(num_virtual_tokens=6)
    behind = evaluate(
        SoftPromptModel(llama(), six, tokenizer=tokenizer, start=long), task, limit=20
    )
    for name, alone in (("own", evaluate(model, task, limit=20)), ("long", behind), ("none", bare)):
        pd.testing.assert_frame_equal(
            found[name].predictions, alone.predictions, rtol=1e-4, atol=1e-5
        )
    assert torch.equal(before, model.prompt)
    assert list(model.prompts) == ["default"]
    text = task.test["text"][0]
    shares = label_probabilities(
        model, task, [text], prompts={"own": model.prompt, "long": long, "none": long[:0]}
    ).droplevel("text")
    expected = label_probabilities(model, task, [text]).loc[text]
    pd.testing.assert_series_equal(shares.loc["own"], expected, check_names=False, rtol=1e-4)
    scores = found["none"].predictions.filter(like="log p(").iloc[0].to_numpy()
    assert shares.loc["none"].to_numpy() == pytest.approx(
        np.exp(scores) / np.exp(scores).sum(), rel=1e-4
    )
    with pytest.raises(ValueError, match=r"'wide' has shape \(2, 3\)"):
        evaluate(model, task, prompts={"wide": torch.zeros(2, 3)})


def test_each_row_can_stand_behind_a_prompt_of_its_own(tokenizer, task):
    """`prompt_names=`, one for each row that is measured."""
    model = make(tokenizer)
    model.add_prompt("other", PromptTuningConfig(num_virtual_tokens=2))
    names = ["default", "other"] * (len(task.validation) // 2 + 1)
    mixed = evaluate(
        model, task, "validation", prompt_names=names[: len(task.validation)]
    ).predictions
    plain = evaluate(model, task, "validation").predictions
    model.set_prompt("other")
    other = evaluate(model, task, "validation").predictions
    for parity, alone in ((0, plain), (1, other)):
        pd.testing.assert_frame_equal(mixed[parity::2], alone[parity::2], rtol=1e-4, atol=1e-5)


def test_every_row_comes_once_before_any_comes_again(tokenizer, task):
    """The order depends on the seed alone."""
    examples = list(range(10))
    order = [row for batch in batches(examples, 4, 5, seed=0) for row in batch]
    assert sorted(order[:10]) == sorted(order[10:]) == examples
    assert order == [row for batch in batches(examples, 4, 5, seed=0) for row in batch]
    assert all(len(batch) == 25 for batch in batches(examples, 25, 3, seed=0))


def test_early_stopping_goes_back_to_the_best_prompt(tokenizer, task, monkeypatch):
    """Patience counts evaluations without a lower loss; the held-out losses are given, the training is real."""
    held_out = iter([5.0, 3.0, 4.0, 3.5, 1.0])
    measured = []

    def scripted(model, task, split, prompts, max_length):
        measured.append(split)
        return {name: SimpleNamespace(loss=next(held_out), accuracy=0.5) for name in prompts}

    monkeypatch.setattr(training, "evaluate", scripted)
    model = make(tokenizer)
    history = train(model, task, steps=40, evaluate_every=2, patience=2, progress=False)
    assert [entry["loss"] for entry in history.evaluations] == [5.0, 3.0, 4.0, 3.5]
    assert set(measured) == {"validation"}
    assert len(history.losses) == 8
    assert history.best_step == 4
    assert torch.equal(model.prompt, history.snapshots[4])
    assert not torch.equal(history.snapshots[4], history.snapshots[8])


def test_more_than_one_process_is_refused(tokenizer, task, monkeypatch):
    """A launcher's variable says how many there are; the message says whose business they are."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LabError, match=r"WORLD_SIZE=2: train works in one process.*Trainer"):
        train(make(tokenizer), task, steps=1, progress=False)


def test_steps_go_on_from_the_state_of_one(tokenizer, task):
    """`training_steps` itself, without a file: the rest of the losses and the prompt, to the last bit."""
    whole, broken = make(tokenizer), make(tokenizer)
    expected = [step.loss for step in training_steps(whole, task, steps=6)]
    steps = training_steps(broken, task, steps=6)
    done = [next(steps), next(steps)]
    tensors, values = done[-1].state()
    state = {key: value.detach().clone() for key, value in tensors.items()}, values
    again = make(tokenizer)
    rest = [step.loss for step in training_steps(again, task, steps=6, state=state)]
    assert [step.loss for step in done] + rest == expected
    assert torch.equal(again.prompt, whole.prompt)


def test_adafactor_trains_too(tokenizer, task):
    """As in the paper: constant rate, no parameter scaling."""
    history = train(make(tokenizer), task, steps=20, optimizer="adafactor", progress=False)
    assert sum(history.losses[-5:]) < sum(history.losses[:5])


def test_a_loss_that_is_not_finite_stops_with_advice(tokenizer, task):
    """And leaves the prompt as it was."""
    model = make(tokenizer)
    model.base_model.model.norm.weight.fill_(float("nan"))
    before = model.prompt.detach().clone()
    with pytest.raises(LabError, match=r"the loss is nan .* at step 1\. Lower learning_rate"):
        train(model, task, steps=3, progress=False)
    assert torch.equal(model.prompt, before)


def test_training_can_be_stopped_from_outside(tokenizer, task):
    """`on_step` sees the history and returns True."""
    history = train(
        make(tokenizer),
        task,
        steps=20,
        progress=False,
        on_step=lambda history: len(history.losses) == 3,
    )
    assert len(history.losses) == history.best_step == 3
    assert 3 in history.snapshots


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"optimizer": "sgd"}, "optimizer='sgd'; choose one of: adamw, adafactor"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"patience": 2}, "patience=2 needs evaluate_every"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tokenizer, task, options, message):
    """With their value."""
    with pytest.raises(ValueError, match=message):
        train(make(tokenizer), task, progress=False, **options)


@pytest.mark.parametrize("base", [llama, gpt2])
def test_rank_classification_equals_a_loop(tokenizer, task, base):
    """Each label appended to each text, alone, on the plain model: log-probabilities, choice, exact match, loss."""
    model = base()
    result = evaluate(model, task, "validation", tokenizer=tokenizer)
    losses = []
    for _, row in result.predictions.iterrows():
        scores = {}
        for label in task.labels:
            context, target = task.encode(tokenizer, row["text"], label)
            with torch.no_grad():
                logits = model(torch.tensor([context + target])).logits[0].log_softmax(dim=-1)
            each = [
                logits[len(context) - 1 + place, token].item() for place, token in enumerate(target)
            ]
            scores[label] = sum(each[:-1])
            if label == row["label"]:
                losses += [-value for value in each]
        for label, score in scores.items():
            assert row[f"log p({label})"] == pytest.approx(score, abs=1e-4)
        assert row["prediction"] == max(scores, key=scores.get)
        assert row["correct"] == (row["prediction"] == row["label"])
    assert result.loss == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    assert result.accuracy == pytest.approx(result.predictions["correct"].mean())
    truth = list(task.validation["text_label"])
    assert result.majority_baseline == pytest.approx(truth.count("good") / len(truth))
    assert result.n == len(truth)


def test_exact_match_asks_the_whole_vocabulary(tokenizer, task):
    """A random model ranks two labels, yet would write neither."""
    result = evaluate(llama(), task, "test", tokenizer=tokenizer, limit=12)
    assert result.n == 12
    assert result.exact_match < result.accuracy
    assert result.confidence_interval[0] <= result.accuracy <= result.confidence_interval[1]


def test_probabilities_of_new_texts_sum_to_one(tokenizer, task):
    """For messages that are in no split."""
    table = label_probabilities(make(tokenizer), task, ["red one two", "blue six six"])
    assert list(table.columns) == list(task.labels)
    assert table.sum(axis=1).tolist() == pytest.approx([1, 1])


def test_the_wilson_interval_is_the_formula():
    """95 %, z = 1.96, at 8 of 10 and at the ends."""
    z, n, p = 1.959964, 10, 0.8
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert wilson_interval(8, 10) == pytest.approx((centre - half, centre + half), abs=1e-5)
    assert wilson_interval(0, 10)[0] == 0


def test_an_unknown_split_and_a_missing_tokenizer_are_refused(tokenizer, task):
    """With what there is."""
    with pytest.raises(ValueError, match="split='dev'; choose one of: train, validation, test"):
        evaluate(make(tokenizer), task, "dev")
    with pytest.raises(ValueError, match="pass tokenizer="):
        evaluate(llama(), task)


def test_texts_that_lose_their_end_are_counted(tokenizer, task):
    """In training and in evaluation, and not where all are whole."""
    long = dataclasses.replace(task, template="one " * 30 + task.template)
    model = make(tokenizer)

    def measure(split, length):
        if split == "train":
            train(model, long, steps=1, max_length=length, progress=False)
        else:
            evaluate(model, long, split, max_length=length)

    for split in ("train", "validation"):
        n = len(task.split(split))
        with pytest.warns(
            UserWarning, match=rf"{n} of {n} texts lose their end: .* max_length=36 tokens"
        ):
            measure(split, 36)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            measure(split, 200)


def test_a_long_input_loses_text_never_the_label(tokenizer, task):
    """The template's end and the label stay whole; a limit below them is an error."""
    text = "one two three " * 50
    context, label = task.encode(tokenizer, text, "good", max_length=20)
    whole, _ = task.encode(tokenizer, text, "good", max_length=10_000)
    assert len(context) + len(label) <= 20
    assert tokenizer.decode(context).endswith("Label :")
    assert label == tokenizer("good")["input_ids"] + [tokenizer.eos_token_id]
    assert context[:10] == whole[:10]
    with pytest.raises(ValueError, match="max_length=5 is too short"):
        task.encode(tokenizer, text, "good", max_length=5)


def test_the_bar_is_full_at_the_end(capsys, tokenizer, task):
    """It stands there before the first step is done, and says how many there were."""
    train(make(tokenizer), task, steps=3, batch_size=2)
    shown = capsys.readouterr().out
    assert shown.lstrip("\r").startswith("training:   0%")
    assert "3/3" in shown.rpartition("\r")[2]
