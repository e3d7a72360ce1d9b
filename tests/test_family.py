"""Every loss of the family: value and gradients within the bound on every library, and what must hold between them."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

import infonce_ref
from infonce_ref import (
    clip,
    dcl,
    debiased,
    gte,
    hard_negative,
    info_nce,
    info_nce_from_logits,
    matryoshka,
    mil_nce,
    moco,
    n_pair,
    nt_xent,
    siglip,
    soft_nce,
    sup_con,
    triplet,
)  # fmt: skip
from infonce_ref.conformance.family import LOSSES
from infonce_ref.queue import KeyQueue
from tests.families import CASES, D, N, bounds_of, exact_answer, mask
from tests.libraries import FULL, LIBRARIES, Library
from tests.problems import arguments, grid, outputs, ratio, reference, value_and_grad, worst

on = pytest.mark.parametrize
RNG = np.random.default_rng(301)
A, B, C = grid(RNG, N, D), grid(RNG, N, D), grid(RNG, 5, D)
FIRST = {loss: next(c for c in CASES if c.startswith(f"{loss}: ")) for loss in LOSSES if loss != "info_nce"}


@on("dtype", FULL)
@on("case", CASES)
@on("library", ["numpy", "torch", "jax", "strict", "strict-device1"], indirect=True)
def test_loss_and_gradients_are_exact_within_the_bound(
    library: Library, case: str, dtype: str, conforms: Callable[[float], None]
) -> None:
    """The oracle's loss and gradients, whichever the loss, the library and the dtype.

    [clip.mean] [clip.negatives] [clip.mask] [nt-xent.rows] [nt-xent.mask] [dcl.rows] [dcl.weighted] [dcl.none]
    [debiased.rows] [debiased.floor] [hard-negative.rows] [moco.queue] [gte.rows] [gte.mask] [mil-nce.rows]
    [mil-nce.symmetric] [mil-nce.mask] [soft-nce.rows] [sup-con.positives] [sup-con.self] [sup-con.keys] [sup-con.out]
    [sup-con.in] [sup-con.sincere] [sup-con.none] [siglip.rows] [scale.bias] [triplet.rows] [triplet.none] [n-pair.rows]
    [logits.rows] [matryoshka.sum]
    """
    got = value_and_grad(CASES[case], library, dtype)
    conforms(worst(got, exact_answer(case), bounds_of(case, dtype, flushing=library.name == "jax")))


@on("dtype", FULL)
@on("case", FIRST.values())
@on("library", ["jax-jit"], indirect=True)
def test_compiled_by_jax(library: Library, case: str, dtype: str, conforms: Callable[[float], None]) -> None:
    """[call.pure] Under jax.jit, where no array has a value, the same."""
    conforms(worst(value_and_grad(CASES[case], library, dtype), exact_answer(case), bounds_of(case, dtype)))


@on("case", [c for c in CASES if c.endswith(("plain", "out", "symmetric", "floored", "weighted", "hard negatives"))])
@on("block_size", [1, 3])
def test_blocks_of_any_size(
    numpy_library: Library, case: str, block_size: int, conforms: Callable[[float], None]
) -> None:
    """[stream.block] Visited in blocks, every loss is what it is at once, within the bound."""
    got = value_and_grad(CASES[case], numpy_library, "float64", block_size=block_size)
    conforms(worst(got, exact_answer(case), bounds_of(case, "float64")))


@on("case", FIRST.values())
@on("dtype", ["float16", "bfloat16"])
@on("library", ["numpy", "torch"], indirect=True)
def test_half_precision_is_storage(library: Library, case: str, dtype: str, conforms: Callable[[float], None]) -> None:
    """[dtype.half] Half precision in, float32 inside and for the loss, gradients back in the inputs' dtype."""
    conforms(worst(value_and_grad(CASES[case], library, dtype), exact_answer(case), bounds_of(case, dtype)))


