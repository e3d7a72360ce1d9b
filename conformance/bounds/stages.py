"""The stages that every loss is made of: embed, scores, margin, temperature, bias, reduction, storage.

Each has one rule for its value and one for its pullback; docs/spec/bounds.md derives them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpmath import mpf

from infonce_ref.conformance.bounds.ball import (
    Array,
    Ball,
    Rounding,
    as_mpf,
    joined,
    product,
    sqrt,
    total,
)
from infonce_ref.conformance.bounds.layouts import Block, Direction
from infonce_ref.conformance.problem import Format

Tables = dict[str, Ball]


# ---------------------------------------------------------------------------------------------------- embed


def norms(vectors: Array) -> Array:
    """Euclidean norms along the last axis, kept; 1 for a zero row, so that divided by it it stays 0."""
    length = sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
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
    return Ball(value / length, size / length, radius / length + eta).where(alive)


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


def spans(at: Direction, tables: Tables) -> list[tuple[Block, slice]]:
    """Each block with its columns."""
    found, start = [], 0
    for block in at.blocks:
        columns = tables[block.right or block.left].value.shape[-2 if block.right else -1]
        width = columns if block.at is None else block.at[0].shape[1]
        found.append((block, slice(start, start + width)))
        start += width
    return found


def pairs(block: Block, flags: Array, tables: Tables) -> Array:
    """(L, K): how often each pair of a block's tables stands in the rows where flagged."""
    shape = (len(tables[block.left].value), tables[block.right or block.left].value.shape[-2 if block.right else -1])
    return block.scatter(flags.astype(int).astype(object), shape)


def met(at: Direction, block: Block, columns: slice, tables: Tables) -> tuple[Array, Array]:
    """(L, K): pairs that are candidates in any row, and how many terms each adds to a sum: a positive twice."""
    active = pairs(block, at.active[:, columns], tables) > 0
    positive = pairs(block, at.positive[:, columns], tables) > 0
    return active, active.astype(int) + positive.astype(int)


def scores(at: Direction, tables: Tables, rounding: Rounding) -> Ball:
    """Every row's inner product with every candidate; similarities that are given, as they are."""
    parts = []
    for block, _ in spans(at, tables):
        left = tables[block.left]
        if block.right is not None:
            left = product(own_or_shared, left, tables[block.right], left.value.shape[-1], rounding)
        parts.append(left.map(block.gather))
    return joined(parts, axis=1)


def spread(cotangent: Ball, at: Direction, block: Block, columns: slice, tables: Tables, rounding: Rounding) -> Ball:
    """The cotangent by pair, a pair that stands in several rows having their sum."""
    active = at.active[:, columns]
    count = pairs(block, active, tables)
    shape = count.shape
    summed = cotangent[:, columns].map(lambda part: block.scatter(part, shape))
    more = rounding.gamma(np.where(count > 1, count - 1, 0)) * summed.size
    return Ball(summed.value, summed.size, summed.radius + more)


def scores_pullback(
    cotangents: list[Ball], directions: list[Direction], tables: Tables, rounding: Rounding, copies: int = 1
) -> dict[str, list[Ball]]:
    """Cotangents of every table's rows: a part for each side of each block on which the table stands.

    A row's sums run over all pairs in which it stands, on both sides and in both directions, in any order; in every
    one of the `copies` that are added up.
    """
    terms = {name: np.zeros((*table.value.shape[:-1], 1), dtype=object) for name, table in tables.items()}
    for at in directions:
        for block, columns in spans(at, tables):
            if block.right is not None:
                _, count = met(at, block, columns, tables)
                terms[block.left] += copies * count.sum(axis=1)[:, None]
                own = tables[block.right].value.ndim == 3
                terms[block.right] += copies * (count[:, :, None] if own else count.sum(axis=0)[:, None])

    found: dict[str, list[Ball]] = {}
    for cotangent, at in zip(cotangents, directions, strict=True):
        for block, columns in spans(at, tables):
            weights = spread(cotangent, at, block, columns, tables, rounding)
            if block.right is None:
                found.setdefault(block.left, []).append(weights)
                continue
            left, right = tables[block.left], tables[block.right]
            back = weighted_rows if right.value.ndim == 2 else own_weighted_rows
            by_left = product(weighted_keys, weights, right, terms[block.left], rounding)
            by_right = product(back, weights, left, terms[block.right], rounding)
            found.setdefault(block.left, []).append(by_left)
            found.setdefault(block.right, []).append(by_right)
    return found


# ------------------------------------------------------------------------------------ margin, temperature, bias


def subtract_margin(sims: Ball, margin: mpf, positive: Array, rounding: Rounding) -> Ball:
    """The positives' similarities less the margin."""
    if margin == 0:
        return sims
    size = np.where(positive, sims.size + abs(margin), sims.size)
    return Ball(
        np.where(positive, sims.value - margin, sims.value),
        size,
        sims.radius + np.where(positive, rounding.unit * size, mpf(0)),
    )


def divide_by_temperature(sims: Ball, temperature: mpf, rounding: Rounding) -> Ball:
    """Logits: divided or multiplied by a reciprocal, before or after the product, on one side or on both."""
    value, size = sims.value / temperature, sims.size / temperature
    underflow = rounding.eta * (1 + 1 / temperature)
    return Ball(value, size, sims.radius / temperature + 2 * rounding.unit * (size + abs(value)) + underflow)


