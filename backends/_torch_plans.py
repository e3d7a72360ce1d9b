"""Plans of the plainest calls, made with as little ado as can be: what small batches spend their time on.

Two arrays of unit rows on a processor, a number for the temperature, no option. Who is whose negative, and what the
gradients are called, is the reference's; a call that isn't as plain, or is wrong, isn't planned here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from array_api_compat import array_namespace
from torch import Tensor

from infonce_ref import embed
from infonce_ref.backends._plans import TEMPERATURES
from infonce_ref.backends._torch_tiles import LARGEST_UNSHIFTED
from infonce_ref.backends._torch_unit import BothWays, OneWay, Views
from infonce_ref.candidates import Candidates
from infonce_ref.contrast import Contrasted, MeanOf
from infonce_ref.link import softplus_link
from infonce_ref.loss import Plan, default_block_size
from infonce_ref.losses.clip import CLIPGrads
from infonce_ref.losses.info_nce import InfoNCEGrads
from infonce_ref.losses.views import ViewGrads
from infonce_ref.reduction import Reduction

# Norms whose squares neither overflow nor lose digits.
SQUARABLE = {torch.float32: (1e-15, 1e15), torch.float64: (1e-150, 1e150)}
COSINE = ("temperature", "reduction", "similarity")


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


def plain_pair(given: Mapping[str, Any], one: str, other: str) -> tuple[Tensor, Tensor] | None:
    """The two arrays of a call that has nothing to it; None for any other."""
    if not given.keys() <= {one, other, *COSINE} or given.get("similarity", "cosine") != "cosine":
        return None
    a: Any = given.get(one)
    b: Any = given.get(other)
    if type(a) not in PLAIN or type(b) not in PLAIN:
        return None
    if a.dtype not in SQUARABLE or b.dtype != a.dtype or a.device.type != "cpu" or b.device.type != "cpu":
        return None
    if a.ndim != 2 or b.shape != a.shape or a.numel() == 0 or given.get("reduction", "mean") not in ("mean", "sum"):
        return None
    return a, b


def plain_temperature(given: Mapping[str, Any], default: float, like: Tensor) -> tuple[float, torch.dtype] | None:
    """τ rounded to the dtype of `like`, and the dtype of its gradient; None where more is to be said about it."""
    tau: Any = given.get("temperature", default)
    dtype = like.dtype
    if type(tau) in PLAIN and tau.ndim == 0 and tau.dtype in SQUARABLE and tau.device.type == "cpu":
        tau, dtype = tau.to(like.dtype).item(), tau.dtype
    if type(tau) is not float or not TEMPERATURES[0] < tau < TEMPERATURES[1]:
        return None
    return tau, dtype


PLAIN = (Tensor, torch.nn.Parameter)


def plain_reduction(kind: str, rows: int, like: Tensor) -> Reduction:
    if kind == "sum":
        return Reduction(torch.sum, lambda c: like.new_ones(rows) * c)

    def even(c: Any) -> Tensor:
        return like.new_full((rows,), c / rows) if isinstance(c, float) else like.new_full((rows,), 1 / rows) * c

    return Reduction(torch.mean, even)


def paired(q: Tensor, k: Tensor, names: tuple[str, str, str], tau: Tensor, margin: Tensor) -> Contrasted:
    """Row i of one belongs to row i of the other; the other rows are its negatives."""
    who = Candidates(torch, torch.arange(q.shape[0]), True, True, None, None, names)
    return Contrasted(torch, who.layout(q, k, None, softplus_link), tau, margin)


def numbers(like: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """τ, and a margin of 0."""
    return like.new_full((), tau), like.new_zeros(())


def moderate(tau: float, like: Tensor) -> bool:
    """No exponential of a score comes near the limits of its dtype, nor the sum of two rows of them."""
    return 1 / tau + math.log(2 * len(like)) < LARGEST_UNSHIFTED[like.dtype]


def unit_plan(n: int, like: Tensor, rows: Any, given: Mapping[str, Any], to_arguments: Callable[..., Any]) -> Plan[Any]:
    reduction = plain_reduction(given.get("reduction", "mean"), n, like)
    return Plan(torch, n, rows, reduction, to_arguments, default_block_size(n, 8 * like.element_size()))


def info_nce(given: Mapping[str, Any]) -> Plan[Any] | None:
    pair = plain_pair(given, "query", "positive_key")
    temperature = plain_temperature(given, 0.1, pair[0]) if pair is not None else None
    if pair is None or temperature is None:
        return None
    tau, dtype = temperature
    (q, to_query), (k, to_keys) = map(unit_rows, pair)

    def to_arguments(g: Mapping[str, Tensor]) -> InfoNCEGrads:
        by_query, by_keys = to_query(g["query"]), to_keys(g["positive_key"])
        return InfoNCEGrads(by_query, by_keys, None, g["temperature"].to(dtype), g["margin"], None, None)

    names = ("query", "positive_key", "negative_keys")
    rows = OneWay(q, k, tau, names[:2]) if moderate(tau, q) else paired(q, k, names, *numbers(q, tau))
    return unit_plan(len(q), q, rows, given, to_arguments)


def clip(given: Mapping[str, Any]) -> Plan[Any] | None:
    pair = plain_pair(given, "image", "text")
    temperature = plain_temperature(given, 0.07, pair[0]) if pair is not None else None
    if pair is None or temperature is None:
        return None
    tau, dtype = temperature
    (u, to_image), (v, to_text) = map(unit_rows, pair)

    def to_arguments(g: Mapping[str, Tensor]) -> CLIPGrads:
        return CLIPGrads(to_image(g["image"]), to_text(g["text"]), None, None, g["temperature"].to(dtype), g["margin"])

    if moderate(tau, u):
        return unit_plan(len(u), u, BothWays(u, v, tau, ("image", "text")), given, to_arguments)
    tau_and_margin = numbers(u, tau)
    rows = MeanOf(
        paired(u, v, ("image", "text", "negative_texts"), *tau_and_margin),
        paired(v, u, ("text", "image", "negative_images"), *tau_and_margin),
    )
    return unit_plan(len(u), u, rows, given, to_arguments)


def nt_xent(given: Mapping[str, Any]) -> Plan[Any] | None:
    pair = plain_pair(given, "view_a", "view_b")
    temperature = plain_temperature(given, 0.1, pair[0]) if pair is not None else None
    if pair is None or temperature is None:
        return None
    tau, dtype = temperature
    (a, to_a), (b, to_b) = map(unit_rows, pair)
    if not moderate(tau, a):
        return None

    def to_arguments(g: Mapping[str, Tensor]) -> ViewGrads:
        return ViewGrads(to_a(g["view_a"]), to_b(g["view_b"]), g["temperature"].to(dtype), g["margin"])

    return unit_plan(2 * len(a), a, Views(a, b, tau), given, to_arguments)
