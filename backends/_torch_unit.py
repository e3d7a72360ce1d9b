"""Tiles for unit rows in pairs at a temperature that isn't low, where e^s itself, s = ⟨u, v⟩ / τ, is far from over- and
underflow and no shift is needed: Z_i = Σ_j e^{s_ij − s_ii} is a row's sum over e^{s_ii}. Scores are multiplied out in
units of ln 2, for PyTorch's exp2 is several times as fast as its exp, and as exact.

What one exponential gives serves both directions. The positive's place in it is empty: its gradient, as large as all
the negatives' together, would swallow their digits in a product, and is added on its own. The scores are cut into
squares that stay in a processor's cache from one operation to the next. clip and nt_xent need their sums, over rows and
columns, before any gradient is known: the squares are visited twice, and computed twice where they are many.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from infonce_ref.backends._torch_products import add_mm, mm
from infonce_ref.backends._torch_threads import shared_out

Totals: TypeAlias = dict[str, Tensor]
Span: TypeAlias = tuple[int, int]

LOG2_E = math.log2(math.e)
SIDE = 512  # of a square of scores
FEW = 128  # rows that are weighed at a time
WIDE = 4096  # columns of a strip of squares side by side
HELD = 2**24  # scores: so many are held from the first visit to the second


def spans(rows: int, whole: int) -> list[Span]:
    """The sides of the squares: all rows if they are no more than `whole`."""
    step = rows if rows <= whole else SIDE
    return [(lo, min(lo + step, rows)) for lo in range(0, rows, step)]


class Square(NamedTuple):
    """Rows lo … hi − 1 of one side against rows left … right − 1 of the other."""

    lo: int
    hi: int
    left: int
    right: int

    def leave_out(self, h: Tensor, offset: int) -> None:
        """Writes 0 where j − i is `offset`, both counted over all squares."""
        offset += self.lo - self.left
        if -h.shape[0] < offset < h.shape[1]:
            h.diagonal(offset).zero_()


class Exponentials:
    """2^⟨anchor, key⟩ square by square, 0 where i and j are `never` apart. Each thread has its own."""

    def __init__(self, anchors: Tensor, keys: Tensor, never: Sequence[int], side: int, squares: int = 1) -> None:
        """Room for so many squares at a time."""
        self.anchors, self.keys, self.never = anchors, keys, never
        self.room = anchors.new_empty((squares, side, side))

    def __call__(self, x: Square, number: int = 0) -> Tensor:
        """One square, until the next of that number."""
        out = self.room[number % len(self.room), : x.hi - x.lo, : x.right - x.left]
        h = mm(self.anchors[x.lo : x.hi], self.keys[x.left : x.right].mT, out).exp2_()
        for offset in self.never:
            x.leave_out(h, offset)
        return h


def weigh(h: Tensor, rows: Tensor, columns: Tensor) -> None:
    """h_ij times the sum of its row's and its column's weight, some rows at a time: what that takes stays small."""
    for lo in range(0, len(h), FEW):
        h[lo : lo + FEW].mul_(rows[lo : lo + FEW, None] + columns)


T = TypeVar("T", Tensor, Tensor | None)


def total(parts: Iterable[T]) -> T:
    """The sum of what the threads have added up, in place of the first; None of nothing."""
    first, *others = parts
    for part in others:
        if first is not None and part is not None:
            first += part
    return first


def zeros_across(x: Tensor) -> Tensor:
    """Zeros for the gradient of x lying on its side: so it adds up in long rows, and oneDNN is quicker."""
    return x.new_zeros(x.mT.shape)


def upright(parts: Iterable[Tensor | None]) -> Tensor | None:
    """The sum of what lies on its side, set up."""
    found = total(parts)
    return None if found is None else found.mT.contiguous()


def no_room(x: Tensor) -> Tensor:
    """Zeros that take no room."""
    return x.new_zeros(()).expand(x.shape)


class OneWay:
    """Row i of q against all rows of k, its own the positive."""

    def __init__(self, q: Tensor, k: Tensor, tau: float, names: tuple[str, str]) -> None:
        self.q, self.k, self.tau, self.names = q, k, tau, names

    def visit(self, weights: Tensor | None, wanted: Container[str]) -> tuple[Tensor, Totals]:
        """The losses and, with row weights, the gradients."""
        q, k = self.q, self.k
        number = "temperature" in wanted
        scaled = q * (LOG2_E / self.tau)
        positive = (scaled * k).sum(-1, keepdim=True).exp2_()
        sides = spans(q.shape[0], whole=SIDE)
        one, other = number or self.names[0] in wanted, self.names[1] in wanted
        if len(sides) == 1:
            sums, to_q, to_k = self.at_once(scaled, positive, weights, one, other)
        else:
            sums, to_q, to_k = self.by_strips(sides, scaled, positive, weights, one, other)
        z = (sums / positive)[:, 0]
        losses = torch.log1p(z)
        if weights is None:
            return losses, {}
        of_positive = (weights * (z / (1 + z))).mul_(-1 / self.tau)
        return losses, {
            self.names[0]: no_room(q) if to_q is None else to_q.addcmul_(of_positive[:, None], k),
            self.names[1]: no_room(k) if to_k is None else to_k.addcmul_(of_positive[:, None], q),
            "temperature": (q * to_q).sum().div_(-self.tau) if number and to_q is not None else q.new_zeros(()),
            "margin": -of_positive.sum() if "margin" in wanted else q.new_zeros(()),
        }

    def at_once(
        self, scaled: Tensor, positive: Tensor, weights: Tensor | None, one: bool, other: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Σ_j e^{s_ij} of every row's negatives; with weights, what these give to the gradients that are wanted."""
        h = mm(scaled, self.k.mT).exp2_()
        h.diagonal().zero_()
        sums = h.sum(-1, keepdim=True)
        if weights is None:
            return sums, None, None
        slope = weights[:, None] / (positive + sums).mul_(self.tau)  # ∂L/∂⟨q, k⟩ over h
        to_q = mm(h, self.k).mul_(slope) if one else None
        return sums, to_q, mm(h.mT, self.q * slope) if other else None

    def by_strips(
        self, sides: list[Span], scaled: Tensor, positive: Tensor, weights: Tensor | None, one: bool, other: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The same, some rows at a time."""
        q, k, sums = self.q, self.k, torch.zeros_like(positive)
        to_q = torch.zeros_like(q) if weights is not None and one else None
        wide = [(lo, min(lo + WIDE, len(k))) for lo in range(0, len(k), WIDE)]

        def work(rows: Sequence[Span]) -> Tensor | None:
            to_k = zeros_across(k) if weights is not None and other else None
            room = [k.new_empty((sides[0][1], right - left)) for left, right in wide]
            for lo, hi in rows:
                strip = [part[: hi - lo] for part in room]
                for h, (first, end) in zip(strip, wide, strict=True):
                    for left in range(first, end, SIDE):
                        part = h[:, left - first : left - first + SIDE]
                        torch.exp2(mm(scaled[lo:hi], k[left : min(left + SIDE, end)].mT, part), out=part)
                    Square(lo, hi, first, end).leave_out(h, 0)
                    sums[lo:hi] += h.sum(-1, keepdim=True)
                if weights is None:
                    continue
                slope = weights[lo:hi, None] / (positive[lo:hi] + sums[lo:hi]).mul_(self.tau)
                across = (q[lo:hi] * slope).mT.contiguous()
                for h, (left, right) in zip(strip, wide, strict=True):
                    if to_q is not None:
                        add_mm(to_q[lo:hi], h, k[left:right])
                    if to_k is not None:
                        add_mm(to_k[:, left:right], across, h)
                if to_q is not None:
                    to_q[lo:hi] *= slope
            return to_k

        return sums, to_q, upright(shared_out(work, sides, k, k.shape[0] ** 2))


class BothWays:
    """Row i of u against all rows of v and the other way round: half of each."""

    def __init__(self, u: Tensor, v: Tensor, tau: float, names: tuple[str, str]) -> None:
        self.u, self.v, self.tau, self.names = u, v, tau, names

    def visit(self, weights: Tensor | None, wanted: Container[str]) -> tuple[Tensor, Totals]:
        """The losses and, with row weights, the gradients."""
        u, v, n = self.u, self.v, self.u.shape[0]
        scaled = u * (LOG2_E / self.tau)
        positive = (scaled * v).sum(-1).exp2_()
        sides = spans(n, whole=1024)
        rows = torch.zeros_like(positive)
        held: dict[Square, Tensor] = {}
        hold = weights is not None and n * n <= HELD

        def squares(part: Sequence[Span]) -> Iterator[tuple[Square, Tensor]]:
            those = [Square(*row, *column) for row in part for column in sides]
            exponentials = Exponentials(scaled, v, (0,), sides[0][1], len(those) if hold else 1)
            for i, x in enumerate(those):
                yield x, exponentials(x, i)

        def known(part: Sequence[Span]) -> Iterator[tuple[Square, Tensor]]:
            return ((x, held[x]) for row in part for column in sides for x in [Square(*row, *column)])

        def sums(part: Sequence[Span]) -> Tensor:
            columns = torch.zeros_like(positive)
            for x, h in squares(part):
                rows[x.lo : x.hi] += h.sum(-1)
                columns[x.left : x.right] += h.sum(0)
                if hold:
                    held[x] = h
            return columns

        columns = total(shared_out(sums, sides, u, n * n)) / positive
        rows = rows / positive
        losses = (torch.log1p(rows) + torch.log1p(columns)) / 2
        if weights is None:
            return losses, {}
        half = weights / (2 * self.tau)
        by_row, by_column = half / (1 + rows), half / (1 + columns)
        of_positive = -(by_row * rows + by_column * columns)[:, None]
        by_row, by_column = by_row / positive, by_column / positive
        number = "temperature" in wanted
        to_u = torch.zeros_like(u) if number or self.names[0] in wanted else None
        second = self.names[1] in wanted

        def pull(part: Sequence[Span]) -> Tensor | None:
            to_v = zeros_across(v) if second else None
            for x, h in known(part) if hold else squares(part):
                weigh(h, by_row[x.lo : x.hi], by_column[x.left : x.right])
                if to_u is not None:
                    add_mm(to_u[x.lo : x.hi], h, v[x.left : x.right])
                if to_v is not None:
                    add_mm(to_v[:, x.left : x.right], u[x.lo : x.hi].mT, h)
            return to_v

        to_v = upright(shared_out(pull, sides, u, n * n))
        return losses, {
            self.names[0]: no_room(u) if to_u is None else to_u.addcmul_(of_positive, v),
            self.names[1]: no_room(v) if to_v is None else to_v.addcmul_(of_positive, u),
            "temperature": (u * to_u).sum().div_(-self.tau) if number and to_u is not None else u.new_zeros(()),
            "margin": -of_positive.sum(),
        }


class Views:
    """Every row of u, two views of N items, against all others; the other view is the positive.

    The scores are symmetric: a square right of the diagonal stands for its mirror image too.
    """

    def __init__(self, u: Tensor, tau: float) -> None:
        self.u, self.tau = u, tau

    def visit(self, weights: Tensor | None, wanted: Container[str]) -> tuple[Tensor, Totals]:
        """The losses and, with row weights, the gradients."""
        u, rows = self.u, self.u.shape[0]
        n = rows // 2
        scaled = u * (LOG2_E / self.tau)
        positive = (scaled[:n] * u[n:]).sum(-1).exp2_().repeat(2)
        sides = spans(rows, whole=512)
        squares = [Square(*row, *column) for i, row in enumerate(sides) for column in sides[i:]]
        held: dict[Square, Tensor] = {}
        hold = weights is not None and rows * n <= HELD

        def sums(part: Sequence[Square]) -> Tensor:
            z = torch.zeros_like(positive)
            exponentials = Exponentials(scaled, u, (0, n, -n), sides[0][1], len(part) if hold else 1)
            for i, x in enumerate(part):
                h = exponentials(x, i)
                z[x.lo : x.hi] += h.sum(-1)
                if x.left > x.lo:
                    z[x.left : x.right] += h.sum(0)
                if hold:
                    held[x] = h
            return z

        z = total(shared_out(sums, squares, u, rows * n)) / positive
        losses = torch.log1p(z)
        if weights is None:
            return losses, {}
        slope = weights / (self.tau * (1 + z))
        share = slope * z
        of_positive = -(share + share.roll(n))
        slope = slope / positive

        def pull(part: Sequence[Square]) -> Tensor:
            to_u, across = torch.zeros_like(u), zeros_across(u)
            exponentials = Exponentials(scaled, u, (0, n, -n), sides[0][1], 0 if hold else 1)
            for x in part:
                h = held[x] if hold else exponentials(x)
                weigh(h, slope[x.lo : x.hi], slope[x.left : x.right])
                add_mm(to_u[x.lo : x.hi], h, u[x.left : x.right])
                if x.left > x.lo:
                    add_mm(across[:, x.left : x.right], u[x.lo : x.hi].mT, h)
            return to_u.add_(across.mT) if len(sides) > 1 else to_u

        to_u = total(shared_out(pull, squares, u, rows * n)).addcmul_(of_positive[:, None], u.roll(n, 0))
        return losses, {
            "views": to_u,
            "temperature": (u * to_u).sum().div_(-2 * self.tau) if "temperature" in wanted else u.new_zeros(()),
            "margin": share.sum(),
        }


UnitRows: TypeAlias = OneWay | BothWays | Views
