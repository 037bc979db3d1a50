"""How much the text looks at the prompt, layer by layer and head by head, and what that adds to a head's output.

Attention is no explanation by itself. Every text looks much at its first place, whatever stands there (the sink: Xiao
et al. 2023, arXiv 2309.17453), and vectors far longer than words draw or repel attention by their length alone. A large
share on the prompt says something only where random vectors of equal norm, the start or ordinary words get less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from ..engine.exactness import tolerance_of
from ..model import SoftPromptModel
from ..tasks import Task
from .controls import ORDINARY, behind_each, check_decoder, prompt_and_controls, text_ids
from .layers import attention_by_hand, attention_weights, first_tensor, watching

PLACES = ("text", "last")
Texts = Task | str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]


def attention_mass(
    model: SoftPromptModel,
    texts: Texts,
    *,
    split: str = "test",
    limit: int = 32,
    prompt: Float[torch.Tensor, "P D"] | None = None,
    start: Float[torch.Tensor, "P D"] | None = None,
    words: str = ORDINARY,
    seed: int = 0,
) -> pd.DataFrame:
    """The share of their attention that text tokens pay to the vectors in front of them, by layer and head.

    Args:
        texts: a task, of which the first `limit` texts of `split` are read in its template; or a text; or several
            texts, or their token ids.
        prompt: the vectors to read; by default the model's active prompt.
        start, words, seed: of the controls (`controls.prompt_and_controls`).

    Returns:
        A long table: kind ("prompt", "start", "random", "words", "no prompt"), layer and head (from 0), place ("text":
        the mean over all text tokens; "last": the one that predicts the label), mass (the share on the vectors, mean
        over the texts), mass_sd, first and first_sd (the share on the very first place alone, the sink; without a
        prompt that is the text's own first token), uniform (the share that the P vectors would have if all places that
        a token sees got the same), n (texts).

    Raises:
        ValueError: an encoder-decoder, no text, vectors that do not fit, or a base model that shows no attention.
    """
    base_model = check_decoder(model)
    kinds = prompt_and_controls(model, prompt, start, words, seed)
    rows = [text_ids(model, text) for text in _texts(model, texts, split, limit)]
    groups = (kinds, {"no prompt": kinds["prompt"][:0]})
    table = pd.concat([_masses(base_model, group, ids) for group in groups for ids in rows])
    found = table.groupby(["kind", "layer", "head", "place"], sort=False).agg(
        mass=("mass", "mean"),
        mass_sd=("mass", "std"),
        first=("first", "mean"),
        first_sd=("first", "std"),
        uniform=("uniform", "mean"),
        n=("mass", "size"),
    )
    return found.fillna(0).reset_index()  # a single text has no deviation


def _texts(model: SoftPromptModel, texts: Texts, split: str, limit: int) -> list:
    """Return one entry for each text: itself, or its token ids.

    Raises:
        ValueError: there is none, or no tokenizer for a task.
    """
    if isinstance(texts, Task):
        if model.tokenizer is None:
            raise ValueError(
                "there is no tokenizer for the task's texts; pass tokenizer= to SoftPromptModel."
            )
        chosen = texts.split(split)[texts.text_column][:limit]
        found = [texts.encode(model.tokenizer, text)[0] for text in chosen]
    else:
        one = isinstance(texts, str) or (len(texts) > 0 and isinstance(texts[0], int))
        found = [texts] if one else list(texts)[:limit]
    if not found:
        raise ValueError(f"there is no text to read (limit={limit}); give at least one.")
    return found


def _masses(
    base_model: nn.Module, group: Mapping[str, torch.Tensor], ids: Sequence[int]
) -> pd.DataFrame:
    """Return the shares of one text after K prompts of one length: a row for each kind, layer, head and place."""
    virtual = len(next(iter(group.values())))
    weights = attention_weights(base_model, behind_each(base_model, group, ids))
    looks = torch.stack(weights, dim=1)[..., virtual:, :].double().cpu()  # (K, L, H, T, P+T)
    uniform = virtual / torch.arange(virtual + 1.0, virtual + len(ids) + 1)  # (T,)
    shares = torch.stack(
        [looks[..., :virtual].sum(-1), looks[..., 0], uniform.double().expand(looks.shape[:-1])]
    )  # (3, K, L, H, T)
    places = torch.stack([shares.mean(-1), shares[..., -1]], dim=-1)  # (3, K, L, H, 2)
    names = ("kind", "layer", "head", "place")
    index = (group, *map(range, places.shape[2:4]), PLACES)
    table = pd.MultiIndex.from_product(index, names=names).to_frame(index=False)
    measures = zip(("mass", "first", "uniform"), places.flatten(1).numpy(), strict=True)
    return table.assign(**dict(measures))


# ---------------------------------------------------------------------------------- attention to a prompt is a bias


@dataclass(frozen=True)
class SplitAttention:
    """What one layer's heads give at T text tokens, taken apart: a bias of the prompt and a shrunken old output.

    Attributes:
        layer: from 0.
        mass: the share of attention on the prompt.
        output: what each head gives, before the output projection mixes the heads.
        prompt_part: what it would give if it saw the prompt alone: a mean of the prompt's values.
        text_part: what it would give if it saw the text alone.
    """

    layer: int
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


class _Attention(NamedTuple):
    """A layer's attention as it was called: module, arguments, output projection with what it was given, weights."""

    module: nn.Module
    args: tuple
    kwargs: dict[str, Any]
    projection: nn.Module
    projected: Float[torch.Tensor, "1 N E"]
    weights: Float[torch.Tensor, "1 H N N"]


