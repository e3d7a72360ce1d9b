"""Known failures: the file, what makes an entry stale, the draft."""

from __future__ import annotations

import datetime
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infonce_ref.conformance import check_loss
from infonce_ref.conformance.checks import Check, Outcome
from infonce_ref.conformance.cli import main
from infonce_ref.conformance.known import MAX_BYTES, MAX_ENTRIES, Entry, KnownFailures, as_toml, drafted
from infonce_ref.conformance.results import Result, Usage
from tests.suite.fuzz import COUNT, mutations

HERE = Path(__file__).parent
LATER = datetime.date.today() + datetime.timedelta(days=30)
EARLIER = datetime.date.today() - datetime.timedelta(days=1)
CLASS = "benign"  # of problems: those that the command is asked about here


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets are found in the current folder."""
    monkeypatch.chdir(HERE)


def entry(pattern: str, expires: datetime.date = LATER, **more: Any) -> Entry:
    return Entry(pattern, "because", expires, **more)


def file(path: Path, *entries: Entry) -> Path:
    path.write_text(as_toml(entries, "it"), encoding="utf-8")
    return path


def command(target: str, known: Path, *options: str) -> int:
    return main(["run", f"implementations:{target}", "--known", str(known), "--only", CLASS, *options])


# --- the run -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "pattern", "expires", "code"),
    [
        ("doubled", "benign*/loss", LATER, 0),
        ("doubled", "benign*float64/loss", LATER, 1),
        ("doubled", "benign*/loss", EARLIER, 4),
        ("doubled", "benihn*/loss", LATER, 1),
        ("textbook", "benign*/loss", LATER, 4),
        ("textbook", "benihn*/loss", LATER, 4),
        ("textbook", "zero-rows*", LATER, 0),
        ("textbook", "zero-rows*", EARLIER, 0),
        ("value_only", "benign*/grad", LATER, 4),
    ],
)
def test_exit_codes(target: str, pattern: str, expires: datetime.date, code: int, tmp_path: Path) -> None:
    """Known failures don't count; an entry that passes, matches nothing, matches n/a alone or has expired gives 4."""
    assert command(target, file(tmp_path / "known.toml", entry(pattern, expires))) == code


def test_an_unexpected_failure_goes_before_a_stale_entry(tmp_path: Path) -> None:
    """Who doesn't conform gets 1, and reads of the stale entry too."""
    assert command("doubled", file(tmp_path / "known.toml", entry("benihn"))) == 1


def test_nothing_asked_goes_before_a_stale_entry(tmp_path: Path) -> None:
    """5: whether an entry still holds can't be said."""
    known = file(tmp_path / "known.toml", entry("benihn"))
    words = ["run", "implementations:textbook", "--known", str(known), "--only", "masks", "--profile", "masks"]
    assert main(words) == 5


def test_a_profile_that_is_not_required_makes_no_entry_stale(tmp_path: Path) -> None:
    """An entry about `precise` that passes counts once `precise` is required."""
    known = file(tmp_path / "known.toml", entry("*/precise.loss"))
    words = ["run", "infonce_ref:info_nce", "--known", str(known), "--only", "aligned*float64/*loss"]
    assert main(words) == 0
    assert main([*words, "--profile", "core,precise"]) == 4


def test_the_usual_file_is_read_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """infonce-known-failures.toml of the current folder, without being asked for."""
    file(tmp_path / "infonce-known-failures.toml", entry("benign*/loss"))
    (tmp_path / "implementations.py").write_text((HERE / "implementations.py").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *__import__("sys").path])
    assert main(["run", "implementations:doubled", "--only", CLASS]) == 0
    out = capsys.readouterr().out
    assert "known failures: 1 entries of infonce-known-failures.toml" in out
    assert "xfail" in out
    assert "but for" in out.splitlines()[-1]


