"""info_nce on every library: its numbers against exact ones, its dtypes, shapes and manners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from infonce_ref import info_nce
from infonce_ref.conformance.bounds import bound
from infonce_ref.conformance.oracle import definition
from infonce_ref.conformance.problem import FORMATS
from tests.libraries import HALF, Library
from tests.problems import (
    CASES,
    PLAIN,
    WEIGHTS,
    D,
    M,
    N,
    arguments,
    bounds_of,
    exact_answer,
    outputs,
    problem,
    ratio,
    value_and_grad,
    worst,
)

EAGER = ("numpy", "torch", "jax", "strict", "strict-device1")
on = pytest.mark.parametrize


def dtype_name(x: Any) -> str:
    return str(x.dtype).rpartition(".")[2]


def pulled_back(cotangent: Any, **call: Any) -> Any:
    return info_nce.vjp(**call)[1](cotangent)


# ------------------------------------------------------------------------------------------------ numbers


@on("case", CASES)
@on("dtype", ["float64", "float32"])
def test_loss_and_gradients_are_exact_within_the_bound(
    library: Library, dtype: str, case: str, conforms: Callable[[float], None]
) -> None:
    """Every option, on every library, in its own precision.

    [similarity.cosine] [similarity.cosine.zero] [similarity.dot] [similarity.bilinear] [scale.temperature]
    [scale.margin] [candidates.in-batch] [candidates.shared] [candidates.own] [candidates.positive] [candidates.index]
    [candidates.mask] [candidates.mask.positive] [candidates.none] [rows.softplus] [reduction.mean] [reduction.sum]
    [reduction.none] [reduction.weight] [gradient.query] [gradient.positive-key] [gradient.negative-keys]
    [gradient.temperature] [gradient.margin] [gradient.bilinear-weight] [dtype.compute]
    """
    conforms(worst(value_and_grad(CASES[case], library, dtype), exact_answer(case), bounds_of(case, dtype)))


@on("library", ["torch", "jax", "jax-jit", "strict", "strict-device1"], indirect=True)
@on("dtype", ["float64", "float32"])
def test_libraries_agree(library: Library, numpy_library: Library, dtype: str) -> None:
    """[stream.block] All that sets two libraries apart is an order of summation: they differ by less than the bound."""
    here, there = (value_and_grad(CASES["everything"], each, dtype) for each in (library, numpy_library))
    limits = bounds_of("everything", dtype)
    assert max(ratio(here[name], there[name], limits[name]) for name in here) <= 1


@on("library", ["numpy", "torch", "jax"], indirect=True)
@on("dtype", HALF)
@on("case", ["cosine", "dot", "own", "mask", "everything"])
def test_half_precision_is_storage(
    library: Library, dtype: str, case: str, conforms: Callable[[float], None]
) -> None:
    """[dtype.half] Arithmetic runs in float32, the loss is float32, gradients are rounded once to the input's dtype."""
    arrays, options = arguments(CASES[case], library, dtype)
    loss, grad = info_nce.value_and_grad(**arrays, **options)
    assert dtype_name(loss) == "float32"
    assert {dtype_name(getattr(grad, name)) for name in arrays if hasattr(grad, name)} == {dtype}
    conforms(worst(outputs(library, loss, grad), exact_answer(case), bounds_of(case, dtype)))


@on("library", ["numpy", "torch", "jax"], indirect=True)
def test_a_gradient_beyond_float16_is_infinite(library: Library) -> None:
    """[dtype.half] A gradient of 1e6, made by the cotangent, overflows float16 to an infinity of its sign."""
    arrays, options = arguments(PLAIN, library, "float16")
    with np.errstate(over="ignore"):
        _, pullback = info_nce.vjp(**arrays, **options)
        grad, large = (library.numpy(pullback(c).query) for c in (1.0, 1e9))
    assert np.isinf(large[abs(grad) > 0.01]).all()
    assert (np.sign(large) == np.sign(grad)).all()


def test_seeds_example(numpy_library: Library) -> None:
    """[rows.softplus] [gradient.temperature] Cosines 0.9, 0.6, 0.3 and 0.1 at τ = 0.1: the positive's share is 0.95."""
    cosines = [0.9, 0.6, 0.3, 0.1]
    items = np.array([[c, np.sqrt(1 - c * c)] for c in cosines])
    loss, grad = info_nce.value_and_grad(
        np.array([[1.0, 0.0]]), items[:1], items[1:], temperature=0.1, in_batch_negatives=False
    )
    with mp.workdps(40):
        weights = [mp.exp(mpf(round(10 * c))) for c in cosines]
        shares = [w / sum(weights) for w in weights]
        by_temperature = 100 * sum(p * (9 - mpf(round(10 * c))) / 10 for p, c in zip(shares, cosines, strict=True))
        exact = -mp.log(shares[0])
    assert mp.nstr(exact, 24) == "0.0512645129871811759694703"
    assert mp.nstr(shares[0], 8) == "0.95002734"
    assert float(loss) == pytest.approx(float(exact), rel=2**-48)  # the vectors' cosines are rounded themselves
    assert float(grad.temperature) == pytest.approx(float(by_temperature), rel=2**-48)


