"""Small problems with exact answers: what the reference is measured on.

All inputs are multiples of 1/16 below 4, so that every format, bfloat16 too, holds them exactly and one exact answer
serves all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from mpmath import mp, mpf

import infonce_ref
from infonce_ref.conformance.bounds import Level, bound
from infonce_ref.conformance.family import IN_BATCH_OR_NOT, KINDS, LOSSES
from infonce_ref.conformance.oracle import Answer, definition
from infonce_ref.conformance.problem import FORMATS, Problem
from tests.libraries import Library

N, D, M = 4, 3, 2


def grid(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal numbers, rounded to multiples of 1/16."""
    return np.clip(np.round(rng.standard_normal(shape) * 16), -63, 63) / 16


def problem(
    seed: int = 0,
    *,
    keys: int = N,
    negatives: str | None = None,
    similarity: str = "cosine",
    temperature: float = 0.5,
    changes: Mapping[str, Any] | None = None,
    **arrays: Any,
) -> Problem:
    """A seeded problem of N queries; `negatives`: "shared", "own" or None; `changes` to fields, `arrays` on top."""
    rng = np.random.default_rng(seed)
    e = D - 1 if similarity == "bilinear" else D
    made = {"query": grid(rng, N, D), "positive_key": grid(rng, keys, e)}
    if negatives is not None:
        made["negative_keys"] = grid(rng, M, e) if negatives == "shared" else grid(rng, N, M, e)
    if similarity == "bilinear":
        made["bilinear_weight"] = grid(rng, D, e)
    made |= {name: np.asarray(x) for name, x in arrays.items()}
    return Problem("float64", made, temperature, similarity=similarity, **(changes or {}))


def mask(columns: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).random((N, columns)) < 0.6


def with_rows(x: np.ndarray, rows: Mapping[int, Any]) -> np.ndarray:
    """x with some of its rows replaced."""
    x = x.copy()
    for i, row in rows.items():
        x[i] = row
    return x


EXPLICIT = {"in_batch_negatives": False}
WEIGHTS = [1.0, 0.5, 0.0, 2.0]
INDEX = [5, 0, 3, 0]
PLAIN = problem()

CASES: Mapping[str, Problem] = {
    "cosine": PLAIN,
    "dot": problem(1, similarity="dot"),
    "bilinear": problem(2, similarity="bilinear"),
    "shared": problem(3, negatives="shared", changes=EXPLICIT),
    "own": problem(4, negatives="own", changes=EXPLICIT),
    "in-batch+shared": problem(5, negatives="shared", similarity="dot"),
    "in-batch+own": problem(6, negatives="own", similarity="bilinear"),
    "index": problem(7, keys=6, positive_index=INDEX),
    "index, fewer keys": problem(8, keys=2, positive_index=[1, 0, 0, 1], negatives="own", similarity="dot"),
    "index, explicit": problem(9, keys=6, positive_index=INDEX, negatives="shared", changes=EXPLICIT),
    "mask": problem(10, negatives="shared", candidate_mask=mask(N + M)),
    "mask, explicit": problem(11, negatives="own", candidate_mask=mask(M), similarity="dot", changes=EXPLICIT),
    "margin": problem(12, changes={"margin": 0.25}),
    "bias": problem(18, negatives="own", logit_bias=np.arange(N + M) / 2 - 1.0),
    "bias, explicit": problem(19, negatives="shared", logit_bias=[0.5, -1.0], changes=EXPLICIT),
    "weight": problem(13, sample_weight=WEIGHTS),
    "weight 0": problem(13, sample_weight=[0.0] * N),
    "sum": problem(14, sample_weight=WEIGHTS, changes={"reduction": "sum"}),
    "none": problem(15, changes={"reduction": "none"}),
    "low temperature": problem(16, temperature=2.0**-7),
    "zero rows": problem(
        query=with_rows(PLAIN.arrays["query"], {1: 0.0}),
        positive_key=with_rows(PLAIN.arrays["positive_key"], {1: 0.0, 2: 0.0}),
    ),
    "identical rows": problem(query=np.ones((N, D)), positive_key=np.ones((N, D))),
    "duplicates": problem(positive_key=PLAIN.arrays["positive_key"][[0, 0, 2, 0]]),
    "one pair": problem(query=PLAIN.arrays["query"][:1], positive_key=PLAIN.arrays["positive_key"][:1]),
    "no negatives": problem(negative_keys=np.zeros((0, D)), changes=EXPLICIT),
    "all masked": problem(candidate_mask=np.zeros((N, N), bool)),
    "a query masked": problem(candidate_mask=with_rows(np.ones((N, N), bool), {2: False})),
    "everything": problem(
        17, keys=6, positive_index=INDEX, negatives="own", similarity="bilinear", candidate_mask=mask(6 + M),
        sample_weight=WEIGHTS, logit_bias=np.arange(6 + M) / 4 - 0.5, changes={"margin": -0.5, "reduction": "none"},
    ),
}  # fmt: skip


