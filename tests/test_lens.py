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
from softprompt_lab.reading import attention, layers, readback

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
    frame = reading.logit_lens(model, IDS, k=3)
    for kind, prompt in (("prompt", model.prompt), ("no prompt", model.prompt[:0])):
        expected = behind(model, prompt, IDS).logits[0].log_softmax(dim=-1).topk(3)
        last = frame[(frame["kind"] == kind) & (frame["layer"] == LAYERS)]
        assert last["token_id"].tolist() == expected.indices.flatten().tolist()
        assert last["log_probability"].tolist() == pytest.approx(
            expected.values.flatten().tolist(), abs=1e-5
        )
        assert last["kl"].abs().max() < 1e-5
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
            assert found.entropy == pytest.approx(-sum(p * math.log(p) for p in shares), abs=1e-4)
            assert found.kl == pytest.approx(
                sum(q * math.log(q / p) for p, q in zip(shares, last, strict=True)), abs=1e-4
            )
            assert found.agrees == (last.index(max(last)) == found.token_id)


def test_the_lens_reads_some_layers():
    """As in the whole table; the last one always."""
    model = prompted(FAMILIES["gpt2"]())
    every = reading.logit_lens(model, IDS)
    some = reading.logit_lens(model, IDS, layers=[0])
    pd.testing.assert_frame_equal(some, every[every["layer"] != 1].reset_index(drop=True))
    with pytest.raises(ValueError, match="layer 3 is not there"):
        reading.logit_lens(model, IDS, layers=[3])


def test_a_lens_through_two_last_steps():
    """A model that projects behind its final norm, and one without a final norm."""
    for norm_before in (True, False):
        options = {"word_embed_proj_dim": 16, "do_layer_norm_before": norm_before, "ffn_dim": 64}
        model = prompted(
            built(OPTForCausalLM, OPTConfig(**SIZES, **options, max_position_embeddings=64))
        )
        frame = reading.logit_lens(model, IDS).query("kind == 'prompt' and layer == 2")
        expected = behind(model, model.prompt, IDS).logits[0].log_softmax(-1).max(-1).values
        assert frame["log_probability"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_capped_logits_are_refused():
    config = Gemma2Config(
        **SIZES,
        intermediate_size=64,
        head_dim=8,
        num_key_value_heads=2,
        final_logit_softcapping=0.1,
    )
    with pytest.raises(ValueError, match="differs from the logits of Gemma2ForCausalLM"):
        reading.logit_lens(prompted(built(Gemma2ForCausalLM, config)), IDS)


def test_what_stands_beside_a_prompt(tiny):
    """Every kind at the same places; random vectors have the prompt's norms, the words are the sentence's."""
    start = tiny.prompt.detach() + 1
    frame = reading.logit_lens(tiny, "late again", start=start)
    assert list(frame["kind"].unique()) == ["prompt", "start", "random", "words", "no prompt"]
    sizes = frame.groupby("kind").size()
    assert sizes.drop("no prompt").nunique() == 1
    text = frame[frame["place"] == "text"]
    assert (
        "".join(text.query("kind == 'start' and layer == 0")["token"]).replace("·", " ").strip()
        == "late again"
    )
    assert not frame.isna().any().any()
    alone = (
        reading.logit_lens(tiny, "late again", prompt=start)
        .query("kind == 'prompt'")
        .reset_index(drop=True)
    )
    beside = frame[frame["kind"] == "start"].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        alone.drop(columns="kind"), beside.drop(columns="kind"), atol=1e-4
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": []}, "no token"),
        ({"text": "words"}, "no tokenizer"),
        ({"text": IDS, "k": 0}, "k is 0"),
        ({"text": IDS, "prompt": torch.zeros(2, 5)}, r"\(2, 5\)"),
        ({"text": IDS, "prompt": torch.zeros(0, WIDTH)}, "at least one row"),
        ({"text": IDS, "start": torch.zeros(2, WIDTH)}, r"\(2, 32\)"),
    ],
)
def test_what_cannot_be_read_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        reading.logit_lens(prompted(FAMILIES["llama"]()), **arguments)


def test_an_encoder_decoder_is_refused():
    with pytest.raises(ValueError, match="encoder-decoder"):
        reading.logit_lens(prompted(t5()), IDS)


def test_layers_that_are_not_found_are_refused(monkeypatch):
    model = FAMILIES["llama"]()
    monkeypatch.setattr(layers, "_same", lambda ours, theirs: False)
    with pytest.raises(ValueError, match="the last layer of LlamaForCausalLM was not found"):
        layers.unembedding(model)


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
        expected[head, "text"] = [
            sum(map(sum, (row[:P] for row in shares))) / len(IDS),
            sum(r[0] for r in shares) / 5,
        ]
        expected[head, "last"] = [sum(shares[-1][:P]), shares[-1][0]]
    found = reading.attention_mass(model, IDS).query("kind == 'prompt' and layer == 0")
    assert len(found) == 2 * HEADS
    for row in found.itertuples():
        assert [row.mass, row.first] == pytest.approx(expected[row.head, row.place], abs=1e-5)
        even = [P / (P + place) for place in range(1, 6)]
        assert row.uniform == pytest.approx(even[-1] if row.place == "last" else sum(even) / 5)


