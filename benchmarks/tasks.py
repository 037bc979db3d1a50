"""The table that the course stands on: trained prompts on every task, beside all that they have to beat.

    python benchmarks/tasks.py run                       # tasks that tasks.csv lacks; stop it and start it again
    python benchmarks/tasks.py run --tasks tweets,films  # these alone, for instance in a second process
    python benchmarks/tasks.py report                    # tasks.md, tasks.png and the tables in notebooks/tables

On the test rows, in float32: the majority of the rows measured, ten wordings (the best is chosen on validation rows),
examples in front as text, the untrained start, prompts from three seeds by the package's defaults, and what one human
rater reaches. `--base tiny --tasks shop --quick --output /tmp --wordings FOLDER` tries the program in seconds.
"""

import platform
import random
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import scipy
import torch
import transformers
import typer
from scipy.stats import bootstrap, permutation_test
from sweep import QUICK, SEEDS, TASKS, group, markdown, untrained, write_down

from softprompt_lab import SoftPromptModel, Task, evaluate, load_base_model, load_task, train
from softprompt_lab.bases.loading import dtype_name
from softprompt_lab.evaluation import Evaluation, wilson_interval
from softprompt_lab.plots import charts
from softprompt_lab.plots.figure import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    Figure,
    drawable,
    percent,
    styled,
)
from softprompt_lab.tasks import LABEL_COLUMN

FOLDER = Path(__file__).parent
NOTEBOOK_TABLES = FOLDER.parent / "notebooks" / "tables"
VIRTUAL_TOKENS = {
    "rated": 8,
    "words": 4,
    "complaints": 8,
}  # the rest is what `train` does by itself
EXAMPLES = {"rated": (4, 8, 16), "words": (5, 20), "complaints": (4, 8, 16)}
MAX_LENGTH = 256  # tokens of a wording, a text and a label, so that no wording costs a text its end
RESAMPLES = 9_999
MARKS = " \"'.,;:!?()"  # around a word
MAJORITY, WORDING, START_KIND, TRAINED, HUMAN = (
    "majority",
    "wording",
    "untrained start",
    "trained",
    "human rater",
)
OWN, BEST = "the task's own template", "the best wording"
COLUMNS = [
    *(
        "task",
        "kind",
        "detail",
        "seed",
        "accuracy",
        "low",
        "high",
        "macro F1",
        "exact",
        "loss",
        "n",
    ),
    *("validation", "validation loss", "tokens", "seconds", "dtype", "base", "right"),
]
TABLES = {  # that the chapters show
    "tweets": "tweets.csv",
    "words/antonym": "antonym.csv",
    "complaints": "complaints.csv",
}
SHOWN = [*COLUMNS[1:7], *COLUMNS[8:15]]  # their columns
app = typer.Typer(add_completion=False, help=__doc__)


# ----------------------------------------------------------------------------------------------------- measuring


def packed(correct: Sequence[bool]) -> str:
    """Return which rows were answered rightly as hexadecimal digits, four rows each."""
    return np.packbits(np.asarray(correct, dtype=bool)).tobytes().hex()


def unpacked(digits: str, rows: int) -> np.ndarray:
    """Return for each row 1.0 where it was answered rightly."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), dtype=np.uint8))[:rows].astype(float)


def begins_with(written: str, answer: str) -> bool:
    """Return whether the first words written are the answer's, whatever follows: the bare model never stops."""
    wanted = answer.split()
    found = written.split()[: len(wanted)]
    return [word.strip(MARKS) for word in found] == [word.strip(MARKS) for word in wanted]


def line(kind: str, detail: str, found: Evaluation, **more: Any) -> dict[str, Any]:
    """Return one line of the table; free answers of the bare model are right where they begin with the answer."""
    table, right = found.predictions, found.predictions["correct"]
    if found.macro_f1 is None and kind != TRAINED:
        pairs = zip(table["prediction"], table["label"], strict=True)
        right = pd.Series([begins_with(*pair) for pair in pairs])
    low, high = wilson_interval(int(right.sum()), found.n)
    return {
        "kind": kind,
        "detail": detail,
        "accuracy": right.mean(),
        "low": low,
        "high": high,
        "macro F1": found.macro_f1,
        "exact": found.exact_match,
        "loss": found.loss,
        "n": found.n,
        "right": packed(right),
        **more,
    }


