"""The rules beside the plain softmax: the positive left out of it, debiased negatives, sigmoids, the hinge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpmath import mp, mpf

from infonce_ref.conformance.bounds.ball import (
    LARGEST_LOGIT_RADIUS,
    Array,
    Ball,
    BoundTooLoose,
    Rounding,
    exp,
    log,
    log1p,
    trust,
)
from infonce_ref.conformance.bounds.rows import (
    LogSumExp,
    Row,
    Scored,
    highest,
    less_positive,
    live_rows,
    logsumexp,
    pick,
)
from infonce_ref.conformance.bounds.stages import divide_by_temperature
from infonce_ref.conformance.problem import Problem

# ------------------------------------------------------------------------------------------------------- dcl


def decoupled(given: Scored) -> Row:
    """Logsumexp over the negatives less the positive, or less its weighted logit; shares less the weight."""
    logits, at, rounding = less_positive(given), given.at, given.rounding
    u, eta = rounding.unit, rounding.eta
    trust(logits.radius, at.active & ~at.alone[:, None])
    negatives = logsumexp(logits, at.negative, at.seen, rounding)
    weight = decoupled_weights(given)
    positive = pick(logits.value, at.positive)
    value = negatives.value - weight.value * positive
    product = weight.size * abs(positive)
    carried = abs(weight.value) * pick(logits.radius, at.positive) + weight.radius * abs(positive)
    radius = negatives.radius + carried + 2 * u * product + u * abs(value)
    gradient = Ball(
        np.where(at.positive, -weight.value, negatives.share),
        np.where(at.positive, weight.size, negatives.share),
        np.where(at.positive, weight.radius + 2 * u * weight.size, negatives.share * negatives.share_loss + 2 * eta),
    )
    return live_rows(Row(Ball(value, abs(negatives.value) + product, radius)[:, 0], gradient), at)


def decoupled_weights(given: Scored) -> Ball:
    """(R, 1): 1, or with sigma 2 - N softmax_i(sim(a_i, b_i) / sigma) of the similarities themselves."""
    pairs, sigma = len(given.at.active), given.problem.option("sigma")
    ones = np.full((pairs, 1), mpf(1))
    if sigma is None:
        return Ball(ones, ones, ones * 0)
    similar = given.sims.map(lambda part: pick(part, given.at.positive).T)
    logits = divide_by_temperature(similar, mpf(sigma), given.rounding)
    among = np.ones((1, pairs), dtype=bool)
    trust(logits.radius, among)
    softmax = logsumexp(logits, among, among, given.rounding)
    share = pairs * softmax.share.T
    lost = share * softmax.share_loss.T + 2 * given.rounding.unit * (2 + share) + pairs * given.rounding.eta
    return Ball(2 - share, 2 + share, lost)


# ------------------------------------------------------------------------------- debiased and hard negatives


@dataclass(frozen=True)
class Bracket:
    """The negatives' corrected mean over e^{s_p}: max(mean - prior part, floor), each (R, 1)."""

    mean: Ball  # e^A / (1 - prior) / e^{s_p}; A the reweighted mean's logarithm
    prior: Ball  # prior / (1 - prior)
    floor: Ball  # e^{-1/t} / e^{s_p}; 0 where there is none
    least: Array  # what roundings may leave of the bracket at least
    on_floor: Array  # bool: the floor is the larger
    undecided: Array  # bool: roundings may decide which is

    @property
    def value(self) -> Array:
        return np.where(self.on_floor, self.floor.value, self.mean.value - self.prior.value)

    @property
    def radius(self) -> Array:
        data = self.mean.radius + self.prior.radius
        one = np.where(self.on_floor, self.floor.radius, data)
        return np.where(self.undecided, np.maximum(self.floor.radius, data), one)


def option(problem: Problem, name: str) -> mpf:
    return mpf(problem.options.get(name, 0.0))


