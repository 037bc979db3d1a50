"""What the chapters define agrees with the package's functions and classes, and with the benchmark."""

import ast
import sys
import tomllib
from pathlib import Path

import pandas as pd
import peft
import pytest
import torch
from words import WORDS, word_tokenizer, word_vectors

import softprompt_lab
from softprompt_lab import PromptTuningConfig, training
from softprompt_lab.course import FAILED, NOT_ATTEMPTED, PASSED, check

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import tutorial

SOURCES = Path(__file__).resolve().parents[1] / "notebooks" / "source"
TEXT = "is the parcel late"
ROWS, WIDTH = 6, 6


def definition(chapter: str, name: str):
    """The one function or class called `name` in a chapter, run after the chapter's imports alone."""
    tree = ast.parse((SOURCES / f"{chapter}.py").read_text(encoding="utf-8"))
    found = [node for node in tree.body if getattr(node, "name", None) == name]
    assert len(found) == 1, f"chapter {chapter} defines {name} {len(found)} times"
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    namespace: dict = {}
    exec(compile(ast.Module(imports + found, type_ignores=[]), chapter, "exec"), namespace)
    return namespace[name]


def literal(path: Path, name: str):
    """The value that a file assigns to `name`, read without running the file."""
    assigned = {
        target.id: node.value
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return ast.literal_eval(assigned[name])


# --- chapter 01


def test_the_benchmark_measures_the_ten_wordings_of_the_chapter():
    benchmark = SOURCES.parents[1] / "benchmarks" / "wordings.toml"
    wordings = literal(SOURCES / "01_what_words_can_do.py", "wordings")
    assert len(set(wordings)) == 10
    assert wordings == tomllib.loads(benchmark.read_text(encoding="utf-8"))["tweets"]["wordings"]


# --- chapter 02, concatenation


@pytest.fixture(scope="module")
def typed_concatenation():
    return definition("02_concatenation_by_hand", "concatenate_prompt")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "length", "prompt_length"), [(3, 4, 2), (1, 5, 1), (2, 3, 0), (2, 0, 4)]
)
def test_the_typed_concatenation_equals_the_package(
    typed_concatenation, rows, length, prompt_length, dtype
):
    x, prompt = torch.randn(rows, length, 5).to(dtype), torch.randn(prompt_length, 5)
    typed = typed_concatenation(x, prompt)
    assert typed.dtype == dtype
    assert typed.shape == (rows, prompt_length + length, 5)
    assert torch.equal(typed, softprompt_lab.concatenate_prompt(x, prompt))


def test_the_typed_concatenation_passes_the_same_gradients(typed_concatenation):
    g = torch.randn(3, 6, 5)
    gradients = []
    for concatenate in (typed_concatenation, softprompt_lab.concatenate_prompt):
        torch.manual_seed(0)
        x, prompt = torch.randn(3, 4, 5, requires_grad=True), torch.randn(2, 5, requires_grad=True)
        gradients.append(torch.autograd.grad(concatenate(x, prompt), (x, prompt), g))
    for typed, package in zip(*gradients, strict=True):
        assert torch.equal(typed, package)


def test_the_typed_concatenation_refuses_what_the_package_refuses(typed_concatenation):
    x, prompt = torch.randn(3, 4, 5), torch.randn(2, 6)
    with pytest.raises(ValueError, match="6 wide") as typed:
        typed_concatenation(x, prompt)
    with pytest.raises(ValueError, match="6 wide") as package:
        softprompt_lab.concatenate_prompt(x, prompt)
    assert str(typed.value) == str(package.value)


def test_the_typed_concatenation_passes_the_exercise(typed_concatenation):
    assert check("02-1", typed_concatenation) is PASSED


# --- chapter 03, PromptEmbedding


@pytest.fixture(scope="module")
def typed_class():
    return definition("03_prompt_embedding", "PromptEmbedding")


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    word_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def word_embeddings(request):
    """A frozen table of word embeddings, as a base model holds it."""
    return torch.nn.Embedding.from_pretrained(word_vectors(WIDTH).to(request.param))


def settings(init: str, folder: str, **more) -> dict:
    """The fields of a configuration for the small vocabulary."""
    text = (
        {"prompt_tuning_init_text": TEXT, "tokenizer_name_or_path": folder}
        if init == "TEXT"
        else {}
    )
    fields = {"num_virtual_tokens": ROWS, "token_dim": WIDTH, "num_transformer_submodules": 1}
    return fields | {"task_type": "CAUSAL_LM", "prompt_tuning_init": init} | text | more


def start_of(prompt_class, config, word_embeddings) -> torch.Tensor:
    """The vectors that a class starts from at a given random state."""
    torch.manual_seed(3)
    return prompt_class(config, word_embeddings).embedding.weight


@pytest.mark.parametrize("submodules", [1, 2])
@pytest.mark.parametrize("init", ["RANDOM", "TEXT", "SAMPLE_VOCAB"])
def test_the_typed_class_equals_peft(
    typed_class, init, submodules, tokenizer_folder, word_embeddings
):
    fields = settings(init, tokenizer_folder, num_transformer_submodules=submodules)
    typed = start_of(typed_class, PromptTuningConfig(**fields), word_embeddings)
    theirs = start_of(peft.PromptEmbedding, peft.PromptTuningConfig(**fields), word_embeddings)
    assert typed.shape == (ROWS * submodules, WIDTH)
    assert typed.dtype == torch.float32
    assert typed.requires_grad
    assert torch.equal(typed, theirs)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 11])
