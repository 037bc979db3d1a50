# %% [markdown]
# # 03 PromptEmbedding
#
# **How is it built, and where does it start?** Training moves a prompt's numbers, so there must be numbers
# before training. Most people never choose them and take their library's default. This chapter shows what that
# costs.
#
# You will be able to
#
# - write PEFT's `PromptEmbedding` yourself and show that it is PEFT's, number by number;
# - start a prompt in five ways, and say what each of them knows before training;
# - explain why the length of a start can matter more than its meaning;
# - judge for which model and which task that has been shown.
#
# Letters: **B** rows of a batch, **P** virtual tokens, **T** text tokens, **D** width, **V** vocabulary.

# %% tags=["setup"]
import pandas as pd
import peft
import torch

from softprompt_lab import PromptTuningConfig, SoftPromptModel, embedding
from softprompt_lab import evaluate, load_base_model, load_task, plots, train
from softprompt_lab.evaluation import wilson_interval
from softprompt_lab.runs import zoo

# %% [markdown]
# The base model and the task of the experiments: past tenses, a word in and a word out. A prompt of four vectors
# takes seconds to train on it, so you can train many.

# %% tags=["setup"]
base, tokenizer = load_base_model("smollm2", device="cpu")
task = load_task("words/past")
words = base.get_input_embeddings()  # (V, D)
V, D = words.weight.shape
P = 4
task

# %% [markdown]
# There are {{len(task.train)}} verbs to learn from and {{len(task.test)}} others to be tested on. The next cell says
# how long the runs below are. 60 steps is less than the 100 that `train` does by itself: where a start is bad,
# a short run shows it best.

# %% tags=["setup", "parameters"]
STEPS = 60
ROWS = None  # test words that are measured; None is all of them

# %% tags=["fast"]
STEPS = 2
ROWS = 8

# %% [markdown]
# PEFT's default start is called RANDOM: each of the P x D numbers is drawn from N(0, 1), the normal distribution
# of mean 0 and standard deviation 1. Here are four such vectors below the lengths of all words that the model
# knows.

# %%
word_norms = words.weight.norm(dim=1)  # (V,)
random_rows = embedding.random_start(P, D, torch.Generator().manual_seed(0))  # (P, D)
plots.norms_histogram(
    word_norms, {"RANDOM": random_rows.norm(dim=1)}, title="PEFT's default start is longer than any word of the model"
)

# %% tags=["check"]
assert random_rows.norm(dim=1).min() > 2 * word_norms.max()

# %% [markdown]
# D numbers of mean square 1 make a vector of length about the root of D, {{D**0.5:.0f}}. The median word
# is {{word_norms.median().item():.1f}} long. So the default's scale comes from `torch.nn.Embedding`, whose numbers
# are N(0, 1), and not from the model. Does that matter? First you build the class that holds such a start, then you
# train from it.
#
# ## The class
#
# Chapter 02 kept the prompt in a bare tensor. PEFT keeps it in an `nn.Embedding`, a table that is read by row
# numbers. Is a lookup of rows 0, ..., P-1 for each of B rows the same as chapter 02's `expand`?

# %%
table = torch.nn.Embedding(P, D)
indices = torch.arange(P).expand(3, -1)  # (B, P): 0 1 2 3 in each row
looked_up = table(indices)  # (B, P, D)
print(tuple(indices.shape), "->", tuple(looked_up.shape))
print("the same as expand:", torch.equal(looked_up, table.weight.expand(3, -1, -1)))

# %% [markdown]
# It is. So the class is a table, a choice of its first values, and a `forward` that looks rows up. PEFT knows
# three:
#
# - `RANDOM` leaves the table as it is;
# - `SAMPLE_VOCAB` draws token ids from the whole vocabulary and takes their word embeddings;
# - `TEXT` takes the word embeddings of a text. Too long a text is cut; too short a one is said again, until all
#   rows are filled.
#
# The last rule decides which word stands on which virtual token:

# %%
ids = tokenizer(task.instruction)["input_ids"]


def trim_or_repeat(ids, rows):
    """Token ids cut or repeated until they fill the rows."""
    return (ids * rows)[:rows]


