"""Which rows a loss compares: every loss as one or two matrices of pairs, each row of them one softmax.

A block is the rows of one argument against those of another; a direction is blocks side by side, with who is a
candidate, who a positive, and of which entry of reduction="none" each row is a part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from mpmath import mpf

from infonce_ref.conformance.bounds.ball import Array
from infonce_ref.conformance.problem import Problem


@dataclass(frozen=True)
class Block:
    """Every row of one argument against every row of another, (L, K); `at` says which pair stands where in the rows."""

    left: str
    right: str | None  # None: the left argument holds similarities
    at: tuple[Array, Array] | None = None

    def gather(self, matrix: Array) -> Array:
        """(L, K) by pair -> (R, C) by row of the loss."""
        return matrix if self.at is None else matrix[self.at]

    def scatter(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """(R, C) by row of the loss -> (L, K), the sum over all places where a pair stands."""
        if self.at is None:
            return rows
        matrix = np.full(shape, mpf(0), dtype=object)
        np.add.at(matrix, self.at, rows)
        return matrix


@dataclass(frozen=True)
class Direction:
    """Rows of the loss: (R, C) by candidate."""

    blocks: Sequence[Block]
    active: Array  # bool: in the softmax; the positives always are
    positive: Array  # bool
    seen: Array  # bool: may be met by a maximum that is subtracted, though it may not be active
    entry: Array  # (R,): of which entry of the loss the row is a part
    parts: Array  # (R,): the entry is the mean of this many rows

    @cached_property
    def negative(self) -> Array:
        return self.active & ~self.positive

    @cached_property
    def alone(self) -> Array:
        """(R,): rows without a negative."""
        return ~self.negative.any(axis=1)

    def terms(self) -> int:
        """How many terms a sum over all candidates may have: a positive may stand in it twice, once on its own."""
        return int(self.active.sum() + self.positive.sum())


def direction(
    blocks: Sequence[Block], active: Array, positive: Array, *, halves: int = 1, seen: Array | None = None
) -> Direction:
    """Row i is entry i, or one of `halves` parts of it."""
    active = active | positive
    rows = len(active)
    return Direction(blocks, active, positive, active if seen is None else seen, np.arange(rows), np.full(rows, halves))


def masked(problem: Problem, active: Array) -> Array:
    """Candidates that the mask leaves, the mask belonging to the last columns."""
    mask = problem.candidate_mask
    if mask is None:
        return active
    left: Array = active.copy()
    left[:, active.shape[1] - mask.shape[1] :] &= mask
    return left


# ------------------------------------------------------------------------------------------------ one direction


def info_nce(problem: Problem) -> list[Direction]:
    """Queries against the positive keys, then against the explicit negatives."""
    rows, keys = len(problem.arrays["query"]), len(problem.arrays["positive_key"])
    negatives = problem.negative_keys
    explicit = 0 if negatives is None else negatives.shape[-2]
    index = problem.arrays.get("positive_index", np.arange(rows)).astype(int)
    positive = np.zeros((rows, keys + explicit), dtype=bool)
    positive[np.arange(rows), index] = True
    active = np.ones((rows, keys + explicit), dtype=bool)
    active[:, :keys] = problem.in_batch_negatives
    blocks = [Block("query", "positive_key")] + [Block("query", "negative_keys")] * (negatives is not None)
    return [direction(blocks, masked(problem, active), positive)]


def moco(problem: Problem) -> list[Direction]:
    """Queries against their positive keys, then against the queue."""
    rows, queue = len(problem.arrays["query"]), len(problem.arrays["queue"])
    positive = np.eye(rows, rows + queue, dtype=bool)
    active = np.arange(rows + queue)[None, :] >= np.full((rows, 1), rows)
    return [direction([Block("query", "positive_key"), Block("query", "queue")], active, positive)]


def from_logits(problem: Problem) -> list[Direction]:
    """The logits themselves."""
    rows, columns = problem.arrays["logits"].shape
    positive = np.zeros((rows, columns), dtype=bool)
    positive[np.arange(rows), problem.arrays.get("positive_index", np.arange(rows)).astype(int)] = True
    return [direction([Block("logits", None)], masked(problem, ~positive), positive)]


def soft_nce(problem: Problem) -> list[Direction]:
    """Queries against keys; the positives are those with a target."""
    positive = problem.arrays["targets"] > 0
    return [direction([Block("query", "keys")], masked(problem, np.ones_like(positive)), positive)]


def siglip(problem: Problem) -> list[Direction]:
    """Images against texts."""
    positive = np.eye(len(problem.arrays["image"]), dtype=bool)
    return [direction([Block("image", "text")], masked(problem, ~positive), positive)]


def gte(problem: Problem) -> list[Direction]:
    """Row i: query i and its document, against all queries and all documents, side by side."""
    rows = len(problem.arrays["query"])
    positive = np.eye(rows, 4 * rows, dtype=bool)
    active = masked(problem, np.tile(~np.eye(rows, dtype=bool), 4))
    sides = [("query", "document"), ("query", "query"), ("document", "query"), ("document", "document")]
    return [direction([Block(*side) for side in sides], active, positive, seen=np.ones_like(active))]


# ----------------------------------------------------------------------------------------------- two directions


def two_views(problem: Problem) -> list[Direction]:
    """Either view's rows against the rows of both, which stand side by side."""
    rows = len(problem.arrays["view_a"])
    pairs = np.roll(np.eye(2 * rows, dtype=bool), rows, axis=1)
    others = masked(problem, ~np.eye(2 * rows, dtype=bool)) & ~np.eye(2 * rows, dtype=bool)

    def one(view: str, part: slice) -> Direction:
        blocks = [Block(view, "view_a"), Block(view, "view_b")]
        at = direction(blocks, others[part], pairs[part], seen=np.ones_like(others[part]))
        return replace(at, entry=np.arange(2 * rows)[part])

    return [one("view_a", slice(rows)), one("view_b", slice(rows, None))]


