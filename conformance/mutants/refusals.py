"""Bad input that is accepted: a number comes back, often a plausible one."""

from __future__ import annotations

from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Textbook

ACCEPTS = "everything sound is right; only input that must be refused sees it"
WRONG_IN = ("float32",)  # bad input is asked in float32 only


@mutant(
    "errors.temperature",
    "A temperature at or below 0, or NaN, is computed with.",
    means="a temperature at or below 0 computed with",
    seen="info-nce-pytorch 0.1.4",
    wrong_in=WRONG_IN,
    classes=("errors",),
    single=ACCEPTS,
)
class AnyTemperature(Textbook):
    def check_temperature(self) -> None:
        pass


@mutant(
    "errors.broadcast",
    "(N, D) against (N, 1), and a single key for all queries, are broadcast.",
    means="shapes that don't fit broadcast",
    wrong_in=WRONG_IN,
    classes=("errors",),
    single=ACCEPTS,
)
class Broadcast(Textbook):
    def prepare(self) -> None:
        if (
            self.query.ndim == self.positive_key.ndim == 2
            and self.positive_index is None
            and self.bilinear_weight is None
        ):
            self.positive_key = self.xp.broadcast_arrays(self.positive_key, self.query)[0]


@mutant(
    "errors.empty",
    "An empty batch gives 0.",
    means="0 for an empty batch",
    wrong_in=WRONG_IN,
    classes=("errors",),
    single=ACCEPTS,
)
class Empty(Textbook):
    def loss(self) -> object:
        if self.query.ndim == 2 and self.query.shape[0] == 0:
            return self.xp.zeros((), dtype=self.compute)
        return super().loss()


@mutant(
    "errors.dtypes",
    "Arrays of different dtypes are promoted to the query's, integers and truth values with them.",
    means="arrays of different dtypes promoted",
    wrong_in=WRONG_IN,
    classes=("errors",),
    single=ACCEPTS,
)
class AnyDtypes(Textbook):
    def check_dtypes(self) -> None:
        pass


@mutant(
    "errors.options",
    "An unknown similarity or reduction is taken for the default, and an argument that has no use is left alone.",
    means="an unknown word taken for the default",
    wrong_in=WRONG_IN,
    classes=("errors",),
    single=ACCEPTS,
)
class AnyOptions(Textbook):
    def prepare(self) -> None:
        self.similarity = self.similarity if self.similarity in ("dot", "bilinear") else "cosine"
        self.reduction = self.reduction if self.reduction in ("sum", "none") else "mean"

    def check_options(self) -> None:
        pass


@mutant(
    "errors.mask-broadcast",
    "A mask, an index or weights of another shape are broadcast.",
    means="a mask, an index or weights of another shape broadcast",
    wrong_in=WRONG_IN,
    classes=("errors",),
    single=ACCEPTS,
)
class AnyBeside(Textbook):
    def check_beside(self, n: int) -> None:
        pass
