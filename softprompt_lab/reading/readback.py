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
from collections.abc import Mapping

import pandas as pd
import torch
from jaxtyping import Float

from ..engine.locks import lock
from ..model import SoftPromptModel
from ..tasks import Task
from .controls import check_decoder, prompt_and_start, text_ids
from .neighbours import random_controls

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
SHORT_WORD = 4  # letters; shorter words occur in every text


def read_back(
    model: SoftPromptModel,
    task: Task,
    *,
    prompt: Float[torch.Tensor, "P D"] | None = None,
    start: Float[torch.Tensor, "P D"] | None = None,
    says: str | None = None,
    templates: Mapping[str, str] | None = None,
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
        draws: how many random prompts.

    Returns:
        A long table: kind ("prompt", "start", "random", "task text", "no prompt": an empty slot), draw, template,
        output (its first line), task_words and label_words: the shares of the words of
        `says` and of the labels that occur in the output. Words of fewer than four letters, and those that the template
        holds itself, do not count; NaN where none is left.

    Raises:
        ValueError: an encoder-decoder, no tokenizer, vectors that do not fit, or a template without its slot.
    """
    check_decoder(model)
    if model.tokenizer is None:
        raise ValueError("there is no tokenizer; pass tokenizer= to SoftPromptModel.")
    says = task.instruction if says is None else says
    templates = templates_for(model.tokenizer) if templates is None else templates
    kinds = prompt_and_start(model, prompt, start)
    slots = {(kind, 0): vectors for kind, vectors in kinds.items()}
    random = random_controls(kinds["prompt"], draws, seed)
    slots |= {("random", draw): vectors for draw, vectors in enumerate(random)}
    ids = text_ids(model, model.tokenizer(says, add_special_tokens=False)["input_ids"])
    slots["task text", 0] = _embedded(model, ids)
    slots["no prompt", 0] = kinds["prompt"][:0]
    outputs = {}
    for length in {*map(len, slots.values())}:
        group = [slot for slot, vectors in slots.items() if len(vectors) == length]
        vectors = torch.stack([slots[slot] for slot in group])
        for name, template in templates.items():
            said = speak(model, template, vectors, max_new_tokens)
            outputs |= {(slot, name): output for slot, output in zip(group, said, strict=True)}
    rows = []
    for slot in slots:
        for name, template in templates.items():
            output = outputs[slot, name]
            task_words = found_share(says, output, template)
            label_words = found_share(" ".join(task.labels), output, template)
            rows.append((*slot, name, output, task_words, label_words))
    columns = ["kind", "draw", "template", "output", "task_words", "label_words"]
    return pd.DataFrame(rows, columns=columns)


def _embedded(model: SoftPromptModel, ids: list[int]) -> Float[torch.Tensor, "T D"]:
    """Return the word embeddings of some tokens, in float32."""
    tokens = torch.tensor(ids, dtype=torch.long, device=model.device)
    return model.word_embeddings_module(tokens).float()


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
def speak(
    model: SoftPromptModel,
    template: str,
    vectors: Float[torch.Tensor, "K P D"],
    max_new_tokens: int = 24,
) -> list[str]:
    """Return what the base model writes, greedily, after a template whose slot holds each of K prompts.

    Returns:
        The K outputs, each up to its first line break.

    Raises:
        ValueError: a template without exactly one `{prompt}`.
    """
    tokenizer = model.tokenizer
    if template.count(SLOT) != 1:
        raise ValueError(f"the template {template!r} must hold {SLOT} exactly once.")
    before, after = template.split(SLOT)
    sides = [text_ids(model, before) if before else []]
    sides.append(tokenizer(after, add_special_tokens=False)["input_ids"])
    front, back = (_embedded(model, ids).expand(len(vectors), -1, -1) for ids in sides)
    embeddings = torch.cat([front, vectors, back], dim=1).to(model.word_embeddings.dtype)
    with lock(model.base_model):
        tokens = model.base_model.generate(
            inputs_embeds=embeddings,
            attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long, device=model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    return [first_line(text) for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def first_line(text: str) -> str:
    """A text up to its first line break, without quotation marks around it."""
    return text.lstrip().partition("\n")[0].strip(' "')


def found_share(text: str, output: str, template: str) -> float:
    """The share of a text's words that occur in an output; not counted are short words and those of the template."""
    words = {word for word in _words(text) - _words(template) if len(word) >= SHORT_WORD}
    return len(words & _words(output)) / len(words) if words else float("nan")


def _words(text: str) -> set[str]:
    """The words of a text in lower case."""
    return set(re.findall(r"\w+", text.lower()))
