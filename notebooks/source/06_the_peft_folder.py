# %% [markdown]
# # 06 The PEFT folder
#
# **What is saved, and who can read it?**
#
# A trained prompt is a few vectors. In this chapter you write them to disk by hand, in the three files that
# Hugging Face's library PEFT expects, and then let the package do the same. You read the folder back in both,
# and you see what a folder from a stranger could try.
#
# You will be able to
# - write `adapter_config.json`, the tensor file and `README.md` yourself, and say what each is for;
# - compute the size of a saved prompt from P and D before you save it;
# - move a prompt between this package and PEFT, and show that the logits are equal;
# - name what a hostile folder can do to its reader, and which reader refuses it.
#
# Time: 25 minutes of reading, about 2 minutes of running on two cores. Base model: `smollm2`, and for one
# section a BLOOM with random weights.

# %% [markdown]
# ## Setup
# Two readers of the same folder are imported here: ours and PEFT.

# %% tags=["setup"]
import json
import pickle
import re
import struct
import tempfile
import warnings
import zipfile
from pathlib import Path

import pandas as pd
import peft
import torch
from safetensors.torch import save_file
from transformers import BloomConfig, BloomForCausalLM

from softprompt_lab import PromptTuningConfig, SoftPromptModel, course, load_adapter, load_base_model, load_task, train
from softprompt_lab.saving import default_folder_name

lab = course.settings()
pd.options.display.max_colwidth = 150  # whole sentences in tables
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")  # PEFT asks transformers the old way

# %% [markdown]
# First there must be something to save: 8 virtual tokens, started from the tutorial's text and trained on
# messages that are complaints or not. This takes about a minute on two cores.

# %%
base_model, tokenizer = load_base_model(lab.base)
task = load_task(lab.task)
config = PromptTuningConfig(
    num_virtual_tokens=8,
    prompt_tuning_init="TEXT",
    prompt_tuning_init_text="Classify if the tweet is a complaint or not:",
)
model = SoftPromptModel(base_model, config, tokenizer=tokenizer)
history = train(model, task, steps=lab.steps(50), seed=0)
print(f"{len(history.losses)} steps, loss {history.losses[0]:.2f} -> {history.losses[-1]:.2f}")

# %% [markdown]
# ## What has to be saved?
# Training changed something in this model. What, and how many bytes is it?
#
# Guess before you run: the whole model in float32 is some hundreds of megabytes. How many bytes are new?

# %%
trained, everything = model.trainable_parameters()
print("trained numbers:", trained, "=", " x ".join(map(str, model.prompt.shape)), "(P x D)")
print(f"trained bytes:   {4 * trained:,}")
print(f"all bytes:       {4 * everything:,}")
assert trained == model.prompt.numel()

# %% [markdown]
# Everything else is the base model, unchanged to the last bit. Whoever has the base model needs nothing but
# these P x D numbers, and enough words about them to put them in the right place. That is why a prompt is
# saved as a folder of three files: the numbers, a description for programs, and a description for people.

# %% [markdown]
# ## The folder's name
# The tutorial that this course grew from calls its folder `bloomz-560m_PROMPT_TUNING_CAUSAL_LM`. The pattern
# is `{model}_{peft_type}_{task_type}`.

# %%
used = model.prompt_config  # the configuration, completed with the base model's sizes
name = f"{used.base_model_name_or_path}_{used.peft_type}_{used.task_type}"
print(name)
assert name == default_folder_name(used)

# %% [markdown]
# The name is a habit, not a rule: PEFT reads a folder of any name. A model called `bigscience/bloomz-560m`
# would put a slash into it, so `default_folder_name` keeps what stands behind the last slash.

# %% [markdown]
# ## File 1: `adapter_config.json`
# What must a reader know to use P x D numbers? Write your own list before you look at the cell.
#
# Three keys are enough for PEFT: `peft_type` (which method), `task_type` (which kind of model) and
# `num_virtual_tokens` (P). The others say where the prompt came from, or describe the base model so that a
# mismatch is noticed.

