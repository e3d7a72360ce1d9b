"""Fresh problems from a seed, so that a table of answers can't pass. They are judged by the oracle itself.

Every problem is a function of (seed, kind, index, dtype) alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from infonce_ref.conformance import fresh_family
from infonce_ref.conformance.cases.case import implied
from infonce_ref.conformance.problem import FORMATS, Problem
from infonce_ref.conformance.question import HALF, Answers, Question

DEFAULT_SEED = 20180710  # the day that CPC appeared


class Draw:
    """Numbers of one format."""

    def __init__(self, seed: str, dtype: str) -> None:
        self.source, self.dtype = random.Random(seed), dtype

    def rounded(self, values: Any) -> np.ndarray:
        """The numbers of the format nearest to `values`, as float64."""
        values = np.asarray(values, dtype=np.float64)
        if self.dtype == "bfloat16":  # cut to the upper half of a float32: some number nearby is all that is needed
            words = values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
            cut: np.ndarray = words.view(np.float32).astype(np.float64)
            return cut
        nearest: np.ndarray = values.astype(self.dtype).astype(np.float64)
        return nearest

    def normal(self, *shape: int) -> np.ndarray:
        count = int(np.prod(shape))
        return self.rounded(np.array([self.source.gauss(0.0, 1.0) for _ in range(count)]).reshape(shape))

    def near(self, like: np.ndarray, spread: float) -> np.ndarray:
        return self.rounded(like + spread * self.normal(*like.shape))

    def scaled(self, rows: np.ndarray, low: float, high: float) -> np.ndarray:
        """`rows` with lengths from 10^low to 10^high."""
        lengths = np.array([10.0 ** self.source.uniform(low, high) for _ in rows])
        return self.rounded(rows * lengths[:, None])

    def temperature(self, low: float, high: float) -> float:
        """Between 10^low and 10^high."""
        return float(self.rounded(10.0 ** self.source.uniform(low, high)))

    def size(self, low: int, high: int) -> int:
        return self.source.randint(low, high)

    def mask(self, n: int, c: int) -> np.ndarray:
        return np.array([[self.source.random() < 0.7 for _ in range(c)] for _ in range(n)])


@dataclass(frozen=True)
class Kind:
    """A sort of fresh problem: how it is drawn, and what it shows."""

    draw: Callable[[Draw], Problem]
    profile: str
    clauses: tuple[str, ...]
    count: int = 1


def pair(d: Draw, spread: float = 0.7) -> dict[str, np.ndarray]:
    """Some queries, and keys related to them."""
    query = d.normal(d.size(2, 6), d.size(2, 7))
    return {"query": query, "positive_key": d.near(query, spread)}


def plain(d: Draw) -> Problem:
    return Problem(d.dtype, pair(d), d.temperature(-1.3, 0.5))


def sharp(d: Draw) -> Problem:
    return Problem(d.dtype, pair(d, 2.0), d.temperature(-3, -1.5))


def lengths(d: Draw) -> Problem:
    reach = 2.0 if d.dtype == "float16" else 6.0
    arrays = {name: d.scaled(rows, -reach, reach) for name, rows in pair(d).items()}
    return Problem(d.dtype, arrays, d.temperature(-1, 1))


def unrelated(d: Draw) -> Problem:
    n, width = d.size(3, 6), d.size(2, 6)
    return Problem(d.dtype, {"query": d.normal(n, width), "positive_key": d.normal(n, width)}, d.temperature(-2, 3))


def shared(d: Draw) -> Problem:
    arrays = pair(d)
    arrays["negative_keys"] = d.normal(d.size(1, 5), arrays["query"].shape[1])
    return Problem(d.dtype, arrays, d.temperature(-1.5, 0), in_batch_negatives=False)


def shared_too(d: Draw) -> Problem:
    arrays = pair(d)
    arrays["negative_keys"] = d.normal(d.size(1, 5), arrays["query"].shape[1])
    return Problem(d.dtype, arrays, d.temperature(-1.5, 0))


def own(d: Draw) -> Problem:
    arrays = pair(d)
    n, width = arrays["query"].shape
    arrays["negative_keys"] = d.normal(n, d.size(1, 3), width)
    return Problem(d.dtype, arrays, d.temperature(-1.5, 0), in_batch_negatives=False)


def own_too(d: Draw) -> Problem:
    arrays = pair(d)
    n, width = arrays["query"].shape
    arrays["negative_keys"] = d.normal(n, d.size(1, 3), width)
    return Problem(d.dtype, arrays, d.temperature(-1.5, 0))


def index(d: Draw) -> Problem:
    n, k, width = d.size(2, 4), d.size(4, 6), d.size(2, 5)
    where = np.array([d.size(0, k - 1) for _ in range(n)])
    arrays = {"query": d.normal(n, width), "positive_key": d.normal(k, width), "positive_index": where}
    return Problem(d.dtype, arrays, d.temperature(-1.5, 0))


def masked(d: Draw) -> Problem:
    arrays = pair(d)
    n = len(arrays["query"])
    arrays["candidate_mask"] = d.mask(n, n)
    return Problem(d.dtype, arrays, d.temperature(-1.5, 0))


def masked_negatives(d: Draw) -> Problem:
    problem = shared_too(d)
    n, m = len(problem.arrays["query"]), len(problem.arrays["negative_keys"])
    return Problem(d.dtype, {**problem.arrays, "candidate_mask": d.mask(n, n + m)}, problem.temperature)


def dot(d: Draw) -> Problem:
    return Problem(d.dtype, pair(d), d.temperature(-0.5, 1), similarity="dot")


def bilinear(d: Draw) -> Problem:
    n, left, right = d.size(2, 5), d.size(2, 4), d.size(2, 4)
    arrays = {"query": d.normal(n, left), "positive_key": d.normal(n, right), "bilinear_weight": d.normal(left, right)}
    return Problem(d.dtype, arrays, d.temperature(-0.5, 1), similarity="bilinear")


def margin(d: Draw) -> Problem:
    return Problem(d.dtype, pair(d), d.temperature(-1.5, 0), margin=float(d.rounded(d.source.uniform(0.02, 0.5))))


def total(d: Draw) -> Problem:
    return Problem(d.dtype, pair(d), d.temperature(-1.5, 0), reduction="sum")


def entries(d: Draw) -> Problem:
    return Problem(d.dtype, pair(d), d.temperature(-1.5, 0), reduction="none")


def weighted(d: Draw) -> Problem:
    arrays = pair(d)
    arrays["sample_weight"] = d.rounded([d.source.uniform(0.0, 2.0) for _ in arrays["query"]])
    return Problem(d.dtype, arrays, d.temperature(-1.5, 0))


COSINE = ("similarity.cosine", "scale.temperature", "candidates.in-batch", "candidates.positive", "rows.softplus")
KINDS: Mapping[str, Kind] = {
    "plain": Kind(plain, "core", (*COSINE, "reduction.mean"), 4),
    "sharp": Kind(sharp, "core", (*COSINE, "reduction.mean"), 3),
    "lengths": Kind(lengths, "core", (*COSINE, "similarity.cosine.scale", "reduction.mean"), 2),
    "unrelated": Kind(unrelated, "core", (*COSINE, "reduction.mean"), 3),
    "shared": Kind(shared, "negatives", ("candidates.shared", "candidates.positive"), 2),
    "own": Kind(own, "negatives", ("candidates.own", "candidates.positive"), 2),
    "in-batch-shared": Kind(shared_too, "negatives", ("candidates.in-batch", "candidates.shared"), 2),
    "in-batch-own": Kind(own_too, "negatives", ("candidates.in-batch", "candidates.own"), 2),
    "index": Kind(index, "variants", ("candidates.index", "candidates.positive"), 2),
    "masked": Kind(masked, "masks", ("candidates.mask", "candidates.mask.positive"), 2),
    "masked-negatives": Kind(masked_negatives, "masks", ("candidates.mask",), 2),
    "dot": Kind(dot, "variants", ("similarity.dot",), 2),
    "bilinear": Kind(bilinear, "variants", ("similarity.bilinear",), 2),
    "margin": Kind(margin, "variants", ("scale.margin",), 2),
    "sum": Kind(total, "variants", ("reduction.sum",)),
    "none": Kind(entries, "variants", ("reduction.none",)),
    "weighted": Kind(weighted, "variants", ("reduction.weight",), 2),
}


def kinds_of(loss: str) -> Mapping[str, Kind]:
    """The kinds of fresh problems of a loss."""
    if loss == "info_nce":
        return KINDS
    return {name: Kind(draw, profile, (), count) for name, profile, count, draw in fresh_family.kinds(loss)}


def fresh_questions(loss: str, seed: int) -> Iterator[Question]:
    """The problems of `seed` in every dtype; half precision only asks the plainest."""
    for name, kind in kinds_of(loss).items():
        for dtype in FORMATS:
            for i in range(kind.count if dtype not in HALF else int(name in ("plain", "unrelated"))):
                yield _question(loss, seed, name, kind, i, dtype)


def _question(loss: str, seed: int, name: str, kind: Kind, i: int, dtype: str) -> Question:
    label = f"{loss}.fresh.{name}.{i}@{seed}"
    problem = kind.draw(Draw(f"{label}/{dtype}", dtype))
    clauses = (*kind.clauses, "dtype.half" if dtype in HALF else "dtype.compute")
    return Question(
        id=label,
        kind=f"{loss}.fresh.{name}",
        dtype=dtype,
        profile=kind.profile,
        clauses=clauses if kind.clauses else tuple(implied(problem)),
        problem=problem.to_json(),
        note=f"a fresh problem of the seed {seed}",
        find=cache(lambda: solve(problem)),
    )


def solve(problem: Problem) -> Answers:
    """The oracle's answer, and its bounds."""
    try:
        from infonce_ref.conformance.bounds import bound
        from infonce_ref.conformance.oracle.definition import evaluate
    except ImportError as error:
        raise MissingExtra(
            f"fresh problems need {error.name}, which comes with: pip install 'infonce-ref[conformance]'"
        ) from error
    return Answers(expected=evaluate(problem).outputs(), bounds=bound(problem, FORMATS[problem.dtype], "textbook"))


class MissingExtra(RuntimeError):
    """The suite was installed without what it needs to judge."""
