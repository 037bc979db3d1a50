"""How long a key takes in the playground, from the changed message to the new picture, in the kernel.

    python benchmarks/playground.py       # writes playground.md; a minute on two cores

The browser adds the way there and back; tests/test_browser.py prints the whole way. The 50 ms for which the widget
waits for a further key are counted in.
"""

import platform
import time
from pathlib import Path
from statistics import median

import torch

from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_base_model, load_task
from softprompt_lab.runs import zoo
from softprompt_lab.widgets import Playground
from softprompt_lab.widgets.frame import DELAY

KEYS = 12
MESSAGE = "My parcel is late again and nobody answers the phone. "


def boards() -> dict[str, Playground]:
    """Three prompts and the bare base model, on both."""
    base_model, tokenizer = load_base_model("tiny")
    task = load_task("shop")
    tiny = SoftPromptModel(
        base_model, PromptTuningConfig(num_virtual_tokens=8), tokenizer=tokenizer
    )
    for name in ("second", "third"):
        tiny.add_prompt(name, PromptTuningConfig(num_virtual_tokens=8))
    names = ("tweets-seed0", "tweets-seed1", "films-seed0")
    first = zoo.load(names[0])
    smollm2, tasks = first.model, {"default": first.task}
    for name in names[1:]:
        smollm2.load_prompt(zoo.folder(name), name)
        tasks[name] = zoo.load(name, smollm2.base_model, smollm2.tokenizer).task
    boards = {"tiny": (tiny, task), "smollm2": (smollm2, tasks)}
    return {name: Playground(*given, text=MESSAGE) for name, given in boards.items()}


def main() -> None:
    """Type, and write down what it took."""
    lines = ["| base model | prompts | median, s a key | slowest |", "|---|---|---|---|"]
    for name, board in boards().items():
        seconds = []
        for key in "Please help me now"[:KEYS]:
            before, began = board.picture.value, time.perf_counter()
            board.text.value += key
            seconds.append(time.perf_counter() - began + DELAY)
            assert board.picture.value != before or key == " ", "the picture must change"
        lines.append(
            f"| {name} | {len(board.chosen)} | {median(seconds):.2f} | {max(seconds):.2f} |"
        )
        board.close()
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    title = f"# A key in the playground\n\nWritten by `python benchmarks/playground.py` ({machine}), {KEYS} keys each."
    Path(__file__).with_suffix(".md").write_text(
        "\n".join([title, "", *lines, ""]), encoding="utf-8"
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
