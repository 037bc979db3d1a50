"""Loading base models: frozen and padded, by name or folder, and every refusal says what to do."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from families import FAMILIES, byte_tokenizer, save_byte_model
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

from softprompt_lab import LabError, PromptTuningConfig, SoftPromptModel, TaskType, load_base_model
from softprompt_lab.bases.loading import choose_device


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A random Llama with a byte tokenizer that has no padding token."""
    return save_byte_model(tmp_path_factory.mktemp("base") / "llama")


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(saved, tmp_path / "llama"))


def test_a_folder_loads_frozen_padded_and_under_its_own_name(saved):
    model, tokenizer = load_base_model(saved)
    assert model.name_or_path == model.config._name_or_path == str(saved)
    assert tokenizer.name_or_path == str(saved)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.config.pad_token_id == 0
    assert (tokenizer.pad_token, model.generation_config.pad_token_id) == ("<end>", 0)
    expected = load_file(saved / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_loads_from_its_folder(name, tmp_path):
    built = FAMILIES[name]()
    built.resize_token_embeddings(260)
    built.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    model, tokenizer = load_base_model(tmp_path)
    ids = tokenizer("Label :", return_tensors="pt").input_ids
    torch.testing.assert_close(model(ids).logits, built(ids).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("auto", torch.float32), ("bfloat16", torch.bfloat16), (torch.float16, torch.float16)],
)
def test_dtype(saved, dtype, expected):
    assert load_base_model(saved, dtype=dtype)[0].dtype == expected


def test_weights_saved_in_half_precision_load_as_float32(tmp_path):
    save_byte_model(tmp_path / "base")
    load_base_model(tmp_path / "base", dtype="bfloat16")[0].save_pretrained(tmp_path / "base")
    assert load_base_model(tmp_path / "base")[0].dtype == torch.float32


def test_device_auto_is_cuda_or_the_cpu(monkeypatch):
    """Not mps, whose results do not repeat: that has to be asked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device().type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device().type == "cpu"
    assert choose_device("mps").type == "mps"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"task_type": "CAUSAL"},
            "task_type='CAUSAL' is unknown; choose one of: CAUSAL_LM, SEQ_2_SEQ_LM",
        ),
        ({"device": "gpu"}, "device='gpu' is unknown; choose auto"),
        ({"dtype": "int8"}, "dtype='int8' is unknown; choose one of: auto, float32"),
        ({"dtype": torch.int8}, "dtype=torch.int8 is unknown"),
    ],
)
def test_unknown_options_are_value_errors(saved, wrong, message):
    with pytest.raises(ValueError, match=message):
        load_base_model(saved, **wrong)


@pytest.mark.parametrize(
    "path", ["./nothing", "/nothing/here", "a/b/c", "~/nothing", "..\\models\\base"]
)
def test_a_folder_that_is_not_there(path):
    with pytest.raises(LabError, match=r"It is no folder here.*smollm2"):
        load_base_model(path)


def test_a_hub_id_without_a_network():
    with pytest.raises(LabError) as raised:
        load_base_model("bigscience/bloomz-560m")
    message = str(raised.value)
    assert "'bigscience/bloomz-560m' cannot be loaded" in message
    assert "Without a network choose tiny, tiny-seq2seq or smollm2." in message
    assert isinstance(raised.value.__cause__, OSError)


def test_a_folder_without_a_configuration(tmp_path):
    with pytest.raises(LabError, match=r"config\.json.*no base model's"):
        load_base_model(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(LabError, match="The folder holds an adapter: load the base model"):
        load_base_model(tmp_path)


def test_pickled_weights_are_not_read(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(LabError, match=r"safetensors.* Pickled weights can run code"):
        load_base_model(folder)


def test_code_of_a_folder_does_not_run(folder, tmp_path):
    witness = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(witness)!r}, 'w')\nclass Evil: pass\n")
    code = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": code}))
    with pytest.raises(LabError, match="cannot be loaded"):
        load_base_model(folder)
    assert not witness.exists()


def _break_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)


def _break_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama", "hidden')


def _other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 65}))


def _no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize("damage", [_break_weights, _break_config, _other_shape, _no_tokenizer])
def test_a_damaged_folder_is_named(folder, damage):
    damage(folder)
    with pytest.raises(LabError, match="Its folder is damaged") as raised:
        load_base_model(folder)
    assert str(folder) in str(raised.value)


def test_missing_weights_are_an_error_not_random_numbers(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LabError, match=r"lack 'lm_head\.weight' and 0 other weights"):
        load_base_model(folder)


def test_an_encoder_does_not_pass_for_a_language_model(tmp_path):
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    BertModel(BertConfig(vocab_size=260, **sizes)).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(LabError, match="holds no AutoModelForCausalLM"):
        load_base_model(tmp_path)


def test_a_tokenizer_of_another_model(folder):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"<{number}>" for number in range(10)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(LabError, match="knows 267 tokens and the model 260"):
        load_base_model(folder)


def test_a_tokenizer_without_an_end_token(folder):
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(LabError, match="no end token"):
        load_base_model(folder)


def test_decoders_and_encoder_decoders_are_told_apart(saved, tmp_path):
    config = T5Config(vocab_size=260, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    model, _ = load_base_model(tmp_path, task_type=TaskType.SEQ_2_SEQ_LM)
    assert model.config.is_encoder_decoder
    with pytest.raises(
        LabError, match=r"an encoder-decoder \(t5\): load it with task_type='SEQ_2_SEQ_LM'"
    ):
        load_base_model(tmp_path)
    with pytest.raises(LabError, match=r"a decoder \(llama\): load it with task_type='CAUSAL_LM'"):
        load_base_model(saved, task_type="SEQ_2_SEQ_LM")


def test_loading_prints_nothing(saved, capfd):
    load_base_model(saved)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.smollm2
@pytest.mark.slow
def test_smollm2_is_what_it_says_and_loads_in_under_five_seconds():
    """Five seconds of this process's own time, which other work on the machine does not lengthen."""
    load_base_model("smollm2")
    began = time.process_time()
    model, tokenizer = load_base_model("smollm2")
    assert time.process_time() - began < 5
    assert (tokenizer.eos_token, tokenizer.eos_token_id, tokenizer.pad_token_id) == (
        "<|im_end|>",
        2,
        2,
    )
    assert (model.dtype, model.get_input_embeddings().weight.shape) == (torch.float32, (49152, 576))
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=2, do_sample=False)[
        0, prompt.input_ids.shape[1] :
    ]
    assert tokenizer.decode(answer) == " Paris."


