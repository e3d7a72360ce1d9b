"""Every mutant before the suite: which vectors and which classes of check catch it, and whether any survives.

python -m infonce_ref.conformance.mutants.run                    # run all, say what survives
python -m infonce_ref.conformance.mutants.run --only PATTERN     # some of them
python -m infonce_ref.conformance.mutants.run --jobs 2           # two at a time
python -m infonce_ref.conformance.mutants.run --write            # and write kills.json and docs/results/mutants.md

The exit code is 1 if a mutant survives where its record says it is wrong, if a record doesn't say what is found, or if
fewer ran than are registered.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from infonce_ref.conformance.adapters.resolve import Unusable
from infonce_ref.conformance.checks import Check, Outcome, behaviour, checks_of
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.judge import exact
from infonce_ref.conformance.load import vector_questions
from infonce_ref.conformance.mutants import MUTANTS, Mutant, purities
from infonce_ref.conformance.mutants.record import FULL
from infonce_ref.conformance.question import Answers, Question
from infonce_ref.conformance.runner import LocalRunner
from infonce_ref.conformance.session import Session

KILLS = Path(__file__).parent / "kills.json"  # {vector's slug: [mutants it kills]}
PAGE = Path("docs") / "results" / "mutants.md"
CLEAR = 2.0  # an error of so many bounds is one on every machine; only such kills are listed

CLASS_OF = {"core": "value", "grad": "gradient", "temperature-grad": "temperature gradient"}
CLASS_OF_CALL = {"pure": "purity", "repeatable": "repetition", "shape": "shape", "dtype": "dtype"}


@dataclass(frozen=True)
class Kill:
    """A check that a mutant doesn't pass."""

    check: str
    slug: str  # of the vector; empty where the check is about calls
    dtype: str
    kind: str  # the class of check
    r: float


@dataclass(frozen=True)
class Result:
    """What became of a mutant."""

    mutant: Mutant
    kills: tuple[Kill, ...]

    @property
    def by_class(self) -> Counter[str]:
        return Counter(kill.kind for kill in self.kills)

    @property
    def by_dtype(self) -> Counter[str]:
        return Counter(kill.dtype for kill in self.kills)

    @property
    def worst(self) -> float:
        """The largest finite r, or infinity where nothing that fails is a finite number."""
        return max((kill.r for kill in self.kills if math.isfinite(kill.r)), default=math.inf)

    def faults(self) -> Iterator[str]:
        """What its record says and isn't so, or is so and isn't said."""
        mutant, dtypes, found = self.mutant, self.by_dtype, self.by_class
        for dtype in mutant.wrong_in:
            if not dtypes[dtype]:
                yield f"{mutant.id} survives in {dtype}"
            elif dtypes[dtype] == 1 and not mutant.single:
                yield f"{mutant.id} is caught by one check in {dtype}"
        for dtype in FULL:
            if dtypes[dtype] and dtype not in mutant.wrong_in:
                yield f"{mutant.id} is caught in {dtype}, where its record says it is right"
        for kind in mutant.classes:
            if not found[kind]:
                yield f"{mutant.id} isn't caught by {kind}, as its record says"
        classes = {dtype: {kill.kind for kill in self.kills if kill.dtype == dtype} for dtype in mutant.wrong_in}
        alone = {dtype: kinds for dtype, kinds in classes.items() if len(kinds) == 1}
        for dtype, kinds in alone.items() if not mutant.single else ():
            yield f"{mutant.id} is caught in {dtype} by {', '.join(kinds)} alone, and its record gives no reason"
        if mutant.single and not alone:
            yield f"{mutant.id} is caught by {', '.join(found)}, and its record says that only one class can"


Answer = tuple[Kill, ...] | str


# --- asking ----------------------------------------------------------------------------------------------------------


class AskOnce(Session):
    """Asks a problem once, for everything, and answers each check of it from that reply."""

    asked: Mapping[str, Any] | None = None
    reply: Mapping[str, Any]

    def ask(
        self, problem: Mapping[str, Any], want: Sequence[str], as_array: bool = False, watch: bool = False
    ) -> dict[str, Any]:
        if problem is not self.asked:
            everything = ("loss", *LOSSES[problem["loss"]].differentiable(problem["arrays"]))
            self.asked, self.reply = problem, super().ask(problem, everything, as_array=True)
        return dict(self.reply)


