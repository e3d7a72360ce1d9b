"""Contrast: queries against their candidates, any range of rows at a time. The body of every loss with one positive.

A streamed block and a process's shard are the same thing here: rows lo … hi − 1 of the whole problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from infonce_ref.arrays import Array, Namespace
from infonce_ref.candidates import Candidates
from infonce_ref.loss import RowGrads, Rows
from infonce_ref.scores import Differences, differences

Link: TypeAlias = Callable[[Namespace, Sequence[Differences]], tuple[Array, Callable[[Array], list[Array]]]]


def contrast(
    xp: Namespace,
    link: Link,
    q: Array,
    keys: Array,
    negatives: Array | None,
    who: Candidates,
    tau: Array,
    margin: Array,
) -> Rows:
    """The losses of queries lo … hi − 1 and their pullback: scores, then link."""

    def rows(lo: int, hi: int) -> tuple[Array, Callable[[Array], RowGrads]]:
        blocks = who.blocks(keys, negatives, lo, hi)
        positive, scatter = (keys[lo:hi, ...], None) if who.paired else who.positives(keys, lo, hi)
        d, pull_scores = differences(xp, q[lo:hi, ...], positive, list(blocks.values()), tau, margin)
        losses, pull_link = link(xp, d)

        def pullback(weights: Array) -> RowGrads:
            g = pull_scores(pull_link(weights))
            by_row = {"query": g.query}
            shared = {"temperature": g.temperature, "margin": g.margin}
            for (name, block), to_keys in zip(blocks.items(), g.keys, strict=True):
                (by_row if block.keys.ndim == 3 else shared)[name] = to_keys
            if scatter is None:
                by_row["positive_key"] = g.positive
            else:
                to_positives = scatter(g.positive)
                shared["positive_key"] = shared.get("positive_key", 0.0) + to_positives
            return RowGrads(by_row, shared)

        return losses, pullback

    return rows
