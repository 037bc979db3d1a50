"""Exercises of chapter 06: nearest tokens."""

import math

import torch
from torch.nn.functional import normalize

from .checks import exercise, normal

# --- 06-1 ---


def by_dot_product(prompt, words, k):
    """These are the k words with the greatest *dot product*: long words win. Divide by the lengths."""
    return (prompt @ words.T).topk(k).indices


def farthest(prompt, words, k):
    """These are the *farthest* words: the greatest cosine is the nearest."""
    return nearest_ids(prompt, -words, k)


def by_distance(prompt, words, k):
    """These are the nearest by L2 distance; the task asks for the cosine."""
    return (-torch.cdist(prompt, words)).topk(k).indices


def scores_returned(found, prompt, words, k):
    """Your result holds scores; return the ids of the words (`topk` gives both)."""
    return found.is_floating_point()


def other_order(found, prompt, words, k):
    """These are the right words in the wrong order: greatest cosine first."""
    wanted = nearest_ids(prompt, words, k)
    return not torch.equal(found, wanted) and torch.equal(found.sort().values, wanted.sort().values)


@exercise(
    "06-1",
    cases=[(normal(5, 6, seed=1), normal(40, 6) * torch.linspace(0.2, 8, 40)[:, None], 3)],
    wrong=[by_dot_product, farthest, by_distance],
    faults=[scores_returned, other_order],
    returns="a tensor (P, k)",
    passed="Length plays no part: a word five times as long has the same cosine.",
)
def nearest_ids(prompt, words, k):
    """Return the ids (P, k) of the words with the greatest cosines.

    Make both sides length 1 with `functional.normalize(x, dim=-1)`; then `prompt @ words.T` is (P, V) and
    holds every cosine. `.topk(k, dim=-1).indices` are the ids, greatest first.
    """
    return (normalize(prompt, dim=-1) @ normalize(words, dim=-1).T).topk(k).indices


# --- 06-2 ---


def lengths_of_steps(result, start, end, generator):
    """Return the length of the step that each row took."""
    return (result - start).norm(dim=-1)


def mean_length_for_all(start, end, generator):
    """All your steps have the mean length; give every row the length of its own step."""
    directions = normalize(torch.randn(start.shape, generator=generator), dim=-1)
    return start + directions * lengths_of_steps(end, start, end, generator).mean()


def steps_alone(found, start, end, generator):
    """You return the steps alone: add the start, so that the control stands where the prompt stood."""
    return torch.allclose(found.norm(dim=-1), (end - start).norm(dim=-1), rtol=1e-4)


def directions_too_long(found, start, end, generator):
    """Your steps are far too long. First make the direction 1 long, then multiply it by the real step's length
    (a normal vector of width 300 is 17 long)."""
    return bool(((found - start).norm(dim=-1) > 10 * (end - start).norm(dim=-1)).all())


def not_random(found, start, end, generator):
    """Your steps point where the real ones do, or straight back: they are not random."""
    return bool((torch.cosine_similarity(found - start, end - start, dim=-1).abs() > 0.5).any())


START = normal(6, 300)


@exercise(
    "06-2",
    cases=[
        (
            START,
            START + normal(6, 300, seed=1) * torch.linspace(0.01, 2, 6)[:, None],
            torch.Generator().manual_seed(2),
        )
    ],
    wrong=[mean_length_for_all],
    faults=[steps_alone, directions_too_long, not_random],
    measure=lengths_of_steps,
    returns="a tensor of the start's shape",
    passed="A control that differs from the prompt in one thing only: the direction.",
)
def random_step_control(start, end, generator):
    """Return the start after a random step, row by row as long as the real one.

    Draw (P, D) normal numbers, divide each row by its own length (`functional.normalize(x, dim=-1)`), then
    multiply it by `(end - start).norm(dim=-1, keepdim=True)`, and add the start.
    """
    directions = normalize(torch.randn(start.shape, generator=generator), dim=-1)
    return start + directions * (end - start).norm(dim=-1, keepdim=True)


# --- 06-3 ---


def squared_distance(a, b, c):
    """That is the *squared* distance: take the root."""
    return distance_from_cosine(a, b, c) ** 2


def length_of_the_sum(a, b, c):
    """That is the length of the sum p + w: the sign of the mixed term is wrong."""
    return distance_from_cosine(a, b, -c)


def of_unit_vectors(a, b, c):
    """That holds for vectors of length 1; here they have lengths a and b."""
    return math.sqrt(2 - 2 * c)


@exercise(
    "06-3",
    cases=[(3.0, 2.5, 0.2), (0.8, 0.9, -0.3), (12.0, 10.0, 0.7)],
    wrong=[squared_distance, length_of_the_sum, of_unit_vectors],
    returns="a distance",
    passed="For words of one length b, a greater cosine is a smaller distance, so both rank alike; "
    "they part where the lengths of words differ.",
)
def distance_from_cosine(a, b, c):
    """Return the measured distance of two vectors of lengths a and b whose cosine is c.

    The squared distance is the dot product of (p - w) with itself. Multiply it out: p.p - 2 p.w + w.w. Here
    p.p is a squared, w.w is b squared, and p.w is a b c.
    """
    return math.dist((a, 0), (b * c, b * math.sqrt(1 - c**2)))


# --- 06-4 ---


def cosine_with_the_step(word_length, step_length):
    """That is the cosine with the *step*: put |w| above the line."""
    return step_length / math.hypot(word_length, step_length)


def lengths_added(word_length, step_length):
    """Lengths at right angles do not add up: the new length is the root of |w|^2 + s^2."""
    return word_length / (word_length + step_length)


def squared_cosine(word_length, step_length):
    """That is the square of the cosine: |w| times the new length stands below the line."""
    return cosine_after_step(word_length, step_length) ** 2


def measured_cosine(word_length, step_length):
    """Return the cosine of a word and itself after a random step in 4,096 dimensions."""
    word, step = normalize(normal(2, 4_096), dim=1) * torch.tensor([[word_length], [step_length]])
    return torch.cosine_similarity(word, word + step, dim=0).item()


@exercise(
    "06-4",
    cases=[(3.0, 4.0), (1.0, 1.0), (3.0, 0.5)],
    wrong=[cosine_with_the_step, lengths_added, squared_cosine],
    returns="a cosine",
    passed="For |w| = 3 and s = 2 your formula gives 0.832; a random step in 4,096 dimensions measures "
    f"{measured_cosine(3.0, 2.0):.3f}.",
)
def cosine_after_step(word_length, step_length):
    """Return the cosine of a word and itself after a step at right angles: |w| / sqrt(|w|^2 + s^2).

    The new place is w + s. Its dot product with w is w.w + s.w, and s.w is 0 at right angles. Its length
    follows from Pythagoras. The cosine is the dot product divided by both lengths.
    """
    return word_length / math.hypot(word_length, step_length)