@cache
def exact_answer(case: str) -> Answer:
    return definition.evaluate(CASES[case])


@cache
def bounds_of(case: str, dtype: str, level: Level = "textbook") -> dict[str, np.ndarray]:
    return bound(CASES[case].in_dtype(dtype), FORMATS[dtype], level)


def arguments(p: Problem, library: Library, dtype: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The call of the reference that a problem describes: its arrays, and the rest."""
    dtypes = {"mask": "bool", "integer": "int64"}
    arrays = {name: library.array(x, dtypes.get(KINDS[name], dtype)) for name, x in p.arrays.items()}
    known = LOSSES[p.loss]
    names = [*known.scalars, "reduction"]
    names += ["similarity"] if len(known.similarities) > 1 else []
    names += ["in_batch_negatives"] if p.loss in IN_BATCH_OR_NOT else []
    return arrays, {name: getattr(p, name) for name in names} | ({} if p.loss == "matryoshka" else dict(p.options))


def reference(p: Problem, module: Any = infonce_ref) -> Any:
    """The loss that a problem asks for; what matryoshka's options say is said when it is made."""
    if p.loss == "matryoshka":
        return module.matryoshka(module.info_nce, **p.options)
    return getattr(module, p.loss)


def outputs(library: Library, loss: Any, grad: Any) -> dict[str, np.ndarray]:
    """The loss and the gradients by name, in NumPy; what is None is left out."""
    named = {"loss": loss, **grad._asdict()}
    return {name: library.numpy(x) for name, x in named.items() if x is not None}


def value_and_grad(p: Problem, library: Library, dtype: str, **more: Any) -> dict[str, np.ndarray]:
    arrays, options = arguments(p, library, dtype)
    return outputs(library, *library.run(reference(p).value_and_grad, arrays, options | more))


def ratio(computed: np.ndarray, exact: np.ndarray, limit: np.ndarray) -> float:
    """The worst |computed − exact| / limit of all entries, taken in high precision; inf for a NaN or another shape."""
    if computed.shape != np.shape(exact) or not np.isfinite(computed).all():
        return float("inf")
    entries = zip(computed.flat, np.asarray(exact, object).flat, np.asarray(limit, object).flat, strict=True)
    with mp.workdps(60):
        errors = [(abs(mpf(float(x)) - mpf(y)), mpf(b)) for x, y, b in entries]
        return max((float(e / b) if b else float("inf") for e, b in errors if e), default=0.0)


def worst(computed: Mapping[str, np.ndarray], answer: Answer, limits: Mapping[str, np.ndarray]) -> float:
    """The worst ratio over the loss and every gradient; all of them must be there."""
    expected = answer.outputs()
    assert set(computed) == set(expected)
    return max(ratio(computed[name], expected[name], limits[name]) for name in expected)
