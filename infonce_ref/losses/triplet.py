"""triplet: the hinge loss that InfoNCE is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array, compute_dtype
from infonce_ref.candidates import any_pair, candidates
from infonce_ref.contrast import Contrasted, negatives_of
from infonce_ref.embed import SIMILARITIES, embed
from infonce_ref.link import hinge_link
from infonce_ref.loss import Loss, Plan, default_block_size
from infonce_ref.losses.views import TWO_SIDED
from infonce_ref.reduction import reduce_by
from infonce_ref.scale import positive_scalar, scalar


class TripletGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype; None where the argument was not given."""

    query: Array
    positive_key: Array
    negative_keys: Array | None
    margin: Array


@Loss
def triplet(
    query: Array,
    positive_key: Array,
    negative_keys: Array | None = None,
    *,
    margin: float | Array = 0.1,
    similarity: Literal["cosine", "dot"] = "cosine",
    in_batch_negatives: bool = True,
    candidate_mask: Array | None = None,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[TripletGrads]:
    r"""Triplet loss: by how much each negative comes closer than the positive less a margin, on the average.

    .. math:: L_i = \frac{1}{|A_i|} \sum_{j \in A_i} \max\bigl(0, \mathrm{sim}(q_i, k_j) - \mathrm{sim}(q_i, k_p) +
              \text{margin}\bigr)

    over the query's negatives A_i; the subgradient at the kink is 0. A query without negatives contributes nothing and
    isn't counted in the mean. On unit rows the triplet loss of squared distances with margin α is twice this with
    margin α / 2. Clauses: triplet.rows, triplet.kink.

    Parameters
    ----------
    query : array (N, D), float64, float32, float16 or bfloat16
        One query a row. Half precision is storage: arithmetic runs in float32.
    positive_key : array (N, D), the query's dtype
        Row i is the positive key of query i.
    negative_keys : array (M, D) or (N, M, D), the query's dtype, optional
        Explicit negatives: shared by all queries (2-D) or each query's own (3-D). M may be 0.
    margin : float or 0-d floating array
        Default 0.1: the squared distances' α = 0.2.
    similarity : "cosine" or "dot"
        What is compared: the directions, or the rows as they are.
    in_batch_negatives : bool
        Whether every query has the other rows of `positive_key` as negatives.
    candidate_mask : bool array (N, C), optional
        False where a candidate is never a negative of the query. Columns: the rows of `positive_key` if
        `in_batch_negatives`, then those of `negative_keys`. Entries on the positive are ignored.
    sample_weight : array (N,), ≥ 0, the query's dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w over the queries that count, the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the N queries.
    block_size : int, optional
        Queries visited at a time: memory grows with block_size × C.

    Returns
    -------
    loss : 0-d array, or (N,) for reduction="none"
        In the compute dtype: float64 for float64, else float32. In units of the similarity.

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape or Python scalar. The message ends with the clause that says so.

    References
    ----------
    Schroff, Kalenichenko, Philbin 2015, FaceNet, arXiv:1503.03832, eq. 3.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import triplet
    >>> query = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> positive_key = np.array([[0.6, 0.8], [0.8, 0.6]])
    >>> print(f"{triplet(query, positive_key, margin=0.5):.6f}")  # 0.8 - 0.6 + 0.5
    0.700000
    """
    xp, allowed = checks.arguments(
        {"query": query, "positive_key": positive_key, **checks.given(negative_keys=negative_keys)},
        candidate_mask=candidate_mask, sample_weight=sample_weight, margin=margin,
    )  # fmt: skip
    checks.keywords(similarity, reduction, block_size, TWO_SIDED)
    checks.has_shape("query", query, (None, None), "(N, D)")
    n, d = query.shape
    checks.has_shape("positive_key", positive_key, (n, d), "(N, D), a key for every query")
    c = checks.negative_keys(negative_keys, in_batch_negatives, n, d) + in_batch_negatives * n
    checks.candidate_mask(candidate_mask, (n, c), "(N, C)")
    checks.sample_weight(sample_weight, n, allowed)
    checks.margin(margin)

    dtype, rows_of = compute_dtype(xp, query), SIMILARITIES[similarity]
    step = block_size or default_block_size(c, xp.finfo(dtype).bits)
    who = candidates(xp, query, positive_key, None, in_batch_negatives, candidate_mask)
    q, to_query = embed(xp, query, dtype, rows_of)
    k, to_keys = embed(xp, positive_key, dtype, rows_of)
    negatives, to_negatives = embed(xp, negative_keys, dtype, rows_of, who.used_negatives(negative_keys))
    one, _ = positive_scalar(xp, q, 1.0)
    m, to_margin = scalar(xp, q, margin)
    layout = who.layout(q, k, negatives, hinge_link)

    def to_arguments(g: Mapping[str, Array]) -> TripletGrads:
        return TripletGrads(
            to_query(g["query"]),
            to_keys(g["positive_key"]),
            to_negatives(g.get("negative_keys")),
            to_margin(g["margin"]),
        )

    counted = any_pair(xp, lambda lo, hi: negatives_of(xp, layout(lo, hi)), n, step, axis=-1)
    return Plan(
        xp, n, Contrasted(xp, layout, one, m), reduce_by(xp, reduction, q, sample_weight, counted), to_arguments, step
    )