@on("case", FIRST.values())
@on("block_size", [None, 3])
def test_pullback_of_a_cotangent_weights_the_entries(numpy_library: Library, case: str, block_size: int | None) -> None:
    """[reduction.none] [reduction.sum] The pullback of "none" takes a cotangent a row: twice 1 is twice the sum's."""
    arrays, options = arguments(CASES[case], numpy_library, "float64")
    loss = reference(CASES[case])
    values, pullback = loss.vjp(**arrays, **{**options, "reduction": "none"}, block_size=block_size)
    total, expected = loss.value_and_grad(**arrays, **{**options, "reduction": "sum"})
    doubled = outputs(numpy_library, np.sum(values), pullback(np.full_like(values, 2.0)))
    for name, x in outputs(numpy_library, total, expected).items():
        np.testing.assert_allclose(doubled[name], x if name == "loss" else 2 * x, rtol=1e-13, atol=1e-13)


def differentiable(case: str, library: Library) -> tuple[dict[str, Any], Callable[..., Any]]:
    """The arguments that have a gradient, as arrays, and the loss as a function of them."""
    p = CASES[case]
    arrays, options = arguments(p, library, "float64")
    moving = {
        n: arrays.pop(n) if n in arrays else library.array(np.asarray(options.pop(n)), "float64")
        for n in p.differentiable
    }
    return moving, partial(reference(p), **arrays, **options)


@on("case", [c for c in CASES if "zero rows" not in c and "weight 0" not in c])
def test_torch_differentiates_the_code_as_it_is(case: str, conforms: Callable[[float], None]) -> None:
    """Autograd through the reference gives the analytic gradients, ties and absent negatives included.

    [gradient.image] [gradient.text] [gradient.negative-texts] [gradient.negative-images] [gradient.view-a]
    [gradient.view-b] [gradient.features] [gradient.keys] [gradient.queue] [gradient.document]
    [gradient.positive-bags] [gradient.logits] [gradient.bias]
    """
    torch = pytest.importorskip("torch")
    with LIBRARIES["torch"]() as library:
        moving, loss = differentiable(case, library)
        for x in moving.values():
            x.requires_grad_()
        grads = torch.autograd.grad(
            loss(**moving).sum(), list(moving.values()), allow_unused=True, materialize_grads=True
        )
    exact, limits = exact_answer(case), bounds_of(case, "float64")
    for name, g in zip(moving, grads, strict=True):
        conforms(ratio(g.numpy(), exact.grad[name], 4 * limits[name]))


SMOOTH = [case for case in FIRST.values() if not case.startswith("triplet")]  # the second derivative of a hinge is 0


@on("case", SMOOTH)
def test_torch_second_derivatives(case: str) -> None:
    """[gradient.temperature] Double backward through the reference agrees with differences of the analytic gradient."""
    torch = pytest.importorskip("torch")
    with LIBRARIES["torch"]() as library:
        moving, loss = differentiable(case, library)
        names = list(moving)
        direction = {
            n: torch.as_tensor(grid(np.random.default_rng(5), *x.shape)) if x.ndim else x * 0 + 0.125
            for n, x in moving.items()
        }
        for x in moving.values():
            x.requires_grad_()
        first = torch.autograd.grad(
            loss(**moving).sum(), list(moving.values()), create_graph=True, allow_unused=True, materialize_grads=True
        )
        slope = sum((g * direction[n]).sum() for n, g in zip(names, first, strict=True))
        second = torch.autograd.grad(slope, list(moving.values()), allow_unused=True, materialize_grads=True)

    def gradient(step: float) -> dict[str, np.ndarray]:
        with LIBRARIES["numpy"]() as plain:
            arguments_ = {n: (x + step * direction[n]).detach().numpy() for n, x in moving.items()}
            _, fixed = differentiable(case, plain)
            grads = reference(CASES[case]).value_and_grad(**arguments_, **fixed.keywords)[1]
            return {n: np.asarray(getattr(grads, n)) for n in names}

    h = 2.0**-12
    ahead, behind, far, back = gradient(h), gradient(-h), gradient(2 * h), gradient(-2 * h)
    for name, hessian in zip(names, second, strict=True):
        along = (8 * (ahead[name] - behind[name]) - (far[name] - back[name])) / (12 * h)
        np.testing.assert_allclose(hessian.numpy(), along, rtol=1e-7, atol=1e-7 * max(1.0, np.abs(along).max()))


