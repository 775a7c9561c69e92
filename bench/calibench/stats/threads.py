"""Calls of one function on two threads: numpy lets others run while it goes through many numbers."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")

#: Threads at the most: each more holds the arrays of a call more.
THREADS = 2


def threads() -> int:
    """How many threads there are to compute on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(THREADS, cores)


def in_order(each: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
    """`map` whose calls run beside each other; no more items are taken than there are threads.

    What comes out is the same for any number of threads, if calls do not hang on each other.
    """
    many = threads()
    if many == 1:
        yield from map(each, items)
        return
    with ThreadPoolExecutor(many) as pool:
        waiting: deque[Future[Found]] = deque()
        for item in items:
            waiting.append(pool.submit(each, item))
            if len(waiting) == many:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
