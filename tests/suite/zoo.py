"""Correct implementations of info_nce in many orders of evaluation, and wrong ones: what the bounds are tried on.

A score order says how logits come from rows, a row order how losses come from logits; torch and JAX differentiate
the pairs themselves, NumPy has analytic gradients with its sums in a chosen order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import array_api_compat.numpy as numpy_namespace
import array_api_compat.torch as torch_namespace
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import torch

from infonce_ref.conformance.problem import Problem

Outputs = dict[str, np.ndarray]
Inputs = Mapping[str, Any]  # the real arguments, as arrays of one library; absent ones are None


@dataclass(frozen=True)
class Setting:
    """What isn't differentiated: shapes, who is whose candidate, weights."""

    xp: Any
    similarity: str
    active: Any  # (N, C) bool
    positive: Any  # (N, C) bool
    factors: Any  # (N,): weight of each row's loss in the sum
    summed: bool


def masks(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Active and positive entries over the columns: positive keys, then negatives."""
    rows, keys = len(problem.arrays["query"]), len(problem.arrays["positive_key"])
    explicit = problem.arrays["negative_keys"].shape[-2] if "negative_keys" in problem.arrays else 0
    active = np.ones((rows, keys + explicit), bool)
    active[:, :keys] &= problem.in_batch_negatives
    if "candidate_mask" in problem.arrays:
        mask = problem.arrays["candidate_mask"]
        active[:, -mask.shape[1] :] &= mask
    positive = np.zeros_like(active)
    positive[np.arange(rows), problem.arrays.get("positive_index", np.arange(rows))] = True
    return active | positive, positive


def setting_of(problem: Problem, xp: Any, asarray: Callable[[np.ndarray], Any]) -> Setting:
    active, positive = masks(problem)
    rows = len(active)
    factors = asarray(problem.arrays.get("sample_weight", np.ones(rows)))
    if problem.reduction == "mean":
        factors = factors / xp.sum(factors)
    flags = torch.as_tensor if xp is torch_namespace else xp.asarray
    return Setting(xp, problem.similarity, flags(active), flags(positive), factors, problem.reduction != "none")


def numbers(problem: Problem) -> dict[str, np.ndarray]:
    """The differentiable arguments."""
    scalars = {"temperature": np.array(problem.temperature), "margin": np.array(problem.margin)}
    return {name: scalars.get(name, problem.arrays.get(name)) for name in problem.differentiable}


# ------------------------------------------------------------------------------------------ logits in many orders


def length(xp: Any, x: Any) -> Any:
    return xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))


def inner(a: Any, b: Any) -> Any:
    """(N, D) with (M, D) or (N, M, D) -> (N, M), by matrix product."""
    return a @ b.T if b.ndim == 2 else (b @ a[:, :, None])[:, :, 0]


def unit(at: Setting, x: Any) -> Any:
    return x / length(at.xp, x) if at.similarity == "cosine" else x


def left(inputs: Inputs, query: Any) -> Any:
    """The bilinear product belongs to the query's side in most orders."""
    return query if inputs.get("bilinear_weight") is None else query @ inputs["bilinear_weight"]


def usual(at: Setting, inputs: Inputs, keys: Any) -> Any:
    return inner(unit(at, left(inputs, inputs["query"])), unit(at, keys)) / inputs["temperature"]


def divide_first(at: Setting, inputs: Inputs, keys: Any) -> Any:
    return inner(unit(at, left(inputs, inputs["query"])) / inputs["temperature"], unit(at, keys))


def reciprocal(at: Setting, inputs: Inputs, keys: Any) -> Any:
    return inner(unit(at, left(inputs, inputs["query"])), unit(at, keys)) * (1 / inputs["temperature"])


def root_on_both_sides(at: Setting, inputs: Inputs, keys: Any) -> Any:
    root = at.xp.sqrt(inputs["temperature"])
    return inner(unit(at, left(inputs, inputs["query"])) / root, unit(at, keys) / root)


def norms_after(at: Setting, inputs: Inputs, keys: Any) -> Any:
    query = inputs["query"]
    if at.similarity != "cosine":
        weight = inputs.get("bilinear_weight")
        return inner(query, keys if weight is None else keys @ weight.T) / inputs["temperature"]
    lengths = length(at.xp, query) * length(at.xp, keys)[..., 0]
    return inner(query, keys) / lengths / inputs["temperature"]


def reversed_sum(at: Setting, inputs: Inputs, keys: Any) -> Any:
    query = unit(at, left(inputs, inputs["query"]))
    keys = unit(at, keys)
    terms = query[:, None, :] * (keys[None] if keys.ndim == 2 else keys)
    result = terms[..., -1]
    for column in range(terms.shape[-1] - 2, -1, -1):
        result = result + terms[..., column]
    return result / inputs["temperature"]


def reciprocal_norm(at: Setting, inputs: Inputs, keys: Any) -> Any:
    def scaled(x: Any) -> Any:
        return x * (1 / length(at.xp, x)) if at.similarity == "cosine" else x

    return inner(scaled(left(inputs, inputs["query"])), scaled(keys)) / inputs["temperature"]


def einsum(at: Setting, inputs: Inputs, keys: Any) -> Any:
    namespace: Any = torch if at.xp is torch_namespace else at.xp
    pattern = "nd,md->nm" if keys.ndim == 2 else "nd,nmd->nm"
    query = unit(at, left(inputs, inputs["query"]))
    return namespace.einsum(pattern, query, unit(at, keys)) / inputs["temperature"]


# ------------------------------------------------------------------------------------------ rows in many orders


def pick(at: Setting, logits: Any) -> Any:
    return at.xp.sum(at.xp.where(at.positive, logits, 0 * logits[:1, :1]), axis=1)


def hidden(at: Setting, logits: Any) -> Any:
    return at.xp.where(at.active, logits, float("-inf"))


def torch_cross_entropy(at: Setting, logits: Any) -> Any:
    labels = at.positive.int().argmax(dim=1)
    return torch.nn.functional.cross_entropy(hidden(at, logits), labels, reduction="none")


def log_softmax(at: Setting, logits: Any) -> Any:
    library: Any = torch if at.xp is torch_namespace else jax.nn
    rows = library.log_softmax(hidden(at, logits), -1)
    return -at.xp.sum(at.xp.where(at.positive, rows, 0 * logits[:1, :1]), axis=1)


def logsumexp(at: Setting, logits: Any) -> Any:
    lse = torch.logsumexp if at.xp is torch_namespace else jax.nn.logsumexp
    return lse(hidden(at, logits), 1) - pick(at, logits)


def shifted_by_hand(at: Setting, logits: Any) -> Any:
    rows = hidden(at, logits)
    top = at.xp.max(rows, axis=1, keepdims=True)
    return at.xp.log(at.xp.sum(at.xp.exp(rows - top), axis=1)) - (pick(at, logits) - top[:, 0])


def streamed(at: Setting, logits: Any, block: int = 1) -> Any:
    """Running maximum and sum, `block` columns at a time, as a kernel would that never holds a row."""
    xp, rows = at.xp, hidden(at, logits)
    top, sums = pick(at, logits), 0
    positive = xp.where(at.positive, logits, float("-inf"))
    for start in range(0, rows.shape[1], block):
        part = xp.where(at.positive[:, start : start + block], float("-inf"), rows[:, start : start + block])
        new = xp.maximum(top, xp.max(part, axis=1))
        sums = sums * xp.exp(top - new) + xp.sum(xp.exp(part - new[:, None]), axis=1)
        top = new
    sums = sums + xp.exp(xp.max(positive, axis=1) - top)
    return top + xp.log(sums) - pick(at, logits)


def streamed_by_three(at: Setting, logits: Any) -> Any:
    return streamed(at, logits, 3)


ORDERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "usual+cross_entropy": (usual, torch_cross_entropy),
    "usual+log_softmax": (usual, log_softmax),
    "divide_first+logsumexp": (divide_first, logsumexp),
    "reciprocal+logsumexp": (reciprocal, logsumexp),
    "root_on_both_sides+logsumexp": (root_on_both_sides, logsumexp),
    "einsum+streamed": (einsum, streamed),
    "norms_after+log_softmax": (norms_after, log_softmax),
    "reversed_sum+shifted_by_hand": (reversed_sum, shifted_by_hand),
    "reciprocal_norm+streamed_by_three": (reciprocal_norm, streamed_by_three),
}


