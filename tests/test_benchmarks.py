"""The long measurements: what a table says follows from its lines, and a run that was stopped goes on."""

import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from scipy.stats import binomtest
from typer.testing import CliRunner

from softprompt_lab import (
    LabError,
    PromptTuningConfig,
    SoftPromptModel,
    Task,
    evaluate,
    load_base_model,
    load_task,
)

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import starts
import sweep
import tasks


@pytest.fixture(scope="module")
def tiny():
    return load_base_model("tiny")


@pytest.fixture(scope="module")
def model(tiny) -> SoftPromptModel:
    return SoftPromptModel(tiny[0], PromptTuningConfig(1), tokenizer=tiny[1])


# ---------------------------------------------------------------------------------------------- paired differences


@pytest.mark.parametrize(
    ("written", "answer", "begins"),
    [
        ("cold, and so on", "cold", True),
        ('"Cold".', "Cold", True),
        ("colder", "cold", False),
        ("New Delhi is", "New Delhi", True),
        ("New", "New Delhi", False),
        ("", "cold", False),
        ("St. George's", "St. George's", True),
    ],
)
def test_an_answer_of_the_bare_model_may_go_on(written, answer, begins):
    """The first words count, without the marks around them."""
    assert tasks.begins_with(written, answer) is begins


def test_the_paired_interval_is_that_of_a_loop():
    """Rows drawn again and again, with repeats, by hand; the tail of the sums with signs exchanged."""
    shuffler = random.Random(1)
    one = np.array([shuffler.choice([1, 1, 2 / 3, 0]) for _ in range(60)])
    other = np.array([shuffler.choice([1.0, 0.0]) for _ in range(60)])
    difference = [a - b for a, b in zip(one, other, strict=True)]
    means, extreme = [], 0
    for _ in range(4000):
        drawn = [shuffler.choice(difference) for _ in difference]
        means.append(sum(drawn) / len(drawn))
        exchanged = sum(shuffler.choice([-1, 1]) * value for value in difference)
        extreme += abs(exchanged) >= abs(sum(difference)) - 1e-9
    means.sort()
    mean, low, high, p = tasks.paired(one, other)
    assert mean == pytest.approx(sum(difference) / 60)
    assert (low, high) == pytest.approx((means[100], means[-101]), abs=0.015)
    assert p == pytest.approx(extreme / 4000, abs=0.03)


def test_p_of_one_seed_is_mcnemars():
    """12 rows of which eight differ, seven of them one way: all exchanges are counted."""
    one, other = np.array([1.0] * 7 + [0, 1, 1, 0, 0]), np.array([0.0] * 7 + [1, 1, 1, 0, 0])
    assert tasks.paired(one, other)[3] == pytest.approx(binomtest(7, 8).pvalue)
    assert tasks.paired(one, one) == (0, 0, 0, 1)


def test_which_rows_were_right_is_kept_in_few_characters():
    right = np.random.default_rng(0).random(413) < 0.7
    digits = tasks.packed(right)
    assert len(digits) == 2 * 52
    assert (tasks.unpacked(digits, 413) == right).all()


# ----------------------------------------------------------------------------------------------- examples in front


def test_examples_as_vectors_are_the_examples_as_text(model, tiny):
    """Invariant 1: the same accuracy, exact match and loss as the text written in front of every row."""
    task = load_task("shop")
    front = tasks.text_of_examples(task, tasks.drawn_examples(task, 3, seed=0))
    assert front.count("\n") == 3
    assert front.endswith("\n")
    vectors = tasks.as_vectors(model, task, front)
    few = {"limit": 12, "max_length": 250}
    behind = evaluate(model, task, prompts={"examples": vectors}, **few)["examples"]
    written = task.with_template(front + task.template)
    plain = evaluate(tiny[0], written, tokenizer=tiny[1], **few)
    assert behind.loss == pytest.approx(plain.loss, abs=1e-4)
    scores = [column for column in plain.predictions if column.startswith("log p")]
    np.testing.assert_allclose(behind.predictions[scores], plain.predictions[scores], atol=1e-3)


