"""The engine beside PEFT: seconds and memory of a training step, evaluated rows and generated tokens per second.

    python benchmarks/engine.py            # every part; hours on two cores: writes engine.md, engine_*.csv, engine.png
    python benchmarks/engine.py tutorial   # or one part: tutorial, steps, memory, evaluation, generation

Same rows, same type, alternating in one run; PEFT is padded on the right, where its numbers are right.
"""

import json
import platform
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import measuring
import pandas as pd
import peft
import psutil
import torch
import transformers
import typer
from tqdm import tqdm
from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM

from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_base_model, load_task
from softprompt_lab.bases import machine
from softprompt_lab.batch import Example, Target
from softprompt_lab.cli import speed
from softprompt_lab.engine.selection import exact_strategies
from softprompt_lab.evaluation import score_labels
from softprompt_lab.plots import Figure, curves_figure
from softprompt_lab.training import as_tensors, encode_training_rows

FOLDER = Path(__file__).parent
LENGTHS = {"short": 30, "long": 100}  # tokens of text, on average
GRID = [
    (prompt, batch, length)
    for prompt in (1, 8, 20, 100)
    for batch in (1, 8, 32)
    for length in LENGTHS
]
FEW = [(20, 8, "short"), (100, 8, "short")]  # for the large shapes, whose PEFT steps take a minute
SHORT_ROUNDS = 5  # times as many for tiny, whose steps take hundredths of a second,
ROW_ROUNDS = 8  # and so many times as many for a single row, which takes as long as this machine's noise lasts
PARTS = ("tutorial", "steps", "memory", "evaluation", "generation")


def bloomz_560m() -> BloomForCausalLM:
    """Random weights in the shape of bigscience/bloomz-560m."""
    return BloomForCausalLM(
        BloomConfig(vocab_size=250_880, hidden_size=1024, n_layer=24, n_head=16)
    )


def llama_1b() -> LlamaForCausalLM:
    """Random weights in the shape of Llama-3.2-1B."""
    sizes = {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
    }
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128_256,
            num_key_value_heads=8,
            head_dim=64,
            tie_word_embeddings=True,
            **sizes,
        )
    )


MODELS: dict[str, Callable] = {
    "tiny": lambda: load_base_model("tiny")[0],
    "smollm2": lambda: load_base_model("smollm2")[0],
    "bloomz-560m shape": bloomz_560m,
    "Llama-1B shape": llama_1b,
}


def base_model_of(name: str):
    """A base model in evaluation mode, on the accelerator if there is one."""
    model = MODELS[name]().eval().requires_grad_(False)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


# -------------------------------------------------------------------------------------------------------- steps


def measure_step(model, prompt: int, batches: list[list], rounds: int) -> dict:
    """Seconds of a step, the mean over batches of the medians over rounds; ratios to ours, share of the floor."""
    speed.step_functions(model, prompt, batches[0][:1])[
        speed.OURS
    ]()  # asks for the ways, starts libraries
    seconds = pd.DataFrame(
        speed.alternate(functions, rounds, warm_up=0)
        for functions in (timed(model, prompt, pairs) for pairs in batches)
    ).mean()
    line = {
        "ours": seconds[speed.OURS],
        "share of floor": seconds[measuring.FLOOR] / seconds[speed.OURS],
    }
    for name in seconds.index.drop([speed.OURS, measuring.FLOOR]):
        line |= {name: seconds[name], f"ratio, {name}": seconds[name] / seconds[speed.OURS]}
    return line


def timed(model, prompt: int, pairs: list) -> dict[str, Callable]:
    """The steps, and the least that they can take: their matrix products alone."""
    floor = measuring.matrix_products(model, measuring.floor_operations(model, prompt, pairs))
    return speed.step_functions(model, prompt, pairs) | {measuring.FLOOR: floor}


