"""Two views of N items as 2N rows: each is an anchor, the other view its positive, everything else its negatives.

The layout of nt_xent, dcl, debiased and hard_negative. Rows and columns: view_a first, then view_b.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from infonce_ref import checks
from infonce_ref.arrays import Array, Namespace, compute_dtype, row_numbers
from infonce_ref.candidates import any_pair
from infonce_ref.contrast import Contrast, Contrasted, negatives_of
from infonce_ref.embed import SIMILARITIES, embed
from infonce_ref.link import Link
from infonce_ref.loss import Plan, default_block_size
from infonce_ref.reduction import reduce_by
from infonce_ref.scale import positive_scalar, scalar
from infonce_ref.scores import Block, Pair, Rows

G = TypeVar("G")

TWO_SIDED = ("cosine", "dot")  # the similarities of losses in which one array stands on both sides


class ViewGrads(NamedTuple):
    """∂loss/∂argument, shaped as the argument and in its dtype."""

    view_a: Array
    view_b: Array
    temperature: Array
    margin: Array


def swapped(xp: Namespace, rows: Array) -> Array:
    """The rows of the other view: 2N rows, their halves exchanged."""
    n = rows.shape[0] // 2
    return xp.concat([rows[n:, ...], rows[:n, ...]], axis=0)


def two_views(
    view_a: Array,
    view_b: Array,
    temperature: float | Array,
    margin: float | Array,
    similarity: str,
    candidate_mask: Array | None,
    sample_weight: Array | None,
    reduction: str,
    block_size: int | None,
    link_of: Callable[[Namespace, Array], Callable[[int, int], Link]],
    result: Callable[..., G],
    level: float | None = None,
    needs_negative: bool = False,
) -> Plan[G]:
    """The plan of a loss whose link, for rows lo … hi − 1, `link_of` makes from all the embedded rows."""
    xp = checked(view_a, view_b, temperature, margin, similarity, candidate_mask, sample_weight, reduction, block_size)
    n, dtype = view_a.shape[0], compute_dtype(xp, view_a)
    step = block_size or default_block_size(2 * n, xp.finfo(dtype).bits)
    u, to_views = embed(xp, xp.concat([view_a, view_b], axis=0), dtype, SIMILARITIES[similarity])
    partners, links = swapped(xp, u), link_of(xp, u)
    tau, to_temperature = positive_scalar(xp, u, temperature)
    m, to_margin = scalar(xp, u, margin)
    number = row_numbers(xp, u)
    partner = swapped(xp, number)

    def layout(lo: int, hi: int) -> Contrast:
        anchors = Rows("views", u[lo:hi, ...], by_row=True)
        pair = Pair(anchors, Rows("partners", partners[lo:hi, ...], by_row=True))
        mask = None if candidate_mask is None else candidate_mask[lo:hi, ...]  # nt-xent.mask
        others = Block(anchors, Rows("views", u), mask, never=(number[lo:hi], partner[lo:hi]))
        return Contrast(pair, [others], links(lo, hi))  # nt-xent.rows

    def to_arguments(g: Mapping[str, Array]) -> G:
        both = to_views(g["views"] + swapped(xp, g["partners"]))  # gradient.view-a gradient.view-b
        grads = {"temperature": to_temperature(g["temperature"]), "margin": to_margin(g["margin"])}
        return result(both[:n, ...], both[n:, ...], **grads)

    def negatives(lo: int, hi: int) -> Array:
        return negatives_of(xp, layout(lo, hi))

    counted = any_pair(xp, negatives, 2 * n, step, axis=-1) if needs_negative else None
    rows = Contrasted(xp, layout, tau, m, level)
    return Plan(xp, 2 * n, rows, reduce_by(xp, reduction, u, sample_weight, counted), to_arguments, step)


def checked(
    view_a: Array, view_b: Array, temperature: Any, margin: Any, similarity: str, candidate_mask: Array | None,
    sample_weight: Array | None, reduction: str, block_size: int | None,
) -> Namespace:  # fmt: skip
    """The library that all arguments belong to, once nothing is found wrong."""
    xp, allowed = checks.arguments(
        {"view_a": view_a, "view_b": view_b},
        candidate_mask=candidate_mask, sample_weight=sample_weight, temperature=temperature, margin=margin,
    )  # fmt: skip
    checks.keywords(similarity, reduction, block_size, TWO_SIDED)
    checks.has_shape("view_a", view_a, (None, None), "(N, D)")
    n, d = view_a.shape
    checks.has_shape("view_b", view_b, (n, d), "(N, D), the other view of every row")
    checks.candidate_mask(candidate_mask, (2 * n, 2 * n), "(2N, 2N), view_a's rows first")
    checks.sample_weight(sample_weight, 2 * n, allowed)
    checks.temperature(xp, temperature, view_a)
    checks.margin(margin)
    return xp
