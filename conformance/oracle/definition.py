"""The first oracle: info_nce in mpmath, straight from its definition.

Textbook formulas, no numerical care but digits: the loss of query i is softplus(ν − π) over its candidate set,
the gradient by its logits is p − onehot, that of a cosine is the explicit projection. Object arrays of mpf.

    u (N, E)   what a query brings into the inner product: unit row (cosine), row (dot), row @ W (bilinear)
    v (K, E)   likewise of positive_key
    n (M, E) or (N, M, E)   likewise of negative_keys
    s (N, C)   logits of the candidate columns (in-batch keys, then negatives); s_p (N,) that of the positive
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from mpmath import mp

from infonce_ref.conformance.oracle import SIGNIFICANT, SMALLEST, Answer
from infonce_ref.conformance.problem import Problem

Array = np.ndarray[Any, Any]

exp = np.frompyfunc(mp.exp, 1, 1)
log = np.frompyfunc(mp.log, 1, 1)
sqrt = np.frompyfunc(mp.sqrt, 1, 1)
exact = np.frompyfunc(mp.mpf, 1, 1)

GUARD = 40  # digits for cancellation in the geometry: nearly parallel rows, nearly equal keys
STEP = 50  # digits more for the evaluation that confirms the first


def evaluate(problem: Problem, digits: int | None = None) -> Answer:
    """The exact loss and gradients of `problem`, computed in `digits` digits (None: as many as it takes)."""
    if digits is not None:
        return solve(problem, digits)
    coarse = solve(problem, enough_digits(problem))
    while True:
        fine = solve(problem, coarse.digits + STEP)
        settled = settle(coarse, fine)
        if settled is not None:
            return settled
        coarse = fine


# --- the loss and its gradient ---------------------------------------------------------------------


def solve(problem: Problem, digits: int) -> Answer:
    """Loss and gradients in `digits` digits, as computed."""
    with mp.workdps(digits):
        sets = candidate_sets(problem)
        rows = exact_rows(problem, sets)
        tau, margin = exact_scalars(problem)
        u, v, n = inner_product_rows(problem, rows)

        sim_p, sim = similarities(u, v, n, sets)
        s_p = (sim_p - margin) / tau
        s = sim / tau

        each, p_p, p = softmax_cross_entropy(s_p, s, sets.negative)
        share, weight = reduction_weights(problem)
        loss = weight * each if problem.reduction == "none" else (share * each).sum()

        ds_p = share * (p_p - 1)
        ds = share[:, None] * p
        grad = {
            "temperature": -((ds_p * s_p).sum() + (ds * s).sum()) / tau,
            "margin": -ds_p.sum() / tau,
            **row_gradients(problem, rows, inner_product_pullback(u, v, n, sets, ds_p / tau, ds / tau)),
        }
        return Answer(entries(loss), {name: entries(grad[name]) for name in problem.differentiable}, digits)


def softmax_cross_entropy(s_p: Array, s: Array, negative: Array) -> tuple[Array, Array, Array]:
    """softplus(ν − π) of every row, and its softmax: p of the positive and of the columns (0 outside the set)."""
    e_p, e = exp(s_p), np.full(s.shape, mp.zero, dtype=object)
    e[negative] = exp(s[negative])
    total = e.sum(axis=1) + mp.zero  # the sum of no columns is an int
    some = negative.any(axis=1)
    each = np.full(s_p.shape, mp.zero, dtype=object)  # no negative: ν = −∞, the loss is 0
    each[some] = log(1 + exp(log(total[some]) - s_p[some]))  # nu - pi
    return each, e_p / (e_p + total), e / (e_p + total)[:, None]


def reduction_weights(problem: Problem) -> tuple[Array, Array]:
    """What each row's loss is multiplied by in the sum that is differentiated, and its sample_weight."""
    count = len(problem.arrays["query"])
    given = problem.sample_weight
    weight = exact(np.ones(count) if given is None else finite("sample_weight", given))
    if problem.reduction != "mean":
        return weight, weight
    total = weight.sum()
    return (weight / total if total != 0 else weight), weight  # no weight at all: 0 times every loss


