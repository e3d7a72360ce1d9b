"""What there is to measure, and how long it should take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.benchmarks.contenders import CONTENDERS, OURS
from tests.benchmarks.inputs import LOSSES

PARTS = {"one": 1, "two": 2, "memory": 2}  # threads
ROWS = (256, 512, 1024, 4096, 8192, 16384, 32768, 65536)
SIZES = ((32, 128), *((rows, dim) for dim in (128, 512) for rows in ROWS), (8192, 256))
LARGEST = (131072, 128)

# What a call takes is N² (6 D / FLOPS + EXP) on a thread, times these: only good enough to plan by.
FLOPS, EXP = 1.5e11, 1e-9
OF_LOSS = {"info_nce": 1.0, "cold": 1.2, "clip": 1.5, "nt_xent": 4.0, "sup_con": 3.0}
OF_CONTENDER = {"reference": 4.0, "jax": 2.0, "jax-autodiff": 3.0, "pml-sup-con": 6.0}
PEER = 2.5
CUBED = 8e-9  # seconds for a pair of positives beside a pair of negatives
STARTS = 5.0  # seconds: imports, compilation


class Point(NamedTuple):
    part: str
    loss: str
    rows: int
    dim: int
    name: str = ""  # memory is measured for one contender at a time

    @property
    def key(self) -> str:
        return f"{self.part}/{self.loss}/{self.rows}x{self.dim}" + (f"/{self.name}" if self.name else "")

    @property
    def threads(self) -> int:
        return PARTS[self.part]

    def contenders(self, limit: float) -> tuple[list[str], dict[str, str]]:
        """Who is measured, and who isn't and why; `limit` is memory in GiB."""
        those = [n for n, c in CONTENDERS.items() if self.loss in c.losses and self.rows <= c.largest]
        left = {}
        for name in those:
            if CONTENDERS[name].missing():
                left[name] = "not installed"
            elif CONTENDERS[name].needs(self.loss, self.rows) > limit:
                left[name] = f"would need more than {limit:g} GiB"
        if self.rows == LARGEST[0]:
            those = [name for name in those if name in OURS[:2]]
        if self.part == "memory":
            those = [name for name in those if not name.endswith("one-way")]
        return [n for n in those if n not in left and self.name in ("", n)], left

    def call(self, name: str) -> float:
        """Seconds that a call of it should take."""
        usual = 1.0 if name.startswith(OURS) else PEER
        once = self.rows**2 * (6 * self.dim / FLOPS + EXP) * OF_LOSS[self.loss] * OF_CONTENDER.get(name, usual)
        return (once + CUBED * CONTENDERS[name].cubes * (2 * self.rows) ** 3) / self.threads

    def expected(self, limit: float, seconds: float, rounds: tuple[int, int]) -> float:
        """Seconds that the point should take."""
        calls = [self.call(name) for name in self.contenders(limit)[0]]
        if self.part == "memory":
            return STARTS / 2 + sum(calls)
        once = sum(max(call, 0.02) for call in calls)
        count = max(rounds[0], min(rounds[1], int(seconds / once) if once else 0))
        return STARTS / 2 + once * (count + 1)


def timed_sizes(part: str, loss: str) -> list[tuple[int, int]]:
    """All sizes for info_nce. What the others cost beyond 16384 rows follows from N², so there D = 128 will do."""
    if loss == "info_nce":
        return list(SIZES)
    if loss == "cold" or part == "two":
        return [(rows, dim) for rows, dim in SIZES if 1024 <= rows <= 8192 and dim == 128]
    return [(rows, dim) for rows, dim in SIZES if rows <= 16384 or dim == 128]


def points(largest: bool = False) -> Iterator[Point]:
    """Every point there is."""
    for part in ("one", "two"):
        for loss in LOSSES:
            yield from (Point(part, loss, *size) for size in timed_sizes(part, loss))
    for loss in LOSSES:
        sizes = [s for s in SIZES if s[0] >= 1024 and s[1] != 256 and (loss == "info_nce" or s[0] <= 16384)]
        for rows, dim in sizes if loss != "cold" else []:
            for name in Point("memory", loss, rows, dim).contenders(float("inf"))[0]:
                yield Point("memory", loss, rows, dim, name)
    if largest:
        yield Point("two", "info_nce", *LARGEST)
        yield from (Point("memory", "info_nce", *LARGEST, name) for name in OURS[:2])


def short() -> list[Point]:
    """A little of everything: what the tests run."""
    sizes = {"info_nce": (32, 256), "nt_xent": (64,)}
    return [
        *(Point("one", loss, rows, 128) for loss in LOSSES for rows in sizes.get(loss, (256,))),
        Point("two", "info_nce", 256, 128),
        *(Point("memory", "info_nce", rows, 128, name) for rows in (1024, 2048) for name in ("numpy", "autograd")),
    ]
