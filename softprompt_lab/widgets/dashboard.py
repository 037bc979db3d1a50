"""The training dashboard: start, pause, resume and stop a run, and watch it, while the kernel answers other cells."""

import asyncio
import time
from dataclasses import replace
from threading import Event, Thread
from typing import Any, NamedTuple

import ipywidgets
import pandas as pd
import torch
from jaxtyping import Float

from .. import plots
from ..model import SoftPromptModel
from ..reading import nearest_tokens, random_control
from ..tasks import LABEL_COLUMN, Task
from ..training import TrainingHistory, train
from .frame import Content, Instrument, as_table, button, control

BETWEEN_PICTURES = 1.0  # seconds: a picture takes about a tenth of one
BREATH = 0.002  # seconds between two steps, in which a waiting cell gets its turn of the base model
PATIENCE = 120.0  # seconds that `close` waits for the step that is being computed


class Seen(NamedTuple):
    """A run as it was after a step; the training thread makes it, the widget shows it."""

    losses: list[float]
    evaluations: list[dict[str, float]]
    prompt: Float[torch.Tensor, "P D"]
    seconds: float


class TrainingDashboard(Instrument):
    """Train the active prompt of a model in a thread, and show loss, accuracy and neighbours as it goes.

    "Start" begins at the prompt that the model had when the dashboard was made, so that two runs can be compared;
    "Pause" holds the run after the step it is in and "Resume" goes on; "Stop" ends it, and the model keeps the prompt
    as it is then. `history` is that of the latest run. An error in training is shown in the widget.

    Args:
        model: it is trained in place. Cells that call it meanwhile wait for the step that is being computed.
        task: trained on its training split; accuracy and loss are measured on its validation split.
        validation_rows: measured at most, since a pause waits for an evaluation too.
        settings: what `train` takes: steps, batch_size, evaluate_every, seed, ...
    """

    def __init__(
        self,
        model: SoftPromptModel,
        task: Task,
        *,
        steps: int = 100,
        learning_rate: float = 0.03,
        evaluate_every: int | None = 10,
        validation_rows: int = 24,
        **settings: Any,
    ) -> None:
        validation = task.validation.select(range(min(validation_rows, len(task.validation))))
        self.model, self._task = model, replace(task, validation=validation)
        self._settings = {"evaluate_every": evaluate_every} | settings
        commonest = pd.Series(task.train[LABEL_COLUMN]).mode().iloc[0]
        self._majority = list(validation[LABEL_COLUMN]).count(commonest) / max(1, len(validation))
        self._start = model.prompt.detach().cpu().clone()
        self.history: TrainingHistory | None = None
        self._seen: Seen | None = None
        self._thread: Thread | None = None
        self._go, self._ended = Event(), Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last, self._error, self._waiting, self._stopping = 0.0, None, False, False
        self.start = button("Start", self.begin, button_style="success")
        self.pause = button("Pause", self._pause_or_resume)
        self.stop = button("Stop", self.end, button_style="danger")
        self.steps = control(ipywidgets.BoundedIntText, "steps", steps, min=1, max=100_000)
        limits = {"min": 1e-6, "max": 10.0, "step": 0.005}
        self.learning_rate = control(
            ipywidgets.BoundedFloatText, "learning rate", learning_rate, **limits
        )
        self.progress = control(ipywidgets.IntProgress, "step", 0, max=steps)
        self._enable()
        buttons = [self.start, self.pause, self.stop]
        super().__init__([*buttons, self.steps, self.learning_rate, self.progress], watched=[])

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

    def begin(self) -> None:
        """Start a run from the first prompt; nothing happens while one is running."""
        if self.running:
            return
        with torch.no_grad():
            self.model.prompt.copy_(self._start)
        self._seen, self._error, self._last, self._stopping = None, None, 0.0, False
        self._ended.clear()
        self._go.set()
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None  # no kernel: nobody sees the picture before `wait`
        chosen = {"steps": self.steps.value, "learning_rate": self.learning_rate.value}
        settings = chosen | self._settings
        self._thread = Thread(target=self._train, args=(settings,), daemon=True)
        self._thread.start()
        self._show()

    def hold(self) -> None:
        """Pause after the step that is being computed."""
        if self.running:
            self._go.clear()
            self._show()

    def go_on(self) -> None:
        """Resume a run that is paused."""
        if self.running:
            self._go.set()
            self._show()

    def _pause_or_resume(self) -> None:
        """Do what the button in the middle offers."""
        if self._go.is_set():
            self.hold()
        else:
            self.go_on()

    def end(self) -> None:
        """Stop after the step that is being computed; the model keeps the prompt as it is then."""
        self._stopping = True
        self._go.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the run's end and show it; False if it had not come after so many seconds."""
        ended = self._thread is None or self._ended.wait(seconds)
        if ended:
            self._show()
        return ended

    def _train(self, settings: dict[str, Any]) -> None:
        """The run, in its own thread; what the page shows is changed by the kernel's thread alone."""
        try:
            self.history = train(
                self.model, self._task, progress=False, on_step=self._after_step, **settings
            )
        except Exception as error:  # shown in the widget
            self._error = error
        finally:
            self._ended.set()
            self._post()

    def _after_step(self, history: TrainingHistory) -> bool:
        """Note what there is to see, wait while paused, and say whether to stop."""
        self.history = history
        prompt = self.model.prompt.detach().cpu().clone()
        self._seen = Seen(list(history.losses), list(history.evaluations), prompt, history.seconds)
        paused = not self._go.is_set()
        if paused or time.monotonic() - self._last > BETWEEN_PICTURES:
            self._last = time.monotonic()
            self._post()
        self._go.wait()
        time.sleep(BREATH)
        return self._stopping

    def _post(self) -> None:
        """Ask the kernel's thread for a picture, unless one is asked for already."""
        if self._loop is not None and not self._loop.is_closed() and not self._waiting:
            self._waiting = True
            self._loop.call_soon_threadsafe(self._show)

    # -------------------------------------------------------------------------------------------------- the page

    def _show(self) -> None:
        """Refresh buttons, bar and picture."""
        self._waiting = False
        self._enable()
        self.refresh()

    def _enable(self) -> None:
        """Offer what can be done now."""
        running = self.running
        self.start.disabled = self.steps.disabled = self.learning_rate.disabled = running
        self.pause.disabled = self.stop.disabled = not running
        self.pause.description = "Resume" if self.state == "Paused" else "Pause"
        self.progress.max = self.steps.value
        self.progress.value = len(self._seen.losses) if self._seen else 0

    def content(self) -> Content:
        """Return the curves, and each virtual token's nearest word beside those of its start and of a random vector."""
        if self._error is not None:
            raise self._error
        if self._seen is None:
            state = "Running, no step is done yet." if self.running else "Not started."
            return Content(state, self._first_figure())
        seen = self._seen
        words = f"{self.state} at step {len(seen.losses)}: loss {seen.losses[-1]:.3f} nats a token"
        if seen.evaluations:
            last = seen.evaluations[-1]
            words += f", accuracy {last['accuracy']:.0%} at step {last['step']} on {len(self._task.validation)} rows"
        words += f"; {seen.seconds / len(seen.losses):.2f} s a step."
        figure = plots.training_curve(seen.losses, seen.evaluations, majority=self._majority)
        return Content(words, figure, as_table(self.neighbours(), "nearest word"))

    def neighbours(self) -> pd.DataFrame:
        """Return each virtual token's nearest word now, at the start, and that of a random vector of its length."""
        prompt = self._start if self._seen is None else self._seen.prompt
        vectors = {"now": prompt, "at the start": self._start}
        frames = self._nearest(vectors | {"random vector": random_control(prompt)}, 1)
        words = {
            name: [f"{row.token} {row.score:.2f}" for row in frame.itertuples()]
            for name, frame in frames.items()
        }
        return pd.DataFrame(words).T

    def _nearest(self, vectors: dict[str, torch.Tensor], k: int) -> dict[str, pd.DataFrame]:
        """Return the nearest words to each of several prompts."""
        words, tokenizer = self.model.word_embeddings.detach().cpu(), self.model.tokenizer
        return {name: nearest_tokens(each, words, tokenizer, k) for name, each in vectors.items()}

    def _first_figure(self) -> plots.Figure:
        """Return what there is to see before the first step: the start, beside random vectors."""
        vectors = {"the start": self._start, "random vectors": random_control(self._start)}
        return plots.neighbour_figure(self._nearest(vectors, 3))

    def close(self) -> None:
        """End the run and its thread, then take everything off the page."""
        if getattr(self, "_thread", None) is not None:
            self.end()
            self._loop = None
            self._thread.join(PATIENCE)
        super().close()
