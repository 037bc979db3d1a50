# %% [markdown]
# # 07 Nearest tokens
#
# **What did it learn?**
#
# Eight vectors make a frozen model rate tweets about as well as a person does. They lie in the same space as
# the word embeddings, so each of them has a nearest word, and you can print those words and read them. It is
# the first thing that almost everyone does with a trained prompt. In this chapter you do it too, and then you
# do what makes the difference: you read vectors beside it that cannot have learned anything.
#
# You will be able to
#
# - find the nearest words of a vector, and say what cosine and centring do to the list;
# - make controls: the start, a random step of the same length, random vectors, another run;
# - follow a prompt through training beside a random walk;
# - say which sentence about a prompt its nearest words support, and which they do not.

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
# You load a prompt that is trained already: {{len(trained)}} virtual tokens, {{run.record["settings"]["steps"]}} steps
# on {{len(task.train)}} tweets, as in chapter 04. On the {{run.record["trained"]["n"]}} test tweets it is right on
# {{run.record["trained"]["accuracy"]:.1%}} of them (95 % interval
# {{run.record["trained"]["confidence_interval"][0]:.1%}} to {{run.record["trained"]["confidence_interval"][1]:.1%}}).
# The untrained start reached {{run.record["untrained"]["accuracy"]:.1%}}, the majority label is
# {{run.record["majority_baseline"]:.1%}}, and one human rater agrees with the others on
# {{run.record["human_ceiling"]:.1%}}. So something was learned. These are the numbers that the chapter may use when it
# trains and measures for itself:

# %% tags=["parameters", "setup"]
STEPS = 100  # of the one training in this chapter
ROWS = 200  # test tweets behind each accuracy that is measured here

# %% tags=["fast"]
STEPS, ROWS = 2, 8

# %% [markdown]
# ## How far did it go?
# Before you ask where the vectors are, look at how far they went. A vector's length is its norm:

# %%
lengths = {
    "start": reading.norms(start),
    "way from start to end": reading.norms(trained - start),
    "trained": reading.norms(trained),
    "N(0, 1), PEFT's RANDOM": reading.norms(zoo.load("tweets-random", model.base_model, model.tokenizer).start),
}
title = "Every virtual token went farther than the word was long from which it started"
plots.norms_histogram(reading.norms(words), lengths, title=title)

# %% [markdown]
# The start is made of words, so it is as long as words are. From there each virtual token went
# {{lengths["way from start to end"].mean():.1f}} on average, more than its own length of
# {{lengths["start"].mean():.1f}}, and it ended longer than
# {{(reading.norms(words)[:, None] < lengths["trained"]).float().mean():.1%}} of all words. (The random start in the last
# row is another story: as long as no word is. It comes back below.) After such a way, which words are the vectors near?

# %% tags=["check"]
assert (lengths["way from start to end"] > lengths["start"]).all()

# %% [markdown]
# ## The nearest word
# *Near* usually means the cosine: make both vectors length 1 and take their dot product, so that the result lies
# between -1 and 1 and lengths play no part. The prompt's cosine with all {{len(words):,}} words is one product:

# %%
cosines = functional.normalize(trained, dim=-1) @ functional.normalize(words, dim=-1).T  # (P, V)
scores, ids = cosines.max(dim=-1)
scores.numpy().round(2)

# %% [markdown]
# These are the scores of the nearest words, but not yet the words. The prompt started as the {{len(start)}} tokens of an
# instruction, "{{task.instruction}}". Training took the accuracy from {{run.record["untrained"]["accuracy"]:.0%}} to
# {{run.record["trained"]["accuracy"]:.0%}}. How many of the {{len(start)}} still have the word as their nearest from
# which they started? Write down a number from 0 to {{len(start)}}, then vote.

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
# {{kept}} of {{len(start)}}. (A dot · stands for a space; the darker a cell, the larger the cosine.) Read the first
# column on the right and you read the instruction, before training as after it. If you expected "awful" and "lovely",
# you expected what most people expect. The behaviour changed completely, and the list of words did not change at all.
# So the list cannot say what was learned: it was there before.

# %% tags=["check"]
assert kept == len(start)
assert ids.tolist() == nearest_word(trained).tolist()

