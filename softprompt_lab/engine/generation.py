"""Generation on top of prompts' kept keys and values."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import nn

from ..batch import PlainEngine, behind_input, distinct_prompts, generation_argument
from .exactness import (
    attention_window,
    remembered,
    same_steps,
    some_ids,
    tried,
)
from .prefill import pays, read_texts
from .prefixes import Prefix, cache_of, prefix_of, stack_prefixes

# Arguments of transformers' `generate` that ask for a cache of another kind, which no prefix can begin.
OTHER_CACHES = ("cache_implementation", "custom_generate", "prefill_chunk_size")
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


def generate(
    base_model: nn.Module,
    prompts: Sequence[Float[torch.Tensor, "_ D"]],
    kept_prefixes: Callable[[Sequence[torch.Tensor]], list[Prefix]],
    input_ids: Int[torch.Tensor, "B T"],
    text: Bool[torch.Tensor, "B T"],
    **kwargs: Any,
) -> Any:
    """Return what transformers' `generate` does for a decoder behind prompts; its sequences begin with `input_ids`.

    Args:
        prompts: one for every row, or B of them.
        kept_prefixes: the keys and values of each of some prompts.
    """

    def asked(name: str) -> Any:
        return generation_argument(base_model, kwargs, name)

    length = max(map(len, prompts)) + input_ids.shape[1] + (asked("max_new_tokens") or 1)
    other_cache = asked("use_cache") is False or any(asked(n) is not None for n in OTHER_CACHES)
    short = length <= attention_window(base_model) and min(map(len, prompts)) > 0
    plain = base_model.config.is_encoder_decoder or other_cache or not short
    if plain or not is_exact(base_model):
        return PlainEngine().generate(base_model, prompts, input_ids, text, **kwargs)
    copies = max(asked("num_beams") or 1, asked("num_return_sequences") or 1)
    distinct, numbers = distinct_prompts(prompts, len(text))
    kept = kept_prefixes(distinct)
    prefixes = [kept[number] for number in numbers]  # one for each row
    looks_back = any(asked(name) not in (None, 0, 1.0) for name in LOOKING_BACK)
    packs = (
        asked("max_new_tokens") and not looks_back and pays(base_model, text.sum(dim=1).tolist())
    )
    if packs and is_exact(base_model, True):
        return generate_on_prefixes(base_model, prefixes, copies, input_ids, text, True, **kwargs)
    shared = kept if len(kept) == 1 else prefixes
    return generate_on_prefixes(base_model, shared, copies, input_ids, text, **kwargs)


def generate_on_prefixes(
    base_model: nn.Module,
    prefixes: Sequence[Prefix],
    copies: int,
    input_ids: Int[torch.Tensor, "B T"],
    text: Bool[torch.Tensor, "B T"],
    reads_first: bool = False,
    **kwargs: Any,
) -> Any:
    """Return what `generate` makes of `[virtual | pads | text]`, where processors see the ids of the text only.

    Args:
        prefixes: one for all rows or one for each.
        copies: how many times `generate` repeats each row, for beams or samples.
        reads_first: put the texts behind their prefixes without pads, one for each row; processors see the last tokens.
    """
    order = text.long().argsort(dim=1, stable=True)  # pads first
    given, mask = input_ids.gather(1, order), text.gather(1, order)
    if reads_first:
        texts = [ids[kept][:-1].tolist() for ids, kept in zip(given, mask, strict=True)]
        stacked, front = read_texts(base_model, prefixes, texts)
        given, mask = given[:, -1:], mask[:, -1:]
    else:
        stacked, front = stack_prefixes(prefixes)
    output = base_model.generate(
        input_ids=given,
        attention_mask=torch.cat([front.expand(len(text), -1), mask], dim=1).long(),
        past_key_values=cache_of(stacked, len(text) * copies),
        **kwargs,
    )
    return behind_input(input_ids, output, given=given.shape[1])


@remembered
@torch.inference_mode(False)
@torch.no_grad()
def is_exact(base_model: nn.Module, reads_first: bool = False) -> bool:
    """Return whether two rows behind prefixes of two lengths get the logits of each row alone; found out once.

    Two tokens are generated for both together on prefixes, and for each alone the plain way.
    """
    words = base_model.get_input_embeddings().weight
    ids = some_ids(base_model, 14)
    prompts = [words[ids[:2]].float(), words[ids[2:6]].float()]
    rows = torch.stack([ids[6:10], ids[10:14]])
    text = torch.ones_like(rows, dtype=torch.bool)
    text[0, 2:] = False
    options = {"max_new_tokens": 2, "do_sample": False, "pad_token_id": 0, "num_beams": 1}
    options |= {"return_dict_in_generate": True, "output_logits": True}

    def on_prefixes() -> Any:
        prefixes = [prefix_of(base_model, prompt) for prompt in prompts]
        return generate_on_prefixes(base_model, prefixes, 1, rows, text, reads_first, **options)

    together = tried(base_model, on_prefixes)
    if together is None:
        return False
    for number, (prompt, row, kept) in enumerate(zip(prompts, rows, text, strict=True)):
        row, kept = row[kept][None], kept[kept][None]
        alone = PlainEngine().generate(base_model, [prompt], row, kept, **options)
        ours = [logits[number] for logits in together.logits]
        if not same_steps(ours, [logits[0] for logits in alone.logits], words.dtype):
            return False
    return True
