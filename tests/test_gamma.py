"""The gamma slider without a front end, and in a browser."""

import pandas as pd
import pytest
import torch
from browser import assert_fits, keep, picture_of, wait_for_another_picture, widget_of
from test_checkpoints import fresh, rows

from softprompt_lab import LabError, reading
from softprompt_lab.embedding import text_start
from softprompt_lab.runs import zoo
from softprompt_lab.runs.saved import SavedRun
from softprompt_lab.widgets import GammaSlider

pytestmark = pytest.mark.slow

TEXT = "abc"


def prompts_of(model) -> dict:
    """On the way from the model's own prompt to the text, by the share of the text."""
    target = text_start(TEXT, model.tokenizer, model.word_embeddings_module, 4)
    return {
        share: (1 - share) * model.prompt.detach() + share * target for share in (1.0, 0.0, 0.999)
    }


@pytest.fixture(scope="module")
def model():
    return fresh()


def runs_of(model) -> list[SavedRun]:
    """The prompts of `prompts_of` as runs: the free one first."""
    made = []
    for gamma, prompt in sorted(prompts_of(model).items()):
        own = fresh()
        with torch.no_grad():
            own.prompt.copy_(prompt)
        record = {"towards": TEXT, "gamma": gamma} if gamma else {}
        made.append(SavedRun(f"gamma {gamma:g}", own, rows(), {}, None, record))
    return made


@pytest.fixture
def slider(model):
    free, *drawn = runs_of(model)
    made = GammaSlider(free, drawn)
    made.fill()
    yield made
    made.close()


def test_it_opens_at_the_least_gamma_and_says_what_was_measured(slider, model):
    table = reading.wayward_table(model, rows(), TEXT, prompts_of(model))
    assert [*slider.gamma.options.values()] == [0.0, 0.999, 1.0]
    assert slider.gamma.value == 0
    first, *_, bare = table.itertuples()
    assert (
        f"gamma 0: accuracy {first.accuracy:.1%} (95 % interval {first.low:.1%} to"
        in slider.status.value
    )
    assert f"mean squared distance {first.distance:.2g}" in slider.status.value
    assert f"no prompt {bare.accuracy:.1%}" in slider.status.value
    assert 'alt="Likeness to the text over gamma. gamma 0: accuracy' in slider.picture.value


def test_a_move_changes_words_distances_and_picture(slider, model):
    before = slider.table.value, slider.picture.value
    slider.gamma.value = 1.0
    assert slider.table.value != before[0]
    assert slider.picture.value != before[1]
    assert (
        "100% of the nearest words are the text&#x27;s, mean squared distance 0"
        in slider.status.value
    )
    shown = slider.current()
    assert (
        shown["word of the text"].tolist() == shown["nearest word"].tolist() == ["a", "b", "c", "a"]
    )
    assert shown["distance from it"].tolist() == pytest.approx([0] * 4, abs=1e-5)
    slider.gamma.value = 0.999
    away = (prompts_of(model)[0.999] - prompts_of(model)[1.0]).norm(dim=-1)
    assert slider.current()["distance from it"].tolist() == pytest.approx(away.tolist())


def test_what_was_measured_once_is_not_measured_again(slider, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("measured again")

    monkeypatch.setattr(reading, "wayward_table", refuse)
    slider.gamma.value = 1.0
    assert "alert" not in slider.status.value


def test_an_error_is_shown_in_the_widget(slider, monkeypatch):
    def fail(*args):
        raise RuntimeError("no <room> left")

    monkeypatch.setattr(reading, "nearest_tokens", fail)
    slider.gamma.value = 1.0
    assert slider.status.value == '<p role="alert">RuntimeError: no &lt;room&gt; left</p>'


def test_the_slider_has_a_label_and_closing_stops_it(slider):
    assert slider.gamma.description == "gamma"
    slider.close()
    shown = slider.table.value
    slider.gamma.value = 1.0
    assert slider.table.value == shown
    slider.close()  # twice is once


def test_prompts_that_were_not_drawn_to_one_text_are_refused(model):
    free, one, other = runs_of(model)
    other.record["towards"] = "def"
    for drawn in ([], [free], [one, other]):
        with pytest.raises(LabError, match=r"no prompts that were drawn towards one text for"):
            GammaSlider(free, drawn)


def test_the_zoo_ships_what_the_slider_shows():
    """Nothing is measured: every gamma of the folders is a line of the table, with the folder's own accuracy."""
    table = pd.read_csv(zoo.FOLDER / "tweets-seed0" / "wayward.csv")
    lines = table[table["kind"] == "gamma"].set_index("gamma")
    drawn = {name: record for name, record in zoo.records("tweets").items() if "towards" in record}
    assert sorted(lines.index) == [0, *sorted(record["gamma"] for record in drawn.values())]
    for record in drawn.values():
        shipped = lines.loc[record["gamma"], "accuracy"]
        assert shipped == pytest.approx(record["trained"]["accuracy"], abs=0.003)
    assert set(table["kind"]) == {"gamma", "text", "random vectors", "no prompt"}
    assert (table["n"] == 400).all()


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
@pytest.mark.timeout(900)
def test_the_slider_is_moved_by_mouse_and_keyboard(lab):
    page = lab.run(
        "gamma",
        "from test_checkpoints import fresh\n"
        "from test_gamma import runs_of\n"
        "from softprompt_lab.widgets import GammaSlider\n"
        "free, *drawn = runs_of(fresh())\n"
        "GammaSlider(free, drawn)",
    )
    widget = widget_of(page)
    widget.get_by_text("gamma 0: accuracy").wait_for()
    keep(page, "gamma_0")
    before = picture_of(widget)

    handle = widget.get_by_label("gamma")
    handle.focus()
    page.keyboard.press("ArrowRight")
    widget.get_by_text("gamma 0.999: accuracy").wait_for()
    wait_for_another_picture(page, widget, before)
    assert "word of the text" in widget.locator("table").inner_text()
    keep(page, "gamma_0.1")

    before = picture_of(widget)
    place = handle.bounding_box()
    page.mouse.click(place["x"] + place["width"] - 3, place["y"] + place["height"] / 2)
    widget.get_by_text("gamma 1: accuracy").wait_for()
    wait_for_another_picture(page, widget, before)
    assert widget.locator("[role=alert]").count() == 0
    assert_fits(page, widget)
    keep(page, "gamma_100")
