"""From the losses of the rows to the loss: factors, means over something else, rows left out."""

from __future__ import annotations

import math

from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array, Textbook

VALUE = ("value", "gradient", "temperature gradient")


@mutant(
    "reduction.twice",
    "Twice the loss: the two directions, or the two views, are added where their mean is meant.",
    means="twice the loss",
    seen="https://github.com/Spijkervet/SimCLR/issues/18",
    classes=VALUE,
)
class Twice(Textbook):
    def reduce(self, each: Array) -> Array:
        return 2.0 * super().reduce(each)


@mutant(
    "reduction.two-tau",
    "The loss times 2 tau, which keeps gradients of one size as the temperature is varied: MoCo v3's convention.",
    means="the loss times 2 tau",
    seen="https://github.com/facebookresearch/moco-v3/issues/31",
    classes=VALUE,
)
class TwoTau(Textbook):
    def reduce(self, each: Array) -> Array:
        return 2.0 * self.tau() * super().reduce(each)


@mutant(
    "reduction.base-temperature",
    "The loss times tau / 0.07, a 'base temperature' left over from tuning.",
    means="the loss times temperature / 0.07",
    seen="https://github.com/HobbitLong/SupContrast/issues/73",
    classes=VALUE,
)
class BaseTemperature(Textbook):
    def reduce(self, each: Array) -> Array:
        return self.tau() / 0.07 * super().reduce(each)


@mutant(
    "reduction.bits",
    "A logarithm of base 2 in the last step: the loss in bits.",
    means="the loss in bits",
    classes=VALUE,
)
class Bits(Textbook):
    def reduce(self, each: Array) -> Array:
        return super().reduce(each) / math.log(2.0)


@mutant(
    "reduction.sum-for-mean",
    "Rows are added where their mean is asked for.",
    means="the sum for the mean",
    seen="https://github.com/RUCAIBox/RecBole-GNN/pull/93",
    classes=VALUE,
)
class SumForMean(Textbook):
    def mean(self, each: Array, weight: Array) -> Array:
        return self.xp.sum(weight * each)


@mutant(
    "reduction.mean-twice",
    "A mean that is divided by the batch size once more: a mean over N x N pairs, of which N count.",
    means="the mean divided by N once more",
    seen="https://github.com/sihyun-yu/REPA/issues/21",
    classes=VALUE,
)
class MeanTwice(Textbook):
    def mean(self, each: Array, weight: Array) -> Array:
        return super().mean(each, weight) / each.shape[0]


@mutant(
    "reduction.one-less",
    "The mean divided by N - 1, as variances are; 0/0 for one row.",
    means="the mean divided by N - 1",
    seen="https://github.com/lucidrains/contrastive-learner/issues/2",
    classes=VALUE,
)
class OneLess(Textbook):
    def mean(self, each: Array, weight: Array) -> Array:
        return self.xp.sum(weight * each) / (self.xp.sum(weight) - 1.0)


@mutant(
    "reduction.log-of-mean",
    "-log(mean p) for mean(-log p): the mean is taken before the logarithm.",
    means="-log(mean p) for mean(-log p)",
    seen="https://github.com/mpatacchiola/self-supervised-relational-reasoning/issues/3",
    classes=VALUE,
)
class LogOfMean(Textbook):
    def mean(self, each: Array, weight: Array) -> Array:
        return -self.xp.log(super().mean(self.xp.exp(-each), weight))


@mutant(
    "reduction.positive-rows",
    "The mean over the rows whose loss is above 0: a solved row raises the mean, and NaN rows vanish.",
    means="the mean over rows whose loss is above 0",
    seen="pytorch-metric-learning 2.9.0 (SupConLoss)",
    classes=("value", "masks", "edges"),
)
class PositiveRows(Textbook):
    def mean(self, each: Array, weight: Array) -> Array:
        zero = self.xp.zeros_like(each)
        return super().mean(self.xp.where(each > 0, each, zero), self.xp.where(each > 0, weight, zero))


@mutant(
    "reduction.first-row",
    "The first row stands for the batch: an index that was there for a look.",
    means="the first row's loss for the batch's",
    classes=VALUE,
)
class FirstRow(Textbook):
    def mean(self, each: Array, weight: Array) -> Array:
        return super().mean(each[:1], weight[:1])


@mutant(
    "reduction.last-chunk",
    "Rows are visited eight at a time, and a last chunk that is shorter is dropped.",
    means="a last chunk of fewer than eight rows dropped",
    classes=VALUE,
)
class LastChunk(Textbook):
    def mean(self, each: Array, weight: Array) -> Array:
        whole = each.shape[0] // 8 * 8 or each.shape[0]
        return super().mean(each[:whole], weight[:whole])


@mutant(
    "reduction.ignored",
    "`reduction` is accepted and not looked at: always the mean.",
    means="`reduction` ignored: always the mean",
    seen="https://github.com/pytorch/pytorch/issues/17347",
    classes=("variants",),
)
class Ignored(Textbook):
    def reduce(self, each: Array) -> Array:
        return self.mean(each, self.weights(each))


@mutant(
    "weights.ignored",
    "`sample_weight` is accepted and not looked at.",
    means="`sample_weight` ignored",
    classes=("variants",),
    single="only a call with sample_weight sees it, and those are variants",
)
class WeightsIgnored(Textbook):
    def weights(self, each: Array) -> Array:
        return self.xp.ones_like(each)


@mutant(
    "weights.twice",
    "The weights are applied twice, to the rows and again in the sum: right while all of them are 0 or 1.",
    means="the weights applied twice",
    seen="https://github.com/open-mmlab/mmdetection/issues/845",
    classes=("variants",),
    single="only a call with sample_weight sees it, and those are variants",
)
class WeightsTwice(Textbook):
    def reduce(self, each: Array) -> Array:
        return super().reduce(self.weights(each) * each)


@mutant(
    "weights.over-n",
    "The weighted mean is divided by N, not by the sum of the weights.",
    means="the weighted mean divided by N",
    seen="https://github.com/sb-ai-lab/RePlay/issues/91",
    classes=("variants",),
    single="only a call with sample_weight sees it, and those are variants",
)
class WeightsOverN(Textbook):
    def mean(self, each: Array, weight: Array) -> Array:
        return self.xp.sum(weight * each) / each.shape[0]


@mutant(
    "weights.all-zero",
    "Weights that are all 0 give 0/0.",
    means="0/0 where all weights are 0",
    classes=("variants",),
    single="only a call with sample_weight sees it, and those are variants",
)
class WeightsAllZero(Textbook):
    def mean(self, each: Array, weight: Array) -> Array:
        return self.xp.sum(weight * each) / self.xp.sum(weight)


@mutant(
    "weights.normalised",
    "Weights are brought to sum N first: right for the mean, wrong for the sum and for the rows.",
    means="weights brought to sum N first",
    seen="https://github.com/autrainer/autrainer/issues/84",
    classes=("variants",),
    single="only a call with sample_weight sees it, and those are variants",
)
class WeightsNormalised(Textbook):
    def weights(self, each: Array) -> Array:
        weight, total = super().weights(each), self.xp.sum(super().weights(each))
        return weight / self.xp.where(total == 0, self.xp.ones_like(total), total) * each.shape[0]
