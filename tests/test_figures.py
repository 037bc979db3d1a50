"""Every figure at its worst sensible case: nothing cut, nothing on top of something else, all large enough to read."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from softprompt_lab import plots

RANDOM = np.random.default_rng(0)
LONG = [f"·{word}" for word in ("unbelievably", "WWWWWWWWWWWW", "internationalisation", "W")]
KINDS = ("prompt", "start", "random")
NAMES = ["zoo-tweets-of-a-company-seed0", "my own prompt, second attempt", "a", "b", "c", "d"]


def words(count: int) -> list[str]:
    """So many tokens, most of them long."""
    return [LONG[i % len(LONG)] for i in range(count)]


def neighbours(tokens: int, k: int) -> dict[str, pd.DataFrame]:
    """Tables of nearest tokens, of a prompt, its start and random vectors."""
    rows = pd.MultiIndex.from_product(
        [range(tokens), range(1, k + 1)], names=["virtual_token", "rank"]
    )
    frame = rows.to_frame(index=False).assign(token=words(len(rows)), score=-0.88)
    return dict.fromkeys(("prompt at step 2000", "start", "random vectors of its norms"), frame)


def by_step(tokens: int, steps: list[int]) -> pd.DataFrame:
    """What `trajectories_of` returns."""
    rows = pd.MultiIndex.from_product(
        [KINDS, steps, range(tokens)], names=["kind", "step", "virtual_token"]
    )
    numbers = {name: RANDOM.random(len(rows)) for name in ("norm", "distance", "cosine")}
    return rows.to_frame(index=False).assign(token=words(len(rows)), **numbers)


def points(tokens: int, steps: list[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A way in two dimensions, and words."""
    rows = pd.MultiIndex.from_product([steps, range(tokens)], names=["step", "virtual_token"])
    x, y = RANDOM.normal(size=(2, len(rows)))
    return rows.to_frame(index=False).assign(x=x, y=y), pd.DataFrame({"x": x, "y": y})


def measures(loss: float, change: float, accuracy: float, rows: int = 200) -> dict[str, float]:
    """The last columns of a probe's table."""
    ends = {
        f"{name}_{end}": change + side
        for name in ("loss", "accuracy")
        for end, side in (("low", -0.1), ("high", 0.1))
    }
    found = {"loss": loss, "accuracy": accuracy, "loss_change": change, "accuracy_change": change}
    return found | ends | {"n": rows, "majority": 0.55, "ceiling": 0.97}


def ablation(tokens: int, rows: int = 200) -> pd.DataFrame:
    """Every part of a prompt, its start and two draws."""
    kinds = [("prompt", pd.NA), ("start", pd.NA), ("random", 0), ("random", 1)]
    lines = [{"part": "nothing", "kind": "no prompt", **measures(4.0, 3.0, 0.5, rows)}]
    lines += [
        {"part": part, "virtual_token": at, "kind": kind, "draw": draw}
        | measures(1.0, 0.0123 * at, 0.9, rows)
        for part in ("without one", "one alone")
        for at in range(tokens)
        for kind, draw in kinds
    ]
    return pd.DataFrame(lines).astype({"virtual_token": "Int64", "draw": "Int64"})


def shuffling(orders: int) -> pd.DataFrame:
    """A prompt and random vectors in many orders."""
    lines = [{"kind": "no prompt", **measures(4.0, 3.0, 0.5)}]
    lines += [
        {"name": name, "kind": kind, **measures(1.0, 0.0001 * at, 0.9)}
        for kind in ("prompt", "random")
        for at, name in enumerate(["as trained", *[f"random {i}" for i in range(1, orders)]])
    ]
    return pd.DataFrame(lines)


def along(column: str, accuracy: float = 1.0) -> pd.DataFrame:
    """Eleven points of a prompt, its start and three draws."""
    kinds = [("prompt", pd.NA), ("random", 0), ("random", 1), ("random", 2)]
    lines = [{"kind": "no prompt", **measures(4.5, 3.5, 0.5)}]
    lines += [
        {
            column: at,
            "kind": kind,
            "draw": draw,
            **measures(0.0 if at == 1 else 1 + at, 0, accuracy),
        }
        for kind, draw in kinds
        for at in (0.1 if column == "at" else 0.5) * np.arange(11)
    ]
    return pd.DataFrame(lines).astype({"draw": "Int64"})


