"""Cards in a notebook's kernel: checks, hints and errors; everything else as IPython shows it."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from test_html import ATTACKS, Page

from softprompt_lab.cards import Card
from softprompt_lab.cards.errors import explanation

KINDS = ["passed", "failed", "not attempted", "stopped", "note"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_shows_text_as_it_is_written(kind):
    """In every part; what stands between backticks is code."""
    attack = " ".join(ATTACKS)
    table = pd.DataFrame({attack: [attack]})
    card = Card(attack, kind, attack, f"`{attack}` and `x`", attack, {attack: attack}, table)
    page = Page(card._repr_html_())
    assert {tag for tag, _ in page.elements} <= {
        *("style", "div", "strong", "span", "code", "details", "summary"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert not any(name.startswith("on") for _, given in page.elements for name in given)
    assert page.words.count(attack) == 7
    assert "<code>x</code>" in card._repr_html_()
    assert "open" not in dict(page.elements)["details"]  # folded
    assert repr(card) == attack


def test_kinds_of_cards_differ_by_icon_and_not_by_colour_alone():
    icons = [Card("", kind, "", "")._repr_html_().split('"true">')[1][0] for kind in KINDS]
    assert icons == ["✓", "✗", "○", "✗", "→"]


def test_only_our_errors_and_missing_names_of_cells_are_explained():
    """An error by its kind or by where it was raised; a name by whose code lacks it."""

    def raised(text: str, names: dict) -> BaseException:
        with pytest.raises(BaseException) as found:  # noqa: PT011
            exec(text, names)
        return found.value

    names = {"__name__": "__main__"}
    ours = raised("from softprompt_lab import *; PromptTuningConfig(num_virtual_tokens=0)", names)
    assert explanation(ours, names) == str(ours)
    assert explanation(
        raised("from softprompt_lab import LabError; raise LabError('x')", {}), names
    )
    missing = explanation(raised("prepend", names), names)
    assert missing.startswith("name 'prepend' is not defined. Run the cells above first")
    for text in ("1 / 0", "import json; json.loads('{')", "def f():\n x\n x = 1\nf()"):
        assert explanation(raised(text, names), names) is None
    assert explanation(raised("prepend", {"__name__": "other"}), names) is None
    interrupt = raised(
        "import softprompt_lab\nraise KeyboardInterrupt", {"__name__": "softprompt_lab.training"}
    )
    assert explanation(interrupt, names) is None


def executed(*cells: str, **options: object) -> list[list]:
    """The outputs of each cell of a notebook in a kernel of its own."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    manager = AsyncKernelManager(kernel_name="python3", transport_encryption="auto")
    manager.kernel_spec.argv[0] = sys.executable
    NotebookClient(notebook, km=manager, timeout=120, **options).execute(cleanup_kc=True)
    return [cell.outputs for cell in notebook.cells]


WRONG = "softprompt_lab.PromptTuningConfig(num_virtual_tokens=0)"
IN_ORDER = ["display_data", "error"]


def test_errors_in_a_kernel(monkeypatch):
    """One card and one line for ours, as %xmode has it, also for %tb; others as ever; no torch before it is needed."""
    monkeypatch.delenv("SOFTPROMPT_LAB_STRICT", raising=False)
    light, ours, again, name, theirs, mode, plain, twice, checked, unknown, ended = executed(
        "import sys, softprompt_lab; print('torch' in sys.modules)",
        WRONG,
        "%tb",
        "prepend",
        "1 / 0",
        "%xmode Minimal",
        WRONG,
        "import importlib; importlib.reload(softprompt_lab)\n" + WRONG,
        "from softprompt_lab import course\ndef stub(x, prompt):\n    ...\ncourse.check('02-1', stub)",
        "course.hint('02-9')",
        "print('for %debug:', type(sys.last_value), bool(sys.last_traceback))",
        allow_errors=True,
    )
    assert light[0].text == "False\n"
    message = "num_virtual_tokens=0; it must be a whole number of at least 1."
    for card, error in (ours, again, twice):
        assert [card.output_type, error.output_type] == IN_ORDER
        html = card.data["text/html"]
        assert html.index(message) < html.index("ValueError") < html.index("<details>")
        assert "\x1b" not in html
        assert error.traceback == [f"ValueError: {message}"]
        assert (error.ename, error.evalue) == ("ValueError", message)
    assert "most recent call last" in ours[0].data["text/html"].split("<details>")[1]
    assert [output.output_type for output in name] == IN_ORDER
    assert "Run All Above Selected Cell" in name[0].data["text/html"]
    (error,) = theirs
    assert len(error.traceback) > 3
    assert "most recent call last" not in plain[0].data["text/html"]
    assert mode
    (card,) = checked
    assert (
        card.data["text/plain"]
        == "02-1 not attempted yet. Write your answer above, then run this cell."
    )
    assert "<summary" in card.data["text/html"]
    (card,) = unknown
    assert "02-1, 02-2, 02-3, 02-4" in card.data["text/html"]
    assert ended[0].text == "for %debug: <class 'ValueError'> True\n"


def test_a_program_that_runs_a_notebook_hears_of_our_errors():
    """The message and the whole traceback; a cell may be tagged to raise."""
    with pytest.raises(CellExecutionError, match="num_virtual_tokens=0") as found:
        executed("import softprompt_lab", WRONG, "print('not reached')")
    assert "most recent call last" in str(found.value)


def test_a_terminal_shows_tracebacks_as_ever():
    """IPython without a kernel."""
    command = [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", "-c"]
    text = "import softprompt_lab; raise softprompt_lab.LabError('a sentence')"
    done = subprocess.run(
        [*command, text], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    shown = done.stdout + done.stderr
    assert "Traceback (most recent call last)" in shown
    assert "LabError: a sentence" in shown
    assert "<div" not in shown
