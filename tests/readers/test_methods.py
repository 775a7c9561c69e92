"""Words of a command as methods, files and prices."""

from __future__ import annotations

from pathlib import Path

import pytest

import scored_files
from calibench.errors import UsageError
from calibench.readers.asked import Asked
from calibench.readers.methods import name_and_file, parse_prices, read_methods


def test_names_of_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's own name, one that was given, and a file whose name holds the sign."""
    monkeypatch.chdir(tmp_path)
    Path("a=b.csv").write_text("")
    assert name_and_file("runs/a.csv") == ("a", "runs/a.csv")
    assert name_and_file("A=runs/a.csv") == ("A", "runs/a.csv")
    assert name_and_file("a=b.csv") == ("a=b", "a=b.csv")
    assert name_and_file("-") == ("stdin", "-")
    assert name_and_file("A=-") == ("A", "-")


def test_methods_are_read_in_order_and_say_how(tmp_path: Path) -> None:
    """What a record holds of the reading; the reader only where it is another than that of tables."""
    scored_files.write(tmp_path)
    words = [f"B={tmp_path / 'b.parquet'}", str(tmp_path / "a.parquet")]
    found = read_methods(words, Asked(label="label", probs="p_*"))
    assert [table.name for table in found] == ["B", "a"]
    assert [table.file for table in found] == ["b.parquet", "a.parquet"]
    assert found[0].said == {"label": "label", "probs": "p_*"}
    (table,) = read_methods([str(tmp_path / "trainer.npz")], Asked(), reader="hf-trainer")
    assert table.said == {"from": "hf-trainer"}
    with pytest.raises(UsageError, match="Two files are called 'a'"):
        read_methods(["x/a.csv", "y/a.csv"], Asked())


def test_prices_are_a_column_or_one_per_method() -> None:
    """Names may hold the sign; all methods need a price, and nobody else."""
    assert parse_prices(None, ["A"]) == (None, {})
    assert parse_prices("usd", ["A"]) == ("usd", {})
    assert parse_prices("A=0.002,B=3", ["A", "B"]) == (None, {"A": 0.002, "B": 3.0})
    assert parse_prices("a=b=1", ["a=b"]) == (None, {"a=b": 1.0})
    for text in ("A=1", "A=1,B=2,C=3"):
        with pytest.raises(UsageError, match="give each a price"):
            parse_prices(text, ["A", "B"])
    for text in ("A=x", "A=-1", "A=inf", "A="):
        with pytest.raises(UsageError, match="METHOD=PRICE"):
            parse_prices(text, ["A"])
