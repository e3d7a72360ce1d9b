"""Who is compared with whom: the rows of the arguments as dual numbers, their similarities and logits.

Entries become numbers when they are first asked for, so that a key which stands in nobody's softmax is never
looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cached_property

from infonce_ref.conformance.oracle.second.dual import ZERO, Dual, total
from infonce_ref.conformance.problem import Problem

Key = tuple[str, *tuple[int, ...]]  # a row: its argument and where it stands there


class Scores:
    """The numbers of a problem, each made when first asked for; and which exponentials have been added up."""

    def __init__(self, problem: Problem, length: int | None = None) -> None:
        self.problem = problem
        self.length = length  # how many entries of each row are looked at
        self.made: dict[Key, Sequence[Dual]] = {}
        self.added: list[tuple[Decimal, Decimal]] = []  # the least and the greatest exponent of each sum

    def cut(self, length: int) -> Scores:
        """The scores of shorter rows; what they add up is noted here."""
        shorter = Scores(self.problem, length)
        shorter.added = self.added
        return shorter

    # --- numbers -------------------------------------------------------------------------------

    def entry(self, name: str, *place: int) -> Dual:
        """An entry of an array that has a gradient."""
        return self.variable(name, place, float(self.problem.arrays[name][place]))

    def scalar(self, name: str) -> Dual:
        return self.variable(name, (), float(getattr(self.problem, name)))

    def variable(self, name: str, place: tuple[int, ...], number: float) -> Dual:
        """An argument's number: its own partial derivative is 1."""
        return Dual(exact(f"{name}{list(place)}", number), {(name, place): Decimal(1)})

    def option(self, name: str) -> Decimal:
        """A number among the options: a constant."""
        return exact(name, float(self.problem.option(name)))

    @cached_property
    def temperature(self) -> Dual:
        tau = self.scalar("temperature")
        if tau.value <= 0:
            raise ValueError(f"temperature is {self.problem.temperature}: it must be > 0")
        return tau

    @cached_property
    def margin(self) -> Dual:
        return self.scalar("margin")

    # --- rows ----------------------------------------------------------------------------------

    def given(self, key: Key) -> Sequence[Dual]:
        """A row of an argument as it is."""
        name, *place = key
        return [self.entry(name, *place, d) for d in range(self.problem.arrays[name].shape[-1])[: self.length]]

    def row(self, key: Key) -> Sequence[Dual]:
        """A row of an argument as the similarity wants it."""
        if key not in self.made:
            self.made[key] = self.prepared(key[0], self.given(key))
        return self.made[key]

    def prepared(self, name: str, row: Sequence[Dual]) -> Sequence[Dual]:
        if self.problem.similarity == "cosine":
            if all(x.value == 0 for x in row):
                return [ZERO for _ in row]  # cosine 0 with everything, gradient 0
            norm = inner(row, row).sqrt()
            return [x / norm for x in row]
        if self.problem.similarity == "bilinear" and name == "query":
            return [inner(row, column) for column in self.weight_columns]
        return row

    @cached_property
    def weight_columns(self) -> Sequence[Sequence[Dual]]:
        height, width = self.problem.arrays["bilinear_weight"].shape
        return [[self.entry("bilinear_weight", d, e) for d in range(height)] for e in range(width)]

    # --- similarities, logits and their exponentials -----------------------------------------

    def similarity(self, one: Key, other: Key) -> Dual:
        return inner(self.row(one), self.row(other))

    def size(self, one: Key, other: Key) -> Decimal:
        """How large the terms of their similarity are."""
        products = (x.value * y.value for x, y in zip(self.row(one), self.row(other), strict=True))
        return sum((abs(x) for x in products), Decimal(0))

    def logit(self, one: Key, other: Key) -> Dual:
        return self.similarity(one, other) / self.temperature

    def positive(self, one: Key, other: Key) -> Dual:
        """The logit of a positive pair, from which the margin is taken."""
        return (self.similarity(one, other) - self.margin) / self.temperature

    def note(self, *sums: Sequence[Dual]) -> None:
        """Keep in mind a sum of exponentials, or a product of such sums: how far its terms lie apart."""
        if all(sums):
            values = [[x.value for x in exponents] for exponents in sums]
            self.added.append((sum(map(min, values), Decimal(0)), sum(map(max, values), Decimal(0))))

    def sum_exp(self, exponents: Iterable[Dual]) -> Dual:
        """Σ e^x."""
        listed = list(exponents)
        self.note(listed)
        return total(x.exp() for x in listed)


def inner(a: Sequence[Dual], b: Sequence[Dual]) -> Dual:
    return total(x * y for x, y in zip(a, b, strict=True))


def exact(name: str, number: float) -> Decimal:
    """The number, all its binary digits."""
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}: there is no exact answer")
    return Decimal(number)


def weight_of(problem: Problem, i: int) -> Decimal:
    """Entry i's sample_weight, 1 where there is none."""
    weights = problem.arrays.get("sample_weight")
    return Decimal(1) if weights is None else exact(f"sample_weight[{i}]", float(weights[i]))


# --- who is whose positive and whose negative ------------------------------------------------------


def allowed(problem: Problem, *place: int) -> bool:
    """Whether the mask, if there is one, lets this pair be a negative."""
    mask = problem.arrays.get("candidate_mask")
    return mask is None or bool(mask[place])


def rows_of(problem: Problem, name: str) -> list[Key]:
    return [(name, i) for i in range(problem.arrays[name].shape[0])]


def explicit(problem: Problem, name: str, i: int) -> list[Key]:
    """The rows of an argument that serve as i's negatives: all of a 2-D array, its own of a 3-D one."""
    given = problem.arrays.get(name)
    if given is None:
        return []
    return rows_of(problem, name) if given.ndim == 2 else [(name, i, m) for m in range(given.shape[1])]


def positive_column(problem: Problem, i: int, count: int) -> int:
    """Where among `count` columns query i's positive is."""
    index = problem.arrays.get("positive_index")
    column = i if index is None else int(index[i])
    if not 0 <= column < count:
        raise ValueError(f"positive_index[{i}] is {column}: there is no exact answer")
    return column


def queries(problem: Problem) -> Iterator[tuple[Key, Key, int | None, list[tuple[int, Key]]]]:
    """For every query: itself, its positive with its column (None: it has none), its negatives with theirs."""
    keys = rows_of(problem, "positive_key")
    for i, query in enumerate(rows_of(problem, "query")):
        p = positive_column(problem, i, len(keys))
        columns = (keys if problem.in_batch_negatives else []) + explicit(problem, "negative_keys", i)
        negatives = [(c, key) for c, key in enumerate(columns) if key != keys[p] and allowed(problem, i, c)]
        yield query, keys[p], p if problem.in_batch_negatives else None, negatives


def two_views(problem: Problem) -> Iterator[tuple[Key, Key, list[Key]]]:
    """For every row of both views: itself, its other view, and the rest that the mask leaves."""
    rows = rows_of(problem, "view_a") + rows_of(problem, "view_b")
    for r, anchor in enumerate(rows):
        other = (r + len(rows) // 2) % len(rows)
        yield anchor, rows[other], [rows[c] for c in range(len(rows)) if c not in (r, other) and allowed(problem, r, c)]
