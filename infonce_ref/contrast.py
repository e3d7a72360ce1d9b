"""Contrast: rows against their candidates, any range of them at a time. The body of every loss.

A streamed block and a process's shard are the same thing here: rows lo … hi − 1 of the whole problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from infonce_ref.arrays import Array, Namespace
from infonce_ref.link import Link, RowLink
from infonce_ref.loss import RowGrads, RowsOf
from infonce_ref.scores import Block, Pair, ScoreGrads, differences, logits


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


def row_grads(g: ScoreGrads) -> RowGrads:
    """The gradients by the names of what they belong to."""
    grads = RowGrads({}, {"temperature": g.temperature, "margin": g.margin})
    for rows, gradient in g.rows:
        whole = gradient if rows.scatter is None else rows.scatter(gradient)
        grads.add(rows.name, whole, rows.by_row)
    return grads


def contrast(xp: Namespace, layout: Layout, tau: Array, margin: Array, level: float | None = None) -> RowsOf:
    """The losses of rows lo … hi − 1 with one positive each, and their pullback: scores, then link."""

    def rows(lo: int, hi: int) -> tuple[Array, Callable[[Array], RowGrads]]:
        pair, blocks, link = layout(lo, hi)
        d, pull_scores = differences(xp, pair, blocks, tau, margin, level)
        losses, pull_link = link(xp, d)
        return losses, lambda weights: row_grads(pull_scores(pull_link(weights)))

    return rows


def contrast_many(xp: Namespace, layout: ManyLayout, tau: Array, margin: Array | None = None) -> RowsOf:
    """The losses of rows lo … hi − 1 with any number of positives, and their pullback: scores, then link."""

    def rows(lo: int, hi: int) -> tuple[Array, Callable[[Array], RowGrads]]:
        block, link, reference = layout(lo, hi)
        d, pull_scores = logits(xp, block, tau, margin, reference)
        losses, pull_link = link(xp, d)
        return losses, lambda weights: row_grads(pull_scores(pull_link(weights)))

    return rows


def mean_of(one: RowsOf, other: RowsOf) -> RowsOf:
    """Half of each: the mean of two directions."""

    def rows(lo: int, hi: int) -> tuple[Array, Callable[[Array], RowGrads]]:
        (a, pull_a), (b, pull_b) = one(lo, hi), other(lo, hi)
        return (a + b) / 2, lambda weights: pull_a(weights / 2).plus(pull_b(weights / 2))

    return rows
