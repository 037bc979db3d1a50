# %% [markdown]
# # 03 PromptEmbedding
#
# **How is a soft prompt built?** Chapter 02 put a (P, D) tensor in front of the input and asked nothing
# about where it came from. Here you type the class that holds it, as Hugging Face PEFT has it, line by
# line, and compare every number.
#
# You will be able to
#
# - fill in a `PromptTuningConfig` and say which of its fields the class reads;
# - start a prompt in five ways: RANDOM, TEXT, SAMPLE_VOCAB, class labels, the 5,000 most common tokens;
# - predict which word stands on virtual token 17 when the start text is too short or too long;
# - compare the norms of the starts with those of the vocabulary, and say which start is off the scale.
#
# Time: 30 minutes of reading, about half a minute of running on two cores. Base model: `smollm2` (`tiny` in
# fast mode). Letters: **B** rows, **P** virtual tokens, **T** text tokens, **D** width, **V** vocabulary,
# **L** layers.

# %% tags=["setup"]
import json
import math
import tempfile
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from transformers import AutoTokenizer

import softprompt_lab
from softprompt_lab import (
    PromptTuningConfig,
    PromptTuningInit,
    concatenate_prompt,
    course,
    embedding,
    load_base_model,
    load_task,
    plots,
)

lab = course.settings()

# %% [markdown]
# The base model gives the class two things: its word embeddings and, by name, its tokenizer. It stays on
# the CPU, where the tensors are that you make by hand.

# %%
model, tokenizer = load_base_model(lab.base, device="cpu")
task = load_task(lab.task)
words = model.get_input_embeddings()  # (V, D)
V, D = words.weight.shape
print(f"{lab.base}: V = {V:,}, D = {D}, word embeddings in {words.weight.dtype}")

# %% [markdown]
# ## The configuration
#
# A prompt is described by a handful of fields, and they are what is saved beside it (chapter 05). The
# docstring of PEFT's class has this example: a T5, an encoder-decoder of width 768 with 12 layers of 12
# heads.

# %%
example = PromptTuningConfig(
    peft_type="PROMPT_TUNING",
    task_type="SEQ_2_SEQ_LM",
    num_virtual_tokens=20,
    token_dim=768,
    num_transformer_submodules=1,
    num_attention_heads=12,
    num_layers=12,
    prompt_tuning_init="TEXT",
    prompt_tuning_init_text="Predict if sentiment of this review is positive, negative or neutral",
    tokenizer_name_or_path="t5-base",
)
print(example.to_json())

# %% [markdown]
# The text is JSON, the keys are PEFT's, and those that you did not give have a default. Is it the same as
# PEFT's own configuration, field by field? Predict: are there fields that only one of the two has?

# %%
import peft

fields = ["peft_type", "task_type", "num_virtual_tokens", "token_dim", "num_transformer_submodules"]
fields += ["num_attention_heads", "num_layers", "prompt_tuning_init", "prompt_tuning_init_text"]
fields += ["tokenizer_name_or_path"]
theirs = peft.PromptTuningConfig(**{field: getattr(example, field) for field in fields})
with tempfile.TemporaryDirectory() as folder:
    theirs.save_pretrained(folder)
    their_json = json.loads((Path(folder) / "adapter_config.json").read_text())
our_json = json.loads(example.to_json())
assert our_json.keys() == their_json.keys()
assert all(our_json[key] == their_json[key] for key in our_json if key != "peft_version")
print(f"{len(our_json)} fields saved by both; {len(fields)} of them stand in the example")

# %% [markdown]
# None: the same fields, with the same values. (The version is left out of the comparison: it says who wrote
# it.) Which of the ten will the class need? Write down your list before you go on; a few cells below, the
# class will be asked.
#
# ## Rows
#
# The first line of PEFT's class counts rows: `num_virtual_tokens` times `num_transformer_submodules`. A
# decoder has one submodule. An encoder-decoder may have two, one prompt for each. How many rows has the
# example with 2?

# %%
for submodules in (1, 2):
    total_virtual_tokens = example.num_virtual_tokens * submodules
    table = nn.Embedding(total_virtual_tokens, example.token_dim)
    shape = tuple(table.weight.shape)
    print(f"{submodules} submodule(s): rows x width = {shape}, {table.weight.numel():,} numbers")

