"""Rows of a batch: `[prompt | text | pads]` for the base model, its outputs lined up with the caller's input again.

Text stands directly behind its prompt and every pad outside, whatever side the caller padded on, so that a row's
positions, and with them its result, are what they would be alone. `PlainEngine` computes what the package needs from
such rows, one call after the other; the engine room computes the same numbers faster.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers.loss.loss_utils import fixed_cross_entropy

from . import room
from .embedding import concatenate_prompt

IGNORE = -100  # a label that does not count, as in torch.nn.CrossEntropyLoss
ROWS_PER_CALL = 16  # of the plain engine
Prompts = Sequence[Float[torch.Tensor, "_ D"]]
Prompt = TypeVar("Prompt")

# ------------------------------------------------------------------------------------------- texts with labels


@dataclass(frozen=True)
class Target:
    """Tokens that follow a context. `labels[i]` is the token to be predicted at position i, or -100."""

    ids: Sequence[int]
    labels: Sequence[int]

    @classmethod
    def of(cls, ids: Sequence[int]) -> "Target":
        """Return a target whose every token is to be predicted."""
        return cls(ids, ids)

    @property
    def supervised(self) -> list[tuple[int, int]]:
        """(position, label) of each token that is to be predicted."""
        return [(place, label) for place, label in enumerate(self.labels) if label != IGNORE]


@dataclass(frozen=True)
class Example:
    """A context with one target (training) or several that compete (rank classification), behind prompt number n."""

    context: Sequence[int]
    targets: Sequence[Target]
    prompt: int = 0

    def __len__(self) -> int:
        """Tokens that the model must read: a target's last token is predicted, never read."""
        return len(self.context) + sum(max(len(target.ids) - 1, 0) for target in self.targets)


class LabelLogits(NamedTuple):
    """M labels: their logits over the vocabulary, their token ids, and (example, target) of each."""

    logits: Float[torch.Tensor, "M V"]
    label_ids: Int[torch.Tensor, "M"]
    owners: list[tuple[int, int]]


def pad_rows(
    rows: Sequence[Sequence[int]], device: torch.device, value: int = 0
) -> tuple[Int[torch.Tensor, "B T"], Bool[torch.Tensor, "B T"]]:
    """Return lists of ids as one tensor, padded on the right, and the mask of what is no pad."""
    ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    lengths = torch.tensor([len(row) for row in rows])
    padded = pad_sequence(ids, batch_first=True, padding_value=value)  # (B, T)
    return padded.to(device), (torch.arange(padded.shape[1]) < lengths[:, None]).to(device)


# ------------------------------------------------------------------------------------------- the layout of a row


@dataclass(frozen=True)
class PromptedBatch:
    """B rows of prompt and text, pads all on one side; N = P + T with the longest prompt.

    Attributes:
        embeddings: what the base model reads.
        mask: True at virtual and text tokens.
        positions: where each token of the caller's `(B, T)` stands in its row.
        text: the caller's mask.
        position_ids: the position of each token, for base models that would count from the mask differently.
    """

    embeddings: Float[torch.Tensor, "B N D"]
    mask: Bool[torch.Tensor, "B N"]
    positions: Int[torch.Tensor, "B T"]
    text: Bool[torch.Tensor, "B T"]
    position_ids: Int[torch.Tensor, "B N"] | None = None

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """The base model's arguments."""
        inputs = {"inputs_embeds": self.embeddings, "attention_mask": self.mask.long()}
        return inputs if self.position_ids is None else inputs | {"position_ids": self.position_ids}

    def align(
        self, states: Float[torch.Tensor, "B N X"], shift: int = 0
    ) -> Float[torch.Tensor, "B T X"]:
        """Return the model's output at each token of the caller's row, or `shift` positions before; 0 at pads."""
        index = (self.positions - shift).clamp(min=0)[..., None].expand(-1, -1, states.shape[-1])
        return states.gather(1, index) * self.text[..., None]

    def loss(
        self,
        logits: Float[torch.Tensor, "B N V"],
        labels: Int[torch.Tensor, "B T"],
        count: torch.Tensor | int | None = None,
    ) -> Float[torch.Tensor, ""]:
        """Return the cross-entropy in nats of labels that line up with the caller's text, -100 where there is none.

        A label is predicted at the position before it; one at the very beginning, without a prompt, by nothing.

        Args:
            count: what the sum is divided by, in place of the number of labels.
        """
        predicting = self.align(logits, shift=1).float().flatten(0, 1)  # (B * T, V)
        predicted = labels.masked_fill(self.positions == 0, IGNORE).flatten()
        return fixed_cross_entropy(predicting, predicted, count, IGNORE)


