"""What a target declares about itself, held against what it does, both ways: told in the report, never a failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from infonce_ref.conformance.checks import REQUIRED, Check
from infonce_ref.conformance.results import Report, Result
from infonce_ref.conformance.session import Session

TRIED = 40  # checks, at most, of each capability that is said to be absent
PLAIN = {"dtype": (*REQUIRED, "half"), "reading": ("negatives",)}  # the profiles that tell whether it works


def contradictions(report: Report, session: Session) -> list[str]:
    """What is declared and isn't there, and what works though it isn't declared, in sentences."""
    return [*_empty(report), *_working(report, session)]


def _empty(report: Report) -> Iterator[str]:
    """Profiles and dtypes that are declared, of which not one check passes."""
    for profile in report.hello.get("profiles") or ():
        yield from _without_a_pass(f"profile {profile}", report.of(profile))
    for dtype in report.hello.get("dtypes") or ():
        yield from _without_a_pass(f"dtype {dtype}", [r for r in report.results if r.check.dtype == dtype])


def _without_a_pass(name: str, results: Sequence[Result]) -> Iterator[str]:
    if not results or any(r.outcome.status == "pass" for r in results):
        return
    ran = sum(r.ran for r in results)
    reason = next((r.outcome.reason for r in results if "undeclared" not in r.outcome.reply), results[0].outcome.reason)
    why = f"none of its {ran} checks pass" if ran else f"nothing of it could be asked: {reason}"
    yield f"{name} is declared, but {why}"


def _working(report: Report, session: Session) -> Iterator[str]:
    """Profiles, dtypes and readings that aren't declared, and pass whatever is tried of them."""
    absent: dict[str, list[Check]] = {}
    for result in report.results:
        if "undeclared" in result.outcome.reply:
            absent.setdefault(str(result.outcome.reply["undeclared"]), []).append(result.check)
    for name, checks in sorted(absent.items()):
        passed = _passes(_telling(name, checks, report), session)
        if passed:
            yield f"{name} isn't declared, but works: {passed} of {passed} checks tried pass"


def _telling(name: str, checks: Sequence[Check], report: Report) -> list[Check]:
    """The checks that depend on nothing else: plain ones of a dtype or reading, declared dtypes of a profile."""
    kind, _, _ = name.partition(" ")
    if kind in PLAIN:
        return [check for check in checks if check.profile in PLAIN[kind]]
    dtypes = report.hello.get("dtypes")
    return [check for check in checks if dtypes is None or check.dtype in dtypes]


def _passes(checks: Sequence[Check], session: Session) -> int:
    """How many checks pass, the declaration set aside; 0 as soon as one doesn't."""
    passed = 0
    with session.beyond_declaration():
        for check in checks[:TRIED]:
            status = check.judge(session).status
            if status not in ("pass", "n/a"):
                return 0
            passed += status == "pass"
    return passed
