"""Temperature and margin: multiplied, applied twice, applied to some, clamped, forgotten."""

from __future__ import annotations

import math
from typing import Any

from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array, Textbook, constant, straight_through

VALUE = ("value", "gradient", "temperature gradient")
MARGIN = "only a call with a margin sees it, and those are variants"


@mutant(
    "temperature.multiplied",
    "Similarities are multiplied by the temperature, not divided by it.",
    means="similarities multiplied by the temperature",
    seen="https://github.com/bowang-lab/BLEEP/issues/5",
    classes=VALUE,
)
class Multiplied(Textbook):
    def tau(self) -> Array:
        return 1.0 / super().tau()


@mutant(
    "temperature.twice",
    "The temperature is applied twice, in the scores and again in the loss.",
    means="the temperature applied twice",
    seen="https://github.com/RL-Align/RL-Kernel/pull/86",
    classes=VALUE,
)
class AppliedTwice(Textbook):
    def tau(self) -> Array:
        return super().tau() ** 2


@mutant(
    "temperature.ignored",
    "The temperature is accepted and not used.",
    means="the temperature ignored",
    seen="https://github.com/huiserwang/ContrastMask/issues/4",
    classes=VALUE,
)
class TemperatureIgnored(Textbook):
    def tau(self) -> Array:
        return super().tau() * 0.0 + 1.0


@mutant(
    "temperature.negatives-only",
    "The negatives are divided by the temperature, the positive isn't.",
    means="the positive not divided by the temperature",
    seen="https://github.com/RElbers/info-nce-pytorch/pull/17",
    classes=VALUE,
)
class NegativesOnly(Textbook):
    def logits(self, positive: Array, others: Array) -> tuple[Array, Array]:
        return positive - self.scalar(self.margin), super().logits(positive, others)[1]


@mutant(
    "temperature.clamped",
    "The scale 1 / temperature is clamped to 100, as in CLIP's training: temperatures below 0.01 have no effect.",
    means="1 / temperature clamped to 100",
    seen="https://github.com/openai/CLIP/issues/46",
    classes=VALUE,
)
class Clamped(Textbook):
    def tau(self) -> Array:
        tau = super().tau()
        return self.xp.where(tau < 0.01, self.xp.full_like(tau, 0.01), tau)


@mutant(
    "temperature.at-least-0.05",
    "A temperature below 0.05 is taken for 0.05, to be on the safe side.",
    means="a temperature below 0.05 taken for 0.05",
    classes=VALUE,
)
class AtLeast(Textbook):
    def tau(self) -> Array:
        tau = super().tau()
        return self.xp.where(tau < 0.05, self.xp.full_like(tau, 0.05), tau)


@mutant(
    "temperature.at-most-1",
    "The logarithm of the scale is clamped at 0 from below: temperatures above 1 have no effect.",
    means="a temperature above 1 taken for 1",
    seen="https://github.com/facebookresearch/multimodal/pull/137",
    classes=VALUE,
)
class AtMostOne(Textbook):
    def tau(self) -> Array:
        tau = super().tau()
        return self.xp.where(tau > 1.0, self.xp.ones_like(tau), tau)


@mutant(
    "temperature.log-scale",
    "Similarities are multiplied by log(1 / temperature), the learnt parameter, which nobody exponentiated.",
    means="similarities times log(1 / temperature)",
    seen="https://github.com/BAAI-DCAI/M3D/issues/52",
    classes=VALUE,
)
class LogScale(Textbook):
    def logits(self, positive: Array, others: Array) -> tuple[Array, Array]:
        scale = -self.xp.log(self.tau())
        return (positive - self.scalar(self.margin)) * scale, others * scale


@mutant(
    "temperature.outside",
    "The loss is multiplied by the temperature: -tau log p.",
    means="the loss multiplied by the temperature",
    seen="https://github.com/drboog/Lafite/issues/25",
    classes=VALUE,
)
class Outside(Textbook):
    def reduce(self, each: Array) -> Array:
        return self.tau() * super().reduce(each)


@mutant(
    "temperature.inside-the-log",
    "-log(tau p): off by a constant, so that only the temperature's gradient is wrong with the value.",
    means="-log(tau p)",
    seen="https://github.com/drboog/Lafite/issues/25",
    classes=("value", "temperature gradient"),
)
class InsideTheLog(Textbook):
    def reduce(self, each: Array) -> Array:
        return super().reduce(each - self.xp.log(self.tau()))