def board(lines: int) -> pd.DataFrame:
    """What the board shows; a loss and an accuracy of nothing."""
    kinds = ["prompt", "prompt", "start", "random", "random", "no prompt"]
    return pd.DataFrame(
        [
            {"name": f"{NAMES[0]}, {i}", "kind": kinds[i], **measures(i, i, i / (lines - 1))}
            for i in range(lines)
        ]
    )


def gap(rows: int) -> pd.DataFrame:
    """Replacements of a prompt, in many ways; one loses nothing."""
    said = " ".join(words(12))
    lines = [
        {"kind": f"words of kind {i}", "metric": "cosine", "text": said, "loss": i}
        | {"accuracy": i / rows, "low": i / rows, "high": i / rows, "gap": i / rows}
        | {"gap_low": 0, "gap_high": 0.5, "loss_gap": i, "loss_gap_low": 0, "loss_gap_high": 9}
        for i in range(rows + 1)
    ]
    return pd.DataFrame(lines).assign(n=200, majority=0.55, ceiling=0.97)


def wayward(rows: int = 200) -> pd.DataFrame:
    """Ten gammas and the controls."""
    gammas = [0, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0.3, 1.0]
    lines = [
        {"kind": "gamma", "gamma": gamma, "accuracy": 1 - i / 9, "share": i / 9, "distance": 9 - i}
        for i, gamma in enumerate(gammas)
    ]
    lines += [
        {"kind": kind, "accuracy": 0.2 * i, "share": 0.3 * i, "distance": float(i)}
        for i, kind in enumerate(("text", "random vectors", "no prompt"))
    ]
    ends = {"low": 0.2, "high": 0.8, "loss": 1.0, "n": rows, "majority": 0.55, "ceiling": 0.97}
    return pd.DataFrame(lines).assign(**ends)


def lens(layers: int, tokens: int) -> pd.DataFrame:
    """What `logit_lens` returns, with long words everywhere."""
    rows = [
        (kind, layer, place, at, LONG[at % 4], LONG[layer % 4], -0.1, layer > 3)
        for kind in ("prompt", "random")
        for layer in range(layers + 1)
        for place in ("virtual", "text")
        for at in range(tokens)
    ]
    names = ["kind", "layer", "place", "position", "token", "predicted", "log_probability"]
    return pd.DataFrame(rows, columns=[*names, "agrees"])


def heads(layers: int, each: int) -> pd.DataFrame:
    """Attention on the prompt by layer and head, and as a bias."""
    rows = pd.MultiIndex.from_product(
        [("prompt", "random", "start", "no prompt"), range(layers), range(each)],
        names=["kind", "layer", "head"],
    ).to_frame(index=False)
    found = {"mass": 0.3, "mass_sd": 0.1, "first": 0.3, "uniform": 0.4, "n": 64}
    return rows.assign(**found, bias=1.0, rest=rows["layer"] / 9, moved=0.1, error=1e-7)


def said(draws: int) -> pd.DataFrame:
    """What was read back, at length."""
    rows = [
        (f"kind {kind}", draw, template, " ".join(words(12)), kind / 5)
        for kind in range(6)
        for draw in range(draws)
        for template in ("copy", "summary")
    ]
    return pd.DataFrame(rows, columns=["kind", "draw", "template", "output", "task_words"])


def pairs(prompts: int) -> pd.DataFrame:
    """Similarities of all pairs of prompts."""
    names = [f"{NAMES[i % 6]} {i}" for i in range(prompts)]
    rows = [
        {"measure": "pooled cosine", "kind": kind, "first": a, "second": b, "value": -0.25}
        for kind in ("prompt", "its untrained start", "random")
        for i, b in enumerate(names)
        for a in names[: i + 1]
    ]
    return pd.DataFrame(rows)


