"""The suite's own figures, docs/results/suite.md, from the results of the tests that come by them.

`python docs/results/generate.py suite` runs those tests and writes the page.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.benchmarks.child import cpu
from tests.benchmarks.page import QUIET, digits
from tests.benchmarks.targets import Target
from tests.support import Result

RUNS = {
    profile: f"test_cli::test_one_sees_the_run_begin[{profile}]" for profile in ("core,grad", "all")
}  # by what is required
START = "test_start::test_every_command_of_the_page_does_what_it_says"
DAMAGED = {
    "a file of vectors": "test_fuzz::test_byte_mutations_of_a_vector_file",
    "a file of answers": "test_fuzz::test_byte_mutations_of_answers",
    "a report": "test_verify::test_byte_mutations_of_a_report",
    "a file of known failures": "test_known::test_byte_mutations_of_a_file",
    "a reply in JSON": "test_fuzz::test_byte_mutations_of_replies[json]",
    "a reply as text": "test_fuzz::test_byte_mutations_of_replies[text]",
    "a declaration in JSON": "test_fuzz::test_byte_mutations_of_a_declaration[json]",
    "a declaration as text": "test_fuzz::test_byte_mutations_of_a_declaration[text]",
}
ADAPTERS = {
    language: f"test_programs::test_the_guides_adapters_pass_all_of_core_and_grad[{name}]"
    for language, name in {"C": "c", "JavaScript": "js"}.items()
}
HOSTILE = {
    "test_hostile::test_an_attack_is_a_failed_check_with_its_reason": "callables",
    "test_hostile::test_what_harms_nobody_is_overlooked": "callables",
    "test_programs::test_a_misbehaving_program_fails_each_check_with_the_reason": "programs",
    "test_programs::test_noise_before_the_answer_is_overlooked": "programs",
}  # its parameters begin with what the callable or program is called
MUTATIONS = 10_000  # of each sound input

Found = Mapping[str, Result]


# --- what was found --------------------------------------------------------------------------------------------------


def tests() -> list[str]:
    """The tests to run, as pytest takes them: those of time alone first."""
    names = [*RUNS.values(), START, *ADAPTERS.values(), *DAMAGED.values(), *HOSTILE]
    return [f"tests/suite/{name.replace('::', '.py::')}" for name in names]


def by_name(runs: Iterable[Result]) -> Found:
    return {f"{run.test}[{run.parameters}]" if run.parameters else run.test: run for run in runs}


def number(found: Found, test: str, name: str) -> float | None:
    """What a test recorded under a name; None if it failed or wasn't run."""
    run = found.get(test)
    return float(run.said[name]) if run and run.outcome == "passed" and name in run.said else None


def outcomes(found: Found, test: str) -> Counter[str]:
    """How often a test saw what, though it may have failed then."""
    return Counter({name: int(count) for name, count in found[test].said.items()} if test in found else {})


def failures(found: Found, tests: Sequence[str]) -> int | None:
    """How many of these tests failed; None if none did, but not all were run."""
    seen = [found[test].outcome if test in found else "skipped" for test in tests]
    return seen.count("failed") or (0 if seen and "skipped" not in seen else None)


def hostile(found: Found) -> list[str]:
    """The tests of callables and programs that misbehave."""
    return [name for name, run in found.items() if run.test in HOSTILE]


def misses(found: Found, test: str) -> int | None:
    """How many checks that were asked didn't pass, or 1 if the test failed all the same; None if nothing passed."""
    seen = outcomes(found, test)
    return seen.total() - seen["n/a"] - seen["pass"] or failures(found, [test] if seen["pass"] else [])


def targets(found: Found) -> Iterator[Target]:
    ordinary = RUNS["core,grad"]
    yield Target("a run: to its first line", 3, number(found, ordinary, "first line"), unit="s")
    yield Target("a run: to its end, on two CPUs", 20, number(found, ordinary, "end"), unit="s")
    yield Target("from an empty folder to the first verdict", 300, number(found, START, "first verdict"), unit="s")
    for language, test in ADAPTERS.items():
        seen = outcomes(found, test)
        where = f"of {seen.total() - seen['n/a']}" if seen else ""
        yield Target(f"the adapter in {language}: checks missed", 0, misses(found, test), unit="", where=where)
    fewest = min(outcomes(found, test).total() for test in DAMAGED.values())
    failed = failures(found, [*DAMAGED.values()])
    whole = fewest if failed == 0 else None
    yield Target("damaged inputs of every kind", MUTATIONS, whole, at_most=False, unit="")
    what = "kinds of damaged input that met a traceback, an undocumented exit code or a refusal without a reason"
    yield Target(what, 0, failed, unit="", where=f"of {len(DAMAGED)}")
    those = hostile(found)
    unseen = {*HOSTILE} - {found[name].test for name in those}
    what = "hostile callables and programs without the verdict that they deserve"
    yield Target(what, 0, failures(found, [*those, *unseen]), unit="", where=f"of {len(those)}" if those else "")


