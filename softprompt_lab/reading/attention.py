"""How much the text looks at the prompt, layer by layer and head by head, and what that adds to a head's output.

Attention is no explanation by itself. Every text looks much at its first place, whatever stands there (the sink: Xiao
et al. 2023, arXiv 2309.17453), and vectors far longer than words draw or repel attention by their length alone. A large
share on the prompt says something only where random vectors of equal norm, the start or ordinary words get less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from ..engine.exactness import tolerance_of
from ..model import SoftPromptModel
from .controls import behind_each, check_decoder, prompt_and_controls, prompt_and_start
from .layers import attention_of


def attention_mass(
    model: SoftPromptModel,
    texts: Sequence[Sequence[int]],
    *,
    start: Float[torch.Tensor, "P D"] | None = None,
) -> pd.DataFrame:
    """The share of its attention that the predicting token pays to the vectors in front, by layer and head.

    Args:
        texts: the tokens of each; `task.encode(tokenizer, text)[0]` has those of a text in its template, whose last
            one predicts the label.
        start: the prompt before training.

    Returns:
        A long table: kind ("prompt", "start", "random", "words", "no prompt"), layer and head (from 0), mass (the share
        on the vectors, mean over the texts), mass_sd, first (the share on the very first place alone, the sink; without
        a prompt that is the text's own first token), uniform (the share that the P vectors would have if all places got
        the same), n (texts).

    Raises:
        ValueError: an encoder-decoder, no text, a start that does not fit, or a base model that shows no attention.
    """
    base_model = check_decoder(model)
    kinds = prompt_and_controls(model, start)
    groups = (kinds, {"no prompt": kinds["prompt"][:0]})
    table = pd.concat([_masses(base_model, group, ids) for group in groups for ids in texts])
    found = table.groupby(["kind", "layer", "head"], sort=False).agg(
        mass=("mass", "mean"),
        mass_sd=("mass", "std"),
        first=("first", "mean"),
        uniform=("uniform", "mean"),
        n=("mass", "size"),
    )
    return found.fillna(0).reset_index()  # a single text has no deviation


def _masses(
    base_model: nn.Module, group: Mapping[str, torch.Tensor], ids: Sequence[int]
) -> pd.DataFrame:
    """Return the shares of one text after K prompts of one length: a row for each kind, layer and head."""
    virtual = len(next(iter(group.values())))
    found = attention_of(base_model, behind_each(base_model, group, ids))
    looks = torch.stack([weights[:, :, -1] for weights, _ in found], dim=1).double().cpu()
    index = pd.MultiIndex.from_product(
        [group, *map(range, looks.shape[1:3])], names=["kind", "layer", "head"]
    )  # (K, L, H)
    return index.to_frame(index=False).assign(
        mass=looks[..., :virtual].sum(-1).flatten().numpy(),
        first=looks[..., 0].flatten().numpy(),
        uniform=virtual / (virtual + len(ids)),
    )


# ---------------------------------------------------------------------------------- attention to a prompt is a bias


@dataclass(frozen=True)
class SplitAttention:
    """What one layer's heads give at T text tokens, taken apart: a bias of the prompt and a shrunken old output.

    Attributes:
        mass: the share of attention on the prompt.
        output: what each head gives, before the output projection mixes the heads.
        prompt_part: what it would give if it saw the prompt alone: a mean of the prompt's values.
        text_part: what it would give if it saw the text alone.
    """

    mass: Float[torch.Tensor, "H T"]
    output: Float[torch.Tensor, "H T d"]
    prompt_part: Float[torch.Tensor, "H T d"]
    text_part: Float[torch.Tensor, "H T d"]

    @property
    def bias(self) -> Float[torch.Tensor, "H T d"]:
        """What the prompt adds."""
        return self.mass[..., None] * self.prompt_part

    @property
    def rest(self) -> Float[torch.Tensor, "H T d"]:
        """What is left of the output that the text alone gives."""
        return (1 - self.mass[..., None]) * self.text_part

    @property
    def error(self) -> float:
        """The largest difference between the output and bias plus rest, relative to the largest output."""
        return float((self.output - self.bias - self.rest).abs().max() / self.output.abs().max())


def split_attention(model: SoftPromptModel, ids: Sequence[int]) -> list[SplitAttention]:
    """Take every layer's attention at the text apart into a bias of the prompt and a shrunken output of the text.

    A softmax over prompt and text is a mean of two softmaxes, weighted by the mass on each, so for a head

        output = mass * prompt_part + (1 - mass) * text_part

    holds exactly, given the layer's own queries, keys and values (Petrov et al. 2023, arXiv 2310.19698, section 3, for
    prefix tuning). In the first layer `text_part` is what the head gives without a prompt, if positions are relative to
    each other; in deeper ones it isn't, because the layers before have changed the text's states, and with them its
    queries, keys and values. There a soft prompt does more than a bias.

    Args:
        ids: the tokens of a text; `task.encode(tokenizer, text)[0]` has those of a text in its template.

    Returns:
        Of the active prompt, one for each layer.

    Raises:
        ValueError: an encoder-decoder, or a base model that shows no attention or no softmax over the places alone.
    """
    return _split(check_decoder(model), prompt_and_start(model)["prompt"], ids)


def _split(
    base_model: nn.Module, prompt: Float[torch.Tensor, "P D"], ids: Sequence[int]
) -> list[SplitAttention]:
    """Every layer taken apart; without a prompt all is the text's."""
    found, virtual = [], len(prompt)
    layers = attention_of(base_model, behind_each(base_model, {"": prompt}, ids))
    for layer, (weights, values) in enumerate(layers):
        weights, values = weights[0, :, virtual:].float(), values[0].float()  # (H, T, N), (H, N, d)
        total = weights.sum(dim=-1)
        if (total - 1).abs().max() > tolerance_of(layers[0][0].dtype):
            raise ValueError(
                f"layer {layer} of {type(base_model).__name__} is no mean over prompt and text: its attention to them "
                f"sums to {float(total.min()):.2g}, not 1 (a sink of its own)."
            )
        prompt_part, text_part = (
            functional.normalize(weights[..., own], p=1, dim=-1) @ values[:, own]
            for own in (slice(virtual), slice(virtual, None))
        )
        mass = weights[..., :virtual].sum(dim=-1)
        found.append(SplitAttention(mass, weights @ values, prompt_part, text_part))
    return found


