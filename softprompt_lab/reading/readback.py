"""What the frozen model says when a prompt is read back to it: the vectors stand where a text would, and it goes on.

Patchscopes (Ghandeharioun et al. 2024, arXiv 2401.06102) put a hidden state into the "?" of another text and let the
model speak; InSPEcT (Ramati et al. 2024, arXiv 2410.11660) does so with soft prompts of models of several billion
parameters, and what it elicits gets truer as the prompt gets better. Small models are expected to fail: they hardly
follow the examples, and a trained prompt stands where no text stands. A reading counts where the task's own text in the
same slot is read back (else the instrument is blind) and random vectors and an empty slot are not (else it tells the
template, or the task from the model's habits).

Measured on smollm2 with prompts trained on the three labellings of `complaints`, mean over the templates below: of the
task's words 75 % come back from the task's own text, 0 % from random vectors and from an empty slot, 13 % from the
starts, whose text is often copied word for word, and 9 % from the trained prompts, which are copied no more.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pandas as pd
import torch
from jaxtyping import Float
from torch import nn
from transformers import StoppingCriteriaList

from ..engine.locks import lock
from ..model import SoftPromptModel
from ..tasks import Task
from .controls import check_decoder, prompt_and_controls, text_ids
from .layers import decoder_layers, first_tensor
from .neighbours import random_control

SLOT = "{prompt}"
TEMPLATES = {
    "copy": (
        'The words "Open the window, please." again: "Open the window, please."\n'
        'The words "My brother plays the piano:" again: "My brother plays the piano:"\n'
        f'The words "{SLOT}" again: "'
    ),
    "ask": f'The instruction "{SLOT}" asks you to',
}
QUESTION = f"{SLOT}\nWhat does this instruction ask for?"  # to a model that was trained to chat
ANSWER = "The instruction asks you to"
PLACEHOLDER = " ?"  # stands in the slot below the layer that is patched
SHORT_WORD = 4  # letters; shorter words occur in every text


def read_back(
    model: SoftPromptModel,
    task: Task,
    *,
    prompt: Float[torch.Tensor, "P D"] | None = None,
    start: Float[torch.Tensor, "P D"] | None = None,
    says: str | None = None,
    templates: Mapping[str, str] | None = None,
    source_layer: int = 0,
    target_layer: int = 0,
    max_new_tokens: int = 24,
    draws: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """What the base model writes, greedily, behind templates whose slot holds the prompt or a control.

    Args:
        task: gives the labels, and the text that says the task.
        prompt: the vectors to read; by default the model's active prompt.
        start: the prompt before training.
        says: a text that says the task, by default `task.instruction`. Its word embeddings are the positive control.
        templates: by name, each with `{prompt}` once; by default `templates_for` the tokenizer.
        source_layer: 0 reads the vectors themselves, l what layer l - 1 makes of the prompt standing alone.
        target_layer: 0 puts them in place of word embeddings, l into what layer l reads at the slot.
        draws: how many random prompts.

    Returns:
        A long table: kind ("prompt", "start", "random", "task text", "no prompt": an empty slot), draw, template,
        output (its first line), task_words and label_words: the shares of the words of
        `says` and of the labels that occur in the output. Words of fewer than four letters, and those that the template
        holds itself, do not count; NaN where none is left.

    Raises:
        ValueError: an encoder-decoder, no tokenizer, vectors that do not fit, a template without its slot, or a layer
            that is not there.
    """
    base_model = check_decoder(model)
    if model.tokenizer is None:
        raise ValueError("there is no tokenizer; pass tokenizer= to SoftPromptModel.")
    says = task.instruction if says is None else says
    templates = templates_for(model.tokenizer) if templates is None else templates
    kinds = prompt_and_controls(model, prompt, start)
    read = kinds["prompt"]
    slots = {(kind, 0): kinds[kind] for kind in ("prompt", "start") if kind in kinds}
    slots |= {("random", draw): random_control(read, seed + draw) for draw in range(draws)}
    words = torch.tensor(
        text_ids(model, model.tokenizer(says, add_special_tokens=False)["input_ids"])
    )
    slots |= {("task text", 0): model.word_embeddings_module(words.to(model.device)).float()}
    slots |= {("no prompt", 0): read[:0]}
    groups = [
        [slot for slot, own in slots.items() if len(own) == length]
        for length in {*map(len, slots.values())}
    ]
    outputs = {}
    for same_length in groups:
        states = prompt_states(
            base_model, torch.stack([slots[slot] for slot in same_length]), source_layer
        )
        for name, template in templates.items():
            said = speak(model, template, states, target_layer, max_new_tokens)
            outputs |= {
                (slot, name): output for slot, output in zip(same_length, said, strict=True)
            }
    rows = [(*slot, name, outputs[slot, name]) for slot in slots for name in templates]
    table = pd.DataFrame(rows, columns=["kind", "draw", "template", "output"])
    for column, text in (("task_words", says), ("label_words", " ".join(task.labels))):
        pairs = zip(table["output"], table["template"], strict=True)
        table[column] = [found_share(text, output, templates[name]) for output, name in pairs]
    return table


def templates_for(tokenizer) -> dict[str, str]:
    """A text to copy and an instruction to explain; for a model that was trained to chat also as a question in a chat.

    "copy" reads the words back, "ask" and "chat" what they mean to the model.
    """
    if not tokenizer.chat_template:
        return dict(TEMPLATES)
    turns = [{"role": "user", "content": QUESTION}]
    asked = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return TEMPLATES | {"chat": asked + ANSWER}


@torch.no_grad()
def prompt_states(
    base_model: nn.Module, vectors: Float[torch.Tensor, "K P D"], layer: int
) -> Float[torch.Tensor, "K P D"]:
    """What a layer reads at prompts that stand alone; layer 0 stands for the vectors themselves.

    Raises:
        ValueError: a layer that is not there.
    """
    layers = base_model.config.get_text_config(decoder=True).num_hidden_layers
    if not 0 <= layer < layers:
        raise ValueError(
            f"layer {layer} is not there; the base model has {layers}, from 0 to {layers - 1}."
        )
    if layer == 0 or not vectors.shape[1]:
        return vectors
    embeddings = vectors.to(base_model.get_input_embeddings().weight.dtype)
    with lock(base_model):
        return base_model(
            inputs_embeds=embeddings, output_hidden_states=True, use_cache=False
        ).hidden_states[layer]


@torch.no_grad()
def speak(
    model: SoftPromptModel,
    template: str,
    states: Float[torch.Tensor, "K P D"],
    target_layer: int = 0,
    max_new_tokens: int = 24,
) -> list[str]:
    """What the base model writes, greedily, behind a template whose slot holds each of K prompts.

    Returns:
        The K outputs, each up to its first line break.

    Raises:
        ValueError: a template without exactly one `{prompt}`, or a layer that is not there.
    """
    base_model, tokenizer = model.base_model, model.tokenizer
    if template.count(SLOT) != 1:
        raise ValueError(f"the template {template!r} must hold {SLOT} exactly once.")
    before, after = template.split(SLOT)
    front = text_ids(model, before) if before else []
    back = tokenizer(after, add_special_tokens=False)["input_ids"]
    layers = decoder_layers(base_model)
    if not 0 <= target_layer < len(layers):
        raise ValueError(
            f"layer {target_layer} is not there; the base model has layers 0 to {len(layers) - 1}."
        )
    slot = slice(len(front), len(front) + states.shape[1])
    shown = states
    if target_layer:
        question = tokenizer(PLACEHOLDER, add_special_tokens=False)["input_ids"][-1:]
        shown = model.word_embeddings_module(torch.tensor(question, device=model.device)).expand_as(
            states
        )
    words = model.word_embeddings_module(torch.tensor([front + back], device=model.device))
    words = words.expand(len(states), -1, -1)  # (K, T, D)
    embeddings = torch.cat(
        [words[:, : len(front)], shown.to(words.dtype), words[:, len(front) :]], dim=1
    )
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    options = {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": 1} | ends

    def ended(tokens: torch.Tensor, scores: object) -> torch.Tensor:
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return torch.tensor(["\n" in text.lstrip() for text in texts], device=tokens.device)

    mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=model.device)
    with lock(base_model), patched(layers[target_layer] if target_layer else None, slot, states):
        tokens = base_model.generate(
            inputs_embeds=embeddings,
            attention_mask=mask,
            stopping_criteria=StoppingCriteriaList([ended]),
            **options,
        )
    return [first_line(text) for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def first_line(text: str) -> str:
    """A text up to its first line break, without quotation marks around it."""
    return text.lstrip().partition("\n")[0].strip(' "')


@contextmanager
def patched(
    layer: nn.Module | None, slot: slice, states: Float[torch.Tensor, "K P D"]
) -> Iterator[None]:
    """Let a layer read other states at the slot of a text; no layer, no change."""

    def patch(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        read = first_tensor(
            (*args, kwargs.get("hidden_states"))
        )  # (K, N, D); (K, 1, D) at each new token
        if read.shape[1] < slot.stop:
            return args, kwargs
        read = torch.cat(
            [read[:, : slot.start], states.to(read.dtype), read[:, slot.stop :]], dim=1
        )
        return ((read, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": read})

    handle = layer.register_forward_pre_hook(patch, with_kwargs=True) if layer is not None else None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def found_share(text: str, output: str, template: str) -> float:
    """The share of a text's words that occur in an output; not counted are short words and those of the template."""
    words = {word for word in _words(text) - _words(template) if len(word) >= SHORT_WORD}
    return len(words & _words(output)) / len(words) if words else float("nan")


def _words(text: str) -> set[str]:
    """The words of a text in lower case."""
    return set(re.findall(r"\w+", text.lower()))
