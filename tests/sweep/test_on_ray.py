"""A Ray cluster of two nodes: the same records as without it, also where a process or a node is lost.

Each cluster is in namespaces of its own: its network is the loopback, and its processes end with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibench.cli import main
from calibench.store.records import Record, load_records
from sweeps import text_of, write_lethal

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'calibench[ray]'")

APART = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
START = """
set -eu
ip link set lo up
export RAY_USAGE_STATS_ENABLED=0 HOME=$PWD RAY_ADDRESS=127.0.0.1:6399
ray() { "$PYTHON" -m ray.scripts.scripts "$@" > ray.log 2>&1 || { cat ray.log; exit 1; }; }
sweep() { "$PYTHON" -m calibench sweep "$@" --quality-only --on ray; }
RAY_ADDRESS= ray start --head --port=6399 --num-cpus=1 --include-dashboard=false --temp-dir=$TEMPORARY
"""


def can_be_apart() -> bool:
    """Whether this user may make namespaces here, and has what sets their network up."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return subprocess.run([*APART, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.skipif(not can_be_apart(), reason="needs unshare and ip, and the right to make namespaces"),
    pytest.mark.slow,
]


@pytest.fixture
def temporary() -> Path:
    """A folder with a short name, since Ray makes sockets in it."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def on_cluster(script: str, folder: Path, temporary: Path) -> subprocess.CompletedProcess[str]:
    """Run a script where a head of one core has been started."""
    return subprocess.run(
        [*APART, "bash", "-c", START + script],
        cwd=folder,
        env=os.environ
        | {
            "PYTHON": sys.executable,
            "TEMPORARY": str(temporary),
            "PYTHONPATH": str(write_lethal(folder / "plugin")),
        },
        capture_output=True,
        text=True,
        timeout=240,
    )


def rows(folder: Path) -> dict[str, Record]:
    """Records by method, with nothing in them that says where and when they were made."""
    found = {}
    for record in load_records(folder / "embedded--corpus"):
        kept = {name: value for name, value in record.items() if name not in ("environment", "created")}
        found[record["method"]["name"]] = kept
    return found


def test_two_nodes_give_what_one_machine_gives(tmp_path: Path, temporary: Path) -> None:
    """Bit for bit; a method that ends its process costs its cell; a node with other versions is left out."""
    (tmp_path / "s.toml").write_text(text_of("frequentist", "mc-dropout", "exits"))
    other = tmp_path / "other" / "tokenizers-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: tokenizers\nVersion: 0.0.1\n")
    done = on_cluster(
        """
ray start --address=127.0.0.1:6399 --num-cpus=1
PYTHONPATH=$PWD/other:$PYTHONPATH ray start --address=127.0.0.1:6399 --num-cpus=1
sweep s.toml -o there
""",
        tmp_path,
        temporary,
    )
    said = " ".join(done.stderr.split())
    assert done.returncode == 1, done.stdout + done.stderr
    assert "is left out: it has tokenizers 0.0.1 and not " in said, done.stderr
    assert "embedded--corpus: exits: the process that ran it ended with exit code 3" in said
    assert said.count("embedded--corpus: exits:") == 2  # when it happened, and in the list
    (tmp_path / "here.toml").write_text(text_of("frequentist", "mc-dropout"))
    here = CliRunner().invoke(
        main,
        [
            "sweep",
            str(tmp_path / "here.toml"),
            "--quality-only",
            "--workers",
            "1",
            "-o",
            str(tmp_path / "here"),
        ],
    )
    assert here.exit_code == 0, here.output
    there, ours = rows(tmp_path / "there"), rows(tmp_path / "here")
    assert there.pop("exits")["status"] == "error"
    for name, record in ours.items():
        assert there[name]["metrics"] == record["metrics"]
        assert there[name]["predictions_sha256"] == record["predictions_sha256"]


def test_a_lost_node_costs_nothing(tmp_path: Path, temporary: Path) -> None:
    """What it was at is done again on the other; no part is there twice."""
    (tmp_path / "s.toml").write_text(text_of("frequentist", "slow"))
    done = on_cluster(
        """
ray start --address=127.0.0.1:6399 --num-cpus=1
SECOND=$(pgrep -n -f raylet/raylet)
( until ls there/*/journal/*.npz; do sleep 0.05; done; kill -9 $SECOND ) > /dev/null 2>&1 &
sweep s.toml -o there
""",
        tmp_path,
        temporary,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(tmp_path / "there")
    assert {record["status"] for record in found.values()} == {"ok"}
    assert {record["data"]["n"] for record in found.values()} == {24}


INTERRUPTED = """
import os, signal, subprocess, sys, time
from pathlib import Path
# A shell starts what runs in the background deaf to Ctrl-C.
begun = subprocess.Popen(
    [sys.executable, "-m", "calibench", "sweep", "s.toml", "--quality-only", "--on", "ray", "-o", "there"],
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
)
while not list(Path("there").glob("*/journal/*.npz")):
    assert begun.poll() is None
    time.sleep(0.05)
begun.send_signal(signal.SIGINT)
print("exit code", begun.wait())
"""


def test_ctrl_c_loses_nothing(tmp_path: Path, temporary: Path) -> None:
    """The driver ends with 130, the processes with it, and the same command goes on behind what it has."""
    (tmp_path / "s.toml").write_text(text_of("frequentist", "slow"))
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    done = on_cluster(
        """
ray start --address=127.0.0.1:6399 --num-cpus=1
"$PYTHON" interrupted.py
ls there/*/journal/*.npz > kept
sweep s.toml -o there
""",
        tmp_path,
        temporary,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exit code 130" in done.stdout
    assert (tmp_path / "kept").read_text().strip()
    found = rows(tmp_path / "there")
    assert {record["status"] for record in found.values()} == {"ok"}
    assert {record["data"]["n"] for record in found.values()} == {24}


def test_timing_cells_have_a_node_to_themselves(tmp_path: Path, temporary: Path) -> None:
    """Two pairs on two nodes, all methods of a pair side by side on one; each record has times."""
    second = '[[data]]\nid = "other"\nloader = "embedded"\nsplit = "validation"\nlimit = 24\n'
    (tmp_path / "s.toml").write_text(text_of("frequentist", "mc-dropout", more=second))
    done = on_cluster(
        """
ray start --address=127.0.0.1:6399 --num-cpus=1
"$PYTHON" -m calibench sweep s.toml -o there --on ray
""",
        tmp_path,
        temporary,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for data in ("corpus", "other"):
        records = load_records(tmp_path / "there" / f"embedded--{data}")
        assert [record["method"]["name"] for record in records] == ["frequentist", "mc-dropout"]
        assert all(record["cost_ratio"]["value"] > 0 for record in records)


def test_nobody_at_the_address_is_said(tmp_path: Path) -> None:
    """At once, in one sentence, and before anything is started."""
    (tmp_path / "s.toml").write_text(text_of())
    arguments = ["--on", "ray://127.0.0.1:9", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["sweep", str(tmp_path / "s.toml"), *arguments])
    assert result.exit_code == 1
    assert "Nobody listens at ray://127.0.0.1:9" in " ".join(result.output.split())


def test_an_unknown_place_is_refused(tmp_path: Path) -> None:
    """So are cores for a cell of this machine."""
    (tmp_path / "s.toml").write_text(text_of())
    for given, says in ((("--on", "slurm"), "choose local, ray"), (("--cpus-per-cell", "2"), "add --on ray")):
        result = CliRunner().invoke(main, ["sweep", str(tmp_path / "s.toml"), *given])
        assert result.exit_code == 2
        assert says in " ".join(result.output.split())
