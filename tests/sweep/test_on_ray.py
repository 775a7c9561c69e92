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
start_head() {
    RAY_ADDRESS= ray start --head --port=6399 --num-cpus="$1" --include-dashboard=false --temp-dir=$TEMPORARY
}
start_node() { ray start --address=127.0.0.1:6399 --num-cpus="$1"; }
measured() { until ls $1/*/journal/*.npz; do sleep 0.05; done > /dev/null 2>&1; }
"""
#: A head and a node of one core each.
TWO = "start_head 1\nstart_node 1\n"
#: What nothing happens to, in `here`.
UNDISTURBED = 'SLOW_S=0 "$PYTHON" -m calibench sweep undisturbed.toml --quality-only --workers 1 -o here\n'


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
    """Run a script in namespaces of its own."""
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
        timeout=480,
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
start_head 1
start_node 1
PYTHONPATH=$PWD/other:$PYTHONPATH start_node 1
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
        TWO
        + """
SECOND=$(pgrep -n -f raylet/raylet)
( measured there; kill -9 $SECOND ) &
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
        TWO
        + """
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
        TWO
        + """
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


def write(folder: Path, *methods: str, lethal: str | None = None, more: str = "") -> None:
    """A sweep of many parts as `s.toml`, and without the lethal method as `undisturbed.toml`."""
    named = (methods, methods) if lethal is None else ((lethal, *methods), methods)
    for file, those in zip(("s.toml", "undisturbed.toml"), named, strict=True):
        (folder / file).write_text(text_of(*those, more=more).replace("blocks = 2", "blocks = 12"))


def same(folder: Path, *pairs: str) -> None:
    """The sound records in `there` are those of `here`, to which nothing has happened."""
    for pair in pairs or ("embedded--corpus",):
        there, here = (load_records(folder / name / pair) for name in ("there", "here"))
        there = [record for record in there if record["status"] == "ok"]
        assert [record["method"] for record in there] == [record["method"] for record in here]
        for one, other in zip(there, here, strict=True):
            assert one["metrics"] == other["metrics"]
            assert one["predictions_sha256"] == other["predictions_sha256"]


def ended(done: subprocess.CompletedProcess[str], said: Path) -> str:
    """The one sentence with which the first command ended with exit code 1; the second went through."""
    assert done.returncode == 0, done.stdout + done.stderr + said.read_text()
    assert "exit code 1" in done.stdout
    *before, last = said.read_text().splitlines()
    assert not [line for line in before if not line.startswith("The node ") and " cells" not in line]
    return last


#: Kills the head once something is measured; %s is what happens then. Every piece of work takes longer than
#: the sweep waits before it looks for its nodes: of shorter ones the node that is left would do all the rest.
HEAD_LOST = """
export RAY_gcs_rpc_server_reconnect_timeout_s=5 SLOW_S=7
start_head 1
start_node 1
HEAD="$(pgrep -x gcs_server) $(pgrep -o -x raylet)"
( measured there; kill -9 $HEAD; %s ) &
code=0; sweep s.toml -o there 2> said || code=$?
echo "exit code $code"
ls there/*/journal/*.npz > kept
wait
ray stop --force
export SLOW_S=0
start_head 1
start_node 1
sweep s.toml -o there
"""


@pytest.mark.parametrize("then", ["true", "start_head 1"], ids=["gone", "restarted"])
def test_a_lost_head_ends_the_sweep_and_costs_nothing(tmp_path: Path, temporary: Path, then: str) -> None:
    """In one sentence, gone for good or started anew; the same command goes on on the next cluster."""
    write(tmp_path, "frequentist", "slow")
    done = on_cluster(HEAD_LOST % then + UNDISTURBED, tmp_path, temporary)
    assert ended(done, tmp_path / "said").startswith("Error: The Ray cluster was lost")
    assert (tmp_path / "kept").read_text().strip()
    same(tmp_path)


def test_what_memory_runs_out_under_costs_its_cell(tmp_path: Path, temporary: Path) -> None:
    """Ray ends all actors of the node; those are begun again, and the cell that takes it all is named."""
    write(tmp_path, "frequentist", "slow", "mc-dropout", lethal="hungry")
    done = on_cluster(
        """
start_head 0
export RAY_memory_usage_threshold=$("$PYTHON" -c '
from ray._private import utils
print((utils.get_used_memory() + 4e9) / utils.get_system_memory())')
start_node 2
sweep s.toml -o there || echo "exit code $?"
"""
        + UNDISTURBED,
        tmp_path,
        temporary,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exit code 1" in done.stdout
    assert done.stderr.count("embedded--corpus: hungry: out of memory: ") == 2  # then, and in the list
    assert "1 failed:" in done.stderr
    same(tmp_path)


FULL = """
mkdir there
mount -t tmpfs -o size=8m tmpfs there
( measured there; cat /dev/zero > there/full ) 2> /dev/null &
code=0; sweep s.toml -o there 2> said || code=$?
echo "exit code $code"
rm there/full
cp -r there stopped
sweep s.toml -o there
cp -r there filled
umount there
mv filled/* there
"""


def test_a_full_disk_ends_the_sweep_and_costs_nothing(tmp_path: Path, temporary: Path) -> None:
    """In one sentence; what was written is whole, and with room again the same command goes on."""
    write(tmp_path, "frequentist", "slow")
    done = on_cluster(TWO + FULL + UNDISTURBED, tmp_path, temporary)
    assert "No space left on device" in ended(done, tmp_path / "said")
    assert list((tmp_path / "stopped").glob("*/journal/*.npz"))
    same(tmp_path)


#: An S3 server that refuses to write while there is a file that says so.
REFUSING = """
import os
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

served = DomainDispatcherApplication(create_backend_app)
REFUSED = b"<Error><Code>AccessDenied</Code><Message>no writing here</Message></Error>"

def refusing(environ, start_response):
    if os.path.exists("refuse") and environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        start_response("403 Forbidden", [("Content-Type", "application/xml")])
        return [REFUSED]
    return served(environ, start_response)

run_simple("127.0.0.1", 5555, refusing, threaded=True)
"""
REFUSED = """
export AWS_ENDPOINT_URL=http://127.0.0.1:5555 AWS_ACCESS_KEY_ID=nobody AWS_SECRET_ACCESS_KEY=nothing
export AWS_DEFAULT_REGION=us-east-1 CALIBENCH_CACHE=$PWD/cache
"$PYTHON" refusing.py > server.log 2>&1 &
s3() { "$PYTHON" -c "import fsspec; fsspec.filesystem('s3').$1"; }
until s3 "mkdir('sweeps')" 2> /dev/null; do sleep 0.2; done
( measured "cache/sweeps/*"; touch refuse ) &
code=0; sweep s.toml -o s3://sweeps/small 2> said || code=$?
echo "exit code $code"
rm refuse
sweep s.toml -o s3://sweeps/small
s3 "get('sweeps/small', 'there', recursive=True)"
"""


def test_a_bucket_that_refuses_ends_the_sweep_and_costs_nothing(tmp_path: Path, temporary: Path) -> None:
    """In one sentence, while the second pair is measured; once it takes what is sent, all is there."""
    pytest.importorskip("moto", reason='no S3 server: pip install s3fs "moto[server]"')
    second = '[[data]]\nid = "other"\nloader = "embedded"\nsplit = "validation"\nlimit = 24\n'
    write(tmp_path, "frequentist", "slow", more=second)
    (tmp_path / "refusing.py").write_text(REFUSING)
    done = on_cluster(TWO + REFUSED + UNDISTURBED, tmp_path, temporary)
    assert ended(done, tmp_path / "said").startswith("Error: Could not read or write s3://sweeps/small")
    same(tmp_path, "embedded--corpus", "embedded--other")


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
