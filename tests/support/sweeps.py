"""Small sweeps, an executor without processes, and a plugin whose methods end the process that runs them."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Any

from calibench.data.embedded import load
from calibench.sweep.executor import Answer, Failure, Job
from calibench.sweep.spec import Pair, Sweep, parse_sweep
from calibench.sweep.worker import Worker, answered

#: As little effort as there is.
HEAD = """
passes = 2

[timing]
blocks = 2
latency = 2
memory = false
token_budget = 256
"""
MODEL = '[[model]]\nname = "embedded"\n'
DATA = '[[data]]\nid = "corpus"\nloader = "embedded"\nsplit = "test"\nlimit = 24\n'


def small(*methods: str, head: str = "", more: str = "", name: str = "small") -> Sweep:
    """A sweep over the embedded model and 24 embedded texts."""
    return parse_sweep(text_of(*methods, head=head, more=more), name)


def text_of(*methods: str, head: str = "", more: str = "") -> str:
    """The same as the text of a file.

    Args:
        head: keys of the whole sweep.
        more: further tables.
    """
    named = "".join(f'[[method]]\nname = "{method}"\n' for method in methods or ("frequentist",))
    return head + HEAD + MODEL + DATA + named + more


def write_data(folder: Path) -> Path:
    """48 test, 40 validation and 60 training texts of the embedded corpus, as files."""
    corpus = load(None, split="test")
    rows = [
        json.dumps({"text": text, "label": corpus.label_names[label]}) + "\n"
        for text, label in zip(corpus.texts[:148], corpus.labels[:148], strict=True)
    ]
    folder.mkdir()
    for split, some in (("test", rows[:48]), ("validation", rows[48:88]), ("train", rows[88:])):
        (folder / f"{split}.jsonl").write_text("".join(some))
    return folder


class InProcess:
    """An executor that does the oldest job when it is asked for answers.

    Args:
        slots: how many jobs it takes at once.
        dies: for jobs of which this is true it answers as for a process that was killed.
    """

    def __init__(self, slots: int = 1, dies: Any = None) -> None:
        self.slots = slots
        self.done: list[Job] = []
        self._dies = dies
        self._worker = Worker()
        self._jobs: deque[Job] = deque()

    def held(self) -> Collection[int]:
        return ()

    def submit(self, job: Job) -> None:
        assert len(self._jobs) < self.slots
        self._jobs.append(job)

    def answers(self) -> list[Answer]:
        job = self._jobs.popleft()
        self.done.append(job)
        if self._dies is not None and self._dies(job):
            return [Answer(job.number, Failure({"type": "ProcessDied", "message": "killed by SIGKILL"}))]
        return [answered(self._worker, job)]

    def close(self) -> None:
        self._jobs.clear()


class Listening:
    """Who is told, and remembers."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.failures: dict[str, str] = {}
        self.said: list[str] = []

    def stage(self, name: str, steps: int) -> None: ...

    def step(self, detail: str) -> None: ...

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def expect(self, pair: Pair, rows: int) -> None: ...

    def together(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def done(self, pair: Pair, row: str) -> None:
        self.rows.append(f"{pair.folder}: {row}")

    def failed(self, pair: Pair, row: str, reason: str) -> None:
        self.failures[f"{pair.folder}: {row}"] = reason


#: Methods that end their process, by code or by a signal, and one that counts its processes.
LETHAL = '''
"""Methods that do not only fail."""

import os
import signal

import numpy as np
import torch

from calibench import Method, Predictive
from calibench.models import map_batches


class _Softmax(Method):
    def __init__(self, checkpoint):
        super().__init__(checkpoint)
        self.module = checkpoint.module

    def predict(self, plan, *, seed):
        def softmax(batch):
            with torch.inference_mode():
                return self.module(**batch.inputs).logits.double().softmax(-1)

        return Predictive(probs=map_batches(plan, softmax), passes=np.ones(len(plan), dtype=np.int64))


class Exits(_Softmax):
    def predict(self, plan, *, seed):
        os._exit(3)


class Killed(_Softmax):
    def predict(self, plan, *, seed):
        os.kill(os.getpid(), signal.SIGKILL)


class Interrupts(_Softmax):
    def predict(self, plan, *, seed):
        raise KeyboardInterrupt


class Slow(_Softmax):
    def predict(self, plan, *, seed):
        import time

        time.sleep(float(os.environ.get("SLOW_S", "0.3")))
        return super().predict(plan, seed=seed)


class Hungry(_Softmax):
    def predict(self, plan, *, seed):
        import time

        taken = []
        while len(taken) < 80:  # 8 GB, where nobody puts an end to it
            taken.append(np.ones(12_500_000))
            time.sleep(0.02)
        raise MemoryError("nobody ended it")
'''


def write_lethal(folder: Path) -> Path:
    """Install the plugin in a folder, which goes on the path of processes."""
    about = folder / "lethal-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lethal\nVersion: 1\n")
    names = ("exits", "killed", "interrupts", "slow", "hungry")
    points = "".join(f"{name} = lethal:{name.capitalize()}\n" for name in names)
    (about / "entry_points.txt").write_text(f"[calibench.methods]\n{points}")
    (folder / "lethal.py").write_text(LETHAL)
    return folder
