"""n_pair: InfoNCE of plain inner products, without a temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from infonce_ref.arrays import Array
from infonce_ref.loss import Loss, Plan
from infonce_ref.losses.info_nce import info_nce


class NPairGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype."""

    query: Array
    positive_key: Array


@Loss
def n_pair(
    query: Array,
    positive_key: Array,
    *,
    candidate_mask: Array | None = None,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[NPairGrads]:
    r"""Multi-class N-pair loss: InfoNCE of inner products at temperature 1, without the paper's L2 term.

    .. math:: L_i = \log\Bigl(1 + \sum_{j \ne i} e^{q_i \cdot k_j - q_i \cdot k_i}\Bigr)

    Clause: n-pair.rows.

    Parameters
    ----------
    query : array (N, D), float64, float32, float16 or bfloat16
        One query a row. Half precision is storage: arithmetic runs in float32.
    positive_key : array (N, D), the query's dtype
        Row i is the positive key of query i.
    candidate_mask : bool array (N, N), optional
        False where a key is never a negative of the query. On the positives it is ignored.
    sample_weight : array (N,), ≥ 0, the query's dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w (0 where Σ w = 0), the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the N queries.
    block_size : int, optional
        Queries visited at a time: memory grows with block_size × N.

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
    Sohn 2016, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NeurIPS 29, eq. 7.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import n_pair
    >>> query = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(f"{n_pair(query, query):.6f}")  # log(1 + e^{-1})
    0.313262
    """
    plan = info_nce.plan(
        query, positive_key, temperature=1.0, similarity="dot", candidate_mask=candidate_mask,
        sample_weight=sample_weight, reduction=reduction, block_size=block_size,
    )  # fmt: skip  # n-pair.rows

    def to_arguments(g: Mapping[str, Array]) -> NPairGrads:
        grads = plan.to_arguments(g)
        return NPairGrads(grads.query, grads.positive_key)

    return Plan(plan.xp, plan.queries, plan.rows, plan.reduction, to_arguments, plan.block_size)
