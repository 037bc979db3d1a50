"""Similarities of prompts: against plain loops, cases with known answers, and their controls."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cosine_similarity

from softprompt_lab import (
    PromptTuningConfig,
    SoftPromptModel,
    load_base_model,
    load_task,
    plots,
    reading,
)

P, D = 4, 6


def vectors(seed: int, rows: int = P, width: int = D) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def value(
    table: pd.DataFrame, first: str, second: str, measure: str, kind: str = "prompt"
) -> float:
    columns = ("first", "second", "kind", "measure")
    wanted = (first, second, kind, measure)
    chosen = np.logical_and.reduce([table[c] == w for c, w in zip(columns, wanted, strict=True)])
    (found,) = table.loc[chosen, "value"]
    return found


@pytest.fixture(scope="module")
def tiny() -> SoftPromptModel:
    base, tokenizer = load_base_model("tiny")
    return SoftPromptModel(base, PromptTuningConfig(num_virtual_tokens=P), tokenizer=tokenizer)


@pytest.fixture(scope="module")
def prompts(tiny) -> dict[str, torch.Tensor]:
    """Two equal prompts of words and one of other words."""
    words = tiny.word_embeddings.detach()
    return {
        "one": words[10 : 10 + P].clone(),
        "same": words[10 : 10 + P].clone(),
        "other": words[60 : 60 + P].clone(),
    }


# ---------------------------------------------------------------------------------------------------- vectors


def test_the_vector_measures_are_those_of_a_plain_loop():
    one, other = vectors(0), vectors(1)
    table = reading.vector_similarity({"a": one, "b": other})
    pooled = cosine_similarity(sum(one) / P, sum(other) / P, dim=0).item()
    assert value(table, "a", "b", "pooled cosine") == pytest.approx(pooled, abs=1e-6)
    aligned = sum((x * y).sum() for x, y in zip(one, other, strict=True)) / (
        one.norm() * other.norm()
    )
    assert value(table, "a", "b", "aligned cosine") == pytest.approx(aligned.item(), abs=1e-6)


def test_a_prompt_is_like_itself_and_pooling_knows_no_order():
    one = vectors(0)
    table = reading.vector_similarity({"a": one, "turned": one[[2, 0, 3, 1]]})
    for measure in ("pooled cosine", "aligned cosine"):
        assert value(table, "a", "a", measure) == pytest.approx(1, abs=1e-6)
    assert value(table, "a", "turned", "pooled cosine") == pytest.approx(1, abs=1e-6)
    assert value(table, "a", "turned", "aligned cosine") < 0.9


def test_a_common_start_makes_prompts_alike_whose_movements_are_not():
    start = 10 * vectors(0)
    moved = {"a": start + torch.eye(P, D), "b": start - torch.eye(P, D)}
    table = reading.vector_similarity(moved, starts=dict.fromkeys(moved, start))
    assert value(table, "a", "b", "aligned cosine") > 0.9
    assert value(table, "a", "b", "aligned cosine", "start") == pytest.approx(1, abs=1e-6)
    assert value(table, "a", "b", "aligned cosine", "movement") == pytest.approx(-1, abs=1e-4)
    assert abs(value(table, "a", "b", "aligned cosine", "random")) < 0.9


def test_centring_takes_the_words_mean_off_the_prompts_and_not_off_their_movements():
    words = vectors(2, 50) + 5
    start = words[:P]
    moved = {"a": words[10 : 10 + P], "b": words[20 : 20 + P]}
    raw = reading.vector_similarity(moved, dict.fromkeys(moved, start))
    centred = reading.vector_similarity(moved, dict.fromkeys(moved, start), words)
    assert value(raw, "a", "b", "pooled cosine") > 0.9
    mean = words.mean(0)
    expected = cosine_similarity(
        (moved["a"] - mean).mean(0), (moved["b"] - mean).mean(0), dim=0
    ).item()
    assert value(centred, "a", "b", "pooled cosine") == pytest.approx(expected, abs=1e-5)
    for table in (raw, centred):
        expected = cosine_similarity(
            (moved["a"] - start).mean(0), (moved["b"] - start).mean(0), dim=0
        ).item()
        assert value(table, "a", "b", "pooled cosine", "movement") == pytest.approx(
            expected, abs=1e-5
        )


# -------------------------------------------------------------------------------------------------- behaviour


def test_next_tokens_are_the_base_models_own(tiny, prompts):
    task = load_task("shop", label_column="topic")
    found = reading.next_token_distributions(tiny, task, list(prompts.values()), limit=3)
    for i, vectors_of in enumerate(prompts.values()):
        for row, text in enumerate(task.test[task.text_column][:3]):
            ids = torch.tensor([task.encode(tiny.tokenizer, text)[0]])
            whole = torch.cat([vectors_of[None], tiny.word_embeddings[ids]], dim=1)
            with torch.no_grad():
                logits = tiny.base_model(inputs_embeds=whole).logits[0, -1]
            torch.testing.assert_close(found[i, row], logits.log_softmax(-1), atol=1e-4, rtol=1e-4)


def test_divergence_is_nothing_for_equal_prompts_and_that_of_a_plain_loop_for_others(tiny, prompts):
    task = load_task("shop", label_column="topic")
    table = reading.next_token_similarity(tiny, task, prompts, starts=prompts, limit=5)
    assert value(table, "one", "same", "divergence") == pytest.approx(0, abs=1e-6)
    assert value(table, "one", "same", "same first choice") == 1
    one, _, other = (
        reading.next_token_distributions(tiny, task, list(prompts.values()), limit=5).double().exp()
    )
    rows = []
    for x, y in zip(one, other, strict=True):
        m = (x + y) / 2
        rows.append(((x * (x / m).log2()).sum() + (y * (y / m).log2()).sum()).item() / 2)
    assert value(table, "one", "other", "divergence") == pytest.approx(np.mean(rows), abs=1e-5)
    starts = table[table["kind"] == "start"]["value"].to_numpy()
    assert np.array_equal(starts, table[table["kind"] == "prompt"]["value"].to_numpy())


# --------------------------------------------------------------------------------------------------- readings


def pairs_of(values: dict[tuple[str, str], float], measure: str = "m") -> pd.DataFrame:
    rows = [
        (first, second, "prompt", measure, number) for (first, second), number in values.items()
    ]
    return pd.DataFrame(rows, columns=["first", "second", "kind", "measure", "value"])


def test_seeds_of_a_task_stand_beside_tasks():
    table = pairs_of({("a0", "a0"): 1.0, ("a0", "a1"): 0.8, ("a0", "b"): 0.1, ("a1", "b"): 0.3})
    found = reading.by_relation(table, {"a0": "a", "a1": "a", "b": "b"}).set_index("relation")
    assert found.loc["same task", ["mean", "lowest", "highest", "pairs"]].tolist() == [
        0.8,
        0.8,
        0.8,
        1,
    ]
    assert found.loc[
        "other task", ["mean", "lowest", "highest", "pairs"]
    ].tolist() == pytest.approx([0.2, 0.1, 0.3, 2])


# ---------------------------------------------------------------------------------------------------- figures


TASK_OF = {f"{task}-{seed}": task for task in ("complaint", "tone", "topic") for seed in (0, 1)}


def of_six() -> pd.DataFrame:
    """Vectors of six prompts, two of a task, whose starts are the task's."""
    starts = {name: vectors(len(task)) for name, task in TASK_OF.items()}
    moved = {name: start + 0.5 * vectors(40 + i) for i, (name, start) in enumerate(starts.items())}
    return reading.vector_similarity(moved, starts=starts)


