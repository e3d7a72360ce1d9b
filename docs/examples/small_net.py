"""The little that the other examples share: a network of two layers with its pullback, Adam, and a random generator.

The losses bring their own gradients, so NumPy is all that training takes: loss.value_and_grad gives the gradient of the
embeddings, and the network's pullback takes it on to the weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]


def network(rng: np.random.Generator, inputs: int, hidden: int, outputs: int) -> Weights:
    """Random weights of a network inputs → hidden → outputs."""
    return {
        "w1": rng.normal(size=(inputs, hidden)) * (2 / inputs) ** 0.5,
        "b1": np.zeros(hidden),
        "w2": rng.normal(size=(hidden, outputs)) * (1 / hidden) ** 0.5,
    }


def embed(p: Weights, x: Array) -> tuple[Array, Callable[[Array], Weights]]:
    """The embeddings of the rows of x, and the pullback: gradient of the embeddings → gradients of the weights."""
    h = np.maximum(x @ p["w1"] + p["b1"], 0)

    def pullback(g: Array) -> Weights:
        to_hidden = (g @ p["w2"].T) * (h > 0)
        return {"w1": x.T @ to_hidden, "b1": to_hidden.sum(axis=0), "w2": h.T @ g}

    return h @ p["w2"], pullback


def plus(a: Weights, b: Weights) -> Weights:
    """The sum of two gradients: weights that were used twice."""
    return {name: a[name] + b[name] for name in a}


class Adam:
    """Kingma and Ba 2015; one state for each set of weights."""

    def __init__(self, weights: Weights, rate: float = 3e-3) -> None:
        self.weights, self.rate, self.steps = weights, rate, 0
        self.mean = {name: np.zeros_like(w) for name, w in weights.items()}
        self.square = {name: np.zeros_like(w) for name, w in weights.items()}

    def step(self, grads: Weights) -> None:
        """One step downhill."""
        self.steps += 1
        for name, g in grads.items():
            self.mean[name] += 0.1 * (g - self.mean[name])
            self.square[name] += 0.001 * (g * g - self.square[name])
            mean = self.mean[name] / (1 - 0.9**self.steps)
            square = self.square[name] / (1 - 0.999**self.steps)
            self.weights[name] = self.weights[name] - self.rate * mean / (np.sqrt(square) + 1e-8)


def batches(rng: np.random.Generator, rows: int, size: int, epochs: int) -> list[Array]:
    """The rows in random order, in batches of one size, several times over; what doesn't fill a batch is left out."""
    orders = [rng.permutation(rows) for _ in range(epochs)]
    return [order[lo : lo + size] for order in orders for lo in range(0, rows - size + 1, size)]
