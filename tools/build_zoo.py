"""Train the zoo: prompts for smollm2 on the three labellings of `complaints`, written to softprompt_lab/assets/zoo.

python tools/build_zoo.py pilot      # choose the settings on the validation split; writes pilot.csv
python tools/build_zoo.py train      # train and measure what is not there yet; about 40 minutes on one core
python tools/build_zoo.py table      # write README.md from the folders
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import typer

from softprompt_lab import evaluate, load_task, train
from softprompt_lab.evaluation import Evaluation
from softprompt_lab.reading import OntoWords, TowardsText
from softprompt_lab.runs import saved as runs
from softprompt_lab.runs import zoo
from softprompt_lab.tasks import Task

ZOO = zoo.FOLDER
BASE, VIRTUAL_TOKENS = "smollm2", 8
START_TEXTS = {  # of exactly 8 tokens each, so that every start is all of its text
    "text_label": "Is this a complaint or no complaint?",
    "topic": "What is the topic of this message?",
    "tone": "What is the tone of this message?",
}
CANDIDATES = (  # compared once, on the validation split of one run
    {"steps": 100, "learning_rate": 0.03},
    {"steps": 100, "learning_rate": 0.1},
)
SETTINGS = {
    "steps": 100,
    "learning_rate": 0.1,
}  # of the two the lower loss and the higher accuracy there
WAYWARD_TEXT = "Please write a poem about the sea."  # of 8 tokens too, and of no use to the task
CARD = Path(__file__).with_name("zoo_card.md")
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Entry:
    """One prompt of the zoo before it is trained."""

    name: str
    label_column: str
    start: str
    seed: int
    more: dict = field(default_factory=dict)  # arguments of `train`
    told: dict = field(default_factory=dict)  # what task.json says besides


ENTRIES = (
    Entry("complaint-seed0", "text_label", "text", 0),
    Entry("tone-seed0", "tone", "text", 0),
    Entry("topic-seed0", "topic", "text", 0),
    Entry("complaint-seed1", "text_label", "text", 1),
    Entry("tone-seed1", "tone", "text", 1),
    Entry("topic-seed1", "topic", "text", 1),
    Entry("complaint-vocab", "text_label", "sample-vocab", 0),
    Entry("complaint-seed2", "text_label", "text", 2),
    # As complaint-seed0, which is the free prompt (gamma 0), but made of words or drawn towards a text.
    Entry(
        "complaint-words",
        "text_label",
        "text",
        0,
        {"project": OntoWords(), "evaluate_every": 25, "patience": 4},
        {"words": True},
    ),
    *(
        Entry(
            f"complaint-wayward-{gamma:g}",
            "text_label",
            "text",
            0,
            {"penalty": TowardsText(WAYWARD_TEXT, gamma), "snapshot_every": SETTINGS["steps"]},
            {"towards": WAYWARD_TEXT, "gamma": gamma},
        )
        for gamma in (0.0003, 0.003, 0.03, 0.3)
    ),
)


def untrained(entry: Entry, task: Task):
    """A model with the entry's start in front."""
    text = START_TEXTS[entry.label_column] if entry.start == "text" else None
    options = {
        "virtual_tokens": VIRTUAL_TOKENS,
        "start": entry.start,
        "start_text": text,
        "seed": entry.seed,
    }
    return runs.new_model(BASE, task, **options)


@app.command()
def pilot() -> None:
    """Compare the candidate settings on the validation split of complaint-seed0."""
    entry, rows = ENTRIES[0], []
    task = load_task("complaints", label_column=entry.label_column)
    for settings in CANDIDATES:
        model = untrained(entry, task)
        history = train(model, task, **settings, seed=entry.seed, evaluate_every=50)
        found = [{**settings, **figures} for figures in history.evaluations]
        rows += [{**row, "seconds": round(history.seconds)} for row in found]
        print(pd.DataFrame(rows).to_string(), flush=True)
        ZOO.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(ZOO / "pilot.csv", index=False, float_format="%.4f")


def build(entry: Entry, starts: dict[str, Evaluation]) -> None:
    """Train, measure and save one prompt; `starts` keeps the measurements of starts that several share."""
    began = time.perf_counter()
    task = load_task("complaints", label_column=entry.label_column)
    model = untrained(entry, task)
    key = entry.label_column if entry.start == "text" else entry.name
    if key not in starts:
        starts[key] = evaluate(model, task)
    quarter = SETTINGS["steps"] // 4
    schedule = {
        **SETTINGS,
        "seed": entry.seed,
        "snapshot_every": quarter,
        "evaluate_every": SETTINGS["steps"],
    }
    schedule |= entry.more
    history = train(model, task, **schedule)
    after = evaluate(model, task)
    record = {
        "data": "complaints",
        "label_column": entry.label_column,
        "start": entry.start,
        **entry.told,
    }
    folder = ZOO / entry.name
    runs.save_run(folder, model, task, history, starts[key], after, **record)
    (folder / "predictions.csv").unlink()  # the package stays small
    print(f"{entry.name}: {after} ({(time.perf_counter() - began) / 60:.1f} minutes)", flush=True)


@app.command(name="train")
def train_all() -> None:
    """Make every prompt that is not there."""
    starts: dict[str, Evaluation] = {}
    for entry in ENTRIES:
        if (ZOO / entry.name / "adapter_config.json").exists():
            print(f"{entry.name}: there already", flush=True)
        else:
            build(entry, starts)
    table()


@app.command()
def table() -> None:
    """Write README.md: what the zoo is, and every measured figure from the folders' own task.json."""
    text = CARD.read_text(encoding="utf-8").format(
        example=ENTRIES[0].name,
        towards=WAYWARD_TEXT,
        rows="\n".join(map(row, zoo.names())),
        kilobytes=sum(path.stat().st_size for path in ZOO.glob("*/*")) // 1000,
        steps=SETTINGS["steps"],
        learning_rate=SETTINGS["learning_rate"],
        pilot="\n".join(
            pilot_row(found) for found in pd.read_csv(ZOO / "pilot.csv").to_dict("records")
        ),
    )
    (ZOO / "README.md").write_text(text, encoding="utf-8")


def row(name: str) -> str:
    """One prompt's line of the table; tests/test_zoo.py compares it with the folder."""
    found = json.loads((ZOO / name / runs.TASK_FILE).read_text(encoding="utf-8"))
    before, after = found["untrained"], found["trained"]
    low, high = after["confidence_interval"]
    begun = f"{found['start']}, seed {found['settings']['seed']}"
    return (
        f"| `{name}` | {found['name']} | {begun} | {found['majority_baseline']:.3f} | {before['accuracy']:.3f} | "
        f"{after['accuracy']:.3f} | {low:.3f} to {high:.3f} | {after['macro_f1']:.3f} | {before['loss']:.2f} | "
        f"{after['loss']:.2f} |"
    )


def pilot_row(found: dict) -> str:
    """One line of the pilot's table."""
    return f"| {found['learning_rate']:g} | {found['step']} | {found['loss']:.3f} | {found['accuracy']:.3f} |"


if __name__ == "__main__":
    app()
