"""Lens, attention and reading back, against plain loops, hand-made attention and what the model itself says."""

import math
from collections.abc import Sequence

import pandas as pd
import pytest
import torch
from families import FAMILIES, HEADS, LAYERS, WIDTH, byte_tokenizer, t5
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_base_model, load_task, reading
from softprompt_lab.reading import layers, readback

P, IDS = 3, [5, 17, 33, 8, 61]
SIZES = {"vocab_size": 99, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}


def prompted(base_model: PreTrainedModel, virtual: int = P, **more) -> SoftPromptModel:
    """A base model behind words of its own."""
    words = base_model.get_input_embeddings().weight[7 : 7 + virtual].detach().clone()
    task_type = "SEQ_2_SEQ_LM" if base_model.config.is_encoder_decoder else "CAUSAL_LM"
    config = PromptTuningConfig(
        task_type=task_type, prompt_tuning_init="RANDOM", num_virtual_tokens=virtual
    )
    return SoftPromptModel(base_model, config, start=words, **more)


def built(model_class, config) -> PreTrainedModel:
    """A small random model that is none of the families."""
    torch.manual_seed(0)
    return model_class(config).eval()


def behind(model: SoftPromptModel, prompt: torch.Tensor, ids: Sequence[int], **options):
    """The base model's own output at a prompt and a text."""
    words = model.word_embeddings_module(torch.tensor([list(ids)], dtype=torch.long))
    return model.base_model(inputs_embeds=torch.cat([prompt[None], words], dim=1), **options)


@pytest.fixture(scope="module")
def tiny() -> SoftPromptModel:
    """The shipped model behind an instruction."""
    base_model, tokenizer = load_base_model("tiny")
    config = PromptTuningConfig(
        prompt_tuning_init_text="Is this a complaint or not:", num_virtual_tokens=4
    )
    return SoftPromptModel(base_model, config, tokenizer=tokenizer)


# ------------------------------------------------------------------------------------------------ the logit lens


@torch.no_grad()
def test_the_last_layer_of_the_lens_is_the_model(family):
    """Every virtual and text token; and without a prompt the bare base model."""
    model = prompted(family)
    frame = reading.logit_lens(model, IDS)
    for kind, prompt in (("prompt", model.prompt), ("no prompt", model.prompt[:0])):
        expected = behind(model, prompt, IDS).logits[0].log_softmax(dim=-1).max(dim=-1)
        last = frame[(frame["kind"] == kind) & (frame["layer"] == LAYERS)]
        assert last["token_id"].tolist() == expected.indices.tolist()
        assert last["log_probability"].tolist() == pytest.approx(expected.values.tolist(), abs=1e-5)
        assert last["agrees"].all()


@torch.no_grad()
def test_the_lens_equals_a_plain_loop():
    """Llama, by hand: its norm and its output weights at each state, number by number."""
    model = prompted(FAMILIES["llama"]())
    base_model = model.base_model
    frame = (
        reading.logit_lens(model, IDS)
        .query("kind == 'prompt'")
        .set_index(["layer", "place", "position"])
    )
    output = behind(model, model.prompt, IDS, output_hidden_states=True)
    for layer in range(LAYERS):
        for place in range(P + len(IDS)):
            logits = base_model.lm_head(
                base_model.model.norm(output.hidden_states[layer][0, place])
            )
            shares, last = logits.softmax(-1).tolist(), output.logits[0, place].softmax(-1).tolist()
            found = frame.loc[
                (layer, "virtual", place) if place < P else (layer, "text", place - P)
            ]
            assert shares[found.token_id] == max(shares)
            assert found.log_probability == pytest.approx(math.log(max(shares)), abs=1e-4)
            assert found.agrees == (last.index(max(last)) == found.token_id)


@pytest.mark.parametrize(
    ("model_class", "config", "message"),
    [
        (
            Gemma2ForCausalLM,
            Gemma2Config(
                **SIZES,
                intermediate_size=64,
                head_dim=8,
                num_key_value_heads=2,
                final_logit_softcapping=0.1,
            ),
            "differs from the logits of Gemma2ForCausalLM",
        ),
        (
            OPTForCausalLM,
            OPTConfig(**SIZES, do_layer_norm_before=False, ffn_dim=64, max_position_embeddings=64),
            "the final norm of OPTForCausalLM was not found",
        ),
    ],
)
def test_more_or_less_than_a_norm_and_output_words_is_refused(model_class, config, message):
    """Capped logits; no final norm."""
    with pytest.raises(ValueError, match=message):
        reading.logit_lens(prompted(built(model_class, config)), IDS)


