"""Wrong matryoshka: sums over prefixes that aren't those sums, or those prefixes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from array_api_compat import array_namespace

from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array, Steps, Textbook, allow, constant

VALUE = ("value", "gradient", "temperature gradient")
EMBEDDINGS = ("query", "positive_key", "negative_keys")
WEIGHTS = "only a call with weights sees it, and those are variants"


class Nested(Steps):
    """One call: info_nce's textbook for every prefix; `loss` is the order of the steps. Right as it stands."""

    name = "matryoshka"
    dims: Sequence[int]
    given_weights: Sequence[float] | None

    @classmethod
    def signature(cls) -> inspect.Signature:
        """info_nce's, as far as the loss has its arguments, and dims and weights."""
        known = LOSSES[cls.name]
        kept = (*known.arrays, *known.optional, *known.scalars, "in_batch_negatives", "similarity", "reduction")
        parameters = [p for name, p in inspect.signature(Textbook).parameters.items() if name in kept]
        more = [
            inspect.Parameter("dims", inspect.Parameter.KEYWORD_ONLY),
            inspect.Parameter("weights", inspect.Parameter.KEYWORD_ONLY, default=None),
        ]
        return inspect.Signature([*parameters, *more])

    def __init__(self, *, dims: Sequence[int], weights: Sequence[float] | None, **given: Any) -> None:
        self.dims, self.given_weights, self.given = dims, weights, given
        self.first, self.reduction = given["query"], given["reduction"]
        self.xp = array_namespace(self.first)

    def loss(self) -> Array:
        self.check()
        dims = self.lengths()
        return self.combined([self.part(d) for d in dims], self.factors(dims))

    def check(self) -> None:
        width = self.first.shape[-1]
        Textbook(**self.given).loss()  # whatever is wrong with the rest
        allow(len(self.dims) > 0, "dims must not be empty")
        allow(all(isinstance(d, int) and 1 <= d <= width for d in self.dims), "dims must be 1 … D")
        if self.given_weights is not None:
            allow(len(self.given_weights) == len(self.dims), "a weight for each dimension")
            allow(all(0 <= w < math.inf for w in self.given_weights), "weights must be at least 0")

    # --- the parts ------------------------------------------------------------------------------------------------

    def lengths(self) -> Sequence[int]:
        return self.dims

    def factors(self, dims: Sequence[int]) -> Sequence[float]:
        return [1.0] * len(dims) if self.given_weights is None else self.given_weights

    def part(self, d: int) -> Array:
        """The loss of the first d coordinates."""
        return Textbook(**self.changed(lambda x: self.prefix(x, d))).loss()

    def changed(self, change: Callable[[Array], Array]) -> dict[str, Any]:
        """The call with other embeddings."""
        given = self.given
        return {name: change(x) if name in EMBEDDINGS and x is not None else x for name, x in given.items()}

    def prefix(self, x: Array, d: int) -> Array:
        return x[..., :d]

    def combined(self, parts: Sequence[Array], factors: Sequence[float]) -> Array:
        total = self.xp.zeros_like(parts[0])
        for part, factor in zip(parts, factors, strict=True):
            total = total + factor * part
        return total


@mutant(
    "matryoshka.mean",
    "The mean over the dimensions in place of the weighted sum.",
    means="the mean over the dimensions",
    classes=VALUE,
)
class Mean(Nested):
    def combined(self, parts: Sequence[Array], factors: Sequence[float]) -> Array:
        return super().combined(parts, factors) / len(parts)


@mutant(
    "matryoshka.normalised-once",
    "Rows are normalised whole and then cut: a prefix isn't a unit row, and its inner products are too small.",
    means="rows normalised whole, then cut, and not normalised again",
    classes=VALUE,
)
class NormalisedOnce(Nested):
    def part(self, d: int) -> Array:
        if self.given["similarity"] != "cosine":
            return super().part(d)
        given = self.changed(lambda x: self.prefix(self.unit(self.cast(x)), d))
        return Textbook(**{**given, "similarity": "dot", "sample_weight": self.wide("sample_weight")}).loss()

    def wide(self, name: str) -> Array | None:
        """An array in the dtype that the embeddings now have."""
        return None if self.given[name] is None else self.cast(self.given[name])


@mutant(
    "matryoshka.suffix",
    "The last d coordinates in place of the first.",
    means="the last coordinates in place of the first",
    classes=VALUE,
)
class Suffix(Nested):
    def prefix(self, x: Array, d: int) -> Array:
        return x[..., x.shape[-1] - d :]


@mutant(
    "matryoshka.largest-only",
    "Only the largest dimension is computed: the loop overwrites what it should add to.",
    means="the largest dimension alone",
    classes=VALUE,
)
class LargestOnly(Nested):
    def combined(self, parts: Sequence[Array], factors: Sequence[float]) -> Array:
        last = max(range(len(parts)), key=lambda m: self.dims[m])
        return factors[last] * parts[last]


