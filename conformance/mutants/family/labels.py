"""Wrong sup_con: who counts, what a mean is over, one variant for another, self and masks."""

from __future__ import annotations

import math
from typing import Any

from infonce_ref.conformance.mutants.family.textbook import Board, SupCon
from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array

VALUE = ("value", "gradient", "temperature gradient")
MASK = "only a call with a mask sees it, and those are masks"


@mutant(
    "sup-con.base-temperature",
    "The loss times tau / 0.07, a 'base temperature' left over from tuning.",
    means="the loss times temperature / 0.07",
    seen="https://github.com/HobbitLong/SupContrast/issues/73",
    classes=VALUE,
)
class BaseTemperature(SupCon):
    def reduce(self, each: Array) -> Array:
        return self.tau() / 0.07 * super().reduce(each)


@mutant(
    "sup-con.all-anchors",
    "The mean over all B anchors, those without a positive too: they count as 0.",
    means="the mean over all anchors, those without a positive too",
    seen="https://github.com/HobbitLong/SupContrast/pull/142; SINCERE's authors' code",
    classes=("value", "gradient", "temperature gradient"),
)
class AllAnchors(SupCon):
    def counts(self, board: Board) -> Any:
        return None


@mutant(
    "sup-con.positive-rows",
    "The mean over the anchors whose loss is above 0: a solved anchor raises the mean, and NaN vanishes.",
    means="the mean over anchors whose loss is above 0",
    seen="pytorch-metric-learning 2.9.0 (SupConLoss)",
    classes=("value", "masks", "edges"),
)
class PositiveRows(SupCon):
    def mean(self, each: Array, weight: Array) -> Array:
        zero = self.xp.zeros_like(each)
        return super().mean(self.xp.where(each > 0, each, zero), self.xp.where(each > 0, weight, zero))


@mutant(
    "sup-con.mean-over-pairs",
    "The mean over all pairs of anchor and positive: anchors with many positives weigh more.",
    means="the mean over positive pairs",
    seen="optax 0.2.8 (losses.ntxent), pytorch-metric-learning 2.9.0 (NTXentLoss), by design",
    classes=VALUE,
)
class MeanOverPairs(SupCon):
    def counts(self, board: Board) -> Array:
        self.pairs = self.xp.sum(self.xp.astype(board.positive, self.compute), axis=1)
        return super().counts(board)

    def mean(self, each: Array, weight: Array) -> Array:
        return super().mean(each, weight * self.pairs)


@mutant(
    "sup-con.alone-nan",
    "An anchor without a positive is 0/0.",
    means="0/0 for an anchor without a positive",
    seen="https://github.com/HobbitLong/SupContrast/issues/141",
    classes=("value", "gradient", "variants"),
)
class AloneNan(SupCon):
    def worth(self, s: Array, board: Board) -> Array:
        value = super().worth(s, board)
        return self.xp.where(self.xp.any(board.positive, axis=1), value, 0.0 * value / (0.0 * value))

    def counts(self, board: Board) -> Any:
        return None


@mutant(
    "sup-con.sum-over-positives",
    "An anchor's positives are added, not averaged: the division by their number is missing.",
    means="the sum over an anchor's positives",
    classes=VALUE,
)
class SumOverPositives(SupCon):
    def worth(self, s: Array, board: Board) -> Array:
        return super().worth(s, board) * self.positives(board)


@mutant(
    "sup-con.in-for-out",
    "L_in where L_out is asked for: the logarithm outside the mean.",
    means="L_in for L_out",
    classes=VALUE,
)
class InForOut(SupCon):
    def out(self, s: Array, board: Board) -> Array:
        return self.in_(s, board)


@mutant(
    "sup-con.out-for-in",
    "L_out where L_in is asked for.",
    means="L_out for L_in",
    classes=VALUE,
)
class OutForIn(SupCon):
    def in_(self, s: Array, board: Board) -> Array:
        return self.out(s, board)


@mutant(
    "sup-con.in-without-count",
    "L_in without log |P|: MIL-NCE's loss.",
    means="log |P| left out of L_in",
    classes=("value", "masks", "variants"),
)
class InWithoutCount(SupCon):
    def in_(self, s: Array, board: Board) -> Array:
        return self.bag(s, board)