def test_what_stands_beside_a_prompt(tiny):
    """Every kind at the same places; random vectors have the prompt's norms, the words are the sentence's."""
    start = tiny.prompt.detach() + 1
    ids = tiny.tokenizer("late again")["input_ids"]
    frame = reading.logit_lens(tiny, ids, start=start)
    assert list(frame["kind"].unique()) == ["prompt", "start", "random", "words", "no prompt"]
    sizes = frame.groupby("kind").size()
    assert sizes.drop("no prompt").nunique() == 1
    text = frame[frame["place"] == "text"]
    assert (
        "".join(text.query("kind == 'start' and layer == 0")["token"]).replace("·", " ").strip()
        == "late again"
    )
    assert not frame.isna().any().any()
    behind_start = SoftPromptModel(
        tiny.base_model, tiny.prompt_config, tokenizer=tiny.tokenizer, start=start
    )
    alone = reading.logit_lens(behind_start, ids).query("kind == 'prompt'").reset_index(drop=True)
    beside = frame[frame["kind"] == "start"].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        alone.drop(columns="kind"), beside.drop(columns="kind"), atol=1e-4
    )


def test_a_start_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 32\)"):
        reading.logit_lens(prompted(FAMILIES["llama"]()), IDS, start=torch.zeros(2, WIDTH))


def test_an_encoder_decoder_is_refused():
    with pytest.raises(ValueError, match="encoder-decoder"):
        reading.logit_lens(prompted(t5()), IDS)


# ------------------------------------------------------------------------------------------------ attention


@torch.no_grad()
def test_the_mass_equals_attention_by_hand():
    """GPT-2's first layer: queries and keys multiplied, a softmax over what each text token may see."""
    model = prompted(FAMILIES["gpt2"]())
    block = model.base_model.transformer.h[0]
    embeddings = torch.cat([model.prompt, model.word_embeddings[IDS]])
    states = block.ln_1(embeddings + model.base_model.transformer.wpe.weight[: len(embeddings)])
    queries, keys, _ = block.attn.c_attn(states).split(WIDTH, dim=-1)
    width, expected = WIDTH // HEADS, {}
    for head in range(HEADS):
        own = slice(head * width, (head + 1) * width)
        shares = []
        for place in range(P, len(embeddings)):
            scores = [
                float(queries[place, own] @ keys[seen, own]) / math.sqrt(width)
                for seen in range(place + 1)
            ]
            exponentials = [math.exp(score) for score in scores]
            shares.append([value / sum(exponentials) for value in exponentials])
        expected[head] = [sum(shares[-1][:P]), shares[-1][0]]
    found = reading.attention_mass(model, [IDS]).query("kind == 'prompt' and layer == 0")
    assert len(found) == HEADS
    for row in found.itertuples():
        assert [row.mass, row.first] == pytest.approx(expected[row.head], abs=1e-5)
        assert row.uniform == pytest.approx(P / (P + 5))


def test_means_over_texts():
    """Mean and spread of several texts are those of each alone; without a prompt the first place is the text's own."""
    model = prompted(FAMILIES["bloom"]())
    rows = [IDS, IDS[:2], [44, 9, 70]]
    together = reading.attention_mass(model, rows)
    alone = [reading.attention_mass(model, [row]) for row in rows]
    keys = ["kind", "layer", "head"]
    for column in ("mass", "first"):
        values = pd.concat(alone).groupby(keys, sort=False)[column]
        assert together[column].tolist() == pytest.approx(values.mean().tolist(), abs=1e-5)
    masses = pd.concat(alone).groupby(keys, sort=False)["mass"]
    assert together["mass_sd"].tolist() == pytest.approx(masses.std().tolist(), abs=1e-5)
    assert set(together["n"]) == {3}
    assert (alone[0]["mass_sd"] == 0).all()
    bare = together[together["kind"] == "no prompt"]
    assert (bare["mass"] == 0).all()
    assert (bare["first"] > 0).all()


