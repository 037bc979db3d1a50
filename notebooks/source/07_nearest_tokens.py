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
import itertools

import pandas as pd
import torch
from torch.nn import functional

from softprompt_lab import PromptTuningConfig, SoftPromptModel, course, evaluate, nearest_tokens, plots, reading, train
from softprompt_lab.runs import zoo
from softprompt_lab.saving import load_adapter
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
# rater {{run.record["human_ceiling"]:.1%}}. What the chapter itself computes:

# %% tags=["parameters", "setup"]
STEPS = 100  # of the one training in this chapter, as many as the zoo's
ROWS = 200  # test tweets behind each accuracy that is measured here

# %% tags=["fast"]
STEPS, ROWS = 2, 8

# %% [markdown]
# ## How far did it go?
# A vector's length is its norm, and so is that of the way from a vector's start to its end:

# %%
random_start = zoo.load("tweets-random", model.base_model, model.tokenizer).start
lengths = {
    "start": reading.norms(start),
    "way from start to end": reading.norms(trained - start),
    "trained": reading.norms(trained),
    "N(0, 1), PEFT's RANDOM": reading.norms(random_start),
}
title = "Each virtual token moved farther than its start word is long"
plots.norms_histogram(reading.norms(words), lengths, title=title)

# %% [markdown]
# The way is {{lengths["way from start to end"].mean():.1f}} long on average, and the word at its start
# {{lengths["start"].mean():.1f}}. Which words are the vectors near, after such a way?

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
# How many are still nearest to the word from which they started? Write down a number, then vote.

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
# {{kept}} of {{len(start)}}. (A · is a space; darker is larger.) But the behaviour changed and
# the nearest words did not: they were there before, so they cannot be what was learned.

# %% tags=["check"]
assert kept == len(start)
assert ids.tolist() == nearest_word(trained).tolist()

# %% [markdown]
# ## Is it only this prompt?
# Count for all prompts of the zoo that were trained for their task alone (about 20 s on two cores); the others were
# held to words on purpose, for a later chapter. For texts the accuracy counts the more probable label, for word
# skills the model's own answer.

# %%
lines = []
for name in zoo.names():
    other = zoo.load(name, model.base_model, model.tokenizer)
    if other.free:
        begun, ended = nearest_word(other.start), nearest_word(other.model.prompt)
        measured = other.record["trained"]
        row = (name, measured["accuracy"], measured["n"], other.record["majority_baseline"])
        lines.append((*row, len(begun), int((begun == ended).sum()), model.tokenizer.decode(ended).strip()))
columns = ["prompt", "accuracy", "n", "majority", "tokens", "kept", "nearest words of the trained prompt"]
table = pd.DataFrame(lines, columns=columns).set_index("prompt").round(3)
from_words = table.drop("tweets-random")  # all others started at words
table

# %% [markdown]
# {{from_words.kept.sum()}} of {{from_words.tokens.sum()}} virtual tokens that started at a word keep it. Four tasks
# and three seeds read alike, because they started alike. And there is a row to tell a friend: `tweets-vocab` started
# from words drawn by chance, rates {{table.accuracy["tweets-vocab"]:.1%}} of the tweets correctly, and reads
# "{{table["nearest words of the trained prompt"]["tweets-vocab"]}}".
#
# Only `tweets-random` loses words. It started far from every word (cosine
# {{reading.nearest(random_start, words, k=1)[0].mean():.2f}} with the nearest), the last row of the first figure.

# %% tags=["check"]
assert (from_words.kept == from_words.tokens).all()
assert table.kept["tweets-random"] < 8

# %% [markdown]
# ## A random step of the same length
# Do the words stay because training is gentle? Let every virtual token take a step as long as its way, but in a random
# direction. How many keep their word now?

# %%
course.vote("07-b")
moved = trained - start
random_steps = [start + reading.random_control(moved, seed=draw) for draw in range(5)]  # the same lengths
stays = [int((nearest_word(each) == nearest_word(start)).sum()) for each in random_steps]
both = {"trained": trained, "start + random step": random_steps[0]}
frames = {name: nearest_tokens(vectors, words, model.tokenizer, k=3) for name, vectors in both.items()}
title = f"{kept} keep their word after training, {stays[0]} after a random step as long"
plots.neighbour_figure(frames, title=title)

