"""Tasks with free answers: the model writes, and what it wrote is compared with what is right."""

import csv
import json
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from families import llama
from test_cli import run
from test_tokens import TOKENIZERS
from transformers import GenerationConfig

from softprompt_lab import (
    LabError,
    PromptTuningConfig,
    SoftPromptModel,
    Task,
    evaluate,
    evaluation,
    load_base_model,
    load_task,
    train,
)
from softprompt_lab.evaluation import MORE_TOKENS, label_probabilities, same_answer
from softprompt_lab.runs.saved import answer_length, new_model, save_run, saved_run, saved_task
from softprompt_lab.tasks import LABEL_COLUMN

P = 4


def free(base: str = "tiny", rows: int = 40) -> Task:
    """The shop's messages with their labels as free answers, which the model has to write."""
    task = load_task("shop", label_column="topic")
    parts = {split: task.split(split).select(range(rows)) for split in ("validation", "test")}
    return replace(task, labels=(), **parts)


@pytest.fixture(scope="module")
def model() -> SoftPromptModel:
    """The tiny decoder behind a prompt that has learned to write the topics."""
    base_model, tokenizer = load_base_model("tiny")
    torch.manual_seed(0)
    model = SoftPromptModel(base_model, PromptTuningConfig(P), tokenizer=tokenizer)
    train(model, free(), steps=60, progress=False)
    return model


@pytest.mark.parametrize(
    ("written", "answer", "same"),
    [
        ("cold", "cold", True),
        (" cold.", "cold", True),
        ('"cold"', "cold", True),
        ("cold\nwarm -> hot", "cold", True),
        ("New  Delhi", "New Delhi", True),
        ("colder", "cold", False),
        ("the cold", "cold", False),
        ("Cold", "cold", False),
        ("-5", "5", False),
        ("3.5", "35", False),
        ("", "cold", False),
        ("one\ntwo\nthree", "one\ntwo", True),
        ("one\nthree", "one\ntwo", False),
        ("!", "?", False),
        (".5", "5", False),
        ("5!", "5", False),
        ("don't", "don't", True),
        ("e\u0301t\u00e9", "\u00e9t\u00e9", True),
        ("?", "?", True),
    ],
)
def test_answers_are_compared_as_words(written, answer, same):
    """The lines that the answer has, without quotes and end marks around; capitals and signs within count."""
    assert same_answer(written, answer) is same


def test_an_evaluation_equals_a_loop_over_the_rows(model):
    """Each text alone, greedily, until the end token; the right answer's tokens by one forward call."""
    task, tokenizer = free(), model.tokenizer
    found = evaluate(model, task)
    for row in found.predictions.head(12).to_dict("records"):
        context, label = task.encode(tokenizer, row["text"], row["label"])
        ids = torch.tensor([[*context, *label]])
        with torch.no_grad():
            shares = model(ids).logits.log_softmax(dim=-1)[0]
            new = model.generate(torch.tensor([context]), max_new_tokens=12, do_sample=False)
        told = [float(shares[len(context) - 1 + n, token]) for n, token in enumerate(label)]
        assert row["log p(answer)"] == pytest.approx(sum(told[:-1]), abs=1e-4)
        assert row["loss"] == pytest.approx(-sum(told), abs=1e-4)
        assert row["tokens"] == len(label)
        text = tokenizer.decode(new[0, len(context) :], skip_special_tokens=True).strip()
        assert row["prediction"].split("\n")[0] == text.split("\n")[0]
    table = found.predictions
    right = [same_answer(*pair) for pair in zip(table["prediction"], table["label"], strict=True)]
    assert table["correct"].tolist() == right
    assert found.accuracy == found.exact_match == np.mean(right)
    assert found.macro_f1 is None
    assert "macro" not in str(found)
    commonest = pd.Series(task.train[LABEL_COLUMN]).mode()[0]
    assert found.majority_baseline == np.mean(table["label"] == commonest)


def test_a_prompt_learns_to_write(model):
    """What the bare model does not write at all, four vectors make it write; no labels are named."""
    task = free()
    found = evaluate(model, task, prompts={"trained": model.prompt, "bare": model.prompt[:0]})
    assert found["trained"].accuracy > 0.8 > 0.2 > found["bare"].accuracy
    bare = evaluate(model.base_model, task, tokenizer=model.tokenizer)
    assert bare.predictions.equals(found["bare"].predictions)
    named = evaluate(model, task, prompt_names=["default"] * len(task.test))
    assert named.predictions.equals(evaluate(model, task).predictions)


