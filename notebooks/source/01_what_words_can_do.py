# %% [markdown]
# # 01 What words can do
#
# **How far do wordings and examples get?**
#
# Before you train anything, ask in words. An instruction, a question or a form to fill in costs no training, and it
# is what every trained prompt has to beat. The figure shows how much the asking matters: one frozen model reads the
# same 400 tweets twice and says of each whether it is positive or negative. Only the words around the tweet differ,
# and both ways of asking are plain English.
#
# You will be able to
# - let a model that only continues text choose among labels, and do it by hand for one tweet;
# - put a majority, an interval and a human rater beside an accuracy;
# - say what a wording or an example moves inside the answers, and mend a part of it without training;
# - choose among prompts without being fooled by luck.

# %%
import pandas as pd

from softprompt_lab import plots

tests = pd.read_csv("tables/tweets.csv")  # measured before, on the test rows: benchmarks/tasks.py
level = tests.set_index("kind")["accuracy"]
two = tests[tests["kind"] == "wording"].sort_values("accuracy").iloc[[0, -1]]
plots.accuracy_comparison(
    two.assign(label=["asked in one way", "asked in another way"]),
    majority=level["majority"],
    ceiling=level["human rater"],
    measured="accuracy on 400 test tweets",
    title="Same model, same tweets: only the words around them differ",
)

# %% [markdown]
# The dotted line is the **majority baseline**: it is what you get by saying "positive" every time. So one of these
# ways of asking is worse than not reading the tweets at all. The dashed line is a **human ceiling**: how often one of
# the people who rated a tweet agrees with the others about it.
#
# Load the frozen base model and the tweets. People rated each from -4 to 4, and its label is the side on which their
# mean lies.

# %% tags=["setup"]
import textwrap

import numpy as np
import pandas as pd
import torch

from softprompt_lab import course, evaluate, load_base_model, load_task, plots
from softprompt_lab.data.rated import human_ceiling
from softprompt_lab.evaluation import label_probabilities, wilson_interval

base_model, tokenizer = load_base_model("smollm2")
task = load_task("tweets")
tweet = task.validation[1]["text"]
print(tweet, "->", task.validation[1]["text_label"])

# %% [markdown]
# What makes this chapter take long stands in one place. With all validation rows it runs for two to three minutes.

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
# Here are ten ways to ask, written down before any of them was measured, each as a careful person might write it. A
# wording is a template: the tweet goes where `{text}` stands, and the label follows at the end.

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
# The base model was trained to continue text. Let it continue three of these forms, as it likes.

# %%
for wording in wordings[:3]:
    asked = wording.replace("{text}", tweet).rstrip()
    ids = tokenizer(asked, return_tensors="pt")
    written = base_model.generate(
        **ids, max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.pad_token_id
    )
    print(repr(asked[-24:]), "->", repr(tokenizer.decode(written[0, ids["input_ids"].shape[1] :])))

# %% [markdown]
# Some of this is an answer, some is not, and it is hard to score: is "I'm sorry" negative? So ask something narrower.
#
# ## Choose among the labels: rank classification by hand
#
# *How likely is it that the model writes exactly this label?* Ask that for each label; the likeliest is the answer.
# This is **rank classification**, and it needs no training and no luck with the form: one label only has to be less
# unlikely than the other.
#
# The scores at one position predict the next token. So the label is predicted where the context ends. With this
# wording each label is a single token (its space belongs to it; the clinic, chapter 05, shows what happens when you
# forget that).

# %%
asked = task.with_template(wordings[1])
log_p = {}
for label in task.labels:
    context, label_ids = asked.encode(tokenizer, tweet, label)
    with torch.no_grad():
        logits = base_model(torch.tensor([context])).logits[0, -1]  # (V,)
    log_p[label] = logits.log_softmax(-1)[label_ids[0]].item()
shares = pd.Series(log_p).pipe(np.exp)
print({label: round(score, 2) for label, score in log_p.items()})
shares / shares.sum()

# %% [markdown]
# The package does this for many texts at once. The two agree.

# %%
label_probabilities(base_model, asked, [tweet], tokenizer=tokenizer).round(4)

# %% tags=["check"]
ours, theirs = shares / shares.sum(), label_probabilities(base_model, asked, [tweet], tokenizer=tokenizer)
assert np.allclose(ours, theirs.iloc[0], atol=1e-4)

# %% [markdown]
# A label of several tokens has a product of probabilities, so its logarithms add up: Exercise 01-1.
#
# ## One accuracy, and how sure it is
#
# Now all {{len(task.validation)}} validation tweets, about 10 seconds.

# %%
first = evaluate(base_model, task.with_template(wordings[0]), "validation", tokenizer=tokenizer, limit=ROWS)
ceiling = human_ceiling(task, "validation")
print(first)
print(f"human rater {ceiling:.3f}")

