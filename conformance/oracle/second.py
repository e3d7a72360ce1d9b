"""The second oracle: −log(e^{s_p} / Σ e^s) in decimal, differentiated by dual numbers, in plain loops.

It exists to disagree with the first: another arithmetic, another way to differentiate, another order of everything.
A dual number is a value with its partial derivatives by the entries of the arguments it was made of, a dict from
(argument, place) to Decimal. Entries become numbers when they are first asked for, so that a key which stands in
nobody's softmax is never looked at.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from infonce_ref.conformance.oracle import SIGNIFICANT, SMALLEST, Answer
from infonce_ref.conformance.problem import Problem

Place = tuple[str, tuple[int, ...]]
CONFIRMING = 60  # digits more in the second evaluation, which tells digits from noise


def evaluate(problem: Problem, digits: int | None = None) -> Answer:
    """The exact loss and gradients of `problem`, computed in `digits` digits (None: as many as it takes)."""
    if digits is not None:
        return differentiate(problem, digits)
    digits = digits_for(problem)
    while True:
        rough, sharp = differentiate(problem, digits), differentiate(problem, digits + CONFIRMING)
        cleaned = {name: clean(array, sharp.outputs()[name]) for name, array in rough.outputs().items()}
        if not any(x.is_nan() for array in cleaned.values() for x in array.flat):
            return Answer(cleaned.pop("loss"), cleaned, sharp.digits)
        digits *= 2


# --- dual numbers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dual:
    """A number and its partial derivatives; those not in the dict are zero."""

    value: Decimal
    by: Mapping[Place, Decimal]

    def __add__(self, other: Dual) -> Dual:
        return total([self, other])

    def __sub__(self, other: Dual) -> Dual:
        return total([self, other.times(Decimal(-1))])

    def __mul__(self, other: Dual) -> Dual:
        return total([self.times(other.value), other.times(self.value)], self.value * other.value)

    def __truediv__(self, other: Dual) -> Dual:
        over = 1 / other.value
        ratio = self.value / other.value
        return total([self.times(over), other.times(-ratio * over)], ratio)

    def times(self, constant: Decimal) -> Dual:
        return self.through(self.value * constant, constant)

    def through(self, value: Decimal, slope: Decimal) -> Dual:
        """f(self), where f has this value and this slope."""
        return Dual(value, {place: slope * partial for place, partial in self.by.items()})

    def exp(self) -> Dual:
        return self.through(self.value.exp(), self.value.exp())

    def log(self) -> Dual:
        return self.through(self.value.ln(), 1 / self.value)

    def sqrt(self) -> Dual:
        root = self.value.sqrt()
        return self.through(root, 1 / (2 * root))


def total(terms: Iterable[Dual], value: Decimal | None = None) -> Dual:
    """The sum of dual numbers (its value replaced, for the product rule)."""
    result = Decimal(0)
    by: dict[Place, Decimal] = {}
    for term in terms:
        result += term.value
        for place, partial in term.by.items():
            by[place] = by[place] + partial if place in by else partial
    return Dual(result if value is None else value, by)


def variable(name: str, place: tuple[int, ...], number: float) -> Dual:
    """An entry of an argument: its own partial derivative is 1."""
    if not math.isfinite(number):
        raise ValueError(f"{name}{list(place)} is {number}: there is no exact answer")
    return Dual(Decimal(number), {(name, place): Decimal(1)})


# --- the loss --------------------------------------------------------------------------------------


class Rows:
    """The rows that inner products are taken of, each made when first asked for."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.made: dict[Place, Sequence[Dual]] = {}

    def row(self, name: str, *place: int) -> Sequence[Dual]:
        """A row of an argument as the similarity wants it."""
        if (name, place) not in self.made:
            given = self.problem.arrays[name][place]
            row = [variable(name, (*place, d), float(x)) for d, x in enumerate(given)]
            self.made[name, place] = self.prepared(name, row)
        return self.made[name, place]

    def prepared(self, name: str, row: Sequence[Dual]) -> Sequence[Dual]:
        if self.problem.similarity == "cosine":
            if all(x.value == 0 for x in row):
                return [Dual(Decimal(0), {}) for _ in row]  # cosine 0 with everything, gradient 0
            norm = inner(row, row).sqrt()
            return [x / norm for x in row]
        if self.problem.similarity == "bilinear" and name == "query":
            weight = self.problem.arrays["bilinear_weight"]
            column = {
                e: [variable("bilinear_weight", (d, e), float(weight[d, e])) for d in range(len(row))]
                for e in range(weight.shape[1])
            }
            return [inner(row, column[e]) for e in column]
        return row


