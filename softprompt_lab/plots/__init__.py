# ruff: noqa: F401 - the imports are the names that the room offers
"""Every static figure of the course: plain arrays and tables in, a `Figure` with alt text out."""

from .accuracies import FEWEST_ROWS
from .charts import curves_figure
from .figure import Figure
from .inputs import concatenation_diagram, letters_figure
from .lens import attention_bias_figure, attention_mass_figure, lens_figure, read_back_figure
from .neighbours import (
    marks_figure,
    neighbour_figure,
    neighbour_scores,
    norms_histogram,
)
from .probes import (
    ablation_figure,
    board_figure,
    interpolation_figure,
    scaling_figure,
    shuffling_figure,
)
from .projection import gap_figure, search_figure, wayward_figure
from .results import (
    accuracy_comparison,
    answer_shares,
    margins_figure,
    training_curve,
    wording_spread,
)
from .trajectories import (
    animate_trajectory,
    movement_figure,
    trajectory_figure,
    trajectory_words_figure,
)
from .transfer import similarity_matrices
