"""The checks as pytest items, shaped as scikit-learn's `parametrize_with_checks`."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from typing import Any

from infonce_ref.conformance.checks import Check, in_profiles, matching
from infonce_ref.conformance.results import Result, explain
from infonce_ref.conformance.run import Options, chosen, runner_for
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
    **options: Any,
) -> Any:
    """Parametrize a test over the checks of `target`, a callable or `pkg.mod:attr`; the test's argument is `check`.

    One item for each check of the required profiles (`profile="core,grad"` unless it says otherwise);
    `expected_failures` maps patterns of ids to reasons: those items must fail.

    Example
    -------
    ::

        @parametrize_with_checks("pkg.mod:loss", framework="torch")
        def test_conformance(check):
            check()
    """
    import pytest

    asked = Options(loss=loss, framework=framework, **options)
    checks = sorted(in_profiles(chosen(asked, asked.drawn_seed()), asked.required), key=lambda check: check.id)
    expected = {c.id: why for pattern, why in (expected_failures or {}).items() for c in matching(checks, pattern)}
    session = Session(runner_for(target, asked))  # starts with the first check, and serves them all
    atexit.register(session.close)

    def marks(check: Check) -> list[Any]:
        return [pytest.mark.xfail(reason=expected[check.id], strict=True)] if check.id in expected else []

    items = [pytest.param(Item(check, session), id=check.id, marks=marks(check)) for check in checks]
    return pytest.mark.parametrize("check", items)
