"""transformers' Trainer, its collators, and Accelerate: the prompt that a loop one can read ends with."""

import copy
import json
import os
import subprocess
import sys

import accelerate
import pytest
import torch
from datasets import Dataset
from families import WIDTH, _build, byte_tokenizer, gpt2, llama, opt, save_byte_model, t5
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForQuestionAnswering,
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_adapter
from softprompt_lab.interop.trainer import AdapterCallback

P = 4
_NAMES = (
    "activation_checkpointing",
    "gradient_checkpointing",
)  # from transformers 5.23 on, and before
CHECKPOINTING = next(name for name in _NAMES if hasattr(TrainingArguments, name))
# Lengths and numbers of labels differ, so a mean of means is another number than the mean over tokens.
PAIRS = [
    ([5, 17, 33], [8, 9]),
    ([70, 11], [12]),
    ([6, 7, 8, 9, 10], [40, 41, 42, 43]),
    ([20], [21, 22]),
]
PAIRS += [
    ([31, 32], [33, 34, 35, 36, 37]),
    ([50, 51, 52], [53]),
    ([60, 61], [62, 63]),
    ([90, 91], [94, 95, 96]),
]
ROWS = [
    {
        "input_ids": text + answer,
        "attention_mask": [1] * len(text + answer),
        "labels": [-100] * len(text) + answer,
    }
    for text, answer in PAIRS
]


def model_of(base, **options) -> SoftPromptModel:
    """A base behind a random prompt at the scale of its words."""
    start = torch.randn(P, WIDTH, generator=torch.Generator().manual_seed(3)) * 0.2
    return SoftPromptModel(base, PromptTuningConfig(num_virtual_tokens=P, **options), start=start)


def collator(side: str = "right") -> DataCollatorForSeq2Seq:
    """transformers' own, which pads ids, mask and labels."""
    tokenizer = byte_tokenizer()
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.eos_token, side
    return DataCollatorForSeq2Seq(tokenizer)


def settings(folder, **options) -> TrainingArguments:
    """Four rows at a time in the order of the data, SGD at a constant rate."""
    arguments = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 3,
        "learning_rate": 0.1,
        "max_grad_norm": 0.0,
    }
    arguments |= {
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
    }
    arguments |= {"report_to": [], "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"}
    return TrainingArguments(output_dir=str(folder), **{**arguments, **options})


def trainer_of(model, folder, callbacks=(), **options) -> Trainer:
    """Over ROWS, for training and evaluation."""
    data, pads = Dataset.from_list(ROWS), collator()
    arguments = {"processing_class": pads.tokenizer, "callbacks": list(callbacks)}
    return Trainer(model, settings(folder, **options), pads, data, data, **arguments)


def loop(model, epochs: int = 3, step_rows: int = 4, rate: float = 0.1) -> torch.Tensor:
    """Plain gradient descent on the loss of whole batches; the prompt it ends with."""
    weight = model.prompts["default"].embedding.weight
    for _ in range(epochs):
        for start in range(0, len(ROWS), step_rows):
            batch = collator()(ROWS[start : start + step_rows])
            (gradient,) = torch.autograd.grad(model(**batch).loss, weight)
            with torch.no_grad():
                weight -= rate * gradient
    return model.prompt.detach()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
        {CHECKPOINTING: True},
    ],
    ids=["batches", "accumulated", "checkpointed"],
)
def test_trainer_ends_with_the_prompt_of_a_loop(tmp_path, options):
    """Whole batches, or the same rows one at a time, whose losses count by their labels; the base does not move."""
    ours, base = model_of(llama()), llama()
    trainer_of(ours, tmp_path, **options).train()
    expected = loop(model_of(llama()))
    torch.testing.assert_close(ours.prompt.detach(), expected, rtol=1e-5, atol=1e-6)
    assert (expected - model_of(llama()).prompt).norm() > 0.1  # something was learned
    for weight, before in zip(ours.base_model.parameters(), base.parameters(), strict=True):
        assert weight.grad is None
        assert torch.equal(weight, before)


