"""Embed: rows as the similarity sees them. x → u, once per array, outside any loop."""

from __future__ import annotations

from collections.abc import Callable

from infonce_ref.arrays import Array, DType, Namespace, in_dtype

Pullback = Callable[[Array], Array]


def cast(xp: Namespace, x: Array, dtype: DType) -> tuple[Array, Pullback]:
    """x in the compute dtype; the gradient goes back to the dtype that x is stored in."""
    stored = x.dtype
    return in_dtype(xp, x, dtype), lambda g: in_dtype(xp, g, stored)  # dtype.result


def power_of_two_below(xp: Namespace, magnitude: Array) -> Array:
    """The largest power of two ≤ each magnitude (1 if that isn't finite), itself and its reciprocal normal numbers.

    Exact, and constant for autodiff: a bisection by comparisons. The standard has no frexp, and log2, exp2 and pow are
    not exact on every library.
    """
    magnitude = xp.where(xp.isfinite(magnitude), magnitude, xp.ones_like(magnitude))
    smallest = float(xp.finfo(magnitude.dtype).smallest_normal)
    top = 64 if smallest > 2.0**-127 else 512
    power = xp.zeros_like(magnitude) + smallest
    # The exponents add up to where the reciprocal is the smallest normal number: no product overflows, and XLA, which
    # divides by multiplying with the reciprocal, would flush a smaller one to 0.
    for exponent in (top, top, top - 3, *(top >> i for i in range(1, top.bit_length()))):
        larger = power * 2.0**exponent
        power = xp.where(magnitude >= larger, larger, power)
    return power


def unit_rows(xp: Namespace, x: Array) -> tuple[Array, Pullback]:
    """u = x / ‖x‖ along the last axis, and 0 where x is 0; the pullback projects onto the tangent of the sphere."""
    scale = power_of_two_below(xp, xp.max(xp.abs(x), axis=-1, keepdims=True))  # similarity.cosine.scale
    y = x / scale
    square = xp.sum(y * y, axis=-1, keepdims=True)
    zero = square == 0
    norm, scale = xp.sqrt(xp.where(zero, xp.ones_like(square), square)), xp.where(zero, xp.ones_like(scale), scale)
    u = xp.where(zero, xp.zeros_like(y), y / norm)  # similarity.cosine similarity.cosine.zero

    def pullback(v: Array) -> Array:
        tangent = v - u * xp.sum(u * v, axis=-1, keepdims=True)
        # In this order the result is the true value, which ~1/‖x‖ may overflow; scale * norm would overflow too early.
        return xp.where(zero, xp.zeros_like(y), tangent / norm / scale)

    return u, pullback


def plain_rows(xp: Namespace, x: Array) -> tuple[Array, Pullback]:
    """u = x."""
    return x, lambda v: v  # similarity.dot


def used_rows(xp: Namespace, x: Array, used: Array | None) -> tuple[Array, Pullback]:
    """x with the rows that nobody uses set to 0, so that they may hold anything."""
    if used is None:
        return x, lambda g: g

    def only_used(g: Array) -> Array:
        return xp.where(used[..., None], g, xp.zeros_like(g))

    return only_used(x), only_used  # candidates.mask.unused


RowMap = Callable[[Namespace, Array], tuple[Array, Pullback]]

SIMILARITIES: dict[str, RowMap] = {"cosine": unit_rows, "dot": plain_rows, "bilinear": plain_rows}


def embed(
    xp: Namespace, x: Array | None, dtype: DType, rows: RowMap, used: Array | None = None
) -> tuple[Array, Pullback]:
    """x as the similarity sees it: in the compute dtype, unused rows cleared, then `rows`. No array gives None."""
    if x is None:
        return None, lambda v: None
    computed, to_stored = cast(xp, x, dtype)
    cleared, only_used = used_rows(xp, computed, used)
    u, to_rows = rows(xp, cleared)
    return u, lambda v: to_stored(only_used(to_rows(v)))


def embed_query(
    xp: Namespace, query: Array, dtype: DType, rows: RowMap, weight: Array | None
) -> tuple[Array, Callable[[Array], tuple[Array, Array | None]]]:
    """The query's `embed`, after q → q W where there is a W: ⟨q W, k⟩ = qᵀ W k. Pulls back to the query and to W."""
    if weight is None:
        u, to_query = embed(xp, query, dtype, rows)
        return u, lambda v: (to_query(v), None)
    x, to_stored = cast(xp, query, dtype)
    w, weight_to_stored = cast(xp, weight, dtype)
    u = xp.matmul(x, w)  # similarity.bilinear

    def pullback(v: Array) -> tuple[Array, Array]:
        to_query = xp.matmul(v, xp.matrix_transpose(w))
        to_weight = xp.matmul(xp.matrix_transpose(x), v)  # gradient.bilinear-weight
        return to_stored(to_query), weight_to_stored(to_weight)

    return u, pullback
