"""Run by test_hub.py in a process of its own: huggingface_hub reads where its hub is once, when it is imported.

Prints, as JSON, what was sent, what came back and what the errors said.
"""

import json
import os
from pathlib import Path

import huggingface_hub
import peft
import torch
from families import gpt2

from softprompt_lab import AdapterError, PromptTuningConfig, SoftPromptModel, load_adapter

IDS = torch.tensor([[5, 17, 33, 8]])


def behind(*values: float) -> SoftPromptModel:
    """GPT-2 behind a prompt for each value, all of whose numbers are that value; the second one is called "mail"."""
    starts = [torch.full((3, 32), value) for value in values]
    model = SoftPromptModel(gpt2(), PromptTuningConfig(3), start=starts[0])
    model.base_model.name_or_path = "/home/somebody/gpt2"
    for start in starts[1:]:
        model.add_prompt("mail", PromptTuningConfig(3), start=start)
    return model


def prompts_of(model: SoftPromptModel) -> dict[str, float]:
    """The value of each prompt."""
    return {name: round(model.prompt_by_name(name).mean().item(), 6) for name in model.prompts}


def error_of(function, *arguments, **keywords) -> str:
    """What an AdapterError says; any other ends the visit."""
    try:
        function(*arguments, **keywords)
    except AdapterError as error:
        return str(error)
    return "no error"


def visit() -> dict[str, object]:
    """Send, fetch, and go wrong in every way that the stand-in has prepared."""
    from_pretrained = SoftPromptModel.from_pretrained
    model, said = behind(0.25, 0.5), {}
    said["first"] = model.push_to_hub(
        "me/prompt", results={"accuracy": "0.9"}, message="two prompts"
    )
    said["other"] = behind(0.75).push_to_hub("me/prompt", revision="other", private=True)
    said["fetched"] = prompts_of(from_pretrained(gpt2(), "me/prompt"))
    said["same"] = torch.equal(from_pretrained(gpt2(), "me/prompt")(IDS).logits, model(IDS).logits)
    theirs = peft.PeftModel.from_pretrained(gpt2(), "me/prompt").eval()
    said["peft"] = torch.allclose(
        theirs(input_ids=IDS).logits[:, 3:], model(IDS).logits, rtol=1e-5, atol=1e-5
    )
    said["branch"] = load_adapter("me/prompt", revision="other")[1].mean().item()
    commit = said["first"].split("/")[-1]
    behind(0.125).push_to_hub("me/prompt")
    said["later"] = prompts_of(from_pretrained(gpt2(), "me/prompt"))
    said["then"] = prompts_of(
        from_pretrained(gpt2(), "me/prompt", revision=commit, prompt_names=[])
    )
    for name in ("missing", "empty", "pickled", "large", "bad"):
        said[name] = error_of(load_adapter, f"me/{name}")
    said["revision"] = error_of(load_adapter, "me/prompt", revision="nowhere")
    said["folder with a revision"] = error_of(load_adapter, "./me/prompt", revision="main")
    said["path"] = error_of(load_adapter, Path("me/local"))
    Path("here").mkdir()
    said["beside"] = error_of(load_adapter, "here/local")
    os.environ.pop("HF_TOKEN")
    said["no token"] = error_of(model.push_to_hub, "me/forbidden")
    huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:9"  # where nobody listens
    said["no network"] = error_of(load_adapter, "me/away")
    said["nowhere to send"] = error_of(model.push_to_hub, "me/away")
    said["left"] = sorted(path.name for path in Path.cwd().rglob("*") if path.is_file())
    return said


if __name__ == "__main__":
    print(json.dumps(visit()))
