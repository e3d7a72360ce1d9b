"""How far from the exact answer a correct implementation may land: docs/spec/bounds.md, stage by stage.

A quantity is a Ball: its exact value; a size that no correct order of evaluation exceeds (the same
expression with every term in absolute value); and a radius that no correct order's error exceeds. A stage
of the loss has one rule for its value and one for its pullback, and `bound` composes them as the loss composes
them. First order in the unit roundoff: the rules hold while every logit's radius is small, and BoundTooLoose
says where it isn't.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from mpmath import mp, mpf

from infonce_ref.conformance.problem import FORMATS, Format, Problem

Level = Literal["textbook", "precise"]
Array = Any  # an np.ndarray, of mpf unless it says otherwise: operations on objects have no type
BilinearMap = Callable[[Array, Array], Array]

DIGITS = 30  # a radius needs a few; values are computed without cancellation
LARGEST_LOGIT_RADIUS = mpf("1e-2")  # beyond it second-order terms are no longer negligible

_mpf: Callable[[Any], Array] = np.frompyfunc(mpf, 1, 1)
_exp: Callable[[Any], Array] = np.frompyfunc(mp.exp, 1, 1)
_log: Callable[[Any], Array] = np.frompyfunc(mp.log, 1, 1)
_log1p: Callable[[Any], Array] = np.frompyfunc(mp.log1p, 1, 1)
_sqrt: Callable[[Any], Array] = np.frompyfunc(mp.sqrt, 1, 1)


class BoundTooLoose(ValueError):
    """A logit's radius is so large that a first-order bound says nothing."""


@dataclass(frozen=True)
class Ball:
    """An exact value; a size, at least |value|, that carries roundings; a radius, the error so far."""

    value: Array
    size: Array
    radius: Array

    def __getitem__(self, index: Any) -> Ball:
        return Ball(self.value[index], self.size[index], self.radius[index])

    def map(self, change: Callable[[Array], Array]) -> Ball:
        return Ball(change(self.value), change(self.size), change(self.radius))


@dataclass(frozen=True)
class Rounding:
    """What one operation may lose: `unit` relative to its result, `eta` where it underflows."""

    unit: mpf
    eta: mpf

    def gamma(self, count: Any) -> Any:
        """The relative loss of `count` roundings, one after the other."""
        return count * self.unit / (1 - count * self.unit)


@dataclass(frozen=True)
class Candidates:
    """Which keys each query meets: columns are the positive keys, then the explicit negatives."""

    active: Array  # (N, C) bool
    positive: Array  # (N, C) bool, one True in each row

    @property
    def negative(self) -> Array:
        return self.active & ~self.positive

    def terms(self, axis: int) -> Array:
        """How many terms a sum over `axis` may have: a positive may stand in it twice, once on its own."""
        return (self.active.sum(axis) + self.positive.sum(axis)).astype(object)


def exact(array: Array) -> Ball:
    """An input: no error yet."""
    value = _mpf(np.asarray(array, dtype=object))
    return Ball(value, abs(value), value * 0)


def flushed(target: Format) -> Format:
    """`target` on a device that flushes subnormal numbers to zero: eta is the smallest normal."""

    def smallest_normal(name: str) -> float:
        return FORMATS[name].tiny / (2 * FORMATS[name].unit)

    return replace(target, tiny=smallest_normal(target.name), compute_tiny=smallest_normal(target.compute))


# --------------------------------------------------------- products: every matrix product has this one rule


def product(multiply: BilinearMap, left: Ball, right: Ball, terms: Any, rounding: Rounding) -> Ball:
    """`multiply(left, right)`, each of its entries a sum of at most `terms` products."""
    size = multiply(left.size, right.size)
    carried = multiply(left.radius, abs(right.value)) + multiply(left.size, right.radius)
    underflow = np.where(size == 0, mpf(0), terms * rounding.eta)[()]
    return Ball(multiply(left.value, right.value), size, carried + rounding.gamma(terms) * size + underflow)


