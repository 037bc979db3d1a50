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
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from jaxtyping import Float
from torch.nn.utils.rnn import pad_sequence

from ..engine.exactness import check_left_pads
from ..engine.locks import lock
from ..model import SoftPromptModel
from ..tasks import Task
from .controls import check_decoder, prompt_and_start
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
SHORT_WORD = 4  # letters; shorter words occur in every text


def read_back(
    model: SoftPromptModel,
    task: Task,
    *,
    start: Float[torch.Tensor, "P D"] | None = None,
    templates: Mapping[str, str] | None = None,
    max_new_tokens: int = 24,
    draws: int = 3,
) -> pd.DataFrame:
    """What the base model writes, greedily, behind templates whose slot holds the active prompt or a control.

    Args:
        task: its `instruction` says the task. The word embeddings of this text are the positive control.
        start: the prompt before training.
        templates: by name, each with `{prompt}` once; by default `templates_for` the tokenizer.
        draws: how many random prompts.

    Returns:
        A long table: kind ("prompt", "start", "random", "task text", "no prompt": an empty slot), draw, template,
        output (its first line) and task_words: the share of the words of the instruction that occur in the output.
        Words of fewer than four letters, and those that the template holds itself, do not count; NaN where none is
        left.

    Raises:
        ValueError: an encoder-decoder, a start that does not fit, or a template without its slot.
    """
    check_decoder(model)
    templates = templates_for(model.tokenizer) if templates is None else templates
    kinds = prompt_and_start(model, start)
    slots = [(kind, 0, vectors) for kind, vectors in kinds.items()]
    slots += [("random", draw, random_control(kinds["prompt"], draw)) for draw in range(draws)]
    slots += [("task text", 0, _embedded(model, task.instruction))]
    slots += [("no prompt", 0, kinds["prompt"][:0])]
    held = [vectors for *_, vectors in slots]
    said = {name: speak(model, each, held, max_new_tokens) for name, each in templates.items()}
    rows = []
    for number, (kind, draw, _) in enumerate(slots):
        for name, template in templates.items():
            output = said[name][number]
            task_words = found_share(task.instruction, output, template)
            rows.append((kind, draw, name, output, task_words))
    return pd.DataFrame(rows, columns=["kind", "draw", "template", "output", "task_words"])


def _embedded(
    model: SoftPromptModel, text: str, special: bool = False
) -> Float[torch.Tensor, "T D"]:
    """Return the word embeddings of a text, in float32; with `special` after the tokens that begin a text."""
    ids = model.tokenizer(text, add_special_tokens=special)["input_ids"]
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
    slots: Sequence[Float[torch.Tensor, "_ D"]],
    max_new_tokens: int = 24,
) -> list[str]:
    """Return what the base model writes, greedily, after a template whose slot holds each of some vectors.

    Each output is cut at its first line break.

    Raises:
        ValueError: a template without exactly one `{prompt}`.
    """
    if template.count(SLOT) != 1:
        raise ValueError(f"the template {template!r} must hold {SLOT} exactly once.")
    tokenizer = model.tokenizer
    before, after = template.split(SLOT)
    front, back = _embedded(model, before, special=True), _embedded(model, after)
    rows = [torch.cat([front, vectors, back]) for vectors in slots]
    seen = [torch.ones(len(row), dtype=torch.long, device=model.device) for row in rows]
    embeddings, mask = (
        pad_sequence(each, batch_first=True, padding_side="left") for each in (rows, seen)
    )
    with lock(model.base_model):
        check_left_pads(model.base_model, mask.sum(dim=1))
        tokens = model.base_model.generate(
            inputs_embeds=embeddings.to(model.word_embeddings_module.weight.dtype),
            attention_mask=mask,
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
