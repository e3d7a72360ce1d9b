"""Analytic gradients: against differences, against what gradients must satisfy, and against autodiff of the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from mpmath import mpf
from scipy.differentiate import derivative

from infonce_ref import info_nce
from infonce_ref.conformance.bounds import bound
from infonce_ref.conformance.oracle import definition
from infonce_ref.conformance.problem import FORMATS, Problem
from tests.libraries import Library
from tests.problems import CASES, EXPLICIT, PLAIN, D, N, arguments, problem, value_and_grad, with_rows, worst

on = pytest.mark.parametrize

# scipy.differentiate stops where its estimate of its own error is below √u of the derivative; ten times that leaves
# room for entries much smaller than the largest.
DIFFERENCES = 10 * 2.0**-26

SMOOTH = [case for case in CASES if case not in ("zero rows", "weight 0")]  # cosine jumps at a zero row


def reals(p: Problem) -> dict[str, np.ndarray]:
    """The differentiable arguments of a problem, scalars as 0-d arrays."""
    return {name: np.asarray(p.arrays.get(name, getattr(p, name, None)), np.float64) for name in p.differentiable}


def total(p: Problem, changed: Mapping[str, np.ndarray]) -> float:
    """The loss (the sum of its entries) with some arguments changed."""
    options = {name: getattr(p, name) for name in ("similarity", "in_batch_negatives", "reduction")}
    scalars = {"temperature": np.asarray(p.temperature), "margin": np.asarray(p.margin)}
    return float(np.sum(info_nce(**{**p.arrays, **scalars, **changed}, **options)))


@on("case", SMOOTH)
def test_analytic_gradient_is_the_limit_of_differences(numpy_library: Library, case: str) -> None:
    """Every entry of every argument, by scipy.differentiate.

    [gradient.query] [gradient.positive-key] [gradient.negative-keys] [gradient.temperature] [gradient.margin]
    [gradient.bilinear-weight]
    """
    p = CASES[case]
    grad = value_and_grad(p, numpy_library, "float64")
    for name, x in reals(p).items():

        def along(step: float, entry: float, name: str = name, x: np.ndarray = x) -> float:
            moved = x.copy().reshape(-1)
            moved[int(entry)] += step
            return total(p, {name: moved.reshape(x.shape)})

        if x.size == 0:
            continue
        start = np.zeros(x.size)
        entries, step = np.arange(x.size, dtype=float), p.temperature / 32
        found = derivative(np.vectorize(along), start, args=(entries,), initial_step=step)
        # a derivative of 0 among larger ones has no relative error to stop at
        scale = max(1.0, *(abs(g).max(initial=0) for g in grad.values()))
        np.testing.assert_allclose(found.df.reshape(x.shape), grad[name], rtol=0, atol=DIFFERENCES * scale)


# ------------------------------------------------------------------------------------------- exact identities


def pairing(p: Problem, grad: Mapping[str, np.ndarray], limits: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    """Σ ⟨∂L/∂x, x⟩ without rounding, and how far the errors that the gradient may have can move it."""
    x = np.frompyfunc(mpf, 1, 1)(p.arrays[name].astype(object))
    return (np.frompyfunc(mpf, 1, 1)(grad[name].astype(object)) * x).sum(), (limits[name] * abs(x)).sum()


@on("p", [
    problem(31, similarity="dot", negatives="shared"),
    problem(32, similarity="dot", negatives="own", changes={"reduction": "sum"}),
    problem(33, similarity="bilinear", negatives="own", changes=EXPLICIT),
    problem(34, similarity="bilinear", negatives="shared", sample_weight=[1.0, 2.0, 0.0, 0.5]),
], ids=["dot shared", "dot own", "bilinear own", "bilinear shared"])  # fmt: skip
def test_eulers_identity(numpy_library: Library, p: Problem) -> None:
    """The loss is a function of ⟨q, k⟩/τ: scaling q, all keys, W or 1/τ are one and the same change.

    [gradient.query] [gradient.positive-key] [gradient.negative-keys] [gradient.bilinear-weight] [gradient.temperature]
    """
    grad, limits = value_and_grad(p, numpy_library, "float64"), bound(p, FORMATS["float64"])
    by = {name: pairing(p, grad, limits, name) for name in p.differentiable if name in p.arrays}
    keys = tuple(a + b for a, b in zip(by["positive_key"], by["negative_keys"], strict=True))
    by_tau = (-p.temperature * mpf(float(grad["temperature"])), p.temperature * limits["temperature"].item())
    same = [by["query"], keys, by_tau, *([by["bilinear_weight"]] if "bilinear_weight" in by else [])]
    assert by["query"][0] != 0
    for value, slack in same[1:]:
        assert abs(value - by["query"][0]) <= slack + by["query"][1]


@on("case", ["cosine", "zero rows", "low temperature", "margin"])
def test_cosine_gradient_is_tangent(numpy_library: Library, case: str) -> None:
    """[similarity.cosine] The length of a row changes nothing: ⟨∂L/∂q_i, q_i⟩ = 0, and so for every key."""
    p = CASES[case]
    grad = value_and_grad(p, numpy_library, "float64")
    limits = bound(p, FORMATS["float64"])
    for name in ("query", "positive_key"):
        along = abs((grad[name] * p.arrays[name]).sum(axis=-1))
        slack = ((limits[name] * abs(p.arrays[name])).sum(axis=-1)).astype(float)
        assert (along <= slack + 2.0**-50 * abs(grad[name] * p.arrays[name]).sum(axis=-1)).all()


@on("negatives", ["shared", "own"])
def test_gradients_of_all_keys_sum_to_zero(numpy_library: Library, negatives: str) -> None:
    """[similarity.dot] [gradient.negative-keys] One vector added to every key shifts a query's logits together."""
    p = problem(35, similarity="dot", negatives=negatives)
    grad = value_and_grad(p, numpy_library, "float64")
    limits = bound(p, FORMATS["float64"])
    keys = [grad["positive_key"], grad["negative_keys"].reshape(-1, D)]
    slack = [limits["positive_key"], limits["negative_keys"].reshape(-1, D)]
    assert (abs(np.concatenate(keys).sum(axis=0)) <= 2 * np.concatenate(slack).sum(axis=0).astype(float)).all()


