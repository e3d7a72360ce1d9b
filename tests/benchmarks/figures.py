"""The figures: kept as JSON, one line a point, and what is read off them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

CLOCK = {"one": "processor", "two": "wall"}  # others disturb processor time least, but it can't tell who waits


class Figures:
    """Points by their keys, each with the environment that it was measured in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"environments": [], "points": {}}
        self.environments: list[dict[str, Any]] = held["environments"]
        self.points: dict[str, dict[str, Any]] = held["points"]

    def put(self, key: str, figures: dict[str, Any], environment: dict[str, Any]) -> None:
        """Keep the figures of a point, on disk too."""
        if environment not in self.environments:
            self.environments.append(environment)
        self.points[key] = {**figures, "environment": self.environments.index(environment)}
        self.write()

    def write(self) -> None:
        environments = ",\n".join(json.dumps(e, ensure_ascii=False) for e in self.environments)
        keys = sorted(self.points, key=order)
        points = ",\n".join(f"{json.dumps(key)}: {json.dumps(self.points[key])}" for key in keys)
        text = f'{{"environments": [\n{environments}\n],\n"points": {{\n{points}\n}}}}\n'
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.path)

    # --- read off ----------------------------------------------------------------------------------------------------

    def spread(self, part: str, loss: str, size: tuple[int, int], name: str, clock: str = "") -> list[float] | None:
        """Smallest, quartiles and largest seconds; None where it wasn't measured."""
        found = self.points.get(f"{part}/{loss}/{size[0]}x{size[1]}", {}).get("found", {}).get(name)
        return None if found is None else found[clock or CLOCK[part]]

    def seconds(self, part: str, loss: str, size: tuple[int, int], name: str, clock: str = "") -> float | None:
        """The median seconds. The name `<library>-floor`: those of its quickest products in tiles."""
        if name.endswith("-floor"):
            those = [name.replace("floor", tiles) for tiles in ("256", "512", "onednn")]
            tiles = [self.seconds(part, loss, size, each, clock) for each in those]
            return min((t for t in tiles if t is not None), default=None)
        found = self.spread(part, loss, size, name, clock)
        return None if found is None else found[2]

    def bytes(self, loss: str, size: tuple[int, int], name: str) -> float | None:
        """What a call adds to the peak."""
        found: float | None = self.points.get(f"memory/{loss}/{size[0]}x{size[1]}/{name}", {}).get("bytes")
        return found

    def sizes(self, part: str, loss: str) -> list[tuple[int, int]]:
        """What was measured of a part and a loss, in order."""
        keys = (key.split("/") for key, point in self.points.items() if "failed" not in point)
        found = {tuple(map(int, key[2].split("x"))) for key in keys if key[:2] == [part, loss]}
        return sorted((rows, dim) for rows, dim in found)

    def names(self, part: str, loss: str) -> set[str]:
        """Who was measured at any size."""
        prefix = f"{part}/{loss}/"
        those = [(key, point) for key, point in self.points.items() if key.startswith(prefix)]
        return {name for key, point in those for name in point.get("found", {key.rsplit("/", 1)[-1]: None})}

    def failures(self) -> Iterator[tuple[str, str]]:
        """The points that came to nothing, and why."""
        return ((key, point["failed"]) for key, point in self.points.items() if "failed" in point)

    def left_out(self) -> dict[str, dict[str, list[str]]]:
        """Who → why → at which points."""
        found: dict[str, dict[str, list[str]]] = {}
        for key in sorted(self.points, key=order):
            for name, why in self.points[key].get("left out", {}).items():
                found.setdefault(name, {}).setdefault(why, []).append(key)
        return found

    def values(self) -> Iterator[tuple[str, str, float, float]]:
        """Key, name, loss and exact loss, wherever both are known."""
        for key, point in self.points.items():
            for name, found in point.get("found", {}).items():
                if found["loss"] is not None and point["exact"] is not None:
                    yield key, name, found["loss"], point["exact"]


def order(key: str) -> tuple[str, str, int, int, str]:
    part, loss, size, *name = key.split("/")
    rows, dim = map(int, size.split("x"))
    return part, loss, dim, rows, "".join(name)


def ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a / b


def growth(xs: Iterable[float], ys: Iterable[float]) -> float | None:
    """The exponent p of y = c xᵖ by least squares of the logarithms; None for fewer than two points."""
    pairs = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True)]
    if len(pairs) < 2:
        return None
    mean_x, mean_y = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    along = sum((x - mean_x) ** 2 for x, _ in pairs)
    return sum((x - mean_x) * (y - mean_y) for x, y in pairs) / along
