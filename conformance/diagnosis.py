"""Which known mistake, or which other convention, a failing implementation's outputs are equal to.

A hypothesis is held against the outputs of some failing checks and of some that pass. It explains a failure if it
gives the same number and not the right one; it is named if it explains nearly all failures, expects hardly a failure
where there is none, and no simpler one does as well.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from infonce_ref.conformance.adapters.wire import unpack
from infonce_ref.conformance.family import SCALARS
from infonce_ref.conformance.hypotheses import Hypothesis, Situation, combined, conventions, known
from infonce_ref.conformance.judge import Exact, exact, measure
from infonce_ref.conformance.problem import FORMATS, Problem
from infonce_ref.conformance.question import HALF, Question

if TYPE_CHECKING:
    from infonce_ref.conformance.results import Report, Result

EXPLAINED = 0.9  # of the failing outputs, and of the failures that a hypothesis expects
ENOUGH = 3  # checks that a hypothesis must explain to be named
GLANCE, PROBES = 2, 8  # failing problems of which a hypothesis must explain something, and half
FAILING, PASSING = 40, 40  # problems on which the few are tried that are left then
LEFT = 12  # how many that may be
LARGE = 3000  # numbers in a problem that isn't replayed
SHOWN = 3

SLACK = 2.0  # bounds: each side errs by one at most, where both were computed in one format
ROUNDINGS = 64.0  # of a row's largest number: what a bound of 0 leaves out; and what a bound is of it at most, usually

CAREFUL = ("edges", "precise", "errors")  # profiles that ask for more than the formula


# --- evidence --------------------------------------------------------------------------------------------------------


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
        """loss, arrays, temperature, …"""
        return self.output if self.output in ("loss", *SCALARS) else "arrays"

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

    def equals(self, predicted: np.ndarray | None) -> bool:
        """Whether it is what is predicted, infinities and NaN included."""
        if predicted is None or predicted.shape != self.got.shape:
            return False
        with np.errstate(all="ignore"):
            close = np.abs(self.got - predicted) <= self.tolerance(predicted)
        return bool(np.all(close | (self.got == predicted) | (np.isnan(self.got) & np.isnan(predicted))))

    def refutes(self, predicted: np.ndarray | None) -> bool:
        """Whether what is predicted clearly isn't right."""
        if predicted is None:
            return False
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
        return any(item.wrong for item in self.observed)

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
        unit = FORMATS[dtype].unit
        yield Observed(output, result.check.id, got, truth, exact(radii).hi.reshape(truth.shape), unit, wrong)


# --- comparing -------------------------------------------------------------------------------------------------------


@dataclass
class Score:
    """What a hypothesis does with the evidence."""

    explained: set[tuple[str, str]] = field(default_factory=set)  # (check, output): fails, as it predicts
    alike: set[tuple[str, str]] = field(default_factory=set)  # fails by so little that it is near both
    missed: set[tuple[str, str]] = field(default_factory=set)  # fails otherwise
    refuted: set[tuple[str, str]] = field(default_factory=set)  # passes, where it predicts a failure

    @property
    def share(self) -> float:
        """Of the failures that can tell."""
        return len(self.explained) / max(1, len(self.explained) + len(self.missed))

    @property
    def told(self) -> bool:
        """Whether at least half of the failures can tell."""
        return len(self.alike) <= len(self.explained) + len(self.missed)

    @property
    def borne_out(self) -> float:
        """Of the failures that it predicts."""
        return len(self.explained) / max(1, len(self.explained) + len(self.refuted))

    @property
    def checks(self) -> int:
        return len({check for check, _ in self.explained})

    @property
    def good(self) -> bool:
        return self.share >= EXPLAINED and self.borne_out >= EXPLAINED and self.told and self.checks >= ENOUGH


class Comparison:
    """Holds hypotheses against cases; asks each of them once."""

    def __init__(self) -> None:
        self.asked: dict[tuple[str, str, str, bool], Mapping[str, np.ndarray] | None] = {}

    def predicted(self, hypothesis: Hypothesis, case: Case, native: bool) -> Mapping[str, np.ndarray] | None:
        key = (hypothesis.id, case.question.id, case.question.dtype, native)
        if key not in self.asked:
            predict = hypothesis.native if native else hypothesis.predict
            self.asked[key] = None if predict is None else _guarded(predict, case.situation)
        return self.asked[key]

    def told(self, hypothesis: Hypothesis, case: Case, item: Observed) -> str:
        """What it does to a failure: whether it gives these numbers in float64, or else in the dtype that was asked.

        The latter is for what float64 doesn't show: overflow, and digits that are lost.
        """
        told = self._told(hypothesis, case, item, False)
        found = (self.predicted(hypothesis, case, False) or {}).get(item.output)
        hidden = found is None or not item.refutes(found) or not np.all(np.isfinite(item.got))
        if told != "explained" and hidden and hypothesis.native is not None and case.question.dtype != "float64":
            return max(told, self._told(hypothesis, case, item, True), key=("missed", "alike", "explained").index)
        return told

    def _told(self, hypothesis: Hypothesis, case: Case, item: Observed, native: bool) -> str:
        found = (self.predicted(hypothesis, case, native) or {}).get(item.output)
        if found is None or not item.equals(found):
            return "missed"
        return "explained" if item.refutes(found) else "alike"

    def score(self, hypothesis: Hypothesis, cases: Iterable[Case], kinds: Iterable[str]) -> Score:
        """Over the outputs of these kinds."""
        score, kinds = Score(), {*kinds}
        for case in cases:
            for item in case.observed:
                if item.kind not in kinds:
                    continue
                key = (item.check, item.output)
                if item.wrong:
                    getattr(score, self.told(hypothesis, case, item)).add(key)
                elif item.refutes((self.predicted(hypothesis, case, False) or {}).get(item.output)):
                    score.refuted.add(key)
        return score


