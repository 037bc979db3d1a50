"""Text of a model or a file in a page: shown as it is written, never read as HTML."""

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pictures import image_in
from test_checkpoints import fresh, rows
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import softprompt_lab
from softprompt_lab import PromptTuningConfig, evaluate, nearest_tokens, plots
from softprompt_lab.adapters.card import adapter_card
from softprompt_lab.plots.figure import DARK
from softprompt_lab.runs.saved import SavedRun
from softprompt_lab.tasks import Task
from softprompt_lab.widgets import NeighbourExplorer

ROOT = Path(softprompt_lab.__file__).parents[1]
ATTACKS = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    '"><svg/onload=alert(1)>',
    "</td></table><b>",
]
TAGS = {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p", "img"}
STYLES = r"(max-width:100%|overflow-x:auto|height:auto;max-width:100%;min-width:\d+px"
STYLES += r"|text-align: (right|left);)"


class Page(HTMLParser):
    """The elements, attributes and words of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words += data

    def harmless(self) -> bool:
        """True when nothing is there but tables, paragraphs and pictures that carry their own bytes."""
        allowed = {
            "src",
            "alt",
            "style",
            "border",
            "class",
            "width",
            "height",
            "role",
            "aria-live",
            "aria-label",
            "tabindex",
            "colspan",
            "halign",
        }
        return all(
            tag in TAGS
            and attributes.keys() <= allowed
            and attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
            and re.fullmatch(STYLES, attributes.get("style", "max-width:100%"))
            for tag, attributes in self.elements
        )


@pytest.fixture
def tokenizer():
    """One whose words are attacks."""
    words = {word: number for number, word in enumerate([*ATTACKS, "good"])}
    made = Tokenizer(models.WordLevel(words, unk_token="good"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="good")


def test_a_page_that_is_attacked_is_not_harmless():
    """The check can fail."""
    for attack in ATTACKS:
        assert not Page(f"<td>{attack}</td>").harmless()
    assert Page("<td>good</td>").harmless()


def test_the_explorer_shows_tokens_as_they_are_written(tokenizer):
    """Table, caption, status, error and the picture's alt text."""
    words = torch.eye(len(tokenizer))
    model = SimpleNamespace(word_embeddings=words, tokenizer=tokenizer)
    run = SavedRun("attack", model, None, {0: words[:4], 10: words[:4]}, None, {})
    explorer = NeighbourExplorer(run, k=2)
    explorer.fill()
    table = Page(explorer.table.value)
    assert table.harmless()
    assert all(attack.replace(" ", "·") in table.words for attack in ATTACKS)
    assert Page(explorer.status.value).harmless()
    picture = Page(explorer.picture.value.removeprefix(DARK))
    assert picture.harmless()
    assert [tag for tag, _ in picture.elements] == ["div", "img"]
    explorer._find = explorer._neighbours = lambda *_: (_ for _ in ()).throw(ValueError(ATTACKS[0]))
    explorer.refresh()
    status = Page(explorer.status.value)
    assert status.harmless()
    assert ATTACKS[0] in status.words
    explorer.close()


def test_a_figure_says_its_alt_text_as_it_is_written():
    """In a page it is a picture of a known size; its style is the same for all, and no text comes into it."""
    figure = plots.neighbour_scores({attack: [0.5] for attack in ATTACKS})
    figure.alt = " ".join([*ATTACKS, '" onload="alert(1)', "'&amp;"])
    style, page = figure.html().split("</style>")
    assert style == plots.neighbour_scores({"a": [0.1]}).html().split("</style>")[0]
    assert Page(page).harmless()
    picture, alt = image_in(page)
    assert alt == figure.alt
    size = {name: int(dict(Page(page).elements[1][1])[name]) for name in ("width", "height")}
    assert picture.size == (size["width"], size["height"])


def test_tables_show_text_as_it_is_written(tokenizer):
    """Neighbours of a stranger's tokenizer, predictions over a stranger's texts and labels."""
    words = torch.eye(len(tokenizer))
    neighbours = Page(
        nearest_tokens(words[:4], words, tokenizer, k=2)._repr_html_().split("</style>")[-1]
    )
    assert neighbours.harmless()
    assert all(attack.replace(" ", "·") in neighbours.words for attack in ATTACKS)
    task = rows()
    split = task.test.map(
        lambda row: {"text": ATTACKS[0], "text_label": ATTACKS["ab".index(row["text_label"])]}
    )
    task = Task("attack", split, split, split, "text", tuple(ATTACKS[:2]), "{text}=")
    predictions = Page(evaluate(fresh(), task).predictions._repr_html_().split("</style>")[-1])
    assert predictions.harmless()
    assert predictions.words.count(ATTACKS[1]) > 2


def test_the_card_shows_text_as_it_is_written():
    """Markdown lets HTML through, so it is escaped there; a line break or a border of a table would end it early."""
    attack = f"{ATTACKS[0]}\n# A heading\n| a | `b`"
    config = PromptTuningConfig(
        2, token_dim=4, base_model_name_or_path=attack, prompt_tuning_init_text=attack
    )
    card = adapter_card(config, {attack: attack})
    front, body = card.split("\n---\n", 1)
    code = body.split("```")[1]
    assert attack not in card
    assert "'folder of the base model'" in code  # only what can be a model's name is named
    assert "<img" not in card
    assert "&lt;img src=x onerror=alert(1)&gt; # A heading \\| a \\| \\`b\\`" in body
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert headings == ["# A soft prompt", "## Measured", "### Framework versions"]
    assert front.splitlines()[1:] == [
        "library_name: peft",
        "pipeline_tag: text-generation",
        "tags:",
        "- transformers",
    ]


def test_only_frame_figures_cards_and_votes_write_html():
    """Whoever adds another place looks at this file first."""
    writes = re.compile(
        r"\b(HTML|Javascript|Markdown)\(|_repr_(html|markdown|javascript)_|to_html|escape=False|<img"
    )
    sources = [*ROOT.glob("softprompt_lab/**/*.py"), *ROOT.glob("notebooks/source/**/*.py")]
    found = {path.name for path in sources if writes.search(path.read_text(encoding="utf-8"))}
    assert len(sources) > 30
    assert found == {"ballot.py", "frame.py", "cards.py", "figure.py"}
