"""From rows to similarities: normalisation that is missing, goes along another axis or has an epsilon in it."""

from __future__ import annotations

from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array, Textbook, constant

VALUE = ("value", "gradient", "temperature gradient")


def norm(steps: Textbook, x: Array) -> Array:
    """The length of the rows as it is usually computed; of a zero row 0, with gradient 0."""
    xp = steps.xp
    square = xp.sum(x * x, axis=-1, keepdims=True)
    zero = square == 0
    return xp.where(zero, xp.zeros_like(square), xp.sqrt(xp.where(zero, xp.ones_like(square), square)))


@mutant(
    "cosine.none",
    "No normalisation: inner products, which the caller was to prepare.",
    means="nothing normalised",
    seen="https://github.com/Zasder3/train-CLIP/pull/3",
    classes=VALUE,
)
class NotNormalised(Textbook):
    def unit(self, x: Array) -> Array:
        return x


@mutant(
    "cosine.query-only", "Queries are normalised, keys are not.", means="queries normalised, keys not", classes=VALUE
)
class QueryOnly(Textbook):
    def embed(self, x: Array, name: str) -> Array:
        return super().embed(x, name) if name == "query" else x


@mutant(
    "cosine.keys-only", "Keys are normalised, queries are not.", means="keys normalised, queries not", classes=VALUE
)
class KeysOnly(Textbook):
    def embed(self, x: Array, name: str) -> Array:
        return x if name == "query" else super().embed(x, name)


@mutant(
    "cosine.negatives-not",
    "Explicit negatives are taken as they are, from a bank that was to hold unit rows.",
    means="explicit negatives not normalised",
    classes=("negatives", "edges"),
)
class NegativesNot(Textbook):
    def embed(self, x: Array, name: str) -> Array:
        return x if name == "negative_keys" else super().embed(x, name)


@mutant(
    "cosine.whole-tensor",
    "One norm for the whole tensor: a normalising function whose axis defaults to all.",
    means="one norm for the whole tensor",
    seen="https://github.com/tensorflow/similarity/issues/237",
    classes=VALUE,
)
class WholeTensor(Textbook):
    def unit(self, x: Array) -> Array:
        flat = super().unit(self.xp.reshape(x, (1, -1))) if x.shape[-2] else x
        return self.xp.reshape(flat, x.shape)


@mutant(
    "cosine.wrong-axis",
    "Columns are normalised, over the batch, not rows.",
    means="columns normalised, not rows",
    seen="https://github.com/alireza-nasiri/SoundCLR/issues/4",
    classes=VALUE,
)
class WrongAxis(Textbook):
    def unit(self, x: Array) -> Array:
        xp = self.xp
        return xp.matrix_transpose(super().unit(xp.matrix_transpose(x))) if x.shape[-2] else x


@mutant(
    "cosine.sum-of-magnitudes",
    "Rows are divided by the sum of their magnitudes: the norm of order 1.",
    means="rows divided by the sum of their magnitudes",
    classes=VALUE,
)
class SumOfMagnitudes(Textbook):
    def unit(self, x: Array) -> Array:
        size = self.xp.sum(self.xp.abs(x), axis=-1, keepdims=True)
        return x / self.xp.where(size == 0, self.xp.ones_like(size), size)


@mutant(
    "cosine.layer-norm",
    "Layer normalisation in place of length 1: the mean is taken off as well.",
    means="layer normalisation in place of length 1",
    seen="https://github.com/lucidrains/CoCa-pytorch/issues/10",
    classes=VALUE,
)
class LayerNorm(Textbook):
    def unit(self, x: Array) -> Array:
        return super().unit(x - self.xp.mean(x, axis=-1, keepdims=True))


@mutant(
    "cosine.eps-1e-4",
    "1e-4 added to the norm, an epsilon for half precision used everywhere.",
    means="1e-4 added to the norm",
    seen="https://github.com/chainer/chainer/pull/7745",
    classes=VALUE,
)
class LargeEps(Textbook):
    eps = 1e-4

    def unit(self, x: Array) -> Array:
        return x / (norm(self, x) + self.eps)


@mutant(
    "cosine.eps-1e-8",
    "1e-8 added to the norm: 1 % off for rows of length 1e-6, a gradient of 1e8 for zero rows.",
    means="1e-8 added to the norm",
    seen="https://github.com/google-deepmind/optax/pull/946",
    classes=("value", "gradient", "edges"),
)
class SmallEps(LargeEps):
    eps = 1e-8


@mutant(
    "cosine.square-floor",
    "A floor of 1e-12 under the squared norm: rows shorter than 1e-6 aren't normalised.",
    means="a floor of 1e-12 under the squared norm",
    seen="https://github.com/poets-ai/elegy/pull/103",
    classes=("value", "gradient", "edges"),
)
class SquareFloor(Textbook):
    def unit(self, x: Array) -> Array:
        xp = self.xp
        square = xp.sum(x * x, axis=-1, keepdims=True)
        return x / xp.sqrt(xp.where(square > 1e-12, square, xp.full_like(square, 1e-12)))


