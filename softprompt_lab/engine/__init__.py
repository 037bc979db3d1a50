"""How a batch goes through the frozen base model: every token once, no pads, logits where there are labels.

fast                    `FastEngine`, which the core uses in place of `batch.PlainEngine` where this room is there
packing                 many texts behind one prompt in one row
blocks                  attention of a packed row, text by text
strategies              five ways from a batch to the logits at its labels
selection               which of them a batch takes
exactness               what a base model takes, found out by asking it once
prefixes                prompts' keys and values, computed once and put under any number of rows
prefill                 texts of a batch read without their pads, behind kept prefixes
generation              transformers' `generate` on top of kept prefixes
locks                   one thread in a base model at a time
gradient_checkpointing  for a base model in eval mode
"""

from .fast import FastEngine

__all__ = ["FastEngine"]