def test_permuting_the_pairs_permutes_the_gradients(numpy_library: Library) -> None:
    """[candidates.in-batch] [gradient.positive-key] No pair is special: gradients come in the order of the pairs."""
    order = [2, 0, 3, 1]
    arrays = {name: x[order] for name, x in PLAIN.arrays.items()}
    here, there = (value_and_grad(p, numpy_library, "float64") for p in (PLAIN, problem(**arrays)))
    limits = bound(PLAIN, FORMATS["float64"])
    for name in ("query", "positive_key"):
        assert (abs(here[name][order] - there[name]) <= 2 * limits[name][order].astype(float)).all()
    assert abs(here["loss"] - there["loss"]) <= 2 * float(limits["loss"])


# -------------------------------------------------------------------------------- autodiff through the reference

Q, K = PLAIN.arrays["query"], PLAIN.arrays["positive_key"]
FULL = np.ones((N, N), bool)

EDGES: Mapping[str, Problem] = {
    "nothing special": problem(candidate_mask=FULL),
    "everything masked": problem(candidate_mask=~FULL),
    "one query masked": problem(candidate_mask=with_rows(FULL, {1: False})),
    "a zero query": problem(query=with_rows(Q, {1: 0.0}), candidate_mask=FULL),
    "a zero key": problem(positive_key=with_rows(K, {2: 0.0}), candidate_mask=FULL),
    "all rows zero": problem(query=0 * Q, positive_key=0 * K, candidate_mask=FULL),
    "all rows identical": problem(query=0 * Q + 1, positive_key=0 * K + 1, candidate_mask=FULL),
    "duplicate keys": problem(positive_key=K[[0, 0, 2, 0]], candidate_mask=FULL),
    # one negative a query, equal to the positive: ν = π, where max(x, 0) has a kink and softplus has none
    "a tie": problem(positive_key=0 * K + 1, candidate_mask=np.roll(np.eye(N, dtype=bool), 1, axis=1)),
    "a tie, dot": problem(
        similarity="dot", positive_key=0 * K + 1, candidate_mask=np.roll(np.eye(N, dtype=bool), 1, axis=1)
    ),
    "duplicate keys, dot": problem(similarity="dot", positive_key=K[[0, 0, 2, 0]], candidate_mask=FULL),
    "all rows zero, dot": problem(similarity="dot", query=0 * Q, positive_key=0 * K, candidate_mask=FULL),
    "one pair": problem(query=Q[:1], positive_key=K[:1]),
    "no negatives": problem(negative_keys=np.zeros((0, D)), changes=EXPLICIT),
}
NAMES = ("query", "positive_key", "temperature", "margin")


