"""Which learning rate, steps, length and start serve every task? One sweep, measured on validation rows alone.

    python benchmarks/sweep.py run                # what is not in sweep.csv yet; stop it and start it again at will
    python benchmarks/sweep.py run --part 1/2     # half of it, while another process does --part 2/2
    python benchmarks/sweep.py unseen             # files that the sweep has not seen: the default beside tuning by hand
    python benchmarks/sweep.py report             # sweep.md from what is there

A star around a centre: each arm differs from it in one setting. Every task and arm is trained from three seeds. The
centre of all tasks comes first. `--base tiny --tasks shop --quick --output /tmp` tries the program in seconds.
"""

import platform
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import pandas as pd
import torch
import transformers
import typer

from softprompt_lab import (
    LabError,
    PromptTuningConfig,
    SoftPromptModel,
    Task,
    evaluate,
    load_base_model,
    load_task,
    train,
)
from softprompt_lab.bases.loading import dtype_name
from softprompt_lab.data.loading import ASSETS

FOLDER = Path(__file__).parent
RATED = ("tweets", "reviews", "films", "editorials")
WORDS = tuple(f"words/{path.stem}" for path in sorted((ASSETS / "words").glob("*.csv")))
TASKS = (*RATED, *WORDS, "complaints")
SEEDS = (0, 1, 2)
QUICK = {"steps": 2, "limit": 16}  # of --quick, which tries the program
app = typer.Typer(add_completion=False, help=__doc__)


class Arm(NamedTuple):
    """The settings of a run; the defaults are the centre of the star."""

    rate: float = 0.03
    steps: int = 100
    P: int = 8
    start: str = "text"
    batch: int = 8


CENTRE = Arm()
ARMS = (
    CENTRE,
    *(Arm(rate=rate) for rate in (0.01, 0.1)),
    Arm(start="sample-vocab"),
    *(Arm(P=length) for length in (4, 20)),
    *(Arm(steps=steps) for steps in (50, 200)),
)
KEY = ["task", *Arm._fields, "seed"]
MEASURED = ["accuracy", "exact", "loss", "n", "majority", "seconds", "dtype", "base", "stopped"]


def group(task: str) -> str:
    """Return the group that a task belongs to; each group weighs as much as another."""
    return "words" if task.startswith("words/") else "rated" if task in RATED else task


def untrained(base, task: Task, length: int, start: str, seed: int) -> SoftPromptModel:
    """Return a loaded base model with a new prompt in front; a text start is the task's instruction."""
    base_model, tokenizer = base
    text = task.instruction if start == "text" else None
    config = PromptTuningConfig(
        num_virtual_tokens=length,
        prompt_tuning_init=start.upper().replace("-", "_"),
        prompt_tuning_init_text=text,
    )
    torch.manual_seed(seed)
    return SoftPromptModel(base_model, config, tokenizer=tokenizer)


# ------------------------------------------------------------------------------------------------------- running


def measure(
    base, task: Task, arm: Arm, seed: int, quick: bool, split: str = "validation"
) -> dict[str, Any]:
    """Train one prompt and measure it; a loss that is not finite is written down as such."""
    began, steps = time.perf_counter(), QUICK["steps"] if quick else arm.steps
    try:
        model = untrained(base, task, arm.P, arm.start, seed)
        settings = {"steps": steps, "learning_rate": arm.rate, "batch_size": arm.batch}
        train(model, task, **settings, seed=seed, snapshot_every=steps, progress=False)
        found = evaluate(model, task, split, limit=QUICK["limit"] if quick else None)
    except LabError as error:
        return {"seconds": time.perf_counter() - began, "stopped": str(error).partition(". ")[0]}
    return {
        "accuracy": found.accuracy,
        "exact": found.exact_match,
        "loss": found.loss,
        "n": found.n,
        "majority": found.majority_baseline,
        "seconds": time.perf_counter() - began,
        "stopped": "",
    }


