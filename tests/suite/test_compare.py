"""compare: what got better and worse between two reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infonce_ref.conformance.cli import main
from infonce_ref.conformance.commands.compare import SHOWN

HEADER = {
    "type": "header", "edition": "1", "suite": "0", "vectors": "0", "loss": "info_nce", "target": "a:b",
    "framework": "numpy", "versions": {}, "declared": {"dtypes": None, "profiles": None, "flushes": None}, "seed": 1,
    "only": None, "required": ["core"], "named": False, "date": "2026-01-01", "known": [],
}  # fmt: skip
FOOTER = {"type": "footer", "counts": {}, "capabilities": [], "stale": [], "exit": 0}


def result(name: str, status: str, r: Any = None, clauses: tuple[str, ...] = ("clause",)) -> dict[str, Any]:
    about = {"profile": "core", "level": "MUST", "dtype": "float32", "reason": "", "raw": []}
    return {"type": "result", "id": name, "status": status, "r": r, "clauses": list(clauses), **about}


def report(path: Path, *results: dict[str, Any], header: dict[str, Any] | None = None, whole: bool = True) -> str:
    content = [{**HEADER, **(header or {})}, *results, *([FOOTER] if whole else [])]
    path.write_text("".join(json.dumps(line) + "\n" for line in content), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "group", "code"),
    [
        ("pass", "pass", "", 0),
        ("fail", "fail", "", 0),
        ("pass", "fail", "worse: 1", 1),
        ("pass", "error", "worse: 1", 1),
        ("pass", "timeout", "worse: 1", 1),
        ("pass", "xfail", "worse: 1", 1),
        ("xpass", "fail", "worse: 1", 1),
        ("fail", "pass", "better: 1", 0),
        ("xfail", "xpass", "better: 1", 0),
        ("fail", "timeout", "", 0),
        ("pass", "n/a", "no longer applicable: 1", 0),
        ("n/a", "fail", "applicable now: 1", 0),
    ],
)
def test_a_check_that_both_have(
    old: str, new: str, group: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each change of status is told in its group; only what passed and fails now makes the exit code 1."""
    before = report(tmp_path / "old.jsonl", result("x", old), result("y", "pass"))
    after = report(tmp_path / "new.jsonl", result("x", new), result("y", "pass"))
    assert main(["compare", before, after]) == code
    out = capsys.readouterr().out
    assert group in out
    assert (f"{old} → {new}" in out) == bool(group)


def test_what_only_one_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Gone and new, by id; a new failure isn't worse than nothing."""
    before = report(tmp_path / "old.jsonl", result("x", "pass"), result("both", "pass"))
    after = report(tmp_path / "new.jsonl", result("both", "pass"), result("y", "fail"))
    assert main(["compare", before, after]) == 0
    out = capsys.readouterr().out
    assert "gone: 1\n  x\n" in out
    assert "new: 1\n  y\n" in out


def test_the_worst_r_of_a_clause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Told where it moved by more than a tenth, over the checks that both reports have."""
    before = [
        result("x", "pass", 0.5, ("moved", "still")),
        result("y", "pass", 0.9, ("still",)),
        result("z", "pass", 9),
    ]
    after = [result("x", "pass", 0.25, ("moved", "still")), result("y", "pass", 0.95, ("still",))]
    after += [result("w", "fail", "inf", ("moved",))]
    main(["compare", report(tmp_path / "old.jsonl", *before), report(tmp_path / "new.jsonl", *after)])
    out = capsys.readouterr().out
    assert "worst r, by clause: 1\n  moved  0.5 → 0.25\n" in out


def test_infinite_and_absent_r(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An r that became infinite, or that there wasn't, is told as such."""
    before = [result("x", "pass", 0.5), result("y", "n/a", None, ("other",))]
    after = [result("x", "fail", "inf"), result("y", "pass", 0.25, ("other",))]
    assert main(["compare", report(tmp_path / "old.jsonl", *before), report(tmp_path / "new.jsonl", *after)]) == 1
    out = capsys.readouterr().out
    assert "x  pass → fail, r 0.5 → inf" in out
    assert "clause  0.5 → inf" in out
    assert "other  - → 0.25" in out


def test_a_report_that_was_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 5, unless something is worse already."""
    whole = report(tmp_path / "whole.jsonl", result("x", "pass"))
    cut = report(tmp_path / "cut.jsonl", result("x", "pass"), whole=False)
    worse = report(tmp_path / "worse.jsonl", result("x", "fail"), whole=False)
    assert [main(["compare", *pair]) for pair in ((whole, cut), (cut, whole), (whole, worse))] == [5, 5, 1]
    assert "cut short" in capsys.readouterr().out


def test_reports_of_different_things(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another seed or other vectors explain why checks are gone."""
    before = report(tmp_path / "old.jsonl", result("x@1", "pass"))
    after = report(tmp_path / "new.jsonl", result("x@2", "pass"), header={"seed": 2})
    assert main(["compare", before, after]) == 0
    assert "they differ in seed" in capsys.readouterr().out


def test_a_long_group_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the number of those that aren't shown."""
    names = [f"x{i}" for i in range(SHOWN + 5)]
    before = report(tmp_path / "old.jsonl", *(result(name, "pass") for name in names))
    after = report(tmp_path / "new.jsonl", *(result(name, "fail") for name in names))
    assert main(["compare", before, after]) == 1
    out = capsys.readouterr().out
    assert "… and 5 more" in out
    assert out.endswith(f"{SHOWN + 5} worse, 0 better, 0 as before\n")


def test_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The textbook and a bug in it, from the reports that the command writes."""
    monkeypatch.chdir(Path(__file__).parent)
    for target in ("textbook", "doubled"):
        path = str(tmp_path / f"{target}.jsonl")
        main(["run", f"implementations:{target}", "--only", "benign*/loss", "--report", path])
    textbook, doubled = str(tmp_path / "textbook.jsonl"), str(tmp_path / "doubled.jsonl")
    assert [main(["compare", *pair]) for pair in ((textbook, textbook), (textbook, doubled), (doubled, textbook))] == [
        0,
        1,
        0,
    ]
    capsys.readouterr()


def test_what_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Usage, which of the two isn't one."""
    other = tmp_path / "other.jsonl"
    other.write_text("{}\n")
    assert main(["compare", report(tmp_path / "old.jsonl"), str(other)]) == 2
    assert "other.jsonl isn't a report" in capsys.readouterr().err
