"""Diagnostics: what a loss says about the embeddings, and what they say about themselves. Values without gradients."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from infonce_ref import checks
from infonce_ref.arrays import Array, Namespace, column, compute_dtype, row_numbers
from infonce_ref.candidates import is_positive, rows_between
from infonce_ref.device import on_their_device
from infonce_ref.embed import SIMILARITIES, cast, embed, unit_rows
from infonce_ref.link import log_sum_exp
from infonce_ref.loss import default_block_size
from infonce_ref.scale import positive_scalar
from infonce_ref.scores import pairwise

PLAIN_SIMILARITIES = ("cosine", "dot")  # with a bilinear W the caller hands in query W, and "dot"


def mutual_information_bound(loss: Any, n: int) -> Any:
    r"""log n − loss: a lower bound on the mutual information of a query and its positive key, in nats.

    .. math:: I(q; k) \ge \log n - \mathbb{E}\, L

    for a loss that picks the positive among n candidates of which the other n − 1 are drawn independently. It holds in
    expectation and never exceeds log n, however much information there is. Clause: helper.mutual-information.

    Parameters
    ----------
    loss : float or array of any shape
        An InfoNCE loss: the mean, or a value for each query.
    n : int, ≥ 1
        The candidates of a query, its positive among them: N for in-batch negatives, 1 + M for M explicit ones.

    Returns
    -------
    bound : as loss

    Raises
    ------
    TypeError, ValueError
        For an n that is no integer ≥ 1.

    References
    ----------
    Oord, Li, Vinyals 2018, Representation Learning with Contrastive Predictive Coding, arXiv:1807.03748, §2.3.

    Examples
    --------
    >>> from infonce_ref import mutual_information_bound
    >>> print(f"{mutual_information_bound(0.25, 8):.6f}")  # log 8 − 0.25
    1.829442
    """
    checks.at_least_one("n", n, "helper.mutual-information")
    return math.log(n) - loss  # helper.mutual-information


class NegativeWeights(NamedTuple):
    """How each query's gradient is spread over its negatives."""

    weights: Array  # (N, C)
    effective_number: Array  # (N,)


def have_positives(xp: Namespace, index: Array | None, n: int, c: int, keys: str) -> None:
    """Each of n queries has a positive among c candidates, the rows or columns of `keys`: number index[i], or i."""
    if index is not None:
        checks.index("positive_index", xp, index, n, "candidates.index.domain")
    elif c < n:
        raise ValueError(f"{keys} must hold the positives of {n} queries, got {c} candidates [candidates.index.domain]")


def positives(xp: Namespace, query: Array, positive_index: Array | None) -> Array:
    """(N,) the column of each query's positive: its own number where nothing else is said."""
    rows = row_numbers(xp, query)
    return rows if positive_index is None else xp.astype(positive_index, rows.dtype)


@on_their_device
def negative_weights(
    logits: Array,
    positive_index: Array | None = None,
    candidate_mask: Array | None = None,
    temperature: float | Array = 1.0,
) -> NegativeWeights:
    r"""Each negative's share of its query's gradient, and how many negatives that is worth.

    .. math:: w_{ij} = \frac{e^{s_{ij}}}{\sum_{a \in A_i} e^{s_{ia}}}, \qquad
              n_i = \exp\Bigl(-\sum_{j \in A_i} w_{ij} \log w_{ij}\Bigr), \qquad s = \mathrm{logits} / \tau

    over the negatives A_i of query i. The gradient of its loss by s_ij is σ(ν − π) w_ij: what the positive decides is
    common to all. The effective number n_i lies between 1, one negative has it all, and the number of negatives, all
    weigh the same. Clause: helper.negative-weights.

    Parameters
    ----------
    logits : array (N, C), float64, float32, float16 or bfloat16
        The similarity of every query and candidate; logits as they are with the default temperature of 1.
    positive_index : integer array (N,), optional
        The column of each query's positive, by default column i; a value outside 0 … C − 1 gives NaN.
    candidate_mask : bool array (N, C), optional
        False where a candidate is never a negative of the query. Entries on the positive are ignored.
    temperature : float or 0-d floating array, > 0
        τ. A Python number that is not > 0 is refused; a 0-d array ≤ 0 gives NaN.

    Returns
    -------
    weights : array (N, C)
        In the compute dtype; each row sums to 1, with exactly 0 on the positive and where the mask is False. A query
        without negatives has a row of zeros.
    effective_number : array (N,)
        0 for a query without negatives.

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape or Python scalar.

    References
    ----------
    Wang and Liu 2021, Understanding the Behaviour of Contrastive Loss, arXiv:2012.09740: the relative penalty
    r(s_ij); the effective number is its perplexity.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import negative_weights
    >>> similarities = np.array([[0.9, 0.6, 0.3, 0.1]])
    >>> for temperature in (0.01, 0.1, 1.0):
    ...     found = negative_weights(similarities, temperature=temperature)
    ...     print(found.weights.round(3), found.effective_number.round(2))
    [[0. 1. 0. 0.]] [1.]
    [[0.    0.946 0.047 0.006]] [1.26]
    [[0.    0.426 0.316 0.258]] [2.94]
    """
    given = checks.given(logits=logits, positive_index=positive_index, candidate_mask=candidate_mask,
                         temperature=checks.array_scalar(temperature))  # fmt: skip
    xp = checks.arrays_of_one_library(given)
    checks.has_shape("logits", logits, (None, None), "(N, C)")
    checks.embedding_dtypes(xp, {"logits": logits})
    n, c = checks.shape_of(logits)
    have_positives(xp, positive_index, n, c, "logits")
    checks.candidate_mask(candidate_mask, (n, c), "(N, C)")
    checks.temperature(xp, temperature, logits)

    similarity, _ = cast(xp, logits, compute_dtype(xp, logits))
    tau, _ = positive_scalar(xp, similarity, temperature)
    positive = is_positive(xp, xp.matrix_transpose(logits), positives(xp, logits, positive_index))
    keep = ~positive if candidate_mask is None else ~positive & candidate_mask
    total = log_sum_exp(xp, [similarity / tau], [keep])
    (weights,) = total.spread(xp.ones_like(total.z))  # helper.negative-weights
    zero = weights == 0
    terms = weights * xp.log(xp.where(zero, xp.ones_like(weights), weights))  # 0 log 0 = 0
    number = xp.where(total.some, xp.exp(-xp.sum(terms, axis=-1)), xp.zeros_like(terms[:, 0]))
    known = xp.any(positive, axis=-1)
    nan = xp.full_like(similarity, float("nan"))
    return NegativeWeights(xp.where(column(known), weights, nan), xp.where(known, number, nan[:, 0]))


