"""How far from the exact answer a correct implementation may land: docs/spec/bounds.md, stage by stage.

A quantity is a Ball: its exact value; a size that no correct order of evaluation exceeds (the same
expression with every term in absolute value); and a radius that no correct order's error exceeds. A stage
of a loss has one rule for its value and one for its pullback, and `bound` composes them as the loss composes
them. First order in the unit roundoff: the rules hold while every logit's radius is small, and BoundTooLoose
says where it isn't.
"""

from infonce_ref.conformance.bounds.ball import BoundTooLoose, flushed
from infonce_ref.conformance.bounds.whole import Level, bound

__all__ = ["BoundTooLoose", "Level", "bound", "flushed"]
