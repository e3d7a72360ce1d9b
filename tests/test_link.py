"""The softplus link: small losses whole, no negatives, masks, and its transpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from infonce_ref.arrays import namespace
from infonce_ref.link import softplus_link
from infonce_ref.scores import Differences
from tests.libraries import Library
from tests.problems import grid, mask

on = pytest.mark.parametrize
RNG = np.random.default_rng(71)


def link(d: np.ndarray, keep: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The losses of rows of differences, and their derivatives."""
    losses, pullback = softplus_link(np, [Differences(d, keep)])
    return losses, pullback(np.ones_like(losses))[0]


@on("library", ["numpy", "torch", "jax", "strict"], indirect=True)
@on(("dtype", "loss"), [("float64", 1e-300), ("float64", 1e-17), ("float32", 1e-37), ("float32", 1e-9)])
def test_a_tiny_loss_is_whole(library: Library, dtype: str, loss: float) -> None:
    """[precise.loss] [precise.gradient] softplus(x) at x = log 1e-300 is 1e-300, and so is its derivative."""
    x = np.array([[np.log(loss)]], dtype)
    given = library.array(x, dtype)
    losses, pullback = softplus_link(namespace(given), [Differences(given, None)])
    with mp.workdps(40):
        expected = float(mp.exp(mpf(float(x[0, 0]))))  # to 1e-9 relative, here: softplus(x) = e^x (1 − e^x/2 …)
        expected = float(mp.log1p(mp.mpf(expected)))
    unit = abs(np.log(loss)) * np.finfo(dtype).eps
    assert library.numpy(losses)[0] == pytest.approx(expected, rel=unit)
    grad = library.numpy(pullback(losses * 0 + 1)[0])
    assert grad[0, 0] == pytest.approx(expected, rel=unit + loss)


@on("library", ["numpy", "torch", "strict"], indirect=True)
def test_a_subnormal_loss_is_not_flushed(library: Library) -> None:
    """[precise.loss] In float32 a loss of 1e-40 comes back, to the digits a subnormal has."""
    given = library.array(np.array([[np.log(1e-40)]]), "float32")
    losses, _ = softplus_link(namespace(given), [Differences(given, None)])
    expected = np.exp(np.float64(np.float32(np.log(1e-40))))
    assert abs(library.numpy(losses)[0] - expected) <= 2.0**-149 + 1e-5 * expected


@on("x", [-1e300, -800.0, -1.0, 0.0, 1.0, 800.0, 1e300])
def test_softplus_and_sigmoid_never_overflow(x: float) -> None:
    """[rows.softplus] With one negative the loss is softplus(d) and its derivative σ(d), for any d."""
    with np.errstate(over="raise", invalid="raise"):
        losses, grad = link(np.array([[x]]))
    with mp.workdps(40):
        expected, slope = mp.log1p(mp.exp(mpf(x))) if x < 1e4 else mpf(x), 1 / (1 + mp.exp(min(-mpf(x), mpf(2000))))
    assert losses[0] == pytest.approx(float(expected), rel=4e-16, abs=5e-324)
    assert grad[0, 0] == pytest.approx(float(slope), rel=4e-16, abs=5e-324)


def test_several_blocks_are_one_sum() -> None:
    """[rows.softplus] Blocks are columns of one row: the loss doesn't know where they were cut."""
    d, g = grid(RNG, 3, 5), np.array([1.0, 0.5, 2.0])
    whole, pull_whole = softplus_link(np, [Differences(d, None)])
    parts, pull_parts = softplus_link(np, [Differences(d[:, :2], None), Differences(d[:, 2:], None)])
    np.testing.assert_allclose(parts, whole, rtol=1e-15)
    np.testing.assert_allclose(np.concatenate(pull_parts(g), axis=1), pull_whole(g)[0], rtol=1e-15)


def test_rows_without_negatives_are_zero() -> None:
    """[candidates.none] No column, or all of them masked: loss 0, derivative 0, no warning on the way."""
    with np.errstate(all="raise"):
        losses, grad = link(np.zeros((3, 0)))
        assert (losses == 0).all() and grad.shape == (3, 0)
        losses, grad = link(np.ones((2, 3)), np.array([[False] * 3, [True, False, True]]))
    assert losses[0] == 0 and (grad[0] == 0).all()
    assert losses[1] == pytest.approx(np.log1p(2 * np.e), rel=1e-15)


def test_a_masked_column_is_absent() -> None:
    """[candidates.mask] A masked column, however large, leaves no trace in the loss or its derivative."""
    d, keep = grid(RNG, 4, 6), mask(2)[:, [0, 1, 0, 1, 1, 0]]
    losses, grad = link(np.where(keep, d, 1e300), keep)
    for i in range(4):
        expected, slopes = link(d[i : i + 1, keep[i]])
        np.testing.assert_allclose(losses[i], expected[0], rtol=1e-15)
        np.testing.assert_allclose(grad[i, keep[i]], slopes[0], rtol=1e-15)
    assert (grad[~keep] == 0).all()


def test_pullback_is_the_transpose() -> None:
    """[gradient.query] ⟨pullback(w), dd⟩ = ⟨w, derivative along dd⟩."""
    d, direction, weights = grid(RNG, 4, 3), grid(RNG, 4, 3), np.array([1.0, 0.25, 0.0, -2.0])

    def losses(step: float) -> np.ndarray:
        return softplus_link(np, [Differences(d + step * direction, None)])[0]

    h = 2.0**-10
    along = (8 * (losses(h) - losses(-h)) - (losses(2 * h) - losses(-2 * h))) / (12 * h)
    _, pullback = softplus_link(np, [Differences(d, None)])
    assert np.sum(pullback(weights)[0] * direction) == pytest.approx(np.sum(weights * along), rel=1e-9)


def test_the_usual_form_loses_what_this_one_keeps() -> None:
    """[precise.loss] The check can fail: logsumexp of all logits less the positive's is 0 where the loss is 1e-17."""
    x: Any = np.log(1e-17)
    assert np.log(1.0 + np.exp(x)) - 0.0 == 0.0
    assert link(np.array([[x]]))[0][0] == pytest.approx(1e-17, rel=1e-14)
