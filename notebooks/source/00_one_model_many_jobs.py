# %% [markdown]
# # 00 One model, many jobs
#
# **What is this about?**
#
# A language model has one habit: it continues text. Below are eight jobs, and the same model is to do all of them.
# Nobody trains the model for any of them, and nobody tells it in words which one is meant: in front of each word stand
# four vectors. What do you expect on the right?
#
# You will be able to
# - say what a soft prompt is, and exchange one for another;
# - train one in less time than it takes to read this page, and say how good it is, and beside what;
# - tell what changed in the model by it, and how large the file is that you keep;
# - read the six letters that every chapter uses.

# %%
import pandas as pd

from softprompt_lab import plots

words = ["hot", "go", "mouse", "happy", "zebra", "robin", "France", "Mozart"]
names = ["antonym", "past", "plural", "comparative", "first-letter", "category", "language", "profession"]
jobs = pd.DataFrame({"word": words, "answer": "?"}, index=names)
plots.jobs_figure(jobs, vectors=4, title="One frozen model, eight prompts of four vectors: what comes out?")

# %% [markdown]
# ## A model that goes on and on
#
# Load the model: `smollm2`, 135 million weights, trained by others on web pages and code, then on chats. It is the
# *base model* under everything below, and it comes *frozen*: no weight of it will change. `dtype="fastest"` keeps the
# weights in the number type in which this machine multiplies fastest. If a cell fails, type `softprompt-lab doctor`
# in a terminal: it says what this machine lacks.

# %% tags=["setup"]
import tempfile
from pathlib import Path

import pandas as pd
import torch

from softprompt_lab import PromptTuningConfig, SoftPromptModel, course
from softprompt_lab import evaluate, load_base_model, load_task, plots, train
from softprompt_lab.evaluation import wilson_interval
from softprompt_lab.reading import levels
from softprompt_lab.runs import zoo
from softprompt_lab.runs.saved import answers

base_model, tokenizer = load_base_model("smollm2", dtype="fastest")
pd.set_option("display.max_colwidth", None)  # tables show texts as a whole
print(f"{base_model.num_parameters():,} weights, kept as {base_model.dtype}")

# %% [markdown]
# Two numbers decide how long the rest takes.

# %% tags=["parameters", "setup"]
STEPS = 60  # of training, 8 tweets each
ROWS = None  # of the test split that are measured; None is all of them

# %% tags=["fast"]
STEPS = 2
ROWS = 8

# %% [markdown]
# Three words and an arrow, and nothing in front: how does the model go on?


# %%
def go_on(text, tokens=14):
    """How the bare model continues a text."""
    ids = tokenizer(text, return_tensors="pt")
    written = base_model.generate(**ids, max_new_tokens=tokens, do_sample=False)
    return tokenizer.decode(written[0, ids.input_ids.shape[1] :])


pd.DataFrame({f"{word} ->": [repr(go_on(f"{word} ->"))] for word in ["hot", "France", "mouse"]}, index=["goes on"]).T

# %% [markdown]
# It rambles, because nothing says what the arrow means. You could tell it in words, as in chapter 01; here it is told
# in another way.
#
# ## Four vectors in front
#
# A model reads **tokens**, words or pieces of words, and each is a vector of {{base_model.config.hidden_size}}
# numbers. A **soft prompt** is a few more vectors of that length, put in front of those of the text. They belong to
# no word: they are free numbers, called **virtual tokens**, and finding them is **prompt tuning**. A collection of
# such prompts comes with this course, the *zoo*. Eight of them were trained on 60 pairs of words each; load them
# beside each other.

# %%
model = SoftPromptModel.from_pretrained(base_model, zoo.folder("words-antonym"), tokenizer=tokenizer)
for name in names:
    model.load_prompt(zoo.folder(f"words-{name}"), name)
arrow = load_task("words/antonym")  # its template, "{text} -> ", is that of all eight


def ask(prompt, *words):
    """What the model writes behind each word, with this prompt in front."""
    model.set_prompt(prompt)
    return answers(model, arrow, words, max_new_tokens=6)