FIGURES = {
    "matrices": lambda: plots.similarity_matrices(of_six(), "pooled cosine"),
}


@pytest.mark.parametrize("name", list(FIGURES))
def test_a_figure_is_small_and_says_what_it_shows(name):
    figure = FIGURES[name]()
    assert len(figure.png()) < 40_000
    assert len(figure.alt.split()) > 12


def test_every_pair_is_written_once_in_its_cell_and_can_be_read_in_grey():
    table = of_six()
    figure = plots.similarity_matrices(table[table["kind"] == "prompt"], "pooled cosine")
    (ax,) = figure.axes
    chosen = table[(table["kind"] == "prompt") & (table["measure"] == "pooled cosine")]
    expected = sorted(f"{number:.2f}".replace("-0.00", "0.00") for number in chosen["value"])
    assert sorted(text.get_text() for text in ax.texts) == expected
    for text, cell in zip(ax.texts, ax.patches, strict=True):
        shade = np.dot(cell.get_facecolor()[:3], (0.299, 0.587, 0.114))
        ink = 1.0 if text.get_color() == "white" else 0.0
        assert abs(shade - ink) > 0.4
    different = chosen[chosen["first"] != chosen["second"]]["value"].mean()
    assert f"prompt {different:.2f}" in figure.alt
