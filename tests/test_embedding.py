"""The configuration, the starts and the embedding, against PEFT's own classes."""

import json

import peft
import pytest
import torch
from families import bloom, gpt2
from peft.tuners.prompt_tuning import PromptEmbedding as PeftEmbedding

from softprompt_lab import AdapterError, PromptEmbedding, PromptTuningConfig, concatenate_prompt
from softprompt_lab.config import CONFIG_NAME, PEFT_VERSION
from softprompt_lab.embedding import class_label_start, random_start, sample_vocab_start, text_start

DOCSTRING = {  # the example in PEFT's docstring, every field
    "peft_type": "PROMPT_TUNING",
    "task_type": "SEQ_2_SEQ_LM",
    "num_virtual_tokens": 20,
    "token_dim": 768,
    "num_transformer_submodules": 1,
    "num_attention_heads": 12,
    "num_layers": 12,
    "prompt_tuning_init": "TEXT",
    "prompt_tuning_init_text": "Predict if sentiment of this review is positive, negative or neutral",
    "tokenizer_name_or_path": "t5-base",
}


class Letters:
    """A tokenizer that gives one id a letter, and [CLS] and [SEP] where special tokens are wanted."""

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        ids = [ord(letter) - ord("a") + 3 for letter in text.replace(" ", "")]
        return {"input_ids": [1, *ids, 2] if add_special_tokens else ids}


@pytest.fixture
def words():
    """Word embeddings of a small model."""
    return gpt2().get_input_embeddings()


def test_the_saved_config_is_pefts_byte_for_byte(tmp_path):
    """Same keys, same order, same values, same layout; the version is that of the format, not of the installed PEFT."""
    peft.PromptTuningConfig(**DOCSTRING).save_pretrained(tmp_path / "theirs")
    PromptTuningConfig(**DOCSTRING, inference_mode=True).save_pretrained(tmp_path / "ours")
    theirs, ours = (
        json.loads((tmp_path / name / CONFIG_NAME).read_text()) for name in ("theirs", "ours")
    )
    theirs["inference_mode"] = True  # PEFT sets it when a model is saved
    theirs["peft_version"] = PEFT_VERSION
    assert ours == theirs
    assert list(ours) == list(theirs)


def test_a_config_survives_the_folder(tmp_path):
    """Save and load give the same fields, in both packages."""
    config = PromptTuningConfig(**DOCSTRING)
    config.save_pretrained(tmp_path)
    assert PromptTuningConfig.from_pretrained(tmp_path) == config
    assert peft.PromptTuningConfig.from_pretrained(tmp_path).num_virtual_tokens == 20


def test_the_default_start_is_never_random():
    """SAMPLE_VOCAB, or TEXT where a text is given; PEFT's default is RANDOM."""
    assert PromptTuningConfig().prompt_tuning_init == "SAMPLE_VOCAB"
    assert PromptTuningConfig(prompt_tuning_init_text="a b").prompt_tuning_init == "TEXT"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_virtual_tokens": 0}, "num_virtual_tokens=0"),
        ({"num_transformer_submodules": 3}, "num_transformer_submodules=3"),
        (
            {"prompt_tuning_init": "UNIFORM"},
            "prompt_tuning_init='UNIFORM' is unknown; choose one of: RANDOM, TEXT",
        ),
        ({"task_type": "CAUSAL"}, "task_type='CAUSAL' is unknown"),
        ({"prompt_tuning_init": "TEXT"}, "prompt_tuning_init_text=None"),
        ({"peft_type": "LORA"}, "peft_type='LORA'"),
        ({"tokenizer_kwargs": {"trust_remote_code": True}}, "tokenizer_kwargs="),
    ],
)
def test_a_field_that_cannot_be_meant_is_named(change, message):
    """PEFT lets most of these pass."""
    with pytest.raises(ValueError, match=message):
        PromptTuningConfig(**change)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as JSON"),
        ("[1]", "holds a list"),
        ('{"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}', "'task_type' is missing"),
        (
            '{"peft_type": "LORA", "task_type": "CAUSAL_LM", "num_virtual_tokens": 4}',
            "peft_type='LORA'",
        ),
        (
            '{"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": "4"}',
            "='4'",
        ),
    ],
)
def test_a_damaged_config_is_an_adapter_error(tmp_path, content, message):
    """With the file and the value in the message."""
    (tmp_path / CONFIG_NAME).write_text(content)
    with pytest.raises(AdapterError, match=message):
        PromptTuningConfig.from_pretrained(tmp_path)


