"""Frozen base models by name: "tiny", "tiny-seq2seq", "smollm2", any hub id or local folder."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..config import HEAD_MODULES
from ..errors import LabError
from ..tasks import remember_base_model
from . import fetching
from .machine import fastest_dtype
from .origin import SHIPPED, folder_of

NAMES = (*SHIPPED, *fetching.SOURCES)
WITHOUT_HUB = f"{', '.join(NAMES[:-1])} or {NAMES[-1]}"  # for messages
MODEL_CLASSES = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
FASTEST = "fastest"
# Where files are found, which weights, configurations and tokenizer share; what else is passed is the model's.
FINDING = ("revision", "subfolder", "token", "cache_dir", "local_files_only", "force_download")


def load_base_model(
    name: str | Path,
    *,
    task_type: str = "CAUSAL_LM",
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    device_map: str | dict[str, Any] | None = None,
    **loading: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a base model and its tokenizer: frozen, in eval mode, with a padding token.

    `name` is "tiny", "tiny-seq2seq", "smollm2" (fetched on first use), a hub id or a folder. Only safetensors are read
    and no code of a repository runs. `device` "auto" is CUDA where there is a GPU and the CPU elsewhere, also on Apple
    machines, whose "mps" has to be asked for: its results do not repeat. `dtype` "auto" is float32 on every machine;
    "fastest" is bfloat16 where this machine multiplies it clearly faster (measured once), and then its numbers are not
    those of the chapters. Prompt, loss and optimizer stay in float32. `model.name_or_path` is `name` as given,
    `tokenizer.name_or_path` where it was read.

    `loading` may say where a hub id's files are (`revision="v1"`, `cache_dir`, `subfolder`, `token`, ...), for weights,
    configurations and tokenizer alike. `model.revision` keeps the revision, the folder of a prompt names it, and
    whatever loads the base that a folder names loads it at that revision. A subfolder is part of the name afterwards.

    A classifier's head that the files lack (SEQ_CLS and TOKEN_CLS with `num_labels=`, QUESTION_ANS) begins at random:
    it is trained with the prompt.

    A model that is too large for one device: `device_map="auto"` (or a map of its parts) spreads it over the devices,
    the memory and the disk of this machine by Accelerate's means, and `loading` (`max_memory`, `offload_folder`, ...)
    goes to transformers' `from_pretrained`. The device that holds the word embeddings holds the prompt.

    Raises:
        ValueError: an unknown `task_type`, `device` or `dtype`, `trust_remote_code`, or a revision of a folder.
        LabError: the model is not there, is broken, or is of another kind; the message says what to do.

    Example:
        >>> from softprompt_lab import load_base_model
        >>> base_model, tokenizer = load_base_model("tiny")
        >>> base_model.num_parameters(), len(tokenizer)
        (715520, 461)
    """
    name = str(name)
    if task_type not in MODEL_CLASSES:
        known = ", ".join(MODEL_CLASSES)
        raise ValueError(f"task_type={task_type!r} is unknown; choose one of: {known}.")
    if loading.pop("trust_remote_code", False):
        raise ValueError(
            "trust_remote_code=True: no code of a repository runs here; choose a model of transformers."
        )
    chosen = choose_device(device)
    loading |= {"dtype": _choose_dtype(dtype, chosen), "device_map": device_map}
    revision, part = loading.get("revision"), loading.get("subfolder")
    source = _locate(name, revision)
    if part and Path(source).is_dir():  # in which transformers looks for a part of the files only
        source = str(Path(source, loading.pop("subfolder")))
    name = f"{name}/{part}" if part else name
    try:
        with fetching.quiet_transformers():
            model, tokenizer = _load(name, source, task_type, loading)
    except LabError:
        raise
    except Exception as error:  # transformers has many kinds for what cannot be loaded
        raise _explain(name, source, revision, error) from error
    _set_padding(name, model, tokenizer)
    remember_base_model(tokenizer, model)
    model.name_or_path = model.config._name_or_path = name
    model.revision = revision
    if device_map is None:
        model = model.to(chosen)
    return model.requires_grad_(False).eval(), tokenizer


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Return the torch device called `device`; "auto" is cuda where there is one, else the CPU, and never "mps".

    Raises:
        ValueError: torch knows no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is unknown; choose auto or one of torch's.") from error


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a type as options, messages and files have it: "float32"."""
    return str(dtype).removeprefix("torch.")


def _choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Return the floating-point type called `dtype` on a device."""
    if dtype == FASTEST:
        return fastest_dtype(str(device))
    name = "float32" if dtype == "auto" else str(dtype).removeprefix("torch.")
    found = getattr(torch, name, None)
    if not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise ValueError(
            f"dtype={dtype!r} is unknown; choose one of: auto, float32, bfloat16, float16, {FASTEST}."
        )
    return found


