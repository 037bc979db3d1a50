"""Packed rows: every token once, positions and mask as a loop would write them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt_lab.batch import Example, Target
from softprompt_lab.engine.fast import examples_from_batch
from softprompt_lab.engine.packing import PackedRow, pack, packed_mask, unique_tokens

TOKENS = st.lists(st.integers(0, 50), min_size=1, max_size=6)
EXAMPLES = st.lists(
    st.builds(
        Example,
        st.one_of(
            st.lists(st.integers(0, 50), max_size=6), st.lists(st.integers(0, 1), max_size=6)
        ),
        st.lists(st.builds(Target.of, TOKENS), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=6,
)


def paths(row: PackedRow, prompt_length: int) -> list[list[int]]:
    """For each place of `[prompt | ids]`, the places that its mask lets it see."""
    mask = packed_mask(row, prompt_length)
    return [line.nonzero()[:, 0].tolist() for line in mask]


def test_two_rows_laid_out_by_hand():
    """Two virtual tokens, two texts, the second with two competing targets."""
    examples = [
        Example([10, 11], [Target.of([12, 13])]),
        Example([20], [Target.of([21, 22]), Target.of([23, 24])]),
    ]
    row = PackedRow.of(list(enumerate(examples)), prompt=0, prompt_length=2)
    assert row.ids == [10, 11, 12, 20, 21, 23]
    assert row.position_ids == [2, 3, 4, 2, 3, 3]
    assert row.label_ids == [12, 13, 21, 22, 23, 24]
    assert row.label_positions == [3, 4, 5, 6, 5, 7]
    assert row.owners == [(0, 0), (0, 0), (1, 0), (1, 0), (1, 1), (1, 1)]
    assert paths(row, 2) == [
        [0],
        [0, 1],
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4],
        [0, 1, 5],
        [0, 1, 5, 6],
        [0, 1, 5, 7],
    ]


def test_what_contexts_share_stands_there_once():
    """Two texts that begin with the same two tokens, one of them with nothing more; each sees the two and its own."""
    examples = [
        Example([7, 8, 9], [Target.of([1, 2])]),
        Example([7, 8], [Target.of([3, 4]), Target.of([5])]),
    ]
    row = PackedRow.of(list(enumerate(examples)), prompt=0, prompt_length=1)
    assert row.ids == [7, 8, 9, 1, 3]
    assert row.position_ids == [1, 2, 3, 4, 3]
    assert row.label_positions == [3, 4, 2, 5, 2]
    assert paths(row, 1) == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 5]]
    assert unique_tokens(examples) == 5


@settings(max_examples=60, deadline=None)
@given(EXAMPLES, st.integers(0, 3), st.integers(5, 30))
def test_every_label_is_predicted_from_exactly_its_own_prefix(examples, prompt_length, budget):
    """Reading along the mask from a label's place gives prompt, context and target so far, at running positions."""
    found = []
    for row in pack(examples, [prompt_length], [float(budget)]):
        places = paths(row, prompt_length) if row.ids or prompt_length else []
        for place, label, owner in zip(row.label_positions, row.label_ids, row.owners, strict=True):
            seen = [seen - prompt_length for seen in places[place] if seen >= prompt_length]
            assert [row.position_ids[s] for s in seen] == list(
                range(prompt_length, prompt_length + len(seen))
            )
            found.append((owner, tuple(row.ids[s] for s in seen), label))
    expected = [
        ((index, number), (*example.context, *target.ids[:place]), label)
        for index, example in enumerate(examples)
        for number, target in enumerate(example.targets)
        for place, label in enumerate(target.labels)
        if prompt_length + len(example.context) + place > 0
    ]
    assert found == expected


@settings(max_examples=60, deadline=None)
@given(EXAMPLES, st.integers(10, 30))
def test_rows_are_about_as_long_as_asked(examples, text_tokens):
    """None is longer by more than half an example; no token is read twice and no row is empty."""
    rows = list(pack(examples, [2], [float(text_tokens)]))
    longest = max(map(len, examples))
    for row in rows:
        assert row.label_ids
        assert (
            len(row.ids) <= text_tokens + longest / 2
            or len({index for index, _ in row.owners}) == 1
        )
        own = [examples[index] for index in dict.fromkeys(index for index, _ in row.owners)]
        assert len(row.ids) == unique_tokens(own)


def test_each_prompt_has_rows_of_its_own():
    """Positions go on from its own length."""
    examples = [
        Example([10 + n, 11], [Target.of([12])], prompt) for n, prompt in enumerate((1, 0, 1))
    ]
    first, second = pack(examples, [3, 5], [100.0, 100.0])
    assert (first.prompt, second.prompt) == (0, 1)
    assert (first.position_ids, second.position_ids) == ([3, 4], [5, 6, 5, 6])
    assert [first.owners, second.owners] == [[(1, 0)], [(0, 0), (2, 0)]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_tensors_become_the_rows_they_pad(side):
    """Pads fall away; the context ends before the first counted label."""
    from batches import LABELLED, ROWS, padded

    ids, mask, labels = padded(ROWS, side)
    for example, row in zip(
        examples_from_batch(ids, mask.bool(), labels, [0] * len(ids)), ROWS, strict=True
    ):
        assert example.context == row[:-LABELLED]
        assert example.targets[0].ids == example.targets[0].labels == row[-LABELLED:]
