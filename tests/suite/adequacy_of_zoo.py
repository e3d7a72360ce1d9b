"""The correct zoo of the whole family, seed by seed: no order of evaluation may use more than half of its bound.

python -m tests.suite.adequacy_of_zoo --seeds 500    # goes on from the seeds that docs/results/zoo.json has
python -m tests.suite.adequacy --write               # its figures, as part of docs/results/adequacy.md

A seed is one problem of each loss, in float64 and in float32, for every order of evaluation that the loss has; the
class of input changes from seed to seed. The record is written after each, so that a run may be cut short; a loss that
is new in the zoo is asked the seeds that the others have been asked.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from infonce_ref.conformance.bounds import Level
from infonce_ref.conformance.oracle.definition import evaluate
from infonce_ref.conformance.problem import FORMATS, Problem
from tests.suite import adequacy_of_bounds, adequacy_of_family, family_zoo, zoo

RECORD = Path(__file__).parents[2] / "docs" / "results" / "zoo.json"
COMFORT = 0.5  # the most of its bound that a correct result may use
DTYPES = ("float64", "float32")
LEVELS: tuple[Level, ...] = adequacy_of_family.LEVELS
SMOOTH = tuple(kind for kind in family_zoo.CLASSES if kind not in adequacy_of_family.AT_A_KINK)
ANALYTIC = "info_nce, NumPy and PyTorch"  # orders of its own, NumPy's with analytic gradients
PARTS = (ANALYTIC, *family_zoo.FUNCTIONS)

Ratios = Mapping[str, float]  # each order's worst r
Record = dict[str, Any]  # {part: {seeds, results, worst: {"float64 textbook": [r, order, kind, seed]}}}
WITHOUT_JAX = {name: run for name, run in zoo.TEXTBOOK.items() if not name.startswith("jax")}  # it compiles each shape


def kind_of(part: str, seed: int) -> str:
    """The class of input whose turn it is."""
    kinds = zoo.KINDS if part == ANALYTIC else SMOOTH
    return kinds[seed % len(kinds)]


def problem_of(part: str, seed: int, dtype: str) -> Problem:
    kind = kind_of(part, seed)
    return zoo.problem_of(kind, seed, dtype) if part == ANALYTIC else family_zoo.problem_of(part, kind, seed, dtype)


def ratios(part: str, seed: int, dtype: str) -> Iterator[tuple[Level, Ratios]]:
    """For each level that the problem has a bound of, each order's worst r."""
    problem = problem_of(part, seed, dtype)
    exact = evaluate(problem).outputs()
    for level in LEVELS:
        if part == ANALYTIC:
            orders = WITHOUT_JAX if level == "textbook" else zoo.PRECISE
            yield level, adequacy_of_bounds.ratios(problem, orders, level, FORMATS[dtype], exact)
        elif adequacy_of_family.promises(problem, level):
            yield level, adequacy_of_family.ratios(problem, level, exact)


def read(path: Path) -> Record:
    """What is known of each part; nothing of one that is new."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {part: known.get(part, {"seeds": 0, "results": 0, "worst": {}}) for part in PARTS}


def add(record: Record, seed: int, ask: Callable[..., Iterator[tuple[Level, Ratios]]] = ratios) -> None:
    """What one more seed shows of the parts that haven't been asked it."""
    for part, found in record.items():
        if found["seeds"] > seed:
            continue
        for dtype in DTYPES:
            for level, each in ask(part, seed, dtype):
                found["results"] += len(each)
                highest = found["worst"].get(f"{dtype} {level}", [0.0, "", "", 0])
                news = ([r, order, kind_of(part, seed), seed] for order, r in each.items())
                found["worst"][f"{dtype} {level}"] = max(highest, *news, key=lambda entry: entry[0])
        found["seeds"] = seed + 1


def seeds(record: Record) -> int:
    """How many every part has been asked."""
    return min(found["seeds"] for found in record.values())


def worst(record: Record) -> float:
    """The worst r of all."""
    return max((entry[0] for found in record.values() for entry in found["worst"].values()), default=0.0)


def as_json(record: Record) -> str:
    """A part a line."""
    lines = ",\n".join(f"{json.dumps(part)}: {json.dumps(found)}" for part, found in record.items())
    return f"{{\n{lines}\n}}\n"


def section(record: Record) -> Iterator[str]:
    """The record as a part of the page ADEQUACY."""
    every, results = seeds(record), sum(found["results"] for found in record.values())
    yield f"""
## Correct implementations

Written to [zoo.json](zoo.json) by `python -m tests.suite.adequacy_of_zoo --seeds {every}`: {every} seeds, each a
problem of every loss in float64 and in float32, of a class of input that changes from seed to seed, computed by every
order of evaluation that the loss has: {results} results, each a loss with all its gradients. The worst r is
{worst(record):.3f}; {COMFORT} is the most that it may be, 1 the bound. Beside each r its order, class and seed. The
first 20 seeds are tests (`tests/suite/test_bounds_family.py`).
"""
    columns = [f"{dtype} {level}" for dtype in DTYPES for level in LEVELS]
    yield f"| loss | results | {' | '.join(columns)} |"
    yield "|---|---|" + "---|" * len(columns)
    for part, found in record.items():
        entries = [found["worst"].get(column) for column in columns]
        cells = [f"{e[0]:.3f} {e[1]}, {e[2]} #{e[3]}" if e else "" for e in entries]
        yield f"| {part} | {found['results']} | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None, ask: Callable[..., Iterator[tuple[Level, Ratios]]] = ratios) -> int:
    usage = argparse.ArgumentParser(prog="python -m tests.suite.adequacy_of_zoo", description="Run the correct zoo.")
    usage.add_argument("--seeds", type=int, default=500, help="from 0 to so many; those in the record aren't run again")
    usage.add_argument("--again", action="store_true", help="start from seed 0")
    usage.add_argument("--record", type=Path, default=RECORD, help=argparse.SUPPRESS)
    options = usage.parse_args(arguments)
    path: Path = options.record
    if options.again:
        path.unlink(missing_ok=True)
    record = read(path)
    for seed in track(range(seeds(record), options.seeds), "seeds"):
        add(record, seed, ask)
        path.write_text(as_json(record), encoding="utf-8")
    print(f"{seeds(record)} seeds, worst r = {worst(record):.3f}, at most {COMFORT} is right")
    return 0 if worst(record) <= COMFORT else 1


if __name__ == "__main__":
    raise SystemExit(main())
