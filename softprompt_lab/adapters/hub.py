"""A model hub, where there is a network: an adapter's files brought to a plain folder, and a folder sent there.

Which hub, with whose token and through which proxy is huggingface_hub's business (HF_ENDPOINT, HF_TOKEN,
HF_HUB_OFFLINE). What comes from it is a stranger's folder and is read as one.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import PROMPT_NAME
from ..errors import AdapterError

if TYPE_CHECKING:
    from ..model import SoftPromptModel

REPO_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
SECONDS = 20  # to wait for the list of a repository's files


@contextmanager
def local_folder(
    source: str | Path,
    revision: str | None,
    most_bytes: Mapping[str, int],
    sub_folders: bool = False,
) -> Iterator[Path]:
    """The folder that `source` names: on this machine, or brought from the hub for as long as it is read.

    A string `user/name` that is no folder here is looked up on the hub, unless there is a folder `user`: then it is
    taken for a mistyped path. A `Path` is never looked up, and a `revision` always.

    Args:
        most_bytes: the files that are brought, by name, and how large each may be.
        sub_folders: bring them from the repository's folders too.

    Raises:
        AdapterError: there is no such folder, no network or no such repository, or a file is too large.
    """
    if not _on_hub(source, revision):
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(prefix="softprompt-lab-") as temporary:
        _bring(str(source), revision, most_bytes, sub_folders, Path(temporary))
        yield Path(temporary)


def _on_hub(source: str | Path, revision: str | None) -> bool:
    """Whether `source` is a repository's id and not a place on this machine."""
    is_id = isinstance(source, str) and REPO_ID.fullmatch(source) is not None
    if revision is not None and not is_id:
        raise AdapterError(
            f"{source} with revision={revision!r}: a revision is for a hub id, such as 'user/name'."
        )
    here = Path(source)
    return is_id and (revision is not None or not (here.exists() or here.parent.exists()))


def _bring(
    repo_id: str,
    revision: str | None,
    most_bytes: Mapping[str, int],
    sub_folders: bool,
    place: Path,
) -> None:
    """Download the files of one commit, once their sizes are known to be sane."""
    from huggingface_hub import HfApi

    api = HfApi(library_name="softprompt_lab")
    with _explained(
        f"There is no folder {repo_id!r} here, and the hub does not give a repository of that name"
    ):
        found = api.model_info(repo_id, revision=revision, files_metadata=True, timeout=SECONDS)
        wanted = [
            file
            for file in found.siblings or []
            if _is_wanted(file.rfilename, most_bytes, sub_folders)
        ]
        for file in wanted:
            most = most_bytes[file.rfilename.split("/")[-1]]
            if file.size is None or file.size > most:
                raise AdapterError(
                    f"{repo_id}: {file.rfilename} has {file.size} bytes; at most {most:,} are brought."
                )
        for file in wanted:
            api.hf_hub_download(repo_id, file.rfilename, revision=found.sha, local_dir=place)
    if not wanted:
        raise AdapterError(
            f"{repo_id} on the hub holds no adapter: none of its files is {' or '.join(most_bytes)}."
        )


def _is_wanted(name: str, most_bytes: Mapping[str, int], sub_folders: bool) -> bool:
    """True for an adapter's own file, and for one of a prompt that is saved beside it under a name."""
    *folders, last = name.split("/")
    named = sub_folders and len(folders) == 1 and PROMPT_NAME.fullmatch(folders[0]) is not None
    return last in most_bytes and (not folders or named)


def push(
    model: "SoftPromptModel",
    repo_id: str,
    *,
    results: Mapping[str, Any] | None = None,
    revision: str | None = None,
    private: bool | None = None,
    message: str = "Upload a soft prompt",
) -> str:
    """Send what `save_pretrained` writes to the hub in one commit; the repository and the branch are made if need be.

    Args:
        results: measured figures for the card.

    Returns:
        The commit's address.

    Raises:
        AdapterError: no network, no permission, or the hub refuses the files; the message says what it said.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="softprompt_lab")
    with tempfile.TemporaryDirectory(prefix="softprompt-lab-") as folder:
        model.save_pretrained(folder, results=results)
        with _explained(f"Nothing was sent to {repo_id!r}"):
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            commit = {"commit_message": message, "revision": revision}
            return api.upload_folder(repo_id=repo_id, folder_path=folder, **commit).commit_url


@contextmanager
def _explained(failed: str) -> Iterator[None]:
    """Turn whatever network, hub and client raise into one sentence and what to do."""
    try:
        yield
    except AdapterError:
        raise
    except Exception as error:  # theirs come from three libraries, and from answers of any shape
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise AdapterError(
            f"{failed}: {said} Check the spelling and the network (HF_HUB_OFFLINE must not be set), and log in with "
            "`hf auth login` if it needs an account. Without a network, carry the folder over and give its path."
        ) from error
