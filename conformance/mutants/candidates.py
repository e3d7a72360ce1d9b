"""Who is whose positive and negative: labels, readings of explicit negatives, masks."""

from __future__ import annotations

import math

from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array, Textbook, constant, dtype_of

VALUE = ("value", "gradient", "temperature gradient")
INDEX = "only a call with positive_index sees it, and those are variants"
MASK = ("masks", "half")


@mutant(
    "labels.zero",
    "Label 0 for every row of in-batch scores, copied from code in which the positive stands first.",
    means="label 0 for every row",
    seen="https://github.com/YihengZhang-CV/SeCo-Sequence-Contrastive-Learning/issues/3",
    classes=VALUE,
)
class LabelZero(Textbook):
    def index(self) -> Array:
        return super().index() * 0 if self.positive_index is None else super().index()


@mutant(
    "labels.off-by-one",
    "Labels that are shifted by one: an offset that counts something twice when batches are gathered.",
    means="labels off by one",
    seen="https://github.com/huggingface/sentence-transformers/pull/3453",
    classes=VALUE,
)
class LabelOffByOne(Textbook):
    def index(self) -> Array:
        return (super().index() + 1) % self.positive_key.shape[0] if self.positive_index is None else super().index()


@mutant(
    "index.ignored",
    "`positive_index` is accepted and not looked at.",
    means="`positive_index` ignored",
    classes=("variants",),
)
class IndexIgnored(Textbook):
    def index(self) -> Array:
        return self.numbers(self.query.shape[0])


@mutant(
    "index.inverse",
    "The permutation is applied the wrong way round, where it is one.",
    means="`positive_index` inverted",
    classes=("variants",),
)
class IndexInverse(Textbook):
    def index(self) -> Array:
        index = super().index()
        square = self.positive_key.shape[0] == index.shape[0]
        return self.xp.argsort(index) if square else index


@mutant(
    "index.gathered-only-positives",
    "Gathered keys that are nobody's positive here aren't negatives: only the local ones are.",
    means="keys that are nobody's positive are no negatives",
    classes=("variants",),
)
class OnlyPositives(Textbook):
    def eligible(self) -> Array:
        somebodys = self.xp.any(self.positive(), axis=0)
        eligible = super().eligible()
        if not self.in_batch_negatives:
            return eligible
        return self.xp.concat([eligible[:, : self.in_batch] & somebodys, eligible[:, self.in_batch :]], axis=1)


@mutant(
    "candidates.duplicates-dropped",
    "Keys equal to the positive, or to an earlier key, are left out: a set where a list is meant.",
    means="keys equal to the positive, or to an earlier key, left out",
    seen="https://github.com/huggingface/sentence-transformers/issues/2756",
    classes=("value", "gradient"),
)
class DuplicatesDropped(Textbook):
    def eligible(self) -> Array:
        eligible, xp = super().eligible(), self.xp
        if not self.in_batch_negatives:
            return eligible
        same = xp.all(self.positive_key[:, None, :] == self.positive_key[None, :, :], axis=-1)
        rows = self.numbers(self.in_batch)
        fresh = ~xp.any(same & (rows[None, :] < rows[:, None]), axis=1)
        like_positive = xp.any(self.positive()[:, :, None] & same[None, :, :], axis=1)
        return xp.concat([eligible[:, : self.in_batch] & fresh & ~like_positive, eligible[:, self.in_batch :]], axis=1)


@mutant(
    "negatives.flattened",
    "Each query's own negatives are taken for everyone's: N x M columns in place of M.",
    means="each query's own negatives taken for everyone's",
    seen="https://github.com/modelscope/ms-swift/issues/6969",
    classes=("negatives", "half"),
)
class Flattened(Textbook):
    def prepare(self) -> None:
        if self.negative_keys is not None and self.negative_keys.ndim == 3 and self.candidate_mask is None:
            self.negative_keys = self.xp.reshape(self.negative_keys, (-1, self.negative_keys.shape[-1]))


@mutant(
    "negatives.paired",
    "Shared negatives are paired with the queries row by row where there are as many: one negative each.",
    means="shared negatives paired with the queries row by row",
    classes=("negatives",),
)
class Paired(Textbook):
    def prepare(self) -> None:
        keys = self.negative_keys
        if keys is not None and keys.ndim == 2 and keys.shape[0] == self.query.shape[0] and self.candidate_mask is None:
            self.negative_keys = keys[:, None, :]


