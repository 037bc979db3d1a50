"""What the vectors do: the task is measured with other vectors in their places."""

from .. import plots, reading
from .section import Mark, Measured, Subject, instrument


@instrument
def discretisation(subject: Subject) -> Measured:
    """Do the nearest words do what the vectors do?"""
    table = subject.measure(reading.discretisation_gap, start=subject.start, draws=1)
    rows = table.drop_duplicates("kind").set_index("kind")
    words, whole = rows.loc["prompt's words"], rows.loc["prompt"]
    accuracies = ""
    if subject.enough:
        accuracies = f"; the accuracy goes from {whole['accuracy']:.0%} to {words['accuracy']:.0%} ({subject.levels})"
    mark = Mark.of(words["loss_gap_low"] > 0, subject.rows)
    numbers = {"words": words, "accuracies": accuracies, "mark": mark}
    return plots.gap_figure(table), numbers


@instrument
def ablation(subject: Subject) -> Measured:
    """Which virtual tokens can the prompt not do without?"""
    table = subject.measure(reading.ablation, draws=1, parts=["without one"])
    one = table[(table["part"] == "without one") & (table["kind"] == "prompt")]
    worst = one.loc[one["loss_change"].idxmax()]
    nearest = reading.nearest_tokens(subject.prompt, subject.words, subject.run.model.tokenizer, 1)
    words, place = nearest["token"].tolist(), int(worst["virtual_token"])
    random = table[table["kind"] == "random"]
    numbers = {"place": place, "word": words[place], "worst": worst}
    numbers |= {"random": random["loss_change"].mean(), "sure": (one["loss_low"] > 0).sum()}
    needed = (one["loss_low"].to_numpy() > 0) & (random["loss_low"].to_numpy() > 0)
    numbers["mark"] = Mark.of(needed.mean() > 0.5, subject.rows)
    return plots.ablation_figure(table, words), numbers


@instrument
def shuffling(subject: Subject) -> Measured:
    """Does their order matter?"""
    table = subject.measure(reading.shuffling, times=3, start=subject.start, draws=0)
    moved = table[table["name"] != "as trained"]
    low = moved.loc[moved["kind"] == "prompt", "loss_low"].min()
    moved = moved.groupby("kind")["loss_change"].agg(["min", "max"])
    numbers = {"moved": moved, "orders": table["name"].nunique() - 1}
    numbers["mark"] = Mark.of(low > max(0, moved.loc["start", "max"]), subject.rows)
    return plots.shuffling_figure(table), numbers


@instrument
def interpolation(subject: Subject) -> Measured:
    """What lies between this prompt and another seed's?"""
    first = "start" if subject.other_seed is None else "other seed"
    ends = (subject.kinds[first], subject.prompt)
    table = subject.measure(reading.interpolation, *ends, 5, draws=1)
    found = reading.barrier(table).groupby("kind")
    own, chance = found.get_group("prompt").iloc[0], found["barrier"].mean()["random"]
    figure = plots.interpolation_figure(table, (first, "prompt"))
    numbers = {"first": first, "own": own, "chance": chance, "points": table["at"].nunique()}
    numbers |= {"end": table.loc[(table["kind"] == "random") & (table["at"] == 1), "loss"].mean()}
    return figure, numbers


@instrument
def scaling(subject: Subject) -> Measured:
    """Does their length matter?"""
    table = subject.measure(reading.scaling, (0.0, 0.5, 1.0, 1.5, 2.0, 3.0), draws=1)
    loss = table[table["kind"] == "prompt"].set_index("factor")["loss"].sort_index()
    numbers = {"whole": loss[1.0], "least": loss.iloc[0], "most": loss.iloc[-1]}
    numbers |= {"low": loss.index[0], "high": loss.index[-1], "best": loss.idxmin()}
    ends = table[table["factor"].isin([0.5, 2.0])].sort_values("factor")
    low = ends.loc[ends["kind"] == "prompt", "loss_low"].to_numpy()
    chance = ends.loc[ends["kind"] == "random", "loss_change"].to_numpy()
    mark = Mark.of((low > chance.clip(min=0)).any(), subject.rows)
    numbers |= {"factors": len(loss), "mark": mark}
    return plots.scaling_figure(table), numbers


@instrument
def search(subject: Subject) -> Measured:
    """Can words be found that do the task?"""
    run, words = subject.run, subject.of_words
    snapshots = {step: kept.float() for step, kept in words.snapshots.items()}
    way = reading.trajectory(snapshots, subject.words, run.model.tokenizer)
    prompts = {"prompt": subject.prompt, "start": subject.start, "words": words.model.prompt}
    found = subject.measure(reading.evaluate_each, prompts=[*prompts.values()])
    form = "{0.loss:.2f} nats" + ", accuracy {0.accuracy:.0%}" * subject.enough
    scores = {name: form.format(one) for name, one in zip(prompts, found, strict=True)}
    free = {"the same training, free": run.history["loss"]}
    scores |= {"levels": f" ({subject.levels})" * subject.enough}
    _, start, chosen = found
    scores["mark"] = Mark.of(reading.compared(chosen, start)["loss_high"] < 0, subject.rows)
    return plots.search_figure(words.history["loss"], way, free), scores


@instrument
def wayward(subject: Subject) -> Measured:
    """Can a prompt do the task and look like another text?"""
    others = subject.wayward
    prompts = {gamma: other.model.prompt.detach() for gamma, other in others.items()}
    text = next(iter(others.values())).record["towards"]
    table = subject.measure(reading.wayward_table, text, {0.0: subject.prompt} | prompts)
    drawn = table[table["gamma"] > 0].sort_values("gamma")
    nearest = drawn.loc[drawn["share"].idxmax()]
    numbers = {"text": text, "nearest": nearest}
    measure, form = ("accuracy", "{:.0%}") if subject.enough else ("loss", "{:.2f} nats")
    others = {"near": nearest["gamma"], "free": 0.0}
    found = {name: table.loc[table["gamma"] == at, measure] for name, at in others.items()}
    found |= {"alone": table.loc[table["kind"] == "text", measure]}
    numbers |= {name: form.format(values.iloc[0]) for name, values in found.items()}
    text = table[table["kind"] == "text"].iloc[0]
    beats = nearest["share"] >= 0.5 and nearest["low"] > text["high"]
    numbers |= {"mark": Mark.of(beats, subject.rows)}
    numbers |= {"measure": measure, "levels": f"; {subject.levels}" * subject.enough}
    return plots.wayward_figure(table), numbers
