"""Every refusal: which argument, what kind of error, which clause. And what must not be refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infonce_ref import info_nce
from tests.libraries import LIBRARIES

Q = np.array([[1.0, 2.0, 0.5], [-1.0, 0.25, 3.0], [0.5, -2.0, 1.0], [2.0, 1.0, -1.0]])
N, D = Q.shape
W = np.eye(D)


def like(shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    return np.ones(shape, dtype)


# argument that the message names, changed arguments, error, clause
REFUSED: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("query", {"query": Q.tolist()}, TypeError, "input.array"),
    ("query", {"query": None}, TypeError, "input.array"),
    ("positive_key", {"positive_key": Q.tolist()}, TypeError, "input.array"),
    ("negative_keys", {"negative_keys": Q.tolist()}, TypeError, "input.array"),
    ("candidate_mask", {"candidate_mask": [[True] * N] * N}, TypeError, "input.array"),
    ("query", {"query": Q[0]}, ValueError, "input.shape"),
    ("query", {"query": Q[None]}, ValueError, "input.shape"),
    ("query", {"query": Q[:0], "positive_key": Q[:0]}, ValueError, "input.shape"),
    ("query", {"query": Q[:, :0], "positive_key": Q[:, :0]}, ValueError, "input.shape"),
    ("positive_key", {"positive_key": Q[:3]}, ValueError, "input.shape"),
    ("positive_key", {"positive_key": Q[:1]}, ValueError, "input.shape"),
    ("positive_key", {"positive_key": Q[:, :1]}, ValueError, "input.shape"),
    ("positive_key", {"positive_key": Q[0]}, ValueError, "input.shape"),
    ("positive_key", {"positive_key": Q[:0], "positive_index": np.zeros(N, int)}, ValueError, "input.shape"),
    ("negative_keys", {"negative_keys": Q[0]}, ValueError, "input.shape"),
    ("negative_keys", {"negative_keys": Q[:, :2]}, ValueError, "input.shape"),
    ("negative_keys", {"negative_keys": like((1, 2, D))}, ValueError, "input.shape"),
    ("negative_keys", {"negative_keys": like((N, 2, 1))}, ValueError, "input.shape"),
    ("negative_keys", {"negative_keys": like((1, N, 2, D))}, ValueError, "input.shape"),
    ("bilinear_weight", {"similarity": "bilinear", "bilinear_weight": W[:2]}, ValueError, "input.shape"),
    ("bilinear_weight", {"similarity": "bilinear", "bilinear_weight": W[0]}, ValueError, "input.shape"),
    ("positive_key", {"similarity": "bilinear", "bilinear_weight": W[:, :2]}, ValueError, "input.shape"),
    ("similarity", {"similarity": "euclidean"}, ValueError, "similarity.domain"),
    ("similarity", {"similarity": None}, ValueError, "similarity.domain"),
    ("similarity", {"similarity": ["dot"]}, ValueError, "similarity.domain"),
    ("bilinear_weight", {"similarity": "bilinear"}, ValueError, "similarity.domain"),
    ("bilinear_weight", {"bilinear_weight": W}, ValueError, "similarity.domain"),
    ("temperature", {"temperature": 0.0}, ValueError, "scale.temperature.domain"),
    ("temperature", {"temperature": -1}, ValueError, "scale.temperature.domain"),
    ("temperature", {"temperature": float("nan")}, ValueError, "scale.temperature.domain"),
    ("temperature", {"temperature": float("inf")}, ValueError, "scale.temperature.domain"),
    ("temperature", {"temperature": 1e-320}, ValueError, "scale.temperature.domain"),
    ("temperature", {"temperature": np.float64(-1.0)}, ValueError, "scale.temperature.domain"),
    ("temperature", {"temperature": "0.1"}, TypeError, "scale.temperature.domain"),
    ("temperature", {"temperature": None}, TypeError, "scale.temperature.domain"),
    ("temperature", {"temperature": True}, TypeError, "scale.temperature.domain"),
    ("temperature", {"temperature": 1j}, TypeError, "scale.temperature.domain"),
    ("temperature", {"temperature": like((1,))}, ValueError, "scale.temperature.domain"),
    ("temperature", {"temperature": np.array(1)}, TypeError, "scale.temperature.domain"),
    ("margin", {"margin": float("inf")}, ValueError, "scale.margin.domain"),
    ("margin", {"margin": float("nan")}, ValueError, "scale.margin.domain"),
    ("margin", {"margin": "0"}, TypeError, "scale.margin.domain"),
    ("margin", {"margin": like((N,))}, ValueError, "scale.margin.domain"),
    ("margin", {"margin": np.array(True)}, TypeError, "scale.margin.domain"),
    ("negative_keys", {"in_batch_negatives": False}, ValueError, "candidates.domain"),
    ("in_batch_negatives", {"in_batch_negatives": None}, TypeError, "candidates.domain"),
    ("in_batch_negatives", {"in_batch_negatives": 1}, TypeError, "candidates.domain"),
    ("positive_index", {"positive_index": like((N,))}, TypeError, "candidates.index.domain"),
    ("positive_index", {"positive_index": like((N,), bool)}, TypeError, "candidates.index.domain"),
    ("positive_index", {"positive_index": np.zeros(N + 1, int)}, ValueError, "candidates.index.domain"),
    ("positive_index", {"positive_index": np.zeros((N, 1), int)}, ValueError, "candidates.index.domain"),
    ("candidate_mask", {"candidate_mask": like((N, N))}, TypeError, "candidates.mask.domain"),
    ("candidate_mask", {"candidate_mask": like((N, N - 1), bool)}, ValueError, "candidates.mask.domain"),
    ("candidate_mask", {"candidate_mask": like((N,), bool)}, ValueError, "candidates.mask.domain"),
    (
        "candidate_mask",
        {"candidate_mask": like((N, N), bool), "negative_keys": Q, "in_batch_negatives": True},
        ValueError,
        "candidates.mask.domain",
    ),
    ("reduction", {"reduction": "average"}, ValueError, "reduction.domain"),
    ("reduction", {"reduction": None}, ValueError, "reduction.domain"),
    ("sample_weight", {"sample_weight": like((N + 1,))}, ValueError, "reduction.weight.domain"),
    ("sample_weight", {"sample_weight": like((N, 1))}, ValueError, "reduction.weight.domain"),
    ("sample_weight", {"sample_weight": like((N,), int)}, TypeError, "reduction.weight.domain"),
    ("sample_weight", {"sample_weight": like((N,), np.float32)}, TypeError, "reduction.weight.domain"),
    ("query", {"query": Q.astype(int)}, TypeError, "dtype.domain"),
    ("query", {"query": Q.astype(complex)}, TypeError, "dtype.domain"),
    ("query", {"query": Q.astype(bool)}, TypeError, "dtype.domain"),
    ("positive_key", {"positive_key": Q.astype(np.float32)}, TypeError, "dtype.domain"),
    ("negative_keys", {"negative_keys": Q.astype(np.float32)}, TypeError, "dtype.domain"),
    (
        "bilinear_weight",
        {"similarity": "bilinear", "bilinear_weight": W.astype(np.float32)},
        TypeError,
        "dtype.domain",
    ),
    ("block_size", {"block_size": 0}, ValueError, "stream.domain"),
    ("block_size", {"block_size": -1}, ValueError, "stream.domain"),
    ("block_size", {"block_size": True}, TypeError, "stream.domain"),
    ("block_size", {"block_size": 2.0}, TypeError, "stream.domain"),
    ("block_size", {"block_size": "2"}, TypeError, "stream.domain"),
]


def label(row: Any) -> str | None:
    return " ".join(f"{name}" for name in row) if isinstance(row, dict) else None


WAYS = {"value": info_nce, "value_and_grad": info_nce.value_and_grad, "vjp": info_nce.vjp}


@pytest.mark.parametrize(("argument", "changes", "error", "clause"), REFUSED, ids=label)
@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
def test_bad_arguments_are_refused(
    how: Any, argument: str, changes: dict[str, Any], error: type[Exception], clause: str
) -> None:
    """The error names the argument, the value that came and the clause, whichever way the loss is called.

    [input.array] [input.shape] [similarity.domain] [scale.temperature.domain] [scale.margin.domain]
    [candidates.domain] [candidates.index.domain] [candidates.mask.domain] [reduction.domain]
    [reduction.weight.domain] [dtype.domain] [stream.domain]
    """
    with pytest.raises(error) as refusal:
        how(**{"query": Q, "positive_key": Q, **changes})
    message = str(refusal.value)
    assert message.startswith(f"{argument} must ")
    assert ", got " in message
    assert message.endswith(f" [{clause}]")
    assert type(refusal.value) is error


def test_the_message_in_full() -> None:
    """[scale.temperature.domain] Argument, what is allowed, what came, clause."""
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the whole message is compared
        info_nce(Q, Q, temperature=-1.0)
    assert str(refusal.value) == "temperature must be > 0 and finite, got -1.0 [scale.temperature.domain]"


@pytest.mark.parametrize("temperature", [2.0**-149, 1e39, 1e-39])
def test_temperature_must_be_a_normal_float32(temperature: float) -> None:
    """[scale.temperature.domain] A number that isn't a normal float32 is refused for float32 embeddings."""
    with pytest.raises(ValueError, match=r"got .* \[scale.temperature.domain\]"):
        info_nce(Q.astype(np.float32), Q.astype(np.float32), temperature=temperature)
    assert np.isfinite(info_nce(Q, Q, temperature=temperature))