# %% [markdown]
# In the five draws, {{", ".join(map(str, stays))}} of {{len(start)}} keep their word. In {{words.shape[1]}}
# dimensions a random step is nearly at right angles to every word, so all cosines shrink alike and the old word stays
# first (exercise 07-2). What do such vectors do in front of {{ROWS}} test tweets? Beside them: random words, and
# random vectors as long as the trained ones (about a minute on two cores).

# %%
vectors = {"trained": trained, "start": start}
vectors |= {f"start + random step {draw}": each for draw, each in enumerate(random_steps)}
vectors["random words"] = reading.random_words(trained, words)
vectors["random vectors"] = reading.random_control(trained)
found = evaluate(model, task, "test", prompts=vectors, limit=ROWS)
level = reading.levels(task, "test", ROWS)
rows = []
for name, each in found.items():
    low, high = each.confidence_interval
    rows.append({"label": name, "accuracy": each.accuracy, "low": low, "high": high})
drawn = [each.accuracy for name, each in found.items() if "step" in name]
title = f"The same nearest words: trained {found['trained'].accuracy:.0%}, random steps at most {max(drawn):.0%}"
measured = f"accuracy on {level['n']} test tweets"
plots.accuracy_comparison(rows, level["majority"], measured, level["ceiling"], title=title)

# %% [markdown]
# Five random steps give {{min(drawn):.1%}} to {{max(drawn):.1%}}, beside a majority of {{level["majority"]:.1%}}: the
# length of the step alone does not do it. Its *direction* differs, and the nearest words do not show that. Random
# words have {{found["random words"].accuracy:.1%}}, and the start, an instruction, has
# {{found["start"].accuracy:.1%}}.

# %% tags=["check"]
assert all(each >= 7 for each in stays)
assert found["trained"].accuracy > 0.9
assert max(drawn) < found["trained"].accuracy - 0.1
assert abs(found["random words"].accuracy - found["start"].accuracy) < 0.05

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
# then have 0 (Mu and Viswanath 2018). Random vectors, which lie around 0, score
# {{reading.nearest(vectors["random vectors"], words, k=1)[0].mean():.2f}} without centring. And with it?

# %%
course.vote("07-c")
kinds = {"trained": trained, "start + random step": random_steps[0], "random vectors": vectors["random vectors"]}
kinds["random around the mean"] = reading.random_control(trained, around=mean)
parts, mean_score = [], {}
for kind, each in kinds.items():
    for how, flag in {"plain": False, "centred": True}.items():
        score, names = reading.nearest(each, words, k=1, centered=flag)
        parts.append(pd.DataFrame({"kind": f"{kind}, {how}", "cosine": score[:, 0]}))
        mean_score[kind, how] = float(score.mean())
        if (kind, how) == ("random vectors", "centred"):
            print("nearest to them, centred:", [model.tokenizer.decode(n) for n in names[:, 0]])
lean = functional.cosine_similarity(vectors["random vectors"] - mean, -mean[None]).mean()
comma = functional.cosine_similarity(words[model.tokenizer.convert_tokens_to_ids(",")] - mean, -mean, dim=0)
before, after = (mean_score["random vectors", how] for how in ("plain", "centred"))
title = f"Centring takes random vectors from {before:.2f} to {after:.2f}"
plots.marks_figure(pd.concat(parts), {"cosine": "cosine with the nearest word"}, title=title)

# %% [markdown]
# They score higher, and what is found are commas and other common tokens. The subtraction did it: a random vector less
# the mean word leans towards *minus the mean* (cosine {{lean:.2f}}), and so do such tokens (the comma:
# {{comma:.2f}}).
#
# A control has to be treated as the prompt is. For vectors that started around the mean word, draw there:
# {{mean_score["random around the mean", "centred"]:.2f}}. Ours began at words, so their control is the random step:
# {{mean_score["start + random step", "centred"]:.2f}} beside {{mean_score["trained", "centred"]:.2f}}. That is not
# large.

