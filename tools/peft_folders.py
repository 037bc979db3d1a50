"""Folders as a release of PEFT writes them, for tests/test_releases.py.

    python tools/peft_folders.py tests/folders

writes `peft-<version>.zip` with the PEFT that Python finds: every task type, P_TUNING, MULTITASK_PROMPT_TUNING, a named
adapter, half precision, `.bin` and `.safetensors`, as far as that release knows them. Beside each adapter lies
`expected.json` with what PEFT itself makes of it. The releases in tests/folders ran beside the transformers of their
time, in folders of their own on PYTHONPATH, over torch 2.13:

    peft     transformers   tokenizers   huggingface_hub   accelerate   and
    0.2.0    4.27.4         0.13.3       0.13.4            0.17.1       setuptools 70.3.0
    0.3.0    4.29.2         0.13.3       0.14.1            0.19.0       setuptools 70.3.0
    0.4.0    4.31.0         0.13.3       0.16.4            0.21.0
    0.6.2    4.35.2         0.15.0       0.17.3            0.24.1
    0.7.1    4.36.2         0.15.0       0.19.4            0.25.0
    0.17.1   4.56.2         0.22.1       0.35.3            1.10.1
    0.18.1   4.57.3         0.22.1       0.36.0            1.12.0

Between them the format is the same: keys came with 0.4 (auto_mapping, revision), 0.7 (tokenizer_kwargs, and
`.safetensors` as the default), 0.17 (modules_to_save) and 0.18 (peft_version).
"""

import inspect
import sys
import tempfile
import zipfile
from json import dumps
from pathlib import Path

import peft
import torch
import transformers

