"""A question: one problem in one dtype, and what is known of its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from infonce_ref.conformance.family import KINDS, LOSSES, SCALARS
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
        found = LOSSES[self.problem["loss"]].differentiable(self.problem["arrays"])
        return tuple(name for name in found if name not in SCALARS)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape that each output must have."""
        arrays = self.problem["arrays"]
        rows = LOSSES[self.problem["loss"]].rows({name: array["shape"] for name, array in arrays.items()})
        loss = (rows,) if self.problem["reduction"] == "none" else ()
        return {"loss": loss, **{name: tuple(arrays[name]["shape"]) for name in self.arrays}}

    @cached_property
    def row_sizes(self) -> np.ndarray:
        """The largest magnitude of each row of the embeddings."""
        arrays = Problem.from_json(self.problem).arrays
        embeddings = [arrays[name] for name in self.arrays if KINDS[name] == "embedding"]
        return np.concatenate([[], *(np.max(np.abs(rows), axis=-1, initial=0.0).ravel() for rows in embeddings)])

    @property
    def has_subnormal_row(self) -> bool:
        """Whether some row holds subnormal numbers of the compute format alone: to a device that flushes, zeros."""
        smallest = np.finfo(FORMATS[self.dtype].compute).smallest_normal
        return bool(np.any((self.row_sizes > 0.0) & (self.row_sizes < smallest)))

    def amplification(self, output: str) -> float:
        """How many times ω, the smallest normal number, a device that flushes subnormals to zero may cost an output.

        Every pair of rows may lose one ω, and a row is in a pair with every other, as an anchor and as a key. What is
        lost there is multiplied by (k_j − k_p) / τ, at most 2/τ, and divided by the row's norm. What is one number for
        all adds up all pairs, times 1/τ once more (docs/spec/bounds.md, Limits).
        """
        rows, temperature = self.row_sizes, Problem.from_json(self.problem).temperature
        inverse = max(1.0, 1.0 / abs(temperature)) if temperature else 1.0
        pairs = 4 * rows.size if KINDS.get(output) == "embedding" else 4 * rows.size**2 * inverse
        if self.problem["similarity"] == "cosine":
            return float(pairs * inverse / np.min(rows[rows > 0.0], initial=1.0))
        return float(pairs * inverse * np.max(rows, initial=1.0))
