"""Checks of chapter 02: concatenation by hand."""

from collections.abc import Callable

import torch

from .checks import Wrong, exercise

Concatenate = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@exercise(
    "02-1",
    hint="""
    The prompt is (P, D) and has no batch dimension. `prompt.expand(B, -1, -1)` shows the same P vectors to
    all B rows without copying them; `torch.cat` along dimension 1 puts one sequence behind another. A
    bfloat16 model wants a bfloat16 input: `prompt.to(x.dtype)`.
    """,
)
def concatenate_by_hand(concatenate: Concatenate) -> str:
    """Check `concatenate(x, prompt)`: (B, T, D) and (P, D) give (B, P+T, D), the prompt in front."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 5, generator=generator)  # (B, T, D)
    prompt = torch.randn(2, 5, generator=generator).requires_grad_()  # (P, D)
    result = concatenate(x, prompt)
    _check_shape(result, (3, 2 + 4, 5))
    _check_values(result, x, prompt)
    if not torch.equal(_gradient(result, prompt), torch.full((2, 5), 3.0)):
        raise Wrong(
            "the prompt's gradient is not the sum over the 3 rows, so training could not move it. Something "
            "copies or detaches the prompt (`.data`, `.detach()`, `torch.tensor(...)`)."
        )
    half = concatenate(x.bfloat16(), prompt)
    if half.dtype != torch.bfloat16:
        raise Wrong(
            f"for a bfloat16 input your result is {str(half.dtype).removeprefix('torch.')}: the base model "
            "would stop at its first matrix product. Cast the prompt to x.dtype before you concatenate."
        )
    return "Every row has the same virtual tokens in front of its own text, and all rows pull at them together."


def _gradient(result: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the result's sum at the prompt, zeros where none arrives."""
    if not result.requires_grad:
        return torch.zeros_like(prompt)
    return torch.autograd.grad(result.sum(), prompt, allow_unused=True, materialize_grads=True)[0]


def _check_shape(result: object, wanted: tuple[int, int, int]) -> None:
    """Raise Wrong unless the result is a tensor of the wanted shape."""
    if not isinstance(result, torch.Tensor):
        raise Wrong(f"your function returns a {type(result).__name__}; it must return one tensor.")
    if tuple(result.shape) == wanted:
        return
    batch, length, width = wanted
    says = {
        (batch, length - 2, width): "that is the text alone, the prompt is missing",
        (batch, length - 4, width): "that is the prompt alone, the text is missing",
        (
            batch + 2,
            length - 2,
            width,
        ): "you made the prompt into more rows: concatenate along the sequence, dim=1",
        (
            length,
            width,
        ): "one row came back: expand the prompt over the batch, do not take a row out of it",
    }.get(tuple(result.shape), "concatenate along the sequence, dim=1")
    raise Wrong(
        f"for B=3, T=4, P=2, D=5 the result is {tuple(result.shape)} and not (B, P+T, D) = {wanted}: {says}."
    )


def _check_values(result: torch.Tensor, x: torch.Tensor, prompt: torch.Tensor) -> None:
    """Raise Wrong unless each row of the result is the prompt, then the row's own text."""
    count = prompt.shape[0]
    front, text = result[:, :count], result[:, count:]
    if torch.equal(result[:, -count:], prompt.expand(3, -1, -1)):
        raise Wrong(
            "your prompt stands behind the text. Under a causal mask a token sees what is in front of it, "
            "so no text token would see the prompt: put it first."
        )
    if torch.equal(front[0], prompt) and not torch.equal(front[1], prompt):
        raise Wrong(
            "row 0 begins with the prompt, row 1 does not: expand the prompt over the whole batch."
        )
    if not torch.equal(front, prompt.expand(3, -1, -1)):
        raise Wrong(
            f"the first {count} positions are not the prompt's vectors: they must enter unchanged."
        )
    if not torch.equal(text, x):
        raise Wrong(
            "the text's embeddings changed on the way, or rows were mixed: row i must keep its own text."
        )


@exercise(
    "02-2",
    hint="""
    Sort each row by its mask, largest first: `order = mask.argsort(dim=1, descending=True, stable=True)`.
    `stable` keeps the order of equals, so the text stays readable. Then `ids.gather(1, order)`, and the same
    for the mask.
    """,
)
def text_before_pads(
    text_first: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
) -> str:
    """Check `text_first(ids, mask)`: each row's text in order, then its pads."""
    ids = torch.tensor([[9, 9, 3, 5, 4], [7, 6, 9, 9, 9], [1, 9, 2, 9, 8], list(range(20, 25))])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 0, 1], [1] * 5])
    result = text_first(ids.clone(), mask.clone())
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise Wrong(
            "return two tensors: the ids in their new order and the mask that belongs to them."
        )
    new_ids, new_mask = result
    if new_ids.shape != ids.shape or new_mask.shape != mask.shape:
        raise Wrong(
            f"the batch is {tuple(ids.shape)}; you return {tuple(new_ids.shape)} and {tuple(new_mask.shape)}."
        )
    for row in range(len(ids)):
        _check_text(
            row, ids[row][mask[row] == 1].tolist(), new_ids[row].tolist(), new_mask[row].tolist()
        )
    _check_long_row(text_first)
    return "The text now stands directly behind the prompt, on whatever side the pads were."


