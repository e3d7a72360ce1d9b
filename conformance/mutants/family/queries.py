"""Wrong moco, triplet, n_pair and info_nce_from_logits; and wrong readings of info_nce's logit_bias."""

from __future__ import annotations

import math

from infonce_ref.conformance.mutants.family.textbook import Board, FromLogits, Moco, NPair, Triplet
from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array, Textbook, constant, straight_through

VALUE = ("value", "gradient", "temperature gradient")
MASK = "only a call with a mask sees it, and those are masks"
BIAS = "only a call with logit_bias sees it, and those are variants"
KINK = "only a hinge that is exactly 0 sees it"


# --- moco ------------------------------------------------------------------------------------------------------------


@mutant(
    "moco.in-batch-too",
    "The batch's other positive keys are negatives beside the queue.",
    means="the batch's keys as negatives beside the queue",
    classes=VALUE,
)
class InBatchToo(Moco):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        n = board.sims.shape[0]
        more = self.inner(self.embedded("query"), self.embedded("positive_key"))
        positive = self.xp.concat([board.positive, ~self.everything(n, n)], axis=1)
        negative = self.xp.concat([board.negative, ~self.eye(n)], axis=1)
        return [Board(self.xp.concat([board.sims, more], axis=1), positive, negative)]


@mutant(
    "moco.enqueued-first",
    "The batch's keys are enqueued before the loss: the oldest of the queue are gone, and each positive is a negative.",
    means="the queue after the batch was enqueued",
    classes=VALUE,
)
class EnqueuedFirst(Moco):
    def boards(self) -> list[Board]:
        length = self.queue.shape[0]
        joined = self.xp.concat([self.queue, constant(self.first) * 0 + self.positive], axis=0)
        self.queue = joined[joined.shape[0] - length :]
        return super().boards()

    @property
    def positive(self) -> Array:
        return constant(vars(self)["positive_key"])


@mutant(
    "moco.queue-detached",
    "The queue is a constant, as it is in training.",
    means="the queue detached",
    seen="https://github.com/facebookresearch/moco, by design",
    classes=("gradient", "negatives"),
)
class QueueDetached(Moco):
    def embed(self, x: Array, name: str) -> Array:
        return super().embed(constant(x) if name == "queue" else x, name)


@mutant(
    "moco.queue-as-it-is",
    "The queue isn't normalised: it is to hold unit rows.",
    means="the queue not normalised",
    seen="https://github.com/facebookresearch/moco, by design",
    classes=VALUE,
)
class QueueAsItIs(Moco):
    def embed(self, x: Array, name: str) -> Array:
        return x if name == "queue" else super().embed(x, name)


@mutant(
    "moco.positive-left-out",
    "Label 0 is looked for among the queue's logits: the positive isn't in the denominator.",
    means="the positive left out of the denominator (DCL)",
    classes=VALUE,
)
class PositiveLeftOut(Moco):
    def softplus(self, x: Array, some: Array) -> Array:
        return self.xp.where(some, x, self.xp.zeros_like(x))


@mutant(
    "moco.two-tau",
    "The loss times 2 tau, which keeps gradients of one size as the temperature is varied: MoCo v3's convention.",
    means="the loss times 2 tau",
    seen="https://github.com/facebookresearch/moco-v3/issues/31",
    classes=VALUE,
)
class TwoTau(Moco):
    def reduce(self, each: Array) -> Array:
        return 2.0 * self.tau() * super().reduce(each)


@mutant(
    "moco.duplicates-dropped",
    "Rows of the queue that equal a query's positive are no negatives of it.",
    means="rows of the queue equal to the positive left out",
    classes=("value", "negatives"),
)
class DuplicatesDropped(Moco):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        keys = vars(self)["positive_key"]
        same = self.xp.all(keys[:, None, :] == self.queue[None, :, :], axis=-1)
        apart = self.xp.concat([~board.positive[:, :1], ~same], axis=1)
        return [Board(board.sims, board.positive, board.negative & apart)]


@mutant(
    "moco.queue-in-pairs",
    "Row i of the queue is query i's own: a row-by-row product where there are as many.",
    means="the queue paired with the queries row by row",
    classes=VALUE,
)
class QueueInPairs(Moco):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        n = board.sims.shape[0]
        if self.queue.shape[0] != n:
            return [board]
        mine = self.xp.concat([~self.everything(n, 1), self.eye(n)], axis=1)
        return [Board(board.sims, board.positive, board.negative & mine)]


# --- triplet ---------------------------------------------------------------------------------------------------------


