"""The zoo: every prompt opens here and in PEFT, and its figures are what its README.md says."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import PeftConfig
from peft.utils import load_peft_weights
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from softprompt_lab import SoftPromptModel, load_adapter, load_task, train
from softprompt_lab.cli import commands as cli
from softprompt_lab.errors import AdapterError, LabError
from softprompt_lab.evaluation import evaluate, wilson_interval
from softprompt_lab.runs import saved as runs
from softprompt_lab.runs import zoo
from softprompt_lab.training import TrainingHistory

NAMES = zoo.names()
MOST_KILOBYTES = 900
TASKS = {"complaint": "text_label", "tone": "tone", "topic": "topic"}


def record(name: str) -> dict:
    return json.loads((zoo.FOLDER / name / "task.json").read_text(encoding="utf-8"))


FREE = [name for name in NAMES if not {"words", "towards"} & set(record(name))]


def test_there_are_several_seeds_of_several_tasks_and_they_are_small():
    for task in TASKS:
        assert sum(name.startswith(f"{task}-") for name in NAMES) >= 2
    assert any(record(name)["start"] != "text" for name in NAMES)
    assert len(NAMES) - len(FREE) == 5, "one made of words, four drawn towards a text"
    size = sum(path.stat().st_size for path in zoo.FOLDER.rglob("*") if path.is_file())
    assert size < MOST_KILOBYTES * 1000
    table = (zoo.FOLDER / "README.md").read_text(encoding="utf-8")
    assert [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_figures_of_the_readme_are_those_of_the_folder(name):
    found = record(name)
    (line,) = [line for line in _readme().splitlines() if line.startswith(f"| `{name}` |")]
    _, task, start, majority, before, after, interval, f1, loss_before, loss_after = (
        cell.strip() for cell in line.strip("|").split("|")
    )
    assert task == found["name"]
    assert start == f"{found['start']}, seed {found['settings']['seed']}"
    trained, untrained = found["trained"], found["untrained"]
    assert (majority, before, after) == tuple(
        f"{number:.3f}"
        for number in (found["majority_baseline"], untrained["accuracy"], trained["accuracy"])
    )
    assert f1 == f"{trained['macro_f1']:.3f}"
    assert (loss_before, loss_after) == (f"{untrained['loss']:.2f}", f"{trained['loss']:.2f}")
    assert trained["n"] == untrained["n"] == 400
    low, high = wilson_interval(round(trained["accuracy"] * 400), 400)
    assert interval == f"{low:.3f} to {high:.3f}"
    card = (zoo.folder(name) / "README.md").read_text(encoding="utf-8")
    assert f"{trained['accuracy']:.3f}" in card


def _readme() -> str:
    return (zoo.FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_settings_were_chosen_on_the_validation_split():
    pilot = pd.read_csv(zoo.FOLDER / "pilot.csv")
    last = pilot[pilot["step"] == pilot["steps"]]
    best = last.loc[last["loss"].idxmin()]
    assert best["accuracy"] == last["accuracy"].max()
    for name in NAMES:
        settings = record(name)["settings"]
        assert (settings["steps"], settings["learning_rate"]) == (
            best["steps"],
            best["learning_rate"],
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_opens_here_and_in_peft(name):
    folder = zoo.folder(name)
    config, prompt = load_adapter(folder)
    assert prompt.dtype == torch.float32
    theirs = PeftConfig.from_pretrained(str(folder))
    assert theirs.num_virtual_tokens == len(prompt) == 8
    assert theirs.base_model_name_or_path == config.base_model_name_or_path == "smollm2"
    assert torch.equal(load_peft_weights(str(folder), device="cpu")["prompt_embeddings"], prompt)
    assert (
        runs.saved_task(folder).labels
        == load_task("complaints", label_column=TASKS[name.split("-")[0]]).labels
    )
    snapshots = runs.saved_snapshots(folder, prompt.shape)
    assert {0, 100} <= set(snapshots)
    assert {tensor.dtype for tensor in load_file(folder / "snapshots.safetensors").values()} == {
        torch.float16
    }
    history = runs.saved_history(folder)
    assert history["step"].tolist() == list(range(1, 101))


@pytest.mark.parametrize("name", FREE)
def test_a_prompt_moved_and_learned(name):
    _, prompt = load_adapter(zoo.folder(name))
    snapshots = runs.saved_snapshots(zoo.folder(name), prompt.shape)
    assert list(snapshots) == [0, 25, 50, 75, 100]
    torch.testing.assert_close(snapshots[100], prompt, atol=2e-3, rtol=1e-3)  # float16
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
    found = zoo.load("tone-seed0")
    measured = evaluate(found.model, found.task, limit=80)
    start = evaluate(found.model, found.task, prompts={"start": found.start}, limit=80)["start"]
    said = found.record
    low, high = wilson_interval(round(said["trained"]["accuracy"] * 80), 80)
    assert low < measured.accuracy < high
    assert abs(measured.loss - said["trained"]["loss"]) < 0.3
    assert abs(start.loss - said["untrained"]["loss"]) < 0.7
    beside = zoo.load("complaint-seed0", found.model.base_model, found.model.tokenizer)
    assert len(beside.task.test) == 400
