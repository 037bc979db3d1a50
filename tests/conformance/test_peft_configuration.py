"""What PEFT's tests ask of a configuration: its methods, its fields, the file, what is refused."""

import copy
import json
import pickle

import peft
import pytest
from families import gpt2
from prompted import P, with_prompt

from softprompt_lab import AdapterError, PromptTuningConfig, SoftPromptModel, TaskType
from softprompt_lab.config import CONFIG_NAME, PEFT_VERSION


def test_task_types_are_pefts():
    """Each of them, as a word or a member; none at all is refused, with which PEFT runs as if without a prompt."""
    assert {member.value for member in TaskType} == {member.value for member in peft.TaskType}
    for name in TaskType:
        assert (
            PromptTuningConfig(task_type=name.value).task_type
            is PromptTuningConfig(task_type=name).task_type
        )
    for wrong in (None, "invalid-task-type"):
        with pytest.raises(
            ValueError, match=f"task_type={wrong!r} is unknown; choose one of: CAUSAL_LM"
        ):
            PromptTuningConfig(task_type=wrong)


def test_a_config_is_copied_and_pickled():
    """Each copy is equal and a thing of its own."""
    config = PromptTuningConfig(P, prompt_tuning_init_text="a text", modules_to_save=["score"])
    for twin in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin == config
        assert twin.to_dict() == config.to_dict()
        twin.num_virtual_tokens += 1
        assert config.num_virtual_tokens == P


def test_a_config_is_a_dictionary_and_back():
    """`to_dict` is what PEFT reads, and what `from_dict` reads."""
    config = PromptTuningConfig(P, token_dim=32, num_layers=2, num_attention_heads=4)
    assert isinstance(config.to_dict(), dict)
    assert PromptTuningConfig.from_dict(config.to_dict()) == config
    theirs = peft.get_peft_config(config.to_dict())
    assert isinstance(theirs, peft.PromptTuningConfig)
    assert {
        key: value for key, value in theirs.to_dict().items() if key in config.to_dict()
    } == config.to_dict()


def test_keys_of_later_releases_are_passed_over(tmp_path):
    """With one warning that names them; the rest is as it was."""
    config = PromptTuningConfig(P)
    config.save_pretrained(tmp_path)
    values = json.loads((tmp_path / CONFIG_NAME).read_text())
    (tmp_path / CONFIG_NAME).write_text(
        json.dumps({**values, "foobar": "baz", "spam": 123, "runtime_config": {}})
    )
    with pytest.warns(UserWarning, match="'foobar', 'runtime_config', 'spam'") as caught:
        assert PromptTuningConfig.from_pretrained(tmp_path) == config
    assert len(caught) == 1


def test_a_file_of_something_else_is_no_config(tmp_path):
    """And neither is a method that holds no prompt, nor a name of somebody's repository."""
    for values, message in (
        ({"foo": "bar", "baz": 123}, "'peft_type' is missing"),
        ({**PromptTuningConfig().to_dict(), "peft_type": "test"}, "peft_type='test'"),
    ):
        (tmp_path / CONFIG_NAME).write_text(json.dumps(values))
        with pytest.raises(AdapterError, match=message):
            PromptTuningConfig.from_pretrained(tmp_path)
    with pytest.raises(AdapterError, match=r"somebody/prompt/adapter_config\.json does not exist"):
        PromptTuningConfig.from_pretrained("somebody/prompt")


def test_the_release_is_kept(tmp_path):
    """A folder's own version of PEFT when it is read, the one whose format we write when a config is new."""
    assert PromptTuningConfig().peft_version == PEFT_VERSION
    for version in ("0.10", "0.17.0", "1"):
        values = {**PromptTuningConfig(P).to_dict(), "peft_version": version}
        (tmp_path / CONFIG_NAME).write_text(json.dumps(values))
        assert PromptTuningConfig.from_pretrained(tmp_path).peft_version == version
        assert peft.PeftConfig.from_pretrained(tmp_path).peft_version == version


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt_tuning_init": "TEXT"}, "prompt_tuning_init_text=None; give the text"),
        (
            {"prompt_tuning_init": "TEXT", "tokenizer_name_or_path": "t5-base"},
            "prompt_tuning_init_text=None",
        ),
        (
            {"prompt_tuning_init": "RANDOM", "tokenizer_kwargs": {"foo": "bar"}},
            "pass the tokenizer that you want",
        ),
        (
            {"prompt_tuning_init_text": "a", "tokenizer_kwargs": {"cache_dir": "somewhere"}},
            "SoftPromptModel.*tokenizer=tokenizer",
        ),
    ],
)
def test_a_text_without_words_or_words_without_a_text(fields, message):
    """What TEXT needs and what no other start uses; a tokenizer is passed, never described."""
    with pytest.raises(ValueError, match=message):
        PromptTuningConfig(P, **fields)


def test_a_text_needs_a_tokenizer():
    """Said where it is needed, when the prompt is made."""
    config = PromptTuningConfig(P, prompt_tuning_init="TEXT", prompt_tuning_init_text="a text")
    base = gpt2()
    base.name_or_path = ""
    with pytest.raises(ValueError, match="TEXT needs a tokenizer; pass tokenizer="):
        SoftPromptModel(base, config)


@pytest.mark.parametrize("field", ["layers_to_transform", "bias", "target_modules", "r"])
def test_fields_of_methods_that_change_weights_are_unknown(field):
    """In both packages."""
    for kind in (PromptTuningConfig, peft.PromptTuningConfig):
        with pytest.raises(TypeError, match=field):
            kind(num_virtual_tokens=P, task_type="CAUSAL_LM", **{field: [0]})


def test_a_config_that_was_used_is_as_it_was():
    """A model fills in a copy, so one configuration serves several base models."""
    config = PromptTuningConfig(P)
    before = config.to_dict()
    model = SoftPromptModel(gpt2(), config)
    assert config.to_dict() == before
    width = model.word_embeddings.shape[1]
    assert with_prompt(gpt2()).prompt_config.token_dim == model.prompt_config.token_dim == width
