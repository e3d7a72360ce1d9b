"""The command: exit codes, what it prints, the report."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infonce_ref.conformance.adapters.resolve import ALIASES
from infonce_ref.conformance.checks import PROFILES
from infonce_ref.conformance.clauses import sentences
from infonce_ref.conformance.cli import main
from infonce_ref.conformance.results import Exit

HERE = Path(__file__).parent
ONE = "benign.plain*float64"
NAMES = ["--map", "query=first", "--map", "positive_key=second"]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets are found in the current folder."""
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("COLUMNS", "200")


def command(target: str, *options: str) -> int:
    return main(["run", f"implementations:{target}", "--framework", "numpy", *options])


@pytest.mark.parametrize(
    ("target", "options", "code"),
    [
        ("textbook", ["--only", ONE], 0),
        ("many_names", ["--only", ONE, *NAMES], 3),
        (
            "many_names",
            ["--only", ONE, *NAMES, "--map", "temperature=warmth", "--const", "mode=plain"],
            0,
        ),
        ("doubled", ["--only", ONE], 1),
        ("exits", ["--only", ONE + "/loss"], 1),
        ("hangs", ["--only", ONE + "/loss", "--timeout", "0.5"], 1),
        ("textbook", ["--only", "zero-rows.query*float64"], 5),
        ("textbook", ["--only", "zero-rows.query*float64", "--profile", "edges"], 1),
        ("textbook", ["--only", "masks", "--profile", "masks"], 5),
        ("textbook", ["--only", "no check is called so"], 2),
        ("textbook", ["--profile", "cores"], 2),
        ("textbook", ["--loss", "nonsense"], 2),
        ("textbook", ["--only", ONE, "--report", "no/such/folder/out.jsonl"], 2),
        ("missing", [], 3),
        ("NotCallable", [], 3),
        ("no_temperature", [], 3),
        ("textbook", ["--framework", "tensorflow"], 3),
    ],
)
def test_exit_codes(target: str, options: list[str], code: int) -> None:
    """0 conforms, 1 doesn't, 2 usage, 3 can't be run, 5 nothing ran."""
    assert command(target, *options) == code


def test_the_guides_table_has_every_exit_code() -> None:
    """One table, in the guide."""
    guide = (HERE.parents[1] / "docs" / "guide" / "judge.md").read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r"^\| (\d) \|", guide, re.MULTILINE)] == [*Exit]


@pytest.mark.parametrize("words", [["run"], ["nonsense"], ["run", "a:b", "--seed", "x"], ["run", "a:b", "--map", "q"]])
def test_a_malformed_command_line_is_usage(words: list[str]) -> None:
    """argparse's own code is ours."""
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2


def test_a_crash_is_one_failed_check_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """And the suite goes on to its verdict."""
    assert command("exits", "--only", ONE + "/loss") == 1
    out = capsys.readouterr().out
    assert "1 error" in out
    assert "exited with code 7; last words: these are the last words" in out


def test_a_failure_tells_what_to_type_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    """The command that is printed reruns just that check, with the same result."""
    assert command("doubled", "--only", "fresh.plain*/loss", "--seed", "11") == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("again"))
    words = shlex.split(line)[2:]
    assert main(words) == 1
    assert "1 fail" in capsys.readouterr().out


def test_the_resolved_call_the_seed_and_the_verdict_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """What was asked, of whom, how."""
    command("scaled", "--only", ONE, "--seed", "12")
    out = capsys.readouterr().out
    assert "seed 12" in out
    assert "scaled(q=query, k=positive_key, logit_scale=1/temperature)" in out
    assert out.rstrip().endswith("implementations:scaled conforms to core, grad")


