"""A recorded step on fixed sizes: the unrecorded step's numbers; refused where they differ or nothing is gained.

A CPU records nothing, so the step itself is called again in place of a graph, on the same memory.
"""

import inspect

import pytest
import torch
from families import bloom, llama

from softprompt_lab.engine import costs, recording
from softprompt_lab.engine.packing import Example, Target
from softprompt_lab.engine.recording import recorded_backward, recorded_steps
from softprompt_lab.training import backward

ROWS = [
    Example([5, 6, 7], [Target.of([8, 9])]),
    Example([11, 12], [Target([13, 14, 15], [-100, 14, 15])]),
    Example([21] * 30, [Target.of([22])]),
]


def again(step):
    """Run once, as a recording does, and let the step be its own replay."""
    step()
    return step


@pytest.fixture(autouse=True)
def replays_take_no_time(monkeypatch):
    """Of the two that are timed the recording is the faster one."""
    timed = iter([1.0, 0.5] * 100)
    monkeypatch.setattr(recording, "_seconds", lambda function: next(timed))


def prompts_of(base, seed: int) -> list[torch.Tensor]:
    """Two prompts of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, 32, generator=generator).requires_grad_() for length in (3, 5)]


@pytest.mark.parametrize("row_tokens", [4096.0, 1.0])
def test_a_recording_gives_the_step_itself(row_tokens, monkeypatch):
    """For every row of its size, whatever it was recorded on: losses and gradients of two prompts."""
    monkeypatch.setattr(costs, "ROW_TOKENS", row_tokens)
    base = llama()
    for seed, order in enumerate((ROWS, ROWS[::-1])):
        ours, theirs = prompts_of(base, seed), prompts_of(base, seed)
        examples = [
            Example(row.context, row.targets, prompt=0 if number else 1)
            for number, row in enumerate(order)
        ]
        counted = [
            sum(len(t.supervised) for e in examples if e.prompt == k for t in e.targets)
            for k in range(2)
        ]
        weights = [1 / count for count in counted]
        expected = backward(base, theirs, examples)
        steps = recorded_steps(base, ours, examples, weights, again)
        losses = torch.zeros(2)
        for number, recorded, values in steps:
            loss, gradient = recorded(values)
            ours[number].backward(gradient)
            losses[number] += loss
        torch.testing.assert_close(losses, expected)
        for mine, right in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine.grad, right.grad, rtol=1e-4, atol=1e-6)


def test_wrong_numbers_are_not_recorded(caplog):
    """A replay that does nothing, or writes another gradient; a base model whose positions come from the mask."""

    def stale(step):
        step()
        return lambda: None

    def reversing(step):
        def replay():
            step()
            recording_of(step).gradient.mul_(-1)

        step()
        return replay

    def recording_of(step):
        return inspect.getclosurevars(inspect.unwrap(step)).nonlocals["self"]  # type checks wrap it

    prompts = prompts_of(llama(), 0)
    assert recorded_steps(llama(), prompts[:1], ROWS, [1.0], stale) is None
    with caplog.at_level("INFO"):
        assert recorded_steps(llama(), prompts[:1], ROWS, [1.0], reversing) is None
        assert recorded_steps(bloom(), prompts[:1], ROWS, [1.0], again) is None
    assert "LlamaForCausalLM recorded: errors" in caplog.text
    assert "BloomForCausalLM is not recorded" in caplog.text


def test_what_does_not_pay_or_is_too_long_is_not_recorded(monkeypatch):
    """Slower than the step itself; more text than is bound by launches; more sizes than are kept."""
    prompts = prompts_of(llama(), 0)[:1]
    long = [Example([5] * (recording.MOST_TOKENS + 1), [Target.of([6])])]
    assert recorded_steps(llama(), prompts, long, [1.0], again) is None
    with monkeypatch.context() as patch:
        patch.setattr(recording, "MOST_RECORDINGS", 0)
        assert recorded_steps(llama(), prompts, ROWS, [1.0], again) is None
    timed = iter([0.5, 1.0])
    monkeypatch.setattr(recording, "_seconds", lambda function: next(timed))
    assert recorded_steps(llama(), prompts, ROWS, [1.0], again) is None


def test_a_cpu_records_nothing():
    """The ordinary step, and no gradient before it."""
    prompts = prompts_of(llama(), 0)[:1]
    assert recorded_backward(llama(), prompts, ROWS, [1.0]) is None
    assert prompts[0].grad is None
