"""The logit lens: what each layer's hidden state would predict through the final norm and the unembedding.

nostalgebraist 2020, "interpreting GPT: the logit lens". It shows at which depth a prediction is there that the
unembedding can read. It doesn't show that a layer "thinks" a word: early layers write in directions of their own, which
the unembedding was not trained on, and some model families give nonsense until the last layers (Belrose et al. 2023,
arXiv 2303.08112, section 2). So each reading stands beside a start, random vectors, ordinary words and no prompt.
"""

from collections.abc import Iterable, Sequence
from functools import cache

import pandas as pd
import torch
from jaxtyping import Float

from ..model import SoftPromptModel
from .controls import ORDINARY, behind_each, check_decoder, prompt_and_controls, text_ids
from .layers import Unembedding, states_of, unembedding
from .neighbours import readable_token


@torch.no_grad()
def logit_lens(
    model: SoftPromptModel,
    text: str | Sequence[int],
    *,
    prompt: Float[torch.Tensor, "P D"] | None = None,
    start: Float[torch.Tensor, "P D"] | None = None,
    words: str = ORDINARY,
    k: int = 1,
    layers: Sequence[int] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """What every layer's state at every virtual and text token would predict, for the prompt and its controls.

    Args:
        text: a text, or token ids: `task.encode(tokenizer, text)[0]` is a text in its template.
        prompt: the vectors to read; by default the model's active prompt.
        start, words, seed: of the controls (`controls.prompt_and_controls`).
        k: how many predictions of each state.
        layers: which to read, by default all; the last one is always read. Each costs a product with the vocabulary.

    Returns:
        A long table: kind ("prompt", "start", "random", "words", "no prompt"), layer (0: what the first layer reads,
        L: the last one's output), place ("virtual" or "text"), position (from 0 within its place), token (of the text;
        empty at virtual tokens), rank (from 1), token_id and predicted, log_probability (nats), entropy of the whole
        prediction (nats), kl (of the last layer's prediction from this one, nats) and agrees (the first choice is the
        last layer's).

    Raises:
        ValueError: an encoder-decoder, an empty text, vectors that do not fit, a k or layer that cannot be, or a model
            whose logits are more than norm and unembedding (`layers.unembedding`).
    """
    base_model = check_decoder(model)
    if not 1 <= k <= len(model.word_embeddings):
        raise ValueError(
            f"k is {k}; it must be from 1 to the vocabulary's size, {len(model.word_embeddings)}."
        )
    ids = text_ids(model, text)
    kinds = prompt_and_controls(model, prompt, start, words, seed)
    unembed = unembedding(base_model)
    parts = []
    for group in (kinds, {"no prompt": kinds["prompt"][:0]}):
        states = states_of(base_model, unembed.last_layer, behind_each(base_model, group, ids))
        chosen, virtual = _chosen(layers, len(states) - 1), states[0].shape[1] - len(ids)
        places = [("virtual", position, "") for position in range(virtual)]
        places += [("text", *each) for each in enumerate(_names(model, ids))]
        index = [
            (kind, layer, *place, rank)
            for kind in group
            for layer in chosen
            for place in places
            for rank in range(1, k + 1)
        ]
        names = ["kind", "layer", "place", "position", "token", "rank"]
        found = _predictions(unembed, [states[layer] for layer in chosen], k)
        columns = {name: values.flatten().cpu().numpy() for name, values in found.items()}
        parts.append(pd.DataFrame(index, columns=names).assign(**columns))
    table = pd.concat(parts, ignore_index=True)
    table.insert(
        table.columns.get_loc("token_id") + 1, "predicted", _names(model, table["token_id"])
    )
    return table


def _chosen(layers: Sequence[int] | None, last: int) -> list[int]:
    """The layers to read, the last one among them.

    Raises:
        ValueError: one that is not there.
    """
    wrong = [layer for layer in layers or () if not 0 <= layer <= last]
    if wrong:
        raise ValueError(f"layer {wrong[0]} is not there; the lens reads layers 0 to {last}.")
    return [*range(last + 1)] if layers is None else sorted({*layers, last})


def _predictions(
    unembed: Unembedding, states: Sequence[Float[torch.Tensor, "K N D"]], k: int
) -> dict[str, torch.Tensor]:
    """Return what states of C layers predict: k tokens, each place's figures beside them; (K, C, N, k)."""
    last = unembed(states[-1]).log_softmax(dim=-1)  # (K, N, V)
    layers = []
    for state in states:
        found = unembed(state).log_softmax(dim=-1)
        best, ids = found.topk(k, dim=-1)  # (K, N, k)
        places = {
            "entropy": -(found.exp() * found).sum(dim=-1),
            "kl": (last.exp() * (last - found)).sum(dim=-1),
            "agrees": ids[..., 0] == last.argmax(dim=-1),
        }
        repeated = {name: each[..., None].expand_as(ids) for name, each in places.items()}
        layers.append({"token_id": ids, "log_probability": best} | repeated)
    return {name: torch.stack([layer[name] for layer in layers], dim=1) for name in layers[0]}


def _names(model: SoftPromptModel, ids: Iterable[int]) -> list[str]:
    """Tokens to look at; a model without a tokenizer has their ids."""
    name = cache(
        lambda token: readable_token(token, model.tokenizer) if model.tokenizer else str(token)
    )
    return [name(int(token)) for token in ids]