@on("library", ["numpy", "torch", "jax"], indirect=True)
@on("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_query_spoils_its_own_loss_and_no_other(library: Library, bad: float) -> None:
    """[rows.nonfinite] With cosine, the loss of a query that holds NaN or an infinity is NaN; the others stay."""
    q, k = (library.array(PLAIN.arrays[name], "float64") for name in ("query", "positive_key"))
    spoilt = PLAIN.arrays["query"].copy()
    spoilt[1, 0] = bad
    with np.errstate(invalid="ignore"):
        here = library.numpy(info_nce(library.array(spoilt, "float64"), k, reduction="none"))
        mean, grad = info_nce.value_and_grad(library.array(spoilt, "float64"), k)
    clean = library.numpy(info_nce(q, k, reduction="none"))
    assert np.isnan(here[1])
    assert (np.delete(here, 1) == np.delete(clean, 1)).all()
    assert np.isnan(library.numpy(mean))
    for g in (library.numpy(grad.query)[1], library.numpy(grad.positive_key), library.numpy(grad.temperature)):
        assert not np.isfinite(g).any()


@on("similarity", ["cosine", "dot"])
def test_nonfinite_key_spoils_every_query_that_meets_it(similarity: Any) -> None:
    """[rows.nonfinite] A NaN in a key makes the loss of every query NaN, since it is a candidate of all."""
    q, k = PLAIN.arrays["query"], PLAIN.arrays["positive_key"].copy()
    k[2, 1] = np.nan
    assert np.isnan(info_nce(q, k, similarity=similarity, reduction="none")).all()


# ------------------------------------------------------------------------- the three ways to call, and blocks


@on("library", EAGER, indirect=True)
@on("case", ["cosine", "everything"])
def test_three_calls_one_answer(library: Library, case: str) -> None:
    """[call.repeatable] The plain call, value_and_grad and the pullback of 1 agree to the last bit, now and again."""
    arrays, options = arguments(CASES[case], library, "float64")
    first = value_and_grad(CASES[case], library, "float64")
    assert (library.numpy(info_nce(**arrays, **options)) == first["loss"]).all()
    loss, pullback = info_nce.vjp(**arrays, **options)
    for again in (outputs(library, loss, pullback(1.0)), value_and_grad(CASES[case], library, "float64")):
        assert all((again[name] == first[name]).all() for name in first)


@on("block_size", [None, 3])
def test_pullback_of_a_cotangent_weights_the_entries(
    library: Library, block_size: int | None, conforms: Callable[[float], None]
) -> None:
    """[reduction.none] The pullback of c is the gradient of Σ c_i L_i, the weighted sum."""
    p, weighted = CASES["none"], problem(15, sample_weight=WEIGHTS, changes={"reduction": "sum"})
    arrays, options = arguments(p, library, "float64")
    cotangent = library.array(np.array(WEIGHTS), "float64")
    grad = library.run(pulled_back, {**arrays, "cotangent": cotangent}, {**options, "block_size": block_size})
    answer, limits = definition.evaluate(weighted), bound(weighted, FORMATS["float64"])
    computed = outputs(library, cotangent, grad)
    conforms(max(ratio(computed[name], answer.grad[name], limits[name]) for name in answer.grad))


def test_pullback_can_be_called_again(numpy_library: Library) -> None:
    """[call.repeatable] A pullback is a linear function: twice the cotangent gives twice the gradient."""
    arrays, options = arguments(PLAIN, numpy_library, "float64")
    _, pullback = info_nce.vjp(**arrays, **options)
    once, twice, again = pullback(1.0), pullback(2.0), pullback(1.0)
    assert (2 * once.query == twice.query).all()
    assert (once.query == again.query).all()


@on("library", ["numpy", "torch", "jax-jit", "strict-device1"], indirect=True)
@on("block_size", [1, 3, N, N + 5])
@on("case", ["in-batch+own", "index", "everything"])
def test_blocks_of_any_size(
    library: Library, block_size: int, case: str, conforms: Callable[[float], None]
) -> None:
    """[stream.block] Streaming is an order of summation: all three ways to call stay within the bound."""
    p = CASES[case]
    answer, limits = exact_answer(case), bounds_of(case, "float32")
    computed = value_and_grad(p, library, "float32", block_size=block_size)
    conforms(worst(computed, answer, limits))
    if library.name == "jax-jit":  # compiling the other two ways says nothing new
        return
    arrays, options = arguments(p, library, "float32")
    loss, pullback = info_nce.vjp(**arrays, **options, block_size=block_size)
    conforms(worst(outputs(library, loss, pullback(1.0)), answer, limits))
    value = library.numpy(info_nce(**arrays, **options, block_size=block_size))
    conforms(ratio(value, answer.loss, limits["loss"]))


# ------------------------------------------------------------------------------------------ dtypes and shapes


@on("library", EAGER, indirect=True)
@on("dtype", ["float64", "float32", *HALF])
def test_dtypes_of_the_results(library: Library, dtype: str) -> None:
    """[dtype.result] The loss has the compute dtype; so has a Python number's gradient; an array's has its own."""
    if dtype not in library.dtypes:
        pytest.skip(f"{library.name} has no {dtype}")
    arrays, options = arguments(CASES["everything"], library, dtype)
    compute = "float64" if dtype == "float64" else "float32"
    loss, grad = info_nce.value_and_grad(**arrays, **options)
    assert dtype_name(loss) == compute
    assert {name: dtype_name(g) for name, g in grad._asdict().items()} == dict.fromkeys(
        ("query", "positive_key", "negative_keys", "bilinear_weight", "logit_bias"), dtype
    ) | dict.fromkeys(("temperature", "margin"), compute)


@on("library", ["numpy", "torch", "jax"], indirect=True)
def test_weights_may_have_the_compute_dtype(library: Library) -> None:
    """[dtype.domain] [dtype.half] Beside half-precision embeddings W and sample_weight may be float32."""
    arrays, options = arguments(CASES["everything"], library, "bfloat16")
    for name in ("bilinear_weight", "sample_weight"):
        arrays[name] = library.array(CASES["everything"].arrays[name], "float32")
    loss, grad = info_nce.value_and_grad(**arrays, **options)
    assert dtype_name(grad.bilinear_weight) == "float32"
    half = value_and_grad(CASES["everything"], library, "bfloat16")
    assert (library.numpy(loss) == half["loss"]).all()


@on("library", EAGER, indirect=True)
@on("name", ["temperature", "margin"])
@on("theirs", ["float64", "float32", *HALF])
@on("dtype", ["float64", "float32"])
def test_scalars_of_any_precision(library: Library, dtype: str, theirs: str, name: str) -> None:
    """[dtype.temperature] A 0-d array of any precision promotes nothing and has its gradient in its own dtype."""
    if theirs not in library.dtypes:
        pytest.skip(f"{library.name} has no {theirs}")
    arrays, options = arguments(PLAIN, library, dtype)
    given, plain = ({**options, name: x} for x in (library.array(np.array(0.5), theirs), 0.5))
    loss, grad = info_nce.value_and_grad(**arrays, **given)
    expected, by_number = info_nce.value_and_grad(**arrays, **plain)
    assert (dtype_name(loss), dtype_name(grad.query)) == (dtype, dtype)
    assert dtype_name(getattr(grad, name)) == theirs
    assert library.numpy(loss) == library.numpy(expected)
    unit = max(FORMATS[theirs].unit, FORMATS[dtype].unit)
    assert library.numpy(getattr(grad, name)) == pytest.approx(library.numpy(getattr(by_number, name)), rel=2 * unit)


@on("library", EAGER, indirect=True)
@on("scalar", [np.float64(0.3), np.float32(0.3)])
def test_numpy_scalars_are_numbers(library: Library, scalar: Any) -> None:
    """[dtype.temperature] NumPy's scalars are numbers: beside any library's arrays they act as Python's float."""
    arrays, options = arguments(PLAIN, library, "float32")
    results = [
        info_nce.value_and_grad(**arrays, **{**options, "temperature": t, "margin": t})
        for t in (scalar, float(scalar))
    ]
    (loss, grad), (expected, by_float) = results
    assert dtype_name(loss) == dtype_name(grad.temperature) == dtype_name(grad.margin) == "float32"
    assert library.numpy(loss) == library.numpy(expected)
    assert library.numpy(grad.temperature) == library.numpy(by_float.temperature)


@on("library", EAGER, indirect=True)
@on("value", [0.0, -1.0, float("nan")])
def test_an_arrays_temperature_is_never_refused(library: Library, value: float) -> None:
    """[scale.temperature.domain] A 0-d array that isn't > 0 makes the loss NaN; its value is not looked at."""
    arrays, options = arguments(PLAIN, library, "float64")
    loss = info_nce(**arrays, **{**options, "temperature": library.array(np.array(value), "float64")})
    assert np.isnan(library.numpy(loss))


@on("value", [float("inf"), float("nan")])
def test_an_arrays_margin_is_never_refused(numpy_library: Library, value: float) -> None:
    """[scale.margin.domain] A 0-d array that holds an infinity or NaN makes the loss NaN."""
    arrays, options = arguments(PLAIN, numpy_library, "float64")
    with np.errstate(invalid="ignore"):
        assert np.isnan(info_nce(**arrays, **{**options, "margin": np.array(value)}))


@on("case", CASES)
def test_shapes_of_the_results(numpy_library: Library, case: str) -> None:
    """[call.shape] () or (N,) for the loss; for a gradient its argument's shape."""
    p = CASES[case]
    computed = value_and_grad(p, numpy_library, "float64")
    n = len(p.arrays["query"])
    assert computed["loss"].shape == ((n,) if p.reduction == "none" else ())
    shapes = {name: x.shape for name, x in computed.items() if name != "loss"}
    assert shapes == {name: p.arrays[name].shape if name in p.arrays else () for name in p.differentiable}


@on("library", EAGER, indirect=True)
@on("similarity", ["cosine", "dot", "bilinear"])
def test_arguments_stay_as_they_are(library: Library, similarity: str) -> None:
    """[call.pure] No argument is written to, and no result lies in an argument's memory."""
    p = problem(18, similarity=similarity, negatives="own", sample_weight=WEIGHTS, changes={"reduction": "none"})
    arrays, options = arguments(p, library, "float64")
    options |= {name: library.array(np.array(0.5), "float64") for name in ("temperature", "margin")}
    before = {name: library.numpy(x).copy() for name, x in arrays.items()}
    loss, grad = info_nce.value_and_grad(**arrays, **options)
    assert all((library.numpy(x) == before[name]).all() for name, x in arrays.items())
    if library.name in ("numpy", "torch"):
        results = [np.asarray(x) for x in (loss, *grad) if x is not None]
        given = [np.asarray(x) for x in (*arrays.values(), options["temperature"], options["margin"])]
        assert not any(np.shares_memory(x, y) for x in results for y in given)


def test_bilinear_keys_may_be_longer_than_queries() -> None:
    """[input.shape] W is (D, E), queries are of length D, keys of length E."""
    p = problem(2, similarity="bilinear")
    assert p.arrays["query"].shape == (N, D)
    assert info_nce.value_and_grad(**p.arrays, similarity="bilinear")[1].positive_key.shape == (N, D - 1)


def test_masked_keys_may_hold_anything(library: Library) -> None:
    """[candidates.mask.unused] A key that nobody uses may be NaN: nothing changes, and its gradient is 0."""
    allowed = np.ones((N, 6 + M), bool)
    allowed[:, [4, 6]] = False
    p = problem(19, keys=6, positive_index=[5, 0, 3, 0], negatives="shared", candidate_mask=allowed)
    spoilt = {name: x.copy() for name, x in p.arrays.items()}
    spoilt["positive_key"][4], spoilt["negative_keys"][0] = np.nan, np.inf
    clean = value_and_grad(p, library, "float64")
    dirty = value_and_grad(problem(**spoilt), library, "float64")
    assert all((clean[name] == dirty[name]).all() for name in clean)
    assert (dirty["positive_key"][4] == 0).all() and (dirty["negative_keys"][0] == 0).all()


@on("keys", ["positive_key", "negative_keys"])
def test_masked_entries_get_exactly_nothing(keys: str) -> None:
    """[candidates.mask] A masked candidate adds exactly 0: the loss doesn't see it and its gradient is 0."""
    p = problem(20, negatives="own", changes={"in_batch_negatives": keys == "positive_key"})
    columns = N + M if keys == "positive_key" else M
    allowed = np.ones((N, columns), bool)
    allowed[:, -1] = False
    grad = info_nce.value_and_grad(**p.arrays, in_batch_negatives=p.in_batch_negatives, candidate_mask=allowed)[1]
    assert (grad.negative_keys[:, -1] == 0).all()
    assert (grad.negative_keys[:, 0] != 0).any()


def test_the_mask_cannot_remove_the_positive() -> None:
    """[candidates.mask.positive] Clearing the mask on the positives changes nothing."""
    q, k = PLAIN.arrays["query"], PLAIN.arrays["positive_key"]
    assert info_nce(q, k, candidate_mask=~np.eye(N, dtype=bool)) == info_nce(q, k)


def test_an_index_out_of_range_is_not_read_on_the_host() -> None:
    """[candidates.index.domain] An index outside 0 … K − 1 leads to NaN here, not to another key."""
    q, k = PLAIN.arrays["query"], PLAIN.arrays["positive_key"]
    for i in (-1, N):
        losses = info_nce(q, k, positive_index=np.array([0, i, 2, 3]), reduction="none")
        assert np.isnan(losses).tolist() == [False, True, False, False]
