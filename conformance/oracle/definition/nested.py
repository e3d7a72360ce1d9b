"""A loss over nested embeddings: the answers to prefixes of the rows, weighted, padded with zeros and added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from mpmath import mp

from infonce_ref.conformance.family import KINDS
from infonce_ref.conformance.oracle import Answer
from infonce_ref.conformance.oracle.definition.similarity import exact, finite
from infonce_ref.conformance.problem import Problem


def parts(problem: Problem) -> Iterator[tuple[Any, Problem]]:
    """Each weight w_m and its part: info_nce of the first d_m coordinates of every embedding."""
    dims, weights = problem.option("dims"), problem.option("weights")
    for d, w in zip(dims, [1.0] * len(dims) if weights is None else weights, strict=True):
        prefix = {name: first(x, d) if KINDS[name] == "embedding" else x for name, x in problem.arrays.items()}
        yield exact(finite("weights", w)), replace(problem, loss="info_nce", arrays=prefix, options={})


def first(rows: np.ndarray, d: int) -> np.ndarray:
    if not 1 <= d <= rows.shape[-1]:
        raise ValueError(f"dims must lie in 1 … {rows.shape[-1]}, got {d}: there is no exact answer")
    return rows[..., :d]


def summed(problem: Problem, answers: list[tuple[Any, Answer]], digits: int) -> Answer:
    """Σ_m w_m times the m-th answer."""
    with mp.workdps(digits):
        loss = sum(w * answer.loss for w, answer in answers)
        grad = {
            name: np.asarray(sum(w * padded(problem, name, answer.grad[name]) for w, answer in answers), dtype=object)
            for name in problem.differentiable
        }
        return Answer(np.asarray(loss, dtype=object), grad, digits)


def padded(problem: Problem, name: str, gradient: np.ndarray) -> np.ndarray:
    """The gradient by the whole rows: 0 by the coordinates that the prefix leaves out."""
    if name not in problem.arrays:
        return gradient
    whole = np.full(problem.arrays[name].shape, mp.zero, dtype=object)
    whole[..., : gradient.shape[-1]] = gradient
    return whole