fitted = {f"P = {rows}": pd.Series(map(tokenizer.decode, trim_or_repeat(ids, rows))) for rows in (4, 8, 12)}
pd.DataFrame(fitted).fillna("").rename_axis("virtual token").T

# %% [markdown]
# Row r holds token r modulo the text's length. With four rows the verb is lost, and with twelve the text breaks
# off in the middle: where you can, choose a text as long as the prompt.
#
# Two details make a start safe. `detach().clone()` makes a copy, so that training the prompt leaves the vocabulary
# alone (exercise 03-4 is about what happens otherwise). And the copy is float32 even if the model runs in bfloat16,
# which has about three decimal digits:

# %%
for dtype in (torch.float32, torch.bfloat16):
    number, step = torch.tensor([0.1, 1e-4], dtype=dtype)
    print(f"{dtype!s:15} {number:.6f} + {step:.6f} = {number + step:.6f}")

# %% [markdown]
# In bfloat16 the small step is lost altogether. The P x D numbers of a prompt cost next to nothing, so
# they are kept exact.

# %% [markdown] tags=["exercise"]
# ### Exercise 03-1: Write the class
#
# `config` has the fields `num_virtual_tokens`, `num_transformer_submodules` (1 for a decoder; an encoder-decoder may
# have 2 prompts), `token_dim`, `prompt_tuning_init`, `prompt_tuning_init_text` and `tokenizer_name_or_path`. Rows are
# the product of the first two.
#
# 1. Make the table, `self.embedding`.
# 2. For "SAMPLE_VOCAB" draw ids with `torch.randint`; for "TEXT" load the tokenizer (`AutoTokenizer.from_pretrained`)
#    and trim or repeat the text's ids.
# 3. Put a detached float32 copy of their word embeddings into `self.embedding.weight`, as a parameter.
# 4. `forward` maps indices (B, P) to vectors (B, P, D).


# %% tags=["exercise"]
import torch
from transformers import AutoTokenizer


class PromptEmbedding(torch.nn.Module):
    """P trainable vectors, looked up by index: (B, P) -> (B, P, D)."""

    def __init__(self, config, word_embeddings):
        super().__init__()
        ### BEGIN SOLUTION
        rows = config.num_virtual_tokens * config.num_transformer_submodules
        self.embedding = torch.nn.Embedding(rows, config.token_dim)  # RANDOM: N(0, 1)
        if config.prompt_tuning_init == "SAMPLE_VOCAB":
            ids = torch.randint(0, word_embeddings.num_embeddings, (rows,)).tolist()
        elif config.prompt_tuning_init == "TEXT":
            tokenizer = AutoTokenizer.from_pretrained(config.tokenizer_name_or_path)
            ids = tokenizer(config.prompt_tuning_init_text)["input_ids"]
            ids = (ids * rows)[:rows]
        if config.prompt_tuning_init != "RANDOM":
            start = word_embeddings(torch.LongTensor(ids)).detach().clone().to(torch.float32)
            self.embedding.weight = torch.nn.Parameter(start)
        ### END SOLUTION

    def forward(self, indices):
        ### BEGIN SOLUTION
        return self.embedding(indices)
        ### END SOLUTION


# %% [markdown] tags=["exercise"]
# Check it. Until it is right, the chapter goes on with the package's class.

# %% tags=["exercise"]
import softprompt_lab
from softprompt_lab import course

if not course.check("03-1", PromptEmbedding):
    PromptEmbedding = softprompt_lab.PromptEmbedding

# %% [markdown]
# ### Number by number
#
# Is it PEFT's? Give both classes the same random state and configuration, and compare all numbers.


# %%
def start_by(prompt_class, init):
    """The start (P, D) that a class makes from random state 7."""
    config = PromptTuningConfig(P, token_dim=D, prompt_tuning_init=init, **texts.get(init, {}))
    torch.manual_seed(7)
    return prompt_class(config, words).embedding.weight


texts = {"TEXT": {"prompt_tuning_init_text": task.instruction, "tokenizer_name_or_path": tokenizer.name_or_path}}
for init in ("RANDOM", "TEXT", "SAMPLE_VOCAB"):
    course.compare(f"{init}, yours and PEFT's", start_by(PromptEmbedding, init), start_by(peft.PromptEmbedding, init))

