"""What any loss is asked: ordinary rows, low and high temperatures, tiny losses, identical rows, reductions, edges.

A subject says how three matrices of rows become a loss's arguments: x, its anchors; y, row i of which belongs to
anchor i; z, rows that belong to none. The classes below are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from infonce_ref.conformance.cases.case import HALF, Case, Cases, call
from infonce_ref.conformance.cases.draw import (
    Draw,
    few,
    full32,
    full64,
    mixed,
    near32,
    rounded,
    uneven,
)
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.problem import Problem

NAN = float("nan")
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
TINY = ("precise.loss", "precise.gradient")


# --- rows ----------------------------------------------------------------------------------------------------------


def trio(seed: int, n: int, d: int) -> Rows:
    """Few-bit rows of unequal norms; y leans towards x."""
    x = few(seed, n, d)
    return uneven(x), uneven(mixed(seed + 1, x, 1), 3), uneven(few(seed + 2, n, d), 5)


def trio_of(draw: Draw, seed: int, n: int, d: int) -> Rows:
    """Unrelated rows from `draw`, full mantissas."""
    return uneven(draw(seed, n, d)), uneven(draw(seed + 1, n, d), 3), uneven(draw(seed + 2, n, d), 5)


def crowded_trio(seed: int, n: int, d: int) -> Rows:
    """Rows that all point nearly the same way."""
    centre, spread = few(seed, 1, d), 2.0**-6
    return tuple(centre + spread * few(seed + 1 + i, n, d) for i in range(3))  # type: ignore[return-value]


def aligned_trio(seed: int, n: int) -> Rows:
    """x and y nearly parallel pair by pair, all else nearly orthogonal; rows of length 2n."""
    x = 2.0 * np.eye(n, 2 * n) + few(seed, n, 2 * n) / 8.0
    z = 2.0 * np.eye(n, 2 * n, n) + few(seed + 2, n, 2 * n) / 8.0
    return uneven(x), uneven(x + few(seed + 1, n, 2 * n) / 16.0, 2), uneven(z, 1)


def same_rows(row: np.ndarray, n: int) -> Rows:
    """One row, over and over."""
    every = np.repeat(row, n, 0)
    return every, every, every


# --- a loss --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """A loss, and how rows become its arguments."""

    loss: str
    build: Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]
    seed: int
    plain: str  # mistakes that ordinary rows show
    identical: str  # what identical rows give
    options: Mapping[str, Any] = field(default_factory=dict)  # of the problem: similarity, options, …
    n: int = 4
    d: int = 3
    temperature: float = 0.25
    dot: float = 4.0  # the temperature where inner products are asked
    tiny: Sequence[tuple[str, float]] = (("small", 0.0517578125), ("smaller", 0.0130615234375))  # none: not precise
    lone: str = "no negative: loss 0 and gradients 0, not NaN from the logarithm of an empty sum"
    spoils_all: bool = True  # a row of x is a candidate of every anchor

    @property
    def tempered(self) -> bool:
        return "temperature" in LOSSES[self.loss].scalars

    @property
    def similarities(self) -> tuple[str, ...]:
        return LOSSES[self.loss].similarities

    @property
    def first(self) -> str:
        """The argument that the anchors stand in first."""
        return LOSSES[self.loss].arrays[0]

    def rows(self, offset: int = 0) -> Rows:
        return trio(self.seed + offset, self.n, self.d)

    def ask(self, rows: Rows, temperature: float | None = None, dtype: str = "float32", **options: Any) -> Problem:
        """The problem made of `rows`."""
        return self.of(self.build(*rows), temperature, dtype, **options)

    def of(
        self, arrays: Mapping[str, np.ndarray], temperature: float | None = None, dtype: str = "float32", **options: Any
    ) -> Problem:
        """The problem of these arguments."""
        tau = (self.temperature if temperature is None else temperature) if self.tempered else 1.0
        return call(arrays, tau, dtype, loss=self.loss, **{**self.options, **options})

    def arrays(self, offset: int = 0, **more: np.ndarray) -> dict[str, np.ndarray]:
        """Ordinary arguments, and more of them."""
        return {**self.build(*self.rows(offset)), **more}

    def entries(self) -> int:
        """How many entries "none" has."""
        return self.ask(self.rows()).rows

    def changed(self, rows: Rows, place: tuple[int, int], value: float) -> Rows:
        """The rows with one number of x replaced."""
        x = rows[0].copy()
        x[place] = value
        return x, rows[1], rows[2]


# --- what every loss is asked --------------------------------------------------------------------------------------


def benign(subject: Subject) -> Iterator[Case]:
    """Ordinary input: the definition itself."""
    yield Case("plain", subject.ask(subject.rows()), subject.plain)
    yield Case(
        "full-mantissa",
        subject.ask(trio_of(full32, subject.seed + 10, 3, 5), near32(0.13)),
        "all 24 bits in use and a temperature that is no binary fraction: a step in a lower precision than the input's",
    )
    yield Case(
        "float64",
        subject.ask(trio_of(full64, subject.seed + 20, 3, 4), 0.13, "float64"),
        "all 53 bits in use: float64 input computed in float32",
        dtypes=("float64",),
    )
    if "dot" in subject.similarities and "cosine" in subject.similarities:
        yield Case(
            "dot",
            subject.ask(subject.rows(30), subject.dot, similarity="dot"),
            "inner products of the rows as they are: normalised all the same, or a projected gradient",
            profile="variants",
        )


def sharp(subject: Subject) -> Iterator[Case]:
    """Low temperatures and a high one."""
    yield Case(
        "few",
        subject.ask(subject.rows(40), near32(1e-3)),
        "losses of hundreds beside losses near 0: exp without a shift gives inf or NaN, log(p + eps) saturates",
    )
    yield Case(
        "crowded",
        subject.ask(crowded_trio(subject.seed + 50, 3, 4), 2.0**-10),
        "rows closer together than the temperature: several large terms in every sum, a gradient that cancels",
    )
    yield Case(
        "high",
        subject.ask(subject.rows(60), 1e3),
        "a temperature of 1000: clamped, or multiplied by",
    )


def tiny(subject: Subject) -> Iterator[Case]:
    """Well-aligned pairs."""
    for i, (name, temperature) in enumerate(subject.tiny):
        yield Case(
            name,
            subject.ask(aligned_trio(subject.seed + 70 + 5 * i, 2), temperature),
            "a tiny true loss: logsumexp less positive loses it, and softmax - onehot its gradient",
            TINY,
            precise=True,
        )


def collapsed(subject: Subject) -> Iterator[Case]:
    """All rows alike."""
    yield Case(
        "identical",
        subject.ask(same_rows(few(subject.seed + 80, 1, 3), 3), 2.0**-10),
        f"all rows identical: {subject.identical}; another count of the candidates, another logarithm",
    )


def reductions(subject: Subject) -> Iterator[Case]:
    """Sum, none, weights."""
    yield Case(
        "none",
        subject.ask(subject.rows(90), reduction="none"),
        "one entry for each anchor, in their order; gradients of the sum",
        profile="variants",
    )
    yield Case(
        "sum",
        subject.ask(subject.rows(90), reduction="sum"),
        "divided by the number of entries all the same; a sum over halves or directions that is halved twice or never",
        profile="variants",
    )
    weight = np.array([0.5, 2.0, 0.0, 1.25, 0.75, 2.5, 3.0, 0.25])[: subject.entries()]
    yield Case(
        "weighted",
        subject.of(subject.arrays(90, sample_weight=weight)),
        "divided by the number of entries, not by the sum of the weights; weights taken in another order",
        profile="variants",
    )


def edges(subject: Subject) -> Iterator[Case]:
    """One pair; a zero row; huge and tiny norms."""
    one = trio(subject.seed + 100, 1, subject.d)
    yield Case("one", subject.ask(one), subject.lone, profile="edges")
    if "cosine" not in subject.similarities:
        return
    x, y, z = subject.rows(110)
    yield Case(
        "zero-row",
        subject.ask((x * (np.arange(len(x)) != 1)[:, None], y, z)),
        "a zero row: 0/0, or a floor under the norm that gives gradients of 1e12",
        ("similarity.cosine.zero",),
        profile="edges",
    )
    x, y, z = trio_of(full32, subject.seed + 120, 3, 3)
    yield Case(
        "norms",
        subject.ask((rounded(x * 1e25), rounded(y * 1e-25), z), 0.375),
        "squares of norms that overflow and underflow float32",
        ("similarity.cosine.scale",),
        profile="edges",
    )


def nonfinite(subject: Subject) -> Iterator[Case]:
    """NaN in one row."""
    rows = trio(subject.seed + 130, 3, subject.d)
    spoilt = subject.changed(rows, (1, 1), NAN)
    clauses = ("rows.nonfinite",)
    if subject.spoils_all:
        yield Case(
            "nan",
            subject.ask(spoilt),
            "a NaN in a row that everybody meets: skipped by a maximum, a mean over the finite entries, cleaned away",
            clauses,
            profile="edges",
            nonfinite={"loss": None, **({"temperature": None} if subject.tempered else {})},
        )
        return
    yield Case(
        "nan",
        subject.ask(spoilt, reduction="none"),
        "a NaN in one row: its loss is NaN, and the losses that don't depend on it are what they were",
        (*clauses, "reduction.none"),
        profile="edges",
        stand_in=subject.ask(rows, reduction="none"),
        nonfinite={"loss": [1], subject.first: [1]},
    )


def half(subject: Subject) -> Iterator[Case]:
    """Half precision: stored in it, computed in float32."""
    yield Case(
        "plain",
        subject.ask(trio(subject.seed + 140, 3, 4), 0.0703125, "float16"),
        "logits rounded to half precision before they are divided by the temperature or after",
        profile="half",
        dtypes=HALF,
    )


def margins(subject: Subject) -> Iterator[Case]:
    """A margin on the positives."""
    if "margin" in LOSSES[subject.loss].scalars:
        yield Case(
            "plain",
            subject.ask(subject.rows(150), margin=0.1875),
            "taken off after the division by the temperature, added, taken off the negatives too, or off one positive "
            "of several",
            profile="variants",
        )


COMMON: Mapping[str, Callable[[Subject], Iterator[Case]]] = {
    "benign": benign,
    "sharp": sharp,
    "aligned": tiny,
    "collapsed": collapsed,
    "margin": margins,
    "reductions": reductions,
    "edges": edges,
    "nonfinite": nonfinite,
    "half": half,
}


def classes(subject: Subject, **own: Cases) -> dict[str, Mapping[str, Cases]]:
    """The loss's classes: what all are asked, then its own (`_` in their names stands for `-`)."""
    skip = {
        "sharp": not subject.tempered,
        "aligned": not subject.tiny,
        "margin": "margin" not in LOSSES[subject.loss].scalars,
    }
    common = {kind: partial(ask, subject) for kind, ask in COMMON.items() if not skip.get(kind)}
    return {subject.loss: {**common, **{kind.replace("_", "-"): cases for kind, cases in own.items()}}}