@on("case", SMOOTH)
def test_jax_hessian(case: str) -> None:
    """[gradient.temperature] jax.hessian by the first argument is torch's, which agrees with differences."""
    torch = pytest.importorskip("torch")
    with LIBRARIES["jax"]() as library:
        import jax

        moving, loss = differentiable(case, library)
        name = next(iter(moving))
        rest = {n: x for n, x in moving.items() if n != name}
        found = np.asarray(jax.jit(jax.hessian(lambda x: jax.numpy.sum(loss(**{name: x}, **rest))))(moving[name]))
    with LIBRARIES["torch"]() as library:
        moving, loss = differentiable(case, library)
        rest = {n: x for n, x in moving.items() if n != name}
        expected = torch.autograd.functional.hessian(lambda x: loss(**{name: x}, **rest).sum(), moving[name]).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * max(1.0, np.abs(expected).max()))


@on("case", FIRST.values())
def test_shapes_and_dtypes_are_known_without_numbers(meta: Library, case: str) -> None:
    """[call.shape] [dtype.result] On torch's meta device, without numbers, results have their shapes and dtypes."""
    p = CASES[case]
    arrays, options = arguments(p, meta, "float32")
    loss = reference(p)
    for value, grad in (
        loss.value_and_grad(**arrays, **options),
        loss.value_and_grad(**arrays, **options, block_size=3),
    ):
        assert (value.device.type, str(value.dtype), tuple(value.shape)) == ("meta", "torch.float32", ())
        for name in p.differentiable:
            if name in arrays:
                assert (getattr(grad, name).shape, getattr(grad, name).dtype) == (
                    arrays[name].shape,
                    arrays[name].dtype,
                )


# --- identities ------------------------------------------------------------------------------------------------------


def same(one: Any, other: Any) -> None:
    np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-14)


def same_grads(one: Any, other: Any, names: Mapping[str, str]) -> None:
    """Equal gradients, under another name."""
    for ours, theirs in names.items():
        same(getattr(one, ours), getattr(other, theirs))


def test_clip_is_the_mean_of_both_directions_and_symmetric() -> None:
    """[clip.mean] clip(q, k) = clip(k, q) = ½ (info_nce(q, k) + info_nce(k, q))."""
    same(clip(A, B, temperature=0.25), (info_nce(A, B, temperature=0.25) + info_nce(B, A, temperature=0.25)) / 2)
    (one, g), (other, h) = clip.value_and_grad(A, B), clip.value_and_grad(B, A)
    same(one, other)
    same_grads(g, h, {"image": "text", "text": "image", "temperature": "temperature"})


def test_clip_mask_is_transposed_for_the_other_direction() -> None:
    """[clip.mask] The masked pair is out of both directions."""
    m = mask(N, N)
    expected = (info_nce(A, B, candidate_mask=m) + info_nce(B, A, candidate_mask=m.T)) / 2
    same(clip(A, B, temperature=0.1, candidate_mask=m), expected)


def test_nt_xent_is_info_nce_over_both_views_and_not_the_mean_of_directions() -> None:
    """[nt-xent.rows] 2N anchors against everything but themselves; the two directions lack the same-view negatives."""
    both, other = np.concatenate([A, B]), np.concatenate([B, A])
    not_self = ~np.roll(np.eye(2 * N, dtype=bool), N, axis=1)
    same(nt_xent(A, B), info_nce(both, other, candidate_mask=not_self))
    assert nt_xent(A, B) > (info_nce(A, B) + info_nce(B, A)) / 2 + 0.01


