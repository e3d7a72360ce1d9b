"""From logits to the losses of the rows: what stands in the denominator, and how its logarithm is taken."""

from __future__ import annotations

import math

from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array, Textbook, constant

VALUE = ("value", "gradient", "temperature gradient")


@mutant(
    "rows.no-positive",
    "The positive is left out of the denominator: the loss of decoupled contrastive learning, which can be negative.",
    means="the positive left out of the denominator (DCL)",
    seen="https://github.com/MIDA-group/CoMIR/issues/51",
    classes=VALUE,
)
class NoPositive(Textbook):
    def softplus(self, x: Array, some: Array) -> Array:
        return self.xp.where(some, x, self.xp.zeros_like(x))


@mutant(
    "rows.positive-twice",
    "The positive stands in the denominator twice: once on its own, once among the candidates.",
    means="the positive twice in the denominator",
    seen="https://github.com/modelscope/ms-swift/pull/10068",
    classes=VALUE,
)
class PositiveTwice(Textbook):
    def softplus(self, x: Array, some: Array) -> Array:
        return math.log(2.0) + super().softplus(x - math.log(2.0), some)


@mutant(
    "rows.positive-zeroed",
    "The diagonal is multiplied by 0 before the softmax, to take the positive out; its exp(0) stays in.",
    means="the positive's logit multiplied by 0 in the denominator",
    seen="https://github.com/vivekmyers/contrastive_planning/issues/1",
    classes=VALUE,
)
class PositiveZeroed(Textbook):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        return self.softplus(*self.logsumexp(s, negative)) - s_p


@mutant(
    "rows.hardest",
    "Only the hardest negative counts: a maximum where a sum is meant.",
    means="only the hardest negative counted",
    classes=VALUE,
)
class Hardest(Textbook):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        xp = self.xp
        if s.shape[1] == 0:
            return super().rows(s_p, s, negative)
        hardest = xp.max(xp.where(negative, s, xp.full_like(s, -math.inf)), axis=1, keepdims=True)
        return super().rows(s_p, s, negative & (s == hardest))


@mutant(
    "rows.max-broadcast",
    "The rows' maxima, for stability, are subtracted along the wrong axis: column j loses row j's maximum.",
    means="the rows' maxima subtracted along the wrong axis",
    seen="https://github.com/AdaptiveMotorControlLab/CEBRA/issues/48",
    classes=VALUE,
)
class MaxBroadcast(Textbook):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        if s.shape[0] != s.shape[1]:
            return super().rows(s_p, s, negative)
        top = self.xp.max(constant(s), axis=1)
        return super().rows(s_p - top, s - top[None, :], negative)


@mutant(
    "rows.no-shift",
    "exp of logits as they are: overflow at low temperatures.",
    means="exp without a shift",
    seen="https://github.com/Lightning-Universe/lightning-bolts/issues/811",
    classes=VALUE,
)
class NoShift(Textbook):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        xp = self.xp
        terms = xp.where(negative, xp.exp(s), xp.zeros_like(s))
        return xp.log(xp.exp(s_p) + xp.sum(terms, axis=1)) - s_p


@mutant(
    "rows.log-eps",
    "-log(p + 1e-8): the loss saturates at 18.4, and its gradient vanishes where it matters most.",
    means="-log(p + 1e-8)",
    seen="https://github.com/HKUDS/LightGCL/issues/10",
    classes=VALUE,
)
class LogEps(Textbook):
    def softplus(self, x: Array, some: Array) -> Array:
        return -self.xp.log(self.xp.exp(-super().softplus(x, some)) + 1e-8)


@mutant(
    "rows.denominator-eps",
    "1e-6 added to the denominator against a division by 0 that can't be.",
    means="1e-6 added to the denominator",
    seen="https://github.com/Lightning-Universe/lightning-bolts/issues/320",
    classes=VALUE,
)
class DenominatorEps(Textbook):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        each = super().rows(s_p, s, negative)
        return each + self.softplus(math.log(1e-6) - each - s_p, self.xp.isfinite(each))


@mutant(
    "rows.softmax-twice",
    "Cross-entropy of probabilities: a softmax where the loss applies its own.",
    means="a softmax of probabilities",
    seen="https://github.com/gitabcworld/MatchingNetworks/issues/5",
    classes=VALUE,
)
class SoftmaxTwice(Textbook):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        each = super().rows(s_p, s, negative)
        p_p, p = self.xp.exp(-each), self.xp.exp(s - s_p[:, None] - each[:, None])
        return super().rows(p_p, p, negative)


@mutant(
    "rows.probability",
    "exp of the negative log-likelihood is returned: 1/p for -log p.",
    means="1/p for -log p",
    seen="https://github.com/somijeong/MGUIT/issues/2",
    classes=VALUE,
)
class Probability(Textbook):
    def softplus(self, x: Array, some: Array) -> Array:
        return self.xp.exp(super().softplus(x, some))


@mutant(
    "rows.other-direction",
    "The softmax runs over the queries of a key: the loss of the other direction.",
    means="the other direction's softmax",
    classes=VALUE,
)
class OtherDirection(Textbook):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        if s.shape[0] != s.shape[1] or self.positive_index is not None:
            return super().rows(s_p, s, negative)
        return super().rows(s_p, s.T, negative.T)


@mutant(
    "rows.both-directions",
    "The mean of both directions where one is asked for: CLIP's loss.",
    means="the mean of both directions (CLIP)",
    seen="open-clip-torch 3.3.0 (ClipLoss), by design",
    classes=VALUE,
)
class BothDirections(OtherDirection):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        return (super().rows(s_p, s, negative) + Textbook.rows(self, s_p, s, negative)) / 2.0


@mutant(
    "rows.hidden-overflow",
    "log(1 + exp x) with a where that takes x itself for large x: the value is right, the gradient is 0 times inf.",
    means="log(1 + exp x) that overflows in the gradient alone",
    seen="https://github.com/fastino-ai/GLiNER2/pull/155",
    classes=("gradient", "temperature gradient"),
)
class HiddenOverflow(Textbook):
    def softplus(self, x: Array, some: Array) -> Array:
        xp = self.xp
        value = xp.where(x > 30.0, x + xp.exp(xp.where(x > 30.0, -x, -xp.ones_like(x))), xp.log1p(xp.exp(x)))
        return xp.where(some, value, xp.zeros_like(x))


@mutant(
    "rows.cancelled",
    "logsumexp over all less the positive, the textbook formula: a loss of 1e-9 comes out as 0 in float32.",
    means="logsumexp over all less the positive",
    seen="info-nce-pytorch 0.1.4, as every package measured",
    classes=("precise",),
    single="a textbook implementation conforms: only the relative bounds of `precise` ask for more",
)
class Cancelled(Textbook):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        xp = self.xp
        everything = xp.concat([s_p[:, None], s], axis=1)
        keep = xp.concat([xp.ones_like(negative[:, :1]) if s.shape[1] else xp.isfinite(s_p)[:, None], negative], axis=1)
        return self.logsumexp(everything, keep)[0] - s_p
