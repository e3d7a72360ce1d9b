"""Unit rows in pairs at a temperature that isn't low: e^s itself, s = ⟨x_i, x_j⟩ / τ, is far from over- and underflow,
so no shift is needed and Z_i = Σ_j e^{s_ij − s_ii'} is a row's sum over its positive's e^{s_ii'}.

Rows i and N + i of x belong together. The positive's place among the e^s is empty: its gradient, as large as those of
all negatives together, is added on its own, for in the products' sums it would cost them their last digits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from infonce_ref.backends._numpy_threads import at_once, room, shares, tile_rows

Array = np.ndarray[Any, Any]

SIDE = 512  # of a square of scores
HELD = 2**24  # scores: so many are held from the first visit to the second


def diagonal(h: Array) -> Array:
    """A view of it."""
    found: Array = np.einsum("ii->i", h)
    return found


def along(x: Array, y: Array) -> Array:
    """Each row's inner product with the other's."""
    found: Array = np.vecdot(x, y)
    return found


def add(parts: Sequence[Array]) -> Array:
    """The sum of what the threads have added up."""
    return functools.reduce(np.add, parts)


class OneWay:
    """Each row of x's first half against all rows of the second, some rows at a time."""

    def __init__(self, x: Array, tau: Array) -> None:
        self.x, self.tau = x, tau

    def visit(self, weights: Array | None) -> tuple[Array, dict[str, Array]]:
        """The losses and, with row weights, the gradients."""
        n = len(self.x) // 2
        q, k = self.x[:n], self.x[n:]
        scaled = q / self.tau
        positive, sums, to_x = np.empty_like(q[:, 0]), np.empty_like(q[:, 0]), np.empty_like(self.x)
        height = min(n, tile_rows(n))

        def work(part: Sequence[int]) -> Array:
            scores, to_k, product = room((height, n), q.dtype), np.zeros_like(k), np.empty_like(k)
            for lo in part:
                rows = slice(lo, min(lo + height, n))
                h = np.matmul(scaled[rows], k.T, out=scores[: rows.stop - lo])
                np.exp(h, out=h)
                positive[rows] = diagonal(h[:, rows])
                diagonal(h[:, rows])[:] = 0
                sums[rows] = h @ np.ones_like(k[:, 0])
                if weights is None:
                    continue
                slope = (weights[rows] / (self.tau * (positive[rows] + sums[rows])))[:, None]
                weighted, to_q = q[rows] * slope, np.matmul(h, k, out=to_x[rows])
                to_k += np.matmul(h.T, weighted, out=product)
                of_positive = sums[rows, None]
                to_q -= of_positive * k[rows]
                to_q *= slope
                to_k[rows] -= np.multiply(weighted, of_positive, out=weighted)
            return to_k

        to_k = add(at_once(work, shares(range(0, n, height), n * n)))
        z = sums / positive
        losses = np.log1p(z)
        if weights is None:
            return losses, {}
        to_x[n:] = to_k
        temperature = -np.sum(along(q, to_x[:n])) / self.tau
        return losses, {"rows": to_x, "temperature": temperature, "margin": np.sum(weights * (z / (1 + z))) / self.tau}


class Square(NamedTuple):
    """Rows lo … hi − 1 of x against rows left … right − 1."""

    lo: int
    hi: int
    left: int
    right: int

    @property
    def rows(self) -> slice:
        return slice(self.lo, self.hi)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.right)


def squares(n: int, side: int, within: bool) -> list[Square]:
    """Those of the first half against the second; `within`, those of each half against itself: the upper ones."""
    spans = [(lo, min(lo + side, n)) for lo in range(0, n, side)]
    others = [(n + lo, n + hi) for lo, hi in spans]
    between = [Square(*row, *column) for row in spans for column in others]
    own = [Square(*row, *column) for half in (spans, others) for i, row in enumerate(half) for column in half[i:]]
    return between + own if within else between


class Exponentials:
    """e^s of a thread's squares, one after the other, 0 for a row and itself or its positive: good until the next, but
    for the first so many, which are held to be met again.
    """

    def __init__(self, x: Array, tau: Array, part: Sequence[Square], side: int, most: int) -> None:
        self.x, self.scaled, self.part = x, x / tau, part
        self.room = room((min(len(part), most + 1), side, side), x.dtype)
        self.known = 0

    def __iter__(self) -> Iterator[tuple[Square, Array]]:
        last, n = len(self.room) - 1, len(self.x) // 2
        for i, at in enumerate(self.part):
            h = self.room[min(i, last), : at.hi - at.lo, : at.right - at.left]
            if i >= self.known:
                np.exp(np.matmul(self.scaled[at.rows], self.x[at.columns].T, out=h), out=h)
                if at.left in (at.lo, at.lo + n):
                    diagonal(h)[:] = 0
            yield at, h
        self.known = len(self.part) if len(self.part) == len(self.room) else last


class BothWays:
    """Each row of x against all rows of the other half and, `within`, of its own; without it, the mean of a pair's.

    The scores are symmetric, so each pair of rows is looked at once. All sums must be known before any of G is: the
    squares are visited twice, and computed twice where they are too many to be held.
    """

    def __init__(self, x: Array, tau: Array, within: bool) -> None:
        self.x, self.tau, self.within = x, tau, within

    def visit(self, weights: Array | None) -> tuple[Array, dict[str, Array]]:
        """The losses and, with weights, the gradients."""
        x, n = self.x, len(self.x) // 2
        positive = np.exp(along(x[:n], x[n:]) / self.tau)
        twice = np.concatenate([positive, positive])
        side = math.ceil(n / math.ceil(n / SIDE))
        parts = shares(squares(n, side, self.within), n * n)
        most = 0 if weights is None else HELD // (side**2 * len(parts))
        mine = [Exponentials(x, self.tau, part, side, most) for part in parts]

        def sums(part: Exponentials) -> Array:
            z = np.zeros_like(twice)
            for at, h in part:
                z[at.rows] += h @ np.ones_like(h[0])
                if at.left > at.lo:
                    z[at.columns] += np.ones_like(h[:, 0]) @ h
            return z

        z = add(at_once(sums, mine)) / twice
        losses = np.log1p(z)
        if not self.within:
            losses = (losses[:n] + losses[n:]) / 2
        if weights is None:
            return losses, {}
        slope = (weights if self.within else np.concatenate([weights, weights]) / 2) / (self.tau * (1 + z))
        share = slope * z
        of_positive = (share[:n] + share[n:])[:, None]
        slope /= twice

        def pull(part: Exponentials) -> Array:
            to_x = np.zeros_like(x)
            for at, h in part:
                h *= slope[at.rows, None] + slope[at.columns]
                to_x[at.rows] += h @ x[at.columns]
                if at.left > at.lo:
                    to_x[at.columns] += h.T @ x[at.rows]
            return to_x

        to_x = add(at_once(pull, mine))
        to_x[:n] -= of_positive * x[n:]
        to_x[n:] -= of_positive * x[:n]
        temperature = -np.sum(along(x, to_x)) / (2 * self.tau)  # each pair of rows counts for both
        return losses, {"rows": to_x, "temperature": temperature, "margin": np.sum(share)}
