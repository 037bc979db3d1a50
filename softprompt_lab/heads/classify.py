"""Heads behind a prompt: classes of texts, tokens and spans, and plain features (PEFT's SEQ_CLS, TOKEN_CLS, ...).

A classifier of texts reads one place: an encoder's the first token ([CLS]), a decoder's the last. Where that stands is
arranged, so that the base model's own head reads what it reads without a prompt:

encoder     [text | prompt | pads], with the position ids of [prompt | text]
decoder     [pads | prompt | text]
per token   [prompt | text | pads]; what a head says at the prompt is cut off

The head is trained with the prompt, as a copy: the base model's own stays as it is.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from transformers.utils import ModelOutput

from ..batch import PromptedBatch, Prompts, check_labels, prepend_prompt, takes
from ..config import TaskType
from ..engine.exactness import error_of, remembered, some_ids, tolerance_of, tried
from ..engine.prefixes import positions

# --------------------------------------------------------------------------------------------------- the weights


class Head(nn.Module):
    """Trainable copies, in float32, of the weights of a base model's modules whose names end with one of `endings`.

    Args:
        saved: the values to begin with, by their names in the base model; None are the base model's own.

    Raises:
        ValueError: there is no such module, PEFT has put one of its own in its place, or a saved weight is missing,
            has another shape, or is no head's and differs from the base model's own.
    """

    def __init__(
        self,
        base_model: nn.Module,
        endings: Sequence[str],
        saved: dict[str, torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        modules = tuple(
            f"{name}." for name, _ in base_model.named_modules() if name.endswith(tuple(endings))
        )
        if endings and not modules:
            raise ValueError(
                f"{type(base_model).__name__} has no module called {' or '.join(endings)}; load the base model with "
                "the head of this task_type: load_base_model(name, task_type=...)."
            )
        own = {
            name: weight
            for name, weight in base_model.named_parameters()
            if name.startswith(modules)
        }
        if any(".modules_to_save." in name for name in own):
            raise ValueError(
                "PEFT trains the base model's head already, and so would the prompt; make the LoRA without a head: "
                "LoraConfig(task_type=None)."
            )
        self.names = list(own)
        self.copies = nn.ParameterList(weight.detach().clone().float() for weight in own.values())
        if saved is not None:
            self._load(base_model, saved)

    def weights(self) -> dict[str, nn.Parameter]:
        """The copies by their names in the base model."""
        return dict(zip(self.names, self.copies, strict=True))

    @torch.no_grad()
    def _load(self, base_model: nn.Module, saved: dict[str, torch.Tensor]) -> None:
        """Take the values of a saved head; other saved weights must be those that the base model has."""
        own = base_model.state_dict()
        for name, weight in self.weights().items():
            found = saved.get(name)
            if found is None or found.shape != weight.shape:
                said = "is missing" if found is None else f"has shape {tuple(found.shape)}"
                raise ValueError(
                    f"the head's {name} {said}; the base model's has {tuple(weight.shape)}."
                )
            weight.copy_(found)
        for name in sorted(saved.keys() - set(self.names)):
            weight, base = saved[name], own.get(name)
            same = base is not None and base.shape == weight.shape
            if not same or not torch.equal(base.cpu(), weight.to(base.dtype)):
                raise ValueError(
                    f"another {name} of shape {tuple(weight.shape)} is saved with it (PEFT saves resized word "
                    "embeddings); give it to the base model first: base_model.load_state_dict({...}, strict=False)."
                )


# ------------------------------------------------------------------------------------------------------- forward


def classify(
    base_model: nn.Module,
    task_type: TaskType,
    prompts: Sequence[Float[torch.Tensor, "_ D"]],
    words: Float[torch.Tensor, "B T D"],
    text: Bool[torch.Tensor, "B T"],
    head: dict[str, torch.Tensor],
    labels: torch.Tensor | None = None,
    token_type_ids: Int[torch.Tensor, "B T"] | None = None,
    **kwargs: Any,
) -> ModelOutput:
    """A base model with a head behind prompts; every output lines up with the text.

    Args:
        words: the text's word vectors.
        head: weights that stand in for the base model's own, by their names there.
        labels: (B,) of texts or (B, T) of tokens.
        kwargs: `start_positions` and `end_positions` (B,), places in the text; what else the base model takes.

    Returns:
        The base model's output. SEQ_CLS: `logits` (B, C). TOKEN_CLS: `logits` (B, T, C), 0 at pads. QUESTION_ANS:
        `start_logits` and `end_logits` (B, T), the lowest number at pads. FEATURE_EXTRACTION: `last_hidden_state`
        (B, T, D), 0 at pads. `loss` where labels are given.
    """
    batch = _layout(base_model, task_type, prompts, words, text)
    if not (batch.mask.all() or skips_pads(base_model, not bool(batch.mask[:, 0].all()))):
        raise ValueError(
            f"{type(base_model).__name__} reads pads, so that a row's numbers would depend on the rows beside it; call "
            "it with rows of one length, or with one after the other."
        )
    inputs = batch.inputs
    if token_type_ids is not None:
        zeros = torch.zeros_like(batch.mask, dtype=token_type_ids.dtype)
        inputs["token_type_ids"] = zeros.scatter(1, batch.positions, token_type_ids)
    if task_type is TaskType.SEQ_CLS and labels is not None:
        inputs["labels"] = labels
    ends = ("start", "end") if task_type is TaskType.QUESTION_ANS else ()
    spans = {end: kwargs.pop(f"{end}_positions", None) for end in ends}
    output, loss = call_with(base_model, head, {**inputs, **kwargs}), None
    _check_kind(base_model, task_type, output)
    for key in PER_TOKEN & set(output):
        output[key] = _lined_up(output[key], batch)
    if task_type is TaskType.TOKEN_CLS:
        output["logits"] = batch.align(output["logits"])
        if labels is not None:
            check_labels(labels, text)
            logits = output["logits"].float().flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, labels.flatten())
    if any(places is not None for places in spans.values()):
        loss = _loss_of_spans(output, spans, text)
    return output if loss is None else type(output)(loss=loss, **output)


def call_with(
    base_model: nn.Module, head: dict[str, torch.Tensor], inputs: dict[str, Any]
) -> ModelOutput:
    """The base model with other weights in its head; its own stay as they are."""
    cast = {name: weight.to(base_model.dtype) for name, weight in head.items()}
    return torch.func.functional_call(base_model, cast, (), inputs, strict=False)


# What the base model of a task returns, and in how many dimensions.
RETURNED = {
    TaskType.SEQ_CLS: ("logits", 2),
    TaskType.TOKEN_CLS: ("logits", 3),
    TaskType.QUESTION_ANS: ("start_logits", 2),
    TaskType.FEATURE_EXTRACTION: ("last_hidden_state", 3),
}


def _check_kind(base_model: nn.Module, task_type: TaskType, output: ModelOutput) -> None:
    """Raise ValueError where the base model was built for another task."""
    name, dimensions = RETURNED[task_type]
    if name not in output or output[name].dim() != dimensions:
        raise ValueError(
            f"{type(base_model).__name__} is no model for task_type={task_type}; load the base model for it: "
            "load_base_model(name, task_type=...)."
        )


PER_TOKEN = {"last_hidden_state", "hidden_states", "start_logits", "end_logits"}


def _lined_up(value: Any, batch: PromptedBatch) -> Any:
    """A tensor (B, N, X) or (B, N), or each of a tuple, at the caller's tokens."""
    if isinstance(value, tuple):
        return tuple(_lined_up(part, batch) for part in value)
    if value.dim() == 3:
        return batch.align(value)
    return batch.align(value[..., None])[..., 0].masked_fill(
        ~batch.text, torch.finfo(value.dtype).min
    )


