# ruff: noqa: F401 - the imports are the names that the room offers
"""ipywidgets applications: each opens on a run's folder, "zoo:NAME" or a model, and leaves a figure in the notebook.

`widgets.open("zoo:tweets-seed0")` shows all that fit a prompt in tabs, `widgets.open()` a menu of the zoo.

frame, source  what they share
"""

from .ablation_board import AblationBoard
from .dashboard import TrainingDashboard
from .gamma import GammaSlider
from .interpolation import PromptInterpolation
from .neighbour_explorer import NeighbourExplorer
from .playground import Playground
from .workbench import Workbench, open
