"""Conventions: the right answer, or another hypothesis's, times or plus something known, or with other gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from infonce_ref.conformance.family import LOSSES, SCALARS
from infonce_ref.conformance.hypotheses.base import Hypothesis, Outputs, Predict, Situation
from infonce_ref.conformance.problem import Problem

Change = Callable[[Situation, Outputs], Outputs | None]


@dataclass(frozen=True)
class Convention:
    """A way to say the same thing in other numbers."""

    id: str
    means: str  # with {} for what it is applied to
    change: Change
    alone: str  # how it is called where it is applied to the right answer


def scaled(outputs: Outputs, by: float, slope: float = 0.0) -> dict[str, np.ndarray]:
    """Every output times `by`, a function of the temperature whose derivative is `slope`."""
    found = {name: by * np.asarray(x, dtype=np.float64) for name, x in outputs.items()}
    if slope and "temperature" in found:
        found["temperature"] = found["temperature"] + slope * np.sum(outputs["loss"])
    return found


def gradients(outputs: Outputs) -> dict[str, np.ndarray]:
    return {name: x for name, x in outputs.items() if name != "loss"}


Factor = Callable[[Problem], tuple[float, float]]  # its value and its derivative by the temperature


def rows(problem: Problem) -> int:
    return problem.rows


FACTORS: Mapping[str, tuple[str, Factor]] = {
    "2": ("twice {}", lambda p: (2.0, 0.0)),
    "1/2": ("half {}", lambda p: (0.5, 0.0)),
    "-1": ("minus {}", lambda p: (-1.0, 0.0)),
    "tau": ("the temperature times {}", lambda p: (p.temperature, 1.0)),
    "2tau": ("twice the temperature times {}", lambda p: (2.0 * p.temperature, 2.0)),
    "1/tau": ("{} / temperature", lambda p: (1.0 / p.temperature, -1.0 / p.temperature**2)),
    "tau/0.07": ("temperature / 0.07 times {}", lambda p: (p.temperature / 0.07, 1.0 / 0.07)),
    "log2": ("{} in bits (log₂)", lambda p: (1.0 / math.log(2.0), 0.0)),
    "N": ("N times {}", lambda p: (float(rows(p)), 0.0)),
    "1/N": ("{} / N, a mean over N × N pairs", lambda p: (1.0 / rows(p), 0.0)),
    "N/(N-1)": ("{} with 1 / (N − 1) for 1 / N", lambda p: (rows(p) / (rows(p) - 1.0), 0.0)),
    "1/(N-1)": ("{} / (N − 1)", lambda p: (1.0 / (rows(p) - 1.0), 0.0)),
}  # fmt: skip


def multiplied(factor: Factor) -> Change:
    def change(at: Situation, outputs: Outputs) -> Outputs | None:
        try:
            by, slope = factor(at.problem)
        except ZeroDivisionError:
            return None
        return scaled(outputs, by, slope)

    return change


def only_gradients(change: Change) -> Change:
    """The loss as it is."""

    def changed(at: Situation, outputs: Outputs) -> Outputs | None:
        flat = Situation(at.problem, outputs)
        found = change(flat, {**outputs, "loss": np.zeros(1)})
        return None if found is None else {**found, "loss": outputs["loss"]}

    return changed


def plus(constant: Callable[[Problem], float], slope: Callable[[Problem], float] = lambda p: 0.0) -> Change:
    """A constant added to every row's loss."""

    def change(at: Situation, outputs: Outputs) -> Outputs | None:
        problem, found = at.problem, dict(outputs)
        weight = problem.arrays.get("sample_weight")
        each = np.ones(problem.rows) if weight is None else weight
        share = {"mean": np.ones(()), "sum": np.sum(each), "none": each}[problem.reduction]
        found["loss"] = outputs["loss"] + constant(problem) * share
        if "temperature" in found:
            found["temperature"] = found["temperature"] + slope(problem) * np.sum(share)
        return found

    return change