@mutant(
    "triplet.sum-over-negatives",
    "A query's hinges are added where their mean over its negatives is meant.",
    means="the sum over a query's negatives",
    classes=("value", "gradient", "variants"),
)
class SumOverNegatives(Triplet):
    def divisor(self, board: Board) -> Array:
        return self.xp.ones_like(board.sims[:, 0])


@mutant(
    "triplet.mean-over-active",
    "The mean over the negatives that violate the margin.",
    means="the mean over active negatives",
    seen="pytorch-metric-learning 2.9.0 (TripletMarginLoss), by design; omoindrot/tensorflow-triplet-loss",
    classes=("value", "gradient", "variants"),
)
class MeanOverActive(Triplet):
    def worth(self, s: Array, board: Board) -> Array:
        hinges = self.xp.where(board.negative, self.hinge(s - s[:, :1]), self.xp.zeros_like(s))
        active = self.xp.sum(self.xp.astype(hinges > 0, s.dtype), axis=1)
        return self.xp.sum(hinges, axis=1) / self.xp.where(active == 0, self.xp.ones_like(active), active)


@mutant(
    "triplet.active-nan",
    "The mean over the negatives that violate the margin, 0/0 where none does.",
    means="0/0 where no negative violates the margin",
    seen="https://github.com/KevinMusgrave/pytorch-metric-learning/issues/107",
    classes=("value", "gradient"),
)
class ActiveNan(Triplet):
    def worth(self, s: Array, board: Board) -> Array:
        hinges = self.xp.where(board.negative, self.hinge(s - s[:, :1]), self.xp.zeros_like(s))
        return self.xp.sum(hinges, axis=1) / self.xp.sum(self.xp.astype(hinges > 0, s.dtype), axis=1)


@mutant(
    "triplet.hardest",
    "Only the hardest negative counts: the loss of batch-hard mining.",
    means="the hardest negative alone",
    seen="https://github.com/omoindrot/tensorflow-triplet-loss/issues/55",
    classes=("value", "gradient", "variants"),
)
class TripletHardest(Triplet):
    def worth(self, s: Array, board: Board) -> Array:
        low = self.xp.full_like(s, -math.inf)
        some = self.xp.any(board.negative, axis=1)
        top = self.xp.max(self.xp.where(board.negative, s, low), axis=1)
        return self.hinge(self.xp.where(some, top, s[:, 0] - 1.0) - s[:, 0])


@mutant(
    "triplet.kink-whole",
    "Slope 1 at the kink: a comparison that takes 0 in.",
    means="slope 1 at the kink",
    classes=("edges",),
    single=KINK,
)
class KinkWhole(Triplet):
    def hinge(self, gap: Array) -> Array:
        return self.xp.where(gap < 0, self.xp.zeros_like(gap), gap)


@mutant(
    "triplet.kink-half",
    "Slope 1/2 at the kink: max(0, x) by a maximum that shares its gradient among equals.",
    means="slope 1/2 at the kink",
    seen="jax.numpy.maximum, torch.maximum, by design",
    classes=("edges",),
    single=KINK,
)
class KinkHalf(Triplet):
    def hinge(self, gap: Array) -> Array:
        half = straight_through(self.xp.zeros_like(gap), 0.5 * gap)
        return self.xp.where(gap == 0, half, super().hinge(gap))


@mutant(
    "triplet.squared-distances",
    "Squared distances in place of similarities: on unit rows twice the difference, against the same margin.",
    means="squared distances in place of similarities",
    seen="FaceNet (Schroff et al. 2015), by design",
    classes=("value", "gradient", "variants"),
)
class SquaredDistances(Triplet):
    def scaled(self, board: Board) -> Array:
        return super().scaled(Board(2.0 * board.sims, board.positive, board.negative))


@mutant(
    "triplet.distances",
    "Distances of unit rows in place of similarities.",
    means="distances in place of similarities",
    seen="torch.nn.TripletMarginLoss, by design",
    classes=("value", "gradient"),
)
class Distances(Triplet):
    def scaled(self, board: Board) -> Array:
        square = 2.0 - 2.0 * board.sims
        far = square > 0
        root = self.xp.sqrt(self.xp.where(far, square, self.xp.ones_like(square)))
        return super().scaled(Board(self.xp.where(far, -root, 0.0 * root), board.positive, board.negative))


@mutant(
    "triplet.soft-margin",
    "softplus for the hinge: no margin is ever kept.",
    means="softplus in place of the hinge",
    seen="https://github.com/VisualComputingInstitute/triplet-reid (margin 'soft'), by design",
    classes=("value", "gradient", "variants"),
)
class SoftMargin(Triplet):
    def hinge(self, gap: Array) -> Array:
        return self.softplus(gap, self.everything(*gap.shape))


