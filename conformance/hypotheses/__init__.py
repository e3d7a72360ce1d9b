"""What a wrong implementation may have computed: other conventions, other definitions, the suite's own mutants.

A hypothesis says which numbers it gives for a problem. Conventions start from the exact answer; other definitions are
calls of the reference, in float64; mutants are run, which takes PyTorch.
"""

from __future__ import annotations

from infonce_ref.conformance.hypotheses.base import Hypothesis, Situation
from infonce_ref.conformance.hypotheses.conventions import by_convention, combined, conventions
from infonce_ref.conformance.hypotheses.definitions import by_definition
from infonce_ref.conformance.hypotheses.mutants import by_mutant

__all__ = ["Hypothesis", "Situation", "combined", "conventions", "known"]


def known(loss: str) -> tuple[list[Hypothesis], str]:
    """Every hypothesis about `loss`, simplest first, and what is missing to have more."""
    found = [*by_convention(loss), *by_definition(loss)]
    try:
        return [*found, *by_mutant(loss)], ""
    except (ImportError, OSError):  # the latter where a library that it is built on is missing
        return found, "The suite's wrong implementations are compared only where PyTorch is installed."