def measure_steps(name: str, cells: list[tuple[int, int, str]], rounds: int) -> list[dict]:
    """One line a cell of random text."""
    model, lines = base_model_of(name), []
    for prompt, batch, length in tqdm(cells, desc=name):
        pairs = measuring.random_pairs(model.config.vocab_size, batch, LENGTHS[length])
        cell = {"model": name, "P": prompt, "batch": batch, "rows": length}
        lines.append(
            cell | measure_step(model, prompt, [pairs], rounds * (ROW_ROUNDS if batch == 1 else 1))
        )
    return lines


def measure_tutorial(rounds: int) -> list[dict]:
    """smollm2 on `complaints`: an epoch of its 50 rows, shuffled, in the tutorial's batches of 8; and a batch of 32."""
    model, tokenizer = load_base_model("smollm2")
    task, lines = load_task("complaints"), []
    pairs = encode_training_rows(task, tokenizer, speed.TUTORIAL_LENGTH)
    random.Random(0).shuffle(pairs)
    for prompt, batch in ((8, 8), (20, 8), (100, 8), (20, 32)):
        cell = {"model": "smollm2", "P": prompt, "batch": batch, "rows": "complaints"}
        whole = [pairs[first : first + batch] for first in range(0, len(pairs) - batch + 1, batch)]
        lines.append(cell | measure_step(model, prompt, whole, rounds))
    return lines


# ------------------------------------------------------------------------------------------------------- memory


def peak_of(model_name: str, prompt: int, batch: int, length: str, way: str) -> int:
    """Bytes that one step needs above the loaded model, in this process, which may not take the whole machine."""
    if not torch.cuda.is_available():
        most = int(0.9 * psutil.virtual_memory().total)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    model = base_model_of(model_name)
    exact_strategies(model)  # asked before, as a training run does on its first step
    functions = speed.step_functions(
        model, prompt, measuring.random_pairs(model.config.vocab_size, batch, LENGTHS[length])
    )
    return measuring.peak_memory(functions[way], str(model.device))


def measure_memory(cells: list[tuple[str, int, int, str]]) -> list[dict]:
    """Peaks in GB, each way in a process of its own; a way that does not fit the machine has none."""
    lines = []
    for model_name, prompt, batch, length in cells:
        line = {"model": model_name, "P": prompt, "batch": batch, "rows": length}
        for way in (
            f"PEFT, padded to {speed.TUTORIAL_LENGTH}",
            "PEFT, padded to the longest",
            speed.OURS,
        ):
            command = [
                sys.executable,
                __file__,
                "peak",
                model_name,
                str(prompt),
                str(batch),
                length,
                way,
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            line[way] = (
                json.loads(done.stdout.splitlines()[-1]) / 1e9
                if done.returncode == 0
                else float("nan")
            )
        lines.append(line)
    return lines


# --------------------------------------------------------------------------------------------------- evaluation


def measure_evaluation(rounds: int) -> list[dict]:
    """Rank classification of the 150 validation messages of `complaints` on smollm2, behind 20 virtual tokens."""
    model, tokenizer = load_base_model("smollm2")
    task = load_task("complaints")
    ours = SoftPromptModel(model, PromptTuningConfig(num_virtual_tokens=20), tokenizer=tokenizer)
    theirs = as_peft(model, {"default": ours.prompt})
    texts = task.validation[task.text_column]
    pairs = [[task.encode(tokenizer, text, label) for label in task.labels] for text in texts]
    examples = [Example(row[0][0], [Target.of(label) for _, label in row]) for row in pairs]

    @torch.no_grad()
    def peft_evaluation() -> torch.Tensor:
        """Batches of 8 rows for each label, padded to the longest."""
        losses = []
        for number in range(len(task.labels)):
            for first in range(0, len(pairs), 8):
                part = [row[number] for row in pairs[first : first + 8]]
                ids, mask, labels = as_tensors(part, ours)
                logits = theirs(input_ids=ids, attention_mask=mask).logits[:, 20:-1]
                labels = labels[:, 1:]
                losses.append(
                    torch.nn.functional.cross_entropy(logits.mT, labels, reduction="none").sum(
                        dim=1
                    )
                )
        return torch.cat(losses)

    functions = {
        "PEFT": peft_evaluation,
        speed.OURS: lambda: score_labels(ours, [ours.prompt.detach()], examples),
    }
    found = speed.alternate(functions, rounds, warm_up=0)
    return [
        {"way": name, "rows per second": len(texts) / seconds} for name, seconds in found.items()
    ]


def as_peft(model, prompts: dict[str, torch.Tensor]) -> peft.PeftModel:
    """PEFT's model with these prompts as named adapters."""
    wrapped = None
    for name, prompt in prompts.items():
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(prompt))
        if wrapped is None:
            wrapped = peft.get_peft_model(model, config, adapter_name=name)
        else:
            wrapped.add_adapter(name, config)
        with torch.no_grad():
            wrapped.prompt_encoder[name].embedding.weight.copy_(prompt)
    return wrapped.eval()


