#!/usr/bin/env bash
# ray 2.60.0, torch 2.13.0: a worker that is used again keeps the threads of the task that imported torch first.
#
# Ray gives a task of N CPUs OMP_NUM_THREADS=N, and hands idle workers on to tasks of other sizes. torch reads the
# variable once, when it is imported. So a task of two CPUs that lands where one of one CPU has been sees
# OMP_NUM_THREADS=2 and computes with one thread; times of two tasks with the same options differ by what ran before.
# One guessed that the variable, which Ray sets anew for each task, says how many threads there are.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet ray==2.60.0 torch==2.13.0 numpy
cat > seen.py <<'PY'
import ray

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

def look():
    import os, torch
    return os.getpid(), os.environ["OMP_NUM_THREADS"], torch.get_num_threads()

first = ray.get(ray.remote(num_cpus=1)(look).remote())
second = ray.get(ray.remote(num_cpus=2)(look).remote())
for cpus, (_, said, threads) in ((1, first), (2, second)):
    print(f"a task of {cpus} CPU: OMP_NUM_THREADS={said}, torch has {threads} thread")
print("one worker for both:", first[0] == second[0])
PY
RAY_USAGE_STATS_ENABLED=0 env/bin/python seen.py 2>/dev/null | tee seen
diff - seen <<'TXT'
a task of 1 CPU: OMP_NUM_THREADS=1, torch has 1 thread
a task of 2 CPU: OMP_NUM_THREADS=2, torch has 1 thread
one worker for both: True
TXT