def divide_pullback(cotangent: Ball, temperature: mpf, rounding: Rounding) -> Ball:
    """The logits' cotangent over the temperature."""
    size = cotangent.size / temperature
    radius = cotangent.radius / temperature + 4 * rounding.unit * size + rounding.eta * (1 + 1 / temperature)
    return Ball(cotangent.value / temperature, size, radius).where(cotangent.size != 0)


def temperature_pullback(cotangent: Ball, logits: Ball, terms: int, temperature: mpf, rounding: Rounding) -> Ball:
    """Minus the sum of cotangent times logit over the temperature."""
    scale = 1 / temperature
    summed = product(lambda g, s: (g * s).sum(), cotangent, logits, terms + 4, rounding)
    return Ball(-summed.value * scale, summed.size * scale, summed.radius * scale)


def floor_pullback(by_floor: Ball, temperature: mpf, rounding: Rounding) -> Ball:
    """The sum of the floors' cotangents over the temperature squared, -1 / t being the floor's logit."""
    summed, scale = total(by_floor, rounding), 1 / temperature**2
    return Ball(summed.value * scale, summed.size * scale, (summed.radius + 4 * rounding.unit * summed.size) * scale)


def add_bias(scaled: Ball, bias: Ball, rounding: Rounding) -> Ball:
    """What is added to logits after the temperature, before or after a maximum is taken from them."""
    value, size = scaled.value + bias.value, scaled.size + bias.size
    rounded = rounding.unit * (abs(scaled.value) + bias.size)
    return Ball(value, size, scaled.radius + bias.radius + np.where(bias.size == 0, mpf(0), rounded))


def column_sums(cotangent: Ball, at: Direction, rounding: Rounding) -> Ball:
    """(R, C) -> (C,): the cotangent of what every row adds to its column."""
    count = at.active.sum(axis=0).astype(object)
    summed = cotangent.map(lambda part: part.sum(axis=0))
    return Ball(summed.value, summed.size, summed.radius + rounding.gamma(count) * summed.size)


# ------------------------------------------------------------------------------------------------ reduction


def row_weights(weights: Array | None, counted: Array, mean: bool, rounding: Rounding) -> Ball:
    """The factor of every entry: 1 or w_i, for the mean divided by how many count or by the sum of their weights."""
    value = np.where(counted, mpf(1) if weights is None else as_mpf(weights.astype(object)), mpf(0))
    if not mean:
        return Ball(value, value, value * 0)
    summed = value.sum()
    value = value / summed if summed else value * 0
    lost = 2 * rounding.unit + (0 if weights is None else rounding.gamma(len(value)))
    return Ball(value, value, lost * value)


def shares(at: Direction, rounding: Rounding) -> Ball:
    """One over the number of rows that an entry is the mean of; exact for one and two."""
    value = 1 / as_mpf(at.parts.astype(object))
    return Ball(value, value, np.where(at.parts > 2, 2 * rounding.unit * value, mpf(0)))


def times(factor: Ball, ball: Ball, rounding: Rounding) -> Ball:
    """A row's factor times a row's number; the factor's error is one for all, so it multiplies the true number."""
    value, size = factor.value * ball.value, factor.value * ball.size
    radius = factor.value * ball.radius + factor.radius * abs(ball.value) + rounding.unit * size + rounding.eta
    return Ball(value, size, radius).where(size != 0)


def entries_of(losses: list[Ball], directions: list[Direction], count: int, rounding: Rounding) -> Ball:
    """Rows to entries of the loss: their means."""
    if np.array_equal(directions[0].entry, np.arange(count)) and (directions[0].parts == 1).all():
        return losses[0]
    parts, owner = [], np.concatenate([at.entry for at in directions])
    for loss, at in zip(losses, directions, strict=True):
        share = shares(at, rounding)
        size = share.value * loss.size
        rounded = share.radius * loss.size + np.where(at.parts > 1, rounding.unit * size, mpf(0))
        parts.append(Ball(share.value * loss.value, size, share.value * loss.radius + rounded))
    rows = joined(parts, axis=0)
    sums = [total(rows[owner == entry], rounding, max(int((owner == entry).sum()) - 1, 0)) for entry in range(count)]
    return Ball(*(np.array([getattr(each, name) for each in sums], object) for name in ("value", "size", "radius")))


def reduce_entries(losses: Ball, factors: Ball, summed: bool, terms: int, rounding: Rounding) -> Ball:
    """Factor times loss, and their sum unless the reduction is "none"."""
    size = factors.value * losses.size
    carried = factors.value * losses.radius + factors.radius * losses.size
    radius = carried + rounding.unit * size + rounding.eta
    parts = Ball(factors.value * losses.value, size, radius).where(size != 0)
    return total(parts, rounding, terms) if summed else parts


def row_factors(factors: Ball, at: Direction, rounding: Rounding) -> Ball:
    """The factor of every row: its entry's, times its share of it."""
    share, own = shares(at, rounding), factors[at.entry]
    value = own.value * share.value
    return Ball(value, value, own.radius * share.value + own.value * share.radius)


# -------------------------------------------------------------------------------------------------- storage


def store(gradient: Ball, parts: Sequence[Array], target: Format) -> Array:
    """The radius of a stored gradient: each of its parts is narrowed, and every sum on the way to the whole."""
    unit = mpf(target.unit) if target.unit != target.compute_unit else mpf(0)
    magnitude = sum(abs(part) for part in parts)
    rounded = max(2, len(parts)) * unit * (magnitude + gradient.radius) + mpf(target.tiny)
    return np.asarray(gradient.radius + rounded, dtype=object)
