"""The machine's rate is measured, and decides the type in which the base model is kept."""

import time

import pytest
import torch
from families import VOCABULARY, WIDTH, llama

from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_base_model
from softprompt_lab.bases import machine
from softprompt_lab.batch import Example, Target


def test_the_rate_is_that_of_a_matrix_product():
    """Within a factor of a product timed here, and measured once."""
    rate = machine.operations_per_second("cpu", torch.float32)
    side = machine.SIDE["cpu"]
    a = torch.ones(side, side)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - began)
    assert 0.1 < rate * min(seconds) / (2 * side**3) < 10
    measured = machine.operations_per_second.cache_info().misses
    assert machine.operations_per_second("cpu", torch.float32) == rate
    assert machine.operations_per_second.cache_info().misses == measured


@pytest.mark.parametrize(
    ("speed_up", "expected"), [(3.0, torch.bfloat16), (1.1, torch.float32), (0.01, torch.float32)]
)
def test_bfloat16_is_taken_where_it_is_clearly_faster(monkeypatch, speed_up, expected):
    """And the base model is loaded in it when the fastest is asked for; the prompt stays in float32."""
    rates = {torch.float32: 1e9, torch.bfloat16: speed_up * 1e9}
    monkeypatch.setattr(machine, "operations_per_second", lambda device, dtype: rates[dtype])
    assert machine.fastest_dtype("cpu") == expected
    base, tokenizer = load_base_model("tiny", dtype="fastest")
    assert base.dtype == expected
    assert (
        SoftPromptModel(base, PromptTuningConfig(), tokenizer=tokenizer).prompt.dtype
        == torch.float32
    )
    assert load_base_model("tiny")[0].dtype == torch.float32


def test_a_base_model_in_bfloat16_trains_a_float32_prompt():
    """Loss and gradient near those in float32, the gradient in float32."""
    start = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0)) * 0.2
    rows = [
        Example([5, 6, 7], [Target.of([8, 9])]),
        Example([VOCABULARY - 1, 11], [Target.of([12])]),
    ]
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = SoftPromptModel(
            llama().to(dtype), PromptTuningConfig(num_virtual_tokens=4), start=start
        )
        loss = model.engine.example_loss(model.base_model, [model.prompt], rows)
        loss.backward()
        gradient = model.prompts["default"].embedding.weight.grad
        assert loss.dtype == gradient.dtype == torch.float32
        found[dtype] = (loss, gradient)
    (exact, direction), (rounded, near) = found.values()
    assert abs(rounded - exact) < 0.02 * exact
    assert torch.cosine_similarity(direction.flatten(), near.flatten(), dim=0) > 0.99
