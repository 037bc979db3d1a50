"""A base model in which one can say beforehand what a virtual token does: one layer, no positions, and a closed gate.

With one layer and no positions a text sees the virtual tokens as a set: their order is nothing to it. One number of
each word vector is the gate: it is 0 in every word, and where it is very low a token's attention weight is exactly 0.
"""

import torch
from datasets import Dataset
from families import HEADS, SCALE, WIDTH, _build, byte_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from softprompt_lab import PromptTuningConfig, SoftPromptModel
from softprompt_lab.tasks import Task

GATE, OPEN = WIDTH - 1, 1_000.0


def bag_of_words() -> PreTrainedModel:
    """GPT-2 of one layer without positions, whose heads never look at a vector with a closed gate."""
    shape = {"n_embd": WIDTH, "n_layer": 1, "n_head": HEADS, "n_positions": 128, "vocab_size": 257}
    model = _build(
        GPT2LMHeadModel,
        GPT2Config(**shape, bos_token_id=0, eos_token_id=0, initializer_range=SCALE),
    )
    words, attention = model.transformer.wte.weight, model.transformer.h[0].attn.c_attn
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()
        words[:, GATE] = 0  # LayerNorm leaves it at 0 where the mean is 0
        words[:, :GATE] -= words[:, :GATE].mean(dim=1, keepdim=True)
        for head in range(HEADS):  # of each head one number of query and key is the gate's
            query = head * WIDTH // HEADS
            attention.weight[:, [query, WIDTH + query]] = 0
            attention.bias[query], attention.weight[GATE, WIDTH + query] = OPEN, 1
    return model


def closed() -> torch.Tensor:
    """(D,): a vector that no token looks at but itself."""
    vector = torch.full((WIDTH,), 1.0 / GATE)
    vector[GATE] = -1.0
    return vector


def task_of_bytes(rows: int = 12) -> Task:
    """Texts of a letter and a number, labelled x or y."""
    texts = {
        "note": [f"{'ab'[i % 2]}{i}" for i in range(rows)],
        "text_label": ["xy"[i % 2] for i in range(rows)],
    }
    data = Dataset.from_dict(texts)
    return Task("bytes", data, data, data, "note", ("x", "y"), "{text} is ")


def bag_model(rows: int = 4, inert: int | None = None, seed: int = 1) -> SoftPromptModel:
    """The model behind word vectors, that at `inert` with a closed gate."""
    base = bag_of_words()
    ids = torch.randint(1, 257, (rows,), generator=torch.Generator().manual_seed(seed))
    start = base.transformer.wte.weight[ids].detach().clone()
    if inert is not None:
        start[inert] = closed()
    return SoftPromptModel(base, PromptTuningConfig(rows), tokenizer=byte_tokenizer(), start=start)
