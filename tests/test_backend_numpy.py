"""The NumPy backend: the reference's numbers and errors, in tiles, whatever their height and the number of threads."""

from __future__ import annotations

import contextlib
import inspect
import math
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import infonce_ref
from infonce_ref.backends import _numpy, _numpy_plans, _numpy_threads, _numpy_unit
from infonce_ref.backends import numpy as fast
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.problem import Problem
from tests import families, problems
from tests.certify import certify
from tests.libraries import HALF, Library
from tests.problems import arguments, grid, outputs, reference, worst

on = pytest.mark.parametrize
TILED = ("clip", "gte", "info_nce", "matryoshka", "moco", "n_pair", "nt_xent", "sup_con")
CASES: dict[str, tuple[Problem, Any]] = {
    **{name: (p, problems) for name, p in problems.CASES.items()},
    **{name: (p, families) for name, p in families.CASES.items() if p.loss in TILED},
}


def computed(case: str, library: Library, dtype: str, **more: Any) -> dict[str, np.ndarray]:
    p, _ = CASES[case]
    arrays, options = arguments(p, library, dtype)
    return outputs(library, *reference(p, fast).value_and_grad(**arrays, **{**options, **more}))


@on("case", CASES)
@on("dtype", ["float64", "float32"])
@on("block_size", [None, 2])
def test_exact_within_the_bound(
    numpy_library: Library, case: str, dtype: str, block_size: int | None, conforms: Callable[[float], None]
) -> None:
    """[stream.block] Loss and gradients are the oracle's within the bound, with tiles of any height."""
    _, module = CASES[case]
    got = computed(case, numpy_library, dtype, block_size=block_size)
    conforms(worst(got, module.exact_answer(case), module.bounds_of(case, dtype)))


@on("case", ["cosine", "in-batch+own", "clip: plain"])
@on("dtype", HALF)
def test_half_precision(numpy_library: Library, case: str, dtype: str, conforms: Callable[[float], None]) -> None:
    """[dtype.half] Half precision is storage here too."""
    _, module = CASES[case]
    conforms(worst(computed(case, numpy_library, dtype), module.exact_answer(case), module.bounds_of(case, dtype)))


@on("loss", TILED)
def test_conforms_to_all_profiles(loss: str) -> None:
    """[call.pure] [call.repeatable] The suite accepts it by the path that anyone's code takes, precise included."""
    certify(getattr(fast, loss), getattr(infonce_ref, loss), loss, "numpy")


def same(one: Any, other: Any) -> None:
    for a, b in zip(one, other, strict=True):
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def in_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """So many, however small the problem and whatever is installed; the list tells how many, but for one."""
    seen = []
    original = _numpy_threads.ThreadPoolExecutor

    def pool(workers: int) -> Any:
        seen.append(workers)
        return original(workers)

    monkeypatch.setattr(_numpy_threads, "ThreadPoolExecutor", pool)
    monkeypatch.setattr(_numpy_threads, "threads_for", lambda scores: threads)
    monkeypatch.setattr(_numpy_threads, "one_thread_each", lambda threads: contextlib.nullcontext())
    return seen


