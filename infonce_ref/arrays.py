"""What the stages need beyond the Array API standard: an input's library, its dtypes, and constants like it.

A constant made from an input has its dtype and its device, whether the input is eager, traced, sharded or without data.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

from array_api_compat import array_namespace, device, is_jax_array, is_torch_array

Array: TypeAlias = Any
Namespace: TypeAlias = Any
DType: TypeAlias = Any

HALF_DTYPES = ("float16", "bfloat16")
STORAGE_DTYPES = ("float64", "float32", *HALF_DTYPES)


def namespace(*arrays: Array) -> Namespace:
    """The Array API namespace that the given arrays have in common."""
    return array_namespace(*arrays)


def dtype_name(x: Array) -> str:
    """The name of an array's dtype without its library: "float32", "bfloat16", "bool"."""
    return str(x.dtype).rsplit(".", maxsplit=1)[-1]


def compute_dtype(xp: Namespace, x: Array) -> DType:
    """The dtype that arithmetic on x runs in: its own, or float32 where x is stored in half precision."""
    return xp.float64 if dtype_name(x) == "float64" else xp.float32  # dtype.compute dtype.half


def in_dtype(xp: Namespace, x: Array, dtype: DType) -> Array:
    """x itself if it has that dtype, else a copy that does."""
    return x if x.dtype == dtype else xp.astype(x, dtype)


def constant(xp: Namespace, like: Array, value: float) -> Array:
    """A Python number rounded once to the dtype of `like` (2-D), as a 0-d array where `like` is."""
    return xp.sum(like[:0, :]) + value


def as_constant(x: Array) -> Array:
    """x without the history that a library's own differentiation would follow; the standard has no word for it."""
    if is_torch_array(x):
        return x.detach()
    if is_jax_array(x):
        return sys.modules["jax"].lax.stop_gradient(x)  # an array of JAX's has loaded it
    return x


def where_it_is(x: Array) -> dict[str, Any]:
    """The device as a keyword, where it has to be named.

    A JAX array's may be a sharding, which differs from array to array with good reason, or unknown under jit; MLX's
    arrays have none.
    """
    return {} if is_jax_array(x) or not hasattr(x, "device") else {"device": device(x)}


def row_numbers(xp: Namespace, x: Array) -> Array:
    """0, 1, … for the rows of x, integers where x is. The one factory call."""
    return xp.arange(x.shape[0], **where_it_is(x))


def column(x: Array) -> Array:
    """(N,) as (N, 1), to meet matrices of N rows."""
    return x[:, None]
