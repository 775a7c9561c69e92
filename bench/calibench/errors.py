"""Errors a user can act on.

Each message is one sentence that says what was wrong, what was expected and what to do. The command
line prints the sentence and exits with `exit_code`; everything else that is raised is a defect of ours.
"""

from collections.abc import Iterable


class CalibenchError(Exception):
    """Something failed while doing what was asked: exit code 1."""

    exit_code = 1


class UsageError(CalibenchError):
    """What was asked for cannot be done as it was asked: exit code 2."""

    exit_code = 2


def unknown(fault: str, given: str, known: Iterable[str], more: str = "") -> UsageError:
    """A name that is none of those known: what is wrong, the nearest where one is near, and all of them.

    Near is what is spelt alike, or has the whole name in it.

    Args:
        fault: the beginning of the sentence, such as "Unknown method 'x'".
        more: what might be given besides, with its comma.
    """
    from difflib import get_close_matches

    names = list(known)
    near = get_close_matches(given, names, n=1)
    if not near and len(given) > 2:
        near = [name for name in names if given in name]
    hint = f" did you mean {near[0]!r}?" if near else ""
    return UsageError(f"{fault};{hint} choose from {', '.join(names)}{more}.")


class WriteError(CalibenchError):
    """A file could not be written: the whole run stops, and no method has failed."""


class RefusedError(CalibenchError):
    """A method declines a model or data set it would give wrong numbers on; the cell records the reason."""


class Undecided(UserWarning):
    """An assertion about predictions could not tell: says how many more examples would decide."""
