"""Parameters of methods: which there are, and values of the type that they say."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from calibench.errors import UsageError
from calibench.method import Method, bind, parameters
from calibench.models.checkpoint import Checkpoint
from calibench.registry import METHODS
from calibench.types import Plan, Predictive


class Example(Method):
    """One parameter of each type that a method may have."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        needed: str,
        count: int = 3,
        share: float = 0.5,
        live: bool = False,
        most: float | None = None,
        names: tuple[str, ...] = ("a",),
        sizes: tuple[int, ...] = (),
    ) -> None:
        super().__init__(checkpoint)
        self.given = (needed, count, share, live, most, names, sizes)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        raise NotImplementedError


DEFAULTS: dict[str, Any] = {
    "needed": "x",
    "count": 3,
    "share": 0.5,
    "live": False,
    "most": None,
    "names": ("a",),
    "sizes": (),
}


def test_parameters_are_the_keyword_only_arguments() -> None:
    """In their order, the checkpoint not among them; a method without any has none."""
    assert list(parameters(Example)) == list(DEFAULTS)
    assert parameters(Example)["count"].default == 3
    assert parameters(Method) == {}


def test_what_is_not_given_has_its_default() -> None:
    """And what is given stands above it, in the order of the parameters."""
    found = bind("example", Example, {"needed": "x"})
    assert found == DEFAULTS
    assert list(bind("example", Example, {"count": 4, "needed": "x"})) == list(DEFAULTS)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("needed", "7", "7"),
        ("needed", 7, "7"),
        ("count", "7", 7),
        ("count", -7, -7),
        ("share", "0.25", 0.25),
        ("share", 2, 2.0),
        ("share", "1e-3", 0.001),
        ("live", "Yes", True),
        ("live", "off", False),
        ("live", True, True),
        ("live", 0, False),
        ("most", "none", None),
        ("most", None, None),
        ("most", "2", 2.0),
        ("names", "a,b", ("a", "b")),
        ("names", ["a,b", "c"], ("a,b", "c")),
        ("sizes", "1,20", (1, 20)),
        ("sizes", [], ()),
    ],
)
def test_a_value_gets_the_type_that_the_annotation_says(name: str, given: object, expected: object) -> None:
    """Words of the command line and values of a suite file alike."""
    found = bind("example", Example, {"needed": "x"} | {name: given})
    assert found == DEFAULTS | {name: expected}
    assert type(found[name]) is type(expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": "7.0"}, "example.count is '7.0'; expected a whole number."),
        ({"count": None}, "example.count is None; expected a whole number."),
        ({"share": "half"}, "example.share is 'half'; expected a number."),
        ({"share": True}, "example.share is True; expected a number."),
        ({"live": "maybe"}, "example.live is 'maybe'; expected true or false."),
        ({"live": 2}, "example.live is 2; expected true or false."),
        ({"most": "much"}, "example.most is 'much'; expected a number."),
        ({"names": 3}, "example.names is 3; expected a list, such as A,B,C."),
        ({"sizes": "1,b"}, "example.sizes is 'b'; expected a whole number."),
        (
            {"counts": 1},
            "The method 'example' has no parameter 'counts'; choose from needed, count, share, live, most, "
            "names, sizes.",
        ),
    ],
)
def test_a_value_of_another_type_is_refused(given: dict[str, object], message: str) -> None:
    """In one sentence with the value and what was expected."""
    with pytest.raises(UsageError) as caught:
        bind("example", Example, {"needed": "x"} | given)
    assert str(caught.value) == message


def test_what_a_method_cannot_do_without_is_asked_for() -> None:
    """With the option that gives it; a method without parameters takes none."""
    with pytest.raises(UsageError, match=r"'example' needs 'needed'; pass -a example\.needed=VALUE\."):
        bind("example", Example, {"count": 4})
    with pytest.raises(UsageError, match=r"'plain' has no parameter 'x'; it takes none\."):
        bind("plain", Method, {"x": 1})


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


def test_annotations_that_are_types_are_as_good_as_text() -> None:
    """A module that does not postpone their evaluation has types there."""

    def spelt(annotation: Any) -> Any:
        class Typed(Example):
            pass

        kind = inspect.Parameter.KEYWORD_ONLY
        parameter = inspect.Parameter("share", kind, default=1, annotation=annotation)
        Typed.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
        return bind("typed", Typed, {"share": "2"})["share"]

    kinds = (int, "int", float, str, float | None, tuple[int, ...])
    assert [spelt(kind) for kind in kinds] == [2, 2, 2.0, "2", 2.0, (2,)]
