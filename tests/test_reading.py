"""Nearest tokens against a plain loop, and what they are held against: controls, other metrics, norms."""

import inspect
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from words import WORDS, word_tokenizer, word_vectors

from softprompt_lab import reading
from softprompt_lab.reading import neighbours, search

TOKENIZER = word_tokenizer()
METRICS = reading.METRICS
SCALINGS = {"raw": {}, "centred": {"centered": True}, "standardised": {"standardised": True}}


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
    st.sampled_from(METRICS),
    st.sampled_from(list(SCALINGS)),
    st.integers(1, 50),
    st.integers(0, 10_000),
)
def test_nearest_equals_a_plain_loop(rows, vocabulary, width, metric, scaling, chunk, seed):
    generator = torch.Generator().manual_seed(seed)
    prompt = torch.randn(rows, width, generator=generator)
    words = torch.randn(vocabulary, width, generator=generator)
    k = min(4, vocabulary)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "CHUNK", chunk)
        scores, ids = reading.nearest(prompt, words, k, metric, **SCALINGS[scaling])
    mean, deviation = torch.zeros(width) if scaling == "raw" else words.mean(0), torch.ones(width)
    if scaling == "standardised" and vocabulary > 1:
        deviation = words.std(0, correction=0)
    for row in range(rows):
        vector = ((prompt[row] - mean) / deviation).double().tolist()
        every = [
            plain_scores(vector, ((word - mean) / deviation).double().tolist(), metric)
            for word in words
        ]
        order = sorted(every, reverse=metric != "l2")
        assert scores[row].tolist() == pytest.approx(order[:k], abs=1e-4)
        assert [every[i] for i in ids[row]] == pytest.approx(order[:k], abs=1e-4)
        assert len(set(ids[row].tolist())) == k


def exact(prompt: torch.Tensor, words: torch.Tensor, metric: str, scaling: str) -> torch.Tensor:
    """All scores in float64, nearer ones larger."""
    prompt, words = prompt.double(), words.double()
    mean, deviation = words.mean(0), words.std(0, correction=0)
    if scaling != "raw":
        prompt, words = prompt - mean, words - mean
    if scaling == "standardised":
        prompt, words = prompt / deviation, words / deviation
    if metric == "l2":
        return -torch.cdist(prompt, words, compute_mode="donot_use_mm_for_euclid_dist")
    if metric == "cosine":
        prompt, words = (
            torch.nn.functional.normalize(vectors, dim=1) for vectors in (prompt, words)
        )
    return prompt @ words.T


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize(("metric", "scaling"), list(itertools.product(METRICS, SCALINGS)))
def test_nearest_is_exact_where_float32_would_err(metric, scaling, size):
    """Words far from zero and close to each other, some the same: the ids of a search in float64."""
    generator = torch.Generator().manual_seed(5)
    words = 1 + 3e-4 * torch.randn(3_000, 96, generator=generator)
    words[100:200] = words[1_000:1_100]
    words, lengths = size * words, torch.tensor([1.0, 30.0, 0.01])[:, None]
    prompt = words[[7, 150, 2_000]] * lengths + size * 1e-4 * torch.randn(
        3, 96, generator=generator
    )
    scores, ids = reading.nearest(prompt, words, 8, metric, **SCALINGS[scaling])
    every = exact(prompt, words, metric, scaling)
    best = every.topk(8).values
    close = 2e-6 * best.abs().amax(1, keepdim=True)  # what float32 can tell apart
    assert ((every.gather(1, ids) - best).abs() <= close).all()
    assert ((scores.double().abs() - best.abs()).abs() <= 1e-4 * best.abs() + close).all()


def test_words_whose_squares_overflow_are_searched_in_float64():
    words = word_vectors() * 1e19
    found = reading.nearest(words[[3, 9]] * 1.1, words, 3, "l2")[1]
    assert torch.equal(found, exact(words[[3, 9]] * 1.1, words, "l2", "raw").topk(3).indices)


def test_a_dimension_that_is_the_same_in_all_words_is_not_scaled(monkeypatch):
    monkeypatch.setattr(search, "CHUNK", 7)
    words = word_vectors(width=5) + torch.tensor([0.0, 100.0, -3.0, 0.0, 2.0])
    words[:, 4] = 0.1
    scores, ids = reading.nearest(words[:3], words, 1, standardised=True)
    assert ids[:, 0].tolist() == [0, 1, 2]
    assert scores[:, 0].tolist() == pytest.approx([1.0] * 3)


@pytest.mark.parametrize("scaling", list(SCALINGS))
@pytest.mark.parametrize(("metric", "best"), [("cosine", 1.0), ("l2", 0.0)])
def test_a_prompt_made_of_words_finds_its_own_words(metric, best, scaling):
    words = word_vectors()
    ids = [5, 7, 2, 5]
    scores, found = reading.nearest(words[ids], words, 1, metric, **SCALINGS[scaling])
    assert found[:, 0].tolist() == ids
    assert scores[:, 0].tolist() == pytest.approx([best] * 4, abs=1e-6)
    frame = reading.nearest_tokens(words[ids], words, TOKENIZER, 1, metric)
    assert frame["token"].tolist() == [WORDS[i] for i in ids]


def test_the_long_table_and_the_table_to_read():
    words = word_vectors(extra=2)
    frame = reading.nearest_tokens(words[[-1, 3]], words, TOKENIZER, k=3)
    assert frame.columns.tolist() == ["virtual_token", "rank", "token_id", "token", "score"]
    assert frame["virtual_token"].tolist() == [0, 0, 0, 1, 1, 1]
    assert frame["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    assert (
        frame.loc[0, "token"] == f"<{len(WORDS) + 1}>"
    )  # a padded row of the vocabulary has no token
    table = reading.neighbour_table(frame)
    assert table.shape == (2, 3)
    assert table.loc[1, 1] == "the 1.00"


