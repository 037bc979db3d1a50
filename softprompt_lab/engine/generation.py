"""Generation behind prompts: on top of their kept keys and values, or plainly from embeddings."""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from transformers import Cache, DynamicCache

from ..batch import pads_first, prepend_prompt, refuse
from .costs import Remembered, attention_window, costs_of
from .prefill import ReadTexts, read_texts, saves
from .prefixes import Prefix, layers_of, prefix_mask, prefix_of
from .scoring import OBJECTIONS, error_of, tolerance_of

logger = logging.getLogger(__name__)

OWN_CACHE = (
    "cache_implementation",
    "custom_generate",
    "prefill_chunk_size",
)  # these go the plain way
# These look at the ids of the text: the first step must be given all of them.
LOOKING_BACK = (
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "sequence_bias",
    "prefix_allowed_tokens_fn",
    "logits_processor",
    "stopping_criteria",
    "stop_strings",
    "streamer",
    "watermarking_config",
)
REFUSED = {
    "assistant_model": "the assistant would not see the prompt",
    "prompt_lookup_num_tokens": "virtual tokens cannot be looked up",
}


class PromptedCache(DynamicCache):
    """A cache that began with prompts; it remembers where the text of its rows stands, for a conversation to go on.

    Attributes:
        virtual: (B, P), True at virtual tokens, False at the zeros in front of a shorter prompt.
        order: (B, N), the column of `input_ids` that stands at each of the first N places of text.
        beams: beam search has sorted the rows anew, so nothing can go on from here.
    """

    def __init__(
        self,
        layers: Prefix,
        virtual: Bool[torch.Tensor, "B P"],
        order: Int[torch.Tensor, "B N"],
        beams: bool = False,
    ) -> None:
        super().__init__(layers)
        self.virtual, self.order, self.beams = virtual, order, beams
        self.read: Int[torch.Tensor, "B N"] | None = (
            None  # ids of the columns that are here, when a call has ended
        )

    @classmethod
    def of(cls, prefixes: Sequence[Prefix], rows: int, beams: bool = False) -> "PromptedCache":
        """Nothing but prefixes: one under every row, or one for each."""
        virtual = prefix_mask(prefixes, rows)
        return cls(
            layers_of(prefixes, rows), virtual, virtual.new_empty(rows, 0, dtype=torch.long), beams
        )

    @classmethod
    def reading(cls, read: ReadTexts, copies: int = 1, beams: bool = False) -> "PromptedCache":
        """Prefixes and all texts but their last tokens, each row `copies` times."""
        layers, virtual, order = read
        layers = [tuple(part.repeat_interleave(copies, dim=0) for part in pair) for pair in layers]
        return cls(
            layers, *(part.repeat_interleave(copies, dim=0) for part in (virtual, order)), beams
        )

    @property
    def text_length(self) -> int:
        """Columns of text whose keys and values are here."""
        return self.get_seq_length() - self.virtual.shape[1]

    def places(self, text: Bool[torch.Tensor, "B T"]) -> Int[torch.Tensor, "B T"]:
        """`order` for more text: new columns come pads first, so that each row ends with its last token."""
        known = self.order.shape[1]
        cached = max(
            known, self.text_length
        )  # a packed first step knows all columns, and has read all but the last
        generated = torch.arange(known, cached, device=text.device).expand(len(text), -1)
        return torch.cat([self.order, generated, cached + pads_first(text[:, cached:])], dim=1)


