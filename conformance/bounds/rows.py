"""The softmax rules: from a row's logits to its loss and the gradient by the logits.

A rule bounds the usual formula of its loss in whatever order it is evaluated (level `textbook`), or its form without
cancellation (level `precise`). Beside the softmax stand the rules of `others`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mpmath import mpf

from infonce_ref.conformance.bounds.ball import Array, Ball, Rounding, as_mpf, exp, log, log1p, trust
from infonce_ref.conformance.bounds.layouts import Direction
from infonce_ref.conformance.problem import Problem


@dataclass(frozen=True)
class Scored:
    """What a rule is given: the rows of one direction."""

    problem: Problem
    at: Direction
    sims: Ball  # before the margin
    scaled: Ball  # (sim - margin) / temperature
    logits: Ball  # with what is added after the temperature
    rounding: Rounding


@dataclass(frozen=True)
class Row:
    """What a rule gives: losses (R,), their gradient by the logits (R, C), and what that meets in the temperature's."""

    loss: Ball
    gradient: Ball
    reference: Array | None = None  # (R,): the column that logits are taken from before; None: logits as they are
    floor: Ball | None = None  # (R,): the gradient by a floor's logit, minus one over the temperature


Rule = Callable[[Scored], Row]


# ----------------------------------------------------------------------------------------------- logsumexp


@dataclass(frozen=True)
class LogSumExp:
    """A row's logsumexp over some columns, (R, 1), and what its bound is made of."""

    value: Array
    radius: Array
    share: Array  # (R, C): the softmax over those columns, 0 elsewhere
    share_loss: Array  # (R, C): its relative error
    top: Array  # the columns' maximum, 0 where there is none
    depth: Array  # |value - what was subtracted|, at least


def highest(values: Array, among: Array) -> Array:
    """The row's maximum over `among` (R, 1), 0 if there is none."""
    top = np.where(among, values, mpf("-inf")).max(axis=1, keepdims=True)
    return np.where(among.any(axis=1, keepdims=True), top, mpf(0))


def logsumexp(logits: Ball, among: Array, seen: Array, rounding: Rounding) -> LogSumExp:
    """m + log sum exp(s - m), m being the maximum over `among`, or over `seen` and so perhaps larger."""
    u = rounding.unit
    some = among.any(axis=1, keepdims=True)
    top, over = highest(logits.value, among), highest(logits.value, among | seen)
    weights = np.where(among, exp(np.where(among, logits.value - top, mpf(0))), mpf(0))
    weight = np.where(some, weights.sum(axis=1, keepdims=True), mpf(1))
    share, value = weights / weight, top + log(weight)
    depth = np.maximum(log(weight), abs(value - over))
    below = np.where(among, abs(logits.value - over), mpf(0))
    count = among.sum(axis=1, keepdims=True).astype(object)
    carried = (share * (logits.radius + 2 * u * below)).sum(axis=1, keepdims=True)
    radius = carried + rounding.gamma(count) + 4 * u + count * rounding.eta + 4 * u * depth + u * abs(value)
    share_loss = logits.radius + radius + 2 * u * (below + depth) + 6 * u
    return LogSumExp(value, radius, share, share_loss, top, depth)


def pick(array: Array, flags: Array) -> Array:
    """(R, C) -> (R, 1): the entry of the one column that is flagged."""
    return np.where(flags, array, mpf(0)).sum(axis=1, keepdims=True)


# --------------------------------------------------------------------------- one positive: log(1 + odds)


@dataclass(frozen=True)
class RowValues:
    """Exact values of a row, free of cancellation: odds = sum over negatives of exp(s_j - s_p)."""

    differences: Array  # (R, C): s_c - s_p
    weights: Array  # (R, C): exp(s_c - s_p) for negatives, else 0
    odds: Array  # (R, 1)

    @property
    def loss(self) -> Array:
        return log1p(self.odds)

    def gradient(self, at: Direction) -> Array:
        return np.where(at.positive, -self.odds / (1 + self.odds), self.weights / (1 + self.odds))


def row_values(logits: Ball, at: Direction) -> RowValues:
    """The definition, L = log(1 + odds), in high precision."""
    differences = np.where(at.active, logits.value - pick(logits.value, at.positive), mpf(0))
    weights = differences * 0
    weights[at.negative] = exp(differences[at.negative])
    return RowValues(differences, weights, weights.sum(axis=1, keepdims=True) + mpf(0))


