"""Task type by family: a soft prompt here, in PEFT, and by hand, on one row and on padded batches.

`PYTHONPATH=tests python tests/conformance/by_task.py` runs every cell and writes by_task.md. A cell is a word for each
layout, or one for all: "equal" where PEFT's numbers are ours, "mended" with a letter where they are not. In either case
ours must be those of the plain base model on [prompt | text], row by row; `Wrong` is raised otherwise.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import peft
import torch
from batches import ROWS, padded, text_of
from families import CLASSES, CLASSES_OF, CONFIGS, FAMILIES, HEADS_BY_HAND, bart, base_of, t5
from prompted import OUTPUTS, P, as_peft, random_start, with_prompt
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from softprompt_lab import SoftPromptModel

TABLE = Path(__file__).with_suffix(".md")
IGNORE = -100
LAYOUTS = ("alone", "right", "left")
OPERATIONS = ("forward", "loss", "gradient", "generate", "PEFT loads ours", "ours loads PEFT's")
GENERATE = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
GENERATE |= {"return_dict_in_generate": True, "output_logits": True}
STARTS, ENDS = (1, 0, 3), (4, 2, 4)  # of the spans, in each row
TARGETS = [[31, 7, 1], [40, 8, 1], [8, 9, 1]]
NOTES = {
    "a": "pads stand between prompt and text in PEFT, and move positions",
    "b": "PEFT's classifier reads the first virtual token in place of the text's ([CLS])",
    "c": "PEFT's classifier reads the last place of the batch, a pad",
    "d": "PEFT raises: its logits have P places more than the labels",
    "e": "PEFT counts places from the prompt, and its softmax runs over the prompt and the pads",
    "f": "PEFT's new tokens stand behind the pads of a row",
}


class Wrong(AssertionError):
    """Our numbers are not those of the plain base model."""


class Batch:
    """The rows in one layout, with labels for every task."""

    def __init__(self, layout: str) -> None:
        self.layout = layout
        self.rows = ROWS[:1] if layout == "alone" else ROWS
        self.ids, self.mask, self.words = padded(
            self.rows, "right" if layout == "alone" else layout
        )
        self.pads = self.mask.argmax(dim=1)  # in front of each row

    def labels(self, task: str, shift: int = 0) -> dict[str, torch.Tensor]:
        """Labels as the base model's forward takes them; places count from `shift` tokens further in front."""
        count = len(self.rows)
        if task == "QUESTION_ANS":
            starts, ends = (
                torch.tensor(places[:count]) + self.pads + shift for places in (STARTS, ENDS)
            )
            return {"start_positions": starts, "end_positions": ends}
        found = {
            "CAUSAL_LM": self.words,
            "SEQ_2_SEQ_LM": torch.tensor(TARGETS[:count]),
            "SEQ_CLS": torch.arange(count) % CLASSES,
            "TOKEN_CLS": (self.ids % CLASSES).masked_fill(self.mask == 0, IGNORE),
        }
        return {"labels": found[task]} if task in found else {}


