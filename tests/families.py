"""Small problems of every loss of the family, the edges among them; inputs are multiples of 1/16, as in problems.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from infonce_ref.conformance.bounds import Level, bound, flushed
from infonce_ref.conformance.oracle import Answer, definition
from infonce_ref.conformance.problem import FORMATS, Problem
from tests.problems import grid

N, D = 4, 3
SHARED = ("queue", "keys")  # what has no row for each query
ROWS = {"nt_xent": 2, "dcl": 2, "debiased": 2, "hard_negative": 2}  # rows of the loss for each of the first array's


def mask(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).random(shape) < 0.6


def make(
    loss: str, seed: int, arrays: Mapping[str, Any], options: Mapping[str, Any] | None = None, **rest: Any
) -> Problem:
    """A problem; a tuple in place of an array is the shape of a random one."""
    rng = np.random.default_rng(seed)
    made = {name: grid(rng, *x) if isinstance(x, tuple) else np.asarray(x) for name, x in arrays.items()}
    return Problem("float64", made, **{"temperature": 0.5, **rest}, loss=loss, options=options or {})


PAIR = {"query": (N, D), "positive_key": (N, D)}
VIEWS = {"view_a": (N, D), "view_b": (N, D)}
IMAGES = {"image": (N, D), "text": (N, D)}
DOCUMENTS = {"query": (N, D), "document": (N, D)}
NESTED = {"query": (N, 4), "positive_key": (N, 4)}
OWN_NESTED = NESTED | {"negative_keys": (N, 2, 4)}
BAGS = {"query": (N, D), "positive_bags": (N, 2, D)}
TARGETS = [[0.5, 0.25, 0.25, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0.125, 0.125, 0.25, 0.25, 0.25]]
SOFT = {"query": (N, D), "keys": (5, D), "targets": TARGETS}
FEATURES = {"features": (6, D), "labels": [0, 1, 0, 2, 1, 0]}
TWO_ARRAYS = {"features": (N, D), "labels": [0, 1, 3, 1], "keys": (5, D), "key_labels": [0, 1, 1, 2, 0]}
WEIGHTS = [1.0, 0.5, 0.0, 2.0]
SIX = [1.0, 0.5, 0.0, 2.0, 0.25, 1.5]
UNIT = {"temperature": 1.0}  # of the losses without one

# what each loss is asked, beside what all are
SPECIAL: Mapping[str, Mapping[str, Problem]] = {
    "clip": {
        "plain": make("clip", 1, IMAGES),
        "hard negatives": make("clip", 2, IMAGES | {"negative_texts": (2, D), "negative_images": (N, 2, D)}),
        "margin": make("clip", 3, IMAGES, margin=0.25, similarity="dot"),
    },
    "nt_xent": {"plain": make("nt_xent", 4, VIEWS), "margin": make("nt_xent", 5, VIEWS, margin=0.25, similarity="dot")},
    "dcl": {
        "plain": make("dcl", 6, VIEWS),
        "weighted": make("dcl", 7, VIEWS, {"sigma": 0.5}, margin=0.25),
        "weighted, masked": make("dcl", 8, VIEWS | {"candidate_mask": mask(8, 8)}, {"sigma": 2.0}, similarity="dot"),
    },
    "debiased": {
        "plain": make("debiased", 9, VIEWS, {"prior": 0.125}),
        "prior 0": make("debiased", 10, VIEWS, {"prior": 0.0}, similarity="dot"),
        "floored": make("debiased", 11, VIEWS, {"prior": 0.5}, temperature=0.25),
    },
    "hard_negative": {
        "plain": make("hard_negative", 12, VIEWS, {"prior": 0.125, "beta": 1.0}),
        "beta 0": make("hard_negative", 13, VIEWS, {"prior": 0.25, "beta": 0.0}),
        "floored": make("hard_negative", 14, VIEWS, {"prior": 0.75, "beta": 0.5}, temperature=0.25),
    },
    "moco": {
        "plain": make("moco", 15, PAIR | {"queue": (5, D)}),
        "empty": make("moco", 16, PAIR | {"queue": (0, D)}),
        "margin": make("moco", 17, PAIR | {"queue": (5, D)}, margin=0.25, similarity="dot"),
    },
    "gte": {"plain": make("gte", 18, DOCUMENTS), "margin": make("gte", 19, DOCUMENTS, margin=0.25, similarity="dot")},
    "mil_nce": {
        "plain": make("mil_nce", 20, BAGS),
        "symmetric": make("mil_nce", 21, BAGS, {"symmetric": True}, margin=0.25),
        "symmetric, masked": make("mil_nce", 22, BAGS | {"candidate_mask": mask(N, N, 2)}, {"symmetric": True}),
    },
    "soft_nce": {
        "plain": make("soft_nce", 23, SOFT),
        "dot": make("soft_nce", 24, SOFT, similarity="dot"),
        "masked": make("soft_nce", 25, SOFT | {"candidate_mask": mask(N, 5) | (np.array(TARGETS) > 0)}),
        "one key": make("soft_nce", 26, {"query": (N, D), "keys": (1, D), "targets": [[1.0]] * N}),
    },
    "sup_con": {
        name: p
        for variant in ("out", "in", "sincere")
        for name, p in {
            variant: make("sup_con", 27, FEATURES, {"variant": variant}),
            f"{variant}, two arrays": make("sup_con", 28, TWO_ARRAYS, {"variant": variant}, margin=0.25),
            f"{variant}, one class": make("sup_con", 29, FEATURES | {"labels": [3] * 6}, {"variant": variant}),
            f"{variant}, singletons": make("sup_con", 30, FEATURES | {"labels": range(6)}, {"variant": variant}),
            f"{variant}, mask": make("sup_con", 31, FEATURES | {"candidate_mask": mask(6, 6)}, {"variant": variant}),
        }.items()
    },
    "siglip": {
        "plain": make("siglip", 32, IMAGES, bias=-1.5),
        "dot": make("siglip", 33, IMAGES, bias=0.25, similarity="dot"),
    },
    "triplet": {
        "plain": make("triplet", 34, PAIR, margin=0.25, **UNIT),
        "own": make("triplet", 35, PAIR | {"negative_keys": (N, 2, D)}, margin=0.5, in_batch_negatives=False, **UNIT),
        "both": make("triplet", 36, PAIR | {"negative_keys": (2, D)}, margin=0.5, similarity="dot", **UNIT),
    },
    "n_pair": {"plain": make("n_pair", 37, PAIR, similarity="dot", **UNIT)},
    "matryoshka": {
        "plain": make("matryoshka", 41, NESTED, {"dims": [2, 4]}),
        "weighted": make("matryoshka", 42, NESTED, {"dims": [4, 1, 3], "weights": [0.5, 2.0, 0.25]}, margin=0.25),
        "dot": make("matryoshka", 43, NESTED, {"dims": [3, 1]}, similarity="dot"),
        "own": make("matryoshka", 44, OWN_NESTED, {"dims": [2, 2]}, in_batch_negatives=False),
        "shared": make("matryoshka", 45, NESTED | {"negative_keys": (3, 4)}, {"dims": [3, 4], "weights": [1.0, 0.0]}),
        "one dimension": make("matryoshka", 46, NESTED, {"dims": [4]}),
    },
    "info_nce_from_logits": {
        "plain": make("info_nce_from_logits", 38, {"logits": (N, 6)}),
        "index": make("info_nce_from_logits", 39, {"logits": (N, 6), "positive_index": [5, 0, 0, 3]}, margin=0.25),
        "mask": make("info_nce_from_logits", 40, {"logits": (N, 6), "candidate_mask": mask(N, 6)}),
    },
}  # fmt: skip


def changed(p: Problem, arrays: Mapping[str, Any] | None = None, **fields: Any) -> Problem:
    kept = {name: getattr(p, name) for name in p.__dataclass_fields__}
    return Problem(**{**kept, **fields, "arrays": {**p.arrays, **(arrays or {})}})


def shape_of_mask(p: Problem) -> tuple[int, ...]:
    n = p.rows
    columns = {"gte": (4 * N,), "mil_nce": (N, 2), "soft_nce": (5,), "info_nce_from_logits": (6,)}
    return (n, *columns.get(p.loss, (n,)))


def common(loss: str) -> Iterator[tuple[str, Problem]]:
    """What every loss is asked: reductions, weights, temperatures, masks that leave nothing, ties, zero rows."""
    first = next(iter(SPECIAL[loss].values()))
    yield "sum", changed(first, reduction="sum")
    weights = SIX if loss == "sup_con" else WEIGHTS * (first.rows // N)
    yield "weights", changed(first, {"sample_weight": np.array(weights)})
    yield "weights of none", changed(first, {"sample_weight": np.array(weights)}, reduction="none")
    yield "weight 0", changed(first, {"sample_weight": np.zeros(first.rows)})
    if loss not in ("triplet", "n_pair"):
        yield "low temperature", changed(first, temperature=2.0**-7)
        yield "lowest temperature", changed(first, temperature=2.0**-10)
        yield "high temperature", changed(first, temperature=1024.0)
    if loss not in ("moco", "soft_nce"):
        shape = shape_of_mask(first)
        yield "mask", changed(first, {"candidate_mask": mask(*shape)})
        yield "no negatives", changed(first, {"candidate_mask": np.zeros(shape, bool)})
    yield "one row", changed(first, {n: x[:1] for n, x in first.arrays.items() if n not in SHARED})
    if loss != "info_nce_from_logits":
        embeddings = {n: x for n, x in first.arrays.items() if x.dtype == np.float64 and n != "targets"}
        zeros = {
            n: np.where(np.arange(x.shape[0]).reshape(-1, *[1] * (x.ndim - 1)) == 1, 0.0, x)
            for n, x in embeddings.items()
        }
        yield "zero rows", changed(first, zeros)
        yield "duplicates", changed(first, {n: np.concatenate([x[:1], x[:1], x[2:]]) for n, x in embeddings.items()})
        if loss not in ("triplet", "debiased", "hard_negative"):  # these stand at their kink there
            yield "identical rows", changed(first, {n: np.ones_like(x) for n, x in embeddings.items()})


CASES: Mapping[str, Problem] = {
    f"{loss}: {name}": p for loss in SPECIAL for name, p in (*SPECIAL[loss].items(), *common(loss))
}  # fmt: skip


@cache
def exact_answer(case: str) -> Answer:
    return definition.evaluate(CASES[case])


@cache
def bounds_of(case: str, dtype: str, level: Level = "textbook", flushing: bool = False) -> dict[str, np.ndarray]:
    """The bounds; where the device takes subnormal numbers for zero, as XLA does on the CPU, with that allowed for."""
    target = flushed(FORMATS[dtype]) if flushing else FORMATS[dtype]
    return bound(CASES[case].in_dtype(dtype), target, level)