def _loss_of_spans(
    output: ModelOutput, spans: dict[str, torch.Tensor | None], text: Bool[torch.Tensor, "B T"]
) -> Float[torch.Tensor, ""]:
    """Return the mean cross-entropy of first and last tokens of spans, over the text's own places."""
    losses = []
    for end, places in spans.items():
        if places is None or not text.gather(1, places[:, None]).all():
            raise ValueError(f"{end}_positions={places}: give a token of the text for each row.")
        losses.append(nn.functional.cross_entropy(output[f"{end}_logits"].float(), places))
    return sum(losses) / 2


# ------------------------------------------------------------------------------------------------------ layouts


def append_prompt(
    prompts: Prompts,
    words: Float[torch.Tensor, "B T D"],
    text: Bool[torch.Tensor, "B T"],
    first_position: int = 0,
) -> PromptedBatch:
    """Lay out `[text | prompt | pads]` with the position ids of `[prompt | text]`: the same to an encoder.

    The text's first token ([CLS]) stays in the first position, where an encoder's classifier reads.

    Args:
        first_position: the position id of the first token; RoBERTa's is behind its padding token.
    """
    batch = prepend_prompt(prompts, words, text)
    length = batch.mask.sum(dim=1, keepdim=True)  # (B, 1), of prompt and text
    virtual = length - text.sum(dim=1, keepdim=True)
    places = torch.arange(batch.mask.shape[1], device=words.device)  # (N,)
    source = torch.where(
        batch.mask, (places + virtual) % length, places
    )  # (B, N), in [prompt | text]
    return PromptedBatch(
        batch.embeddings.gather(1, source[..., None].expand_as(batch.embeddings)),
        batch.mask,
        batch.positions - virtual,
        text,
        first_position + source * batch.mask,
    )