# %% [markdown]
# RANDOM and TEXT are exactly equal. SAMPLE_VOCAB is so only if the class draws what PEFT
# draws, in the same order: first a whole random table that it throws away, then the ids. The package's class draws
# the ids at once, and from the same seed it gets other words. A seed names a place in a stream of random numbers
# and not a result.
#
# The package differs in two more points. Its default is TEXT where a text is given and SAMPLE_VOCAB otherwise,
# never RANDOM. And special tokens that some tokenizers add, such as `[CLS]`, are left out of a text start, where
# PEFT repeats them in the middle of the prompt.
#
# ## Same directions, another length
#
# Now to the question. `SoftPromptModel(..., start=...)` takes any (P, D) tensor, and this function trains from it
# with the package's loop; the next chapter opens that loop.


# %%
def trained_from(start):
    """Train a prompt from a start: the prompt (P, D) at the end, and the run's history."""
    model = SoftPromptModel(base, PromptTuningConfig(P), tokenizer=tokenizer, start=start)
    history = train(model, task, steps=STEPS, seed=0, progress=False)
    return model.prompt.detach().clone(), history


# %% [markdown]
# Two starts that mean nothing: RANDOM, and the same vectors times the root mean square of all numbers in the
# vocabulary, so that they are as long as words. They point in the same directions. Half a minute to a minute on
# two cores.

# %%
course.vote("03-a")
scale = words.weight.square().mean().sqrt()
starts = {"RANDOM": random_rows, "random, words' scale": scale * random_rows}
prompts, histories = {}, {}
for name, start in starts.items():
    prompts[name], histories[name] = trained_from(start)

model = SoftPromptModel(base, PromptTuningConfig(P), tokenizer=tokenizer)
found = evaluate(model, task, prompts=prompts, limit=ROWS)
pd.DataFrame({name: {"right": f"{result.accuracy:.1%}", "words": result.n} for name, result in found.items()}).T

# %% tags=["check"]
assert found["random, words' scale"].accuracy > found["RANDOM"].accuracy + 0.2

# %% [markdown]
# Multiplying by {{scale.item():.2f}} takes the accuracy from {{found["RANDOM"].accuracy:.1%}} to
# {{found["random, words' scale"].accuracy:.1%}}. No direction was changed, no meaning added. (The answers are free
# words, so the majority baseline is 0.)
#
# ## Starts made of something
#
# Three more starts. SAMPLE_VOCAB: four words drawn at random. TEXT: the first four words of
# "{{task.instruction}}" And a *trained* prompt: that of the skill "comparative" (old, older), from the zoo of saved
# prompts, which was never shown a past tense.

# %%
comparative = zoo.load("words-comparative", base, tokenizer).model.prompt.detach().clone()
starts |= {
    "SAMPLE_VOCAB": embedding.sample_vocab_start(words, P, torch.Generator().manual_seed(0)),
    "TEXT": embedding.text_start(task.instruction, tokenizer, words, P),
    "another skill's prompt": comparative,
}
norms = {name: start.norm(dim=1) for name, start in starts.items()}
plots.norms_histogram(word_norms, norms, title="Before training: RANDOM lies apart, the others are near the words")

# %% [markdown]
# In length all but RANDOM are alike. Training from these three takes about a minute on two cores, and measuring all
# five a few seconds more.

# %%
course.vote("03-b")
for name in ("SAMPLE_VOCAB", "TEXT", "another skill's prompt"):
    prompts[name], histories[name] = trained_from(starts[name])


def curve(name):
    """The loss by step, a mean of 5, and how far the prompt has turned."""
    loss = pd.Series(histories[name].losses, range(1, STEPS + 1))
    cosine = {
        step: torch.cosine_similarity(prompt, starts[name]).mean().item()
        for step, prompt in histories[name].snapshots.items()
    }
    table = pd.DataFrame({"loss": loss.rolling(5, min_periods=1).mean(), "cosine": pd.Series(cosine)})
    return table.rename_axis("step").reset_index().assign(kind=name)


