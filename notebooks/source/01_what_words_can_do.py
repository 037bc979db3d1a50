# %% [markdown]
# # 01 Hard prompts
#
# **What can words alone do?**
#
# Before you train vectors, ask in words. A *hard prompt* is made of ordinary tokens: an instruction, a question, a
# form to fill in. It costs nothing to train, and it is the baseline that a soft prompt has to beat.
#
# You will be able to
# - let a model that only continues text choose among labels, and do that by hand for one message;
# - put a majority baseline and an interval beside an accuracy, and say what 150 rows can show;
# - measure how much the wording of a prompt matters, and how lucky "the best wording" is;
# - calibrate a prompt with an empty message, and say what that mends and what it does not.
#
# Time: 20 minutes of reading, 4 minutes of running on two cores. Base model: `smollm2`, frozen, nothing is trained.

# %% tags=["setup"]
import dataclasses
import math

import numpy as np
import pandas as pd
import torch

from softprompt_lab import course, evaluate, load_base_model, load_task, plots
from softprompt_lab.evaluation import label_probabilities, wilson_interval

lab = course.settings()
limit = 20 if lab.fast else None  # rows that are measured; None: the whole validation split

# %% [markdown]
# ## What does the model write by itself?
#
# Load the frozen base model and the task of chapter 00, and take one message.

# %%
base_model, tokenizer = load_base_model(lab.base)
task = load_task(lab.task)
text = task.validation[0][task.text_column]
print(text)
print("true label:", task.validation[0]["text_label"])

# %% [markdown]
# The template puts the message in a form. `smollm2` was trained to continue text and to chat. Will it fill the form
# in with one of the two labels? Guess yes or no.

# %%
ids = tokenizer(task.prompt(text).rstrip(), return_tensors="pt")
written = base_model.generate(**ids, max_new_tokens=12, do_sample=False, pad_token_id=tokenizer.pad_token_id)
print(repr(task.prompt(text).rstrip()))
print("continues:", repr(tokenizer.decode(written[0, ids["input_ids"].shape[1] :])))

# %% [markdown]
# Nothing told the model which labels there are, or that this is a form with two answers. What comes is a likely
# continuation of the text and not an answer. This is the **zero-shot** case: no example, no instruction.
#
# Free writing is hard to score. Is "Complaint!" right? Is "negative"? So we ask something narrower.
#
# ## Rank classification by hand
#
# Ask for each label: *how likely is it that the model writes exactly this?* The label with the highest probability
# is the answer. This is **rank classification**. The model need not know the format: it only has to find one label
# less unlikely than the other.
#
# First, the labels as tokens. A blank at the template's end moves to the label, because the vocabulary has
# " complaint" with its blank as one token.

# %%
encoded = {label: task.encode(tokenizer, text, label) for label in task.labels}
for label, (context, label_ids) in encoded.items():
    pieces = [tokenizer.decode([token]) for token in label_ids[:-1]]  # the last one is the end token
    print(f"{label!r}: {len(context)} tokens of context, then {pieces}")

# %% [markdown]
# A label may have several tokens. Its probability is a product: the first token's probability, times the second's
# when the first stands there, and so on. Products of small numbers get tiny, so we add logarithms instead:
#
# $$\log p(\text{label} \mid \text{message}) =
# \sum_i \log p(\text{token}_i \mid \text{message}, \text{tokens before } i)$$
#
# One thing is easy to get wrong: the scores at place *i* predict the token at place *i + 1*. So the first token of the
# label is predicted by the last token of the context. The end token does not count: it belongs to every label.

# %%
steps = []
for label, (context, label_ids) in encoded.items():
    with torch.no_grad():
        logits = base_model(torch.tensor([context + label_ids[:-1]])).logits[0]  # (T, V)
    log_p = logits.log_softmax(-1)
    for place, token in enumerate(label_ids[:-1], start=len(context)):
        steps.append((label, tokenizer.decode([token]), log_p[place - 1, token].item()))
by_token = pd.DataFrame(steps, columns=["label", "token", "log p"])
by_token.round(3)

# %% [markdown]
# Add up per label. The sums are very low: neither label is what the model would write. What counts is which of them is
# higher. Scaled to add up to 1 over the labels, they become the probabilities of chapter 00.

# %%
scores = by_token.groupby("label")["log p"].sum()[list(task.labels)]
shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
by_package = label_probabilities(base_model, task, [text], tokenizer=tokenizer).iloc[0]
print(pd.DataFrame({"log p": scores, "by hand": shares, "by the package": by_package}).round(4))
assert np.allclose(shares, by_package, atol=1e-4)

# %% [markdown]
# By hand and by the package agree. The package does the same for many messages at once and reads each message once for
# all labels (chapter 11).
#
# A label of two tokens pays twice. Look at the table by token: if a second token follows almost surely from the first,
# it costs nearly nothing; if not, the longer label is at a disadvantage before any message is read.

# %% [markdown]
# ## The first accuracy
#
# Now all 150 validation messages with the bare form. About 10 seconds. Predict the accuracy.

# %%
zero_shot = evaluate(base_model, task, "validation", tokenizer=tokenizer, limit=limit)
print(zero_shot)

# %% [markdown]
# Read the line from its end. The *majority baseline* is what you get by giving every message the commonest label of
# the training rows. *Exact match* asks for more than rank classification: the true label must be the model's first
# choice among all V tokens. And the *interval*?
#
# ## How sure is an accuracy?
#
# If you drew 150 other messages, the accuracy would be another one. The 95 % interval says how far the true share may
# be from the measured one. It depends on the number of rows and little else. How much narrower is it with 400 rows
# than with 50?

# %%
sizes = pd.DataFrame({"rows": [50, 150, 400, 1600]})
ends = [wilson_interval(round(0.8 * n), n) for n in sizes["rows"]]
sizes["from"], sizes["to"] = [low for low, _ in ends], [high for _, high in ends]
sizes["width"] = sizes["to"] - sizes["from"]
assert math.isclose(sizes["width"].iloc[2] / sizes["width"].iloc[3], 2, rel_tol=0.05)
sizes.round(3)

# %% [markdown]
# All lines are for 80 % right. Four times the rows halve the width (the `assert` holds that). On 150 rows, two prompts
# that differ by three points are not told apart; the intervals in this course are there to keep you from believing
# such a difference. Look again at the bare form above: is the majority baseline inside its interval?
#
# ## Ten wordings
#
# Now tell the model what you want. Here are ten ways of asking, written down before any of them was measured, each
# as a person might write it who wants a good answer. They differ in how they name the labels, in what stands first,
# in whether they ask, order or explain. Every word of them is in front of you; which would you bet on?

# %%
wordings = [
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
]

# %% [markdown]
# A wording is a template: `task.with_template` gives the same messages in another form. The base model is the same
# ten times, and so are the messages. This is the longest cell of the chapter: about 100 seconds.

# %%
measured = [
    evaluate(base_model, task.with_template(wording), "validation", tokenizer=tokenizer, limit=limit)
    for wording in wordings
]
table = pd.DataFrame(
    {
        "wording": [wording.replace("\n", " / ") for wording in wordings],
        "accuracy": [m.accuracy for m in measured],
        "low": [m.confidence_interval[0] for m in measured],
        "high": [m.confidence_interval[1] for m in measured],
        "exact match": [m.exact_match for m in measured],
    }
)
with pd.option_context("display.max_colwidth", 60):
    display(table.round(3))

# %% [markdown]
# The same as a picture: one dot a wording, best first, with the mean, the majority baseline and the bare form as
# lines. The axis goes from 0 to 1, so that a small difference looks small.

