"""Wrong nt_xent, dcl, debiased and hard_negative: who is whose negative, weights, corrections and their floor."""

from __future__ import annotations

import math

from infonce_ref.conformance.mutants.family.textbook import Board, Dcl, Debiased, HardNegative, NtXent
from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array, constant

VALUE = ("value", "gradient", "temperature gradient")
WEIGHTED = "only calls with sigma see it, and those are variants"


# --- nt_xent ---------------------------------------------------------------------------------------------------------


@mutant(
    "nt-xent.twice",
    "Each view's mean is added where the mean over all 2N anchors is meant.",
    means="twice the loss",
    seen="https://github.com/google-research/simclr/blob/master/objective.py, keras-cv, tensorflow-similarity 0.17.1",
    classes=VALUE,
)
class Twice(NtXent):
    def reduce(self, each: Array) -> Array:
        return 2.0 * super().reduce(each)


@mutant(
    "nt-xent.cross-view-only",
    "Rows of the same view are no negatives: CLIP's loss on two views.",
    means="negatives of the same view left out (CLIP)",
    seen="https://github.com/torchgeo/torchgeo/pull/1208",
    classes=VALUE,
)
class CrossViewOnly(NtXent):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        late = self.numbers(board.sims.shape[0]) >= board.sims.shape[0] // 2
        return [Board(board.sims, board.positive, board.negative & (late[:, None] != late[None, :]))]


@mutant(
    "nt-xent.one-view-anchors",
    "Only the rows of view_a are anchors: the mean over N of them.",
    means="the anchors of view_a alone",
    classes=VALUE,
)
class OneViewAnchors(NtXent):
    def counts(self, board: Board) -> Array:
        return self.numbers(board.sims.shape[0]) < board.sims.shape[0] // 2


@mutant(
    "nt-xent.self-included",
    "An anchor is its own negative, with cosine 1.",
    means="self counted as a negative",
    classes=VALUE,
)
class SelfIncluded(NtXent):
    def itself(self, z: Array) -> Array:
        return ~self.everything(z.shape[0], z.shape[0])


@mutant(
    "nt-xent.self-zeroed",
    "Self's logit is multiplied by 0, not removed: its exp(0) stays in the denominator.",
    means="self's logit multiplied by 0",
    elsewhere="https://github.com/vivekmyers/contrastive_planning/issues/1",
    classes=VALUE,
)
class SelfZeroed(SelfIncluded):
    def scaled(self, board: Board) -> Array:
        s = super().scaled(board)
        return self.xp.where(self.eye(s.shape[0]), self.xp.zeros_like(s), s)


@mutant(
    "nt-xent.self-subtracted",
    "exp(1/tau) is taken off the denominator for self: cancellation at low temperatures, wrong for zero rows and dot.",
    means="self taken off the denominator as exp(1/tau)",
    seen="https://github.com/Lightning-Universe/lightning-bolts/issues/695",
    classes=("value", "edges", "variants"),
)
class SelfSubtracted(SelfIncluded):
    def worth(self, s: Array, board: Board) -> Array:
        xp, s_p = self.xp, self.picked(s, board.positive)
        terms = xp.where(board.negative | board.positive, xp.exp(s), xp.zeros_like(s))
        return xp.log(xp.sum(terms, axis=1) - xp.exp(1.0 / self.tau())) - s_p


@mutant(
    "nt-xent.self-before-temperature",
    "Self's similarity is set to -inf before the division by the temperature, whose gradient is then 0 times inf.",
    means="self set to -inf before the division by the temperature",
    seen="https://github.com/NVIDIA-NeMo/Automodel/pull/3850",
    classes=("temperature gradient", "masks", "variants"),
)
class SelfBeforeTemperature(SelfIncluded):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        low = self.xp.full_like(board.sims, -math.inf)
        sims = self.xp.where(self.eye(low.shape[0]), low, board.sims)
        return [Board(sims, board.positive, board.negative)]


@mutant(
    "nt-xent.self-by-value",
    "Self is found by its value: rows that equal the anchor are no negatives either.",
    means="rows equal to the anchor left out",
    elsewhere="https://github.com/huggingface/sentence-transformers/issues/2756",
    classes=("value", "gradient"),
)
class SelfByValue(NtXent):
    def itself(self, z: Array) -> Array:
        return self.xp.all(z[:, None, :] == z[None, :, :], axis=-1)


