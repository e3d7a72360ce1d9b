"""The composition: from a problem, a format and a level to a radius for the loss and for every gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
from mpmath import mp, mpf

from infonce_ref.conformance.bounds import others, rows, stages
from infonce_ref.conformance.bounds.ball import Array, Ball, Rounding, added, exact, joined, product, total
from infonce_ref.conformance.bounds.layouts import Direction, Layout, layout
from infonce_ref.conformance.bounds.rows import Row, Rule, Scored
from infonce_ref.conformance.problem import Format, Problem

Level = Literal["textbook", "precise"]
Parted = dict[str, tuple[Ball, Array]]  # a gradient, and the sizes of the parts that it may be narrowed in

DIGITS = 30  # a radius needs a few; values are computed without cancellation

TEXTBOOK: Mapping[str, Rule] = {
    **dict.fromkeys(("info_nce", "info_nce_from_logits", "clip", "nt_xent", "moco", "gte", "n_pair"), rows.usual_rows),
    "mil_nce": rows.usual_bag,
    "sup_con out": rows.usual_targets,
    "sup_con in": rows.usual_bag,
    "sup_con sincere": rows.usual_rows,
    "soft_nce": rows.usual_targets,
    "dcl": others.decoupled,
    "debiased": others.debiased,
    "hard_negative": others.debiased,
    "siglip": others.sigmoids,
    "triplet": others.hinge,
}
SOFTPLUS = (
    "info_nce",
    "info_nce_from_logits",
    "clip",
    "nt_xent",
    "moco",
    "gte",
    "n_pair",
    "mil_nce",
    "sup_con sincere",
)
PRECISE: Mapping[str, Rule] = {**dict.fromkeys(SOFTPLUS, rows.softplus_rows), "soft_nce": rows.precise_targets}


def bound(
    problem: Problem,
    format: Format,  # noqa: A002  the word everybody uses for it
    level: Level = "textbook",
) -> dict[str, np.ndarray]:
    """Elementwise bound on |computed - exact| of the loss and of every gradient, if computed correctly."""
    with mp.workdps(DIGITS):
        return _bound(problem, format, rule_of(problem, level))


def rule_of(problem: Problem, level: Level) -> Rule:
    """The rule of the problem's rows; not every loss promises relative accuracy."""
    name = f"sup_con {problem.option('variant')}" if problem.loss == "sup_con" else problem.loss
    rule = {"textbook": TEXTBOOK, "precise": PRECISE}[level].get(name)
    if rule is None:
        raise ValueError(f"{name} has no bound of level {level}: it promises no relative accuracy")
    return rule


def _bound(problem: Problem, target: Format, rule: Rule) -> dict[str, np.ndarray]:
    rounding = Rounding(mpf(target.compute_unit), mpf(target.compute_tiny))
    has_temperature = "temperature" in problem.differentiable
    temperature, margin = mpf(problem.temperature), mpf(problem.margin)
    plan = layout(problem)
    inputs = read(problem, plan)
    matrix = exact(problem.arrays["bilinear_weight"]) if problem.similarity == "bilinear" else None

    # forward
    tables = dict(inputs)
    if "logits" not in tables and problem.similarity == "cosine":
        tables = {name: stages.normalise(table, rounding) for name, table in inputs.items()}
    if matrix is not None:
        tables["query"] = product(np.matmul, inputs["query"], matrix, inputs["query"].value.shape[1], rounding)
    given = []
    for at in plan.directions:
        sims = stages.scores(at, tables, rounding)
        scaled = stages.subtract_margin(sims, margin, at.positive, rounding)
        if has_temperature:
            scaled = stages.divide_by_temperature(scaled, temperature, rounding)
        logits = stages.add_bias(scaled, bias_of(problem, at), rounding)
        given.append(Scored(problem, at, sims, scaled, logits, rounding))
    found = [rule(each) for each in given]
    factors = stages.row_weights(problem.sample_weight, counted(problem, plan), problem.reduction == "mean", rounding)
    losses = stages.entries_of([row.loss for row in found], list(plan.directions), len(factors.value), rounding)
    terms = len(factors.value) * len(plan.directions)
    loss = stages.reduce_entries(losses, factors, problem.reduction != "none", terms, rounding)

    # pullbacks, in the opposite order
    by_logits, by_sims = [], []
    for row, at in zip(found, plan.directions, strict=True):
        factor = stages.row_factors(factors, at, rounding)
        by_logits.append(stages.times(factor.map(lambda part: part[:, None]), row.gradient, rounding))
        one = by_logits[-1]
        by_sims.append(stages.divide_pullback(one, temperature, rounding) if has_temperature else one)
    by_tables = stages.scores_pullback(by_sims, list(plan.directions), tables, rounding)
    gradients = scalar_gradients(problem, given, found, by_logits, by_sims, factors)
    if matrix is not None:
        (by_anchors,) = by_tables["query"]
        by_matrix = product(np.matmul, inputs["query"].map(np.transpose), by_anchors, len(by_anchors.value), rounding)
        transposed = matrix.map(np.transpose)
        gradients["bilinear_weight"] = by_matrix, abs(by_matrix.value)
        by_tables["query"] = [product(np.matmul, by_anchors, transposed, len(transposed.value), rounding)]
    for name, parts in by_tables.items():
        gradients.update(
            arguments(problem, plan, name, through_embed(problem, inputs[name], tables[name], parts, rounding))
        )

    radii = {"loss": np.asarray(loss.radius + rounding.eta, dtype=object)}
    return radii | {name: stages.store(*gradients[name], target) for name in problem.differentiable}


