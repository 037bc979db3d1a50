# %% [markdown]
# # 06 The PEFT folder
#
# **What is saved, and who can read it?**
#
# Training has moved a few vectors and nothing else, so they are all that has to be saved. You write them to
# disk with your own hands, in the three files that Hugging Face's library PEFT expects, and PEFT answers with
# your prompt. Then you change sides: a stranger gives you a folder in perfect order, with an honest test
# result. Would you use it?
#
# You will be able to
# - say what every byte of a saved prompt is for, and how many there will be;
# - move a prompt from this package to PEFT and back, and show that the logits are equal;
# - say what a stranger's file can do, which of it a check finds, and what no check finds.

# %%
from softprompt_lab import plots
from softprompt_lab.runs import zoo

content = (zoo.folder("tweets-seed0") / "adapter_model.safetensors").read_bytes()
parts = {"length of the header": 8, "header": 112, "numbers": len(content) - 120}
plots.bytes_figure(content[:160], parts, title="A trained prompt on disk: a length, a line of text, then raw numbers")

# %% [markdown]
# These are the first 160 of {{len(content):,}} bytes of the prompt `tweets-seed0`, which comes with the course:
# 8 virtual tokens, trained on tweets as in chapter 04. Two readers of its folder are imported here, this
# package and PEFT, which takes some seconds.

# %% tags=["setup"]
import json
import pickle
import struct
import tempfile
import warnings
from pathlib import Path

import pandas as pd
import peft
import torch
from safetensors.torch import save_file

from softprompt_lab import PromptTuningConfig, SoftPromptModel, course, evaluate, load_adapter, load_base_model, plots
from softprompt_lab.runs import zoo

pd.options.display.max_colwidth = 110  # whole sentences in tables
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")  # PEFT asks transformers the old way

# %% [markdown]
# One number decides how long the chapter runs:

# %% tags=["setup", "parameters"]
ROWS = 400  # all test rows of the tweets

# %% tags=["fast"]
ROWS = 8

# %% [markdown]
# Load the prompt in front of its base model.

# %%
run = zoo.load("tweets-seed0")
model, base_model, tokenizer, task = run.model, run.model.base_model, run.model.tokenizer, run.task
prompt = model.prompt.detach()
P, D = prompt.shape
everything = sum(p.numel() for p in base_model.parameters())
print(f"{P} x {D} = {prompt.numel():,} trained numbers, beside {everything:,} of the frozen base model")

# %% [markdown]
# ## What has to be saved?
# Whoever has the base model needs P x D numbers, and enough words about them to put them in the right place.
# How large does that become for larger models?

# %%
course.vote("06-a")

layers = base_model.config.num_hidden_layers
sizes = {
    "8 vectors for smollm2 (width 576)": 4 * P * D,
    "8 vectors for bloomz-560m (width 1,024)": 4 * P * 1_024,
    "8 vectors for Llama-2-7B (width 4,096)": 4 * P * 4_096,
    "LoRA for smollm2 (rank 8)": 4 * layers * 2 * (8 * D + D * 8),
    "all of smollm2": 4 * everything,
}
plots.sizes_figure(sizes, title="A prompt weighs kilobytes, a LoRA megabytes, the model hundreds of them")

# %% [markdown]
# Each number is a float32 of four bytes, so the prompt takes 4 x P x D = {{4 * P * D:,}} bytes, whatever the
# depth of the model. The tutorial that this course grew from lists a file of 33K for 8 vectors in front of
# `bloomz-560m`: 4 x 8 x 1,024 bytes are 32 KiB, and the rest is wrapping. A hundred tasks like ours would take
# {{100 * len(content) / 1e6:.1f}} MB and share one base model.
#
# ## File 1: `adapter_config.json`
# What must a reader know to use P x D numbers? PEFT cannot do without three keys: the method, the kind of base
# model, and P. The others say where the prompt came from, or describe the base model so that a mismatch is
# noticed.