# %% [markdown]
# This wording gets {{first.accuracy:.1%}} right by rank, where the majority has {{first.majority_baseline:.1%}} and a
# human rater {{ceiling:.1%}}. **Exact match** is stricter: the label has to be the model's first choice among all
# {{len(tokenizer):,}} tokens. It is {{first.exact_match:.1%}} here, because this form makes other words likelier.
#
# The **interval** says which true shares would make the measured one unsurprising: if you drew other tweets, the
# accuracy would be another one. Wilson's formula (1927) makes it from the number of rows and the share alone. The
# figure holds the share at 80 % and lets the rows grow.

# %%
sizes = pd.DataFrame({"n": [20, 50, 250, 1000, 4000], "accuracy": 0.8})
ends = [wilson_interval(round(0.8 * n), n) for n in sizes["n"]]
sizes["low"], sizes["high"] = zip(*ends, strict=True)
plots.accuracy_comparison(
    sizes.assign(label="n = " + sizes["n"].astype(str)), title="Four times the rows halve the interval"
)

# %% [markdown]
# With 20 rows, 80 % may be luck on a model that is worth {{sizes["low"][0]:.0%}}. With 250 rows an interval reaches
# about five points to either side, so a difference of three points between two prompts shows nothing.
#
# ## Ten wordings
#
# Measure all ten, about 90 seconds in all. The model and the tweets stay the same.

# %%
course.vote("01-a")
measured = [
    evaluate(base_model, task.with_template(w), "validation", tokenizer=tokenizer, limit=ROWS)
    for w in wordings
]
table = pd.DataFrame({"label": names, "accuracy": [m.accuracy for m in measured]})
table[["low", "high"]] = [m.confidence_interval for m in measured]
ranked = table.sort_values("accuracy", ascending=False)
lowest, highest = table["accuracy"].min(), table["accuracy"].max()
plots.accuracy_comparison(
    ranked,
    majority=first.majority_baseline,
    ceiling=ceiling,
    measured=f"accuracy on {first.n} validation tweets",
    title=f"From {lowest:.0%} to {highest:.0%} by wording alone",
)

# %% [markdown]
# The best is one of the three shortest, and {{(table["high"] < first.majority_baseline).sum()}} careful wordings lie
# below the majority with their whole interval. Their text does not show it.
#
# What does the model write by itself? The table puts the exact match beside the accuracy by rank. It also counts how
# often a wording says "positive", and its cost: these tokens are read again with every tweet.

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

# %% [markdown]
# No wording makes the model write the right label by itself more than {{beside["exact"].max():.0%}} of the time. And
# more words do not buy more: the longest wording has {{beside["tokens"].max()}} tokens and is among the worst.
#
# ## Why the bad wordings are bad
#
# The column *answers positive* is the clue. {{first.majority_baseline:.0%}} of these tweets are positive, but the
# wordings call between {{beside["answers positive"].min():.0%}} and {{beside["answers positive"].max():.0%}} of them
# so. Take the one that begins with "Q:", and look at what it scores: for each tweet the log-probability of "positive"
# less that of "negative". Above 0, the answer is "positive".

# %%
def margins(evaluation):
    """How far each row leans to "positive": the difference of the two log-probabilities."""
    found = evaluation.predictions
    return found["log p(positive)"] - found["log p(negative)"]


share = np.mean(np.array(task.train["text_label"]) == "positive")
lean, truth = margins(measured[7]), measured[7].predictions["label"]
groups = {label: lean[truth == label].to_numpy() for label in task.labels}
pairs = groups["positive"][:, None] > groups["negative"]  # every positive tweet beside every negative one
plots.margins_figure(
    groups,
    {"border, as asked": 0.0, "border at the training share": np.quantile(lean, 1 - share)},
    "log p(positive) - log p(negative), in nats",
    title="It tells the tweets apart, but the border between the answers stands in the wrong place",
)

# %% [markdown]
# As asked, this wording is right on {{measured[7].accuracy:.0%}} of the tweets. But take one positive and one
# negative tweet at random: in {{np.mean(pairs):.0%}} of all such pairs the positive one scores higher. So the model
# reads the mood and the wording does not spoil that. It only pushes nearly every tweet to the same side of the
# border. **A prompt that looks worthless may know the answer.**
#
# ## Calibration: move the border
#
# Where should the border stand? Two proposals, neither of which looks at a validation label.
# - **Ask about nothing.** Give the model the same wording with an empty tweet. What it answers then is the wording's
#   own lean, so subtract it (Zhao et al. 2021, contextual calibration).
# - **Use the training share.** {{share:.0%}} of the training tweets are positive. Put the border where that share of
#   the tweets lies above it. This needs many tweets at once.

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
rows.append(("majority", first.majority_baseline))
calibrated = pd.DataFrame(rows, columns=["kind", "accuracy"])
plots.marks_figure(
    calibrated,
    {"accuracy": f"accuracy on {first.n} validation tweets"},
    unit="wording",
    title="Asking about nothing does not mend the wordings; the right border does",
)