# %% [markdown]
# ## Is it only this prompt?
# One prompt is one draw. The zoo has more of them: other seeds, other kinds of texts, word skills, other starts. Count
# for all that were trained freely (about 20 s on two cores):

# %%
lines = []
for name in zoo.names():
    other = zoo.load(name, model.base_model, model.tokenizer)
    if other.free and "wayward" not in name:
        begun, ended = nearest_word(other.start), nearest_word(other.model.prompt)
        told = "".join(model.tokenizer.convert_ids_to_tokens(ended.tolist())).replace("Ġ", " ")
        measured = other.record["trained"]
        row = (name, measured["accuracy"], measured["n"], other.record["majority_baseline"])
        lines.append((*row, len(begun), int((begun == ended).sum()), told.strip()))
columns = ["prompt", "accuracy", "n", "majority", "tokens", "kept", "nearest words of the trained prompt"]
table = pd.DataFrame(lines, columns=columns).set_index("prompt").round(3)
table

# %% [markdown]
# Without `tweets-random`, {{table.drop("tweets-random").kept.sum()}} of {{table.drop("tweets-random").tokens.sum()}}
# virtual tokens keep their word. Four tasks (`tweets`, `reviews`, `films`, `editorials`) and three seeds read alike, word
# for word, because they started alike. And there is one row to tell a friend: `tweets-vocab` started from words drawn by
# chance, rates {{table.accuracy["tweets-vocab"]:.1%}} of the tweets correctly, and what you read near it is
# "{{table["nearest words of the trained prompt"]["tweets-vocab"]}}".
#
# The exception explains the rule. `tweets-random` started from vectors that were near to no word, its cosine with the
# nearest one was {{reading.nearest(zoo.load("tweets-random", model.base_model, model.tokenizer).start, words, k=1)[0].mean():.2f}},
# so a small turn changes which of many equally distant words comes first.

# %% tags=["check"]
assert (table.drop("tweets-random").kept == table.drop("tweets-random").tokens).all()
assert table.kept["tweets-random"] < 8

# %% [markdown]
# ## A random step of the same length
# Perhaps the words stay because training is gentle? Then a step without any sense should lose them. Let every virtual
# token of the start take a step that is exactly as long as its way through training, in a random direction. Two tables
# follow. One of them is the trained prompt, with its accuracy of {{run.record["trained"]["accuracy"]:.0%}}; the other is
# the random step.

# %%
moved = trained - start
random_step = start + reading.random_control(moved)  # the same lengths, random directions
both = {"A": random_step, "B": trained}
frames = {name: nearest_tokens(vectors, words, model.tokenizer, k=3) for name, vectors in both.items()}
plots.neighbour_figure(frames, title="One of these rates tweets like a person. Which?")

# %% [markdown]
# Both have all eight start words. Decide, and then see what each of them does in front of {{ROWS}} test tweets, beside
# three more vectors that learned nothing: the start, random words of the vocabulary, and random vectors as long as the
# trained ones (about 40 s on two cores).

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
intervals = {name: each.confidence_interval for name, each in found.items()}
rows = [{"label": name, "accuracy": found[name].accuracy, "low": low, "high": high} for name, (low, high) in intervals.items()]
rows.append({"label": "one human rater", "accuracy": level["ceiling"]})
measured = f"accuracy on {level['n']} test tweets"
title = "The same nearest words, another behaviour: A is below the start, B is at a human rater's level"
plots.accuracy_comparison(rows, level["majority"], measured, title=title)

# %% [markdown]
# A is the random step: {{found["A: start + random step"].accuracy:.1%}}, where the start had
# {{found["start"].accuracy:.1%}} and always saying "positive" has {{level["majority"]:.1%}} (n = {{level["n"]}}). The
# model's own first word is the right label in {{found["A: start + random step"].exact_match:.0%}} of the rows behind A,
# and in {{found["B: trained"].exact_match:.0%}} behind B. Everything that training did lies in the *direction* of the
# step, and the table of nearest words hardly sees a direction. It is no sign of gentle training that words stay, but a
# property of a space with {{words.shape[1]}} dimensions: a random step is at right angles to nearly every word, so it
# moves away from all of them alike and the old word stays first. Exercise 07-2 computes by how much.
#
# You may have chosen B since its scores are a little higher ({{frames["B"].query("rank == 1").score.mean():.2f}} against
# {{frames["A"].query("rank == 1").score.mean():.2f}}). That difference is real: the way through training leans a little
# along the start (cosine {{functional.cosine_similarity(moved, start).mean():.2f}}). But you only see it with A beside
# B, and it does not say what either does.

