"""The vectors that came with the suite: questions with answers that were worked out beforehand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from infonce_ref.conformance import intact
from infonce_ref.conformance.adapters.resolve import Unusable
from infonce_ref.conformance.problem import Problem
from infonce_ref.conformance.question import Answers, Question

EDITION = "1"


def folder(loss: str, root: Any = None) -> Any:
    """Where the vectors of `loss` lie: in the installed package, or under `root`."""
    return (root if root is not None else files("infonce_ref.conformance").joinpath("vectors")).joinpath(loss)


def losses(root: Any = None) -> list[str]:
    """The losses that have vectors."""
    top = root if root is not None else files("infonce_ref.conformance").joinpath("vectors")
    return sorted(entry.name for entry in top.iterdir() if entry.is_dir() and entry.name != "__pycache__")


def sources(loss: str, root: Any = None) -> list[tuple[str, bytes]]:
    """The vector files of `loss`, by name."""
    place = folder(loss, root)
    if not place.is_dir():
        return []
    return sorted((f.name, f.read_bytes()) for f in place.iterdir() if f.name.endswith(".json"))


def digest(loss: str, root: Any = None) -> str:
    """A short name of exactly these vectors, for reports."""
    total = hashlib.sha256()
    for name, content in sources(loss, root):
        total.update(name.encode() + b"\0" + content + b"\0")
    return total.hexdigest()[:16]


def vector_questions(loss: str, root: Any = None) -> Iterator[Question]:
    """Every vector in each of its dtypes."""
    for name, content in sources(loss, root):
        try:
            document = intact.document(content, loss, EDITION)
        except ValueError as error:
            raise Unusable(f"the suite's vectors are damaged, in {loss}/{name}: {error}") from error
        for vector in document["vectors"]:
            for dtype in vector["dtypes"]:
                yield _question(vector, dtype, f"{loss}.{document['class']}")


def _question(vector: Mapping[str, Any], dtype: str, kind: str) -> Question:
    """One vector asked in one dtype."""
    problem = vector["problem"]
    if problem["dtype"] != dtype:
        problem = Problem.from_json(problem).in_dtype(dtype).to_json()
    limits = vector["dtypes"][dtype]
    answers = Answers(
        expected=vector.get("expected", {}),
        bounds=limits.get("bound", {}),
        precise=limits.get("precise", {}),
        nonfinite=vector.get("nonfinite", {}),
    )
    return Question(
        id=vector["id"],
        kind=kind,
        dtype=dtype,
        profile=vector["profile"],
        clauses=tuple(vector["clauses"]),
        problem=problem,
        expect=vector["expect"],
        note=vector.get("note", ""),
        precise="precise" in limits,
        find=lambda: answers,
    )
