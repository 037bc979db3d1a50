"""An interrupted notebook kernel: whatever `train` was doing, the model is usable and the run goes on."""

import os
import signal
import sys
import time

import pytest
import torch
from test_checkpoints import RUN, fresh, rows

from softprompt_lab import SoftPromptModel, saving, train, training
from softprompt_lab.runs import checkpoints
from softprompt_lab.runs.checkpoints import CHECKPOINT_NAME, load_checkpoint

ALL = RUN | {"steps": 8, "evaluate_every": 2, "patience": 3}


@pytest.fixture(autouse=True)
def interrupts_are_heard():
    """As in a kernel; a shell that runs the tests in the background has this process ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def unbroken():
    """A model, its prompt's start, and what a run that nothing stops makes of it: history, prompt, seconds."""
    model = fresh()
    start = model.prompt.detach().clone()
    train(model, rows(), **ALL)  # the first run of a model also finds out how it is best called
    model.prompt.data.copy_(start)
    began = time.perf_counter()
    history = train(model, rows(), **ALL)
    return model, start, history, model.prompt.detach().clone(), time.perf_counter() - began


def state_of(model: SoftPromptModel) -> tuple[dict[str, torch.Tensor], list]:
    """What a run has no business with: the base model's weights, and its flags, gradients, hooks and settings."""
    base = model.base_model
    weights = {name: value.clone() for name, value in base.state_dict().items()}
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    others = [[len(getattr(module, name)) for name in hooks] for module in base.modules()]
    others += [(each.requires_grad, each.grad is None) for each in base.parameters()]
    others += [
        base.training,
        base.config._attn_implementation,
        base.config.use_cache,
        torch.is_grad_enabled(),
    ]
    return weights, others


def same_state(model: SoftPromptModel, before: tuple[dict[str, torch.Tensor], list]) -> bool:
    """True when nothing of it has changed, by a bit."""
    weights, others = state_of(model)
    return others == before[1] and all(
        torch.equal(weights[name], value) for name, value in before[0].items()
    )


def interrupting(function, call: int):
    """The same function, with the kernel's interrupt in the middle of its n-th call."""
    count = 0

    def wrapped(*arguments, **keywords):
        nonlocal count
        count += 1
        if count == call:
            signal.raise_signal(signal.SIGINT)
        return function(*arguments, **keywords)

    return wrapped


PLACES = {
    "before the forward": (SoftPromptModel, "loss"),
    "before the update": (torch.nn.utils, "clip_grad_norm_"),
    "in the update": (torch.optim.AdamW, "step"),
    "in an evaluation": (training, "evaluate"),
    "while a checkpoint is made": (checkpoints, "save"),
    "while a checkpoint is written": (saving, "write_through"),
    "before a checkpoint is in its place": (os, "replace"),
    "after a checkpoint is in its place": (saving, "sync_folder"),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_interrupt_anywhere_leaves_a_usable_model(tmp_path, monkeypatch, unbroken, place):
    """Base model unchanged, training again works, and a resumed run ends as an unbroken one, bit for bit."""
    model, start, expected, prompt, _ = unbroken
    model.prompt.data.copy_(start)
    before = state_of(model)
    kept = {"checkpoint": tmp_path, "checkpoint_every": 1}
    with monkeypatch.context() as patch:
        owner, name = PLACES[place]
        patch.setattr(owner, name, interrupting(getattr(owner, name), call=3))
        with pytest.raises(KeyboardInterrupt):
            train(model, rows(), **ALL, **kept)
    assert same_state(model, before)
    assert not model.training
    assert load_checkpoint(tmp_path / CHECKPOINT_NAME)[1]["step"] in (2, 3, 5)
    assert os.listdir(tmp_path) == [CHECKPOINT_NAME]
    found = train(model, rows(), **ALL, **kept, resume=True)
    assert (found.losses, found.evaluations) == (expected.losses, expected.evaluations)
    assert torch.equal(model.prompt, prompt)
    assert len(train(model, rows(), **(RUN | {"steps": 1})).losses) == 1


@pytest.fixture
def interrupt_after():
    """A function that has the clock interrupt this process after so many seconds.

    Python ignores an exception in a destructor (`datasets.Dataset` has one): an interrupt that ends there comes again.
    """
    hooks = []  # pytest 8 sets its own for each test, and takes ours away with it

    def again(ignored) -> None:
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.001)
        else:
            hooks[0](ignored)

    def interrupt(seconds: float) -> None:
        if sys.unraisablehook is not again:
            hooks.append(sys.unraisablehook)
            sys.unraisablehook = again
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield interrupt
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    if sys.unraisablehook is again:
        sys.unraisablehook = hooks[0]


