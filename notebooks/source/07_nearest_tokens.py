# %% [markdown]
# # 07 Nearest tokens
#
# **What did the prompt learn?**
#
# A virtual token lives in the same space as the word embeddings, so you can ask which words are nearest to
# it. The answer is always a list of words, and a list of words always seems to say something. This chapter
# builds the list and, beside each list, the same list for vectors that cannot have learned anything.
#
# You will be able to
# - find the k nearest words of a vector by cosine, by L2 distance and by dot product, and say why they
#   differ;
# - tell what centring takes away, and why it needs a control of its own;
# - follow a prompt through training, in a picture whose limits you can name;
# - separate what a table of nearest words shows for any vector from what it shows about this prompt.
#
# Time: 30 minutes of reading, about 2.5 minutes of running on two cores. Base model: `smollm2`.

# %% [markdown]
# ## Setup
# The model, its training, the figures and the explorer:

# %% tags=["setup"]
import math

import pandas as pd
import torch
from torch.nn import functional

from softprompt_lab import (
    PromptTuningConfig,
    SoftPromptModel,
    course,
    evaluate,
    load_base_model,
    load_task,
    nearest_tokens,
    plots,
    train,
)
from softprompt_lab.widgets import NeighbourExplorer

lab = course.settings()

# %% [markdown]
# And the functions that read a prompt. They take plain tensors and give tables; nothing in them knows how the
# vectors came about.

# %%
from softprompt_lab.reading import (
    METRICS,
    nearest,
    neighbour_table,
    norms,
    project,
    random_control,
    readable_token,
    similarity_to_start,
)

# %% [markdown]
# Train one prompt of 20 virtual tokens from the tutorial's text, and keep a copy of it every five steps. All
# of the chapter reads this one run. With the two evaluations, on 100 messages each, it takes about a minute
# and a half on two cores; expect the loss to fall from above 8 to below 0.5.

# %%
base_model, tokenizer = load_base_model(lab.base)
task = load_task(lab.task)
config = PromptTuningConfig(
    num_virtual_tokens=20,
    prompt_tuning_init="TEXT",
    prompt_tuning_init_text="Classify if the tweet is a complaint or not:",
)
model = SoftPromptModel(base_model, config, tokenizer=tokenizer)
before = evaluate(model, task, "validation", limit=100)
history = train(model, task, steps=lab.steps(50), snapshot_every=5, seed=0)
after = evaluate(model, task, "validation", limit=100)
print(f"loss {history.losses[0]:.2f} -> {history.losses[-1]:.2f}")
print(f"before: {before}")
print(f"after:  {after}")

# %% [markdown]
# Say first what was learned, and what was not. The loss fell, and *exact match* rose from nothing: the model
# now answers in the right form. Compare the accuracy with the majority baseline and its interval before you
# say more. On `smollm2`, 50 steps teach this prompt how an answer looks; whether they also teach it what a
# complaint is, these 100 messages hardly tell. Chapter 04 goes on from there.
#
# Whatever was learned sits in 20 vectors. Name the things to read: the words, the start, and the trained
# prompt.

# %%
words = model.word_embeddings  # (V, D)
start = history.snapshots[0]  # (P, D)
trained = model.prompt.detach()  # (P, D)
print("words", tuple(words.shape), "start", tuple(start.shape), "trained", tuple(trained.shape))
assert after.loss < before.loss
if not lab.fast:  # "tiny" can do this task from the words of the start alone
    assert after.exact_match > before.exact_match

# %% [markdown]
# ## The nearest word, by hand
# Cosine is the usual way to say *near*: the dot product of two vectors that were made length 1, so from -1 to
# 1. Three lines do it. Which word do you expect nearest to virtual token 0 before training, and which after?

# %%
unit_words = functional.normalize(words, dim=-1)  # (V, D)
cosines = functional.normalize(trained, dim=-1) @ unit_words.T  # (P, V)
by_hand = cosines.topk(3, dim=-1)
print([readable_token(i, tokenizer) for i in by_hand.indices[0].tolist()], by_hand.values[0].numpy().round(2))

