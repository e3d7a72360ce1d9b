"""The composition: from a problem, a format and a level to a radius for the loss and for every gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from mpmath import mp, mpf

from infonce_ref.conformance.bounds import others, rows, stages
from infonce_ref.conformance.bounds.ball import (
    Array,
    Ball,
    Rounding,
    added,
    exact,
    joined,
    product,
    total,
    weighted_sum,
)
from infonce_ref.conformance.bounds.layouts import Direction, directions
from infonce_ref.conformance.bounds.rows import Row, Rule, Scored
from infonce_ref.conformance.family import KINDS
from infonce_ref.conformance.problem import Format, Problem

Level = Literal["textbook", "precise"]
Parts = tuple[Ball, Sequence[Array]]  # a gradient, and the parts that it may be narrowed in
Parted = dict[str, Parts]

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
    "matryoshka": rows.usual_rows,
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
    "matryoshka",
)
PRECISE: Mapping[str, Rule] = {**dict.fromkeys(SOFTPLUS, rows.softplus_rows), "soft_nce": rows.precise_targets}


def bound(
    problem: Problem,
    format: Format,  # noqa: A002  the word everybody uses for it
    level: Level = "textbook",
    terms: int = 1,
) -> dict[str, np.ndarray]:
    """Elementwise bound on |computed - exact| of the loss and of every gradient, if computed correctly.

    Where the problem stands for one with `terms` times as many rows, sums are as long as that one's.
    """
    with mp.workdps(DIGITS):
        return _bound(problem, format, rule_of(problem, level), terms)


def rule_of(problem: Problem, level: Level) -> Rule:
    """The rule of the problem's rows; not every loss promises relative accuracy."""
    name = f"sup_con {problem.option('variant')}" if problem.loss == "sup_con" else problem.loss
    rule = {"textbook": TEXTBOOK, "precise": PRECISE}[level].get(name)
    if rule is None:
        raise ValueError(f"{name} has no bound of level {level}: it promises no relative accuracy")
    return rule


def _bound(problem: Problem, target: Format, rule: Rule, terms: int) -> dict[str, np.ndarray]:
    rounding = Rounding(mpf(target.compute_unit), mpf(target.compute_tiny), terms)
    loss, gradients = (nested if problem.loss == "matryoshka" else alone)(problem, rounding, rule)
    radii = {"loss": np.asarray(loss.radius + rounding.eta, dtype=object)}
    return radii | {name: stages.store(*gradients[name], target) for name in problem.differentiable}


def alone(problem: Problem, rounding: Rounding, rule: Rule, copies: int = 1) -> tuple[Ball, Parted]:
    """The loss and its gradients; of `copies` of it that are added up, in which sums may run over all at once."""
    plan = directions(problem)
    inputs = read(problem, plan)
    tables = embed(problem, inputs, rounding)
    given = [scored(problem, at, tables, rounding) for at in plan]
    found = [rule(each) for each in given]
    factors = stages.row_weights(problem.sample_weight, counted(problem, plan), problem.reduction == "mean", rounding)
    losses = stages.entries_of([row.loss for row in found], plan, len(factors.value), rounding)
    terms = sum(len(np.unique(at.entry)) for at in plan)
    loss = stages.reduce_entries(losses, factors, problem.reduction != "none", copies * terms, rounding)

    by_logits = [rows_pullback(row.gradient, factors, at, rounding) for row, at in zip(found, plan, strict=True)]
    by_sims = by_logits
    if "temperature" in problem.differentiable:
        by_sims = [stages.divide_pullback(each, mpf(problem.temperature), rounding) for each in by_logits]
    by_tables = stages.scores_pullback(by_sims, plan, tables, rounding, copies)
    gradients = {
        "temperature": by_temperature(given, found, by_logits, factors, tables, copies),
        "margin": by_margin(given, by_sims, copies),
        **by_biases(problem, given[0], by_logits[0]),
        **embed_pullback(problem, inputs, tables, by_tables, rounding),
    }
    return loss, gradients


def nested(problem: Problem, rounding: Rounding, rule: Rule) -> tuple[Ball, Parted]:
    """The weighted sum of a loss of prefixes: whatever has no part in a prefix has an exact 0 from it."""
    dims = problem.option("dims")
    weights = problem.option("weights") or [1.0] * len(dims)
    found = [alone(prefix(problem, d), rounding, rule, len(dims)) for d in dims]
    loss = weighted_sum(weights, [part for part, _ in found], rounding)
    gradients: Parted = {}
    for name in problem.differentiable:
        pad = partial(padded, problem.arrays[name].shape if name in problem.arrays else ())
        parts = [gradient[name] for _, gradient in found]
        uses = [mpf(w) * pad(x) for w, (_, each) in zip(weights, parts, strict=True) for x in each]
        gradients[name] = weighted_sum(weights, [ball.map(pad) for ball, _ in parts], rounding), uses
    return loss, gradients


