"""CuPy: the reference and the backend on CuPy's arrays. Where there are CuPy and a GPU: `pytest tests/test_cupy.py`.

tests/test_simulated_cuda.py runs these same tests on a simulated device. Only that counts copies and synchronisations;
on a GPU the tests that count are skipped, and those of a second device where there is none.
"""

from __future__ import annotations

import ctypes
import inspect
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import infonce_ref
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.problem import Problem
from tests import families, problems
from tests.certify import certify
from tests.libraries import Library, cupy_on
from tests.problems import arguments, grid, outputs, reference, worst

cupy = pytest.importorskip("cupy")

from infonce_ref.backends import cupy as fast  # noqa: E402  there is nothing to import without CuPy

on = pytest.mark.parametrize
TILED = ("clip", "gte", "info_nce", "matryoshka", "moco", "n_pair", "nt_xent")
ALL: dict[str, tuple[Problem, Any]] = {
    **{name: (p, problems) for name, p in problems.CASES.items()},
    **{name: (p, families) for name, p in families.CASES.items()},
}
FIRST = {p.loss: name for name, (p, _) in reversed(ALL.items())}  # one case of every loss
IN_TILES = [name for name, (p, _) in ALL.items() if p.loss in TILED]
COUNTED = {"copies to the device": 1, "copies to the host": 2, "synchronisations": 3}
ours = pytest.mark.parametrize("module", [infonce_ref, fast], ids=["reference", "backend"])


@cache
def simulation() -> Any:
    """The function that says what a simulated device has counted; None on a GPU."""
    try:
        count = ctypes.CDLL("libcuda.so.1").simulated_count
    except (OSError, AttributeError):
        return None
    count.restype = ctypes.c_longlong
    return count


def counts() -> dict[str, int]:
    return {name: simulation()(number) for name, number in COUNTED.items()}


@contextmanager
def within_the_device() -> Iterator[None]:
    """No copy to or from the host and no synchronisation happens inside; looked at where they are counted."""
    if simulation() is None:
        yield
        return
    before = counts()
    yield
    assert counts() == before


@pytest.fixture(params=[0, 1])
def device(request: pytest.FixtureRequest) -> Iterator[Library]:
    with cupy_on(request.param) as library:
        yield library


@pytest.fixture
def second() -> Iterator[Library]:
    with cupy_on(1) as library:
        yield library


def computed(module: ModuleType, case: str, library: Library, dtype: str, **more: Any) -> dict[str, np.ndarray]:
    p, _ = ALL[case]
    arrays, options = arguments(p, library, dtype)
    with within_the_device():
        loss, grad = reference(p, module).value_and_grad(**arrays, **options, **more)
    return outputs(library, loss, grad)


def r_of(got: dict[str, np.ndarray], case: str, dtype: str) -> float:
    _, source = ALL[case]
    return worst(got, source.exact_answer(case), source.bounds_of(case, dtype))


@ours
@on("loss", LOSSES)
@on("dtype", ["float64", "float32", "float16"])
def test_every_loss(
    device: Library, module: ModuleType, loss: str, dtype: str, conforms: Callable[[float], None]
) -> None:
    """[input.array] [dtype.half] Right within the bound on the arguments' device, without leaving it and waiting."""
    conforms(r_of(computed(module, FIRST[loss], device, dtype), FIRST[loss], dtype))


@on("case", IN_TILES)
@on("dtype", ["float64", "float32"])
def test_tiles(second: Library, case: str, dtype: str, conforms: Callable[[float], None]) -> None:
    """[stream.block] Every edge of the losses that have tiles, in tiles of two rows."""
    conforms(r_of(computed(fast, case, second, dtype, block_size=2), case, dtype))


@on("loss", TILED)
def test_conforms_to_all_profiles(loss: str) -> None:
    """[call.pure] [call.repeatable] The suite accepts it by the path that anyone's code takes, precise included."""
    with cupy_on(0):
        certify(getattr(fast, loss), getattr(infonce_ref, loss), loss, "cupy")


@ours
@on("loss", LOSSES)
def test_value_and_pullback(second: Library, module: ModuleType, loss: str) -> None:
    """The value and the pullback, too, stay on the arguments' device and wait for nothing."""
    p, _ = ALL[FIRST[loss]]
    arrays, options = arguments(p, second, "float64")
    function = reference(p, module)
    with within_the_device():
        value = function(**arrays, **options)
        again, pullback = function.vjp(**arrays, **options)
        pulled = pullback(2.0)
    whole, grad = function.value_and_grad(**arrays, **options)
    expected, got = outputs(second, whole, grad), outputs(second, value, pulled)
    np.testing.assert_allclose(second.numpy(again), got["loss"], rtol=1e-12)
    for name, x in expected.items():
        np.testing.assert_allclose(got[name], x if name == "loss" else 2 * x, rtol=1e-12, atol=1e-14)