def shares(tasks: int, prompts: int, labels: int) -> dict[str, pd.DataFrame]:
    """Answers of prompts in several tasks with long labels."""
    columns = [f"no complaint of kind {i}" for i in range(labels)]
    table = pd.DataFrame(1 / labels, index=NAMES[:prompts], columns=columns)
    return {f"task {i} of a long name": table for i in range(tasks)}


def history(steps: int, every: int) -> list[dict[str, float]]:
    """Evaluations with an accuracy of nothing at first and of everything at last."""
    at = [*range(0, steps + 1, every)]
    return [{"step": step, "loss": 3.0 - i, "accuracy": i % 2} for i, step in enumerate(at)]


def long_history() -> list[dict[str, float]]:
    """Accuracies that fill the panel."""
    return [{"step": i, "loss": 2 - i / 99, "accuracy": i % 10 / 9} for i in range(0, 99, 3)]


def compared(rows: int) -> list[dict]:
    """Long labels, of many kinds, up to the ends of the scale."""
    return [
        {"label": f"{NAMES[i % 2]} {i}", "kind": f"kind {i % 6}"}
        | {"accuracy": i / (rows - 1), "low": i / (rows - 1), "high": i / (rows - 1)}
        for i in range(rows)
    ]


SIMILARITY = by_step(4, [0, 1, 2, 3])
WORST = {
    "neighbours of 100 virtual tokens": lambda: plots.neighbour_figure(neighbours(100, 3)),
    "10 neighbours": lambda: plots.neighbour_figure(neighbours(20, 10), k=10, metric="l2"),
    "scores": lambda: plots.neighbour_scores(dict(zip(NAMES, 6 * [[0.0, 1.0]], strict=True))),
    "one score": lambda: plots.neighbour_scores({"prompt": [0.5]}),
    "norms": lambda: plots.norms_histogram(
        RANDOM.gamma(2, size=900), {name: [0.01, 3.0] for name in NAMES}
    ),
    "equal norms": lambda: plots.norms_histogram(np.ones(9), {"start": [1.0]}),
    "marks": lambda: plots.marks_figure(
        by_step(100, [0]), {"norm": "share that is no longer", "cosine": "cosine"}
    ),
    "margins": lambda: plots.margins_figure(
        {name: RANDOM.normal(size=300) for name in NAMES[:2]},
        {NAMES[0]: -0.5, NAMES[1]: 0.5, NAMES[2]: 0.0},
        "log p(positive) - log p(negative), in nats",
        title="The wording tells tweets apart; its border is in the wrong place",
    ),
    "words by step": lambda: plots.trajectory_words_figure(by_step(100, [0, 500, 1000, 12000])),
    "words of one step": lambda: plots.trajectory_words_figure(by_step(1, [0])),
    "movement in 3 steps": lambda: plots.movement_figure(by_step(4, [0, 1, 2, 3])),
    "movement in 12,000 steps": lambda: plots.movement_figure(by_step(20, [*range(0, 12001, 100)])),
    "movement in one step": lambda: plots.movement_figure(by_step(4, [0, 1])),
    "trajectory": lambda: plots.trajectory_figure(
        *points(100, [0, 5, 12000]), by_step(100, [0, 5, 12000]), (0.5, 0.25)
    ),
    "trajectory of one step": lambda: plots.trajectory_figure(
        *points(1, [0, 1]), by_step(1, [0, 1]), (0.5, 0.0)
    ),
    "training in one step": lambda: plots.training_curve([3.0], history(1, 1), 0.5),
    "training in 3 steps": lambda: plots.training_curve([3.0, 2, 1], history(3, 3), 0.5, [1, 2, 3]),
    "training in 17 steps": lambda: plots.training_curve(17 * [2.0], history(17, 5)[:4]),
    "training in 99 steps": lambda: plots.training_curve(
        np.linspace(3, 2, 99), long_history(), 0.5, np.linspace(0, 3, 99)
    ),
    "training alone": lambda: plots.training_curve(np.linspace(3, 0, 12000)),
    "accuracy": lambda: plots.accuracy_comparison(compared(12), 0.5),
    "one accuracy": lambda: plots.accuracy_comparison(compared(2)[1:], 0.5),
    "wording": lambda: plots.wording_spread(
        {f"{' '.join(words(3))} {i}": i / 9 for i in range(10)}, 0.5, {NAMES[0]: 0.9, "b": 0.1}
    ),
    "shares of 6 tasks": lambda: plots.answer_shares(shares(6, 3, 3)),
    "shares of many labels": lambda: plots.answer_shares(shares(1, 6, 8)),
    "share of one": lambda: plots.answer_shares(shares(1, 1, 2)),
    "concatenation": lambda: plots.concatenation_diagram(20, [24, 3], [2, 1]),
    "small concatenation": lambda: plots.concatenation_diagram(1, [1], [1]),
    "bytes": lambda: plots.bytes_figure(
        bytes(range(256)) * 2, {"length of the header": 8, "header": 112, "numbers": 1_843_200}
    ),
    "one byte": lambda: plots.bytes_figure(b"a", {"all": 1}),
    "sizes": lambda: plots.sizes_figure(
        {f"{name} {10**i}": 10**i for i, name in enumerate(2 * NAMES)}
    ),
    "one size": lambda: plots.sizes_figure({"a": 1}),
    "a title of three lines": lambda: plots.sizes_figure(
        {"a": 999}, title=3 * "What MANY people would not have guessed is shown in this figure. "
    ),
    "one row of one token": lambda: plots.ablation_figure(ablation(1, 1), ["a"]),
    "animation": lambda: plots.animate_trajectory(*points(1, [0, 1])),
    "letters": lambda: plots.letters_figure(64, 100, 1024, 4096, 256000, 32),
    "ablation": lambda: plots.ablation_figure(ablation(20), words(20)),
    "ablation of 100": lambda: plots.ablation_figure(ablation(100), words(100)),
    "ablation of few rows": lambda: plots.ablation_figure(ablation(4, 20), words(4)),
    "shuffling": lambda: plots.shuffling_figure(shuffling(12)),
    "interpolation": lambda: plots.interpolation_figure(along("at"), NAMES[:2], at=1.0),
    "scaling": lambda: plots.scaling_figure(along("factor", 0.0)),
    "board": lambda: plots.board_figure(board(6)),
    "gap": lambda: plots.gap_figure(gap(12)),
    "search": lambda: plots.search_figure(
        12000 * [2.0],
        by_step(20, [*range(0, 12001, 1000)]).query("kind == 'prompt'"),
        {"free": [1]},
    ),
    "search of one step": lambda: plots.search_figure(
        [2.0], by_step(4, [0, 1]).query("kind == 'prompt'"), {NAMES[0]: [1.0]}
    ),
    "wayward": lambda: plots.wayward_figure(wayward(), 0.01),
    "wayward of few rows": lambda: plots.wayward_figure(wayward(20)),
    "lens": lambda: plots.lens_figure(lens(30, 20)),
    "attention": lambda: plots.attention_mass_figure(heads(30, 9)),
    "attention of two layers": lambda: plots.attention_mass_figure(heads(2, 2)),
    "bias": lambda: plots.attention_bias_figure(heads(30, 9)),
    "read back": lambda: plots.read_back_figure(said(3)),
    "similarities": lambda: plots.similarity_matrices(pairs(12), "pooled cosine"),
}

