# %% [markdown]
# # 05 The clinic
#
# **What is wrong with this run?**
#
# Three people replay one tutorial on prompt tuning, on our base and our data (section 4), each with another seed. The
# figure grades each prompt twice: on the 50 messages that it was trained on, and on 400 that it never saw.
#
# You will be able to
# - name the faults that can cause a symptom, and the test that decides between them;
# - repair a cut label, a lone space and a wrong end token;
# - replay a published tutorial on another base, and tell what its faults cost there.

# %%
import pandas as pd

from softprompt_lab import plots

seeds = pd.read_csv("tables/tutorial.csv")  # measured before: benchmarks/tutorial.py
tests = pd.read_csv("tables/complaints.csv").set_index("kind")  # and benchmarks/tasks.py
majority = tests.loc["majority", "accuracy"]
parts = {"train": "its 50 training rows", "test": "400 new rows"}
known, new = [
    seeds[[part, f"{part} low", f"{part} high"]]
    .set_axis(["accuracy", "low", "high"], axis=1)
    .assign(label=[f"seed {seed}, {kind}" for seed in seeds["seed"]], kind=kind)
    for part, kind in parts.items()
]
graded_twice = pd.concat([known, new], ignore_index=True)
plots.accuracy_comparison(graded_twice, majority, title="The same three prompts, graded twice")

# %% tags=["check"]
assert (new["low"] < majority).tolist() == [False, True, True]
assert seeds["loss 10"].max() < 0.05 * seeds["loss 1"].min()

# %% [markdown]
# The upper three dots would be reported as a success, and the training loss agrees: on average it falls from
# {{seeds["loss 1"].mean():.1f}} nats a token in the first epoch to {{seeds["loss 10"].mean():.2f}} in the last. Of the
# lower three one lies a little above the dotted line (always saying the commoner answer), two cannot be told from it.
#
# ## 1 The list on the wall
#
# Each patient has one of these faults; two are not present today.

# %%
faults = {
    "a": "training and generation end on different tokens",
    "b": "a cut at the maximum length takes the label",
    "c": "the question ends with the answer's first space",
    "d": "the rows measured are copies of rows trained on",
    "e": "the optimizer holds another prompt",
    "f": "the learning rate is far too small",
    "g": "the run is stuck where other seeds go on",
    "h": "the loss compares each output with its own input",
    "i": "the base model was trained too",
    "j": "the labels are wrong",
}
pd.Series(faults, name="fault").to_frame()

# %% [markdown]
# Most patients train in seconds.

# %% tags=["setup"]
import dataclasses
import math
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
# These numbers decide how long the chapter takes:

# %% tags=["setup", "parameters"]
STEPS = 40  # of a patient on tiny
LONGER = 60  # of patient 4
EPOCHS = 10  # of the tutorial
ROWS = 200  # behind each accuracy

# %% tags=["fast"]
STEPS, LONGER, EPOCHS, ROWS = 3, 4, 1, 8

# %% [markdown]
# Most patients use the base model `tiny`: {{sum(weight.numel() for weight in tiny.parameters()):,}} numbers, trained by
# the course on an invented language of messages to a shop. Two labels are your tasks, `shop` (a complaint?) and
# `urgent`:

# %%
for row, hurry in zip(shop.train.select(range(2)), urgent.train["text_label"][:2], strict=True):
    print(f"{row['Tweet text']}\n   complaint: {row['text_label']}, urgent: {hurry}\n")

# %% [markdown]
# The loop is chapter 04's without clipping; the faults come from outside.


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
# You may skip these:


# %%
def deal(task, steps, seed=0):
    """Shuffled batches of eight rows for tiny."""
    return list(batches(encode_training_rows(task, tiny_tokenizer), 8, steps, seed))


def measured(label, model, task, split="test"):
    """A line of a figure: the accuracy on at most ROWS rows, with its interval."""
    found = evaluate(model, task, split, limit=ROWS)
    low, high = found.confidence_interval
    found = {"accuracy": found.accuracy, "low": low, "high": high, "majority": found.majority_baseline}
    return {"label": label} | found


