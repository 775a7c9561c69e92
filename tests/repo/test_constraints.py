"""The two files of pinned versions: what users install, and what tests, documents and checks need besides."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Extras whose packages nobody who runs the tests has to have.
ASKED_FOR = {"inspect", "readers", "ray", "trackio", "wandb", "torch-uncertainty", "laplace"}


def pins(name: str) -> dict[str, str]:
    """Version by package."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [line.split("==") for line in lines if not line.startswith(("#", "-c"))]
    return {canonicalize_name(package): version for package, version in found}


def wanted(requirements: list[str]) -> set[str]:
    """The packages that requirements name, calibench itself left out."""
    names = (canonicalize_name(Requirement(text).name) for text in requirements)
    return {name for name in names if name != "calibench"}


def test_no_package_is_in_both_and_the_second_takes_in_the_first() -> None:
    """Whoever tests has the versions that users have."""
    assert not pins("constraints.txt").keys() & pins("constraints-dev.txt").keys()
    assert "-c constraints.txt" in (ROOT / "constraints-dev.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-dev.txt"])
def test_lines_are_in_order(name: str) -> None:
    """So that two changes to one file seldom meet."""
    lines = [line for line in (ROOT / name).read_text("utf-8").splitlines() if re.match(r"[A-Za-z]", line)]
    assert lines == sorted(lines, key=str.lower)


def test_what_an_installation_names_is_pinned_for_users() -> None:
    """The base and every extra that the tests install; nothing that only tests need."""
    extras = PROJECT["optional-dependencies"]
    own = {name: found for name, found in extras.items() if name not in ASKED_FOR | {"all", "dev", "docs"}}
    named = wanted([*PROJECT["dependencies"], *(text for found in own.values() for text in found)])
    assert named <= pins("constraints.txt").keys()
    beside = wanted([*extras["dev"], *extras["docs"]])
    assert beside <= (pins("constraints.txt") | pins("constraints-dev.txt")).keys()
    assert not {"pytest", "mypy", "sphinx", "moto"} & pins("constraints.txt").keys()
