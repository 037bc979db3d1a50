"""What the vectors do inside the frozen model: states, attention, and what it says of them."""

from .. import plots, reading
from .section import Section, Subject


def _example(subject: Subject) -> list[int]:
    """The first test text in its template, as token ids."""
    task = subject.run.task
    return task.encode(subject.run.model.tokenizer, task.test[0][task.text_column])[0]


def logit_lens(subject: Subject) -> Section:
    """In which layer is the answer there?"""
    table = reading.logit_lens(subject.run.model, _example(subject), start=subject.start)
    layers = table["layer"].max()
    text = table[table["place"] == "text"]
    last = text[(text["position"] == text["position"].max()) & (text["rank"] == 1)]
    settled = {
        kind: int(rows.loc[~rows["agrees"], "layer"].max() + 1) if (~rows["agrees"]).any() else 0
        for kind, rows in last.groupby("kind")
    }
    word = last[(last["kind"] == "prompt") & (last["layer"] == layers)]["predicted"].iloc[0]
    return Section(
        "Logit lens",
        plots.lens_figure(table),
        "random vectors of the same norms; the start, ordinary words and no prompt in the table.",
        f"At the place that predicts the label the model's word, {word}, is the first choice from layer "
        f"{settled['prompt']} of {layers} on; behind random vectors its own word from layer {settled['random']} on.",
        "what the layers compute: a state need not be in the words' space before the last layer.",
    )


def attention_mass(subject: Subject) -> Section:
    """How much does the text look at the prompt?"""
    table = reading.attention_mass(
        subject.run.model, subject.run.task, limit=16, start=subject.start
    )
    mean = (
        table[table["place"] == "last"]
        .groupby("kind", sort=False)[["mass", "first", "uniform"]]
        .mean()
    )
    return Section(
        "Attention mass",
        plots.attention_mass_figure(table),
        "random vectors, the start, ordinary words in the same places.",
        f"The predicting token pays {mean.loc['prompt', 'mass']:.0%} of its attention to the prompt, "
        f"{mean.loc['random', 'mass']:.0%} to random vectors in its place (even attention would be "
        f"{mean.loc['prompt', 'uniform']:.0%}); {mean.loc['prompt', 'first']:.0%} goes to the very first place alone, "
        f"behind random vectors {mean.loc['random', 'first']:.0%}.",
        "that what is looked at is used.",
    )


def bias(subject: Subject) -> Section:
    """Is the prompt more than a bias of each head?"""
    table = reading.attention_as_bias(subject.run.model, _example(subject), start=subject.start)
    own = table[table["kind"] == "prompt"]
    moved = own.groupby("layer")["moved"].mean()
    return Section(
        "Attention as a bias",
        plots.attention_bias_figure(table),
        "random vectors, the start, ordinary words.",
        f"Head by head output = mass x prompt's part + (1 - mass) x text's part, to {own['error'].max():.0e}. In the "
        f"first layer the text's part is moved by {moved.iloc[0]:.1%}, in the last by {moved.iloc[-1]:.0%}.",
        "that a soft prompt is only a bias: from the second layer on it changes the text's own states.",
    )


def read_back(subject: Subject) -> Section:
    """What does the frozen model say when the prompt is read back to it?"""
    table = reading.read_back(subject.run.model, subject.run.task, start=subject.start)
    mean = table.groupby("kind", sort=False)["task_words"].mean()
    return Section(
        "Read back",
        plots.read_back_figure(table),
        "the embeddings of a text that says the task (it should be read back), random vectors, the start.",
        f"Of the words that say the task {mean['prompt']:.0%} occur in what the model says of the prompt, "
        f"{mean['task text']:.0%} for the text itself, {mean['start']:.0%} for the start and {mean['random']:.0%} for "
        "random vectors.",
        "that the prompt means nothing, where the model says nothing: small models fail at this.",
    )
