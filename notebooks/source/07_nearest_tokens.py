# %% [markdown]
# # 07 Nearest tokens
#
# **What did it learn?**
#
# Eight vectors make a frozen model rate tweets about as well as a person does. Each of them lies in the space of the
# word embeddings, so it has a nearest word, and almost everyone reads those words first. You do so too, beside vectors
# that cannot have learned anything.
#
# You will be able to
#
# - find the nearest words of a vector, and say what centring does to them;
# - make controls: a random step of the same length, random vectors, a random walk, another training;
# - say what a prompt's nearest words support, and what they do not.

# %% tags=["setup"]
import dataclasses

import pandas as pd
import torch
from torch.nn import functional

from softprompt_lab import PromptTuningConfig, SoftPromptModel, course, evaluate, nearest_tokens, plots, reading, train
from softprompt_lab.runs import zoo
from softprompt_lab.widgets import NeighbourExplorer

run = zoo.load("tweets-seed0")  # a trained prompt with its base model, its task and its way
model, task = run.model, run.task
words = model.word_embeddings.detach()  # (V, D)
start, trained = run.start, model.prompt.detach()  # (P, D) each

# %% [markdown]
# The prompt comes from the zoo: {{len(trained)}} virtual tokens, trained as in chapter 04. Of
# {{run.record["trained"]["n"]}} test tweets it rates {{run.record["trained"]["accuracy"]:.1%}} correctly (95 %
# interval {{run.record["trained"]["confidence_interval"][0]:.1%}} to
# {{run.record["trained"]["confidence_interval"][1]:.1%}}), its untrained start
# {{run.record["untrained"]["accuracy"]:.1%}}, the majority label {{run.record["majority_baseline"]:.1%}} and one human
# rater {{run.record["human_ceiling"]:.1%}}. What the chapter trains and measures for itself:

# %% tags=["parameters", "setup"]
STEPS = 200  # of the one training in this chapter, whose task is harder
ROWS = 200  # test tweets behind each accuracy that is measured here

# %% tags=["fast"]
STEPS, ROWS = 2, 8

# %% [markdown]
# ## How far did it go?
# First look at how far the vectors went. A vector's length is its norm:

# %%
random_start = zoo.load("tweets-random", model.base_model, model.tokenizer).start
lengths = {
    "start": reading.norms(start),
    "way from start to end": reading.norms(trained - start),
    "trained": reading.norms(trained),
    "N(0, 1), PEFT's RANDOM": reading.norms(random_start),
}
title = "Every virtual token went farther than the word was long from which it started"
plots.norms_histogram(reading.norms(words), lengths, title=title)

# %% [markdown]
# The way is {{lengths["way from start to end"].mean():.1f}} long on average, and the word at its start
# {{lengths["start"].mean():.1f}}. In the end it is longer than
# {{(reading.norms(words)[:, None] < lengths["trained"]).float().mean():.1%}} of all words. Which words are
# the vectors near, after such a way?

# %% tags=["check"]
assert (lengths["way from start to end"] > lengths["start"]).all()

# %% [markdown]
# ## The nearest word
# *Near* usually means the cosine, the dot product of two vectors brought to length 1. All cosines with the
# {{len(words):,}} words are one product:

# %%
cosines = functional.normalize(trained, dim=-1) @ functional.normalize(words, dim=-1).T  # (P, V)
scores, ids = cosines.max(dim=-1)
scores.numpy().round(2)

# %% [markdown]
# The prompt started as the {{len(start)}} tokens of "{{task.instruction}}"
# How many of them are still nearest to the word from which they started? Write down a number from 0 to {{len(start)}},
# then vote.

# %%
course.vote("07-a")


def nearest_word(vectors):
    """(P, D) -> (P,): the id of each vector's nearest word."""
    return reading.nearest(vectors, words, k=1)[1][:, 0]


kept = int((nearest_word(start) == nearest_word(trained)).sum())
frames = {"start": nearest_tokens(start, words, model.tokenizer, k=3)}
frames["trained"] = nearest_tokens(trained, words, model.tokenizer, k=3)
plots.neighbour_figure(frames, title=f"{kept} of {len(start)} virtual tokens keep the word from which they started")

