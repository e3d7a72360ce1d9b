"""What the backends should reach, each a ratio of figures or a figure itself, and whether they do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tests.benchmarks.figures import Figures, growth, ratio
from tests.benchmarks.points import LARGEST

LIBRARY = {"numpy": "NumPy", "torch": "PyTorch"}
MOST_FLOOR = {"numpy": {(8192, 256): 1.15, (4096, 128): 1.3}, "torch": {(8192, 256): 1.2, (4096, 128): 1.3}}
LEAST_AUTOGRAD = {
    "numpy": {(8192, 256): 1.3, (4096, 128): 2.0},
    "torch": {(8192, 256): 1.6, (4096, 128): 2.4, (4096, 512): 1.4},
}
SMALL, FEWEST, WIDE = (32, 128), 256, 8192
PRODUCTS = 7 / 3  # of nt_xent over info_nce's: 3 for the scores of N pairs, which are symmetric, and 4 for the gradient
GB = 1e9


class Target(NamedTuple):
    """`measured` None: not measured. `where`: the size at which the worst was found, where there are several."""

    what: str
    wanted: float
    measured: float | None
    at_most: bool = True
    where: str = ""
    unit: str = "×"

    @property
    def reached(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured <= self.wanted if self.at_most else self.measured >= self.wanted


def named(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


class Worst(NamedTuple):
    """The worst ratio over the sizes that have one, if any, and where."""

    value: float | None = None
    size: tuple[int, int] = (0, 0)
    count: int = 0

    @property
    def where(self) -> str:
        return f"worst of {self.count} sizes, at {named(self.size)}" if self.count else ""


def worst(
    sizes: Iterable[tuple[int, int]], of: Callable[[tuple[int, int]], float | None], at_most: bool = True
) -> Worst:
    found = [(value, size) for size in sizes if (value := of(size)) is not None]
    return Worst(*(max if at_most else min)(found), len(found)) if found else Worst()


def targets(figures: Figures) -> Iterator[Target]:
    """All that are about time and memory: those of both libraries, and one for small batches."""
    for library, label in LIBRARY.items():
        yield from at_sizes(figures, library, label)
        yield from at_any_size(figures, library, label)
        yield from at_the_largest(figures, library, label)
    small = ratio(
        figures.seconds("one", "info_nce", SMALL, "torch"), figures.seconds("one", "info_nce", SMALL, "autograd")
    )
    yield Target(f"PyTorch, {named(SMALL)}: time over PyTorch autograd's", 1.5, small)


def at_sizes(figures: Figures, library: str, label: str) -> Iterator[Target]:
    def time(size: tuple[int, int], name: str) -> float | None:
        return figures.seconds("one", "info_nce", size, name)

    for size, most in MOST_FLOOR[library].items():
        found = ratio(time(size, library), time(size, f"{library}-floor"))
        yield Target(f"{label}, {named(size)}: time over its own tiled products", most, found)
    for size, least in LEAST_AUTOGRAD[library].items():
        found = ratio(time(size, "autograd"), time(size, library))
        yield Target(f"{label}, {named(size)}: PyTorch autograd's time over its own", least, found, at_most=False)


def at_any_size(figures: Figures, library: str, label: str) -> Iterator[Target]:
    def over(name: str, loss: str, base: str, base_loss: str) -> Callable[[tuple[int, int]], float | None]:
        return lambda size: ratio(
            figures.seconds("one", loss, size, name), figures.seconds("one", base_loss, size, base)
        )

    sizes = [size for size in figures.sizes("one", "info_nce") if size[0] >= FEWEST]
    found = worst(sizes, over(library, "info_nce", "autograd", "info_nce"))
    yield Target(f"{label}, any N ≥ {FEWEST}: time over PyTorch autograd's", 1.1, found.value, where=found.where)
    found = worst(sizes, over(library, "clip", f"{library}-one-way", "clip"))
    yield Target(f"{label}, any N ≥ {FEWEST}: clip's time over info_nce's", 1.45, found.value, where=found.where)
    for dim in sorted({128} | {dim for _, dim in figures.sizes("one", "nt_xent")}):
        those = [size for size in sizes if size[1] == dim]
        found = worst(those, over("lightly", "nt_xent", library, "nt_xent"), at_most=False)
        what = f"{label}, D = {dim}, any N ≥ {FEWEST}: lightly's time over nt_xent's"
        bare = over("lightly", "nt_xent", f"{library}-floor", "info_nce")(found.size)
        most = "" if bare is None else f", where bare products would make it {bare / PRODUCTS:.2f} ×"
        yield Target(what, 3.0, found.value, at_most=False, where=found.where + most)
    wide = [size for size in figures.sizes("two", "info_nce") if size[0] == WIDE]
    found = worst(wide, lambda size: gained(figures, "info_nce", size, library), at_most=False)
    what = f"{label}, N = {WIDE}: one thread's time over two threads'"
    yield Target(what, 1.7, found.value, at_most=False, where=found.where)


def at_the_largest(figures: Figures, library: str, label: str) -> Iterator[Target]:
    at = f"{label}, {named(LARGEST)}, two threads"
    held = beyond_results(figures, LARGEST, library)
    yield Target(f"{at}: memory beyond inputs and results", 1.5, held, unit="GB")
    found = ratio(figures.seconds("two", "info_nce", LARGEST, library), predicted(figures, LARGEST, library))
    yield Target(f"{at}: time over what N² predicts from smaller sizes", 1.3, found)


def gained(figures: Figures, loss: str, size: tuple[int, int], name: str) -> float | None:
    """One thread's time over two threads', both by the clock on the wall."""
    return ratio(figures.seconds("one", loss, size, name, "wall"), figures.seconds("two", loss, size, name, "wall"))


def beyond_results(figures: Figures, size: tuple[int, int], name: str) -> float | None:
    """GB that a call adds to the peak, less the gradients of both sides."""
    found = figures.bytes("info_nce", size, name)
    return None if found is None else (found - 2 * size[0] * size[1] * 4) / GB


def predicted(figures: Figures, size: tuple[int, int], name: str) -> float | None:
    """c N² with the c that fits the smaller sizes of that D best, by least squares of the logarithms; N ≥ 8192."""
    smaller = [s for s in figures.sizes("two", "info_nce") if s[1] == size[1] and 8192 <= s[0] < size[0]]
    times = [(s[0], t) for s in smaller if (t := figures.seconds("two", "info_nce", s, name)) is not None]
    if not times:
        return None
    return size[0] ** 2 * math.exp(sum(math.log(t / n**2) for n, t in times) / len(times))


def exponent(points: Iterable[tuple[int, float | None]], fewest: int) -> tuple[float, int, int] | None:
    """The exponent of N by the sizes from `fewest` on, and which they span."""
    found = sorted((n, y) for n, y in points if y is not None and n >= fewest and y > 0)
    if len(found) < 2:
        return None
    p = growth((n for n, _ in found), (y for _, y in found))
    assert p is not None
    return p, found[0][0], found[-1][0]
