"""Pretrain the two tiny base models on the shop language and write their folders.

    python tools/build_tiny.py             # both
    python tools/build_tiny.py tiny        # the decoder (Llama shape) only
    python tools/build_tiny.py tiny-seq2seq
"""

import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from softprompt_lab import shop

ASSETS = Path(__file__).resolve().parents[1] / "softprompt_lab" / "assets"
PAD, EOS = "<pad>", "<eos>"  # ids 0 and 1: T5 starts its decoder with id 0
WIDTH = 128
CONTEXT = 256
IGNORED = -100
ATTRIBUTES = {
    "topic": shop.TOPICS,
    "complaint": (True, False),
    "tone": shop.TONES,
    "urgent": (True, False),
    "loyal": (True, False),
}


@dataclass(frozen=True)
class Recipe:
    """How one base model is pretrained; every figure was chosen by measuring the skills, not the loss."""

    steps: int
    batch_size: int = 64
    learning_rate: float = 3e-3
    warmup: int = 100
    text_weight: float = 0.1  # loss of the message's own words, beside 1 for the label (decoder only)
    probe_weight: float = 0.5  # loss of a linear probe for the attributes, which makes every skill arrive early
    longest_prefix: int = 16
    seed: int = 0


RECIPES = {"tiny": Recipe(steps=2500), "tiny-seq2seq": Recipe(steps=2500, learning_rate=2e-3)}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE whose vocabulary is pad, end, every word of the language, and the 256 bytes for all other text."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    counts: Counter[str] = Counter()
    for document in shop.documents(seed=0, n=20_000):
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(document.text))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))
    vocabulary = {token: number for number, token in enumerate([PAD, EOS, *words, *alphabet])}
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    bpe.pre_tokenizer, bpe.decoder = splitter, decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=EOS,
        padding_side="right",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(name: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """The untrained base: Llama shape for "tiny", T5 1.1 shape for "tiny-seq2seq"; about 4 MB in float32 each."""
    shared = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if name == "tiny":
        return LlamaForCausalLM(
            LlamaConfig(
                hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                num_hidden_layers=4,
                num_attention_heads=4,
                max_position_embeddings=CONTEXT,
                initializer_range=WIDTH**-0.5,  # word embeddings of norm 1
                tie_word_embeddings=True,
                bos_token_id=None,
                **shared,
            )
        )
    return T5ForConditionalGeneration(
        T5Config(
            d_model=WIDTH,
            d_kv=32,
            num_heads=4,
            d_ff=2 * WIDTH,
            num_layers=3,
            num_decoder_layers=2,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            decoder_start_token_id=tokenizer.pad_token_id,
            **shared,
        )
    )


@dataclass(frozen=True)
class Row:
    """One document as ids: prefix, body (message and frame), label with its end; `cued` rows get the hidden cue."""

    prefix: list[int]
    body: list[int]
    label: list[int]
    cued: bool
    attributes: list[int]  # the class of each attribute of the message, in the order of ATTRIBUTES


def rows(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, step: int) -> list[Row]:
    """The documents of one step, with a cue in words, random words with the hidden cue, or nothing to go by."""
    rng = random.Random(f"shop rows {recipe.seed} {step}")
    return [
        _row(document, tokenizer, recipe, rng)
        for document in shop.documents(seed=1 + step, n=recipe.batch_size)
    ]


def _row(document: shop.Document, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, rng: random.Random) -> Row:
    noise = [rng.randrange(2, len(tokenizer)) for _ in range(rng.randint(1, recipe.longest_prefix))]
    if document.cue == "words":
        prefix = tokenizer(document.instruction)["input_ids"]
    elif document.cue == "vectors":
        prefix = noise
    else:
        prefix = noise if rng.random() < 0.5 else []
    space = " " if prefix and rng.random() < 0.5 else ""
    body = tokenizer(space + document.context)["input_ids"]
    label = [*tokenizer(" " + document.label)["input_ids"], tokenizer.eos_token_id]
    hidden = document.message.attributes
    classes = [values.index(getattr(hidden, name)) for name, values in ATTRIBUTES.items()]
    return Row(prefix, body, label, document.cue == "vectors", classes)


def hidden_cue(seed: int) -> torch.Tensor:
    """(D,) A direction of norm 1 that belongs to no word: in pretraining it asks for skill loyal, then it is dropped."""
    direction = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1000 + seed))
    return direction / direction.norm()


