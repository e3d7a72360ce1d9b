"""Mistakes that any loss can have, each shown on some: exp without a shift, floors, dtypes, detached sides.

A mistake is a mixin, put in front of the textbook steps of each loss that it is entered for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from infonce_ref.conformance.mutants.family.textbook import TEXTBOOKS, Board, Family
from infonce_ref.conformance.mutants.record import FULL, HALF, mutant
from infonce_ref.conformance.mutants.textbook import Array, constant, dtype_of, straight_through

VALUE = ("value", "gradient")
EDGES = "ordinary rows are right: only zero rows, and norms near the ends of a format, see it"


def slug(loss: str) -> str:
    """The loss in a mutant's id: n-pair, logits."""
    return {"info_nce_from_logits": "logits"}.get(loss, loss.replace("_", "-"))


def on(
    losses: Mapping[str, tuple[str, ...]],
    name: str,
    story: str,
    *,
    means: str,
    seen: Mapping[str, str] = {},
    elsewhere: str = "",
    wrong_in: tuple[str, ...] = FULL,
    single: str = "",
) -> Callable[[type[Family]], type[Family]]:
    """Enter a mixin for each loss, with the classes of check that must catch it there."""

    def enter(mixin: type[Family]) -> type[Family]:
        for loss, classes in losses.items():
            steps: type[Family] = type(mixin.__name__, (mixin, TEXTBOOKS[loss]), {})
            why = single if len(classes) == 1 else ""
            here = seen.get(loss, "")
            entry = mutant(
                f"{slug(loss)}.{name}", story, means=means, seen=here, elsewhere="" if here else elsewhere,
                wrong_in=wrong_in, classes=classes, single=why,
            )  # fmt: skip
            entry(steps)
        return mixin

    return enter


@on(
    dict.fromkeys(("nt_xent", "dcl", "mil_nce", "sup_con", "gte", "n_pair", "info_nce_from_logits"), VALUE),
    "no-shift",
    "exp of logits as they are: overflow at low temperatures or large norms.",
    means="exp without a shift",
    elsewhere="https://github.com/Lightning-Universe/lightning-bolts/issues/811",
    seen={
        "nt_xent": "https://github.com/Lightning-Universe/lightning-bolts/issues/811",
        "gte": "https://github.com/huggingface/sentence-transformers/issues/2774",
    },
)
class NoShift(Family):
    def logsumexp(self, s: Array, keep: Array) -> tuple[Array, Array]:
        xp, some = self.xp, self.xp.any(keep, axis=1)
        total = xp.sum(xp.where(keep, xp.exp(s), xp.zeros_like(s)), axis=1)
        return xp.log(xp.where(some, total, xp.ones_like(total))), some

    def relative(self, s: Array, board: Board) -> Array:
        return s


@on(
    dict.fromkeys(("nt_xent", "mil_nce", "info_nce_from_logits"), VALUE),
    "log-eps",
    "-log(p + 1e-8): the loss saturates at 18.4, and its gradient vanishes where it matters most.",
    means="-log(p + 1e-8)",
    elsewhere="https://github.com/HKUDS/LightGCL/issues/10",
    seen={"nt_xent": "a package measured, whose loss saturates at 87.3 in float32"},
)
class LogEps(Family):
    def softplus(self, x: Array, some: Array) -> Array:
        return -self.xp.log(self.xp.exp(-super().softplus(x, some)) + 1e-8)


@on(
    dict.fromkeys(("clip", "nt_xent", "gte", "sup_con", "siglip"), VALUE),
    "not-normalised",
    "No normalisation where the cosine is asked for: it is left to the caller.",
    means="nothing normalised",
    elsewhere="https://github.com/moein-shariatnia/OpenAI-CLIP/issues/16",
    seen={
        "clip": "https://github.com/moein-shariatnia/OpenAI-CLIP/issues/16",
        "sup_con": "https://github.com/HobbitLong/SupContrast/issues/100",
        "siglip": "open-clip-torch 3.3.0 (SigLipLoss), by design",
    },
)
class NotNormalised(Family):
    def unit(self, x: Array) -> Array:
        return x


