"""False negatives: masks that take out candidates which are probably positives. Booleans, constants to every gradient.

A loss ignores its candidate_mask on the positive itself, whatever the mask says there.
"""

from __future__ import annotations

from typing import Literal

from infonce_ref import checks
from infonce_ref.arrays import Array, Namespace, column, compute_dtype
from infonce_ref.candidates import is_positive
from infonce_ref.device import on_their_device
from infonce_ref.diagnostics import PLAIN_SIMILARITIES, have_positives, positives
from infonce_ref.embed import SIMILARITIES, cast, embed
from infonce_ref.scores import pairwise

KINDS = ("absolute", "relative")


def ceiling(xp: Namespace, positive_score: Array, margin: float, kind: str) -> Array:
    """The highest score that isn't suspected: s_p − m, or s_p − m |s_p|."""
    return positive_score - margin * (xp.abs(positive_score) if kind == "relative" else 1.0)  # helper.false-negatives


@on_their_device
def same_id_mask(query_id: Array, key_id: Array | None = None) -> Array:
    r"""False where a key has the query's id: the same class, product or document isn't a negative.

    .. math:: \mathrm{mask}_{ij} = [\, \mathrm{id}(q_i) \ne \mathrm{id}(k_j) \,]

    The positive has its query's id as a rule, so its entry is False too: losses ignore that entry. Clause:
    helper.false-negatives.

    Parameters
    ----------
    query_id : integer array (N,)
        What each query is about.
    key_id : integer array (K,), optional
        Likewise for the keys, in the order of the mask's columns; by default the queries' own.

    Returns
    -------
    candidate_mask : bool array (N, K)

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype or shape.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import same_id_mask
    >>> same_id_mask(np.array([7, 8, 7]))
    array([[False,  True, False],
           [ True, False,  True],
           [False,  True, False]])
    """
    key_id = query_id if key_id is None else key_id
    ids = {"query_id": query_id, "key_id": key_id}
    xp = checks.arrays_of_one_library(ids)
    for name, x in ids.items():
        checks.has_shape(name, x, (None,), "an id for each")
        checks.is_integer(name, xp, x, "helper.false-negatives")
    return column(query_id) != key_id[None, :]  # helper.false-negatives


@on_their_device
def similarity_mask(
    scores: Array, positive_score: Array, margin: float = 0.0, kind: Literal["absolute", "relative"] = "absolute"
) -> Array:
    r"""False where a candidate scores higher than its query's positive allows.

    .. math:: \mathrm{mask}_{ij} = [\, s_{ij} \le s_{ip} - m \,] \quad\text{or, relative,}\quad
              [\, s_{ij} \le s_{ip} - m\,|s_{ip}| \,]

    With m = 0 that is GISTEmbed's rule: what is more similar to the query than its positive is no negative.
    NV-Retriever subtracts a margin, or takes a share of the positive's score: 95 % of it is a relative margin of 0.05.
    The |·| keeps the limit below the positive's score where that is negative. A score of NaN takes nothing out, so that
    NaN shows in the loss. The positive's own entry is False where m > 0: losses ignore that entry. Clause:
    helper.false-negatives.

    Parameters
    ----------
    scores : array (N, C), float64, float32, float16 or bfloat16
        The similarity of each query and candidate, before the temperature: the model's own or a guide's.
    positive_score : array (N,), the scores' dtype
        The similarity of each query and its positive.
    margin : float
        m: how far below the positive's score suspicion begins.
    kind : "absolute" or "relative"
        Whether m is a difference or a share of the positive's score.

    Returns
    -------
    candidate_mask : bool array (N, C)

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape, margin or kind.

    See Also
    --------
    guide_mask : the same from a guide model's embeddings.

    References
    ----------
    Solatorio 2024, GISTEmbed: Guided In-sample Selection of Training Negatives for Text Embedding Fine-tuning,
    arXiv:2402.16829. Moreira et al. 2024, NV-Retriever: Improving Text Embedding Models with Effective Hard-Negative
    Mining, arXiv:2407.15831: TopK-MarginPos is absolute, TopK-PercPos relative.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import similarity_mask
    >>> scores, positive_score = np.array([[0.8, 0.7, 0.78, 0.9]]), np.array([0.8])
    >>> similarity_mask(scores, positive_score)
    array([[ True,  True,  True, False]])
    >>> similarity_mask(scores, positive_score, margin=0.05, kind="relative")  # the limit is 0.76
    array([[False,  True, False, False]])
    """
    xp = checks.arrays_of_one_library({"scores": scores, "positive_score": positive_score})
    checks.embedding_dtypes(xp, {"scores": scores, "positive_score": positive_score})
    checks.has_shape("scores", scores, (None, None), "(N, C)")
    checks.has_shape("positive_score", positive_score, (scores.shape[0],), "(N,)")
    s, of_positive = (cast(xp, x, compute_dtype(xp, x))[0] for x in (scores, positive_score))
    return ~(s > ceiling(xp, column(of_positive), checked_margin(margin, kind), kind))  # helper.false-negatives


