"""Five strategies for the logits at the labels of a batch, all giving what each row gives alone.

blocks            one row holds many texts and one copy of the prompt (`packing`), attention by text (`blocks`)
packed            the same row with a dense mask
prefixed          the prompt's keys and values once, then every row on top of them (for ALiBi, which packs nothing)
padded            one row for each target, text directly behind the prompt, on every decoder
encoder-decoder   the prompt in front of the encoder's input, targets through the decoder
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import nn

from ..batch import IGNORE, Example, LabelLogits, Prompts, Target, pad_rows, prepend_prompt
from .blocks import attention_over_blocks, blocks_of
from .exactness import Remembered, takes
from .packing import PackedRow, pack, packed_mask
from .prefixes import positions, prefix_of, stack_prefixes

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
        mask = packed_mask(row, len(prompt)).to(prompt.device)
        dtype = base_model.get_input_embeddings().weight.dtype
        additive = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        additive.masked_fill_(~mask, torch.finfo(dtype).min)
        yield _packed_call(base_model, prompt, row, attention_mask=additive[None, None])


_call_tokens = Remembered()


def tokens_of_call(base_model: nn.Module) -> float:
    """Return how many tokens in a longer call cost as much as another call."""
    words = base_model.get_input_embeddings().weight
    layers = base_model.config.get_text_config(decoder=True).num_hidden_layers

    def find() -> float:
        weights = sum(weight.numel() for weight in base_model.parameters()) - words.numel()
        return READ_TOKENS + LAUNCH * layers / weights

    return _call_tokens(base_model, find) if words.device.type == "cpu" else MOST_ROW_TOKENS


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
    ids = torch.tensor(row.ids, dtype=torch.long, device=prompt.device)
    words = base_model.get_input_embeddings()(ids)  # (N, D)
    numbers = torch.tensor([*range(len(prompt)), *row.position_ids], device=prompt.device)
    inputs = {
        "inputs_embeds": torch.cat([prompt.to(words.dtype), words])[None],
        "position_ids": numbers[None],
    }
    logits = _logits_at(base_model, row.label_positions, **inputs, **attention)[0]  # (M, V)
    label_ids = torch.tensor(row.label_ids, device=logits.device)
    return LabelLogits(logits.float(), label_ids, row.owners)


# --------------------------------------------------------------------------------------------- prefixed, padded


def prefixed(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """Call twice: with the prompt but its last vector, whose keys and values are kept; then with every row behind them.

    A row is `[pads | last virtual token | context | target]`. The rows end together, so their labels are predicted in
    the same few columns, and the vocabulary is read there only.
    """
    for rows in _batches(examples, 1, mixed=False):
        prompt = prompts[rows[0].prompt]
        prefix = prefix_of(base_model, prompt[:-1])
        words, text = _embed(base_model, [row.ids for row in rows])
        batch = prepend_prompt([prompt[-1:]], words, text, pads="left")
        width = batch.mask.shape[1]
        front = batch.mask.new_ones(len(rows), len(prompt) - 1)
        mask = torch.cat([front, batch.mask], dim=1)  # (B, P+T)
        inputs = {"inputs_embeds": batch.embeddings, "attention_mask": mask.long()}
        inputs["past_key_values"] = stack_prefixes([prefix], len(rows))
        if takes(base_model, "position_ids"):
            inputs["position_ids"] = positions(mask)[:, -width:]
        yield from _pick(base_model, inputs, rows, [width - len(row.ids) - 1 for row in rows])


def padded(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """Compute `[prompt | context | target | pads]` for each target: right on every decoder."""
    for rows in _batches(examples, max(map(len, prompts))):
        words, text = _embed(base_model, [row.ids for row in rows])
        fronts = [prompts[row.prompt] for row in rows]
        inputs = prepend_prompt(fronts, words, text).inputs
        yield from _pick(base_model, inputs, rows, [len(front) - 1 for front in fronts])


def _pick(
    base_model: nn.Module, inputs: dict, rows: Sequence["Row"], last_virtual: Sequence[int]
) -> Iterator[LabelLogits]:
    """Run a padded batch that has labels and yield the logits there, made only at positions that some row needs.

    Args:
        last_virtual: where in each row its last virtual token stands, -1 without one.
    """
    found = [
        (number, last_virtual[number] + place, label, row.owner)
        for number, row in enumerate(rows)
        for place, label in row.labels
        if last_virtual[number] + place >= 0  # without prompt and context nothing predicts it
    ]
    if not found:
        return
    numbers, places, labels, owners = zip(*found, strict=True)
    kept = sorted(set(places))
    logits = _logits_at(base_model, kept, **inputs)  # (B, len(kept), V)
    picked = logits[list(numbers), [kept.index(place) for place in places]]
    yield LabelLogits(picked.float(), torch.tensor(labels, device=logits.device), list(owners))


# ---------------------------------------------------------------------------------------------- encoder-decoder


def encoder_decoder(
    base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
) -> Iterator[LabelLogits]:
    """Compute `[prompt | context]` through the encoder once, and each target through the decoder.

    PEFT's SEQ_2_SEQ_LM with `num_transformer_submodules=1`.
    """
    for rows in _batches(examples, max(map(len, prompts))):
        contexts = list({row.owner[0]: row for row in rows}.values())  # one row of each example
        words, text = _embed(base_model, [row.context for row in contexts])
        batch = prepend_prompt([prompts[row.prompt] for row in contexts], words, text)
        states = base_model.get_encoder()(**batch.inputs).last_hidden_state  # (contexts, P+T, D)
        device, start = states.device, base_model.config.decoder_start_token_id
        order = {row.owner[0]: number for number, row in enumerate(contexts)}
        copies = torch.tensor([order[row.owner[0]] for row in rows], device=device)
        ids, _ = pad_rows([[start, *row.target.ids[:-1]] for row in rows], device, start)
        labels, _ = pad_rows([row.target.labels for row in rows], device, IGNORE)  # (B, S)
        logits = base_model(
            encoder_outputs=(states[copies],),
            attention_mask=batch.mask.long()[copies],
            decoder_input_ids=ids,
            use_cache=False,
        ).logits  # (B, S, V)
        supervised = labels != IGNORE
        owners = [rows[row].owner for row in supervised.nonzero()[:, 0].tolist()]
        if owners:
            yield LabelLogits(logits[supervised].float(), labels[supervised], owners)


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
        """(place, label), counted from the last virtual token at 0: the text's first token stands at 1."""
        return [(len(self.context) + place, label) for place, label in self.target.supervised]


