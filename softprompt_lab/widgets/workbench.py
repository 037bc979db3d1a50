"""All widgets of one prompt in tabs, each made when its tab is opened, on one base model."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial

import ipywidgets

from ..model import SoftPromptModel
from ..runs import zoo
from ..runs.saved import SavedRun
from ..saving import load_adapter
from ..tasks import Task
from .ablation_board import AblationBoard
from .dashboard import TrainingDashboard
from .frame import Instrument, Page, alert, control, said
from .gamma import GammaSlider
from .interpolation import PromptInterpolation
from .neighbour_explorer import NeighbourExplorer
from .playground import Playground
from .source import Prompt, is_of_zoo, opened

FIRST = "tweets-seed0"  # of the menu


def open(prompt: Prompt | None = None, task: Task | None = None) -> "Workbench":
    """Return all widgets that fit a prompt, in tabs; without a prompt, with a menu of the zoo above them.

    All tabs show the prompt as it was when they were opened: what is trained in one is a copy.

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
        run = opened(prompt or f"{zoo.PREFIX}{FIRST}", task)
        self.menu = control(ipywidgets.Dropdown, "prompt", FIRST, options=zoo.names())
        self.tabs = ipywidgets.Tab()
        self.instruments: dict[str, Instrument] = {}
        self._makers: dict[str, Callable[[], Instrument]] = {}
        super().__init__([self.menu] * (prompt is None) + [self.tabs])
        self._offer(run)
        self.menu.observe(lambda change: self._choose(change["new"]), "value")
        self.tabs.observe(lambda _: self._make(), "selected_index")

    def _choose(self, name: str) -> None:
        """Close what is open on one prompt of the zoo, and open another."""
        for each in self.instruments.values():
            each.close()
        self.instruments, self._makers = {}, {}  # first, since tabs that change are asked for
        self.tabs.children = [said(f"Loading {name} …")]
        self.tabs.titles = [name]
        try:
            self._offer(opened(f"{zoo.PREFIX}{name}"))
        except Exception as error:  # whatever goes wrong belongs on the reader's screen
            self.tabs.children[0].value = alert(error)
        self._make()

    def _offer(self, run: SavedRun) -> None:
        """Make the tabs that fit a prompt, without their widgets."""
        found = makers(run)
        self.tabs.children = [ipywidgets.VBox([said("Computing …")]) for _ in found]
        self.tabs.titles, self.tabs.selected_index = list(found), 0
        self._makers = found

    def _make(self) -> None:
        """Make the widget of the open tab, where it is not there yet."""
        name = dict(enumerate(self._makers)).get(self.tabs.selected_index)
        if name in self.instruments:
            self.keep()
        elif name is not None:
            place = self.tabs.children[self.tabs.selected_index]
            try:
                made = self.instruments[name] = self._makers[name]()
            except Exception as error:  # whatever goes wrong belongs on the reader's screen
                place.children[0].value = alert(error)
                self.keep()
            else:
                made._holder = self
                place.children = [made]
                made.fill()  # which brings up to date what the notebook keeps

    def fill(self) -> None:
        """Make the first tab's widget, where none is there."""
        if not self.instruments:
            self._make()

    def still(self) -> str:
        """Return the open tab's picture, status and table."""
        name = dict(enumerate(self._makers)).get(self.tabs.selected_index)
        return self.instruments[name].still() if name in self.instruments else ""

    def close(self) -> None:
        """End what is running and take everything off the page."""
        for each in (*self.instruments.values(), self.menu):
            each.unobserve_all()
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
    if len(task.train):
        found["Training"] = partial(TrainingDashboard, replace(run, model=copy_of(run.model)))
    return found


def copy_of(model: SoftPromptModel) -> SoftPromptModel:
    """Return a model with prompts of its own on the same base model: what is trained changes no other tab."""
    return deepcopy(
        model, {id(model.base_model): model.base_model, id(model.tokenizer): model.tokenizer}
    )


def beside(run: SavedRun) -> tuple[list[str], list[str]]:
    """Return prompts of the zoo for the same task, base and length: from other seeds, and drawn towards a text."""
    seeds, drawn, base = [], [], run.model.base_model.name_or_path
    own = run.name if is_of_zoo(run) else None
    for name, record in zoo.records(run.task.name).items():
        config, prompt = load_adapter(zoo.folder(name))
        fits = prompt.shape == run.model.prompt.shape and config.base_model_name_or_path == base
        if not fits or name == own:
            continue
        if "towards" in record:
            drawn.append(zoo.PREFIX + name)
        elif "words" not in record and record["start"] == run.record.get("start"):
            seeds.append(zoo.PREFIX + name)
    return seeds, drawn
