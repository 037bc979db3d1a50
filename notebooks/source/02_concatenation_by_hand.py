# %% [markdown]
# # 02 Concatenation by hand
#
# **What is a soft prompt?** In chapter 01 the prompt was words. Here you replace the words by vectors, in
# three lines of torch, and see that nothing else in the model changes.
#
# You will be able to
#
# - write the concatenation that all of prompt tuning rests on, and give the shape of every tensor in it;
# - extend the attention mask and the labels so that they fit the longer input;
# - say why a prompt made of a text's embeddings is that text, and why most soft prompts are no text;
# - find the error that left padding makes, measure it, and mend it in two ways.
#
# Time: 30 minutes of reading, about half a minute of running on two cores. Base model: `smollm2` (`tiny` in
# fast mode). Letters: **B** rows of a batch, **P** virtual tokens, **T** text tokens, **D** width of a
# vector, **V** words in the vocabulary, **L** layers.

# %% tags=["setup"]
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

import softprompt_lab
from softprompt_lab import course, load_base_model, load_task, plots

lab = course.settings()

# %% [markdown]
# The base model comes frozen: none of its weights asks for a gradient. It stays on the CPU, where the
# tensors are that you make by hand. Loading takes a few seconds.

# %%
model, tokenizer = load_base_model(lab.base, device="cpu")
task = load_task(lab.task)
words = model.get_input_embeddings()  # the table of word embeddings, (V, D)
V, D = words.weight.shape
print(f"{lab.base}: V = {V:,} words, D = {D} numbers a word, L = {model.config.num_hidden_layers} layers")
assert not any(weight.requires_grad for weight in model.parameters())

# %% [markdown]
# ## The model reads vectors
#
# A tokenizer turns text into ids. The model's first layer turns each id into a row of a table with V rows
# and D columns. What if you look up the rows yourself and hand the model vectors in place of ids? Guess:
# same logits, nearly the same, or an error?

# %%
ids = tokenizer("The parcel never came.", return_tensors="pt").input_ids  # (B, T) = (1, T)
x = words(ids)  # (B, T, D)
print("ids", tuple(ids.shape), "-> vectors", tuple(x.shape))
with torch.no_grad():
    from_ids = model(input_ids=ids).logits  # (B, T, V)
    from_vectors = model(inputs_embeds=x).logits
assert course.compare("logits from vectors, from ids", from_vectors, from_ids)

# %% [markdown]
# The same. `inputs_embeds` is a second door into every transformers model: it skips the table and leaves
# the rest as it is. Through this door you can send vectors that stand in no row of the table. That is the
# whole idea.
#
# ## The pseudocode
#
# The text that this course grew from gives prompt tuning in seven lines:
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
# Type the first statement; P = 4 virtual tokens are enough to look at. Then put the prompt in front of `x`
# as it stands there. Will torch do it?

# %%
P = 4
torch.manual_seed(0)
soft_prompt = nn.Parameter(torch.rand(P, D))  # (P, D), trainable
print("soft prompt", tuple(soft_prompt.shape), "requires_grad:", soft_prompt.requires_grad)
try:
    torch.cat([soft_prompt, x], dim=1)
except RuntimeError as error:
    print("RuntimeError:", error)

# %% [markdown]
# The pseudocode passes over the batch. The prompt is (P, D), the input (B, T, D): all rows of a batch share
# one prompt. `expand` shows the same P vectors to each of the B rows and copies nothing. The sequence is
# dimension 1.
#
# Two more lines make it safe. A prompt is kept in float32 while a model may run in bfloat16, so the prompt
# is cast to the input's type. And a prompt of another width belongs to another model: that is an error.


# %%
def concatenate_prompt(input_embeddings, prompt):
    """Put the same prompt (P, D) in front of every row of (B, T, D): Lester et al. 2021, section 2."""
    if prompt.shape[-1] != input_embeddings.shape[-1]:
        raise ValueError(f"the prompt is {prompt.shape[-1]} wide, the input {input_embeddings.shape[-1]}.")
    B = input_embeddings.shape[0]
    rows = prompt.to(input_embeddings.dtype).expand(B, -1, -1)  # (B, P, D)
    return torch.cat([rows, input_embeddings], dim=1)  # (B, P+T, D)


