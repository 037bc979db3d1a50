"""What the chapters need beside the package: settings, checks of exercises, hints, comparisons."""

from .checks import check, exercise, exercise_ids, hint
from .comparison import compare
from .settings import Settings, settings
from .verdict import FAILED, NOT_ATTEMPTED, PASSED, Verdict

__all__ = [
    "FAILED",
    "NOT_ATTEMPTED",
    "PASSED",
    "Settings",
    "Verdict",
    "check",
    "compare",
    "exercise",
    "exercise_ids",
    "hint",
    "settings",
]