def forward(at: Setting, inputs: Inputs, scores: Callable[..., Any], rows: Callable[..., Any]) -> Any:
    """The loss, (N,) or 0-d, with the order of the two stages given."""
    xp = at.xp
    blocks = [inputs["positive_key"], inputs.get("negative_keys")]
    logits = xp.concat([scores(at, inputs, keys) for keys in blocks if keys is not None], axis=1)
    logits = logits - xp.where(at.positive, inputs["margin"] / inputs["temperature"], 0 * logits)
    losses = rows(at, logits) * at.factors
    return xp.sum(losses) if at.summed else losses


def by_torch(scores: Callable[..., Any], rows: Callable[..., Any], problem: Problem, dtype: str) -> Outputs:
    """Torch's autograd; half formats are storage, computed in float32."""
    stored = getattr(torch, dtype)
    computed = torch.float64 if dtype == "float64" else torch.float32
    leaves = {n: torch.tensor(x, dtype=stored, requires_grad=True) for n, x in numbers(problem).items()}
    at = setting_of(problem, torch_namespace, lambda x: torch.tensor(x, dtype=computed))
    loss = forward(at, {n: x.to(computed) for n, x in leaves.items()}, scores, rows)
    loss.sum().backward()
    return {"loss": loss.detach().double().numpy()} | {
        name: leaf.grad.double().numpy() for name, leaf in leaves.items()
    }


