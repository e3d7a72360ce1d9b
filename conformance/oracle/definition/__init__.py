"""The first oracle: every loss in mpmath, straight from its definition.

`candidates` says which pairs of rows are positives and negatives, `formulas` what a row's logits give, `similarity`
what two rows give, `losses` which loss is made of what, `nested` what prefixes of rows add up to. Here they are put
together, in as many digits as it takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpmath import mp

from infonce_ref.conformance.oracle import SIGNIFICANT, SMALLEST, Answer
from infonce_ref.conformance.oracle.definition import nested, similarity
from infonce_ref.conformance.oracle.definition.candidates import Pair, Row
from infonce_ref.conformance.oracle.definition.formulas import Term
from infonce_ref.conformance.oracle.definition.losses import LOSSES
from infonce_ref.conformance.oracle.definition.similarity import Array, Call, exact, finite
from infonce_ref.conformance.problem import Problem

GUARD = 40  # digits for cancellation in the geometry: nearly parallel rows, nearly equal keys
STEP = 50  # digits more for the evaluation that confirms the first


def evaluate(problem: Problem, digits: int | None = None) -> Answer:
    """The exact loss and gradients of `problem`, computed in `digits` digits (None: as many as it takes)."""
    if digits is not None:
        return solve(problem, digits)
    coarse = solve(problem, enough_digits(problem))
    while True:
        fine = solve(problem, coarse.digits + STEP)
        settled = settle(coarse, fine)
        if settled is not None:
            return settled
        coarse = fine


# --- the loss and its gradient ---------------------------------------------------------------------


def solve(problem: Problem, digits: int) -> Answer:
    """Loss and gradients in `digits` digits, as computed."""
    if problem.loss == "matryoshka":
        return nested.summed(problem, [(w, solve(part, digits)) for w, part in nested.parts(problem)], digits)
    with mp.workdps(digits):
        loss, entries = LOSSES[problem.loss], LOSSES[problem.loss].entries(problem)
        call = similarity.read(problem, entries)
        formula = loss.formula(call)
        counted = [all(loss.counts(row) for row in entry) for entry in entries]
        share, weight = reduction_weights(problem, counted)

        each, grad = np.full(len(entries), mp.zero, dtype=object), zeros(call)
        for i, entry in enumerate(entries):
            for row in entry if counted[i] else ():
                scaled, s = logits(call, row)
                term = formula[i](s[: len(row.positive)], s[len(row.positive) :])
                each[i] += term.value / len(entry)
                pull_back(call, row, scaled, term, share[i] / len(entry), grad)

        value = weight * each if problem.reduction == "none" else (share * each).sum()
        grad |= similarity.row_gradients(call, {name: grad[name] for name in call.u})
        return Answer(listed(value), {name: listed(grad[name]) for name in problem.differentiable}, digits)


def logits(call: Call, row: Row) -> tuple[Array, Array]:
    """(sim − m) / τ of the positives and sim / τ of the negatives; the logits, which are these with what is added."""
    pairs, positives = [*row.positive, *row.negative], len(row.positive)
    scaled = similarity.similarities(call, pairs)
    scaled[:positives] -= call.margin
    scaled /= call.tau
    return scaled, scaled + similarity.offsets(call, pairs)


def pull_back(call: Call, row: Row, scaled: Array, term: Term, share: Any, grad: dict[str, Any]) -> None:
    """Adds a row's part of every gradient, `share` times."""
    by_positive, by_negative = term.by_positive * share, term.by_negative * share
    by_logit = np.concatenate([by_positive, by_negative])
    pairs: list[Pair] = [*row.positive, *row.negative]
    similarity.pull_back(call, pairs, by_logit / call.tau, grad)
    grad["temperature"] += (share * term.by_floor / call.tau - (by_logit * scaled).sum()) / call.tau  # floor: −1/τ
    grad["margin"] -= by_positive.sum() / call.tau
    grad["bias"] += by_logit.sum()
    for pair, g in zip(pairs, by_logit, strict=True):
        if pair.column is not None and "logit_bias" in grad:
            grad["logit_bias"][pair.column] += g


def zeros(call: Call) -> dict[str, Any]:
    """A gradient of 0 by every argument, by the rows u where there are any."""
    arrays = {name: np.full(x.shape, mp.zero, dtype=object) for name, x in {**call.rows, **call.u}.items()}
    return {**arrays, **dict.fromkeys(("temperature", "margin", "bias"), mp.zero)}


def reduction_weights(problem: Problem, counted: list[bool]) -> tuple[Array, Array]:
    """What each entry's loss is multiplied by in the sum that is differentiated, and its sample_weight."""
    given = problem.sample_weight
    weight = exact(np.ones(len(counted)) if given is None else finite("sample_weight", given))
    if problem.reduction != "mean":
        return weight, weight
    total = weight[counted].sum()
    return (weight / total if total != 0 else weight), weight  # no weight at all: 0 times every loss


# --- how many digits -------------------------------------------------------------------------------


def enough_digits(problem: Problem) -> int:
    """Digits that keep SIGNIFICANT of them right in the smallest share of any softmax, after all cancellation.

    p_p − 1 loses the digits of the loss and e^s those of |s|; entries where the large shares cancel are as small
    as the smallest share, or a product of such, so that the spread of a row's logits decides. Shares that leave every
    answer below 10^SMALLEST, even over a subnormal temperature and norm, needn't be resolved.
    """
    if problem.loss == "matryoshka":
        return max(enough_digits(part) for _, part in nested.parts(problem))
    with mp.workdps(30):
        loss, entries = LOSSES[problem.loss], LOSSES[problem.loss].entries(problem)
        call = similarity.read(problem, entries)
        reach = loss.reach(call)
        spread, largest = mp.zero, abs(call.margin / call.tau)
        for row in (row for entry in entries for row in entry):
            scaled, s = logits(call, row)
            spread = max(spread, span([*s, *reach.beside]))
            largest = max([largest, *abs(scaled), *abs(s), *(abs(x) for x in reach.beside)])
        share = min((reach.power * spread + span(reach.apart)) / mp.ln10, 1000 - SMALLEST)
        return SIGNIFICANT + GUARD + int(mp.ceil(share + mp.log10(1 + largest)))


def span(exponents: Any) -> Any:
    """From the least to the greatest."""
    return max(exponents) - min(exponents) if len(exponents) else mp.zero


def settle(coarse: Answer, fine: Answer) -> Answer | None:
    """`fine` with its exact zeros, if `coarse` confirms every entry; None where the digits didn't suffice."""
    with mp.workdps(fine.digits):
        one, other = coarse.outputs(), fine.outputs()
        both = {name: listed(np.frompyfunc(settled, 2, 1)(one[name], other[name])) for name in one}
        if any(x is None for a in both.values() for x in a.flat):
            return None
        return Answer(both.pop("loss"), both, fine.digits)


def settled(coarse: Any, fine: Any) -> Any:
    """`fine` if `coarse` has its SIGNIFICANT digits; 0 if it is noise, which falls with the precision; else None."""
    if abs(fine) < mp.mpf(10) ** SMALLEST or abs(fine) * mp.mpf(10) ** (STEP - 20) <= abs(coarse):
        return mp.zero
    return fine if abs(fine - coarse) <= abs(fine) * mp.mpf(10) ** -SIGNIFICANT else None


def listed(value: Any) -> Array:
    """`value` as an array of objects, a number as one of shape ()."""
    return np.asarray(value, dtype=object)
