"""Folders of others: PyTorch's `.bin`, P_TUNING and MULTITASK_PROMPT_TUNING, and a model hub."""