# %% [markdown]
# {{kept}} of {{len(start)}}. (A dot · is a space; a darker cell is a larger cosine.) If you expected "awful" and
# "lovely", you expected what most people expect. But the behaviour changed completely and the words not at all: they
# cannot be what was learned, since they were there before.

# %% tags=["check"]
assert kept == len(start)
assert ids.tolist() == nearest_word(trained).tolist()

# %% [markdown]
# ## Is it only this prompt?
# One prompt is one draw. Count for all prompts of the zoo that were trained freely (about 20 s on two cores):

# %%
lines = []
for name in zoo.names():
    other = zoo.load(name, model.base_model, model.tokenizer)
    if other.free and "wayward" not in name:
        begun, ended = nearest_word(other.start), nearest_word(other.model.prompt)
        measured = other.record["trained"]
        row = (name, measured["accuracy"], measured["n"], other.record["majority_baseline"])
        lines.append((*row, len(begun), int((begun == ended).sum()), model.tokenizer.decode(ended).strip()))
columns = ["prompt", "accuracy", "n", "majority", "tokens", "kept", "nearest words of the trained prompt"]
table = pd.DataFrame(lines, columns=columns).set_index("prompt").round(3)
table

# %% [markdown]
# Without `tweets-random`, {{table.drop("tweets-random").kept.sum()}} of {{table.drop("tweets-random").tokens.sum()}}
# virtual tokens keep their word. Four tasks and three seeds read alike, word for word, because they started alike. And
# there is a row to tell a friend: `tweets-vocab` started from words drawn by chance, rates
# {{table.accuracy["tweets-vocab"]:.1%}} of the tweets correctly, and reads
# "{{table["nearest words of the trained prompt"]["tweets-vocab"]}}".
#
# The exception explains the rule. `tweets-random` started from the last row of the first figure, far from every word
# (cosine {{reading.nearest(random_start, words, k=1)[0].mean():.2f}} with the nearest), so a small turn changes which
# of many distant words comes first.

# %% tags=["check"]
assert (table.drop("tweets-random").kept == table.drop("tweets-random").tokens).all()
assert table.kept["tweets-random"] < 8

# %% [markdown]
# ## A random step of the same length
# Do the words stay because training is gentle? Then a senseless step should lose them. One of the next two tables is
# the trained prompt. In the other, every virtual token took a step as long as its way, in a random direction.

# %%
moved = trained - start
random_step = start + reading.random_control(moved)  # the same lengths, random directions
both = {"A": random_step, "B": trained}
frames = {name: nearest_tokens(vectors, words, model.tokenizer, k=3) for name, vectors in both.items()}
plots.neighbour_figure(frames, title="One of these rates tweets like a person. Which?")

# %% [markdown]
# Decide, then see what both do in front of {{ROWS}} test tweets, beside the start, random words, and random vectors as
# long as the trained ones (about 40 s on two cores).

# %%
course.vote("07-b")
vectors = {
    "B: trained": trained,
    "start": start,
    "A: start + random step": random_step,
    "random words": reading.random_words(trained, words),
    "random vectors": reading.random_control(trained),
}
found = evaluate(model, task, "test", prompts=vectors, limit=ROWS)
level = reading.levels(task, "test", ROWS)
rows = []
for name, each in found.items():
    low, high = each.confidence_interval
    rows.append({"label": name, "accuracy": each.accuracy, "low": low, "high": high})
rows.append({"label": "one human rater", "accuracy": level["ceiling"]})
title = "The same nearest words: A rates tweets worse than its start, B as a human rater does"
plots.accuracy_comparison(rows, level["majority"], f"accuracy on {level['n']} test tweets", title=title)

# %% [markdown]
# A is the random step: {{found["A: start + random step"].accuracy:.1%}}, and the model's own first word is the right
# label in {{found["A: start + random step"].exact_match:.0%}} of the rows, behind B in
# {{found["B: trained"].exact_match:.0%}}. All that training did lies in the *direction* of the step, which nearest
# words hardly see. In {{words.shape[1]}} dimensions a random step is at right angles to nearly every word, so it
# leaves all of them alike, and the old word stays first (exercise 07-2).

