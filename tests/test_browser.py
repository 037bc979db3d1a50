"""The widgets in JupyterLab, in a real browser: shown, moved by mouse and keyboard, changed."""

import os
import sys
import time
from subprocess import run

import nbformat
import pytest
from browser import READY, assert_fits, keep, picture_of, wait_for_another_picture, widget_of

from softprompt_lab.course.checks import written

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
pytestmark += [pytest.mark.xdist_group("browser")]  # one at a time


def test_the_explorer_is_moved_by_keyboard(lab):
    page = lab.run(
        "explorer",
        "from words import walked, word_vectors\n"
        "from softprompt_lab.widgets import NeighbourExplorer\n"
        "NeighbourExplorer(walked(word_vectors(width=16)), k=3)",
    )
    widget = widget_of(page)
    table = widget.locator("table").first
    assert "Marks: cosine" in widget.locator("img").get_attribute("alt")
    assert "prompt at step 40" in table.inner_text()
    assert_fits(page, widget)
    keep(page, "explorer_at_the_end")
    before = picture_of(widget)

    widget.get_by_label("training step").focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    table.get_by_text("prompt at step 0").wait_for()
    assert picture_of(widget) != before
    assert "the 1.00" in table.inner_text()

    widget.get_by_label("metric").select_option("L2 distance")
    widget.get_by_text("Mean L2 distance").wait_for()
    widget.get_by_label("subtract the mean of the vocabulary").focus()
    page.keyboard.press("Space")
    widget.get_by_text("L2 distance (centred)").wait_for()
    assert widget.locator("[role=alert]").count() == 0
    keep(page, "explorer_at_the_start")


MODEL = """from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_base_model, load_task
base, tokenizer = load_base_model("tiny")
model = SoftPromptModel(base, PromptTuningConfig(num_virtual_tokens=4), tokenizer=tokenizer)
task = load_task("shop", label_column="urgent")
"""


def test_the_dashboard_is_paused_and_resumed_in_mid_training(lab):
    """By mouse and keyboard; a cell runs while it trains."""
    page = lab.run(
        "dashboard",
        MODEL + "from softprompt_lab.widgets import TrainingDashboard\n"
        "board = TrainingDashboard(model, task, steps=400, batch_size=4, evaluate_every=50, validation_rows=8)\n"
        "board",
        "print('rows:', len(task.test), 'running:', board.running)",
    )
    widget = widget_of(page)
    assert "Nearest tokens" in widget.locator("img").get_attribute("alt")
    names = ("Start", "Pause", "Stop", "Resume")
    button = {name: widget.get_by_role("button", name=name, exact=True) for name in names}
    assert button["Pause"].is_disabled()
    before = picture_of(widget)
    button["Start"].click()
    wait_for_another_picture(page, widget, before)
    widget.get_by_text("Running at step").wait_for()
    before = picture_of(widget)
    wait_for_another_picture(page, widget, before)  # by itself: nobody touches anything

    button["Pause"].focus()
    page.keyboard.press("Space")
    widget.get_by_text("Paused at step").wait_for()
    page.wait_for_timeout(3000)  # the step that was being computed ends
    keep(page, "dashboard_paused")
    paused, said = picture_of(widget), widget.locator("[aria-live=polite]").inner_text()
    page.wait_for_timeout(3000)
    assert picture_of(widget) == paused
    assert widget.locator("[aria-live=polite]").inner_text() == said

    button["Resume"].focus()
    page.keyboard.press("Enter")
    widget.get_by_text("Running at step").wait_for()
    page.locator(".jp-Notebook .jp-Cell").last.click()
    page.keyboard.press("Shift+Enter")  # the kernel answers another cell
    page.get_by_text("running: True").wait_for()
    wait_for_another_picture(page, widget, paused)
    keep(page, "dashboard_running")
    button["Stop"].click()
    widget.get_by_text("Ended at step").wait_for()
    page.wait_for_function(READY)
    assert button["Start"].is_enabled()
    assert widget.locator("[role=alert]").count() == 0
    assert_fits(page, widget)
    keep(page, "dashboard_ended")


