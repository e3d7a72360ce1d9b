"""The zoo's worst r for every loss, format and level, as a Markdown table.

python -m tests.suite.adequacy_of_family --seeds 20 --dtypes float64 float32
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from infonce_ref.conformance.bounds import BoundTooLoose, Level, bound
from infonce_ref.conformance.oracle.definition import evaluate
from infonce_ref.conformance.problem import FORMATS, Problem
from tests.suite import family_zoo
from tests.suite.adequacy_of_bounds import Exact, worst

LEVELS: tuple[Level, ...] = ("textbook", "precise")
AT_A_KINK = ("kink", "steep")  # either branch is right there: a correct result may use its whole bound


def promises(problem: Problem, level: Level) -> bool:
    """Whether the problem has a bound of that level."""
    sincere = problem.loss != "sup_con" or problem.option("variant") == "sincere"
    halves = FORMATS[problem.dtype].bits == 16
    return level == "textbook" or (problem.loss in family_zoo.PRECISE_LOSSES and sincere and not halves)


def ratios(problem: Problem, level: Level, answer: Exact | None = None) -> dict[str, float]:
    """Each order's worst r; none where the problem has no bound."""
    orders = family_zoo.textbook(problem.loss) if level == "textbook" else family_zoo.precise()
    try:
        radii = bound(problem, FORMATS[problem.dtype], level)
    except BoundTooLoose:
        return {}
    exact = answer or evaluate(problem).outputs()
    return {name: worst(run(problem, problem.dtype), exact, radii, problem.dtype) for name, run in orders.items()}


def table(seeds: int, dtypes: Iterable[str], losses: Iterable[str], kinds: Iterable[str]) -> Iterator[str]:
    """One line for each loss: the worst r of each format at each level, and whose it was."""
    columns = [(dtype, level) for dtype in dtypes for level in LEVELS]
    yield "| loss | " + " | ".join(f"{dtype} {level}" for dtype, level in columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for loss in losses:
        highest = dict.fromkeys(columns, (0.0, "", "", 0))
        for kind in kinds:
            for seed in range(seeds):
                for dtype, level in columns:
                    problem = family_zoo.problem_of(loss, kind, seed, dtype)
                    found = ratios(problem, level) if promises(problem, level) else {}
                    highest[dtype, level] = (
                        max(highest[dtype, level], *((r, name, kind, seed) for name, r in found.items()))
                        if found
                        else highest[dtype, level]
                    )
        cells = (f"{r:.3f} {name} {kind} #{seed}" if name else "" for r, name, kind, seed in highest.values())
        yield f"| {loss} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=["float64", "float32"], choices=list(FORMATS))
    parser.add_argument("--losses", nargs="+", default=list(family_zoo.FUNCTIONS), choices=list(family_zoo.FUNCTIONS))
    parser.add_argument("--kinks", action="store_true", help="the classes where either branch is right, alone")
    given = parser.parse_args()
    smooth = [kind for kind in family_zoo.CLASSES if kind not in AT_A_KINK]
    for line in table(given.seeds, given.dtypes, given.losses, AT_A_KINK if given.kinks else smooth):
        print(line, flush=True)
