"""The shop language: a small grammar of customer messages whose labels are known exactly.

python tools/shop.py    # write the tables that `load_task("shop")` reads

Every message is drawn from five hidden attributes (topic, complaint, tone, urgent, loyal), so that one
message has several right labels and only a cue tells which of them is asked for. The tiny base models are
pretrained on `documents`; tasks are made from `examples`, whose messages no document ever holds.

Six skills share one format and the words "yes" and "no":

* complaint, topic, tone and urgent are asked for in words in pretraining;
* loyal is asked for by vectors alone: no instruction ever names it;
* mismatch (a bad event told in a good mood, or a good one in a bad mood) is never asked for at all.
"""

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Literal

import pandas as pd

Split = Literal["train", "validation", "test"]
Cue = Literal["words", "vectors", "none"]

TEXT_COLUMN = "Tweet text"
TEMPLATE = "Tweet text : {text} Label : "
FOLDER = Path(__file__).resolve().parents[1] / "softprompt_lab" / "assets" / "shop"
# The rows of the splits are dealt out in this order; `load_task` gives the first part of each, by default.
SIZES: tuple[dict[Split, int], ...] = (
    {"train": 200, "validation": 150, "test": 400},
    {"train": 1800, "validation": 100, "test": 0},
)

PRODUCTS = (
    *("lamp", "chair", "kettle", "coat", "phone", "radio", "bike", "table"),
    *("clock", "tent", "camera", "shirt", "piano", "carpet", "mirror", "laptop"),
    *("guitar", "sofa", "vase", "desk", "drill", "scarf", "toaster", "ladder"),
)

# (topic, complaint) -> what happened. Most good and bad events differ in one or two words only.
EVENTS: dict[tuple[str, bool], tuple[str, ...]] = {
    ("delivery", True): (
        "the {} came two days late",
        "nobody brought the {}",
        "the parcel with the {} is lost",
        "the courier dropped the {}",
    ),
    ("delivery", False): (
        "the {} came two days early",
        "the courier brought the {}",
        "the parcel with the {} is here",
        "the courier carried the {} upstairs",
    ),
    ("billing", True): (
        "you charged me twice for the {}",
        "the bill for the {} is wrong",
        "the refund for the {} never came",
        "the {} cost more than you said",
    ),
    ("billing", False): (
        "you charged me once for the {}",
        "the bill for the {} is right",
        "the refund for the {} came",
        "the {} cost less than you said",
    ),
    ("product", True): (
        "the {} does not work",
        "the {} broke",
        "the {} is worse than the picture",
        "the {} is not as strong as you said",
    ),
    ("product", False): (
        "the {} does work",
        "the {} fits",
        "the {} is better than the picture",
        "the {} is as strong as you said",
    ),
    ("service", True): (
        "nobody answered my question about the {}",
        "your staff sent me away with the {}",
        "your staff knew nothing about the {}",
        "I waited an hour to ask about the {}",
    ),
    ("service", False): (
        "your staff answered my question about the {}",
        "your staff helped me with the {}",
        "your staff knew everything about the {}",
        "I waited a minute to ask about the {}",
    ),
}
FEELINGS: dict[str, tuple[str, ...]] = {
    "angry": ("I am furious", "this makes my blood boil", "I have had enough of this"),
    "worried": ("I am nervous", "I can not sleep over this", "my hands shake as I write"),
    "calm": ("I take it as it comes", "I say so without fuss", "this is no big thing to me"),
    "happy": ("I smile all day", "I could sing about this", "what a lovely week"),
}
HURRY: dict[bool, tuple[str, ...]] = {
    True: (
        "please answer today",
        "I need a word from you now",
        "I leave tonight",
        "my guests arrive in an hour",
    ),
    False: (
        "answer when you can",
        "there is no hurry",
        "I am home till spring",
        "next month is fine",
    ),
}
HISTORY: dict[bool, tuple[str, ...]] = {
    True: (
        "I have bought here for ten years",
        "this is my ninth order",
        "I always come back to you",
        "my mother shopped here before me",
    ),
    False: (
        "I have bought here for ten days",
        "this is my first order",
        "I am new to you",
        "a friend sent me here",
    ),
}
GREETINGS = ("", "", "hello", "dear team", "good morning", "@shop")
FAREWELLS = ("", "", "thanks", "bye", "best wishes")

