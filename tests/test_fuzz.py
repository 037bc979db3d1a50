"""Nothing trusted, by the thousand: damaged configurations, tensor files, pickles and checkpoints.

A few hundred in every run; SOFTPROMPT_LAB_FUZZ of each kind in the slow tests. The watch that looks for code, hangs and
memory is itself tested first.
"""

import importlib.util
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import fuzzing
import pytest
import torch
from damage import EDITS, damaged
from fuzzing import Caught, Folder, Watch, archive
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_checkpoints import RUN, fresh, rows

from softprompt_lab import AdapterError, PromptTuningConfig, train
from softprompt_lab.adapters import folder as adapter_folder
from softprompt_lab.runs.checkpoints import load_checkpoint, save_checkpoint

MANY = int(os.environ.get("SOFTPROMPT_LAB_FUZZ", "1000"))  # cases of each kind in the slow tests
FEW = 150
WATCH = Watch()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    """A folder whose files are replaced again and again."""
    return Folder(tmp_path_factory.mktemp("damaged"), WATCH)


# ------------------------------------------------------------------------------------------------ the watch can fail


class Command:
    """Unpickled, it runs one."""

    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("function", "argument", "said"),
    [
        (os.system, "true", r"os\.system"),
        (exec, "1", "exec"),
        (Path(os.devnull).open, "w", "open.*'w'"),
        (__import__, "this_module_is_not_there", "import"),
        (subprocess.run, ["true"], r"subprocess\.Popen"),
        (pickle.loads, pickle.dumps(print), r"pickle\.find_class"),
        (time.sleep, 0.1, r"it took 0\.1 seconds"),
        (torch.empty, 300_000_000, r"it took 1,2\d\d,\d{3},\d{3} bytes of memory"),
    ],
    ids=["command", "code", "file", "import", "process", "pickle", "hang", "memory"],
)
def test_the_watch_sees(monkeypatch, function, argument, said):
    """Each of these is caught, whether it raises or not."""
    monkeypatch.setattr(fuzzing, "HANG", 0.1)
    with pytest.raises(Caught, match=said), Watch().case():
        function(argument)


def test_the_watch_sees_through_the_reader(folder, monkeypatch):
    """The whole way: a reader that unpickled would not get past this file's tests, nor one with another error."""
    folder.put(pickle=archive(pickle.dumps({"prompt_embeddings": Command()})))
    folder.load()
    monkeypatch.setattr(
        adapter_folder, "load_pickled", lambda content, _: pickle.loads(fuzzing.program_of(content))
    )
    with pytest.raises(Caught, match=r"os\.system"):
        folder.load()
    monkeypatch.setattr(adapter_folder, "load_pickled", lambda *_: {}["another error"])
    with pytest.raises(KeyError):
        folder.load()


# ---------------------------------------------------------------------------------------------------------- the cases

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = sorted(PromptTuningConfig().to_dict())
CHANGES = st.dictionaries(
    st.sampled_from(FIELDS) | st.text(max_size=8), JSON, min_size=1, max_size=4
)
FILES = st.sampled_from(["config", "safe", "pickle"])
# Instructions of a pickle: those that torch.save writes, those that call, and some that nothing here needs.
NAMES = [
    "torch._utils _rebuild_tensor_v2",
    "torch FloatStorage",
    "collections OrderedDict",
    "torch FloatTensor",
]
NAMES += [
    "builtins bytearray",
    "os system",
    "builtins eval",
    "torch.storage UntypedStorage",
    "_codecs encode",
]
STEPS = [f"c{name}\n".replace(" ", "\n").encode() for name in NAMES]
STEPS += [b"X\4\0\0\0true", b"X\7\0\0\0storage", b"X\1\0\0\x000", b"X\3\0\0\0cpu", b"K\5", b"K\x20"]
STEPS += [b"J\xff\xff\xff\x7f", b"\x8a\5\0\0\0\0\1", b"(", b"t", b"\x85", b"\x86", b"\x87"]
STEPS += [b")", b"}", b"]", b"N", b"\x88", b"\x89", b"Q"]
STEPS += [
    b"R",
    b"s",
    b"u",
    b"a",
    b"e",
    b"b",
    b"q\0",
    b"q\1",
    b"h\0",
    b"h\1",
    b"r\xff\xff\xff\x7f",
    b".",
    b"0",
    b"2",
]
STEPS += [
    b"\x81",
    b"\x93",
    b"\x8c\1x",
    b"\x96\0\0\0\0\1\0\0\0",
    b"B\xff\xff\xff\x7f",
    b"i",
    b"o",
    b"P1\n",
    b"I9\n",
]
PROGRAMS = st.tuples(
    st.integers(0, 200), st.lists(st.sampled_from(STEPS), min_size=1, max_size=30), st.booleans()
)
HEADERS = st.dictionaries(
    st.sampled_from(["prompt_embeddings", "base_model.score.weight", "__metadata__", "x"]),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(
                ["F32", "F16", "BF16", "F8_E4M3", "I64", "BOOL", "C64", "F4", "?"]
            ),
            "shape": st.lists(st.integers(0, 40) | st.integers(0, 2**64), max_size=4),
            "data_offsets": st.lists(
                st.integers(0, 640) | st.integers(0, 2**64), min_size=2, max_size=2
            ),
        }
    )
    | JSON,
    max_size=3,
)


