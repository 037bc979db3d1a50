"""What the vectors do: the task is measured with other vectors in their places."""

from .. import plots, reading
from ..evaluation import evaluate
from .section import SPLIT, Section, Subject


def discretisation(subject: Subject) -> Section:
    """Do the nearest words do what the vectors do?"""
    run = subject.run
    table = reading.discretisation_gap(
        run.model, run.task, start=subject.start, split=SPLIT, limit=subject.limit
    )
    rows = table.drop_duplicates("kind").set_index("kind")
    words = rows.loc["prompt's words"]
    return Section(
        "Discretisation gap",
        plots.gap_figure(table),
        "the start and its words, random words, random vectors, no prompt.",
        f"Replaced by its nearest words the prompt goes from {rows.loc['prompt', 'accuracy']:.0%} to "
        f"{words['accuracy']:.0%} on {subject.limit} rows. The loss rises by {words['loss_gap']:.2f} nats (95 % "
        f"interval {words['loss_gap_low']:.2f} to {words['loss_gap_high']:.2f}): "
        + (
            "the words do not do what the vectors do."
            if words["loss_gap_low"] > 0
            else "no difference was found."
        ),
        "that another text could not do it.",
    )


def ablation(subject: Subject) -> Section:
    """Which virtual tokens can the prompt not do without?"""
    run = subject.run
    table = reading.ablation(
        run.model, run.task, SPLIT, subject.limit, start=subject.start, draws=1
    )
    one = table[(table["part"] == "without one") & (table["kind"] == "prompt")].set_index(
        "virtual_token"
    )
    worst = one["loss_change"].idxmax()
    sure = (one["loss_low"] > 0).sum()
    words = reading.nearest_tokens(subject.prompt, subject.words, run.model.tokenizer, 1)[
        "token"
    ].tolist()
    return Section(
        "Ablation",
        plots.ablation_figure(table, words),
        "a random vector of the same norm in its place, the start ablated alike, no prompt.",
        f"The one that is missed most is virtual token {worst} ({words[worst]}): without it the loss rises by "
        f"{one.loc[worst, 'loss_change']:.2f} nats. For {sure} of {len(one)} the interval lies above 0.",
        "the sum: two that say the same replace each other.",
    )


def shuffling(subject: Subject) -> Section:
    """Does their order matter?"""
    run = subject.run
    table = reading.shuffling(
        run.model, run.task, SPLIT, subject.limit, times=6, start=subject.start
    )
    mean = reading.shuffling_summary(table).set_index("kind")
    return Section(
        "Shuffling",
        plots.shuffling_figure(table),
        "the start and random vectors in the same orders.",
        f"In other orders the loss changes by {mean.loc['prompt', 'loss_mean']:+.2f} nats on average; the start's by "
        f"{mean.loc['start', 'loss_mean']:+.2f}, that of random vectors by {mean.loc['random', 'loss_mean']:+.2f}.",
        "that an order which matters is read as a sentence is.",
    )


def interpolation(subject: Subject) -> Section:
    """What lies between this prompt and another seed's?"""
    run = subject.run
    ends = ("start" if subject.other_seed is None else "other seed", "prompt")
    first = subject.kinds[ends[0]]
    table = reading.interpolation(
        run.model, run.task, first, subject.prompt, 7, SPLIT, subject.limit, draws=2
    )
    found = reading.barrier(table)
    own, chance = (
        found[found["kind"] == "prompt"].iloc[0],
        found[found["kind"] == "random"]["barrier"],
    )
    return Section(
        "Interpolation",
        plots.interpolation_figure(table, ends),
        "ways to random vectors as far away and of the same norms.",
        f"On the straight way from the {ends[0]} the loss rises at most {own['barrier']:.2f} nats above the line "
        f"between the ends (95 % interval {own['low']:.2f} to {own['high']:.2f}); "
        f"towards random vectors {chance.mean():.2f}.",
        "that two prompts with a barrier between them do different things.",
    )


def scaling(subject: Subject) -> Section:
    """Does their length matter?"""
    run = subject.run
    table = reading.scaling(
        run.model, run.task, split=SPLIT, limit=subject.limit, start=subject.start, draws=1
    )
    own = table[table["kind"] == "prompt"].set_index("factor")["loss"]
    return Section(
        "Scaling",
        plots.scaling_figure(table),
        "the start and random vectors times the same factors, no prompt.",
        f"The loss is {own[1.0]:.2f} nats at factor 1, {own.iloc[own.index.argmin()]:.2f} at {own.index.min():g} and "
        f"{own.iloc[own.index.argmax()]:.2f} at {own.index.max():g}; the lowest is at {own.idxmin():g}.",
        "which directions matter.",
    )


def search(subject: Subject) -> Section:
    """Can words be found that do the task?"""
    run, words = subject.run, subject.of_words
    snapshots = {step: kept.float() for step, kept in words.snapshots.items()}
    way = reading.trajectory(snapshots, subject.words, run.model.tokenizer)
    prompts = {"prompt": subject.prompt, "start": subject.start, "words": words.model.prompt}
    found = evaluate(run.model, run.task, SPLIT, prompts=prompts, limit=subject.limit)
    told = {
        name: f"{each.accuracy:.0%} (loss {each.loss:.2f} nats)" for name, each in found.items()
    }
    return Section(
        "A search for words (PEZ)",
        plots.search_figure(
            words.history["loss"], way, {"the same training, free": run.history["loss"]}
        ),
        "the same training of the same start without the projection.",
        f"The words that were found score {told['words']}, the free prompt {told['prompt']}, the start "
        f"{told['start']}, on {subject.limit} rows.",
        "that no better words exist: this is one search of a hundred steps or so.",
    )


def wayward(subject: Subject) -> Section:
    """Can a prompt do the task and look like another text?"""
    run = subject.run
    prompts = {0.0: subject.prompt} | {
        gamma: other.model.prompt.detach() for gamma, other in subject.wayward.items()
    }
    text, limit = next(iter(subject.wayward.values())).record["towards"], subject.limit
    table = reading.wayward_table(run.model, run.task, text, prompts, split=SPLIT, limit=limit)
    drawn = table[(table["kind"] == "gamma") & (table["gamma"] > 0)].sort_values("gamma")
    whole = drawn[drawn["share"] == 1]
    if len(whole):
        row, free = whole.iloc[0], table[table["gamma"] == 0]["accuracy"].iloc[0]
        alone = table[table["kind"] == "text"]["accuracy"].iloc[0]
        said = (
            f"At gamma {row['gamma']:g} every nearest word is the text's, and the accuracy is {row['accuracy']:.0%} on "
            f"{limit} rows; that of the free prompt is {free:.0%}, of the text itself {alone:.0%}."
        )
    else:
        said = f"At the largest gamma {drawn['share'].iloc[-1]:.0%} of the nearest words are the text's."
    return Section(
        "A wayward prompt",
        plots.wayward_figure(table),
        "the free prompt (gamma 0), the text itself, random vectors, no prompt.",
        f"Trained with a pull to {text!r}. {said}",
        "what an ordinary prompt's nearest words mean: only that they need not mean what it does.",
    )
