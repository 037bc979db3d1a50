"""The training dashboard and the playground without a front end: what they show, what they survive, what they leave."""

import asyncio
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from softprompt_lab import (
    PromptTuningConfig,
    SoftPromptModel,
    load_base_model,
    load_task,
    train,
)
from softprompt_lab.evaluation import evaluate, label_probabilities
from softprompt_lab.runs.saved import SavedRun
from softprompt_lab.widgets import Playground, TrainingDashboard, frame
from softprompt_lab.widgets.playground import NO_PROMPT

pytestmark = pytest.mark.slow

STEPS = 6


@pytest.fixture(scope="module")
def base():
    return load_base_model("tiny")


@pytest.fixture(scope="module")
def task():
    return load_task("shop", label_column="urgent")


def model_of(base, seed: int = 0) -> SoftPromptModel:
    torch.manual_seed(seed)
    return SoftPromptModel(base[0], PromptTuningConfig(num_virtual_tokens=4), tokenizer=base[1])


@pytest.fixture
def dashboard(base, task):
    made = TrainingDashboard(
        model_of(base),
        task,
        steps=STEPS,
        evaluate_every=3,
        validation_rows=8,
        batch_size=4,
        snapshot_every=2,
    )
    made.fill()
    yield made
    made.close()


def stop_behind(dashboard, step: int) -> threading.Event:
    """An event that is set when so many steps are done; the run waits there until it is resumed."""
    reached, after, post = threading.Event(), dashboard._after_step, dashboard.post

    def look(history):
        if len(history.losses) == step:
            dashboard._go.clear()
        return after(history)

    def posted():  # when there is something to see of the step
        post()
        if len(dashboard.history.losses) == step:
            reached.set()

    dashboard._after_step, dashboard.post = look, posted
    return reached


def test_a_run_is_the_run_of_train(dashboard, base, task):
    """From the same start with the same settings: every loss and the prompt."""
    assert "Not started" in dashboard.status.value
    dashboard.start.click()
    assert dashboard.wait(120)
    model = model_of(base)
    history = train(model, task, steps=STEPS, learning_rate=0.03, batch_size=4, progress=False)
    assert dashboard.history.losses == pytest.approx(history.losses, rel=1e-5)
    torch.testing.assert_close(dashboard.model.prompt, model.prompt)
    assert f"Ended at step {STEPS}: loss {history.losses[-1]:.3f}" in dashboard.status.value
    assert "on 8 rows" in dashboard.status.value
    assert "held-out accuracy" in dashboard.picture.value
    assert dashboard.table.value.count("<td>") == 3 * 4
    assert dashboard.progress.value == STEPS
    assert not dashboard.start.disabled
    assert dashboard.pause.disabled


def test_a_second_run_begins_where_the_first_began(dashboard):
    for _ in range(2):
        dashboard.start.click()
        assert dashboard.wait(120)
        first = dashboard.history.losses[0]
    assert dashboard.history.losses[0] == first
    assert len(dashboard.history.losses) == STEPS


def test_paused_it_stands_still_and_resumed_it_goes_on(dashboard):
    """In mid-training, and with the numbers of a run that was never paused."""
    reached = stop_behind(dashboard, 2)
    dashboard.start.click()
    assert reached.wait(120)
    assert dashboard.pause.description == "Pause"  # the kernel's thread has not been told yet
    dashboard.refresh()
    assert dashboard.pause.description == "Resume"
    assert not dashboard.wait(0.3)
    assert len(dashboard.history.losses) == 2
    assert "Paused at step 2" in dashboard.status.value
    dashboard.pause.click()
    assert dashboard.wait(120)
    paused = dashboard.history.losses
    del dashboard._after_step  # the one that stops
    dashboard.start.click()
    assert dashboard.wait(120)
    assert dashboard.history.losses == pytest.approx(paused, rel=1e-6)


def test_stopped_it_keeps_the_prompt_of_that_step(dashboard):
    reached = stop_behind(dashboard, 3)
    dashboard.start.click()
    assert reached.wait(120)
    dashboard.stop.click()
    assert dashboard.wait(120)
    assert len(dashboard.history.losses) == 3
    torch.testing.assert_close(dashboard.model.prompt.detach(), dashboard.history.snapshots[3])
    assert "Ended at step 3" in dashboard.status.value


