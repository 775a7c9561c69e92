#!/usr/bin/env bash
# ray 2.60.0: what an actor's subprocess takes counts when Ray sees that memory runs out, not when it chooses whom to end.
#
# Since 2.56 the memory monitor ends the latest worker, and the next latest, until what they held themselves makes up
# for what there is too little. The workers of a data loader, or any other subprocess, are no workers of Ray: an actor
# whose subprocess takes all memory counts with its own 80 MB, so that all other actors on the node are ended with it.
# Where it takes the memory itself, it is ended alone. All report the same OutOfMemoryError.
# One guessed that an actor stands for its subprocesses, and that those beside it are let alone.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet ray==2.60.0 numpy==2.4.6 psutil==7.2.2
cat > seen.py <<'PY'
import os
import subprocess
import sys
import time

from ray._private import utils

threshold = (utils.get_used_memory() + 3e9) / utils.get_system_memory()
os.environ["RAY_memory_usage_threshold"] = str(threshold)
import ray

TAKE = "import time, numpy\ntaken = [numpy.ones(10**8) for _ in range(6)]\ntime.sleep(60)"

@ray.remote(num_cpus=1)
class Actor:
    def pid(self):
        return os.getpid()

    def take(self, apart):
        if apart:
            subprocess.run([sys.executable, "-c", TAKE])
        else:
            exec(TAKE, {})

def outcome(reference):
    try:
        ray.get(reference)
    except ray.exceptions.RayError as error:
        return type(error).__name__
    return "lives"

for apart in (False, True):
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    actors = []
    for _ in range(4):  # one after the other: the last is the latest
        actors.append(Actor.remote())
        ray.get(actors[-1].pid.remote())
    own = outcome(actors[-1].take.remote(apart))
    time.sleep(5)  # they do not end at once
    others = [outcome(actor.pid.remote()) for actor in actors[:3]]
    print("taken in a subprocess:" if apart else "taken by the actor itself:", own + "; the others:", *others)
    ray.shutdown()
PY
RAY_USAGE_STATS_ENABLED=0 env/bin/python seen.py 2>/dev/null | tee seen
diff - seen <<'TXT'
taken by the actor itself: OutOfMemoryError; the others: lives lives lives
taken in a subprocess: OutOfMemoryError; the others: OutOfMemoryError OutOfMemoryError OutOfMemoryError
TXT
