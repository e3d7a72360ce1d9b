"""Mining against one sort of all scores, in tiles of any size, on every library."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from infonce_ref import info_nce, mine_hard_negatives, same_id_mask
from tests.libraries import HALF, Library
from tests.problems import grid, with_rows

on = pytest.mark.parametrize
quick = settings(max_examples=80, deadline=None, derandomize=True)
N, P, D = 5, 13, 3
RNG = np.random.default_rng(97)
QUERY, POOL = np.round(grid(RNG, N, D)), np.round(grid(RNG, P, D))  # small integers: exact scores, and ties
INDEX = np.array([4, 0, 12, 7, 7])
EXCLUDE = np.array([[1, 2], [-1, 3], [P, 5], [-1, -1], [7, 0]])
KEEP = RNG.random((N, P)) < 0.7


def by_sorting(
    query: np.ndarray,
    pool: np.ndarray,
    k: int,
    positive_index: Any = None,
    exclude: Any = None,
    candidate_mask: Any = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
) -> tuple[list[list[int]], list[list[float]]]:
    """Every score in one list, sorted by (−score, index), the ineligible left out; dot similarity."""
    indices, scores = [], []
    for i, q in enumerate(query):
        s = [float(q @ x) for x in pool]
        limit = np.inf
        if positive_index is not None:
            p = s[positive_index[i]]
            if absolute_margin is not None:
                limit = min(limit, p - absolute_margin)
            if relative_margin is not None:
                limit = min(limit, p - relative_margin * abs(p))
        found = sorted(
            (-s[j], j)
            for j in range(len(pool))
            if s[j] <= limit
            and not (positive_index is not None and j == positive_index[i])
            and not (exclude is not None and j in exclude[i])
            and not (candidate_mask is not None and not candidate_mask[i][j])
        )[:k]
        missing = k - len(found)
        indices.append([j for _, j in found] + [-1] * missing)
        scores.append([-s for s, _ in found] + [-np.inf] * missing)
    return indices, scores


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "positive": {"positive_index": INDEX},
    "exclude": {"exclude": EXCLUDE},
    "mask": {"candidate_mask": KEEP},
    "absolute": {"positive_index": INDEX, "absolute_margin": 0.5},
    "relative": {"positive_index": INDEX, "relative_margin": 0.25},
    "everything": {
        "positive_index": INDEX, "exclude": EXCLUDE, "candidate_mask": KEEP,
        "absolute_margin": -1.0, "relative_margin": -0.5,
    },
}  # fmt: skip


@on("dtype", ["float64", "float32", *HALF])
@on("case", OPTIONS)
@on("block_size", [None, 4])
def test_it_is_one_sort_of_all_scores(library: Library, dtype: str, case: str, block_size: int | None) -> None:
    """[helper.mining] The k best that are eligible, equal scores in the pool's order, −1 and −∞ where none is left."""
    if dtype not in library.dtypes:
        pytest.skip(f"{library.name} has no {dtype}")
    if library.name == "jax-jit" and dtype in HALF:
        pytest.skip("compiling it again for half precision says nothing that eager JAX doesn't")
    given = {"query": library.array(QUERY, dtype), "pool": library.array(POOL, dtype)}
    kinds = {"positive_index": "int64", "exclude": "int64", "candidate_mask": "bool"}
    arrays_of = {name: library.array(x, kinds[name]) for name, x in OPTIONS[case].items() if name in kinds}
    plain = {name: x for name, x in OPTIONS[case].items() if name not in kinds}
    options = {"k": 4, "similarity": "dot", "block_size": block_size, **plain}
    found = library.run(mine_hard_negatives, {**given, **arrays_of}, options)
    indices, scores = by_sorting(QUERY, POOL, 4, **OPTIONS[case])
    assert library.numpy(found.indices).tolist() == indices
    assert library.numpy(found.scores).tolist() == scores
    assert "int" in str(found.indices.dtype)
    assert str(found.scores.dtype).endswith("float64" if dtype == "float64" else "float32")


few = st.integers(-2, 2).map(float)


@quick
@given(
    arrays(np.float64, (3, 2), elements=few),
    arrays(np.float64, (9, 2), elements=few),
    st.integers(1, 11),
    st.integers(1, 10),
    arrays(np.int64, 3, elements=st.integers(0, 8)),
    arrays(np.int64, (3, 2), elements=st.integers(-2, 10)),
    st.none() | st.sampled_from([-1.0, 0.0, 0.5]),
    st.none() | st.sampled_from([0.0, 0.25]),
)
def test_the_size_of_the_tiles_changes_nothing(
    q: Any, pool: Any, k: int, block_size: int, index: Any, exclude: Any, absolute: Any, relative: Any
) -> None:
    """[helper.mining] [stream.block] Whatever the tiles, and however many scores are equal: the same as by sorting."""
    found = mine_hard_negatives(
        q, pool, k, positive_index=index, exclude=exclude, absolute_margin=absolute, relative_margin=relative,
        similarity="dot", block_size=block_size,
    )  # fmt: skip
    indices, scores = by_sorting(q, pool, k, index, exclude, None, absolute, relative)
    assert found.indices.tolist() == indices
    assert found.scores.tolist() == scores
    assert not (found.indices == index[:, None]).any()