# %% tags=["check"]
assert (nearest_word(random_step) == nearest_word(start)).all()
assert found["B: trained"].accuracy > 0.9
assert found["A: start + random step"].accuracy < found["start"].accuracy

# %% [markdown]
# ## Where zero is: centring
# How good is a cosine of {{scores.mean():.2f}}? That depends on what two words have in common that were taken by chance:

# %%
pairs = words[torch.randint(len(words), (2, 2_000), generator=torch.Generator().manual_seed(0))]  # (2, 2000, D)
mean = words.mean(dim=0)  # (D,)
plain, centred = (functional.cosine_similarity(*(pairs - shift), dim=-1).mean() for shift in (0, mean))
print(f"two words by chance: cosine {plain:.2f}; after subtracting the mean word: {abs(centred):.2f}")

# %% [markdown]
# All words lean to one side, and the mean word is that side: a cosine of {{plain:.2f}} between two words means nothing.
# *Centring* subtracts the mean word from both sides first, and chance pairs then have the cosine 0 that one expects
# (Mu and Viswanath 2018). So read again, centred. Vectors of random directions score
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
        print("nearest to random vectors, centred:", [reading.readable_token(i, model.tokenizer) for i in names[:, 0].tolist()])
axes = {"plain": "cosine with the nearest word", "centred": "the same, centred"}
plots.marks_figure(pd.concat(parts), axes, title="Centred, random vectors score high; random vectors around the mean do not")

# %% [markdown]
# It rises by far. Did random vectors become more like words? No: a vector without any share of the mean word, from
# which the mean is subtracted, is mostly *minus the mean*, and the words found are commas, single letters and other
# tokens that lie on that side. The subtraction made the score. A reading needs a control that is treated as the prompt
# is, and for a centred reading that is the last row, vectors drawn *around the mean*: far to the left, as they should
# be. Change the measure, and the control changes with it.

# %% tags=["check"]
scored = pd.concat(parts).groupby("kind")[["plain", "centred"]].mean()
assert scored.centred["random vectors"] > scored.plain["random vectors"] + 0.1
assert scored.centred["random around the mean"] < scored.centred["random vectors"]
assert abs(centred) < 0.05 < plain

# %% [markdown]
# ## Look for yourself
# The explorer shows prompt, start and random vectors at any step of training, by cosine, L2 distance or dot product,
# with and without centring. Move the slider of steps with the arrow keys and look for the first step at which a word
# changes. Then choose the dot product, which prefers *long* words: one virtual token is now nearest to
# `{{reading.readable_token(reading.nearest(trained, words, k=1, metric="dot")[1][2, 0].item(), model.tokenizer)}}`, a
# piece of a rare word. Is that something it learned? Set the step to 0.

# %%
NeighbourExplorer(run, k=3)

# %% [markdown]
# It was there at step 0 as well. And no word changes at any step. Here is why, in a picture that needs no kernel: the
# cosine of each virtual token with its nearest word and with the second nearest, by step.

# %%
parts = []
for step, each in run.snapshots.items():
    first, second = reading.nearest(each, words, k=2)[0].T
    parts += [pd.DataFrame({"step": step, "kind": "nearest word", "score": first})]
    parts += [pd.DataFrame({"step": step, "kind": "second nearest word", "score": second})]
title = "The start's word loses, and the next word loses as much: the order stays"
plots.curves_figure(pd.concat(parts), "step", {"score": "cosine"}, "median", 0.1, title=title)

# %% [markdown]
# The prompt moves away from its word, but it moves away from the word's neighbours too, and the gap hardly closes.

# %% [markdown]
# ## The way through training
# The random walk starts where the prompt starts, and each of its steps is as long as the prompt's between two
# snapshots, in a random direction. What does the prompt do that the walk does not?

