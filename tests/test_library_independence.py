"""One code for every library: nothing read on the host, nothing written in place, nothing beyond the standard."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from infonce_ref import embed, info_nce
from infonce_ref.arrays import Array, Namespace
from tests.libraries import FULL, HALF, LIBRARIES, Library
from tests.problems import CASES, PLAIN, N, arguments, bounds_of, grid, ratio, value_and_grad

on = pytest.mark.parametrize


@on("case", CASES)
@on("dtype", [*FULL, *HALF])
def test_shapes_and_dtypes_are_known_without_numbers(meta: Library, dtype: str, case: str) -> None:
    """[call.shape] [dtype.result] On torch's meta device, without numbers, results have their shapes and dtypes."""
    p = CASES[case]
    arrays, options = arguments(p, meta, dtype)
    loss, grad = info_nce.value_and_grad(**arrays, **options, block_size=3)
    pulled = info_nce.vjp(**arrays, **options)[1](1.0)
    assert loss.device.type == "meta"
    assert str(loss.dtype) == ("torch.float64" if dtype == "float64" else "torch.float32")
    assert tuple(loss.shape) == ((len(p.arrays["query"]),) if p.reduction == "none" else ())
    for each in (grad, pulled):
        for name, x in arrays.items():
            if name in p.differentiable:
                assert (getattr(each, name).shape, getattr(each, name).dtype) == (x.shape, x.dtype)


