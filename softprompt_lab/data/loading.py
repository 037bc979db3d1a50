"""Tasks by name: shipped with the package, fetched, from the hub, or from a file of the user's own."""

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from datasets import Dataset, load_dataset

from ..errors import LabError
from ..saving import user_path
from ..tasks import LABEL_COLUMN, SPLITS, Task
from .files import read_labelled, split_rows
from .rated import KINDS, load_rated

ASSETS = Path(__file__).parents[1] / "assets"
FILE_ENDINGS = (".csv", ".jsonl", ".json")
TEXT_COLUMN = "Tweet text"  # of every task that has a name, as in RAFT
RAFT = "twitter_complaints"
LABELLINGS = {  # of each shipped task, the default first: what `label_column` chooses from
    "complaints": ("text_label", "topic", "tone"),
    "shop": ("complaint", "topic", "tone", "urgent", "loyal", "mismatch"),
}
SHOP_ROWS = {"train": 200, "validation": 150, "test": 400}  # of the rows in the file


def load_task(
    name_or_path: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    template: str | None = None,
    seed: int = 0,
    answers: bool = False,
    cut: float | None = None,
    labels: Sequence[str] | None = None,
) -> Task:
    """Load labelled texts.

    Args:
        name_or_path: "complaints", "shop" or "words/..." (shipped), "tweets", "reviews", "films" or "editorials"
            (fetched on first use), "twitter_complaints" (RAFT, needs a network), or a file of your own: CSV, JSONL, or
            JSON with one array of objects. Rows that repeat a text are left out with a warning; labels that look alike
            get one too.
        text_column, label_column: the columns of your own file, by default "text" and "label". For a task that has
            a name `label_column` chooses one of its labellings.
        template: holds `{text}` once; for a file by default "{text column} : {text} Label : ", with "Answer" in place
            of "Label" where answers are free.
        seed: of the split of your own file (60 / 15 / 25 %, stratified) or of fetched texts; for "shop" another seed
            takes other training and validation rows.
        answers: whether your file's labels are free answers, one for each text, that the model is to write.
        cut, labels: of fetched texts, `rated.load_rated`'s: how far from 0 they are rated at least (by default 1), and
            the names of two labels, or of three with one in between.

    Raises:
        LabError: an unknown name, no network, or a file with something wrong in it; the message names row and column.
        ValueError: an argument that this task does not take, or a value that cannot be.

    Example:
        >>> from softprompt_lab import load_task
        >>> task = load_task("complaints")
        >>> task.labels, len(task.train)
        (('complaint', 'no complaint'), 50)
    """
    name, path, known = str(name_or_path), user_path(name_or_path), loaders()
    options = {"cut": cut, "labels": labels}
    options = {key: value for key, value in options.items() if value is not None}
    if options and name not in KINDS:
        raise ValueError(f"{name} takes no {next(iter(options))}=; it is for: {', '.join(KINDS)}.")
    if path.suffix.lower() in FILE_ENDINGS:
        columns = (text_column or "text", label_column or "label")
        splits = split_rows(read_labelled(path, *columns, answers), seed, str(path), answers)
        task = _task(path.stem, splits, columns[0], answers)
    elif name not in known:
        raise LabError(
            f"there is no task {name!r}; choose one of: {', '.join(known)}, or give a .csv or .jsonl file."
        )
    elif text_column is not None or (answers and known[name] is not _load_words):
        raise ValueError(f"{name} has its own columns; text_column= and answers= are for files.")
    else:
        task = known[name](name, _labelling(name, label_column), seed, **options)
    return task if template is None else task.with_template(template)


def loaders() -> dict[str, Callable[..., Task]]:
    """Return what loads each task that has a name, from the name, a labelling and a seed."""
    words = [f"words/{path.stem}" for path in sorted((ASSETS / "words").glob("*.csv"))]
    return (
        dict.fromkeys(LABELLINGS, _load_shipped)
        | {RAFT: _load_raft}
        | dict.fromkeys(KINDS, load_rated)
        | dict.fromkeys(words, _load_words)
    )


def _task(
    name: str, splits: dict[str, pd.DataFrame], text_column: str, answers: bool = False
) -> Task:
    """Return the task of three tables; its labels are those of the training rows, unless they are free `answers`."""
    datasets = [Dataset.from_pandas(splits[split], preserve_index=False) for split in SPLITS]
    labels = () if answers else tuple(sorted(set(splits["train"][LABEL_COLUMN])))
    template = f"{text_column} : {{text}} {'Answer' if answers else 'Label'} : "
    return Task(name, *datasets, text_column, labels, template)


def _labelling(name: str, labelling: str | None) -> str:
    """Return the labelling that was asked for, or the first that a task has."""
    labellings = LABELLINGS.get(name, (LABEL_COLUMN,))
    labelling = labelling or labellings[0]
    if labelling not in labellings:
        raise LabError(
            f"{name} has no labelling {labelling!r}; choose one of: {', '.join(labellings)}."
        )
    return labelling


def _load_shipped(name: str, labelling: str, seed: int) -> Task:
    """Return a shipped task with one of its labellings, without the others."""
    splits = {}
    for split in SPLITS:
        path = ASSETS / name / f"{split}.csv"
        table = pd.read_csv(path, keep_default_na=False, encoding="utf-8")
        if name == "shop":  # the chapters' numbers are of the first rows
            rows = SHOP_ROWS[split]
            table = table.sample(rows, random_state=seed) if seed else table.head(rows)
        others = [column for column in LABELLINGS[name] if column != LABEL_COLUMN]
        splits[split] = table.assign(**{LABEL_COLUMN: table[labelling]}).drop(columns=others)
    return _task(name if labelling == LABEL_COLUMN else f"{name}/{labelling}", splits, TEXT_COLUMN)


def _load_words(name: str, labelling: str, seed: int) -> Task:
    """Return a task whose answers are words, without a list of labels."""
    table = pd.read_csv(ASSETS / f"{name}.csv", keep_default_na=False, encoding="utf-8")
    rows = dict(iter(table.rename(columns={"answer": labelling}).groupby("split")))
    datasets = [
        Dataset.from_pandas(rows[split].drop(columns="split"), preserve_index=False)
        for split in SPLITS
    ]
    about = tomllib.loads((ASSETS / "words" / "words.toml").read_text(encoding="utf-8"))
    instruction = about[name.removeprefix("words/")]["instruction"]
    return Task(name, *datasets, "word", (), "{text} -> ", instruction)


def _load_raft(name: str, labelling: str, seed: int) -> Task:
    """Return RAFT's 50 labelled tweets (Alex et al. 2021) in three splits: the labels of its test rows are hidden."""
    source = {"data_dir": RAFT, "revision": "refs/convert/parquet", "split": "train"}
    try:
        rows = load_dataset("ought/raft", **source)
    except Exception as error:  # datasets raises many kinds where there is no network
        raise LabError(
            f'{RAFT} could not be fetched ({error}). It needs a network; "complaints" has the same form and needs none.'
        ) from error
    names = rows.features["Label"].names
    table = rows.to_pandas()
    table[LABEL_COLUMN] = [names[label] for label in table["Label"]]
    return _task(RAFT, split_rows(table, seed, RAFT), TEXT_COLUMN)
