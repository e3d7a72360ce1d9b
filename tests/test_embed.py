"""Embed: unit rows whatever the norm, and the transposes of all row maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from infonce_ref import info_nce
from infonce_ref.arrays import namespace
from infonce_ref.embed import cast, embed_query, plain_rows, power_of_two_below, unit_rows, used_rows
from tests.libraries import Library
from tests.problems import PLAIN, D, N, arguments, grid, value_and_grad

on = pytest.mark.parametrize
RNG = np.random.default_rng(51)
X, DX, V = (grid(RNG, N, D) for _ in range(3))


Stage = Callable[[np.ndarray], tuple[np.ndarray, Any]]


def transposes(stage: Stage, x: np.ndarray, v: np.ndarray, dx: np.ndarray) -> None:
    """⟨pullback(v), dx⟩ = ⟨v, derivative of the stage along dx⟩, the latter by central differences of fourth order."""
    step = 2.0**-10

    def moved(k: int) -> np.ndarray:
        return stage(x + k * step * dx)[0]

    along = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * step)
    assert np.sum(stage(x)[1](v) * dx) == pytest.approx(np.sum(v * along), rel=1e-9, abs=1e-9)


@on("rows", [unit_rows, plain_rows])
def test_pullback_is_the_transpose(rows: Any) -> None:
    """[gradient.query] [similarity.cosine] [similarity.dot] Each row map's pullback transposes its derivative."""
    transposes(lambda x: rows(np, x), X, V, DX)


def test_pullback_of_the_bilinear_map() -> None:
    """[gradient.bilinear-weight] [similarity.bilinear] q ↦ q W pulls back to the query and to W."""
    w, dw, v = (grid(RNG, D, D - 1), grid(RNG, D, D - 1), grid(RNG, N, D - 1))

    def query_stage(x: np.ndarray) -> Any:
        u, pullback = embed_query(np, x, np.float64, plain_rows, w)
        return u, lambda v: pullback(v)[0]

    def weight_stage(w: np.ndarray) -> Any:
        u, pullback = embed_query(np, X, np.float64, plain_rows, w)
        return u, lambda v: pullback(v)[1]

    transposes(query_stage, X, v, DX)
    transposes(weight_stage, w, v, dw)


def test_unused_rows_are_cleared_both_ways() -> None:
    """[candidates.mask.unused] A row that nobody uses goes in as 0 and gets 0 back, NaN or not."""
    used = np.array([True, False, True, True])
    x = np.where(used[:, None], X, np.nan)
    cleared, pullback = used_rows(np, x, used)
    assert (cleared[1] == 0).all() and (cleared[0] == X[0]).all()
    assert (pullback(x)[1] == 0).all()


def test_cast_returns_gradients_to_the_stored_dtype() -> None:
    """[dtype.half] [dtype.result] Computed in float32, stored in float16."""
    x, pullback = cast(np, X.astype(np.float16), np.float32)
    assert x.dtype == np.float32
    assert pullback(x).dtype == np.float16


@on("library", ["numpy", "torch", "strict"], indirect=True)
@on("dtype", ["float64", "float32"])
def test_power_of_two_below_is_exact(library: Library, dtype: str) -> None:
    """[similarity.cosine.scale] 2^⌊log2 x⌋ by frexp, kept where it and its reciprocal are normal."""
    limits = np.finfo(dtype)
    exponents = np.arange(limits.minexp - limits.nmant, limits.maxexp)
    powers = np.ldexp(np.ones((), dtype), exponents)
    x = np.concatenate([powers, np.nextafter(powers, limits.max), np.nextafter(powers, np.zeros((), dtype)),
                        [limits.max, 0, np.inf, np.nan]]).astype(dtype)  # fmt: skip
    given = library.array(x, dtype)
    found = library.numpy(power_of_two_below(namespace(given), given))
    finite = np.clip(np.where(np.isfinite(x), x, 1), limits.smallest_normal, 1 / limits.smallest_normal)
    expected = np.ldexp(np.ones((), dtype), np.frexp(finite)[1] - 1)
    assert (found == expected).all()


def test_power_of_two_below_is_constant_for_autodiff() -> None:
    """[similarity.cosine.scale] The scale cancels, so its derivative must be exactly 0 and never NaN."""
    torch = pytest.importorskip("torch")
    x = torch.tensor([0.0, 3.0, 1e-310, 1e300], dtype=torch.float64, requires_grad=True)
    power = power_of_two_below(namespace(x), x)
    assert not power.requires_grad or (torch.autograd.grad(power.sum(), x)[0] == 0).all()


def unit_exactly(x: np.ndarray) -> np.ndarray:
    with mp.workdps(40):
        rows = [[mpf(float(a)) for a in row] for row in x]
        return np.array([[float(a / mp.sqrt(sum(b * b for b in row))) for a in row] for row in rows])


