"""Bases whose input is more than the word vectors: right or refused in words, and `words` are what the layer returns.

The table is that of `python benchmarks/families.py`, which holds every number against the plain base model.
"""

import gc
import importlib.util
import sys
import warnings
import weakref
from pathlib import Path

import pytest
import torch
import transformers
from datasets import Dataset
from families import WIDTH, base_of, byte_tokenizer, llama
from prompted import with_prompt

from softprompt_lab import PromptTuningConfig, SoftPromptModel, Task, evaluate, nearest_tokens
from softprompt_lab.batch import PlainEngine
from softprompt_lab.engine.exactness import check_reads_vectors
from softprompt_lab.reading.projection import discretised

_SPEC = importlib.util.spec_from_file_location(
    "table_of_families", Path(__file__).parents[1] / "benchmarks" / "families.py"
)
table = sys.modules["table_of_families"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(table)

SCALED_OUTSIDE = "makes more of a word than its embedding layer gives: with inputs_embeds its"
LOOKS_AHEAD = "is no decoder: what it says at a token changes with those behind it"
RIGHT = [
    ("gemma2", "CAUSAL_LM"),
    ("gemma3_text", "CAUSAL_LM"),
    ("granite", "CAUSAL_LM"),
    ("mamba", "CAUSAL_LM"),
    ("mixtral", "CAUSAL_LM"),
    ("xglm", "CAUSAL_LM"),
    ("bart", "SEQ_2_SEQ_LM"),
    ("m2m_100", "SEQ_2_SEQ_LM"),
    ("switch_transformers", "SEQ_2_SEQ_LM"),
]
REFUSED = [
    ("falcon_h1", "CAUSAL_LM", SCALED_OUTSIDE),
    ("gemma3n_text", "CAUSAL_LM", SCALED_OUTSIDE),
    ("gemma4_text", "CAUSAL_LM", "cannot read a prompt's vectors: It seems like you tried"),
    ("xlnet", "CAUSAL_LM", LOOKS_AHEAD),
    ("roformer", "CAUSAL_LM", "writes other tokens behind pads than a row alone would get"),
    ("marian", "SEQ_2_SEQ_LM", SCALED_OUTSIDE),
    ("pegasus", "SEQ_2_SEQ_LM", SCALED_OUTSIDE),
    ("blenderbot-small", "SEQ_2_SEQ_LM", SCALED_OUTSIDE),
    ("mvp", "SEQ_2_SEQ_LM", SCALED_OUTSIDE),
    ("prophetnet", "SEQ_2_SEQ_LM", LOOKS_AHEAD),
]


@pytest.mark.parametrize(("kind", "task"), RIGHT)
def test_a_prompt_of_words_is_the_words_in_front_and_a_batch_its_rows(kind, task):
    """Logits, loss, gradient and text, on either padding side."""
    verdict, why = table.judge(kind, task)
    assert verdict == "right", why


@pytest.mark.parametrize(("kind", "task", "words"), REFUSED)
def test_a_base_that_reads_more_than_vectors_is_refused_in_words(kind, task, words):
    """No number comes from it, with the fast engine or without; its weights are as random as the others'."""
    verdict, why = table.judge(kind, task)
    assert verdict == "refused"
    assert words in why


@pytest.mark.slow
def test_no_family_of_the_installed_transformers_is_silently_wrong():
    """All that build small, at least sixty. Reformer, whose backward pass wants training mode, says so in an error."""
    found = {
        (kind, task): table.judge(kind, task)
        for task, kinds in table.TASKS.items()
        for kind in kinds
    }
    by_verdict = {
        verdict: [key for key in found if found[key].verdict == verdict]
        for verdict, _ in found.values()
    }
    assert "WRONG" not in by_verdict, {key: found[key] for key in by_verdict["WRONG"]}
    errors = set(by_verdict.get("error", [])) - {("reformer", "CAUSAL_LM")}
    # Once in many hundred runs a family failed, and then did not: what it said is shown, and it is judged once more.
    for key in errors:
        warnings.warn(f"{key}: {found[key].why}", stacklevel=1)
        again = table.judge(*key)
        assert again.verdict != "error", (key, found[key], again)
    assert len(by_verdict["right"]) + len(by_verdict["refused"]) >= 60


# ------------------------------------------------------------------------------------------------- how it is asked


def task_of(*texts: str) -> Task:
    """A task whose rows mean nothing."""
    rows = Dataset.from_dict({"text": [*texts], "text_label": ["a", "b"] * (len(texts) // 2)})
    return Task("rows", rows, rows, rows, "text", ("a", "b"), "{text}=")


def test_a_plain_base_is_asked_too():
    """`evaluate` of a base model without a prompt puts its words in as vectors as well."""
    base = table.build("falcon_h1", "CAUSAL_LM")
    base.resize_token_embeddings(260)
    with pytest.raises(ValueError, match=SCALED_OUTSIDE):
        evaluate(base, task_of("one", "two"), tokenizer=byte_tokenizer())


def test_an_encoder_is_no_decoder():
    """BERT's language model sees what it is to predict unless its configuration says that it is a decoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(table.NEEDS, "bert", {"is_decoder": False})
        base = table.build("bert", "CAUSAL_LM")
    with pytest.raises(
        ValueError, match=r"BertLMHeadModel is no decoder: .* Load it with is_decoder=True"
    ):
        with_prompt(base)
    assert with_prompt(base_of("Bert", "SEQ_CLS"), "SEQ_CLS").prompt.shape == (4, WIDTH)


def test_a_single_number_is_compared_too():
    """A classifier's regression says one number, which has no spread."""
    sizes = {"vocab_size": 99, "hidden_size": WIDTH, "num_hidden_layers": 1}
    config = transformers.BertConfig(**sizes, num_attention_heads=4, num_labels=1)
    base = transformers.BertForSequenceClassification(config)
    assert with_prompt(base, "SEQ_CLS").prompt.shape == (4, WIDTH)


@pytest.mark.parametrize("kind", ["FNet", "ConvBert", "MobileBert", "Bert"])
def test_an_encoder_that_reads_pads_is_refused_a_padded_batch(kind):
    """Fourier sums and convolutions run over pads; a row alone, or rows of one length, are right."""
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"vocab_size": 99, "intermediate_size": 64, "embedding_size": WIDTH}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**sizes)
        base = getattr(transformers, f"{kind}Model")(config).eval()
    model, ids = with_prompt(base, "FEATURE_EXTRACTION"), table.IDS[:2, :6]
    together = model(ids).last_hidden_state
    for row, found in zip(ids, together, strict=True):
        alone = model(row[None]).last_hidden_state[0]
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    if kind == "Bert":
        found = model(ids, mask).last_hidden_state[0, :4]
        alone = model(ids[:1, :4]).last_hidden_state[0]
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)
        return
    with pytest.raises(ValueError, match=f"{kind}Model reads pads"):
        model(ids, mask)


def test_what_comes_before_the_logits_is_passed_over():
    """A mixture of experts may say first how evenly they were used."""
    base = table.build("mixtral", "CAUSAL_LM")
    base.config.output_router_logits = True
    assert with_prompt(base)(table.IDS).logits.shape == (4, 12, table.VOCABULARY)


def test_a_base_is_asked_once_without_a_trace():
    """Three calls for all prompts on it; no random number is drawn, no mode changed, nothing keeps it alive."""
    base, calls = llama(), []
    base.register_forward_hook(lambda *_: calls.append(1))
    base.model.layers[0].train()
    state = torch.get_rng_state()
    check_reads_vectors(base, True)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module for module in base.modules() if module.training] == [
        *base.model.layers[0].modules()
    ]
    for _ in range(2):
        SoftPromptModel(base, PromptTuningConfig(4), engine=PlainEngine())
    assert len(calls) == 3
    gone = weakref.ref(base)
    del base
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_no_reason_to_refuse(dtype):
    """In half precision too the answer is that of float32."""
    for kind in ("llama", "gemma2", "mixtral"):
        with_prompt(table.build(kind, "CAUSAL_LM").to(dtype))
    with pytest.raises(ValueError, match=SCALED_OUTSIDE):
        with_prompt(table.build("falcon_h1", "CAUSAL_LM").to(dtype))