def write_down(path: Path, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    """Append rows to a table in one write, so that several processes may share it."""
    table = pd.DataFrame(rows, columns=[*columns])
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(",".join(columns) + "\n")
    except FileExistsError:
        pass
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(
            table.to_csv(index=False, header=False, float_format="%.5g", lineterminator="\n")
        )


def done_already(path: Path, **same: str) -> set[tuple]:
    """Return the keys of the runs in a table; what was measured in another way is not gone on with."""
    if not path.exists():
        return set()
    table = pd.read_csv(path, keep_default_na=False)
    for column, value in same.items():
        if others := set(table[column]) - {value}:
            raise SystemExit(f"{path} has runs with {column} {', '.join(others)}, not {value}.")
    return set(table[KEY].itertuples(index=False, name=None))


def plan(tasks: Sequence[str], part: str, quick: bool) -> Iterator[tuple[str, Arm, int]]:
    """Yield the runs of one part, the centre of all tasks first."""
    number, parts = map(int, part.split("/"))
    seeds = SEEDS[:1] if quick else SEEDS
    runs = [(name, arm, seed) for arm in ARMS for seed in seeds for name in tasks]
    yield from runs[number - 1 :: parts]


@app.command()
def run(
    base: Annotated[str, typer.Option(help="Base model.")] = "smollm2",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or fastest.")] = "fastest",
    tasks: Annotated[str, typer.Option(help="Names with commas between.")] = ",".join(TASKS),
    part: Annotated[str, typer.Option(help="k/n: the k-th of n shares.")] = "1/1",
    quick: Annotated[bool, typer.Option(help="Two steps, few rows: does it run?")] = False,
    output: Annotated[Path, typer.Option(help="Folder for sweep.csv.")] = FOLDER,
) -> None:
    """Train and measure what is not in sweep.csv yet, one line a run."""
    if output == FOLDER and (quick or base != "smollm2"):
        raise SystemExit("give a trial another folder: --output /tmp")
    loaded, path = load_base_model(base, dtype=dtype), output / "sweep.csv"
    same = {"base": base, "dtype": dtype_name(loaded[0].dtype)}
    done, names = done_already(path, **same), tasks.split(",")
    loaded_tasks = {name: load_task(name) for name in names}
    todo = [run for run in plan(names, part, quick) if (run[0], *run[1], run[2]) not in done]
    for number, (name, arm, seed) in enumerate(todo, 1):
        found = measure(loaded, loaded_tasks[name], arm, seed, quick)
        row = {"task": name, **arm._asdict(), "seed": seed, **same, **found}
        write_down(path, [*KEY, *MEASURED], [row])
        figures = found["stopped"] or f"accuracy {found['accuracy']:.3f}, loss {found['loss']:.3f}"
        told = f"{number} of {len(todo)}: {name}, {label(arm)}, seed {seed}"
        print(f"{told}: {figures} ({found['seconds']:.0f} s)", flush=True)


# --------------------------------------------------------------------------------------------------- unseen files

TUNING = [Arm(*of) for of in product((0.01, 0.03, 0.1), (100, 200), (CENTRE.P, 20))]
UNSEEN = ("topic", "tone")  # labellings of the 600 complaints that the sweep has not seen


def files(folder: Path) -> dict[str, Task]:
    """Write CSV files as a user would have them, and return their tasks as the command line loads them."""
    parts = [pd.read_csv(path) for path in sorted((ASSETS / "complaints").glob("*.csv"))]
    rows, tasks = pd.concat(parts), {}
    for labelling in UNSEEN:
        path = folder / f"{labelling}.csv"
        table = rows[["Tweet text", labelling]].set_axis(["text", "label"], axis=1)
        table.to_csv(path, index=False)
        tasks[labelling] = load_task(path)
    return tasks


@app.command()
def unseen(
    base: Annotated[str, typer.Option(help="Base model.")] = "smollm2",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or fastest.")] = "fastest",
    quick: Annotated[bool, typer.Option(help="Two steps, few rows: does it run?")] = False,
    output: Annotated[Path, typer.Option(help="Folder for sweep_unseen.csv.")] = FOLDER,
) -> None:
    """Measure the default on files that are no task here, beside the arm that is best on their validation rows."""
    loaded, path, rows = load_base_model(base, dtype=dtype), output / "sweep_unseen.csv", []
    with TemporaryDirectory() as folder:
        tasks = files(Path(folder))
    for name, task in tasks.items():
        tuned = {
            arm: measure(loaded, task, arm, SEEDS[0], quick)
            for arm in TUNING[: 2 if quick else None]
        }
        best = max(
            tuned, key=lambda arm: (tuned[arm].get("accuracy", 0), -tuned[arm].get("loss", 0))
        )
        for kind, arm in (("default", CENTRE), ("tuned by hand", best)):
            for seed in SEEDS:
                found = measure(loaded, task, arm, seed, quick, "test")
                rows.append({"file": name, "kind": kind, **arm._asdict(), "seed": seed, **found})
                print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(path, index=False, float_format="%.5g")


def unseen_lines(table: pd.DataFrame) -> list[str]:
    """Return what the default reaches on test rows of the files, beside tuning by hand."""
    means = table.pivot_table("accuracy", "file", "kind", sort=False)
    found = table.assign(arm=table[[*Arm._fields]].apply(lambda row: label(Arm(*row)), axis=1))
    arms = found[found["kind"] == "tuned by hand"].groupby("file")["arm"].first()
    majority = table.groupby("file")["majority"].first()
    behind = 100 * (means["tuned by hand"] - means["default"])
    shown = means.assign(majority=majority, **{"tuned arm": arms, "default behind, points": behind})
    seeds, n = table["seed"].nunique(), table["n"].min()
    return [
        "## Files that the sweep has not seen",
        "",
        f"The 600 complaints with labels that the sweep has not seen, as a user's CSV file. Tuned by hand: the best of "
        f"{len(TUNING)} arms (rate x steps x length) on the file's validation rows. Accuracy on {n:.0f} test rows, "
        f"mean over {seeds} seeds.",
        "",
        *markdown(shown),
        "",
    ]


# ------------------------------------------------------------------------------------------------------ reporting


def label(arm: Arm) -> str:
    """Return in what an arm differs from the centre."""
    parts = zip(Arm._fields, arm, CENTRE, strict=True)
    return ", ".join(f"{name} {value}" for name, value, own in parts if value != own) or "centre"


def means(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return mean accuracy over the seeds (a run that stopped counts 0) and mean loss (of those that ended).

    One line a task, one column an arm; tasks that lack an arm have a gap there.
    """
    order = {label(arm): None for arm in ARMS}
    arms = table[[*Arm._fields]].apply(lambda row: label(Arm(*row)), axis=1)
    table = table.assign(arm=arms, accuracy=table["accuracy"].fillna(0))
    found = [table.pivot_table(values, "task", "arm", "mean") for values in ("accuracy", "loss")]
    names = [name for name in order if name in set(arms)]
    tasks = sorted(set(table["task"]), key=lambda name: ([*TASKS, name].index(name), name))
    return tuple(frame.reindex(index=tasks, columns=names) for frame in found)


def by_group(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Return the mean accuracy of each group of tasks, and the mean of the groups; one line an arm."""
    groups = accuracy.groupby(group, sort=False).mean().T
    return groups.assign(**{"mean of groups": groups.mean(axis=1)})


def markdown(table: pd.DataFrame, form: str = "{:.3f}") -> list[str]:
    """Return the lines of a table; a gap stays empty."""
    head = [table.index.name or "", *map(str, table.columns)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, row in table.iterrows():
        cells = ["" if pd.isna(v) else v if isinstance(v, str) else form.format(v) for v in row]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def beside_the_best(accuracy: pd.DataFrame, majority: pd.Series) -> pd.DataFrame:
    """Return for each task the centre's accuracy, the best arm's, and how far the one is behind the other."""
    best = accuracy.fillna(-1).idxmax(axis=1)
    most = accuracy.max(axis=1)
    return pd.DataFrame(
        {
            "majority": majority.reindex(accuracy.index),
            "centre": accuracy["centre"],
            "best arm": best,
            "its accuracy": most,
            "centre behind it, points": 100 * (most - accuracy["centre"]),
        }
    ).rename_axis("task")


def text_of(table: pd.DataFrame) -> str:
    """Return the report."""
    accuracy, loss = means(table)
    groups = by_group(accuracy)
    ranks = accuracy.rank(axis=1, ascending=False, method="min")
    best, score = groups["mean of groups"].idxmax(), groups["mean of groups"]
    stopped = table[table["stopped"].notna()]
    seeds = sorted(set(table["seed"]))
    missing = len(accuracy) * len(ARMS) * len(seeds) - len(table)
    behind = beside_the_best(accuracy, table.groupby("task")["majority"].first())
    last = behind["centre behind it, points"]
    sizes = ", ".join(f"{task} {n:.0f}" for task, n in table.groupby("task")["n"].first().items())
    return "\n".join(
        [
            "# One sweep over all tasks, on validation rows",
            "",
            f"Written by `python benchmarks/sweep.py report` from {len(table)} runs in sweep.csv. Base model "
            f"{', '.join(set(table['base']))} in {', '.join(set(table['dtype']))}; seeds {', '.join(map(str, seeds))}; "
            f"{table['seconds'].sum() / 3600:.1f} hours of one process."
            + (f" **Not complete: {missing} runs are missing.**" if missing else ""),
            f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
            f"transformers {transformers.__version__}.",
            "",
            f"The centre is {', '.join(f'{name} {value}' for name, value in CENTRE._asdict().items())}; the rate is "
            "AdamW's first and falls to 0; a text start is the task's instruction. An arm differs from the centre in "
            "what its name says. Nothing was measured on test rows.",
            "",
            f"Rows measured: {sizes}.",
            "",
            "## The arms",
            "",
            f"Best on the mean over the groups: **{best}** ({score[best]:.3f}; centre {score['centre']:.3f}). "
            "Rated texts, words and complaints weigh one each. Mean rank: 1 is the best arm of a task.",
            "",
            *markdown(groups.assign(**{"mean rank": ranks.mean()}).rename_axis("arm")),
            "",
            "Best arm of each group: "
            + "; ".join(f"{name} {groups[name].idxmax()}" for name in groups.columns[:-1])
            + ".",
            "",
            "## The centre beside each task's best arm",
            "",
            f"The centre is {last.mean():.1f} points behind on average, {last.max():.1f} at most ({last.idxmax()}). "
            f"The best of {accuracy.shape[1]} arms is partly luck, so the distance is an upper limit.",
            "",
            *markdown(behind),
            "",
            "## Validation accuracy, mean over the seeds",
            "",
            *markdown(accuracy),
            "",
            f"{len(stopped)} runs stopped on a loss that is not finite and count as 0"
            + "".join(f"; {r.task} seed {r.seed}: {r.stopped}" for r in stopped.itertuples())
            + ".",
            "",
            "## Rank of each arm",
            "",
            *markdown(ranks, "{:.0f}"),
            "",
            "## Validation loss, nats a token, mean over the seeds that ended",
            "",
            *markdown(loss),
            "",
        ]
    )


@app.command()
def report(
    output: Annotated[Path, typer.Option(help="Folder of sweep.csv.")] = FOLDER,
) -> None:
    """Write sweep.md from sweep.csv."""
    text = text_of(pd.read_csv(output / "sweep.csv"))
    if (output / "sweep_unseen.csv").exists():
        text += "\n".join(unseen_lines(pd.read_csv(output / "sweep_unseen.csv")))
    print(text)
    (output / "sweep.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    app()