first = {name: sum(history.losses[:10]) / 10 for name, history in histories.items()}  # of ten steps
axes = {"loss": "loss (nats a token)", "cosine": "cosine with the start"}
title = "RANDOM is the slowest to learn, and its vectors hardly turn"
plots.curves_figure(pd.concat(map(curve, histories)), "step", axes, title=title)

# %% tags=["check"]
assert min(first, key=first.get) == "another skill's prompt"
assert min(first["TEXT"], first["SAMPLE_VOCAB"]) > 2 * first["another skill's prompt"]
assert histories["TEXT"].losses[0] < histories["SAMPLE_VOCAB"].losses[0]
turned = {name: curve(name)["cosine"].dropna().iloc[-1] for name in histories}
assert turned["RANDOM"] > 0.9 > turned["random, words' scale"] + 0.2

# %% [markdown]
# In the first ten steps the mean loss is {{first["SAMPLE_VOCAB"]:.1f}} from random words,
# {{first["TEXT"]:.1f}} from the instruction and {{first["another skill's prompt"]:.1f}} from the comparative prompt,
# which already makes the model answer with one word and stop, so that only the skill has to change. The right panel
# shows how far the vectors have turned since; at a cosine of 1 they point where they did. What is left of the head
# start after {{STEPS}} steps?

# %%
found = evaluate(model, task, prompts=prompts, limit=ROWS)
rows = [
    {"label": name, "accuracy": result.accuracy, "low": low, "high": high}
    for name, result in found.items()
    for low, high in [result.confidence_interval]
]
n = found["TEXT"].n
measured = f"right answers, n = {n} test words"
plots.accuracy_comparison(rows, measured=measured, title="After training only RANDOM is behind")

# %% tags=["check"]
assert min(row["low"] for row in rows[1:]) > rows[0]["high"]
assert max(row["low"] for row in rows[1:]) < min(row["high"] for row in rows[1:])

# %% [markdown]
# The intervals of four starts overlap, and RANDOM's does not reach them. So what the start means is of little
# consequence for the end here, while its length is of great consequence. But this is one seed and {{n}} words.
#
# ## More words, more seeds
#
# Why should length matter? AdamW moves a number by about the learning rate at each step, whatever its size. A number
# of a word is about {{scale.item():.2f}} in size and one of RANDOM about 1: the same step turns a short vector round
# and hardly moves a long one. If that is what holds RANDOM back, larger steps should mend it.
#
# The file `tables/starts.csv`, made by `benchmarks/starts.py`, holds the runs of this chapter for three skills (past,
# antonym, plural) and several seeds. To them it adds two further ways to train from RANDOM: with seven times the
# learning rate, and for 200 steps.

# %%
course.vote("03-c")
runs = pd.read_csv("tables/starts.csv")
names = runs["start"] + runs["times"].map({1: "", 7: ", rate times 7"})
runs["kind"] = names + runs["steps"].map({60: "", 200: ", 200 steps"})
seeds = runs.groupby(["kind", "seed"], sort=False)[["right", "n"]].sum()
n = int(seeds["n"].iloc[0])
seeds = seeds.eval("right / n").unstack()  # a line a kind, a column a seed
mean_of, rows = seeds.mean(axis=1), []
for kind, accuracy in mean_of.items():
    low, high = wilson_interval(round(n * accuracy), n)
    rows.append({"label": kind, "accuracy": accuracy, "low": low, "high": high})
title = "Larger steps bring RANDOM most of the way back"
measured = f"right answers, mean of {seeds.shape[1]} seeds, n = {n} words"
plots.accuracy_comparison(rows, measured=measured, title=title)

# %% tags=["check"]
mean = seeds.mean(axis=1)
gap = mean["random, words' scale"] - mean["RANDOM"]
assert gap > 0.15
assert mean["RANDOM, rate times 7"] - mean["RANDOM"] > 0.5 * gap
assert (seeds.drop(index="RANDOM").min(axis=1) > seeds.loc["RANDOM"].max()).all()
assert seeds.notna().all(axis=None)

