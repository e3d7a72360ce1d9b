"""Links of several positives, from a row's sum over its negatives and the scores of its positives alone.

With Z_n = Σ e^{s_j} over the negatives, d_p = s_p − max s_p and Z_p = Σ e^{d_p} over the positives, e^{ν − π} is
Z_n e^{−max s_p} / Z_p: all there is to know of the negatives is one number a row, and the positives are few. The same
for NumPy's arrays and PyTorch's tensors; for scores that no exponential makes over- or underflow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from infonce_ref.arrays import Array, Namespace
from infonce_ref.contrast import ContrastedMany, Many
from infonce_ref.link import inside_link, outside_link, sincere_link


class Pairs(Protocol):
    """Who is a positive of whom: P pairs in n rows."""

    count: Array  # (n,) of the scores' dtype, 1 where there is none
    some: Array  # (n,) bool

    def total(self, x: Array) -> Array:
        """(P,) → (n,): the sum of every row's, 0 where there is none."""

    def largest(self, x: Array) -> Array:
        """(P,) → (n,): the largest of every row's, 0 where there is none."""

    def each(self, x: Array) -> Array:
        """(n,) → (P,): to every pair its row's."""


class Found(NamedTuple):
    """What a link makes of some rows."""

    losses: Array  # (n,)
    slope: Array  # (n,): ∂L/∂s_j = slope · e^{s_j} of a negative
    gradient: Array  # (P,): ∂L/∂s_p


class Parts(NamedTuple):
    """What the links have in common."""

    ratio: Array  # (n,): e^{ν − π}, 0 without a negative or a positive
    slope: Array
    d: Array  # (P,)
    z: Array  # (n,): Z_p, 1 where there is no positive
    share: Array  # (P,): e^{d_p} / Z_p


def parts(xp: Namespace, pairs: Pairs, s: Array, negatives: Array) -> Parts:
    largest = pairs.largest(s)
    d = s - pairs.each(largest)
    e = xp.exp(d)
    z = xp.where(pairs.some, pairs.total(e), xp.ones_like(negatives))
    scale = xp.where(pairs.some, xp.exp(-largest) / z, xp.zeros_like(z))
    ratio = negatives * scale
    return Parts(ratio, scale / (1 + ratio), d, z, e / pairs.each(z))


def inside(xp: Namespace, pairs: Pairs, s: Array, negatives: Array) -> Found:
    p = parts(xp, pairs, s, negatives)
    sigmoid = pairs.each(p.ratio / (1 + p.ratio))
    return Found(xp.log1p(p.ratio) + xp.log(pairs.count), p.slope, -sigmoid * p.share)  # sup-con.in


def outside(xp: Namespace, pairs: Pairs, s: Array, negatives: Array) -> Found:
    p = parts(xp, pairs, s, negatives)
    sigmoid = pairs.each(p.ratio / (1 + p.ratio))
    # π − s̄ ≥ log|P| is 0 for one positive, whose share is 1: both differences are exact.
    losses = xp.log1p(p.ratio) + (xp.log(p.z) - pairs.total(p.d) / pairs.count)
    return Found(losses, p.slope, (p.share - pairs.each(1 / pairs.count)) - sigmoid * p.share)  # sup-con.out


def sincere(xp: Namespace, pairs: Pairs, s: Array, negatives: Array) -> Found:
    e = xp.exp(-s)
    ratio = pairs.each(negatives) * e
    slope = pairs.total(e / (1 + ratio)) / pairs.count
    losses = pairs.total(xp.log1p(ratio)) / pairs.count
    return Found(losses, slope, -ratio / (1 + ratio) / pairs.each(pairs.count))  # sup-con.sincere


LINKS: dict[Any, Callable[[Namespace, Pairs, Array, Array], Found]] = {
    inside_link: inside,
    outside_link: outside,
    sincere_link: sincere,
}


def has_pairs(rows: object) -> bool:
    """Whether the rows are of one array against one, with one of these links."""
    return isinstance(rows, ContrastedMany) and rows.margin is not None and plain(rows.layout(0, 0))


def plain(rows: Many) -> bool:
    block = rows.block
    return rows.link in LINKS and block.bias is None and block.anchors.values.ndim == block.keys.values.ndim == 2


def reach_of_scores(rows: Any, queries: int, largest_norm: Callable[[Array], float]) -> float:
    """Twice the largest score that there can be."""
    anchors, keys = rows.layout(0, 0).block[:2]
    largest = of_keys = largest_norm(keys.values)
    if anchors.name != keys.name:
        parts = (rows.layout(lo, min(lo + 256, queries)).block.anchors.values for lo in range(0, queries, 256))
        largest = max(largest_norm(part) for part in parts)
    return 2 * (largest * of_keys + abs(float(rows.margin))) / float(rows.tau)
