"""The house: files that need no folder, layers, budgets, and examples that run."""

import doctest
import os
import shutil
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
from batches import ROWS, padded
from families import WIDTH
from prompted import as_peft, with_prompt

import softprompt_lab
from softprompt_lab.batch import PlainEngine

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))

import house  # noqa: E402

# Lines of code. They may only fall: the house is to stand with 900 in the core and 6,800 in all.
CORE, PACKAGE = 2_112, 10_157
ROOMS = [path.name for path in Path(softprompt_lab.__file__).parent.iterdir() if path.is_dir()]


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    """The contracts of pyproject.toml on the package in `folder`."""
    command = Path(sys.executable).with_name("lint-imports")
    environment = os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"}
    return subprocess.run(
        [command, "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_layers_hold():
    """No core file imports a room, no room a later one, and what draws nothing draws nothing."""
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


def test_a_core_file_that_imports_a_room_is_found(tmp_path):
    """The contract can fail."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    copied = shutil.copytree(ROOT / "softprompt_lab", tmp_path / "softprompt_lab")
    with (copied / "embedding.py").open("a") as file:
        file.write("\n\ndef _nearest():\n    from .reading import nearest_tokens\n")
    done = lint_imports(tmp_path)
    assert done.returncode != 0
    assert "softprompt_lab.embedding -> softprompt_lab.reading" in done.stdout


def test_core_and_package_stay_within_their_budgets():
    """Counted as `python tools/house.py` counts."""
    modules = house.working_tree().items()
    package = {path: text for path, text in modules if path.startswith(house.PACKAGE)}
    total = house.totals(house.sizes(package))
    assert total["the core"][1] <= CORE
    assert total["the package"][1] <= PACKAGE


def test_a_line_of_code_is_counted_and_a_docstring_is_not():
    """By hand."""
    text = '"""One."""\n\n# two\ndef f():\n    """Three.\n\n    Four."""\n    return (\n        1\n    )\n'
    assert house.code_lines(text) == 4


# --------------------------------------------------------------------------------------------------- the core alone


def test_the_plain_way_equals_peft(family):
    """Loss and gradient of a right-padded batch, in front of which PEFT is right, without the engine room."""
    model = with_prompt(family)
    model.engine = PlainEngine()
    ids, mask, labels = padded(ROWS, "right")
    reference = as_peft(model)
    theirs = reference(input_ids=ids, attention_mask=mask, labels=labels).loss
    (expected,) = torch.autograd.grad(theirs, reference.prompt_encoder["default"].embedding.weight)
    loss = model.loss(ids, mask, labels)
    (found,) = torch.autograd.grad(loss, model.prompts["default"].embedding.weight)
    torch.testing.assert_close(loss, theirs, rtol=1e-6, atol=1e-6)
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_plain_way_knows_no_batch(family, side):
    """A row's loss and tokens are what they are alone, on either padding side."""
    model = with_prompt(family)
    model.engine = PlainEngine()
    ids, mask, labels = padded(ROWS, side)
    options = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    together, losses = model.generate(ids, mask, **options), []
    for row, text in enumerate(mask.bool()):
        alone = ids[row][text][None]
        losses.append(model.loss(alone, None, labels[row][text][None]))
        written = model.generate(alone, **options)[0, alone.shape[1] :]
        assert torch.equal(together[row, ids.shape[1] :], written)
    counts = (labels != -100).sum(dim=1)
    expected = (torch.stack(losses) * counts).sum() / counts.sum()
    torch.testing.assert_close(model.loss(ids, mask, labels), expected, rtol=1e-5, atol=1e-6)


ALONE = """
import importlib.abc, sys

class Closed(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith("softprompt_lab.") and name.split(".")[1] in {rooms}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Closed())
sys.path.insert(0, {tests!r})
import torch
from datasets import Dataset
from families import byte_tokenizer, llama
from softprompt_lab import PromptTuningConfig, SoftPromptModel, Task, evaluate, train
from softprompt_lab.batch import PlainEngine

def base_model():
    torch.manual_seed(0)
    base = llama()
    base.resize_token_embeddings(260)
    return base

rows = Dataset.from_dict({{"text": [f"n{{i}}" for i in range(8)], "text_label": ["ab"[i % 2] for i in range(8)]}})
task = Task("rows", rows, rows, rows, "text", ("a", "b"), "{{text}}=")
model = SoftPromptModel(base_model(), PromptTuningConfig(4), tokenizer=byte_tokenizer())
assert type(model.engine) is PlainEngine
history = train(model, task, steps=20, evaluate_every=10, patience=5, learning_rate=0.1, progress=False)
assert sum(history.losses[-3:]) < 0.8 * sum(history.losses[:3]), history.losses
before = evaluate(model, task)
model.save_pretrained({folder!r})
again = SoftPromptModel.from_pretrained(base_model(), {folder!r}, tokenizer=byte_tokenizer())
assert torch.equal(again.prompt, model.prompt)
after = evaluate(again, task)
assert (after.loss, after.accuracy) == (before.loss, before.accuracy)
text = torch.tensor([byte_tokenizer()("n1=")["input_ids"]])
assert torch.equal(again.generate(text, max_new_tokens=3), model.generate(text, max_new_tokens=3))
rooms = [name for name in sys.modules if name.startswith("softprompt_lab.") and name.split(".")[1] in {rooms}]
assert not rooms, rooms
print("alone:", len(history.losses), "steps")
"""


@pytest.mark.slow
def test_the_core_trains_evaluates_saves_and_loads_with_every_room_taken_away(tmp_path):
    """In a process where no folder of the package can be imported; PEFT then loads what it saved."""
    text = ALONE.format(rooms=set(ROOMS), tests=str(ROOT / "tests"), folder=str(tmp_path / "saved"))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "alone: 20 steps" in done.stdout
    config = peft.PeftConfig.from_pretrained(tmp_path / "saved")
    assert (config.num_virtual_tokens, config.token_dim) == (4, WIDTH)


# -------------------------------------------------------------------------------------------------------- examples


KINDS_OF_VALUES = {"PromptTuningInit", "TaskType", "Task", "TrainingHistory", "Evaluation"}
KINDS_OF_VALUES |= {"LabError", "AdapterError"}  # what the others take, return or raise


@pytest.mark.parametrize("name", sorted(set(softprompt_lab.__all__) - KINDS_OF_VALUES))
def test_the_example_of_a_public_name_runs(name, tmp_path, monkeypatch):
    """Each has one in its docstring, and prints what stands there."""
    monkeypatch.chdir(tmp_path)
    found = doctest.DocTestFinder(recurse=False).find(getattr(softprompt_lab, name), name)
    examples = [example for test in found for example in test.examples]
    assert examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in found:
        runner.run(test)
    assert runner.failures == 0