def test_tokens_across_the_seam_are_refused(model):
    """ " I" is one token: a space at the end of the examples would be read with the text."""
    rows = Dataset.from_dict({"text": ["I am here"], "text_label": ["yes"]})
    task = Task("own", rows, rows, rows, "text", ("no", "yes"), "{text} Label : ")
    assert len(tasks.as_vectors(model, task, "yes\n")) == 4
    with pytest.raises(ValueError, match="own: the tokens at the end of 'yes ' are not its own"):
        tasks.as_vectors(model, task, "yes ")


def test_examples_are_drawn_in_equal_shares_and_in_another_order_by_each_seed():
    task = load_task("shop")
    drawn = [tasks.drawn_examples(task, 8, seed) for seed in range(4)]
    for examples in drawn:
        assert Counter(label for _, label in examples) == dict.fromkeys(task.labels, 4)
        assert len({text for text, _ in examples}) == 8
    assert len({tuple(examples) for examples in drawn}) == 4
    orders = {tuple(label for _, label in examples) for examples in drawn}
    assert len(orders) > 1, "not sorted by label"
    assert len(tasks.drawn_examples(task, 3, 0)) == 3


# ------------------------------------------------------------------------------------------------------ the report


def made_up(name: str, kind: str, detail: str, right: list[int], **more) -> dict:
    """A line as the program writes it."""
    return {
        "task": name,
        "kind": kind,
        "detail": detail,
        "n": len(right),
        "loss": 0.5,
        "accuracy": np.mean(right),
        "low": 0.1,
        "high": 0.9,
        "macro F1": None,
        "exact": 0.25,
        "tokens": 7,
        "base": "tiny",
        "dtype": "float32",
        "right": tasks.packed(right),
        **more,
    }


@pytest.fixture
def table(tmp_path) -> pd.DataFrame:
    """Two tasks of 8 rows, one of them with a human ceiling, through the file as the program writes it."""
    rows, best = [], [1, 1, 1, 1, 0, 0, 0, 0]
    for name in ("words/antonym", "tweets"):
        better = {"validation": 0.75, "validation loss": 0.4}
        rows += [
            made_up(name, "wording", "A | {text}\nB: ", best, **better),
            made_up(name, "wording", "{text}: ", [1] * 8, validation=0.5, **{"validation loss": 1}),
        ]
        for seed in range(3):
            draw = {"seed": seed, "validation": 0.6, "validation loss": 0.4}
            rows.append(made_up(name, "4 examples", tasks.OWN, best[::-1], **draw))
            trained = [1] * 6 + [0, int(seed == 0)]
            rows.append(made_up(name, "trained", "text", trained, seed=seed, seconds=20))
        rows.append(made_up(name, "untrained start", "text", [0] * 8, seed=0))
        rows.append(made_up(name, "majority", "positive", best))
    rows.append({"task": "tweets", "kind": "human rater", "detail": "", "n": 8, "accuracy": 0.956})
    rows[-1] |= {"base": "tiny", "dtype": "float32"}
    tasks.write_down(tmp_path / "tasks.csv", tasks.COLUMNS, rows)
    return pd.read_csv(tmp_path / "tasks.csv", dtype={"right": str})


def test_the_report_says_what_the_lines_say(table):
    text = tasks.text_of(table)
    (line, *_) = [line for line in text.splitlines() if line.startswith("| tweets |")]
    cells = [cell.strip() for cell in line.split("|")[2:]]
    assert cells[:4] == ["8", "0.500", "0.750 (0.500 to 1.000)", "0.500"], "chosen on validation"
    assert cells[4] == "0.500 (4 examples)"
    assert cells[6:8] == ["0.792 (0.750 to 0.875)", "0.956"]
    # Rows 5 and 6 count 1 each, row 8 one third: 7/3 of 8 rows more than the best wording.
    difference = next(line for line in text.splitlines() if line.startswith("| tweets | +"))
    assert difference.split("|")[2].strip() == "+29.2"
    assert r"`A \| {text}⏎B: `" in difference
    assert text.index("## Rated texts") < text.index("## Word skills"), "the course's order"
    assert "nan" not in text


