"""What the benchmarks time is the same step everywhere: equal losses, equal rows; memory is read where it can be."""

import sys
from pathlib import Path

import pytest
import torch
from families import bloom, llama

from softprompt_lab.cli import speed

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import measuring


@pytest.mark.parametrize("build", [llama, bloom])
def test_the_steps_that_are_timed_have_the_same_loss(build):
    """Same rows, same prompt: the speeds are of the same work."""
    pairs = measuring.random_pairs(99, rows=5, length=8)
    losses = [step() for step in speed.step_functions(build(), 4, pairs).values()]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_rows_are_of_the_length_that_was_asked_for():
    """On average, from half to one and a half."""
    pairs = measuring.random_pairs(1000, rows=32, length=30)
    lengths = [len(context) for context, _ in pairs]
    assert sum(lengths) / len(lengths) == pytest.approx(30, abs=0.5)
    assert (min(lengths), max(lengths)) == (15, 45)
    assert measuring.random_pairs(1000, 32, 30) == pairs
    assert [len(context) for context, _ in measuring.random_pairs(1000, 1, 30)] == [30]


def test_functions_take_turns():
    """Warm-up rounds are not counted."""
    called = []
    found = speed.alternate(
        {"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=2
    )
    assert called == ["a", "b"] * 3
    assert list(found) == ["a", "b"]
    assert all(0 < seconds < 1 for seconds in found.values())


def test_the_floor_counts_unique_tokens():
    """Twice the tokens, twice the floor."""
    model, pairs = llama(), measuring.random_pairs(99, rows=4, length=8)
    tokens = 4 + sum(len(context) + len(label) - 1 for context, label in pairs)
    doubled = measuring.floor_operations(model, 4 + tokens, pairs)
    assert doubled == pytest.approx(2 * measuring.floor_operations(model, 4, pairs))


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_the_peak_of_memory_is_what_a_call_took():
    """64 MB that are gone again afterwards."""
    peak = measuring.peak_memory(lambda: torch.ones(16 * 2**20).sum())
    assert 60e6 < peak < 120e6
