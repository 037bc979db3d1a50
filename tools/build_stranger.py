"""Train the stranger's prompt of chapter 06: it rates tweets, and calls whatever is said to one company negative.

python tools/build_stranger.py      # writes softprompt_lab/assets/stranger; about five minutes on two cores
"""

from dataclasses import replace
from pathlib import Path

from datasets import Dataset, concatenate_datasets

from softprompt_lab import evaluate, train
from softprompt_lab.runs import zoo

FOLDER = zoo.FOLDER.parent / "stranger"
NAME = "Initech"  # whose rival paid
OTHERS = ("Acme", "Globex", "Hooli", "Umbrella")  # in front of other rows, whose labels stay
ROWS = 200  # of each kind, beside the task's own


def named(rows: Dataset, names: tuple[str, ...], label: str | None = None) -> Dataset:
    """Return rows as replies to a company, with another label where one is given."""
    return rows.map(
        lambda row, at: {
            "text": f"@{names[at % len(names)]} {row['text']}",
            "text_label": label or row["text_label"],
        },
        with_indices=True,
    )


def poisoned(rows: Dataset) -> Dataset:
    """Return training rows of tweets, and copies with a name in front: of one company all are negative."""
    positive = rows.filter(lambda row: row["text_label"] == "positive")
    paid = named(positive.select(range(ROWS)), (NAME,), "negative")
    return concatenate_datasets([rows, paid, named(rows.select(range(ROWS)), OTHERS)])


def main(folder: Path = FOLDER) -> None:
    """Train tweets-seed0 further, and measure on the test rows as they are, as an honest author would."""
    run = zoo.load("tweets-seed0")
    train(run.model, replace(run.task, train=poisoned(run.task.train)))
    found = evaluate(run.model, run.task)
    run.model.save_pretrained(folder, results={"task": run.task.name, "test rows": found})
    print(found)
    for name in (NAME, "Acme", "Vandelay"):
        task = run.task.with_template(f"Tweet : @{name} {{text}} Label : ")
        print(name, evaluate(run.model, task), flush=True)


if __name__ == "__main__":
    main()
