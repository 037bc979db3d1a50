"""The neighbour explorer without a front end: what it shows, what it survives, what it leaves behind."""

import pytest
from words import outputs_of, walk, walked, word_tokenizer, word_vectors

from softprompt_lab import reading
from softprompt_lab.widgets import NeighbourExplorer

WORDS, TOKENIZER = word_vectors(), word_tokenizer()
SNAPSHOTS = walk(WORDS)


@pytest.fixture
def explorer():
    made = NeighbourExplorer(walked(WORDS), k=3)
    made.fill()
    yield made
    made.close()


def test_it_opens_at_the_last_step_and_shows_what_nearest_tokens_says(explorer):
    assert explorer.step.value == 40
    expected = reading.nearest_tokens(SNAPSHOTS[40], WORDS, TOKENIZER, 3)
    shown = explorer.current()["prompt at step 40"].drop(columns="kind")
    assert shown.reset_index(drop=True).equals(expected)
    for cell in reading.neighbour_table(expected).to_numpy().ravel():
        assert cell.replace("<", "&lt;").replace(">", "&gt;") in explorer.table.value
    assert "random</caption>" in explorer.table.value
    assert 'alt="Marks: cosine' in explorer.picture.value


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("step", 0, "prompt at step 0: 1.00"),
        ("metric", "l2", "Mean L2 distance"),
        ("centered", True, "cosine (centred)"),
    ],
)
def test_a_control_changes_table_and_picture(explorer, name, value, says):
    before = explorer.table.value, explorer.picture.value
    getattr(explorer, name).value = value
    assert explorer.table.value != before[0]
    assert explorer.picture.value != before[1]
    assert says in explorer.status.value


def test_k_changes_the_number_of_columns(explorer):
    explorer.k.value = 1
    assert explorer.table.value.count("<td>") == 3 * 4
    explorer.k.value = 10
    assert explorer.table.value.count("<td>") == 3 * 4 * 10


def test_controls_are_labelled_and_the_status_is_announced(explorer):
    assert [control.description for control in explorer.controls.children] == [
        "training step",
        "metric",
        "neighbours, k",
        "subtract the mean of the vocabulary",
    ]
    assert 'aria-live="polite"' in explorer.status.value


def test_what_was_seen_once_is_not_computed_again(explorer, monkeypatch):
    def refuse(*args):
        raise AssertionError("computed again")

    explorer.step.value = 0
    monkeypatch.setattr(reading, "nearest_tokens_of", refuse)
    explorer.step.value = 40
    explorer.k.value = 2
    assert "alert" not in explorer.status.value


def test_an_error_is_shown_in_the_widget(explorer, monkeypatch):
    def fail(*args):
        raise RuntimeError("no <room> left")

    monkeypatch.setattr(reading, "nearest_tokens_of", fail)
    explorer.step.value = 10
    assert explorer.status.value == '<p role="alert">RuntimeError: no &lt;room&gt; left</p>'
    assert explorer.table.value == ""
    assert (
        "softprompt-old" in explorer.picture._dom_classes
    )  # the picture fades and keeps its place
    monkeypatch.undo()
    explorer.step.value = 20
    assert "Mean cosine" in explorer.status.value
    assert "softprompt-old" not in explorer.picture._dom_classes


def test_what_a_notebook_keeps_is_the_last_picture_with_its_words(explorer):
    """The widget first, then the same without a widget, which follows every change and hides where the widget lives."""
    view, kept = outputs_of(explorer)
    assert view["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    assert view["text/plain"] == "NeighbourExplorer: run this cell in a notebook to use it."
    assert kept["text/html"].count(explorer.picture.value) == 1
    assert explorer.status.value in kept["text/html"]
    assert explorer.table.value in kept["text/html"]
    assert f"softprompt-{explorer.model_id}" in kept["text/html"]
    assert f".softprompt-{explorer.model_id} {{ display: none; }}" in explorer.children[0].value
    changed = outputs_of(explorer, lambda: setattr(explorer.metric, "value", "l2"))[-1]
    assert "Mean L2 distance" in changed["text/html"]
    assert changed["transient"] == "update"


def test_closing_stops_it(explorer):
    explorer.close()
    shown = explorer.table.value
    explorer.step.value = 0
    assert explorer.table.value == shown
    assert explorer.comm is None
    explorer.close()  # twice is once


def test_what_cannot_be_explored_is_refused():
    with pytest.raises(ValueError, match="a dict was given; give a run's folder, 'zoo:NAME' or a"):
        NeighbourExplorer(SNAPSHOTS)
    for k in (0, 11):
        with pytest.raises(ValueError, match=rf"neighbours, k: {k} is none of its values: 1, 2"):
            NeighbourExplorer(walked(WORDS), k=k)


def test_a_prompt_without_snapshots_is_explored_as_it_is():
    """Also with those that are passed beside a model."""
    for given, steps in ((None, [0]), (SNAPSHOTS, [0, 10, 20, 30, 40])):
        made = NeighbourExplorer(walked(WORDS, {}), given)
        assert list(made.step.options.values()) == steps
        made.close()