def test_of_equal_scores_the_lower_id_is_first(monkeypatch):
    monkeypatch.setattr(search, "CHUNK", 3)
    words = torch.ones(10, 4)
    for metric in reading.METRICS:
        assert (
            reading.nearest(torch.ones(2, 4), words, 5, metric)[1].tolist() == [[0, 1, 2, 3, 4]] * 2
        )


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
        ({"prompt": torch.zeros(2, 5)}, r"\(2, 5\), the word embeddings \(18, 6\)"),
        (
            {"prompt": torch.full((2, 6), float("nan"))},
            "prompt holds values that are not finite",
        ),
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
        search.check_vectors(**arguments)


class Pieces:
    """A tokenizer that knows a few pieces of vocabulary."""

    PIECES = ("Ġword", "▁word", "<0x0A>", "Ċ", "Ã", "Ãĥ", "Ġà¤", "Â·", "\\")

    def convert_ids_to_tokens(self, i):
        return self.PIECES[i]

    def decode(self, ids):
        return (" word", "", "\ufffd", "\n", "\ufffd", "Ã", " \ufffd", "·", "\\")[ids[0]]


def test_tokens_are_readable():
    """A byte that is no character looks like no letter, and a point or backslash like no space or escape."""
    shown = [inspect.unwrap(neighbours.readable_token)(i, Pieces()) for i in range(9)]
    assert shown[:4] == ["·word", "·word", "<0x0A>", r"\n"]
    assert shown[4:] == ["<0xC3>", "Ã", "·<0xE0><0xA4>", r"\xb7", r"\\"]


def test_the_random_control_has_the_prompts_norms_and_no_words():
    words = word_vectors(width=64)
    prompt = words[:5] * torch.arange(1.0, 6.0)[:, None]
    control = reading.random_control(prompt, seed=3)
    assert torch.allclose(control.norm(dim=1), prompt.norm(dim=1))
    assert torch.equal(control, reading.random_control(prompt, seed=3))
    assert not torch.equal(control, reading.random_control(prompt, seed=4))
    start = torch.randn(
        5, 64, generator=torch.Generator().manual_seed(3)
    )  # a RANDOM start of the same seed
    assert torch.cosine_similarity(control, start).abs().max() < 0.5
    assert (
        reading.nearest(control, words, 1)[0].max()
        < 0.6
        < reading.nearest(prompt, words, 1)[0].min()
    )


def test_the_random_control_can_keep_the_distance_to_a_point():
    words = word_vectors(width=64)
    prompt, mean = words[:5], torch.full((64,), 2.0)
    control = reading.random_control(prompt, seed=3, around=mean)
    assert torch.allclose((control - mean).norm(dim=1), (prompt - mean).norm(dim=1))
    around_zero = reading.random_control(prompt, seed=3, around=torch.zeros(64))
    assert torch.equal(around_zero, reading.random_control(prompt, seed=3))


def test_norms():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]])
    assert reading.norms(vectors).tolist() == [5.0, 0.0, 2.0]


def test_random_words_are_words():
    words = word_vectors()
    drawn = reading.random_words(torch.ones(7, 6), words)
    assert all((row == words).all(1).any() for row in drawn)
    assert len(drawn) == 7


def test_one_table_of_the_prompt_and_what_it_is_held_against():
    words = word_vectors()
    prompts = {"prompt": words[3:7] + 0.1, "start": words[3:7], "other seed": words[:2]}
    frame = reading.nearest_tokens_of(prompts, words, TOKENIZER, 3, "l2", centered=True)
    assert frame["kind"].unique().tolist() == ["prompt", "start", "other seed", "random"]
    assert frame.groupby("kind").size().to_dict() == {
        "prompt": 12,
        "start": 12,
        "other seed": 6,
        "random": 12,
    }
    random = reading.random_control(prompts["prompt"], around=words.mean(0))
    for kind, vectors in {**prompts, "random": random}.items():
        alone = reading.nearest_tokens(vectors, words, TOKENIZER, 3, "l2", centered=True)
        own = frame[frame["kind"] == kind].drop(columns="kind").reset_index(drop=True)
        assert own["token"].tolist() == alone["token"].tolist()
        assert own["virtual_token"].tolist() == alone["virtual_token"].tolist()
        assert own["score"].tolist() == pytest.approx(alone["score"].tolist(), abs=1e-5)


def test_norms_beside_the_vocabulary():
    words = torch.arange(1.0, 11.0)[:, None] * torch.eye(3)[:1]  # norms 1 to 10
    prompts = {
        "prompt": torch.tensor([[0.5, 0, 0], [0, 3.0, 0], [0, 0, 99.0]]),
        "start": words[[4]],
    }
    table = reading.norms_table(prompts, words)
    assert table["kind"].unique().tolist() == ["prompt", "start", "words", "N(0, 1)"]
    assert table.query("kind == 'prompt'")["norm"].tolist() == pytest.approx([0.5, 3.0, 99.0])
    assert table.query("kind == 'prompt'")["quantile"].tolist() == pytest.approx([0.0, 0.3, 1.0])
    drawn = table.query("kind == 'words'")
    assert drawn["quantile"].tolist() == pytest.approx((drawn["norm"] / 10).tolist())
