"""info_nce by the book, in Array API style, cut into the steps that a mutant replaces; and what every loss's rest on.

One object is one call. Everything is right as it stands, at the edges too, and gradients are the library's own: what a
suite finds wrong with a subclass is what the subclass replaced.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, ClassVar

from array_api_compat import array_namespace

Array = Any
FLOATS = ("float64", "float32", "float16", "bfloat16")


def constant(x: Array) -> Array:
    """x, through which no gradient flows."""
    return x.detach() if hasattr(x, "detach") else x


def straight_through(value: Array, carrier: Array) -> Array:
    """Worth `value`, with the gradient of `carrier`."""
    return constant(value) + (carrier - constant(carrier))


def dtype_of(x: Array) -> str:
    return str(x.dtype).rpartition(".")[2]


def allow(condition: bool, message: str, error: type[Exception] = ValueError) -> None:
    if not condition:
        raise error(message)


class Steps:
    """What the steps of every loss rest on: arithmetic and reduction."""

    name: ClassVar[str]  # of the loss
    first: Array  # the array that the anchors stand in; its dtype is the call's
    temperature: Any = 1.0
    similarity: str
    sample_weight: Array | None
    reduction: str
    xp: Any

    def __init__(self, **given: Any) -> None:
        raise NotImplementedError

    @classmethod
    def signature(cls) -> inspect.Signature:
        """How the loss is called."""
        raise NotImplementedError

    def loss(self) -> Array:
        raise NotImplementedError

    # --- dtypes -----------------------------------------------------------------------------------------------

    def cast(self, x: Array) -> Array:
        """Half precision is storage: arithmetic runs in float32."""
        return self.xp.astype(x, self.compute, copy=False)

    @property
    def compute(self) -> Any:
        return self.xp.float64 if dtype_of(self.first) == "float64" else self.xp.float32

    def scalar(self, value: Any) -> Array:
        """A Python number, or an array of shape (), in the compute dtype."""
        return self.cast(value) if hasattr(value, "dtype") else self.xp.asarray(value, dtype=self.compute)

    def numbers(self, count: int) -> Array:
        return self.xp.arange(count, dtype=self.xp.int64)

    # --- rows of embeddings -----------------------------------------------------------------------------------

    def cleared(self, x: Array, used: Array) -> Array:
        """Rows that nobody uses may hold anything."""
        return self.xp.where(used[..., None], x, self.xp.zeros_like(x))

    def embed(self, x: Array, name: str) -> Array:
        return self.unit(x) if self.similarity == "cosine" else x

    def unit(self, x: Array) -> Array:
        """x / ‖x‖; 0 for a zero row; the largest number of a row is divided out first, so that no square overflows."""
        xp = self.xp
        if x.shape[-2] == 0:
            return x
        zero = xp.all(x == 0, axis=-1, keepdims=True)
        largest = xp.max(xp.abs(constant(x)), axis=-1, keepdims=True)
        y = xp.where(zero, xp.zeros_like(x), x) / xp.where(zero, xp.ones_like(largest), largest)
        square = xp.sum(y * y, axis=-1, keepdims=True)
        return y / xp.sqrt(xp.where(zero, xp.ones_like(square), square))

    def inner(self, q: Array, keys: Array) -> Array:
        """Inner products with keys that all share, (C, D), or with each query's own, (N, M, D)."""
        if keys.ndim == 2:
            return q @ keys.T
        return self.xp.sum(q[:, None, :] * keys, axis=-1)

    # --- rows of logits ---------------------------------------------------------------------------------------

    def picked(self, s: Array, positive: Array) -> Array:
        """Each row's entry of the positive; NaN where it has none."""
        xp = self.xp
        picked = xp.sum(xp.where(positive, s, xp.zeros_like(s)), axis=1)
        return xp.where(xp.any(positive, axis=1), picked, xp.full_like(picked, math.nan))

    def tau(self) -> Array:
        return self.scalar(self.temperature)

    def logsumexp(self, s: Array, keep: Array) -> tuple[Array, Array]:
        """log Σ exp(s) over the columns to keep, and whether there are any; 0 where not."""
        xp, some = self.xp, self.xp.any(keep, axis=1)
        if s.shape[1] == 0:
            return xp.sum(s, axis=1), some
        top = xp.max(xp.where(keep, constant(s), xp.full_like(s, -math.inf)), axis=1)
        top = xp.where(some, top, xp.zeros_like(top))
        e = xp.where(keep, xp.exp(xp.where(keep, s - top[:, None], xp.zeros_like(s))), xp.zeros_like(s))
        total = xp.sum(e, axis=1)
        return top + xp.log(xp.where(some, total, xp.ones_like(total))), some

    def softplus(self, x: Array, some: Array) -> Array:
        xp = self.xp
        zero = xp.zeros_like(x)
        value = xp.where(x > 0, x, zero) + xp.log1p(xp.exp(xp.where(x > 0, -x, x)))
        return xp.where(some, value, zero)

    def reduce(self, each: Array) -> Array:
        """Weighted mean, sum, or nothing."""
        weight = self.weights(each)
        if self.reduction == "mean":
            return self.mean(each, weight)
        return weight * each if self.reduction == "none" else self.xp.sum(weight * each)

    def weights(self, each: Array) -> Array:
        return self.xp.ones_like(each) if self.sample_weight is None else self.cast(self.sample_weight)

    def mean(self, each: Array, weight: Array) -> Array:
        total = self.xp.sum(weight)
        return self.xp.sum(weight * each) / self.xp.where(total == 0, self.xp.ones_like(total), total)


