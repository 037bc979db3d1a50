# %% [markdown]
# # 01 What words can do
#
# **How far do wordings and examples get?**
#
# Before you train anything, ask in words: that is what every trained prompt has to beat. In the figure one frozen
# model says twice of the same 400 tweets whether they are positive or negative. Only the words around the tweet
# differ, and both times they are plain English.
#
# You will be able to
# - let a model that only continues text choose among labels;
# - put a majority, an interval and a human rater beside an accuracy;
# - say what a wording moves in the answers, and mend a part of it without training;
# - choose among prompts without being fooled by luck.

# %%
import pandas as pd

from softprompt_lab import plots

tests = pd.read_csv("tables/tweets.csv")  # measured before, on the test rows: benchmarks/tasks.py
level = tests.set_index("kind")["accuracy"]
levels = {"majority": level["majority"], "ceiling": level["human rater"], "measured": "accuracy on 400 test tweets"}
two = tests[tests["kind"] == "wording"].sort_values("accuracy").iloc[[0, -1]]
two["label"] = ["asked in one way", "asked in another way"]
plots.accuracy_comparison(two, **levels, title="Same model, same tweets: only the words around them differ")

# %% [markdown]
# The dotted line is the **majority baseline**: what you get by saying "positive" every time. So one of these ways of
# asking is worse than not reading the tweets at all. The dashed line is the **human rater**: how often one of the
# people who rated a tweet agrees with the others about it.
#
# Load the frozen base model and the tweets. People rated each from -4 to 4; the sign of the mean is its label.

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
# What makes this chapter take long stands in one place.

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
# Here are ten ways to ask, written down before any was measured, each as a careful person might put it. The tweet
# goes where `{text}` stands, and the label follows at the end.

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
# The base model was trained to continue text. Let it continue the first three.

