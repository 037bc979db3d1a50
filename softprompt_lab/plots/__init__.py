"""Every static figure of the course: plain arrays and tables in, a `Figure` with alt text out."""

from .figure import Animation, Figure
from .inputs import concatenation_diagram, letters_figure
from .lens import attention_bias_figure, attention_mass_figure, lens_figure, read_back_figure
from .neighbours import (
    cluster_purity_figure,
    metric_agreement_figure,
    neighbour_figure,
    neighbour_scores,
    norms_figure,
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
    engine_ratios,
    training_curve,
    wording_spread,
)
from .trajectories import (
    animate_trajectory,
    movement_figure,
    trajectory_figure,
    trajectory_words_figure,
)
from .transfer import association_figure, similarity_matrices, transfer_curves

__all__ = [
    "Animation",
    "Figure",
    "ablation_figure",
    "accuracy_comparison",
    "animate_trajectory",
    "answer_shares",
    "association_figure",
    "attention_bias_figure",
    "attention_mass_figure",
    "board_figure",
    "cluster_purity_figure",
    "concatenation_diagram",
    "engine_ratios",
    "gap_figure",
    "interpolation_figure",
    "lens_figure",
    "letters_figure",
    "metric_agreement_figure",
    "movement_figure",
    "neighbour_figure",
    "neighbour_scores",
    "norms_figure",
    "norms_histogram",
    "read_back_figure",
    "scaling_figure",
    "search_figure",
    "shuffling_figure",
    "similarity_matrices",
    "training_curve",
    "trajectory_figure",
    "trajectory_words_figure",
    "transfer_curves",
    "wayward_figure",
    "wording_spread",
]