def generate_behind(
    base_model: nn.Module,
    prompts: Sequence[Float[torch.Tensor, "_ D"]],
    prefixes: Callable[[], list[Prefix]],
    input_ids: Int[torch.Tensor, "B T"],
    text: Bool[torch.Tensor, "B T"],
    past: Cache | None = None,
    **kwargs: Any,
) -> Any:
    """transformers' `generate` for a decoder behind prompts; its sequences begin with `input_ids` as they came.

    Args:
        prompts, prefixes: one for every row, or B of them; the prefixes are asked for where they are used.
        past: the cache of an earlier call, which has read the first columns of `input_ids`. The prompts in it are those
            of that call; processors that look at the text see what is new.

    Raises:
        ValueError: there is no room, an argument that a prompt makes meaningless, or nothing can go on from `past`.
    """
    asked = _Asked(base_model, kwargs)
    refuse(asked, REFUSED)
    kwargs |= _lengths_of_new_text(asked, input_ids.shape[1])
    beams = asked("num_beams") or 1
    copies = max(beams, asked("num_return_sequences") or 1)
    if past is not None:
        _check_cache(past, input_ids, copies)
    virtual = max(map(len, prompts)) if past is None else past.virtual.shape[1]
    new = kwargs.get("max_new_tokens") or asked("max_new_tokens") or 1
    _check_positions(base_model, virtual, int(text.sum(dim=1).max()), new)
    if past is None and not _goes_on_prefixes(
        base_model, asked, virtual + input_ids.shape[1] + new
    ):
        output = generate_from_embeddings(base_model, prompts, input_ids, text, **kwargs)
        return _behind_input(input_ids, output, given=0)
    if past is None:
        past = _begin(base_model, prefixes(), asked, input_ids, text, copies, beams > 1)
    given = input_ids.shape[1] - past.text_length
    output = _behind_input(
        input_ids, generate_on_prefixes(base_model, past, input_ids, text, **kwargs), given
    )
    if not isinstance(output, torch.Tensor):
        past.read = output.sequences[:, : past.text_length]
    return output


def _begin(
    base_model: nn.Module,
    prefixes: Sequence[Prefix],
    asked: "_Asked",
    input_ids: Int[torch.Tensor, "B T"],
    text: Bool[torch.Tensor, "B T"],
    copies: int,
    beams: bool,
) -> PromptedCache:
    """The cache that the first step goes on from: the prefixes, or also the texts where reading them packed pays."""
    looks_back = any(asked(name) not in (None, 0, 1.0) for name in LOOKING_BACK)
    if (
        len(text) > 1
        and not looks_back
        and saves(costs_of(base_model), prefixes, text)
        and reads_exactly(base_model)
    ):
        distinct = list({id(prefix): prefix for prefix in prefixes}.values())
        numbers = [
            next(n for n, one in enumerate(distinct) if one is prefix) for prefix in prefixes
        ]
        numbers = numbers if len(numbers) > 1 else numbers * len(text)
        return PromptedCache.reading(
            read_texts(base_model, distinct, numbers, input_ids, text), copies, beams
        )
    under = (
        prefixes if len(prefixes) == 1 else [prefix for prefix in prefixes for _ in range(copies)]
    )
    return PromptedCache.of(under, len(input_ids) * copies, beams)


class _Asked:
    """What a call to `generate` asks for: its arguments, then its `generation_config`, then the base model's."""

    def __init__(self, base_model: nn.Module, kwargs: dict[str, Any]) -> None:
        self.kwargs, self.default = kwargs, base_model.generation_config

    def __call__(self, name: str) -> Any:
        """The value of an argument, or None."""
        sources = (self.kwargs.get("generation_config"), self.default)
        values = (self.kwargs.get(name), *(getattr(source, name, None) for source in sources))
        return next((value for value in values if value is not None), None)


def _lengths_of_new_text(asked: _Asked, length: int) -> dict[str, Any]:
    """`max_length` and `min_length`, which count the input, as numbers of new tokens, with the arguments that they take
    the place of; an explicit number of new tokens wins, as in transformers."""
    found: dict[str, Any] = {}
    if asked("max_length") is not None or asked("min_length") is not None:
        if asked("max_new_tokens") is None and asked("max_length") is not None:
            found["max_new_tokens"] = _room(asked("max_length"), length)
        if asked("min_new_tokens") is None and asked("min_length"):
            found["min_new_tokens"] = max(0, asked("min_length") - length)
        for name in ("max_length", "min_length"):
            asked.kwargs.pop(name, None)
        if (config := asked.kwargs.get("generation_config")) is not None:
            found["generation_config"] = copy.deepcopy(config)
            found["generation_config"].max_length = found["generation_config"].min_length = None
    return found