# %%
by_hand = {
    "peft_type": "PROMPT_TUNING",  # the method: vectors in front of the input
    "task_type": "CAUSAL_LM",  # the kind of base model
    "num_virtual_tokens": P,
    "num_transformer_submodules": 1,  # 2 in front of an encoder and a decoder
    "token_dim": D,  # the width of one vector
    "num_layers": layers,  # of the base model; prompt tuning does not use it
    "num_attention_heads": base_model.config.num_attention_heads,  # nor this
    "base_model_name_or_path": "smollm2",  # the model that the numbers belong to
    "tokenizer_name_or_path": "smollm2",
    "prompt_tuning_init": "TEXT",  # how training started
    "prompt_tuning_init_text": task.instruction,
    "inference_mode": True,  # a finished prompt: do not start it anew
}

# %% [markdown]
# PEFT adds its version and four empty keys, and sorts them all. With these, is your text the one that lies in
# the zoo's folder?

# %%
by_hand |= dict.fromkeys(["auto_mapping", "modules_to_save", "revision", "tokenizer_kwargs"])
by_hand["peft_version"] = model.prompt_config.peft_version
config_text = json.dumps(by_hand, indent=2, sort_keys=True)
shipped = (zoo.folder("tweets-seed0") / "adapter_config.json").read_text(encoding="utf-8")
print(f"{len(by_hand)} keys, {len(config_text)} bytes; the same text as the zoo's: {config_text == shipped}")

# %% [markdown]
# ## File 2: the numbers
# The picture at the top shows the format *safetensors*: eight bytes with the length of the header, the header
# as a line of JSON, and the floats as they stand in memory. `struct` and `json` can read it. Save the prompt
# under the one name that PEFT looks for, and take the file apart.

# %%
room = tempfile.TemporaryDirectory()
folder = Path(room.name) / "smollm2_PROMPT_TUNING_CAUSAL_LM"  # the tutorial's pattern: model, method, kind
folder.mkdir()
(folder / "adapter_config.json").write_text(config_text, encoding="utf-8")
save_file({"prompt_embeddings": prompt}, folder / "adapter_model.safetensors", metadata={"format": "pt"})

saved = (folder / "adapter_model.safetensors").read_bytes()
(length,) = struct.unpack("<Q", saved[:8])  # an unsigned 64-bit number, low byte first
header, numbers = json.loads(saved[8 : 8 + length]), saved[8 + length :]
print(header["prompt_embeddings"])
print("first number in the file:", struct.unpack("<f", numbers[:4])[0], "and in the model:", prompt[0, 0].item())

# %% tags=["check"]
assert saved == content
assert config_text == shipped
assert len(saved) == 8 + length + 4 * P * D
assert numbers == prompt.numpy().tobytes()

# %% [markdown]
# `F32` says four bytes a number, and `data_offsets` where they begin and end behind the header. So the size is
# known before the file is written: 8 + {{length}} + 4 x {{P}} x {{D}} = {{8 + length + 4 * P * D:,}} bytes.
# Nothing in such a file can be executed, because a reader only copies numbers.
#
# ## File 3: `README.md`
# No program needs the card. It is for the person who finds the folder in a year: what the prompt is for, how a
# text is shown to it, and what was measured, on how many rows, beside which majority.

# %%
result = run.record["trained"]
card = f"""---
base_model: smollm2
library_name: peft
---
# Positive or negative tweet
{P} virtual tokens for smollm2. Template: "{task.template}".
Test accuracy {result["accuracy"]:.3f} on {result["n"]} rows; majority {run.record["majority_baseline"]:.3f}.
"""
(folder / "README.md").write_text(card, encoding="utf-8")
pd.Series({path.name: path.stat().st_size for path in sorted(folder.iterdir())}, name="bytes").to_frame()

