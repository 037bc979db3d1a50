"""Generation on kept prefixes: the tokens of plain generation, on six families of decoders."""

import pytest
import torch
from batches import ROWS, padded
from families import WIDTH, bloom, gpt2, llama
from transformers import DynamicCache, GenerationConfig, MistralConfig, MistralForCausalLM
from transformers.generation.streamers import BaseStreamer

from softprompt_lab import PromptTuningConfig, SoftPromptModel
from softprompt_lab.engine import generation, prefill
from softprompt_lab.engine.generation import is_exact
from softprompt_lab.engine.selection import exact_strategies
from softprompt_lab.engine.strategies import blocks, packed, prefixed
from softprompt_lab.engine.strategies import padded as padded_strategy

LENGTHS = {"default": 4, "short": 2, "long": 7}
NAMES = ["short", "long", "default"]
NEW = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}


def start(length: int) -> torch.Tensor:
    """Random vectors at the scale of the words."""
    return torch.randn(length, WIDTH, generator=torch.Generator().manual_seed(length)) * 0.2


def with_prompts(base) -> SoftPromptModel:
    """A base model with three prompts of different lengths."""
    model = SoftPromptModel(base, PromptTuningConfig(num_virtual_tokens=4), start=start(4))
    for name, length in list(LENGTHS.items())[1:]:
        model.add_prompt(name, PromptTuningConfig(num_virtual_tokens=length), start=start(length))
    return model


@pytest.fixture
def model(family):
    return with_prompts(family)


@pytest.fixture
def plainly(monkeypatch):
    """Turns prefixes off: generation from embeddings, which invariant 3 holds against PEFT."""
    return lambda: monkeypatch.setattr(generation, "is_exact", lambda *_, **__: False)


@pytest.fixture(params=["packed", "padded"])
def first_step(request, monkeypatch):
    """How the texts are read, whatever pays here: in packed rows (not by BLOOM), or with their pads."""
    monkeypatch.setattr(generation, "pays", lambda *arguments: request.param == "packed")


def test_every_family_takes_prefixes(family):
    """Asked numerically, once; all but BLOOM read packed texts onto them."""
    assert is_exact(family)
    packs = family.config.model_type != "bloom"
    assert is_exact(family, True) == packs


def test_texts_are_read_packed_where_pads_cost_more(monkeypatch):
    """Not where nothing is padded, and not where something looks at the text."""
    read, real = [], generation.read_texts
    monkeypatch.setattr(generation, "read_texts", lambda *given: read.append(1) or real(*given))
    monkeypatch.setattr(prefill, "tokens_of_call", lambda base_model: 0)
    model = with_prompts(llama())
    assert is_exact(model.base_model, True)
    read.clear()
    ids, mask, _ = padded([*ROWS, *ROWS, ROWS[0] * 5], "left")
    model.generate(ids, mask, **NEW)
    assert len(read) == 1
    model.generate(ids[:, -3:], mask[:, -3:], **NEW)
    model.generate(ids, mask, repetition_penalty=1.5, **NEW)
    assert len(read) == 1


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}],
    ids=["greedy", "beams", "several beams"],
)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("names", [None, NAMES], ids=["one prompt", "three prompts"])
def test_prefixes_change_no_token(model, plainly, first_step, options, side, names):
    """One prompt or one for each row, either padding side."""
    ids, mask, _ = padded(ROWS, side)
    found = model.generate(ids, mask, prompt_names=names, **NEW, **options)
    plainly()
    assert torch.equal(found, model.generate(ids, mask, prompt_names=names, **NEW, **options))


def test_rows_of_several_prompts_equal_each_row_alone(model, first_step):
    """Forward, loss, gradient, generate: a row knows nothing of the other prompts."""
    ids, mask, labels = padded(ROWS, "left")
    together = model(ids, mask, labels, prompt_names=NAMES)
    generated = model.generate(ids, mask, prompt_names=NAMES, **NEW)
    losses = []
    for row, name in enumerate(NAMES):
        model.set_prompt(name)
        text = mask[row].bool()
        alone = model(ids[row][text][None], labels=labels[row][text][None])
        torch.testing.assert_close(
            together.logits[row][text], alone.logits[0], rtol=1e-5, atol=1e-5
        )
        assert torch.equal(
            generated[row, ids.shape[1] :],
            model.generate(ids[row][text][None], **NEW)[0, text.sum() :],
        )
        losses.append(alone.loss)
    for loss in (together.loss, model.loss(ids, mask, labels, prompt_names=NAMES)):
        torch.testing.assert_close(loss, torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)


