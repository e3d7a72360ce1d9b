"""Reduction: one number from the losses of the queries. Linear, so its transpose is known before any loss is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from infonce_ref.arrays import Array, Namespace, in_dtype

REDUCTIONS = ("mean", "sum", "none")


class Reduction(NamedTuple):
    apply: Callable[[Array], Array]  # losses (N,) → the value
    transpose: Callable[[Array], Array]  # cotangent of the value → row weights (N,)


def reduce_by(
    xp: Namespace, kind: str, like: Array, sample_weight: Array | None, counted: Array | None = None
) -> Reduction:
    """`kind` of the losses of the rows of `like` (2-D), each times its weight: Σ w L / Σ w, Σ w L, or every w L.

    Rows that aren't counted weigh 0.
    """
    ones = xp.ones_like(xp.sum(like[:, :0], axis=-1))
    weight = ones if sample_weight is None else in_dtype(xp, sample_weight, like.dtype)  # reduction.weight
    if counted is not None:
        weight = xp.where(counted, weight, xp.zeros_like(weight))  # sup-con.none dcl.none
    if kind == "none":
        return Reduction(lambda losses: weight * losses, lambda c: c * weight)  # reduction.none
    if kind == "sum":
        return Reduction(lambda losses: xp.sum(weight * losses), lambda c: c * weight)  # reduction.sum
    total = xp.sum(weight)
    total = xp.where(total == 0, xp.ones_like(total), total)
    return Reduction(lambda losses: xp.sum(weight * losses) / total, lambda c: c * (weight / total))  # reduction.mean
