"""The zoo's worst r for every class of input, format and level, as a Markdown table.

python -m tests.suite.adequacy_of_bounds --seeds 200 --dtypes float64 float32
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

import numpy as np

from infonce_ref.conformance.bounds import Level, bound, flushed
from infonce_ref.conformance.judge import measure
from infonce_ref.conformance.oracle.definition import evaluate
from infonce_ref.conformance.problem import FORMATS, Format, Problem
from tests.suite import zoo

Exact = Mapping[str, np.ndarray]


def worst(found: zoo.Outputs, exact: Exact, radii: Exact, dtype: str) -> float:
    """The worst r over the loss and all gradients."""
    formats = {name: FORMATS[dtype].compute if name == "loss" else dtype for name in exact}
    return max(measure(found[name], exact[name], radii[name], formats[name]).r for name in exact)


def ratios(
    problem: Problem,
    implementations: Mapping[str, zoo.Implementation],
    level: Level,
    target: Format,
    exact: Exact | None = None,
) -> dict[str, float]:
    """Each implementation's worst r on the problem."""
    radii, answer = bound(problem, target, level), exact or evaluate(problem).outputs()
    return {name: worst(run(problem, target.name), answer, radii, target.name) for name, run in implementations.items()}


def table(seeds: int, dtypes: list[str], libraries: tuple[str, ...]) -> Iterator[str]:
    """One line for each class: the worst r of each format at each level, and whose it was."""
    zoos: dict[Level, dict[str, zoo.Implementation]] = {"textbook": zoo.TEXTBOOK, "precise": zoo.PRECISE}
    chosen = {level: {n: run for n, run in some.items() if n.startswith(libraries)} for level, some in zoos.items()}
    jax = "jax" in libraries  # it flushes subnormal numbers on a CPU
    formats = {name: flushed(target) if jax else target for name, target in FORMATS.items()}
    columns = [(dtype, level) for dtype in dtypes for level in zoos]
    yield "| class | " + " | ".join(f"{dtype} {level}" for dtype, level in columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for kind in zoo.KINDS:
        highest = dict.fromkeys(columns, (0.0, "", 0))
        for seed in range(seeds):
            for dtype in dtypes:
                problem = zoo.problem_of(kind, seed, dtype)
                exact = evaluate(problem).outputs()
                for level, some in chosen.items():
                    if level == "precise" and FORMATS[dtype].bits == 16:
                        continue
                    found = ratios(problem, some, level, formats[dtype], exact)
                    highest[dtype, level] = max(highest[dtype, level], *((r, name, seed) for name, r in found.items()))
        cells = (f"{r:.3f} {name} #{seed}" for r, name, seed in highest.values())
        yield f"| {kind} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--dtypes", nargs="+", default=["float64", "float32"], choices=list(FORMATS))
    parser.add_argument("--libraries", nargs="+", default=["numpy", "torch"], choices=["numpy", "torch", "jax"])
    given = parser.parse_args()
    for line in table(given.seeds, given.dtypes, tuple(given.libraries)):
        print(line, flush=True)
