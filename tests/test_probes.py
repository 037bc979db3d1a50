"""Ablation, shuffling, interpolation and scaling: against plain loops and cases whose answer is known beforehand."""

import math

import pandas as pd
import pytest
import torch
from bag_of_words import bag_model, task_of_bytes
from families import byte_tokenizer, gpt2, llama

from softprompt_lab import PromptTuningConfig, SoftPromptModel, evaluate, reading

TASK = task_of_bytes(8)
MEASURES = ["loss", "accuracy", "loss_change", "loss_low", "loss_high"]
MEASURES += ["accuracy_change", "accuracy_low", "accuracy_high", "n"]


@pytest.fixture(scope="module")
def model() -> SoftPromptModel:
    """GPT-2 with positions and two layers behind three vectors."""
    return behind(random_vectors(3))


def random_vectors(rows: int, seed: int = 1) -> torch.Tensor:
    """Vectors of about the words' scale."""
    return 0.3 * torch.randn(rows, 32, generator=torch.Generator().manual_seed(seed))


def behind(vectors: torch.Tensor, base=None) -> SoftPromptModel:
    """A model of its own for some vectors; none are the bare base model."""
    base = base or wide()
    return SoftPromptModel(
        base, PromptTuningConfig(len(vectors)), tokenizer=byte_tokenizer(), start=vectors
    )


def wide():
    """GPT-2 with a vocabulary for bytes."""
    base = gpt2()
    base.resize_token_embeddings(257, mean_resizing=False)
    with torch.no_grad():
        words = base.get_input_embeddings().weight
        words.copy_(0.3 * torch.randn(words.shape, generator=torch.Generator().manual_seed(5)))
    return base


def same(row: pd.Series, vectors: torch.Tensor, model: SoftPromptModel) -> bool:
    """True if a row of a table holds what `evaluate` measures on a model of these vectors alone."""
    base = model.base_model
    if len(vectors):
        alone = evaluate(behind(vectors, base), TASK, "validation")
    else:
        alone = evaluate(base, TASK, "validation", tokenizer=byte_tokenizer())
    return math.isclose(row["loss"], alone.loss, abs_tol=1e-4) and row["accuracy"] == alone.accuracy


# --- ablation -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ablation_equals_a_loop_over_models_of_each_subset(model):
    start = random_vectors(3, seed=2)
    table = reading.ablation(model, TASK, start=start, draws=1)
    prompts = {"prompt": model.prompt.detach(), "start": start}
    for row in table[table["kind"].isin(["prompt", "start"])].to_dict("records"):
        prompt, place = prompts[row["kind"]], row["virtual_token"]
        kept = {
            "whole": lambda here, place: True,
            "without one": lambda here, place: here != place,
            "one alone": lambda here, place: here == place,
        }[row["part"]]
        rows = [prompt[here] for here in range(3) if kept(here, place)]
        assert same(row, torch.stack(rows), model), row
        whole = table[(table["part"] == "whole") & (table["kind"] == row["kind"])]["loss"].item()
        assert row["loss_change"] == pytest.approx(row["loss"] - whole, abs=1e-5)
    counts = table.groupby(["kind", "part"]).size().to_dict()
    assert counts == {
        ("no prompt", "nothing"): 1,
        **{(kind, "whole"): 1 for kind in prompts},
        **{(kind, part): 3 for kind in prompts for part in ("without one", "one alone")},
        **{("random", part): 3 for part in ("without one", "one alone")},
    }
    columns = ["part", "virtual_token", "kind", "draw", *MEASURES, "majority", "ceiling"]
    assert table.columns.tolist() == columns
    one = reading.ablation(model, TASK, start=start, draws=1, parts=["without one"])
    left = table[table["part"] != "one alone"].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, left)


def test_the_random_rows_of_an_ablation_hold_vectors_of_the_same_norm(model):
    table = reading.ablation(model, TASK, draws=2)
    prompt = model.prompt.detach()
    for row in table[table["draw"] == 1].to_dict("records"):
        control, place = reading.random_control(prompt, 1), row["virtual_token"]
        replaced = prompt.clone()
        replaced[place] = control[place]
        vectors = replaced if row["part"] == "without one" else control[place : place + 1]
        assert same(row, vectors, model), row
    nothing = table[table["part"] == "nothing"].iloc[0]
    assert same(nothing, prompt[:0], model)


def test_the_intervals_are_those_of_the_rows(model):
    table = reading.ablation(model, TASK, draws=1)
    row = table[(table["part"] == "without one") & (table["kind"] == "prompt")].iloc[2]
    prompt = model.prompt.detach()
    one = evaluate(behind(prompt[:2], model.base_model), TASK, "validation")
    found = reading.compared(one, evaluate(model, TASK, "validation"))
    for name in MEASURES:
        assert row[name] == pytest.approx(found[name], abs=1e-4)