class Case:
    """One task type on one family: our model, PEFT's, and the plain base model with the same prompt."""

    def __init__(self, task: str, family: str, build: Callable[[], Any]) -> None:
        self.task, self.family, self.build = task, family, build
        self.base = build()
        self.ours = with_prompt(build(), task)
        self.prompt = random_start().requires_grad_()
        self.peft = as_peft(self.ours)

    # ---------------------------------------------------------------------------------------- what each one says

    def by_hand(self, batch: Batch) -> list[dict[str, torch.Tensor]]:
        """The plain base model on [prompt | text], row by row; per-token outputs without the prompt's places."""
        found = []
        for number, row in enumerate(batch.rows):
            inputs = {"inputs_embeds": self.embedded(row)}
            if self.task == "SEQ_2_SEQ_LM":
                inputs |= {"labels": batch.labels(self.task)["labels"][number : number + 1]}
            output = self.base(**inputs, output_hidden_states=True)
            if self.task == "SEQ_CLS" and self.family in HEADS_BY_HAND:
                found.append(
                    {
                        "logits": HEADS_BY_HAND[self.family](
                            self.base, output.hidden_states[-1][:, P:]
                        )[0]
                    }
                )
                continue
            found.append({name: output[name][0] for name in self.names})
        return found

    def embedded(self, row: list[int]) -> torch.Tensor:
        """[prompt | text] of a row, (1, P + T, D)."""
        return torch.cat(
            [self.prompt[None], self.base.get_input_embeddings()(torch.tensor([row]))], dim=1
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Outputs that the task is asked for."""
        return OUTPUTS.get(self.task, ("logits",))

    @property
    def per_token(self) -> bool:
        """True where there is an output for each place of the input."""
        return self.task not in ("SEQ_CLS", "SEQ_2_SEQ_LM")

    def forward(self, batch: Batch) -> dict[str, list[torch.Tensor]]:
        """Outputs at the text of each row, by hand, ours and PEFT's."""
        labels = batch.labels(self.task) if self.task == "SEQ_2_SEQ_LM" else {}
        inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, **labels}
        ours, theirs = self.ours(**inputs), self.peft(**inputs)
        hand = [
            row[name][P:] if self.per_token else row[name]
            for name in self.names
            for row in self.by_hand(batch)
        ]
        found = {"by hand": hand}
        for who, output, cut in (("ours", ours, 0), ("PEFT", theirs, P)):
            values = [
                output[name][:, cut:] if self.per_token else output[name] for name in self.names
            ]
            pick = (lambda value: text_of(value, batch.mask)) if self.per_token else list
            found[who] = [row for value in values for row in pick(value)]
        return found

    def losses(self, batch: Batch) -> dict[str, torch.Tensor | None]:
        """The loss by hand, ours and PEFT's (None where it raises)."""
        inputs = {"input_ids": batch.ids, "attention_mask": batch.mask}
        ours = self.ours(**inputs, **batch.labels(self.task)).loss
        try:
            theirs = self.peft(**inputs, **batch.labels(self.task, shift=P)).loss
        except ValueError:
            theirs = None
        return {"by hand": self.loss_by_hand(batch), "ours": ours, "PEFT": theirs}

    def loss_by_hand(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy of the plain model's outputs over each row's own places."""
        rows = self.by_hand(batch)
        if self.task == "QUESTION_ANS":
            ends = (("start_logits", STARTS), ("end_logits", ENDS))
            logits = [
                (row[name][P:], places[number])
                for number, row in enumerate(rows)
                for name, places in ends
            ]
            return torch.stack(
                [cross_entropy(over_text, torch.tensor(place)) for over_text, place in logits]
            ).mean()
        labels = batch.labels(self.task)["labels"]
        if self.task == "SEQ_CLS":
            return cross_entropy(torch.stack([row["logits"] for row in rows]), labels)
        if self.task == "SEQ_2_SEQ_LM":
            return cross_entropy(torch.cat([row["logits"] for row in rows]), labels.flatten())
        places = slice(P - 1, -1) if self.task == "CAUSAL_LM" else slice(P, None)
        own = torch.cat(text_of(labels, batch.mask))
        return cross_entropy(
            torch.cat([row["logits"][places] for row in rows]), own, ignore_index=IGNORE
        )

    def gradient(self, batch: Batch) -> dict[str, list[torch.Tensor] | None]:
        """The prompt's gradient of the loss; of the first feature's mean square where the task has no loss."""
        if batch.labels(self.task):
            losses = self.losses(batch)
        else:
            losses = {
                who: torch.cat(rows)[:, 0].square().mean()
                for who, rows in self.forward(batch).items()
            }
        prompts = {
            "by hand": self.prompt,
            "ours": self.ours.prompts["default"].embedding.weight,
            "PEFT": self.peft.prompt_encoder["default"].embedding.weight,
        }
        return {
            who: None if losses[who] is None else list(torch.autograd.grad(losses[who], prompt))
            for who, prompt in prompts.items()
        }

    def generate(self, batch: Batch) -> dict[str, list[torch.Tensor]]:
        """Logits of four greedy steps, row by row."""
        inputs = {"input_ids": batch.ids, "attention_mask": batch.mask}
        alone = [
            self.base.generate(inputs_embeds=self.embedded(row).detach(), **GENERATE)
            for row in batch.rows
        ]
        steps = {
            "ours": self.ours.generate(**inputs, **GENERATE).logits,
            "PEFT": self.peft.generate(**inputs, **GENERATE).logits,
        }
        found = {who: list(torch.stack(logits, dim=1)) for who, logits in steps.items()}
        return {"by hand": [torch.cat(output.logits) for output in alone], **found}

    # ------------------------------------------------------------------------------------------------- the cells

    def cell(self, operation: str) -> str:
        """What the table says of an operation."""
        if operation == "generate" and self.task not in ("CAUSAL_LM", "SEQ_2_SEQ_LM"):
            return "–"
        if operation == "loss" and self.task == "FEATURE_EXTRACTION":
            return "–"
        if operation == "PEFT loads ours":
            return self.saved()
        if operation == "ours loads PEFT's":
            return self.loaded()
        verdicts = [self.verdict(operation, Batch(layout)) for layout in LAYOUTS]
        return verdicts[0] if len(set(verdicts)) == 1 else " / ".join(verdicts)

    def verdict(self, operation: str, batch: Batch) -> str:
        """Equal or mended, on one layout."""
        if operation == "loss":
            found = {
                who: None if loss is None else [loss] for who, loss in self.losses(batch).items()
            }
        else:
            found = getattr(self, operation)(batch)
        where = f"{self.task}, {self.family}, {operation}, {batch.layout}"
        if not _equal(found["ours"], found["by hand"]):
            raise Wrong(where)
        if found["PEFT"] is not None and _equal(found["ours"], found["PEFT"]):
            return "equal"
        return f"mended ({self.note(operation, batch.layout)})"

    def note(self, operation: str, layout: str) -> str:
        """Why PEFT's numbers are others."""
        if operation in ("loss", "gradient") and self.task in ("TOKEN_CLS", "QUESTION_ANS"):
            return "d" if self.task == "TOKEN_CLS" else "e"
        if self.task == "SEQ_CLS" and (self.family in HEADS_BY_HAND or layout == "right"):
            return "b" if self.family in HEADS_BY_HAND else "c"
        return "f" if operation == "generate" and layout == "right" else "a"

    def changed(self) -> None:
        """Let what is trained differ from what a fresh base model has."""
        with torch.no_grad():
            for weight in self.ours.parameters():
                if weight.requires_grad:
                    weight += 0.1 * torch.randn(
                        weight.shape, generator=torch.Generator().manual_seed(2)
                    )

    def saved(self) -> str:
        """Our folder in PEFT: the prompt and every weight of a head."""
        self.changed()
        with tempfile.TemporaryDirectory() as folder:
            self.ours.save_pretrained(folder)
            theirs = peft.PeftModel.from_pretrained(self.build(), folder).eval()
        found = [value for name, value in theirs.named_parameters() if "modules_to_save" in name]
        for weight in self.ours.head_weights(["default"]).values():
            if not any(torch.equal(weight, value) for value in found):
                raise Wrong(
                    f"{self.task}, {self.family}: a weight of the head is not in PEFT's model"
                )
        if not torch.equal(theirs.prompt_encoder["default"].embedding.weight, self.ours.prompt):
            raise Wrong(f"{self.task}, {self.family}: PEFT has read another prompt")
        return "equal"

    def loaded(self) -> str:
        """PEFT's folder of our folder, here."""
        batch = Batch("alone")
        with tempfile.TemporaryDirectory() as folder:
            self.ours.save_pretrained(folder)
            peft.PeftModel.from_pretrained(self.build(), folder).save_pretrained(f"{folder}/theirs")
            again = SoftPromptModel.from_pretrained(self.build(), f"{folder}/theirs")
        labels = batch.labels(self.task) if self.task == "SEQ_2_SEQ_LM" else {}
        for name in self.names:
            if not _equal(
                [again(batch.ids, **labels)[name]], [self.ours(batch.ids, **labels)[name]]
            ):
                raise Wrong(f"{self.task}, {self.family}: PEFT's folder gives other numbers here")
        return "equal"


def _equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    """Root-mean-square difference of at most 1e-5 of the size: the same for logits, losses and small gradients."""
    return all(((a - b).norm() <= 1e-5 * b.norm()) for a, b in zip(ours, theirs, strict=True))


# ------------------------------------------------------------------------------------------------------- the table


def cases() -> dict[tuple[str, str], Callable[[], Any]]:
    """Task type and family, with what builds the base model."""
    found = {("CAUSAL_LM", name): build for name, build in FAMILIES.items()}
    found |= {("SEQ_2_SEQ_LM", build.__name__): build for build in (t5, bart)}
    heads = [(task, family) for task in CLASSES_OF for family in CONFIGS]
    return found | {(task, family): partial(base_of, family, task) for task, family in heads}


def line_of(task: str, family: str) -> str:
    """A row of the table, run."""
    case = Case(task, family, cases()[task, family])
    return f"| {task} | {family} | {' | '.join(case.cell(operation) for operation in OPERATIONS)} |"


def main() -> None:
    """Run every cell and write the table."""
    lines = [
        "# Task type by family, beside PEFT",
        "",
        f"Written by `PYTHONPATH=tests python tests/conformance/by_task.py` with peft {peft.__version__}; "
        "`test_by_task.py` runs it again.",
        "Three layouts: one row / right pads / left pads; one word where all three are alike. In every cell ours",
        "are those of the plain base model on [prompt | text], row by row, to 1e-5.",
        "*equal*: so are PEFT's. *mended*: PEFT's are others, because",
        "",
        *(f"- ({letter}) {note}" for letter, note in NOTES.items()),
        "",
        f"| task type | family | {' | '.join(OPERATIONS)} |",
        "|" + "---|" * (2 + len(OPERATIONS)),
        *(line_of(*case) for case in tqdm(cases())),
    ]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