# --------------------------------------------------------------------------------------------------- generation


def measure_generation(rounds: int) -> list[dict]:
    """Eight tasks in one batch of 32 rows, and a hundred short answers behind 100 virtual tokens, on smollm2."""
    model, tokenizer = load_base_model("smollm2")
    task = load_task("complaints")
    options = {
        "max_new_tokens": 10,
        "min_new_tokens": 10,
        "do_sample": False,
        "pad_token_id": tokenizer.pad_token_id,
    }
    texts = [task.prompt(text) for text in task.train[task.text_column][:32]]
    tokenizer.padding_side = "left"
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    return [
        *_mixed_batch(model, batch, options, rounds),
        *_short_answers(model, batch, options | {"max_new_tokens": 5, "min_new_tokens": 5}, rounds),
    ]


def _mixed_batch(model, batch, options: dict, rounds: int) -> list[dict]:
    """32 rows of 8 prompts: ours in one batch, PEFT adapter by adapter."""
    names = [f"task{number}" for number in range(8)]
    ours = SoftPromptModel(model, PromptTuningConfig(num_virtual_tokens=20))
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        ours.add_prompt(name, PromptTuningConfig(num_virtual_tokens=20))
    theirs = as_peft(model, {name: ours.prompt_by_name(name) for name in names})
    rows = [name for name in names for _ in range(4)]

    def one_by_one() -> None:
        for number, name in enumerate(names):
            theirs.set_adapter(name)
            part = {key: value[4 * number : 4 * number + 4] for key, value in batch.items()}
            theirs.generate(**part, **options)

    def together() -> torch.Tensor:
        return ours.generate(**batch, prompt_names=rows, **options)

    generated = together()
    for row, name in enumerate(rows):  # the texts of the mixed batch are those of each row alone
        ours.set_prompt(name)
        text = batch["input_ids"][row][batch["attention_mask"][row].bool()]
        assert torch.equal(ours.generate(text[None], **options)[0, -10:], generated[row, -10:]), (
            f"row {row}"
        )
    found = speed.alternate({"PEFT": one_by_one, speed.OURS: together}, rounds)
    return [
        {"work": "32 rows of 8 tasks, 10 tokens each", "way": name, "seconds": seconds}
        for name, seconds in found.items()
    ]


def _short_answers(model, batch, options: dict, rounds: int) -> list[dict]:
    """100 calls of one row each."""
    ours = SoftPromptModel(model, PromptTuningConfig(num_virtual_tokens=100))
    theirs = as_peft(model, {"default": ours.prompt})
    texts = [row[mask.bool()][None] for row, mask in zip(*batch.values(), strict=True)]

    def answers(wrapped) -> None:
        for number in range(100):
            ids = texts[number % len(texts)]
            wrapped.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)

    found = speed.alternate(
        {"PEFT": lambda: answers(theirs), speed.OURS: lambda: answers(ours)}, rounds, warm_up=0
    )
    return [
        {"work": "100 answers of 5 tokens, P = 100", "way": name, "seconds": seconds}
        for name, seconds in found.items()
    ]


# ------------------------------------------------------------------------------------------------------- report


