"""Scores: differences to the positive, their blocks and masks, and their transpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infonce_ref.scores import Block, differences, pairwise, pairwise_transpose
from tests.problems import D, M, N, grid, mask

RNG = np.random.default_rng(61)
Q, P = grid(RNG, N, D), grid(RNG, N, D)
KEYS = {"shared": grid(RNG, M, D), "own": grid(RNG, N, M, D)}
TAU, MARGIN = np.array(0.5), np.array(0.25)
on = pytest.mark.parametrize


@on("keys", KEYS.values(), ids=KEYS)
def test_pairwise_is_every_inner_product(keys: np.ndarray) -> None:
    """[candidates.shared] [candidates.own] Keys of all queries or of each, the same inner products entry by entry."""
    own = np.broadcast_to(keys, (N, M, D))
    expected = [[sum(float(a * b) for a, b in zip(Q[i], own[i, j], strict=True)) for j in range(M)] for i in range(N)]
    assert (pairwise(np, Q, keys) == np.array(expected)).all()  # multiples of 1/256, exact in any order


@on("keys", KEYS.values(), ids=KEYS)
def test_pairwise_transpose(keys: np.ndarray) -> None:
    """[gradient.negative-keys] ⟨g, pairwise(dq, k)⟩ = ⟨to_q, dq⟩, likewise for the keys, exactly."""
    g, dq, dk = grid(RNG, N, M), grid(RNG, N, D), grid(RNG, *keys.shape)
    to_q, to_keys = pairwise_transpose(np, Q, keys, g)
    assert np.sum(to_q * dq) == np.sum(g * pairwise(np, dq, keys))
    assert np.sum(to_keys * dk) == np.sum(g * pairwise(np, Q, dk))


def test_differences_are_the_logits_less_the_positives() -> None:
    """[scale.temperature] [scale.margin] d = (⟨q, k⟩ − (⟨q, p⟩ − m)) / τ: the margin lowers the positive alone."""
    (d,), _ = differences(np, Q, P, [Block(KEYS["own"], None)], TAU, MARGIN)
    for i in range(N):
        s_p = (np.dot(Q[i], P[i]) - 0.25) / 0.5
        assert (d.values[i] == KEYS["own"][i] @ Q[i] / 0.5 - s_p).all()


def test_masked_differences_are_zero_and_never_infinite() -> None:
    """[candidates.mask] Where a key is no negative the stored number is 0, also where its score overflows."""
    keys = np.where(mask(M)[:, :, None], KEYS["own"], 1e308)
    with np.errstate(over="ignore"):
        (d,), _ = differences(np, 100 * Q, P, [Block(keys, mask(M))], TAU, MARGIN)
    assert np.isfinite(d.values).all()
    assert (d.values[~mask(M)] == 0).all()


@on("varied", ["query", "positive", "shared", "own", "temperature", "margin"])
def test_pullback_is_the_transpose(varied: str) -> None:
    """⟨pullback(g), dx⟩ = ⟨g, derivative along dx⟩ for every argument, over two blocks, one of them masked.

    [gradient.query] [gradient.positive-key] [gradient.negative-keys] [gradient.temperature] [gradient.margin]
    """
    keep = mask(M)
    at = {"query": Q, "positive": P, **KEYS, "temperature": TAU, "margin": MARGIN}
    direction = np.array(1.0) if at[varied].ndim == 0 else grid(RNG, *at[varied].shape)
    g = [grid(RNG, N, M), np.where(keep, grid(RNG, N, M), 0.0)]

    def stage(step: float) -> Any:
        x = {**at, varied: at[varied] + step * direction}
        blocks = [Block(x["shared"], None), Block(x["own"], keep)]
        return differences(np, x["query"], x["positive"], blocks, x["temperature"], x["margin"])

    def paired(step: float) -> float:
        return sum(float(np.sum(a * d.values)) for a, d in zip(g, stage(step)[0], strict=True))

    grads = stage(0.0)[1](g)
    found = {**grads._asdict(), **dict(zip(("shared", "own"), grads.keys, strict=True))}[varied]
    h = 2.0**-10
    along = (8 * (paired(h) - paired(-h)) - (paired(2 * h) - paired(-2 * h))) / (12 * h)
    assert np.sum(found * direction) == pytest.approx(along, rel=1e-9, abs=1e-9)
