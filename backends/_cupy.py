"""The losses on CuPy arrays, tile by tile: fused elementwise kernels around the matrix products of cuBLAS.

What is computed is the reference's plan, as in NumPy's backend; only the rows are carried out otherwise:

    S = [q / τ, −s_p] [k, 1]ᵀ      every difference to the positive, by one product
    S = −∞                         in place, where a pair is no negative
    E = e^{S − max S}              in place, the largest of each row
    R = E [k, 1]                   what the rows' gradients are made of; its last column is Z
    L = softplus(max S + log Z)    and c = w σ / Z, by one kernel
    dk += Eᵀ (c q / τ)

No value is read on the host: a call only puts work on the current stream of the arguments' device, and returns before
that is done. Losses of another form (all but clip, gte, info_nce, moco, n_pair and nt_xent) and logits with a bias are
the reference's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import cupy
from array_api_compat import is_cupy_namespace

import infonce_ref
from infonce_ref import loss as reference
from infonce_ref.backends._plans import Direction, OfReference, directions, reference_of
from infonce_ref.loss import Device, G, Loss, P, Plan
from infonce_ref.losses.matryoshka import Nested
from infonce_ref.scores import Block, Rows

Array = Any

TILE = 2**25  # scores held at a time, as far as tiles of 256 rows or more allow
FEWEST = 256


# --- fused stages ----------------------------------------------------------------------------------------------------

mask = cupy.ElementwiseKernel(
    "T s, bool keep, int64 never, int64 nor, int64 columns",
    "T masked",
    "const long long j = i % columns; masked = keep && j != never && j != nor ? s : (T)(-INFINITY)",
    "infonce_mask",
)

exponentiate = cupy.ElementwiseKernel(
    "T s, T largest",
    "T e",
    "e = exp(s - (largest == (T)(-INFINITY) ? (T)0 : largest))",
    "infonce_exponentiate",
)

softplus = cupy.ElementwiseKernel(
    "T z, T largest",
    "T loss, T slope",
    """
    const bool none = z == (T)0;  // no negative
    const T x = largest + log(z), t = exp(x > (T)0 ? -x : x);
    loss = none ? (T)0 : (x > (T)0 ? x : (T)0) + log1p(t);
    slope = none ? (T)0 : (x > (T)0 ? (T)1 : t) / ((T)1 + t) / z;
    """,
    "infonce_softplus",
)

pull_negatives = cupy.ElementwiseKernel(
    "T c, T product, T anchor, T tau",
    "T to_anchor, T weighted",
    "to_anchor = c * product / tau; weighted = c * anchor",
    "infonce_pull_negatives",
)

pull_positives = cupy.ElementwiseKernel(
    "T total, T anchor, T key, T tau",
    "T to_anchor, T to_key",
    "to_anchor = -total * key / tau; to_key = -total * anchor / tau",
    "infonce_pull_positives",
)


# --- a tile ----------------------------------------------------------------------------------------------------------


class Results(NamedTuple):
    """What the tiles of all directions add to."""

    losses: Array  # (N,)
    by_row: dict[str, Array]
    shared: dict[str, Array]

    def add(self, lo: int, rows: Rows, gradient: Array) -> None:
        """A gradient of some rows, to where it belongs."""
        if not rows.by_row:
            self.add_shared(rows.name, gradient if rows.scatter is None else rows.scatter(gradient))
            return
        if rows.name not in self.by_row:
            self.by_row[rows.name] = cupy.zeros((len(self.losses), *gradient.shape[1:]), gradient.dtype)
        self.by_row[rows.name][lo : lo + len(gradient)] += gradient

    def add_shared(self, name: str, gradient: Array) -> None:
        if name in self.shared:
            self.shared[name] += gradient
        else:
            self.shared[name] = gradient

    def total(self) -> dict[str, Array]:
        for name, gradient in self.by_row.items():
            self.add_shared(name, gradient)
        return self.shared


def with_ones(keys: Array) -> Array:
    return cupy.concatenate([keys, cupy.ones_like(keys[..., :1])], axis=-1)


class Tile:
    """The scores of some rows against one block of keys, and what is made of them in place."""

    def __init__(self, block: Block, extended: Array, tau: Array, offset: Array) -> None:
        self.block, self.extended, self.tau, self.offset = block, extended, tau, offset
        self.anchors = block.anchors.values / tau
        rows = cupy.concatenate([self.anchors, -offset], axis=1)
        self.scores = self.times(rows, swap=True)
        if block.keep is not None or block.never:
            assert len(block.never) <= 2, "the kernel takes two"
            keep = True if block.keep is None else block.keep
            never, nor, *_ = [*(numbers[:, None] for numbers in block.never), -1, -1]
            mask(self.scores, keep, never, nor, self.scores.shape[1], self.scores)

    def times(self, rows: Array, swap: bool = False) -> Array:
        """rows [k, 1], or with [k, 1]ᵀ; of each row's own keys where it has them."""
        if self.extended.ndim == 2:
            return cupy.matmul(rows, self.extended.T if swap else self.extended)
        if swap:
            return cupy.matmul(self.extended, rows[:, :, None])[:, :, 0]
        return cupy.matmul(rows[:, None, :], self.extended)[:, 0, :]

    def largest(self) -> Array:
        """(n, 1), −∞ where nothing is a negative."""
        if self.scores.shape[1] == 0:
            return cupy.full_like(self.offset, -cupy.inf)
        return cupy.max(self.scores, axis=1, keepdims=True)

    def exponentiate(self, largest: Array) -> None:
        exponentiate(self.scores, largest, self.scores)

    def pull(self, results: Results, lo: int, c: Array, product: Array) -> None:
        """Add what this block gives to the gradients; c (n, 1) is what e^d is multiplied by."""
        of_keys = product[:, :-1]
        to_anchors, weighted = pull_negatives(c, of_keys, self.anchors, self.tau)
        results.add(lo, self.block.anchors, to_anchors)
        if self.extended.ndim == 2:
            results.add(lo, self.block.keys, cupy.matmul(self.scores.T, weighted))
        else:
            results.add(lo, self.block.keys, self.scores[:, :, None] * weighted[:, None, :])
        along = cupy.sum(weighted * of_keys, axis=1, keepdims=True) - c * self.offset * product[:, -1:]  # c Σ_j e_j d_j
        results.add_shared("temperature", -cupy.sum(along) / self.tau)


