"""A Ray cluster: an actor for every slot, and in each a process of ours that does the work.

No method runs in Ray's own workers: one that is used again keeps the number of threads that torch was first
imported with there, whatever the environment says later, and code that ends its process is run again by Ray.
A process of ours has its threads set and recorded, dies alone, and what it says comes back as bytes: no
exception has to be known, and no array is read-only.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from calibench.errors import CalibenchError, UsageError
from calibench.measure.environment import versions
from calibench.measure.progress import Progress, Silent
from calibench.registry import require
from calibench.sweep.executor import Answer, Failure, Job
from calibench.sweep.local import Local

#: Seconds that a node has for its first answer.
_PATIENCE_S = 120.0
#: Seconds that whoever listens has to take a call.
_KNOCK_S = 10.0
#: How often a job is given to another node after the one it was on was lost.
_TIMES = 3
#: Seconds without an answer after which one looks whether the cluster is still the same.
_QUIET_S = 5.0
#: What a sweep says whose cluster is no more.
GONE = "The Ray cluster was lost ({}); what is finished is kept: start it and run the same command again."


class Seat:
    """What an actor is: one process of ours on some node."""

    def __init__(self, folder: str, threads: int | None, fresh: bool) -> None:
        os.chdir(folder)  # of the sweep's command, whose paths these are
        self._local = Local(1, Silent(), threads=threads, fresh=fresh)

    def do(self, job: bytes) -> bytes:
        """The pickled answer to a pickled job."""
        self._local.submit(pickle.loads(job))
        (answer,) = self._local.answers()
        return pickle.dumps(answer)


@dataclass(eq=False)
class _Slot:
    """An actor, and what it is at; without one until there is a job where memory ran out."""

    make: Callable[[], Any]
    node: str
    actor: Any = None
    job: Job | None = None
    pair: int | None = None
    reference: Any = None


class OnRay:
    """An `Executor` on a Ray cluster.

    Args:
        address: `ray://HOST:PORT`, HOST:PORT or auto; None for RAY_ADDRESS, or without it a cluster of this
            machine alone.
        progress: who is told of nodes that are left out or lost.
        exclusive: a slot is a whole node, or on nodes with GPUs `gpus` of them; else `cpus` cores.
        cpus, gpus: of a slot.
        fresh: a new process for every job.

    Raises:
        UsageError: ray is not installed, or no node has the versions that this machine has.
        CalibenchError: the cluster cannot be reached.
    """

    def __init__(
        self,
        address: str | None,
        progress: Progress,
        *,
        exclusive: bool,
        cpus: int = 1,
        gpus: int = 0,
        fresh: bool = False,
    ) -> None:
        require("ray", "--on ray")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray: Any = ray
        self._progress = progress
        self._waiting: list[Job] = []
        self._lost: Counter[int] = Counter()
        #: By number, jobs under which memory ran out, and the node that each is to have to itself.
        self._alone: dict[int, str] = {}
        address = address or os.environ.get("RAY_ADDRESS")
        if address is not None:
            _knock(address)
        alone: dict[str, Any] = {} if address else {"include_dashboard": False}
        try:
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **alone)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise CalibenchError(
                f"The Ray cluster {address or 'of this machine'} could not be reached "
                f"({' '.join(str(error).split())[:200]}); start it, or leave --on out."
            ) from error
        self._slots = self._seats(exclusive=exclusive, cpus=cpus, gpus=gpus, fresh=fresh)

    def _seats(self, *, exclusive: bool, cpus: int, gpus: int, fresh: bool) -> list[_Slot]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = self._ray.remote(max_restarts=0, max_task_retries=0)(Seat)
        threads = None if exclusive else cpus
        slots: list[_Slot] = []
        for node in self._ray.nodes():
            resources = node["Resources"]
            cores, cards = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
            if not node["Alive"] or cores < cpus or cards < gpus:
                continue
            count = cards // gpus if gpus else 1 if exclusive else cores // cpus
            each = max(cpus, cores // count) if exclusive else cpus
            pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options = {"num_cpus": each, "num_gpus": gpus, "scheduling_strategy": pinned}
            wrong = self._fault(pinned)
            if wrong is not None:
                self._progress.say(f"The node {node['NodeManagerAddress']} is left out: it {wrong}.")
                continue
            make = partial(actor.options(**options).remote, os.getcwd(), threads, fresh)
            slots += [_Slot(make, node["NodeID"], make()) for _ in range(count)]
        if not slots:
            raise UsageError(
                "No node of the Ray cluster has what a slot needs and this machine's versions; look at ray "
                "status, and install the same there."
            )
        return slots

    def _fault(self, pinned: Any) -> str | None:
        """Why the node that `pinned` stands for cannot take part; None where it can."""

        def look(folder: str) -> tuple[bool, dict[str, str | None]]:
            return os.path.isdir(folder), versions()

        here = os.getcwd()
        task = self._ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=pinned)(look)
        try:
            is_there, theirs = self._ray.get(task.remote(here), timeout=_PATIENCE_S)
        except self._ray.exceptions.RayError as error:
            said = " ".join(str(error).split())
            return f"could not say which versions it has ({type(error).__name__}: {said[-200:]})"
        if not is_there:
            return f"lacks the folder {here}, in which the sweep was started and which nodes have to share"
        differing = [
            f"{name} {theirs.get(name)} and not {version}"
            for name, version in versions().items()
            if theirs.get(name) != version
        ]
        return f"has {', '.join(differing)}" if differing else None

    @property
    def slots(self) -> int:
        """As many as there are actors that live."""
        return len(self._slots)

    def held(self) -> Collection[int]:
        """As of an `Executor`."""
        return {slot.pair for slot in self._slots if slot.job is None and slot.pair is not None}

    def submit(self, job: Job) -> None:
        """As of an `Executor`."""
        self._waiting.append(job)
        self._begin()

    def _begin(self) -> None:
        """Give what waits to idle actors; first that which is to have a node to itself."""
        for job in sorted(self._waiting, key=lambda job: job.number not in self._alone):
            idle = self._idle(self._alone.get(job.number))
            slot = next((slot for slot in idle if slot.pair == job.pair), None) or next(iter(idle), None)
            if slot is None:
                continue
            self._waiting.remove(job)
            slot.actor = slot.actor or slot.make()
            slot.job, slot.pair = job, job.pair
            slot.reference = slot.actor.do.remote(pickle.dumps(job))

    def _idle(self, alone: str | None) -> list[_Slot]:
        """The slots that may take a job, which is to have a node alone or not; that node's are for it."""
        if alone is None:
            taken = set(self._alone.values())
            return [slot for slot in self._slots if slot.job is None and slot.node not in taken]
        there = self._of(alone)
        return there if all(slot.job is None for slot in there) else []

    def _of(self, node: str) -> list[_Slot]:
        return [slot for slot in self._slots if slot.node == node]

    def answers(self) -> list[Answer]:
        """As of an `Executor`; a job whose node is lost is done again on another."""
        found: list[Answer] = []
        while not found:
            busy = {slot.reference: slot for slot in self._slots if slot.job is not None}
            try:
                ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=_QUIET_S)
                if not ready:
                    self._look_for_nodes()
                found = [answer for item in ready if (answer := self._answer(busy[item])) is not None]
            except ConnectionError as error:
                raise CalibenchError(GONE.format(type(error).__name__)) from error
        return found

    def _look_for_nodes(self) -> None:
        """Stop where the address belongs to another cluster: nobody answers for the one that was there.

        Raises:
            CalibenchError: none of the nodes is known there.
        """
        if not {slot.node for slot in self._slots} & {node["NodeID"] for node in self._ray.nodes()}:
            raise CalibenchError(GONE.format("its head was started anew"))

    def _answer(self, slot: _Slot) -> Answer | None:
        assert slot.job is not None
        job = slot.job
        try:
            answer: Answer | None = pickle.loads(self._ray.get(slot.reference))
        except self._ray.exceptions.OutOfMemoryError:
            answer = self._starved(slot, job)
        except self._ray.exceptions.RayError as error:
            answer = self._moved(slot, job, error)
        slot.job = slot.reference = None
        if answer is not None:
            self._alone.pop(job.number, None)
        self._begin()
        return answer

    def _starved(self, slot: _Slot, job: Job) -> Answer | None:
        """Have a job done again with the node to itself: which one took the memory, Ray does not say.

        It ends actors until their own memory would be enough, the latest first, and what a method takes is
        in processes of ours: idle ones are ended too.
        """
        for other in self._of(slot.node):
            if other is slot or other.job is None:
                self._end(other)
        if job.number in self._alone:
            message = (
                "out of memory: its node had too little for it, also with nothing else of the sweep there"
            )
            return Answer(job.number, Failure({"type": "OutOfMemory", "message": message}))
        if slot.node not in self._alone.values():
            self._progress.say(
                f"The node {slot.node[:8]} ran out of memory; what it was at is done again, one at a time."
            )
        self._alone[job.number] = slot.node
        self._waiting.append(job)
        return None

    def _moved(self, slot: _Slot, job: Job, error: Exception) -> Answer | None:
        """Give the job of a lost actor to another, where there is one."""
        self._slots.remove(slot)
        self._lost[job.number] += 1
        if not self._slots:
            raise CalibenchError(GONE.format(f"every node of it, {type(error).__name__}"))
        if self._lost[job.number] >= _TIMES:
            message = f"the node that ran it was lost, {_TIMES} times ({type(error).__name__})"
            return Answer(job.number, Failure({"type": "NodeLost", "message": message}))
        self._progress.say(f"The node {slot.node[:8]} was lost; what it was at is done again on another.")
        nodes = {other.node for other in self._slots}
        self._alone = {number: node for number, node in self._alone.items() if node in nodes}
        self._waiting.append(job)
        return None

    def close(self) -> None:
        """As of an `Executor`."""
        for slot in self._slots:
            self._end(slot)
        self._ray.shutdown()

    def _end(self, slot: _Slot) -> None:
        if slot.actor is not None:
            self._ray.kill(slot.actor)
        slot.actor = slot.pair = None


def _knock(address: str) -> None:
    """Refuse an address at which nobody listens: Ray waits there for longer than anybody would.

    Raises:
        CalibenchError: nobody listens.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():  # such as auto, which Ray looks up itself
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except OSError as error:
        raise CalibenchError(
            f"Nobody listens at {address} ({error}); start the Ray cluster, or correct RAY_ADDRESS or --on."
        ) from error
