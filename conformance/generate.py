"""The vectors, made from the cases: answers by two oracles, bounds by rule, written so that every byte repeats.

python -m infonce_ref.conformance.generate                      # write all
python -m infonce_ref.conformance.generate --only PATTERN       # write those, keep the others
python -m infonce_ref.conformance.generate --check              # regenerate and compare byte for byte
python -m infonce_ref.conformance.generate --check --sample 8   # some of them, always the same
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import ROUND_HALF_EVEN, ROUND_UP, Context, Decimal
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mpmath import mp

from infonce_ref.conformance.bounds import BoundTooLoose, Level, bound
from infonce_ref.conformance.cases import candidates, core, edges, errors, variants
from infonce_ref.conformance.cases.case import Case, Cases, outputs
from infonce_ref.conformance.cases.family import bags, labels, nested, pairs, queries, views
from infonce_ref.conformance.intact import identity
from infonce_ref.conformance.oracle import agree, definition, second
from infonce_ref.conformance.problem import FORMATS

HERE = Path(__file__).parent
VECTORS = HERE / "vectors"
KILLS = HERE / "mutants" / "kills.json"  # {slug: [mutant ids]}, written by the mutants' run

EDITION = "1"
DIGITS = 40
AGREEMENT = 1e-30  # how closely two oracles must agree, relative

CLASSES: Mapping[str, Mapping[str, Cases]] = {
    "info_nce": {**core.CLASSES, **candidates.CLASSES, **variants.CLASSES, **edges.CLASSES, **errors.CLASSES},
    **pairs.CLASSES,
    **views.CLASSES,
    **queries.CLASSES,
    **bags.CLASSES,
    **labels.CLASSES,
    **nested.CLASSES,
}
FILES: Mapping[str, tuple[str, str]] = {
    f"{loss}/{kind}.json": (loss, kind) for loss, classes in CLASSES.items() for kind in classes
}


class OraclesDisagree(ArithmeticError):
    """The two oracles gave different answers: one of them is wrong, and no vector is written."""


# --- a vector -----------------------------------------------------------------------------------------------


def vector(slug: str, case: Case) -> dict[str, Any]:
    """The case with its answers, its bounds and its id."""
    problem = case.problem_json()
    return {
        "id": identity(slug, problem),
        "clauses": list(case.all_clauses()),
        "profile": case.profile,
        "note": case.note,
        "kills": kills().get(slug, []),
        "expect": case.expect,
        "problem": problem,
        **answers(slug, case),
    }


def answers(slug: str, case: Case) -> dict[str, Any]:
    """Expected values and bounds, as far as the case has any."""
    if case.expect == "refused":
        return {"dtypes": {dtype: {} for dtype in case.dtypes}}
    spoilt = nonfinite_entries(case)
    exact = solve(slug, case)
    judged = {name: array for name, array in exact.items() if is_judged(name, case, spoilt)}
    hide = {name: spoilt.get(name, []) for name in judged}
    return {
        **({"nonfinite": spoilt} if spoilt else {}),
        "expected": {
            name: {"shape": list(array.shape), "values": texts(array, decimal40, hide[name])}
            for name, array in judged.items()
        },
        "dtypes": {dtype: bounds(slug, case, dtype, judged, hide) for dtype in case.dtypes},
    }


def solve(slug: str, case: Case) -> dict[str, np.ndarray]:
    """The exact answer, on which both oracles agree; nothing where no number of it is judged."""
    if case.expect == "nonfinite" and case.stand_in is None:
        return {}
    first, other = definition.evaluate(case.solved), second.evaluate(case.solved)
    difference = agree(first, other)
    if not difference <= AGREEMENT:
        raise OraclesDisagree(f"{slug}: the oracles differ by {difference:.1e}")
    return first.outputs()


def nonfinite_entries(case: Case) -> dict[str, list[int]]:
    """For each output the flat places that must hold NaN or an infinity."""
    shapes = outputs(case.problem)
    return {name: places(shapes[name], rows) for name, rows in case.nonfinite.items()}


def places(shape: tuple[int, ...], rows: Sequence[int] | None) -> list[int]:
    """The flat places of an output's rows; None means all of it."""
    index = np.arange(int(np.prod(shape))).reshape(shape)
    chosen: list[int] = (index if rows is None else index[list(rows)]).ravel().tolist()
    return chosen


def is_judged(name: str, case: Case, spoilt: Mapping[str, Sequence[int]]) -> bool:
    """Whether an output's finite entries are compared: with a NaN about, only the losses that it doesn't touch."""
    return case.expect == "values" or (name == "loss" and name in spoilt)


