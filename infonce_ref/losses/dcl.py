"""dcl: NT-Xent with the positive left out of the denominator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from infonce_ref import checks
from infonce_ref.arrays import Array, Namespace, as_constant
from infonce_ref.link import Link, decoupled_link, weighted_link
from infonce_ref.loss import Loss, Plan
from infonce_ref.losses.views import ViewGrads, swapped, two_views


@Loss
def dcl(
    view_a: Array,
    view_b: Array,
    *,
    temperature: float | Array = 0.1,
    sigma: float | None = None,
    similarity: Literal["cosine", "dot"] = "cosine",
    candidate_mask: Array | None = None,
    margin: float | Array = 0.0,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[ViewGrads]:
    r"""Decoupled contrastive loss: NT-Xent whose denominator runs over the 2N − 2 negatives alone; may be negative.

    .. math:: L_i = \log \sum_{j \ne i, p} e^{s_{ij}} - w_i s_{ip}, \qquad w_i = 1 \text{, or with } \sigma:
              w_i = 2 - N \operatorname{softmax}_i(\mathrm{sim}(a_i, b_i) / \sigma)

    The weights are those of DCLW: of the raw similarity, shared by both views of an item, constants for the gradient.
    An anchor without negatives contributes nothing and isn't counted in the mean. Clauses: dcl.rows, dcl.weighted.

    Parameters
    ----------
    view_a, view_b : array (N, D), float64, float32, float16 or bfloat16, both the same
        Two views of each item, a row each. Half precision is storage: arithmetic runs in float32.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.
    sigma : float > 0, optional
        σ of the weights; without it all are 1.
    similarity : "cosine" or "dot"
        What is compared: the directions, or the rows as they are.
    candidate_mask : bool array (2N, 2N), optional
        False where the column's row is never a negative of the row's. On the diagonal and on positives it is ignored.
    margin : float or 0-d floating array
        m: the positive's similarity becomes sim − m (not in the weights).
    sample_weight : array (2N,), ≥ 0, the views' dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w over the anchors that count, the sum Σ w L, entry i of "none" w_i L_i. A constant.
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
    Yeh, Hong, Hsu, Liu, Chen, LeCun 2022, Decoupled Contrastive Learning, arXiv:2110.06848, eq. 6.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import dcl
    >>> view = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(f"{dcl(view, view, temperature=0.5):.6f}")  # log(2 e^0) - 1/0.5
    -1.306853
    """
    if sigma is not None:
        checks.constant_between("sigma", sigma, 5e-324, float("inf"), "dcl.domain")
    return two_views(
        view_a, view_b, temperature, margin, similarity, candidate_mask, sample_weight, reduction, block_size,
        links(sigma), ViewGrads, level=None if sigma is None else 0.0, needs_negative=True,
    )  # fmt: skip


def links(sigma: float | None) -> Callable[[Namespace, Array], Callable[[int, int], Link]]:
    """The link of rows lo … hi − 1, with its weights where there is a σ."""
    if sigma is None:
        return lambda xp, u: lambda lo, hi: decoupled_link
    width = float(sigma)

    def weighted(xp: Namespace, u: Array) -> Callable[[int, int], Link]:
        weight = weights(xp, as_constant(u), width)
        return lambda lo, hi: weighted_link(weight[lo:hi])

    return weighted


def weights(xp: Namespace, u: Array, sigma: float) -> Array:
    """2 − N softmax_i(sim(a_i, b_i) / σ), for the 2N rows of both views."""
    n = u.shape[0] // 2
    similarity = xp.sum(u * swapped(xp, u), axis=-1)[:n] / sigma
    e = xp.exp(similarity - xp.max(similarity))
    weight = 2 - n * (e / xp.sum(e))
    return xp.concat([weight, weight], axis=0)