@on_their_device
def alignment(x: Array, y: Array, alpha: float = 2) -> Array:
    r"""How far apart the rows of positive pairs lie on the unit sphere, on average.

    .. math:: \frac{1}{N} \sum_i \lVert \hat{x}_i - \hat{y}_i \rVert^\alpha

    0 where every pair points the same way; for α = 2 it is 2 − 2 · the mean cosine of the pairs. A zero row stays 0, at
    distance 1 from every unit row. Clause: helper.alignment.

    Parameters
    ----------
    x, y : array (N, D), float64, float32, float16 or bfloat16
        Row i of x and row i of y are a positive pair. Rows of any length: they are normalised here.
    alpha : float, > 0
        The power of the distance.

    Returns
    -------
    alignment : 0-d array
        In the compute dtype: float64 for float64, else float32.

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape or alpha.

    References
    ----------
    Wang and Isola 2020, Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere, arXiv:2005.10242, §4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import alignment
    >>> print(alignment(np.eye(2), np.array([[2.0, 0.0], [-3.0, 0.0]])))  # one pair aligned, one at a right angle
    1.0
    """
    xp = checks.arrays_of_one_library({"x": x, "y": y})
    checks.embedding_dtypes(xp, {"x": x, "y": y})
    checks.has_shape("x", x, (None, None), "(N, D)")
    checks.has_shape("y", y, checks.shape_of(x), "(N, D), as x")
    power = checks.real_number("alpha", alpha, "helper.alignment", above=0) / 2
    u, v = (embed(xp, rows, compute_dtype(xp, x), unit_rows)[0] for rows in (x, y))
    square = xp.sum((u - v) * (u - v), axis=-1)
    return xp.sum(square**power) / x.shape[0]  # helper.alignment


@on_their_device
def uniformity(x: Array, t: float = 2, *, block_size: int | None = None) -> Array:
    r"""How evenly the rows are spread over the unit sphere: the log of the mean Gaussian potential of distinct rows.

    .. math:: \log \frac{1}{N (N - 1)} \sum_{i \ne j} e^{-t \lVert \hat{x}_i - \hat{x}_j \rVert^2}

    0 where all rows point the same way, lower the more evenly they are spread. Summed as a logsumexp, so that a large t
    doesn't underflow to log 0. A zero row stays 0. Clause: helper.uniformity.

    Parameters
    ----------
    x : array (N, D), N ≥ 2, float64, float32, float16 or bfloat16
        Rows of any length: they are normalised here.
    t : float, > 0
        The sharpness of the potential.
    block_size : int, optional
        Rows compared with all others at a time; by default no matrix of distances exceeds 256 MiB.

    Returns
    -------
    uniformity : 0-d array
        In the compute dtype: float64 for float64, else float32.

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape, t or block_size.

    References
    ----------
    Wang and Isola 2020, Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere, arXiv:2005.10242, §4.1. Their code takes each pair once, which is the same mean.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import uniformity
    >>> print(f"{uniformity(np.eye(2)):.6f}")  # one pair at squared distance 2
    -4.000000
    """
    xp = checks.arrays_of_one_library({"x": x})
    checks.embedding_dtypes(xp, {"x": x})
    checks.has_shape("x", x, (None, None), "(N, D)")
    if x.shape[0] < 2:
        raise ValueError(f"x must have at least 2 rows, got {x.shape[0]} [helper.uniformity]")
    t = checks.real_number("t", t, "helper.uniformity", above=0)
    checks.block_size(block_size)

    n = x.shape[0]
    u, _ = embed(xp, x, compute_dtype(xp, x), unit_rows)
    square, numbers = xp.sum(u * u, axis=-1), row_numbers(xp, u)
    step = block_size or default_block_size(n, xp.finfo(u.dtype).bits)

    def log_potentials(lo: int, hi: int) -> Array:
        """(hi − lo,): log Σ_{j ≠ i} e^{−t d_ij²} of some rows."""
        squared_distance = column(square[lo:hi]) + square[None, :] - 2 * pairwise(xp, u[lo:hi, :], u)
        return log_sum_exp(xp, [-t * squared_distance], [~is_positive(xp, u, numbers[lo:hi])]).value

    rows = xp.concat([log_potentials(lo, min(lo + step, n)) for lo in range(0, n, step)], axis=0)[None, :]
    return xp.sum(log_sum_exp(xp, [rows], [None]).value) - (math.log(n) + math.log(n - 1))  # helper.uniformity