def clip(problem: Problem) -> list[Direction]:
    """Images against texts and texts against images, each with its own explicit negatives."""
    rows = len(problem.arrays["image"])
    mask = problem.arrays.get("candidate_mask", np.ones((rows, rows), dtype=bool))

    def one(left: str, right: str, explicit: str, allowed: Array) -> Direction:
        given = problem.arrays.get(explicit)
        columns = rows + (0 if given is None else given.shape[-2])
        active = np.ones((rows, columns), dtype=bool)
        active[:, :rows] = allowed
        blocks = [Block(left, right)] + [Block(left, explicit)] * (given is not None)
        return direction(blocks, active, np.eye(rows, columns, dtype=bool), halves=2)

    return [one("image", "text", "negative_texts", mask), one("text", "image", "negative_images", mask.T)]


def mil_nce(problem: Problem) -> list[Direction]:
    """Queries against all bags' elements; symmetric: bag i's elements against all queries, in one row."""
    rows, size = problem.arrays["positive_bags"].shape[:2]
    mask = problem.arrays.get("candidate_mask", np.ones((rows, rows, size), dtype=bool))
    positive = np.repeat(np.eye(rows, dtype=bool), size, axis=1)
    halves = 2 if problem.option("symmetric") else 1
    to_bags = direction([Block("query", "positive_bags")], mask.reshape(rows, -1), positive, halves=halves)
    if halves == 1:
        return [to_bags]
    bag, query, element = np.meshgrid(np.arange(rows), np.arange(rows), np.arange(size), indexing="ij")
    at = (query.reshape(rows, -1), (bag * size + element).reshape(rows, -1))  # row: bag; column: query and element
    to_queries = mask.transpose(1, 0, 2).reshape(rows, -1)
    return [to_bags, direction([Block("query", "positive_bags", at)], to_queries, positive, halves=halves)]


# -------------------------------------------------------------------------------------------------- many positives


def sup_con(problem: Problem) -> list[Direction]:
    """Features against keys, or against one another; sincere: a row for each positive."""
    labels, apart = problem.arrays["labels"], problem.keys is not None
    key_labels = problem.arrays["key_labels"] if apart else labels
    same = labels[:, None] == key_labels[None, :]
    self = np.zeros_like(same) if apart else np.eye(len(labels), dtype=bool)
    positive, active = same & ~self, masked(problem, ~same)
    right = "keys" if apart else "features"
    seen = np.ones_like(active)  # as in the paper's code
    if problem.option("variant") != "sincere":
        return [direction([Block("features", right)], active, positive, seen=seen)]
    anchor, chosen = np.nonzero(positive)
    one = np.zeros((len(anchor), len(key_labels)), dtype=bool)
    one[np.arange(len(anchor)), chosen] = True
    at = (np.broadcast_to(anchor[:, None], one.shape), np.broadcast_to(np.arange(len(key_labels)), one.shape))
    parts = positive.sum(axis=1)[anchor]
    return [Direction([Block("features", right, at)], active[anchor] | one, one, seen[anchor] | one, anchor, parts)]


LAYOUTS: Mapping[str, Callable[[Problem], list[Direction]]] = {
    **dict.fromkeys(("info_nce", "triplet", "n_pair", "matryoshka"), info_nce),
    **dict.fromkeys(("nt_xent", "dcl", "debiased", "hard_negative"), two_views),
    "info_nce_from_logits": from_logits,
    "clip": clip,
    "moco": moco,
    "gte": gte,
    "mil_nce": mil_nce,
    "soft_nce": soft_nce,
    "sup_con": sup_con,
    "siglip": siglip,
}


def directions(problem: Problem) -> list[Direction]:
    """The problem's rows."""
    return LAYOUTS[problem.loss](problem)
