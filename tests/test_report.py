"""The page of all instruments: what it holds, that its sentences are the figures' numbers, and that it is harmless."""

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from softprompt_lab import evaluate, load_task, reading, report, train
from softprompt_lab.cli import commands as cli
from softprompt_lab.errors import LabError
from softprompt_lab.reading import OntoWords, TowardsText, comparison
from softprompt_lab.runs import saved as runs

TEXT = "What is the tone?"
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("report")]  # one subject for all


class Pictures(HTMLParser):
    """The headings and pictures of a page, and every address in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.images, self.headings, self.addresses, self.reading = [], [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.images += [attributes] if tag == "img" else []
        self.addresses += [attributes[name] for name in ("src", "href") if name in attributes]
        self.reading = tag == "h2"

    def handle_data(self, data):
        if self.reading:
            self.headings.append(data)
        self.reading = False


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> report.Subject:
    """Prompts of four tokens for tiny: two seeds of a skill, two other skills, one of words, two towards a text."""
    root = tmp_path_factory.mktemp("runs")
    made = [
        ("urgent-0", "urgent", 0, {}, {}),
        ("urgent-1", "urgent", 1, {}, {}),
        ("tone-0", "tone", 0, {}, {}),
        ("tone-1", "tone", 1, {}, {}),
        ("words", "urgent", 0, {"project": OntoWords()}, {"words": True}),
        (
            "way-0.1",
            "urgent",
            0,
            {"penalty": TowardsText(TEXT, 0.1)},
            {"towards": TEXT, "gamma": 0.1},
        ),
        (
            "way-10",
            "urgent",
            0,
            {"penalty": TowardsText(TEXT, 10.0)},
            {"towards": TEXT, "gamma": 10.0},
        ),
    ]
    for name, skill, seed, more, told in made:
        task = load_task("shop", label_column=skill)
        model = runs.new_model("tiny", task, virtual_tokens=4)
        before = evaluate(model, task, limit=8)
        history = train(
            model, task, steps=4, snapshot_every=2, batch_size=2, seed=seed, progress=False, **more
        )
        record = {"data": "shop", "label_column": skill, "start": "text", **told}
        runs.save_run(
            root / name, model, task, history, before, evaluate(model, task, limit=8), **record
        )
    others = [str(root / name) for name, *_ in made[1:]]
    return report.subject_of(str(root / made[0][0]), others, limit=4)


@pytest.fixture(scope="module")
def done(subject) -> list:
    return list(report.sections(subject))


def test_every_instrument_has_its_part(subject, done):
    """One for each function of the three parts; those that need other prompts too."""
    assert len(done) == len(report.instruments_for(subject)) == 18
    for section in done:
        name = section.name
        assert section.figure.alt, name
        assert section.shows.endswith("."), name
        assert section.control.endswith("."), name
        assert section.caution.endswith("."), name
        assert any(character.isdigit() for character in section.shows), (
            f"{name} says nothing that was measured"
        )
        assert "nan" not in section.shows, name
        assert section.question.endswith("?"), name


def test_who_stands_beside(subject):
    assert subject.other_seed.name == "urgent-1"
    assert list(subject.family.prompts) == ["urgent-0", "urgent-1", "tone-0", "tone-1"]
    assert subject.of_words.name == "words"
    assert list(subject.wayward) == [0.1, 10.0]
    alone = report.Subject(subject.run, {}, 4)
    assert len(report.instruments_for(alone)) == 14


def test_the_sentences_are_the_numbers_of_the_tables(subject, done):
    """Of three instruments, computed here."""
    said = {section.title: section.shows for section in done}
    run = subject.run
    table = reading.discretisation_gap(
        run.model, run.task, start=subject.start, split="test", limit=4
    )
    rows = table.drop_duplicates("kind").set_index("kind")
    gap = rows.loc["prompt's words", "loss_gap"]
    assert f"loss changes by {gap:+.2f} nats on 4 rows" in said["Discretisation gap"]
    movement = np.median((subject.prompt - subject.start).norm(dim=-1))
    assert f"is {movement:.2f} away from its start" in said["Movement"]
    mean = subject.prompt.norm(dim=-1).mean()
    assert f"to {mean:.2f};" in said["Norms"]


def test_an_accuracy_is_said_of_200_rows_beside_the_majority(subject, done):
    """Of fewer none, not even a change of one."""
    few = [section for section in done if section.name.startswith("probes.")]
    assert not [section.shows for section in few if "accuracy" in section.shows]
    assert "say how the loss changes and no accuracy" in report.introduction(subject)
    enough = report.Subject(subject.run, {}, 200, subject.given)
    labels, task = enough.run.task.test["text_label"][:200], enough.run.task
    commonest = max({*task.train["text_label"]}, key=[*task.train["text_label"]].count)
    majority = sum(label == commonest for label in labels) / 200
    beside = f"always the commonest answer {majority:.0%}"
    assert beside in report.introduction(enough)
    table = enough.measure(reading.discretisation_gap, start=enough.start, draws=1)
    rows = table.drop_duplicates("kind").set_index("kind")["accuracy"]
    whole, words = rows["prompt"], rows["prompt's words"]
    assert (
        f"from {whole:.0%} to {words:.0%} ({beside})" in report.probes.discretisation(enough).shows
    )


def test_no_prompt_is_measured_twice(subject, monkeypatch):
    """Neither for two instruments nor for two kinds of one of them."""
    measured = []

    def counted(model, task, split, *, prompts, limit):
        measured.extend(prompts.values())
        return evaluate(model, task, split, prompts=prompts, limit=limit)

    monkeypatch.setattr(comparison, "evaluate", counted)
    fresh = report.Subject(subject.run, subject.others, 2, subject.given)
    report.probes.scaling(fresh)
    first = len(measured)
    report.probes.scaling(fresh)
    report.probes.shuffling(fresh)
    assert (
        len(measured) == first + 9
    )  # the start, four orders of two; not the prompt, not no prompt
    numbers = {tuple(prompt.flatten().tolist()) for prompt in measured}
    assert len(numbers) == len(measured)


def test_the_html_page_holds_every_figure_with_its_alt_text_and_asks_no_server(subject, done):
    page = Pictures(report.as_html(subject, done))
    assert [image["alt"] for image in page.images] == [section.figure.alt for section in done]
    assert page.headings == [section.title for section in done]
    for image in page.images:
        data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(data)).width > 300
    assert all(address.startswith(("data:image/png", "#instrument-")) for address in page.addresses)


def test_what_a_stranger_wrote_is_escaped(subject, done):
    attack = "<script>alert(1)</script>"
    harmed = report.Section("name", attack, done[0].figure, *[attack] * 4)
    assert attack not in report.as_html(subject, [harmed])


def test_the_notebook_makes_the_same_again(subject, done):
    """Each cell is run here as a kernel would; it says what the page says."""
    notebook = report.as_notebook(subject, done[:2])
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 3
    for cell, section in zip(code[1:], done, strict=False):
        again = eval(cell.source, {"report": report, "subject": subject})
        assert str(again) == str(section)
        (image,) = Pictures(cell.outputs[0]["data"]["text/html"]).images
        assert image["alt"] == section.figure.alt
        assert cell.outputs[1]["text"] == f"{section}\n"


def test_the_command_writes_both(subject, tmp_path, monkeypatch):
    few = dict(list(report.page.INSTRUMENTS.items())[:2])
    monkeypatch.setattr(report.page, "INSTRUMENTS", few)
    runner, folder = CliRunner(), subject.given
    outputs = [
        part for name in ("page.html", "page.ipynb") for part in ("--output", str(tmp_path / name))
    ]
    result = runner.invoke(cli.app, ["report", folder, *outputs, "--limit", "4"])
    assert result.exit_code == 0, result.output
    assert len(Pictures((tmp_path / "page.html").read_text(encoding="utf-8")).images) == 2
    assert (
        len(json.loads((tmp_path / "page.ipynb").read_text(encoding="utf-8"))["cells"]) == 2 + 2 * 2
    )
    refused = runner.invoke(cli.app, ["report", folder, "--output", str(tmp_path / "page.pdf")])
    assert refused.exit_code == 1
    assert "must end in .html or .ipynb" in refused.stderr


def test_a_prompt_without_its_start_or_figures_is_refused(subject, tmp_path):
    subject.run.model.save_pretrained(tmp_path / "bare")
    (tmp_path / "bare" / "task.json").write_text(
        json.dumps(
            {"name": "x", "text_column": "text", "template": "{text}", "labels": ["a", "b"]}
        ),
        encoding="utf-8",
    )
    with pytest.raises(LabError, match="lacks its start"):
        report.subject_of(str(tmp_path / "bare"))


@pytest.mark.smollm2
def test_the_notebook_of_the_zoo_is_the_one_that_the_command_writes():
    """Its cells, and what the quick ones of them say."""
    path = Path(__file__).parents[1] / "notebooks" / "every_instrument.ipynb"
    kept = nbformat.read(path, as_version=4)
    first = next(cell for cell in kept.cells if cell.cell_type == "code")
    space = {}
    exec(first.source, space)
    subject = space["subject"]
    quick = [
        instrument
        for instrument in report.instruments_for(subject)
        if instrument.__module__.endswith("vectors")
    ]
    expected = report.as_notebook(subject, [instrument(subject) for instrument in quick])
    sources = [cell.source for cell in kept.cells]
    assert [cell.source for cell in expected.cells] == sources[: len(expected.cells)]
    for ours, theirs in zip(expected.cells, kept.cells, strict=False):
        if ours.cell_type == "code":
            assert ours.outputs[-1]["text"] == theirs.outputs[-1]["text"]
    assert len([source for source in sources if source.endswith("(subject)")]) == len(
        report.instruments_for(subject)
    )
