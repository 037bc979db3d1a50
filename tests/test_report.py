"""The page of all instruments: what it holds, that its sentences are the figures' numbers, and that it is harmless."""

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from browser import chromium, keep
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
        self.tags, self.names = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.names += [attributes["id"]] if "id" in attributes else []
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
    assert page.headings == ["Findings", "Instruments", *(section.title for section in done)]
    for image in page.images:
        data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(data)).width > 300
    loaded = [attributes for tag, attributes in page.tags if tag != "a" and "href" in attributes]
    assert not loaded
    links = [address for address in page.addresses if not address.startswith("data:image/png")]
    papers = [address for address in links if address.startswith("https://arxiv.org/abs/")]
    assert len(papers) == sum(section.source.count("](") for section in done) > 8
    assert {link[1:] for link in links if link not in papers} <= {*page.names}


def test_the_page_has_a_language_landmarks_and_links_to_what_is_on_it(subject, done):
    """A section that other texts point to may be missing: its name is then no link."""
    page = Pictures(report.as_html(subject, done))
    assert ("html", {"lang": "en"}) in page.tags
    tags = [tag for tag, _ in page.tags]
    assert [tags.count(tag) for tag in ("h1", "header", "main", "nav", "footer", "script")] == [
        *[1] * 5,
        0,
    ]
    assert "#probes.search" in page.addresses
    few = [section for section in done if section.name != "probes.search"]
    html = report.as_html(subject, few)
    assert "#probes.search" not in html
    assert "the search for words tries." in " ".join(html.split())
    assert "](" not in html
    assert "](" not in "".join(map(str, done))


def test_every_instrument_has_a_mark_with_its_rule_and_the_findings_count_them(subject, done):
    """On four rows nothing that is measured on rows has one."""
    marks = {section.name: section.mark for section in done}
    judged = {
        name for name, mark in marks.items() if mark in (report.Mark.BEATS, report.Mark.SHORT)
    }
    assert judged == {
        "vectors.neighbours",
        "vectors.way",
        "vectors.way_in_words",
        "inside.read_back",
        "beside.similarity",
    }
    assert all(section.rule.endswith(".") for section in done)
    assert all(section.says for section in done if marks[section.name] is report.Mark.BEATS)
    html = report.as_html(subject, done)
    for section in done:
        assert html.count(f'href="#{section.name}">{section.title}</a>') == 1
    for mark in report.Mark:
        assert html.count(mark.value) == 2 * [*marks.values()].count(mark)
    first, second, third = report.findings(subject, done)
    beating = [section for section in done if section.mark is report.Mark.BEATS]
    assert second.startswith(f"Of 18 instruments {len(beating)} beat their control: ")
    assert all(section.says in second for section in beating)
    assert third.startswith(f"The other {18 - len(beating)} prove nothing: ")
    assert "of 8 test rows correctly, fewer than the 200 of a result (95 % interval" in first
    accuracy = subject.run.record["trained"]["accuracy"]
    assert f"answers {accuracy:.1%} of 8" in first


@pytest.mark.parametrize(
    ("interval", "said"),
    [((0.6, 0.9), " more than"), ((0.4, 0.6), "not clearly more than"), ((0.1, 0.4), "less than")],
)
def test_the_first_finding_stands_beside_the_commonest_answer(subject, interval, said):
    trained = {"accuracy": 0.5, "n": 200, "confidence_interval": interval}
    record = subject.run.record | {"trained": trained, "majority_baseline": 0.5}
    other = report.Subject(replace(subject.run, record=record), {}, 4)
    assert f"), {said.strip()} the commonest answer alone, 50.0%." in report.findings(other, [])[0]


