"""sup_con: every row of the same label is a positive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array, Namespace, column, compute_dtype, row_numbers
from infonce_ref.candidates import any_pair
from infonce_ref.contrast import ContrastedMany, Many
from infonce_ref.embed import SIMILARITIES, embed
from infonce_ref.link import inside_link, outside_link, sincere_link
from infonce_ref.loss import Loss, Plan, default_block_size
from infonce_ref.losses.views import TWO_SIDED
from infonce_ref.reduction import reduce_by
from infonce_ref.scale import positive_scalar, scalar
from infonce_ref.scores import Block, Rows

VARIANTS = {"out": outside_link, "in": inside_link, "sincere": sincere_link}  # sup-con.domain


class SupConGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype; None where the argument was not given."""

    features: Array
    keys: Array | None
    temperature: Array
    margin: Array


@Loss
def sup_con(
    features: Array,
    labels: Array,
    keys: Array | None = None,
    key_labels: Array | None = None,
    *,
    temperature: float | Array = 0.1,
    variant: Literal["out", "in", "sincere"] = "out",
    similarity: Literal["cosine", "dot"] = "cosine",
    candidate_mask: Array | None = None,
    margin: float | Array = 0.0,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[SupConGrads]:
    r"""Supervised contrastive loss: each row picks the rows of its label out of all others.

    .. math:: L_i^{out} = -\frac{1}{|P_i|} \sum_{p \in P_i} \log \frac{e^{s_{ip}}}{\sum_{a \ne i} e^{s_{ia}}}, \qquad
              L_i^{in} = -\log \frac{1}{|P_i|} \sum_{p \in P_i} \frac{e^{s_{ip}}}{\sum_{a \ne i} e^{s_{ia}}}, \qquad
              L_i^{sincere} = -\frac{1}{|P_i|} \sum_{p \in P_i} \log \frac{e^{s_{ip}}}{e^{s_{ip}} +
              \sum_{n \notin P_i} e^{s_{in}}}

    Out is never less than in; with one positive each all three are `nt_xent`. A row that has no positive contributes
    nothing and isn't counted in the mean. No factor τ / base_temperature. Clauses: sup-con.out, sup-con.in,
    sup-con.sincere.

    Parameters
    ----------
    features : array (B, D), float64, float32, float16 or bfloat16
        One anchor a row. Half precision is storage: arithmetic runs in float32.
    labels : integer array (B,)
        The label of every row.
    keys : array (K, D), the features' dtype, optional
        What the anchors are compared with (UniCL, SupMoCo); without them the features, each but itself.
    key_labels : integer array (K,)
        The label of every key; with `keys` only.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.
    variant : "out", "in" or "sincere"
        Which of the three formulas.
    similarity : "cosine" or "dot"
        What is compared: the directions, or the rows as they are.
    candidate_mask : bool array (B, B), or (B, K) with `keys`, optional
        False where a row or key is never a negative of the anchor. On positives it is ignored.
    margin : float or 0-d floating array
        m: the positives' similarities become sim − m.
    sample_weight : array (B,), ≥ 0, the features' dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w over the anchors that count, the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the anchors.
    block_size : int, optional
        Anchors visited at a time: memory grows with block_size × B (or K).

    Returns
    -------
    loss : 0-d array, or (B,) for reduction="none"
        In the compute dtype: float64 for float64, else float32. In nats.

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape or Python scalar. The message ends with the clause that says so.

    References
    ----------
    Khosla et al. 2020, Supervised Contrastive Learning, arXiv:2004.11362, eq. 2 and 3; Feeney, Hughes 2023, SINCERE:
    Supervised Information Noise-Contrastive Estimation REvisited, arXiv:2309.14277.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import sup_con
    >>> features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> print(f"{sup_con(features, np.array([0, 0, 1, 1]), temperature=0.5):.6f}")  # log(1 + 2 e^{-1/0.5})
    0.239545
    """
    xp, columns = checked(
        features, labels, keys, key_labels, temperature, variant, similarity, candidate_mask, margin, sample_weight,
        reduction, block_size,
    )  # fmt: skip
    dtype, rows_of, b = compute_dtype(xp, features), SIMILARITIES[similarity], features.shape[0]
    step = block_size or default_block_size(columns, xp.finfo(dtype).bits)
    number = row_numbers(xp, features)

    def same(lo: int, hi: int) -> Array:
        """(rows, K) bool: of the same label."""
        return (labels if key_labels is None else key_labels)[None, :] == column(labels[lo:hi])

    def positive(lo: int, hi: int) -> Array:
        """(rows, K) bool: of the same label, and not the anchor itself."""
        if keys is not None:
            return same(lo, hi)  # sup-con.keys
        return same(lo, hi) & (number[None, :] != column(number[lo:hi]))  # sup-con.positives sup-con.self

    def keep(lo: int, hi: int) -> Array:
        """(rows, K) bool: of another label, less what the mask takes out."""
        return ~same(lo, hi) if candidate_mask is None else ~same(lo, hi) & candidate_mask[lo:hi, ...]

    def takes_part(lo: int, hi: int) -> Array:
        return positive(lo, hi) | keep(lo, hi)

    used = None if keys is None or candidate_mask is None else any_pair(xp, takes_part, b, step, axis=0)
    u, to_features = embed(xp, features, dtype, rows_of)
    v, to_keys = embed(xp, keys, dtype, rows_of, used)
    tau, to_temperature = positive_scalar(xp, u, temperature)
    m, to_margin = scalar(xp, u, margin)
    others = Rows("features", u) if keys is None else Rows("keys", v)

    def layout(lo: int, hi: int) -> Many:
        ours = positive(lo, hi)
        block = Block(Rows("features", u[lo:hi, ...], by_row=True), others, keep(lo, hi), ours)
        return Many(block, VARIANTS[variant], ours)

    def to_arguments(g: Mapping[str, Array]) -> SupConGrads:
        return SupConGrads(
            to_features(g["features"]),  # gradient.features
            to_keys(g.get("keys")),  # gradient.keys
            to_temperature(g["temperature"]),
            to_margin(g["margin"]),
        )

    counted = any_pair(xp, positive, b, step, axis=-1)
    rows = ContrastedMany(xp, layout, tau, m)
    return Plan(xp, b, rows, reduce_by(xp, reduction, u, sample_weight, counted), to_arguments, step)


def checked(
    features: Array, labels: Array, keys: Array | None, key_labels: Array | None, temperature: Any, variant: str,
    similarity: str, candidate_mask: Array | None, margin: Any, sample_weight: Array | None, reduction: str,
    block_size: int | None,
) -> tuple[Namespace, int]:  # fmt: skip
    """The library that all arguments belong to and the number of keys, once nothing is found wrong."""
    xp, allowed = checks.arguments(
        {"features": features, **checks.given(keys=keys)}, labels=labels, key_labels=key_labels,
        candidate_mask=candidate_mask, sample_weight=sample_weight, temperature=temperature, margin=margin,
    )  # fmt: skip
    checks.keywords(similarity, reduction, block_size, TWO_SIDED)
    checks.one_of("variant", variant, tuple(VARIANTS), "sup-con.domain")
    checks.has_shape("features", features, (None, None), "(B, D)")
    b, d = features.shape
    checks.index("labels", xp, labels, b, "sup-con.domain")
    if (keys is None) != (key_labels is None):
        missing = "keys" if keys is None else "key_labels"
        raise ValueError(f"keys and key_labels must be given together, got no {missing} [sup-con.domain]")
    if keys is not None and key_labels is not None:
        checks.has_shape("keys", keys, (None, d), "(K, D)")
        checks.index("key_labels", xp, key_labels, keys.shape[0], "sup-con.domain")
    columns = b if keys is None else keys.shape[0]
    checks.candidate_mask(candidate_mask, (b, columns), "(B, B), or (B, K) with keys")
    checks.sample_weight(sample_weight, b, allowed)
    checks.temperature(xp, temperature, features)
    checks.margin(margin)
    return xp, columns