@on(
    dict.fromkeys(("clip", "nt_xent", "dcl", "sup_con", "moco", "siglip"), ("edges",)),
    "floor-1e-12",
    "A floor of 1e-12 under the norm: right on ordinary rows; a zero row's gradient is 1e12, huge rows overflow.",
    means="a floor of 1e-12 under the norm",
    seen=dict.fromkeys(
        ("clip", "nt_xent", "dcl", "sup_con", "moco", "siglip"), "https://github.com/pytorch/pytorch/issues/184575"
    ),
    single=EDGES,
)
class Floor(Family):
    def unit(self, x: Array) -> Array:
        norm = self.xp.sqrt(self.xp.sum(x * x, axis=-1, keepdims=True))
        return x / self.xp.where(norm < 1e-12, self.xp.full_like(norm, 1e-12), norm)


@on(
    dict.fromkeys(("dcl", "hard_negative", "soft_nce", "siglip", "triplet"), VALUE),
    "float32-inside",
    "float64 input is computed in float32 and handed back as float64.",
    means="float64 computed in float32",
    elsewhere="https://github.com/tensorflow/tensorflow/issues/39878",
    wrong_in=("float64",),
)
class Float32Inside(Family):
    @property
    def compute(self) -> Any:
        return self.xp.float32

    def loss(self) -> Array:
        loss = super().loss()
        return self.xp.astype(loss, self.xp.float64) if dtype_of(self.first) == "float64" else loss


@on(
    dict.fromkeys(("clip", "debiased", "mil_nce", "sup_con", "siglip", "moco"), ("half", "dtype")),
    "half-computed",
    "Half-precision input is computed in half precision.",
    means="half precision computed in half precision",
    elsewhere="open-clip-torch 3.3.0 (ClipLoss), measured",
    seen={
        "clip": "open-clip-torch 3.3.0 (ClipLoss), measured",
        "siglip": "open-clip-torch 3.3.0 (SigLipLoss), measured",
        "sup_con": "pytorch-metric-learning 2.9.0 (SupConLoss), measured",
    },
    wrong_in=HALF,
)
class ComputedInHalf(Family):
    @property
    def compute(self) -> Any:
        return self.first.dtype


@on(
    {
        **dict.fromkeys(("gte", "soft_nce", "siglip"), ("temperature gradient", "masks", "variants")),
        **dict.fromkeys(("debiased", "dcl"), ("temperature gradient", "masks", "variants")),
    },
    "temperature-detached",
    "The temperature is read out as a number: a learnt one never moves.",
    means="the temperature detached",
    elsewhere="https://github.com/HKUDS/GraphGPT/issues/31",
)
class TemperatureDetached(Family):
    def tau(self) -> Array:
        return constant(super().tau())


@on(
    dict.fromkeys(("mil_nce", "hard_negative"), ("temperature gradient", "masks", "variants")),
    "temperature-sign",
    "The gradient of 1 / temperature in place of the temperature's, its sign with it.",
    means="the sign of the temperature's gradient turned",
)
class TemperatureSign(Family):
    def tau(self) -> Array:
        tau = super().tau()
        return straight_through(tau, -tau)


@on(
    dict.fromkeys(("clip", "nt_xent", "siglip", "gte"), ("variants",)),
    "weights-over-n",
    "The weighted mean is divided by the number of entries, not by the sum of the weights.",
    means="the weighted mean divided by N",
    elsewhere="https://github.com/sb-ai-lab/RePlay/issues/91",
    single="only a call with sample_weight sees it, and those are variants",
)
class WeightsOverN(Family):
    def mean(self, each: Array, weight: Array) -> Array:
        return self.xp.sum(weight * each) / each.shape[0]


