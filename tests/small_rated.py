"""A source archive of a few kilobytes with the inner form of the one that the rated texts come from."""

import hashlib
import io
import random
import tarfile
from pathlib import Path

from softprompt_lab.bases.fetching import RATED, Source
from softprompt_lab.data.rated import FOLDER, INNER, KINDS

ROOT = "vaderSentiment-3.3.2"
MARKER = (
    "setup_py_ran"  # what the archive's own code leaves in the folder that SETUP_PY_MARKS names
)
SETUP = f"""
import os, pathlib, setuptools
pathlib.Path(os.environ["SETUP_PY_MARKS"], "{MARKER}").touch()
setuptools.setup(name="vaderSentiment", version="3.3.2")
"""
ABOUT = "Metadata-Version: 2.1\nName: vaderSentiment\nVersion: 3.3.2\n"
ENCODED = "Tom &amp; Ann said &amp;#39;yes&amp;#39;  at   once &lt;3"
DECODED = "Tom & Ann said 'yes' at once <3"
TWINS = (
    "@anonymous what a fine long warm day it was!",
    "What a FINE long warm day it was?",
)  # equal words
NEAR = [
    f"we all like the green door and the {colour} lamp"
    for colour in ("red", "blue", "grey", "pink")
]
APART = "the mean of this row is not that of its ratings"
WORDS = ["".join(random.Random(n).choices("bdfgklmnprst", k=5)) for n in range(500)]


def rows(kind: str) -> list[tuple[str, float, list[int], str]]:
    """The (id, mean, single ratings, text) of each row: 150 plain ones, then the odd ones."""
    chance = random.Random(kind)
    texts = [" ".join(chance.choices(WORDS, k=8)) for _ in range(150)]
    texts += [ENCODED, *TWINS, *NEAR, APART]
    found = []
    for number, text in enumerate(texts):
        middle = chance.choice([-3, -2, -1, 0, 2, 3]) if text in texts[:150] else 2
        single = [max(-4, min(4, middle + chance.choice([-2, -1, 0, 0, 1]))) for _ in range(20)]
        mean = sum(single) / 20 + (0.5 if text == APART else 0)
        grouped = kind in ("reviews", "editorials")
        found.append(
            (f"{number // 4}_{number % 4}" if grouped else str(number), mean, single, text)
        )
    return found


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def write_archive(folder: Path) -> tuple[Path, Source]:
    """Write the archive and return its path, and its entry for `fetching.TEXTS`."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for kind, (stem, _) in KINDS.items():
            mark = "\ufeff" if kind == "reviews" else ""
            texts = "".join(f"{id}\t{mean}\t{text}\r\n" for id, mean, _, text in rows(kind))
            ratings = "".join(
                f"{id}\t{sum(each) / 20}\t1.5\t{each}\n" for id, _, each, _ in rows(kind)
            )
            _add(archive, f"{FOLDER}/{stem}_GroundTruth.txt", texts.encode())
            _add(archive, f"{FOLDER}/{stem}_anonDataRatings.txt", (mark + ratings).encode())
    path = folder / RATED.file
    with tarfile.open(path, "w:gz") as archive:
        for name, text in {"setup.py": SETUP, "PKG-INFO": ABOUT}.items():
            _add(archive, f"{ROOT}/{name}", text.encode())
        _add(archive, INNER, inner.getvalue())
    return path, Source(
        RATED.requirement, RATED.file, hashlib.sha256(path.read_bytes()).hexdigest()
    )
