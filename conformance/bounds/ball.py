"""Balls: an exact value, a size that carries roundings, and the error so far. Products and sums of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpmath import mp, mpf

from infonce_ref.conformance.problem import FORMATS, Format

Array = Any  # an np.ndarray, of mpf unless it says otherwise: operations on objects have no type
BilinearMap = Callable[[Array, Array], Array]

LARGEST_LOGIT_RADIUS = mpf("1e-2")  # beyond it second-order terms are no longer negligible

as_mpf: Callable[[Any], Array] = np.frompyfunc(mpf, 1, 1)
exp: Callable[[Any], Array] = np.frompyfunc(mp.exp, 1, 1)
log: Callable[[Any], Array] = np.frompyfunc(mp.log, 1, 1)
log1p: Callable[[Any], Array] = np.frompyfunc(mp.log1p, 1, 1)
sqrt: Callable[[Any], Array] = np.frompyfunc(mp.sqrt, 1, 1)


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

    def where(self, condition: Array) -> Ball:
        """Exactly 0 but where the condition holds."""
        return self.map(lambda part: np.where(condition, part, mpf(0)))

    def __neg__(self) -> Ball:
        return replace(self, value=-self.value)


@dataclass(frozen=True)
class Rounding:
    """What one operation may lose: `unit` relative to its result, `eta` where it underflows.

    In a problem that stands for a larger one, each term of a sum may stand for several `terms`.
    """

    unit: mpf
    eta: mpf
    terms: int = 1

    def gamma(self, count: Any) -> Any:
        """The relative loss of `count` roundings, one after the other; each of them `terms` times."""
        lost = count * self.terms * self.unit
        return lost / (1 - lost)


def exact(array: Array) -> Ball:
    """An input: no error yet."""
    value = as_mpf(np.asarray(array, dtype=object))
    return Ball(value, abs(value), value * 0)


def flushed(target: Format) -> Format:
    """`target` on a device that flushes subnormal numbers to zero: eta is the smallest normal."""

    def smallest_normal(name: str) -> float:
        return FORMATS[name].tiny / (2 * FORMATS[name].unit)

    return replace(target, tiny=smallest_normal(target.name), compute_tiny=smallest_normal(target.compute))


def trust(radius: Array, matter: Array) -> None:
    """Refuse radii that, where they matter, are larger than first order allows."""
    worst = np.asarray(radius)[matter].max(initial=mpf(0))
    if worst > LARGEST_LOGIT_RADIUS:
        raise BoundTooLoose(f"a logit may be off by {mp.nstr(worst, 3)}, more than {LARGEST_LOGIT_RADIUS}")


# --------------------------------------------------------- products: every matrix product has this one rule


def product(multiply: BilinearMap, left: Ball, right: Ball, terms: Any, rounding: Rounding) -> Ball:
    """`multiply(left, right)`, each of its entries a sum of at most `terms` products."""
    size = multiply(left.size, right.size)
    carried = multiply(left.radius, abs(right.value)) + multiply(left.size, right.radius)
    underflow = np.where(size == 0, mpf(0), terms * rounding.eta)[()]
    return Ball(multiply(left.value, right.value), size, carried + rounding.gamma(terms) * size + underflow)


# -------------------------------------------------------------------------------------------------- sums


def total(terms: Ball, rounding: Rounding, count: int | None = None) -> Ball:
    """The sum of all entries, in any order; of `count` terms that they are sums of themselves."""
    size = terms.size.sum()
    rounded = rounding.gamma(terms.value.size if count is None else count) * size
    return Ball(terms.value.sum() + mpf(0), size + mpf(0), terms.radius.sum() + rounded)


def added(parts: Sequence[Ball]) -> Ball:
    """Balls of one shape, added; the additions are counted where the terms are."""
    return Ball(*(sum(getattr(part, name) for part in parts) for name in ("value", "size", "radius")))


def weighted_sum(weights: Sequence[Any], parts: Sequence[Ball], rounding: Rounding) -> Ball:
    """Σ w b, in any order; an entry counts the parts that it isn't exactly 0 in."""
    terms = [weighted(mpf(w), part, rounding) for w, part in zip(weights, parts, strict=True)]
    whole = added(terms)
    count = np.asarray(sum((np.asarray(part.size) != 0).astype(int) for part in terms)).astype(object)
    more = rounding.gamma(np.where(count > 1, count - 1, 0)) * whole.size
    return replace(whole, radius=whole.radius + more)


def weighted(weight: mpf, ball: Ball, rounding: Rounding) -> Ball:
    """A number times a ball, exactly 0 where either is; a power of two loses nothing but what underflows."""
    lost = mpf(0) if abs(mp.frexp(weight)[0]) == mpf("0.5") else rounding.unit
    size = weight * ball.size
    live = weight * (ball.size + ball.radius) != 0  # a difference may be 0, and its size, and its error not
    return Ball(weight * ball.value, size, weight * ball.radius + lost * size + rounding.eta).where(live)


def joined(parts: Sequence[Ball], axis: int) -> Ball:
    """Balls side by side."""
    return Ball(
        np.concatenate([part.value for part in parts], axis=axis),
        np.concatenate([part.size for part in parts], axis=axis),
        np.concatenate([part.radius for part in parts], axis=axis),
    )
