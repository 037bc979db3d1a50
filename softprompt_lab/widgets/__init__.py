# ruff: noqa: F401 - the imports are the names that the room offers
"""ipywidgets applications, each with a static figure for pages without a kernel.

frame  what they share
"""

from .ablation_board import AblationBoard
from .dashboard import TrainingDashboard
from .gamma import GammaSlider
from .interpolation import PromptInterpolation
from .neighbour_explorer import NeighbourExplorer
from .playground import Playground