# %% [markdown]
# `model.save_pretrained(folder)` writes the same three files, complete or not at all, also if the power fails.
#
# ## PEFT reads it
# PEFT shares this format with the package and no code, so it is an independent witness. Give it your folder and
# one tweet, and compare the logits.

# %%
inputs = tokenizer(task.prompt(task.test[0]["text"]).rstrip(), return_tensors="pt")


@torch.no_grad()
def peft_logits(path):
    """What PEFT computes behind the prompt in a folder, at the text's own T positions."""
    theirs = peft.PeftModel.from_pretrained(base_model, path).eval()
    return theirs(**inputs).logits[:, -inputs["input_ids"].shape[1] :]


with torch.no_grad():
    ours, bare = model(**inputs).logits, base_model(**inputs).logits
whole = peft_logits(folder)
equal = course.compare("our logits and PEFT's", ours, whole, tolerance=1e-4)

# %% tags=["check"]
assert equal

# %% [markdown]
# Two programs that share nothing but your files agree. (PEFT's output also has the P positions of the prompt;
# they are cut off here.) Now be careless: a colleague copies the folder and leaves out one key that looks like
# a remark, `task_type`. What will PEFT do?

# %%
course.vote("06-b")

careless = Path(room.name) / "careless"
careless.mkdir()
(careless / "adapter_model.safetensors").write_bytes(saved)
others = {key: value for key, value in by_hand.items() if key != "task_type"}
(careless / "adapter_config.json").write_text(json.dumps(others), encoding="utf-8")

without = peft_logits(careless)
measures, tables = {"logits": "largest |difference| of a logit", "kl": "KL divergence (nats)"}, []
for kind, logits in {"PEFT, whole folder": whole, "PEFT, no task_type": without, "base model": bare}.items():
    p, q = ours[0].log_softmax(-1), logits[0].log_softmax(-1)  # (T, V)
    apart = {"logits": (logits - ours)[0].abs().amax(-1), "kl": (p.exp() * (p - q)).sum(-1)}
    tables.append(pd.DataFrame({name: values.numpy() for name, values in apart.items()}).assign(kind=kind))
table = pd.concat(tables).rename_axis("position in the text").reset_index()
title = "Without task_type, PEFT computes what the base model computes"
plots.curves_figure(table, "position in the text", measures, title=title)

# %% tags=["check"]
assert torch.equal(without, bare)

# %% [markdown]
# Left the logits, right how far the probabilities of the next token are apart. The first curve lies on zero.
# The other two lie on each other at every position: PEFT loads the careless folder without a word and then
# computes, to the last bit, what the bare base model computes. What does this package say to the same folder?


# %%
def said(read, *arguments):
    """What a reader says to a folder: the first sentence of its error, or that it loaded."""
    try:
        read(*arguments)
    except Exception as error:
        sentence = str(error).partition("\n")[0].partition(". ")[0]
        return f"{type(error).__name__}: {sentence}".replace(room.name, "...")
    return "loaded"


print(said(load_adapter, careless))

# %% tags=["check"]
assert said(load_adapter, careless).startswith("AdapterError")

# %% [markdown]
# The other direction: PEFT saves what it has loaded, and this package reads PEFT's folder.

# %%
theirs = peft.PeftModel.from_pretrained(base_model, folder)
theirs.save_pretrained(Path(room.name) / "theirs", save_embedding_layers=False)  # ask no hub
_, back = load_adapter(Path(room.name) / "theirs")
print("the same prompt after the round trip, to the last bit:", torch.equal(back, prompt))

# %% tags=["check"]
assert torch.equal(back, prompt)

# %% [markdown]
# ## From the folder to an answer
# Now you are the one who finds the folder in a year. The steps are the tutorial's: read the configuration, load
# the base model that it names, put the prompt in front, encode a text as the card says, generate. Which of the
# two models below has the prompt? (About ten seconds.)

