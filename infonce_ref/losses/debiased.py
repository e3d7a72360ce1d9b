"""debiased and hard_negative: NT-Xent whose negatives are corrected for false ones, and weighted by hardness."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array
from infonce_ref.link import reweighted_link
from infonce_ref.loss import Loss, Plan
from infonce_ref.losses.views import two_views

LEAST_COSINE = -1.0  # no mean of e^{s} over negatives lies below e^{−1/τ}


class UnbiasedGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype."""

    view_a: Array
    view_b: Array
    temperature: Array


@Loss
def debiased(
    view_a: Array,
    view_b: Array,
    *,
    prior: float,
    temperature: float | Array = 0.1,
    similarity: Literal["cosine", "dot"] = "cosine",
    candidate_mask: Array | None = None,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[UnbiasedGrads]:
    r"""Debiased contrastive loss: NT-Xent less the share of false negatives that is expected among the negatives.

    .. math:: L_i = \operatorname{softplus}\Bigl(\log\bigl(M_i \max(g_i, e^{-1/\tau})\bigr) - s_{ip}\Bigr), \qquad
              g_i = \frac{\frac{1}{M_i} \sum_j e^{s_{ij}} - \text{prior} \cdot e^{s_{ip}}}{1 - \text{prior}}

    over the M_i negatives j of NT-Xent. Clauses: debiased.rows, debiased.floor.

    Parameters
    ----------
    view_a, view_b : array (N, D), float64, float32, float16 or bfloat16, both the same
        Two views of each item, a row each. Half precision is storage: arithmetic runs in float32.
    prior : float, 0 ≤ prior < 1
        The probability that a negative is of the anchor's class (τ⁺ in the paper). A constant.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.
    similarity : "cosine" or "dot"
        The floor e^{−1/τ} is the cosine's; with "dot" there is none, and an anchor with g ≤ 0 has loss NaN.
    candidate_mask : bool array (2N, 2N), optional
        False where the column's row is never a negative of the row's. On the diagonal and on positives it is ignored.
    sample_weight : array (2N,), ≥ 0, the views' dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w (0 where Σ w = 0), the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the 2N anchors.
    block_size : int, optional
        Anchors visited at a time: memory grows with block_size × 2N.

    Returns
    -------
    loss : 0-d array, or (2N,) for reduction="none"
        In the compute dtype: float64 for float64, else float32. In nats.

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape or Python scalar. The message ends with the clause that says so.

    References
    ----------
    Chuang, Robinson, Yen-Chen, Torralba, Jegelka 2020, Debiased Contrastive Learning, arXiv:2007.00224, eq. 8.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import debiased, nt_xent
    >>> view = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(f"{debiased(view, view, prior=0.0, temperature=0.5) - nt_xent(view, view, temperature=0.5):.6f}")
    0.000000
    """
    checks.constant_between("prior", prior, 0.0, 1.0, "debiased.domain")
    return unbiased(
        view_a, view_b, temperature, similarity, candidate_mask, sample_weight, reduction, block_size, prior, 0.0
    )


@Loss
def hard_negative(
    view_a: Array,
    view_b: Array,
    *,
    prior: float,
    beta: float,
    temperature: float | Array = 0.1,
    similarity: Literal["cosine", "dot"] = "cosine",
    candidate_mask: Array | None = None,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[UnbiasedGrads]:
    r"""Hard-negative contrastive loss: `debiased` with every negative weighted by e^{βs}.

    .. math:: L_i = \operatorname{softplus}\Bigl(\log\bigl(M_i \max(g_i, e^{-1/\tau})\bigr) - s_{ip}\Bigr), \qquad
              g_i = \frac{\sum_j e^{(1 + \beta) s_{ij}} / \sum_j e^{\beta s_{ij}} - \text{prior} \cdot e^{s_{ip}}}
              {1 - \text{prior}}

    over the M_i negatives j of NT-Xent; the gradient flows through the weights. Clause: hard-negative.rows.

    Parameters
    ----------
    view_a, view_b : array (N, D), float64, float32, float16 or bfloat16, both the same
        Two views of each item, a row each. Half precision is storage: arithmetic runs in float32.
    prior : float, 0 ≤ prior < 1
        The probability that a negative is of the anchor's class (τ⁺ in the paper). A constant.
    beta : float, ≥ 0
        How much harder negatives weigh; 0 is `debiased`. A constant.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.
    similarity : "cosine" or "dot"
        The floor e^{−1/τ} is the cosine's; with "dot" there is none, and an anchor with g ≤ 0 has loss NaN.
    candidate_mask : bool array (2N, 2N), optional
        False where the column's row is never a negative of the row's. On the diagonal and on positives it is ignored.
    sample_weight : array (2N,), ≥ 0, the views' dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w (0 where Σ w = 0), the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the 2N anchors.
    block_size : int, optional
        Anchors visited at a time: memory grows with block_size × 2N.

    Returns
    -------
    loss : 0-d array, or (2N,) for reduction="none"
        In the compute dtype: float64 for float64, else float32. In nats.

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape or Python scalar. The message ends with the clause that says so.

    References
    ----------
    Robinson, Chuang, Sra, Jegelka 2021, Contrastive Learning with Hard Negative Samples, arXiv:2010.04592, eq. 4.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import hard_negative
    >>> view = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(f"{hard_negative(view, view, prior=0.0, beta=1.0, temperature=0.5):.6f}")  # both negatives alike
    0.239545
    """
    checks.constant_between("prior", prior, 0.0, 1.0, "hard-negative.domain")
    checks.constant_between("beta", beta, 0.0, float("inf"), "hard-negative.domain")
    return unbiased(
        view_a, view_b, temperature, similarity, candidate_mask, sample_weight, reduction, block_size, prior, beta
    )


def unbiased(
    view_a: Array, view_b: Array, temperature: Any, similarity: str, candidate_mask: Array | None,
    sample_weight: Array | None, reduction: str, block_size: int | None, prior: float, beta: float,
) -> Plan[UnbiasedGrads]:  # fmt: skip
    """The plan of both losses."""
    floored = similarity == "cosine"
    link = reweighted_link(float(prior), float(beta), floored)
    return two_views(
        view_a, view_b, temperature, 0.0, similarity, candidate_mask, sample_weight, reduction, block_size,
        lambda xp, u: lambda lo, hi: link,
        lambda a, b, temperature, margin: UnbiasedGrads(a, b, temperature),
        level=LEAST_COSINE if floored else None,
    )  # fmt: skip
