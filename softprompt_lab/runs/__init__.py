"""Runs on disk: checkpoints, saved runs, the zoo of trained prompts."""
