"""The training dashboard: start, pause, resume and stop a run, and watch it, while the kernel answers other cells."""

import time
from copy import copy
from dataclasses import replace
from threading import Event, Thread
from typing import Any
from weakref import WeakSet

import ipywidgets
import pandas as pd
import torch

from .. import plots
from ..reading import levels, nearest_tokens_of
from ..tasks import Task
from ..training import TrainingHistory, train
from .frame import Content, Instrument, button, control, neighbour_tables, running_loop
from .source import Prompt, opened, with_rows

BETWEEN_PICTURES = 1.0  # seconds: a picture takes about a tenth of one
BREATH = 0.002  # seconds between two steps, in which a waiting cell gets its turn of the base model
GROWING = ("losses", "penalties", "evaluations")  # of a history
PATIENCE = 120.0  # seconds to wait for the step that is being computed, when a run is to end
_MADE: WeakSet["TrainingDashboard"] = WeakSet()


class TrainingDashboard(Instrument):
    """Train the active prompt of a model in a thread, and show loss, accuracy and neighbours as it goes.

    "Start" begins at the prompt before any training, so that two runs can be compared; "Pause" holds the run after the
    step it is in and "Resume" goes on; "Stop" ends it, and the model keeps the prompt as it is then. `history` is that
    of the latest run. An error in training is shown in the widget.

    One dashboard trains a model at a time: a new one ends the run of the one before, and begins where that one began.

    Args:
        prompt: a model, which is trained in place; cells that call it meanwhile wait for the step that is being
            computed. A run's folder, "zoo:NAME" or a run is trained anew from its start.
        task: of a model; a run has its own. Trained on its training split; accuracy and loss are measured on its
            validation split.
        validation_rows: measured at most, since a pause waits for an evaluation too.
        settings: what `train` takes: steps, batch_size, evaluate_every, seed, ...

    Example:
        >>> from softprompt_lab.widgets import TrainingDashboard
        >>> TrainingDashboard("zoo:tweets-seed0", steps=50)  # doctest: +SKIP
    """

    def __init__(
        self,
        prompt: Prompt,
        task: Task | None = None,
        *,
        steps: int = 100,
        learning_rate: float = 0.03,
        validation_rows: int = 24,
        **settings: Any,
    ) -> None:
        run = opened(prompt, task)
        task, self.model = with_rows(run, "train"), run.model
        validation = task.validation.select(range(min(validation_rows, len(task.validation))))
        self._task = replace(task, validation=validation)
        self._settings = ({"evaluate_every": 10} if len(validation) else {}) | settings
        now = self.model.prompt.detach().cpu().clone()
        self._start = run.snapshots.get(0, now).to(now)
        self._note = self._take_over()
        self.history: TrainingHistory | None = None
        self._thread: Thread | None = None
        self._go, self._ended = Event(), Event()
        self._last, self._waited, self._error, self._stopping = 0.0, 0.0, None, False
        self.start = button("Start", self.begin, button_style="success")
        self.pause = button("Pause", self.pause_or_resume)
        self.stop = button("Stop", self.end, button_style="danger")
        self.steps = control(ipywidgets.BoundedIntText, "steps", steps, min=1, max=100_000)
        limits = {"min": 1e-6, "max": 10.0, "step": 0.005}
        self.learning_rate = control(
            ipywidgets.BoundedFloatText, "learning rate", learning_rate, **limits
        )
        self.progress = control(ipywidgets.IntProgress, "step", 0, max=steps)
        buttons = [self.start, self.pause, self.stop]
        super().__init__([], [*buttons, self.steps, self.learning_rate, self.progress])
        _MADE.add(self)

    # ------------------------------------------------------------------------------------------------- the run

    @property
    def running(self) -> bool:
        """True from the start until the run has ended, also while it is paused."""
        return self._thread is not None and not self._ended.is_set()

    @property
    def state(self) -> str:
        """Return "Running", "Paused", or where no run is on its way, "Ended"."""
        if not self.running:
            return "Ended"
        return "Running" if self._go.is_set() else "Paused"

    def _take_over(self) -> str:
        """End the runs of other dashboards on this model; return what there is to say of it."""
        said = ""
        for other in [each for each in _MADE if each is not self and each.model is self.model]:
            if other.history is not None:
                self._start = other._start
            if other.running:
                other._note = "Another dashboard took over. "
                other.end()
                other.wait(PATIENCE)
                said = "The run of the dashboard before this one was ended. "
        return said

    def begin(self) -> None:
        """Start a run from the first prompt; nothing happens while one is running."""
        if self.running:
            return
        self._note = self._take_over()
        with torch.no_grad():
            self.model.prompt.copy_(self._start)
        self.history, self._error, self._stopping = None, None, False
        self._last = self._waited = 0.0
        self._ended.clear()
        self._go.set()
        self._loop = running_loop()  # None: nobody sees the picture before `wait`
        self._thread = Thread(target=self._train, daemon=True)
        self.refresh()
        self._thread.start()

    def pause_or_resume(self) -> None:
        """Pause after the step that is being computed, or go on."""
        if self._go.is_set():
            self._go.clear()
        else:
            self._go.set()
        self.refresh()

    def end(self) -> None:
        """Stop after the step that is being computed; the model keeps the prompt as it is then."""
        self._stopping = True
        self._go.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the run's end and show it; False if it had not come after so many seconds."""
        ended = self._thread is None or self._ended.wait(seconds)
        self.refresh()
        return ended

    def _train(self) -> None:
        """The run, in its own thread; what the page shows is changed by the kernel's thread alone."""
        settings = {"steps": self.steps.value, "learning_rate": self.learning_rate.value}
        settings |= self._settings | {"progress": False, "on_step": self._after_step}
        try:
            history = train(self.model, self._task, **settings)
            history.seconds -= self._waited
            self.history = history
        except Exception as error:  # shown in the widget
            self._error = error
        finally:
            self._ended.set()
            self.post()

    def _after_step(self, history: TrainingHistory) -> bool:
        """Keep what there is to see, wait while paused, and say whether to stop."""
        seen = copy(history)  # the page reads it while training goes on
        for name in GROWING:
            setattr(seen, name, list(getattr(history, name)))
        seen.seconds -= self._waited
        self.history = seen
        paused = not self._go.is_set()
        if paused or time.monotonic() - self._last > BETWEEN_PICTURES:
            self._last = time.monotonic()
            self.post()
        began = time.perf_counter()
        self._go.wait()
        self._waited += time.perf_counter() - began
        time.sleep(BREATH)
        return self._stopping

    # -------------------------------------------------------------------------------------------------- the page

    def refresh(self) -> None:
        """Offer what can be done now, and show the picture."""
        running = self.running
        self.start.disabled = self.steps.disabled = self.learning_rate.disabled = running
        self.pause.disabled = self.stop.disabled = not running
        self.stop.button_style, self.start.button_style = (
            ("danger", "") if running else ("", "success")
        )
        self.pause.description = "Resume" if self.state == "Paused" else "Pause"
        self.progress.max = self.steps.value
        self.progress.value = len(self.history.losses) if self.history else 0
        super().refresh()

    def content(self) -> Content:
        """Return the curves, and each virtual token's nearest word beside those of its start and of a random vector."""
        if self._error is not None:
            raise self._error
        history = self.history
        if history is None:
            state = "Running, no step is done yet." if self.running else "Not started."
            return Content(
                self._note + state, plots.neighbour_figure(self.neighbours(3), tokens=12)
            )
        words = f"{self._note}{self.state} at step {len(history.losses)}: loss {history.losses[-1]:.3f} nats a token"
        if history.evaluations:
            last = history.evaluations[-1]
            words += f", accuracy {last['accuracy']:.0%} at step {last['step']} on {len(self._task.validation)} rows"
        words += f"; {history.seconds / len(history.losses):.2f} s a step."
        majority = levels(self._task, "validation")["majority"]
        return Content(words, history.plot(majority), neighbour_tables(self.neighbours()))

    def neighbours(self, k: int = 1) -> dict[str, pd.DataFrame]:
        """Return the nearest words to the prompt now, to its start, and to random vectors."""
        prompts = {"now": self.model.prompt.detach().cpu().clone(), "at the start": self._start}
        words, tokenizer = self.model.word_embeddings.detach().cpu(), self.model.tokenizer
        table = nearest_tokens_of(prompts, words, tokenizer, k)
        return dict(iter(table.groupby("kind", sort=False)))

    def close(self) -> None:
        """End the run and its thread, then take everything off the page."""
        if getattr(self, "_thread", None) is not None:
            self.end()
            self._loop = None
            self._thread.join(PATIENCE)
        super().close()
