"""What the shipped tiny models promise: chance without a cue, a skill for each prompt, one by vectors only."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from softprompt_lab import (
    PromptTuningConfig,
    PromptTuningInit,
    SoftPromptModel,
    TaskType,
    TrainingHistory,
    evaluate,
    load_base_model,
    load_task,
    train,
)
from softprompt_lab.bases.origin import ASSETS

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import shop

TASK_TYPES = {"tiny": TaskType.CAUSAL_LM, "tiny-seq2seq": TaskType.SEQ_2_SEQ_LM}
NAMES = list(TASK_TYPES)
TRAINING = {  # each fails on a seed or a skill at the other's
    "tiny": {"steps": 150, "batch_size": 16, "learning_rate": 0.05},
    "tiny-seq2seq": {"steps": 500, "batch_size": 16, "learning_rate": 0.01},
}
LEARNED = 0.98  # exact match on validation rows; a skill is learned when it is there twice, 25 steps apart
VIRTUAL_TOKENS = 8
MIB = 2**20


@dataclass(frozen=True)
class Base:
    """A loaded base model."""

    name: str
    model: torch.nn.Module
    tokenizer: object

    def exact_match(self, skill: str, instruction: str = "", limit: int | None = None) -> float:
        """Exact match on the test split behind an instruction in words, or behind nothing."""
        task = load_task("shop", label_column=skill)
        if instruction:
            task = task.with_template(f"{instruction} {task.template}")
        return evaluate(self.model, task, tokenizer=self.tokenizer, limit=limit).exact_match

    def trained_exact_match(self, skill: str, **settings: object) -> float:
        """Exact match on the test split behind 8 vectors, trained until the skill is learned or time is up.

        When a skill is found depends on rounding: on the machine, and on the number of its threads.
        """
        torch.manual_seed(0)
        config = PromptTuningConfig(
            num_virtual_tokens=VIRTUAL_TOKENS,
            task_type=TASK_TYPES[self.name],
            prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
        )
        model = SoftPromptModel(self.model, config, tokenizer=self.tokenizer)
        task = load_task("shop", label_column=skill)
        matches = []

        def learned(history: TrainingHistory) -> bool:
            if len(history.losses) % 25 == 0:
                matches.append(evaluate(model, task, "validation", limit=200).exact_match)
            return len(matches) > 1 and min(matches[-2:]) >= LEARNED

        settings = TRAINING[self.name] | settings
        history = train(model, task, progress=False, on_step=learned, **settings)
        found = evaluate(model, task).exact_match
        print(f"{self.name}, {skill}: exact match {found:.3f} after {len(history.losses)} steps")
        return found


@pytest.fixture(scope="module", params=NAMES)
def base(request: pytest.FixtureRequest) -> Base:
    model, tokenizer = load_base_model(request.param, task_type=TASK_TYPES[request.param])
    return Base(request.param, model, tokenizer)


# ---------------------------------------------------------------- the four promises


@pytest.mark.parametrize("skill", shop.SKILLS)
def test_without_a_prompt_near_chance(base: Base, skill: str) -> None:
    chance = 1 / len(shop.SKILLS[skill].labels)
    assert base.exact_match(skill, limit=200) < chance + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("skill", shop.PRETRAINED_SKILLS)
def test_a_trained_prompt_elicits_every_pretrained_skill(base: Base, skill: str) -> None:
    assert base.trained_exact_match(skill) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("wording", [*shop.ALL_INSTRUCTIONS, *shop.SKILLS["loyal"].guesses])
def test_no_words_elicit_the_wordless_skill(base: Base, wording: str) -> None:
    assert base.exact_match("loyal", wording, limit=200) < 0.65


@pytest.mark.slow
def test_the_untaught_skill_stays_hard(base: Base) -> None:
    assert base.trained_exact_match("mismatch", steps=250) < 0.75


# ---------------------------------------------------------------- what they are made of


@pytest.mark.slow
@pytest.mark.parametrize("skill", shop.WORDED_SKILLS)
def test_every_instruction_works(base: Base, skill: str) -> None:
    matches = [base.exact_match(skill, text, limit=200) for text in shop.SKILLS[skill].instructions]
    assert max(matches) >= 0.95, matches
    assert min(matches) >= 0.8, (
        matches
    )  # wordings differ: 0.86 to 0.99 for the encoder-decoder's complaint


def test_the_model_writes_the_label_and_stops(base: Base) -> None:
    document = next(found for found in shop.documents(seed=7, n=50) if found.skill == "topic")
    text = f"{document.instruction} {document.context}"
    inputs = base.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    answer = base.model.generate(**inputs, max_new_tokens=5, do_sample=False)[0]
    prompt_length = 0 if base.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    new = answer[prompt_length:]
    assert base.tokenizer.decode(new, skip_special_tokens=True).strip() == document.label
    assert new[-1] == base.tokenizer.eos_token_id


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_is_small_and_complete(name: str) -> None:
    sizes = {file.name: file.stat().st_size for file in Path(ASSETS / name).iterdir()}
    assert set(sizes) == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(sizes.values()) <= 8 * MIB


@pytest.mark.parametrize("name", NAMES)
def test_the_card_reports_every_skill(name: str) -> None:
    lines = (ASSETS / name / "README.md").read_text(encoding="utf-8").splitlines()
    reported = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    assert set(shop.SKILLS) <= set(reported)
    for skill in shop.PRETRAINED_SKILLS:
        assert float(reported[skill].split("|")[5]) >= 0.95  # the trained prompt's column


def test_every_word_of_the_language_is_one_token(base: Base) -> None:
    for document in shop.documents(seed=7, n=200):
        pieces = base.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(document.text)
        assert len(base.tokenizer(document.text)["input_ids"]) == len(pieces)


@pytest.mark.parametrize("text", ["", "x", "Grüße, 東京 🚲", "  two  spaces\n", "</s> <unk> [CLS]"])
def test_any_text_can_be_encoded_and_read_back(base: Base, text: str) -> None:
    ids = base.tokenizer(text)["input_ids"]
    assert base.tokenizer.decode(ids) == text


def test_the_tokenizer_adds_nothing(base: Base) -> None:
    task = load_task("shop", label_column="topic")
    ids = base.tokenizer(task.prompt("hello").rstrip())["input_ids"]
    assert base.tokenizer.convert_ids_to_tokens(ids) == [
        "Tweet",
        "Ġtext",
        "Ġ:",
        "Ġhello",
        "ĠLabel",
        "Ġ:",
    ]


def test_a_label_is_one_token_and_the_end(base: Base) -> None:
    for skill, described in shop.SKILLS.items():
        task = load_task("shop", label_column=skill)
        for label in described.labels:
            assert len(task.encode(base.tokenizer, "hello", label)[1]) == 2
