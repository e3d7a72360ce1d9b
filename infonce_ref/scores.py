"""Scores: every negative's logit as its difference to the positive's, d_ij = s_ij − s_ip, in blocks.

The differences carry the whole loss: formed before anything is exponentiated or summed, they keep a loss of 1e-30
a loss of 1e-30. Blocks (in-batch keys, shared negatives, each query's own) are a list; nothing is concatenated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from infonce_ref.arrays import Array, Namespace, column


class Block(NamedTuple):
    """Candidate keys of n queries, (C, D) for all or (n, M, D), each one's own, and who is a negative of whom."""

    keys: Array
    keep: Array | None  # (n, C) bool, False where the key is no negative of the query; None: all are


class Differences(NamedTuple):
    """d (n, C) of one block, 0 where `keep` is False; −inf is never stored."""

    values: Array
    keep: Array | None


class ScoreGrads(NamedTuple):
    query: Array  # (n, D)
    positive: Array  # (n, D), to each query's own positive
    keys: list[Array]  # one per block, shaped as its keys
    temperature: Array  # 0-d
    margin: Array  # 0-d


def pairwise(xp: Namespace, q: Array, keys: Array) -> Array:
    """⟨q_i, k_j⟩ of every query with its candidates: (n, C)."""
    if keys.ndim == 2:
        return xp.matmul(q, xp.matrix_transpose(keys))
    return xp.squeeze(xp.matmul(keys, q[:, :, None]), axis=-1)


def pairwise_transpose(xp: Namespace, q: Array, keys: Array, g: Array) -> tuple[Array, Array]:
    """The gradients of `pairwise` for q and keys."""
    if keys.ndim == 2:
        return xp.matmul(g, keys), xp.matmul(xp.matrix_transpose(g), q)
    return xp.squeeze(xp.matmul(g[:, None, :], keys), axis=1), g[:, :, None] * q[:, None, :]


def differences(
    xp: Namespace, q: Array, positive: Array, blocks: Sequence[Block], temperature: Array, margin: Array
) -> tuple[list[Differences], Callable[[Sequence[Array]], ScoreGrads]]:
    """d_ij = (⟨q_i, k_j⟩ − (⟨q_i, k_p⟩ − margin)) / τ for every block of candidates."""
    positive_similarity = xp.sum(q * positive, axis=-1) - margin  # scale.margin

    def block_differences(block: Block) -> Differences:
        d = (pairwise(xp, q, block.keys) - column(positive_similarity)) / temperature  # scale.temperature
        if block.keep is not None:
            d = xp.where(block.keep, d, xp.zeros_like(d))  # candidates.mask
        return Differences(d, block.keep)

    d = [block_differences(block) for block in blocks]

    def pullback(g: Sequence[Array]) -> ScoreGrads:
        to_q, to_keys = zip(
            *(pairwise_transpose(xp, q, b.keys, x) for b, x in zip(blocks, g, strict=True)), strict=True
        )
        row_total = column(sum(xp.sum(x, axis=-1) for x in g))
        return ScoreGrads(
            query=(sum(to_q) - row_total * positive) / temperature,  # gradient.query
            positive=-row_total * q / temperature,  # gradient.positive-key
            keys=[k / temperature for k in to_keys],  # gradient.negative-keys
            temperature=-sum(xp.sum(x * b.values) for x, b in zip(g, d, strict=True))
            / temperature,  # gradient.temperature
            margin=xp.sum(row_total) / temperature,  # gradient.margin
        )

    return d, pullback
