"""Wrong answers to the exercises about Wilson's interval, 01-2 and 04-3."""

Z = 1.959964  # 95 % of a normal distribution lies within so many standard deviations


def wald(k, n):
    """That puts the measured share under the root (Wald's interval, p plus and minus z standard errors), which
    claims to be certain at k = 0 and k = n."""
    p = k / n
    half = Z * (p * (1 - p) / n) ** 0.5
    return p - half, p + half


def lower_end_is_not_first(found, k, n):
    """The ends are exchanged: the lower one comes first."""
    return found[0] > found[1]


def middle_is_too_high(found, k, n):
    """The middle is too high; both the middle and the half width are divided by 1 + z*z/n."""
    return sum(found) / 2 > (k / n + Z**2 / (2 * n)) / (1 + Z**2 / n) + 1e-3


def end_is_no_share(found, k, n):
    """An accuracy below 0 or above 1 cannot be."""
    return found[0] < -1e-9 or found[1] > 1 + 1e-9


WILSON = {
    "cases": [(0, 10), (72, 150), (120, 150), (400, 400), (43, 50), (10, 10)],
    "wrong": [wald],
    "faults": [lower_end_is_not_first, middle_is_too_high, end_is_no_share],
    "returns": "two numbers, the lower first",
}
