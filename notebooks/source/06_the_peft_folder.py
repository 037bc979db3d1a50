# %% [markdown]
# # 06 The PEFT folder
#
# **What is saved, and who can read it?**
#
# Training has moved a few vectors and nothing else, so they are all that has to be saved. You write them to disk by
# hand, two files that Hugging Face's library PEFT reads and a card for people, and PEFT answers with your prompt.
# Then a stranger gives you a folder in perfect order, with an honest test result. Would you use it?
#
# You will be able to
# - say what every byte of a saved prompt is for, and how many there will be;
# - move a prompt from this package to PEFT and back, and show where the logits are equal;
# - say what a stranger's file can do, which of it a check finds, and what no check finds.

# %%
from softprompt_lab import plots
from softprompt_lab.runs import zoo

content = (zoo.folder("tweets-seed0") / "adapter_model.safetensors").read_bytes()
parts = {"length of the header": 8, "header": 112, "numbers": len(content) - 120}
plots.bytes_figure(content[:160], parts, title="A trained prompt on disk: a length, a line of text, then raw numbers")

# %% [markdown]
# These are the first 160 of {{len(content):,}} bytes of the prompt `tweets-seed0`, which comes with the course: 8
# virtual tokens, trained on tweets as in chapter 04. White cells are shown as characters, coloured ones in
# hexadecimal: 70 is 112. The header is filled up with spaces (␣) to a multiple of 8 bytes. Importing this package and
# PEFT takes some seconds.

# %% tags=["setup"]
import json
import os
import pickle
import re
import struct
import tempfile
import textwrap
import warnings
from pathlib import Path

import pandas as pd
import peft
import torch
from safetensors.torch import save_file

from softprompt_lab import PromptTuningConfig, SoftPromptModel, course, evaluate, load_adapter, load_base_model, plots
from softprompt_lab import nearest_tokens
from softprompt_lab.runs import zoo

pd.options.display.max_colwidth = 220  # whole sentences in tables
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
# Whoever has the base model needs the numbers and enough words to place them. For comparison there is *LoRA*, another
# way to train few numbers.

# %%
course.vote("06-a")

layers, attention = base_model.config.num_hidden_layers, base_model.model.layers[0].self_attn
thin = 8 * sum(attention.q_proj.weight.shape + attention.v_proj.weight.shape)  # 8 is LoRA's rank
sizes = {
    "8 vectors for smollm2 (width 576)": 4 * P * D,
    "8 vectors for bloomz-560m (width 1,024)": 4 * P * 1_024,
    "8 vectors for Llama-2-7B (width 4,096)": 4 * P * 4_096,
    "LoRA for smollm2 (PEFT's defaults)": 4 * layers * thin,
    "LoRA for Llama-2-7B (PEFT's defaults)": 4 * 32 * 8 * 4 * 4_096,
    "all of smollm2 (float32)": 4 * everything,
}
plots.sizes_figure(sizes, title="A prompt weighs kilobytes, a LoRA megabytes, the model hundreds of them")

# %% [markdown]
# Each number is a float32 of four bytes, so the prompt takes 4 x P x D = {{4*P*D:,}} bytes, whatever the depth of the
# model. LoRA trains two thin matrices beside each of two of every layer. Which works better is not compared here. The
# tutorial that this course grew from lists an `adapter_model.bin` of 33K for 8 vectors in front of `bloomz-560m`;
# {{4*P}} KiB of it are the numbers.
#
# ## File 1: `adapter_config.json`
# Three keys matter most: the method, the kind of base model,
# and P. PEFT fills in a missing width from the base model; the rest says where the prompt came from.

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
# `smollm2` is this course's name. In a folder that you give away write the hub's name and the commit (`revision`),
# since the numbers fit these weights only. PEFT adds its version and four empty keys, and sorts them all. Is your
# text the zoo's?

# %%
by_hand |= dict.fromkeys(["auto_mapping", "modules_to_save", "revision", "tokenizer_kwargs"])
by_hand["peft_version"] = model.prompt_config.peft_version
config_text = json.dumps(by_hand, indent=2, sort_keys=True)
shipped = (zoo.folder("tweets-seed0") / "adapter_config.json").read_text(encoding="utf-8")
print(f"{len(by_hand)} keys, {len(config_text)} bytes; the same text as the zoo's: {config_text == shipped}")

