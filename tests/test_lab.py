"""`make lab` starts a server for this user on this machine: the loopback address, and nothing without its token."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = "00_one_model_many_jobs.ipynb"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("make") is None, reason="no make here"),
]


def _options() -> list[str]:
    """What `make lab` passes to `jupyter lab`, the notebook left out."""
    bare = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    recipe = subprocess.run(
        ["make", "-n", "lab", "NO_BROWSER=1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=bare,
        check=True,
    )
    (line,) = [line for line in recipe.stdout.splitlines() if "/jupyter lab" in line]
    command = shlex.split(line)
    assert command[1] == "lab"
    assert command[-1] == f"notebooks/{NOTEBOOK}"
    return command[2:-1]


@pytest.fixture
def server(tmp_path) -> Iterator[dict]:
    """What the server says of itself once it runs: process, address, token."""
    (tmp_path / NOTEBOOK).write_text(
        '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    )
    places = {
        f"JUPYTER_{name}_DIR": str(tmp_path / name.lower())
        for name in ("CONFIG", "DATA", "RUNTIME")
    }
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")
    } | places
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", *_options(), f"--port={port}", NOTEBOOK]
    with open(tmp_path / "lab.log", "w") as log:
        own = {"env": environment, "cwd": tmp_path, "start_new_session": True}
        process = subprocess.Popen(command, stdout=log, stderr=log, **own)
    try:
        yield _when_up(process, tmp_path, port)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _when_up(process: subprocess.Popen, folder: Path, port: int) -> dict:
    """The file that a running server writes for its user, once it answers."""
    for _ in range(600):
        assert process.poll() is None, (folder / "lab.log").read_text()
        for path in (folder / "runtime").glob("jpserver-*.json"):
            with (
                contextlib.suppress(OSError, ValueError),
                socket.create_connection(("127.0.0.1", port), 1),
            ):
                return json.loads(path.read_text())
        time.sleep(0.2)
    raise AssertionError((folder / "lab.log").read_text())


def _status(server: dict, path: str, token: str | None = None) -> int:
    """What the server answers, redirections not followed."""
    request = urllib.request.Request(f"http://127.0.0.1:{server['port']}/{path}")
    if token is not None:
        request.add_header("Authorization", f"token {token}")

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay).open(
            request, timeout=30
        ) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_make_labs_server_refuses_without_its_token(server):
    """Files, kernels and terminals: 403 or the login page for strangers, and nothing listens to other machines."""
    assert len(server["token"]) >= 32
    assert not server["password"]
    process = psutil.Process(server["pid"])
    listening = {
        found.laddr.ip for found in process.net_connections() if found.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    for path in (
        "api/contents",
        "api/kernels",
        "api/terminals",
        f"files/{NOTEBOOK}",
        f"lab/tree/{NOTEBOOK}",
    ):
        assert _status(server, path) in (302, 403), path
        assert _status(server, path, token="0" * 48) in (302, 403), path
        assert _status(server, path, token=server["token"]) == 200, path
