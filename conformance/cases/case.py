"""A case: one vector before its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infonce_ref.conformance.problem import SCALARS, Problem

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
    """The problem that asks for info_nce of `arrays`, written in `dtype`."""
    return Problem(dtype=dtype, arrays=dict(arrays), temperature=temperature, **options)


def implied(problem: Problem) -> Iterator[str]:
    """The clauses on which the answer to any problem like this depends."""
    yield f"similarity.{problem.similarity}"
    yield "scale.temperature"
    if problem.margin != 0.0:
        yield "scale.margin"
    yield from (f"candidates.{part}" for part in problem.reading.split("+"))
    yield "candidates.positive"
    if "positive_index" in problem.arrays:
        yield "candidates.index"
    if "candidate_mask" in problem.arrays:
        yield "candidates.mask"
    yield "rows.softplus"
    yield f"reduction.{problem.reduction}"
    if "sample_weight" in problem.arrays:
        yield "reduction.weight"
    yield "dtype.half" if problem.dtype in HALF else "dtype.compute"
    for name in problem.differentiable:
        if name != "margin" or problem.margin != 0.0:
            yield "gradient." + name.replace("_", "-")


def outputs(problem: Problem) -> Mapping[str, tuple[int, ...]]:
    """The shape of each number or array that a call gives back: the loss and the gradients."""
    loss = (len(problem.arrays["query"]),) if problem.reduction == "none" else ()
    grads = {name: () if name in SCALARS else problem.arrays[name].shape for name in problem.differentiable}
    return {"loss": loss, **grads}