def inner(a: Sequence[Dual], b: Sequence[Dual]) -> Dual:
    return total(x * y for x, y in zip(a, b, strict=True))


def logits(problem: Problem) -> list[tuple[Dual, list[Dual]]]:
    """For every query the logit of its positive and those of its negatives."""
    tau = variable("temperature", (), float(problem.temperature))
    margin = variable("margin", (), float(problem.margin))
    if tau.value <= 0:
        raise ValueError(f"temperature is {problem.temperature}: it must be > 0")
    rows = Rows(problem)
    result = []
    for i in range(problem.arrays["query"].shape[0]):
        query = rows.row("query", i)
        positive, negatives = candidates(problem, i)
        similar = inner(query, rows.row("positive_key", positive))
        result.append(((similar - margin) / tau, [inner(query, rows.row(*key)) / tau for key in negatives]))
    return result


def candidates(problem: Problem, i: int) -> tuple[int, list[tuple[str, *tuple[int, ...]]]]:
    """Query i's positive among the positive keys, and where its negatives are."""
    positive = i if problem.positive_index is None else int(problem.positive_index[i])
    columns: list[tuple[str, *tuple[int, ...]]] = []
    if problem.in_batch_negatives:
        columns += [("positive_key", j) for j in range(problem.arrays["positive_key"].shape[0])]
    if problem.negative_keys is not None and problem.negative_keys.ndim == 2:
        columns += [("negative_keys", m) for m in range(problem.negative_keys.shape[0])]
    elif problem.negative_keys is not None:
        columns += [("negative_keys", i, m) for m in range(problem.negative_keys.shape[1])]
    mask = problem.candidate_mask
    allowed = [key for c, key in enumerate(columns) if mask is None or mask[i, c]]
    return positive, [key for key in allowed if key != ("positive_key", positive)]


def losses(problem: Problem) -> list[Dual]:
    """The loss of every query, −log(e^{s_p} / Σ e^s), times its sample_weight."""
    result = []
    for i, (positive, negatives) in enumerate(logits(problem)):
        numerator = positive.exp()
        denominator = total([numerator, *(s.exp() for s in negatives)])
        result.append((numerator / denominator).log().times(-weight_of(problem, i)))
    return result


def weight_of(problem: Problem, i: int) -> Decimal:
    """Query i's sample_weight, 1 where there is none."""
    weight = 1.0 if problem.sample_weight is None else float(problem.sample_weight[i])
    if not math.isfinite(weight):
        raise ValueError(f"sample_weight[{i}] is {weight}: there is no exact answer")
    return Decimal(weight)


def differentiate(problem: Problem, digits: int) -> Answer:
    """Loss and gradients in `digits` digits, as computed."""
    with decimal.localcontext(arithmetic(digits)):
        each = losses(problem)
        loss = total(each)
        if problem.reduction == "mean":
            weights = sum((weight_of(problem, i) for i in range(len(each))), Decimal(0))
            loss = loss.times(Decimal(0)) if weights == 0 else loss / Dual(weights, {})
        values = [x.value for x in each] if problem.reduction == "none" else loss.value
        grad = {name: gradient(problem, name, loss) for name in problem.differentiable}
        return Answer(np.array(values, dtype=object), grad, digits)


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


def digits_for(problem: Problem) -> int:
    """Digits after which the rarest candidate of any query, at a probability of e^−(widest gap), still has plenty."""
    with decimal.localcontext(arithmetic(40)):
        rows = [[x.value for x in (positive, *negatives)] for positive, negatives in logits(problem)]
        gap = max(max(row) - min(row) for row in rows) / Decimal(10).ln()
        size = max(abs(x) for row in rows for x in row)
        size += 1 + abs(Decimal(problem.margin)) / Decimal(problem.temperature)
        return 2 * SIGNIFICANT + math.ceil(min(gap, Decimal(1000 - SMALLEST)) + size.log10())


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
