"""Several processes end with the prompt of one; a real `accelerate launch` on the CPU."""

import csv
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import accelerate
import pytest
import torch
from families import save_byte_model

from softprompt_lab import (
    LabError,
    PromptTuningConfig,
    SoftPromptModel,
    distributed,
    load_base_model,
)
from softprompt_lab.engine.packing import Example, Target
from softprompt_lab.training import backward

TEXTS = [
    f"{adjective} {noun}"
    for adjective in ("good", "bad")
    for noun in ("cup", "pan", "mat", "hat", "toy", "pen")
]


def test_alone_nothing_is_shared(monkeypatch):
    """One process has all rows, and each of three has its third."""
    rows = list(range(7))
    assert distributed.share(rows) == rows
    assert distributed.is_main()
    parts = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "processes", lambda rank=rank: (rank, 3))
        parts.append(distributed.share(rows))
        assert distributed.is_main() == (rank == 0)
    assert sorted(row for part in parts for row in part) == rows


def test_a_base_model_spread_over_memory_and_disk_gives_the_same_numbers(tmp_path):
    """One layer is offloaded to files: loss, gradient and generated tokens are those of the model in one piece."""
    base = save_byte_model(tmp_path / "base")
    parts = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
    parts |= {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    found = []
    for options in ({}, {"device_map": parts, "offload_folder": tmp_path / "offload"}):
        model, tokenizer = load_base_model(base, **options)
        soft = SoftPromptModel(
            model, PromptTuningConfig(num_virtual_tokens=4), tokenizer=tokenizer, start=start(model)
        )
        rows = [Example([5, 6, 7], [Target.of([8, 9])]), Example([70, 11], [Target.of([12])])]
        (loss,) = backward(model, [soft.prompt], rows)
        ids = torch.tensor([[5, 6, 7, 8]])
        found.append(
            (
                loss,
                soft.prompts["default"].embedding.weight.grad,
                soft.generate(ids, max_new_tokens=5),
            )
        )
    assert any(weight.is_meta for weight in model.parameters())  # it really is elsewhere
    for whole, spread in zip(*found, strict=True):
        torch.testing.assert_close(whole, spread)


def start(model) -> torch.Tensor:
    """Four words of the model."""
    return model.get_input_embeddings().weight[10:14].detach().clone()


SCRIPT = """
import json, pathlib, sys, torch
from softprompt_lab import LabError, PromptTuningConfig, SoftPromptModel, distributed, load_base_model, load_task, train
base, data, folder = sys.argv[1:]
model, tokenizer = load_base_model(base)
torch.manual_seed(distributed.processes()[0])
soft = SoftPromptModel(model, PromptTuningConfig(num_virtual_tokens=4), tokenizer=tokenizer)
started = soft.prompt.tolist()
history = train(soft, load_task(data), steps=3, batch_size=1, progress=False, evaluate_every=1, patience=1)
found = {"process": distributed.processes(), "start": started, "losses": history.losses, "prompt": soft.prompt.tolist()}
pathlib.Path(folder, f"{distributed.processes()[0]}.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_processes_that_start_from_different_prompts_agree(tmp_path):
    """The main process's start is everyone's; one row in a batch leaves the other process without any."""
    base, data, script = (
        save_byte_model(tmp_path / "base"),
        tmp_path / "texts.csv",
        tmp_path / "script.py",
    )
    script.write_text(SCRIPT)
    with open(data, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("text", "label"), *((text, text.split()[0]) for text in TEXTS)]
        )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(script),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, str(base), str(data), str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert (one["process"], two["process"]) == ([0, 2], [1, 2])
    assert one["start"] != two["start"]
    assert one["losses"] == two["losses"]
    assert one["prompt"] == two["prompt"]


def test_processes_that_do_not_find_each_other_are_an_error(monkeypatch):
    """Not a silent training on a part of the rows."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "PartialState", lambda cpu: SimpleNamespace(num_processes=1))
    distributed._state.cache_clear()
    try:
        with pytest.raises(LabError, match="2 processes were launched and Accelerate joined 1"):
            distributed.share([1, 2])
    finally:
        distributed._state.cache_clear()