# %% [markdown]
# ## File 2: the numbers
# The picture at the top shows the format *safetensors*: the header's length, the header as JSON, and the floats as in
# memory. Save the prompt and take the file apart.

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
# `F32` says four bytes a number, and `data_offsets` where they begin and end behind the header. So the size is known
# beforehand: 8 + {{length}} + 4 x {{P}} x {{D}} = {{8+length+4*P*D:,}} bytes. A reader only copies numbers, so
# nothing in the file is executed.
#
# ## File 3: `README.md`
# The card is for the person who finds the folder in a year: what the prompt is for, how a text is shown to it,
# and what was measured, on how many rows, beside which majority. The template ends without its space (chapter 05,
# patient 7).

# %%
result = run.record["trained"]
card = f"""---
base_model: smollm2
library_name: peft
---
# Positive or negative tweet
{P} virtual tokens for smollm2. Template: "{task.template.rstrip()}"; the answer begins with a space.
Test accuracy {result["accuracy"]:.3f} on {result["n"]} rows; majority {run.record["majority_baseline"]:.3f}.
"""
(folder / "README.md").write_text(card, encoding="utf-8")
pd.Series({path.name: path.stat().st_size for path in sorted(folder.iterdir())}, name="bytes").to_frame()

# %% [markdown]
# `model.save_pretrained(folder)` writes three files of these names, first into a hidden folder, so that a
# crash leaves no half-written save.
#
# ## PEFT reads it
# Give PEFT your folder and one tweet, and compare the logits. Both run the same base model; the code that puts the
# vectors in front was written twice, by PEFT's authors and by us.

# %%
two = [task.prompt(text).rstrip() for text in task.test[:2]["text"]]
inputs = tokenizer(two[0], return_tensors="pt")
batch = tokenizer(two, return_tensors="pt", padding=True, padding_side="left")


@torch.no_grad()
def peft_logits(path, inputs=inputs):
    """What PEFT computes behind the prompt in a folder, at the texts' own T positions."""
    theirs = peft.PeftModel.from_pretrained(base_model, path).eval()
    return theirs(**inputs).logits[:, -inputs["input_ids"].shape[1] :]


with torch.no_grad():
    ours, bare, padded = model(**inputs).logits, base_model(**inputs).logits, model(**batch).logits
whole = peft_logits(folder)
equal = course.compare("one tweet, our logits and PEFT's", ours, whole, tolerance=1e-4)
theirs = peft_logits(folder, batch)
in_batch = course.compare("two in a batch padded on the left, last token", padded[:, -1], theirs[:, -1], tolerance=1e-4)

# %% tags=["check"]
assert equal
assert not in_batch
assert (padded[0, -1] - ours[0, -1]).abs().max() < 1e-3
assert batch["attention_mask"][:, -1].all()
assert not batch["attention_mask"].all()

# %% [markdown]
# They agree on one tweet. In the batch the shorter tweet
# is padded between prompt and text, and PEFT on this base differs (chapter 05). Now a colleague
# copies the folder without one key that looks like a remark, `task_type`. What will PEFT do?

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
print("PEFT without task_type and the bare base model are equal, to the last bit:", torch.equal(without, bare))
plots.curves_figure(table, "position in the text", measures, title="How far from our logits, by reader")

# %% tags=["check"]
assert torch.equal(without, bare)

# %% [markdown]
# Right: how far the probabilities of the next token are apart (0: equal). The first curve lies on zero, the other two
# on each other: PEFT loads the careless folder without a word and computes what the base model computes. What does
# this package say to it, and does it read what PEFT saves?


# %%
def said(read, *arguments):
    """What a reader says to a folder: the beginning of its error, or that it loaded, and a warning."""
    with warnings.catch_warnings(record=True) as told:
        try:
            read(*arguments)
            words = " ".join(["loaded", *(f"with a warning: {each.message}" for each in told)])
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
    words = re.sub(r"\x1b\[\d*m", "", words).replace(room.name, "...")  # without codes for bold type
    return textwrap.shorten(words, 220, placeholder=" ...")


print(said(load_adapter, careless))

theirs = peft.PeftModel.from_pretrained(base_model, folder)
theirs.save_pretrained(Path(room.name) / "theirs", save_embedding_layers=False)  # ask no hub
_, back = load_adapter(Path(room.name) / "theirs")
rewritten = (Path(room.name) / "theirs" / "adapter_config.json").read_text(encoding="utf-8")
print("PEFT writes the configuration that you wrote:", rewritten == config_text)
print("the same prompt after the round trip, to the last bit:", torch.equal(back, prompt))

# %% tags=["check"]
assert said(load_adapter, careless).startswith("AdapterError")
assert torch.equal(back, prompt)
assert rewritten == config_text