@mutant(
    "nt-xent.positive-off-by-one",
    "The positive is looked for one row beside the other view's.",
    means="the positive off by one row",
    elsewhere="https://github.com/huggingface/sentence-transformers/pull/3453",
    classes=VALUE,
)
class PositiveOffByOne(NtXent):
    def partners(self, rows: int) -> Array:
        number = self.numbers(rows)
        return number[None, :] == ((number + rows // 2 - 1) % rows)[:, None]


@mutant(
    "nt-xent.interleaved",
    "Rows are read as a0, b0, a1, b1 ..., though one view stands behind the other.",
    means="views read as interleaved",
    classes=VALUE,
)
class Interleaved(NtXent):
    def partners(self, rows: int) -> Array:
        number = self.numbers(rows)
        return number[None, :] == (number + 1 - 2 * (number % 2))[:, None]


@mutant(
    "nt-xent.mask-views-exchanged",
    "The mask's rows and columns are read as view_b's first.",
    means="the mask read with view_b first",
    classes=("masks", "precise"),
)
class MaskViewsExchanged(NtXent):
    def kept(self, *shape: int) -> Array:
        half = shape[0] // 2
        return self.xp.roll(super().kept(*shape), (half, half), axis=(0, 1))


@mutant(
    "nt-xent.mask-symmetric",
    "The mask is made symmetric: a pair is out for both if it is for one.",
    means="the mask made symmetric",
    classes=("masks", "precise"),
)
class MaskSymmetric(NtXent):
    def kept(self, *shape: int) -> Array:
        kept = super().kept(*shape)
        return kept & kept.T


@mutant(
    "nt-xent.lone-not-counted",
    "An anchor without a negative is left out of the mean, as dcl's is.",
    means="an anchor without a negative left out of the mean",
    classes=("masks",),
    single="only a mask leaves some anchors without a negative and others with one",
)
class LoneNotCounted(NtXent):
    def counts(self, board: Board) -> Array:
        return self.xp.any(board.negative, axis=1)


# --- dcl -------------------------------------------------------------------------------------------------------------


@mutant(
    "dcl.two-logsumexps",
    "A logsumexp over the negatives of each view, both added, where one is over all of them.",
    means="one logsumexp a view, added",
    seen="lightly 1.6.0 (DCLLoss), https://github.com/lightly-ai/lightly/pull/793",
    classes=VALUE,
)
class TwoLogsumexps(Dcl):
    def nu(self, s: Array, board: Board) -> Array:
        half = s.shape[1] // 2
        first, _ = self.logsumexp(s[:, :half], board.negative[:, :half])
        return first + self.logsumexp(s[:, half:], board.negative[:, half:])[0]


@mutant(
    "dcl.positive-kept",
    "The positive stays in the denominator: NT-Xent.",
    means="the positive kept in the denominator (NT-Xent)",
    classes=VALUE,
)
class PositiveKept(Dcl):
    def nu(self, s: Array, board: Board) -> Array:
        return self.logsumexp(s, board.negative | board.positive)[0]


@mutant(
    "dcl.minus-103",
    "log(1e-45) is added to self's and the positive's logit: they leak in at low temperatures.",
    means="log(1e-45) added to self's and the positive's logit",
    seen="https://github.com/raminnakhli/Decoupled-Contrastive-Learning/issues/14",
    classes=("value", "gradient", "temperature gradient"),
)
class MinusHundredThree(Dcl):
    def nu(self, s: Array, board: Board) -> Array:
        aside = board.positive | self.eye(s.shape[0])
        lower = s + self.xp.where(aside, self.xp.full_like(s, math.log(1e-45)), self.xp.zeros_like(s))
        return self.logsumexp(lower, board.negative | aside)[0]


@mutant(
    "dcl.one-view-negatives",
    "Only rows of the other view are negatives.",
    means="negatives of the same view left out",
    classes=VALUE,
)
class OneViewNegatives(Dcl):
    def nu(self, s: Array, board: Board) -> Array:
        late = self.numbers(s.shape[0]) >= s.shape[0] // 2
        return self.logsumexp(s, board.negative & (late[:, None] != late[None, :]))[0]


@mutant(
    "dcl.lone-counted",
    "An anchor without negatives is 0 and counts in the mean.",
    means="anchors without negatives counted in the mean",
    classes=("masks",),
    single="only a mask leaves some anchors without a negative and others with one",
)
class LoneCounted(Dcl):
    def counts(self, board: Board) -> None:
        return None


@mutant(
    "dcl.lone-infinite",
    "An anchor without negatives is the logarithm of an empty sum, -inf.",
    means="-inf for an anchor without negatives",
    seen="lightly 1.6.0 (DCLLoss), measured with one pair",
    classes=("edges", "masks"),
)
class LoneInfinite(Dcl):
    def worth(self, s: Array, board: Board) -> Array:
        some = self.xp.any(board.negative, axis=1)
        return self.xp.where(some, super().worth(s, board), self.xp.full_like(s[:, 0], -math.inf) + 0.0 * s[:, 0])

    def counts(self, board: Board) -> None:
        return None


@mutant(
    "dcl.weights-with-gradient",
    "The weights of the positives aren't constants: the gradient flows through them.",
    means="the positives' weights with their gradient",
    seen="https://github.com/raminnakhli/Decoupled-Contrastive-Learning, lightly 1.6.0 (DCLWLoss)",
    classes=("variants", "masks"),
)
class WeightsWithGradient(Dcl):
    def worth(self, s: Array, board: Board) -> Array:
        if self.sigma is None:
            return super().worth(s, board)
        value = self.nu(s, board) - self.pair_weights(board) * self.picked(s, board.positive)
        return self.xp.where(self.xp.any(board.negative, axis=1), value, self.xp.zeros_like(value))


@mutant(
    "dcl.weights-without-n",
    "w = 2 - softmax without the factor N: the weights' mean is no longer 1.",
    means="the weights' factor N left out",
    seen="https://github.com/raminnakhli/Decoupled-Contrastive-Learning/issues/1",
    classes=("variants", "masks"),
)
class WeightsWithoutN(Dcl):
    def pair_weights(self, board: Board) -> Array:
        weight = super().pair_weights(board)
        return 2.0 - (2.0 - weight) / (weight.shape[0] // 2)


@mutant(
    "dcl.weights-over-2n",
    "The softmax of the weights runs over all 2N anchors, with the factor N.",
    means="the weights' softmax over 2N anchors",
    classes=("variants", "masks"),
)
class WeightsOverTwoN(Dcl):
    def pair_weights(self, board: Board) -> Array:
        return 1.0 + super().pair_weights(board) / 2.0


@mutant(
    "dcl.weights-from-logits",
    "The weights are taken from logits, already divided by the temperature.",
    means="the weights from logits, not similarities",
    classes=("variants", "masks"),
)
class WeightsFromLogits(Dcl):
    def pair_weights(self, board: Board) -> Array:
        return super().pair_weights(Board(board.sims / self.tau(), board.positive, board.negative))


@mutant(
    "dcl.weights-not-below-0",
    "A weight below 0 is taken for 0.",
    means="weights below 0 taken for 0",
    classes=("variants",),
    single=WEIGHTED,
)
class WeightsNotBelowZero(Dcl):
    def pair_weights(self, board: Board) -> Array:
        weight = super().pair_weights(board)
        return self.xp.where(weight < 0, self.xp.zeros_like(weight), weight)


@mutant(
    "dcl.weights-on-all",
    "The weight multiplies the whole loss of the anchor, not its positive alone.",
    means="the weight on the whole loss of an anchor",
    classes=("variants", "masks"),
)
class WeightsOnAll(Dcl):
    def nu(self, s: Array, board: Board) -> Array:
        value = super().nu(s, board)
        return value if self.sigma is None else constant(self.pair_weights(board)) * value


@mutant(
    "dcl.sigma-ignored",
    "`sigma` is accepted and not looked at.",
    means="no weights (sigma ignored)",
    classes=("variants", "masks"),
)
class SigmaIgnored(Dcl):
    def prepare(self) -> None:
        self.sigma = None if self.sigma is not None and self.sigma > 0 else self.sigma


# --- debiased and hard_negative --------------------------------------------------------------------------------------


class Both(Debiased):
    """A mistake that either of them can have."""


def in_both(steps: type[Debiased]) -> tuple[type[Debiased], type[Debiased]]:
    """The same wrong step in both losses."""
    name = steps.__name__
    return type(name, (steps,), {"name": "debiased"}), type(name, (steps, HardNegative), {"name": "hard_negative"})


def entered(
    name: str, story: str, means: str, classes: tuple[str, ...], steps: type[Debiased], seen: str = "", single: str = ""
) -> None:
    """Enter it for both."""
    for prefix, wrong in zip(("debiased", "hard-negative"), in_both(steps), strict=True):
        mutant(f"{prefix}.{name}", story, means=means, seen=seen, classes=classes, single=single)(wrong)


class NoFloor(Both):
    def floored(self, data: Array, lost: Array) -> Array:
        return self.xp.where(lost, self.xp.full_like(data, math.nan), data)


entered(
    "no-floor",
    "No floor: the logarithm of a negative number where the corrected mean is below 0.",
    "no floor under the corrected mean",
    ("variants", "value"),
    NoFloor,
    "https://github.com/chingyaoc/DCL, where the floor is optional",
)


class FloorWithoutTemperature(Both):
    def floor(self) -> Array:
        return -1.0 + 0.0 * self.tau()


entered(
    "floor-without-temperature",
    "The floor is 1/e at any temperature.",
    "the floor e^-1 in place of e^(-1/tau)",
    ("variants", "value"),
    FloorWithoutTemperature,
)


class FloorDetached(Both):
    def floor(self) -> Array:
        return constant(super().floor())


entered(
    "floor-detached",
    "The floor e^(-1/tau) is a constant for the gradient of the temperature.",
    "the floor detached from the temperature",
    ("variants", "masks"),
    FloorDetached,
    "https://github.com/chingyaoc/DCL/blob/master/main.py, np.e ** (-1 / temperature)",
)


class FloorForAll(Both):
    def floored(self, data: Array, lost: Array) -> Array:
        every = self.xp.zeros_like(lost) | self.xp.any(lost)
        return super().floored(data, lost if self.similarity != "cosine" else every)


entered(
    "floor-for-all",
    "Where one anchor is on the floor all are.",
    "all anchors on the floor where one is",
    ("value", "gradient", "masks"),
    FloorForAll,
)


class PriorNotDivided(Both):
    def corrected(self, mean: Array, s_p: Array) -> Array:
        c = math.log(self.prior) + s_p - mean if self.prior else self.xp.full_like(mean, -math.inf)
        lost = c >= 0
        data = mean + self.xp.log(-self.xp.expm1(self.xp.where(lost, -self.xp.ones_like(c), c)))
        return self.floored(data, lost) if self.prior else mean


entered(
    "prior-not-divided",
    "The corrected mean isn't divided by 1 - prior.",
    "the division by 1 - prior left out",
    VALUE,
    PriorNotDivided,
)


class PriorOnce(Both):
    def worth(self, s: Array, board: Board) -> Array:
        self.log_count = self.size(board)
        return super().worth(s, board)

    def corrected(self, mean: Array, s_p: Array) -> Array:
        return super().corrected(mean, s_p - self.log_count)


entered(
    "prior-without-m",
    "prior times the positive comes off the sum over the negatives, not off each of them: M times too little.",
    "the prior taken off the sum once, not M times",
    VALUE,
    PriorOnce,
)


class SizeOfBatch(Both):
    def worth(self, s: Array, board: Board) -> Array:
        s_p, some = self.picked(s, board.positive), self.xp.any(board.negative, axis=1)
        count = math.log(s.shape[0] // 2)
        return self.softplus(count + self.corrected(self.hardness(s, board), s_p) - s_p, some)


entered(
    "n-for-m",
    "The mean over the negatives is multiplied by the number of pairs N, where there are M = 2N - 2 negatives.",
    "the mean of negatives times N, not M",
    VALUE,
    SizeOfBatch,
)


class MeanOfNegatives(Both):
    def worth(self, s: Array, board: Board) -> Array:
        s_p, some = self.picked(s, board.positive), self.xp.any(board.negative, axis=1)
        return self.softplus(self.corrected(self.hardness(s, board), s_p) - s_p, some)


entered(
    "mean-for-sum",
    "The mean over the negatives stands in the denominator, not M times it.",
    "the mean of negatives in the denominator",
    VALUE,
    MeanOfNegatives,
)


class PriorIgnored(Both):
    def corrected(self, mean: Array, s_p: Array) -> Array:
        return mean


entered(
    "prior-ignored",
    "The correction is left out: NT-Xent, or its reweighted form.",
    "the prior ignored",
    VALUE,
    PriorIgnored,
    "https://github.com/chingyaoc/DCL/blob/master/main.py, debiased=False",
)


class PositiveAmong(Both):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        return [Board(board.sims, board.positive, board.negative | board.positive)]


entered(
    "positive-among-negatives",
    "The mask takes out the anchor alone, so that its positive is counted as a negative too.",
    "the positive counted among the negatives",
    VALUE,
    PositiveAmong,
)


class CorrectionDetached(Both):
    def corrected(self, mean: Array, s_p: Array) -> Array:
        return super().corrected(mean, constant(s_p))


entered(
    "correction-detached",
    "The positive that is taken off the negatives is a constant for the gradient.",
    "the positive in the correction detached",
    ("gradient", "temperature gradient", "masks", "variants"),
    CorrectionDetached,
)


@mutant(
    "hard-negative.weights-detached",
    "The weights of the negatives are constants: no gradient flows through them.",
    means="the negatives' weights detached",
    classes=("gradient", "temperature gradient", "masks", "variants"),
)
class WeightsDetached(HardNegative):
    def hardness(self, s: Array, board: Board) -> Array:
        flat = constant(self.beta * s)
        return self.logsumexp(s + flat, board.negative)[0] - self.logsumexp(flat, board.negative)[0]


@mutant(
    "hard-negative.weights-without-temperature",
    "Weights exp(beta sim), from similarities that aren't divided by the temperature.",
    means="the temperature left out of the weights",
    classes=VALUE,
)
class WeightsWithoutTemperature(HardNegative):
    def hardness(self, s: Array, board: Board) -> Array:
        flat = self.beta * board.sims
        return self.logsumexp(s + flat, board.negative)[0] - self.logsumexp(flat, board.negative)[0]


@mutant(
    "hard-negative.beta-outside",
    "Weights beta exp(s) in place of exp(beta s), as the paper's pseudocode has them.",
    means="weights beta e^s over the mean of e^s",
    seen="https://github.com/joshr17/HCL/issues/5",
    classes=("variants",),
    single="with beta = 1 the two are one, and other betas are variants",
)
class BetaOutside(HardNegative):
    def hardness(self, s: Array, board: Board) -> Array:
        if self.beta == 0:
            return super().hardness(s, board)
        above = self.logsumexp(2.0 * s, board.negative)[0] - self.logsumexp(s, board.negative)[0]
        return math.log(self.beta) + above


@mutant(
    "hard-negative.over-mean-of-negatives",
    "The weights exp(beta s) are divided by the mean of exp(s), not by their own.",
    means="the weights over the mean of the negatives",
    seen="https://github.com/joshr17/HCL/issues/1",
    classes=("variants",),
    single="with beta = 1 the two are one, and other betas are variants",
)
class OverMeanOfNegatives(HardNegative):
    def hardness(self, s: Array, board: Board) -> Array:
        return self.logsumexp((1.0 + self.beta) * s, board.negative)[0] - self.logsumexp(s, board.negative)[0]


@mutant(
    "hard-negative.weights-not-normalised",
    "The weights exp(beta s) aren't divided by their mean.",
    means="the weights not normalised",
    classes=VALUE,
)
class WeightsNotNormalised(HardNegative):
    def hardness(self, s: Array, board: Board) -> Array:
        return self.logsumexp((1.0 + self.beta) * s, board.negative)[0] - self.size(board)


@mutant(
    "hard-negative.weights-over-batch",
    "The weights are divided by their mean over the whole batch, not over the anchor's own negatives.",
    means="the weights normalised over the whole batch",
    classes=VALUE,
)
class WeightsOverBatch(HardNegative):
    def hardness(self, s: Array, board: Board) -> Array:
        flat, size = self.logsumexp(self.beta * s, board.negative)[0], self.size(board)
        some = self.xp.any(board.negative, axis=1)
        every = self.logsumexp(flat[None, :], some[None, :])[0] - self.logsumexp(size[None, :], some[None, :])[0]
        return self.logsumexp((1.0 + self.beta) * s, board.negative)[0] - every - size


@mutant(
    "hard-negative.beta-ignored",
    "`beta` is accepted and not used: debiased.",
    means="beta ignored (debiased)",
    classes=VALUE,
)
class BetaIgnored(HardNegative):
    def hardness(self, s: Array, board: Board) -> Array:
        return self.logsumexp(s, board.negative)[0] - self.size(board)


@mutant(
    "hard-negative.no-shift",
    "exp of logits as they are, then their powers: overflow at low temperatures.",
    means="exp without a shift",
    seen="https://github.com/joshr17/HCL/blob/main/image/main.py",
    classes=VALUE,
)
class HardNoShift(HardNegative):
    def logsumexp(self, s: Array, keep: Array) -> tuple[Array, Array]:
        xp, some = self.xp, self.xp.any(keep, axis=1)
        total = xp.sum(xp.where(keep, xp.exp(s), xp.zeros_like(s)), axis=1)
        return xp.log(xp.where(some, total, xp.ones_like(total))), some
