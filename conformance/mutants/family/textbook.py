"""Every other loss by the book: who stands in which softmax, and what its row is worth.

A loss says its boards (all its rows against all their candidates, who is positive and who negative) and what a row of
logits is worth; the rest is the same for all. Right as it stands, as info_nce's textbook is.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from infonce_ref.conformance.family import IN_BATCH_OR_NOT, KINDS, LOSSES
from infonce_ref.conformance.mutants.textbook import FLOATS, Array, Steps, allow, constant, dtype_of
from infonce_ref.conformance.problem import FORMATS

DEFAULTS: Mapping[str, Any] = {"temperature": 0.1, "margin": 0.0, "bias": -10.0}

# The arguments' shapes; a letter stands for one number of a call, and only M may be 0.
VIEWS = {"view_a": "N D", "view_b": "N D", "candidate_mask": "2N 2N", "sample_weight": "2N"}
SHAPES: Mapping[str, Mapping[str, str]] = {
    "info_nce_from_logits": {"logits": "N C", "positive_index": "N", "candidate_mask": "N C", "sample_weight": "N"},
    "n_pair": {"query": "N D", "positive_key": "N D", "candidate_mask": "N N", "sample_weight": "N"},
    "moco": {"query": "N D", "positive_key": "N D", "queue": "M D", "sample_weight": "N"},
    "triplet": {
        "query": "N D", "positive_key": "N D", "negative_keys": "M D | N M D", "candidate_mask": "N C",
        "sample_weight": "N",
    },
    "clip": {
        "image": "N D", "text": "N D", "negative_texts": "M D | N M D", "negative_images": "K D | N K D",
        "candidate_mask": "N N", "sample_weight": "N",
    },
    "siglip": {"image": "N D", "text": "N D", "candidate_mask": "N N", "sample_weight": "N"},
    "nt_xent": VIEWS,
    "dcl": VIEWS,
    "debiased": VIEWS,
    "hard_negative": VIEWS,
    "gte": {"query": "N D", "document": "N D", "candidate_mask": "N 4N", "sample_weight": "N"},
    "mil_nce": {"query": "N D", "positive_bags": "N B D", "candidate_mask": "N N B", "sample_weight": "N"},
    "soft_nce": {"query": "N D", "keys": "K D", "targets": "N K", "candidate_mask": "N K", "sample_weight": "N"},
    "sup_con": {
        "features": "B D", "labels": "B", "keys": "K D", "key_labels": "K", "candidate_mask": "B C",
        "sample_weight": "B",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Board:
    """A row for each anchor, a column for each candidate."""

    sims: Array  # (R, C)
    positive: Array  # bool, as are those below
    negative: Array


class Family(Steps):
    """One call of a loss; `loss` is the order of the steps."""

    margin: Any = 0.0
    candidate_mask: Array | None = None

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)
        self.first = given[LOSSES[self.name].arrays[0]]
        self.xp = array_namespace(self.first)
        self.counted: Array | None = None

    @classmethod
    def signature(cls) -> inspect.Signature:
        """The arrays in order, then everything else by keyword."""
        loss = LOSSES[cls.name]
        keywords = {
            **dict.fromkeys(loss.optional),
            **{name: DEFAULTS[name] for name in loss.scalars},
            **dict.fromkeys(loss.required, inspect.Parameter.empty),
            **loss.options,
            **({"in_batch_negatives": True} if cls.name in IN_BATCH_OR_NOT else {}),
            **({"similarity": loss.similarities[0]} if len(loss.similarities) > 1 else {}),
            "reduction": "mean",
        }
        arrays = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in loss.arrays]
        named = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=value) for n, value in keywords.items()]
        return inspect.Signature([*arrays, *named])

    def loss(self) -> Array:
        self.prepare()
        self.check()
        boards = self.boards()
        self.counted = self.counts(boards[0])
        return self.reduce(self.join([self.worth(self.scaled(board), board) for board in boards]))

    def prepare(self) -> None:
        """Nothing, by the book: where the arguments could still be read as others."""

    # --- refusals -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        self.check_numbers()
        self.check_dtypes()
        self.check_shapes()
        self.check_words()

    def check_numbers(self) -> None:
        for name in LOSSES[self.name].scalars:
            value = getattr(self, name)
            if isinstance(value, int | float):
                allow(math.isfinite(value) and (name != "temperature" or value > 0), f"{name} must be finite, or > 0")

    def check_dtypes(self) -> None:
        stored = dtype_of(self.first)
        allow(stored in FLOATS, "embeddings must be of a floating dtype", TypeError)
        allowed = {
            "embedding": (stored,),
            "mask": ("bool",),
            "integer": ("int8", "int16", "int32", "int64"),
        }
        beside = (stored, "float64" if stored == "float64" else "float32")
        for name, x in self.arrays().items():
            allow(dtype_of(x) in allowed.get(KINDS[name], beside), f"{name} is of a wrong dtype", TypeError)

    def check_shapes(self) -> None:
        sizes: dict[str, int] = {}
        for name, x in self.arrays().items():
            wanted = SHAPES[self.name][name]
            allow(any(fits(tuple(x.shape), option, sizes) for option in wanted.split(" | ")), f"{name} isn't {wanted}")

    def check_words(self) -> None:
        known = LOSSES[self.name].similarities
        allow(len(known) < 2 or self.similarity in known, "unknown similarity")
        allow(self.reduction in ("mean", "sum", "none"), "unknown reduction")

    def arrays(self) -> dict[str, Array]:
        """The arrays of this call."""
        loss = LOSSES[self.name]
        return {name: getattr(self, name) for name in (*loss.arrays, *loss.optional) if getattr(self, name) is not None}

    # --- who is who -----------------------------------------------------------------------------------------------

    def boards(self) -> list[Board]:
        """One a direction."""
        raise NotImplementedError

    def embedded(self, name: str) -> Array:
        """The rows of an argument, normalised if need be."""
        return self.embed(self.cast(getattr(self, name)), name)

    def eye(self, rows: int, columns: int | None = None) -> Array:
        return self.numbers(rows)[:, None] == self.numbers(columns or rows)[None, :]

    def kept(self, *shape: int) -> Array:
        """What the mask leaves."""
        mask = self.candidate_mask
        return self.everything(*shape) if mask is None else mask

    def everything(self, *shape: int) -> Array:
        return self.xp.ones(shape, dtype=self.xp.bool)

    def counts(self, board: Board) -> Array | None:
        """Which rows count in the mean: all, if None."""
        return None

    # --- logits, rows, reduction ----------------------------------------------------------------------------------

    def scaled(self, board: Board) -> Array:
        return self.less_margin(board) / self.tau()

    def less_margin(self, board: Board) -> Array:
        zero = self.xp.zeros_like(board.sims)
        return board.sims - self.xp.where(board.positive, self.scalar(self.margin), zero)

    def worth(self, s: Array, board: Board) -> Array:
        """softplus(ν − π), the logits taken relative to the largest positive's."""
        s = self.relative(s, board)
        nu, some = self.logsumexp(s, board.negative)
        return self.softplus(nu - self.logsumexp(s, board.positive)[0], some)

    def relative(self, s: Array, board: Board) -> Array:
        """Tiny losses stay what they are: no large number is added and taken off again."""
        low = self.xp.full_like(s, -math.inf)
        top = self.xp.max(self.xp.where(board.positive, constant(s), low), axis=1, keepdims=True)
        return s - self.xp.where(self.xp.any(board.positive, axis=1)[:, None], top, self.xp.zeros_like(top))

    def join(self, directions: list[Array]) -> Array:
        """The mean of the directions."""
        total = directions[0]
        for each in directions[1:]:
            total = total + each
        return total / len(directions) if len(directions) > 1 else total

    def weights(self, each: Array) -> Array:
        weight = super().weights(each)
        return weight if self.counted is None else self.xp.where(self.counted, weight, self.xp.zeros_like(weight))


