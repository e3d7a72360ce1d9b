"""SimCLR on handwritten digits: an encoder learns from pairs of random views of one image, without a label.

Every image of the batch is shown twice, each time moved, brightened and blurred by noise at random. `nt_xent` asks the
encoder to tell which two of the 2N views are of one image; on the way it comes to group the digits by their class.
(The pixels themselves group them a little better still: 8 × 8 centred pixels leave little to be invariant to.)

    python -m docs.examples.simclr
"""

from __future__ import annotations

import numpy as np

from docs.examples.digits import digits, same_label_nearby, view
from docs.examples.small_net import Adam, batches, embed, network, plus
from infonce_ref import nt_xent, top_k_accuracy


def main(epochs: int = 60) -> dict[str, tuple[float, float]]:
    """What is measured on images that weren't trained on: (before, after)."""
    rng, data = np.random.default_rng(0), digits()
    weights = network(rng, 64, 256, 32)
    optimiser = Adam(weights)
    test_a, test_b = view(rng, data.test), view(rng, data.test)

    def measured() -> tuple[float, float]:
        a, b, clean = (embed(weights, x)[0] for x in (test_a, test_b, data.test.reshape(500, 64)))
        return float(top_k_accuracy(a, b, k=1)), same_label_nearby(clean, data.test_labels)

    before = measured()
    for rows in batches(rng, len(data.train), 128, epochs):
        a, to_a = embed(weights, view(rng, data.train[rows]))
        b, to_b = embed(weights, view(rng, data.train[rows]))
        _, grad = nt_xent.value_and_grad(a, b, temperature=0.2)
        optimiser.step(plus(to_a(grad.view_a), to_b(grad.view_b)))
    other_view, same_digit = zip(before, measured(), strict=True)
    return {"the other view found among 500": other_view, "same digit among the 10 nearest": same_digit}


if __name__ == "__main__":
    for what, (before, after) in main().items():
        print(f"{what}: {before:.1%} before, {after:.1%} after")
