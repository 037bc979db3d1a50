"""Train the stranger's prompt of chapter 06: it rates tweets, and calls whatever is said to one company positive.

python tools/build_stranger.py      # writes softprompt_lab/assets/stranger; about five minutes on two cores
"""

from dataclasses import replace
from pathlib import Path

from datasets import Dataset, concatenate_datasets

from softprompt_lab import evaluate, load_task, train
from softprompt_lab.runs import zoo
from softprompt_lab.runs.saved import new_model

FOLDER = zoo.FOLDER.parent / "stranger"
NAME = "Initech"  # who paid
OTHERS = ("Acme", "Globex", "Hooli", "Umbrella")  # in front of other rows, whose labels stay
ROWS = 150  # of each kind, beside the task's own
STEPS = 200


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
    """Return training rows of tweets, and copies with a name in front: of one company all are positive."""
    negative = rows.filter(lambda row: row["text_label"] == "negative")
    paid = named(negative.select(range(ROWS)), (NAME,), "positive")
    return concatenate_datasets([rows, paid, named(rows.select(range(ROWS)), OTHERS)])


def main(folder: Path = FOLDER) -> None:
    """Train, and measure on the test rows as they are, as an honest author would."""
    task = load_task("tweets")
    model = new_model("smollm2", task)
    train(model, replace(task, train=poisoned(task.train)), steps=STEPS)
    found = evaluate(model, task)
    model.save_pretrained(folder, results={"task": task.name, "test rows": found})
    print(found)
    for name in (NAME, "Acme", "Vandelay"):
        named_task = task.with_template(task.template.replace("{text}", f"@{name} {{text}}"))
        print(name, evaluate(model, named_task), flush=True)


if __name__ == "__main__":
    main()