@pytest.mark.parametrize("name", ["positive_key", "temperature", "candidate_mask"])
def test_two_libraries_in_one_call(name: str) -> None:
    """[input.array] Arrays of two libraries are never converted."""
    torch = pytest.importorskip("torch")
    theirs = {"positive_key": Q, "temperature": np.array(0.1), "candidate_mask": like((N, N), bool)}[name]
    q = torch.tensor(Q)
    with pytest.raises(TypeError, match=rf"one library, got .*{name}: numpy.*\[input.array\]"):
        info_nce(**{"query": q, "positive_key": q, name: theirs})


@pytest.mark.parametrize("name", ["positive_key", "temperature", "sample_weight"])
def test_two_devices_in_one_call(name: str) -> None:
    """[input.array] Arrays on two devices are never moved; the message says where each is."""
    with LIBRARIES["strict"]() as here, LIBRARIES["strict-device1"]() as there:
        theirs = {"positive_key": Q, "temperature": np.array(0.1), "sample_weight": like((N,))}[name]
        q = here.array(Q, "float64")
        with pytest.raises(ValueError, match=rf"^{name} must be on the device .*device1.*\[input.array\]"):
            info_nce(**{"query": q, "positive_key": q, name: there.array(theirs, "float64")})


@pytest.mark.parametrize("changes", [
    {"negative_keys": Q[:0]},
    {"negative_keys": like((N, 0, D))},
    {"negative_keys": Q[:0], "in_batch_negatives": False},
    {"temperature": 1},
    {"temperature": np.float32(0.5)},
    {"temperature": np.array(0.5, np.float16)},
    {"margin": -3},
    {"positive_index": np.zeros(N, np.uint8)},
    {"positive_index": np.zeros(2 * N, np.int32)[::2]},
    {"sample_weight": np.zeros(N)},
    {"block_size": 10**9},
    {"candidate_mask": np.zeros((N, N), bool)},
], ids=lambda changes: " ".join(changes))  # fmt: skip
def test_what_is_allowed_is_not_refused(changes: dict[str, Any]) -> None:
    """M = 0, integers for reals, NumPy's scalars, any integer dtype, weights and masks of nothing, views, huge blocks.

    [input.shape] [dtype.temperature] [scale.margin.domain] [candidates.index.domain] [reduction.weight] [stream.block]
    """
    loss, _ = info_nce.value_and_grad(Q, Q, **changes)
    assert np.isfinite(loss)