# --- all tiles -------------------------------------------------------------------------------------------------------


class Keys:
    """[k, 1] of the keys that all rows meet, made once."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[Array, Array]] = {}

    def extended(self, keys: Array) -> Array:
        if keys.ndim == 3:
            return with_ones(keys)
        if id(keys) not in self.made:
            self.made[id(keys)] = keys, with_ones(keys)  # held, so that no other array takes its id
        return self.made[id(keys)][1]


def visit(direction: Direction, lo: int, hi: int, weights: Array | None, keys: Keys, results: Results) -> None:
    """Rows lo … hi − 1: their losses and, where there are weights, their gradients."""
    tau, margin = direction.rows.tau, direction.rows.margin
    pair, blocks, _ = direction.rows.layout(lo, hi)
    anchors, positives = pair.anchors.values, pair.keys.values
    offset = (cupy.sum(anchors * positives, axis=1, keepdims=True) - margin) / tau
    tiles = [Tile(block, keys.extended(block.keys.values), tau, offset) for block in blocks]
    largest = reduce(cupy.maximum, (tile.largest() for tile in tiles))
    for tile in tiles:
        tile.exponentiate(largest)
    if weights is None:
        z = sum(cupy.sum(tile.scores, axis=1, keepdims=True) for tile in tiles)
        losses, _ = softplus(z, largest)
        results.losses[lo:hi] += direction.share * losses[:, 0]
        return
    products = [tile.times(tile.scores) for tile in tiles]
    z = sum(product[:, -1:] for product in products)
    losses, slope = softplus(z, largest)
    results.losses[lo:hi] += direction.share * losses[:, 0]
    c = direction.share * weights[lo:hi, None] * slope
    for tile, product in zip(tiles, products, strict=True):
        tile.pull(results, lo, c, product)
    total = c * z
    to_anchors, to_positives = pull_positives(total, anchors, positives, tau)
    results.add(lo, pair.anchors, to_anchors)
    results.add(lo, pair.keys, to_positives)
    results.add_shared("margin", cupy.sum(total) / tau)


def contrast(plan: Plan[Any], weights: Array | None) -> tuple[Array, dict[str, Array]] | None:
    """The losses of all rows and, where there are weights, the gradients; None where the reference must do it."""
    if isinstance(plan.rows, Nested):
        return plan.rows.carried_out(contrast, weights)
    found = directions(plan.rows)
    if found is None:
        return None
    results = Results(cupy.zeros(plan.queries, found[0].rows.tau.dtype), {}, {})
    for direction in found:
        columns = sum(block.keys.values.shape[-2] for block in direction.rows.layout(0, 1).blocks)
        height = max(1, min(plan.block_size, max(FEWEST, TILE // max(columns, 1))))
        keys = Keys()
        for lo in range(0, plan.queries, height):
            visit(direction, lo, min(lo + height, plan.queries), weights, keys, results)
    return results.losses, results.total()


# --- the losses ------------------------------------------------------------------------------------------------------


def checked(plan: Plan[Any]) -> Plan[Any]:
    """The plan, once its arrays are CuPy's."""
    if not is_cupy_namespace(plan.xp):
        raise TypeError(f"infonce_ref.backends.cupy takes CuPy's arrays, got {plan.xp.__name__}'s [input.array]")
    return plan