def test_attention_is_put_back_after_an_error(family, monkeypatch):
    model = prompted(family)
    before = family.config._attn_implementation
    reading.attention_mass(model, [IDS])
    assert family.config._attn_implementation == before
    hooks = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in family.modules()
    )
    monkeypatch.setattr(family.get_output_embeddings(), "forward", lambda states: 1 / 0)
    for read, texts in (
        (reading.attention_mass, [IDS]),
        (reading.attention_as_bias, IDS),
        (reading.logit_lens, IDS),
    ):
        with pytest.raises(ZeroDivisionError):
            read(model, texts)
    assert family.config._attn_implementation == before
    left = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in family.modules()
    )
    assert left == hooks


PROJECTIONS = {
    "gpt2": "attn.c_proj",
    "bloom": "self_attention.dense",
    "llama": "self_attn.o_proj",
    "opt": "self_attn.out_proj",
    "gpt_neox": "attention.dense",
    "qwen2": "self_attn.o_proj",
}


@torch.no_grad()
@pytest.mark.parametrize("name", list(PROJECTIONS))
def test_the_output_of_the_heads_is_what_the_model_projects(name):
    """Bit for bit, layer by layer."""
    model, given = prompted(FAMILIES[name]()), []
    for path, module in model.base_model.named_modules():
        if path.endswith(PROJECTIONS[name]):
            module.register_forward_pre_hook(lambda module, args: given.append(args[0][0, P:]))
    parts = reading.split_attention(model, IDS)
    assert len(parts) == len(given) == LAYERS
    for part, expected in zip(parts, given, strict=True):
        torch.testing.assert_close(part.output.transpose(0, 1).flatten(1), expected)


