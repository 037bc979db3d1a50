"""Nothing lost: full and read-only disks, several processes at one folder, processes killed while they save."""

import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch
from families import WIDTH

from softprompt_lab import AdapterError, PromptTuningConfig, load_adapter, save_adapter, saving
from softprompt_lab.config import CONFIG_NAME
from softprompt_lab.runs.checkpoints import CHECKPOINT_NAME, load_checkpoint, save_checkpoint
from softprompt_lab.runs.saved import TASK_FILE
from softprompt_lab.saving import CARD_NAME, PENDING, PICKLE_NAME, SAFE_NAME

KILLS = int(os.environ.get("SOFTPROMPT_LAB_KILLS", "20"))
PAGE = 4096  # bytes: what a tmpfs gives out at a time
forked = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def save(folder: Path, number: int, rows: int = 6, safe: bool = True) -> None:
    """An adapter that says in every part which one it is: length, name of the base model, all numbers."""
    config = PromptTuningConfig(rows, token_dim=WIDTH, base_model_name_or_path=str(number))
    save_adapter(folder, config, torch.full((rows, WIDTH), float(number)), safe_serialization=safe)


def number_of(folder: Path) -> int:
    """Which adapter a folder holds, if all of it is of one save."""
    config, prompt = load_adapter(folder)
    number = int(config.base_model_name_or_path)
    assert torch.equal(prompt, torch.full((config.num_virtual_tokens, WIDTH), float(number)))
    return number


