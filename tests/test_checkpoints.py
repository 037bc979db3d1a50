"""Checkpoints: a run that was stopped anywhere ends, bit for bit, as one that was not."""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from families import byte_tokenizer, llama

from softprompt_lab import (
    AdapterError,
    PromptTuningConfig,
    SoftPromptModel,
    load_adapter,
    load_base_model,
    load_task,
    train,
)
from softprompt_lab.config import CONFIG_NAME
from softprompt_lab.runs.checkpoints import CHECKPOINT_NAME, load_checkpoint, save_checkpoint
from softprompt_lab.saving import atomic_write
from softprompt_lab.tasks import Task

KILLS = int(os.environ.get("SOFTPROMPT_LAB_KILLS", "20"))
RUN = {"steps": 12, "batch_size": 3, "learning_rate": 0.1, "snapshot_every": 5, "progress": False}


def rows(texts: int = 8) -> Task:
    """Short texts of two labels."""
    split = Dataset.from_dict(
        {"text": [f"n{i}" for i in range(texts)], "text_label": ["ab"[i % 2] for i in range(texts)]}
    )
    return Task("rows", split, split, split, "text", ("a", "b"), "{text}=")


def fresh(seed: int = 0) -> SoftPromptModel:
    """A small Llama over bytes behind an untrained prompt."""
    torch.manual_seed(0)
    base = llama()
    base.resize_token_embeddings(260)  # draws the new words
    torch.manual_seed(seed)
    return SoftPromptModel(
        base.requires_grad_(False), PromptTuningConfig(4), tokenizer=byte_tokenizer()
    )


def stopping(after: int):
    """An `on_step` that ends the run as an interrupted kernel does."""
    done = []

    def on_step(_):
        done.append(1)
        if len(done) == after:
            raise KeyboardInterrupt

    return on_step


@pytest.mark.parametrize(
    "options",
    [{}, {"optimizer": "adafactor"}, {"evaluate_every": 2, "patience": 3}],
    ids=["adamw", "adafactor", "patience"],
)
@pytest.mark.parametrize("after", [1, 4, 7, 12])
def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path, options, after):
    """Prompt, losses, evaluations and snapshots, to the last bit."""
    whole, model = fresh(), fresh()
    expected = train(whole, rows(), **RUN, **options)
    kept = {"checkpoint": tmp_path, "checkpoint_every": 2}
    with pytest.raises(KeyboardInterrupt):
        train(model, rows(), **RUN, **options, **kept, on_step=stopping(after))
    again = fresh(seed=1)  # another start, which the checkpoint replaces
    if after < 2:
        again = fresh()
    found = train(again, rows(), **RUN, **options, **kept, resume=True)
    assert torch.equal(again.prompt, whole.prompt)
    assert (found.losses, found.evaluations, found.best_step) == (
        expected.losses,
        expected.evaluations,
        expected.best_step,
    )
    assert found.snapshots.keys() == expected.snapshots.keys()
    assert all(
        torch.equal(found.snapshots[step], expected.snapshots[step]) for step in expected.snapshots
    )