def draw(curves, title):
    """Losses by name as lines."""
    lines = [pd.DataFrame({"kind": name, "loss": each}) for name, each in curves.items()]
    table = pd.concat(line.assign(step=line.index + 1) for line in lines)
    return plots.curves_figure(table, "step", {"loss": "loss (nats a token)"}, title=title)


# %% [markdown]
# ## 2 Five diagnoses
#
# ### Patient 1: the flat line
#
# "It trains without an error, and the loss does not fall." The patient's notebook (4 s):

# %%
model = new_model(tiny, tiny_tokenizer, shop)
optimizer = adamw(model)
model = new_model(tiny, tiny_tokenizer, shop)
start = model.prompt.detach().clone()
curves = {"patient 1": fit(model, optimizer, deal(shop, STEPS))}
plots.training_curve(curves["patient 1"], title="Patient 1: no learning to be seen")

# %% [markdown]
# After your vote two other prompts are trained (8 s).

# %%
course.vote("05-a")
healthy, crawling = (new_model(tiny, tiny_tokenizer, shop) for _ in range(2))
curves["healthy"] = fit(healthy, adamw(healthy), deal(shop, STEPS))
curves["rate 3e-5"] = fit(crawling, adamw(crawling, rate=3e-5), deal(shop, STEPS))
moved = dict(zip(curves, (model, healthy, crawling), strict=True))
moved = {name: (each.prompt - start).norm().item() for name, each in moved.items()}
print(pd.Series(moved, name="how far the prompt moved").map("{:.4f}".format).to_frame())
print("patient 1's optimizer holds patient 1's prompt:", optimizer.param_groups[0]["params"][0] is model.prompt)
draw(curves, "Two flat lines, of two causes")

# %% tags=["check"]
assert torch.equal(model.prompt, start)
assert optimizer.param_groups[0]["params"][0] is not model.prompt
assert moved["patient 1"] == 0 < moved["rate 3e-5"] < 0.05 * moved["healthy"]
ends = {name: sum(losses[-10:]) / 10 for name, losses in curves.items()}
assert ends["healthy"] < 0.5 * min(ends["patient 1"], ends["rate 3e-5"])

# %% [markdown]
# It is **fault e**: the optimizer holds the first model's prompt, and the second model has another. A rate meant for
# full fine-tuning (fault f) is as flat, but there the prompt moves. *Fix*: build the optimizer directly before the
# loop.
#
# ### Patient 2: a beautiful curve
#
# A loss written by hand: `model(...)` returns logits in line with the tokens, so both are flattened and compared (6 s).


# %%
def loss_by_hand(model, ids, mask, labels):
    """Cross-entropy of the labels."""
    logits = model(ids, mask).logits  # (B, T, V)
    return cross_entropy(logits.flatten(0, 1), labels.flatten())


second = new_model(tiny, tiny_tokenizer, shop)
losses = fit(second, adamw(second), deal(shop, STEPS), loss_by_hand)
plots.training_curve(losses, title=f"Patient 2: the loss falls from {losses[0]:.1f} to {losses[-1]:.1f}")

# %% [markdown]
# And the accuracy on messages that the prompt never saw (5 s)?

# %%
course.vote("05-b")
rows = [measured("healthy", healthy, shop), measured("patient 2", second, shop)]
plots.accuracy_comparison(rows, rows[0]["majority"], title="What the two prompts are worth on new messages")

# %% [markdown]
# It is **fault h**. The logits at a token predict the *next* one; this loss asks them for the token that stands there.
# *Fix*: shift by one, test the loss against another implementation's, and train again (6 s):


# %%
def shifted_loss(model, ids, mask, labels):
    """Cross-entropy of each label, from the logits one token before it."""
    logits = model(ids, mask).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


batch = as_tensors(deal(shop, 1)[0], second)
for loss_of in (loss_by_hand, shifted_loss):
    difference = abs(loss_of(second, *batch) - second.loss(*batch)).item()
    print(f"{loss_of.__name__}: difference from the package's loss {difference:.1e}")
