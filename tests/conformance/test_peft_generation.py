"""What PEFT's tests ask of generation: its arguments, half precision, several tasks in one batch."""

import pytest
import torch
from batches import ROWS, padded
from families import bart, gpt2, llama, t5
from prompted import P, as_peft, with_prompt
from test_foreign import TASKS, multitask

from softprompt_lab import PromptTuningConfig, SoftPromptModel

IDS = torch.tensor([row[:3] for row in ROWS])
NEW = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}


@pytest.mark.parametrize("build", [gpt2, t5])
def test_arguments_by_position_and_by_keyword(build):
    """The same tokens; PEFT takes no position for an encoder-decoder."""
    model = with_prompt(build())
    ids, mask, _ = padded(ROWS, "left")
    expected = model.generate(input_ids=ids, attention_mask=mask, **NEW)
    assert torch.equal(model.generate(ids, mask, **NEW), expected)
    assert torch.equal(model.generate(ids, attention_mask=mask, **NEW), expected)
    theirs = as_peft(model)
    if build is gpt2:
        assert torch.equal(theirs.generate(IDS, **NEW), model.generate(IDS, **NEW))
    else:
        with pytest.raises(TypeError, match="positional"):
            theirs.generate(IDS, **NEW)


@pytest.mark.parametrize("build", [t5, bart])
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_an_encoder_decoder_generates_as_peft(build, options):
    """Rows of one length."""
    model = with_prompt(build())
    theirs = as_peft(model).generate(
        input_ids=IDS, attention_mask=torch.ones_like(IDS), **NEW, **options
    )
    assert torch.equal(model.generate(IDS, **NEW, **options), theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("build", [gpt2, llama, t5])
def test_half_precision_bases(build, dtype):
    """PEFT's logits, a float32 prompt with a float32 gradient, and first tokens that are among the likeliest."""
    model = with_prompt(build().to(dtype))
    theirs = as_peft(model)
    ours, expected = model(IDS, labels=IDS), theirs(input_ids=IDS, labels=IDS)
    kept = expected.logits if model.base_model.config.is_encoder_decoder else expected.logits[:, P:]
    assert ours.logits.dtype == dtype
    torch.testing.assert_close(ours.logits, kept)
    ours.loss.backward()
    weight = model.prompts["default"].embedding.weight
    assert weight.dtype == weight.grad.dtype == torch.float32
    output = model.generate(IDS, **NEW, return_dict_in_generate=True, output_logits=True)
    first = output.sequences[:, -6]
    likeliest = theirs.generate(
        input_ids=IDS,
        attention_mask=torch.ones_like(IDS),
        **NEW,
        return_dict_in_generate=True,
        output_logits=True,
    ).logits[0]
    chosen = likeliest.gather(1, first[:, None])[:, 0]
    assert ((likeliest.max(dim=1).values - chosen) <= 0.02 * likeliest.abs().max()).all()


def test_the_tasks_of_a_multitask_folder_answer_in_one_batch(tmp_path):
    """PEFT's `task_ids`, one for each row, are prompts by name here."""
    theirs = multitask(llama(), tmp_path)
    model = SoftPromptModel.from_pretrained(llama(), tmp_path, task_id=0)
    for task in range(1, TASKS):
        model.load_prompt(tmp_path, f"task-{task}", task_id=task)
    names = ["task-2", "default", "task-1"]
    expected = theirs.generate(
        input_ids=IDS, attention_mask=torch.ones_like(IDS), task_ids=torch.tensor([2, 0, 1]), **NEW
    )
    assert torch.equal(model.generate(IDS, prompt_names=names, **NEW), expected)
    assert model.prompt_config == PromptTuningConfig(**model.configs["task-1"].to_dict())
