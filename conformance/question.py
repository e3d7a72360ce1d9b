"""A question: one problem in one dtype, and what is known of its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from infonce_ref.conformance.problem import FORMATS, Problem

HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class Answers:
    """By output ("loss", "query", …): exact values, bounds at two levels, the flat places that must not be finite.

    Values and bounds are {"shape", "values"} or arrays of numbers; a value that is None isn't compared.
    """

    expected: Mapping[str, Any] = field(default_factory=dict)
    bounds: Mapping[str, Any] = field(default_factory=dict)
    precise: Mapping[str, Any] = field(default_factory=dict)
    nonfinite: Mapping[str, Any] = field(default_factory=dict)

    def radii(self, level: str, output: str) -> Any:
        """The bounds of `output`, or None where it isn't compared; a bare list has the shape of the expected values."""
        found = (self.precise if level == "precise" else self.bounds).get(output)
        if isinstance(found, list):
            return {"shape": self.expected[output]["shape"], "values": found}
        return found


@dataclass(frozen=True)
class Question:
    """What is asked and, behind `find`, what the answer is: looked up, or worked out when it is needed."""

    id: str
    kind: str
    dtype: str
    profile: str
    clauses: tuple[str, ...]
    problem: Mapping[str, Any]  # as JSON, in `dtype`
    find: Callable[[], Answers]
    expect: Literal["values", "nonfinite", "refused"] = "values"
    note: str = ""
    precise: bool = False

    @property
    def arrays(self) -> tuple[str, ...]:
        """The array arguments that have a gradient."""
        order = ("query", "positive_key", "negative_keys", "bilinear_weight")
        return tuple(name for name in order if name in self.problem["arrays"])

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape that each output must have."""
        arrays = self.problem["arrays"]
        rows = (arrays["query"]["shape"][0],) if self.problem["reduction"] == "none" else ()
        return {"loss": rows, **{name: tuple(arrays[name]["shape"]) for name in self.arrays}}

    @property
    def has_subnormal_row(self) -> bool:
        """Whether some row holds subnormal numbers of the compute format alone: to a device that flushes, zeros."""
        smallest = np.finfo(FORMATS[self.dtype].compute).smallest_normal
        arrays = Problem.from_json(self.problem).arrays
        sizes = np.concatenate([np.max(np.abs(arrays[name]), axis=-1, initial=0.0).ravel() for name in self.arrays])
        return bool(np.any((sizes > 0.0) & (sizes < smallest)))

    @property
    def amplification(self) -> float:
        """By how much 1/τ and the norms enlarge a number that a device flushed to zero on its way to a gradient."""
        problem = Problem.from_json(self.problem)
        factor = max(1.0, 1.0 / abs(problem.temperature)) if problem.temperature else 1.0
        if problem.similarity == "cosine":
            sizes = [np.max(np.abs(problem.arrays[name]), axis=-1) for name in self.arrays if problem.arrays[name].size]
            shortest = min((float(np.min(s[s > 0.0], initial=1.0)) for s in sizes), default=1.0)
            factor /= min(1.0, shortest)
        return factor