@mutant(
    "negatives.in-batch-left-out",
    "Where explicit negatives are given, the batch's other keys no longer count, though they are asked for.",
    means="explicit negatives alone, those in the batch left out",
    seen="info-nce-pytorch 0.1.4, by design: own positive and explicit negatives only",
    classes=("negatives", "half"),
)
class InBatchLeftOut(Textbook):
    def prepare(self) -> None:
        if self.negative_keys is not None and self.candidate_mask is None:
            self.in_batch_negatives = False


@mutant(
    "negatives.left-out",
    "Explicit negatives beside the batch are accepted and not used.",
    means="explicit negatives beside the batch left out",
    classes=("negatives", "half"),
)
class LeftOut(Textbook):
    def prepare(self) -> None:
        if self.in_batch_negatives and self.candidate_mask is None:
            self.negative_keys = None


@mutant(
    "negatives.two-losses",
    "The loss over the batch and the loss over the explicit negatives are added: two softmaxes for one.",
    means="a loss over the batch and one over explicit negatives added",
    classes=("negatives", "half"),
)
class TwoLosses(Textbook):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        cut = self.in_batch
        if not 0 < cut < self.columns:
            return super().rows(s_p, s, negative)
        return super().rows(s_p, s[:, :cut], negative[:, :cut]) + super().rows(s_p, s[:, cut:], negative[:, cut:])


@mutant(
    "negatives.positive-left-out",
    "With explicit negatives the denominator is their sum alone, without the positive.",
    means="the positive left out of the denominator beside explicit negatives",
    seen="https://github.com/KevinMusgrave/pytorch-metric-learning/issues/699",
    classes=("negatives", "half"),
)
class PositiveLeftOut(Textbook):
    def softplus(self, x: Array, some: Array) -> Array:
        if self.negative_keys is None:
            return super().softplus(x, some)
        return self.xp.where(some, x, self.xp.zeros_like(x))


class Leak(Textbook):
    """A finite number is added to masked logits."""

    added = 0.0

    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        eligible = self.eligible()
        lowered = self.xp.where(negative, s, s + self.added)
        return super().rows(s_p, lowered, eligible)


@mutant(
    "mask.minus-100",
    "-100 added to masked logits: at low temperatures they lie further apart than that.",
    means="-100 added to masked logits",
    classes=("masks",),
    single="only a masked logit that lies further above the others than 100 sees it",
)
class Minus100(Leak):
    added = -100.0


@mutant(
    "mask.minus-10000",
    "-10000 added to masked logits, the constant for half precision: less than inner products can lie apart.",
    means="-10000 added to masked logits",
    seen="https://github.com/huggingface/lerobot/pull/710",
    classes=("masks",),
    single="only a masked logit that lies further above the others than 10000 sees it",
)
class Minus10000(Leak):
    added = -10000.0


@mutant(
    "mask.complement-times-1e9",
    "(1 - mask) * -1e9 in the embeddings' dtype: in float16 that is 0 * -inf, NaN in every kept entry.",
    means="(1 - mask) * -1e9 added to the logits",
    seen="https://github.com/ahrefs/ocannl/issues/548",
    wrong_in=("float16",),
    classes=("half",),
    single="-1e9 is a number in every dtype but float16",
)
class ComplementTimes(Textbook):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        if self.candidate_mask is None:
            return super().rows(s_p, s, negative)
        large = self.xp.full_like(s, 1e9) if dtype_of(self.query) != "float16" else self.xp.full_like(s, math.inf)
        gone = self.xp.astype(~self.kept(), s.dtype)
        return super().rows(s_p, s - gone * large, self.eligible())


@mutant(
    "mask.zeroed",
    "Masked logits are multiplied by 0, not removed: exp(0) stays in the denominator.",
    means="masked logits multiplied by 0",
    seen="https://github.com/vivekmyers/contrastive_planning/issues/1",
    classes=MASK,
)
class Zeroed(Textbook):
    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        return super().rows(s_p, self.xp.where(negative, s, self.xp.zeros_like(s)), self.eligible())


