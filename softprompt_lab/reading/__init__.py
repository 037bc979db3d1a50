# ruff: noqa: F401 - the imports are the names that the room offers
"""What a prompt says and does, each instrument with its controls in the same table.

comparison    several evaluations of the same rows: changes with intervals, votes
neighbours    the nearest tokens of every virtual token, and norms
search        how they are found, exactly, in a large vocabulary
trajectories  the way through training, beside a random walk
projection    the prompt as words: the discretisation gap, PEZ, prompts drawn towards a text
probes        ablation, shuffling, interpolation, scaling
lens          what every layer's states would predict: the logit lens
attention     how much the text looks at the prompt, and what that adds to a head's output
readback      what the frozen model says when the prompt is read back to it
transfer      prompts of other seeds and tasks beside each other, in vectors and in behaviour
controls      what stands beside a prompt: start, random vectors, ordinary words
layers        where a base model keeps its last layer, its attention and its unembedding
wayward       trainings of prompts that look like a text, one for each weight
"""

from .attention import SplitAttention, attention_as_bias, attention_mass, split_attention
from .comparison import compared, evaluate_each, keeping, levels, vote
from .lens import logit_lens
from .neighbours import (
    nearest_tokens,
    nearest_tokens_of,
    neighbour_table,
    norms,
    norms_table,
    random_control,
    random_words,
    readable_token,
)
from .probes import (
    ablation,
    barrier,
    between,
    interpolation,
    orders_of,
    random_end,
    scaling,
    shuffling,
    take_out,
)
from .projection import OntoWords, TowardsText, discretisation_gap, discretised, wayward_table
from .readback import read_back
from .search import METRICS, nearest
from .trajectories import (
    Projection,
    project,
    random_walk_control,
    similarity_to_start,
    trajectories_of,
    trajectory,
)
from .transfer import (
    by_relation,
    next_token_distributions,
    next_token_similarity,
    vector_similarity,
)
