"""Does the start of a prompt matter once it is trained? Five starts on three word skills: chapter 03's table.

python benchmarks/starts.py run       # what notebooks/tables/starts.csv lacks; stop it and start it again at will
"""

import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
import torch
import typer
from sweep import write_down

from softprompt_lab import (
    PromptTuningConfig,
    SoftPromptModel,
    embedding,
    evaluate,
    load_base_model,
    load_task,
    train,
)
from softprompt_lab.runs import zoo

TABLE = Path(__file__).resolve().parents[1] / "notebooks" / "tables" / "starts.csv"
TASKS, SEEDS, P, STEPS = ("words/past", "words/antonym", "words/plural"), (0, 1, 2), 4, 60
OTHER = "words-comparative"  # of the zoo: a prompt trained on a skill that is none of the tasks
RANDOM, SCALED, SAMPLE, TEXT, TRAINED = (
    "RANDOM",
    "random, words' scale",
    "SAMPLE_VOCAB",
    "TEXT",
    "another skill's prompt",
)
STARTS = (RANDOM, SCALED, SAMPLE, TEXT, TRAINED)


class Arm(NamedTuple):
    """A start, and how the prompt is trained from it."""

    start: str
    steps: int = STEPS
    times: float = 1  # as large as the default learning rate


ARMS = (*map(Arm, STARTS), Arm(RANDOM, times=7), Arm(RANDOM, steps=200))
CONTROLS = (Arm(SCALED, times=0.1429), Arm(SCALED, times=7))  # a seventh; on the first task alone
KEY = ["task", *Arm._fields, "seed"]
MEASURED = ["right", "n", "loss", "norm before", "norm after", "seconds", "dtype", "base"]


def start_of(name: str, model, tokenizer, task, seed: int) -> torch.Tensor:
    """Return the vectors (P, D) of a start; what is drawn comes from the seed."""
    words, generator = model.get_input_embeddings(), torch.Generator().manual_seed(seed)
    width = words.weight.shape[1]
    if name == TRAINED:
        return zoo.load(OTHER, model, tokenizer).model.prompt.detach().clone()
    if name == TEXT:
        return embedding.text_start(task.instruction, tokenizer, words, P)
    if name == SAMPLE:
        return embedding.sample_vocab_start(words, P, generator)
    scale = words.weight.square().mean().sqrt() if name == SCALED else 1.0
    return scale * embedding.random_start(P, width, generator)


def measure(base, task, arm: Arm, seed: int) -> dict[str, Any]:
    """Train one prompt and let it write the answers of the test words."""
    began, (base_model, tokenizer) = time.perf_counter(), base
    start = start_of(arm.start, base_model, tokenizer, task, seed)
    model = SoftPromptModel(base_model, PromptTuningConfig(P), tokenizer=tokenizer, start=start)
    train(model, task, steps=arm.steps, learning_rate=0.03 * arm.times, seed=seed, progress=False)
    found = evaluate(model, task)
    return {
        "right": int(found.predictions["correct"].sum()),
        "n": found.n,
        "loss": found.loss,
        "norm before": start.norm(dim=1).mean().item(),
        "norm after": model.prompt.norm(dim=1).mean().item(),
        "seconds": time.perf_counter() - began,
        "dtype": "float32",
        "base": "smollm2",
    }


app = typer.Typer(help=__doc__, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Have `run` as a command of its own."""


@app.command()
def run(output: Annotated[Path, typer.Option(help="The table.")] = TABLE) -> None:
    """Measure the runs that the table lacks."""
    base = load_base_model("smollm2", device="cpu")
    done = pd.read_csv(output)[KEY] if output.exists() else pd.DataFrame(columns=KEY)
    known = set(done.itertuples(index=False, name=None))
    for seed in SEEDS:
        for name in TASKS:
            task = load_task(name)
            for arm in ARMS + (CONTROLS if name == TASKS[0] else ()):
                key = (name, *arm, seed)
                if key in known:
                    continue
                row = dict(zip(KEY, key, strict=True)) | measure(base, task, arm, seed)
                write_down(output, [*KEY, *MEASURED], [row])
                typer.echo(row)


if __name__ == "__main__":
    app()
