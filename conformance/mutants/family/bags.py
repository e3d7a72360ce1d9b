"""Wrong gte, mil_nce and soft_nce: blocks of candidates, bags counted otherwise, targets that are changed."""

from __future__ import annotations

import math

from infonce_ref.conformance.mutants.family.textbook import Board, Gte, MilNce, SoftNce
from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array

VALUE = ("value", "gradient", "temperature gradient")
MASK = "only a call with a mask sees it, and those are masks"
NO_DISTRIBUTION = "targets that are distributions are read as they are"


# --- gte -------------------------------------------------------------------------------------------------------------


@mutant(
    "gte.positive-twice",
    "The positive stands in the denominator twice: as query to document and as document to query.",
    means="the positive twice in the denominator",
    seen="sentence-transformers 6.2.0, https://github.com/huggingface/sentence-transformers/pull/3607",
    classes=VALUE,
)
class PositiveTwice(Gte):
    def others(self, n: int) -> Array:
        other = ~self.eye(n)
        return self.xp.concat([other, other, self.everything(n, n), other], axis=1)


@mutant(
    "gte.self-included",
    "A query is its own negative, with cosine 1, and so is a document.",
    means="self counted as a negative",
    classes=VALUE,
)
class SelfIncluded(Gte):
    def others(self, n: int) -> Array:
        other, all_ = ~self.eye(n), self.everything(n, n)
        return self.xp.concat([other, all_, other, all_], axis=1)


class Without(Gte):
    """Some of the four blocks are left out."""

    left_out: tuple[int, ...]

    def others(self, n: int) -> Array:
        block = self.numbers(4 * n) // n
        keep = self.everything(4 * n)
        for number in self.left_out:
            keep = keep & (block != number)
        return super().others(n) & keep[None, :]


@mutant(
    "gte.same-side-left-out",
    "Only the two directions between queries and documents: neither queries among themselves nor documents.",
    means="query to query and document to document left out",
    seen="https://github.com/QwenLM/Qwen3-Embedding/issues/20",
    classes=VALUE,
)
class SameSideLeftOut(Without):
    left_out = (1, 3)


@mutant(
    "gte.query-to-query-left-out",
    "Other queries are no negatives.",
    means="query to query left out",
    classes=VALUE,
)
class QueriesLeftOut(Without):
    left_out = (1,)


@mutant(
    "gte.document-to-query-left-out",
    "A document's other queries are no negatives.",
    means="document to query left out",
    seen="https://github.com/QwenLM/Qwen3-Embedding/issues/20",
    classes=VALUE,
)
class DocumentToQueryLeftOut(Without):
    left_out = (2,)


@mutant(
    "gte.info-nce",
    "Documents alone are candidates: InfoNCE, from which the improvement was to come.",
    means="query to document alone (InfoNCE)",
    seen="sentence-transformers (MultipleNegativesRankingLoss), by design",
    classes=VALUE,
)
class InfoNce(Without):
    left_out = (1, 2, 3)