def test_debiased_and_hard_negative_begin_with_nt_xent() -> None:
    """[debiased.rows] [hard-negative.rows] prior = 0 is NT-Xent, beta = 0 is debiased."""
    same(debiased(A, B, prior=0.0), nt_xent(A, B))
    for one, other in (
        (debiased.value_and_grad(A, B, prior=0.0), nt_xent.value_and_grad(A, B)),
        (hard_negative.value_and_grad(A, B, prior=0.25, beta=0.0), debiased.value_and_grad(A, B, prior=0.25)),
    ):
        same(one[0], other[0])
        same_grads(one[1], other[1], {name: name for name in ("view_a", "view_b", "temperature")})


def test_the_floor_holds_and_moves_with_the_temperature() -> None:
    """[debiased.floor] Where the estimate falls below e^{−1/τ}, ν' = log M − 1/τ: ∂L/∂τ = σ(x) (1/τ² + s_p/τ)."""
    tau, m = 0.25, 2 * N - 2
    loss, grad = debiased.value_and_grad(A, A, prior=0.99, temperature=tau)
    x = np.log(m) - 1 / tau - 1 / tau
    same(loss, np.log1p(np.exp(x)))
    same(grad.temperature, (1 / tau**2 + 1 / tau**2) / (1 + np.exp(-x)))


def test_dot_has_no_floor() -> None:
    """[debiased.floor] Where the bracket isn't positive and there is no floor, NaN and no silent number."""
    values = debiased(A, A, prior=0.99, temperature=0.25, similarity="dot", reduction="none")
    assert np.isnan(values).any()


def test_mil_nce_with_bags_of_one_is_info_nce() -> None:
    """[mil-nce.rows] [mil-nce.symmetric] One element each: InfoNCE; in both directions: CLIP."""
    (one, g), (other, h) = mil_nce.value_and_grad(A, B[:, None, :]), info_nce.value_and_grad(A, B)
    same(one, other)
    same_grads(
        g._replace(positive_bags=g.positive_bags[:, 0, :]), h, {"query": "query", "positive_bags": "positive_key"}
    )
    same(mil_nce(A, B[:, None, :], symmetric=True), clip(A, B, temperature=0.1))


def test_soft_nce_of_one_hot_targets_is_info_nce() -> None:
    """[soft-nce.rows] All the weight on one key: InfoNCE over the keys."""
    index = np.array([4, 0, 0, 2])
    (one, g), (other, h) = (
        soft_nce.value_and_grad(A, C, np.eye(5)[index]),
        info_nce.value_and_grad(A, C, positive_index=index),
    )
    same(one, other)
    same_grads(g, h, {"query": "query", "keys": "positive_key", "temperature": "temperature"})


def test_soft_nce_refuses_what_is_no_distribution_by_nan() -> None:
    """[soft-nce.domain] Rows that don't sum to 1, are negative, or weigh a masked key are NaN; the others stand."""
    t = np.array([[0.5, 0.5, 0, 0, 0], [0.5, 0.4, 0, 0, 0], [1.5, -0.5, 0, 0, 0], [0, 0, 0, 0, 1.0]])
    m = np.ones((N, 5), bool)
    m[3, 4] = False
    values = soft_nce(A, C, t, candidate_mask=m, reduction="none")
    assert np.isfinite(values[0]) and np.isnan(values[1:]).all()


def test_sup_con_of_two_views_is_nt_xent() -> None:
    """[sup-con.out] [sup-con.in] [sup-con.sincere] One positive each: all three are NT-Xent."""
    views, labels = np.concatenate([A, B]), np.concatenate([np.arange(N), np.arange(N)])
    expected, h = nt_xent.value_and_grad(A, B)
    for variant in ("out", "in", "sincere"):
        loss, g = sup_con.value_and_grad(views, labels, variant=variant)
        same(loss, expected)
        same(g.features, np.concatenate([h.view_a, h.view_b]))