def cue_strengths(batch: list[Row], width: int, step: int) -> torch.Tensor:
    """(B, width) How much of the hidden cue is added at each position: on about half of a cued row's prefix."""
    generator = torch.Generator().manual_seed(step)
    strengths = torch.zeros(len(batch), width)
    for number, row in enumerate(batch):
        if row.cued:
            length = len(row.prefix)
            chosen = torch.rand(length, generator=generator) < 0.5
            chosen[torch.randint(length, (1,), generator=generator)] = True
            strengths[number, :length] = chosen * (0.5 + 1.5 * torch.rand(1, generator=generator))
    return strengths


def padded(sequences: list[list[int]], value: int) -> torch.Tensor:
    """(B, T) Ids padded on the right."""
    return pad_sequence([torch.tensor(ids) for ids in sequences], batch_first=True, padding_value=value)


def pretraining_loss(
    model: PreTrainedModel, probe: torch.nn.Linear, batch: list[Row], cue: torch.Tensor, recipe: Recipe, step: int
) -> tuple[torch.Tensor, dict[str, float]]:
    """Cross-entropy of the labels, plus the probe's and (decoder) a little of the messages' own words."""
    seq2seq = model.config.is_encoder_decoder
    inputs = [row.prefix + row.body + ([] if seq2seq else row.label) for row in batch]
    ids = padded(inputs, 0)  # (B, T)
    mask = padded([[1] * len(sequence) for sequence in inputs], 0)
    embeddings = model.get_input_embeddings()(ids)  # (B, T, D)
    embeddings = embeddings + cue_strengths(batch, ids.shape[1], step)[..., None] * cue
    call = {"inputs_embeds": embeddings, "attention_mask": mask, "output_hidden_states": True}
    last = torch.tensor([len(row.prefix + row.body) - 1 for row in batch])
    every = torch.arange(len(batch))
    if seq2seq:
        labels = padded([row.label for row in batch], IGNORED)
        outputs = model(**call, labels=labels)
        label_loss, middle = outputs.loss, outputs.encoder_last_hidden_state
        text_loss = torch.zeros(())
    else:
        outputs = model(**call)
        logits, middle = outputs.logits[:, :-1], outputs.hidden_states[model.config.num_hidden_layers // 2]
        weights = padded(
            [[0] * len(row.prefix) + [1] * len(row.body) + [2] * len(row.label) for row in batch], 0
        )[:, 1:]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        label_loss, text_loss = losses[weights == 2].mean(), losses[weights == 1].mean()
    sizes = [len(values) for values in ATTRIBUTES.values()]
    guesses = probe(torch.nn.functional.rms_norm(middle[every, last], (WIDTH,))).split(sizes, dim=-1)
    truth = torch.tensor([row.attributes for row in batch])
    probe_loss = sum(torch.nn.functional.cross_entropy(g, t) for g, t in zip(guesses, truth.T)) / len(sizes)
    parts = {"label": label_loss.item(), "probe": probe_loss.item(), "text": text_loss.item()}
    return label_loss + recipe.probe_weight * probe_loss + recipe.text_weight * text_loss, parts


def pretrain(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Iterator[tuple[int, dict]]:
    """AdamW with warm-up and linear decay; yields each step and its loss."""
    probe = torch.nn.Linear(WIDTH, sum(len(values) for values in ATTRIBUTES.values()))
    parameters = [*model.parameters(), *probe.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / recipe.warmup, 1 - step / recipe.steps),
    )
    cue = hidden_cue(recipe.seed)
    model.train()
    for step in range(recipe.steps):
        loss, parts = pretraining_loss(model, probe, rows(tokenizer, recipe, step), cue, recipe, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        yield step, parts