# %% [markdown]
# The package does the same without holding all P x V numbers at once. Its table has one line for each virtual
# token and rank; `neighbour_table` folds it for reading. A dot in the middle of the line stands for a space.

# %%
table = nearest_tokens(trained, words, tokenizer, k=3)
assert table["token_id"].tolist() == by_hand.indices.flatten().tolist()
neighbour_table(table)

# %% [markdown]
# Read the first column from top to bottom. Then ask the question of the whole chapter: *did training put
# these words there?*

# %% [markdown]
# ## The first control: the start
# The prompt began as the words of a text. How many virtual tokens still have their own start word as the
# nearest word? Write down a number from 0 to 20.

# %%
start_words = nearest(start, words)[1][:, 0]
end_words = nearest(trained, words)[1][:, 0]
stayed = int((start_words == end_words).sum())
print(f"{stayed} of {len(trained)} virtual tokens are nearest to the word they started from")
print(f"accuracy in the meantime: {before.accuracy:.2f} -> {after.accuracy:.2f}")
print(f"loss in the meantime:     {before.loss:.2f} -> {after.loss:.2f}")
if not lab.fast:
    assert stayed >= 0.9 * len(trained)
    assert after.loss < before.loss / 10

# %% [markdown]
# The words of the trained prompt are those that it was given at the start, all of them or nearly. The loss
# fell by a factor of more than ten in the meantime. So these words cannot be *what was learned*: they were
# there before. If you guessed that training would replace them by words about complaints, you guessed what
# most people guess.

# %% [markdown]
# ## The second control: a random step
# Perhaps the prompt hardly moved? Measure how far each virtual token went, and then let copies of the start
# take a step of *the same length in a random direction*. Guess: will they keep their start words as well?

# %%
moved = trained - start  # (P, D)
random_step = start + random_control(moved, seed=0)  # same lengths, random directions
stayed_random = int((nearest(random_step, words)[1][:, 0] == start_words).sum())
print(
    f"length of the step: {norms(moved).mean():.2f}; length of a virtual token at the start: {norms(start).mean():.2f}"
)
print(f"after training:      {stayed} of {len(start)} keep their start word")
print(f"after a random step: {stayed_random} of {len(start)} keep their start word")

# %% [markdown]
# The step is not short: it is about as long as the vectors themselves. And a random step of that length keeps
# the start words just as training does. In hundreds of dimensions a random direction points away from every
# word alike, so the old word stays the nearest (exercise 07-4 derives by how much). *It kept its words* is a
# fact about the space. It is no sign that training was gentle.
#
# The two prompts have the same words, then. Do they do the same? Put the random step into the model.

# %%
stand_in = SoftPromptModel(base_model, config, tokenizer=tokenizer, start=random_step)
by_chance = evaluate(stand_in, task, "validation", limit=100)
assert after.loss < by_chance.loss
if not lab.fast:
    assert stayed_random >= 0.9 * len(start)
    assert after.loss < by_chance.loss / 2
results = {"start": before, "start + random step": by_chance, "trained": after}
scores = {name: [result.loss, result.exact_match] for name, result in results.items()}
pd.DataFrame(scores, index=["loss", "exact match"]).round(2)

# %% [markdown]
# The same reading, another behaviour. Everything that training did is in the *direction* of the step, and the
# table of nearest words does not show it.

# %% [markdown]
# ## The third control: random directions
# And a vector that has nothing to do with any word? `random_control` makes vectors of the prompt's lengths
# and random directions. They have nearest words too, like everything. Here are all four side by side: the
# start, the trained prompt, the random step, the random directions.

# %%
random_vectors = random_control(trained, seed=0)
vectors = {
    "start": start,
    "trained": trained,
    "start + random step": random_step,
    "random direction": random_vectors,
}
frames = {title: nearest_tokens(prompt, words, tokenizer, k=2) for title, prompt in vectors.items()}
plots.neighbour_figure(frames, k=2)

