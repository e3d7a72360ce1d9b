"""CLIP with two modalities that are at hand: the left and the right half of a handwritten digit.

Each half has an encoder of its own, as images and texts have; `clip` asks both directions at once which right half goes
with which left half. The temperature is learnt as in CLIP, through the logarithm of its inverse.

    python -m docs.examples.clip_halves
"""

from __future__ import annotations

import math

import numpy as np

from docs.examples.digits import digits
from docs.examples.small_net import Adam, batches, embed, network
from infonce_ref import clip, temperature_from_logit_scale, top_k_accuracy


def halves(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The four left and the four right columns of pixels, flat."""
    return images[:, :, :4].reshape(len(images), -1), images[:, :, 4:].reshape(len(images), -1)


def main(epochs: int = 60) -> dict[str, tuple[float, float]]:
    """Accuracy on images that weren't trained on: (before, after), in both directions."""
    rng, data = np.random.default_rng(0), digits()
    left, right, scale = network(rng, 32, 128, 32), network(rng, 32, 128, 32), {"log": np.log(1 / 0.07)}
    optimisers = [Adam(weights) for weights in (left, right, scale)]
    train, test = halves(data.train), halves(data.test)

    def accuracy() -> list[float]:
        a, b = embed(left, test[0])[0], embed(right, test[1])[0]
        return [float(top_k_accuracy(x, y, k=10)) for x, y in ((a, b), (b, a))]

    before = accuracy()
    for rows in batches(rng, len(data.train), 128, epochs):
        a, to_left = embed(left, train[0][rows])
        b, to_right = embed(right, train[1][rows])
        temperature, to_scale = temperature_from_logit_scale(scale["log"], max_scale=math.inf)
        _, grad = clip.value_and_grad(a, b, temperature=temperature)
        grads = to_left(grad.image), to_right(grad.text), {"log": to_scale(grad.temperature)}
        for optimiser, g in zip(optimisers, grads, strict=True):
            optimiser.step(g)
        scale["log"] = min(scale["log"], np.log(100.0))
    there, back = zip(before, accuracy(), strict=True)
    return {"the right half among the ten best of 500": there, "the left half": back}


if __name__ == "__main__":
    for what, (before, after) in main().items():
        print(f"{what}: {before:.1%} before, {after:.1%} after")
