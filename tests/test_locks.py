"""Two threads and one base model: each gets what it gets alone."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from families import llama
from prompted import with_prompt

from softprompt_lab.batch import IGNORE
from softprompt_lab.engine import fast
from softprompt_lab.engine.locks import lock
from softprompt_lab.engine.strategies import blocks

IDS = torch.randint(3, 90, (4, 9), generator=torch.Generator().manual_seed(0))
MASK = torch.ones_like(IDS)
MASK[0, 5:] = MASK[2, 3:] = 0


def test_calls_from_several_threads_are_as_calls_in_turn(monkeypatch):
    """The fast loss text by text, a forward pass and generation of one model, again and again, all at once."""
    monkeypatch.setattr(
        fast, "select_strategy", lambda *_: blocks
    )  # it sets the attention of the whole model
    model = with_prompt(llama())
    labels = IDS.masked_fill(MASK == 0, IGNORE)
    calls = [
        lambda: model.loss(IDS, MASK, labels),
        lambda: model(IDS, MASK).logits,
        lambda: model.generate(IDS, MASK, max_new_tokens=3, do_sample=False, pad_token_id=0),
        lambda: model.loss(IDS[:2], MASK[:2], labels[:2]),
    ]
    alone = [call().detach() for call in calls]
    together = Barrier(len(calls))

    def again(call):
        together.wait()
        return [call().detach() for _ in range(15)]

    with ThreadPoolExecutor(len(calls)) as pool:
        for found, expected in zip(pool.map(again, calls), alone, strict=True):
            for each in found:
                torch.testing.assert_close(each, expected)


def test_a_turn_ends_with_its_error_and_may_be_taken_within_itself():
    """Another thread gets in afterwards."""
    base = llama()
    with pytest.raises(RuntimeError, match="wrong"), lock(base), lock(base):
        raise RuntimeError("wrong")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(with_prompt(base).loss, IDS, MASK, IDS.masked_fill(MASK == 0, IGNORE)).result(
            timeout=60
        )
