"""Figures of the probes: they draw the numbers of the tables, their intervals and controls, and say them in words."""

import io
import threading

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from softprompt_lab import plots
from softprompt_lab.plots.figure import LEVELS, styled

pytestmark = pytest.mark.slow


def measures(loss: float, change: float, accuracy: float = 0.75) -> dict[str, float | int]:
    """The last columns of a probe's table, with intervals of 0.1 and 0.2 on either side."""
    return {
        "loss": loss,
        "accuracy": accuracy,
        "loss_change": change,
        "loss_low": change - 0.1,
        "loss_high": change + 0.1,
        "accuracy_change": -change,
        "accuracy_low": -change - 0.2,
        "accuracy_high": -change + 0.2,
        "n": 200,
        "majority": 0.7,
        "ceiling": 0.95,
    }


def ablation() -> pd.DataFrame:
    """Two virtual tokens with a start and two draws."""
    rows = [{"part": "whole", "kind": kind, **measures(1.0, 0.0)} for kind in ("prompt", "start")]
    for place, change in enumerate((0.5, -0.05)):
        for part in ("without one", "one alone"):
            said = {"part": part, "virtual_token": place}
            rows += [
                {**said, "kind": kind, **measures(1 + change, change)}
                for kind in ("prompt", "start")
            ]
            rows += [
                {**said, "kind": "random", "draw": draw, **measures(2, 0.2 + place + 0.25 * draw)}
                for draw in (0, 1)
            ]
    rows.append({"part": "nothing", "kind": "no prompt", **measures(4.0, 3.0)})
    return pd.DataFrame(rows).astype({"virtual_token": "Int64", "draw": "Int64"})


def shuffling() -> pd.DataFrame:
    """Three orders of a prompt and of random vectors."""
    names = {"as trained": 0.0, "reversed": 0.25, "random 1": 0.75}
    rows = [
        {"name": name, "kind": kind, **measures(1 + change, change * factor)}
        for kind, factor in (("prompt", 1), ("random", 0.5))
        for name, change in names.items()
    ]
    return pd.DataFrame([*rows, {"kind": "no prompt", **measures(4.0, 3.0)}])


def along(column: str) -> pd.DataFrame:
    """Three points of a prompt and of two draws."""
    losses = {
        ("prompt", pd.NA): (1.0, 2.5, 2.0),
        ("random", 0): (1.0, 3.0, 4.0),
        ("random", 1): (1.0, 3.5, 5.0),
    }
    rows = [
        {column: at, "kind": kind, "draw": draw, **measures(loss, loss - 1 - at)}
        for (kind, draw), points in losses.items()
        for at, loss in zip(
            (0.0, 1.0, 2.0) if column == "factor" else (0.0, 0.5, 1.0), points, strict=True
        )
    ]
    return pd.DataFrame([*rows, {"kind": "no prompt", **measures(4.5, 3.5)}]).astype(
        {"draw": "Int64"}
    )


def board() -> pd.DataFrame:
    """What the board shows with one virtual token off."""
    lines = [("whole prompt", "prompt", 1.0), ("1 of 2", "prompt", 1.5), ("random", "random", 2.0)]
    lines.append(("no prompt", "no prompt", 3.0))
    return pd.DataFrame(
        [{"name": name, "kind": kind, **measures(loss, loss - 1)} for name, kind, loss in lines]
    )


FIGURES = {
    "ablation": lambda: plots.ablation_figure(ablation(), ["·late", "$5 嗨"]),
    "shuffling": lambda: plots.shuffling_figure(shuffling()),
    "interpolation": lambda: plots.interpolation_figure(along("at"), ("seed 0", "seed 1"), at=0.25),
    "scaling": lambda: plots.scaling_figure(along("factor")),
    "board": lambda: plots.board_figure(board()),
}


def lines_of(ax) -> list[list[list[float]]]:
    """The points of every line on some axes."""
    return [
        np.column_stack([np.asarray(part, float) for part in line.get_data()]).tolist()
        for line in ax.lines
    ]


