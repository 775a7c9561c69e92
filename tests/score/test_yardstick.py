"""Errors against a limit that is only known through noisy references, and time at one error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from calibench.cli import main
from calibench.compare.equal_error import Measured, seconds_at, speedup
from calibench.errors import UsageError
from calibench.score.yardstick import error_fields
from calibench.suites.loader import parse_suite

SUITE = """
title = "small"
passes = 4
metrics = ["accuracy"]
[data]
loader = "embedded"
limit = 24
[model]
name = "embedded"
[yardstick]
method = "mc-dropout"
passes = 4
reference = "mc-dropout-stratified"
reference_passes = 100
replicates = 3
[[method]]
name = "frequentist"
[[method]]
name = "mc-dropout"
[[method]]
name = "mc-dropout-stratified"
params = { passes = 2 }
[[method]]
name = "mc-dropout-stratified"
params = { passes = 40 }
[[method]]
name = "mc-dropout-baal"
replicates = 1
[timing]
blocks = 2
latency = 2
memory = false
"""


def simulated(
    bias: float, noise: float, reference_noise: float, *, replicates: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Replicates and references of 400 examples of two classes, around limits away from 0 and 1."""
    rng = np.random.default_rng(seed)
    limit = rng.uniform(0.6, 0.8, size=400)
    a = limit + bias * rng.choice([-1, 1], size=400) + noise * rng.standard_normal((replicates, 400))
    r = limit + reference_noise * rng.standard_normal((2, 400))
    return np.stack([a, 1 - a], axis=-1), np.stack([r, 1 - r], axis=-1)


@pytest.mark.parametrize("reference_noise", [0.0, 0.03])
def test_the_noise_of_the_references_cancels(reference_noise: float) -> None:
    """Error .02^2 + .01^2 and bias .02^2 come out; false alarms below 1 in 10,000 (four standard errors)."""
    runs = [simulated(0.02, 0.01, reference_noise, replicates=5, seed=seed) for seed in range(60)]
    fields = [error_fields(*run, np.full((5, 400), 10)) for run in runs]
    for key, truth in (("mse", 0.0005), ("bias_squared", 0.0004)):
        values = np.array([field[key]["value"] for field in fields])
        assert abs(values.mean() - truth) < 4 * values.std(ddof=1) / np.sqrt(len(values))
        assert values.std() < truth / 3


def test_one_replicate_has_an_error_but_no_bias() -> None:
    """Null with a reason, as everywhere."""
    fields = error_fields(*simulated(0.02, 0.01, 0.0, replicates=1, seed=0), np.full((1, 400), 10))
    assert fields["mse"]["low"] is None
    assert fields["bias_squared"]["value"] is None
    assert "one replicate" in fields["bias_squared"]["reason"]
    assert fields["groups"] is None


def test_stopping_that_depends_on_the_example_is_shown_by_passes() -> None:
    """A bias of those with most passes is found in their tenth."""
    a, r = simulated(0.0, 0.001, 0.0, replicates=4, seed=1)
    passes = np.tile(np.arange(400), (4, 1))
    a[:, 360:, 0] += 0.05
    groups = error_fields(a, r, passes)["groups"]
    assert groups is not None
    assert [group["examples"] for group in groups] == [40] * 10
    assert groups[-1]["bias"] == pytest.approx(0.05, abs=0.001)
    assert abs(groups[0]["bias"]) < 0.001


@settings(deadline=None)
@given(st.floats(0.01, 100), st.floats(0.3, 2), st.floats(0.0, 1.0))
def test_time_between_settings_follows_their_power_law(start: float, slope: float, share: float) -> None:
    """Seconds = c / error^slope is met exactly between settings, and nothing is said far beyond them."""
    settings_of = [(start * factor, factor ** (-1 / slope)) for factor in (1.0, 2.0, 8.0)]
    factor = 8.0**share
    assert seconds_at(settings_of, factor ** (-1 / slope)) == pytest.approx(start * factor, rel=1e-6)
    assert seconds_at(settings_of, 1.3) is None
    assert seconds_at(settings_of, 8 ** (-1 / slope) / 1.3) is None


def test_a_speedup_is_a_ratio_of_times_at_the_matched_error() -> None:
    """Known by hand: 4 s at the target's error against 40 s; its interval holds it."""
    rng = np.random.default_rng(0)
    noise = rng.normal(1, 0.02, size=(3, 20))
    family = [Measured(2 * noise[0], 8e-4 * noise[1]), Measured(8 * noise[0], 2e-4 * noise[1])]
    target = Measured(100 * noise[2], 4e-4 * noise[2])
    ratio = speedup(family, target, Measured(np.array([40.0, 40.0]), np.array([1.0, 1.0])))
    assert ratio is not None
    assert ratio.value == pytest.approx(10, rel=0.03)
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < 10 < ratio.high
    assert speedup(family, Measured(noise[0], 1e-5 * noise[0]), target) is None


def test_a_suite_with_a_yardstick_measures_and_reports(tmp_path: Path) -> None:
    """Replicates differ, slow methods take part in fewer, and the report has the tables."""
    suite, folder = tmp_path / "speed.toml", tmp_path / "run"
    suite.write_text(SUITE)
    result = CliRunner().invoke(main, ["run", str(suite), "-o", str(folder)])
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    found = {(r["method"]["name"], r["passes"]): r["yardstick"] for r in records}
    assert found["mc-dropout-baal", 4]["replicates"] == 1
    assert found["mc-dropout", 4]["replicates"] == 3
    assert len(set(found["mc-dropout", 4]["mse"]["by_replicate"])) == 3
    assert len(set(found["frequentist", 1]["mse"]["by_replicate"])) == 1
    assert found["frequentist", 1]["bias_squared"]["value"] > 0
    report = (folder / "report.md").read_text()
    assert "## Time against error" in report
    assert "## Time at the matched error" in report
    assert (folder / "figures" / "speed-time-against-error.png").exists()
    again = CliRunner().invoke(main, ["run", str(suite), "-o", str(folder)])
    assert again.exit_code == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("replicates = 1", "yardstick.replicates is 1"),
        ("passes = 0", "yardstick.passes is 0"),
        ("reference_passes = 2", "yardstick.reference_passes is 2"),
        ('method = ""', "has no method"),
        ("nonsense = 1", "Unknown key 'nonsense'"),
    ],
)
def test_a_yardstick_that_cannot_be_is_refused(line: str, message: str) -> None:
    """By the name of the key."""
    key = line.split(" = ")[0]
    head, tail = SUITE.split("[yardstick]\n")
    kept = "\n".join(row for row in tail.splitlines() if not row.startswith(f"{key} = ") or "[" in row)
    with pytest.raises(UsageError, match=message):
        parse_suite(f"{head}[yardstick]\n{line}\n{kept}", "speed")