def _layout(
    base_model: nn.Module,
    task_type: TaskType,
    prompts: Sequence[torch.Tensor],
    words: Float[torch.Tensor, "B T D"],
    text: Bool[torch.Tensor, "B T"],
) -> PromptedBatch:
    """Rows in which the base model's head reads the right place."""
    first = first_position(base_model)
    if first is not None:
        return append_prompt(prompts, words, text, first)
    if task_type is not TaskType.SEQ_CLS:
        return prepend_prompt(prompts, words, text)
    if not looks_back_only(base_model):
        raise ValueError(
            f"{type(base_model).__name__} takes no position_ids, so its classifier would read the first virtual token "
            "in place of the text's; choose BERT, RoBERTa, DistilBERT or a decoder."
        )
    return _pads_left(base_model, prompts, words, text)


def _pads_left(
    base_model: nn.Module,
    prompts: Sequence[torch.Tensor],
    words: Float[torch.Tensor, "B T D"],
    text: Bool[torch.Tensor, "B T"],
) -> PromptedBatch:
    """Rows that end together, with the position ids of what is no pad."""
    batch = prepend_prompt(prompts, words, text, pads="left")
    if not takes(base_model, "position_ids"):
        return batch
    return replace(batch, position_ids=positions(batch.mask))


@remembered
def skips_pads(base_model: nn.Module, left: bool) -> bool:
    """True if pads, on the left or right of a text, change none of its states; asked once."""
    words = _some_words(base_model)
    text = torch.ones(words.shape[:2], dtype=torch.bool, device=words.device)
    row = torch.cat([words, words[:, :3]], dim=1), nn.functional.pad(text, (0, 3))
    none = [words[0, :0]]
    batch = _pads_left(base_model, none, *row) if left else prepend_prompt(none, *row)
    found = batch.align(_states(base_model, **batch.inputs))[:, : words.shape[1]]
    expected = _states(base_model, inputs_embeds=words)
    return error_of(found, expected) <= tolerance_of(words.dtype)


@remembered
def looks_back_only(base_model: nn.Module) -> bool:
    """True if a token's state does not depend on what comes behind it; asked once."""
    words = _some_words(base_model)
    changed = torch.cat([words[:, :-1], words[:, :1]], dim=1)
    ours, theirs = (_states(base_model, inputs_embeds=row)[:, :-1] for row in (words, changed))
    return error_of(ours, theirs) <= tolerance_of(words.dtype)


@remembered
def first_position(base_model: nn.Module) -> int | None:
    """The position id of the first place of a model that looks both ways; None if it takes none, or looks back only.

    Asked once: the prompt behind the text must give the states of the prompt in front of it.
    """
    if base_model.config.is_encoder_decoder or looks_back_only(base_model):
        return None
    words = _some_words(base_model)
    prompt, own = words[0, :2], words[:, 2:]
    text = torch.ones(own.shape[:2], dtype=torch.bool, device=words.device)
    expected = _states(base_model, inputs_embeds=words)[:, 2:]
    padding = getattr(base_model.config, "pad_token_id", None)
    for first in (0, *([] if padding is None else [padding + 1])):
        inputs = append_prompt([prompt], own, text, first).inputs
        found = tried(base_model, lambda inputs=inputs: _states(base_model, **inputs))
        if found is None:
            continue
        if error_of(found[:, : own.shape[1]], expected) <= tolerance_of(words.dtype):
            return first
    return None


@torch.no_grad()
def _some_words(base_model: nn.Module) -> Float[torch.Tensor, "1 8 D"]:
    """Eight word vectors, the same at each call."""
    return base_model.get_input_embeddings()(some_ids(base_model, 8))[None]


@torch.no_grad()
def _states(base_model: nn.Module, **inputs: torch.Tensor) -> Float[torch.Tensor, "1 N D"]:
    """The last layer's states."""
    return base_model(**inputs, output_hidden_states=True).hidden_states[-1]
