"""One self-contained page: clauses × implementations, filters, and what there is to know of each failing check.

The page opens from a file and asks no network: styles, script and data are inside, and its security policy lets
nothing else run. Text of the report gets in by two ways only: jinja2's escaping, and JSON without `<`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from infonce_ref.conformance.checks import ORDINARY, PROFILES
from infonce_ref.conformance.clauses import sentences
from infonce_ref.conformance.recorded import Line
from infonce_ref.conformance.report.model import STATUSES, Run, diagnosis, narrowed, number, short
from infonce_ref.conformance.report.text import visible

MOST_SCRIPT_BYTES = 4 * 2**20  # of all scripts in a page; what is over is left out, and said to be


@cache
def template(name: str) -> str:
    return files("infonce_ref.conformance.report").joinpath("templates").joinpath(name).read_text(encoding="utf-8")


def page(runs: Sequence[Run]) -> str:
    """The page of one run, or of several side by side."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style, script = template("page.css"), template("page.js")
    return environment.from_string(template("page.html")).render(
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src {_hashed(style)}; script-src {_hashed(script)}; img-src data:",
        data=embedded(data(runs)),
        runs=[summary(run) for run in runs],
        losses=sorted({visible(run.header["loss"], one_line=True) for run in runs}),
    )


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embedded(value: Any) -> str:
    """JSON that can stand inside a script element, whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def summary(run: Run) -> dict[str, Any]:
    """What the page says of a run before any of its checks."""
    report = run.report
    counts = report.counts()
    return {
        "name": visible(run.name, one_line=True),
        "loss": visible(run.header["loss"], one_line=True),
        "framework": visible(run.header.get("framework") or "", one_line=True),
        "versions": visible(run.versions, one_line=True),
        "resolved": visible(run.header.get("resolved") or ""),
        "command": visible(run.command, one_line=True),
        "required": "all profiles" if {*ORDINARY} <= {*report.required} else visible(", ".join(report.required)),
        "verdict": visible(run.verdict, one_line=True),
        "outcome": outcome(run),
        "met": run.met,
        "asked": len(run.scores),
        "worst": short(max((score.worst for score in run.scores.values() if score.worst is not None), default=None)),
        "diagnosis": [visible(sentence) for sentence in run.diagnosis],
        "counts": [(status, counts[status]) for status in STATUSES if counts[status]],
        "about": [
            (name, visible(run.header.get(key, ""), one_line=True))
            for name, key in (("seed", "seed"), ("edition", "edition"), ("suite", "suite"), ("vectors", "vectors"))
        ],
    }


def outcome(run: Run) -> str:
    """The verdict in a word or three."""
    return {0: "conforms", 1: "does not conform", 4: "stale"}.get(run.exit, "incomplete")


# --- the data of the page's own script ------------------------------------------------------------------------------


class Table:
    """Each thing once, by number."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}

    def number(self, thing: Any) -> int:
        return self.numbers.setdefault(thing, len(self.numbers))


class Lines(Table):
    """Every line of every script, every reason and every note once: scripts of one problem share their inputs."""

    size = 0

    def add(self, text: str) -> list[int] | None:
        """The numbers of the text's lines; None where there is no more room."""
        lines = text.rstrip("\n").split("\n")
        new = sum(len(line) for line in {*lines} - {*self.numbers})
        if self.size + new > MOST_SCRIPT_BYTES:
            return None
        self.size += new
        return [self.number(line) for line in lines]


def data(runs: Sequence[Run]) -> dict[str, Any]:
    """All that the page's script needs, small: a case is a list, and names are indices."""
    lines = Lines()
    slugs = _in_order(sentences(), (clause for run in runs for line in run.results for clause in line["clauses"]))
    profiles = _in_order(PROFILES, (line["profile"] for run in runs for line in run.results))
    place = {slug: i for i, slug in enumerate(slugs)}
    sets, ids = Table(), Table()
    cases, details = [], {}
    for i, run in enumerate(runs):
        for line in run.results:
            r = number(line.get("r"))
            cases.append(
                [
                    i,
                    ids.number(visible(line["id"], one_line=True)),
                    STATUSES.index(line["status"]),
                    profiles.index(line["profile"]),
                    visible(line.get("dtype") or "", one_line=True),
                    None if r is None else (f"{r:.3g}"),
                    sets.number(tuple(place[clause] for clause in line["clauses"])),
                    sets.number(tuple(place[clause] for clause in run.blame.get(line["id"], ()))),
                    int(run.required(line)),
                ]
            )
            found = detail(run, line, lines)
            if found:
                details[len(cases) - 1] = found
    return {
        "statuses": STATUSES,
        "clauses": [[visible(slug, one_line=True), visible(sentences().get(slug, ""))] for slug in slugs],
        "profiles": [[visible(name, one_line=True), PROFILES.get(name, "")] for name in profiles],
        "runs": [{key: s[key] for key in ("name", "loss", "framework", "command")} for s in map(summary, runs)],
        "cases": cases,
        "ids": [*ids.numbers],
        "sets": [list(clauses) for clauses in sets.numbers],
        "details": details,
        "lines": [visible(line) for line in lines.numbers],
    }


def _in_order(known: Any, found: Any) -> list[str]:
    """Those of `found`, in the order of `known`, then the others."""
    present = {*found}
    return [*(name for name in known if name in present), *sorted(present - {*known})]


def detail(run: Run, line: Line, lines: Lines) -> dict[str, Any]:
    """What a case unfolds to, beside what its row says."""
    found: dict[str, Any] = {}
    if line.get("reason"):
        found["reason"] = lines.number(visible(line["reason"]))
    if line["status"] in ("pass", "n/a"):
        return found
    if line.get("known"):
        found["known"] = visible(line["known"])
    worst = line.get("worst") or {}
    for key in ("output", "expected", "got", "bound"):
        if worst.get(key):
            found[key] = visible(worst[key], one_line=True)
    if worst.get("index"):
        found["index"] = visible(list(worst["index"]), one_line=True)
    if diagnosis(line):
        found["diagnosis"] = [visible(sentence) for sentence in diagnosis(line)]
    note, script = run.note(line), run.reproducer.script(line)
    if note:
        found["note"] = lines.number(visible(note))
    if script:
        found["script"] = lines.add(script)
    found["again"] = visible(narrowed(line), one_line=True)
    return found
