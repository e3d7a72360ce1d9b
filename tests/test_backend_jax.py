"""The JAX backend: the reference's numbers, errors and derivatives, compiled, batched and in tiles."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import infonce_ref
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.problem import Problem
from tests import families, problems
from tests.certify import by_value_and_grad, certify
from tests.libraries import LIBRARIES, Library
from tests.problems import PLAIN, arguments, grid, outputs, reference, worst

jax = pytest.importorskip("jax")

from infonce_ref.backends import _jax  # noqa: E402  there is nothing to import without JAX
from infonce_ref.backends import jax as fast  # noqa: E402

on = pytest.mark.parametrize
TILED = ("clip", "gte", "info_nce", "moco", "n_pair", "nt_xent")
ALL: dict[str, tuple[Problem, Any]] = {
    **{name: (p, problems) for name, p in problems.CASES.items()},
    **{name: (p, families) for name, p in families.CASES.items()},
}
FIRST = {p.loss: name for name, (p, _) in reversed(ALL.items())}  # one case of every loss
EDGES = ("index", "in-batch+own", "in-batch+shared", "mask, explicit", "bias", "zero rows", "no negatives")
EDGES += ("everything", "clip: hard negatives", "nt_xent: mask", "gte: zero rows", "moco: empty")
TWICE = ("index", "in-batch+own", "zero rows", "a query masked", "clip: plain")


@pytest.fixture
def library() -> Iterator[Library]:
    with LIBRARIES["jax"]() as loaded:
        yield loaded


def computed(case: str, library: Library, dtype: str, **more: Any) -> dict[str, np.ndarray]:
    p, _ = ALL[case]
    arrays, options = arguments(p, library, dtype)
    return outputs(library, *reference(p, fast).value_and_grad(**arrays, **options, **more))


def r_of(got: dict[str, np.ndarray], case: str, dtype: str) -> float:
    _, source = ALL[case]
    return worst(got, source.exact_answer(case), source.bounds_of(case, dtype))


@on("loss", LOSSES)
@on("dtype", ["float64", "float32"])
def test_every_loss(library: Library, loss: str, dtype: str, conforms: Callable[[float], None]) -> None:
    """Loss and gradients are the oracle's within the bound."""
    conforms(r_of(computed(FIRST[loss], library, dtype), FIRST[loss], dtype))


@on("case", EDGES)
@on("dtype", ["float64", "float32"])
def test_tiles(library: Library, case: str, dtype: str, conforms: Callable[[float], None]) -> None:
    """[stream.block] In tiles of three rows, the last of them not full, too."""
    conforms(r_of(computed(case, library, dtype, block_size=3), case, dtype))


@on("case", ["cosine", "in-batch+own", "clip: plain"])
@on("dtype", ["float16", "bfloat16"])
def test_half_precision(library: Library, case: str, dtype: str, conforms: Callable[[float], None]) -> None:
    """[dtype.half] Half precision is storage, bfloat16 too."""
    conforms(r_of(computed(case, library, dtype, block_size=2), case, dtype))


def moving(case: str, library: Library) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of a problem that have a gradient, its temperature among them; and the other arguments."""
    p, _ = ALL[case]
    arrays, options = arguments(p, library, "float64")
    names = LOSSES[p.loss].gradients
    if "temperature" in options:
        options["temperature"] = arrays["temperature"] = library.array(np.asarray(p.temperature), "float64")
    found = {name: x for name, x in arrays.items() if name in names}
    return found, {name: x for name, x in {**options, **arrays}.items() if name not in found}


def same(one: Any, other: Any, rtol: float = 1e-10) -> None:
    one, other = jax.tree.leaves(one), jax.tree.leaves(other)
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        scale = max(1.0, float(np.max(np.abs(b), initial=0)))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


@pytest.mark.slow
@on("loss", TILED)
def test_conforms_to_precise(library: Library, loss: str) -> None:
    """[precise.loss] [precise.gradient] In float32; JAX compiles each problem, so that all profiles take minutes."""
    theirs = by_value_and_grad(getattr(infonce_ref, loss))
    certify(getattr(fast, loss), theirs, loss, "jax", only="*float32/precise*")


@on("case", TWICE)
def test_derivatives_are_the_references(library: Library, case: str) -> None:
    """Gradient, forward derivative and Hessian are those of the reference's code."""
    arrays, others = moving(case, library)
    loss = ALL[case][0].loss

    def derivatives(function: Callable[..., Any], **more: Any) -> Any:
        def of(x: Any) -> Any:
            return function(**x, **others, **more)

        return jax.jit(lambda x: (jax.grad(of)(x), jax.jvp(of, (x,), (x,)), jax.hessian(of)(x)))(arrays)

    same(derivatives(getattr(fast, loss), block_size=3), derivatives(getattr(infonce_ref, loss)), 1e-8)


