"""Does this code compute the loss that it says it does? One list of checks, on the command line and in pytest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infonce_ref.conformance.adapters.declare import adapter
    from infonce_ref.conformance.pytest_plug import parametrize_with_checks
    from infonce_ref.conformance.run import check_loss

__all__ = ["adapter", "check_loss", "parametrize_with_checks"]

_HOMES = {
    "adapter": "infonce_ref.conformance.adapters.declare",
    "check_loss": "infonce_ref.conformance.run",
    "parametrize_with_checks": "infonce_ref.conformance.pytest_plug",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
