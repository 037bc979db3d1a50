"""FastEngine: every token once, no pads, logits where there are labels, and prompts' keys and values kept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from torch.autograd.function import once_differentiable

from ..batch import IGNORE, Example, LabelLogits, PlainEngine, Prompts, Target, distinct_prompts
from .generation import generate
from .gradient_checkpointing import gradient_checkpointing
from .locks import lock
from .prefixes import PrefixMemory
from .selection import select_strategy


class FastEngine(PlainEngine):
    """The numbers of `batch.PlainEngine`, faster; it keeps the prefixes of the latest prompts of each base model.

    Copies and pickles of an engine begin with nothing kept.

    Example:
        >>> from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_base_model
        >>> base_model, tokenizer = load_base_model("tiny")
        >>> model = SoftPromptModel(base_model, PromptTuningConfig(4), engine=FastEngine())
    """

    def __init__(self) -> None:
        self._prefixes = PrefixMemory()

    def __reduce__(self) -> tuple[type["FastEngine"], tuple]:
        """Return how `copy.deepcopy` and `pickle` make an engine."""
        return FastEngine, ()

    @contextmanager
    def inside(self, base_model: nn.Module) -> Iterator[None]:
        """Hold the base model's lock, with gradient checkpointing where it is enabled, in eval mode too."""
        with lock(base_model), gradient_checkpointing(base_model):
            yield

    def label_logits(
        self, base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
    ) -> Iterator[LabelLogits]:
        """Yield the logits that predict each label. Between two calls the base model is free."""
        with self.inside(base_model):
            parts = select_strategy(base_model, prompts, examples)(base_model, prompts, examples)
        while True:
            with self.inside(base_model):
                part = next(parts, None)
            if part is None:
                return
            yield part
            del part  # its logits, before those of the next call are made

    def label_loss(
        self,
        base_model: nn.Module,
        prompts: Prompts,
        input_ids: Int[torch.Tensor, "B T"],
        mask: Bool[torch.Tensor, "B T"],
        labels: Int[torch.Tensor, "B S"],
    ) -> Float[torch.Tensor, ""]:
        """Return the mean cross-entropy of the labels; see `batch.PlainEngine`."""
        distinct, numbers = distinct_prompts(prompts, len(input_ids))
        shape = base_model.config
        decoder_pad = (shape.pad_token_id or 0) if shape.is_encoder_decoder else None
        examples = examples_from_batch(input_ids, mask, labels, numbers, decoder_pad)
        return self.example_loss(base_model, distinct, examples)

    def example_loss(
        self, base_model: nn.Module, prompts: Prompts, examples: Sequence[Example]
    ) -> Float[torch.Tensor, ""]:
        """Return the mean cross-entropy of the examples' labels.

        Where only prompts can learn, their gradients are computed at once, each call's backward pass before the next
        call's forward pass, so that memory does not grow with the batch.
        """
        learns = torch.is_grad_enabled() and any(prompt.requires_grad for prompt in prompts)
        with self.inside(base_model):
            if learns and not any(weight.requires_grad for weight in base_model.parameters()):
                return _LossWithGradients.apply(self, base_model, examples, *prompts)
            parts = self.label_logits(base_model, prompts, examples)
            summed = [(_summed_loss(part), len(part.owners)) for part in parts]
        losses, counts = zip(*summed, strict=True)
        return sum(losses) / sum(counts)

    @torch.no_grad()
    def generate(
        self,
        base_model: nn.Module,
        prompts: Prompts,
        input_ids: Int[torch.Tensor, "B T"],
        mask: Bool[torch.Tensor, "B T"],
        **kwargs: Any,
    ) -> Any:
        """Continue rows of text on top of kept prefixes; see `batch.PlainEngine`."""
        kept = partial(self._prefixes.prefixes_of, base_model)
        with self.inside(base_model):
            return generate(base_model, prompts, kept, input_ids, mask, **kwargs)


def examples_from_batch(
    input_ids: Int[torch.Tensor, "B T"],
    mask: Bool[torch.Tensor, "B T"],
    labels: Int[torch.Tensor, "B S"],
    prompt_numbers: Sequence[int],
    decoder_pad: int | None = None,
) -> list[Example]:
    """Return the rows of a padded batch as examples.

    Args:
        labels: of a decoder lined up with `input_ids`: what stands before a row's first label is its context.
        decoder_pad: for an encoder-decoder, whose labels are texts of their own: the id that its decoder reads in
            place of a label of -100.
    """
    examples = []
    for ids, text, row_labels, prompt in zip(input_ids, mask, labels, prompt_numbers, strict=True):
        tokens = ids[text].tolist()
        if decoder_pad is not None:
            read = row_labels.masked_fill(row_labels == IGNORE, decoder_pad)
            context, target = tokens, Target(read.tolist(), row_labels.tolist())
        else:
            marks = row_labels[text].tolist()
            start = next((i for i, label in enumerate(marks) if label != IGNORE), len(marks))
            context, target = tokens[:start], Target(tokens[start:], marks[start:])
        examples.append(Example(context, [target], prompt))
    return examples


class _LossWithGradients(torch.autograd.Function):
    """The mean cross-entropy of a batch's labels with the prompts' gradients, which the backward pass only scales."""

    @staticmethod
    def forward(
        ctx, engine: FastEngine, base_model: nn.Module, examples: Sequence[Example], *prompts
    ) -> Float[torch.Tensor, ""]:
        """Return the loss."""
        leaves = [prompt.detach().requires_grad_() for prompt in prompts]
        gradients = [torch.zeros_like(leaf) for leaf in leaves]
        total, count = leaves[0].new_zeros(()), 0
        with torch.enable_grad():
            for part in engine.label_logits(base_model, leaves, examples):
                loss = _summed_loss(part)
                found = torch.autograd.grad(loss, leaves, materialize_grads=True)
                for gradient, more in zip(gradients, found, strict=True):
                    gradient += more
                total += loss.detach().to(total.device)
                count += len(part.owners)
                del part, loss, found
        ctx.save_for_backward(*(gradient / count for gradient in gradients))
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the prompts' gradients times that of the loss."""
        return None, None, None, *(gradient * scale for gradient in ctx.saved_tensors)


def _summed_loss(part: LabelLogits) -> Float[torch.Tensor, ""]:
    """Return the cross-entropy of some labels, summed."""
    return nn.functional.cross_entropy(part.logits, part.label_ids, reduction="sum")
