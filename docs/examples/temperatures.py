"""What the temperature does: the same training at 0.01, 0.07, 0.1 and 1, and how many negatives each step looks at.

`negative_weights` says how a query's gradient is spread over its 127 negatives. A temperature of 0.01 looks at a few,
0.07 and 0.1 begin with many and end with the hard ones, 1 looks at nearly all alike to the end; the best lie between.

    python -m docs.examples.temperatures
"""

from __future__ import annotations

import numpy as np

from docs.examples.digits import digits, view
from docs.examples.small_net import Adam, batches, embed, network, plus
from infonce_ref import info_nce, negative_weights, top_k_accuracy

TEMPERATURES = (0.01, 0.07, 0.1, 1.0)


def main(temperature: float = 0.1, epochs: int = 40) -> dict[str, tuple[float, float]]:
    """Accuracy in finding the other view, and the mean effective number of negatives of a query: (before, after)."""
    rng, data = np.random.default_rng(0), digits()
    weights = network(rng, 64, 256, 32)
    optimiser = Adam(weights)
    test_a, test_b = view(rng, data.test), view(rng, data.test)

    def measured() -> tuple[float, float]:
        a, b = (embed(weights, x)[0] for x in (test_a, test_b))
        u, v = (x[:128] / np.linalg.norm(x[:128], axis=1, keepdims=True) for x in (a, b))
        number = negative_weights(u @ v.T, temperature=temperature).effective_number
        return float(top_k_accuracy(a, b, k=1)), float(np.mean(number))

    before = measured()
    for rows in batches(rng, len(data.train), 128, epochs):
        a, to_a = embed(weights, view(rng, data.train[rows]))
        b, to_b = embed(weights, view(rng, data.train[rows]))
        _, grad = info_nce.value_and_grad(a, b, temperature=temperature)
        optimiser.step(plus(to_a(grad.query), to_b(grad.positive_key)))
    accuracy, number = zip(before, measured(), strict=True)
    return {"the other view found among 500": accuracy, "effective number of 127 negatives": number}


if __name__ == "__main__":
    print("temperature   accuracy before, after   effective negatives before, after")
    for temperature in TEMPERATURES:
        accuracy, number = main(temperature).values()
        print(f"{temperature:11}   {accuracy[0]:15.1%}, {accuracy[1]:5.1%}   {number[0]:26.1f}, {number[1]:5.1f}")
