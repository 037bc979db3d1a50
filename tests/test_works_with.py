"""What people do with a model: copy it, save its state, compile it, checkpoint its layers, put it into a pipeline."""

import copy
import io
import pickle
import shutil

import jaxtyping
import peft
import pytest
import torch
from batches import ROWS, padded
from families import WIDTH, bart, bloom, byte_tokenizer, gpt2, llama, opt, save_byte_model, t5
from transformers import AutoModelForCausalLM, BertConfig, BertForSequenceClassification, pipeline
from transformers.modeling_layers import GradientCheckpointingLayer

from softprompt_lab import PromptTuningConfig, SoftPromptModel

P = 4
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")


def vectors(seed: int = 3, width: int = WIDTH) -> torch.Tensor:
    """A random prompt at the scale of the words."""
    return torch.randn(P, width, generator=torch.Generator().manual_seed(seed)) * 0.2


def model_of(base, task: str = "CAUSAL_LM") -> SoftPromptModel:
    """A base behind a random prompt."""
    return SoftPromptModel(
        base, PromptTuningConfig(num_virtual_tokens=P, task_type=task), start=vectors()
    )


def gradient(model: SoftPromptModel, loss: torch.Tensor) -> torch.Tensor:
    """The prompt's gradient of a loss."""
    return torch.autograd.grad(loss, model.prompts["default"].embedding.weight)[0]


# ------------------------------------------------------------------------------------------------ copies and states


@pytest.mark.parametrize("base", [gpt2, bloom])
def test_a_copy_is_the_same_and_its_own(base):
    """`deepcopy` gives the same numbers; what happens to the copy's prompt does not happen to the original's."""
    model = model_of(base())
    ids, mask, labels = padded(ROWS, "left")
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    written = model.generate(ids, mask, **options)  # its prefix is kept, and copied
    twin = copy.deepcopy(model)
    assert torch.equal(twin(ids, mask).logits, model(ids, mask).logits)
    assert torch.equal(twin.loss(ids, mask, labels), model.loss(ids, mask, labels))
    with torch.no_grad():
        twin.prompts["default"].embedding.weight.copy_(vectors(seed=4))
    assert torch.equal(model.prompt, vectors())
    assert torch.equal(model.generate(ids, mask, **options), written)
    assert not torch.equal(twin(ids, mask).logits, model(ids, mask).logits)
    expected = SoftPromptModel(base(), PromptTuningConfig(P), start=vectors(seed=4))
    assert torch.equal(twin.generate(ids, mask, **options), expected.generate(ids, mask, **options))


@pytest.mark.parametrize("base", [gpt2, t5], ids=["decoder", "encoder-decoder"])
def test_a_state_holds_every_prompt_and_no_frozen_weight(base):
    """Through torch.save with nothing but tensors, and through pickle, into another model of the same base."""
    task = "SEQ_2_SEQ_LM" if base is t5 else "CAUSAL_LM"
    model = model_of(base(), task)
    model.add_prompt("other", PromptTuningConfig(P, task_type=task), start=vectors(seed=4))
    assert set(model.state_dict()) == {
        f"prompts.{name}.embedding.weight" for name in ("default", "other")
    }
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    assert file.tell() < 10_000
    file.seek(0)
    for state in (
        torch.load(file, weights_only=True),
        pickle.loads(pickle.dumps(model.state_dict())),
    ):
        fresh = SoftPromptModel(base(), PromptTuningConfig(P, task_type=task))
        fresh.add_prompt("other", PromptTuningConfig(P, task_type=task))
        before = copy.deepcopy(fresh.base_model.state_dict())
        fresh.load_state_dict(state)  # strict: nothing is missing, nothing is left over
        assert all(
            torch.equal(fresh.prompt_by_name(name), model.prompt_by_name(name))
            for name in model.prompts
        )
        assert all(
            torch.equal(tensor, before[name])
            for name, tensor in fresh.base_model.state_dict().items()
        )


def test_a_state_says_what_it_lacks():
    """A prompt that is not in a state is missed, one too many is named; a module around the model changes nothing."""
    model = model_of(gpt2())
    state = model.state_dict()
    model.add_prompt("other", PromptTuningConfig(P))
    with pytest.raises(RuntimeError, match=r"Missing key.*prompts\.other\.embedding"):
        model.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*prompts\.other\.embedding"):
        model_of(gpt2()).load_state_dict(model.state_dict())
    around = torch.nn.Sequential(model)
    assert set(around.state_dict()) == {f"0.{name}" for name in model.state_dict()}
    assert not any(around.load_state_dict(around.state_dict()))


def test_what_is_set_free_in_the_base_is_part_of_the_state():
    """And missed where it is not in one."""
    model = model_of(gpt2())
    state = model.state_dict()
    model.base_model.transformer.ln_f.weight.requires_grad_()
    assert set(model.state_dict()) - set(state) == {"base_model.transformer.ln_f.weight"}
    assert model.load_state_dict(state, strict=False).missing_keys == [
        "base_model.transformer.ln_f.weight"
    ]


