"""Checks of chapter 01: hard prompts."""

import math
from collections.abc import Callable

import torch

from ..evaluation import wilson_interval
from .checks import Wrong, exercise

Z = 1.959964  # 95 % of a normal distribution lies within so many standard deviations


@exercise(
    "01-1",
    hint="""
    Turn logits into log-probabilities with `logits.log_softmax(-1)`. The scores that predict the token at
    place i stand at place i - 1, so the first label token, at place `context_length`, is predicted at
    `context_length - 1`. Add up, do not average.
    """,
)
def label_score(score: Callable[[torch.Tensor, int, list[int]], float]) -> str:
    """Check `score(logits, context_length, label_ids)`: the sum of the label tokens' log-probabilities."""
    generator = torch.Generator().manual_seed(0)
    for context, label_ids in ((3, [4]), (2, [1, 5]), (4, [0, 2, 6])):
        logits = 2 * torch.randn(context + len(label_ids), 8, generator=generator)  # (T, V)
        found, wanted = (
            float(score(logits.clone(), context, label_ids)),
            _scores(logits, context, label_ids),
        )
        if math.isclose(found, wanted["right"], abs_tol=1e-4):
            continue
        name = next(
            (key for key, value in wanted.items() if math.isclose(found, value, abs_tol=1e-4)), None
        )
        advice = _SCORE_ADVICE.get(name, f"{wanted['right']:.4f} is right")
        raise Wrong(
            f"for a context of {context} tokens and a label of {len(label_ids)} you return {found:.4f}: {advice}."
        )
    return "The score is the logarithm of p(first token) times p(second token, given the first), and so on."


_SCORE_ADVICE = {
    "raw": "that is a sum of logits; logits of two places have different zero points, take log_softmax first",
    "late": "you read the scores at the label's own place, which predict the token behind it; go one back",
    "mean": "that is the mean over the label's tokens; a label's probability is a product, so logs add up",
    "first": "that is the first token alone; a label of several tokens needs all of them",
    "probabilities": "that adds probabilities; a label's probability is their product, so add their logarithms",
    "minus": "the sign is turned round: that is a loss. The higher a score, the likelier the label",
}


def _scores(logits: torch.Tensor, context: int, label_ids: list[int]) -> dict[str, float]:
    """The right score and what common mistakes give instead."""
    log_p, count = logits.log_softmax(-1), len(label_ids)
    places = range(context - 1, context - 1 + count)
    ours = [log_p[place, token].item() for place, token in zip(places, label_ids, strict=True)]
    return {
        "right": sum(ours),
        "minus": -sum(ours),
        "raw": sum(
            logits[place, token].item() for place, token in zip(places, label_ids, strict=True)
        ),
        "late": sum(
            log_p[place + 1, token].item() for place, token in zip(places, label_ids, strict=True)
        ),
        "mean": sum(ours) / count,
        "first": ours[0],
        "probabilities": sum(map(math.exp, ours)),
    }


@exercise(
    "01-2",
    hint="""
    Work out p = k / n first, then the middle (p + z*z / (2*n)) / (1 + z*z / n), then the half width. Try
    k = 0: the interval must reach above 0, because ten failures in ten trials do not prove that success is
    impossible.
    """,
)
def wilson(interval: Callable[[int, int], tuple[float, float]]) -> str:
    """Check `interval(k, n)`: the 95 % Wilson interval of k successes in n trials."""
    for successes, n in ((0, 10), (72, 150), (120, 150), (400, 400)):
        low, high = (float(value) for value in interval(successes, n))
        wanted = wilson_interval(successes, n)
        if max(abs(low - wanted[0]), abs(high - wanted[1])) < 2e-3:
            continue
        share = successes / n
        half = Z * math.sqrt(share * (1 - share) / n)
        if low > high:
            advice = "the ends are exchanged: the lower one comes first"
        elif max(abs(low - share + half), abs(high - share - half)) < 2e-3:
            advice = "that is p plus and minus z standard errors, which claims to be certain at k = 0 and k = n"
        elif (high + low) / 2 > (share + Z * Z / (2 * n)) / (1 + Z * Z / n) + 1e-3:
            advice = "the middle is too high; both the middle and the half width are divided by 1 + z*z/n"
        else:
            advice = f"{wanted[0]:.3f} to {wanted[1]:.3f} is right"
        raise Wrong(f"for {successes} of {n} you return {low:.3f} to {high:.3f}: {advice}.")
    low, high = interval(0, 10)
    return f"Even 0 right answers in 10 leave room for a true share of up to {high:.2f}."