# %% [markdown]
# ## Indices
#
# The prompt is kept in an `nn.Embedding`, a table that is read by row number. Chapter 02 used the tensor
# itself with `expand`. Are a lookup of rows 0, 1, ..., P-1 for each of B rows and `expand` the same thing?

# %%
B, P = 3, 5
table = nn.Embedding(P, D)
indices = torch.arange(P).expand(B, -1)  # (B, P): 0 1 2 3 4 in every row
looked_up = table(indices)  # (B, P, D)
assert torch.equal(looked_up, table.weight.expand(B, -1, -1))
looked_up.sum().backward()
print(
    tuple(indices.shape),
    "->",
    tuple(looked_up.shape),
    "| gradient of each number:",
    table.weight.grad.unique().tolist(),
)
assert (table.weight.grad == B).all()

# %% [markdown]
# The same, gradient included: each row of the batch adds its share. The table is only a place to keep a
# trainable tensor, under the name `embedding.weight`.
#
# ## RANDOM
#
# If nothing else is said, the rows stay as `nn.Embedding` draws them: N(0, 1), each number. How long is
# such a row, next to a word of this model? For a guess: D numbers of mean square 1 make a vector of length
# about sqrt(D).

# %%
torch.manual_seed(0)
random_rows = nn.Embedding(20, D).weight.detach()
word_norms = words.weight.norm(dim=1)  # (V,)
print(f"sqrt(D) = {math.sqrt(D):.1f}")
print(f"mean length of a random row: {random_rows.norm(dim=1).mean():.1f}")
print(f"median length of a word:     {word_norms.median():.2f}")
ratio = random_rows.norm(dim=1).mean() / word_norms.median()
print(f"a random row is {ratio:.1f} times as long")
assert ratio > 3

# %% [markdown]
# A random row is far too long, because its scale comes from torch and not from the model. You will see it
# in a picture below.
#
# ## TEXT: trim or repeat
#
# A text start takes the embeddings of a text's tokens. A text has as many tokens as it has, and the prompt
# has P rows. These are the lines of PEFT that make them fit; read them and say which token stands on row 17
# of 20.


# %%
def trim_or_repeat(init_token_ids, total_virtual_tokens):
    """PEFT's lines: token ids cut or repeated until they fill the rows."""
    num_text_tokens = len(init_token_ids)
    if num_text_tokens > total_virtual_tokens:
        init_token_ids = init_token_ids[:total_virtual_tokens]
    elif num_text_tokens < total_virtual_tokens:
        num_reps = math.ceil(total_virtual_tokens / num_text_tokens)
        init_token_ids = init_token_ids * num_reps
    return init_token_ids[:total_virtual_tokens]


text = "Classify if the tweet is a complaint or not:"
ids = tokenizer(text)["input_ids"]
print(len(ids), "tokens:", " | ".join(tokenizer.decode([i]) for i in ids))

# %% [markdown]
# Three lengths of prompt: shorter than the text, as long, and 20.


# %%
def tokens_on_rows(rows):
    """The token on each virtual token."""
    return [tokenizer.decode([i]) for i in trim_or_repeat(ids, rows)]


fitted = {f"P = {rows}": pd.Series(tokens_on_rows(rows)) for rows in (4, len(ids), 20)}
pd.DataFrame(fitted).fillna("").rename_axis("virtual token")

# %% [markdown]
# Short prompts lose the end of the text, and with it what the text asks for. Long prompts say it again, and
# break off in the middle: row r holds token r modulo the text's length.
#
# The lines can be said in one. Is it the same for every length?

# %%
for length in range(1, 40):
    for rows in range(1, 40):
        some_ids = list(range(length))
        short = (some_ids * math.ceil(rows / length))[:rows]
        assert short == trim_or_repeat(some_ids, rows)
        assert short == [r % length for r in range(rows)]
print("the same for 39 x 39 pairs of lengths")

# %% [markdown]
# ## A float32 copy
#
# The rows that the ids name are looked up, cut from the graph (`detach`), copied (`clone`) and cast to
# float32. Two questions. Does training the prompt change the vocabulary? And why float32, if the model runs
# in bfloat16?

# %%
before = words.weight[ids[0]].clone()
start = words(torch.LongTensor(ids)).detach().clone().to(torch.float32)  # (P, D)
prompt = nn.Parameter(start)
with torch.no_grad():
    prompt += 1.0
assert torch.equal(words.weight[ids[0]], before), "the vocabulary must stay as it was"