def test_taking_out_an_inert_vector_changes_nothing():
    """No token looks at it: the prompt without it is the prompt, and it alone is no prompt."""
    table = reading.ablation(bag_model(inert=2), TASK, draws=1)
    own = table[table["kind"] == "prompt"].set_index(["part", "virtual_token"])["loss_change"]
    nothing = table.loc[table["part"] == "nothing", "loss_change"].item()
    assert own["without one", 2] == pytest.approx(0, abs=1e-6)
    assert own["one alone", 2] == pytest.approx(nothing, abs=1e-6)
    for place in (0, 1, 3):
        assert abs(own["without one", place]) > 1e-3
        assert abs(own["one alone", place] - nothing) > 1e-3
    replaced = table[(table["kind"] == "random") & (table["part"] == "without one")].set_index(
        "virtual_token"
    )
    assert abs(replaced.loc[2, "loss_change"]) > 1e-3, "a random vector in its place is seen"


def test_places_are_taken_out_or_filled():
    prompt, filler = torch.arange(6.0).reshape(3, 2), torch.full((3, 2), -1.0)
    assert reading.take_out(prompt, [0, 2]).tolist() == [[2, 3]]
    assert reading.take_out(prompt, []).tolist() == prompt.tolist()
    assert reading.take_out(prompt, [1], filler).tolist() == [[0, 1], [-1, -1], [4, 5]]


# --- shuffling ----------------------------------------------------------------------------------------------


def test_shuffling_equals_a_loop_over_the_orders(model):
    start = random_vectors(3, seed=2)
    table = reading.shuffling(model, TASK, times=2, start=start)
    vectors = {
        "prompt": model.prompt.detach(),
        "start": start,
        "random": reading.random_control(model.prompt),
    }
    for row in table[table["kind"] != "no prompt"].to_dict("records"):
        order = [int(place) for place in row["order"].split()]
        assert sorted(order) == [0, 1, 2]
        assert same(row, vectors[row["kind"]][order], model), row
    straight = table[table["name"] == "as trained"]
    assert straight["order"].unique().tolist() == ["0 1 2"]
    assert (straight[["loss_change", "loss_low", "loss_high", "accuracy_change"]] == 0).all(
        axis=None
    )
    assert straight["loss"].iloc[0] == pytest.approx(
        evaluate(model, TASK, "validation").loss, abs=1e-5
    )
    moved = table[(table["kind"] == "prompt") & (table["name"] != "as trained")]["loss_change"]
    assert moved.abs().min() > 1e-4, "this model tells positions apart"
    assert table.groupby("kind")["order"].nunique()[["prompt", "start", "random"]].eq(4).all()


def test_in_a_bag_of_words_order_is_nothing():
    table = reading.shuffling(bag_model(), TASK, times=4)
    assert table.loc[table["kind"] != "no prompt", "loss_change"].abs().max() < 1e-6
    assert table.loc[table["kind"] == "no prompt", "loss_change"].abs().item() > 1e-3


def test_orders_are_distinct_and_come_again():
    orders = reading.orders_of(5, 20)
    assert len(set(orders.values())) == len(orders) == 22
    assert orders == reading.orders_of(5, 20)
    assert orders["reversed"] == (4, 3, 2, 1, 0)
    assert len(reading.orders_of(3, 20)) == math.factorial(3)
    assert list(reading.orders_of(2, 20)) == ["as trained", "reversed"]
    with pytest.raises(ValueError, match="1 virtual tokens has one order"):
        reading.orders_of(1, 3)


# --- interpolation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spherical", [False, True])
def test_interpolation_begins_and_ends_at_the_prompts(model, spherical):
    first, second = model.prompt.detach(), random_vectors(3, seed=2)
    table = reading.interpolation(model, TASK, first, second, 3, spherical=spherical, draws=2)
    own = table[table["kind"] == "prompt"].to_dict("records")
    assert [row["at"] for row in own] == [0, 0.5, 1]
    for row, vectors in ((own[0], first), (own[2], second)):
        assert same(row, vectors, model)
        assert (row["loss_change"], row["loss_low"], row["loss_high"]) == pytest.approx(
            (0, 0, 0), abs=1e-6
        )
    assert same(own[1], reading.between(first, second, 0.5, spherical), model)
    assert own[1]["loss_change"] == pytest.approx(
        own[1]["loss"] - (own[0]["loss"] + own[2]["loss"]) / 2, abs=1e-6
    )
    expected = own[1]["accuracy"] - (own[0]["accuracy"] + own[2]["accuracy"]) / 2
    assert own[1]["accuracy_change"] == pytest.approx(expected, abs=1e-6)
    random = table[(table["kind"] == "random") & (table["draw"] == 1)].to_dict("records")
    assert same(random[2], reading.random_end(first, second, 1), model)
    assert random[0]["loss"] == own[0]["loss"]