def test_an_encoder_decoder_accumulates_means(tmp_path):
    """Its base model makes the loss; rows one at a time give the mean of their means."""
    ours, theirs = (model_of(t5(), task_type="SEQ_2_SEQ_LM") for _ in range(2))
    trainer_of(
        ours, tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=4, max_steps=1
    ).train()
    weight = theirs.prompts["default"].embedding.weight
    losses = [theirs(**collator()([row])).loss for row in ROWS[:4]]
    (gradient,) = torch.autograd.grad(torch.stack(losses).mean(), weight)
    torch.testing.assert_close(
        ours.prompt.detach(), (weight - 0.1 * gradient).detach(), rtol=1e-5, atol=1e-6
    )


def test_columns_of_questions_reach_the_model(tmp_path):
    """Trainer drops what `forward` does not name: token types and spans are named. Prompt and head are trained."""
    shape = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    config = BertConfig(vocab_size=260, **shape, initializer_range=0.2)
    rows = [
        {
            "input_ids": [5, 17, 33, 8, 61],
            "attention_mask": [1] * 5,
            "token_type_ids": [0, 0, 1, 1, 1],
        }
    ]
    rows += [{"input_ids": [9, 70, 3], "attention_mask": [1] * 3, "token_type_ids": [0, 1, 1]}]
    rows = [row | {"start_positions": 1, "end_positions": 2} for row in rows]
    models = [
        model_of(_build(BertForQuestionAnswering, config), task_type="QUESTION_ANS")
        for _ in range(2)
    ]
    pads = DataCollatorWithPadding(collator().tokenizer)
    spans = {"label_names": ["start_positions", "end_positions"], "num_train_epochs": 2}
    data = Dataset.from_list(rows)
    trainer = Trainer(models[0], settings(tmp_path, **spans), pads, data, data)
    trainer.train()
    weights = [weight for weight in models[1].parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        models[1](**pads(rows)).loss.backward()
        optimizer.step()
    found = [weight for weight in models[0].parameters() if weight.requires_grad]
    assert len(found) == 3  # the prompt, the head's weight and bias
    for ours, theirs in zip(found, weights, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(models[1](**pads(rows)).loss.item())


@pytest.mark.parametrize("family", [gpt2, llama], ids=["tied", "untied"])
def test_a_checkpoint_holds_the_prompt_and_resumes(tmp_path, family):
    """A few kilobytes, whether output weights are the words' or not; a resumed run ends as an unbroken one."""
    whole = model_of(family())
    trainer_of(whole, tmp_path / "whole").train()
    options = {
        "save_strategy": "steps",
        "save_steps": 2,
        "optim": "adamw_torch",
        "lr_scheduler_type": "linear",
    }
    unbroken = model_of(family())
    trainer_of(unbroken, tmp_path / "run", **options, callbacks=[AdapterCallback()]).train()
    folder = tmp_path / "run" / "checkpoint-4"
    assert (folder / "model.safetensors").stat().st_size < 2000
    assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 4
    again = SoftPromptModel.from_pretrained(family(), folder)  # AdapterCallback's
    assert not torch.equal(again.prompt, unbroken.prompt)
    resumed = model_of(family())
    trainer_of(resumed, tmp_path / "run", **options).train(resume_from_checkpoint=str(folder))
    assert torch.equal(resumed.prompt, unbroken.prompt)


def test_the_best_checkpoint_is_loaded_at_the_end(tmp_path):
    """A rate that climbs out of the valley: the first evaluation was the best."""
    model = model_of(opt())
    options = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "max_steps": 3,
    }
    trainer = trainer_of(
        model, tmp_path, **options, load_best_model_at_end=True, learning_rate=30.0
    )
    trainer.train()
    losses = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    assert len(losses) == 3
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses), rel=1e-6)


def test_a_data_loader_with_a_collator(tmp_path):
    """Batches of `datasets` rows, padded by transformers on either side: the loss of the rows alone."""
    model = model_of(gpt2())
    alone = [
        model(**collator()([row])).loss * sum(label != -100 for label in row["labels"])
        for row in ROWS
    ]
    labels = sum(label != -100 for row in ROWS for label in row["labels"])
    for side in ("left", "right"):
        (batch,) = DataLoader(
            Dataset.from_list(ROWS), batch_size=len(ROWS), collate_fn=collator(side)
        )
        for loss in (model(**batch).loss, model.loss(**batch)):
            torch.testing.assert_close(loss, sum(alone) / labels)


