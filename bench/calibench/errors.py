"""Errors a user can act on.

Each message is one sentence that says what was wrong, what was expected and what to do. The command
line prints the sentence and exits with `exit_code`; everything else that is raised is a defect of ours.
"""


class CalibenchError(Exception):
    """Something failed while doing what was asked: exit code 1."""

    exit_code = 1


class UsageError(CalibenchError):
    """What was asked for cannot be done as it was asked: exit code 2."""

    exit_code = 2


class WriteError(CalibenchError):
    """A file could not be written: the whole run stops, and no method has failed."""


class RefusedError(CalibenchError):
    """A method declines a model or data set it would give wrong numbers on; the cell records the reason."""


class Undecided(UserWarning):
    """An assertion about predictions could not tell: says how many more examples would decide."""