def test_the_barrier_is_the_highest_point_above_the_line():
    losses = {"prompt": [0.0, 0.2, 0.5, 0.0], "random": [0.0, -1.0, -2.0, 0.0]}
    table = pd.DataFrame(
        [
            {
                "at": i / 3,
                "kind": kind,
                "draw": draw,
                "loss_change": loss,
                "loss_low": loss - 1,
                "loss_high": loss + 1,
            }
            for kind, draw in (("prompt", pd.NA), ("random", 0))
            for i, loss in enumerate(losses[kind])
        ]
        + [{"kind": "no prompt", "loss_change": 9.0}]
    ).astype({"draw": "Int64"})
    found = reading.barrier(table).to_dict("records")
    assert [(row["kind"], row["barrier"], row["at"]) for row in found] == [
        ("prompt", 0.5, 2 / 3),
        ("random", 0.0, 0),
    ]
    assert (found[0]["low"], found[0]["high"]) == (-0.5, 1.5)


def test_a_random_end_is_as_long_and_as_far():
    first, second = random_vectors(5, seed=1), random_vectors(5, seed=2)
    end = reading.random_end(first, second, 7)
    assert torch.allclose(end.norm(dim=1), second.norm(dim=1))
    assert torch.allclose((end - first).norm(dim=1), (second - first).norm(dim=1))
    assert torch.cosine_similarity(end, second).abs().max() < 0.7
    assert not torch.equal(end, reading.random_end(first, second, 8))
    assert torch.allclose(reading.random_end(first, 2 * first), 2 * first, atol=1e-5)
    from_zero = reading.random_end(torch.zeros(5, 32), second)
    assert torch.allclose(from_zero.norm(dim=1), second.norm(dim=1))


def test_the_spherical_way_turns_and_keeps_lengths():
    first, second = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 4.0], [-1.0, 0.0]])
    middle = reading.between(first, second, 0.5, spherical=True)
    assert middle[0].tolist() == pytest.approx([3 / math.sqrt(2)] * 2, abs=1e-6)
    assert middle[1].tolist() == [0, 0], "opposite ends have no plane to turn in"
    assert torch.allclose(reading.between(first, first, 0.3, spherical=True), first)


# --- scaling ------------------------------------------------------------------------------------------------


def test_scaling_equals_a_loop_over_the_factors(model):
    start = random_vectors(3, seed=2)
    table = reading.scaling(model, TASK, [0.0, 2.0], start=start, draws=1)
    vectors = {
        "prompt": model.prompt.detach(),
        "start": start,
        "random": reading.random_control(model.prompt),
    }
    rows = table[table["kind"] != "no prompt"].to_dict("records")
    assert [row["factor"] for row in rows] == [0, 1, 2] * 3
    for row in rows:
        assert same(row, vectors[row["kind"]] * row["factor"], model), row
    by_one = table[table["factor"] == 1]
    assert (by_one["loss_change"] == 0).all()
    assert by_one["loss"].iloc[0] == pytest.approx(
        evaluate(model, TASK, "validation").loss, abs=1e-5
    )
    zero, none = (
        table[table["factor"] == 0]["loss"],
        table[table["kind"] == "no prompt"]["loss"].item(),
    )
    assert zero.nunique() == 1
    assert abs(zero.iloc[0] - none) > 1e-3, "zeros are read: they are a prompt"


# --- all of them --------------------------------------------------------------------------------------------


def test_a_probe_leaves_the_model_alone_and_comes_again():
    """Also on rotary positions; `limit` takes the first rows."""
    base = llama()
    base.resize_token_embeddings(257, mean_resizing=False)
    model = behind(random_vectors(3), base)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    table = reading.ablation(model, TASK, "test", 5, draws=1)
    assert (table["n"] == 5).all()
    pd.testing.assert_frame_equal(table, reading.ablation(model, TASK, "test", 5, draws=1))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert table[["virtual_token", "draw"]].dtypes.astype(str).tolist() == ["Int64", "Int64"]


@pytest.mark.parametrize(
    ("probe", "change", "message"),
    [
        (
            "ablation",
            {"start": torch.zeros(2, 32)},
            r"the start has shape \(2, 32\), the prompt \(3, 32\)",
        ),
        (
            "interpolation",
            {"second": torch.zeros(2, 32)},
            r"\(3, 32\) and \(2, 32\); they must be one",
        ),
        ("scaling", {"split": "tests"}, "split='tests'"),
    ],
)
def test_what_cannot_be_probed_is_refused(model, probe, change, message):
    arguments = (
        {"first": random_vectors(3), "second": random_vectors(3)}
        if probe == "interpolation"
        else {}
    )
    with pytest.raises(ValueError, match=message):
        getattr(reading, probe)(model, TASK, **arguments | change)