def total(terms: Ball, rounding: Rounding) -> Ball:
    """The sum of all entries, in any order."""
    size = terms.size.sum()
    return Ball(terms.value.sum(), size, terms.radius.sum() + rounding.gamma(terms.value.size) * size)


# ---------------------------------------------------------------------------------------------------- embed


def norms(vectors: Array) -> Array:
    """Euclidean norms along the last axis, kept; 1 for a zero row, so that divided by it it stays 0."""
    length = _sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    return np.where(length == 0, mpf(1), length)


def norm_loss(dimension: int, rounding: Rounding) -> mpf:
    """Relative error of an entry of x / |x|: half a sum's; root, reciprocal, product; a scaling before."""
    return rounding.gamma(dimension) / 2 + 5 * rounding.unit


def normalise(vectors: Ball, rounding: Rounding) -> Ball:
    """Unit rows x / |x|; a zero stays exactly zero."""
    value = vectors.value / norms(vectors.value)
    radius = norm_loss(value.shape[-1], rounding) * abs(value) + np.where(value == 0, mpf(0), rounding.eta)
    return Ball(value, abs(value), radius)


def normalise_pullback(vectors: Ball, unit: Ball, cotangent: Ball, rounding: Rounding) -> Ball:
    """(v - y (y . v)) / |x| for the cotangent v of y = x / |x|; 0 for a zero row."""
    u, eta, dimension = rounding.unit, rounding.eta, unit.value.shape[-1]
    loss, length = norm_loss(dimension, rounding), norms(vectors.value)

    def along(array: Array) -> Array:
        return (abs(unit.value) * array).sum(axis=-1, keepdims=True)

    component = (unit.value * cotangent.value).sum(axis=-1, keepdims=True)
    component_size = along(cotangent.size)
    component_radius = along(cotangent.radius) + (rounding.gamma(dimension) + 6 * u) * component_size
    value = cotangent.value - unit.value * component
    size = cotangent.size + abs(unit.value) * component_size
    radius = (
        cotangent.radius
        + abs(unit.value) * (component_radius + 3 * loss * abs(component))
        + loss * abs(value)
        + 4 * u * size
        + (dimension + 2) * eta
    )
    alive = (size != 0) & (vectors.value != 0).any(axis=-1, keepdims=True)
    result = Ball(value / length, size / length, radius / length + eta)
    return result.map(lambda part: np.where(alive, part, mpf(0)))


# --------------------------------------------------------------------------------------------------- scores


def own_or_shared(a: Array, b: Array) -> Array:
    """Rows against keys: (N, D) with (M, D) shared by all rows or (N, M, D) each row's own -> (N, M)."""
    return a @ b.T if b.ndim == 2 else (b @ a[:, :, None])[:, :, 0]


def weighted_keys(g: Array, b: Array) -> Array:
    """(N, M) weights of keys -> (N, D)."""
    return g @ b if b.ndim == 2 else (g[:, None, :] @ b)[:, 0, :]


def weighted_rows(g: Array, a: Array) -> Array:
    """(N, M) weights of rows -> (M, D)."""
    return g.T @ a


def own_weighted_rows(g: Array, a: Array) -> Array:
    """(N, M) weights of rows, each for that row's own keys -> (N, M, D)."""
    return g[:, :, None] * a[:, None, :]


def beside(parts: list[Ball]) -> Ball:
    """Blocks of columns as one."""
    return Ball(
        np.concatenate([part.value for part in parts], axis=1),
        np.concatenate([part.size for part in parts], axis=1),
        np.concatenate([part.radius for part in parts], axis=1),
    )


def added(parts: list[Ball]) -> Ball:
    """Balls of one shape, added; the additions are counted where the terms are."""
    return Ball(*(sum(getattr(part, name) for part in parts) for name in ("value", "size", "radius")))


def scores(rows: Ball, keys: list[Ball], rounding: Rounding) -> Ball:
    """Every row's inner product with every candidate."""
    dimension = rows.value.shape[-1]
    return beside([product(own_or_shared, rows, block, dimension, rounding) for block in keys])


