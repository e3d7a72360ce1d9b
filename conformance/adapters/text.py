"""The whitespace wire, which C reads with scanf alone. What each line holds: docs/guide/adapters.md.

It says what the JSON wire says. Every list has its length in front, every number is the 16 hexadecimal digits of a
float64, whatever its dtype: the numbers of all other dtypes are float64 numbers too.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any
from urllib.parse import quote

from infonce_ref.conformance.adapters.wire import is_shape
from infonce_ref.conformance.family import LOSSES, SCALARS
from infonce_ref.conformance.problem import FORMATS, from_bits, to_bits

NUMBER = re.compile("[0-9a-fA-F]{1,16}")
COUNT = re.compile("[0-9]{1,12}")


class TextWire:
    """Requests and replies as tokens between blanks, one of them a line."""

    name = "text"

    def hello(self) -> bytes:
        return b"hello\n"

    def request(self, request: Mapping[str, Any]) -> bytes:
        """`ask`, id, loss, dtype; then words and arrays, each list counted."""
        problem = request["problem"]
        words, numbers, lists = _split(problem)
        words["want"] = ",".join(dict.fromkeys(["loss", *request["want"]]))
        tokens = ["ask", request["id"], problem["loss"], problem["dtype"]]
        tokens += [str(len(words)), *(token for pair in words.items() for token in pair)]
        tokens += [str(len(problem["arrays"]) + len(numbers) + len(lists))]
        known = LOSSES[problem["loss"]]
        for name in sorted(problem["arrays"], key=(*known.arrays, *known.optional).index):
            array = problem["arrays"][name]
            tokens += [name, array["dtype"], *_shape(array["shape"]), *_numbers(array)]
        for name, (dtype, value) in numbers.items():
            tokens += [name, dtype, "0", digits(value)]
        for name, values in lists.items():
            whole = all(type(value) is int for value in values)
            tokens += [name, "int64" if whole else "float64", *_shape([len(values)]), *map(digits, values)]
        return " ".join(tokens).encode() + b"\n"

    def reply(self, line: bytes) -> dict[str, Any] | None:
        """What the line says, as the JSON wire would; None where it is no reply. ValueError for half a reply."""
        first, _, rest = line.decode("utf-8", errors="replace").strip().partition(" ")
        kind, _, rest = rest.strip().partition(" ")
        if first == "hello":
            return {"id": "hello", "hello": _hello(iter([kind, *rest.split()]))}
        if kind in ("na", "refused"):
            return {"id": first, kind: rest}
        if kind != "ok":
            return None
        try:
            arrays = dict(_arrays(iter(rest.split())))
        except ValueError as error:
            return {"id": first, "garbage": str(error)}
        loss = {"loss": arrays.pop("loss")} if "loss" in arrays else {}
        return {"id": first, **loss, "grad": arrays}


def digits(value: float) -> str:
    """The float64 bits."""
    return struct.pack(">d", value).hex()


def word(text: str) -> str:
    """A token for any text: what isn't a letter, a digit or one of _.-~ as %XX; the empty text is %."""
    return quote(text, safe="") or "%"


# --- requests ------------------------------------------------------------------------------------------------------


def _split(
    problem: Mapping[str, Any],
) -> tuple[dict[str, str], dict[str, tuple[str, float]], dict[str, list[float]]]:
    """What a problem has beside arrays: words, numbers with their dtypes, lists of numbers."""
    words: dict[str, str] = {}
    numbers: dict[str, tuple[str, float]] = {}
    lists: dict[str, list[float]] = {}
    plain = {key: value for key, value in problem.items() if key not in ("loss", "dtype", "arrays", "options")}
    for name, value in {**plain, **problem.get("options", {})}.items():
        if name in SCALARS and isinstance(value, str):
            numbers[name] = (problem["dtype"], from_bits(value, problem["dtype"]))
        elif isinstance(value, bool):
            numbers[name] = ("bool", float(value))
        elif isinstance(value, int | float):
            numbers[name] = ("float64", float(value))
        elif isinstance(value, list):
            lists[name] = value
        else:
            words[name] = word("none" if value is None else str(value))
    return words, numbers, lists


def _shape(shape: Sequence[int]) -> list[str]:
    return [str(len(shape)), *map(str, shape)]


def _numbers(array: Mapping[str, Any]) -> Iterator[str]:
    if array["dtype"] in FORMATS:
        yield from (digits(from_bits(bits, array["dtype"])) for bits in array["bits"])
    else:
        yield from (digits(float(value)) for value in array["values"])


# --- replies -------------------------------------------------------------------------------------------------------


def _hello(tokens: Iterator[str]) -> dict[str, list[str]]:
    """{key: words}: `2 dtypes 1 float64 arguments 2 query positive_key`; empty where it is something else."""
    try:
        return {next(tokens): [next(tokens) for _ in range(_count(tokens))] for _ in range(_count(tokens))}
    except (StopIteration, RuntimeError, ValueError):
        return {}


def _arrays(tokens: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and array, as often as the first token says; nothing may follow."""
    for _ in range(_count(tokens)):
        name, dtype = _next(tokens), _next(tokens)
        if dtype not in FORMATS:
            raise ValueError(f"{name[:80]} is of dtype {dtype[:80]}; it must be one of {', '.join(FORMATS)}")
        shape = [_count(tokens) for _ in range(min(_count(tokens), 99))]
        if not is_shape(shape):
            raise ValueError(f"{name[:80]}: not a shape: {str(shape)[:80]}")
        bits = [_bits(_next(tokens), dtype) for _ in range(prod(shape))]
        yield name, {"dtype": dtype, "shape": shape, "bits": bits}
    if next(tokens, None) is not None:
        raise ValueError("there is more in the reply than it has counted")


def _next(tokens: Iterator[str]) -> str:
    token = next(tokens, None)
    if token is None:
        raise ValueError("the reply ends before it has told what it has counted")
    return token


def _count(tokens: Iterator[str]) -> int:
    token = _next(tokens)
    if not COUNT.fullmatch(token):
        raise ValueError(f"a count is written in digits, got {token[:80]!r}")
    return int(token)


def _bits(token: str, dtype: str) -> str:
    """The bits in `dtype` of a number that came as float64 bits."""
    if not NUMBER.fullmatch(token):
        raise ValueError(f"a number is at most 16 hexadecimal digits, got {token[:80]!r}")
    value = from_bits(token.zfill(16), "float64")
    try:
        return to_bits(value, dtype)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} isn't a {dtype} number: round it before you write it") from None
