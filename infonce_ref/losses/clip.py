"""clip: InfoNCE in both directions between two modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array, Namespace, compute_dtype
from infonce_ref.candidates import Candidates, candidates
from infonce_ref.contrast import Contrasted, MeanOf
from infonce_ref.embed import SIMILARITIES, embed
from infonce_ref.link import softplus_link
from infonce_ref.loss import Loss, Plan, default_block_size
from infonce_ref.losses.views import TWO_SIDED
from infonce_ref.reduction import reduce_by
from infonce_ref.scale import positive_scalar, scalar


class CLIPGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype; None where the argument was not given."""

    image: Array
    text: Array
    negative_texts: Array | None
    negative_images: Array | None
    temperature: Array
    margin: Array


@Loss
def clip(
    image: Array,
    text: Array,
    *,
    negative_texts: Array | None = None,
    negative_images: Array | None = None,
    temperature: float | Array = 0.07,
    similarity: Literal["cosine", "dot"] = "cosine",
    candidate_mask: Array | None = None,
    margin: float | Array = 0.0,
    sample_weight: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    block_size: int | None = None,
) -> Plan[CLIPGrads]:
    r"""CLIP's loss: the mean of InfoNCE from image to text and from text to image.

    .. math:: L_i = \tfrac12 \Bigl(-\log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}}
              - \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}}\Bigr),
              \qquad s_{ij} = \mathrm{sim}(\text{image}_i, \text{text}_j) / \tau

    Clause: clip.mean. For CLIP's parameter log(1/τ) see `temperature_from_logit_scale`.

    Parameters
    ----------
    image, text : array (N, D), float64, float32, float16 or bfloat16, both the same
        Row i of one belongs to row i of the other. Half precision is storage: arithmetic runs in float32.
    negative_texts : array (M, D) or (N, M, D), the same dtype, optional
        More negatives for the images: shared by all (2-D) or each image's own (3-D).
    negative_images : array (M, D) or (N, M, D), the same dtype, optional
        More negatives for the texts, likewise.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.
    similarity : "cosine" or "dot"
        What is compared: the directions, or the rows as they are.
    candidate_mask : bool array (N, N), optional
        False at (i, j) where image i and text j are never negatives of each other, in either direction. On the diagonal
        it is ignored, and explicit negatives are never masked.
    margin : float or 0-d floating array
        m: the positive's similarity becomes sim − m.
    sample_weight : array (N,), ≥ 0, the embeddings' dtype or the compute dtype, optional
        The mean becomes Σ w L / Σ w (0 where Σ w = 0), the sum Σ w L, entry i of "none" w_i L_i. A constant.
    reduction : "mean", "sum" or "none"
        Over the N pairs.
    block_size : int, optional
        Pairs visited at a time: memory grows with block_size × (N + M).

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
    Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision, arXiv:2103.00020,
    fig. 3.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import clip
    >>> image = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(f"{clip(image, image, temperature=0.5):.6f}")  # log(1 + e^{-1/0.5}) in both directions
    0.126928
    """
    xp, columns = checked(
        image, text, negative_texts, negative_images, temperature, similarity, candidate_mask, margin, sample_weight,
        reduction, block_size,
    )  # fmt: skip
    dtype, rows_of = compute_dtype(xp, image), SIMILARITIES[similarity]
    to_text = direction(xp, image, text, negative_texts, candidate_mask, ("image", "text", "negative_texts"))
    transposed = None if candidate_mask is None else xp.matrix_transpose(candidate_mask)  # clip.mask
    to_image = direction(xp, text, image, negative_images, transposed, ("text", "image", "negative_images"))

    u, to_images = embed(xp, image, dtype, rows_of)
    v, to_texts = embed(xp, text, dtype, rows_of)
    more_texts, to_negative_texts = embed(xp, negative_texts, dtype, rows_of)
    more_images, to_negative_images = embed(xp, negative_images, dtype, rows_of)
    tau, to_temperature = positive_scalar(xp, u, temperature)
    m, to_margin = scalar(xp, u, margin)

    def to_arguments(g: Mapping[str, Array]) -> CLIPGrads:
        return CLIPGrads(
            to_images(g["image"]),  # gradient.image
            to_texts(g["text"]),  # gradient.text
            to_negative_texts(g.get("negative_texts")),  # gradient.negative-texts
            to_negative_images(g.get("negative_images")),  # gradient.negative-images
            to_temperature(g["temperature"]),
            to_margin(g["margin"]),
        )

    rows = MeanOf(  # clip.mean clip.negatives
        Contrasted(xp, to_text.layout(u, v, more_texts, softplus_link), tau, m),
        Contrasted(xp, to_image.layout(v, u, more_images, softplus_link), tau, m),
    )
    step = block_size or default_block_size(columns, xp.finfo(dtype).bits)
    return Plan(xp, image.shape[0], rows, reduce_by(xp, reduction, u, sample_weight), to_arguments, step)


def direction(
    xp: Namespace, query: Array, keys: Array, negatives: Array | None, mask: Array | None, names: tuple[str, str, str]
) -> Candidates:
    """Who is who from one side to the other; the mask speaks of the pairs only."""
    return candidates(xp, query, keys, None, True, mask, names)._replace(negative_mask=None)


def checked(
    image: Array, text: Array, negative_texts: Array | None, negative_images: Array | None, temperature: Any,
    similarity: str, candidate_mask: Array | None, margin: Any, sample_weight: Array | None, reduction: str,
    block_size: int | None,
) -> tuple[Namespace, int]:  # fmt: skip
    """The library that all arguments belong to and the most candidates of a row, once nothing is found wrong."""
    more = {"negative_texts": negative_texts, "negative_images": negative_images}
    xp, allowed = checks.arguments(
        {"image": image, "text": text, **checks.given(**more)},
        candidate_mask=candidate_mask, sample_weight=sample_weight, temperature=temperature, margin=margin,
    )  # fmt: skip
    checks.keywords(similarity, reduction, block_size, TWO_SIDED)
    checks.has_shape("image", image, (None, None), "(N, D)")
    n, d = image.shape
    checks.has_shape("text", text, (n, d), "(N, D), a text for every image")
    columns = [checks.negative_keys(x, True, n, d, name) for name, x in more.items()]
    checks.candidate_mask(candidate_mask, (n, n), "(N, N), images by texts")
    checks.sample_weight(sample_weight, n, allowed)
    checks.temperature(xp, temperature, image)
    checks.margin(margin)
    return xp, n + max(columns)
