"""Fresh problems of the losses beyond info_nce: each one drawn plainly, and with what else it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.problem import Problem

if TYPE_CHECKING:
    from infonce_ref.conformance.fresh import Draw

Arrays = dict[str, np.ndarray]


# --- the arrays of each loss -----------------------------------------------------------------------------------------


def two(left: str, right: str) -> Callable[[Draw], Arrays]:
    """Two related matrices."""

    def draw(d: Draw) -> Arrays:
        rows = d.normal(d.size(2, 5), d.size(2, 6))
        return {left: rows, right: d.near(rows, 0.7)}

    return draw


def queued(d: Draw) -> Arrays:
    arrays = two("query", "positive_key")(d)
    return arrays | {"queue": d.normal(d.size(1, 5), arrays["query"].shape[1])}


def bags(d: Draw) -> Arrays:
    n, b, width = d.size(2, 4), d.size(1, 3), d.size(2, 5)
    return {"query": d.normal(n, width), "positive_bags": d.normal(n, b, width)}


def soft(d: Draw) -> Arrays:
    """Targets in eighths: every format holds them, and their sums are exactly 1."""
    n, k, width = d.size(2, 4), d.size(2, 5), d.size(2, 5)
    targets = np.zeros((n, k))
    for i in range(n):
        for _ in range(8):
            targets[i, d.size(0, k - 1)] += 0.125
    return {"query": d.normal(n, width), "keys": d.normal(k, width), "targets": targets}


def labelled(d: Draw) -> Arrays:
    features = d.normal(d.size(4, 7), d.size(2, 5))
    return {"features": features, "labels": labels(d, len(features))}


def two_labelled(d: Draw) -> Arrays:
    arrays = labelled(d)
    keys = d.normal(d.size(3, 6), arrays["features"].shape[1])
    return arrays | {"keys": keys, "key_labels": labels(d, len(keys))}


def labels(d: Draw, count: int) -> np.ndarray:
    return np.array([d.size(0, 2) for _ in range(count)])


def scores(d: Draw) -> Arrays:
    n = d.size(2, 4)
    return {"logits": d.normal(n, n + d.size(0, 3))}


ARRAYS: Mapping[str, Callable[[Draw], Arrays]] = {
    "info_nce_from_logits": scores,
    "clip": two("image", "text"),
    "nt_xent": two("view_a", "view_b"),
    "dcl": two("view_a", "view_b"),
    "debiased": two("view_a", "view_b"),
    "hard_negative": two("view_a", "view_b"),
    "moco": queued,
    "gte": two("query", "document"),
    "mil_nce": bags,
    "soft_nce": soft,
    "sup_con": labelled,
    "siglip": two("image", "text"),
    "triplet": two("query", "positive_key"),
    "n_pair": two("query", "positive_key"),
    "matryoshka": two("query", "positive_key"),
}

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "debiased": {"prior": 0.125},
    "hard_negative": {"prior": 0.125, "beta": 0.75},
}


def plain(
    loss: str, d: Draw, low: float = -1.0, high: float = 0.3, arrays: Arrays | None = None, **more: Any
) -> Problem:
    """A problem of `loss` at a temperature between 10^low and 10^high, if it has one."""
    known = LOSSES[loss]
    fields: dict[str, Any] = {"options": dict(OPTIONS.get(loss, {}))}
    if loss == "siglip":
        fields["bias"] = float(d.rounded(d.source.uniform(-4.0, 1.0)))
    if loss == "triplet":
        fields["margin"] = float(d.rounded(d.source.uniform(0.05, 0.5)))
    if known.similarities == ("dot",):
        fields["similarity"] = "dot"
    temperature = d.temperature(low, high) if "temperature" in known.scalars else 1.0
    arrays = arrays or ARRAYS[loss](d)
    if loss == "matryoshka":
        fields["options"] = {"dims": dims(d, arrays["query"].shape[1])}
    return Problem(d.dtype, arrays, temperature, loss=loss, **{**fields, **more})


def dims(d: Draw, width: int) -> list[int]:
    """One to three lengths in any order; a length may come twice."""
    return [d.size(1, width) for _ in range(d.size(1, 3))]


# --- what else each is asked -----------------------------------------------------------------------------------------

Drawn = tuple[str, str, int, Callable[["Draw"], Problem]]  # kind, profile, how many, how


def kinds(loss: str) -> Iterator[Drawn]:
    """Every kind of fresh problem of `loss`."""
    known = LOSSES[loss]
    yield "plain", "core", 3, lambda d: plain(loss, d)
    if "temperature" in known.scalars and loss not in ("debiased", "hard_negative"):
        yield "sharp", "core", 2, lambda d: plain(loss, d, -2.5, -1.5)
    if len(known.similarities) > 1 and not known.required:  # of inner products the debiased ones may have no value
        yield "dot", "variants", 1, lambda d: plain(loss, d, -0.3, 0.7, similarity="dot")
    if "margin" in known.scalars and loss != "triplet":
        yield "margin", "variants", 1, lambda d: plain(loss, d, margin=float(d.rounded(d.source.uniform(0.02, 0.5))))
    yield "sum", "variants", 1, lambda d: plain(loss, d, reduction="sum")
    yield "none", "variants", 1, lambda d: plain(loss, d, reduction="none")
    yield "weighted", "variants", 1, lambda d: weighted(plain(loss, d), d)
    if "candidate_mask" in known.optional and loss != "soft_nce":
        yield "masked", "masks", 2, lambda d: masked(plain(loss, d), d)
    yield from own_kinds(loss)


def own_kinds(loss: str) -> Iterator[Drawn]:
    """What only this loss has."""
    if loss == "dcl":
        yield "weighted-positive", "variants", 2, lambda d: plain(loss, d, options={"sigma": 0.5})
    if loss == "mil_nce":
        yield "symmetric", "variants", 2, lambda d: plain(loss, d, options={"symmetric": True})
    if loss == "sup_con":
        yield "two-arrays", "variants", 2, lambda d: plain(loss, d, arrays=two_labelled(d))
        yield "in", "variants", 2, lambda d: plain(loss, d, options={"variant": "in"})
        yield "sincere", "variants", 2, lambda d: plain(loss, d, options={"variant": "sincere"})
    if loss == "clip":
        yield "hard-negatives", "negatives", 2, hard_clip
    if loss == "triplet":
        yield "own", "negatives", 2, own_negatives(loss, in_batch_negatives=False)
    if loss == "matryoshka":
        yield "weights", "variants", 2, weighted_dims
        yield "own", "negatives", 2, own_negatives(loss)
    if loss == "info_nce_from_logits":
        yield "index", "variants", 2, indexed


def weighted(p: Problem, d: Draw) -> Problem:
    return with_arrays(p, sample_weight=d.rounded([d.source.uniform(0.0, 2.0) for _ in range(p.rows)]))


def masked(p: Problem, d: Draw) -> Problem:
    return with_arrays(p, candidate_mask=d.mask(p.rows, columns(p)).reshape(mask_shape(p)))


def columns(p: Problem) -> int:
    return int(np.prod(mask_shape(p)[1:]))


def mask_shape(p: Problem) -> tuple[int, ...]:
    """The shape of a candidate_mask for the problem."""
    n = p.rows
    if p.loss == "gte":
        return n, 4 * n
    if p.loss == "mil_nce":
        return n, *p.arrays["positive_bags"].shape[:2]
    if p.loss == "info_nce_from_logits":
        return n, p.arrays["logits"].shape[1]
    return n, n


def with_arrays(p: Problem, **arrays: np.ndarray) -> Problem:
    fields = {name: getattr(p, name) for name in ("dtype", "temperature", "loss", "margin", "bias", "similarity")}
    return Problem(arrays={**p.arrays, **arrays}, options=p.options, reduction=p.reduction, **fields)


def hard_clip(d: Draw) -> Problem:
    p = plain("clip", d)
    n, width = p.arrays["image"].shape
    more = {"negative_texts": d.normal(d.size(1, 3), width), "negative_images": d.normal(n, d.size(1, 2), width)}
    return with_arrays(p, **more)


def own_negatives(loss: str, **more: Any) -> Callable[[Draw], Problem]:
    """Negatives of each query's own."""

    def draw(d: Draw) -> Problem:
        arrays = two("query", "positive_key")(d)
        n, width = arrays["query"].shape
        arrays["negative_keys"] = d.normal(n, d.size(1, 3), width)
        return plain(loss, d, arrays=arrays, **more)

    return draw


def weighted_dims(d: Draw) -> Problem:
    p = plain("matryoshka", d)
    weights = d.rounded([d.source.uniform(0.125, 2.0) for _ in p.option("dims")])
    return replace(p, options={**p.options, "weights": weights.tolist()})


def indexed(d: Draw) -> Problem:
    arrays = scores(d)
    n, c = arrays["logits"].shape
    return plain(
        "info_nce_from_logits", d, arrays=arrays | {"positive_index": np.array([d.size(0, c - 1) for _ in range(n)])}
    )
