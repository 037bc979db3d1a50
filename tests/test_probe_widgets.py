"""The ablation board and the way between two prompts without a front end, and in a browser."""

import asyncio

import pytest
import torch
from bag_of_words import bag_model, task_of_bytes
from browser import assert_fits, keep, picture_of, wait_for_another_picture, widget_of
from families import byte_tokenizer
from words import outputs_of

from softprompt_lab import reading
from softprompt_lab.runs.saved import SavedRun
from softprompt_lab.widgets import AblationBoard, PromptInterpolation, ablation_board

pytestmark = pytest.mark.slow

TASK = task_of_bytes()


@pytest.fixture
def board():
    made = AblationBoard(bag_model(inert=2), TASK, limit=3)
    made.fill()
    yield made
    made.close()


@pytest.fixture
def way():
    made = PromptInterpolation(run("one", 1), run("two", 2), limit=3)
    made.fill()
    yield made
    made.close()


def run(name: str, seed: int, rows: int = 4) -> SavedRun:
    """A run whose prompt is made of word vectors."""
    return SavedRun(name, bag_model(rows, seed=seed), TASK, {}, None, {})


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
        assert "softprompt-old" in board.picture._dom_classes
    board.toggles[1].value = False
    assert "2 of 4 virtual tokens" in board.status.value


# --- the way ------------------------------------------------------------------------------------------------


def test_the_way_opens_at_the_first_prompt_and_ends_at_the_second(way):
    table = reading.interpolation(bag_model(), TASK, *ends(), 9, limit=3, draws=1)
    own = table[table["kind"] == "prompt"].set_index("at")
    seen = []
    for at in (0.0, 0.5, 1.0):
        way.at.value = at
        assert f"At {at:.3g} of the way: loss {own.loc[at, 'loss']:.3f}" in way.status.value
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


def test_the_way_grows_while_it_is_measured(monkeypatch):
    """In an event loop, as in a kernel: the ends first; nothing is measured twice."""
    seen, asked = [], []
    evaluate = reading.comparison.evaluate
    monkeypatch.setattr(
        reading.comparison,
        "evaluate",
        lambda *given, **more: asked.extend(more["prompts"]) or evaluate(*given, **more),
    )

    async def kernel():
        made = PromptInterpolation(run("one", 1), run("two", 2), limit=3)
        made.fill()
        while not seen or "so far" in seen[-1] or "Measuring" in seen[-1]:
            if made.status.value not in seen[-1:]:
                seen.append(made.status.value)
            await asyncio.sleep(0.001)
        made.close()

    asyncio.run(asyncio.wait_for(kernel(), 60))
    assert "Measuring both ends" in seen[0]
    assert len(asked) == 2 * 9 - 1 + 1, "both ways from one end, and no prompt"


def test_after_a_failure_the_way_is_measured_again(monkeypatch):
    """In a thread too: the sentence is shown once, and the next move tries again."""
    measure = reading.interpolation

    def fail(*given, **more):
        monkeypatch.setattr(reading, "interpolation", measure)
        raise RuntimeError("no <room> left")

    monkeypatch.setattr(reading, "interpolation", fail)

    async def kernel():
        made = PromptInterpolation(run("one", 1), run("two", 2), limit=3)
        made.fill()
        while "no &lt;room&gt; left" not in made.status.value:
            await asyncio.sleep(0.001)
        made.at.value = 0.5
        while "At 0.5 of the way" not in made.status.value or "so far" in made.status.value:
            await asyncio.sleep(0.001)
        made.close()

    asyncio.run(asyncio.wait_for(kernel(), 60))


def test_two_shapes_have_no_way_between_them():
    with pytest.raises(ValueError, match=r"shapes \(4, 32\) and \(3, 32\); they must be one"):
        PromptInterpolation(run("one", 1), run("two", 2, rows=3))


# --- both ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["board", "way"])
def test_the_picture_is_kept_and_closed_is_closed(name, request):
    widget = request.getfixturevalue(name)
    assert widget.picture.value in outputs_of(widget)[-1]["text/html"]
    widget.close()
    before = shown(widget)
    control = widget.controls.children[0]
    control.value = False if name == "board" else 1.0
    assert shown(widget) == before


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
    assert_fits(page, widget)
    keep(page, "ablation_board_inverted")


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
@pytest.mark.timeout(900)
def test_the_way_is_gone_by_keyboard_and_mouse(lab):
    page = lab.run(
        "way",
        "from bag_of_words import bag_model, task_of_bytes\n"
        "from softprompt_lab.widgets import PromptInterpolation\n"
        "PromptInterpolation(bag_model(), bag_model(seed=2), task_of_bytes())",
    )
    widget = widget_of(page)
    widget.get_by_text("At 0 of the way").wait_for()
    assert "between two prompts" in widget.locator("img").get_attribute("alt")
    keep(page, "interpolation_at_the_first")

    before, slider = picture_of(widget), widget.get_by_label("way from")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    widget.get_by_text("At 0.5 of the way").wait_for()
    wait_for_another_picture(page, widget, before)
    keep(page, "interpolation_in_the_middle")

    before, place = picture_of(widget), slider.bounding_box()
    page.mouse.click(place["x"] + place["width"] - 3, place["y"] + place["height"] / 2)
    widget.get_by_text("At 1 of the way").wait_for()
    wait_for_another_picture(page, widget, before)
    before = picture_of(widget)
    widget.get_by_label("turn instead of going straight").check()
    wait_for_another_picture(page, widget, before)
    assert widget.locator("[role=alert]").count() == 0
    assert_fits(page, widget)
    keep(page, "interpolation_turned")