def test_a_small_effect_is_seen():
    """A scale of 1.001 outside of the layer, on weights of transformers' own spread."""
    base = table.build("falcon_h1", "CAUSAL_LM")
    base.model.embedding_multiplier = 1.001
    with pytest.raises(ValueError, match=SCALED_OUTSIDE):
        with_prompt(base)
    base.model.embedding_multiplier = 1.0
    with_prompt(base)


@pytest.mark.parametrize("engine", [None, PlainEngine()])
def test_rows_of_one_length_are_written_where_pads_are_read(engine):
    """RoFormer counts pads as positions: rows of one length get what each gets alone, others are refused."""
    base = table.build("roformer", "CAUSAL_LM")
    model = SoftPromptModel(base, PromptTuningConfig(4), start=torch.ones(4, WIDTH), engine=engine)
    options = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
    ids = table.IDS[:, :6]
    together = model.generate(ids, **options)
    for row, found in zip(ids, together, strict=True):
        assert torch.equal(model.generate(row[None], **options)[0], found)
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    with pytest.raises(ValueError, match="RoFormerForCausalLM writes other tokens behind pads"):
        model.generate(ids, mask, **options)


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
@pytest.mark.parametrize("length", [1, 6])
def test_types_of_tokens_are_refused_where_text_is_written(kind, length):
    """A single type would be that of every virtual token too, and those of new tokens are nobody's."""
    model, ids = with_prompt(table.build(kind, "CAUSAL_LM")), table.IDS[:2, :length]
    for call in (model, model.generate):
        with pytest.raises(
            ValueError, match="token_type_ids cannot be passed where text is written"
        ):
            call(ids, token_type_ids=torch.ones_like(ids))