@on_their_device
def top_k_accuracy(
    query: Array,
    key: Array,
    k: int,
    positive_index: Array | None = None,
    similarity: Literal["cosine", "dot"] = "cosine",
    candidate_mask: Array | None = None,
    *,
    block_size: int | None = None,
) -> Array:
    r"""The share of queries whose positive is among their k most similar keys; a tie counts against the positive.

    .. math:: \frac{1}{N} \sum_i \Bigl[\, \#\{j \ne p : \mathrm{sim}(q_i, k_j) \ge \mathrm{sim}(q_i, k_p)\} < k \,\Bigr]

    where p is the positive of query i. So embeddings that have collapsed into one point score 0, not 1. Ties are ties
    of the computed similarities. A query for which NaN enters the comparison makes the result NaN.
    Clause: helper.top-k.

    Parameters
    ----------
    query : array (N, D), float64, float32, float16 or bfloat16
        One query a row.
    key : array (K, D), the query's dtype
        Key i is the positive of query i, so K ≥ N, where there is no `positive_index`.
    k : int, ≥ 1
        How many of the most similar keys count.
    positive_index : integer array (N,), optional
        The row of `key` that is each query's positive; a value outside 0 … K − 1 gives NaN.
    similarity : "cosine" or "dot"
        For qᵀWk hand in q W as the query.
    candidate_mask : bool array (N, K), optional
        False where a key isn't compared with the positive. Entries on the positive are ignored.
    block_size : int, optional
        Queries compared at a time; by default no matrix of similarities exceeds 256 MiB.

    Returns
    -------
    accuracy : 0-d array
        In the compute dtype: float64 for float64, else float32.

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape or Python scalar.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import top_k_accuracy
    >>> query = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> key = np.array([[0.8, 0.6], [1.0, 0.0]])
    >>> print(top_k_accuracy(query, key, k=1), top_k_accuracy(query, key, k=2))
    0.0 1.0
    """
    xp = checks.arrays_of_one_library(
        {"query": query, "key": key, **checks.given(positive_index=positive_index, candidate_mask=candidate_mask)}
    )
    checks.one_of("similarity", similarity, PLAIN_SIMILARITIES, "similarity.domain")
    checks.block_size(block_size)
    checks.at_least_one("k", k, "helper.top-k")
    checks.embedding_dtypes(xp, {"query": query, "key": key})
    checks.has_shape("query", query, (None, None), "(N, D)")
    checks.has_shape("key", key, (None, query.shape[1]), "(K, D)")
    n, c = query.shape[0], key.shape[0]
    have_positives(xp, positive_index, n, c, "key")
    checks.candidate_mask(candidate_mask, (n, c), "(N, K)")

    q, keys = (embed(xp, x, compute_dtype(xp, x), SIMILARITIES[similarity])[0] for x in (query, key))
    positive = positives(xp, query, positive_index)
    step = block_size or default_block_size(c, xp.finfo(q.dtype).bits)

    def hits(lo: int, hi: int) -> Array:
        """(hi − lo,): 1 where the positive is among the k best, 0 where it isn't, NaN where that isn't known."""
        s = pairwise(xp, q[lo:hi, :], keys)
        own = is_positive(xp, keys, positive[lo:hi])
        others, mask = ~own, rows_between(candidate_mask, lo, hi)
        others = others if mask is None else others & mask
        of_positive = xp.sum(xp.where(own, s, xp.zeros_like(s)), axis=-1, keepdims=True)
        ahead = xp.sum(xp.astype(others & ~(s < of_positive), positive.dtype), axis=-1)  # helper.top-k
        hit = xp.astype(ahead < k, s.dtype)
        unknown = ~xp.any(own, axis=-1) | xp.any((own | others) & xp.isnan(s), axis=-1)
        return xp.where(unknown, xp.full_like(hit, float("nan")), hit)

    return sum(xp.sum(hits(lo, min(lo + step, n))) for lo in range(0, n, step)) / n