def test_several_tiles_are_one(second: Library) -> None:
    """[stream.block] 70 rows in tiles of 16, keys of all and of each, masked: the reference's numbers on NumPy."""
    rng = np.random.default_rng(404)
    q, k, n = rng.standard_normal((70, 5)), rng.standard_normal((70, 5)), rng.standard_normal((70, 2, 5))
    mask = rng.random((70, 72)) < 0.7
    there = [*(second.array(x, "float64") for x in (q, k, n)), second.array(mask, "bool")]
    for tau in (0.1, 0.001):
        loss, grad = fast.info_nce.value_and_grad(*there[:3], temperature=tau, candidate_mask=there[3], block_size=16)
        expected = infonce_ref.info_nce.value_and_grad(q, k, n, temperature=tau, candidate_mask=mask)
        np.testing.assert_allclose(second.numpy(loss), expected[0], rtol=1e-11)
        for ours_, theirs in zip(grad, expected[1], strict=True):
            if theirs is not None:
                np.testing.assert_allclose(second.numpy(ours_), theirs, rtol=1e-9, atol=1e-12)


@on("bad", [np.nan, np.inf])
@on("loss", ["info_nce", "clip", "nt_xent", "gte"])
def test_what_is_not_finite(second: Library, bad: float, loss: str) -> None:
    """[rows.nonfinite] NaN where the reference has it, and nowhere else, in losses and gradients."""
    x, y = (grid(np.random.default_rng(405 + i), 4, 3) for i in range(2))
    x[1, 0] = bad
    there = [second.array(a, "float64") for a in (x, y)]
    with np.errstate(invalid="ignore"):
        expected, grad = getattr(infonce_ref, loss).value_and_grad(x, y, reduction="none")
    value, mine = getattr(fast, loss).value_and_grad(*there, reduction="none")
    np.testing.assert_array_equal(np.isnan(second.numpy(value)), np.isnan(expected))
    for got, wanted in zip(mine, grad, strict=True):
        if wanted is not None:
            np.testing.assert_array_equal(np.isnan(second.numpy(got)), np.isnan(wanted))


def test_a_stream(device: Library) -> None:
    """On a stream that doesn't wait for the default one the work is done in the stream's order."""
    q, k = (grid(np.random.default_rng(407 + i), 40, 3) for i in range(2))
    x, y = device.array(q, "float64"), device.array(k, "float64")
    cupy.cuda.Device(x.device.id).synchronize()
    with x.device, cupy.cuda.Stream(non_blocking=True) as stream:
        loss, grad = fast.info_nce.value_and_grad(x * 2, y * 2)
        stream.synchronize()
    expected, by = infonce_ref.info_nce.value_and_grad(q * 2, k * 2)
    np.testing.assert_allclose(device.numpy(loss), expected, rtol=1e-12)
    np.testing.assert_allclose(device.numpy(grad.query), by.query, rtol=1e-9, atol=1e-14)


def test_memory_grows_with_the_rows(second: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """[stream.block] Nothing of the size of the matrix of scores is held."""
    monkeypatch.setattr("infonce_ref.backends._cupy.TILE", 2**14)
    monkeypatch.setattr("infonce_ref.backends._cupy.FEWEST", 16)
    rng = np.random.default_rng(409)
    x, y = (second.array(rng.standard_normal((512, 4)), "float32") for _ in range(2))
    with x.device:
        pool = cupy.cuda.MemoryPool()
        with cupy.cuda.using_allocator(pool.malloc):
            fast.info_nce.value_and_grad(x, y)
        assert 0 < pool.total_bytes() < 512 * 512 * 4


def test_the_signature_and_the_errors_are_the_references(device: Library) -> None:
    """[input.array] The same names, defaults and messages; arrays of another library are refused by name."""
    for loss in LOSSES:
        function = getattr(fast, loss)
        assert inspect.signature(function) == inspect.signature(getattr(infonce_ref, loss))
        assert pickle.loads(pickle.dumps(function)) is function
    x = device.array(np.eye(2), "float64")
    with pytest.raises(ValueError, match=r"temperature must be > 0 and finite, got -1.0 \[scale.temperature.domain\]"):
        fast.info_nce(x, x, temperature=-1)
    with pytest.raises(TypeError, match=r"takes CuPy's arrays, got .*numpy's \[input.array\]"):
        fast.info_nce(np.eye(2), np.eye(2))


# ----------------------------------------------------------------------------------- the checks would notice


def test_a_wrong_kernel_is_noticed(device: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the positive left among the negatives the worst r is beyond 1."""
    monkeypatch.setattr("infonce_ref.backends._cupy.mask", lambda *arguments: None)
    assert r_of(computed(fast, FIRST["info_nce"], device, "float64"), FIRST["info_nce"], "float64") > 1


def test_another_device_is_noticed(second: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without entering the arguments' device the call fails, or its results are elsewhere."""
    monkeypatch.setattr("infonce_ref.loss.is_cupy_array", lambda x: False)
    with pytest.raises((ValueError, AssertionError), match="device"):
        computed(fast, FIRST["info_nce"], second, "float64")


@on("read", [float, lambda x: cupy.asarray(np.ones(3)), lambda x: cupy.cuda.get_current_stream().synchronize()])
def test_copies_and_waiting_are_noticed(device: Library, read: Callable[[Any], Any]) -> None:
    """A value read, an array brought and a wait are counted."""
    if simulation() is None:
        pytest.skip("a GPU doesn't count copies and synchronisations")
    x = device.array(np.ones((1,)), "float64")[0]
    with pytest.raises(AssertionError), within_the_device():
        read(x)
