"""Sample logs of the LM Evaluation Harness: what it logs is what is read, and its accuracies are ours."""

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
from calibench.readers.lm_eval import read
from calibench.readers.scored import Scored

TASK = """
task: local
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: answer
doc_to_choice: choices
metric_list: [{{metric: acc}}, {{metric: acc_norm}}, {{metric: acc_bytes}}]
"""
CHOICES = (["Paris", "London", "Rome"], ["\u00e9\u00e9", "two words", "x", "y"], ["yes", "no"])
LINE: dict[str, Any] = json.loads(scored_files.lm_eval_line(0))


def of(*lines: dict[str, Any], **said: Any) -> Scored:
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return read(Source("samples.jsonl", "", content=content), Asked(**said), "A")


def agrees(found: Scored, lines: list[dict[str, Any]], accuracy: str) -> None:
    ours = found.probs.argmax(axis=1) == found.labels
    assert_array_equal(ours, [bool(line[accuracy]) for line in lines])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs lm-eval, an extra")
def test_a_real_log_is_read(tmp_path: Path) -> None:
    """The harness itself, its dummy model and a task of our own with two, three and four choices."""
    data, task = tmp_path / "data.jsonl", tmp_path / "local.yaml"
    rows = [{"question": i, "choices": CHOICES[i % 3], "answer": i % 2} for i in range(30)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task.write_text(TASK.format(data=data))
    options = ["--include_path", str(tmp_path), "--log_samples", "--output_path", str(tmp_path / "out")]
    command = [sys.executable, "-m", "lm_eval", "--model", "dummy", "--tasks", "local", *options]
    subprocess.run(command, check=True, capture_output=True, timeout=300, cwd=tmp_path)
    (path,) = (tmp_path / "out").rglob("samples_local_*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for normalise, accuracy in (("none", "acc"), ("characters", "acc_norm"), ("bytes", "acc_bytes")):
        found = read(source_of(str(path)), Asked(normalise=normalise), "A")
        assert_array_equal(found.labels, [int(line["target"]) for line in lines])
        agrees(found, lines, accuracy)


def test_probabilities_are_the_softmax_of_what_is_logged() -> None:
    """Known answer, with each normalisation; the harness writes numbers as text."""
    lines = [json.loads(scored_files.lm_eval_line(i)) for i in range(20)]
    values = np.array([[float(answer[0]) for answer in line["filtered_resps"]] for line in lines])
    lengths = np.array([len(line["arguments"]["gen_args_2"]["arg_1"]) - 1 for line in lines])
    plain = of(*lines)
    assert_allclose(plain.probs, np.exp(values) / np.exp(values).sum(axis=1, keepdims=True))
    agrees(plain, lines, "acc")
    by_length = of(*lines, normalise="characters")
    ratio = np.log(by_length.probs[:, 2] / by_length.probs[:, 0])
    assert_allclose(ratio, values[:, 2] / lengths - values[:, 0] / 5)
    agrees(by_length, lines, "acc_norm")
    assert "divided by the characters" in by_length.notes[0]
    assert plain.said["normalise"] == "none"


def test_questions_may_have_unlike_numbers_of_choices() -> None:
    """What a question does not offer has probability 0, and a note says so."""
    fewer = LINE | {
        "filtered_resps": LINE["filtered_resps"][:2],
        "arguments": dict(list(LINE["arguments"].items())[:2]),
        "target": "1",
        "acc": None,
        "acc_norm": None,
    }
    found = of(LINE, fewer)
    assert found.probs[1, 2] == 0.0
    assert_allclose(found.probs.sum(axis=1), 1.0)
    assert "2 to 3 choices" in found.notes[1]


def test_answers_without_their_question_are_left_out() -> None:
    """For acc_mutual_info the harness asks for each choice again, with an empty context."""
    again = {
        f"gen_args_{3 + i}": {"arg_0": "", "arg_1": pair["arg_1"]}
        for i, pair in enumerate(LINE["arguments"].values())
    }
    doubled = LINE | {
        "arguments": LINE["arguments"] | again,
        "filtered_resps": [*LINE["filtered_resps"], ["-1.0", "False"], ["-9.0", "False"], ["-5.0", "True"]],
    }
    assert_array_equal(of(doubled).probs, of(LINE).probs)


def test_a_target_is_a_number_or_a_text() -> None:
    """As the task gives it; ids and groups come with the line."""
    by_text = LINE | {"target": ["Paris", "Rome", "the City of London"][int(LINE["target"])]}
    found = of(by_text, group="doc.subject")
    assert_array_equal(found.labels, of(LINE).labels)
    assert found.ids.to_pylist() == [f"0 {'0' * 16}"]
    assert found.group.to_pylist() == ["north"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"filtered_resps": ["Paris"]}, "no log-likelihoods of choices"),
        ({"filtered_resps": None}, "no log-likelihoods of choices"),
        ({"arguments": {}}, "no log-likelihoods of choices"),
        ({"target": "Madrid"}, "none of its 3 choices"),
        ({"target": [0, 1]}, "one right choice"),
        ({"target": "3"}, "none of its 3 choices"),
        ({"acc": 1.0 - LINE["acc"]}, "logs acc ., which its log-likelihoods"),
        ({"acc_norm": 1.0 - LINE["acc_norm"]}, "logs acc_norm"),
    ],
)
def test_other_logs_are_refused(changed: dict[str, Any], message: str) -> None:
    """Generated text, several right answers, and what the harness counted otherwise."""
    with pytest.raises(UsageError, match=message):
        of(LINE | changed)


def test_answers_of_several_filters_are_refused() -> None:
    """Each would count a question again."""
    with pytest.raises(UsageError, match=r"several filters \(none, other\)"):
        of(LINE, LINE | {"filter": "other"})