number = torch.tensor(0.1)
for dtype in (torch.float32, torch.bfloat16):
    moved = number.to(dtype) + torch.tensor(1e-4, dtype=dtype)
    verb = "does not move" if moved == number.to(dtype) else "moves"
    print(f"{dtype}: 0.1 + 0.0001 {verb} ({moved.item():.6f})")

# %% [markdown]
# The prompt is a copy: moving it leaves the words alone. And bfloat16 has about three decimal digits, so a
# small step of the optimizer rounds to no step at all. The P x D numbers of a prompt cost little, so they
# are kept in float32 and cast where they enter the model (chapter 02).
#
# ## The class
#
# Now the pieces stand together. This is PEFT's class with PEFT's names; the one line in place of the
# trimming lines is the one you have checked. SAMPLE_VOCAB draws token ids instead of reading a text.


# %%
class PromptEmbedding(torch.nn.Module):
    """P trainable vectors, looked up by index: (B, P) -> (B, P, D)."""

    def __init__(self, config, word_embeddings):
        super().__init__()
        total_virtual_tokens = config.num_virtual_tokens * config.num_transformer_submodules
        self.embedding = torch.nn.Embedding(total_virtual_tokens, config.token_dim)  # RANDOM: N(0, 1)
        if config.prompt_tuning_init == PromptTuningInit.SAMPLE_VOCAB:
            vocab_size = word_embeddings.num_embeddings
            init_token_ids = torch.randint(0, vocab_size, (total_virtual_tokens,)).tolist()
        elif config.prompt_tuning_init == PromptTuningInit.TEXT:
            tokenizer = AutoTokenizer.from_pretrained(config.tokenizer_name_or_path)
            init_token_ids = tokenizer(config.prompt_tuning_init_text)["input_ids"]
            # Trim or iterate until num_text_tokens matches total_virtual_tokens
            num_reps = math.ceil(total_virtual_tokens / len(init_token_ids))
            init_token_ids = (init_token_ids * num_reps)[:total_virtual_tokens]
        if config.prompt_tuning_init != PromptTuningInit.RANDOM:
            word_embedding_weights = word_embeddings(torch.LongTensor(init_token_ids)).detach().clone()
            word_embedding_weights = word_embedding_weights.to(torch.float32)
            self.embedding.weight = torch.nn.Parameter(word_embedding_weights)

    def forward(self, indices):
        return self.embedding(indices)


# %% [markdown]
# Build one for each start, 20 rows for this base model, and look at the shapes and at the first words.


# %%
def config_for(init, P=20, **more):
    """A configuration for this base model; TEXT reads the tokenizer from where it was loaded."""
    if init == "TEXT":
        more |= {"prompt_tuning_init_text": text, "tokenizer_name_or_path": tokenizer.name_or_path}
    return PromptTuningConfig(num_virtual_tokens=P, token_dim=D, prompt_tuning_init=init, **more)


indices = torch.arange(20).expand(B, -1)  # (B, P)
for init in ("RANDOM", "TEXT", "SAMPLE_VOCAB"):
    prompt_embedding = PromptEmbedding(config_for(init), words)
    print(f"{init:12} {tuple(indices.shape)} -> {tuple(prompt_embedding(indices).shape)}")

# %% [markdown]
# ### Which fields does the class read?
#
# You wrote down a list. Hand the class a configuration that takes notes.


# %%
class NotingConfig:
    """A configuration that notes which of its fields are read."""

    def __init__(self, config):
        self.config, self.read = config, set()

    def __getattr__(self, name):
        self.read.add(name)
        return getattr(self.config, name)


noting = NotingConfig(config_for("TEXT"))
PromptEmbedding(noting, words)
assert noting.read == set(fields) - {"peft_type", "task_type", "num_attention_heads", "num_layers"}
pd.DataFrame({field: "read" if field in noting.read else "not read" for field in fields}, index=["by the class"]).T

# %% [markdown]
# Six of ten. The number of layers and heads is for PEFT's relatives, such as prefix tuning, that put
# vectors into every layer; the class says nothing of them because prompt tuning **changes the input layer
# only**. `peft_type` and `task_type` tell the *loader* which class and which wrapper to take.
#
# ## Number by number
#
# The claim is that you typed PEFT's class. Give both the same random state, the same configuration and the
# same words, and compare all P x D numbers.