def _check_text(row: int, text: list[int], ids: list[int], mask: list[int]) -> None:
    """Raise Wrong unless a row holds its text in order, then pads, and its mask says so."""
    found = ids[: len(text)]
    if sorted(found) != sorted(text):
        raise Wrong(
            f"row {row} has the text {text}, and yours begins with {found}: pads are still in front of text."
        )
    if found != text:
        raise Wrong(
            f"row {row} lost the order of its tokens: {text} became {found}. Use a stable sort."
        )
    wanted = [1] * len(text) + [0] * (len(ids) - len(text))
    if mask != wanted:
        raise Wrong(
            f"row {row}: the ids are right, but the mask is {mask} and must be {wanted}. Move it along."
        )


def _check_long_row(text_first: Callable) -> None:
    """Raise Wrong where a sort that is not stable shuffles a long row."""
    ids, mask = torch.arange(400)[None], torch.ones(1, 400, dtype=torch.long)
    mask[0, ::3] = 0
    if text_first(ids, mask)[0][0, : int(mask.sum())].tolist() != ids[mask == 1].tolist():
        raise Wrong(
            "in a row of 400 tokens the text lost its order: say stable=True, short rows hide the difference."
        )


@exercise(
    "02-3",
    hint="""
    P is logits.shape[1] - labels.shape[1]. `logits[:, P - 1 : -1]` are the T positions that predict the T
    labels. `functional.cross_entropy(..., ignore_index=-100)` wants (N, V) and (N,): flatten the first two
    dimensions. For P = 0 drop the first label and begin at position 0.
    """,
)
def loss_from_logits(label_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> str:
    """Check `label_loss(logits, labels)` against the double loop of the specification."""
    generator = torch.Generator().manual_seed(0)
    for count in (3, 1, 0):
        logits = 3 * torch.randn(2, count + 5, 7, generator=generator)  # (B, P+T, V)
        labels = torch.tensor([[-100, -100, 4, 1, -100], [2, -100, -100, 6, 0]])
        given, wanted = float(label_loss(logits, labels)), _loop_loss(logits, labels, shift=1)
        if abs(given - wanted) < 1e-4:
            continue
        for value, says in _likely_losses(logits, labels):
            if abs(given - value) < 1e-4:
                raise Wrong(
                    f"for P={count} you return {given:.4f} and the loop gives {wanted:.4f}: {says}."
                )
        raise Wrong(
            f"for P={count}, T=5 you return {given:.4f}; the loop of the specification gives {wanted:.4f}."
        )
    return "The last virtual token predicts the first word, and every label counts once."


def _loop_loss(
    logits: torch.Tensor, labels: torch.Tensor, shift: int, divide_by_all: bool = False
) -> float:
    """Return the specification's mean, with logits read `shift` positions before the label."""
    count, losses = logits.shape[1] - labels.shape[1], []
    for row, place in (labels != -100).nonzero().tolist():
        source = count + place - shift
        if 0 <= source < logits.shape[1]:
            losses.append(-logits[row, source].log_softmax(dim=-1)[labels[row, place]].item())
    return sum(losses) / (labels.numel() if divide_by_all else len(losses))


def _likely_losses(logits: torch.Tensor, labels: torch.Tensor) -> list[tuple[float, str]]:
    """List the values of frequent errors and what to say about each."""
    count, length = logits.shape[1] - labels.shape[1], labels.shape[1]
    front = _loop_loss(logits[:, :length], labels, shift=1)
    return [
        (
            _loop_loss(logits, labels, shift=0),
            "your logits stand at the label itself; they predict the token behind it",
        ),
        (
            _loop_loss(logits, labels, shift=1, divide_by_all=True),
            "you divide by all B x T; the mean is over labels",
        ),
        (
            front,
            f"you read the first {length} positions; the text begins {count} later, behind the prompt",
        ),
    ]


@exercise(
    "02-4",
    hint="""
    prompt[p] enters the loss B times, once through each row. By the chain rule the B contributions add up:
    the gradient at prompt[p] is the sum over b of g[b, p].
    """,
)
def gradient_of_the_prompt(prompt_gradient: Callable[[torch.Tensor, int], torch.Tensor]) -> str:
    """Check `prompt_gradient(g, P)` against autograd through `torch.cat` and `expand`."""
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randn(2, 3, generator=generator).requires_grad_()  # (P, D)
    z = torch.cat([prompt.expand(4, -1, -1), torch.randn(4, 5, 3, generator=generator)], dim=1)
    g = torch.randn(z.shape, generator=generator)
    (wanted,) = torch.autograd.grad(z, prompt, g)
    given = prompt_gradient(g, 2)
    if not isinstance(given, torch.Tensor) or given.shape != wanted.shape:
        shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
        hints = {
            (4, 2, 3): ": all rows share one prompt, so nothing of B is left",
            (3,): ": keep P and D apart",
        }
        raise Wrong(
            f"for B=4, P=2, T=5, D=3 you return {shape}, not (P, D) = (2, 3){hints.get(shape, '')}."
        )
    if torch.allclose(given, g[:, :2].mean(dim=0)):
        raise Wrong(
            "you take the mean over the rows. The prompt enters the loss once through each row: they add up."
        )
    if torch.allclose(given, g[0, :2]):
        raise Wrong("you return row 0's share. The other rows pull at the same prompt: add theirs.")
    if torch.allclose(given, g[:, -2:].sum(dim=0)):
        raise Wrong(
            "you add up the last P positions, which are text; the prompt stands at the first P."
        )
    if not torch.allclose(given, wanted, atol=1e-5):
        raise Wrong(
            "the shape is right, the numbers are not those of autograd. Start from z[b, p] = prompt[p]."
        )
    return "`expand` goes forward by showing one prompt to B rows, and backward by adding up what B rows say."