# %% tags=["check"]
assert (nearest_word(random_step) == nearest_word(start)).all()
assert found["B: trained"].accuracy > 0.9
assert found["A: start + random step"].accuracy < found["start"].accuracy

# %% [markdown]
# ## Where zero is: centring
# Is a cosine of {{scores.mean():.2f}} large? Ask two words that were taken by chance:

# %%
pairs = words[torch.randint(len(words), (2, 2_000), generator=torch.Generator().manual_seed(0))]  # (2, 2000, D)
mean = words.mean(dim=0)  # (D,)
plain, centred = (functional.cosine_similarity(*(pairs - shift), dim=-1).mean() for shift in (0, mean))
print(f"two words by chance: cosine {plain:.2f}; after subtracting the mean word: {abs(centred):.2f}")

# %% [markdown]
# All words lean to one side, that of the mean word. *Centring* subtracts it from both vectors first, and chance pairs
# then have the 0 that one expects (Mu and Viswanath 2018). Vectors of random directions score
# {{reading.nearest(vectors["random vectors"], words, k=1)[0].mean():.2f}} without centring. And with it?

# %%
course.vote("07-c")
kinds = {"trained": trained, "start + random step": random_step, "random vectors": vectors["random vectors"]}
kinds["random around the mean"] = reading.random_control(trained, around=mean)
parts = []
for kind, each in kinds.items():
    (as_it_is, _), (shifted, names) = (reading.nearest(each, words, k=1, centered=flag) for flag in (False, True))
    parts.append(pd.DataFrame({"kind": kind, "plain": as_it_is[:, 0], "centred": shifted[:, 0]}))
    if kind == "random vectors":
        tokens = [reading.readable_token(number, model.tokenizer) for number in names[:, 0].tolist()]
        print("nearest to random vectors, centred:", tokens)
axes = {"plain": "cosine with the nearest word", "centred": "the same, centred"}
title = "Centred, random vectors score high; random vectors around the mean do not"
plots.marks_figure(pd.concat(parts), axes, title=title)

# %% [markdown]
# It rises by far, but the words found are commas and single letters. A random vector less the mean word is mostly
# *minus the mean*, and such tokens lie on that side: the subtraction made the score. A control has to be treated as
# the prompt is; for a centred reading that is the last row, drawn *around the mean*.

# %% tags=["check"]
scored = pd.concat(parts).groupby("kind")[["plain", "centred"]].mean()
assert scored.centred["random vectors"] > scored.plain["random vectors"] + 0.1
assert scored.centred["random around the mean"] < scored.centred["random vectors"]
assert abs(centred) < 0.05 < plain

# %% [markdown]
# ## Look for yourself
# Move the explorer's slider of steps with the arrow keys: when does a word change first? Then choose the dot product,
# which prefers long words. Virtual token 2 is now nearest to a piece of a rare word. Was that learned? Set the step to
# 0.

# %%
NeighbourExplorer(run, k=3)

# %% [markdown]
# It was there at step 0. And no word changes at any step. The cosines with the nearest and the second nearest word
# show why:

# %%
parts = []
for step, each in run.snapshots.items():
    first, second = reading.nearest(each, words, k=2)[0].T
    parts += [pd.DataFrame({"step": step, "kind": "nearest word", "score": first})]
    parts += [pd.DataFrame({"step": step, "kind": "second nearest word", "score": second})]
title = "The prompt leaves its word and the next word alike, so the order stays"
plots.curves_figure(pd.concat(parts), "step", {"score": "cosine"}, "median", 0.1, title=title)

# %% [markdown]
# ## The way through training
# A random walk starts where the prompt starts, and takes steps as long as the prompt's between two snapshots, in
# random directions. What does the prompt do that the walk does not?

# %%
way = reading.trajectories_of({"prompt": run.snapshots}, words, model.tokenizer)
last = way[way.step == way.step.max()].groupby("kind").distance.median()
plots.movement_figure(way, title="The prompt goes farther than a random walk whose steps are as long")