def attention_as_bias(
    model: SoftPromptModel,
    ids: Sequence[int],
    *,
    start: Float[torch.Tensor, "P D"] | None = None,
) -> pd.DataFrame:
    """`split_attention` in numbers, for the active prompt and its controls: means over the text's tokens.

    Args:
        ids: the tokens of a text, as of `split_attention`.
        start: the prompt before training.

    Returns:
        A long table: kind ("prompt", "start", "random", "words"), layer and head (from 0), mass, bias and rest (L2
        norms of the two sides), moved (how far `text_part` is from what the head gives without a prompt, relative to
        that: what the layers before have changed, and learned positions; large where a sink moves from the text's first
        token to the prompt) and error (`SplitAttention.error`).

    Raises:
        ValueError: as `split_attention`, or a start that does not fit.
    """
    base_model = check_decoder(model)
    kinds = prompt_and_controls(model, start)
    bare = [part.output for part in _split(base_model, kinds["prompt"][:0], ids)]
    parts = []
    for kind, vectors in kinds.items():
        for layer, part in enumerate(_split(base_model, vectors, ids)):
            parts.append(_in_numbers(part, bare[layer]).assign(kind=kind, layer=layer))
    columns = ["kind", "layer", "head", "mass", "bias", "rest", "moved", "error"]
    return pd.concat(parts, ignore_index=True)[columns]


def _in_numbers(part: SplitAttention, alone: Float[torch.Tensor, "H T d"]) -> pd.DataFrame:
    """Return one row a head: means over the text's tokens; `alone` is what the head gives without a prompt."""
    moved = (part.text_part - alone).norm(dim=-1).sum(dim=1) / alone.norm(dim=-1).sum(dim=1)
    columns = {
        "mass": part.mass.mean(dim=1),
        "bias": part.bias.norm(dim=-1).mean(dim=1),
        "rest": part.rest.norm(dim=-1).mean(dim=1),
        "moved": moved,
    }
    table = pd.DataFrame({name: value.cpu().numpy() for name, value in columns.items()})
    return table.assign(error=part.error).rename_axis("head").reset_index()
