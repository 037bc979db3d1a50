"""The configuration of a soft prompt: the keys of PEFT's `adapter_config.json`, each one checked."""

import json
import re
import warnings
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

from . import room
from .errors import AdapterError

CONFIG_NAME = "adapter_config.json"
PEFT_VERSION = "0.21.2"  # the PEFT release whose file format we write
DEFAULT_NAME = "default"  # PEFT's name for the first adapter
# What a prompt may be called: it is the name of a folder too, beside Trainer's `checkpoint-10`.
PROMPT_NAME = re.compile(r"(?!checkpoint-\d+$)[\w-]+( [\w-]+)*")
BASE_PREFIX = "base_model."  # before the names of the base model's weights, as in PEFT
# A branch, a tag or a commit by git's rules: no path that leads elsewhere.
REVISION = re.compile(r"(?![/.-])(?!.*(\.\.|//))[^\s\\:~^?*[]*")
UNKNOWN = "unknown"  # a tokenizer without a name: PEFT refuses a TEXT folder that names none
# Methods of PEFT whose saved vectors are a plain soft prompt, and what turns their configuration into one.
KINDS = dict.fromkeys(("P_TUNING", "MULTITASK_PROMPT_TUNING"), "adapters.kinds:as_prompt_tuning")


class TaskType(StrEnum):
    """What the base model's head predicts (PEFT's `TaskType`)."""

    CAUSAL_LM = "CAUSAL_LM"
    SEQ_2_SEQ_LM = "SEQ_2_SEQ_LM"
    SEQ_CLS = "SEQ_CLS"
    TOKEN_CLS = "TOKEN_CLS"
    QUESTION_ANS = "QUESTION_ANS"
    FEATURE_EXTRACTION = "FEATURE_EXTRACTION"


# Modules that PEFT trains and saves with the prompt: those whose name ends so.
HEAD_MODULES = {
    TaskType.SEQ_CLS: ("classifier", "score"),
    TaskType.TOKEN_CLS: ("classifier", "score"),
    TaskType.QUESTION_ANS: ("qa_outputs",),
    TaskType.FEATURE_EXTRACTION: (),
}


class PromptTuningInit(StrEnum):
    """Where the prompt starts (PEFT's `PromptTuningInit`)."""

    RANDOM = "RANDOM"
    TEXT = "TEXT"
    SAMPLE_VOCAB = "SAMPLE_VOCAB"


def revision_of(base_model: Any) -> str | None:
    """Return the revision that a base model was loaded at, None where it is not known or the hub's default.

    `load_base_model` keeps it in `revision`; transformers kept the commit in the configuration before its release 5.23.
    """
    return getattr(base_model, "revision", getattr(base_model.config, "_commit_hash", None))