def test_every_prompt_of_a_mixed_batch_learns():
    """The gradient of each is that of its own row alone."""
    model = with_prompts(llama())
    weights = {name: model.prompts[name].requires_grad_().embedding.weight for name in NAMES}
    ids, mask, labels = padded(ROWS, "right")
    found = torch.autograd.grad(
        model.loss(ids, mask, labels, prompt_names=NAMES), list(weights.values())
    )
    for row, (weight, gradient) in enumerate(zip(weights.values(), found, strict=True)):
        name, text = NAMES[row], mask[row].bool()
        alone = model(
            ids[row][text][None], labels=labels[row][text][None], prompt_names=[name]
        ).loss / len(ROWS)
        torch.testing.assert_close(
            gradient, torch.autograd.grad(alone, weight)[0], rtol=1e-4, atol=1e-6
        )


def test_a_prefix_is_computed_once_and_again_when_its_prompt_has_changed(monkeypatch):
    """Whatever way it was changed, `.data` included."""
    from softprompt_lab.engine import prefixes

    calls = []
    real = prefixes.prefix_of
    monkeypatch.setattr(
        prefixes, "prefix_of", lambda *arguments: calls.append(1) or real(*arguments)
    )
    model = with_prompts(gpt2())
    ids = torch.tensor([ROWS[0]])
    first = model.generate(ids, **NEW)
    assert torch.equal(first, model.generate(ids, **NEW))
    assert len(calls) == 1
    model.prompts["default"].embedding.weight.data.mul_(-3)
    changed = model.generate(ids, **NEW)
    assert len(calls) == 2
    assert not torch.equal(first, changed)


@pytest.mark.parametrize(
    "options", [{"cache_implementation": "static"}, {"use_cache": False}], ids=["static", "none"]
)
def test_other_caches_go_the_plain_way(options):
    """The same tokens."""
    model = with_prompts(llama())
    ids, mask, _ = padded(ROWS, "left")
    assert torch.equal(
        model.generate(ids, mask, **NEW, **options), model.generate(ids, mask, **NEW)
    )


def test_sampling_draws_as_the_plain_way_does(plainly):
    """Several sequences of each row, from the same random state."""
    model = with_prompts(llama())
    ids, mask, _ = padded(ROWS, "right")
    options = {**NEW, "do_sample": True, "num_return_sequences": 2}
    torch.manual_seed(5)
    found = model.generate(ids, mask, **options)
    plainly()
    torch.manual_seed(5)
    assert torch.equal(found, model.generate(ids, mask, **options))


def test_processors_see_the_text():
    """A repetition penalty counts the words of the input, as it does without a prompt."""
    model = with_prompts(llama())
    ids = torch.tensor([ROWS[0]])
    banned = model.generate(ids, max_new_tokens=1, do_sample=False)[0, -1].item()
    repeated = torch.cat([ids, torch.tensor([[banned]]), ids], dim=1)
    following = repeated[0, repeated[0].tolist().index(banned) + 1].item()
    output = model.generate(repeated, max_new_tokens=4, no_repeat_ngram_size=1, do_sample=False)[
        0, repeated.shape[1] :
    ]
    assert not {banned, following} & set(output.tolist())


class Heard(BaseStreamer):
    """Keeps what is streamed."""

    def __init__(self):
        self.tokens, self.ended = [], False

    def put(self, value):
        self.tokens += value.flatten().tolist()

    def end(self):
        self.ended = True


def test_tokens_are_streamed():
    """The input first and then each token as it comes, as transformers streams."""
    model, heard = with_prompts(gpt2()), Heard()
    output = model.generate(torch.tensor([ROWS[0]]), streamer=heard, **NEW)
    assert heard.tokens == output[0].tolist()
    assert heard.ended


