"""Reports to make pages and other forms from: real ones, and one in which everything that can be hostile is."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from infonce_ref import info_nce
from infonce_ref.conformance.report.model import Run, from_lines, run_of
from infonce_ref.conformance.results import Report
from infonce_ref.conformance.run import check_loss
from tests.suite import implementations

EVIL = (
    "</script><script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 1'>",
    "]]><!-- & \" ' ` ${window.owned = 1} {{ 7 * 7 }}",
    "| a | `b` | [link](javascript:alert(1)) **bold** # title",
    "http://example.org www.example.org @somebody &lt;b&gt;",
    "\x00\x01\x1b[31m\x7f\x85\u202e\u2066\ud800\ufffe\uffff",
    "first line\nsecond line\r\n- third\u2028fourth",
)


@cache
def sound() -> Report:
    """The reference, everything asked."""
    report = check_loss(info_nce, profile="all")
    report.target = "infonce_ref:info_nce"
    return report


@cache
def wrong() -> Report:
    """Twice the loss."""
    report = check_loss(implementations.doubled, profile="core,grad")
    report.target = "implementations:doubled"
    report.command = ("infonce-conformance", "run", "implementations:doubled", "--loss", "info_nce")
    report.diagnose()
    return report


def lines_of(report: Report) -> list[dict[str, Any]]:
    """What a file would hold."""
    lines = [report.header(), *(result.record() for result in report.results), report.footer()]
    return [json.loads(json.dumps(line)) for line in lines]


@cache
def runs() -> tuple[Run, Run]:
    """One that conforms, one that doesn't and says why."""
    lines = lines_of(wrong())
    for line in lines:
        if line.get("status") == "fail":
            line["diagnosis"] = "Your outputs equal twice the loss on 9 of 9 vectors."
    return run_of(sound()), from_lines(lines)


def result(i: int, status: str, **more: Any) -> dict[str, Any]:
    """A line of a report that nobody ran."""
    known = {"type": "result", "id": f"info_nce.made-up.{i}/float32/loss", "clauses": ["rows.softplus"]}
    return {**known, "profile": "core", "level": "MUST", "dtype": "float32", "status": status, "r": None, **more}


def made_up(*results: dict[str, Any], exit_code: int = 1, says: tuple[str, ...] = (), **header: Any) -> Run:
    """A report of these results, with what its diagnosis says."""
    head = {"type": "header", "target": "a:b", "loss": "info_nce", "seed": 1, "required": ["core"], **header}
    diagnosis = [{"says": [*says], "hypotheses": [], "checks": []}]
    return from_lines([head, *results, {"type": "footer", "exit": exit_code, "diagnosis": diagnosis}])


def of_each_status() -> Run:
    """A check of every status."""
    worst = {"output": "loss", "index": [], "expected": "1.25", "got": "1.5", "bound": "1e-3"}
    return made_up(
        result(1, "fail", r=250.0, worst=worst),
        result(2, "error", reason="raised ValueError: no"),
        result(3, "timeout", reason="no answer within 20 s"),
        result(4, "xfail", r="inf", worst=worst, known="it is known"),
        result(5, "xpass", r=0.5, known="it was known"),
        result(6, "pass", r=0.25, worst=worst),
        result(7, "n/a", reason="not declared"),
        result(8, "fail", r=3.0, worst=worst, profile="edges"),
    )


def hostile() -> Run:
    """Every text that comes from outside is one that shouldn't be taken for anything but text."""
    worst = {"output": EVIL[1], "index": [0], "expected": EVIL[0], "got": EVIL[3], "bound": EVIL[5]}
    results = [
        result(i, "fail", r=2.0, reason=text, worst=worst, diagnosis=[text], id=f"{text}/float32/loss", dtype=text)
        for i, text in enumerate(EVIL)
    ]
    odd = [result(9, "error", clauses=[text], profile=text, known=text) for text in EVIL]
    names = {"framework": EVIL[1], "resolved": EVIL[0], "versions": {EVIL[0]: EVIL[1]}, "command": ["run", EVIL[0]]}
    more = {**names, "vectors": EVIL[1], "edition": EVIL[3]}
    return made_up(*results, *odd, says=EVIL, target=EVIL[0] + EVIL[5], loss=EVIL[0], **more)


def written(report: Report, path: Path) -> Path:
    """The report as a file."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines_of(report)), encoding="utf-8")
    return path
