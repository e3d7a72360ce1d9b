"""The JSON wire: one object a line; an array is {"dtype", "shape", "bits"}, its numbers IEEE bits in big-endian hex."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from math import prod
from typing import Any, TypeGuard

import numpy as np

from infonce_ref.conformance.problem import FORMATS, from_bits

WORDS: Mapping[str, str] = {"float64": "u8", "float32": "u4", "float16": "u2", "bfloat16": "u2"}

HEX = re.compile("[0-9a-fA-F]*")
MOST_AXES, LONGEST_AXIS = 32, 2**31
LONGEST_TEXT = 2000  # of a reason
TEXTS = ("na", "undeclared", "refused", "where")
NAMES = ("changed", "shared")


class JsonWire:
    """Requests and replies as JSON, one object a line."""

    name = "json"

    def hello(self) -> bytes:
        """The line that asks the other side to say what it has."""
        return self.request({"id": "hello", "hello": {"wire": 1}})

    def request(self, request: Mapping[str, Any]) -> bytes:
        return json.dumps(request).encode() + b"\n"

    def reply(self, line: bytes) -> dict[str, Any] | None:
        """The object on the line; None where there is none."""
        with contextlib.suppress(ValueError, RecursionError):
            message = json.loads(line)
            if isinstance(message, dict):
                return message
        return None


def checked(reply: Mapping[str, Any]) -> dict[str, Any]:
    """`reply`, if it has the form of one; ValueError, saying what is wrong with it, if not."""
    for key, value in reply.items():
        if key in TEXTS:
            if not isinstance(value, str):
                raise ValueError(f"{key} must be a text, got {str(value)[:80]}")
        elif key in NAMES:
            if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                raise ValueError(f"{key} must be a list of names, got {str(value)[:80]}")
        elif key == "loss":
            unpack(value)
        elif key == "grad":
            if not isinstance(value, Mapping):
                raise ValueError(f"grad must hold an array for each argument, got {str(value)[:80]}")
            for gradient in value.values():
                unpack(gradient)
        elif key != "id":
            raise ValueError(f"a reply has no {key[:80]!r}")
    if not {"loss", "na", "refused"} & {*reply}:
        raise ValueError("a reply has a loss, or says na or refused")
    return {key: value[:LONGEST_TEXT] if key in TEXTS else value for key, value in reply.items()}


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
    dtype, shape = data["dtype"][:80], data.get("shape")
    if not is_shape(shape):
        raise ValueError(f"not a shape: {str(shape)[:80]}")
    if dtype not in FORMATS:
        return dtype, np.full(shape if prod(shape) < 10**6 else (), np.nan)
    bits = data.get("bits")
    width = 2 * np.dtype(WORDS[dtype]).itemsize
    if not isinstance(bits, list) or len(bits) != prod(shape):
        raise ValueError(f"{dtype} array of shape {shape} without its {prod(shape)} numbers")
    if not all(isinstance(b, str) and len(b) == width for b in bits) or not HEX.fullmatch("".join(bits)):
        raise ValueError(f"a {dtype} number is {width} hexadecimal digits")
    if dtype == "bfloat16":
        return dtype, np.array([from_bits(b, dtype) for b in bits], dtype=np.float64).reshape(shape)
    words = np.frombuffer(bytes.fromhex("".join(bits)), dtype=">" + WORDS[dtype])
    native = words.astype(WORDS[dtype]).view(dtype)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return dtype, native.astype(np.float64).reshape(shape)


def is_shape(shape: Any) -> TypeGuard[list[int]]:
    """Whether it is a list of lengths that an array can have."""
    if not isinstance(shape, list) or len(shape) > MOST_AXES:
        return False
    return all(type(n) is int and 0 <= n < LONGEST_AXIS for n in shape) and prod(n or 1 for n in shape) < 2**40