jobs["answer"] = [ask(name, word)[0] for name, word in jobs["word"].items()]
plots.jobs_figure(jobs, vectors=4, title="Eight jobs, done by exchanging four vectors")

# %% [markdown]
# `model.set_prompt` is all that happens between two lines: four vectors take the place of four others. None of the
# eight words was among the pairs that its prompt was trained on. But eight words prove little, and these were chosen
# because they come out right. So here is how often each prompt was right on all words held out of its training; the
# line says how far the choice of these words may have moved it. Another run of training moves it too (chapter 02).

# %%
records = [zoo.records(f"words/{name}")[f"words-{name}"] for name in names]
skills = pd.DataFrame([record["trained"] for record in records])
skills["label"] = [f"{name} (n = {n})" for name, n in zip(names, skills["n"], strict=True)]
skills[["low", "high"]] = skills["confidence_interval"].tolist()
plots.accuracy_comparison(
    skills, measured="right answers on held-out words", title="Most skills are right on most words, none on all"
)

# %% tags=["check"]
assert jobs["answer"].tolist()[:6] == ["cold", "went", "mice", "happier", "z", "bird"]
assert (skills["accuracy"] > 0.5).all()
assert (skills["accuracy"] < 1).all()

# %% [markdown]
# Always giving the commonest answer would be right on at most
# {{max(record["majority_baseline"] for record in records):.0%}} (for `language`).
#
# ## The opposite of France
#
# What does a prompt hold? You see it best when you ask for something that it was never meant for. So give every prompt
# every word: the opposite of a country, the plural of a composer.

# %%
course.vote("00-a")
every = ["hot", "mouse", "France", "good", "knife", "Mozart"]
pd.DataFrame({name: ask(name, *every) for name in names}, index=every).T

# %% [markdown]
# To the prompt `antonym`, the opposite of `France` is `{{ask("antonym", "France")[0]}}`. No pair of its training said
# so, and the figure above was about words not seen either: a prompt is more than a list of its pairs. And `knife`:
# behind `plural` it becomes `{{ask("plural", "knife")[0]}}`, behind `past` `{{ask("past", "knife")[0]}}`. Outside its
# job a prompt may do anything: `language` answers every word with a language, `comparative` makes
# `{{ask("comparative", "mouse")[0]}}` of `mouse`.
#
# ## A ninth job, trained by you
#
# Now train one yourself. `tweets` holds short messages that 20 or more people rated, from -4 for very negative to
# 4; the label is the side on which their mean lies.

# %%
tweets = load_task("tweets")
beside = levels(tweets, "test", ROWS)
print(tweets)
shown = tweets.test.select([4, 16, 27, 59]).to_pandas()  # two of each label
shown[["text", "text_label", "rating"]]

# %% [markdown]
# Before you train, put down what to beat. The **majority baseline** is what you get by always giving the commonest
# label of the training rows: {{beside["majority"]:.0%}} of the {{beside["n"]}} test tweets measured here. The **human
# rater** is a single person against the mean of the others: how often do both lie on the same side of 0, averaged over
# raters and tweets? {{beside["ceiling"]:.0%}}.
#
# Between these two lies what words can do. The next cell takes the wording that does best in chapter 01, chosen on
# the validation tweets, and asks two questions about every tweet. *By rank*: which of the two labels does the model
# find likelier? *Own word*, or **exact match**: when it may write any of its {{len(tokenizer):,}} tokens, does it
# write exactly the right label? This takes about 15 s on two cores. (*Macro-F1* is the mean of both labels' F1;
# *loss* comes in chapter 04.)

# %%
wording = "Tweet: {text}\nSentiment: "
asked = tweets.with_template(wording)
measured = {"best wording": evaluate(base_model, asked, "test", tokenizer=tokenizer, limit=ROWS)}
measured["best wording"]

# %% [markdown]
# By rank the wording is far above the majority; as its own word the model gives the right label to
# {{measured["best wording"].exact_match:.1%}} of the tweets. It tells the two apart more often than it says so.
#
# Now the ninth prompt: 8 vectors, which start as copies of those of the words of an instruction. What does the model
# write behind the four tweets, with this untrained prompt in front? (About 15 s again, for the test.)

