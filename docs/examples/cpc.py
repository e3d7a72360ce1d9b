"""Contrastive predictive coding: from the upper rows of a handwritten digit predict the embeddings of the next ones.

A digit is read as a sequence of eight rows of pixels. The context c summarises the first four; for each step k ahead a
matrix W_k of its own predicts the embedding z of that row, and `info_nce` with the bilinear similarity c W_k z asks
which of the batch's rows it is: one loss for each W_k, all into the same two encoders.

    python -m docs.examples.cpc
"""

from __future__ import annotations

import numpy as np

from docs.examples.digits import digits
from docs.examples.small_net import Adam, batches, embed, network, plus
from infonce_ref import info_nce, top_k_accuracy

SEEN, STEPS = 4, 3


def main(epochs: int = 40) -> dict[str, tuple[float, float]]:
    """Accuracy in predicting the rows of images that weren't trained on, a step after the other: (before, after)."""
    rng, data = np.random.default_rng(0), digits()
    context, row = network(rng, SEEN * 8, 128, 32), network(rng, 8, 64, 16)
    ahead = {f"W{k}": rng.normal(size=(32, 16)) / 32**0.5 for k in range(1, STEPS + 1)}
    optimisers = [Adam(weights) for weights in (context, row, ahead)]

    def accuracy() -> list[float]:
        c = embed(context, data.test[:, :SEEN].reshape(500, -1))[0]
        z = [embed(row, data.test[:, SEEN - 1 + k])[0] for k in range(1, STEPS + 1)]
        return [float(top_k_accuracy(c @ w, x, k=10, similarity="dot")) for w, x in zip(ahead.values(), z, strict=True)]

    before = accuracy()
    for rows in batches(rng, len(data.train), 128, epochs):
        c, to_context = embed(context, data.train[rows][:, :SEEN].reshape(128, -1))
        by_context, by_row, by_ahead = np.zeros_like(c), [], {}
        for k, (name, w) in enumerate(ahead.items(), start=1):
            z, to_row = embed(row, data.train[rows][:, SEEN - 1 + k])
            _, grad = info_nce.value_and_grad(c, z, similarity="bilinear", bilinear_weight=w, temperature=1.0)
            by_context += grad.query
            by_row.append(to_row(grad.positive_key))
            by_ahead[name] = grad.bilinear_weight
        total = by_row[0]
        for more in by_row[1:]:
            total = plus(total, more)
        for optimiser, grads in zip(optimisers, (to_context(by_context), total, by_ahead), strict=True):
            optimiser.step(grads)
    found = zip(before, accuracy(), strict=True)
    return {f"{k} ahead: the row among the ten best of 500": pair for k, pair in enumerate(found, start=1)}


if __name__ == "__main__":
    for what, (before, after) in main().items():
        print(f"{what}: {before:.1%} before, {after:.1%} after")
