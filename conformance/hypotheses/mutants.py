"""The suite's wrong implementations, as hypotheses about others."""

from __future__ import annotations

from collections.abc import Iterator

from infonce_ref.conformance.adapters.resolve import Unusable
from infonce_ref.conformance.hypotheses.base import Hypothesis, Predict, Replay

# Mutants that are caught by these classes of check alone don't give other numbers.
NOT_NUMBERS = {"errors", "purity", "repetition", "shape", "dtype"}


def by_mutant(loss: str) -> Iterator[Hypothesis]:
    """Those of `loss`; ImportError without PyTorch, in which they are written."""
    import torch  # noqa: F401

    from infonce_ref.conformance.mutants import MUTANTS

    for mutant in MUTANTS:
        if mutant.loss != loss or {*mutant.classes} <= NOT_NUMBERS:
            continue
        try:
            replay = Replay(mutant.function, "torch", loss)
        except Unusable:
            continue
        story = mutant.story + (f" Seen in {mutant.seen}." if mutant.seen else "")
        precise, native = asked(replay, in_float64=True), asked(replay, in_float64=False)
        yield Hypothesis(mutant.id, mutant.means, precise, rank=2, story=story, native=native)


def asked(replay: Replay, in_float64: bool) -> Predict:
    return lambda at: replay(at.problem.in_dtype("float64") if in_float64 else at.problem)
