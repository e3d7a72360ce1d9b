"""NumPy: the bare products, the reference, the backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import infonce_ref
from infonce_ref.backends import numpy as fast
from tests.benchmarks.inputs import Inputs

Call = Callable[[], float | None]


def floor_dense(loss: str, x: Inputs) -> Call:
    """Scores, the gradient of one side, the gradient of the other: nothing but their products."""

    def call() -> None:
        scores = x.a @ x.b.T
        _ = scores @ x.b, scores.T @ x.a

    return call


def floor_tiled(height: int) -> Callable[[str, Inputs], Call]:
    """The same, some rows of scores at a time."""

    def build(loss: str, x: Inputs) -> Call:
        n = len(x.a)
        tile = min(height, n)

        def call() -> None:
            scores, to_a, to_b, part = np.empty((tile, n), np.float32), np.empty_like(x.a), np.zeros_like(x.b), x.b * 0
            for lo in range(0, n, tile):
                anchors = x.a[lo : lo + tile]
                np.matmul(anchors, x.b.T, out=scores)
                np.matmul(scores, x.b, out=to_a[lo : lo + tile])
                to_b += np.matmul(scores.T, anchors, out=part)

        return call

    return build


def losses_of(module: Any) -> Callable[[str, Inputs], Call]:
    """`value_and_grad` of the loss of that module."""

    def build(loss: str, x: Inputs) -> Call:
        function = getattr(module, "info_nce" if loss == "cold" else loss)
        arguments = (x.a, x.labels) if loss == "sup_con" else (x.a, x.b)
        return lambda: float(function.value_and_grad(*arguments, temperature=x.temperature)[0])

    return build


def one_way(loss: str, x: Inputs) -> Call:
    """info_nce in turn with clip, whose loss it hasn't."""
    call = losses_of(fast)("info_nce", x)

    def without_loss() -> None:
        call()

    return without_loss


BUILD = {
    "numpy": losses_of(fast),
    "numpy-one-way": one_way,
    "reference": losses_of(infonce_ref),
    "numpy-dense": floor_dense,
    "numpy-256": floor_tiled(256),
    "numpy-512": floor_tiled(512),
}