def test_the_kernel_answers_while_it_trains(dashboard, task):
    """In an event loop, as in a kernel: pictures arrive by themselves, and the model can be asked in between."""

    async def kernel():
        dashboard.begin()
        seen = set()
        while dashboard.running:
            label_probabilities(dashboard.model, task, ["where is my parcel ?"])
            seen.add(dashboard.status.value)
            await asyncio.sleep(0.01)
        while "Ended" not in dashboard.status.value:  # the last picture arrives by itself, too
            await asyncio.sleep(0.01)
        return seen | {dashboard.status.value}

    seen = asyncio.run(kernel())
    assert any("Running, no step is done" in status for status in seen)
    assert any(f"Ended at step {STEPS}" in status for status in seen)
    assert len(dashboard.history.losses) == STEPS


def test_an_error_in_the_thread_is_shown(dashboard, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no <room> left")

    monkeypatch.setattr(SoftPromptModel, "loss", fail)
    dashboard.start.click()
    assert dashboard.wait(120)
    assert dashboard.status.value == '<p role="alert">RuntimeError: no &lt;room&gt; left</p>'
    assert not dashboard.start.disabled
    monkeypatch.undo()
    dashboard.start.click()
    assert dashboard.wait(120)
    assert "Ended" in dashboard.status.value


def test_closing_in_mid_training_ends_the_thread(dashboard):
    reached = stop_behind(dashboard, 2)
    dashboard.start.click()
    assert reached.wait(120)
    thread = dashboard._thread
    dashboard.close()
    assert not thread.is_alive()
    assert dashboard.comm is None
    assert len(dashboard.history.losses) == 2
    dashboard.close()  # twice is once


def test_a_pause_is_not_counted(dashboard):
    """The seconds are those of training, in the sentence and in the history."""
    reached = stop_behind(dashboard, 2)
    began = time.perf_counter()
    dashboard.start.click()
    assert reached.wait(120)
    time.sleep(1.0)
    dashboard.pause.click()
    assert dashboard.wait(120)
    assert dashboard.history.seconds < time.perf_counter() - began - 1.0


def test_one_dashboard_trains_a_model_at_a_time(dashboard, task):
    """A second one, as the cell run again makes it, ends the run and begins where that one began."""
    reached = stop_behind(dashboard, 2)
    first = dashboard.model.prompt.detach().clone()
    dashboard.start.click()
    assert reached.wait(120)
    second = TrainingDashboard(dashboard.model, task, steps=STEPS, batch_size=4, validation_rows=8)
    assert not dashboard.running
    assert "Another dashboard took over. Ended at step 2" in dashboard.status.value
    second.fill()
    assert "The run of the dashboard before this one was ended. Not started." in second.status.value
    assert not torch.equal(second.model.prompt, first), "two steps moved it"
    second.begin()
    torch.testing.assert_close(second._start, first)
    assert second.wait(120)
    assert second.history.snapshots[0].equal(first)
    del dashboard._after_step  # the one that stops
    dashboard.begin()  # the other way round
    assert dashboard.wait(120)
    second.close()


def test_a_cell_run_again_closes_what_it_showed_before(dashboard, base, task, monkeypatch):
    """And ends its run, also where the cell makes a new model; what one run of a cell shows together stays together."""
    parent = {"metadata": {"cellId": "a cell"}, "header": {"msg_id": "first"}}
    kernel = SimpleNamespace(get_parent=lambda: parent)
    monkeypatch.setattr(frame, "get_ipython", lambda: SimpleNamespace(kernel=kernel))
    reached = stop_behind(dashboard, 2)
    beside = TrainingDashboard(model_of(base), task, steps=1)
    for each in (dashboard, beside, dashboard):
        frame.close_older(each)
    dashboard.start.click()
    assert reached.wait(120)
    again = TrainingDashboard(model_of(base), task, steps=1)
    parent["metadata"]["cellId"] = "another cell"
    frame.close_older(again)
    assert dashboard.running
    parent.update(metadata={"cellId": "a cell"}, header={"msg_id": "second"})
    frame.close_older(again)
    assert not dashboard._thread.is_alive()
    assert dashboard.comm is beside.comm is None
    assert again.comm is not None
    again.close()


# ------------------------------------------------------------------------------------------------ playground


@pytest.fixture
def playground(base, task):
    model = model_of(base)
    model.add_prompt("other", PromptTuningConfig(num_virtual_tokens=2))
    made = Playground(model, task, text="where is my parcel ?")
    made.fill()
    yield made
    made.close()


def test_the_shares_are_those_of_each_prompt_alone(playground, base, task):
    text = "where is my parcel ?"
    (table,) = playground.current().values()
    assert list(table.index) == ["default", "other", NO_PROMPT]
    model = playground._runs[0].model
    for name in ("default", "other"):
        model.set_prompt(name)
        expected = label_probabilities(model, task, [text]).loc[text]
        assert table.loc[name].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-4)
    bare = label_probabilities(model.base_model, task, [text], tokenizer=base[1]).loc[text]
    assert table.loc[NO_PROMPT].to_numpy() == pytest.approx(bare.to_numpy(), rel=1e-4)
    for cell in table.map("{:.1%}".format).to_numpy().ravel():
        assert cell in playground.table.value