# %% [markdown]
# Try it on a batch of three rows. Which shape do you expect?

# %%
three = x.expand(3, -1, -1)  # (B, T, D) with B = 3
long = concatenate_prompt(three, soft_prompt)
print(f"{tuple(three.shape)} behind {tuple(soft_prompt.shape)} -> {tuple(long.shape)}")
assert torch.equal(long[:, P:], three), "the text must pass through unchanged"
assert all(torch.equal(row, soft_prompt) for row in long[:, :P]), "each row begins with the prompt"
assert torch.equal(long, softprompt_lab.concatenate_prompt(three, soft_prompt))

# %% [markdown]
# The last line compares with the package: from the next chapter on you import this function instead of
# typing it.
#
# ## A prompt made of words is those words
#
# Take an instruction, look up its embeddings, and use them as a prompt. How far are the logits from those
# of the instruction written in front of the tweet? Write down a guess: 0, about 0.1, about 10?

# %%
instruction = tokenizer("Classify if the tweet is a complaint or not:", return_tensors="pt").input_ids
tweet = tokenizer(" The parcel never came.", return_tensors="pt").input_ids
prompt_of_words = words(instruction[0])  # (P, D), P = tokens of the instruction
with torch.no_grad():
    as_text = model(input_ids=torch.cat([instruction, tweet], dim=1)).logits
    as_prompt = model(inputs_embeds=concatenate_prompt(words(tweet), prompt_of_words)).logits
print(f"P = {len(prompt_of_words)}; the logits go from {as_text.min():.1f} to {as_text.max():.1f}")
assert course.compare("prompt of embeddings, text in front", as_prompt, as_text, tolerance=1e-4)

# %% [markdown]
# They agree. The model has no other input than these vectors, so it has no means to tell a prompt from
# words. It follows that **every hard prompt is also a soft prompt**. A soft prompt that starts from a text
# can therefore begin no worse than that text; chapter 03 does this.
#
# One trap: the two must be joined as *ids*. If you join the strings first, the tokenizer may cut them
# otherwise. Does it, when the space stands on the other side of the seam?

# %%
seam = {
    "joined as text": tokenizer("or not: The parcel").input_ids,
    "'or not:' + ' The parcel'": tokenizer("or not:").input_ids + tokenizer(" The parcel").input_ids,
    "'or not: ' + 'The parcel'": tokenizer("or not: ").input_ids + tokenizer("The parcel").input_ids,
}
pd.DataFrame({name: [" | ".join(tokenizer.decode([i]) for i in row)] for name, row in seam.items()}).T.rename(
    columns={0: "tokens, divided by |"}
)

# %% [markdown]
# In `smollm2`'s vocabulary the space belongs to the word behind it (" The" is one token). A space left at
# the end of the first piece becomes a token of its own, and the second piece begins with another "The".
# Keep the space with the word that follows: the package does the same with labels (" complaint").
#
# ## Most soft prompts are no text
#
# How many prompts of 4 words are there, and how many vectors of 4 x D numbers could a tiny step reach? The
# words are V to the power P points. The soft prompts fill the space between them: P x D numbers, each free
# to move.

# %%
print(f"hard prompts of {P} tokens: {V}^{P} = {float(V) ** P:.1e} points")
print(f"soft prompts of {P} tokens: a space of P x D = {P * D:,} dimensions")
distance = torch.cdist(soft_prompt.detach(), words.weight).min(dim=1)  # from each virtual token to its nearest word
print("distance to the nearest word:", [round(d, 1) for d in distance.values.tolist()])
assert distance.values.min() > 1e-3, "the random prompt stands on no word"

# %% [markdown]
# The prompt of the pseudocode, drawn by `torch.rand`, stands on no word at all. Does the model notice which
# prompt is in front? Predict: which of the three columns differ?


# %%
def next_tokens(embeddings, k=4):
    """The k most probable next tokens and their probabilities."""
    with torch.no_grad():
        probabilities = model(inputs_embeds=embeddings).logits[0, -1].softmax(dim=-1)  # (V,)
    top = probabilities.topk(k)
    return [f"{tokenizer.decode([i])!r} {p:.2f}" for p, i in zip(top.values, top.indices.tolist(), strict=True)]


