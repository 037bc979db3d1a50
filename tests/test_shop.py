"""The shop language: deterministic, balanced, with labels that can be checked and words that skills share."""

import hashlib
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import shop

ROOT = Path(__file__).parents[1]
SKILLS = list(shop.SKILLS)
DIGEST = "7165e32f36da2384"  # of what the shipped tiny models were trained and are tested on


def texts(found: list[shop.Message]) -> list[str]:
    return [message.text for message in found]


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return shop.tables()


def test_the_grammar_writes_the_tables_of_the_package(tmp_path) -> None:
    """Byte for byte."""
    shop.write(tmp_path)
    shipped = ROOT / "softprompt_lab" / "assets" / "shop"
    assert sorted(path.name for path in shipped.iterdir()) == [
        "test.csv",
        "train.csv",
        "validation.csv",
    ]
    for path in shipped.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_same_seed_same_language() -> None:
    assert shop.documents(seed=3, n=200) == shop.documents(seed=3, n=200)
    assert shop.examples(seed=3, n=200) == shop.examples(seed=3, n=200)


def test_another_seed_gives_other_messages() -> None:
    assert shop.documents(seed=3, n=20) != shop.documents(seed=4, n=20)
    assert set(texts(shop.examples(3, 300))).isdisjoint(texts(shop.examples(4, 300)))


def test_the_language_is_the_one_the_models_learned() -> None:
    """Whoever changes the grammar builds the tiny models again, and then writes the new digest here."""
    documents = [document.text for document in shop.documents(seed=1, n=200)]
    language = "\n".join([*documents, *texts(shop.examples(0, 200))])
    assert hashlib.sha256(language.encode()).hexdigest()[:16] == DIGEST


def test_splits_are_disjoint_and_of_the_promised_size(tables) -> None:
    sizes = {split: len(table) for split, table in tables.items()}
    assert sizes == {"train": 2000, "validation": 250, "test": 400}
    assert pd.concat(tables.values())["Tweet text"].nunique() == 2650


@pytest.mark.parametrize("skill", SKILLS)
def test_no_label_is_a_good_guess(tables, skill: str) -> None:
    for table in tables.values():
        shares = table[skill].value_counts(normalize=True)
        assert set(shares.index) == set(shop.SKILLS[skill].labels)
        assert shares.max() < 0.58


def test_skills_share_their_label_words() -> None:
    sharing = [name for name, skill in shop.SKILLS.items() if skill.labels == ("yes", "no")]
    assert sharing == ["complaint", "urgent", "loyal", "mismatch"]


def test_answers_to_shared_questions_are_independent() -> None:
    """Knowing one yes/no answer says nothing about another, so no skill can stand in for another."""
    found = shop.examples(0, 1280)
    rows = {skill: [message.label(skill) for message in found] for skill in SKILLS}
    sharing = ["complaint", "urgent", "loyal", "mismatch"]
    for one in sharing:
        for other in sharing:
            agreement = sum(a == b for a, b in zip(rows[one], rows[other], strict=True)) / 1280
            assert agreement == 1 if one == other else agreement == pytest.approx(0.5, abs=0.05)


def test_labels_follow_from_the_words() -> None:
    attributes = shop.Attributes("delivery", complaint=True, tone="happy", urgent=False, loyal=True)
    message = shop.Message("the lamp came two days late. what a lovely week.", attributes)
    answers = {skill: message.label(skill) for skill in SKILLS}
    assert answers == {
        "complaint": "yes",
        "topic": "delivery",
        "tone": "happy",
        "urgent": "no",
        "loyal": "yes",
        "mismatch": "yes",
    }


def test_pretraining_never_meets_a_message_of_a_task() -> None:
    assert not any(
        shop.is_reserved(document.message.text) for document in shop.documents(seed=1, n=2000)
    )
    assert all(shop.is_reserved(text) for text in texts(shop.examples(0, 500)))


def test_half_of_the_documents_have_words_in_front() -> None:
    documents = shop.documents(seed=1, n=4000)
    shares = Counter(document.cue for document in documents)
    assert shares["words"] / 4000 == pytest.approx(0.5, abs=0.03)
    assert all(bool(document.instruction) == (document.cue == "words") for document in documents)


def test_no_instruction_names_the_wordless_and_the_untaught_skill() -> None:
    documents = shop.documents(seed=1, n=4000)
    worded = {document.skill for document in documents if document.cue == "words"}
    assert worded == {"complaint", "topic", "tone", "urgent"}
    assert {document.skill for document in documents if document.cue == "vectors"} == {"loyal"}
    assert not any(document.skill == "mismatch" for document in documents)


def test_thousands_of_messages() -> None:
    assert len({document.message.text for document in shop.documents(seed=1, n=5000)}) > 4990


def test_unknown_skill_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'sarcasm'.*complaint, topic, tone"):
        shop.examples(0, 1)[0].label("sarcasm")
