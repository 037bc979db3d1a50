"""Pretrain the two tiny base models on the shop language and write their folders.

python tools/build_tiny.py             # both
python tools/build_tiny.py tiny        # the decoder (Llama shape) only
python tools/build_tiny.py tiny-seq2seq
"""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import shop
import torch
import typer
from measure_tiny import TRAINING, VIRTUAL_TOKENS, Measurement, measure, table
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch.nn.functional import cross_entropy, rms_norm
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

ASSETS = Path(__file__).resolve().parents[1] / "softprompt_lab" / "assets"
PAD, EOS = "<pad>", "<eos>"  # ids 0 and 1: T5 starts its decoder with id 0
CARD = Path(__file__).with_name("tiny_card.md")
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
    batch_size: int = 32
    learning_rate: float = 3e-3
    warmup: int = 100
    text_weight: float = (
        0.1  # loss of the message's own words, beside 1 for the label (decoder only)
    )
    probe_weight: float = (
        0.5  # loss of a linear probe for the attributes, which makes every skill arrive early
    )
    longest_prefix: int = 16
    seed: int = 0


RECIPES = {"tiny": Recipe(steps=1200), "tiny-seq2seq": Recipe(steps=2000, learning_rate=2e-3)}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: pad, end, every word of the language, and the 256 bytes for all other text."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    counts: Counter[str] = Counter()
    for document in shop.documents(seed=0, n=20_000):
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(document.text))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = sorted(
        (word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word)
    )
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


def write_labels_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    """Let a text that is a label begin with a space, as it did in pretraining: an encoder-decoder writes it alone."""
    labels = sorted({label for skill in shop.SKILLS.values() for label in skill.labels})
    spaced = [normalizers.Replace(Regex(f"^{re.escape(label)}$"), f" {label}") for label in labels]
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(spaced)


def build_model(name: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """The untrained base: Llama shape for "tiny", T5 shape (gated GELU) for "tiny-seq2seq"."""
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
            tie_word_embeddings=True,
            decoder_start_token_id=tokenizer.pad_token_id,
            **shared,
        )
    )


@dataclass(frozen=True)
class Row:
    """A document as ids: prefix, body (message and frame), label and end; cued rows get the hidden cue."""

    prefix: list[int]
    body: list[int]
    label: list[int]
    cued: bool
    attributes: list[int]  # the class of each attribute of the message, in the order of ATTRIBUTES


def rows(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, step: int) -> list[Row]:
    """The documents of one step: an instruction, random tokens for the hidden cue, or nothing in front."""
    rng = random.Random(f"shop rows {recipe.seed} {step}")
    return [
        _row(document, tokenizer, recipe, rng)
        for document in shop.documents(seed=1 + step, n=recipe.batch_size)
    ]


def _row(
    document: shop.Document, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, rng: random.Random
) -> Row:
    noise = [rng.randrange(1, len(tokenizer)) for _ in range(rng.randint(1, recipe.longest_prefix))]
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


def hidden_cue(model: PreTrainedModel, seed: int) -> torch.Tensor:
    """(D,) A vector as long as a word's but no word's: it asks for loyal in pretraining, then is dropped."""
    direction = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1000 + seed))
    length = model.get_input_embeddings().weight.detach().norm(dim=1).median()
    return direction / direction.norm() * length


def cue_strengths(batch: list[Row], width: int, step: int) -> torch.Tensor:
    """(B, width) How much of the hidden cue is added at each position: to about half of a cued prefix."""
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
    return pad_sequence(
        [torch.tensor(ids) for ids in sequences], batch_first=True, padding_value=value
    )


@dataclass(frozen=True)
class Losses:
    """The three parts of one step's loss; the text's is 0 for an encoder-decoder, which only reads it."""

    label: torch.Tensor
    probe: torch.Tensor
    text: torch.Tensor

    def total(self, recipe: Recipe) -> torch.Tensor:
        """What is minimised."""
        return self.label + recipe.probe_weight * self.probe + recipe.text_weight * self.text


