"""The tasks that come along or are fetched, and a user's own CSV or JSONL file as one."""

from .rated import human_ceiling

__all__ = ["human_ceiling"]