@mutant(
    "gte.four-softmaxes",
    "A softmax for each of the four directions, averaged, where one runs over all.",
    means="four softmaxes in place of one",
    classes=VALUE,
)
class FourSoftmaxes(Gte):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        block = (self.numbers(board.sims.shape[1]) // board.sims.shape[0])[None, :]
        return [Board(board.sims, board.positive, board.negative & (block == i)) for i in range(4)]


@mutant(
    "gte.document-to-query-across",
    "The block document to query is that of query to document, not its transpose.",
    means="document to query not transposed",
    classes=VALUE,
)
class Across(Gte):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        n, sims = board.sims.shape[0], board.sims
        sims = self.xp.concat([sims[:, : 2 * n], sims[:, :n], sims[:, 3 * n :]], axis=1)
        return [Board(sims, board.positive, board.negative)]


@mutant(
    "gte.mask-blocks",
    "The mask's blocks are read as query to document, document to query, query to query, document to document.",
    means="the mask's blocks in another order",
    classes=("masks",),
    single=MASK,
)
class MaskBlocks(Gte):
    def kept(self, *shape: int) -> Array:
        kept, n = super().kept(*shape), shape[0]
        return self.xp.concat([kept[:, :n], kept[:, 2 * n : 3 * n], kept[:, n : 2 * n], kept[:, 3 * n :]], axis=1)


# --- mil_nce ---------------------------------------------------------------------------------------------------------


@mutant(
    "mil-nce.bag-twice",
    "The bag stands in the denominator twice.",
    means="the bag twice in the denominator",
    seen="https://github.com/antoine77340/MIL-NCE_HowTo100M/issues/4",
    classes=VALUE,
)
class BagTwice(MilNce):
    def softplus(self, x: Array, some: Array) -> Array:
        return math.log(2.0) + super().softplus(x - math.log(2.0), some)


@mutant(
    "mil-nce.directions-joined",
    "One denominator over both directions, the bag in it twice: the authors' code.",
    means="both directions in one denominator, the bag twice",
    seen="https://github.com/antoine77340/MIL-NCE_HowTo100M/issues/3",
    classes=VALUE,
)
class DirectionsJoined(MilNce):
    def boards(self) -> list[Board]:
        self.symmetric = True
        there, back = super().boards()
        xp, both = self.xp, [there, back]
        sims = xp.concat([board.sims for board in both], axis=1)
        negative = xp.concat([there.negative, back.negative | back.positive], axis=1)
        return [Board(sims, xp.concat([there.positive, ~self.everything(*back.positive.shape)], axis=1), negative)]


@mutant(
    "mil-nce.each-alone",
    "Each element of the bag has a softmax of its own, the others in its denominator, and the mean is taken.",
    means="a softmax for each positive, averaged (SupCon)",
    classes=VALUE,
)
class EachAlone(MilNce):
    def worth(self, s: Array, board: Board) -> Array:
        whole = self.logsumexp(s, board.positive | board.negative)[0]
        own = self.xp.where(board.positive, s, self.xp.zeros_like(s))
        return whole - self.xp.sum(own, axis=1) / self.positive_bags.shape[1]


@mutant(
    "mil-nce.nearest",
    "Only the nearest element of a bag counts as its positive: a maximum where a sum is meant.",
    means="the nearest positive of a bag alone",
    classes=VALUE,
)
class Nearest(MilNce):
    def worth(self, s: Array, board: Board) -> Array:
        low = self.xp.full_like(s, -math.inf)
        top = self.xp.max(self.xp.where(board.positive, s, low), axis=1)
        nu, some = self.logsumexp(s, board.negative)
        return self.softplus(nu - top, some)


@mutant(
    "mil-nce.mean-of-bag",
    "The bag's exponentials are averaged in the numerator, not added.",
    means="the mean over a bag for its sum",
    classes=VALUE,
)
class MeanOfBag(MilNce):
    def worth(self, s: Array, board: Board) -> Array:
        nu, some = self.logsumexp(s, board.negative)
        pi = self.logsumexp(s, board.positive)[0] - math.log(self.positive_bags.shape[1])
        return self.softplus(nu - pi, some)


@mutant(
    "mil-nce.elements-exchanged",
    "The bags' (N, B) is read as (B, N): whose element is whose is mixed up where neither is 1.",
    means="bags and elements exchanged",
    classes=VALUE,
)
class ElementsExchanged(MilNce):
    def boards(self) -> list[Board]:
        n, size, width = self.positive_bags.shape
        turned = self.xp.permute_dims(self.positive_bags, (1, 0, 2))
        self.positive_bags = self.xp.reshape(turned, (n, size, width))
        return super().boards()


@mutant(
    "mil-nce.bag-averaged",
    "A bag's rows are averaged to one before anything else.",
    means="the bags' rows averaged first",
    classes=VALUE,
)
class BagAveraged(MilNce):
    def embed(self, x: Array, name: str) -> Array:
        x = super().embed(x, name)
        if name == "query":
            return x
        return self.xp.mean(x, axis=1, keepdims=True) + 0.0 * x


@mutant(
    "mil-nce.symmetric-ignored",
    "`symmetric` is accepted and not looked at.",
    means="`symmetric` ignored",
    classes=("variants", "masks"),
)
class SymmetricIgnored(MilNce):
    def boards(self) -> list[Board]:
        return super().boards()[:1]


@mutant(
    "mil-nce.symmetric-sum",
    "With `symmetric` the two directions are added, not averaged.",
    means="the sum of both directions",
    classes=("variants", "masks"),
)
class SymmetricSum(MilNce):
    def join(self, directions: list[Array]) -> Array:
        return len(directions) * super().join(directions)


@mutant(
    "mil-nce.symmetric-mask-across",
    "The mask of query x bag is read as bag x query in the second direction.",
    means="the mask not turned for bag to query",
    classes=("masks",),
    single=MASK,
)
class SymmetricMaskAcross(MilNce):
    def turned(self, x: Array) -> Array:
        return x if x.dtype == self.xp.bool else super().turned(x)


# --- soft_nce --------------------------------------------------------------------------------------------------------


@mutant(
    "soft-nce.hardest-target",
    "Targets are read as labels: the largest of a row alone counts.",
    means="the largest target for all",
    classes=("value", "gradient", "temperature gradient", "variants"),
)
class HardestTarget(SoftNce):
    def worth(self, s: Array, board: Board) -> Array:
        t = self.share()
        top = self.xp.argmax(t, axis=1)
        hard = self.numbers(t.shape[1])[None, :] == top[:, None]
        return self.logsumexp(s, board.positive | board.negative)[0] - self.picked(s, hard)


@mutant(
    "soft-nce.relative-entropy",
    "The targets' entropy comes off: the Kullback-Leibler divergence.",
    means="the targets' entropy taken off (KL divergence)",
    seen="https://github.com/szagoruyko/attention-transfer/issues/12",
    classes=("value", "variants", "masks"),
)
class RelativeEntropy(SoftNce):
    def worth(self, s: Array, board: Board) -> Array:
        t, xp = self.share(), self.xp
        logs = xp.log(xp.where(t > 0, t, xp.ones_like(t)))
        return super().worth(s, board) + xp.sum(t * logs, axis=1)


@mutant(
    "soft-nce.squared-temperature",
    "The loss times the square of the temperature, as in distillation.",
    means="the loss times tau squared",
    seen="https://github.com/keras-team/keras-io/issues/869",
    classes=VALUE,
)
class SquaredTemperature(SoftNce):
    def reduce(self, each: Array) -> Array:
        return self.tau() ** 2 * super().reduce(each)


@mutant(
    "soft-nce.mean-over-keys",
    "The mean over queries and keys, not over queries.",
    means="the mean over queries and keys",
    seen="https://github.com/GMvandeVen/continual-learning/issues/5",
    classes=VALUE,
)
class MeanOverKeys(SoftNce):
    def worth(self, s: Array, board: Board) -> Array:
        return super().worth(s, board) / s.shape[1]


@mutant(
    "soft-nce.softmax-of-targets",
    "A softmax of the targets, which are probabilities already.",
    means="a softmax of the targets",
    seen="https://github.com/mit-han-lab/once-for-all/issues/5",
    classes=VALUE,
)
class SoftmaxOfTargets(SoftNce):
    def worth(self, s: Array, board: Board) -> Array:
        raised = self.xp.exp(self.share())
        t = raised / self.xp.sum(raised, axis=1, keepdims=True)
        among = board.positive | board.negative
        gap = self.logsumexp(s, among)[0][:, None] - s
        value = self.xp.sum(self.xp.where(among, t * gap, self.xp.zeros_like(gap)), axis=1)
        return self.xp.where(self.is_distribution(self.share()), value, self.xp.full_like(value, math.nan))


@mutant(
    "soft-nce.smoothed",
    "Targets are smoothed by 0.1 on top: an option that was left on.",
    means="targets smoothed by 0.1",
    classes=VALUE,
)
class Smoothed(SoftNce):
    def worth(self, s: Array, board: Board) -> Array:
        among = board.positive | board.negative
        gap = self.logsumexp(s, among)[0][:, None] - s
        count = self.xp.sum(self.xp.astype(among, s.dtype), axis=1)
        even = self.xp.sum(self.xp.where(among, gap, self.xp.zeros_like(gap)), axis=1) / count
        return 0.9 * super().worth(s, board) + 0.1 * even


@mutant(
    "soft-nce.other-axis",
    "The softmax runs over the queries of a key.",
    means="the softmax over queries",
    classes=VALUE,
)
class OtherAxis(SoftNce):
    def worth(self, s: Array, board: Board) -> Array:
        t, among = self.share(), board.positive | board.negative
        gap = self.logsumexp(s.T, among.T)[0][None, :] - s
        value = self.xp.sum(t * gap, axis=1)
        return self.xp.where(self.is_distribution(t), value, self.xp.full_like(value, math.nan))


@mutant(
    "soft-nce.without-positives",
    "Keys that have a share of the target are left out of the denominator.",
    means="targets left out of the denominator",
    classes=VALUE,
)
class WithoutPositives(SoftNce):
    def softplus(self, x: Array, some: Array) -> Array:
        return self.xp.where(some, x, self.xp.zeros_like(x))


@mutant(
    "soft-nce.bag",
    "The keys that have a target are a bag: the logarithm of their mean probability, not the mean of logarithms.",
    means="the logarithm of the mean probability",
    classes=VALUE,
)
class Bag(SoftNce):
    def worth(self, s: Array, board: Board) -> Array:
        t, whole = self.share(), self.logsumexp(s, board.positive | board.negative)[0]
        weighted = s + self.xp.log(self.xp.where(t > 0, t, self.xp.ones_like(t)))
        value = whole - self.logsumexp(weighted, board.positive)[0]
        return self.xp.where(self.is_distribution(t), value, self.xp.full_like(value, math.nan))


@mutant(
    "soft-nce.targets-normalised",
    "Targets that don't sum to 1 are divided by their sum, without a word.",
    means="targets divided by their sum",
    classes=("edges",),
    single=NO_DISTRIBUTION,
)
class TargetsNormalised(SoftNce):
    def share(self) -> Array:
        t = super().share()
        return t / self.xp.sum(t, axis=1, keepdims=True)


@mutant(
    "soft-nce.targets-as-they-are",
    "Targets are used whatever they sum to.",
    means="targets of any sum computed with",
    seen="torch.nn.CrossEntropyLoss with class probabilities, by design",
    classes=("edges",),
    single=NO_DISTRIBUTION,
)
class TargetsAsTheyAre(SoftNce):
    def is_distribution(self, t: Array) -> Array:
        return self.everything(t.shape[0])


@mutant(
    "soft-nce.masked-target-dropped",
    "A target on a masked key is dropped, and the rest taken as it is.",
    means="a target on a masked key dropped",
    classes=("edges",),
    single=NO_DISTRIBUTION,
)
class MaskedTargetDropped(SoftNce):
    def share(self) -> Array:
        t = super().share()
        return self.xp.where(self.kept(*t.shape), t, self.xp.zeros_like(t))

    def is_distribution(self, t: Array) -> Array:
        whole = super().share()
        return self.xp.abs(self.xp.sum(whole, axis=1) - 1.0) < 0.01
