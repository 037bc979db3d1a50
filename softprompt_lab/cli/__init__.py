"""The command line: softprompt-lab train, generate, words, read, report, fetch, bench, doctor."""

from .commands import app

__all__ = ["app"]