def fits(shape: tuple[int, ...], wanted: str, sizes: dict[str, int]) -> bool:
    """Whether a shape is as wanted; a letter that is new takes the length that it meets. Only M may be 0."""
    symbols = wanted.split()
    if len(shape) != len(symbols):
        return False
    return all(_fits(length, symbol, sizes) for length, symbol in zip(shape, symbols, strict=True))


def _fits(length: int, symbol: str, sizes: dict[str, int]) -> bool:
    times = int(symbol[:-1] or 1)
    return length == times * sizes.setdefault(symbol[-1], length // times) and (length > 0 or symbol == "M")


# --- one query, one positive -----------------------------------------------------------------------------------------


class FromLogits(Family):
    name = "info_nce_from_logits"
    logits: Array
    positive_index: Array | None

    def check_shapes(self) -> None:
        super().check_shapes()
        rows, columns = self.logits.shape
        allow(self.positive_index is not None or rows <= columns, "there must be a column for every row")

    def boards(self) -> list[Board]:
        rows, columns = self.logits.shape
        positive = self.numbers(columns)[None, :] == self.index()[:, None]
        negative = ~positive & self.kept(rows, columns)
        given = self.cast(self.logits)
        return [Board(self.cleared_entries(given, positive | negative), positive, negative)]

    def index(self) -> Array:
        return self.numbers(self.first.shape[0]) if self.positive_index is None else self.positive_index

    def cleared_entries(self, x: Array, used: Array) -> Array:
        """Logits that nobody uses may be anything."""
        return self.xp.where(used, x, self.xp.zeros_like(x))

    def worth(self, s: Array, board: Board) -> Array:
        value = super().worth(s, board)
        return self.xp.where(self.xp.any(board.positive, axis=1), value, self.xp.full_like(value, math.nan))


class NPair(Family):
    name = "n_pair"
    similarity = "dot"

    def boards(self) -> list[Board]:
        q, k = self.embedded("query"), self.embedded("positive_key")
        positive = self.eye(q.shape[0])
        return [Board(self.inner(q, k), positive, ~positive & self.kept(*positive.shape))]


class Moco(Family):
    name = "moco"
    queue: Array

    def boards(self) -> list[Board]:
        q, k, queue = self.embedded("query"), self.embedded("positive_key"), self.embedded("queue")
        sims = self.xp.concat([self.xp.sum(q * k, axis=-1)[:, None], self.inner(q, queue)], axis=1)
        positive = self.eye(1, sims.shape[1]) & self.everything(*sims.shape)
        return [Board(sims, positive, ~positive)]


class Triplet(Family):
    name = "triplet"
    query: Array
    negative_keys: Array | None
    in_batch_negatives: bool

    def check_shapes(self) -> None:
        super().check_shapes()
        allow(self.in_batch_negatives or self.negative_keys is not None, "no negatives")
        mask = self.candidate_mask
        allow(mask is None or mask.shape[1] == self.columns, "candidate_mask must be (N, C)")

    @property
    def columns(self) -> int:
        explicit = 0 if self.negative_keys is None else int(self.negative_keys.shape[-2])
        return explicit + self.in_batch_negatives * int(self.query.shape[0])

    def boards(self) -> list[Board]:
        """The positive, then the candidates; among which it stands again if the keys are in the batch."""
        q, k = self.embedded("query"), self.embedded("positive_key")
        n, kept = q.shape[0], self.kept(q.shape[0], self.columns)
        blocks = [self.xp.sum(q * k, axis=-1)[:, None]]
        if self.in_batch_negatives:
            blocks.append(self.inner(q, k))
            kept = self.xp.concat([kept[:, :n] & ~self.eye(n), kept[:, n:]], axis=1)
        if self.negative_keys is not None:
            blocks.append(self.inner(q, self.explicit(kept[:, -self.negative_keys.shape[-2] :])))
        sims = self.xp.concat(blocks, axis=1)
        positive = self.eye(1, sims.shape[1]) & self.everything(*sims.shape)
        return [Board(sims, positive, self.xp.concat([~self.everything(n, 1), kept], axis=1))]

    def explicit(self, used: Array) -> Array:
        keys = self.cast(self.negative_keys)
        return self.embed(self.cleared(keys, used if keys.ndim == 3 else self.xp.any(used, axis=0)), "negative_keys")

    def counts(self, board: Board) -> Array:
        return self.xp.any(board.negative, axis=1)

    def worth(self, s: Array, board: Board) -> Array:
        """The mean over a row's negatives of max(0, s - s_p): the margin is off the positive."""
        xp, hinges = self.xp, self.hinge(s - s[:, :1])
        total = xp.sum(xp.where(board.negative, hinges, xp.zeros_like(s)), axis=1)
        return total / self.divisor(board)

    def hinge(self, gap: Array) -> Array:
        return self.xp.where(gap <= 0, self.xp.zeros_like(gap), gap)

    def divisor(self, board: Board) -> Array:
        count = self.xp.sum(self.xp.astype(board.negative, self.compute), axis=1)
        return self.xp.where(count == 0, self.xp.ones_like(count), count)


# --- two batches that match row by row -------------------------------------------------------------------------------


class Clip(Family):
    name = "clip"
    negative_texts: Array | None
    negative_images: Array | None

    def boards(self) -> list[Board]:
        image, text = self.embedded("image"), self.embedded("text")
        kept = self.kept(image.shape[0], image.shape[0])
        return [self.board(image, text, "negative_texts", kept), self.board(text, image, "negative_images", kept.T)]

    def board(self, rows: Array, candidates: Array, explicit: str, kept: Array) -> Board:
        sims = self.inner(rows, candidates)
        if getattr(self, explicit) is not None:
            more = self.inner(rows, self.embedded(explicit))
            sims = self.xp.concat([sims, more], axis=1)
            kept = self.xp.concat([kept, self.everything(*more.shape)], axis=1)
        positive = self.eye(*sims.shape)
        return Board(sims, positive, ~positive & kept)


class SigLip(Family):
    name = "siglip"
    bias: Any

    def boards(self) -> list[Board]:
        image, text = self.embedded("image"), self.embedded("text")
        positive = self.eye(image.shape[0])
        return [Board(self.inner(image, text), positive, ~positive & self.kept(*positive.shape))]

    def worth(self, s: Array, board: Board) -> Array:
        """Σ_j softplus(−y_ij (s_ij + b))."""
        z = s + self.scalar(self.bias)
        z = self.xp.where(board.positive, -z, z)
        return self.xp.sum(self.softplus(z, board.positive | board.negative), axis=1)


# --- two views of a batch --------------------------------------------------------------------------------------------


class Views(Family):
    """2N rows, each with 2N columns."""

    def boards(self) -> list[Board]:
        z = self.xp.concat([self.embedded("view_a"), self.embedded("view_b")], axis=0)
        positive, self_ = self.partners(z.shape[0]), self.itself(z)
        return [Board(self.inner(z, z), positive, ~positive & ~self_ & self.kept(*positive.shape))]

    def partners(self, rows: int) -> Array:
        """Anchor i's positive is the other view of its pair."""
        number = self.numbers(rows)
        return number[None, :] == ((number + rows // 2) % rows)[:, None]

    def itself(self, z: Array) -> Array:
        return self.eye(z.shape[0])


class NtXent(Views):
    name = "nt_xent"


class Dcl(Views):
    name = "dcl"
    sigma: float | None

    def check_numbers(self) -> None:
        super().check_numbers()
        allow(self.sigma is None or 0 < self.sigma < math.inf, "sigma must be > 0")

    def counts(self, board: Board) -> Array:
        return self.xp.any(board.negative, axis=1)

    def worth(self, s: Array, board: Board) -> Array:
        """ν − w s_p."""
        s_p = self.picked(s, board.positive)
        weight = self.xp.ones_like(s_p) if self.sigma is None else constant(self.pair_weights(board))
        value = self.nu(s, board) - weight * s_p
        return self.xp.where(self.xp.any(board.negative, axis=1), value, self.xp.zeros_like(value))

    def nu(self, s: Array, board: Board) -> Array:
        return self.logsumexp(s, board.negative)[0]

    def pair_weights(self, board: Board) -> Array:
        """(2N,): 2 − N · softmax(sim(a_i, b_i) / σ), the same for both views of a pair."""
        n = board.sims.shape[0] // 2
        own = self.picked(board.sims, board.positive)[:n] / self.sigma
        share = self.xp.exp(own - self.xp.max(own))
        weight = 2.0 - n * share / self.xp.sum(share)
        return self.xp.concat([weight, weight])


class Debiased(Views):
    name = "debiased"
    prior: float
    beta: float = 0.0

    def check_numbers(self) -> None:
        super().check_numbers()
        allow(0 <= self.prior < 1, "prior must be in 0 … 1")
        allow(0 <= self.beta < math.inf, "beta must be at least 0")

    def worth(self, s: Array, board: Board) -> Array:
        s_p = self.picked(s, board.positive)
        some = self.xp.any(board.negative, axis=1)
        return self.softplus(self.size(board) + self.corrected(self.hardness(s, board), s_p) - s_p, some)

    def size(self, board: Board) -> Array:
        """log M_i."""
        count = self.xp.sum(self.xp.astype(board.negative, self.compute), axis=1)
        return self.xp.log(self.xp.where(count == 0, self.xp.ones_like(count), count))

    def hardness(self, s: Array, board: Board) -> Array:
        """log of the mean of e^s over the negatives, each weighing e^(βs)."""
        if self.beta == 0:
            return self.logsumexp(s, board.negative)[0] - self.size(board)
        above = self.logsumexp((1.0 + self.beta) * s, board.negative)[0]
        return above - self.logsumexp(self.beta * s, board.negative)[0]

    def corrected(self, mean: Array, s_p: Array) -> Array:
        """log of (mean − prior · e^s_p) / (1 − prior), or its floor."""
        if self.prior == 0:
            return mean
        c = math.log(self.prior) + s_p - mean
        lost = c >= 0
        data = mean + self.xp.log(-self.xp.expm1(self.xp.where(lost, -self.xp.ones_like(c), c)))
        return self.floored(data - math.log1p(-self.prior), lost)

    def floored(self, data: Array, lost: Array) -> Array:
        """`data`, but the floor where that is below it or lost."""
        if self.similarity != "cosine":
            return self.xp.where(lost, self.xp.full_like(data, math.nan), data)
        low = self.floor() + self.xp.zeros_like(data)
        return self.xp.where(lost | (data < low), low, data)

    def floor(self) -> Array:
        return -1.0 / self.tau()


class HardNegative(Debiased):
    name = "hard_negative"


# --- more in one softmax ---------------------------------------------------------------------------------------------


class Gte(Family):
    name = "gte"

    def boards(self) -> list[Board]:
        q, d = self.embedded("query"), self.embedded("document")
        n = q.shape[0]
        sims = self.xp.concat([self.inner(q, d), self.inner(q, q), self.inner(d, q), self.inner(d, d)], axis=1)
        return [Board(sims, self.eye(n, 4 * n), self.others(n) & self.kept(n, 4 * n))]

    def others(self, n: int) -> Array:
        return self.xp.concat([~self.eye(n)] * 4, axis=1)


class MilNce(Family):
    name = "mil_nce"
    positive_bags: Array
    symmetric: bool

    def boards(self) -> list[Board]:
        n, size, _ = self.positive_bags.shape
        q, bags = self.embedded("query"), self.embedded("positive_bags")
        sims = self.xp.reshape(self.inner(q, self.xp.reshape(bags, (n * size, -1))), (n, n, size))
        kept = self.kept(n, n, size)
        boards = [self.board(sims, kept)]
        if self.symmetric:
            boards.append(self.board(self.turned(sims), self.turned(kept)))
        return boards

    def turned(self, x: Array) -> Array:
        """Row i: its own bag against all queries."""
        return self.xp.permute_dims(x, (1, 0, 2))

    def board(self, sims: Array, kept: Array) -> Board:
        flat = (sims.shape[0], -1)
        own = self.eye(sims.shape[0])[:, :, None] & self.everything(*sims.shape)
        return Board(*(self.xp.reshape(x, flat) for x in (sims, own, ~own & kept)))


class SoftNce(Family):
    name = "soft_nce"
    keys: Array
    targets: Array

    def boards(self) -> list[Board]:
        t = self.share()
        kept = self.kept(*t.shape)
        keys = self.cleared(self.cast(self.keys), self.xp.any(kept | (t > 0), axis=0))
        sims = self.inner(self.embedded("query"), self.embed(keys, "keys"))
        return [Board(sims, t > 0, kept & ~(t > 0))]

    def share(self) -> Array:
        return constant(self.cast(self.targets))

    def worth(self, s: Array, board: Board) -> Array:
        """softplus(ν − π), as often as the targets sum to, and Σ_c t_c (π − s_c)."""
        t, s = self.share(), self.relative(s, board)
        nu, some = self.logsumexp(s, board.negative)
        bag = self.softplus(nu - self.logsumexp(s, board.positive)[0], some)
        apart = s + 0.0  # in which two gradients cancel before a tiny one is added
        spread = self.logsumexp(apart, board.positive)[0][:, None] - apart
        value = self.xp.sum(t, axis=1) * bag + self.xp.sum(t * spread, axis=1)
        return self.xp.where(self.is_distribution(t), value, self.xp.full_like(value, math.nan))

    def is_distribution(self, t: Array) -> Array:
        rounding = 4.0 * t.shape[1] * FORMATS[dtype_of(self.first)].unit
        sums = self.xp.abs(self.xp.sum(t, axis=1) - 1.0) <= rounding
        return sums & ~self.xp.any((t < 0) | ((t > 0) & ~self.kept(*t.shape)), axis=1)


class SupCon(Family):
    name = "sup_con"
    labels: Array
    keys: Array | None
    key_labels: Array | None
    variant: str

    def check_shapes(self) -> None:
        super().check_shapes()
        allow((self.keys is None) == (self.key_labels is None), "keys and key_labels go together")
        mask, columns = self.candidate_mask, self.first.shape[0] if self.keys is None else self.keys.shape[0]
        allow(mask is None or mask.shape[1] == columns, "candidate_mask must be (B, B) or (B, K)")

    def check_words(self) -> None:
        super().check_words()
        allow(self.variant in ("out", "in", "sincere"), "unknown variant")

    def boards(self) -> list[Board]:
        features, keys = self.embedded("features"), None
        same = self.labels[:, None] == (self.labels if self.key_labels is None else self.key_labels)[None, :]
        positive = same & ~self.itself(same)
        negative = ~same & self.kept(*same.shape)
        if self.keys is not None:
            used = self.xp.any(positive | negative, axis=0)
            keys = self.embed(self.cleared(self.cast(self.keys), used), "keys")
        return [Board(self.inner(features, features if keys is None else keys), positive, negative)]

    def itself(self, same: Array) -> Array:
        """An anchor is no candidate of its own; among keys it doesn't stand."""
        return self.eye(*same.shape) if self.keys is None else ~self.everything(*same.shape)

    def counts(self, board: Board) -> Array:
        return self.xp.any(board.positive, axis=1)

    def worth(self, s: Array, board: Board) -> Array:
        s = self.relative(s, board)
        value = {"out": self.out, "in": self.in_, "sincere": self.sincere}[self.variant](s, board)
        return self.xp.where(self.xp.any(board.positive, axis=1), value, self.xp.zeros_like(value))

    def out(self, s: Array, board: Board) -> Array:
        pi = self.logsumexp(s, board.positive)[0]
        return self.bag(s, board) + pi - self.mean_of_positives(s, board)

    def in_(self, s: Array, board: Board) -> Array:
        return self.bag(s, board) + self.xp.log(self.positives(board))

    def sincere(self, s: Array, board: Board) -> Array:
        nu, some = self.logsumexp(s, board.negative)
        each = self.softplus(nu[:, None] - s, some[:, None] & board.positive)
        return self.mean_of_positives(each, board)

    def bag(self, s: Array, board: Board) -> Array:
        nu, some = self.logsumexp(s, board.negative)
        return self.softplus(nu - self.logsumexp(s, board.positive)[0], some)

    def mean_of_positives(self, x: Array, board: Board) -> Array:
        total = self.xp.sum(self.xp.where(board.positive, x, self.xp.zeros_like(x)), axis=1)
        return total / self.positives(board)

    def positives(self, board: Board) -> Array:
        """|P_i|, or 1 where there are none."""
        count = self.xp.sum(self.xp.astype(board.positive, self.compute), axis=1)
        return self.xp.where(count == 0, self.xp.ones_like(count), count)


TEXTBOOKS: Mapping[str, type[Family]] = {
    steps.name: steps
    for steps in (
        FromLogits, Clip, NtXent, Dcl, Debiased, HardNegative, Moco, Gte, MilNce, SoftNce, SupCon, SigLip, Triplet,
        NPair,
    )
}  # fmt: skip
