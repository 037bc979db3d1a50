"""Are prompts of one task alike, and does a prompt of another task make a good start (SPoT, Vu et al. 2022)?

    python benchmarks/transfer.py similarity   # the zoo's prompts beside each other, on smollm2; about 10 minutes
    python benchmarks/transfer.py tiny         # skills of the shop language from several starts, four seeds
    python benchmarks/transfer.py smollm2      # `reviews` from the tweets prompts, three seeds; 15 minutes
    python benchmarks/transfer.py report       # transfer.md from what is there

Each part writes a .csv beside this file; `report` makes the text of them.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
import transformers
import typer

from softprompt_lab import (
    SoftPromptModel,
    Task,
    evaluate,
    load_base_model,
    load_task,
    reading,
    train,
)
from softprompt_lab.config import PromptTuningConfig
from softprompt_lab.plots.charts import curves_figure
from softprompt_lab.plots.figure import Figure
from softprompt_lab.runs import saved as runs
from softprompt_lab.runs import zoo

FOLDER = Path(__file__).parent
VIRTUAL_TOKENS = 8
TARGETS = (
    "complaint",
    "loyal",
)  # of the shop: one that pretraining asked for in words, one by vectors alone
SOURCES = ("complaint", "urgent", "tone", "loyal")  # of the same labels as the targets, but tone
SOURCE_TRAINING = {"steps": 60, "batch_size": 16, "learning_rate": 0.05}
TINY_TRAINING = {"steps": 20, "batch_size": 8, "learning_rate": 0.05, "evaluate_every": 5}
TINY_SEEDS, TINY_TEST_ROWS = range(4), 200
SMOLLM2_TRAINING = {"steps": 40, "batch_size": 8, "learning_rate": 0.03, "evaluate_every": 10}
SMOLLM2_SEEDS = (0, 1, 2)
SMOLLM2_SOURCE, SMOLLM2_TARGET = "tweets", "reviews"
VALIDATION_ROWS = 60  # of the curves; smollm2's test split is measured whole at the end
BEHAVIOUR_ROWS = 64
TARGET_TEXT = "Is this review positive or negative?"
app = typer.Typer(
    add_completion=False, help="Similarity of prompts, and starts from other prompts."
)


def curves_file(name: str) -> Path:
    """Where the learning curves on a base model are kept."""
    return FOLDER / f"transfer_{name}_curves.csv"


def learning_curves(runs: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """Histories (`TrainingHistory.to_pandas`) of trainings from several starts as one long table.

    `runs`: by the kind of start ("text", "random", "from complaint", ...) one history a seed, in the same order of
    seeds. Columns: kind, run (from 0), step, measure ("loss", "validation_loss", "validation_accuracy"), value.
    """
    every = {(kind, run): each for kind, own in runs.items() for run, each in enumerate(own)}
    long = pd.concat(every, names=["kind", "run"]).reset_index(["kind", "run"])
    return long.melt(["kind", "run", "step"], var_name="measure").dropna(ignore_index=True)


def transfer_curves(curves: pd.DataFrame, measures: Sequence[str]) -> Figure:
    """Draw trainings from several starts: the mean over the runs, the range between them shaded, one panel a measure.

    `curves`: of `learning_curves`.
    """
    wide = curves.pivot(index=["kind", "run", "step"], columns="measure", values="value")
    table = wide.reindex(curves["kind"].unique(), level="kind").reset_index()
    units = {"loss": "loss (nats a token)", "validation_loss": "validation loss (nats a token)"}
    columns = {name: units.get(name, name.replace("_", " ")) for name in measures}
    return curves_figure(table, "step", columns, band=0.0)


# ------------------------------------------------------------------------------------------------ similarity


@app.command()
def similarity() -> None:
    """Compare all prompts of the zoo in vectors and in the next token."""
    model = zoo.load(f"{SMOLLM2_SOURCE}-seed0").model
    found = {name: zoo.load(name, model.base_model, model.tokenizer) for name in zoo.names()}
    shape = (
        VIRTUAL_TOKENS,
        model.word_embeddings.shape[1],
    )  # prompts of another length are left out
    found = {
        name: run for name, run in found.items() if run.free and run.model.prompt.shape == shape
    }
    prompts = {name: run.model.prompt.detach() for name, run in found.items()}
    starts = {name: run.start for name, run in found.items()}
    words, task = model.word_embeddings.detach(), load_task(SMOLLM2_SOURCE)
    tables = [
        reading.vector_similarity(prompts, starts),
        reading.vector_similarity(prompts, starts, words).assign(centred=True),
        reading.next_token_similarity(model, task, prompts, starts, limit=BEHAVIOUR_ROWS),
    ]
    table = pd.concat(tables, ignore_index=True)
    table["measure"] += table.pop("centred").map({True: ", centred"}).fillna("")
    table.to_csv(FOLDER / "transfer_similarity.csv", index=False, float_format="%.5f")
    print(reading.by_relation(table, _task_of(prompts)).to_string())


def _task_of(names) -> dict[str, str]:
    """The task that a prompt of the zoo is of: the first part of its name."""
    return {name: name.split("-")[0] for name in names}


# -------------------------------------------------------------------------------------------------- training


def _few(task: Task) -> Task:
    """A task whose validation split is small: it is measured often."""
    return replace(task, validation=task.validation.select(range(VALIDATION_ROWS)))


def _trained(
    base, task: Task, seed: int, settings: dict, start: torch.Tensor | None = None, **config
):
    """A prompt trained from a start, with its history as a table."""
    base_model, tokenizer = base
    torch.manual_seed(seed)
    sizes = {
        "num_virtual_tokens": VIRTUAL_TOKENS,
        **({} if start is None else {"prompt_tuning_init": "RANDOM"}),
    }
    model = SoftPromptModel(
        base_model, PromptTuningConfig(**sizes, **config), tokenizer=tokenizer, start=start
    )
    history = train(model, task, seed=seed, progress=False, **settings)
    return model, history.to_pandas()


def _tabled(histories: dict[str, list[pd.DataFrame]], tests: list[dict], name: str) -> None:
    """Write the curves of a part and what its prompts are worth at the end."""
    curves = pd.concat(
        [learning_curves(each).assign(target=key) for key, each in histories.items()]
    )
    curves.to_csv(curves_file(name), index=False, float_format="%.5f")
    pd.DataFrame(tests).to_csv(
        FOLDER / f"transfer_{name}_tests.csv", index=False, float_format="%.5f"
    )
    print(
        pd.DataFrame(tests)
        .groupby(["target", "kind"], sort=False)["accuracy"]
        .agg(["mean", "std"])
        .to_string()
    )


@app.command()
def tiny() -> None:
    """Train two skills of the shop on tiny from words, from chance and from prompts of four skills."""
    base = load_base_model("tiny")
    tasks = {skill: _few(load_task("shop", label_column=skill)) for skill in {*SOURCES, *TARGETS}}
    histories: dict[str, dict[str, list]] = {target: {} for target in TARGETS}
    tests = []
    for seed in TINY_SEEDS:
        sources = {
            skill: _trained(base, tasks[skill], 100 + seed, SOURCE_TRAINING)[0]
            .prompt.detach()
            .clone()
            for skill in SOURCES
        }
        for target in TARGETS:
            text = runs.instruction(tasks[target])
            starts = {
                "text": {"prompt_tuning_init_text": text},
                "words at random": {"prompt_tuning_init": "SAMPLE_VOCAB"},
                "random": {"prompt_tuning_init": "RANDOM"},
                **{f"from {skill}": {"start": prompt} for skill, prompt in sources.items()},
            }
            for kind, start in starts.items():
                model, history = _trained(base, tasks[target], seed, TINY_TRAINING, **start)
                histories[target].setdefault(kind, []).append(history)
                after = evaluate(model, tasks[target], limit=TINY_TEST_ROWS)
                tests.append(
                    {"target": target, "kind": kind, "run": seed, "accuracy": after.accuracy}
                )
        print(f"seed {seed} done", flush=True)
    _tabled(histories, tests, "tiny")


@app.command()
def smollm2() -> None:
    """Train the target on smollm2, few steps, from words, from chance and from the zoo's prompts of the source."""
    base, task = load_base_model("smollm2"), load_task(SMOLLM2_TARGET)
    histories: dict[str, list[pd.DataFrame]] = {}
    tests = []
    for seed in SMOLLM2_SEEDS:
        source = zoo.load(f"{SMOLLM2_SOURCE}-seed{seed}", *base).model.prompt.detach().clone()
        starts = {
            "text": {"prompt_tuning_init_text": TARGET_TEXT},
            "random": {"prompt_tuning_init": "RANDOM"},
            f"from {SMOLLM2_SOURCE}": {"start": source},
        }
        for kind, start in starts.items():
            model, history = _trained(base, _few(task), seed, SMOLLM2_TRAINING, **start)
            histories.setdefault(kind, []).append(history)
            after = evaluate(model, task)
            row = {"target": SMOLLM2_TARGET, "kind": kind, "run": seed, "n": after.n}
            low, high = after.confidence_interval
            row |= {"accuracy": after.accuracy, "low": low, "high": high}
            tests.append(row | {"majority": after.majority_baseline})
            print(tests[-1], flush=True)
    _tabled({SMOLLM2_TARGET: histories}, tests, "smollm2")


