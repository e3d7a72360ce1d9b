"""Who is whose positive and whose negative: for every loss, the pairs of rows that its softmaxes compare.

A place is one row of an argument: ("query", 3) is query[3], ("negative_keys", 3, 0) query 3's own first negative.
Nothing here reads a number, but labels, masks, indices, and which targets are positive.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from infonce_ref.conformance.problem import Problem

Place = tuple[str, *tuple[int, ...]]


class Pair(NamedTuple):
    """Two rows that are compared; a logit that is given has none, and stands as its own place."""

    anchor: Place
    candidate: Place | None = None
    column: int | None = None  # the entry of logit_bias that is added


class Row(NamedTuple):
    """One row of the loss: the pairs of P_i and those of A_i less P_i."""

    positive: list[Pair]
    negative: list[Pair]


Entry = tuple[Row, ...]  # what one entry of reduction="none" is the mean of: one row, or one of each direction


def places(problem: Problem, name: str) -> list[Place]:
    """The rows of an argument; none where the problem lacks it."""
    return [(name, i) for i in range(len(problem.arrays.get(name, ())))]


def explicit(problem: Problem, name: str, i: int) -> list[Place]:
    """The explicit negatives of anchor i: rows that all share, or its own."""
    given = problem.arrays.get(name)
    return places(problem, name) if given is None or given.ndim == 2 else [(name, i, j) for j in range(given.shape[1])]


def free(problem: Problem, *entry: int) -> bool:
    """Whether candidate_mask leaves this candidate among the negatives."""
    mask = problem.candidate_mask
    return mask is None or bool(mask[entry])


def positive_index(problem: Problem, count: int, columns: int) -> list[int]:
    """Which column is the positive of each row."""
    given = problem.positive_index
    index = list(range(count)) if given is None else [int(p) for p in given]
    if not all(0 <= p < columns for p in index):
        raise ValueError(f"positive_index must lie in 0 … {columns - 1}: there is no exact answer")
    return index


# --- one side asks, the other answers --------------------------------------------------------------


def info_nce(problem: Problem) -> list[Entry]:
    """Query i and its key; the other keys, if they are in the batch, and the explicit negatives."""
    keys, queries = places(problem, "positive_key"), places(problem, "query")
    batch = keys if problem.in_batch_negatives else []
    entries: list[Entry] = []
    for i, p in enumerate(positive_index(problem, len(queries), len(keys))):
        candidates = batch + explicit(problem, "negative_keys", i)
        pairs = [Pair(queries[i], candidate, c) for c, candidate in enumerate(candidates)]
        positive = pairs[p] if batch else Pair(queries[i], keys[p])
        negative = [pair for c, pair in enumerate(pairs) if pair != positive and free(problem, i, c)]
        entries.append((Row([positive], negative),))
    return entries


def info_nce_from_logits(problem: Problem) -> list[Entry]:
    """Row i of the given logits: one column is the positive, the others are negatives."""
    count, columns = problem.arrays["logits"].shape
    return [
        (
            Row(
                [Pair(("logits", i, p))],
                [Pair(("logits", i, c)) for c in range(columns) if c != p and free(problem, i, c)],
            ),
        )
        for i, p in enumerate(positive_index(problem, count, columns))
    ]


def moco(problem: Problem) -> list[Entry]:
    """Query i and its key; the queue."""
    queue = places(problem, "queue")
    pairs = zip(places(problem, "query"), places(problem, "positive_key"), strict=True)
    return [(Row([Pair(query, key)], [Pair(query, other) for other in queue]),) for query, key in pairs]


def soft_nce(problem: Problem) -> list[Entry]:
    """Query i and all keys that aren't masked; the positives are those with a target."""
    targets, keys = problem.arrays["targets"], places(problem, "keys")
    entries: list[Entry] = []
    for i, query in enumerate(places(problem, "query")):
        pairs = [(Pair(query, key), targets[i, c] > 0) for c, key in enumerate(keys) if free(problem, i, c)]
        entries.append((Row([pair for pair, hit in pairs if hit], [pair for pair, hit in pairs if not hit]),))
    return entries