def test_marks_follow_their_rules(subject):
    """Of instruments on 200 rows and on the vectors, with loops one can read."""
    beats, short = report.Mark.BEATS, report.Mark.SHORT
    fresh = report.Subject(subject.run, subject.others, 200, subject.given)
    table = fresh.measure(reading.discretisation_gap, start=fresh.start, draws=1)
    words = table[table["kind"] == "prompt's words"].iloc[0]
    expected = beats if words["loss_gap_low"] > 0 else short
    assert report.probes.discretisation(fresh).mark is expected
    table = fresh.measure(reading.shuffling, times=3, start=fresh.start, draws=0)
    rows = [row for row in table.itertuples() if row.name != "as trained"]
    lost = max(row.loss_change for row in rows if row.kind == "start")
    beaten = all(row.loss_low > max(0, lost) for row in rows if row.kind == "prompt")
    assert report.probes.shuffling(fresh).mark is (beats if beaten else short)
    table = fresh.measure(reading.ablation, draws=1, parts=["without one"])
    low = {(row.kind, row.virtual_token): row.loss_low for row in table.itertuples()}
    needed = sum(min(low[kind, place] for kind in ("prompt", "random")) > 0 for place in range(4))
    assert report.probes.ablation(fresh).mark is (beats if needed > 2 else short)

    way, end = fresh.run.snapshots, max(fresh.run.snapshots)
    walks = [reading.random_walk_control(way, draw)[end] for draw in range(19)]
    moved = [
        (walk - way[0].float()).norm(dim=1).quantile(0.5) for walk in [way[end].float(), *walks]
    ]
    expected = beats if moved[0] > max(moved[1:]) else short
    assert report.vectors.way(fresh).mark is expected
    still = report.Subject(  # after no step nothing has moved, and no control is beaten
        replace(fresh.run, snapshots={0: way[0], 1: way[0].clone()}), {}, 200
    )
    assert [report.vectors.way(still).mark, report.vectors.way_in_words(still).mark] == [short] * 2
    assert report.vectors.neighbours(still).mark is short


def test_what_a_mark_takes():
    """Rows as of an accuracy, and a control that is beaten."""
    assert report.Mark.of(True, 199) is report.Mark.of(False, 199) is report.Mark.FEW
    assert report.Mark.of(torch.tensor(True), 200) is report.Mark.BEATS
    assert report.Mark.of(np.bool_(False)) is report.Mark.SHORT


@pytest.mark.browser
def test_the_page_on_a_phone_by_keyboard_and_in_the_dark(subject, done, tmp_path):
    """Nothing wider than the screen, figures that keep their letters, one that fills the screen and closes."""
    path = tmp_path / "page.html"
    path.write_text(report.as_html(subject, done), encoding="utf-8")
    with chromium(tmp_path) as browser:
        page = browser.new_page()
        page.goto(f"file://{path}")
        for width in (1366, 1024, 400):
            page.set_viewport_size({"width": width, "height": 768})
            assert page.evaluate("document.documentElement.scrollWidth") == width
        figure = page.locator("figure").nth(5)
        assert figure.locator("img").bounding_box()["width"] >= 600
        assert figure.evaluate("each => each.scrollWidth > each.clientWidth")
        figure.locator("a:has(img)").focus()
        page.keyboard.press("Enter")
        close = figure.get_by_role("link", name="Close the figure")
        close.wait_for()
        assert figure.bounding_box() == {"x": 0, "y": 0, "width": 400, "height": 768}
        keep(page, "report_enlarged")
        close.focus()
        page.keyboard.press("Enter")
        close.wait_for(state="hidden")
        assert page.url.endswith("#probes.discretisation")
        page.emulate_media(color_scheme="dark")
        keep(page, "report_in_the_dark")
        shades = "getComputedStyle(document.body)"
        assert page.evaluate(f"[{shades}.color, {shades}.backgroundColor]") == [
            "rgb(238, 238, 238)",
            "rgb(20, 20, 20)",  # and so are the whites of a figure
        ]


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
    found = notebook.cells[1].source
    assert all(f"- {sentence}" in found for sentence in report.findings(subject, done[:2]))
    assert f"[Nearest words](<#Nearest-words>): **{done[0].mark.value}**" in found
    assert "[arXiv 2112.08348](https://arxiv.org/abs/2112.08348)" in notebook.cells[3].source
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
        len(json.loads((tmp_path / "page.ipynb").read_text(encoding="utf-8"))["cells"]) == 3 + 2 * 2
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
    findings = 1  # they are of all instruments
    shown = [cell.source for cell in expected.cells]
    assert shown[:findings] + shown[findings + 1 :] == [
        source for number, source in enumerate(sources[: len(shown)]) if number != findings
    ]
    assert sources[findings].startswith("## Findings\n- With this prompt the model answers 94.0%")
    for ours, theirs in zip(expected.cells, kept.cells, strict=False):
        if ours.cell_type == "code":
            assert ours.outputs[-1]["text"] == theirs.outputs[-1]["text"]
    assert len([source for source in sources if source.endswith("(subject)")]) == len(
        report.instruments_for(subject)
    )