@mutant(
    "triplet.squared-hinge",
    "The hinge is squared.",
    means="the squared hinge",
    classes=("value", "gradient", "variants"),
)
class SquaredHinge(Triplet):
    def hinge(self, gap: Array) -> Array:
        return super().hinge(gap) ** 2


@mutant(
    "triplet.margin-sign",
    "The margin makes the task easier: it comes off the negatives.",
    means="the margin's sign turned",
    classes=("value", "gradient", "variants"),
)
class MarginSign(Triplet):
    def less_margin(self, board: Board) -> Array:
        zero = self.xp.zeros_like(board.sims)
        return board.sims + self.xp.where(board.positive, self.scalar(self.margin), zero)


@mutant(
    "triplet.lone-counted",
    "A query without negatives is 0 and counts in the mean.",
    means="queries without negatives counted in the mean",
    classes=("masks",),
    single="only a mask leaves some queries without a negative and others with one",
)
class LoneCounted(Triplet):
    def counts(self, board: Board) -> Array:
        return self.everything(board.sims.shape[0])


@mutant(
    "triplet.lone-nan",
    "A query without negatives is 0/0.",
    means="0/0 for a query without negatives",
    classes=("masks", "edges"),
)
class LoneNan(Triplet):
    def divisor(self, board: Board) -> Array:
        return self.xp.sum(self.xp.astype(board.negative, self.compute), axis=1)


@mutant(
    "triplet.over-all-candidates",
    "Divided by the number of candidates, though some are masked.",
    means="divided by all candidates, masked ones too",
    classes=("masks",),
    single=MASK,
)
class OverAllCandidates(Triplet):
    def divisor(self, board: Board) -> Array:
        return self.xp.full_like(board.sims[:, 0], max(1.0, float(self.columns - self.in_batch_negatives)))


@mutant(
    "triplet.two-means",
    "The mean over the batch's negatives and the mean over the explicit ones are added.",
    means="two means added, in-batch and explicit",
    classes=("negatives",),
    single="only a call with both kinds of negatives sees it",
)
class TwoMeans(Triplet):
    def worth(self, s: Array, board: Board) -> Array:
        cut = s.shape[0] + 1
        if not self.in_batch_negatives or s.shape[1] <= cut:
            return super().worth(s, board)
        early = (self.numbers(s.shape[1]) < cut)[None, :]
        parts = [Board(board.sims, board.positive, board.negative & part) for part in (early, ~early)]
        return super().worth(s, parts[0]) + super().worth(s, parts[1])


@mutant(
    "triplet.nan-dropped",
    "max(0, NaN) is 0: a comparison with NaN is False.",
    means="max(0, NaN) taken for 0",
    classes=("edges",),
    single="only input that holds NaN sees it",
)
class NanDropped(Triplet):
    def hinge(self, gap: Array) -> Array:
        return self.xp.where(gap > 0, gap, self.xp.zeros_like(gap))


# --- n_pair ----------------------------------------------------------------------------------------------------------


@mutant(
    "n-pair.cosine",
    "Rows are normalised first: a loss at temperature 1 that cannot fall below log(1 + (N - 1) e^-2).",
    means="rows normalised first",
    classes=("value", "gradient"),
)
class Cosine(NPair):
    similarity = "cosine"


@mutant(
    "n-pair.l2",
    "0.002 / 4 times the mean squared norms are added: the paper's regularisation in the loss itself.",
    means="a penalty on the norms added",
    seen="https://github.com/PaddlePaddle/Paddle/pull/15949",
    classes=("value", "gradient"),
)
class L2(NPair):
    def worth(self, s: Array, board: Board) -> Array:
        q, k = self.embedded("query"), self.embedded("positive_key")
        return super().worth(s, board) + 0.0005 * self.xp.sum(q * q + k * k, axis=1)


@mutant(
    "n-pair.both-directions",
    "The mean of both directions: CLIP's loss.",
    means="the mean of both directions (CLIP)",
    classes=("value", "gradient"),
)
class NPairBoth(NPair):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        return [board, Board(board.sims.T, board.positive, board.negative.T)]


@mutant(
    "n-pair.temperature",
    "A temperature of 0.1 that the loss hasn't.",
    means="a temperature of 0.1",
    classes=("value", "gradient"),
)
class Temperature(NPair):
    temperature = 0.1


@mutant(
    "n-pair.scaled-by-width",
    "Inner products are divided by the root of the rows' length, as attention's are.",
    means="inner products over the root of D",
    classes=("value", "gradient"),
)
class ScaledByWidth(NPair):
    def tau(self) -> Array:
        return super().tau() * math.sqrt(self.first.shape[1])


