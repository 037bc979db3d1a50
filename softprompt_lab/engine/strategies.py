"""Five strategies for the logits at the labels of a batch, all giving what each row gives alone.

blocks            one row holds many texts and one copy of the prompt (`packing`), attention by text (`blocks`)
packed            the same row with a dense mask
prefixed          the prompt's keys and values once, then every row on top of them (for ALiBi, which packs nothing)
padded            one row for each target, text directly behind the prompt, on every decoder
encoder-decoder   the prompt in front of the encoder's input, targets through the decoder
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import nn

from ..batch import (
    IGNORE,
    Example,
    LabelLogits,
    PromptedBatch,
    Prompts,
    decoder_start,
    pad_rows,
    prepend_prompt,
    takes,
)
from ..embedding import concatenate_prompt
from .blocks import attention_over_blocks, blocks_of
from .packing import PackedRow, additive, pack, packed_mask
from .prefixes import cache_of, positions, prefix_of

CALL_TOKENS = 1024  # in a padded call at most, pads included: larger calls are no faster
MOST_ROW_TOKENS = 4096.0  # of text in a packed row at most, for memory
# The prompt and the call itself are at most a tenth of a packed row. On a CPU a call costs as much as the tokens that
# are multiplied while its weights are read (measured: 30 to 50), and as those that a small model computes while its
# layers are launched. Elsewhere launching is most of it, so rows are as long as they may be.
OVERHEAD = 0.1
READ_TOKENS = 40
LAUNCH = 2.5e7  # weights that are multiplied with a token while a layer is launched
# Up to so many tokens of text a dense mask, which costs a row's length squared, is no slower than blocks.
DENSE_TOKENS = {"cpu": 384.0}
DENSE_TOKENS_ELSEWHERE = 2048.0

Item = TypeVar("Item")
Strategy = Callable[[nn.Module, Prompts, Sequence[Example]], Iterator[LabelLogits]]

# ------------------------------------------------------------------------------------------------------- packed


def blocks(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """Compute every token once and every pair of tokens once: one call for each packed row."""
    call = tokens_of_call(base_model)
    row_tokens = [min((len(prompt) + call) / OVERHEAD, MOST_ROW_TOKENS) for prompt in prompts]
    for prompt, row in _packed_rows(prompts, examples, row_tokens):
        with attention_over_blocks(base_model):
            part = _packed_call(
                base_model, prompt, row, blocks=blocks_of(row, len(prompt), prompt.device)
            )
        yield part


def packed(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """Compute every token once: one ordinary call with a dense mask for each packed row."""
    row_tokens = [dense_tokens(prompt.device) for prompt in prompts]
    for prompt, row in _packed_rows(prompts, examples, row_tokens):
        sees = packed_mask(row, len(prompt))
        mask = additive(sees, base_model.get_input_embeddings().weight)
        yield _packed_call(base_model, prompt, row, attention_mask=mask)


def tokens_of_call(base_model: nn.Module) -> float:
    """Return how many tokens in a longer call cost as much as another call."""
    words = base_model.get_input_embeddings().weight
    if words.device.type != "cpu":
        return MOST_ROW_TOKENS
    layers = base_model.config.get_text_config(decoder=True).num_hidden_layers
    weights = sum(weight.numel() for weight in base_model.parameters()) - words.numel()
    return READ_TOKENS + LAUNCH * layers / weights


def dense_tokens(device: torch.device) -> float:
    """Return the length of text up to which a dense mask is no slower than blocks."""
    return DENSE_TOKENS.get(device.type, DENSE_TOKENS_ELSEWHERE)


def _packed_rows(
    prompts: Prompts, examples: Sequence[Example], row_tokens: Sequence[float]
) -> Iterator[tuple[torch.Tensor, PackedRow]]:
    """Yield the rows of a batch that hold labels, each with its prompt."""
    for row in pack(examples, [len(prompt) for prompt in prompts], row_tokens):
        if row.label_ids:
            yield prompts[row.prompt], row


def _packed_call(
    base_model: nn.Module, prompt: Float[torch.Tensor, "P D"], row: PackedRow, **attention
) -> LabelLogits:
    """Call the base model once with `inputs_embeds` (1, P+N, D) and `position_ids` (1, P+N)."""
    ids = torch.tensor([row.ids], dtype=torch.long, device=prompt.device)
    embeddings = concatenate_prompt(base_model.get_input_embeddings()(ids), prompt)
    numbers = torch.tensor([[*range(len(prompt)), *row.position_ids]], device=prompt.device)
    return _logits_of(
        base_model, [row], [0], inputs_embeds=embeddings, position_ids=numbers, **attention
    )


# --------------------------------------------------------------------------------------------- prefixed, padded


def prefixed(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """Call twice: with the prompt but its last vector, whose keys and values are kept; then with every row behind them.

    A row is `[pads | last virtual token | context | target]`. The rows end together, so their labels are predicted in
    the same few columns, and the vocabulary is read there only.
    """
    alone = _rows_alone(prompts, examples)
    for number, prompt in enumerate(prompts):
        for rows in _calls(
            [row for row in alone if row.prompt == number], lambda row: 1 + len(row.ids)
        ):
            prefix = prefix_of(base_model, prompt[:-1])
            batch = _padded_batch(base_model, [prompt[-1:]], [row.ids for row in rows], "left")
            front = batch.mask.new_ones(len(rows), len(prompt) - 1)
            mask = torch.cat([front, batch.mask], dim=1)  # (B, P+T)
            inputs = batch.inputs | {"attention_mask": mask.long()}
            inputs["past_key_values"] = cache_of(prefix, len(rows))
            width = batch.mask.shape[1]
            if takes(base_model, "position_ids"):
                inputs["position_ids"] = positions(mask)[:, -width:]
            shifts = [width - len(prompt) - len(row.ids) for row in rows]
            yield _logits_of(base_model, rows, shifts, **inputs)


def padded(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """Compute `[prompt | context | target | pads]` for each target: right on every decoder."""
    for rows in _calls(
        _rows_alone(prompts, examples), lambda row: len(prompts[row.prompt]) + len(row.ids)
    ):
        fronts = [prompts[row.prompt] for row in rows]
        batch = _padded_batch(base_model, fronts, [row.ids for row in rows])
        yield _logits_of(base_model, rows, [0] * len(rows), **batch.inputs)


def _rows_alone(prompts: Prompts, examples: Sequence[Example]) -> list[PackedRow]:
    """Return a row for each target that has a label, alone with its context."""
    rows = []
    for index, example in enumerate(examples):
        for number, target in enumerate(example.targets):
            one = (index, Example(example.context, [target]))
            row = PackedRow.of([one], example.prompt, len(prompts[example.prompt]))
            row.owners = [(index, number)] * len(row.label_ids)
            rows += [row] if row.label_ids else []
    return rows


# ---------------------------------------------------------------------------------------------- encoder-decoder


def encoder_decoder(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """Compute `[prompt | context]` through the encoder once, and each target through the decoder.

    PEFT's SEQ_2_SEQ_LM with `num_transformer_submodules=1`.
    """
    start = decoder_start(base_model)
    for part in _calls(list(enumerate(examples)), lambda pair: _read_tokens(prompts, pair[1])):
        fronts = [prompts[example.prompt] for _, example in part]
        batch = _padded_batch(base_model, fronts, [example.context for _, example in part])
        encoded = base_model.get_encoder()(**batch.inputs)
        rows = [
            (context, (index, number), target)
            for context, (index, example) in enumerate(part)
            for number, target in enumerate(example.targets)
        ]
        copies, owners, targets = zip(*rows, strict=True)
        states = encoded.last_hidden_state  # (contexts, P+T, D)
        encoded.last_hidden_state = states[list(copies)]
        ids, _ = pad_rows([[start, *target.ids[:-1]] for target in targets], states.device, start)
        labels, _ = pad_rows([target.labels for target in targets], states.device, IGNORE)
        logits = base_model(
            encoder_outputs=encoded,
            attention_mask=batch.mask.long()[list(copies)],
            decoder_input_ids=ids,
            use_cache=False,
        ).logits  # (B, S, V)
        supervised = labels != IGNORE
        if supervised.any():
            of_labels = [owners[row] for row in supervised.nonzero()[:, 0].tolist()]
            yield LabelLogits(logits[supervised].float(), labels[supervised], of_labels)


def _read_tokens(prompts: Prompts, example: Example) -> int:
    """Return how many tokens of an encoded context the example's targets look at."""
    return (len(prompts[example.prompt]) + len(example.context)) * len(example.targets)


