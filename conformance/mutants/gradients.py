"""Right values with wrong gradients: what a test of values alone never sees."""

from __future__ import annotations

from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array, Textbook, constant, straight_through

ARRAYS = ("gradient", "negatives", "masks", "variants")
ALL = ("gradient", "temperature gradient", "negatives", "masks", "variants")


def times(factor: float, x: Array) -> Array:
    """x, with a gradient `factor` times too large."""
    return straight_through(x, factor * x)


@mutant(
    "gradient.keys-stopped",
    "Keys are constants, as those of a momentum encoder are, in a loss that is to train both sides.",
    means="keys detached",
    seen="https://github.com/lorenmt/reco/issues/30",
    classes=ARRAYS,
)
class KeysStopped(Textbook):
    def embed(self, x: Array, name: str) -> Array:
        return super().embed(x if name == "query" else constant(x) + 0.0 * self.nothing(x), name)

    def nothing(self, x: Array) -> Array:
        return x - x


@mutant(
    "gradient.query-stopped",
    "Queries are constants.",
    means="queries detached",
    seen="https://github.com/FrozenBurning/Text2Light/issues/10",
    classes=ARRAYS,
)
class QueryStopped(Textbook):
    def embed(self, x: Array, name: str) -> Array:
        return super().embed(constant(x) if name == "query" else x, name)


@mutant(
    "gradient.negatives-stopped",
    "Keys pull their own queries and push no others: no gradient flows through negatives.",
    means="keys detached where they are negatives",
    seen="https://github.com/taesungp/contrastive-unpaired-translation/issues/14",
    classes=ARRAYS,
)
class NegativesStopped(Textbook):
    def similarities(self, q: Array, k: Array, n: Array | None) -> tuple[Array, Array]:
        s_p, _ = super().similarities(q, k, n)
        return s_p, super().similarities(q, constant(k), None if n is None else constant(n))[1]


@mutant(
    "gradient.bank-stopped",
    "Explicit negatives are constants: they are taken for a queue.",
    means="explicit negatives detached",
    classes=("negatives",),
)
class BankStopped(Textbook):
    def embed(self, x: Array, name: str) -> Array:
        return super().embed(constant(x) if name == "negative_keys" else x, name)


@mutant(
    "gradient.of-the-sum",
    "The mean's value, the sum's gradient: N times too large.",
    means="the mean's value with the sum's gradient",
    classes=ALL,
)
class OfTheSum(Textbook):
    def mean(self, each: Array, weight: Array) -> Array:
        return straight_through(super().mean(each, weight), self.xp.sum(weight * each))


@mutant(
    "gradient.twice",
    "The gradient times the number of processes, here 2: scaled against an average that isn't taken.",
    means="twice the gradient",
    seen="pylate 1.6.0, contrastors (measured on two processes)",
    classes=ALL,
)
class GradientTwice(Textbook):
    def reduce(self, each: Array) -> Array:
        return times(2.0, super().reduce(each))


@mutant(
    "gradient.half",
    "Half the gradient: averaged over two processes of which each has only its own part.",
    means="half the gradient",
    seen="open-clip-torch 3.3.0 (measured on two processes, defaults)",
    classes=ALL,
)
class GradientHalf(Textbook):
    def reduce(self, each: Array) -> Array:
        return times(0.5, super().reduce(each))


@mutant(
    "gradient.local-keys",
    "Keys receive the gradient of their own row's loss alone: the part that other rows send was lost in the gathering.",
    means="keys get the gradient of their own row's loss alone",
    seen="https://github.com/facebookresearch/SLIP/issues/31",
    classes=ARRAYS,
)
class LocalKeys(Textbook):
    def similarities(self, q: Array, k: Array, n: Array | None) -> tuple[Array, Array]:
        s_p, s = super().similarities(q, k, n)
        if not self.in_batch_negatives:
            return s_p, s
        lonely = self.inner(q, constant(k))
        return s_p, self.xp.concat([lonely, s[:, self.in_batch :]], axis=1)


@mutant(
    "gradient.no-temperature",
    "The factor 1 / temperature is missing in the gradients of the arrays, in a backward pass written by hand.",
    means="1 / temperature missing in the arrays' gradients",
    classes=ARRAYS,
)
class NoTemperature(Textbook):
    def similarities(self, q: Array, k: Array, n: Array | None) -> tuple[Array, Array]:
        s_p, s = super().similarities(q, k, n)
        tau = constant(self.tau())
        return straight_through(s_p, tau * s_p), straight_through(s, tau * s)


@mutant(
    "gradient.clipped",
    "Gradients are clipped to [-0.1, 0.1] inside the loss.",
    means="gradients clipped to [-0.1, 0.1]",
    classes=("gradient",),
)
class GradientClipped(Textbook):
    def embed(self, x: Array, name: str) -> Array:
        if getattr(x, "requires_grad", False):
            x.register_hook(lambda g: self.xp.clip(g, -0.1, 0.1))
        return super().embed(x, name)


@mutant(
    "gradient.max-half-detached",
    "The maximum that is subtracted for stability is detached in one of its two places, so that it keeps a gradient.",
    means="the maximum detached in one of its two places",
    seen="https://github.com/KevinMusgrave/pytorch-metric-learning/issues/282",
    classes=ALL,
)
class MaxHalfDetached(Textbook):
    def logsumexp(self, s: Array, keep: Array) -> tuple[Array, Array]:
        value, some = super().logsumexp(s, keep)
        if s.shape[1] == 0:
            return value, some
        low = self.xp.full_like(s, -1e30)
        top = self.xp.max(self.xp.where(keep, s, low), axis=1)
        return self.xp.where(some, straight_through(value, value + top), value), some


@mutant(
    "gradient.positive-in-denominator",
    "The positive's part in the denominator is a constant: its gradient is -1, where it should be p - 1.",
    means="the positive detached in the denominator",
    classes=ALL,
)
class PositiveInDenominator(Textbook):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        each = super().rows(s_p, s, negative)
        fixed = super().rows(constant(s_p), s, negative) - s_p
        return straight_through(each, fixed)


@mutant(
    "gradient.last-writer",
    "Gradients are written to the positives' rows, not added: where queries share a positive, the last one wins.",
    means="gradients written to the positives' rows, not added",
    seen="https://github.com/pytorch/pytorch/issues/1631",
    classes=("variants",),
)
class LastWriter(Textbook):
    def similarities(self, q: Array, k: Array, n: Array | None) -> tuple[Array, Array]:
        s_p, s = super().similarities(q, k, n)
        index = self.index()
        rows = self.numbers(index.shape[0])
        later = (index[:, None] == index[None, :]) & (rows[None, :] > rows[:, None])
        fixed = self.pick(self.inner(q, constant(k)))
        return self.xp.where(self.xp.any(later, axis=1), fixed, s_p), s


@mutant(
    "gradient.tie",
    "softplus as relu(x) + log1p(exp(-|x|)): where a row's x is exactly 0, automatic differentiation gives 0 for 1/2.",
    means="slope 0 at a tie, from relu(x) + log1p(exp(-|x|))",
    classes=("edges",),
    single="only a positive that ties exactly with the rest of its row sees it, and ties are edges",
)
class Tie(Textbook):
    def softplus(self, x: Array, some: Array) -> Array:
        xp = self.xp
        value = xp.where(x > 0, x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x)))
        return xp.where(some, value, xp.zeros_like(x))