@exercise(
    "01-3",
    hint="""
    `scores - empty` takes the empty message's score of each label from every row: (N, K) minus (K,) works row
    by row. The answer of a row is the place of its largest number, `argmax` along dimension 1.
    """,
)
def calibration(calibrated: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> str:
    """Check `calibrated(scores, empty)`: (N, K) and (K,) give the N indices of the labels that win."""
    scores = torch.tensor([[-2.0, -5.0], [-3.0, -4.0], [-2.5, -6.5], [-6.0, -9.0]])  # (N, K)
    empty = torch.tensor([-2.0, -4.5])  # the empty message prefers label 0 by 2.5
    found = torch.as_tensor(calibrated(scores.clone(), empty.clone()))
    if found.shape != (4,):
        raise Wrong(
            f"for 4 messages your result has shape {tuple(found.shape)}; one index for each: (4,)."
        )
    wanted = (scores - empty).argmax(1)
    says = {
        tuple(
            scores.argmax(1).tolist()
        ): "what wins without calibration; the empty scores must be subtracted",
        tuple((scores - empty).argmin(1).tolist()): "what loses; take the largest difference",
        tuple(
            (scores / empty).argmax(1).tolist()
        ): "what dividing gives; scores are logarithms, so subtract",
    }
    if found.tolist() != wanted.tolist():
        advice = says.get(
            tuple(found.tolist()), f"not {wanted.tolist()}, where `scores - empty` is largest"
        )
        raise Wrong(f"you answer {found.tolist()}: that is {advice}.")
    shifted = torch.as_tensor(calibrated(scores - 7.0, empty))
    if shifted.tolist() != wanted.tolist():
        raise Wrong(
            "7 taken from both scores of a message changes your answer; only their difference may count."
        )
    return "What the model says when it has nothing to go by is taken away from what it says of a message."


@exercise(
    "01-4",
    hint="""
    Put p = 1/2 into the half width: z/(1 + z*z/n) * sqrt(1/(4n) + z*z/(4n*n)). Take 1/(4n*n) out of the root:
    what remains is z / (2*sqrt(n + z*z)). Set that equal to h and solve for n, then round up.
    """,
)
def rows_for_width(rows_needed: Callable[[float], int]) -> str:
    """Check `rows_needed(h)`: the fewest rows at which Wilson's half width at p = 1/2 is at most h."""
    for half in (0.1, 0.05, 0.02):
        found, exact, simple = rows_needed(half), Z**2 / (4 * half**2) - Z**2, Z**2 / (4 * half**2)
        wanted = math.ceil(exact)
        if isinstance(found, float) and found != int(found):
            raise Wrong(f"for h={half} you return {found:.2f}, and rows are whole. Round up.")
        if found == wanted:
            continue
        says = {
            math.ceil(
                simple
            ): "that solves the simple interval; the one of 01-2 is a little narrower",
            math.floor(exact): "rounded down, the interval is a little wider than h",
            math.ceil(
                simple / 4 - Z**2
            ): "you took h for the whole width; it is the half on either side",
        }.get(int(found), f"{wanted} are the fewest")
        raise Wrong(f"for h={half} you return {found} rows: {says}.")
    return f"Half the width needs four times the rows: {rows_needed(0.1)} for 0.1, {rows_needed(0.05)} for 0.05."
