"""Parameters of methods: which there are, and values of the type that they say."""

from __future__ import annotations

import pytest

from calibench.errors import UsageError
from calibench.method import bind
from calibench.registry import METHODS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pases": 3}, "has no parameter 'pases'; choose from passes"),
        ({"passes": "three"}, "mc-dropout.passes is 'three'; expected a whole number"),
        ({"passes": 2.5}, "expected a whole number"),
        ({"passes": True}, "expected a whole number"),
    ],
)
def test_parameters_are_checked(given: dict[str, object], message: str) -> None:
    """A parameter the method does not have, or of another type, is refused by name."""
    with pytest.raises(UsageError, match=message):
        bind("mc-dropout", METHODS.load("mc-dropout"), given)
