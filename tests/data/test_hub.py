"""The hub, over a loopback HTTP server: what is fetched, recorded, cached, and said when it cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from calibench.suites.loader import load_suite
from stub_hub import Repository, StubHub, suite_hub, write_data, write_model

# The client reads its settings when it is imported, so it runs in a process of its own.
CLIENT = """
import json, sys, time, warnings
warnings.simplefilter("error")
from calibench.data.huggingface import load
from calibench.errors import CalibenchError
from calibench.models.loading import load_checkpoint
answers = {}
for key, (kind, name, options) in json.loads(sys.argv[1]).items():
    start = time.perf_counter()
    try:
        got = (load_checkpoint if kind == "model" else load)(name, **options)
        answers[key] = {field: getattr(got, field) for field in ("name", "revision", "source", "sha256")}
        answers[key]["texts"] = getattr(got, "texts", ())[:4]
    except CalibenchError as error:
        answers[key] = {"error": type(error).__name__, "message": str(error)}
    answers[key]["seconds"] = time.perf_counter() - start
print(json.dumps(answers))
"""
SST2 = {"config": "sst2"}
UNKNOWN = "f" * 40
#: With quotes that are characters, one of them never closed.
QUOTES = 'text\tlabel\n"a b\t1\nNone\t0\n"c"\t1\nx "y"\t0\n'
Answers = dict[str, dict[str, Any]]


def ask(hub: StubHub, questions: dict[str, Any]) -> Answers:
    """Load things in a process that knows no other hub; nothing but the answers may be printed."""
    command = [sys.executable, "-c", CLIENT, json.dumps(questions)]
    done = subprocess.run(
        command, env={**os.environ, **hub.env}, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    answers: Answers = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> StubHub:
    """A hub, not yet running, that has org/tiny, org/pickled and org/data."""
    home = tmp_path_factory.mktemp("hub")
    write_model(home / "tiny")
    write_model(home / "pickled")
    (home / "pickled" / "model.safetensors").rename(home / "pickled" / "model.msgpack")
    pickle_weights(home / "tiny", home / "pickled" / "pytorch_model.bin")
    write_data(home / "data", "sst2", 20)
    models = {f"org/{name}": Repository(home / name) for name in ("tiny", "pickled")}
    (home / "quotes").mkdir()
    (home / "quotes" / "test.tsv").write_text(QUOTES)
    data = {f"org/{name}": Repository(home / name) for name in ("data", "quotes")}
    return StubHub(home / "cache", models, data)


def pickle_weights(folder: Path, file: Path) -> None:
    """The weights of a folder in the older format."""
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), file)


@pytest.fixture(scope="module")
def commits(hub: StubHub) -> dict[str, str]:
    """The commits of the model and the data set."""
    return {"model": hub.models["org/tiny"].commit, "dataset": hub.datasets["org/data"].commit}


@pytest.fixture(scope="module")
def reached(hub: StubHub, commits: dict[str, str]) -> Answers:
    """What a process gets while the hub is there."""
    with hub:
        return ask(
            hub,
            {
                "model": ("model", "org/tiny", {}),
                "model pinned": ("model", "org/tiny", {"revision": commits["model"]}),
                "model pickled": ("model", "org/pickled", {}),
                "model unknown": ("model", "org/none", {}),
                "model revision": ("model", "org/tiny", {"revision": UNKNOWN}),
                "dataset": ("dataset", "org/data", SST2),
                "dataset pinned": ("dataset", "org/data", {**SST2, "revision": commits["dataset"]}),
                "dataset quotes": ("dataset", "org/quotes", {}),
                "dataset unknown": ("dataset", "org/none", {}),
                "dataset revision": ("dataset", "org/data", {**SST2, "revision": "no-branch"}),
                "dataset config": ("dataset", "org/data", {}),
            },
        )


@pytest.fixture(scope="module")
def gone(hub: StubHub, reached: Answers, commits: dict[str, str]) -> Answers:
    """What a process gets afterwards, when nothing listens at that port, with and without a cached copy."""
    assert "sha256" in reached["model"]
    return ask(
        hub,
        {
            "model": ("model", "org/tiny", {}),
            "model pinned": ("model", "org/tiny", {"revision": commits["model"]}),
            "model unknown": ("model", "org/none", {}),
            "model revision": ("model", "org/tiny", {"revision": UNKNOWN}),
            "dataset": ("dataset", "org/data", SST2),
            "dataset pinned": ("dataset", "org/data", {**SST2, "revision": commits["dataset"]}),
            "dataset unknown": ("dataset", "org/none", {}),
            "dataset revision": ("dataset", "org/data", {**SST2, "revision": UNKNOWN}),
        },
    )


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_the_commit_is_recorded_whether_pinned_or_not(
    reached: Answers, commits: dict[str, str], kind: str
) -> None:
    """A default branch is resolved to the commit it stood for; a pinned commit is itself."""
    for key in (kind, f"{kind} pinned"):
        assert reached[key]["revision"] == commits[kind]
        assert reached[key]["source"] == "hub"
        assert reached[key]["name"] == ("org/tiny" if kind == "model" else "org/data")
    assert reached[kind]["sha256"] == reached[f"{kind} pinned"]["sha256"]


def test_weights_in_the_older_format_are_fetched_where_there_are_no_others(reached: Answers) -> None:
    """The same tensors have the same hash in either."""
    assert reached["model pickled"]["sha256"] == reached["model"]["sha256"]


def test_a_tsv_is_read_as_a_local_one(reached: Answers) -> None:
    """A quote is a character, and None a word."""
    assert reached["dataset quotes"]["texts"] == ['"a b', "None", '"c"', 'x "y"']


def test_only_what_is_needed_is_fetched(hub: StubHub, reached: Answers) -> None:
    """No other format of the weights, and nothing twice."""
    assert reached
    fetched = [request for request in hub.requests if request.startswith("GET") and "/resolve/" in request]
    assert len(set(fetched)) == len(fetched)
    assert not any("onnx" in request or "msgpack" in request for request in fetched)


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_the_hub_does_not_have_is_a_usage_error(reached: Answers, kind: str) -> None:
    """An unknown id, and an unknown revision of a known one."""
    unknown, revision = reached[f"{kind} unknown"], reached[f"{kind} revision"]
    assert unknown["error"] == revision["error"] == "UsageError"
    assert f"'org/none' is neither a folder nor a {kind} on the hub" in unknown["message"]
    assert f"pass --{kind} FOLDER" in unknown["message"]
    assert "has no revision" in revision["message"]


def test_a_missing_config_lists_the_configs(reached: Answers) -> None:
    """`datasets` knows them; its example of code is left out."""
    answer = reached["dataset config"]
    assert answer["error"] == "UsageError"
    assert "['sst2', 'another']" in answer["message"]
    assert "load_dataset" not in answer["message"]


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_an_unreachable_hub_is_said_at_once_and_in_one_sentence(gone: Answers, kind: str) -> None:
    """No retries for half a minute, and the way out is named."""
    for key in (f"{kind} unknown", f"{kind} revision"):
        assert gone[key]["error"] == "UnreachableError"
        assert f"The hub could not be reached for the {kind} 'org/" in gone[key]["message"]
        assert gone[key]["message"].endswith(f"check the network, or pass --{kind} FOLDER.")
        assert gone[key]["seconds"] < 10


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_was_fetched_before_needs_no_hub(reached: Answers, gone: Answers, kind: str) -> None:
    """The cached copy is the same, commit included."""
    for key in (kind, f"{kind} pinned"):
        for field in ("revision", "sha256", "name"):
            assert gone[key][field] == reached[key][field]


def test_the_study_can_be_asked_for_at_the_commits_it_pins(tmp_path: Path) -> None:
    """What `calibench run sst2` loads, from a hub that has only that."""
    suite = load_suite("sst2")
    data = {"config": suite.data.config, "split": suite.data.split, "revision": suite.data.revision}
    columns = {"text_columns": list(suite.data.text), "label_column": suite.data.label}
    with suite_hub(tmp_path, "sst2") as hub:
        answers = ask(
            hub,
            {
                "model": ("model", suite.model.name, {"revision": suite.model.revision}),
                "dataset": ("dataset", suite.data.name, {**data, **columns}),
            },
        )
    assert answers["model"]["revision"] == suite.model.revision
    assert answers["dataset"]["revision"] == suite.data.revision