def test_statuses_and_scores() -> None:
    """A known failure is xfail and no pass in the clause's score; one that passes is xpass."""
    report = check_loss("implementations:doubled", only=CLASS)
    failed = next(r for r in report.results if r.failed)
    known, passed = Result(failed.check, failed.outcome, "known"), Result(failed.check, Outcome("pass"), "known")
    absent = Result(failed.check, Outcome("n/a"), "known")
    assert [r.status for r in (known, passed, absent)] == ["xfail", "xpass", "n/a"]
    assert not known.failed
    report.results = [known]
    assert [score.passed for score in report.scores("core").values()] == [0] * len(failed.clauses)


def test_from_python(tmp_path: Path) -> None:
    """check_loss takes the file as well."""
    known = file(tmp_path / "known.toml", entry("benign*/loss", issue="https://example.org/1"))
    report = check_loss("implementations:doubled", only=CLASS, known=known)
    assert report.conforms
    assert {r.known for r in report.results if r.status == "xfail"} == {"because (https://example.org/1)"}


# --- stale, in detail ----------------------------------------------------------------------------------------------


def result(check_id: str, status: Any, profile: str = "core") -> Result:
    def never(_: Any) -> Outcome:
        raise AssertionError("nobody asks")

    return Result(Check(check_id, (), profile, "MUST", "float32", "", never), Outcome(status, "no such dtype"))


@pytest.mark.parametrize(
    ("pattern", "expires", "results", "words"),
    [
        ("a/", LATER, [result("a/x", "fail")], ""),
        ("a/", EARLIER, [result("a/x", "fail")], "expired on"),
        ("a/", LATER, [result("a/x", "fail"), result("a/y", "pass"), result("a/z", "pass")], "passes: a/y and 1 more"),
        ("a/", LATER, [result("a/x", "fail"), result("a/y", "n/a")], ""),
        ("a/", LATER, [result("a/x", "n/a")], "applicable: no such dtype"),
        ("b/", LATER, [result("a/x", "n/a")], "matches no check"),
        ("b.scale.z", LATER, [result("a/x", "n/a")], ""),  # a profile that runs only when it is named
        ("b.scale.z", LATER, [result("b.scale.x", "fail")], "matches no check"),
        ("f.0@7/", LATER, [result("f.0@8/x", "pass")], ""),
        ("f.*", LATER, [result("f.0@8/x", "pass")], ""),
        ("f.*", LATER, [result("f.0@20180710/x", "pass")], "matches what passes"),
    ],
)
def test_what_is_stale(pattern: str, expires: datetime.date, results: list[Result], words: str) -> None:
    """Each reason in words; problems of another seed than the usual one prove nothing."""
    told = KnownFailures((entry(pattern, expires),)).stale(results)
    assert len(told) == bool(words)
    assert words in "".join(told)


def test_the_first_entry_that_matches_gives_the_reason() -> None:
    """And a check that none matches has none."""
    known = KnownFailures((Entry("a/x", "first", LATER), Entry("a/", "second", LATER)))
    reasons = [known.reason_for(result(i, "fail").check) for i in ("a/x", "a/y", "b/x")]
    assert reasons == ["first", "second", None]


# --- the file ------------------------------------------------------------------------------------------------------

