"""Implementations for the suite to judge: sound ones, wrong ones, and ones that lie, crash, hang or print."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.resources import files
from itertools import count
from typing import Any

import numpy as np

from infonce_ref.conformance import adapter
from infonce_ref.conformance.problem import decode_array


def textbook(query: Any, positive_key: Any, *, temperature: Any) -> tuple[Any, dict[str, Any]]:
    """Normalise, multiply, softmax less one-hot; gradients by hand."""
    n = len(query)
    q_norm = np.sqrt(np.sum(query * query, axis=1, keepdims=True))
    k_norm = np.sqrt(np.sum(positive_key * positive_key, axis=1, keepdims=True))
    u, v = query / q_norm, positive_key / k_norm
    s = u @ v.T / temperature
    e = np.exp(s - s.max(axis=1, keepdims=True))
    z = e.sum(axis=1, keepdims=True)
    rows = np.log(z)[:, 0] + s.max(axis=1) - np.diag(s)
    g = (e / z - np.eye(n, dtype=s.dtype)) / n
    du, dv = g @ v / temperature, g.T @ u / temperature
    grad = {
        "query": (du - u * np.sum(u * du, axis=1, keepdims=True)) / q_norm,
        "positive_key": (dv - v * np.sum(v * dv, axis=1, keepdims=True)) / k_norm,
    }
    return rows.mean(), grad


def value_only(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    return textbook(query, positive_key, temperature=temperature)[0]


def torch_textbook(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    import torch
    from torch.nn.functional import cross_entropy, normalize

    logits = normalize(query, dim=-1) @ normalize(positive_key, dim=-1).T / temperature
    return cross_entropy(logits, torch.arange(len(logits)))


def jax_textbook(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    import jax
    import jax.numpy as jnp

    u = query / jnp.linalg.norm(query, axis=1, keepdims=True)
    v = positive_key / jnp.linalg.norm(positive_key, axis=1, keepdims=True)
    s = u @ v.T / temperature
    return jnp.mean(jax.nn.logsumexp(s, axis=1) - jnp.diagonal(s))


def scaled(q: Any, k: Any, logit_scale: Any) -> Any:
    """The same with CLIP's names."""
    return textbook(q, k, temperature=1.0 / logit_scale)


class Module:
    """A class, constructed for every call."""

    def __init__(self, temperature: Any = 0.1, verbose: bool = False) -> None:
        self.temperature = temperature

    def __call__(self, anchor: Any, positive: Any) -> Any:
        return textbook(anchor, positive, temperature=self.temperature)