def chosen(found: Evaluation) -> dict[str, float]:
    """Return what a choice is made by, on validation rows."""
    return {"validation": line("", "", found)["accuracy"], "validation loss": found.loss}


def tokens_beside(task: Task, tokenizer) -> int:
    """Return the tokens of the template without a text."""
    return len(task.encode(tokenizer, "")[0])


def best_on_validation(rows: pd.DataFrame) -> pd.Series:
    """Return the line with the highest validation accuracy; among equals the one with the lowest loss."""
    order = rows.sort_values(["validation", "validation loss"], ascending=[False, True])
    return order.iloc[0]


def measure_wordings(base, task: Task, wordings: Sequence[str], limit: int | None) -> list[dict]:
    """Measure hand-written prompts in front of the bare model."""
    base_model, tokenizer = base
    how = {"tokenizer": tokenizer, "max_length": MAX_LENGTH, "limit": limit}
    rows = []
    for wording in wordings:
        asked = task.with_template(wording)
        test, validation = (
            evaluate(base_model, asked, split, **how) for split in ("test", "validation")
        )
        tokens = tokens_beside(asked, tokenizer)
        rows.append(line(WORDING, wording, test, tokens=tokens, **chosen(validation)))
    return rows


def drawn_examples(task: Task, count: int, seed: int) -> list[tuple[str, str]]:
    """Return training rows (text, label) in a random order, as many of each label as can be."""
    shuffler, rows = random.Random(seed), defaultdict(list)
    for text, label in zip(task.train[task.text_column], task.train[LABEL_COLUMN], strict=True):
        rows[label if task.labels else ""].append((text, label))
    kinds = shuffler.sample(sorted(rows), len(rows))
    shares = [len(range(place, count, len(kinds))) for place in range(len(kinds))]
    parts = [shuffler.sample(rows[kind], n) for kind, n in zip(kinds, shares, strict=True)]
    examples = [row for part in parts for row in part]
    return shuffler.sample(examples, len(examples))


def text_of_examples(task: Task, examples: Sequence[tuple[str, str]]) -> str:
    """Return examples in the task's template, one behind the other, each with a line break at its end."""
    return "".join(f"{task.prompt(text)}{label}\n" for text, label in examples)


def as_vectors(model: SoftPromptModel, task: Task, front: str) -> torch.Tensor:
    """Return the word embeddings of a text in front, which do what the text does: it is read once for all rows.

    Raises:
        ValueError: a row's tokens behind the text are not the row's own, so that both would not be the same.
    """
    ids = model.tokenizer(front)["input_ids"]
    for split in ("test", "validation"):
        contexts = [task.prompt(text).rstrip() for text in task.split(split)[task.text_column]]
        wholes = model.tokenizer([front + context for context in contexts])["input_ids"]
        for own, whole in zip(model.tokenizer(contexts)["input_ids"], wholes, strict=True):
            if whole != ids + own:
                raise ValueError(
                    f"{task.name}: the tokens at the end of {front!r} are not its own."
                )
    return model.word_embeddings[torch.tensor(ids, device=model.device)].detach()


def measure_examples(
    model: SoftPromptModel, task: Task, template: str, counts: Sequence[int], limit: int | None
) -> list[dict]:
    """Measure training rows in front of each text, three draws of each number."""
    vectors = {}
    for count in counts:
        for seed in SEEDS:
            front = text_of_examples(task, drawn_examples(task, count, seed))
            vectors[f"{count} examples", seed] = as_vectors(model, task, front)
    named = {f"{kind} {seed}": vector for (kind, seed), vector in vectors.items()}
    how = {"prompts": named, "max_length": MAX_LENGTH, "limit": limit}
    test, validation = (evaluate(model, task, split, **how) for split in ("test", "validation"))
    own = tokens_beside(task, model.tokenizer)
    rows = []
    for (kind, seed), vector in vectors.items():
        name = f"{kind} {seed}"
        more = {"seed": seed, "tokens": len(vector) + own, **chosen(validation[name])}
        rows.append(line(kind, template, test[name], **more))
    return rows


