"""What was observed of an implementation, held against what a hypothesis predicts for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infonce_ref.conformance.adapters.wire import unpack
from infonce_ref.conformance.family import SCALARS
from infonce_ref.conformance.hypotheses import Hypothesis, Situation
from infonce_ref.conformance.judge import Exact, exact, measure
from infonce_ref.conformance.problem import FORMATS, Problem
from infonce_ref.conformance.question import Question

if TYPE_CHECKING:
    from infonce_ref.conformance.results import Result

KINDS = ("loss", "arrays", *SCALARS)  # of outputs: arrays are their gradients
LARGE = 3000  # numbers in a problem that isn't replayed

SLACK = 2.0  # bounds: each side errs by one at most, where both were computed in one format
ROUNDINGS = 64.0  # of a row's largest number: what a bound of 0 leaves out; and what a bound is of it at most, usually


@dataclass(frozen=True)
class Observed:
    """One output of the implementation, what is right for it, and how far apart those may be."""

    output: str
    check: str
    got: np.ndarray
    truth: Exact
    bound: np.ndarray
    unit: float
    wrong: bool

    @property
    def kind(self) -> str:
        return self.output if self.output in KINDS else "arrays"

    def tolerance(self, predicted: np.ndarray) -> np.ndarray:
        """How far from `predicted` an implementation may be that computes just this.

        Errors grow with the numbers that they are made among: the bound of the right answer is enlarged where the
        prediction is larger than the right answer and than the numbers that its bound allows for.
        """
        size = _size(predicted)
        natural = np.maximum(_size(self.truth.hi), _size(self.bound) / (ROUNDINGS * self.unit))
        with np.errstate(all="ignore"):
            larger = np.where(natural > 0.0, np.maximum(1.0, size / natural), 1.0)
        far: np.ndarray = SLACK * larger * self.bound + ROUNDINGS * self.unit * size
        return far

    def equals(self, predicted: np.ndarray) -> bool:
        """Whether it is what is predicted, infinities and NaN included."""
        if predicted.shape != self.got.shape:
            return False
        with np.errstate(all="ignore"):
            close = np.abs(self.got - predicted) <= self.tolerance(predicted)
        return bool(np.all(close | (self.got == predicted) | (np.isnan(self.got) & np.isnan(predicted))))

    def refutes(self, predicted: np.ndarray) -> bool:
        """Whether what is predicted clearly isn't right."""
        if predicted.shape != self.truth.shape:
            return True
        with np.errstate(all="ignore"):
            near = np.abs(predicted - self.truth.hi) <= 2.0 * self.tolerance(predicted)
        return not bool(np.all(near | (predicted == self.truth.hi)))


def _size(x: np.ndarray) -> np.ndarray:
    """The largest finite magnitude of each row."""
    magnitude = np.where(np.isfinite(x), np.abs(x), 0.0)
    largest: np.ndarray = np.max(magnitude, axis=-1, keepdims=True, initial=0.0) if x.ndim else magnitude
    return largest


@dataclass
class Case:
    """One problem in one dtype, with all that was observed of it."""

    question: Question
    situation: Situation
    observed: list[Observed] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        return self.fails(KINDS)

    def fails(self, kinds: Iterable[str]) -> bool:
        """Whether an output of these kinds is wrong."""
        return any(item.wrong and item.kind in kinds for item in self.observed)

    @property
    def size(self) -> int:
        return sum(array.size for array in self.situation.problem.arrays.values())


def gathered(results: Iterable[Result]) -> list[Case]:
    """What the checks of numbers observed, by problem and dtype; the same for the same results."""
    cases: dict[tuple[str, str], Case] = {}
    for result in sorted(results, key=lambda r: r.check.id):
        question, reply = result.check.question, result.outcome.reply
        if question is None or question.expect != "values" or "loss" not in reply or result.check.level == "SHOULD":
            continue
        key = (question.id, question.dtype)
        if key not in cases:
            problem = Problem.from_json(question.problem)
            right = {name: exact(values).hi for name, values in question.find().expected.items()}
            cases[key] = Case(question, Situation(problem, right))
        cases[key].observed += observations(result, question)
    return [case for case in cases.values() if case.observed and case.size <= LARGE]


def observations(result: Result, question: Question) -> Iterator[Observed]:
    """Each output that the check looked at, if it is an array of the right shape with a bound to hold it against."""
    reply, answers = result.outcome.reply, question.find()
    for output in result.check.outputs:
        data = reply["loss"] if output == "loss" else reply.get("grad", {}).get(output)
        radii = answers.radii("bound", output)
        if data is None or radii is None:
            continue
        try:
            dtype, got = unpack(data)
        except ValueError:
            continue
        truth = exact(answers.expected[output])
        if dtype not in FORMATS or got.shape != truth.shape or any(value is None for value in truth.source):
            continue
        wrong = result.wrong and measure(got, truth, radii, dtype).r > 1.0
        bound, unit = exact(radii).hi.reshape(truth.shape), FORMATS[dtype].unit
        yield Observed(output, result.check.id, got, truth, bound, unit, wrong)


