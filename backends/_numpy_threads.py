"""How rows are cut into tiles, of which as many are visited at a time as the linear algebra would use threads; each of
those then has one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")

TILE = 2**22  # scores held at a time by a thread, as far as tiles of 128 to 512 rows allow
FEWEST, MOST = 128, 512
LARGE = 2**20  # numbers
WORTH_THREADS = 2**20  # scores in all


def tile_rows(columns: int) -> int:
    return min(MOST, max(FEWEST, TILE // max(columns, 1)))


def room(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Not initialised, and cut from a large block: the C library keeps twice the largest block freed so far, and gives
    what is beyond back to the system after every call, to ask for it page by page in the next.
    """
    size = math.prod(shape)
    return np.empty(max(size, LARGE), dtype)[:size].reshape(shape)


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


def shares(tiles: Sequence[T], scores: int) -> list[Sequence[T]]:
    """Each thread's tiles, of so many scores in all: the same for a number of threads every time."""
    threads = min(threads_for(scores), len(tiles))
    return [tiles[i::threads] for i in range(threads)]


def at_once(work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """What `work` makes of each part, in a thread of its own."""

    def quietly(part: T) -> R:
        with np.errstate(over="ignore", under="ignore"):  # which a thread has for itself
            return work(part)

    if len(parts) == 1:
        return [quietly(parts[0])]
    with one_thread_each(len(parts)), ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(quietly, parts))
