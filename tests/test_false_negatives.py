"""Masks of false negatives: entry by entry from their definition, on every library, and what losses do with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from infonce_ref import guide_mask, info_nce, same_id_mask, similarity_mask
from tests.libraries import HALF, Library
from tests.problems import PLAIN, N, grid, with_rows

on = pytest.mark.parametrize
quick = settings(max_examples=60, deadline=None, derandomize=True)
RNG = np.random.default_rng(91)
C = 6
SCORES, POSITIVE = grid(RNG, N, C), np.array([0.5, 2.0, -1.0, 0.0])
GUIDE_QUERY, GUIDE_KEY = grid(RNG, N, 2), grid(RNG, C, 2)
IDS, KEY_IDS = np.array([3, -1, 3, 8]), np.array([8, 3, 5, -1, 3, 4])


def expected_mask(scores: np.ndarray, positive: np.ndarray, margin: float, kind: str) -> list[list[bool]]:
    """Entry by entry: False where the score lies above the limit."""
    limits = [p - margin * (abs(p) if kind == "relative" else 1) for p in positive]
    return [[not s > limit for s in row] for row, limit in zip(scores, limits, strict=True)]


def as_bool(library: Library, mask: Any) -> list[list[bool]]:
    assert "bool" in str(mask.dtype)
    return (library.numpy(mask) != 0).tolist()


def test_the_same_id_is_no_negative(library: Library) -> None:
    """[helper.false-negatives] False exactly where the ids agree; the queries' own ids where no others are given."""
    ids, keys = library.array(IDS, "int64"), library.array(KEY_IDS, "int64")
    mask = library.run(same_id_mask, {"query_id": ids, "key_id": keys}, {})
    assert as_bool(library, mask) == [[a != b for b in KEY_IDS] for a in IDS]
    assert as_bool(library, library.run(same_id_mask, {"query_id": ids}, {})) == [[a != b for b in IDS] for a in IDS]


@on("dtype", ["float64", "float32", *HALF])
@on("kind", ["absolute", "relative"])
@on("margin", [0.0, 0.25, -0.25])
def test_what_scores_above_the_limit_is_no_negative(library: Library, dtype: str, kind: Any, margin: float) -> None:
    """[helper.false-negatives] The limit is s_p − m or s_p − m |s_p|, for positives of either sign; on it is below."""
    if dtype not in library.dtypes:
        pytest.skip(f"{library.name} has no {dtype}")
    given = {"scores": library.array(SCORES, dtype), "positive_score": library.array(POSITIVE, dtype)}
    mask = library.run(similarity_mask, given, {"margin": margin, "kind": kind})
    assert as_bool(library, mask) == expected_mask(SCORES, POSITIVE, margin, kind)


def test_the_limit_itself_is_allowed() -> None:
    """[helper.false-negatives] GISTEmbed and NV-Retriever take out what is greater, not what is equal."""
    mask = similarity_mask(np.array([[0.5, 0.25, 0.375]]), np.array([0.5]), margin=0.5, kind="relative")
    assert mask.tolist() == [[False, True, False]]
    assert similarity_mask(np.array([[0.5, 0.5625]]), np.array([0.5])).tolist() == [[True, False]]


def test_a_share_of_a_negative_score_is_still_below_it() -> None:
    """[helper.false-negatives] A positive of −1 with a relative margin of 0.25: the limit is −1.25, not −0.75."""
    assert similarity_mask(np.array([[-1.5, -1.125]]), np.array([-1.0]), 0.25, "relative").tolist() == [[True, False]]


def test_nan_takes_nothing_out() -> None:
    """[helper.false-negatives] [rows.nonfinite] NaN stays a negative; a positive of NaN takes none out."""
    scores, positive = np.array([[np.nan, 0.0], [5.0, 0.0]]), np.array([-1.0, np.nan])
    assert similarity_mask(scores, positive).tolist() == [[True, False], [True, True]]


@on("dtype", ["float64", "float32"])
@on("index", [None, [5, 0, 2, 2]])
@on("similarity", ["cosine", "dot"])
def test_a_guides_embeddings(library: Library, dtype: str, index: Any, similarity: Any) -> None:
    """[helper.false-negatives] Its own similarities against that of its own positive, which is always allowed."""
    given = {"query": library.array(GUIDE_QUERY, dtype), "key": library.array(GUIDE_KEY, dtype)}
    if index is not None:
        given["positive_index"] = library.array(np.array(index), "int64")
    own = index or range(N)
    q, k = GUIDE_QUERY, GUIDE_KEY
    if similarity == "cosine":
        q, k = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, k))
    scores = q @ k.T
    for margin, kind in ((0.0, "absolute"), (0.1, "absolute"), (0.3, "relative")):
        mask = library.run(guide_mask, given, {"margin": margin, "kind": kind, "similarity": similarity})
        expected = expected_mask(scores, scores[range(N), own], margin, kind)
        for i, j in enumerate(own):
            expected[i][j] = True
        assert as_bool(library, mask) == expected


