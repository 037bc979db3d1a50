"""Five ways through a frozen base model to the logits at the labels, all giving what a row gives alone.

blocks            one row holds many texts and one copy of the prompt (`packing.py`), attention by text (`blocks.py`)
packed            the same row with a dense mask, where attention can't be taken over
prefixed          the prompt's keys and values once, then every row on top of them (for ALiBi, which packs nothing)
padded            one row for each target, text directly behind the prompt: the plain way that every decoder takes
encoder-decoder   the prompt in front of the encoder's input, targets through the decoder
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from ..batch import prepend_prompt
from .blocks import attention_over_blocks, blocks_of, groups_of
from .costs import Costs, costs_of, takes
from .packing import (
    IGNORE,
    Example,
    PackedRow,
    Target,
    pack,
    packed_mask,
    shared_context,
    unique_tokens,
)
from .prefixes import layers_of, positions, prefix_of

CALL_TOKENS = 1024  # tokens in one padded call at most, pads included: larger calls are no faster and take more memory
Prompts = Sequence[Float[torch.Tensor, "_ D"]]


class LabelLogits(NamedTuple):
    """M labels: their logits over the vocabulary, their token ids, and (example, target) of each."""

    logits: Float[torch.Tensor, "M V"]
    label_ids: Int[torch.Tensor, "M"]
    owners: list[tuple[int, int]]


class Strategy(NamedTuple):
    """One way through a base model: the logits, call by call, and the cost of a batch in operations."""

    logits: Callable[[nn.Module, Prompts, Sequence[Example]], Iterator[LabelLogits]]
    cost: Callable[[Costs, Prompts, Sequence[Example]], float]


# ------------------------------------------------------------------------------------------------------- packed


def block_logits(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """Every token once and every pair of tokens once: one call for each packed row."""
    for prompt, row in packed_rows(prompts, examples, costs_of(base_model).row_tokens):
        blocks = blocks_of(row, len(prompt), prompt.device)
        with attention_over_blocks(base_model):
            part = packed_call(base_model, prompt, row, blocks=blocks)
        yield part


def block_cost(costs: Costs, prompts: Prompts, examples: Sequence[Example]) -> float:
    """Each prompt once a row, each token once; a text looks at its prompt and itself."""
    total = 0.0
    for prompt, own in _by_prompt(prompts, examples):
        tokens, front = unique_tokens(own), len(prompt) + len(shared_context(own))
        rows = max(1, math.ceil(tokens / costs.row_tokens(len(prompt))))
        lengths = [len(prompt) + len(example) - front for example in own]
        pairs = front**2 + sum(length * (front + length) for length in lengths)
        total += rows * costs.call(1, len(prompt), seen=0, labels=0)
        total += (
            costs.tokens(tokens, seen=0) + pairs * costs.per_pair + _labels(own) * costs.per_label
        )
        total += (rows + groups_of(lengths)) * costs.per_batch
        if len(prompt) + max(map(len, own)) > costs.window:
            return math.inf
    return total


def packed_logits(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """Every token once: one ordinary call for each packed row."""
    for prompt, row in packed_rows(prompts, examples, costs_of(base_model).masked_row_tokens):
        mask = packed_mask(row, len(prompt)).to(prompt.device)
        dtype = base_model.get_input_embeddings().weight.dtype
        yield packed_call(base_model, prompt, row, attention_mask=additive(mask, dtype)[None, None])


def packed_cost(costs: Costs, prompts: Prompts, examples: Sequence[Example]) -> float:
    """Each prompt once a row, each token once; attention over whole rows."""
    groups = _by_prompt(prompts, examples)
    return sum(
        costs.packed(len(prompt), unique_tokens(own), _labels(own)) for prompt, own in groups
    )


def _by_prompt(
    prompts: Prompts, examples: Sequence[Example]
) -> Iterator[tuple[torch.Tensor, list[Example]]]:
    """Each prompt that has examples, with them."""
    for number, prompt in enumerate(prompts):
        if own := [example for example in examples if example.prompt == number]:
            yield prompt, own


def _labels(examples: Sequence[Example]) -> int:
    """Labels of all targets."""
    return sum(len(target.supervised) for example in examples for target in example.targets)


def packed_rows(
    prompts: Prompts, examples: Sequence[Example], row_tokens: Callable[[int], float]
) -> Iterator[tuple[torch.Tensor, PackedRow]]:
    """The rows of a batch that hold labels, each with its prompt."""
    lengths = [len(prompt) for prompt in prompts]
    for row in pack(examples, lengths, [row_tokens(length) for length in lengths]):
        if row.label_ids:
            yield prompts[row.prompt], row


def packed_call(
    base_model: nn.Module, prompt: Float[torch.Tensor, "P D"], row: PackedRow, **attention
) -> LabelLogits:
    """One call with `inputs_embeds` (1, P+N, D) and `position_ids` (1, P+N)."""
    ids = torch.tensor(row.ids, dtype=torch.long, device=prompt.device)
    words = base_model.get_input_embeddings()(ids)  # (N, D)
    places = torch.tensor([*range(len(prompt)), *row.position_ids], device=prompt.device)
    inputs = {
        "inputs_embeds": torch.cat([prompt.to(words.dtype), words])[None],
        "position_ids": places[None],
    }
    logits = call_at(base_model, row.label_positions, **inputs, **attention)[0]  # (M, V)
    return LabelLogits(
        logits.float(), torch.tensor(row.label_ids, device=logits.device), row.owners
    )


def additive(mask: Bool[torch.Tensor, "Q K"], dtype: torch.dtype) -> Float[torch.Tensor, "Q K"]:
    """0 where a token may look, the type's lowest number where it may not."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, torch.finfo(dtype).min
    )


