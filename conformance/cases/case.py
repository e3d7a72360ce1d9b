"""A case: one vector before its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infonce_ref.conformance.family import IN_BATCH_OR_NOT, LOSSES, SCALARS
from infonce_ref.conformance.problem import Problem

FULL = ("float64", "float32")
HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class Case:
    """One call worth asking: its inputs, the formats it is asked in, and which mistake it catches.

    `problem.dtype` is the format that the inputs are written in; all of `dtypes` hold them exactly.
    """

    name: str
    problem: Problem
    note: str
    clauses: tuple[str, ...] = ()  # what it is there for; those that any value tests are added
    profile: str = "core"
    dtypes: tuple[str, ...] = FULL
    precise: bool = False  # also judged by the relative bounds
    stand_in: Problem | None = None  # a finite problem whose answer is this one's where that is judged
    nonfinite: Mapping[str, Sequence[int] | None] = field(default_factory=dict)  # output → its rows (None: all of it)
    edits: Mapping[str, Any] = field(default_factory=dict)  # keys of the problem's JSON, replaced: bad input

    @property
    def expect(self) -> str:
        if self.edits or self.profile == "errors":
            return "refused"
        return "nonfinite" if self.nonfinite else "values"

    @property
    def solved(self) -> Problem:
        """The problem that the oracle is asked."""
        return self.stand_in or self.problem

    def problem_json(self) -> dict[str, Any]:
        return {**self.problem.to_json(), **self.edits}

    def all_clauses(self) -> tuple[str, ...]:
        """What it is there for first, then what else its answers depend on."""
        added = implied(self.problem) if self.expect == "values" else ()
        return tuple(dict.fromkeys((*self.clauses, *added)))


Cases = Callable[[], Iterator[Case]]


def call(arrays: Mapping[str, np.ndarray], temperature: float, dtype: str = "float32", **options: Any) -> Problem:
    """The problem that asks for info_nce (`loss=` another) of `arrays`, written in `dtype`."""
    return Problem(dtype=dtype, arrays=dict(arrays), temperature=temperature, **options)


# What each loss computes, as a clause; info_nce's depend on its arguments.
DEFINITIONS: Mapping[str, tuple[str, ...]] = {
    "info_nce_from_logits": ("logits.rows",),
    "clip": ("clip.mean",),
    "nt_xent": ("nt-xent.rows",),
    "dcl": ("dcl.rows",),
    "debiased": ("debiased.rows",),
    "hard_negative": ("hard-negative.rows",),
    "moco": ("moco.queue",),
    "gte": ("gte.rows",),
    "mil_nce": ("mil-nce.rows",),
    "soft_nce": ("soft-nce.rows",),
    "sup_con": ("sup-con.positives",),
    "siglip": ("siglip.rows", "scale.bias"),
    "triplet": ("triplet.rows",),
    "n_pair": ("n-pair.rows",),
    "matryoshka": ("matryoshka.sum",),
}
MASKS: Mapping[str, str] = {
    "clip": "clip.mask",
    "nt_xent": "nt-xent.mask",
    "gte": "gte.mask",
    "mil_nce": "mil-nce.mask",
}


def implied(problem: Problem) -> Iterator[str]:
    """The clauses on which the answer to any problem like this depends."""
    loss = LOSSES[problem.loss]
    if loss.similarities:
        yield f"similarity.{problem.similarity}"
    if "temperature" in loss.scalars:
        yield "scale.temperature"
    if problem.margin != 0.0:
        yield "scale.margin"
    yield from definition(problem)
    if "positive_index" in problem.arrays:
        yield "candidates.index"
    if "candidate_mask" in problem.arrays:
        yield "candidates.mask"
        if problem.loss in MASKS:
            yield MASKS[problem.loss]
    if "logit_bias" in problem.arrays:
        yield "scale.logit-bias"
    if problem.loss == "info_nce":
        yield "rows.softplus"
    yield f"reduction.{problem.reduction}"
    if "sample_weight" in problem.arrays:
        yield "reduction.weight"
    yield "dtype.half" if problem.dtype in HALF else "dtype.compute"
    for name in problem.differentiable:
        if name != "margin" or problem.margin != 0.0:
            yield "gradient." + name.replace("_", "-")


def definition(problem: Problem) -> Iterator[str]:
    """The clauses that say what the loss is."""
    if problem.loss in IN_BATCH_OR_NOT:
        yield from (f"candidates.{part}" for part in problem.reading.split("+"))
        yield "candidates.positive"
    yield from DEFINITIONS.get(problem.loss, ())
    if problem.option("sigma") is not None:
        yield "dcl.weighted"
    if problem.option("symmetric"):
        yield "mil-nce.symmetric"
    if problem.loss == "sup_con":
        yield f"sup-con.{problem.option('variant')}"
        yield "sup-con.keys" if "keys" in problem.arrays else "sup-con.self"


def outputs(problem: Problem) -> Mapping[str, tuple[int, ...]]:
    """The shape of each number or array that a call gives back: the loss and the gradients."""
    loss = (problem.rows,) if problem.reduction == "none" else ()
    grads = {name: () if name in SCALARS else problem.arrays[name].shape for name in problem.differentiable}
    return {"loss": loss, **grads}