def bounds(
    slug: str, case: Case, dtype: str, exact: Mapping[str, np.ndarray], hide: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """The bounds of every output that is judged, at each level asked."""
    levels: dict[str, Level] = {"bound": "textbook", **({"precise": "precise"} if case.precise else {})}
    result = {}
    for key, level in levels.items() if exact else ():
        try:
            radii = bound(case.solved.in_dtype(dtype), FORMATS[dtype], level)
        except BoundTooLoose as error:
            raise BoundTooLoose(f"{slug} in {dtype}: {error}") from error
        result[key] = {name: texts(radii[name], rounded_up, hide[name]) for name in exact}
    return result


@cache
def kills() -> dict[str, list[str]]:
    """Which mutants each vector kills, where that has been measured."""
    table: dict[str, list[str]] = json.loads(KILLS.read_text(encoding="utf-8")) if KILLS.exists() else {}
    return table


# --- numbers as text ----------------------------------------------------------------------------------------


def texts(array: np.ndarray, write: Callable[[Any], str], hidden: Sequence[int]) -> list[str | None]:
    """All entries in C order, null for those that aren't compared."""
    return [None if i in hidden else write(x) for i, x in enumerate(array.flat)]


def decimal40(x: Any) -> str:
    """The number to 40 significant digits: 5.1264512987181175969470345e-2."""
    return written(x, Context(prec=DIGITS, rounding=ROUND_HALF_EVEN, Emin=-99999, Emax=99999))


def rounded_up(x: Any) -> str:
    """The number to 3 significant digits, away from 0: a bound is never written smaller than it is."""
    return written(x, Context(prec=3, rounding=ROUND_UP, Emin=-99999, Emax=99999))


def written(x: Any, context: Context) -> str:
    """The decimal number nearest to x in the context's sense, without trailing zeros."""
    exact = Decimal(mp.nstr(x, DIGITS + 20, strip_zeros=False))
    number = context.normalize(context.plus(exact))
    return format(number, "e") if number else "0"


# --- files --------------------------------------------------------------------------------------------------


def cases(loss: str, kind: str) -> dict[str, Case]:
    """A class's cases by slug."""
    named = [(f"{loss}.{kind}.{case.name}", case) for case in CLASSES[loss][kind]()]
    if len(dict(named)) != len(named):
        raise ValueError(f"two cases of {loss}.{kind} have one name")
    return dict(named)


def line(slug: str, case: Case) -> str:
    """A vector as it stands in its file: one line."""
    return json.dumps(vector(slug, case), separators=(",", ":"), allow_nan=False)


def file_text(loss: str, kind: str, lines: Iterable[str]) -> str:
    """A class's file: a vector a line."""
    head = json.dumps({"edition": EDITION, "loss": loss, "class": kind}, separators=(",", ":"))
    return head[:-1] + ',"vectors":[\n' + ",\n".join(lines) + "\n]}\n"


def stored_lines(path: Path) -> dict[str, str]:
    """The vectors that a file holds, id → line."""
    if not path.exists():
        return {}
    lines = [row.removesuffix(",") for row in path.read_text(encoding="utf-8").splitlines()[1:-1]]
    return {json.loads(row)["id"]: row for row in lines}


def expected_id(slug: str, case: Case) -> str:
    """The id that a case's vector has, without solving it."""
    return identity(slug, case.problem_json())


def write(folder: Path, chosen: set[str], tick: Callable[[str], None]) -> None:
    """Write every file; vectors that aren't chosen stay as they are stored."""
    for name, (loss, kind) in FILES.items():
        path, lines = folder / name, []
        stored = stored_lines(path)
        for slug, case in cases(loss, kind).items():
            old = stored.get(expected_id(slug, case))
            if slug in chosen:
                lines.append(line(slug, case))
                tick(slug)
            elif old is not None:
                lines.append(old)
        if lines:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file_text(loss, kind, lines), encoding="utf-8")


def check(folder: Path, chosen: set[str], tick: Callable[[str], None]) -> list[str]:
    """What is wrong with the files: vectors missing, of no case, or not what their case gives."""
    faults = [
        f"{path.relative_to(folder)}: of no class"
        for path in sorted(folder.glob("*/*.json"))
        if str(path.relative_to(folder)) not in FILES
    ]
    for name, (loss, kind) in FILES.items():
        path, stored = folder / name, stored_lines(folder / name)
        asked = {expected_id(slug, case): (slug, case) for slug, case in cases(loss, kind).items()}
        if list(stored) != list(asked):
            faults += [f"{name}: {identifier} is missing" for identifier in asked.keys() - stored.keys()]
            faults += [f"{name}: {identifier} is of no case" for identifier in stored.keys() - asked.keys()]
            faults += [] if asked.keys() ^ stored.keys() else [f"{name}: another order"]
        elif path.read_text(encoding="utf-8") != file_text(loss, kind, stored.values()):
            faults.append(f"{name}: another layout")
        for identifier, (slug, case) in asked.items():
            if slug in chosen and identifier in stored:
                if stored[identifier] != line(slug, case):
                    faults.append(f"{name}: {identifier} isn't what its case gives")
                tick(slug)
    return faults


# --- command line -------------------------------------------------------------------------------------------


def choose(pattern: str, sample: int | None) -> set[str]:
    """The slugs that match, or a sample of them that depends on nothing but their names."""
    slugs = [s for loss, kind in FILES.values() for s in cases(loss, kind) if fnmatch(s, pattern)]
    by_hash = sorted(slugs, key=lambda slug: hashlib.sha256(slug.encode()).digest())
    return set(by_hash[:sample])


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    chosen = choose(options.only, options.sample)
    if not chosen:
        sys.stderr.write(f"no vector matches {options.only!r}\n")
        return 2
    with progress(len(chosen)) as tick:
        if not options.check:
            write(options.folder, chosen, tick)
            return 0
        faults = check(options.folder, chosen, tick)
    sys.stdout.write("".join(f"{fault}\n" for fault in faults) or f"{len(chosen)} vectors are what their cases give\n")
    return 1 if faults else 0


def parser() -> argparse.ArgumentParser:
    usage = argparse.ArgumentParser(
        prog="python -m infonce_ref.conformance.generate", description="Write or check the vectors."
    )
    usage.add_argument("--check", action="store_true", help="compare with the stored files byte for byte")
    usage.add_argument("--sample", type=int, metavar="K", help="only K of the vectors, always the same")
    usage.add_argument(
        "--only", default="*", metavar="PATTERN", help="only the slugs that match, as in info_nce.masks.*"
    )
    usage.add_argument("--folder", type=Path, default=VECTORS, help=argparse.SUPPRESS)
    return usage


@contextmanager
def progress(count: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr; yields what is called with each slug that is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=count)
        yield lambda slug: bar.update(task, advance=1, description=slug)


if __name__ == "__main__":
    raise SystemExit(main())