def loss_of(real: Sequence[Any], others: Mapping[str, Any], **options: Any) -> Any:
    return info_nce(**dict(zip(NAMES, real, strict=True)), **others, **options)


def split(p: Problem, library: Library) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """The differentiable arguments as arrays; the other arrays; the rest."""
    arrays, options = arguments(p, library, "float64")
    scalars = {name: library.array(np.array(options.pop(name)), "float64") for name in ("temperature", "margin")}
    real = [{**arrays, **scalars}[name] for name in NAMES]
    return real, {name: x for name, x in arrays.items() if name not in NAMES}, options


@cache
def jax_transform(transform: str, similarity: str, in_batch: bool) -> Callable[..., Any]:
    """jax.grad or jax.hessian of the loss, compiled once for all problems that have the same shapes."""
    import jax

    loss = partial(loss_of, similarity=similarity, in_batch_negatives=in_batch, reduction="mean")
    made = jax.value_and_grad(loss) if transform == "grad" else jax.hessian(loss)
    return jax.jit(made)


def by_jax(p: Problem, library: Library, transform: str) -> Any:
    real, others, options = split(p, library)
    return jax_transform(transform, options["similarity"], options["in_batch_negatives"])(real, others)


def by_torch(p: Problem, library: Library, transform: str) -> Any:
    import torch

    real, others, options = split(p, library)
    if transform == "hessian":
        return torch.autograd.functional.hessian(lambda *x: loss_of(x, others, **options), tuple(real))
    for x in real:
        x.requires_grad_()
    loss = loss_of(real, others, **options)
    return loss, torch.autograd.grad(loss, real)


AUTODIFF = {"torch": by_torch, "jax": by_jax}


@on("library", AUTODIFF, indirect=True)
@on("edge", EDGES)
def test_autodiff_gives_the_analytic_gradient(library: Library, edge: str, conforms: Callable[[float], None]) -> None:
    """Differentiated by its library, at the edges too, the code gives gradients within the bound of the exact ones.

    [candidates.none] [candidates.mask] [similarity.cosine.zero] [rows.softplus]
    """
    p = EDGES[edge]
    loss, grads = AUTODIFF[library.name.split("-")[0]](p, library, "grad")
    computed = {"loss": library.numpy(loss), **{n: library.numpy(g) for n, g in zip(NAMES, grads, strict=True)}}
    answer, limits = definition.evaluate(p), bound(p, FORMATS["float64"])
    if "negative_keys" in p.arrays:  # none of them, so no gradient to compare
        computed["negative_keys"] = np.zeros((0, D))
    conforms(worst(computed, answer, limits))


def flat_gradient(p: Problem, at: np.ndarray) -> np.ndarray:
    """The analytic gradient at a point, all arguments in one vector."""
    shapes = [x.shape for name, x in reals(p).items() if name in NAMES]
    parts = np.split(at, np.cumsum([int(np.prod(s)) for s in shapes])[:-1])
    real = {name: x.reshape(s) for name, x, s in zip(NAMES, parts, shapes, strict=True)}
    others = {name: x for name, x in p.arrays.items() if name not in NAMES}
    options = {"similarity": p.similarity, "in_batch_negatives": p.in_batch_negatives}
    grad = info_nce.value_and_grad(**real, **others, **options)[1]
    return np.concatenate([np.ravel(getattr(grad, name)) for name in NAMES])


def differences_of_the_gradient(p: Problem, step: float = 2.0**-9) -> tuple[np.ndarray, np.ndarray]:
    """The Hessian by central differences of fourth order, and which of its columns exist: not those of zero rows."""
    at = [np.asarray(x, np.float64) for name, x in reals(p).items() if name in NAMES]
    smooth = [np.broadcast_to((p.similarity != "cosine") | (x != 0).any(axis=-1, keepdims=True), x.shape)
              if x.ndim else np.array(True) for x in at]  # fmt: skip
    point, live = (np.concatenate([np.ravel(x) for x in part]) for part in (at, smooth))
    columns = []
    for direction in np.eye(len(point)) * step:
        one, two = (
            flat_gradient(p, point + k * direction) - flat_gradient(p, point - k * direction) for k in (1, 2)
        )
        columns.append((8 * one - two) / (12 * step))
    return np.stack(columns, axis=1), live