def test_a_report_has_header_results_and_footer(tmp_path: Path) -> None:
    """JSON lines, with the raw outputs; r is a number, "inf" or null."""
    path = tmp_path / "out.jsonl"
    command("doubled", "--only", ONE, "--report", str(path))
    head, *results, foot = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert head["type"] == "header"
    assert {"edition", "suite", "vectors", "target", "framework", "versions", "seed"} <= {*head}
    counts = {"fail": 1, "n/a": 2}
    assert "Too few checks fail" in str(foot.pop("diagnosis"))
    assert foot == {"type": "footer", "counts": counts, "capabilities": [], "stale": [], "exit": 1}
    loss = next(r for r in results if r["id"].endswith("/loss"))
    assert {"id", "clauses", "profile", "level", "status", "r", "reason", "raw"} <= {*loss}
    assert loss["status"] == "fail"
    assert loss["r"] > 1
    assert loss["raw"][0]["loss"]["dtype"] == "float64"


def test_an_interrupted_report_has_no_footer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No footer means incomplete, and so does the exit code."""
    from infonce_ref.conformance import session

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.Session, "ask", interrupt)
    path = tmp_path / "out.jsonl"
    assert command("textbook", "--only", ONE, "--report", str(path)) == 5
    assert '"footer"' not in path.read_text(encoding="utf-8")


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """Losses, profiles, clauses, aliases."""
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for word in ("info_nce", *PROFILES, *sentences(), *ALIASES):
        assert word in out


@pytest.mark.parametrize("words", [["list"], ["run", "infonce_ref:info_nce"]])
def test_a_reader_that_leaves_early_sees_no_traceback(words: list[str]) -> None:
    """As `| head` does: the command ends quietly, and not as if all were well."""
    command = [sys.executable, "-m", "infonce_ref.conformance", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait() not in (Exit.CONFORMS, -13)


def test_the_first_line_comes_before_the_target(tmp_path: Path) -> None:
    """Something is on the screen while a slow import runs."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    words = [sys.executable, "-u", "-m", "infonce_ref.conformance", "run", "slow:f"]
    begun = time.monotonic()
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        waited = time.monotonic() - begun
        process.kill()
    assert first.startswith(b"infonce-conformance")
    assert waited < 20  # 3 s where nothing else runs


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["core,grad", "all"])
def test_one_sees_the_run_begin(profile: str, record_property: Callable[[str, object], None]) -> None:
    """The README's command says its first words long before its verdict, though nobody asks for unbuffered output."""
    options = ["--loss", "info_nce", "--framework", "numpy", "--profile", profile]
    words = [sys.executable, "-m", "infonce_ref.conformance", "run", "infonce_ref:info_nce", *options]
    begun = time.monotonic()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first, said = time.monotonic() - begun, process.stdout.read()
    end = time.monotonic() - begun
    assert process.returncode == Exit.CONFORMS
    passed = sum(int(count) for count in re.findall(r"required\): .* clauses, (\d+) pass", said))
    for name, value in {"first line": first, "end": end, "passed": passed}.items():
        record_property(name, value)
    assert passed > 1000
    assert first < end / 2


def environment() -> dict[str, str]:
    from infonce_ref.conformance.runner import _environment

    return _environment()


def test_info_nce_pytorch_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    """A package from PyPI: right on ordinary input, wrong on zero rows and far norms, accepts τ < 0; said by clause."""
    words = ["run", "info_nce:InfoNCE", "--framework", "torch", "--reading", "shared"]
    assert main([*words, "--only", "benign"]) == 0
    assert "InfoNCE(temperature=temperature, reduction=reduction)(query=query" in capsys.readouterr().out
    assert main([*words, "--profile", "all"]) == 1
    verdict = capsys.readouterr().out.rstrip().splitlines()[-1]
    to_blame = {word.strip(",") for word in verdict.partition("checks fail, of ")[2].split()}
    assert {"similarity.cosine.zero", "similarity.cosine.scale", "scale.temperature.domain"} <= to_blame
    assert not {"similarity.cosine", "candidates.in-batch", "candidates.shared", "reduction.mean"} & to_blame
