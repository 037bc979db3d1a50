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
from .controls import behind_each, check_decoder, prompt_and_controls
from .layers import states_of, unembedding
from .neighbours import readable_token


@torch.no_grad()
def logit_lens(
    model: SoftPromptModel,
    ids: Sequence[int],
    *,
    start: Float[torch.Tensor, "P D"] | None = None,
) -> pd.DataFrame:
    """What every layer's state at every virtual and text token would predict, for the active prompt and its controls.

    Args:
        ids: the tokens of a text; `task.encode(tokenizer, text)[0]` has those of a text in its template.
        start: the prompt before training.

    Returns:
        A long table: kind ("prompt", "start", "random", "words", "no prompt"), layer (0: what the first layer reads,
        L: the last one's output), place ("virtual" or "text"), position (from 0 within its place), token (of the text;
        empty at virtual tokens), token_id and predicted (the first choice), log_probability (nats) and agrees (the last
        layer has the same first choice).

    Raises:
        ValueError: an encoder-decoder, a start that does not fit, or a model whose logits are more than norm and
            unembedding (`layers.unembedding`).
    """
    base_model = check_decoder(model)
    kinds = prompt_and_controls(model, start)
    unembed = unembedding(base_model)
    parts = []
    for group in (kinds, {"no prompt": kinds["prompt"][:0]}):
        states = states_of(base_model, unembed.norm, behind_each(base_model, group, ids))
        virtual = states[0].shape[1] - len(ids)
        places = [("virtual", position, "") for position in range(virtual)]
        places += [("text", *each) for each in enumerate(_names(model, ids))]
        index = [
            (kind, layer, *place)
            for kind in group
            for layer in range(len(states))
            for place in places
        ]
        found = [unembed(state).log_softmax(dim=-1).max(dim=-1) for state in states]  # (K, N) each
        sure, best = (torch.stack(each, dim=1) for each in zip(*found, strict=True))  # (K, L+1, N)
        part = pd.DataFrame(index, columns=["kind", "layer", "place", "position", "token"])
        parts.append(
            part.assign(
                token_id=best.flatten().tolist(),
                predicted=_names(model, best.flatten().tolist()),
                log_probability=sure.flatten().tolist(),
                agrees=(best == best[:, -1:]).flatten().tolist(),
            )
        )
    return pd.concat(parts, ignore_index=True)


def _names(model: SoftPromptModel, ids: Iterable[int]) -> list[str]:
    """Tokens to look at; a model without a tokenizer has their ids."""
    name = cache(
        lambda token: readable_token(token, model.tokenizer) if model.tokenizer else str(token)
    )
    return [name(token) for token in ids]
