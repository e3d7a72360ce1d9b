"""Diagnostics against formulas, brute force and SciPy, on every library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf
from scipy.spatial.distance import pdist
from scipy.special import logsumexp

from infonce_ref import alignment, info_nce, mutual_information_bound, negative_weights, top_k_accuracy, uniformity
from infonce_ref.conformance.problem import FORMATS
from tests.libraries import HALF, Library
from tests.problems import grid, with_rows

on = pytest.mark.parametrize
quick = settings(max_examples=60, deadline=None, derandomize=True)
RNG = np.random.default_rng(83)
N, C, D = 4, 7, 3
LOGITS = 2 * grid(RNG, N, C)
X, Y = grid(RNG, N, D), grid(RNG, N, D)
KEEP = RNG.random((N, C)) < 0.6
INDEX = np.array([6, 0, 2, 2])
AFTER_HALF = {"float64": "float64", "float32": "float32", "float16": "float32", "bfloat16": "float32"}


def unit(dtype: str) -> float:
    """The unit roundoff of the arithmetic."""
    return float(FORMATS[AFTER_HALF[dtype]].unit)


def dtype_name(x: Any) -> str:
    return str(x.dtype).rpartition(".")[2]


# ------------------------------------------------------------------------------------------------ mutual information


@on("dtype", ["float64", "float32"])
def test_the_bound_is_log_n_less_the_loss(library: Library, dtype: str) -> None:
    """[helper.mutual-information] Entry by entry, in the dtype of the loss."""
    losses = library.array(np.array([0.25, 0.0, 3.0]), dtype)
    bound = library.run(mutual_information_bound, {"loss": losses}, {"n": 8})
    assert dtype_name(bound) == dtype
    assert library.numpy(bound) == pytest.approx(3 * math.log(2) - np.array([0.25, 0.0, 3.0]), rel=8 * unit(dtype))


def test_no_information_is_no_bound() -> None:
    """[helper.mutual-information] Where all rows are alike the loss is log N, and the bound is 0."""
    rows = np.ones((5, 3))
    assert mutual_information_bound(info_nce(rows, rows), 5) == pytest.approx(0, abs=1e-15)
    assert mutual_information_bound(0.0, 1) == 0


@on(("n", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_number_of_candidates_is_an_integer(n: Any, error: type[Exception]) -> None:
    """[helper.mutual-information] n counts the candidates, the positive among them: an integer ≥ 1."""
    with pytest.raises(error, match=r"n must be .*\[helper"):
        mutual_information_bound(0.0, n)


# -------------------------------------------------------------------------------------------------- negative weights


def exact_weights(logits: np.ndarray, index: np.ndarray, keep: np.ndarray, tau: float) -> tuple[Any, Any]:
    """Shares and effective numbers, straight from the definition, in 40 digits."""
    weights, numbers = np.zeros(logits.shape), np.zeros(len(logits))
    with mp.workdps(40):
        for i, row in enumerate(logits):
            negatives = [j for j in range(len(row)) if j != index[i] and keep[i, j]]
            e = {j: mp.exp(mpf(float(row[j])) / mpf(tau)) for j in negatives}
            shares = {j: x / sum(e.values()) for j, x in e.items()}
            for j, share in shares.items():
                weights[i, j] = float(share)
            if negatives:
                numbers[i] = float(mp.exp(-sum(w * mp.log(w) for w in shares.values())))
    return weights, numbers


@on("dtype", ["float64", "float32", *HALF])
@on("case", ["plain", "index", "mask", "temperature"])
def test_weights_are_shares_of_the_gradient(library: Library, dtype: str, case: str) -> None:
    """[helper.negative-weights] Softmax over the negatives, and the exponential of its entropy."""
    if dtype not in library.dtypes:
        pytest.skip(f"{library.name} has no {dtype}")
    index = INDEX if case in ("index", "mask") else np.arange(N)
    keep = KEEP if case == "mask" else np.ones((N, C), bool)
    tau = 0.25 if case == "temperature" else 1.0
    given = {"logits": library.array(LOGITS, dtype)}
    if index is INDEX:
        given["positive_index"] = library.array(INDEX, "int64")
    if case == "mask":
        given["candidate_mask"] = library.array(KEEP, "bool")
    weights, number = library.run(negative_weights, given, {"temperature": tau})
    expected, numbers = exact_weights(LOGITS, index, keep, tau)
    # e^{s − max} is off by 2u|s − max| + 2u, a sum of C by Cu: shares of relative error r, entropies of r(1 + log C)
    r = (2 * np.abs(LOGITS).max() / tau * 2 + C + 8) * unit(dtype)
    assert dtype_name(weights) == dtype_name(number) == AFTER_HALF[dtype]
    assert library.numpy(weights) == pytest.approx(expected, rel=r, abs=0)
    assert library.numpy(number) == pytest.approx(numbers, rel=4 * r)


def test_they_are_what_the_gradient_says() -> None:
    """[helper.negative-weights] [gradient.negative-keys] In proportion to the gradient of info_nce by each negative."""
    # Queries of one coordinate, 1: a key is its own similarity, and its gradient is that by the logit over τ.
    tau, ones = 0.5, np.ones((N, 1))
    keys, positive = LOGITS[:, 1:, None], LOGITS[:, :1]
    options: Any = {"similarity": "dot", "in_batch_negatives": False, "temperature": tau, "reduction": "none"}
    by_key = info_nce.value_and_grad(ones, positive, keys, **options)[1].negative_keys[:, :, 0]
    weights = negative_weights(LOGITS, np.zeros(N, int), temperature=tau).weights
    assert weights[:, 1:] == pytest.approx(by_key / by_key.sum(axis=1, keepdims=True), rel=1e-13)


def test_the_temperature_may_be_an_array(library: Library) -> None:
    """[helper.negative-weights] [dtype.temperature] As in a loss: a 0-d array promotes nothing and isn't looked at."""
    logits, tau = library.array(LOGITS, "float32"), library.array(np.array(0.25), "float64")
    found = library.run(negative_weights, {"logits": logits, "temperature": tau}, {})
    expected = library.run(negative_weights, {"logits": logits}, {"temperature": 0.25})
    assert dtype_name(found.weights) == "float32"
    assert (library.numpy(found.weights) == library.numpy(expected.weights)).all()
    bad = library.array(np.array(-1.0), "float32")
    none = library.run(negative_weights, {"logits": logits, "temperature": bad}, {})
    assert np.isnan(library.numpy(none.effective_number)).all()


