"""nt_xent: SimCLR's loss over two views of a batch."""

from __future__ import annotations

from typing import Literal

from infonce_ref.arrays import Array
from infonce_ref.link import softplus_link
from infonce_ref.loss import Loss, Plan
from infonce_ref.losses.views import ViewGrads, two_views


@Loss
def nt_xent(
    view_a: Array,
    view_b: Array,
    *,
    temperature: float | Array = 0.1,
    similarity: Literal["cosine", "dot"] = "cosine",
    candidate_mask: Array | None = None,
    margin: float | Array = 0.0,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[ViewGrads]:
    r"""NT-Xent: each of 2N views picks the other view of its item among the 2N − 1 others.

    .. math:: L_i = -\log \frac{e^{s_{ip}}}{\sum_{j \ne i} e^{s_{ij}}}, \qquad s_{ij} = \mathrm{sim}(z_i, z_j) / \tau

    where z are the rows of `view_a`, then those of `view_b`, and p is the other view of i. Its 2N − 2 negatives include
    those of its own view, so that this is not the mean of `info_nce` in both directions. Clause: nt-xent.rows.

    Parameters
    ----------
    view_a, view_b : array (N, D), float64, float32, float16 or bfloat16, both the same
        Two views of each item, a row each. Half precision is storage: arithmetic runs in float32.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.
    similarity : "cosine" or "dot"
        What is compared: the directions, or the rows as they are.
    candidate_mask : bool array (2N, 2N), optional
        False where the column's row is never a negative of the row's. On the diagonal and on positives it is ignored.
    margin : float or 0-d floating array
        m: the positive's similarity becomes sim − m.
    sample_weight : array (2N,), ≥ 0, the views' dtype or the compute dtype, optional
        w: the mean becomes Σ w L / Σ w (0 where Σ w = 0), the sum Σ w L, entry i of "none" w_i L_i. A constant.
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

    See Also
    --------
    nt_xent.value_and_grad : the loss and `ViewGrads`.
    nt_xent.vjp : the loss and its pullback, cotangent → `ViewGrads`.

    References
    ----------
    Chen, Kornblith, Norouzi, Hinton 2020, A Simple Framework for Contrastive Learning of Visual Representations,
    arXiv:2002.05709, eq. 1. (The authors' code returns twice this.)

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import nt_xent
    >>> view = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(f"{nt_xent(view, view, temperature=0.5):.6f}")  # log(1 + 2 e^{-1/0.5})
    0.239545
    """
    return two_views(
        view_a, view_b, temperature, margin, similarity, candidate_mask, sample_weight, reduction, block_size,
        lambda xp, u: lambda lo, hi: softplus_link, ViewGrads,
    )  # fmt: skip
