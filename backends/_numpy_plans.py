"""The plans of the plainest calls, made with as little ado as can be: what small batches spend their time on.

Two arrays of rows whose squares are in no danger, by cosine, a number for the temperature, no option. Who is whose
negative is the reference's; a call that isn't as plain, or is wrong, isn't planned here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from infonce_ref.backends._numpy_unit import BothWays, Views
from infonce_ref.backends._plans import TEMPERATURES
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

# With |s| below this, e^s, sums of it and ratios keep 14 decades (float32) from under- and overflow.
LARGEST_UNSHIFTED = {np.dtype("float32"): 40.0, np.dtype("float64"): 300.0}


def unit_rows(x: Array) -> tuple[Array, Callable[[Array], Array]] | None:
    """The reference's `unit_rows`, in fewer steps; None where a square is in danger."""
    square = np.einsum("nd,nd->n", x, x)
    low, high = SQUARES[x.dtype]
    if not (low < square.min() and square.max() < high):
        return None
    norm = np.sqrt(square)[:, None]
    u = x / norm

    def pullback(v: Array) -> Array:
        along: Array = u * np.einsum("nd,nd->n", u, v)[:, None]
        np.subtract(v, along, out=along)
        along /= norm
        return along

    return u, pullback


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


def moderate(tau: float, rows: int, dtype: Any) -> bool:
    """No exponential of a score, nor a sum or a ratio of two, comes near the limits of its dtype."""
    return 1 / tau + math.log(rows) < LARGEST_UNSHIFTED[dtype]


def unit_plan(like: Array, rows: Any, entries: int, given: Mapping[str, Any], to_arguments: Any) -> Plan[Any]:
    """The plan of rows that are visited in tiles of their own."""
    weights = np.empty((entries, 0), like.dtype)
    reduction = reduce_by(array_namespace(like), given.get("reduction", "mean"), weights, None)
    return Plan(array_namespace(like), entries, rows, reduction, to_arguments, default_block_size(entries, 32))


def info_nce(given: Mapping[str, Any]) -> Plan[Any] | None:
    """The plan of this call; None if it isn't plain."""
    call = plain(given, "query", "positive_key", 0.1)
    if call is None:
        return None
    query, key, tau = call
    with np.errstate(over="ignore", under="ignore"):  # what they come from isn't planned here
        queries, keys = unit_rows(query), unit_rows(key)
    if queries is None or keys is None:
        return None
    (q, to_query), (k, to_keys) = queries, keys

    def to_arguments(g: Mapping[str, Array]) -> InfoNCEGrads:
        return InfoNCEGrads(
            to_query(g["query"]), to_keys(g["positive_key"]), None, g["temperature"], g["margin"], None, None
        )

    xp, n = array_namespace(query), len(query)
    who = candidates(xp, query, key, None, True, None)
    rows = Contrasted(xp, who.layout(q, k, None, softplus_link), q.dtype.type(tau), q.dtype.type(0))
    reduction = reduce_by(xp, given.get("reduction", "mean"), q, None)
    return Plan(xp, n, rows, reduction, to_arguments, default_block_size(n, 8 * q.itemsize))


def clip(given: Mapping[str, Any]) -> Plan[Any] | None:
    """The plan of this call; None if it isn't plain, or the temperature is low."""
    call = plain(given, "image", "text", 0.07)
    if call is None or not moderate(call[2], len(call[0]), call[0].dtype):
        return None
    image, text, tau = call
    with np.errstate(over="ignore", under="ignore"):
        images, texts = unit_rows(image), unit_rows(text)
    if images is None or texts is None:
        return None
    (u, to_image), (v, to_text) = images, texts

    def to_arguments(g: Mapping[str, Array]) -> CLIPGrads:
        return CLIPGrads(to_image(g["image"]), to_text(g["text"]), None, None, g["temperature"], g["margin"])

    return unit_plan(u, BothWays(u, v, u.dtype.type(tau), ("image", "text")), len(u), given, to_arguments)


def nt_xent(given: Mapping[str, Any]) -> Plan[Any] | None:
    """The plan of this call; None if it isn't plain, or the temperature is low."""
    call = plain(given, "view_a", "view_b", 0.1)
    if call is None or not moderate(call[2], 2 * len(call[0]), call[0].dtype):
        return None
    a, b, tau = call
    with np.errstate(over="ignore", under="ignore"):
        views = unit_rows(np.concatenate([a, b]))
    if views is None:
        return None
    u, to_views = views
    n = len(a)

    def to_arguments(g: Mapping[str, Array]) -> ViewGrads:
        both = to_views(g["views"])
        return ViewGrads(both[:n], both[n:], g["temperature"], g["margin"])

    return unit_plan(u, Views(u, u.dtype.type(tau)), 2 * n, given, to_arguments)