def test_the_effective_number_counts() -> None:
    """[helper.negative-weights] Equal negatives count each; one that outweighs all others counts alone; none is 0."""
    equal = np.zeros((1, 6))
    keep = np.array([[True, True, False, True, False, True]])
    assert negative_weights(equal).effective_number == pytest.approx(5, rel=1e-15)
    assert negative_weights(equal, candidate_mask=keep).effective_number == pytest.approx(3, rel=1e-15)
    assert negative_weights(with_rows(equal, {0: [0, 900, 0, 0, 0, 0]})).effective_number == 1
    for nothing in (negative_weights(equal, candidate_mask=np.zeros((1, 6), bool)), negative_weights(np.ones((1, 1)))):
        assert (nothing.weights == 0).all() and (nothing.effective_number == 0).all()


@quick
@given(arrays(np.float64, (3, 5), elements=st.floats(-300, 300)), st.floats(0.05, 20))
def test_shares_sum_to_one(logits: np.ndarray, tau: float) -> None:
    """[helper.negative-weights] Shares ≥ 0 of sum 1, exactly 0 on the positive; worth between 1 and all negatives."""
    weights, number = negative_weights(logits, temperature=tau)
    assert (weights >= 0).all() and (np.diag(weights) == 0).all()
    assert weights.sum(axis=1) == pytest.approx(np.ones(3), rel=1e-14)
    assert (number >= 1 - 1e-14).all() and (number <= 4 + 1e-13).all()


def test_what_is_masked_may_hold_anything() -> None:
    """[helper.negative-weights] [candidates.mask] Masked entries and the positive leave no trace, NaN and inf too."""
    keep = np.ones((N, C), bool)
    keep[:, 5] = False
    dirty = LOGITS.copy()
    dirty[:, 5], dirty[range(N), range(N)] = np.nan, np.inf
    clean = negative_weights(LOGITS, candidate_mask=keep)
    for here, there in zip(negative_weights(dirty, candidate_mask=keep), clean, strict=True):
        assert (here == there).all()
    assert (clean.weights[:, 5] == 0).all()


