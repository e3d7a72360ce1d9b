"""A run on the terminal: first lines at once, a progress bar, a table for each profile, the failures."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

import infonce_ref
from infonce_ref.conformance.diagnosis import Diagnosis
from infonce_ref.conformance.load import EDITION
from infonce_ref.conformance.results import ClauseScore, Report, Result, explain

Blame = Mapping[str, tuple[str, ...]]  # id of a failed check → clauses

SHOWN_FAILURES = 8  # of a required profile, one for each clause to blame
SHOWN_OTHERS = 1  # of each other profile


class Terminal:
    """Prints a run."""

    def __init__(self, console: Console | None = None, every_failure: bool = False) -> None:
        self.console = console or Console(highlight=False, soft_wrap=False)
        self.every_failure = every_failure

    def line(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    def begin(self, report: Report) -> None:
        """Before anything has been started."""
        suite = f"infonce-conformance {infonce_ref.__version__}, edition {EDITION}, vectors {report.vectors}"
        self.line(f"{suite}, seed {report.seed}")
        self.line(f"{report.loss} of {report.target} …")

    def resolved(self, report: Report) -> None:
        """Once the target is there: how it will be called."""
        hello = report.hello
        versions = ", ".join(f"{name} {version}" for name, version in hello.get("versions", {}).items())
        way = f"by {hello.get('framework')}" if hello.get("unseen") else f"with {hello.get('framework')} arrays"
        self.line(f"calls {hello.get('resolved')} {way}" + (f" ({versions})" if versions else ""))
        if hello.get("flushes"):
            self.line("the device takes subnormal numbers for zero: bounds are widened by the smallest normal number")

    def progress(self) -> Progress:
        """A bar; it leaves nothing behind, and isn't drawn where output isn't a terminal."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self.console, transient=True)

    def summary(self, report: Report) -> None:
        """Tables, failures, verdict."""
        for profile in report.profiles:
            self._profile(report, profile)
        blame = report.blame()
        for result, hidden in selected(report, blame, self.every_failure):
            self._failure(report, result, blame[result.check.id], hidden)
        if report.diagnosed is not None:
            self.diagnosis(report.diagnosed)
        style = {0: "bold green", 1: "bold red"}.get(int(report.exit_code), "bold yellow")
        self.console.print()
        for capability in report.capabilities:
            self.line(capability, "yellow")
        for entry in report.stale:
            self.line(f"stale known failure: {entry}", "yellow")
        self.line(f"{report.target} {report.verdict()}", style)

    def diagnosis(self, found: Diagnosis) -> None:
        """A paragraph for each finding: the mistake, its story under it."""
        for finding in found.findings:
            first, *others = finding.sentences
            self.line(f"\ndiagnosis: {first}", "bold")
            for sentence in others:
                self.line(f"  {sentence}")

    def _profile(self, report: Report, profile: str) -> None:
        scores, counts = report.scores(profile), report.counts(profile)
        required = "required" if profile in report.required else "not required"
        if not scores:
            self.line(f"\n{profile} ({required}): not applicable: {usual_reason(report.of(profile))}", "dim")
            return
        whole = sum(score.passed == score.total for score in scores.values())
        table = Table(box=None, pad_edge=False)
        table.add_column("clause")
        table.add_column("checks", justify="right")
        table.add_column("worst r", justify="right")
        for clause, score in scores.items():
            table.add_row(*row(clause, score))
        self.line(f"\n{profile} ({required}): {whole}/{len(scores)} clauses, {told(counts)}", "bold")
        self.console.print(table)

    def _failure(self, report: Report, result: Result, clauses: Sequence[str], hidden: int) -> None:
        self.console.print()
        self.line(explain(result, clauses))
        if report.command:
            again = [*report.command, "--profile", result.check.profile, "--only", result.check.id]
            self.line("  again     " + shlex.join(again))
        if hidden:
            self.line(f"  … and {hidden} more failing in {result.check.profile} (--failures shows all)", "dim")


def row(clause: str, score: ClauseScore) -> tuple[Text, Text, Text]:
    """A line of a profile's table."""
    style = "green" if score.passed == score.total else "red"
    ratio = "" if score.worst is None else ("inf" if math.isinf(score.worst) else f"{score.worst:.2g}")
    return Text(clause), Text(f"{score.passed}/{score.total}", style=style), Text(ratio)


def told(counts: Counter[str]) -> str:
    """Statuses in words: 88 pass, 2 fail."""
    order = ("pass", "fail", "error", "timeout", "xfail", "xpass", "n/a")
    return ", ".join(f"{counts[status]} {status}" for status in order if counts[status])


def usual_reason(results: Iterable[Result]) -> str:
    """The commonest reason for n/a."""
    reasons = Counter(r.outcome.reason for r in results)
    return reasons.most_common(1)[0][0] if reasons else "nothing to ask"


def selected(report: Report, blame: Blame, everything: bool) -> Iterator[tuple[Result, int]]:
    """The failures to show, with the number hidden behind each: some for every clause first, required profiles last."""
    for profile in sorted(report.profiles, key=lambda p: p in report.required):
        failures = various(report.failures([profile]), blame)
        clauses = len({blame[result.check.id] for result in failures})
        most = clauses if profile in report.required else SHOWN_OTHERS
        shown = failures if everything else failures[: min(most, SHOWN_FAILURES)]
        for i, result in enumerate(shown):
            yield result, len(failures) - len(shown) if i == len(shown) - 1 else 0


def various(failures: list[Result], blame: Blame) -> list[Result]:
    """The failures with one for each set of blamed clauses in front."""
    seen: set[tuple[str, ...]] = set()
    first: list[Result] = []
    rest: list[Result] = []
    for result in sorted(failures, key=lambda r: r.check.id):
        clauses = blame[result.check.id]
        (rest if clauses in seen else first).append(result)
        seen.add(clauses)
    return first + rest