def machine_line() -> str:
    """What the figures were measured on."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else platform.processor() or platform.machine()
    )
    rates = {
        str(dtype).removeprefix("torch."): machine.operations_per_second(device, dtype) / 1e9
        for dtype in (torch.float32, torch.bfloat16)
    }
    products = ", ".join(
        f"{rate:,.0f} billion operations a second in {dtype}" for dtype, rate in rates.items()
    )
    return (
        f"{name}, {torch.get_num_threads()} threads; matrix products: {products}. torch {torch.__version__}, "
        f"transformers {transformers.__version__}, peft {peft.__version__}."
    )


def markdown(table: pd.DataFrame) -> list[str]:
    """A table with three significant digits."""
    cells = table.map(lambda value: f"{value:.3g}" if isinstance(value, float) else str(value))
    rows = [list(table.columns), ["---"] * len(table.columns), *cells.to_numpy().tolist()]
    return [f"| {' | '.join(row)} |" for row in rows]


def ratios(table: pd.DataFrame) -> Figure:
    """How many times as long PEFT takes, by the length of the prompt, a line for each kind of batch of random text."""
    drawn = table[table["rows"].isin(["short", "long"])]
    drawn = drawn.assign(kind=drawn["batch"].astype(str) + " " + drawn["rows"])
    ratio = "ratio, PEFT, padded to the longest"
    wide = drawn.pivot(index=["kind", "P"], columns="model", values=ratio).reset_index()
    models = drawn["model"].unique()
    return curves_figure(wide, "P", {name: f"PEFT / ours, {name}" for name in models})


def write_report(output: Path) -> None:
    """engine.md from whatever parts there are, and the figure of the steps."""
    lines = [
        "# The engine beside PEFT",
        "",
        "Written by `python benchmarks/engine.py`.",
        "",
        machine_line(),
        "",
    ]
    for part in PARTS:
        path = output / f"engine_{part}.csv"
        if path.exists():
            table = pd.read_csv(path)
            lines += [f"## {part.capitalize()}", "", *markdown(table), ""]
            if part == "steps":
                (output / "engine.png").write_bytes(ratios(table).png())
                lines += ["![ratios](engine.png)", ""]
    (output / "engine.md").write_text("\n".join(lines), encoding="utf-8")


def main(
    parts: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(PARTS)}; all without.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Runs of each way, in turn.")] = 3,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = FOLDER,
) -> None:
    """Measure and write the report; a part that is not measured keeps its last figures."""
    for part in parts or PARTS:
        if part == "tutorial":
            pd.DataFrame(measure_tutorial(rounds)).to_csv(
                output / "engine_tutorial.csv", index=False
            )
        elif part == "steps":
            rows: list[dict] = []
            for name, cells in {
                "tiny": GRID,
                "smollm2": GRID,
                "bloomz-560m shape": FEW,
                "Llama-1B shape": FEW,
            }.items():
                rows += measure_steps(
                    name, cells, SHORT_ROUNDS * rounds if name == "tiny" else rounds
                )
                pd.DataFrame(rows).to_csv(output / "engine_steps.csv", index=False)
        elif part == "memory":
            cells = [("smollm2", 20, 8, "short"), ("smollm2", 100, 32, "short")]
            cells += [
                ("bloomz-560m shape", 100, 16, "short"),
                ("bloomz-560m shape", 100, 32, "short"),
            ]
            pd.DataFrame(measure_memory(cells)).to_csv(output / "engine_memory.csv", index=False)
        elif part == "evaluation":
            pd.DataFrame(measure_evaluation(rounds)).to_csv(
                output / "engine_evaluation.csv", index=False
            )
        else:
            pd.DataFrame(measure_generation(rounds)).to_csv(
                output / "engine_generation.csv", index=False
            )
        write_report(output)


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        name, prompt, batch, length, way = sys.argv[2:]
        print(json.dumps(peak_of(name, int(prompt), int(batch), length, way)))
    else:
        typer.run(main)
