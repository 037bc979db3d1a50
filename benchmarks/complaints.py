"""The course's main measurement: a trained prompt on `complaints`, beside everything that it has to beat.

    python benchmarks/complaints.py            # about 15 minutes on two cores; writes complaints.md and complaints.csv

Test accuracy (400 messages) of the majority class, of ten hand-written prompts (those of chapter 01), of the untrained
start, and of prompts trained from three seeds: 20 virtual tokens, 100 steps of batch 8 on 50 messages.
"""

import platform
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import transformers
import typer
from tqdm import tqdm

from softprompt_lab import (
    PromptTuningConfig,
    SoftPromptModel,
    Task,
    evaluate,
    load_base_model,
    load_task,
    train,
)
from softprompt_lab.evaluation import Evaluation

FOLDER = Path(__file__).parent
START_TEXT = "Decide whether the customer message is a complaint or no complaint. Label: complaint or no complaint."
VIRTUAL_TOKENS, STEPS, BATCH_SIZE = 20, 100, 8  # the limits that the course set itself
SEEDS = (0, 1, 2)
WORDINGS = (
    "Classify if the tweet is a complaint or not:\nTweet text : {text} Label : ",
    "Tweet: {text}\nIs this tweet a complaint or no complaint? Answer: ",
    "Decide whether this message is a complaint. Answer complaint or no complaint.\n\nMessage: {text}\nAnswer: ",
    "Message: {text}\nCategory (complaint / no complaint): ",
    "{text}\n\nQuestion: Is the writer complaining? Answer with complaint or no complaint.\nAnswer: ",
    "You work at a help desk. Sort each message into complaint or no complaint.\nMessage: {text}\nSorted as: ",
    "A complaint says that something went wrong. Everything else is no complaint.\nMessage: {text}\nThis is: ",
    'Customer message: "{text}"\nThis message is labelled as: ',
    "Does the writer want something put right? If so: complaint. If not: no complaint.\n\n{text}\n\nLabel: ",
    "Read the tweet and label it.\n\nTweet: {text}\nLabel (complaint or no complaint): ",
)


def row(kind: str, detail: str, result: Evaluation) -> dict:
    """One line of the table."""
    low, high = result.confidence_interval
    return {
        "kind": kind,
        "detail": detail.replace("\n", " / "),
        "accuracy": result.accuracy,
        "low": low,
        "high": high,
        "macro F1": result.macro_f1,
        "exact match": result.exact_match,
    }


def measure_words(base_model, tokenizer, task: Task) -> list[dict]:
    """The ten hand-written prompts."""
    return [
        row(
            "hand-written",
            wording,
            evaluate(base_model, task.with_template(wording), tokenizer=tokenizer),
        )
        for wording in tqdm(WORDINGS, desc="hand-written prompts")
    ]


def measure_prompts(base_model, tokenizer, task: Task) -> list[dict]:
    """The untrained start, and the prompt after training from each seed."""
    config = PromptTuningConfig(
        num_virtual_tokens=VIRTUAL_TOKENS, prompt_tuning_init_text=START_TEXT
    )
    model = SoftPromptModel(base_model, config, tokenizer=tokenizer)
    rows = [row("untrained start", START_TEXT, evaluate(model, task))]
    for seed in SEEDS:
        model = SoftPromptModel(base_model, config, tokenizer=tokenizer)
        history = train(model, task, steps=STEPS, batch_size=BATCH_SIZE, seed=seed)
        rows.append(
            row(
                "trained",
                f"seed {seed}, {history.seconds / STEPS:.2f} s a step",
                evaluate(model, task),
            )
        )
    return rows


def report(table: pd.DataFrame, majority: float, base: str) -> str:
    """The table and its summary as markdown."""
    means = table.groupby("kind", sort=False)["accuracy"].agg(
        ["mean", "std", "min", "max", "count"]
    )
    gain = means.loc["trained", "mean"] - means.loc["hand-written", "mean"]
    lines = [
        f"# A trained prompt on `complaints`, base model `{base}`",
        "",
        f"Written by `python benchmarks/complaints.py`. {VIRTUAL_TOKENS} virtual tokens, {STEPS} steps of batch "
        f"{BATCH_SIZE}, 50 training messages, 400 test messages, float32.",
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"transformers {transformers.__version__}.",
        "",
        f"Majority class: {majority:.3f}. Mean of the trained prompts minus mean of the hand-written ones: "
        f"{100 * gain:+.1f} points.",
        "",
        "| what | runs | mean test accuracy | standard deviation over runs | lowest | highest |",
        "|---|---|---|---|---|---|",
        *(
            f"| {kind} | {r['count']:.0f} | {r['mean']:.3f} | {'' if r['count'] < 2 else format(r['std'], '.3f')} "
            f"| {r['min']:.3f} | {r['max']:.3f} |"
            for kind, r in means.iterrows()
        ),
        "",
        "Every run, with the 95 % interval of its 400 messages (Wilson):",
        "",
        "| what | accuracy | 95 % interval | macro-F1 | exact match | detail |",
        "|---|---|---|---|---|---|",
        *(
            f"| {r['kind']} | {r['accuracy']:.3f} | {r['low']:.3f} to {r['high']:.3f} | {r['macro F1']:.3f} "
            f"| {r['exact match']:.3f} | {r['detail']} |"
            for _, r in table.iterrows()
        ),
        "",
    ]
    return "\n".join(lines)


def main(
    base: Annotated[str, typer.Option(help="base model: a name, a hub id or a folder")] = "smollm2",
    output: Annotated[
        Path, typer.Option(help="folder for complaints.md and complaints.csv")
    ] = FOLDER,
) -> None:
    """Measure everything, print the report and write it."""
    base_model, tokenizer = load_base_model(base)
    task = load_task("complaints")
    rows = measure_prompts(base_model, tokenizer, task) + measure_words(base_model, tokenizer, task)
    table = pd.DataFrame(rows)
    majority = (
        pd.Series(task.test["text_label"]) == pd.Series(task.train["text_label"]).mode()[0]
    ).mean()
    text = report(table, majority, base)
    print(text)
    (output / "complaints.md").write_text(text, encoding="utf-8")
    table.to_csv(output / "complaints.csv", index=False)


if __name__ == "__main__":
    typer.run(main)