def scores_pullback(
    cotangent: Ball, rows: Ball, keys: list[Ball], candidates: Candidates, rounding: Rounding
) -> tuple[Ball, list[Ball]]:
    """Cotangents of the rows, sums over candidates, and of the keys, sums over rows."""
    for_rows: list[Ball] = []
    for_keys: list[Ball] = []
    row_terms, column_terms = candidates.terms(1)[:, None], candidates.terms(0)[:, None]
    start = 0
    for block in keys:
        columns = slice(start, start := start + block.value.shape[-2])
        weights = cotangent[:, columns]
        for_rows.append(product(weighted_keys, weights, block, row_terms, rounding))
        if block.value.ndim == 2:
            for_keys.append(product(weighted_rows, weights, rows, column_terms[columns], rounding))
        else:
            for_keys.append(product(own_weighted_rows, weights, rows, 1, rounding))
    return added(for_rows), for_keys


# ----------------------------------------------------------------------------------- margin and temperature


def subtract_margin(sims: Ball, margin: mpf, candidates: Candidates, rounding: Rounding) -> Ball:
    """The positive's similarity less the margin."""
    if margin == 0:
        return sims
    size = np.where(candidates.positive, sims.size + abs(margin), sims.size)
    return Ball(
        np.where(candidates.positive, sims.value - margin, sims.value),
        size,
        sims.radius + np.where(candidates.positive, rounding.unit * size, mpf(0)),
    )


def margin_pullback(cotangent: Ball, candidates: Candidates, rounding: Rounding) -> Ball:
    """Minus the sum of the positives' cotangents."""
    summed = total(cotangent[candidates.positive], rounding)
    return replace(summed, value=-summed.value)


def divide_by_temperature(sims: Ball, temperature: mpf, rounding: Rounding) -> Ball:
    """Logits: divided or multiplied by a reciprocal, before or after the product, on one side or on both."""
    value, size = sims.value / temperature, sims.size / temperature
    underflow = rounding.eta * (1 + 1 / temperature)
    return Ball(value, size, sims.radius / temperature + 2 * rounding.unit * (size + abs(value)) + underflow)


def divide_pullback(cotangent: Ball, temperature: mpf, rounding: Rounding) -> Ball:
    """The logits' cotangent over the temperature."""
    size = cotangent.size / temperature
    radius = cotangent.radius / temperature + 4 * rounding.unit * size + rounding.eta * (1 + 1 / temperature)
    return Ball(cotangent.value / temperature, size, np.where(cotangent.size == 0, mpf(0), radius))


def temperature_pullback(cotangent: Ball, logits: Ball, terms: int, temperature: mpf, rounding: Rounding) -> Ball:
    """Minus the sum of cotangent times logit over the temperature."""
    scale = 1 / temperature
    summed = product(lambda g, s: (g * s).sum(), cotangent, logits, terms + 4, rounding)
    return Ball(-summed.value * scale, summed.size * scale, summed.radius * scale)


# ----------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class Row:
    """What the rows stage hands on: losses (N,) and their gradient by the logits (N, C)."""

    loss: Ball
    gradient: Ball
    differences: Ball  # what the gradient meets again in the temperature's pullback


@dataclass(frozen=True)
class RowValues:
    """Exact values of a row, free of cancellation: odds = sum over negatives of exp(s_j - s_p)."""

    differences: Array  # (N, C): s_c - s_p
    weights: Array  # (N, C): exp(s_c - s_p) for negatives, else 0
    odds: Array  # (N, 1)

    @property
    def loss(self) -> Array:
        return _log1p(self.odds[:, 0])

    def gradient(self, candidates: Candidates) -> Array:
        negatives = self.weights / (1 + self.odds)
        return np.where(candidates.positive, -self.odds / (1 + self.odds), negatives)


