"""Tiny losses in float32: the reference keeps its digits where the usual formula has none."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from infonce_ref.conformance.bounds import bound, flushed
from infonce_ref.conformance.oracle import Answer, definition
from infonce_ref.conformance.problem import FORMATS, Problem
from tests.libraries import Library
from tests.problems import arguments, ratio, value_and_grad, worst

on = pytest.mark.parametrize
LOSSES = (1e-3, 1e-7, 1e-12, 1e-27)
F32 = FORMATS["float32"]


def aligned(temperature: float) -> Problem:
    """Eight pairs of nearly parallel rows of length 32, as a trained model has them, in float32."""
    rng = np.random.default_rng(101)
    query = rng.standard_normal((8, 32)).astype(np.float32).astype(np.float64)
    noise = 0.1 * rng.standard_normal((8, 32))
    arrays = {"query": query, "positive_key": (query + noise).astype(np.float32).astype(np.float64)}
    return Problem("float32", arrays, float(np.float32(temperature)))


@cache
def solved(loss: float) -> tuple[Problem, Answer]:
    """The problem among them whose exact loss is nearest the wanted one: the temperature by bisection."""
    low, high = 2.0**-10, 1.0
    for _ in range(14):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if definition.solve(aligned(middle), 60).loss < loss else (low, middle)
    p = aligned(low)
    return p, definition.evaluate(p)


@cache
def precise_bounds(loss: float, library: str = "") -> dict[str, np.ndarray]:
    """The precise bounds; XLA on the CPU flushes subnormal numbers, which counts at gradients of 1e-36."""
    target = flushed(F32) if library.startswith("jax") else F32
    return bound(solved(loss)[0], target, "precise")


@on("loss", LOSSES)
def test_the_problems_have_these_losses(loss: float) -> None:
    """[precise.loss] The exact losses are what the tests say, and the precise bound is a small part of them."""
    p, answer = solved(loss)
    assert float(answer.loss) == pytest.approx(loss, rel=0.1)
    assert precise_bounds(loss)["loss"] < 1e-3 * answer.loss
    if loss < 1e-6:
        assert bound(p, F32, "textbook")["loss"] > 0.1 * answer.loss


@on("library", ["numpy", "torch", "jax", "jax-jit"], indirect=True)
@on("loss", LOSSES)
def test_tiny_losses_and_their_gradients(library: Library, loss: float, conforms: Callable[[float], None]) -> None:
    """[precise.loss] [precise.gradient] Loss and gradients are within the precise bound, relative to themselves."""
    p, answer = solved(loss)
    computed = value_and_grad(p, library, "float32")
    conforms(worst(computed, answer, precise_bounds(loss, library.name)))


@on("library", ["numpy", "torch", "jax"], indirect=True)
@on("block_size", [3])
def test_blocks_are_as_precise(library: Library, block_size: int, conforms: Callable[[float], None]) -> None:
    """[precise.loss] [stream.block] Streaming costs no digit of a loss of 1e-12."""
    p, answer = solved(1e-12)
    computed = value_and_grad(p, library, "float32", block_size=block_size)
    conforms(worst(computed, answer, precise_bounds(1e-12, library.name)))


# ---------------------------------------------- normalise, multiply, cross-entropy: what everybody writes, per library


def usual_numpy(query: Any, positive_key: Any, temperature: float) -> tuple[Any, Any]:
    q, k = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, positive_key))
    s = q @ k.T / np.float32(temperature)
    top = s.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(s - top).sum(axis=1, keepdims=True)) + top
    g = (np.exp(s - log_sum) - np.eye(len(q), dtype=q.dtype)) / np.float32(len(q) * temperature)
    v = g @ k
    by_query = (v - q * (q * v).sum(axis=1, keepdims=True)) / np.linalg.norm(query, axis=1, keepdims=True)
    return (log_sum[:, 0] - np.diagonal(s)).mean(), by_query


def usual_torch(query: Any, positive_key: Any, temperature: float) -> tuple[Any, Any]:
    import torch
    from torch.nn.functional import cross_entropy, normalize

    query = query.clone().requires_grad_()
    s = normalize(query, dim=1) @ normalize(positive_key, dim=1).T / temperature
    loss = cross_entropy(s, torch.arange(len(s)))
    return loss, torch.autograd.grad(loss, query)[0]


def usual_jax(query: Any, positive_key: Any, temperature: float) -> tuple[Any, Any]:
    import jax
    from jax import numpy as jnp

    def loss(query: Any) -> Any:
        q, k = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (query, positive_key))
        s = q @ k.T / temperature
        return jnp.mean(jax.nn.logsumexp(s, axis=1) - jnp.diagonal(s))

    return jax.jit(jax.value_and_grad(loss))(query)


USUAL = {"numpy": usual_numpy, "torch": usual_torch, "jax": usual_jax}


@on("library", USUAL, indirect=True)
@on("loss", LOSSES)
def test_the_usual_formula_conforms_and_is_not_precise(library: Library, loss: float) -> None:
    """[precise.loss] [precise.gradient] The check can fail: the usual formula conforms, and misses this bound."""
    p, answer = solved(loss)
    arrays, _ = arguments(p, library, "float32")
    value, by_query = USUAL[library.name.split("-")[0]](**arrays, temperature=p.temperature)
    computed = {"loss": library.numpy(value), "query": library.numpy(by_query)}
    exact, textbook, precise = answer.outputs(), bound(p, F32), precise_bounds(loss, library.name)
    assert max(ratio(computed[name], exact[name], textbook[name]) for name in computed) <= 1
    if loss < 1e-6:
        assert ratio(computed["loss"], exact["loss"], precise["loss"]) > 10
        assert ratio(computed["query"], exact["query"], precise["query"]) > 10