@pytest.mark.parametrize(
    "asked",
    [
        {"repetition_penalty": 3.0},
        {"no_repeat_ngram_size": 2},
        {"min_length": 56},
        {"min_new_tokens": 8},
        {"do_sample": True, "temperature": 5.0},
        {"num_beams": 3, "num_return_sequences": 2},
        {"return_dict_in_generate": True},
        {"suppress_tokens": [1, 2, 3, *range(20, 200)]},
        {"max_length": 3},
    ],
)
def test_answers_do_not_depend_on_how_the_base_model_likes_to_generate(model, asked):
    """They are greedy, as exact match is, and the base model keeps its own configuration."""
    task, base_model = free(), model.base_model
    wanted, own = evaluate(model, task, limit=16).predictions, base_model.generation_config
    base_model.generation_config = GenerationConfig(**own.to_dict() | asked)
    try:
        assert evaluate(model, task, limit=16).predictions.equals(wanted)
        assert {key: getattr(base_model.generation_config, key) for key in asked} == asked
    finally:
        base_model.generation_config = own


def test_answers_end_where_the_base_model_has_no_more_positions(model):
    """What can be trained and scored can be measured: 4 virtual tokens, a text and its answer fill all positions."""
    task, base_model = free(), model.base_model
    longest = max(len(a) + len(b) for a, b in encoded(task, model.tokenizer))
    own = base_model.config.max_position_embeddings
    base_model.config.max_position_embeddings = P + longest
    try:
        assert evaluate(model, task).n == len(task.test)
    finally:
        base_model.config.max_position_embeddings = own


def encoded(task: Task, tokenizer) -> list:
    """Context and answer of each test row."""
    return task.encode_whole(tokenizer, task.test["Tweet text"], task.test[LABEL_COLUMN])


def test_what_a_tokenizer_cannot_write_as_it_stands_is_compared_with_what_it_can(monkeypatch):
    """A tokenizer without capitals, which sets marks apart, has another form of "Good" at best."""
    tokenizer, answers = TOKENIZERS["BERT"](), ["Good", "good, goods", "goods"]
    rows = Dataset.from_dict({"text": ["good"] * 3, LABEL_COLUMN: answers})
    task = Task("own", rows, rows, rows, "text", (), "{text} ")
    base_model = llama()
    base_model.resize_token_embeddings(len(tokenizer))
    model = SoftPromptModel(base_model, PromptTuningConfig(P), tokenizer=tokenizer)
    ids = [ids for _, ids in task.encode_whole(tokenizer, ["good"] * 3, answers)]
    best = tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert best[0] != "Good"
    monkeypatch.setattr(evaluation, "write_answers", lambda *_: [*best[:2], "good"])
    assert evaluate(model, task).predictions["correct"].tolist() == [True, True, False]


def test_an_encoder_decoder_writes_answers():
    """The label is a text of its own there."""
    task = free()
    model = new_model("tiny-seq2seq", task, task_type="SEQ_2_SEQ_LM", virtual_tokens=P)
    train(model, task, steps=60, progress=False)
    assert evaluate(model, task).accuracy > 0.8


def test_labels_cannot_be_compared_where_there_are_none(model):
    """Probabilities of labels, and a start of labels, are refused in words."""
    with pytest.raises(ValueError, match="free answers"):
        label_probabilities(model, free(), ["a text"])
    with pytest.raises(ValueError, match="has free answers and no labels"):
        new_model("tiny", free(), start="class-labels")


def test_a_long_text_leaves_room_for_the_longest_answer(model):
    """Training and evaluation cut a text alike, whatever its own answer is."""
    task = free()
    long = {"Tweet text": ["the monday paper " * 60], LABEL_COLUMN: [task.answers[0]]}
    task = replace(task, test=task.test.from_dict(long))
    contexts = set()
    assert len(task.answers) > 1
    for label in task.answers:
        with pytest.warns(UserWarning, match="1 of 1 texts lose their end"):
            (short,) = task.cut(model.tokenizer, task.test["Tweet text"], 40, stacklevel=1)
        contexts.add(tuple(task.encode(model.tokenizer, short, label, 40)[0]))
    assert len(contexts) == 1
    with pytest.warns(UserWarning, match="lose their end"):
        assert evaluate(model, task, max_length=40).n == 1


