"""What the vectors do: the task is measured with other vectors in their places."""

from .. import plots, reading
from ..evaluation import evaluate
from .section import Measured, Subject, instrument


@instrument
def discretisation(subject: Subject) -> Measured:
    """Do the nearest words do what the vectors do?"""
    table = subject.measure(reading.discretisation_gap, start=subject.start)
    rows = table.drop_duplicates("kind").set_index("kind")
    words = rows.loc["prompt's words"]
    finding = "no difference was found"
    if words["loss_gap_low"] > 0:
        finding = "the words do not do what the vectors do"
    numbers = {"whole": rows.loc["prompt"], "words": words, "finding": finding}
    return plots.gap_figure(table), numbers


@instrument
def ablation(subject: Subject) -> Measured:
    """Which virtual tokens can the prompt not do without?"""
    table = subject.measure(reading.ablation, start=subject.start, draws=1)
    one = table[(table["part"] == "without one") & (table["kind"] == "prompt")]
    worst = one.loc[one["loss_change"].idxmax()]
    nearest = reading.nearest_tokens(subject.prompt, subject.words, subject.run.model.tokenizer, 1)
    words, place = nearest["token"].tolist(), int(worst["virtual_token"])
    numbers = {"worst": place, "word": words[place], "rise": worst["loss_change"]}
    return plots.ablation_figure(table, words), numbers | {"sure": (one["loss_low"] > 0).sum()}


@instrument
def shuffling(subject: Subject) -> Measured:
    """Does their order matter?"""
    table = subject.measure(reading.shuffling, times=6, start=subject.start)
    moved = table[table["name"] != "as trained"]
    mean = moved.groupby("kind")["loss_change"].mean()
    return plots.shuffling_figure(table), {"mean": mean}


@instrument
def interpolation(subject: Subject) -> Measured:
    """What lies between this prompt and another seed's?"""
    first = "start" if subject.other_seed is None else "other seed"
    ends = (subject.kinds[first], subject.prompt)
    table = subject.measure(reading.interpolation, *ends, 7, draws=2)
    found = reading.barrier(table).groupby("kind")
    own, chance = found.get_group("prompt").iloc[0], found["barrier"].mean()["random"]
    figure = plots.interpolation_figure(table, (first, "prompt"))
    return figure, {"first": first, "own": own, "chance": chance}


@instrument
def scaling(subject: Subject) -> Measured:
    """Does their length matter?"""
    table = subject.measure(reading.scaling, start=subject.start, draws=1)
    loss = table[table["kind"] == "prompt"].set_index("factor")["loss"].sort_index()
    numbers = {"whole": loss[1.0], "least": loss.iloc[0], "most": loss.iloc[-1]}
    numbers |= {"low": loss.index[0], "high": loss.index[-1], "best": loss.idxmin()}
    return plots.scaling_figure(table), numbers


@instrument
def search(subject: Subject) -> Measured:
    """Can words be found that do the task?"""
    run, words = subject.run, subject.of_words
    snapshots = {step: kept.float() for step, kept in words.snapshots.items()}
    way = reading.trajectory(snapshots, subject.words, run.model.tokenizer)
    prompts = {"prompt": subject.prompt, "start": subject.start, "words": words.model.prompt}
    scores = {
        name: f"{found.accuracy:.0%} (loss {found.loss:.2f} nats)"
        for name, found in subject.measure(evaluate, prompts=prompts).items()
    }
    free = {"the same training, free": run.history["loss"]}
    return plots.search_figure(words.history["loss"], way, free), scores


@instrument
def wayward(subject: Subject) -> Measured:
    """Can a prompt do the task and look like another text?"""
    others = subject.wayward
    prompts = {gamma: other.model.prompt.detach() for gamma, other in others.items()}
    text = next(iter(others.values())).record["towards"]
    table = subject.measure(reading.wayward_table, text, {0.0: subject.prompt} | prompts)
    drawn = table[table["gamma"] > 0].sort_values("gamma")
    numbers = {"text": text, "nearest": drawn.loc[drawn["share"].idxmax()]}
    numbers |= {"free": table.loc[table["gamma"] == 0, "accuracy"].iloc[0]}
    numbers |= {"alone": table.loc[table["kind"] == "text", "accuracy"].iloc[0]}
    return plots.wayward_figure(table), numbers
