"""The bounds: no correct implementation comes near them, every wrong one is beyond them, and where they say nothing."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from mpmath import mpf

from infonce_ref.conformance.bounds import BoundTooLoose, Level, bound, flushed, whole
from infonce_ref.conformance.oracle.definition import evaluate
from infonce_ref.conformance.problem import FORMATS, Problem

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    from tests.suite import zoo
    from tests.suite.adequacy_of_bounds import ratios, worst

COMFORT = 0.5  # the most of its bound that a correct result may use
WITHOUT_JAX = {name: run for name, run in zoo.TEXTBOOK.items() if not name.startswith("jax")}
JAX = {name: run for name, run in zoo.TEXTBOOK.items() if name.startswith("jax")}  # slow: it compiles each shape
HARD = ("benign", "sharp-tau-0.01", "masks-shared-tau-0.01")


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("kind", zoo.KINDS)
def test_no_correct_implementation_uses_half_of_its_bound(kind: str, dtype: str) -> None:
    """Every order of evaluation in NumPy and torch, in every format, on every class of input, has r ≤ 0.5."""
    found = ratios(zoo.problem_of(kind, 1, dtype), WITHOUT_JAX, "textbook", FORMATS[dtype])
    assert max(found.values()) <= COMFORT, found


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("kind", HARD)
def test_jax_is_no_exception(kind: str, dtype: str) -> None:
    """The same orders differentiated by JAX, which flushes subnormal numbers on a CPU, have r ≤ 0.5."""
    found = ratios(zoo.problem_of(kind, 1, dtype), JAX, "textbook", flushed(FORMATS[dtype]))
    assert max(found.values()) <= COMFORT, found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", zoo.KINDS)
def test_softplus_form_is_precise_everywhere(kind: str, dtype: str) -> None:
    """The softplus form with analytic gradients is within half of the precise bound on every class of input."""
    found = ratios(zoo.problem_of(kind, 1, dtype), zoo.PRECISE, "precise", FORMATS[dtype])
    assert max(found.values()) <= COMFORT, found


@pytest.mark.parametrize("loss", [1e-3, 1e-7, 1e-12, 1e-27])
@pytest.mark.parametrize("seed", range(3))
def test_softplus_form_is_precise_on_tiny_losses(loss: float, seed: int) -> None:
    """In float32 the softplus form stays within half of the precise bound however small the loss."""
    problem = zoo.problem_with_loss(loss, seed)
    found = ratios(problem, zoo.PRECISE, "precise", FORMATS["float32"])
    assert max(found.values()) <= COMFORT, found


@pytest.mark.parametrize("loss", [1e-7, 1e-12, 1e-27])
def test_usual_form_is_not_precise_on_tiny_losses(loss: float) -> None:
    """Logsumexp less positive, in whatever order, is beyond the precise bound where the loss is tiny."""
    found = ratios(zoo.problem_with_loss(loss, 0), WITHOUT_JAX, "precise", FORMATS["float32"])
    assert min(found.values()) > 1, found


@pytest.mark.parametrize("loss", [1e-7, 1e-12, 1e-27])
def test_precise_bound_is_relative(loss: float) -> None:
    """However small the loss, the precise bound of the loss is less than 1e-3 of it in float32."""
    problem = zoo.problem_with_loss(loss, 0)
    assert bound(problem, FORMATS["float32"], "precise")["loss"] < 1e-3 * evaluate(problem).loss


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", zoo.WRONG)
def test_every_wrong_implementation_is_beyond_its_bound(name: str, dtype: str) -> None:
    """Each seeded mistake, computed in float64, has r > 1 on a problem of the class that shows it."""
    kind, run = zoo.WRONG[name]
    problem = zoo.problem_of(kind, 3)
    radii, exact = bound(problem, FORMATS[dtype]), evaluate(problem).outputs()
    assert worst(run(problem), exact, radii, dtype) > 1


@pytest.mark.parametrize("seed", range(5))
def test_stages_compose_to_the_closed_formulas(seed: int) -> None:
    """Dot similarity, in-batch negatives, mean: the composed bounds are the closed formulas to a few roundings."""
    problem = zoo.problem_of("benign-dot", seed)
    closed, composed = closed_formulas(problem, FORMATS["float32"].unit), bound(problem, FORMATS["float32"])
    for name, most in (("loss", 1.3), ("query", 1.5), ("positive_key", 1.8), ("temperature", 2.5)):
        quotient = np.asarray(composed[name] / closed[name], dtype=float)
        assert quotient.min() > 0.9, name
        assert quotient.max() < most, name


def closed_formulas(problem: Problem, u: float) -> dict[str, np.ndarray]:
    """The bounds of docs/spec/bounds.md written out for one loss, in doubles."""

    def gamma(n: int) -> float:
        return n * u / (1 - n * u)

    q, k, tau = problem.arrays["query"], problem.arrays["positive_key"], problem.temperature
    rows, dim = q.shape
    s = q @ k.T / tau
    less_positive = np.abs(s - np.diag(s)[:, None])
    e = (gamma(dim) + 2 * u) * np.abs(q) @ np.abs(k).T / tau + 3 * u * np.abs(s) + 2 * u * less_positive
    top = s.max(axis=1, keepdims=True)
    z = np.exp(s - top).sum(axis=1)
    p, lse = np.exp(s - top) / z[:, None], top[:, 0] + np.log(z)
    losses, g = lse - np.diag(s), p - np.eye(rows)
    each = (p * (e + 2 * u * (top - s))).sum(axis=1) + np.diag(e) + gamma(rows) + 4 * u
    each = each + 4 * u * np.log(z) + u * np.abs(lse) + u * np.abs(np.diag(s)) + u * losses
    dg = p * (e + (p * e).sum(axis=1, keepdims=True) + 2 * u * (top - s) + gamma(rows) + 8 * u) + 2 * u * np.eye(rows)
    spread = dg + (gamma(rows) + 4 * u) * np.abs(g)
    by_tau = (dg * np.abs(s) + np.abs(g) * e + gamma(rows**2) * np.abs(g * s)).sum()
    return {
        "loss": each.mean() + gamma(rows) * np.abs(losses).mean() + 2 * u * losses.mean(),
        "query": spread @ np.abs(k) / (rows * tau),
        "positive_key": spread.T @ np.abs(q) / (rows * tau),
        "temperature": by_tau / (rows * tau),
    }


@pytest.mark.parametrize("level", ["textbook", "precise"])
@pytest.mark.parametrize("kind", ["benign", "aligned-tau-0.01", "collapsed", "masks-own-only", "bilinear-masks-margin"])
def test_thirty_digits_are_enough(kind: str, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times the digits change no bound by as much as 1e-9 of itself."""
    problem = zoo.problem_of(kind, 0)
    once = bound(problem, FORMATS["float32"], level)
    monkeypatch.setattr(whole, "DIGITS", 90)
    again = bound(problem, FORMATS["float32"], level)
    assert all(np.all(abs(once[name] - again[name]) <= 1e-9 * again[name]) for name in once)


