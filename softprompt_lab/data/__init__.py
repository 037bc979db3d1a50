"""The tasks that come along, and a user's CSV or JSONL."""
