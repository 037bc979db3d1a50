"""Checks of chapter 06: nearest tokens."""

import math
from collections.abc import Callable

import torch

from .checks import Wrong, exercise


@exercise(
    "06-1",
    hint="""
    Make both sides length 1 with `functional.normalize(x, dim=-1)`; then `prompt @ words.T` is (P, V) and
    holds every cosine. `.topk(k, dim=-1).indices` are the ids, greatest first.
    """,
)
def nearest_by_cosine(
    nearest_ids: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor],
) -> str:
    """Check `nearest_ids(prompt, words, k)`: the ids of the k greatest cosines."""
    generator = torch.Generator().manual_seed(0)
    words = (
        torch.randn(40, 6, generator=generator) * torch.linspace(0.2, 8, 40)[:, None]
    )  # lengths differ
    prompt = torch.randn(5, 6, generator=generator)
    cosine = torch.cosine_similarity(prompt[:, None], words[None], dim=-1)  # (P, V)
    given = nearest_ids(prompt, words, 3)
    if not isinstance(given, torch.Tensor) or tuple(given.shape) != (5, 3):
        shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
        raise Wrong(f"for P=5 and k=3 your result is {shape}; it must be a tensor (5, 3).")
    if given.is_floating_point():
        raise Wrong("your result holds scores; return the ids of the words (`topk` gives both).")
    others = {
        "these are the k words with the greatest *dot product*: long words win. Divide by the lengths": (
            prompt @ words.T
        )
        .topk(3)
        .indices,
        "these are the *farthest* words: the greatest cosine is the nearest": (-cosine)
        .topk(3)
        .indices,
        "these are the nearest by L2 distance; the task asks for the cosine": (
            -torch.cdist(prompt, words)
        )
        .topk(3)
        .indices,
    }
    wanted = cosine.topk(3).indices
    for says, ids in others.items():
        if torch.equal(given, ids) and not torch.equal(ids, wanted):
            raise Wrong(f"{says}.")
    if torch.equal(given.sort(dim=-1).values, wanted.sort(dim=-1).values) and not torch.equal(
        given, wanted
    ):
        raise Wrong("the right words in the wrong order: greatest cosine first.")
    if not torch.equal(given, wanted):
        raise Wrong(
            f"nearest to virtual token 0 are words {wanted[0].tolist()}, you say {given[0].tolist()}."
        )
    return "Length plays no part: a word five times as long has the same cosine."


