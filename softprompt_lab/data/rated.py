"""Texts that people rated from -4 to 4: tweets, and snippets of product reviews, film reviews and editorials.

Hutto and Gilbert (ICWSM 2014); `assets/rated.md` is the data card: what is left out, how rows are split, the human
ceiling.
"""

import html
import io
import json
import re
import tarfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import IO

import numpy as np
import pandas as pd
from datasets import Dataset
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import CountVectorizer

from ..bases import fetching
from ..tasks import LABEL_COLUMN, SPLITS, Task
from .files import LEAST_OF_A_LABEL

KINDS = {  # of each task: its files in the archive, and what the template calls a text
    "tweets": ("tweets", "Tweet"),
    "reviews": ("amazonReviewSnippets", "Review"),
    "films": ("movieReviewSnippets", "Film review"),
    "editorials": ("nytEditorialSnippets", "Editorial"),
}
FOLDER = "hutto_ICWSM_2014"
INNER = f"vaderSentiment-3.3.2/additional_resources/{FOLDER}.tar.gz"
SIZES = {"train": 600, "validation": 250, "test": 400}
DRAWN = 2_000  # rows among which near-duplicates are looked for; the splits are filled from them
ALIKE = 0.6  # of the words of two texts are in both: near-duplicates
TOLERANCE = 0.001  # between a mean rating and the mean of the single ratings
NAMES_AND_ADDRESSES = re.compile(r"@\w+|https?://\S+")
WORD = re.compile(r"[^\W\d_]+")
Labels = Sequence[str]


def load_rated(
    name: str,
    labelling: str = LABEL_COLUMN,
    seed: int = 0,
    *,
    cut: float = 1.0,
    labels: Labels = ("negative", "positive"),
) -> Task:
    """Return the task of one kind of rated texts, fetched on first use.

    Columns: text, text_label, rating (the mean), deviation, raters, agreement (`human_ceiling`), source (the review or
    article; of the other kinds, the text).

    Args:
        seed: of the split, and of the rows where there are more than the splits take.
        cut: the least distance of a rating from 0.
        labels: of ratings below and above 0; of three, the one in the middle is of the ratings nearer to 0 than `cut`.

    Raises:
        LabError: not fetched yet, and no network.
        ValueError: labels that are not two or three different words, or a cut that leaves too few rows of one.
    """
    usable = isinstance(labels, list | tuple) and all(isinstance(one, str) for one in labels)
    if (
        not usable
        or len({*map(str.strip, labels)} - {""}) != len(labels)
        or len(labels) not in (2, 3)
    ):
        raise ValueError(f"labels={labels!r}; give two different names, or three, as a list.")
    if not isinstance(cut, int | float) or not cut >= 0:
        raise ValueError(f"cut={cut!r}; it must be a number of at least 0.")
    labels = tuple(labels)
    table = _labelled(rated_texts(name), cut, labels)
    for label in labels:
        rows = sum(table[LABEL_COLUMN] == label)
        if rows < LEAST_OF_A_LABEL:
            raise ValueError(f"{name}, cut={cut}: {rows} rows are {label}; choose another cut.")
    groups = np.random.RandomState(seed).permutation(table["source"].nunique())
    order = np.argsort(groups[pd.factorize(table["source"])[0]], kind="stable")
    splits = _split(name, table.iloc[order], labels, seed)
    datasets = [Dataset.from_pandas(splits[split], preserve_index=False) for split in SPLITS]
    last, *most = labels
    asked = f"Is the sentiment here {', '.join(reversed(most))} or {last}?"
    template = f"{KINDS[name][1]} : {{text}} Label : "
    return Task(name, *datasets, "text", labels, template, asked)


def human_ceiling(task: Task, split: str = "test") -> float:
    """Return how often one rater agrees with the others about the label: the mean of the column "agreement".

    Raises:
        ValueError: a task without single ratings.
    """
    rows = task.split(split)
    if "agreement" not in rows.column_names:
        raise ValueError(
            f"{task.name} has no single ratings; a ceiling is known of: {', '.join(KINDS)}."
        )
    return float(np.mean(rows["agreement"]))


def rated_texts(name: str) -> pd.DataFrame:
    """Return all texts of one kind: text, rating, deviation, source, and the list of single ratings.

    Rows whose mean is not that of their single ratings are left out.
    """
    source, _ = fetching.source_of(name)
    archive = io.BytesIO((fetching.fetch(name) / source.file).read_bytes())
    with (
        tarfile.open(fileobj=archive) as outer,
        tarfile.open(fileobj=outer.extractfile(INNER)) as inner,
    ):
        path = f"{FOLDER}/{KINDS[name][0]}"
        texts = _columns(inner.extractfile(f"{path}_GroundTruth.txt"), "id rating text")
        ratings = inner.extractfile(f"{path}_anonDataRatings.txt")
        ratings = _columns(ratings, "id mean deviation ratings")
    table = texts.merge(ratings, on="id", validate="one_to_one")
    table["ratings"] = table["ratings"].map(json.loads)
    table["text"] = table["text"].map(_tidy)
    table["source"] = table["id"].str.split("_").str[0]
    same = (table["rating"] - table["ratings"].map(np.mean)).abs() < TOLERANCE
    return table.loc[same, ["text", "rating", "deviation", "source", "ratings"]]