def test_types_that_a_base_does_not_read_change_nothing():
    """Many tokenizers make them, and Llama passes them over."""
    model, ids = with_prompt(llama()), table.IDS[:2]
    assert torch.equal(model(ids, token_type_ids=torch.ones_like(ids)).logits, model(ids).logits)


# -------------------------------------------------------------------------------------------- what the words are


@pytest.mark.parametrize(
    ("kind", "task"),
    [("gemma3_text", "CAUSAL_LM"), ("xglm", "CAUSAL_LM"), ("m2m_100", "SEQ_2_SEQ_LM")],
)
def test_words_are_what_the_layer_returns(kind, task):
    """Scaled inside of the layer: a prompt of words is at distance 0 from them, and its projection is itself."""
    base = table.build(kind, task)
    layer = base.get_input_embeddings()
    model = SoftPromptModel(
        base,
        PromptTuningConfig(4, task_type=task, num_transformer_submodules=1),
        start=layer(table.WORDS).detach(),
    )
    words = model.word_embeddings
    torch.testing.assert_close(words, layer(torch.arange(table.VOCABULARY)), rtol=0, atol=0)
    assert not torch.equal(words, layer.weight)
    assert (words.device, words.dtype) == (model.device, layer.weight.dtype)
    assert torch.equal(discretised(model.prompt, words)[0], model.prompt)
    nearest = nearest_tokens(model.prompt, words, byte_tokenizer(), k=1, metric="l2")
    assert nearest["token_id"].tolist() == table.WORDS.tolist()
    assert nearest["score"].tolist() == pytest.approx([0.0] * 4, abs=1e-6)


def test_words_are_the_layers_own_weight_where_that_is_the_same():
    """No copy of a large table."""
    model = with_prompt(llama())
    assert model.word_embeddings is model.word_embeddings_module.weight