def prepend_prompt(
    prompts: Prompts,
    words: Float[torch.Tensor, "B T D"],
    text: Bool[torch.Tensor, "B T"],
    pads: Literal["left", "right"] = "right",
) -> PromptedBatch:
    """Put prompts in front of embedded text: one for every row, or a list of B, which may differ in length.

    Args:
        text: True at text, False at pads, on whatever side.
        pads: where they stand in the result; generation wants them on the left.
    """
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=words.device)
    front = pad_sequence(list(prompts), batch_first=True)  # (1 or B, P, D)
    virtual = torch.arange(front.shape[1], device=words.device) < lengths[:, None]  # (1 or B, P)
    embeddings = concatenate_prompt(words, front)  # (B, P+T, D)
    mask = torch.cat([virtual.expand(len(words), -1), text], dim=1)
    # Pads to one side; the order of the rest stays, and the inverse of a permutation is its argsort.
    order = (~mask if pads == "right" else mask).long().argsort(dim=1, stable=True)
    return PromptedBatch(
        embeddings.gather(1, order[..., None].expand_as(embeddings)),
        mask.gather(1, order),
        order.argsort(dim=1)[:, front.shape[1] :],
        text,
    )


def distinct_prompts(prompts: Sequence[Prompt], rows: int) -> tuple[list[Prompt], list[int]]:
    """Return each prompt once, and for each of the rows the number of its own.

    Args:
        prompts: vectors, or what was made of them: one for every row, or one for each.
    """
    numbers: dict[int, int] = {}  # by their identity
    of_rows = [numbers.setdefault(id(prompt), len(numbers)) for prompt in prompts]
    distinct = list({id(prompt): prompt for prompt in prompts}.values())
    return distinct, of_rows if len(of_rows) == rows else of_rows * rows


# ---------------------------------------------------------------------------------------- what the caller gave

REFUSED = {
    "position_ids": "positions are counted from the attention mask",
    "past_key_values": "it would hold the prompt already; pass the whole text, whose prompt is kept",
    "inputs_embeds": "pass input_ids",
    "logits_to_keep": "logits line up with input_ids; model.loss makes those at the labels only",
    "assistant_model": "the assistant would not see the prompt",
    "prompt_lookup_num_tokens": "virtual tokens cannot be looked up",
}


def refuse(value_of: Callable[[str], Any]) -> None:
    """Raise ValueError for arguments that would be silently wrong behind a prompt."""
    for name, reason in REFUSED.items():
        if value_of(name) is not None:
            raise ValueError(f"{name} cannot be passed: {reason}.")


def takes(base_model: nn.Module, name: str) -> bool:
    """Return whether the base model's forward pass has an argument with this name."""
    return name in inspect.signature(base_model.forward).parameters


def refuse_types(base_model: nn.Module, token_type_ids: torch.Tensor | None) -> None:
    """Raise ValueError for types of tokens where the base model that is to write text would read them."""
    if token_type_ids is not None and takes(base_model, "token_type_ids"):
        raise ValueError(
            "token_type_ids cannot be passed where text is written: virtual and new tokens have none; leave them out."
        )


def checked_mask(
    tokens: Shaped[torch.Tensor, "B T *D"], attention_mask: Int[torch.Tensor, "_ _"] | None
) -> Bool[torch.Tensor, "B T"]:
    """Return the mask of tokens, ids or vectors, as booleans; every row must have at least one token of text."""
    shape = tokens.shape[:2]
    if attention_mask is None:
        return torch.ones(shape, dtype=torch.bool, device=tokens.device)
    if attention_mask.shape != shape:
        raise ValueError(
            f"attention_mask is {tuple(attention_mask.shape)}, input_ids {tuple(shape)}."
        )
    mask = attention_mask.bool()
    if not mask.any(dim=1).all():
        empty = (~mask.any(dim=1)).nonzero()[:, 0].tolist()
        raise ValueError(f"rows {empty} hold no text: their attention mask is all 0.")
    return mask


def check_labels(labels: Int[torch.Tensor, "_ _"], mask: torch.Tensor) -> None:
    """Raise ValueError for labels that do not line up with the text, or that would teach the prompt a pad."""
    if labels.shape != mask.shape:
        raise ValueError(f"labels are {tuple(labels.shape)}, input_ids {tuple(mask.shape)}.")
    if ((labels != IGNORE) & ~mask).any():
        raise ValueError("a pad has a label; set labels to -100 wherever attention_mask is 0.")


