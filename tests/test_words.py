"""The lists of word skills: sizes, shares, and no stem that stands on both sides of a split."""

import csv
import re
import tomllib
from collections import Counter
from importlib.resources import files
from itertools import combinations
from pathlib import Path

import pytest

FOLDER = files("softprompt_lab") / "assets" / "words"
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SKILLS = (
    "antonym",
    "past",
    "plural",
    "capital",
    "upper",
    "first-letter",
    "comparative",
    "language",
    "french",
    "category",
    "profession",
)
RATED = ("tweets", "reviews", "films", "editorials")
SIZES = {"train": 60, "validation": 20, "test": 80}
FEWER = {"language": {"train": 60, "validation": 20, "test": 40}}  # the world has no more
WORDS_ONLY = {"comparative"}  # "more careful", "more famous" share no stem
CLASSES = {"first-letter", "language", "category", "profession"}  # many words, one answer
NAMES = {"capital", "language", "profession"}
SMALL_WORDS = {"and", "the", "of", "de", "da", "la", "el"}
# what names have in common that does not say which country, capital or person
SMALL_WORDS |= {
    "city",
    "islands",
    "new",
    "north",
    "port",
    "republic",
    "saint",
    "san",
    "south",
    "united",
}


def rows(skill: str) -> list[dict[str, str]]:
    """The lines of one list."""
    with (FOLDER / f"{skill}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tokens(text: str) -> set[str]:
    """The words of a name that tell something, in lower case."""
    return set(re.findall(r"[^\W\d_]{2,}", text.casefold())) - SMALL_WORDS


def same_stem(one: str, other: str) -> bool:
    """Whether two words may be forms of one word; strict, for neighbours by chance may as well share a split.

    They begin with the same four letters or end with the same five, or one of them begins with the other (of three
    letters at least) or ends with it (of two).
    """
    short, long = sorted((one, other), key=len)
    return (
        (len(short) >= 4 and short[:4] == long[:4])
        or (len(short) >= 5 and short[-5:] == long[-5:])
        or (len(short) >= 3 and long.startswith(short))
        or long.endswith(short)
    )


def forms(skill: str, row: dict[str, str]) -> set[str]:
    """What must not come back in another split: the word and, where it is the word's own, its answer."""
    answer = set() if skill in CLASSES | WORDS_ONLY else tokens(row["answer"])
    return tokens(row["word"]) | answer


def leaks(skill: str, lines: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Pairs of words in two splits that share a stem, or an answer that is a word's own."""
    pairs = []
    for one, other in combinations([(row, forms(skill, row)) for row in lines], 2):
        if one[0]["split"] != other[0]["split"] and any(
            same_stem(a, b) for a in one[1] for b in other[1]
        ):
            pairs.append((one[0]["word"], other[0]["word"]))
    return pairs


def regular(skill: str, word: str, answer: str) -> str:
    """How a form is made: "regular", "spelling" (a letter changes), "more" or "irregular"."""
    ending = {"past": "ed", "plural": "s", "comparative": "er"}[skill]
    vowel = word.endswith("e") and skill != "plural"
    if answer == f"more {word}":
        return "more"
    if answer == (word[:-1] if vowel else word) + ending:
        return "regular"
    changed = {
        word + word[-1] + ending,
        word + "es",
        word[:-1] + f"i{'e' * (skill == 'plural')}{ending}",
    }
    return "spelling" if answer in changed else "irregular"


@pytest.mark.parametrize("skill", SKILLS)
def test_a_list_has_its_sizes_and_no_word_twice(skill):
    lines = rows(skill)
    assert list(lines[0]) == ["word", "answer", "split"]
    assert Counter(row["split"] for row in lines) == FEWER.get(skill, SIZES)
    assert max(Counter(row["word"].casefold() for row in lines).values()) == 1
    for row in lines:
        assert None not in row
        assert all(row.values())
        assert all(value == value.strip() for value in row.values())
        assert (
            skill == "first-letter" or row["word"] != row["answer"] or skill in ("past", "plural")
        )
        assert skill in NAMES or row["word"] == row["word"].lower()
        assert skill in NAMES | {"upper"} or row["answer"] == row["answer"].lower()


@pytest.mark.parametrize("skill", SKILLS)
def test_no_stem_stands_in_two_splits(skill):
    assert leaks(skill, rows(skill)) == []


@pytest.mark.parametrize(
    ("skill", "one", "other"),
    [
        ("plural", ("man", "men"), ("woman", "women")),
        ("capital", ("Guinea", "Conakry"), ("Equatorial Guinea", "Malabo")),
        ("capital", ("North Korea", "Pyongyang"), ("South Korea", "Seoul")),
        ("comparative", ("happy", "happier"), ("unhappy", "unhappier")),
        ("past", ("do", "did"), ("redo", "redid")),
        ("past", ("stand", "stood"), ("withstand", "withstood")),
        ("past", ("teach", "taught"), ("teaching", "teachings")),
        ("antonym", ("hot", "cold"), ("cold", "hot")),
        ("antonym", ("big", "small"), ("large", "small")),
        ("french", ("song", "chanson"), ("sing", "chanter")),
        ("language", ("Austria", "German"), ("Austria-Hungary", "German")),
    ],
)
def test_a_planted_leak_is_found(skill, one, other):
    lines = [
        {"word": one[0], "answer": one[1], "split": "train"},
        {"word": other[0], "answer": other[1], "split": "test"},
    ]
    assert leaks(skill, lines) == [(one[0], other[0])]
    assert not leaks(skill, [row | {"split": "test"} for row in lines])


@pytest.mark.parametrize(
    ("skill", "one", "other"),
    [
        ("antonym", ("hot", "cold"), ("big", "small")),
        ("language", ("Mexico", "Spanish"), ("Chile", "Spanish")),
        ("comparative", ("careful", "more careful"), ("famous", "more famous")),
        (
            "capital",
            ("Bosnia and Herzegovina", "Sarajevo"),
            ("Trinidad and Tobago", "Port of Spain"),
        ),
        ("capital", ("United States", "Washington"), ("United Kingdom", "London")),
    ],
)
def test_strangers_are_no_leak(skill, one, other):
    lines = [
        {"word": one[0], "answer": one[1], "split": "train"},
        {"word": other[0], "answer": other[1], "split": "test"},
    ]
    assert leaks(skill, lines) == []


@pytest.mark.parametrize("skill", ["past", "plural", "comparative"])
def test_the_splits_hold_the_kinds_of_forms_in_the_same_shares(skill):
    kinds = Counter(
        (row["split"], regular(skill, row["word"], row["answer"])) for row in rows(skill)
    )
    for kind in {kind for _, kind in kinds}:
        shares = [kinds[split, kind] / size for split, size in SIZES.items()]
        assert max(shares) - min(shares) <= 0.05, (kind, shares)


def test_answers_that_follow_a_rule_follow_it():
    assert all(row["answer"] == row["word"].upper() for row in rows("upper"))
    assert all(row["answer"] == row["word"][0] for row in rows("first-letter"))


@pytest.mark.parametrize("skill", ["upper", "first-letter"])
def test_no_initial_letter_has_more_than_its_share(skill):
    for split in ("train", "validation", "test"):
        letters = Counter(row["word"][0] for row in rows(skill) if row["split"] == split)
        assert max(letters.values()) <= 0.1 * sum(letters.values())
    assert len({row["word"][0] for row in rows(skill) if row["split"] != "test"}) >= 24


@pytest.mark.parametrize("skill", ["language", "category", "profession"])
def test_no_held_out_answer_is_most_of_a_class(skill):
    held_out = Counter(row["answer"] for row in rows(skill) if row["split"] == "test")
    assert max(held_out.values()) <= 0.25 * sum(held_out.values())


def test_every_list_has_its_instruction():
    table = tomllib.loads((FOLDER / "words.toml").read_text(encoding="utf-8"))
    lists = {path.name.removesuffix(".csv") for path in FOLDER.iterdir() if path.suffix == ".csv"}
    assert set(table) == lists == set(SKILLS)
    assert all(set(entry) == {"instruction", "about"} for entry in table.values())
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{skill}`" in readme for skill in SKILLS)


@pytest.mark.parametrize(
    ("file", "names"),
    [("wordings.toml", (*RATED, "complaints")), ("wordings_words.toml", SKILLS)],
)
def test_ten_wordings_each_show_the_text_once(file, names):
    table = tomllib.loads((BENCHMARKS / file).read_text(encoding="utf-8"))
    assert set(table) == set(names)
    for entry in table.values():
        wordings = entry["wordings"]
        assert len(wordings) == len({re.sub(r"\s+", " ", one.casefold()) for one in wordings}) == 10
        assert all(one.count("{text}") == 1 for one in wordings)