def test_a_guide_without_a_positive_says_nothing() -> None:
    """[helper.false-negatives] [candidates.index.domain] An index outside leaves its query every negative."""
    mask = guide_mask(GUIDE_QUERY, GUIDE_KEY, np.array([0, C, 2, -1]), margin=2.0)
    assert mask[[1, 3]].all() and not mask[0].all()


@quick
@given(arrays(np.float64, (3, 2), elements=st.integers(-4, 4).map(float)), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_margin_takes_out_more(keys: Any, margin: float, more: float) -> None:
    """[helper.false-negatives] Whatever a margin takes out, a larger one takes out too."""
    small, large = (guide_mask(keys, keys, margin=m, similarity="dot") for m in (margin, margin + more))
    assert (small | ~large).all()


def test_a_loss_sees_what_is_left() -> None:
    """[candidates.mask] [candidates.mask.positive] The mask takes its negatives out of the loss, never the positive."""
    q, k = PLAIN.arrays["query"], PLAIN.arrays["positive_key"]
    mask = same_id_mask(np.array([1, 2, 1, 3]))
    losses = info_nce(q, k, candidate_mask=mask, reduction="none")
    for i in range(N):
        rest = k[[j for j in range(N) if mask[i, j]]]
        alone = info_nce(q[[i]], k[[i]], rest, in_batch_negatives=False)
        assert losses[i] == pytest.approx(alone, rel=1e-13)


def test_all_of_one_id_have_no_negatives() -> None:
    """[candidates.none] One class: every loss is 0."""
    q, k = PLAIN.arrays["query"], PLAIN.arrays["positive_key"]
    assert info_nce(q, k, candidate_mask=same_id_mask(np.zeros(N, int))) == 0


def test_nothing_is_read(meta: Library) -> None:
    """[call.shape] On torch's meta device masks have their shapes."""
    scores, positive = meta.array(SCORES, "float32"), meta.array(POSITIVE, "float32")
    query, key, ids = meta.array(GUIDE_QUERY, "float32"), meta.array(GUIDE_KEY, "float32"), meta.array(IDS, "int64")
    masks = similarity_mask(scores, positive, 0.1, "relative"), guide_mask(query, key), same_id_mask(ids)
    assert [tuple(m.shape) for m in masks] == [(N, C), (N, C), (N, N)]


def test_zero_rows_have_cosine_zero() -> None:
    """[helper.false-negatives] [similarity.cosine.zero] A zero key is taken out where the positive is below 0."""
    query = np.array([[1.0, 0.0], [1.0, 0.0]])
    key = with_rows(np.array([[-1.0, 0.0], [1.0, 1.0], [9.0, 9.0]]), {2: 0.0})
    assert guide_mask(query, key)[:, 2].tolist() == [False, True]


@on(
    ("call", "error", "message"),
    [
        (lambda: same_id_mask(IDS / 1), TypeError, "query_id must have an integer dtype"),
        (lambda: same_id_mask(IDS, KEY_IDS[None]), ValueError, "key_id must have shape"),
        (lambda: same_id_mask([1, 2]), TypeError, "query_id must be an array"),
        (lambda: similarity_mask(SCORES, POSITIVE[:2]), ValueError, "positive_score must have shape"),
        (lambda: similarity_mask(SCORES, np.float32(POSITIVE)), TypeError, "positive_score must have dtype"),
        (lambda: similarity_mask(SCORES[0], POSITIVE), ValueError, "scores must have shape"),
        (lambda: similarity_mask(SCORES, POSITIVE, np.nan), ValueError, "margin must be finite"),
        (lambda: similarity_mask(SCORES, POSITIVE, "1"), TypeError, "margin must be a real number"),
        (lambda: similarity_mask(SCORES, POSITIVE, 0.1, "percent"), ValueError, "kind must be one of"),
        (lambda: guide_mask(GUIDE_QUERY, GUIDE_KEY[:2]), ValueError, "key must hold the positives of 4 queries, got 2"),
        (lambda: guide_mask(GUIDE_QUERY, GUIDE_KEY[:, :1]), ValueError, "key must have shape"),
        (lambda: guide_mask(GUIDE_QUERY, GUIDE_KEY, similarity="bilinear"), ValueError, "similarity must be one of"),
    ],
)
def test_a_wrong_argument_is_refused(call: Any, error: type[Exception], message: str) -> None:
    """[helper.false-negatives] [input.shape] [dtype.domain] Each error names its argument."""
    with pytest.raises(error, match=message):
        call()