@mutant(
    "sup-con.sincere-for-out",
    "Other positives are left out of the denominator where L_out is asked for.",
    means="SINCERE for L_out",
    seen="https://github.com/HobbitLong/SupContrast/issues/64, https://github.com/tfzhou/ContrastiveSeg/issues/6",
    classes=VALUE,
)
class SincereForOut(SupCon):
    def out(self, s: Array, board: Board) -> Array:
        return self.sincere(s, board)


@mutant(
    "sup-con.out-for-sincere",
    "Other positives stay in the denominator where SINCERE is asked for.",
    means="L_out for SINCERE",
    classes=VALUE,
)
class OutForSincere(SupCon):
    def sincere(self, s: Array, board: Board) -> Array:
        return self.out(s, board)


@mutant(
    "sup-con.negatives-alone",
    "The denominator is the sum over the negatives: no positive stands in it.",
    means="positives left out of the denominator (DCL)",
    seen="https://github.com/tfzhou/ContrastiveSeg/issues/6",
    classes=VALUE,
)
class NegativesAlone(SupCon):
    def softplus(self, x: Array, some: Array) -> Array:
        return self.xp.where(some, x, self.xp.zeros_like(x))


@mutant(
    "sup-con.self-as-positive",
    "An anchor is its own positive, with cosine 1.",
    means="self counted as a positive",
    classes=VALUE,
)
class SelfAsPositive(SupCon):
    def itself(self, same: Array) -> Array:
        return ~self.everything(*same.shape)


@mutant(
    "sup-con.self-as-negative",
    "An anchor stands in its own denominator.",
    means="self counted as a negative",
    classes=VALUE,
)
class SelfAsNegative(SupCon):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        if self.keys is not None:
            return [board]
        return [Board(board.sims, board.positive, board.negative | self.eye(board.sims.shape[0]))]


@mutant(
    "sup-con.self-by-value",
    "Self is found by its value: rows that equal the anchor are no candidates either.",
    means="rows equal to the anchor left out",
    elsewhere="https://github.com/huggingface/sentence-transformers/issues/2756",
    classes=("edges", "negatives", "value"),
)
class SelfByValue(SupCon):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        other = self.first if self.keys is None else self.keys
        apart = ~self.xp.all(self.first[:, None, :] == other[None, :, :], axis=-1)
        return [Board(board.sims, board.positive & apart, board.negative & apart)]


@mutant(
    "sup-con.self-among-keys",
    "Key i is left out for anchor i, though keys are an array of their own.",
    means="key i left out for anchor i",
    classes=("negatives", "precise"),
)
class SelfAmongKeys(SupCon):
    def itself(self, same: Array) -> Array:
        return self.eye(*same.shape)


@mutant(
    "sup-con.mask-positives-too",
    "The mask takes positives out as well as negatives.",
    means="the mask takes positives out as well",
    classes=("masks",),
    single=MASK,
)
class MaskPositivesToo(SupCon):
    def boards(self) -> list[Board]:
        (board,) = super().boards()
        return [Board(board.sims, board.positive & self.kept(*board.sims.shape), board.negative)]


@mutant(
    "sup-con.log-eps",
    "1e-6 added under the logarithm of the sum of shifted exponentials.",
    means="1e-6 added under the logarithm",
    seen="https://github.com/HobbitLong/SupContrast/issues/104",
    classes=("value", "gradient"),
)
class LogEps(SupCon):
    def logsumexp(self, s: Array, keep: Array) -> tuple[Array, Array]:
        value, some = super().logsumexp(s, keep)
        top = self.xp.max(self.xp.where(keep, s, self.xp.full_like(s, -math.inf)), axis=1)
        top = self.xp.where(some, top, self.xp.zeros_like(top))
        return self.xp.where(some, top + self.xp.log(self.xp.exp(value - top) + 1e-6), value), some


@mutant(
    "sup-con.labels-as-classes",
    "Labels are cast to 32 bits: those that differ by a multiple of 2^32 become one.",
    means="labels cast to 32 bits",
    classes=("variants",),
    single="only labels beyond 32 bits see it",
)
class LabelsCast(SupCon):
    def prepare(self) -> None:
        if str(self.labels.dtype).endswith("int64"):
            self.labels = self.xp.astype(self.labels, self.xp.int32)