start = words(tokenizer("The weather today is", return_tensors="pt").input_ids)
prompts = {"no prompt": soft_prompt[:0], "the instruction": prompt_of_words, "torch.rand": soft_prompt}
pd.DataFrame({name: next_tokens(concatenate_prompt(start, p)) for name, p in prompts.items()})

# %% [markdown]
# All three differ. A prompt changes what the model says next although no weight of the model changed.
# Whether it says something *useful* is a matter of where the vectors lie, and that is what training is for
# (chapter 04). `soft_prompt[:0]` is a prompt of no tokens: the concatenation then gives back the input.
#
# ## Mask and labels grow with the input
#
# A batch holds rows of different length, so the short ones are padded. Three tensors describe it: ids,
# attention mask (1 text, 0 pad) and labels (the token to be predicted, or -100 for "do not count"). Here
# are two messages with their labels; `task.encode` splits a row into context and label, and ends the label
# with the end token.

# %%
short = task.with_template("{text} Label : ")
rows = [
    short.encode(tokenizer, "Thank you for the quick reply.", "no complaint"),
    short.encode(tokenizer, "It broke.", "complaint"),
]
for context, label in rows:
    print(tokenizer.decode(context), "->", [tokenizer.decode([i]) for i in label])

# %% [markdown]
# The next function lays them out. It can pad on either side; you will need both. Read the loop once: `end`
# is where the row's last token stands.


# %%
def batch_of(rows, side="right"):
    """Ids, attention mask and labels, (B, T) each, of rows (context ids, label ids) padded on one side."""
    T = max(len(context) + len(label) for context, label in rows)
    ids = torch.full((len(rows), T), tokenizer.pad_token_id)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for b, (context, label) in enumerate(rows):
        length = len(context) + len(label)
        end = T if side == "left" else length
        ids[b, end - length : end] = torch.tensor(context + label)
        mask[b, end - length : end] = 1
        labels[b, end - len(label) : end] = torch.tensor(label)
    return ids, mask, labels


# %% [markdown]
# With the prompt in front, the input is P + T long, and mask and labels are still T long. What do you put
# in front of each? The prompt is to be read, so its mask is 1. It is not to be predicted, so its labels are
# -100.


# %%
def extend(tensor, P, value):
    """A mask or labels (B, T) with P columns of `value` in front: (B, P+T)."""
    return torch.cat([tensor.new_full((len(tensor), P), value), tensor], dim=1)


ids, mask, labels = batch_of(rows)
long_mask, long_labels = extend(mask, P, 1), extend(labels, P, -100)
plots.concatenation_diagram(P, [len(c) + len(y) for c, y in rows], [len(y) for _, y in rows])

# %% [markdown]
# Orange: the prompt, the same P vectors in both rows. Blue: text. Green: the label. White:
# pads, which the mask hides. The three pictures have the same shape, and the table gives it with this
# batch's numbers.

# %%
B, T = ids.shape
x = words(ids)  # (B, T, D)
tensors = {
    "prompt": ("P, D", soft_prompt),
    "text embeddings": ("B, T, D", x),
    "concatenated": ("B, P+T, D", concatenate_prompt(x, soft_prompt)),
    "extended mask": ("B, P+T", long_mask),
    "extended labels": ("B, P+T", long_labels),
}
pd.DataFrame({name: {"letters": letters, "shape": tuple(t.shape)} for name, (letters, t) in tensors.items()}).T

# %% [markdown]
# Now the model can compute a loss. Does it count what you mean? The loss must be the mean over the label
# tokens, five in these two rows on `smollm2`, each predicted from the position *before* it.


# %%
def run(ids, mask, prompt, labels=None, **more):
    """The base model behind a prompt, with mask and labels extended."""
    P = len(prompt)
    if labels is not None:
        more["labels"] = extend(labels, P, -100)
    x = concatenate_prompt(words(ids), prompt)
    return model(inputs_embeds=x, attention_mask=extend(mask, P, 1), **more)


with torch.no_grad():
    output = run(ids, mask, soft_prompt, labels)
predicting = output.logits[:, P - 1 : -1]  # (B, T, V): the last virtual token predicts the first text token
by_hand = functional.cross_entropy(predicting[labels != -100], labels[labels != -100])
print(f"{int((labels != -100).sum())} label tokens, loss {output.loss:.4f}; logits {tuple(output.logits.shape)}")
assert course.compare("loss by hand, loss of transformers", by_hand, output.loss)

