"""Plans of the plainest calls, made with as little ado as can be: what small batches spend their time on.

Two arrays of unit rows on a processor, a number for the temperature, no option. Who is whose negative, and what the
gradients are called, is the reference's; a call that isn't as plain, or is wrong, isn't planned here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from array_api_compat import array_namespace
from torch import Tensor

from infonce_ref import embed
from infonce_ref.candidates import Candidates
from infonce_ref.contrast import Contrast, Contrasted, MeanOf
from infonce_ref.link import softplus_link
from infonce_ref.loss import Plan, default_block_size
from infonce_ref.losses.clip import CLIPGrads
from infonce_ref.losses.info_nce import InfoNCEGrads
from infonce_ref.losses.views import ViewGrads
from infonce_ref.reduction import Reduction
from infonce_ref.scores import Block, Pair, Rows

Quick: TypeAlias = Callable[[Mapping[str, Any]], "Plan[Any] | None"]

# Norms whose squares neither overflow nor lose digits.
SQUARABLE = {torch.float32: (1e-15, 1e15), torch.float64: (1e-150, 1e150)}
TEMPERATURES = (1e-30, 1e30)
COSINE = ("temperature", "reduction", "similarity")


class UnitPlan(Plan[Any]):
    """A plan whose rows have norm 1, or 0."""


def unit_rows(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The reference's `unit_rows`, in fewer steps where no square is in danger."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    least, largest = torch.aminmax(norm)
    low, high = SQUARABLE[x.dtype]
    if not (low < least.item() and largest.item() < high):
        return embed.unit_rows(array_namespace(x), x)  # similarity.cosine.scale similarity.cosine.zero
    u = x / norm

    def pullback(v: Tensor) -> Tensor:
        return torch.addcmul(v, u, (u * v).sum(-1, keepdim=True), value=-1).div_(norm)

    return u, pullback


def plain_pair(given: Mapping[str, Any], one: str, other: str, temperature: float) -> tuple[Tensor, Tensor] | None:
    """The two arrays of a call that has nothing to it; None for any other."""
    if not given.keys() <= {one, other, *COSINE} or given.get("similarity", "cosine") != "cosine":
        return None
    a, b, tau = given.get(one), given.get(other), given.get("temperature", temperature)
    if not (type(a) in PLAIN and type(b) in PLAIN and type(tau) is float and TEMPERATURES[0] < tau < TEMPERATURES[1]):
        return None
    if a.dtype not in SQUARABLE or b.dtype != a.dtype or a.device.type != "cpu" or b.device.type != "cpu":
        return None
    if a.ndim != 2 or b.shape != a.shape or a.numel() == 0 or given.get("reduction", "mean") not in ("mean", "sum"):
        return None
    return a, b


PLAIN = (Tensor, torch.nn.Parameter)


def plain_reduction(kind: str, rows: int, like: Tensor) -> Reduction:
    if kind == "sum":
        return Reduction(torch.sum, lambda c: like.new_ones(rows) * c)
    return Reduction(torch.mean, lambda c: like.new_full((rows,), 1 / rows) * c)


def numbers(like: Tensor, given: Mapping[str, Any], default: float) -> tuple[Tensor, Tensor]:
    """τ, and a margin of 0."""
    return like.new_full((), given.get("temperature", default)), like.new_zeros(())


def paired(q: Tensor, k: Tensor, names: tuple[str, str, str], tau: Tensor, margin: Tensor) -> Contrasted:
    """Row i of one belongs to row i of the other; the other rows are its negatives."""
    who = Candidates(torch, torch.arange(q.shape[0]), True, True, None, None, names)
    return Contrasted(torch, who.layout(q, k, None, softplus_link), tau, margin)


def unit_plan(
    like: Tensor, rows: Contrasted | MeanOf, n: int, given: Mapping[str, Any], to_arguments: Callable[..., Any]
) -> UnitPlan:
    reduction = plain_reduction(given.get("reduction", "mean"), n, like)
    return UnitPlan(torch, n, rows, reduction, to_arguments, default_block_size(n, 8 * like.element_size()))


def info_nce(given: Mapping[str, Any]) -> Plan[Any] | None:
    pair = plain_pair(given, "query", "positive_key", 0.1)
    if pair is None:
        return None
    (q, to_query), (k, to_keys) = map(unit_rows, pair)
    tau, margin = numbers(q, given, 0.1)

    def to_arguments(g: Mapping[str, Tensor]) -> InfoNCEGrads:
        by_query, by_keys = to_query(g["query"]), to_keys(g["positive_key"])
        return InfoNCEGrads(by_query, by_keys, None, g["temperature"], g["margin"], None, None)

    rows = paired(q, k, ("query", "positive_key", "negative_keys"), tau, margin)
    return unit_plan(q, rows, q.shape[0], given, to_arguments)


def clip(given: Mapping[str, Any]) -> Plan[Any] | None:
    pair = plain_pair(given, "image", "text", 0.07)
    if pair is None:
        return None
    (u, to_image), (v, to_text) = map(unit_rows, pair)
    tau, margin = numbers(u, given, 0.07)

    def to_arguments(g: Mapping[str, Tensor]) -> CLIPGrads:
        return CLIPGrads(to_image(g["image"]), to_text(g["text"]), None, None, g["temperature"], g["margin"])

    rows = MeanOf(
        paired(u, v, ("image", "text", "negative_texts"), tau, margin),
        paired(v, u, ("text", "image", "negative_images"), tau, margin),
    )
    return unit_plan(u, rows, u.shape[0], given, to_arguments)


def nt_xent(given: Mapping[str, Any]) -> Plan[Any] | None:
    pair = plain_pair(given, "view_a", "view_b", 0.1)
    if pair is None:
        return None
    n = pair[0].shape[0]
    u, to_views = unit_rows(torch.cat(pair))
    partners, number = u.roll(n, 0), torch.arange(2 * n)
    partner = number.roll(n)
    tau, margin = numbers(u, given, 0.1)

    def layout(lo: int, hi: int) -> Contrast:
        anchors = Rows("views", u[lo:hi], by_row=True)
        others = Block(anchors, Rows("views", u), never=(number[lo:hi], partner[lo:hi]))
        return Contrast(Pair(anchors, Rows("partners", partners[lo:hi], by_row=True)), [others], softplus_link)

    def to_arguments(g: Mapping[str, Tensor]) -> ViewGrads:
        both = to_views(g["views"] + g["partners"].roll(n, 0))
        return ViewGrads(both[:n], both[n:], g["temperature"], g["margin"])

    return unit_plan(u, Contrasted(torch, layout, tau, margin), 2 * n, given, to_arguments)
