"""How a chapter runs: as the reader sees it, or fast for the tests."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What the chapters ask before they load a model: its name, the task's name, how many steps.

    Args:
        fast: SOFTPROMPT_LAB_FAST=1 asks for the tiny model and fewer steps, for the tests.
        strict: SOFTPROMPT_LAB_STRICT=1 asks that a check that does not pass raises, for the solved notebooks.
    """

    fast: bool
    strict: bool

    @property
    def base(self) -> str:
        """Return the base model's name for `load_base_model`."""
        return "tiny" if self.fast else "smollm2"

    @property
    def task(self) -> str:
        """Return the name for `load_task` of a task that the base model can do."""
        return "shop" if self.fast else "complaints"

    def steps(self, full: int) -> int:
        """Return the number of training steps: `full`, or in fast mode its half, but 50 where there are 50.

        Fewer would not do: the chapters assert that a trained prompt beats its baselines, on "tiny" too.
        """
        return max(full // 2, min(full, 50)) if self.fast else full


def settings() -> Settings:
    """Return the settings that the environment asks for."""
    names = ("SOFTPROMPT_LAB_FAST", "SOFTPROMPT_LAB_STRICT")
    return Settings(*(os.environ.get(name) == "1" for name in names))
