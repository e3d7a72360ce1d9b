"""gte: one softmax over all four kinds of pairs of queries and documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array, compute_dtype, row_numbers
from infonce_ref.contrast import Contrast, Contrasted
from infonce_ref.embed import SIMILARITIES, embed
from infonce_ref.link import softplus_link
from infonce_ref.loss import Loss, Plan, default_block_size
from infonce_ref.losses.views import TWO_SIDED
from infonce_ref.reduction import reduce_by
from infonce_ref.scale import positive_scalar, scalar
from infonce_ref.scores import Block, Pair, Rows


class GTEGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype."""

    query: Array
    document: Array
    temperature: Array
    margin: Array


@Loss
def gte(
    query: Array,
    document: Array,
    *,
    temperature: float | Array = 0.1,
    similarity: Literal["cosine", "dot"] = "cosine",
    candidate_mask: Array | None = None,
    margin: float | Array = 0.0,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[GTEGrads]:
    r"""GTE's improved contrastive loss: each pair against queries and documents, seen from its query and its document.

    .. math:: L_i = -\log \frac{e^{s(q_i, d_i)}}{e^{s(q_i, d_i)} + \sum_{j \ne i} \bigl(e^{s(q_i, d_j)}
              + e^{s(q_i, q_j)} + e^{s(d_i, q_j)} + e^{s(d_i, d_j)}\bigr)}, \qquad s = \mathrm{sim} / \tau

    The positive stands once in the denominator. Clause: gte.rows.

    Parameters
    ----------
    query, document : array (N, D), float64, float32, float16 or bfloat16, both the same
        Row i of one belongs to row i of the other. Half precision is storage: arithmetic runs in float32.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.
    similarity : "cosine" or "dot"
        What is compared: the directions, or the rows as they are.
    candidate_mask : bool array (N, 4N), optional
        False where a pair is never a negative of row i. Columns: q_i→d_j, q_i→q_j, d_i→q_j, d_i→d_j, N each. Where
        j = i it is ignored.
    margin : float or 0-d floating array
        m: the positive's similarity becomes sim − m.
    sample_weight : array (N,), ≥ 0, the embeddings' dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w (0 where Σ w = 0), the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the N pairs.
    block_size : int, optional
        Pairs visited at a time: memory grows with block_size × 4N.

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
    Li, Zhang, Zhang, Long, Xie, Zhang 2023, Towards General Text Embeddings with Multi-stage Contrastive Learning,
    arXiv:2308.03281, §3.2 (whose sum counts the positive twice).

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import gte
    >>> query = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(f"{gte(query, query, temperature=0.5):.6f}")  # log(1 + 4 e^{-1/0.5})
    0.432653
    """
    xp, allowed = checks.arguments(
        {"query": query, "document": document},
        candidate_mask=candidate_mask, sample_weight=sample_weight, temperature=temperature, margin=margin,
    )  # fmt: skip
    checks.keywords(similarity, reduction, block_size, TWO_SIDED)
    checks.has_shape("query", query, (None, None), "(N, D)")
    n, d = query.shape
    checks.has_shape("document", document, (n, d), "(N, D), a document for every query")
    checks.candidate_mask(candidate_mask, (n, 4 * n), "(N, 4N)")
    checks.sample_weight(sample_weight, n, allowed)
    checks.temperature(xp, temperature, query)
    checks.margin(margin)

    dtype, rows_of = compute_dtype(xp, query), SIMILARITIES[similarity]
    step = block_size or default_block_size(4 * n, xp.finfo(dtype).bits)
    u, to_query = embed(xp, query, dtype, rows_of)
    v, to_document = embed(xp, document, dtype, rows_of)
    tau, to_temperature = positive_scalar(xp, u, temperature)
    m, to_margin = scalar(xp, u, margin)
    number = row_numbers(xp, u)

    def layout(lo: int, hi: int) -> Contrast:
        q, doc = Rows("query", u[lo:hi, ...], by_row=True), Rows("document", v[lo:hi, ...], by_row=True)
        queries, documents = Rows("query", u), Rows("document", v)
        itself = (number[lo:hi],)
        kinds = [(q, documents), (q, queries), (doc, queries), (doc, documents)]  # gte.rows
        mask = None if candidate_mask is None else candidate_mask[lo:hi, ...]
        masks = [None if mask is None else mask[:, i * n : (i + 1) * n] for i in range(4)]  # gte.mask
        return Contrast(
            Pair(q, doc),
            [Block(*kind, keep, never=itself) for kind, keep in zip(kinds, masks, strict=True)],
            softplus_link,
        )

    def to_arguments(g: Mapping[str, Array]) -> GTEGrads:
        return GTEGrads(
            to_query(g["query"]),
            to_document(g["document"]),  # gradient.document
            to_temperature(g["temperature"]),
            to_margin(g["margin"]),
        )

    return Plan(xp, n, Contrasted(xp, layout, tau, m), reduce_by(xp, reduction, u, sample_weight), to_arguments, step)
