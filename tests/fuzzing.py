"""Damaged folders by the thousand: what a case is, what it must not do, and a command that lets atheris look for more.

    python tests/fuzzing.py 20000 [seed]

feeds `load_adapter` that many inputs, each mutated from those that reached new lines of the reader (atheris, on
libFuzzer), and prints how many there were, the slowest and the hungriest. A case fails when it raises anything but an
AdapterError, takes 2 seconds or 1 GiB of memory, or runs anything.
"""

import contextlib
import encodings.cp437  # zipfile and pickletools import these two when a file asks for them
import encodings.raw_unicode_escape  # noqa: F401
import gc
import io
import json
import os
import re
import shutil
import struct
import sys
import tempfile
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

HANG = 2.0  # seconds
HUNGER = 1 << 30  # bytes above what the process had
# Audit events that reading a folder has no reason for (docs.python.org, "Audit events table").
RUNS = re.compile(
    r"(exec|compile|import|pickle\..*|marshal\..*|subprocess\..*|pty\..*|socket\..*|ctypes\..*|webbrowser\..*|urllib\..*"
    r"|os\.(system|exec|fork|forkpty|posix_spawn|spawn|startfile|putenv|kill))$"
)
_watched: dict[int, list[str]] = {}  # thread -> what it ran


class Caught(AssertionError):
    """A case that did what it must not."""


def _hook(event: str, arguments: tuple) -> None:
    """Note what a watched thread runs, and every file that it opens for writing."""
    ran = _watched.get(threading.get_ident())
    if ran is None:
        return
    if event == "open":
        _, mode, flags = arguments
        if set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            ran.append(f"{event}{arguments!r}")
    elif RUNS.match(event):
        ran.append(f"{event}{arguments!r}"[:200])


sys.addaudithook(_hook)  # for the life of the process


def _memory() -> tuple[int, int]:
    """What this process has now and what it had at most, in bytes; zeros where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            found = {
                line.split()[0]: 1024 * int(line.split()[1])
                for line in status
                if line.startswith("Vm")
            }
    except OSError:
        return 0, 0
    return found["VmSize:"], found["VmPeak:"]


class Watch:
    """Looks at one case after another; remembers how many there were, the slowest and the hungriest."""

    def __init__(self) -> None:
        self.cases, self.slowest, self.hungriest = 0, 0.0, 0

    @contextlib.contextmanager
    def case(self) -> Iterator[None]:
        """Raise Caught when what is done in it runs something, hangs or fills the memory."""
        gc.disable()  # thousands of cases leave much to collect, which is not this one's time
        (size, peak), began = _memory(), time.perf_counter()
        ran = _watched[threading.get_ident()] = []
        try:
            yield
        finally:
            del _watched[threading.get_ident()]
            seconds, new_peak = time.perf_counter() - began, _memory()[1]
            gc.enable()
            self._judge(ran, seconds, new_peak - size if new_peak > peak else 0)

    def _judge(self, ran: list[str], seconds: float, grown: int) -> None:
        """Count a case, and say what was wrong with it."""
        self.cases += 1
        self.slowest, self.hungriest = max(self.slowest, seconds), max(self.hungriest, grown)
        if ran:
            raise Caught(f"it ran {ran}")
        if seconds >= HANG:
            raise Caught(f"it took {seconds:.1f} seconds")
        if grown >= HUNGER:
            raise Caught(f"it took {grown:,} bytes of memory")

    def __str__(self) -> str:
        most = f"{self.hungriest / 2**20:.0f} MiB"
        return (
            f"{self.cases:,} cases; slowest {1000 * self.slowest:.0f} ms; most memory in one {most}"
        )


# ------------------------------------------------------------------------------------------------------------- folders


def archive(program: bytes, numbers: bytes = b"") -> bytes:
    """What torch.save would write of a pickle, with one storage."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("archive/data.pkl", program)
        made.writestr("archive/data/0", numbers)
    return buffer.getvalue()


def program_of(content: bytes) -> bytes:
    """The pickle in what torch.save wrote."""
    with zipfile.ZipFile(io.BytesIO(content)) as made:
        return made.read(next(name for name in made.namelist() if name.endswith("data.pkl")))


