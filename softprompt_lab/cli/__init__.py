"""The command line: softprompt-lab train, generate, read, export, import, fetch, bench, doctor."""

from .commands import app

__all__ = ["app"]
