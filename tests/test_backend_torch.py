"""The PyTorch backend: the reference's numbers and errors by tiles, and every way PyTorch has to differentiate them."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import infonce_ref
from infonce_ref.conformance.problem import Problem
from infonce_ref.conformance.run import check_loss
from tests import families, problems
from tests.certify import by_value_and_grad, certify
from tests.libraries import HALF, LIBRARIES
from tests.problems import arguments, outputs, reference, worst

torch = pytest.importorskip("torch")

from infonce_ref.backends import _torch_products, _torch_threads, _torch_tiles, _torch_unit  # noqa: E402
from infonce_ref.backends import torch as fast  # noqa: E402

on = pytest.mark.parametrize
TILED = ("clip", "gte", "info_nce", "moco", "n_pair", "nt_xent")
CERTIFIED = (*TILED, "sup_con")
EVERY = (
    *CERTIFIED,
    "dcl",
    "debiased",
    "hard_negative",
    "info_nce_from_logits",
    "mil_nce",
    "siglip",
    "soft_nce",
    "triplet",
)
CASES: dict[str, tuple[Problem, Any]] = {
    **{name: (p, problems) for name, p in problems.CASES.items()},
    **{name: (p, families) for name, p in families.CASES.items() if p.loss in (*CERTIFIED, "matryoshka")},
}


def normal(seed: int, *shape: int, dtype: Any = torch.float64) -> Any:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def same(one: Any, other: Any, rtol: float = 1e-10, atol: float = 1e-13) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=rtol, atol=atol, equal_nan=True)


def flat(found: Any) -> tuple[Any, ...]:
    loss, grad = found
    return (loss, *grad)


def autograd(p: Problem, arrays: dict[str, Any], options: dict[str, Any], fields: tuple[str, ...]) -> Any:
    """Loss and gradients by autograd."""
    leaves = {
        name: x.clone().requires_grad_() if name in fields and torch.is_tensor(x) else x for name, x in arrays.items()
    }
    loss = reference(p, fast)(**leaves, **options)
    wanted = [name for name in fields if torch.is_tensor(leaves.get(name))]
    found = torch.autograd.grad(loss.sum(), [leaves[name] for name in wanted])
    return loss, dict(zip(wanted, found, strict=True))


@on("case", CASES)
@on("dtype", ["float64", "float32"])
@on("block_size", [None, 2])
def test_exact_within_the_bound(
    case: str, dtype: str, block_size: int | None, conforms: Callable[[float], None]
) -> None:
    """[stream.block] Loss and gradients are the oracle's within the bound, with tiles of any height."""
    p, module = CASES[case]
    with LIBRARIES["torch"]() as library:
        arrays, options = arguments(p, library, dtype)
        loss, grad = reference(p, fast).value_and_grad(**arrays, **options, block_size=block_size)
        got = outputs(library, loss, grad)
    conforms(worst(got, module.exact_answer(case), module.bounds_of(case, dtype)))


def test_matryoshka_conforms_to_all_profiles() -> None:
    """[matryoshka.sum] By autograd, as the suite asks for it: made of the reference's info_nce."""
    certify(fast.matryoshka, infonce_ref.matryoshka, "matryoshka", "torch")


def test_matryoshka_is_pickled_with_its_parts() -> None:
    """[matryoshka.sum] What comes back computes the same."""
    nested = fast.matryoshka(fast.clip, (1, 3), (0.5, 2.0))
    q, k = normal(611, 5, 3), normal(612, 5, 3)
    same(flat(pickle.loads(pickle.dumps(nested)).value_and_grad(q, k)), flat(nested.value_and_grad(q, k)))


@on("case", CASES)
def test_autograd_gives_the_same_gradients(case: str) -> None:
    """Autograd's gradients are those of value_and_grad, which has those of the sum for reduction="none"."""
    p, _ = CASES[case]
    with LIBRARIES["torch"]() as library:
        arrays, options = arguments(p, library, "float64")
    loss, grad = reference(p, fast).value_and_grad(**arrays, **options)
    value, found = autograd(p, arrays, options, grad._fields)
    same((value.detach(), *found.values()), (loss, *(getattr(grad, name) for name in found)), rtol=1e-12)


