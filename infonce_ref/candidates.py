"""Candidates: who is whose positive and who is whose negative. Decided here once, in integers and booleans."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from infonce_ref.arrays import Array, Namespace, column, row_numbers
from infonce_ref.scores import Block


def rows_between(x: Array | None, lo: int, hi: int) -> Array | None:
    return None if x is None else x[lo:hi, ...]


def is_positive(xp: Namespace, keys: Array, positive: Array) -> Array:
    """(n, K) bool: key j is the positive of query i."""
    return row_numbers(xp, keys)[None, :] == column(positive)


class Candidates(NamedTuple):
    """The part each key plays for each query: K keys, and M explicit negatives (of all queries or of each)."""

    xp: Namespace
    positive: Array  # (N,) integer: the key that is each query's positive
    paired: bool  # the positive of query i is key i
    in_batch: bool  # the other keys are negatives
    key_mask: Array | None  # (N, K) bool, False: never a negative
    negative_mask: Array | None  # (N, M) bool

    def in_batch_keep(self, keys: Array, lo: int, hi: int) -> Array:
        """(n, K) bool: key j is a negative of query i: every key but its positive, less what the mask takes out."""
        keep = ~is_positive(self.xp, keys, self.positive[lo:hi])  # candidates.in-batch candidates.positive
        return keep if self.key_mask is None else keep & self.key_mask[lo:hi, ...]  # candidates.mask.positive

    def blocks(self, keys: Array, negatives: Array | None, lo: int, hi: int) -> dict[str, Block]:
        """The negatives of queries lo … hi − 1, under the name of the argument that holds them."""
        blocks = {}
        if self.in_batch:
            blocks["positive_key"] = Block(keys, self.in_batch_keep(keys, lo, hi))
        if negatives is not None:
            theirs = negatives if negatives.ndim == 2 else negatives[lo:hi, ...]  # candidates.shared candidates.own
            blocks["negative_keys"] = Block(theirs, rows_between(self.negative_mask, lo, hi))
        return blocks

    def positives(self, keys: Array, lo: int, hi: int) -> tuple[Array, Callable[[Array], Array]]:
        """The positive keys of queries lo … hi − 1 (n, D), and the transpose: (n, D) → what each key receives (K, D).

        Only for keys that aren't paired; a paired block's keys are rows lo … hi − 1, and so are their gradients.
        """
        xp, positive = self.xp, self.positive[lo:hi]
        inside = (positive >= 0) & (positive < keys.shape[0])
        theirs = xp.take(keys, xp.where(inside, positive, xp.zeros_like(positive)), axis=0)  # candidates.index
        theirs = xp.where(column(inside), theirs, xp.full_like(theirs, float("nan")))  # candidates.index.domain

        def scatter(g: Array) -> Array:
            chosen = xp.astype(is_positive(xp, keys, positive), g.dtype)
            return xp.matmul(xp.matrix_transpose(chosen), g)

        return theirs, scatter

    def used_keys(self, keys: Array, block_size: int) -> Array | None:
        """(K,) bool: the key is somebody's positive or negative; None where that is so for every key."""
        if self.paired or (self.in_batch and self.key_mask is None):
            return None
        used = self.xp.zeros_like(row_numbers(self.xp, keys), dtype=self.xp.bool)
        for lo in range(0, self.positive.shape[0], block_size):
            hi = min(lo + block_size, self.positive.shape[0])
            part = is_positive(self.xp, keys, self.positive[lo:hi])
            if self.in_batch:
                part = part | self.in_batch_keep(keys, lo, hi)
            used = used | self.xp.any(part, axis=0)
        return used

    def used_negatives(self, negatives: Array | None) -> Array | None:
        """(M,) bool, or (N, M) of each query's own: the negative is somebody's; None where that is so for all."""
        if negatives is None or self.negative_mask is None or negatives.ndim == 3:
            return self.negative_mask
        return self.xp.any(self.negative_mask, axis=0)


def candidates(
    xp: Namespace, query: Array, keys: Array, positive_index: Array | None, in_batch: bool, mask: Array | None
) -> Candidates:
    """Who is who, from the arguments of a loss; mask columns: the keys first (if in the batch), then the negatives."""
    rows, split = row_numbers(xp, query), in_batch * keys.shape[0]
    return Candidates(
        xp,
        positive=rows if positive_index is None else xp.astype(positive_index, rows.dtype),
        paired=positive_index is None,
        in_batch=in_batch,
        key_mask=None if mask is None else mask[:, :split],
        negative_mask=None if mask is None else mask[:, split:],
    )
