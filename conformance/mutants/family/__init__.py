"""Wrong implementations of the losses beside info_nce, and of what info_nce has beside them."""

from infonce_ref.conformance.mutants.family import (  # noqa: F401  importing them enters their mutants into the registry
    bags,
    everywhere,
    labels,
    nested,
    pairs,
    queries,
    views,
)