def mil_nce(problem: Problem) -> list[Entry]:
    """Query i and the elements of its bag; those of the other bags. Symmetric: bag i and the other queries, too."""
    count, size = problem.arrays["positive_bags"].shape[:2]
    queries = places(problem, "query")
    bags: list[list[Place]] = [[("positive_bags", i, b) for b in range(size)] for i in range(count)]
    others = [[(j, b) for j in range(count) if j != i for b in range(size)] for i in range(count)]
    entries: list[Entry] = []
    for i in range(count):
        own = [Pair(queries[i], element) for element in bags[i]]
        to_bags = [Pair(queries[i], bags[j][b]) for j, b in others[i] if free(problem, i, j, b)]
        to_queries = [Pair(queries[j], bags[i][b]) for j, b in others[i] if free(problem, j, i, b)]
        rows = Row(own, to_bags), Row(own, to_queries)
        entries.append(rows if problem.option("symmetric") else rows[:1])
    return entries


# --- two sides, both ways --------------------------------------------------------------------------


def clip(problem: Problem) -> list[Entry]:
    """Image i and its text, the other texts; text i and its image, the other images; explicit negatives of each."""
    images, texts = places(problem, "image"), places(problem, "text")
    indices = range(len(images))
    entries: list[Entry] = []
    for i in indices:
        image, text = images[i], texts[i]
        other_texts = [texts[j] for j in indices if j != i and free(problem, i, j)]
        other_images = [images[j] for j in indices if j != i and free(problem, j, i)]
        to_text = [Pair(image, x) for x in other_texts + explicit(problem, "negative_texts", i)]
        to_image = [Pair(text, x) for x in other_images + explicit(problem, "negative_images", i)]
        entries.append((Row([Pair(image, text)], to_text), Row([Pair(text, image)], to_image)))
    return entries


def siglip(problem: Problem) -> list[Entry]:
    """Image i and its text, a pair that belongs together; image i and the other texts, pairs that don't."""
    images, texts = places(problem, "image"), places(problem, "text")
    return [
        (
            Row(
                [Pair(image, texts[i])],
                [Pair(image, text) for j, text in enumerate(texts) if j != i and free(problem, i, j)],
            ),
        )
        for i, image in enumerate(images)
    ]


def gte(problem: Problem) -> list[Entry]:
    """Query i and its document; every other pair of either with a query or a document, but each with itself."""
    queries, documents = places(problem, "query"), places(problem, "document")
    count = len(queries)
    entries: list[Entry] = []
    for i, (query, document) in enumerate(zip(queries, documents, strict=True)):
        blocks = [(query, documents), (query, queries), (document, queries), (document, documents)]
        negative = [
            Pair(anchor, others[j])
            for block, (anchor, others) in enumerate(blocks)
            for j in range(count)
            if j != i and free(problem, i, block * count + j)
        ]
        entries.append((Row([Pair(query, document)], negative),))
    return entries


# --- rows against each other -----------------------------------------------------------------------


def two_views(problem: Problem) -> list[Entry]:
    """Each of the 2N rows: the other view of its pair; the 2N − 2 rest."""
    rows = places(problem, "view_a") + places(problem, "view_b")
    half, entries = len(rows) // 2, list[Entry]()
    for i, anchor in enumerate(rows):
        p = (i + half) % len(rows)
        negative = [Pair(anchor, x) for c, x in enumerate(rows) if c not in (i, p) and free(problem, i, c)]
        entries.append((Row([Pair(anchor, rows[p])], negative),))
    return entries


def sup_con(problem: Problem) -> list[Entry]:
    """Feature i and the keys of its label; the keys of other labels. Without keys they are the other features."""
    alone = problem.keys is None
    labels = problem.arrays["labels"]
    key_labels = labels if alone else problem.arrays["key_labels"]
    keys = places(problem, "features" if alone else "keys")
    entries: list[Entry] = []
    for i, anchor in enumerate(places(problem, "features")):
        same = np.asarray(key_labels == labels[i])
        pairs = [(c, Pair(anchor, key)) for c, key in enumerate(keys) if not (alone and c == i)]
        positive = [pair for c, pair in pairs if same[c]]
        entries.append((Row(positive, [pair for c, pair in pairs if not same[c] and free(problem, i, c)]),))
    return entries