# --- candidates ------------------------------------------------------------------------------------


class Sets(NamedTuple):
    """Who stands in whose softmax."""

    positive: Array  # (N,): the row of positive_key that is query i's positive
    negative: Array  # (N, C): whether column c is a negative of query i
    in_batch: int  # how many columns are rows of positive_key; the others are negative_keys


def candidate_sets(problem: Problem) -> Sets:
    """The sets P_i and A_i less P_i: columns are the positive keys (if in the batch), then the negative keys."""
    count, given = len(problem.arrays["query"]), problem.negative_keys
    in_batch = len(problem.arrays["positive_key"]) if problem.in_batch_negatives else 0
    columns = in_batch + (0 if given is None else given.shape[-2])
    index, mask = problem.positive_index, problem.candidate_mask
    positive = np.arange(count) if index is None else np.asarray(index)
    negative = np.ones((count, columns), dtype=bool) if mask is None else np.array(mask, dtype=bool)
    if problem.in_batch_negatives:
        negative[np.arange(count), positive] = False
    return Sets(positive, negative, in_batch)


def used_keys(problem: Problem, sets: Sets) -> dict[str, Array]:
    """Which key rows stand in anyone's softmax; the others may hold anything."""
    batch, explicit = sets.negative[:, : sets.in_batch], sets.negative[:, sets.in_batch :]
    used: Array = np.isin(np.arange(len(problem.arrays["positive_key"])), sets.positive)
    if sets.in_batch:
        used = used | batch.any(axis=0)
    shared = problem.negative_keys is not None and problem.negative_keys.ndim == 2
    return {"positive_key": used, "negative_keys": np.any(explicit, axis=0) if shared else explicit}


def exact_rows(problem: Problem, sets: Sets) -> dict[str, Array]:
    """Embeddings and W as mpf, the key rows that nobody uses as zeros."""
    used = used_keys(problem, sets)
    rows = {}
    for name in ("query", "positive_key", "negative_keys", "bilinear_weight"):
        if name in problem.arrays:
            given = problem.arrays[name]
            kept = np.where(used[name][..., None], given, 0.0) if name in used else given
            rows[name] = exact(finite(name, kept))
    return rows


def exact_scalars(problem: Problem) -> tuple[Any, Any]:
    """temperature > 0 and margin as mpf."""
    tau, margin = exact(finite("temperature", problem.temperature)), exact(finite("margin", problem.margin))
    if tau <= 0:
        raise ValueError(f"temperature must be > 0, got {problem.temperature!r}")
    return tau, margin


def finite(name: str, given: Any) -> Any:
    """`given`, which has no exact answer unless all of it is finite."""
    if not all(mp.isfinite(x) for x in np.asarray(given).flat):
        raise ValueError(f"{name} must be finite where it matters: there is no exact answer")
    return given


# --- similarity ------------------------------------------------------------------------------------


def inner_product_rows(problem: Problem, rows: dict[str, Array]) -> tuple[Array, Array, Array | None]:
    """The rows u, v, n whose inner products are the similarities."""
    q, k, n = rows["query"], rows["positive_key"], rows.get("negative_keys")
    if problem.similarity == "cosine":
        return unit(q), unit(k), None if n is None else unit(n)
    return (q @ rows["bilinear_weight"] if problem.similarity == "bilinear" else q), k, n


def row_gradients(
    problem: Problem, rows: dict[str, Array], pulled: tuple[Array, Array, Array | None]
) -> dict[str, Array]:
    """Gradients by the arguments from the gradients by u, v, n."""
    du, dv, dn = pulled
    by_rows = {"query": du, "positive_key": dv, **({} if dn is None else {"negative_keys": dn})}
    if problem.similarity == "cosine":
        return {name: unit_pullback(rows[name], g) for name, g in by_rows.items()}
    if problem.similarity == "bilinear":
        q, w = rows["query"], rows["bilinear_weight"]
        return {**by_rows, "query": du @ w.T, "bilinear_weight": q.T @ du}
    return by_rows


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


