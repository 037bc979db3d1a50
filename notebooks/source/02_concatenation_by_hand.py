# %% [markdown]
# # 02 Concatenation by hand
#
# **What is a soft prompt?**
#
# Chapter 01 looked for the best *words* to put in front of a text. But a language model does not read words:
# its first layer turns each token into a vector, and all other layers see vectors only. So you can leave the
# words out, put vectors of your own in front, and move them so that right answers become likelier. Here you do that by
# hand, with ten steps of gradient descent.
#
# You will be able to
#
# - write the concatenation that prompt tuning rests on, and give the shape of every tensor in it;
# - extend mask and labels, and say what the backward pass gives at the prompt;
# - say what a text and a soft prompt have in common, and what a text can never be;
# - test whether a batch gives each row what it gets alone.
#
# You type the first panel of this picture yourself; the other two follow.

# %%
from softprompt_lab import plots

plots.concatenation_diagram(8, [7, 5], [2, 2], title="The same eight vectors stand in front of every row")

# %% [markdown]
# Orange: **P** = 8 virtual tokens, the same in **B** = 2 rows. Blue and green: **T** tokens of
# text, the green ones to be predicted. White: padding. A cell of the first panel is a vector of **D** numbers.
#
# Now load a frozen model, and a small task: a word in, its opposite out.

# %% tags=["setup"]
import pandas as pd
import torch
from torch import nn

from softprompt_lab import PromptTuningConfig, SoftPromptModel, evaluate
from softprompt_lab import course, load_base_model, load_task, plots

model, tokenizer = load_base_model("smollm2", device="cpu")
task = load_task("words/antonym")
words = model.get_input_embeddings()  # the table of word embeddings, (V, D)
V, D = words.weight.shape

# %% [markdown]
# This model has D = {{D}} and a vocabulary of V = {{V:,}} tokens. Of the task's pairs {{len(task.train)}} are for
# training, {{len(task.validation)}} for validation, on which choices are made, and {{len(task.test)}} are held out,
# `hot` among them. The answers differ, so there is no majority to beat. What takes long:

# %% tags=["setup", "parameters"]
STEPS = 10  # of gradient descent
ROWS = 16  # training words that the steps see
SIZE = 0.2  # of a step: a choice, about 0.07 a vector, where a word's vector is some 3 long
ASKED = None  # held-out words that are asked: all of them

# %% tags=["fast"]
STEPS, ROWS, ASKED = 2, 4, 4

# %% [markdown]
# ## The model reads vectors
#
# A model gets token ids and looks up a row of its table for each. Look the rows up yourself and hand over the
# vectors:

# %%
ids = tokenizer("hot ->", return_tensors="pt").input_ids  # (B, T)
x = words(ids)  # (B, T, D)
with torch.no_grad():
    from_ids = model(input_ids=ids).logits  # (B, T, V)
    from_vectors = model(inputs_embeds=x).logits
print("ids", tuple(ids.shape), "vectors", tuple(x.shape))
course.compare("logits from vectors, from ids", from_vectors, from_ids)

# %% [markdown]
# The same to the last bit. `inputs_embeds` skips the table, and it takes any vectors, also those that are no row of it.

# %% [markdown] tags=["exercise"]
# ### Exercise 02-1: Put the prompt in front
#
# The text that this course grew from, a walk through the source of Hugging Face PEFT, gives prompt tuning in seven
# lines:
#
# ```text
# soft_prompt = torch.nn.Parameter(             # Make tensor trainable
#     torch.rand(num_tokens, embed_dim))        # Initialize soft prompt tensor
#
# def input_with_softprompt(x, soft_prompt):
#     x = concatenate([soft_prompt, x],         # Prepend soft prompt to input
#                     dim=seq_len)
#     return x
#
# model(input_with_softprompt(x))
# ```
#
# torch refuses it as it stands: a prompt (P, D) and an input (B, T, D) cannot be joined. Write a function that works
# for every batch. Row b of the result, (B, P+T, D), is the prompt and then the text of row b, in the type of
# `input_embeddings`; a prompt of another width is a ValueError.