# %% [markdown]
# They do: seven times the rate takes RANDOM from {{mean_of["RANDOM"]:.1%}} to
# {{mean_of["RANDOM, rate times 7"]:.1%}}, where the same directions at the words' scale reach
# {{mean_of["random, words' scale"]:.1%}} at the usual rate. With 200 steps RANDOM reaches
# {{mean_of["RANDOM, 200 steps"]:.1%}}. So it is not hopeless; it is slow at the learning rate that suits everything
# else. The lines in the figure are intervals for the words. How far do the seeds differ?

# %%
verbs = runs.query("kind == 'RANDOM' and task == 'words/past'")["right"]
seeds.map("{:.1%}".format).rename_axis(columns="seed", index="start")

# %% [markdown]
# No seed turns the order round. On a single skill RANDOM is a lottery besides: it learns {{verbs.min()}} to
# {{verbs.max()}} of the {{len(task.test)}} verbs, by seed.
#
# Where do the vectors end?

# %%
lengths = {name: prompt.norm(dim=1) for name, prompt in prompts.items()}
plots.norms_histogram(word_norms, lengths, title="After training: RANDOM is as far from the words as it was")

# %% [markdown]
# The others have grown to about the length that the trained comparative prompt had from the beginning.
#
# ## Does it hold elsewhere?
#
# The zoo has prompts of eight vectors for the tweets from three starts, trained for the full 100 steps.

# %%
kinds = {"random": "RANDOM", "sample-vocab": "SAMPLE_VOCAB", "text": "TEXT"}
names = ["tweets-random", "tweets-vocab", "tweets-seed0", "tweets-seed1", "tweets-seed2"]
saved = [zoo.records("tweets")[name] for name in names]
rows = []
for record in saved:
    low, high = record["trained"]["confidence_interval"]
    label = f"{kinds[record['start']]}, seed {record['settings']['seed']}"
    rows.append({"label": label, "accuracy": record["trained"]["accuracy"], "low": low, "high": high})
majority, ceiling, n = saved[0]["majority_baseline"], saved[0]["human_ceiling"], saved[0]["trained"]["n"]
title = "On the tweets RANDOM ends last, too"
plots.accuracy_comparison(rows, majority, f"accuracy, n = {n} test tweets", ceiling, title=title)

# %% [markdown]
# After the usual 100 steps the difference is smaller and still there. Neither result is a law: both are of one base
# model with one learning rate. On the course's `tiny` model you will find something else (exercise 03-5), and
# Lester et al. 2021 report that the choice of start matters less as models grow.
#
# One more start has a name. Lester et al. fill the first rows with the *class labels*, one virtual token for each
# label, and the rest with common words. You write it in exercise 03-2. Which of the starts is to be the default?
# This course takes TEXT with the task's instruction: its length is right and it needs no luck. What the loop does
# with it, step by step, is the next question.

# %% [markdown]
# ## Summary
#
# - `PromptEmbedding` is an `nn.Embedding` of P x submodules rows by D, read with the indices 0 to P-1.
# - TEXT cuts or repeats: row r holds token r modulo the text's length. The start is a detached float32 copy.
# - PEFT's default, RANDOM, is N(0, 1): seven times as long as a word of this model. The same directions at the
#   words' length learn the task that RANDOM has only half learned.
# - The reason is mostly the size of a step: AdamW moves all numbers alike, so long vectors turn slowly.
# - Starts at the words' scale end within a few points of each other, whatever they mean. A prompt trained on another
#   skill learns fastest at first.

# %% [markdown]
# ## Exercises
#
# ### Exercise 03-2: A row for each label
#
# You get the token ids of each label, a list of lists, and the word embeddings (V, D). Each label gives one row, the
# mean of its tokens' embeddings; if there are more labels than rows, the first ones count. The other rows are words
# with ids below 5,000: a byte-pair vocabulary is numbered in the order of its merges, so low ids are common tokens.

# %%
import torch


def label_start(label_ids, word_embeddings, rows, generator):
    """Token ids of the labels and (V, D) words -> (rows, D)."""
    ### BEGIN SOLUTION
    labels = [word_embeddings[ids].mean(dim=0) for ids in label_ids][:rows]
    rest = torch.randint(0, 5000, (rows - len(labels),), generator=generator)
    return torch.cat([torch.stack(labels), word_embeddings[rest]])
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("03-2", label_start)

