"""How far a computed number is from the exact one, in units of its bound: r = |computed − exact| / B; r ≤ 1 conforms.

Exact values are decimals of 40 digits, or the oracle's own numbers. They are held as the sum of two doubles (about
1e-32 relative), so that the comparison itself adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np

# The largest finite number of each format: where the exact value is beyond it, infinity is the right answer.
LARGEST: Mapping[str, float] = {
    "float64": float(np.finfo(np.float64).max),
    "float32": float(np.finfo(np.float32).max),
    "float16": 65504.0,
    "bfloat16": 2.0**127 * (2 - 2.0**-7),
}
DELICATE = 1e-280  # below it the second double of a pair underflows: those few are judged in fractions


@dataclass(frozen=True)
class Exact:
    """An array of exact numbers, as `hi + lo`, and as they were written, to be shown."""

    hi: np.ndarray
    lo: np.ndarray
    source: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.hi.shape
        return shape


@dataclass(frozen=True)
class Measure:
    """The worst entry of an array: its ratio, where it is, and the numbers."""

    r: float
    index: tuple[int, ...] = ()
    expected: str = ""
    got: str = ""
    bound: str = ""
    reason: str = ""


def two_doubles(value: Any) -> tuple[float, float]:
    """`value` (decimal text, Decimal, mpf, Fraction, int or float) as an unevaluated sum of two doubles."""
    if value is None:
        return 0.0, 0.0
    if isinstance(value, float):
        return value, 0.0
    if isinstance(value, str | Decimal):
        exact = Decimal(value)
        hi = float(exact)
        if not np.isfinite(hi):
            return hi, 0.0
        with localcontext() as context:
            context.prec = 60
            return hi, float(exact - Decimal(hi))
    hi = float(value)
    return (hi, 0.0) if not np.isfinite(hi) else (hi, float(value - type(value)(hi)))


def exact(values: Any) -> Exact:
    """Exact numbers from {"shape", "values"} (as vectors have them) or from an array of numbers of any kind."""
    if isinstance(values, Exact):
        return values
    if isinstance(values, Mapping):
        shape: Sequence[int] = values["shape"]
        flat = list(values["values"])
    else:
        array = np.asarray(values, dtype=object)
        shape, flat = array.shape, list(array.ravel())
    pairs = np.array([two_doubles(v) for v in flat], dtype=np.float64).reshape(-1, 2)
    return Exact(pairs[:, 0].reshape(tuple(shape)), pairs[:, 1].reshape(tuple(shape)), tuple(flat))


def ratio(computed: np.ndarray, expected: Any, bound: Any) -> float:
    """The worst |computed − exact| / B over the entries; inf for NaN and for another shape."""
    return measure(computed, expected, bound).r


def measure(computed: np.ndarray, expected: Any, bound: Any, dtype: str | None = None, slack: float = 0.0) -> Measure:
    """The worst entry of `computed` against the exact `expected`; what is expected to be None isn't compared.

    `dtype` is the format in which it was computed; `slack` is added to every bound.
    """
    answer, radius = exact(expected), exact(bound)
    if computed.shape != answer.shape:
        return Measure(np.inf, reason=f"shape {computed.shape}, where {answer.shape} is expected")
    if computed.size == 0:
        return Measure(0.0)
    largest = LARGEST.get(dtype or computed.dtype.name, LARGEST["float64"])
    limits = radius.hi.reshape(-1) + slack
    ratios = _ratios(computed.astype(np.float64).reshape(-1), answer, limits, largest)
    worst = int(np.argmax(ratios))
    index = tuple(int(i) for i in np.unravel_index(worst, answer.shape))
    got = float(computed[index])
    missed = ratios[worst] > 1.0 and not np.isfinite(got)
    return Measure(
        r=float(ratios[worst]),
        index=index,
        expected=shown(answer.source[worst]),
        got=repr(got),
        bound=f"{float(limits[worst]):.3g}",
        reason=f"{got} where a finite number is expected" if missed else "",
    )


def _ratios(computed: np.ndarray, answer: Exact, limits: np.ndarray, largest: float) -> np.ndarray:
    """The ratio of each entry, everything flat."""
    hi, lo = answer.hi.reshape(-1), answer.lo.reshape(-1)
    compared = np.array([value is not None for value in answer.source])
    with np.errstate(all="ignore"):
        # computed − hi is exact where it matters (Sterbenz), and the error of the rest is 1e-16 of itself
        error = np.abs((computed - hi) - lo)
        ratios = np.where(error == 0.0, 0.0, error / limits)
        overflows = np.isinf(computed) & (np.sign(computed) == np.sign(hi)) & (np.abs(hi) + limits > largest)
    ratios = np.where(overflows | ~compared, 0.0, np.where(np.isnan(ratios), np.inf, ratios))
    delicate = compared & np.isfinite(computed) & np.isfinite(hi) & (limits < DELICATE) & (limits > 0.0)
    for i in np.flatnonzero(delicate):
        ratios[i] = _fraction_ratio(float(computed[i]), answer.source[i], float(limits[i]))
    return ratios


def _fraction_ratio(computed: float, source: Any, limit: float) -> float:
    exactly = abs(Fraction(computed) - as_fraction(source)) / Fraction(limit)
    return float(exactly) if exactly < Fraction(LARGEST["float64"]) else float("inf")


def as_fraction(value: Any) -> Fraction:
    """`value` exactly."""
    if hasattr(value, "_mpf_"):  # an mpmath number: sign, mantissa, exponent, size
        sign, mantissa, exponent, _ = value._mpf_
        return Fraction((-1) ** sign * int(mantissa)) * Fraction(2) ** int(exponent)
    return Fraction(value)


def shown(value: Any, digits: int = 20) -> str:
    """An exact number for people."""
    if hasattr(value, "_mpf_"):
        return str(value.context.nstr(value, digits))
    try:
        return f"{Decimal(value):.{digits}g}"
    except (TypeError, ValueError, ArithmeticError):
        return str(value)
