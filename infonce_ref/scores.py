"""Scores: logits as differences to a reference of their row, in blocks; and their pullback.

The differences carry the whole loss: formed before anything is exponentiated or summed, they keep a loss of 1e-30
a loss of 1e-30. Blocks (in-batch keys, shared negatives, each query's own) are a list; nothing is concatenated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import NamedTuple

from infonce_ref.arrays import Array, Namespace, column, row_numbers


class Rows(NamedTuple):
    """Some rows of an array that has a gradient, and how gradients of these rows become gradients of the array."""

    name: str
    values: Array
    by_row: bool = False  # they are the rows that are being visited: their gradients are rows of the array's
    scatter: Callable[[Array], Array] | None = None  # gradients of these rows → of the whole array; None: as they are


class Block(NamedTuple):
    """Anchors (n, D), or B of each row's (n, B, D), and their candidate keys: (C, D) for all or (n, C, D), each one's.

    Masks are (n, C), or (n, B·C) bool; −inf is never stored.
    """

    anchors: Rows
    keys: Rows
    keep: Array | None = None  # False where the pair is no negative; None: all are
    positive: Array | None = None  # True where the pair is one of several positives; None: there are none here
    bias: Rows | None = None  # (C, 1), added to the logits
    never: tuple[Array, ...] = ()  # (n,) integers each: a column that is no negative, whatever `keep` says


class Pair(NamedTuple):
    """Each row's one positive: anchors and keys (n, D), and the bias of their logits (n, 1)."""

    anchors: Rows
    keys: Rows
    bias: Rows | None = None


class Differences(NamedTuple):
    """d (n, C) of one block: every logit less the row's reference; 0 where the pair is nobody's."""

    values: Array
    keep: Array | None
    positive: Array | None = None


class ScoreGrads(NamedTuple):
    rows: list[tuple[Rows, Array]]  # the gradient of everything that took part
    temperature: Array  # 0-d
    margin: Array  # 0-d


def pairwise(xp: Namespace, anchors: Array, keys: Array) -> Array:
    """⟨anchor, key⟩ of every row's anchors with its candidates: (n, C), or (n, B·C)."""
    if keys.ndim == 3:
        return xp.squeeze(xp.matmul(keys, anchors[:, :, None]), axis=-1)
    s = xp.matmul(anchors, xp.matrix_transpose(keys))
    return s if anchors.ndim == 2 else xp.reshape(s, (s.shape[0], s.shape[1] * s.shape[2]))


def pairwise_transpose(xp: Namespace, anchors: Array, keys: Array, g: Array) -> tuple[Array, Array]:
    """The gradients of `pairwise` for anchors and keys."""
    if keys.ndim == 3:
        return xp.squeeze(xp.matmul(g[:, None, :], keys), axis=1), g[:, :, None] * anchors[:, None, :]
    if anchors.ndim == 3:
        n, b, d = anchors.shape
        to_anchors, to_keys = pairwise_transpose(
            xp, xp.reshape(anchors, (n * b, d)), keys, xp.reshape(g, (n * b, keys.shape[0]))
        )
        return xp.reshape(to_anchors, (n, b, d)), to_keys
    return xp.matmul(g, keys), xp.matmul(xp.matrix_transpose(g), anchors)


def block_transpose(xp: Namespace, block: Block, g: Array, temperature: Array) -> Iterable[tuple[Rows, Array]]:
    """What the gradients of a block's logits give to its anchors, its keys and its bias."""
    to_anchors, to_keys = pairwise_transpose(xp, block.anchors.values, block.keys.values, g)
    yield block.anchors, to_anchors / temperature
    yield block.keys, to_keys / temperature  # gradient.negative-keys
    if block.bias is not None:
        yield block.bias, column(xp.sum(g, axis=0))  # gradient.logit-bias


def kept(xp: Namespace, block: Block) -> Array | None:
    """(n, C) bool: who is a negative of whom; None: everybody is."""
    keep = block.keep
    if block.never:
        columns = row_numbers(xp, block.keys.values)[None, :]
        others = reduce(xp.logical_and, (columns != column(never) for never in block.never))
        keep = others if keep is None else others & keep
    return keep