# %%
def built_by(prompt_class, config, seed=7):
    """The start (P, D) that a class makes from a given random state."""
    torch.manual_seed(seed)
    return prompt_class(config, words).embedding.weight.detach()


for init in ("RANDOM", "TEXT", "SAMPLE_VOCAB"):
    config = config_for(init)
    ours, theirs = built_by(PromptEmbedding, config), built_by(peft.PromptEmbedding, config)
    assert course.compare(f"{init}, ours and PEFT's", ours, theirs)
    assert torch.equal(ours, theirs)

# %% [markdown]
# Exactly equal, all three, and PEFT took our configuration in place of its own. Now the package's class. It
# has the same TEXT and RANDOM; predict for SAMPLE_VOCAB with the same seed: the same words?

# %%
for init in ("RANDOM", "TEXT", "SAMPLE_VOCAB"):
    config = config_for(init)
    ours, package = built_by(PromptEmbedding, config), built_by(softprompt_lab.PromptEmbedding, config)
    equal = course.compare(f"{init}, ours and the package's", ours, package)
    assert equal or init == "SAMPLE_VOCAB"

# %% [markdown]
# Other words. PEFT's first line draws a full N(0, 1) table, P x D random numbers, and throws it away; the
# ids come after that. The package draws the ids at once. Check the explanation: spend the same numbers
# first.

# %%
torch.manual_seed(7)
torch.randn(20, D)  # what nn.Embedding draws and PEFT throws away
package = softprompt_lab.PromptEmbedding(config, words).embedding.weight  # config: the last one, SAMPLE_VOCAB
ours = built_by(PromptEmbedding, config)
assert course.compare("SAMPLE_VOCAB, same random state", ours, package)

# %% [markdown]
# A seed names a place in a stream of numbers, not a result. Two programs with one seed agree only if they
# draw the same things in the same order.
#
# ### One difference on purpose
#
# Some tokenizers add special tokens, such as `[CLS]` in front and `[SEP]` behind. What happens when the
# text is repeated? Make such a tokenizer out of this one, and ask both classes for 20 rows.

# %%
from tokenizers.processors import TemplateProcessing

with tempfile.TemporaryDirectory() as folder:
    tokenizer.save_pretrained(folder)
    marked = AutoTokenizer.from_pretrained(folder)
    end = marked.eos_token
    marked.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{end} $A {end}", special_tokens=[(end, marked.eos_token_id)]
    )
    marked.save_pretrained(folder)
    config = config_for("TEXT", P=30)
    config.tokenizer_name_or_path = folder
    special = words.weight[marked.eos_token_id]
    for name, prompt_class in {
        "PEFT": peft.PromptEmbedding,
        "package": softprompt_lab.PromptEmbedding,
    }.items():
        rows = built_by(prompt_class, config)
        at = (rows == special).all(dim=1).nonzero()[:, 0].tolist()
        print(f"{name}: the special token stands on rows {at}")
        assert bool(at) == (name == "PEFT")

# %% [markdown]
# PEFT keeps the special tokens and repeats them in the middle of the prompt; the package leaves them out.
# For a tokenizer that adds none, as this base model's, the two are the same, as you saw.
#
# ## Two more starts: labels, and common words
#
# Lester et al. 2021 compare three starts: random, words sampled from the 5,000 most common tokens, and
# *class labels*: one virtual token for each label, the mean where a label has several tokens, the rest
# sampled. Type the label rows.

# %%
label_ids = [tokenizer(" " + label, add_special_tokens=False)["input_ids"] for label in task.labels]
for label, row in zip(task.labels, label_ids, strict=True):
    print(f"{label!r}: {len(row)} token(s) {[tokenizer.decode([i]) for i in row]}")
label_rows = torch.stack([words(torch.tensor(row)).mean(dim=0) for row in label_ids])  # (labels, D)

generator = torch.Generator().manual_seed(7)
labels_start = embedding.class_label_start(task.labels, tokenizer, words, 20, generator)
assert course.compare("label rows, ours and the package's", label_rows, labels_start[: len(label_rows)])

# %% [markdown]
# The other rows come from the common tokens. A byte-pair vocabulary is numbered in the order of its merges,
# and common pairs are merged first, so "the 5,000 most common" are about the 5,000 lowest ids. Is that so
# on our messages?

