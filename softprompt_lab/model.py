"""SoftPromptModel: a frozen base model with one or several trainable prompts in front of its input."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import nn
from transformers import Cache
from transformers.loss.loss_utils import fixed_cross_entropy
from transformers.utils import ModelOutput

from .batch import check_labels, checked_mask, prepend_prompt, refuse
from .config import HEAD_MODULES, PROMPT_NAME, PromptTuningConfig, TaskType
from .embedding import PromptEmbedding
from .engine.generation import generate_behind
from .engine.gradient_checkpointing import with_gradient_checkpointing
from .engine.locks import locked
from .engine.packing import IGNORE, from_tensors
from .engine.prefixes import Prefix, PrefixMemory
from .engine.scoring import label_loss
from .heads.classify import Head, classify
from .interface import TransformersInterface, out_of_peft

DEFAULT_NAME = "default"  # PEFT's name for the first adapter


class SoftPromptModel(TransformersInterface):
    """A frozen base model with trainable virtual tokens in front of its input (PEFT's `PeftModelForCausalLM`).

    Text stands directly behind the prompt and pads outside, whatever side the caller pads on, so a row's result does
    not depend on the rows beside it. Logits line up with `input_ids`: the prompt's places are cut off.
    SEQ_2_SEQ_LM has its prompt in front of the encoder; SEQ_CLS, TOKEN_CLS and QUESTION_ANS train the base model's
    head too, on a copy (`heads.py`).

    Args:
        base_model: a transformers model; its weights are frozen here and stay as they are. One that PEFT has given a
            LoRA is taken out of its `PeftModel` with it; to train the LoRA too, set its `requires_grad` afterwards.
        config: what the prompt is; sizes that it leaves out are read off the base model.
        tokenizer: needed by a TEXT start and by `evaluate`, `train` and the command line.
        start: (P, D) vectors to start from instead of what `config.prompt_tuning_init` says.

    Raises:
        ValueError: a task type that is not the base model's, or sizes that do not fit it.
    """

    def __init__(
        self,
        base_model: nn.Module,
        config: PromptTuningConfig,
        *,
        tokenizer=None,
        start: Float[torch.Tensor, "P D"] | None = None,
    ) -> None:
        super().__init__()
        base_model = out_of_peft(base_model)
        if base_model.get_input_embeddings().weight.is_meta:
            raise ValueError(
                "the base model's word embeddings are offloaded; keep them on a device in device_map."
            )
        self.base_model = base_model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.prompts = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        self.configs: dict[str, PromptTuningConfig] = {}
        self._prefixes = PrefixMemory()
        self._disabled = False
        self.add_prompt(DEFAULT_NAME, config, start=start)
        self.set_prompt(DEFAULT_NAME)

    # ------------------------------------------------------------------------------------------- prompts by name

    def add_prompt(
        self,
        name: str,
        config: PromptTuningConfig,
        *,
        start: Float[torch.Tensor, "P D"] | None = None,
    ) -> None:
        """Put one more prompt beside the others (PEFT's `add_adapter`), frozen; the active one stays active."""
        self.put_prompt(name, *self.new_prompt(config, start))

    def load_prompt(
        self,
        folder: str | Path,
        name: str,
        *,
        task_id: int | None = None,
        revision: str | None = None,
    ) -> None:
        """Put a saved prompt beside the others (PEFT's `load_adapter`); arguments and errors of `from_pretrained`."""
        from .adapters.prompts import load_prompt

        load_prompt(self, folder, name, task_id=task_id, revision=revision)

    def new_prompt(
        self, config: PromptTuningConfig, start: Float[torch.Tensor, "P D"] | None
    ) -> tuple[PromptEmbedding, Head, PromptTuningConfig]:
        """A prompt that fits the base model, with the head of its task and its configuration, not yet put anywhere."""
        config = config.completed_for(self.base_model)
        prompt = PromptEmbedding(
            config, self.word_embeddings_module, tokenizer=self.tokenizer, start=start
        )
        return prompt, Head(self.base_model, config.modules_to_save or ()), config

    def put_prompt(
        self, name: str, prompt: PromptEmbedding, head: Head, config: PromptTuningConfig
    ) -> None:
        """Keep a new prompt under a name that is free; it learns once it is chosen."""
        if name in self.prompts:
            raise ValueError(f"there is a prompt called {name!r} already; choose another name.")
        if not PROMPT_NAME.fullmatch(name) or hasattr(self.prompts, name):
            raise ValueError(
                f"a prompt cannot be called {name!r}; take another word of letters, digits, '_' and '-'."
            )
        self.prompts[name] = prompt.to(self.device).requires_grad_(False)
        self.heads[name] = head.to(self.device).requires_grad_(False)
        self.configs[name] = config

    def set_prompt(self, name: str) -> None:
        """Choose the prompt that forward, loss and generate use (PEFT's `set_adapter`)."""
        self.prompt_by_name(name)  # or a ValueError that names those there are
        self.active_prompt = name
        for key in self.prompts:
            self.prompts[key].requires_grad_(key == name)
            self.heads[key].requires_grad_(key == name)

    def delete_prompt(self, name: str) -> None:
        """Remove a prompt and its head (PEFT's `delete_adapter`); the first of the others takes an active one's place.

        Raises:
            ValueError: there is none of that name, or no other.
        """
        self.prompt_by_name(name)  # or a ValueError that names those there are
        if len(self.prompts) == 1:
            raise ValueError(
                f"{name!r} is the only prompt; the model without one is model.base_model."
            )
        del self.prompts[name], self.heads[name], self.configs[name]
        self._prefixes.clear()
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
        """Where the word embeddings are."""
        return self.word_embeddings.device

    @property
    def word_embeddings_module(self) -> nn.Module:
        """The base model's input embedding layer."""
        return self.base_model.get_input_embeddings()

    @property
    def word_embeddings(self) -> Float[torch.Tensor, "V D"]:
        """The base model's word vectors."""
        return self.word_embeddings_module.weight

    @property
    def prompt(self) -> Float[torch.Tensor, "P D"]:
        """The active prompt, with its gradient path."""
        return self.prompt_by_name(self.active_prompt)

    def prompt_by_name(self, name: str) -> Float[torch.Tensor, "P D"]:
        """A prompt by name; of PEFT's 2P rows for an encoder-decoder, the P that are read.

        Raises:
            ValueError: there is none of that name.
        """
        if name not in self.prompts:
            raise ValueError(
                f"there is no prompt called {name!r}; there are: {', '.join(self.prompts)}."
            )
        return self.prompts[name].embedding.weight[: self.configs[name].num_virtual_tokens]

    def get_prompt(self, batch_size: int) -> Float[torch.Tensor, "B P D"]:
        """The active prompt once for each row (PEFT's `get_prompt`)."""
        return self.prompt.expand(batch_size, -1, -1)

    def trainable_parameters(self) -> tuple[int, int]:
        """Numbers of trainable and of all parameters."""
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return trainable, sum(p.numel() for p in self.parameters())

    def print_trainable_parameters(self) -> None:
        """Print both numbers and their ratio in PEFT's form."""
        trainable, total = self.trainable_parameters()
        share = 100 * trainable / total
        print(
            f"trainable params: {trainable:,} || all params: {total:,} || trainable%: {share:.4f}"
        )

    def train(self, mode: bool = True) -> "SoftPromptModel":
        """Set the mode of the prompt; the base model stays in eval mode, since its dropout would only add noise."""
        super().train(mode)
        self.base_model.eval()
        return self

    # ------------------------------------------------------------------------------------------------------- use

    @locked
    @with_gradient_checkpointing
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
            token_type_ids, start_positions, end_positions: see `heads.classify`.
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
            token_type_ids=token_type_ids,
            start_positions=start_positions,
            end_positions=end_positions,
        )
        if self._disabled:
            _refuse_names(prompt_names)
            text = _given(
                input_ids=input_ids, inputs_embeds=inputs_embeds, attention_mask=attention_mask
            )
            return self.base_model(**text, **_given(labels=labels), **kwargs)
        refuse(kwargs.get)
        words = self.word_embeddings_module(input_ids) if inputs_embeds is None else inputs_embeds
        mask = checked_mask(words, attention_mask)
        rows = self._prompt_of_rows(prompt_names, len(words))
        if self.prompt_config.task_type in HEAD_MODULES:
            weights = self._head_of_rows(prompt_names).weights()
            kwargs |= _given(labels=labels)
            return classify(
                self.base_model, self.prompt_config.task_type, rows, words, mask, weights, **kwargs
            )
        batch = prepend_prompt(rows, words, mask)
        if self.base_model.config.is_encoder_decoder:
            return self.base_model(**batch.inputs, labels=labels, **kwargs)
        check_labels(labels, mask)
        num_items = kwargs.pop("num_items_in_batch", None)
        output = self.base_model(**batch.inputs, **{"use_cache": False, **kwargs})
        if labels is not None:
            predicting = batch.align(output.logits, behind=1).float()  # (B, T, V)
            loss = fixed_cross_entropy(
                predicting.flatten(0, 1), labels.flatten(), num_items, ignore_index=IGNORE
            )
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
    ) -> Float[torch.Tensor, ""]:
        """`forward(...).loss` by the fast way: on a decoder no pads, and logits at the labels only.

        Raises:
            ValueError: as `forward`, or no token has a label.
        """
        if self._disabled or self.prompt_config.task_type is not TaskType.CAUSAL_LM:
            return self(input_ids, attention_mask, labels, prompt_names=prompt_names).loss
        mask = checked_mask(input_ids, attention_mask)
        check_labels(labels, mask)
        prompts, numbers = self.prompts_of(prompt_names, len(input_ids))
        return label_loss(self.base_model, prompts, from_tensors(input_ids, mask, labels, numbers))

    @locked
    @torch.no_grad()
    def generate(
        self,
        input_ids: Int[torch.Tensor, "B T"],
        attention_mask: Int[torch.Tensor, "_ _"] | None = None,
        *,
        prompt_names: Sequence[str] | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ):
        """Continue each row behind the prompt; takes the arguments of transformers' `generate`.

        A prompt's keys and values are computed once and kept until the prompt changes.

        Args:
            prompt_names: one for each row, where rows stand behind different prompts.
            past_key_values: of an earlier call with `return_dict_in_generate=True`, to go on from it: pass its
                `sequences` with the new text behind them, and a mask for all of it.

        Returns:
            As transformers does: for a decoder `input_ids` with the new tokens behind them (B, T + new), for an
            encoder-decoder the decoder's tokens. `max_length` counts `input_ids`, not the virtual tokens.

        Raises:
            ValueError: as `forward`, `max_length` leaves no room, prompt, text and new tokens are more than the base
                model has positions for, or a cache that nothing can go on from.
        """
        if self.prompt_config.task_type in HEAD_MODULES:
            raise ValueError(
                f"task_type={self.prompt_config.task_type} generates no text; call the model itself."
            )
        if self._disabled:
            _refuse_names(prompt_names)
            text = _given(
                input_ids=input_ids, attention_mask=attention_mask, past_key_values=past_key_values
            )
            return self.base_model.generate(**text, **kwargs)
        refuse(kwargs.get)
        mask = checked_mask(input_ids, attention_mask)
        rows = self._prompt_of_rows(prompt_names, len(input_ids))
        if self.base_model.config.is_encoder_decoder:
            batch = prepend_prompt(rows, self.word_embeddings_module(input_ids), mask)
            return self.base_model.generate(**batch.inputs, **kwargs)
        if past_key_values is not None and prompt_names is not None:
            raise ValueError(
                "prompt_names cannot be passed with past_key_values: the cache holds the prompts already."
            )

        def prefixes() -> list[Prefix]:
            names = prompt_names or [self.active_prompt]
            kept = {
                name: self._prefixes.get(self.base_model, name, self.prompt_by_name(name))
                for name in set(names)
            }
            return [kept[name] for name in names]

        return generate_behind(
            self.base_model, rows, prefixes, input_ids, mask, past_key_values, **kwargs
        )

    def prompts_of(
        self, names: Sequence[str] | None, rows: int
    ) -> tuple[list[torch.Tensor], list[int]]:
        """The prompts at work, each once, and for each row the number of its own; while disabled, one of length 0."""
        if self._disabled:
            _refuse_names(names)
            return [self.prompt[:0]], [0] * rows
        if names is None:
            return [self.prompt], [0] * rows
        if len(names) != rows:
            raise ValueError(
                f"prompt_names has {len(names)} names for {rows} rows; give one for each row."
            )
        distinct = list(dict.fromkeys(names))
        return [self.prompt_by_name(name) for name in distinct], [
            distinct.index(name) for name in names
        ]

    def _prompt_of_rows(self, names: Sequence[str] | None, rows: int) -> list[torch.Tensor]:
        """One prompt for every row, or one for each: what `prepend_prompt` takes."""
        prompts, numbers = self.prompts_of(names, rows)
        return prompts if len(prompts) == 1 else [prompts[number] for number in numbers]

    def _head_of_rows(self, names: Sequence[str] | None) -> Head:
        """The head of the prompt that all rows stand behind."""
        distinct = set(names or [self.active_prompt])
        if len(distinct) > 1:
            raise ValueError(
                f"prompt_names={list(names)}: each prompt has a head of its own; call one by one."
            )
        return self.heads[distinct.pop()]

    # ------------------------------------------------------------------------------------------------ the folder

    def save_pretrained(
        self, folder: str | Path, safe_serialization: bool = True, **card: Any
    ) -> Path:
        """Write every prompt as PEFT does: configuration, tensor, README.md (`adapters.save_adapter`).

        The one called "default" goes to the folder itself, each other one to a sub-folder of its name.
        """
        from .adapters.prompts import save_prompts

        return save_prompts(self, folder, safe_serialization, card)

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
                those of `adapters.load_adapter`.
            prompt_names: the prompts to load from its sub-folders; left out all, `[]` none.

        Raises:
            AdapterError: the folder is damaged, or a prompt in it does not fit the base model.
        """
        from .adapters.prompts import load_prompts

        which = {"task_id": task_id, "revision": revision, "prompt_names": prompt_names}
        return load_prompts(cls, base_model, folder, tokenizer=tokenizer, **which)

    def push_to_hub(
        self, repo_id: str, *, results: dict[str, Any] | None = None, **options: Any
    ) -> str:
        """Send what `save_pretrained` writes to the repository `user/name` of a model hub; the commit's address.

        `options`: `revision`, `private`, `message` (`hub.push`, which raises AdapterError where it cannot).
        """
        from .adapters.prompts import push_prompts

        return push_prompts(self, repo_id, results, **options)


def get_soft_prompt_model(
    base_model: nn.Module, config: PromptTuningConfig, *, tokenizer=None
) -> SoftPromptModel:
    """Wrap a base model with a new prompt (PEFT's `get_peft_model`)."""
    return SoftPromptModel(base_model, config, tokenizer=tokenizer)


# ------------------------------------------------------------------------------------- arguments and outputs


def _given(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def _refuse_names(names: Sequence[str] | None) -> None:
    """Raise ValueError for names of prompts while all of them are disabled."""
    if names is not None:
        raise ValueError(f"prompt_names={list(names)} cannot be passed inside disable_adapter().")


def _map(value: Any, function: Any) -> Any:
    """Apply a function to a tensor or to each tensor of a tuple."""
    return tuple(function(part) for part in value) if isinstance(value, tuple) else function(value)