# %% [markdown]
# The last panel is the one to remember. It is full of words, some of them fit for a story, and it was drawn
# with a random number generator. The words alone cannot tell it from a trained prompt; the *scores* can. The
# same scores as dots:

# %%
best = {title: frame.loc[frame["rank"] == 1, "score"] for title, frame in frames.items()}
best["another word"] = nearest(start, words, k=2)[0][:, 1]  # each start word's nearest other word
plots.neighbour_scores(best)

# %% [markdown]
# Two scales to read a cosine by. The low one is the nearest of all words to a random direction. The other is
# the nearest *other* word to a start word, which is how near two related words are. On `smollm2` the trained
# prompt stands far above the low scale and, on average, below the other: it went farther from its word than a
# word is from its neighbour. The start with a random step stands in the same place. It is the start that put
# both there.
#
# How high the low one is can be computed without any model, from V and D alone. A random direction's cosine
# with one fixed word is about normal with variance 1/D, and the greatest of V such numbers is near the square
# root of 2 ln(V) / D.

# %%
V, D = words.shape
expected = math.sqrt(2 * math.log(V) / D)
measured = best["random direction"].mean()
print(f"formula for V = {V:,} words in all directions: {expected:.2f}; measured on these words: {measured:.2f}")
if not lab.fast:  # in the few dimensions of "tiny" a random direction is near to some word
    assert best["trained"].min() > best["random direction"].max()
    assert best["trained"].mean() < best["another word"].mean()

# %% [markdown]
# The formula is for words that lie in all directions alike, and for many dimensions. The measured value is
# lower where words crowd together: V words that point the same way are as good as fewer words. The next
# section finds that crowd.

# %% [markdown]
# ## Centring
# Take two words by chance. What is their cosine? In a space where words lie in all directions it would be 0.

# %%
generator = torch.Generator().manual_seed(0)
left, right = words[torch.randint(V, (2, 2_000), generator=generator)]  # (2000, D) each
mean = words.mean(dim=0)  # (D,)
pairs = pd.DataFrame(
    {
        "as it is": functional.cosine_similarity(left, right).numpy(),
        "centred": functional.cosine_similarity(left - mean, right - mean).numpy(),
    }
)
share = mean.square().sum() / words.square().sum(dim=-1).mean()
print(f"the mean word makes up {share:.0%} of the squared length of a word")
assert abs(pairs["centred"].mean()) < 0.05
if not lab.fast:
    assert pairs["as it is"].mean() > 0.3
pairs.agg(["mean", "std"]).round(2)

# %% [markdown]
# Two words taken by chance have a large cosine: all words lean to one side, and the mean word is that side.
# So a cosine of 0.4 between a vector and a word of this model may mean nothing at all. *Centring* takes the
# mean word from both sides before the cosine; chance pairs are then near 0, as they should be.

# %% [markdown]
# Now read the four prompts again, centred. Which line of the table will change most?

# %%
centred = {title: nearest(prompt, words, k=1, centered=True) for title, prompt in vectors.items()}
rows = [(title, best[title].mean(), scores.mean().item()) for title, (scores, _) in centred.items()]
pd.DataFrame(rows, columns=["vectors", "cosine of rank 1", "centred"]).round(2)

# %% [markdown]
# Look at the line "random direction": on `smollm2` centring raised its score by far, and the others hardly.
# Did random vectors become more like words? Look at *which* words are nearest to them now.

# %%
ids = centred["random direction"][1][:, 0].tolist()
print(pd.Series([readable_token(i, tokenizer) for i in ids]).value_counts().to_dict())

# %% [markdown]
# Mostly punctuation, single letters and the commonest words. A random direction has almost nothing of the
# mean word in it. Taking the mean away leaves *minus the mean*, and the words found are those that point away
# from the mean. The subtraction made the score, not the vector. A reading needs a control that is treated as
# the prompt is: for a centred reading, vectors that are random *around the mean*.

