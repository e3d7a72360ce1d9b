"""SimCSE: sentence embeddings from nothing but sentences. Each is its own positive, seen through two random dropouts.

A sentence is the sum of its words' vectors, weighted by tf-idf. `info_nce` gets every sentence twice, each time without
a random half of its words. Measured on sentences that go together though nobody said so in training: the first of a
docstring and the next. The words alone, without embedding, find more of them: the embeddings have 32 numbers where
tf-idf has one for every word.

    python -m docs.examples.simcse
"""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from docs.examples.docstrings import corpus, sentences
from docs.examples.small_net import Adam, batches
from infonce_ref import info_nce, top_k_accuracy


def main(epochs: int = 20) -> dict[str, tuple[float, float]]:
    """Accuracy in finding the next sentence: (before, after)."""
    rng, (first, documents) = np.random.default_rng(0), corpus()
    rest = [sentences(document) for document in documents]
    texts = [*first, *(s for more in rest for s in more)]
    tf_idf = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english").fit(texts)
    x = tf_idf.transform(texts).toarray()
    x = x[(x > 0).sum(axis=1) >= 4]  # so that something is left of each
    one = tf_idf.transform([a for a, more in zip(first, rest, strict=True) if more]).toarray()
    other = tf_idf.transform([more[0] for more in rest if more]).toarray()
    words = {"vectors": rng.normal(size=(x.shape[1], 32)) / 32**0.5}
    optimiser = Adam(words)

    def accuracy() -> list[float]:
        return [float(top_k_accuracy(one @ words["vectors"], other @ words["vectors"], k)) for k in (1, 10)]

    before = accuracy()
    for rows in batches(rng, len(x), 128, epochs):
        a, b = (x[rows] * (rng.random(x[rows].shape) < 0.5) for _ in range(2))
        _, grad = info_nce.value_and_grad(a @ words["vectors"], b @ words["vectors"], temperature=0.1)
        optimiser.step({"vectors": a.T @ grad.query + b.T @ grad.positive_key})
    top_1, top_10 = zip(before, accuracy(), strict=True)
    return {f"the next sentence found first of {len(one)}": top_1, "among the first ten": top_10}


if __name__ == "__main__":
    for what, (before, after) in main().items():
        print(f"{what}: {before:.1%} before, {after:.1%} after")