# %%
for wording in wordings[:3]:
    asked = wording.replace("{text}", tweet).rstrip()
    ids = tokenizer(asked, return_tensors="pt")
    written = base_model.generate(**ids, max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    new = written[0, ids["input_ids"].shape[1] :]
    print(repr(asked[-24:]), "->", repr(tokenizer.decode(new, skip_special_tokens=True)))

# %% [markdown]
# The first is no answer, the second begins with a label and rambles on, and the third writes nothing. Such answers
# are hard to score, so ask something narrower.
#
# ## Choose among the labels: rank classification by hand
#
# *How likely is it that the model writes exactly this label?* Ask that for each label; the likeliest is the answer,
# even where the model would write neither. This is **rank classification**.
#
# The scores at one position predict the next token, so the label is predicted where the context ends. Here each label
# is a single token, with its space in front.

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
# The package does this for many texts at once, with the same result.

# %%
label_probabilities(base_model, asked, [tweet], tokenizer=tokenizer).round(4)

# %% tags=["check"]
ours, theirs = found["p"] / found["p"].sum(), label_probabilities(base_model, asked, [tweet], tokenizer=tokenizer)
assert np.allclose(ours, theirs.iloc[0], atol=1e-4)

# %% [markdown]
# A label of several tokens has a product of probabilities, so their logarithms add up: that is Exercise 01-1.
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
# Other tweets would give another accuracy. The **interval** holds the true shares that would make the measured one
# unsurprising; Wilson's formula needs the share and the number of rows alone. Here the share is always 80 %.

# %%
sizes = pd.DataFrame({"n": [20, 80, 320, 1280], "accuracy": 0.8})
ends = [wilson_interval(round(0.8 * n), n) for n in sizes["n"]]
sizes["low"], sizes["high"] = zip(*ends, strict=True)
sizes["label"] = "n = " + sizes["n"].astype(str)
plots.accuracy_comparison(sizes, title="Four times the rows halve the interval")

# %% [markdown]
# With 20 rows, 80 % may be the luck of a prompt that is worth {{sizes["low"][0]:.0%}}. With your {{first.n}} rows the
# interval goes from {{first.confidence_interval[0]:.1%}} to {{first.confidence_interval[1]:.1%}}, so do not believe
# in a difference of three points.
#
# ## Ten wordings
#
# Now all ten, about 90 seconds in all. The model and the tweets stay the same.

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
# The best is one of the three shortest, and {{(table["high"] < first.majority_baseline).sum()}} wordings lie below
# the majority with their whole interval. Reading them does not tell which.
#
# The table adds the exact match, how often each wording answers "positive", and what it costs: its tokens are read
# again with every tweet.

# %%
beside = pd.DataFrame(
    {
        "by rank": [m.accuracy for m in measured],
        "exact": [m.exact_match for m in measured],
        "answers positive": [(m.predictions["prediction"] == "positive").mean() for m in measured],
        "tokens": [len(task.with_template(w).encode(tokenizer, "")[0]) for w in wordings],
    },
    index=names,
)
beside.sort_values("by rank", ascending=False).round(3)

# %% tags=["check"]
assert table["accuracy"].idxmax() == 1
assert beside["tokens"].rank()[names[1]] <= 3
assert set(table["accuracy"].nsmallest(2).index) == {2, 9}
assert beside["tokens"].idxmax() == names[9]

# %% [markdown]
# Behind no wording does the model write the right label by itself on more than {{beside["exact"].max():.0%}} of the
# tweets. And the longest wording is among the worst.
#
# This model was also trained to chat, in a form of its own that marks who speaks. Put the question of the third
# wording into that form, about 15 seconds.

# %%
said = [{"role": "user", "content": wordings[2].removesuffix("\nAnswer: ")}]
chat = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
in_chat = evaluate(base_model, task.with_template(chat), **how, max_length=256)
print(chat, in_chat, sep="\n")

# %% tags=["check"]
assert measured[2].accuracy < 0.45 < in_chat.accuracy < measured[1].accuracy
assert in_chat.confidence_interval[0] < first.majority_baseline < in_chat.confidence_interval[1]

# %% [markdown]
# The same question rises from {{measured[2].accuracy:.0%}} to {{in_chat.accuracy:.0%}}, which is about the majority.
#
# ## Why the bad wordings are bad
#
# The column *answers positive* is the clue. {{first.majority_baseline:.0%}} of these tweets are positive, but the
# wordings call between {{beside["answers positive"].min():.0%}} and {{beside["answers positive"].max():.0%}} of them
# so. Take the wording that begins with "Q:". For each tweet, subtract the log-probability of "negative" from that of
# "positive": above 0, the answer is "positive".

# %%
def margins(evaluation):
    """How far each row leans to "positive"."""
    return evaluation.predictions["log p(positive)"] - evaluation.predictions["log p(negative)"]


share = np.mean(np.array(task.train["text_label"]) == "positive")
lean, truth = margins(measured[7]), measured[7].predictions["label"]
groups = {label: lean[truth == label].to_numpy() for label in task.labels}
pairs = groups["positive"][:, None] > groups["negative"]  # every positive tweet beside every negative one
borders = {"border, as asked": 0.0, "border at the training share": np.quantile(lean, 1 - share)}
title = "The wording tells tweets apart; its border is in the wrong place"
plots.margins_figure(groups, borders, "log p(positive) - log p(negative), in nats", title=title)

# %% [markdown]
# As asked, this wording is right on {{measured[7].accuracy:.0%}} of the tweets. But take one positive and one
# negative tweet: in {{np.mean(pairs):.0%}} of all such pairs the positive one scores higher. So behind this wording
# the model does tell the moods apart, but most tweets lie on one side of the border. **A prompt that looks
# worthless may know the answer.**
#
# ## Calibration: move the border
#
# Where should the border stand? Two proposals look at no validation label.
# - **Ask about nothing.** Put an empty tweet into the wording. What the model answers then is the wording's own lean,
#   so subtract it (contextual calibration, Zhao et al. 2021).
# - **Use the training share.** {{share:.0%}} of the training tweets are positive. Put the border where that share of
#   the measured tweets lies above it. This takes many tweets at once.

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
title = "An empty tweet misleads; the training share mends"
plots.marks_figure(calibrated, {"accuracy": here["measured"]}, unit="wording", title=title)

# %% [markdown]
# In numbers:

# %%
by_kind = calibrated.groupby("kind", sort=False)["accuracy"]
change = by_kind.get_group("less the empty tweet").to_numpy() - by_kind.get_group("as asked").to_numpy()
print(f"less the empty tweet: {(change > 0).sum()} wordings gain, {(change < 0).sum()} lose")
by_kind.agg(["mean", "min", "max"]).round(3)

# %% tags=["check"]
as_asked, one_empty, three_empty, at_share = by_kind.mean().iloc[:4]
assert max(one_empty, three_empty) < as_asked < first.majority_baseline < at_share
assert (change > 0.2).sum() == 1
assert (change < 0).sum() > (change > 0).sum()
assert abs(mended(measured[1], margins(measured[1]).quantile(1 - share)) - measured[1].accuracy) < 0.01

# %% [markdown]
# The empty tweet is a bad yardstick here: a form with a hole in it is an odd text, and the lean on it need not be
# that on tweets. The paper averages over several such texts, which does not help here either. With the border at the
# training share the mean of the ten rises from {{by_kind.mean()["as asked"]:.0%}} to
# {{by_kind.mean()["border at the training share"]:.0%}}, without any training. The best wording gains nothing,
# because its border was in its place already.
#
# ## The winner, elsewhere
#
# You would take the winner. But of ten candidates one is always lucky. To see how lucky, choose it on a few tweets,
# compare its accuracy there and on all others, and repeat that 500 times.

# %%
course.vote("01-c")
right = np.array([m.predictions["correct"] for m in measured])  # (wordings, rows)
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
title = "Winners of few rows owe much to luck"
plots.curves_figure(luck, "rows to choose on", {"accuracy": "accuracy of the winner"}, title=title)

# %% tags=["check"]
assert gap[SIZES[2]] > 0.04 > 0.01 > gap[SIZES[-1]]

# %% [markdown]
# The upper line is what you report if you try wordings until one works; the lower is what you get afterwards. A
# winner of {{SIZES[2]}} tweets loses {{100 * gap[SIZES[2]]:.0f}} points, a winner of {{SIZES[-1]}} tweets
# {{100 * gap[SIZES[-1]]:.1f}}, because the best of these ten is far ahead; where candidates lie closer, it takes more
# rows. So this course chooses on validation rows and reports on test rows.
#
# ## Examples in front
#
# Words can also *show*: put solved examples in front and let the model go on. First a task in which that works: a
# word comes in and the model writes its opposite. The runs took long, so they come from a table.

# %%
def with_intervals(name, kinds):
    """The best wording of a table, chosen on validation rows, and the draws of examples in front of it."""
    table = pd.read_csv(f"tables/{name}.csv")
    order = table[table["kind"] == "wording"].sort_values(["validation", "validation loss"])
    best = order[order["validation"] == order["validation"].max()].head(1)
    drawn = table[table["kind"].isin(kinds) & (table["detail"] == "the best wording")]
    both = pd.concat([best.assign(kind="best wording alone"), drawn])
    seeds = both["seed"].map(", draw {:.0f}".format).replace(", draw nan", "")
    return both.assign(label=both["kind"] + seeds)


words = with_intervals("antonym", ["5 examples", "20 examples"])
measure = f"opposites written, {words['n'].iloc[0]} held-out words"
plots.accuracy_comparison(words, measured=measure, title="Words: examples in front help")

# %% [markdown]
# The majority is 0 here, since every word has its own answer. Twenty examples lift the best wording from
# {{words["accuracy"].iloc[0]:.0%}} to {{words["accuracy"].iloc[-3:].mean():.0%}}, at the price of
# {{words["tokens"].iloc[-1]:.0f}} tokens with every word.
#
# Now the tweets: eight examples, four of each label, in front of the best wording. About 15 seconds a draw.

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
    draws.append((f"8 examples, draw {seed}", shown.accuracy, shown.exact_match, positive, moved))
pd.DataFrame(draws, columns=["in front", "by rank", "exact", "answers positive", "border moved"]).round(3)

# %% tags=["check"]
assert all(rank == exact and moved > rank for _, rank, exact, _, moved in draws[1:])
assert min(rank for _, rank, *_ in draws) < first.majority_baseline
assert max(rank for _, rank, *_ in draws[1:]) < draws[0][1]

# %% [markdown]
# With examples *exact* equals the accuracy: they taught the form. But each draw also pushes the border its own way;
# move it back, and most of the damage is gone. Was one draw unlucky? The shipped table has three draws each of four,
# eight and sixteen examples, on test rows.

# %%
shots = with_intervals("tweets", ["4 examples", "8 examples", "16 examples"])
plots.accuracy_comparison(shots, **levels, title="Tweets: every draw of examples is worse than the wording alone")

# %% tags=["check"]
assert len(shots) == 10
assert tests["detail"].head(10).tolist() == wordings
assert (shots["accuracy"].iloc[1:] < shots["accuracy"].iloc[0]).all()

# %% [markdown]
# The wording alone costs {{shots["tokens"].iloc[0]:.0f}} tokens with every tweet, and sixteen examples about
# {{shots["tokens"].iloc[-3:].mean():.0f}}.
#
# ## The open line
#
# The ten wordings on the test rows, the draw of examples that was best on validation rows, and a line that is empty:

# %%
ten = tests[tests["kind"] == "wording"].assign(label=names).sort_values("accuracy", ascending=False)
drawn = shots.iloc[1:].sort_values("validation").tail(1)
drawn["label"] = drawn["kind"] + ", best of nine draws"
open_line = pd.DataFrame({"label": ["eight trained vectors"], "kind": "trained", "accuracy": np.nan})
lines = pd.concat([ten, drawn, open_line])
lines["label"] += lines["tokens"].map(" ({:.0f})".format).replace(" (nan)", "")
title = "What words reach (in brackets: tokens beside the tweet), and a line to fill"
plots.accuracy_comparison(lines, **levels, title=title)

# %% [markdown]
# The best wording, chosen on validation rows, reaches {{shots["accuracy"].iloc[0]:.1%}} on the test rows, and a human
# rater {{level["human rater"]:.1%}}. No model larger than these 135 million weights was measured. To the model words
# are vectors, and there are many more vectors than words. [Chapter 02](02_concatenation_by_hand.ipynb) puts vectors
# in front that are no words, and [chapter 04](04_training.ipynb) fills the line.
#
# ## Summary
#
# - Rank classification lets a model choose among labels; exact match asks it to write the label.
# - An accuracy stands beside the majority of its rows, its interval and, where there is one, a human rater.
# - A wording moves the border between the answers: one that scores below the majority may still rank the texts well.
#   The training share mends much of that here, an empty text does not.
# - The winner of a choice owes a part of its lead to luck. Choose on some rows, report on others.
# - Examples teach the form. On words they help; on tweets the draw decides, and no draw beat the best wording.

# %% [markdown]
# ## Exercises
#
# ### Exercise 01-1: Score a label of several tokens
#
# `logits` (T, V) are a model's scores for the tokens `[context | label]`; the label's ids stand at the end. Return
# the sum of the label tokens' log-probabilities:
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
# share.
#
# Write the number before you compute anything; the second hint computes it.

# %%
from softprompt_lab import course

### BEGIN SOLUTION
best_of_ten = 0.67
### END SOLUTION
course.check("01-2", best_of_ten)

# %% [markdown]
# ### Exercise 01-3: Your own wording
#
# Write a wording that you would bet on, measure it on at least 200 validation tweets (about 10 seconds), and write
# one sentence with its accuracy and the number of tweets. If it says "better" than the best of the ten, the interval
# has to bear that out.

# %%
from softprompt_lab import course, evaluate, load_base_model, load_task

base_model, tokenizer = load_base_model("smollm2")
task = load_task("tweets")
### BEGIN SOLUTION
wording = "Tweet: {text}\nMood: "
found = evaluate(base_model, task.with_template(wording), "validation", tokenizer=tokenizer, limit=200)
low, high = found.confidence_interval
sentence = f"It reaches {found.accuracy:.1%} of {found.n} tweets, with an interval from {low:.1%} to {high:.1%}."
mine = {"wording": wording, "evaluation": found, "sentence": sentence}
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
