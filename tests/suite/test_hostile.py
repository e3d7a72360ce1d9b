"""Implementations that attack their process: each gets its verdict, the suite finishes, nothing of ours is harmed."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infonce_ref.conformance.results import Report
from infonce_ref.conformance.run import check_loss
from tests.suite.test_programs import left, seen

ONE = "benign.plain*float64/loss"
SOME = "benign*float64/loss"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets are found from the repository's root."""
    monkeypatch.chdir(Path(__file__).parents[2])


def judged(name: str, only: str = ONE, **options: Any) -> Report:
    return check_loss(f"tests.suite.hostile:{name}", framework="numpy", only=only, **{"timeout": 60.0, **options})


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("segfaults", "error", "was killed by SIGSEGV"),
        ("aborts", "error", "was killed by SIGABRT"),
        ("spins", "timeout", "no answer within 1 s"),
        ("ten_gigabytes", "error", "Unable to allocate"),
        ("never_stops_printing", "timeout", "no answer within 1 s"),
        ("closes_everything", "error", "closed the wire and went on running"),
        ("patches_numpy", "error", "AttributeError"),
        ("patches_json", "timeout", "no answer within 1 s"),
        ("patches_judge", "fail", ""),
    ],
)
def test_an_attack_is_a_failed_check_with_its_reason(
    name: str, status: str, words: str, outcomes: Counter[str]
) -> None:
    """Exit code 1, for one check and for several."""
    limits = {"timeout": 1.0} if status == "timeout" else {}
    report = judged(name, SOME if status == "fail" else ONE, **limits)
    outcomes.update(seen(report))
    assert {r.status for r in report.results} == {status}
    assert all(words in r.outcome.reason for r in report.results)
    assert int(report.exit_code) == 1


@pytest.mark.parametrize("name", ["floods", "closes_its_streams", "writes_on_the_wire", "leaves_a_thread"])
def test_what_harms_nobody_is_overlooked(name: str, outcomes: Counter[str]) -> None:
    """The answers are right, and so is the verdict; asked twice, from a process that is still the same."""
    report = judged(name, "benign.plain*float64" if name != "floods" else ONE)
    outcomes.update(seen(report))
    assert {r.status for r in report.results if r.ran} == {"pass"}
    assert report.conforms


def test_processes_left_behind_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep the wire open; the death of the one that was asked is told all the same, and at once."""
    pids = tmp_path / "pids"
    monkeypatch.setenv("INFONCE_TEST_PIDS", str(pids))
    begun = time.monotonic()
    report = judged("leaves_children")
    assert "exited with code 5" in report.results[0].outcome.reason
    assert time.monotonic() - begun < 30
    started = [int(pid) for pid in pids.read_text(encoding="ascii").split()]
    assert len(started) == 3
    assert not left(started)


def test_only_the_checks_that_kill_it_are_lost() -> None:
    """The process is started again after each death, and goes on with the next check."""
    statuses = [r.status for r in judged("dies_in_the_cold", "fresh.*float64/loss", profile="core").results]
    assert {"pass", "error"} <= {*statuses}
    assert statuses.index("error") < len(statuses) - statuses[::-1].index("pass")


def test_nothing_of_ours_is_patched() -> None:
    """What a target does to its NumPy, its json and its copy of the judge, it does to itself."""
    functions = (np.asarray, np.sum, json.dumps)
    judged("patches_numpy")
    judged("patches_json", timeout=1.0)
    judged("patches_judge")
    assert (np.asarray, np.sum, json.dumps) == functions
    assert np.sum(np.asarray([1.0, 2.0])) == 3.0


def test_no_thread_is_left() -> None:
    """Readers and writers end with the process they belong to."""
    before = threading.active_count()
    judged("floods")
    judged("spins", timeout=1.0)
    assert threading.active_count() == before
