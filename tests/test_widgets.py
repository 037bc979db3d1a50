"""The neighbour explorer without a front end: what it shows, what it survives, what it leaves behind."""

import pytest
from IPython.core.formatters import DisplayFormatter
from ipywidgets.widgets.widget_selection import TraitError
from pictures import image_in
from words import walk, word_tokenizer, word_vectors

from softprompt_lab import reading
from softprompt_lab.widgets import NeighbourExplorer

WORDS, TOKENIZER = word_vectors(), word_tokenizer()
SNAPSHOTS = walk(WORDS)
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def explorer():
    made = NeighbourExplorer(SNAPSHOTS, WORDS, TOKENIZER, k=3)
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
    monkeypatch.undo()
    explorer.step.value = 20
    assert "Mean cosine" in explorer.status.value


def test_without_a_front_end_the_output_is_the_static_figure(explorer):
    data, _ = DisplayFormatter().format(explorer)
    assert data[VIEW]["model_id"] == explorer.model_id
    picture, alt = image_in(data["text/html"])
    assert picture.width > 300
    assert alt == data["text/plain"] == explorer.static_figure().alt
    assert data["text/plain"].startswith("Nearest tokens by cosine, top 3. prompt at step 40:")


def test_closing_stops_it(explorer):
    explorer.close()
    shown = explorer.table.value
    explorer.step.value = 0
    assert explorer.table.value == shown
    assert explorer.comm is None
    explorer.close()  # twice is once


def test_what_cannot_be_explored_is_refused():
    with pytest.raises(ValueError, match="no snapshots"):
        NeighbourExplorer({}, WORDS, TOKENIZER)
    for k in (0, 11):
        with pytest.raises(TraitError, match="Invalid selection"):
            NeighbourExplorer(SNAPSHOTS, WORDS, TOKENIZER, k)