# %% [markdown]
# Both grow, leave their start and settle: growing comes from steps at right angles, settling from a learning rate that
# falls to 0. One difference remains. The prompt ends {{last["prompt"]:.1f}} from its start, the walk
# {{last["random walk"]:.1f}}, since the prompt's steps point partly the same way. It was going somewhere. A map of the
# two directions in which it moved most:

# %%
projection = reading.project(run.snapshots, words)
similarity = reading.similarity_to_start(run.snapshots)
title = f"A map of two directions out of {words.shape[1]} holds {sum(projection.explained):.0%} of the movement"
plots.trajectory_figure(projection.points, projection.backdrop, similarity, projection.explained, title=title)

# %% [markdown]
# It seems to flee from the words. But the directions were *chosen* for its movement, and words have no reason to
# spread along them. The random walk's own map holds
# {{sum(reading.project(reading.random_walk_control(run.snapshots), words).explained):.0%}}, and it flees as well.

# %% tags=["check"]
assert last["prompt"] > last["random walk"]
by_dot = [reading.nearest(each, words, k=1, metric="dot")[1][:, 0].tolist() for each in (start, trained)]
assert by_dot[0] == by_dot[1] != nearest_word(start).tolist()
assert not (way.groupby(["kind", "virtual_token"]).token.nunique() > 1).any()

# %% [markdown]
# ## The words of the step
# If the place says nothing, read the *step*, the difference of end and start. Its controls are the step of another
# seed and random directions.


# %%
def shared(one, other):
    """The number of words that two tables list for the same virtual token."""
    listed = [set(zip(frame.virtual_token, frame.token_id, strict=True)) for frame in (one, other)]
    return len(listed[0] & listed[1])


second = zoo.load("tweets-seed1", model.base_model, model.tokenizer)
steps = {"seed 0": moved, "seed 1": second.model.prompt.detach() - second.start}
steps["random"] = reading.random_control(moved, seed=1)
frames = {name: nearest_tokens(step, words, model.tokenizer, k=5) for name, step in steps.items()}
plots.neighbour_figure(frames, title="Both seeds step towards 'vs' and a line break, a random direction does not")

# %% [markdown]
# Here a reading differs from its control. Of the {{len(frames["seed 0"])}} words that stand among the five nearest,
# seed 0 shares {{shared(frames["seed 0"], frames["seed 1"])}} with seed 1 at the same virtual token, and
# {{shared(frames["seed 0"], frames["random"])}} with random directions. You could write: *it learned to weigh positive
# versus negative*. Before you do, make the best control: train from the same start on the same tweets with every label
# turned round (about 2 minutes on two cores).

# %%
opposite = dict(zip(task.labels, reversed(task.labels), strict=True))
labels = [opposite[label] for label in task.train["text_label"]]
turned_rows = task.train.remove_columns("text_label").add_column("text_label", labels)
config = PromptTuningConfig(num_virtual_tokens=len(start))
turned = SoftPromptModel(model.base_model, config, tokenizer=model.tokenizer, start=start)
train(turned, dataclasses.replace(task, train=turned_rows), steps=STEPS)
against = evaluate(turned, task, "test", limit=ROWS)  # the test tweets keep their labels
low, high = against.confidence_interval
stayed = int((nearest_word(turned.prompt) == nearest_word(start)).sum())
print(f"agrees with the raters on {against.accuracy:.1%} of {against.n} tweets ({low:.1%} to {high:.1%})")
print(f"virtual tokens that keep their word: {stayed} of {len(start)}")

# %% [markdown]
# It learned to say the opposite, near {{stayed}} of the same {{len(start)}} words. Now compare steps without words, by
# their cosine with seed 0's step. Another seed has about
# {{functional.cosine_similarity(steps["seed 1"], moved).mean():.1f}}. And the prompt with the opposite answers?

