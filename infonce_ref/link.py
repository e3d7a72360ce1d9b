"""Link: the loss of a query from its differences d_j = s_j − s_p."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from infonce_ref.arrays import Array, Namespace, column
from infonce_ref.scores import Differences


def row_max(xp: Namespace, d: Differences) -> Array:
    """The largest difference among the negatives of each query, −inf where it has none."""
    if d.values.shape[-1] == 0:
        return xp.full_like(xp.sum(d.values, axis=-1), -float("inf"))
    if d.keep is None:
        return xp.max(d.values, axis=-1)
    return xp.max(xp.where(d.keep, d.values, xp.full_like(d.values, -float("inf"))), axis=-1)


def shifted_exp(xp: Namespace, d: Differences, shift: Array) -> Array:
    """e^{d − shift} of the negatives, 0 elsewhere; masked twice, so that no overflow hides from autodiff."""
    difference = d.values - column(shift)
    if d.keep is None:
        return xp.exp(difference)
    zero = xp.zeros_like(difference)
    return xp.where(d.keep, xp.exp(xp.where(d.keep, difference, zero)), zero)


def has_negative(xp: Namespace, d: Differences) -> Array:
    """Whether a query has a negative in this block."""
    keep = xp.ones_like(d.values, dtype=xp.bool) if d.keep is None else d.keep
    return xp.any(keep, axis=-1)


def softplus_link(xp: Namespace, blocks: Sequence[Differences]) -> tuple[Array, Callable[[Array], list[Array]]]:
    """L_i = softplus(ν_i − π_i) = softplus(log Σ_j e^{d_ij}), 0 for a query without negatives."""
    some = reduce(xp.logical_or, (has_negative(xp, d) for d in blocks))
    largest = reduce(xp.maximum, (row_max(xp, d) for d in blocks))
    shift = xp.where(some, largest, xp.zeros_like(largest))
    e = [shifted_exp(xp, d, shift) for d in blocks]
    total = sum(xp.sum(x, axis=-1) for x in e)
    z = xp.where(some, total, xp.ones_like(total))
    x = shift + xp.log(z)  # ν − π

    # max(x, 0) + log1p(e^{−|x|}), in the form whose first two derivatives are right at x = 0
    zero, positive = xp.zeros_like(x), x > 0
    t = xp.exp(xp.where(positive, -x, x))
    losses = xp.where(some, xp.where(positive, x, zero) + xp.log1p(t), zero)  # rows.softplus candidates.none

    def pullback(weights: Array) -> list[Array]:
        sigmoid = xp.where(positive, xp.ones_like(t), t) / (1 + t)
        share = column(xp.where(some, weights * sigmoid / z, zero))
        return [share * x for x in e]  # ∂L/∂d_j = σ(x) e_j / Z

    return losses, pullback