def test_a_hessian_backwards_only(library: Library) -> None:
    """Two reverse passes give the Hessian too, in one tile."""
    arrays, others = moving("cosine", library)
    ours, theirs = (lambda x, m=m: m.info_nce(**x, **others) for m in (fast, infonce_ref))
    same(jax.jit(jax.jacrev(jax.jacrev(ours)))(arrays), jax.jit(jax.hessian(theirs))(arrays), 1e-8)


@on("case", ["cosine", "clip: plain"])
def test_no_reduction_can_be_differentiated(library: Library, case: str) -> None:
    """[reduction.none] The Jacobian of the losses of the rows, forwards and backwards."""
    arrays, others = moving(case, library)
    others["reduction"] = "none"
    ours = partial(getattr(fast, ALL[case][0].loss), **others, block_size=3)
    theirs = partial(getattr(infonce_ref, ALL[case][0].loss), **others)
    expected = jax.jit(jax.jacrev(lambda x: theirs(**x)))(arrays)
    same(jax.jit(jax.jacrev(lambda x: ours(**x)))(arrays), expected)
    same(jax.jit(jax.jacfwd(lambda x: ours(**x)))(arrays), expected)


def test_vmap_is_a_loop(library: Library) -> None:
    """[call.pure] Batched, compiled and differentiated at once, in both orders."""
    q, k = (library.array(grid(np.random.default_rng(410 + i), 3, 5, 3), "float64") for i in range(2))
    ours = partial(fast.info_nce, temperature=0.5, block_size=2)
    theirs = partial(infonce_ref.info_nce, temperature=0.5)
    one = jax.jit(jax.grad(theirs))
    expected = jax.numpy.stack([one(a, b) for a, b in zip(q, k, strict=True)])
    same(jax.jit(jax.vmap(jax.grad(ours)))(q, k), expected)
    same(jax.grad(lambda x: jax.vmap(ours)(x, k).sum())(q), expected)


@on("loss", LOSSES)
def test_the_pullback(library: Library, loss: str) -> None:
    """The pullback of a cotangent is that many gradients."""
    p, _ = ALL[FIRST[loss]]
    arrays, options = arguments(p, library, "float64")
    function = reference(p, fast)
    value, grad = function.value_and_grad(**arrays, **options)
    again, pullback = function.vjp(**arrays, **options)
    same(again, value)
    same(pullback(2.0), jax.tree.map(lambda g: 2 * g, grad))


def test_the_signature_and_the_errors_are_the_references(library: Library) -> None:
    """[input.array] The same names, defaults and messages; arrays of another library are refused by name."""
    for loss in LOSSES:
        function = getattr(fast, loss)
        assert inspect.signature(function) == inspect.signature(getattr(infonce_ref, loss))
        assert pickle.loads(pickle.dumps(function)) is function
    x = library.array(np.eye(2), "float64")
    for bad in ({"temperature": -1}, {"reduction": "median"}, {"candidate_mask": np.eye(2) > 0}, {"unknown": 1}):
        with pytest.raises((TypeError, ValueError)) as theirs:
            infonce_ref.info_nce(x, x, **bad)
        with pytest.raises(theirs.type) as ours:
            fast.info_nce(x, x, **bad)
        assert str(ours.value) == str(theirs.value)
    with pytest.raises(TypeError, match=r"takes JAX's arrays, got .*numpy's \[input.array\]"):
        fast.info_nce(np.eye(2), np.eye(2))


def test_a_call_is_compiled_once(library: Library) -> None:
    """Another call with arrays of the same shapes compiles nothing."""
    x = library.array(grid(np.random.default_rng(412), 7, 3), "float64")
    fast.info_nce(x, x, temperature=0.25)
    before = _jax.compiled._cache_size()
    fast.info_nce(x + 1, x, temperature=0.25)
    assert _jax.compiled._cache_size() == before


def test_memory_grows_with_the_rows(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """[stream.block] By XLA's own account, loss and gradient hold nothing of the size of the matrix of scores."""
    monkeypatch.setattr(_jax, "TILE", 2**17)
    x = jax.ShapeDtypeStruct((2048, 8), "float32")

    def held(loss: Any) -> int:
        compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, x).compile()
        return int(compiled.memory_analysis().temp_size_in_bytes)

    matrix = 2048 * 2048 * 4
    assert held(partial(fast.info_nce, temperature=0.5)) < matrix / 2
    assert held(lambda q, k: fast.info_nce(q, k, reduction="none").max()) < matrix / 2
    assert held(infonce_ref.info_nce) > matrix / 2


def test_a_wrong_tile_is_noticed(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks can fail: with the positive left among the negatives the worst r is beyond 1."""
    original = _jax.differences

    def wrong(xp: Any, pair: Any, blocks: Any, *rest: Any) -> Any:
        return original(xp, pair, [block._replace(never=()) for block in blocks], *rest)

    monkeypatch.setattr(_jax, "differences", wrong)
    arrays, options = arguments(PLAIN, library, "float64")
    with jax.disable_jit():
        got = outputs(library, *fast.info_nce.value_and_grad(**arrays, **options))
    assert r_of(got, "cosine", "float64") > 1
