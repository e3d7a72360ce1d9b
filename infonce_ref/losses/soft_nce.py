"""soft_nce: InfoNCE with a distribution over the keys in place of one positive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array, Namespace, compute_dtype, dtype_name
from infonce_ref.candidates import any_pair
from infonce_ref.contrast import ContrastedMany, Many
from infonce_ref.embed import SIMILARITIES, cast, embed
from infonce_ref.link import everywhere, soft_link
from infonce_ref.loss import Loss, Plan, default_block_size
from infonce_ref.losses.views import TWO_SIDED
from infonce_ref.reduction import reduce_by
from infonce_ref.scale import positive_scalar
from infonce_ref.scores import Block, Rows


class SoftNCEGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype."""

    query: Array
    keys: Array
    temperature: Array


@Loss
def soft_nce(
    query: Array,
    keys: Array,
    targets: Array,
    *,
    temperature: float | Array = 0.1,
    similarity: Literal["cosine", "dot"] = "cosine",
    candidate_mask: Array | None = None,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[SoftNCEGrads]:
    r"""Cross-entropy of the softmax over the keys, relative to target probabilities.

    .. math:: L_i = -\sum_c t_{ic} \log \frac{e^{s_{ic}}}{\sum_{c'} e^{s_{ic'}}}, \qquad
              s_{ic} = \mathrm{sim}(q_i, k_c) / \tau

    over the keys that the mask leaves: mixup, distillation, label smoothing. Clause: soft-nce.rows.
    Label smoothing by ε: t = (1 − ε) onehot + ε / K.

    Parameters
    ----------
    query : array (N, D), float64, float32, float16 or bfloat16
        One query a row. Half precision is storage: arithmetic runs in float32.
    keys : array (K, D), the query's dtype
        The candidates of every query.
    targets : array (N, K), ≥ 0, the query's dtype or the compute dtype
        t: each row sums to 1. A row that doesn't within rounding, or has a negative entry, or a positive one where it
        is masked, gives NaN. A constant.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.
    similarity : "cosine" or "dot"
        What is compared: the directions, or the rows as they are.
    candidate_mask : bool array (N, K), optional
        False where a key is no candidate of the query.
    sample_weight : array (N,), ≥ 0, the query's dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w (0 where Σ w = 0), the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the N queries.
    block_size : int, optional
        Queries visited at a time: memory grows with block_size × K.

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
    Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016, Rethinking the Inception Architecture, arXiv:1512.00567, §7 (label
    smoothing); Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, arXiv:1503.02531.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import soft_nce
    >>> query, targets = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.75, 0.25], [0.25, 0.75]])
    >>> print(f"{soft_nce(query, query, targets, temperature=0.5):.6f}")  # log(1 + e^{-1/0.5}) + 0.25 / 0.5
    0.626928
    """
    xp, allowed = checks.arguments(
        {"query": query, "keys": keys},
        targets=targets, candidate_mask=candidate_mask, sample_weight=sample_weight, temperature=temperature,
    )  # fmt: skip
    checks.keywords(similarity, reduction, block_size, TWO_SIDED)
    checks.has_shape("query", query, (None, None), "(N, D)")
    n, d = query.shape
    checks.has_shape("keys", keys, (None, d), "(K, D)")
    k = keys.shape[0]
    checks.has_shape("targets", targets, (n, k), "(N, K)", "soft-nce.domain")
    checks.has_dtype("targets", targets, allowed, "soft-nce.domain")
    checks.candidate_mask(candidate_mask, (n, k), "(N, K)")
    checks.sample_weight(sample_weight, n, allowed)
    checks.temperature(xp, temperature, query)

    dtype, rows_of = compute_dtype(xp, query), SIMILARITIES[similarity]
    step = block_size or default_block_size(k, xp.finfo(dtype).bits)
    t = distributions(xp, targets, candidate_mask, cast(xp, targets, dtype)[0])
    used = None if candidate_mask is None else any_pair(xp, lambda lo, hi: candidate_mask[lo:hi, ...], n, step, axis=0)
    q, to_query = embed(xp, query, dtype, rows_of)
    all_keys, to_keys = embed(xp, keys, dtype, rows_of, used)
    tau, to_temperature = positive_scalar(xp, q, temperature)

    def layout(lo: int, hi: int) -> Many:
        mask = None if candidate_mask is None else candidate_mask[lo:hi, ...]
        block = Block(Rows("query", q[lo:hi, ...], by_row=True), Rows("keys", all_keys), mask)
        return Many(block, soft_link(t[lo:hi, ...]), everywhere(xp, t[lo:hi, ...], mask))

    def to_arguments(g: Mapping[str, Array]) -> SoftNCEGrads:
        return SoftNCEGrads(to_query(g["query"]), to_keys(g["keys"]), to_temperature(g["temperature"]))

    rows = ContrastedMany(xp, layout, tau)
    return Plan(xp, n, rows, reduce_by(xp, reduction, q, sample_weight), to_arguments, step)


def distributions(xp: Namespace, targets: Array, mask: Array | None, t: Array) -> Array:
    """The targets in the compute dtype; NaN the rows that are no distribution over what the mask leaves."""
    unit = 2.0**-8 if dtype_name(targets) == "bfloat16" else float(xp.finfo(targets.dtype).eps) / 2
    sound = xp.abs(xp.sum(t, axis=-1, keepdims=True) - 1) <= 4 * t.shape[1] * unit
    sound = sound & xp.all(t >= 0, axis=-1, keepdims=True)
    if mask is not None:
        sound = sound & ~xp.any((t > 0) & ~mask, axis=-1, keepdims=True)
    return xp.where(sound, t, xp.full_like(t, float("nan")))  # soft-nce.domain