@pytest.mark.parametrize("name", tasks.TABLES)
def test_the_chapters_tables_are_those_of_the_measurement(name):
    """Written by `report`; committed, so that a chapter can show what takes long."""
    measured = pd.read_csv(tasks.FOLDER / "tasks.csv", dtype={"right": str})
    shown = pd.read_csv(tasks.NOTEBOOK_TABLES / tasks.TABLES[name])
    expected = measured[measured["task"] == name].reset_index(drop=True)
    assert len(shown) > 20
    pd.testing.assert_frame_equal(shown, expected[list(shown)], check_dtype=False)


def test_a_task_without_wordings_is_named_before_anything_is_measured(tmp_path):
    (tmp_path / "wordings_words.toml").write_text('[antonym]\nwordings = ["{text} is not "]\n')
    assert tasks.read_wordings(tmp_path) == {"words/antonym": ["{text} is not "]}
    given = ["run", "--base", "tiny", "--tasks", "shop"]
    given += ["--output", str(tmp_path), "--wordings", str(tmp_path)]
    done = CliRunner().invoke(tasks.app, given)
    assert done.exit_code == 1
    assert "no wordings" in done.output
    assert "shop" in done.output


def test_the_figure_has_a_line_for_each_task_and_says_its_numbers(table):
    found = tasks.figure_of(tasks.in_order(table))
    assert "tweets: best wording 50%, trained 79%" in found.alt
    (ax,) = found.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["tweets", "antonym"]
    labels = ax.get_legend_handles_labels()[1]
    assert set(labels) >= {"one human rater", "majority of these rows", "trained, three seeds"}
    without = tasks.figure_of({"words/antonym": table[table["task"] == "words/antonym"]})
    assert "one human rater" not in without.axes[0].get_legend_handles_labels()[1]
    assert found.png().startswith(b"\x89PNG")


# ------------------------------------------------------------------------------------------------------- the sweep


def test_the_parts_are_all_runs_once_and_the_centre_comes_first():
    names = ["shop", "complaints", "words/a"]
    whole = [*sweep.plan(names, "1/1", quick=False)]
    parts = [run for k in (1, 2) for run in sweep.plan(names, f"{k}/2", quick=False)]
    assert Counter(whole) == Counter(parts)
    assert len(set(whole)) == len(whole) == 3 * len(sweep.ARMS) * 3
    assert {run[1] for run in whole[:9]} == {sweep.CENTRE}
    for arm in sweep.ARMS[1:]:
        assert sum(a != b for a, b in zip(arm, sweep.CENTRE, strict=True)) == 1


def test_a_sweep_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    """A run whose loss is not finite is written down and not tried again."""

    def train(*args, learning_rate, **kwargs):
        if learning_rate == 0.3:
            raise LabError("the loss is nan at step 7. Lower it.")

    monkeypatch.setattr(sweep, "train", train)
    monkeypatch.setattr(sweep, "ARMS", (sweep.CENTRE, sweep.Arm(rate=0.3), sweep.Arm(P=4)))
    given = ["--base", "tiny", "--dtype", "float32", "--tasks", "shop", "--quick"]
    given += ["--output", str(tmp_path)]
    first = CliRunner().invoke(sweep.app, ["run", *given, "--part", "1/2"])
    assert "2 of 2: shop, P 4" in first.output, first.output
    second = CliRunner().invoke(sweep.app, ["run", *given])
    assert "1 of 1: shop, rate 0.3, seed 0: the loss is nan at step 7" in second.output, (
        second.output
    )
    assert CliRunner().invoke(sweep.app, ["run", *given]).output == ""
    table = pd.read_csv(tmp_path / "sweep.csv")
    assert table["P"].tolist() == [8, 4, 8]
    assert table["stopped"].fillna("").tolist() == ["", "", "the loss is nan at step 7"]
    assert table["accuracy"].isna().tolist() == [False, False, True]
    other = CliRunner().invoke(sweep.app, ["run", *given, "--dtype", "bfloat16"])
    assert "has runs with dtype float32, not bfloat16" in other.output
    CliRunner().invoke(sweep.app, ["report", "--output", str(tmp_path)])
    assert "1 runs stopped" in (tmp_path / "sweep.md").read_text()