def segments_of(ax) -> list[list[list[float]]]:
    """The intervals on some axes: two points each."""
    return [segment.round(6).tolist() for part in ax.collections for segment in part.get_segments()]


@pytest.mark.parametrize("name", list(FIGURES))
def test_a_figure_is_small_and_has_labels_and_words(name, recwarn):
    figure = FIGURES[name]()
    assert Image.open(io.BytesIO(figure.png())).width > 300
    assert len(figure.png()) < 40_000
    assert len(figure.alt.split()) > 15
    assert all(ax.get_xlabel() for ax in figure.axes if ax.get_subplotspec().is_last_row())
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_the_ablation_figure_draws_effects_intervals_and_the_draws():
    figure = FIGURES["ablation"]()
    without, alone = figure.axes[:2]
    assert np.allclose(
        lines_of(without)[:2], [[[-0.22, 0.5], [0.78, -0.05]], [[0, 0.5], [1, -0.05]]]
    )
    assert [[-0.22, 0.4], [-0.22, 0.6]] in segments_of(without)
    draws = [[0.22, 0.2], [0.22, 0.45], [1.22, 1.2], [1.22, 1.45]]
    assert np.allclose(lines_of(without)[2], draws), "every draw"
    assert [3.0, 3.0] in [list(line.get_ydata()) for line in alone.lines], "no prompt"
    assert (
        "virtual token 0 costs most: the loss changes by +0.500; 1 intervals of 2 leave out zero"
        in figure.alt
    )
    assert "+0.200 to +1.450" in figure.alt


def test_the_shuffling_figure_draws_each_order_and_the_mean():
    figure = FIGURES["shuffling"]()
    loss = figure.axes[0]
    assert [[0.25, -0.11], [0.75, 0.89]] in lines_of(loss)
    assert [[0.15, -0.11], [0.35, -0.11]] in segments_of(loss)
    assert [0.5, 0.5] in [list(line.get_xdata()) for line in loss.lines], "the mean over two orders"
    assert [label.get_text() for label in loss.get_yticklabels()] == ["reversed", "random 1"]
    assert "Prompt: mean +0.500, from +0.250 to +0.750." in figure.alt
    assert "Random vectors: mean +0.250" in figure.alt


def test_the_interpolation_figure_draws_the_line_between_the_ends_and_the_marker():
    figure = FIGURES["interpolation"]()
    loss = figure.axes[0]
    drawn = lines_of(loss)
    assert [[0, 1], [0.5, 2.5], [1, 2]] in drawn
    assert [[0, 1], [0.5, 3.5], [1, 5]] in drawn, "each draw has its line"
    assert [[0, 1], [1, 2]] in drawn
    assert [0.25, 0.25] in [list(line.get_xdata()) for line in loss.lines], "here"
    assert [[0.5, 2.4], [0.5, 2.6]] in segments_of(loss)
    assert "highest above the straight line by 1.000 at 0.50" in figure.alt
    assert "loss 4.000 to 5.000" in figure.alt
    assert loss.get_ylim()[1] > 5
    steep = along("at")
    steep.loc[steep["kind"] == "random", "loss"] *= 10
    loss = plots.interpolation_figure(steep, ("seed 0", "seed 1")).axes[0]
    assert loss.get_ylim() == (0, 3 * 2.5), (
        "a barrier can be seen beside a steep way to random vectors"
    )
    assert "to random vectors (mean loss there 45.00)" in loss.get_legend_handles_labels()[1]