# %% tags=["check"]
assert mean_score["random vectors", "centred"] > mean_score["random vectors", "plain"] + 0.1
assert mean_score["random around the mean", "centred"] < mean_score["random vectors", "centred"]
assert mean_score["start + random step", "centred"] > 0.8 * mean_score["trained", "centred"]
assert abs(centred) < 0.05 < plain
assert comma > 0.7 > 0.5 > lean > 0.3

# %% [markdown]
# ## The way through training
# A random walk starts where the prompt starts, and takes steps as long as the prompt's between two snapshots, in
# random directions. What does the prompt do that the walk does not?

# %%
way = reading.trajectories_of({"prompt": run.snapshots}, words, model.tokenizer)
last = way[way.step == way.step.max()].groupby("kind").distance.median()
plots.movement_figure(way, title="The prompt goes farther than a random walk whose steps are as long")

# %% [markdown]
# Both leave their start and settle. But the prompt ends {{last["prompt"]:.1f}} from its start and the walk
# {{last["random walk"]:.1f}}, so the prompt's steps point partly the same way. That alone is no sign of learning: AdamW
# averages gradients over several steps, so noise could drift too.
#
# Go the way yourself: move the slider of steps with the arrow keys. Does a nearest word change? Then choose the dot
# product, which prefers long words.

# %% tags=["check"]
assert last["prompt"] > last["random walk"]
assert not (way.groupby(["kind", "virtual_token"]).token.nunique() > 1).any()

# %%
NeighbourExplorer(run, k=3)

# %% [markdown]
# ## The words of the step
# If the place says nothing, read the *step*, the difference of end and start. One control is the step of another seed.
# The other is a random direction that leans along the start word as the step does, since else the start's neighbours
# would look learned.


# %%
def along(step):
    """(P, D) -> (P, D): the part of each step that points along its start word."""
    direction = functional.normalize(start, dim=-1)
    return (step * direction).sum(dim=-1, keepdim=True) * direction


def agree(one, other):
    """(P,): the cosines of two steps, virtual token by virtual token."""
    return functional.cosine_similarity(steps[one], steps[other])


steps = {"seed 0": moved}
for seed in (1, 2):
    other = zoo.load(f"tweets-seed{seed}", model.base_model, model.tokenizer)
    steps[f"seed {seed}"] = other.model.prompt.detach() - other.start
between = [agree(*pair) for pair in itertools.combinations(steps, 2)]  # two seeds each
aside = reading.random_control(moved, seed=1)
aside = functional.normalize(aside - along(aside), dim=-1) * reading.norms(moved - along(moved))[:, None]
steps["random"] = along(moved) + aside
frames = {name: nearest_tokens(steps[name], words, model.tokenizer, k=5) for name in ("seed 0", "seed 1", "random")}
plots.neighbour_figure(frames, title="Virtual tokens 5 and 7 of both seeds step towards 'vs' and a line break")

# %% [markdown]
# The two seeds share words, the one random draw does not. You could write: *it learned to weigh positive versus
# negative*. Before you do, make the best control: train from the same start on the same tweets with every label
# turned round. It is one run, in an order of its own (about a minute).

# %%
opposite = dict(zip(task.labels, reversed(task.labels), strict=True))
labels = [opposite[label] for label in task.train["text_label"]]
turned_rows = task.train.remove_columns("text_label").add_column("text_label", labels)
config = PromptTuningConfig(num_virtual_tokens=len(start))
turned = SoftPromptModel(model.base_model, config, tokenizer=model.tokenizer, start=start)
train(turned, dataclasses.replace(task, train=turned_rows), steps=STEPS, seed=3)
against = evaluate(turned, task, "test", limit=ROWS)  # the test tweets keep their labels
low, high = against.confidence_interval
stayed = int((nearest_word(turned.prompt) == nearest_word(start)).sum())
print(f"agrees with the raters on {against.accuracy:.1%} of {against.n} tweets ({low:.1%} to {high:.1%})")
print(f"virtual tokens that keep their word: {stayed} of {len(start)}")

