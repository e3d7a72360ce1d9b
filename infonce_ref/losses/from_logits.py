"""info_nce_from_logits: InfoNCE of a matrix of scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array, column, compute_dtype, row_numbers
from infonce_ref.embed import cast
from infonce_ref.link import softplus_link, where
from infonce_ref.loss import Loss, Plan, RowGrads, default_block_size
from infonce_ref.reduction import reduce_by
from infonce_ref.scale import positive_scalar, scalar
from infonce_ref.scores import Differences


class LogitsGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype."""

    logits: Array
    temperature: Array
    margin: Array


@Loss
def info_nce_from_logits(
    logits: Array,
    positive_index: Array | None = None,
    *,
    temperature: float | Array = 1.0,
    candidate_mask: Array | None = None,
    margin: float | Array = 0.0,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[LogitsGrads]:
    r"""InfoNCE of scores that somebody else computed: each row picks its positive column.

    .. math:: L_i = -\log \frac{e^{z_{ip} / \tau}}{\sum_c e^{z_{ic} / \tau}}

    Clause: logits.rows.

    Parameters
    ----------
    logits : array (N, C), float64, float32, float16 or bfloat16
        z: the scores of N queries against C candidates. Half precision is storage: arithmetic runs in float32.
    positive_index : integer array (N,), optional
        The column of each row's positive, by default the row's own number; a value outside 0 … C − 1 gives NaN.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN. 1 for scores that are logits already.
    candidate_mask : bool array (N, C), optional
        False where a column is never a negative of the row. On the positive it is ignored.
    margin : float or 0-d floating array
        m: the positive's score becomes z − m.
    sample_weight : array (N,), ≥ 0, the logits' dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w (0 where Σ w = 0), the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the N rows.
    block_size : int, optional
        Rows visited at a time.

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
    Oord, Li, Vinyals 2018, Representation Learning with Contrastive Predictive Coding, arXiv:1807.03748, eq. 4.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import info_nce_from_logits
    >>> similarities = np.array([[0.9, 0.6, 0.3, 0.1]])  # the positive first
    >>> loss, grad = info_nce_from_logits.value_and_grad(similarities, temperature=0.1)
    >>> print(f"{loss:.6f} {grad.temperature:.6f}")
    0.051265 1.585761
    """
    xp, allowed = checks.arguments(
        {"logits": logits}, positive_index=positive_index, candidate_mask=candidate_mask,
        sample_weight=sample_weight, temperature=temperature, margin=margin,
    )  # fmt: skip
    checks.keywords(None, reduction, block_size, ())
    checks.has_shape("logits", logits, (None, None), "(N, C)")
    n, c = logits.shape
    if positive_index is not None:
        checks.index("positive_index", xp, positive_index, n, "candidates.index.domain")
    elif n > c:
        raise ValueError(
            f"positive_index must be given for logits of more rows than columns, got {(n, c)} [input.shape]"
        )
    checks.candidate_mask(candidate_mask, (n, c), "(N, C)")
    checks.sample_weight(sample_weight, n, allowed)
    checks.temperature(xp, temperature, logits)
    checks.margin(margin)

    dtype = compute_dtype(xp, logits)
    z, to_logits = cast(xp, logits, dtype)
    tau, to_temperature = positive_scalar(xp, z, temperature)
    m, to_margin = scalar(xp, z, margin)
    columns = row_numbers(xp, xp.matrix_transpose(z))
    index = row_numbers(xp, z) if positive_index is None else xp.astype(positive_index, columns.dtype)

    def rows(lo: int, hi: int) -> tuple[Array, Callable[[Array], RowGrads]]:
        positive = columns[None, :] == column(index[lo:hi])
        keep = ~positive if candidate_mask is None else ~positive & candidate_mask[lo:hi, ...]
        inside = xp.any(positive, axis=-1, keepdims=True)  # candidates.index.domain
        of_positive = xp.sum(where(xp, positive, z[lo:hi, ...]), axis=-1, keepdims=True) - m
        of_positive = xp.where(inside, of_positive, xp.full_like(of_positive, float("nan")))
        d = where(xp, keep, (where(xp, keep, z[lo:hi, ...]) - of_positive) / tau)
        losses, pull_link = softplus_link(xp, [Differences(d, keep)])

        def pullback(weights: Array) -> RowGrads:
            (g,) = pull_link(weights)
            row_total = xp.sum(g, axis=-1, keepdims=True)
            to_z = (g - where(xp, positive, row_total + xp.zeros_like(g))) / tau  # gradient.logits
            return RowGrads({"logits": to_z}, {"temperature": -xp.sum(g * d) / tau, "margin": xp.sum(row_total) / tau})

        return losses, pullback  # logits.rows

    def to_arguments(g: Mapping[str, Array]) -> LogitsGrads:
        return LogitsGrads(to_logits(g["logits"]), to_temperature(g["temperature"]), to_margin(g["margin"]))

    step = block_size or default_block_size(c, xp.finfo(dtype).bits)
    return Plan(xp, n, rows, reduce_by(xp, reduction, z, sample_weight), to_arguments, step)
