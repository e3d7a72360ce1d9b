"""The checks as pytest items, shaped as scikit-learn's `parametrize_with_checks`."""

from __future__ import annotations

import atexit
import os
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from infonce_ref.conformance.checks import Check, in_profiles, matching
from infonce_ref.conformance.known import KnownFailures
from infonce_ref.conformance.results import Result, Usage, explain
from infonce_ref.conformance.run import Options, selection, session_for
from infonce_ref.conformance.session import Session


class Item:
    """A check bound to an implementation: calling it asks and judges."""

    def __init__(self, check: Check, session: Session) -> None:
        self.check, self.session = check, session

    def __call__(self) -> None:
        """Return if the check passes, raise AssertionError if not, skip if it isn't applicable."""
        import pytest

        result = Result(self.check, self.check.run(self.session))
        if not result.ran:
            pytest.skip(result.outcome.reason)
        if result.failed:
            raise AssertionError(explain(result))

    def __repr__(self) -> str:
        return self.check.id


def parametrize_with_checks(
    target: Any,
    *,
    loss: str = "info_nce",
    framework: str | None = None,
    expected_failures: Mapping[str, str] | None = None,
    known: str | Path | None = None,
    **options: Any,
) -> Any:
    """Parametrize a test over the checks of `target`: a callable, `pkg.mod:attr`, or with `wire=` a command.

    The test's argument is `check`. One item for each check of the required profiles (`profile="core,grad"` unless it
    says otherwise). Items that match `known`, a file of known failures, or `expected_failures`, a mapping of patterns
    of ids to reasons, must fail; an entry of the file that has expired or matches nothing is an error.

    Example
    -------
    ::

        @parametrize_with_checks("pkg.mod:loss", framework="torch", known="infonce-known-failures.toml")
        def test_conformance(check):
            check()
    """
    import pytest

    asked = Options(loss=loss, framework=framework, **options)
    checks, every = selection(asked, drawn_seed(asked))
    checks = sorted(in_profiles(checks, asked.required), key=lambda check: check.id)
    expected = {c.id: why for pattern, why in (expected_failures or {}).items() for c in matching(checks, pattern)}
    if known is not None:
        expected |= known_to_fail(KnownFailures.load(Path(known)), checks, every)
    session = session_for(target, asked)  # starts with the first check, and serves them all
    atexit.register(session.close)

    def marks(check: Check) -> list[Any]:
        return [pytest.mark.xfail(reason=expected[check.id], strict=True)] if check.id in expected else []

    items = [pytest.param(Item(check, session), id=check.id, marks=marks(check)) for check in checks]
    return pytest.mark.parametrize("check", items)


def drawn_seed(asked: Options) -> int:
    """The seed; a random one is the same in all workers of pytest-xdist, so that they collect the same items."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    return zlib.crc32(run.encode()) if asked.seed == "random" and run else asked.drawn_seed()


def known_to_fail(known: KnownFailures, checks: Collection[Check], every: Collection[str]) -> dict[str, str]:
    """Reasons by id; Usage for entries that have to go. Those that match what passes are the strict xfail's."""
    stale = known.stale((), None, every)
    stale += [f'"{e.pattern}" expired on {e.expires}' for e in known.entries if e.expires < known.today]
    if stale:
        raise Usage(f"{known.source}: " + "; ".join(dict.fromkeys(stale)))
    reasons = {check.id: known.reason_for(check) for check in checks}
    return {check_id: reason for check_id, reason in reasons.items() if reason is not None}
