"""What a base model takes, found out by asking it once and comparing numbers, never from a list of names."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import nn
from torch.nn.functional import pad

from .gradient_checkpointing import checkpointed_layers

logger = logging.getLogger(__name__)

# What an architecture raises when an argument is foreign to it.
OBJECTIONS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
ADVICE = (
    "Choose a base model whose inputs_embeds are all that it reads (most Llama- and T5-like ones)."
)


def asked_once(question: Callable[..., Any]) -> Callable[..., Any]:
    """Remember what a base model answers to a question for as long as there is the model."""
    answers: WeakKeyDictionary[nn.Module, dict] = WeakKeyDictionary()

    @wraps(question)
    def answer(base_model: nn.Module, *arguments: Any) -> Any:
        known = answers.setdefault(base_model, {})
        if arguments not in known:
            known[arguments] = question(base_model, *arguments)
        return known[arguments]

    return answer


def remembered(find: Callable[..., Any]) -> Callable[..., Any]:
    """Ask a question about a base model once for each type, device, attention and checkpointing that it has."""
    asked = asked_once(lambda base_model, key, *arguments: find(base_model, *arguments))

    @wraps(find)
    def answer(base_model: nn.Module, *arguments: Any) -> Any:
        words = base_model.get_input_embeddings().weight
        attention = getattr(base_model.config, "_attn_implementation", None)
        recomputes = any(layer.training for layer in checkpointed_layers(base_model))
        return asked(base_model, (words.dtype, words.device, attention, recomputes), *arguments)

    return answer


def attention_window(base_model: nn.Module) -> float:
    """Return how far a token sees in the layer where it sees least; packing and prefixes are exact within it."""
    shape = base_model.config.get_text_config(decoder=True)
    windows = (getattr(shape, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((float(window) for window in windows if window), default=math.inf)


def tried(base_model: nn.Module, call: Callable[[], Any]) -> Any:
    """Return what a call of the base model gives, None where its architecture objects; the plain way remains."""
    try:
        return call()
    except torch.OutOfMemoryError:
        raise
    except OBJECTIONS as error:
        logger.info("%s objects: %r", type(base_model).__name__, error)
        return None


def some_ids(base_model: nn.Module, count: int) -> Int[torch.Tensor, " N"]:
    """Return token ids to ask a base model with, the same at each call; none is a pad, which is skipped by its id."""
    words = base_model.get_input_embeddings().weight
    pad = getattr(base_model.config.get_text_config(), "pad_token_id", None)
    ids = torch.randint(0, words.shape[0], (count,), generator=torch.Generator().manual_seed(0))
    return (ids if pad is None else ids.where(ids != pad, (pad + 1) % len(words))).to(words.device)


def error_of(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the root mean square of the difference, relative to the spread of what is expected."""
    difference = found.float() - expected.float()
    return float(difference.square().mean().sqrt() / expected.float().std())


def tolerance_of(dtype: torch.dtype) -> float:
    """Return the largest error that rounding makes; a wrong position or mask moves a gradient by its own length."""
    return 1e-3 if dtype in (torch.float32, torch.float64) else 0.2


@asked_once
@torch.inference_mode(False)
@torch.no_grad()
def check_reads_vectors(base_model: nn.Module, looks_back: bool) -> None:
    """Refuse a base model that makes more of a word than its embedding layer gives; each is asked once, by numbers.

    A prompt goes in as `inputs_embeds`, beside the words. A model that scales them outside of the layer, or looks them
    up once more by id in every layer, would read another text than with `input_ids`.

    Args:
        looks_back: whether a token's output shall not depend on the tokens behind it, which it is to predict.

    Raises:
        ValueError: the outputs differ by more than rounding, the model takes no vectors but those of words, or it looks
            ahead.
    """
    ids, name = some_ids(base_model, 8)[None], type(base_model).__name__
    words = base_model.get_input_embeddings()(ids)  # (1, 8, D)
    longer = torch.cat([words, words[:, -1:].flip(-1)], dim=1)  # by one that is no word
    ways = [{"input_ids": ids}, {"inputs_embeds": words}, {"inputs_embeds": longer}]
    if base_model.config.is_encoder_decoder:
        read = torch.tensor([[2, 2, 2, 3]], device=ids.device)  # the decoder's words may be others
        decoder = {"decoder_input_ids": read[:, :-1], "use_cache": False}
        ways = [*(way | decoder for way in ways), ways[1] | decoder | {"decoder_input_ids": read}]
    training = [module for module in base_model.modules() if module.training]
    base_model.eval()
    try:
        outputs = [base_model(**way).values() for way in ways]
    except torch.OutOfMemoryError:
        raise
    except OBJECTIONS as error:
        raise ValueError(f"{name} cannot read a prompt's vectors: {error}. {ADVICE}") from error
    finally:
        for module in training:
            module.training = True
    # The first of each that is no single number: logits, not a loss of the experts' balance.
    given, found, *_, other = (next(x for x in output if x.ndim) for output in outputs)
    rounding = max(1e-5, 4 * torch.finfo(given.dtype).eps)
    gap = _gap(found, given)
    if gap > rounding:
        raise ValueError(
            f"{name} makes more of a word than its embedding layer gives: with inputs_embeds its output is off by "
            f"{gap:.1%} of the largest that input_ids give. Behind a prompt it would read another text. {ADVICE}"
        )
    if looks_back and _gap(other[:, :-1], given) > max(1e-3, 2 * rounding):
        raise ValueError(
            f"{name} is no decoder: what it says at a token changes with those behind it, which it is to predict. Load "
            "it with is_decoder=True where its configuration has that, or choose another base model."
        )


def _gap(found: torch.Tensor, given: torch.Tensor) -> float:
    """Return the difference at the middle one of the tokens, as a share of the largest number there is.

    At a few tokens rounding alone can choose another expert; whatever else is asked for moves all.
    """
    return float((found - given).abs().amax(-1).median() / given.abs().max())


def check_left_pads(base_model: nn.Module, lengths: Int[torch.Tensor, " B"]) -> None:
    """Raise ValueError for rows of several lengths where a decoder's `generate` would count or read pads in front."""
    if (lengths != lengths[0]).any() and not skips_left_pads(base_model):
        raise ValueError(
            f"{type(base_model).__name__} writes other tokens behind pads than a row alone would get, and these rows "
            "differ in length; generate for rows of one length, or for one after the other."
        )


@asked_once
@torch.inference_mode(False)
@torch.no_grad()
def skips_left_pads(base_model: nn.Module) -> bool:
    """Return whether `generate` continues a text behind pads as it does the text alone; asked once, with two steps."""
    ids = some_ids(base_model, 6)[None]
    words, mask = base_model.get_input_embeddings()(ids), torch.ones_like(ids)
    rows = ((words, mask), (pad(words, (0, 0, 3, 0)), pad(mask, (3, 0))))
    options = {"max_new_tokens": 2, "do_sample": False, "pad_token_id": 0, "num_beams": 1}
    options |= {"return_dict_in_generate": True, "output_logits": True}
    alone, padded = (
        base_model.generate(inputs_embeds=row, attention_mask=kept, **options).logits
        for row, kept in rows
    )
    return same_steps(padded, alone, words.dtype)


def same_steps(
    found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], dtype: torch.dtype
) -> bool:
    """Return whether the logits of a row's generated tokens are what is expected, as far as both wrote the same."""
    for ours, theirs in zip(found, expected, strict=False):
        if error_of(ours, theirs) > tolerance_of(dtype):
            return False
        if ours.argmax() != theirs.argmax():  # from here on other tokens, but for rounding
            break
    return True