def by_jax(scores: Callable[..., Any], rows: Callable[..., Any], problem: Problem, dtype: str) -> Outputs:
    """JAX's grad, in 64 bits where asked."""
    with jax.enable_x64(dtype == "float64"):
        stored, computed = jnp.dtype(dtype), jnp.dtype("float64" if dtype == "float64" else "float32")
        leaves = {name: jnp.asarray(x, stored) for name, x in numbers(problem).items()}
        at = setting_of(problem, jnp, lambda x: jnp.asarray(x, computed))

        def loss_of(inputs: Inputs) -> tuple[Any, Any]:
            loss = forward(at, {n: x.astype(computed) for n, x in inputs.items()}, scores, rows)
            return loss.sum(), loss

        gradient, loss = jax.grad(loss_of, has_aux=True)(leaves)
        return {"loss": np.asarray(loss, float)} | {n: np.asarray(g, float) for n, g in gradient.items()}


# ------------------------------------------------------------------------------------------ analytic gradients


Matmul = Callable[[np.ndarray, np.ndarray], np.ndarray]


def one_after_another(a: Any, b: Any) -> Any:
    """A matrix product whose sums run from the first term to the last, as in a plain loop."""
    result = a[..., :, :1] * b[..., :1, :]
    for k in range(1, a.shape[-1]):
        result = result + a[..., :, k : k + 1] * b[..., k : k + 1, :]
    return result


def from_the_last(a: Any, b: Any) -> Any:
    return one_after_another(a[..., ::-1], b[..., ::-1, :])


def softmax_rows(xp: Any, logits: Any, active: Any, positive: Any) -> tuple[Any, Any, Any]:
    """Loss, its gradient by the logits, and what that gradient meets in the temperature's."""
    rows = xp.where(active, logits, -xp.inf)
    top = xp.max(rows, axis=1, keepdims=True)
    weights = xp.exp(rows - top)
    sums = xp.sum(weights, axis=1, keepdims=True)
    losses = (top + xp.log(sums) - logits[positive][:, None])[:, 0]
    return losses, weights / sums - xp.astype(positive, logits.dtype), logits