# %%
by_hand = {
    "peft_type": "PROMPT_TUNING",  # the method: vectors in front of the input, nothing else
    "task_type": "CAUSAL_LM",  # the kind of base model; encoder-decoders have SEQ_2_SEQ_LM
    "num_virtual_tokens": 8,  # P
    "num_transformer_submodules": 1,  # 2 would mean a prompt for encoder and decoder
    "token_dim": used.token_dim,  # D, the width of one vector
    "num_layers": used.num_layers,  # of the base model; not used by prompt tuning
    "num_attention_heads": used.num_attention_heads,  # likewise
    "base_model_name_or_path": lab.base,  # the model that the numbers belong to
    "prompt_tuning_init": "TEXT",  # how training started
    "prompt_tuning_init_text": config.prompt_tuning_init_text,
    "tokenizer_name_or_path": lab.base,  # who cut that text into tokens
    "inference_mode": True,  # saved to be used, so PEFT does not start it anew
}

# %% [markdown]
# PEFT writes five more keys, empty for us, and sorts all of them. Does the package write the same file, byte
# for byte?

# %%
by_hand |= dict.fromkeys(["auto_mapping", "modules_to_save", "revision", "tokenizer_kwargs"])
by_hand["peft_version"] = used.peft_version
config_text = json.dumps(by_hand, indent=2, sort_keys=True)

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name) / "by_hand" / name
folder.mkdir(parents=True)
(folder / "adapter_config.json").write_text(config_text, encoding="utf-8")

ours = model.save_pretrained(Path(temporary.name) / "ours" / name)
assert (ours / "adapter_config.json").read_text(encoding="utf-8") == config_text
assert set(by_hand) == set(peft.PromptTuningConfig().to_dict())
print(f"{len(by_hand)} keys, {len(config_text)} bytes")

# %% [markdown]
# Both assertions hold: the package's file equals yours, and its keys are those of PEFT's own class.
# `inference_mode` is worth a second look. During training it is false, and PEFT would read the start text and
# load a tokenizer for it; in a saved folder it is true, and the numbers come from the tensor file alone.

# %% [markdown]
# ## File 2: the numbers
# There are two formats. The older one, `adapter_model.bin`, is what `torch.save` writes: a zip archive with a
# Python *pickle* in it. What lies inside?

# %%
tensors = {"prompt_embeddings": model.prompt.detach().clone()}  # the one name that PEFT looks for
torch.save(tensors, folder / "adapter_model.bin")
with zipfile.ZipFile(folder / "adapter_model.bin") as archive:
    entries = [(Path(entry.filename).name, entry.file_size) for entry in archive.infolist()]
pd.DataFrame(entries, columns=["entry", "bytes"])

# %% [markdown]
# The entry `0` holds the numbers and `data.pkl` the pickle that says how to build a tensor of them. Remember
# it: the last part of this chapter is about pickles.
#
# The newer format, `adapter_model.safetensors`, is so plain that you can take it apart with `struct` and
# `json`: 8 bytes with the length of a header, the header in JSON, then the raw floats.

# %%
save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
content = (folder / "adapter_model.safetensors").read_bytes()
(header_length,) = struct.unpack("<Q", content[:8])  # an unsigned 64-bit number, low byte first
header = json.loads(content[8 : 8 + header_length])
print(json.dumps(header, indent=1))

# %% [markdown]
# `F32` says four bytes a number, `data_offsets` says where they begin and end behind the header. So the size
# of the file is known before it is written: 8 bytes, the header, and four bytes for each of P x D numbers.

# %%
P, D = model.prompt.shape
print(f"8 + {header_length} + 4 x {P} x {D} = {8 + header_length + 4 * P * D:,} bytes")
assert len(content) == 8 + header_length + 4 * P * D
assert content[8 + header_length :] == model.prompt.detach().numpy().tobytes()

# %% [markdown]
# The second assertion compares the rest of the file with the prompt's own memory: they are the same bytes.
# Nothing in such a file can be *executed*; a reader copies numbers.

# %% [markdown]
# ## File 3: `README.md`
# The card is for people and for model hubs, which read the block between the `---` lines. Neither PEFT nor
# this package reads it when a folder is loaded. What should a person know who finds this folder in a year?
# The base model, what the prompt is for, and what was measured.

