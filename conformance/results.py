"""What a run found: results, the verdict with its exit code, and the record in JSON lines."""

from __future__ import annotations

import datetime
import json
import math
import platform
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any

import infonce_ref
from infonce_ref.conformance.checks import ORDINARY, PROFILES, REQUIRED, Check, Outcome, Status
from infonce_ref.conformance.load import EDITION

if TYPE_CHECKING:
    from infonce_ref.conformance.diagnosis import Diagnosis
    from infonce_ref.conformance.known import KnownFailures

FAILING = ("fail", "error", "timeout")
NEARLY = Fraction(9, 10)  # of the highest rate of failures: so near to it that chance may have made the difference
MAX_LINE = 2**23  # bytes of a report's line: json.dumps writes ASCII


class Exit(IntEnum):
    """Exit codes of the command; of several that hold, 1 goes before 5 and 5 before 4."""

    CONFORMS = 0
    DOES_NOT = 1
    USAGE = 2
    UNUSABLE = 3  # the target, or the suite itself, can't be run
    STALE = 4  # a known failure passes, matches nothing or has expired
    INCOMPLETE = 5  # nothing ran of what was required


class Usage(ValueError):
    """What was asked for makes no sense."""


@dataclass(frozen=True)
class Result:
    """A check and its outcome."""

    check: Check
    outcome: Outcome
    known: str | None = None  # why it is expected to fail
    replies: tuple[Mapping[str, Any], ...] = ()  # the raw outputs that it was judged by
    diagnosis: tuple[str, ...] = ()  # what the mistake seems to be

    @property
    def status(self) -> Status:
        if self.known is None or not self.ran:
            return self.outcome.status
        return "xfail" if self.wrong else "xpass"

    @property
    def wrong(self) -> bool:
        """Whether it isn't as it should be, known or not."""
        return self.outcome.status in (*FAILING, "xfail")

    @property
    def failed(self) -> bool:
        """Whether that counts."""
        return self.status in FAILING

    @property
    def ran(self) -> bool:
        return self.outcome.status != "n/a"

    @property
    def part(self) -> str:
        """What was looked at: loss, grad, temperature, … (the last part of the id)."""
        return self.check.id.rpartition("/")[2]

    @property
    def clauses(self) -> tuple[str, ...]:
        return self.check.clauses if self.outcome.clauses is None else self.outcome.clauses

    @property
    def r(self) -> float | None:
        return None if self.outcome.worst is None else self.outcome.worst.r

    def record(self) -> dict[str, Any]:
        """The line that a report holds; the raw outputs are in it, to be judged again."""
        worst = self.outcome.worst
        line: dict[str, Any] = {
            "type": "result",
            "id": self.check.id,
            "clauses": list(self.clauses),
            "profile": self.check.profile,
            "level": self.check.level,
            "dtype": self.check.dtype,
            "status": self.status,
            "r": None if self.r is None else (self.r if math.isfinite(self.r) else "inf"),
            "reason": self.outcome.reason,
        }
        if worst is not None:
            line["worst"] = {
                "output": self.outcome.output,
                "index": list(worst.index),
                "expected": worst.expected,
                "got": worst.got,
                "bound": worst.bound,
            }
        if self.known is not None:
            line["known"] = self.known
        if self.diagnosis:
            line["diagnosis"] = list(self.diagnosis)
        line["raw"] = [{key: value for key, value in reply.items() if key != "id"} for reply in self.replies]
        return line


@dataclass(frozen=True)
class ClauseScore:
    """How a clause fared within a profile."""

    passed: int
    total: int
    worst: float | None