@torch.no_grad()
def test_attention_to_a_prompt_is_a_bias(family):
    """The identity, at every layer, head and text token."""
    for part in reading.split_attention(prompted(family), IDS):
        assert part.output.shape == (HEADS, len(IDS), WIDTH // HEADS)
        torch.testing.assert_close(part.output, part.bias + part.rest, atol=1e-5, rtol=0)
        assert part.error < 1e-5
        assert 0.01 < float(part.mass.mean()) < 0.99
        assert float((part.prompt_part - part.text_part).abs().max()) > 0.01


@torch.no_grad()
def test_the_sides_of_the_identity_by_hand():
    """Llama's first layer: means of the prompt's and of the text's values, two key-value heads for four heads."""
    model = prompted(FAMILIES["llama"]())
    part = reading.split_attention(model, IDS)[0]
    layer, embeddings = (
        model.base_model.model.layers[0],
        torch.cat([model.prompt, model.word_embeddings[IDS]]),
    )
    values = layer.self_attn.v_proj(layer.input_layernorm(embeddings)).unflatten(
        -1, (2, -1)
    )  # (N, G, d)
    weights = layers.attention_of(model.base_model, embeddings[None])[0][0][0]  # (H, N, N)
    for head in range(HEADS):
        for place in range(len(IDS)):
            row, own = weights[head, P + place], values[:, head // 2]
            prompt, text = (
                row[seen] @ own[seen] / row[seen].sum() for seen in (slice(P), slice(P, None))
            )
            torch.testing.assert_close(part.prompt_part[head, place], prompt, atol=1e-5, rtol=0)
            torch.testing.assert_close(part.text_part[head, place], text, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["bloom", "llama", "qwen2", "gpt_neox"])
def test_the_first_layer_is_the_old_one_scaled_down_and_deeper_ones_are_not(name):
    """With relative positions; the layers before the second have changed what it reads."""
    frame = reading.attention_as_bias(prompted(FAMILIES[name]()), IDS).query("kind == 'prompt'")
    assert frame.query("layer == 0")["moved"].max() < 1e-5
    assert frame.query("layer == 1")["moved"].min() > 0.05
    assert frame["error"].max() < 1e-5


def test_attention_that_is_not_shown_is_refused(monkeypatch):
    model = prompted(FAMILIES["llama"]())
    forward = model.base_model.forward

    def silent(**options):
        output = forward(**options)
        output.attentions = None
        return output

    monkeypatch.setattr(model.base_model, "forward", silent)
    with pytest.raises(ValueError, match="LlamaForCausalLM does not show its attention"):
        reading.split_attention(model, IDS)


def test_attention_with_a_sink_of_its_own_is_refused():
    """A share that no place gets: prompt and text are not all there is."""
    sizes = {
        "intermediate_size": 32,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "head_dim": 8,
    }
    config = GptOssConfig(**SIZES, **sizes, num_key_value_heads=2, max_position_embeddings=64)
    base_model = built(GptOssForCausalLM, config)
    for name, parameter in base_model.named_parameters():
        if name.endswith("sinks"):
            parameter.data.fill_(2.0)
    with pytest.raises(
        ValueError, match="layer 0 of GptOssForCausalLM is no mean over prompt and text"
    ):
        reading.split_attention(prompted(base_model), IDS)


# ------------------------------------------------------------------------------------------------ reading back


def byte_model(name: str) -> SoftPromptModel:
    """A family whose 99 tokens are the end and bytes that print, without a space."""
    return prompted(FAMILIES[name](), tokenizer=byte_tokenizer())


def said(model: SoftPromptModel, text: str) -> str:
    """What the base model writes behind a text, by transformers alone."""
    ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
    tokens = model.base_model.generate(
        ids, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=0
    )
    return readback.first_line(
        model.tokenizer.decode(tokens[0, ids.shape[1] :], skip_special_tokens=True)
    )


@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom"])
def test_words_in_the_slot_are_the_text_itself(name):
    """The embeddings of a text say what the text says."""
    model, template = byte_model(name), "a:{prompt}b:"
    ids = model.tokenizer("a:lateb:")["input_ids"]
    vectors = model.word_embeddings[ids[2:6]].detach()
    long, own = readback.speak(model, template, [vectors.repeat(2, 1), vectors], max_new_tokens=6)
    assert (long, own) == (said(model, "a:latelateb:"), said(model, "a:lateb:"))


def test_what_is_read_back_stands_beside_its_controls(tiny):
    task = load_task("complaints")
    found = reading.read_back(tiny, task, start=tiny.prompt, draws=2, max_new_tokens=4)
    assert list(found["kind"].unique()) == ["prompt", "start", "random", "task text", "no prompt"]
    assert len(found) == 6 * len(readback.TEMPLATES)
    assert (found.query("kind == 'prompt'")["output"].tolist()) == found.query("kind == 'start'")[
        "output"
    ].tolist()
    random = reading.random_control(tiny.prompt, 1)
    rows = found.query("kind == 'random' and draw == 1")
    for row in rows.itertuples():
        assert [row.output] == readback.speak(
            tiny, readback.TEMPLATES[row.template], [random], max_new_tokens=4
        )


def test_words_found_in_an_output():
    share = readback.found_share
    assert (
        share("Classify the text as complaint or praise", "A Complaint, or 'praise'?", "no words")
        == 0.5
    )
    assert (
        share("complaint or praise", "complaints", "the praise") == 0.0
    )  # a longer word; praise is the template's
    assert math.isnan(share("yes or no", "yes or no", ""))


def test_a_template_without_its_slot_is_refused(tiny):
    with pytest.raises(ValueError, match=r"'no slot' must hold \{prompt\} exactly once"):
        reading.read_back(tiny, load_task("complaints"), templates={"none": "no slot"})


@pytest.mark.slow
@pytest.mark.smollm2
def test_smollm2_reads_the_task_back_from_its_text_and_not_from_random_vectors():
    """The positive control: without it nothing that a prompt says would count."""
    base_model, tokenizer = load_base_model("smollm2")
    config = PromptTuningConfig(
        prompt_tuning_init_text="Is this a complaint or no complaint?", num_virtual_tokens=8
    )
    model = SoftPromptModel(base_model, config, tokenizer=tokenizer)
    found = reading.read_back(model, load_task("complaints"), draws=2, max_new_tokens=16)
    shares = found.groupby("kind")["task_words"].mean()
    assert shares["task text"] > 0.5
    assert shares["random"] < 0.2
    assert shares["no prompt"] < 0.2
