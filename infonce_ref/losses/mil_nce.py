"""mil_nce: every query has a bag of positives, any of which may be the right one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array, Namespace, column, compute_dtype, row_numbers
from infonce_ref.contrast import ContrastedMany, Many, MeanOf
from infonce_ref.embed import SIMILARITIES, embed
from infonce_ref.link import bag_link
from infonce_ref.loss import Loss, Plan, RowsOf, default_block_size
from infonce_ref.losses.views import TWO_SIDED
from infonce_ref.reduction import reduce_by
from infonce_ref.scale import positive_scalar, scalar
from infonce_ref.scores import Block, Rows


class MILNCEGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype."""

    query: Array
    positive_bags: Array
    temperature: Array
    margin: Array


@Loss
def mil_nce(
    query: Array,
    positive_bags: Array,
    *,
    temperature: float | Array = 0.1,
    similarity: Literal["cosine", "dot"] = "cosine",
    symmetric: bool = False,
    candidate_mask: Array | None = None,
    margin: float | Array = 0.0,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[MILNCEGrads]:
    r"""MIL-NCE: the query's whole bag in the numerator, and once in the denominator.

    .. math:: L_i = -\log \frac{\sum_b e^{s(q_i, k_{ib})}}{\sum_j \sum_b e^{s(q_i, k_{jb})}}, \qquad
              s = \mathrm{sim} / \tau

    The negatives are the elements of all other bags. `symmetric` averages this with the other direction, in which bag
    i's elements meet all queries. Clauses: mil-nce.rows, mil-nce.symmetric.

    Parameters
    ----------
    query : array (N, D), float64, float32, float16 or bfloat16
        One query a row. Half precision is storage: arithmetic runs in float32.
    positive_bags : array (N, B, D), the query's dtype
        The B candidates for query i's positive, any B ≥ 1.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.
    similarity : "cosine" or "dot"
        What is compared: the directions, or the rows as they are.
    symmetric : bool
        Whether to average with the direction from bags to queries.
    candidate_mask : bool array (N, N, B), optional
        False where element b of bag j and query i are never negatives of each other. Where j = i it is ignored.
    margin : float or 0-d floating array
        m: the positives' similarities become sim − m.
    sample_weight : array (N,), ≥ 0, the query's dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w (0 where Σ w = 0), the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the N queries.
    block_size : int, optional
        Queries visited at a time: memory grows with block_size × N·B.

    Returns
    -------
    loss : 0-d array, or (N,) for reduction="none"
        In the compute dtype: float64 for float64, else float32. In nats.

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape or Python scalar. The message ends with the clause that says so.

    References
    ----------
    Miech, Alayrac, Smaira, Laptev, Sivic, Zisserman 2020, End-to-End Learning of Visual Representations from Uncurated
    Instructional Videos, arXiv:1912.06430, eq. 1. (Their code joins both directions and counts the bag twice.)

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import mil_nce
    >>> query = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> bags = np.stack([query, query], axis=1)  # each query twice
    >>> print(f"{mil_nce(query, bags, temperature=0.5):.6f}")  # log(1 + e^{-1/0.5})
    0.126928
    """
    xp, allowed = checks.arguments(
        {"query": query, "positive_bags": positive_bags},
        candidate_mask=candidate_mask, sample_weight=sample_weight, temperature=temperature, margin=margin,
    )  # fmt: skip
    checks.keywords(similarity, reduction, block_size, TWO_SIDED)
    checks.boolean("symmetric", symmetric, "mil-nce.symmetric")
    checks.has_shape("query", query, (None, None), "(N, D)")
    n, d = query.shape
    checks.has_shape("positive_bags", positive_bags, (n, None, d), "(N, B, D), a bag for every query")
    bag = positive_bags.shape[1]
    checks.candidate_mask(candidate_mask, (n, n, bag), "(N, N, B)")
    checks.sample_weight(sample_weight, n, allowed)
    checks.temperature(xp, temperature, query)
    checks.margin(margin)

    dtype, rows_of = compute_dtype(xp, query), SIMILARITIES[similarity]
    q, to_query = embed(xp, query, dtype, rows_of)
    k, to_bags = embed(xp, positive_bags, dtype, rows_of)
    tau, to_temperature = positive_scalar(xp, q, temperature)
    m, to_margin = scalar(xp, q, margin)
    own = own_bag(xp, q, bag)

    def to_bag_elements(lo: int, hi: int) -> Many:
        """Queries lo … hi − 1 against the elements of all bags."""
        positive = xp.reshape(own(lo, hi), (hi - lo, n * bag))
        keep = ~positive
        if candidate_mask is not None:
            keep = keep & xp.reshape(candidate_mask[lo:hi, ...], (hi - lo, n * bag))  # mil-nce.mask
        elements = Rows("elements", xp.reshape(k, (n * bag, d)))
        return Many(Block(Rows("query", q[lo:hi, ...], by_row=True), elements, keep, positive), bag_link, positive)

    def to_queries(lo: int, hi: int) -> Many:
        """The elements of bags lo … hi − 1 against all queries."""
        positive = xp.reshape(xp.permute_dims(own(lo, hi), (0, 2, 1)), (hi - lo, bag * n))
        keep = ~positive
        if candidate_mask is not None:
            mask = xp.permute_dims(candidate_mask[:, lo:hi, :], (1, 2, 0))
            keep = keep & xp.reshape(mask, (hi - lo, bag * n))
        elements = Rows("positive_bags", k[lo:hi, ...], by_row=True)
        return Many(Block(elements, Rows("query", q), keep, positive), bag_link, positive)

    def to_arguments(g: Mapping[str, Array]) -> MILNCEGrads:
        bags = xp.reshape(g["elements"], (n, bag, d))
        return MILNCEGrads(
            to_query(g["query"]),
            to_bags(bags + g["positive_bags"] if symmetric else bags),  # gradient.positive-bags
            to_temperature(g["temperature"]),
            to_margin(g["margin"]),
        )

    rows: RowsOf = ContrastedMany(xp, to_bag_elements, tau, m)
    if symmetric:
        rows = MeanOf(rows, ContrastedMany(xp, to_queries, tau, m))  # mil-nce.symmetric
    step = block_size or default_block_size(n * bag, xp.finfo(dtype).bits)
    return Plan(xp, n, rows, reduce_by(xp, reduction, q, sample_weight), to_arguments, step)


def own_bag(xp: Namespace, q: Array, bag: int) -> Callable[[int, int], Array]:
    """Which elements (rows, N, B) belong to the rows lo … hi − 1 themselves."""
    number = row_numbers(xp, q)

    def own(lo: int, hi: int) -> Array:
        mine = number[None, :] == column(number[lo:hi])
        return xp.broadcast_to(mine[:, :, None], (hi - lo, q.shape[0], bag))

    return own