def split_attention(
    model: SoftPromptModel,
    text: str | Sequence[int],
    *,
    prompt: Float[torch.Tensor, "P D"] | None = None,
) -> list[SplitAttention]:
    """Take every layer's attention at the text apart into a bias of the prompt and a shrunken output of the text.

    A softmax over prompt and text is a mean of two softmaxes, weighted by the mass on each, so for a head

        output = mass * prompt_part + (1 - mass) * text_part

    holds exactly, given the layer's own queries, keys and values (Petrov et al. 2023, arXiv 2310.19698, section 3, for
    prefix tuning). All three are computed by the model's own attention: as it is, with the text's places masked, and
    with the prompt's. In the first layer `text_part` is what the head gives without a prompt, if positions are relative
    to each other; in deeper ones it isn't, because the layers before have changed the text's states, and with them its
    queries, keys and values. There a soft prompt does more than a bias.

    Args:
        prompt: the vectors in front; by default the model's active prompt.

    Raises:
        ValueError: an encoder-decoder, an empty text, vectors that do not fit, or a base model whose attention is not
            one module with a mask and an output projection, or no softmax over the places alone.
    """
    base_model = check_decoder(model)
    vectors = prompt_and_controls(model, prompt)["prompt"]
    return _split(base_model, vectors, text_ids(model, text))


def attention_as_bias(
    model: SoftPromptModel,
    text: str | Sequence[int],
    *,
    prompt: Float[torch.Tensor, "P D"] | None = None,
    start: Float[torch.Tensor, "P D"] | None = None,
    words: str = ORDINARY,
    seed: int = 0,
) -> pd.DataFrame:
    """`split_attention` in numbers, for the prompt and its controls: means over the text's tokens.

    Args:
        text: a text, or token ids: `task.encode(tokenizer, text)[0]` is a text in its template.
        prompt: the vectors to read; by default the model's active prompt.
        start, words, seed: of the controls (`controls.prompt_and_controls`).

    Returns:
        A long table: kind ("prompt", "start", "random", "words"), layer and head (from 0), mass, bias, rest and output
        (L2 norms of the three sides), alike (1 where the bias points the same way at every text token, as that of a
        single virtual token must; near 0 where it points anywhere), moved (how far `text_part` is from what the head
        gives without a prompt, relative to that: what the layers before have changed, and learned positions; large
        where a sink moves from the text's first token to the prompt) and error (`SplitAttention.error`).

    Raises:
        ValueError: as `split_attention`.
    """
    base_model, ids = check_decoder(model), text_ids(model, text)
    kinds = prompt_and_controls(model, prompt, start, words, seed)
    bare = [part.output for part in _split(base_model, kinds["prompt"][:0], ids)]
    parts = [
        _in_numbers(part, bare[part.layer]).assign(kind=kind, layer=part.layer, error=part.error)
        for kind, vectors in kinds.items()
        for part in _split(base_model, vectors, ids)
    ]
    columns = ["kind", "layer", "head", "mass", "bias", "rest", "output", "alike", "moved", "error"]
    return pd.concat(parts, ignore_index=True)[columns]