@dataclass
class Report:
    """All results of a run, and what follows from them."""

    loss: str
    target: str
    seed: int
    vectors: str
    hello: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = REQUIRED
    named: bool = False  # the required profiles were named one by one, so each of them must have run
    command: tuple[str, ...] = ()  # what to type to run this again
    only: str | None = None  # the pattern that the checks were chosen by
    known: KnownFailures | None = None
    every: Collection[str] = ()  # ids of all the checks of the loss, chosen or not
    date: datetime.date = field(default_factory=datetime.date.today)
    results: list[Result] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)  # where what is declared isn't what was found
    diagnosed: Diagnosis | None = None  # once someone has asked for it

    def header(self) -> dict[str, Any]:
        return {
            "type": "header",
            "edition": EDITION,
            "suite": infonce_ref.__version__,
            "vectors": self.vectors,
            "loss": self.loss,
            "target": self.target,
            "resolved": self.hello.get("resolved"),
            "framework": self.hello.get("framework"),
            "versions": {"python": platform.python_version(), **self.hello.get("versions", {})},
            "declared": {key: self.hello.get(key) for key in ("dtypes", "profiles", "flushes", "unseen")},
            "seed": self.seed,
            "only": self.only,
            "command": list(self.command),
            "required": list(self.required),
            "named": self.named,
            "date": self.date.isoformat(),
            "known": [entry.to_json() for entry in self.known.entries] if self.known else [],
        }

    def footer(self) -> dict[str, Any]:
        return {
            "type": "footer",
            "counts": dict(sorted(self.counts().items())),
            "capabilities": list(self.capabilities),
            "stale": self.stale,
            "exit": int(self.exit_code),
            **({"diagnosis": self.diagnosed.to_json()} if self.diagnosed and self.diagnosed.findings else {}),
        }

    def counts(self, profile: str | None = None) -> Counter[str]:
        """Statuses, counted."""
        return Counter(r.status for r in self.results if profile in (None, r.check.profile))

    def of(self, profile: str) -> list[Result]:
        return [r for r in self.results if r.check.profile == profile]

    @property
    def profiles(self) -> list[str]:
        """The profiles that have results, in the order of the report."""
        present = {r.check.profile for r in self.results}
        return [*(p for p in PROFILES if p in present), *sorted(present - {*PROFILES})]

    @property
    def stale(self) -> list[str]:
        """The known failures that have to go, each with why."""
        return self.known.stale(self.results, self.required, self.every) if self.known else []

    def scores(self, profile: str) -> dict[str, ClauseScore]:
        """By clause, what of it ran in `profile`; a failure, known or not, counts where it is blamed."""
        blame = self.blame()
        table: dict[str, list[Result]] = {}
        for result in self.of(profile):
            for clause in blame.get(result.check.id, result.clauses) if result.ran else ():
                table.setdefault(clause, []).append(result)
        return {clause: _score(results) for clause, results in sorted(table.items())}

    def blame(self) -> dict[str, tuple[str, ...]]:
        """For each failed check the clauses to look at: of those it depends on that nearly always fail, the commonest.

        A zero row that gives NaN fails a check that depends on the mean too, but the mean passes everywhere else: out
        of it. Where nearly everything fails, what stands on more of the failures is more likely their cause: a clause
        that few of them have is as often wrong, and can't be the cause of the others. Losses are compared with losses
        and gradients with gradients first.
        """
        failed, ran = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for result in self.results:
            for clause in result.clauses if result.ran else ():
                for part in (result.part, "all"):
                    ran[clause, part] += 1
                    failed[clause, part] += result.wrong

        def often(clauses: Sequence[str], part: str) -> list[str]:
            """Those that fail nearly as often as the worst of them."""
            rates = {clause: Fraction(failed[clause, part], ran[clause, part]) for clause in clauses}
            return [clause for clause in clauses if rates[clause] >= NEARLY * max(rates.values())]

        blame = {}
        for result in (r for r in self.results if r.wrong):
            clauses = often(often(result.clauses, result.part), "all")
            most = max((failed[clause, "all"] for clause in clauses), default=0)
            blame[result.check.id] = tuple(clause for clause in clauses if failed[clause, "all"] == most)
        return blame

    @property
    def diagnosis(self) -> Diagnosis:
        """Which known mistake the failures are; worked out when it is first asked for."""
        return self.diagnose()

    def diagnose(self, tick: Callable[[int, int], None] = lambda done, every: None) -> Diagnosis:
        """The same, telling how many hypotheses of how many have been tried; each failure is told what is its own."""
        from infonce_ref.conformance.diagnosis import diagnose

        if self.diagnosed is None:
            self.diagnosed = found = diagnose(self, tick)
            self.results = [replace(r, diagnosis=found.about(r.check.id)) if r.wrong else r for r in self.results]
        return self.diagnosed

    def failures(self, profiles: Iterable[str] | None = None) -> list[Result]:
        """The failures that count: those that aren't known."""
        wanted = self.profiles if profiles is None else tuple(profiles)
        return [r for r in self.results if r.failed and r.check.profile in wanted]

    @property
    def missing(self) -> list[str]:
        """The required profiles of which nothing was asked that the target declares to have."""
        return [p for p in self.required if self.of(p) and not any(r.ran for r in self.of(p))]

    @property
    def exit_code(self) -> Exit:
        required = [r for r in self.results if r.check.profile in self.required]
        if any(r.failed for r in required):
            return Exit.DOES_NOT
        if not any(r.ran for r in required) or (self.named and self.missing):
            return Exit.INCOMPLETE
        return Exit.STALE if self.stale else Exit.CONFORMS

    @property
    def conforms(self) -> bool:
        return self.exit_code is Exit.CONFORMS

    def verdict(self) -> str:
        """The outcome in one sentence."""
        names = "all profiles" if {*ORDINARY} <= {*self.required} else ", ".join(self.required)
        missing = ", ".join(self.missing)
        if self.exit_code is Exit.DOES_NOT:
            failures, blame = self.failures(self.required), self.blame()
            clauses = sorted({clause for result in failures for clause in blame[result.check.id]})
            return f"does not conform to {names}: {len(failures)} checks fail, of {', '.join(clauses)}"
        if self.exit_code is Exit.INCOMPLETE:
            return f"incomplete: nothing ran of {missing or names}"
        counts = Counter(r.status for r in self.results if r.check.profile in self.required)
        known = f" but for {counts['xfail']} known failures" if counts["xfail"] else ""
        missing = f"; not applicable: {missing}" if missing else ""
        if self.exit_code is Exit.STALE:
            return f"conforms to {names}{known}{missing}, but {len(self.stale)} known failures are stale"
        return f"conforms to {names}{known}{missing}"

    def __str__(self) -> str:
        lines = [f"{self.target}: {self.verdict()}"]
        blame = self.blame()
        lines += [explain(result, blame[result.check.id]) for result in self.failures(self.required)[:5]]
        return "\n\n".join(lines)


