"""Figures of prompts and words: what nearest words lack, words found by training, vectors that look like a text."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from .accuracies import drawn, level_lines, measured
from .charts import changing_words, dot_rows, dots, evenly, panels, running_mean, words_beside
from .figure import GREY, LOOKS, SKY, Figure, Numbers, drawable, first_of, looks_of, percent, styled

MOST_WORDS, MOST_STEPS = 8, 8  # virtual tokens and snapshots whose words `search_figure` shows
GAPS = {  # column: title; with _low and _high its interval
    "accuracy": "accuracy",
    "gap": "accuracy lost",
    "loss_gap": "loss gained (nats a token)",
}
LIKENESS = {  # column: title
    "loss": "loss (nats a token)",  # in place of an accuracy of too few rows
    "accuracy": "accuracy",
    "share": "nearest words that are the text's",
    "distance": "mean squared distance",
}


@styled
def gap_figure(table: pd.DataFrame) -> Figure:
    """Draw `reading.discretisation_gap`: accuracy, accuracy lost, loss gained, one line a row, its words beside it.

    Bars are 95 % intervals; of a gap that touches the line at 0 nothing is known to be lost.
    """
    rows = table.rename(columns={"low": "accuracy_low", "high": "accuracy_high"})
    metrics = rows.groupby(["kind", "text"], sort=False)["metric"].transform(" = ".join)
    names = rows["kind"].where(rows["metric"] == "", rows["kind"] + ", " + metrics)
    rows, names = rows[first := ~rows.duplicated(["kind", "text", "loss"])], names[first]
    looks = rows["kind"].map(looks_of(rows["kind"]))
    measures = drawn(table, GAPS)
    size = (5.5 + 2.2 * len(measures), 1.4 + 0.27 * len(rows))
    fig, axes = panels(len(measures), *size, sharey=True)
    for ax, (column, title) in zip(axes, measures.items(), strict=True):
        dot_rows(ax, names, rows[column], (rows[f"{column}_low"], rows[f"{column}_high"]), looks)
        ax.set_xlabel(title.replace(" (", "\n("))
        ax.locator_params(axis="x", nbins=4)  # the panels are narrow
        level_lines(ax, column, table, {}, upright=True)
        if column != "accuracy":
            ax.axvline(0, color=GREY, linewidth=0.8)
    percent(*(ax.xaxis for ax in axes[:-1]))
    words_beside(axes[-1], rows["text"], 50)
    said = [
        f"{name}: loss {row.loss:.2f}" + (f", accuracy {row.accuracy:.1%}" * ("gap" in measures))
        for name, row in zip(names, rows.itertuples(), strict=True)
    ]
    return measured(fig, table, f"Dots: {', '.join(measures.values())}. {'; '.join(said)}.")


@styled
def search_figure(losses: Numbers, way: pd.DataFrame, others: Mapping[str, Numbers]) -> Figure:
    """Draw a search for words (PEZ): its loss beside that of other trainings, and the words on the way.

    `way`: `reading.trajectory` of the snapshots, with the metric of the search. `others`: name -> losses, such as those
    of the same training without the projection. At most `MOST_WORDS` virtual tokens are shown.
    """
    steps = evenly(way["step"], MOST_STEPS)
    height = 1.2 + 0.27 * max(len(steps), 7)
    fig, (left, right) = panels(2, 12.0, height, width_ratios=(1, 2.2))
    lines, ends = {"words": losses} | dict(others), []
    for name, look in looks_of(lines).items():
        mean = running_mean(lines[name], max(1, len(lines[name]) // 10))
        ends.append(f"{name} {mean.iloc[0]:.2f} to {mean.iloc[-1]:.2f}")
        look = look | {"marker": "." * (len(mean) == 1), "label": drawable(name)}
        left.plot(mean.index, mean, **look)
    left.set(xlabel="step", ylabel="training loss (nats a token)")
    left.set_ylim(bottom=0)
    fig.legend_below()
    words = way.pivot(index="step", columns="virtual_token", values="token").loc[steps]
    changing_words(right, words.iloc[:, :MOST_WORDS], axis=0)
    right.set(xlabel=first_of(MOST_WORDS, words.shape[1]), ylabel="step")
    right.set_title("words in front of the text; shaded: changed")
    fig.alt = (
        f"Left, training loss: {'; '.join(ends)}. Right, the words on the way; the last ones are "
        f"{' '.join(words.iloc[-1])}."
    )
    return fig


@styled
def wayward_figure(table: pd.DataFrame, selected: float | None = None) -> Figure:
    """Draw `reading.wayward_table` over gamma: accuracy with the controls as lines, and the likeness to the text.

    `selected`: a gamma to mark.
    """
    rows = table[table["kind"] == "gamma"].sort_values("gamma").reset_index(drop=True)
    measures = dict([*drawn(table, LIKENESS, live=selected is not None).items()][-3:])
    fig, axes = panels(len(measures), 9.5, 3.4)
    look = LOOKS[0]
    if "accuracy" in measures:
        ends = rows["low"], rows["high"]
        dots(axes[0], rows["accuracy"], ends, rows.index, upright=True, **look)
    for ax, (column, title) in zip(axes, measures.items(), strict=True):
        ax.plot(rows.index, rows[column], linewidth=0.8, label="trained", **look)
        _controls(ax, table, column)
        ax.set_xticks(rows.index, [f"{gamma:g}" for gamma in rows["gamma"]], rotation=45)
        ax.set(title=title, xlabel="gamma")
        for x in rows.index[rows["gamma"] == selected]:
            ax.axvspan(x - 0.35, x + 0.35, color=SKY, alpha=0.4, zorder=0)
        if column in ("accuracy", "share"):
            ax.set_ylim(-0.03, 1.03)
            percent(ax.yaxis)
        else:
            ax.set_ylim(bottom=0)
    measure, form = ("accuracy", "{:.1%}") if "accuracy" in measures else ("loss", "{:.2f}")
    points = [
        f"gamma {row.gamma:g}: {measure} {form.format(getattr(row, measure))}, {row.share:.0%} of the words, "
        f"distance {row.distance:.2g}"
        for row in rows.itertuples()
    ]
    others = table[table["kind"] != "gamma"].itertuples()
    reached = ", ".join(f"{row.kind} {form.format(getattr(row, measure))}" for row in others)
    alt = f"Likeness to the text over gamma. {'; '.join(points)}. The {measure} of {reached}."
    return measured(fig, table, alt, 5, live=selected is not None)


def _controls(ax: Axes, table: pd.DataFrame, column: str) -> None:
    """Draw what the controls reach in a column as lines."""
    controls = table[table["kind"] != "gamma"].set_index("kind")[column]
    level_lines(ax, column, table, controls.rename({"text": "the text itself"}).to_dict())
