"""Wrong clip and siglip: directions, temperature, explicit negatives, signs and means of pairs."""

from __future__ import annotations

from typing import Any

from infonce_ref.conformance.mutants.family.textbook import Board, Clip, SigLip
from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array, constant

VALUE = ("value", "gradient", "temperature gradient")
MASK = "only a call with a mask sees it, and those are masks"


# --- clip ------------------------------------------------------------------------------------------------------------


@mutant(
    "clip.sum-of-directions",
    "The two directions are added where their mean is meant.",
    means="the sum of both directions",
    seen="contrastors, t5x (read in their source)",
    classes=VALUE,
)
class SumOfDirections(Clip):
    def join(self, directions: list[Array]) -> Array:
        return 2.0 * super().join(directions)


@mutant(
    "clip.image-to-text",
    "Images choose among texts, and texts don't choose: the loss of one direction.",
    means="the direction image to text alone",
    classes=VALUE,
)
class ImageToText(Clip):
    def boards(self) -> list[Board]:
        return super().boards()[:1]


@mutant(
    "clip.text-to-image",
    "Texts choose among images, and images don't choose: the softmax runs along the wrong axis.",
    means="the direction text to image alone",
    classes=VALUE,
)
class TextToImage(Clip):
    def boards(self) -> list[Board]:
        return super().boards()[1:]


@mutant(
    "clip.soft-targets",
    "Targets are a softmax of the images' and the texts' own similarities, not the identity; in-batch texts only.",
    means="targets from the similarities within images and within texts",
    seen="https://github.com/moein-shariatnia/OpenAI-CLIP/issues/16",
    classes=VALUE,
)
class SoftTargets(Clip):
    def worth(self, s: Array, board: Board) -> Array:
        xp, n = self.xp, s.shape[0]
        image, text = self.embedded("image"), self.embedded("text")
        alike = (self.inner(image, image) + self.inner(text, text)) / 2.0 / self.tau()
        target = xp.exp(alike - self.logsumexp(alike, self.everything(n, n))[0][:, None])
        whole = self.logsumexp(s, board.positive | board.negative)[0]
        return xp.sum(target * (whole[:, None] - s[:, :n]), axis=1)


@mutant(
    "clip.scale-clamped",
    "The scale 1 / temperature is clamped to 100 inside the loss: temperatures below 0.01 have no effect.",
    means="1 / temperature clamped to 100",
    seen="https://github.com/openai/CLIP/issues/46",
    classes=("value", "gradient", "temperature gradient"),
)
class ScaleClamped(Clip):
    def tau(self) -> Array:
        tau = super().tau()
        return self.xp.where(tau < 0.01, self.xp.full_like(tau, 0.01), tau)


@mutant(
    "clip.text-alone-scaled",
    "The temperature divides the logits of one direction only: the transpose was taken before it.",
    means="the temperature left out of the direction text to image",
    classes=VALUE,
)
class OneScaled(Clip):
    def boards(self) -> list[Board]:
        self.first_board, second = super().boards()
        return [self.first_board, second]

    def scaled(self, board: Board) -> Array:
        return super().scaled(board) if board is self.first_board else self.less_margin(board)


@mutant(
    "clip.second-direction-detached",
    "The direction text to image reuses logits from which no gradient flows.",
    means="the direction text to image detached",
    classes=("gradient", "temperature gradient", "masks", "variants"),
)
class SecondDetached(Clip):
    def join(self, directions: list[Array]) -> Array:
        return super().join([directions[0], constant(directions[1])])


@mutant(
    "clip.mask-not-transposed",
    "The mask of image x text is read as text x image in the second direction.",
    means="the mask not transposed for text to image",
    classes=("masks", "precise"),
)
class MaskNotTransposed(Clip):
    def board(self, rows: Array, candidates: Array, explicit: str, kept: Array) -> Board:
        return super().board(rows, candidates, explicit, kept.T if explicit == "negative_images" else kept)


@mutant(
    "clip.mask-one-way",
    "The mask takes texts from images, and not images from texts.",
    means="the mask left out of the direction text to image",
    classes=("masks", "precise"),
)
class MaskOneWay(Clip):
    def board(self, rows: Array, candidates: Array, explicit: str, kept: Array) -> Board:
        there = explicit == "negative_texts"
        return super().board(rows, candidates, explicit, kept if there else self.everything(*kept.shape))


@mutant(
    "clip.negatives-ignored",
    "Hard negatives are accepted and not used.",
    means="hard negatives left out",
    seen="https://github.com/nomic-ai/contrastors/issues/48",
    classes=("negatives", "masks"),
)
class NegativesIgnored(Clip):
    def prepare(self) -> None:
        self.negative_texts = self.negative_images = None


@mutant(
    "clip.negatives-both-ways",
    "Hard negative texts also stand among the images that a text chooses from.",
    means="hard negative texts in both directions",
    classes=("negatives", "masks"),
)
class NegativesBothWays(Clip):
    def board(self, rows: Array, candidates: Array, explicit: str, kept: Array) -> Board:
        board, texts = super().board(rows, candidates, explicit, kept), self.negative_texts
        if explicit == "negative_texts" or texts is None:
            return board
        more = self.inner(rows, self.embedded("negative_texts"))
        sims, none = self.xp.concat([board.sims, more], axis=1), self.everything(*more.shape)
        positive = self.xp.concat([board.positive, ~none], axis=1)
        return Board(sims, positive, self.xp.concat([board.negative, none], axis=1))


@mutant(
    "clip.negatives-exchanged",
    "Hard negative texts are given to the texts and images to the images, where each side has some.",
    means="hard negatives exchanged between the directions",
    classes=("negatives", "edges"),
)
class NegativesExchanged(Clip):
    def boards(self) -> list[Board]:
        self.negative_texts, self.negative_images = self.negative_images, self.negative_texts
        return super().boards()


