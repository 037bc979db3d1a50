"""FastEngine gives PlainEngine's numbers: logits, loss, the prompts' gradients and generated tokens."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import transformers
from batches import ROWS, padded
from families import FAMILIES, WIDTH, bart, gpt2, llama, t5
from transformers import PreTrainedModel

from softprompt_lab.batch import Example, PlainEngine, Target
from softprompt_lab.engine import FastEngine, prefixes, strategies
from softprompt_lab.engine.selection import exact_strategies

PLAIN = PlainEngine()
NEW = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
EXAMPLES = [
    Example([1, 2, 3], [Target.of([4, 5]), Target.of([6, 7, 8]), Target.of([9])]),
    Example([], [Target.of([4, 5])]),
    Example([1, 2, 30, 31, 32], [Target([11, 12, 13], [-100, 12, 13])], prompt=1),
    Example([50], [Target.of([6, 7]), Target.of([51])], prompt=1),
    Example([1, 2], [Target([3, 4], [-100, -100])]),
]


def more_decoder(name: str, **sizes) -> Callable[[], PreTrainedModel]:
    """Another family with random weights at the scale of `families`."""

    def build() -> PreTrainedModel:
        config = getattr(transformers, f"{name}Config")(
            vocab_size=99, pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes
        )
        config.initializer_range = 0.2
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return getattr(transformers, f"{name}ForCausalLM")(config).float().eval()

    return build


SHAPE = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"intermediate_size": 64, "max_position_embeddings": 256}
DECODERS = FAMILIES | {
    "gemma": more_decoder("Gemma", **SHAPE, num_key_value_heads=2, head_dim=8),
    "mistral": more_decoder("Mistral", **SHAPE, num_key_value_heads=2, sliding_window=64),
    "phi": more_decoder("Phi", **SHAPE, partial_rotary_factor=0.5),
    "gptj": more_decoder("GPTJ", n_embd=WIDTH, n_layer=2, n_head=4, n_positions=256, rotary_dim=4),
}
ALL = DECODERS | {"t5": t5, "bart": bart}


@pytest.fixture(params=list(ALL), scope="module")
def base(request) -> PreTrainedModel:
    return ALL[request.param]().requires_grad_(False)


@pytest.fixture(params=list(DECODERS), scope="module")
def decoder(request) -> PreTrainedModel:
    return DECODERS[request.param]().requires_grad_(False)


def prompts_of(*lengths: int) -> list[torch.Tensor]:
    """Random prompts at the scale of the words."""
    seeds = (torch.Generator().manual_seed(length) for length in lengths)
    return [
        (0.2 * torch.randn(n, WIDTH, generator=g)).requires_grad_()
        for n, g in zip(lengths, seeds, strict=True)
    ]


def by_owner(engine, base, prompts, examples) -> dict[tuple[int, int], list]:
    """Label ids and logits of each target, in the order of its tokens."""
    found: dict[tuple[int, int], list] = {}
    with torch.no_grad():
        for part in engine.label_logits(base, prompts, examples):
            for owner, label, logits in zip(
                part.owners, part.label_ids.tolist(), part.logits, strict=True
            ):
                found.setdefault(owner, []).append((label, logits))
    return found


def plain_loss(base, prompts, examples) -> torch.Tensor:
    """The mean cross-entropy of the plain engine's label logits."""
    parts = list(PLAIN.label_logits(base, prompts, examples))
    logits, labels = (torch.cat(found) for found in zip(*(part[:2] for part in parts), strict=True))
    return torch.nn.functional.cross_entropy(logits, labels)