# ------------------------------------------------------------------------------------------------ their parts


def _calls(rows: Sequence[Item], tokens: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield the rows of one call after the other, longest first: at most `CALL_TOKENS`, pads included."""
    rows = sorted(rows, key=tokens, reverse=True)
    while rows:
        count = max(1, CALL_TOKENS // max(1, tokens(rows[0])))
        yield rows[:count]
        rows = rows[count:]


def _padded_batch(
    base_model: nn.Module,
    fronts: Prompts,
    texts: Sequence[Sequence[int]],
    pads: Literal["left", "right"] = "right",
) -> PromptedBatch:
    """Return texts behind one prompt for all or one for each."""
    words = base_model.get_input_embeddings()
    ids, text = pad_rows(texts, words.weight.device)
    return prepend_prompt(fronts, words(ids), text, pads)


def _logits_of(
    base_model: nn.Module, rows: Sequence[PackedRow], shifts: Sequence[int], **inputs
) -> LabelLogits:
    """Return the logits of rows' labels; the base model makes no others if it knows `logits_to_keep`.

    Args:
        shifts: how far behind its `label_positions` each row's labels are predicted.
    """
    places = [
        place + n for row, n in zip(rows, shifts, strict=True) for place in row.label_positions
    ]
    numbers = [number for number, row in enumerate(rows) for _ in row.label_ids]
    kept, columns = torch.tensor(places).unique(return_inverse=True)
    inputs.setdefault("use_cache", "past_key_values" in inputs)
    devices = set(getattr(base_model, "hf_device_map", {}).values())
    if len(devices) <= 1 and takes(base_model, "logits_to_keep"):  # it indexes on one device
        logits = base_model(
            **inputs, logits_to_keep=kept.to(inputs["inputs_embeds"].device)
        ).logits  # (B, len(kept), V)
    else:
        logits = base_model(**inputs).logits[:, kept]
    label_ids = torch.tensor(
        [label for row in rows for label in row.label_ids], device=logits.device
    )
    owners = [owner for row in rows for owner in row.owners]
    return LabelLogits(logits[numbers, columns].float(), label_ids, owners)
