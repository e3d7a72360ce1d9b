"""Which known mistake, or which other convention, a failing implementation's outputs are equal to.

A hypothesis is held against the outputs of some failing checks and of some that pass. It explains a failure if it
gives the same number and not the right one; it is named if it explains nearly all failures, expects hardly a failure
where there is none, and no other does better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infonce_ref.conformance.evidence import KINDS, Case, Comparison, Score, by_profile, gathered, spread
from infonce_ref.conformance.hypotheses import Hypothesis, combined, conventions, known
from infonce_ref.conformance.question import HALF

if TYPE_CHECKING:
    from infonce_ref.conformance.results import Report, Result

EXPLAINED = 0.9  # of the failing outputs, and of the failures that a hypothesis expects
ENOUGH = 3  # checks that a hypothesis must explain to be named
GLANCE, PROBES = 2, 8  # failing problems of which a hypothesis must explain something, and half
FAILING, PASSING = 40, 40  # problems on which the few are tried that are left then
LEFT = 12  # how many that may be
OTHERS = 3  # that give the same numbers, mentioned

CAREFUL = ("edges", "precise", "errors")  # profiles that ask for more than the formula

Tick = Callable[[int, int], None]  # how many hypotheses of how many have been tried


def silent(done: int, every: int) -> None:
    """Tell nobody."""


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

    def about(self, check: str) -> tuple[str, ...]:
        """What is said of one failing check."""
        return tuple(s for finding in self.findings if check in finding.checks for s in finding.sentences)

    def to_json(self) -> list[dict[str, Any]]:
        return [finding.to_json() for finding in self.findings]

    def __str__(self) -> str:
        return "\n".join(self.sentences)


def diagnose(report: Report, tick: Tick = silent, search: Search | None = None) -> Diagnosis:
    """What the failures of `report` are, as far as they are known mistakes; a `search` may be used again."""
    failed = [result for result in report.results if result.failed]
    if not failed:
        return Diagnosis()
    cases = gathered(result for result in report.results if result.check.profile not in CAREFUL)
    full = [case for case in cases if case.question.dtype not in HALF]
    if any(case.wrong for case in full):
        return Diagnosis(tuple((search or Search(report.loss, tick)).findings(full)))
    if not full or any(plain(result) for result in failed):
        return Diagnosis()
    half = [case for case in cases if case.question.dtype in HALF]
    found = (search or Search(report.loss, tick)).named_in(half) if any(case.wrong for case in half) else []
    return Diagnosis((*found, *carefree(result for result in failed if not (found and result.check.profile == "half"))))


def plain(result: Result) -> bool:
    """Whether it asks for no more than the formula in full precision."""
    return result.check.profile not in CAREFUL and result.check.dtype not in HALF


def carefree(failed: Iterable[Result]) -> Iterator[Finding]:
    """What to say where ordinary input is answered right: it is a sound formula, without the care that is asked for."""
    failed = list(failed)
    for profile, words in CARE.items():
        checks = [result.check.id for result in failed if result.check.profile == profile]
        if checks:
            yield Finding((words,), (), tuple(checks))


CARE: Mapping[str, str] = {
    "half": "Right in full precision: this is the textbook formula, which takes no care of half precision.",
    "edges": "Right on ordinary input: this is the textbook formula, which takes no care of the edges that fail.",
    "precise": (
        "Right within the bounds that every sound evaluation keeps: this is the textbook formula in this precision, "
        "logsumexp less the positive, which loses the digits of a tiny loss."
    ),
}


class Search:
    """For the hypotheses that explain some cases."""

    def __init__(self, loss: str, tick: Tick = silent) -> None:
        self.loss, self.tick = loss, tick
        self.comparison = Comparison()
        self.hypotheses, self.missing = known(loss)

    def findings(self, cases: Sequence[Case]) -> list[Finding]:
        """One mistake, or one for each kind of output or profile; or else a convention on top of a mistake."""
        found = self.named_in(cases) or [finding for part in by_profile(cases) for finding in self.named_in(part)]
        if found:
            return found
        both = self.named(cases, KINDS, self.combinations(cases))
        return [both or self.none(cases)]

    def named_in(self, cases: Sequence[Case]) -> list[Finding]:
        """One mistake for all outputs of the cases; or else one for each kind of output."""
        kinds = [kind for kind in KINDS if any(case.fails((kind,)) for case in cases)]
        whole = self.named(cases, KINDS, self.hypotheses) if kinds else None
        if whole is not None:
            return [whole]
        parts = [self.named(cases, (kind,), self.hypotheses) for kind in kinds if len(kinds) > 1]
        return [part for part in parts if part is not None]

    def named(self, cases: Sequence[Case], kinds: Sequence[str], among: Iterable[Hypothesis]) -> Finding | None:
        """The finding about the outputs of these kinds, if there is one."""
        failing = [case for case in cases if case.fails(kinds)]
        passing = [case for case in cases if not case.fails(kinds)]
        left = self.plausible(among, spread(failing, PROBES), kinds)
        left = self.best(left, [*spread(failing, FAILING), *spread(passing, PASSING)], kinds)
        left = self.best(left, cases, kinds)
        return self.finding(left, failing, kinds) if left else None

    def plausible(
        self, hypotheses: Iterable[Hypothesis], probes: Sequence[Case], kinds: Sequence[str]
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

    def best(self, hypotheses: Sequence[Hypothesis], cases: Sequence[Case], kinds: Sequence[str]) -> list[Hypothesis]:
        """Those that explain enough, and the most; several where the cases can't tell them apart, simplest first."""
        scores = [(self.comparison.score(hypothesis, cases, kinds), hypothesis) for hypothesis in hypotheses]
        most = max((score.balance for score, _ in scores if good(score)), default=0)
        equal = [hypothesis for score, hypothesis in scores if good(score) and score.balance == most]
        return sorted(equal, key=lambda hypothesis: hypothesis.rank)

    def combinations(self, cases: Sequence[Case]) -> Iterator[Hypothesis]:
        """Conventions on top of mistakes, if they give a number that is observed: the first wrong one of a probe."""
        probes = spread([case for case in cases if case.wrong], GLANCE)
        firsts = [(case, next(item for item in case.observed if item.wrong)) for case in probes]
        for hypothesis in self.hypotheses:
            for convention in conventions() if hypothesis.rank else ():
                for case, item in firsts:
                    found = self.comparison.predicted(hypothesis, case)
                    changed = convention.change(case.situation, found) if {item.output, "loss"} <= {*found} else None
                    if changed is not None and item.equals(changed[item.output]):
                        yield combined(hypothesis, convention)
                        break

    # --- in words ----------------------------------------------------------------------------------------------------

    def finding(self, best: Sequence[Hypothesis], failing: Sequence[Case], kinds: Sequence[str]) -> Finding:
        """The first of the best, with the others that give the same numbers, and on how many vectors."""
        first = best[0]
        score = self.comparison.score(first, failing, kinds)
        vectors = {case.question.id for case in failing}
        missed = {c.question.id for c in failing for item in c.observed if (item.check, item.output) in score.missed}
        subject = SUBJECTS[kinds[0]] if len(kinds) == 1 else "outputs equal"
        kind = "another definition," if first.definition else "the variant"
        counted = f"{len(vectors) - len(missed)} of {len(vectors)} vectors"
        sentences = [f"Your {subject} {kind} '{first.means}' on {counted}."]
        sentences += [hypothesis.story for hypothesis in best if hypothesis.story][:1]
        others = dict.fromkeys(h.means for h in best[1:] if h.means != first.means)
        if others:
            sentences.append("The same numbers here: " + "; ".join(f"'{m}'" for m in [*others][:OTHERS]) + ".")
        checks = sorted({check for check, _ in score.explained | score.alike})
        return Finding(tuple(sentences), tuple(hypothesis.id for hypothesis in best), tuple(checks))

    def none(self, cases: Sequence[Case]) -> Finding:
        """No known mistake; where hardly anything fails, those that give the same numbers are told, and not named."""
        failing = [case for case in cases if case.wrong]
        if len({item.check for case in failing for item in case.observed if item.wrong}) < ENOUGH:
            same = self.plausible(self.hypotheses, failing, KINDS)
            words = "; ".join(f"'{hypothesis.means}'" for hypothesis in self.best_of_few(same, cases)[: OTHERS + 1])
            return Finding(
                (f"Too few checks fail to name a mistake. What gives the same numbers: {words or 'nothing'}.",)
            )
        sentence = f"No known mistake explains this: {len(self.hypotheses)} mistakes and conventions were compared."
        return Finding((sentence, *([self.missing] if self.missing else [])))

    def best_of_few(self, hypotheses: Sequence[Hypothesis], cases: Sequence[Case]) -> list[Hypothesis]:
        """Those that explain all failures, and expect no other."""
        scores = [(self.comparison.score(hypothesis, cases, KINDS), hypothesis) for hypothesis in hypotheses]
        return [hypothesis for score, hypothesis in scores if not score.missed and not score.refuted]


def good(score: Score) -> bool:
    """Whether it is enough to name a mistake."""
    return min(score.share, score.borne_out) >= EXPLAINED and score.clear and score.checks >= ENOUGH


SUBJECTS: Mapping[str, str] = {
    "loss": "loss equals",
    "arrays": "gradients equal",
    "temperature": "gradient of the temperature equals",
    "margin": "gradient of the margin equals",
    "bias": "gradient of the bias equals",
}