ids, mask, labels = batch
best = second(ids, mask).logits.argmax(-1)  # at each token
print("labels:   ", tiny_tokenizer.decode(labels[labels != -100]))
print("patient 2:", tiny_tokenizer.decode(best[labels != -100]))
again = new_model(tiny, tiny_tokenizer, shop)
fit(again, adamw(again), deal(shop, STEPS), shifted_loss)
repaired = measured("repaired", again, shop)["accuracy"]
print(f"repaired: {repaired:.1%} on new messages")

# %% tags=["check"]
assert difference < 1e-4
assert repaired > 0.9
assert set(tiny_tokenizer.decode(best[labels != -100]).replace("<eos>", " ").split()) == {"no"}
assert rows[0]["accuracy"] > 0.9
assert abs(rows[1]["accuracy"] - rows[1]["majority"]) < 0.05
assert losses[-1] < 0.2 * losses[0]

# %% [markdown]
# Where a label stands patient 2 says *no*, whatever the label: it has learned what comes often.
#
# ### Patient 3: gone after a restart
#
# An error said "element 0 of tensors does not require grad"; someone in a forum gave a line that removes it. All is
# well until a restart (10 s).

# %%
own_base, _ = load_base_model("tiny")
third = new_model(own_base, tiny_tokenizer, urgent)
third.requires_grad_(True)  # the forum's line
fit(third, adamw(third, rate=1e-3), deal(urgent, STEPS))
today = measured("today, in this notebook", third, urgent)
print(f"held-out accuracy {today['accuracy']:.1%}")

# %% [markdown]
# The saved prompt goes in front of a fresh base (3 s).

# %%
course.vote("05-c")
restarted = new_model(tiny, tiny_tokenizer, urgent)
with torch.no_grad():
    restarted.prompt.copy_(third.prompt)
tomorrow = measured("tomorrow, from the file", restarted, urgent)
control = measured("today, an untrained prompt", new_model(own_base, tiny_tokenizer, urgent), urgent)
plots.accuracy_comparison([today, tomorrow, control], today["majority"], title="Patient 3, before and after a restart")

# %% tags=["check"]
assert today["accuracy"] > 0.85
assert abs(tomorrow["accuracy"] - today["majority"]) < 0.07
assert control["accuracy"] > today["accuracy"] - 0.05

# %% [markdown]
# It is **fault i**. The line unfroze every weight, and at this rate the base did the learning: it is right on
# {{control["accuracy"]:.1%}} even behind an untrained prompt. Chapter 04's hash of the weights finds the fault. *Fix*:
# freeze the base, and find out why the prompt had no gradient.
#
# ### Patient 4: one answer for everything
#
# "After {{LONGER}} steps it writes perfect labels, always the same one." Beside this patient, on `urgent`, stand three
# runs that differ from it in one thing each (20 s).

# %%
runs = {  # seed, rate, steps
    "patient 4": (3, 0.03, LONGER),
    "twice the steps": (3, 0.03, 2 * LONGER),
    "a third of the rate": (3, 0.01, LONGER),
    "another seed": (0, 0.03, LONGER),
}
curves, found = {}, {}
for name, (seed, rate, steps) in runs.items():
    model = new_model(tiny, tiny_tokenizer, urgent)
    curves[name] = fit(model, adamw(model, rate), deal(urgent, steps, seed))
    on_new = evaluate(model, urgent, limit=ROWS)
    answers = on_new.predictions["prediction"].value_counts()
    on_old = evaluate(model, urgent, "train", limit=ROWS).accuracy
    accuracies = {"training rows": on_old, "new rows": on_new.accuracy, "written exactly": on_new.exact_match}
    found[name] = {key: f"{value:.1%}" for key, value in accuracies.items()} | dict(answers)
print(pd.DataFrame(found).T.fillna(0))
two = {name: curves[name] for name in ("patient 4", "another seed")}
draw(two | {"a coin between two labels": [0.5 * math.log(2)] * LONGER}, "Only one seed leaves the plateau")

