"""The ablation board and the way between two prompts without a front end, and in a browser."""

import pytest
import torch
from bag_of_words import bag_model, task_of_bytes
from browser import keep, picture_of, wait_for_another_picture, widget_of
from families import byte_tokenizer
from IPython.core.formatters import DisplayFormatter
from pictures import image_in

from softprompt_lab import reading
from softprompt_lab.widgets import AblationBoard, PromptInterpolation, ablation_board

pytestmark = pytest.mark.slow

TASK = task_of_bytes()
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def board():
    made = AblationBoard(bag_model(inert=2), TASK, limit=3)
    yield made
    made.close()


@pytest.fixture
def way():
    made = PromptInterpolation(bag_model(), TASK, *ends(), ("one", "two"), points=3, limit=3)
    yield made
    made.close()


def ends() -> tuple[torch.Tensor, torch.Tensor]:
    """Two prompts of word vectors."""
    return bag_model().prompt.detach(), bag_model(seed=2).prompt.detach()


def shown(widget) -> tuple[str, str]:
    """The picture and the words of a widget."""
    return widget.picture.value, widget.status.value


# --- the board ----------------------------------------------------------------------------------------------


def test_the_board_opens_with_the_whole_prompt_named_by_its_nearest_words(board):
    model = bag_model(inert=2)
    nearest = reading.nearest_tokens(model.prompt, model.word_embeddings, model.tokenizer, 1)
    assert [toggle.description for toggle in board.toggles] == [
        f"{row.virtual_token}: {row.token}" for row in nearest.itertuples()
    ]
    assert [button.description for button in board.controls.children[4:]] == [
        "all",
        "none",
        "invert",
    ]
    assert (board.current()["loss_change"].head(3) == 0).all()
    assert "4 of 4 virtual tokens" in board.status.value
    assert "3 rows of validation" in board.status.value
    assert 'aria-live="polite"' in board.status.value
    assert 'alt="Loss and accuracy of whole prompt' in board.picture.value
    assert "(n = 3 rows; lines through marks are 95 % intervals)" in board.picture.value


def test_the_board_says_what_ablation_says(board):
    table = reading.ablation(bag_model(inert=2), TASK, limit=3, draws=1)
    part = table[table["part"] == "without one"].set_index(["kind", "virtual_token"])
    before = shown(board)
    board.toggles[1].value = False
    found = board.current().set_index("name")
    for kind, name in (
        ("prompt", "3 of 4 virtual tokens"),
        ("random", "random vectors where they are off"),
    ):
        for measure in ("loss", "loss_change", "accuracy", "loss_low", "loss_high"):
            assert found.loc[name, measure] == pytest.approx(
                part.loc[(kind, 1), measure], abs=1e-4
            ), kind
    assert "3 of 4 virtual tokens" in board.status.value
    assert shown(board) != before
    with_inert = found.loc["3 of 4 virtual tokens", "loss"]
    board.toggles[2].value = False
    assert board.current()["loss"].iloc[1] == pytest.approx(with_inert, abs=1e-6), (
        "virtual token 2 is inert"
    )


def test_a_button_sets_every_box(board, monkeypatch):
    board.none.click()
    assert [toggle.value for toggle in board.toggles] == [False] * 4
    assert board.current().iloc[1]["loss"] == board.current().iloc[3]["loss"], (
        "with none on it is no prompt"
    )
    board.toggles[3].value = True
    board.invert.click()
    assert [toggle.value for toggle in board.toggles] == [True, True, True, False]
    monkeypatch.setattr(ablation_board, "evaluate", None)
    board.invert.click()
    board.invert.click()
    assert "alert" not in board.status.value, "what was measured once is not measured again"


