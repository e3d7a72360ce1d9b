"""Candidates: who is whose positive and who is whose negative. Decided here once, in integers and booleans."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

from infonce_ref.arrays import Array, Namespace, column, row_numbers
from infonce_ref.contrast import Contrast, Layout
from infonce_ref.link import Link
from infonce_ref.scores import Block, Pair, Rows


class Bias(NamedTuple):
    """What is added to the logits: of the keys in the batch (K, 1), of the explicit negatives (M, 1)."""

    keys: Array | None = None
    negatives: Array | None = None


NO_BIAS = Bias()


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
    names: tuple[str, str, str] = ("query", "positive_key", "negative_keys")  # whose gradients they are

    def layout(self, q: Array, keys: Array, negatives: Array | None, link: Link, bias: Bias = NO_BIAS) -> Layout:
        """The queries lo … hi − 1 with their positives and the blocks of their negatives."""
        query, positive_key, negative_keys = self.names

        def at(lo: int, hi: int) -> Contrast:
            anchors = Rows(query, q[lo:hi, ...], by_row=True)
            of_positive = None if bias.keys is None else self.positives("key_bias", bias.keys, lo, hi)
            blocks = []
            if self.in_batch:
                everyone = None if bias.keys is None else Rows("key_bias", bias.keys)
                mask, others = rows_between(self.key_mask, lo, hi), (self.positive[lo:hi],)  # candidates.mask.positive
                in_batch = Block(anchors, Rows(positive_key, keys), mask, bias=everyone, never=others)
                blocks.append(in_batch)  # candidates.in-batch candidates.positive
            if negatives is not None:
                own = negatives.ndim == 3
                theirs = Rows(negative_keys, negatives[lo:hi, ...] if own else negatives, by_row=own)
                keep = rows_between(self.negative_mask, lo, hi)
                of_theirs = None if bias.negatives is None else Rows("negative_bias", bias.negatives)
                blocks.append(Block(anchors, theirs, keep, bias=of_theirs))  # candidates.shared candidates.own
            return Contrast(Pair(anchors, self.positives(positive_key, keys, lo, hi), of_positive), blocks, link)

        return at

    def positives(self, name: str, keys: Array, lo: int, hi: int) -> Rows:
        """The positive keys of queries lo … hi − 1 (n, D): rows lo … hi − 1 where they are paired, else chosen."""
        if self.paired:
            return Rows(name, keys[lo:hi, ...], by_row=True)
        xp, positive = self.xp, self.positive[lo:hi]
        inside = (positive >= 0) & (positive < keys.shape[0])
        theirs = xp.take(keys, xp.where(inside, positive, xp.zeros_like(positive)), axis=0)  # candidates.index
        theirs = xp.where(column(inside), theirs, xp.full_like(theirs, float("nan")))  # candidates.index.domain

        def scatter(g: Array) -> Array:
            chosen = xp.astype(is_positive(xp, keys, positive), g.dtype)
            return xp.matmul(xp.matrix_transpose(chosen), g)

        return Rows(name, theirs, scatter=scatter)

    def used_keys(self, keys: Array, block_size: int) -> Array | None:
        """(K,) bool: the key is somebody's positive or negative; None where that is so for every key."""
        if self.paired or (self.in_batch and self.key_mask is None):
            return None

        def takes_part(lo: int, hi: int) -> Array:
            chosen = is_positive(self.xp, keys, self.positive[lo:hi])
            return chosen if self.key_mask is None else chosen | self.key_mask[lo:hi, ...]

        return any_pair(self.xp, takes_part, self.positive.shape[0], block_size, axis=0)

    def used_negatives(self, negatives: Array | None) -> Array | None:
        """(M,) bool, or (N, M) of each query's own: the negative is somebody's; None where that is so for all."""
        if negatives is None or self.negative_mask is None or negatives.ndim == 3:
            return self.negative_mask
        return self.xp.any(self.negative_mask, axis=0)


def candidates(
    xp: Namespace,
    query: Array,
    keys: Array,
    positive_index: Array | None,
    in_batch: bool,
    mask: Array | None,
    names: tuple[str, str, str] = ("query", "positive_key", "negative_keys"),
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
        names=names,
    )


def any_pair(xp: Namespace, pairs: Callable[[int, int], Array], rows: int, block_size: int, axis: int) -> Array:
    """Whether each row (axis −1) or column (axis 0) of a (rows, C) mask, made block by block, holds a True."""
    spans = [(lo, min(lo + block_size, rows)) for lo in range(0, rows, block_size)]
    found = [xp.any(pairs(*span), axis=axis) for span in spans]
    if axis == -1:
        return found[0] if len(found) == 1 else xp.concat(found, axis=0)
    return reduce(xp.logical_or, found)
