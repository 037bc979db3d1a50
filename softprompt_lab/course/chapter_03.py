"""Checks of chapter 03: fitting a text to P rows, the scale of a random start, the gradient of a lookup."""

from collections.abc import Callable, Sequence

import torch

from .checks import Wrong, exercise


@exercise(
    "03-1",
    hint="""
    A list comprehension over the rows: `[ids[...] for r in range(rows)]`. The index grows from 0 to
    len(ids) - 1 while r grows from 0 to rows - 1: r * len(ids) // rows, with whole-number division.
    """,
)
def stretched_text(stretch: Callable[[Sequence[int], int], list[int]]) -> str:
    """Check `stretch(ids, rows)`: row r holds token r * n // rows."""
    for length, rows in ((3, 7), (11, 20), (5, 5), (9, 4), (1, 6)):
        ids = list(range(50, 50 + length))
        given = [int(token) for token in stretch(list(ids), rows)]
        wanted = [ids[row * length // rows] for row in range(rows)]
        if given == wanted:
            continue
        where = f"for the tokens {ids} on {rows} rows you return {given}"
        if len(given) != rows:
            raise Wrong(f"{where}: {len(given)} entries, and there are {rows} rows to fill.")
        if given == [ids[row % length] for row in range(rows)]:
            raise Wrong(
                f"{where}: that repeats (r modulo n), as PEFT does; the text is to be stretched."
            )
        if given == ids[:rows]:
            raise Wrong(
                f"{where}: that trims the end off; a text that is too long is to be thinned out evenly."
            )
        raise Wrong(f"{where}; row r must hold token r * {length} // {rows}: {wanted}.")
    return "Each token keeps its place in the text and no row holds half a repetition."


@exercise(
    "03-2",
    hint="""
    `word_embeddings.square().sum(dim=1)` are the squared lengths, (V,). Their mean shall equal D * s ** 2, so
    s = (mean / D) ** 0.5. Multiply N(0, 1) by s, not by s ** 2.
    """,
)
def random_at_the_words_scale(
    start: Callable[[torch.Tensor, int, torch.Generator], torch.Tensor],
) -> str:
    """Check `start(word_embeddings, rows, generator)` by the mean squared length of many rows."""
    generator = torch.Generator().manual_seed(0)
    words = (
        0.2 * torch.randn(300, 64, generator=generator) * (1 + torch.arange(300)[:, None] / 100)
        + 0.1
    )
    given = start(words, 2000, generator)
    if not isinstance(given, torch.Tensor) or tuple(given.shape) != (2000, 64):
        raise Wrong(
            f"for 2000 rows of width 64 you return {tuple(getattr(given, 'shape', ()))}, not (2000, 64)."
        )
    squared = words.square().sum(dim=1).mean().item()
    found = given.square().sum(dim=1).mean().item()
    says = {
        64.0: "that is D: your rows are N(0, 1), without the scale",
        64
        * squared: "that is D times too long: divide the mean squared length by D before the root",
        squared**2 / 64: "you multiplied by s squared: the numbers need the root",
        64
        * words.var().item(): "you took the standard deviation of all numbers: it leaves the words' mean out",
        words.norm(dim=1).mean().item()
        ** 2: "you took the mean length and squared it: average the squared lengths",
    }
    if abs(found / squared - 1) > 0.02:
        near = [text for value, text in says.items() if abs(found / value - 1) < 0.02]
        reason = f": {near[0]}" if near else ""
        raise Wrong(
            f"the mean squared length of your rows is {found:.1f}, that of the words {squared:.1f}{reason}."
        )
    if (
        len({tuple(row) for row in given[:50].tolist()}) < 50
        or (given[:, 0].std() / given[0].std()).item() < 0.5
    ):
        raise Wrong("the length is right, but rows repeat: draw rows x D numbers, each of its own.")
    return (
        f"s = sqrt(mean squared length / D): {(squared / 64) ** 0.5:.2f} here, where RANDOM has 1."
    )


@exercise(
    "03-3",
    hint="""
    `torch.zeros(rows, D).index_add(0, indices.flatten(), g.flatten(0, 1))` adds row i of the flattened g to
    the row that index i names, as often as it is named.
    """,
)
def gradient_of_a_lookup(
    gradient: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor],
) -> str:
    """Check `gradient(indices, g, rows)` against autograd through `nn.Embedding`."""
    generator = torch.Generator().manual_seed(0)
    for indices in (torch.arange(4).expand(3, -1), torch.tensor([[0, 2, 2, 0], [5, 2, 0, 2]])):
        table = torch.zeros(6, 5, requires_grad=True)
        g = torch.randn(*indices.shape, 5, generator=generator)
        (wanted,) = torch.autograd.grad(torch.nn.functional.embedding(indices, table), table, g)
        given = gradient(indices, g, 6)
        if not isinstance(given, torch.Tensor) or given.shape != wanted.shape:
            raise Wrong(
                f"for 6 rows of width 5 you return {tuple(getattr(given, 'shape', ()))}, not (6, 5)."
            )
        if torch.allclose(given, wanted, atol=1e-5):
            continue
        _explain_lookup(indices, g, given, wanted)
    return "Each virtual token collects the gradient of every place that looked it up."


def _explain_lookup(
    indices: torch.Tensor, g: torch.Tensor, given: torch.Tensor, wanted: torch.Tensor
) -> None:
    """Raise Wrong with what the difference to autograd's gradient shows."""
    counts = torch.bincount(indices.flatten(), minlength=len(wanted))
    mean = wanted / counts.clamp(min=1)[:, None]
    row = int((given - wanted).abs().sum(dim=1).argmax())
    if torch.allclose(given, mean, atol=1e-5):
        raise Wrong(
            f"you take the mean of the {int(counts[row])} lookups of row {row}; gradients add up."
        )
    shares = g[indices == row]
    if any(torch.allclose(given[row], share, atol=1e-5) for share in shares):
        raise Wrong(
            f"row {row} is looked up {len(shares)} times and your gradient holds one of them: an indexed "
            "assignment writes the same row again and again, the last one stays. Use index_add."
        )
    if counts[row] == 0:
        raise Wrong(f"row {row} is never looked up and yet gets a gradient; it must stay zero.")
    raise Wrong(
        f"row {row} differs from autograd: it must be the sum of g over the {len(shares)} places naming it."
    )