@pytest.mark.smollm2
@pytest.mark.slow
def test_smollm2_tokenizer_splits_as_its_makers_does():
    """Byte-level pieces, a leading space inside the token, every digit alone, nothing lost."""
    _, tokenizer = load_base_model("smollm2")
    assert tokenizer.tokenize("Label : complaint 2024") == [
        "Label",
        "Ġ:",
        "Ġcomplaint",
        "Ġ",
        *"2024",
    ]
    text = "@shop naïve café 😀\n\tdon't"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n")


@pytest.mark.parametrize(
    "task", ["SEQ_CLS", "TOKEN_CLS", "FEATURE_EXTRACTION"]
)  # Llama's QUESTION_ANS has other names
def test_a_base_model_without_the_head_gets_one_to_train(saved, task):
    """Its other weights are those of the files; prompt and head learn a label of a batch."""
    labels = {"num_labels": 3} if task != "FEATURE_EXTRACTION" else {}
    base, tokenizer = load_base_model(saved, task_type=task, **labels)
    files = load_file(saved / "model.safetensors")
    body = base if task == "FEATURE_EXTRACTION" else base.base_model
    assert torch.equal(body.get_input_embeddings().weight, files["model.embed_tokens.weight"])
    model = SoftPromptModel(base, PromptTuningConfig(4, task_type=task), tokenizer=tokenizer)
    batch = tokenizer(["one", "and two"], return_tensors="pt", padding=True)
    output = model(batch["input_ids"], batch["attention_mask"])
    shapes = {"SEQ_CLS": (2, 3), "TOKEN_CLS": (2, 7, 3), "FEATURE_EXTRACTION": (2, 7, 32)}
    assert output[0].shape == shapes[task]


def test_missing_weights_outside_the_head_are_refused(saved, folder):
    """A head may begin at random, a layer may not."""
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LabError, match=r"its files lack 'model.layers.1.mlp.up_proj.weight'"):
        load_base_model(folder, task_type="SEQ_CLS")


def test_no_code_of_a_repository_is_run(saved):
    """Not even when asked for."""
    with pytest.raises(
        ValueError, match="trust_remote_code=True: no code of a repository runs here"
    ):
        load_base_model(saved, trust_remote_code=True)