# %%
way = reading.trajectories_of({"prompt": run.snapshots}, words, model.tokenizer)
plots.movement_figure(way, title="The prompt goes farther than a random walk whose steps are as long")

# %% [markdown]
# At first sight the curves of the prompt tell a story: it grows, it leaves its start, it settles. The walk tells the
# same story. Growing comes from steps at right angles, settling from the learning rate, which falls to 0. One
# difference remains, in the middle: the prompt ends {{way[way.step == 100].groupby("kind").distance.median()["prompt"]:.1f}}
# from its start and the walk {{way[way.step == 100].groupby("kind").distance.median()["random walk"]:.1f}}, since the
# prompt's steps point partly the same way and the walk's do not. It was going somewhere.
#
# A map would show where. This one is drawn along the two directions in which the prompt moved most:

# %%
projection = reading.project(run.snapshots, words)
similarity = reading.similarity_to_start(run.snapshots)
title = f"A map of two directions out of {words.shape[1]} holds {sum(projection.explained):.0%} of the movement"
plots.trajectory_figure(projection.points, projection.backdrop, similarity, projection.explained, title=title)

# %% [markdown]
# It looks as if the prompt fled from the words. But these two directions were *chosen* as those of its movement, and
# words have no reason to spread along them. Of the random walk such a map holds
# {{sum(reading.project(reading.random_walk_control(run.snapshots), words).explained):.0%}}, and it flees as well. A map
# shows the order of events, no destination.

# %% tags=["check"]
ends = way[way.step == 100].groupby("kind").distance.median()
assert ends["prompt"] > ends["random walk"]
assert not (way.groupby(["kind", "virtual_token"]).token.nunique() > 1).any()

# %% [markdown]
# ## The words of the step
# If the place says nothing, read the *step*, the difference between end and start. Its controls are the step of another
# seed from the same start, and random directions.

# %%
second = zoo.load("tweets-seed1", model.base_model, model.tokenizer)
steps = {"seed 0": moved, "seed 1": second.model.prompt.detach() - second.start, "random": reading.random_control(moved, seed=1)}
frames = {name: nearest_tokens(step, words, model.tokenizer, k=5) for name, step in steps.items()}
plots.neighbour_figure(frames, title="Both seeds step towards 'vs' and a line break, a random direction does not")

# %% [markdown]
# For the first time a reading differs from its control. The scores are a little above those of random directions. More
# telling is that the two seeds share words: count those that stand among the five nearest of the same virtual token in
# both.


# %%
def shared(one, other):
    """The number of words that two tables list for the same virtual token."""
    listed = [set(zip(frame.virtual_token, frame.token_id, strict=True)) for frame in (one, other)]
    return len(listed[0] & listed[1])


print("of 40 words, seed 0 shares", shared(frames["seed 0"], frames["seed 1"]), "with seed 1")
print("of 40 words, seed 0 shares", shared(frames["seed 0"], frames["random"]), "with random directions")

# %% [markdown]
# Two trainings that shuffled their tweets differently found the same direction, in part. It is tempting to write: *the
# prompt learned to weigh positive versus negative*. Before you do, make one more control, the best of this chapter. Train a
# prompt from the same start on the same tweets with every label turned round, "positive" where people said negative and
# "negative" where they said positive (about 50 s on two cores).

# %%
opposite = dict(zip(task.labels, reversed(task.labels), strict=True))
labels = [opposite[label] for label in task.train["text_label"]]
turned_rows = task.train.remove_columns("text_label").add_column("text_label", labels)
turned_task = dataclasses.replace(task, train=turned_rows)
config = PromptTuningConfig(num_virtual_tokens=len(start))
turned = SoftPromptModel(model.base_model, config, tokenizer=model.tokenizer, start=start)
history = train(turned, turned_task, steps=STEPS)
print(f"loss {history.losses[0]:.2f} -> {sum(history.losses[-10:]) / len(history.losses[-10:]):.2f}")

# %% [markdown]
# It learns that too. Now compare the steps themselves, without words: the cosine of each virtual token's step with that
# of seed 0. Another seed of the same task has a cosine of about
# {{functional.cosine_similarity(steps["seed 1"], moved).mean():.1f}}. And the prompt that says the opposite of every tweet?

