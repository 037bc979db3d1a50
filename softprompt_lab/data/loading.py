"""Tasks by name: shipped with the package, from the hub, or from a file of the user's own."""

from pathlib import Path

import pandas as pd
from datasets import Dataset, load_dataset

from ..errors import LabError
from ..saving import user_path
from ..tasks import LABEL_COLUMN, SPLITS, Task
from .files import read_labelled, split_rows

ASSETS = Path(__file__).parents[1] / "assets"
FILE_ENDINGS = (".csv", ".jsonl", ".json")
TEXT_COLUMN = "Tweet text"  # of every task that has a name, as in RAFT
RAFT = "twitter_complaints"
LABELLINGS = {  # of each task that has a name, the default first: what `label_column` chooses from
    "complaints": ("text_label", "topic", "tone"),
    "shop": ("complaint", "topic", "tone", "urgent", "loyal", "mismatch"),
    RAFT: ("text_label",),
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
) -> Task:
    """Load labelled texts.

    Args:
        name_or_path: "complaints" or "shop" (shipped), "twitter_complaints" (RAFT, needs a network), or a file of your
            own: CSV, JSONL, or JSON with one array of objects. Rows that repeat a text are left out with a warning;
            labels that look alike get one too.
        text_column, label_column: the columns of your own file, by default "text" and "label". For a task that has
            a name `label_column` chooses one of its `LABELLINGS`.
        template: holds `{text}` once; by default "{text column} : {text} Label : ".
        seed: of the split of your own file (60 / 15 / 25 %, stratified); for "shop" another seed takes other training
            and validation rows.
        answers: whether your file's labels are free answers, one for each text, that the model is to write.

    Raises:
        LabError: an unknown name, no network, or a file with something wrong in it; the message names row and column.

    Example:
        >>> from softprompt_lab import load_task
        >>> task = load_task("complaints")
        >>> task.labels, len(task.train)
        (('complaint', 'no complaint'), 50)
    """
    name, path = str(name_or_path), user_path(name_or_path)
    if path.suffix.lower() in FILE_ENDINGS:
        columns = (text_column or "text", label_column or "label")
        splits = split_rows(read_labelled(path, *columns, answers), seed, str(path), answers)
        task = _task(path.stem, splits, columns[0], answers)
    elif name not in LABELLINGS:
        raise LabError(
            f"there is no task {name!r}; choose one of: {', '.join(LABELLINGS)}, or give a .csv or .jsonl file."
        )
    elif text_column is not None or answers:
        raise ValueError(f"{name} has its own columns; text_column= and answers= are for files.")
    else:
        task = _load_named(name, label_column or LABELLINGS[name][0], seed)
    return task if template is None else task.with_template(template)


def _task(
    name: str, splits: dict[str, pd.DataFrame], text_column: str, answers: bool = False
) -> Task:
    """Return the task of three tables; its labels are those of the training rows, unless they are free `answers`."""
    datasets = [Dataset.from_pandas(splits[split], preserve_index=False) for split in SPLITS]
    labels = () if answers else tuple(sorted(set(splits["train"][LABEL_COLUMN])))
    template = f"{text_column} : {{text}} {'Answer' if answers else 'Label'} : "
    return Task(name, *datasets, text_column, labels, template)


def _load_named(name: str, labelling: str, seed: int) -> Task:
    """Return a task that has a name with one of its labellings as `text_label`, without the others."""
    if labelling not in LABELLINGS[name]:
        known = ", ".join(LABELLINGS[name])
        raise LabError(f"{name} has no labelling {labelling!r}; choose one of: {known}.")
    if name == RAFT:
        return _load_raft(seed)
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


def _load_raft(seed: int) -> Task:
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