def differences(
    xp: Namespace,
    pair: Pair,
    blocks: Sequence[Block],
    temperature: Array,
    margin: Array,
    level: float | None = None,
) -> tuple[list[Differences], Callable[[Sequence[Array]], ScoreGrads]]:
    """d_ij = (⟨q_i, k_j⟩ − (⟨q_i, k_p⟩ − margin)) / τ + (b_j − b_p) for every block of candidates.

    With `level`, one column more at the end, as if a candidate's similarity were that constant.
    """
    q, positive = pair.anchors.values, pair.keys.values
    similarity = column(xp.sum(q * positive, axis=-1) - margin)  # scale.margin

    def less_bias(d: Array) -> Array:
        return d if pair.bias is None else d - pair.bias.values

    def block_differences(block: Block) -> tuple[Array, Differences]:
        scaled = (pairwise(xp, block.anchors.values, block.keys.values) - similarity) / temperature  # scale.temperature
        d = scaled if block.bias is None else scaled + xp.matrix_transpose(block.bias.values)  # scale.logit-bias
        d = less_bias(d)
        keep = kept(xp, block)
        if keep is not None:
            zero = xp.zeros_like(d)
            scaled, d = xp.where(keep, scaled, zero), xp.where(keep, d, zero)  # candidates.mask
        return scaled, Differences(d, keep)

    scaled, d = (list(parts) for parts in zip(*(block_differences(block) for block in blocks), strict=True))
    if level is not None:
        scaled.append((level - similarity) / temperature)
        d.append(Differences(less_bias(scaled[-1]), None))

    def pullback(g: Sequence[Array]) -> ScoreGrads:
        row_total = column(sum(xp.sum(x, axis=-1) for x in g))
        rows = [part for b, x in zip(blocks, g, strict=False) for part in block_transpose(xp, b, x, temperature)]
        rows.append((pair.anchors, -row_total * positive / temperature))  # gradient.query
        rows.append((pair.keys, -row_total * q / temperature))  # gradient.positive-key
        if pair.bias is not None:
            rows.append((pair.bias, -row_total))
        by_temperature = sum(xp.sum(x * s) for x, s in zip(g, scaled, strict=True))
        return ScoreGrads(
            rows,
            temperature=-by_temperature / temperature,  # gradient.temperature
            margin=xp.sum(row_total) / temperature,  # gradient.margin
        )

    return d, pullback


def logits(
    xp: Namespace, block: Block, temperature: Array, margin: Array | None = None, reference: Array | None = None
) -> tuple[Differences, Callable[[Array], ScoreGrads]]:
    """d_ij = (⟨q_i, k_j⟩ − margin where j is a positive) / τ, less the row's `reference`.

    For losses with any number of positives. Those that take a reference (of the logits where it is True) don't change
    with a common shift of a row's logits, so that nothing has to flow back through it. Without one these are the
    logits themselves.
    """
    s = pairwise(xp, block.anchors.values, block.keys.values)
    zero = xp.zeros_like(s)
    if margin is not None:
        s = xp.where(block.positive, s - margin, s)  # scale.margin
    if reference is not None:
        referred = xp.any(reference, axis=-1, keepdims=True)
        largest = xp.max(xp.where(reference, s, xp.full_like(s, -float("inf"))), axis=-1, keepdims=True)
        s = s - xp.where(referred, largest, xp.zeros_like(largest))
    scaled = s / temperature  # scale.temperature
    d = scaled if block.bias is None else scaled + xp.matrix_transpose(block.bias.values)
    if block.keep is not None:
        some = block.keep if block.positive is None else block.keep | block.positive
        scaled, d = xp.where(some, scaled, zero), xp.where(some, d, zero)  # candidates.mask

    def pullback(g: Array) -> ScoreGrads:
        of_positives = zero if block.positive is None else xp.where(block.positive, g, zero)
        return ScoreGrads(
            list(block_transpose(xp, block, g, temperature)),
            temperature=-xp.sum(g * scaled) / temperature,
            margin=-xp.sum(of_positives) / temperature,
        )

    return Differences(d, block.keep, block.positive), pullback