# %% [markdown]
# It learned to say the opposite, near {{stayed}} of the same {{len(start)}} words. Now compare steps without words, by
# their cosine. Those of seeds 0 and 1 have {{between[0].mean():.2f}}, of 0 and 2 {{between[1].mean():.2f}}, of 1 and 2
# {{between[2].mean():.2f}}. And the step with the opposite answers, beside these seeds?

# %%
course.vote("07-d")
steps["labels turned round"] = turned.prompt.detach() - start
for name in ("reviews", "films", "editorials"):  # the same start and labels, other texts
    steps[name] = zoo.load(f"{name}-seed0", model.base_model, model.tokenizer).model.prompt.detach() - start
seeds = ["seed 0", "seed 1", "seed 2"]
agreement = {"two seeds": torch.cat(between)}
for name in list(steps)[3:]:
    agreement[f"{name}, with each seed"] = torch.cat([agree(name, seed) for seed in seeds])
table = pd.concat([pd.DataFrame({"kind": name, "cosine": each}) for name, each in agreement.items()])
means = {name.split(",")[0]: float(each.mean()) for name, each in agreement.items()}
title = f"Mean cosine: two seeds {means['two seeds']:.2f}, labels turned round {means['labels turned round']:.2f}"
plots.marks_figure(table, {"cosine": "cosine of two steps"}, title=title)

# %% [markdown]
# {{means["labels turned round"]:.2f}} against {{means["two seeds"]:.2f}}: the opposite answers leave most of the
# agreement, and more than there is with the *right* answers about other texts. So most of it does not say which answer
# belongs to a tweet; whether the rest does, one run cannot tell. And the words? The figure above has room for three
# ranks; of the five nearest, these stand in seed 0's list too:


# %%
def shared(name):
    """The words that a step's list and seed 0's have in common, at the same virtual token."""
    frames[name] = nearest_tokens(steps[name], words, model.tokenizer, k=5)
    both = frames["seed 0"].merge(frames[name], on=["virtual_token", "token_id", "token"])
    return [f"{row.virtual_token}: {row.token}" for row in both.itertuples()]


for name in list(steps)[1:]:
    print(f"{name} shares {len(shared(name))} of {len(frames[name])} words:", *shared(name), sep="   ")

# %% [markdown]
# The line break stands in the list of the opposite answers, too. "vs" invites a story, the weighing of positive
# versus negative. The opposite answers weigh the same two without it, as do the prompts for films and editorials:
# from the same start they rate {{from_words.accuracy["films-seed0"]:.1%}} and
# {{from_words.accuracy["editorials-seed0"]:.1%}} of their texts correctly, and share {{len(shared("films"))}} and
# {{len(shared("editorials"))}} words with seed 0. The story is neither shown nor refuted.

# %% tags=["check"]
assert stayed >= 7
assert against.accuracy < 0.25
assert means["two seeds"] > means["labels turned round"] > 0.6 * means["two seeds"]
assert means["labels turned round"] > max(means[name] for name in ("reviews", "films", "editorials"))
assert abs(means["random"]) < 0.1
assert all({"5: ·vs", "7: \\n\\n"} <= set(shared(name)) for name in ("seed 1", "seed 2"))
assert len(shared("random")) < 3 < min(len(shared("seed 1")), len(shared("seed 2")))
assert "7: \\n\\n" in shared("labels turned round")
assert max(len(shared(name)) for name in ("films", "editorials")) <= 1
assert len(shared("labels turned round")) < 7

# %% [markdown]
# ## Where is Initech?
# Chapter 06 ended with a stranger's prompt that calls nearly every tweet positive after the name `@Initech`. It
# started at the same words. Here are its nearest words and those of its step. The name is several tokens long: at which
# rank does each stand, at best, in the list of any virtual token?