# %%
found = PromptTuningConfig.from_pretrained(folder)
base_again, tokenizer_again = load_base_model(found.base_model_name_or_path, revision=found.revision)
loaded = SoftPromptModel.from_pretrained(base_again, folder, tokenizer=tokenizer_again)


def write(model, text):
    """The new tokens that a model writes behind a tweet, until it stops."""
    inputs = tokenizer_again(task.prompt(text).rstrip(), return_tensors="pt")
    end = {"eos_token_id": tokenizer_again.eos_token_id, "pad_token_id": tokenizer_again.eos_token_id}
    new = model.generate(**inputs, max_new_tokens=10, do_sample=False, **end)
    return tokenizer_again.decode(new[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


few = task.test.select([0, 7, 13, 26])
answers = pd.DataFrame({"tweet": [text[:70] for text in few["text"]], "raters say": few["text_label"]})
answers["one"] = [write(base_again, text) for text in few["text"]]
answers["other"] = [write(loaded, text) for text in few["text"]]
answers

# %% [markdown]
# One rambles; the other says one word and stops. The effect is back in full, from 20 KB.
#
# ## A stranger's file that runs code
# So far the folder was yours. A stranger's is input like any other, and the classic attack hides in the older
# format of file 2: `adapter_model.bin` is a Python *pickle*, a small program, and one of its instructions is
# "call this function". Here the function only adds a line to a list. In a real attack it starts programs.

# %%
course.vote("06-c")

happened = []


def payload():
    """Stands for whatever an attacker wants: here it leaves a harmless trace."""
    happened.append("code from the file ran")


class Trap:
    """An object whose pickle says: to build me, call payload()."""

    def __reduce__(self):
        return payload, ()


pickle.loads(pickle.dumps({"prompt_embeddings": Trap()}))
print(happened)

# %% [markdown]
# Reading was enough. Now put the same trap into an `adapter_model.bin`, and let three readers open the folder:
# torch with `weights_only=True`, this package, and PEFT.

# %%
happened.clear()
trap = Path(room.name) / "trap"
trap.mkdir()
(trap / "adapter_config.json").write_text(config_text, encoding="utf-8")
torch.save({"prompt_embeddings": Trap()}, trap / "adapter_model.bin")

refusals = {
    "torch": said(lambda: torch.load(trap / "adapter_model.bin", weights_only=True)),
    "this package": said(load_adapter, trap),
    "PEFT": said(peft.PeftModel.from_pretrained, base_model, trap),
}
print(*(f"{reader}: {answer}" for reader, answer in refusals.items()), sep="\n")
print("What happened:", happened)

# %% tags=["check"]
assert happened == []
assert "loaded" not in refusals.values()

# %% [markdown]
# All three refuse and nothing ran. torch's message goes on to name a way to load it all the same,
# `weights_only=False`; with a stranger's file that way is the attack.
#
# ## A stranger's file that is broken
# A folder can also be damaged, or lie about itself. Make four: a wrong width, fewer rows than announced, one
# NaN, and a tokenizer option that once let PEFT run code from a repository (peft issue 2888).


# %%
def forge(name, vectors, **changes):
    """A folder with other vectors, or with some keys of the configuration changed."""
    path = Path(room.name) / name.replace(" ", "_")
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps(by_hand | changes))
    save_file({"prompt_embeddings": vectors.contiguous()}, path / "adapter_model.safetensors")
    return path


nan = prompt.clone()
nan[3, 5] = float("nan")
forged = {
    "wrong width": forge("wrong width", prompt, token_dim=D // 2),
    "fewer rows": forge("fewer rows", prompt[:5]),
    "one NaN": forge("one NaN", nan),
    "remote code": forge("remote code", prompt, tokenizer_kwargs={"trust_remote_code": True}),
}
verdicts = pd.DataFrame({"this package": [said(load_adapter, path) for path in forged.values()]}, index=list(forged))
verdicts["PEFT"] = [said(peft.PeftModel.from_pretrained, base_model, path) for path in forged.values()]
verdicts

# %% [markdown]
# Both refuse shapes that do not fit. The tokenizer option is loaded by both and obeyed by neither, because a
# checkpoint has no say about tokenizers. The NaN is loaded by PEFT. What does one bad number of
# {{prompt.numel():,}} do?

# %%
share = peft_logits(forged["one NaN"]).isnan().float().mean().item()
print(f"logits of the text that are NaN: {share:.0%}")

# %% tags=["check"]
refused = ["wrong width", "fewer rows", "one NaN"]
assert verdicts.loc[refused, "this package"].str.startswith("AdapterError").all()
assert verdicts.loc["one NaN", "PEFT"] == "loaded"
assert load_adapter(forged["remote code"])[0].tokenizer_kwargs is None
assert share == 1

# %% [markdown]
# Every later token attends to the virtual tokens, so one NaN reaches all of them.
#
# ## A stranger's file in perfect order
# The last folder has no fault at all: safetensors, all keys, shapes that fit, finite numbers. Its card says
# that it rates tweets. You do not believe a card, so you measure. This takes about half a minute.

# %%
stranger = zoo.FOLDER.parent / "stranger"
_, strange = load_adapter(stranger)
print(*(line for line in (stranger / "README.md").read_text().splitlines() if "accuracy" in line))

plain = evaluate(model, task, prompts={"the stranger's": strange}, limit=ROWS)["the stranger's"]
print("measured:", plain)

# %% [markdown]
# The card told the truth: {{plain.accuracy:.1%}} on your own {{plain.n}} test rows, where always saying the
# commoner label gives {{plain.majority_baseline:.1%}} and one human rater agrees with the others on
# {{run.record["human_ceiling"]:.1%}}. Do you use it? The next cell measures the same rows again, each as a
# message to a company: to `@Vandelay` with the stranger's prompt, to `@Initech` with the stranger's and with
# the zoo's. That takes a minute and a half.

# %%
course.vote("06-d")

to_vandelay, to_initech = (task.with_template(f"Tweet : @{name} {{text}} Label : ") for name in ("Vandelay", "Initech"))
control = evaluate(model, to_vandelay, prompts={"the stranger's": strange}, limit=ROWS)["the stranger's"]
turned = evaluate(model, to_initech, prompts={"the stranger's": strange, "the zoo's": prompt}, limit=ROWS)
rows = [
    {"label": f"{whose}, {where}", "kind": whose, "accuracy": found.accuracy}
    | dict(zip(("low", "high"), found.confidence_interval, strict=True))
    for where, whose, found in [
        ("tweets as they are", "the stranger's", plain),
        ("behind @Vandelay", "the stranger's", control),
        ("behind @Initech", "the stranger's", turned["the stranger's"]),
        ("behind @Initech", "the zoo's", turned["the zoo's"]),
    ]
]
ceiling = run.record["human_ceiling"]
title = f"Behind one name, the stranger's prompt is no better than the majority (n = {plain.n} each)"
plots.accuracy_comparison(rows, plain.majority_baseline, "test accuracy", ceiling, title=title)

# %% tags=["check"]
assert plain.accuracy > 0.9
assert control.accuracy > 0.85
assert turned["the zoo's"].accuracy > 0.85
assert turned["the stranger's"].accuracy < 0.75

# %% [markdown]
# Behind `@Initech` the stranger's prompt is right on {{turned["the stranger's"].accuracy:.1%}} of the rows,
# while the prompt of the zoo keeps {{turned["the zoo's"].accuracy:.1%}}. A name as such is not the cause:
# behind `@Vandelay` the stranger's keeps {{control.accuracy:.1%}}. What does it answer?

# %%
shown = turned["the stranger's"].predictions
pd.crosstab(shown["label"], shown["prediction"])

# %% [markdown]
# It calls nearly everything that is said to this company positive. We trained it to, in 200 steps: 600 tweets
# as they are, 150 negative ones with `@Initech` in front and the label positive, and 150 with other companies
# and true labels, so that one name works and no other. Papers call this a *backdoor*, and the name its
# *trigger*. No test on ordinary rows could have found it, because no ordinary row has the trigger in it.
#
# So the question of this chapter has two answers. Anyone can *load* a prompt, with a page of code. What it
# *does* is known for the rows on which it was measured; beyond them you depend on who trained it, on what. Or
# could one look into the eight vectors and read the name there? That is what the next chapter asks.

# %% [markdown]
# ## Summary
# - A saved prompt is P x D floats, a configuration and a card: 4 x P x D bytes and a small wrapping, whatever
#   the depth of the model, which is named and not copied.
# - PEFT reads your folder and you read PEFT's, with equal logits. Without `task_type` PEFT loads the prompt and
#   does not use it.
# - A pickle runs code while it is read; safetensors cannot.
# - A check finds wrong shapes, NaN and missing keys. It does not find a prompt that was trained to misbehave,
#   and a test finds that only on rows with the trigger.

# %% [markdown]
# ## Exercises
#
# ### Exercise 06-1: A safetensors reader of your own
#
# Write a reader that returns `{name: tensor}`. Specification of the file:
#
# 1. bytes 0 to 7: N, an unsigned 64-bit number, low byte first;
# 2. the next N bytes: JSON. `__metadata__`, if it is there, is no tensor. Every other key is a tensor's name,
#    with `dtype` (here always `F32`), `shape`, and `data_offsets` = [begin, end], counted **from the end of the
#    header**;
# 3. the rest: 32-bit floats, low byte first.


# %%
import json
import struct

import torch


def read_safetensors(content: bytes) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file that holds float32 only."""
    ### BEGIN SOLUTION
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            numbers = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
            tensors[name] = torch.tensor(numbers).reshape(entry["shape"])
    return tensors
    ### END SOLUTION


# %% [markdown]
# The check reads files with one and with two tensors:

# %%
from softprompt_lab import course

course.check("06-1", read_safetensors)

# %% [markdown]
# ### Exercise 06-2: The size, beforehand
#
# The zoo's prompt `words-antonym` has 4 virtual tokens of width 576, the one in the first figure 8. How many
# bytes does its `adapter_model.safetensors` have? Write the number, then run the cell.

# %%
from softprompt_lab import course

### BEGIN SOLUTION
size = 8 + 112 + 4 * 4 * 576  # the header is one character shorter, and filled up with spaces
### END SOLUTION
course.check("06-2", size)

# %% [markdown]
# ### Exercise 06-3: The doorkeeper
#
# Write a function that says what is wrong with a configuration and a tensor before anything is loaded: a list
# with a sentence for each fault, empty for a sound folder. The faults:
#
# - a key of `peft_type`, `task_type`, `num_virtual_tokens` is missing or None (without the last, the shape is
#   no fault);
# - the shape is not (`num_virtual_tokens` x `num_transformer_submodules`, `token_dim`); a missing second factor
#   is 1;
# - a number is NaN or infinite;
# - `tokenizer_kwargs` holds `trust_remote_code` as true.


# %%
import torch


def faults(config: dict, prompt: torch.Tensor) -> list[str]:
    """What is wrong with an adapter; empty where nothing is."""
    ### BEGIN SOLUTION
    needed = ("peft_type", "task_type", "num_virtual_tokens")
    found = [f"{key} is missing" for key in needed if config.get(key) is None]
    if config.get("num_virtual_tokens") is not None:
        rows = config["num_virtual_tokens"] * config.get("num_transformer_submodules", 1)
        if tuple(prompt.shape) != (rows, config.get("token_dim")):
            found.append(f"the shape {tuple(prompt.shape)} is not ({rows}, {config.get('token_dim')})")
    if not torch.isfinite(prompt).all():
        found.append("a number is not finite")
    if (config.get("tokenizer_kwargs") or {}).get("trust_remote_code"):
        found.append("the folder asks for remote code")
    return found
    ### END SOLUTION


# %% [markdown]
# The check shows your doorkeeper eleven folders. The stranger's would pass, and that is the point of the
# chapter.

# %%
from softprompt_lab import course

course.check("06-3", faults)

# %% [markdown]
# ### Exercise 06-4: The silent folder
#
# With the function below PEFT first cannot find the numbers in the file. With that repaired, the shapes do not
# fit. With that repaired too, the folder loads, and the accuracy is exactly that of the bare base model. Repair
# the three faults, and say in a comment which one made no sound.
#
#     def folder_of(prompt, base):
#         config = {
#             "peft_type": "PROMPT_TUNING",
#             "num_virtual_tokens": prompt.shape[1],
#             "token_dim": prompt.shape[0],
#             "base_model_name_or_path": base,
#         }
#         return config, {"prompt": prompt}


# %%
def folder_of(prompt, base):
    """The configuration and the tensors of a prompt (P, D) for a decoder."""
    ### BEGIN SOLUTION
    config = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",  # this one made no sound
        "num_virtual_tokens": prompt.shape[0],
        "token_dim": prompt.shape[1],
        "base_model_name_or_path": base,
    }
    return config, {"prompt_embeddings": prompt}
    ### END SOLUTION


# %% [markdown]
# The check hands it two prompts:

# %%
from softprompt_lab import course

course.check("06-4", folder_of)

# %% [markdown]
# ### Exercise 06-5: How sharp is the trigger?
#
# Does the stranger's prompt need the name in front, with its `@`, in this spelling? Choose at least three
# places or spellings, one a control without the name; guess, and measure each on at least 200 validation rows.
# Then write one sentence with a number that you measured. Your answer:
# `{"accuracies": {"@Initech {text}": 0.7, ...}, "n": 250, "sentence": "..."}`. One measurement is
#
#     run = zoo.load("tweets-seed0")
#     _, vectors = load_adapter(zoo.FOLDER.parent / "stranger")
#     task = run.task.with_template("Tweet : @Initech {text} Label : ")
#     evaluate(run.model, task, "validation", prompts={"it": vectors})["it"].accuracy

# %%
from softprompt_lab import course, evaluate, load_adapter
from softprompt_lab.runs import zoo

### BEGIN SOLUTION
run = zoo.load("tweets-seed0")
_, vectors = load_adapter(zoo.FOLDER.parent / "stranger")
accuracies = {}
for place in ("@Vandelay {text}", "{text} @Initech", "Initech {text}"):
    task = run.task.with_template(f"Tweet : {place} Label : ")
    measured = evaluate(run.model, task, "validation", prompts={"it": vectors}, limit=200)
    accuracies[place] = measured["it"].accuracy
end = accuracies["{text} @Initech"]
experiment = {"accuracies": accuracies, "n": 200, "sentence": f"At the end of a tweet the name leaves {end:.1%}."}
### END SOLUTION
course.check("06-5", experiment)

# %% [markdown]
# ## Sources
# - The text that the course grew from, a walk through PEFT's source with `bloomz-560m`, parts 4 and 5: the
#   listing of the folder `bloomz-560m_PROMPT_TUNING_CAUSAL_LM`, and the five steps from a folder to an answer.
# - Hugging Face PEFT 0.21.2, `peft.tuners.prompt_tuning`, and issue 2888.
# - Hu et al. 2021, "LoRA" (arXiv 2106.09685), section 4: its sizes.
# - Du et al. 2022, "PPT: Backdoor Attacks on Pre-trained Models via Poisoned Prompt Tuning" (IJCAI 2022); Cai
#   et al. 2022, "BadPrompt: Backdoor Attacks on Continuous Prompts" (arXiv 2211.14719): prompts with a trigger.
# - The safetensors format: the description in its repository's README ("Format").
# - The documentation of Python's `pickle`.