# ----------------------------------------------------------------------------------------------------- prefixed


def prefixed_logits(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """Two calls: the prompt but its last vector, whose keys and values are kept; then every row on top of them.

    A row is `[pads | last virtual token | context | target]`. The rows end together, so their labels stand in the same
    few columns, and the vocabulary is read there only.
    """
    for rows in _batches(examples, 1, mixed=False):
        prompt = prompts[rows[0].prompt]
        prefix = prefix_of(base_model, prompt[:-1])
        words, text = _embed_padded(
            base_model, [torch.tensor(row.ids, dtype=torch.long) for row in rows]
        )
        batch = prepend_prompt([prompt[-1:]], words, text, pads="left")
        width = batch.mask.shape[1]
        found = [
            (number, width - len(row.ids) - 1 + place, label, row.owner)
            for number, row in enumerate(rows)
            for place, label in row.labels
        ]
        mask = torch.cat(
            [batch.mask.new_ones(len(rows), len(prompt) - 1), batch.mask], dim=1
        )  # (B, P+T)
        inputs = {"inputs_embeds": batch.embeddings, "attention_mask": mask.long()}
        inputs["past_key_values"] = DynamicCache(layers_of([prefix], len(rows)))
        if takes(base_model, "position_ids"):
            inputs["position_ids"] = positions(mask)[:, -width:]
        yield _gather(base_model, inputs, found)


def prefixed_cost(costs: Costs, prompts: Prompts, examples: Sequence[Example]) -> float:
    """Each prompt once a batch, each row with its pads."""
    if min(map(len, prompts)) < 2:
        return math.inf
    total = 0.0
    for rows in _batches(examples, 1, mixed=False):
        before = len(prompts[rows[0].prompt]) - 1
        width = 1 + max(len(row.ids) for row in rows)
        columns = {len(row.ids) - place for row in rows for place, _ in row.labels}
        total += costs.call(1, before, before, labels=0)
        total += costs.call(len(rows), width, before + width, labels=len(rows) * len(columns))
        if before + width > costs.window:
            return math.inf
    return total


# ------------------------------------------------------------------------------------------------------- padded


def padded_logits(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """`[prompt | context | target | pads]` for each target: right on every decoder."""
    for rows in _batches(examples, max(map(len, prompts))):
        words, text = _embed_padded(
            base_model, [torch.tensor(row.ids, dtype=torch.long) for row in rows]
        )
        batch = prepend_prompt([prompts[row.prompt] for row in rows], words, text)
        found = [
            (number, place, label, row.owner)
            for number, row in enumerate(rows)
            for place, label in (
                (len(prompts[row.prompt]) - 1 + place, label) for place, label in row.labels
            )
            if place >= 0  # without prompt and context nothing predicts the first token
        ]
        if found:
            yield _gather(base_model, batch.inputs, found)


def padded_cost(costs: Costs, prompts: Prompts, examples: Sequence[Example]) -> float:
    """Prompt and pads in every row."""
    total = 0.0
    for rows in _batches(examples, max(map(len, prompts))):
        width = max(len(prompts[row.prompt]) + len(row.ids) for row in rows)
        columns = {len(prompts[row.prompt]) + place for row in rows for place, _ in row.labels}
        total += costs.call(len(rows), width, width, len(rows) * len(columns))
    return total


def _gather(
    base_model: nn.Module, inputs: dict, found: list[tuple[int, int, int, tuple[int, int]]]
) -> LabelLogits:
    """Run a padded batch and pick each (row, place): logits are made only at places that some row needs."""
    rows, places, labels, owners = zip(*found, strict=True)
    kept = sorted(set(places))
    logits = call_at(base_model, kept, **inputs)  # (B, len(kept), V)
    picked = logits[list(rows), [kept.index(place) for place in places]]
    return LabelLogits(picked.float(), torch.tensor(labels, device=logits.device), list(owners))


# ---------------------------------------------------------------------------------------------- encoder-decoder


def encoder_decoder_logits(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """`[prompt | context]` through the encoder once; each target through the decoder (PEFT's SEQ_2_SEQ_LM)."""
    for rows in _batches(examples, max(map(len, prompts))):
        first = {
            row.owner[0]: row for row in rows
        }  # one row of each example: its context is read once
        order = {index: place for place, index in enumerate(first)}
        words, text = _embed_padded(
            base_model, [torch.tensor(row.context, dtype=torch.long) for row in first.values()]
        )
        batch = prepend_prompt([prompts[row.prompt] for row in first.values()], words, text)
        states = base_model.get_encoder()(**batch.inputs).last_hidden_state  # (contexts, P+T, D)
        copies = torch.tensor([order[row.owner[0]] for row in rows], device=states.device)
        pad = base_model.config.decoder_start_token_id
        start = torch.tensor([pad])
        ids = [
            torch.cat([start, torch.tensor(row.target.ids[:-1], dtype=torch.long)]) for row in rows
        ]
        logits = base_model(
            encoder_outputs=(states[copies],),
            attention_mask=batch.mask.long()[copies],
            decoder_input_ids=pad_sequence(ids, batch_first=True, padding_value=pad).to(
                states.device
            ),
            use_cache=False,
        ).logits  # (B, S, V)
        labels = pad_sequence(
            [torch.tensor(row.target.labels) for row in rows],
            batch_first=True,
            padding_value=IGNORE,
        ).to(states.device)
        counted = labels != IGNORE  # (B, S)
        owners = [rows[row].owner for row in counted.nonzero()[:, 0].tolist()]
        if owners:
            yield LabelLogits(logits[counted].float(), labels[counted], owners)


def encoder_decoder_cost(costs: Costs, prompts: Prompts, examples: Sequence[Example]) -> float:
    """There is no other way to weigh it against."""
    return 0.0


# ------------------------------------------------------------------------------------------------ their parts


class Row(NamedTuple):
    """A context with one of its targets; `owner` is (number of the example, number of the target)."""

    context: Sequence[int]
    target: Target
    prompt: int
    owner: tuple[int, int]

    @property
    def ids(self) -> list[int]:
        """The tokens that a decoder reads: a target's last token is predicted, never read."""
        return [*self.context, *self.target.ids[:-1]]

    @property
    def labels(self) -> list[tuple[int, int]]:
        """(place, label), counted from the last virtual token at 0: the first token of the text stands at 1."""
        return [(len(self.context) + place, label) for place, label in self.target.supervised]


def _batches(
    examples: Sequence[Example], prompt_length: int, mixed: bool = True
) -> Iterator[list[Row]]:
    """One row for each target, rows of like length together, at most `CALL_TOKENS` with pads, an example never split.

    `mixed`: rows of different prompts may share a batch.
    """
    order = sorted(
        enumerate(examples), key=lambda pair: (not mixed and pair[1].prompt, -_longest(pair[1]))
    )
    batch: list[Row] = []
    width = 0
    for index, example in order:
        rows = [
            Row(example.context, target, example.prompt, (index, k))
            for k, target in enumerate(example.targets)
        ]
        full = (
            max(width, prompt_length + _longest(example)) * (len(batch) + len(rows)) > CALL_TOKENS
        )
        if batch and (full or (not mixed and batch[0].prompt != example.prompt)):
            yield batch
            batch, width = [], 0
        batch.extend(rows)
        width = max(width, prompt_length + _longest(example))
    if batch:
        yield batch


def _longest(example: Example) -> int:
    """Tokens of the example's longest row."""
    return len(example.context) + max((len(target.ids) for target in example.targets), default=0)


def _embed_padded(
    base_model: nn.Module, texts: list[Int[torch.Tensor, "_"]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Word embeddings (B, T, D) and mask (B, T) of texts of different lengths, pads at the right."""
    device = base_model.get_input_embeddings().weight.device
    ids = pad_sequence(texts, batch_first=True, padding_value=0).to(device)
    lengths = torch.tensor([len(text) for text in texts], device=device)
    return base_model.get_input_embeddings()(ids), torch.arange(
        ids.shape[1], device=device
    ) < lengths[:, None]


def call_at(base_model: nn.Module, places: Sequence[int], **inputs) -> Float[torch.Tensor, "B M V"]:
    """The base model's logits at some places: it makes no others if it knows `logits_to_keep`."""
    inputs.setdefault("use_cache", "past_key_values" in inputs)
    spread = (
        len(set(getattr(base_model, "hf_device_map", {}).values())) > 1
    )  # the index would be on another device
    if not spread and takes(base_model, "logits_to_keep"):
        kept = torch.tensor(places, device=inputs["inputs_embeds"].device)
        return base_model(**inputs, logits_to_keep=kept).logits
    return base_model(**inputs).logits[:, places]


# ---------------------------------------------------------------------------------------------------- all of them

BLOCKS = Strategy(block_logits, block_cost)
PACKED = Strategy(packed_logits, packed_cost)
PREFIXED = Strategy(prefixed_logits, prefixed_cost)
PADDED = Strategy(padded_logits, padded_cost)
ENCODER_DECODER = Strategy(encoder_decoder_logits, encoder_decoder_cost)
