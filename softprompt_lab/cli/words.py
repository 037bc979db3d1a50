"""What prompts of word skills make of a word, beside the bare base model."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import LabError
from ..evaluation import write_answers
from ..runs.saved import saved_run

BARE = "no prompt"
NEW_TOKENS = 8  # of an answer; the bare model's would go on
NAME, CELL, COLUMNS = 14, 17, 5  # characters of a name and of a cell; words side by side


def word_answers(
    folders: Sequence[Path], words: Sequence[str], base: Any = None, tokenizer: Any = None
) -> list[dict[str, Any]]:
    """Return what each prompt makes of each word, the bare base model last: skill, word, answer, trained_on.

    All rows are one batch: rows of a batch may stand behind different prompts, or behind none.

    Raises:
        LabError: there is no prompt, or they show a word in different templates.
    """
    runs = []
    for folder in folders:
        runs.append(saved_run(folder, base, tokenizer))
        base, tokenizer = runs[-1].model.base_model, runs[-1].model.tokenizer
    templates = sorted({run.task.template for run in runs})
    if len(templates) != 1:
        raise LabError(f"prompts of word skills with one template are needed, not {templates}.")
    prompts = [run.model.prompt.detach() for run in runs]
    prompts.append(prompts[0][:0])  # of the bare model
    model, task = runs[0].model, runs[0].task
    contexts = {word: task.encode(tokenizer, word)[0] for word in words}
    cells = [(number, word) for number in range(len(prompts)) for word in words]
    asked = [(number, contexts[word]) for number, word in cells]
    answers = write_answers(model, prompts, asked, tokenizer, NEW_TOKENS)
    skills = [*(run.name.removeprefix("words-") for run in runs), BARE]
    trained = [set(run.task.train.to_dict().get(run.task.text_column, [])) for run in runs]
    trained.append(set())
    return [
        {"skill": skills[n], "word": word, "answer": answer, "trained_on": word in trained[n]}
        for (n, word), answer in zip(cells, answers, strict=True)
    ]


def word_table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table: one for each skill, one column for each word; blocks where words are many."""
    cells = {(row["skill"], row["word"]): _cell(row) for row in rows}
    skills, words = (dict.fromkeys(row[name] for row in rows) for name in ("skill", "word"))
    for first in range(0, len(words), COLUMNS):
        block = [*words][first : first + COLUMNS]
        yield "".join([" " * NAME, *(_fit(word) for word in block)]).rstrip()
        for skill in skills:
            yield "".join([skill.ljust(NAME), *(cells[skill, word] for word in block)]).rstrip()
        yield ""
    yield "* a word of this skill's training rows, which the prompt may have remembered."


def _cell(row: dict[str, Any]) -> str:
    """Return an answer's first line, marked if its word is a training word."""
    (first, *_) = row["answer"].splitlines() or [""]
    return _fit(f"{first} *") if row["trained_on"] else _fit(first)


def _fit(text: str) -> str:
    """Return a text in the width of a cell, a long one cut."""
    short = text if len(text) < CELL else text[: CELL - 2] + "…"
    return short.ljust(CELL)
