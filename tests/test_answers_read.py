"""Instruments and widgets of a task with free answers: they work, or refuse it in words."""

from functools import cache

import pytest
import torch
from datasets import Dataset

from softprompt_lab import (
    PromptTuningConfig,
    SoftPromptModel,
    Task,
    evaluate,
    load_base_model,
    plots,
    reading,
)
from softprompt_lab.runs.saved import SavedRun
from softprompt_lab.widgets import (
    AblationBoard,
    GammaSlider,
    Playground,
    PromptInterpolation,
    TrainingDashboard,
)

WORDS = ["late", "cold", "new", "wet"]


@cache
def task() -> Task:
    """A word in, the same word twice out."""
    rows = Dataset.from_dict({"text": WORDS, "text_label": [f"{word} {word}" for word in WORDS]})
    return Task("twice", rows, rows, rows, "text", (), "{text} ->")


@cache
def model() -> SoftPromptModel:
    base_model, tokenizer = load_base_model("tiny")
    torch.manual_seed(0)
    config = PromptTuningConfig(num_virtual_tokens=2, prompt_tuning_init="RANDOM")
    return SoftPromptModel(base_model, config, tokenizer=tokenizer)


def ends() -> tuple[torch.Tensor, torch.Tensor]:
    prompt = model().prompt.detach()
    return torch.zeros_like(prompt), prompt


def ids() -> list[int]:
    return task().encode(model().tokenizer, "late")[0]


MEASURED = {
    "ablation": lambda: reading.ablation(model(), task(), draws=1),
    "shuffling": lambda: reading.shuffling(model(), task()),
    "interpolation": lambda: reading.interpolation(model(), task(), *ends(), 3),
    "scaling": lambda: reading.scaling(model(), task(), (1.0, 2.0)),
    "discretisation": lambda: reading.discretisation_gap(model(), task()),
    "wayward": lambda: reading.wayward_table(model(), task(), "a", {0.0: ends()[1]}),
}
FIGURES = {
    "ablation": lambda table: plots.ablation_figure(table, ["a", "b"]),
    "shuffling": plots.shuffling_figure,
    "interpolation": lambda table: plots.interpolation_figure(table, ("a", "b")),
    "scaling": plots.scaling_figure,
    "discretisation": plots.gap_figure,
    "wayward": plots.wayward_figure,
}


@pytest.mark.parametrize("name", list(MEASURED))
def test_a_probe_measures_the_answers_that_the_model_writes(name):
    """The prompt's own row is what `evaluate` finds, and the table can be drawn."""
    table = MEASURED[name]()
    own = evaluate(model(), task())
    assert own.macro_f1 is None
    assert (table["loss"] - own.loss).abs().min() < 1e-5
    assert (table["n"] == len(WORDS)).all()
    assert (table["majority"] == own.majority_baseline).all()
    assert "n = 4 rows" in FIGURES[name](table).alt


@pytest.mark.parametrize(
    "read",
    [
        lambda: reading.read_back(model(), task(), max_new_tokens=2, draws=1),
        lambda: reading.next_token_similarity(model(), task(), {"a": ends()[1], "b": ends()[0]}),
        lambda: reading.logit_lens(model(), ids()),
        lambda: reading.attention_mass(model(), [ids()]),
        lambda: reading.attention_as_bias(model(), ids()),
    ],
)
def test_a_reading_of_texts_asks_for_no_labels(read):
    assert len(read())


def drawn_run(gamma: float | None) -> SavedRun:
    """A run that was drawn towards a text, or the free one."""
    record = {} if gamma is None else {"towards": "a", "gamma": gamma}
    return SavedRun("run", model(), task(), {}, None, record)


@pytest.mark.parametrize(
    "opened",
    [
        lambda: AblationBoard(model(), task()),
        lambda: PromptInterpolation(model(), model(), task()),
        lambda: GammaSlider(drawn_run(None), [drawn_run(0.1)]),
        lambda: TrainingDashboard(model(), task(), steps=1),
    ],
)
def test_a_widget_shows_free_answers(opened):
    widget = opened()
    widget.fill()
    assert "alert" not in widget.status.value, widget.status.value
    assert widget.picture.value
    widget.close()


def test_a_training_in_the_dashboard_measures_free_answers():
    dashboard = TrainingDashboard(model(), task(), steps=2, batch_size=2, evaluate_every=1)
    dashboard.begin()
    assert dashboard.wait(60)
    assert "accuracy" in dashboard.content().status
    dashboard.close()


@pytest.mark.parametrize(
    "choice",
    [
        lambda: Playground(model(), task()),
        lambda: reading.vote(evaluate(model(), task(), prompts={"a": ends()[1]})),
    ],
)
def test_what_chooses_among_labels_refuses_free_answers(choice):
    with pytest.raises(ValueError, match="free answers"):
        choice()
