"""Links: the losses of the rows from their logits' differences, each with its pullback: row weights → ∂L/∂d.

ν is the logsumexp of a row's negatives, π that of its positives. One positive is the reference of its row itself, so
that π = 0; several are referred to the largest of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple, TypeAlias

from infonce_ref.arrays import Array, Namespace, column, row_numbers
from infonce_ref.scores import Differences

Link: TypeAlias = Callable[[Namespace, Sequence[Differences]], tuple[Array, Callable[[Array], list[Array]]]]
RowLink: TypeAlias = Callable[[Namespace, Differences], tuple[Array, Callable[[Array], Array]]]


# --- parts of every link ---------------------------------------------------------------------------------------------


def where(xp: Namespace, condition: Array | None, x: Array) -> Array:
    """x, and 0 where the condition doesn't hold."""
    return x if condition is None else xp.where(condition, x, xp.zeros_like(x))


def everywhere(xp: Namespace, like: Array, keep: Array | None) -> Array:
    return xp.zeros_like(like) == 0 if keep is None else keep


def softplus(xp: Namespace, x: Array) -> tuple[Array, Array]:
    """softplus(x) = max(x, 0) + log1p(e^{−|x|}) and σ(x), in the form whose first two derivatives are right at 0."""
    zero, positive = xp.zeros_like(x), x > 0
    t = xp.exp(xp.where(positive, -x, x))
    return xp.where(positive, x, zero) + xp.log1p(t), xp.where(positive, xp.ones_like(t), t) / (1 + t)


class LogSumExp(NamedTuple):
    """log Σ_j e^{d_j} of every row, and what its gradient is made of: e_j / Z."""

    some: Array  # (n,) bool: the sum has a term
    value: Array  # (n,); 0 where it has none
    e: list[Array]  # e^{d − shift} of each block, 0 where nothing is summed
    z: Array  # (n,): their sum, 1 where it has no term

    def spread(self, weights: Array) -> list[Array]:
        """Each row's weight, shared out among its terms."""
        per_z = column(weights / self.z)
        return [per_z * e for e in self.e]


def log_sum_exp(xp: Namespace, d: Sequence[Array], keep: Sequence[Array | None]) -> LogSumExp:
    """The logsumexp over several blocks at once, each summed where it is kept."""
    some = reduce(xp.logical_or, (xp.any(everywhere(xp, *block), axis=-1) for block in zip(d, keep, strict=True)))
    shift = where(xp, some, reduce(xp.maximum, (row_max(xp, *block) for block in zip(d, keep, strict=True))))
    e = [shifted_exp(xp, *block, shift) for block in zip(d, keep, strict=True)]
    total = sum(xp.sum(x, axis=-1) for x in e)
    z = xp.where(some, total, xp.ones_like(total))
    return LogSumExp(some, shift + xp.log(z), e, z)


def row_max(xp: Namespace, d: Array, keep: Array | None) -> Array:
    """The largest of each row where it is kept, −inf where nothing is."""
    if d.shape[-1] == 0:
        return xp.full_like(xp.sum(d, axis=-1), -float("inf"))
    return xp.max(d if keep is None else xp.where(keep, d, xp.full_like(d, -float("inf"))), axis=-1)


def shifted_exp(xp: Namespace, d: Array, keep: Array | None, shift: Array) -> Array:
    """e^{d − shift}, 0 where nothing is kept; masked twice, so that no overflow hides from autodiff."""
    return where(xp, keep, xp.exp(where(xp, keep, d - column(shift))))


def negatives(xp: Namespace, blocks: Sequence[Differences]) -> LogSumExp:
    """ν."""
    return log_sum_exp(xp, [b.values for b in blocks], [b.keep for b in blocks])


# --- one positive ----------------------------------------------------------------------------------------------------


def softplus_link(xp: Namespace, blocks: Sequence[Differences]) -> tuple[Array, Callable[[Array], list[Array]]]:
    """L_i = softplus(ν_i − π_i) = softplus(log Σ_j e^{d_ij}), 0 for a row without negatives."""
    nu = negatives(xp, blocks)
    value, sigmoid = softplus(xp, nu.value)

    def pullback(weights: Array) -> list[Array]:
        return nu.spread(where(xp, nu.some, weights * sigmoid))  # ∂L/∂d_j = σ(x) e_j / Z

    return where(xp, nu.some, value), pullback  # rows.softplus candidates.none


def decoupled_link(xp: Namespace, blocks: Sequence[Differences]) -> tuple[Array, Callable[[Array], list[Array]]]:
    """L_i = ν_i − π_i: the positive left out of the denominator; 0 for a row without negatives."""
    nu = negatives(xp, blocks)

    def pullback(weights: Array) -> list[Array]:
        return nu.spread(where(xp, nu.some, weights))

    return where(xp, nu.some, nu.value), pullback  # dcl.rows dcl.none


