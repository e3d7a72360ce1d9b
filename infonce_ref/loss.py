"""A loss: one object that gives the value, the value with its gradients, or the value with its pullback.

A loss is written as a plan: how the losses of a range of queries come about, together with their pullback. Whether the
queries are visited all at once or block by block is decided here, for every loss alike.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, ParamSpec, TypeAlias, TypeVar

from array_api_compat import is_cupy_array

from infonce_ref.arrays import Array, Namespace
from infonce_ref.reduction import Reduction

P = ParamSpec("P")
G = TypeVar("G")
R = TypeVar("R")
Device: TypeAlias = contextlib.AbstractContextManager[Any]

# Bytes of a block of queries × candidates, of which a call holds about five: by default no more than the first, but for
# blocks of so many queries, which may take the second, or a long queue of candidates would be met by a few at a time.
ENOUGH, MANY, LARGEST_MATRIX = 2**24, 512, 2**28


class RowGrads(NamedTuple):
    """What some rows contribute: gradients that have a row for each of them, and gradients they all add to."""

    by_row: dict[str, Array]
    shared: dict[str, Array]

    def add(self, name: str, gradient: Array, by_row: bool) -> None:
        into = self.by_row if by_row else self.shared
        into[name] = into[name] + gradient if name in into else gradient

    def plus(self, other: RowGrads) -> RowGrads:
        """Both together."""
        both = RowGrads(dict(self.by_row), dict(self.shared))
        for name, g in other.by_row.items():
            both.add(name, g, by_row=True)
        for name, g in other.shared.items():
            both.add(name, g, by_row=False)
        return both


RowsOf: TypeAlias = Callable[
    [int, int], tuple[Array, Callable[[Array], RowGrads]]
]  # lo, hi → losses, pullback of row weights


class Plan(NamedTuple, Generic[G]):
    """A loss with its arguments: all that is left is to visit the queries."""

    xp: Namespace
    queries: int  # rows of the loss
    rows: RowsOf
    reduction: Reduction
    to_arguments: Callable[[Mapping[str, Array]], G]  # gradients of what the rows see → gradients of the arguments
    block_size: int

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The blocks of queries: (lo, hi), …"""
        # call.large: the last block is as long as it is
        return [(lo, min(lo + self.block_size, self.queries)) for lo in range(0, self.queries, self.block_size)]

    def join(self, blocks: list[Array]) -> Array:
        return blocks[0] if len(blocks) == 1 else self.xp.concat(blocks, axis=0)

    def total(self, parts: Iterator[RowGrads]) -> G:
        """The gradients of the arguments from those of the blocks, of which one at a time is held."""
        by_row: dict[str, list[Array]] = {}
        total: dict[str, Array] = {}
        for part in parts:
            for name, g in part.by_row.items():
                by_row.setdefault(name, []).append(g)
            for name, g in part.shared.items():
                total[name] = total[name] + g if name in total else g
        for name, blocks in by_row.items():
            g = self.join(blocks)
            total[name] = total[name] + g if name in total else g
        return self.to_arguments(total)


def default_block_size(columns: int, bits: int) -> int:
    """The most queries whose scores against all candidates stay within the limits."""
    row = max(columns, 1) * bits
    return max(1, ENOUGH * 8 // row, min(MANY, LARGEST_MATRIX * 8 // row))  # stream.block call.memory


def value(plan: Plan[G], device: Device) -> Array:
    """The loss."""
    return plan.reduction.apply(plan.join([plan.rows(*span)[0] for span in plan.spans]))


def value_and_grad(plan: Plan[G], device: Device) -> tuple[Array, G]:
    """The loss and a named tuple of its gradients; for reduction="none" those of the sum of the entries.

    Visits the queries once, block by block: what each weighs in the reduction doesn't depend on its loss.
    """
    weights = plan.reduction.transpose(1.0)
    losses: list[Array] = []

    def visit() -> Iterator[RowGrads]:
        for lo, hi in plan.spans:
            block, pullback = plan.rows(lo, hi)
            losses.append(block)
            yield pullback(weights[lo:hi])

    grads = plan.total(visit())
    return plan.reduction.apply(plan.join(losses)), grads


def vjp(plan: Plan[G], device: Device) -> tuple[Array, Callable[[Array | float], G]]:
    """The loss and its pullback: a cotangent shaped as the loss → the named tuple of gradients.

    Where the queries take several blocks, the pullback computes each block again instead of holding them all.
    """
    held = [plan.rows(*span) for span in plan.spans] if len(plan.spans) == 1 else []
    losses = [row_losses for row_losses, _ in held] or [plan.rows(*span)[0] for span in plan.spans]

    def pullback(cotangent: Array | float) -> G:
        with device:
            weights = plan.reduction.transpose(cotangent)
            visits = iter(held) if held else (plan.rows(*span) for span in plan.spans)
            return plan.total(pull(weights[lo:hi]) for (lo, hi), (_, pull) in zip(plan.spans, visits, strict=True))

    return plan.reduction.apply(plan.join(losses)), pullback


def device_of(arguments: Iterable[Any]) -> Device:
    """CuPy computes on the current device; make that the arguments' own. Every other library sees to it itself."""
    return next((a.device for a in arguments if is_cupy_array(a)), contextlib.nullcontext())


class Loss(Generic[P, G]):
    """A loss function with its analytic gradients; all three take the arguments that the loss documents."""

    forms: Mapping[str, Callable[[Plan[Any], Device], Any]] = {  # how a plan is carried out
        "value": value,
        "value_and_grad": value_and_grad,
        "vjp": vjp,
    }

    name: str
    plan: Callable[P, Plan[G]]
    value: Callable[P, Array]
    value_and_grad: Callable[P, tuple[Array, G]]
    vjp: Callable[P, tuple[Array, Callable[[Array | float], G]]]

    def __init__(self, plan: Callable[P, Plan[G]]) -> None:
        """The loss that `plan` describes, under its name, signature and docstring."""

        def carried_out(how: Callable[[Plan[G], Device], R]) -> Callable[P, R]:
            def function(*args: P.args, **kwargs: P.kwargs) -> R:
                device = device_of((*args, *kwargs.values()))
                with device:
                    return how(plan(*args, **kwargs), device)

            functools.update_wrapper(function, plan)
            function.__doc__ = how.__doc__
            return function

        carried = {name: carried_out(how) for name, how in self.forms.items()}
        vars(self).update(carried, name=plan.__name__, plan=plan, __wrapped__=plan)
        vars(self).update({name: getattr(plan, name) for name in functools.WRAPPER_ASSIGNMENTS})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a loss is fixed: its {name} can't be set")

    def __repr__(self) -> str:
        return f"<loss {self.name}>"

    def __reduce__(self) -> str:
        """Pickled and copied by name, as functions are."""
        return self.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Array:
        return self.value(*args, **kwargs)