@exercise(
    "06-2",
    hint="""
    Draw (P, D) normal numbers, divide each row by its own length (`functional.normalize(x, dim=-1)`), then
    multiply it by `(end - start).norm(dim=-1, keepdim=True)`, and add the start.
    """,
)
def fair_control(
    control: Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor],
) -> str:
    """Check `random_step_control(start, end, generator)`: random steps as long as the real ones."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(6, 300, generator=generator)
    end = start + torch.randn(6, 300, generator=generator) * torch.linspace(0.01, 2, 6)[:, None]
    given = control(start.clone(), end.clone(), torch.Generator().manual_seed(1))
    if not isinstance(given, torch.Tensor) or given.shape != start.shape:
        raise Wrong(f"return a tensor of the start's shape {tuple(start.shape)}.")
    wanted, steps = (end - start).norm(dim=-1), (given - start).norm(dim=-1)
    if torch.allclose(given.norm(dim=-1), wanted, rtol=1e-4):
        raise Wrong(
            "you return the steps alone: add the start, so that the control stands where the prompt stood."
        )
    if torch.allclose(steps, wanted.mean().expand(6), rtol=1e-4):
        raise Wrong(
            "all your steps have the mean length; give every row the length of its own step."
        )
    if not torch.allclose(steps, wanted, rtol=1e-4):
        raise Wrong(
            f"row 0 went {wanted[0]:.2f} far and your row 0 goes {steps[0]:.2f}. First make the direction "
            "1 long, then multiply it by the real step's length (a normal vector of width 300 is 17 long)."
        )
    overlap = torch.cosine_similarity(given - start, end - start, dim=-1).abs().max().item()
    if overlap > 0.5:
        raise Wrong(
            f"your steps have a cosine of {overlap:.2f} with the real ones: they are not random."
        )
    again = control(start, end, torch.Generator().manual_seed(1))
    if not torch.equal(given, again):
        raise Wrong("the same generator seed gives other steps: draw with `generator=generator`.")
    return "A control that differs from the prompt in one thing only: the direction."


@exercise(
    "06-3",
    hint="""
    The squared distance is the dot product of (p - w) with itself. Multiply it out: p.p - 2 p.w + w.w. Here
    p.p is a squared, w.w is b squared, and p.w is a b c.
    """,
)
def distance(distance_from_cosine: Callable[[float, float, float], float]) -> str:
    """Check `distance_from_cosine(a, b, c)`: the law of cosines."""
    generator = torch.Generator().manual_seed(0)
    for length in (1.0, 0.3, 4.0):
        p, w = torch.randn(2, 8, generator=generator, dtype=torch.float64) * length
        a, b = p.norm().item(), w.norm().item()
        c, wanted = (p @ w).item() / (a * b), (p - w).norm().item()
        given = float(distance_from_cosine(a, b, c))
        if math.isclose(given, wanted**2, rel_tol=1e-6):
            raise Wrong("that is the *squared* distance: take the root.")
        if math.isclose(given, math.sqrt(a * a + b * b + 2 * a * b * c), rel_tol=1e-6):
            raise Wrong("that is the length of the sum p + w: the sign of the mixed term is wrong.")
        if math.isclose(given, math.sqrt(max(2 - 2 * c, 0)), rel_tol=1e-6):
            raise Wrong("that holds for vectors of length 1; here they have lengths a and b.")
        if not math.isclose(given, wanted, rel_tol=1e-6):
            raise Wrong(
                f"for a={a:.3f}, b={b:.3f}, c={c:.3f} the distance is {wanted:.3f}, you say {given:.3f}."
            )
    return (
        "For words of one length b, a greater cosine is a smaller distance, so both rank alike; they "
        "part where the lengths of words differ."
    )


@exercise(
    "06-4",
    hint="""
    The new place is w + s. Its dot product with w is w.w + s.w, and s.w is 0 at right angles. Its length
    follows from Pythagoras. The cosine is the dot product divided by both lengths.
    """,
)
def after_a_step(cosine_after_step: Callable[[float, float], float]) -> str:
    """Check `cosine_after_step(word_length, step_length)`: |w| / sqrt(|w|^2 + s^2)."""
    for length, step in ((3.0, 4.0), (1.0, 1.0), (3.0, 0.5)):
        wanted, given = length / math.hypot(length, step), float(cosine_after_step(length, step))
        if length != step and math.isclose(given, step / math.hypot(length, step), rel_tol=1e-6):
            raise Wrong("that is the cosine with the *step*: put |w| above the line.")
        if math.isclose(given, length / (length + step), rel_tol=1e-6):
            raise Wrong(
                "lengths at right angles do not add up: the new length is the root of |w|^2 + s^2."
            )
        if math.isclose(given, wanted**2, rel_tol=1e-6):
            raise Wrong(
                "that is the square of the cosine: |w| times the new length stands below the line."
            )
        if not math.isclose(given, wanted, rel_tol=1e-6):
            raise Wrong(
                f"for |w|={length}, s={step} the cosine is {wanted:.3f}, you say {given:.3f}."
            )
    generator = torch.Generator().manual_seed(0)
    word, direction = torch.randn(2, 4_096, generator=generator)
    word, step = 3 * word / word.norm(), 2 * direction / direction.norm()
    measured = torch.cosine_similarity(word, word + step, dim=0).item()
    return (
        f"For |w| = 3 and s = 2 your formula gives {float(cosine_after_step(3.0, 2.0)):.3f}; a random step "
        f"in 4,096 dimensions measures {measured:.3f}."
    )
