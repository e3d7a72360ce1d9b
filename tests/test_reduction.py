"""Reductions and weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from infonce_ref import info_nce
from infonce_ref.reduction import REDUCTIONS, reduce_by
from tests.problems import PLAIN, WEIGHTS, N

LOSSES = np.array([1.0, 2.0, 4.0, 8.0])
LIKE = np.zeros((N, 1))
EXPECTED: Mapping[tuple[str, bool], Any] = {
    ("mean", False): 15 / 4,
    ("sum", False): 15.0,
    ("none", False): [1.0, 2.0, 4.0, 8.0],
    ("mean", True): (1 + 2 * 0.5 + 8 * 2) / 3.5,
    ("sum", True): 1 + 2 * 0.5 + 8 * 2,
    ("none", True): [1.0, 1.0, 0.0, 16.0],
}
on = pytest.mark.parametrize


@on(("kind", "weighted"), EXPECTED)
def test_each_reduction_is_its_formula(kind: str, weighted: bool) -> None:
    """[reduction.mean] [reduction.sum] [reduction.none] [reduction.weight] Σ wL / Σw, Σ wL and the w_i L_i."""
    weight = np.array(WEIGHTS) if weighted else None
    assert (reduce_by(np, kind, LIKE, weight).apply(LOSSES) == np.array(EXPECTED[kind, weighted])).all()


@on("kind", REDUCTIONS)
@on("weight", [None, np.array(WEIGHTS), np.zeros(N)])
def test_transpose(kind: str, weight: np.ndarray | None) -> None:
    """[reduction.weight] ⟨transpose(c), dL⟩ = ⟨c, apply(dL)⟩, since a reduction is linear."""
    made = reduce_by(np, kind, LIKE, weight)
    value = made.apply(LOSSES)
    cotangent = np.arange(1.0, 1.0 + value.size).reshape(value.shape)
    assert np.sum(made.transpose(cotangent) * LOSSES) == pytest.approx(np.sum(cotangent * value), rel=1e-15)


@on("kind", ["mean", "sum"])
def test_no_weight_at_all(kind: str) -> None:
    """[reduction.weight] Where all weights are 0 the mean is 0, not 0/0, and so are its gradients."""
    with np.errstate(all="raise"):
        loss, grad = info_nce.value_and_grad(**PLAIN.arrays, reduction=kind, sample_weight=np.zeros(N))
    assert loss == 0
    assert all((g == 0).all() for g in grad if g is not None)


def test_a_weight_of_zero_removes_a_query() -> None:
    """[reduction.weight] Weight 0 takes a query's loss away; its positive stays a negative of the others."""
    q, k = PLAIN.arrays["query"], PLAIN.arrays["positive_key"]
    weight = np.array([1.0, 1.0, 0.0, 1.0])
    kept = np.delete(info_nce(q, k, reduction="none"), 2)
    assert info_nce(q, k, sample_weight=weight) == pytest.approx(kept.mean(), rel=1e-15)
    grad = info_nce.value_and_grad(q, k, sample_weight=weight)[1]
    assert (grad.query[2] == 0).all() and (grad.positive_key[2] != 0).any()


def test_sum_is_the_sum_of_none() -> None:
    """[reduction.sum] [reduction.none] With weights too."""
    entries = info_nce(**PLAIN.arrays, reduction="none", sample_weight=np.array(WEIGHTS))
    total = info_nce(**PLAIN.arrays, reduction="sum", sample_weight=np.array(WEIGHTS))
    assert total == pytest.approx(entries.sum(), rel=1e-15)