# --- the page --------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rows])


def shown(value: float | None, unit: str = "") -> str:
    """Seconds in three digits, counts in all of theirs."""
    if value is None:
        return "not measured"
    return f"{digits(value)} {unit}" if unit else f"{value:,.0f}"


def counted(seen: Counter[str]) -> str:
    """The most frequent first, as in "3 × pass, 1 × error"."""
    return ", ".join(f"{count:,} × {name}" for name, count in seen.most_common()) or "not measured"


def section_targets(found: Found) -> str:
    said = {None: "not measured", True: "yes", False: "**no**"}
    rows = [
        (
            target.what,
            f"{'≤' if target.at_most else '≥'} {shown(target.wanted, target.unit)}",
            "" if target.measured is None else shown(target.measured, target.unit),
            said[target.reached],
            target.where,
        )
        for target in targets(found)
    ]
    return table(["", "target", "measured", "reached", ""], rows)


def section_failed(found: Found) -> str:
    failed = [f"- `{name}`\n" for name, run in found.items() if run.outcome == "failed"]
    return "\n**These tests failed**, so that their figures don't count:\n\n" + "".join(failed) if failed else ""


def section_runs(found: Found) -> str:
    names = {"first line": "s", "end": "s", "passed": ""}
    rows = [
        (f"`{profile}`", *(shown(number(found, test, name), unit) for name, unit in names.items()))
        for profile, test in RUNS.items()
    ]
    return table(["`--profile`", "first line after", "end after", "checks passed"], rows)


def section_damaged(found: Found) -> str:
    seen = {what: outcomes(found, test) for what, test in DAMAGED.items()}
    return table(
        ["", "tried", "what came of them"],
        [(what, f"{those.total():,}", counted(those)) for what, those in seen.items()],
    )


def section_adapters(found: Found) -> str:
    return table(["", "checks"], [(name, counted(outcomes(found, test))) for name, test in ADAPTERS.items()])


def section_start(found: Found) -> str:
    names = {"the first verdict": "first verdict", "the end of the page": "end"}
    return table(["", "after"], [(what, shown(number(found, START, name), "s")) for what, name in names.items()])


def section_hostile(found: Found) -> str:
    kinds = dict.fromkeys(HOSTILE.values())
    names: dict[str, dict[str, list[str]]] = {}
    for test in hostile(found):
        what, kind = ", ".join(outcomes(found, test)) or "nothing", HOSTILE[found[test].test]
        names.setdefault(what, {kind: [] for kind in kinds})[kind].append(found[test].parameters.partition("-")[0])
    rows = [(what, *(", ".join(f"`{name}`" for name in by[kind]) for kind in kinds)) for what, by in names.items()]
    return table(["what came of them", *kinds], rows or [["not measured", *("" for _ in kinds)]])


def machine(others: float | None) -> str:
    """CPU and Python, and how many CPUs other processes had meanwhile."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    which = f"{cpu() or platform.processor()}, {allowed} of its {os.cpu_count()} CPUs, "
    which += f"{platform.system()} {platform.machine()}, Python {platform.python_version()}. "
    if others is None:
        return which + "How busy it was otherwise isn't known."
    if others <= QUIET:
        return which + f"Other processes had no more than {QUIET} CPUs."
    return f"{which}**A busy machine**: other processes had {others:.1f} CPUs."


def page(runs: Iterable[Result], where: str) -> str:
    """The page, of these results, found where it says."""
    found = by_name(runs)
    return f"""# The suite's own figures

<!-- written by docs/results/generate.py suite -->

How soon it answers, and what it makes of input that isn't what it should be. Each figure is what a test saw; times are
on the clock.

{where}

{section_targets(found)}{section_failed(found)}
## A run

`infonce-conformance run infonce_ref:info_nce --loss info_nce --framework numpy`, from its start. All profiles are tried
whatever is required, so that the checks are the same.

{section_runs(found)}
## From an empty folder

[The guide's first page](../guide/start.md), all its commands one after the other, beginning with a fresh virtual
environment and `pip install` of the wheel. Packages come from an index or from pip's cache.

{section_start(found)}
## Programs in other languages

[The guide's adapters](../guide/adapters.md), all checks of `core` and `grad`. n/a: whether the inputs stay unchanged,
which no program can show.

{section_adapters(found)}
## Damaged inputs

Each is a sound one changed in one to four places: bytes and bits, bytes deleted, doubled or put elsewhere, a word put
in, the end cut off. Read or judged: it still was what it must be. Refused: with the reason, and for a file its name. Of
a report the [exit code](../guide/judge.md) of `verify`. Of a reply the outcome of the check that asked: a line that is
none is overlooked, and the time limit ends the wait, as it does for a declaration. Anything else fails the test.

{section_damaged(found)}
## Hostile callables and programs

What each does: tests/suite/hostile.py and programs.py. What came of them: the outcomes of the checks that were asked,
and the run's exit code.

{section_hostile(found)}"""
