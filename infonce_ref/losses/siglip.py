"""siglip: a sigmoid for every pair, for comparison: no softmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array, column, compute_dtype, row_numbers
from infonce_ref.contrast import ContrastedMany, Many
from infonce_ref.embed import SIMILARITIES, embed
from infonce_ref.link import pairs_link
from infonce_ref.loss import Loss, Plan, default_block_size
from infonce_ref.losses.views import TWO_SIDED
from infonce_ref.reduction import reduce_by
from infonce_ref.scale import positive_scalar, scalar
from infonce_ref.scores import Block, Rows


class SigLIPGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype."""

    image: Array
    text: Array
    temperature: Array
    bias: Array


@Loss
def siglip(
    image: Array,
    text: Array,
    *,
    temperature: float | Array = 0.1,
    bias: float | Array = -10.0,
    similarity: Literal["cosine", "dot"] = "cosine",
    candidate_mask: Array | None = None,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[SigLIPGrads]:
    r"""SigLIP's loss: every pair of an image and a text classified by itself, as belonging together or not.

    .. math:: L_i = \sum_j \operatorname{softplus}\bigl(-y_{ij} (s_{ij} + b)\bigr), \qquad y_{ij} = 1 \text{ if } i = j
              \text{ else } -1, \qquad s_{ij} = \mathrm{sim}(\text{image}_i, \text{text}_j) / \tau

    The mean is over the N images, not over the N² pairs. Clause: siglip.rows.

    Parameters
    ----------
    image, text : array (N, D), float64, float32, float16 or bfloat16, both the same
        Row i of one belongs to row i of the other. Half precision is storage: arithmetic runs in float32.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.
    bias : float or 0-d floating array
        b, added to every logit. The default is the paper's initial value.
    similarity : "cosine" or "dot"
        What is compared: the directions, or the rows as they are.
    candidate_mask : bool array (N, N), optional
        False where image i and text j are no negative pair. On the diagonal it is ignored.
    sample_weight : array (N,), ≥ 0, the embeddings' dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w (0 where Σ w = 0), the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the N images.
    block_size : int, optional
        Images visited at a time: memory grows with block_size × N.

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
    Zhai, Mustafa, Kolesnikov, Beyer 2023, Sigmoid Loss for Language Image Pre-Training, arXiv:2303.15343, eq. 1.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import siglip
    >>> image = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(f"{siglip(image, image, temperature=0.5, bias=-1.0):.6f}")  # softplus(-(2 - 1)) + softplus(0 - 1)
    0.626523
    """
    xp, allowed = checks.arguments(
        {"image": image, "text": text},
        candidate_mask=candidate_mask, sample_weight=sample_weight, temperature=temperature, bias=bias,
    )  # fmt: skip
    checks.keywords(similarity, reduction, block_size, TWO_SIDED)
    checks.has_shape("image", image, (None, None), "(N, D)")
    n, d = image.shape
    checks.has_shape("text", text, (n, d), "(N, D), a text for every image")
    checks.candidate_mask(candidate_mask, (n, n), "(N, N), images by texts")
    checks.sample_weight(sample_weight, n, allowed)
    checks.temperature(xp, temperature, image)
    checks.finite("bias", bias, "scale.bias")

    dtype, rows_of = compute_dtype(xp, image), SIMILARITIES[similarity]
    u, to_image = embed(xp, image, dtype, rows_of)
    v, to_text = embed(xp, text, dtype, rows_of)
    tau, to_temperature = positive_scalar(xp, u, temperature)
    b, to_bias = scalar(xp, u, bias)
    number = row_numbers(xp, u)

    def layout(lo: int, hi: int) -> Many:
        positive = number[None, :] == column(number[lo:hi])
        keep = ~positive if candidate_mask is None else ~positive & candidate_mask[lo:hi, ...]
        anchors, texts = Rows("image", u[lo:hi, ...], by_row=True), Rows("text", v)
        everywhere = Rows("bias", xp.zeros_like(v[:, :1]) + b, scatter=xp.sum)  # scale.bias gradient.bias
        return Many(Block(anchors, texts, keep, positive, everywhere), pairs_link)

    def to_arguments(g: Mapping[str, Array]) -> SigLIPGrads:
        return SigLIPGrads(
            to_image(g["image"]), to_text(g["text"]), to_temperature(g["temperature"]), to_bias(g["bias"])
        )

    step = block_size or default_block_size(n, xp.finfo(dtype).bits)
    rows = ContrastedMany(xp, layout, tau)
    return Plan(xp, n, rows, reduce_by(xp, reduction, u, sample_weight), to_arguments, step)
