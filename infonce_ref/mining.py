"""Mining: each query's hardest negatives out of a pool of any size, in tiles of queries × pool rows."""

from __future__ import annotations

from typing import Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array, Namespace, column, compute_dtype, row_numbers
from infonce_ref.candidates import rows_between
from infonce_ref.device import on_their_device
from infonce_ref.diagnostics import PLAIN_SIMILARITIES
from infonce_ref.embed import SIMILARITIES, RowMap, embed
from infonce_ref.false_negatives import ceiling
from infonce_ref.scores import pairwise

TILE = 2048  # queries and pool rows at a time by default: a tile and its order stay below 100 MiB


class HardNegatives(NamedTuple):
    """The highest scoring rows of the pool for each query, best first."""

    indices: Array  # (N, k) integer; −1 where there is none
    scores: Array  # (N, k); −inf where there is none


@on_their_device
def mine_hard_negatives(
    query: Array,
    pool: Array,
    k: int,
    *,
    positive_index: Array | None = None,
    positive: Array | None = None,
    exclude: Array | None = None,
    candidate_mask: Array | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    similarity: Literal["cosine", "dot"] = "cosine",
    block_size: int | None = None,
) -> HardNegatives:
    r"""The k rows of the pool that are most similar to each query and no positives of it.

    .. math:: \text{the first } k \text{ in the order of } (-s_{ij}, j), \text{ where }
              j \ne p, \; s_{ij} \le s_{ip} - m, \; s_{ij} \le s_{ip} - r\,|s_{ip}|, \;
              s_{ij} = \mathrm{sim}(q_i, \mathrm{pool}_j)

    less what `exclude` and `candidate_mask` take out. Equal scores are mined in the order of the pool. The pool is seen
    in tiles, so memory doesn't grow with its size; the result is that of one sort of all scores, whatever the block
    size, as far as the library's scores don't depend on it themselves: scores that differ by rounding only may swap.
    A row whose score is NaN or −inf is never mined, nor is anything for a query that holds NaN. The indices are
    constants to every gradient: take the negatives' embeddings by them. Clause: helper.mining.

    Parameters
    ----------
    query : array (N, D), float64, float32, float16 or bfloat16
        One query a row.
    pool : array (P, D), the query's dtype
        Where to look, P ≥ 1.
    k : int, ≥ 1
        How many; where fewer are eligible the rest is index −1 and score −inf.
    positive_index : integer array (N,), optional
        The row of the pool that is each query's positive: never mined. A value outside 0 … P − 1: nothing is mined.
    positive : array (N, D), the query's dtype, optional
        In its place, each query's positive itself, where it isn't in the pool (if it is, `exclude` its row).
    exclude : integer array (N, E), optional
        Rows of the pool that are never mined for the query, its other positives say. A value outside 0 … P − 1, such
        as −1, excludes nothing, so that rows of different lengths can be filled up.
    candidate_mask : bool array (N, P), optional
        False where a row is never a negative, as the builders of masks make it; for pools where N × P fits in memory.
    absolute_margin, relative_margin : float, optional
        m and r: with a positive known, rows that score above s_p − m, or above s_p − r |s_p|, count as false negatives.
        None sets no such limit. NV-Retriever's best: relative_margin=0.05.
    similarity : "cosine" or "dot"
        For qᵀWk hand in q W as the query. A zero row has cosine 0 with everything.
    block_size : int, optional
        The most queries, and the most pool rows, in one tile; by default 2048. Time is mostly sorting.

    Returns
    -------
    indices : integer array (N, k)
        Rows of the pool, best first; −1 where there is none.
    scores : array (N, k)
        Their similarities in the compute dtype; −inf where there is none.

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape or Python scalar; for both kinds of positives, or a margin without.

    See Also
    --------
    infonce_ref.similarity_mask : the margins' rule, with its sources.

    References
    ----------
    Karpukhin et al. 2020, Dense Passage Retrieval for Open-Domain Question Answering, arXiv:2004.04906; Xiong et al.
    2020, Approximate Nearest Neighbor Negative Contrastive Learning for Dense Text Retrieval, arXiv:2007.00808.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import mine_hard_negatives
    >>> query = np.array([[1.0, 0.0]])
    >>> pool = np.array([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6], [0.0, 1.0]])
    >>> mined = mine_hard_negatives(query, pool, k=2, positive_index=np.array([0]))
    >>> mined.indices, mined.scores.round(6)
    (array([[2, 1]]), array([[0.8, 0.6]]))
    """
    given = {"query": query, "pool": pool, **checks.given(positive=positive)}
    others = checks.given(positive_index=positive_index, exclude=exclude, candidate_mask=candidate_mask)
    xp = checks.arrays_of_one_library({**given, **others})
    checks.embedding_dtypes(xp, given)
    checks.one_of("similarity", similarity, PLAIN_SIMILARITIES, "similarity.domain")
    checks.block_size(block_size)
    checks.at_least_one("k", k, "helper.mining")
    checks.has_shape("query", query, (None, None), "(N, D)")
    n, d = query.shape
    checks.has_shape("pool", pool, (None, d), "(P, D)")
    checks.candidate_mask(candidate_mask, (n, pool.shape[0]), "(N, P)")
    if exclude is not None:
        checks.has_shape("exclude", exclude, (n, exclude.shape[-1] if exclude.ndim else 0), "(N, E)", "helper.mining")
        checks.is_integer("exclude", xp, exclude, "helper.mining")
    positives_and_margins(xp, n, d, positive_index, positive, absolute_margin, relative_margin)

    step = block_size or TILE
    search = Search(xp, pool, k, SIMILARITIES[similarity], absolute_margin, relative_margin, step)
    parts = []
    for lo in range(0, n, step):
        arrays = (query, positive_index, positive, exclude, candidate_mask)
        parts.append(search.best_of_pool(*(rows_between(x, lo, min(lo + step, n)) for x in arrays)))
    indices, scores = (xp.concat(list(x), axis=0) for x in zip(*parts, strict=True))
    return HardNegatives(indices, scores)  # helper.mining