def at_positive(array: Array, candidates: Candidates) -> Array:
    """(N, C) -> (N, 1): the positive's entry of every row."""
    return array[candidates.positive][:, None]


def row_values(logits: Ball, candidates: Candidates) -> RowValues:
    """The definition, L = log(1 + odds), in high precision."""
    differences = np.where(candidates.active, logits.value - at_positive(logits.value, candidates), mpf(0))
    weights = differences * 0
    weights[candidates.negative] = _exp(differences[candidates.negative])
    return RowValues(differences, weights, weights.sum(axis=1, keepdims=True))


def shifted(values: Array, among: Array) -> tuple[Array, Array]:
    """The row's maximum over `among` (N, 1), 0 if there is none, and how far below it the others lie."""
    top = np.where(among, values, mpf("-inf")).max(axis=1, keepdims=True)
    top = np.where(among.any(axis=1, keepdims=True), top, mpf(0))
    return top, np.where(among, abs(values - top), mpf(0))


def textbook_rows(logits: Ball, candidates: Candidates, rounding: Rounding) -> Row:
    """The usual form: logsumexp over all candidates less the positive; its gradient, softmax less one-hot."""
    u, eta = rounding.unit, rounding.eta
    values = row_values(logits, candidates)
    positive = at_positive(logits.value, candidates)
    onehot = np.where(candidates.positive, mpf(1), mpf(0))
    softmax = (values.weights + onehot) / (1 + values.odds)
    count = candidates.active.sum(axis=1, keepdims=True).astype(object)
    top, below = shifted(logits.value, candidates.active)
    log_sum = _log(1 + values.odds) + positive - top
    level = top + log_sum

    carried = (softmax * (logits.radius + 2 * u * below)).sum(axis=1, keepdims=True)
    level_radius = carried + rounding.gamma(count) + 4 * u + count * eta + 4 * u * log_sum + u * abs(level)
    loss = Ball(
        values.loss[:, None],
        abs(level) + abs(positive),
        level_radius + at_positive(logits.radius, candidates) + u * abs(positive) + u * values.loss[:, None],
    )
    relative = logits.radius + level_radius + 2 * u * (below + log_sum) + 6 * u
    gradient = Ball(
        values.gradient(candidates),
        softmax + onehot,
        np.where(candidates.active, softmax * relative + 2 * eta, mpf(0)) + 2 * u * onehot,
    )
    return Row(loss[:, 0], gradient, logits)


def precise_rows(logits: Ball, candidates: Candidates, rounding: Rounding) -> Row:
    """The softplus form: softplus(x), x = max d + log sum exp(d - max d), d = s_j - s_p of the negatives."""
    u, eta = rounding.unit, rounding.eta
    values = row_values(logits, candidates)
    odds = np.where(values.odds == 0, mpf(1), values.odds)  # no negative: see live_rows
    share = values.weights / odds
    sigma = values.odds / (1 + values.odds)
    count = candidates.negative.sum(axis=1, keepdims=True).astype(object)
    top, below = shifted(values.differences, candidates.negative)
    argument = _log(odds)
    log_sum = argument - top
    positive_radius = at_positive(logits.radius, candidates)

    rounded = u * abs(values.differences) + 2 * u * below
    carried = (share * (logits.radius + rounded)).sum(axis=1, keepdims=True)
    sum_radius = carried + rounding.gamma(count) + 4 * u + count * eta
    argument_radius = sum_radius + positive_radius + u * abs(top) + 4 * u * log_sum + u * abs(argument)
    loss = values.loss[:, None]
    loss_radius = sigma * (argument_radius + u * abs(argument)) + 9 * u * loss + eta

    of_sigma = (argument_radius + u * abs(argument)) / (1 + values.odds)
    relative = of_sigma + logits.radius + sum_radius + rounded + 14 * u
    negative = np.where(candidates.negative, values.weights / (1 + values.odds) * relative + 3 * eta, mpf(0))
    minus_sum = negative.sum(axis=1, keepdims=True) + rounding.gamma(count) * sigma
    gradient = values.gradient(candidates)
    difference_radius = logits.radius + positive_radius + u * abs(values.differences) + eta
    return Row(
        Ball(loss, loss, loss_radius)[:, 0],
        Ball(gradient, abs(gradient), np.where(candidates.positive, minus_sum, negative)),
        Ball(values.differences, abs(values.differences), difference_radius),
    )