@on("seed", range(5))
def test_out_is_never_less_than_in(seed: int) -> None:
    """[sup-con.out] [sup-con.in] Jensen: the mean of logarithms lies below the logarithm of the mean."""
    rng = np.random.default_rng(seed)
    features, labels = grid(rng, 8, D), rng.integers(0, 3, 8)
    out, inside = (sup_con(features, labels, variant=v, reduction="none") for v in ("out", "in"))
    assert (out >= inside - 1e-14).all() and (out > inside + 1e-6).any()


def test_moco_is_info_nce_over_the_queue() -> None:
    """[moco.queue] The queue, as an array or a KeyQueue, in the place of the negatives; nothing of the batch."""
    expected, h = info_nce.value_and_grad(A, B, C, in_batch_negatives=False)
    queue = KeyQueue.empty(C, 5).enqueue(C)
    for given in (C, queue):
        loss, g = moco.value_and_grad(A, B, given)
        same(loss, expected)
        same_grads(g, h, {"query": "query", "positive_key": "positive_key", "queue": "negative_keys"})


def test_n_pair_is_info_nce_of_inner_products() -> None:
    """[n-pair.rows] dot, τ = 1."""
    same(n_pair(A, B), info_nce(A, B, temperature=1.0, similarity="dot"))


def test_gte_counts_every_pair_once() -> None:
    """[gte.rows] The odds of the four kinds of negatives add up."""
    s = {name: x @ y.T for name, x, y in (("qd", A, B), ("qq", A, A), ("dq", B, A), ("dd", B, B))}
    odds = sum(np.where(np.eye(N, dtype=bool), 0.0, np.exp(z)).sum(axis=1) for z in s.values())
    same(gte(A, B, temperature=1.0, similarity="dot", reduction="none"), np.log1p(odds / np.exp(np.diag(s["qd"]))))


def test_dcl_leaves_the_positive_out() -> None:
    """[dcl.rows] e^{NT-Xent} − 1 = e^{DCL}: the odds are the same."""
    same(np.exp(dcl(A, B, reduction="none")), np.expm1(nt_xent(A, B, reduction="none")))