def test_another_runs_checkpoint_is_refused(tmp_path):
    """Other settings, other rows, no permission to go on; the message names what differs."""
    train(fresh(), rows(), **RUN, checkpoint=tmp_path)
    with pytest.raises(AdapterError, match="pass resume=True to go on from it, or delete it"):
        train(fresh(), rows(), **RUN, checkpoint=tmp_path)
    with pytest.raises(AdapterError, match="of another run: steps=12, now 13"):
        train(fresh(), rows(), **(RUN | {"steps": 13}), checkpoint=tmp_path, resume=True)
    with pytest.raises(AdapterError, match="of another run: digest of rows, template and sizes"):
        train(fresh(), rows(9), **RUN, checkpoint=tmp_path, resume=True)
    with pytest.raises(ValueError, match="resume=True needs checkpoint="):
        train(fresh(), rows(), **RUN, resume=True)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x02\0\0\0\0\0\0\0{}", b"\xff" * 64])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    """Nothing is guessed."""
    (tmp_path / CHECKPOINT_NAME).write_bytes(content)
    with pytest.raises(AdapterError, match="is no checkpoint of this package or is damaged"):
        train(fresh(), rows(), **RUN, checkpoint=tmp_path, resume=True)


def test_a_folder_that_cannot_be_written_keeps_its_checkpoint(tmp_path, monkeypatch):
    """The disk is full: an AdapterError, and the state before it is there."""
    train(fresh(), rows(), **RUN, checkpoint=tmp_path)
    before = (tmp_path / CHECKPOINT_NAME).read_bytes()
    (tmp_path / CHECKPOINT_NAME).rename(tmp_path / "kept")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / CHECKPOINT_NAME).write_bytes(before)
    with pytest.raises(AdapterError, match=r"cannot be written: .*No space left"):
        save_checkpoint(tmp_path / CHECKPOINT_NAME, ({"a": torch.zeros(1)}, {}))
    assert (tmp_path / CHECKPOINT_NAME).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT_NAME, "kept"}


# -------------------------------------------------------------------------------------------------------------- kills

LONG = {"steps": 60, "batch_size": 4, "snapshot_every": 10, "progress": False}


def _child(folder: Path, resume: bool) -> None:
    """Train on tiny and save the prompt, in a process of its own."""
    torch.set_num_threads(1)
    base, tokenizer = load_base_model("tiny")
    torch.manual_seed(0)
    model = SoftPromptModel(base, PromptTuningConfig(6), tokenizer=tokenizer)
    task = load_task("shop")
    train(model, task, **LONG, checkpoint=folder, checkpoint_every=1, resume=resume)
    model.save_pretrained(folder / "adapter")
    (folder / "end.json").write_text(json.dumps(model.prompt.tolist()))


def _killed(folder: Path, seconds: float) -> None:
    """A training process that lives so long."""
    process = multiprocessing.get_context("fork").Process(target=_child, args=(folder, True))
    process.start()
    process.join(seconds)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_processes_leave_the_last_complete_state(tmp_path):
    """SIGKILL at random moments of training and saving: what is there loads, and the run ends as an unbroken one."""
    began = time.perf_counter()
    _killed(tmp_path / "whole", 600)
    unbroken = time.perf_counter() - began
    expected = (tmp_path / "whole" / "end.json").read_text()
    moments = random.Random(0)
    broken, run = 0, 0
    while broken < KILLS:
        folder = tmp_path / f"run{run}"
        while broken < KILLS and not (folder / "end.json").exists():
            _killed(folder, moments.uniform(0.05, 0.5) * unbroken)
            broken += not (folder / "end.json").exists()
            path = folder / CHECKPOINT_NAME
            if path.exists():
                tensors, values = load_checkpoint(path)
                assert values["step"] >= 1
                assert tensors["prompt"].shape == (6, 128)
            if os.path.lexists(folder / "adapter" / CONFIG_NAME):
                assert load_adapter(folder / "adapter")[1].shape == (6, 128)
        run += 1
    _killed(folder, 600)
    ends = [(tmp_path / f"run{number}" / "end.json").read_text() for number in range(run)]
    assert ends
    assert all(end == expected for end in ends)
    for number in range(run):
        assert (
            json.loads(expected) == load_adapter(tmp_path / f"run{number}" / "adapter")[1].tolist()
        )
    print(
        f"{broken} kills; {run} runs that were killed and resumed end as the unbroken one, bit for bit"
    )


@pytest.mark.skipif(os.name != "posix", reason="other systems keep no such mode")
def test_a_file_that_is_written_whole_can_be_read_by_whom_any_file_can(tmp_path):
    """On a machine that a class shares the others may read a run: the mode is the user's, not a temporary file's."""
    (tmp_path / "plain").write_bytes(b"")
    atomic_write(tmp_path / "whole", b"")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode
