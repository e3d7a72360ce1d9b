"""Every mutant before the diagnosis: is its own mistake named, among all the others?

python -m infonce_ref.conformance.mutants.named                    # all mutants of numbers, of every loss
python -m infonce_ref.conformance.mutants.named --only PATTERN     # some of them
python -m infonce_ref.conformance.mutants.named --write            # and write docs/results/diagnosis.md

The exit code is 1 if fewer than 90 % are named.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any

from infonce_ref.conformance.checks import REQUIRED
from infonce_ref.conformance.diagnosis import Diagnosis, Search, diagnose
from infonce_ref.conformance.mutants import MUTANTS, Mutant
from infonce_ref.conformance.mutants.run import AskOnce, exam, progress
from infonce_ref.conformance.results import Report, Result
from infonce_ref.conformance.runner import LocalRunner

PAGE = Path("docs") / "results" / "diagnosis.md"
LEAST = 0.9
# Those of ordinary input: who is wrong at edges or in tiny losses alone computes the textbook formula.
NUMBERS = {"value", "gradient", "temperature gradient", "negatives", "masks", "variants", "half"}


@dataclass(frozen=True)
class Named:
    """A mutant, and what the diagnosis says of it."""

    mutant: Mutant
    failing: int
    diagnosis: Diagnosis

    @property
    def right(self) -> bool:
        """Its own id is named, alone or among others that give the same numbers on all vectors."""
        return self.mutant.id in self.diagnosis.named

    @property
    def alone(self) -> bool:
        return self.diagnosis.named == (self.mutant.id,)


def of_numbers(mutants: Sequence[Mutant] = MUTANTS) -> list[Mutant]:
    """The mutants that give other numbers for ordinary input."""
    return [mutant for mutant in mutants if {*mutant.classes} & NUMBERS]


def examined(function: Any, loss: str, framework: str = "torch") -> Report:
    """The report of `function` on all stored vectors."""
    session = AskOnce(LocalRunner(function, framework, loss=loss))
    report = Report(loss, "a mutant", 0, "", required=REQUIRED)
    report.results = [Result(check, check.run(session)) for check in exam(loss).numbers]
    return report


def named(mutant: Mutant, search: Search) -> Named:
    report = examined(mutant.function, mutant.loss)
    return Named(mutant, sum(r.failed for r in report.results), diagnose(report, search=search))


def all_named(mutants: Iterable[Mutant], tick: Callable[[str], None] = lambda _: None) -> Iterator[Named]:
    """Loss by loss: what was asked of others of a loss is kept, and no more."""
    for loss, some in groupby(sorted(mutants, key=lambda mutant: (mutant.loss, mutant.id)), lambda m: m.loss):
        search = Search(loss)
        for mutant in some:
            yield named(mutant, search)
            tick(mutant.id)


def page(results: Sequence[Named]) -> str:
    """The results as a page of the documentation."""
    right = [result for result in results if result.right]
    alone = [result for result in right if result.alone]
    head = [
        "# Which mistakes the diagnosis names",
        "",
        "Written by `python -m infonce_ref.conformance.mutants.named --write`. Each wrong implementation that gives",
        "other numbers for ordinary input is judged on the stored vectors as anyone's would be, and the diagnosis is",
        "asked what it is; its own mistake is one among all that are known of the loss, and all conventions.",
        "",
        f"{len(right)} of {len(results)} are named rightly: {len(alone)} alone, {len(right) - len(alone)} together",
        "with others that give the same numbers on all vectors of the loss.",
        "",
        "| mutant | loss | failing checks | named |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *(row(result) for result in results), ""])


def row(result: Named) -> str:
    found = ", ".join(f"`{name}`" for name in result.diagnosis.named) or "nothing"
    mark = "" if result.right else "**not**: "
    return f"| `{result.mutant.id}` | {result.mutant.loss} | {result.failing} | {mark}{found} |"


def main(arguments: Sequence[str] | None = None, mutants: Sequence[Mutant] = MUTANTS) -> int:
    usage = argparse.ArgumentParser(
        prog="python -m infonce_ref.conformance.mutants.named", description="Run the diagnosis on the mutants."
    )
    usage.add_argument("--only", metavar="PATTERN", default="*", help="only those whose id matches, as in mask.*")
    usage.add_argument("--write", action="store_true", help="write the page of results")
    usage.add_argument("--page", type=Path, default=PAGE, help=argparse.SUPPRESS)
    options = usage.parse_args(arguments)
    chosen = [mutant for mutant in of_numbers(mutants) if fnmatchcase(mutant.id, options.only)]
    if not chosen or (options.write and options.only != "*"):
        sys.stderr.write(f"no mutant matches {options.only!r}\n" if not chosen else "--write needs all mutants\n")
        return 2
    with progress(len(chosen)) as tick:
        results = list(all_named(chosen, tick))
    right = sum(result.right for result in results)
    for result in results:
        if not result.right:
            sys.stdout.write(f"{result.mutant.id} isn't named, but {', '.join(result.diagnosis.named) or 'nothing'}\n")
    sys.stdout.write(f"{right} of {len(results)} mutants named\n")
    if options.write:
        options.page.parent.mkdir(parents=True, exist_ok=True)
        options.page.write_text(page(results), encoding="utf-8")
    return 0 if right >= LEAST * len(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