@mutant(
    "n-pair.one-vs-one",
    "log(1 + exp) for each negative alone, added: N - 1 softmaxes of two.",
    means="a loss for each negative alone, added",
    classes=("value", "gradient"),
)
class OneVsOne(NPair):
    def worth(self, s: Array, board: Board) -> Array:
        gap = s - self.picked(s, board.positive)[:, None]
        return self.xp.sum(self.softplus(gap, board.negative), axis=1)


@mutant(
    "n-pair.sum",
    "Rows are added where their mean is asked for.",
    means="the sum for the mean",
    elsewhere="https://github.com/RUCAIBox/RecBole-GNN/pull/93",
    classes=("value", "gradient"),
)
class NPairSum(NPair):
    def mean(self, each: Array, weight: Array) -> Array:
        return self.xp.sum(weight * each)


# --- info_nce_from_logits --------------------------------------------------------------------------------------------


@mutant(
    "logits.index-ignored",
    "`positive_index` is accepted and not looked at.",
    means="`positive_index` ignored",
    classes=("variants", "edges"),
)
class IndexIgnored(FromLogits):
    def index(self) -> Array:
        return self.numbers(self.first.shape[0]) % self.first.shape[1]


@mutant(
    "logits.label-zero",
    "Label 0 for every row, copied from code in which the positive stands first.",
    means="label 0 for every row",
    seen="https://github.com/facebookresearch/moco/issues/24",
    classes=VALUE,
)
class LabelZero(FromLogits):
    def index(self) -> Array:
        return super().index() * 0 if self.positive_index is None else super().index()


@mutant(
    "logits.index-wraps",
    "A positive below 0 is counted from the end, and one beyond the columns is the last.",
    means="an index outside the columns brought inside",
    classes=("edges",),
    single="only an index that points nowhere sees it",
)
class IndexWraps(FromLogits):
    def index(self) -> Array:
        index, columns = super().index(), self.first.shape[1]
        beyond = self.xp.where(index >= columns, self.xp.full_like(index, columns - 1), index)
        return self.xp.where(beyond < 0, beyond + columns, beyond)


@mutant(
    "logits.temperature-ignored",
    "Logits are taken as they are: the temperature has already been used, it is thought.",
    means="the temperature ignored",
    seen="https://github.com/huiserwang/ContrastMask/issues/4",
    classes=VALUE,
)
class TemperatureIgnored(FromLogits):
    def tau(self) -> Array:
        return super().tau() * 0.0 + 1.0


@mutant(
    "logits.square-only",
    "Columns beyond the number of rows are left out.",
    means="columns beyond the rows left out",
    classes=VALUE,
)
class SquareOnly(FromLogits):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        if self.positive_index is not None:
            return [board]
        inside = (self.numbers(board.sims.shape[1]) < board.sims.shape[0])[None, :]
        return [Board(board.sims, board.positive, board.negative & inside)]


@mutant(
    "logits.label-smoothing",
    "Labels are smoothed by 0.1, an option that was left on.",
    means="labels smoothed by 0.1",
    classes=VALUE,
)
class LabelSmoothing(FromLogits):
    def worth(self, s: Array, board: Board) -> Array:
        among, nll = board.positive | board.negative, super().worth(s, board)
        count = self.xp.sum(self.xp.astype(among, s.dtype), axis=1)
        gap = self.xp.where(among, self.picked(s, board.positive)[:, None] - s, self.xp.zeros_like(s))
        return nll + 0.1 * self.xp.sum(gap, axis=1) / count


@mutant(
    "logits.softmax-twice",
    "Cross-entropy of probabilities: a softmax where the loss applies its own.",
    means="a softmax of probabilities",
    seen="https://github.com/gitabcworld/MatchingNetworks/issues/5",
    classes=VALUE,
)
class SoftmaxTwice(FromLogits):
    def worth(self, s: Array, board: Board) -> Array:
        whole = self.logsumexp(s, board.positive | board.negative)[0]
        return super().worth(self.xp.exp(s - whole[:, None]), board)


@mutant(
    "logits.minus-100",
    "-100 added to masked logits: far below ordinary ones, not below all.",
    means="-100 added to masked logits",
    classes=("masks",),
    single=MASK,
)
class MinusHundred(FromLogits):
    def worth(self, s: Array, board: Board) -> Array:
        masked = ~(board.positive | board.negative)
        lower = s + self.xp.where(masked, self.xp.full_like(s, -100.0), self.xp.zeros_like(s))
        return super().worth(lower, Board(board.sims, board.positive, ~board.positive))


