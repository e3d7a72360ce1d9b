"""The profile `distributed`: a batch that is spread over processes, a shard each, and judged as one.

Every process calls the target with its own rows. The oracle is asked the whole batch. What a process returns is held
against it as a wrapper that averages gradients over the processes would use it: docs/spec/distributed.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from infonce_ref.conformance.adapters.wire import unpack
from infonce_ref.conformance.cases.case import FULL
from infonce_ref.conformance.family import LOSSES, SCALARS
from infonce_ref.conformance.fresh import Draw, solve
from infonce_ref.conformance.judge import Measure, measure
from infonce_ref.conformance.problem import FORMATS, Problem
from infonce_ref.conformance.question import Answers
from infonce_ref.conformance.ranks import PROCESSES

SHARD = 4  # rows of a process
WIDTH = 5
DIGITS = 50  # of the sum that is expected
ALIKE = 1e-3  # relative: near enough to name a factor or somebody else's gradient


def pair(one: str, other: str) -> Callable[[Draw], dict[str, np.ndarray]]:
    """Two arrays whose rows i belong together."""

    def draw(d: Draw) -> dict[str, np.ndarray]:
        first = d.normal(PROCESSES * SHARD, WIDTH)
        return {one: first, other: d.near(first, 1.0)}

    return draw


def labelled(d: Draw) -> dict[str, np.ndarray]:
    """Every label within a process and across: no row without a positive, so that means of means are means."""
    labels = np.arange(PROCESSES * SHARD) % (SHARD // 2)
    return {"features": d.normal(PROCESSES * SHARD, WIDTH), "labels": labels}


ARRAYS: Mapping[str, Callable[[Draw], dict[str, np.ndarray]]] = {
    "info_nce": pair("query", "positive_key"),
    "clip": pair("image", "text"),
    "nt_xent": pair("view_a", "view_b"),
    "siglip": pair("image", "text"),
    "sup_con": labelled,
}
TEMPERATURES = {"plain": (-1.0, -0.2), "sharp": (-1.7, -1.3)}  # powers of ten


@dataclass(frozen=True)
class Batch:
    """A batch over all processes."""

    id: str
    problem: Problem

    def shard(self, rank: int) -> Problem:
        """The rows of one process."""
        arrays = {name: rows[SHARD * rank : SHARD * (rank + 1)] for name, rows in self.problem.arrays.items()}
        return replace(self.problem, arrays=arrays)

    @property
    def arrays(self) -> tuple[str, ...]:
        """The array arguments that have a gradient."""
        return tuple(name for name in self.problem.differentiable if name not in SCALARS)

    @cached_property
    def answers(self) -> Answers:
        return solve(self.problem)

    @cached_property
    def apart(self) -> float:
        """The mean of the losses of the shards, each for itself."""
        return math.fsum(float(solve(self.shard(r)).expected["loss"]) for r in range(PROCESSES)) / PROCESSES


def batches(loss: str, seed: int) -> Iterator[Batch]:
    """The batches of a seed, in each dtype."""
    for name, (low, high) in TEMPERATURES.items() if loss in ARRAYS else ():
        for dtype in FULL:
            label = f"{loss}.distributed.{name}@{seed}"
            d = Draw(f"{label}/{dtype}", dtype)
            yield Batch(label, Problem(dtype, ARRAYS[loss](d), d.temperature(low, high), loss=loss))


def output_groups(batch: Batch) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is judged together, and what that is called in a check's id."""
    yield "loss", ("loss",)
    yield "grad", batch.arrays
    for name in LOSSES[batch.problem.loss].scalars:
        if name != "margin":
            yield name, (name,)


def measured(batch: Batch, output: str, replies: Sequence[Mapping[str, Any]]) -> Measure:
    """How far an output of all processes together is off, times their number."""
    from mpmath import mp  # an extra's, which no start needs

    parts = []
    for reply in replies:
        dtype, part = unpack(reply["loss"] if output == "loss" else reply["grad"][output])
        if dtype not in FORMATS:
            return Measure(np.inf, reason=f"{output} is of dtype {dtype}")
        parts.append(part)
    rows = output in batch.arrays
    shape = (SHARD, *batch.problem.arrays[output].shape[1:]) if rows else ()
    for part in parts:
        if part.shape != shape:
            return Measure(np.inf, reason=f"{output} of a process has shape {part.shape}, where {shape} is expected")
    together = np.concatenate(parts) if rows else np.asarray(math.fsum(float(part) for part in parts))
    answers = batch.answers
    with mp.workdps(DIGITS):
        expected, radius = (PROCESSES * np.asarray(x[output], dtype=object) for x in (answers.expected, answers.bounds))
        found = measure(together, expected, radius)
    return found if found.r <= 1.0 else replace(found, reason=said(batch, output, together))


def said(batch: Batch, output: str, together: np.ndarray) -> str:
    """What a wrong output is instead, where that is known."""
    exact = PROCESSES * np.asarray(batch.answers.expected[output], dtype=object).astype(np.float64)
    if not np.all(np.isfinite(together)):
        return f"{output} isn't finite"
    if output == "loss":
        if math.isclose(float(together) / PROCESSES, batch.apart, rel_tol=ALIKE):
            return "it is the mean of the losses of every process's own rows: nothing was gathered"
        return f"its mean over the processes is {float(together / exact):.4g} times the whole batch's loss"
    factor = float(np.sum(together * exact) / np.sum(exact * exact))
    norm = float(np.sqrt(np.sum(together**2) * np.sum(exact**2)))
    cosine = float(np.sum(together * exact)) / norm if norm else 0.0
    what = f"averaged over the processes it is {factor:.4g} times the whole batch's gradient"
    if abs(cosine) < 1.0 - ALIKE:
        return f"{what} and has another direction (cosine {cosine:.4f}): what other processes' rows send is lost"
    return what
