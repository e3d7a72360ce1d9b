"""The losses on NumPy arrays, tile by tile: no matrix of scores is held, and the time is that of three matrix products.

What is computed is the reference's plan: its checks, its embedding, its layout of who meets whom, its reduction. Only
the rows are carried out otherwise. A tile of T rows against C keys runs through

    S = [q / τ, −s_p] [k, 1]ᵀ      every difference to the positive, by one product
    E = e^S                        in place, the positive's column and masked entries 0
    R = E [k, 1]                   what the rows' gradients are made of; its last column is Z = Σ_j e^{d_j}
    L = log1p(Z)                   the softplus form, exact for tiny losses
    dk += Eᵀ (c q / τ)             with c = w / (1 + Z)

where the differences can't overflow; else they are taken below each row's largest. A tile of sup_con is e^S of the
scores themselves, turned into their gradients G in place, then G k and Gᵀ q / τ. Losses of another form (all but clip,
gte, info_nce, moco, n_pair, nt_xent and sup_con), logits with a bias, rows that aren't finite and a sup_con whose
scores could overflow are the reference's own. Plain calls of clip, info_nce and nt_xent have simpler tiles
(`_numpy_unit`).
With threadpoolctl installed, as many tiles are visited at a time as the linear algebra has threads.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import is_numpy_namespace

import infonce_ref
from infonce_ref import loss as reference
from infonce_ref.backends import _numpy_plans
from infonce_ref.backends._numpy_threads import at_once, room, shares, tile_rows
from infonce_ref.backends._numpy_unit import BothWays, OneWay
from infonce_ref.backends._plans import Direction, OfReference, Quick, directions, reference_of
from infonce_ref.backends._positives import LINKS, has_pairs, reach_of_scores
from infonce_ref.contrast import ContrastedMany
from infonce_ref.loss import Device, G, Loss, P, Plan
from infonce_ref.losses.matryoshka import Nested
from infonce_ref.scores import Block

Array = np.ndarray[Any, Any]


# --- a tile ----------------------------------------------------------------------------------------------------------


class Common(NamedTuple):
    """What all threads write, each its own rows of it."""

    losses: Array
    by_row: dict[str, Array]
    extended: dict[int, Array]  # [k, 1] of the keys with that id


class Worker:
    """One thread's tiles: a buffer of scores, the gradients that all its tiles add to, and what it has in common."""

    def __init__(self, tau: Array, margin: Array, height: int, weights: Array | None, common: Common) -> None:
        self.tau, self.margin, self.height, self.weights, self.common = tau, margin, height, weights, common
        self.buffers: dict[str, Array] = {}
        self.shared: dict[str, Array] = {}

    def run(self, lo: int, hi: int) -> None:
        """Rows lo … hi − 1: their losses and, where there are weights, their gradients."""
        raise NotImplementedError

    def buffer(self, name: str, rows: int, columns: int, like: Array) -> Array:
        """Room that is used again by every tile."""
        if name not in self.buffers or self.buffers[name].shape[1] != columns or len(self.buffers[name]) < rows:
            self.buffers[name] = room((max(rows, self.height), columns), like.dtype)
        return self.buffers[name][:rows]

    def with_ones(self, keys: Array) -> Array:
        """[k, 1], made once."""
        extended = self.common.extended
        if id(keys) not in extended:
            extended[id(keys)] = np.concatenate([keys, np.ones_like(keys[:, :1])], axis=1)
        return extended[id(keys)]

    def add(self, lo: int, rows: Any, gradient: Array) -> None:
        """A gradient of some rows, to where it belongs."""
        if rows.by_row:
            by_row = self.common.by_row
            if rows.name not in by_row:  # another thread may come first
                whole = np.zeros((len(self.common.losses), *gradient.shape[1:]), gradient.dtype)
                by_row.setdefault(rows.name, whole)
            by_row[rows.name][lo : lo + len(gradient)] += gradient
        else:
            self.add_shared(rows.name, gradient if rows.scatter is None else rows.scatter(gradient))

    def add_shared(self, name: str, gradient: Any) -> None:
        self.shared[name] = self.shared[name] + gradient if name in self.shared else gradient

    def accumulate(self, name: str, e: Array, rows: Array) -> None:
        """The gradient of keys that all rows meet: += Eᵀ rows, in place."""
        if name not in self.shared:
            self.shared[name] = e.T @ rows
            return
        product = self.buffer(f"to {name}", e.shape[1], rows.shape[1], rows)
        into = self.shared[name]
        into += np.matmul(e.T, rows, out=product)