# %% [markdown]
# ### Exercise 03-3: How far can a number go?
#
# AdamW moves a number by at most about the learning rate in a step. The rate begins at 0.03 and falls in a straight
# line to 0. How far can one number get in 60 steps? Compare with the size of a number in RANDOM (1) and a word (0.14).

# %%
### BEGIN SOLUTION
reach = sum(0.03 * (60 - step) / 60 for step in range(60))
### END SOLUTION
reach

# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("03-3", reach)

# %% [markdown]
# ### Exercise 03-4: The base model that is not frozen
#
# This start takes the first words of the vocabulary. The base model has `requires_grad=False` everywhere, and the
# optimizer has the prompt alone. Yet the model's own words move. Why?
#
# ```
# def lowest_start(word_embeddings, rows):
#     start = word_embeddings.weight.detach()  # A  the gradient still reaches the vocabulary
#     start = start[:rows].float()             # B  the slice lies in the vocabulary's memory
#     return torch.nn.Parameter(start)         # C  this makes the vocabulary trainable
# #                                              D  AdamW moves weights that it was not given
# ```
#
# Write the function anew; it returns the letter of the fault and the start.

# %%
import torch


def lowest_start(word_embeddings, rows):
    return torch.nn.Parameter(word_embeddings.weight.detach()[:rows].float())


vocabulary = torch.nn.Embedding(10, 4).requires_grad_(False)
before, prompt = vocabulary.weight.clone(), lowest_start(vocabulary, 3)
optimizer = torch.optim.AdamW([prompt], lr=0.03)
prompt.sum().backward()
optimizer.step()
print("words that moved:", (vocabulary.weight != before).any(dim=1).sum().item())


def repaired(word_embeddings, rows):
    """(V, D) word embeddings -> the letter, and a start (rows, D) in float32 that can be trained."""
    ### BEGIN SOLUTION
    return "B", torch.nn.Parameter(word_embeddings.weight.detach()[:rows].clone().float())
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("03-4", repaired)

# %% [markdown]
# ### Exercise 03-5: The same on another model
#
# Does length matter for `tiny` and the messages of `shop`, too? `accuracy(length, seed)` trains for 20 steps from
# random vectors so many times as long as words, and measures 200 messages, in seconds. Choose at least three lengths,
# the longest thirty times the shortest or more, and two seeds for each. Then compare the mean accuracy of the
# shortest and the longest in one sentence, with both numbers.

# %%
import torch

import softprompt_lab as lab

tiny, tiny_tokenizer = lab.load_base_model("tiny", device="cpu")
shop = lab.load_task("shop")


def accuracy(length, seed):
    """Train from random vectors of a length, in words' lengths, and return the accuracy on 200 messages."""
    vocabulary = tiny.get_input_embeddings().weight
    start = torch.randn(8, vocabulary.shape[1], generator=torch.Generator().manual_seed(seed))
    start = length * vocabulary.square().mean().sqrt() * start
    model = lab.SoftPromptModel(tiny, lab.PromptTuningConfig(8), tokenizer=tiny_tokenizer, start=start)
    lab.train(model, shop, steps=20, seed=seed, progress=False)
    return lab.evaluate(model, shop, limit=200).accuracy


### BEGIN SOLUTION
accuracies = {times: [accuracy(times, each) for each in (0, 1)] for times in (0.1, 1, 10)}
short, long = (sum(accuracies[times]) / 2 for times in (0.1, 10))
sentence = f"On tiny the accuracy is {short:.1%} from a tenth of the words' length, {long:.1%} from ten times it."
answer = {"accuracies": accuracies, "sentence": sentence}
### END SOLUTION
answer

# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("03-5", answer)

# %% [markdown]
# ## Sources
#
# - Hugging Face PEFT, `PromptEmbedding` and `PromptTuningConfig` (`peft/tuners/prompt_tuning`), Apache-2.0; measured
#   with version 0.21.
# - Lester, Al-Rfou, Constant 2021, *The Power of Scale for Parameter-Efficient Prompt Tuning*, arXiv 2104.08691:
#   the starts in section 3.2.
# - Hugging Face PEFT, pull request 2815: RANDOM beside SAMPLE_VOCAB on a larger model, 25 % against 36 %.
