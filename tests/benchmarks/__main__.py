from __future__ import annotations

import argparse
import os
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console

from tests.benchmarks import __doc__ as how
from tests.benchmarks.figures import Figures
from tests.benchmarks.measure import Effort, measure
from tests.benchmarks.points import Point, points, short

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def chosen(given: argparse.Namespace, figures: Figures) -> list[Point]:
    """The points that are asked for, possible here, and not measured yet."""
    here = os.cpu_count() or 1
    all_of_them = short() if given.short else points(given.largest)
    asked = [p for p in all_of_them if any(fnmatch(p.key, pattern) for pattern in given.only)]
    return [p for p in asked if p.threads <= here and (given.again or "found" not in figures.points.get(p.key, {}))]


def show(those: list[Point], effort: Effort) -> None:
    """The points and what they should take, by part and loss, and point by point."""
    for part in dict.fromkeys((p.part, p.loss) for p in those):
        of_it = [p for p in those if (p.part, p.loss) == part]
        print(f"{'/'.join(part):20} {sum(map(effort.expected, of_it)) / 60:8.1f} min")
        for point in of_it:
            print(f"    {point.key:50} {effort.expected(point):8.0f} s")
    print(f"{'in all':20} {sum(map(effort.expected, those)) / 60:8.1f} min")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks", description=how, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--render", action="store_true", help="measure nothing, write page and plots again")
    parser.add_argument("--list", action="store_true", help="measure nothing, say what would be and for how long")
    parser.add_argument("--short", action="store_true", help="a little of everything, in less than a minute")
    parser.add_argument("--largest", action="store_true", help="N = 131072 too")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="of part/loss/NxD[/contender]")
    parser.add_argument("--again", action="store_true", help="measure what is measured already, too")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing that would end later")
    parser.add_argument("--seconds", type=float, default=60.0, help="for the rounds of a point, at most 15 of them")
    parser.add_argument("--rounds", type=int, default=3, help="of a point at least, however long they take")
    parser.add_argument("--memory-limit", type=float, default=8.0, metavar="GiB", help="for one contender")
    parser.add_argument("--to", type=Path, default=RESULTS, help="the folder of performance.md")
    given = parser.parse_args(arguments)
    figures = Figures(given.to / "performance" / "figures.json")
    effort = Effort(given.seconds, (given.rounds, 15), given.memory_limit, given.minutes)
    if given.short:
        effort = effort._replace(seconds=0.5, rounds=(2, 3))
    if given.list:
        show(chosen(given, figures), effort)
        return
    if not given.render:
        measure(chosen(given, figures), figures, effort)
    from tests.benchmarks import page, plots  # matplotlib is slow to import

    page.write(figures, given.to / "performance.md")
    plots.write(figures, given.to / "performance")
    Console(stderr=True).print(f"{given.to / 'performance.md'}")


if __name__ == "__main__":
    main()