def test_accelerate_prepares_saves_and_loads(tmp_path):
    """A prepared loop ends as the plain one; `save_state` writes the prompt, `load_state` brings it back."""
    model, accelerator = model_of(gpt2()), accelerate.Accelerator(cpu=True)
    optimizer = torch.optim.SGD(
        [weight for weight in model.parameters() if weight.requires_grad], lr=0.1
    )
    batches = DataLoader(Dataset.from_list(ROWS), batch_size=4, collate_fn=collator())
    prepared, optimizer, batches = accelerator.prepare(model, optimizer, batches)
    for epoch in range(3):
        if epoch == 1:
            accelerator.save_state(tmp_path)
            middle = copy.deepcopy(model.prompt.detach())
        for batch in batches:
            accelerator.backward(prepared(**batch).loss)
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(model.prompt.detach(), loop(model_of(gpt2())), rtol=1e-5, atol=1e-6)
    assert (tmp_path / "model.safetensors").stat().st_size < 2000
    accelerator.load_state(tmp_path)
    assert torch.equal(model.prompt, middle)


SCRIPT = """
import sys, accelerate, torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM
from softprompt_lab import PromptTuningConfig, SoftPromptModel
base, start, folder = sys.argv[1:]
model = SoftPromptModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), start)
model.add_prompt("idle", PromptTuningConfig(num_virtual_tokens=2))
accelerator = accelerate.Accelerator(cpu=True)
optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
prepared, optimizer, rows = accelerator.prepare(model, optimizer, DataLoader(torch.arange(40).view(8, 5), batch_size=2))
assert accelerator.num_processes == 2 and prepared is not model
for ids in rows:
    accelerator.backward(prepared(ids, labels=ids).loss)
    optimizer.step()
    optimizer.zero_grad()
if accelerator.is_main_process:
    accelerator.unwrap_model(prepared).save_pretrained(folder)
"""


@pytest.mark.slow
def test_two_accelerated_processes_end_with_the_prompt_of_one(tmp_path):
    """DistributedDataParallel around the model, with a second prompt that nobody trains."""
    base, script = save_byte_model(tmp_path / "base"), tmp_path / "script.py"
    script.write_text(SCRIPT)
    model = model_of(AutoModelForCausalLM.from_pretrained(base))
    model.save_pretrained(tmp_path / "start")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(script),
    ]
    command += [str(tmp_path / name) for name in ("base", "start", "end")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    weight = model.prompts["default"].embedding.weight
    for ids in torch.arange(40).view(2, 4, 5):
        (gradient,) = torch.autograd.grad(model(ids, labels=ids).loss, weight)
        weight.data -= 0.1 * gradient
    _, found = load_adapter(tmp_path / "end")
    torch.testing.assert_close(found, model.prompt.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("base", [gpt2, llama, t5])
def test_smoothed_labels_are_those_of_the_next_token(base, tmp_path):
    """`label_smoothing_factor`: (1 - e) times the loss and e times the mean over the vocabulary, at every label."""
    model = model_of(
        base(),
        **({"task_type": "SEQ_2_SEQ_LM", "num_transformer_submodules": 1} if base is t5 else {}),
    )
    trainer = Trainer(model, settings(tmp_path, label_smoothing_factor=0.1))
    batch = {
        "input_ids": torch.tensor([[5, 17, 33, 8, 9]]),
        "labels": torch.tensor([[-100, -100, 33, 8, 9]]),
    }
    if base is t5:
        batch["labels"] = torch.tensor([[33, 8, 1]])
        batch["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    with torch.no_grad():
        logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
        smoothed = trainer.compute_loss(model, dict(batch)).item()
    labels = batch["labels"] if base is t5 else batch["labels"][:, 1:]
    expected = torch.nn.functional.cross_entropy(
        logits[0, : labels.shape[1]], labels[0], label_smoothing=0.1
    )
    assert smoothed == pytest.approx(expected.item(), abs=1e-5)


def test_a_model_shows_its_own_name():
    """Trainer reads the base model's; a person reads ours."""
    assert repr(model_of(gpt2())).startswith("SoftPromptModel: 1 prompt(s) on GPT2LMHeadModel, ")