# %% [markdown]
# The logits cover P + T positions. Position i predicts token i + 1, so the slice begins at P - 1: the *last
# virtual token* predicts the first word. Forget the shift and a loss still comes out, of the wrong
# question: exercise 02-3.
#
# ## Right against left padding
#
# A row's result should not depend on the rows beside it. The short row has pads: on its right, or on its
# left. The mask hides them in both cases. Predict: does the short row get the same logits alone, padded
# right, padded left?

# %%
contexts = [(c, []) for c, _ in rows]  # up to "Label :", where the label is to be predicted
alone_ids, alone_mask, _ = batch_of(contexts[1:])
prompt = prompt_of_words.detach()


def last_logits(side, prompt, **more):
    """(V,) logits at the last token of the short row, in a batch padded on `side`."""
    ids, mask, _ = batch_of(contexts, side)
    last = -1 if side == "left" else int(mask[1].sum()) + len(prompt) - 1
    with torch.no_grad():
        return run(ids, mask, prompt, **more).logits[1, last]


with torch.no_grad():
    alone = run(alone_ids, alone_mask, prompt).logits[0, -1]  # (V,)
right, left = last_logits("right", prompt), last_logits("left", prompt)
assert course.compare("padded right, alone", right, alone, tolerance=1e-3)
course.compare("padded left,  alone", left, alone, tolerance=1e-3)
assert (left - alone).abs().max() > 0.01, "left padding behind a prompt changes the result"

# %% [markdown]
# Right is right, left is wrong, although every pad is masked. Draw what stands where: the same two
# messages, labels included, behind 4 virtual tokens.

# %%
plots.concatenation_diagram(P, [len(c) + len(y) for c, y in rows], [len(y) for _, y in rows], padding_side="left")

# %% [markdown]
# In row 1 the pads stand *between* the prompt and the text. The mask keeps the model from looking at them,
# but the model counts positions through them: the text begins at a later position, so it is farther from
# its prompt. It reads a prompt that was said long ago.
#
# If that explains it, the error must vanish without a prompt: a text moved as a whole keeps its distances,
# and this model knows distances only (rotary positions). Does it vanish?

# %%
nothing = prompt[:0]  # P = 0
with torch.no_grad():
    bare = model(input_ids=alone_ids).logits[0, -1]
assert course.compare("no prompt, padded left, alone", last_logits("left", nothing), bare, tolerance=1e-3)

# %% [markdown]
# It vanishes. So left padding, which does no harm to a bare decoder of this kind, becomes wrong once
# something stands in front of the pads. Does the error grow with the number of pads? Put 0 to 64 of them
# between.


# %%
def with_pads_between(pads):
    """(V,) last logits of the short row with `pads` hidden positions between prompt and text."""
    gap = torch.full((1, pads), tokenizer.pad_token_id)
    ids, mask = torch.cat([gap, alone_ids], dim=1), torch.cat([torch.zeros_like(gap), alone_mask], dim=1)
    with torch.no_grad():
        return run(ids, mask, prompt).logits[0, -1]


table = []
for pads in (0, 1, 4, 16, 64):
    logits = with_pads_between(pads)
    moved = (logits.softmax(-1) - alone.softmax(-1)).abs().sum() / 2  # total variation
    table.append({"pads": pads, "largest difference": (logits - alone).abs().max(), "moved": moved})
assert table[0]["largest difference"] < 1e-3
pd.DataFrame(table).astype(float).round(4).set_index("pads").rename(columns={"moved": "probability moved"})

# %% [markdown]
# No pads, no error; one pad is enough for one. "Probability moved" is how much of the next token's
# probability went to other tokens. How the error grows depends on model and prompt: read it off your table,
# not off a rule.
#
# ### Is it only our mistake?
#
# Hugging Face PEFT is the reference of this course. Give it the same prompt and the same left-padded batch,
# and compare its short row with yours.

# %%
import warnings

import peft