def test_an_older_config_loads_and_a_tokenizers_arguments_are_dropped(tmp_path):
    """Keys that were added later may be missing; `tokenizer_kwargs` of a stranger is never kept."""
    values = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",
        "num_virtual_tokens": 4,
        "new_key": 1,
    }
    values["tokenizer_kwargs"] = {"trust_remote_code": True}
    (tmp_path / CONFIG_NAME).write_text(json.dumps(values))
    with pytest.warns(UserWarning, match="new_key"):
        config = PromptTuningConfig.from_pretrained(tmp_path)
    assert config.tokenizer_kwargs is None
    assert config.prompt_tuning_init == "RANDOM"


@pytest.mark.parametrize("rows", [3, 5, 12])
def test_a_text_is_trimmed_or_repeated_to_fill_the_rows(words, rows):
    """Against PEFT's rule written as a loop; special tokens are no words."""
    ids = [ord(letter) - ord("a") + 3 for letter in "abcde"]
    expected = torch.stack([words.weight[ids[row % len(ids)]] for row in range(rows)])
    start = text_start("ab cde", Letters(), words, rows)
    assert torch.equal(start, expected)
    assert start.dtype == torch.float32
    with pytest.raises(ValueError, match="has no token"):
        text_start(" ", Letters(), words, rows)


def test_random_is_pefts_random():
    """The same numbers from the same seed: N(0, 1), whatever the words' scale."""
    base = gpt2()
    config = {
        "num_virtual_tokens": 6,
        "token_dim": 32,
        "prompt_tuning_init": "RANDOM",
        "task_type": "CAUSAL_LM",
    }
    torch.manual_seed(5)
    theirs = PeftEmbedding(
        peft.PromptTuningConfig(**config, num_transformer_submodules=1), base.get_input_embeddings()
    )
    torch.manual_seed(5)
    ours = PromptEmbedding(PromptTuningConfig(**config), base.get_input_embeddings())
    assert torch.equal(ours.embedding.weight, theirs.embedding.weight)
    assert torch.equal(random_start(6, 32, torch.Generator().manual_seed(5)), ours.embedding.weight)


def test_sampled_rows_are_words(words):
    """Every row is a word, and `top` keeps to the first ids."""
    start = sample_vocab_start(words, 200, torch.Generator().manual_seed(0), top=10)
    places = (start[:, None] == words.weight[None]).all(dim=2).nonzero()[:, 1]
    assert len(places) == 200
    assert set(places.tolist()) <= set(range(10))


def test_class_labels_start_with_the_means_of_their_tokens(words):
    """One row a label (Lester et al. 2021), the rest sampled."""
    start = class_label_start(["ab", "c"], Letters(), words, 5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(start[0], words.weight[[3, 4]].mean(dim=0))
    assert torch.equal(start[1], words.weight[5])
    assert start.shape == (5, 32)
    assert class_label_start(["ab", "c"], Letters(), words, 1).shape == (1, 32)


def test_the_embedding_is_a_float32_copy(words):
    """Of half-precision words too; the words themselves stay as they are."""
    half = words.to(torch.bfloat16)
    prompt = PromptEmbedding(
        PromptTuningConfig(4, prompt_tuning_init_text="abcd"), half, tokenizer=Letters()
    )
    assert prompt.embedding.weight.dtype == torch.float32
    assert prompt(torch.tensor([[0, 1], [3, 3]])).shape == (2, 2, 32)
    with torch.no_grad():
        prompt.embedding.weight.zero_()
    assert half.weight[3].abs().sum() > 0


def test_a_start_of_the_wrong_shape_or_not_finite_is_refused(words):
    """With both shapes in the message."""
    with pytest.raises(ValueError, match=r"shape \(3, 32\); this configuration needs \(4, 32\)"):
        PromptEmbedding(PromptTuningConfig(4), words, start=torch.zeros(3, 32))
    with pytest.raises(ValueError, match="not finite"):
        PromptEmbedding(PromptTuningConfig(1), words, start=torch.full((1, 32), float("nan")))


def test_concatenation_puts_the_same_prompt_in_front_of_every_row():
    """Against a loop over rows, in the input's type."""
    x, prompt = torch.randn(3, 5, 8, dtype=torch.bfloat16), torch.randn(2, 8)
    expected = torch.stack([torch.cat([prompt.to(torch.bfloat16), row]) for row in x])
    assert torch.equal(concatenate_prompt(x, prompt), expected)
    with pytest.raises(ValueError, match="the prompt is 4 wide, the input 8"):
        concatenate_prompt(x, torch.zeros(2, 4))


def test_bloom_words_pass_through_their_own_norm():
    """BLOOM normalises behind the embedding, so word vectors as prompt are the layer's rows, not the norm's."""
    base = bloom()
    start = sample_vocab_start(base.get_input_embeddings(), 3, torch.Generator().manual_seed(0))
    assert (start[:, None] == base.get_input_embeddings().weight[None]).all(dim=2).any(dim=1).all()
