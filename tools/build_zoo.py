"""Train the zoo: prompts for smollm2 on rated texts, word skills and a hard case, in softprompt_lab/assets/zoo.

python tools/build_zoo.py train      # train and measure what is not there yet; about 40 minutes on two cores
python tools/build_zoo.py series     # measure the prompts drawn towards a text beside their controls; 5 minutes
python tools/build_zoo.py table      # write README.md from the folders
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from softprompt_lab import Evaluation, Task, evaluate, load_task, train
from softprompt_lab.reading import OntoWords, TowardsText, wayward_table
from softprompt_lab.runs import saved as runs
from softprompt_lab.runs import zoo
from softprompt_lab.widgets.gamma import TABLE_FILE

ZOO = zoo.FOLDER
BASE = "smollm2"
STEPS, RATE = 100, 0.03  # of benchmarks/sweep.py; both are what `train` does by itself
WORDS_RATE = 0.3  # a prompt of words: at 0.1, 1 and 3 the validation loss is higher, at 0.03 no word changes
LENGTH, WORD_LENGTH = 8, 4
COMPLAINT_TEXT = (
    "Is this a complaint or no complaint?"  # of exactly 8 tokens: the start is all of its text
)
WAYWARD_TEXT = "Please write a poem about the sea."  # of 8 tokens too, and of no use to the task
WORD_SKILLS = (  # the eight of eleven that do best on validation rows, by benchmarks/sweep.py
    *("antonym", "past", "plural", "first-letter"),
    *("comparative", "language", "category", "profession"),
)
SNAPSHOTS, MORE_SNAPSHOTS = 4, 10  # besides the start; the animation shows tweets-seed0
GAMMAS = (0.0003, 0.003, 0.03, 0.3)
CARD = Path(__file__).with_name("zoo_card.md")
STARTS: dict[tuple, Evaluation] = {}  # measured already
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Entry:
    """One prompt of the zoo before it is trained."""

    name: str
    data: str
    text: str = ""  # of a text start; empty for the task's instruction
    start: str = "text"
    seed: int = 0
    length: int = LENGTH
    snapshots: int = SNAPSHOTS
    more: dict[str, Any] = field(default_factory=dict)  # arguments of `train`
    told: dict[str, Any] = field(default_factory=dict)  # what task.json says besides


def wayward(gamma: float) -> Entry:
    """Return the prompt that is as tweets-seed0 but drawn towards a text."""
    penalty, told = TowardsText(WAYWARD_TEXT, gamma), {"towards": WAYWARD_TEXT, "gamma": gamma}
    name = f"tweets-wayward-{gamma:g}"
    return Entry(name, "tweets", snapshots=1, more={"penalty": penalty}, told=told)


ENTRIES = (
    Entry("tweets-seed0", "tweets", snapshots=MORE_SNAPSHOTS),
    Entry("tweets-seed1", "tweets", seed=1),
    Entry("tweets-seed2", "tweets", seed=2),
    Entry("tweets-vocab", "tweets", start="sample-vocab"),
    Entry("tweets-random", "tweets", start="random"),
    *(Entry(f"{data}-seed0", data) for data in ("reviews", "films", "editorials")),
    *(Entry(f"words-{skill}", f"words/{skill}", length=WORD_LENGTH) for skill in WORD_SKILLS),
    Entry("complaint-seed0", "complaints", text=COMPLAINT_TEXT),
    # As tweets-seed0, which is the free prompt (gamma 0), but made of words or drawn towards a text.
    Entry(
        "tweets-words",
        "tweets",
        more={
            "project": OntoWords(),
            "learning_rate": WORDS_RATE,
            "evaluate_every": 25,
            "patience": 4,
        },
        told={"words": True},
    ),
    *map(wayward, GAMMAS),
)


def settings_of(entry: Entry, steps: int) -> dict[str, Any]:
    """Return the arguments of `train`."""
    every = max(1, steps // entry.snapshots)
    same = {"steps": steps, "learning_rate": RATE, "seed": entry.seed}
    return {**same, "snapshot_every": every, "evaluate_every": steps} | entry.more


def ceiling(task: Task) -> dict[str, float]:
    """Return what one human rater reaches on the test rows, where several rated them."""
    rated = "agreement" in task.test.column_names
    return {"human_ceiling": float(np.mean(task.test["agreement"]))} if rated else {}


def build(entry: Entry, folder: Path, base: str, steps: int, limit: int | None) -> None:
    """Train, measure and save one prompt."""
    began, task = time.perf_counter(), load_task(entry.data)
    text = entry.text if entry.start == "text" else None
    options = {"virtual_tokens": entry.length, "start": entry.start, "seed": entry.seed}
    model = runs.new_model(base, task, start_text=text, **options)
    same = (entry.data, text, entry.length, text is None and entry.name)  # of one start
    before = STARTS[same] = STARTS.get(same) or evaluate(model, task, limit=limit)
    history = train(model, task, **settings_of(entry, steps))
    after = evaluate(model, task, limit=limit)
    record = {"data": entry.data, "label_column": None, "start": entry.start}
    record |= ceiling(task) | entry.told
    runs.save_run(folder, model, task, history, before, after, **record)
    (folder / "predictions.csv").unlink()  # the package stays small, and holds no text of others
    losses = pd.read_csv(folder / runs.HISTORY_FILE)
    losses.to_csv(folder / runs.HISTORY_FILE, index=False, float_format="%.5g")
    print(f"{entry.name}: {after} ({(time.perf_counter() - began) / 60:.1f} minutes)", flush=True)


@app.command(name="train")
def train_all(
    only: Annotated[str, typer.Option(help="Names with commas between; left out, all.")] = "",
    output: Annotated[Path, typer.Option(help="Where the folders are made.")] = ZOO,
    base: Annotated[str, typer.Option(help="Base model.")] = BASE,
    steps: Annotated[int, typer.Option(help="Fewer, and few rows, try the program.")] = STEPS,
) -> None:
    """Make every prompt that is not there."""
    if output == ZOO and (base, steps) != (BASE, STEPS):
        raise SystemExit("give a trial another folder: --output /tmp/zoo")
    for entry in ENTRIES:
        if only and entry.name not in only.split(","):
            continue
        if (output / entry.name / "adapter_config.json").exists():
            print(f"{entry.name}: there already", flush=True)
        else:
            build(entry, output / entry.name, base, steps, None if steps == STEPS else 16)
    table(output)


@app.command()
def series() -> None:
    """Write what the gamma slider shows: `reading.wayward_table` on all test rows, beside the free prompt."""
    free = zoo.load(ENTRIES[0].name)
    base = free.model.base_model, free.model.tokenizer
    drawn = (zoo.load(wayward(gamma).name, *base).model.prompt for gamma in GAMMAS)
    prompts = dict(zip((0.0, *GAMMAS), (free.model.prompt, *drawn), strict=True))
    found = wayward_table(free.model, free.task, WAYWARD_TEXT, prompts)
    found.to_csv(zoo.folder(free.name) / TABLE_FILE, index=False, float_format="%.5g")


@app.command()
def table(
    output: Annotated[Path, typer.Option(help="Where the folders are.")] = ZOO,
) -> None:
    """Write README.md: what the zoo is, and every measured figure from the folders' own task.json."""
    present = [entry for entry in ENTRIES if (output / entry.name / runs.TASK_FILE).exists()]
    text = CARD.read_text(encoding="utf-8").format(
        example=ENTRIES[0].name,
        towards=WAYWARD_TEXT,
        rows="\n".join(row(output / entry.name) for entry in present),
        kilobytes=sum(path.stat().st_size for path in output.glob("*/*")) // 1000,
        steps=STEPS,
        rate=RATE,
        words_rate=WORDS_RATE,
        length=LENGTH,
        word_length=WORD_LENGTH,
        snapshots=STEPS // SNAPSHOTS,
        more=STEPS // MORE_SNAPSHOTS,
    )
    (output / "README.md").write_text(text, encoding="utf-8")


def row(folder: Path) -> str:
    """One prompt's line of the table; tests/test_zoo.py compares it with the folder."""
    found = json.loads((folder / runs.TASK_FILE).read_text(encoding="utf-8"))
    before, after = found["untrained"], found["trained"]
    low, high = after["confidence_interval"]
    begun = f"{found['start']}, seed {found['settings']['seed']}"
    human, f1 = (
        "" if number is None else f"{number:.3f}"
        for number in (found.get("human_ceiling"), after["macro_f1"])
    )
    return (
        f"| `{folder.name}` | {found['name']} | {begun} | {after['n']} | {found['majority_baseline']:.3f} | "
        f"{before['accuracy']:.3f} | {after['accuracy']:.3f} | {low:.3f} to {high:.3f} | {human} | {f1} | "
        f"{before['loss']:.2f} | {after['loss']:.2f} |"
    )


if __name__ == "__main__":
    app()