def live_rows(row: Row, at: Direction) -> Row:
    """A row without a negative is exactly 0, so is its gradient, whatever its logits; masked entries too."""
    live = ~at.alone
    return Row(row.loss.where(live), row.gradient.where(live[:, None] & at.active), row.reference, row.floor)


def usual_rows(given: Scored) -> Row:
    """Logsumexp over all candidates less the positive; its gradient, softmax less one-hot."""
    logits, at, rounding = less_positive(given), given.at, given.rounding
    u, eta = rounding.unit, rounding.eta
    live = ~at.alone | (at.seen & ~at.active).any(axis=1)
    trust(logits.radius, at.active & live[:, None])
    values, lse = row_values(logits, at), logsumexp(logits, at.active, at.seen, rounding)
    positive, onehot = pick(logits.value, at.positive), at.positive * mpf(1)
    loss = Ball(
        values.loss,
        abs(lse.value) + abs(positive),
        lse.radius + pick(logits.radius, at.positive) + u * abs(positive) + u * values.loss,
    )
    gradient = Ball(
        values.gradient(at),
        lse.share + onehot,
        np.where(at.active, lse.share * lse.share_loss + 2 * eta, mpf(0)) + (2 * u + minus_sum(given, values)) * onehot,
    )
    return Row(loss[:, 0].where(live), gradient.where(live[:, None] & at.active))


def minus_sum(given: Scored, values: RowValues) -> Array:
    """What the positive's gradient loses as minus the sum of the negatives'; info_nce's bounds leave it out."""
    if given.problem.loss == "info_nce" and given.problem.logit_bias is None:
        return mpf(0)
    count = given.at.negative.sum(axis=1, keepdims=True).astype(object)
    return given.rounding.gamma(count) * values.odds / (1 + values.odds)


def less_positive(given: Scored) -> Ball:
    """The logits, with what taking off the positive first, or the largest, loses of each; targets have none to take."""
    logits, at = given.logits, given.at
    if given.problem.loss == "soft_nce":
        return logits
    lost = 2 * given.rounding.unit * abs(logits.value - highest(logits.value, at.positive))
    return Ball(logits.value, logits.size, logits.radius + np.where(at.active, lost, mpf(0)))


# -------------------------------------------------------------------------- the softplus form, level `precise`


def softplus_rows(given: Scored) -> Row:
    """softplus(x), x = log sum exp(d) over the negatives less that over the positives, d = s - the largest positive."""
    logits, at, rounding = given.logits, given.at, given.rounding
    u, eta = rounding.unit, rounding.eta
    trust(logits.radius, at.active & ~at.alone[:, None])
    reference = np.where(at.positive, logits.value, mpf("-inf")).argmax(axis=1)
    several = at.positive.sum(axis=1, keepdims=True) > 1
    differences = logits.value - np.take_along_axis(logits.value, reference[:, None], axis=1)

    negative = shares_below(differences, logits.radius, at.negative, rounding)
    positive = shares_below(differences, logits.radius, at.positive, rounding)
    of_positives = np.where(several, positive.loss + 4 * u * positive.log_sum + u * positive.log_sum, mpf(0))
    alone = at.alone[:, None]
    argument = np.where(alone, mpf(0), negative.top + negative.log_sum - positive.log_sum)
    odds = np.where(alone, mpf(0), exp(argument))
    sigma, loss = odds / (1 + odds), log1p(odds)
    positive_radius = (positive.share * logits.radius).sum(axis=1, keepdims=True)

    argument_radius = (
        negative.loss + positive_radius + of_positives
        + u * abs(negative.top) + 4 * u * negative.log_sum + 2 * u * abs(argument)
    )  # fmt: skip
    loss_radius = sigma * argument_radius + 9 * u * loss + eta
    of_lse = u * abs(negative.top + negative.log_sum)
    by_negative = argument_radius / (1 + odds) + logits.radius + negative.loss + negative.rounded + of_lse + 14 * u
    radius = np.where(at.negative, sigma * negative.share * by_negative + 3 * eta, mpf(0))
    count = at.negative.sum(axis=1, keepdims=True).astype(object)
    minus_sum = radius.sum(axis=1, keepdims=True) + rounding.gamma(count) * sigma
    by_share = logits.radius + positive_radius + positive.loss + positive.rounded + 14 * u + u * positive.log_sum
    of_share = np.where(several, sigma * positive.share * by_share + 3 * eta, mpf(0))
    by_positive = positive.share * minus_sum + of_share
    value = sigma * (negative.share - positive.share)
    gradient = Ball(value, abs(value), np.where(at.positive, by_positive, radius))
    return live_rows(Row(Ball(loss, loss, loss_radius)[:, 0], gradient, reference), at)