SHOWN = 900  # pixels that a notebook has for a figure on a screen of 1366

NAMED = re.compile(
    r"(?<![\d.])1 (virtual token|step|row|text|layer|head|prompt|snapshot|wording|order)s\b"
)


def seen(fig) -> list[Text]:
    """Draw a figure and return the texts in it: no tick labels beyond the axes, none of axes that are off."""
    FigureCanvasAgg(fig).draw()
    off = {text for ax in fig.axes if not ax.axison for text in ax.findobj(Text)}
    for ax in fig.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            off |= {t.label1 for t in ticks if not low - 1e-9 <= t.get_loc() <= high + 1e-9}
    return [
        text
        for text in fig.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in off
    ]


def said_over_another(texts: list[Text]) -> list[tuple[str, str]]:
    """Pairs of words that lie on one another, of those that are not slanted."""
    level = [text for text in texts if text.get_rotation() % 90 == 0]
    boxes = np.array([text.get_window_extent().padded(-1).extents for text in level])
    (left, low, right, high), (left2, low2, right2, high2) = boxes.T[:, :, None], boxes.T[:, None]
    on = (left < right2) & (left2 < right) & (low < high2) & (low2 < high)
    return [(level[i].get_text(), level[j].get_text()) for i, j in np.argwhere(np.triu(on, 1))]


