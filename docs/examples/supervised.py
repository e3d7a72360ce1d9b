"""Supervised contrastive learning: digits of one class are each other's positives, in the three forms of `sup_con`.

"out" wants every positive near, "in" is content with one, "sincere" keeps the other positives out of the denominator.

    python -m docs.examples.supervised
"""

from __future__ import annotations

import numpy as np

from docs.examples.digits import digits, same_label_nearby, view
from docs.examples.small_net import Adam, batches, embed, network
from infonce_ref import sup_con


def main(variant: str = "out", epochs: int = 20) -> dict[str, tuple[float, float]]:
    """The share of same digits among the ten nearest, on images that weren't trained on: (before, after)."""
    rng, data = np.random.default_rng(0), digits()
    weights = network(rng, 64, 128, 32)
    optimiser, test = Adam(weights), data.test.reshape(500, 64)

    before = same_label_nearby(embed(weights, test)[0], data.test_labels)
    for rows in batches(rng, len(data.train), 128, epochs):
        features, pullback = embed(weights, view(rng, data.train[rows]))
        _, grad = sup_con.value_and_grad(features, data.train_labels[rows], temperature=0.1, variant=variant)
        optimiser.step(pullback(grad.features))
    return {"same digit among the ten nearest": (before, same_label_nearby(embed(weights, test)[0], data.test_labels))}


if __name__ == "__main__":
    for variant in ("out", "in", "sincere"):
        for what, (before, after) in main(variant).items():
            print(f"{variant}: {what}: {before:.1%} before, {after:.1%} after")
