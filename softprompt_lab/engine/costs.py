"""What a batch costs on each way through a base model, counted in operations: which way and which row length to take.

A token passes every weight of the layers once. A token that looks at another costs a little in every layer, so a long
packed row costs its length squared. A call has a cost of its own: all weights are read from memory, however few tokens
there are, and every layer is launched.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import nn

from .gradient_checkpointing import checkpointed_layers

READ_TOKENS = 40  # reading a weight takes as long as multiplying it with so many tokens (measured: 30 to 50 on a CPU)
ROW_TOKENS = (
    4096.0  # of text in a packed row at most, for memory: a dense mask has so many squared entries
)
OVERHEAD = 0.1  # of a row without a dense mask: its prompt and its call; longer rows gain little and take more memory
# A layer's few dozen launches, in the operations of a matrix product that would take as long. Not measured on this
# machine: how a batch is cut decides about rounding, and the same seed must give the same prompt every time.
LAUNCH = {"cpu": 5e7}
LAUNCH_ELSEWHERE = 5e10
BATCH_LAUNCH = 0.5  # of them for each batch of texts whose attention is computed apart


class Costs(NamedTuple):
    """Operations of a forward pass (a backward pass has about as many again, on every way)."""

    per_token: float
    per_pair: float
    per_label: float
    per_call: float
    per_batch: float
    window: float = math.inf

    def call(self, rows: int, length: int | float, seen: int | float, labels: int) -> float:
        """One call: `rows` of `length` tokens that look at `seen` others, with the vocabulary read at `labels`."""
        return self.per_call + self.tokens(rows * length, seen) + labels * self.per_label

    def tokens(self, tokens: int | float, seen: int | float) -> float:
        """Tokens in the layers, each looking at `seen` others."""
        return float(tokens) * (self.per_token + seen * self.per_pair)

    def row_tokens(self, prompt_length: int) -> float:
        """The length of text behind which prompt and call are but `OVERHEAD` of a row; at most `ROW_TOKENS`."""
        return min((prompt_length + self.per_call / self.per_token) / OVERHEAD, ROW_TOKENS)

    def masked_row_tokens(self, prompt_length: int) -> float:
        """With a dense mask: where one more packed row saves as much attention as its prompt and its call cost.

        k rows for N tokens behind P cost k (call + P token + P^2 pair) + N^2 / k pair and terms without k; the minimum
        lies at N / k = sqrt((call + P token) / pair + P^2). At most `ROW_TOKENS`, for memory.
        """
        best = math.sqrt(
            (self.per_call + prompt_length * self.per_token) / self.per_pair + prompt_length**2
        )
        return min(best, ROW_TOKENS)

    def packed(self, prompt_length: int, text_tokens: int, labels: int) -> float:
        """The rows of one prompt with their dense masks, as `packing.pack` cuts them."""
        if prompt_length + text_tokens > self.window:
            return math.inf
        rows = max(1, math.ceil(text_tokens / self.masked_row_tokens(prompt_length)))
        length = prompt_length + text_tokens / rows
        return rows * self.call(1, length, length, 0) + labels * self.per_label


class Remembered:
    """Answers about base models, each for the type, device, attention and checkpointing with which it was found."""

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[nn.Module, dict] = WeakKeyDictionary()

    def __call__(self, base_model: nn.Module, find: Callable[[], Any]) -> Any:
        """The answer for a base model as it is now; `find` is asked where there is none yet."""
        words = base_model.get_input_embeddings().weight
        attention = getattr(base_model.config, "_attn_implementation", None)
        key = (words.dtype, words.device, attention, _recomputes(base_model))
        answers = self._found.setdefault(base_model, {})
        if key not in answers:
            answers[key] = find()
        return answers[key]


def _recomputes(base_model: nn.Module) -> bool:
    """True if the backward pass calls layers again (gradient checkpointing)."""
    layers = base_model.modules() if base_model.training else checkpointed_layers(base_model)
    return any(
        layer.training and getattr(layer, "gradient_checkpointing", False) for layer in layers
    )


_arguments = Remembered()


def takes(base_model: nn.Module, name: str) -> bool:
    """True if the base model's forward pass has an argument of that name; looked up once."""
    return name in _arguments(
        base_model, lambda: frozenset(inspect.signature(base_model.forward).parameters)
    )


def attention_window(base_model: nn.Module) -> float:
    """How far a token sees in the layer where it sees least: within it, packing and prefixes are exact."""
    shape = base_model.config.get_text_config(decoder=True)
    windows = (getattr(shape, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((float(window) for window in windows if window), default=math.inf)


_costs = Remembered()


def costs_of(base_model: nn.Module) -> Costs:
    """The costs of a base model on the kind of device where it is, from its sizes."""

    def find() -> Costs:
        shape = base_model.config.get_text_config(decoder=True)
        words = base_model.get_input_embeddings().weight
        vocabulary, width = words.shape
        head = base_model.get_output_embeddings()
        outside = {id(weight): weight.numel() for weight in (words, head.weight if head else words)}
        weights = sum(parameter.numel() for parameter in base_model.parameters()) - sum(
            outside.values()
        )
        launch = LAUNCH.get(words.device.type, LAUNCH_ELSEWHERE) * shape.num_hidden_layers
        return Costs(
            per_token=2 * weights,
            per_pair=4 * width * shape.num_hidden_layers,
            per_label=2 * vocabulary * width,
            per_call=READ_TOKENS * 2 * weights + launch,
            per_batch=BATCH_LAUNCH * launch,
            window=attention_window(base_model),
        )

    return _costs(base_model, find)
