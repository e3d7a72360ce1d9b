"""Both directions at once, for unit rows in pairs at a temperature that isn't low: where e^s itself, s = ⟨u, v⟩ / τ, is
far from over- and underflow, no shift is needed and one exponential serves row and column.

Z_i = Σ_j e^{s_ij − s_ii} is a row's sum over e^{s_ii}. The positive's own place, empty in the sum, takes its gradient:
so one matrix G of ∂L/∂s is all there is to multiply with. Sums over rows and columns must be known before any of G is:
the tiles, some rows against all columns, are visited twice, and computed twice where they are many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from infonce_ref.backends import _numpy_threads

Array = np.ndarray[Any, Any]

ROWS = 128  # of a tile
NEAR = 2**15  # scores: what stays in the caches from one operation to the next
HELD = 2**24  # scores: so many are held from the first visit to the second


class Tile(NamedTuple):
    """Rows lo … hi − 1 of one side against all rows of the other from `left` on."""

    lo: int
    hi: int
    left: int

    def place(self, h: Array, offset: int) -> tuple[tuple[Array, Array], Array]:
        """Where in h, the scores, j − i is `offset`; and those i."""
        i = np.arange(max(self.lo, self.left - offset), min(self.hi, self.left + h.shape[1] - offset))
        return (i - self.lo, i + offset - self.left), i


class Scores:
    """e^s of tiles, 0 where i and j are `never` apart: held, or computed when they are asked for."""

    def __init__(self, anchors: Array, keys: Array, never: Sequence[int], hold: bool) -> None:
        self.anchors, self.keys, self.never, self.hold = anchors, keys, never, hold
        self.held: dict[Tile, Array] = {}

    def visit(self, tiles: Sequence[Tile]) -> Iterator[tuple[Tile, Array]]:
        """Each tile with its scores, which are good until the next unless they are held."""
        room = None if self.hold else np.empty((ROWS, len(self.keys)), self.keys.dtype)
        for x in tiles:
            if x not in self.held:
                out = None if room is None else room[: x.hi - x.lo, : len(self.keys) - x.left]
                h = np.matmul(self.anchors[x.lo : x.hi], self.keys[x.left :].T, out=out)
                np.exp(h, out=h)
                for offset in self.never:
                    h[x.place(h, offset)[0]] = 0
            else:
                h = self.held[x]
            if self.hold:
                self.held[x] = h
            yield x, h


def weigh(h: Array, rows: Array, columns: Array) -> None:
    """h_ij times the sum of its row's and its column's weight, so many rows at a time that they stay in the caches."""
    few = max(1, NEAR // max(len(columns), 1))
    for lo in range(0, len(h), few):
        h[lo : lo + few] *= rows[lo : lo + few, None] + columns


class BothWays:
    """Row i of u against all rows of v and the other way round: half of each."""

    def __init__(self, u: Array, v: Array, tau: Array, names: tuple[str, str]) -> None:
        self.u, self.v, self.tau, self.names = u, v, tau, names

    def visit(self, weights: Array | None) -> tuple[Array, dict[str, Array]]:
        """The losses and, with row weights, the gradients."""
        u, v, n = self.u, self.v, len(self.u)
        scaled = u / self.tau
        positive = np.exp(np.einsum("nd,nd->n", scaled, v))
        tiles = [Tile(lo, min(lo + ROWS, n), 0) for lo in range(0, n, ROWS)]
        threads = min(_numpy_threads.threads_for(n * n), len(tiles))
        scores = Scores(scaled, v, (0,), hold=weights is not None and n * n <= HELD)
        rows = np.zeros_like(positive)

        def sums(part: Sequence[Tile]) -> Array:
            columns: Array = np.zeros_like(positive)
            for x, h in scores.visit(part):
                rows[x.lo : x.hi] = h.sum(axis=1)
                columns += h.sum(axis=0)
            return columns

        columns = np.sum(_numpy_threads.shared_out(sums, tiles, threads), axis=0) / positive
        rows /= positive
        losses = (np.log1p(rows) + np.log1p(columns)) / 2
        if weights is None:
            return losses, {}
        half = weights / (2 * self.tau)
        by_row, by_column = half / (1 + rows), half / (1 + columns)
        of_positive = -(by_row * rows + by_column * columns)
        by_row, by_column = by_row / positive, by_column / positive
        to_u = np.empty_like(u)

        def pull(part: Sequence[Tile]) -> Array:
            to_v: Array = np.zeros_like(v)
            for x, h in scores.visit(part):
                weigh(h, by_row[x.lo : x.hi], by_column)
                places, i = x.place(h, 0)
                h[places] = of_positive[i]
                np.matmul(h, v, out=to_u[x.lo : x.hi])
                to_v += h.T @ u[x.lo : x.hi]
            return to_v

        to_v = np.sum(_numpy_threads.shared_out(pull, tiles, threads), axis=0)
        return losses, {
            self.names[0]: to_u,
            self.names[1]: to_v,
            "temperature": -np.sum(u * to_u) / self.tau,
            "margin": -np.sum(of_positive),
        }


class Views:
    """Every row of u, two views of N items, against all others; the other view is the positive.

    The scores are symmetric: what is right of a tile's own square stands for its mirror image too.
    """

    def __init__(self, u: Array, tau: Array) -> None:
        self.u, self.tau = u, tau

    def visit(self, weights: Array | None) -> tuple[Array, dict[str, Array]]:
        """The losses and, with row weights, the gradients."""
        u, rows = self.u, len(self.u)
        n = rows // 2
        scaled = u / self.tau
        positive = np.tile(np.exp(np.einsum("nd,nd->n", scaled[:n], u[n:])), 2)
        tiles = [Tile(lo, min(lo + ROWS, rows), lo) for lo in range(0, rows, ROWS)]
        threads = min(_numpy_threads.threads_for(rows * n), len(tiles))
        scores = Scores(scaled, u, (0, n, -n), hold=weights is not None and rows * n <= HELD)

        def sums(part: Sequence[Tile]) -> Array:
            z: Array = np.zeros_like(positive)
            for x, h in scores.visit(part):
                z[x.lo : x.hi] += h.sum(axis=1)
                z[x.hi :] += h[:, x.hi - x.lo :].sum(axis=0)
            return z

        z = np.sum(_numpy_threads.shared_out(sums, tiles, threads), axis=0) / positive
        losses = np.log1p(z)
        if weights is None:
            return losses, {}
        slope = weights / (self.tau * (1 + z))
        share = slope * z
        of_positive = -(share + np.roll(share, n))
        slope = slope / positive

        def pull(part: Sequence[Tile]) -> Array:
            to_u: Array = np.zeros_like(u)
            for x, h in scores.visit(part):
                weigh(h, slope[x.lo : x.hi], slope[x.left :])
                for offset in (n, -n):
                    places, i = x.place(h, offset)
                    h[places] = of_positive[i]
                to_u[x.lo : x.hi] += h @ u[x.left :]
                to_u[x.hi :] += h[:, x.hi - x.lo :].T @ u[x.lo : x.hi]
            return to_u

        to_u = np.sum(_numpy_threads.shared_out(pull, tiles, threads), axis=0)
        temperature = -np.sum(u * to_u) / (2 * self.tau)
        return losses, {"views": to_u, "temperature": temperature, "margin": np.sum(share)}