# %%
token_ids = [i for message in task.train[task.text_column] for i in tokenizer(message)["input_ids"]]
top = min(embedding.TOP_VOCABULARY, V)
share = sum(i < top for i in token_ids) / len(token_ids)
print(f"ids below {top:,} are {top / V:.0%} of the vocabulary and {share:.0%} of the tokens in our messages")
assert share >= top / V

# %% [markdown]
# Sample twelve tokens each way and read them. The first column is what SAMPLE_VOCAB takes, the second what
# Lester et al. took.

# %%
generator = torch.Generator().manual_seed(0)
drawn = {
    "whole vocabulary": torch.randint(0, V, (12,), generator=generator),
    f"lowest {top:,} ids": torch.randint(0, top, (12,), generator=generator),
}
pd.DataFrame({name: [repr(tokenizer.decode([i])) for i in ids_.tolist()] for name, ids_ in drawn.items()})

# %% [markdown]
# ## Norms of the starts
#
# All starts but RANDOM are made of words. Where do their lengths lie among those of the vocabulary? Predict
# the order of the five from short to long; remember that some label rows are means.

# %%
torch.manual_seed(0)
generator = torch.Generator().manual_seed(0)
starts = {
    "RANDOM": embedding.random_start(20, D, generator),
    "TEXT": embedding.text_start(text, tokenizer, words, 20),
    "SAMPLE_VOCAB": embedding.sample_vocab_start(words, 20, generator),
    "lowest 5,000": embedding.sample_vocab_start(words, 20, generator, top=5_000),
    "class labels": embedding.class_label_start(task.labels, tokenizer, words, 20, generator),
}
norms = {name: start.norm(dim=1) for name, start in starts.items()}
plots.norms_histogram(word_norms, norms)

# %% [markdown]
# The histogram is the vocabulary; below it each marker is one virtual token, and the dotted line is the
# median word. In numbers:

# %%
columns = ["shortest", "mean", "longest"]
table = pd.DataFrame({name: [n.min(), n.mean(), n.max()] for name, n in norms.items()}, index=columns).T.astype(float)
table["mean / median word"] = table["mean"] / word_norms.median().item()
for name in ("TEXT", "SAMPLE_VOCAB", "lowest 5,000"):  # made of words: inside the vocabulary's range
    assert norms[name].min() >= word_norms.min() - 1e-4
    assert norms[name].max() <= word_norms.max() + 1e-4
assert norms["RANDOM"].min() > word_norms.median()
table.round(2)

# %% [markdown]
# The mean of a label's tokens is at most as long as they are on average, since they do not point the same
# way. RANDOM stands off the scale of the words, and PEFT's default is this start; the docstring of its
# configuration warns that such tokens "may fall outside of embedding manifold". The package's default is
# TEXT where a text is given, and SAMPLE_VOCAB otherwise. Could training not bring the prompt back to the
# scale? Adam moves each number by about the learning rate in a step, so 50 steps that decay from 0.01 to 0
# carry a number this far:

# %%
reach = sum(0.01 * (1 - step / 50) for step in range(50))
print(f"reach of a number in 50 steps: about {reach:.2f}")
size = {"RANDOM": starts["RANDOM"].abs().mean().item(), "words": words.weight.abs().mean().item()}
print("mean size of a number:", {name: round(value, 2) for name, value in size.items()})
assert size["RANDOM"] - reach > size["words"]

# %% [markdown]
# Not in 50 steps: a prompt that starts at RANDOM stays off the scale of the words. That does not make it
# useless; chapter 06 asks how such a prompt reads.
#
# Does the start matter before any training? Here is the loss of each start on 16 training messages, beside
# no prompt at all. It takes about ten seconds on two cores. "Guessing a label" is a model that knows the
# labels and the format and guesses which: it pays log(number of labels) for each message and nothing for
# the rest. One draw of each start, one small batch: this is a look, not a comparison.

# %%
def label_loss(start, rows):
    """Mean loss of the labels' tokens behind a start, in nats; one row at a time, so nothing needs a pad."""
    summed = 0.0
    for context, label in rows:
        x = concatenate_prompt(words(torch.tensor([context + label])), start)
        labels = torch.tensor([[-100] * (len(start) + len(context)) + label])
        summed += model(inputs_embeds=x, labels=labels).loss.item() * len(label)
    return summed / sum(len(label) for _, label in rows)


