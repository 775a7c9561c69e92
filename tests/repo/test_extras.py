"""Each installation in a new environment runs what it promises: the base scores, `run` runs all but BaaL.

The packages come from the index, as a user's do, at the versions of constraints.txt.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scored_files

ROOT = Path(__file__).resolve().parents[2]
RUN = ("run", "--fast", "-L", "60", "--passes", "2")


def said(*command: str | Path, cwd: Path, code: int = 0) -> str:
    """What a command prints, on both streams; it has to end with `code`."""
    result = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == code, result.stdout + result.stderr
    return " ".join((result.stdout + result.stderr).split())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    said(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", target, ROOT, cwd=target)
    return next(target.glob("*.whl"))


def installed(environment: Path, wanted: str) -> Path:
    """The scripts of an environment, made where it is missing, with the wheel and its extras."""
    scripts = environment / "bin"
    if not environment.exists():
        said(sys.executable, "-m", "venv", environment, cwd=ROOT)
    pip = (scripts / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt")
    said(*pip, wanted, cwd=environment)
    return scripts


def test_the_base_scores_and_says_what_running_needs(wheel: Path, tmp_path: Path) -> None:
    """At most 35 packages and no torch; what needs more refuses in one sentence."""
    scripts = installed(tmp_path / "env", str(wheel))
    packages = said(scripts / "python", "-m", "pip", "list", "--format=freeze", cwd=tmp_path).split()
    names = {package.partition("==")[0] for package in packages} - {"pip", "setuptools", "calibench"}
    assert not {"torch", "transformers", "datasets", "baal"} & names
    assert len(names) <= 35, sorted(names)

    scored_files.write(tmp_path)
    calibench = scripts / "calibench"
    score = (calibench, "score", "preds.csv", "--label", "label", "--probs", "p_*", "-o", "scored")
    assert "accuracy" in said(*score, cwd=tmp_path)
    said(calibench, "report", "--html", "scored", cwd=tmp_path)
    said(calibench, "show", "scored", cwd=tmp_path)
    said(calibench, "env", cwd=tmp_path)
    assert "(needs baal" in said(calibench, "ls", "methods", cwd=tmp_path)
    needs = "calibench run needs datasets and"
    assert needs in said(calibench, "run", cwd=tmp_path, code=2)
    assert "pip install 'calibench[run]'" in said(calibench, "run", cwd=tmp_path, code=2)


ANEW = pytest.mark.skipif(
    not os.environ.get("CALIBENCH_EXTRAS_FULL"), reason="installs torch anew: set CALIBENCH_EXTRAS_FULL=1"
)


@ANEW
def test_run_runs_without_baal_and_leaves_its_rows_out(wheel: Path, tmp_path: Path) -> None:
    """They are named with what installs them; asked for by name, they are refused."""
    scripts = installed(tmp_path / "env", f"{wheel}[run]")
    found = said(scripts / "calibench", *RUN, cwd=tmp_path)
    line = "mc-dropout-baal is left out: it needs baal: pip install 'calibench[baal]'."
    assert line in found
    assert "mc-dropout-batch" in found
    refused = said(scripts / "calibench", *RUN, "-m", "mc-dropout-baal", cwd=tmp_path, code=2)
    assert "The method 'mc-dropout-baal' needs baal: pip install 'calibench[baal]'." in refused


#: By extra, what it adds: a command, and what that prints.
PROMISES = {
    "baal": ((*RUN, "-m", "mc-dropout-baal", "-m", "hf-pipeline-baal"), "hf-pipeline-baal"),
    "peers": ((*RUN, "-m", "baal-trainer"), "baal-trainer"),
    "onnx": ((*RUN, "-m", "frequentist", "--runtime", "onnxruntime"), "frequentist @"),
    "mlflow": ((*RUN, "-m", "frequentist", "--log", "mlflow"), "Logged to mlflow"),
    "tensorboard": ((*RUN, "-m", "frequentist", "--log", "tensorboard"), "Logged to tensorboard"),
    "wandb": ((*RUN, "-m", "frequentist", "--log", "wandb"), "Logged to wandb"),
    "trackio": ((*RUN, "-m", "frequentist", "--log", "trackio"), "Logged to trackio"),
    "ray": (("sweep", "sweep.toml", "--quality-only", "--on", "ray"), "1 cells measured or there"),
}
SWEEP = """
[[model]]
name = "embedded"
[[data]]
loader = "embedded"
limit = 30
[[method]]
name = "frequentist"
"""
#: Extras that bring no library to run a model with: they stand beside `run`.
BESIDE = {"mlflow", "tensorboard", "wandb", "trackio"}


@ANEW
@pytest.mark.parametrize("extra", PROMISES)
def test_each_extra_alone_runs_what_it_promises(
    extra: str, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of another extra is installed with it, but for `run` where a model is run."""
    scripts = installed(tmp_path / "env", f"{wheel}[{extra}{',run' if extra in BESIDE else ''}]")
    (tmp_path / "sweep.toml").write_text(SWEEP, encoding="utf-8")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    command, promised = PROMISES[extra]
    assert promised in said(scripts / "calibench", *command, cwd=tmp_path)