def softplus_rows(xp: Any, logits: Any, active: Any, positive: Any) -> tuple[Any, Any, Any]:
    """The same by softplus of the negatives' logsumexp less the positive: accurate however small the loss."""
    negative = active & ~positive
    differences = logits - logits[positive][:, None]
    alone = ~xp.any(negative, axis=1, keepdims=True)
    hid = xp.where(negative, differences, -xp.inf)
    top = xp.max(hid, axis=1, keepdims=True)
    top = xp.where(alone, xp.zeros_like(top), top)
    weights = xp.exp(hid - top)
    sums = xp.where(alone, xp.ones_like(top), xp.sum(weights, axis=1, keepdims=True))
    x = top + xp.log(sums)
    tail = xp.exp(-xp.abs(x))
    losses = xp.where(alone, xp.zeros_like(x), xp.where(x > 0, x, xp.zeros_like(x)) + xp.log1p(tail))[:, 0]
    sigma = xp.where(x > 0, xp.ones_like(x), tail) / (1 + tail)
    gradient = sigma * weights / sums
    gradient = gradient - xp.where(positive, xp.sum(gradient, axis=1, keepdims=True), xp.zeros_like(gradient))
    return losses, gradient, xp.where(active, differences, xp.zeros_like(differences))


def analytic(xp: Any, matmul: Any, rows: Callable[..., Any], problem: Problem, dtype: str) -> Outputs:
    """Forward and backward written out, every matrix product by `matmul`."""
    host = np.dtype("float64" if dtype == "float64" else "float32")

    def asarray(x: np.ndarray) -> Any:
        return xp.asarray(np.asarray(x).astype(host))

    given = {name: asarray(x) for name, x in numbers(problem).items()}
    at = setting_of(problem, xp, asarray)
    weight, tau = given.get("bilinear_weight"), given["temperature"]
    blocks = [given["positive_key"], *([given["negative_keys"]] if "negative_keys" in given else [])]
    anchor = given["query"] if weight is None else matmul(given["query"], weight)
    lengths = [length(xp, x) if at.similarity == "cosine" else xp.ones_like(x[..., :1]) for x in (anchor, *blocks)]
    anchors, keys = anchor / lengths[0], [x / n for x, n in zip(blocks, lengths[1:], strict=True)]

    def columns(k: Any) -> Any:
        return matmul(anchors, k.T) if k.ndim == 2 else matmul(k, anchors[:, :, None])[:, :, 0]

    sims = xp.concat([columns(k) for k in keys], axis=1)
    sims = sims - xp.where(at.positive, given["margin"], xp.zeros_like(sims))
    losses, gradient, differences = rows(xp, sims / tau, at.active, at.positive)
    gradient = gradient * at.factors[:, None]
    losses = losses * at.factors
    found = {"loss": xp.sum(losses) if at.summed else losses}
    found["temperature"] = -xp.sum(gradient * differences) / tau
    found["margin"] = -xp.sum(gradient[at.positive]) / tau

    def through_norm(cotangent: Any, unit_rows: Any, size: Any) -> Any:
        if at.similarity != "cosine":
            return cotangent
        return (cotangent - unit_rows * xp.sum(unit_rows * cotangent, axis=-1, keepdims=True)) / size

    back, start = xp.zeros_like(anchors), 0
    for name, k, size in zip(("positive_key", "negative_keys"), keys, lengths[1:], strict=False):
        g = gradient[:, start : start + k.shape[-2]] / tau
        start += k.shape[-2]
        shared = k.ndim == 2
        back = back + (matmul(g, k) if shared else matmul(g[:, None, :], k)[:, 0, :])
        cotangent = matmul(g.T, anchors) if shared else g[:, :, None] * anchors[:, None, :]
        found[name] = through_norm(cotangent, k, size)
    if weight is not None:
        found["bilinear_weight"] = matmul(given["query"].T, back)
        back = matmul(back, weight.T)
    found["query"] = through_norm(back, anchors, lengths[0])
    return {name: stored(np.asarray(x), dtype if name != "loss" else "float64") for name, x in found.items()}


