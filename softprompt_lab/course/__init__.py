"""What the chapters need beside the package: settings, votes, checks of exercises, hints, comparisons."""

from .ballot import vote
from .checks import check, exercise, exercise_ids, hint, progress
from .comparison import compare
from .settings import settings
from .verdict import FAILED, NOT_ATTEMPTED, PASSED

__all__ = [
    "FAILED",
    "NOT_ATTEMPTED",
    "PASSED",
    "check",
    "compare",
    "exercise",
    "exercise_ids",
    "hint",
    "progress",
    "settings",
    "vote",
]
