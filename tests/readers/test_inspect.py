"""Logs of Inspect: right and wrong from the scorer, confidence from the field that is named."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import scored_files
from calibench.errors import UsageError
from calibench.readers.asked import Asked
from calibench.readers.files import Source, source_of
from calibench.readers.inspect import read
from calibench.readers.scored import Scored

CONFIDENCE = "metadata.confidence"


def sample(number: int, value: Any, **fields: Any) -> dict[str, Any]:
    scores = {} if value is None else {"match": {"value": value, "metadata": {"sure": 0.9}}}
    plain = {"id": number, "epoch": 1, "metadata": {"confidence": 0.5}, "scores": scores}
    return plain | fields


def of(*samples: dict[str, Any], status: str = "success", **said: Any) -> Scored:
    content = json.dumps({"eval": {}, "status": status, "samples": samples}).encode()
    return read(Source("log.json", "", content=content), Asked(**({"confidence": CONFIDENCE} | said)), "A")


#: Makes a log, in a process of its own: its libraries warn of themselves.
SCRIPT = """
import sys
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, scorer

@scorer(metrics=[accuracy()])
def every_third():
    async def score(state, target):
        number = int(state.sample_id)
        value = INCORRECT if number % 3 == 0 else CORRECT
        return Score(value=value, metadata={"confidence": 0.5 + number / 40})
    return score

samples = [Sample(input="?", target="!", id=i + 1, metadata={"region": i % 2}) for i in range(12)]
output = ModelOutput.from_content("mockllm/model", "!")
# Without it the mock model counts tokens with a vocabulary that it downloads.
output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
model = get_model("mockllm/model", custom_outputs=[output] * 24)
task = Task(dataset=MemoryDataset(samples), scorer=every_third())
(log,) = eval(task, model=model, log_dir=".", log_format=sys.argv[1], display="none", epochs=2)
assert log.status == "success", log.error
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("inspect_ai") is None, reason="needs inspect-ai, an extra")
@pytest.mark.parametrize("kind", ["eval", "json"])
def test_a_real_log_is_read(kind: str, tmp_path: Path) -> None:
    """Inspect itself with its mock model, in both of its formats and two epochs."""
    subprocess.run([sys.executable, "-c", SCRIPT, kind], check=True, cwd=tmp_path, timeout=300)
    (path,) = tmp_path.glob(f"*.{kind}")
    asked = Asked(confidence="score.metadata.confidence", group="metadata.region")
    found = read(source_of(str(path)), asked, "A")
    numbers = np.array([int(name) for name in found.ids.to_pylist()])
    assert sorted(numbers) == list(range(1, 13))
    assert_array_equal(found.labels, numbers % 3 == 0)
    assert_allclose(found.probs[:, 0], 0.5 + numbers / 40)
    assert set(found.group.to_pylist()) == {"0", "1"}


def test_scores_are_right_or_wrong() -> None:
    """Letters, numbers and truth; no answer counts as wrong, as in Inspect's accuracy; no score is "
    "missing."""
    values = ["C", "I", "N", 1, 0, 1.0, True, False, None]
    found = of(*(sample(i, value) for i, value in enumerate(values)))
    assert_array_equal(found.labels, [0, 1, 1, 0, 1, 0, 0, 1, -1])
    assert_array_equal(found.probs, np.full((len(values), 1), 0.5))


def test_confidence_is_where_it_was_said_to_be() -> None:
    """In the sample or in the score; where a sample has none it lacks a value."""
    found = of(sample(1, "C"), sample(2, "C", metadata={}), confidence=CONFIDENCE)
    assert_array_equal(found.lacking, [False, True])
    assert_array_equal(of(sample(1, "C"), confidence="score.metadata.sure").probs, [[0.9]])


def test_only_the_first_of_several_epochs_is_scored() -> None:
    """Answers to one question are not independent examples; a note says so."""
    found = of(*(sample(i, "C", epoch=epoch) for epoch in (1, 2, 3) for i in range(4)))
    assert found.ids.to_pylist() == ["0", "1", "2", "3"]
    assert "the first of 3 epochs" in found.notes[1]


@pytest.mark.parametrize(
    ("samples", "said", "message"),
    [
        ([sample(1, "C")], {"confidence": None}, "name the field that does"),
        ([sample(1, "C")], {"confidence": "metadata.sure"}, "No sample of 'log.json' has a number"),
        ([sample(1, "C")], {"status": "started"}, "status 'started'"),
        ([sample(1, "P")], {}, "neither right nor wrong"),
        ([sample(1, 0.5)], {}, "neither right nor wrong"),
        ([sample(1, "C")], {"correct": "other"}, "no scorer 'other'"),
        ([sample(1, "C", scores={"a": {}, "b": {}})], {}, "the scorers a, b"),
        ([sample(1, None)], {}, "was scored"),
        ([], {}, "holds no samples"),
        ([sample(1, "C", metadata={"confidence": 85})], {}, "divide percentages by 100"),
    ],
)
def test_other_logs_are_refused(samples: list[dict[str, Any]], said: dict[str, Any], message: str) -> None:
    """Nothing is taken for a confidence, or for right, that is not said to be."""
    with pytest.raises(UsageError, match=message):
        of(*samples, **said)


def test_a_file_of_another_kind_is_refused() -> None:
    """JSON that is no log, and what is no JSON; a binary log without Inspect says what to do."""
    for content in (b"[1]", b"{}", b"no"):
        with pytest.raises(UsageError, match="no log of Inspect"):
            read(Source("log.json", "", content=content), Asked(confidence=CONFIDENCE), "A")
    if find_spec("inspect_ai") is None:
        with pytest.raises(UsageError, match=r"calibench\[inspect\]"):
            read(Source("log.eval", "", content=b"PK..."), Asked(confidence=CONFIDENCE), "A")


def test_the_example_of_the_document_is_a_log() -> None:
    """What docs/score.md is tested with."""
    found = of(*scored_files.inspect_log()["samples"])  # type: ignore[misc]
    assert len(found) == 60