# %% tags=["check"]
stuck, longer, slower, left = (
    {key: float(str(each).strip("%")) for key, each in one.items()} for one in found.values()
)
assert stuck["no"] >= 0.95 * ROWS
assert stuck["written exactly"] == stuck["new rows"]
assert max(stuck["training rows"], longer["new rows"]) < 60
assert slower["new rows"] < 70
assert left["new rows"] > 95
assert sum(curves["patient 4"][-20:]) / 20 > 0.7

# %% [markdown]
# It is **fault g** (n = {{on_new.n}}, majority {{on_new.majority_baseline:.1%}}), by exclusion: the same rows and
# rate work with another seed. The loss stays where it began, above even a coin's (ln 2 for a label, nothing for its
# end). The other seed's plateau ended suddenly; here neither more steps nor a smaller rate was enough. It fails on
# training rows too, so it has not learned them by heart. *Fix*: other seeds (exercise 05-4).
#
# ### Patient 5: too good
#
# Fifty messages are few, so this patient wrote four variants of each and kept these back to measure on. The task is the
# hard `complaints`: the best of ten wordings reaches
# {{tests.loc[["wording"]].nlargest(1, "validation")["accuracy"].item():.1%}} (30 s).

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
leak = [
    measured("200 variants, kept back", run.model, kept_back, "validation"),
    measured("rows from somewhere else", run.model, complaints, "test"),
]
plots.accuracy_comparison(leak, majority, title="Patient 5: a measurement to be proud of?")

# %% tags=["check"]
assert leak[0]["accuracy"] > leak[1]["accuracy"] + 0.1
assert leak[1]["low"] < majority

# %% [markdown]
# It is **fault d**, leakage: each row measured is a copy of one trained on. On other rows {{leak[0]["accuracy"]:.0%}}
# becomes {{leak[1]["accuracy"]:.0%}}, not clearly more than the majority. Suspect an accuracy far above all else known
# of a task, or above a human rater's. *Fix*: split first, then multiply.
#
# ## 3 Three patients for you
#
# Now you name the letter and repair the function.
#
# ### Patient 6: not a number
#
# This loss is a mean over rows of means over their labels. Rows are cut at 40 tokens, and for some steps all goes well
# (5 s).


# %%
def loss_by_message(model, ids, mask, labels):
    """The mean loss of each message's label, averaged over the messages."""
    log_probs, labels = model(ids, mask).logits[:, :-1].log_softmax(-1), labels[:, 1:]
    counts = labels != -100  # -100: no label here
    each = -log_probs.gather(2, labels.clamp(min=0)[..., None])[..., 0]  # (B, T)
    return ((each * counts).sum(1) / counts.sum(1)).mean()


def cut_at(row, length=40):
    """Context and label of a row, of which the first `length` ids are kept."""
    context, label = row
    return context[:length], label[: max(0, length - len(context))]


sixth = new_model(tiny, tiny_tokenizer, shop)
cut_batches = [[cut_at(row) for row in batch] for batch in deal(shop, STEPS)]
losses = fit(sixth, adamw(sixth), cut_batches, loss_by_message)
print([round(loss, 2) for loss in losses[:12]])
finite = int(sixth.prompt.isfinite().sum())
print(f"of the prompt's {sixth.prompt.numel()} numbers, {finite} are still numbers")

# %% tags=["check"]
assert finite == 0
assert losses[5] == losses[5]

# %% [markdown] tags=["exercise"]
# ### Exercise 05-1: Patient 6
#
# Which letter? Then write the function that would have kept the patient healthy. A row is `before + text + after +
# label`, lists of ids, where `before` and `after` are the template. Return context and label, together at most
# `max_length` ids, with only the *text* cut, at its end. Template and label always fit; where nothing else does, no
# text is kept.


# %% tags=["exercise"]
### BEGIN SOLUTION
fault = "b"
### END SOLUTION


def cut(before, text, after, label, max_length):
    """(context, label), together at most max_length ids."""
    ### BEGIN SOLUTION
    room = max(0, max_length - len(before) - len(after) - len(label))
    return before + text[:room] + after, label
    ### END SOLUTION


answer = fault, cut

# %% [markdown] tags=["exercise"]
# The check sends short and long messages, with much, little and no room.