def test_a_whole_model_is_pickled():
    """Hooks, kept prefixes and all."""
    model = model_of(llama())
    ids = torch.tensor([ROWS[0]])
    model.generate(ids, max_new_tokens=2)
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert set(again.state_dict()) == set(model.state_dict())


# --------------------------------------------------------------------------------------------- compile, recompute


@pytest.mark.parametrize(
    ("base", "backend"),
    [
        (
            gpt2,
            "aot_eager",
        ),  # the graph and its gradient as torch traces them, without a C++ compiler
        (bloom, "aot_eager"),
        pytest.param(llama, "inductor", marks=COMPILER),
    ],
)
@pytest.mark.slow
def test_a_compiled_model_equals_the_eager_one(base, backend, monkeypatch):
    """Logits, loss and the prompt's gradient of `torch.compile(model)`."""
    monkeypatch.setattr(
        jaxtyping.config, "jaxtyping_disable", True
    )  # torch cannot trace the tests' shape checks
    model = model_of(base())
    compiled = torch.compile(model, backend=backend)
    batch = padded(ROWS, "left")
    ours, theirs = compiled(*batch), model(*batch)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.loss, theirs.loss)
    torch.testing.assert_close(
        gradient(model, ours.loss), gradient(model, theirs.loss), rtol=1e-4, atol=1e-6
    )
    assert set(compiled.state_dict()) == {"_orig_mod.prompts.default.embedding.weight"}


@pytest.mark.parametrize("base", [gpt2, bloom, llama, opt, t5, bart])
def test_layers_that_recompute_give_the_same_gradient(base):
    """Gradient checkpointing really happens though the base stays in eval mode, and no dropout acts."""
    model = model_of(base(), "SEQ_2_SEQ_LM" if base in (t5, bart) else "CAUSAL_LM")
    for part in (
        model.base_model.config,
        *model.base_model.modules(),
    ):  # any that acted would be seen
        for name in ("dropout", "dropout_rate", "attention_dropout", "hidden_dropout"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.5)
    ids, mask, _ = batch = padded(ROWS, "right")
    expected = model(*batch).loss
    wanted = gradient(model, expected)
    written = model.generate(ids, mask, max_new_tokens=4, do_sample=False)
    model.gradient_checkpointing_enable()
    model.train()
    layer = next(
        part for part in model.base_model.modules() if isinstance(part, GradientCheckpointingLayer)
    )
    calls = []
    next(part for part in layer.modules() if not [*part.children()]).register_forward_hook(
        lambda *_: calls.append(1)
    )
    for compute in (lambda: model(*batch).loss, lambda: model.loss(*batch)):
        before = len(calls)
        loss = compute()
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradient(model, loss), wanted, rtol=1e-4, atol=1e-6)
        assert len(calls) >= before + 2  # the backward pass called the layer again
    assert torch.equal(model.generate(ids, mask, max_new_tokens=4, do_sample=False), written)
    assert not any(part.training for part in model.base_model.modules())


# ------------------------------------------------------------------------------------------------------ pipelines


def byte_base(folder) -> tuple:
    """A random Llama over bytes with its tokenizer, which pads."""
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(save_byte_model(folder)), tokenizer


def test_a_pipeline_writes_what_generate_writes(tmp_path):
    """Text by text and in a batch, which the pipeline pads; PEFT's model in a pipeline writes the same."""
    base, tokenizer = byte_base(tmp_path)
    model = model_of(base)
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    write = pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu", **options)
    texts = ["A cup", "A much longer text"]
    for text, (alone,), (batched,) in zip(
        texts, write(texts), write(texts, batch_size=2), strict=True
    ):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        expected = tokenizer.decode(model.generate(ids, **options)[0], skip_special_tokens=True)
        assert alone["generated_text"] == batched["generated_text"] == expected
        assert expected != tokenizer.decode(
            base.generate(ids, **options)[0], skip_special_tokens=True
        )
    model.save_pretrained(tmp_path / "prompt")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "prompt")
    peft_writes = pipeline(
        "text-generation", model=theirs, tokenizer=tokenizer, device="cpu", **options
    )
    assert peft_writes(texts) == write(texts)


def test_a_pipeline_sorts_texts():
    """Prompt and head through "text-classification": the classes' names and probabilities."""
    shape = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=260, **shape, initializer_range=0.2, id2label={0: "no", 1: "yes"}
        )
        base = BertForSequenceClassification(config).eval()
    model, tokenizer = model_of(base, "SEQ_CLS"), byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    texts = ["A cup", "A much longer text"]
    sort = pipeline(
        "text-classification", model=model, tokenizer=tokenizer, device="cpu", top_k=None
    )
    for text, found in zip(texts, sort(texts, batch_size=2), strict=True):
        no, yes = model(**tokenizer(text, return_tensors="pt")).logits.softmax(dim=1)[0].tolist()
        assert {each["label"]: each["score"] for each in found} == pytest.approx(
            {"no": no, "yes": yes}
        )