# %%
card = f"""---
base_model: {lab.base}
library_name: peft
pipeline_tag: text-generation
tags:
- "base_model:adapter:{lab.base}"
---
# Complaint or no complaint
{P} virtual tokens for {lab.base}. Trained for {len(history.losses)} steps, last loss {history.losses[-1]:.2f}.
"""
(folder / "README.md").write_text(card, encoding="utf-8")
(folder / "adapter_model.bin").unlink()  # one of the two formats is enough
print(*sorted(path.name for path in folder.iterdir()), sep="\n")

# %% [markdown]
# The package writes the same three files with `model.save_pretrained(folder)`, safetensors unless you ask for
# `safe_serialization=False`. It writes them into a hidden folder first and moves them when they are complete,
# so that a power cut leaves the old adapter or the new one, and no half of either. Are the numbers of your
# folder and of the package's the same?

# %%
_, from_hand = load_adapter(folder)
_, from_package = load_adapter(ours)
assert torch.equal(from_hand, from_package)
assert torch.equal(from_hand, model.prompt.detach())
print(*(ours / "README.md").read_text(encoding="utf-8").splitlines()[:13], sep="\n")

# %% [markdown]
# ## Where "33K" comes from
# The tutorial lists its folder: `adapter_config.json` 500 bytes, `adapter_model.bin` 33K, `README.md` 111
# bytes. Its model is a BLOOM with 560 million parameters, 24 layers and a width of 1024; its prompt has 8
# virtual tokens. Can you get 33K without that model?
#
# Guess: which of the following changes the file's size: the number of layers, the size of the vocabulary, the
# width?

# %%
torch.manual_seed(0)
shape = BloomConfig(vocab_size=1_000, hidden_size=1_024, n_layer=2, n_head=16)  # 2 layers instead of 24
bloom = BloomForCausalLM(shape)
bloom_prompt = SoftPromptModel(
    bloom, PromptTuningConfig(num_virtual_tokens=8, base_model_name_or_path="bigscience/bloomz-560m")
)
bloom_folder = Path(temporary.name) / default_folder_name(bloom_prompt.prompt_config)
bloom_prompt.save_pretrained(bloom_folder, safe_serialization=False)
print(bloom_folder.name)
sizes = pd.Series({path.name: path.stat().st_size for path in sorted(bloom_folder.iterdir())}, name="bytes")
numbers = 4 * 8 * 1_024  # bytes a float, virtual tokens, width
wrapping = sizes["adapter_model.bin"] - numbers
print(f"4 x 8 x 1024 = {numbers:,} bytes = {numbers / 1_024:.0f} KiB")
print(f"the zip archive around them: {wrapping:,} bytes")
assert 33 <= sizes["adapter_model.bin"] / 1_024 < 34
sizes.to_frame().assign(KiB=(sizes / 1_024).round(1))

# %% [markdown]
# The listing of the tutorial counts in KiB, units of 1,024 bytes. Only the width counts, and the number of
# virtual tokens. The layers and the vocabulary of this BLOOM were cut down to save your time, and the file
# has the size of the original's. The next table holds other cases, and what a copy of the whole model would
# take instead.