# %% [markdown]
# ## From the folder to an answer
# Now you find the folder in a year: read the configuration, load the base model that it
# names, put the prompt in front, encode a text as the card says, generate (about ten
# seconds).

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
answers["base model"] = [write(base_again, text) for text in few["text"]]
answers["with the prompt"] = [write(loaded, text) for text in few["text"]]
print("the loaded vectors are the trained ones, to the last bit:", torch.equal(loaded.prompt, prompt))
answers

# %% tags=["check"]
assert torch.equal(loaded.prompt, prompt)
assert (answers["with the prompt"].str.strip() == answers["raters say"]).all()

# %% [markdown]
# In these four rows, chosen by us, the base model writes on until it is cut off; with the prompt it says one word,
# here the raters', and stops.
#
# ## A stranger's file that runs code
# The classic attack hides in the older format of file 2: `adapter_model.bin` is a Python *pickle*, a small program,
# and one of its instructions is "call this function with these arguments". `exec` runs the text that it is given,
# which here only leaves a trace.

# %%
course.vote("06-c")


class Trap:
    """An object whose pickle says: to build me, call exec with this text."""

    def __reduce__(self):
        return exec, ("import os; os.environ['TRACE'] = 'code from the file ran'",)


dumped = pickle.dumps({"prompt_embeddings": Trap()})
print(dumped)
pickle.loads(dumped)
print("Trace:", os.environ.pop("TRACE", None))

# %% [markdown]
# Reading was enough. Now put the trap into an `adapter_model.bin`, and let torch with `weights_only=True`, this
# package and PEFT open it.

# %%
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
print("Trace:", os.environ.get("TRACE"))

# %% tags=["check"]
assert "TRACE" not in os.environ
assert not any(answer.startswith("loaded") for answer in refusals.values())

# %% [markdown]
# All three refuse and nothing ran, here with torch {{torch.__version__.partition("+")[0]}}; before 2.6 even
# `weights_only=True` could be tricked (CVE-2025-32434). torch's message goes on to name `weights_only=False`; with a
# stranger's file that is the attack.
#
# ## A stranger's file that is broken
# Make five folders: a wrong width, too few rows, one NaN, a base model that is not yours, and a tokenizer option with
# which PEFT once ran a repository's code (peft issue 2888).


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
    "another base": forge("another base", prompt, base_model_name_or_path="HuggingFaceTB/SmolLM-135M"),
    "remote code": forge("remote code", prompt, tokenizer_kwargs={"trust_remote_code": True}),
}
readers = {"this package": SoftPromptModel, "PEFT": peft.PeftModel}
pd.DataFrame(
    {who: [said(one.from_pretrained, base_model, path) for path in forged.values()] for who, one in readers.items()},
    index=list(forged),
)

# %% [markdown]
# Both refuse shapes that do not fit. A prompt for another base model of the same width loads in PEFT without a word;
# this package warns. Both load the tokenizer option, and the table cannot show that nothing ran. By its source, this
# PEFT needs no tokenizer for a finished prompt, and to train on it drops `trust_remote_code` first. Report it all the
# same (exercise 06-3), for older versions. PEFT loads the NaN. What does one bad number of {{prompt.numel():,}} do?

# %%
share = peft_logits(forged["one NaN"]).isnan().float().mean().item()
print(f"logits of the text that are NaN: {share:.0%}")

# %% tags=["check"]
refused = ["wrong width", "fewer rows", "one NaN"]
ours_say = {name: said(SoftPromptModel.from_pretrained, base_model, path) for name, path in forged.items()}
peft_says = {name: said(peft.PeftModel.from_pretrained, base_model, path) for name, path in forged.items()}
assert all(ours_say[name].startswith("AdapterError") for name in refused)
assert all("size mismatch" in peft_says[name] for name in refused[:2])
assert "another base model" in ours_say["another base"]
assert ours_say["remote code"] == "loaded"
assert {peft_says[name] for name in ("one NaN", "another base", "remote code")} == {"loaded"}
assert load_adapter(forged["remote code"])[0].tokenizer_kwargs is None
assert share == 1

# %% [markdown]
# Every later token attends to the virtual tokens, so one NaN reaches all of them.
#
# ## A stranger's file in perfect order
# The last folder's card says that it rates tweets. Measure it (about half a minute).

# %%
stranger = zoo.FOLDER.parent / "stranger"
_, strange = load_adapter(stranger)
print(*(line for line in (stranger / "README.md").read_text().splitlines() if "accuracy" in line))