# %%
accuracies = dict(zip(table["wording"], table["accuracy"], strict=True))
majority = zero_shot.majority_baseline
figure = plots.wording_spread(accuracies, majority=majority, others={"bare form": zero_shot.accuracy})
figure.axes[0].set_xlim(0, 1)
figure

# %% [markdown]
# How far apart are the best and the worst, and how many of the ten have their whole interval above the majority
# baseline? Beside the spread stands a control: ten coins, thrown once for every message, also spread.

# %%
spread = table["accuracy"].max() - table["accuracy"].min()
above = (table["low"] > majority).sum()
print(f"mean {table['accuracy'].mean():.3f}, worst {table['accuracy'].min():.3f}, best {table['accuracy'].max():.3f}")
print(f"above the majority baseline with the whole interval: {above} of {len(table)}")
coins = np.random.default_rng(0).binomial(zero_shot.n, 0.5, size=(2000, len(table))) / zero_shot.n
print(f"spread of the wordings {spread:.3f}; of ten coins, on average {np.ptp(coins, axis=1).mean():.3f}")
if not lab.fast:  # the claim is about smollm2
    assert above == 0
    assert spread < np.ptp(coins, axis=1).mean()

# %% [markdown]
# On these messages no wording is clearly better than answering the majority class, and the wordings lie no further
# apart than coins do. Before asking why, look at what people do next.
#
# ## Is the best wording good, or lucky?
#
# You would take the winner. But it won on these very messages, and with ten candidates one of them is lucky. Here is
# a fair test that costs nothing: choose the winner on one half of the messages, then look at its accuracy on the other
# half. Do that for 2,000 random halves. Guess: does the winner keep its lead?

# %%
right = np.array([m.predictions["correct"] for m in measured])  # (wordings, messages)
rng = np.random.default_rng(0)
kept = []
for _ in range(2000):
    first, second = np.array_split(rng.permutation(right.shape[1]), 2)
    winner = right[:, first].mean(axis=1).argmax()
    kept.append((right[winner, first].mean(), right[winner, second].mean(), right[:, second].mean()))
names = ["winner, where it was chosen", "winner, on the other half", "mean of all ten"]
chosen = pd.Series(np.mean(kept, axis=0), index=names)
optimism = chosen.iloc[0] - chosen.iloc[1]
assert optimism >= 0
print(f"choosing and reporting on the same rows flatters by {optimism:.3f}")
chosen.round(3)

# %% [markdown]
# The first number is what people report when they try wordings until one works. The second is what they get
# afterwards. The difference is the price of choosing on the rows that you report. This is why the course keeps a test
# split that no choice may touch.
#
# ## What did it answer?
#
# An accuracy hides *how* a prompt fails. For each wording, count how often each label was the answer. If the model
# could read the wording, the shares would be near those of the true labels.

# %%
truth = measured[0].predictions["label"]
answered = pd.DataFrame([m.predictions["prediction"].value_counts(normalize=True) for m in measured]).fillna(0)
answered = answered.reindex(columns=list(task.labels), fill_value=0.0)
answered.index = [f"wording {i}" for i in range(len(measured))]
answered.loc["true labels"] = truth.value_counts(normalize=True).reindex(task.labels, fill_value=0.0)
one_sided = (answered.iloc[:-1].max(axis=1) > 0.95).sum()
share = answered[task.labels[0]].iloc[:-1]
print(f"{one_sided} of {len(wordings)} wordings give more than 95 % of the messages the same answer")
print(f"answers {task.labels[0]!r}: from {share.min():.0%} of the messages to {share.max():.0%}, by the wording alone")
if not lab.fast:  # the claim is about smollm2
    assert share.max() - share.min() > 0.5
answered.round(2)