# %%
around_mean = random_control(trained, seed=0, around=mean)  # random, but where the words are
as_it_is, _ = nearest(around_mean, words, k=1)
fair, _ = nearest(around_mean, words, k=1, centered=True)
print(f"random around the mean: cosine {as_it_is.mean():.2f}, centred {fair.mean():.2f}")
print(f"trained:                cosine {best['trained'].mean():.2f}, centred {centred['trained'][0].mean():.2f}")
if not lab.fast:
    assert centred["trained"][0].min() > fair.max()

# %% [markdown]
# With the fair control the gap is wide when centred, and narrower when not: uncentred, a vector that leans to
# the words' side is near to some word whatever else it does. The lesson is larger than this example: change
# the measure, and the control changes with it. (The explorer below does so when you tick its box for centring.)

# %% [markdown]
# ## L2 and dot product
# Two other measures are in use. The L2 distance asks how far two points are apart, so it also compares
# lengths. The dot product is what the model itself computes with its words at the output; it grows with the
# length of the word. Rank 1 of each:

# %%
ranked = {
    metric: [readable_token(i, tokenizer) for i in nearest(trained, words, metric=metric)[1][:, 0].tolist()]
    for metric in METRICS
}
pd.DataFrame(ranked).rename_axis("virtual token")

# %% [markdown]
# Where the dot product names another word, how long is that word? Guess first: long, short, or average?

# %%
length = norms(words)
rows = []
for metric in METRICS:
    found = nearest(trained, words, k=1, metric=metric)[1][:, 0]
    others = found[found != start_words]
    rows.append((metric, len(found) - len(others), length[others].mean().item()))
print(f"median length of a word: {length.median():.2f}")
pd.DataFrame(rows, columns=["metric", "names the start word", "mean length of the other words"]).round(2)

# %% [markdown]
# Cosine and L2 agree here, and name no other word on `smollm2` (hence no length). The dot product does for
# some virtual tokens, and those words are *long* ones, pieces of rare words: a long vector has large products
# with everything. It does so at the start too, where the virtual token *is* a word and still is not its own
# nearest. Use it to ask what the model would say, not what is near.
#
# One claim can be checked exactly: centring changes nothing for L2, because moving both points by the same
# vector leaves their distance as it is.

# %%
plain, shifted = (nearest(trained, words, k=1, metric="l2", centered=flag)[1] for flag in (False, True))
assert torch.equal(plain, shifted)

# %% [markdown]
# ## Norms
# How long is a virtual token after training, beside all words of the vocabulary? And a start from N(0, 1),
# PEFT's default?

# %%
normal = torch.randn(20, D, generator=generator)
print({name: round(norms(prompt).mean().item(), 2) for name, prompt in vectors.items()})
print(f"N(0, 1): {norms(normal).mean():.2f}, square root of D: {math.sqrt(D):.2f}, longest word: {length.max():.2f}")
assert abs(norms(normal).mean() / math.sqrt(D) - 1) < 0.1
plots.norms_histogram(
    norms(words),
    {
        "start": norms(start),
        "trained": norms(trained),
        "random step": norms(random_step),
        "N(0, 1)": norms(normal),
    },
)

# %% [markdown]
# Training made the virtual tokens longer. Is that a sign of learning? The row of the random step says no: any
# step at right angles makes a vector longer, by Pythagoras. The N(0, 1) start is another matter: its length
# is near the square root of D, far from any word.

# %% [markdown]
# ## The way through training
# Each snapshot is a point in D dimensions. To draw it, take the two directions in which the prompt moved most
# and look at everything along them: the prompt at each step, and 500 words as a backdrop. The percentages at
# the axes say how much of the movement the picture holds.

# %%
projection = project(history.snapshots, words)
similarity = similarity_to_start(history.snapshots)
plots.trajectory_figure(projection.points, projection.backdrop, similarity, projection.explained)

# %% [markdown]
# On the left every line is a virtual token on its way through the words. On the right its cosine with its own
# start: it falls fast at first and then levels off. The levelling is the schedule's doing, since the learning
# rate falls to 0; it does not say that the prompt has arrived. And how much of the way does the left picture
# hold?