def test_an_error_is_shown_on_the_board(board, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no <room> left")

    with monkeypatch.context() as patch:
        patch.setattr(ablation_board, "evaluate", fail)
        board.toggles[0].value = False
        assert board.status.value == '<p role="alert">RuntimeError: no &lt;room&gt; left</p>'
        assert board.picture.value == ""
    board.toggles[1].value = False
    assert "2 of 4 virtual tokens" in board.status.value


# --- the way ------------------------------------------------------------------------------------------------


def test_the_way_opens_at_the_first_prompt_and_ends_at_the_second(way):
    table = reading.interpolation(bag_model(), TASK, *ends(), 3, limit=3, draws=1)
    own = table[table["kind"] == "prompt"].set_index("at")
    seen = []
    for at in (0.0, 0.5, 1.0):
        way.at.value = at
        assert f"At {at:.2f} of the way: loss {own.loc[at, 'loss']:.3f}" in way.status.value
        words = reading.nearest_tokens(
            reading.between(*ends(), at), bag_model().word_embeddings, byte_tokenizer(), 1
        )
        assert way.words()["here"].equals(words)
        seen.append(shown(way))
    assert len(set(seen)) == 3
    assert way.table.value.count("<table") == 4
    assert "random way" in way.table.value
    assert way.at.description == "way from one to two"


def test_turning_is_measured_once_and_shown(way, monkeypatch):
    straight = shown(way)
    way.at.value = 0.5
    before = way.words()["here"]
    way.spherical.value = True
    assert not way.words()["here"].equals(before)

    def refuse(*args, **kwargs):
        raise AssertionError("measured again")

    monkeypatch.setattr(reading, "interpolation", refuse)
    way.spherical.value = False
    way.at.value = 0.0
    assert shown(way) == straight


@pytest.mark.parametrize("change", [{"points": 1}, {"second": torch.zeros(3, 32)}])
def test_a_way_that_cannot_be_gone_says_so(change):
    first, second = ends()
    way = PromptInterpolation(bag_model(), TASK, **{"first": first, "second": second} | change)
    assert 'role="alert">ValueError: ' in way.status.value
    way.close()


# --- both ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["board", "way"])
def test_without_a_front_end_the_output_is_the_static_figure(name, request):
    widget = request.getfixturevalue(name)
    data, _ = DisplayFormatter().format(widget)
    assert data[VIEW]["model_id"] == widget.model_id
    picture, alt = image_in(data["text/html"])
    assert picture.width > 300
    assert alt == data["text/plain"] == widget.static_figure().alt
    widget.close()
    before = shown(widget)
    control = widget.controls.children[0]
    control.value = False if name == "board" else 1.0
    assert shown(widget) == before, "closed is closed"


# --- in a browser -------------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
@pytest.mark.timeout(900)
def test_virtual_tokens_are_switched_by_mouse_and_keyboard(lab):
    page = lab.run(
        "board",
        "from bag_of_words import bag_model, task_of_bytes\n"
        "from softprompt_lab.widgets import AblationBoard\n"
        "AblationBoard(bag_model(inert=2), task_of_bytes())",
    )
    widget = widget_of(page)
    boxes = widget.get_by_role("checkbox")
    assert boxes.count() == 4
    assert all(boxes.nth(place).is_checked() for place in range(4))
    keep(page, "ablation_board_whole")

    before = picture_of(widget)
    boxes.nth(0).click()
    widget.get_by_text("3 of 4 virtual tokens").wait_for()
    wait_for_another_picture(page, widget, before)

    before = picture_of(widget)
    boxes.nth(1).focus()
    page.keyboard.press("Space")
    widget.get_by_text("2 of 4 virtual tokens").wait_for()
    wait_for_another_picture(page, widget, before)
    keep(page, "ablation_board_two_off")

    before = picture_of(widget)
    widget.get_by_role("button", name="none").focus()
    page.keyboard.press("Enter")
    widget.get_by_text("0 of 4 virtual tokens").wait_for()
    wait_for_another_picture(page, widget, before)
    assert not any(boxes.nth(place).is_checked() for place in range(4))
    widget.get_by_role("button", name="invert").click()
    widget.get_by_text("4 of 4 virtual tokens").wait_for()
    assert widget.locator("[role=alert]").count() == 0
    keep(page, "ablation_board_inverted")


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
@pytest.mark.timeout(900)
def test_the_way_is_gone_by_keyboard_and_mouse(lab):
    page = lab.run(
        "way",
        "from bag_of_words import bag_model, task_of_bytes\n"
        "from softprompt_lab.widgets import PromptInterpolation\n"
        "first, second = bag_model().prompt, bag_model(seed=2).prompt\n"
        "PromptInterpolation(bag_model(), task_of_bytes(), first, second, ('seed 1', 'seed 2'), points=11)",
    )
    widget = widget_of(page)
    widget.get_by_text("At 0.00 of the way").wait_for()
    assert "between two prompts" in widget.locator("img").get_attribute("alt")
    keep(page, "interpolation_at_the_first")

    before, slider = picture_of(widget), widget.locator(".widget-slider")
    slider.locator(".noUi-handle").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    widget.get_by_text("At 0.50 of the way").wait_for()
    wait_for_another_picture(page, widget, before)
    keep(page, "interpolation_in_the_middle")

    before, place = picture_of(widget), slider.locator(".noUi-target").bounding_box()
    page.mouse.click(place["x"] + place["width"] - 1, place["y"] + place["height"] / 2)
    widget.get_by_text("At 1.00 of the way").wait_for()
    wait_for_another_picture(page, widget, before)
    before = picture_of(widget)
    widget.get_by_label("turn instead of going straight").check()
    wait_for_another_picture(page, widget, before)
    assert widget.locator("[role=alert]").count() == 0
    keep(page, "interpolation_turned")
