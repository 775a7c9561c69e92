"""Loading checkpoints: what is loaded is what was saved, and whatever is refused says why."""

from __future__ import annotations

import json
import logging
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModel, BertConfig, BertForTokenClassification
from transformers.utils import logging as transformers_logging

from calibench.errors import CalibenchError, UsageError
from calibench.models.loading import load_checkpoint
from tiny_models import COMMON, CONFIGS, MAX_LENGTH, tiny_model, tiny_tokenizer

NAMES = {0: "NEGATIVE", 1: "POSITIVE"}


def save(folder: Path, model: Any, tokenizer: Any = None, **options: Any) -> Path:
    """Write a checkpoint folder as a user would."""
    model.save_pretrained(folder, **options)
    (tokenizer or tiny_tokenizer()).save_pretrained(folder)
    return folder


def edit(folder: Path, file: str, **changes: Any) -> None:
    """Change keys of a JSON file."""
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | changes))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DistilBERT folder with named labels; tests that change it copy it first."""
    model = tiny_model("distilbert", id2label=NAMES)
    return save(tmp_path_factory.mktemp("models") / "tiny", model)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of `saved` to be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Fails every connection, and lists what was tried."""
    tried: list[Any] = []

    def refuse(_: socket.socket, address: Any) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    def resolve(host: Any, *_: Any, **__: Any) -> Any:
        tried.append(host)
        raise socket.gaierror

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return tried