def _columns(file: IO[bytes], names: str) -> pd.DataFrame:
    """Return a table without a header or quoting, its columns apart by tabs, some with a byte order mark."""
    reading = {"sep": "\t", "quoting": 3, "encoding": "utf-8-sig", "keep_default_na": False}
    return pd.read_csv(file, names=names.split(), dtype={"id": str}, **reading)


def _tidy(text: str) -> str:
    """Return a text without entities, some of which were escaped twice, and with single spaces."""
    return " ".join(html.unescape(html.unescape(text)).split())


def _labelled(table: pd.DataFrame, cut: float, labels: Labels) -> pd.DataFrame:
    """Return the rows that have a label, with it and the share of raters who agree with the others about it."""

    def classes(ratings):
        if len(labels) == 2:
            return (ratings > 0).astype(int)
        return (ratings >= cut).astype(int) + (ratings > -cut)

    def agreement(ratings: list[int]) -> float:
        single = np.array(ratings)
        others = (single.sum() - single) / (len(single) - 1)
        same = (classes(single) == classes(others)).astype(float)
        if len(labels) == 2:
            same[single == 0] = 0.5  # who sees neither has to guess
        return float(same.mean())

    if len(labels) == 2:
        table = table[(table["rating"].abs() >= cut) & (table["rating"] != 0)]
    return table.assign(
        **{LABEL_COLUMN: np.array(labels)[classes(table["rating"])]},
        raters=table["ratings"].map(len),
        agreement=table["ratings"].map(agreement),
    ).drop(columns="ratings")


# ----------------------------------------------------------------------------------------------------------- splits


def _split(name: str, table: pd.DataFrame, labels: Labels, seed: int) -> dict[str, pd.DataFrame]:
    """Return three splits with the same shares of labels; what belongs together is in one of them.

    Each group of texts goes where most of its rows have room, and rows without room are left out.
    """
    shares = table[LABEL_COLUMN].value_counts(normalize=True).reindex(list(labels))
    table = table.head(DRAWN)
    words, given = [_words(text) for text in table["text"]], table[LABEL_COLUMN].tolist()
    groups: dict[int, dict[tuple[str, ...], int]] = defaultdict(dict)
    for row, group in enumerate(_groups(words, table["source"])):
        groups[group].setdefault(tuple(words[row]), row)  # the first of equal texts
    part = min(1, sum(map(len, groups.values())) / sum(SIZES.values()))
    room = {split: _quota(int(size * part), shares) for split, size in SIZES.items()}
    chosen: dict[str, list[int]] = {split: [] for split in SPLITS}
    for rows in map(dict.values, groups.values()):
        counts = Counter(given[row] for row in rows)
        split = max(SPLITS, key=lambda split: (counts & room[split]).total())
        for row in rows:
            if room[split][given[row]] > 0:
                chosen[split].append(row)
                room[split][given[row]] -= 1
    sizes = {split: len(rows) for split, rows in chosen.items()}
    if sizes != SIZES:
        warnings.warn(f"{name}: this cut leaves fewer rows than usual: {sizes}.", stacklevel=5)
    return {
        split: table.iloc[rows].sample(frac=1, random_state=seed) for split, rows in chosen.items()
    }


def _words(text: str) -> list[str]:
    """Return the words of a text in lower case, without user names, addresses and digits; or all of it as one."""
    return WORD.findall(NAMES_AND_ADDRESSES.sub(" ", text.lower())) or [text]


def _groups(words: list[list[str]], sources: pd.Series) -> np.ndarray:
    """Return the number of each row's group: rows of one source, near-duplicates, and what is linked through others."""
    counted = CountVectorizer(analyzer=set, dtype=np.int32).fit_transform(words)
    both = (counted @ counted.T).tocoo()  # different words that two texts share
    sizes = both.diagonal()
    alike = both.data >= ALIKE * (sizes[both.row] + sizes[both.col] - both.data)
    codes, names = pd.factorize(sources)
    links = alike[alike], (codes[both.row[alike]], codes[both.col[alike]])  # between sources
    graph = coo_array(links, shape=(len(names), len(names)))
    return connected_components(graph, directed=False)[1][codes]


def _quota(size: int, shares: pd.Series) -> Counter[str]:
    """Return how many rows of each label a split of this size has."""
    ends = (shares.cumsum() * size).round().astype(int)
    return Counter(ends.diff().fillna(ends).astype(int).to_dict())
