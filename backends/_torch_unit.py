"""Tiles for unit rows in pairs at a temperature that isn't low, where e^s itself, s = ⟨u, v⟩ / τ, is far from over- and
underflow and no shift is needed: Z_i = Σ_j e^{s_ij − s_ii} is a row's sum over e^{s_ii}.

What one exponential gives serves both directions, and the positive's own place, empty in the sum, takes its gradient:
so one matrix G of ∂L/∂s is all there is to multiply with. clip and nt_xent need their sums, over rows and columns,
before any of G is known: where the scores are more than one tile, the tiles are visited twice.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

Totals: TypeAlias = dict[str, Tensor]

ROWS_AT_ONCE = 256


def spans(rows: int, whole: int) -> list[tuple[int, int]]:
    """The tiles: all rows if they are no more than `whole`, else so few that the scores stay near the caches."""
    step = rows if rows <= whole else ROWS_AT_ONCE
    return [(lo, min(lo + step, rows)) for lo in range(0, rows, step)]


class OneWay:
    """Row i of q against all rows of k, its own the positive."""

    def __init__(self, q: Tensor, k: Tensor, tau: float, names: tuple[str, str]) -> None:
        self.q, self.k, self.tau, self.names = q, k, tau, names

    def visit(self, weights: Tensor | None, wanted: Container[str]) -> tuple[Tensor, Totals]:
        """The losses and, with row weights, the gradients."""
        q, k, n = self.q, self.k, self.q.shape[0]
        number = "temperature" in wanted
        scaled = q / self.tau
        positive = (scaled * k).sum(-1, keepdim=True).exp_()
        to_q = torch.empty_like(q) if number or self.names[0] in wanted else None
        to_k = torch.zeros_like(k) if self.names[1] in wanted else None
        tiles = spans(n, whole=1024)
        room = q.new_empty((tiles[0][1], n))
        z = torch.empty_like(positive)
        for lo, hi in tiles:
            h = torch.mm(scaled[lo:hi], k.mT, out=room[: hi - lo]).exp_()
            own = h.diagonal(lo)
            own.zero_()
            total = h.sum(-1, keepdim=True)
            torch.div(total, positive[lo:hi], out=z[lo:hi])
            if weights is None:
                continue
            slope = weights[lo:hi, None] / (positive[lo:hi] + total)  # ∂L/∂h of every negative
            own.copy_(total.neg_()[:, 0])
            if to_q is not None:
                torch.mm(h, k, out=to_q[lo:hi]).mul_(slope)
            if to_k is not None:
                to_k.addmm_(h.mT, scaled[lo:hi] * slope)
        losses = torch.log1p(z)[:, 0]
        if weights is None:
            return losses, {}
        if to_q is not None:
            to_q.div_(self.tau)
        return losses, {
            self.names[0]: no_room(q) if to_q is None else to_q,
            self.names[1]: no_room(k) if to_k is None else to_k,
            "temperature": (q * to_q).sum().div_(-self.tau) if number and to_q is not None else q.new_zeros(()),
            "margin": margin(weights, z[:, 0], self.tau, wanted),
        }


def no_room(x: Tensor) -> Tensor:
    """Zeros that take no room."""
    return x.new_zeros(()).expand(x.shape)


def margin(weights: Tensor, z: Tensor, tau: float, wanted: Container[str]) -> Tensor:
    """Σ w σ / τ."""
    return (weights * (z / (1 + z))).sum() / tau if "margin" in wanted else weights.new_zeros(())


class BothWays:
    """Row i of u against all rows of v and the other way round: half of each."""

    def __init__(self, u: Tensor, v: Tensor, tau: float, names: tuple[str, str]) -> None:
        self.u, self.v, self.tau, self.names = u, v, tau, names

    def visit(self, weights: Tensor | None, wanted: Container[str]) -> tuple[Tensor, Totals]:
        """The losses and, with row weights, the gradients."""
        u, v, n = self.u, self.v, self.u.shape[0]
        scaled = u / self.tau
        positive = (scaled * v).sum(-1).exp_()
        tiles = spans(n, whole=1024)
        room = u.new_empty((tiles[0][1], n))

        def exponentials() -> Iterator[tuple[int, int, Tensor]]:
            for lo, hi in tiles:
                h = torch.mm(scaled[lo:hi], v.mT, out=room[: hi - lo]).exp_()
                h.diagonal(lo).zero_()
                yield lo, hi, h

        rows, columns = torch.empty_like(positive), torch.zeros_like(positive)
        for lo, hi, h in exponentials():
            torch.sum(h, -1, out=rows[lo:hi])
            columns += h.sum(0)
        rows, columns = rows / positive, columns / positive
        losses = (torch.log1p(rows) + torch.log1p(columns)) / 2
        if weights is None:
            return losses, {}
        half = weights / (2 * self.tau)
        by_row, by_column = half / (1 + rows), half / (1 + columns)
        of_positive = -(by_row * rows + by_column * columns)
        by_row, by_column = by_row / positive, by_column / positive
        number = "temperature" in wanted
        to_u = torch.empty_like(u) if number or self.names[0] in wanted else None
        to_v = torch.zeros_like(v) if self.names[1] in wanted else None
        held = [(0, n, room)] if len(tiles) == 1 else exponentials()
        for lo, hi, h in held:
            h.mul_(by_row[lo:hi, None] + by_column)
            h.diagonal(lo).copy_(of_positive[lo:hi])
            if to_u is not None:
                torch.mm(h, v, out=to_u[lo:hi])
            if to_v is not None:
                to_v.addmm_(h.mT, u[lo:hi])
        return losses, {
            self.names[0]: no_room(u) if to_u is None else to_u,
            self.names[1]: no_room(v) if to_v is None else to_v,
            "temperature": (u * to_u).sum().div_(-self.tau) if number and to_u is not None else u.new_zeros(()),
            "margin": -of_positive.sum(),
        }


class Views:
    """Every row of u, two views of N items, against all others; the other view is the positive.

    The scores are symmetric: a tile is rows lo … hi − 1 against those from lo on, and stands for its mirror image too.
    """

    def __init__(self, u: Tensor, tau: float) -> None:
        self.u, self.tau = u, tau

    def visit(self, weights: Tensor | None, wanted: Container[str]) -> tuple[Tensor, Totals]:
        """The losses and, with row weights, the gradients."""
        u, rows = self.u, self.u.shape[0]
        n = rows // 2
        scaled = u / self.tau
        positive = (scaled[:n] * u[n:]).sum(-1).exp_().repeat(2)
        tiles = spans(rows, whole=512)
        room = u.new_empty(tiles[0][1] * rows)

        def exponentials() -> Iterator[tuple[int, int, Tensor]]:
            for lo, hi in tiles:
                out = room[: (hi - lo) * (rows - lo)].view(hi - lo, rows - lo)
                h = torch.mm(scaled[lo:hi], u[lo:].mT, out=out).exp_()
                for offset in (0, n, -n):
                    own = h.diagonal(offset) if -h.shape[0] < offset < h.shape[1] else h[:0, 0]
                    own.zero_()
                yield lo, hi, h

        z = torch.zeros_like(positive)
        for lo, hi, h in exponentials():
            z[lo:hi] += h.sum(-1)
            if hi < rows:
                z[hi:] += h[:, hi - lo :].sum(0)
        z = z / positive
        losses = torch.log1p(z)
        if weights is None:
            return losses, {}
        slope = weights / (self.tau * (1 + z))
        share = slope * z
        of_positive = -(share + share.roll(n))
        slope = slope / positive
        to_u = torch.zeros_like(u)
        held = [(0, rows, room.view(rows, rows))] if len(tiles) == 1 else exponentials()
        for lo, hi, h in held:
            h.mul_(slope[lo:hi, None] + slope[lo:])
            for offset, first in ((n, lo), (-n, lo + n)):  # row lo + i, where its other view is among the columns
                if -h.shape[0] < offset < h.shape[1]:
                    own = h.diagonal(offset)
                    own.copy_(of_positive[first : first + own.shape[0]])
            to_u[lo:hi].addmm_(h, u[lo:])
            if hi < rows:
                to_u[hi:].addmm_(h[:, hi - lo :].mT, u[lo:hi])
        return losses, {
            "views": to_u,
            "temperature": (u * to_u).sum().div_(-2 * self.tau) if "temperature" in wanted else u.new_zeros(()),
            "margin": share.sum(),
        }


UnitRows: TypeAlias = OneWay | BothWays | Views
