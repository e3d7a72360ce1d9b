"""What an implementation says of itself: the losses, dtypes, profiles and readings that it claims to have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

READINGS = ("in-batch", "shared", "own", "in-batch+shared", "in-batch+own")
ATTRIBUTE = "__infonce_conformance__"


@dataclass(frozen=True)
class Declaration:
    """None says nothing, so that everything is tried; a tuple says that there is nothing else."""

    losses: tuple[str, ...] | None = None
    framework: str | None = None
    dtypes: tuple[str, ...] | None = None
    profiles: tuple[str, ...] | None = None
    readings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for reading in self.readings:
            if reading not in READINGS:
                raise ValueError(f"reading must be one of {', '.join(READINGS)}, got {reading!r}")


def adapter(
    *,
    loss: str | tuple[str, ...] = "info_nce",
    framework: str = "numpy",
    dtypes: tuple[str, ...] | None = None,
    profiles: tuple[str, ...] | None = None,
    readings: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    """Declare a function to be an adapter: it takes our argument names (or aliases) and returns what a target may.

    Example
    -------
    >>> @adapter(loss="info_nce", framework="numpy", dtypes=("float32", "float64"))
    ... def mine(query, positive_key, *, temperature):
    ...     return my_library.contrast(query / norms(query), positive_key / norms(positive_key), 1 / temperature)
    """
    losses = (loss,) if isinstance(loss, str) else tuple(loss)
    declaration = Declaration(losses, framework, dtypes, profiles, readings)

    def declare(function: Function) -> Function:
        setattr(function, ATTRIBUTE, declaration)
        return function

    return declare


def declaration_of(target: Any) -> Declaration:
    """What `target` was declared to be by `@adapter`; a bare callable declares nothing."""
    found = getattr(target, ATTRIBUTE, None)
    return found if isinstance(found, Declaration) else Declaration()
