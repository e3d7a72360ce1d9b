"""The profile `distributed`: whole batches pass, and what is lost between processes is found and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from infonce_ref.conformance import check_loss
from infonce_ref.conformance.checks import all_checks
from infonce_ref.conformance.cli import main
from infonce_ref.conformance.distributed import ARRAYS
from infonce_ref.conformance.results import Exit, Report, Usage
from infonce_ref.conformance.run import Options, selection

pytest.importorskip("torch")


def judged(name: str, loss: str = "info_nce", only: str = "distributed") -> Report:
    target = f"tests.suite.gathering:{name}"
    return check_loss(target, loss, "torch", profile="distributed", only=only, timeout=60.0)


@pytest.mark.parametrize(("name", "loss"), [*((loss, loss) for loss in ARRAYS), ("own_queries", "info_nce")])
def test_what_gathers_with_gradients_conforms(name: str, loss: str) -> None:
    """[distributed.loss] [distributed.gradient] Whether a process returns the whole loss or that of its own rows."""
    report = judged(name, loss)
    assert report.exit_code is Exit.CONFORMS, str(report)
    assert report.counts()["pass"] >= 12
    assert max(r.r or 0.0 for r in report.results) < 0.5


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("nothing_gathered", {"loss", "grad", "temperature"}, "nothing was gathered"),
        ("gradients_stay", {"grad"}, "what other processes' rows send is lost"),
        ("divided_twice", {"grad"}, "0.3333 times the whole batch's gradient"),
        ("labels_not_shifted", {"loss", "grad", "temperature"}, "times the whole batch's loss"),
        ("one_raises", {"loss", "grad", "temperature"}, "raised RuntimeError: not here"),
    ],
)
def test_what_is_lost_between_processes_is_found(name: str, wrong: set[str], words: str) -> None:
    """[distributed.loss] [distributed.gradient] In the outputs in which it is lost, and with the reason in words."""
    report = judged(name, only=".distributed.plain*float64")
    assert {r.part for r in report.results if r.wrong} == wrong
    assert any(words in r.outcome.reason for r in report.results if r.wrong), str(report)


def test_a_callable_of_another_library_is_not_asked() -> None:
    """It is not applicable, and nothing but that is incomplete."""
    report = check_loss("tests.suite.implementations:textbook", profile="distributed", only="distributed")
    assert {r.status for r in report.results} == {"n/a"}
    assert report.exit_code is Exit.INCOMPLETE


def test_a_report_is_verified_from_its_raw_outputs(tmp_path: Path) -> None:
    """The replies of all processes are in it, and judged again without them."""
    report = str(tmp_path / "report.jsonl")
    words = ["--framework", "torch", "--profile", "distributed", "--only", ".distributed.plain*float64"]
    assert main(["run", "tests.suite.gathering:divided_twice", *words, "--report", report]) == Exit.DOES_NOT
    assert main(["verify", report]) == Exit.DOES_NOT
    changed = Path(report).read_text(encoding="utf-8").replace('"status": "fail"', '"status": "pass"')
    Path(report).write_text(changed, encoding="utf-8")
    assert main(["verify", report]) == Exit.DOES_NOT


@pytest.mark.parametrize("profile", ["scale", "distributed"])
def test_it_runs_only_when_it_is_named(profile: str) -> None:
    """Not with all the others; and a loss that has no such checks is said to have none."""
    assert all(check.profile != profile for check in all_checks("info_nce", 1))
    assert profile not in Options(profile="all").required
    chosen, _ = selection(Options(profile=profile), 1)
    assert any(check.profile == profile for check in chosen)
    with pytest.raises(Usage, match=f"no checks of dcl in the profile {profile}"):
        selection(Options(loss="dcl", profile=profile), 1)