# %%
config = PromptTuningConfig(num_virtual_tokens=8, prompt_tuning_init_text=tweets.instruction)
model.add_prompt("tweets", config)
model.set_prompt("tweets")
shown["before"] = answers(model, tweets, shown["text"].tolist(), max_new_tokens=10)
measured["untrained prompt"] = evaluate(model, tweets, "test", limit=ROWS)
print("instruction:", tweets.instruction)
shown[["text", "before"]]

# %% [markdown]
# Before the training, keep two things to compare with afterwards: the score of every token behind `plural` and
# `mouse`, and a copy of the base model's weights.


# %%
def scores(prompt, word):
    """The score of every token behind a word, with this prompt in front."""
    model.set_prompt(prompt)
    ids = tokenizer(f"{word} ->", return_tensors="pt").input_ids
    with torch.no_grad():
        return model(ids).logits[0, -1]


mice = scores("plural", "mouse")
weights = [weight.clone() for weight in base_model.parameters()]

# %% [markdown]
# Now train: at each step the model reads 8 tweets with their labels, and the eight vectors are moved a little, so that
# these labels become likelier. {{STEPS}} steps take about 20 s on two cores, the test 15 s.

# %%
course.vote("00-b")
model.set_prompt("tweets")
history = train(model, tweets, steps=STEPS)
measured["trained prompt"] = evaluate(model, tweets, "test", limit=ROWS)
print(f"{STEPS} steps in {history.seconds:.0f} s")
measured["trained prompt"]

# %% [markdown]
# And everything in one figure:

# %%
rows = []
for way, column in (("by rank", "accuracy"), ("own word", "exact_match")):
    for name, found in measured.items():
        share = getattr(found, column)
        low, high = wilson_interval(round(share * found.n), found.n)
        rows.append({"label": f"{name}, {way}", "accuracy": share, "low": low, "high": high, "kind": way})
plots.accuracy_comparison(
    rows,
    majority=beside["majority"],
    ceiling=beside["ceiling"],
    measured=f"accuracy on {beside['n']} test tweets",
    title=f"After {STEPS} steps of training, the right label is the model's own word",
)

# %% tags=["check"]
tuned, told = measured["trained prompt"], measured["best wording"]
assert tuned.confidence_interval[0] > beside["majority"]
assert tuned.accuracy > told.accuracy
assert tuned.exact_match > 2 * told.exact_match
assert tuned.n >= 200

# %% [markdown]
# By rank the eight vectors went from {{measured["untrained prompt"].accuracy:.1%}} to
# {{measured["trained prompt"].accuracy:.1%}}; the best wording has {{measured["best wording"].accuracy:.1%}}, a human
# rater {{beside["ceiling"]:.0%}}. As own word they went from {{measured["untrained prompt"].exact_match:.1%}} to
# {{measured["trained prompt"].exact_match:.1%}}. Part of that is spelling: `Positive.` with a capital counts as
# wrong. The prompt has seen {{8 * STEPS}} labels, the wording none. And whether it ranks tweets better, or only
# answers "positive" at a better share, is a question that chapter 01 teaches you to ask. Chapter 04 has other seeds,
# chapter 05 a task on which little is learned.  Now read what the model writes, before and after.

# %%
shown["after"] = answers(model, tweets, shown["text"].tolist(), max_new_tokens=10)
shown[["text", "before", "after", "text_label"]]

# %% [markdown]
# ## What has changed?
#
# The model that rambled now answers in one word and stops. Is it still the model that knew the plural of `mouse`?

# %%
course.vote("00-c")
same = [torch.equal(old, new) for old, new in zip(weights, base_model.parameters(), strict=True)]
print(f"tensors of the base model that are as they were: {sum(same)} of {len(same)}")
print("scores behind plural and mouse, equal to the last bit:", torch.equal(scores("plural", "mouse"), mice))
print("plural of mouse:", ask("plural", "mouse")[0])

# %% tags=["check"]
assert all(same)
assert torch.equal(scores("plural", "mouse"), mice)

# %% [markdown]
# The new job was not learned at the cost of an old one.  What do you have to keep, to have the new job tomorrow?

