"""All instruments one after the other, and the page that holds them: HTML, or a notebook."""

import sys
from collections.abc import Callable, Iterator, Sequence
from math import isnan
from operator import attrgetter
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from .. import plots, reading
from .section import INSTRUMENTS, LINK, Mark, Section, Subject

TITLE = "{name}: what did the vectors learn?"
BEFORE = (
    "Every instrument of `softprompt_lab.reading` on one trained prompt: its figure, its control, whether that is "
    "beaten, a sentence that is put together from the numbers, and what it does not show. Written by "
    "`softprompt-lab report`; run anew it takes under ten minutes on two cores."
)


def instruments_for(subject: Subject) -> list[Callable[[Subject], Section]]:
    """Return every instrument that this prompt, and the others beside it, allow."""
    names = [
        name for name, texts in INSTRUMENTS.items() if getattr(subject, texts.get("needs", "run"))
    ]
    return [attrgetter(name)(sys.modules[__package__]) for name in names]


def sections(subject: Subject) -> Iterator[Section]:
    """What each of them says, one after the other as they are computed."""
    for instrument in instruments_for(subject):
        yield instrument(subject)


def introduction(subject: Subject) -> str:
    """What the prompt is, and what is measured below."""
    run, config = subject.run, subject.run.model.prompt_config
    base = " at revision ".join(filter(None, (config.base_model_name_or_path, config.revision)))
    if subject.enough:
        probes = f"their accuracies stand beside this: {subject.levels}"
    else:
        probes = f"they say how the loss changes and no accuracy, which takes {plots.FEWEST_ROWS}"
    return (
        f"{len(subject.prompt)} virtual tokens in front of {base}, trained on {run.task.name}. The probes "
        f"below measure each prompt on the same {subject.rows} test rows: {probes}."
    )


def findings(subject: Subject, done: Sequence[Section]) -> list[str]:
    """Three sentences: how well the prompt does, what goes beyond the controls, and what the rest cannot tell."""
    of = {mark: [section for section in done if section.mark is mark] for mark in Mark}
    beating, short = of[Mark.BEATS], ", ".join(section.title for section in of[Mark.SHORT])
    counts = [
        f"{len(of[Mark.SHORT])} do not beat their control" + f" ({short})" * bool(short),
        f"{len(of[Mark.DESCRIBES])} only describe",
        f"{len(of[Mark.FEW])} are asked of fewer than {plots.FEWEST_ROWS} rows.",
    ]
    said = f"{len(beating)} beat their control: {'; '.join(each.says for each in beating)}"
    return [
        accuracy(subject),
        f"Of {len(done)} instruments {said if beating else 'none beats its control'}.",
        f"The other {len(done) - len(beating)} prove nothing: {', '.join(counts)}",
    ]


def accuracy(subject: Subject) -> str:
    """Return how well the prompt does, beside always the commonest answer and one human rater, as a sentence."""
    record, trained = subject.run.record, subject.run.record["trained"]
    (low, high), majority = trained["confidence_interval"], record["majority_baseline"]
    above, below = low > majority, high < majority
    verdict = "more than" if above else "less than" if below else "not clearly more than"
    few = f", fewer than the {plots.FEWEST_ROWS} of a result" * (trained["n"] < plots.FEWEST_ROWS)
    human = reading.levels(subject.run.task, "test", trained["n"])["ceiling"]
    rater = "" if isnan(human) else f"; one human rater reaches {human:.1%}"
    return (
        f"With this prompt the model answers {trained['accuracy']:.1%} of {trained['n']} test rows correctly{few} "
        f"(95 % interval {low:.1%} to {high:.1%}), {verdict} the commonest answer alone, {majority:.1%}{rater}."
    )


def as_html(subject: Subject, done: Sequence[Section]) -> str:
    """The page as one HTML file, pictures inside, everything escaped."""
    folder = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    return folder.get_template("page.html").render(
        title=TITLE.format(name=subject.run.name),
        findings=findings(subject, done),
        introduction=introduction(subject),
        sections=done,
        here=[f"#{section.name}" for section in done],
        split=LINK.split,
    )


def as_notebook(subject: Subject, done: Sequence[Section]) -> NotebookNode:
    """The page as a notebook whose cells have been run: they make the same figures and sentences again."""
    loading = f"""from softprompt_lab import report

subject = report.subject_of("{subject.given}", limit={subject.limit})
print(report.introduction(subject))"""
    found = "\n".join(f"- {sentence}" for sentence in findings(subject, done))
    contents = "\n".join(
        f"1. [{each.title}](<#{each.title.replace(' ', '-')}>): **{each.mark.value}**. {each.question}"
        for each in done
    )
    cells = [
        new_markdown_cell(f"# {TITLE.format(name=subject.run.name)}\n\n{BEFORE}"),
        new_markdown_cell(f"## Findings\n{found}\n\n## Instruments\n{contents}"),
        new_code_cell(loading, outputs=[_printed(introduction(subject))]),
    ]
    for section in done:
        shown = new_output("display_data", data=section.figure._repr_mimebundle_()[0])
        source = f"\n\nSource: {section.source}." * bool(section.source)
        cells += [
            new_markdown_cell(f"## {section.title}\n{section.question}{source}"),
            new_code_cell(f"report.{section.name}(subject)", outputs=[shown, _printed(section)]),
        ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _printed(text: object) -> NotebookNode:
    """Return what a cell has printed."""
    return new_output("stream", name="stdout", text=f"{text}\n")
