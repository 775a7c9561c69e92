"""Local paths lose their place before they reach a record."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibench.store.paths import base_name, folders, scrubbed, without_paths


def test_paths_become_base_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local paths, there or only written as such, lose their place; names, hub ids and numbers stay."""
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    params = {"a": "models/mine", "b": ("org/name", str(tmp_path / "models"), "x"), "c": 3, "d": "/no/such"}
    assert without_paths(params) == {"a": "mine", "b": ["org/name", "models", "x"], "c": 3, "d": "such"}
    assert folders(params) == ["mine", "models", "such"]
    assert base_name(".") == tmp_path.name
    said = scrubbed(f"{tmp_path}/models and '/no/such' fail", params)
    assert said == "models and 'such' fail"


def test_a_folder_of_the_working_directory_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name says nothing more than where it lies here, as that of any other folder."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    params = {"members": ["mine", "org/name"], "structure": "kron"}
    assert without_paths(params) == params
    assert folders(params) == ["mine"]


def test_the_longest_path_is_scrubbed_first() -> None:
    """A folder inside another that is named too goes by its own name, whatever the order."""
    params = {"folder": "/no/such", "members": ["/no/such/one", "/no/such/two"], "count": 3}
    said = scrubbed("/no/such/two lacks what /no/such has", params)
    assert said == "two lacks what such has"
    assert scrubbed("nothing of the kind", params) == "nothing of the kind"


@pytest.mark.parametrize("value", ["", "org/name", "plain", 3, None, 0.5])
def test_what_is_no_local_path_stays(value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hub ids, words and numbers are in a record as they were given."""
    monkeypatch.chdir(tmp_path)
    assert base_name(value) == value
    assert folders({"a": value, "b": (value,)}) == []
    assert without_paths({"a": value}) == {"a": value}


@pytest.mark.parametrize("value", ["~/no/such", "./such", "../such", "/no/such/"])
def test_a_path_is_known_by_how_it_is_written(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing is there."""
    monkeypatch.chdir(tmp_path)
    assert base_name(value) == "such"