TOPICS = ("delivery", "billing", "product", "service")
TONES = tuple(FEELINGS)
BAD_TONES = ("angry", "worried")
YES_NO = ("yes", "no")


@dataclass(frozen=True)
class Skill:
    """A question about a message.

    Attributes:
        labels: the possible answers.
        instructions: the wordings that ask for it in pretraining; none for a skill that only vectors ask for.
        pretrained: whether any document answers it.
        guesses: wordings that a person might try and that no document holds.
    """

    name: str
    labels: tuple[str, ...]
    instructions: tuple[str, ...]
    pretrained: bool
    guesses: tuple[str, ...] = ()


_SKILLS = (
    Skill(
        "complaint",
        YES_NO,
        (
            "Classify if the tweet is a complaint or not:",
            "Is this a complaint?",
            "Does the customer complain?",
            "Say if the message is a complaint:",
        ),
        pretrained=True,
    ),
    Skill(
        "topic",
        TOPICS,
        (
            "Classify the topic of the tweet:",
            "What is this about?",
            "Name the topic of the message:",
            "Which topic does the customer write about?",
        ),
        pretrained=True,
    ),
    Skill(
        "tone",
        TONES,
        (
            "Classify the tone of the tweet:",
            "What is the tone?",
            "Name the tone of the message:",
            "How does the customer feel?",
        ),
        pretrained=True,
    ),
    Skill(
        "urgent",
        YES_NO,
        (
            "Classify if the tweet is urgent or not:",
            "Is this urgent?",
            "Does the customer need us soon?",
            "Say if the message is urgent:",
        ),
        pretrained=True,
    ),
    Skill(
        "loyal",
        YES_NO,
        (),
        pretrained=True,
        guesses=(
            "Classify if the customer is loyal or not:",
            "Is this a loyal customer?",
            "Does the customer come back?",
            "Has the customer bought here before?",
            "Is this an old customer?",
            "Is the customer new here?",
            "Is this the first order?",
            "Say if the customer shopped here before:",
        ),
    ),
    Skill(
        "mismatch",
        YES_NO,
        (),
        pretrained=False,
        guesses=(
            "Classify if the tone and the message differ or not:",
            "Is this a mismatch?",
            "Is the customer ironic?",
            "Does the tone fit the message?",
        ),
    ),
)
SKILLS: dict[str, Skill] = {skill.name: skill for skill in _SKILLS}
ALL_INSTRUCTIONS = tuple(text for skill in _SKILLS for text in skill.instructions)
WORDED_SKILLS = tuple(skill.name for skill in _SKILLS if skill.instructions)
PRETRAINED_SKILLS = tuple(skill.name for skill in _SKILLS if skill.pretrained)
UNCUED_LABELS = (*YES_NO, *TOPICS, *TONES, *("no",) * 4)


@dataclass(frozen=True)
class Attributes:
    """What a message is drawn from; every label is computed from these five."""

    topic: str
    complaint: bool
    tone: str
    urgent: bool
    loyal: bool


ALL_ATTRIBUTES = tuple(
    Attributes(*values)
    for values in product(TOPICS, (True, False), TONES, (True, False), (True, False))
)


@dataclass(frozen=True)
class Message:
    """A customer message and the attributes it was drawn from."""

    text: str
    attributes: Attributes

    def label(self, skill: str) -> str:
        """The right answer to one skill's question; an unknown skill raises ValueError."""
        hidden = self.attributes
        if skill == "mismatch":
            return YES_NO[0] if hidden.complaint != (hidden.tone in BAD_TONES) else YES_NO[1]
        value = getattr(hidden, _known(skill).name)
        return value if isinstance(value, str) else YES_NO[0 if value else 1]


@dataclass(frozen=True)
class Document:
    """One line of pretraining text: a cue (words, vectors added by the trainer, or none), message, label."""

    message: Message
    label: str
    skill: str | None
    cue: Cue
    instruction: str = ""

    @property
    def context(self) -> str:
        """What stands before the label, without the instruction."""
        return TEMPLATE.format(text=self.message.text).rstrip()

    @property
    def text(self) -> str:
        """The whole line, `[instruction ]Tweet text : <message> Label : <label>`."""
        return " ".join(part for part in (self.instruction, self.context, self.label) if part)


