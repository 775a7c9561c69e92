"""What tells cells of one method apart."""

from __future__ import annotations

from typing import Any

from calibench.store.naming import telling_parameters


def test_parameters_that_differ_are_told() -> None:
    """Those and no others, by name and in order; one that a namesake lacks differs too."""

    def record(**params: Any) -> dict[str, Any]:
        return {"method": {"name": "m", "params": params}}

    first, second = record(size=2, passes=5, dtype="same"), record(size=4, passes=20, dtype="same")
    assert telling_parameters(first, [first]) == []
    assert telling_parameters(first, [first, second]) == ["passes=5", "size=2"]
    assert telling_parameters(second, [first, second, second]) == ["passes=20", "size=4"]
    alone = record(passes=5, dtype="same")
    assert telling_parameters(first, [first, alone]) == ["size=2"]
    assert telling_parameters(alone, [first, alone]) == ["size=None"]
    lists = record(layers=["a", "b"]), record(layers=["a"])
    assert [telling_parameters(item, lists) for item in lists] == [["layers=a,b"], ["layers=a"]]
    failed: dict[str, Any] = {"method": {"name": "m", "params": None}}
    assert telling_parameters(failed, [failed, record(passes=5)]) == ["passes=None"]


def test_names_tell_cells_apart() -> None:
    """By the number of members where that says which, else in full; by weights where nothing else differs."""

    def record(members: list[str], weights: str) -> dict[str, Any]:
        found = [{"name": name, "sha256": weights + name} for name in members]
        return {"method": {"name": "deep-ensemble", "params": {"members": members}, "members": found}}

    two, three, other = record(["a", "b"], "1"), record(["a", "b", "c"], "1"), record(["a", "c"], "1")
    assert telling_parameters(two, [two]) == []
    assert telling_parameters(two, [two, three]) == ["2 members"]
    assert telling_parameters(two, [two, two, three, three]) == ["2 members"]
    assert telling_parameters(other, [two, three, other]) == ["members=a,c"]
    assert telling_parameters(three, [two, three, other]) == ["members=a,b,c"]
    again = record(["a", "b"], "2")
    (first,), (second,) = telling_parameters(two, [two, again]), telling_parameters(again, [two, again])
    assert first.startswith("weights ")
    assert first != second
