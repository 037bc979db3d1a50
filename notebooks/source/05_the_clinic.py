# %% [markdown]
# # 05 The clinic
#
# **What is wrong with this run?**
#
# Three people follow the same tutorial on prompt tuning, each with another random seed, and for all of them the
# training loss falls to almost nothing. The figure grades each prompt twice: on the 50 messages that it was trained
# on, and on 400 that it never saw.
#
# You will be able to
# - name the faults that can cause a symptom, and the test that decides between them;
# - repair a cut label, a lone space and a wrong end token;
# - replay a published tutorial and measure the price of each of its faults.

# %%
import pandas as pd

from softprompt_lab import plots

seeds = pd.read_csv("tables/tutorial.csv")  # measured before: benchmarks/tutorial.py
tests = pd.read_csv("tables/complaints.csv").set_index("kind")  # and benchmarks/tasks.py
majority, best_wording = tests.loc["majority", "accuracy"], tests.loc["wording", "accuracy"].max()
graded = [
    {"label": f"seed {run['seed']:.0f}, {name}", "kind": name, "accuracy": run[part]}
    | {"low": run[f"{part} low"], "high": run[f"{part} high"]}
    for part, name in (("train", "its 50 training rows"), ("test", "400 new rows"))
    for _, run in seeds.iterrows()
]
plots.accuracy_comparison(graded, majority, title="The same three prompts, graded twice")

# %% [markdown]
# The upper three dots would be reported as a success. The lower three are what a user meets, and they lie about the
# dotted line: always saying the commoner answer does as well. Nothing crashed and nothing warned. You meet eight sick
# runs before you return to the tutorial.
#
# ## 1 The list on the wall
#
# Each patient has one of these faults; two of the ten are not present today.

# %%
faults = {
    "a": "training and generation end on different tokens",
    "b": "a cut at the maximum length takes the label",
    "c": "the question ends in a space of the answer's",
    "d": "the rows measured are copies of rows trained on",
    "e": "the optimizer holds another prompt",
    "f": "the learning rate is far too small",
    "g": "training stopped on a plateau",
    "h": "the loss compares each token with itself",
    "i": "the base model was trained too",
    "j": "the labels are wrong",
}
pd.Series(faults, name="fault").to_frame()

# %% [markdown]
# Five patients are prompts for `tiny` on `shop`, whose runs take seconds.

# %% tags=["setup"]
import dataclasses
import warnings

import pandas as pd
import peft
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy

from softprompt_lab import PromptTuningConfig, SoftPromptModel, course, evaluate, load_base_model, load_task, plots
from softprompt_lab.batch import Example, Target
from softprompt_lab.evaluation import score_labels, wilson_interval
from softprompt_lab.runs import zoo
from softprompt_lab.training import as_tensors, batches, encode_training_rows

base, tokenizer = load_base_model("smollm2")
tiny, tiny_tokenizer = load_base_model("tiny")
shop = load_task("shop")
urgent = load_task("shop", label_column="urgent")

# %% [markdown]
# What makes this chapter take long:

# %% tags=["setup", "parameters"]
STEPS = 40  # of a patient on tiny
LONGER = 60  # of the run that patient 4 should have been
EPOCHS = 10  # of the tutorial
ROWS = 200  # behind each accuracy

# %% tags=["fast"]
STEPS, LONGER, EPOCHS, ROWS = 3, 4, 1, 8

# %% [markdown]
# The loop is chapter 04's; what the patients get wrong comes from outside.


# %%
def new_model(base, tokenizer, task):
    """The base behind eight vectors that start as the task's instruction."""
    config = PromptTuningConfig(8, prompt_tuning_init_text=task.instruction)
    return SoftPromptModel(base, config, tokenizer=tokenizer)


