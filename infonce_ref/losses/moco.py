"""moco: a query against its positive key and a queue of earlier keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array
from infonce_ref.loss import Loss, Plan
from infonce_ref.losses.info_nce import info_nce
from infonce_ref.losses.views import TWO_SIDED
from infonce_ref.queue import KeyQueue


class MoCoGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype; `queue` that of the queue's keys."""

    query: Array
    positive_key: Array
    queue: Array
    temperature: Array
    margin: Array


@Loss
def moco(
    query: Array,
    positive_key: Array,
    queue: Array | KeyQueue,
    *,
    temperature: float | Array = 0.1,
    similarity: Literal["cosine", "dot"] = "cosine",
    margin: float | Array = 0.0,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[MoCoGrads]:
    r"""MoCo's loss: InfoNCE whose negatives are the keys in a queue, and nothing of the batch.

    .. math:: L_i = -\log \frac{e^{s_{ip}}}{e^{s_{ip}} + \sum_{m} e^{\mathrm{sim}(q_i, n_m) / \tau}}

    over the keys n of the queue as it was before this batch's keys are enqueued. Clause: moco.queue.

    Parameters
    ----------
    query : array (N, D), float64, float32, float16 or bfloat16
        One query a row. Half precision is storage: arithmetic runs in float32.
    positive_key : array (N, D), the query's dtype
        Row i is the positive key of query i.
    queue : array (M, D), the query's dtype, or `KeyQueue`
        The negatives of every query. M may be 0.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.
    similarity : "cosine" or "dot"
        What is compared: the directions, or the rows as they are.
    margin : float or 0-d floating array
        m: the positive's similarity becomes sim − m.
    sample_weight : array (N,), ≥ 0, the query's dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w (0 where Σ w = 0), the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the N queries.
    block_size : int, optional
        Queries visited at a time: memory grows with block_size × M.

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
    He, Fan, Wu, Xie, Girshick 2020, Momentum Contrast for Unsupervised Visual Representation Learning,
    arXiv:1911.05722, eq. 1.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import moco
    >>> query, queue = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, -1.0]])
    >>> print(f"{moco(query, query, queue, temperature=0.5):.6f}")  # log(1 + 2 e^{-1/0.5})
    0.239545
    """
    keys = queue.keys if isinstance(queue, KeyQueue) else queue
    xp, _ = checks.arguments({"query": query, "positive_key": positive_key, "queue": keys}, sample_weight=sample_weight)
    checks.one_of("similarity", similarity, TWO_SIDED, "similarity.domain")
    checks.has_shape("query", query, (None, None), "(N, D)")
    if len(keys.shape) != 2 or keys.shape[1] != query.shape[1]:
        raise ValueError(f"queue must have shape (M, {query.shape[1]}), got {tuple(keys.shape)} [input.shape]")
    plan = info_nce.plan(
        query, positive_key, keys, temperature=temperature, similarity=similarity, in_batch_negatives=False,
        margin=margin, sample_weight=sample_weight, reduction=reduction, block_size=block_size,
    )  # fmt: skip  # moco.queue

    def to_arguments(g: Mapping[str, Array]) -> MoCoGrads:
        grads = plan.to_arguments(g)
        by_queue = grads.negative_keys  # gradient.queue
        return MoCoGrads(grads.query, grads.positive_key, by_queue, grads.temperature, grads.margin)

    return Plan(xp, plan.queries, plan.rows, plan.reduction, to_arguments, plan.block_size)
