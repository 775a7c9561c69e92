"""Processes of this machine: what ends one costs its cell, and the rest is as if nothing had been."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from calibench.store.records import Record, load_records
from sweeps import text_of, write_lethal

#: Starts the command.
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def calibench(tmp_path: Path) -> Iterator[Start]:
    """Starts the command in a session of its own, with the plugin of lethal methods."""
    plugin = str(write_lethal(tmp_path / "plugin"))
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "calibench", *arguments],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": plugin},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def by_name(folder: Path) -> dict[str, Record]:
    return {record["method"]["name"]: record for record in load_records(folder / "embedded--corpus")}


def wait_for_parts(folder: Path, least: int, process: subprocess.Popen[str]) -> int:
    """How many parts are written down, once there are so many."""
    while (count := len(list(folder.rglob("*.npz")))) < least:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return count


def test_what_ends_a_process_costs_its_cell(tmp_path: Path, calibench: Start) -> None:
    """os._exit, kill -9 and a KeyboardInterrupt of a method: named, exit code 1, and the rest is there."""
    methods = ("frequentist", "exits", "killed", "interrupts", "mc-dropout")
    (tmp_path / "s.toml").write_text(text_of(*methods))
    process = calibench("sweep", "s.toml", "-o", "out", "--quality-only", "--workers", "1")
    output, errors = process.communicate()
    assert process.returncode == 1, errors
    found = by_name(tmp_path / "out")
    assert {name for name, record in found.items() if record["status"] == "ok"} == {
        "frequentist",
        "mc-dropout",
    }
    listed = errors.partition("3 failed:\n")[2].strip().splitlines()
    assert [line.split(": ")[1] for line in listed] == sorted(
        line.split(": ")[1] for line in listed
    ) or listed
    for name, says in (
        ("exits", "exit code 3"),
        ("killed", "killed by SIGKILL"),
        ("interrupts", "Interrupt"),
    ):
        assert says in found[name]["error"]["message"] + found[name]["error"]["type"]
        assert sum(f"embedded--corpus: {name}: " in line for line in listed) == 1
    assert "2 cells measured" in output
    assert {record["environment"]["threads"] for record in found.values()} == {1}
    assert len(load_records(tmp_path / "out" / "embedded--corpus")) == 5


def test_a_stopped_sweep_leaves_nobody_and_goes_on(tmp_path: Path, calibench: Start) -> None:
    """Kill -9, and Ctrl-C after it: all processes end, and the same command goes on behind what is there."""
    (tmp_path / "s.toml").write_text(text_of("slow", "frequentist").replace("blocks = 2", "blocks = 12"))
    command = ("sweep", "s.toml", "-o", "out", "--quality-only", "--workers", "1")
    there = 0
    for how in (signal.SIGKILL, signal.SIGINT):
        process = calibench(*command)
        there = wait_for_parts(tmp_path / "out", there + 1, process)
        started = psutil.Process(process.pid).children(recursive=True)
        assert started
        process.send_signal(how)
        _, errors = process.communicate()
        assert not psutil.wait_procs(started, timeout=20)[1]
    assert process.returncode == 130
    assert "run the same command with -o out to go on" in errors
    output, errors = calibench(*command, "--json", "-q").communicate()
    assert json.loads(output)["pairs"][0]["rows"] == 2, errors
    assert {record["status"] for record in by_name(tmp_path / "out").values()} == {"ok"}
    assert not list((tmp_path / "out").rglob("lock"))


def test_a_timed_pair_that_dies_costs_itself(tmp_path: Path, calibench: Start) -> None:
    """Timing cells run in a process per pair: one that is ended is named, and the next pair is measured."""
    more = '[[data]]\nid = "b"\nloader = "embedded"\nlimit = 16\n[[exclude]]\ndata = "b"\nmethod = "exits"\n'
    (tmp_path / "s.toml").write_text(text_of("frequentist", "exits", more=more))
    process = calibench("sweep", "s.toml", "-o", "out")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "embedded--corpus: the process that ran it ended with exit code 3" in errors
    (record,) = load_records(tmp_path / "out" / "embedded--b")
    assert record["status"] == "ok"
    assert record["timing"] is not None
