"""The Loss object: three ways to call one definition, and how it visits the queries."""

from __future__ import annotations

import copy
import inspect
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest

from infonce_ref import InfoNCEGrads, info_nce, loss
from tests.problems import CASES, PLAIN, D, N, grid

on = pytest.mark.parametrize


def test_the_signature_is_the_specifications() -> None:
    """[call.shape] The names, order and defaults of docs/spec/call.md, for all three ways to call."""
    expected = (
        "(query, positive_key, negative_keys=None, *, temperature=0.1, similarity='cosine', bilinear_weight=None, "
        "in_batch_negatives=True, positive_index=None, candidate_mask=None, logit_bias=None, margin=0.0, "
        "sample_weight=None, reduction='mean', block_size=None)"
    )
    for function in (info_nce, info_nce.value, info_nce.value_and_grad, info_nce.vjp):
        signature = inspect.signature(function)
        bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
        assert str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)) == expected


def test_a_loss_is_frozen_and_documented() -> None:
    """[call.repeatable] No attribute can be changed; name and docstring are the definition's."""
    names = info_nce.name, info_nce.__name__, info_nce.__module__
    assert names == ("info_nce", "info_nce", "infonce_ref.losses.info_nce")
    assert info_nce.__doc__ is not None and info_nce.__doc__.startswith("InfoNCE: ")
    with pytest.raises(AttributeError, match="fixed"):
        info_nce.name = "other"  # type: ignore[misc]


def test_a_loss_is_pickled_by_name() -> None:
    """As functions are: a copy, a pickle sent to another process, is the loss itself."""
    assert pickle.loads(pickle.dumps(info_nce)) is info_nce is copy.deepcopy(info_nce)
    assert repr(info_nce) == "<loss info_nce>"


def test_gradients_have_the_arguments_names() -> None:
    """[gradient.bilinear-weight] [gradient.negative-keys] A field for every argument with a derivative."""
    _, grad = info_nce.value_and_grad(**PLAIN.arrays)
    assert isinstance(grad, InfoNCEGrads)
    assert (grad.negative_keys, grad.bilinear_weight, grad.logit_bias) == (None, None, None)
    assert InfoNCEGrads._fields == (
        "query", "positive_key", "negative_keys", "temperature", "margin", "bilinear_weight", "logit_bias"
    )  # fmt: skip


@on("queries", [1, 5, 6, 7])
@on("block_size", [1, 3, 6, 100])
def test_blocks_cover_every_query_once(queries: int, block_size: int) -> None:
    """[stream.block] Blocks follow each other without gap or overlap, the last one shorter."""
    plan: Any = loss.Plan(np, queries, None, None, None, block_size)  # type: ignore[arg-type]
    assert [i for lo, hi in plan.spans for i in range(lo, hi)] == list(range(queries))
    assert all(hi - lo <= block_size for lo, hi in plan.spans)


@on(
    ("columns", "bits", "rows"),
    [
        (1, 64, 2**21),  # 16 MiB
        (0, 32, 2**22),
        (2**13, 32, 512),
        (2**13 - 1, 32, 512),
        (2**12, 32, 1024),
        (2**17, 32, 512),  # 256 MiB
        (2**17, 64, 256),
        (2**28, 64, 1),  # a row takes more
    ],
)
def test_default_blocks_stay_within_the_limits(columns: int, bits: int, rows: int) -> None:
    """[stream.block] [call.memory] 16 MiB, or 512 queries in up to 256 MiB, or one if it takes more."""
    assert loss.default_block_size(columns, bits) == rows


@on("how", ["value", "value_and_grad", "vjp"])
def test_memory_grows_with_the_block(how: str) -> None:
    """[stream.block] In blocks of 8 rows of 512 a call holds no matrix of 512 × 512, forward or back."""
    rng = np.random.default_rng(91)
    info_nce(np.eye(2), np.eye(2))  # what a first call imports isn't the call's
    q, k = rng.standard_normal((512, 4)), rng.standard_normal((512, 4))

    def peak(block_size: int) -> int:
        tracemalloc.start()
        result = getattr(info_nce, how)(q, k, block_size=block_size)
        if how == "vjp":
            result[1](1.0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    matrix = 512 * 512 * 8
    assert peak(8) < matrix / 4
    assert peak(512) > matrix  # the measure sees one where there is one


def test_streaming_is_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """[stream.block] value_and_grad computes each block once; vjp's pullback computes each block again."""
    from infonce_ref import contrast

    seen: list[int] = []
    original = contrast.differences

    def watched(xp: Any, pair: Any, *rest: Any) -> Any:
        seen.append(len(pair.keys.values))
        return original(xp, pair, *rest)

    monkeypatch.setattr(contrast, "differences", watched)
    info_nce.value_and_grad(**PLAIN.arrays, block_size=3)
    assert seen == [3, 1]
    seen.clear()
    _, pullback = info_nce.vjp(**PLAIN.arrays, block_size=3)
    pullback(1.0)
    assert seen == [3, 1, 3, 1]
    seen.clear()
    _, pullback = info_nce.vjp(**PLAIN.arrays)
    pullback(1.0)
    assert seen == [N]


def test_a_call_keeps_nothing() -> None:
    """[call.repeatable] Another call in between, of other shapes and options, changes no answer."""
    first = info_nce.value_and_grad(**PLAIN.arrays)
    other = grid(np.random.default_rng(92), 2, D)
    info_nce.value_and_grad(other, other, similarity="dot")
    info_nce.vjp(**CASES["in-batch+own"].arrays, similarity="bilinear", block_size=1)[1](2.0)
    again = info_nce.value_and_grad(**PLAIN.arrays)
    assert pickle.dumps(first) == pickle.dumps(again)