def test_the_typed_text_start_equals_the_package(
    typed_class, rows, tokenizer_folder, word_embeddings
):
    config = PromptTuningConfig(**settings("TEXT", tokenizer_folder, num_virtual_tokens=rows))
    typed = start_of(typed_class, config, word_embeddings)
    assert torch.equal(typed, start_of(softprompt_lab.PromptEmbedding, config, word_embeddings))
    ids = [WORDS.index(word) for word in TEXT.split()]
    assert torch.equal(typed, word_embeddings.weight[[ids[row % 4] for row in range(rows)]].float())


def test_the_typed_random_start_equals_the_package(typed_class, tokenizer_folder, word_embeddings):
    config = PromptTuningConfig(**settings("RANDOM", tokenizer_folder))
    typed = start_of(typed_class, config, word_embeddings)
    assert torch.equal(typed, start_of(softprompt_lab.PromptEmbedding, config, word_embeddings))


def test_the_typed_sample_equals_the_package_once_as_many_numbers_are_drawn(
    typed_class, tokenizer_folder, word_embeddings
):
    config = PromptTuningConfig(**settings("SAMPLE_VOCAB", tokenizer_folder))
    typed = start_of(typed_class, config, word_embeddings)
    torch.manual_seed(3)
    torch.randn(
        ROWS, WIDTH
    )  # PEFT, and the reader's class with it, draws a table and throws it away
    package = softprompt_lab.PromptEmbedding(config, word_embeddings)
    assert torch.equal(typed, package.embedding.weight)


def test_the_typed_class_looks_up_as_the_package_does(
    typed_class, tokenizer_folder, word_embeddings
):
    config = PromptTuningConfig(**settings("TEXT", tokenizer_folder))
    indices = torch.tensor([[0, 1, 2, 3, 4, 5], [5, 5, 0, 0, 1, 2]])
    g = torch.randn(2, ROWS, WIDTH)
    results, gradients = [], []
    for prompt_class in (typed_class, softprompt_lab.PromptEmbedding):
        prompt = prompt_class(config, word_embeddings)
        results.append(prompt(indices))
        gradients.append(torch.autograd.grad(results[-1], prompt.embedding.weight, g)[0])
    assert results[0].shape == (2, ROWS, WIDTH)
    assert torch.equal(*results)
    assert torch.equal(*gradients)


def test_the_typed_class_leaves_the_words_alone(typed_class, tokenizer_folder, word_embeddings):
    before = word_embeddings.weight.clone()
    prompt = typed_class(PromptTuningConfig(**settings("TEXT", tokenizer_folder)), word_embeddings)
    with torch.no_grad():
        prompt.embedding.weight += 1
    assert torch.equal(word_embeddings.weight, before)


def test_the_typed_class_passes_the_exercise_and_its_stub_is_none(typed_class, capsys):
    assert check("03-1", typed_class) is PASSED

    class Stub(torch.nn.Module):
        def __init__(self, config, word_embeddings):
            super().__init__()

        def forward(self, indices): ...

    assert check("03-1", Stub) is NOT_ATTEMPTED


class Unrepeated(torch.nn.Module):
    def __init__(self, config, word_embeddings):
        super().__init__()
        self.embedding = torch.nn.Embedding(config.num_virtual_tokens, config.token_dim)

    def forward(self, indices):
        return self.embedding(indices)


def test_a_class_that_knows_no_text_is_no_prompt_embedding(capsys):
    assert check("03-1", Unrepeated) is FAILED
    assert capsys.readouterr().out.startswith("03-1 not yet.")


# --- chapter 04, the loop


def test_the_typed_loop_moves_the_prompt_as_train_does():
    """Where no gradient is scaled down."""
    typed_loop = definition("04_training", "fit")
    base_model, tokenizer = softprompt_lab.load_base_model("tiny")
    task = softprompt_lab.load_task("shop")
    config = PromptTuningConfig(num_virtual_tokens=4, prompt_tuning_init_text=TEXT)
    typed, package = (
        softprompt_lab.SoftPromptModel(base_model, config, tokenizer=tokenizer) for _ in range(2)
    )
    rows = training.encode_training_rows(task, tokenizer)
    dealt = [training.as_tensors(batch, typed) for batch in training.batches(rows, 8, 5, seed=0)]
    losses = typed_loop(typed, dealt, 0.03)
    history = softprompt_lab.train(package, task, steps=5, max_grad_norm=1e9, progress=False)
    assert losses == pytest.approx(history.losses, rel=1e-5)
    torch.testing.assert_close(typed.prompt, package.prompt, rtol=1e-4, atol=1e-5)


# --- chapter 05, the tutorial


@pytest.mark.parametrize("text", ["Late again.", "Late again. " * 40])
def test_the_tutorial_that_was_measured_is_the_chapters(text):
    """Row for row, and its table has the seeds that the program names."""
    typed, (_, tokenizer) = (
        definition("05_the_clinic", "tutorial_row"),
        softprompt_lab.load_base_model("tiny"),
    )
    typed.__globals__.update(tokenizer=tokenizer, LONGEST=tutorial.MAX_LENGTH)
    context, target = typed(text, "complaint")
    ids, labels = tutorial.row_of(tokenizer, text, "complaint")
    assert context + target == ids
    assert [label for label in labels if label != tutorial.IGNORE] == target
    measured = pd.read_csv(tutorial.TABLE)
    assert tuple(measured["seed"]) == tutorial.SEEDS
    assert measured[["train", "test"]].to_numpy().max() <= 1