def _is_names(value: Any) -> bool:
    """Tell whether a value is a list of names."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


# What a field may hold, beside the None of those that may be left out, and how that is said.
ANYTHING = (lambda value: True, "anything")
COUNT = (lambda value: type(value) is int and value >= 1, "a whole number of at least 1")
TEXT = (lambda value: isinstance(value, str), "a string")
ALLOWED = {
    "num_virtual_tokens": COUNT,
    "token_dim": COUNT,
    "num_attention_heads": COUNT,
    "num_layers": COUNT,
    "num_transformer_submodules": (lambda value: type(value) is int and value in (1, 2), "1 or 2"),
    "prompt_tuning_init_text": TEXT,
    "tokenizer_name_or_path": TEXT,
    "base_model_name_or_path": TEXT,
    "revision": (
        lambda value: isinstance(value, str) and REVISION.fullmatch(value),
        "a branch, tag or commit",
    ),
    "peft_version": TEXT,
    "modules_to_save": (_is_names, "a list of names of modules"),
    "inference_mode": (lambda value: isinstance(value, bool), "true or false"),
    "auto_mapping": (lambda value: isinstance(value, dict), "a mapping"),
}


def _member(enum: type[Enum], field: str, value: Any) -> Any:
    """The member of `enum` called `value`; PEFT takes an unknown start for RANDOM, we refuse it."""
    try:
        return enum(value)
    except ValueError:
        names = ", ".join(member.value for member in enum)
        raise ValueError(f"{field}={value!r} is unknown; choose one of: {names}.") from None


@dataclass
class PromptTuningConfig:
    """Configuration of a prompt of P = `num_virtual_tokens` vectors of width D = `token_dim`.

    Field names, meanings and the saved JSON are those of PEFT's `PromptTuningConfig`. Fields that describe the base
    model (`token_dim`, `num_layers`, `num_attention_heads`) may be left out: `SoftPromptModel` reads them off it.
    The default start is SAMPLE_VOCAB, or TEXT where a text is given. PEFT's is RANDOM, which lies far from every word
    (chapter 03).

    Raises:
        ValueError: a field holds something that is not allowed; the message names field, value and remedy.

    Example:
        >>> from softprompt_lab import PromptTuningConfig
        >>> config = PromptTuningConfig(num_virtual_tokens=8, prompt_tuning_init_text="Is this a complaint?")
        >>> config.prompt_tuning_init
        <PromptTuningInit.TEXT: 'TEXT'>
    """

    num_virtual_tokens: int = 20
    task_type: TaskType | str = TaskType.CAUSAL_LM
    prompt_tuning_init: PromptTuningInit | str | None = None
    prompt_tuning_init_text: str | None = None
    tokenizer_name_or_path: str | None = None
    token_dim: int | None = None
    num_transformer_submodules: int = 1
    num_attention_heads: int | None = None
    num_layers: int | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    inference_mode: bool = False
    modules_to_save: list[str] | None = None
    tokenizer_kwargs: dict[str, Any] | None = None
    auto_mapping: dict[str, Any] | None = None
    peft_type: str = "PROMPT_TUNING"
    peft_version: str = PEFT_VERSION

    def __post_init__(self) -> None:
        """Fill the default start and refuse every value that cannot be meant."""
        if self.prompt_tuning_init is None:
            self.prompt_tuning_init = (
                "SAMPLE_VOCAB" if self.prompt_tuning_init_text is None else "TEXT"
            )
        self.prompt_tuning_init = _member(
            PromptTuningInit, "prompt_tuning_init", self.prompt_tuning_init
        )
        self.task_type = _member(TaskType, "task_type", self.task_type)
        if self.peft_type != "PROMPT_TUNING":
            raise ValueError(
                f"peft_type={self.peft_type!r}; this package holds PROMPT_TUNING only."
            )
        for field in fields(self):
            value, (fits, said) = getattr(self, field.name), ALLOWED.get(field.name, ANYTHING)
            if not fits(value) and (value is not None or field.default is not None):
                raise ValueError(f"{field.name}={value!r}; it must be {said}.")
        if self.prompt_tuning_init is PromptTuningInit.TEXT and not self.prompt_tuning_init_text:
            raise ValueError(
                f"prompt_tuning_init=TEXT with prompt_tuning_init_text={self.prompt_tuning_init_text!r}; "
                "give the text that the prompt shall start from, or choose SAMPLE_VOCAB."
            )
        if self.tokenizer_kwargs:  # PEFT passes these to a tokenizer; here the caller passes that
            raise ValueError(
                f"tokenizer_kwargs={self.tokenizer_kwargs!r} is not used here; pass the tokenizer that you want: "
                "SoftPromptModel(base_model, config, tokenizer=tokenizer)."
            )

    def __repr__(self) -> str:
        """The call that makes it, without what is left at its default."""
        given = self.to_dict()
        kept = {field.name: field.default for field in fields(self)} | {"num_virtual_tokens": None}
        said = [f"{name}={given[name]!r}" for name in kept if given[name] != kept[name]]
        return f"{type(self).__name__}({', '.join(said)})"

    @property
    def total_virtual_tokens(self) -> int:
        """Rows of the saved tensor: P times the number of submodules."""
        return self.num_virtual_tokens * self.num_transformer_submodules

    def completed_for(self, base_model: Any) -> "PromptTuningConfig":
        """A copy with what is left out read off a transformers model: sizes, its name, the modules trained with it.

        What it says of another base model is read off this one too, with a warning (`bases.origin.check_base`).

        Raises:
            ValueError: the task type is not the base model's.
        """
        shape, sizes = base_model.config, base_model.config.get_text_config()
        fits = shape.is_encoder_decoder == (self.task_type is TaskType.SEQ_2_SEQ_LM)
        if not fits or not (self.task_type in HEAD_MODULES or base_model.can_generate()):
            raise ValueError(
                f"task_type={self.task_type} does not fit {type(base_model).__name__}; an encoder-decoder "
                "needs SEQ_2_SEQ_LM, a decoder CAUSAL_LM, both with their output layer, an encoder one of the others."
            )
        if self.modules_to_save and self.task_type not in HEAD_MODULES:
            raise ValueError(
                f"modules_to_save={self.modules_to_save}: a prompt for {self.task_type} trains none."
            )
        config, name = replace(self), getattr(base_model, "name_or_path", "") or None
        room("bases.origin:check_base", default=lambda *_: None)([config], base_model)
        trained = {*(self.modules_to_save or ()), *HEAD_MODULES.get(self.task_type, ())}
        found = {
            "token_dim": base_model.get_input_embeddings().weight.shape[1],
            "num_layers": sizes.num_hidden_layers,
            "num_attention_heads": getattr(sizes, "num_attention_heads", None),  # of Mamba none
            "base_model_name_or_path": name,
        }
        if (config.base_model_name_or_path or name) == name:
            found["revision"] = revision_of(base_model)
        if self.prompt_tuning_init is PromptTuningInit.TEXT:
            found["tokenizer_name_or_path"] = name or UNKNOWN
        missing = {key: value for key, value in found.items() if not getattr(config, key)}
        return replace(config, **missing, modules_to_save=sorted(trained) or None)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values, sorted by key as PEFT writes them."""
        found = sorted(asdict(self).items())
        return {key: value.value if isinstance(value, Enum) else value for key, value in found}

    def to_json(self) -> str:
        """The text of `adapter_config.json`, byte for byte PEFT's layout (indent 2, sorted keys)."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write `adapter_config.json` alone into `folder` (PEFT's `PeftConfig.save_pretrained`)."""
        from .saving import atomic_write, settle, user_path

        path = user_path(folder) / CONFIG_NAME
        settle(path.parent)
        atomic_write(path, self.to_json().encode())
        return path

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "PromptTuningConfig":
        """Read `adapter_config.json` from a folder and check every field.

        Keys of other PEFT releases that say nothing about a soft prompt are passed over with a warning.

        Raises:
            AdapterError: the file is missing, is no JSON object, or holds a value that is not allowed.
        """
        from .saving import read_json_object, settle, user_path

        path = user_path(folder) / CONFIG_NAME
        settle(path.parent)
        return cls.from_dict(read_json_object(path), path)

    @classmethod
    def from_dict(
        cls, values: dict[str, Any], source: str | Path = "the configuration"
    ) -> "PromptTuningConfig":
        """Check the keys and values of a saved configuration; `source` is named in errors.

        P_TUNING and MULTITASK_PROMPT_TUNING become what their saved vectors are: PROMPT_TUNING.
        """
        values = dict(values)
        kind = values.get("peft_type")
        if isinstance(kind, str) and kind in KINDS:
            values = room(KINDS[kind])(values)
        for key in ("peft_type", "task_type", "num_virtual_tokens"):
            if values.get(key) is None:
                raise AdapterError(f"{source}: {key!r} is missing; PEFT and this package need it.")
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            names = ", ".join(map(repr, unknown))
            warnings.warn(f"{source}: keys that prompt tuning does not use: {names}.", stacklevel=3)
        known = {key: value for key, value in values.items() if key not in unknown}
        known.setdefault("prompt_tuning_init", "RANDOM")  # PEFT's, in folders older than the key
        if known.get("num_transformer_submodules") is None:
            known["num_transformer_submodules"] = 2 if known["task_type"] == "SEQ_2_SEQ_LM" else 1
        if known.get("peft_version") is None:
            known["peft_version"] = PEFT_VERSION
        known["tokenizer_kwargs"] = None  # not on a checkpoint's word (peft issue 2888)
        try:
            return cls(**known)
        except ValueError as error:
            raise AdapterError(f"{source}: {error}") from error