def temperature_gradient(by: Callable[[float], float]) -> Change:
    def change(at: Situation, outputs: Outputs) -> Outputs | None:
        if "temperature" not in outputs:
            return None
        return {**outputs, "temperature": by(at.problem.temperature) * outputs["temperature"]}

    return change


def without_gradient(names: Iterable[str]) -> Change:
    def change(at: Situation, outputs: Outputs) -> Outputs | None:
        if not {*names} <= {*outputs}:
            return None
        return {**outputs, **{name: np.zeros_like(outputs[name]) for name in names}}

    names = tuple(names)
    return change


def conventions() -> Iterator[Convention]:
    """Those that may be combined with any other mistake, simplest first."""
    for name, (words, factor) in FACTORS.items():
        yield Convention(f"factor.{name}", words, multiplied(factor), words.format("the loss"))
    for name, (words, factor) in FACTORS.items():
        change = only_gradients(multiplied(factor))
        meant = "{} with " + words.format("its gradient")
        yield Convention(f"gradient-factor.{name}", meant, change, meant.format("the loss"))


def singular(loss: str) -> Iterator[Convention]:
    """Those that are applied to the right answer alone."""
    added: Mapping[str, tuple[str, Callable[[Problem], float]]] = {
        "+log-N": ("the loss + log N", lambda p: math.log(rows(p))),
        "-log-N": ("the loss − log N", lambda p: -math.log(rows(p))),
        "+log-2": ("the loss + log 2", lambda p: math.log(2.0)),
        "-log-2": ("the loss − log 2", lambda p: -math.log(2.0)),
    }
    for name, (words, constant) in added.items():
        yield Convention(f"constant.{name}", words, plus(constant), words)
    names = LOSSES[loss].gradients
    if "temperature" in names:
        log_tau = plus(lambda p: math.log(p.temperature), lambda p: 1.0 / p.temperature)
        yield Convention("constant.+log-tau", "", log_tau, "the loss + log temperature")
        for name, (words, by) in TEMPERATURE_GRADIENTS.items():
            yield Convention(f"temperature-gradient.{name}", "", temperature_gradient(by), words)
    sides = [name for name in names if name not in SCALARS]
    for count in (1, 2):
        for chosen in combinations(sides, count):
            if count < len(sides):
                words = f"{' and '.join(chosen)} detached: no gradient"
                yield Convention(f"detached.{'+'.join(chosen)}", "", without_gradient(chosen), words)


TEMPERATURE_GRADIENTS: Mapping[str, tuple[str, Callable[[float], float]]] = {
    "0": ("the temperature detached: no gradient", lambda tau: 0.0),
    "sign": ("minus the temperature's gradient", lambda tau: -1.0),
    "log": ("the gradient by log(temperature) for the temperature's", lambda tau: tau),
    "log-scale": ("the gradient by log(1 / temperature), a log-scale, for the temperature's", lambda tau: -tau),
    "scale": ("the gradient by 1 / temperature, the scale, for the temperature's", lambda tau: -tau * tau),
    "1/tau": ("the temperature's gradient / temperature", lambda tau: 1.0 / tau),
}


def truth(at: Situation) -> Outputs:
    return at.truth


def combined(base: Hypothesis, convention: Convention) -> Hypothesis:
    """A convention on top of another hypothesis."""

    def on_top(predict: Predict) -> Predict:
        def predicted(at: Situation) -> Outputs | None:
            found = predict(at)
            return None if found is None else convention.change(at, found)

        return predicted

    return Hypothesis(
        f"{base.id} & {convention.id}",
        convention.means.format(f"[{base.means}]"),
        on_top(base.predict),
        base.rank + 4,
        base.definition,
        base.story,
        None if base.native is None else on_top(base.native),
    )


def by_convention(loss: str) -> Iterator[Hypothesis]:
    """The right answer in other numbers."""
    exact = Hypothesis("", "", truth)
    for convention in (*conventions(), *singular(loss)):
        definition = convention.id.startswith("factor.") and not convention.id.endswith("-1")
        found = combined(exact, convention)
        yield replace(found, id=f"convention:{convention.id}", means=convention.alone, rank=0, definition=definition)
