"""The stored vectors in the formats of others: inputs, exact values, bounds, clauses.

A row is one vector in one dtype. Exact values are decimals of 40 digits, and two doubles besides, `hi + lo`, for those
who compare numbers. None is a value that isn't judged, or has no bound.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import infonce_ref
from infonce_ref.conformance.adapters.text import digits
from infonce_ref.conformance.family import SCALARS
from infonce_ref.conformance.judge import two_doubles
from infonce_ref.conformance.load import EDITION, digest, vector_questions
from infonce_ref.conformance.problem import FORMATS, decode_array, from_bits
from infonce_ref.conformance.question import Question

Row = dict[str, Any]
COLUMNS = ("id", "dtype", "part", "name", "index", "value", "bits", "hi", "lo", "bound", "precise")


def header(loss: str, vectors: Any = None) -> Row:
    """What the rows are rows of."""
    suite = {"edition": EDITION, "suite": infonce_ref.__version__, "vectors": digest(loss, vectors)}
    return {"type": "header", **suite, "loss": loss}


def rows(loss: str, vectors: Any = None) -> Iterator[Row]:
    """Every stored vector in each of its dtypes."""
    for question in vector_questions(loss, vectors):
        yield row(question)


def row(question: Question) -> Row:
    """One vector in one dtype."""
    answers = question.find()
    levels = {"bound": answers.bounds, "precise": answers.precise}
    return {
        "type": "vector",
        "id": question.id,
        "dtype": question.dtype,
        "profile": question.profile,
        "clauses": list(question.clauses),
        "note": question.note,
        "expect": question.expect,
        "problem": dict(question.problem),
        "expected": {name: _with_doubles(values) for name, values in answers.expected.items()},
        "nonfinite": {name: _flat(places) for name, places in answers.nonfinite.items()},
        **{level: {name: _flat(radii) for name, radii in found.items()} for level, found in levels.items()},
    }


def _with_doubles(values: Mapping[str, Any]) -> Row:
    pairs = [(None, None) if v is None else tuple(digits(part) for part in two_doubles(v)) for v in values["values"]]
    return {**values, "hi": [hi for hi, _ in pairs], "lo": [lo for _, lo in pairs]}


def _flat(values: Any) -> Any:
    return values["values"] if isinstance(values, Mapping) else values


# --- formats -------------------------------------------------------------------------------------------------------


def as_json(loss: str, folder: Path, vectors: Any = None) -> Path:
    """One document: the keys of the header, and the rows."""
    path = folder / f"{loss}.json"
    document = {**header(loss, vectors), "type": "export", "rows": list(rows(loss, vectors))}
    path.write_text(json.dumps(document, indent=None) + "\n", encoding="utf-8")
    return path


def as_jsonl(loss: str, folder: Path, vectors: Any = None) -> Path:
    """The header, and then a row a line."""
    path = folder / f"{loss}.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for line in (header(loss, vectors), *rows(loss, vectors)):
            out.write(json.dumps(line) + "\n")
    return path


def as_npz(loss: str, folder: Path, vectors: Any = None) -> Path:
    """An array for everything that is one, called ID/DTYPE/PART/NAME; the rest is JSON, as bytes in `rows`."""
    path = folder / f"{loss}.npz"
    arrays: dict[str, np.ndarray] = {}
    about = []
    for each in rows(loss, vectors):
        place = f"{each['id']}/{each['dtype']}"
        problem = each["problem"]
        for name, array in problem["arrays"].items():
            arrays[f"{place}/argument/{name}"] = decode_array(array).astype(stored_as(array["dtype"]))
        for name in SCALARS:
            if name in problem:
                value = from_bits(problem[name], problem["dtype"])
                arrays[f"{place}/argument/{name}"] = np.asarray(value, dtype=stored_as(problem["dtype"]))
        for name, values in each["expected"].items():
            for part in ("hi", "lo"):
                arrays[f"{place}/{part}/{name}"] = np.reshape(_doubles(values[part]), values["shape"])
            for part in ("bound", "precise"):
                if name in each[part]:
                    arrays[f"{place}/{part}/{name}"] = np.reshape(_numbers(each[part][name]), values["shape"])
        kept = ("id", "dtype", "profile", "clauses", "note", "expect", "nonfinite")
        words = {name: value for name, value in problem.items() if name not in ("arrays", *SCALARS)}
        about.append({**{key: each[key] for key in kept}, "problem": words})
    document = json.dumps({**header(loss, vectors), "type": "export", "rows": about})
    arrays["rows"] = np.frombuffer(document.encode(), dtype=np.uint8)
    with path.open("wb") as out:
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type, unused-ignore]  # some stubs' allow_pickle
    return path


def stored_as(dtype: str) -> np.dtype[Any]:
    """NumPy's dtype for an argument: its own; float32 for bfloat16, whose numbers it holds."""
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def _doubles(bits: list[str | None]) -> list[float]:
    return [np.nan if b is None else from_bits(b, "float64") for b in bits]


def _numbers(decimals: list[str | None]) -> list[float]:
    return [np.nan if d is None else float(d) for d in decimals]


def as_csv(loss: str, folder: Path, vectors: Any = None) -> Path:
    """A line for each number and each word: which vector, which part of it, which entry."""
    path = folder / f"{loss}.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, COLUMNS)
        table.writeheader()
        for each in rows(loss, vectors):
            for line in _lines(each):
                table.writerow({"id": each["id"], "dtype": each["dtype"], **line})
    return path


def _lines(each: Row) -> Iterator[Row]:
    problem = each["problem"]
    for name in ("profile", "expect", "note"):
        yield {"part": "about", "name": name, "value": each[name]}
    yield {"part": "about", "name": "clauses", "value": " ".join(each["clauses"])}
    for name, array in problem["arrays"].items():
        yield {"part": "shape", "name": name, "value": " ".join(map(str, array["shape"]))}
        yield from _entries(name, array)
    words = {name: value for name, value in problem.items() if name not in ("arrays", "options", "dtype", "loss")}
    for name, value in {**words, **problem.get("options", {})}.items():
        if name in SCALARS:
            yield from _entries(name, {"dtype": problem["dtype"], "bits": [value]})
        else:
            yield {"part": "keyword", "name": name, "value": json.dumps(value)}
    for name, values in each["expected"].items():
        yield {"part": "expected shape", "name": name, "value": " ".join(map(str, values["shape"]))}
        for i in range(prod(values["shape"])):
            levels = {level: each[level][name][i] for level in ("bound", "precise") if name in each[level]}
            parts = {"value": values["values"][i], "hi": values["hi"][i], "lo": values["lo"][i]}
            yield {"part": "expected", "name": name, "index": i, **parts, **levels}
    for name, places in each["nonfinite"].items():
        for i in [places] if places == "all" else places:
            yield {"part": "nonfinite", "name": name, "index": i}


def _entries(name: str, array: Mapping[str, Any]) -> Iterator[Row]:
    """An argument's numbers; `value` is enough to read them by, `bits` are IEEE bits of the argument's dtype."""
    if array["dtype"] in FORMATS:
        for i, bits in enumerate(array["bits"]):
            yield {"part": "argument", "name": name, "index": i, "value": from_bits(bits, array["dtype"]), "bits": bits}
    else:
        for i, value in enumerate(array["values"]):
            yield {"part": "argument", "name": name, "index": i, "value": value}


WRITERS: Mapping[str, Callable[..., Path]] = {"json": as_json, "jsonl": as_jsonl, "npz": as_npz, "csv": as_csv}
