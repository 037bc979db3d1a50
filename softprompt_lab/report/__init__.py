# ruff: noqa: F401 - the imports are the names that the room offers
"""Every instrument on one page: each figure with its control, and sentences that are put together from its numbers.

section  what an instrument says of a prompt, and the prompt that it is asked about
vectors  the vectors alone
probes   what they do to the task
inside   what they do inside the frozen model
beside   them beside other prompts
page     all of it as HTML, or as a notebook
"""

from . import beside, inside, probes, vectors
from .page import as_html, as_notebook, findings, instruments_for, introduction, sections
from .section import Mark, Section, Subject, subject_of