@on("bad", [-1, C])
def test_a_positive_outside_gives_nan(library: Library, bad: int) -> None:
    """[helper.negative-weights] [candidates.index.domain] Its query's row is NaN, the others stay."""
    given = {"logits": library.array(LOGITS, "float64")}
    index = {"positive_index": library.array(np.array([0, bad, 2, 3]), "int64")}
    found = library.run(negative_weights, given | index, {})
    expected = library.run(negative_weights, given, {})
    for here, there in zip(found, expected, strict=True):
        rows, clean = library.numpy(here), library.numpy(there)
        assert np.isnan(rows[1]).all()
        assert (np.delete(rows, 1, axis=0) == np.delete(clean, 1, axis=0)).all()


def test_a_nan_logit_spoils_its_row() -> None:
    """[helper.negative-weights] [rows.nonfinite] NaN among the negatives: that row's weights aren't finite numbers."""
    dirty = LOGITS.copy()
    dirty[1, 5] = np.nan
    weights, number = negative_weights(dirty)
    assert np.isnan(number[1]) and np.isnan(np.delete(weights[1], 1)).all()
    assert np.isfinite(np.delete(weights, 1, axis=0)).all()


def test_a_logit_of_minus_infinity_weighs_nothing() -> None:
    """[helper.negative-weights] e^{−∞} = 0: a caller's own mask of −∞ gives that negative no share."""
    found = negative_weights(np.array([[0.0, 1.0, -np.inf, 1.0]]))
    assert found.weights == pytest.approx(np.array([[0, 0.5, 0, 0.5]]))
    assert found.effective_number == pytest.approx(2)


# ------------------------------------------------------------------------------------------ alignment and uniformity


