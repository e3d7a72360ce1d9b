"""A report's lines as what the other forms are made from: one path for a run that has just ended and for a file."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from infonce_ref.conformance import recorded
from infonce_ref.conformance.checks import Check, Outcome
from infonce_ref.conformance.clauses import sentences
from infonce_ref.conformance.judge import Measure
from infonce_ref.conformance.recorded import Line
from infonce_ref.conformance.reproduce import Reproducer
from infonce_ref.conformance.results import ClauseScore, Exit, Report, Result

STATUSES = ("fail", "error", "timeout", "xpass", "xfail", "pass", "n/a")  # worst first


@dataclass(frozen=True)
class Run:
    """One implementation's report."""

    header: Line
    results: Sequence[Line]
    footer: Line | None  # None: the run was cut short

    @property
    def name(self) -> str:
        return str(self.header["target"])

    @property
    def versions(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in self.header.get("versions", {}).items())

    @cached_property
    def report(self) -> Report:
        """The same as the suite holds it: counts, scores, whom to blame, the verdict."""
        header = self.header
        return Report(
            loss=header["loss"],
            target=self.name,
            seed=header["seed"],
            vectors=str(header.get("vectors")),
            hello={name: header.get(name) for name in ("resolved", "framework", "versions")},
            required=tuple(header["required"]),
            named=bool(header.get("named")),
            command=tuple(header.get("command") or ()),
            results=[_result(line) for line in self.results],
        )

    @cached_property
    def blame(self) -> Mapping[str, tuple[str, ...]]:
        return self.report.blame()

    @cached_property
    def reproducer(self) -> Reproducer:
        return Reproducer(self.header)

    @cached_property
    def scores(self) -> Mapping[str, ClauseScore]:
        """The clauses that were asked in required profiles, each in all of them together."""
        found: dict[str, ClauseScore] = {}
        for profile in self.report.required:
            for clause, score in self.report.scores(profile).items():
                found[clause] = joined(found.get(clause), score)
        return found

    @property
    def met(self) -> int:
        """How many of those clauses are met."""
        return sum(score.passed == score.total for score in self.scores.values())

    @property
    def exit(self) -> int:
        """The run's exit code, as it was."""
        return int(Exit.INCOMPLETE if self.footer is None else self.footer["exit"])

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        if self.footer is None:
            return f"incomplete: the run was cut short after {len(self.results)} checks"
        if self.exit == Exit.STALE:
            return f"{self.report.verdict()}, but {len(self.footer.get('stale', ()))} known failures are stale"
        return self.report.verdict()

    @property
    def conforms(self) -> bool:
        return self.exit == Exit.CONFORMS

    def required(self, line: Line) -> bool:
        return line["profile"] in self.header["required"]

    def sentences(self, line: Line) -> list[tuple[str, str]]:
        """The clauses to blame for a failure, and what they say."""
        return [(clause, sentences().get(clause, "")) for clause in self.blame.get(line["id"], tuple(line["clauses"]))]

    @property
    def command(self) -> str:
        """What to type to run this again, less the profile and the pattern."""
        words = self.header.get("command") or self._guessed()
        return shlex.join(map(str, words))

    def _guessed(self) -> list[str]:
        framework = self.header.get("framework")
        words = ["infonce-conformance", "run", self.name, "--loss", str(self.header["loss"])]
        words += ["--framework", str(framework)] if framework else []
        return [*words, "--seed", str(self.header["seed"])]

    def again(self, line: Line) -> str:
        """The command that reruns just this check."""
        return f"{self.command} {narrowed(line)}"

    @property
    def diagnosis(self) -> list[str]:
        """What the suite thinks of the failures as a whole."""
        return [sentence for finding in (self.footer or {}).get("diagnosis", ()) for sentence in finding["says"]]

    def note(self, line: Line) -> str:
        """Which mistake the check is there for."""
        if line.get("note"):
            return str(line["note"])
        question = self.reproducer.question(line)
        return question.note if question is not None else ""


def joined(one: ClauseScore | None, other: ClauseScore) -> ClauseScore:
    """Two scores of a clause as one."""
    if one is None:
        return other
    worst = max((score.worst for score in (one, other) if score.worst is not None), default=None)
    return ClauseScore(one.passed + other.passed, one.total + other.total, worst)


def narrowed(line: Line) -> str:
    """The options that leave just this check."""
    return shlex.join(["--profile", str(line["profile"]), "--only", str(line["id"])])


def diagnosis(line: Line) -> list[str]:
    """What the suite thinks is the mistake, if it thinks so: a sentence, or several."""
    found = line.get("diagnosis") or []
    return [str(found)] if isinstance(found, str) else [str(sentence) for sentence in found]


def failing(lines: Iterable[Line]) -> list[Line]:
    """The results that went wrong, expected or not."""
    return [line for line in lines if line["status"] not in ("pass", "n/a")]


def number(r: Any) -> float | None:
    """r of a line: a number, "inf" or null."""
    return None if r is None else float(r)


def short(r: float | None) -> str:
    """r for people."""
    if r is None:
        return ""
    return "∞" if math.isinf(r) else f"{r:.2g}".replace("e+", "e")


def _result(line: Line) -> Result:
    def judge(_: Any) -> NoReturn:
        raise RuntimeError("a result that was read can't be asked again")

    r, worst = number(line.get("r")), line.get("worst") or {}
    found = {name: str(worst.get(name, "")) for name in ("expected", "got", "bound")}
    measure = None if r is None else Measure(r, tuple(worst.get("index", ())), **found)
    clauses = tuple(line["clauses"])
    check = Check(line["id"], clauses, line["profile"], line.get("level", "MUST"), str(line.get("dtype")), "", judge)
    return Result(check, Outcome(line["status"], str(line.get("reason", "")), measure, str(worst.get("output", ""))))


# --- reading -------------------------------------------------------------------------------------------------------


def run_of(report: Report) -> Run:
    """A run that has just ended, as its own record tells it."""
    return from_lines([report.header(), *(result.record() for result in report.results), report.footer()])


def read(path: Path) -> Run:
    """The report that `run --report` wrote to `path`."""
    found = recorded.read(path)
    return Run(found.header, diagnosed(found.results, found.footer), found.footer)


def from_lines(lines: Sequence[Line]) -> Run:
    """The run that these lines record, header first."""
    footer = lines[-1] if lines[-1]["type"] == "footer" else None
    return Run(lines[0], diagnosed(lines[1 : None if footer is None else -1], footer), footer)


def diagnosed(lines: Sequence[Line], footer: Line | None) -> list[Line]:
    """The result lines, each with what the footer says of it: lines are written before the mistake is looked for."""
    says: dict[str, list[str]] = {}
    for finding in (footer or {}).get("diagnosis", ()):
        for check in finding["checks"]:
            says.setdefault(check, []).extend(finding["says"])
    return [{"diagnosis": says[line["id"]], **line} if line["id"] in says else line for line in lines]
