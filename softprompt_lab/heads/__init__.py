"""Heads behind a prompt: classes of texts, tokens and spans, and models without a head."""
