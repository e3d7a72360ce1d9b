"""Tiles: a plan's losses and gradients from blocks of at most some hundred rows of scores, each held only while it is
visited: three products a tile, one exponential, everything else on vectors.

What is computed is the reference's plan: who is whose negative, temperature and margin come from its layout. The sums
are e^{d − shift} with a shift a row. Where no d can be large the shift is 0, since d already is the difference to the
positive: then L = log1p Z and ∂L/∂d = e / (1 + Z). Else, and wherever a value can't be read without waiting for a
device, it is the row's largest d.

Rows of several positives (sup_con's) have tiles on a processor, where no score can be large: what belongs to the
positives is looked up in a list of them, whose length may be read there.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from copy import copy
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from infonce_ref.backends import _plans
from infonce_ref.backends._positives import LINKS, has_pairs, reach_of_scores
from infonce_ref.backends._torch_products import add_mm, mm
from infonce_ref.backends._torch_threads import shared_out
from infonce_ref.backends._torch_unit import LOG2_E, UnitRows
from infonce_ref.contrast import Contrasted, ContrastedMany, MeanOf
from infonce_ref.link import softplus, softplus_link
from infonce_ref.loss import Plan
from infonce_ref.scores import Block, Pair, Rows

Wanted: TypeAlias = Container[str]  # the names of what somebody asks the gradient of

LARGEST_UNSHIFTED = {getattr(torch, name): most for name, most in _plans.LARGEST_UNSHIFTED.items()}
ORDINARY = (1e-3, 1e3)  # the largest norm of the rows, for the same reason


def runs(rows: object, queries: int) -> bool:
    """Whether the tiles compute these rows: one positive each, the link a softplus, no bias; or several, as above."""
    if isinstance(rows, UnitRows):
        return True
    if has_pairs(rows):
        return moderate(rows, queries)
    if isinstance(rows, MeanOf):
        return runs(rows.one, queries) and runs(rows.other, queries)
    if not isinstance(rows, Contrasted) or rows.level is not None:
        return False
    pair, blocks, link = rows.layout(0, 1)
    return link is softplus_link and pair.bias is None and all(block.bias is None for block in blocks)


def visit(plan: Plan[Any], weights: Tensor | None, wanted: Wanted) -> tuple[Tensor, dict[str, Tensor]]:
    """The losses of all rows and, with row weights, the gradients by name."""
    rows: Any = plan.rows
    if isinstance(rows, UnitRows):
        return rows.visit(weights, wanted)
    gradients = Gradients(plan.queries, wanted)
    losses = contrast(plan.rows, plan.queries, plan.block_size, weights, gradients)
    return losses, gradients.total()


def contrast(rows: Any, queries: int, block_size: int, weights: Tensor | None, gradients: Gradients) -> Tensor:
    """The losses of all rows; their gradients are added to those given."""
    if isinstance(rows, MeanOf):
        half = None if weights is None else weights / 2
        one = contrast(rows.one, queries, block_size, half, gradients)
        return (one + contrast(rows.other, queries, block_size, half, gradients)) / 2
    tile = (ManyTile if isinstance(rows, ContrastedMany) else Tile)(rows, queries, block_size, gradients)
    spans = [(lo, min(lo + tile.rows_at_once, queries)) for lo in range(0, queries, tile.rows_at_once)]
    losses: Tensor = tile.tau.new_empty(queries)

    def work(part: Sequence[tuple[int, int]]) -> Gradients:
        mine = tile.again(gradients.apart())
        for lo, hi in part:
            losses[lo:hi] = mine.visit(lo, hi, None if weights is None else weights[lo:hi])
        return mine.gradients

    for found in shared_out(work, spans, losses, queries * tile.columns):
        gradients.take(found)
    return losses


class Gradients:
    """Gradients of whole arrays by name, to which the tiles add."""

    def __init__(self, queries: int, wanted: Wanted) -> None:
        self.queries, self.wanted = queries, wanted
        self.by_row: dict[str, Tensor] = {}  # each row of them one tile's
        self.shared: dict[str, Tensor] = {}

    def apart(self) -> Gradients:
        """Those of one thread: the rows' together with all others, the shared ones by itself."""
        mine = Gradients(self.queries, self.wanted)
        mine.by_row = self.by_row
        return mine

    def take(self, other: Gradients) -> None:
        """Adds those of a thread."""
        for name, value in other.shared.items():
            self.add_shared(name, value)

    def total(self) -> dict[str, Tensor]:
        for name, value in self.by_row.items():
            self.add_shared(name, value)
        return self.shared

    def of(self, rows: Rows, lo: int, hi: int) -> Tensor:
        """Where the gradient of these rows, lo … hi − 1 of those visited or shared by all, is added up."""
        known = self.by_row if rows.by_row else self.shared
        if rows.name not in known:  # another thread may come first
            shape = (self.queries, *rows.values.shape[1:]) if rows.by_row else rows.values.shape
            known.setdefault(rows.name, rows.values.new_zeros(shape))
        return known[rows.name][lo:hi] if rows.by_row else known[rows.name]

    def add(self, rows: Rows, lo: int, hi: int, factor: Tensor, values: Tensor) -> None:
        """Adds each row's factor times its values."""
        if rows.name not in self.wanted:
            self.leave_out(rows)
        elif rows.scatter is None:
            self.of(rows, lo, hi).addcmul_(factor, values)
        else:
            self.add_shared(rows.name, rows.scatter(factor * values))

    def add_shared(self, name: str, value: Tensor) -> None:
        if name in self.shared and value.ndim:
            self.shared[name] += value
        else:
            self.shared[name] = self.shared[name] + value if name in self.shared else value

    def leave_out(self, rows: Rows) -> None:
        """Zeros, which take no room, for what nobody asks for."""
        if rows.name in self.by_row:
            return
        if rows.scatter is not None:
            self.by_row.setdefault(rows.name, rows.scatter(torch.zeros_like(rows.values)))
        else:
            n = self.queries if rows.by_row else rows.values.shape[0]
            self.by_row.setdefault(rows.name, rows.values.new_zeros(()).expand(n, *rows.values.shape[1:]))


