"""The explorer in JupyterLab, in a real browser: shown, moved by keyboard, changed."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

TESTS = Path(__file__).resolve().parent
SCREENSHOTS = TESTS / "screenshots"  # not for git: look at them after a run
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 180_000  # milliseconds: a busy machine starts a kernel in minutes
CELLS = [
    f"import sys; sys.path.insert(0, {str(TESTS)!r})",
    "from words import walk, word_tokenizer, word_vectors\n"
    "from softprompt_lab.widgets import NeighbourExplorer\n"
    "words = word_vectors(width=16)\n"
    "NeighbourExplorer(walk(words), words, word_tokenizer(), k=3)",
]
READY = """() => {
  const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
  const session = panel && panel.sessionContext;
  const kernel = session && session.isReady && session.session && session.session.kernel;
  return Boolean(kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle');
}"""

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]


def _free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_up(url: str, server: subprocess.Popen, seconds: float = 120) -> None:
    """Return when the server answers; fail with its exit code when it died."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, f"JupyterLab stopped with {server.returncode}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.5)
    pytest.fail(f"JupyterLab did not answer in {seconds} s")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """The address of a notebook in a JupyterLab of its own; stopped afterwards, its kernels too."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (tmp_path / "work").mkdir()
    nbformat.write(notebook, tmp_path / "work" / "explorer.ipynb")
    port, token = _free_port(), secrets.token_hex(16)
    places = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={tmp_path / 'work'}", "--LabApp.expose_app_in_browser=True"]
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | places, cwd=tmp_path, start_new_session=True
        )
        try:
            _wait_until_up(f"http://127.0.0.1:{port}/api/status?token={token}", server)
            yield f"http://127.0.0.1:{port}/lab/tree/explorer.ipynb?token={token}"
        finally:
            server.send_signal(signal.SIGINT)
            server.send_signal(signal.SIGINT)  # the second means yes
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """A page of Chromium with a profile of its own."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=shutil.which("chromium"),
            headless=True,
            args=CHROMIUM_FLAGS,
            viewport={"width": 1280, "height": 1100},
        )
        context.set_default_timeout(PATIENCE)
        yield context.pages[0]
        context.close()


def test_the_explorer_is_moved_by_keyboard(lab, page):
    SCREENSHOTS.mkdir(exist_ok=True)
    (SCREENSHOTS / ".gitignore").write_text("*\n")
    page.goto(lab)
    page.wait_for_function(READY)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    output = page.locator(".jp-OutputArea-output .widget-vbox").first
    table, picture = output.locator("table").first, output.locator("img")
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 300, "the picture must load"
    assert "Dots: cosine" in picture.get_attribute("alt")
    assert "prompt at step 40" in table.inner_text()
    page.screenshot(path=SCREENSHOTS / "explorer_at_the_end.png")
    before = picture.get_attribute("src")

    handle = output.locator(".widget-slider", has_text="training step").locator(".noUi-handle")
    handle.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    table.get_by_text("prompt at step 0").wait_for()
    assert picture.get_attribute("src") != before
    assert "the 1.00" in table.inner_text()

    output.get_by_label("metric").select_option("L2 distance")
    output.get_by_text("Mean L2 distance").wait_for()
    output.get_by_label("subtract the mean of the vocabulary").focus()
    page.keyboard.press("Space")
    output.get_by_text("L2 distance (centred)").wait_for()
    assert output.locator("[role=alert]").count() == 0
    page.screenshot(path=SCREENSHOTS / "explorer_at_the_start.png")
