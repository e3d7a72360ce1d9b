"""The same task, network, batches and steps, once with the triplet loss and once with InfoNCE.

Two views of a digit, as in SimCLR; every other image of the batch is a negative to both. The triplet loss stops pulling
where the margin is kept, so most negatives soon say nothing; InfoNCE weighs them all, the hard ones most.

    python -m docs.examples.triplet_and_info_nce
"""

from __future__ import annotations

import numpy as np

from docs.examples.digits import digits, view
from docs.examples.small_net import Adam, batches, embed, network, plus
from infonce_ref import info_nce, top_k_accuracy, triplet

LOSSES = {"triplet": (triplet, {"margin": 0.2}), "info_nce": (info_nce, {"temperature": 0.2})}


def main(name: str = "info_nce", epochs: int = 40) -> dict[str, tuple[float, float]]:
    """Accuracy in finding the other view of an image that wasn't trained on: (before, after)."""
    rng, data = np.random.default_rng(0), digits()
    weights = network(rng, 64, 256, 32)
    optimiser = Adam(weights)
    test_a, test_b = view(rng, data.test), view(rng, data.test)
    loss, options = LOSSES[name]

    def accuracy() -> float:
        return float(top_k_accuracy(embed(weights, test_a)[0], embed(weights, test_b)[0], k=1))

    before = accuracy()
    for rows in batches(rng, len(data.train), 128, epochs):
        a, to_a = embed(weights, view(rng, data.train[rows]))
        b, to_b = embed(weights, view(rng, data.train[rows]))
        _, grad = loss.value_and_grad(a, b, **options)
        optimiser.step(plus(to_a(grad.query), to_b(grad.positive_key)))
    return {"the other view found among 500": (before, accuracy())}


if __name__ == "__main__":
    for name in LOSSES:
        for what, (before, after) in main(name).items():
            print(f"{name}: {what}: {before:.1%} before, {after:.1%} after")
