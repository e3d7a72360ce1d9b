"""Scale: temperature and margin as 0-d arrays of the compute dtype, rounded to it once; they never promote anything."""

from __future__ import annotations

from numbers import Real
from typing import Any

from infonce_ref.arrays import Array, Namespace, constant
from infonce_ref.embed import Pullback, cast


def scalar(xp: Namespace, like: Array, value: Any) -> tuple[Array, Pullback]:
    """A Python real, or a 0-d array of any precision, in the dtype of `like`; a 0-d array's gradient keeps its own."""
    if isinstance(value, Real):
        return constant(xp, like, float(value)), lambda g: g  # dtype.temperature
    return cast(xp, value, like.dtype)


def positive_scalar(xp: Namespace, like: Array, value: Any) -> tuple[Array, Pullback]:
    """`scalar`, NaN where it is not > 0: an array's value can't be refused without waiting for its device."""
    number, pullback = scalar(xp, like, value)
    return xp.where(number > 0, number, xp.full_like(number, float("nan"))), pullback  # scale.temperature.domain
