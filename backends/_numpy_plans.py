"""The plans of the plainest calls, made with as little ado as can be: what small batches spend their time on.

Two arrays of rows whose squares are in no danger, by cosine, a number for the temperature, no option. Who is whose
negative is the reference's; a call that isn't as plain, or is wrong, isn't planned here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from array_api_compat import numpy as xp

from infonce_ref.backends import _plans
from infonce_ref.backends._numpy_unit import BothWays, OneWay, along
from infonce_ref.backends._plans import TEMPERATURES, Quick
from infonce_ref.candidates import candidates
from infonce_ref.contrast import Contrasted
from infonce_ref.link import softplus_link
from infonce_ref.loss import Plan, default_block_size
from infonce_ref.losses.clip import CLIPGrads
from infonce_ref.losses.info_nce import InfoNCEGrads
from infonce_ref.losses.views import ViewGrads
from infonce_ref.reduction import reduce_by

Array = np.ndarray[Any, Any]

# Squared norms that neither overflow nor lose digits.
SQUARES = {np.dtype("float32"): (1e-30, 1e30), np.dtype("float64"): (1e-300, 1e300)}
PLAIN = {"temperature", "similarity", "reduction"}
LARGEST_UNSHIFTED = {np.dtype(name): most for name, most in _plans.LARGEST_UNSHIFTED.items()}


def unit_rows(x: Array) -> tuple[Array, Callable[[Array], Array]] | None:
    """The reference's `unit_rows`, in fewer steps and in place of x; None where a square is in danger."""
    square = along(x, x)
    low, high = SQUARES[x.dtype]
    if not (low < square.min() and square.max() < high):
        return None
    norm = np.sqrt(square)[:, None]
    x /= norm

    def pullback(v: Array) -> Array:
        by_length: Array = x * along(x, v)[:, None]
        np.subtract(v, by_length, out=by_length)
        by_length /= norm
        return by_length

    return x, pullback


def plain(given: Mapping[str, Any], one: str, other: str, default: float) -> tuple[Array, Array, float] | None:
    """The two arrays and the temperature of a call that has nothing else to it; None for any other."""
    a, b, tau = given.get(one), given.get(other), given.get("temperature", default)
    if not given.keys() <= {one, other, *PLAIN} or type(a) is not np.ndarray or type(b) is not np.ndarray:
        return None
    if a.dtype not in SQUARES or b.dtype != a.dtype or a.ndim != 2 or b.shape != a.shape or a.size == 0:
        return None
    if given.get("similarity", "cosine") != "cosine" or given.get("reduction", "mean") not in ("mean", "sum", "none"):
        return None
    if type(tau) is not float or not TEMPERATURES[0] < tau < TEMPERATURES[1]:
        return None
    return a, b, tau


def moderate(x: Array, tau: float) -> bool:
    """No exponential of a score, nor a sum or a ratio of two, comes near the limits of its dtype."""
    return 1 / tau + math.log(len(x)) < LARGEST_UNSHIFTED[x.dtype]


def one_way(x: Array, tau: float) -> OneWay | Contrasted:
    """Row N + i of x, of 2 N, is row i's positive, the others of that half its negatives."""
    number, n = x.dtype.type, len(x) // 2
    if moderate(x, tau):
        return OneWay(x, number(tau))
    who = candidates(xp, x[:n], x[n:], None, True, None)
    return Contrasted(xp, who.layout(x[:n], x[n:], None, softplus_link), number(tau), number(0))


def both_ways(x: Array, tau: float, within: bool) -> BothWays | None:
    """The same the other way round, too."""
    return BothWays(x, x.dtype.type(tau), within) if moderate(x, tau) else None


def quick(
    names: tuple[str, str], default: float, entries: int, rows: Callable[[Array, float], Any], grads: Callable[..., Any]
) -> Quick:
    """The plan of a call with those arrays; so many losses a pair of rows; `grads` of both, temperature, margin."""

    def plan(given: Mapping[str, Any]) -> Plan[Any] | None:
        call = plain(given, *names, default)
        if call is None:
            return None
        a, b, tau = call
        n = len(a)
        with np.errstate(over="ignore", under="ignore"):  # what they come from isn't planned here
            units = unit_rows(np.concatenate([a, b]))
        found = None if units is None else rows(units[0], tau)
        if units is None or found is None:
            return None
        x, to_rows = units

        def to_arguments(g: Mapping[str, Array]) -> Any:
            both = to_rows(g["rows"] if "rows" in g else np.concatenate([g[name] for name in names]))
            return grads(both[:n], both[n:], g["temperature"], g["margin"])

        reduction = reduce_by(xp, given.get("reduction", "mean"), x[: entries * n], None)
        block_size = default_block_size(n, 8 * x.itemsize)
        return Plan(xp, entries * n, found, reduction, to_arguments, block_size)

    return plan


def clip_grads(image: Array, text: Array, temperature: Array, margin: Array) -> CLIPGrads:
    return CLIPGrads(image, text, None, None, temperature, margin)


def info_nce_grads(query: Array, key: Array, temperature: Array, margin: Array) -> InfoNCEGrads:
    return InfoNCEGrads(query, key, None, temperature, margin, None, None)


clip = quick(("image", "text"), 0.07, 1, partial(both_ways, within=False), clip_grads)
info_nce = quick(("query", "positive_key"), 0.1, 1, one_way, info_nce_grads)
nt_xent = quick(("view_a", "view_b"), 0.1, 2, partial(both_ways, within=True), ViewGrads)