# --- siglip ----------------------------------------------------------------------------------------------------------


@mutant(
    "siglip.mean-over-pairs",
    "The mean over all N x N pairs, not over images: N times smaller.",
    means="the mean over all pairs",
    classes=VALUE,
)
class MeanOverPairs(SigLip):
    def mean(self, each: Array, weight: Array) -> Array:
        return super().mean(each, weight) / each.shape[0]


@mutant(
    "siglip.labels-turned",
    "The sign of the labels is turned: matching pairs are pushed apart, the others pulled together.",
    means="the sign of the labels turned",
    seen="https://github.com/illuin-tech/colpali/pull/382",
    classes=VALUE,
)
class LabelsTurned(SigLip):
    def worth(self, s: Array, board: Board) -> Array:
        z = s + self.scalar(self.bias)
        z = self.xp.where(board.positive, z, -z)
        return self.xp.sum(self.softplus(z, board.positive | board.negative), axis=1)


@mutant(
    "siglip.labels-0-or-1",
    "Labels 0 for pairs that don't match, where -1 is meant: each of them adds log 2, whatever its logit is.",
    means="label 0 in place of -1",
    classes=VALUE,
)
class LabelsZero(SigLip):
    def worth(self, s: Array, board: Board) -> Array:
        z = s + self.scalar(self.bias)
        z = self.xp.where(board.positive, -z, 0.0 * z)
        return self.xp.sum(self.softplus(z, board.positive | board.negative), axis=1)


@mutant(
    "siglip.bias-taken-off",
    "The bias is taken off the logits, not added.",
    means="the bias's sign turned",
    classes=("value", "gradient", "temperature gradient", "variants"),
)
class BiasTakenOff(SigLip):
    def scalar(self, value: Any) -> Array:
        return -super().scalar(value) if value is self.bias else super().scalar(value)


@mutant(
    "siglip.bias-divided",
    "The bias is added to the similarities, and divided by the temperature with them.",
    means="the bias divided by the temperature",
    classes=("value", "gradient", "temperature gradient", "variants"),
)
class BiasDivided(SigLip):
    def scalar(self, value: Any) -> Array:
        return super().scalar(value) / self.tau() if value is self.bias else super().scalar(value)


@mutant(
    "siglip.bias-left-out",
    "No bias: sigmoids of the scaled similarities.",
    means="the bias left out",
    seen="open-clip-torch 3.3.0 (SigLipLoss without logit_bias, its default), by design",
    classes=("value", "gradient", "temperature gradient", "variants"),
)
class BiasLeftOut(SigLip):
    def scalar(self, value: Any) -> Array:
        return 0.0 * super().scalar(value) if value is self.bias else super().scalar(value)


@mutant(
    "siglip.bias-detached",
    "The bias has no gradient.",
    means="the bias detached",
    classes=("temperature gradient", "variants"),
)
class BiasDetached(SigLip):
    def scalar(self, value: Any) -> Array:
        return constant(super().scalar(value)) if value is self.bias else super().scalar(value)


@mutant(
    "siglip.softplus-threshold",
    "softplus(x) is cut off to x above 20, a common default: 2e-9 off, which float64 sees and float32 doesn't.",
    means="softplus(x) cut off to x above 20",
    seen="https://github.com/apache/tvm/pull/20212",
    wrong_in=("float64",),
    classes=("variants",),
    single="only logits far below the bias see it, and those are variants",
)
class SoftplusThreshold(SigLip):
    def softplus(self, x: Array, some: Array) -> Array:
        return self.xp.where(some & (x > 20.0), x, super().softplus(x, some))


@mutant(
    "siglip.log-of-sigmoid",
    "log(sigmoid(x)) in two steps: -inf where the sigmoid is 0.",
    means="log(sigmoid(x)) in two steps",
    classes=VALUE,
)
class LogOfSigmoid(SigLip):
    def softplus(self, x: Array, some: Array) -> Array:
        value = -self.xp.log(1.0 / (1.0 + self.xp.exp(x)))
        return self.xp.where(some, value, self.xp.zeros_like(value))


@mutant(
    "siglip.both-directions",
    "The loss of images and the loss of texts are added: every pair counts twice.",
    means="every pair counted twice",
    classes=VALUE,
)
class BothDirections(SigLip):
    def mean(self, each: Array, weight: Array) -> Array:
        return 2.0 * super().mean(each, weight)


@mutant(
    "siglip.softmax",
    "A softmax over the texts of an image: CLIP's direction image to text, the bias without effect.",
    means="a softmax in place of sigmoids",
    classes=VALUE,
)
class Softmax(SigLip):
    def worth(self, s: Array, board: Board) -> Array:
        return super(SigLip, self).worth(s, board)


@mutant(
    "siglip.masked-log-2",
    "Masked pairs get the logit 0 and stay in the sum: each adds log 2.",
    means="log 2 for each masked pair",
    classes=("masks",),
    single=MASK,
)
class MaskedLogTwo(SigLip):
    def worth(self, s: Array, board: Board) -> Array:
        masked = self.xp.astype(~(board.positive | board.negative), s.dtype)
        return super().worth(s, board) + self.xp.sum(masked, axis=1) * 0.6931471805599453


@mutant(
    "siglip.mask-positive-too",
    "The mask takes matching pairs out as well, where it is False there.",
    means="the mask takes matching pairs out as well",
    classes=("masks",),
    single=MASK,
)
class MaskPositiveToo(SigLip):
    def softplus(self, x: Array, some: Array) -> Array:
        return super().softplus(x, some & self.kept(*x.shape))