# %%
shown = sum(projection.explained)
print(f"the picture holds {shown:.0%} of the movement, {1 - shown:.0%} happens in directions that it does not show")
final = similarity[similarity["step"] == len(history.losses)]
print(f"cosine with the start at the end: {final['cosine'].mean():.2f} on average")
chance = project({0: start, 1: random_step}, words)
print(f"of a random step such a picture holds {sum(chance.explained):.0%}")
control = functional.cosine_similarity(random_step, start).mean()
print(f"and after the random step:        {control:.2f}")

# %% [markdown]
# Little of it, and not much more than of a random step: the virtual tokens go each its own way, and two
# directions cannot hold them. It looks as if the prompt leaves the cloud of words. But these two directions
# were *chosen* as those of the greatest movement, and words have no reason to spread along them; a random
# step drawn like this leaves the cloud as well. What the picture shows truly is the order of events and the
# size of the steps. And the cosine with the start is that of a random step of the same length: the picture
# shows *that* the prompt moves, not why.
#
# The same way as an animation (it plays twice and rests on the last snapshot):

# %%
plots.animate_trajectory(projection.points, projection.backdrop)

# %% [markdown]
# ## Which way did it go?
# If the words of the *place* are those of the start, perhaps the words of the *step* say more: the difference
# between the end and the start, as a direction. Its control is a random direction of the same length.

# %%
step_frame = nearest_tokens(moved, words, tokenizer, k=3)
control_frame = nearest_tokens(random_control(moved, seed=1), words, tokenizer, k=3)
plots.neighbour_figure({"step of training": step_frame, "random direction": control_frame}, k=3)

# %% [markdown]
# Look for a word on the left that seems to fit its place in the prompt or the task. There is nearly always
# one. Then look at the scores, and at the right panel: do they differ from those of random directions?

# %%
first = [frame.loc[frame["rank"] == 1, "score"].mean() for frame in (step_frame, control_frame)]
print(f"mean cosine of rank 1: step of training {first[0]:.2f}, random direction {first[1]:.2f}")
if not lab.fast:
    assert first[0] < first[1] + 0.05

# %% [markdown]
# On `smollm2` the two are nearly equal: seen through its nearest words, the step that took the loss down by a
# factor of more than ten looks like noise. It is not noise, as the loss shows. The words are the wrong glass.

# %% [markdown]
# ## Explore it yourself
# The explorer shows the same table for every snapshot, metric and k, with and without centring. Move the
# slider of steps with the arrow keys. On a page without a kernel, and on paper, you see the last picture and
# its tables instead.

# %%
NeighbourExplorer(model, history)

# %% [markdown]
# The same as a figure of its own, with L2 this time:

# %%
distances = {
    title: nearest_tokens(vectors[title], words, tokenizer, k=3, metric="l2")
    for title in ("trained", "random direction")
}
plots.neighbour_figure(distances, k=3, metric="l2")

# %% [markdown]
# ## What may be said
# Collect what this chapter has seen, with its controls:
#
# | what the reading shows | seen without training too? |
# |---|---|
# | every virtual token has nearest words, and one can tell a story about them | yes, for random directions |
# | the words of the start are still there | yes, after a random step of the same length |
# | the cosine with the start falls, the vectors get longer | yes, after a random step of the same length |
# | the prompt seems to leave the cloud of words in a picture | yes, for a random step |
# | centring raises the scores | yes, for random directions, most of all |
# | long rare words by dot product | yes, for the start |
# | scores far above those of random directions | yes, for the start: it *is* made of words |
# | the loss falls | **no** |
#
# So the honest sentence about this prompt is: it stands near the words from which it started, as any vector
# would that came as far; what it learned is not in its nearest words.
#
# Khashabi et al. (2022) went further: they trained prompts that do a task well *and* have the nearest words
# of any text one likes, for instance of an unrelated or a contrary instruction. Nearest words can be chosen
# almost freely without losing the task, so they are no explanation. Chapter 07 builds such a prompt, and
# looks for better questions: what happens when a virtual token is taken away, and what the model's layers
# make of it.

