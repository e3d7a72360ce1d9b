"""Scale: temperature and margin as 0-d arrays of the compute dtype, rounded to it once; they never promote anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

from infonce_ref import checks
from infonce_ref.arrays import Array, Namespace, compute_dtype, constant
from infonce_ref.device import on_their_device
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


@on_their_device
def temperature_from_logit_scale(
    logit_scale: float | Array, max_scale: float = 100.0
) -> tuple[Any, Callable[[Any], Any]]:
    r"""τ from CLIP's learnt parameter ℓ = log(1/τ), with 1/τ clamped at `max_scale`; and its pullback.

    .. math:: \tau = 1 / \min(e^{\ell}, \text{max\_scale}), \qquad
              \frac{\partial L}{\partial \ell} = -\tau \frac{\partial L}{\partial \tau}

    and 0 where the clamp is active, that is where ℓ > log max_scale, rounded to the compute dtype; at the tie it isn't.
    A parameter beyond the clamp gets no gradient and stays there: CLIP's own training clamps the parameter
    itself after each step, which never takes it there. Clause: helper.logit-scale.

    Parameters
    ----------
    logit_scale : float or 0-d floating array
        ℓ; log(1/0.07) is CLIP's initial value.
    max_scale : float, > 0
        The largest 1/τ; `math.inf` for no clamp.

    Returns
    -------
    temperature : as logit_scale
        A Python float, or a 0-d array of the compute dtype: float64 for float64, else float32.
    pullback : function
        ∂L/∂τ → ∂L/∂ℓ, in the dtype of ℓ.

    Raises
    ------
    TypeError, ValueError
        For anything but a real number or a 0-d real floating array, and for a max_scale that isn't > 0.

    References
    ----------
    Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision, arXiv:2103.00020,
    §2.5 and figure 3.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import info_nce, temperature_from_logit_scale
    >>> temperature, to_logit_scale = temperature_from_logit_scale(np.log(2.0))
    >>> print(f"{temperature:.6f}")
    0.500000
    >>> loss, grad = info_nce.value_and_grad(np.eye(2), np.eye(2), temperature=temperature)
    >>> print(f"{to_logit_scale(grad.temperature):.6f}")  # -0.5 * 0.476812
    -0.238406
    """
    if max_scale != math.inf:
        checks.real_number("max_scale", max_scale, "helper.logit-scale", above=0)
    number = checks.scalar("logit_scale", logit_scale, "helper.logit-scale")
    if number is not None:
        clamped = number > math.log(max_scale)
        temperature = 1 / max_scale if clamped else math.exp(-number)
        return temperature, lambda g: 0.0 * g if clamped else -temperature * g
    xp = checks.arrays_of_one_library({"logit_scale": logit_scale})
    scale, to_stored = cast(xp, logit_scale, compute_dtype(xp, logit_scale))
    beyond = scale > xp.full_like(scale, math.log(max_scale))
    tau = xp.where(beyond, xp.full_like(scale, 1 / max_scale), xp.exp(-scale))  # helper.logit-scale

    def pullback(g: Array) -> Array:
        return to_stored(xp.where(beyond, xp.zeros_like(tau), -tau * g))  # helper.logit-scale

    return tau, pullback