@dataclass(frozen=True)
class Shares:
    """exp(d - max d) over its sum, among some columns."""

    share: Array
    top: Array
    log_sum: Array  # log of the sum
    loss: Array  # the sum's relative error, without what the positives' errors bring
    rounded: Array  # (R, C): what forming d and d - max d loses


def shares_below(differences: Array, radius: Array, among: Array, rounding: Rounding) -> Shares:
    """The shares of `among`, and their sum's error."""
    u = rounding.unit
    some = among.any(axis=1, keepdims=True)
    top = highest(differences, among)
    weights = np.where(among, exp(np.where(among, differences - top, mpf(0))), mpf(0))
    weight = np.where(some, weights.sum(axis=1, keepdims=True), mpf(1))
    share = weights / weight
    rounded = u * abs(differences) + 2 * u * np.where(among, abs(differences - top), mpf(0))
    count = among.sum(axis=1, keepdims=True).astype(object)
    carried = (share * (radius + rounded)).sum(axis=1, keepdims=True)
    loss = carried + rounding.gamma(count) + 4 * u + count * rounding.eta
    return Shares(share, top, log(weight), loss, rounded)


# -------------------------------------------------------------------------------------------- several positives


def usual_bag(given: Scored) -> Row:
    """Logsumexp over all candidates less that over the positives; softmax less the positives' own softmax."""
    logits, at, rounding = less_positive(given), given.at, given.rounding
    u = rounding.unit
    trust(logits.radius, at.active & at.positive.any(axis=1, keepdims=True))
    everyone = logsumexp(logits, at.active, at.seen, rounding)
    positive = logsumexp(logits, at.positive, at.seen | at.active, rounding)
    inside = given.problem.loss == "sup_con"
    sizes = log(as_mpf(np.maximum(at.positive.sum(axis=1, keepdims=True), 1).astype(object))) if inside else mpf(0)
    odds = (everyone.value - positive.value) + sizes
    loss = Ball(
        odds,
        abs(everyone.value) + abs(positive.value) + sizes,
        everyone.radius + positive.radius + 5 * u * abs(odds) + 5 * u * sizes + 4 * u,
    )
    gradient = Ball(
        everyone.share - positive.share,
        everyone.share + positive.share,
        everyone.share * everyone.share_loss + positive.share * (positive.share_loss + 2 * u) + 4 * rounding.eta,
    )
    return single_positives(Row(loss[:, 0], gradient.where(at.active)), given)


def single_positives(row: Row, given: Scored) -> Row:
    """Where one positive stands alone, loss and gradient are exactly 0."""
    lonely = given.at.alone & (given.at.positive.sum(axis=1) == 1)
    return Row(row.loss.where(~lonely), row.gradient.where(~lonely[:, None]), row.reference)


def usual_targets(given: Scored) -> Row:
    """The weighted mean over the positives of logsumexp less logit; its gradient, softmax less weights."""
    logits, at, rounding = less_positive(given), given.at, given.rounding
    u = rounding.unit
    trust(logits.radius, at.active & at.positive.any(axis=1, keepdims=True))
    weights, lost = weights_of(given)
    everyone = logsumexp(logits, at.active, at.seen, rounding)
    own = logsumexp(logits, at.positive, at.seen | at.active, rounding)
    count = at.positive.sum(axis=1, keepdims=True).astype(object)
    whole = weights.sum(axis=1, keepdims=True)
    value = (weights * (everyone.value - logits.value)).sum(axis=1, keepdims=True)
    size = whole * abs(everyone.value) + (weights * abs(logits.value)).sum(axis=1, keepdims=True)
    carried = (weights * (logits.radius + u * abs(logits.value))).sum(axis=1, keepdims=True)
    sums = rounding.gamma(count) + 2 * u + lost
    radius = whole * everyone.radius + carried + sums * size + u * abs(value) + abs(1 - whole) * abs(everyone.value)
    of_softmax = whole * everyone.share * (everyone.share_loss + sums) + abs(1 - whole) * everyone.share
    gradient = Ball(
        whole * everyone.share - weights,
        whole * everyone.share + weights + own.share,
        of_softmax + (2 * u + lost) * weights + 4 * u * own.share + 4 * rounding.eta,
    )
    return single_positives(Row(Ball(value, size, radius)[:, 0], gradient.where(at.active)), given)