@mutant(
    "logits.mask-before-temperature",
    "Masked logits are set to -inf before they are divided by the temperature: its gradient is 0 times inf.",
    means="masked logits set to -inf before the division by the temperature",
    seen="https://github.com/NVIDIA-NeMo/Automodel/pull/3850",
    classes=("masks",),
    single=MASK,
)
class MaskBeforeTemperature(FromLogits):
    def cleared_entries(self, x: Array, used: Array) -> Array:
        return self.xp.where(used, x, self.xp.full_like(x, -math.inf))

    def worth(self, s: Array, board: Board) -> Array:
        return super().worth(s, Board(board.sims, board.positive, ~board.positive))


@mutant(
    "logits.mask-times",
    "Masked logits are multiplied by 0 first: NaN stays NaN.",
    means="masked logits multiplied by 0",
    classes=("masks",),
    single="only masked logits that hold NaN see it",
)
class MaskTimes(FromLogits):
    def cleared_entries(self, x: Array, used: Array) -> Array:
        return x * self.xp.astype(used, x.dtype)


# --- info_nce: logit_bias --------------------------------------------------------------------------------------------


@mutant(
    "bias.ignored",
    "`logit_bias` is accepted and not looked at: popular keys are punished for being sampled often.",
    means="`logit_bias` ignored",
    seen="https://github.com/NVIDIA-Merlin/models/pull/1051",
    classes=("variants", "precise"),
)
class BiasIgnored(Textbook):
    def biased(self, s_p: Array, s: Array) -> tuple[Array, Array]:
        return s_p, s


@mutant(
    "bias.subtracted",
    "The bias is taken off the logits, or log q added for log q taken off.",
    means="the bias's sign turned",
    seen="https://github.com/tensorflow/recommenders/issues/219",
    classes=("variants", "precise"),
)
class BiasSubtracted(Textbook):
    def prepare(self) -> None:
        self.logit_bias = None if self.logit_bias is None else -self.logit_bias


@mutant(
    "bias.before-temperature",
    "The bias is added to the similarities, and divided by the temperature with them.",
    means="the bias divided by the temperature",
    classes=("variants", "precise"),
)
class BiasBeforeTemperature(Textbook):
    def biased(self, s_p: Array, s: Array) -> tuple[Array, Array]:
        with_bias = super().biased(s_p, s)
        return s_p + (with_bias[0] - s_p) / self.tau(), s + (with_bias[1] - s) / self.tau()


@mutant(
    "bias.positive-without",
    "The positive's logit has no bias: only the negatives are corrected.",
    means="the bias left off the positive",
    classes=("variants", "precise"),
)
class PositiveWithout(Textbook):
    def own(self, bias: Array) -> Array:
        return self.xp.zeros_like(self.cast(self.query)[:, 0])


@mutant(
    "bias.by-query",
    "The positive's bias is that of column i for query i, wherever its positive stands.",
    means="the positive's bias by the query's number",
    classes=("variants",),
    single=BIAS,
)
class ByQuery(Textbook):
    def own(self, bias: Array) -> Array:
        return bias[self.numbers(self.query.shape[0]) % self.in_batch]


@mutant(
    "bias.detached",
    "The bias has no gradient.",
    means="the bias detached",
    classes=("variants", "precise"),
)
class BiasDetached(Textbook):
    def biased(self, s_p: Array, s: Array) -> tuple[Array, Array]:
        if self.logit_bias is not None:
            self.logit_bias = constant(self.logit_bias)
        return super().biased(s_p, s)


@mutant(
    "bias.in-temperature-gradient",
    "The temperature's gradient is that of whole logits, the bias with them.",
    means="the bias in the temperature's gradient",
    classes=("variants",),
    single=BIAS,
)
class BiasInTemperatureGradient(Textbook):
    def biased(self, s_p: Array, s: Array) -> tuple[Array, Array]:
        slope = constant(self.tau()) / self.tau()
        b_p, b = super().biased(s_p, s)
        return s_p + (b_p - s_p) * slope, s + (b - s) * slope


@mutant(
    "bias.columns-swapped",
    "The bias's columns are read as negatives first, then positive keys.",
    means="the bias's columns read as negatives first",
    classes=("variants",),
    single=BIAS,
)
class BiasColumnsSwapped(Textbook):
    def prepare(self) -> None:
        if self.logit_bias is not None and self.logit_bias.shape[0] == self.columns:
            explicit = self.columns - self.in_batch
            self.logit_bias = self.xp.concat([self.logit_bias[explicit:], self.logit_bias[:explicit]])
