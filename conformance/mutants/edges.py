"""Edges: one row, NaN, and results of another shape."""

from __future__ import annotations

from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array, Textbook

EDGES = "only input that isn't finite sees it, and that is an edge"


@mutant(
    "edges.single-nan",
    "One query without negatives is the logarithm of an empty sum: NaN, not 0.",
    means="NaN for a query without negatives",
    seen="https://github.com/HobbitLong/SupContrast/pull/142",
    classes=("edges", "masks"),
)
class SingleNaN(Textbook):
    def softplus(self, x: Array, some: Array) -> Array:
        nan = self.xp.full_like(x, float("nan"))
        return self.xp.where(some, super().softplus(x, some), nan)


@mutant(
    "edges.single-log-2",
    "A row without a negative gets the loss of one whose negative ties with the positive: an empty sum read as 1.",
    means="log 2 for a row without a negative",
    classes=("edges", "masks"),
)
class SingleLogTwo(Textbook):
    def softplus(self, x: Array, some: Array) -> Array:
        return super().softplus(x, some | ~some)


@mutant(
    "edges.nan-rows-dropped",
    "Rows whose loss is NaN are left out of the mean without a word.",
    means="rows whose loss is NaN left out of the mean",
    seen="pytorch-metric-learning 2.9.0 (a mean over the rows whose loss is above 0: NaN isn't)",
    classes=("edges",),
    single=EDGES,
)
class NaNRowsDropped(Textbook):
    def mean(self, each: Array, weight: Array) -> Array:
        nan, zero = self.xp.isnan(each), self.xp.zeros_like(each)
        return super().mean(self.xp.where(nan, zero, each), self.xp.where(nan, zero, weight))


@mutant(
    "edges.cleaned",
    "NaN and inf in the input are replaced by 0.",
    means="NaN and inf in the input replaced by 0",
    classes=("edges",),
    single=EDGES,
)
class Cleaned(Textbook):
    def cast(self, x: Array) -> Array:
        return self.xp.where(self.xp.isfinite(super().cast(x)), super().cast(x), self.xp.zeros_like(super().cast(x)))


@mutant(
    "edges.clipped-loss",
    "The losses of the rows are clipped to 100: what overflows looks fine.",
    means="the losses of the rows clipped to 100",
    classes=("value", "gradient"),
)
class ClippedLoss(Textbook):
    def softplus(self, x: Array, some: Array) -> Array:
        each = super().softplus(x, some)
        return self.xp.where(each > 100.0, self.xp.full_like(each, 100.0), each)


@mutant(
    "shape.not-0-d",
    "The loss comes back with shape (1,).",
    means="the loss with shape (1,)",
    classes=("value", "shape"),
)
class NotZeroDim(Textbook):
    def loss(self) -> Array:
        loss = super().loss()
        return self.xp.reshape(loss, (-1,))


@mutant(
    "shape.column",
    "The losses of the rows come back as a column, (N, 1).",
    means="the rows' losses as a column",
    classes=("variants", "edges"),
)
class Column(Textbook):
    def reduce(self, each: Array) -> Array:
        loss = super().reduce(each)
        return loss[:, None] if self.reduction == "none" else loss
