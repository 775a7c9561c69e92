"""Wheel and editable install work in new environments, from another folder, with a plugin beside them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def check(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    check(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", target, ROOT, cwd=target)
    (file,) = target.glob("*.whl")
    return file


def test_the_wheel_holds_our_two_packages_only(wheel: Path) -> None:
    """Nothing generic lands in site-packages, and everything a run needs is inside."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"calibench", "calibench_methods"}
    for needed in ("py.typed", "suites/embedded.toml", "data/assets/checkpoint/model.safetensors"):
        assert f"calibench/{needed}" in names
    assert sum(info.compress_size for info in zipfile.ZipFile(wheel).infolist()) < 6_000_000


@pytest.mark.parametrize("editable", [False, True], ids=["wheel", "editable"])
def test_it_installs_and_runs_from_another_folder(wheel: Path, tmp_path: Path, editable: bool) -> None:
    """A new environment that borrows only the dependencies runs the embedded suite and sees a plugin."""
    environment = tmp_path / "env"
    check(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    # The dependencies come from this environment by a path file; the calibench in it is shadowed by the
    # installation that stands before it on the path.
    site = Path(
        check(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    source = ["--editable", ROOT] if editable else [wheel]
    install = (python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation")
    check(*install, "--force-reinstall", *source, cwd=tmp_path)
    check(*install, ROOT / "tests" / "plugin_example", cwd=tmp_path)
    found = check(python, "-c", "import calibench; print(calibench.__file__)", cwd=tmp_path).strip()
    assert Path(found).is_relative_to(ROOT if editable else site)
    command = environment / "bin" / "calibench"
    assert "label-smoothing" in check(command, "ls", "methods", cwd=tmp_path)
    arguments = ("-m", "frequentist", "-m", "label-smoothing", "-a", "label-smoothing.amount=0.2")
    table = check(command, "run", "--fast", "-L", "60", *arguments, "-o", "out", cwd=tmp_path)
    assert "label-smoothing" in table
    assert "mean_confidence" in (tmp_path / "out" / "records.jsonl").read_text()