warnings.simplefilter("ignore", FutureWarning)  # about a name of transformers that PEFT uses
config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(prompt))
peft_model = peft.get_peft_model(model, config)
peft_model.prompt_encoder["default"].embedding.weight.data.copy_(prompt)
left_ids, left_mask, _ = batch_of(contexts, "left")
with torch.no_grad():
    theirs = peft_model(input_ids=left_ids, attention_mask=left_mask).logits[1, -1]
assert course.compare("PEFT padded left, ours padded left", theirs, left, tolerance=1e-3)
course.compare("PEFT padded left, alone", theirs, alone, tolerance=1e-3)

# %% [markdown]
# PEFT does what you did, so its result for a left-padded row is off by the same amount. The notebook that
# this course grew from pads left, too.
#
# ### Two mends
#
# 1. **Count positions from the mask.** Pads get no number of their own: the running sum of the mask, minus
#    1.
# 2. **Keep the text directly behind the prompt** and put pads outside, on the right or in front of the
#    prompt. The package's `SoftPromptModel` does this whatever side you pad on.
#
# Both must give what the row gives alone.

# %%
positions = (extend(left_mask, len(prompt), 1).cumsum(dim=1) - 1).clamp(min=0)  # (B, P+T)
counted = last_logits("left", prompt, position_ids=positions)
assert course.compare("left, positions counted from the mask, alone", counted, alone, tolerance=1e-3)

config = softprompt_lab.PromptTuningConfig(num_virtual_tokens=len(prompt))
packaged = softprompt_lab.SoftPromptModel(model, config, start=prompt)
with torch.no_grad():
    ours = packaged(left_ids, left_mask).logits[1, -1]
assert course.compare("SoftPromptModel padded left, alone", ours, alone, tolerance=1e-3)

# %% [markdown]
# ## Only the prompt gets a gradient
#
# The loss goes back through all L layers. Where does a gradient stay? Guess for three tensors: the weights
# of the model, the embeddings of the text, the prompt.

# %%
prompt = nn.Parameter(prompt_of_words.detach().clone())  # (P, D)
loss = run(ids, mask, prompt, labels).loss
loss.backward()
with_gradient = [name for name, weight in model.named_parameters() if weight.grad is not None]
total = sum(weight.numel() for weight in model.parameters())
print(f"weights of the base model: {total:,} numbers, {len(with_gradient)} tensors with a gradient")
print(f"prompt: {prompt.numel():,} numbers ({prompt.numel() / total:.4%}), gradient {tuple(prompt.grad.shape)}")
assert with_gradient == []
assert (prompt.grad.norm(dim=1) > 0).all()

# %% [markdown]
# The model's weights are frozen, the text's embeddings come out of a frozen table, and the prompt is the
# only leaf that asks. All P virtual tokens receive a gradient. The backward pass still runs through every
# layer, so a step is not for nothing; what is saved is the memory for the weights' gradients and for the
# optimizer's state.
#
# Now take one step, and check two claims: the loss of this batch goes down, and the model does not change
# by a bit.


# %%
def fingerprint(module):
    """The bits of each weight tensor, read as whole numbers and added up: one changed bit changes the sum."""
    return [weight.view(torch.int32).sum().item() for weight in module.parameters()]


before, loss_before = fingerprint(model), loss.item()
direction = prompt.grad / prompt.grad.norm()
with torch.no_grad():
    prompt -= 0.1 * direction  # one small step downhill, of length 0.1
    loss_after = run(ids, mask, prompt, labels).loss.item()
print(f"loss {loss_before:.4f} -> {loss_after:.4f}")
assert loss_after < loss_before
assert fingerprint(model) == before, "the base model must not change"

# %% [markdown]
# One last question, which decides about training: how wrong is this *gradient* if the batch is padded left
# and positions are not mended? Compare with the right-padded batch: relative size of the difference.


# %%
def gradient(side, **more):
    """The prompt's gradient (P, D) on the batch padded on `side`."""
    leaf = prompt.detach().clone().requires_grad_()
    ids, mask, labels = batch_of(rows, side)
    return torch.autograd.grad(run(ids, mask, leaf, labels, **more).loss, leaf)[0]


right_gradient = gradient("right")
positions = (extend(batch_of(rows, "left")[1], len(prompt), 1).cumsum(dim=1) - 1).clamp(min=0)
for name, more in {"left": {}, "left, positions counted": {"position_ids": positions}}.items():
    off = (gradient("left", **more) - right_gradient).norm() / right_gradient.norm()
    print(f"{name}: off by {off:.2%}")