def test_interrupts_at_any_moment(unbroken, interrupt_after):
    """By the clock, wherever the run happens to be."""
    model, start, _, prompt, seconds = unbroken
    before = state_of(model)
    for number in range(6):
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012, it may come at once
            interrupt_after(seconds * (0.05 + 0.06 * number))
            train(model, rows(), **(ALL | {"steps": 1000}))
        assert same_state(model, before)
    model.prompt.data.copy_(start)
    train(model, rows(), **ALL)
    assert torch.equal(model.prompt, prompt)


def test_an_interrupt_that_a_destructor_ignores_comes_again(interrupt_after):
    """What the test above relies on."""

    class Deaf:
        def __del__(self):
            interrupt_after(0.001)
            time.sleep(60)

    with pytest.raises(KeyboardInterrupt):  # noqa: PT012, the second one comes behind the destructor
        Deaf()
        time.sleep(60)


# ------------------------------------------------------------------------------------------------------ a real kernel

SETUP = """
import signal, sys
import torch
from pathlib import Path
from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_base_model, load_task, train
torch.set_num_threads(1)
base, tokenizer = load_base_model("tiny")
weights = {name: value.clone() for name, value in base.state_dict().items()}
task, run = load_task("shop"), {"steps": 60, "batch_size": 4, "progress": False}
def fresh():
    torch.manual_seed(0)
    return SoftPromptModel(base, PromptTuningConfig(6), tokenizer=tokenizer)
model = fresh()
# An interrupt that ends in a destructor, where Python ignores it, comes again.
signal.signal(signal.SIGALRM, signal.default_int_handler)
sys.unraisablehook = lambda ignored: signal.setitimer(signal.ITIMER_REAL, 0.001)
"""
LONG = "train(model, task, **run, checkpoint='kept', checkpoint_every=1)"
AFTER = """
from softprompt_lab.runs.checkpoints import load_checkpoint
assert all(torch.equal(base.state_dict()[name], value) for name, value in weights.items())
step = load_checkpoint(Path("kept") / "checkpoint.safetensors")[1]["step"]
assert 1 <= step < 60, step
train(model, task, **run, checkpoint="kept", resume=True)
whole = fresh()
train(whole, task, **run)
assert torch.equal(model.prompt, whole.prompt)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_notebooks_kernel_is_interrupted(tmp_path):
    """Kernel > Interrupt Kernel while a cell trains; the next cells go on from the checkpoint."""
    manager, client = pytest.importorskip("jupyter_client.manager").start_new_kernel(
        cwd=str(tmp_path)
    )
    try:
        assert client.execute(SETUP, reply=True, timeout=120)["content"]["status"] == "ok"
        client.execute(LONG, stop_on_error=False)  # else the next cell may be aborted with it
        while not (tmp_path / "kept" / CHECKPOINT_NAME).exists():
            time.sleep(0.05)
        manager.interrupt_kernel()
        said = client.get_shell_msg(timeout=60)["content"]
        assert (said["status"], said.get("ename")) == ("error", "KeyboardInterrupt")
        said = client.execute(AFTER, reply=True, timeout=120)["content"]
        assert said["status"] == "ok", "\n".join(said["traceback"])
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