def test_dclw_weights_are_constants() -> None:
    """[dcl.weighted] L = DCL + (1 − w) s_p with w of the raw similarities; both differentiations leave w alone."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (A, B))
    s = (a * b).sum(axis=1)
    w = 2 - N * np.exp(s / 0.5) / np.exp(s / 0.5).sum()
    expected = dcl(A, B, reduction="none") + np.concatenate([(1 - w) * s, (1 - w) * s]) / 0.1
    same(dcl(A, B, sigma=0.5, reduction="none"), expected)


def test_triplet_of_squared_distances() -> None:
    """[triplet.rows] On unit rows the loss of squared distances with α is twice this with margin α/2."""
    q, k = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (A, B))
    distance = ((q[:, None] - k[None]) ** 2).sum(axis=-1)
    hinge = np.maximum(0, np.diag(distance)[:, None] - distance + 0.4)[~np.eye(N, dtype=bool)]
    same(2 * triplet(q, k, margin=0.2), hinge.mean())


def test_triplet_has_subgradient_0_at_the_kink() -> None:
    """[triplet.kink] Exactly at the margin nothing pulls; beyond it everything does."""
    ones = np.ones((N, D))
    _, at = triplet.value_and_grad(ones, ones, margin=0.0, similarity="dot")
    loss, beyond = triplet.value_and_grad(ones, ones, margin=0.25, similarity="dot")
    assert (at.query == 0).all() and at.margin == 0
    assert (loss, beyond.margin) == (0.25, 1.0)


def test_siglip_is_a_sum_of_sigmoids() -> None:
    """[siglip.rows] [scale.bias] −log σ(y (s + b)) over all pairs, over N; not shift-invariant."""
    y = 2 * np.eye(N) - 1
    same(siglip(A, B, temperature=1.0, bias=-0.5, similarity="dot"), np.logaddexp(0, -y * (A @ B.T - 0.5)).sum() / N)


def test_the_worked_example() -> None:
    """[logits.rows] Four items, the first the positive: 0.0512645… and ∂L/∂τ = 1.5857611…, by the formula."""
    s, tau = np.array([[0.9, 0.6, 0.3, 0.1]]), 0.1
    loss, grad = info_nce_from_logits.value_and_grad(s, temperature=tau)
    e = np.exp((s[0] - 0.9) / tau)
    same(loss, np.log(e.sum()))
    same(grad.temperature, ((e / e.sum()) * (0.9 - s[0])).sum() / tau**2)


def test_matryoshka_is_the_weighted_sum() -> None:
    """[matryoshka.sum] Σ w_m loss(first d_m coordinates), renormalised, gradients 0 beyond; in blocks too."""
    nested = matryoshka(info_nce, (2, 3), (2.0, 0.5))
    (whole, g), (part, h) = info_nce.value_and_grad(A, B), info_nce.value_and_grad(A[:, :2], B[:, :2])
    for block_size in (None, 1, 3):
        loss, grad = nested.value_and_grad(A, B, block_size=block_size)
        same(loss, 2 * part + 0.5 * whole)
        same(grad.query, 2 * np.pad(h.query, ((0, 0), (0, 1))) + 0.5 * g.query)
        same(grad.temperature, 2 * h.temperature + 0.5 * g.temperature)
    same(nested(A, B), 2 * part + 0.5 * whole)
    same(
        matryoshka(sup_con, (1, 3))(A, np.array([0, 0, 1, 1])),
        sum(sup_con(A[:, :d], np.array([0, 0, 1, 1])) for d in (1, 3)),
    )
    assert inspect.signature(nested) == inspect.signature(info_nce)
    same(pickle.loads(pickle.dumps(nested))(A, B), nested(A, B))


@on("bad", [
    {"dims": ()}, {"dims": (0,)}, {"dims": (1.5,)}, {"dims": (1, 2), "weights": (1.0,)},
    {"dims": (1,), "weights": (-1.0,)},
])  # fmt: skip
def test_matryoshka_refuses(bad: Any) -> None:
    """[matryoshka.domain] Dims that aren't integers ≥ 1 or are too many; weights that aren't as many, or negative."""
    with pytest.raises(ValueError, match=r"\[matryoshka.domain\]"):
        matryoshka(info_nce, **bad)
    with pytest.raises(ValueError, match=r"\[matryoshka.domain\]"):
        matryoshka(info_nce, (D + 1,))(A, B)
    with pytest.raises(ValueError, match=r"\[matryoshka.domain\]"):
        matryoshka(info_nce_from_logits, (1,))
    with pytest.raises(TypeError, match=r"\[matryoshka.domain\]"):
        matryoshka(np.sum, (1,))  # type: ignore[arg-type]


@on("loss", ["clip", "nt_xent", "gte", "siglip", "sup_con"])
def test_matryoshka_of_all_coordinates_is_the_loss(loss: str) -> None:
    """[matryoshka.sum] One part with every coordinate and weight 1: the loss itself, gradients too."""
    plain, second = getattr(infonce_ref, loss), np.array([0, 0, 1, 1]) if loss == "sup_con" else B
    (one, g), (other, h) = matryoshka(plain, (D,)).value_and_grad(A, second), plain.value_and_grad(A, second)
    same(one, other)
    for x, y in zip(g, h, strict=True):
        same(0 if x is None else x, 0 if y is None else y)


def test_matryoshka_has_no_bilinear_similarity() -> None:
    """[matryoshka.domain] W belongs to all coordinates together."""
    with pytest.raises(ValueError, match=r"bilinear_weight must not be given .*\[matryoshka.domain\]"):
        matryoshka(info_nce, (2,))(A, B, similarity="bilinear", bilinear_weight=np.eye(D))


@on("loss", ["clip", "nt_xent", "gte", "siglip", "moco", "triplet", "n_pair"])
@on("block_size", [0, -1, 2.0, True])
def test_block_size_is_a_positive_integer(loss: str, block_size: Any) -> None:
    """[stream.domain] Anything else is refused by every loss."""
    with pytest.raises((TypeError, ValueError), match=r"block_size must be .*\[stream.domain\]"):
        getattr(infonce_ref, loss)(A, B, *([C] if loss == "moco" else []), block_size=block_size)


# --- exact facts -----------------------------------------------------------------------------------------------------

ONES, M = np.ones((N, D)), 2 * N - 2
LABELS = np.array([0, 0, 1, 1])


@on(("value", "expected"), [
    (nt_xent(ONES, ONES), np.log(2 * N - 1)),
    (dcl(ONES, ONES), np.log(2 * N - 2)),
    (dcl(ONES, ONES, sigma=0.5), np.log(2 * N - 2)),
    (debiased(ONES, ONES, prior=0.25), np.log(1 + M)),
    (hard_negative(ONES, ONES, prior=0.25, beta=2.0), np.log(1 + M)),
    (gte(ONES, ONES), np.log(4 * N - 3)),
    (sup_con(ONES, LABELS), np.log(N - 1)),
    (sup_con(ONES, LABELS, variant="in"), np.log(N - 1)),
    (sup_con(ONES, LABELS, variant="sincere"), np.log(1 + 2)),
    (mil_nce(ONES, np.ones((N, 3, D))), np.log(N)),
    (clip(ONES, ONES), np.log(N)),
    (siglip(ONES, ONES, temperature=1.0, bias=-1.5), np.logaddexp(0, 0.5) + (N - 1) * np.logaddexp(0, -0.5)),
    (triplet(ONES, ONES, margin=0.25), 0.25),
])  # fmt: skip
def test_identical_rows(value: Any, expected: float) -> None:
    """All rows alike: the logarithm of the number of candidates, or what else follows from the definition.

    [nt-xent.rows] [dcl.rows] [dcl.weighted] [debiased.rows] [hard-negative.rows] [gte.rows] [sup-con.out] [sup-con.in]
    [sup-con.sincere] [mil-nce.rows] [clip.mean] [siglip.rows] [triplet.rows]
    """
    assert value == pytest.approx(expected, rel=1e-14)


@on("loss", ["nt_xent", "dcl", "sup_con", "gte"])
def test_euler_where_one_array_serves_both_sides(loss: str) -> None:
    """[gradient.temperature] Inner products of an array with itself: Σ ⟨∂L/∂z, z⟩ = −2τ ∂L/∂τ."""
    p = CASES[FIRST[loss]]
    with LIBRARIES["numpy"]() as library:
        arrays, options = arguments(p, library, "float64")
        _, grad = getattr(infonce_ref, loss).value_and_grad(**arrays, **{**options, "similarity": "dot"})
    along = sum((getattr(grad, n) * arrays[n]).sum() for n in LOSSES[loss].sides)
    assert abs(along) > 1e-3
    same(along, -2 * p.temperature * grad.temperature)


def test_anchors_that_do_not_count() -> None:
    """[sup-con.none] [dcl.none] [triplet.none] Nothing of theirs in "none", in a gradient or in the mean's count."""
    labels = np.array([0, 0, 1, 2])
    values = sup_con(A, labels, reduction="none")
    assert (values[2:] == 0).all() and (values[:2] > 0).all()
    same(sup_con(A, labels), values[:2].mean())
    lonely, grad = sup_con.value_and_grad(A, np.arange(N))
    assert lonely == 0 and (grad.features == 0).all() and grad.temperature == 0
    m = np.ones((2 * N, 2 * N), bool)
    m[3] = False
    values = dcl(A, B, candidate_mask=m, reduction="none")
    assert values[3] == 0
    same(dcl(A, B, candidate_mask=m), np.delete(values, 3).mean())
    values = triplet(A, B, candidate_mask=m[:N, :N], margin=1.0, reduction="none")
    assert values[3] == 0
    same(triplet(A, B, candidate_mask=m[:N, :N], margin=1.0), values[:3].mean())