GOOD = '[[known]]\npattern = "a"\nreason = "b"\nexpires = 2999-01-01\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[[known", "isn't TOML"),
        ("a = " + "[" * 5000, "isn't TOML"),
        (b"\xff", "isn't UTF-8: byte 0"),
        ("x = 1", "unknown key 'x'"),
        ("known = 1", "[[known]] entries"),
        ("known = [1]", "entry 1 must be a table, got 1"),
        (GOOD + "level = 1", "entry 1: unknown key 'level'"),
        (GOOD + GOOD.replace('"a"', '" "'), "entry 2: pattern must be some text"),
        (GOOD.replace('"b"', "7"), "reason must be some text, got 7"),
        (GOOD.replace("2999-01-01", '"2999-01-01"'), "without quotes, got '2999-01-01'"),
        (GOOD.replace("2999-01-01", "2999-01-01T00:00:00"), "expires must be a date"),
        (GOOD.replace("2999-01-01", "2999-02-30"), "isn't TOML"),
        (GOOD.replace("expires", "until"), "unknown key 'until'"),
        (
            '[[known]]\npattern = "a"\nreason = "b"',
            "expires must be a date such as 2027-01-31, without quotes, got None",
        ),
        (GOOD + 'issue = "javascript:x"', "issue must be a link"),
        ("#" * (MAX_BYTES + 1), "longer than"),
        (GOOD * (MAX_ENTRIES + 1), f"at most {MAX_ENTRIES}"),
    ],
)
def test_a_file_that_is_none_says_why(
    content: str | bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the file, the entry and what is allowed; the exit code is 2."""
    path = tmp_path / "known.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert command("textbook", path) == 2
    error = capsys.readouterr().err
    assert words in error
    assert str(path) in error


@pytest.mark.timeout(3600)
def test_byte_mutations_of_a_file(tmp_path: Path, outcomes: Counter[str]) -> None:
    """Whatever is changed: entries, or Usage with words; never another exception."""
    entries = (entry("info_nce.zero-rows.*/grad", issue="https://example.org/1"), entry('a "quoted" \\ τ'), entry("b"))
    sound = file(tmp_path / "known.toml", *entries).read_bytes()
    path = tmp_path / "mutated.toml"
    for mutated in mutations(sound):
        path.write_bytes(mutated)
        try:
            KnownFailures.load(path).stale([])
            outcomes["read"] += 1
        except Usage as error:
            outcomes["refused"] += str(path) in str(error)
    assert min(outcomes["read"], outcomes["refused"]) > 0
    assert outcomes.total() == COUNT  # each refusal names the file


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that was asked for must be there."""
    assert command("textbook", tmp_path / "none.toml") == 2
    assert "No such file" in capsys.readouterr().err


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Quotes, backslashes, line ends and every control character included; by way of JSON too."""
    odd = "".join(map(chr, range(1, 128))) + "τ \U0001f600"
    entries = (entry(odd), entry("b", issue="https://example.org"))
    assert KnownFailures.load(file(tmp_path / "known.toml", *entries)).entries == entries
    assert tuple(Entry.from_json(e.to_json()) for e in entries) == entries


# --- the draft -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["doubled", "forgets_a_gradient"])
def test_a_draft_makes_the_run_green(target: str, tmp_path: Path) -> None:
    """Every failure that counts is in it, nothing that passes is, in fewer entries than failures."""
    known = tmp_path / "known.toml"
    words = ["run", f"implementations:{target}", "--profile", "all"]
    assert main([*words, "--write-known", str(known)]) == 1
    assert main([*words, "--known", str(known)]) == 0
    entries = tomllib.loads(known.read_text(encoding="utf-8"))["known"]
    assert {e["expires"] for e in entries} == {datetime.date.today() + datetime.timedelta(days=90)}
    assert all(e["reason"].startswith("doesn't meet [") for e in entries)
    report = check_loss(f"implementations:{target}", profile="all")
    assert len(entries) < len(report.failures(report.required)) / 2


def test_a_draft_of_few_checks_spares_those_that_were_not_asked() -> None:
    """What wasn't run may pass."""
    report = check_loss("implementations:doubled", only="benign*float64/loss")
    asked = {r.check.id for r in report.results}
    entries = drafted(report, report.every)
    assert all(e.matches(i) == (i in asked) for e in entries for i in report.every if "float64/loss" in i)
    assert not any(e.matches(i) for e in entries for i in {*report.every} - asked)


def test_a_draft_replaces_no_ones_entries(tmp_path: Path) -> None:
    """A file with entries is left as it is, before anything runs; one without is filled."""
    full, empty = file(tmp_path / "full.toml", entry("x")), file(tmp_path / "empty.toml")
    words = ["run", "implementations:doubled", "--only", CLASS, "--write-known"]
    before = full.read_bytes()
    assert main([*words, str(full)]) == 2
    assert full.read_bytes() == before
    assert main([*words, str(empty)]) == 1
    assert KnownFailures.load(empty).entries


def test_usage_is_an_exception() -> None:
    """From Python a bad file raises what the command turns into 2."""
    with pytest.raises(Usage, match="can't read"):
        check_loss("implementations:doubled", known="no/such/file.toml")
