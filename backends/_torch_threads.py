"""As many tiles at a time as PyTorch would use threads for one operation; each of those then has one.

An operation on a tile is too short to be worth two threads' meeting at its end. So where tiles are many, Python threads
visit them, each its own share of them, in the same order every time: for a number of threads the results are always the
same. Where they are few, PyTorch's threads sharing every operation are quicker than ours are to start.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TypeVar

import torch
from torch import Tensor

from infonce_ref.backends._torch_products import watched

T = TypeVar("T")
R = TypeVar("R")

WORTH_THREADS = 2**24  # scores in all: 4096 × 4096, where both take as long
starting = threading.Lock()


def threads_for(like: Tensor, scores: int) -> int:
    """As many as the calling thread would use; one for small problems, off the processor, and where calls are watched:
    torch.func and the modes of torch.utils._python_dispatch belong to a thread, and miss what others do.
    """
    return 1 if watched() or like.device.type != "cpu" or scores < WORTH_THREADS else torch.get_num_threads()


def shared_out(work: Callable[[Sequence[T]], R], tiles: Sequence[T], like: Tensor, scores: int) -> list[R]:
    """What `work` makes of each thread's tiles."""
    threads = min(threads_for(like, scores), len(tiles))
    if threads <= 1:
        return [work(tiles)]
    inference = torch.is_inference_mode_enabled()

    def by_itself(part: Sequence[T]) -> R:
        with torch.inference_mode() if inference else torch.no_grad():
            return work(part)

    return list(pool(threads).map(by_itself, [tiles[i::threads] for i in range(threads)]))


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Threads that stay, for the linear algebra keeps room for every thread it has seen; each works alone.

    `set_num_threads` sets the calling thread's number and the one that new threads start with. That is set back once
    all are there, by a thread that has no other use.
    """
    with starting:
        others = in_a_new_thread(torch.get_num_threads)
        workers = ThreadPoolExecutor(threads, "infonce-tiles", initializer=alone)
        all_there = threading.Barrier(threads)
        list(workers.map(lambda _: all_there.wait(), range(threads)))
        in_a_new_thread(partial(torch.set_num_threads, others))
    return workers


def alone() -> None:
    """From now on this thread's operations use no other thread."""
    torch.get_num_threads()  # the first question takes over the number for new threads: later it would undo the 1
    torch.set_num_threads(1)


def in_a_new_thread(call: Callable[[], R]) -> R:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # a child process has none of its parent's threads
