"""Nearest tokens against a plain loop, their controls, and the way through training."""

import inspect
import math

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from words import WORDS, walk, word_tokenizer, word_vectors

from softprompt_lab import reading
from softprompt_lab.reading import neighbours

TOKENIZER = word_tokenizer()


def plain_scores(vector: list[float], word: list[float], metric: str) -> float:
    """The score of one virtual token and one word, number by number."""
    if metric == "l2":
        return math.sqrt(sum((a - b) ** 2 for a, b in zip(vector, word, strict=True)))
    dot = sum(a * b for a, b in zip(vector, word, strict=True))
    if metric == "dot":
        return dot
    lengths = math.sqrt(sum(a * a for a in vector)) * math.sqrt(sum(b * b for b in word))
    return dot / lengths if lengths else 0.0


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(1, 6),
    st.sampled_from(reading.METRICS),
    st.booleans(),
    st.integers(1, 50),
    st.integers(0, 10_000),
)
def test_nearest_equals_a_plain_loop(rows, vocabulary, width, metric, centered, chunk, seed):
    generator = torch.Generator().manual_seed(seed)
    prompt = torch.randn(rows, width, generator=generator)
    words = torch.randn(vocabulary, width, generator=generator)
    k = min(4, vocabulary)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "CHUNK", chunk)
        scores, ids = reading.nearest(prompt, words, k, metric, centered)
    mean = words.mean(0) if centered else torch.zeros(width)
    for row in range(rows):
        vector = (prompt[row] - mean).double().tolist()
        every = [plain_scores(vector, (word - mean).double().tolist(), metric) for word in words]
        order = sorted(every, reverse=metric != "l2")
        assert scores[row].tolist() == pytest.approx(order[:k], abs=1e-4)
        assert [every[i] for i in ids[row]] == pytest.approx(order[:k], abs=1e-4)
        assert len(set(ids[row].tolist())) == k


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize(("metric", "best"), [("cosine", 1.0), ("l2", 0.0)])
def test_a_prompt_made_of_words_finds_its_own_words(metric, best, centered):
    words = word_vectors()
    ids = [5, 7, 2, 5]
    frame = reading.nearest_tokens(words[ids], words, TOKENIZER, 1, metric, centered)
    assert frame["token_id"].tolist() == ids
    assert frame["token"].tolist() == [WORDS[i] for i in ids]
    assert frame["score"].tolist() == pytest.approx([best] * 4, abs=1e-6)


def test_the_long_table_and_the_table_to_read():
    words = word_vectors(extra=2)
    frame = reading.nearest_tokens(words[[-1, 3]], words, TOKENIZER, k=3)
    assert frame.columns.tolist() == ["virtual_token", "rank", "token_id", "token", "score"]
    assert frame["virtual_token"].tolist() == [0, 0, 0, 1, 1, 1]
    assert frame["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    assert frame.loc[0, "token"] == f"<{len(WORDS) + 1}>"  # a padded row of the vocabulary has no token
    table = reading.neighbour_table(frame)
    assert table.shape == (2, 3)
    assert table.loc[1, 1] == "the 1.00"


def test_of_equal_scores_the_lower_id_is_first(monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", 3)
    words = torch.ones(10, 4)
    for metric in reading.METRICS:
        assert reading.nearest(torch.ones(2, 4), words, 5, metric)[1].tolist() == [[0, 1, 2, 3, 4]] * 2


def test_half_precision_words_and_zero_vectors():
    words = word_vectors().bfloat16()
    scores, ids = reading.nearest(words[:3].float(), words)
    assert scores.dtype == torch.float32
    assert ids[:, 0].tolist() == [0, 1, 2]
    assert reading.nearest(torch.zeros(1, 6), words, 1)[0].item() == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 19}, "k is 19; .* 18"),
        ({"metric": "manhattan"}, "'manhattan'; choose one of cosine, l2, dot"),
        ({"prompt": torch.zeros(2, 5)}, "5 wide, the word embeddings 6"),
        ({"prompt": torch.full((2, 6), float("nan"))}, "prompt holds 12 values that are not finite"),
        ({"word_embeddings": torch.full((18, 6), float("inf"))}, "word_embeddings holds 108 values"),
        ({"prompt": torch.zeros(0, 6)}, r"shape \(0, 6\)"),
    ],
)
def test_what_cannot_be_read_is_refused(change, message):
    arguments = {
        "prompt": torch.ones(2, 6),
        "word_embeddings": word_vectors(),
        "k": 2,
        "metric": "cosine",
    } | change
    # below the type checks of the tests, which would refuse an unknown metric first
    with pytest.raises(ValueError, match=message):
        neighbours._check(**arguments)