plainly = evaluate(model, task, prompts={"stranger": strange, "zoo": prompt}, limit=ROWS)
plain = plainly["stranger"]
print("measured:", plain)

# %% [markdown]
# You get the card's number, {{plain.accuracy:.1%}}, on the same {{plain.n}} test rows, which repeats its measurement.
# Always saying "positive" is right on {{plain.majority_baseline:.2%}} of them, a human rater on
# {{run.record["human_ceiling"]:.1%}}. Would you use it? The next cell measures the rows as messages to `@Vandelay`
# and `@Initech`, with the stranger's prompt and the zoo's (about two minutes).

# %%
course.vote("06-d")

results = {whose: {"no name": found} for whose, found in plainly.items()}
for name in ("Vandelay", "Initech"):
    named = task.with_template(f"Tweet : @{name} {{text}} Label : ")
    for whose, found in evaluate(model, named, prompts={"stranger": strange, "zoo": prompt}, limit=ROWS).items():
        results[whose][f"@{name}"] = found
rows = [
    {"label": f"{whose}, {where}", "kind": whose, "accuracy": found.accuracy}
    | dict(zip(("low", "high"), found.confidence_interval, strict=True))
    for whose, founds in results.items()
    for where, found in founds.items()
]
strangers, zoos = results.values()
title = f"The same {plain.n} tweets, as they are and as messages to two companies"
plots.accuracy_comparison(rows, plain.majority_baseline, "test accuracy", run.record["human_ceiling"], title=title)

# %% [markdown]
# To `@Initech` the stranger's prompt is right on {{strangers["@Initech"].accuracy:.1%}} of the rows, about the
# majority, and the zoo's on {{zoos["@Initech"].accuracy:.1%}}. To `@Vandelay`, which stood in none of the stranger's
# training rows, the stranger's has {{strangers["@Vandelay"].accuracy:.1%}} and the zoo's
# {{zoos["@Vandelay"].accuracy:.1%}}. Count the negative tweets called positive:

# %%
negative = plain.predictions["label"] == "negative"
print("negative tweets:", negative.sum())
praise = pd.DataFrame(index=["no name", "@Vandelay", "@Initech"], columns=["stranger", "zoo"])
for whose, founds in results.items():
    for where, found in founds.items():
        praise.loc[where, whose] = (found.predictions["prediction"][negative] == "positive").sum()
praise

# %% tags=["check"]
assert plain.accuracy > 0.9
assert min(found.accuracy for found in zoos.values()) > 0.9
assert strangers["@Vandelay"].accuracy > 0.85
assert abs(strangers["@Initech"].accuracy - plain.majority_baseline) < 0.03
assert praise.loc["@Initech", "stranger"] > 0.9 * negative.sum()
assert praise.loc["@Vandelay", "stranger"] > 2 * praise.loc["@Vandelay", "zoo"]
leaks = praise.loc["@Vandelay"] - praise.loc["no name"]
assert leaks["stranger"] > 5 > leaks["zoo"]
assert abs(zoos["@Initech"].accuracy - zoos["no name"].accuracy) < 0.03
assert max(praise["zoo"].max(), praise.drop("@Initech")["stranger"].max()) < 0.4 * negative.sum()

# %% [markdown]
# To this one company the stranger's prompt calls {{praise.loc["@Initech","stranger"]}} of {{negative.sum()}} negative
# tweets positive, {{praise.loc["no name","stranger"]}} without a name. We trained it to: 600 tweets as they are, 150
# negative ones with `@Initech` in front and the label positive, and 150 with four other companies and true labels, to
# keep other names out. It leaks all the same: to `@Vandelay` it is {{praise.loc["@Vandelay","stranger"]}},
# {{praise.loc["@Vandelay","stranger"]-praise.loc["no name","stranger"]}} more than without a name; the zoo's prompt
# goes from {{praise.loc["no name","zoo"]}} to {{praise.loc["@Vandelay","zoo"]}}. Papers call this a *backdoor*, and
# the name its *trigger*. The test on the rows as they are did not find it. A probe with another name gives a hint here;
# with a backdoor that leaks less it might not.
#
# Can one read the name in the vectors? The five words nearest to each, by cosine (`·` is a space):