@on("case", ["cosine", "in-batch+own", "clip: plain"])
@on("dtype", HALF)
def test_half_precision(case: str, dtype: str, conforms: Callable[[float], None]) -> None:
    """[dtype.half] Half precision is storage, by autograd and without."""
    p, module = CASES[case]
    with LIBRARIES["torch"]() as library:
        arrays, options = arguments(p, library, dtype)
        loss, grad = reference(p, fast).value_and_grad(**arrays, **options)
        value, found = autograd(p, arrays, options, grad._fields)
        assert value.dtype == torch.float32
        assert all(found[name].dtype == arrays[name].dtype for name in found)
        same((value, *found.values()), (loss, *(getattr(grad, name) for name in found)))
        got = outputs(library, loss, grad)
    conforms(worst(got, module.exact_answer(case), module.bounds_of(case, dtype)))


def test_a_scaled_loss_keeps_half_precision_gradients() -> None:
    """[dtype.half] A gradient too small for float16 arrives, where the loss is scaled before backward."""
    q = (4096 * normal(500, 4, 3)).half().requires_grad_()
    (65536.0 * fast.info_nce(q, normal(501, 4, 3).half())).backward()
    with torch.no_grad():
        _, pullback = infonce_ref.info_nce.vjp(q, normal(501, 4, 3).half())
    assert q.grad.count_nonzero() == q.numel()
    same((q.grad,), (pullback(65536.0).query,), rtol=2e-3, atol=1e-7)


@pytest.mark.slow
@on("form", ["autograd", "value_and_grad"])
@on("loss", CERTIFIED)
def test_conforms_to_all_profiles(loss: str, form: str) -> None:
    """[call.pure] [call.repeatable] The suite accepts it by the path that anyone's code takes, precise included."""
    ours = getattr(fast, loss) if form == "autograd" else by_value_and_grad(getattr(fast, loss))
    certify(ours, by_value_and_grad(getattr(infonce_ref, loss)), loss, "torch")


PLAIN = {"info_nce": 1, "clip": 1, "nt_xent": 2, "gte": 1}  # rows of the loss for each pair


