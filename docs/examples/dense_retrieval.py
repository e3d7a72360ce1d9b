"""Dense retrieval: two towers learn to find the documentation that answers a query, with negatives mined from the pool.

Queries are first sentences of docstrings, documents what follows. Both sides start from the same unsupervised features;
each tower is one matrix, the identity at first, so that "before" is plain latent semantic search. Every query has four
negatives of its own, drawn anew before each epoch: at random, or the four hardest for the towers as they are, never its
own document, nor what scores above 90 % of its own, which may answer it as well. Measured on queries that were held
out, among all documents.

    python -m docs.examples.dense_retrieval
"""

from __future__ import annotations

import numpy as np

from docs.examples.docstrings import corpus, features
from docs.examples.small_net import Adam, batches
from infonce_ref import info_nce, mine_hard_negatives, top_k_accuracy

HELD_OUT, NEGATIVES = 300, 4


def main(kind: str = "mined", epochs: int = 10) -> dict[str, tuple[float, float]]:
    """Accuracy on the held-out queries: (before, after)."""
    rng, (queries, documents) = np.random.default_rng(0), corpus()
    n, train = len(queries), len(queries) - HELD_OUT
    both, own = features([*queries, *documents], of=[*queries, *documents]), np.arange(train)
    q, d = both[:n], both[n:]
    towers = {"query": np.eye(q.shape[1]), "document": np.eye(q.shape[1])}
    optimiser = Adam(towers, rate=1e-3)

    def embedded() -> tuple[np.ndarray, np.ndarray]:
        return q @ towers["query"], d @ towers["document"]

    def accuracy() -> list[float]:
        query, document = embedded()
        return [float(top_k_accuracy(query[train:], document, k, np.arange(train, n))) for k in (1, 10)]

    def negatives() -> np.ndarray:
        if kind == "random":
            drawn = rng.integers(0, train, (train, NEGATIVES))
            return np.where(drawn == own[:, None], -1, drawn)
        query, document = (x[:train] for x in embedded())
        return mine_hard_negatives(query, document, NEGATIVES, positive_index=own, relative_margin=0.1).indices

    before = accuracy()
    for _ in range(epochs):
        found = negatives()
        for rows in batches(rng, train, 64, 1):
            query, positive, negative = q[rows], d[rows], d[found[rows]]
            _, grad = info_nce.value_and_grad(
                query @ towers["query"], positive @ towers["document"], negative @ towers["document"],
                in_batch_negatives=False, candidate_mask=found[rows] >= 0, temperature=0.05,
            )  # fmt: skip
            by_negatives = np.tensordot(negative, grad.negative_keys, axes=((0, 1), (0, 1)))
            optimiser.step({"query": query.T @ grad.query, "document": positive.T @ grad.positive_key + by_negatives})
    top_1, top_10 = zip(before, accuracy(), strict=True)
    return {f"the answer found first of {n}": top_1, "among the first ten": top_10}


if __name__ == "__main__":
    for kind in ("random", "mined"):
        for what, (before, after) in main(kind).items():
            print(f"{kind} negatives: {what}: {before:.1%} before, {after:.1%} after")