# %% [markdown]
# The cell below says it in numbers.

# %%
by_kind = calibrated.groupby("kind", sort=False)["accuracy"]
change = by_kind.get_group("less the empty tweet").to_numpy() - by_kind.get_group("as asked").to_numpy()
print(f"less the empty tweet: {(change > 0).sum()} wordings gain, {(change < 0).sum()} lose")
by_kind.agg(["mean", "min", "max"]).round(3)

# %% [markdown]
# The empty tweet is a bad yardstick here: a form with a hole in it is an odd text, and the model's lean on an odd
# text need not be its lean on tweets. The paper averages over several empty texts, and that does not help these
# wordings either. The training share is a better guide: the mean of the ten rises from
# {{by_kind.mean()["as asked"]:.0%}} to {{by_kind.mean()["border at the training share"]:.0%}}, and the model is the
# same. But this only moves a border. The border of the best wording was in its place already.
#
# ## The winner, elsewhere
#
# You would take the winner of the ten. But it won on the rows it is measured on, and of ten candidates one is always
# lucky. The test costs nothing: choose the winner on a few tweets, look at its accuracy there and on all the others,
# and repeat that 500 times.

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
        luck.append((size, "on the rows that chose it", score[winner]))
        luck.append((size, "on all other rows", right[winner, rest].mean()))
luck = pd.DataFrame(luck, columns=["rows to choose on", "kind", "accuracy"])
means = luck.pivot_table("accuracy", "rows to choose on", "kind")
gap = means["on the rows that chose it"] - means["on all other rows"]
plots.curves_figure(
    luck,
    "rows to choose on",
    {"accuracy": "accuracy of the winner of ten"},
    title="The fewer rows choose, the more the winner owes to luck",
)

# %% [markdown]
# The upper line is what people report who try wordings until one works; the lower line is what they get afterwards.
# Chosen on {{SIZES[2]}} tweets the winner loses {{100 * gap[SIZES[2]]:.0f}} points, on {{SIZES[-1]}} tweets
# {{100 * gap[SIZES[-1]]:.1f}}: the best of these ten is far ahead of the second, so half of the rows are enough to
# find it. Where candidates lie closer together, it takes more. So this course chooses on validation rows and reports
# on test rows.
#
# ## Examples in front
#
# Words can also *show*: put solved examples in front and let the model go on. First a task in which that works: a
# word comes in, its opposite goes out. The runs took long, so they come from a table. The model writes the answer by
# itself, and the words are held out.

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
plots.accuracy_comparison(
    words,
    measured=f"opposites written, {words['n'].iloc[0]} held-out words",
    title="Words: examples help, and more of them help more",
)

# %% [markdown]
# No constant answer scores here, so the majority is {{0:.0%}}. Examples lift the best wording from
# {{words["accuracy"].iloc[0]:.0%}} to {{words["accuracy"].iloc[-3:].mean():.0%}}, for
# {{words["tokens"].iloc[-1]:.0f}} tokens in front of every word.
#
# Now the tweets: eight examples, four of each label, in front of the best wording. What would you expect? About 15
# seconds a draw.

# %%
course.vote("01-d")
best, train = wordings[1], task.train.to_pandas()
print(f"0 examples: accuracy {measured[1].accuracy:.3f}, exact {measured[1].exact_match:.3f}")
for seed in range(DRAWS):
    eight = train.groupby("text_label").sample(4, random_state=seed).sample(frac=1, random_state=seed)
    front = "".join(f"{best.replace('{text}', row.text)}{row.text_label}\n" for row in eight.itertuples())
    shown = evaluate(
        base_model, task.with_template(front + best), "validation", tokenizer=tokenizer, limit=ROWS, max_length=512
    )
    positive = (shown.predictions["prediction"] == "positive").mean()
    moved = mended(shown, margins(shown).quantile(1 - share))
    print(
        f"draw {seed}: accuracy {shown.accuracy:.3f}, exact {shown.exact_match:.3f}, "
        f"answers positive {positive:.2f}, border moved {moved:.3f}"
    )

# %% [markdown]
# Look at *exact* first: it equals the accuracy. The examples taught the form, and the model now always writes one of
# the labels. But they also push the border about, and *which* eight you drew decides whether they help or ruin. Move
# the border and most of the damage is gone. Is that one bad draw? The table has four, eight and sixteen examples on
# the test rows.