def any_fields(folder: Folder, changes) -> None:
    """A configuration with fields of any JSON."""
    folder.put(config=json.dumps(json.loads(folder.config) | changes).encode())
    folder.load()


def any_bytes(folder: Folder, case) -> None:
    """A file with bytes changed, cut off, put in or left out."""
    name, edits = case
    folder.put(**{name: damaged(getattr(folder, name), edits)})
    folder.load()


def any_program(folder: Folder, case) -> None:
    """A pickle of any instructions, alone or somewhere in a good one, in a good archive."""
    place, steps, alone = case
    good = b"\x80\x02" if alone else folder.program
    program = good[:place] + b"".join(steps) + (b"." if alone else good[place:])
    folder.put(pickle=archive(program, bytes(640)))
    folder.load()


def any_header(folder: Folder, header) -> None:
    """Tensors of any type, shape and place before the bytes of a good file."""
    text = json.dumps(header).encode()
    folder.put(safe=len(text).to_bytes(8, "little") + text + folder.safe[-640:])
    folder.load()


def any_checkpoint(folder: Folder, case) -> None:
    """A checkpoint with other values, or with bytes changed."""
    values, edits = case
    save_checkpoint(folder.checkpoint, ({"a/prompt": torch.ones(3)}, values))
    content = folder.checkpoint.read_bytes()
    folder.load_checkpoint(damaged(content, edits) if edits else content)


VALUES = st.dictionaries(st.sampled_from(["step", "a"]), JSON, max_size=2) | JSON
KINDS = {
    "fields": (any_fields, CHANGES),
    "bytes": (any_bytes, st.tuples(FILES, EDITS)),
    "programs": (any_program, PROGRAMS),
    "headers": (any_header, HEADERS),
    "checkpoints": (any_checkpoint, st.tuples(VALUES, st.none() | EDITS)),
}


def fuzz(kind: str, folder: Folder, examples: int) -> None:
    """So many cases of a kind."""
    check, strategy = KINDS[kind]

    @settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(case=strategy)
    def run(case):
        check(folder, case)

    run()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_folders(folder, kind):
    """A few of each kind in every run."""
    fuzz(kind, folder, FEW)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_folders(folder, kind):
    """As many of each kind as SOFTPROMPT_LAB_FUZZ says."""
    before = WATCH.cases
    fuzz(kind, folder, MANY)
    print(f"{kind}: {WATCH.cases - before:,} cases; since the start: {WATCH}")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: pip install atheris",
)
def test_what_atheris_finds(tmp_path):
    """Cases mutated towards lines of the reader that none has reached before."""
    command = [sys.executable, fuzzing.__file__, str(MANY)]
    path = os.pathsep.join(
        [str(Path(adapter_folder.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    )
    said = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, cwd=tmp_path
    )
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr[-3000:]
    print(next(line for line in said.stdout.splitlines() if line.startswith("atheris: ")))


# --------------------------------------------------------------------------------------------- what was found by hand


@pytest.mark.parametrize(
    "values",
    [
        [],
        {},
        {"step": "many"},
        {"step": True},
        {"step": -1},
        {"step": 2**70},
        {"step": 3, "default": []},
        {"step": 3, "default": {"settings": {}, "history": {}}},
    ],
    ids=repr,
)
def test_a_checkpoint_of_something_else_is_named(tmp_path, values):
    """Its tensors may be right."""
    train(fresh(), rows(), **(RUN | {"steps": 2}), checkpoint=tmp_path)
    path = tmp_path / "checkpoint.pt"
    tensors, _ = load_checkpoint(path)
    save_checkpoint(path, (tensors, values))
    with pytest.raises(AdapterError, match=r"checkpoint\.pt (lacks what|is no checkpoint)"):
        train(fresh(), rows(), **(RUN | {"steps": 2}), checkpoint=tmp_path, resume=True)
