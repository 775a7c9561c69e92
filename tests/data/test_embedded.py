"""The embedded corpus and checkpoint: the shipped files are what is claimed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from calibench.data import embedded, grammar
from calibench.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_embedded", ROOT / "scripts" / "make_embedded.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script()


def test_grammar_imports_no_torch() -> None:
    """The corpus can be drawn and loaded without torch."""
    code = "import sys, calibench.data.embedded as e; e.load(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("split", embedded.SPLITS)
def test_load(split: str, script: ModuleType) -> None:
    """A loaded split is what the script draws, bit for bit, and its posteriors are the grammar's."""
    dataset = embedded.load(split=split)
    texts, labels, posterior = script.draw(split)
    assert list(dataset.texts) == texts
    assert np.array_equal(dataset.labels, labels)
    assert dataset.posterior is not None
    assert np.array_equal(dataset.posterior, posterior)
    assert (dataset.name, dataset.split, dataset.source) == ("calibench-sentiment", split, "embedded")
    assert dataset.label_names == ("negative", "positive")
    assert np.array_equal(dataset.rows, np.arange(1000))
    assert [grammar.posterior(text) for text in texts] == pytest.approx(posterior[:, 1].tolist(), rel=1e-12)


def test_load_refuses_what_it_would_ignore() -> None:
    """The test split is the default; another split, name or option is an error that says what there is."""
    assert embedded.load(None, config=None, revision=None, text_columns=(), label_column=None).split == "test"
    assert embedded.load().sha256 != embedded.load(split="validation").sha256
    with pytest.raises(UsageError, match="choose test or validation"):
        embedded.load(split="train")
    with pytest.raises(UsageError, match="sst2"):
        embedded.load("sst2")
    with pytest.raises(UsageError, match="label_column"):
        embedded.load(label_column="stars")


def test_shipped_files_are_what_the_script_makes(script: ModuleType) -> None:
    """Corpus byte for byte; checkpoint by recipe hash, file hashes and metrics measured again, +-0.002."""
    assert script.TOLERANCE == 0.002
    assert script.differences(script.ASSETS) == []


def test_check_finds_what_was_changed(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed corpus line, weight, metric or recipe is reported."""
    assets = tmp_path / "assets"
    shutil.copytree(script.ASSETS, assets)
    corpus, weights, record = assets / "test.jsonl", assets / script.WEIGHTS, assets / "recipe.json"
    corpus.write_bytes(corpus.read_bytes().replace(b"0.9", b"0.8", 1))
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    content = json.loads(record.read_text())
    content["metrics"]["test"]["ece"] += 0.01
    record.write_text(json.dumps(content))
    monkeypatch.setitem(script.RECIPE, "storage_dtype", "float32")
    found = "\n".join(script.differences(assets))
    for expected in (
        "test.jsonl is not what",
        "another recipe",
        "model.safetensors is not",
        "ece on test is",
    ):
        assert expected in found
    assert "validation" not in found


def test_checkpoint_is_overconfident_as_fine_tuned_models_are(script: ModuleType) -> None:
    """Below the best accuracy, above chance, and surer than right by more than 4 standard errors."""
    dataset = embedded.load()
    assert dataset.posterior is not None
    probs = script.predict(embedded.checkpoint_folder(), list(dataset.texts))
    measured = script.measure(probs, dataset.labels, dataset.posterior)
    gap = probs.max(1) - (probs.argmax(1) == dataset.labels)
    assert gap.mean() > 4 * gap.std() / np.sqrt(len(gap))
    assert 0.05 < measured["ece"] < 0.09
    assert 0.01 < measured["bayes_accuracy"] - measured["accuracy"] < 0.07


def test_checkpoint_is_small_and_complete() -> None:
    """Under 6 MB with everything `from_pretrained` needs, and sentiment labels that match the corpus's."""
    folder = embedded.checkpoint_folder()
    assert sum(path.stat().st_size for path in folder.parent.rglob("*")) < 6e6
    config = json.loads((folder / "config.json").read_text())
    assert [config["id2label"][str(i)].lower() for i in range(2)] == list(grammar.LABEL_NAMES)
    assert config["dtype"] == "float32"
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).is_file()