def live_rows(row: Row, candidates: Candidates) -> Row:
    """A row without a negative is exactly 0, so is its gradient, whatever its logits; masked entries too."""
    live = candidates.negative.any(axis=1)
    return Row(
        row.loss.map(lambda part: np.where(live, part, mpf(0))),
        row.gradient.map(lambda part: np.where(live[:, None] & candidates.active, part, mpf(0))),
        row.differences,
    )


# ------------------------------------------------------------------------------------------------ reduction


def row_weights(weights: Array | None, count: int, mean: bool, rounding: Rounding) -> Ball:
    """The factor of every row: 1 or w_i, for the mean divided by N or by the sum of the weights."""
    value = np.full(count, mpf(1)) if weights is None else _mpf(weights.astype(object))
    if not mean:
        return Ball(value, value, value * 0)
    summed = value.sum()
    value = value / summed if summed else value * 0
    lost = 2 * rounding.unit + (0 if weights is None else rounding.gamma(count))
    return Ball(value, value, lost * value)


def reduce_rows(losses: Ball, factors: Ball, summed: bool, rounding: Rounding) -> Ball:
    """Factor times loss, and their sum unless the reduction is "none"."""
    size = factors.value * losses.size
    carried = factors.value * losses.radius + factors.radius * losses.size
    radius = carried + rounding.unit * size + rounding.eta
    terms = Ball(factors.value * losses.value, size, np.where(size == 0, mpf(0), radius))
    return total(terms, rounding) if summed else terms


def reduce_pullback(gradient: Ball, factors: Ball, rounding: Rounding) -> Ball:
    """Every row of the gradient times its factor."""
    value, size = factors.value[:, None] * gradient.value, factors.value[:, None] * gradient.size
    radius = (
        factors.value[:, None] * gradient.radius
        + factors.radius[:, None] * abs(gradient.value)
        + rounding.unit * size
        + rounding.eta
    )
    return Ball(value, size, np.where(size == 0, mpf(0), radius))


# ------------------------------------------------------------------------------------------------ the whole


def candidates_of(problem: Problem) -> Candidates:
    """Who is a candidate for whom; entries of the mask on the positive are ignored."""
    rows, keys = len(problem.arrays["query"]), len(problem.arrays["positive_key"])
    negatives = problem.arrays.get("negative_keys")
    explicit = 0 if negatives is None else negatives.shape[-2]
    index = problem.arrays.get("positive_index", np.arange(rows)).astype(int)
    positive = np.zeros((rows, keys + explicit), dtype=bool)
    positive[np.arange(rows), index] = True
    active = np.ones((rows, keys + explicit), dtype=bool)
    active[:, :keys] = problem.in_batch_negatives
    mask = problem.arrays.get("candidate_mask")
    if mask is not None:
        active[:, active.shape[1] - mask.shape[1] :] &= mask
    return Candidates(active | positive, positive)


def key_blocks(problem: Problem, candidates: Candidates) -> list[Ball]:
    """Positive keys and explicit negatives; one that no query meets may hold anything and is zeroed first."""
    keys = problem.arrays["positive_key"]
    met = candidates.active.any(axis=0)
    blocks = [exact(np.where(met[: len(keys), None], keys, 0.0))]
    negatives = problem.arrays.get("negative_keys")
    if negatives is not None:
        met = met[len(keys) :] if negatives.ndim == 2 else candidates.active[:, len(keys) :]
        blocks.append(exact(np.where(met[..., None], negatives, 0.0)))
    return blocks