def weights_of(given: Scored) -> tuple[Array, mpf]:
    """(R, C): the positives' weights, and what computing them loses; targets are given."""
    if given.problem.loss == "soft_nce":
        return as_mpf(given.problem.arrays["targets"].astype(object)), mpf(0)
    count = np.maximum(given.at.positive.sum(axis=1, keepdims=True), 1)
    return np.where(given.at.positive, 1 / as_mpf(count.astype(object)), mpf(0)), 2 * given.rounding.unit


# ------------------------------------------------------------------------------------ targets, level `precise`


def precise_targets(given: Scored) -> Row:
    """(sum t) log1p(sum over c not m of e^d) - sum t d, d = s - s_m, m being the largest logit: no term is negative."""
    logits, at, rounding = given.logits, given.at, given.rounding
    u, eta = rounding.unit, rounding.eta
    trust(logits.radius, at.active)
    weights, _ = weights_of(given)
    whole = weights.sum(axis=1, keepdims=True)
    reference = np.where(at.active, logits.value, mpf("-inf")).argmax(axis=1)
    at_top = np.arange(at.active.shape[1])[None, :] == reference[:, None]
    rest = at.active & ~at_top
    differences = np.where(at.active, logits.value - pick(logits.value, at_top), mpf(0))
    both = logits.radius + pick(logits.radius, at_top) + u * abs(differences)

    weight = np.where(rest, exp(differences), mpf(0))
    odds = weight.sum(axis=1, keepdims=True) + mpf(0)
    share, logarithm = weight / (1 + odds), log1p(odds)
    count = at.active.sum(axis=1, keepdims=True).astype(object)
    carried = (share * (both + 2 * u * abs(differences))).sum(axis=1, keepdims=True)
    sums = carried + (rounding.gamma(count) + 4 * u) * odds / (1 + odds) + count * eta
    far = np.where(rest, weights * abs(differences), mpf(0)).sum(axis=1, keepdims=True)
    far_radius = np.where(rest, weights * both, mpf(0)).sum(axis=1, keepdims=True)
    value = whole * logarithm + far
    loss_radius = (
        whole * (sums + 4 * u * logarithm) + abs(1 - whole) * logarithm + far_radius
        + (rounding.gamma(count) + 4 * u) * value + eta
    )  # fmt: skip

    relative = both + sums + 2 * u * abs(differences) + rounding.gamma(count) + 10 * u + abs(1 - whole) / whole
    size = whole * share + np.where(rest, weights, mpf(0))
    radius = np.where(rest, whole * share * relative + 2 * u * size + 3 * eta, mpf(0))
    gradient = whole * share - np.where(rest, weights, mpf(0))
    at_reference = -gradient.sum(axis=1, keepdims=True)
    size_there = size.sum(axis=1, keepdims=True)
    radius_there = radius.sum(axis=1, keepdims=True) + (rounding.gamma(count) + abs(1 - whole)) * size_there
    by_logits = Ball(
        np.where(at_top, at_reference, gradient),
        np.where(at_top, size_there, size),
        np.where(at_top, radius_there, radius),
    )
    return single_candidates(Row(Ball(value, value, loss_radius)[:, 0], by_logits.where(at.active), reference), at)


def single_candidates(row: Row, at: Direction) -> Row:
    """Where there is one candidate alone, loss and gradient are exactly 0."""
    several = at.active.sum(axis=1) > 1
    return Row(row.loss.where(several), row.gradient.where(several[:, None]), row.reference)