class Folder:
    """A good adapter whose files are replaced, one at a time, by damaged ones."""

    def __init__(self, place: Path, watch: Watch) -> None:
        import torch

        from softprompt_lab import PromptTuningConfig, saving
        from softprompt_lab.config import CONFIG_NAME
        from softprompt_lab.runs import checkpoints

        self.place, self.watch = place, watch
        self.names = (saving.SAFE_NAME, saving.PICKLE_NAME, CONFIG_NAME)
        self.good: dict[str, bytes] = {}
        self.pending, self.checkpoint = (
            place / saving.PENDING,
            place / checkpoints.CHECKPOINT_NAME,
        )
        for safe in (True, False):
            config = PromptTuningConfig(5, token_dim=32)
            saving.save_adapter(place, config, torch.ones(5, 32), safe_serialization=safe)
            self.good |= {
                path.name: path.read_bytes() for path in place.iterdir() if path.name in self.names
            }
        self.safe, self.pickle, self.config = (self.good[name] for name in self.names)
        self.program = program_of(self.pickle)

    def put(self, **changed: bytes) -> None:
        """Lay out the good files, `safe`, `pickle` or `config` changed; of the weights only one file is there."""
        safe, pickle, config = self.names
        weights = pickle if "pickle" in changed else safe
        (self.place / (safe if weights == pickle else pickle)).unlink(missing_ok=True)
        (self.place / config).write_bytes(changed.get("config", self.config))
        (self.place / weights).write_bytes(changed.get("pickle", changed.get("safe", self.safe)))

    def load(self) -> None:
        """The folder as it is: right, or an AdapterError says what is wrong."""
        import torch

        from softprompt_lab import AdapterError, load_adapter

        try:
            with self.watch.case():
                config, prompt = load_adapter(self.place)
        except AdapterError:
            return
        assert prompt.dtype == torch.float32
        assert prompt.shape == (config.total_virtual_tokens, config.token_dim)
        assert torch.isfinite(prompt).all()

    def load_checkpoint(self, content: bytes) -> None:
        """The same of a checkpoint."""
        from softprompt_lab import AdapterError
        from softprompt_lab.runs.checkpoints import load_checkpoint

        self.checkpoint.write_bytes(content)
        with contextlib.suppress(AdapterError):
            with self.watch.case():
                tensors, values = load_checkpoint(self.checkpoint)
            assert isinstance(tensors, dict)
            assert isinstance(values, dict)
            assert type(values["step"]) is int


# --------------------------------------------------------------------------------------------------- atheris' command


def _seeds(folder: Folder) -> dict[int, list[bytes]]:
    """What each kind of case begins with: good files, and pickles that would run something if they were unpickled."""
    import torch

    from softprompt_lab.runs.checkpoints import save_checkpoint

    save_checkpoint(
        folder.checkpoint, ({"a/b": torch.ones(3)}, {"step": 1, "a": {"x": [1.5, None]}})
    )
    size = int.from_bytes(folder.safe[:8], "little")
    calls = [
        b"cos\nsystem\n(X\4\0\0\0truetR.",
        b"cbuiltins\nexec\n(X\1\0\0\x001tR.",
        b"(X\4\0\0\0trueios\nsystem\n.",
    ]
    return {
        0: [folder.config],
        1: [folder.safe],
        2: [folder.safe[8 : 8 + size]],  # the header alone
        3: [folder.pickle],
        4: [folder.program, *(b"\x80\x02" + call for call in calls)],  # the pickle alone
        5: [folder.checkpoint.read_bytes()],
        6: [folder.config],  # of an interrupted save
    }


def _case(folder: Folder, data: bytes) -> None:
    """The first byte says which file the rest replaces."""
    kind, content = (data[0] % 7, data[1:]) if data else (0, b"")
    if kind == 5:
        folder.load_checkpoint(content)
        return
    if kind == 6:
        folder.pending.mkdir(exist_ok=True)
        (folder.pending / "adapter_config.json").write_bytes(content)
    header = struct.pack("<Q", len(content)) + content + folder.safe[-640:]
    changed = [{"config": content}, {"safe": content}, {"safe": header}, {"pickle": content}]
    changed += [{"pickle": archive(content, folder.safe[-640:])}, {}, {}]
    folder.put(**changed[kind])
    folder.load()


WORDS = [
    "{",
    "}",
    "[",
    ":",
    ",",
    "null",
    "true",
    "1e999",
    "-1",
    "NaN",
    "SEQ_2_SEQ_LM",
    "P_TUNING",
    "F8_E4M3",
    "BF16",
]
WORDS += [
    "shape",
    "dtype",
    "data_offsets",
    "prompt_embeddings",
    "base_model.score.weight",
    "torch\nFloatTensor\n",
]
WORDS += [
    "builtins\nbytearray\n",
    "torch._utils\n_rebuild_tensor_v2\n",
    "collections\nOrderedDict\n",
    "os\nsystem\n",
]


def main(cases: int, seed: int) -> None:
    """Let atheris make so many cases; it ends the process, with 0 when none failed."""
    import atheris

    with atheris.instrument_imports(include=["softprompt_lab", "pickletools"]):
        from softprompt_lab.adapters import kinds, pickles  # noqa: F401
        from softprompt_lab.runs import checkpoints  # noqa: F401
    warnings.simplefilter("ignore")
    place = Path(
        tempfile.mkdtemp(prefix="fuzzing-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    )
    watch = Watch()
    folder = Folder(place, watch)
    names = [*json.loads(folder.config), *WORDS]
    (place / "words").write_text(
        "".join('"' + name.replace("\n", "\\x0a") + '"\n' for name in names)
    )
    (place / "seeds").mkdir()
    for kind, contents in _seeds(folder).items():
        for number, content in enumerate(contents):
            (place / "seeds" / f"{kind}-{number}").write_bytes(bytes([kind]) + content)
    start = watch.cases

    def one(data: bytes) -> None:
        _case(folder, data)
        if watch.cases == start + cases:
            print(f"\natheris: {watch}", flush=True)
            shutil.rmtree(place)  # it stays where a case failed

    options = [
        f"-atheris_runs={cases}",
        f"-seed={seed}",
        "-max_len=4096",
        f"-dict={place / 'words'}",
        "-timeout=20",
    ]
    atheris.Setup(
        [sys.argv[0], *options, "-verbosity=0", f"-artifact_prefix={place}/", str(place / "seeds")],
        one,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