# %%
cases = [  # name, width, parameters
    ("smollm2", 576, 134_515_008),
    ("bloomz-560m", 1_024, 559_214_592),
    ("Llama-2-7B", 4_096, 6_738_415_616),
]
rows = [(base, width, p, 4 * p * width // 1_024, 4 * n // 2**20) for base, width, n in cases for p in (8, 20, 100)]
table = pd.DataFrame(rows, columns=["base model", "D", "P", "prompt, KiB", "whole model, MiB"])
assert lab.fast or cases[0][2] == sum(p.numel() for p in base_model.parameters())
table

# %% [markdown]
# A hundred tasks with a prompt each take a few megabytes beside one model. This is the reason why prompt
# tuning was invented, and chapter 09 uses it.

# %% [markdown]
# ## PEFT reads it
# PEFT shares the format with us and no code. Give it the folder that you wrote by hand. Are its logits ours?
#
# Guess: equal exactly, equal up to rounding, or different? And how many positions will its output have?

# %%
row = task.test[0]
inputs = tokenizer(task.prompt(row[task.text_column]).rstrip(), return_tensors="pt")
theirs = peft.PeftModel.from_pretrained(base_model, folder).eval()
with torch.no_grad():
    our_logits = model(**inputs).logits
    their_logits = theirs(**inputs).logits
print("ours", tuple(our_logits.shape), "theirs", tuple(their_logits.shape))
assert course.compare("logits", our_logits, their_logits[:, P:], tolerance=1e-4)

# %% [markdown]
# PEFT's output has P + T positions, ours has T: we cut off the positions of the prompt so that logits line up
# with `input_ids`. Behind the prompt the two agree. The comparison uses one text without padding on purpose.
# In a batch that is padded on the left, PEFT's layout puts the pads between prompt and text, and most model
# families then compute something else; chapter 04 shows it.
#
# And the other way: PEFT saves, we load.

# %%
theirs.save_pretrained(Path(temporary.name) / "theirs", save_embedding_layers=False)  # no question to a hub
back = SoftPromptModel.from_pretrained(base_model, Path(temporary.name) / "theirs", tokenizer=tokenizer)
with torch.no_grad():
    assert course.compare("logits", back(**inputs).logits, our_logits)
assert torch.equal(back.prompt, model.prompt)
print(*sorted(path.name for path in (Path(temporary.name) / "theirs").iterdir()), sep="\n")

# %% [markdown]
# The prompt has made the round trip without losing a bit. float32 is written as it stands in memory, and the
# base model is the same object, so the logits are equal too.

# %% [markdown]
# ## A key that looks optional
# Take `task_type` out of the configuration. What will PEFT do: raise, or load?

# %%
careless = Path(temporary.name) / "careless"
careless.mkdir()
(careless / "adapter_model.safetensors").write_bytes(content)
without = {key: value for key, value in by_hand.items() if key != "task_type"}
(careless / "adapter_config.json").write_text(json.dumps(without), encoding="utf-8")

silent = peft.PeftModel.from_pretrained(base_model, careless).eval()
with torch.no_grad():
    plain, no_task = base_model(**inputs).logits, silent(**inputs).logits
assert torch.equal(plain, no_task)
print("PEFT loads it; largest difference to the base model alone:", (plain - no_task).abs().max().item())

# %% [markdown]
# It loads without a word and then runs as if there were no prompt. A result that is wrong without an error is
# the most expensive kind. Ours raises an `AdapterError`; the little function in the next cell shows the
# answer of a reader without the path of the temporary folder.


# %%
def answer(read, *arguments) -> str:
    """What a reader says to a folder: the first line of its error, or that it loaded."""
    try:
        read(*arguments)
    except Exception as error:
        said = re.sub(r"\x1b\[\d*m", "", str(error).strip().splitlines()[0])  # without colours
        said = said.replace(temporary.name, "...")
        return f"{type(error).__name__}: {said}"
    return "loaded"


print(answer(load_adapter, careless))
assert answer(load_adapter, careless).startswith("AdapterError")

# %% [markdown]
# ## From the folder to an answer
# Now play the person who finds the folder. The steps are those of the tutorial: read the configuration, load
# the base model that it names, wrap it with the prompt, encode a text, generate, decode. Loading `smollm2`
# again takes about two seconds.

# %%
found = PromptTuningConfig.from_pretrained(folder)
base_again, tokenizer_again = load_base_model(found.base_model_name_or_path, revision=found.revision)
loaded = SoftPromptModel.from_pretrained(base_again, folder, tokenizer=tokenizer_again)

text = f"{task.text_column} : {row[task.text_column]} Label : "
inputs = tokenizer_again(text, return_tensors="pt")
outputs = loaded.generate(**inputs, max_new_tokens=10, eos_token_id=tokenizer_again.eos_token_id)
print(tokenizer_again.batch_decode(outputs, skip_special_tokens=True))

# %% [markdown]
# `generate` returns the text with the continuation behind it, as transformers does. The tutorial writes
# `eos_token_id=3`; in BLOOM's vocabulary that is the padding token, and the end token is 2, so its
# generations ran on for all ten tokens. Take the number from the tokenizer.
#
# There is a second trap in this line of the tutorial: the text ends with a *space*. Look at the tokens. Where
# is the space when the label is learned, and where is it here?

# %%
context, label = task.encode(tokenizer, row[task.text_column], row["text_label"])
words = tokenizer.convert_ids_to_tokens
print("as trained:", words(context)[-3:], "then", words(label))
print("as here:   ", words(inputs["input_ids"][0].tolist())[-3:])

# %% [markdown]
# In a byte-pair vocabulary a word usually carries its space in front (shown as `Ġ`). Behind a text that ends
# with a space, the model would have to write the word *without* its space, which it never does in training;
# so `task.encode` moves the space to the label. How much does it matter for eight test messages? Half a
# minute at most.


# %%
def write(text: str) -> str:
    """The new tokens that the loaded model writes behind a text, decoded."""
    inputs = tokenizer(text, return_tensors="pt")
    new = loaded.generate(**inputs, max_new_tokens=10, eos_token_id=tokenizer.eos_token_id)
    return tokenizer.decode(new[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


few = task.test.select(range(8))
prompts = [task.prompt(text) for text in few[task.text_column]]
answers = pd.DataFrame({"text": [text[:40] for text in few[task.text_column]], "label": few["text_label"]})
answers["with the space"] = [write(prompt) for prompt in prompts]
answers["without"] = [write(prompt.rstrip()) for prompt in prompts]
equal = {column: (answers[column].str.strip() == answers["label"]).sum() for column in ("with the space", "without")}
print({column: f"{count} of {len(few)} equal the label" for column, count in equal.items()})
answers

# %% [markdown]
# The prompt was trained on the right column's form, so that is the form to generate with. A folder carries no
# note about its template: write it into the card.
#
# Eight rows say little about accuracy; chapter 04 measures it on all test rows. And an answer in the right
# form need not be a right answer: read the columns row by row.

# %% [markdown]
# ## What a hostile folder could do: the pickle
# A folder from a stranger is input, like any other. The classic attack is the pickle in a `.bin` file: a
# pickle is a little program, and one of its instructions is *call this function*. The payload below only adds
# a line to a list. In a real attack the function would be one that starts programs. The first reader is the
# careless one, Python's own `pickle.loads`. Guess: does anybody have to *use* the object for the payload to
# run?

# %%
happened = []


def payload() -> None:
    """Stands for whatever an attacker wants: here it leaves a harmless trace."""
    happened.append("code from the file ran")


class Trap:
    """Unpickling this object means: call payload()."""

    def __reduce__(self):
        return payload, ()


poisoned = pickle.dumps({"prompt_embeddings": Trap()})
pickle.loads(poisoned)
print(happened)
assert happened == ["code from the file ran"]

# %% [markdown]
# Reading was enough. Now put the same object into an `adapter_model.bin` with `torch.save` and let three
# readers try: torch's restricted reader (`weights_only=True`, which calls a few functions of torch and no other),
# our loader and PEFT.

# %%
happened.clear()
trap = Path(temporary.name) / "trap"
trap.mkdir()
(trap / "adapter_config.json").write_text(config_text, encoding="utf-8")
torch.save({"prompt_embeddings": Trap()}, trap / "adapter_model.bin")

said = {
    "torch": answer(lambda: torch.load(trap / "adapter_model.bin", weights_only=True)),
    "ours": answer(load_adapter, trap),
    "PEFT": answer(peft.PeftModel.from_pretrained, base_model, trap),
}
for reader, sentence in said.items():
    print(f"{reader}: {sentence}")
assert happened == []
assert "loaded" not in said.values()

# %% [markdown]
# All three refuse and the list stays empty. Ours names the call that the file asked for: it reads the program
# itself, knows the instructions that a dict of tensors needs, and calls nothing. torch's message mentions
# that the file can still be loaded: it means `weights_only=False`, which is the careless reader again. With a
# stranger's prompt a refusal is a reason to delete the file. And prefer safetensors, where there is no
# program to begin with.

# %% [markdown]
# ## What a hostile folder could do: the rest
# A folder can also lie, or be broken. Make four more: a wrong width, a NaN among the numbers, a tokenizer
# option that once could make PEFT run code from a repository (peft issue 2888), and a tensor with fewer rows
# than configured. Which of them should a reader refuse, and which may it ignore?


# %%
def forge(title: str, changes: dict, prompt: torch.Tensor) -> Path:
    """A folder with some keys of the configuration changed and any tensor."""
    forged = Path(temporary.name) / title.replace(" ", "_")
    forged.mkdir()
    (forged / "adapter_config.json").write_text(json.dumps(by_hand | changes))
    save_file({"prompt_embeddings": prompt.contiguous()}, forged / "adapter_model.safetensors")
    return forged


good = model.prompt.detach()
nan = good.clone()
nan[3, 5] = float("nan")
forged = {
    "wrong width": forge("wrong width", {"token_dim": D // 2}, good),
    "one NaN": forge("one NaN", {}, nan),
    "remote code": forge("remote code", {"tokenizer_kwargs": {"trust_remote_code": True}}, good),
    "fewer rows": forge("fewer rows", {}, good[:5]),
}

# %% [markdown]
# Ask both readers:

# %%
into_peft = peft.PeftModel.from_pretrained
verdicts = pd.DataFrame(index=list(forged))
verdicts["ours"] = [answer(load_adapter, path) for path in forged.values()]
verdicts["PEFT"] = [answer(into_peft, base_model, path) for path in forged.values()]
refused = ["wrong width", "one NaN", "fewer rows"]
assert verdicts.loc[refused, "ours"].str.startswith("AdapterError").all()
assert verdicts.loc["one NaN", "PEFT"] == "loaded"
verdicts

# %% [markdown]
# Shapes that do not fit are refused by both. The NaN is loaded by PEFT, and one NaN in one virtual token
# makes every logit of every text a NaN, because each later token attends to the prompt. Ours refuses it at
# the door.
#
# The tokenizer option is loaded by both, since nobody acts on it: PEFT drops `trust_remote_code` since that
# issue, and our loader empties the field, because a checkpoint has no say about tokenizers here. Check that
# it is gone:

# %%
loaded_config, _ = load_adapter(forged["remote code"])
assert loaded_config.tokenizer_kwargs is None
with torch.no_grad():
    poisoned_logits = peft.PeftModel.from_pretrained(base_model, forged["one NaN"])(**inputs).logits
print(f"NaN logits in PEFT after one NaN in the file: {poisoned_logits.isnan().float().mean():.0%}")

# %% [markdown]
# Two things no reader can refuse for you. The configuration *names a base model*, and you load what it names:
# read the name before you do. `load_base_model` reads safetensors only and runs no code of a repository,
# whatever the name. And a well-formed prompt can still be a bad one: replace the numbers by others of the
# same shape, and every check passes.

# %%
swapped = forge("swapped", {}, good.flip(0).roll(1, dims=1))
stranger = SoftPromptModel.from_pretrained(base_model, swapped, tokenizer=tokenizer)
with torch.no_grad():
    moved = (stranger(**inputs).logits - loaded(**inputs).logits).abs().max().item()
print(f"all checks pass; the largest change of a logit is {moved:.1f}")
assert moved > 0.1

# %% [markdown]
# What a prompt *does* is found out by measuring it on your own data, not by reading its card.

# %% [markdown]
# ## Summary
# - A saved prompt is P x D floats, a configuration and a card; the base model is named, not copied. Four
#   bytes times P times D, plus the wrapping: 33 KiB for 8 virtual tokens of width 1024, whatever the depth of
#   the model.
# - The folder is PEFT's, so PEFT reads ours and we read PEFT's, with equal logits on unpadded text.
# - `task_type` is required in practice: without it PEFT runs as if there were no prompt.
# - Generate in the form that was trained, with the space on the label's side, and take the end token from the
#   tokenizer.
# - A pickle can run code while it is read; safetensors and `weights_only=True` cannot. NaN and wrong shapes
#   are refused by our loader. What a well-formed prompt does is a matter of measurement.

# %% [markdown]
# ## Exercises
# Each exercise has a check that says what is wrong, and a hint: `course.hint("06-1")` opens it.
#
# ### 06-1 The size, beforehand
# Complete the function: the number of bytes that the *numbers* of a saved prompt take, without the wrapping.
# `submodules` is 1 for a decoder and may be 2 for an encoder-decoder, where PEFT saves two prompts one above
# the other. In loops: for each submodule, for each virtual token, for each of the D numbers, add 4.


# %%
def prompt_bytes(virtual_tokens: int, width: int, submodules: int = 1) -> int:
    """Bytes of a float32 prompt."""
    ### BEGIN SOLUTION
    return 4 * virtual_tokens * width * submodules
    ### END SOLUTION


# %% [markdown]
# Check it:

# %%
from softprompt_lab import course

course.check("06-1", prompt_bytes)

# %% [markdown]
# ### 06-2 A safetensors reader of your own
# Write a reader that returns the *shape* and the *numbers* of each tensor in a safetensors file.
# Specification:
#
# 1. bytes 0 to 7: N, an unsigned 64-bit number, low byte first;
# 2. bytes 8 to 8 + N: JSON. The key `__metadata__`, if there is one, is no tensor. Every other key is a
#    tensor's name, with `dtype` (here always `F32`), `shape`, and `data_offsets` = [begin, end], counted
#    **from the end of the header**;
# 3. the rest: the numbers, each a 32-bit float, low byte first.
#
# Return `{name: tensor}`. `torch.tensor(struct.unpack("<3f", twelve_bytes))` makes a tensor of three floats.


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
# The check makes files with one and two tensors and reads them with your function.

# %%
from softprompt_lab import course

course.check("06-2", read_safetensors)

# %% [markdown]
# ### 06-3 The doorkeeper
# Write a function that says what is wrong with a configuration and a tensor, before anything is loaded. It
# returns a list with one short sentence for each fault, in any order, and an empty list for a sound folder.
# The faults:
#
# - a key of `peft_type`, `task_type`, `num_virtual_tokens` is missing or None;
# - the tensor's shape is not (`num_virtual_tokens` x `num_transformer_submodules`, `token_dim`), where the
#   second factor is 1 if the key is missing;
# - a number is NaN or infinite;
# - `tokenizer_kwargs` holds `trust_remote_code` as true.
#
# A configuration without `num_virtual_tokens` has one fault, not two, and must not stop your function.


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
# The check shows your doorkeeper eleven folders.

# %%
from softprompt_lab import course

course.check("06-3", faults)

# %% [markdown]
# ### 06-4 Derive it: when is a prompt as large as a LoRA?
# LoRA, another method of PEFT, adds two matrices to a weight matrix of D x D: one of r x D and one of D x r.
# It is often put on two weight matrices in each of L layers. Derive for which P a soft prompt has as many
# numbers as such a LoRA, as a formula of r and L. D should cancel.


# %%
def equal_size_prompt(rank: int, layers: int) -> int:
    """Virtual tokens of the prompt with as many numbers as a LoRA of this rank on two matrices a layer."""
    ### BEGIN SOLUTION
    return 4 * rank * layers  # LoRA: layers x 2 matrices x 2 factors x (rank x D) numbers; a prompt: P x D
    ### END SOLUTION


# %% [markdown]
# Put the smallest rank in common use, 8, and the 30 layers of `smollm2` into your formula, and compare with
# the 20 virtual tokens of the next chapters.

# %%
from softprompt_lab import course

course.check("06-4", equal_size_prompt)

# %% [markdown]
# ## Sources
# - Lester, Al-Rfou and Constant 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning" (arXiv
#   2104.08691): the method.
# - Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685): for exercise
#   06-4.
# - Hugging Face PEFT 0.21.2, module `peft.tuners.prompt_tuning`: the configuration's keys, the folder, and
#   the line that drops `trust_remote_code` (issue 2888).
# - The safetensors format: the description in its repository's README ("Format").
# - The documentation of Python's `pickle`: "Never unpickle data that could have come from an untrusted
#   source".