@pytest.mark.parametrize("lengths", [(4, 7), (1, 2)], ids=str)
def test_label_logits_are_the_plain_ones(base, lengths):
    """Several targets, an empty context, labels left out, two prompts of different lengths."""
    prompts = prompts_of(*lengths)
    fast, plain = (by_owner(e, base, prompts, EXAMPLES) for e in (FastEngine(), PLAIN))
    assert fast.keys() == plain.keys()
    for owner in plain:
        assert [label for label, _ in fast[owner]] == [label for label, _ in plain[owner]]
        for (_, ours), (_, theirs) in zip(fast[owner], plain[owner], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_without_a_prompt_the_base_model_speaks(decoder):
    """A prompt of length 0 is no prompt; what nothing predicts does not count."""
    examples = [Example(row[:-2], [Target.of(row[-2:])]) for row in ROWS]
    examples.append(Example([], [Target.of([5, 6])]))
    losses = [
        loss(decoder, prompts_of(0), examples) for loss in (FastEngine().example_loss, plain_loss)
    ]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("through", ["itself", "a projection"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_loss_and_gradient_are_the_plain_ones(base, side, through):
    """Also where prompts are themselves computed from what learns, and where another loss is added."""
    ids, mask, labels = padded(ROWS, side)
    mix = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0)) / WIDTH**0.5

    def results(engine) -> tuple[torch.Tensor, ...]:
        leaves = prompts_of(4, 7)
        prompts = leaves
        if through == "a projection":
            prompts = [leaf @ mix + leaves[0].mean(dim=0) for leaf in leaves]
        of_rows = [prompts[0], prompts[1], prompts[0]]
        loss = engine.label_loss(base, of_rows, ids, mask.bool(), labels)
        penalty = sum(leaf.square().sum() for leaf in leaves)
        return (loss, *torch.autograd.grad(3 * loss + penalty, leaves))

    for ours, theirs in zip(results(FastEngine()), results(PLAIN), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_only_prompts_that_learn_get_a_gradient(decoder):
    """One is frozen; without gradients there is the value alone."""
    learning, frozen = prompts_of(4, 7)
    frozen.requires_grad_(False)
    loss = FastEngine().example_loss(decoder, [frozen, learning], EXAMPLES)
    (found,) = torch.autograd.grad(loss, learning)
    plain = plain_loss(decoder, [frozen, learning], EXAMPLES)
    torch.testing.assert_close(found, *torch.autograd.grad(plain, learning), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        value = FastEngine().example_loss(decoder, [frozen, learning], EXAMPLES)
    assert not value.requires_grad
    torch.testing.assert_close(value, loss.detach())


def test_a_weight_that_is_set_free_gets_its_gradient():
    """The whole graph stays where the base model learns too."""
    base = llama().requires_grad_(False)
    weight = base.model.layers[0].self_attn.q_proj.weight.requires_grad_()
    prompts = prompts_of(4, 7)
    found = [
        torch.autograd.grad(loss(base, prompts, EXAMPLES), [weight, *prompts])
        for loss in (FastEngine().example_loss, plain_loss)
    ]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_step_needs_no_more_memory_for_more_rows(monkeypatch):
    """No two packed rows are in memory at once: each backward pass comes before the next forward pass."""
    base, alive = llama().requires_grad_(False), []
    most = []
    base.model.layers[0].register_forward_hook(lambda *_: alive.append(1))
    base.model.embed_tokens.register_forward_hook(lambda *_: most.append(len(alive)))
    examples = [Example([n, *range(3, 90)], [Target.of([4, 5])]) for n in range(40)]
    prompt = prompts_of(4)[0]
    grad = torch.autograd.grad
    monkeypatch.setattr(strategies, "MOST_ROW_TOKENS", 1000.0)
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: (alive.clear(), grad(*a, **k))[1])
    FastEngine().example_loss(base, [prompt], examples)
    calls = most[-3:]
    assert len(most) > 3
    assert max(calls) == 0


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("lengths", [(4,), (4, 7, 2)], ids=["one prompt", "three prompts"])
def test_generated_tokens_are_the_plain_ones(decoder, side, lengths, options):
    """Any padding, one prompt for all rows or one for each."""
    ids, mask, _ = padded(ROWS, side)
    prompts = prompts_of(*lengths)
    ours, theirs = (
        e.generate(decoder, prompts, ids, mask.bool(), **NEW, **options)
        for e in (FastEngine(), PLAIN)
    )
    assert torch.equal(ours, theirs)


# ------------------------------------------------------------------------------------------------- kept prefixes


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """The lengths of the prefixes that are computed."""
    lengths = []
    real = prefixes.prefix_of

    def counted(base, prompt):
        lengths.append(len(prompt))
        return real(base, prompt)

    monkeypatch.setattr(prefixes, "prefix_of", counted)
    return lengths


def first_logits(engine, base, prompt) -> torch.Tensor:
    """The logits of the first new token."""
    options = NEW | {"return_dict_in_generate": True, "output_logits": True}
    ids = torch.tensor([ROWS[0]])
    return engine.generate(base, [prompt], ids, torch.ones_like(ids).bool(), **options).logits[0]


def test_prefixes_are_kept_by_their_numbers(computed):
    """A prompt is computed once for each base model, whatever tensor holds it; the latest 16 are kept."""
    engine, base, other = FastEngine(), llama(), gpt2()
    prompt = prompts_of(4)[0]
    first = first_logits(engine, base, prompt)
    assert torch.equal(first_logits(engine, base, prompt.detach().clone()), first)
    first_logits(engine, other, prompt)
    assert computed == [4, 4]
    prompt.data.mul_(-3)
    changed = first_logits(engine, base, prompt)
    assert computed == [4] * 3
    torch.testing.assert_close(changed, first_logits(PLAIN, base, prompt), rtol=1e-4, atol=1e-4)
    for length in range(5, 5 + prefixes.MOST_PREFIXES):
        first_logits(engine, base, prompts_of(length)[0])
    first_logits(engine, base, prompt)
    assert computed[-1] == 4


@pytest.mark.parametrize("change", ["in place", "another tensor", "another layer", "a buffer"])
def test_a_changed_base_model_gets_new_prefixes(change):
    """The tokens are those of the plain way on the base model as it is."""
    engine, base = FastEngine(), llama().requires_grad_(False)
    prompt = prompts_of(4)[0]
    before = first_logits(engine, base, prompt)
    layer = base.model.layers[0].mlp
    with torch.no_grad():
        if change == "in place":
            layer.up_proj.weight.mul_(-2)
        elif change == "another tensor":
            layer.up_proj.weight = torch.nn.Parameter(-2 * layer.up_proj.weight)
        elif change == "another layer":
            layer.up_proj = torch.nn.Linear(WIDTH, 64, bias=False)
        else:
            base.model.rotary_emb.inv_freq.mul_(5)
    after = first_logits(engine, base, prompt)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, first_logits(PLAIN, base, prompt), rtol=1e-4, atol=1e-4)


def test_an_engine_is_copied_and_pickled_without_what_it_keeps():
    """As part of a model that holds it."""
    engine, base = FastEngine(), llama()
    first_logits(engine, base, prompts_of(4)[0])
    for again in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        assert isinstance(again, FastEngine)
        assert again._prefixes is not engine._prefixes


def test_a_kept_prefix_is_not_written_to(computed):
    """What a caller does to the returned cache does not reach the next call."""
    engine, base, prompt = FastEngine(), llama(), prompts_of(4)[0]
    ids = torch.tensor([ROWS[0]])
    mask = torch.ones_like(ids).bool()
    options = NEW | {"return_dict_in_generate": True}
    output = engine.generate(base, [prompt], ids, mask, **options)
    for layer in output.past_key_values.layers:
        layer.keys.zero_()
    assert torch.equal(engine.generate(base, [prompt], ids, mask, **NEW), output.sequences)
    assert computed == [4]


# -------------------------------------------------------------------------------------------- what is held inside


def test_between_two_calls_the_base_model_is_as_it_was():
    """A consumer that stops in the middle leaves no lock, no attention and no training mode behind."""
    from concurrent.futures import ThreadPoolExecutor

    base = llama().requires_grad_(False)
    base.gradient_checkpointing_enable()
    attention = base.config._attn_implementation
    examples = [Example([n, *range(3, 90)], [Target.of([4, 5])]) for n in range(40)]
    parts = FastEngine().label_logits(base, prompts_of(4), examples)
    next(parts)
    assert base.config._attn_implementation == attention
    assert not any(part.training for part in base.modules())
    with ThreadPoolExecutor(1) as pool:
        prompts = prompts_of(4)
        loss = pool.submit(FastEngine().example_loss, base, prompts, examples[:2]).result(
            timeout=60
        )
    torch.testing.assert_close(loss, plain_loss(base, prompts, examples[:2]))


def test_packed_rows_are_exact_on_all_but_alibi(decoder):
    """Found out by comparing numbers, not by names."""
    names = [strategy.__name__ for strategy in exact_strategies(decoder)]
    packed = {"bloom": [], "gptj": ["packed"]}  # GPT-J has no attention interface
    packed = packed.get(decoder.config.model_type, ["blocks", "packed"])
    assert names == [*packed, "prefixed", "padded"]
