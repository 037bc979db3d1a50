"""All instruments one after the other, and the page that holds them: HTML, or a notebook."""

import sys
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from .. import plots
from .section import INSTRUMENTS, Section, Subject

TITLE = "{name}: what did the vectors learn?"
BEFORE = (
    "Every instrument of `softprompt_lab.reading` on one trained prompt: its figure, its control, a sentence that is "
    "put together from the numbers, and what it does not show. Written by `softprompt-lab report`; run anew it takes "
    "under ten minutes on two cores."
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
    """What the prompt is, how well it does, and what is measured below."""
    run, trained = subject.run, subject.run.record["trained"]
    low, high = trained["confidence_interval"]
    config = run.model.prompt_config
    base = " at revision ".join(filter(None, (config.base_model_name_or_path, config.revision)))
    few = f", fewer than the {plots.FEWEST_ROWS} of a result" * (trained["n"] < plots.FEWEST_ROWS)
    if subject.enough:
        probes = f"their accuracies stand beside this: {subject.levels}"
    else:
        probes = f"they say how the loss changes and no accuracy, which takes {plots.FEWEST_ROWS}"
    return (
        f"{len(subject.prompt)} virtual tokens in front of {base}, trained on {run.task.name}: accuracy "
        f"{trained['accuracy']:.1%} on {trained['n']} test rows{few} (95 % interval {low:.1%} to {high:.1%}; always "
        f"the commonest answer {run.record['majority_baseline']:.1%}). The probes below measure each prompt on the "
        f"same {subject.rows} test rows: {probes}."
    )


def as_html(subject: Subject, done: Iterable[Section]) -> str:
    """The page as one HTML file, pictures inside, everything escaped."""
    folder = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    return folder.get_template("page.html").render(
        title=TITLE.format(name=subject.run.name),
        introduction=introduction(subject),
        sections=done,
    )


def as_notebook(subject: Subject, done: Iterable[Section]) -> NotebookNode:
    """The page as a notebook whose cells have been run: they make the same figures and sentences again."""
    loading = f"""from softprompt_lab import report

subject = report.subject_of("{subject.given}", limit={subject.limit})
print(report.introduction(subject))"""
    cells = [
        new_markdown_cell(f"# {TITLE.format(name=subject.run.name)}\n\n{BEFORE}"),
        new_code_cell(loading, outputs=[_printed(introduction(subject))]),
    ]
    for section in done:
        shown = new_output("display_data", data=section.figure._repr_mimebundle_()[0])
        cells += [
            new_markdown_cell(f"## {section.title}\n{section.question}"),
            new_code_cell(f"report.{section.name}(subject)", outputs=[shown, _printed(section)]),
        ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _printed(text: object) -> NotebookNode:
    """Return what a cell has printed."""
    return new_output("stream", name="stdout", text=f"{text}\n")