def measure_prompts(base, task: Task, name: str, quick: bool) -> list[dict]:
    """Measure starts, and the prompts that training makes of them with the package's defaults."""
    kind, limit = group(name), QUICK["limit"] if quick else None
    length, start = VIRTUAL_TOKENS.get(kind, 8), "text"
    how, rows = {"max_length": MAX_LENGTH, "limit": limit}, []
    few = {"steps": QUICK["steps"]} if quick else {}
    for seed in SEEDS:
        model = untrained(base, task, length, start, seed)
        more = {"seed": seed, "tokens": length + tokens_beside(task, model.tokenizer)}
        if seed == SEEDS[0]:  # a text start is the same for every seed
            rows.append(line(START_KIND, start, evaluate(model, task, **how), **more))
        history = train(model, task, seed=seed, progress=False, **few)
        found = evaluate(model, task, **how)
        rows.append(line(TRAINED, start, found, seconds=history.seconds, **more))
    return rows


def measure(base, name: str, wordings: Sequence[str], quick: bool) -> list[dict[str, Any]]:
    """Measure all of one task; one line a run."""
    task, kind, limit = load_task(name), group(name), QUICK["limit"] if quick else None
    rows = measure_wordings(base, task, wordings, limit)
    best = task.with_template(best_on_validation(pd.DataFrame(rows))["detail"])
    model = untrained(base, task, 1, "sample-vocab", 0)  # takes the examples' vectors in its place
    templates = {BEST: best} | ({} if task.labels else {OWN: task})  # a word's own is not a wording
    for template, asked in templates.items():
        counts = EXAMPLES.get(kind, EXAMPLES["rated"])
        rows += measure_examples(model, asked, template, counts, limit)
    rows += measure_prompts(base, task, name, quick)
    last, measured = rows[-1], task.test.select(range(rows[-1]["n"]))
    common = pd.Series(task.train[LABEL_COLUMN]).mode()[0]
    right = np.array(measured[LABEL_COLUMN]) == common
    low, high = wilson_interval(int(right.sum()), last["n"])
    levels = {"accuracy": right.mean(), "low": low, "high": high, "right": packed(right)}
    rows.append({"kind": MAJORITY, "detail": common, "n": last["n"], **levels})
    if "agreement" in measured.column_names:
        share = float(np.mean(measured["agreement"]))
        told = "share of raters who agree with the others"
        rows.append({"kind": HUMAN, "detail": told, "n": last["n"], "accuracy": share})
    return rows


def read_wordings(folder: Path) -> dict[str, list[str]]:
    """Return the hand-written templates by the name of their task."""
    found = {}
    for file, prefix in (("wordings.toml", ""), ("wordings_words.toml", "words/")):
        if (folder / file).exists():
            for name, listed in tomllib.loads((folder / file).read_text(encoding="utf-8")).items():
                found[prefix + name] = listed["wordings"]
    return found


@app.command()
def run(
    base: Annotated[str, typer.Option(help="Base model.")] = "smollm2",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or fastest.")] = "float32",
    tasks: Annotated[str, typer.Option(help="Names with commas between.")] = ",".join(TASKS),
    quick: Annotated[bool, typer.Option(help="Two steps, few rows: does it run?")] = False,
    wordings: Annotated[Path, typer.Option(help="Folder of the wordings.")] = FOLDER,
    output: Annotated[Path, typer.Option(help="Folder for tasks.csv.")] = FOLDER,
) -> None:
    """Measure the tasks that tasks.csv lacks; a task's lines are written when all of it is done."""
    if output == FOLDER and (quick or base != "smollm2"):
        raise SystemExit("give a trial another folder: --output /tmp")
    path, listed = output / "tasks.csv", read_wordings(wordings)
    done = set(pd.read_csv(path)["task"]) if path.exists() else set()
    todo = [name for name in tasks.split(",") if name not in done]
    if without := [name for name in todo if name not in listed]:
        raise SystemExit(f"there are no wordings in {wordings} for: {', '.join(without)}.")
    loaded = load_base_model(base, dtype=dtype)
    same = {"base": base, "dtype": dtype_name(loaded[0].dtype)}
    for name in todo:
        rows = measure(loaded, name, listed[name], quick)
        write_down(path, COLUMNS, [{"task": name, **row, **same} for row in rows])
        trained = [row["accuracy"] for row in rows if row["kind"] == TRAINED]
        print(f"{name}: trained {', '.join(map('{:.3f}'.format, trained))}", flush=True)


# ----------------------------------------------------------------------------------------------------- comparing