# ---------------------------------------------------------------------------------------------------- report


def _similarity_lines() -> list[str]:
    """What the zoo's prompts have in common, seeds beside tasks."""
    table = pd.read_csv(FOLDER / "transfer_similarity.csv")
    task_of = _task_of(table["first"])
    relations = reading.by_relation(table, task_of)
    lines = ["## The zoo's prompts beside each other (smollm2)", ""]
    lines += [
        f"Behaviour on the first {BEHAVIOUR_ROWS} test texts of `{SMOLLM2_SOURCE}`. "
        "Mean over the pairs (lowest to highest). Starts: two seeds of a task share theirs, but for those of random "
        'words or numbers; random: vectors of the prompts\' norms, "same task" says nothing there.',
        "",
    ]
    lines += ["| measure | kind | same task | other task |", "|---|---|---|---|"]
    for (measure, kind), rows in relations.groupby(["measure", "kind"], sort=False):
        cells = rows.set_index("relation")
        shown = [
            f"{cells.loc[name, 'mean']:.3f} ({cells.loc[name, 'lowest']:.2f} to {cells.loc[name, 'highest']:.2f})"
            for name in ("same task", "other task")
        ]
        lines.append(f"| {measure} | {kind} | {' | '.join(shown)} |")
    return [*lines, ""]


