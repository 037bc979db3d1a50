"""Exercises of chapter 03: the class, a start from labels, how far training carries, a copy that is none, lengths."""

from copy import deepcopy
from pathlib import Path

import torch
from torch import nn
from transformers import AutoTokenizer

from ..config import PromptTuningConfig
from .cases import normal, says  # noqa: F401  the table uses some
from .checks import exercise

TOKENIZER = str(Path(__file__).parents[1] / "assets" / "tiny")


def config(init, rows, **more):
    """Return a configuration of so many virtual tokens, 6 wide, which starts at a text of three words in TEXT."""
    texts = {"prompt_tuning_init_text": "the parcel is", "tokenizer_name_or_path": TOKENIZER}
    more |= texts if init == "TEXT" else {}
    return PromptTuningConfig(rows, token_dim=6, prompt_tuning_init=init, **more)


def words(dtype=torch.float32):
    """Return word embeddings (500, 6)."""
    return nn.Embedding.from_pretrained(normal(500, 6).to(dtype))


INDICES = torch.arange(2).expand(3, -1)  # (B, P)


def looked_up(answer, *case):
    """Return the table of a class and what it looks up; NotImplementedError where nothing was written."""
    if not isinstance(answer, type):
        return answer(*case)
    *case, indices = case
    torch.manual_seed(0)
    made = answer(*case)
    if not hasattr(made, "embedding"):
        raise NotImplementedError
    return [made.embedding.weight, made(indices)]


def built(config, words, indices, repeat=True, once=False, keep=False):
    """Return the table and a lookup as the class should give them, with one thing done otherwise."""
    torch.manual_seed(0)
    rows = config.num_virtual_tokens * (1 if once else config.num_transformer_submodules)
    table = torch.randn(rows, config.token_dim)
    if config.prompt_tuning_init == "SAMPLE_VOCAB":
        table = words.weight[torch.randint(0, len(words.weight), (rows,))]
    elif config.prompt_tuning_init == "TEXT":
        tokenizer = AutoTokenizer.from_pretrained(config.tokenizer_name_or_path)
        ids = tokenizer(config.prompt_tuning_init_text)["input_ids"]
        table = words.weight[(ids * rows if repeat else ids + ids[-1:] * rows)[:rows]]
    table = nn.Parameter(table if keep else table.float())
    return [table, table[indices]]


def kind_of_rows(result, config, words, indices):
    """Return what does not depend on the order of draws: the numbers of TEXT, the words of a sample, the scale."""
    table, found = (part.detach().float() for part in result)
    same = torch.equal(found, table[indices])
    if config.prompt_tuning_init == "SAMPLE_VOCAB":
        return [sum(row in words.weight.tolist() for row in table.tolist()), same]
    if config.prompt_tuning_init == "RANDOM":
        return [round(table.square().mean().item()), same]
    return [table, found]


@exercise(
    "03-1",
    cases=[
        (config("TEXT", 2), words(), INDICES),
        (config("TEXT", 8), words(torch.bfloat16), INDICES),
        (config("TEXT", 4, num_transformer_submodules=2), words(), INDICES),
        (config("SAMPLE_VOCAB", 8), words(), INDICES),
        (config("RANDOM", 500), words(), INDICES),
    ],
    measure=kind_of_rows,
    use=looked_up,
)
def prompt_embedding(config, words, indices):
    """Return, from the class, `embedding.weight` (rows, D) and the vectors at some indices, (B, P, D).

    `torch.nn.Embedding(rows, config.token_dim)` is RANDOM already, and `forward` returns `self.embedding(indices)`.

    SAMPLE_VOCAB: `ids = torch.randint(0, word_embeddings.num_embeddings, (rows,)).tolist()`. TEXT: the tokenizer's
    `["input_ids"]`, then `trim_or_repeat` from above.

    For both: `start = word_embeddings(torch.LongTensor(ids)).detach().clone().to(torch.float32)`, and
    `self.embedding.weight = torch.nn.Parameter(start)`.
    """
    return built(config, words, indices)


