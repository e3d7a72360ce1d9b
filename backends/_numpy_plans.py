"""The plan of info_nce's plainest call, made with as little ado as can be: what small batches spend their time on.

Two arrays of rows whose squares are in no danger, by cosine, a number for the temperature, no option. Who is whose
negative is the reference's; a call that isn't as plain, or is wrong, isn't planned here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from infonce_ref.backends._plans import TEMPERATURES
from infonce_ref.candidates import candidates
from infonce_ref.contrast import Contrasted
from infonce_ref.link import softplus_link
from infonce_ref.loss import Plan, default_block_size
from infonce_ref.losses.info_nce import InfoNCEGrads
from infonce_ref.reduction import reduce_by

Array = np.ndarray[Any, Any]

# Squared norms that neither overflow nor lose digits.
SQUARES = {np.dtype("float32"): (1e-30, 1e30), np.dtype("float64"): (1e-300, 1e300)}
PLAIN = {"query", "positive_key", "temperature", "similarity", "reduction"}


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


def info_nce(given: Mapping[str, Any]) -> Plan[Any] | None:
    """The plan of this call; None if it isn't plain."""
    query, key, tau = given.get("query"), given.get("positive_key"), given.get("temperature", 0.1)
    if not given.keys() <= PLAIN or type(query) is not np.ndarray or type(key) is not np.ndarray:
        return None
    if query.dtype not in SQUARES or key.dtype != query.dtype or query.ndim != 2 or key.shape != query.shape:
        return None
    if given.get("similarity", "cosine") != "cosine" or given.get("reduction", "mean") not in ("mean", "sum", "none"):
        return None
    if query.size == 0 or type(tau) is not float or not TEMPERATURES[0] < tau < TEMPERATURES[1]:
        return None
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