# %%
shots = with_intervals("tweets", ["4 examples", "8 examples", "16 examples"])
plots.accuracy_comparison(
    shots,
    majority=level["majority"],
    ceiling=level["human rater"],
    measured="accuracy on 400 test tweets",
    title="Tweets: no number of examples beats the wording alone, and the draw decides",
)

# %% [markdown]
# The wording alone costs {{shots["tokens"].iloc[0]}} tokens a tweet, sixteen examples about
# {{shots["tokens"].iloc[-3:].mean():.0f}}, and all nine draws are below it.
#
# ## The open line
#
# This is how far words get. All ten wordings on the test rows, the draw of examples that was best on the validation
# rows, and one line that is still empty.

# %%
asked = tests[tests["kind"] == "wording"].assign(label=names)
asked = asked.assign(group="wording").sort_values("accuracy", ascending=False)
drawn = shots.iloc[1:].sort_values("validation").tail(1).assign(group="examples")
drawn["label"] = drawn["kind"] + ", best of nine draws"
open_line = pd.DataFrame({"label": ["eight trained vectors"], "group": "trained", "accuracy": np.nan})
lines = pd.concat([asked, drawn, open_line])
lines["label"] += lines["tokens"].map(" ({:.0f})".format).replace(" (nan)", "")
plots.accuracy_comparison(
    lines.assign(kind=lines["group"]),
    majority=level["majority"],
    ceiling=level["human rater"],
    measured="accuracy on 400 test tweets",
    title="What words reach (in brackets: tokens beside the tweet), and a line to fill",
)

# %% [markdown]
# The best wording, chosen on validation rows, reaches {{asked["accuracy"].max():.1%}} on the test rows; a human rater
# {{level["human rater"]:.1%}}. This is one model of 135 million weights; larger ones follow words better, and none
# was measured here. Between the two lines there is room. Words are points in a space of vectors, and a prompt need
# not stand on such points: what it then is, chapter 02 builds by hand; [chapter 04](04_training.ipynb) fills the
# line.
#
# ## Summary
#
# - Rank classification lets a model that continues text choose among labels; exact match asks it to write the label
#   by itself.
# - An accuracy stands beside the majority of its rows, its interval and, where there is one, a human rater.
# - A wording moves the border between the answers more than it spoils the reading: one that scores below the majority
#   may rank the texts well. The training share mends much of that here, an empty text does not.
# - The winner of a choice owes a part of its lead to luck. Choose on some rows, report on others.
# - Examples teach the form. On words they help; on tweets the draw decides, and none beats the best wording.

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

# %%
### BEGIN SOLUTION
best_of_ten = 0.67
### END SOLUTION

# %% [markdown]
# Write the number before you compute anything; the second hint computes it.

# %%
from softprompt_lab import course

course.check("01-2", best_of_ten)

# %% [markdown]
# ### Exercise 01-3: Your own wording
#
# Write a wording that you would bet on, measure it on at least 200 validation tweets (about 10 seconds), and write
# one sentence with its accuracy and the number of rows. If the sentence says that it is better than the best of the
# ten, the interval has to bear that out.

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

# %% [markdown]
# The check looks at what you ran and at the numbers in your sentence.

# %%
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
# ### Exercise 01-5: How many rows do you need?
#
# You plan a test and want Wilson's interval to reach at most *h* to either side where it is widest, at *p* = 1/2. For
# *k* of *n* right, *p* = *k*/*n* and *z* = 1.96 its half width is
#
# $$\frac{z}{1 + \frac{z^2}{n}} \sqrt{\frac{p(1-p)}{n} + \frac{z^2}{4n^2}}$$
#
# Return the fewest rows that do (`math.ceil` rounds up).

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
# Three lines on paper are enough.

# %%
from softprompt_lab import course

course.check("01-5", rows_needed)

# %% [markdown]
# ## Sources
#
# - Tony Z. Zhao, Eric Wallace, Shi Feng, Dan Klein, Sameer Singh: *Calibrate Before Use: Improving Few-Shot
#   Performance of Language Models*, 2021, arXiv 2102.09690. How examples make a model lean, and content-free inputs.
#   They rescale probabilities; here logarithms are subtracted.
# - Ari Holtzman, Peter West, Vered Shwartz, Yejin Choi, Luke Zettlemoyer: *Surface Form Competition: Why the Highest
#   Probability Answer Isn't Always Right*, 2021, arXiv 2104.08315. Scores relative to what a label scores without the
#   input.
# - Tom B. Brown and others: *Language Models are Few-Shot Learners*, 2020, arXiv 2005.14165. Examples in front, and
#   ranking answers by their probability.
# - Edwin B. Wilson: *Probable Inference, the Law of Succession, and Statistical Inference*, Journal of the American
#   Statistical Association 22, 1927. The interval.
# - C. J. Hutto, Eric Gilbert: *VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text*,
#   ICWSM 2014. The tweets and their ratings.