class OneWorker(Worker):
    """Rows with one positive each."""

    def __init__(self, direction: Direction, safe: bool, *common: Any) -> None:
        super().__init__(direction.rows.tau, direction.rows.margin, *common)
        self.rows, self.share, self.safe = direction.rows, direction.share, safe

    def run(self, lo: int, hi: int) -> None:
        """Rows lo … hi − 1: their losses and, where there are weights, their gradients."""
        pair, blocks, _ = self.rows.layout(lo, hi)
        positive = np.sum(pair.anchors.values * pair.keys.values, axis=-1) - self.margin
        tiles = [Tile(self, i, block, positive) for i, block in enumerate(blocks)]
        shift = None if self.safe else row_shift(tiles)
        for tile in tiles:
            tile.exponentiate(shift)
        if self.weights is None:
            z: Any = sum(tile.scores.sum(axis=1) for tile in tiles)
            self.common.losses[lo:hi] += self.share * row_losses(z, shift)[0]
            return
        products = [tile.times_keys() for tile in tiles]
        z = sum(product[:, -1] for product in products)
        losses, slope = row_losses(z, shift)
        self.common.losses[lo:hi] += self.share * losses
        c = (self.share * self.weights[lo:hi] * slope)[:, None]
        for tile, product in zip(tiles, products, strict=True):
            tile.pull(c, product, lo)
        row_total = c * z[:, None]
        self.add(lo, pair.anchors, -row_total * pair.keys.values / self.tau)
        self.add(lo, pair.keys, -row_total * pair.anchors.values / self.tau)
        self.add_shared("margin", np.sum(row_total) / self.tau)


class Tile:
    """The scores of some rows against one block of keys."""

    def __init__(self, worker: OneWorker, number: int, block: Block, positive: Array) -> None:
        self.worker, self.block = worker, block
        self.anchors, self.keys = block.anchors.values / worker.tau, block.keys.values
        self.offset = positive[:, None] / worker.tau
        if self.keys.ndim == 3:  # each row's own
            self.scores = np.squeeze(self.keys @ self.anchors[:, :, None], axis=-1) - self.offset
        else:
            self.scores = worker.buffer(f"scores {number}", len(self.anchors), len(self.keys), self.anchors)
            rows = np.concatenate([self.anchors, -self.offset], axis=1)
            np.matmul(rows, worker.with_ones(self.keys).T, out=self.scores)

    def fill(self, value: float) -> None:
        """Put `value` where a pair is no negative."""
        numbers = np.arange(len(self.scores))
        for never in self.block.never:
            outside = (never < 0) | (never >= self.scores.shape[1])
            self.scores[numbers[~outside], never[~outside]] = value
        if self.block.keep is not None:
            np.copyto(self.scores, value, where=~self.block.keep)

    def exponentiate(self, shift: Array | None) -> None:
        if shift is not None:
            self.scores -= shift
        np.exp(self.scores, out=self.scores)
        self.fill(0.0)

    def times_keys(self) -> Array:
        """E [k, 1]."""
        if self.keys.ndim == 3:
            product = np.squeeze(self.scores[:, None, :] @ self.keys, axis=1)
            return np.concatenate([product, self.scores.sum(axis=1)[:, None]], axis=1)
        result: Array = np.matmul(self.scores, self.worker.with_ones(self.keys))
        return result

    def pull(self, c: Array, product: Array, lo: int) -> None:
        """Add what this block gives to the gradients; c (n, 1) is what e^d is multiplied by."""
        worker, weighted = self.worker, c * self.anchors
        worker.add(lo, self.block.anchors, c * product[:, :-1] / worker.tau)
        if self.keys.ndim == 3:
            worker.add(lo, self.block.keys, self.scores[:, :, None] * weighted[:, None, :])
        else:
            worker.accumulate(self.block.keys.name, self.scores, weighted)
        along = np.sum(self.anchors * product[:, :-1], axis=1) - self.offset[:, 0] * product[:, -1]  # Σ_j e_j d_j
        worker.add_shared("temperature", -np.sum(c[:, 0] * along) / worker.tau)


