"""Calls that must be refused, of any loss: what shapes, dtypes, Python numbers and words decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from infonce_ref.conformance.cases.case import Case, Cases
from infonce_ref.conformance.cases.family.subject import Subject, trio
from infonce_ref.conformance.family import KINDS, LOSSES
from infonce_ref.conformance.problem import Problem, encode_array

Refused = Callable[[Subject], Iterator[Case]]


def refused(name: str, clause: str, note: str, problem: Problem) -> Case:
    """A call with wrong arguments that a Problem can hold."""
    return Case(name, problem, note, (clause,), profile="errors", dtypes=("float32",))


def edited(name: str, clause: str, note: str, problem: Problem, **edits: Any) -> Case:
    """A call that a Problem can't hold: its JSON with some keys replaced."""
    return Case(name, problem, note, (clause,), profile="errors", dtypes=("float32",), edits=edits)


def retyped(name: str, clause: str, note: str, problem: Problem, array: str, encoded: dict[str, Any]) -> Case:
    """A call with one array of another dtype."""
    return edited(name, clause, note, problem, arrays={**problem.to_json()["arrays"], array: encoded})


def small(subject: Subject) -> dict[str, np.ndarray]:
    """Sound arguments of little size."""
    return subject.build(*trio(subject.seed + 160, 2, 2))


def errors(subject: Subject) -> Iterator[Case]:
    """What every loss must refuse."""
    loss, good = LOSSES[subject.loss], small(subject)
    sound = subject.of(good)
    embeddings = [name for name in loss.arrays if KINDS[name] == "embedding"]
    if subject.tempered:
        for name, value in (("zero", 0.0), ("negative", -1.0)):
            yield refused(
                f"temperature.{name}",
                "scale.temperature.domain",
                "a Python temperature that isn't above 0 gives a number, often a plausible one",
                subject.of(good, value),
            )
    yield edited("reduction", "reduction.domain", "an unknown reduction: the mean taken", sound, reduction="average")
    if len(subject.similarities) > 1:
        yield edited(
            "similarity", "similarity.domain", "an unknown similarity: the default taken", sound, similarity="l2"
        )
    if len(embeddings) > 1:
        yield from shapes(subject, good, embeddings[1])
    mask = mask_of(subject, sound)
    if mask is not None:
        yield refused(
            "mask.rows",
            "candidates.mask.domain",
            "a mask that is broadcast",
            subject.of({**good, "candidate_mask": mask[:1]}),
        )
        yield retyped(
            "mask.dtype",
            "candidates.mask.domain",
            "a mask of numbers: an index, or something to add",
            subject.of({**good, "candidate_mask": mask}),
            "candidate_mask",
            encode_array(mask.astype(np.float64), "float32"),
        )
    yield refused(
        "weight.one",
        "reduction.weight.domain",
        "one weight for several entries: broadcast",
        subject.of({**good, "sample_weight": np.ones(1)}),
    )


def shapes(subject: Subject, good: dict[str, np.ndarray], second: str) -> Iterator[Case]:
    """Wrong shapes of the second array, and of all; two dtypes."""
    rows = good[second]
    yield refused(
        "shape.columns",
        "input.shape",
        "rows of different lengths: broadcast, or cut",
        subject.of({**good, second: rows[..., :1]}),
    )
    yield refused(
        "shape.axis",
        "input.shape",
        "an array with an axis too many: batched products",
        subject.of({**good, second: rows[None, None]}),
    )
    if rows.shape[0] == good[subject.first].shape[0]:
        yield refused(
            "shape.one-row",
            "input.shape",
            "one partner for two anchors: broadcast into a plausible number",
            subject.of({**good, second: rows[:1]}),
        )
    yield retyped(
        "dtype.mixed",
        "dtype.domain",
        "float32 on one side, float64 on the other: promoted silently",
        subject.of(good),
        second,
        encode_array(rows, "float64"),
    )


def mask_of(subject: Subject, problem: Problem) -> np.ndarray | None:
    """A mask that keeps everything, in the loss's layout; None where it has no mask."""
    n, first = problem.rows, problem.arrays[subject.first]
    shapes: dict[str, tuple[int, ...]] = {
        "gte": (n, 4 * n),
        "info_nce_from_logits": first.shape,
        "mil_nce": problem.arrays["positive_bags"].shape[:1] * 2 + (2,) if subject.loss == "mil_nce" else (),
        "soft_nce": problem.arrays["targets"].shape if subject.loss == "soft_nce" else (),
    }
    if "candidate_mask" not in LOSSES[subject.loss].optional:
        return None
    return np.ones(shapes.get(subject.loss, (n, n)), dtype=bool)


def with_own(subject: Subject, *own: Refused) -> Cases:
    """The class of refusals: what all must refuse, then the loss's own."""

    def every(subject: Subject) -> Iterator[Case]:
        yield from errors(subject)
        for more in own:
            yield from more(subject)

    return partial(every, subject)