def batches(count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(41)
    return grid(rng, count, N, 3), grid(rng, count, N, 3)


def test_jax_vmap_is_a_loop() -> None:
    """[call.pure] [stream.block] Batched by jax.vmap, loss and gradients are those of each problem."""
    with LIBRARIES["jax"]() as jax_library:
        import jax

        q, k = batches()
        q[0], k[0] = PLAIN.arrays["query"], PLAIN.arrays["positive_key"]
        batched = jax.jit(jax.vmap(partial(info_nce.value_and_grad, temperature=0.5, block_size=2)))
        loss, grad = batched(jax_library.array(q, "float64"), jax_library.array(k, "float64"))
        assert_is_a_loop(jax_library.numpy(loss), jax_library.numpy(grad.query), q, k)


def test_torch_func_vmap_is_a_loop() -> None:
    """[call.pure] [stream.block] Batched by torch.func.vmap likewise."""
    torch = pytest.importorskip("torch")
    q, k = batches()
    q[0], k[0] = PLAIN.arrays["query"], PLAIN.arrays["positive_key"]

    def call(q: Any, k: Any) -> Any:  # the gradient of an absent argument is None, which vmap doesn't let out
        loss, grad = info_nce.value_and_grad(q, k, temperature=0.5)
        return loss, grad.query

    loss, by_query = torch.func.vmap(call)(torch.tensor(q), torch.tensor(k))
    assert_is_a_loop(loss.numpy(), by_query.numpy(), q, k)


def assert_is_a_loop(loss: np.ndarray, by_query: np.ndarray, q: np.ndarray, k: np.ndarray) -> None:
    limits = bounds_of("cosine", "float64")  # that of the first problem; the others are of its kind
    for i in range(len(q)):
        expected, grad = info_nce.value_and_grad(q[i], k[i], temperature=0.5)
        assert ratio(loss[i], expected, 8 * limits["loss"]) <= 1
        assert ratio(by_query[i], grad.query, np.full_like(q[i], 8 * limits["query"].max())) <= 1


def test_torch_func_grad_is_the_analytic_gradient() -> None:
    """[gradient.query] torch.func.grad differentiates the code as it is."""
    torch = pytest.importorskip("torch")
    q, k = (torch.tensor(PLAIN.arrays[name]) for name in ("query", "positive_key"))
    by_query = torch.func.grad(partial(info_nce, temperature=0.5))(q, k).numpy()
    expected = info_nce.value_and_grad(q, k, temperature=0.5)[1].query.numpy()
    assert ratio(by_query, expected, 2 * bounds_of("cosine", "float64")["query"]) <= 1


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_torch_compiles_it_without_a_graph_break() -> None:
    """[call.pure] torch.compile(fullgraph=True) traces the whole call; a host read would break it."""
    torch = pytest.importorskip("torch")
    q, k = (torch.tensor(PLAIN.arrays[name]) for name in ("query", "positive_key"))

    def call(q: Any, k: Any) -> Any:
        loss, grad = info_nce.value_and_grad(q, k, temperature=0.5, margin=0.25)
        return loss, grad.query

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for got, expected in zip(compiled(q, k), call(q, k), strict=True):
        torch.testing.assert_close(got, expected, rtol=2**-48, atol=2**-48)


# -------------------------------------------------------------------- the libraries would notice: planted mistakes

Rows = Callable[[Namespace, Array], Any]


def reads_on_the_host(xp: Namespace, x: Array) -> Any:
    return embed.unit_rows(xp, x / float(xp.max(xp.abs(x))))


def branches_on_a_value(xp: Namespace, x: Array) -> Any:
    return embed.unit_rows(xp, -x if xp.any(xp.isnan(x)) else x)


def writes_in_place(xp: Namespace, x: Array) -> Any:
    x /= xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    return x, lambda v: v


def picks_by_a_mask(xp: Namespace, x: Array) -> Any:
    xp.sum(x[x > 0])
    return embed.unit_rows(xp, x)


def makes_an_array_anywhere(xp: Namespace, x: Array) -> Any:
    return embed.unit_rows(xp, x + xp.zeros(x.shape, dtype=x.dtype))


def uses_an_extension(xp: Namespace, x: Array) -> Any:
    return x / xp.linalg.vector_norm(x, axis=-1, keepdims=True), lambda v: v


def goes_beyond_the_standard(xp: Namespace, x: Array) -> Any:
    return embed.unit_rows(xp, xp.nan_to_num(x))


@on("library", ["jax-jit"], indirect=True)
@on("planted", [reads_on_the_host, branches_on_a_value])
def test_jit_notices(library: Library, planted: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """[scale.temperature.domain] A value read on the host, by float() or by `if`, stops jax.jit."""
    import jax

    monkeypatch.setitem(embed.SIMILARITIES, "cosine", planted)
    with pytest.raises(jax.errors.ConcretizationTypeError):
        value_and_grad(PLAIN, library, "float64")


@on("planted", [reads_on_the_host, branches_on_a_value])
def test_meta_notices(meta: Library, planted: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """[scale.temperature.domain] A value read on the host has nothing to read on torch's meta device."""
    monkeypatch.setitem(embed.SIMILARITIES, "cosine", planted)
    arrays, options = arguments(PLAIN, meta, "float64")
    with pytest.raises((RuntimeError, NotImplementedError), match=r"meta|Tensor\.item"):
        info_nce(**arrays, **options)


def without_copies(xp: Namespace, x: Array, dtype: Any) -> Any:
    return xp.astype(x, dtype, copy=False), lambda g: g


def test_readonly_arrays_notice(numpy_library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """[call.pure] Whoever writes into an argument fails on read-only arrays."""
    monkeypatch.setattr(embed, "cast", without_copies)
    monkeypatch.setitem(embed.SIMILARITIES, "cosine", writes_in_place)
    with pytest.raises(ValueError, match="read-only"):
        value_and_grad(PLAIN, numpy_library, "float64")


@on("library", ["strict-device1"], indirect=True)
@on("planted", [picks_by_a_mask, makes_an_array_anywhere, uses_an_extension, goes_beyond_the_standard])
def test_strict_notices(library: Library, planted: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """[input.array] Boolean indexing, another device, an extension, what isn't in the standard: all refused."""
    monkeypatch.setitem(embed.SIMILARITIES, "cosine", planted)
    with pytest.raises((RuntimeError, ValueError, AttributeError)):
        value_and_grad(PLAIN, library, "float64")
