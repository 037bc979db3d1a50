"""The way through training: similarity to the start, the random walk beside it, nearest tokens, the projection."""

import pandas as pd
import pytest
import torch
from words import walk, word_tokenizer, word_vectors

from softprompt_lab import reading

TOKENIZER = word_tokenizer()


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


def test_the_trajectory_says_what_each_snapshot_says():
    words = word_vectors()
    snapshots = walk(words)
    frame = reading.trajectory(snapshots, words, TOKENIZER)
    assert len(frame) == 5 * 4
    assert frame.query("step == 0")["token_id"].tolist() == [3, 4, 5, 6]
    assert frame.query("step == 0")["distance"].tolist() == [0.0] * 4
    last = reading.nearest_tokens(snapshots[40], words, TOKENIZER, 1)
    assert frame.query("step == 40")["token"].tolist() == last["token"].tolist()
    assert frame.query("step == 40")["norm"].tolist() == pytest.approx(
        reading.norms(snapshots[40]).tolist()
    )


def test_the_projection_keeps_a_straight_way_whole():
    words = word_vectors()
    direction = torch.nn.functional.normalize(torch.ones(6), dim=0)
    snapshots = {i: words[:3] + i * direction for i in range(4)}
    projection = reading.project(snapshots, words)
    assert projection.explained == pytest.approx((1.0, 0.0), abs=1e-9)
    token = projection.points.query("virtual_token == 1")
    assert token["x"].diff().dropna().abs().tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert len(projection.backdrop) == len(words)
    word = projection.backdrop.iloc[0]
    assert word["x"] == pytest.approx(float(words[int(word["token_id"])] @ direction), abs=1e-5)


def test_a_projection_of_one_snapshot():
    still = reading.project({0: torch.ones(2, 6)}, word_vectors())
    assert still.explained == (0.0, 0.0)
    assert still.points[["x", "y"]].notna().all(axis=None)


def test_the_random_walk_has_the_steps_lengths_and_its_start():
    snapshots = walk(word_vectors(width=64), steps=6)
    control = reading.random_walk_control(snapshots, seed=2)
    assert list(control) == list(snapshots)
    assert torch.equal(control[0], snapshots[0])
    for before, after in zip(range(0, 50, 10), range(10, 60, 10), strict=True):
        found, expected = ((w[after] - w[before]).norm(dim=1) for w in (control, snapshots))
        torch.testing.assert_close(found, expected)
    assert torch.equal(reading.random_walk_control(snapshots, seed=2)[50], control[50])
    assert not torch.equal(reading.random_walk_control(snapshots, seed=3)[50], control[50])


def test_a_straight_way_leads_farther_than_a_random_one():
    """100 steps of length 1 in 4,096 dimensions: 100 away, and about 10."""
    direction = torch.nn.functional.normalize(torch.ones(1, 4096), dim=1)
    snapshots = {step: step * direction for step in range(101)}
    control = reading.random_walk_control(snapshots)
    assert (snapshots[100] - snapshots[0]).norm() == pytest.approx(100, rel=1e-3)
    assert (control[100] - control[0]).norm() == pytest.approx(10, rel=0.05)


def test_one_table_of_runs_and_the_random_walk():
    words = word_vectors()
    runs = {"prompt": walk(words), "other seed": walk(words, seed=4)}
    frame = reading.trajectories_of(runs, words, TOKENIZER)
    assert frame["kind"].unique().tolist() == ["prompt", "other seed", "random walk"]
    alone = {**runs, "random walk": reading.random_walk_control(runs["prompt"])}
    for kind, snapshots in alone.items():
        own = frame[frame["kind"] == kind].drop(columns="kind").reset_index(drop=True)
        expected = reading.trajectory(snapshots, words, TOKENIZER)
        pd.testing.assert_frame_equal(own, expected, rtol=1e-5)
