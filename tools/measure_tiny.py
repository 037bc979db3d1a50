"""Measure what a tiny base model can do: exact match by skill without a prompt, with words, with vectors.

python tools/measure_tiny.py                  # both shipped models
python tools/measure_tiny.py tiny --skill topic --seed 3
"""

from dataclasses import dataclass
from statistics import mean
from typing import Annotated

import shop
import torch
import typer

from softprompt_lab import (
    PromptTuningConfig,
    PromptTuningInit,
    SoftPromptModel,
    TaskType,
    evaluate,
    load_base_model,
    load_task,
    train,
)

TASK_TYPES = {"tiny": TaskType.CAUSAL_LM, "tiny-seq2seq": TaskType.SEQ_2_SEQ_LM}
VIRTUAL_TOKENS = 8
TRAINING = {  # each fails on a seed or a skill at the other's
    "tiny": {"steps": 150, "batch_size": 16, "learning_rate": 0.05},
    "tiny-seq2seq": {"steps": 250, "batch_size": 16, "learning_rate": 0.01},
}


@dataclass(frozen=True)
class Measurement:
    """Exact match over the whole vocabulary on a skill's test split, three ways."""

    model: str
    skill: str
    no_prompt: float
    words: dict[str, float]  # wording -> exact match
    trained: float
    seconds: float

    def line(self) -> dict[str, str | float]:
        """One line of the table."""
        return {
            "skill": self.skill,
            "no prompt": self.no_prompt,
            "words, mean": mean(self.words.values()),
            "words, best": max(self.words.values()),
            "trained prompt": self.trained,
            "seconds": self.seconds,
        }


def wordings(skill: str) -> tuple[str, ...]:
    """The instructions of a worded skill; without any, those of all other skills and a person's guesses."""
    chosen = shop.SKILLS[skill]
    return chosen.instructions or (*shop.ALL_INSTRUCTIONS, *chosen.guesses)


def exact_match(name: str, skill: str, instruction: str = "") -> float:
    """Exact match of the bare base model behind an instruction in words, or behind nothing."""
    base_model, tokenizer = load_base_model(name, task_type=TASK_TYPES[name])
    task = load_task("shop", label_column=skill)
    if instruction:
        task = task.with_template(f"{instruction} {task.template}")
    return evaluate(base_model, task, tokenizer=tokenizer).exact_match


def train_prompt(
    name: str, skill: str, seed: int = 0, **settings
) -> tuple[float, float, SoftPromptModel]:
    """Train a prompt from sampled words: exact match on the test split, seconds of training, the model."""
    base_model, tokenizer = load_base_model(name, task_type=TASK_TYPES[name])
    torch.manual_seed(seed)
    config = PromptTuningConfig(
        num_virtual_tokens=VIRTUAL_TOKENS,
        task_type=TASK_TYPES[name],
        prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
    )
    model = SoftPromptModel(base_model, config, tokenizer=tokenizer)
    task = load_task("shop", label_column=skill)
    history = train(model, task, seed=seed, progress=False, **{**TRAINING[name], **settings})
    return evaluate(model, task).exact_match, history.seconds, model


def measure(name: str, skill: str, seed: int = 0) -> Measurement:
    """All figures of one skill of one base model."""
    trained, seconds, _ = train_prompt(name, skill, seed)
    asked = {text: exact_match(name, skill, text) for text in wordings(skill)}
    return Measurement(name, skill, exact_match(name, skill), asked, trained, seconds)


def table(measurements: list[Measurement]) -> str:
    """The measurements as a Markdown table."""
    header = list(measurements[0].line())
    lines = [header, ["---"] * len(header)]
    for measurement in measurements:
        skill, *figures, seconds = measurement.line().values()
        lines.append([skill, *(f"{figure:.3f}" for figure in figures), f"{seconds:.1f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(
    name: Annotated[
        str | None, typer.Argument(help="tiny or tiny-seq2seq; both if left out")
    ] = None,
    skill: Annotated[
        list[str] | None, typer.Option(help="measure this skill only; may be repeated")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="of the prompt's start and of the order of the rows")
    ] = 0,
) -> None:
    """Print exact match by skill, with the seconds that training the prompt took."""
    for model in [name] if name else list(TASK_TYPES):
        print(f"\n{model}, test split, exact match over the whole vocabulary")
        print(
            table([measure(model, chosen, seed) for chosen in skill or list(shop.SKILLS)]),
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
