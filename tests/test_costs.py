"""The cost model: the row length that it gives is the cheapest, and the way that it picks the one counted by hand."""

import math

import pytest
import torch
from families import bloom, llama

from softprompt_lab.engine.costs import Costs, costs_of
from softprompt_lab.engine.packing import Example, Target
from softprompt_lab.engine.scoring import BLOCKS, PACKED, PADDED, PREFIXED, select_strategy

COSTS = Costs(per_token=1000.0, per_pair=2.0, per_label=50.0, per_call=500.0, per_batch=0.0)


def test_a_row_is_so_long_that_prompt_and_call_are_a_tenth_of_its_text():
    """Without a dense mask nothing grows with the square."""
    tokens = COSTS.row_tokens(20)
    assert tokens * 1000 * 0.1 == pytest.approx(20 * 1000 + 500)
    assert COSTS.row_tokens(100_000) == 4096


@pytest.mark.parametrize("prompt", [1, 20, 100])
def test_no_other_row_length_is_cheaper(prompt):
    """Against every number of rows, by the plain sum."""
    tokens = 5000

    def cost(rows: int) -> float:
        length = prompt + tokens / rows
        return rows * (500 + 1000 * length + 2 * length**2)

    best = min(range(1, 200), key=cost)
    assert COSTS.masked_row_tokens(prompt) == pytest.approx(tokens / best, rel=0.05)
    assert COSTS.packed(prompt, tokens, labels=3) == pytest.approx(cost(best) + 150, rel=0.01)


def test_the_costs_are_those_of_the_base_model():
    """Weights of the layers twice, without embeddings and head; attention by width and depth."""
    model = llama()
    layers = (
        sum(parameter.numel() for parameter in model.model.layers.parameters())
        + model.model.norm.weight.numel()
    )
    costs = costs_of(model)
    assert costs.per_token == 2 * layers
    assert costs.per_pair == 4 * 32 * 2
    assert costs.per_label == 2 * 99 * 32
    assert costs.per_call > 0


def test_the_cheapest_way_is_taken():
    """Blocks for much text, a mask for little, the plain way for one row; BLOOM's prefix for a long prompt."""
    rows = [Example([n, *[5] * 9], [Target.of([6])]) for n in range(32)]
    long, short = torch.zeros(100, 32), torch.zeros(2, 32)
    assert select_strategy(llama(), [long], rows) is PACKED
    much = [Example([n, *[5] * 99], [Target.of([6])]) for n in range(256)]
    assert select_strategy(llama(), [long], much) is BLOCKS
    assert select_strategy(llama(), [long], rows[:1]) is PADDED
    assert select_strategy(bloom(), [long], rows) is PREFIXED
    assert select_strategy(bloom(), [short], rows[:1]) is PADDED
    costs = costs_of(bloom())
    assert math.isinf(PREFIXED.cost(costs, [torch.zeros(1, 32)], rows))
    assert PREFIXED.cost(costs, [long], rows) < PADDED.cost(costs, [long], rows)
