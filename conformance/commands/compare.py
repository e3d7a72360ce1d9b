"""infonce-conformance compare: two reports, and what got better and worse from the one to the other."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infonce_ref.conformance.recorded import Line, Recorded, read
from infonce_ref.conformance.results import Exit

GOOD, BAD = ("pass", "xpass"), ("fail", "error", "timeout", "xfail")
SHOWN = 20  # of each group
MOVED = 1.1  # a clause's worst r is told if it changed by this factor


def add_parser(commands: Any) -> None:
    both = commands.add_parser(
        "compare",
        help="what got better and worse between two reports",
        description="What got better and worse between two reports.",
    )
    both.add_argument("old", type=Path, metavar="OLD.jsonl")
    both.add_argument("new", type=Path, metavar="NEW.jsonl")
    both.set_defaults(function=compare_command)


def compare_command(arguments: argparse.Namespace) -> int:
    """Print the comparison; 1 if something that passed fails now, 5 if a report was cut short."""
    comparison = Comparison(read(arguments.old), read(arguments.new))
    for line in told(comparison):
        print(line)
    return comparison.exit_code


@dataclass(frozen=True)
class Comparison:
    """Two reports of one loss."""

    old: Recorded
    new: Recorded

    @property
    def pairs(self) -> list[tuple[Line, Line]]:
        """The results that both have."""
        old, new = _by_id(self.old), _by_id(self.new)
        return [(old[i], new[i]) for i in sorted(old.keys() & new.keys())]

    def moved(self, then: tuple[str, ...], now: tuple[str, ...]) -> list[tuple[Line, Line]]:
        """The results that had one of some statuses then, and have one of others now."""
        return [(a, b) for a, b in self.pairs if a["status"] in then and b["status"] in now]

    @property
    def worse(self) -> list[tuple[Line, Line]]:
        return self.moved(GOOD, BAD)

    @property
    def better(self) -> list[tuple[Line, Line]]:
        return self.moved(BAD, GOOD)

    @property
    def gone(self) -> list[str]:
        return sorted(_by_id(self.old).keys() - _by_id(self.new).keys())

    @property
    def added(self) -> list[str]:
        return sorted(_by_id(self.new).keys() - _by_id(self.old).keys())

    @property
    def worst(self) -> list[tuple[str, float | None, float | None]]:
        """The clauses whose worst r over the results that both have has changed, with both."""
        old, new = (_worst(line for line in side) for side in zip(*self.pairs, strict=True)) if self.pairs else ({}, {})
        clauses = sorted(old.keys() | new.keys())
        return [(c, old.get(c), new.get(c)) for c in clauses if _differ(old.get(c), new.get(c))]

    @property
    def exit_code(self) -> Exit:
        if self.worse:
            return Exit.DOES_NOT
        return Exit.INCOMPLETE if self.old.footer is None or self.new.footer is None else Exit.CONFORMS


def told(comparison: Comparison) -> Iterator[str]:
    """The comparison in lines."""
    old, new = comparison.old, comparison.new
    yield f"old: {_name(old)}"
    yield f"new: {_name(new)}"
    yield from (f"they differ in {key}" for key in ("loss", "vectors", "seed", "only") if _unlike(comparison, key))
    for title, pairs in (
        ("worse", comparison.worse),
        ("better", comparison.better),
        ("no longer applicable", comparison.moved((*GOOD, *BAD), ("n/a",))),
        ("applicable now", comparison.moved(("n/a",), (*GOOD, *BAD))),
    ):
        yield from _group(title, pairs, _change)
    yield from _group("gone", comparison.gone, str)
    yield from _group("new", comparison.added, str)
    yield from _group("worst r, by clause", comparison.worst, _radius)
    same = sum(a["status"] == b["status"] for a, b in comparison.pairs)
    yield f"{len(comparison.worse)} worse, {len(comparison.better)} better, {same} as before"


def _by_id(recorded: Recorded) -> Mapping[str, Line]:
    return {line["id"]: line for line in recorded.results}


def _name(recorded: Recorded) -> str:
    header = recorded.header
    cut = "" if recorded.footer else ", cut short"
    return f"{header['target']}, {header['date']}, infonce-ref {header['suite']}, {len(recorded.results)} results{cut}"


def _unlike(comparison: Comparison, key: str) -> bool:
    return bool(comparison.old.header[key] != comparison.new.header[key])


def _group(title: str, items: list[Any], words: Callable[[Any], str]) -> Iterator[str]:
    if items:
        yield f"\n{title}: {len(items)}"
        yield from (f"  {words(item)}" for item in items[:SHOWN])
    if len(items) > SHOWN:
        yield f"  … and {len(items) - SHOWN} more"


def _change(pair: tuple[Line, Line]) -> str:
    old, new = pair
    reason = f": {new['reason']}" if new["reason"] else ""
    return f"{new['id']}  {old['status']} → {new['status']}{_ratios(old['r'], new['r'])}{reason}"


def _ratios(old: Any, new: Any) -> str:
    return "" if old is None and new is None else f", r {_shown(old)} → {_shown(new)}"


def _radius(change: tuple[str, float | None, float | None]) -> str:
    clause, old, new = change
    return f"{clause}  {_shown(old)} → {_shown(new)}"


def _shown(r: Any) -> str:
    return "-" if r is None else f"{float(r):.3g}"


def _worst(lines: Iterator[Line]) -> dict[str, float]:
    """By clause."""
    worst: dict[str, float] = {}
    for line in lines:
        for clause in line["clauses"] if line["r"] is not None else ():
            worst[clause] = max(worst.get(clause, 0.0), float(line["r"]))
    return worst


def _differ(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is not new
    return max(old, new) > MOVED * min(old, new)