def generation_argument(base_model: nn.Module, kwargs: Mapping[str, Any], name: str) -> Any:
    """Return what a call of `generate` asks for: its argument, its `generation_config`'s, or the base model's."""
    sources = (kwargs.get("generation_config"), base_model.generation_config)
    values = (kwargs.get(name), *(getattr(source, name, None) for source in sources))
    return next((value for value in values if value is not None), None)


def positions_of(base_model: nn.Module) -> int | None:
    """Return how many positions a base model has, or None where it has no number for them."""
    shape = base_model.config.get_text_config(decoder=True)
    return getattr(shape, "max_position_embeddings", None)


def lengths_of_new_text(
    base_model: nn.Module, kwargs: dict[str, Any], text: Bool[torch.Tensor, "B T"], virtual: int
) -> dict[str, Any]:
    """Return `generate`'s arguments with `max_length` and `min_length`, which count the text, as numbers of new tokens.

    Args:
        text: the mask of what is given.
        virtual: the number of virtual tokens in front of it.

    Raises:
        ValueError: `max_length` leaves no room, or prompt, text and new tokens are more than the base model has
            positions for.
    """
    kwargs, length = dict(kwargs), text.shape[1]
    for bound in ("max", "min"):
        limit = generation_argument(base_model, kwargs, f"{bound}_length")
        new = generation_argument(base_model, kwargs, f"{bound}_new_tokens")
        if limit and new is None:  # an explicit number of new tokens wins, as in transformers
            if bound == "max" and limit <= length:
                raise ValueError(
                    f"max_length={limit} leaves no room behind an input of {length} tokens."
                )
            kwargs[f"{bound}_new_tokens"] = max(0, limit - length)
        kwargs.pop(f"{bound}_length", None)
    if (config := kwargs.get("generation_config")) is not None:
        kwargs["generation_config"] = copy.deepcopy(config)
        kwargs["generation_config"].max_length = kwargs["generation_config"].min_length = None
    new, tokens = (
        generation_argument(base_model, kwargs, "max_new_tokens") or 1,
        int(text.sum(1).max()),
    )
    limit = positions_of(base_model)
    if limit is not None and virtual + tokens + new - 1 > limit:  # the last new token is never read
        raise ValueError(
            f"{virtual} virtual tokens, {tokens} tokens of text and max_new_tokens={new} do not fit: the base model "
            f"has positions for {limit}. Shorten the text, or lower max_new_tokens to "
            f"{max(0, limit - virtual - tokens + 1)}."
        )
    return kwargs


# ------------------------------------------------------------------------------------------------ the plain way


class PlainEngine:
    """How a batch goes through the frozen base model, in a way that one can read and that is right on every base model.

    `engine.FastEngine` overrides each method with a faster way to the same numbers. Every engine gives what each row
    gives alone, up to rounding.
    """

    def inside(self, base_model: nn.Module) -> AbstractContextManager:
        """Return a context for calls of the base model: another engine keeps other threads out of it."""
        return nullcontext()

    def label_logits(
        self, base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
    ) -> Iterator[LabelLogits]:
        """Yield the logits that predict each label, a padded row for each target, one call at a time."""
        decode = encoder_decoder_call if base_model.config.is_encoder_decoder else decoder_call
        rows = [
            (example, target, (index, number))
            for index, example in enumerate(examples)
            for number, target in enumerate(example.targets)
        ]
        for start in range(0, len(rows), ROWS_PER_CALL):
            part = rows[start : start + ROWS_PER_CALL]
            fronts = [prompts[example.prompt] for example, _, _ in part]
            logits, first = decode(base_model, fronts, [row[:2] for row in part])
            found = [
                (row, first[row] + place, label, owner)
                for row, (_, target, owner) in enumerate(part)
                for place, label in target.supervised
                if first[row] + place >= 0  # else nothing predicts it: neither prompt nor context
            ]
            if found:
                at, places, labels, owners = zip(*found, strict=True)
                label_ids = torch.tensor(labels, device=logits.device)
                yield LabelLogits(logits[list(at), list(places)].float(), label_ids, list(owners))

    def label_loss(
        self,
        base_model: nn.Module,
        prompts: Prompts,
        input_ids: Int[torch.Tensor, "B T"],
        mask: Bool[torch.Tensor, "B T"],
        labels: Int[torch.Tensor, "B S"],
    ) -> Float[torch.Tensor, ""]:
        """Return the mean cross-entropy of the labels in nats, with the prompts' gradient path.

        Args:
            labels: of a decoder lined up with `input_ids`, of an encoder-decoder texts of their own.
        """
        batch = prepend_prompt(prompts, base_model.get_input_embeddings()(input_ids), mask)
        if base_model.config.is_encoder_decoder:
            read = decoder_input_ids(base_model, labels)
            return base_model(**batch.inputs, decoder_input_ids=read, labels=labels).loss
        return batch.loss(base_model(**batch.inputs, use_cache=False).logits, labels)

    def generate(
        self,
        base_model: nn.Module,
        prompts: Prompts,
        input_ids: Int[torch.Tensor, "B T"],
        mask: Bool[torch.Tensor, "B T"],
        **kwargs: Any,
    ) -> Any:
        """Continue rows as transformers' `generate`; a decoder's sequences begin with `input_ids`."""
        words = base_model.get_input_embeddings()(input_ids)
        if base_model.config.is_encoder_decoder:
            return base_model.generate(**prepend_prompt(prompts, words, mask).inputs, **kwargs)
        batch = prepend_prompt(prompts, words, mask, "left")
        check = room("engine.exactness:check_left_pads", default=lambda *_: None)
        check(base_model, batch.mask.sum(dim=1))
        return behind_input(input_ids, base_model.generate(**batch.inputs, **kwargs))


