"""Logits at the labels only: three ways through a frozen base model, all giving what a row gives alone.

packed            one row holds the whole batch and one copy of the prompt (`packing.py`); the fast way
padded            one row for each target, text directly behind the prompt, pads at the right
encoder-decoder   the prompt in front of the encoder's input, targets through the decoder

Which one a base model takes is found out by asking it once and comparing the numbers, never from a list of names.
"""

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from .packing import IGNORE, TOKEN_BUDGET, Example, PackedRow, Target, pack, packed_mask

logger = logging.getLogger(__name__)


class LabelLogits(NamedTuple):
    """M labels: their logits over the vocabulary, their token ids, and (example, target) of each."""

    logits: Float[torch.Tensor, "M V"]
    label_ids: Int[torch.Tensor, "M"]
    owners: list[tuple[int, int]]


Way = Callable[[nn.Module, torch.Tensor, Sequence[Example], int], Iterator[LabelLogits]]


def label_logits(
    base_model: nn.Module,
    prompt: Float[torch.Tensor, "P D"],
    examples: Sequence[Example],
    token_budget: int = TOKEN_BUDGET,
) -> Iterator[LabelLogits]:
    """The logits that predict each label of the examples, one call of the base model at a time.

    Args:
        token_budget: tokens in one call at most; an example that is longer gets a call of its own.
    """
    yield from way_through(base_model)(base_model, prompt, examples, token_budget)


def label_loss(
    base_model: nn.Module, prompt: Float[torch.Tensor, "P D"], examples: Sequence[Example]
) -> Float[torch.Tensor, ""]:
    """Mean cross-entropy over the labelled tokens, in nats; the value of a padded batch's `forward(...).loss`.

    Raises:
        ValueError: no token is labelled.
    """
    parts = list(label_logits(base_model, prompt, examples))
    if not parts:
        raise ValueError("no token of this batch has a label (all are -100); nothing can be learned from it.")
    logits = torch.cat([part.logits for part in parts])  # (M, V)
    return nn.functional.cross_entropy(logits, torch.cat([part.label_ids for part in parts]))


# --------------------------------------------------------------------------------------------- the three ways


def packed_logits(
    base_model: nn.Module, prompt: Float[torch.Tensor, "P D"], examples: Sequence[Example], token_budget: int
) -> Iterator[LabelLogits]:
    """Every token once: one ordinary call for each packed row."""
    for row in pack(examples, len(prompt), token_budget):
        if row.label_ids:
            logits = _call(base_model, row.label_places, **_packed_inputs(base_model, prompt, row))[0]  # (M, V)
            yield LabelLogits(logits.float(), torch.tensor(row.label_ids, device=logits.device), row.owners)


def _packed_inputs(base_model: nn.Module, prompt: Float[torch.Tensor, "P D"], row: PackedRow) -> dict:
    """`inputs_embeds` (1, P+N, D), `position_ids` (1, P+N) and an additive mask (1, 1, P+N, P+N)."""
    device = prompt.device
    words = base_model.get_input_embeddings()(torch.tensor(row.ids, dtype=torch.long, device=device))  # (N, D)
    positions = torch.tensor([*range(len(prompt)), *row.position_ids], device=device)
    segments, parents = (torch.tensor(part, dtype=torch.long, device=device) for part in (row.segments, row.parents))
    return {
        "inputs_embeds": torch.cat([prompt.to(words.dtype), words])[None],
        "position_ids": positions[None],
        "attention_mask": additive(packed_mask(segments, parents, len(prompt)), words.dtype)[None, None],
    }