# %% tags=["exercise"]
from softprompt_lab import course

course.check("05-1", answer)

# %% [markdown]
# A mean over no label is 0/0, and so is its gradient: one such row, and no number of the prompt is left. With a mean
# over the batch the row teaches nothing, and nobody is told.
#
# ### Patient 7: healthy in the notebook, ill in the app
#
# Three prompts of the zoo (trained prompts that come with the course) answer held-out words, once as the notebook asks
# and once as the app does (15 s).


# %%
def write(model, questions, end, **padding):
    """What a model writes behind each question, until the token `end`."""
    asked = tokenizer(questions, return_tensors="pt", **{"padding": True} | padding)
    written = model.generate(**asked, max_new_tokens=8, do_sample=False, eos_token_id=end)
    new = written[:, asked["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


def exact(run, written):
    """The share of answers that are the right word and nothing else."""
    return sum(map(str.__eq__, written, run.task.test["text_label"])) / len(written)


def questions(run, template="{} ->"):
    """The template filled with each test word."""
    return [template.format(word) for word in run.task.test["word"][:ROWS]]


# %% [markdown]
# Exact answers:

# %%
names = ("words-past", "words-antonym", "words-plural")
skills = {name: zoo.load(name, base, tokenizer) for name in names}
end = tokenizer.eos_token_id
notebook = {name: write(run.model, questions(run, "{} ->"), end) for name, run in skills.items()}
app = {name: write(run.model, questions(run, "{} -> "), end) for name, run in skills.items()}
ways = {"notebook": notebook, "app": app}
wrote = {way: {n: exact(skills[n], texts[n]) for n in names} for way, texts in ways.items()}
print(pd.DataFrame(wrote).map("{:.1%}".format))
words = skills["words-past"].task.test["word"][:6]
pd.DataFrame({"word": words, "notebook": notebook["words-past"][:6], "app": app["words-past"][:6]})

# %% tags=["check"]
assert len(notebook["words-past"]) == 80
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
    """Two strings; white space at the template's end stands where the base met it in pretraining."""
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
# One space at the end of a question costs {{100 * min(wrote["notebook"][n] - wrote["app"][n] for n in names):.1f}} to
# {{100 * max(wrote["notebook"][n] - wrote["app"][n] for n in names):.1f}} points ({{len(notebook[names[0]])}} words a
# skill). The vocabulary holds most words together with the space before them: ` walked` is one token, and a lone
# space before a bare `walked` is rare.
#
# ### Patient 8: it does not stop
#
# Now with a number copied from a tutorial for another model (3 s).

# %%
past = skills["words-past"]
rambling = write(past.model, questions(past), 3)
print("exact:", exact(past, rambling))
print("token 3 here is", repr(tokenizer.decode([3])))
asked = tokenizer(questions(past)[0], return_tensors="pt")
raw = past.model.generate(**asked, max_new_tokens=4, do_sample=False, eos_token_id=3)
print("with special tokens:", repr(tokenizer.decode(raw[0])))
pd.DataFrame({"word": words, "notebook": notebook["words-past"][:6], "now": rambling[:6]})

# %% tags=["check"]
assert tokenizer.eos_token in tokenizer.decode(raw[0])
assert exact(past, rambling) < 0.1

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
# The prompt did write its end token, `{{tokenizer.eos_token}}`, but nobody waited for it. A token's number means
# something in one vocabulary only.
#
# The tests of this chapter, by symptom:

# %%
symptoms = [
    ("flat loss", "e, f", "how far did the prompt move? 0: e, little: f"),
    ("flat loss", "g", "does another seed learn?"),
    ("flat loss", "j", "read twenty rows with their labels"),
    ("falling loss, no better answers", "h", "does the loss equal another's?"),
    ("gone after a restart", "i", "hash the base before and after"),
    ("falling loss, training rows right, new ones not", "", "fewer steps or more rows: learned by heart?"),
    ("too good", "d", "search the measured rows in the training rows"),
    ("NaN, or no effect of long rows", "b", "count the rows whose label is cut"),
    ("wrong words", "c", "print repr(question), in training and in use"),
    ("no end", "a", "print the end token, in training and in use"),
]
pd.DataFrame(symptoms, columns=["symptom", "fault", "test"]).set_index("symptom")

# %% [markdown]
# A good place to stop. When you come back, choose *Run All Above* first.
#
# ## 4 The tutorial, replayed on another base
#
# This course grew from a notebook on prompt tuning with PEFT (see Sources). Its settings: `bloomz-560m`; the 50
# labelled rows of RAFT's `twitter_complaints`; 8 virtual tokens that start as "Classify if the tweet is a complaint
# or not:"; rows cut to 64 tokens; AdamW at 3e-2, falling to 0; batches of 8; ten epochs; answers are written until
# token 3. Here the base is `smollm2`, the loop ours, and `complaints` made after RAFT's pattern, with test labels.
# You will recognise patients 6 and 7 in how it encodes a row:

# %%
TEXT, LONGEST = "Classify if the tweet is a complaint or not:", 64
task = dataclasses.replace(complaints, instruction=TEXT)


def tutorial_row(text, label):
    """Context and target ids of a row, cut at 64 tokens."""
    context = tokenizer(f"Tweet text : {text} Label : ")["input_ids"]
    target = tokenizer(label)["input_ids"] + [tokenizer.pad_token_id]
    return context[:LONGEST], target[: max(0, LONGEST - len(context))]


pairs = zip(task.train["Tweet text"], task.train["text_label"], strict=True)
train_rows = [tutorial_row(*pair) for pair in pairs]
lost = sum(not target for _, target in train_rows)
half = sum(target[-1:] != [tokenizer.pad_token_id] for _, target in train_rows) - lost
print(f"rows that lost their whole label: {lost}, only a part of it: {half}")

# %% [markdown]
# Train it (75 s), with a seed, which the tutorial lacks.

# %%
generator = torch.Generator().manual_seed(0)
order = [torch.randperm(50, generator=generator).split(8) for _ in range(EPOCHS)]
epochs = [[train_rows[row] for row in chosen] for epoch in order for chosen in epoch]
tutorial = new_model(base, tokenizer, task)
losses = fit(tutorial, adamw(tutorial, weight_decay=0.01), epochs)  # PyTorch's own decay
plots.training_curve(losses, title="The tutorial's training loss, on smollm2")

# %% [markdown]
# Its evaluation runs over the training rows, because RAFT hides its test labels (5 s).


# %%
def graded(split, rows):
    """A line of a figure: accuracy in the tutorial's own encoding, ranked between the two labels."""
    part = task.split(split)[:rows]
    targets = [Target.of(tutorial_row("", label)[1]) for label in task.labels]
    examples = [Example(tutorial_row(text, "")[0], targets) for text in part["Tweet text"]]
    scores, _, _ = score_labels(tutorial, [tutorial.prompt.detach()], examples)
    chosen = [task.labels[best] for best in scores.argmax(axis=1)]
    right = sum(map(str.__eq__, chosen, part["text_label"]))
    low, high = wilson_interval(right, len(chosen))
    return {"label": f"{split} rows", "accuracy": right / len(chosen), "low": low, "high": high}


on_train = graded("train", 50)
print(f"accuracy {on_train['accuracy']:.1%} on the 50 rows that it was trained on")

# %% [markdown]
# Now on {{2 * ROWS}} new messages (40 s). Do you get the first figure's number for seed 0?

# %%
on_test = graded("test", 2 * ROWS)
plots.accuracy_comparison([on_train, on_test], majority, title="The tutorial's prompt, graded by you")

# %% tags=["check"]
assert on_train["accuracy"] > on_test["accuracy"] + 0.1
assert abs(on_test["accuracy"] - seeds["test"][0]) < 0.03
assert abs(seeds["test"].mean() - majority) < 0.05

# %% [markdown]
# The first figure has {{seeds["test"][0]:.1%}}: a seed does not fix the rounding of another session. Two prices are
# missing, of the lone space and of the end token (15 s).


# %%
@torch.no_grad()
def label_cost(row_of):
    """Nats for a whole label and its end behind the untrained start, mean of 16 rows, none of them cut."""
    part = task.validation[:16]
    rows = [row_of(*pair) for pair in zip(part["Tweet text"], part["text_label"], strict=True)]
    loss = new_model(base, tokenizer, task).loss(*as_tensors(rows, tutorial)).item()
    return loss * sum(len(target) for _, target in rows) / len(rows)


course.vote("05-d")
nats = label_cost(tutorial_row), label_cost(lambda text, label: task.encode(tokenizer, text, label))
asked = [f"Tweet text : {text} Label : " for text in task.validation["Tweet text"][:16]]
written = {end: write(tutorial, asked, end) for end in (3, tokenizer.pad_token_id)}
going_on = [sum(text not in task.labels for text in texts) for texts in written.values()]
gap = 100 * (seeds["train"] - seeds["test"]).mean()
print(f"{going_on[0]} of {len(asked)} answers go on behind the label, for example")
print("\n".join(map(repr, written[3][:3])))

# %% tags=["check"]
assert going_on[0] > 13 > 3 > going_on[1]
assert nats[0] > nats[1] + 1
first = task.validation.select(range(16))
assert all(tutorial_row(row["Tweet text"], row["text_label"])[1][-1:] == [tokenizer.pad_token_id] for row in first)

# %% [markdown]
# All prices together, on `smollm2` and our data:

# %%
spread = f"{seeds['test'].min():.1%} to {seeds['test'].max():.1%}, spread of three runs"
prices = [
    ("d", "evaluated on its training rows", f"{gap:.0f} points too many"),
    ("", "test labels hidden, no majority", "not clearly above it (2 of 3 seeds)"),
    ("", "no seed", spread),
    ("b", "[:max_length]", f"{lost} of 50 rows teach nothing"),
    ("c", "the template ends in a space", f"untrained, a label costs {nats[0]:.1f} nats, not {nats[1]:.1f}"),
    ("", "ten epochs, no held-out curve", "not known, since nothing shows it"),
    ("a", "our change of base: eos_token_id=3", f"{going_on[0]} of {len(asked)} answers go on, not {going_on[1]}"),
]
pd.DataFrame(prices, columns=["fault", "what", "price"]).set_index("fault")

# %% [markdown]
# The last line is no fault of the tutorial: 3 is bloomz's padding token, which it puts behind its labels and waits for.
# What the space costs *after* training is not measured.
#
# ### No fault of the tutorial: pads between prompt and text
#
# The tutorial pads on the left, and PEFT puts the prompt in front of the pads, which count as positions on
# `smollm2` (chapter 02; not on bloomz): the text stands further from its prompt than in training.
# Patient 7's prompts, trained without pads, show the price (40 s).

# %%
warnings.filterwarnings("ignore")  # from inside PEFT
config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
twin = peft.get_peft_model(base, config).eval()
ways = {
    "PEFT, padded to the longest of 80 words": {"padding": True},
    "PEFT, padded to 64 tokens": {"padding": "max_length", "max_length": 64},
}
texts = {"text behind its prompt": [text for each in notebook.values() for text in each]}
texts |= {way: [] for way in ways}
for run in skills.values():
    twin.prompt_encoder["default"].embedding.weight.data.copy_(run.model.prompt)
    for way, padding in ways.items():
        texts[way] += write(twin, questions(run), tokenizer.eos_token_id, padding_side="left", **padding)
truth = [label for run in skills.values() for label in run.task.test["text_label"][:ROWS]]
right = [sum(map(str.__eq__, each, truth)) for each in texts.values()]
table = pd.DataFrame({"label": list(texts), "accuracy": [number / len(truth) for number in right]})
table[["low", "high"]] = [wilson_interval(number, len(truth)) for number in right]
plots.accuracy_comparison(table, None, f"exact match, {len(truth)} words", title="The same vectors before pads")

# %% tags=["check"]
assert table.accuracy[0] > table.accuracy[1] > table.accuracy[2] + 0.3

# %% [markdown]
# The upper dot is this package's reader; between PEFT's two only the pads change, from {{table.accuracy[1]:.0%}} to
# {{table.accuracy[2]:.0%}} in the extreme. The tutorial's tweets have far fewer pads, and a prompt trained with them
# may lose less. *Fix* in PEFT: one text at a time, or texts of equal length.
#
# ## 5 The hard case
#
# With whole labels and the space moved, but also 100 steps and a start that names the labels:

# %%
trained = tests.loc["trained"].assign(label=[f"repaired, seed {n}" for n in range(3)], kind="repaired")
wording = tests.loc[["wording"]].nlargest(1, "validation").assign(label="best of ten wordings", kind="words")
examples = tests.loc["16 examples"].assign(label=[f"16 examples, draw {n}" for n in range(3)], kind="words")
old = new.assign(label=[f"tutorial, seed {n}" for n in range(3)], kind="tutorial")
every = pd.concat([wording, examples, old, trained]).reset_index(drop=True)
on_tweets = pd.read_csv("tables/tweets.csv").groupby("kind")["accuracy"].mean()["trained"]
plots.accuracy_comparison(every, majority, "test accuracy, n = 400", title="complaints: repaired, and still hard")

# %% tags=["check"]
assert 0.02 < trained["accuracy"].mean() - old["accuracy"].mean() < 0.06
assert trained["accuracy"].min() < old["accuracy"].max()
assert sum(trained["low"] < majority) == 1

# %% [markdown]
# {{trained["accuracy"].mean():.1%}} on average, where the tutorial has {{old["accuracy"].mean():.1%}}; the seeds
# overlap, so the gain is not certain, and longer training or the start may have made it. (Patient 5's prompt is also
# a seed 0, on only {{ROWS}} of these rows.) The same settings reach {{on_tweets:.1%}} on the tweets, with 600 rows
# instead of 50. Whether rows, base or labels are the limit here, this figure does not tell.
#
# ## Summary
#
# - A symptom has several causes; choose the test that separates them (the table before section 4).
# - A falling training loss proves little. Look at held-out accuracy beside the majority, and at what the model writes.
# - The end token comes from the tokenizer; white space at a template's end belongs to the answer; a long text is cut,
#   never a label. Split before you multiply rows.
# - Replay a notebook with held-out rows, a majority and three seeds.
#
# The next chapter saves a run that you trust, and asks what stands in the files.

# %% [markdown]
# ## Exercises
#
# Exercises 05-1 to 05-3 stand in the text. For a hint run `course.hint("05-4")` in a cell of its own.

# %% [markdown]
# ### Exercise 05-4: The seed lottery
#
# Patient 4's skill, `urgent`, on `tiny`; `lab.train` clips gradients, so seed 3 need not be stuck here. Choose at
# least four seeds and from 30 to 100 steps, and train a prompt for each seed, about 10 s a run. Then write one
# sentence that the numbers support, with the lowest and the highest accuracy: what would you have reported with one
# seed? Your answer is a dictionary, `{"accuracies": {0: ..., 1: ..., 2: ..., 3: ...}, "sentence": "..."}`, with the
# seeds as keys.

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
# holds, by mistake, 50 of those training rows. Predict the accuracy that will be reported, as a fraction, before you
# work it out with code.

# %%
### BEGIN SOLUTION
reported = (50 * 0.80 + 150 * 0.56) / 200
### END SOLUTION
print(reported)

# %% [markdown]
# Was your guess near it? Now the check.

# %%
from softprompt_lab import course

course.check("05-5", reported)

# %% [markdown]
# ## Sources
#
# - The tutorial that this course grew from: github.com/liguodongiot/llm-action, in the folder `train/peft/clm` the
#   notebook `peft_prompt_tuning_clm.ipynb` (July 2023, commit 27b00a1), after PEFT's example.
# - Alex et al. 2021, *RAFT*, arXiv 2109.14076: the data, with hidden test labels.
# - Kaufman, Rosset, Perlich 2012, *Leakage in Data Mining*, ACM TKDD 6(4).
# - Dodge et al. 2020, arXiv 2002.06305: how much a seed decides.