def test_means_over_texts():
    """Mean and spread of several texts are those of each alone; without a prompt the first place is the text's own."""
    model = prompted(FAMILIES["bloom"]())
    rows = [IDS, IDS[:2], [44, 9, 70]]
    together = reading.attention_mass(model, rows)
    alone = [reading.attention_mass(model, row) for row in rows]
    keys = ["kind", "layer", "head", "place"]
    for column in ("mass", "first"):
        values = pd.concat(alone).groupby(keys, sort=False)[column]
        assert together[column].tolist() == pytest.approx(values.mean().tolist(), abs=1e-5)
        assert together[f"{column}_sd"].tolist() == pytest.approx(values.std().tolist(), abs=1e-5)
    assert set(together["n"]) == {3}
    assert (alone[0][["mass_sd", "first_sd"]] == 0).all().all()
    bare = together[together["kind"] == "no prompt"]
    assert (bare["mass"] == 0).all()
    assert (bare["first"] > 0).all()
    first = reading.attention_mass(model, rows, limit=1)
    pd.testing.assert_frame_equal(first, alone[0])


def test_the_mass_of_a_task(tiny):
    task = load_task("complaints")
    found = reading.attention_mass(tiny, task, split="validation", limit=2)
    ids = [task.encode(tiny.tokenizer, text)[0] for text in task.validation["Tweet text"][:2]]
    pd.testing.assert_frame_equal(found, reading.attention_mass(tiny, ids))
    with pytest.raises(ValueError, match="limit=0"):
        reading.attention_mass(tiny, task, limit=0)


def test_attention_is_put_back_after_an_error(family, monkeypatch):
    model = prompted(family)
    before = family.config._attn_implementation
    reading.attention_mass(model, IDS)
    assert family.config._attn_implementation == before
    hooks = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in family.modules()
    )
    monkeypatch.setattr(family.get_output_embeddings(), "forward", lambda states: 1 / 0)
    for read in (reading.attention_mass, reading.attention_as_bias, reading.logit_lens):
        with pytest.raises(ZeroDivisionError):
            read(model, IDS)
    assert family.config._attn_implementation == before
    left = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in family.modules()
    )
    assert left == hooks


@torch.no_grad()
def test_attention_to_a_prompt_is_a_bias(family):
    """The identity, at every layer, head and text token; its three sides come from three calls of the attention."""
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
    weights = layers.attention_weights(model.base_model, embeddings[None])[0][0]  # (H, N, N)
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


def test_one_virtual_token_points_one_way():
    """Its bias has one direction at every text token; several have several."""
    model = prompted(FAMILIES["bloom"](), virtual=1)
    assert reading.attention_as_bias(model, IDS)["alike"].min() > 1 - 1e-5
    assert reading.attention_as_bias(prompted(FAMILIES["bloom"]()), IDS)["alike"].min() < 0.99


def test_attention_that_cannot_be_taken_apart_is_refused(monkeypatch):
    """A layer whose last matrix is not behind the mask: what it is given does not come from the attention."""
    monkeypatch.setattr(attention, "first_tensor", lambda values: None)
    monkeypatch.setattr(
        attention, "attention_weights", lambda *_: [torch.ones(1, HEADS, 8, 8)] * LAYERS
    )
    with pytest.raises(ValueError, match="LlamaForCausalLM cannot be taken apart"):
        reading.split_attention(prompted(FAMILIES["llama"]()), IDS)


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
    vectors = model.word_embeddings[ids[2:6]].detach()[None]
    assert readback.speak(model, template, vectors, max_new_tokens=6) == [said(model, "a:lateb:")]


def test_what_is_read_back_stands_beside_its_controls(tiny):
    task = load_task("complaints")
    found = reading.read_back(tiny, task, start=tiny.prompt, draws=2, max_new_tokens=4, seed=3)
    assert list(found["kind"].unique()) == ["prompt", "start", "random", "task text", "no prompt"]
    assert len(found) == 6 * len(readback.TEMPLATES)
    assert (found.query("kind == 'prompt'")["output"].tolist()) == found.query("kind == 'start'")[
        "output"
    ].tolist()
    random = reading.random_control(tiny.prompt, 4)[None]
    rows = found.query("kind == 'random' and draw == 1")
    for row in rows.itertuples():
        assert [row.output] == readback.speak(
            tiny, readback.TEMPLATES[row.template], random, max_new_tokens=4
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"templates": {"none": "no slot"}}, "'no slot' must hold {prompt} exactly once"),
        ({"draws": 0}, "draws is 0"),
        ({"says": ""}, "no token"),
    ],
)
def test_what_cannot_be_read_back_is_refused(tiny, arguments, message):
    with pytest.raises(ValueError, match=message):
        reading.read_back(tiny, load_task("complaints"), max_new_tokens=1, **arguments)


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