# %% [markdown]
# ## Summary
# - Nearest words by cosine are three lines of code. Every vector has them, so a list without a control says
#   nothing.
# - Three controls: the start, a random step of the same length from the start, random directions of the same
#   length. This prompt kept its start words, and the random step kept them as well.
# - Words share a large common mean. Centring removes it, and needs a control drawn around the mean. L2 does
#   not care about centring; the dot product prefers long words.
# - A picture in two directions holds a part of the movement only: print how much.
# - What was learned showed in the loss and in the answers, and in none of the readings.

# %% [markdown]
# ## Exercises
# Each exercise has a check that says what is wrong, and a hint: `course.hint("07-1")` opens it.
#
# ### 07-1 Nearest by cosine
# Specification in loops: for each row p of the prompt and each word w, the score is the sum of p[d] * w[d]
# over d, divided by the length of p and by the length of w. Return for each row the ids of the k words with
# the greatest scores, greatest first, as a tensor (P, k). Write it without loops.


# %%
import torch
from torch.nn import functional


def nearest_ids(prompt: torch.Tensor, words: torch.Tensor, k: int) -> torch.Tensor:
    """(P, D), (V, D) -> (P, k): ids of the k nearest words by cosine."""
    ### BEGIN SOLUTION
    cosine = functional.normalize(prompt, dim=-1) @ functional.normalize(words, dim=-1).T  # (P, V)
    return cosine.topk(k, dim=-1).indices
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("07-1", nearest_ids)

# %% [markdown]
# ### 07-2 A fair control
# Write the control of the second section: each row takes a step of random direction whose length is that of
# the step from `start` to `end`. Draw the directions with `torch.randn(start.shape, generator=generator)`.


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

course.check("07-2", random_step_control)

# %% [markdown]
# ### 07-3 Derive it: L2 from cosine
# Let a vector have length a, a word length b, and let their cosine be c. Derive their L2 distance as a
# formula of a, b and c. Then look at your formula: for words that all have the same length, can L2 and cosine
# rank them differently?


# %%
import math


def distance_from_cosine(a: float, b: float, c: float) -> float:
    """The L2 distance of two vectors of lengths a and b whose cosine is c."""
    ### BEGIN SOLUTION
    return math.sqrt(a * a + b * b - 2 * a * b * c)
    ### END SOLUTION


# %% [markdown]
# The check puts pairs of vectors into your formula and measures their distance.

# %%
from softprompt_lab import course

course.check("07-3", distance_from_cosine)

# %% [markdown]
# ### 07-4 How far can a vector go before its word changes?
# A virtual token starts at the word w, with length |w|, and takes a step of length s *at right angles* to w
# (in many dimensions a random step is nearly at right angles to everything). Derive the cosine between the
# new place and w, as a formula of |w| and s. Then put in the lengths that this chapter measured: is it above
# the cosine that the nearest other word has?


# %%
import math


def cosine_after_step(word_length: float, step_length: float) -> float:
    """Cosine between w and w + s, where s stands at right angles to w."""
    ### BEGIN SOLUTION
    return word_length / math.sqrt(word_length**2 + step_length**2)
    ### END SOLUTION


# %% [markdown]
# The check takes random steps in 4,096 dimensions and compares.

# %%
from softprompt_lab import course

course.check("07-4", cosine_after_step)

# %% [markdown]
# ## Sources
# - Lester, Al-Rfou and Constant 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning" (arXiv
#   2104.08691), section 7: nearest words of trained prompts by cosine.
# - Khashabi et al. 2022, "Prompt Waywardness: The Curious Case of Discretized Interpretation of Continuous
#   Prompts" (arXiv 2112.08348): prompts whose nearest words are those of any text.
# - Mu and Viswanath 2018, "All-but-the-Top: Simple and Effective Postprocessing for Word Representations"
#   (arXiv 1702.01417): the common mean of word vectors, and centring.