def _goes_on_prefixes(base_model: nn.Module, asked: _Asked, length: int) -> bool:
    """True where the kept prefixes give the plain way's tokens: no cache of another kind, no window that pads fill."""
    if asked("use_cache") is False or any(asked(name) is not None for name in OWN_CACHE):
        return False
    return length <= attention_window(base_model) and continues_exactly(base_model)


def generate_on_prefixes(
    base_model: nn.Module,
    cache: PromptedCache,
    input_ids: Int[torch.Tensor, "B T"],
    text: Bool[torch.Tensor, "B T"],
    **kwargs: Any,
) -> Any:
    """transformers' `generate` on top of a cache: it reads `[virtual | pads | text]` and sees ids of text only.

    Returns:
        Its output, whose sequences begin with the columns of `input_ids` that the cache did not hold.
    """
    cached, copies = cache.text_length, len(cache.virtual) // len(text)
    places = cache.places(text.repeat_interleave(copies, dim=0))
    order = places[::copies]
    mask = torch.cat([cache.virtual[::copies], text.gather(1, order)], dim=1)
    output = base_model.generate(
        input_ids=input_ids.gather(1, order)[:, cached:],
        attention_mask=mask.long(),
        past_key_values=cache,
        **kwargs,
    )
    cache.order = places
    return output


def generate_from_embeddings(
    base_model: nn.Module,
    prompts: Sequence[Float[torch.Tensor, "_ D"]],
    input_ids: Int[torch.Tensor, "B T"],
    text: Bool[torch.Tensor, "B T"],
    **kwargs: Any,
) -> Any:
    """transformers' `generate` from `[pads | prompt | text]`: for every model and every kind of cache.

    Processors that look at the text (a repetition penalty) see what is new only, as always with embeddings.

    Returns:
        Its output, whose sequences hold the new tokens only.
    """
    batch = prepend_prompt(prompts, base_model.get_input_embeddings()(input_ids), text, pads="left")
    return base_model.generate(**batch.inputs, **kwargs)


def _behind_input(input_ids: Int[torch.Tensor, "B T"], output: Any, given: int) -> Any:
    """What `generate` returned, with the caller's ids in place of its first `given` columns."""
    sequences = output if isinstance(output, torch.Tensor) else output.sequences
    copies = len(sequences) // len(input_ids)  # num_return_sequences
    sequences = torch.cat([input_ids.repeat_interleave(copies, dim=0), sequences[:, given:]], dim=1)
    if isinstance(output, torch.Tensor):
        return sequences
    output.sequences = sequences
    return output


# ---------------------------------------------------------------------------------------------- what is refused


def _check_cache(cache: Cache, input_ids: Int[torch.Tensor, "B T"], copies: int) -> None:
    """Raise ValueError for a cache that a conversation cannot go on from."""
    advice = "pass the past_key_values of this model's generate(..., return_dict_in_generate=True)."
    if not isinstance(cache, PromptedCache):
        raise ValueError(
            f"past_key_values is a {type(cache).__name__} that knows of no prompt; {advice}"
        )
    if cache.beams:
        raise ValueError(
            f"past_key_values comes from a beam search, which has sorted its rows anew; {advice}"
        )
    if copies > 1:
        raise ValueError(
            "num_beams and num_return_sequences must be 1 where past_key_values is passed."
        )
    if len(cache.virtual) != len(input_ids):
        raise ValueError(
            f"past_key_values has {len(cache.virtual)} rows, input_ids {len(input_ids)}."
        )
    if cache.text_length >= input_ids.shape[1]:
        raise ValueError(
            f"input_ids has {input_ids.shape[1]} columns and past_key_values {cache.text_length} already; pass the "
            "whole conversation: the earlier sequences with the new text behind them."
        )
    if cache.read is None or not torch.equal(input_ids[:, : cache.text_length], cache.read):
        raise ValueError(
            "past_key_values has read another text than the first columns of input_ids: each cache goes on once, from "
            "the sequences that came with it."
        )


