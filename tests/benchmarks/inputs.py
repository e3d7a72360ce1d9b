"""What every implementation of a point is given, the loss it should find, and how far off it may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import infonce_ref

TEMPERATURE = 0.07
COLD = 0.01  # where e^(s - s_p) could overflow: losses need a shift
ROWS_A_LABEL = 4
LOSSES = ("info_nce", "cold", "clip", "nt_xent", "sup_con")


class Inputs(NamedTuple):
    """Two sides (N, D) and the labels of the rows; sup_con takes the first side.

    The second leans towards the first, so that there are pairs, and to one direction, so that the two ways of looking
    at a pair differ and one loss can't pass for another.
    """

    a: Any
    b: Any
    labels: Any
    temperature: float


def inputs(loss: str, rows: int, dim: int) -> Inputs:
    """The same numbers on every machine."""
    generator = np.random.default_rng(0)
    a = generator.standard_normal((rows, dim), np.float32)
    b = generator.standard_normal((rows, dim), np.float32)
    b += np.float32(0.5)
    b += np.multiply(a, np.float32(0.5))
    return Inputs(a, b, np.arange(rows) % max(1, rows // ROWS_A_LABEL), temperature(loss))


def temperature(loss: str) -> float:
    return COLD if loss == "cold" else TEMPERATURE


def exact(loss: str, x: Inputs) -> float:
    """The loss by the reference in float64."""
    a, b = np.float64(x.a), np.float64(x.b)
    if loss == "sup_con":
        return float(infonce_ref.sup_con(a, x.labels, temperature=x.temperature))
    return float(getattr(infonce_ref, "info_nce" if loss == "cold" else loss)(a, b, temperature=x.temperature))


def tolerance(rows: int, dim: int, temperature: float, loss: float) -> float:
    """What float32 may cost any implementation that normalises, multiplies and takes a log-sum-exp.

    With u the unit roundoff: a cosine is off by (2 D + 6) u at most, so a score by that over τ, and the log-sum-exp
    less the positive by twice that. The sum of up to 2 N exponentials and the mean of up to 2 N losses add (2 N + 8) u
    each, the one absolutely, the other relative to the loss.
    """
    u = 2.0**-24
    return u * (2 * (2 * dim + 6) / temperature + (2 * rows + 8) * (1 + math.fabs(loss)))


def of_backend(module: Any, array: Callable[[Any], Any], loss: str, x: Inputs) -> Callable[[Any, Any], Any]:
    """A backend's loss of two sides (of one for sup_con, whose labels become the backend's `array`)."""
    if loss == "sup_con":
        labels = array(x.labels)
        return lambda a, b: module.sup_con(a, labels, temperature=x.temperature)
    function = getattr(module, "info_nce" if loss == "cold" else loss)
    return lambda a, b: function(a, b, temperature=x.temperature)