def _in_numbers(part: SplitAttention, alone: Float[torch.Tensor, "H T d"]) -> pd.DataFrame:
    """Return one row a head: means over the text's tokens; `alone` is what the head gives without a prompt."""
    moved = (part.text_part - alone).norm(dim=-1).sum(dim=1) / alone.norm(dim=-1).sum(dim=1)
    columns = {
        "mass": part.mass.mean(dim=1),
        "bias": part.bias.norm(dim=-1).mean(dim=1),
        "rest": part.rest.norm(dim=-1).mean(dim=1),
        "output": part.output.norm(dim=-1).mean(dim=1),
        "alike": functional.normalize(part.bias, dim=-1).mean(dim=1).norm(dim=-1),
        "moved": moved,
    }
    table = pd.DataFrame({name: value.cpu().numpy() for name, value in columns.items()})
    return table.rename_axis("head").reset_index()


def _split(
    base_model: nn.Module, prompt: Float[torch.Tensor, "P D"], ids: Sequence[int]
) -> list[SplitAttention]:
    """Every layer taken apart; without a prompt all is the text's."""
    found, text = [], slice(len(prompt), None)
    for layer, call in enumerate(
        _attention_calls(base_model, behind_each(base_model, {"": prompt}, ids))
    ):
        heads = call.weights.shape[1]
        seen = [call.projected]
        seen += [_masked(base_model, call, hidden) for hidden in (text, slice(len(prompt)))]
        output, prompt_part, text_part = (
            states[0].unflatten(-1, (heads, -1)).transpose(0, 1)[:, text].float() for states in seen
        )  # (H, T, d)
        mass = call.weights[0, :, text, : len(prompt)].float().sum(dim=-1)  # (H, T)
        part = SplitAttention(layer, mass, output, prompt_part, text_part)
        if not part.error <= tolerance_of(call.projected.dtype):
            raise ValueError(
                f"layer {layer} of {type(base_model).__name__} is no mean over prompt and text: the parts miss its "
                f"output by {part.error:.1g} of the largest value (a sink of its own, or a mask that it does not obey)."
            )
        found.append(part)
    return found


@torch.no_grad()
def _masked(base_model: nn.Module, call: _Attention, hidden: slice) -> Float[torch.Tensor, "1 N E"]:
    """What reaches the output projection when some places are masked; queries, keys and values stay as they were."""
    mask = call.kwargs["attention_mask"].clone()
    mask[..., hidden] = torch.finfo(mask.dtype).min
    kept: list[torch.Tensor] = []
    with attention_by_hand(base_model):
        handle = call.projection.register_forward_pre_hook(
            lambda module, args: kept.append(args[0])
        )
        try:
            call.module(*call.args, **(call.kwargs | {"attention_mask": mask}))
        finally:
            handle.remove()
    return kept[-1]


def _attention_calls(
    base_model: nn.Module, embeddings: Float[torch.Tensor, "1 N D"]
) -> list[_Attention]:
    """Return each layer's attention as it is called: the innermost module that gives the weights, and its last matrix.

    Raises:
        ValueError: there is none that can be taken apart.
    """
    arguments: list[tuple[tuple, dict[str, Any]]] = []  # of the modules that are being called
    matrix: list[tuple[nn.Module, torch.Tensor]] = []  # the last one, with what it was given
    calls: list[tuple[_Attention, tuple]] = []

    def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
        arguments.append((args, kwargs))
        if getattr(getattr(module, "weight", None), "ndim", 0) == 2 and args:
            matrix[:] = [(module, args[0])]

    def leave(module: nn.Module, args: tuple, output: Any) -> None:
        args, kwargs = arguments.pop()
        own = first_tensor((*args, kwargs.get("hidden_states")))
        masked = isinstance(kwargs.get("attention_mask"), torch.Tensor)
        if isinstance(output, tuple) and masked and matrix and matrix[0][1] is not own:
            calls.append((_Attention(module, args, kwargs, *matrix[0], embeddings), output))

    with watching(base_model, enter, leave):
        weights = attention_weights(base_model, embeddings)
    found = [
        next(
            (call._replace(weights=own) for call, output in calls if _gave(call, output, own)), None
        )
        for own in weights
    ]
    if None in found:
        raise ValueError(
            f"the attention of {type(base_model).__name__} cannot be taken apart: no module of it takes a mask, gives "
            "the weights and ends with an output projection."
        )
    return found


def _gave(call: _Attention, output: tuple, weights: Float[torch.Tensor, "1 H N N"]) -> bool:
    """True if this call gave the weights and its projection mixes as many heads."""
    return (
        any(part is weights for part in output) and call.projected.shape[-1] % weights.shape[1] == 0
    )
