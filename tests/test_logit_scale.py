"""CLIP's parameter log(1/τ): the temperature it gives, its pullback, and the clamp."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from infonce_ref import info_nce, temperature_from_logit_scale
from infonce_ref.conformance.problem import FORMATS
from tests.libraries import Library
from tests.problems import PLAIN

on = pytest.mark.parametrize
BELOW, TIE, BEYOND = 2.5, math.log(100.0), 5.0  # exactly representable, but for the tie


def both(library: Library, value: float, dtype: str, **options: Any) -> tuple[Any, Any]:
    """τ and the pullback of 1.5, of a 0-d array."""

    def call(logit_scale: Any) -> tuple[Any, Any]:
        tau, pullback = temperature_from_logit_scale(logit_scale, **options)
        return tau, pullback(1.5 * (tau * 0 + 1))

    return library.run(call, {"logit_scale": library.array(np.array(value), dtype)}, {})


@on("dtype", ["float64", "float32", "float16", "bfloat16"])
@on("value", [BELOW, -1.0, 0.0, 4.5])
def test_the_temperature_and_its_derivative(library: Library, dtype: str, value: float) -> None:
    """[helper.logit-scale] τ = e^{−ℓ} and ∂L/∂ℓ = −τ ∂L/∂τ, in the compute dtype, the gradient in ℓ's own."""
    if dtype not in library.dtypes:
        pytest.skip(f"{library.name} has no {dtype}")
    tau, g = both(library, value, dtype)
    with mp.workdps(30):
        exact = float(mp.exp(-mpf(value)))
    compute = FORMATS["float64" if dtype == "float64" else "float32"].unit
    assert library.numpy(tau) == pytest.approx(exact, rel=(abs(value) + 4) * compute)
    assert library.numpy(g) == pytest.approx(-1.5 * exact, rel=(abs(value) + 4) * compute + FORMATS[dtype].unit)
    assert str(tau.dtype).endswith("float64" if dtype == "float64" else "float32")
    assert str(g.dtype).endswith(dtype)


@on("dtype", ["float64", "float32"])
@on(("value", "tau", "slope"), [(BEYOND, 0.01, 0.0), (TIE, 0.01, -0.01), (1e30, 0.01, 0.0)])
def test_the_clamp(library: Library, dtype: str, value: float, tau: float, slope: float) -> None:
    """[helper.logit-scale] Beyond log 100 τ = 0.01 without a gradient; at log 100, rounded, the gradient flows."""
    temperature, g = both(library, value, dtype)
    unit = FORMATS[dtype].unit
    assert library.numpy(temperature) == pytest.approx(tau, rel=8 * unit)
    assert library.numpy(g) == pytest.approx(1.5 * slope, rel=8 * unit, abs=0)


@on(("value", "tau", "slope"), [(BEYOND, 0.01, 0.0), (TIE, 0.01, -0.01), (BELOW, math.exp(-2.5), -math.exp(-2.5))])
def test_a_python_number(value: float, tau: float, slope: float) -> None:
    """[helper.logit-scale] A Python number gives one, and its pullback takes what a loss returns for it."""
    temperature, pullback = temperature_from_logit_scale(value)
    assert isinstance(temperature, float) and temperature == pytest.approx(tau, rel=1e-15)
    assert pullback(2.0) == pytest.approx(2 * slope, rel=1e-15)
    assert pullback(np.float32(2.0)) == pytest.approx(2 * slope, rel=1e-6)


def test_another_clamp_and_none() -> None:
    """[helper.logit-scale] max_scale is the largest 1/τ; an infinite one never clamps."""
    assert temperature_from_logit_scale(1.0, max_scale=2.0)[0] == 0.5
    assert temperature_from_logit_scale(7.0, max_scale=math.inf)[0] == pytest.approx(math.exp(-7), rel=1e-15)


def test_it_is_the_gradient_of_a_loss_by_the_parameter() -> None:
    """[helper.logit-scale] [gradient.temperature] Through info_nce: as a difference quotient over ℓ has it."""
    arrays = PLAIN.arrays

    def loss(logit_scale: float) -> float:
        return float(info_nce(**arrays, temperature=temperature_from_logit_scale(logit_scale)[0]))

    temperature, pullback = temperature_from_logit_scale(1.25)
    grad = info_nce.value_and_grad(**arrays, temperature=temperature)[1]
    h = 2.0**-10
    slope = (8 * (loss(1.25 + h) - loss(1.25 - h)) - (loss(1.25 + 2 * h) - loss(1.25 - 2 * h))) / (12 * h)
    assert pullback(grad.temperature) == pytest.approx(slope, rel=1e-9)


def test_nan_is_not_hidden(numpy_library: Library) -> None:
    """[helper.logit-scale] A parameter that is NaN gives a temperature that is NaN."""
    assert np.isnan(both(numpy_library, math.nan, "float64")).all()


@on(
    ("logit_scale", "max_scale", "error", "message"),
    [
        ("1", 100.0, TypeError, "logit_scale must be a real number"),
        (True, 100.0, TypeError, "logit_scale must be a real number"),
        (np.zeros(2), 100.0, ValueError, "logit_scale must have shape"),
        (np.array(1), 100.0, TypeError, "logit_scale must have dtype"),
        (1.0, 0.0, ValueError, "max_scale must be > 0"),
        (1.0, math.nan, ValueError, "max_scale must be > 0"),
        (1.0, "2", TypeError, "max_scale must be a real number"),
    ],
)
def test_what_is_no_scale_is_refused(logit_scale: Any, max_scale: Any, error: type[Exception], message: str) -> None:
    """[helper.logit-scale] Another type or shape, or a largest scale that isn't positive."""
    with pytest.raises(error, match=message):
        temperature_from_logit_scale(logit_scale, max_scale)
