"""Folders that releases of PEFT from 0.2 on wrote (tools/peft_folders.py) load here, each with its own numbers."""

import importlib
import itertools
import json
import sys
import warnings
import zipfile
from pathlib import Path

import peft
import pytest
import torch

from softprompt_lab import SoftPromptModel, TaskType, load_adapter
from softprompt_lab.config import CONFIG_NAME, HEAD_MODULES
from softprompt_lab.saving import PICKLE_NAME, SAFE_NAME, load_adapter_with_head

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
peft_folders = importlib.import_module("peft_folders")

RELEASES = ("0.2.0", "0.3.0", "0.4.0", "0.6.2", "0.7.1", "0.17.1", "0.18.1")
INSTALLED = "installed"
KINDS = {"text", "P_TUNING", "float16", "bfloat16"}  # beside one or two folders for each task type
WRITTEN = {
    "0.2.0": 4
    + len(KINDS),  # no task types for questions and features, .bin only, one adapter in a model
    "0.3.0": 4 + len(KINDS),
    "0.4.0": 2 * 6 + len(KINDS) + 1,
    "0.6.2": 2 * 6 + len(KINDS) + 2,  # with MULTITASK_PROMPT_TUNING
}


@pytest.fixture(scope="module", params=[*RELEASES, INSTALLED])
def release(request, tmp_path_factory) -> tuple[str, Path]:
    """A release of PEFT, and where its folders are."""
    place = tmp_path_factory.mktemp("release")
    if request.param == INSTALLED:
        peft_folders.write_folders(place)
    else:
        with zipfile.ZipFile(ROOT / "tests" / "folders" / f"peft-{request.param}.zip") as packed:
            packed.extractall(place)
    return request.param, place


def expected_of(folder: Path) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """The prompts and the head as PEFT had them."""
    values = json.loads((folder / "expected.json").read_text())
    head = {name: torch.tensor(weight) for name, weight in values["head"].items()}
    return [torch.tensor(prompt) for prompt in values["prompts"]], head


def test_every_folder_loads_with_its_own_numbers(release):
    """Task types, file formats, half precision, P_TUNING, MULTITASK by task, named ones; no warning."""
    number, place = release
    folders = sorted(path for path in place.iterdir())
    assert len(folders) == WRITTEN.get(number, WRITTEN["0.6.2"])
    assert {folder.name for folder in folders} >= KINDS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for folder in folders:
            prompts, head = expected_of(folder)
            if folder.name == "named":
                found = [load_adapter(folder)[1], load_adapter(folder / "mail")[1]]
            elif folder.name == "MULTITASK":
                found = [load_adapter(folder, task_id=task)[1] for task in range(len(prompts))]
            else:
                config, prompt, weights = load_adapter_with_head(folder)
                found = [prompt]
                assert weights.keys() == head.keys()
                assert bool(head) == bool(HEAD_MODULES.get(config.task_type))
                assert all(torch.equal(weights[name], weight) for name, weight in head.items())
                assert folder.name.startswith(config.task_type) or folder.name in KINDS
            assert len(found) == len(prompts)
            for ours, theirs in zip(found, prompts, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
                assert ours.dtype == torch.float32


def test_every_task_type_goes_on_here_and_in_pefts_newest(release, tmp_path):
    """In front of a base model with its head, saved again, and loaded by the PEFT that is installed."""
    _, place = release
    for folder in sorted(place.glob("*-bin")):
        task = folder.name.removesuffix("-bin")
        model = SoftPromptModel.from_pretrained(peft_folders.base_of(task), folder)
        prompts, head = expected_of(folder)
        assert torch.equal(model.prompts["default"].embedding.weight, prompts[0])
        assert all(
            torch.equal(model.heads["default"].weights()[name], weight)
            for name, weight in head.items()
        )
        model.save_pretrained(tmp_path / task)
        theirs = peft.PeftModel.from_pretrained(peft_folders.base_of(task), tmp_path / task)
        assert torch.equal(theirs.prompt_encoder["default"].embedding.weight, prompts[0])


def test_the_releases_differ_as_the_tool_says(tmp_path):
    """The keys of their configurations, and the format that was the default."""
    keys = {}
    for number in RELEASES:
        with zipfile.ZipFile(ROOT / "tests" / "folders" / f"peft-{number}.zip") as packed:
            keys[number] = set(json.loads(packed.read(f"CAUSAL_LM-bin/{CONFIG_NAME}")))
            names = set(packed.namelist())
        assert f"CAUSAL_LM-bin/{PICKLE_NAME}" in names
        assert (f"CAUSAL_LM-safetensors/{SAFE_NAME}" in names) == (number not in ("0.2.0", "0.3.0"))
    new = {later: keys[later] - keys[earlier] for earlier, later in itertools.pairwise(RELEASES)}
    assert len(keys["0.2.0"]) == 12
    assert {number: added for number, added in new.items() if added} == {
        "0.4.0": {"auto_mapping", "revision"},
        "0.7.1": {"tokenizer_kwargs"},
        "0.17.1": {"modules_to_save"},
        "0.18.1": {"peft_version"},
    }
    assert set(peft_folders.BASES) == set(TaskType)
