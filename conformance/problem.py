"""A problem: one call of one loss, its inputs as exact binary numbers; and how numbers are written as IEEE bits.

Everything in the suite speaks of problems: the oracle solves them, the bounds measure them, vectors store them and
adapters hand them to the implementation under test.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from infonce_ref.conformance.family import KINDS, LOSSES

Reduction = Literal["mean", "sum", "none"]
Similarity = Literal["cosine", "dot", "bilinear"]

USUAL: Mapping[str, Any] = {"margin": 0.0, "bias": 0.0}  # scalars that aren't written where they are this


@dataclass(frozen=True)
class Format:
    """A binary floating-point format as an implementation uses it: stored in one precision, computed in another."""

    name: str
    unit: float  # unit roundoff of the storage format
    tiny: float  # smallest positive subnormal of the storage format
    compute: str  # the format that arithmetic runs in
    compute_unit: float
    compute_tiny: float
    bits: int  # storage width


FORMATS: Mapping[str, Format] = {
    "float64": Format("float64", 2.0**-53, 2.0**-1074, "float64", 2.0**-53, 2.0**-1074, 64),
    "float32": Format("float32", 2.0**-24, 2.0**-149, "float32", 2.0**-24, 2.0**-149, 32),
    "float16": Format("float16", 2.0**-11, 2.0**-24, "float32", 2.0**-24, 2.0**-149, 16),
    "bfloat16": Format("bfloat16", 2.0**-8, 2.0**-133, "float32", 2.0**-24, 2.0**-149, 16),
}


def to_bits(value: float, dtype: str) -> str:
    """The IEEE bits, in big-endian hex, of a value that `dtype` holds exactly: 1.0 in float32 is "3f800000"."""
    value = float(value)
    if dtype == "bfloat16":
        word = struct.pack(">f", value)
        if word[2:] != b"\0\0":
            raise ValueError(f"{value!r} is not a bfloat16 number")
        return word[:2].hex()
    word = struct.pack({"float64": ">d", "float32": ">f", "float16": ">e"}[dtype], value)
    if value == value and from_bits(word.hex(), dtype) != value:
        raise ValueError(f"{value!r} is not a {dtype} number")
    return word.hex()


def from_bits(bits: str, dtype: str) -> float:
    """The number whose IEEE bits are `bits`; every format's numbers are float64 numbers too."""
    word = bytes.fromhex(bits)
    if dtype == "bfloat16":
        dtype, word = "float32", word + b"\0\0"
    value: float = struct.unpack({"float64": ">d", "float32": ">f", "float16": ">e"}[dtype], word)[0]
    return value


def encode_array(array: np.ndarray, dtype: str) -> dict[str, Any]:
    """A real, integer or bool array as JSON: {"dtype", "shape", "bits" | "values"}."""
    head = {"dtype": dtype, "shape": list(array.shape)}
    if dtype in FORMATS:
        return {**head, "bits": [to_bits(x, dtype) for x in np.asarray(array, dtype=np.float64).ravel()]}
    return {**head, "values": [int(x) for x in array.ravel()]}


def decode_array(data: Mapping[str, Any]) -> np.ndarray:
    """The array that `encode_array` wrote; real numbers come back as float64, exactly."""
    shape, dtype = tuple(data["shape"]), data["dtype"]
    if dtype in FORMATS:
        flat: Iterable[Any] = [from_bits(b, dtype) for b in data["bits"]]
        return np.array(flat, dtype=np.float64).reshape(shape)
    return np.array(data["values"], dtype=np.bool_ if dtype == "bool" else np.int64).reshape(shape)


@dataclass(frozen=True)
class Problem:
    """One call of a loss. Real arrays are float64 here and hold numbers that `dtype` represents exactly."""

    dtype: str
    arrays: Mapping[str, np.ndarray]  # by argument: reals as float64, masks as bool, indices and labels as int64
    temperature: float
    loss: str = "info_nce"
    margin: float = 0.0
    bias: float = 0.0  # of siglip
    similarity: Similarity = "cosine"
    in_batch_negatives: bool = True
    reduction: Reduction = "mean"
    options: Mapping[str, Any] = field(default_factory=dict)  # of some losses: numbers, words, bools, lists of numbers

    def __getattr__(self, name: str) -> np.ndarray | None:
        """`problem.negative_keys` is the array of that name, or None where the problem has none."""
        if name in KINDS:
            return self.arrays.get(name)
        raise AttributeError(name)

    @property
    def reading(self) -> str:
        """How the problem reads explicit negatives: in-batch, shared, own, in-batch+shared or in-batch+own."""
        parts = ["in-batch"] if self.in_batch_negatives else []
        if "negative_keys" in self.arrays:
            parts.append("own" if self.arrays["negative_keys"].ndim == 3 else "shared")
        return "+".join(parts)

    @property
    def differentiable(self) -> tuple[str, ...]:
        """The arguments that have a gradient, in the order of the named tuple that the reference returns."""
        return LOSSES[self.loss].differentiable(self.arrays)

    @property
    def rows(self) -> int:
        """How many entries reduction="none" gives."""
        return LOSSES[self.loss].rows({name: array.shape for name, array in self.arrays.items()})

    def option(self, name: str) -> Any:
        """A further keyword, or its default."""
        return self.options.get(name, LOSSES[self.loss].options.get(name))

    def in_dtype(self, dtype: str) -> Problem:
        """The same numbers, asked in another format (which must hold them: encoding checks)."""
        return replace(self, dtype=dtype)

    def to_json(self) -> dict[str, Any]:
        def kind(name: str) -> str:
            return {"mask": "bool", "integer": "int64"}.get(KINDS[name], self.dtype)

        scalars = {name: getattr(self, name) for name in USUAL}
        return {
            "loss": self.loss,
            "dtype": self.dtype,
            "arrays": {name: encode_array(a, kind(name)) for name, a in self.arrays.items()},
            "temperature": to_bits(self.temperature, self.dtype),
            "similarity": self.similarity,
            "in_batch_negatives": self.in_batch_negatives,
            "reduction": self.reduction,
            **{name: to_bits(value, self.dtype) for name, value in scalars.items() if value != USUAL[name]},
            **({"options": dict(self.options)} if self.options else {}),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Problem:
        dtype = data["dtype"]
        return Problem(
            dtype=dtype,
            arrays={name: decode_array(a) for name, a in data["arrays"].items()},
            temperature=from_bits(data["temperature"], dtype),
            loss=data["loss"],
            similarity=data["similarity"],
            in_batch_negatives=data["in_batch_negatives"],
            reduction=data["reduction"],
            options=data.get("options", {}),
            **{name: from_bits(data[name], dtype) for name in USUAL if name in data},
        )