# %%
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    file = Path(folder, "tweets", "adapter_model.safetensors")
    kept = file.stat().st_size
numbers, whole = model.prompt_by_name("tweets").numel(), base_model.num_parameters()
print(f"one prompt: {numbers:,} numbers, a file of {kept / 1e3:.1f} KB")
print(f"the base model: {whole:,} numbers, {whole // numbers:,} times as many")

# %% [markdown]
# A job of eight vectors is a file of {{kept / 1e3:.0f}} KB; one model in memory serves as many jobs as you have such
# files (chapter 06 opens one). The price: each input is P vectors longer.
#
# ## Six letters
#
# Every shape in this course is written with six letters. Here they are with the numbers of 8 tweets on their way
# through your model; the picture draws a few boxes of each kind.

# %%
batch = tokenizer([tweets.prompt(text) for text in tweets.train["text"][:8]]).input_ids
B, (P, D), T = len(batch), model.prompt_by_name("tweets").shape, max(map(len, batch))
V, L = len(tokenizer), base_model.config.num_hidden_layers
plots.letters_figure(B, P, T, D, V, L, title="A prompt makes each row longer by P, in and out; D, L and V stay")

# %% [markdown]
# **B** counts the rows that are worked on together, **P** the virtual tokens, **T** the tokens of the text, **D** the
# numbers in a vector, **L** the layers, **V** the tokens of the vocabulary. The prompt is (P, D), the text enters as
# (B, T, D), the model reads (B, P+T, D) and returns scores of shape (B, P+T, V).
#
# ## The map
#
# | chapter | question |
# |---|---|
# | 00 one model, many jobs | What is this about? |
# | [01 what words can do](01_what_words_can_do.ipynb) | How far do wordings and examples get? |
# | [02 concatenation by hand](02_concatenation_by_hand.ipynb) | What is a soft prompt? |
# | [03 PromptEmbedding](03_prompt_embedding.ipynb) | How is it built, and where does it start? |
# | [04 training](04_training.ipynb) | What moves when only the prompt may move? |
# | [05 the clinic](05_the_clinic.ipynb) | What is wrong with this run? |
# | [06 the PEFT folder](06_the_peft_folder.ipynb) | What is saved, and who can read it? |
# | [07 nearest tokens](07_nearest_tokens.ipynb) | What did it learn? |
#
# Before some results a cell asks for your guess. Exercises check themselves and have hints, `course.progress()` shows
# what you have passed, and the answers are in the folder `solutions`.
#
# ## Summary
#
# - A base model stays frozen. A soft prompt is P vectors of width D in front of its input, and nothing else is trained.
# - Exchanging the prompt exchanges the job; exchanging it back gives the old scores to the last bit.
# - A prompt is more than its pairs: most skills are right on most words not seen.
# - An accuracy stands beside the majority baseline, an interval, the best wording and, where there is one, a human
#   rater, always on rows that training did not see.
# - Right *by rank* and right as the model's *own word* are two things. A bare wording got the first, training both.
#
# You beat one wording. Was it a fair opponent, and what do examples in front of the tweet add? How far words alone can
# get is the question of chapter 01.

# %% [markdown]
# ## Exercises
#
# Write your answer where a cell says `...` and run the check below it. `course.hint("00-1")` in a cell of its own
# opens the hints of an exercise, one after the other.
#
# ### Exercise 00-1: Back to front
#
# Take the prompt `plural` and put its four vectors in front of the word in reverse order: the fourth first, the
# first last. How many of the 80 held-out words still get their plural? Choose a letter before you try:
#
# - A: about as many as before
# - B: about half as many
# - C: next to none

# %%
from softprompt_lab import course

### BEGIN SOLUTION
guess = "C"
### END SOLUTION
course.check("00-1", guess)

# %% [markdown]
# Then see for yourself in a cell of your own (half a minute):
#
# ```python
# run = zoo.load("words-plural", base_model, tokenizer)
# orders = {"as trained": run.model.prompt, "reversed": run.model.prompt.flip(0)}
# evaluate(run.model, run.task, prompts=orders)
# ```

# %% [markdown]
# ### Exercise 00-2: The line to beat
#
# Write the majority baseline: find the label that is commonest among `train_labels`, a list, and return the share of
# `labels`, another list, that equal it.