# %%
course.vote("07-d")
steps["labels turned round"] = turned.prompt.detach() - start
reviews = zoo.load("reviews-seed0", model.base_model, model.tokenizer)
steps["reviews"] = reviews.model.prompt.detach() - reviews.start
order = ["seed 1", "labels turned round", "reviews", "random"]
agreement = {name: functional.cosine_similarity(steps[name], moved).numpy() for name in order}
table = pd.concat([pd.DataFrame({"kind": name, "cosine": each}) for name, each in agreement.items()])
title = "The prompt with the opposite answers went the same way as another seed"
plots.marks_figure(table, {"cosine": "cosine of the step with seed 0's step"}, title=title)

# %% [markdown]
# About as near as another seed of the same task: {{agreement["labels turned round"].mean():.2f}} against
# {{agreement["seed 1"].mean():.2f}}. What the two seeds share is therefore not how tweets are rated. It is something that
# both labellings need, perhaps that one of two words is to be written and then the end: "versus", a line break. And does the
# turned prompt really rate the other way? Put it before the same {{ROWS}} tweets (10 s).

# %%
against = evaluate(turned, task, "test", limit=ROWS)
stayed = int((nearest_word(turned.prompt) == nearest_word(start)).sum())
print(f"nearest words kept: {stayed} of {len(start)}")
low, high = against.confidence_interval
print(f"agrees with the raters on {against.accuracy:.1%} of {against.n} tweets ({low:.1%} to {high:.1%})")

# %% [markdown]
# So here is the end of the story. Two prompts with the same {{len(start)}} nearest words, *Is the sentiment here positive
# or negative?*, went in similar directions, and one agrees with the raters on {{found["B: trained"].accuracy:.0%}} of the
# tweets where the other agrees on {{against.accuracy:.0%}}. What decides between them lies in the part of the step that
# no word names.

# %% tags=["check"]
assert stayed == len(start)
assert against.accuracy < 0.25
assert agreement["labels turned round"].mean() > 0.3 > agreement["random"].mean() + 0.2
assert shared(frames["seed 0"], frames["seed 1"]) > shared(frames["seed 0"], frames["random"])

# %% [markdown]
# ## What may be said
#
# | what you see in a trained prompt | what shows it too |
# |---|---|
# | every virtual token has nearest words, and they tell a story | random vectors |
# | the words of the start are still there | a random step of the same length |
# | the vectors grow, leave the start and settle | a random walk |
# | they seem to flee from the words on a map | a random walk |
# | centring raises the scores | random vectors, most of all |
# | the step's words agree between seeds | **not** random directions, but a prompt with the opposite answers |
# | the tweets are rated as people rate them | nothing: this is what was learned |
#
# The honest sentence about this prompt is: it stands where any vector would stand that came as far from the same start,
# and what it learned shows in what it does. That is also the older result of Khashabi et al. (2022), who trained prompts
# that do a task well while their nearest words are those of any text one likes.
#
# Then can a prompt be read at all? Not by asking what is near it. Better questions are what happens when a virtual
# token is taken away, when the vectors are replaced by their nearest words, and what the layers make of them. You have
# seen the first answer to the second one already: the nearest words of this prompt *are* its start, and the start
# reaches {{found["start"].accuracy:.0%}}.

# %% [markdown]
# ## Summary
# - Every vector has nearest words. A list of them says nothing until a vector that learned nothing has another list.
# - In {{words.shape[1]}} dimensions words stay: in all prompts with a start made of words, each virtual token kept its
#   own, and so did random steps of the same length.
# - A control is treated exactly as the prompt: the same lengths, the same start, and for a centred reading, drawn around
#   the mean word.
# - A picture of a way through training needs a random walk beside it and the share of the movement that it holds.
# - The best control is a prompt that was trained to do something else. Where it gives the same reading, the reading is not
#   about the task.

# %% [markdown]
# ## Exercises
# A check says what is wrong, and `course.hint("07-1")` opens the first of several hints.

# %% [markdown]
# ### Exercise 07-1: A fair control
# Write the random step of this chapter: each virtual token goes from its start in a random direction, as far as it is
# from `start` to `end`. Draw the directions with `torch.randn(start.shape, generator=generator)`.


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
# The check compares lengths and directions of the steps.