def test_a_message_and_a_box_change_what_is_shown(playground):
    before = playground.picture.value
    playground.text.value = "my parcel is late , help now !"
    assert playground.picture.value != before
    playground.chosen["other"].value = False
    (table,) = playground.current().values()
    assert list(table.index) == ["default", NO_PROMPT]
    assert "other" not in playground.status.value
    for box in playground.chosen.values():
        box.value = False
    assert (
        playground.status.value
        == '<p role="alert">ValueError: no prompt is chosen; tick at least one box.</p>'
    )


def test_prompts_of_several_tasks_answer_for_their_own(base, task):
    tone = load_task("shop", label_column="tone")
    runs = [
        SavedRun(name, model_of(base), of, {}, None, {"seed": 0})
        for name, of in (("a run", task), ("another", tone))
    ]
    both = Playground(runs, text="thanks !")
    tables = both.current()
    assert {name: list(table.index) for name, table in tables.items()} == {
        task.name: ["a run", NO_PROMPT],
        tone.name: ["another", NO_PROMPT],
    }
    assert all(table.sum(axis=1).to_numpy() == pytest.approx(1) for table in tables.values())
    both.close()


def test_names_that_are_the_same_hide_nothing(base, task):
    """Two runs of one name, on two tasks of one name: each answers in its own labels."""
    other = replace(task, labels=("no", "yes"), template="{text} urgent: ")
    runs = [
        SavedRun("run", model_of(base), of, {}, None, {"seed": 0}) for of in (task, other, task)
    ]
    both = Playground(runs, text="thanks !")
    tables = both.current()
    assert {name: list(table.index) for name, table in tables.items()} == {
        task.name: ["run", "run (3)", NO_PROMPT],
        f"{task.name} (2)": ["run (2)", NO_PROMPT],
    }
    both.close()


def test_an_example_is_clicked_and_the_last_is_one_that_the_prompt_gets_wrong(
    playground, base, task
):
    model = playground._runs[0].model
    found = evaluate(model, task, prompts={"": model.prompt_by_name("default")}, limit=40)[""]
    wrong = found.predictions[~found.predictions["correct"]].iloc[0]
    *others, last = playground.examples
    assert last.description.startswith("answered wrongly: ")
    assert last.tooltip == f"{wrong['text']} (its label is {wrong['label']})"
    assert [each.tooltip for each in others] == task.test[task.text_column][: len(others)]
    last.click()
    assert playground.text.value == wrong["text"]
    (table,) = playground.current().values()
    assert table.loc["default"].idxmax() == wrong["prediction"] != wrong["label"]


def test_an_empty_message_has_no_answer(playground):
    playground.text.value = "  "
    assert "Type a message, or click an example." in playground.status.value
    assert playground.picture.value == playground.table.value == ""


def test_a_message_that_is_cut_is_said(playground):
    playground.text.value = "where is my parcel ? " * 200
    assert (
        "The end of the message was cut off: at most 128 tokens are read."
        in playground.status.value
    )