@on("library", ["numpy", "torch", "jax", "strict"], indirect=True)
@on(("dtype", "scale"), [
    ("float64", 1e300), ("float64", 1e-300), ("float64", 1e154), ("float64", 1e-200),
    ("float32", 1e30), ("float32", 1e-30), ("float32", 1e19), ("float32", 1e-25),
])  # fmt: skip
def test_norms_beyond_the_range_of_their_squares(library: Library, dtype: str, scale: float) -> None:
    """[similarity.cosine.scale] Where ‖x‖² overflows or underflows, rows are still unit rows to 3 roundings."""
    given = library.array(X * scale, dtype)
    u = library.numpy(unit_rows(namespace(given), given)[0])
    expected = unit_exactly(library.numpy(given))
    assert (abs(u - expected) <= 3 * np.finfo(dtype).eps * abs(expected)).all()


@on("library", ["numpy", "torch", "strict"], indirect=True)
def test_rows_of_subnormals(library: Library) -> None:
    """[similarity.cosine.scale] A row of subnormals has its direction, and so its loss, where none are flushed."""
    tiny = np.array([[3.0, 4.0], [-4.0, 3.0]]) * 2.0**-149
    given = library.array(tiny, "float32")
    u = library.numpy(unit_rows(namespace(given), given)[0])
    assert abs(u - np.array([[0.6, 0.8], [-0.8, 0.6]])).max() <= 2.0**-23
    assert library.numpy(info_nce(given, given)) == library.numpy(
        info_nce(*(library.array(tiny * 2.0**149, "float32"),) * 2)
    )


@on("library", ["numpy", "torch", "jax", "strict"], indirect=True)
@on(("dtype", "exponent"), [("float64", 900), ("float64", -900), ("float32", 100), ("float32", -90)])
def test_scaling_by_a_power_of_two_scales_the_gradient_back(library: Library, dtype: str, exponent: int) -> None:
    """[similarity.cosine.scale] 2^k times a row: the same loss to the last bit, its gradient over 2^k."""
    arrays, options = arguments(PLAIN, library, dtype)
    scale = 2.0**exponent
    scaled = {**arrays, "query": library.array(PLAIN.arrays["query"] * scale, dtype)}
    loss, grad = info_nce.value_and_grad(**scaled, **options)
    plain = value_and_grad(PLAIN, library, dtype)
    assert library.numpy(loss) == plain["loss"]
    assert (library.numpy(grad.query) * scale == plain["query"]).all()
    assert (library.numpy(grad.positive_key) == plain["positive_key"]).all()


@on("library", ["numpy", "torch", "jax", "strict"], indirect=True)
def test_a_gradient_beyond_the_range_overflows_and_only_then(library: Library) -> None:
    """[similarity.cosine.scale] ∂L/∂q is about 1/‖q‖: 1e37 at norm 1e-38 fits, 1e44 at norm 1e-45 is infinite."""
    at = {}
    for exponent in (-126, -148):
        q = library.array(np.array([[1.0, 0.0], [0.0, 1.0]]) * 2.0**exponent, "float32")
        k = library.array(np.array([[1.0, 1.0], [-1.0, 1.0]]), "float32")
        with np.errstate(over="ignore"):
            at[exponent] = library.numpy(info_nce.value_and_grad(q, k, temperature=1.0)[1].query)
    assert np.isfinite(at[-126]).all() and abs(at[-126]).max() > 1e36
    if library.name != "jax":  # XLA on the CPU flushes subnormals: that row is a zero row there
        assert np.isinf(at[-148][1, 0])


@on("library", ["numpy", "torch", "jax", "strict"], indirect=True)
def test_zero_rows(library: Library) -> None:
    """[similarity.cosine.zero] A zero row is 0 and gets 0 back; so does its partner through it: the loss is log C."""
    zero, other = (library.array(x, "float64") for x in (np.zeros((N, D)), X))
    for q, k in ((zero, other), (other, zero)):
        loss, grad = info_nce.value_and_grad(q, k)
        assert library.numpy(loss) == pytest.approx(np.log(N), rel=2**-50)
        assert (library.numpy(grad.query) == 0).all() and (library.numpy(grad.positive_key) == 0).all()


def test_a_zero_row_warns_of_nothing() -> None:
    """[similarity.cosine.zero] However large what comes back to a zero row is, nothing overflows on the way to 0."""
    _, pullback = unit_rows(np, np.zeros((1, D), np.float32))
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(pullback(np.full((1, D), 1e4, np.float32)), np.zeros((1, D)))


@on("library", ["numpy", "torch", "jax", "strict"], indirect=True)
def test_norms_beyond_the_largest_number(library: Library) -> None:
    """[similarity.cosine.scale] Finite rows whose norm isn't: the gradient, about 1e-38, is still the true one."""
    q, k = np.array([[1.5, 1.5], [-1.5, 1.5]]), np.array([[1.0, -1.0], [0.25, 1.0]])
    keys = library.array(k, "float32")

    def by_query(scale: float) -> np.ndarray:
        grad = info_nce.value_and_grad(library.array(q * scale, "float32"), keys, temperature=2.0**-6)[1]
        return library.numpy(grad.query)

    plain = by_query(1.0)
    assert (abs(plain[0]) >= 2).all()  # so that over 2^127 it is a normal number
    assert (by_query(2.0**127)[0] * 2.0**127 == plain[0]).all()
