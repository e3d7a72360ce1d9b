"""Runs the points in child processes, cheapest first, and keeps every figure as it comes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.figures import Figures
from tests.benchmarks.points import PARTS, Point

ROOT = Path(__file__).parents[2]
TOGETHER = 60.0  # seconds: points that take less in all share a child and its imports
LIBRARIES = ("numpy", "torch", "jax", "jaxlib", "threadpoolctl")
DISTRIBUTIONS = [*LIBRARIES, *(c.distribution for c in CONTENDERS.values() if c.distribution)]


class Effort(NamedTuple):
    """How much is spent."""

    seconds: float  # for the rounds of a point,
    rounds: tuple[int, int]  # of which there are at least and at most so many
    limit: float  # GiB that a contender may need
    minutes: float = float("inf")  # in all

    def expected(self, point: Point) -> float:
        return point.expected(self.limit, self.seconds, self.rounds)


def child(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the child says, line by line; at its end {"died": why} if it did."""
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", "tests.benchmarks.child"]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors, "cwd": ROOT, "text": True}
        with subprocess.Popen(command, **pipes) as process:
            assert process.stdin
            assert process.stdout
            try:
                process.stdin.write(json.dumps(job))
                process.stdin.close()
                yield from (json.loads(line) for line in process.stdout if line.startswith("{"))
            except BaseException:  # also where nobody listens any more
                process.kill()
                raise
        if process.returncode:
            errors.seek(0)
            sys.stderr.write(errors.read())
            how = f"killed by signal {-process.returncode}" if process.returncode < 0 else "raised an exception"
            yield {"died": how}


def described(point: Point, effort: Effort) -> dict[str, Any]:
    names = point.contenders(effort.limit)[0]
    seconds = {name: point.call(name) for name in names}
    return {**point._asdict(), "key": point.key, "threads": point.threads, "names": names, "seconds": seconds}


def groups(points: Sequence[Point], effort: Effort) -> list[list[Point]]:
    """Points that share a child: of the same part, little work in all; for memory, each its own."""
    found: list[list[Point]] = []
    for point in points:
        group = found[-1] if found else []
        alike = group and group[0].part == point.part != "memory"
        if alike and sum(map(effort.expected, [*group, point])) < TOGETHER:
            group.append(point)
        else:
            found.append([point])
    return found


def turn(point: Point, effort: Effort) -> tuple[int, int, float]:
    """What is cheap goes first, part by part, then the rest by its cost: cut off early, most is there."""
    cost = effort.expected(point)
    return (0, list(PARTS).index(point.part), cost) if cost < TOGETHER else (1, 0, cost)


def measure(points: Sequence[Point], figures: Figures, effort: Effort) -> None:
    """Measure those points until the time is up."""
    possible = [point for point in points if point.contenders(effort.limit)[0]]
    ordered = sorted(possible, key=lambda point: turn(point, effort))
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    begun = time.monotonic()
    environment = next(child({"threads": 1, "points": [], "distributions": DISTRIBUTIONS}))["environment"]
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(ordered))
        for group in groups(ordered, effort):
            spent = time.monotonic() - begun
            if spent > TOGETHER and spent + sum(map(effort.expected, group)) > effort.minutes * 60:
                progress.console.print(f"time is up before {group[0].key}: the same command goes on there")
                return
            for key, found in visit(group, effort, lambda what: progress.update(task, description=what)):
                figures.put(key, found, environment)
                progress.advance(task)


def visit(group: Sequence[Point], effort: Effort, show: Callable[[str], None]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The figures of each. Where a child dies, the point it was at has failed and another goes on after it."""
    pending = list(group)
    while pending:
        job = {
            "threads": pending[0].threads,
            "points": [described(point, effort) for point in pending],
            "seconds": effort.seconds,
            "rounds": effort.rounds,
        }
        now = ""
        for said in child(job):
            now = said.get("now", now)
            show(f"{pending[0].key if pending else ''} {now}")
            if "point" in said:
                point = pending.pop(0)
                yield point.key, {**said["figures"], "left out": point.contenders(effort.limit)[1]}
            elif "died" in said and pending:
                yield pending.pop(0).key, {"failed": f"{said['died']} ({now})"}