class Pieces:
    """A tokenizer that knows four pieces of vocabulary."""

    PIECES = ("Ġword", "▁word", "<0x0A>", "Ċ")

    def convert_ids_to_tokens(self, i):
        return self.PIECES[i]

    def decode(self, ids):
        return (" word", "", "\ufffd", "\n")[ids[0]]


def test_tokens_are_readable():
    shown = [inspect.unwrap(neighbours.readable_token)(i, Pieces()) for i in range(4)]
    assert shown == ["·word", "·word", "<0x0A>", r"\n"]


def test_the_random_control_has_the_prompts_norms_and_no_words():
    words = word_vectors(width=64)
    prompt = words[:5] * torch.arange(1.0, 6.0)[:, None]
    control = reading.random_control(prompt, seed=3)
    assert torch.allclose(control.norm(dim=1), prompt.norm(dim=1))
    assert torch.equal(control, reading.random_control(prompt, seed=3))
    assert not torch.equal(control, reading.random_control(prompt, seed=4))
    start = torch.randn(5, 64, generator=torch.Generator().manual_seed(3))  # a RANDOM start of the same seed
    assert torch.cosine_similarity(control, start).abs().max() < 0.5
    assert reading.nearest(control, words, 1)[0].max() < 0.6 < reading.nearest(prompt, words, 1)[0].min()


def test_the_random_control_can_keep_the_distance_to_a_point():
    words = word_vectors(width=64)
    prompt, mean = words[:5], torch.full((64,), 2.0)
    control = reading.random_control(prompt, seed=3, around=mean)
    assert torch.allclose((control - mean).norm(dim=1), (prompt - mean).norm(dim=1))
    around_zero = reading.random_control(prompt, seed=3, around=torch.zeros(64))
    assert torch.equal(around_zero, reading.random_control(prompt, seed=3))


def test_norms_and_their_quantiles():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]])
    assert reading.norms(vectors).tolist() == [5.0, 0.0, 2.0]
    assert reading.vocabulary_norms(vectors, (0.0, 0.5, 1.0)).tolist() == [0.0, 2.0, 5.0]


def test_similarity_to_the_start():
    start = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    frame = reading.similarity_to_start({20: torch.tensor([[0.0, 1.0], [0.0, 4.0]]), 0: start})
    expected = pd.DataFrame(
        {
            "step": [0, 0, 20, 20],
            "virtual_token": [0, 1, 0, 1],
            "cosine": [1, 1, 0, 1],
            "distance": [0, 0, 2**0.5, 2],
        }
    )
    pd.testing.assert_frame_equal(frame, expected, check_dtype=False)
    with pytest.raises(ValueError, match="one shape"):
        reading.similarity_to_start({})
    with pytest.raises(ValueError, match=r"\(2, 2\), \(3, 2\)"):
        reading.similarity_to_start({0: start, 1: torch.zeros(3, 2)})


def test_the_trajectory_says_what_each_snapshot_says():
    words = word_vectors()
    snapshots = walk(words)
    frame = reading.trajectory(snapshots, words, TOKENIZER)
    assert len(frame) == 5 * 4
    assert frame.query("step == 0")["token_id"].tolist() == [3, 4, 5, 6]
    assert frame.query("step == 0")["distance"].tolist() == [0.0] * 4
    last = reading.nearest_tokens(snapshots[40], words, TOKENIZER, 1)
    assert frame.query("step == 40")["token"].tolist() == last["token"].tolist()
    assert frame.query("step == 40")["norm"].tolist() == pytest.approx(reading.norms(snapshots[40]).tolist())


def test_the_projection_keeps_a_straight_way_whole():
    words = word_vectors()
    direction = torch.nn.functional.normalize(torch.ones(6), dim=0)
    snapshots = {i: words[:3] + i * direction for i in range(4)}
    projection = reading.project(snapshots, words, words=10)
    assert projection.explained == pytest.approx((1.0, 0.0), abs=1e-9)
    token = projection.points.query("virtual_token == 1")
    assert token["x"].diff().dropna().abs().tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert len(projection.backdrop) == 10
    word = projection.backdrop.iloc[0]
    assert word["x"] == pytest.approx(float(words[int(word["token_id"])] @ direction), abs=1e-5)


def test_a_projection_of_one_number_or_one_snapshot():
    flat = reading.project({0: torch.zeros(1, 1), 5: torch.ones(1, 1)}, torch.ones(4, 1))
    assert flat.points["y"].tolist() == [0.0, 0.0]
    still = reading.project({0: torch.ones(2, 6)}, word_vectors())
    assert still.explained == (0.0, 0.0)
    assert still.points[["x", "y"]].notna().all(axis=None)