def test_virtual_tokens_count_against_the_base_models_positions():
    """GPT-2 with 256 positions: what does not fit is said before anything is computed."""
    model = with_prompts(gpt2())
    ids = torch.ones(1, 250, dtype=torch.long)
    assert model.generate(ids, max_new_tokens=3, min_new_tokens=3).shape == (1, 253)
    with pytest.raises(
        ValueError, match=r"4 virtual tokens, 250 .* max_new_tokens=4 .* positions for 256.* to 3\."
    ):
        model.generate(ids, max_new_tokens=4)


def test_names_are_checked():
    """Their number and their spelling."""
    model = with_prompts(gpt2())
    ids = torch.tensor([ROWS[0]])
    with pytest.raises(ValueError, match="prompt_names has 2 names for 1 rows"):
        model(ids, prompt_names=["default", "short"])
    with pytest.raises(ValueError, match="no prompt called 'missing'"):
        model.generate(ids, prompt_names=["missing"])


def test_the_cache_is_copied_not_shared():
    """A finished call leaves the kept prefix as it was."""
    model = with_prompts(llama())
    ids = torch.tensor([ROWS[0]])
    output = model.generate(ids, return_dict_in_generate=True, **NEW)
    assert isinstance(output.past_key_values, DynamicCache)
    before = model.generate(ids, **NEW)
    for layer in output.past_key_values.layers:
        layer.keys.zero_()
    assert torch.equal(before, model.generate(ids, **NEW))


def test_a_generation_config_counts_as_the_arguments_do():
    """No cache, beams, lengths and samples, said in a `GenerationConfig`."""
    model = with_prompts(llama())
    ids, mask, _ = padded(ROWS, "left")
    for options in (
        {"use_cache": False, **NEW},
        {"cache_implementation": "static", **NEW},
        {"num_beams": 2, **NEW},
        {"max_length": 12, "min_length": 12, "do_sample": False},
        {"max_length": 12, "max_new_tokens": 2, "min_new_tokens": 2, "do_sample": False},
    ):
        given = model.generate(ids, mask, **options)
        assert torch.equal(
            model.generate(ids, mask, generation_config=GenerationConfig(**options)), given
        )
    assert given.shape[1] == ids.shape[1] + 2
    assert model.generate(ids, mask, max_length=12, min_length=12).shape[1] == 12
    sampled = GenerationConfig(do_sample=True, num_return_sequences=2, max_new_tokens=2)
    assert len(model.generate(ids, mask, generation_config=sampled)) == 2 * len(ids)


def test_arguments_that_a_prompt_makes_meaningless_are_refused():
    """By name, with the reason."""
    model = with_prompts(llama())
    for name, value in (
        ("assistant_model", llama()),
        ("prompt_lookup_num_tokens", 2),
        ("inputs_embeds", 1),
        ("past_key_values", DynamicCache()),
    ):
        with pytest.raises(ValueError, match=f"{name} cannot be passed"):
            model.generate(torch.tensor([ROWS[0]]), **{name: value})


def test_a_window_of_attention_keeps_rows_as_they_are_alone():
    """Mistral with a window of 16: loss and tokens of long rows, in a batch and alone."""
    sizes = {
        "vocab_size": 99,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
    }
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    base = MistralForCausalLM(
        MistralConfig(**sizes, **heads, sliding_window=16, initializer_range=0.2)
    ).eval()
    model = with_prompts(base)
    ids = torch.randint(3, 99, (3, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :25] = mask[2, 5:] = 0
    labels = ids.where(mask.bool(), -100)
    torch.testing.assert_close(
        model.loss(ids, mask, labels), model(ids, mask, labels).loss, rtol=1e-5, atol=1e-6
    )
    together = model.generate(ids, mask, **NEW)
    for row in range(3):
        text = ids[row][mask[row].bool()][None]
        assert torch.equal(together[row, 40:], model.generate(text, **NEW)[0, text.shape[1] :])


def test_half_precision_goes_on_prefixes_too():
    """Rounding is no reason to go the plain way."""
    assert is_exact(llama().bfloat16())
    assert exact_strategies(llama().bfloat16()) == [blocks, packed, prefixed, padded_strategy]
    assert exact_strategies(bloom().bfloat16()) == [prefixed, padded_strategy]


def test_the_question_is_asked_rightly_in_inference_mode():
    """Whoever asks first."""
    base = llama()
    with torch.inference_mode():
        assert len(exact_strategies(base)) == 4
        assert is_exact(base)