def prefix(problem: Problem, d: int) -> Problem:
    """The same of the first d coordinates of every embedding."""
    arrays = {name: x[..., :d] if KINDS[name] == "embedding" else x for name, x in problem.arrays.items()}
    return replace(problem, arrays=arrays)


def padded(shape: Sequence[int], gradient: Array) -> Array:
    """The gradient by whole rows; one by a scalar as it is."""
    if not shape:
        return gradient
    zeros = np.full((*shape[:-1], shape[-1] - gradient.shape[-1]), mpf(0), dtype=object)
    return np.concatenate([gradient, zeros], axis=-1)


# ---------------------------------------------------------------------------------------------- from rows to logits


def read(problem: Problem, plan: Sequence[Direction]) -> dict[str, Ball]:
    """Every array whose rows are compared, bags as rows. A row that stands in no pair may hold anything: it is 0."""
    names = [name for name in problem.arrays if KINDS[name] == "embedding" or name == "logits"]
    raw = {name: problem.arrays[name] for name in names}
    if "positive_bags" in raw:
        raw["positive_bags"] = raw["positive_bags"].reshape(-1, raw["positive_bags"].shape[-1])
    shapes = {name: exact(np.zeros(array.shape)) for name, array in raw.items()}
    used = {name: np.zeros(array.shape, dtype=bool) for name, array in raw.items()}
    for at in plan:
        for block, columns in stages.spans(at, shapes):
            active = stages.pairs(block, at.active[:, columns], shapes) > 0
            if block.right is None:
                used[block.left] |= active
                continue
            used[block.left] |= active.any(axis=1)[:, None]
            used[block.right] |= (active if raw[block.right].ndim == 3 else active.any(axis=0))[..., None]
    return {name: exact(np.where(used[name], array, 0.0)) for name, array in raw.items()}


def embed(problem: Problem, inputs: dict[str, Ball], rounding: Rounding) -> dict[str, Ball]:
    """The rows whose inner products are the similarities."""
    if normalised(problem):
        return {name: stages.normalise(rows, rounding) for name, rows in inputs.items()}
    if problem.similarity != "bilinear":
        return inputs
    query, matrix = inputs["query"], exact(problem.arrays["bilinear_weight"])
    return inputs | {"query": product(np.matmul, query, matrix, query.value.shape[1], rounding)}


def normalised(problem: Problem) -> bool:
    return problem.similarity == "cosine" and "logits" not in problem.arrays


def scored(problem: Problem, at: Direction, tables: dict[str, Ball], rounding: Rounding) -> Scored:
    """Similarities and logits of one direction."""
    sims = stages.scores(at, tables, rounding)
    scaled = stages.subtract_margin(sims, mpf(problem.margin), at.positive, rounding)
    if "temperature" in problem.differentiable:
        scaled = stages.divide_by_temperature(scaled, mpf(problem.temperature), rounding)
    logits = stages.add_bias(scaled, bias_of(problem, at), rounding)
    return Scored(problem, at, sims, scaled, logits, rounding)


def bias_of(problem: Problem, at: Direction) -> Ball:
    """What is added to every column's logit after the temperature."""
    columns = at.active.shape[1]
    given = np.full(columns, problem.bias if problem.loss == "siglip" else 0.0)
    if problem.logit_bias is not None:
        own = slice(columns - len(problem.logit_bias), None)
        given[own] = np.where(at.active.any(axis=0)[own], problem.logit_bias, 0.0)
    return exact(given)


def counted(problem: Problem, plan: Sequence[Direction]) -> Array:
    """(entries,) bool: sup_con's anchors need a positive, dcl's and triplet's a negative; all others count."""
    flags = np.ones(problem.rows, dtype=bool)
    for at in plan:
        if problem.loss in ("dcl", "triplet"):
            flags[at.entry] = ~at.alone
        if problem.loss == "sup_con":
            flags[:] = False
            flags[at.entry[at.positive.any(axis=1)]] = True
    return flags


# --------------------------------------------------------------------------------------------------------- and back


def rows_pullback(gradient: Ball, factors: Ball, at: Direction, rounding: Rounding) -> Ball:
    """Every row of the gradient times its factor."""
    factor = stages.row_factors(factors, at, rounding)
    return stages.times(factor.map(lambda part: part[:, None]), gradient, rounding)