def leftovers(folder: Path) -> list[str]:
    """What a save should have taken away."""
    return [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of 256 KB in memory, of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if made.returncode:
        pytest.skip(f"mounting is refused here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(disk: Path, mode: str) -> None:
    """Make the disk read-only ("ro") or not ("rw")."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)


def fill(disk: Path, pages: int) -> None:
    """Leave so many pages free."""
    (disk / "ballast").unlink(missing_ok=True)
    free = os.statvfs(disk).f_bavail
    (disk / "ballast").write_bytes(bytes(PAGE * (free - pages)))
    assert os.statvfs(disk).f_bavail == pages


# ----------------------------------------------------------------------------------------------------- full, read-only


def refused(write: Callable[[], None]) -> str:
    """What the error says; "" where there was room."""
    try:
        write()
    except AdapterError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_a_full_disk_leaves_the_earlier_adapter(disk, safe):
    """With no page free, one, two, ...: the old adapter and an error, or the new one; never anything between."""
    save(disk / "adapter", 1)
    said = []
    while not said or said[-1]:
        assert number_of(disk / "adapter") == 1
        fill(disk, pages=len(said))
        said.append(refused(lambda: save(disk / "adapter", 2, rows=100, safe=safe)))
        assert leftovers(disk / "adapter") == []
    assert number_of(disk / "adapter") == 2
    assert 3 < len(said) < 12
    assert all(
        "No space left on device. It holds the earlier adapter or the new one, whole" in error
        for error in said[:-1]
    )


def test_a_full_disk_leaves_the_earlier_checkpoint(disk):
    """The same of a checkpoint."""
    path = disk / CHECKPOINT_NAME
    save_checkpoint(path, ({"a": torch.ones(10)}, {"step": 1}))
    said = []
    while not said or said[-1]:
        tensors, values = load_checkpoint(path)
        assert (len(tensors["a"]), values["step"]) == (10, 1)
        fill(disk, pages=len(said))
        said.append(refused(lambda: save_checkpoint(path, ({"a": torch.ones(5000)}, {"step": 2}))))
        assert leftovers(disk) == []
    assert load_checkpoint(path)[1] == {"step": 2}
    assert 3 < len(said) < 12
    assert all(
        "No space left on device. The checkpoint before it is unharmed" in error
        for error in said[:-1]
    )


def test_a_read_only_disk_says_so_and_is_read(disk):
    """Nothing can be saved there, and what is there loads, an interrupted save too."""
    save(disk / "adapter", 1, safe=False)
    save_checkpoint(disk / CHECKPOINT_NAME, ({"a": torch.ones(10)}, {"step": 1}))
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    remount(disk, "ro")
    with pytest.raises(AdapterError, match=r"adapter cannot be written: .*Read-only file system"):
        save(disk / "adapter", 2)
    with pytest.raises(AdapterError, match=r"Read-only file system.*before it is unharmed"):
        save_checkpoint(disk / CHECKPOINT_NAME, ({"a": torch.ones(20)}, {"step": 2}))
    with pytest.raises(AdapterError, match=r"new cannot be written: .*Read-only file system"):
        save(disk / "new", 2)
    assert {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()} == before
    assert number_of(disk / "adapter") == 1
    assert load_checkpoint(disk / CHECKPOINT_NAME)[1] == {"step": 1}


def interrupted(folder: Path, moved: int) -> None:
    """A save of adapter 2 over the `.bin` of adapter 1 that broke off after so many files were in their places."""
    save(folder, 1, safe=False)
    save(folder / "new", 2, rows=9)
    os.rename(folder / "new", folder / PENDING)
    for name in (CARD_NAME, CONFIG_NAME, SAFE_NAME)[:moved]:
        if name == SAFE_NAME:
            (folder / PICKLE_NAME).unlink()
        os.replace(folder / PENDING / name, folder / name)


@pytest.mark.parametrize("moved", range(4))
def test_an_interrupted_save_is_read_where_nothing_can_be_written(disk, moved):
    """The save holds, though its files cannot be moved; where they can, they are."""
    interrupted(disk / "adapter", moved)
    remount(disk, "ro")
    assert number_of(disk / "adapter") == 2
    assert leftovers(disk / "adapter") == [PENDING]
    remount(disk, "rw")
    assert number_of(disk / "adapter") == 2
    assert sorted(os.listdir(disk / "adapter")) == [CARD_NAME, CONFIG_NAME, SAFE_NAME]


def test_a_configuration_alone_is_that_of_the_interrupted_save(tmp_path):
    """Read by itself, and written over it."""
    interrupted(tmp_path, moved=0)
    config = PromptTuningConfig.from_pretrained(tmp_path)
    assert config.num_virtual_tokens == 9
    interrupted(tmp_path, moved=0)
    PromptTuningConfig(9, token_dim=WIDTH, base_model_name_or_path="3").save_pretrained(tmp_path)
    assert load_adapter(tmp_path)[0].base_model_name_or_path == "3"


def test_what_killed_writers_left_is_cleared_away(tmp_path):
    """And nothing that is not theirs."""
    save(tmp_path, 1)
    (tmp_path / f"{saving.STAGE}dead").mkdir()
    (tmp_path / f"{saving.STAGE}dead" / SAFE_NAME).write_bytes(b"half")
    (tmp_path / ".stage-mine").mkdir()
    (tmp_path / ".stage-mine" / "letter.txt").write_text("dear reader")
    (tmp_path / f".{TASK_FILE}-dead").write_bytes(b"half")
    save(tmp_path, 2)
    saving.atomic_write(tmp_path / TASK_FILE, b"{}")
    assert leftovers(tmp_path) == [".stage-mine"]
    assert (tmp_path / ".stage-mine" / "letter.txt").read_text() == "dear reader"


# ---------------------------------------------------------------------------------------------------- several processes


def _write_again_and_again(folder: Path, number: int, stop: Event) -> None:
    """One of two writers: another length, another format."""
    while not stop.is_set():
        save(folder, number, rows=5 + number, safe=number % 2 == 0)
        time.sleep(0.002)  # whoever lets go of a lock would have it again before the others wake


def _changes(found: list[int]) -> int:
    """How often a reader saw another adapter than the time before."""
    return sum(before != after for before, after in itertools.pairwise(found))


def _race(folder: Path, seconds: float, changes: int) -> list[int]:
    """What a reader finds in a folder that two processes save to: for so long, and until it saw so many changes."""
    save(folder, 0)
    fork = multiprocessing.get_context("fork")
    stop, found, end = fork.Event(), [], time.monotonic() + seconds
    writers = [
        fork.Process(target=_write_again_and_again, args=(folder, number, stop))
        for number in (0, 1)
    ]
    for writer in writers:
        writer.start()
    try:
        while time.monotonic() < end or _changes(found) < changes:
            found.append(number_of(folder))
            assert all(writer.is_alive() for writer in writers)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    return found


@forked
def test_two_writers_never_mix(tmp_path):
    """Every load gives one of the two adapters, whole, while both are saved again and again."""
    _race(tmp_path, seconds=1.0, changes=4)
    assert leftovers(tmp_path) == []


@forked
@pytest.mark.slow
def test_two_writers_never_mix_for_long(tmp_path):
    """The same for ten seconds, and until each adapter was read more than twenty times."""
    found = _race(tmp_path, seconds=10, changes=42)
    print(f"{len(found)} loads, {found.count(0)} of one adapter, {found.count(1)} of the other")


# --------------------------------------------------------------------------------------------------------------- kills


def _save_and_tell(folder: Path, first: int, pipe: int) -> None:
    """Save adapter after adapter, each told of when `save_adapter` has come back."""
    number = first
    while True:
        save(folder, number, rows=1 + number % 7, safe=number % 2 == 0)
        os.write(pipe, number.to_bytes(8, "little"))
        number += 1


def _killed_while_saving(folder: Path, first: int, seconds: float) -> int:
    """The last adapter that a process had saved, for all it knew, when it was killed."""
    reading, writing = os.pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_save_and_tell, args=(folder, first, writing)
    )
    process.start()
    os.close(writing)
    os.read(reading, 8)  # it has begun
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    told = b"".join(iter(lambda: os.read(reading, 1 << 16), b""))
    os.close(reading)
    return int.from_bytes(told[-8:], "little") if told else first


def _kill_savers(folder: Path, kills: int) -> int:
    """How many of so many kills broke into a save."""
    moments, number, broken = random.Random(0), 0, 0
    for _ in range(kills):
        told = _killed_while_saving(folder, number + 1, moments.uniform(0, 0.02))
        broken += bool(leftovers(folder))
        number = number_of(folder)
        assert number in (told, told + 1), "what was saved is there, or what was being saved"
        assert PENDING not in leftovers(folder)
    save(folder, number + 1)
    assert leftovers(folder) == []
    return broken


@forked
def test_a_writer_killed_anywhere_leaves_the_last_adapter(tmp_path):
    """SIGKILL while one adapter after another is saved."""
    _kill_savers(tmp_path, 10)


@forked
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_writers_killed(tmp_path):
    """As many as SOFTPROMPT_LAB_KILLS says."""
    broken = _kill_savers(tmp_path, KILLS)
    print(f"{KILLS} kills, {broken} of them within a save")
    assert broken > KILLS / 5
