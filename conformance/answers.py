"""Answers that somebody computed elsewhere from the exported vectors, read from a file of JSON lines.

    {"hello": {"dtypes": ["float32"]}}                            what is declared, if anything: the first line
    {"id": "info_nce.benign.plain#…", "dtype": "float32", "loss": 0.5668, "grad": {"query": [[0.05, …], …], …}}
    {"id": …, "dtype": …, "refused": "temperature must be > 0"}
    {"id": …, "dtype": …, "na": "no masks"}

Numbers are decimals, which are rounded to the dtype, or arrays as the JSON wire has them. Such a file can tell
nothing of fresh problems, of a call asked twice or of inputs left unchanged: those aren't applicable. A stored vector
without an answer is an error, unless what it asks for is declared absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from infonce_ref.conformance.adapters.declared import Declared
from infonce_ref.conformance.adapters.resolve import Unusable
from infonce_ref.conformance.adapters.wire import checked, pack
from infonce_ref.conformance.load import vector_questions
from infonce_ref.conformance.problem import FORMATS, to_bits
from infonce_ref.conformance.results import Usage

MAX_BYTES, MAX_LINE = 2**28, 2**24
DEEPEST = 8
NAMED = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf"), "infinity": float("inf")}
UNSEEN = {
    "call.pure": "a file of answers can't show whether a call changed its inputs",
    "call.repeatable": "a file of answers can't show whether a second call gives the same",
}
FRESH = "a fresh problem: answers computed beforehand can't have met it"

Key = tuple[str, str]  # a vector's id and the dtype


class AnswersRunner:
    """Gives the answers of a file."""

    def __init__(self, path: Path, loss: str, vectors: Any = None) -> None:
        problems = {(q.id, q.dtype): q.problem for q in vector_questions(loss, vectors)}
        self.stored = {canonical(problem): key for key, problem in problems.items()}
        hello, self.replies, self.decimals = _parsed(path, problems)
        try:
            self.declared = Declared(path.name, hello, loss)
        except Unusable as error:
            raise Usage(f"{path}: line 1: {error}") from None

    def start(self) -> dict[str, Any]:
        said = self.declared.hello
        unseen = {**UNSEEN, **({"dtype.result": "decimals have no dtype"} if self.decimals else {})}
        told = {"resolved": self.declared.resolved, "framework": "recorded answers", "versions": said["versions"]}
        return {**told, "profiles": said.get("profiles"), "dtypes": said.get("dtypes"), "unseen": unseen}

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        key = self.stored.get(canonical(request["problem"]))
        if key is None:
            return {"na": FRESH}
        if absent := self.declared.refuses(request):
            return absent
        if key not in self.replies:
            return {"garbage": "the file has no answer to this vector"}
        reply = self.replies[key]
        breach = self.declared.breach(request, reply)
        return {"garbage": breach} if breach else {"id": request["id"], **reply}

    def close(self) -> None:
        """Nothing was begun."""


def canonical(problem: Mapping[str, Any]) -> str:
    """A problem as text, the same for equal ones."""
    return json.dumps(problem, sort_keys=True)


# --- reading -------------------------------------------------------------------------------------------------------


def _parsed(path: Path, problems: Mapping[Key, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[Key, Any], bool]:
    """What is declared, the replies, and whether some of them are decimals; Usage if it isn't such a file."""
    hello: dict[str, Any] = {}
    replies: dict[Key, Any] = {}
    decimals = False
    for number, line in enumerate(_lines(path), 1):
        if number == 1 and isinstance(line.get("hello"), dict) and len(line) == 1:
            hello = line["hello"]
            continue
        try:
            key = _key(line, problems)
            if key in replies:
                raise ValueError(f"a second answer to {key[0]} in {key[1]}")
            reply = {name: value for name, value in line.items() if name not in ("id", "dtype")}
            decimals |= _has_decimals(reply)
            replies[key] = checked(_encoded(reply, key[1], problems[key]["arrays"]))
        except ValueError as error:
            raise Usage(f"{path}: line {number}: {error}"[:500]) from None
    if not replies:
        raise Usage(f"{path} holds no answer")
    return hello, replies, decimals


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as stream:
            total = number = 0
            while text := stream.readline(MAX_LINE + 1):
                number, total = number + 1, total + len(text)
                if len(text) > MAX_LINE or total > MAX_BYTES:
                    raise Usage(f"{path}: line {number} goes beyond {MAX_LINE >> 20} MiB a line, {MAX_BYTES >> 20} MiB")
                if not text.strip():
                    continue
                try:
                    line = json.loads(text.decode("utf-8"))
                except (ValueError, RecursionError) as error:
                    raise Usage(f"{path}: line {number} isn't JSON: {error}"[:500]) from None
                if not isinstance(line, dict):
                    raise Usage(f"{path}: line {number} isn't an object")
                yield line
    except OSError as error:
        raise Usage(f"can't read {path}: {error.strerror}") from error


