"""A hypothesis: something that a wrong implementation may do, and which numbers that gives for a problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infonce_ref.conformance.adapters.wire import unpack
from infonce_ref.conformance.problem import Problem
from infonce_ref.conformance.runner import LocalRunner

Outputs = Mapping[str, np.ndarray]  # the loss and its gradients, in float64


@dataclass(frozen=True)
class Situation:
    """A problem, and what is right for it."""

    problem: Problem
    truth: Outputs


Predict = Callable[[Situation], Outputs | None]  # None where it has nothing to say


@dataclass(frozen=True)
class Hypothesis:
    """One thing that an implementation may do."""

    id: str
    means: str  # completes: your outputs equal those of …
    predict: Predict
    rank: int = 0  # of two that explain as much, the lower one is named
    definition: bool = False  # another definition or convention, which someone may well mean
    story: str = ""
    native: Predict | None = None  # the same, computed in the dtype that was asked


class Replay:
    """A function's answers, by the suite's own way of asking."""

    def __init__(self, function: Any, framework: str, loss: str) -> None:
        self.runner = LocalRunner(function, framework, loss=loss)
        self.runner.start()

    def __call__(self, problem: Problem) -> dict[str, np.ndarray] | None:
        """Loss and gradients; None where it refuses."""
        want = ("loss", *problem.differentiable)
        if problem.margin == 0.0 and "margin" in want:
            want = tuple(name for name in want if name != "margin")
        request = {"id": "", "problem": problem.to_json(), "want": want, "temperature_as": "array"}
        reply = self.runner.adapter.answer(request)
        if "loss" not in reply:
            return None
        return {name: unpack(data)[1] for name, data in [("loss", reply["loss"]), *reply["grad"].items()]}