def additive(mask: Bool[torch.Tensor, "Q K"], dtype: torch.dtype) -> Float[torch.Tensor, "Q K"]:
    """0 where a token may look, the type's lowest number where it may not."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)


def padded_logits(
    base_model: nn.Module, prompt: Float[torch.Tensor, "P D"], examples: Sequence[Example], token_budget: int
) -> Iterator[LabelLogits]:
    """`[prompt | context | target | pads]` for each target: right on every decoder."""
    for rows in _batches(examples, len(prompt), token_budget):
        texts = [torch.tensor([*context, *target.ids[:-1]], dtype=torch.long) for context, target, _ in rows]
        words, mask = _embed_padded(base_model, texts)  # (B, T, D), (B, T)
        inputs = with_prompt(prompt, words, mask)
        found = [
            (row, len(prompt) + len(context) + place - 1, label, owner)
            for row, (context, target, owner) in enumerate(rows)
            for place, label in enumerate(target.labels)
            if label != IGNORE and len(prompt) + len(context) + place > 0
        ]
        if found:
            yield _gather(base_model, inputs, found)


def _gather(base_model: nn.Module, inputs: dict, found: list[tuple[int, int, int, tuple[int, int]]]) -> LabelLogits:
    """Run a padded batch and pick each (row, place): logits are made only at places that some row needs."""
    rows, places, labels, owners = zip(*found, strict=True)
    kept = sorted(set(places))
    logits = _call(base_model, kept, **inputs)  # (B, len(kept), V)
    picked = logits[list(rows), [kept.index(place) for place in places]]
    return LabelLogits(picked.float(), torch.tensor(labels, device=logits.device), list(owners))


def encoder_decoder_logits(
    base_model: nn.Module, prompt: Float[torch.Tensor, "P D"], examples: Sequence[Example], token_budget: int
) -> Iterator[LabelLogits]:
    """`[prompt | context]` through the encoder once; each target through the decoder (PEFT's SEQ_2_SEQ_LM)."""
    for rows in _batches(examples, len(prompt), token_budget):
        contexts = {owner[0]: context for context, _, owner in rows}
        order = {index: place for place, index in enumerate(contexts)}
        words, mask = _embed_padded(base_model, [torch.tensor(ids, dtype=torch.long) for ids in contexts.values()])
        inputs = with_prompt(prompt, words, mask)
        states = base_model.get_encoder()(**inputs).last_hidden_state  # (contexts, P+T, D)
        copies = torch.tensor([order[owner[0]] for *_, owner in rows], device=states.device)
        pad = base_model.config.decoder_start_token_id
        start = torch.tensor([pad])
        ids = [torch.cat([start, torch.tensor(target.ids[:-1], dtype=torch.long)]) for _, target, _ in rows]
        logits = base_model(
            encoder_outputs=(states[copies],),
            attention_mask=inputs["attention_mask"][copies],
            decoder_input_ids=pad_sequence(ids, batch_first=True, padding_value=pad).to(states.device),
            use_cache=False,
        ).logits  # (B, S, V)
        labels = pad_sequence(
            [torch.tensor(target.labels) for _, target, _ in rows], batch_first=True, padding_value=IGNORE
        ).to(states.device)
        counted = labels != IGNORE  # (B, S)
        owners = [rows[row][2] for row in counted.nonzero()[:, 0].tolist()]
        if owners:
            yield LabelLogits(logits[counted].float(), labels[counted], owners)


# ------------------------------------------------------------------------------------------------ their parts

Row = tuple[Sequence[int], Target, tuple[int, int]]  # context, target, (example, target number)


def _batches(examples: Sequence[Example], prompt_length: int, token_budget: int) -> Iterator[list[Row]]:
    """One row for each target, in batches of at most `token_budget` tokens with their pads, an example never split."""
    batch, longest = [], 0
    for index, example in enumerate(examples):
        rows = [(example.context, target, (index, number)) for number, target in enumerate(example.targets)]
        length = max((prompt_length + len(context) + len(target.ids) for context, target, _ in rows), default=0)
        if batch and max(longest, length) * (len(batch) + len(rows)) > token_budget:
            yield batch
            batch, longest = [], 0
        batch.extend(rows)
        longest = max(longest, length)
    if batch:
        yield batch


def _embed_padded(base_model: nn.Module, texts: list[Int[torch.Tensor, "_"]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Word embeddings (B, T, D) and mask (B, T) of texts of different lengths, pads at the right."""
    device = base_model.get_input_embeddings().weight.device
    ids = pad_sequence(texts, batch_first=True, padding_value=0).to(device)
    lengths = torch.tensor([len(text) for text in texts], device=device)
    return base_model.get_input_embeddings()(ids), torch.arange(ids.shape[1], device=device) < lengths[:, None]


def with_prompt(
    prompt: Float[torch.Tensor, "P D"], words: Float[torch.Tensor, "B T D"], mask: Bool[torch.Tensor, "B T"]
) -> dict[str, torch.Tensor]:
    """`inputs_embeds` (B, P+T, D) and `attention_mask` (B, P+T) of a batch with the prompt in front."""
    from .embedding import concatenate_prompt

    ones = mask.new_ones(len(mask), len(prompt))
    return {
        "inputs_embeds": concatenate_prompt(words, prompt),
        "attention_mask": torch.cat([ones, mask], dim=1).long(),
    }


def _call(base_model: nn.Module, places: Sequence[int], **inputs) -> Float[torch.Tensor, "B M V"]:
    """The base model's logits at some places: it makes no others if it knows `logits_to_keep`."""
    kept = torch.tensor(places, device=inputs["inputs_embeds"].device)
    if "logits_to_keep" in inspect.signature(base_model.forward).parameters:
        return base_model(**inputs, logits_to_keep=kept, use_cache=False).logits
    return base_model(**inputs, use_cache=False).logits[:, kept]


# ------------------------------------------------------------------------------------------------- the choice

# What an architecture says when a 4-D mask or an argument is foreign to it; the padded way remains.
OBJECTIONS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, NotImplementedError)

_ways: WeakKeyDictionary[nn.Module, Way] = WeakKeyDictionary()


def way_through(base_model: nn.Module) -> Way:
    """The fastest exact way that this base model takes; asked once, then remembered."""
    if base_model not in _ways:
        if base_model.config.is_encoder_decoder:
            _ways[base_model] = encoder_decoder_logits
        else:
            _ways[base_model] = packed_logits if packs_exactly(base_model) else padded_logits
        logger.debug("%s goes %s", type(base_model).__name__, _ways[base_model].__name__)
    return _ways[base_model]


@torch.no_grad()
def packs_exactly(base_model: nn.Module) -> bool:
    """True if a packed row gives the numbers of its examples alone, to 1e-3 of their spread (1e-1 in half precision).

    A model that takes its positions from the mask (ALiBi), or that ignores a 4-D mask, fails here or raises.
    """
    words = base_model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, words.shape[0], (22,), generator=generator).tolist()
    prompt = words[ids[:3]].detach().float()
    examples = [
        Example(ids[3:8], [Target.of(ids[8:10]), Target.of(ids[10:13])]),
        Example(ids[13:15], [Target.of(ids[15:18])]),
        Example(ids[18:20], [Target.of(ids[20:22])]),
    ]
    try:
        together = torch.cat([part.logits for part in packed_logits(base_model, prompt, examples, TOKEN_BUDGET)])
    except OBJECTIONS as error:
        logger.debug("%s takes no packed row: %r", type(base_model).__name__, error)
        return False
    alone = torch.cat(
        [
            part.logits
            for example in examples
            for target in example.targets
            for part in padded_logits(base_model, prompt, [Example(example.context, [target])], TOKEN_BUDGET)
        ]
    )
    tolerance = 1e-3 if words.dtype == torch.float32 else 1e-1
    return bool((together - alone).abs().max() <= tolerance * alone.std())
