"""Arrays on the wire: {"dtype", "shape", "bits"}, each number its IEEE bits in big-endian hex."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from infonce_ref.conformance.problem import FORMATS, from_bits

WORDS: Mapping[str, str] = {"float64": "u8", "float32": "u4", "float16": "u2", "bfloat16": "u2"}


def pack(words: np.ndarray, dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """The array of `dtype` whose numbers have the bit patterns `words` (unsigned integers)."""
    width = 2 * words.dtype.itemsize
    text = words.astype(words.dtype.newbyteorder(">")).tobytes().hex()
    bits = [text[i : i + width] for i in range(0, len(text), width)]
    return {"dtype": dtype, "shape": list(shape), "bits": bits}


def pack_numpy(array: np.ndarray) -> dict[str, Any]:
    """`array` on the wire; what isn't one of our formats goes as text, to be shown and refused."""
    name = array.dtype.name
    if name in FORMATS:
        return pack(np.ascontiguousarray(array).reshape(-1).view(WORDS[name]), name, array.shape)
    return {"dtype": name, "shape": list(array.shape), "values": [str(x) for x in array.ravel()[:64]]}


def unpack(data: Any) -> tuple[str, np.ndarray]:
    """Dtype and numbers (float64, exactly; NaN where they aren't real) of an array that came over the wire."""
    if not isinstance(data, Mapping) or not isinstance(data.get("dtype"), str):
        raise ValueError(f"not an array: {str(data)[:80]}")
    dtype, shape = data["dtype"], data.get("shape")
    if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError(f"not a shape: {str(shape)[:80]}")
    if dtype not in FORMATS:
        return dtype, np.full(shape if prod(shape) < 10**6 else (), np.nan)
    bits = data.get("bits")
    width = 2 * np.dtype(WORDS[dtype]).itemsize
    if not isinstance(bits, list) or len(bits) != prod(shape):
        raise ValueError(f"{dtype} array of shape {shape} without its {prod(shape)} numbers")
    if not all(isinstance(b, str) and len(b) == width for b in bits):
        raise ValueError(f"a {dtype} number is {width} hexadecimal digits")
    if dtype == "bfloat16":
        return dtype, np.array([from_bits(b, dtype) for b in bits], dtype=np.float64).reshape(shape)
    words = np.frombuffer(bytes.fromhex("".join(bits)), dtype=">" + WORDS[dtype])
    native = words.astype(WORDS[dtype]).view(dtype)
    return dtype, native.astype(np.float64).reshape(shape)