@pytest.mark.parametrize("level", ["textbook", "precise"])
def test_rows_without_a_negative_must_be_exact(level: Level) -> None:
    """One pair alone: loss and gradients are 0 and may be off by the smallest subnormal number only."""
    radii = bound(zoo.problem_of("single", 0), FORMATS["float32"], level)
    assert all(np.all(radius <= 2 * FORMATS["float32"].tiny) for radius in radii.values())


@pytest.mark.parametrize("level", ["textbook", "precise"])
def test_keys_masked_for_all_must_have_no_gradient(level: Level) -> None:
    """A key that no query meets may hold NaN; its gradient may be off by the smallest subnormal number only."""
    problem = zoo.problem_of("shared", 0)
    negatives = problem.arrays["negative_keys"].copy()
    negatives[1] = np.nan
    mask = np.ones((len(problem.arrays["query"]), len(problem.arrays["positive_key"]) + len(negatives)), bool)
    mask[:, 1 - len(negatives)] = False
    problem = replace(problem, arrays={**problem.arrays, "negative_keys": negatives, "candidate_mask": mask})
    radii = bound(problem, FORMATS["float32"], level)
    assert np.all(radii["negative_keys"][1] == mpf(FORMATS["float32"].tiny))
    assert all(np.all(radius < 1) for radius in radii.values())


@pytest.mark.parametrize("level", ["textbook", "precise"])
def test_zero_rows_must_have_no_gradient(level: Level) -> None:
    """A zero row's gradient is exactly 0 under cosine; so are a row's of weight zero, under any similarity."""
    problem = zoo.problem_of("benign", 0)
    query = problem.arrays["query"].copy()
    query[0] = 0
    weights = np.ones(len(query))
    weights[1] = 0
    problem = replace(problem, arrays={**problem.arrays, "query": query, "sample_weight": weights})
    radii = bound(problem, FORMATS["float32"], level)
    assert np.all(radii["query"][:2] == mpf(FORMATS["float32"].tiny))


def test_norms_of_any_size_have_a_relative_bound() -> None:
    """Scaling a row by 1e±30 scales the bound of its gradient likewise and no other bound."""
    problem = zoo.problem_of("benign", 0)
    query = problem.arrays["query"].copy()
    query[0] *= 2.0**100
    scaled = replace(problem, arrays={**problem.arrays, "query": query})
    before, after = (bound(p, FORMATS["float64"]) for p in (problem, scaled))
    assert np.allclose((after["query"][0] * mpf(2) ** 100 / before["query"][0]).astype(float), 1, rtol=1e-6)
    assert np.allclose((after["positive_key"] / before["positive_key"]).astype(float), 1, rtol=1e-6)


def test_half_formats_round_gradients_and_not_the_loss() -> None:
    """Storage in float16 widens the gradients' bounds by the storage's roundings; the loss's stays float32's."""
    problem = zoo.problem_of("benign", 0, "float16")
    half, single = bound(problem, FORMATS["float16"]), bound(problem, FORMATS["float32"])
    exact = abs(evaluate(problem).grad["query"])
    assert half["loss"] == single["loss"]
    assert np.all(half["query"] >= FORMATS["float16"].unit * exact)
    assert np.all(half["query"] <= single["query"] + 2.1 * FORMATS["float16"].unit * exact + 2.0**-24)


def test_first_order_is_refused_where_it_is_not_valid() -> None:
    """Dot products of 1e6 in float32: a logit may be off by more than 1e-2, and the bound says so."""
    problem = zoo.problem_of("benign-dot", 0)
    large = replace(problem, arrays={**problem.arrays, "query": problem.arrays["query"] * 2.0**20})
    with pytest.raises(BoundTooLoose, match="a logit may be off by"):
        bound(large, FORMATS["float32"])


def test_flushed_format_has_the_smallest_normal() -> None:
    """On a device that flushes, nothing below the smallest normal number can be asked for."""
    assert flushed(FORMATS["float32"]).tiny == np.finfo(np.float32).smallest_normal
    assert flushed(FORMATS["float16"]).compute_tiny == np.finfo(np.float32).smallest_normal
    assert flushed(FORMATS["float64"]).tiny == np.finfo(np.float64).smallest_normal