# %% [markdown]
# A wording whose line is near 1 and 0 gives (almost) every message the same answer. Its accuracy is then the share of
# that label, whatever the messages say. So this is where the wordings differ: not in how often they are right, but in
# what they make the model say. Here the wording moves the answer more than the message does.
#
# Why does a wording lean? Zhao et al. (2021) found that models favour labels that they have read last and labels that
# are common words. Check the first idea against the table: which label do wordings 1, 3 and 9 name last, and which do
# they answer? It does not explain all three.
#
# ## Calibration: ask about nothing
#
# Part of that lean can be taken away without training. Give the model the same wording with an **empty message**.
# What it answers then can't come from a message: it is the wording's own lean, together with the price of the longer
# label. Subtract these scores from those of every message (after Zhao et al. 2021, contextual calibration):
#
# $$\text{score}(\text{label}) =
# \log p(\text{label} \mid \text{message}) - \log p(\text{label} \mid \text{empty message})$$
#
# First look at the lean itself.

# %%
empty = pd.concat([label_probabilities(base_model, task.with_template(w), [""], tokenizer=tokenizer) for w in wordings])
empty.index = answered.index[:-1]
empty.round(3)

# %% [markdown]
# Without a message the shares should be even. Now subtract. The scores of the messages are in the tables of
# predictions already, so this needs no further run of the model.

# %%
columns = [f"log p({label})" for label in task.labels]


def calibrate(evaluation, empty_row):
    """The answer to each message after the scores of the empty message are taken away."""
    scores = evaluation.predictions[columns].to_numpy() - np.log(empty_row.to_numpy())
    return np.array(task.labels)[scores.argmax(axis=1)]


answers = [calibrate(m, row) for m, (_, row) in zip(measured, empty.iterrows(), strict=True)]
both = pd.DataFrame(
    {
        "accuracy as asked": table["accuracy"].to_numpy(),
        "accuracy calibrated": [(a == truth).mean() for a in answers],
        "share as asked": share.to_numpy(),
        "share calibrated": [(a == task.labels[0]).mean() for a in answers],
    },
    index=empty.index,
)
both.loc["mean"] = both.mean()
both.round(3)

# %% [markdown]
# *share* is the share of messages that get the first label. Did calibration even out the answers? Did it help the
# accuracy on the mean, and of every wording? The cell counts.

# %%
change = (both["accuracy calibrated"] - both["accuracy as asked"]).iloc[:-1]
print(f"accuracy: {(change > 0).sum()} wordings gain, {(change < 0).sum()} lose, mean change {change.mean():+.3f}")
lean = (both[["share as asked", "share calibrated"]].iloc[:-1] - 0.5).abs().mean()
print(f"mean distance of the share from one half: {lean.iloc[0]:.2f} as asked, {lean.iloc[1]:.2f} calibrated")

# %% [markdown]
# Calibration can only move the border between the two answers. It helps where the model ranks the messages rightly and
# puts the border in the wrong place. Where it does not rank them, no border is a good one.

# %% [markdown]
# ## The model's own chat form
#
# `smollm2` was also trained to follow instructions, in a form of its own with marks for who speaks. An instruction
# outside that form does not use what it learned there. The tokenizer knows the form. Take the third wording and put it
# in (the tiny model of the tests has no such form and keeps the plain wording).

# %%
order = wordings[2].removesuffix("\nAnswer: ")
chat_template = wordings[2]
if tokenizer.chat_template:
    message = [{"role": "user", "content": order}]
    chat_template = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
print(chat_template)

# %% [markdown]
# Three things to check before measuring. The label stands at the beginning of a line here, without a blank in front,
# so it has other tokens than before. And the form is long: the package cuts texts so that all fits into 128 tokens.
# Is any message cut? And two labels of different length are compared; that will be mended below.

# %%
chat_task = task.with_template(chat_template)
texts = task.validation[task.text_column]
longest = max(len(tokenizer(chat_task.prompt(text))["input_ids"]) for text in texts)
pieces = [tokenizer.decode([token]) for token in chat_task.encode(tokenizer, text, task.labels[0])[1]]
print(f"{task.labels[0]!r} as tokens: {pieces}; longest message in its form: {longest} tokens")