def test_the_playground_answers_what_is_typed(lab):
    """Each key changes the picture; a box is ticked off by keyboard, and on again by mouse."""
    page = lab.run(
        "playground",
        MODEL + "model.add_prompt('other', PromptTuningConfig(num_virtual_tokens=2))\n"
        "from softprompt_lab.widgets import Playground\n"
        "Playground(model, task, text='where is my parcel ?')",
    )
    widget = widget_of(page)
    keep(page, "playground_opened")
    message = widget.get_by_label("message")
    message.focus()
    page.keyboard.press("Control+End")
    waits = []
    for key in " now":
        before, began = picture_of(widget), time.perf_counter()
        page.keyboard.press(key if key != " " else "Space")
        if key != " ":  # a space at the end changes no token
            wait_for_another_picture(page, widget, before)
            waits.append(1000 * (time.perf_counter() - began))
    print("milliseconds from a key to its picture:", ", ".join(f"{wait:.0f}" for wait in waits))
    line = widget.locator("table").get_by_text("other", exact=True)
    line.wait_for()
    before = picture_of(widget)
    widget.get_by_label("other").focus()
    page.keyboard.press("Space")
    line.wait_for(state="detached")
    wait_for_another_picture(page, widget, before)
    before = picture_of(widget)
    widget.get_by_label("other").click()
    line.wait_for()
    wait_for_another_picture(page, widget, before)
    assert widget.locator("[role=alert]").count() == 0
    assert_fits(page, widget)
    keep(page, "playground_typed")


CHECKS = """from softprompt_lab import concatenate_prompt, course, load_task
def stub(x, prompt):
    ...
course.check("02-1", stub)
def behind(x, prompt):
    return concatenate_prompt(x.flip(1), prompt).flip(1)
course.check("02-1", behind)
course.check("02-1", concatenate_prompt)
load_task("<b>$complain$</b>")"""
COLOURS = """card => {  // relative luminances of text and ground, the border
  const style = getComputedStyle(card), light = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b].map(c => c / 255).map(c => c <= .04 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
      .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  };
  return [light(style.color), light(style.backgroundColor), style.borderLeftColor];
}"""


def use_theme(page, theme):
    """Change JupyterLab's theme and wait for it."""
    page.evaluate(
        "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})",
        f"JupyterLab {theme}",
    )
    page.wait_for_selector(f"body[data-jp-theme-name='JupyterLab {theme}']", state="attached")
    page.wait_for_timeout(1000)  # its style sheet


def test_cards_of_checks_and_errors(lab):
    """Passed, failed and not attempted differ in words, icon and colour; an error is one card, its traceback folded."""
    page = lab.run("cards", CHECKS, "print('never', 'reached')")
    stopped = page.locator(".softprompt-stopped")
    stopped.wait_for()
    page.wait_for_function(READY)
    assert page.get_by_text("never reached").count() == 0  # "Run All" stops at an error
    cards = page.locator("[class^=softprompt-]")
    titles = ("○ Not attempted yet", "✗ Not yet", "✓ Passed", "✗ This cell stopped")
    for text, title in zip(cards.all_inner_texts(), titles, strict=True):
        assert text.startswith(title)
    for theme in ("Dark", "Light"):
        use_theme(page, theme)
        borders = set()
        for card in cards.all():
            text, ground, border = card.evaluate(COLOURS)
            dark, light = sorted((text, ground))
            assert (light + 0.05) / (dark + 0.05) >= 4.5
            assert (ground > 0.5) == (theme == "Light")
            borders.add(border)
        assert len(borders) == 4
        keep(page, f"cards_{theme.lower()}")
    assert "there is no task '<b>$complain$</b>'" in stopped.inner_text()
    assert page.get_by_text("LabError").filter(visible=True).count() == 1  # no second output
    trace = stopped.get_by_text("most recent call last")
    assert not trace.is_visible()
    stopped.locator("summary").focus()
    page.keyboard.press("Enter")
    trace.wait_for()
    assert "[0m" not in stopped.inner_text()
    keep(page, "cards_unfolded")