def value(plan: Plan[Any], device: Device) -> Array:
    """The loss."""
    found = contrast(checked(plan), None)
    return reference.value(plan, device) if found is None else plan.reduction.apply(found[0])


def value_and_grad(plan: Plan[Any], device: Device) -> Any:
    """The loss and a named tuple of its gradients; for reduction="none" those of the sum of the entries."""
    found = contrast(checked(plan), plan.reduction.transpose(1.0))
    if found is None:
        return reference.value_and_grad(plan, device)
    losses, gradients = found
    return plan.reduction.apply(losses), plan.to_arguments(gradients)


def vjp(plan: Plan[Any], device: Device) -> Any:
    """The loss and its pullback: a cotangent shaped as the loss → the named tuple of gradients."""
    found = contrast(checked(plan), None)
    if found is None:
        return reference.vjp(plan, device)

    def pullback(cotangent: Array | float) -> Any:
        with device:
            again = contrast(plan, plan.reduction.transpose(cotangent))
            assert again is not None
            return plan.to_arguments(again[1])

    return plan.reduction.apply(found[0]), pullback


class CuPyLoss(OfReference, Loss[Any, Any]):
    """A loss of the reference, carried out in tiles on the arguments' device."""

    forms: Mapping[str, Callable[[Plan[Any], Device], Any]] = {
        "value": value, "value_and_grad": value_and_grad, "vjp": vjp
    }  # fmt: skip

    def __init__(self, loss: Loss[Any, Any]) -> None:
        super().__init__(loss.plan)
        vars(self).update(reference=loss, __module__=__name__)


clip = CuPyLoss(infonce_ref.clip)
dcl = CuPyLoss(infonce_ref.dcl)
debiased = CuPyLoss(infonce_ref.debiased)
gte = CuPyLoss(infonce_ref.gte)
hard_negative = CuPyLoss(infonce_ref.hard_negative)
info_nce = CuPyLoss(infonce_ref.info_nce)
info_nce_from_logits = CuPyLoss(infonce_ref.info_nce_from_logits)
mil_nce = CuPyLoss(infonce_ref.mil_nce)
moco = CuPyLoss(infonce_ref.moco)
n_pair = CuPyLoss(infonce_ref.n_pair)
nt_xent = CuPyLoss(infonce_ref.nt_xent)
siglip = CuPyLoss(infonce_ref.siglip)
soft_nce = CuPyLoss(infonce_ref.soft_nce)
sup_con = CuPyLoss(infonce_ref.sup_con)
triplet = CuPyLoss(infonce_ref.triplet)


def matryoshka(loss: Loss[P, G], dims: Sequence[int], weights: Sequence[float] | None = None) -> Loss[P, G]:
    """`infonce_ref.matryoshka` of a loss of this module: in tiles where that is."""
    return CuPyLoss(infonce_ref.matryoshka(reference_of(loss), dims, weights))
