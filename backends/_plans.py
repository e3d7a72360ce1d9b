"""What the backends ask of the reference's plans: which have tiles (one positive a row, the softplus for a link), and
which calls are plain enough for a plan made quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from infonce_ref.contrast import Contrast, Contrasted, MeanOf
from infonce_ref.link import softplus_link
from infonce_ref.loss import Loss, Plan
from infonce_ref.losses.matryoshka import Matryoshka

Quick: TypeAlias = Callable[[Mapping[str, Any]], Plan[Any] | None]  # a call's plan, if it is plain
TEMPERATURES = (1e-30, 1e30)  # of a plain call

# With |x| below this, e^x, sums of it and ratios keep 14 decades (float32) from under- and overflow.
LARGEST_UNSHIFTED = {"float32": 40.0, "float64": 300.0}


class OfReference:
    """What every loss of a backend knows: the reference's loss of its name."""

    reference: Loss[Any, Any]

    def __reduce__(self) -> Any:
        """By name, as functions are; one that `matryoshka` made has none."""
        name, made = self.reference.name, isinstance(self.reference, Matryoshka)
        return (type(self), (self.reference,)) if made else name


def reference_of(loss: Any) -> Any:
    """The reference's loss that a backend's loss carries out; anything else as it is."""
    return loss.reference if isinstance(loss, OfReference) else loss


class Direction(NamedTuple):
    """Rows that a plan contrasts in tiles, and their share of its losses."""

    rows: Contrasted
    share: float


def directions(rows: Any) -> list[Direction] | None:
    """What the rows are made of; None if that isn't what tiles are for."""
    parts: list[Any] = [rows.one, rows.other] if isinstance(rows, MeanOf) else [rows]
    if not all(isinstance(part, Contrasted) and part.level is None and tileable(part.layout(0, 1)) for part in parts):
        return None
    return [Direction(part, 1 / len(parts)) for part in parts]


def tileable(rows: Contrast) -> bool:
    biased = rows.pair.bias is not None or any(block.bias is not None for block in rows.blocks)
    return rows.link is softplus_link and not biased