def _guarded(predict: Callable[[Situation], Any], situation: Situation) -> Any:
    """What a hypothesis says, or None where it can't be computed: wrong code may do anything."""
    try:
        with np.errstate(all="ignore"):
            return predict(situation)
    except Exception:  # noqa: BLE001
        return None


# --- naming ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What is said of some failures."""

    sentences: tuple[str, ...]
    hypotheses: tuple[str, ...] = ()  # ids: several where they give the same numbers; none where none was found
    checks: tuple[str, ...] = ()  # ids of the failing checks that it explains

    def to_json(self) -> dict[str, Any]:
        return {"says": list(self.sentences), "hypotheses": list(self.hypotheses), "checks": list(self.checks)}


@dataclass(frozen=True)
class Diagnosis:
    """All that is said of a run."""

    findings: tuple[Finding, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(sentence for finding in self.findings for sentence in finding.sentences)

    @property
    def named(self) -> tuple[str, ...]:
        """The ids of the hypotheses that were named."""
        return tuple(name for finding in self.findings for name in finding.hypotheses)

    def of(self, check: str) -> tuple[str, ...]:
        """What is said of one failing check."""
        return tuple(s for finding in self.findings if check in finding.checks for s in finding.sentences)

    def to_json(self) -> list[dict[str, Any]]:
        return [finding.to_json() for finding in self.findings]


Tick = Callable[[int, int], None]  # how many of how many


def diagnose(report: Report, tick: Tick = lambda done, every: None, search: Search | None = None) -> Diagnosis:
    """What the failures of `report` are, as far as they are known mistakes; a `search` may be used again."""
    failed = [result for result in report.results if result.failed]
    if not failed:
        return Diagnosis()
    ordinary = [result for result in report.results if result.check.profile not in CAREFUL]
    cases = gathered(ordinary)
    full = [case for case in cases if case.question.dtype not in HALF]
    if any(case.wrong for case in full):
        cases = full
    if not any(case.wrong for case in cases):
        return Diagnosis(tuple(only_careful(report, failed)))
    return Diagnosis(tuple((search or Search(report.loss, tick)).findings(cases)))


def only_careful(report: Report, failed: Sequence[Result]) -> Iterator[Finding]:
    """What to say where ordinary input is answered right, or not with numbers that could be compared."""
    count = Counter(result.check.profile for result in failed)
    if {*count} - {*CAREFUL} or not any(r.outcome.status == "pass" for r in report.results):
        return
    for profile, words in CARE.items():
        if count[profile]:
            checks = tuple(result.check.id for result in failed if result.check.profile == profile)
            yield Finding((words,), (), checks)


CARE: Mapping[str, str] = {
    "precise": (
        "Right within the bounds that every sound evaluation keeps; this is the textbook formula in this precision, "
        "logsumexp less the positive, which loses the digits of a tiny loss."
    ),
    "edges": "Right on ordinary input: this is the textbook formula, which takes no care of the edges that fail.",
}


class Search:
    """For the hypotheses that explain some cases."""

    def __init__(self, loss: str, tick: Tick = lambda done, every: None) -> None:
        self.loss, self.tick = loss, tick
        self.comparison = Comparison()
        self.hypotheses, self.missing = known(loss)

    def findings(self, cases: Sequence[Case]) -> list[Finding]:
        """One mistake for everything if there is such; or else one for each kind of output, profile by profile."""
        for scope in ([cases], by_profile(cases)):
            found = [finding for part in scope for finding in self.of(part)]
            if found:
                return found
        return [self.none(cases)]

    def of(self, cases: Sequence[Case]) -> Iterator[Finding]:
        """One mistake for all outputs of the cases; or else one for each kind of output."""
        kinds = [kind for kind in ("loss", "arrays", *SCALARS) if _fail(cases, (kind,))]
        if not kinds:
            return
        every = ("loss", "arrays", *SCALARS)
        whole = self.named(cases, every)
        if whole is not None:
            yield whole
            return
        for kind in kinds if len(kinds) > 1 else ():
            part = self.named(cases, (kind,))
            if part is not None:
                yield part

    def named(self, cases: Sequence[Case], kinds: tuple[str, ...]) -> Finding | None:
        """The finding about the outputs of these kinds, if there is one."""
        failing = spread([case for case in cases if _fail([case], kinds)], FAILING)
        passing = spread([case for case in cases if not _fail([case], kinds)], PASSING)
        probes = spread(failing, PROBES)  # float64's come first
        simple = self.tried(self.hypotheses, probes, kinds)
        best = self.best(simple, failing, passing, kinds)
        if not best:
            both = (combined(h, c) for h in self.hypotheses if h.rank for c in conventions(self.loss))
            best = self.best(self.tried(both, probes, kinds), failing, passing, kinds)
        if len(best) > 1:
            best = self.best(best, cases, (), kinds)
        return self.finding(best, cases, kinds) if best else None

    def tried(
        self, hypotheses: Iterable[Hypothesis], probes: Sequence[Case], kinds: tuple[str, ...]
    ) -> list[Hypothesis]:
        """Those that explain at least half of what is wrong in the probes, best first."""
        scores = []
        for number, hypothesis in enumerate(hypotheses):
            self.tick(number, len(self.hypotheses))
            if not self.comparison.score(hypothesis, probes[:GLANCE], kinds).explained:
                continue
            score = self.comparison.score(hypothesis, probes, kinds)
            if score.share >= 0.5:
                scores.append((-len(score.explained), hypothesis.rank, number, hypothesis))
        return [hypothesis for *_, hypothesis in sorted(scores, key=lambda entry: entry[:3])[:LEFT]]

    def best(
        self, hypotheses: Sequence[Hypothesis], failing: Sequence[Case], passing: Sequence[Case], kinds: tuple[str, ...]
    ) -> list[Hypothesis]:
        """Those that explain the most, and enough; several where the evidence can't tell them apart, simplest first."""
        scores = [(self.comparison.score(h, (*failing, *passing), kinds), h) for h in hypotheses]
        good = [(score, h) for score, h in scores if score.good]
        if not good:
            return []
        most = max(len(score.explained) - len(score.refuted) for score, _ in good)
        equal = [h for score, h in good if len(score.explained) - len(score.refuted) == most]
        return sorted(equal, key=lambda h: h.rank)

    def finding(self, best: Sequence[Hypothesis], cases: Sequence[Case], kinds: tuple[str, ...]) -> Finding | None:
        """In words, with all failing cases counted."""
        first = best[0]
        failing = [case for case in cases if _fail([case], kinds)]
        score = self.comparison.score(first, failing, kinds)
        vectors = {case.question.id for case in failing}
        missed = {c.question.id for c in failing for o in c.observed if (o.check, o.output) in score.missed}
        what = SUBJECTS[kinds[0]] if len(kinds) == 1 else "outputs"
        kind = "another definition" if first.definition else "the variant"
        counted = f"{len(vectors) - len(missed)} of {len(vectors)} vectors"
        sentences = [f"Your {what} equal {kind} '{first.means}' on {counted}."]
        sentences = [sentences[0].replace(" equal ", " equals ", 1)] if what in SINGULAR else sentences
        sentences += [first.story] if first.story else []
        others = [h.means for h in best[1:] if h.means != first.means][:SHOWN]
        if others:
            sentences.append("The same numbers here: " + "; ".join(f"'{words}'" for words in others) + ".")
        checks = sorted({check for check, _ in score.explained | score.alike})
        return Finding(tuple(sentences), tuple(h.id for h in best), tuple(checks))

    def none(self, cases: Sequence[Case]) -> Finding:
        """No known mistake."""
        sentence = f"No known mistake explains this: {len(self.hypotheses)} mistakes and conventions were compared."
        return Finding((sentence, *([self.missing[0].upper() + self.missing[1:] + "."] if self.missing else [])))


SUBJECTS: Mapping[str, str] = {
    "loss": "loss",
    "arrays": "gradients",
    "temperature": "gradient of the temperature",
    "margin": "gradient of the margin",
    "bias": "gradient of the bias",
}
SINGULAR = ("loss", *(words for words in SUBJECTS.values() if words.startswith("gradient of")))


def by_profile(cases: Sequence[Case]) -> list[list[Case]]:
    """The plain cases, and those of each further profile."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.question.profile].append(case)
    return [groups[name] for name in sorted(groups, key=lambda name: (name != "core", name))]


def _fail(cases: Iterable[Case], kinds: tuple[str, ...]) -> bool:
    return any(item.wrong and item.kind in kinds for case in cases for item in case.observed)


def spread(cases: Sequence[Case], most: int) -> list[Case]:
    """At most so many of the cases, of as many kinds as there are: one of each, then the next; first the finest."""
    groups: dict[tuple[float, str], list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda c: (c.size, c.question.id, c.question.dtype)):
        groups[FORMATS[case.question.dtype].unit, case.question.kind].append(case)
    turns = [(place, name, case) for name, group in groups.items() for place, case in enumerate(group)]
    return [case for _, _, case in sorted(turns, key=lambda turn: turn[:2])[:most]]