def weighted_link(weight: Array) -> Link:
    """L_i = ν_i − w_i π_i, where the last column is −π_i: the difference of a similarity of 0 to the positive's."""

    def link(xp: Namespace, blocks: Sequence[Differences]) -> tuple[Array, Callable[[Array], list[Array]]]:
        *negative, origin = blocks
        nu = negatives(xp, negative)
        excess = weight - 1

        def pullback(weights: Array) -> list[Array]:
            weights = where(xp, nu.some, weights)
            return [*nu.spread(weights), column(weights * excess)]

        return where(xp, nu.some, nu.value + excess * origin.values[:, 0]), pullback  # dcl.weighted

    return link


def reweighted_link(prior: float, beta: float, floored: bool) -> Link:
    """L = softplus(log M + max(log g, floor)): negatives reweighted by e^{βs}, less the share `prior` of positives.

    With A = lse((1 + β)d) − lse(βd), log g = A + log(1 − prior e^{−A}) − log(1 − prior). Where `floored`, the last
    column is the floor: the difference of the least similarity, −1, to the positive's.
    """

    def link(xp: Namespace, blocks: Sequence[Differences]) -> tuple[Array, Callable[[Array], list[Array]]]:
        negative = blocks[:-1] if floored else blocks
        d, keep = [b.values for b in negative], [b.keep for b in negative]
        upper = log_sum_exp(xp, [(1 + beta) * x for x in d], keep)
        lower = log_sum_exp(xp, [beta * x for x in d], keep)
        some, a = upper.some, upper.value - lower.value
        count = sum(xp.sum(xp.astype(everywhere(xp, x, k), x.dtype), axis=-1) for x, k in zip(d, keep, strict=True))
        log_m = xp.log(xp.where(some, count, xp.ones_like(count)))

        c = a - math.log(prior) if prior > 0 else None  # log of the mean over prior · e^{s_p}
        log_g, slope, sound = a, xp.ones_like(a), some
        if c is not None:
            sound = ~(c <= 0)  # NaN stays one
            safe = xp.where(sound, c, xp.ones_like(c))
            rest = -xp.expm1(-safe)
            log_g = a + xp.log(rest) - math.log1p(-prior)
            slope = 1 / rest
        if floored:
            floor = blocks[-1].values[:, 0]
            of_data = sound & ((log_g >= floor) | (log_g != log_g))
            x = log_m + xp.where(of_data, log_g, floor)  # debiased.floor
        else:
            of_data = sound
            x = log_m + xp.where(sound | ~some, log_g, xp.full_like(log_g, float("nan")))
        value, sigmoid = softplus(xp, x)

        def pullback(weights: Array) -> list[Array]:
            weights = where(xp, some, weights * sigmoid)
            to_a = where(xp, of_data, weights * slope) if floored else weights * slope
            up, down = upper.spread((1 + beta) * to_a), lower.spread(beta * to_a)
            g = [u - v for u, v in zip(up, down, strict=True)]
            return [*g, column(weights - where(xp, of_data, weights))] if floored else g

        return where(xp, some, value), pullback  # debiased.rows hard-negative.rows

    return link


def hinge_link(xp: Namespace, blocks: Sequence[Differences]) -> tuple[Array, Callable[[Array], list[Array]]]:
    """L_i = mean over the negatives of max(0, d_ij), the subgradient 0 at the kink."""
    count = sum(xp.sum(xp.astype(everywhere(xp, b.values, b.keep), b.values.dtype), axis=-1) for b in blocks)
    count = xp.where(count == 0, xp.ones_like(count), count)  # triplet.none
    active = [~(b.values <= 0) for b in blocks]  # NaN stays one
    positive_parts = [where(xp, on, b.values) for on, b in zip(active, blocks, strict=True)]
    total = sum(xp.sum(x, axis=-1) for x in positive_parts)

    def pullback(weights: Array) -> list[Array]:
        each = column(weights / count)
        return [where(xp, on, each + xp.zeros_like(b.values)) for on, b in zip(active, blocks, strict=True)]

    return total / count, pullback  # triplet.rows triplet.kink


# --- several positives -----------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """The three numbers of a row with several positives, and softplus(ν − π)."""

    nu: LogSumExp
    pi: LogSumExp
    mean: Array  # s̄, (n,)
    count: Array  # |P|, (n,); 1 where there is none
    contrast: Array
    sigmoid: Array

    def pull_contrast(self, weights: Array) -> Array:
        """∂ softplus(ν − π) / ∂d: σ(x) shared out among the negatives, less σ(x) among the positives."""
        (to_negatives,), (to_positives,) = (
            self.nu.spread(weights * self.sigmoid),
            self.pi.spread(weights * self.sigmoid),
        )
        difference: Array = to_negatives - to_positives
        return difference