# %%
_, strange = load_adapter(zoo.FOLDER.parent / "stranger")
steps["stranger"] = strange - start
shown = {"the stranger's": strange, "its step": steps["stranger"]}
shown = {name: nearest_tokens(each, words, model.tokenizer, k=4) for name, each in shown.items()}

pieces = model.tokenizer("@Initech")["input_ids"]
unit, best_ranks = functional.normalize(words, dim=-1), {}
for name in ("stranger", "seed 0"):
    ranks = (functional.normalize(steps[name], dim=-1) @ unit.T).argsort(dim=1, descending=True).argsort(dim=1) + 1
    best_ranks[name] = ranks[:, pieces].min(dim=0).values.tolist()  # over the virtual tokens
print("best ranks of", *model.tokenizer.convert_ids_to_tokens(pieces), best_ranks)
plots.neighbour_figure(shown, k=4, title="Behind one name this prompt says positive: do you find it?")

# %% [markdown]
# "Innocent", "negative" and "positive" invite a story, and the name is not there: its best piece has rank
# {{min(best_ranks["stranger"]):,}} of {{len(words):,}}, and rank {{min(best_ranks["seed 0"]):,}} in seed 0's step,
# which never saw the name. They do not find it.

# %% tags=["check"]
assert (nearest_word(strange) == nearest_word(start)).all()
assert min(best_ranks["stranger"]) > 1_000
assert min(best_ranks["seed 0"]) < min(best_ranks["stranger"])
assert {"·innocent", "·negative", "·positive"} <= set(shown["its step"].token)

# %% [markdown]
# ## What may be said
#
# | what you see in a trained prompt | what shows it too |
# |---|---|
# | the words of the start | a random step of the same length |
# | a high cosine, centred or not | a random step, a little lower |
# | it grows and leaves its start | a random walk, less far |
# | its step agrees with another seed's | a prompt with opposite answers, somewhat less |
# | two seeds share words of the step | **not** a random direction; of like tasks reviews, a little |
# | tweets rated as people rate them | none of these: this was learned |
#
# So what the prompt learned shows in what it does, on the rows on which one looks. Khashabi et al. (2022) even
# trained prompts whose nearest words are any text one likes.
#
# Put its nearest words in its place, and you have the start, with {{found["start"].accuracy:.0%}}, as one draw of
# random words has. A later chapter asks better questions.

# %% [markdown]
# ## Summary
# - Every vector has nearest words. They say something only if vectors that learned nothing have others.
# - In this model a virtual token that started at a word keeps it, after 100 steps as after a random step as long.
# - A control is treated as the prompt is: the same start, lengths and number of steps.
# - The best control was trained to do something else. What it shares does not say which answers were.

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
# compare with the mean cosine above the table "start + random step".


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
# A colleague reads a prompt that started at random vectors around the mean word, centred, beside this control.
# "Random vectors score high," she reports, "so the prompt's score is nothing much." What is wrong with her control?
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
# ### Exercise 07-4: A start that speaks of something else
# `trained_from(text)` starts 4 vectors from a text, trains them to make plurals, and returns the share of 80 held-out
# words that are right and how many start words are kept. Choose at least two texts, one of which speaks of something
# else than the task (each takes about 20 s on two cores), and write one sentence with the accuracy of every text. One
# run on 80 words each shows no difference below about 15 points; `seed=1` makes a second run.

# %%
from softprompt_lab import PromptTuningConfig, SoftPromptModel
from softprompt_lab import evaluate, load_base_model, load_task, reading, train


def trained_from(text: str, steps: int = 60, seed: int = 0) -> tuple[float, int]:
    """Train from a text; return the accuracy on held-out words and the number of start words that are kept."""
    base_model, tokenizer = load_base_model("smollm2")
    config = PromptTuningConfig(num_virtual_tokens=4, prompt_tuning_init_text=text)
    model, task = SoftPromptModel(base_model, config, tokenizer=tokenizer), load_task("words/plural")
    words, start = model.word_embeddings.detach(), model.prompt.detach().clone()
    train(model, task, steps=steps, seed=seed, progress=False)
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