def row_shift(tiles: Sequence[Tile]) -> Array:
    """(n, 1) each row's largest difference among its negatives, 0 where it has none."""
    for tile in tiles:
        tile.fill(-np.inf)
    largest: Array = np.maximum.reduce([tile.scores.max(axis=1, initial=-np.inf) for tile in tiles])
    return np.where(np.isneginf(largest), 0, largest)[:, None].astype(largest.dtype)


def row_losses(z: Array, shift: Array | None) -> tuple[Array, Array]:
    """softplus(log Z + shift), and its derivative by d_j over e^{d_j − shift}; 0 where there is no negative."""
    if shift is None:
        return np.log1p(z), 1 / (1 + z)
    some = z > 0
    x = shift[:, 0] + np.log(np.where(some, z, 1))
    t = np.exp(-np.abs(x))
    sigmoid = np.where(x > 0, 1, t) / (1 + t)
    losses = np.maximum(x, 0) + np.log1p(t)
    return np.where(some, losses, 0), np.where(some, sigmoid / np.where(some, z, 1), 0)


# --- a tile of several positives -------------------------------------------------------------------------------------


class Pairs:
    """Who is a positive of whom."""

    def __init__(self, positive: Array, dtype: Any) -> None:
        self.places = np.flatnonzero(positive)
        self.counts = np.bincount(self.places // max(positive.shape[1], 1), minlength=len(positive))
        self.some = self.counts > 0
        self.count = np.maximum(self.counts, 1).astype(dtype)
        self.first = (np.cumsum(self.counts) - self.counts)[self.some]

    def by_row(self, together: np.ufunc, x: Array) -> Array:
        found = np.zeros(len(self.counts), x.dtype)
        if len(x):
            found[self.some] = together.reduceat(x, self.first)
        return found

    def total(self, x: Array) -> Array:
        return self.by_row(np.add, x)

    def largest(self, x: Array) -> Array:
        return self.by_row(np.maximum, x)

    def each(self, x: Array) -> Array:
        return np.repeat(x, self.counts)


class ManyWorker(Worker):
    """Rows with any number of positives."""

    def __init__(self, rows: ContrastedMany, *common: Any) -> None:
        margin: Any = rows.margin
        super().__init__(rows.tau, margin, *common)
        self.rows = rows

    def run(self, lo: int, hi: int) -> None:
        """Rows lo … hi − 1: their losses and, where there are weights, their gradients."""
        block, link, _ = self.rows.layout(lo, hi)
        assert block.positive is not None
        assert block.keep is not None
        anchors, keys = block.anchors.values / self.tau, block.keys.values
        pairs = Pairs(block.positive, anchors.dtype)
        g = np.matmul(anchors, keys.T, out=self.buffer("scores", len(anchors), len(keys), anchors))
        at_positives = np.take(g, pairs.places) - self.margin / self.tau
        np.exp(g, out=g)
        np.copyto(g, 0, where=~block.keep)
        found = LINKS[link](np, pairs, at_positives, g.sum(axis=1))
        self.common.losses[lo:hi] = found.losses
        if self.weights is None:
            return
        weights = self.weights[lo:hi]
        g *= (weights * found.slope)[:, None]
        at_positives = pairs.each(weights) * found.gradient
        np.put(g, pairs.places, at_positives)
        to_anchors = (g @ keys) / self.tau
        self.add(lo, block.anchors, to_anchors)
        self.accumulate(block.keys.name, g, anchors)
        of_positives = np.sum(at_positives) / self.tau
        self.add_shared("temperature", of_positives * self.margin / self.tau - np.sum(anchors * to_anchors))
        self.add_shared("margin", -of_positives)


# --- all tiles -------------------------------------------------------------------------------------------------------


def reach(direction: Direction, n: int) -> tuple[float, int, bool]:
    """The largest difference that there can be, the number of candidates, and whether every number is finite."""
    pair, blocks, _ = direction.rows.layout(0, n)
    lengths = [largest_norm(block.anchors.values) * largest_norm(block.keys.values) for block in blocks]
    lengths.append(largest_norm(pair.anchors.values) * largest_norm(pair.keys.values))
    most = (2 * max(lengths) + abs(float(direction.rows.margin))) / float(direction.rows.tau)
    return most, sum(block.keys.values.shape[-2] for block in blocks), bool(np.isfinite(most))


def largest_norm(rows: Array) -> float:
    return float(np.sqrt(np.max(np.einsum("...d,...d->...", rows, rows), initial=0.0)))


def small(most: float, columns: int, tau: Array) -> bool:
    """The sum of so many e^most is far from overflow; not so for NaN."""
    return bool(most + np.log(columns + 1) < np.log(np.finfo(tau.dtype).max) - 8)


class Pass(NamedTuple):
    """One visit of all rows: against how many columns, in which dtype, and what makes a thread's worker."""

    columns: int
    dtype: Any
    worker: Callable[..., Worker]


def passes(plan: Plan[Any]) -> list[Pass] | None:
    """What to visit; None where the reference must do it."""
    rows: Any = plan.rows
    if has_pairs(rows):
        columns, most = len(rows.layout(0, 0).block.keys.values), reach_of_scores(rows, plan.queries, largest_norm)
        whole = Pass(columns, rows.tau.dtype, functools.partial(ManyWorker, rows))
        return [whole] if small(most, columns, rows.tau) else None
    found = []
    for direction in directions(rows) or []:
        most, columns, finite = reach(direction, plan.queries)
        if not finite:
            return None
        tau = direction.rows.tau
        found.append(Pass(columns, tau.dtype, functools.partial(OneWorker, direction, small(most, columns, tau))))
    return found or None


def contrast(plan: Plan[Any], weights: Array | None) -> tuple[Array, dict[str, Array]] | None:
    """The losses of all rows and, where there are weights, the gradients; None where the reference must do it."""
    rows: Any = plan.rows
    if isinstance(rows, OneWay | BothWays):
        return rows.visit(weights)
    if isinstance(rows, Nested):
        return rows.carried_out(contrast, weights)
    found = passes(plan)
    if found is None:
        return None
    shared: dict[str, Array] = {}
    common = Common(np.zeros(plan.queries, found[0].dtype), {}, {})
    for columns, _, worker in found:
        height = min(plan.block_size, tile_rows(columns))
        spans = [(lo, min(lo + height, plan.queries)) for lo in range(0, plan.queries, height)]
        work = functools.partial(visit, worker, height, weights, common)
        for part in at_once(work, shares(spans, plan.queries * columns)):
            add_all(shared, part)
    return common.losses, add_all(shared, common.by_row)


def visit(
    worker: Callable[..., Worker], height: int, weights: Array | None, common: Common, spans: Sequence[tuple[int, int]]
) -> dict[str, Array]:
    """What one thread's tiles add to the gradients that all share."""
    one = worker(height, weights, common)
    for lo, hi in spans:
        one.run(lo, hi)
    return one.shared


def add_all(total: dict[str, Array], parts: Mapping[str, Array]) -> dict[str, Array]:
    """Add the parts to the total, name by name, in place where there is an array."""
    for name, part in parts.items():
        if name in total and total[name].ndim:
            total[name] += part
        else:
            total[name] = total[name] + part if name in total else part
    return total


# --- the losses ------------------------------------------------------------------------------------------------------


def checked(plan: Plan[Any]) -> Plan[Any]:
    if not is_numpy_namespace(plan.xp):
        raise TypeError(f"infonce_ref.backends.numpy takes NumPy's arrays, got {plan.xp.__name__}'s [input.array]")
    return plan


def value(plan: Plan[Any], device: Device) -> Any:
    """The loss."""
    found = contrast(checked(plan), None)
    return reference.value(plan, device) if found is None else plan.reduction.apply(found[0])


def value_and_grad(plan: Plan[Any], device: Device) -> Any:
    """The loss and a named tuple of its gradients; for reduction="none" those of the sum of the entries."""
    found = contrast(checked(plan), plan.reduction.transpose(1.0))
    if found is None:
        return reference.value_and_grad(plan, device)
    losses, grads = found
    return plan.reduction.apply(losses), plan.to_arguments(grads)


def vjp(plan: Plan[Any], device: Device) -> Any:
    """The loss and its pullback: a cotangent shaped as the loss → the named tuple of gradients."""
    found = contrast(checked(plan), None)
    if found is None:
        return reference.vjp(plan, device)

    def pullback(cotangent: Array | float) -> Any:
        again = contrast(plan, plan.reduction.transpose(cotangent))
        assert again is not None
        return plan.to_arguments(again[1])

    return plan.reduction.apply(found[0]), pullback


class NumPyLoss(OfReference, Loss[Any, Any]):
    """A loss of the reference, carried out in tiles."""

    forms: Mapping[str, Callable[[Plan[Any], Device], Any]] = {
        "value": value, "value_and_grad": value_and_grad, "vjp": vjp
    }  # fmt: skip

    def __init__(self, loss: Loss[Any, Any], quick: Quick | None = None) -> None:
        super().__init__(loss.plan if quick is None else quicker(loss.plan, quick))
        # Others who take the plan, as infonce_ref.matryoshka does, visit its rows: they get the reference's.
        vars(self).update(reference=loss, plan=loss.plan, __module__=__name__)


def quicker(plan: Callable[..., Plan[Any]], quick: Quick) -> Any:
    """The plan, made quickly where the call is plain."""
    names = tuple(inspect.signature(plan).parameters)

    @functools.wraps(plan)
    def planned(*args: Any, **kwargs: Any) -> Plan[Any]:
        twice = any(name in kwargs for name in names[: len(args)])
        found = None if twice or len(args) > 2 else quick({**dict(zip(names, args, strict=False)), **kwargs})
        return plan(*args, **kwargs) if found is None else found

    return planned


clip = NumPyLoss(infonce_ref.clip, _numpy_plans.clip)
dcl = NumPyLoss(infonce_ref.dcl)
debiased = NumPyLoss(infonce_ref.debiased)
gte = NumPyLoss(infonce_ref.gte)
hard_negative = NumPyLoss(infonce_ref.hard_negative)
info_nce = NumPyLoss(infonce_ref.info_nce, _numpy_plans.info_nce)
info_nce_from_logits = NumPyLoss(infonce_ref.info_nce_from_logits)
mil_nce = NumPyLoss(infonce_ref.mil_nce)
moco = NumPyLoss(infonce_ref.moco)
n_pair = NumPyLoss(infonce_ref.n_pair)
nt_xent = NumPyLoss(infonce_ref.nt_xent, _numpy_plans.nt_xent)
siglip = NumPyLoss(infonce_ref.siglip)
soft_nce = NumPyLoss(infonce_ref.soft_nce)
sup_con = NumPyLoss(infonce_ref.sup_con)
triplet = NumPyLoss(infonce_ref.triplet)


def matryoshka(loss: Loss[P, G], dims: Sequence[int], weights: Sequence[float] | None = None) -> Loss[P, G]:
    """`infonce_ref.matryoshka` of a loss of this module: in tiles where that is."""
    return NumPyLoss(infonce_ref.matryoshka(reference_of(loss), dims, weights))
