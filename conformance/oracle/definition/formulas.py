"""The losses of one row: value and gradient by its logits, those of its positives and those of its negatives.

    nu = logsumexp of the negatives' logits, −∞ where there is none      pi = logsumexp of the positives'

Textbook formulas, no numerical care but digits. Arrays are 1-D and hold mpf; −∞ is a number here (e^−∞ = 0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from mpmath import mp

Array = np.ndarray[Any, Any]

exp = np.frompyfunc(mp.exp, 1, 1)
log = np.frompyfunc(mp.log, 1, 1)

ROUNDING = 20  # digits that may be lost to rounding: what is smaller, relative to its terms, is no difference


class Term(NamedTuple):
    """A row's loss and its derivatives: by the logits, and by the floor's logit −1/τ where there is one."""

    value: Any
    by_positive: Array
    by_negative: Array
    by_floor: Any = mp.zero


Formula = Callable[[Array, Array], Term]


def logsumexp(s: Array) -> Any:
    return log(exp(s).sum())


def softmax(s: Array) -> Array:
    share: Array = exp(s) / exp(s).sum()
    return share


def softplus(x: Any) -> Any:
    return log(1 + exp(x))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + exp(-x))


def rounding(size: Any) -> Any:
    """The most that rounding can make of terms of this size."""
    return size * mp.mpf(10) ** (ROUNDING - mp.dps)


# --- softmax losses --------------------------------------------------------------------------------


def bag(positive: Array, negative: Array) -> Term:
    """softplus(ν − π): one positive, or a bag of them; the gradient is p less the share among the positives."""
    value = softplus(logsumexp(negative) - logsumexp(positive))
    e_p, e_n = exp(positive), exp(negative)
    total = e_p.sum() + e_n.sum()
    return Term(value, e_p / total - e_p / e_p.sum(), e_n / total)


def inside(positive: Array, negative: Array) -> Term:
    """softplus(ν − π) + log |P|: the mean over the positives inside the logarithm."""
    term = bag(positive, negative)
    return term._replace(value=term.value + mp.log(len(positive)))


def outside(positive: Array, negative: Array, weight: Array) -> Term:
    """−Σ_p w_p log p_p, p being the softmax over all candidates: softplus(ν − π) + π − s̄ where Σ w = 1."""
    e_p, e_n = exp(positive), exp(negative)
    total, all_weight = e_p.sum() + e_n.sum(), weight.sum()
    value = (weight * (log(total) - positive)).sum()
    return Term(value, all_weight * e_p / total - weight, all_weight * e_n / total)


def sincere(positive: Array, negative: Array) -> Term:
    """The mean over the positives of softplus(ν − s_p): each positive for itself, the others in neither place."""
    count = len(positive)
    values, by_positive, by_negative, _ = zip(*(bag(positive[p : p + 1], negative) for p in range(count)), strict=True)
    return Term(sum(values) / count, np.concatenate(by_positive) / count, np.array(by_negative).sum(axis=0) / count)


def decoupled(positive: Array, negative: Array, weight: Any) -> Term:
    """ν − w s_p: the positive is left out of the denominator."""
    value = logsumexp(negative) - weight * positive[0]
    return Term(value, np.array([-weight], dtype=object), softmax(negative))


def debiased(positive: Array, negative: Array, prior: Any, beta: Any, floor: Any) -> Term:
    """log(1 + M g / e^{s_p}), g = max((e^A − prior e^{s_p}) / (1 − prior), e^floor), A = lse((1+β)s) − lse(βs).

    A tie takes the data's side. Without a floor (−∞) the bracket must be positive.
    """
    count = len(negative)
    if count == 0:
        return Term(mp.zero, 0 * positive, negative)
    e_p = exp(positive[0])
    e_a = exp(logsumexp((1 + beta) * negative) - logsumexp(beta * negative))
    bracket, least = (e_a - prior * e_p) / (1 - prior), exp(floor)
    if least == 0 and bracket <= 0:
        raise ValueError("the bracket must be positive where the similarity has no floor: there is no exact answer")
    if bracket >= least - rounding((e_a + e_p + least) * (1 + abs(positive[0]) + abs(negative).max())):
        a_by_negative = (1 + beta) * softmax((1 + beta) * negative) - beta * softmax(beta * negative)
        g, by_floor = bracket, mp.zero
        by_positive, by_negative = -prior * e_p / (1 - prior) / g, e_a / (1 - prior) / g * a_by_negative
    else:
        g, by_floor = least, mp.one
        by_positive, by_negative = mp.zero, 0 * negative
    odds = count * g / e_p
    share = odds / (1 + odds)  # dL / d log(g / e^s_p)
    return Term(log(1 + odds), np.array([share * (by_positive - 1)]), share * by_negative, share * by_floor)


# --- beside the softmax ----------------------------------------------------------------------------


def paired(positive: Array, negative: Array) -> Term:
    """Σ softplus(−y s): each pair for itself, y = 1 if it belongs together, else −1."""
    value = softplus(-positive).sum() + softplus(negative).sum()
    return Term(value, -sigmoid(-positive), sigmoid(negative))


def hinge(positive: Array, negative: Array, size: Array) -> Term:
    """The mean over the negatives of max(0, s_a − s_p), slope 0 at the kink; `size` is that of the terms of s_a − s_p.

    On the kink the difference is rounding alone.
    """
    gap = negative - positive[0]
    above = gap > rounding(size)
    slope = np.where(above, mp.one / len(negative), mp.zero)
    return Term((slope * gap).sum(), np.array([-slope.sum()]), slope)