@dataclass(frozen=True)
class Exam:
    """The checks: those of numbers, which may share an answer, and those that are about the call itself."""

    numbers: tuple[Check, ...]
    calls: tuple[Check, ...]


@cache
def exam(loss: str = "info_nce") -> Exam:
    """Every check on the stored vectors."""
    questions = [prepared(question) for question in vector_questions(loss)]
    numbers: list[Check] = []
    calls = list(behaviour(loss, questions))
    for question in questions:
        (calls if question.expect == "refused" else numbers).extend(checks_of(question, questions))
    return Exam(tuple(numbers), tuple(calls))


def prepared(question: Question) -> Question:
    """The question with its decimals read once and for all, since every mutant is asked it."""
    answers = question.find()
    expected = {name: exact(values) for name, values in answers.expected.items()}

    def radii(bounds: Mapping[str, Any]) -> dict[str, Any]:
        return {name: exact({"shape": expected[name].shape, "values": given}) for name, given in bounds.items()}

    ready = Answers(expected, radii(answers.bounds), radii(answers.precise), answers.nonfinite)
    return replace(question, find=lambda: ready)


def examine(mutant: Mutant, checks: Exam | None = None) -> Result:
    """All checks that the mutant doesn't pass, asked through the suite's own adapter with torch."""
    checks = checks or exam(mutant.loss)
    purities.forget()
    runner = LocalRunner(mutant.function, "torch", loss=mutant.loss)
    kills = [*failures(AskOnce(runner), checks.numbers), *failures(Session(runner), checks.calls)]
    return Result(mutant, tuple(kills))


def failures(session: Session, checks: Iterable[Check]) -> Iterator[Kill]:
    for check in checks:
        outcome = check.run(session)
        if outcome.status not in ("pass", "n/a"):
            yield kill(check, outcome)


def kill(check: Check, outcome: Outcome) -> Kill:
    about = check.id.split(".call.")
    kind = CLASS_OF_CALL[about[1].split("/")[0].split(".")[0]] if len(about) == 2 else None
    return Kill(
        check=check.id,
        slug="" if kind else check.id.split("#")[0],
        dtype=check.dtype,
        kind=kind or CLASS_OF.get(check.profile, check.profile),
        r=math.inf if outcome.worst is None else outcome.worst.r,
    )


# --- what is found ---------------------------------------------------------------------------------------------------


def run(
    mutants: Sequence[Mutant], tick: Callable[[str], None] = lambda _: None, answers: Iterable[Answer] | None = None
) -> list[Result]:
    """The results of those mutants that could be asked."""
    results = []
    for mutant, kills in zip(mutants, map(asked, mutants) if answers is None else answers, strict=True):
        if isinstance(kills, str):
            sys.stderr.write(f"{mutant.id} can't be asked: {kills}\n")
        else:
            results.append(Result(mutant, kills))
        tick(mutant.id)
    return results


def asked(mutant: Mutant) -> Answer:
    """What kills it, or why it can't be asked."""
    try:
        return examine(mutant).kills
    except Unusable as error:
        return str(error)


def asked_by_id(name: str) -> Answer:
    """The same of a registered mutant, in a process that was only told its id."""
    return asked(next(mutant for mutant in MUTANTS if mutant.id == name))


def faults(results: Sequence[Result], registered: int) -> list[str]:
    """Everything that should be otherwise."""
    found = [fault for result in results for fault in result.faults()]
    if len(results) < registered:
        found.append(f"{len(results)} of {registered} registered mutants ran")
    return found


def kills_by_vector(results: Iterable[Result], least: float = CLEAR) -> dict[str, list[str]]:
    """Vector's slug → the mutants that it kills, with an error of `least` bounds or more."""
    table: dict[str, set[str]] = {}
    for result in results:
        for found in result.kills:
            if found.slug and found.r >= least:
                table.setdefault(found.slug, set()).add(result.mutant.id)
    return {slug: sorted(table[slug]) for slug in sorted(table)}


