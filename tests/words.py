"""A tokenizer of a few words and vectors for them: what reading, figures and widgets are tested on."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from ipywidgets import Widget
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from softprompt_lab.runs.saved import SavedRun

WORDS = [
    "<pad>",
    "<eos>",
    *[
        "is",
        "the",
        "a",
        "parcel",
        "late",
        "broken",
        "thanks",
        "great",
        "train",
        "bill",
        "refund",
        "why",
        "not",
    ],
]
WORDS += ["complaint", "no", "yes"]


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def word_vectors(width: int = 6, extra: int = 0, seed: int = 0) -> torch.Tensor:
    """(V, D): a random vector for each word, and `extra` rows behind the tokenizer's last id."""
    return torch.randn(len(WORDS) + extra, width, generator=torch.Generator().manual_seed(seed))


def walk(
    words: torch.Tensor, steps: int = 5, rows: int = 4, seed: int = 1
) -> dict[int, torch.Tensor]:
    """Snapshots of `rows` virtual tokens that start at words and drift: step 0, 10, 20, ..."""
    drift = torch.randn(rows, words.shape[1], generator=torch.Generator().manual_seed(seed))
    return {10 * i: words[3 : 3 + rows] + 0.4 * i * drift for i in range(steps)}


def walked(words: torch.Tensor, snapshots: dict | None = None) -> SavedRun:
    """A run that took the walk; of its model what a reading asks for."""
    kept = walk(words) if snapshots is None else snapshots
    parts = {"word_embeddings": words, "tokenizer": word_tokenizer(), "prompt": words[3:7]}
    return SavedRun("walk", SimpleNamespace(**parts), None, kept, None, {})


def outputs_of(widget: Widget, change: Callable[[], Any] | None = None) -> list[dict[str, Any]]:
    """What a notebook is sent when a widget is shown, or after that when something is changed."""
    InteractiveShell.instance()
    with capture_output() as captured:
        if change is None:
            widget._ipython_display_()
        else:
            change()
    shown = [
        output._kwargs if hasattr(output, "_kwargs") else vars(output)
        for output in captured.outputs
    ]
    return [
        each["data"] | ({"transient": "update"} if each.get("update") else {}) for each in shown
    ]
