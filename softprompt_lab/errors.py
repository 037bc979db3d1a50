"""The errors of the package: each says what was wrong, with the value, and what to do next."""


class LabError(Exception):
    """A model, a data set or the machine is not as asked; the message says what to do."""


class AdapterError(LabError):
    """A saved adapter folder is missing, incomplete, or not what its config says."""