def test_a_figure_says_its_alt_text_and_follows_theme_and_width(lab):
    """In a notebook that was run, and in one of somebody else, whose HTML JupyterLab cleans."""
    page = lab.run(
        "figures",
        "from softprompt_lab import plots\n"
        "plots.training_curve([3.0, 2.0], [{'step': 2, 'loss': 2.0, 'accuracy': 1.0}])",
    )
    picture = page.locator(".jp-OutputArea-output img")
    look = "image => [image.width, image.naturalWidth, getComputedStyle(image).filter]"
    picture.wait_for()
    assert picture.get_attribute("alt").startswith("Line chart over 2 steps")
    assert picture.evaluate(look)[2] == "none"
    assert picture.evaluate("image => image.width <= image.parentElement.clientWidth")
    theme = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
    page.evaluate(theme, "JupyterLab Dark")
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    assert "invert" in picture.evaluate(look)[2]
    keep(page, "figure_dark")
    page.set_viewport_size({"width": 400, "height": 700})
    page.wait_for_function(
        "() => { const f = document.querySelector('.softprompt-figure').parentElement;"
        " return f.scrollWidth > f.clientWidth; }"
    )
    width, natural, _ = picture.evaluate(look)
    assert 0.69 * natural < width < natural
    page.evaluate(theme, "JupyterLab Light")
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")

    notebook = nbformat.read(lab.folder / "figures.ipynb", as_version=4)
    (output,) = notebook.cells[-1].outputs
    output.data["text/html"] = output.data["text/html"].replace('alt="', 'alt="Not mine. ')
    nbformat.write(notebook, lab.folder / "strange.ipynb")
    page = lab.browser.new_page()
    page.goto(f"{lab.address}/lab/tree/strange.ipynb?token={lab.token}&reset")
    picture = page.locator(".jp-OutputArea-output img")
    picture.wait_for()
    assert picture.get_attribute("alt").startswith("Not mine. Line chart over 2 steps")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    trusted = (
        "() => [...window.jupyterapp.shell.currentWidget.content.model.cells].map(c => c.trusted)"
    )
    assert page.evaluate(trusted)[-1] is False


WIDGETS = """from softprompt_lab.widgets import AblationBoard, NeighbourExplorer
from words import walked, word_vectors
NeighbourExplorer(walked(word_vectors(width=16)), k=3)"""


def test_on_the_second_day_the_last_picture_is_there(lab):
    """Saved, the kernel ended, opened again; and as a page of nbconvert, also one that was run with widgets' state."""
    page = lab.run("second", WIDGETS)
    widget = widget_of(page)
    assert page.locator(".softprompt-still:visible").count() == 0
    widget.get_by_label("metric").select_option("L2 distance")
    widget.get_by_text("Mean L2 distance").wait_for()
    page.wait_for_function(
        "document.querySelector('.softprompt-still').innerHTML.includes('Mean L2')"
    )
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    page.close()
    lab.shut_kernels_down()
    page = lab.open("second")
    kept = page.locator(".softprompt-still")
    kept.get_by_text("Mean L2 distance").wait_for()
    picture = kept.locator("img")
    assert picture.get_attribute("alt").startswith("Marks: L2 distance")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    page.get_by_text("Error displaying widget").wait_for(state="attached")
    assert page.get_by_text("Error displaying widget").filter(visible=True).count() == 0
    keep(page, "second_day")
    for name, options in (("saved", []), ("executed", ["--execute"])):
        given = ["nbconvert", "--to", "html", "--output", name, *options, "second.ipynb"]
        run([sys.executable, "-m", *given], cwd=lab.folder, check=True, capture_output=True)
        page.goto((lab.folder / f"{name}.html").as_uri())
        page.locator(".softprompt-still img").wait_for()
        assert page.locator("input, select").filter(visible=True).count() == 0, (
            "no slider looks alive"
        )
        keep(page, f"second_day_{name}")