def test_an_answer_of_no_token_is_refused(model):
    """Nothing could teach the prompt to write it."""
    task = free().with_template("{text}:")
    rows = {"Tweet text": ["a", "b"], LABEL_COLUMN: ["", "app"]}
    with pytest.raises(ValueError, match="as no token"):
        train(model, replace(task, train=task.train.from_dict(rows)), steps=1, progress=False)


# ---------------------------------------------------------------------------------------------- files and folders


@pytest.fixture(scope="module")
def answers_file(tmp_path_factory):
    """A CSV whose second column is another answer on each row."""
    path = tmp_path_factory.mktemp("answers") / "pairs.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("word", "twice"), *((f"w{n}", f"W{n}-{n}") for n in range(40))]
        )
    return path


def test_a_file_of_free_answers(answers_file):
    """Without the word "answers" it is an error that says the word; with it, splits without strata."""
    columns = {"text_column": "word", "label_column": "twice"}
    with pytest.raises(LabError, match="answers=True"):
        load_task(answers_file, **columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = load_task(answers_file, **columns, answers=True)
    assert task.labels == ()
    assert task.template == "word : {text} Answer : "
    assert [len(task.split(name)) for name in ("train", "validation", "test")] == [24, 6, 10]
    texts = [text for name in ("train", "validation", "test") for text in task.split(name)["word"]]
    assert sorted(texts) == sorted(f"w{n}" for n in range(40))
    assert all(row[LABEL_COLUMN][1:].startswith(row["word"][1:]) for row in task.train)


def test_few_rows_of_free_answers_are_refused(tmp_path):
    """Three splits of them would say nothing."""
    path = tmp_path / "few.csv"
    path.write_text("text,label\n" + "".join(f"a{n},b{n}\n" for n in range(19)))
    with pytest.raises(LabError, match="19 rows; at least 20"):
        load_task(path, answers=True)


def test_free_answers_are_of_files():
    """A task that has a name says itself what its answers are."""
    with pytest.raises(ValueError, match="answers= are for files"):
        load_task("shop", answers=True)


def test_the_command_line_trains_and_answers(answers_file, tmp_path):
    """`--answers`, then `generate` from the folder: no labels, no probabilities."""
    folder = tmp_path / "prompt"
    options = ("--data", answers_file, "--text-column", "word", "--label-column", "twice")
    options += ("--base", "tiny", "--steps", 2, "--virtual-tokens", P, "--output", folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tiny model does not know these words
        done = run("train", *options, "--answers")
    assert done.exit_code == 0, done.output
    assert "free answers" in done.stdout
    assert "exact match" in done.stdout
    record = json.loads((folder / "task.json").read_text())
    assert record["labels"] == []
    assert record["trained"]["macro_f1"] is None
    assert saved_task(folder).labels == ()
    answered = json.loads(run("generate", folder, "w1", "--json").stdout)
    assert [set(row) for row in answered] == [{"text", "answer", "probabilities"}]
    assert answered[0]["probabilities"] == {}
    longest = max(len(ids) for _, ids in encoded_words(answers_file))
    assert record["longest_answer"] == longest
    assert answer_length(folder) == longest + MORE_TOKENS


def encoded_words(path) -> list:
    """Context and answer of each row of the file."""
    _, tokenizer = load_base_model("tiny")
    task = load_task(path, text_column="word", label_column="twice", answers=True)
    return task.encode_whole(tokenizer, [""] * len(task.answers), task.answers)


def test_answers_that_look_like_labels_are_named(tmp_path):
    """Two words on forty rows are trained as asked, with a warning."""
    path = tmp_path / "two.csv"
    path.write_text(
        "text,label\n" + "".join(f"a{n},{'yes' if n % 2 else 'no'}\n" for n in range(40))
    )
    with pytest.warns(UserWarning, match="2 different answers, each on 20 rows or more"):
        assert load_task(path, answers=True).labels == ()


def test_a_run_is_saved_and_read_back(model, tmp_path):
    """The figures of a written evaluation are plain JSON."""
    task = free()
    history = train(model, task, steps=1, progress=False)
    found = evaluate(model, task)
    record = save_run(tmp_path, model, task, history, found, found)
    assert record["trained"]["accuracy"] == found.accuracy
    assert saved_run(tmp_path, model.base_model, model.tokenizer).task.labels == ()