def _locate(name: str, revision: str | None) -> str:
    """Return where transformers finds `name`: a folder, which has no revisions, or the hub id itself."""
    folder = folder_of(name)
    if folder and revision is not None:
        raise ValueError(
            f"revision={revision!r}: {name!r} is the folder {folder}, which has none; leave it out, or give a hub id."
        )
    return str(fetching.fetch(name)) if name in fetching.SOURCES else folder or name


def _load(
    name: str, source: str, task_type: str, loading: dict[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer from `source`; a decoder is not an encoder-decoder, nor the other way round.

    Weights that the files lack are an error, not random numbers, unless they are of a head that is to be trained.
    """
    finding = {key: loading[key] for key in FINDING if key in loading}
    config = transformers.AutoConfig.from_pretrained(source, **finding, trust_remote_code=False)
    wanted = "SEQ_2_SEQ_LM" if config.is_encoder_decoder else "CAUSAL_LM"
    if task_type not in (*HEAD_MODULES, wanted):
        kind = "an encoder-decoder" if config.is_encoder_decoder else "a decoder"
        raise LabError(
            f"{name!r} is {kind} ({config.model_type}): load it with task_type={wanted!r}."
        )
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        source, **finding, trust_remote_code=False
    )
    model_class = getattr(transformers, MODEL_CLASSES[task_type])
    model, report = model_class.from_pretrained(
        source, **loading, output_loading_info=True, use_safetensors=True, trust_remote_code=False
    )
    endings = tuple(HEAD_MODULES.get(task_type, ()))
    heads = tuple(f"{part}." for part, _ in model.named_modules() if part.endswith(endings))
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(heads))
    if missing:
        raise LabError(
            f"{name!r} ({model.config.model_type}) holds no {model_class.__name__}: its files lack {missing[0]!r} and "
            f"{len(missing) - 1} other weights. Choose a model that was trained for it, or {WITHOUT_HUB}."
        )
    return model, tokenizer


def _set_padding(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer a padding token (its end token) and check that it fits the model."""
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise LabError(
                f"The tokenizer of {name!r} has no end token (eos_token): set one and save it."
            )
        tokenizer.pad_token = tokenizer.eos_token
    for config in (model.config, getattr(model, "generation_config", None)):
        if config is not None and getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = tokenizer.pad_token_id
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise LabError(
            f"The tokenizer of {name!r} knows {len(tokenizer)} tokens and the model {rows}: they do not "
            "belong together. Put the model's own tokenizer into its folder."
        )


def _explain(name: str, source: str, revision: str | None, error: Exception) -> LabError:
    """Return an error that says in one sentence what transformers said about `name`, and what to do."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    if name in fetching.SOURCES:
        advice = f"Type `softprompt-lab fetch {name} --force`."
    elif (Path(source) / "adapter_config.json").is_file():
        advice = (
            "The folder holds an adapter: load the base model that its adapter_config.json names."
        )
    elif "safetensors" in said and isinstance(error, OSError):
        advice = (
            "Pickled weights can run code while they load and are not read here: load the model with transformers "
            "where you trust its source, and save it with model.save_pretrained(folder)."
        )
    elif Path(source).is_dir():
        advice = "Its folder is damaged, or no base model's."
    else:
        advice = f"It is no folder here, so it was looked up on the model hub. Without a network choose {WITHOUT_HUB}."
    at = f" at revision {revision!r}" if revision else ""
    return LabError(f"The base model {name!r}{at} cannot be loaded: {said} {advice}")