assert off < 1e-3, "with counted positions the gradient is the same"

# %% [markdown]
# One of two rows was padded here; in a larger batch every row but the longest is. A prompt trained on one
# layout and used on the other meets distances that it has never seen.

# %% [markdown]
# ## Summary
#
# - A soft prompt is a (P, D) tensor put in front of the (B, T, D) input: (B, P+T, D). Nothing else changes.
# - The mask grows by P ones, the labels by P times -100, and the last virtual token predicts the first
#   word.
# - A prompt made of a text's embeddings gives the text's logits; a soft prompt in general is no text.
# - Pads between prompt and text change the result of a model that counts positions through them, in PEFT
#   too. Keep the text directly behind the prompt, or count positions from the mask.
# - With a frozen model the prompt is the only tensor that gets a gradient.

# %% [markdown]
# ## Exercises
#
# Each has a specification, a stub and a check. `course.hint("02-1")` in a cell of its own opens a hint. A
# stub that you leave alone stops nothing.
#
# ### 02-1 Without `torch.cat`
#
# Write the concatenation again with an empty result that you fill, as a picture: for b in range(B),
# position p < P of row b is `prompt[p]`, position P + t is `x[b, t]`. Two slice assignments are enough, and
# gradients pass through them. The result has the type of `x`.


# %%
def prepend(x, prompt):
    """(B, T, D) and (P, D) -> (B, P+T, D)."""
    ### BEGIN SOLUTION
    (B, T, D), P = x.shape, len(prompt)
    result = x.new_empty(B, P + T, D)
    result[:, :P] = prompt
    result[:, P:] = x
    return result
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("02-1", prepend)

# %% [markdown]
# ### 02-2 Text first
#
# The second mend. Move each row's text to the left and its pads to the right; the text keeps its order. In
# loops: for each row, first all `ids[b, t]` with `mask[b, t] == 1` in rising t, then those with `mask[b, t]
# == 0`. Return the new ids and the new mask, (B, T) each. Pads may stand anywhere in the row.


# %%
def text_first(ids, mask):
    """(B, T) ids and mask -> the same with each row's text in front of its pads."""
    ### BEGIN SOLUTION
    order = mask.argsort(dim=1, descending=True, stable=True)
    return ids.gather(1, order), mask.gather(1, order)
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("02-2", text_first)

# %% [markdown]
# ### 02-3 The loss from the logits
#
# `logits` is (B, P+T, V) and comes from an input with P virtual tokens; `labels` is (B, T), -100 where
# nothing counts. Return the mean of `-log_softmax(logits[b, P + t - 1])[labels[b, t]]` over all (b, t)
# whose label is not -100. P is not given: read it off the shapes. It may be 0; then no position predicts
# the first token, and its label is left out.


# %%
from torch.nn import functional


def label_loss(logits, labels):
    """Mean cross-entropy of the labelled tokens, in nats."""
    ### BEGIN SOLUTION
    P = logits.shape[1] - labels.shape[1]
    if P == 0:
        P, labels = 1, labels[:, 1:]
    return functional.cross_entropy(logits[:, P - 1 : -1].flatten(0, 1), labels.flatten(), ignore_index=-100)
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("02-3", label_loss)

# %% [markdown]
# ### 02-4 Derive the gradient of the prompt
#
# The loss is a function of `z = concatenate_prompt(x, prompt)`. You are given `g`, its gradient at `z`, (B,
# P+T, D), and P. Derive with pen and paper what the gradient at the prompt is, (P, D), and return it
# without calling autograd. Start from `z[b, p] = prompt[p]` for every b: how does the loss change when
# `prompt[p]` moves a little?


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
# ## Sources
#
# - Lester, Al-Rfou, Constant 2021, *The Power of Scale for Parameter-Efficient Prompt Tuning*, arXiv
#   2104.08691.
# - Hugging Face PEFT, `PeftModelForCausalLM.forward` with `PROMPT_TUNING`; its issue 54 on left padding.
# - Su et al. 2021, *RoFormer: Enhanced Transformer with Rotary Position Embedding*, arXiv 2104.09864.