def _batches(
    examples: Sequence[Example], prompt_length: int, mixed: bool = True
) -> Iterator[list[Row]]:
    """Yield a row for each target, rows of similar length together, an example never split.

    A batch has at most `CALL_TOKENS`, pads included.

    Args:
        mixed: rows of different prompts may share a batch.
    """
    order = sorted(
        enumerate(examples), key=lambda pair: (not mixed and pair[1].prompt, -_longest(pair[1]))
    )
    batch: list[Row] = []
    width = 0
    for index, example in order:
        targets = enumerate(example.targets)
        rows = [Row(example.context, target, example.prompt, (index, k)) for k, target in targets]
        width = max(width, prompt_length + _longest(example))
        full = width * (len(batch) + len(rows)) > CALL_TOKENS
        if batch and (full or (not mixed and batch[0].prompt != example.prompt)):
            yield batch
            batch, width = [], prompt_length + _longest(example)
        batch.extend(rows)
    if batch:
        yield batch


def _longest(example: Example) -> int:
    """Return the number of tokens in the example's longest row."""
    return len(example.context) + max((len(target.ids) for target in example.targets), default=0)


def _embed(
    base_model: nn.Module, texts: Sequence[Sequence[int]]
) -> tuple[Float[torch.Tensor, "B T D"], Bool[torch.Tensor, "B T"]]:
    """Return word embeddings and mask of texts of different lengths, pads at the right."""
    words = base_model.get_input_embeddings()
    ids, mask = pad_rows(texts, words.weight.device)
    return words(ids), mask


def _logits_at(
    base_model: nn.Module, places: Sequence[int], **inputs
) -> Float[torch.Tensor, "B M V"]:
    """Return the base model's logits at some positions; it makes no others if it knows `logits_to_keep`."""
    inputs.setdefault("use_cache", "past_key_values" in inputs)
    devices = set(getattr(base_model, "hf_device_map", {}).values())
    if len(devices) <= 1 and takes(base_model, "logits_to_keep"):  # it indexes on one device
        kept = torch.tensor(places, device=inputs["inputs_embeds"].device)
        return base_model(**inputs, logits_to_keep=kept).logits
    return base_model(**inputs).logits[:, places]