# %% [markdown]
# Now measure it, as it is and calibrated. About 15 seconds.

# %%
chat = evaluate(base_model, chat_task, "validation", tokenizer=tokenizer, limit=limit)
chat_empty = label_probabilities(base_model, chat_task, [""], tokenizer=tokenizer).iloc[0]
print(chat)
print(f"answers: {chat.predictions['prediction'].value_counts().to_dict()}")
chat_calibrated = (calibrate(chat, chat_empty) == chat.predictions["label"]).mean()
print(f"calibrated: {chat_calibrated:.3f}")

# %% [markdown]
# ## Other words for the labels
#
# The label words are part of a hard prompt too. Ask a question that is answered by Yes or No: two common words of one
# token each, so no label is longer than the other. The messages and the truth stay the same, only the names of the
# labels change. (Field word: a *verbalizer* says which words stand for which label.) About 15 seconds.

# %%
verbalizer = {"complaint": "Yes", "no complaint": "No"}


def renamed(rows):
    """The same rows with the label's other name."""
    names = [verbalizer.get(label, label) for label in rows["text_label"]]
    return rows.remove_columns("text_label").add_column("text_label", names)


question = "Is this message a complaint? Answer Yes or No.\n\nMessage: {text}"
yes_no = dataclasses.replace(
    task.with_template(chat_template.replace(order, question)),
    train=renamed(task.train),
    validation=renamed(task.validation),
    labels=tuple(verbalizer.get(label, label) for label in task.labels),
)
by_question = evaluate(base_model, yes_no, "validation", tokenizer=tokenizer, limit=limit)
print(by_question)
print(f"answers: {by_question.predictions['prediction'].value_counts().to_dict()}")

# %% [markdown]
# ## All of it side by side
#
# These are the numbers that a trained prompt has to beat in the chapters that follow. The mean of the ten is the fair
# one for "somebody writes a prompt"; the best of the ten was chosen on these rows and flatters.

# %%
rows = {
    "majority class": majority,
    "bare form": zero_shot.accuracy,
    "ten wordings, mean": both.loc["mean", "accuracy as asked"],
    "ten wordings, worst": table["accuracy"].min(),
    "ten wordings, best (chosen here)": table["accuracy"].max(),
    "ten wordings, calibrated, mean": both.loc["mean", "accuracy calibrated"],
    "chat form": chat.accuracy,
    "chat form, calibrated": chat_calibrated,
    "chat form, Yes or No": by_question.accuracy,
}
summary = pd.Series(rows, name="accuracy on the validation messages").to_frame()
summary["above the majority class"] = summary.iloc[:, 0] - majority
summary.round(3)

# %% [markdown]
# No line but the best one, which was chosen on these rows, has anything to show above the majority class; check that
# against your own table. This is a statement about one model of 135 million weights, these messages and these
# wordings. It is no law: larger models follow words far better, and this chapter has measured none of them. It says
# what is at stake for the next chapters: can a few vectors ask this same frozen model in a way that words cannot?
#
# ## Summary
#
# - Rank classification lets a model that continues text choose among labels: add the log-probabilities of a label's
#   tokens, each read one place earlier, and take the largest sum.
# - An accuracy stands beside its majority baseline and its interval, or it says nothing.
# - The same model and the same messages give other answers for each wording. The best of several wordings is partly
#   luck; measure it on rows that did not choose it.
# - A wording leans to a label whatever the message says. An empty message shows the lean, and calibration takes it
#   away; it cannot add what the model does not know.

# %% [markdown]
# ## Exercises
#
# They need small tensors only, no model.
#
# **01-1. The score of a label.** `logits` (T, V) are a model's scores for the tokens `[context | label]`, where the
# label's ids stand at the end. Return the sum of the label tokens' log-probabilities:
#
# ```
# total = 0
# for each place of a label token, first place = context_length:
#     total += log-probability of that token, read one place earlier
# ```