@adapter(loss="info_nce", framework="numpy", dtypes=("float64",), profiles=("core", "grad"))
def declared(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    return textbook(query, positive_key, temperature=temperature)


def many_names(first: Any, second: Any, *, warmth: Any, mode: str) -> Any:
    assert mode == "plain"
    return textbook(first, second, temperature=warmth)


# --- wrong ---------------------------------------------------------------------------------------------------------


def doubled(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    return 2 * value_only(query, positive_key, temperature=temperature)


def gradient_of_the_sum(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    loss, grad = textbook(query, positive_key, temperature=temperature)
    return loss, {name: len(query) * g for name, g in grad.items()}


def promoted(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    return textbook(query.astype(np.float64), positive_key.astype(np.float64), temperature=temperature)


def vector_valued(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    return value_only(query, positive_key, temperature=temperature)[None]


# --- lying, dying --------------------------------------------------------------------------------------------------


def constant(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    return query.dtype.type(1.0)


def not_a_number(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    return query.dtype.type(np.nan)


def echoes(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Its own inputs, in the right shapes."""
    return query[0, 0], {"query": query, "positive_key": positive_key}


def exits(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    print("these are the last words", file=sys.stderr, flush=True)
    os._exit(7)


def leaves(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    sys.exit(0)


def hangs(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    time.sleep(3600)


def hungry(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    return np.ones(2**36, dtype=np.float64).sum()


def chatty(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Right, but it prints: text, half lines, and what looks like an answer."""
    print('{"id": "r1", "loss": {"dtype": "float64", "shape": [], "bits": ["0000000000000000"]}, "grad": {}}')
    print("x" * 100_000)
    os.write(1, b"\xff\xfe no line end")
    os.write(2, b"y" * 100_000)
    return textbook(query, positive_key, temperature=temperature)


def forks(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Right, but a second process comes back from the call as well."""
    os.fork()
    return textbook(query, positive_key, temperature=temperature)


def in_place(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    result = textbook(query, positive_key, temperature=temperature)
    query /= np.sqrt(np.sum(query * query, axis=1, keepdims=True))
    return result


CALLS = count()


def drifting(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Right, and every second time slightly not."""
    loss, grad = textbook(query, positive_key, temperature=temperature)
    return loss * query.dtype.type(1 + 1e-3 * (next(CALLS) % 2)), grad


FIRST: list[Any] = []


def remembers(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """The first call's answer for ever."""
    FIRST.append(textbook(query, positive_key, temperature=temperature))
    return FIRST[0]


def looks_up(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """A table of the stored vectors' answers, and 0 for anything else."""
    return query.dtype.type(table().get((query.astype(np.float64).tobytes(), float(temperature)), 0.0))


TABLE: dict[Any, float] = {}


def table() -> dict[Any, float]:
    if not TABLE:
        folder = files("infonce_ref.conformance").joinpath("vectors").joinpath("info_nce")
        for file in folder.iterdir():
            for vector in json.loads(file.read_text(encoding="utf-8"))["vectors"]:
                if vector["profile"] == "core":
                    from infonce_ref.conformance.problem import from_bits

                    problem = vector["problem"]
                    tau = from_bits(problem["temperature"], problem["dtype"])
                    query = decode_array(problem["arrays"]["query"])
                    TABLE[query.tobytes(), tau] = float(vector["expected"]["loss"]["values"][0])
    return TABLE


def accepts_everything(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    try:
        return textbook(query, positive_key, temperature=temperature)
    except Exception:  # noqa: BLE001  that's the point
        return np.float32(0.0)


def refuses_everything(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    raise ValueError("no")


def forgets_a_gradient(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Returns gradients at first, and none where the temperature is low."""
    loss, grad = textbook(query, positive_key, temperature=temperature)
    return loss, (grad if temperature > 0.01 else {})


class NotCallable:
    pass


def no_temperature(query: Any, positive_key: Any) -> Any:
    return 0.0


NUMBER = 7


# --- declarations that don't hold ----------------------------------------------------------------------------------


@adapter(loss="info_nce", framework="numpy", dtypes=("float64", "float16"), profiles=("core", "grad", "masks"))
def modest(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Does float32 too, and no masks."""
    return textbook(query, positive_key, temperature=temperature)


@adapter(loss="info_nce", framework="numpy", dtypes=("float64",))
def honest(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """float64 alone, and anything else is wrong."""
    loss, grad = textbook(query, positive_key, temperature=temperature)
    return (loss, grad) if query.dtype == np.float64 else (0 * loss, grad)


@adapter(loss="info_nce", framework="numpy", dtypes=("float32", "float64"), profiles=("core",))
def half_right(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Right in one of the two dtypes that it declares."""
    loss = value_only(query, positive_key, temperature=temperature)
    return 2 * loss if query.dtype == np.float32 else loss


def reads_shared(query: Any, positive_key: Any, negative_keys: Any = None, *, temperature: Any) -> Any:
    """Explicit negatives take the place of those in the batch; the value alone."""
    if negative_keys is None:
        return value_only(query, positive_key, temperature=temperature)
    u, v, w = (x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True)) for x in (query, positive_key, negative_keys))
    if w.ndim != 2:
        raise ValueError("one set of negatives for all")
    s = np.concatenate([np.sum(u * v, axis=1, keepdims=True), u @ w.T], axis=1) / temperature
    top = s.max(axis=1, keepdims=True)
    return (np.log(np.exp(s - top).sum(axis=1)) + top[:, 0] - s[:, 0]).mean()
