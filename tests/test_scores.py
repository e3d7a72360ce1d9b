"""Scores: differences to the positive, their blocks and masks, and their transpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infonce_ref.scores import Block, Pair, Rows, differences, logits, pairwise, pairwise_transpose
from tests.problems import D, M, N, grid, mask

RNG = np.random.default_rng(61)
Q, P = grid(RNG, N, D), grid(RNG, N, D)
KEYS = {"shared": grid(RNG, M, D), "own": grid(RNG, N, M, D)}
TAU, MARGIN = np.array(0.5), np.array(0.25)
on = pytest.mark.parametrize


def block(keys: np.ndarray, keep: Any = None, q: np.ndarray = Q, **rest: Any) -> Block:
    return Block(Rows("query", q), Rows("own" if keys.ndim == 3 else "shared", keys), keep, **rest)


def pair(q: np.ndarray = Q, p: np.ndarray = P, bias: Any = None) -> Pair:
    return Pair(Rows("query", q), Rows("positive", p), bias)


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
    (d,), _ = differences(np, pair(), [block(KEYS["own"])], TAU, MARGIN)
    for i in range(N):
        s_p = (np.dot(Q[i], P[i]) - 0.25) / 0.5
        assert (d.values[i] == KEYS["own"][i] @ Q[i] / 0.5 - s_p).all()


def test_masked_differences_are_zero_and_never_infinite() -> None:
    """[candidates.mask] Where a key is no negative the stored number is 0, also where its score overflows."""
    keys = np.where(mask(M)[:, :, None], KEYS["own"], 1e308)
    with np.errstate(over="ignore"):
        (d,), _ = differences(np, pair(100 * Q), [block(keys, mask(M), 100 * Q)], TAU, MARGIN)
    assert np.isfinite(d.values).all()
    assert (d.values[~mask(M)] == 0).all()


BIAS = {"positive_bias": grid(RNG, N, 1), "shared_bias": grid(RNG, M, 1), "own_bias": grid(RNG, M, 1)}
AT = {"query": Q, "positive": P, **KEYS, "temperature": TAU, "margin": MARGIN, **BIAS}


@on("varied", AT)
def test_pullback_is_the_transpose(varied: str) -> None:
    """⟨pullback(g), dx⟩ = ⟨g, derivative along dx⟩ for every argument, over two blocks, one masked, and a level.

    [gradient.query] [gradient.positive-key] [gradient.negative-keys] [gradient.temperature] [gradient.margin]
    [gradient.logit-bias]
    """
    keep = mask(M)
    g = [grid(RNG, N, M), np.where(keep, grid(RNG, N, M), 0.0), grid(RNG, N, 1)]

    def stage(x: Any) -> Any:
        blocks = [
            block(x["shared"], None, x["query"], bias=Rows("shared_bias", x["shared_bias"])),
            block(x["own"], keep, x["query"], bias=Rows("own_bias", x["own_bias"])),
        ]
        one = pair(x["query"], x["positive"], Rows("positive_bias", x["positive_bias"]))
        return differences(np, one, blocks, x["temperature"], x["margin"], level=-1.0)

    check_transpose(stage, g, varied)


@on("varied", ["query", "shared", "temperature", "margin"])
@on("referred", [False, True])
def test_pullback_of_logits_is_the_transpose(varied: str, referred: bool) -> None:
    """The same for rows with several positives, with a reference and without.

    Where there is a reference a link's gradients sum to 0 in each row, so that nothing flows through it.
    """
    keep, positive = mask(M), ~mask(M)
    positive[:, 0] = True
    g = np.where(keep | positive, grid(RNG, N, M), 0.0)
    if referred:
        g[:, 0] -= g.sum(axis=1)

    def stage(x: Any) -> Any:
        both = block(x["shared"], keep, x["query"], positive=positive)
        d, pullback = logits(np, both, x["temperature"], x["margin"], positive if referred else None)
        return [d], lambda gs: pullback(gs[0])

    check_transpose(stage, [g], varied)


def check_transpose(stage: Any, g: list[np.ndarray], varied: str) -> None:
    """That the stage's pullback of g is its derivative's transpose, along some direction of the varied argument."""
    direction = np.array(1.0) if AT[varied].ndim == 0 else grid(RNG, *AT[varied].shape)

    def paired(step: float) -> float:
        d, _ = stage({**AT, varied: AT[varied] + step * direction})
        return sum(float(np.sum(a * part.values)) for a, part in zip(g, d, strict=True))

    grads = stage(AT)[1](g)
    found = {"temperature": grads.temperature, "margin": grads.margin}
    for rows, gradient in grads.rows:
        found[rows.name] = found.get(rows.name, 0.0) + gradient
    h = 2.0**-10
    along = (8 * (paired(h) - paired(-h)) - (paired(2 * h) - paired(-2 * h))) / (12 * h)
    assert np.sum(found[varied] * direction) == pytest.approx(along, rel=1e-9, abs=1e-9)
