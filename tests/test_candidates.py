"""Candidates: who is whose positive and who is whose negative, read off the loss itself and off the masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infonce_ref import info_nce
from infonce_ref.candidates import candidates
from infonce_ref.link import softplus_link
from infonce_ref.scores import kept
from tests.problems import D, M, N, grid, mask

RNG = np.random.default_rng(81)
Q, K, SHARED, OWN = grid(RNG, N, D), grid(RNG, 6, D), grid(RNG, M, D), grid(RNG, N, M, D)
INDEX = np.array([5, 0, 3, 0])
on = pytest.mark.parametrize


def members(keys: np.ndarray, negatives: Any, index: Any, in_batch: bool, m: Any) -> list[set[tuple[str, int]]]:
    """For every query its negatives as the reference has them, (argument, row) pairs, over blocks of three queries."""
    who = candidates(np, Q, keys, index, in_batch, m)
    found = []
    for lo in range(0, N, 3):
        blocks = who.layout(Q, keys, negatives, softplus_link)(lo, min(lo + 3, N)).blocks
        for i in range(min(3, N - lo)):
            found.append(
                {
                    (block.keys.name, j)
                    for block in blocks
                    for j in range(block.keys.values.shape[-2])
                    if (keep := kept(np, block)) is None or keep[i, j]
                }
            )
    return found


@on("in_batch", [True, False])
@on("negatives", [None, SHARED, OWN], ids=["none", "shared", "own"])
@on("index", [None, INDEX], ids=["paired", "index"])
@on("masked", [False, True])
def test_the_negatives_of_every_query(in_batch: bool, negatives: Any, index: Any, masked: bool) -> None:
    """The sets of the specification: all other keys, the explicit ones, less what the mask takes out.

    [candidates.in-batch] [candidates.shared] [candidates.own] [candidates.positive] [candidates.index]
    [candidates.mask] [candidates.mask.positive]
    """
    keys = K if index is not None else K[:N]
    columns = [("positive_key", j) for j in range(len(keys))] * in_batch
    columns += [] if negatives is None else [("negative_keys", j) for j in range(M)]
    m = mask(len(columns)) if masked else None
    for i, found in enumerate(members(keys, negatives, index, in_batch, m)):
        positive = ("positive_key", i if index is None else index[i])
        allowed = {column for c, column in enumerate(columns) if m is None or m[i, c]}
        assert found == allowed - {positive}


def losses(**arguments: Any) -> np.ndarray:
    return np.asarray(info_nce(**arguments, reduction="none"))


def test_a_duplicate_of_the_positive_is_a_negative() -> None:
    """[candidates.positive] An equal row elsewhere is a negative: alone with it the loss is log 2."""
    assert losses(query=Q[:1], positive_key=K[:1], negative_keys=K[:1])[0] == pytest.approx(np.log(2), rel=1e-15)
    assert losses(query=Q[:2], positive_key=K[[0, 0]]) == pytest.approx(np.log(2), rel=1e-15)


def test_the_five_readings_are_five_losses() -> None:
    """[candidates.own] [candidates.shared] Repeated for all, own negatives are shared ones."""
    repeated = np.broadcast_to(SHARED, (N, M, D)).copy()
    keys = K[:N]
    for in_batch in (True, False):
        shared = losses(query=Q, positive_key=keys, negative_keys=SHARED, in_batch_negatives=in_batch)
        own = losses(query=Q, positive_key=keys, negative_keys=repeated, in_batch_negatives=in_batch)
        np.testing.assert_allclose(own, shared, rtol=1e-14)
    both = losses(query=Q, positive_key=keys, negative_keys=SHARED)
    alone = losses(query=Q, positive_key=keys, negative_keys=SHARED, in_batch_negatives=False)
    batch = losses(query=Q, positive_key=keys)
    # odds of being wrong add up: e^L − 1 is Σ over negatives of e^{s_j − s_p}
    np.testing.assert_allclose(np.expm1(both), np.expm1(alone) + np.expm1(batch), rtol=1e-13)


def test_an_index_picks_the_positive() -> None:
    """[candidates.index] With explicit negatives alone, an index is the paired call on the picked keys."""
    picked = losses(query=Q, positive_key=K[INDEX], negative_keys=SHARED, in_batch_negatives=False)
    indexed = losses(
        query=Q, positive_key=K, positive_index=INDEX, negative_keys=SHARED, in_batch_negatives=False
    )
    np.testing.assert_array_equal(indexed, picked)


def test_positives_transpose() -> None:
    """[gradient.positive-key] What queries send to their positives arrives at the keys: the transpose of the gather."""
    who = candidates(np, Q, K, INDEX, True, None)
    gathered = who.positives("positive_key", K, 0, N)
    assert (gathered.values == K[INDEX]).all()
    assert gathered.scatter is not None
    g = grid(RNG, N, D)
    assert np.sum(gathered.scatter(g) * K) == np.sum(g * gathered.values)


@on("m", [None, np.ones((N, 6), bool)], ids=["no mask", "mask"])
def test_used_keys(m: Any) -> None:
    """[candidates.mask.unused] A key is used that is anyone's positive or negative, whatever the block size."""
    for in_batch, expected in ((True, np.ones(6, bool)), (False, np.isin(np.arange(6), INDEX))):
        for block_size in (1, 3, 10):
            used = candidates(np, Q, K, INDEX, in_batch, m if in_batch else None).used_keys(K, block_size)
            assert (used is None and m is None) or (used == expected).all()


def test_no_negatives_at_all() -> None:
    """[candidates.none] One pair without negatives: loss 0, gradient 0, without a warning."""
    with np.errstate(all="raise"):
        loss, grad = info_nce.value_and_grad(Q[:1], K[:1])
    assert loss == 0
    assert all((g == 0).all() for g in grad if g is not None)


def test_identical_rows_give_log_c() -> None:
    """[rows.softplus] Where all candidates are equal each has the share 1/C: the loss is log C."""
    ones = np.ones((N, D))
    assert info_nce(ones, ones) == pytest.approx(np.log(N), rel=1e-15)
    assert info_nce(ones, ones, np.ones((M, D))) == pytest.approx(np.log(N + M), rel=1e-15)