def check_first_order(logits: Ball, candidates: Candidates) -> None:
    """Refuse a problem whose logits, where they matter, may be off by more than first order allows."""
    matter = candidates.active & candidates.negative.any(axis=1, keepdims=True)
    worst = logits.radius[matter].max(initial=mpf(0))
    if worst > LARGEST_LOGIT_RADIUS:
        raise BoundTooLoose(f"a logit may be off by {mp.nstr(worst, 3)}, more than {LARGEST_LOGIT_RADIUS}")


def store(gradient: Ball, target: Format) -> Array:
    """The radius of a stored gradient, which is narrowed once, or in two parts that are added: twice at most."""
    unit = mpf(target.unit) if target.unit != target.compute_unit else mpf(0)
    rounded = 2 * unit * (abs(gradient.value) + gradient.radius) + mpf(target.tiny)
    return np.asarray(gradient.radius + rounded, dtype=object)


def bound(
    problem: Problem,
    format: Format,  # noqa: A002  the word everybody uses for it
    level: Level = "textbook",
) -> dict[str, np.ndarray]:
    """Elementwise bound on |computed - exact| of the loss and of every gradient, if computed correctly."""
    with mp.workdps(DIGITS):
        return _bound(problem, format, {"textbook": textbook_rows, "precise": precise_rows}[level])


def _bound(
    problem: Problem, target: Format, rows_of: Callable[[Ball, Candidates, Rounding], Row]
) -> dict[str, np.ndarray]:
    rounding = Rounding(mpf(target.compute_unit), mpf(target.compute_tiny))
    temperature, margin = mpf(problem.temperature), mpf(problem.margin)
    candidates = candidates_of(problem)
    query, blocks = exact(problem.arrays["query"]), key_blocks(problem, candidates)
    cosine, weight = problem.similarity == "cosine", problem.arrays.get("bilinear_weight")
    matrix = None if weight is None else exact(weight)

    # forward
    anchors, keys = query, blocks
    if cosine:
        anchors, keys = normalise(query, rounding), [normalise(block, rounding) for block in blocks]
    if matrix is not None:
        anchors = product(np.matmul, query, matrix, query.value.shape[1], rounding)
    sims = subtract_margin(scores(anchors, keys, rounding), margin, candidates, rounding)
    logits = divide_by_temperature(sims, temperature, rounding)
    check_first_order(logits, candidates)
    row = live_rows(rows_of(logits, candidates, rounding), candidates)
    factors = row_weights(problem.arrays.get("sample_weight"), len(query.value), problem.reduction == "mean", rounding)
    loss = reduce_rows(row.loss, factors, problem.reduction != "none", rounding)

    # pullbacks, in the opposite order
    by_logits = reduce_pullback(row.gradient, factors, rounding)
    terms = max(int(candidates.terms(1).sum()), query.value.size)
    by_temperature = temperature_pullback(by_logits, row.differences, terms, temperature, rounding)
    by_sims = divide_pullback(by_logits, temperature, rounding)
    by_margin = margin_pullback(by_sims, candidates, rounding)
    by_anchors, by_keys = scores_pullback(by_sims, anchors, keys, candidates, rounding)
    gradients = {"temperature": by_temperature, "margin": by_margin}
    if matrix is not None:
        transposed = matrix.map(np.transpose)
        gradients["bilinear_weight"] = product(
            np.matmul, query.map(np.transpose), by_anchors, len(query.value), rounding
        )
        by_anchors = product(np.matmul, by_anchors, transposed, transposed.value.shape[0], rounding)
    if cosine:
        by_anchors = normalise_pullback(query, anchors, by_anchors, rounding)
        by_keys = [normalise_pullback(*each, rounding) for each in zip(blocks, keys, by_keys, strict=True)]
    gradients["query"] = by_anchors
    gradients.update(zip(("positive_key", "negative_keys"), by_keys, strict=False))

    radii = {"loss": np.asarray(loss.radius + rounding.eta, dtype=object)}
    return radii | {name: store(gradients[name], target) for name in problem.differentiable}