def decoder_call(
    base_model: nn.Module, prompts: Prompts, rows: Sequence[tuple[Example, Target]]
) -> tuple[Float[torch.Tensor, "B N V"], list[int]]:
    """Return the logits of `[prompt | context | target | pads]`, and the position that predicts each first label."""
    words = base_model.get_input_embeddings()
    texts = [[*example.context, *target.ids[:-1]] for example, target in rows]
    ids, mask = pad_rows(texts, words.weight.device)
    batch = prepend_prompt(prompts, words(ids), mask)
    lengths = zip(prompts, rows, strict=True)
    first = [len(prompt) + len(example.context) - 1 for prompt, (example, _) in lengths]
    return base_model(**batch.inputs, use_cache=False).logits, first


def encoder_decoder_call(
    base_model: nn.Module, prompts: Prompts, rows: Sequence[tuple[Example, Target]]
) -> tuple[Float[torch.Tensor, "B S V"], list[int]]:
    """Return the logits of each target behind an encoded `[prompt | context | pads]`."""
    words, start = base_model.get_input_embeddings(), decoder_start(base_model)
    ids, mask = pad_rows([example.context for example, _ in rows], words.weight.device)
    batch = prepend_prompt(prompts, words(ids), mask)
    decoder_ids, _ = pad_rows([[start, *target.ids[:-1]] for _, target in rows], ids.device, start)
    output = base_model(**batch.inputs, decoder_input_ids=decoder_ids, use_cache=False)
    return output.logits, [0] * len(rows)


def decoder_start(base_model: nn.Module) -> int:
    """Return the token that an encoder-decoder's writing starts with, in training and scoring what `generate` takes.

    Raises:
        ValueError: the base model names none.
    """
    for name in ("decoder_start_token_id", "bos_token_id"):
        if (found := generation_argument(base_model, {}, name)) is not None:
            return found
    raise ValueError(
        "the base model names no token that its decoder starts with; set generation_config.decoder_start_token_id "
        "(of a translation model that is the code of the language)."
    )


def decoder_input_ids(
    base_model: nn.Module, labels: Int[torch.Tensor, "B S"]
) -> Int[torch.Tensor, "B S"]:
    """Return what an encoder-decoder's decoder reads where it is to write `labels`: each label, one position later."""
    start = labels.new_full((len(labels), 1), decoder_start(base_model))
    read = labels.masked_fill(labels == IGNORE, base_model.config.pad_token_id or 0)
    return torch.cat([start, read[:, :-1]], dim=1)


def behind_input(input_ids: Int[torch.Tensor, "B T"], output: Any, given: int = 0) -> Any:
    """Return what `generate` returned with `input_ids` in place of the first `given` columns of its sequences."""
    sequences = output if isinstance(output, torch.Tensor) else output.sequences
    copies = len(sequences) // len(input_ids)  # num_return_sequences
    sequences = torch.cat([input_ids.repeat_interleave(copies, dim=0), sequences[:, given:]], dim=1)
    if isinstance(output, torch.Tensor):
        return sequences
    output.sequences = sequences
    return output