@on_their_device
def guide_mask(
    query: Array,
    key: Array,
    positive_index: Array | None = None,
    margin: float = 0.0,
    kind: Literal["absolute", "relative"] = "absolute",
    similarity: Literal["cosine", "dot"] = "cosine",
) -> Array:
    r"""`similarity_mask` of a guide model: its embeddings of the same queries and keys say what is no negative.

    .. math:: s_{ij} = \mathrm{sim}(g(q_i), g(k_j))

    with g the guide's embedding, and True on the positive. The model's own embeddings may be their own guide. Clause:
    helper.false-negatives.

    Parameters
    ----------
    query : array (N, D), float64, float32, float16 or bfloat16
        The guide's embeddings of the queries; D needn't be the model's.
    key : array (K, D), the query's dtype
        The guide's embeddings of the keys, in the order of the mask's columns: key i is the positive of query i,
        further keys are negatives of all, where there is no `positive_index`.
    positive_index : integer array (N,), optional
        The row of `key` that is each query's positive. A value outside 0 … K − 1 leaves the query all its negatives.
    margin : float
        As in `similarity_mask`.
    kind : "absolute" or "relative"
        As in `similarity_mask`.
    similarity : "cosine" or "dot"
        Of the guide's embeddings.

    Returns
    -------
    candidate_mask : bool array (N, K)

    Raises
    ------
    TypeError, ValueError
        For a wrong library, device, dtype, shape, margin, kind or similarity.

    References
    ----------
    As `similarity_mask`.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import guide_mask
    >>> query = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> key = np.array([[0.8, 0.6], [0.6, 0.8], [1.0, 0.0]])  # the last is a negative of both
    >>> guide_mask(query, key)
    array([[ True,  True, False],
           [ True,  True,  True]])
    """
    given = {"query": query, "key": key}
    xp = checks.arrays_of_one_library({**given, **checks.given(positive_index=positive_index)})
    checks.one_of("similarity", similarity, PLAIN_SIMILARITIES, "similarity.domain")
    checks.embedding_dtypes(xp, given)
    checks.has_shape("query", query, (None, None), "(N, D)")
    checks.has_shape("key", key, (None, query.shape[1]), "(K, D)")
    have_positives(xp, positive_index, query.shape[0], key.shape[0], "key")

    q, keys = (embed(xp, x, compute_dtype(xp, x), SIMILARITIES[similarity])[0] for x in (query, key))
    s, own = pairwise(xp, q, keys), is_positive(xp, key, positives(xp, query, positive_index))
    of_positive = xp.sum(xp.where(own, s, xp.zeros_like(s)), axis=-1, keepdims=True)
    suspect = s > ceiling(xp, of_positive, checked_margin(margin, kind), kind)
    return own | ~suspect | ~xp.any(own, axis=-1, keepdims=True)  # helper.false-negatives


def checked_margin(margin: float, kind: str) -> float:
    checks.one_of("kind", kind, KINDS, "helper.false-negatives")
    return checks.real_number("margin", margin, "helper.false-negatives")
