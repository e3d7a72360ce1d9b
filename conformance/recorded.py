"""A report read back from its file: bounded before it is parsed, every line held against report.schema.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from infonce_ref.conformance.fresh import MissingExtra
from infonce_ref.conformance.results import MAX_LINE, Usage

MAX_BYTES = 2**28
MAX_LINES = 200_000

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Recorded:
    """The lines of a report."""

    header: Line
    results: Sequence[Line]
    footer: Line | None  # None: the run was cut short


def read(path: Path) -> Recorded:
    """The report that `path` holds; Usage, saying which line isn't as it must be, if it holds none."""
    lines = list(_lines(path))
    if not lines or lines[0]["type"] != "header":
        raise Usage(f"{path} isn't a report: it doesn't begin with a header")
    footer = lines[-1] if lines[-1]["type"] == "footer" else None
    results = lines[1:-1] if footer else lines[1:]
    for number, line in enumerate(results, 2):
        if line["type"] != "result":
            raise Usage(f"{path} isn't a report: line {number} is a {line['type']}")
    return Recorded(lines[0], results, footer)


def _lines(path: Path) -> Iterator[Line]:
    """The lines, parsed and valid; a last one that was cut off in the middle is left out."""
    for number, text in enumerate(_texts(path), 1):
        try:
            line = json.loads(text.decode("utf-8"), parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            if not text.endswith(b"\n") and number > 1:
                return
            raise Usage(f"{path} isn't a report: line {number} isn't JSON: {error}"[:500]) from error
        complaint = complaint_about(line)
        if complaint:
            raise Usage(f"{path} isn't a report: line {number}: {complaint}"[:500])
        yield line


def _texts(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            total = 0
            for number in range(1, MAX_LINES + 2):
                text = stream.readline(MAX_LINE + 1)
                total += len(text)
                if not text:
                    return
                if len(text) > MAX_LINE or total > MAX_BYTES or number > MAX_LINES:
                    limits = f"{MAX_LINE >> 20} MiB a line, {MAX_BYTES >> 20} MiB, {MAX_LINES} lines"
                    raise Usage(f"{path} isn't a report: line {number} goes beyond the limits ({limits})")
                yield text
    except OSError as error:
        raise Usage(f"can't read {path}: {error.strerror}") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def complaint_about(line: Any) -> str:
    """What the schema has against a line; empty if nothing."""
    kind = line.get("type") if isinstance(line, dict) else None
    if kind not in ("header", "result", "footer"):
        return "neither header nor result nor footer"
    error = next(_validator(kind).iter_errors(line), None)
    if error is None:
        return ""
    return "".join(f"{part}: " for part in error.absolute_path) + str(error.message)[:200]


@cache
def _validator(kind: str) -> Any:
    """Of one of the schema's definitions."""
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise MissingExtra(
            f"reading a report needs {error.name}, which comes with: pip install 'infonce-ref[conformance]'"
        ) from error
    schema = json.loads(files("infonce_ref.conformance").joinpath("report.schema.json").read_text(encoding="utf-8"))
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})