# %% tags=["exercise"]
import torch


def concatenate_prompt(input_embeddings, prompt):
    """Put the same prompt (P, D) in front of every row of (B, T, D): Lester et al. 2021, section 2."""
    ### BEGIN SOLUTION
    if prompt.shape[-1] != input_embeddings.shape[-1]:
        raise ValueError(f"the prompt is {prompt.shape[-1]} wide, the input {input_embeddings.shape[-1]}.")
    B = input_embeddings.shape[0]
    rows = prompt.to(input_embeddings.dtype).expand(B, -1, -1)  # (B, P, D)
    return torch.cat([rows, input_embeddings], dim=1)  # (B, P+T, D)
    ### END SOLUTION


# %% [markdown] tags=["exercise"]
# Check it, or go on: a stub stops nothing. `course.hint("02-1")` in a cell of its own opens a hint.

# %% tags=["exercise"]
from softprompt_lab import course

course.check("02-1", concatenate_prompt)

# %% [markdown]
# ## An instruction as vectors
#
# From here on `concatenate_prompt` is the package's. As a first prompt take the embeddings of the task's instruction,
# "{{task.instruction}}" and a line break: a (P, D) tensor. Compare it with the same instruction in front of `hot ->`
# as text.

# %%
course.vote("02-a")
from softprompt_lab import concatenate_prompt

instruction = tokenizer(task.instruction + "\n", return_tensors="pt").input_ids  # (1, P)
start = words(instruction[0]).detach()  # (P, D)
with torch.no_grad():
    as_text = model(input_ids=torch.cat([instruction, ids], dim=1)).logits
    as_prompt = model(inputs_embeds=concatenate_prompt(x, start)).logits
print(tuple(x.shape), "behind", tuple(start.shape), "->", tuple(concatenate_prompt(x, start).shape))
course.compare("prompt of embeddings, text in front", as_prompt, as_text, tolerance=1e-4)

# %% [markdown]
# They agree, so **every text is also a soft prompt**: whatever words in front reach, a prompt of as many vectors
# reaches too, because it may begin as these words.
#
# The reverse does not hold. Texts of P tokens are single points, V to the power P of them, while a soft prompt is
# P x D = {{start.numel():,}} numbers, each free to move. Vectors drawn by `torch.rand`, as in the pseudocode, are no
# words at all. What does the model expect next behind each?

# %%
torch.manual_seed(0)
drawn = torch.rand(len(start), D)
nearest = torch.cdist(drawn, words.weight).min(dim=1).values
print(f"length of a word's vector, median: {words.weight.norm(dim=1).median():.1f}")
print(f"from a drawn vector to the nearest word, median: {nearest.median():.1f}")
fronts = {"instruction as vectors": start, "no prompt": start[:0], "torch.rand": drawn}
shares = {"instruction as text": as_text[0, -1].softmax(-1)}  # (V,)
for name, prompt in fronts.items():
    with torch.no_grad():
        logits = model(inputs_embeds=concatenate_prompt(x, prompt)).logits
    shares[name] = logits[0, -1].softmax(-1)
likely = {i: repr(tokenizer.decode([i])) for share in shares.values() for i in share.topk(2).indices.tolist()}
table = pd.DataFrame({name: share[list(likely)] for name, share in shares.items()}, index=likely.values()).T
table["any other"] = 1 - table.sum(axis=1)
plots.answer_shares(
    {"behind 'hot ->'": table},
    "probability of the next token",
    title="A text and its vectors give the same answer",
)

# %% [markdown]
# Behind the random vectors the likeliest token is a bare space, as without a prompt: of the task they say nothing.
# Where a prompt should start is the question of chapter 03.
#
# ## Mask and labels grow with the input
#
# To move a prompt you need a loss, and for that a batch. Its rows differ in length, so the shorter ones are
# padded, and three (B, T) tensors describe it: ids, attention mask (1 text, 0 pad) and labels (the token to be
# predicted, or -100 for none).


