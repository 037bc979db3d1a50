"""Nearest tokens in a vocabulary of bloomz's shape: seconds a prompt by metric and scaling, and whether they are exact.

    python benchmarks/reading.py            # about three minutes on two calm cores; writes reading.md

Run it with OMP_NUM_THREADS unset and nothing else on the machine.
"""

import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from softprompt_lab import reading
from softprompt_lab.reading.search import check_vectors

OUTPUT = Path(__file__).parent / "reading.md"
VOCABULARY, WIDTH, VIRTUAL_TOKENS, K = 250_880, 1024, 20, 5


def vocabulary(generator: torch.Generator) -> torch.Tensor:
    """(V, D): what makes a search hard: a common mean, dimensions of unlike spread, 2,000 words alike, 200 zeros."""
    spread = torch.randn(WIDTH, generator=generator).exp() * 0.01
    words = torch.randn(VOCABULARY, WIDTH, generator=generator).mul_(spread)
    words += torch.randn(WIDTH, generator=generator) * 0.02
    words[-2_200:-200] = words[-2_200] + 1e-6 * torch.randn(2_000, WIDTH, generator=generator)
    words[-200:] = 0
    return words


def exact_ids(prompt: torch.Tensor, words: torch.Tensor, metric: str, scaling: str) -> torch.Tensor:
    """(P, k): every score in float64, by the definition."""
    deviation, mean = torch.std_mean(words.double(), dim=0, correction=0)
    if scaling == "raw":
        mean = torch.zeros(WIDTH, dtype=torch.float64)
    if scaling != "standardised":
        deviation = torch.ones(WIDTH, dtype=torch.float64)
    queries, parts = (prompt.double() - mean) / deviation, []
    for chunk in words.split(8_192):
        scaled = (chunk.double() - mean) / deviation
        if metric == "l2":
            parts.append(-torch.cdist(queries, scaled, compute_mode="donot_use_mm_for_euclid_dist"))
        elif metric == "cosine":
            normal = torch.nn.functional.normalize
            parts.append(normal(queries, dim=1) @ normal(scaled, dim=1).T)
        else:
            parts.append(queries @ scaled.T)
    return torch.cat(parts, 1).float().sort(dim=1, descending=True, stable=True).indices[:, :K]


def seconds(function: Callable, rounds: int) -> tuple[float, float]:
    """Median and least wall time of so many calls, after one that is not counted."""
    function()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken), min(taken)


def processor() -> str:
    """The name of this machine's processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()}, {names[0]}" if names else platform.machine()


def parts_of_it(prompt: torch.Tensor, words: torch.Tensor) -> dict[str, Callable]:
    """What a search is made of, and what it replaces."""

    def distances() -> None:
        for chunk in words.split(8_192):
            torch.cdist(prompt, chunk, compute_mode="donot_use_mm_for_euclid_dist")

    return {
        "one matrix product, the floor": lambda: prompt @ words.T,
        "shapes and finite numbers": lambda: check_vectors(prompt, words, K, "cosine"),
        "mean and deviation of the vocabulary": lambda: torch.std_mean(words, dim=0),
        "L2 distances one by one (`torch.cdist`)": distances,
    }


def main(
    rounds: Annotated[int, typer.Option(help="calls of each, after one that is not counted")] = 5,
    output: Annotated[Path, typer.Option(help="where the report goes")] = OUTPUT,
) -> None:
    """Measure every reading and what it is made of; write the report."""
    generator = torch.Generator().manual_seed(0)
    words = vocabulary(generator)
    chosen = torch.randint(VOCABULARY, (VIRTUAL_TOKENS,), generator=generator)
    prompt = words[chosen] + 0.03 * torch.randn(VIRTUAL_TOKENS, WIDTH, generator=generator)
    lines = [
        "# Nearest tokens in a large vocabulary",
        "",
        f"Written by `python benchmarks/reading.py`. V = {VOCABULARY:,}, D = {WIDTH}, P = {VIRTUAL_TOKENS}, k = {K}, "
        f"float32; wall time of a whole call, {rounds} calls.",
        f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}.",
        "",
        "| reading | median, s | least, s | virtual tokens with the ids of float64 |",
        "|---|---|---|---|",
    ]
    for metric in tqdm(reading.METRICS):
        for name, options in reading.SCALINGS.items():
            median, least = seconds(
                partial(reading.nearest, prompt, words, K, metric, **options), rounds
            )
            found = reading.nearest(prompt, words, K, metric, **options)[1]
            same = int((found == exact_ids(prompt, words, metric, name)).all(1).sum())
            lines.append(
                f"| {metric}, {name} | {median:.2f} | {least:.2f} | {same} of {VIRTUAL_TOKENS} |"
            )
    lines += ["", "| part | median, s | least, s |", "|---|---|---|"]
    for name, function in parts_of_it(prompt, words).items():
        median, least = seconds(function, min(rounds, 3))
        lines.append(f"| {name} | {median:.2f} | {least:.2f} |")
    text = "\n".join([*lines, ""])
    print(text)
    output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
