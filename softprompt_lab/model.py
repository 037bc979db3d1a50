"""SoftPromptModel: a frozen base model with one or several trainable prompts in front of its input."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import nn
from transformers.utils import ModelOutput

from . import room
from .batch import (
    IGNORE,
    PlainEngine,
    PromptedBatch,
    Prompts,
    check_labels,
    checked_mask,
    decoder_input_ids,
    generation_argument,
    lengths_of_new_text,
    prepend_prompt,
    refuse,
    refuse_types,
)
from .config import DEFAULT_NAME, HEAD_MODULES, PROMPT_NAME, PromptTuningConfig, TaskType
from .embedding import PromptEmbedding, words_of
from .saving import load_prompt, load_prompts, save_prompts
from .tasks import remember_base_model

# What a task with a head makes of prompts and text; the others are the base model's own business.
TASK_FORWARD = dict.fromkeys(HEAD_MODULES, "heads.classify:classify")
WRITES = (TaskType.CAUSAL_LM, TaskType.SEQ_2_SEQ_LM)
# What transformers' Trainer and pipelines, and Accelerate, ask of a model, the base model answers.
ASKED_OF_THE_BASE = (
    "config",
    "generation_config",
    "hf_device_map",
    "can_generate",
    "prepare_decoder_input_ids_from_labels",
    "activation_checkpointing_enable",
    "gradient_checkpointing_enable",
)


def ask_about_vectors(base_model: nn.Module, looks_back: bool) -> None:
    """Refuse a base model that vectors in place of token ids do not serve; without the room nobody asks."""
    room("engine.exactness:check_reads_vectors", default=lambda *_: None)(base_model, looks_back)


def default_engine() -> PlainEngine:
    """Return the fast engine, or the plain one where the room `engine` is missing."""
    return room("engine:FastEngine", default=PlainEngine)()


class SoftPromptModel(nn.Module):
    """A frozen base model with trainable virtual tokens in front of its input (PEFT's `PeftModelForCausalLM`).

    Text stands directly behind the prompt and pads outside, whatever side the caller pads on, so a row's result does
    not depend on the rows beside it. Logits line up with `input_ids`: the prompt's positions are cut off.
    SEQ_2_SEQ_LM has its prompt in front of the encoder; SEQ_CLS, TOKEN_CLS and QUESTION_ANS train the base model's
    head too, on a copy (`heads.classify`). `state_dict` holds what can be trained and leaves out the frozen rest.

    Args:
        base_model: a transformers model; its weights are frozen here and stay as they are. One that PEFT has given a
            LoRA is taken out of its `PeftModel` with it; to train the LoRA too, set its `requires_grad` afterwards.
        config: what the prompt is; sizes that it leaves out are read off the base model.
        tokenizer: needed by a TEXT start and by `evaluate`, `train` and the command line.
        start: (P, D) vectors to start from instead of what `config.prompt_tuning_init` says.
        head: saved weights of a head that was trained with the prompt, by their names in the base model.
        engine: how batches go through the base model; None is the fast way (`engine.FastEngine`).

    Raises:
        ValueError: a task type that is not the base model's, sizes that do not fit it, or a base model that reads more
            of a word than its vector (`engine.exactness.check_reads_vectors`).

    Example:
        >>> from softprompt_lab import PromptTuningConfig, SoftPromptModel, load_base_model
        >>> base_model, tokenizer = load_base_model("tiny")
        >>> model = SoftPromptModel(base_model, PromptTuningConfig(num_virtual_tokens=4), tokenizer=tokenizer)
        >>> tuple(model.prompt.shape)
        (4, 128)
    """

    def __init__(
        self,
        base_model: nn.Module,
        config: PromptTuningConfig,
        *,
        tokenizer=None,
        start: Float[torch.Tensor, "P D"] | None = None,
        head: dict[str, torch.Tensor] | None = None,
        engine: PlainEngine | None = None,
    ) -> None:
        super().__init__()
        if hasattr(base_model, "get_base_model"):  # a PeftModel
            base_model = room("interop.lora:out_of_peft")(base_model)
        if base_model.get_input_embeddings().weight.is_meta:
            raise ValueError(
                "the base model's word embeddings are offloaded; keep them on a device in device_map."
            )
        self.base_model = base_model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        if tokenizer is not None:
            remember_base_model(tokenizer, base_model)
        self.engine = engine or default_engine()
        self.prompts = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        self.configs: dict[str, PromptTuningConfig] = {}
        self._disabled = False
        self.add_prompt(DEFAULT_NAME, config, start=start, head=head)
        self.set_prompt(DEFAULT_NAME)
        with torch.no_grad(), self.engine.inside(self.base_model):
            ask_about_vectors(self.base_model, config.task_type in WRITES)
        room("interop.states:keep_frozen_out", default=lambda model: None)(self)

    def __getattr__(self, name: str) -> Any:
        """Return a part of this module, or what the base model answers to Trainer, pipelines and Accelerate."""
        return (
            getattr(self.base_model, name)
            if name in ASKED_OF_THE_BASE
            else super().__getattr__(name)
        )

    # ------------------------------------------------------------------------------------------- prompts by name

    def add_prompt(
        self,
        name: str,
        config: PromptTuningConfig,
        *,
        start: Float[torch.Tensor, "P D"] | None = None,
        head: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Put one more prompt beside the others (PEFT's `add_adapter`), frozen; the active one stays active.

        Raises:
            ValueError: there is one of that name, a name that is no word, or sizes that do not fit the base model.
        """
        self._check_free(name)
        config = config.completed_for(self.base_model)
        words, found = self.word_embeddings_module, {}
        found["prompts"] = PromptEmbedding(config, words, tokenizer=self.tokenizer, start=start)
        if config.task_type in HEAD_MODULES or head:
            endings = config.modules_to_save or ()
            found["heads"] = room("heads.classify:Head")(self.base_model, endings, head)
        for kind, module in found.items():
            getattr(self, kind)[name] = module.to(self.device).requires_grad_(False)
        self.configs[name] = config

    def load_prompt(
        self,
        folder: str | Path,
        name: str,
        *,
        task_id: int | None = None,
        revision: str | None = None,
    ) -> None:
        """Put a saved prompt beside the others (PEFT's `load_adapter`); arguments and errors of `from_pretrained`."""
        self._check_free(name)
        load_prompt(self, folder, name, task_id=task_id, revision=revision)

    def _check_free(self, name: str) -> None:
        """Raise ValueError for a name that a new prompt cannot have."""
        if name in self.prompts:
            raise ValueError(f"there is a prompt called {name!r} already; choose another name.")
        if not PROMPT_NAME.fullmatch(name) or hasattr(self.prompts, name):
            raise ValueError(
                f"a prompt cannot be called {name!r}; take another word of letters, digits, '_' and '-'."
            )

    def set_prompt(self, name: str) -> None:
        """Choose the prompt that forward, loss and generate use (PEFT's `set_adapter`)."""
        self.prompt_by_name(name)  # or a ValueError that names those there are
        self.active_prompt = name
        for key, module in (*self.prompts.items(), *self.heads.items()):
            module.requires_grad_(key == name)

    def delete_prompt(self, name: str) -> None:
        """Remove a prompt and its head (PEFT's `delete_adapter`); the first of the others takes an active one's place.

        Raises:
            ValueError: there is none of that name, or no other.
        """
        self.prompt_by_name(name)
        if len(self.prompts) == 1:
            raise ValueError(
                f"{name!r} is the only prompt; the model without one is model.base_model."
            )
        for named in (self.prompts, self.heads, self.configs):
            if name in named:
                del named[name]
        if self.active_prompt == name:
            self.set_prompt(next(iter(self.prompts)))
            warnings.warn(
                f"{name!r} was active; {self.active_prompt!r} is from now on.", stacklevel=2
            )

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Inside, forward, loss, generate and `evaluate` are the bare base model's, with its own head."""
        before, self._disabled = self._disabled, True
        try:
            yield
        finally:
            self._disabled = before

    # --------------------------------------------------------------------------------------------- what there is

    @property
    def prompt_config(self) -> PromptTuningConfig:
        """The active prompt's configuration (PEFT's `active_peft_config`); `config` is the base model's."""
        return self.configs[self.active_prompt]

    @property
    def device(self) -> torch.device:
        """The device of the word embeddings."""
        return self.word_embeddings_module.weight.device

    @property
    def word_embeddings_module(self) -> nn.Module:
        """The base model's input embedding layer."""
        return self.base_model.get_input_embeddings()

    @property
    def word_embeddings(self) -> Float[torch.Tensor, "V D"]:
        """The word vectors as the base model reads them: the layer's weight itself, unless the layer scales it."""
        return words_of(self.word_embeddings_module)

    @property
    def accepts_loss_kwargs(self) -> bool:
        """True where `forward` takes `num_items_in_batch`, by which Trainer divides when it accumulates gradients."""
        return (
            self.prompt_config.task_type not in HEAD_MODULES and not self.config.is_encoder_decoder
        )

    @property
    def prompt(self) -> Float[torch.Tensor, "P D"]:
        """The active prompt, a view of its weight: under `torch.no_grad()`, `model.prompt.copy_(...)` changes it.

        Its gradient is in `prompts[name].embedding.weight.grad`.
        """
        return self.prompt_by_name(self.active_prompt)

    def prompt_by_name(self, name: str) -> Float[torch.Tensor, "P D"]:
        """Return a prompt by name; of PEFT's 2P rows for an encoder-decoder, the P that are read.

        Raises:
            ValueError: there is none of that name.
        """
        if name not in self.prompts:
            raise ValueError(
                f"there is no prompt called {name!r}; there are: {', '.join(self.prompts)}."
            )
        return self.prompts[name].embedding.weight[: self.configs[name].num_virtual_tokens]

    def get_prompt(self, batch_size: int) -> Float[torch.Tensor, "B P D"]:
        """Return the active prompt once for each row (PEFT's `get_prompt`): virtual tokens 0 to P-1, looked up."""
        indices = torch.arange(self.prompt_config.num_virtual_tokens, device=self.device)
        return self.prompts[self.active_prompt](indices.expand(batch_size, -1))

    def prompts_of_rows(self, names: Sequence[str] | None, rows: int) -> list[torch.Tensor]:
        """Return the prompts at work: one for every row, or with `names` one for each; while disabled of length 0.

        Raises:
            ValueError: an unknown name, or not one for each row.
        """
        if self._disabled:
            _refuse_names(names)
            return [self.prompt[:0]]
        if names is None:
            return [self.get_prompt(1)[0]]
        if len(names) != rows:
            raise ValueError(
                f"prompt_names has {len(names)} names for {rows} rows; give one for each row."
            )
        distinct = {name: self.prompt_by_name(name) for name in names}
        return [distinct[name] for name in names]

    def head_weights(self, names: Sequence[str] | None = None) -> dict[str, nn.Parameter]:
        """Return the trained head of the active prompt, or of the one that `names` name, by names in the base model."""
        distinct = set(names or [self.active_prompt])
        if len(distinct) > 1:
            raise ValueError(
                f"prompt_names={list(names)}: each prompt has a head of its own; call one by one."
            )
        name = distinct.pop()
        return self.heads[name].weights() if name in self.heads else {}

    def trainable_parameters(self) -> tuple[int, int]:
        """Return the numbers of trainable and of all parameters."""
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return trainable, sum(p.numel() for p in self.parameters())

    def print_trainable_parameters(self) -> None:
        """Print both numbers and their ratio in PEFT's form."""
        trainable, total = self.trainable_parameters()
        share = 100 * trainable / total
        print(
            f"trainable params: {trainable:,} || all params: {total:,} || trainable%: {share:.4f}"
        )

    def _get_name(self) -> str:
        """Return the base model's name, by which Trainer knows how labels line up where it smooths them."""
        return self.base_model._get_name()

    def __repr__(self) -> str:
        """Its prompts and sizes in two lines; the tree of layers is the base model's."""
        P, (trained, total) = len(self.prompt), self.trainable_parameters()
        said = f"{len(self.prompts)} prompt(s) on {self._get_name()}, active {self.active_prompt!r}"
        said += f" with {P} virtual tokens; {trained:,} of {total:,} parameters are trained"
        return f"{type(self).__name__}: {said}\n  print(model.base_model) shows its layers"

    def train(self, mode: bool = True) -> "SoftPromptModel":
        """Set the mode of the prompt; the base model stays in eval mode, since its dropout would only add noise."""
        super().train(mode)
        self.base_model.eval()
        return self

    # ------------------------------------------------------------------------------------------------------- use

    def forward(
        self,
        input_ids: Int[torch.Tensor, "B T"] | None = None,
        attention_mask: Int[torch.Tensor, "_ _"] | None = None,
        labels: torch.Tensor | None = None,
        *,
        inputs_embeds: Float[torch.Tensor, "B T D"] | None = None,
        token_type_ids: Int[torch.Tensor, "B T"] | None = None,
        start_positions: Int[torch.Tensor, " B"] | None = None,
        end_positions: Int[torch.Tensor, " B"] | None = None,
        prompt_names: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> ModelOutput:
        """Run the base model behind the prompt.

        Args:
            attention_mask: 1 for text and 0 for pads, on either side. Without one every token counts as text.
            labels: for a decoder (B, T), lined up with `input_ids`, -100 where nothing is to be predicted; the first
                token is predicted by the last virtual token, as in PEFT. With a head see `heads.classify`.
            inputs_embeds: word vectors in place of `input_ids`.
            token_type_ids, start_positions, end_positions: see `heads.classify`; text is written without types.
            prompt_names: one for each row, where rows stand behind different prompts; lengths may differ.
            kwargs: go to the base model (`output_hidden_states=True`, ...).
            num_items_in_batch: what a decoder's summed loss is divided by, in place of the number of labels here.

        Returns:
            The base model's output: `logits` (B, T, V), zero at pads; `loss` is the mean over labelled tokens.

        Raises:
            ValueError: shapes that do not fit, a labelled pad, or an argument that a prompt makes meaningless.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass either input_ids or inputs_embeds.")
        kwargs |= _given(
            labels=labels,
            token_type_ids=token_type_ids,
            start_positions=start_positions,
            end_positions=end_positions,
        )
        with self.engine.inside(self.base_model):
            if self._disabled:
                _refuse_names(prompt_names)
                text = {"inputs_embeds": inputs_embeds, "attention_mask": attention_mask}
                return self.base_model(**_given(input_ids=input_ids, **text), **kwargs)
            refuse(kwargs.get)
            words = (
                self.word_embeddings_module(input_ids) if inputs_embeds is None else inputs_embeds
            )
            mask = checked_mask(words, attention_mask)
            prompts, task = (
                self.prompts_of_rows(prompt_names, len(words)),
                self.prompt_config.task_type,
            )
            if task in TASK_FORWARD:
                head = self.head_weights(prompt_names)
                classify = room(TASK_FORWARD[task])
                return classify(self.base_model, task, prompts, words, mask, head, **kwargs)
            refuse_types(self.base_model, token_type_ids)
            batch = prepend_prompt(prompts, words, mask)
            if self.base_model.config.is_encoder_decoder:
                if labels is not None and "decoder_inputs_embeds" not in kwargs:
                    read = decoder_input_ids(self.base_model, labels)
                    kwargs.setdefault("decoder_input_ids", read)
                return self.base_model(**batch.inputs, **kwargs)
            return self._decode(batch, **kwargs)

    def _decode(
        self,
        batch: PromptedBatch,
        labels: Int[torch.Tensor, "_ _"] | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> ModelOutput:
        """Return a decoder's output, lined up with the text."""
        if labels is not None:
            check_labels(labels, batch.text)
        output = self.base_model(**batch.inputs, **{"use_cache": False, **kwargs})
        if labels is not None:
            loss = batch.loss(output.logits, labels, num_items_in_batch)
            output = type(output)(loss=loss, **output)
        for key in ("logits", "hidden_states"):
            if output.get(key) is not None:
                output[key] = _map(output[key], batch.align)
        return output

    def loss(
        self,
        input_ids: Int[torch.Tensor, "B T"],
        attention_mask: Int[torch.Tensor, "_ _"] | None,
        labels: torch.Tensor,
        *,
        prompt_names: Sequence[str] | None = None,
        prompts: Prompts | None = None,
    ) -> Float[torch.Tensor, ""]:
        """Return the value of `forward(...).loss`, which `train` uses: the engine reads the rows without their pads.

        Args:
            prompts: (P, D) vectors in place of the model's own, one for every row or one for each.

        Raises:
            ValueError: as `forward`, no token has a label, or `prompts` where another way of naming them counts.
        """
        plainly = self._disabled or self.prompt_config.task_type in TASK_FORWARD
        if prompts is not None and (plainly or prompt_names is not None):
            raise ValueError(
                "prompts cannot be passed with prompt_names, inside disable_adapter() or for a model with a head."
            )
        if plainly:
            return self(input_ids, attention_mask, labels, prompt_names=prompt_names).loss
        mask = checked_mask(input_ids, attention_mask)
        if not self.config.is_encoder_decoder:
            check_labels(labels, mask)
        if (labels == IGNORE).all():
            raise ValueError(
                "no token of this batch has a label (all are -100); nothing can be learned from it."
            )
        rows = self.prompts_of_rows(prompt_names, len(input_ids)) if prompts is None else prompts
        return self.engine.label_loss(self.base_model, rows, input_ids, mask, labels)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Int[torch.Tensor, "B T"],
        attention_mask: Int[torch.Tensor, "_ _"] | None = None,
        *,
        prompt_names: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        """Continue each row behind the prompt; takes the arguments of transformers' `generate`.

        A prompt's keys and values are computed once and kept until the prompt changes.

        Args:
            prompt_names: one for each row, where rows stand behind different prompts.

        Returns:
            As transformers does: for a decoder `input_ids` with the new tokens behind them (B, T + new), for an
            encoder-decoder the decoder's tokens. `max_length` counts `input_ids`, not the virtual tokens.

        Raises:
            ValueError: as `forward`, `max_length` leaves no room, or prompt, text and new tokens are more than the base
                model has positions for.
        """
        task, base_model = self.prompt_config.task_type, self.base_model
        if task in HEAD_MODULES:
            raise ValueError(f"task_type={task} generates no text; call the model itself.")
        with self.engine.inside(base_model):
            if self._disabled:
                _refuse_names(prompt_names)
                text = _given(input_ids=input_ids, attention_mask=attention_mask)
                return base_model.generate(**text, **kwargs)
            refuse(lambda name: generation_argument(base_model, kwargs, name))
            refuse_types(base_model, kwargs.get("token_type_ids"))
            mask = checked_mask(input_ids, attention_mask)
            prompts = self.prompts_of_rows(prompt_names, len(input_ids))
            if not base_model.config.is_encoder_decoder:
                kwargs = lengths_of_new_text(base_model, kwargs, mask, max(map(len, prompts)))
            return self.engine.generate(base_model, prompts, input_ids, mask, **kwargs)

    # ------------------------------------------------------------------------------------------------ the folder

    def save_pretrained(
        self,
        folder: str | Path,
        safe_serialization: bool = True,
        *,
        results: dict[str, Any] | None = None,
    ) -> Path:
        """Write every prompt as PEFT does: configuration, tensor, README.md (`saving.save_adapter`).

        The one called "default" goes to the folder itself, each other one to a sub-folder of its name. `results` are
        measured figures for the card of the active prompt.
        """
        return save_prompts(self, folder, safe_serialization, results)

    @classmethod
    def from_pretrained(
        cls,
        base_model: nn.Module,
        folder: str | Path,
        *,
        tokenizer=None,
        task_id: int | None = None,
        revision: str | None = None,
        prompt_names: Sequence[str] | None = None,
    ) -> "SoftPromptModel":
        """Wrap a base model with a saved prompt; it can be used or trained on.

        Args:
            folder: a folder, or the id `user/name` of a repository on a model hub; `task_id` and `revision` are
                those of `saving.load_adapter`.
            prompt_names: the prompts to load from its sub-folders; left out all, `[]` none.

        Raises:
            AdapterError: the folder is damaged, or a prompt in it does not fit the base model.
        """
        which = {"task_id": task_id, "revision": revision, "prompt_names": prompt_names}
        return load_prompts(cls, base_model, folder, tokenizer=tokenizer, **which)

    def push_to_hub(
        self, repo_id: str, *, results: dict[str, Any] | None = None, **options: Any
    ) -> str:
        """Send what `save_pretrained` writes to the repository `user/name` of a model hub; return the commit's address.

        `options`: `revision`, `private`, `message` (`adapters.hub.push`, which raises AdapterError where it cannot).
        """
        return room("adapters.hub:push")(self, repo_id, results=results, **options)


def get_soft_prompt_model(
    base_model: nn.Module, config: PromptTuningConfig, *, tokenizer=None
) -> SoftPromptModel:
    """Wrap a base model with a new prompt (PEFT's `get_peft_model`).

    Example:
        >>> from softprompt_lab import PromptTuningConfig, get_soft_prompt_model, load_base_model
        >>> base_model, _ = load_base_model("tiny")
        >>> get_soft_prompt_model(base_model, PromptTuningConfig(4)).print_trainable_parameters()
        trainable params: 512 || all params: 716,032 || trainable%: 0.0715
    """
    return SoftPromptModel(base_model, config, tokenizer=tokenizer)


# ------------------------------------------------------------------------------------- arguments and outputs


def _given(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def _refuse_names(names: Sequence[str] | None) -> None:
    """Raise ValueError for names of prompts while all of them are disabled."""
    if names is not None:
        raise ValueError(f"prompt_names={list(names)} cannot be passed inside disable_adapter().")


def _map(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Apply a function to a tensor or to each tensor of a tuple."""
    return tuple(function(part) for part in value) if isinstance(value, tuple) else function(value)