first = task.train.select(range(16))
pairs = zip(first[task.text_column], first["text_label"], strict=True)
rows = [task.encode(tokenizer, text, label) for text, label in pairs]
with torch.no_grad():
    losses = {name: label_loss(start, rows) for name, start in starts.items()}
    losses["no prompt"] = label_loss(torch.zeros(0, D), rows)
losses["guessing a label"] = math.log(len(task.labels)) * len(rows) / sum(len(label) for _, label in rows)
if not lab.fast:  # tiny was pretrained on this very instruction, so there TEXT needs no training
    assert min(losses, key=losses.get) == "guessing a label"
pd.Series(losses, name="loss before training (nats a label token)").sort_values().round(2).to_frame()

# %% [markdown]
# On `smollm2` every start is far worse than guessing: the model does not know the format yet. Find "no
# prompt" in your table: starts below it make the model worse than it is alone, so a prompt of unrelated
# vectors is not a neutral thing. Whether a better start *ends* better is a question of training: chapter 04
# trains, chapter 08 compares starts with error bars.

# %% [markdown]
# ## Summary
#
# - `PromptEmbedding` is an `nn.Embedding` of P x submodules rows by D, read with the indices 0 to P-1.
# - Six of the ten fields of the docstring's example decide how it is made; the others are for the loader.
# - TEXT trims or repeats the ids until they fill the rows: row r holds token r modulo the text's length.
# - The start is a detached float32 copy: the vocabulary does not move, and small steps do not round away.
# - What you typed equals PEFT's class in every number; the package differs in the order of random draws and
#   in leaving special tokens out.
# - RANDOM has the scale of torch, not of the model's words; every other start has the words' scale.

# %% [markdown]
# ## Exercises
#
# `course.hint("03-1")` in a cell of its own opens a hint. A stub that you leave alone stops nothing.
#
# ### 03-1 Stretch instead of repeat
#
# Repeating breaks off in the middle of the text. Change the one line: *stretch* the text over the rows, so
# that its first token stands on the first rows and its last on the last. For n tokens and `rows` rows, row
# r holds token number `r * n // rows`. Return the list of ids; it has `rows` entries, for a text that is
# too long, too.


# %%
def stretch(ids, rows):
    """Token ids spread evenly over the rows."""
    ### BEGIN SOLUTION
    return [ids[r * len(ids) // rows] for r in range(rows)]
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("03-1", stretch)

# %% [markdown]
# ### 03-2 A random start at the words' scale
#
# RANDOM has the wrong length. Draw random rows whose *expected squared length* is the mean squared length
# of the words. In loops: draw every number from N(0, s squared) with one s for all. Derive s: a vector of D
# such numbers has an expected squared length of D times s squared. Return (rows, D), drawn with
# `torch.randn(..., generator=generator)`.


# %%
import torch


def scaled_random_start(word_embeddings, rows, generator):
    """(V, D) word embeddings -> (rows, D) random vectors of the words' scale."""
    ### BEGIN SOLUTION
    D = word_embeddings.shape[1]
    s = (word_embeddings.square().sum(dim=1).mean() / D).sqrt()
    return s * torch.randn(rows, D, generator=generator)
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("03-2", scaled_random_start)

# %% [markdown]
# ### 03-3 Derive the gradient of a lookup
#
# `nn.Embedding` maps `indices` (B, P) to `weight[indices]` (B, P, D). You are given `indices`, the gradient
# `g` at the result (B, P, D), and the number of rows. Return the gradient at the table, (rows, D). In
# loops: start from zeros; for each b and p, add `g[b, p]` to row `indices[b, p]`. Write it without Python
# loops, and mind that an index may occur many times: `grad[indices] += g` counts it once.


# %%
import torch


def lookup_gradient(indices, g, rows):
    """Gradient at the looked-up vectors (B, P, D) -> gradient at the table (rows, D)."""
    ### BEGIN SOLUTION
    grad = torch.zeros(rows, g.shape[-1])
    return grad.index_add(0, indices.flatten(), g.flatten(0, 1))
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("03-3", lookup_gradient)

# %% [markdown]
# ## Sources
#
# - Hugging Face PEFT, `PromptEmbedding` and `PromptTuningConfig` (`peft/tuners/prompt_tuning`), Apache-2.0.
# - Lester, Al-Rfou, Constant 2021, *The Power of Scale for Parameter-Efficient Prompt Tuning*, arXiv
#   2104.08691: the starts in section 3.2.