def stored(x: np.ndarray, dtype: str) -> np.ndarray:
    """`x` rounded to the storage format, as float64."""
    with np.errstate(over="ignore"):
        return x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype).astype(float)


Implementation = Callable[[Problem, str], Outputs]


def bind(function: Callable[..., Outputs], *first: Any) -> Implementation:
    return lambda problem, dtype: function(*first, problem, dtype)


TEXTBOOK: dict[str, Implementation] = {
    **{f"torch:{name}": bind(by_torch, *order) for name, order in ORDERS.items()},
    **{f"jax:{name}": bind(by_jax, *order) for name, order in ORDERS.items() if "cross_entropy" not in name},
    "numpy:matmul": bind(analytic, numpy_namespace, np.matmul, softmax_rows),
    "numpy:loops": bind(analytic, numpy_namespace, one_after_another, softmax_rows),
    "numpy:reversed": bind(analytic, numpy_namespace, from_the_last, softmax_rows),
}
PRECISE: dict[str, Implementation] = {
    "numpy:softplus": bind(analytic, numpy_namespace, np.matmul, softplus_rows),
    "numpy:softplus_loops": bind(analytic, numpy_namespace, one_after_another, softplus_rows),
    "numpy:softplus_reversed": bind(analytic, numpy_namespace, from_the_last, softplus_rows),
    "torch:softplus": bind(analytic, torch_namespace, torch.matmul, softplus_rows),
}


# ------------------------------------------------------------------------------------------ inputs


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """`x` as numbers that every format from `dtype` up holds exactly."""
    return stored(np.asarray(x, dtype=float), dtype)