# %%
def batch_of(rows, side="right"):
    """Ids, attention mask and labels, (B, T) each, of rows (context ids, answer ids)."""

    def pad(lists, value):
        tensors = [torch.tensor(each) for each in lists]
        return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=side)

    ids = pad([context + answer for context, answer in rows], tokenizer.pad_token_id)
    mask = pad([[1] * len(context + answer) for context, answer in rows], 0)
    labels = pad([[-100] * len(context) + answer for context, answer in rows], -100)
    return ids, mask, labels


def extend(tensor, P, value):
    """A mask or labels (B, T) with P columns of `value` in front: (B, P+T)."""
    return torch.cat([tensor.new_full((len(tensor), P), value), tensor], dim=1)


train = [task.encode(tokenizer, row["word"], row["text_label"]) for row in task.train]

# %% [markdown]
# `extend` makes room for the prompt: it is to be read, so its mask is 1, and nobody is to predict it, so its labels are
# -100. Here are two training words behind the prompt. `task.encode` gives the ids of context and answer, and ends the
# answer with the end token.

# %%
pair = [train[3], train[2]]
tokens = [tokenizer.convert_ids_to_tokens(context + answer) for context, answer in pair]
tokens = [[token.strip("Ġ").replace("<|im_end|>", "<end>") for token in row] for row in tokens]
sizes = [len(row) for row in tokens], [len(answer) for _, answer in pair]
title = "The mask grows by P ones, the labels by P times -100"
plots.concatenation_diagram(len(start), *sizes, words=tokens, title=title)

# %% [markdown]
# The loss is the mean over the green cells of the last panel, each predicted from the position *before* it: `fail`
# from the arrow, the end token from `fail`. What other positions predict does not count.
#
# ## What the backward pass gives
#
# Put the instruction in front of this pair, now as something that may move. Compute the loss, also by hand, and go
# backward.


# %%
def token_losses(logits, labels):
    """The loss of each token, predicted from the position before it: (B, length - 1), 0 where the label is -100."""
    wanted = labels[:, 1:]
    each = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), wanted.flatten(), reduction="none")
    return each.view(wanted.shape)


ids, mask, labels = batch_of(pair)
prompt = nn.Parameter(start.clone())  # (P, D), trainable
P = len(prompt)
z = concatenate_prompt(words(ids), prompt)  # (B, P+T, D)
z.retain_grad()
long_labels = extend(labels, P, -100)  # (B, P+T)
output = model(inputs_embeds=z, attention_mask=extend(mask, P, 1), labels=long_labels)
by_hand = token_losses(output.logits, long_labels).sum() / (labels != -100).sum()
course.compare("loss by hand, loss of transformers", by_hand, output.loss)
output.loss.backward()
moving = [name for name, weight in model.named_parameters() if weight.grad is not None]
print(f"weights of the model with a gradient: {len(moving)}")
print("gradient at the input", tuple(z.grad.shape), "at the prompt", tuple(prompt.grad.shape))

# %% tags=["check"]
assert moving == []
assert torch.allclose(by_hand, output.loss, atol=1e-5)
assert torch.allclose(prompt.grad, z.grad[:, :P].sum(dim=0), atol=1e-6)

# %% [markdown]
# The gradient went back through all {{model.config.num_hidden_layers}} layers, and it is kept in one place only: the
# prompt is the only trainable tensor, because the model, with its table of embeddings, is frozen. At the input it is
# (B, P+T, D), at the prompt (P, D). How the one becomes the other is exercise 02-4.
#
# ## Ten steps by hand
#
# First see where you start. What does the model write behind four held-out words, without a prompt and behind the
# instruction?


