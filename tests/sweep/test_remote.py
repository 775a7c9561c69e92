"""Output by fsspec: a plain folder, memory, and a real S3 server on the loopback."""

from __future__ import annotations

import importlib.util
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner

from calibench.cli import main
from calibench.errors import UsageError, WriteError
from calibench.report import write_report
from calibench.store.predictions import has_its_predictions
from calibench.store.records import load_records
from calibench.sweep.remote import place
from calibench.sweep.spec import Sweep
from calibench.sweep.sweeping import run_sweep
from sweeps import InProcess, Listening, small

needs_s3 = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("s3fs", "moto", "flask")),
    reason='no S3 server: pip install s3fs "moto[server]"',
)


@dataclass
class Where:
    """A URL."""

    url: str

    def read(self, target: Path) -> Path:
        """All that is there, in a folder."""
        system, root = fsspec.core.url_to_fs(self.url)
        system.invalidate_cache()
        for file in system.find(root):
            at = target / file.removeprefix(root).lstrip("/")
            at.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(file, str(at))
        return target


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server on the loopback, with a bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("sweeps")
        yield "s3://sweeps"
    server.stop()


@pytest.fixture(params=["file", "memory", pytest.param("s3", marks=needs_s3)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    name = uuid.uuid4().hex
    if request.param == "s3":
        return Where(f"{request.getfixturevalue('server')}/{name}")
    return Where(f"file://{tmp_path}/there" if request.param == "file" else f"memory://{name}")


def swept(sweep: Sweep, url: str) -> InProcess:
    """Run a sweep into a URL; returns what it did."""
    executor = InProcess()
    with place(url) as output:
        run_sweep(sweep, output.folder, executor, Listening(), quality_only=True, finished=output.send)
        output.send_manifest()
    return executor


@pytest.fixture
def another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Forgets what this machine keeps between commands."""
    monkeypatch.setenv("CALIBENCH_CACHE", str(tmp_path / "cache"))
    return lambda: shutil.rmtree(tmp_path / "cache" / "sweeps")


def test_what_is_there_is_a_sweep_and_goes_on(where: Where, tmp_path: Path, another_machine: Any) -> None:
    """Run folders as ever; from another machine nothing is measured again, and a new method alone."""
    swept(small("frequentist"), where.url)
    first = where.read(tmp_path / "a")
    assert {path.name for path in first.iterdir()} == {"sweep.json", "embedded--corpus"}
    (record,) = load_records(first / "embedded--corpus")
    assert has_its_predictions(first / "embedded--corpus", record)
    another_machine()
    assert len(swept(small("frequentist"), where.url).done) == 1  # a look
    another_machine()
    swept(small("frequentist", "mc-dropout"), where.url)
    both = where.read(tmp_path / "b") / "embedded--corpus"
    assert record in load_records(both)
    assert len(load_records(both)) == 2
    write_report(both)


def test_records_come_after_predictions_and_the_manifest_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, another_machine: Any
) -> None:
    """Whoever reads in between finds no record without its predictions."""
    del another_machine
    written: list[str] = []
    local = fsspec.filesystem("file")
    put = type(local).put_file

    def noted(self: Any, here: str, there: str, **options: Any) -> Any:
        written.append(there.rpartition("/")[2])
        return put(self, here, there, **options)

    monkeypatch.setattr(type(local), "put_file", noted)
    with place(f"file://{tmp_path}/there") as output:
        run_sweep(small(), output.folder, InProcess(), Listening(), quality_only=True, finished=output.send)
    assert written[0].endswith(".parquet")
    assert written[1:] == ["records.jsonl", "sweep.json"]


def test_work_that_was_not_sent_is_kept(tmp_path: Path, another_machine: Any) -> None:
    """A place that cannot be written to costs the sending: the same command sends what was measured."""
    del another_machine
    there = tmp_path / "there"
    with place(f"file://{there}") as output:
        shutil.rmtree(there)
        there.write_text("in the way")
        with pytest.raises(WriteError, match="Could not read or write"):
            run_sweep(
                small(), output.folder, InProcess(), Listening(), quality_only=True, finished=output.send
            )
    there.unlink()
    assert len(swept(small(), f"file://{there}").done) == 1
    assert len(load_records(there / "embedded--corpus")) == 1


def test_another_machine_s_sweep_is_refused(tmp_path: Path) -> None:
    """It is named, and what to remove where it is gone."""
    (tmp_path / "lock").write_text('{"pid": 7, "host": "elsewhere"}')
    with pytest.raises(UsageError, match="process 7 on elsewhere"), place(f"file://{tmp_path}"):
        pass


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("gs://bucket/x", "pip install gcsfs"),
        ("nowhere://x", "is no place that fsspec knows"),
    ],
)
def test_a_place_that_cannot_be_opened(url: str, says: str, tmp_path: Path) -> None:
    """One sentence that says what to install or to write, and exit code 2."""
    if importlib.util.find_spec("gcsfs") is not None and url.startswith("gs"):
        pytest.skip("gcsfs is installed")
    (tmp_path / "s.toml").write_text(
        '[[model]]\nname = "embedded"\n[[data]]\nloader = "embedded"\n[[method]]\nname = "frequentist"\n'
    )
    result = CliRunner().invoke(main, ["sweep", str(tmp_path / "s.toml"), "-o", url])
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert os.listdir(tmp_path) == ["s.toml"]
