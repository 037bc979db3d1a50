"""Exercises of chapter 02: concatenation by hand."""

import torch
from torch.nn.functional import cross_entropy

from ..embedding import concatenate_prompt
from .checks import exercise, normal

# --- 02-1 ---


def text_alone(x, prompt):
    """That is the text alone, the prompt is missing."""
    return x


def prompt_alone(x, prompt):
    """That is the prompt alone, the text is missing."""
    return prompt.expand(len(x), -1, -1)


def one_row(x, prompt):
    """That is one row, and one row came back of three: expand the prompt over the batch, do not take one row."""
    return concatenate_prompt(x, prompt)[0]


def other_type(found, x, prompt):
    """For a bfloat16 input your result is float32: the base model would stop at its first matrix product. Cast
    the prompt to x.dtype before you concatenate."""
    return found.dtype != x.dtype


def prompt_behind(found, x, prompt):
    """Your prompt stands behind the text. Under a causal mask a token sees what is in front of it, so no text
    token would see the prompt: put it first."""
    return torch.equal(found, torch.cat([x, prompt.to(x.dtype).expand(len(x), -1, -1)], dim=1))


def prompt_in_row_0_alone(found, x, prompt):
    """Row 0 begins with the prompt, row 1 does not: expand the prompt over the whole batch."""
    first, second = found[:2, : len(prompt)]
    return torch.equal(first, prompt.to(x.dtype)) and not torch.equal(first, second)


def prompt_changed(found, x, prompt):
    """The first P positions are not the prompt's vectors: they must enter unchanged."""
    front = found[:, : len(prompt)]
    return not torch.equal(front, prompt.to(x.dtype).expand_as(front))


def text_changed(found, x, prompt):
    """The text's embeddings changed on the way, or rows were mixed: row i must keep its own text."""
    return not torch.equal(found[:, len(prompt) :], x)


def no_gradient(found, x, prompt):
    """The prompt's gradient is not the sum over the 3 rows, so training could not move it. Something copies or
    detaches the prompt (`.data`, `.detach()`, `torch.tensor(...)`)."""
    if not found.requires_grad:
        return True
    (gradient,) = torch.autograd.grad(
        found.sum(), prompt, allow_unused=True, materialize_grads=True
    )
    return not torch.equal(gradient, torch.full_like(prompt, len(x)))


@exercise(
    "02-1",
    cases=[
        (normal(3, 4, 5), normal(2, 5, seed=1).requires_grad_()),
        (normal(3, 4, 5).bfloat16(), normal(2, 5, seed=1).requires_grad_()),
    ],
    wrong=[text_alone, prompt_alone, one_row],
    faults=[
        other_type,
        prompt_behind,
        prompt_in_row_0_alone,
        prompt_changed,
        text_changed,
        no_gradient,
    ],
    returns="one tensor (B, P+T, D), concatenated along the sequence, dim=1",
    passed="Every row has the same virtual tokens in front of its own text, and all rows pull at them "
    "together.",
)
def prepend(x, prompt):
    """Return (B, P+T, D) from (B, T, D) and (P, D), the prompt in front of each row.

    The prompt is (P, D) and has no batch dimension. `prompt.expand(B, -1, -1)` shows the same P vectors to
    all B rows without copying them; `torch.cat` along dimension 1 puts one sequence behind another. A
    bfloat16 model wants a bfloat16 input: `prompt.to(x.dtype)`.
    """
    return concatenate_prompt(x, prompt)


# --- 02-2 ---


def texts(ids, mask):
    """Return the ids of each row's text."""
    return [row[seen.bool()].tolist() for row, seen in zip(ids, mask, strict=True)]


def beginnings(found, ids, mask):
    """Return as many ids from the beginning of each row of a result as its text has."""
    return [row[: int(seen.sum())].tolist() for row, seen in zip(found[0], mask, strict=True)]


def pads_in_front(found, ids, mask):
    """A row begins with other tokens than those of its text: pads are still in front of text."""
    return list(map(sorted, beginnings(found, ids, mask))) != list(map(sorted, texts(ids, mask)))


def order_lost(found, ids, mask):
    """A row lost the order of its tokens. Use a stable sort, stable=True; in short rows the difference may not
    show."""
    return beginnings(found, ids, mask) != texts(ids, mask)


def mask_not_moved(found, ids, mask):
    """The ids are right, and the mask does not say where they are now. Move it along."""
    return found[1].tolist() != text_first(ids, mask)[1].tolist()


THIRD = (torch.arange(400)[None] % 3 > 0).long()