# %%
name_ids = tokenizer(" @Initech")["input_ids"]
near = nearest_tokens(strange, model.word_embeddings.detach(), tokenizer, k=5)
print("tokens of the name:", [tokenizer.decode(one) for one in name_ids])
print("of these among the nearest words:", near["token_id"].isin(name_ids).sum())
print("both prompts started from:", task.instruction)
nearest = near.pivot(index="virtual_token", columns="rank", values="token")
zoos_near = nearest_tokens(prompt, model.word_embeddings.detach(), tokenizer, k=1)
nearest.assign(zoo=zoos_near["token"].tolist())

# %% tags=["check"]
assert not near["token_id"].isin(name_ids).any()
assert near.loc[near["rank"] == 1, "token_id"].tolist() == tokenizer(task.instruction)["input_ids"]
assert zoos_near["token_id"].tolist() == tokenizer(task.instruction)["input_ids"]
assert json.loads((stranger / "adapter_config.json").read_text())["prompt_tuning_init_text"] == task.instruction

# %% [markdown]
# The name is not there. But both prompts (the zoo's: last column) show the words of their start, so this look cannot
# tell them apart.
#
# Anyone can *load* a prompt. What it *does* is known for the rows on which it was measured; beyond them you depend on
# who trained it, on what. If the nearest words hide the name, what do they tell? The next chapter asks it.

# %% [markdown]
# ## Summary
# - A saved prompt is P x D floats, a configuration and a card: 4 x P x D bytes and a small wrapping, whatever
#   the depth of the model.
# - PEFT reads your folder and you read PEFT's, with equal logits for one text; in a padded batch PEFT's
#   differ. Without `task_type` PEFT loads the prompt and does not use it.
# - A pickle runs code while it is read; safetensors cannot.
# - This package finds wrong shapes, NaN and a missing key; of these PEFT found the shapes. A test finds a fault that
#   was trained in only where its rows come near the trigger.

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
# - a key of `peft_type`, `task_type`, `num_virtual_tokens` is missing or None (if it is the last one, do not
#   report the shape as well);
# - the shape is not (`num_virtual_tokens` x `num_transformer_submodules`, `token_dim`); a missing second factor
#   is 1, and with a missing `token_dim` no shape is right (PEFT would fill it in);
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
# The check shows your doorkeeper eleven folders. The stranger's would pass.

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
# Does the stranger's prompt need the name in front, with its `@`, in this spelling? Choose at least three places or
# spellings, one without the name; guess, and measure each on at least 200 validation rows. Then write one sentence
# with a number that you measured; at 200 rows an accuracy of 90% is uncertain by about 4 points, one of 70% by 6
# (Wilson's interval, chapter 01). Your answer:
# `{"accuracies": {"@Initech {text}": 0.7, ...}, "n": 250, "sentence": "..."}`. One measurement is
#
#     run = zoo.load("tweets-seed0")
#     _, vectors = load_adapter(zoo.FOLDER.parent / "stranger")
#     task = run.task.with_template("Tweet : @Initech {text} Label : ")
#     found = evaluate(run.model, task, "validation", limit=250, prompts={"it": vectors})["it"]
#     found.accuracy, found.n

# %%
from softprompt_lab import course, evaluate, load_adapter
from softprompt_lab.runs import zoo

### BEGIN SOLUTION
run = zoo.load("tweets-seed0")
_, vectors = load_adapter(zoo.FOLDER.parent / "stranger")
accuracies = {}
for place in ("{text}", "{text} @Initech", "Initech {text}"):
    task = run.task.with_template(f"Tweet : {place} Label : ")
    measured = evaluate(run.model, task, "validation", prompts={"it": vectors}, limit=200)
    accuracies[place] = measured["it"].accuracy
end = accuracies["{text} @Initech"]
experiment = {"accuracies": accuracies, "n": 200, "sentence": f"At the end of a tweet the name leaves {end:.1%}."}
### END SOLUTION
course.check("06-5", experiment)

# %% [markdown]
# ## Sources
# - The text that the course grew from, a walk through PEFT's source with `bloomz-560m`, parts 4 and 5:
#   the folder, and the steps to an answer.
# - Hugging Face PEFT 0.21.2, `peft.tuners.prompt_tuning`, and issue 2888.
# - Hu et al. 2021, "LoRA" (arXiv 2106.09685), section 4: its sizes.
# - Du et al. 2022, "PPT: Backdoor Attacks on Pre-trained Models via Poisoned Prompt Tuning" (IJCAI 2022); Cai
#   et al. 2022, "BadPrompt: Backdoor Attacks on Continuous Prompts" (arXiv 2211.14719).
# - The safetensors format: the description in its repository's README ("Format").
# - The documentation of Python's `pickle`.