def test_cosine_goes_by_direction() -> None:
    """[helper.mining] [similarity.cosine] Lengths don't count, from 1e-200 to 1e200; the score is the cosine."""
    pool = np.array([[1e-200, 0.0], [3e200, 4e200], [0.0, 5.0], [-2.0, 0.0]])
    found = mine_hard_negatives(np.array([[1e-30, 0.0]]), pool, 4)
    assert found.indices.tolist() == [[0, 1, 2, 3]]
    assert found.scores == pytest.approx(np.array([[1, 0.6, 0, -1]]), abs=1e-15)


def test_a_zero_row_is_mined_at_cosine_zero() -> None:
    """[helper.mining] [similarity.cosine.zero] A zero row lies between what points along and what points away."""
    pool = with_rows(np.array([[-1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]), {1: 0.0})
    assert mine_hard_negatives(np.array([[1.0, 0.0]]), pool, 3).indices.tolist() == [[2, 1, 0]]
    assert mine_hard_negatives(np.zeros((1, 2)), pool, 3).indices.tolist() == [[0, 1, 2]]


@on("library", ["numpy", "torch", "jax", "strict"], indirect=True)
@on("block_size", [None, 2])
def test_nan_is_never_mined(library: Library, block_size: int | None) -> None:
    """[helper.mining] Nor is a score of −∞; nothing is for a query of NaN; +∞ comes first."""
    pool = np.array([[1.0, 0.0], [np.nan, 0.0], [np.inf, 1.0], [-np.inf, 1.0], [0.5, 0.0]])
    given = {"query": library.array(np.array([[1.0, 0.0], [np.nan, 0.0]]), "float64")}
    given["pool"] = library.array(pool[:, :1], "float64")
    given["query"] = given["query"][:, :1]
    found = library.run(mine_hard_negatives, given, {"k": 4, "similarity": "dot", "block_size": block_size})
    assert library.numpy(found.indices).tolist() == [[2, 0, 4, -1], [-1] * 4]
    assert library.numpy(found.scores).tolist() == [[np.inf, 1, 0.5, -np.inf], [-np.inf] * 4]


@on("bad", [-1, P])
@on("margin", [None, 0.0])
def test_without_a_positive_nothing_is_mined(library: Library, bad: int, margin: float | None) -> None:
    """[helper.mining] [candidates.index.domain] An index outside the pool: no row for that query, and only for it."""
    index = INDEX.copy()
    index[1] = bad
    given = {"query": library.array(QUERY, "float64"), "pool": library.array(POOL, "float64")}
    given["positive_index"] = library.array(index, "int64")
    options = {"k": 2, "similarity": "dot", "absolute_margin": margin}
    found = library.run(mine_hard_negatives, given, options)
    expected, _ = by_sorting(QUERY, POOL, 2, INDEX, absolute_margin=margin)
    expected[1] = [-1, -1]
    assert library.numpy(found.indices).tolist() == expected


@on("kind", ["absolute_margin", "relative_margin"])
def test_a_positive_that_is_not_in_the_pool(kind: str) -> None:
    """[helper.mining] [helper.false-negatives] Its score sets the limit, as that of a row of the pool does."""
    from_index = mine_hard_negatives(QUERY, POOL, 3, positive_index=INDEX, exclude=INDEX[:, None], **{kind: 0.25})
    from_rows = mine_hard_negatives(QUERY, POOL, 3, positive=POOL[INDEX], exclude=INDEX[:, None], **{kind: 0.25})
    assert (from_index.indices == from_rows.indices).all()


def test_a_positive_of_nan_has_no_negatives() -> None:
    """[helper.mining] Where the limit isn't known nothing lies below it."""
    positive = with_rows(POOL[INDEX], {0: np.nan})
    found = mine_hard_negatives(QUERY, POOL, 2, positive=positive, absolute_margin=0.0)
    assert (found.indices[0] == -1).all()


def test_memory_does_not_grow_with_the_pool() -> None:
    """[helper.mining] Scores of 64 queries and 40 000 rows are 20 MB; in tiles of 64 the peak stays below 2 MB."""
    rng = np.random.default_rng(1)
    query, pool = rng.standard_normal((64, 4)), rng.standard_normal((40_000, 4))
    tracemalloc.start()
    try:
        found = mine_hard_negatives(query, pool, 3, block_size=64)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, pool)]
    assert (found.indices == np.argsort(-(unit[0] @ unit[1].T), axis=1, kind="stable")[:, :3]).all()