@mutant(
    "cosine.floor-1e-12",
    "A floor of 1e-12 under the norm: right on ordinary rows; a zero row's gradient is 1e12, huge rows overflow.",
    means="a floor of 1e-12 under the norm",
    seen="https://github.com/pytorch/pytorch/issues/184575",
    classes=("edges",),
    single="zero and huge rows are edges, in half precision too",
)
class Floor(Textbook):
    def unit(self, x: Array) -> Array:
        size = norm(self, x)
        return x / self.xp.where(size > 1e-12, size, self.xp.full_like(size, 1e-12))


@mutant(
    "cosine.product-floor",
    "A floor of 1e-8 under the product of the two norms, as an early cosine_similarity had.",
    means="a floor of 1e-8 under the product of the two norms",
    seen="https://github.com/pytorch/pytorch/pull/31378",
    classes=("value", "gradient"),
)
class ProductFloor(Textbook):
    def unit(self, x: Array) -> Array:
        return x

    def inner(self, q: Array, keys: Array) -> Array:
        product = norm(self, q) * norm(self, keys)[..., 0]
        floor = self.xp.full_like(product, 1e-8)
        return super().inner(q, keys) / (self.xp.where(product > floor, product, floor) if self.cosine else 1.0)

    @property
    def cosine(self) -> bool:
        return self.similarity == "cosine"


@mutant(
    "cosine.overflow",
    "Norms from plain sums of squares: rows of length 1e20 come out as 0 in float32, the loss as log N.",
    means="norms from plain sums of squares",
    seen="info-nce-pytorch 0.1.4, as every package that calls torch.nn.functional.normalize",
    classes=("edges",),
    single="rows so long or short are edges, in half precision too",
)
class Overflow(Textbook):
    def unit(self, x: Array) -> Array:
        size = norm(self, x)
        zero = size == 0
        return self.xp.where(zero, self.xp.zeros_like(x), x) / self.xp.where(zero, self.xp.ones_like(size), size)


@mutant(
    "cosine.half-plus-half",
    "(cos + 1) / 2 for the cosine: a similarity mapped to 0 ... 1.",
    means="(cos + 1) / 2 for the cosine",
    seen="quaterion",
    classes=VALUE,
)
class HalfPlusHalf(Textbook):
    def inner(self, q: Array, keys: Array) -> Array:
        cosine = super().inner(q, keys)
        return (cosine + 1.0) / 2.0 if self.similarity == "cosine" else cosine


@mutant("cosine.clipped", "Negative cosines are cut to 0.", means="negative cosines cut to 0", classes=VALUE)
class Clipped(Textbook):
    def inner(self, q: Array, keys: Array) -> Array:
        cosine = super().inner(q, keys)
        if self.similarity != "cosine":
            return cosine
        return self.xp.where(cosine < 0, self.xp.zeros_like(cosine), cosine)


@mutant(
    "cosine.squared-distance",
    "Minus the squared distance of unit rows: twice the cosine, less 2.",
    means="minus the squared distance of unit rows",
    classes=VALUE,
)
class SquaredDistance(Textbook):
    def inner(self, q: Array, keys: Array) -> Array:
        cosine = super().inner(q, keys)
        return 2.0 * cosine - 2.0 if self.similarity == "cosine" else cosine


@mutant(
    "cosine.norm-detached",
    "The norm is a constant for the gradient: what should be projected to the tangent of the sphere isn't.",
    means="the norm a constant for the gradient",
    classes=("gradient", "negatives"),
)
class NormDetached(Textbook):
    def unit(self, x: Array) -> Array:
        size = norm(self, constant(x))
        zero = size == 0
        return self.xp.where(zero, self.xp.zeros_like(x), x) / self.xp.where(zero, self.xp.ones_like(size), size)


@mutant(
    "dot.normalised",
    "Rows are normalised whatever similarity is asked for.",
    means="rows normalised whatever similarity is asked for",
    classes=("variants", "half"),
)
class AlwaysNormalised(Textbook):
    def embed(self, x: Array, name: str) -> Array:
        return self.unit(x)


@mutant(
    "bilinear.transposed",
    "W is applied from the other side, where its shape allows it.",
    means="W applied from the other side",
    classes=("variants",),
    single="only a square W can be taken for its transpose, and W is a variant",
)
class Transposed(Textbook):
    def bilinear(self, query: Array, weight: Array) -> Array:
        square = weight.shape[0] == weight.shape[1]
        return super().bilinear(query, weight.T if square else weight)


@mutant(
    "bilinear.gradient-transposed",
    "W's gradient comes transposed, where its shape allows it: k qT for q kT.",
    means="W's gradient transposed",
    classes=("variants",),
    single="only the gradient of a square W can be taken for its transpose, and W is a variant",
)
class GradientTransposed(Textbook):
    def bilinear(self, query: Array, weight: Array) -> Array:
        if weight.shape[0] != weight.shape[1]:
            return super().bilinear(query, weight)
        return query @ (constant(weight) + (weight - constant(weight)).T)
