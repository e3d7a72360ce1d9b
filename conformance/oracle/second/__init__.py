"""The second oracle: −log(e^{s_p} / Σ e^s) and its kin in decimal, differentiated by dual numbers, in plain loops.

It exists to disagree with the first: another arithmetic, another way to differentiate, another order of everything.

    dual     numbers with their partial derivatives
    scores   who is compared with whom
    losses   the textbook formulas
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from decimal import Decimal

import numpy as np

from infonce_ref.conformance.family import KINDS
from infonce_ref.conformance.oracle import SIGNIFICANT, SMALLEST, Answer
from infonce_ref.conformance.oracle.second.dual import ZERO, Dual, total
from infonce_ref.conformance.oracle.second.losses import LOSSES
from infonce_ref.conformance.oracle.second.scores import Scores, weight_of
from infonce_ref.conformance.problem import Problem

START = 2 * SIGNIFICANT + 10  # digits of the first evaluation, which tells how many it takes
CONFIRMING = 60  # digits more in the second evaluation, which tells digits from noise


def evaluate(problem: Problem, digits: int | None = None) -> Answer:
    """The exact loss and gradients of `problem`, computed in `digits` digits (None: as many as it takes)."""
    if digits is not None:
        return differentiate(Scores(problem), digits)
    digits = START
    while True:
        scores = Scores(problem)
        rough, enough = differentiate(scores, digits), digits_for(scores)
        if enough > digits:
            digits = enough
            continue
        sharp = differentiate(Scores(problem), digits + CONFIRMING)
        cleaned = {name: clean(array, sharp.outputs()[name]) for name, array in rough.outputs().items()}
        if not any(x.is_nan() for array in cleaned.values() for x in array.flat):
            return Answer(cleaned.pop("loss"), cleaned, sharp.digits)
        digits *= 2


# --- from the rows' losses to the answer -----------------------------------------------------------


def differentiate(scores: Scores, digits: int) -> Answer:
    """Loss and gradients in `digits` digits, as computed."""
    problem = scores.problem
    with decimal.localcontext(arithmetic(digits)):
        each, weights = weighted(scores)
        loss = total(each)
        if problem.reduction == "mean":
            loss = loss.times(Decimal(0)) if weights == 0 else loss / Dual(weights, {})
        values = [x.value for x in each] if problem.reduction == "none" else loss.value
        grad = {name: gradient(problem, name, loss) for name in problem.differentiable}
        return Answer(np.array(values, dtype=object), grad, digits)


def weighted(scores: Scores) -> tuple[list[Dual], Decimal]:
    """Every row's loss times its sample_weight, 0 for a row that doesn't count; and the weight of those that do."""
    each, weights = [], Decimal(0)
    for i, loss in enumerate(LOSSES[scores.problem.loss](scores)):
        weight = weight_of(scores.problem, i)
        each.append(ZERO if loss is None else loss.times(weight))
        weights += 0 if loss is None else weight
    return each, weights


def gradient(problem: Problem, name: str, loss: Dual) -> np.ndarray:
    """The partial derivatives of `loss` by one argument, 0 by entries it doesn't depend on."""
    shape = problem.arrays[name].shape if name in problem.arrays else ()
    result = np.empty(shape, dtype=object)
    for place in np.ndindex(shape):
        result[place] = loss.by.get((name, place), Decimal(0))
    return result


# --- precision -------------------------------------------------------------------------------------


def arithmetic(digits: int) -> decimal.Context:
    """Decimal arithmetic of `digits` digits with the widest exponents; what has no value raises."""
    return decimal.Context(
        prec=digits,
        Emin=decimal.MIN_EMIN,
        Emax=decimal.MAX_EMAX,
        traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
    )


def digits_for(scores: Scores) -> int:
    """Digits after which the rarest candidate of any sum, at a probability of e^−(widest gap), still has plenty."""
    with decimal.localcontext(arithmetic(2 * SIGNIFICANT)):
        gap = max((high - low for low, high in scores.added), default=Decimal(0)) / Decimal(10).ln()
        if scores.problem.loss == "triplet":
            gap = 2 * range_of(scores.problem)
        size = max((max(-low, high) for low, high in scores.added), default=Decimal(0))
        return 2 * SIGNIFICANT + math.ceil(min(gap, Decimal(1000 - SMALLEST)) + (1 + size).log10())


def range_of(problem: Problem) -> Decimal:
    """How many digits lie between the largest and the smallest of all numbers: whether triplet is at its kink."""
    rows = [a.ravel() for name, a in problem.arrays.items() if KINDS[name] == "embedding"]
    sizes = np.abs(np.concatenate([*rows, [problem.margin]]))
    used = sizes[np.isfinite(sizes) & (sizes != 0)]
    return Decimal(math.log10(used.max()) - math.log10(used.min())) if used.size else Decimal(0)


def clean(rough: np.ndarray, sharp: np.ndarray) -> np.ndarray:
    """The sharper numbers, entry by entry: 0 what is none, NaN what hasn't its digits yet."""
    pick: Callable[..., np.ndarray] = np.frompyfunc(pick_entry, 2, 1)
    return np.asarray(pick(rough, sharp), dtype=object)


def pick_entry(rough: Decimal, sharp: Decimal) -> Decimal:
    """`sharp` if the precisions agree on it, 0 if it vanished with the precision or is too small to matter."""
    with decimal.localcontext(arithmetic(2 * SIGNIFICANT)):
        if sharp == 0 or sharp.adjusted() < SMALLEST:
            return Decimal(0)
        if rough != 0 and sharp.adjusted() < rough.adjusted() - CONFIRMING // 2:
            return Decimal(0)
        near = rough != 0 and (rough / sharp - 1).copy_abs() < Decimal(10) ** -SIGNIFICANT
        return sharp if near else Decimal("NaN")