def _known(skill: str) -> Skill:
    if skill not in SKILLS:
        raise ValueError(
            f"unknown skill {skill!r} of the shop language; choose one of: {', '.join(SKILLS)}"
        )
    return SKILLS[skill]


def write_message(attributes: Attributes, rng: random.Random) -> Message:
    """Put attributes into words: four sentences in any order, now and then a greeting and a farewell."""
    event = rng.choice(EVENTS[attributes.topic, attributes.complaint]).format(rng.choice(PRODUCTS))
    sentences = [
        event,
        rng.choice(FEELINGS[attributes.tone]),
        rng.choice(HURRY[attributes.urgent]),
        rng.choice(HISTORY[attributes.loyal]),
    ]
    rng.shuffle(sentences)
    body = ". ".join(sentences) + "."
    greeting, farewell = rng.choice(GREETINGS), rng.choice(FAREWELLS)
    return Message(
        f"{greeting + ', ' if greeting else ''}{body}{' ' + farewell if farewell else ''}",
        attributes,
    )


def is_reserved(text: str) -> bool:
    """Whether a message is kept for tasks: a quarter of them, chosen by CRC-32, never met in pretraining."""
    return zlib.crc32(text.encode()) % 4 == 0


def messages(rng: random.Random, *, reserved: bool) -> Iterator[Message]:
    """Endless messages; every 128 hold each combination of attributes once, so that classes are balanced."""
    while True:
        for attributes in rng.sample(ALL_ATTRIBUTES, len(ALL_ATTRIBUTES)):
            message = write_message(attributes, rng)
            while is_reserved(message.text) != reserved:
                message = write_message(attributes, rng)
            yield message


def documents(seed: int, n: int) -> list[Document]:
    """`n` pretraining documents: half cued by words, 3 in 10 by vectors (skill loyal), 2 in 10 by nothing.

    The label of a document without a cue is drawn blindly, "no" more often than any other: nothing about it
    can be guessed from the message, which is why a base model without a prompt stays at chance.
    """
    rng = random.Random(f"shop documents {seed}")
    source = messages(rng, reserved=False)
    return [_document(next(source), rng) for _ in range(n)]


def _document(message: Message, rng: random.Random) -> Document:
    cue: Cue = rng.choices(("words", "vectors", "none"), weights=(5, 3, 2))[0]
    if cue == "words":
        skill = rng.choice(WORDED_SKILLS)
        return Document(
            message, message.label(skill), skill, cue, rng.choice(SKILLS[skill].instructions)
        )
    if cue == "vectors":
        return Document(message, message.label("loyal"), "loyal", cue)
    return Document(message, rng.choice(UNCUED_LABELS), None, cue)


def examples(seed: int, n: int) -> list[Message]:
    """Return `n` distinct messages that no pretraining document holds."""
    found: dict[str, Message] = {}
    for message in messages(random.Random(f"shop examples {seed}"), reserved=True):
        found.setdefault(message.text, message)
        if len(found) == n:
            return list(found.values())
    raise AssertionError("messages are endless")


def tables() -> dict[Split, pd.DataFrame]:
    """Return the rows of the three splits, all different, each with its labels for every skill."""
    dealt = iter(examples(0, sum(sum(sizes.values()) for sizes in SIZES)))
    splits: dict[Split, list[Message]] = {split: [] for split in SIZES[0]}
    for sizes in SIZES:
        for split, size in sizes.items():
            splits[split] += islice(dealt, size)
    return {split: _table(found) for split, found in splits.items()}


def _table(found: list[Message]) -> pd.DataFrame:
    rows = [
        {TEXT_COLUMN: message.text} | {skill: message.label(skill) for skill in SKILLS}
        for message in found
    ]
    return pd.DataFrame(rows)


def write(folder: Path = FOLDER) -> None:
    """Write one CSV a split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, table in tables().items():
        content = table.to_csv(index=False, lineterminator="\n")
        (folder / f"{split}.csv").write_bytes(content.encode())


if __name__ == "__main__":
    write()