# %%
def ask(word, prompt):
    """What the model writes behind prompt and word."""
    context = torch.tensor([task.encode(tokenizer, word)[0]])
    x = concatenate_prompt(words(context), prompt)
    mask = torch.ones(x.shape[:2], dtype=torch.long)
    written = model.generate(inputs_embeds=x, attention_mask=mask, max_new_tokens=8, do_sample=False)
    return tokenizer.decode(written[0], skip_special_tokens=True)


asked = ["hot", "big", "artificial", "wet"]
answers = pd.DataFrame(index=asked)
answers["no prompt"] = [repr(ask(word, start[:0])) for word in asked]
answers["instruction"] = [repr(ask(word, start)) for word in asked]
answers

# %% [markdown]
# Behind the instruction the model often gives the opposite, but it does not stop, because nobody told it how an answer
# ends.
#
# Now ten steps. Each takes the loss on {{ROWS}} training words, goes backward, and moves the prompt by {{SIZE}} in
# the direction in which the loss falls fastest: little beside a word's vector. Word and end token are followed apart,
# in nats (the unit of natural logarithms): about ten seconds on two cores.


# %%
def run(ids, mask, prompt, labels, **more):
    """The base model behind a prompt, with mask and labels extended."""
    P, x = len(prompt), concatenate_prompt(words(ids), prompt)
    return model(inputs_embeds=x, attention_mask=extend(mask, P, 1), labels=extend(labels, P, -100), **more)


ids, mask, labels = batch_of(train[:ROWS])
long_labels, end = extend(labels, P, -100), train[0][1][-1]  # the end token's id
is_end = long_labels[:, 1:] == end
parts = {"word": (long_labels[:, 1:] != -100) & ~is_end, "end token": is_end}
prompt, losses = nn.Parameter(start.clone()), []
for step in range(STEPS + 1):
    output = run(ids, mask, prompt, labels)
    each = token_losses(output.logits, long_labels).detach()
    losses += [{"kind": kind, "step": step, "loss": each[part].mean().item()} for kind, part in parts.items()]
    if step < STEPS:
        output.loss.backward()
        with torch.no_grad():
            prompt -= SIZE * prompt.grad / prompt.grad.norm()  # downhill
        prompt.grad = None
moved = prompt.detach()
plots.curves_figure(
    pd.DataFrame(losses), "step", {"loss": "loss (nats a token)"}, title="Most of the fall is the end token's"
)

# %% [markdown]
# The word's loss falls from {{losses[0]["loss"]:.2f}} to {{losses[-2]["loss"]:.2f}}, the end token's from
# {{losses[1]["loss"]:.2f}} to {{losses[-1]["loss"]:.2f}}. But the steps saw these words, so ask the held-out ones.
#
# An answer is *right* here when its first line is the opposite, whatever follows below. A table made before has, on
# the same words, wordings (there the right first word is enough), examples in front and trained prompts; wording and
# form of the examples were chosen on validation words. About ten seconds:

# %%
course.vote("02-b")
packaged = SoftPromptModel(model, PromptTuningConfig(num_virtual_tokens=P), tokenizer=tokenizer, start=start)
found = evaluate(packaged, task, prompts={"instruction as vectors": start, "after ten steps": moved}, limit=ASKED)
before, after = found.values()
measured = pd.DataFrame([[name, m.accuracy, *m.confidence_interval] for name, m in found.items()])
measured = measured.set_axis(["label", "accuracy", "low", "high"], axis=1).assign(kind="measured here")

table, choice = pd.read_csv("tables/antonym.csv"), ["validation", "validation loss"]
means = table.groupby(["kind", "detail"], as_index=False)[choice].mean()
best = means.sort_values(choice, ascending=[True, False]).groupby("kind")["detail"].last()
names = {"wording": "best wording", "5 examples": "5 examples, draw", "20 examples": "20 examples, draw"}
names["trained"] = "4 vectors, 100 steps, seed"
known = table[(table["detail"] == table["kind"].map(best)) & table["kind"].isin(list(names))]
runs = known["seed"].map(" {:.0f}".format).replace(" nan", "")
from_table = known.assign(label=known["kind"].map(names) + runs, kind="from a table")
rows = pd.concat([measured, from_table])
axis = f"held-out words that are right, n = {after.n}"
plots.accuracy_comparison(rows, after.majority_baseline, axis, title="Ten steps by hand, beside words and examples")

