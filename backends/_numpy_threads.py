"""How rows are cut into tiles, of which as many are visited at a time as the linear algebra would use threads; each of
those then has one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")

TILE = 2**22  # scores held at a time by a thread, as far as tiles of 128 to 512 rows allow
FEWEST, MOST = 128, 512
WORTH_THREADS = 2**20  # scores in all


def tile_rows(columns: int) -> int:
    return min(MOST, max(FEWEST, TILE // max(columns, 1)))


@functools.cache
def blas() -> Any:
    """What tells and limits the threads of the linear algebra; None without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController().select(user_api="blas")


def threads_for(scores: int) -> int:
    """As many as the linear algebra would use; one for small problems."""
    pools = blas().info() if scores >= WORTH_THREADS and blas() is not None else []
    return max((pool["num_threads"] for pool in pools), default=1)


def one_thread_each(threads: int) -> AbstractContextManager[Any]:
    limited: AbstractContextManager[Any] = nullcontext() if threads == 1 else blas().limit(limits=1)
    return limited


def shared_out(work: Callable[[Sequence[T]], R], tiles: Sequence[T], scores: int) -> list[R]:
    """What `work` makes of each thread's tiles, of which every thread visits its own, in the same order every time."""
    threads = min(threads_for(scores), len(tiles))

    def quietly(part: Sequence[T]) -> R:
        with np.errstate(over="ignore", under="ignore"):  # which a thread has for itself
            return work(part)

    if threads == 1:
        return [quietly(tiles)]
    with one_thread_each(threads), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(quietly, [tiles[i::threads] for i in range(threads)]))
