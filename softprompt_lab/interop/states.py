"""`state_dict` without the frozen base model."""

from typing import Any

from ..config import BASE_PREFIX
from ..model import SoftPromptModel


def keep_frozen_out(model: SoftPromptModel) -> None:
    """Make `state_dict` hold what can be trained only: a checkpoint of Trainer is as small as a saved prompt."""
    model.register_state_dict_post_hook(_leave_out_frozen)
    model.register_load_state_dict_post_hook(_miss_no_frozen)


def _trained_names(model: SoftPromptModel) -> set[str]:
    """Return the names of the base model's weights that somebody has set free to be trained."""
    named = model.base_model.named_parameters(remove_duplicate=False)
    return {BASE_PREFIX + name for name, weight in named if weight.requires_grad}


def _leave_out_frozen(model: SoftPromptModel, state: dict[str, Any], prefix: str, _: dict) -> None:
    """Keep the frozen base model out of a state."""
    trained = _trained_names(model)
    for key in [key for key in state if key.startswith(prefix + BASE_PREFIX)]:
        if key.removeprefix(prefix) not in trained:
            del state[key]


def _miss_no_frozen(model: SoftPromptModel, keys: Any) -> None:
    """Take weights that no state holds out of the missing keys of `load_state_dict`."""
    trained = _trained_names(model)

    def is_frozen(key: str) -> bool:
        before, _, name = f".{key}".partition(f".{BASE_PREFIX}")
        own = before.endswith((".prompts", ".heads"))  # of a prompt that is called base_model
        return bool(name) and not own and BASE_PREFIX + name not in trained

    keys.missing_keys[:] = [key for key in keys.missing_keys if not is_frozen(key)]