def spread(cases: Iterable[Case], most: int) -> list[Case]:
    """At most so many of the cases, of as many kinds as there are: one of each, then the next; first the finest."""
    groups: dict[tuple[float, str], list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda c: (c.size, c.question.id, c.question.dtype)):
        groups[FORMATS[case.question.dtype].unit, case.question.kind].append(case)
    turns = [(place, name, case) for name, group in groups.items() for place, case in enumerate(group)]
    return [case for _, _, case in sorted(turns, key=lambda turn: turn[:2])[:most]]


def by_profile(cases: Iterable[Case]) -> list[list[Case]]:
    """The plain cases, and those of each further profile."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.question.profile].append(case)
    return [groups[name] for name in sorted(groups, key=lambda name: (name != "core", name))]


# --- comparing -------------------------------------------------------------------------------------------------------

Told = Literal["missed", "alike", "explained"]
TOLD: tuple[Told, ...] = ("missed", "alike", "explained")


@dataclass
class Score:
    """What a hypothesis does with the evidence; each entry is a check and an output."""

    explained: set[tuple[str, str]] = field(default_factory=set)  # fails, as it predicts
    alike: set[tuple[str, str]] = field(default_factory=set)  # fails by so little that it is near both
    missed: set[tuple[str, str]] = field(default_factory=set)  # fails otherwise
    refuted: set[tuple[str, str]] = field(default_factory=set)  # passes, where it predicts a failure

    @property
    def share(self) -> float:
        """Of the failures that can tell, those that it explains."""
        return len(self.explained) / max(1, len(self.explained) + len(self.missed))

    @property
    def borne_out(self) -> float:
        """Of the failures that it predicts and that can tell, those that are."""
        return len(self.explained) / max(1, len(self.explained) + len(self.refuted))

    @property
    def clear(self) -> bool:
        """Whether at least half of the failures can tell."""
        return len(self.alike) <= len(self.explained) + len(self.missed)

    @property
    def checks(self) -> int:
        return len({check for check, _ in self.explained})

    @property
    def balance(self) -> int:
        return len(self.explained) - len(self.refuted)


class Comparison:
    """Holds hypotheses against cases, and asks each of them about each case once."""

    def __init__(self) -> None:
        self.asked: dict[tuple[str, str, str, bool], Mapping[str, np.ndarray]] = {}

    def predicted(self, hypothesis: Hypothesis, case: Case, native: bool = False) -> Mapping[str, np.ndarray]:
        """What it predicts; empty where it has nothing to say."""
        key = (hypothesis.id, case.question.id, case.question.dtype, native)
        if key not in self.asked:
            predict = hypothesis.native if native else hypothesis.predict
            self.asked[key] = {} if predict is None else _guarded(predict, case.situation)
        return self.asked[key]

    def told(self, hypothesis: Hypothesis, case: Case, item: Observed) -> Told:
        """What it does to a failure: whether it gives these numbers in float64, or else in the dtype that was asked.

        The latter is for what float64 doesn't show: overflow, and digits that are lost.
        """
        precise = self.predicted(hypothesis, case).get(item.output)
        told = _told(precise, item)
        hidden = precise is None or not item.refutes(precise) or not np.all(np.isfinite(item.got))
        if told != "explained" and hidden and asked_otherwise(hypothesis, case):
            return max(told, _told(self.predicted(hypothesis, case, True).get(item.output), item), key=TOLD.index)
        return told

    def denies(self, hypothesis: Hypothesis, case: Case, item: Observed) -> bool:
        """Whether it predicts a failure, in float64 and in the dtype that was asked.

        What is sound input in one isn't always in the other: targets that add up to 1 but for a rounding.
        """
        formats = (False, True) if asked_otherwise(hypothesis, case) else (False,)
        said = (self.predicted(hypothesis, case, native).get(item.output) for native in formats)
        return all(predicted is not None and item.refutes(predicted) for predicted in said)

    def score(self, hypothesis: Hypothesis, cases: Iterable[Case], kinds: Sequence[str]) -> Score:
        """Over the outputs of these kinds."""
        score = Score()
        for case in cases:
            for item in (item for item in case.observed if item.kind in kinds):
                key = (item.check, item.output)
                if item.wrong:
                    getattr(score, self.told(hypothesis, case, item)).add(key)
                    continue
                if self.denies(hypothesis, case, item):
                    score.refuted.add(key)
        return score


def asked_otherwise(hypothesis: Hypothesis, case: Case) -> bool:
    """Whether float64 isn't all there is: the hypothesis has a say in the dtype that was asked, another one."""
    return hypothesis.native is not None and case.question.dtype != "float64"


def _told(predicted: np.ndarray | None, item: Observed) -> Told:
    if predicted is None or not item.equals(predicted):
        return "missed"
    return "explained" if item.refutes(predicted) else "alike"


def _guarded(predict: Callable[[Situation], Any], situation: Situation) -> Mapping[str, np.ndarray]:
    """What a hypothesis says; nothing where it can't be computed: wrong code may do anything."""
    try:
        with np.errstate(all="ignore"):
            return predict(situation) or {}
    except Exception:  # noqa: BLE001
        return {}
