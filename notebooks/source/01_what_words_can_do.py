# %% [markdown]
# # 01 What words can do
#
# **How far do wordings and examples get?**
#
# Before you train anything, ask in words: that is what every trained prompt has to beat. In the figure one frozen
# model says twice of the same 400 tweets whether they are positive or negative. Only the words around them differ.
#
# You will be able to
# - let a model that only continues text choose among labels;
# - put a majority, an interval and a human rater beside an accuracy;
# - say what a wording moves in the answers, and mend a part of it without training;
# - choose among prompts, and say what the choice is worth on other rows.

# %%
import pandas as pd

from softprompt_lab import plots

tests = pd.read_csv("tables/tweets.csv")  # measured before, on the test rows: benchmarks/tasks.py
level = tests.set_index("kind")["accuracy"]
levels = {"majority": level["majority"], "ceiling": level["human rater"], "measured": "accuracy on 400 test tweets"}
two = tests[tests["kind"] == "wording"].sort_values("validation").iloc[[0, -1]]  # of ten, chosen on other rows
two["label"] = ["asked in one way", "asked in another way"]
plots.accuracy_comparison(two, **levels, title="Same model, same tweets: only the words around them differ")

# %% [markdown]
# The dotted line is the **majority baseline**: what you get by saying "positive" every time. One of these ways of
# asking is worse than not reading the tweets. The dashed line is the **human rater**: one person against the
# mean of the others, counted as in chapter 00.
#
# The frozen base model is SmolLM2-135M-Instruct, trained on web pages and code, then on chats; here
# it gets plain text.

# %% tags=["setup"]
import textwrap

import numpy as np
import torch

from softprompt_lab import course, evaluate, load_base_model, load_task, plots
from softprompt_lab.data.rated import human_ceiling
from softprompt_lab.evaluation import label_probabilities, wilson_interval

base_model, tokenizer = load_base_model("smollm2")
task = load_task("tweets")
tweet = task.validation[1]["text"]
print(tweet, "->", task.validation[1]["text_label"])

# %% [markdown]
# These numbers decide how long the chapter takes.

# %% tags=["setup", "parameters"]
ROWS = None  # validation rows that are measured; None: all of them
DRAWS = 3  # times that examples are drawn
SIZES = [5, 10, 20, 40, 80, 125]  # rows to choose a prompt on

# %% tags=["fast"]
ROWS = 8
DRAWS = 1
SIZES = [2, 4, 6]

# %% [markdown]
# ## What the model writes by itself
#
# Here are ten ways to ask, written down before any was measured. The tweet goes where `{text}` stands.

# %% tags=["setup"]
wordings = [
    "Tweet text : {text} Label : ",
    "Tweet: {text}\nSentiment: ",
    "Is the sentiment of this tweet positive or negative?\n{text}\nAnswer: ",
    "Classify the tweet as positive or negative.\nTweet: {text}\nLabel: ",
    "{text}\nOverall, the writer feels ",
    'Read the tweet and say whether its mood is positive or negative.\n\n"{text}"\n\nMood: ',
    "Sentiment analysis (positive / negative)\nInput: {text}\nOutput: ",
    "Q: Does this tweet sound positive or negative? {text}\nA: ",
    'Someone posted: "{text}"\nThe tone of this post is ',
    "Below is a tweet. Label it with one word, negative or positive.\n\n### Tweet\n{text}\n\n### Label\n",
]
names = [textwrap.shorten(w.replace("\n", " / "), 46, placeholder="…") for w in wordings]

# %% [markdown]
# Let the model continue the first three. `rstrip` cuts off the space at the end, because in this vocabulary a space
# belongs to the token of the word behind it.