class Exponentials(NamedTuple):
    """e^{d − shift} of each block, 0 where the pair is nobody's; their row sums; the losses."""

    e: list[Tensor]
    z: Tensor
    losses: Tensor
    slope: Tensor  # σ / Z: ∂L/∂d_j = slope · e_j


class Tile:
    """What the tiles of a pass have in common."""

    def __init__(self, rows: Contrasted, queries: int, block_size: int, gradients: Gradients) -> None:
        self.layout, self.tau, self.margin, self.gradients = rows.layout, rows.tau, rows.margin, gradients
        whole = self.whole = rows.layout(0, queries)
        self.columns = sum(columns_of(block) for block in whole.blocks)
        self.rows_at_once = min(queries, block_size, rows_at_once(whole.pair.anchors.values, self.columns))
        self.shifted = not unshifted(whole.pair, whole.blocks, self.tau, self.margin)
        self.room: list[Tensor] = []

    def again(self, gradients: Gradients) -> Tile:
        """The same with room of its own, for a thread."""
        mine = copy(self)
        mine.gradients = gradients
        like = self.whole.pair.anchors.values
        mine.room = [like.new_empty((self.rows_at_once, columns_of(block))) for block in self.whole.blocks]
        return mine

    def visit(self, lo: int, hi: int, weights: Tensor | None) -> Tensor:
        """The losses of rows lo … hi − 1, and their gradients where they have weights."""
        pair, blocks, _ = self.whole if hi - lo == self.gradients.queries else self.layout(lo, hi)
        q, k = pair.anchors.values, pair.keys.values
        positive = ((q * k).sum(-1, keepdim=True) - self.margin) / self.tau
        room = self.room if hi - lo == self.rows_at_once else [r[: hi - lo] for r in self.room]
        d = [scores(b, positive, self.tau, out) for b, out in zip(blocks, room, strict=True)]
        inside = pair.keys.scatter is None
        e = shifted(blocks, d, inside) if self.shifted else unshifted_exp(blocks, d, inside)
        if weights is not None:
            self.pull(lo, hi, pair, blocks, e, weights[:, None], positive)
        return e.losses[:, 0]

    def pull(
        self, lo: int, hi: int, pair: Pair, blocks: Sequence[Block], e: Exponentials, weights: Tensor, positive: Tensor
    ) -> None:
        """Adds the gradients of the tile."""
        g = self.gradients
        slope = weights * e.slope
        total = slope * e.z  # Σ_j ∂L/∂d_j
        slope, row_total = slope / self.tau, total / self.tau
        number = "temperature" in g.wanted
        of_temperature = row_total * positive if number else row_total
        for block, x in zip(blocks, e.e, strict=True):
            anchors, keys = block.anchors.values, block.keys.values
            if number or block.anchors.name in g.wanted:
                spread = torch.bmm(x[:, None, :], keys)[:, 0, :] if keys.ndim == 3 else mm(x, keys)
                g.add(block.anchors, lo, hi, slope, spread)
                if number:
                    of_temperature = of_temperature - slope * (anchors * spread).sum(-1, keepdim=True) / self.tau
            else:
                g.leave_out(block.anchors)
            if block.keys.name not in g.wanted:
                g.leave_out(block.keys)
            elif keys.ndim == 3:
                g.of(block.keys, lo, hi).addcmul_((slope * x)[:, :, None], anchors[:, None, :])
            else:
                add_mm(g.of(block.keys, lo, hi), x.mT, slope * anchors)
        g.add(pair.anchors, lo, hi, -row_total, pair.keys.values)
        g.add(pair.keys, lo, hi, -row_total, pair.anchors.values)
        # Σ_j G_j d_j: what the keys, spread over the rows, have in common with the anchors, less the positives.
        g.add_shared("temperature", of_temperature.sum() if number else self.tau.new_zeros(()))
        g.add_shared("margin", row_total.sum() if "margin" in g.wanted else self.tau.new_zeros(()))