def by_temperature(
    given: Sequence[Scored],
    found: Sequence[Row],
    by_logits: Sequence[Ball],
    factors: Ball,
    tables: dict[str, Ball],
    copies: int,
) -> Parts:
    """From all logits, or differences of logits, and from the floors."""
    problem, rounding, temperature = given[0].problem, given[0].rounding, mpf(given[0].problem.temperature)
    anchors = {block.left for each in given for block in each.at.blocks}
    pairs = sum(each.at.terms() for each in given) * rounding.terms  # a pair of rows that stand for several each
    terms = copies * max(pairs, sum(problem.arrays[name].size for name in anchors))
    parts: list[Ball] = []
    uses: list[Array] = []
    for each, row, cotangent in zip(given, found, by_logits, strict=True):
        met = each.scaled if row.reference is None else differences(each.scaled, row.reference, rounding)
        parts.append(stages.temperature_pullback(cotangent, met, terms, temperature, rounding))
        uses += [part / temperature**2 for part in by_uses(each, cotangent, tables)]
        if row.floor is not None:
            by_floor = stages.times(stages.row_factors(factors, each.at, rounding), row.floor, rounding)
            parts.append(stages.floor_pullback(by_floor, temperature, rounding))
            uses.append(parts[-1].value)
    whole = added(parts)
    return whole, [whole.value] if problem.loss == "info_nce" else uses  # info_nce's: one part, as its query


def by_uses(given: Scored, cotangent: Ball, tables: dict[str, Ball]) -> list[Array]:
    """What each block's similarities and the margin add to the temperature's gradient, times its square."""
    met = cotangent.value * given.sims.value
    blocks = [met[:, columns].sum() for _, columns in stages.spans(given.at, tables)]
    margin = mpf(given.problem.margin) * cotangent.value[given.at.positive].sum()
    return [*blocks, margin] if margin else blocks


def differences(logits: Ball, reference: Array, rounding: Rounding) -> Ball:
    """Every logit less that of its row's reference column."""
    chosen = logits.map(lambda part: np.take_along_axis(part, reference[:, None], axis=1))
    value = logits.value - chosen.value
    return Ball(value, abs(value), logits.radius + chosen.radius + rounding.unit * abs(value) + rounding.eta)


def by_margin(given: Sequence[Scored], by_sims: Sequence[Ball], copies: int) -> Parts:
    """Minus the sum of the positives' cotangents."""
    positives = [cotangent[each.at.positive] for each, cotangent in zip(given, by_sims, strict=True)]
    count = copies * sum(part.value.size for part in positives)
    return -total(joined(positives, axis=0), given[0].rounding, count), [part.value.sum() for part in positives]


def by_biases(problem: Problem, given: Scored, by_logits: Ball) -> Parted:
    """What is added to logits: a column's sum, or that of all."""
    if problem.loss == "siglip":
        everything = total(by_logits[given.at.active], given.rounding)
        return {"bias": (everything, [everything.value])}
    if problem.logit_bias is None:
        return {}
    columns = stages.column_sums(by_logits, given.at, given.rounding)[-len(problem.logit_bias) :]
    return {"logit_bias": (columns, [columns.value])}


def embed_pullback(
    problem: Problem,
    inputs: dict[str, Ball],
    tables: dict[str, Ball],
    by_tables: dict[str, list[Ball]],
    rounding: Rounding,
) -> Parted:
    """Gradients by the arrays from their parts' cotangents."""
    found: Parted = {}
    for name, parts in by_tables.items():
        whole = added(parts)
        pieces = [whole] if problem.loss == "info_nce" or len(parts) == 1 else [whole, *parts]  # its query: one part
        if normalised(problem):
            pieces = [stages.normalise_pullback(inputs[name], tables[name], each, rounding) for each in pieces]
        if problem.similarity == "bilinear" and name == "query":
            query, matrix = inputs["query"].map(np.transpose), exact(problem.arrays["bilinear_weight"])
            by_matrix = product(np.matmul, query, whole, len(whole.value), rounding)
            found["bilinear_weight"] = by_matrix, [by_matrix.value]
            pieces = [product(np.matmul, whole, matrix.map(np.transpose), matrix.value.shape[1], rounding)]
        shape = problem.arrays[name].shape
        whole = Ball(*(part.reshape(shape) for part in (pieces[0].value, pieces[0].size, pieces[0].radius)))
        found[name] = whole, [each.value.reshape(shape) for each in pieces[1:] or pieces]
    return found