# %% [markdown]
# From {{before.accuracy:.0%}} to {{after.accuracy:.0%}} of the held-out words, by {{ROWS}} training words, and no
# weight of the model changed. How many answers are the word and nothing more, and how far did the prompt move?

# %%
for name, m in found.items():
    print(f"{name}: the word and nothing more {(m.predictions['prediction'] == m.predictions['label']).mean():.0%}")
way = moved - start
print(f"the prompt moved by {way.norm():.2f}, each of its vectors by {way.norm(dim=1).mean():.2f}")
others = torch.cdist(start, words.weight).topk(2, largest=False).values[:, 1]
print(f"from a word of the instruction to the nearest other word: {others.mean():.1f}")
spread = known.groupby("kind")["accuracy"].agg(lambda runs: f"{runs.min():.1%} to {runs.max():.1%}")
tokens_taken = known.groupby("kind")["tokens"].max()

# %% tags=["check"]
assert after.accuracy > 1.7 * before.accuracy
exact = {name: (m.predictions["prediction"] == m.predictions["label"]).mean() for name, m in found.items()}
assert exact["instruction as vectors"] == 0
assert exact["after ten steps"] > 0.6
least, most = (getattr(known.groupby("kind")["accuracy"], name)() for name in ("min", "max"))
assert least["5 examples"] < after.accuracy < most["5 examples"]
assert least["trained"] < after.accuracy < most["trained"]
assert least["20 examples"] > max(after.accuracy, most["5 examples"], most["trained"])
assert way.norm(dim=1).mean() < 0.3 * others.mean()
assert list(known["kind"].value_counts()[list(names)]) == [1, 3, 3, 3]
# the title of the figure of losses
falls = [losses[at]["loss"] - losses[at - 2]["loss"] for at in (0, 1)]
assert falls[1] > falls[0] > 1
# exercise 02-3 says how far the steps went
assert 0.9 < (moved - start).norm() < 1.1
# exercise 02-2: behind a mask of zeros the prompt has no influence
hidden = nn.Parameter(start.clone())
with_mask = {"attention_mask": extend(mask, P, 0), "labels": extend(labels, P, -100)}
loss = model(inputs_embeds=concatenate_prompt(words(ids), hidden), **with_mask).loss
loss.backward()
assert hidden.grad.abs().max() == 0
assert abs(loss.item() - run(ids, mask, start[:0], labels).loss.item()) < 1e-3

# %% [markdown]
# The prompt learned to stop, because the end token was a label, and it stayed much nearer to its words than they are
# to others.
#
# With n = {{after.n}} the intervals are wide. Five examples in front reach {{spread["5 examples"]}}, four
# vectors trained for 100 steps {{spread["trained"]}}: the ten steps lie among them. Twenty examples are
# ahead in each draw, with {{spread["20 examples"]}} (intervals overlap), but take {{tokens_taken["20 examples"]:.0f}}
# tokens beside every word (five take {{tokens_taken["5 examples"]:.0f}}, prompt and arrow
# {{P + len(task.encode(tokenizer, "")[0])}}).
#
# What do the four words get now?

# %%
answers["after ten steps"] = [repr(ask(word, moved)) for word in asked]
answers

# %% [markdown]
# ## Which side to pad
#
# A row's result should not depend on the rows beside it. Take the pair without its answers, and look at the logits
# behind the arrow of the shorter row: alone, and in a batch padded on the right or on the left.

# %%
course.vote("02-c")
contexts = [(context, []) for context, _ in pair]


def behind_the_arrow(rows, side):
    """(V,) logits at the last token of the last row."""
    ids, mask, labels = batch_of(rows, side)
    last = -1 if side == "left" else P + int(mask[-1].sum()) - 1
    with torch.no_grad():
        return run(ids, mask, moved, labels).logits[-1, last]


