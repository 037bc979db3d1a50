"""What the chapters need beside the package: settings, checks of exercises, hints, comparisons."""

from .checks import (
    FAILED,
    NOT_ATTEMPTED,
    PASSED,
    NotAttempted,
    Verdict,
    Wrong,
    check,
    compare,
    exercise,
    exercise_ids,
    hint,
)
from .settings import Settings, settings

__all__ = [
    "FAILED",
    "NOT_ATTEMPTED",
    "PASSED",
    "NotAttempted",
    "Settings",
    "Verdict",
    "Wrong",
    "check",
    "compare",
    "exercise",
    "exercise_ids",
    "hint",
    "settings",
]
