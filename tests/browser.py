"""A JupyterLab of its own, and notebooks opened in Chromium: what the tests of widgets share."""

import contextlib
import json
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
READY = """() => {
  const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
  const session = panel && panel.sessionContext;
  const kernel = session && session.isReady && session.session && session.session.kernel;
  return Boolean(kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle');
}"""


class Lab:
    """A running JupyterLab and a browser: `run` opens a notebook of some cells and executes them."""

    def __init__(self, folder: Path, port: int, token: str, browser: Any) -> None:
        self.folder, self.address, self.token, self.browser = (
            folder,
            f"http://127.0.0.1:{port}",
            token,
            browser,
        )

    def run(self, name: str, *cells: str) -> Any:
        """A page on a new notebook whose cells have been started; `tests/` is on the kernel's path."""
        cells = (f"import sys; sys.path.insert(0, {str(TESTS)!r})", *cells)
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells]
        )
        notebook.metadata.kernelspec = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, self.folder / f"{name}.ipynb")
        page = self.open(name)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        return page

    def open(self, name: str) -> Any:
        """A page on a notebook of the folder, with a new kernel."""
        page = self.browser.new_page()
        page.goto(f"{self.address}/lab/tree/{name}.ipynb?token={self.token}&reset")
        page.wait_for_function(READY)
        return page

    def shut_kernels_down(self) -> None:
        """End every kernel: a test's threads and memory do not live on in the next."""
        key = {"Authorization": f"token {self.token}"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.address}/api/sessions", headers=key)
        ) as answer:
            sessions = [session["id"] for session in json.load(answer)]
        for session in sessions:
            end = urllib.request.Request(
                f"{self.address}/api/sessions/{session}", headers=key, method="DELETE"
            )
            urllib.request.urlopen(end).close()


def widget_of(page: Any) -> Any:
    """The first widget on a page, when its picture is there and has loaded."""
    widget = page.locator(".jp-OutputArea-output .widget-vbox").first
    picture = widget.locator("img").first
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300, (
        "the picture must load"
    )
    return widget


def picture_of(widget: Any) -> str:
    """What a widget's picture shows now."""
    return widget.locator("img").first.get_attribute("src")


def wait_for_another_picture(page: Any, widget: Any, before: str) -> None:
    """Return when the widget shows another picture than before; fail when it does not."""
    page.wait_for_function(
        """([widget, before]) => {
          const image = widget.querySelector('img');  // a new element for each picture
          return image && image.getAttribute('src') !== before;
        }""",
        arg=[widget.element_handle(), before],
    )


def keep(page: Any, name: str) -> None:
    """Put a screenshot where somebody can look at it."""
    SCREENSHOTS.mkdir(exist_ok=True)
    (SCREENSHOTS / ".gitignore").write_text("*\n")
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


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


@contextlib.contextmanager
def lab_server(folder: Path) -> Iterator[tuple[Path, int, str]]:
    """Its working folder, port and token; stopped afterwards, its kernels too."""
    (folder / "work").mkdir()
    port, token = _free_port(), secrets.token_hex(16)
    places = {
        f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={folder / 'work'}", "--LabApp.expose_app_in_browser=True"]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=os.environ | places,
            cwd=folder,
            start_new_session=True,
        )
        try:
            _wait_until_up(f"http://127.0.0.1:{port}/api/status?token={token}", server)
            yield folder / "work", port, token
        finally:
            server.send_signal(signal.SIGINT)
            server.send_signal(signal.SIGINT)  # the second means yes
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """Chromium with a profile of its own."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            str(folder / "profile"),
            executable_path=shutil.which("chromium"),
            headless=True,
            args=CHROMIUM_FLAGS,
            viewport={"width": 1280, "height": 1100},
        )
        context.set_default_timeout(PATIENCE)
        yield context
        context.close()


HEIGHT = 620  # pixels of a widget at 1366 x 768: picture and controls on one screen
CUT_OFF = """widget => [...widget.querySelectorAll('*')].filter(part => {
  const style = getComputedStyle(part);
  const hidden = part.scrollWidth > part.clientWidth + 1 && part.clientWidth > 0 && style.overflowX === 'hidden';
  const pane = widget.closest('.jp-OutputArea-output').getBoundingClientRect();
  const beyond = part.matches('.softprompt-tables, .softprompt-controls, .softprompt-scroll')
    && part.getBoundingClientRect().right > pane.right + 1;  // what scrolls must scroll within the pane
  return (hidden || beyond) && style.display !== 'inline' && !part.matches('option, select');
}).map(part => `${part.tagName}.${part.className}: ${part.textContent.slice(0, 60)}`)"""


def assert_fits(page: Any, widget: Any) -> None:
    """Check that picture and controls are on one screen, nothing is cut off, and every control has a name."""
    from axe_playwright_python.sync_playwright import Axe

    before = page.viewport_size
    for width in (1366, 1024):
        page.set_viewport_size({"width": width, "height": 768})
        page.wait_for_timeout(300)
        parts = [widget, *widget.locator("img, .softprompt-controls").all()]
        boxes = [part.bounding_box() for part in parts if part.is_visible()]
        tops, ends = [box["y"] for box in boxes], [box["y"] + box["height"] for box in boxes]
        assert max(ends) - min(tops) <= HEIGHT, f"{max(ends) - min(tops)} px at {width}"
        assert not (cut := widget.evaluate(CUT_OFF)), f"cut off at {width}: {cut}"
    rules = {"runOnly": ["wcag2a", "wcag2aa"]}
    found = Axe().run(page, context=".softprompt-live", options=rules).response["violations"]
    said = [(each["id"], node["html"][:200]) for each in found for node in each["nodes"]]
    assert not said, said
    page.set_viewport_size(before)
