"""The zoo: every prompt opens here and in PEFT, and its figures are what its README.md says."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import PeftConfig
from peft.utils import load_peft_weights
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from softprompt_lab import SoftPromptModel, load_adapter, load_base_model, load_task, train
from softprompt_lab.cli import commands as cli
from softprompt_lab.errors import AdapterError, LabError
from softprompt_lab.evaluation import evaluate, wilson_interval
from softprompt_lab.runs import saved as runs
from softprompt_lab.runs import zoo
from softprompt_lab.training import TrainingHistory

sys.path.append(str(Path(__file__).parents[1] / "tools"))
import build_zoo

NAMES = zoo.names()
MOST_KILOBYTES = 1500
EXPECTED = {entry.name: entry for entry in build_zoo.ENTRIES}


def record(name: str) -> dict:
    return json.loads((zoo.FOLDER / name / "task.json").read_text(encoding="utf-8"))


FREE = [name for name in NAMES if not {"words", "towards"} & set(record(name))]


def test_the_zoo_is_small_and_its_readme_names_every_prompt():
    assert len(NAMES) - len(FREE) == 5, "one made of words, four drawn towards a text"
    size = sum(path.stat().st_size for path in zoo.FOLDER.rglob("*") if path.is_file())
    assert size < MOST_KILOBYTES * 1000
    assert set(_lines()) == set(NAMES)
    assert not list(zoo.FOLDER.rglob("predictions.csv")), "they hold the texts"


def test_the_zoo_is_what_the_program_makes():
    """Names, data, starts and settings; eight word skills, three seeds of one task."""
    assert set(NAMES) == set(EXPECTED)
    assert sum(name.startswith("words-") for name in NAMES) == 8
    for name, entry in EXPECTED.items():
        found = record(name)
        assert (found["data"], found["start"]) == (entry.data, entry.start)
        settings = build_zoo.settings_of(entry, build_zoo.STEPS)
        settings = {key: value for key, value in settings.items() if not callable(value)}
        assert settings.items() <= found["settings"].items()
        assert found["dtype"] == "float32"
        rated = entry.data in ("tweets", "reviews", "films", "editorials")
        assert found["trained"]["n"] >= (400 if rated else 40)
        assert ("human_ceiling" in found) == rated


def test_the_program_makes_a_prompt_once_and_keeps_no_text(tmp_path):
    """A trial on tiny."""
    given = ["train", "--only", "complaint-seed0", "--base", "tiny", "--steps", "4"]
    given += ["--output", str(tmp_path)]
    first = CliRunner().invoke(build_zoo.app, given)
    assert "complaint-seed0: accuracy" in first.output, first.output
    texts = load_task("complaints").test["Tweet text"]
    for path in (tmp_path / "complaint-seed0").iterdir():
        assert not any(text.encode() in path.read_bytes() for text in texts)
    assert list(runs.saved_snapshots(tmp_path / "complaint-seed0", (8, 128))) == [0, 1, 2, 3, 4]
    found = runs.saved_run(tmp_path / "complaint-seed0")
    assert len(found.task.test) == 400, "the folder names its rows"
    assert (
        "| `complaint-seed0` | complaints | text, seed 0 | 16 |"
        in (tmp_path / "README.md").read_text()
    )
    assert "there already" in CliRunner().invoke(build_zoo.app, given).output


@pytest.mark.parametrize("name", NAMES)
def test_the_figures_of_the_readme_are_those_of_the_folder(name):
    found, line = record(name), _lines()[name]
    trained, untrained = found["trained"], found["untrained"]
    assert line["task"] == found["name"]
    assert line["start, seed"] == f"{found['start']}, seed {found['settings']['seed']}"
    numbers = {
        "majority": found["majority_baseline"],
        "start's accuracy": untrained["accuracy"],
        "accuracy": trained["accuracy"],
        "macro-F1": trained["macro_f1"],
        "human rater": found.get("human_ceiling"),
    }
    for column, number in numbers.items():
        assert line.get(column, "") == ("" if number is None else f"{number:.3f}")
    assert line["start's loss"] == f"{untrained['loss']:.2f}"
    assert line["loss"] == f"{trained['loss']:.2f}"
    assert trained["n"] == untrained["n"]
    low, high = wilson_interval(round(trained["accuracy"] * trained["n"]), trained["n"])
    assert line["95 % interval"] == f"{low:.3f} to {high:.3f}"
    card = (zoo.folder(name) / "README.md").read_text(encoding="utf-8")
    assert f"{trained['accuracy']:.3f}" in card


def _lines() -> dict[str, dict[str, str]]:
    """The README's table: a prompt's name -> column -> cell."""
    text = (zoo.FOLDER / "README.md").read_text(encoding="utf-8")
    cells = [line.strip("|\n").split("|") for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line] for line in cells]
    (head,) = [line for line in cells if line[0] == "prompt"]
    rows = [line for line in cells if line[0].startswith("`")]
    return {line[0].strip("`"): dict(zip(head, line, strict=True)) for line in rows}


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_opens_here_and_in_peft(name):
    folder, found = zoo.folder(name), record(name)
    config, prompt = load_adapter(folder)
    assert prompt.dtype == torch.float32
    theirs = PeftConfig.from_pretrained(str(folder))
    assert theirs.num_virtual_tokens == len(prompt)
    assert theirs.base_model_name_or_path == config.base_model_name_or_path == "smollm2"
    assert torch.equal(load_peft_weights(str(folder), device="cpu")["prompt_embeddings"], prompt)
    labels = ("negative", "positive")
    if found["data"] == "complaints" or found["data"].startswith(
        "words/"
    ):  # the others are fetched
        labels = load_task(found["data"], label_column=found["label_column"]).labels
    assert runs.saved_task(folder).labels == labels
    snapshots, history = runs.saved_snapshots(folder, prompt.shape), runs.saved_history(folder)
    assert min(snapshots) == 0
    assert max(snapshots) == history["step"].iloc[-1]
    assert {tensor.dtype for tensor in load_file(folder / "snapshots.safetensors").values()} == {
        torch.float16
    }
    assert history["step"].tolist() == list(range(1, len(history) + 1))


@pytest.mark.parametrize("name", FREE)
def test_a_prompt_moved_and_learned(name):
    _, prompt = load_adapter(zoo.folder(name))
    snapshots = runs.saved_snapshots(zoo.folder(name), prompt.shape)
    settings = record(name)["settings"]
    every, last = settings["snapshot_every"], settings["steps"]
    assert list(snapshots) == list(range(0, last + 1, every))
    torch.testing.assert_close(snapshots[last], prompt, atol=2e-3, rtol=1e-3)  # float16
    assert (snapshots[0] - prompt).norm() > 1, "training moved it"
    history = runs.saved_history(zoo.folder(name))
    assert history["loss"].iloc[-10:].mean() < history["loss"].iloc[:3].mean()


def test_a_name_that_is_not_there_and_the_command_line():
    with pytest.raises(LabError, match=r"no prompt 'x'; choose one of: complaint-seed0"):
        zoo.load("x")
    with pytest.raises(LabError):
        zoo.folder("..")
    result = CliRunner().invoke(cli.app, ["read", "zoo:x"])
    assert result.exit_code == 1
    assert "no prompt 'x'; choose one of: complaint-seed0" in result.stderr
    assert zoo.located(f"zoo:{NAMES[0]}") == zoo.FOLDER / NAMES[0]
    assert zoo.located("some/folder") == Path("some/folder")


# ----------------------------------------------------------------------------------------------- a run read back


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory) -> tuple[Path, SoftPromptModel, TrainingHistory]:
    """Four steps on tiny, saved as the zoo is."""
    task = load_task("shop", label_column="tone")
    model = runs.new_model("tiny", task, virtual_tokens=4)
    measured = evaluate(model, task, limit=4)
    history = train(model, task, steps=4, snapshot_every=2, progress=False)
    folder = tmp_path_factory.mktemp("runs") / "tone"
    record = {"data": "shop", "label_column": "tone", "start": "text"}
    runs.save_run(folder, model, task, history, measured, measured, **record)
    return folder, model, history


@pytest.fixture
def copy(tiny_run, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_run[0], tmp_path / "tone"))


def test_a_run_is_read_back_with_its_rows_its_start_and_its_way(tiny_run):
    folder, model, history = tiny_run
    assert len(pd.read_csv(folder / "predictions.csv")) == 4
    found = runs.saved_run(folder, model.base_model, model.tokenizer)
    assert found.name == "tone"
    assert found.model.base_model is model.base_model
    assert torch.equal(found.model.prompt, model.prompt), "the adapter is exact"
    assert found.task.test[:3] == load_task("shop", label_column="tone").test[:3]
    assert list(found.snapshots) == [0, 2, 4]
    for step, snapshot in found.snapshots.items():
        assert torch.equal(snapshot, history.snapshots[step].half().float())
    assert torch.equal(found.start, found.snapshots[0])
    pd.testing.assert_frame_equal(found.history, history.to_pandas(), check_dtype=False)
    assert found.record["settings"]["steps"] == 4
    again = runs.saved_run(folder)
    assert again.model.base_model.name_or_path == "tiny"


def test_several_prompts_stand_beside_each_other_on_one_base(tiny_run, copy):
    folder, model, _ = tiny_run
    beside = runs.saved_run(folder, model.base_model, model.tokenizer).model
    beside.load_prompt(copy, "second")
    assert torch.equal(beside.prompt_by_name("second"), beside.prompt)


FOREIGN = ({"data": "/etc/passwd.csv"}, {"data": "shop", "label_column": 3}, {"labels": ["x"]})


@pytest.mark.parametrize("record", FOREIGN)
def test_a_folder_names_no_file_to_open(tiny_run, copy, record):
    path = copy / "task.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | record))
    _, model, _ = tiny_run
    found = runs.saved_run(copy, model.base_model, model.tokenizer)
    assert len(found.task.test) == 0


DAMAGE = {
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:60]), "is damaged"),
    "no step": (lambda path: save_file({"last": torch.zeros(4, 128)}, path), "snapshot last is"),
    "other shape": (lambda path: save_file({"0": torch.zeros(3, 128)}, path), "snapshot 0 is"),
    "whole numbers": (lambda path: save_file({"0": torch.zeros(4, 128).int()}, path), "int32"),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damaged_snapshots_are_named(tiny_run, copy, damage):
    change, message = DAMAGE[damage]
    change(copy / "snapshots.safetensors")
    with pytest.raises(AdapterError, match=message):
        runs.saved_snapshots(copy, tiny_run[1].prompt.shape)


@pytest.mark.parametrize(
    "content", ["", "step,loss\n1,2\n", "step,loss,validation_loss,validation_accuracy\nx,y,,\n"]
)
def test_a_damaged_history_is_named_and_a_missing_one_is_none(copy, content):
    (copy / "history.csv").write_text(content)
    with pytest.raises(AdapterError, match=r"history\.csv is damaged"):
        runs.saved_history(copy)
    (copy / "history.csv").unlink()
    (copy / "snapshots.safetensors").unlink()
    assert runs.saved_history(copy) is None
    assert runs.saved_snapshots(copy, (4, 128)) == {}


# ------------------------------------------------------------------------------------------------ the real model


@pytest.mark.slow
@pytest.mark.smollm2
def test_a_prompt_measures_again_about_what_its_folder_says():
    found = zoo.load("complaint-seed0")
    measured = evaluate(found.model, found.task, limit=80)
    start = evaluate(found.model, found.task, prompts={"start": found.start}, limit=80)["start"]
    said = found.record
    low, high = wilson_interval(round(said["trained"]["accuracy"] * 80), 80)
    assert low < measured.accuracy < high
    assert abs(measured.loss - said["trained"]["loss"]) < 0.3
    assert abs(start.loss - said["untrained"]["loss"]) < 0.7
    beside = zoo.load(NAMES[-1], found.model.base_model, found.model.tokenizer)
    assert beside.model.base_model is found.model.base_model
    assert len(found.task.test) == 400


@pytest.mark.smollm2
def test_the_starts_in_words_fill_the_prompt():
    """A text start has a token for each virtual token, so that nothing is there twice; of texts, all of it is."""
    _, tokenizer = load_base_model("smollm2")
    for entry in EXPECTED.values():
        if entry.start == "text":
            tokens = len(tokenizer(entry.text or load_task(entry.data).instruction)["input_ids"])
            words = entry.data.startswith("words/")
            assert tokens > entry.length if words else tokens == entry.length
    assert len(tokenizer(build_zoo.WAYWARD_TEXT)["input_ids"]) == build_zoo.LENGTH