class Textbook(Steps):
    """One call of info_nce; `loss` is the order of the steps."""

    name = "info_nce"

    @classmethod
    def signature(cls) -> inspect.Signature:
        return inspect.signature(Textbook)

    def __init__(
        self,
        query: Array,
        positive_key: Array,
        negative_keys: Array | None = None,
        *,
        temperature: Any = 0.1,
        similarity: str = "cosine",
        bilinear_weight: Array | None = None,
        in_batch_negatives: bool = True,
        positive_index: Array | None = None,
        candidate_mask: Array | None = None,
        logit_bias: Array | None = None,
        margin: Any = 0.0,
        sample_weight: Array | None = None,
        reduction: str = "mean",
    ) -> None:
        self.query, self.positive_key, self.negative_keys = query, positive_key, negative_keys
        self.first, self.temperature, self.margin, self.logit_bias = query, temperature, margin, logit_bias
        self.similarity, self.bilinear_weight = similarity, bilinear_weight
        self.in_batch_negatives, self.positive_index = in_batch_negatives, positive_index
        self.candidate_mask, self.sample_weight, self.reduction = candidate_mask, sample_weight, reduction
        self.xp = array_namespace(query)

    def loss(self) -> Array:
        self.prepare()
        self.check_temperature()
        self.check_dtypes()
        self.check_shapes()
        self.check_options()
        q, k, n = self.embeddings()
        return self.reduce(self.rows(*self.logits(*self.similarities(q, k, n)), self.negative()))

    def prepare(self) -> None:
        """Nothing, by the book: where the arguments could still be read as others."""

    # --- refusals ---------------------------------------------------------------------------------------------

    def check_temperature(self) -> None:
        for name in ("temperature", "margin"):
            value = getattr(self, name)
            if isinstance(value, int | float):
                allow(math.isfinite(value), f"{name} must be finite")
        if isinstance(self.temperature, int | float):
            allow(self.temperature > 0, "temperature must be > 0")

    def check_dtypes(self) -> None:
        stored = dtype_of(self.query)
        allow(stored in FLOATS, "query must be of a floating dtype", TypeError)
        for x in (self.positive_key, self.negative_keys):
            allow(x is None or dtype_of(x) == stored, "the embeddings must share a dtype", TypeError)
        compute = "float64" if stored == "float64" else "float32"
        for x in (self.bilinear_weight, self.sample_weight, self.logit_bias):
            allow(x is None or dtype_of(x) in (stored, compute), "weights must be of the query's dtype", TypeError)
        if self.positive_index is not None:
            allow(dtype_of(self.positive_index).startswith("int"), "positive_index must be of integers", TypeError)
        if self.candidate_mask is not None:
            allow(dtype_of(self.candidate_mask) == "bool", "candidate_mask must be of bool", TypeError)

    def check_shapes(self) -> None:
        allow(self.query.ndim == 2 and self.positive_key.ndim == 2, "embeddings must be matrices")
        (n, d), (k, e) = self.query.shape, self.positive_key.shape
        allow(min(n, d, k, e) >= 1, "embeddings must not be empty")
        allow(self.positive_index is not None or n == k, "there must be a key for every query")
        allow(self.bilinear_weight is not None or d == e, "queries and keys must be of one length")
        if self.bilinear_weight is not None:
            allow(tuple(self.bilinear_weight.shape) == (d, e), "bilinear_weight must be (D, E)")
        if self.negative_keys is not None:
            shape = tuple(self.negative_keys.shape)
            allow(len(shape) in (2, 3) and shape[-1] == e and shape[:-2] in ((), (n,)), "negative_keys: wrong shape")
        self.check_beside(n)

    def check_beside(self, n: int) -> None:
        mask, index, weight, bias = self.candidate_mask, self.positive_index, self.sample_weight, self.logit_bias
        allow(mask is None or tuple(mask.shape) == (n, self.columns), "candidate_mask must be (N, C)")
        allow(index is None or tuple(index.shape) == (n,), "positive_index must be (N,)")
        allow(weight is None or tuple(weight.shape) == (n,), "sample_weight must be (N,)")
        allow(bias is None or tuple(bias.shape) == (self.columns,), "logit_bias must be (C,)")

    def check_options(self) -> None:
        allow(self.similarity in ("cosine", "dot", "bilinear"), "unknown similarity")
        allow(
            (self.similarity == "bilinear") == (self.bilinear_weight is not None), "bilinear_weight goes with bilinear"
        )
        allow(self.reduction in ("mean", "sum", "none"), "unknown reduction")
        allow(self.in_batch_negatives or self.negative_keys is not None, "no negatives")

    # --- who is who -------------------------------------------------------------------------------------------

    @property
    def columns(self) -> int:
        """C: the positive keys, if they are in the batch, and the explicit negatives."""
        return self.in_batch + (0 if self.negative_keys is None else int(self.negative_keys.shape[-2]))

    @property
    def in_batch(self) -> int:
        return int(self.positive_key.shape[0]) if self.in_batch_negatives else 0

    def positive(self) -> Array:
        """(N, K) bool: key j is the positive of query i."""
        return self.numbers(self.positive_key.shape[0])[None, :] == self.index()[:, None]

    def index(self) -> Array:
        """(N,): the row of positive_key that is each query's positive."""
        return self.numbers(self.query.shape[0]) if self.positive_index is None else self.positive_index

    def kept(self) -> Array:
        """(N, C) bool: what the mask leaves."""
        if self.candidate_mask is not None:
            return self.candidate_mask
        return self.xp.ones((self.query.shape[0], self.columns), dtype=self.xp.bool)

    def negative(self) -> Array:
        """(N, C) bool: column j is a negative of query i."""
        return self.eligible() & self.kept()

    def eligible(self) -> Array:
        """(N, C) bool: it would be, without a mask: everything but the positive."""
        rest = self.xp.ones((self.query.shape[0], self.columns - self.in_batch), dtype=self.xp.bool)
        return self.xp.concat([~self.positive(), rest], axis=1) if self.in_batch_negatives else rest

    def used(self) -> tuple[Array, Array]:
        """Which rows of positive_key, and of negative_keys, stand in anyone's softmax."""
        negative, keys = self.negative(), self.positive()
        if self.in_batch_negatives:
            keys = keys | negative[:, : self.in_batch]
        rest = negative[:, self.in_batch :]
        own = self.negative_keys is not None and self.negative_keys.ndim == 3
        return self.xp.any(keys, axis=0), rest if own else self.xp.any(rest, axis=0)

    # --- similarities -----------------------------------------------------------------------------------------

    def embeddings(self) -> tuple[Array, Array, Array | None]:
        """The rows whose inner products are the similarities."""
        query, keys, negatives = self.cast(self.query), self.cast(self.positive_key), None
        used, used_negatives = self.used()
        keys = self.cleared(keys, used)
        if self.negative_keys is not None:
            negatives = self.embed(self.cleared(self.cast(self.negative_keys), used_negatives), "negative_keys")
        if self.bilinear_weight is not None:
            query = self.bilinear(query, self.cast(self.bilinear_weight))
        return self.embed(query, "query"), self.embed(keys, "positive_key"), negatives

    def bilinear(self, query: Array, weight: Array) -> Array:
        return query @ weight

    def similarities(self, q: Array, k: Array, n: Array | None) -> tuple[Array, Array]:
        """(N,) with each query's positive, (N, C) with the candidates."""
        to_keys = self.inner(q, k)
        blocks = [to_keys] if self.in_batch_negatives else []
        if n is not None:
            blocks.append(self.inner(q, n))
        return self.pick(to_keys), self.xp.concat(blocks, axis=1)

    def pick(self, to_keys: Array) -> Array:
        return self.picked(to_keys, self.positive())

    # --- logits, rows, reduction ------------------------------------------------------------------------------

    def logits(self, positive: Array, others: Array) -> tuple[Array, Array]:
        tau = self.tau()  # once: two casts would add up two gradients in half precision
        return self.biased((positive - self.scalar(self.margin)) / tau, others / tau)

    def biased(self, s_p: Array, s: Array) -> tuple[Array, Array]:
        """Each logit and its column's bias: the positive's own column, where the keys are in the batch."""
        if self.logit_bias is None:
            return s_p, s
        bias = self.cast(self.logit_bias)
        return (s_p + self.own(bias) if self.in_batch_negatives else s_p), s + bias[None, :]

    def own(self, bias: Array) -> Array:
        """(N,): the bias of each query's positive."""
        return self.pick(self.xp.broadcast_to(bias[None, : self.in_batch], self.positive().shape))

    def rows(self, s_p: Array, s: Array, negative: Array) -> Array:
        """softplus(ν − π): 0 where there is no negative."""
        return self.softplus(*self.logsumexp(s - s_p[:, None], negative))


def as_function(steps: type[Steps]) -> Callable[..., Any]:
    """The call of the loss that these steps make."""
    signature = steps.signature()

    def loss(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        return steps(**given.arguments).loss()

    loss.__name__ = steps.name
    loss.__dict__["__signature__"] = signature.replace(return_annotation=inspect.Signature.empty)
    return loss