# --- refusals --------------------------------------------------------------------------------------------------------

PAIRS = {"clip": (A, B), "nt_xent": (A, B), "dcl": (A, B), "gte": (A, B), "siglip": (A, B), "triplet": (A, B)}
SCALED = [loss for loss in PAIRS if loss != "triplet"]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"similarity": "bilinear"}, "similarity.domain"),
    ({"reduction": "avg"}, "reduction.domain"),
    ({"candidate_mask": np.ones((1, 1), bool)}, "candidates.mask.domain"),
    ({"sample_weight": np.ones(1)}, "reduction.weight.domain"),
]


@on(("call", "clause"), [
    (lambda: dcl(A, B, sigma=0.0), "dcl.domain"),
    (lambda: dcl(A, B, sigma=np.array(1.0)), "dcl.domain"),
    (lambda: debiased(A, B, prior=1.0), "debiased.domain"),
    (lambda: debiased(A, B, prior=float("nan")), "debiased.domain"),
    (lambda: hard_negative(A, B, prior=-0.1, beta=1.0), "hard-negative.domain"),
    (lambda: hard_negative(A, B, prior=0.1, beta=-1.0), "hard-negative.domain"),
    (lambda: sup_con(A, LABELS, variant="both"), "sup-con.domain"),  # type: ignore[arg-type]
    (lambda: sup_con(A, LABELS.astype(float)), "sup-con.domain"),
    (lambda: sup_con(A, LABELS[:2]), "sup-con.domain"),
    (lambda: sup_con(A, LABELS, C), "sup-con.domain"),
    (lambda: mil_nce(A, B[:, None, :], symmetric=1), "mil-nce.symmetric"),  # type: ignore[arg-type]
    (lambda: mil_nce(A, B), "input.shape"),
    (lambda: soft_nce(A, C, np.eye(5)), "soft-nce.domain"),
    (lambda: soft_nce(A, C, np.ones((N, 5), bool)), "soft-nce.domain"),
    (lambda: siglip(A, B, bias=float("inf")), "scale.bias"),
    (lambda: moco(A, B, C[0]), "input.shape"),
    (lambda: moco(A, B, C[:, :2]), "input.shape"),
    (lambda: info_nce_from_logits(np.ones((3, 2))), "input.shape"),
    (lambda: info_nce_from_logits(A, np.array([0.0, 1, 2, 0])), "candidates.index.domain"),
    (lambda: info_nce(A, B, logit_bias=np.ones(N + 1)), "scale.logit-bias.domain"),
    (lambda: info_nce(A, B, logit_bias=np.ones(N, bool)), "scale.logit-bias.domain"),
    (lambda: triplet(A, B, in_batch_negatives=False), "candidates.domain"),
    (lambda: clip(A, B, negative_texts=np.ones((2, D + 1))), "input.shape"),
    *[(partial(getattr(infonce_ref, f), *x, **bad), clause) for f, x in PAIRS.items() for bad, clause in BAD],
    *[(partial(getattr(infonce_ref, f), x[0], x[1][:2]), "input.shape") for f, x in PAIRS.items()],
    *[(partial(getattr(infonce_ref, f), *PAIRS[f], temperature=0), "scale.temperature.domain") for f in SCALED],
])  # fmt: skip
def test_bad_arguments_are_refused(call: Callable[[], Any], clause: str) -> None:
    """What shapes, dtypes and Python scalars can tell is refused, and the message ends with the clause that says so.

    [dcl.domain] [debiased.domain] [hard-negative.domain] [sup-con.domain] [soft-nce.domain] [scale.logit-bias.domain]
    """
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value).endswith(f"[{clause}]")