def positives_and_margins(
    xp: Namespace, n: int, d: int, index: Array | None, positive: Array | None, *margins: float | None
) -> None:
    """Positives are said in one way at most, and a margin needs them."""
    if index is not None:
        checks.index("positive_index", xp, index, n, "helper.mining")
    if positive is not None:
        checks.has_shape("positive", positive, (n, d), "(N, D), a positive for every query")
    if index is not None and positive is not None:
        raise ValueError("positive_index and positive must not both be given [helper.mining]")
    for name, margin in zip(("absolute_margin", "relative_margin"), margins, strict=True):
        if margin is not None:
            checks.real_number(name, margin, "helper.mining")
            if index is None and positive is None:
                raise ValueError(f"{name} must come with positive_index or positive, got neither [helper.mining]")


class Search(NamedTuple):
    """Where to look and what for: the same for all queries."""

    xp: Namespace
    pool: Array
    k: int
    rows: RowMap
    absolute_margin: float | None
    relative_margin: float | None
    step: int

    def best_of_pool(
        self, query: Array, index: Array | None, positive: Array | None, exclude: Array | None, mask: Array | None
    ) -> tuple[Array, Array]:
        """The indices and scores (n, k) of some queries, one tile of the pool after the other."""
        xp, q, numbers = self.xp, self.embedded(query), row_numbers(self.xp, self.pool)
        taken = [] if exclude is None else [exclude[:, j : j + 1] for j in range(exclude.shape[1])]
        limits = []
        if index is not None:
            inside = (index >= 0) & (index < self.pool.shape[0])
            positive = xp.take(self.pool, xp.where(inside, index, xp.zeros_like(index)), axis=0)
            taken.append(column(index))
            top = xp.full_like(q[:, :1], float("inf"))
            limits.append(xp.where(column(inside), top, -top))  # nothing is ≤ −∞
        if positive is not None:
            limits += self.limits(q, self.embedded(positive))

        nowhere, lowest = column(xp.full_like(row_numbers(xp, q), -1)), xp.full_like(q[:, :1], -float("inf"))
        indices, scores = (xp.broadcast_to(x, (q.shape[0], self.k)) for x in (nowhere, lowest))
        for lo in range(0, self.pool.shape[0], self.step):
            hi = min(lo + self.step, self.pool.shape[0])
            s, here = pairwise(xp, q, self.embedded(self.pool[lo:hi, :])), numbers[lo:hi][None, :]
            eligible = s > lowest  # not NaN: where a sort puts that is left open
            if mask is not None:
                eligible = eligible & mask[:, lo:hi]
            for rows in taken:
                eligible = eligible & (here != xp.astype(rows, here.dtype))
            for limit in limits:
                eligible = eligible & (s <= limit)
            here, s = xp.broadcast_to(here, s.shape), xp.where(eligible, s, lowest)
            indices, scores = self.best(xp.concat([indices, here], axis=-1), xp.concat([scores, s], axis=-1))
        return indices, scores

    def embedded(self, x: Array) -> Array:
        return embed(self.xp, x, compute_dtype(self.xp, x), self.rows)[0]

    def limits(self, q: Array, positive: Array) -> list[Array]:
        """(n, 1) each: what a negative may score at most."""
        of_positive = self.xp.sum(q * positive, axis=-1, keepdims=True)
        margins = {"absolute": self.absolute_margin, "relative": self.relative_margin}
        return [ceiling(self.xp, of_positive, m, kind) for kind, m in margins.items() if m is not None]

    def best(self, indices: Array, scores: Array) -> tuple[Array, Array]:
        """The k highest of each row.

        A stable sort of columns in the pool's order keeps that order among equals; the first k columns stand there for
        nothing with the lowest score, which therefore is nobody else's.
        """
        order = self.xp.argsort(-scores, axis=-1, stable=True)[:, : self.k]  # helper.mining
        return self.xp.take_along_axis(indices, order, axis=-1), self.xp.take_along_axis(scores, order, axis=-1)
