"""The gamma slider without a front end, and in a browser."""

import pytest
from browser import keep, picture_of, wait_for_another_picture, widget_of
from IPython.core.formatters import DisplayFormatter
from pictures import image_in
from test_checkpoints import fresh, rows

from softprompt_lab import reading
from softprompt_lab.embedding import text_start
from softprompt_lab.widgets import GammaSlider

pytestmark = pytest.mark.slow

TEXT = "abc"
VIEW = "application/vnd.jupyter.widget-view+json"


def prompts_of(model) -> dict:
    """On the way from the model's own prompt to the text, by the share of the text."""
    target = text_start(TEXT, model.tokenizer, model.word_embeddings_module, 4)
    return {
        share: (1 - share) * model.prompt.detach() + share * target for share in (1.0, 0.0, 0.999)
    }


@pytest.fixture(scope="module")
def model():
    return fresh()


@pytest.fixture
def slider(model):
    made = GammaSlider(model, rows(), TEXT, prompts_of(model))
    yield made
    made.close()


def test_it_opens_at_the_least_gamma_and_says_what_was_measured(slider, model):
    table = reading.wayward_table(model, rows(), TEXT, prompts_of(model))
    assert [value for _, value in slider.gamma.options] == [0.0, 0.999, 1.0]
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


def test_without_a_front_end_the_output_is_the_static_figure(slider):
    data, _ = DisplayFormatter().format(slider)
    assert data[VIEW]["model_id"] == slider.model_id
    picture, alt = image_in(data["text/html"])
    assert picture.width > 300
    assert alt == data["text/plain"] == slider.static_figure().alt


def test_the_slider_has_a_label_and_closing_stops_it(slider):
    assert slider.gamma.description == "gamma"
    slider.close()
    shown = slider.table.value
    slider.gamma.value = 1.0
    assert slider.table.value == shown
    slider.close()  # twice is once


def test_a_text_without_a_token_is_refused(model):
    with pytest.raises(ValueError, match="start text '' has no token"):
        GammaSlider(model, rows(), "", prompts_of(model))


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
@pytest.mark.timeout(900)
def test_the_slider_is_moved_by_mouse_and_keyboard(lab):
    page = lab.run(
        "gamma",
        "import torch\n"
        "from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_base_model, load_task\n"
        "from softprompt_lab.reading.wayward import train_wayward\n"
        "from softprompt_lab.widgets import GammaSlider\n"
        "base, tokenizer = load_base_model('tiny')\n"
        "task = load_task('shop', label_column='complaint')\n"
        "torch.manual_seed(0)\n"
        "config = PromptTuningConfig(8, prompt_tuning_init='SAMPLE_VOCAB')\n"
        "model = SoftPromptModel(base, config, tokenizer=tokenizer)\n"
        "text = 'What is the tone?'\n"
        "options = {'steps': 30, 'batch_size': 8, 'learning_rate': 0.1, 'progress': False}\n"
        "prompts = train_wayward(model, task, text, (0, 0.1, 100), **options)",
        "GammaSlider(model, task, text, prompts, limit=40)",
    )
    widget = widget_of(page)
    widget.get_by_text("gamma 0: accuracy").wait_for()
    keep(page, "gamma_0")
    before = picture_of(widget)

    handle = widget.locator(".widget-slider", has_text="gamma").locator(".noUi-handle")
    handle.focus()
    page.keyboard.press("ArrowRight")
    widget.get_by_text("gamma 0.1: accuracy").wait_for()
    wait_for_another_picture(page, widget, before)
    assert "·tone" in widget.locator("table").inner_text()
    keep(page, "gamma_0.1")

    before = picture_of(widget)
    place, track = handle.bounding_box(), widget.locator(".noUi-target").bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"], place["y"] + place["height"] / 2, steps=5)
    page.mouse.up()
    widget.get_by_text("gamma 100: accuracy").wait_for()
    wait_for_another_picture(page, widget, before)
    assert widget.locator("[role=alert]").count() == 0
    keep(page, "gamma_100")