def _room(max_length: int, length: int) -> int:
    """New tokens that `max_length` leaves behind an input of `length` tokens."""
    if max_length <= length:
        raise ValueError(
            f"max_length={max_length} leaves no room behind an input of {length} tokens."
        )
    return max_length - length


def _check_positions(base_model: nn.Module, virtual: int, tokens: int, new: int) -> None:
    """Raise ValueError when prompt, text and new tokens are more than the base model has positions for."""
    limit = getattr(
        base_model.config.get_text_config(decoder=True), "max_position_embeddings", None
    )
    room = (
        None if limit is None else limit - virtual - tokens + 1
    )  # the last new token is never read
    if room is not None and new > room:
        raise ValueError(
            f"{virtual} virtual tokens, {tokens} tokens of text and max_new_tokens={new} do not fit: the base model "
            f"has positions for {limit}. Shorten the text, or lower max_new_tokens to {max(0, room)}."
        )


# ------------------------------------------------------------------------------------------------- the question

_continues = Remembered()
_reads = Remembered()


def continues_exactly(base_model: nn.Module) -> bool:
    """True if a batch on prefixes of two lengths gives the logits of its rows alone, from embeddings; asked once."""
    return _continues(
        base_model,
        lambda: _is_exact(base_model, lambda prefixes, *_: PromptedCache.of(prefixes, 2)),
    )


def reads_exactly(base_model: nn.Module) -> bool:
    """The same of texts that were read in one packed row."""

    def begin(prefixes: Sequence[Prefix], rows: torch.Tensor, text: torch.Tensor) -> PromptedCache:
        return PromptedCache.reading(read_texts(base_model, prefixes, [0, 1], rows, text))

    return _reads(base_model, lambda: _is_exact(base_model, begin))


@torch.inference_mode(False)
@torch.no_grad()
def _is_exact(base_model: nn.Module, begin: Callable[..., PromptedCache]) -> bool:
    """True if two rows of different lengths behind different prompts give from a cache the logits of each alone."""
    words = base_model.get_input_embeddings().weight
    ids = torch.randint(0, words.shape[0], (14,), generator=torch.Generator().manual_seed(0)).to(
        words.device
    )
    prompts = [words[ids[:2]].float(), words[ids[2:6]].float()]
    rows, text = (
        torch.stack([ids[6:10], ids[10:14]]),
        torch.ones(2, 4, dtype=torch.bool, device=words.device),
    )
    text[0, 2:] = False
    options = {"max_new_tokens": 2, "do_sample": False, "pad_token_id": 0, "num_beams": 1}
    options |= {"return_dict_in_generate": True, "output_logits": True}
    try:
        cache = begin([prefix_of(base_model, prompt) for prompt in prompts], rows, text)
        ours = generate_on_prefixes(base_model, cache, rows, text, **options)
        alone = [
            generate_from_embeddings(
                base_model, [prompt], row[kept][None], kept[kept][None], **options
            )
            for prompt, row, kept in zip(prompts, rows, text, strict=True)
        ]
        return all(_agree(ours, theirs, row, words.dtype) for row, theirs in enumerate(alone))
    except torch.OutOfMemoryError:
        raise
    except OBJECTIONS as error:
        logger.info("%s does not go on: %r", type(base_model).__name__, error)
        return False


def _agree(ours: Any, theirs: Any, row: int, dtype: torch.dtype) -> bool:
    """True if a row's logits are those of the row alone, but for rounding, until the tokens part."""
    for mine, alone in zip(ours.logits, theirs.logits, strict=False):
        if error_of(mine[row], alone[0]) > tolerance_of(dtype):
            return False
        if mine[row].argmax() != alone[0].argmax():
            break
    return True
