"""All widgets of one prompt in tabs, each made when its tab is opened, on one base model."""

from collections.abc import Callable
from functools import partial

import ipywidgets

from ..runs import zoo
from ..runs.saved import SavedRun
from ..saving import load_adapter
from ..tasks import Task
from .ablation_board import AblationBoard
from .dashboard import TrainingDashboard
from .frame import Instrument, Page, control
from .gamma import GammaSlider
from .interpolation import PromptInterpolation
from .neighbour_explorer import NeighbourExplorer
from .playground import Playground
from .source import Prompt, opened

FIRST = "tweets-seed0"  # of the menu


def open(prompt: Prompt | None = None, task: Task | None = None) -> "Workbench":
    """Return all widgets that fit a prompt, in tabs; without a prompt, with a menu of the zoo above them.

    Args:
        prompt: a run's folder, "zoo:NAME", a run or a model.
        task: of a model; a run has its own.

    Example:
        >>> from softprompt_lab import widgets
        >>> widgets.open("zoo:tweets-seed0")  # doctest: +SKIP
    """
    return Workbench(prompt, task)


class Workbench(Page):
    """Tabs, one a widget; see `open`. `instruments` are those that were made, by the names of their tabs."""

    def __init__(self, prompt: Prompt | None = None, task: Task | None = None) -> None:
        self.menu = control(ipywidgets.Dropdown, "prompt", FIRST, options=zoo.names())
        self.tabs = ipywidgets.Tab()
        self.instruments: dict[str, Instrument] = {}
        self._makers: dict[str, Callable[[], Instrument]] = {}
        self._live = False
        super().__init__([self.menu] * (prompt is None) + [self.tabs])
        self._choose(prompt or f"{zoo.PREFIX}{FIRST}", task)
        self.menu.observe(lambda change: self._choose(f"{zoo.PREFIX}{change['new']}"), "value")
        self.tabs.observe(lambda _: self._make(), "selected_index")

    def _choose(self, prompt: Prompt, task: Task | None = None) -> None:
        """Offer the tabs that fit a prompt; the widgets of the one before are closed."""
        for each in self.instruments.values():
            each.close()
        self.instruments = {}
        self._makers = makers(opened(prompt, task))
        self.tabs.children = [ipywidgets.VBox() for _ in self._makers]
        self.tabs.titles = list(self._makers)
        self.tabs.selected_index = 0
        if self._live:
            self._make()

    def _make(self) -> None:
        """Make the widget of the open tab, where it is not there yet."""
        place = self.tabs.selected_index
        if place is None:  # while the tabs change
            return
        name = list(self._makers)[place]
        if name not in self.instruments:
            made = self.instruments[name] = self._makers[name]()
            made._holder = self
            self.tabs.children[place].children = [made]
            made.fill()
        self.keep()

    def fill(self) -> None:
        """Make the first tab's widget."""
        self._live = True
        self._make()

    def still(self) -> str:
        """Return the open tab's picture, status and table."""
        name = list(self._makers)[self.tabs.selected_index]
        return self.instruments[name].still() if name in self.instruments else ""

    def close(self) -> None:
        """End what is running and take everything off the page."""
        for each in self.instruments.values():
            each.close()
        super().close()


def makers(run: SavedRun) -> dict[str, Callable[[], Instrument]]:
    """Return what makes each widget that fits a run, by the name of its tab."""
    task, found = run.task, {}
    if task is not None and task.labels:
        found["Playground"] = partial(Playground, run)
    found["Nearest tokens"] = partial(NeighbourExplorer, run)
    if task is None or not len(task.validation):
        return found
    found["Ablation"] = partial(AblationBoard, run)
    seeds, drawn = beside(run)
    if seeds:
        found["Interpolation"] = partial(PromptInterpolation, run, seeds[0])
    if drawn and run.free:
        found["Drawn to a text"] = partial(GammaSlider, run)
    found["Training"] = partial(TrainingDashboard, run)
    return found


def beside(run: SavedRun) -> tuple[list[str], list[str]]:
    """Return the prompts of the zoo of the same task and shape: from other seeds, and drawn towards a text."""
    seeds, drawn = [], []
    for name, record in zoo.records(run.task.name).items():
        shape = load_adapter(zoo.folder(name))[1].shape
        if name == run.name or shape != run.model.prompt.shape:
            continue
        if "towards" in record:
            drawn.append(zoo.PREFIX + name)
        elif "words" not in record and record["start"] == run.record.get("start"):
            seeds.append(zoo.PREFIX + name)
    return seeds, drawn
