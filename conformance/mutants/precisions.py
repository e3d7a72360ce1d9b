"""Precision: less than the dtype asks for, or a result in another dtype."""

from __future__ import annotations

from typing import Any

from infonce_ref.conformance.mutants.record import HALF, mutant
from infonce_ref.conformance.mutants.textbook import Array, Textbook, dtype_of, straight_through

VALUE = ("value", "gradient", "temperature gradient")
HALF_ONLY = "only float16 and bfloat16 are touched, and those are `half`"


@mutant(
    "precision.float32-inside",
    "float64 input is computed in float32 and handed back as float64.",
    means="float64 computed in float32",
    seen="https://github.com/tensorflow/tensorflow/issues/39878",
    wrong_in=("float64",),
    classes=VALUE,
)
class Float32Inside(Textbook):
    @property
    def compute(self) -> Any:
        return self.xp.float32

    def loss(self) -> Array:
        loss = super().loss()
        return self.xp.astype(loss, self.xp.float64) if dtype_of(self.query) == "float64" else loss


@mutant(
    "precision.bfloat16-product",
    "The matrix product runs on operands cut to bfloat16, as it does under autocast.",
    means="the matrix product in bfloat16",
    seen="https://github.com/pytorch/pytorch/issues/53635",
    classes=VALUE,
)
class Bfloat16Product(Textbook):
    def inner(self, q: Array, keys: Array) -> Array:
        return super().inner(self.cut(q), self.cut(keys))

    def cut(self, x: Array) -> Array:
        bfloat16 = getattr(self.xp, "bfloat16", self.xp.float32)
        return self.xp.astype(self.xp.astype(x, bfloat16), x.dtype)


@mutant(
    "precision.softplus-threshold",
    "softplus(x) is cut off to x above 20, a common default: 2e-9 off, which float64 sees and float32 doesn't.",
    means="softplus(x) cut off to x above 20",
    seen="https://github.com/apache/tvm/pull/20212",
    wrong_in=("float64",),
    classes=("value", "gradient"),
)
class SoftplusThreshold(Textbook):
    def softplus(self, x: Array, some: Array) -> Array:
        return self.xp.where(some & (x > 20.0), x, super().softplus(x, some))


@mutant(
    "half.computed",
    "Half-precision input is computed in half precision.",
    means="half precision computed in half precision",
    seen="info-nce-pytorch 0.1.4, as every package measured but one",
    wrong_in=HALF,
    classes=("half", "dtype"),
)
class ComputedInHalf(Textbook):
    @property
    def compute(self) -> Any:
        return self.query.dtype


@mutant(
    "half.computed-cast-up",
    "Half-precision input is computed in half precision, and the loss handed back as float32.",
    means="half precision computed in half precision, the loss cast up",
    wrong_in=HALF,
    classes=("half",),
    single=HALF_ONLY,
)
class ComputedInHalfCastUp(ComputedInHalf):
    def loss(self) -> Array:
        loss = super().loss()
        return self.xp.astype(loss, self.xp.float32) if dtype_of(self.query) != "float64" else loss


@mutant(
    "half.cosines",
    "Everything runs in float32 but the cosines, which pass through the input's dtype before the temperature.",
    means="cosines rounded to half precision",
    wrong_in=HALF,
    classes=("half",),
    single=HALF_ONLY,
)
class HalfCosines(Textbook):
    def inner(self, q: Array, keys: Array) -> Array:
        exact = super().inner(q, keys)
        return straight_through(self.xp.astype(self.xp.astype(exact, self.query.dtype), exact.dtype), exact)


@mutant(
    "half.result",
    "Computed in float32, but the loss comes back in half precision.",
    means="the loss handed back in half precision",
    seen="https://github.com/google-deepmind/optax/issues/1020",
    wrong_in=HALF,
    classes=("half", "dtype"),
)
class HalfResult(Textbook):
    def loss(self) -> Array:
        return self.xp.astype(super().loss(), self.query.dtype)


@mutant(
    "dtype.promoted",
    "The loss comes back in float64 whatever came in: a NumPy number has promoted it.",
    means="the loss in float64 whatever came in",
    wrong_in=("float32", *HALF),
    classes=("dtype",),
    single="its numbers are right: only a look at the dtype sees it",
)
class Promoted(Textbook):
    def loss(self) -> Array:
        return self.xp.astype(super().loss(), self.xp.float64)
