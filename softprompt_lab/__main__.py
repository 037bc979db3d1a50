"""`python -m softprompt_lab` is `softprompt-lab`."""

from .cli.commands import app

app()