@on(
    {
        **dict.fromkeys(("gte", "siglip", "n_pair", "triplet", "debiased"), ("masks",)),
        "soft_nce": ("masks", "edges"),
    },
    "mask-ignored",
    "The mask is accepted and not looked at.",
    means="the mask ignored",
    single="only a call with a mask sees it, and those are masks",
)
class MaskIgnored(Family):
    def kept(self, *shape: int) -> Array:
        return self.everything(*shape)


@on(
    {"nt_xent": ("masks", "precise"), **dict.fromkeys(("hard_negative", "sup_con", "gte"), ("masks",))},
    "mask-across",
    "The mask is read as candidate x anchor, where it is square.",
    means="the mask read as candidate x anchor",
    single="only a call with a mask sees it, and those are masks",
)
class MaskAcross(Family):
    def kept(self, *shape: int) -> Array:
        kept = super().kept(*shape)
        if shape[0] == shape[1]:
            return kept.T
        n = shape[0]  # gte's four blocks, each on its own
        return self.xp.concat([kept[:, i : i + n].T for i in range(0, shape[1], n)], axis=1)


class MaskPositiveToo(Family):
    """Where its mask is False a positive stands in no denominator."""

    def boards(self) -> list[Board]:
        (board,) = super().boards()
        self.own = self.xp.any(board.positive & self.kept(*board.sims.shape), axis=1)
        return [board]

    def softplus(self, x: Array, some: Array) -> Array:
        return self.xp.where(self.own, super().softplus(x, some), self.xp.where(some, x, self.xp.zeros_like(x)))


on(
    dict.fromkeys(("nt_xent", "gte", "n_pair", "info_nce_from_logits"), ("masks",)),
    "mask-positive-too",
    "The mask takes the positive out of the denominator as well, where it is False there.",
    means="the mask takes the positive out as well",
    single="only a call with a mask sees it, and those are masks",
)(MaskPositiveToo)


@on(
    {
        **dict.fromkeys(("nt_xent", "gte", "mil_nce", "n_pair"), ("value", "gradient")),
        "info_nce_from_logits": ("value", "gradient", "variants"),
    },
    "no-positive",
    "The positive is left out of the denominator: decoupled contrastive learning's loss, which can be negative.",
    means="the positive left out of the denominator (DCL)",
    elsewhere="https://github.com/MIDA-group/CoMIR/issues/51",
    seen={"nt_xent": "GraphCL, by design"},
)
class NoPositive(Family):
    def softplus(self, x: Array, some: Array) -> Array:
        return self.xp.where(some, x, self.xp.zeros_like(x))


@on(
    {
        **dict.fromkeys(("clip", "moco", "mil_nce", "sup_con"), ("variants",)),
        "info_nce_from_logits": ("variants", "masks"),
    },
    "margin-after-temperature",
    "The margin comes off the logit, after the division by the temperature: the reading of additive-margin softmax.",
    means="the margin taken off after the division by the temperature",
    elsewhere="Yang et al. 2019 (additive-margin softmax), by design",
    seen={"clip": "Yang et al. 2019 (additive-margin softmax), by design"},
    single="only a call with a margin sees it, and those are variants",
)
class MarginAfterTemperature(Family):
    def less_margin(self, board: Board) -> Array:
        zero = self.xp.zeros_like(board.sims)
        return board.sims - self.xp.where(board.positive, self.scalar(self.margin) * self.tau(), zero)


@on(
    {"nt_xent": ("variants", "masks"), **dict.fromkeys(("gte", "sup_con", "dcl"), ("variants",))},
    "margin-on-all",
    "The margin comes off every candidate, negatives too: a shift, which changes nothing but a DCL's weights.",
    means="the margin taken off negatives too",
    single="only a call with a margin sees it, and those are variants",
)
class MarginOnAll(Family):
    def less_margin(self, board: Board) -> Array:
        return board.sims - self.scalar(self.margin)


class Detached(Family):
    """One argument has no gradient."""

    detached: str

    def embed(self, x: Array, name: str) -> Array:
        return super().embed(constant(x) if name == self.detached else x, name)


