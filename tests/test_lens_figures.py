"""Figures of lens, attention and reading back: they show their tables, with the control beside, and say so in words."""

import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from pictures import image_in

from softprompt_lab import plots

pytestmark = pytest.mark.slow

KINDS = ("prompt", "random", "no prompt")


def lens_table() -> pd.DataFrame:
    """Two layers and the embeddings; the last text token of "prompt" has its word from layer 1 on, of others from 2."""
    rows = []
    for kind in KINDS:
        for layer in range(3):
            places = [("virtual", 0, ""), ("virtual", 1, "")] * (kind != "no prompt")
            settled = layer == 2 or (kind == "prompt" and layer == 1)
            found = (
                f"{kind[:2]}{2 if settled else layer}",
                np.log(0.25 * (layer + 1)),
                settled,
            )
            places += [("text", 0, "·so"), ("text", 1, ":")]
            rows += [(kind, layer, *place, 7, *found) for place in places]
    names = ["kind", "layer", "place", "position", "token", "token_id", "predicted"]
    return pd.DataFrame(rows, columns=[*names, "log_probability", "agrees"])


def mass_table() -> pd.DataFrame:
    """Three layers of two heads: the prompt gets 0.5, random vectors 0.2."""
    shares = {"prompt": 0.5, "random": 0.2, "no prompt": 0.0}
    rows = [
        (kind, layer, head, share + 0.1 * head * (share > 0), 0.01, 0.3, 0.4, 5)
        for kind, share in shares.items()
        for layer in range(3)
        for head in range(2)
    ]
    names = ["kind", "layer", "head", "mass", "mass_sd", "first", "uniform", "n"]
    return pd.DataFrame(rows, columns=names)


def bias_table() -> pd.DataFrame:
    """The bias is a quarter of the norms for the prompt, an eighth for random vectors."""
    rows = [
        (kind, layer, head, 0.3, bias, rest, 0.2 * layer, 1e-7)
        for kind, bias, rest in (("prompt", 1.0, 3.0), ("random", 1.0, 7.0))
        for layer in range(3)
        for head in range(2)
    ]
    names = ["kind", "layer", "head", "mass", "bias", "rest", "moved", "error"]
    return pd.DataFrame(rows, columns=names)


def said_table() -> pd.DataFrame:
    """Two templates; the task's own text is read back, the prompt is not."""
    slots = [("prompt", 0, 0.0), ("random", 0, 0.0), ("random", 1, 0.25), ("task text", 0, 1.0)]
    slots += [("no prompt", 0, np.nan)]
    rows = [
        (kind, draw, template, f"says ${kind} {template}", share)
        for kind, draw, share in slots
        for template in ("copy", "ask")
    ]
    return pd.DataFrame(rows, columns=["kind", "draw", "template", "output", "task_words"])


FIGURES = {
    "lens": lambda: plots.lens_figure(lens_table()),
    "mass": lambda: plots.attention_mass_figure(mass_table()),
    "bias": lambda: plots.attention_bias_figure(bias_table()),
    "read back": lambda: plots.read_back_figure(said_table()),
}


@pytest.mark.parametrize("name", list(FIGURES))
def test_a_figure_is_a_small_png_with_alt_text(name):
    figure = FIGURES[name]()
    data, _ = DisplayFormatter().format(figure)
    picture, alt = image_in(data["text/html"])
    assert picture.format == "PNG"
    assert len(figure.png()) < 60_000
    assert alt == figure.alt
    assert all(kind in figure.alt for kind in ("prompt", "random"))


def test_the_lens_figure_holds_words_and_says_when_they_settle():
    figure = FIGURES["lens"]()
    prompt, random = figure.axes[:2]
    assert [text.get_text() for text in prompt.texts] == ["pr2"] * 8 + ["pr0"] * 4
    assert [text.get_text() for text in random.texts] == ["ra2"] * 4 + ["ra1"] * 4 + ["ra0"] * 4
    assert [text.get_weight() for text in random.texts] == ["bold"] * 4 + ["normal"] * 8
    assert [label.get_text() for label in prompt.get_xticklabels()] == ["p0", "p1", "·so", ":"]
    shade = [sum(patch.get_facecolor()[:3]) for patch in prompt.patches]
    assert shade[0] < shade[4] < shade[8], "a likelier word is darker"
    assert (
        "prompt: the last place ends at pr2 (75%), its first choice from layer 1 on" in figure.alt
    )
    assert (
        "random: the last place ends at ra2 (75%), its first choice from layer 2 on" in figure.alt
    )


def test_the_mass_figure_shares_one_scale_and_names_the_sink():
    figure = FIGURES["mass"]()
    prompt, random, lines = figure.axes[:3]
    assert np.allclose(prompt.images[0].get_array(), [[0.5, 0.6]] * 3)
    assert np.allclose(random.images[0].get_array(), [[0.2, 0.3]] * 3)
    assert prompt.images[0].get_clim() == random.images[0].get_clim() == (0, pytest.approx(0.6))
    drawn = {line.get_label(): line.get_ydata() for line in lines.lines}
    assert list(drawn) == ["prompt", "random", "no prompt: first token", "all places alike"]
    assert drawn["prompt"] == pytest.approx([0.55] * 3)
    assert drawn["no prompt: first token"] == pytest.approx([0.3] * 3)
    (band,) = lines.collections
    assert band.get_paths()[0].get_extents().height == pytest.approx(0.02)
    assert "prompt 55.0% (first place alone 30.0%)" in figure.alt
    assert "all places alike would be 40.0%" in figure.alt


def test_the_bias_figure_draws_shares_of_the_norms():
    figure = FIGURES["bias"]()
    left, right = figure.axes
    assert left.lines[0].get_ydata() == pytest.approx([0.25] * 3)
    assert left.lines[1].get_ydata() == pytest.approx([0.125] * 3)
    assert right.lines[0].get_ydata() == pytest.approx([0, 0.2, 0.4])
    assert "holds to 1e-07" in figure.alt
    assert len({line.get_marker() for line in left.lines}) == 2


def test_the_read_back_figure_has_a_line_for_each_answer():
    figure = FIGURES["read back"]()
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.texts] == [
        rf"says \${row.kind} {row.template}" for row in said_table().itertuples()
    ]
    assert [line.get_xdata()[0] for line in ax.lines] == [0, 0, 0, 0, 0.25, 0.25, 1, 1, 0, 0]
    assert ax.get_yticklabels()[0].get_text() == "prompt, copy"
    assert ax.lines[0].get_marker() != ax.lines[2].get_marker()
    assert "random 12%" in figure.alt