def debiased(given: Scored) -> Row:
    """log(1 + M g / e^{s_p}), g = max((e^A - prior e^{s_p}) / (1 - prior), e^{-1/t}): docs/spec/bounds.md."""
    logits, at, rounding = given.logits, given.at, given.rounding
    u, beta = rounding.unit, option(given.problem, "beta")
    live = ~at.alone[:, None]
    trust((1 + 2 * beta) * logits.radius, at.active & live)
    depth = np.maximum(abs(logits.value), abs(logits.value - highest(logits.value, at.active | at.seen)))
    sharp = weighted(logits, 1 + beta, 2 + 9 * beta, depth, given)
    flat = weighted(logits, beta, 9 * beta, depth, given)
    exponent, of_positive = sharp.value - flat.value, pick(logits.value, at.positive)

    long = abs(exponent) + abs(of_positive) + abs(sharp.value) + abs(flat.value)  # what logarithms lose is relative to
    lost_mean = sharp.radius + flat.radius + u * long + 8 * u
    lost_positive = pick(logits.radius + 2 * u * depth, at.positive) + u * long + 8 * u
    bracket = bracket_of(given, exponent - of_positive, lost_mean, lost_positive)
    count = at.negative.sum(axis=1, keepdims=True).astype(object)
    odds, radius = np.where(live, count * bracket.value, mpf(0)), count * bracket.radius
    least = np.where(live, count * bracket.least, mpf(0))

    loss, sigma = log1p(odds), odds / (1 + odds)
    moved = np.maximum(log1p(odds + radius) - loss, loss - log1p(least))
    size = 2 * abs(of_positive) + loss
    losses = Ball(loss, size, moved + sigma * lost_positive + 4 * u * size + 6 * u)

    slope, of_slope = count / (1 + odds), np.maximum((1 + odds) / (1 + least) - 1, radius / (1 + odds + radius))
    of_slope = of_slope + lost_positive + 2 * u * (long + abs(log(1 + odds))) + 8 * u
    by_mean = slope * bracket.mean.value
    parts = [
        (1 + beta) * sharp.share * (of_slope + lost_mean + sharp.share_loss),
        beta * flat.share * (of_slope + lost_mean + flat.share_loss),
    ]
    data = by_mean * ((1 + beta) * sharp.share - beta * flat.share)
    by_negatives = kinked(data, by_mean * ((1 + beta) * sharp.share + beta * flat.share), by_mean * sum(parts), bracket)
    by_prior = slope * bracket.prior.value
    of_prior = kinked(by_prior, by_prior, by_prior * (of_slope + lost_positive + 8 * u), bracket)
    alone = (1 - sigma) * (of_slope + lost_positive + 8 * u) + 2 * u * (2 - sigma)
    gradient = Ball(
        np.where(at.positive, -of_prior.value - sigma, by_negatives.value),
        np.where(at.positive, of_prior.size + 2 - sigma, by_negatives.size),
        np.where(at.positive, of_prior.radius + alone, by_negatives.radius) + 4 * rounding.eta,
    )
    jump = np.where(bracket.undecided, sigma, mpf(0))
    lost_sigma = sigma * (of_slope + bracket_loss(bracket) + 4 * u / mpf(given.problem.temperature))
    on_floor = np.where(bracket.on_floor, sigma, mpf(0))
    floor = Ball(on_floor, on_floor + jump, np.where(bracket.on_floor, lost_sigma, mpf(0)) + jump)
    return live_rows(Row(losses[:, 0], gradient, floor=floor[:, 0].where(~at.alone)), at)


def weighted(logits: Ball, power: mpf, losses: mpf, depth: Array, given: Scored) -> LogSumExp:
    """Logsumexp over the negatives of `power` times their logits, `losses` roundings of each exponent."""
    u = given.rounding.unit
    radius = power * logits.radius + losses * u * depth
    return logsumexp(
        Ball(power * logits.value, power * logits.size, radius), given.at.negative, given.at.negative, given.rounding
    )


def bracket_of(given: Scored, relative: Array, lost_mean: Array, lost_positive: Array) -> Bracket:
    """The bracket and its floor, everything over e^{s_p}; `relative` is A - s_p."""
    u, prior, temperature = given.rounding.unit, option(given.problem, "prior"), mpf(given.problem.temperature)
    live = ~given.at.alone[:, None]
    logarithms = (abs(mp.log(prior)) if prior else mpf(0)) - mp.log(1 - prior)
    mean = np.where(live, exp(relative) / (1 - prior), mpf(0))
    of_prior = mean * 0 + prior / (1 - prior)
    above = Ball(mean, mean, mean * (lost_mean + u * logarithms + 6 * u))
    below = Ball(of_prior, of_prior, of_prior * (lost_positive + 2 * u * logarithms + 8 * u))
    above = Ball(above.value, above.size, above.radius + 2 * u * (above.size + below.size))
    data, lost = above.value - below.value, above.radius + below.radius
    if given.problem.similarity != "cosine":
        vague = live & (lost > LARGEST_LOGIT_RADIUS * data)
        if vague.any():
            raise BoundTooLoose("a bracket may be off by more than 1e-2 of itself, and there is no floor")
        nothing = Ball(mean * 0, mean * 0, mean * 0)
        return Bracket(above, below, nothing, np.where(live, data - lost, mpf(0)), data < data, data < data)
    floor = exp(-1 / temperature - pick(given.logits.value, given.at.positive))
    lowest = Ball(floor, floor, floor * (4 * u / temperature + 8 * u))
    undecided = live & (abs(data - floor) <= lost + lowest.radius)
    least = np.maximum(data - lost, floor - lowest.radius)
    return Bracket(above, below, lowest, least, data < floor, undecided)


