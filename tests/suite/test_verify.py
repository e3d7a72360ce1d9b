"""verify: the report's lines, what is seen of a report that was changed, byte mutations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from infonce_ref.conformance import recorded
from infonce_ref.conformance.checks import all_checks
from infonce_ref.conformance.cli import main
from infonce_ref.conformance.commands import verify
from infonce_ref.conformance.results import MAX_LINE, Record
from tests.suite.fuzz import mutations

HERE = Path(__file__).parent
Lines = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets are found in the current folder; the list of checks is made once."""
    monkeypatch.chdir(HERE)
    monkeypatch.setattr(verify, "all_checks", cache(all_checks))


def made(folder: Path, target: str, *options: str) -> Path:
    """The report of a run."""
    path = folder / f"{target}.jsonl"
    main(["run", f"implementations:{target}", "--report", str(path), *options])
    return path


def lines(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def rewritten(path: Path, content: Lines) -> int:
    """verify's exit code for a file of these lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in content), encoding="utf-8")
    return main(["verify", str(path)])


# --- what is written is valid, and verified ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "options", "code"),
    [
        ("textbook", [], 0),
        ("textbook", ["--profile", "all"], 1),
        ("gradient_of_the_sum", ["--seed", "7"], 1),
        ("forgets_a_gradient", [], 1),
        ("drifting", [], 1),
        ("refuses_everything", ["--profile", "errors"], 1),
        ("accepts_everything", ["--profile", "errors"], 1),
        ("in_place", [], 1),
        ("declared", [], 0),
        ("value_only", ["--profile", "grad"], 5),
        ("exits", ["--only", "benign.plain*float64/loss"], 1),
    ],
)
def test_a_report_is_verified(
    target: str, options: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line as it is written is valid, and judging its raw outputs again gives the run's own exit code."""
    path = made(tmp_path, target, *options)
    for line in lines(path):
        assert recorded.complaint_about(line) == ""
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert main(["verify", str(path)]) == code
    again = capsys.readouterr().out.splitlines()
    assert len(again) == 1
    assert again[0].endswith(verdict.partition(" ")[2])


def test_known_failures_are_judged_as_of_the_runs_day(tmp_path: Path) -> None:
    """xfail and staleness are in the report's header, to be seen again."""
    known = tmp_path / "known.toml"
    known.write_text('[[known]]\npattern = "benign*/loss"\nreason = "factor 2"\nexpires = 2999-01-01\n')
    path = made(tmp_path, "doubled", "--only", "benign", "--known", str(known))
    assert main(["verify", str(path)]) == 0
    head, *rest = lines(path)
    rest[-1]["exit"] = 4
    assert rewritten(path, [head, *rest]) == 1
    rest[-1]["exit"] = 0
    assert rewritten(path, [{**head, "known": []}, *rest]) == 1


def test_nothing_of_the_target_is_run(tmp_path: Path) -> None:
    """A report of something that isn't here is verified all the same."""
    path = made(tmp_path, "textbook", "--only", "benign")
    head, *rest = lines(path)
    assert rewritten(path, [{**head, "target": "nowhere:nothing"}, *rest]) == 0


def test_the_schema_is_one() -> None:
    """A valid JSON Schema, whose top level is the three kinds of line that the reader knows."""
    schema = json.loads(files("infonce_ref.conformance").joinpath("report.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert not validator.is_valid({"type": "result"})
    footer = {"type": "footer", "counts": {"pass": 1}, "capabilities": [], "stale": [], "exit": 0}
    assert validator.is_valid(footer)
    assert not validator.is_valid({**footer, "exit": 3})


# --- what is seen of a changed report ------------------------------------------------------------------------------


def first(results: Lines, status: str) -> dict[str, Any]:
    return next(line for line in results if line["status"] == status)


def a_failure_called_a_pass(content: Lines) -> None:
    first(content[1:-1], "fail")["status"] = "pass"


def a_smaller_r(content: Lines) -> None:
    first(content[1:-1], "fail")["r"] = 1.5


def another_clause(content: Lines) -> None:
    first(content[1:-1], "fail")["clauses"].pop()


def another_profile(content: Lines) -> None:
    first(content[1:-1], "fail")["profile"] = "edges"


def a_failure_called_known(content: Lines) -> None:
    first(content[1:-1], "fail").update(status="xfail", known="it is known")


def another_expected_value(content: Lines) -> None:
    first(content[1:-1], "fail")["worst"]["expected"] = "1"


def another_loss(content: Lines) -> None:
    bits = first(content[1:-1], "fail")["raw"][0]["loss"]["bits"]
    bits[0] = ("0" if bits[0][0] != "0" else "1") + bits[0][1:]


def a_reply_too_many(content: Lines) -> None:
    raw = first(content[1:-1], "fail")["raw"]
    raw.append(raw[0])


def no_reply(content: Lines) -> None:
    first(content[1:-1], "fail")["raw"].clear()


def a_result_twice(content: Lines) -> None:
    content.insert(1, first(content[1:-1], "fail"))


def a_result_of_something_else(content: Lines) -> None:
    first(content[1:-1], "fail")["id"] = "info_nce.benign.none#00000000/float64/loss"


def another_exit_code(content: Lines) -> None:
    content[-1]["exit"] = 0


def other_counts(content: Lines) -> None:
    content[-1]["counts"] = {"pass": 40}


def fewer_requirements(content: Lines) -> None:
    content[0]["required"] = ["grad"]


UNTRUE = [a_failure_called_a_pass, a_smaller_r, another_clause, another_profile, a_failure_called_known]
UNTRUE += [another_expected_value, another_loss, a_reply_too_many, no_reply, a_result_twice, a_result_of_something_else]
UNTRUE += [another_exit_code, other_counts, fewer_requirements]


@pytest.mark.parametrize("change", UNTRUE)
def test_an_untrue_report_is_told(
    change: Callable[[Lines], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and words that name the place; 14 ways to change a report of a failing target."""
    path = made(tmp_path, "doubled", "--only", "benign")
    content = lines(path)
    capsys.readouterr()
    change(content)
    assert rewritten(path, content) == 1
    out = capsys.readouterr().out
    assert "the report is untrue in" in out
    assert ("footer says" in out) or ("line " in out)


def without_a_result(content: Lines) -> None:
    content.remove(first(content[1:-1], "fail"))
    content[-1]["counts"]["fail"] -= 1


def without_a_footer(content: Lines) -> None:
    content.pop()


def without_raw_outputs(content: Lines) -> None:
    first(content[1:-1], "fail")["raw"] = None
    content[-1]["counts"]["fail"] -= 1


@pytest.mark.parametrize("change", [without_a_result, without_a_footer, without_raw_outputs])
def test_an_incomplete_report_is_told(
    change: Callable[[Lines], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 5."""
    path = made(tmp_path, "doubled", "--only", "benign")
    content = lines(path)
    change(content)
    assert rewritten(path, content) == 5
    assert "the report is incomplete" in capsys.readouterr().out


def test_a_line_that_was_cut_off_is_incomplete(tmp_path: Path) -> None:
    """As a run leaves it that was killed while it wrote."""
    path = made(tmp_path, "textbook", "--only", "benign")
    path.write_bytes(path.read_bytes()[:-700])
    assert main(["verify", str(path)]) == 5


@pytest.mark.parametrize(
    ("key", "value", "code", "words"),
    [
        ("vectors", "0" * 16, 3, "verify it with that version"),
        ("edition", "2", 3, "edition 2"),
        ("loss", "other", 3, "no vectors of other"),
        ("required", ["core", "sporty"], 3, "no profile 'sporty'"),
        ("date", "2026-02-30", 2, "header"),
        ("seed", -1, 2, "seed"),
        ("only", 3, 2, "only"),
    ],
)
def test_a_header_of_another_suite(
    key: str, value: Any, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """3 where this suite can't judge it, 2 where nobody can."""
    path = made(tmp_path, "textbook", "--only", "benign")
    head, *rest = lines(path)
    assert rewritten(path, [{**head, key: value}, *rest]) == code
    assert words in capsys.readouterr().err


# --- the reader ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "begin with a header"),
        (b"{}", "line 1: neither header"),
        (b"[1]\n", "line 1: neither header"),
        (b'{"type": "footer", "counts": {}, "capabilities": [], "stale": [], "exit": 0}\n', "begin with a header"),
        (b"\xff\n", "line 1 isn't JSON"),
        (b"[" * 100_000, "line 1 isn't JSON"),
        (b"1" * 10_000, "line 1 isn't JSON"),
        (b"NaN", "NaN is no JSON number"),
        (b" " * (MAX_LINE + 1), "beyond the limits"),
    ],
)
def test_what_is_no_report_says_why(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and which line."""
    path = tmp_path / "report.jsonl"
    path.write_bytes(content)
    assert main(["verify", str(path)]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", 2000), ("MAX_LINES", 2)])
def test_size_is_bounded_before_anything_is_parsed(
    limit: str, value: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole file and the number of lines, like the single line."""
    path = made(tmp_path, "textbook", "--only", "benign")
    monkeypatch.setattr(recorded, limit, value)
    assert main(["verify", str(path)]) == 2
    assert "beyond the limits" in capsys.readouterr().err


def test_no_such_report(capsys: pytest.CaptureFixture[str]) -> None:
    """Usage."""
    assert main(["verify", "no/such/report.jsonl"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_raw_outputs_beyond_the_limit_are_left_out(tmp_path: Path) -> None:
    """A line is never longer than what is read again."""
    path = tmp_path / "report.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        Record(stream).write({"id": "x", "raw": [{"loss": "0" * MAX_LINE}]})
    assert lines(path) == [{"id": "x", "raw": None}]


@pytest.mark.timeout(3600)
def test_byte_mutations_of_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str], outcomes: Counter[str]) -> None:
    """Whatever is changed: a documented exit code and words, no traceback; many are seen to be untrue."""
    sound = made(tmp_path, "doubled", "--only", "benign.*float32")
    for mutated in mutations(sound.read_bytes()):
        path = tmp_path / "mutated.jsonl"
        path.write_bytes(mutated)
        capsys.readouterr()
        code = main(["verify", str(path)])
        said = capsys.readouterr()
        assert said.err if code in (2, 3) else said.out
        outcomes[f"exit code {code}"] += 1
    assert {*outcomes} <= {f"exit code {code}" for code in (1, 2, 3, 5)}
    assert {f"exit code {code}" for code in (1, 2, 5)} <= {*outcomes}


def test_what_can_not_be_printed_is_printed_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a surrogate pair, which JSON allows and UTF-8 doesn't: in a target's name or a reason."""
    path = made(tmp_path, "textbook", "--only", "benign")
    head, *rest = lines(path)
    assert rewritten(path, [{**head, "target": "\ud800"}, *rest]) == 0
    assert "results of \\ud800 judged again" in capsys.readouterr().out
    page, xml, summary = tmp_path / "report.html", tmp_path / "junit.xml", tmp_path / "summary.md"
    options = ["--html", str(page), "--junit", str(xml), "--markdown", str(summary)]
    assert main(["report", str(path), *options]) == 0
    assert all(out.read_text(encoding="utf-8") for out in (page, xml, summary))