# %%
course.vote("07-d")
steps["labels turned round"] = turned.prompt.detach() - start
turned_words = nearest_tokens(steps["labels turned round"], words, model.tokenizer, k=5)
reviews = zoo.load("reviews-seed0", model.base_model, model.tokenizer)
steps["reviews"] = reviews.model.prompt.detach() - reviews.start
order = ["seed 1", "labels turned round", "reviews", "random"]
agreement = {name: functional.cosine_similarity(steps[name], moved).numpy() for name in order}
table = pd.concat([pd.DataFrame({"kind": name, "cosine": each}) for name, each in agreement.items()])
title = "The prompt with the opposite answers went about as near to seed 0's way as another seed"
plots.marks_figure(table, {"cosine": "cosine of the step with seed 0's step"}, title=title)

# %% [markdown]
# About as near as another seed: {{agreement["labels turned round"].mean():.2f}} against
# {{agreement["seed 1"].mean():.2f}}. Its step shares {{shared(frames["seed 0"], turned_words)}} of the words, too. So
# what two seeds share does not say which answer belongs to a tweet. Both labellings need it: perhaps to tell two kinds
# of tweets apart, perhaps only to write one of two words and then the end.
#
# Two prompts near the same words went half the same way, and one agrees with the raters on
# {{found["B: trained"].accuracy:.0%}} of the tweets, the other on {{against.accuracy:.0%}}. What decides between them
# lies in the rest of the step, and none of the words names it.

# %% tags=["check"]
assert stayed >= 7
assert against.accuracy < 0.25
assert agreement["labels turned round"].mean() > 0.3 > agreement["random"].mean() + 0.2
assert shared(frames["seed 0"], frames["seed 1"]) > 2
assert shared(frames["seed 0"], turned_words) > 0
assert shared(frames["seed 0"], frames["random"]) == 0

# %% [markdown]
# ## What may be said
#
# | what you see in a trained prompt | what shows it too |
# |---|---|
# | nearest words that tell a story | random vectors |
# | the words of the start | a random step of the same length |
# | it grows, leaves its start, settles, flees from the words | a random walk |
# | high centred scores | random vectors, most of all |
# | two seeds share words of the step | **not** random directions, but a prompt with the opposite answers |
# | tweets rated as people rate them | nothing: this was learned |
#
# So the prompt stands where any vector would that came as far from the same start, and what it learned shows in what
# it does. Khashabi et al. (2022) even trained prompts that do a task while their nearest words are those of any text
# one likes.
#
# Then can a prompt be read at all? One answer you have seen: put its nearest words in its place, and you have the
# start, with {{found["start"].accuracy:.0%}}. A later chapter asks better questions.

# %% [markdown]
# ## Summary
# - Every vector has nearest words. They say nothing until vectors that learned nothing have others.
# - A virtual token that started at a word nearly always keeps it, after training as after a random step as long.
# - A control is treated as the prompt is: the same start and lengths; for a centred reading, drawn around the mean
#   word.
# - A picture of a way needs a random walk beside it.
# - The best control was trained to do something else. Where it reads the same, the reading is not about the task.

# %% [markdown]
# ## Exercises
# `course.hint("07-1")` opens the first of several hints.

# %% [markdown]
# ### Exercise 07-1: A fair control
# Write the random step of this chapter: each row goes from its start in a random direction, as far as it is from
# `start` to `end`. Draw with `torch.randn(start.shape, generator=generator)`.


# %%
import torch
from torch.nn import functional


