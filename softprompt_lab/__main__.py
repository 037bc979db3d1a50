"""`python -m softprompt_lab` is `softprompt-lab`."""

from .cli import app

app()