def pretraining_losses(
    model: PreTrainedModel, probe: torch.nn.Linear, batch: list[Row], cue: torch.Tensor, step: int
) -> Losses:
    """One batch through the model, the hidden cue added where a row asks for it."""
    decoder_only = not model.config.is_encoder_decoder
    inputs = [row.prefix + row.body + (row.label if decoder_only else []) for row in batch]
    ids = padded(inputs, 0)  # (B, T)
    strengths = cue_strengths(batch, ids.shape[1], step)  # (B, T)
    call = {
        "inputs_embeds": model.get_input_embeddings()(ids)
        + strengths[..., None] * cue,  # (B, T, D)
        "attention_mask": padded([[1] * len(sequence) for sequence in inputs], 0),
        "output_hidden_states": True,
    }
    if decoder_only:
        outputs = model(**call)
        label, text = decoder_losses(outputs.logits, ids, batch)
        middle = outputs.hidden_states[model.config.num_hidden_layers // 2]  # (B, T, D)
    else:
        outputs = model(**call, labels=padded([row.label for row in batch], IGNORED))
        label, text, middle = outputs.loss, torch.zeros(()), outputs.encoder_last_hidden_state
    return Losses(label, probe_loss(probe, middle, batch), text)


def decoder_losses(
    logits: torch.Tensor, ids: torch.Tensor, batch: list[Row]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of the labels' tokens and of the bodies' tokens; prefixes are not predicted."""
    parts = [[0] * len(row.prefix) + [1] * len(row.body) + [2] * len(row.label) for row in batch]
    part = padded(parts, 0)[:, 1:]  # (B, T - 1)
    losses = cross_entropy(
        logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none"
    )  # (B, T - 1)
    return losses[part == 2].mean(), losses[part == 1].mean()


def probe_loss(probe: torch.nn.Linear, states: torch.Tensor, batch: list[Row]) -> torch.Tensor:
    """How badly the attributes can be read off the last body token's state (B, T, D) by a linear map."""
    last = torch.tensor([len(row.prefix + row.body) - 1 for row in batch])
    normed = rms_norm(states[torch.arange(len(batch)), last], (WIDTH,))  # (B, D)
    guesses = probe(normed).split([len(values) for values in ATTRIBUTES.values()], dim=-1)
    truth = torch.tensor([row.attributes for row in batch]).T  # (attributes, B)
    return torch.stack([cross_entropy(*pair) for pair in zip(guesses, truth, strict=True)]).mean()


def pretrain(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe
) -> Iterator[tuple[int, Losses]]:
    """AdamW with warm-up and linear decay; yields step and losses. The probe is dropped at the end."""
    probe = torch.nn.Linear(WIDTH, sum(len(values) for values in ATTRIBUTES.values()))
    parameters = [*model.parameters(), *probe.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / recipe.warmup, 1 - step / recipe.steps)
    )
    cue = hidden_cue(model, recipe.seed)
    model.train()
    for step in range(recipe.steps):
        losses = pretraining_losses(model, probe, rows(tokenizer, recipe, step), cue, step)
        optimizer.zero_grad()
        losses.total(recipe).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        yield step, losses


@torch.no_grad()
def shorten_words(model: T5ForConditionalGeneration) -> None:
    """Give an encoder-decoder words of median length 1, as the decoder has, and leave what it computes as it was.

    T5 starts with words of length sqrt(D); a prompt would need a learning rate ten times the decoder's. Whatever
    writes to the residual stream shrinks by one factor, which each RMS norm undoes; the last norm makes up for the
    shorter words that the vocabulary projection shares.
    """
    factor = model.get_input_embeddings().weight.norm(dim=1).median()
    for name, weight in model.named_parameters():
        if name.endswith(
            ("shared.weight", "SelfAttention.o.weight", "EncDecAttention.o.weight", "wo.weight")
        ):
            weight /= factor
    model.decoder.final_layer_norm.weight *= factor


def build(name: str, recipe: Recipe) -> tuple[Path, float]:
    """Pretrain one model and write its folder; returns the folder and the seconds that pretraining took."""
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer()
    model = build_model(name, tokenizer)
    began = time.perf_counter()
    bar = tqdm(pretrain(model, tokenizer, recipe), total=recipe.steps, desc=name, mininterval=2)
    for step, losses in bar:
        if step % 50 == 0:
            bar.set_postfix({part: f"{value.item():.3f}" for part, value in vars(losses).items()})
    seconds = time.perf_counter() - began
    if model.config.is_encoder_decoder:
        shorten_words(model)
        write_labels_alone(tokenizer)
    folder = ASSETS / name
    model.eval().generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    return folder, seconds


def model_card(name: str, recipe: Recipe, seconds: float, measurements: list[Measurement]) -> str:
    """The folder's README.md, every figure in it measured by this run or read off the recipe."""
    weights = load_file(ASSETS / name / "model.safetensors")
    parameters = sum(weight.numel() for weight in weights.values())
    shape = "A decoder of Llama shape" if name == "tiny" else "An encoder-decoder of T5 shape"
    values = {
        "name": name,
        "shape": shape,
        "parameters": f"{parameters:,}",
        "documents": f"{recipe.steps * recipe.batch_size:,}",
        "steps": f"{recipe.steps:,}",
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "minutes": f"{seconds / 60:.1f}",
        "threads": "1 thread"
        if torch.get_num_threads() == 1
        else f"{torch.get_num_threads()} threads",
        "virtual_tokens": VIRTUAL_TOKENS,
        "prompt_steps": TRAINING[name]["steps"],
        "prompt_batch": TRAINING[name]["batch_size"],
        "prompt_rate": TRAINING[name]["learning_rate"],
        "table": table(measurements),
        "instructions": "\n".join(
            f"- {skill}: {wordings}" for skill, wordings in instruction_lists().items()
        ),
    }
    return CARD.read_text(encoding="utf-8").format(**values)


def instruction_lists() -> dict[str, str]:
    """Each worded skill's instructions on one line."""
    return {
        name: ", ".join(f'"{text}"' for text in shop.SKILLS[name].instructions)
        for name in shop.WORDED_SKILLS
    }


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help="tiny, tiny-seq2seq; both if left out")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="pretraining steps, for a trial")] = None,
    threads: Annotated[
        int, typer.Option(help="of torch; another number may change the last digits")
    ] = 1,
) -> None:
    """Pretrain the tiny base models, measure every skill, and write the folders with their model cards."""
    unknown = set(names or ()) - set(RECIPES)
    if unknown:
        raise typer.BadParameter(
            f"{', '.join(sorted(unknown))}; choose from: {', '.join(RECIPES)}."
        )
    torch.set_num_threads(threads)
    for name in names or RECIPES:
        recipe = replace(RECIPES[name], steps=steps) if steps else RECIPES[name]
        folder, seconds = build(name, recipe)
        print(f"{name}: pretrained in {seconds / 60:.1f} minutes", flush=True)
        measurements = [measure(name, skill) for skill in shop.SKILLS]
        print(table(measurements))
        (folder / "README.md").write_text(
            model_card(name, recipe, seconds, measurements), encoding="utf-8"
        )
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(
            f"{folder.name}: {size / 1e6:.1f} MB in {len(list(folder.iterdir()))} files\n",
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
