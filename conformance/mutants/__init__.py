"""Wrong implementations of every loss, each with its story: what the suite must be able to see.

`MUTANTS` lists them; `python -m infonce_ref.conformance.mutants.run` shows that every one is caught.
"""

from infonce_ref.conformance.mutants import (  # noqa: F401  importing them enters their mutants into the registry
    candidates,
    edges,
    family,
    gradients,
    precisions,
    purities,
    reductions,
    refusals,
    rows,
    similarities,
    temperatures,
)
from infonce_ref.conformance.mutants.record import CLASSES, REGISTRY, Mutant

MUTANTS: tuple[Mutant, ...] = tuple(sorted(REGISTRY, key=lambda mutant: mutant.id))

__all__ = ["CLASSES", "MUTANTS", "Mutant"]