def adamw(model, rate=0.03, weight_decay=0.0):
    """An optimizer of every weight of the model that is not frozen."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.optim.AdamW(weights, lr=rate, weight_decay=weight_decay)


def fit(model, optimizer, deal, loss_of=SoftPromptModel.loss):
    """One step for each batch of the deal, the rate falling to 0; return the losses."""
    rate, losses = optimizer.param_groups[0]["lr"], []
    for step, batch in enumerate(deal):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / len(deal))
        loss = loss_of(model, *as_tensors(batch, model))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# Three more functions deal batches, measure and draw.


# %%
def deal(task, steps, seed=0):
    """Shuffled batches of eight rows for tiny."""
    return list(batches(encode_training_rows(task, tiny_tokenizer), 8, steps, seed))


def measured(label, model, task, split="test"):
    """A line of a figure: the accuracy on at most ROWS rows, with its interval."""
    found = evaluate(model, task, split, limit=ROWS)
    low, high = found.confidence_interval
    return {"label": label, "accuracy": found.accuracy, "low": low, "high": high}


def draw(curves, title):
    """Losses by name as lines."""
    lines = [
        pd.DataFrame({"kind": name, "step": range(1, len(losses) + 1), "loss": losses})
        for name, losses in curves.items()
    ]
    return plots.curves_figure(pd.concat(lines), "step", {"loss": "loss (nats a token)"}, title=title)


# %% [markdown]
# ## 2 Five diagnoses
#
# ### Patient 1: the flat line
#
# "It trains without an error, and the loss does not fall." The patient's notebook, and a healthy run (12 s):

# %%
healthy = new_model(tiny, tiny_tokenizer, shop)
curves = {"healthy": fit(healthy, adamw(healthy), deal(shop, STEPS))}
model = new_model(tiny, tiny_tokenizer, shop)
optimizer = adamw(model)
model = new_model(tiny, tiny_tokenizer, shop)  # the first of the three lines, run once more
start = model.prompt.detach().clone()
curves["patient 1"] = fit(model, optimizer, deal(shop, STEPS))
draw(curves, "One of the two does not learn")

# %% [markdown]
# A flat loss has several causes. Vote, then look at the table (5 s).

# %%
course.vote("05-a")
crawling = new_model(tiny, tiny_tokenizer, shop)
fit(crawling, adamw(crawling, rate=3e-5), deal(shop, STEPS))
moved = {"healthy": healthy, "patient 1": model, "rate 3e-5": crawling}
moved = {name: (each.prompt - start).norm().item() for name, each in moved.items()}
pd.Series(moved, name="how far the prompt moved").map("{:.4f}".format).to_frame()

# %% tags=["check"]
assert moved["patient 1"] == 0 < moved["rate 3e-5"] < 0.05 * moved["healthy"]

# %% [markdown]
# It is **fault e**. Not one bit moved: the optimizer was built for the first model's prompt, and the second model has
# another. A rate meant for full fine-tuning (fault f) draws the same flat loss, but there the prompt moves by
# {{moved["rate 3e-5"]:.3f}}. So measure the movement before you turn a knob. *Fix*: build the optimizer directly
# before the loop.
#
# ### Patient 2: a beautiful curve
#
# This patient wrote the loss by hand: `model(...)` returns logits in line with the tokens, so both are flattened and
# compared (6 s).


# %%
def loss_by_hand(model, ids, mask, labels):
    """Cross-entropy of the labels."""
    logits = model(ids, mask).logits  # (B, T, V)
    return cross_entropy(logits.flatten(0, 1), labels.flatten())


second = new_model(tiny, tiny_tokenizer, shop)
losses = fit(second, adamw(second), deal(shop, STEPS), loss_by_hand)
plots.training_curve(losses, title="Patient 2: the loss falls, step after step")

# %% [markdown]
# From {{losses[0]:.1f}} to {{losses[-1]:.1f}} nats. And the accuracy on messages that the prompt never saw (5 s)?

# %%
course.vote("05-b")
rows = [
    measured("healthy", healthy, shop),
    measured("patient 2", second, shop),
]
shop_majority = evaluate(healthy, shop, limit=ROWS).majority_baseline
plots.accuracy_comparison(rows, shop_majority, title="What the two curves were worth")

# %% [markdown]
# It is **fault h**. The logits at a token predict the *next* one, but this loss compares them with the label at the
# same place, which the model has read there. So the prompt learns to repeat what it sees, not to answer. *Fix*:
# shift by one. The test to write first is that the loss equals another implementation's:


# %%
def shifted_loss(model, ids, mask, labels):
    """Cross-entropy of each label, from the logits one token before it."""
    logits = model(ids, mask).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


batch = as_tensors(deal(shop, 1)[0], second)
difference = abs(shifted_loss(second, *batch) - second.loss(*batch)).item()
print(f"difference from the package's loss: {difference:.1e}")

# %% tags=["check"]
assert difference < 1e-4
assert rows[0]["accuracy"] > 0.9
assert abs(rows[1]["accuracy"] - shop_majority) < 0.05
assert losses[-1] < 0.2 * losses[0]

# %% [markdown]
# ### Patient 3: gone after a restart
#
# An error had said "element 0 of tensors does not require grad", and a forum knew a line against it. Since then all
# is well, until a restart (10 s).

# %%
own_base, _ = load_base_model("tiny")
third = new_model(own_base, tiny_tokenizer, urgent)
third.requires_grad_(True)  # the forum's line
fit(third, adamw(third, rate=1e-3), deal(urgent, STEPS))
today = measured("today, in this notebook", third, urgent)
print(f"held-out accuracy {today['accuracy']:.1%}")

# %% [markdown]
# Put the saved prompt in front of a freshly loaded base (3 s).

# %%
course.vote("05-c")
restarted = new_model(tiny, tiny_tokenizer, urgent)
with torch.no_grad():
    restarted.prompt.copy_(third.prompt)
tomorrow = measured("tomorrow, from the file", restarted, urgent)
urgent_majority = evaluate(restarted, urgent, limit=ROWS).majority_baseline
plots.accuracy_comparison(
    [today, tomorrow], urgent_majority, title="Patient 3: the skill was not in the prompt"
)

# %% tags=["check"]
assert today["accuracy"] > 0.85
assert tomorrow["accuracy"] < 0.65

# %% [markdown]
# It is **fault i**. The line unfroze every weight, and the base learned the task, of which the file knows nothing.
# Chapter 04's hash of the weights finds it at once. *Fix*: freeze, and look for what cut the path to the prompt (a
# `detach`, a `no_grad`): that was what the error meant.
#
# ### Patient 4: one answer for everything
#
# "It answers in perfect labels, nearly always the same one." The skill is `urgent`, and the run ended after 30 steps.
# Beside it, twice as many (15 s).

# %%
fourth, longer = (new_model(tiny, tiny_tokenizer, urgent) for _ in range(2))
names = f"patient 4, {LONGER // 2} steps", f"{LONGER} steps"
runs = zip((fourth, longer), (LONGER // 2, LONGER), strict=True)
losses = [fit(each, adamw(each), deal(urgent, steps)) for each, steps in runs]
found = [evaluate(each, urgent, limit=ROWS) for each in (fourth, longer)]
answers = [result.predictions["prediction"].value_counts() for result in found]
print(pd.DataFrame(answers, index=names).fillna(0).astype(int))
draw(dict(zip(names, losses, strict=True)), "Patient 4 stopped on the way")

# %% tags=["check"]
assert found[0].accuracy < 0.65
assert found[1].accuracy > 0.95

# %% [markdown]
# It is **fault g**: {{found[0].accuracy:.1%}} after the short run (n = {{found[0].n}}, majority
# {{found[0].majority_baseline:.1%}}), {{found[1].accuracy:.1%}} after the long one. A prompt first learns the *form*,
# that a label comes, and rests on a plateau where it guesses which; the content may come later, or not at all. An
# accuracy at the majority is the sign. A flat loss is none, because the rate falls to 0 at the end of every run.
# *Fix*: a longer run, and other seeds (exercise 05-4).
#
# ### Patient 5: too good
#
# Fifty messages are few, so this patient wrote four variants of each and kept these 200 back for the measurement. The
# task is the hard `complaints`, on which no wording gets beyond {{best_wording:.1%}} (30 s).

# %%
run = zoo.load("complaint-seed0", base, tokenizer)
complaints = run.task
pairs = zip(complaints.train["Tweet text"], complaints.train["text_label"], strict=True)
variants = [
    {"Tweet text": text, "text_label": label}
    for original, label in list(pairs)[:ROWS]
    for text in (original.lower(), f"Hello. {original}", f"{original} Thanks.", f"{original}!")
]
kept_back = dataclasses.replace(complaints, validation=Dataset.from_list(variants))
rows = [
    measured("200 variants, kept back", run.model, kept_back, "validation"),
    measured("rows from somewhere else", run.model, complaints, "test"),
]
plots.accuracy_comparison(rows, majority, title="Patient 5: kept back, and yet known")

# %% tags=["check"]
assert rows[0]["accuracy"] > rows[1]["accuracy"] + 0.1

# %% [markdown]
# It is **fault d**, leakage: each row measured is a copy of one trained on. On other rows {{rows[0]["accuracy"]:.0%}}
# becomes {{rows[1]["accuracy"]:.0%}}. Suspect an accuracy that beats everything known of a task, or a human rater.
# *Fix*: split first, then multiply.
#
# ## 3 Three patients for you
#
# Now you name the letter and repair the function.
#
# ### Patient 6: not a number
#
# To save padding, the rows were sorted by length; each is cut at 38 tokens. All goes well until the last step.

# %%
MAX_LENGTH = 38
by_length = sorted(encode_training_rows(shop, tiny_tokenizer), key=lambda row: len(row[0]))
cut_rows = [
    (context[:MAX_LENGTH], label[: max(0, MAX_LENGTH - len(context))])
    for context, label in by_length[::2]
]
sixth = new_model(tiny, tiny_tokenizer, shop)
losses = fit(sixth, adamw(sixth), [cut_rows[at : at + 4] for at in range(0, 100, 4)], shifted_loss)
print([round(loss, 2) for loss in losses])
print("numbers of the prompt that are still numbers:", int(sixth.prompt.isfinite().sum()))

# %% [markdown] tags=["exercise"]
# ### Exercise 05-1: Patient 6
#
# Which letter? Then write the function that would have kept the patient healthy. A row is `before + text + after +
# label`, lists of ids, where `before` and `after` are the template. Return context and label, together at most
# `max_length` ids, with only the *text* cut, at its end.


# %% tags=["exercise"]
### BEGIN SOLUTION
fault = "b"
### END SOLUTION


def cut(before, text, after, label, max_length):
    """(context, label), together at most max_length ids."""
    ### BEGIN SOLUTION
    room = max_length - len(before) - len(after) - len(label)
    return before + text[:room] + after, label
    ### END SOLUTION


answer = fault, cut

# %% [markdown] tags=["exercise"]
# The check sends short and long messages, and one for which no room is left.

# %% tags=["exercise"]
from softprompt_lab import course

course.check("05-1", answer)

# %% [markdown]
# A mean over no label is 0/0, and one such step leaves no number in the prompt. In a mixed batch the fault is
# quieter: a row teaches nothing, and nobody is told.
#
# ### Patient 7: healthy in the notebook, ill in the app
#
# Three skills of the zoo, their held-out words. The same prompts and the same base answer greedily, once as the
# notebook asks and once as the app does (15 s).


# %%
def write(run, question, end):
    """What a skill's prompt writes behind each test word, until the token `end`."""
    words = [question.format(word) for word in run.task.test["word"][:ROWS]]
    asked = tokenizer(words, padding=True, return_tensors="pt")
    written = run.model.generate(**asked, max_new_tokens=8, do_sample=False, eos_token_id=end)
    new = written[:, asked["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


def exact(run, written):
    """The share of answers that are the right word and nothing else."""
    return sum(map(str.__eq__, written, run.task.test["text_label"])) / len(written)


# %% [markdown]
# Compare the two calls of `write`.

# %%
names = ("words-past", "words-antonym", "words-plural")
skills = {name: zoo.load(name, base, tokenizer) for name in names}
notebook = {name: write(run, "{} ->", tokenizer.eos_token_id) for name, run in skills.items()}
app = {name: write(run, "{} -> ", tokenizer.eos_token_id) for name, run in skills.items()}
ways = {"notebook": notebook, "app": app}
wrote = {way: {n: exact(skills[n], texts[n]) for n in names} for way, texts in ways.items()}
pd.DataFrame(wrote).map("{:.0%}".format)

# %% [markdown]
# Some of what the app shows:

# %%
words = skills["words-past"].task.test["word"][:6]
pd.DataFrame({"word": words, "notebook": notebook["words-past"][:6], "app": app["words-past"][:6]})

# %% tags=["check"]
assert all(wrote["app"][name] < wrote["notebook"][name] - 0.1 for name in names)

# %% [markdown] tags=["exercise"]
# ### Exercise 05-2: Patient 7
#
# Which letter? Then write the function that notebook and app should share: from a template such as `"{text} -> "`, a
# text and an answer it returns two strings, the question to read and the answer to write. Together they are the
# filled template with the answer behind it.


# %% tags=["exercise"]
### BEGIN SOLUTION
fault = "c"
### END SOLUTION


def question_and_answer(template, text, answer):
    """Two strings; white space at the template's end stands where the model has met it in its own training."""
    ### BEGIN SOLUTION
    stripped = template.rstrip()
    return stripped.replace("{text}", text), template[len(stripped) :] + answer
    ### END SOLUTION


answer = fault, question_and_answer

# %% [markdown] tags=["exercise"]
# The check has templates that end in a space, a line break, and neither.

# %% tags=["exercise"]
from softprompt_lab import course

course.check("05-2", answer)

# %% [markdown]
# One space at the end of a question halves a skill. A byte-pair vocabulary glues a space to the word behind it:
# ` walked` is one token, and a lone space before a bare `walked` hardly occurs in any text.
#
# ### Patient 8: it does not stop
#
# Now with a number copied from a tutorial for another model (8 s).

# %%
rambling = {name: write(run, "{} ->", 3) for name, run in skills.items()}
print("exact:", {name: exact(skills[name], rambling[name]) for name in names})
print("token 3 here is", repr(tokenizer.decode([3])))
pd.DataFrame({"word": words, "notebook": notebook["words-past"][:6], "now": rambling["words-past"][:6]})

# %% tags=["check"]
assert max(exact(skills[name], rambling[name]) for name in names) < 0.1

# %% [markdown] tags=["exercise"]
# ### Exercise 05-3: Patient 8
#
# Which letter? Then write the function that training and generation should share: from a tokenizer and a label, the
# ids that training teaches and the id at which generation stops.


# %% tags=["exercise"]
### BEGIN SOLUTION
fault = "a"
### END SOLUTION


def target_and_end(tokenizer, label):
    """(ids of the label with its end, the id at which generation stops)."""
    ### BEGIN SOLUTION
    end = tokenizer.eos_token_id
    return tokenizer(label)["input_ids"] + [end], end
    ### END SOLUTION


answer = fault, target_and_end

# %% [markdown] tags=["exercise"]
# The check brings two tokenizers, whose end tokens have different numbers.

# %% tags=["exercise"]
from softprompt_lab import course

course.check("05-3", answer)

# %% [markdown]
# The prompt did write its end token, but nobody waited for it. A token's number means something in one vocabulary
# only.
#
# ## 4 The tutorial, replayed
#
# This course grew from a notebook on prompt tuning with PEFT. Its settings, as its author wrote them: `bloomz-560m`;
# the 50 labelled rows of RAFT's `twitter_complaints`; 8 virtual tokens that start as "Classify if the tweet is a
# complaint or not:"; rows cut to 64 tokens; AdamW at 3e-2, falling to 0; batches of 8; ten epochs. (PEFT's example
# notebook has 50.) Here the base is `smollm2`, and `complaints` is made after RAFT's pattern, with test labels. You
# know two patients in its encoding:

# %%
TEXT, LONGEST = "Classify if the tweet is a complaint or not:", 64
task = dataclasses.replace(complaints, instruction=TEXT)


def tutorial_row(text, label):
    """Context and target ids of a row, cut at 64 tokens."""
    context = tokenizer(f"Tweet text : {text} Label : ")["input_ids"]
    target = tokenizer(label)["input_ids"] + [tokenizer.pad_token_id]
    return context[:LONGEST], target[: max(0, LONGEST - len(context))]


train_rows = [
    tutorial_row(text, label)
    for text, label in zip(task.train["Tweet text"], task.train["text_label"], strict=True)
]
print("rows whose whole label was cut off:", sum(not target for _, target in train_rows))

# %% [markdown]
# Train it, about 75 s on two cores, with a seed, which the tutorial lacks.

# %%
generator = torch.Generator().manual_seed(0)
order = [torch.randperm(50, generator=generator).split(8) for _ in range(EPOCHS)]
epochs = [[train_rows[row] for row in chosen] for epoch in order for chosen in epoch]
tutorial = new_model(base, tokenizer, task)
losses = fit(tutorial, adamw(tutorial, weight_decay=0.01), epochs)  # PyTorch's own decay
plots.training_curve(losses, title="The tutorial's training: this is all it shows")

# %% [markdown]
# Its evaluation runs over the training rows, because RAFT hides its test labels (5 s).


# %%
def graded(model, split, rows):
    """Accuracy in the tutorial's own encoding, ranked between the two labels."""
    part = task.split(split).select(range(min(rows, len(task.split(split)))))
    targets = [Target.of(tutorial_row("", label)[1]) for label in task.labels]
    examples = [Example(tutorial_row(text, "")[0], targets) for text in part["Tweet text"]]
    scores, _, _ = score_labels(model, [model.prompt.detach()], examples)
    truth = [task.labels.index(label) for label in part["text_label"]]
    right = int((scores.argmax(axis=1) == truth).sum())
    low, high = wilson_interval(right, len(part))
    return {"accuracy": right / len(part), "low": low, "high": high}


on_train = {"label": "its 50 training rows"} | graded(tutorial, "train", 50)
print(f"accuracy {on_train['accuracy']:.1%} on the 50 rows that it was trained on")

# %% [markdown]
# And on {{2 * ROWS}} messages that it never saw (40 s)?

# %%
course.vote("05-d")
on_test = {"label": f"{2 * ROWS} new rows"} | graded(tutorial, "test", 2 * ROWS)
plots.accuracy_comparison([on_train, on_test], majority, title="The tutorial's prompt, graded by you")

# %% tags=["check"]
assert on_train["accuracy"] > on_test["accuracy"] + 0.1
assert abs(seeds["test"].mean() - majority) < 0.05

# %% [markdown]
# The first figure has this for three seeds: {{seeds["train"].mean():.1%}} against {{seeds["test"].mean():.1%}} on all
# 400 test rows, majority {{majority:.1%}}. Two prices are missing, that of the lone space and that of the number 3
# (15 s).


# %%
@torch.no_grad()
def label_cost(row_of):
    """Nats for a whole label and its end behind the untrained start, mean of 16 rows."""
    part = task.validation[:16]
    rows = [row_of(*row) for row in zip(part["Tweet text"], part["text_label"], strict=True)]
    model = new_model(base, tokenizer, task)
    tokens = sum(len(target) for _, target in rows)
    return model.loss(*as_tensors(rows, model)).item() * tokens / len(rows)


nats = label_cost(tutorial_row), label_cost(lambda text, label: task.encode(tokenizer, text, label))
asked = [f"Tweet text : {text} Label : " for text in task.validation["Tweet text"][: min(ROWS, 24)]]
asked = tokenizer(asked, padding=True, return_tensors="pt")
written = tutorial.generate(**asked, max_new_tokens=10, do_sample=False, eos_token_id=3)
new = written[:, asked["input_ids"].shape[1] :]
written = tokenizer.batch_decode(new, skip_special_tokens=True)
going_on = sum(text.strip() not in task.labels for text in written)
lost = sum(not target for _, target in train_rows)
gap, above = 100 * (seeds["train"] - seeds["test"]).mean(), 100 * (seeds["test"].mean() - majority)
print("\n".join(map(repr, written[:3])))

# %% [markdown]
# All prices together:

# %%
prices = {
    "d  graded on its training rows": f"{gap:.0f} points too many",
    "   test labels hidden, no majority": f"{above:.0f} points above it, and nobody knew",
    "   no seed": f"{seeds['test'].min():.1%} to {seeds['test'].max():.1%}, by seed",
    "c  the template ends in a space": f"the label costs {nats[0]:.1f} nats, not {nats[1]:.1f}",
    "b  [:max_length]": f"{lost} of 50 rows teach nothing",
    "a  eos_token_id=3": f"{going_on} of {len(written)} answers go on and on",
    "g  ten epochs, no held-out curve": "not known; patient 4 shows what it can be",
}
pd.Series(prices, name="price on smollm2").to_frame()

# %% [markdown]
# The number 3 is bloomz's padding token, which the tutorial also puts behind its labels; on another base it means
# something else.
#
# ### No fault of the tutorial: pads between prompt and text
#
# The tutorial pads on the left, and PEFT puts the prompt in front of the pads. For bloomz that is harmless, because
# it counts positions from the mask. On models with position numbers, such as `smollm2`, it is not (chapter 02). The
# price in exact match: patient 7's prompts in PEFT, in batches of 80 words, and padded to 64 tokens as the tutorial
# pads (40 s).


# %%
def write_in_peft(twin, run, length):
    """What PEFT writes behind each test word, padded on the left to `length`, or to the longest."""
    twin.prompt_encoder["default"].embedding.weight.data.copy_(run.model.prompt)
    words = [f"{word} ->" for word in run.task.test["word"][:ROWS]]
    padding = {"padding": "max_length", "max_length": length} if length else {"padding": True}
    asked = tokenizer(words, return_tensors="pt", padding_side="left", **padding)
    end = tokenizer.eos_token_id
    written = twin.generate(**asked, max_new_tokens=8, do_sample=False, eos_token_id=end)
    new = written[:, asked["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


# %% [markdown]
# Count right answers over all three skills.

# %%
warnings.filterwarnings("ignore")  # from inside PEFT
config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
twin = peft.get_peft_model(base, config).eval()
runs = list(skills.values())
texts = {
    "text behind its prompt": list(notebook.values()),
    "PEFT, batches of 80 words": [write_in_peft(twin, run, None) for run in runs],
    "PEFT, padded to 64": [write_in_peft(twin, run, 64) for run in runs],
}
words = sum(map(len, notebook.values()))
right = [sum(exact(*pair) * len(pair[1]) for pair in zip(runs, each, strict=True)) for each in texts.values()]
table = pd.DataFrame({"label": list(texts), "accuracy": [number / words for number in right]})
table[["low", "high"]] = [wilson_interval(round(number), words) for number in right]
plots.accuracy_comparison(
    table, measured=f"exact match, {words} words", title="The same vectors, with pads between prompt and text"
)

# %% [markdown]
# From {{table.accuracy[0]:.0%}} to {{table.accuracy[2]:.0%}}, with the same vectors. *Fix* in PEFT: no padded
# batches, or positions counted from the mask, as this package does.
#
# ## 5 The hard case
#
# With all repaired (whole labels, the space moved, 100 steps, a start that names the labels), how good does the
# prompt become on the 400 test rows?

# %%
trained = tests.loc["trained"].assign(label=[f"repaired, seed {n}" for n in range(3)], kind="repaired")
wording = tests.loc[["wording"]].nlargest(1, "validation").assign(label="best of ten wordings", kind="words")
examples = tests.loc[["16 examples"]].head(1).assign(label="16 examples in front", kind="words")
old = seeds.rename(columns={"test": "accuracy", "test low": "low", "test high": "high"})
old = old.assign(label=[f"tutorial, seed {n}" for n in range(3)], kind="tutorial")
reach = sum(trained["low"] < majority)
on_tweets = pd.read_csv("tables/tweets.csv").groupby("kind")["accuracy"].mean()["trained"]
every = pd.concat([wording, examples, old, trained]).reset_index(drop=True)
plots.accuracy_comparison(
    every, majority, "test accuracy, n = 400", title="complaints: repaired, and still hard"
)

# %% [markdown]
# {{trained["accuracy"].mean():.1%}} on average, and the interval of {{reach}} seed of 3 reaches the majority. The
# same settings reach {{on_tweets:.1%}} on the tweets. Fifty messages with irony are too few for this small base, and
# no repair changes that. The repairs give you a number that you can believe.
#
# ## Summary
#
# - A symptom has several causes; choose the test that separates them. Has the prompt moved, has the base, does the
#   loss equal another implementation's?
# - Only three of eight training losses looked wrong. Look at held-out accuracy beside the majority, and at what
#   the model writes.
# - The end token comes from the tokenizer; white space at a template's end belongs to the answer; a long text is cut,
#   never a label. Split before you multiply rows.
# - A published notebook is a hypothesis: replay it with held-out rows, a majority and three seeds.
#
# The next chapter saves a run that you trust, and asks what stands in the files.

# %% [markdown]
# ## Exercises
#
# Exercises 05-1 to 05-3 stand in the text. For a hint run `course.hint("05-4")` in a cell of its own.

# %% [markdown]
# ### Exercise 05-4: The seed lottery
#
# Patient 4's skill, `urgent`, on `tiny`. Choose at least four seeds and from 30 to 100 steps, and train a prompt for
# each seed, about 10 s a run. Then write one sentence that the numbers support, with the lowest and the highest
# accuracy: what would you have reported with one seed?

# %%
import softprompt_lab as lab


def accuracy(seed, steps, rows=200):
    """Held-out accuracy of one run."""
    base, tokenizer = lab.load_base_model("tiny")
    task = lab.load_task("shop", label_column="urgent")
    config = lab.PromptTuningConfig(8, prompt_tuning_init_text=task.instruction)
    model = lab.SoftPromptModel(base, config, tokenizer=tokenizer)
    lab.train(model, task, steps=steps, seed=seed, progress=False)
    return lab.evaluate(model, task, limit=rows).accuracy


### BEGIN SOLUTION
accuracies = {n: accuracy(n, steps=40) for n in range(4)}
low, high = min(accuracies.values()), max(accuracies.values())
sentence = f"With 40 steps four seeds reach {low:.1%} to {high:.1%}, so one seed tells next to nothing."
answer = {"accuracies": accuracies, "sentence": sentence}
### END SOLUTION
print(answer)

# %% [markdown]
# The check looks at your seeds and at the numbers in your sentence.

# %%
from softprompt_lab import course

course.check("05-4", answer)

# %% [markdown]
# ### Exercise 05-5: A contaminated test set
#
# A prompt is right on 80 % of the rows it was trained on and on 56 % of new ones. Somebody's test set of 200 rows
# holds, by mistake, 50 training rows. Predict the accuracy that will be reported, as a fraction, before you work it
# out with code.

# %%
### BEGIN SOLUTION
reported = (50 * 0.80 + 150 * 0.56) / 200
### END SOLUTION
print(reported)

# %% [markdown]
# A quarter of known rows is enough to turn "no better than guessing" into something that gets published.

# %%
from softprompt_lab import course

course.check("05-5", reported)

# %% [markdown]
# ## Sources
#
# - *llm-action*, its author's collection of notebooks (2023): the tutorial on prompt tuning that this course grew
#   from.
# - Hugging Face PEFT, example notebook `peft_prompt_tuning_clm.ipynb`: 50 epochs.
# - Alex et al. 2021, *RAFT*, arXiv 2109.14076: the data, with hidden test labels.
# - Kaufman, Rosset, Perlich 2012, *Leakage in Data Mining*, ACM TKDD 6(4).
# - Dodge et al. 2020, arXiv 2002.06305: how much a seed decides.
# - Lester, Al-Rfou, Constant 2021, arXiv 2104.08691: small bases are the weak ones.
