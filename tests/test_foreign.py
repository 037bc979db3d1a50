"""Folders of PEFT's methods whose saved vectors are plain prompts: P_TUNING, MULTITASK_PROMPT_TUNING by task."""

import warnings

import peft
import pytest
import torch
from families import gpt2, llama, t5
from safetensors.torch import load_file, save_file

from softprompt_lab import AdapterError, SoftPromptModel, load_adapter
from softprompt_lab.saving import SAFE_NAME

P, TASKS = 5, 3
IDS = torch.tensor([[5, 17, 33, 8, 61, 12, 44]])


def multitask(base, folder, task_type: str = "CAUSAL_LM"):
    """PEFT's model of three tasks, saved."""
    config = peft.MultitaskPromptTuningConfig(
        task_type=task_type,
        num_virtual_tokens=P,
        num_tasks=TASKS,
        num_ranks=2,
        prompt_tuning_init="RANDOM",
    )
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for factor in (
            wrapped.prompt_encoder["default"].prefix_task_cols,
            wrapped.prompt_encoder["default"].prefix_task_rows,
        ):
            factor.normal_()
    wrapped.save_pretrained(folder)
    return wrapped


@pytest.mark.parametrize("kind", ["MLP", "LSTM"])
@pytest.mark.parametrize("build", [gpt2, llama])
def test_p_tuning_is_a_plain_prompt_once_it_is_saved(build, kind, tmp_path):
    """What its encoder made of the prompt is what the folder holds."""
    config = peft.PromptEncoderConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=P,
        encoder_hidden_size=16,
        encoder_reparameterization_type=kind,
    )
    torch.manual_seed(0)
    theirs = peft.get_peft_model(build(), config).eval()
    theirs.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = SoftPromptModel.from_pretrained(build(), tmp_path)
    torch.testing.assert_close(
        model(IDS).logits, theirs(input_ids=IDS).logits[:, P:], rtol=1e-5, atol=1e-5
    )
    model.save_pretrained(tmp_path / "plain")  # and goes on as a prompt
    again = peft.PeftModel.from_pretrained(build(), tmp_path / "plain").eval()
    torch.testing.assert_close(
        again(input_ids=IDS).logits[:, P:], model(IDS).logits, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("task", range(TASKS))
def test_each_task_of_a_multitask_folder_is_a_prompt(task, tmp_path):
    """The shared prompt times the task's low-rank matrix, as PEFT computes it."""
    theirs = multitask(gpt2(), tmp_path)
    expected = theirs(input_ids=IDS, task_ids=torch.tensor([task])).logits[:, P:]
    model = SoftPromptModel.from_pretrained(gpt2(), tmp_path, task_id=task)
    torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-5, atol=1e-5)


def test_a_task_must_be_chosen(tmp_path):
    """None, one too many, and one where there are no tasks."""
    multitask(gpt2(), tmp_path)
    for task in (None, TASKS, -1):
        with pytest.raises(
            AdapterError, match="holds prompts of 3 tasks; pass task_id=, a number from 0 to 2"
        ):
            load_adapter(tmp_path, task_id=task)
    model = SoftPromptModel.from_pretrained(gpt2(), tmp_path, task_id=0)
    model.save_pretrained(tmp_path / "one")
    with pytest.raises(AdapterError, match="holds one prompt; task_id=1"):
        load_adapter(tmp_path / "one", task_id=1)


def test_factors_that_do_not_fit_are_refused(tmp_path):
    """Another rank on one side."""
    multitask(gpt2(), tmp_path)
    tensors = load_file(tmp_path / SAFE_NAME)
    save_file(tensors | {"prefix_task_cols": torch.zeros(TASKS, P, 7)}, tmp_path / SAFE_NAME)
    with pytest.raises(AdapterError, match=r"\(3, 5, 7\) and \(3, 2, 32\) do not fit \(5, 32\)"):
        load_adapter(tmp_path, task_id=0)


def test_an_encoder_decoders_tasks_have_both_submodules(tmp_path):
    """2P rows, of which the encoder's are read."""
    multitask(t5(), tmp_path, "SEQ_2_SEQ_LM")
    config, prompt = load_adapter(tmp_path, task_id=1)
    assert config.num_transformer_submodules == 2
    assert len(prompt) == 2 * P
