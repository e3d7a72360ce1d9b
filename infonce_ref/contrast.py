"""Contrast: rows against their candidates, any range of them at a time. The body of every loss.

A streamed block and a process's shard are the same thing here: rows lo … hi − 1 of the whole problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from infonce_ref.arrays import Array, Namespace
from infonce_ref.link import Link, RowLink, everywhere
from infonce_ref.loss import RowGrads, RowsOf
from infonce_ref.scores import Block, Pair, ScoreGrads, differences, kept, logits, pairwise


class Contrast(NamedTuple):
    """What some rows with one positive each are made of."""

    pair: Pair
    blocks: Sequence[Block]
    link: Link


class Many(NamedTuple):
    """What some rows with any number of positives are made of."""

    block: Block
    link: RowLink
    reference: Array | None = None  # (n, C) bool: the logits that a row's are referred to the largest of


Layout: TypeAlias = Callable[[int, int], Contrast]
ManyLayout: TypeAlias = Callable[[int, int], Many]


def negatives_of(xp: Namespace, rows: Contrast) -> Array:
    """(n, C) bool over all blocks: who is a negative of whom."""
    found = []
    for block in rows.blocks:
        shape = pairwise(xp, block.anchors.values[:, :0], block.keys.values[..., :0])  # (n, C) zeros
        found.append(everywhere(xp, shape, kept(xp, block)))
    return xp.concat(found, axis=-1)


def row_grads(g: ScoreGrads) -> RowGrads:
    """The gradients by the names of what they belong to."""
    grads = RowGrads({}, {"temperature": g.temperature, "margin": g.margin})
    for rows, gradient in g.rows:
        whole = gradient if rows.scatter is None else rows.scatter(gradient)
        grads.add(rows.name, whole, rows.by_row)
    return grads


class Contrasted:
    """The losses of rows lo … hi − 1 with one positive each, and their pullback: scores, then link."""

    def __init__(self, xp: Namespace, layout: Layout, tau: Array, margin: Array, level: float | None = None) -> None:
        self.xp, self.layout, self.tau, self.margin, self.level = xp, layout, tau, margin, level

    def __call__(self, lo: int, hi: int) -> tuple[Array, Callable[[Array], RowGrads]]:
        pair, blocks, link = self.layout(lo, hi)
        d, pull_scores = differences(self.xp, pair, blocks, self.tau, self.margin, self.level)
        losses, pull_link = link(self.xp, d)
        return losses, lambda weights: row_grads(pull_scores(pull_link(weights)))


class ContrastedMany:
    """The losses of rows lo … hi − 1 with any number of positives, and their pullback: scores, then link."""

    def __init__(self, xp: Namespace, layout: ManyLayout, tau: Array, margin: Array | None = None) -> None:
        self.xp, self.layout, self.tau, self.margin = xp, layout, tau, margin

    def __call__(self, lo: int, hi: int) -> tuple[Array, Callable[[Array], RowGrads]]:
        block, link, reference = self.layout(lo, hi)
        d, pull_scores = logits(self.xp, block, self.tau, self.margin, reference)
        losses, pull_link = link(self.xp, d)
        return losses, lambda weights: row_grads(pull_scores(pull_link(weights)))


class MeanOf:
    """Half of each: the mean of two directions."""

    def __init__(self, one: RowsOf, other: RowsOf) -> None:
        self.one, self.other = one, other

    def __call__(self, lo: int, hi: int) -> tuple[Array, Callable[[Array], RowGrads]]:
        (a, pull_a), (b, pull_b) = self.one(lo, hi), self.other(lo, hi)
        return (a + b) / 2, lambda weights: pull_a(weights / 2).plus(pull_b(weights / 2))