# %%
def score(logits, context_length, label_ids):
    """Log-probability of a label behind a context, from logits (T, V)."""
    ### BEGIN SOLUTION
    log_p = logits.log_softmax(-1)
    places = range(context_length, context_length + len(label_ids))
    return sum(log_p[place - 1, token].item() for place, token in zip(places, label_ids, strict=True))
    ### END SOLUTION


# %% [markdown]
# `course.hint("01-1")` in a cell of its own opens a hint.

# %%
from softprompt_lab import course

course.check("01-1", score)

# %% [markdown]
# **01-2. The interval.** Write the Wilson interval of *k* right answers in *n*. With *p = k/n* and *z* = 1.96:
#
# $$\frac{p + \frac{z^2}{2n}}{1 + \frac{z^2}{n}} \;\pm\;
# \frac{z}{1 + \frac{z^2}{n}} \sqrt{\frac{p(1-p)}{n} + \frac{z^2}{4n^2}}$$


# %%
import math


def interval(k, n):
    """Lower and upper end of the 95 % Wilson interval."""
    z = 1.96
    ### BEGIN SOLUTION
    p, shrink = k / n, 1 + z * z / n
    middle = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return middle - half, middle + half
    ### END SOLUTION


# %% [markdown]
# The first thing that the check tries is k = 0. Why? `course.hint("01-2")` opens a hint.

# %%
from softprompt_lab import course

course.check("01-2", interval)

# %% [markdown]
# **01-3. Calibrate.** `scores` (N, K) holds the log-probability of each of K labels behind each of N messages, `empty`
# (K,) those behind the empty message. Return the N indices of the labels that win after calibration.


# %%
def calibrated_answers(scores, empty):
    """Index of the winning label of each row, after the lean of the empty message is taken away."""
    ### BEGIN SOLUTION
    return (scores - empty).argmax(dim=1)
    ### END SOLUTION


# %% [markdown]
# One line is enough. `course.hint("01-3")` opens a hint.

# %%
from softprompt_lab import course

course.check("01-3", calibrated_answers)

# %% [markdown]
# **01-4. How many rows do you need?** You plan a test and want the interval to reach at most *h* to either side where
# it is widest, at *p* = 1/2. Derive the number of rows from the formula of 01-2, and return the fewest that do
# (`math.ceil` rounds up).


# %%
import math


def rows_needed(h):
    """Fewest rows at which the half width of the Wilson interval at p = 1/2 is at most h."""
    z = 1.96
    ### BEGIN SOLUTION
    # At p = 1/2 the half width is z / (2 * sqrt(n + z*z)); set it equal to h and solve for n.
    return math.ceil(z * z / (4 * h * h) - z * z)
    ### END SOLUTION


# %% [markdown]
# A derivation on paper takes three lines. `course.hint("01-4")` opens the first of them.

# %%
from softprompt_lab import course

course.check("01-4", rows_needed)

# %% [markdown]
# ## Sources
#
# - Tony Z. Zhao, Eric Wallace, Shi Feng, Dan Klein, Sameer Singh: *Calibrate Before Use: Improving Few-Shot Performance
#   of Language Models*, 2021, arXiv 2102.09690. Content-free inputs and the lean of a prompt. They rescale
#   probabilities and use several content-free inputs; here one empty message and a difference of logarithms.
# - Ari Holtzman, Peter West, Vered Shwartz, Yejin Choi, Luke Zettlemoyer: *Surface Form Competition: Why the Highest
#   Probability Answer Isn't Always Right*, 2021, arXiv 2104.08315. Scores relative to what a label scores without
#   the input.
# - Tom B. Brown and others: *Language Models are Few-Shot Learners*, 2020, arXiv 2005.14165. Zero-shot, few-shot, and
#   ranking answers by their probability.
# - Edwin B. Wilson: *Probable Inference, the Law of Succession, and Statistical Inference*, Journal of the American
#   Statistical Association 22, 1927. The interval.
