"""What the vectors do inside the frozen model: states, attention, and what it says of them."""

from .. import plots, reading
from .section import Measured, Subject, instrument


def _example(subject: Subject) -> list[int]:
    """Return the first test text in its template, as token ids."""
    task = subject.run.task
    return task.encode(subject.run.model.tokenizer, task.test[0][task.text_column])[0]


@instrument
def logit_lens(subject: Subject) -> Measured:
    """In which layer is the answer there?"""
    table = reading.logit_lens(subject.run.model, _example(subject), start=subject.start)
    layers, text = table["layer"].max(), table[table["place"] == "text"]
    last = text[(text["position"] == text["position"].max()) & (text["rank"] == 1)]
    # the layers whose word is not the last one's
    differing = last["layer"].where(~last["agrees"], -1)
    settled = differing.groupby(last["kind"]).max() + 1
    word = last.loc[(last["kind"] == "prompt") & (last["layer"] == layers), "predicted"].iloc[0]
    return plots.lens_figure(table), {"word": word, "settled": settled, "layers": layers}


@instrument
def attention_mass(subject: Subject) -> Measured:
    """How much does the text look at the prompt?"""
    run = subject.run
    table = reading.attention_mass(run.model, run.task, limit=16, start=subject.start)
    rows = table[table["place"] == "last"].groupby("kind", sort=False)
    return plots.attention_mass_figure(table), {"mean": rows[["mass", "first", "uniform"]].mean()}


@instrument
def bias(subject: Subject) -> Measured:
    """Is the prompt more than a bias of each head?"""
    table = reading.attention_as_bias(subject.run.model, _example(subject), start=subject.start)
    own = table[table["kind"] == "prompt"]
    moved = own.groupby("layer")["moved"].mean()
    numbers = {"error": own["error"].max(), "first": moved.iloc[0], "last": moved.iloc[-1]}
    return plots.attention_bias_figure(table), numbers


@instrument
def read_back(subject: Subject) -> Measured:
    """What does the frozen model say when the prompt is read back to it?"""
    table = reading.read_back(subject.run.model, subject.run.task, start=subject.start)
    return plots.read_back_figure(table), {"mean": table.groupby("kind")["task_words"].mean()}
