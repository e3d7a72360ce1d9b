"""info_nce: every query picks its positive key out of the candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array, DType, Namespace, column, compute_dtype
from infonce_ref.candidates import NO_BIAS, Bias, candidates
from infonce_ref.contrast import Contrasted
from infonce_ref.embed import SIMILARITIES, cast, embed, embed_query
from infonce_ref.link import softplus_link
from infonce_ref.loss import Loss, Plan, default_block_size
from infonce_ref.reduction import reduce_by
from infonce_ref.scale import positive_scalar, scalar


class InfoNCEGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype; None where the argument was not given."""

    query: Array
    positive_key: Array
    negative_keys: Array | None
    temperature: Array
    margin: Array
    bilinear_weight: Array | None
    logit_bias: Array | None


@Loss
def info_nce(
    query: Array,
    positive_key: Array,
    negative_keys: Array | None = None,
    *,
    temperature: float | Array = 0.1,
    similarity: Literal["cosine", "dot", "bilinear"] = "cosine",
    bilinear_weight: Array | None = None,
    in_batch_negatives: bool = True,
    positive_index: Array | None = None,
    candidate_mask: Array | None = None,
    logit_bias: Array | None = None,
    margin: float | Array = 0.0,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[InfoNCEGrads]:
    r"""InfoNCE: the cross-entropy of picking each query's positive key among its candidates by a softmax.

    .. math:: L_i = -\log \frac{e^{s_{ip}}}{e^{s_{ip}} + \sum_{j \in A_i} e^{s_{ij}}}
              = \operatorname{softplus}\Bigl(\log \sum_{j \in A_i} e^{s_{ij} - s_{ip}}\Bigr),
              \qquad s_{ij} = \mathrm{sim}(q_i, k_j) / \tau

    where p is the positive of query i and A_i its negatives. Clause: rows.softplus.

    Parameters
    ----------
    query : array (N, D), float64, float32, float16 or bfloat16
        One query a row. Half precision is storage: arithmetic runs in float32.
    positive_key : array (N, D), the query's dtype
        Row i is the positive key of query i. With `positive_index` (K, D), any K ≥ 1.
    negative_keys : array (M, D) or (N, M, D), the query's dtype, optional
        Explicit negatives: shared by all queries (2-D) or each query's own (3-D). M may be 0.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.
    similarity : "cosine", "dot" or "bilinear"
        cos(q, k); q·k; or qᵀWk with W = `bilinear_weight`.
    bilinear_weight : array (D, E), the query's dtype or the compute dtype
        W, for "bilinear" only; keys are then (…, E).
    in_batch_negatives : bool
        Whether every query has the other rows of `positive_key` as negatives.
    positive_index : integer array (N,), optional
        The row of `positive_key` that is each query's positive; a value outside 0 … K − 1 gives NaN.
    candidate_mask : bool array (N, C), optional
        False where a candidate is never a negative of the query. Columns: the rows of `positive_key` if
        `in_batch_negatives`, then those of `negative_keys`. Entries on the positive are ignored.
    logit_bias : array (C,), the query's dtype or the compute dtype, optional
        b: added to the logits after the temperature, column by column as in `candidate_mask` (logQ correction: minus
        the logarithm of how often a key is drawn). The positive has the entry of its column, if it has one.
    margin : float or 0-d floating array
        m: the positive's similarity becomes sim − m.
    sample_weight : array (N,), ≥ 0, the query's dtype or the compute dtype, optional
        w: the mean becomes Σ w L / Σ w (0 where Σ w = 0), the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the N queries.
    block_size : int, optional
        Queries visited at a time: memory grows with block_size × C instead of N × C. Any size gives the same
        result within rounding; by default no matrix of scores exceeds 256 MiB.

    Returns
    -------
    loss : 0-d array, or (N,) for reduction="none"
        In the compute dtype: float64 for float64, else float32. In nats.

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape or Python scalar. The message ends with the clause that says so.

    See Also
    --------
    info_nce.value_and_grad : the loss and `InfoNCEGrads`, in one pass.
    info_nce.vjp : the loss and its pullback, cotangent → `InfoNCEGrads`.

    References
    ----------
    Oord, Li, Vinyals 2018, Representation Learning with Contrastive Predictive Coding, arXiv:1807.03748, eq. 4.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import info_nce
    >>> query = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(f"{info_nce(query, query, temperature=0.5):.6f}")  # log(1 + e^{-1/0.5})
    0.126928
    >>> loss, grad = info_nce.value_and_grad(query, query, temperature=0.5)
    >>> print(f"{grad.temperature:.6f}")  # sigmoid(-1/0.5) / 0.5**2
    0.476812
    """
    xp, columns = checked(
        query, positive_key, negative_keys, temperature, similarity, bilinear_weight, in_batch_negatives,
        positive_index, candidate_mask, logit_bias, margin, sample_weight, reduction, block_size,
    )  # fmt: skip
    dtype, rows_of = compute_dtype(xp, query), SIMILARITIES[similarity]
    step = block_size or default_block_size(columns, xp.finfo(dtype).bits)
    who = candidates(xp, query, positive_key, positive_index, in_batch_negatives, candidate_mask)

    q, to_query = embed_query(xp, query, dtype, rows_of, bilinear_weight)
    k, to_keys = embed(xp, positive_key, dtype, rows_of, who.used_keys(positive_key, step))
    n, to_negatives = embed(xp, negative_keys, dtype, rows_of, who.used_negatives(negative_keys))
    b, to_bias = bias_columns(xp, logit_bias, dtype, in_batch_negatives * positive_key.shape[0])
    tau, to_temperature = positive_scalar(xp, q, temperature)
    m, to_margin = scalar(xp, q, margin)

    def to_arguments(g: Mapping[str, Array]) -> InfoNCEGrads:
        query_grad, weight_grad = to_query(g["query"])
        return InfoNCEGrads(
            query_grad,
            to_keys(g["positive_key"]),
            to_negatives(g.get("negative_keys")),
            to_temperature(g["temperature"]),
            to_margin(g["margin"]),
            weight_grad,
            to_bias(g),
        )

    rows = Contrasted(xp, who.layout(q, k, n, softplus_link, b), tau, m)
    return Plan(xp, query.shape[0], rows, reduce_by(xp, reduction, q, sample_weight), to_arguments, step)


def bias_columns(
    xp: Namespace, bias: Array | None, dtype: DType, keys: int
) -> tuple[Bias, Callable[[Mapping[str, Array]], Array | None]]:
    """The bias of the keys and that of the explicit negatives, and the gradient of both together."""
    if bias is None:
        return NO_BIAS, lambda g: None
    b, to_stored = cast(xp, bias, dtype)
    whole = column(b)

    def pullback(g: Mapping[str, Array]) -> Array:
        parts = [g[name] for name in ("key_bias", "negative_bias") if name in g]
        return to_stored(xp.concat(parts, axis=0)[:, 0])

    return Bias(whole[:keys, ...] if keys else None, whole[keys:, ...] if keys < bias.shape[0] else None), pullback


def checked(
    query: Array, positive_key: Array, negative_keys: Array | None, temperature: Any, similarity: str,
    bilinear_weight: Array | None, in_batch_negatives: bool, positive_index: Array | None,
    candidate_mask: Array | None, logit_bias: Array | None, margin: Any, sample_weight: Array | None, reduction: str,
    block_size: int | None,
) -> tuple[Namespace, int]:  # fmt: skip
    """The library that all arguments belong to and C, the columns of a mask, once nothing is found wrong."""
    xp, allowed = checks.arguments(
        {"query": query, "positive_key": positive_key, **checks.given(negative_keys=negative_keys)},
        bilinear_weight=bilinear_weight, positive_index=positive_index, candidate_mask=candidate_mask,
        logit_bias=logit_bias, sample_weight=sample_weight, temperature=temperature, margin=margin,
    )  # fmt: skip
    checks.keywords(similarity, reduction, block_size, tuple(SIMILARITIES))

    checks.has_shape("query", query, (None, None), "(N, D)")
    (n, d), e = query.shape, query.shape[1]
    checks.bilinear_weight(bilinear_weight, similarity, d, allowed)
    if bilinear_weight is not None:
        e = bilinear_weight.shape[1]
    if positive_index is None:
        checks.has_shape("positive_key", positive_key, (n, e), "(N, D), a key for every query")
    else:
        checks.has_shape("positive_key", positive_key, (None, e), "(K, D)")
        checks.index("positive_index", xp, positive_index, n, "candidates.index.domain")
    c = checks.negative_keys(negative_keys, in_batch_negatives, n, e) + in_batch_negatives * positive_key.shape[0]
    checks.candidate_mask(candidate_mask, (n, c), "(N, C)")
    if logit_bias is not None:
        checks.has_shape("logit_bias", logit_bias, (c,), "(C,), the columns of a mask", "scale.logit-bias.domain")
        checks.has_dtype("logit_bias", logit_bias, allowed, "scale.logit-bias.domain")
    checks.sample_weight(sample_weight, n, allowed)
    checks.temperature(xp, temperature, query)
    checks.margin(margin)
    return xp, c