def similarities(u: Array, v: Array, n: Array | None, sets: Sets) -> tuple[Array, Array]:
    """⟨u_i, v_p⟩ for the positive, (N,), and the inner products with all candidate columns, (N, C)."""
    columns = [u @ v[: sets.in_batch].T]
    if n is not None:
        columns.append(u @ n.T if n.ndim == 2 else (u[:, None, :] * n).sum(axis=-1))
    return (u * v[sets.positive]).sum(axis=-1), np.concatenate(columns, axis=1)


def inner_product_pullback(
    u: Array, v: Array, n: Array | None, sets: Sets, g_p: Array, g: Array
) -> tuple[Array, Array, Array | None]:
    """Gradients by u, v and n, from those by the similarities: g_p by the positive's, g by the columns'."""
    g_k, g_n = g[:, : sets.in_batch], g[:, sets.in_batch :]
    du, dv = g_p[:, None] * v[sets.positive], np.full(v.shape, mp.zero, dtype=object)
    np.add.at(dv, sets.positive, g_p[:, None] * u)
    if sets.in_batch:
        du, dv = du + g_k @ v, dv + g_k.T @ u
    if n is None or n.size == 0:
        return du, dv, n
    if n.ndim == 2:
        return du + g_n @ n, dv, g_n.T @ u
    return du + (g_n[:, :, None] * n).sum(axis=1), dv, g_n[:, :, None] * u[:, None, :]


# --- how many digits -------------------------------------------------------------------------------


def enough_digits(problem: Problem) -> int:
    """Digits that keep SIGNIFICANT of them right in the smallest share of any softmax, after all cancellation.

    p_p − 1 loses the digits of the loss and e^s those of |s|; entries where the large shares cancel are as small
    as the smallest share, so that the spread of a row's logits decides. Shares that leave every answer below
    10^SMALLEST, even over a subnormal temperature and norm, needn't be resolved.
    """
    with mp.workdps(30):
        sets = candidate_sets(problem)
        tau, margin = exact_scalars(problem)
        sim_p, sim = similarities(*inner_product_rows(problem, exact_rows(problem, sets)), sets)
        spread, largest = mp.zero, abs(margin / tau)
        for s_p, s, negative in zip((sim_p - margin) / tau, sim / tau, sets.negative, strict=True):
            row = [s_p, *s[negative]]
            spread = max(spread, max(row) - min(row))
            largest = max(largest, *(abs(x) for x in row))
        share = min(spread / mp.ln10, 1000 - SMALLEST)
        return SIGNIFICANT + GUARD + int(mp.ceil(share + mp.log10(1 + largest)))


def settle(coarse: Answer, fine: Answer) -> Answer | None:
    """`fine` with its exact zeros, if `coarse` confirms every entry; None where the digits didn't suffice."""
    with mp.workdps(fine.digits):
        one, other = coarse.outputs(), fine.outputs()
        both = {name: entries(np.frompyfunc(settled, 2, 1)(one[name], other[name])) for name in one}
        if any(x is None for a in both.values() for x in a.flat):
            return None
        return Answer(both.pop("loss"), both, fine.digits)


def settled(coarse: Any, fine: Any) -> Any:
    """`fine` if `coarse` has its SIGNIFICANT digits; 0 if it is noise, which falls with the precision; else None."""
    if abs(fine) < mp.mpf(10) ** SMALLEST or abs(fine) * mp.mpf(10) ** (STEP - 20) <= abs(coarse):
        return mp.zero
    return fine if abs(fine - coarse) <= abs(fine) * mp.mpf(10) ** -SIGNIFICANT else None


def entries(value: Any) -> Array:
    """`value` as an array of objects, a number as one of shape ()."""
    return np.asarray(value, dtype=object)