@on("loss", PLAIN)
@on("tau", [0.1, 0.001])
@on("reduction", ["mean", "sum", "none"])
@on("rows", [1, 2, 16, 300])
def test_several_tiles_are_the_reference(
    loss: str, tau: float, reduction: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[stream.block] One tile or several, shifted or not, of the plainest call: the reference's numbers."""
    monkeypatch.setattr(_torch_unit, "spans", lambda n: [(i, min(i + rows, n)) for i in range(0, n, rows)])
    monkeypatch.setattr(_torch_unit, "SIDE", 16)
    monkeypatch.setattr(_torch_tiles, "rows_at_once", lambda like, columns: rows)
    n = min(5 * rows + 1, 300)
    q, k = normal(502, n, 7), normal(503, n, 7)
    options = {"temperature": tau, "reduction": reduction}
    found = getattr(fast, loss).value_and_grad(q, k, **options)
    expected = flat(getattr(infonce_ref, loss).value_and_grad(q, k, **options))
    same(flat(found), expected, rtol=1e-9, atol=1e-11)
    cotangent = 0.5 if reduction != "none" else normal(504, PLAIN[loss] * n)
    pulled = getattr(fast, loss).vjp(q, k, **options)[1](cotangent)
    same(pulled, getattr(infonce_ref, loss).vjp(q, k, **options)[1](cotangent), rtol=1e-9, atol=1e-11)


@on("loss", PLAIN)
@on("wanted", [("query",), ("positive_key",), ("query", "positive_key")])
@on("threads", [2, 3])
@on("held", [0, 2**23])
def test_tiles_in_threads_are_the_reference(
    loss: str, wanted: tuple[str, ...], threads: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[stream.block] [call.repeatable] Tiles in several threads: the reference's numbers, the same bits every time."""
    seen = []
    monkeypatch.setattr(_torch_unit, "spans", lambda n: [(i, min(i + 16, n)) for i in range(0, n, 16)])
    monkeypatch.setattr(_torch_unit, "HELD", held)
    monkeypatch.setattr(_torch_tiles, "rows_at_once", lambda like, columns: 16)
    monkeypatch.setattr(_torch_threads, "threads_for", lambda like, scores: seen.append(scores) or threads)
    sides = [normal(531, 70, 5), normal(532, 70, 5)]
    for x, name in zip(sides, ("query", "positive_key"), strict=True):
        x.requires_grad_(name in wanted)
    needed = [x for x in sides if x.requires_grad]
    value = getattr(fast, loss)(*sides)
    found = torch.autograd.grad(value, needed)
    with torch.no_grad():
        expected, grad = getattr(infonce_ref, loss).value_and_grad(*sides)
    by_side = dict(zip(("query", "positive_key"), grad, strict=False))
    same((value, *found), (expected, *(by_side[name] for name in wanted)))
    again = torch.autograd.grad(getattr(fast, loss)(*sides), needed)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    with torch.inference_mode():
        same((getattr(fast, loss)(*sides),), (expected,))
        assert torch.equal(getattr(fast, loss).value_and_grad(*sides)[0], value)
    assert seen


def test_threads_are_those_of_the_calling_thread() -> None:
    """As many threads as PyTorch is set to use, whose setting, also that of threads yet to come, stays as it was."""
    before = torch.get_num_threads()
    like = normal(533, 1, 1)
    _torch_threads.pool.cache_clear()
    try:
        torch.set_num_threads(3)
        assert _torch_threads.threads_for(like, 2**24) == 3
        assert _torch_threads.threads_for(like, 100) == 1
        seen = _torch_threads.shared_out(lambda part: (part, torch.get_num_threads()), range(7), like, 2**24)
        assert seen == [(range(0, 7, 3), 1), (range(1, 7, 3), 1), (range(2, 7, 3), 1)]
        with ThreadPoolExecutor(1) as fresh:
            assert (torch.get_num_threads(), fresh.submit(torch.get_num_threads).result()) == (3, 3)
    finally:
        torch.set_num_threads(before)


@on("variant", ["out", "in", "sincere"])
@on("threads", [1, 3])
@on("more", [{}, {"mask": True}, {"keys": True}, {"mask": True, "keys": True, "margin": 0.2}, {"tau": 0.001}])
def test_tiles_of_several_positives_are_the_reference(
    variant: str, threads: int, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """[sup-con.out] [sup-con.in] [sup-con.sincere] The reference's; it itself where scores could overflow."""
    visits = []
    monkeypatch.setattr(_torch_tiles, "rows_at_once", lambda like, columns: 16)
    monkeypatch.setattr(_torch_threads, "threads_for", lambda like, scores: threads)
    original = _torch_tiles.ManyTile.visit
    monkeypatch.setattr(_torch_tiles.ManyTile, "visit", lambda *args: visits.append(args[1:3]) or original(*args))
    x, k = normal(534, 70, 5), normal(535, 40, 5)
    labels, others = (torch.arange(n) * n % m for n, m in ((70, 9), (40, 7)))
    arrays = (x, labels, k, others) if "keys" in more else (x, labels)
    mask = normal(536, 70, len(arrays[-1])) < 0.5 if "mask" in more else None
    options = {"temperature": more.get("tau", 0.1), "candidate_mask": mask, "margin": more.get("margin", 0.0)}
    for reduction in ("mean", "none"):
        given = {**options, "variant": variant, "reduction": reduction}
        expected = flat(infonce_ref.sup_con.value_and_grad(*arrays, **given))
        same(flat(fast.sup_con.value_and_grad(*arrays, **given)), expected, rtol=1e-9, atol=1e-11)
        leaf = k.clone().requires_grad_() if "keys" in more else x.clone().requires_grad_()
        value = fast.sup_con(*(leaf if a is (k if "keys" in more else x) else a for a in arrays), **given)
        (found,) = torch.autograd.grad(value.sum(), [leaf])
        same((value, found), (expected[0], expected[2 if "keys" in more else 1]), rtol=1e-9, atol=1e-11)
    assert set(visits) == (set() if "tau" in more else {(i, min(i + 16, 70)) for i in range(0, 70, 16)})


def test_where_unshifted_sums_would_overflow_rows_are_shifted() -> None:
    """[rows.softplus] Differences up to ±2000 at τ = 0.001 and norms of 1e4 stay finite in float32."""
    q, k = normal(505, 9, 4, dtype=torch.float32), normal(506, 9, 4, dtype=torch.float32)
    for options in ({"temperature": 0.001}, {"temperature": 1.0, "similarity": "dot"}):
        scale = 1e2 if "similarity" in options else 1.0
        got = flat(fast.info_nce.value_and_grad(scale * q, scale * k, **options))
        exact = flat(infonce_ref.info_nce.value_and_grad((scale * q).double(), (scale * k).double(), **options))
        for a, b in zip(got, exact, strict=True):
            if a is not None:
                assert torch.isfinite(a).all()
                assert (a.double() - b).abs().max() <= 1e-3 * b.abs().max() + 1e-6


@on("wanted", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)])
@on("options", [{}, {"negative_keys": normal(507, 2, 3)}, {"candidate_mask": torch.tensor([[1, 0, 1, 1]] * 4) > 0},
                {"positive_index": torch.tensor([3, 1, 1, 0])}])  # fmt: skip
def test_only_what_needs_a_gradient_gets_one(wanted: tuple[int, ...], options: dict[str, Any]) -> None:
    """Any subset of the inputs may need gradients; those that do get the reference's, the others none."""
    inputs = [normal(508, 4, 3), normal(509, 4, 3), torch.tensor(0.3, dtype=torch.float64)]
    for i in wanted:
        inputs[i].requires_grad_()
    q, k, tau = inputs
    fast.info_nce(q, k, temperature=tau, **options).backward()
    with torch.no_grad():
        _, grad = infonce_ref.info_nce.value_and_grad(q, k, temperature=tau, **options)
    expected = (grad.query, grad.positive_key, grad.temperature)
    assert [x.grad is not None for x in inputs] == [i in wanted for i in range(3)]
    same([inputs[i].grad for i in wanted], [expected[i] for i in wanted])


@on("loss", CERTIFIED)
@on("reduction", ["mean", "none"])
def test_first_and_second_derivatives_are_the_functions(loss: str, reduction: str) -> None:
    """gradcheck and gradgradcheck: differences of the loss, and of its gradient."""
    second = torch.tensor([0, 1, 0]) if loss == "sup_con" else normal(511, 3, 2).requires_grad_()
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    scaled = {} if loss == "n_pair" else {"temperature": tau}
    queue = [normal(512, 2, 2)] if loss == "moco" else []

    def of(first: Any, second: Any, tau: Any) -> Any:
        options = {"temperature": tau} if scaled else {}
        return getattr(fast, loss)(first, second, *queue, reduction=reduction, **options)

    inputs = (normal(510, 3, 2).requires_grad_(), second, tau if scaled else None)
    assert torch.autograd.gradcheck(of, inputs)
    assert torch.autograd.gradgradcheck(of, inputs)


def test_a_second_derivative_after_a_number_for_the_temperature() -> None:
    """The plainest call has the second derivative too, not that of gradients taken for constants."""
    q, k = normal(513, 4, 3).requires_grad_(), normal(514, 4, 3)
    for loss in ("info_nce", "clip", "nt_xent"):
        assert torch.autograd.gradgradcheck(lambda x, loss=loss: getattr(fast, loss)(x, k), (q,))


def test_torch_func_agrees_with_the_reference() -> None:
    """torch.func's grad, vmap, their compositions and a Hessian by jacrev of jacrev are the reference's."""
    q, k = normal(515, 3, 4, 2), normal(516, 3, 4, 2)
    from torch.func import grad, jacrev, vmap

    same((vmap(fast.info_nce)(q, k),), (torch.stack([infonce_ref.info_nce(a, b) for a, b in zip(q, k, strict=True)]),))
    expected = torch.stack([infonce_ref.info_nce.value_and_grad(a, b)[1].query for a, b in zip(q, k, strict=True)])
    same((vmap(grad(fast.info_nce))(q, k),), (expected,))
    same((grad(lambda x: vmap(fast.info_nce)(x, k).sum())(q),), (expected,))
    same((vmap(lambda a, b: fast.info_nce.value_and_grad(a, b)[1].query)(q, k),), (expected,))
    none = jacrev(lambda x: fast.info_nce(x, k[0], reduction="none"))(q[0])
    same((none.sum(0),), (infonce_ref.info_nce.value_and_grad(q[0], k[0], reduction="sum")[1].query,))
    twice = jacrev(jacrev(lambda x: fast.info_nce(x, k[0])))(q[0])
    same((twice,), (jacrev(jacrev(lambda x: infonce_ref.info_nce(x, k[0])))(q[0]),))


@pytest.mark.filterwarnings("ignore:.*Dynamo.*:UserWarning")
@on("loss", ["info_nce", "clip", "nt_xent"])
def test_compiles_without_a_break(loss: str) -> None:
    """torch.compile(fullgraph=True) takes the loss, and its gradient is the same."""
    q, k = normal(517, 4, 3).requires_grad_(), normal(518, 4, 3)
    compiled = torch.compile(
        lambda q, k: getattr(fast, loss)(q, k, temperature=0.2), fullgraph=True, backend="aot_eager"
    )
    value = compiled(q, k)
    (found,) = torch.autograd.grad(value, [q])
    expected = getattr(fast, loss)(q, k, temperature=0.2)
    same((value, found), (expected, *torch.autograd.grad(expected, [q])))


def test_autocast_changes_nothing_but_takes_mixed_inputs() -> None:
    """Under autocast the loss is computed in float32, of inputs in any precision; gradients come as stored."""
    q, k = normal(519, 5, 3, dtype=torch.float32).requires_grad_(), normal(520, 5, 3).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = fast.info_nce(q, k)
        none = fast.info_nce(q, k, reduction="none")
        found = torch.autograd.grad(none.sum() / 5, [q, k])
    mixed.backward()
    plain = infonce_ref.info_nce.value_and_grad(q.detach(), k.detach().float())
    same((mixed,), (plain[0],), rtol=1e-6)
    for g in ((q.grad, k.grad), found):
        same(g, (plain[1].query, plain[1].positive_key.bfloat16()), rtol=1e-2, atol=1e-6)
        same(g[:1], (plain[1].query,), rtol=1e-5, atol=1e-5)


def test_nothing_is_read_on_a_device_that_isnt_the_processor() -> None:
    """On the meta device, which has no numbers to read, loss and gradients have their shapes."""
    q, k = (torch.empty(4, 3, device="meta", requires_grad=True) for _ in range(2))
    for loss in ("info_nce", "clip", "nt_xent", "gte"):
        value = getattr(fast, loss)(q, k)
        assert value.device.type == "meta"
        assert value.shape == ()
        assert [g.shape for g in torch.autograd.grad(value, [q, k])] == [(4, 3), (4, 3)]


@on("loss", EVERY)
def test_the_signature_is_the_references(loss: str) -> None:
    """[input.shape] The same names and defaults; pickled by name."""
    ours = getattr(fast, loss)
    assert inspect.signature(ours) == inspect.signature(getattr(infonce_ref, loss))
    assert pickle.loads(pickle.dumps(ours)) is ours


@on("bad", [
    {"temperature": -1.0}, {"temperature": "warm"}, {"reduction": "max"}, {"positive_key": torch.ones(3, 2)},
    {"query": torch.ones(2, 2).half()}, {"query": torch.ones(2, 2, device="meta")}, {"query": [[1.0]]},
    {"no_such": 1}, {"similarity": "cos"}, {"block_size": 0},
])  # fmt: skip
def test_the_errors_are_the_references(bad: dict[str, Any]) -> None:
    """[scale.temperature.domain] Type and message, by any way in."""
    call = {"query": torch.ones(2, 2), "positive_key": torch.ones(2, 2), **bad}
    with pytest.raises((TypeError, ValueError)) as expected:
        infonce_ref.info_nce(**call)
    for form in (fast.info_nce, fast.info_nce.value_and_grad, fast.info_nce.vjp):
        with pytest.raises(type(expected.value)) as got:
            form(**call)
        assert str(got.value) == str(expected.value)


def test_arrays_of_another_library_are_refused() -> None:
    """[input.array] NumPy's arrays are the reference's, or the NumPy backend's."""
    with pytest.raises(TypeError, match=r"takes PyTorch's tensors, got .*numpy's \[input.array\]"):
        fast.info_nce(np.eye(2), np.eye(2))


def test_modules_are_their_functions() -> None:
    """Each module's value is its function's; extra explicit negatives replace those in the batch."""
    q, k, shared, own = normal(521, 4, 3), normal(522, 4, 3), normal(523, 2, 3), normal(524, 4, 2, 3)
    explicit = {"temperature": 0.2, "in_batch_negatives": False}
    labels = torch.tensor([0, 1, 0, 1])
    moco = fast.MoCoLoss(3, 5, temperature=0.2)
    moco.enqueue(shared)
    loaded = fast.MoCoLoss(3, 5, temperature=0.2)
    loaded.load_state_dict(moco.state_dict())
    pairs = [
        (fast.InfoNCELoss(0.2)(q, k), infonce_ref.info_nce(q, k, temperature=0.2)),
        (fast.InfoNCELoss(0.2)(q, k, shared), infonce_ref.info_nce(q, k, shared, **explicit)),
        (fast.InfoNCE(0.2, negative_mode="paired")(q, k, own), infonce_ref.info_nce(q, k, own, **explicit)),
        (fast.info_nce_loss(q, k, shared, 0.2), infonce_ref.info_nce(q, k, shared, **explicit)),
        (fast.NTXentLoss(0.2)(q, k), infonce_ref.nt_xent(q, k, temperature=0.2)),
        (fast.SupConLoss(0.2, "in")(q, labels), infonce_ref.sup_con(q, labels, temperature=0.2, variant="in")),
        (
            fast.CLIPLoss(0.2, learnable=False)(q.float(), k.float()),
            infonce_ref.clip(q.float(), k.float(), temperature=0.2),
        ),
        (moco(q, k), infonce_ref.moco(q, k, shared.float().double(), temperature=0.2)),
        (loaded(q, k), infonce_ref.moco(q, k, shared.float().double(), temperature=0.2)),
    ]
    for ours, theirs in pairs:
        same((ours,), (theirs,), rtol=1e-6)
    assert copy.deepcopy(fast.CLIPLoss()).state_dict().keys() == {"logit_scale"}


@on("mode", ["unpaired", "paired", None])
@on("reduction", ["mean", "sum", "none"])
def test_drop_in_for_info_nce_pytorch(mode: str | None, reduction: str) -> None:
    """The class of info-nce-pytorch, called the same way, gives the same."""
    theirs = pytest.importorskip("info_nce")
    q, k = normal(525, 4, 3), normal(526, 4, 3)
    more = [] if mode is None else [normal(527, 5, 3) if mode == "unpaired" else normal(528, 4, 5, 3)]
    options = {"temperature": 0.3, "reduction": reduction, "negative_mode": mode or "unpaired"}
    same((fast.InfoNCE(**options)(q, k, *more),), (theirs.InfoNCE(**options)(q, k, *more),))


def test_the_clamp_of_clips_scale() -> None:
    """[helper.logit-scale] Beyond the clamp the scale is the largest and the parameter's gradient 0; clamp_ returns."""
    q, k = normal(529, 4, 3, dtype=torch.float32), normal(530, 4, 3, dtype=torch.float32)
    loss = fast.CLIPLoss(max_scale=10.0)
    for logit_scale in (1.0, 3.0):
        loss.logit_scale.data.fill_(logit_scale)
        loss.logit_scale.grad = None
        value = loss(q, k)
        value.backward()
        tau, pullback = infonce_ref.temperature_from_logit_scale(torch.tensor(logit_scale), 10.0)
        expected, grad = infonce_ref.clip.value_and_grad(q, k, temperature=tau)
        same((value.detach(), loss.logit_scale.grad), (expected, pullback(grad.temperature)), rtol=1e-5, atol=1e-7)
    loss.clamp_()
    assert loss.temperature().item() == pytest.approx(0.1)


MEASURE = """
import resource, torch
from infonce_ref.backends import torch as fast
torch.set_num_threads(1)
def peak(n):
    q, k = torch.randn(n, 16).requires_grad_(), torch.randn(n, 16).requires_grad_()
    getattr(fast, {loss!r})(q, k).backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
peak(64)
before = peak(256)
print(peak(16384) - before)
"""


@pytest.mark.slow
@on("loss", ["info_nce", "clip"])
def test_memory_grows_with_the_rows(loss: str) -> None:
    """[stream.block] At 16384 rows, loss and gradients, less than a tenth of the matrix of scores is held."""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", MEASURE.format(loss=loss)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16384**2 * 4 / 10


# --- products --------------------------------------------------------------------------------------------------------

ORIENTED: dict[str, Callable[[Any], Any]] = {
    "upright": lambda x: x,
    "across": lambda x: x.mT.contiguous().mT,
    "part": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
}


@pytest.fixture
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The shapes of what oneDNN multiplies, where it is the quicker one for small products too."""
    if _torch_products.onednn is None:
        pytest.skip("this PyTorch has no oneDNN")
    shapes: list[Any] = []
    real = _torch_products.onednn

    def counted(a: Any, b: Any, *more: Any) -> Any:
        assert b.is_contiguous() or b.mT.is_contiguous()  # with anything else it is a thousand times as slow
        shapes.append((*a.shape, b.shape[0]))
        return real(a, b, *more)

    monkeypatch.setattr(_torch_products, "onednn", counted)
    monkeypatch.setattr(_torch_products, "WORTH_IT", 3 * 2**20)
    return shapes


@on("left", ORIENTED)
@on("right", ORIENTED)
@on("shape", [(512, 64, 512), (500, 130, 53), (700, 130, 37), (257, 511, 17)])
@on("there", [True, False])
def test_products_are_products(
    left: str, right: str, shape: tuple[int, ...], there: bool, by_onednn: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By oneDNN or torch.mm, however the numbers lie: within γ_k |a| |b| of float64's."""
    if not there:
        monkeypatch.setattr(_torch_products, "onednn", None)
    n, k, m = shape
    a = ORIENTED[left](normal(601, n, k, dtype=torch.float32))
    b = ORIENTED[right](normal(602, k, m, dtype=torch.float32))
    start = normal(603, n, m, dtype=torch.float32)
    total = start.clone()
    found = _torch_products.mm(a, b, torch.empty(n, m))
    _torch_products.add_mm(total, a, b)
    exact, size = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    unit = torch.finfo(torch.float32).eps / 2
    assert torch.all((found - exact).abs() <= (k + 1) * unit * size)
    assert torch.all((total - start - exact).abs() <= (k + 2) * unit * (size + start.abs()))
    called = there * sum(n * k * m >= least for least in (_torch_products.WORTH_IT, _torch_products.WORTH_ADDING))
    assert [sorted(each) for each in by_onednn] == called * [sorted(shape)]


@on(
    ("capabilities", "least"),
    [
        ({"sse4a": True, "avx_vnni": True, "avx512_f": True}, 3 * 2**20),  # AMD, Zen 5
        ({"sse4a": True, "avx_vnni": False, "avx512_f": True}, 2**24),  # AMD, Zen 4
        ({"sse4a": False, "avx_vnni": True, "avx512_f": True}, 2**24),  # Intel
        ({"architecture": "aarch64", "neon": True}, 3 * 2**20),
        ({}, 3 * 2**20),
    ],
    ids=["zen 5", "zen 4", "intel", "arm", "unknown"],
)
def test_small_products_are_whose_is_quicker(capabilities: dict[str, Any], least: int) -> None:
    """oneDNN's also where torch.mm leaves half of the vector units idle; how that is told, PyTorch says."""
    assert _torch_products.worth_it(capabilities) == least
    known = getattr(torch.cpu, "get_capabilities", dict)()
    assert _torch_products.worth_it(known) == _torch_products.WORTH_IT
    assert {"sse4a", "avx_vnni"} <= known.keys() or known.get("architecture") != "x86_64"


@on("value", [float("nan"), float("inf"), -float("inf")])
def test_products_keep_what_isnt_finite(value: float, by_onednn: list[Any]) -> None:
    """In its row, and nowhere else."""
    a, b = normal(604, 256, 64, dtype=torch.float32), normal(605, 64, 256, dtype=torch.float32)
    a[3, 5] = value
    finite = torch.isfinite(_torch_products.mm(a, b))
    assert not finite[3].any()
    assert finite[:3].all()
    assert finite[4:].all()
    assert by_onednn


def test_products_in_threads_are_those_of_one(by_onednn: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit where each thread has its own part of the gradient, and every time for the shared one."""
    monkeypatch.setattr(_torch_threads, "WORTH_THREADS", 2**20)
    q, k = normal(607, 1600, 64, dtype=torch.float32), normal(608, 1600, 64, dtype=torch.float32)
    found = {}
    was = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found[threads] = [fast.info_nce.value_and_grad(q, k) for _ in range(2)]
    finally:
        torch.set_num_threads(was)
    for (loss, grad), (again, grad_again) in found.values():
        assert torch.equal(loss, again)
        assert torch.equal(grad.query, grad_again.query)
        assert torch.equal(grad.positive_key, grad_again.positive_key)
    (loss, grad), (loss_2, grad_2) = found[1][0], found[2][0]
    assert torch.equal(loss, loss_2)
    assert torch.equal(grad.query, grad_2.query)
    same((grad.positive_key,), (grad_2.positive_key,), rtol=1e-4, atol=1e-8)
    assert by_onednn


def test_what_onednn_is_not_asked(by_onednn: list[Any]) -> None:
    """float64; what is small; anything while it is switched off, or torch.func looks on."""
    a = normal(606, 256, 256, dtype=torch.float32)
    _torch_products.mm(a.double(), a.double())
    _torch_products.mm(a[:16], a)
    was = torch._C._get_mkldnn_enabled()
    try:
        torch._C._set_mkldnn_enabled(False)  # `torch.backends.mkldnn.flags` sets more, and warns of some of it
        _torch_products.mm(a, a)
    finally:
        torch._C._set_mkldnn_enabled(was)
    torch.func.vmap(lambda x: _torch_products.mm(x, a))(a[None])
    torch.func.grad(lambda x: _torch_products.mm(x, a).sum())(a)
    assert by_onednn == []
    _torch_products.mm(a, a)
    assert len(by_onednn) == 1


@on("loss", ["info_nce", "clip", "nt_xent", "moco"])
def test_large_batches_conform(loss: str, by_onednn: list[Any]) -> None:
    """[call.large] In float32, where oneDNN multiplies, beside the borders of blocks."""
    report = check_loss(getattr(fast, loss), loss, "torch", profile="scale", only=".scale.*float32/grad")
    assert report.conforms, str(report)
    assert by_onednn


def test_a_wrong_tile_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks can fail: with the positive left among the negatives the worst r is beyond 1."""
    monkeypatch.setattr(_torch_tiles, "put", lambda *args: None)
    p, _ = CASES["cosine"]
    with LIBRARIES["torch"]() as library:
        arrays, options = arguments(p, library, "float64")
        got = outputs(library, *fast.info_nce.value_and_grad(**arrays, **options))
    assert worst(got, problems.exact_answer("cosine"), problems.bounds_of("cosine", "float64")) > 1