@exercise(
    "02-2",
    cases=[
        (
            torch.tensor([[9, 9, 3, 5, 4], [7, 6, 9, 9, 9], [1, 9, 2, 9, 8], [20, 21, 22, 23, 24]]),
            torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]]),
        ),
        (torch.arange(400)[None], THIRD),
    ],
    faults=[pads_in_front, order_lost, mask_not_moved],
    measure=lambda result, ids, mask: result[1],  # the ids that stand at pads do not matter
    returns="two tensors: the ids in their new order and the mask that belongs to them",
    passed="The text now stands directly behind the prompt, on whatever side the pads were.",
)
def text_first(ids, mask):
    """Return ids and mask with each row's text in order, then its pads.

    Sort each row by its mask, largest first: `order = mask.argsort(dim=1, descending=True, stable=True)`.
    `stable` keeps the order of equals, so the text stays readable. Then `ids.gather(1, order)`, and the same
    for the mask.
    """
    order = mask.argsort(dim=1, descending=True, stable=True)
    return ids.gather(1, order), mask.gather(1, order)


# --- 02-3 ---


def labels_unshifted(logits, labels):
    """Your logits stand at the label itself; they predict the token behind it."""
    text = logits[:, logits.shape[1] - labels.shape[1] :]
    return cross_entropy(text.flatten(0, 1), labels.flatten()).item()


def mean_over_all_positions(logits, labels):
    """You divide by all B x T; the mean is over labels."""
    places = labels if logits.shape[1] > labels.shape[1] else labels[:, 1:]
    return label_loss(logits, labels) * (places != -100).sum().item() / labels.numel()


def prompt_forgotten(logits, labels):
    """You read the first T positions; the text begins P later, behind the prompt."""
    return label_loss(logits[:, : labels.shape[1]], labels)


@exercise(
    "02-3",
    cases=[
        (
            3 * normal(2, count + 5, 7),
            torch.tensor([[-100, -100, 4, 1, -100], [2, -100, -100, 6, 0]]),
        )
        for count in (3, 1, 0)
    ],
    wrong=[labels_unshifted, mean_over_all_positions, prompt_forgotten],
    returns="one number",
    passed="The last virtual token predicts the first word, and every label counts once.",
)
def label_loss(logits, labels):
    """Return the mean loss of the labels, (B, T), from the logits, (B, P+T, V).

    P is logits.shape[1] - labels.shape[1]. `logits[:, P - 1 : -1]` are the T positions that predict the T
    labels. `functional.cross_entropy(..., ignore_index=-100)` wants (N, V) and (N,): flatten the first two
    dimensions. For P = 0 drop the first label and begin at position 0.
    """
    labels = labels[:, max(labels.shape[1] - logits.shape[1] + 1, 0) :]
    positions = logits[:, -labels.shape[1] - 1 : -1]
    return cross_entropy(positions.flatten(0, 1), labels.flatten()).item()


# --- 02-4 ---


def not_added(g, P):
    """All rows share one prompt, so nothing of B is left."""
    return g[:, :P]


def added_over_the_prompt_too(g, P):
    """You add up the P virtual tokens too: keep P and D apart."""
    return g[:, :P].sum(dim=(0, 1))


def mean_over_rows(g, P):
    """You take the mean over the rows. The prompt enters the loss once through each row: they add up."""
    return g[:, :P].mean(dim=0)


def row_0_alone(g, P):
    """You return row 0's share. The other rows pull at the same prompt: add theirs."""
    return g[0, :P]


def end_of_the_row(g, P):
    """You add up the last P positions, which are text; the prompt stands at the first P."""
    return g[:, -P:].sum(dim=0)


@exercise(
    "02-4",
    cases=[(normal(4, 7, 3), 2)],
    wrong=[not_added, added_over_the_prompt_too, mean_over_rows, row_0_alone, end_of_the_row],
    returns="a tensor (P, D)",
    passed="`expand` goes forward by showing one prompt to B rows, and backward by adding up what B "
    "rows say.",
)
def prompt_gradient(g, P):
    """Return the gradient at the prompt, (P, D), from the one at the concatenated input, (B, P+T, D).

    prompt[p] enters the loss B times, once through each row. By the chain rule the B contributions add up:
    the gradient at prompt[p] is the sum over b of g[b, p].
    """
    prompt = torch.zeros(P, g.shape[2], requires_grad=True)
    z = concatenate_prompt(g[:, P:], prompt)
    return torch.autograd.grad(z, prompt, g)[0]
