"""Prompts on a model hub: huggingface_hub itself, in a process of its own, against a stand-in for the hub."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_stand_in import TOKEN, Hub, hub
from safetensors.torch import save
from test_hostile import Bomb

from softprompt_lab import AdapterError, PromptTuningConfig, load_adapter
from softprompt_lab.config import CONFIG_NAME
from softprompt_lab.saving import MAX_TENSOR_BYTES, PICKLE_NAME, SAFE_NAME

TESTS = Path(__file__).parent
CARD = "README.md"
CONFIG = PromptTuningConfig(3, token_dim=32).to_json().encode()
WEIGHTS = save({"prompt_embeddings": torch.ones(3, 32)})


def pickled() -> bytes:
    """Weights that would call something."""
    buffer = io.BytesIO()
    torch.save({"prompt_embeddings": Bomb()}, buffer)
    return buffer.getvalue()


# A process of its own, which asks the stand-in once for all.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hub")]


@pytest.fixture(scope="module")
def visited(tmp_path_factory) -> tuple[Hub, dict]:
    """The hub after a visit, and what the visitor said."""
    home, work = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("work")
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))
    }
    with hub() as server:
        server.commit(
            "me/empty", "main", {"notes.txt": b"no adapter", "deep/in/adapter_config.json": CONFIG}
        )
        server.commit("me/pickled", "main", {CONFIG_NAME: CONFIG, PICKLE_NAME: pickled()})
        server.commit(
            "me/bad",
            "main",
            {CONFIG_NAME: CONFIG.replace(b"32", b"8"), SAFE_NAME: WEIGHTS, "code.py": b"1"},
        )
        server.commit("me/large", "main", {CONFIG_NAME: CONFIG, SAFE_NAME: WEIGHTS})
        server.sizes["me/large", SAFE_NAME] = MAX_TENSOR_BYTES + 1
        place = {
            "HF_ENDPOINT": server.address,
            "HF_HOME": str(home),
            "NO_PROXY": "127.0.0.1,localhost",
        }
        place["PYTHONPATH"] = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        options = {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, str(TESTS / "hub_visit.py")]
        done = subprocess.run(
            command, env=kept | place | options, cwd=work, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return server, json.loads(done.stdout.splitlines()[-1])


def test_a_push_is_one_commit_of_every_prompt(visited):
    """The files that `save_pretrained` writes, large ones through the store, in one commit; a branch is made."""
    server, said = visited
    assert said["first"].startswith(f"{server.address}/me/prompt/commit/")
    files = server.repositories["me/prompt"][said["first"].split("/")[-1]]
    assert set(files) == {
        f"{folder}{name}" for folder in ("", "mail/") for name in (CONFIG_NAME, SAFE_NAME, CARD)
    }
    assert b"| accuracy | 0.9 |" in files[CARD]
    assert b"/home/somebody" not in files[CARD]  # a hub refuses a card that names such a base model
    assert server.heads["me/prompt", "other"] == said["other"].split("/")[-1]
    assert sum(line.startswith("PUT /store/") for line in server.requests) == 4


def test_what_was_pushed_comes_back_also_to_peft(visited):
    """Equal logits; another branch, the newest commit, an older one by its name."""
    _, said = visited
    assert said["same"]
    assert said["peft"]
    assert said["fetched"] == {"default": 0.25, "mail": 0.5}
    assert said["branch"] == 0.75
    assert said["later"] == {"default": 0.125, "mail": 0.5}
    assert said["then"] == {"default": 0.25}


def test_only_an_adapters_files_are_fetched(visited):
    """No code, no folder below a folder, nothing of a file that is said to be large."""
    server, said = visited
    asked = [line.split("/resolve/")[1] for line in server.requests if "/resolve/" in line]
    got = {line.split("/", 1)[1] for line in asked}
    assert got == {CONFIG_NAME, SAFE_NAME, PICKLE_NAME, f"mail/{CONFIG_NAME}", f"mail/{SAFE_NAME}"}
    assert not any("/me/large/resolve/" in line for line in server.requests)
    most = f"has {MAX_TENSOR_BYTES + 1} bytes; at most {MAX_TENSOR_BYTES:,} are brought."
    assert said["large"] == f"me/large: {SAFE_NAME} {most}"
    assert said["left"] == []  # nothing is left behind where the visitor stood


def test_what_comes_is_a_strangers_folder(visited):
    """The same checks as for a folder on this machine."""
    _, said = visited
    assert "was refused, and nothing in it was run" in said["pickled"]
    assert "has shape (3, 32); the configuration says (3, 8)" in said["bad"]
    assert "me/empty on the hub holds no adapter" in said["empty"]


def test_errors_say_what_is_wrong_and_what_to_do(visited):
    """No such repository or revision, no token, no network; a mistyped path asks nobody."""
    server, said = visited
    assert (
        "There is no folder 'me/missing' here, and the hub does not give a repository"
        in said["missing"]
    )
    assert "Revision Not Found" in said["revision"]
    assert "Nothing was sent to 'me/forbidden'" in said["no token"]
    assert "`hf auth login`" in said["no token"]
    assert "There is no folder 'me/away' here" in said["no network"]
    assert "carry the folder over" in said["no network"]
    assert "Nothing was sent to 'me/away'" in said["nowhere to send"]
    assert said["path"].startswith("me/local is no folder")
    assert said["beside"].startswith("here/local is no folder")
    assert "a revision is for a hub id" in said["folder with a revision"]
    assert not any("local" in line or "away" in line for line in server.requests)


@pytest.mark.parametrize(
    "source", ["mistyped", "./me/prompt", "/me/prompt", "a/b/c", "me/", "../me/prompt", "me\\x"]
)
def test_what_cannot_be_a_repository_is_a_path(source):
    """No network is asked."""
    with pytest.raises(
        AdapterError, match="is no folder; give the one that an adapter was saved to"
    ):
        load_adapter(source)


def test_offline_the_hub_is_not_asked():
    """HF_HUB_OFFLINE is set in these tests: the message says so, and what else would do."""
    with pytest.raises(
        AdapterError, match=r"no folder 'me/prompt' here.*HF_HUB_OFFLINE.*carry the folder over"
    ):
        load_adapter("me/prompt")


def test_a_folder_is_a_folder_although_it_could_be_a_repository(tmp_path, monkeypatch):
    """What lies here comes first."""
    monkeypatch.chdir(tmp_path)
    for name, content in ((CONFIG_NAME, CONFIG), (SAFE_NAME, WEIGHTS)):
        (tmp_path / "me" / "prompt").mkdir(parents=True, exist_ok=True)
        (tmp_path / "me" / "prompt" / name).write_bytes(content)
    assert torch.equal(load_adapter("me/prompt")[1], torch.ones(3, 32))