@on(
    dict.fromkeys(("clip", "siglip"), ("gradient", "masks", "variants")),
    "image-detached",
    "Images are constants, as those of a locked image tower are.",
    means="images detached",
    elsewhere="locked-image tuning (Zhai et al. 2022), by design",
    seen={"clip": "locked-image tuning (Zhai et al. 2022), by design"},
)
class ImageDetached(Detached):
    detached = "image"


@on(
    dict.fromkeys(("nt_xent", "dcl", "debiased", "hard_negative"), ("gradient", "masks", "variants")),
    "view-b-detached",
    "The second view is a constant, as a momentum encoder's is.",
    means="view_b detached",
    elsewhere="https://github.com/lorenmt/reco/issues/30",
)
class ViewDetached(Detached):
    detached = "view_b"


@on(
    dict.fromkeys(("moco", "n_pair", "triplet"), ("gradient", "variants")),
    "keys-detached",
    "Keys are constants, in a loss that gives gradients to both sides.",
    means="positive keys detached",
    elsewhere="https://github.com/lorenmt/reco/issues/30",
    seen={"moco": "https://github.com/facebookresearch/moco, by design"},
)
class KeysDetached(Detached):
    detached = "positive_key"


@on(
    dict.fromkeys(("gte",), ("gradient", "masks", "variants")),
    "document-detached",
    "Documents are constants: the index is frozen.",
    means="documents detached",
    elsewhere="https://github.com/lorenmt/reco/issues/30",
)
class DocumentDetached(Detached):
    detached = "document"


@on(
    {"soft_nce": ("gradient", "masks"), "sup_con": ("negatives", "masks")},
    "keys-detached",
    "Keys are constants, as a bank's are.",
    means="keys detached",
    elsewhere="https://github.com/lorenmt/reco/issues/30",
)
class BankDetached(Detached):
    detached = "keys"


@on(
    dict.fromkeys(("mil_nce",), ("gradient", "masks", "variants")),
    "bags-detached",
    "Positive bags are constants: the text encoder is frozen.",
    means="bags detached",
    elsewhere="https://github.com/lorenmt/reco/issues/30",
)
class BagsDetached(Detached):
    detached = "positive_bags"


@on(
    dict.fromkeys(("clip", "nt_xent", "sup_con", "siglip"), ("gradient", "temperature gradient", "masks", "variants")),
    "gradient-half",
    "Half the gradient: averaged over two processes of which each has only its own part.",
    means="half the gradient",
    elsewhere="open-clip-torch 3.3.0 (measured on two processes, defaults)",
    seen={
        "clip": "open-clip-torch 3.3.0 (measured on two processes, defaults)",
        "nt_xent": "SLIP (measured on two processes)",
    },
)
class GradientHalf(Family):
    def reduce(self, each: Array) -> Array:
        loss = super().reduce(each)
        return straight_through(loss, 0.5 * loss)


@on(
    dict.fromkeys(("gte", "mil_nce", "soft_nce", "siglip", "triplet"), ("variants",)),
    "reduction-ignored",
    "`reduction` is accepted and not looked at: always the mean.",
    means="`reduction` ignored: always the mean",
    elsewhere="https://github.com/pytorch/pytorch/issues/17347",
)
class ReductionIgnored(Family):
    def reduce(self, each: Array) -> Array:
        return self.mean(each, self.weights(each))


@on(
    dict.fromkeys(
        ("info_nce_from_logits", "dcl", "debiased", "hard_negative", "soft_nce", "sup_con", "triplet", "mil_nce"),
        ("errors",),
    ),
    "unchecked",
    "Nothing is checked: whatever broadcasts gives a number.",
    means="bad arguments computed with",
    elsewhere="info-nce-pytorch 0.1.4",
    wrong_in=("float32",),
    single="everything sound is right; only input that must be refused sees it",
)
class Unchecked(Family):
    def check(self) -> None:
        pass