# %%
from softprompt_lab import course

course.check("07-1", random_step_control)

# %% [markdown]
# ### Exercise 07-2: How far can a vector go before its word changes?
# A virtual token is a word w of length |w| and takes a step of length s *at right angles* to w; a random step in many
# dimensions is nearly that. Predict the cosine between the new place and w, as a formula of |w| and s. Then put in the
# two mean lengths of the first figure and compare with the mean cosine in the title of table A: a formula predicts what
# you saw.


# %%
import math


def cosine_after_step(word_length: float, step_length: float) -> float:
    """The cosine between w and w + s, where s stands at right angles to w."""
    ### BEGIN SOLUTION
    return word_length / math.sqrt(word_length**2 + step_length**2)
    ### END SOLUTION


# %% [markdown]
# The check puts several lengths into your formula.

# %%
from softprompt_lab import course

course.check("07-2", cosine_after_step)

# %% [markdown]
# ### Exercise 07-3: The control that found commas
# A colleague reads a prompt, centred, and draws this control for it. "Random vectors have a centred cosine of nearly
# 0.4 with words," she reports, "so a cosine of 0.5 is nothing much." What is wrong with her control?
#
# ```python
# def control(prompt, words, generator):
#     drawn = functional.normalize(torch.randn(prompt.shape, generator=generator), dim=-1)
#     return drawn * prompt.norm(dim=-1, keepdim=True)  # read with centered=True
# ```
#
# - **A** The directions must not be brought to length 1 first.
# - **B** It is random around 0, and a centred reading is made around the mean word.
# - **C** It should draw words of the vocabulary, since random directions are never fair.
# - **D** It uses the generator once for all rows, so the rows are not independent.
#
# Return the letter and the control, repaired: vectors that lie in a random direction *from the right point*, as far from
# it as each row of the prompt.


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
# The check looks at the letter and at the distances.

# %%
from softprompt_lab import course

course.check("07-3", diagnosed)

# %% [markdown]
# ### Exercise 07-4: How many shared words are chance?
# Two tables list the 5 nearest words of each of 8 virtual tokens. Predict: if all lists were drawn by chance from 49,152
# words, how many words would the two tables share for the same virtual token, on average, over all 8? Beside your number
# you can judge the count that the chapter printed. Write an expression or a number.

# %%
### BEGIN SOLUTION
shared_by_chance = 8 * 5 * 5 / 49_152
### END SOLUTION
shared_by_chance

# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("07-4", shared_by_chance)

# %% [markdown]
# ### Exercise 07-5: Does the start have to speak of the task?
# `trained_from(text)` starts 4 vectors from a text of yours, trains them to make plurals (`mouse -> mice`), and returns
# the share of 80 held-out words that are right, and how many of the 4 start words are still nearest. Choose two texts or
# more: one that says the task and at least one that speaks of something else. Each takes about 20 s on two cores. Then
# write one sentence with the accuracy of every text. (With 80 words an interval is about 10 points wide on either side.)

# %%
from softprompt_lab import PromptTuningConfig, SoftPromptModel, evaluate, load_base_model, load_task, reading, train


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
told = ", ".join(f"from {text!r} {accuracy:.1%} ({kept} of 4 words kept)" for text, (accuracy, kept) in results.items())
answer = {"results": results, "sentence": f"Of 80 held-out plurals {told} are right."}
### END SOLUTION
answer

# %% [markdown]
# `answer` is a dict: "results" holds what `trained_from` returned by text, "sentence" is yours.

# %%
from softprompt_lab import course

course.check("07-5", answer)

# %% [markdown]
# ## Sources
# - Lester, Al-Rfou and Constant 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning" (arXiv 2104.08691),
#   section 7: nearest words of trained prompts by cosine.
# - Khashabi et al. 2022, "Prompt Waywardness: The Curious Case of Discretized Interpretation of Continuous Prompts"
#   (arXiv 2112.08348): prompts whose nearest words are those of any text.
# - Mu and Viswanath 2018, "All-but-the-Top: Simple and Effective Postprocessing for Word Representations" (arXiv
#   1702.01417): the common mean of word vectors, and centring.
# - Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text" (ICWSM):
#   the tweets and their raters.
