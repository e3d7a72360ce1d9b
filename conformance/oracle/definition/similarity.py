"""From a problem to exact numbers, from rows to similarities, and back from the gradient by a similarity.

Every similarity is an inner product of two rows u: unit rows (cosine), the rows themselves (dot), query @ W and the
keys (bilinear).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from mpmath import mp

from infonce_ref.conformance.family import KINDS
from infonce_ref.conformance.oracle.definition.candidates import Entry, Pair, Place
from infonce_ref.conformance.problem import Problem

Array = np.ndarray[Any, Any]

sqrt = np.frompyfunc(mp.sqrt, 1, 1)
exact = np.frompyfunc(mp.mpf, 1, 1)


class Call(NamedTuple):
    """A problem in exact numbers, in the precision at work."""

    problem: Problem
    entries: list[Entry]
    rows: Mapping[str, Array]  # the arguments that have a gradient; what no pair uses is 0
    u: Mapping[str, Array]  # the rows whose inner products are the similarities
    tau: Any
    margin: Any
    bias: Any


def read(problem: Problem, entries: list[Entry]) -> Call:
    """The problem's numbers as mpf. What no row of the loss uses may hold anything."""
    pairs = [pair for entry in entries for row in entry for pair in (*row.positive, *row.negative)]
    used = {place for pair in pairs for place in (pair.anchor, pair.candidate) if place is not None}
    used |= {("logit_bias", pair.column) for pair in pairs if pair.column is not None}
    rows = {name: read_rows(problem, name, used) for name in problem.differentiable if name in problem.arrays}
    tau, margin, bias = (exact(finite(name, getattr(problem, name))) for name in ("temperature", "margin", "bias"))
    if tau <= 0:
        raise ValueError(f"temperature must be > 0, got {problem.temperature!r}")
    return Call(problem, entries, rows, compared(problem, rows), tau, margin, bias)


def read_rows(problem: Problem, name: str, used: Iterable[Place]) -> Array:
    """One argument as mpf, with 0 for what isn't used; W is."""
    given = problem.arrays[name]
    if name == "bilinear_weight":
        return np.asarray(exact(finite(name, given)), dtype=object)
    read = np.full(given.shape, mp.zero, dtype=object)
    for place in used:
        if place[0] == name:
            read[place[1:]] = exact(finite(name, given[place[1:]]))
    return read


def finite(name: str, given: Any) -> Any:
    """`given`, which has no exact answer unless all of it is finite."""
    if not all(mp.isfinite(x) for x in np.asarray(given).flat):
        raise ValueError(f"{name} must be finite where it matters: there is no exact answer")
    return given


# --- rows ------------------------------------------------------------------------------------------


def compared(problem: Problem, rows: Mapping[str, Array]) -> dict[str, Array]:
    """The rows u of every embedding."""
    embeddings = {name: x for name, x in rows.items() if KINDS[name] == "embedding"}
    if problem.similarity == "cosine":
        return {name: unit(x) for name, x in embeddings.items()}
    if problem.similarity == "bilinear":
        return {**embeddings, "query": rows["query"] @ rows["bilinear_weight"]}
    return embeddings


def row_gradients(call: Call, by_u: Mapping[str, Array]) -> dict[str, Array]:
    """Gradients by the embeddings, and by W, from those by the rows u."""
    if call.problem.similarity == "cosine":
        return {name: unit_pullback(call.rows[name], g) for name, g in by_u.items()}
    if call.problem.similarity == "bilinear":
        q, w, g = call.rows["query"], call.rows["bilinear_weight"], by_u["query"]
        return {**by_u, "query": g @ w.T, "bilinear_weight": q.T @ g}
    return dict(by_u)


def unit(x: Array) -> Array:
    """x / ‖x‖, 0 for a zero row."""
    y: Array = x / nonzero_norm(x)
    return y


def unit_pullback(x: Array, g: Array) -> Array:
    """(g − ⟨g, x⟩ x / ‖x‖²) / ‖x‖, 0 for a zero row: the part of g across x, over the norm."""
    norm, y = nonzero_norm(x), unit(x)
    across = g - (g * y).sum(axis=-1, keepdims=True) * y
    grad: Array = np.where((x == 0).all(axis=-1, keepdims=True), mp.zero, across / norm)
    return grad


def nonzero_norm(x: Array) -> Array:
    """‖x‖ of every row, kept as a column; 1 where it is 0."""
    norm: Array = sqrt((x * x).sum(axis=-1, keepdims=True) + mp.zero)
    return np.where(norm == 0, mp.one, norm)


# --- pairs -----------------------------------------------------------------------------------------


def at(arrays: Mapping[str, Array], place: Place) -> Any:
    """The row, or number, at a place."""
    return arrays[place[0]][place[1:]]


def similarities(call: Call, pairs: Iterable[Pair]) -> Array:
    """⟨u, u'⟩ of every pair, or the logit that was given."""
    return numbers(
        at(call.rows, pair.anchor)
        if pair.candidate is None
        else (at(call.u, pair.anchor) * at(call.u, pair.candidate)).sum() + mp.zero
        for pair in pairs
    )


def sizes(call: Call, pairs: Iterable[Pair]) -> Array:
    """Σ_d |u_d u'_d| of every pair: the size of the terms that its similarity is the sum of."""
    return numbers(abs(at(call.u, x.anchor) * at(call.u, x.candidate)).sum() + mp.zero for x in pairs if x.candidate)


def offsets(call: Call, pairs: Iterable[Pair]) -> Array:
    """What is added to every pair's logit after the scale: bias, and the candidate's logit_bias."""
    b = call.rows.get("logit_bias")
    return numbers(call.bias + (mp.zero if b is None or pair.column is None else b[pair.column]) for pair in pairs)


def pull_back(call: Call, pairs: Iterable[Pair], by_similarity: Array, grad: Mapping[str, Array]) -> None:
    """Adds the gradients by the rows u, or by given logits, from those by the pairs' similarities."""
    for pair, g in zip(pairs, by_similarity, strict=True):
        if pair.candidate is None:
            grad["logits"][pair.anchor[1:]] += g
        else:
            for one, other in ((pair.anchor, pair.candidate), (pair.candidate, pair.anchor)):
                grad[one[0]][one[1:]] += at(call.u, other) * g  # array first: mpmath prints what it can't multiply


def numbers(given: Iterable[Any]) -> Array:
    """A 1-D array of objects, also of none."""
    listed = list(given)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array
