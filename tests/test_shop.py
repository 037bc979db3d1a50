"""The shop language: deterministic, balanced, with labels that can be checked and words that skills share."""

import hashlib
from collections import Counter

import pytest

from softprompt_lab.data import shop

SKILLS = list(shop.SKILLS)
DIGEST = "7165e32f36da2384"  # of what the shipped tiny models were trained and are tested on


def texts(rows: list[dict[str, str]]) -> list[str]:
    return [row["Tweet text"] for row in rows]


def test_same_seed_same_language() -> None:
    assert shop.documents(seed=3, n=200) == shop.documents(seed=3, n=200)
    assert shop.dataset("tone", seed=3) == shop.dataset("tone", seed=3)


def test_another_seed_gives_other_messages() -> None:
    assert shop.documents(seed=3, n=20) != shop.documents(seed=4, n=20)
    assert set(texts(shop.examples("tone", 3, 300))).isdisjoint(
        texts(shop.examples("tone", 4, 300))
    )


def test_the_language_is_the_one_the_models_learned() -> None:
    """Whoever changes the grammar builds the tiny models again, and then writes the new digest here."""
    documents = [document.text for document in shop.documents(seed=1, n=200)]
    language = "\n".join([*documents, *texts(shop.examples("complaint", 0, 200))])
    assert hashlib.sha256(language.encode()).hexdigest()[:16] == DIGEST


@pytest.mark.parametrize("skill", SKILLS)
def test_splits_are_disjoint_and_of_the_promised_size(skill: str) -> None:
    splits = {name: texts(rows) for name, rows in shop.dataset(skill).items()}
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 200,
        "validation": 150,
        "test": 400,
    }
    assert len(set().union(*splits.values())) == 750


@pytest.mark.parametrize("skill", SKILLS)
def test_no_label_is_a_good_guess(skill: str) -> None:
    for rows in shop.dataset(skill).values():
        counts = Counter(row["text_label"] for row in rows)
        assert set(counts) == set(shop.SKILLS[skill].labels)
        assert max(counts.values()) / len(rows) < 0.58


def test_all_skills_ask_about_the_same_messages() -> None:
    asked = [texts(shop.examples(skill, 0, 100)) for skill in SKILLS]
    assert all(messages == asked[0] for messages in asked)


def test_skills_share_their_label_words() -> None:
    sharing = [name for name, skill in shop.SKILLS.items() if skill.labels == ("yes", "no")]
    assert sharing == ["complaint", "urgent", "loyal", "mismatch"]


def test_answers_to_shared_questions_are_independent() -> None:
    """Knowing one yes/no answer says nothing about another, so no skill can stand in for another."""
    rows = {skill: [row["text_label"] for row in shop.examples(skill, 0, 1280)] for skill in SKILLS}
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
    assert all(shop.is_reserved(text) for text in texts(shop.examples("topic", 0, 500)))


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
        shop.examples("sarcasm", 0, 1)