@mutant("mask.ignored", "The mask is accepted and not looked at.", means="the mask ignored", classes=MASK)
class MaskIgnored(Textbook):
    def negative(self) -> Array:
        return self.eligible()


@mutant(
    "mask.inverted",
    "True is read as masked.",
    means="True in the mask read as masked",
    seen="https://github.com/lucidrains/halonet-pytorch/issues/4",
    classes=MASK,
)
class Inverted(Textbook):
    def kept(self) -> Array:
        return super().kept() if self.candidate_mask is None else ~self.candidate_mask


@mutant(
    "mask.transposed",
    "The mask is read as candidate x query, where it is square.",
    means="the mask read as candidate x query",
    classes=MASK,
)
class MaskTransposed(Textbook):
    def kept(self) -> Array:
        kept = super().kept()
        return kept.T if kept.shape[0] == kept.shape[1] else kept


@mutant(
    "mask.columns-swapped",
    "The mask's columns are read as negatives first, then positive keys.",
    means="the mask's columns read as negatives first",
    classes=("masks",),
    single="only a mask beside explicit negatives has two sorts of columns",
)
class ColumnsSwapped(Textbook):
    def kept(self) -> Array:
        kept, m = super().kept(), self.columns - self.in_batch
        return self.xp.concat([kept[:, m:], kept[:, :m]], axis=1)


@mutant(
    "mask.positive-too",
    "The mask takes the positive out of the denominator as well, where it is False there.",
    means="the mask takes the positive out as well",
    classes=MASK,
)
class PositiveToo(Textbook):
    def softplus(self, x: Array, some: Array) -> Array:
        each = super().softplus(x, some)
        if self.candidate_mask is None or not self.in_batch_negatives:
            return each
        stays = self.xp.any(self.positive() & self.kept()[:, : self.in_batch], axis=1)
        return self.xp.where(stays | ~some, each, x)


@mutant(
    "mask.before-temperature",
    "Masked scores are set to -inf before they are divided by the temperature: its gradient is 0 times inf, NaN.",
    means="masked scores set to -inf before the division by the temperature",
    seen="https://github.com/NVIDIA-NeMo/Automodel/pull/3850",
    classes=MASK,
)
class BeforeTemperature(Textbook):
    def logits(self, positive: Array, others: Array) -> tuple[Array, Array]:
        hidden = self.xp.where(self.kept(), others, self.xp.full_like(others, -math.inf))
        return super().logits(positive, hidden)


@mutant(
    "mask.whole-row",
    "-inf added to masked logits: a row without a negative is -inf less -inf; a where hides that NaN from the value.",
    means="-inf added to masked logits",
    classes=("masks", "edges"),
)
class WholeRow(Textbook):
    def logsumexp(self, s: Array, keep: Array) -> tuple[Array, Array]:
        xp = self.xp
        if s.shape[1] == 0:
            return super().logsumexp(s, keep)
        hidden = s + xp.where(keep, xp.zeros_like(s), xp.full_like(s, -math.inf))
        top = constant(xp.max(hidden, axis=1))
        return top + xp.log(xp.sum(xp.exp(hidden - top[:, None]), axis=1)), xp.any(keep, axis=1)


@mutant(
    "mask.row-not-counted",
    "A row without a negative is left out of the mean; by the definition its loss is 0 and counts.",
    means="a row without a negative left out of the mean",
    classes=("masks",),
    single="only a mask leaves a row of a larger batch without negatives, in half precision too",
)
class RowNotCounted(Textbook):
    def mean(self, each: Array, weight: Array) -> Array:
        some = self.xp.any(self.negative(), axis=1) if self.columns else self.xp.zeros_like(each) > 0
        return super().mean(each, self.xp.where(some, weight, self.xp.zeros_like(weight)))


@mutant(
    "mask.padding",
    "What is masked for everyone still enters the matrix products: padding that holds NaN gives 0 times NaN.",
    means="what is masked for everyone still in the matrix products",
    classes=("masks",),
    single="only keys that nobody uses and that aren't finite see it",
)
class Padding(Textbook):
    def cleared(self, x: Array, used: Array) -> Array:
        return x
