"""Trainer, and PEFT's own numbers for whoever must reproduce them."""
