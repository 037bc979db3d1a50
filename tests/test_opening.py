"""What a widget opens on: a folder whose name has a space, a run, a model; one base model for all of them."""

import gc
import weakref

import pytest
import torch

from softprompt_lab import LabError, evaluate, load_task, train, widgets
from softprompt_lab.runs import zoo
from softprompt_lab.runs.saved import new_model, save_run, saved_run
from softprompt_lab.widgets import source

pytestmark = pytest.mark.slow

TABS = ["Playground", "Nearest tokens", "Ablation", "Training"]
WIDGETS = {
    "AblationBoard": lambda prompt, **task: widgets.AblationBoard(prompt, **task),
    "NeighbourExplorer": lambda prompt, **task: widgets.NeighbourExplorer(prompt),
    "Playground": lambda prompt, **task: widgets.Playground(prompt, **task),
    "PromptInterpolation": lambda prompt, **task: widgets.PromptInterpolation(
        prompt, prompt, **task
    ),
    "TrainingDashboard": lambda prompt, **task: widgets.TrainingDashboard(prompt, **task),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two steps on tiny."""
    path, task = (
        tmp_path_factory.mktemp("runs") / "my first run",
        load_task("shop", label_column="urgent"),
    )
    model = new_model("tiny", task, virtual_tokens=4)
    before = evaluate(model, task, limit=8)
    history = train(model, task, steps=2, progress=False)
    after = evaluate(model, task, limit=8)
    save_run(path, model, task, history, before, after, data="shop", label_column="urgent")
    return path


@pytest.mark.parametrize("name", list(WIDGETS))
def test_every_widget_opens_on_a_folder_a_run_and_a_model(name, folder):
    """All show the same picture, and those on folders have one base model."""
    run = saved_run(folder)
    of_model = WIDGETS[name](run.model, task=run.task)
    made = [WIDGETS[name](given) for given in (folder, str(folder), run)]
    for each in (*made, of_model):
        each.fill()
        assert "alert" not in each.status.value, each.status.value
    assert len({each.picture.value for each in made}) == 1, (
        "a model has another name and no snapshots"
    )
    of_folders = source.opened(folder).model, source.opened(str(folder)).model
    assert of_folders[0].base_model is of_folders[1].base_model
    assert of_folders[0] is not of_folders[1]
    for each in (*made, of_model):
        each.close()


def test_a_base_model_is_kept_as_long_as_a_widget_needs_it(folder):
    first = source.opened(folder)
    base = weakref.ref(first.model.base_model)
    second = source.opened(folder)
    del first
    gc.collect()
    assert base() is second.model.base_model
    del second
    gc.collect()
    assert base() is None


def test_one_call_opens_what_fits_in_tabs(folder):
    bench = widgets.open(folder)
    assert list(bench.tabs.titles) == TABS
    assert bench.instruments == {}, "nothing is computed before it is shown"
    bench.fill()
    for place, name in enumerate(TABS):
        bench.tabs.selected_index = place
        assert list(bench.instruments) == TABS[: place + 1]
        assert bench.still() == bench.instruments[name].still()
        assert "<img" in bench.still()
    bench.close()


def test_training_in_one_tab_changes_no_other(folder):
    bench = widgets.open(folder)
    bench.tabs.selected_index = TABS.index("Training")
    before = source.opened(folder).model.prompt.detach()
    board = bench.instruments["Training"]
    board.begin()
    assert board.wait(120)
    assert not torch.equal(board.model.prompt, before)
    bench.tabs.selected_index = TABS.index("Ablation")
    torch.testing.assert_close(bench.instruments["Ablation"]._prompt, before)
    assert board.model.base_model is bench.instruments["Ablation"]._model.base_model
    bench.close()


def test_closed_it_is_out_of_memory(folder):
    bench = widgets.open(folder)
    bench.fill()
    alive = weakref.ref(bench), weakref.ref(bench.instruments["Playground"])
    bench.close()
    del bench
    gc.collect()
    assert [each() for each in alive] == [None, None]


def test_a_folder_that_peft_wrote_is_opened_without_its_task(folder, tmp_path):
    """Its nearest tokens, and the rest where a task is given."""
    path = tmp_path / "of peft"
    saved_run(folder).model.save_pretrained(path)
    bench = widgets.open(path)
    assert list(bench.tabs.titles) == ["Nearest tokens"]
    bench.close()
    task = saved_run(folder).task
    bench = widgets.open(path, task)
    assert list(bench.tabs.titles) == TABS
    bench.close()
    with pytest.raises(LabError, match="the test rows of of peft are not here"):
        widgets.Playground(path)


def test_what_goes_wrong_in_a_tab_is_said_in_it(folder, monkeypatch):
    def fail(*_):
        raise RuntimeError("no <room> left")

    bench = widgets.open(folder)
    monkeypatch.setattr(widgets.neighbour_explorer, "vectors", fail)
    monkeypatch.setattr(widgets.neighbour_explorer, "opened", fail)
    bench.tabs.selected_index = 1
    said = bench.tabs.children[1].children[0].value
    assert said == '<p role="alert">RuntimeError: no &lt;room&gt; left</p>'
    monkeypatch.undo()
    bench.tabs.selected_index = 2
    bench.tabs.selected_index = 1
    assert "Nearest tokens" in bench.instruments
    bench.close()


def test_prompts_for_two_base_models_are_not_compared(folder):
    task = load_task("shop", label_column="urgent")
    other = new_model("tiny-seq2seq", task, task_type="SEQ_2_SEQ_LM", virtual_tokens=4)
    for opened in (
        lambda: widgets.Playground([folder, other], task),
        lambda: widgets.PromptInterpolation(folder, other, task),
    ):
        with pytest.raises(ValueError, match="2 prompts, for 2 base models: tiny, tiny-seq2seq"):
            opened()


def test_without_a_prompt_there_is_a_menu_of_the_zoo(folder, monkeypatch):
    """Every prompt of it; another choice closes the widgets of the one before."""
    asked = []
    monkeypatch.setattr(
        widgets.workbench,
        "opened",
        lambda given, task=None: asked.append(given) or saved_run(folder),
    )
    bench = widgets.open()
    bench.fill()
    assert list(bench.menu.options) == zoo.names()
    before = bench.instruments["Playground"]
    bench.menu.value = "words-antonym"
    assert asked == ["zoo:tweets-seed0", "zoo:words-antonym"]
    assert before.comm is None
    assert bench.instruments["Playground"] is not before
    bench.close()


def test_what_cannot_be_opened_says_why(folder, tmp_path):
    with pytest.raises(LabError, match="the zoo has no prompt 'tweets'; choose one of: complaint"):
        widgets.open("zoo:tweets")
    with pytest.raises(LabError, match="no folder 'tweets-seed0'; the zoo's is 'zoo:tweets-seed0'"):
        widgets.open("tweets-seed0")
    with pytest.raises(ValueError, match="a Tensor was given; give a run's folder, 'zoo:NAME'"):
        widgets.NeighbourExplorer(torch.zeros(4, 8))
    with pytest.raises(
        LabError, match="the validation rows of default are not here; pass them: task="
    ):
        widgets.AblationBoard(saved_run(folder).model)