def random_step_control(start: torch.Tensor, end: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(P, D), (P, D) -> (P, D): the start after a random step, row by row as long as the real one."""
    ### BEGIN SOLUTION
    directions = functional.normalize(torch.randn(start.shape, generator=generator), dim=-1)
    return start + directions * (end - start).norm(dim=-1, keepdim=True)
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("07-1", random_step_control)

# %% [markdown]
# ### Exercise 07-2: How far can a vector go before its word changes?
# A word w of length |w| takes a step of length s *at right angles* to it; a random step in many dimensions is nearly
# that. Predict the cosine between the new place and w. Then put in the two mean lengths of the first figure, and
# compare with the mean cosine above table A.


# %%
import math


def cosine_after_step(word_length: float, step_length: float) -> float:
    """The cosine between w and w + s, where s stands at right angles to w."""
    ### BEGIN SOLUTION
    return word_length / math.sqrt(word_length**2 + step_length**2)
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("07-2", cosine_after_step)

# %% [markdown]
# ### Exercise 07-3: The control that found commas
# A colleague reads a prompt, centred, beside this control. "Random vectors score high," she reports, "so the prompt's
# score is nothing much." What is wrong with her control?
#
# ```python
# def control(prompt, words, generator):
#     drawn = functional.normalize(torch.randn(prompt.shape, generator=generator), dim=-1)
#     return drawn * prompt.norm(dim=-1, keepdim=True)  # read with centered=True
# ```
#
# - **A** The directions must not be brought to length 1.
# - **B** It is random around 0, and the reading is made around the mean word.
# - **C** It should draw words, since random directions are never fair.
# - **D** It draws all rows at once, so they are not independent.
#
# Return the letter and the repaired control: random directions *from the right point*, each row as far from it as the
# prompt's.


# %%
import torch
from torch.nn import functional


def diagnosed(prompt: torch.Tensor, words: torch.Tensor, generator: torch.Generator) -> tuple[str, torch.Tensor]:
    """(P, D), (V, D) -> the letter of the fault, and the repaired control (P, D)."""
    ### BEGIN SOLUTION
    mean = words.mean(dim=0)
    drawn = functional.normalize(torch.randn(prompt.shape, generator=generator), dim=-1)
    return "B", mean + drawn * (prompt - mean).norm(dim=-1, keepdim=True)
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("07-3", diagnosed)

# %% [markdown]
# ### Exercise 07-4: Does the start have to speak of the task?
# `trained_from(text)` starts 4 vectors from a text, trains them to make plurals, and returns the share of 80 held-out
# words that are right (an interval is some 6 to 10 points wide on either side) and how many start words are kept.
# Choose at least two texts, one of which speaks of something else than the task (each takes about 20 s on two cores),
# and write one sentence with the accuracy of every text.

# %%
from softprompt_lab import PromptTuningConfig, SoftPromptModel
from softprompt_lab import evaluate, load_base_model, load_task, reading, train


def trained_from(text: str, steps: int = 60) -> tuple[float, int]:
    """Train from a text; return the accuracy on held-out words and the number of start words that are kept."""
    base_model, tokenizer = load_base_model("smollm2")
    config = PromptTuningConfig(num_virtual_tokens=4, prompt_tuning_init_text=text)
    model, task = SoftPromptModel(base_model, config, tokenizer=tokenizer), load_task("words/plural")
    words, start = model.word_embeddings.detach(), model.prompt.detach().clone()
    train(model, task, steps=steps, progress=False)
    before, after = (reading.nearest(each.detach(), words, k=1)[1] for each in (start, model.prompt))
    return evaluate(model, task).accuracy, int((before == after).sum())


### BEGIN SOLUTION
results = {text: trained_from(text) for text in ("Write the plural of", "rain on the sea")}
told = ", ".join(f"from {text!r} {accuracy:.1%} ({kept} of 4 kept)" for text, (accuracy, kept) in results.items())
answer = {"results": results, "sentence": f"Of 80 held-out plurals {told} are right."}
### END SOLUTION
answer

# %% [markdown]
# `answer` is a dict: "results" has what `trained_from` returned, by text; "sentence" is yours.

# %%
from softprompt_lab import course

course.check("07-4", answer)

# %% [markdown]
# ## Sources
# - Lester, Al-Rfou and Constant 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning" (arXiv 2104.08691),
#   section 7.
# - Khashabi et al. 2022, "Prompt Waywardness: The Curious Case of Discretized Interpretation of Continuous Prompts"
#   (arXiv 2112.08348).
# - Mu and Viswanath 2018, "All-but-the-Top: Simple and Effective Postprocessing for Word Representations" (arXiv
#   1702.01417).
# - The tweets and their raters: Hutto and Gilbert 2014, "VADER" (ICWSM).