@mutant(
    "temperature.float32",
    "The temperature of a float64 call goes through float32, as a default tensor does.",
    means="the temperature rounded to float32",
    wrong_in=("float64",),
    classes=VALUE,
)
class Float32Temperature(Textbook):
    def tau(self) -> Array:
        tau = super().tau()
        return self.xp.astype(self.xp.astype(tau, self.xp.float32), tau.dtype)


@mutant(
    "temperature.no-gradient",
    "The temperature is read out as a number: a learnt one never moves.",
    means="the temperature detached",
    seen="https://github.com/HKUDS/GraphGPT/issues/31",
    classes=("temperature gradient", "masks"),
)
class NoGradient(Textbook):
    def tau(self) -> Array:
        return constant(super().tau())


@mutant(
    "temperature.gradient-sign",
    "The gradient of 1 / temperature in place of the temperature's, its sign with it.",
    means="the sign of the temperature's gradient turned",
    classes=("temperature gradient", "masks"),
)
class GradientSign(Textbook):
    def tau(self) -> Array:
        tau = super().tau()
        return straight_through(tau, -tau)


@mutant(
    "temperature.gradient-of-log",
    "The gradient of log(temperature), the parameter that is usually learnt, is given as the temperature's.",
    means="the gradient of log(temperature) for the temperature's",
    classes=("temperature gradient", "masks"),
)
class GradientOfLog(Textbook):
    def tau(self) -> Array:
        tau = super().tau()
        return straight_through(tau, constant(tau) * tau)


@mutant(
    "temperature.gradient-with-scores",
    "The sum of gradient times score, for the temperature's gradient, leaves the positive out.",
    means="the positive left out of the temperature's gradient",
    classes=("temperature gradient", "masks"),
)
class GradientWithoutPositive(Textbook):
    def logits(self, positive: Array, others: Array) -> tuple[Array, Array]:
        tau = self.tau()
        return (positive - self.scalar(self.margin)) / constant(tau), others / tau


@mutant(
    "margin.sign",
    "The margin is added to the positive: an easier task, not a harder one.",
    means="the margin added to the positive",
    classes=("variants",),
)
class MarginSign(Textbook):
    def logits(self, positive: Array, others: Array) -> tuple[Array, Array]:
        return super().logits(positive + 2.0 * self.scalar(self.margin), others)


@mutant("margin.ignored", "The margin is accepted and not used.", means="the margin ignored", classes=("variants",))
class MarginIgnored(Textbook):
    def logits(self, positive: Array, others: Array) -> tuple[Array, Array]:
        return super().logits(positive + self.scalar(self.margin), others)


@mutant(
    "margin.after-temperature",
    "The margin comes off the logit, after the division by the temperature: the reading of additive-margin softmax.",
    means="the margin taken off after the division by the temperature",
    classes=("variants",),
)
class MarginAfterTemperature(Textbook):
    def logits(self, positive: Array, others: Array) -> tuple[Array, Array]:
        s_p, s = super().logits(positive + self.scalar(self.margin), others)
        return s_p - self.scalar(self.margin), s


@mutant(
    "margin.no-gradient",
    "The margin has no gradient.",
    means="the margin detached",
    classes=("variants",),
    single=MARGIN,
)
class MarginNoGradient(Textbook):
    def scalar(self, value: Any) -> Array:
        return constant(super().scalar(value)) if value is self.margin else super().scalar(value)


@mutant(
    "margin.not-below-0",
    "A negative margin is taken for 0.",
    means="a negative margin taken for 0",
    classes=("variants",),
    single=MARGIN,
)
class MarginNotBelowZero(Textbook):
    def logits(self, positive: Array, others: Array) -> tuple[Array, Array]:
        margin = self.scalar(self.margin)
        low = self.xp.where(margin < 0, margin, self.xp.zeros_like(margin))
        return super().logits(positive + low, others)


@mutant(
    "temperature.bfloat16",
    "The temperature goes through bfloat16, the dtype of the model around it.",
    means="the temperature rounded to bfloat16",
    classes=VALUE,
)
class Bfloat16Temperature(Textbook):
    def tau(self) -> Array:
        tau = super().tau()
        cut = 2.0 ** (math.floor(math.log2(abs(float(tau)) or 1.0)) - 7)
        return straight_through(self.xp.round(tau / cut) * cut, tau)