def problem_of(kind: str, seed: int, dtype: str = "float32") -> Problem:
    """One problem of a class, a function of the class, the seed and the narrowest dtype it is asked in."""
    rng = np.random.default_rng([seed, *kind.encode()])
    rows, dim = int(rng.choice([2, 5, 8])), int(rng.choice([2, 7, 16]))
    query, key = rng.standard_normal((2, rows, dim))
    options: dict[str, Any] = {"temperature": float(rng.choice([0.0625, 0.125, 0.5, 1.0]))}
    arrays: dict[str, np.ndarray] = {}
    words = kind.split("-")
    if "tau" in words:
        options["temperature"] = float(rounded(np.array(float(words[words.index("tau") + 1])), dtype))
    if "aligned" in words:
        key = query + 0.05 * key
    if "anti" in words:
        key = 0.05 * key - query
    if "collapsed" in words:
        query = key = np.broadcast_to(query[:1], query.shape) + 1e-3 * key * rng.integers(0, 2)
    if "duplicates" in words:
        key = key[rng.integers(0, max(1, rows // 2), rows)]
    if "norms" in words:
        span = 2 if dtype == "float16" else 6
        query, key = (x * 10.0 ** rng.uniform(-span, span, (rows, 1)) for x in (query, key))
    if "single" in words:
        query, key = query[:1], key[:1]
    if "wide" in words:
        query, key = rng.standard_normal((2, 4, 300))
    if "many" in words:
        query, key = rng.standard_normal((2, 33, 3))
    rows, dim = query.shape
    if "index" in words:
        key = rng.standard_normal((rows + 3, dim))
        arrays["positive_index"] = rng.integers(0, rows + 3, rows)
    if "bilinear" in words:
        options["similarity"] = "bilinear"
        arrays["bilinear_weight"] = rng.standard_normal((dim, dim + 1)) / dim
        key = rng.standard_normal((len(key), dim + 1))
    if "dot" in words:
        options["similarity"] = "dot"
    if "shared" in words:
        arrays["negative_keys"] = rng.standard_normal((5, key.shape[1]))
    if "own" in words:
        arrays["negative_keys"] = rng.standard_normal((rows, 3, key.shape[1]))
    if "only" in words:
        options["in_batch_negatives"] = False
    if "margin" in words:
        options["margin"] = 0.25
    if "weights" in words:
        arrays["sample_weight"] = rng.uniform(0, 2, rows) * (rng.uniform(size=rows) > 0.2)
    for reduction in ("sum", "none"):
        if reduction in words:
            options["reduction"] = reduction
    arrays |= {"query": query, "positive_key": key}
    arrays = {n: x if n == "positive_index" else rounded(x, dtype) for n, x in arrays.items()}
    if "masks" in words:
        explicit = arrays["negative_keys"].shape[-2] if "negative_keys" in arrays else 0
        columns = len(key) * options.get("in_batch_negatives", True) + explicit
        arrays["candidate_mask"] = rng.uniform(size=(rows, columns)) > 0.4
    return Problem(dtype, arrays, **options)


KINDS = (
    "benign", "benign-dot", "benign-tau-0.07", "benign-tau-1000", "sharp-tau-0.01",
    "sharp-tau-0.0009765625", "aligned", "aligned-tau-0.01", "collapsed", "anti", "anti-tau-0.01",
    "duplicates", "norms", "norms-tau-0.01", "single", "single-own", "wide", "many", "only-shared",
    "only-own", "shared", "own", "masks", "masks-shared-tau-0.01", "masks-own-only", "index",
    "index-margin-own", "bilinear-shared", "bilinear-masks-margin", "margin", "margin-dot", "weights",
    "weights-sum", "weights-none-masks", "sum", "none-shared",
)  # fmt: skip


def problem_with_loss(loss: float, seed: int) -> Problem:
    """Well aligned pairs in float32, the temperature chosen by bisection so that the loss is about `loss`."""
    rng = np.random.default_rng(seed)
    query = rng.standard_normal((6, 12))
    arrays = {"query": query, "positive_key": query + 0.1 * rng.standard_normal((6, 12))}
    arrays = {name: rounded(x, "float32") for name, x in arrays.items()}
    low, high = 1e-3, 10.0
    while high / low > 1.0001:
        middle = float(np.sqrt(low * high))
        found = analytic(numpy_namespace, np.matmul, softplus_rows, Problem("float64", arrays, middle), "float64")
        low, high = (middle, high) if found["loss"] < loss else (low, middle)
    return Problem("float32", arrays, float(rounded(np.array(low), "float32")))


# ------------------------------------------------------------------------------------------ wrong ones


def right(problem: Problem) -> Outputs:
    return TEXTBOOK["numpy:matmul"](problem, "float64")


def scaled(factor: Callable[[Problem], float], *names: str) -> Callable[[Problem], Outputs]:
    """Right but for the named outputs (none: all), which are multiplied by a factor."""

    def run(problem: Problem) -> Outputs:
        return {n: x * factor(problem) if n in names or not names else x for n, x in right(problem).items()}

    return run


def asked(change: Callable[[Problem], Problem]) -> Callable[[Problem], Outputs]:
    """Right for another problem."""
    return lambda problem: right(change(problem))


def with_rows(rows: Callable[..., Any]) -> Callable[[Problem], Outputs]:
    return lambda problem: analytic(numpy_namespace, np.matmul, rows, problem, "float64")


def changed(problem: Problem, **arrays: Any) -> Problem:
    return replace(problem, arrays={**problem.arrays, **arrays})


def without_positive(xp: Any, logits: Any, active: Any, positive: Any) -> Any:
    losses, gradient, differences = softmax_rows(xp, logits, active & ~positive, positive)
    return losses, gradient, differences


def positive_twice(xp: Any, logits: Any, active: Any, positive: Any) -> Any:
    twice = np.concatenate([logits, logits[positive][:, None]], axis=1)
    more = np.concatenate([active, active[:, :1] | True], axis=1)
    one = np.concatenate([positive, positive[:, :1] & False], axis=1)
    losses, gradient, _ = softmax_rows(xp, twice, more, one)
    gradient[:, :-1][positive] += gradient[:, -1]
    return losses, gradient[:, :-1], logits


def no_shift(xp: Any, logits: Any, active: Any, positive: Any) -> Any:
    with np.errstate(over="ignore"):
        weights = np.where(active, np.exp(logits), 0)
    sums = weights.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.log(sums)[:, 0] - logits[positive], weights / sums - positive, logits


def masked_as_zero(xp: Any, logits: Any, active: Any, positive: Any) -> Any:
    return softmax_rows(xp, np.where(active, logits, 0), active | True, positive)


def short_norms(problem: Problem) -> Outputs:
    """Gradients as if a row x were x / (|x| + 1e-4)."""
    q, k = (problem.arrays[n] for n in ("query", "positive_key"))
    q, k = (x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-4) for x in (q, k))
    return right(replace(changed(problem, query=q, positive_key=k), similarity="dot"))


def no_projection(problem: Problem) -> Outputs:
    unit_rows = {
        n: problem.arrays[n] / np.linalg.norm(problem.arrays[n], axis=1, keepdims=True)
        for n in ("query", "positive_key")
    }
    found = right(replace(changed(problem, **unit_rows), similarity="dot"))
    sizes = {n: np.linalg.norm(problem.arrays[n], axis=1, keepdims=True) for n in unit_rows}
    return {n: x / sizes[n] if n in sizes else x for n, x in found.items()}


def shifted_labels(problem: Problem) -> Problem:
    rows = len(problem.arrays["query"])
    return changed(problem, positive_index=(np.arange(rows) + 1) % rows)


def other_direction(problem: Problem) -> Outputs:
    swap = {"query": problem.arrays["positive_key"], "positive_key": problem.arrays["query"]}
    found = right(changed(problem, **swap))
    return found | {"query": found["positive_key"], "positive_key": found["query"]}


def in_float32(problem: Problem) -> Outputs:
    return TEXTBOOK["numpy:matmul"](problem, "float32")


WRONG: dict[str, tuple[str, Callable[[Problem], Outputs]]] = {  # the class that shows it, and what it computes
    "twice": ("benign", scaled(lambda _: 2.0)),
    "in bits": ("benign", scaled(lambda _: 1 / np.log(2))),
    "sum for mean": ("benign", asked(lambda p: replace(p, reduction="sum"))),
    "mean over N - 1": ("benign", scaled(lambda p: len(p.arrays["query"]) / (len(p.arrays["query"]) - 1))),
    "temperature multiplied": ("benign-tau-0.07", asked(lambda p: replace(p, temperature=1 / p.temperature))),
    "no temperature in the gradient": ("benign-tau-0.07", scaled(lambda p: p.temperature, "query")),
    "temperature's sign": ("benign", scaled(lambda _: -1.0, "temperature")),
    "keys detached": ("benign", scaled(lambda _: 0.0, "positive_key")),
    "not normalised": ("benign", asked(lambda p: replace(p, similarity="dot"))),
    "norm's gradient left out": ("benign", no_projection),
    "eps of 1e-4 in the norm": ("benign", short_norms),
    "positive left out": ("benign", with_rows(without_positive)),
    "positive twice": ("benign", with_rows(positive_twice)),
    "labels shifted": ("benign", asked(shifted_labels)),
    "other direction": ("benign", other_direction),
    "no shift in exp": ("aligned-tau-0.0009765625", with_rows(no_shift)),
    "masked as zero": ("masks", with_rows(masked_as_zero)),
    "margin left out": ("margin", asked(lambda p: replace(p, margin=0.0))),
    "margin's sign": ("margin", asked(lambda p: replace(p, margin=-p.margin))),
    "weights ignored": ("weights", asked(lambda p: changed(p, sample_weight=np.ones(len(p.arrays["query"]))))),
    "temperature off by 1e-5": ("benign", asked(lambda p: replace(p, temperature=p.temperature * (1 + 1e-5)))),
}