P, D, TASKS = 3, 8, 2
BASES = {
    "CAUSAL_LM": "GPT2LMHeadModel",
    "SEQ_2_SEQ_LM": "T5ForConditionalGeneration",
    "SEQ_CLS": "BertForSequenceClassification",
    "TOKEN_CLS": "BertForTokenClassification",
    "QUESTION_ANS": "BertForQuestionAnswering",
    "FEATURE_EXTRACTION": "BertModel",
}
SHAPES = {
    "GPT2": {"n_embd": D, "n_layer": 1, "n_head": 2, "n_positions": 16},
    "T5": {"d_model": D, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2},
    "Bert": {
        "hidden_size": D,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
}
SAFE = "safe_serialization" in inspect.signature(peft.PeftModel.save_pretrained).parameters


def base_of(task: str) -> torch.nn.Module:
    """A base model of a few hundred weights."""
    name = BASES[task]
    family = next(family for family in SHAPES if name.startswith(family))
    torch.manual_seed(0)
    return getattr(transformers, name)(
        getattr(transformers, f"{family}Config")(vocab_size=16, **SHAPES[family])
    )


def counted(tensor: torch.Tensor) -> torch.Tensor:
    """Eighths from 0 upwards in the tensor's shape and type, which half precision holds exactly."""
    return (torch.arange(tensor.numel()) / 8).reshape(tensor.shape).to(tensor.dtype)


def encoder_of(model: torch.nn.Module, name: str = "default") -> torch.nn.Module:
    """The module that holds a prompt; before 0.3 there was one."""
    encoder = model.prompt_encoder
    return encoder[name] if isinstance(encoder, torch.nn.ModuleDict) else encoder


def prompt_model(config: "peft.PeftConfig") -> torch.nn.Module:
    """PEFT's model with known numbers in its prompt and its head."""
    model = peft.get_peft_model(base_of(config.task_type), config).eval()
    with torch.no_grad():
        encoder_of(model).embedding.weight.copy_(counted(encoder_of(model).embedding.weight))
        for name, weight in model.named_parameters():
            if weight.requires_grad and any(part in name for part in ("classifier", "qa_outputs")):
                weight.copy_(counted(weight) + 1)
    return model


def saved(
    model: torch.nn.Module, folder: Path, prompts: list[torch.Tensor], safe: bool = False
) -> None:
    """The folder as PEFT writes it, without its long card, and what is expected of whoever reads it."""
    model.save_pretrained(str(folder), **({"safe_serialization": safe} if SAFE else {}))
    for card in folder.rglob("README.md"):
        card.unlink()
    head = {
        name.replace("base_model.", "", 1).replace("modules_to_save.default.", ""): weight.tolist()
        for name, weight in model.named_parameters()
        if weight.requires_grad and "prompt_encoder" not in name and "original_module" not in name
    }
    expected = {"prompts": [prompt.float().tolist() for prompt in prompts], "head": head}
    (folder / "expected.json").write_text(dumps(expected))


def to_save(model: torch.nn.Module, *name: str) -> torch.Tensor:
    """What PEFT says it saves."""
    takes = inspect.signature(model.get_prompt_embedding_to_save).parameters
    return model.get_prompt_embedding_to_save(*((name or ("default",)) if takes else ()))


def write_folders(place: Path) -> None:
    """Each kind of folder that this release knows."""
    for task in BASES:
        if task in peft.TaskType.__members__:  # questions and features came with 0.4
            model = prompt_model(peft.PromptTuningConfig(task_type=task, num_virtual_tokens=P))
            for safe in (False, True)[: 1 + SAFE]:
                saved(
                    model,
                    place / f"{task}-{'safetensors' if safe else 'bin'}",
                    [to_save(model)],
                    safe,
                )
    for dtype in (torch.float16, torch.bfloat16):
        model = prompt_model(peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P))
        encoder_of(model).to(dtype)
        saved(model, place / str(dtype).removeprefix("torch."), [to_save(model)], SAFE)
    text = {
        "prompt_tuning_init_text": "Is it a complaint?",
        "tokenizer_name_or_path": "somebody/model",
    }
    model = prompt_model(
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P, **text)
    )
    saved(model, place / "text", [to_save(model)])
    p_tuning = peft.PromptEncoderConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=P, encoder_hidden_size=8
    )
    model = prompt_model(p_tuning)
    saved(model, place / "P_TUNING", [to_save(model)])
    if hasattr(model, "add_adapter"):
        model = prompt_model(peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P))
        sizes = {
            "token_dim": D,
            "num_layers": 1,
            "num_attention_heads": 2,
            "num_transformer_submodules": 1,
        }
        model.add_adapter(
            "mail",
            peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P + 1, **sizes),
        )
        if "default" in model.prompt_encoder:  # 0.3 loses the first prompt when a second comes
            with torch.no_grad():
                encoder_of(model, "mail").embedding.weight.fill_(0.5)
            saved(model, place / "named", [to_save(model), to_save(model, "mail")])
    if hasattr(peft, "MultitaskPromptTuningConfig"):
        sizes = {
            "num_virtual_tokens": P,
            "num_tasks": TASKS,
            "num_ranks": 2,
            "prompt_tuning_init": "RANDOM",
        }
        model = prompt_model(peft.MultitaskPromptTuningConfig(task_type="CAUSAL_LM", **sizes))
        with torch.no_grad():
            encoder_of(model).prefix_task_cols.normal_()
        prompts = [
            model.get_prompt(1, task_ids=torch.tensor([task]))[0].detach() for task in range(TASKS)
        ]
        saved(model, place / "MULTITASK", prompts)


def main(target: Path) -> None:
    """Write all of them into one archive."""
    target.mkdir(parents=True, exist_ok=True)
    archive = target / f"peft-{peft.__version__}.zip"
    with (
        tempfile.TemporaryDirectory() as temporary,
        zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        write_folders(Path(temporary))
        for path in sorted(Path(temporary).rglob("*.*")):
            packed.writestr(
                zipfile.ZipInfo(str(path.relative_to(temporary))),
                path.read_bytes(),
                zipfile.ZIP_DEFLATED,
            )
    print(
        f"{archive}: {archive.stat().st_size:,} bytes, beside transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