def rows_at_once(like: Tensor, columns: int) -> int:
    """So many that a tile stays near the caches of a processor; of a device, that it is kept busy."""
    few, many, scores_at_once = (256, 1024, 2**21) if like.device.type == "cpu" else (256, 8192, 2**26)
    return max(few, min(many, scores_at_once // max(columns, 1)))


def columns_of(block: Block) -> int:
    return int(block.keys.values.shape[-2])


def readable(x: Tensor) -> bool:
    """A number of it can be read without waiting for a device, or being traced."""
    return x.device.type == "cpu" and type(x) in (Tensor, torch.nn.Parameter)


def unshifted(pair: Pair, blocks: Sequence[Block], tau: Tensor, margin: Tensor) -> bool:
    """Whether every difference to a positive is known to be small."""
    if not readable(pair.anchors.values):
        return False
    columns = sum(columns_of(block) for block in blocks)
    largest = farthest(pair, blocks)
    bound = (largest + abs(margin.item())) / tau.item() + math.log(max(columns, 1)) if tau.item() != 0 else math.inf
    return 0 <= bound < LARGEST_UNSHIFTED[tau.dtype]  # False for NaN


def farthest(pair: Pair, blocks: Sequence[Block]) -> float:
    """The most that an inner product can differ from the positive's; inf where rows are out of the ordinary."""
    largest: dict[int, float] = {}

    def norm(rows: Rows) -> float:
        if id(rows.values) not in largest:
            x = rows.values
            largest[id(x)] = torch.linalg.vector_norm(x, dim=-1).max().item() if x.numel() else ORDINARY[0]
        return largest[id(rows.values)]

    products = [norm(b.anchors) * norm(b.keys) for b in blocks]
    products.append(norm(pair.anchors) * norm(pair.keys))
    ordinary = all(ORDINARY[0] <= x <= ORDINARY[1] for x in largest.values())
    return max(products) + products[-1] if ordinary else math.inf


def scores(block: Block, positive: Tensor, tau: Tensor, out: Tensor) -> Tensor:
    """d: every score of the block less the positive's."""
    anchors, keys = block.anchors.values / tau, block.keys.values
    if keys.ndim == 3:
        return torch.sub(torch.bmm(keys, anchors[:, :, None])[:, :, 0], positive, out=out)
    return mm(anchors, keys.mT, out).sub_(positive)


def put(x: Tensor, columns: Tensor, value: float, inside: bool) -> None:
    """Writes the value into one column of each row, or nowhere where there is no such column."""
    if not inside:
        there = ((columns >= 0) & (columns < x.shape[1]))[:, None]
        columns = columns.clamp(0, x.shape[1] - 1)
        index = columns[:, None]
        x.scatter_(1, index, torch.where(there, torch.full_like(x[:, :1], value), x.gather(1, index)))
        return
    x.scatter_(1, columns[:, None], value)


def unshifted_exp(blocks: Sequence[Block], d: Sequence[Tensor], inside: bool) -> Exponentials:
    """e^d in place of d; L = log1p Z."""
    for block, x in zip(blocks, d, strict=True):
        exp_(x)
        if block.keep is not None:
            x.masked_fill_(~block.keep, 0.0)
        for columns in block.never:
            put(x, columns, 0.0, inside)
    z = sum_of_rows(d)
    return Exponentials(list(d), z, torch.log1p(z), 1 / (1 + z))


def exp_(x: Tensor) -> Tensor:
    """e^x in place of x, the faster way."""
    return x.mul_(LOG2_E).exp2_()


def sum_of_rows(blocks: Sequence[Tensor]) -> Tensor:
    sums = [x.sum(-1, keepdim=True) for x in blocks]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)


def shifted(blocks: Sequence[Block], d: Sequence[Tensor], inside: bool) -> Exponentials:
    """e^{d − max d} in place of d; 0 for a row without negatives."""
    some = None
    for block, x in zip(blocks, d, strict=True):
        there = leave_out(block, x, inside)
        some = there if some is None else some | there
    filled = [x.amax(-1, keepdim=True) for x in d if x.shape[-1]]
    if some is None or not filled:
        nothing = (d[0] if d else torch.empty(0)).new_zeros((d[0].shape[0], 1))
        return Exponentials(list(d), nothing, nothing, nothing)
    largest = filled[0] if len(filled) == 1 else torch.stack(filled).amax(0)
    largest = torch.where(some, largest, 0.0)
    for x in d:
        exp_(x.sub_(largest))
    z = sum_of_rows(d)
    losses, sigmoid = softplus(torch, largest + torch.log(torch.where(some, z, 1.0)))
    return Exponentials(
        list(d), z, torch.where(some, losses, 0.0), torch.where(some, sigmoid / torch.where(some, z, 1.0), 0.0)
    )


def leave_out(block: Block, d: Tensor, inside: bool) -> Tensor:
    """Sets d to −∞ where the pair is nobody's; (n, 1) bool: the row has a negative in this block."""
    lowest = -math.inf
    if block.keep is not None:
        keep = block.keep.clone()
        for columns in block.never:
            put_false(keep, columns, inside)
        d.masked_fill_(~keep, lowest)
        kept: Tensor = keep.any(-1, keepdim=True)
        return kept
    count = torch.full_like(d[:, :1], d.shape[1]) if d.shape[1] else d.new_zeros((d.shape[0], 1))
    for columns in block.never:
        put(d, columns, lowest, inside)
        count -= ((columns >= 0) & (columns < d.shape[1]))[:, None].to(d.dtype)
    some: Tensor = count > 0
    return some


def put_false(keep: Tensor, columns: Tensor, inside: bool) -> None:
    if inside:
        keep.scatter_(1, columns[:, None], False)
        return
    there = ((columns >= 0) & (columns < keep.shape[1]))[:, None]
    index = columns.clamp(0, keep.shape[1] - 1)[:, None]
    keep.scatter_(1, index, keep.gather(1, index) & ~there)


# --- several positives -----------------------------------------------------------------------------------------------


class Pairs:
    """Who is a positive of whom."""

    def __init__(self, positive: Tensor, like: Tensor) -> None:
        self.places = torch.from_numpy(np.flatnonzero(positive.numpy()))  # four times as fast as torch.nonzero
        self.rows = self.places // max(positive.shape[1], 1)
        counts = torch.bincount(self.rows, minlength=positive.shape[0])
        self.some, self.count = counts > 0, counts.clamp(min=1).to(like.dtype)
        self.zero = like.new_zeros(positive.shape[0])

    def total(self, x: Tensor) -> Tensor:
        return self.zero.index_add(0, self.rows, x)

    def largest(self, x: Tensor) -> Tensor:
        return self.zero.scatter_reduce(0, self.rows, x, "amax", include_self=False)

    def each(self, x: Tensor) -> Tensor:
        return x[self.rows]


def moderate(rows: Any, queries: int) -> bool:
    """Whether no exponential of a score, nor a ratio of two, comes near over- or underflow."""
    keys = rows.layout(0, 0).block.keys.values
    if not readable(keys) or rows.tau.item() == 0:
        return False
    most = reach_of_scores(rows, queries, largest_norm)
    limit: float = 2 * LARGEST_UNSHIFTED[keys.dtype]
    return bool(0 <= most + math.log(len(keys) + 1) < limit)  # False for NaN


class ManyTile:
    """What the tiles of a pass have in common."""

    def __init__(self, rows: ContrastedMany, queries: int, block_size: int, gradients: Gradients) -> None:
        margin: Any = rows.margin
        self.layout, self.tau, self.margin, self.gradients = rows.layout, rows.tau, margin, gradients
        self.room = rows.layout(0, 0).block.keys.values[:0]
        self.columns = columns_of(rows.layout(0, 0).block)
        self.rows_at_once = min(queries, block_size, rows_at_once(self.room, self.columns))

    def again(self, gradients: Gradients) -> ManyTile:
        """The same with room of its own, for a thread."""
        mine = copy(self)
        mine.gradients, mine.room = gradients, self.room.new_empty((self.rows_at_once, self.columns))
        return mine

    def visit(self, lo: int, hi: int, weights: Tensor | None) -> Tensor:
        """The losses of rows lo … hi − 1, and their gradients where they have weights."""
        block, link, _ = self.layout(lo, hi)
        assert block.positive is not None
        assert block.keep is not None
        anchors = block.anchors.values / self.tau
        pairs = Pairs(block.positive, anchors)
        x = mm(anchors, block.keys.values.mT, self.room[: hi - lo])
        at_positives = x.view(-1)[pairs.places] - self.margin / self.tau
        np.copyto(exp_(x).numpy(), 0, where=~block.keep.numpy())  # three times as fast as masked_fill_
        found = LINKS[link](torch, pairs, at_positives, x.sum(-1))
        if weights is not None:
            at_positives = pairs.each(weights) * found.gradient
            x.mul_((weights * found.slope)[:, None])
            x.view(-1)[pairs.places] = at_positives
            self.pull(lo, hi, block, x, anchors, at_positives.sum() / self.tau)
        losses: Tensor = found.losses
        return losses

    def pull(self, lo: int, hi: int, block: Block, x: Tensor, anchors: Tensor, of_positives: Tensor) -> None:
        """Adds what x, which is ∂L/∂s, gives to everything."""
        g = self.gradients
        for rows in block[:2]:
            if rows.name not in g.wanted:
                g.leave_out(rows)
        by_number = self.tau.new_zeros(())
        if "temperature" in g.wanted or block.anchors.name in g.wanted:
            to_anchors = mm(x, block.keys.values).div_(self.tau)
            by_number = of_positives * self.margin / self.tau - (anchors * to_anchors).sum()
            if block.anchors.name in g.wanted:
                g.of(block.anchors, lo, hi).add_(to_anchors)
        if block.keys.name in g.wanted:
            add_mm(g.of(block.keys, lo, hi), x.mT, anchors)
        g.add_shared("temperature", by_number)
        g.add_shared("margin", -of_positives)


def largest_norm(x: Tensor) -> float:
    return torch.linalg.vector_norm(x, dim=-1).max().item() if x.numel() else 0.0