def parts(xp: Namespace, d: Differences) -> Parts:
    """ν, π, s̄ and |P| of every row; softplus(ν − π) is 0 without a negative, and without a positive."""
    nu, pi = log_sum_exp(xp, [d.values], [d.keep]), log_sum_exp(xp, [d.values], [d.positive])
    count = xp.sum(xp.astype(d.positive, d.values.dtype), axis=-1)
    count = xp.where(pi.some, count, xp.ones_like(count))
    value, sigmoid = softplus(xp, nu.value - pi.value)
    both = nu.some & pi.some
    mean = xp.sum(where(xp, d.positive, d.values), axis=-1) / count
    return Parts(nu, pi, mean, count, where(xp, both, value), where(xp, both, sigmoid))


def bag_link(xp: Namespace, d: Differences) -> tuple[Array, Callable[[Array], Array]]:
    """L_i = softplus(ν − π): all positives in the numerator together."""
    p = parts(xp, d)
    return p.contrast, p.pull_contrast  # mil-nce.rows


def inside_link(xp: Namespace, d: Differences) -> tuple[Array, Callable[[Array], Array]]:
    """L_i = softplus(ν − π) + log|P|: the mean over the positives inside the logarithm."""
    p = parts(xp, d)
    return p.contrast + xp.log(p.count), p.pull_contrast  # sup-con.in


def outside_link(xp: Namespace, d: Differences) -> tuple[Array, Callable[[Array], Array]]:
    """L_i = softplus(ν − π) + π − s̄: the mean over the positives outside the logarithm."""
    p = parts(xp, d)

    def pullback(weights: Array) -> Array:
        weights = where(xp, p.pi.some, weights)
        (shares,) = p.pi.spread(weights)
        return p.pull_contrast(weights) + shares - where(xp, d.positive, column(weights / p.count))

    return p.contrast + where(xp, p.pi.some, p.pi.value - p.mean), pullback  # sup-con.out


def sincere_link(xp: Namespace, d: Differences) -> tuple[Array, Callable[[Array], Array]]:
    """L_i = mean over the positives of softplus(ν − s_p): the other positives in neither place."""
    p = parts(xp, d)
    both = where(xp, d.positive, column(p.nu.some))
    value, sigmoid = softplus(xp, where(xp, both, column(p.nu.value) - d.values))

    def pullback(weights: Array) -> Array:
        to_each = where(xp, both, column(weights / p.count) * sigmoid)
        (to_negatives,) = p.nu.spread(xp.sum(to_each, axis=-1))
        return to_negatives - to_each

    return xp.sum(where(xp, both, value), axis=-1) / p.count, pullback  # sup-con.sincere


def soft_link(targets: Array) -> RowLink:
    """L_i = −Σ_c t_c log softmax(d)_c, of differences to the largest: every term of the sum is ≥ 0."""

    def link(xp: Namespace, d: Differences) -> tuple[Array, Callable[[Array], Array]]:
        s, keep = d.values, everywhere(xp, d.values, d.keep)
        lowest = xp.full_like(s, -float("inf"))
        first = xp.argmax(xp.where(keep, s, lowest), axis=-1, keepdims=True)
        columns = row_numbers(xp, xp.matrix_transpose(s))
        largest = columns[None, :] == xp.astype(first, columns.dtype)
        s = s - xp.sum(where(xp, largest, s), axis=-1, keepdims=True)  # 0: tells autodiff which of equal ones it is
        e = where(xp, keep & ~largest, xp.exp(where(xp, keep, s)))
        rest = xp.sum(e, axis=-1)
        total = xp.sum(targets, axis=-1)

        def pullback(weights: Array) -> Array:
            others = column(total / (1 + rest)) * e - where(xp, ~largest, targets)
            of_largest = where(xp, largest, -xp.sum(others, axis=-1, keepdims=True) + xp.zeros_like(s))
            return column(weights) * (others + of_largest)

        # The largest is left out of the second sum, where it is 0: its derivative too is then a sum of small terms.
        below = xp.sum(where(xp, ~largest, targets * s), axis=-1)
        return total * xp.log1p(rest) - below, pullback  # soft-nce.rows

    return link


# --- every pair by itself --------------------------------------------------------------------------------------------


def pairs_link(xp: Namespace, d: Differences) -> tuple[Array, Callable[[Array], Array]]:
    """L_i = Σ_j softplus(−y_ij s_ij), y = 1 for a positive and −1 for a negative."""
    ones = xp.ones_like(d.values)
    sign = xp.where(d.positive, ones, -ones)
    either = everywhere(xp, d.values, d.keep) | d.positive
    value, sigmoid = softplus(xp, -sign * d.values)

    def pullback(weights: Array) -> Array:
        return where(xp, either, -column(weights) * sign * sigmoid)

    return xp.sum(where(xp, either, value), axis=-1), pullback  # siglip.rows