def _key(line: Mapping[str, Any], problems: Mapping[Key, Any]) -> Key:
    key = (line.get("id"), line.get("dtype"))
    if not isinstance(key[0], str) or not isinstance(key[1], str):
        raise ValueError("an answer has the id of a vector, and a dtype")
    if (key[0], key[1]) not in problems:
        raise ValueError(f"there is no vector {key[0][:80]!r} in {key[1][:80]!r}")
    return key[0], key[1]


def _has_decimals(reply: Mapping[str, Any]) -> bool:
    grad = reply.get("grad")
    values = [*(grad.values() if isinstance(grad, Mapping) else ()), *([reply["loss"]] if "loss" in reply else ())]
    return any(not isinstance(value, Mapping) for value in values)


def _encoded(reply: Mapping[str, Any], dtype: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The reply with every number in bits: the loss in the compute dtype, gradients in their own."""
    encoded = dict(reply)
    if "loss" in encoded:
        encoded["loss"] = as_wire(encoded["loss"], FORMATS[dtype].compute)
    if isinstance(encoded.get("grad"), Mapping):
        gradients = {name: value for name, value in encoded["grad"].items() if value is not None}
        for name, value in gradients.items():
            empty = value == [] and name in arrays and 0 in arrays[name]["shape"]  # lists can't tell (0, 3) from (0,)
            gradients[name] = pack(np.empty(0, "u8"), dtype, arrays[name]["shape"]) if empty else as_wire(value, dtype)
        encoded["grad"] = gradients
    return encoded


def as_wire(value: Any, dtype: str) -> Any:
    """Nested lists of numbers as an array of `dtype`, each the nearest of its numbers; else `value` itself."""
    if isinstance(value, Mapping):
        return value
    shape = _shape(value)
    flat = np.array([_number(x) for x in _leaves(value, shape)], dtype=np.float64)
    if dtype == "bfloat16":
        bits = [to_bits(float(x), dtype) for x in nearest_bfloat16(flat)]
        return {"dtype": dtype, "shape": shape, "bits": bits}
    with np.errstate(over="ignore"):
        rounded = flat.astype(dtype)
    return pack(rounded.view(f"u{rounded.itemsize}"), dtype, tuple(shape))


def _shape(value: Any, depth: int = 0) -> list[int]:
    """The lengths of nested lists, going by the first of each."""
    if not isinstance(value, list):
        return []
    if depth == DEEPEST:
        raise ValueError(f"lists nested more than {DEEPEST} deep")
    return [len(value), *(_shape(value[0], depth + 1) if value else [])]


def _leaves(value: Any, shape: list[int]) -> Iterator[Any]:
    """The numbers of nested lists of that shape, in their order."""
    if not shape:
        yield value
    elif not isinstance(value, list) or len(value) != shape[0]:
        raise ValueError(f"rows of different lengths: {str(value)[:80]}")
    else:
        for entry in value:
            yield from _leaves(entry, shape[1:])


def _number(value: Any) -> float:
    if isinstance(value, str) and value.lower() in NAMED:
        return NAMED[value.lower()]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"not a number: {str(value)[:80]}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"beyond every dtype: {str(value)[:80]}") from None


def nearest_bfloat16(values: np.ndarray) -> np.ndarray:
    """The bfloat16 numbers nearest to `values`, ties to even."""
    with np.errstate(over="ignore"):
        words = values.astype(np.float32).view(np.uint32)
    finite = np.isfinite(words.view(np.float32))
    half = np.uint32(0x7FFF) + ((words >> np.uint32(16)) & np.uint32(1))
    rounded = np.where(finite, words + half, words | np.where(np.isnan(words.view(np.float32)), 0x400000, 0))
    nearest: np.ndarray = (rounded.astype(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return nearest
