"""The tasks that come along, and a user's own CSV or JSONL file as one."""