@on("tau", [0.1, 0.001])
@on("threads", [1, 2, 3])
def test_tiles_and_threads_change_nothing(tau: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles in several threads, with the fixed shift and with the rows' largest, agree with the reference."""
    seen = in_threads(threads, monkeypatch)
    rng = np.random.default_rng(401)
    q, k, n = rng.standard_normal((70, 5)), rng.standard_normal((70, 5)), rng.standard_normal((70, 2, 5))
    m = rng.random((70, 72)) < 0.7
    for arrays in ((q, k), (q, k, n)):
        mask = m[:, : 70 + 2 * (len(arrays) - 2)]
        options = {"temperature": tau, "candidate_mask": mask, "block_size": 16}
        loss, grad = fast.info_nce.value_and_grad(*arrays, **options)
        expected = infonce_ref.info_nce.value_and_grad(*arrays, **options)
        same((loss, *grad), (expected[0], *expected[1]))
        pulled = fast.info_nce.vjp(*arrays, **options)[1](2.0)
        same(pulled, infonce_ref.info_nce.vjp(*arrays, **options)[1](2.0))
    assert set(seen) == ({threads} if threads > 1 else set())


@on("variant", ["out", "in", "sincere"])
@on("threads", [1, 3])
@on("more", [{}, {"mask": True}, {"keys": True}, {"mask": True, "keys": True, "margin": 0.2}, {"tau": 0.001}])
def test_tiles_of_several_positives_change_nothing(
    variant: str, threads: int, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """[sup-con.out] [sup-con.in] [sup-con.sincere] The reference's; it itself where scores could overflow."""
    visits = []
    in_threads(threads, monkeypatch)
    original = _numpy.ManyWorker.run
    monkeypatch.setattr(_numpy.ManyWorker, "run", lambda *args: (visits.append(args[1:]), original(*args)))
    rng = np.random.default_rng(404)
    x, k = rng.standard_normal((70, 5)), rng.standard_normal((40, 5))
    labels, others = rng.integers(0, 9, 70), rng.integers(0, 7, 40)
    arrays = (x, labels, k, others) if "keys" in more else (x, labels)
    mask = rng.random((70, len(arrays[-1]))) < 0.7 if "mask" in more else None
    options = {"temperature": more.get("tau", 0.1), "candidate_mask": mask, "margin": more.get("margin", 0.0)}
    for reduction in ("mean", "none"):
        given = {**options, "variant": variant, "block_size": 16, "reduction": reduction}
        loss, grad = fast.sup_con.value_and_grad(*arrays, **given)
        expected = infonce_ref.sup_con.value_and_grad(*arrays, **given)
        same((loss, *grad), (expected[0], *expected[1]))
        same((fast.sup_con(*arrays, **given),), (expected[0],))
    assert set(visits) == (set() if "tau" in more else {(i, min(i + 16, 70)) for i in range(0, 70, 16)})


def test_threads_are_those_of_the_linear_algebra() -> None:
    """Small problems take one; where threadpoolctl is, it counts them, and limits each to one while tiles run."""
    pytest.importorskip("threadpoolctl")
    assert _numpy_threads.threads_for(100) == 1
    with _numpy_threads.blas().limit(limits=2):
        assert _numpy_threads.threads_for(2**24) in (1, 2)
        with _numpy_threads.one_thread_each(2):
            assert _numpy_threads.threads_for(2**24) == 1


@on("dtype", ["float64", "float32"])
@on("case", ["cosine", "none", "low temperature", "duplicates", "one pair"])
def test_a_plain_call_is_planned_quickly(
    case: str, dtype: str, numpy_library: Library, conforms: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """[rows.softplus] [gradient.query] The same numbers in the same types by fewer steps, not the reference's."""
    p = problems.CASES[case]
    arrays = {name: numpy_library.array(x, dtype) for name, x in p.arrays.items()}
    options = {"temperature": p.temperature, "reduction": p.reduction}
    theirs = infonce_ref.info_nce.value_and_grad(**arrays, **options)
    monkeypatch.setattr("infonce_ref.embed.unit_rows", None)
    monkeypatch.setitem(infonce_ref.embed.SIMILARITIES, "cosine", None)
    value, grad = fast.info_nce.value_and_grad(arrays["query"], positive_key=arrays["positive_key"], **options)
    got = {"loss": value, **{name: g for name, g in grad._asdict().items() if g is not None}}
    conforms(worst(got, problems.exact_answer(case), problems.bounds_of(case, dtype)))
    for ours, other in zip((value, *grad), (theirs[0], *theirs[1]), strict=True):
        assert type(ours) is type(other)
        assert ours is None or (ours.dtype, ours.shape) == (other.dtype, other.shape)


PLAIN = {
    "clip": (_numpy_plans.clip, ("image", "text")),
    "info_nce": (_numpy_plans.info_nce, ("query", "positive_key")),
    "nt_xent": (_numpy_plans.nt_xent, ("view_a", "view_b")),
}


@on("loss", PLAIN)
@on("n", [1, 2, 5, 33])
@on("threads", [1, 3])
@on("held", [0, 100, 2**24])
@on("reduction", ["mean", "sum", "none"])
def test_tiles_of_unit_rows_are_the_reference(
    loss: str, n: int, threads: int, held: int, reduction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[clip.mean] [nt-xent.rows] Tiles of any number of rows, held or computed again, in any number of threads."""
    monkeypatch.setattr(_numpy_unit, "SIDE", 4)
    monkeypatch.setattr(_numpy_unit, "HELD", held)
    monkeypatch.setattr(_numpy_unit, "tile_rows", lambda columns: 4)
    seen = in_threads(threads, monkeypatch)
    rng = np.random.default_rng(405)
    a = rng.standard_normal((n, 7))
    b = a + rng.standard_normal((n, 7))
    a[-1], b[-1] = a[0], b[0]  # duplicates, but for one pair
    plan, names = PLAIN[loss]
    found = plan({names[0]: a, names[1]: b, "reduction": reduction})
    assert found is not None
    rows: Any = found.rows
    assert isinstance(rows, _numpy_unit.OneWay | _numpy_unit.BothWays)
    ours, theirs = (getattr(x, loss).value_and_grad(a, b, reduction=reduction) for x in (fast, infonce_ref))
    same((ours[0], *ours[1]), (theirs[0], *theirs[1]))
    cotangent = 0.5 if reduction != "none" else rng.standard_normal(found.queries)
    pulled = [getattr(x, loss).vjp(a, b, reduction=reduction)[1](cotangent) for x in (fast, infonce_ref)]
    same(*pulled)
    assert n < 33 or set(seen) == ({threads} if threads > 1 else set())


@on("loss", PLAIN)
@on("dtype", ["float64", "float32"])
def test_where_exponentials_come_near_their_limits_differences_are_taken(loss: str, dtype: str) -> None:
    """[precise.loss] On either side of the limit the reference's loss and gradients, tiny ones too."""
    rng = np.random.default_rng(406)
    a = rng.standard_normal((6, 9)).astype(dtype)
    b = (a + 0.1 * rng.standard_normal((6, 9))).astype(dtype)
    plan, names = PLAIN[loss]
    limit = 1 / (_numpy_plans.LARGEST_UNSHIFTED[np.dtype(dtype)] - math.log(12))
    for tau, moderate in ((1.01 * limit, True), (0.99 * limit, False)):
        found = plan({names[0]: a, names[1]: b, "temperature": tau})
        rows: Any = None if found is None else found.rows
        assert isinstance(rows, _numpy_unit.OneWay | _numpy_unit.BothWays) == moderate
        rtol = float(200 / tau * np.finfo(dtype).eps)
        ours, theirs = (
            getattr(x, loss).value_and_grad(a, b, temperature=tau, reduction="none") for x in (fast, infonce_ref)
        )
        np.testing.assert_allclose(ours[0], theirs[0], rtol=rtol)
        for g, expected in zip(ours[1][:2], theirs[1][:2], strict=True):
            largest = np.max(np.abs(expected), axis=1, keepdims=True)
            assert np.all(np.abs(g - expected) <= rtol * largest)


@on("loss", PLAIN)
@on("row", [0.0, 1e-16, 1e16, np.nan, np.inf])
def test_what_is_not_plain_is_the_references(loss: str, row: float) -> None:
    """[similarity.cosine.zero] [similarity.cosine.scale] Rows whose squares are in danger; and every other call."""
    rng = np.random.default_rng(404)
    q, k = (rng.standard_normal((4, 3)).astype(np.float32) for _ in range(2))
    plan, (one, other) = PLAIN[loss]
    assert plan({one: q, other: k}) is not None
    others = [("temperature", 1), ("temperature", -1.0), ("temperature", np.asarray(0.1)), ("similarity", "dot")]
    for name, value in (*others, ("margin", 0.0), ("reduction", "sums"), ("sample_weight", np.ones(4))):
        assert plan({one: q, other: k, name: value}) is None
    for bad in (q.astype(np.float16), q[:2], q[:, :0], q.tolist(), None):
        assert plan({one: bad, other: k}) is None
    q[1] = row
    assert plan({one: q, other: k}) is None
    with np.errstate(invalid="ignore"):
        found, expected = (getattr(x, loss).value_and_grad(q, k, reduction="none") for x in (fast, infonce_ref))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1][0], expected[1][0], rtol=1e-5, atol=1e-6)


def test_what_is_not_finite_is_the_references() -> None:
    """[rows.nonfinite] NaN where the reference has it, and nowhere else."""
    q, k = (grid(np.random.default_rng(402 + i), 4, 3) for i in range(2))
    q[1, 0] = np.nan
    ours = fast.info_nce(q, k, reduction="none")
    np.testing.assert_array_equal(np.isnan(ours), [False, True, False, False])


def test_the_signature_and_the_errors_are_the_references() -> None:
    """[input.shape] The same names, defaults and messages; arrays of another library are refused by name."""
    for loss in LOSSES:
        ours = getattr(fast, loss)
        assert inspect.signature(ours) == inspect.signature(getattr(infonce_ref, loss))
        assert pickle.loads(pickle.dumps(ours)) is ours
    with pytest.raises(ValueError, match=r"temperature must be > 0 and finite, got -1.0 \[scale.temperature.domain\]"):
        fast.info_nce(np.eye(2), np.eye(2), temperature=-1)
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"takes NumPy's arrays, got .*torch's \[input.array\]"):
        fast.info_nce(torch.eye(2), torch.eye(2))


def test_matryoshka_is_made_here_or_by_the_reference() -> None:
    """[matryoshka.sum] Of this module's loss in tiles, pickled with its parts; the reference's of it as well."""
    q, k = (grid(np.random.default_rng(406 + i), 6, 4) for i in range(2))
    nested = fast.matryoshka(fast.info_nce, (2, 4), (0.5, 2.0))
    expected = infonce_ref.matryoshka(infonce_ref.info_nce, (2, 4), (0.5, 2.0)).value_and_grad(q, k)
    for loss in (nested, pickle.loads(pickle.dumps(nested)), infonce_ref.matryoshka(fast.info_nce, (2, 4), (0.5, 2.0))):
        value, grad = loss.value_and_grad(q, k)
        same((value, *grad), (expected[0], *expected[1]))
    with pytest.raises(ValueError, match=r"dims must be ≤ 4, the length of query, got 5 \[matryoshka.domain\]"):
        fast.matryoshka(fast.info_nce, (5,))(q, k)


def test_where_a_part_has_no_tiles_the_reference_adds_up() -> None:
    """[matryoshka.sum] A NaN beyond the first part: that part is finite, the sum NaN, as there."""
    q, k = (grid(np.random.default_rng(408 + i), 6, 4) for i in range(2))
    q[0, 3] = np.nan
    nested = (fast.matryoshka(fast.info_nce, (2, 4)), infonce_ref.matryoshka(infonce_ref.info_nce, (2, 4)))
    ours, theirs = (loss(q, k, reduction="none") for loss in nested)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert np.isnan(ours[0])
    assert np.isfinite(ours[1:]).all()


def test_memory_grows_with_the_rows() -> None:
    """[stream.block] At 4096 rows nothing of the size of the matrix of scores is held."""
    rng = np.random.default_rng(403)
    q, k = (rng.standard_normal((4096, 8)).astype(np.float32) for _ in range(2))
    tracemalloc.start()
    fast.info_nce.value_and_grad(q, k)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4096 * 4096 * 4 / 2


def test_a_wrong_tile_is_noticed(numpy_library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks can fail: with the positive left among the negatives the worst r is beyond 1."""
    monkeypatch.setattr(_numpy.Tile, "fill", lambda tile, value: None)
    got = computed("cosine", numpy_library, "float64")
    assert worst(got, problems.exact_answer("cosine"), problems.bounds_of("cosine", "float64")) > 1
