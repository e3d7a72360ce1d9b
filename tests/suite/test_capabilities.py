"""What a target declares and what it does, held against each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infonce_ref.conformance import check_loss
from infonce_ref.conformance.cli import main
from tests.suite import implementations


def told(target: str, **options: str) -> list[str]:
    report = check_loss(getattr(implementations, target), **options)  # type: ignore[arg-type]
    assert report.conforms
    return report.capabilities


def test_what_works_though_it_is_not_declared() -> None:
    """A dtype and a profile; not those that fail."""
    lines = told("modest", only="[bfs][ehr][narts]*")  # benign, fresh, sharp
    assert any(line.startswith("dtype float32 isn't declared, but works: ") for line in lines)
    assert not any("bfloat16" in line for line in lines)


def test_what_is_declared_and_is_not_there() -> None:
    """A profile of which nothing can be asked, with the reason, and a dtype none of whose checks pass."""
    lines = check_loss(implementations.modest, only="masks").capabilities
    why = "is declared, but nothing of it could be asked: the signature has no argument for "
    assert lines[0].startswith(f"profile masks {why}")
    lines = check_loss(implementations.half_right, only="benign").capabilities
    assert len(lines) == 1
    assert lines[0].startswith("dtype float32 is declared, but none of its ")


def test_what_does_not_work_is_not_told() -> None:
    """An honest declaration leaves nothing to say."""
    assert told("honest", only="benign") == []


def test_a_reading_is_found() -> None:
    """How explicit negatives are read, of a target that nobody described: the one of four that it computes."""
    lines = told("reads_shared", only="[fe][rx][ep]*/loss")
    assert len(lines) == 1
    assert lines[0].startswith("reading shared isn't declared, but works: ")
    assert told("reads_shared", only="[fe][rx][ep]*/loss", reading="shared") == []


def test_it_is_in_the_report_and_on_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line of the terminal's, an item of the footer's; the exit code is 0, and verify agrees."""
    monkeypatch.chdir(Path(__file__).parent)
    path = tmp_path / "report.jsonl"
    words = ["run", "implementations:reads_shared", "--only", "[fe][rx][ep]*/loss", "--report", str(path)]
    assert main(words) == 0
    assert "reading shared isn't declared, but works" in capsys.readouterr().out
    footer = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
    assert [line.split(",")[0] for line in footer["capabilities"]] == ["reading shared isn't declared"]
    assert main(["verify", str(path)]) == 0
