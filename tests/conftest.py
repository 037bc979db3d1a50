"""What every test shares: shape checks at run time, no hub, small random models.

Large libraries are imported where they are needed: the process that hands tests out to the workers needs none.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
DATA = (
    tempfile.TemporaryDirectory()
)  # no test writes into the user's progress, no kernel of a test either
os.environ["SOFTPROMPT_LAB_DATA"] = DATA.name

from jaxtyping import install_import_hook

# Before softprompt_lab is imported. Not config: what it is given is checked by its own code, with its own messages.
CHECKED = [
    "bases",
    "tasks",
    "embedding",
    "batch",
    "engine",
    "model",
    "training",
    "evaluation",
    "adapters",
]
CHECKED += ["reading", "plots"]
install_import_hook([f"softprompt_lab.{name}" for name in CHECKED], "shape_checks.checked")

import pytest

if TYPE_CHECKING:
    from browser import Lab
    from transformers import PreTrainedModel

if "PYTEST_XDIST_WORKER" in os.environ:
    import torch

    torch.set_num_threads(1)  # workers share the cores


def _missing(item: pytest.Item) -> str | None:
    """What a marked test needs and this machine lacks."""
    from softprompt_lab.bases import fetching

    if item.get_closest_marker("smollm2") and not fetching.is_fetched("smollm2"):
        return "smollm2 is not fetched: softprompt-lab fetch smollm2"
    if item.get_closest_marker("rated") and not fetching.is_fetched("tweets"):
        return "the rated texts are not fetched: softprompt-lab fetch tweets"
    if item.get_closest_marker("browser") and shutil.which("chromium") is None:
        return "no chromium here"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here; where CI is set, a missing piece is a failure."""
    reason = _missing(item)
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def _lab(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Lab]":
    """One JupyterLab and one browser for the tests of a module, which has them last.

    While the browser is there an event loop runs, as in a kernel: widgets answer when nothing has changed for a moment.
    """
    from browser import Lab, chromium, lab_server

    folder = tmp_path_factory.mktemp("lab")
    with lab_server(folder) as (work, port, token), chromium(folder) as browser:
        yield Lab(work, port, token, browser)


@pytest.fixture
def lab(_lab: "Lab") -> "Iterator[Lab]":
    """The same, without the pages that an earlier test left; their kernels are shut down."""
    yield _lab
    for page in _lab.browser.pages[1:]:
        page.close()
    _lab.shut_kernels_down()


NAMES = ["gpt2", "bloom", "llama", "opt", "gpt_neox", "qwen2"]


@pytest.fixture(params=NAMES)
def family(request: pytest.FixtureRequest) -> "PreTrainedModel":
    """A small random decoder of each family, in eval mode."""
    from families import FAMILIES

    assert list(FAMILIES) == NAMES
    return FAMILIES[request.param]()
