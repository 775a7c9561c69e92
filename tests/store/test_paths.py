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