def matrix(library: Library, hessian: Any) -> np.ndarray:
    """A Hessian in blocks as one square matrix."""
    blocks = [[library.numpy(block) for block in row] for row in hessian]
    sizes = [int(np.sqrt(blocks[i][i].size)) for i in range(len(blocks))]
    return np.block([[b.reshape(sizes[i], sizes[j]) for j, b in enumerate(row)] for i, row in enumerate(blocks)])


@on("library", AUTODIFF, indirect=True)
@on("edge", EDGES)
def test_second_derivatives_by_autodiff(library: Library, edge: str) -> None:
    """Differentiated twice the code is finite, symmetric, and the derivative of the analytic gradient.

    [candidates.none] [candidates.mask] [similarity.cosine.zero] [rows.softplus]
    """
    p = EDGES[edge]
    hessian = matrix(library, AUTODIFF[library.name.split("-")[0]](p, library, "hessian"))
    assert np.isfinite(hessian).all()
    with np.errstate(invalid="raise", divide="raise"):
        expected, live = differences_of_the_gradient(p)
    # the differences' own error is about step⁴ of fifth derivatives and u/step of the gradient: 1e-10 and less
    scale = max(1.0, abs(hessian).max())
    np.testing.assert_allclose(hessian[:, live], expected[:, live], rtol=0, atol=1e-8 * scale)
    np.testing.assert_allclose(hessian, hessian.T, rtol=0, atol=1e-12 * scale)


def test_second_derivative_at_a_tie() -> None:
    """[rows.softplus] At ν = π the second derivative of softplus is ¼, not 0."""
    torch = pytest.importorskip("torch")
    one = torch.ones((1, 1), dtype=torch.float64)

    def loss(m: Any) -> Any:
        return info_nce(one, one, one, in_batch_negatives=False, temperature=0.5, margin=m)

    margin = torch.tensor(0.0, dtype=torch.float64)
    assert torch.func.grad(loss)(margin).item() == 1.0  # σ(0) / τ
    assert torch.func.grad(torch.func.grad(loss))(margin).item() == 1.0  # ¼ / τ²


@on("case", ["mask", "everything", "own"])
def test_double_backward_in_torch(case: str) -> None:
    """[gradient.query] torch's gradcheck and gradgradcheck accept the code as it is."""
    torch = pytest.importorskip("torch")
    p = CASES[case]
    real = {name: torch.tensor(x, dtype=torch.float64, requires_grad=True) for name, x in reals(p).items()}
    others = {name: torch.tensor(x) for name, x in p.arrays.items() if name not in real}
    options = {name: getattr(p, name) for name in ("similarity", "in_batch_negatives", "reduction")}

    def loss(*arrays: Any) -> Any:
        return info_nce(**dict(zip(real, arrays, strict=True)), **others, **options)

    assert torch.autograd.gradcheck(loss, tuple(real.values()))
    assert torch.autograd.gradgradcheck(loss, tuple(real.values()))


def test_a_wrong_gradient_is_found(numpy_library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """[gradient.temperature] One wrong sign in a stage's pullback fails both the bound and the differences."""
    from infonce_ref import contrast, scores

    def wrong(*args: Any) -> Any:
        d, pullback = scores.differences(*args)
        return d, lambda g: (got := pullback(g))._replace(temperature=-got.temperature)

    monkeypatch.setattr(contrast, "differences", wrong)
    computed = value_and_grad(PLAIN, numpy_library, "float64")
    assert worst(computed, definition.evaluate(PLAIN), bound(PLAIN, FORMATS["float64"])) > 1e6
    with pytest.raises(AssertionError):
        test_analytic_gradient_is_the_limit_of_differences(numpy_library, "cosine")


def test_a_kinked_softplus_has_the_wrong_slope_at_a_tie() -> None:
    """[rows.softplus] A tie can tell: written with clamp and abs, softplus has another slope at 0 than ½."""
    torch = pytest.importorskip("torch")
    x = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    kinked = torch.clamp(x, min=0) + torch.log1p(torch.exp(-abs(x)))
    assert torch.autograd.grad(kinked, x)[0].item() != 0.5