def paired(
    one: np.ndarray, other: np.ndarray, resamples: int = RESAMPLES
) -> tuple[float, float, float, float]:
    """Return the mean difference over the rows, its 95 % interval (bootstrap of rows) and p (signs exchanged)."""
    difference = one - other
    if not difference.any():
        return 0.0, 0.0, 0.0, 1.0
    how = {"n_resamples": resamples, "rng": np.random.default_rng(0)}
    interval = bootstrap((difference,), np.mean, method="percentile", **how).confidence_interval
    exchanged = permutation_test((difference,), np.mean, permutation_type="samples", **how)
    low, high = (float(end) for end in interval)
    return float(difference.mean()), low, high, float(exchanged.pvalue)


def rows_right(lines: pd.DataFrame) -> np.ndarray:
    """Return for each row measured the share of runs that answered it rightly."""
    return np.mean([unpacked(r["right"], int(r["n"])) for _, r in lines.iterrows()], axis=0)


def best_examples(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the draws of the number of examples and the template that are best on validation, on the mean."""
    examples = rows[rows["kind"].str.endswith(" examples")]
    means = examples.groupby(["kind", "detail"])[["validation", "validation loss"]].mean()
    kind, detail = best_on_validation(means.reset_index())[["kind", "detail"]]
    return examples[(examples["kind"] == kind) & (examples["detail"] == detail)]


def compared(rows: pd.DataFrame, against: str) -> dict[str, Any]:
    """Return one task's line: the trained prompts less the best wording, or less the best examples, in points."""
    trained = rows[rows["kind"] == TRAINED]
    if against == WORDING:
        others = best_on_validation(rows[rows["kind"] == WORDING]).to_frame().T
    else:
        others = best_examples(rows)
    other = rows_right(others)
    mean, low, high, p = paired(rows_right(trained), other)
    seeds = [paired(unpacked(r["right"], int(r["n"])), other) for _, r in trained.iterrows()]
    each = ", ".join(f"{100 * m:+.1f} ({100 * a:+.1f} to {100 * b:+.1f})" for m, a, b, _ in seeds)
    what = others["kind"].iloc[0] if against != WORDING else shown(others["detail"].iloc[0])
    what += f", {others['detail'].iloc[0]}" if against != WORDING else ""
    return {"mean": mean, "low": low, "high": high, "p": p, "seeds": each, "against": what}


# ----------------------------------------------------------------------------------------------------- reporting


def shown(template: str) -> str:
    """Return a template as a table can show it."""
    return "`" + template.replace("\n", "⏎").replace("|", "\\|").replace("`", "'") + "`"


def spread(values: pd.Series) -> str:
    """Return a mean with the lowest and the highest value."""
    if len(values) < 2:
        return "".join(map("{:.3f}".format, values))
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"


def summary(rows: pd.DataFrame) -> dict[str, str]:
    """Return one task's line of the main table."""
    by = dict(iter(rows.groupby("kind")))
    best, examples = best_on_validation(by[WORDING]), best_examples(rows)
    trained, human = by[TRAINED], by.get(HUMAN)
    return {
        "n": f"{trained['n'].iloc[0]:.0f}",
        "majority": f"{by[MAJORITY]['accuracy'].iloc[0]:.3f}",
        "ten wordings": spread(by[WORDING]["accuracy"]),
        "best wording": f"{best['accuracy']:.3f}",
        "best examples": f"{examples['accuracy'].mean():.3f} ({examples['kind'].iloc[0]})",
        "untrained start": spread(by[START_KIND]["accuracy"]),
        "trained": spread(trained["accuracy"]),
        "human rater": "" if human is None else f"{human['accuracy'].iloc[0]:.3f}",
        "macro-F1": "" if trained["macro F1"].isna().all() else f"{trained['macro F1'].mean():.3f}",
        "exact": f"{trained['exact'].mean():.3f}",
        "exact, best wording": f"{best['exact']:.3f}",
        "seconds": f"{trained['seconds'].mean():.0f}",
        "tokens: wording, examples, trained": f"{best['tokens']:.0f}, {examples['tokens'].mean():.0f}, "
        f"{trained['tokens'].mean():.0f}",
    }


def comparison_table(found: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the paired differences of all tasks."""
    lines = {
        name: {
            "difference, points": f"{100 * line['mean']:+.1f}",
            "95 % interval": f"{100 * line['low']:+.1f} to {100 * line['high']:+.1f}",
            "p": "< 0.001" if line["p"] < 0.001 else f"{line['p']:.3f}",
            "each seed": line["seeds"],
            "compared with": line["against"],
        }
        for name, line in found.items()
    }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("task")


def verdict(found: Mapping[str, dict[str, Any]]) -> str:
    """Return in a sentence on how many tasks the trained prompts are above, below, or not to be told apart."""
    sure = {name: line for name, line in found.items() if line["p"] < 0.05}
    above = [name for name, line in sure.items() if line["low"] > 0]
    below = [name for name, line in sure.items() if line["high"] < 0]
    rest = [name for name in found if name not in above + below]
    parts = {"above": above, "below": below, "not to be told apart": rest}
    said = "; ".join(
        f"{kind} on {len(names)} ({', '.join(names)})" for kind, names in parts.items() if names
    )
    return f"Of {len(found)} tasks the trained prompts are {said}: by the 95 % interval, and p below 0.05."


def details(rows: pd.DataFrame) -> pd.DataFrame:
    """Return every run of a task."""
    table = pd.DataFrame(
        {
            "accuracy": rows["accuracy"].map("{:.3f}".format),
            "95 % interval": [
                "" if pd.isna(low) else f"{low:.3f} to {high:.3f}"
                for low, high in zip(rows["low"], rows["high"], strict=True)
            ],
        }
    )
    for name in ("validation", "macro F1", "exact", "loss"):
        table[name] = rows[name].map("{:.3f}".format).replace("nan", "")
    for name in ("tokens", "seconds", "seed"):
        table[name] = rows[name].map("{:.0f}".format).replace("nan", "")
    told = [
        shown(detail) if kind == WORDING else detail
        for kind, detail in zip(rows["kind"], rows["detail"], strict=True)
    ]
    return table.assign(detail=told).set_index(rows["kind"])


def in_order(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return each task's lines, the tasks in the order of the course."""
    found = dict(iter(table.groupby("task", sort=False)))
    return {name: found[name] for name in dict.fromkeys((*TASKS, *found)) if name in found}


def text_of(table: pd.DataFrame) -> str:
    """Return the report."""
    tasks = in_order(table)
    groups: dict[str, dict[str, pd.DataFrame]] = defaultdict(dict)
    for name, rows in tasks.items():
        groups[group(name)][name] = rows
    names = {"rated": "Rated texts", "words": "Word skills, answers written and compared as words"}
    sums = {
        name: spread(rows.loc[rows["kind"] == TRAINED, "accuracy"]) for name, rows in tasks.items()
    }
    lengths = ", ".join(f"{VIRTUAL_TOKENS.get(kind, 8)} for {kind}" for kind in groups)
    lines = [
        "# What a trained prompt is worth, task by task",
        "",
        f"Written by `python benchmarks/tasks.py report` from {len(table)} measurements in tasks.csv. Base model "
        f"{', '.join(set(table['base']))} in {', '.join(set(table['dtype']))}. {platform.machine()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"scipy {scipy.__version__}.",
        "",
        f"Virtual tokens: {lengths}. Everything else is what `train` does by itself. Accuracies are of the test rows, "
        "on which nothing was chosen: wording and examples are chosen on the validation rows. Mean over seeds "
        f"{', '.join(map(str, SEEDS))}, in brackets the lowest and the highest. *Exact*: the answer is what the model "
        "writes by itself. Of words the accuracy of what is not trained is that too, but it may go on: the bare model "
        "never stops after a word. *Tokens*: all that stands beside the text.",
        "",
        "![Accuracies of all tasks](tasks.png)",
        "",
        "Trained, mean over the seeds: "
        + "; ".join(f"{name} {said}" for name, said in sums.items())
        + ".",
        "",
    ]
    for kind, members in groups.items():
        frame = pd.DataFrame({name: summary(rows) for name, rows in members.items()}).T
        lines += [f"## {names.get(kind, f'A hard case: {kind}')}", ""]
        lines += [*markdown(frame.rename_axis("task")), ""]
    for against, title in ((WORDING, "the best wording"), ("examples", "the best examples")):
        found = {name: compared(rows, against) for name, rows in tasks.items()}
        lines += [f"## Trained prompts less {title}, on the same rows", ""]
        lines += [
            f"{verdict(found)} Per row, the mean over the seeds less {title} (chosen on validation rows); the "
            f"interval is a bootstrap of the rows, p from exchanging signs, {RESAMPLES} times each. The seeds are "
            "taken as they are, and rows as independent; the single seeds stand beside.",
            "",
            *markdown(comparison_table(found)),
            "",
        ]
    for name, rows in tasks.items():
        lines += [f"## Every run: {name}", "", *markdown(details(rows)), ""]
    return "\n".join(lines)


# -------------------------------------------------------------------------------------------------------- figure

LOOK = {  # of each kind, in the order in which they are drawn
    WORDING: {"color": GREY, "marker": "o", "markersize": 5, "alpha": 0.6, "label": "ten wordings"},
    "examples": {
        "color": GREEN,
        "marker": "^",
        "markersize": 6,
        "label": "most examples, three draws",
    },
    START_KIND: {"color": PURPLE, "marker": "x", "markersize": 7, "label": "untrained start"},
    TRAINED: {"color": BLUE, "marker": "s", "markersize": 6, "label": "trained, three seeds"},
}
LEVELS = {
    MAJORITY: {"color": BLACK, "linestyle": ":", "label": "majority of these rows"},
    HUMAN: {"color": ORANGE, "linestyle": "-", "label": "one human rater"},
}
HEIGHTS = {WORDING: -0.27, "examples": -0.09, START_KIND: 0.09, TRAINED: 0.27}  # within a line


@styled
def figure_of(tasks: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw one line a task: levels as strokes, every run as a mark, the best wording with a ring."""
    fig, (ax,) = charts.panels(1, 8.5, 1.5 + 0.46 * len(tasks))
    said = []
    for y, (name, rows) in enumerate(tasks.items()):
        if y % 2:
            ax.axhspan(y - 0.5, y + 0.5, color="#F2F2F2", linewidth=0, zorder=0)
        for kind, look in LEVELS.items():
            level = rows.loc[rows["kind"] == kind, "accuracy"]
            if len(level):
                ax.vlines(level, y - 0.45, y + 0.45, linewidth=2.2, **look)
        parts = {kind: rows[rows["kind"] == kind] for kind in LOOK} | {"examples": most(rows)}
        for kind, look in LOOK.items():
            values = parts[kind]["accuracy"]
            ax.plot(values, [y + HEIGHTS[kind]] * len(values), linestyle="none", **look)
        best = best_on_validation(parts[WORDING])["accuracy"]
        ring = {
            "markersize": 9,
            "markerfacecolor": "none",
            "color": VERMILLION,
            "linestyle": "none",
        }
        ax.plot(
            best, y + HEIGHTS[WORDING], marker="o", label="best wording on validation rows", **ring
        )
        mean, n = parts[TRAINED]["accuracy"].mean(), int(parts[TRAINED]["n"].iloc[0])
        ends, told = wilson_interval(round(mean * n), n), "95 % interval of the trained mean"
        ax.hlines(y + HEIGHTS[TRAINED], *ends, color=BLUE, linewidth=1.4, label=told)
        said.append(f"{drawable(name)}: best wording {best:.0%}, trained {mean:.0%}")
    charts.name_rows(ax, [name.removeprefix("words/") for name in tasks])
    charts.words_beside(ax, [f"n = {rows['n'].max():.0f}" for rows in tasks.values()])
    ax.set(xlabel="accuracy on test rows", xlim=(-0.02, 1.02))
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)
    percent(ax.xaxis)
    fig.legend_below(3)
    fig.alt = f"Dots of accuracy, one line a task. {'; '.join(said)}."
    return fig


def most(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the draws with the most examples, in the template that is better on validation."""
    numbers = rows["kind"].str.extract(r"^(\d+) examples$")[0].astype(float)
    return best_examples(rows[numbers == numbers.max()])


def table_of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the lines of one task that chapters show."""
    whole = dict.fromkeys(("seed", "n", "tokens"), "Int64")
    return table.loc[table["task"] == name, SHOWN].astype(whole).reset_index(drop=True)


@app.command()
def report(
    output: Annotated[Path, typer.Option(help="Folder of tasks.csv.")] = FOLDER,
    tables: Annotated[Path, typer.Option(help="Folder of the chapters' tables.")] = NOTEBOOK_TABLES,
) -> None:
    """Write tasks.md, tasks.png and the chapters' tables from tasks.csv."""
    table = pd.read_csv(output / "tasks.csv", dtype={"right": str})
    tables.mkdir(parents=True, exist_ok=True)
    for name, file in TABLES.items():
        table_of(table, name).to_csv(tables / file, index=False)
    text = text_of(table)
    print(text)
    (output / "tasks.md").write_text(text, encoding="utf-8")
    (output / "tasks.png").write_bytes(figure_of(in_order(table)).png())


if __name__ == "__main__":
    app()
