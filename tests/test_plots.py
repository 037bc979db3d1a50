"""Figures: what they show, that they say it in words too, and that they stay small."""

import io

import matplotlib as mpl
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from pictures import Pictures, image_in
from PIL import Image
from words import walk, word_tokenizer, word_vectors

from softprompt_lab import load_base_model, plots, reading
from softprompt_lab.plots.figure import GREY, drawable

WORDS, TOKENIZER = word_vectors(), word_tokenizer()
LOSSES = [3.0, 2.0, 1.5, 1.25]
EVALUATIONS = [
    {"step": 0, "loss": 3.0, "accuracy": 0.5},
    {"step": 4, "loss": 1.5, "accuracy": 0.875},
]


def tables() -> dict[str, pd.DataFrame]:
    """Nearest tokens of a prompt, its start and random vectors."""
    snapshots = walk(WORDS)
    prompts = {
        "prompt": snapshots[40],
        "start": snapshots[0],
        "random": reading.random_control(snapshots[40]),
    }
    return {
        name: reading.nearest_tokens(prompt, WORDS, TOKENIZER, 3)
        for name, prompt in prompts.items()
    }


def way() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The points and the backdrop of a short training."""
    projection = reading.project(walk(WORDS), WORDS)
    return projection.points, projection.backdrop


PROMPTS = {"prompt": walk(WORDS)[40], "start": walk(WORDS)[0]}
RUNS = {"prompt": walk(WORDS), "other seed": walk(WORDS, seed=5)}
SHARES = {
    "complaints": pd.DataFrame(
        {"complaint": [0.9, 0.4], "no complaint": [0.1, 0.6]}, index=["trained", "no prompt"]
    ),
    "topic": pd.DataFrame(
        [[0.5, 0.3, 0.2]], index=["trained on topic"], columns=["delivery", "bill", "other"]
    ),
}


def gaps() -> pd.DataFrame:
    """What `discretisation_gap` returns, shortened."""
    nothing = (float("nan"),) * 6
    rows = [
        ("prompt", "", "", 0.9, 0.8, 0.95, 0.3, "", *nothing),
        (
            "prompt's words",
            "cosine",
            "the $5 parcel",
            0.6,
            0.5,
            0.7,
            0.8,
            "prompt",
            0.3,
            0.2,
            0.4,
            0.5,
            0.4,
            0.6,
        ),
        ("no prompt", "", "", 0.5, 0.4, 0.6, 1.0, "prompt", 0.4, 0.3, 0.5, 0.7, 0.6, 0.8),
    ]
    gap = [f"{name}{end}" for name in ("gap", "loss_gap") for end in ("", "_low", "_high")]
    return pd.DataFrame(
        rows, columns=["kind", "metric", "text", "accuracy", "low", "high", "loss", "against", *gap]
    ).assign(n=200, majority=0.7, ceiling=0.95)


def wayward() -> pd.DataFrame:
    """What `wayward_table` returns, shortened."""
    rows = [
        ("gamma", 0.0, 0.9, 0.8, 0.95, 4.0, 0.0),
        ("gamma", 0.1, 0.85, 0.75, 0.9, 0.5, 0.75),
        ("text", float("nan"), 0.6, 0.5, 0.7, 0.0, 1.0),
        ("random vectors", float("nan"), 0.5, 0.4, 0.6, 4.5, 0.0),
        ("no prompt", float("nan"), 0.45, 0.35, 0.55, float("nan"), float("nan")),
    ]
    return pd.DataFrame(
        rows, columns=["kind", "gamma", "accuracy", "low", "high", "distance", "share"]
    ).assign(n=200, majority=0.7, ceiling=0.95, loss=1.0)


FIGURES = {
    "norm quantiles": lambda: plots.marks_figure(
        reading.norms_table(PROMPTS, WORDS), {"quantile": "share that is no longer"}
    ),
    "words by step": lambda: plots.trajectory_words_figure(
        reading.trajectories_of(RUNS, WORDS, TOKENIZER)
    ),
    "movement": lambda: plots.movement_figure(reading.trajectories_of(RUNS, WORDS, TOKENIZER)),
    "training": lambda: plots.training_curve(LOSSES, EVALUATIONS, 0.53),
    "training alone": lambda: plots.training_curve(torch.tensor(LOSSES)),
    "accuracy": lambda: plots.accuracy_comparison(
        [
            {"label": "words", "accuracy": 0.6, "low": 0.55, "high": 0.65, "kind": "words"},
            {"label": "trained", "accuracy": 0.9, "low": 0.87, "high": 0.93, "kind": "trained"},
            {"label": "mean", "accuracy": 0.61},
            {"label": "later", "accuracy": float("nan")},
        ],
        majority=0.53,
        ceiling=0.95,
    ),
    "margins": lambda: plots.margins_figure(
        {"no": [-1.0, 0.2, -2.0], "yes": torch.tensor([0.5, 3.0])}, {"as asked": 0.0}, "log odds"
    ),
    "wording": lambda: plots.wording_spread(
        {"Is it?": 0.5, "Costs $5?": 0.75}, 0.53, {"trained": 0.9}
    ),
    "concatenation": lambda: plots.concatenation_diagram(2, [3, 5], [1, 2]),
    "letters": lambda: plots.letters_figure(
        batch=8, prompt=4, text=41, width=64, vocabulary=1024, layers=2
    ),
    "norms": lambda: plots.norms_histogram(
        reading.norms(WORDS), {"RANDOM": 24 * torch.ones(3), "TEXT": reading.norms(WORDS[:3])}
    ),
    "neighbours": lambda: plots.neighbour_figure(tables()),
    "scores": lambda: plots.neighbour_scores(
        {"prompt": [0.9, 0.8], "random": torch.tensor([0.1, 0.2])}
    ),
    "gap": lambda: plots.gap_figure(gaps()),
    "search": lambda: plots.search_figure(
        LOSSES, reading.trajectory(walk(WORDS), WORDS, TOKENIZER), {"soft prompt": [2.0, 1.0]}
    ),
    "wayward": lambda: plots.wayward_figure(wayward(), 0.1),
    "trajectory": lambda: plots.trajectory_figure(
        *way(), reading.similarity_to_start(walk(WORDS)), explained=(0.5, 0.25)
    ),
    "shares": lambda: plots.answer_shares(SHARES),
    "animation": lambda: plots.animate_trajectory(*way()),
}


@pytest.mark.parametrize("name", list(FIGURES))
def test_a_figure_shows_itself_as_a_small_png_with_alt_text(name):
    settings = dict(mpl.rcParams)
    figure = FIGURES[name]()
    data, metadata = DisplayFormatter().format(figure)
    picture, alt = image_in(data["text/html"])
    assert picture.format == "PNG"
    assert len(figure.png()) < 80_000
    assert alt == data["text/plain"] == figure.alt
    assert not metadata
    assert len(figure.alt.split()) > 8
    assert dict(mpl.rcParams) == settings, "the style must not leak"


def test_nbconvert_keeps_the_alt_text_and_the_dark_theme_without_a_network():
    exporter = pytest.importorskip("nbconvert").HTMLExporter(theme="dark")
    data, _ = DisplayFormatter().format(figure := FIGURES["training"]())
    output = nbformat.v4.new_output("display_data", data=data)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])
    page, _ = exporter.from_notebook_node(notebook)
    assert '<body class="jp-Notebook" data-jp-theme-light="false"' in page
    assert ":is([data-jp-theme-light=false]" in page
    pictures = Pictures(page).found
    assert [(image["class"], image["alt"]) for image in pictures] == [
        ("softprompt-figure", figure.alt)
    ]


def test_the_same_figure_gives_the_same_bytes():
    assert FIGURES["training"]().png() == FIGURES["training"]().png()


LABELLED = ["training", "accuracy", "wording", "norms", "scores", "trajectory", "shares"]
LABELLED += ["norm quantiles", "words by step", "movement"]


@pytest.mark.parametrize("name", LABELLED)
def test_axes_are_labelled(name):
    axes = FIGURES[name]().axes
    assert all(ax.get_xlabel() for ax in axes if ax.get_subplotspec().is_last_row())


def test_no_pyplot_state_is_left():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    FIGURES["training"]()
    assert plt.get_fignums() == before


def test_the_training_curve_shows_what_it_is_given():
    figure = plots.training_curve(LOSSES, EVALUATIONS, 0.53)
    steps, held_out = figure.axes[0].lines  # no mean of one step
    assert steps.get_xydata().tolist() == [[1, 3.0], [2, 2.0], [3, 1.5], [4, 1.25]]
    assert held_out.get_xydata().tolist() == [[0, 3.0], [4, 1.5]]
    accuracy, majority = figure.axes[1].lines
    assert accuracy.get_ydata().tolist() == [0.5, 0.875]
    assert list(majority.get_ydata()) == [0.53, 0.53]
    assert "from 3.00 to 1.25" in figure.alt
    assert "50% to 88%" in figure.alt
    with pytest.raises(ValueError, match="no losses"):
        plots.training_curve([])


def test_shares_stand_side_by_side_and_are_told():
    figure = FIGURES["shares"]()
    upper, lower = figure.axes
    assert [text.get_text() for text in upper.texts] == ["90%", "10%", "40%", "60%"]
    assert [label.get_text() for label in lower.get_xticklabels()] == ["delivery", "bill", "other"]
    shades = [sum(patch.get_facecolor()[:3]) for patch in lower.patches]
    assert shades == sorted(shades), "a likelier label is darker"
    assert "complaints, no prompt: no complaint 60%" in figure.alt


def test_the_mean_of_the_last_steps():
    figure = plots.training_curve(list(range(40)))
    smooth = figure.axes[0].lines[1].get_ydata()
    assert smooth[:3].tolist() == [0.0, 0.5, 1.0]
    assert smooth[-1] == pytest.approx(np.mean([36, 37, 38, 39]))


def intervals_of(ax) -> list[list[float]]:
    """The two ends of every interval on some axes."""
    segments = [segment for part in ax.collections for segment in part.get_segments()]
    return [segment[:, 0].tolist() for segment in segments if len(segment)]


def test_intervals_and_the_majority_are_drawn():
    figure = FIGURES["accuracy"]()
    assert [0.55, 0.65] in intervals_of(figure.axes[0])
    assert [0.53, 0.53] in [list(line.get_xdata()) for line in figure.axes[0].lines]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [
        "words",
        "trained",
        "mean",
        "later",
    ]
    assert "trained 90.0%" in figure.alt


def test_what_is_not_known_yet_has_its_place():
    figure = FIGURES["accuracy"]()
    assert [text.get_text() for text in figure.axes[0].texts][-1] == "?"
    assert figure.alt.endswith("later not known yet; majority 53.0%; human rater 95.0%.")


def test_margins_stand_by_their_true_label():
    figure = FIGURES["margins"]()
    assert (
        figure.alt == "Histograms of log odds; means: no -0.93, yes 1.75; borders: as asked 0.00."
    )
    assert figure.axes[0].get_legend_handles_labels()[1] == [
        "no (n = 3)",
        "yes (n = 2)",
        "as asked",
    ]


def test_kinds_differ_by_marker_too():
    figure = FIGURES["accuracy"]()
    markers = [
        line.get_marker() for line in figure.axes[0].lines if line.get_marker() not in ("", "None")
    ]
    assert len(set(markers[:3])) == 3


def test_gaps_are_drawn_with_their_intervals_beside_the_words():
    figure = FIGURES["gap"]()
    accuracy, lost, _ = figure.axes
    names = [label.get_text() for label in accuracy.get_yticklabels()]
    assert names == ["prompt", "prompt's words, cosine", "no prompt"]
    assert [0.2, 0.4] in intervals_of(lost)
    assert [0, 0] in [list(line.get_xdata()) for line in lost.lines]
    assert r"the \$5 parcel" in [text.get_text() for text in figure.axes[2].texts]
    assert "prompt's words, cosine: loss 0.80, accuracy 60.0%" in figure.alt


def test_a_changed_word_is_shaded():
    way = pd.DataFrame(
        {"step": [0, 0, 5, 5], "virtual_token": [0, 1, 0, 1], "token": ["a", "b", "a", "c"]}
    )
    figure = plots.search_figure(LOSSES, way, {"soft prompt": [2.0, 1.0]})
    left, right = figure.axes
    white = mpl.colors.to_rgba("white")
    assert [patch.get_facecolor() == white for patch in right.patches] == [True, True, True, False]
    assert [line.get_label() for line in left.lines] == ["words", "soft prompt"]
    assert "words 3.00 to 1.25; soft prompt 2.00 to 1.00" in figure.alt
    assert figure.alt.endswith("the last ones are a c.")


def test_gammas_stand_among_their_controls():
    figure = FIGURES["wayward"]()
    accuracy, share, _ = figure.axes
    levels = {
        line.get_label(): line.get_ydata()[0]
        for line in accuracy.lines
        if line.get_label()[0] != "_"
    }
    assert levels == {
        "trained": 0.9,
        "the text itself": 0.6,
        "random vectors": 0.5,
        "no prompt": 0.45,
        "majority": 0.7,
        "human rater": 0.95,
    }
    assert share.lines[0].get_ydata().tolist() == [0.0, 0.75]
    assert [patch.get_x() for patch in share.patches] == pytest.approx([0.65])
    assert "gamma 0.1: accuracy 85.0%, 75% of the words" in figure.alt
    assert not plots.wayward_figure(wayward()).axes[1].patches
    few = plots.wayward_figure(wayward().assign(n=199))
    assert few.axes[0].get_title(loc="left").startswith("loss")
    assert "n = 199 rows" in few.legends[0].get_title().get_text()


def test_gaps_of_few_rows_are_those_of_the_loss_and_equal_words_are_one_line():
    table = gaps()
    same = table.iloc[[1]].assign(metric="l2")
    figure = plots.gap_figure(pd.concat([table[:2], same, table[2:]], ignore_index=True))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["prompt", "prompt's words, cosine = l2", "no prompt"]
    assert {"majority", "human rater"} <= {line.get_label() for line in figure.axes[0].lines}
    few = plots.gap_figure(table.assign(n=199))
    assert [ax.get_xlabel() for ax in few.axes] == ["loss gained\n(nats a token)"]
    assert "n = 199 rows" in few.get_supxlabel()


def test_there_are_no_half_steps():
    """On the axes of a short training."""
    way = pd.DataFrame({"step": [0, 2], "virtual_token": [0, 0], "token": ["a", "b"]})
    axes = [*plots.training_curve([3.0, 2.0], [EVALUATIONS[0], EVALUATIONS[1] | {"step": 2}]).axes]
    axes += plots.search_figure([3.0, 2.0], way, {}).axes[:1]
    for ax in axes:
        assert all(tick == round(tick) for tick in ax.get_xticks())


def test_penalties_are_drawn_beside_the_loss():
    figure = plots.training_curve(LOSSES, penalties=[1.0, 0.5, 0.25, 0.125])
    assert figure.axes[0].lines[1].get_ydata().tolist() == [1.0, 0.5, 0.25, 0.125]
    assert "the penalty from 1.00 to 0.12" in figure.alt


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_diagram_says_what_a_tokenizer_and_the_mask_say(side):
    figure = plots.concatenation_diagram(2, [3, 1], [1, 1], padding_side=side)
    embeddings, mask, labels = ([text.get_text() for text in ax.texts] for ax in figure.axes)
    padded = ["pad", "pad", "y0"] if side == "left" else ["y0", "pad", "pad"]
    assert embeddings == ["p0", "p1", "x0", "x1", "y2", "p0", "p1", *padded]
    assert mask == ["0" if cell == "pad" else "1" for cell in embeddings]
    assert labels == [cell if cell.startswith("y") else "-100" for cell in embeddings]
    with pytest.raises(KeyError, match="'middle'"):
        plots.concatenation_diagram(2, [3], [1], padding_side="middle")


def test_the_neighbour_figure_holds_words_and_scores():
    frames = tables()
    figure = plots.neighbour_figure(frames, k=2)
    for ax, frame in zip(figure.axes, frames.values(), strict=True):
        cells = frame[frame["rank"] <= 2]
        expected = [text for row in cells.itertuples() for text in (row.token, f"{row.score:.2f}")]
        assert [text.get_text() for text in ax.texts] == expected


def test_a_nearer_word_is_darker_by_any_metric():
    for metric in reading.METRICS:
        frame = reading.nearest_tokens(WORDS[:4] + 0.1, WORDS, TOKENIZER, 3, metric)
        ax = plots.neighbour_figure({"prompt": frame}, metric=metric).axes[0]
        shade = [sum(patch.get_facecolor()[:3]) for patch in ax.patches]
        assert shade[0] <= shade[1] <= shade[2], metric


def test_words_by_step_mark_what_changed():
    rows = [
        (step, v, word)
        for v, words in enumerate(("aab", "ccc", "dec"))
        for step, word in enumerate(words)
    ]
    table = pd.DataFrame(rows, columns=["step", "virtual_token", "token"]).assign(kind="prompt")
    figure = plots.trajectory_words_figure(table)
    (ax,) = figure.axes
    bold = [text.get_text() for text in ax.texts if text.get_fontweight() == "bold"]
    assert bold == ["b", "e", "c"]  # row by row
    assert ax.get_title(loc="left").endswith("2 of 3 end at another word")
    assert "prompt: 2 of 3 end at another word than they start at: b c c." in figure.alt


def test_the_movement_of_a_prompt_and_of_its_controls():
    table = reading.trajectories_of(RUNS, WORDS, TOKENIZER)
    figure = plots.movement_figure(table)
    for ax, column in zip(figure.axes, ("norm", "distance", "cosine"), strict=True):
        for line, (_, own) in zip(ax.lines, table.groupby("kind", sort=False), strict=True):
            assert list(line.get_ydata()) == pytest.approx(
                own.groupby("step")[column].median().tolist()
            )
        assert len({line.get_linestyle() for line in ax.lines}) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "prompt",
        "other seed",
        "random walk",
    ]


def test_the_trajectory_figure_draws_every_path_and_the_median_cosine():
    figure = FIGURES["trajectory"]()
    left, right = figure.axes
    points, _ = way()
    paths = [line.get_xydata().tolist() for line in left.lines]
    for _, path in points.sort_values("step").groupby("virtual_token"):
        assert path[["x", "y"]].to_numpy().tolist() in paths
    assert left.get_xlabel() == "direction 1 (50%)"
    cosines = reading.similarity_to_start(walk(WORDS)).groupby("step")["cosine"].median()
    assert list(right.lines[-1].get_ydata()) == pytest.approx(cosines.tolist())
    assert f"the start ends at {cosines.iloc[-1]:.2f}." in figure.alt


def test_the_animation_ends_and_rests_on_the_last_snapshot():
    picture = Image.open(io.BytesIO(FIGURES["animation"]().png()))
    assert (
        picture.n_frames == 1 + 5
    )  # the picture for readers without animation, then five snapshots
    assert picture.info["loop"] == 2
    first = np.asarray(picture.convert("RGB"))
    picture.seek(picture.n_frames - 1)
    assert np.array_equal(first, np.asarray(picture.convert("RGB")))


def test_the_words_behind_an_animation_are_seen():
    """Their grey is in the picture, and drawn apart where the prompt goes so far that they are one point."""
    points, backdrop = way()
    grey = np.array(mpl.colors.to_rgb(GREY)) * 255
    for times, panels in ((1, 1), (100, 2)):
        moved = points.assign(x=times * points["x"], y=times * points["y"])
        figure = plots.animate_trajectory(moved, backdrop)
        assert len(figure.axes) == panels
        pixels = np.asarray(Image.open(io.BytesIO(figure.png())).convert("RGB"), dtype=float)
        assert (np.abs(pixels - grey).max(axis=-1) < 12).sum() > 100
    near = figure.axes[1]
    low, high = near.get_xlim()
    assert low <= backdrop["x"].min() < backdrop["x"].max() <= high
    assert "words of the vocabulary" in near.get_legend_handles_labels()[1]


def test_every_token_of_a_vocabulary_is_drawn_apart_from_every_other():
    """As itself or as its escape, never as a formula."""
    _, tokenizer = load_base_model("tiny")
    every = [reading.readable_token(number, tokenizer) for number in range(len(tokenizer))]
    shown = [drawable(word) for word in every]
    assert len({*shown}) == len(tokenizer)
    assert not any(mpl.cbook.is_math_text(word) for word in shown)
    assert [word.replace(r"\$", "$") for word in shown] == every


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("·late", "·late"),
        ("$5", r"\$5"),
        ("嗨", r"\u55e8"),
        ("🚚", r"\U0001f69a"),
        ("e\u0301", r"e\u0301"),  # a mark would change the letter before it
        ("\u05d0b", r"\u05d0b"),  # from right to left
        ("x" * 80, "x" * 59 + "…"),
    ],
)
def test_any_token_can_be_drawn(text, shown, recwarn):
    assert drawable(text) == shown
    assert not mpl.cbook.is_math_text(shown)
    figure = plots.wording_spread({text: 0.5, "other": 0.6})
    assert len(figure.png()) > 1000
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_kind_looks_the_same_in_every_panel():
    """A column with fewer kinds than the first one keeps the colours of the legend."""
    table = pd.DataFrame({"kind": list("ccdd"), "step": [0, 1, 0, 1], "a": [1, 2, 3, 4]})
    figure = plots.curves_figure(
        table.assign(b=[np.nan, np.nan, 5, 6]), "step", {"a": "A", "b": "B"}
    )
    first, second = figure.axes
    for one, other in zip(first.lines, second.lines, strict=True):
        assert one.get_color() == other.get_color()
    assert list(second.lines[1].get_ydata()) == [5, 6]
    assert "c A 2.00; d A 4.00, B 6.00" in figure.alt