alone = behind_the_arrow(contexts[1:], "right")
right, left = behind_the_arrow(contexts, "right"), behind_the_arrow(contexts, "left")
course.compare("padded right, alone", right, alone, tolerance=1e-3)
course.compare("padded left,  alone", left, alone, tolerance=1e-3)

# %% tags=["check"]
assert (right - alone).abs().max() < 1e-3
assert (left - alone).abs().max() > 0.1

# %% [markdown]
# Padded on the left, the row gets other logits than alone. Drawn with the answers, as in training:

# %%
title = "On the left, the pads stand between prompt and text"
plots.concatenation_diagram(P, *sizes, "left", tokens, title=title)

# %% [markdown]
# The model numbers the places of its input 0, 1, 2, ... from the left, pads included: these are the *positions*. So
# in row 1 no token looks at the pads, but the text lies farther from its prompt than in training. If that is the
# reason, then three things must hold. The error grows with the number of pads. It vanishes without a prompt, since
# this model uses only distances between positions (*rotary*), and a text that moves as a whole
# keeps its own. And it vanishes if positions are the running sum of the mask, where pads add nothing. About ten
# seconds:

# %%
unseen = batch_of([task.encode(tokenizer, row["word"], row["text_label"]) for row in task.validation][:ASKED])
lines, x_axis = [], "masked pads in front of the text"
for pads in (0, 1, 2, 4, 8):
    ids, mask, labels = (extend(t, pads, v) for t, v in zip(unseen, (tokenizer.pad_token_id, 0, -100), strict=True))
    counted = (extend(mask, P, 1).cumsum(dim=1) - 1).clamp(min=0)  # (B, P+T)
    ways = {"no prompt": (moved[:0], {}), "prompt": (moved, {}), "prompt, by mask": (moved, {"position_ids": counted})}
    for kind, (prompt, more) in ways.items():
        with torch.no_grad():
            loss = run(ids, mask, prompt, labels, **more).loss.item()
        lines.append({"kind": kind, x_axis: pads, "loss": loss})
lines = pd.DataFrame(lines)
lines["added"] = lines["loss"] - lines.groupby("kind")["loss"].transform("first")
axis = {"added": "added to the loss (nats a token)"}
plots.curves_figure(lines, x_axis, axis, title="Pads behind a prompt cost loss")

# %% tags=["check"]
shown = lines.pivot(index=x_axis, columns="kind", values="added")
assert shown[["no prompt", "prompt, by mask"]].abs().max(axis=None) < 1e-3
assert shown["prompt"].is_monotonic_increasing

# %% [markdown]
# All three hold, on the {{len(task.validation)}} validation words. So there are two fixes: take positions from the
# mask, or keep the text directly behind its prompt and the pads outside. The package does the second, on whatever
# side you pad. And Hugging Face PEFT, the library whose files and numbers are the reference of this course? Call it,
# and let it `generate`:

# %%
import warnings

import peft

