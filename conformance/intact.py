"""Whether a file of vectors is what was written: the form of all that is read from it, and inputs that fit their id.

A damaged installation is told so, rather than judging by what is left of it. What the files hold in detail is
said by vectors/schema.json; here stands what no reader may stumble over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from math import prod
from typing import Any

from infonce_ref.conformance.adapters.wire import is_shape
from infonce_ref.conformance.clauses import sentences
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.problem import FORMATS, Problem

EXPECT = ("values", "nonfinite", "refused")


def identity(slug: str, problem: Mapping[str, Any]) -> str:
    """The slug and the first 8 hex digits of the SHA-256 of the problem: other inputs, another id."""
    canonical = json.dumps(problem, sort_keys=True, separators=(",", ":"))
    return f"{slug}#{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"


def document(content: bytes, loss: str, edition: str) -> dict[str, Any]:
    """The parsed file; ValueError, saying what is wrong, if it isn't one that was written for this suite."""
    try:
        found: dict[str, Any] = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    need(isinstance(found, dict), "it is no object")
    for key, value in (("edition", edition), ("loss", loss)):
        need(found.get(key) == value, f"{key} is {str(found.get(key))[:40]!r}, where {value!r} is expected")
    need(isinstance(found.get("class"), str) and found["class"].isprintable(), "it has no class")
    need(isinstance(found.get("vectors"), list), "it has no vectors")
    for number, vector in enumerate(found["vectors"], 1):
        try:
            need(isinstance(vector, dict), "is no object")
            check_vector(vector, loss)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, AttributeError) as error:
            raise ValueError(f"vector {number}: {error}"[:300]) from None
    return found


def need(sound: bool, otherwise: str) -> None:
    if not sound:
        raise ValueError(otherwise)


def check_vector(vector: Mapping[str, Any], loss: str) -> None:
    """Its inputs fit its id; its clauses exist; its answers and bounds have the shapes that they say."""
    problem, dtypes = vector["problem"], vector["dtypes"]
    need(vector["id"] == identity(vector["id"].rpartition("#")[0], problem), "the inputs don't fit the id")
    need(problem["loss"] == loss in LOSSES, f"is of another loss than {loss}")
    for key in ("profile", "note"):
        need(isinstance(vector[key], str), f"{key} is no text")
    need(vector["expect"] in EXPECT, f"expect is {str(vector['expect'])[:40]!r}")
    need(bool(vector["clauses"]) and {*vector["clauses"]} <= {*sentences()}, "cites a clause that isn't there")
    need(isinstance(dtypes, dict) and bool(dtypes) and {*dtypes} <= {*FORMATS}, "is asked in no known dtype")
    if vector["expect"] != "refused":
        Problem.from_json(problem)
    sizes = {name: check_values(name, values) for name, values in vector.get("expected", {}).items()}
    for name, places in vector.get("nonfinite", {}).items():
        need(isinstance(places, list) and all(type(i) is int and i >= 0 for i in places), f"{name}: no places")
        need(name not in sizes or all(i < sizes[name] for i in places), f"{name}: places beyond its end")
    need(vector["expect"] != "values" or "loss" in sizes, "has no loss")
    for levels in dtypes.values():
        for name, radii in (item for level in ("bound", "precise") for item in levels.get(level, {}).items()):
            need(isinstance(radii, list) and len(radii) == sizes[name], f"{name}: not a bound for each value")
            need(all(r is None or (is_decimal(r) and float(r) >= 0.0) for r in radii), f"{name}: a bound is no number")


def check_values(name: str, values: Mapping[str, Any]) -> int:
    """How many they are."""
    shape, numbers = values["shape"], values["values"]
    need(is_shape(shape) and isinstance(numbers, list) and len(numbers) == prod(shape), f"{name}: another shape")
    need(all(x is None or is_decimal(x) for x in numbers), f"{name}: a value is no number")
    return len(numbers)


def is_decimal(text: Any) -> bool:
    """Whether it is a decimal number of sensible size, as text."""
    if not isinstance(text, str) or len(text) > 60:
        return False
    try:
        return Decimal(text).is_finite() and abs(Decimal(text).adjusted()) < 5000
    except ArithmeticError:
        return False