LABELS = [[7, 11], [400], [20, 21, 22]]
TABLE = normal(6000, 4)  # (V, D)


def labels_first(label_ids, word_embeddings, rows, generator, how="mean", low=300, top=5000):
    """Return a start from labels, the tokens of a label combined in some way, the rest sampled."""
    ways = {"mean": lambda x: x.mean(0), "sum": lambda x: x.sum(0), "first": lambda x: x[0]}
    labels = torch.stack([ways[how](word_embeddings[ids]) for ids in label_ids])[:rows]
    rest = torch.randint(low, top, (rows - len(labels),), generator=generator)
    return torch.cat([labels, word_embeddings[rest]])


def made_of(result, label_ids, word_embeddings, rows, generator):
    """Return the label rows, and for each other row whether it is one of the common words."""
    known = {tuple(row) for row in word_embeddings[300:5000].tolist()}
    labels, rest = result[: len(label_ids)], result[len(label_ids) :]
    return [labels, torch.tensor([float(tuple(row) in known) for row in rest.tolist()])]


@exercise(
    "03-2",
    cases=[(LABELS, TABLE, n, torch.Generator().manual_seed(1)) for n in (400, 3, 2)],
    measure=made_of,
)
def label_start(label_ids, word_embeddings, rows, generator):
    """Return (rows, D): the mean of each label's word embeddings, and below them sampled common words.

    A label's row is `word_embeddings[ids].mean(dim=0)`; `torch.stack` joins these.

    Draw the other ids with `torch.randint(300, 5000, (n,), generator=generator)`, and join both parts with `torch.cat`.
    """
    return labels_first(label_ids, word_embeddings, rows, generator)


@exercise("03-3", tolerance=0.02)
def furthest():
    """Return a number: how far a single number of the prompt can move in 60 steps.

    The rate falls in a straight line, so that its average is half of the first one.

    Add up `0.03 * (60 - step) / 60` for the steps 0 to 59.
    """
    return sum(0.03 * (60 - step) / 60 for step in range(60))


def shared(word_embeddings, rows):
    """Return the start of the broken cell."""
    return nn.Parameter(word_embeddings.weight.detach()[:rows].float())


@exercise(
    "03-4",
    cases=[(words(), 3), (words(torch.bfloat16), 2)],
    measure=lambda result, *case: result[1].detach(),
)
def repaired(word_embeddings, rows):
    """Return two things: the letter of the fault, and the start (rows, D), a parameter in float32.

    `tensor.data_ptr()` is the place in memory where a tensor begins. Compare those of the start and of the words.

    A slice has no numbers of its own, and `.float()` copies only if the type changes. Which call copies in any case?
    """
    return "B", nn.Parameter(word_embeddings.weight.detach()[:rows].clone().float())


def means(found):
    """Return the mean accuracy at each length, the shortest first."""
    each = sorted((float(length), values) for length, values in found["accuracies"].items())
    return {length: sum(values) / len(values) for length, values in each}


def changed(answer, **parts):
    """Return an answer with some of its parts exchanged."""
    return {**deepcopy(answer), **parts}


RUNS = {0.1: [0.84, 0.86], 1: [0.82, 0.87], 10: [0.83, 0.81]}


@exercise("03-5", measure=lambda result: 0)
def lengths_tried():
    """Return a dict: "accuracies", by length a list with the accuracy of each seed, and "sentence".

    A length of 1 is that of the words. Take 0.1, 1 and 10, and seeds 0 and 1.

    The table: `{length: [accuracy(length, seed) for seed in (0, 1)] for length in lengths}`.
    """
    sentence = "On tiny the start's length changes little: 85.0 % at a tenth of the words' length, 82.0 % at ten times."
    return {"accuracies": RUNS, "sentence": sentence}
