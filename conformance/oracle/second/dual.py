"""Dual numbers in decimal: a value with its partial derivatives by the entries of the arguments it was made of."""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

Place = tuple[str, tuple[int, ...]]  # an entry of an argument
NOISE = 22  # how many of the last digits of a result may be rounding


@dataclass(frozen=True)
class Dual:
    """A number and its partial derivatives; those not in the dict are zero."""

    value: Decimal
    by: Mapping[Place, Decimal]

    def __add__(self, other: Dual) -> Dual:
        return total([self, other])

    def __sub__(self, other: Dual) -> Dual:
        return total([self, -other])

    def __neg__(self) -> Dual:
        return self.times(Decimal(-1))

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
        value = exponential(self.value, decimal.getcontext().prec)
        return self.through(value, value)

    def log(self) -> Dual:
        return self.through(self.value.ln(), 1 / self.value)

    def sqrt(self) -> Dual:
        root = self.value.sqrt()
        return self.through(root, 1 / (2 * root))


ZERO = Dual(Decimal(0), {})


@lru_cache(maxsize=4096)
def exponential(number: Decimal, digits: int) -> Decimal:
    """e^number in the context's `digits` digits, kept: decimal takes long over it, and pairs occur twice."""
    return number.exp()


def total(terms: Iterable[Dual], value: Decimal | None = None) -> Dual:
    """The sum of dual numbers (its value replaced, for the product rule)."""
    result = Decimal(0)
    by: dict[Place, Decimal] = {}
    for term in terms:
        result += term.value
        for place, partial in term.by.items():
            by[place] = by[place] + partial if place in by else partial
    return Dual(result if value is None else value, by)


def mean(terms: Iterable[Dual]) -> Dual:
    """The sum of dual numbers over their number."""
    listed = list(terms)
    return total(listed).times(1 / Decimal(len(listed)))


def is_negative(number: Dual, among: Decimal) -> bool:
    """Whether a sum of terms of the size `among` is below 0, by more than their rounding."""
    return number.value < -noise(among)


def is_positive(number: Dual, among: Decimal) -> bool:
    """Whether a sum of terms of the size `among` is above 0, by more than their rounding."""
    return number.value > noise(among)


def noise(size: Decimal) -> Decimal:
    """What rounding may leave of terms of this size where they cancel: below it, a sum counts as exactly 0."""
    return size * Decimal(10) ** (NOISE - decimal.getcontext().prec)