VOTE = """from softprompt_lab import course
course.vote("00-a")
print("the result")"""
OTHER = """course.vote("00-b")
course.vote(3)"""


def test_a_vote_folds_its_cell_until_it_is_cast(lab):
    """By keyboard; an error is never folded; without its kernel an option that is opened shows the result."""
    options = list(written()["00-a"]["options"])
    page = lab.run("vote", VOTE, OTHER)
    button = page.get_by_role("button", name=options[1])
    button.wait_for()
    page.locator(".softprompt-stopped").get_by_text("There is no vote 3").first.wait_for()
    result = page.locator(".jp-OutputArea-output").get_by_text("the result")
    result.wait_for(state="attached")
    assert not result.is_visible()
    assert_fits(page, page.locator(".jp-OutputArea-output .softprompt-live").first)
    keep(page, "vote_open")
    button.focus()
    page.keyboard.press("Enter")
    result.wait_for()
    page.get_by_text(f"You said: {options[1]}").first.wait_for()
    assert not button.is_visible()
    keep(page, "vote_cast")
    page.close()
    lab.shut_kernels_down()
    given = ["nbconvert", "--to", "html", "--execute", "--allow-errors", "vote.ipynb"]
    data = {"SOFTPROMPT_LAB_DATA": str(lab.folder / "another reader")}
    run([sys.executable, "-m", *given], cwd=lab.folder, check=True, env=os.environ | data)
    page = lab.browser.new_page()
    page.goto((lab.folder / "vote.html").as_uri())
    asked = page.locator(".softprompt-asked").first
    asked.get_by_text(options[1]).wait_for()
    result = page.locator(".jp-OutputArea-output").get_by_text("the result")
    assert not result.is_visible()
    asked.get_by_text(options[1]).click()
    assert result.is_visible()
    keep(page, "vote_page")


BENCH = """from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_base_model, load_task, train, widgets
base, tokenizer = load_base_model("tiny")
model = SoftPromptModel(base, PromptTuningConfig(num_virtual_tokens=4), tokenizer=tokenizer)
task = load_task("shop", label_column="urgent")
print("it begins")
history = train(model, task, steps=60, batch_size=8)"""


def test_all_widgets_of_a_prompt_open_in_tabs(lab):
    """After a training that shows its progress at once; each is made when its tab is opened.

    A cell that is run again ends the run that it left.
    """
    page = lab.run(
        "bench",
        BENCH,
        "bench = widgets.open(model, task)\nbench",
        "import threading\n"
        "print('threads:', sum('_train' in each.name for each in threading.enumerate()))",
    )
    page.get_by_text("it begins").nth(1).wait_for()
    page.get_by_text("training:").wait_for(timeout=2_000)
    widget = widget_of(page)
    tabs = widget.get_by_role("tab")
    names = ["Playground", "Nearest tokens", "Ablation", "Training"]
    assert tabs.all_inner_texts() == names
    for name, shown in zip(names, ("message", "metric", "invert", "learning rate"), strict=True):
        tabs.get_by_text(name, exact=True).click()
        place = widget.get_by_label(shown).or_(widget.get_by_role("button", name=shown))
        place.filter(visible=True).first.wait_for()
        picture = widget.locator("img").filter(visible=True).first
        picture.wait_for()
    assert_fits(page, widget)
    keep(page, "bench")
    widget.get_by_label("steps").fill("2000")
    page.keyboard.press("Tab")
    widget.get_by_role("button", name="Start").click()
    widget.get_by_text("Running at step").wait_for()
    for cell, says in (("print('threads:'", "threads: 1"), ("bench = widgets", "Likeliest label")):
        page.get_by_text(cell).first.click()
        page.keyboard.press("Control+Enter")
        page.get_by_text(says).first.wait_for()
    page.get_by_text("print('threads:'").first.click()
    page.keyboard.press("Control+Enter")
    page.get_by_text("threads: 0").wait_for()