# %%
def majority_accuracy(train_labels, labels):
    """Accuracy on `labels` of always answering the commonest of `train_labels`."""
    ### BEGIN SOLUTION
    answer = max(set(train_labels), key=train_labels.count)
    return labels.count(answer) / len(labels)
    ### END SOLUTION


# %% [markdown]
# Why are there two lists? The check tells you, if you use one only.

# %%
from softprompt_lab import course

course.check("00-2", majority_accuracy)

# %% [markdown]
# ### Exercise 00-3: Your words against eight vectors
#
# Can a wording of yours be as good as a trained prompt? Write two or more, each a text with `{text}` where the tweet
# goes, and measure them with `by_rank` (about 10 s each); `by_rank()` measures a prompt of the zoo on the same
# tweets. Then write one sentence that your numbers support: it names the best accuracy of a wording, and the majority
# beside it. Hand in `{"accuracies": {wording: share, ...}, "sentence": "..."}`, with what `by_rank` returned.

# %%
from softprompt_lab import evaluate, load_base_model, load_task
from softprompt_lab.runs import zoo


def by_rank(wording=None):
    """Accuracy by rank on 200 validation tweets: of a wording, or of a trained prompt of the zoo."""
    base_model, tokenizer = load_base_model("smollm2", dtype="fastest")
    if wording is None:
        run = zoo.load("tweets-seed0", base_model, tokenizer)
        model, task = run.model, run.task
    else:
        model, task = base_model, load_task("tweets").with_template(wording)
    found = evaluate(model, task, "validation", tokenizer=tokenizer, limit=200)
    print(f"{wording!r}: {found.accuracy:.1%}, own word {found.exact_match:.1%}")
    print(f"majority {found.majority_baseline:.1%}")
    return found.accuracy


# %% [markdown]
# The check looks at what you measured and at the number in your sentence.

# %%
from softprompt_lab import course

### BEGIN SOLUTION
mine = ["Tweet: {text}\nSentiment: ", "{text}\nThe person who wrote this is in a mood that is "]
accuracies = {wording: by_rank(wording) for wording in mine}
best = max(accuracies.values())
sentence = f"The better of my two wordings is right on {best:.1%} of 200 tweets; the majority is 70.5 %."
answer = {"accuracies": accuracies, "sentence": sentence}
### END SOLUTION
course.check("00-3", answer)

# %% [markdown]
# ### Exercise 00-4: The start that was the end
#
# A colleague wants to show what training brings. The loss falls as it should, but then her cell prints the same
# accuracy twice, to the last digit. The sum of the base model's weights has not changed.
#
# ```python
# start = keep(model.prompt)
# train(model, tweets, steps=60)
# evaluate(model, tweets, prompts={"start": start, "trained": model.prompt})   # the same number twice
# ```
#
# where `def keep(prompt): return prompt.detach()`. What is wrong?
#
# - A: training moved the base model as well, and the start improved with it
# - B: what `keep` returns is no copy
# - C: both were trained from the same seed
# - D: the two were measured on different rows
#
# Write the letter, and repair `keep`.


# %%
def keep(prompt):
    """The numbers of a prompt as they are now."""
    ### BEGIN SOLUTION
    return prompt.detach().clone()
    ### END SOLUTION


### BEGIN SOLUTION
letter = "B"
### END SOLUTION
diagnosis = (letter, keep)

# %% [markdown]
# Both are checked, the letter first.

# %%
from softprompt_lab import course

course.check("00-4", diagnosis)

# %% [markdown]
# ## Sources
#
# - Brian Lester, Rami Al-Rfou, Noah Constant: *The Power of Scale for Parameter-Efficient Prompt Tuning*, 2021,
#   arXiv 2104.08691, section 2. The method of this course: a frozen model and trained vectors in front of its input.
# - Loubna Ben Allal and others: *SmolLM2: When Smol Goes Big*, 2025, arXiv 2502.02737. The base model's family.
# - C.J. Hutto, Eric Gilbert: *VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text*,
#   ICWSM 2014. The tweets and their ratings.