def bracket_loss(bracket: Bracket) -> Array:
    """The floor's relative error."""
    return np.where(bracket.on_floor, bracket.floor.radius / np.where(bracket.on_floor, bracket.floor.value, 1), mpf(0))


def kinked(value: Array, size: Array, radius: Array, bracket: Bracket) -> Ball:
    """What is there above the floor only; near it either is right."""
    above, near = ~bracket.on_floor, bracket.undecided
    jump = np.where(near, np.where(above, abs(value), abs(value) + radius), mpf(0))
    return Ball(
        np.where(above, value, mpf(0)),
        np.where(above | near, size, mpf(0)),
        np.where(above, radius, mpf(0)) + jump,
    )


# ------------------------------------------------------------------------------------------- sigmoid and hinge


def sigmoids(given: Scored) -> Row:
    """The sum over the pairs of log(1 + e^x), x = s or, where the pair belongs together, -s; signed sigmoids."""
    logits, at, rounding = given.logits, given.at, given.rounding
    u, eta = rounding.unit, rounding.eta
    trust(logits.radius, at.active)
    sign = np.where(at.positive, mpf(-1), mpf(1))
    x = np.where(at.active, sign * logits.value, mpf(0))
    odds = exp(x)
    sigma, each = odds / (1 + odds), np.where(at.active, log1p(odds), mpf(0))
    argument = logits.radius + 2 * u * abs(x) + 4 * u
    radius = np.where(at.active, sigma * argument + 3 * u + 5 * u * each + eta, mpf(0))
    loss = each.sum(axis=1)
    count = at.active.sum(axis=1).astype(object)
    gradient = Ball(sign * sigma, sigma, sigma * (argument / (1 + odds) + 6 * u) + 3 * u + 2 * eta)
    losses = Ball(loss, loss, radius.sum(axis=1) + rounding.gamma(count) * loss)
    return Row(losses, gradient.where(at.active))


def hinge(given: Scored) -> Row:
    """The mean over the negatives of max(0, s_j - s_p); its slope, 1 or 0, and near the kink either."""
    logits, at, rounding = given.logits, given.at, given.rounding
    u = rounding.unit
    gap = logits.value - pick(logits.value, at.positive)
    size = logits.size + pick(logits.size, at.positive)
    lost = logits.radius + pick(logits.radius, at.positive) + 2 * u * size
    above = at.negative & (gap > 0)
    near = at.negative & (abs(gap) <= lost) & (lost > 0)
    share = 1 / np.where(at.alone, mpf(1), at.negative.sum(axis=1).astype(object) * mpf(1))[:, None]
    terms = np.where(above, gap, mpf(0))
    radius = np.where(above, lost, np.where(near, gap + lost, mpf(0)))
    count = at.negative.sum(axis=1, keepdims=True).astype(object)
    mean, sums = share * terms.sum(axis=1, keepdims=True), rounding.gamma(count) + 3 * u
    losses = Ball(mean, mean, share * radius.sum(axis=1, keepdims=True) + sums * mean)
    slope = Ball(
        np.where(above, share, mpf(0)),
        np.where(above | near, share, mpf(0)),
        np.where(near, share, mpf(0)) + np.where(above | near, 3 * u * share, mpf(0)),
    )
    gradient = Ball(
        np.where(at.positive, -slope.value.sum(axis=1, keepdims=True), slope.value),
        np.where(at.positive, slope.size.sum(axis=1, keepdims=True), slope.size),
        np.where(at.positive, minus_slopes(slope, count, rounding), slope.radius),
    )
    return live_rows(Row(losses[:, 0], gradient), at)


def minus_slopes(slope: Ball, count: Array, rounding: Rounding) -> Array:
    """The radius of the slopes' sum."""
    return slope.radius.sum(axis=1, keepdims=True) + rounding.gamma(count) * slope.size.sum(axis=1, keepdims=True)