def test_the_scaling_figure_draws_no_prompt_beside_zeros():
    figure = FIGURES["scaling"]()
    drawn = lines_of(figure.axes[0])
    assert [[0, 1], [1, 2.5], [2, 2]] in drawn
    assert [4.5, 4.5] in [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert "zeros" in figure.axes[0].get_xlabel()
    assert "Lowest loss 1.000 at factor 0; 2.500 at 1" in figure.alt


def test_the_board_figure_draws_a_line_for_each_prompt():
    figure = FIGURES["board"]()
    drawn = lines_of(figure.axes[0])
    assert [[1.5, 1]] in drawn
    assert [[1.4, 1], [1.6, 1]] in segments_of(figure.axes[0])
    assert "1 of 2: 1.500 and 75.0%" in figure.alt
    assert "200 rows" in figure.alt


FEW = {
    "ablation": lambda few: plots.ablation_figure(few(ablation()), ["·late", "b"]),
    "shuffling": lambda few: plots.shuffling_figure(few(shuffling())),
    "interpolation": lambda few: plots.interpolation_figure(few(along("at")), ("a", "b")),
    "scaling": lambda few: plots.scaling_figure(few(along("factor"))),
}


@pytest.mark.parametrize("name", list(FEW))
def test_an_accuracy_is_drawn_from_200_rows_on(name):
    """From fewer the loss alone, with n and its interval; a widget's figures (`at`) may show both."""
    most, few = (FEW[name](lambda table, n=n: table.assign(n=n)) for n in (200, 199))
    for figure, accuracies in ((most, True), (few, False)):
        titles = [ax.get_xlabel() + ax.get_ylabel() for ax in figure.axes]
        assert any("accuracy" in title for title in titles) == accuracies
    (legend,) = few.legends
    said = "n = 199 rows; lines through marks are 95 % intervals; no accuracy, which takes 200 rows"
    assert legend.get_title().get_text() == said
    assert said in few.alt
    live = plots.interpolation_figure(along("at").assign(n=16), ("a", "b"), at=0.25)
    assert len(live.axes) == 2
    assert "n = 16 rows" in live.legends[0].get_title().get_text()


def levels(ax) -> dict[str, float]:
    """The level lines of some axes by label."""
    named = [line for line in ax.lines if line.get_label()[0] != "_"]
    return {line.get_label(): line.get_ydata()[0] for line in named if len(line.get_ydata()) == 2}


def test_an_accuracy_stands_beside_the_majority_and_a_human_rater():
    """Of the rows measured; a change beside how far they are from the whole prompt's accuracy."""
    accuracy = FIGURES["scaling"]().axes[1]
    assert {"majority": 0.7, "human rater": 0.95, "no prompt": 0.75}.items() <= levels(
        accuracy
    ).items()
    lost = levels(FIGURES["ablation"]().axes[3])  # the whole prompt has 0.75 + 3
    assert lost["majority"] == pytest.approx(0.7 - 3.75)
    without = along("factor").assign(ceiling=np.nan)
    assert "human rater" not in levels(plots.scaling_figure(without).axes[1])


def test_levels_on_each_other_are_one_line_with_all_names_and_others_differ_in_grey_too():
    table = along("factor").assign(majority=0.75)
    assert levels(plots.scaling_figure(table).axes[1])["no prompt and majority"] == 0.75
    assert len({str(look["linestyle"]) for look in LEVELS.values()}) == len(LEVELS)


def test_a_level_out_of_sight_is_in_no_legend():
    table = along("at")
    table.loc[table["kind"] == "no prompt", "loss"] = 100.0
    loss, accuracy = plots.interpolation_figure(table, ("a", "b")).axes
    assert "no prompt" not in loss.get_legend_handles_labels()[1]
    assert "no prompt" in accuracy.get_legend_handles_labels()[1]


def test_kinds_differ_by_marker_and_line_too():
    lines = FIGURES["shuffling"]().axes[0].get_legend_handles_labels()[0]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 2


def test_a_figure_keeps_its_style_while_another_thread_draws():
    """One that leaves the style behind must not take it from one that still draws, nor leave it on for ever."""
    settings, inside, seen = dict(mpl.rcParams), threading.Event(), []

    @styled
    def first():
        inside.set()
        threading.Event().wait(0.2)
        return plots.Figure()

    @styled
    def second():
        one.join(0.5)
        seen.append(mpl.rcParams["legend.frameon"])
        return plots.Figure()

    one, two = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    inside.wait()
    two.start()
    two.join()
    assert seen == [False]
    assert dict(mpl.rcParams) == settings