def normalised(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@on("dtype", ["float64", "float32", *HALF])
@on("alpha", [2, 1, 0.5, 3.0])
def test_alignment_is_a_mean_distance(library: Library, dtype: str, alpha: float) -> None:
    """[helper.alignment] The mean of ‖x̂ − ŷ‖^α over the pairs; for α = 2 that is 2 − 2 · the mean cosine."""
    if dtype not in library.dtypes:
        pytest.skip(f"{library.name} has no {dtype}")
    given = {"x": library.array(X, dtype), "y": library.array(Y, dtype)}
    found = library.run(alignment, given, {"alpha": alpha})
    u, v = normalised(X), normalised(Y)
    assert dtype_name(found) == AFTER_HALF[dtype]
    assert found.shape == ()
    assert library.numpy(found) == pytest.approx(np.mean(np.linalg.norm(u - v, axis=1) ** alpha), rel=40 * unit(dtype))
    if alpha == 2:
        assert library.numpy(found) == pytest.approx(2 - 2 * np.mean(np.sum(u * v, axis=1)), rel=40 * unit(dtype))


def test_alignment_depends_on_directions() -> None:
    """[helper.alignment] [similarity.cosine.scale] Lengths don't count, whatever they are; a zero row is 1 away."""
    lengths = np.array([[1e-300], [4.0], [1e300], [0.25]])
    assert alignment(X, X * lengths) == pytest.approx(0, abs=1e-30)
    assert alignment(X, -X * lengths) == pytest.approx(4, rel=1e-15)
    assert alignment(np.zeros((1, 2)), np.array([[0.0, 3.0]])) == 1


def potentials(x: np.ndarray, t: float) -> float:
    """The log of the mean Gaussian potential, over pairs i < j."""
    squared = pdist(normalised(x), "sqeuclidean")
    return float(logsumexp(-t * squared) - np.log(len(squared)))


@on("dtype", ["float64", "float32", *HALF])
@on("t", [2, 0.5, 500.0])
def test_uniformity_is_a_log_mean_potential(library: Library, dtype: str, t: float) -> None:
    """[helper.uniformity] As SciPy's pairwise distances give it; at t = 500 every potential alone underflows."""
    if dtype not in library.dtypes:
        pytest.skip(f"{library.name} has no {dtype}")
    found = library.run(uniformity, {"x": library.array(X, dtype)}, {"t": t})
    assert dtype_name(found) == AFTER_HALF[dtype]
    assert found.shape == ()
    # a squared distance ≤ 4 is off by some (4D + 12) u
    assert library.numpy(found) == pytest.approx(potentials(X, t), abs=(4 * D + 12) * (t + 1) * unit(dtype))


@on("library", ["numpy", "torch", "jax-jit", "strict-device1"], indirect=True)
@on("block_size", [1, 2, 3, 11, 30])
def test_uniformity_in_blocks(library: Library, block_size: int) -> None:
    """[helper.uniformity] [stream.block] Blocks of any size: the same number within rounding."""
    x = grid(np.random.default_rng(5), 11, D)
    found = library.run(uniformity, {"x": library.array(x, "float64")}, {"block_size": block_size})
    assert library.numpy(found) == pytest.approx(potentials(x, 2), abs=1e-14)


def test_uniformity_of_known_arrangements() -> None:
    """[helper.uniformity] One point: 0. At right angles: −2t. A pair of opposites: −4t. Lengths don't count."""
    assert uniformity(np.ones((5, 3))) == pytest.approx(0, abs=1e-14)
    assert uniformity(3 * np.eye(6), t=1.5) == pytest.approx(-3, rel=1e-15)
    assert uniformity(np.array([[1e-30], [-1e30]]), t=3) == pytest.approx(-12, rel=1e-15)
    assert uniformity(np.array([[0.0, 0.0], [0.0, 2.0]]), t=3) == -3  # a zero row stays at the centre


# --------------------------------------------------------------------------------------------------- top-k accuracy


def brute_force(query: np.ndarray, key: np.ndarray, k: int, index: Any, keep: Any = None) -> float:
    """Count, for every query, the keys that are as similar as its positive or more so."""
    hits = []
    for i, q in enumerate(query):
        s = [float(q @ x) for x in key]
        others = [j for j in range(len(key)) if j != index[i] and (keep is None or keep[i][j])]
        hits.append(sum(s[j] >= s[index[i]] for j in others) < k)
    return float(np.mean(hits))


small = st.integers(-2, 2).map(float)  # few values, so that there are ties; every inner product is exact


@quick
@given(
    arrays(np.float64, (4, 2), elements=small),
    arrays(np.float64, (6, 2), elements=small),
    st.integers(1, 7),
    st.lists(st.integers(0, 5), min_size=4, max_size=4),
    arrays(bool, (4, 6)),
    st.integers(1, 5),
)
def test_top_k_is_what_counting_gives(q: Any, keys: Any, k: int, index: Any, keep: Any, block_size: int) -> None:
    """[helper.top-k] Ties count against the positive; masked keys don't count; blocks change nothing."""
    expected = brute_force(q, keys, k, index, keep)
    found = top_k_accuracy(q, keys, k, np.array(index), "dot", keep, block_size=block_size)
    assert found == expected
    assert top_k_accuracy(q, keys, k, similarity="dot") == brute_force(q, keys, k, range(4))


@on("dtype", ["float64", "float32", *HALF])
def test_top_k_on_every_library(library: Library, dtype: str) -> None:
    """[helper.top-k] With distractors, an index and a mask, in blocks, on every library."""
    if dtype not in library.dtypes:
        pytest.skip(f"{library.name} has no {dtype}")
    q, keys = grid(np.random.default_rng(6), 9, D), grid(np.random.default_rng(7), 12, D)
    index, keep = np.arange(9)[::-1] + 2, np.random.default_rng(8).random((9, 12)) < 0.7
    given = {"query": library.array(q, dtype), "key": library.array(keys, dtype)}
    given |= {"positive_index": library.array(index, "int64"), "candidate_mask": library.array(keep, "bool")}
    for k in (1, 3):
        found = library.run(top_k_accuracy, given, {"k": k, "similarity": "dot", "block_size": 4})
        assert dtype_name(found) == AFTER_HALF[dtype]
        assert library.numpy(found) == pytest.approx(brute_force(q, keys, k, index, keep), rel=2 * unit(dtype))


def test_a_collapsed_encoder_scores_nothing() -> None:
    """[helper.top-k] All rows alike: every key ties with the positive, which is in nobody's top k until k is all."""
    rows = np.ones((5, 2))
    assert [float(top_k_accuracy(rows, rows, k)) for k in (1, 4, 5)] == [0, 0, 1]


def test_a_perfect_encoder_scores_all() -> None:
    """[helper.top-k] [similarity.cosine] Each query finds the key of its own direction, whatever the lengths."""
    angles = np.arange(5)[:, None]
    rows = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    assert top_k_accuracy(rows, rows * np.array([[1e-20], [1.0], [5.0], [1e20], [2.0]]), 1) == 1


@on("spoilt", ["query", "key", "positive"])
def test_nan_is_never_a_hit_or_a_miss(spoilt: str) -> None:
    """[helper.top-k] [rows.nonfinite] NaN where it takes part makes the accuracy NaN; behind the mask it doesn't."""
    q, keys, keep = X.copy(), np.concatenate([Y, X]), np.ones((N, 2 * N), bool)
    x, row = {"query": (q, 1), "key": (keys, 6), "positive": (keys, 2)}[spoilt]
    expected = top_k_accuracy(q, keys[:6], 1)
    x[row] = np.nan
    with np.errstate(invalid="ignore"):
        assert np.isnan(top_k_accuracy(q, keys, 1))
        if spoilt == "positive":  # for its own query alone
            keep[:, 2] = False
            assert np.isnan(top_k_accuracy(q, keys, 1, candidate_mask=keep))
        if spoilt == "key":
            keep[:, 6:] = False
            assert top_k_accuracy(q, keys, 1, candidate_mask=keep) == expected


@on("bad", [-1, N])
def test_a_positive_outside_makes_the_accuracy_nan(bad: int) -> None:
    """[helper.top-k] [candidates.index.domain] A query without a positive is neither hit nor miss."""
    assert np.isnan(top_k_accuracy(X, Y, 1, np.array([0, 1, bad, 3])))


# ------------------------------------------------------------------------------------------------------ for all alike


def test_shapes_are_known_without_numbers(meta: Library) -> None:
    """[call.shape] On torch's meta device: nothing is read, and results have their shapes."""
    logits, x = meta.array(LOGITS, "float32"), meta.array(X, "float32")
    weights, number = negative_weights(logits, meta.array(INDEX, "int64"), meta.array(KEEP, "bool"), 0.5)
    assert (tuple(weights.shape), tuple(number.shape)) == ((N, C), (N,))
    results = alignment(x, x), uniformity(x, block_size=3), top_k_accuracy(x, x, 1), mutual_information_bound(number, 2)
    assert [tuple(r.shape) for r in results] == [(), (), (), (N,)]
    assert all(r.device.type == "meta" for r in (weights, *results))


@on(
    ("call", "error", "message"),
    [
        (lambda: negative_weights([[1.0]]), TypeError, "logits must be an array"),
        (lambda: negative_weights(LOGITS[0]), ValueError, "logits must have shape"),
        (lambda: negative_weights(LOGITS.T), ValueError, "logits must hold the positives of 7 queries, got 4"),
        (lambda: negative_weights(LOGITS.astype(int)), TypeError, "logits must have dtype"),
        (lambda: negative_weights(LOGITS, INDEX[:2]), ValueError, "positive_index must have shape"),
        (lambda: negative_weights(LOGITS, INDEX / 1), TypeError, "positive_index must have an integer dtype"),
        (lambda: negative_weights(LOGITS, None, KEEP[:, :2]), ValueError, "candidate_mask must have shape"),
        (lambda: negative_weights(LOGITS, None, KEEP * 1), TypeError, "candidate_mask must have dtype"),
        (lambda: negative_weights(LOGITS, temperature=0), ValueError, "temperature must be > 0"),
        (lambda: alignment(X, Y[:2]), ValueError, "y must have shape"),
        (lambda: alignment(X, np.float32(Y)), TypeError, "y must have dtype"),
        (lambda: alignment(X, Y, alpha=0), ValueError, "alpha must be > 0"),
        (lambda: alignment(X, Y, alpha=np.ones(())), TypeError, "alpha must be a real number"),
        (lambda: uniformity(X[:1]), ValueError, "x must have at least 2 rows"),
        (lambda: uniformity(X, t=-1.0), ValueError, "t must be > 0"),
        (lambda: uniformity(X, t=math.inf), ValueError, "t must be > 0 and finite"),
        (lambda: uniformity(X, block_size=0), ValueError, "block_size must be ≥ 1"),
        (lambda: top_k_accuracy(X, Y, 0), ValueError, "k must be ≥ 1"),
        (lambda: top_k_accuracy(X, Y, 1.0), TypeError, "k must be an integer"),
        (lambda: top_k_accuracy(X, Y[:2], 1), ValueError, "key must hold the positives of 4 queries, got 2"),
        (lambda: top_k_accuracy(X, Y[:, :2], 1), ValueError, "key must have shape"),
        (lambda: top_k_accuracy(X, Y, 1, similarity="bilinear"), ValueError, "similarity must be one of"),
        (lambda: top_k_accuracy(X, Y, 1, candidate_mask=KEEP), ValueError, "candidate_mask must have shape"),
    ],
)
def test_a_wrong_argument_is_refused(call: Any, error: type[Exception], message: str) -> None:
    """[input.shape] [dtype.domain] [similarity.domain] Each error names its argument, what came and what may come."""
    with pytest.raises(error, match=message):
        call()