def test_the_same_twice(numpy_library: Library) -> None:
    """[call.repeatable] [call.pure] Mined again from the same read-only arrays: the same, bit by bit."""
    given = [numpy_library.array(x, "float32") for x in (RNG.standard_normal((9, 5)), RNG.standard_normal((50, 5)))]
    first, again = (mine_hard_negatives(*given, 7, block_size=16) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))


def test_shapes_without_numbers(meta: Library) -> None:
    """[call.shape] On torch's meta device: (N, k), also where the pool has fewer rows."""
    query, pool, index = meta.array(QUERY, "float32"), meta.array(POOL, "float32"), meta.array(INDEX, "int64")
    found = mine_hard_negatives(query, pool, P + 2, positive_index=index, relative_margin=0.05, block_size=4)
    assert tuple(found.indices.shape) == tuple(found.scores.shape) == (N, P + 2)


def test_masks_and_mined_rows_go_into_a_loss() -> None:
    """[helper.mining] [candidates.own] The mined rows are each query's own negatives; index −1 is masked there."""
    found = mine_hard_negatives(QUERY, POOL, P, positive_index=INDEX, exclude=EXCLUDE, similarity="dot")
    there = found.indices >= 0
    mined = POOL[np.where(there, found.indices, 0)]
    options: Any = {"in_batch_negatives": False, "similarity": "dot", "temperature": 4.0}
    loss = info_nce(QUERY, POOL[INDEX], mined, candidate_mask=there, reduction="none", **options)
    for i in range(N):
        rest = [j for j in range(P) if j != INDEX[i] and j not in EXCLUDE[i]]
        alone = info_nce(QUERY[[i]], POOL[INDEX[[i]]], POOL[rest], **options)
        assert loss[i] == pytest.approx(alone, rel=1e-13)


def test_ids_keep_other_positives_out() -> None:
    """[helper.mining] [helper.false-negatives] No mined row has its query's id."""
    ids, pool_ids = np.arange(N) % 3, np.arange(P) % 3
    found = mine_hard_negatives(QUERY, POOL, 5, candidate_mask=same_id_mask(ids, pool_ids))
    assert (pool_ids[found.indices] != ids[:, None]).all() and (found.indices >= 0).all()


@on(
    ("options", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be ≥ 1"),
        ({"k": 2.0}, TypeError, "k must be an integer"),
        ({"pool": POOL[:, :2]}, ValueError, "pool must have shape"),
        ({"pool": np.float32(POOL)}, TypeError, "pool must have dtype"),
        ({"pool": POOL.tolist()}, TypeError, "pool must be an array"),
        ({"positive": POOL}, ValueError, "positive must have shape"),
        ({"positive_index": INDEX[:2]}, ValueError, "positive_index must have shape"),
        ({"positive_index": INDEX / 1}, TypeError, "positive_index must have an integer dtype"),
        ({"positive_index": INDEX, "positive": QUERY}, ValueError, "must not both be given"),
        ({"absolute_margin": 0.0}, ValueError, "absolute_margin must come with positive_index or positive"),
        ({"relative_margin": 0.1}, ValueError, "relative_margin must come with positive_index or positive"),
        ({"positive_index": INDEX, "relative_margin": np.inf}, ValueError, "relative_margin must be finite"),
        ({"positive_index": INDEX, "absolute_margin": "0"}, TypeError, "absolute_margin must be a real number"),
        ({"exclude": INDEX}, ValueError, "exclude must have shape"),
        ({"exclude": EXCLUDE / 1}, TypeError, "exclude must have an integer dtype"),
        ({"candidate_mask": KEEP[:, :2]}, ValueError, "candidate_mask must have shape"),
        ({"candidate_mask": KEEP * 1}, TypeError, "candidate_mask must have dtype"),
        ({"similarity": "bilinear"}, ValueError, "similarity must be one of"),
        ({"block_size": 0}, ValueError, "block_size must be ≥ 1"),
    ],
)
def test_a_wrong_argument_is_refused(options: Any, error: type[Exception], message: str) -> None:
    """[helper.mining] [input.shape] [dtype.domain] Each error names its argument."""
    with pytest.raises(error, match=message):
        mine_hard_negatives(**{"query": QUERY, "pool": POOL, "k": 2, **options})
