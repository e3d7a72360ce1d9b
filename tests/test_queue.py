"""The queue of keys: what it holds after any batches, on every library, eager and traced."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infonce_ref import KeyQueue, info_nce
from tests.libraries import HALF, Library

on = pytest.mark.parametrize
quick = settings(max_examples=60, deadline=None, derandomize=True)


def batch(start: int, rows: int, d: int = 2) -> np.ndarray:
    """Rows that say their number: (start, …), (start + 1, …), …"""
    return np.arange(start, start + rows, dtype=np.float64)[:, None] + np.zeros(d)


@quick
@given(st.integers(1, 7), st.lists(st.integers(1, 9), max_size=6))
def test_it_holds_what_a_deque_holds(capacity: int, sizes: list[int]) -> None:
    """[moco.enqueue] Oldest first, at most `capacity`; of a batch longer than the queue the last rows stay."""
    queue, expected, start = KeyQueue.empty(batch(0, 1), capacity), deque[float](maxlen=capacity), 0
    for size in sizes:
        queue = queue.enqueue(batch(start, size))
        expected.extend(range(start, start + size))
        start += size
        assert queue.keys[:, 0].tolist() == list(expected)
        assert queue.capacity == capacity


def test_every_library(library: Library) -> None:
    """[moco.enqueue] Where the keys are, there the queue is, in their dtype; 2, then 3 rows into 4 places."""
    first, second = (library.array(batch(start, rows), "float32") for start, rows in ((0, 2), (2, 3)))

    def twice(first: Any, second: Any) -> Any:
        return KeyQueue.empty(first, 4).enqueue(first).enqueue(second).keys

    keys = library.run(twice, {"first": first, "second": second}, {})
    assert library.numpy(keys)[:, 0].tolist() == [1, 2, 3, 4]
    assert keys.dtype == first.dtype


def test_meta(meta: Library) -> None:
    """[moco.enqueue] Shapes are known without numbers."""
    queue = KeyQueue.empty(meta.array(batch(0, 1), "float32"), 4).enqueue(meta.array(batch(0, 3), "float32"))
    assert (tuple(queue.keys.shape), queue.capacity) == ((3, 2), 4)


@on("dtype", HALF)
def test_half_precision_stays(numpy_library: Library, dtype: str) -> None:
    """[moco.enqueue] Keys in half precision are held as they are."""
    rows = numpy_library.array(batch(0, 3), dtype)
    keys = KeyQueue.empty(rows, 2).enqueue(rows).keys
    assert keys.dtype == rows.dtype and (keys == rows[1:]).all()


def test_a_queue_never_changes() -> None:
    """[moco.enqueue] [call.pure] The old queue keeps its keys, and no queue lies in the memory of a batch."""
    new = batch(0, 2)
    before = KeyQueue.empty(new, 2)
    one = before.enqueue(new)
    two = one.enqueue(batch(2, 2))
    assert before.keys.shape == (0, 2)
    assert one.keys[:, 0].tolist() == [0, 1] and two.keys[:, 0].tolist() == [2, 3]
    assert not np.shares_memory(one.keys, new)
    with pytest.raises(AttributeError):
        one.keys = new  # type: ignore[misc]


def test_under_jit_and_scan() -> None:
    """[moco.enqueue] Into a compiled JAX function its capacity goes static; full, it goes through scan."""
    jax = pytest.importorskip("jax")
    enqueue = jax.jit(lambda queue, keys: queue.enqueue(keys))
    queue = KeyQueue.empty(jax.numpy.zeros((1, 2)), 3)
    for start in (0, 2):
        queue = enqueue(queue, jax.numpy.asarray(batch(start, 2)))
    assert isinstance(queue, KeyQueue)
    assert (queue.keys[:, 0].tolist(), queue.capacity) == ([1, 2, 3], 3)

    batches = jax.numpy.stack([jax.numpy.asarray(batch(start, 2)) for start in (4, 6, 8)])
    queue, oldest = jax.lax.scan(lambda q, keys: (q.enqueue(keys), q.keys[0, 0]), queue, batches)
    assert queue.keys[:, 0].tolist() == [7, 8, 9]
    assert oldest.tolist() == [1, 3, 5]


def test_an_empty_queue_has_no_negatives() -> None:
    """[moco.enqueue] [candidates.none] With the queue still empty every loss is 0."""
    rows = batch(1, 3)
    queue = KeyQueue.empty(rows, 4)
    assert info_nce(rows, rows, queue.keys, in_batch_negatives=False) == 0


@on(
    ("make", "error", "message"),
    [
        (lambda: KeyQueue.empty(batch(0, 1), 0), ValueError, "capacity must be ≥ 1, got 0"),
        (lambda: KeyQueue.empty(batch(0, 1), 2.0), TypeError, "capacity must be an integer"),
        (lambda: KeyQueue.empty(np.zeros(2), 2), ValueError, "like must have shape"),
        (lambda: KeyQueue.empty(np.zeros((1, 2), int), 2), TypeError, "like must have dtype"),
        (lambda: KeyQueue.empty([[0.0]], 2), TypeError, "like must be an array"),
        (lambda: KeyQueue.empty(batch(0, 1), 2).enqueue(batch(0, 2, 3)), ValueError, "keys must have shape"),
        (lambda: KeyQueue.empty(batch(0, 1), 2).enqueue(batch(0, 2)[0]), ValueError, "keys must have shape"),
        (lambda: KeyQueue.empty(batch(0, 1), 2).enqueue(np.float32(batch(0, 2))), TypeError, "keys must have dtype"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, error: type[Exception], message: str) -> None:
    """[moco.enqueue] [input.shape] [dtype.domain] A capacity or keys that don't fit: an error that names them."""
    with pytest.raises(error, match=message):
        make()