def slanted_too_close(fig) -> bool:
    """Whether slanted names of ticks touch: the way between two of them, across, is less than a letter's height."""
    for ax in fig.axes:
        names = [
            text for text in ax.get_xticklabels() if text.get_rotation() % 90 and text.get_text()
        ]
        places = [text.get_transform().transform(text.get_position())[0] for text in names]
        for text, gap in zip(names, np.diff(places), strict=False):
            if gap * np.sin(np.radians(text.get_rotation())) < text.get_fontsize() * fig.dpi / 72:
                return True
    return False


def cut_markers(fig) -> list[str]:
    """Lines with a marker of which the edge of the axes leaves a part."""
    found = []
    for ax in fig.axes:
        for line in ax.lines:
            if (
                line.get_marker() in ("", "None", None)
                or not line.get_clip_on()
                or line.get_alpha() == 0
            ):
                continue
            places = line.get_transform().transform(line.get_xydata())
            radius = line.get_markersize() * fig.dpi / 144
            whole, gone = ax.bbox.padded(-radius), ax.bbox.padded(radius)
            if any(gone.contains(*at) and not whole.contains(*at) for at in places):
                found.append(line.get_label())
    return found


def under_a_legend(fig) -> list[str]:
    """Lines and bars that a legend within the axes lies on."""
    found = []
    for ax in fig.axes:
        if legend := ax.get_legend():
            box = Bbox(legend.get_window_extent())
            found += [
                artist.get_label()
                for artist in [*ax.lines, *ax.patches]
                if artist.get_path()
                .transformed(artist.get_transform())
                .intersects_bbox(box, filled=False)
            ]
    return found


@pytest.mark.parametrize("name", WORST)
def test_a_figure_at_its_worst_is_read(name):
    fig = WORST[name]()
    texts = seen(fig)
    page = fig.bbox.padded(1)
    outside = [
        text.get_text()
        for text in texts
        if not all(page.contains(*at) for at in text.get_window_extent().corners())
    ]
    assert not outside, "cut by the edge of the picture"
    assert not said_over_another(texts)
    assert not slanted_too_close(fig)
    shrunk = min(1, SHOWN / fig.bbox.width) * fig.dpi / 72
    assert min(text.get_fontsize() for text in texts) >= 8
    assert min(text.get_fontsize() for text in texts) * shrunk >= 9, "pixels of letters on a screen"
    assert not cut_markers(fig)
    assert not under_a_legend(fig)
    for ax in fig.axes:
        if ax.get_xlabel() in ("step", "layer", "head"):
            names = [text.get_text() for text in ax.get_xticklabels()]
            assert not any("." in name for name in names), "half a step"
    for text in [fig.alt, *(text.get_text() for text in texts)]:
        assert not NAMED.search(text), text


WIDGETS = {  # what a widget shows, of a usual size
    "scores": lambda: plots.neighbour_scores(dict(zip(NAMES, 6 * [[0.0, 1.0]], strict=True))),
    "neighbours": lambda: plots.neighbour_figure(neighbours(20, 3), tokens=12),
    "training": lambda: plots.training_curve([3.0, 2, 1], history(3, 3), 0.5),
    "interpolation": WORST["interpolation"],
    "wayward": WORST["wayward"],
    "board": WORST["board"],
    "answers of a task": lambda: plots.answer_shares(shares(1, 3, 3)),
    "answers of six tasks": lambda: plots.answer_shares(
        {f"task {i}": pd.DataFrame([[0.5, 0.5]] * 2, columns=["yes", "no"]) for i in range(6)}
    ),
}


@pytest.mark.parametrize("name", WIDGETS)
def test_the_picture_of_a_widget_leaves_room_for_its_controls(name):
    width, height = WIDGETS[name]().bbox.size
    assert height * min(1, 880 / width) <= 320
