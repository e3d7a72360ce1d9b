"""Which of the reference's plans have tiles: those whose rows have one positive each and the softplus for a link."""

from __future__ import annotations

from typing import Any, NamedTuple

from infonce_ref.contrast import Contrast, Contrasted, MeanOf
from infonce_ref.link import softplus_link


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