def as_json(table: Mapping[str, Sequence[str]]) -> str:
    """A vector a line."""
    lines = [f"{json.dumps(slug)}: {json.dumps(ids)}" for slug, ids in table.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def page(results: Sequence[Result]) -> str:
    """The results as a page of the documentation, loss by loss."""
    alone = [result.mutant for result in results if result.mutant.single]
    head = [
        "# Wrong implementations, and what catches them",
        "",
        "Written by `python -m infonce_ref.conformance.mutants.run --write`. Each row is an implementation that the",
        "suite is shown through its own adapter, with PyTorch, on all stored vectors of its loss. None survives in a",
        f"format where it is wrong. {len(results)} mutants{counted(results)}.",
        "",
        "*Caught by*: how many checks fail in each dtype; *classes*: the classes of check among them, and how many of",
        "each; *worst r*: the largest finite error in units of its bound (1 conforms).",
    ]
    losses = [loss for loss in LOSSES if any(result.mutant.loss == loss for result in results)]
    parts = [part for loss in losses for part in of_loss(loss, [r for r in results if r.mutant.loss == loss])]
    tail = ["", "## Those that one class of check alone can see", "", *(f"- `{m.id}`: {m.single}." for m in alone), ""]
    return "\n".join([*head, *parts, *tail])


def of_loss(loss: str, results: Sequence[Result]) -> list[str]:
    """A loss's part of the page."""
    return [
        "",
        f"## {loss}",
        "",
        f"{len(results)} mutants{counted(results)}.",
        "",
        "| mutant | what goes wrong | seen in | caught by | classes | worst r |",
        "|---|---|---|---|---|---|",
        *(row(result) for result in results),
    ]


def counted(results: Sequence[Result]) -> str:
    """How many of them nobody invented."""
    seen = sum(bool(result.mutant.seen) for result in results)
    elsewhere = sum(bool(result.mutant.elsewhere) for result in results)
    more = f", {elsewhere} more in that of another loss" if elsewhere else ""
    return f", {seen} of them bugs or other readings seen in public code{more}"


def row(result: Result) -> str:
    mutant = result.mutant
    seen = linked(mutant.seen) or (f"another loss: {linked(mutant.elsewhere)}" if mutant.elsewhere else "")
    dtypes = ", ".join(f"{dtype} {n}" for dtype, n in sorted(result.by_dtype.items()))
    classes = ", ".join(f"{kind} {n}" for kind, n in result.by_class.most_common())
    worst = f"{result.worst:.1e}" if math.isfinite(result.worst) else "no number"
    return f"| `{mutant.id}` | {mutant.story} | {seen} | {dtypes} | {classes} | {worst} |"


def linked(source: str) -> str:
    """Text in which addresses are links."""
    return re.sub(r"https://[^\s,;]+", lambda found: f"<{found[0]}>", source)


# --- command line ----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None, mutants: Sequence[Mutant] = MUTANTS) -> int:
    usage = argparse.ArgumentParser(
        prog="python -m infonce_ref.conformance.mutants.run", description="Run the mutants."
    )
    usage.add_argument("--only", metavar="PATTERN", default="*", help="only those whose id matches, as in mask.*")
    usage.add_argument("--jobs", type=int, default=1, metavar="N", help="so many processes")
    usage.add_argument("--write", action="store_true", help="write kills.json and the page of results")
    usage.add_argument("--page", type=Path, default=PAGE, help=argparse.SUPPRESS)
    options = usage.parse_args(arguments)
    chosen = [mutant for mutant in mutants if fnmatchcase(mutant.id, options.only)]
    if not chosen or (options.write and len(chosen) < len(mutants)):
        sys.stderr.write(f"no mutant matches {options.only!r}\n" if not chosen else "--write needs all mutants\n")
        return 2
    with progress(len(chosen)) as tick, answers_of(chosen, options.jobs) as answers:
        results = run(chosen, tick, answers)
    found = faults(results, len(chosen))
    sys.stdout.write("".join(f"{fault}\n" for fault in found))
    sys.stdout.write(f"{len(results)} mutants ran, {len(found)} faults\n")
    if options.write and not found:
        KILLS.write_text(as_json(kills_by_vector(results)), encoding="utf-8")
        options.page.parent.mkdir(parents=True, exist_ok=True)
        options.page.write_text(page(results), encoding="utf-8")
    return 1 if found else 0


@contextmanager
def answers_of(mutants: Sequence[Mutant], jobs: int) -> Iterator[Iterable[Answer] | None]:
    """Answers from several processes, in the mutants' order; None where one will do."""
    if jobs < 2:
        yield None
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield pool.map(asked_by_id, [mutant.id for mutant in mutants], chunksize=8)


@contextmanager
def progress(count: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr; yields what is called with each mutant that is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=count)
        yield lambda name: bar.update(task, advance=1, description=name)


if __name__ == "__main__":
    raise SystemExit(main())