warnings.simplefilter("ignore", FutureWarning)  # about a name of transformers that PEFT uses
warnings.filterwarnings("ignore", "Position ids")  # PEFT drops those that `generate` counts from the mask, and says so
theirs = peft.get_peft_model(model, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P))
theirs.prompt_encoder["default"].embedding.weight.data.copy_(moved)
ours = SoftPromptModel(model, PromptTuningConfig(num_virtual_tokens=P), start=moved)
left_ids, left_mask, _ = batch_of(contexts, "left")
batch = {"input_ids": left_ids, "attention_mask": left_mask}
with torch.no_grad():
    by_peft, by_us = (each(**batch).logits[1, -1] for each in (theirs, ours))
    more = {"max_new_tokens": 1, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    generated = theirs.generate(**batch, **more).logits[0][1]
course.compare("PEFT called,   alone", by_peft, alone, tolerance=1e-3)
course.compare("PEFT generate, alone", generated, alone, tolerance=1e-3)
course.compare("package,       alone", by_us, alone, tolerance=1e-3)

# %% tags=["check"]
assert (by_peft - left).abs().max() < 1e-3
assert (generated - left).abs().max() < 1e-3
assert (by_us - alone).abs().max() < 1e-3

# %% [markdown]
# PEFT {{peft.__version__}} does neither. With it and this model, train with pads on the right and
# generate row by row. The BLOOM model of PEFT's example notebook counts positions from the mask, so it is not
# affected; exercise 02-5 asks which models are.
#
# Carrying the prompt by hand is clumsy. Chapter 03 makes it a class, which knows where its vectors may start.

# %% [markdown]
# ## Summary
#
# - A soft prompt is a (P, D) tensor in front of the (B, T, D) input: (B, P+T, D).
# - The mask grows by P ones, the labels by P times -100: only the answer and its end are predicted.
# - The embeddings of a text, used as a prompt, give the text's logits. Most soft prompts are no text.
# - In front of a frozen model only the prompt gets a gradient, of shape (P, D).
# - Ten steps on {{ROWS}} words took an instruction from {{before.accuracy:.0%}} to {{after.accuracy:.0%}} and taught it
#   to stop; five examples in front reach about as much, twenty more.
# - Pads between prompt and text change the result wherever positions count them. Keep the text directly behind its
#   prompt, or take positions from the mask.

# %% [markdown]
# ## Exercises
#
# ### Exercise 02-2: The loss that does not move
#
# The loss is the same at every step, to the last digit, and it is the loss without any prompt. One line is at fault:
#
# ```text
# for step in range(10):
#     z = concatenate_prompt(words(ids), prompt)                                    # A
#     long_mask = torch.cat([mask.new_zeros(len(mask), P), mask], dim=1)            # B
#     long_labels = torch.cat([labels.new_full((len(mask), P), -100), labels], 1)   # C
#     model(inputs_embeds=z, attention_mask=long_mask, labels=long_labels).loss.backward()
#     with torch.no_grad():
#         prompt -= 0.01 * prompt.grad                                              # D
#     prompt.grad = None
# ```
#
# Return its letter, and the right mask.


# %%
import torch


def extended_mask(mask, P):
    """(B, T) -> the letter of the line at fault, and the right mask (B, P+T)."""
    ### BEGIN SOLUTION
    return "B", torch.cat([mask.new_ones(len(mask), P), mask], dim=1)
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("02-2", extended_mask)

# %% [markdown]
# ### Exercise 02-3: Ten steps in any direction
#
# Ten steps of 0.2 ended about 1 from the instruction: `(moved - start).norm()`, printed above. Was it the distance that
# helped, or the direction? `losses_at([0, 1])` moves the instruction so far in a random direction (`seed` gives
# another) and returns the loss on the same training words for each distance. Run it for 0, 1 and at least one more,
# and write a sentence that compares two losses and names a number. The answer is `{"losses": ..., "sentence": ...}`.


# %%
import torch

from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_base_model, load_task
from softprompt_lab.batch import pad_rows


def losses_at(distances, seed=0):
    """The loss on 16 training words behind an instruction that was moved so far in a random direction."""
    model, tokenizer = load_base_model("smollm2", device="cpu")
    task = load_task("words/antonym")
    rows = [task.encode(tokenizer, row["word"], row["text_label"]) for row in task.train.select(range(16))]
    ids, mask = pad_rows([context + answer for context, answer in rows], model.device)
    labels = pad_rows([[-100] * len(context) + answer for context, answer in rows], model.device, -100)[0]
    instruction = tokenizer(task.instruction + "\n", return_tensors="pt").input_ids[0]
    start = model.get_input_embeddings()(instruction).detach()  # (P, D)
    direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(seed))
    soft = SoftPromptModel(model, PromptTuningConfig(num_virtual_tokens=len(start)), start=start)
    losses = {}
    for distance in distances:
        with torch.no_grad():
            soft.prompt.copy_(start + distance * direction / direction.norm())
            losses[distance] = soft.loss(ids, mask.long(), labels).item()
    return losses