def _score(results: Sequence[Result]) -> ClauseScore:
    ratios = [r.r for r in results if r.r is not None]
    return ClauseScore(sum(not r.wrong for r in results), len(results), max(ratios, default=None))


def explain(result: Result, clauses: Sequence[str] | None = None) -> str:
    """A failure for people: the sentences of (the first two of) its clauses, expected, got, bound and r."""
    from infonce_ref.conformance.clauses import sentences

    check, outcome = result.check, result.outcome
    lines = [f"{result.status.upper()} {check.id}"]
    for clause in (result.clauses if clauses is None else clauses)[:2]:
        lines.append(f"  [{clause}] {sentences().get(clause, '')}".rstrip())
    if check.note:
        lines.append(f"  catches   {check.note}")
    if outcome.reason:
        lines.append(f"  reason    {outcome.reason}")
    worst = outcome.worst
    if worst is not None and worst.expected:
        where = outcome.output + (str(list(worst.index)) if worst.index else "")
        lines.append(f"  expected  {worst.expected}   at {where}")
        lines.append(f"  got       {worst.got}")
        if worst.bound:
            lines.append(f"  bound     {worst.bound}   r = {worst.r:.3g}")
    return "\n".join(lines)


class Record:
    """Writes a report as JSON lines while it comes about; without a footer, it is incomplete."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, allow_nan=False)
        if len(text) >= MAX_LINE:  # an answer of another shape may be of any size
            text = json.dumps({**line, "raw": None}, allow_nan=False)
        self.stream.write(text + "\n")
        self.stream.flush()