def test_the_arms_are_compared_by_groups_that_weigh_the_same(monkeypatch):
    """Two rated tasks, one word skill: by hand."""
    rated = {"tweets": 0.9, "films": 0.7}
    centre = rated | {"words/past": 0.4, "complaints": 0.6}
    rows = [
        {"task": task, "accuracy": share, **sweep.CENTRE._asdict()}
        for task, share in centre.items()
    ]
    higher = sweep.Arm(rate=0.1)._asdict()
    rows += [{"task": task, "accuracy": share + 0.05, **higher} for task, share in centre.items()]
    rows[-1]["accuracy"] = np.nan  # a run that stopped
    same = {"seed": 0, "loss": 1.0, "n": 20, "majority": 0.5, "seconds": 1.0}
    table = pd.DataFrame(rows).assign(**same, dtype="float32", base="tiny")
    table["stopped"] = [None] * 7 + ["the loss is nan"]
    accuracy, _ = sweep.means(table)
    groups = sweep.by_group(accuracy)
    assert groups.loc["centre", "mean of groups"] == pytest.approx((0.8 + 0.4 + 0.6) / 3)
    assert groups.loc["rate 0.1", "mean of groups"] == pytest.approx((0.85 + 0.45 + 0) / 3)
    behind = sweep.beside_the_best(accuracy, pd.Series(0.5, index=accuracy.index))
    assert behind.loc["tweets", "best arm"] == "rate 0.1"
    assert behind.loc["complaints", "centre behind it, points"] == 0
    text = sweep.text_of(table)
    assert "Best on the mean over the groups: **centre** (0.600" in text
    assert f"{len(centre) * (len(sweep.ARMS) - 2)} runs are missing" in text


def test_a_file_that_the_sweep_has_not_seen(tmp_path):
    """The program runs, and its lines compare the means over the seeds."""
    given = ["unseen", "--base", "tiny", "--dtype", "float32", "--quick", "--output", str(tmp_path)]
    done = CliRunner().invoke(sweep.app, given)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "sweep_unseen.csv")
    assert Counter(table["kind"]) == {"default": 6, "tuned by hand": 6}
    assert set(table["n"]) == {16}
    table["accuracy"] = [0.5, 0.6, 0.7, 0.6, 0.6, 0.75] * 2
    (line,) = (line for line in sweep.unseen_lines(table) if line.startswith("| tone"))
    assert "| 0.600 | 0.650 |" in line
    assert line.endswith("| 5.000 |")


# ------------------------------------------------------------------------------------------------------------- starts


def test_the_table_of_starts_has_every_run_of_its_seeds_once():
    """Chapter 03 takes means over it."""
    table = pd.read_csv(starts.TABLE)
    runs = [*table[starts.KEY].itertuples(index=False, name=None)]
    wanted = {
        (task, *arm, seed) for task in starts.TASKS for arm in starts.ARMS for seed in starts.SEEDS
    }
    wanted |= {(starts.TASKS[0], *arm, seed) for arm in starts.CONTROLS for seed in starts.SEEDS}
    assert len(runs) == len(wanted)
    assert set(runs) == wanted
    assert set(table["n"]) == {80}
    assert table["right"].between(0, 80).all()


def test_a_start_at_the_words_scale_has_the_directions_of_random(tiny):
    """And both begin again from their seed."""
    model, tokenizer = tiny
    task = load_task("words/past")
    long, short, again = (
        starts.start_of(name, model, tokenizer, task, 1)
        for name in (starts.RANDOM, starts.SCALED, starts.SCALED)
    )
    assert torch.cosine_similarity(long, short).min() > 0.9999
    assert torch.equal(short, again)
    words = model.get_input_embeddings().weight
    assert short.square().mean().sqrt() == pytest.approx(
        words.square().mean().sqrt().item(), rel=0.2
    )
