"""The queue of keys from earlier batches that `moco` has as its negatives."""

from __future__ import annotations

from typing import NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array, dtype_name
from infonce_ref.device import on_their_device


class KeyQueue(NamedTuple):
    r"""The last `capacity` keys that came in, oldest first; it never changes, `enqueue` gives the next one.

    .. math:: \mathrm{keys}' = \text{the last } \min(n + N, \mathrm{capacity}) \text{ rows of } (\mathrm{keys}, k)

    All its bookkeeping is shapes: `keys` grows until it has `capacity` rows, and `room` has as many rows as are still
    free, without any numbers in them. So everything is static under tracing, and where a library knows named tuples as
    trees of arrays, as JAX does, a queue goes through `jit`, `vmap` and (once it is full) `lax.scan` as it is.

    A queue holds the keys as they were: detach them before they go in where gradients are recorded.

    Attributes
    ----------
    keys : array (n, D), n ≤ capacity
        The keys, the oldest first: what a loss takes as its negatives.
    room : array (capacity − n, 0)

    References
    ----------
    He et al. 2020, Momentum Contrast for Unsupervised Visual Representation Learning, arXiv:1911.05722, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import KeyQueue
    >>> queue = KeyQueue.empty(np.zeros((1, 2)), capacity=3)
    >>> queue = queue.enqueue(np.array([[1.0, 1.0], [2.0, 2.0]]))
    >>> queue.keys.shape, queue.capacity
    ((2, 2), 3)
    >>> queue.enqueue(np.array([[3.0, 3.0], [4.0, 4.0]])).keys[:, 0]
    array([2., 3., 4.])
    """

    keys: Array
    room: Array

    @classmethod
    @on_their_device
    def empty(cls, like: Array, capacity: int) -> KeyQueue:
        """A queue without keys, for keys like those of `like` (N, D): their length, dtype, device and library."""
        xp = checks.arrays_of_one_library({"like": like})
        checks.has_shape("like", like, (None, None), "(N, D)")
        checks.embedding_dtypes(xp, {"like": like})
        checks.at_least_one("capacity", capacity, "moco.enqueue")
        return cls(like[:0, :], xp.broadcast_to(like[:1, :0], (capacity, 0)))

    @property
    def capacity(self) -> int:
        """The most keys it holds."""
        return int(self.keys.shape[0] + self.room.shape[0])

    @on_their_device
    def enqueue(self, keys: Array) -> KeyQueue:
        """The queue with `keys` (N, D) as its newest, without its oldest where there are more than `capacity`.

        Of a batch longer than the queue its last `capacity` keys stay. Raises TypeError or ValueError for keys of
        another library, device, dtype or length than the queue's.
        """
        xp = checks.arrays_of_one_library({"queue": self.keys, "keys": keys})
        checks.has_shape("keys", keys, (None, self.keys.shape[1]), "(N, D)")
        checks.has_dtype("keys", keys, (dtype_name(self.keys),))
        held, new = self.keys.shape[0], min(keys.shape[0], self.capacity)
        stay = min(held, self.capacity - new)
        parts = [self.keys[held - stay :, :], keys[keys.shape[0] - new :, :]]
        return KeyQueue(xp.concat(parts, axis=0), self.room[: self.capacity - stay - new, :])  # moco.enqueue
