"""A backend is certified by the suite, as anyone's implementation is, and by the reference's exactness."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from infonce_ref.conformance.run import check_loss

NOTHING = 0.05  # r that is no loss of exactness, whatever the reference's is


def by_value_and_grad(loss: Any) -> Callable[..., Any]:
    """The loss as a function that returns its gradients itself."""

    def function(*args: Any, **kwargs: Any) -> Any:
        value, grad = loss.value_and_grad(*args, **kwargs)
        return value, {name: g for name, g in grad._asdict().items() if g is not None}

    function.__signature__ = inspect.signature(loss)  # type: ignore[attr-defined]
    return function


def certify(ours: Any, theirs: Any, loss: str, framework: str, only: str = "*") -> None:
    """The suite accepts ours in all profiles, `precise` included; the worst r of none is over twice the reference's."""
    report, reference = (check_loss(each, loss, framework, profile="all", only=only) for each in (ours, theirs))
    assert report.exit_code == 0, report.verdict()
    for profile in report.profiles:
        mine, its = (max((r.r or 0.0 for r in each.of(profile)), default=0.0) for each in (report, reference))
        assert mine <= max(2 * its, NOTHING), profile
