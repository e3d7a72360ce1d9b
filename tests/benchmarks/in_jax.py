"""JAX: the bare products, the backend, JAX's own derivative, optax; everything compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import log_softmax

from infonce_ref.backends import jax as fast
from tests.benchmarks.inputs import Inputs, of_backend

Call = Callable[[], float | None]
Loss = Callable[[Any, Any], Any]


def floor_dense(loss: str, x: Inputs) -> Call:
    """Scores, the gradient of one side, the gradient of the other: nothing but their products."""

    @jax.jit
    def products(a: Any, b: Any) -> Any:
        scores = a @ b.T
        return scores @ b, scores.T @ a

    return finished(products, x)


def floor_tiled(height: int) -> Callable[[str, Inputs], Call]:
    """The same, some rows of scores at a time."""

    def build(loss: str, x: Inputs) -> Call:
        n, dim = x.a.shape
        tile = min(height, n)

        @jax.jit
        def products(a: Any, b: Any) -> Any:
            def step(to_b: Any, anchors: Any) -> Any:
                scores = anchors @ b.T
                return to_b + scores.T @ anchors, scores @ b

            return jax.lax.scan(step, jnp.zeros_like(b), a.reshape(n // tile, tile, dim))

        return finished(products, x)

    return build


def finished(function: Callable[..., Any], x: Inputs) -> Call:
    a, b = jnp.asarray(x.a), jnp.asarray(x.b)

    def call() -> None:
        jax.block_until_ready(function(a, b))

    return call


def differentiated(make: Callable[[str, Inputs], Loss]) -> Callable[[str, Inputs], Call]:
    """Value and gradients of both sides (of the one side for sup_con), compiled."""

    def build(loss: str, x: Inputs) -> Call:
        sides = 0 if loss == "sup_con" else (0, 1)
        function = jax.jit(jax.value_and_grad(make(loss, x), argnums=sides))
        a, b = jnp.asarray(x.a), jnp.asarray(x.b)
        return lambda: float(jax.block_until_ready(function(a, b))[0])

    return build


ours = partial(of_backend, fast, jnp.asarray)


def autodiff(loss: str, x: Inputs) -> Loss:
    """What is written by hand: normalise, multiply, log_softmax."""

    def unit(side: Any) -> Any:
        return side / jnp.linalg.norm(side, axis=1, keepdims=True)

    def one_way(a: Any, b: Any) -> Any:
        return -jnp.mean(jnp.diagonal(log_softmax(unit(a) @ unit(b).T / x.temperature)))

    def both_ways(a: Any, b: Any) -> Any:
        return (one_way(a, b) + one_way(b, a)) / 2

    return both_ways if loss == "clip" else one_way


def optax(loss: str, x: Inputs) -> Loss:
    from optax.losses import ntxent

    views = jnp.tile(jnp.arange(len(x.a)), 2)
    return lambda a, b: ntxent(jnp.concatenate([a, b]), views, x.temperature)


BUILD: dict[str, Callable[[str, Inputs], Call]] = {
    "jax": differentiated(ours),
    "jax-autodiff": differentiated(autodiff),
    "jax-dense": floor_dense,
    "jax-256": floor_tiled(256),
    "jax-512": floor_tiled(512),
    "optax": differentiated(optax),
}
