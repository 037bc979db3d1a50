"""What the vectors do inside the frozen model: states, attention, and what it says of them."""

from .. import plots, reading
from .section import Mark, Measured, Subject, instrument


def _texts(subject: Subject, limit: int) -> list[list[int]]:
    """Return the first test texts in their template, as token ids."""
    task, tokenizer = subject.run.task, subject.run.model.tokenizer
    return [task.encode(tokenizer, text)[0] for text in task.test[:limit][task.text_column]]


@instrument
def logit_lens(subject: Subject) -> Measured:
    """In which layer is the answer there?"""
    (example,) = _texts(subject, 1)
    table = reading.logit_lens(subject.run.model, example, start=subject.start)
    layers, text = table["layer"].max(), table[table["place"] == "text"]
    last = text[text["position"] == text["position"].max()]
    # the layers whose word is not the last one's
    differing = last["layer"].where(~last["agrees"], -1)
    settled = differing.groupby(last["kind"]).max() + 1
    word = last.loc[(last["kind"] == "prompt") & (last["layer"] == layers), "predicted"].iloc[0]
    return plots.lens_figure(table), {"word": word, "settled": settled, "layers": layers}


@instrument
def attention_mass(subject: Subject) -> Measured:
    """How much does the text look at the prompt?"""
    table = reading.attention_mass(subject.run.model, _texts(subject, 16), start=subject.start)
    mean = table.groupby("kind", sort=False)[["mass", "first", "uniform"]].mean()
    return plots.attention_mass_figure(table), {"mean": mean, "texts": table["n"].iloc[0]}


@instrument
def bias(subject: Subject) -> Measured:
    """Is the prompt more than a bias of each head?"""
    (example,) = _texts(subject, 1)
    table = reading.attention_as_bias(subject.run.model, example, start=subject.start)
    own = table[table["kind"] == "prompt"]
    moved = own.groupby("layer")["moved"].mean()
    numbers = {"error": own["error"].max(), "first": moved.iloc[0], "last": moved.iloc[-1]}
    return plots.attention_bias_figure(table), numbers


@instrument
def read_back(subject: Subject) -> Measured:
    """What does the frozen model say when the prompt is read back to it?"""
    table = reading.read_back(subject.run.model, subject.run.task, start=subject.start)
    mean = table.groupby("kind")["task_words"].mean()
    shares = table.groupby(["kind", "draw"])["task_words"].mean().drop(["prompt", "task text"])
    mark = Mark.of(mean["prompt"] > shares.max())
    return plots.read_back_figure(table), {"mean": mean, "mark": mark}
