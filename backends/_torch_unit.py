"""Tiles for unit rows in pairs at a temperature that isn't low, where e^s itself, s = ⟨u, v⟩ / τ, is far from over- and
underflow and no shift is needed: Z_i = Σ_j e^{s_ij − s_ii} is a row's sum over e^{s_ii}. Scores are multiplied out in
units of ln 2, for PyTorch's exp2 is several times as fast as its exp, and as exact.

What one exponential gives serves both directions. The positive's place in it is empty: its gradient, as large as all
the negatives' together, would swallow their digits in a product, and is added on its own. Many scores are cut into
squares that stay in a processor's cache from one operation to the next. clip and nt_xent need their sums, over rows and
columns, before any gradient is known: the squares are visited twice, and computed twice where they are too many to be
held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from infonce_ref.backends._torch_products import add_mm, mm
from infonce_ref.backends._torch_threads import shared_out

Totals: TypeAlias = dict[str, Tensor]
Span: TypeAlias = tuple[int, int]

LOG2_E = math.log2(math.e)
ONCE = 1024  # rows, up to which one square holds the scores of two sides
SIDE = 512  # of a square of more
FEW = 128  # rows that are weighed at a time where they are many
WIDE = 4096  # columns of a strip of squares side by side
HELD = 2**24  # scores: so many are held from the first visit to the second


def spans(rows: int) -> list[Span]:
    """The sides of the squares."""
    step = rows if rows <= ONCE else SIDE
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
    """h_ij times the sum of its row's and its column's weight, some rows of a large h at a time: what that takes stays
    small.
    """
    if h.numel() <= SIDE**2:
        h.mul_(rows[:, None] + columns)
        return
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


# What each row weighs as an anchor → what all negatives give to the gradients of the first and the second side.
Pull: TypeAlias = Callable[[Tensor], tuple[T, T]]


class TwoSides:
    """Row i of u belongs to row i of v."""

    def __init__(self, u: Tensor, v: Tensor, tau: float, names: tuple[str, str]) -> None:
        self.u, self.v, self.tau, self.names = u, v, tau, names

    def asked(self, wanted: Container[str]) -> tuple[bool, bool]:
        """Whether each side's gradient is; the temperature's is made of the first."""
        return "temperature" in wanted or self.names[0] in wanted, self.names[1] in wanted

    def gradients(
        self, pulled: tuple[Tensor | None, Tensor | None], of_positive: Tensor, wanted: Container[str]
    ) -> Totals:
        """All negatives' pull, and with it the positives'."""
        u, v, (to_u, to_v) = self.u, self.v, pulled
        number = "temperature" in wanted
        return {
            self.names[0]: no_room(u) if to_u is None else to_u.addcmul_(of_positive[:, None], v, value=-1),
            self.names[1]: no_room(v) if to_v is None else to_v.addcmul_(of_positive[:, None], u, value=-1),
            "temperature": (u * to_u).sum().div_(-self.tau) if number and to_u is not None else u.new_zeros(()),
            "margin": of_positive.sum() if "margin" in wanted else u.new_zeros(()),
        }


class OneWay(TwoSides):
    """Row i of u against all rows of v, its own the positive."""

    def visit(self, weights: Tensor | None, wanted: Container[str]) -> tuple[Tensor, Totals]:
        """The losses and, with row weights, the gradients."""
        sides, asked = spans(len(self.u)), self.asked(wanted)
        positive, sums, pull = self.at_once(*asked) if len(sides) == 1 else self.by_strips(sides, weights, *asked)
        losses = torch.log1p(sums / positive)
        if weights is None:
            return losses, {}
        slope = self.slope(weights, sums, positive)
        return losses, self.gradients(pull(slope), slope * sums, wanted)

    def slope(self, weights: Tensor, sums: Tensor, positive: Tensor) -> Tensor:
        """∂L/∂⟨u, v⟩ of a row's negatives over their e^s."""
        return weights / (sums + positive).mul_(self.tau)

    def at_once(self, one: bool, other: bool) -> tuple[Tensor, Tensor, Pull[Tensor | None]]:
        """e^s of the positives, Σ_j e^{s_ij} of every row's negatives, and their pull on the sides asked for."""
        q, k = self.u, self.v
        h = mm(q * (LOG2_E / self.tau), k.mT).exp2_()
        positive = h.diagonal().clone()
        h.fill_diagonal_(0)

        def pull(slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
            h.mul_(slope[:, None])
            return mm(h, k) if one else None, mm(h.mT, q) if other else None

        return positive, h.sum(-1), pull

    def by_strips(
        self, sides: list[Span], weights: Tensor | None, one: bool, other: bool
    ) -> tuple[Tensor, Tensor, Pull[Tensor | None]]:
        """The same, some rows at a time, and the pull of each as soon as its sum is there."""
        q, k = self.u, self.v
        scaled = q * (LOG2_E / self.tau)
        positive = (scaled * k).sum(-1).exp2_()
        sums = torch.zeros_like(positive)
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
                    sums[lo:hi] += h.sum(-1)
                if weights is None:
                    continue
                slope = self.slope(weights[lo:hi], sums[lo:hi], positive[lo:hi])[:, None]
                across = (q[lo:hi] * slope).mT.contiguous()
                for h, (left, right) in zip(strip, wide, strict=True):
                    if to_q is not None:
                        add_mm(to_q[lo:hi], h, k[left:right])
                    if to_k is not None:
                        add_mm(to_k[:, left:right], across, h)
                if to_q is not None:
                    to_q[lo:hi] *= slope
            return to_k

        to_k = upright(shared_out(work, sides, k, len(k) ** 2))
        return positive, sums, lambda slope: (to_q, to_k)


class BothWays(TwoSides):
    """Row i of u against all rows of v and the other way round: half of each."""

    def visit(self, weights: Tensor | None, wanted: Container[str]) -> tuple[Tensor, Totals]:
        """The losses and, with row weights, the gradients."""
        sides, asked, hold = spans(len(self.u)), self.asked(wanted), weights is not None
        positive, sums, pull = self.at_once(*asked) if len(sides) == 1 else self.by_squares(sides, *asked, hold=hold)
        losses = torch.log1p(sums / positive).mean(0)
        if weights is None:
            return losses, {}
        slope = weights / (sums + positive).mul_(2 * self.tau)
        return losses, self.gradients(pull(slope), (slope * sums).sum(0), wanted)

    def at_once(self, one: bool, other: bool) -> tuple[Tensor, Tensor, Pull[Tensor | None]]:
        """e^s of the positives (N), Σ_j e^{s_ij} of every row's and every column's negatives (2, N), and the negatives'
        pull on the sides asked for.
        """
        u, v = self.u, self.v
        h = mm(u * (LOG2_E / self.tau), v.mT).exp2_()
        positive = h.diagonal().clone()
        h.fill_diagonal_(0)

        def pull(slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
            weigh(h, slope[0], slope[1])
            return mm(h, v) if one else None, mm(h.mT, u) if other else None

        return positive, torch.stack([h.sum(-1), h.sum(0)]), pull

    def by_squares(
        self, sides: list[Span], one: bool, other: bool, hold: bool
    ) -> tuple[Tensor, Tensor, Pull[Tensor | None]]:
        """The same."""
        u, v, n = self.u, self.v, len(self.u)
        scaled = u * (LOG2_E / self.tau)
        positive = (scaled * v).sum(-1).exp2_()
        rows = torch.zeros_like(positive)
        held: dict[Square, Tensor] = {}
        hold = hold and n * n <= HELD

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

        def pull(slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
            by_row, by_column = slope[0], slope[1]
            to_u = torch.zeros_like(u) if one else None

            def pulled(part: Sequence[Span]) -> Tensor | None:
                to_v = zeros_across(v) if other else None
                for x, h in known(part) if hold else squares(part):
                    weigh(h, by_row[x.lo : x.hi], by_column[x.left : x.right])
                    if to_u is not None:
                        add_mm(to_u[x.lo : x.hi], h, v[x.left : x.right])
                    if to_v is not None:
                        add_mm(to_v[:, x.left : x.right], u[x.lo : x.hi].mT, h)
                return to_v

            to_v = upright(shared_out(pulled, sides, u, n * n))
            return to_u, to_v

        columns = total(shared_out(sums, sides, u, n * n))
        return positive, torch.stack([rows, columns]), pull


class Views:
    """Row i of a and row i of b, two views of one item, are each other's positive; all other rows are negatives."""

    def __init__(self, a: Tensor, b: Tensor, tau: float) -> None:
        self.a, self.b, self.tau = a, b, tau

    def visit(self, weights: Tensor | None, wanted: Container[str]) -> tuple[Tensor, Totals]:
        """The losses, a's first, and, with row weights, the gradients."""
        a, b, n = self.a, self.b, len(self.a)
        one = len(spans(n)) == 1
        positive, sums, pull = self.at_once() if one else self.by_squares(hold=weights is not None)
        losses = torch.log1p(sums / positive).view(-1)
        if weights is None:
            return losses, {}
        slope = weights.view(2, n) / (sums + positive).mul_(self.tau)
        of_positive = (slope * sums).sum(0)[:, None]
        to_a, to_b = pull(slope)
        to_a.addcmul_(of_positive, b, value=-1)
        to_b.addcmul_(of_positive, a, value=-1)
        zero = a.new_zeros(())
        number = "temperature" in wanted
        return losses, {
            "view_a": to_a,
            "view_b": to_b,
            "temperature": ((a * to_a).sum() + (b * to_b).sum()).div_(-2 * self.tau) if number else zero,
            "margin": of_positive.sum() if "margin" in wanted else zero,
        }

    def at_once(self) -> tuple[Tensor, Tensor, Pull[Tensor]]:
        """e^s of the positives (N), Σ_j e^{s_ij} of every row's negatives (2, N), and the negatives' pull. What is
        between the views serves both directions.
        """
        a, b = self.a, self.b
        scaled = a * (LOG2_E / self.tau)
        ab, aa, bb = mm(scaled, b.mT).exp2_(), mm(scaled, a.mT).exp2_(), mm(b * (LOG2_E / self.tau), b.mT).exp2_()
        positive = ab.diagonal().clone()
        for h in (ab, aa, bb):
            h.fill_diagonal_(0)
        sums = torch.stack([aa.sum(-1).add_(ab.sum(-1)), bb.sum(-1).add_(ab.sum(0))])

        def pull(slope: Tensor) -> tuple[Tensor, Tensor]:
            by_a, by_b = slope[0], slope[1]
            weigh(aa, by_a, by_a)
            weigh(ab, by_a, by_b)
            weigh(bb, by_b, by_b)
            to_a, to_b = mm(aa, a), mm(bb, b)
            add_mm(to_a, ab, b)
            add_mm(to_b, ab.mT, a)
            return to_a, to_b

        return positive, sums, pull

    def by_squares(self, hold: bool) -> tuple[Tensor, Tensor, Pull[Tensor]]:
        """The same. The scores are symmetric: a square right of the diagonal stands for its mirror image too."""
        u, n = torch.cat([self.a, self.b]), len(self.a)
        scaled = u * (LOG2_E / self.tau)
        positive = (scaled[:n] * self.b).sum(-1).exp2_()
        sides = spans(2 * n)
        squares = [Square(*row, *column) for i, row in enumerate(sides) for column in sides[i:]]
        held: dict[Square, Tensor] = {}
        hold = hold and 2 * n * n <= HELD

        def sums(part: Sequence[Square]) -> Tensor:
            z = u.new_zeros(2 * n)
            exponentials = Exponentials(scaled, u, (0, n, -n), sides[0][1], len(part) if hold else 1)
            for i, x in enumerate(part):
                h = exponentials(x, i)
                z[x.lo : x.hi] += h.sum(-1)
                if x.left > x.lo:
                    z[x.left : x.right] += h.sum(0)
                if hold:
                    held[x] = h
            return z

        def pull(slope: Tensor) -> tuple[Tensor, Tensor]:
            slope = slope.view(-1)

            def pulled(part: Sequence[Square]) -> Tensor:
                to_u, across = torch.zeros_like(u), zeros_across(u)
                exponentials = Exponentials(scaled, u, (0, n, -n), sides[0][1], 0 if hold else 1)
                for x in part:
                    h = held[x] if hold else exponentials(x)
                    weigh(h, slope[x.lo : x.hi], slope[x.left : x.right])
                    add_mm(to_u[x.lo : x.hi], h, u[x.left : x.right])
                    if x.left > x.lo:
                        add_mm(across[:, x.left : x.right], u[x.lo : x.hi].mT, h)
                return to_u.add_(across.mT)

            to_u = total(shared_out(pulled, squares, u, 2 * n * n))
            return to_u[:n], to_u[n:]

        return positive, total(shared_out(sums, squares, u, 2 * n * n)).view(2, n), pull


UnitRows: TypeAlias = OneWay | BothWays | Views