def test_a_folder_is_loaded_as_it_was_saved_without_a_connection(saved: Path, no_network: list[Any]) -> None:
    """Weights, labels, names and defaults of a local folder, with nothing fetched."""
    checkpoint = load_checkpoint(str(saved))
    assert no_network == []
    assert (checkpoint.name, checkpoint.source, checkpoint.revision) == ("tiny", "folder", None)
    assert checkpoint.labels == ("NEGATIVE", "POSITIVE")
    assert (checkpoint.dtype, checkpoint.attention) == (torch.float32, "sdpa")
    assert checkpoint.max_length == MAX_LENGTH
    assert checkpoint.load_s > 0
    assert not any(module.training for module in checkpoint.module.modules())
    original = tiny_model("distilbert").state_dict()
    for name, tensor in checkpoint.module.state_dict().items():
        torch.testing.assert_close(tensor, original[name], rtol=0, atol=0)


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/../tiny", "."])
def test_a_record_gets_the_base_name_however_the_folder_was_spelled(
    saved: Path, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No spelling of a path leaks into the name."""
    monkeypatch.chdir(saved)
    assert load_checkpoint(spelling.format(saved)).name == "tiny"


@pytest.mark.parametrize("dtype", ["auto", "float32", "float64", "bfloat16", "float16"])
def test_weights_stored_in_half_precision_are_loaded_in_the_dtype_asked_for(
    tmp_path: Path, dtype: str
) -> None:
    """The config's claim about the stored dtype is not believed, and the hash is that of what is stored."""
    half = save(tmp_path / "half", tiny_model("distilbert").half())
    edit(half, "config.json", dtype="float64")
    checkpoint = load_checkpoint(str(half), dtype=dtype)
    expected = torch.float32 if dtype == "auto" else getattr(torch, dtype)
    assert checkpoint.dtype == expected
    assert {parameter.dtype for parameter in checkpoint.module.parameters()} == {expected}
    assert checkpoint.sha256 == load_checkpoint(str(half)).sha256
    stored = tiny_model("distilbert").half().state_dict()
    for name, tensor in checkpoint.module.state_dict().items():
        torch.testing.assert_close(tensor, stored[name].to(expected), rtol=0, atol=0)


def test_the_hash_is_of_the_weights_and_not_of_how_they_are_filed(
    saved: Path, folder: Path, tmp_path: Path
) -> None:
    """Shards, pickles and another config give the same hash; one changed weight another."""
    reference = load_checkpoint(str(saved)).sha256
    sharded = save(tmp_path / "sharded", tiny_model("distilbert"), max_shard_size="5KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    assert load_checkpoint(str(sharded)).sha256 == reference
    edit(folder, "config.json", id2label={"0": "bad", "1": "good"})
    weights = tiny_model("distilbert").state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert load_checkpoint(str(folder)).sha256 == reference
    weights["classifier.bias"][0] += 1e-6
    torch.save(weights, folder / "pytorch_model.bin")
    assert load_checkpoint(str(folder)).sha256 != reference


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_attention_implementation_asked_for_is_the_one_that_runs(saved: Path, attention: str) -> None:
    """What is reported is what the loaded model is set to."""
    checkpoint = load_checkpoint(str(saved), attention=attention)
    assert checkpoint.attention == attention == checkpoint.module.config._attn_implementation


def test_loading_prints_nothing_and_leaves_settings_alone(
    saved: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bar, no report, no log line; verbosity and bars are afterwards as they were."""
    monkeypatch.setattr(transformers_logging, "_tqdm_active", True)
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_info()
    try:
        load_checkpoint(str(saved))
        assert transformers.logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers.logging.set_verbosity(before)
    assert capfd.readouterr() == ("", "")


def test_token_types_are_dropped_where_the_model_does_not_take_them(tmp_path: Path) -> None:
    """A BERT tokenizer makes token types, and a DistilBERT that is given them fails."""
    tokenizer = tiny_tokenizer("bert")
    checkpoint = load_checkpoint(str(save(tmp_path / "m", tiny_model("distilbert"), tokenizer)))
    assert "token_type_ids" not in checkpoint.tokenizer("good film")
    checkpoint = load_checkpoint(str(save(tmp_path / "n", tiny_model("bert"), tokenizer)))
    assert "token_type_ids" in checkpoint.tokenizer("good film")


def test_missing_and_mistaken_folders_are_named(tmp_path: Path) -> None:
    """A path that is not there, and one that holds no model."""
    with pytest.raises(UsageError, match=r"no model at './nowhere'"):
        load_checkpoint("./nowhere")
    with pytest.raises(UsageError, match=r"no model at 'a/b/c'"):
        load_checkpoint("a/b/c")
    with pytest.raises(UsageError, match=r"has no config.json: pass a folder written by save_pretrained"):
        load_checkpoint(str(tmp_path))
    with pytest.raises(UsageError, match=r"neither a folder nor a hub id"):
        load_checkpoint("not an id")


def test_a_model_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    """A base model would get a random classifier; the sentence names its weights."""
    make_config, particular = CONFIGS["distilbert"]
    base = AutoModel.from_config(make_config(**COMMON | particular))
    with pytest.raises(
        UsageError, match=r"no trained weights for classifier\.bias, classifier\.weight, pre_"
    ):
        load_checkpoint(str(save(tmp_path / "base", base)))
    tagger = BertForTokenClassification(BertConfig(**COMMON, num_labels=2))
    with pytest.raises(UsageError, match=r"no trained weights for bert\.pooler"):
        load_checkpoint(str(save(tmp_path / "tagger", tagger)))


def test_a_head_for_another_number_of_classes_is_refused(folder: Path) -> None:
    """A config edited to three classes over weights for two would leave the third random."""
    edit(folder, "config.json", id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2})
    with pytest.raises(CalibenchError, match=r"cannot be loaded as a sequence classifier"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"num_labels": 1}, "regression model with 1 output"),
        ({"problem_type": "regression"}, "regression model with 2 output"),
        ({"problem_type": "multi_label_classification"}, "multi label classification model"),
    ],
)
def test_models_that_do_not_choose_one_class_are_refused(tmp_path: Path, changes: Any, kind: str) -> None:
    """Regression and multi-label heads have no distribution over classes."""
    options = {"id2label": {0: "score"}} if "num_labels" in changes else {}
    model = tiny_model("distilbert", classes=changes.get("num_labels", 2), **options)
    model.config.problem_type = changes.get("problem_type")
    with pytest.raises(UsageError, match=kind):
        load_checkpoint(str(save(tmp_path / "m", model)))


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    """`transformers` would make up one that knows special tokens only."""
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UsageError, match=r"tokenizer.json"):
        load_checkpoint(str(folder))


def test_a_slow_tokenizer_is_refused(folder: Path) -> None:
    """Only fast tokenizers say what they cut off, and are quick enough to be timed with the model."""
    for file in folder.glob("tokenizer*"):
        file.unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CTRLTokenizer"}')
    (folder / "vocab.json").write_text('{"<unk>": 0, "good": 1}')
    (folder / "merges.txt").write_text("#version\ng ood</w>\n")
    with pytest.raises(UsageError, match=r"only a slow tokenizer: save a fast tokenizer"):
        load_checkpoint(str(folder))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """Token ids beyond the embedding would fail much later and say nothing."""
    model = tiny_model("distilbert", vocab_size=5)
    with pytest.raises(UsageError, match=r"knows 21 tokens and the model 5"):
        load_checkpoint(str(save(tmp_path / "m", model)))


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.json", "{"), ("config.json", "{}"), ("model.safetensors", "not weights")],
)
def test_broken_files_are_reported_in_one_sentence(folder: Path, file: str, content: str) -> None:
    """What cannot be parsed is an error of the data, not a traceback."""
    (folder / file).write_text(content)
    with pytest.raises(CalibenchError, match=r"cannot be (read|loaded)") as caught:
        load_checkpoint(str(folder))
    assert "\n" not in str(caught.value)


def test_attention_that_the_model_cannot_run_is_refused(saved: Path, tmp_path: Path) -> None:
    """An unknown name, and sdpa for DeBERTa-v2, which has none."""
    with pytest.raises(UsageError, match=r"cannot run 'telepathy' attention"):
        load_checkpoint(str(saved), attention="telepathy")
    deberta = save(tmp_path / "deberta", tiny_model("deberta-v2", "eager"))
    assert load_checkpoint(str(deberta)).attention == "eager"
    with pytest.raises(UsageError, match=r"cannot run 'sdpa' attention"):
        load_checkpoint(str(deberta), attention="sdpa")


def test_the_embedded_checkpoint_is_named_and_not_placed(no_network: list[Any]) -> None:
    """It comes with the package: no revision, no folder name, no connection."""
    checkpoint = load_checkpoint("embedded")
    assert no_network == []
    assert (checkpoint.name, checkpoint.source, checkpoint.revision) == ("embedded", "embedded", None)


@pytest.mark.shared
def test_a_real_checkpoint_loads(shared: Path) -> None:
    """Stored as float16 under a config that says float32."""
    checkpoint = load_checkpoint(str(shared / "models" / "sst2-minilm"))
    assert checkpoint.labels == ("NEGATIVE", "POSITIVE")
    assert (checkpoint.dtype, checkpoint.max_length) == (torch.float32, 512)
    assert sum(parameter.numel() for parameter in checkpoint.module.parameters()) == pytest.approx(
        22.7e6, rel=0.01
    )