def _spot_lines(name: str, title: str) -> list[str]:
    """What each start led to, beside the text start."""
    curves = pd.read_csv(curves_file(name))
    tests = pd.read_csv(FOLDER / f"transfer_{name}_tests.csv")
    lines = [f"## {title}", ""]
    for target, ends in tests.groupby("target", sort=False):
        own = curves[curves["target"] == target]
        held = own[own["measure"] == "validation_loss"]
        first, last = held["step"].min(), held["step"].max()
        lines += [
            f"Target `{target}`, {ends['run'].nunique()} seeds; the last column is the mean difference to the text "
            "start over the seeds, with its standard deviation.",
            "",
            f"| start | validation loss at step {first} | at step {last} | test accuracy (sd) | minus text (sd) |",
            "|---|---|---|---|---|",
        ]
        by_run = ends.pivot(index="run", columns="kind", values="accuracy")
        for kind in dict.fromkeys(ends["kind"]):
            losses = held[held["kind"] == kind].groupby("step")["value"].mean()
            gain = by_run[kind] - by_run["text"]
            gained = "" if kind == "text" else f"{gain.mean():+.3f} ({gain.std():.3f})"
            score = f"{by_run[kind].mean():.3f} ({by_run[kind].std():.3f})"
            lines.append(
                f"| {kind} | {losses[first]:.3f} | {losses[last]:.3f} | {score} | {gained} |"
            )
        lines.append("")
    return lines


@app.command()
def report() -> None:
    """Write transfer.md and transfer.png."""
    settings = (
        f"{platform.machine()}, torch {torch.__version__}, transformers {transformers.__version__}"
    )
    lines = ["# Prompts beside each other, and prompts as starts", ""]
    lines += [
        f"Written by `python benchmarks/transfer.py report` ({settings}). {VIRTUAL_TOKENS} virtual tokens.",
        "",
    ]
    if (FOLDER / "transfer_similarity.csv").exists():
        lines += _similarity_lines()
    lines += [
        'Below, "from X" starts at a prompt that was trained on X. From the target itself, by another seed, is the '
        "yardstick; the untrained starts are what it has to beat. Loss in nats a token, validation on "
        f"{VALIDATION_ROWS} rows; test on 400 rows of smollm2's and {TINY_TEST_ROWS} of tiny's.",
        "",
    ]
    if curves_file("smollm2").exists():
        steps = SMOLLM2_TRAINING["steps"]
        lines += _spot_lines("smollm2", f"SPoT on smollm2: `{SMOLLM2_TARGET}` in {steps} steps")
        figure = transfer_curves(pd.read_csv(curves_file("smollm2")), ["loss", "validation_loss"])
        (FOLDER / "transfer.png").write_bytes(figure.png())
    lines += _spot_lines(
        "tiny", f"SPoT on tiny: skills of the shop language in {TINY_TRAINING['steps']} steps"
    )
    (FOLDER / "transfer.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    app()
