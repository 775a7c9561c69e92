"""Cells: what is in their keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibench.errors import CalibenchError, UsageError
from calibench.registry import METHODS
from calibench.suites.cells import Cell, cells_of, left_out
from calibench.suites.loader import load_suite
from calibench.suites.overrides import Overrides, override
from calibench.types import Member
from calibench_methods.one_pass.frequentist import Frequentist
from calibench_methods.scores.mahalanobis import Mahalanobis


def test_training_data_are_in_the_key_of_what_learns_from_them() -> None:
    """Another training split is another cell for a method that needs it, and the same for all others."""
    for kind, changes in ((Mahalanobis, True), (Frequentist, False)):
        cell = Cell("name", kind, {}, 0, False)
        keys = {cell.key({"train": train, "data": "d"}) for train in ("one", "two", None)}
        assert len(keys) == (3 if changes else 1)
    plain = Cell("name", Frequentist, {}, 0, False)
    assert plain.key({"train": "one", "data": "d"}) == plain.key({"data": "d"})


def test_a_method_without_its_packages_is_left_out_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left out of a suite, with what installs it; refused where it was asked for by name."""
    monkeypatch.setattr("calibench.registry._is_installed", lambda name: name != "baal")
    suite = load_suite("embedded")
    baal = {"mc-dropout-baal", "hf-pipeline-baal"}
    assert {cell.name for cell in cells_of(suite)} == {spec.name for spec in suite.method} - baal
    assert left_out(suite) == [
        f"{name} is left out: it needs baal: pip install 'calibench[baal]'."
        for name in ("mc-dropout-baal", "hf-pipeline-baal")
    ]
    with pytest.raises(UsageError, match=r"'mc-dropout-baal' needs baal: pip install 'calibench\[baal\]'\."):
        override(suite, Overrides(methods=["mc-dropout-baal"]))


def test_cell_keys_change_with_what_is_measured() -> None:
    """Parameters, seed and context are in the key; nothing else is."""
    first, second = cells_of(
        override(load_suite("embedded"), Overrides(methods=["frequentist", "mc-dropout"]))
    )
    third = cells_of(override(load_suite("embedded"), Overrides(methods=["mc-dropout"], passes=2)))[-1]
    context = {"data": "a"}
    keys = {first.key(context), second.key(context), third.key(context), second.key({"data": "b"})}
    assert len(keys) == 4
    assert second.key(context) == second.key(dict(context))


def test_who_registers_a_method_is_in_its_key() -> None:
    """Another version may give another number; so may a member that calls its outputs otherwise."""
    (cell,) = cells_of(override(load_suite("embedded"), Overrides(methods=["frequentist"])))
    assert cell.distribution.startswith("calibench ")
    assert cell.key({}) != replace(cell, distribution="calibench 99").key({})
    members = [replace(cell, members=(Member("m", None, "w", config),)) for config in ("one", "two")]
    assert len({item.key({}) for item in (cell, *members)}) == 3


def test_what_is_no_method_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point may name anything; the sentence says what, and whose."""
    monkeypatch.setattr(METHODS, "load", lambda _: np)
    with pytest.raises(
        CalibenchError, match=r"'frequentist' from calibench .* is a module; expected a subclass"
    ):
        cells_of(load_suite("embedded"))