def through_embed(
    problem: Problem, given: Ball, unit: Ball, parts: list[Ball], rounding: Rounding
) -> tuple[Ball, Array]:
    """The gradient by a table from its cotangent's parts, and the sum of these parts' gradients' magnitudes."""
    whole = added(parts)
    if problem.loss == "info_nce_from_logits" or problem.similarity != "cosine":
        return whole, sum(abs(part.value) for part in parts)
    pulled = [
        stages.normalise_pullback(given, unit, part, rounding)
        for part in ([whole, *parts] if len(parts) > 1 else [whole])
    ]
    return pulled[0], sum(abs(part.value) for part in pulled[1:] or pulled)


def scalar_gradients(
    problem: Problem, given: list[Scored], found: list[Row], by_logits: list[Ball], by_sims: list[Ball], factors: Ball
) -> Parted:
    """Gradients by temperature, margin, bias and logit_bias."""
    rounding, temperature = given[0].rounding, mpf(problem.temperature)
    left = sum(each.at.terms() for each in given)
    entries = sum(problem.arrays[name].size for name in dict.fromkeys(anchors(problem, given)))
    by_temperature, parts = [], max(left, entries)
    for each, row, cotangent in zip(given, found, by_logits, strict=True):
        met = each.scaled if row.reference is None else differences(each.scaled, row.reference, rounding)
        by_temperature.append(stages.temperature_pullback(cotangent, met, parts, temperature, rounding))
        if row.floor is not None:
            by_floor = stages.times(stages.row_factors(factors, each.at, rounding), row.floor, rounding)
            by_temperature.append(stages.floor_pullback(by_floor, temperature, rounding))
    positives = [cotangent[each.at.positive] for each, cotangent in zip(given, by_sims, strict=True)]
    by_margin = -total(joined(positives, axis=0), rounding)
    gradients = {
        "temperature": (added(by_temperature), sum(abs(part.value) for part in by_temperature)),
        "margin": (by_margin, sum(abs(part.value.sum()) for part in positives)),
    }
    if "bias" in problem.differentiable:
        by_bias = total(by_logits[0][given[0].at.active], rounding)
        gradients["bias"] = by_bias, abs(by_bias.value)
    if "logit_bias" in problem.differentiable:
        columns = stages.column_sums(by_logits[0], given[0].at, rounding)
        own = columns[len(columns.value) - len(problem.arrays["logit_bias"]) :]
        gradients["logit_bias"] = own, abs(own.value)
    return gradients


def anchors(problem: Problem, given: list[Scored]) -> list[str]:
    """The arguments whose rows ask."""
    tables = layout(problem).tables
    return [name for each in given for block in each.at.blocks for name in tables[block.left]]


def differences(logits: Ball, reference: Array, rounding: Rounding) -> Ball:
    """Every logit less that of its row's reference column."""
    chosen = logits.map(lambda part: np.take_along_axis(part, reference[:, None], axis=1))
    value = logits.value - chosen.value
    return Ball(value, abs(value), logits.radius + chosen.radius + rounding.unit * abs(value) + rounding.eta)


def bias_of(problem: Problem, at: Direction) -> Ball:
    """What is added to every column's logit after the temperature."""
    columns = at.active.shape[1]
    given = np.full(columns, problem.bias if problem.loss == "siglip" else 0.0)
    if problem.logit_bias is not None:
        met = at.active.any(axis=0)[columns - len(problem.logit_bias) :]
        given[columns - len(problem.logit_bias) :] = np.where(met, problem.logit_bias, 0.0)
    return exact(given)


def counted(problem: Problem, plan: Layout) -> Array:
    """(entries,) bool: sup_con's anchors need a positive, dcl's and triplet's a negative."""
    flags = np.ones(problem.rows, dtype=bool)
    if problem.loss in ("dcl", "triplet"):
        flags = ~plan.directions[0].alone
    if problem.loss == "sup_con":
        flags[:] = False
        flags[plan.directions[0].entry[plan.directions[0].positive.any(axis=1)]] = True
    return flags


def read(problem: Problem, plan: Layout) -> dict[str, Ball]:
    """Every table; a row that stands in no pair may hold anything and is zeroed first."""
    raw = {name: stacked(problem, parts) for name, parts in plan.tables.items()}
    balls = {name: exact(np.zeros(table.shape)) for name, table in raw.items()}
    used = {name: np.zeros(table.shape if name == "logits" else table.shape[:-1], bool) for name, table in raw.items()}
    for at in plan.directions:
        for block, columns in stages.spans(at, balls):
            active = stages.pairs(block, at.active[:, columns], balls) > 0
            if block.right is None:
                used[block.left] |= active
                continue
            used[block.left] |= active.any(axis=1)
            used[block.right] |= active if balls[block.right].value.ndim == 3 else active.any(axis=0)
    return {
        name: exact(np.where(used[name] if name == "logits" else used[name][..., None], table, 0.0))
        for name, table in raw.items()
    }


def stacked(problem: Problem, parts: Sequence[str]) -> np.ndarray:
    """A table: its arguments one below the other, bags as rows."""
    arrays = [problem.arrays[name] for name in parts]
    if tuple(parts) == ("positive_bags",):
        return arrays[0].reshape(-1, arrays[0].shape[-1])
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]


def arguments(problem: Problem, plan: Layout, table: str, gradient: tuple[Ball, Array]) -> Parted:
    """A table's gradient as its arguments' gradients."""
    found, start = {}, 0
    ball, parts = gradient
    for name in plan.tables[table]:
        shape = problem.arrays[name].shape
        own = slice(start, start + (len(ball.value) if name == "positive_bags" else shape[0]))
        found[name] = ball[own].map(partial(shaped, shape)), parts[own].reshape(shape)
        start = own.stop
    return found


def shaped(shape: tuple[int, ...], array: Array) -> Array:
    return array.reshape(shape)