# %%
for wording in wordings[:3]:
    asked = wording.replace("{text}", tweet).rstrip()
    ids = tokenizer(asked, return_tensors="pt")
    written = base_model.generate(**ids, max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    new = written[0, ids["input_ids"].shape[1] :]
    print(repr(asked[-24:]), "->", repr(tokenizer.decode(new, skip_special_tokens=True)))

# %% [markdown]
# Such answers are hard to score; the third is empty.
#
# ## Choose among the labels: rank classification by hand
#
# *How likely is it that the model writes this label?* Ask that for each label; the likeliest is the answer, even where
# the model would write neither. This is **rank classification**.
#
# The scores at one position predict the next token, so the label, here a single token with its space in front, is
# predicted where the context ends.

# %%
asked = task.with_template(wordings[1])
log_p = {}
for label in task.labels:
    context, label_ids = asked.encode(tokenizer, tweet, label)
    with torch.no_grad():
        logits = base_model(torch.tensor([context])).logits[0, -1]  # (V,)
    log_p[label] = logits.log_softmax(-1)[label_ids[0]].item()
found = pd.DataFrame({"log p": log_p}).assign(p=lambda table: np.exp(table["log p"]))
found.assign(share=found["p"] / found["p"].sum()).round(4)

# %% [markdown]
# The package's way:

# %%
label_probabilities(base_model, asked, [tweet], tokenizer=tokenizer).round(4)

# %% tags=["check"]
ours, theirs = found["p"] / found["p"].sum(), label_probabilities(base_model, asked, [tweet], tokenizer=tokenizer)
assert np.allclose(ours, theirs.iloc[0], atol=1e-4)

# %% [markdown]
# A label of several tokens has the product of their probabilities, so the logarithms add up (Exercise 01-1). So it is
# in the tenth wording: it ends in a line break, which is scored as the label's first token.
#
# ## One accuracy, and how sure it is
#
# Measure all {{len(task.validation)}} validation tweets behind the first wording, about 10 seconds.

# %%
first = evaluate(base_model, task.with_template(wordings[0]), "validation", tokenizer=tokenizer, limit=ROWS)
ceiling = human_ceiling(task, "validation")
print(first)
print(f"human rater {ceiling:.3f}")

# %% [markdown]
# By rank this wording gets {{first.accuracy:.1%}} right, where the majority has {{first.majority_baseline:.1%}} and a
# human rater {{ceiling:.1%}}. **Exact match** is stricter: the label has to be the model's first choice among all
# {{len(tokenizer):,}} tokens. It is {{first.exact_match:.1%}} here.
#
# Other tweets would give another accuracy. Hence the **95 % interval**: if you drew {{first.n}} tweets again and again,
# about 95 of 100 such intervals would hold the accuracy on all tweets of this kind. Wilson's formula needs the share
# and the number of rows alone. Here the share is always 80 %.

# %%
sizes = pd.DataFrame({"n": [20, 80, 320, 1280], "accuracy": 0.8})
ends = [wilson_interval(round(0.8 * n), n) for n in sizes["n"]]
sizes["low"], sizes["high"] = zip(*ends, strict=True)
sizes["label"] = "n = " + sizes["n"].astype(str)
plots.accuracy_comparison(sizes, title="Four times the rows halve the interval")

# %% [markdown]
# With 20 rows, 80 % may be the luck of a prompt that is worth {{sizes["low"][0]:.0%}}. With your {{first.n}} rows the
# interval goes from {{first.confidence_interval[0]:.1%}} to {{first.confidence_interval[1]:.1%}}.
#
# ## Ten wordings
#
# Now all ten (90 s).

# %%
course.vote("01-a")
how = {"split": "validation", "tokenizer": tokenizer, "limit": ROWS}
measured = [evaluate(base_model, task.with_template(wording), **how) for wording in wordings]
table = pd.DataFrame({"label": names, "accuracy": [m.accuracy for m in measured]})
table[["low", "high"]] = [m.confidence_interval for m in measured]
table = table.sort_values("accuracy", ascending=False)
here = {"majority": first.majority_baseline, "ceiling": ceiling, "measured": f"accuracy on {first.n} validation tweets"}
title = f"From {table['accuracy'].min():.0%} to {table['accuracy'].max():.0%} by wording alone"
plots.accuracy_comparison(table, **here, title=title)

# %% [markdown]
# {{(table["high"] < first.majority_baseline).sum()}} wordings lie below the majority with their whole interval.
#
# All ten answered the same tweets. So compare two of them by the tweets on which **only one is right**: the last two
# columns count these beside the best wording. A wording's tokens are read again with every tweet.

# %%
right = np.array([m.predictions["correct"] for m in measured])  # (wordings, rows)
beside = pd.DataFrame(
    {
        "by rank": [m.accuracy for m in measured],
        "exact": [m.exact_match for m in measured],
        "answers positive": [(m.predictions["prediction"] == "positive").mean() for m in measured],
        "tokens": [len(task.with_template(w).encode(tokenizer, "")[0]) for w in wordings],
        "only this right": (right & ~right[1]).sum(axis=1),
        "only the best right": (right[1] & ~right).sum(axis=1),
    },
    index=names,
).sort_values("by rank", ascending=False)
own, other = beside.iloc[1][["only this right", "only the best right"]]  # of the runner-up
chance = 2 * np.sqrt(own + other)
beside.round(3)

# %% tags=["check"]
assert table["accuracy"].idxmax() == 1
assert beside.index[0] == names[1]
assert (table["high"] < first.majority_baseline).sum() >= 3
assert other - own > chance
assert len(tokenizer.encode("positive")) == 1
assert len(task.with_template(wordings[9]).encode(tokenizer, tweet, "positive")[1]) == 3  # with the end token

# %% [markdown]
# If two wordings were equally good, each such tweet would be a throw of a coin, and of k throws the two sides seldom
# differ by more than 2√k. Between the best and the runner-up it is {{other:.0f}} against {{own:.0f}}, where luck
# explains a difference of {{chance:.0f}}. That is just beyond luck for two named beforehand; the best of ten, picked
# here, is flattered.
#
# ## Why the bad wordings are bad
#
# The column *answers positive* is the clue. {{first.majority_baseline:.0%}} of these tweets are positive, but the
# wordings call between {{beside["answers positive"].min():.0%}} and {{beside["answers positive"].max():.0%}} of them
# so. Take the wording that begins with "Q:". For each tweet, subtract the log-probability of "negative" from that of
# "positive": above 0, the answer is "positive". Differences of natural logarithms are counted in **nats**: 0.7 nats
# make one label twice as likely as the other.


# %%
def margins(evaluation):
    """How far each row leans to "positive"."""
    return evaluation.predictions["log p(positive)"] - evaluation.predictions["log p(negative)"]


def by_label(evaluation):
    """The margins of the rows of each true label."""
    return {label: margins(evaluation)[evaluation.predictions["label"] == label].to_numpy() for label in task.labels}


share = np.mean(np.array(task.train["text_label"]) == "positive")
lean, groups = margins(measured[7]), by_label(measured[7])
borders = {"border, as asked": 0.0, "border at the training share": np.quantile(lean, 1 - share)}
title = "The wording tells tweets apart; its border is in the wrong place"
plots.margins_figure(groups, borders, "log p(positive) - log p(negative), in nats", title=title)

# %% [markdown]
# As asked, this wording is right on {{measured[7].accuracy:.0%}} of the tweets. But take one positive and one negative
# tweet: how often does the positive one score higher? The share of such pairs is the **AUC** (area under the ROC
# curve). No border enters it, and guessing has 50 %.


# %%
def auc(evaluation):
    """Share of the pairs, a positive and a negative tweet each, in which the positive one scores higher."""
    of = by_label(evaluation)
    return np.mean(of["positive"][:, None] > of["negative"])


beside["AUC"] = pd.Series([auc(m) for m in measured], index=names)
beside[["by rank", "answers positive", "AUC"]].round(3)

# %% tags=["check"]
assert beside["AUC"].idxmax() == names[1]
assert beside["AUC"][names[7]] > 0.75
assert beside["AUC"].min() < 0.7

# %% [markdown]
# It is {{beside["AUC"][names[7]]:.0%}} behind "Q:", so **a prompt that looks worthless may know the answer**. Not
# each does: the last two have {{beside["AUC"].iloc[-2]:.0%}} and {{beside["AUC"].iloc[-1]:.0%}}.
#
# ## Calibration: move the border
#
# Where should the border stand? Three proposals look at no validation label.
# - **Ask about nothing.** What the model answers to an empty tweet is the wording's own lean, so subtract it.
# - **Ask about nothing three times.** Subtract the mean lean of three texts without content (contextual calibration,
#   Zhao et al. 2021).
# - **Use the training share.** {{share:.0%}} of the training tweets are positive. Put the border where that share of
#   the measured tweets lies above it, which takes many tweets.

# %%
course.vote("01-b")


def mended(evaluation, border):
    """Accuracy after the border between the answers is moved from 0."""
    return ((margins(evaluation) > border) == (evaluation.predictions["label"] == "positive")).mean()


rows = []
for wording, found in zip(wordings, measured, strict=True):
    asked, nothing = task.with_template(wording), ["", "N/A", "[MASK]"]
    empty = label_probabilities(base_model, asked, nothing, tokenizer=tokenizer)
    leans = np.log(empty["positive"] / empty["negative"])
    rows.append(("as asked", found.accuracy))
    rows.append(("less the empty tweet", mended(found, leans.iloc[0])))
    rows.append(("less the mean of three empty texts", mended(found, leans.mean())))
    rows.append(("border at the training share", mended(found, margins(found).quantile(1 - share))))
rows += [("majority", first.majority_baseline), ("human rater", ceiling)]
calibrated = pd.DataFrame(rows, columns=["kind", "accuracy"])
by_kind = calibrated.groupby("kind", sort=False)["accuracy"]
title = "Means: " + ", ".join(f"{kind} {mean:.0%}" for kind, mean in by_kind.mean().iloc[:4].items())
plots.marks_figure(calibrated, {"accuracy": here["measured"]}, unit="wording", title=title)

# %% [markdown]
# In numbers:

# %%
change = by_kind.get_group("less the empty tweet").to_numpy() - by_kind.get_group("as asked").to_numpy()
print(f"less the empty tweet: {(change > 0).sum()} wordings gain, {(change < 0).sum()} lose")
by_kind.agg(["mean", "min", "max"]).round(3)

# %% tags=["check"]
as_asked, one_empty, three_empty, at_share = by_kind.mean().iloc[:4]
assert max(one_empty, three_empty) < as_asked < first.majority_baseline < at_share
assert (change > 0.2).sum() == 1
assert (change < 0).sum() > (change > 0).sum()
assert by_kind.min()["border at the training share"] < first.majority_baseline
assert abs(share - first.majority_baseline) < 0.02
assert abs(mended(measured[1], margins(measured[1]).quantile(1 - share)) - measured[1].accuracy) < 0.01

# %% [markdown]
# Less the empty tweet, {{(change > 0).sum()}} wordings gain and {{(change < 0).sum()}} lose, as ten coins would: that
# shows neither help nor harm.  Three texts do no better.
#
# With the border at the training share the mean of the ten rises from {{by_kind.mean()["as asked"]:.0%}} to
# {{by_kind.mean()["border at the training share"]:.0%}}, without any training. It works because
# {{first.majority_baseline:.0%}} of the measured tweets are positive, too; on another mix this border would be wrong.
# And the lowest still has {{by_kind.min()["border at the training share"]:.0%}}, less than the majority; the best
# gains nothing.
#
# ## The winner, elsewhere
#
# What is the winner worth on tweets that had no part in the choice? Choose it on a few tweets, compare its accuracy
# there and on all others, and repeat that 500 times.

# %%
course.vote("01-c")
rng, luck = np.random.default_rng(0), []
for size in SIZES:
    for _ in range(500):
        order = rng.permutation(right.shape[1])
        few, rest = order[:size], order[size:]
        score = right[:, few].mean(axis=1)
        winner = rng.choice(np.flatnonzero(score == score.max()))  # of equals, any
        luck.append((size, "where it was chosen", score[winner]))
        luck.append((size, "elsewhere", right[winner, rest].mean()))
luck = pd.DataFrame(luck, columns=["rows to choose on", "kind", "accuracy"])
means = luck.pivot_table("accuracy", "rows to choose on", "kind")
gap = means["where it was chosen"] - means["elsewhere"]
there, elsewhere = means.loc[SIZES[2], ["where it was chosen", "elsewhere"]]
title = f"Chosen on {SIZES[2]} tweets, the winner has {there:.0%} there and {elsewhere:.0%} elsewhere"
plots.curves_figure(luck, "rows to choose on", {"accuracy": "accuracy of the winner"}, title=title)

# %% tags=["check"]
assert gap[SIZES[2]] > 0.04 > 0.01 > gap[SIZES[-1]]

# %% [markdown]
# The upper line is what you report if you try wordings until one works; the lower is what you get afterwards. A
# winner of {{SIZES[2]}} tweets loses {{100 * gap[SIZES[2]]:.0f}} points, a winner of {{SIZES[-1]}} tweets
# {{100 * gap[SIZES[-1]]:.1f}}. So this course chooses on validation rows and reports on test rows.
#
# ## Examples in front
#
# Words can also *show*: put solved examples in front. First another kind of task: the model writes the opposite of a
# word. The runs come from a table.

# %%
def with_intervals(name, kinds, draws):
    """The best wording of a table, chosen on validation rows, and the draws of examples in front of it."""
    table = pd.read_csv(f"tables/{name}.csv")
    order = table[table["kind"] == "wording"].sort_values(["validation", "validation loss"])
    best = order[order["validation"] == order["validation"].max()].head(1)
    drawn = table[table["kind"].isin(kinds) & (table["detail"] == "the best wording")]
    both = pd.concat([best.assign(kind="best wording alone"), drawn])
    return both.assign(label=both["kind"] + ["", *(f", draw {draw}" for draw in draws)])


words = with_intervals("antonym", ["5 examples", "20 examples"], "123456")
measure = f"opposites written, {words['n'].iloc[0]} held-out words"
plots.accuracy_comparison(words, measured=measure, title="Words: examples in front help")

# %% [markdown]
# The majority is 0 here. Twenty examples lift the best wording from
# {{words["accuracy"].iloc[0]:.0%}} to {{words["accuracy"].iloc[-3:].mean():.0%}}, at the price of
# {{words["tokens"].iloc[-1]:.0f}} tokens with every word.
#
# Now the tweets: eight examples, four of each label, in front of the best wording, on validation rows. About 15
# seconds a draw.

# %%
course.vote("01-d")
best, train = wordings[1], task.train.to_pandas()
alone = beside.loc[names[1], ["by rank", "exact", "answers positive"]]
draws = [("nothing", *alone, mended(measured[1], margins(measured[1]).quantile(1 - share)))]
for seed in range(DRAWS):
    eight = train.groupby("text_label").sample(4, random_state=seed).sample(frac=1, random_state=seed)
    front = "".join(f"{best.replace('{text}', row.text)}{row.text_label}\n" for row in eight.itertuples())
    shown = evaluate(base_model, task.with_template(front + best), **how, max_length=512)
    positive = (shown.predictions["prediction"] == "positive").mean()
    moved = mended(shown, margins(shown).quantile(1 - share))
    draws.append((f"8 examples, draw {chr(65 + seed)}", shown.accuracy, shown.exact_match, positive, moved))
pd.DataFrame(draws, columns=["in front", "by rank", "exact", "answers positive", "border moved"]).round(3)

# %% tags=["check"]
assert all(rank == exact and moved > rank for _, rank, exact, _, moved in draws[1:])
assert min(rank for _, rank, *_ in draws) < first.majority_baseline
assert max(rank for _, rank, *_ in draws[1:]) < draws[0][1]
assert abs(max(moved for *_, moved in draws[1:]) - draws[0][-1]) < 0.03  # in pairs 23 to 17

# %% [markdown]
# With examples *exact* equals the accuracy: they taught the form. But each draw pushes the border its own way. With
# the border at the training share most of the damage is gone: the best draw then has
# {{max(moved for *_, moved in draws[1:]):.1%}}, the wording alone {{draws[0][-1]:.1%}}, no clear difference. The
# shipped table has nine other draws, D to L, on test rows, as asked.

# %%
shots = with_intervals("tweets", ["4 examples", "8 examples", "16 examples"], "DEFGHIJKL")
plots.accuracy_comparison(shots, **levels, title="As asked, every draw of examples is worse than the wording alone")

# %% tags=["check"]
from pathlib import Path

assert len(shots) == 10
assert tests["detail"].head(10).tolist() == wordings
assert (shots["accuracy"].iloc[1:] < shots["accuracy"].iloc[0]).all()
every = Path(course.__file__).parents[2] / "benchmarks" / "tasks.csv"
rows = pd.read_csv(every).query("task == 'tweets' and detail in [@wordings[1], 'the best wording']")
bits = np.array([np.unpackbits(np.frombuffer(bytes.fromhex(code), np.uint8)) for code in rows["right"]]) == 1
for drawn in bits[1:]:
    only_best, only_drawn = (bits[0] & ~drawn).sum(), (drawn & ~bits[0]).sum()
    assert only_best - only_drawn > 2 * np.sqrt(only_best + only_drawn)
assert len(bits) == 10

# %% [markdown]
# In pairs, each of the nine is clearly worse. The wording alone costs {{shots["tokens"].iloc[0]:.0f}} tokens
# with every tweet; sixteen examples cost {{shots["tokens"].iloc[-3:].min():.0f}} to
# {{shots["tokens"].iloc[-3:].max():.0f}}.
#
# ## The open line
#
# The ten wordings on the test rows, the draw that was best on validation rows, and one trained prompt, as in chapter 00
# but of 100 steps. The line for other runs is empty.

# %%
ten = tests[tests["kind"] == "wording"].assign(label=names).sort_values("accuracy", ascending=False)
drawn = shots.iloc[1:].sort_values("validation").tail(1)
one_run = tests[tests["kind"] == "trained"].head(1).assign(label="eight trained vectors, one run")
open_line = pd.DataFrame({"label": ["eight trained vectors, other runs"], "kind": "trained", "accuracy": np.nan})
lines = pd.concat([ten, drawn, one_run, open_line])
lines["label"] += lines["tokens"].map(" ({:.0f})".format).replace(" (nan)", "")
title = "What words reach (in brackets: tokens beside the tweet), one trained prompt, and a line to fill"
plots.accuracy_comparison(lines, **levels, title=title)

# %% [markdown]
# The best wording, chosen on validation rows, reaches {{shots["accuracy"].iloc[0]:.1%}}, the trained prompt
# {{one_run["accuracy"].item():.1%}}, a human rater {{level["human rater"]:.1%}}. (Chapter 00 runs in another number
# type than `float32`, which moves such figures by a tweet or two.) One run may be luck, it read 600 labels where the
# wordings read none, and no larger model was measured. To the model words are vectors, and there are many more
# vectors than words. [Chapter 02](02_concatenation_by_hand.ipynb) puts vectors in front that are no words, and
# [chapter 04](04_training.ipynb) fills the line.
#
# ## Summary
#
# - Rank classification chooses among labels; exact match asks the model to write the label.
# - An accuracy stands beside its majority, its interval and, where there is one, a human rater. Two prompts on the same
#   rows are compared by the rows on which only one is right.
# - A wording moves the border between the answers: one below the majority may still rank the texts well. The training
#   share mends much of that where the measured rows have it too.
# - The winner of a choice owes a part of its lead to luck. Choose on some rows, report on others.
# - Examples teach the form. On tweets, by rank and as asked, no draw beat the best wording.

# %% [markdown]
# ## Exercises
#
# ### Exercise 01-1: Score a label of several tokens
#
# `logits` (T, V) are a model's scores for the tokens `[context | label]`; the label's ids stand at the end. Return
# the sum of the label tokens' log-probabilities, as a float:
#
# ```
# total = 0
# for each position of a label token, the first at context_length:
#     total += log-probability of that token, read one position earlier
# ```


# %%
def score(logits, context_length, label_ids):
    """Log-probability of a label behind a context, from logits (T, V)."""
    ### BEGIN SOLUTION
    log_p = logits.log_softmax(-1)
    positions = range(context_length, context_length + len(label_ids))
    return sum(log_p[at - 1, token].item() for at, token in zip(positions, label_ids, strict=True))
    ### END SOLUTION


# %% [markdown]
# `course.hint("01-1")` in a cell of its own opens a hint.

# %%
from softprompt_lab import course

course.check("01-1", score)

# %% [markdown]
# ### Exercise 01-2: The best of ten coins
#
# Ten prompts know nothing: each answers every tweet by the throw of a coin. You measure all ten on the same 20
# tweets, half of them positive, and take the best. Predict the accuracy that the best one shows, on average, as a
# share; to within 0.02 is near enough. Write it before you compute anything; the second hint computes it.

# %%
from softprompt_lab import course

### BEGIN SOLUTION
best_of_ten = 0.67
### END SOLUTION
course.check("01-2", best_of_ten)

# %% [markdown]
# ### Exercise 01-3: Your own wording
#
# Write a wording that you would bet on. Measure it and the best of the ten on the same 200 validation tweets or more
# (20 seconds). Then write a sentence with your accuracy, the number of tweets, on how many only yours is right (a) and
# on how many only the best (b). It may say "better" or "worse" where a and b differ by more than 2√(a + b). Hand in
# `{"wording": "...", "evaluation": of_mine, "best": of_the_best, "sentence": "..."}`.

# %%
from softprompt_lab import course, evaluate, load_base_model, load_task

base_model, tokenizer = load_base_model("smollm2")
task = load_task("tweets")
### BEGIN SOLUTION
wording, how = "Tweet: {text}\nMood: ", {"tokenizer": tokenizer, "limit": 200}
found = evaluate(base_model, task.with_template(wording), "validation", **how)
best = evaluate(base_model, task.with_template("Tweet: {text}\nSentiment: "), "validation", **how)
mine_right, best_right = found.predictions["correct"], best.predictions["correct"]
a, b = (mine_right & ~best_right).sum(), (best_right & ~mine_right).sum()
sentence = f"It reaches {found.accuracy:.1%} of {found.n} tweets; on {a} it alone is right, on {b} the best of the ten."
mine = {"wording": wording, "evaluation": found, "best": best, "sentence": sentence}
### END SOLUTION
course.check("01-3", mine)

# %% [markdown]
# ### Exercise 01-4: A report that flatters
#
# This function is to choose the best prompt on the first `few` rows and to report it on the others. Its reports are
# too good. Find the fault, repair the function, and let it return the letter of the fault in front of the accuracy.
# - A: the mean is taken over the prompts and not over the rows
# - B: the rows that are reported take part in the choice
# - C: the accuracy is that of the rows that chose
# - D: `argmax` gives the place of the best prompt and not its accuracy
#
# ```
# def report(right, few):                            # right (prompts, rows): 1 where the answer was right
#     winner = right.mean(dim=1).argmax()
#     return right[winner, few:].mean().item()
# ```


# %%
def report(right, few):
    """The letter of the fault, and the accuracy of the winner of the first rows on the others."""
    ### BEGIN SOLUTION
    winner = right[:, :few].mean(dim=1).argmax()
    return "B", right[winner, few:].mean().item()
    ### END SOLUTION


# %% [markdown]
# Which rows does each line look at?

# %%
from softprompt_lab import course

course.check("01-4", report)

# %% [markdown]
# ## Sources
#
# - Zhao, Wallace, Feng, Klein, Singh: *Calibrate Before Use*, 2021, arXiv 2102.09690. How examples make a model lean,
#   and texts without content; they rescale probabilities, here logarithms are subtracted.
# - Brown and others: *Language Models are Few-Shot Learners*, 2020, arXiv 2005.14165. Examples in front, ranked
#   answers.
# - Wilson: *Probable Inference, the Law of Succession, and Statistical Inference*, Journal of the American
#   Statistical Association 22, 1927.
# - Hutto, Gilbert: *VADER*, ICWSM 2014. The tweets and their ratings.