# %% [markdown]
# Some seconds for all distances:

# %%
from softprompt_lab import course

### BEGIN SOLUTION
losses = losses_at([0, 1, 8])
sentence = f"As far as ten steps go, but in a random direction, the loss is {losses[1]:.2f}; it was {losses[0]:.2f}."
answer = {"losses": losses, "sentence": sentence}
### END SOLUTION
course.check("02-3", answer)

# %% [markdown]
# ### Exercise 02-4: The gradient of the prompt
#
# Let `g`, (B, P+T, D), be the gradient of the loss at `z = concatenate_prompt(x, prompt)`. Derive the gradient at the
# prompt, (P, D), without autograd. Start from `z[b, p] = prompt[p]` for every b.


# %%
def prompt_gradient(g, P):
    """Gradient at the concatenated input (B, P+T, D) -> gradient at the prompt (P, D)."""
    ### BEGIN SOLUTION
    return g[:, :P].sum(dim=0)
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("02-4", prompt_gradient)

# %% [markdown]
# ### Exercise 02-5: Who counts the pads?
#
# Eight masked pads stand on the left of a text, or between a prompt and the text; no `position_ids` are given. In
# which cells do the text's logits move?
#
# | | no prompt | prompt |
# |---|---|---|
# | GPT-2: a learned vector for each position number | A | B |
# | Llama, SmolLM2: distances between tokens (rotary) | C | D |
# | BLOOM: distances, from the running sum of the mask | E | F |
#
# `by_measuring` asks small models with random weights.


# %%
import torch
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM


def by_measuring():
    """Print how far the logits move in each cell of the table."""
    shape = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    gpt2, bloom = GPT2LMHeadModel(GPT2Config(**shape)), BloomForCausalLM(BloomConfig(**shape))
    families = {"GPT-2": gpt2, "Llama": LlamaForCausalLM(LlamaConfig(**shape, intermediate_size=64)), "BLOOM": bloom}
    for name, small in families.items():
        for P in (0, 4):
            z, pads = torch.randn(1, P + 5, 32), torch.zeros(1, 8, 32)
            mask = torch.ones(1, P + 5 + 8, dtype=torch.long)
            mask[:, P : P + 8] = 0
            with torch.no_grad():
                plain = small.eval()(inputs_embeds=z).logits[:, P:]
                wide = torch.cat([z[:, :P], pads, z[:, P:]], dim=1)
                padded = small(inputs_embeds=wide, attention_mask=mask).logits[:, P + 8 :]
            print(f"{name}, {P} virtual tokens: largest difference {(padded - plain).abs().max():.1e}")


# %% [markdown]
# Write the letters as one text, such as "AE"; once they stand here, this cell measures too.

# %%
from softprompt_lab import course

### BEGIN SOLUTION
cells_that_move = "ABD"
### END SOLUTION
course.check("02-5", cells_that_move)
if cells_that_move is not ...:
    by_measuring()

# %% [markdown]
# ## Sources
#
# - The text that the course grew from: *Prompt-Tuning源码分析* ("Prompt tuning, its source analysed"), pseudocode.
# - Lester, Al-Rfou, Constant 2021, *The Power of Scale for Parameter-Efficient Prompt Tuning*, arXiv 2104.08691,
#   section 2.
# - Hugging Face PEFT, `PeftModelForCausalLM.forward` with `PROMPT_TUNING`; its issue 54 on left padding; its example
#   notebook `peft_prompt_tuning_clm.ipynb`.
# - Su et al. 2021, *RoFormer: Enhanced Transformer with Rotary Position Embedding*, arXiv 2104.09864, section 3.
# - Press, Smith, Lewis 2022, *Train Short, Test Long: Attention with Linear Biases*, arXiv 2108.12409, section 3
#   (BLOOM's positions).
