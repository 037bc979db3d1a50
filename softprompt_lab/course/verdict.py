"""The three results of a check."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """The result of a check: true where it passed; at the end of a cell it shows nothing."""

    name: str

    def __bool__(self) -> bool:
        return self == PASSED

    def _ipython_display_(self) -> None:
        """Show nothing: what there is to say has been printed."""


PASSED, FAILED, NOT_ATTEMPTED = map(Verdict, ("passed", "failed", "not attempted"))