@mutant(
    "matryoshka.gradient-of-largest",
    "The losses of the smaller dimensions are added as numbers, without a gradient.",
    means="no gradient of the smaller dimensions",
    classes=("gradient", "temperature gradient", "variants"),
)
class GradientOfLargest(Nested):
    def combined(self, parts: Sequence[Array], factors: Sequence[float]) -> Array:
        top = max(self.dims)
        kept = [part if d == top else constant(part) for part, d in zip(parts, self.dims, strict=True)]
        return super().combined(kept, factors)


@mutant(
    "matryoshka.weights-ignored",
    "The weights are accepted and not looked at.",
    means="weights ignored",
    classes=("variants", "precise"),
)
class WeightsIgnored(Nested):
    def factors(self, dims: Sequence[int]) -> Sequence[float]:
        return [1.0] * len(dims)


@mutant(
    "matryoshka.weights-to-one",
    "The weights are divided by their sum: a weighted mean.",
    means="weights that sum to 1: a weighted mean",
    classes=VALUE,
)
class WeightsToOne(Nested):
    def factors(self, dims: Sequence[int]) -> Sequence[float]:
        given = super().factors(dims)
        return [w / (sum(given) or 1.0) for w in given]


@mutant(
    "matryoshka.dims-off-by-one",
    "One coordinate too few in every prefix that can spare one: an exclusive end taken for an inclusive one.",
    means="one coordinate less in every prefix",
    classes=VALUE,
)
class OffByOne(Nested):
    def prefix(self, x: Array, d: int) -> Array:
        return x[..., : max(1, d - 1)]


@mutant(
    "matryoshka.dims-sorted",
    "The dimensions are sorted, from the longest, and their weights left in the order in which they came.",
    means="dimensions sorted, and weights not",
    classes=("variants", "precise"),
)
class DimsSorted(Nested):
    def lengths(self) -> Sequence[int]:
        return sorted(self.dims, reverse=True)


@mutant(
    "matryoshka.dims-once",
    "The dimensions are a set: one that is given twice counts once, with its last weight.",
    means="a dimension that is given twice counted once",
    classes=("value", "gradient", "temperature gradient"),
)
class DimsOnce(Nested):
    def combined(self, parts: Sequence[Array], factors: Sequence[float]) -> Array:
        kept = {d: (part, factor) for d, part, factor in zip(self.dims, parts, factors, strict=True)}
        return super().combined([part for part, _ in kept.values()], [factor for _, factor in kept.values()])


@mutant(
    "matryoshka.whole-too",
    "The whole rows are always compared too, whether or not their length is among the dimensions.",
    means="the whole rows compared too where they aren't asked for",
    classes=VALUE,
)
class WholeToo(Nested):
    def lengths(self) -> Sequence[int]:
        width = self.first.shape[-1]
        return self.dims if width in self.dims else [*self.dims, width]

    def factors(self, dims: Sequence[int]) -> Sequence[float]:
        given = super().factors(self.dims)
        return [*given, *[1.0] * (len(dims) - len(given))]


@mutant(
    "matryoshka.negatives-whole",
    "Explicit negatives aren't cut and normalised with the rest: each is normalised whole, and its coordinates cut.",
    means="explicit negatives normalised whole, then cut",
    classes=("negatives", "masks"),
)
class NegativesWhole(Nested):
    def part(self, d: int) -> Array:
        given, negatives = self.changed(lambda x: self.prefix(x, d)), self.given["negative_keys"]
        if negatives is None or self.given["similarity"] != "cosine":
            return super().part(d)
        return OwnLengths(**{**given, "negative_keys": self.prefix(self.unit(self.cast(negatives)), d)}).loss()


class OwnLengths(Textbook):
    """info_nce whose explicit negatives are taken as they are."""

    def embed(self, x: Array, name: str) -> Array:
        return x if name == "negative_keys" else super().embed(x, name)

    def check_dtypes(self) -> None:
        """They may be wider than the query."""


@mutant(
    "matryoshka.unchecked",
    "dims and weights aren't checked: a slice that is too long is cut, a list that is too short ends the sum.",
    means="bad dims and weights computed with",
    seen="https://github.com/huggingface/sentence-transformers/pull/2593",
    wrong_in=("float32",),
    classes=("errors",),
    single="everything sound is right; only input that must be refused sees it",
)
class Unchecked(Nested):
    def check(self) -> None:
        Textbook(**self.given).loss()

    def combined(self, parts: Sequence[Array], factors: Sequence[float]) -> Array:
        total = 0.0 * self.cast(self.first[0, 0])
        for part, factor in zip(parts, factors, strict=False):
            total = total + factor * part
        return total
