"""The suite as pytest items, as a project that uses it runs them: in a process of its own, alone and under xdist."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infonce_ref.conformance.runner import _environment
from tests.suite.test_programs import left

SUITE = Path(__file__).parent
TARGET = """
import os
from pathlib import Path
from implementations import {name} as judged

with Path("pids").open("a") as out:
    out.write(f"{{os.getpid()}}\\n")
"""
TESTS = """
from infonce_ref.conformance import parametrize_with_checks

@parametrize_with_checks("target:judged", only="benign*float64", {options})
def test_conformance(check):
    check()
"""
ENTRY = """
[[known]]
pattern = "{pattern}"
reason = "the loss is doubled"
expires = {expires}
"""
TOMORROW = datetime.date.today() + datetime.timedelta(days=1)


class Project:
    """A folder with an implementation and its test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, options: str = "") -> None:
        (self.folder / "target.py").write_text(TARGET.format(name=name), encoding="utf-8")
        (self.folder / "test_it.py").write_text(TESTS.format(options=options), encoding="utf-8")

    def known(self, pattern: str, expires: datetime.date = TOMORROW) -> None:
        entry = ENTRY.format(pattern=pattern, expires=expires)
        (self.folder / "known.toml").write_text(entry, encoding="utf-8")

    def pytest(self, *words: str) -> tuple[int, str]:
        """Exit code and output."""
        path = os.pathsep.join([_environment().get("PYTHONPATH", ""), str(SUITE), str(SUITE.parents[1])])
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", *words]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def processes(self) -> set[int]:
        return {int(pid) for pid in (self.folder / "pids").read_text(encoding="ascii").split()}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def counted(output: str) -> dict[str, int]:
    """The last line's numbers."""
    words = re.findall(r"(\d+) (passed|failed|skipped|xfailed|xpassed|error)", output.strip().splitlines()[-1])
    return {name: int(number) for number, name in words}


def test_a_check_an_item(project: Project) -> None:
    """Named by its id, so that -k finds it; a sound implementation passes."""
    project.write("textbook")
    code, output = project.pytest("-k", "plain and loss")
    assert code == 0
    assert re.search(r"PASSED test_it.py::test_conformance\[info_nce.benign.plain#[0-9a-f]{8}/float64/loss\]", output)
    assert counted(output)["passed"] == 1


def test_xdist_gives_each_worker_a_process_of_its_own(project: Project) -> None:
    """The same verdicts as without; nothing is left running."""
    project.write("doubled")
    alone, together = project.pytest(), project.pytest("-n", "2")
    assert alone[0] == together[0] == 1
    assert counted(alone[1]) == counted(together[1])
    assert counted(alone[1])["failed"] > 3
    assert len(project.processes()) == 3
    assert not left(project.processes())


def test_a_random_seed_is_one_seed_for_all_workers(project: Project) -> None:
    """Or else xdist refuses: different tests were collected."""
    project.write("textbook")
    tests = TESTS.format(options='seed="random"').replace("benign*float64", "fresh.plain*float64")
    (project.folder / "test_it.py").write_text(tests, encoding="utf-8")
    code, output = project.pytest("-n", "2")
    assert code == 0, output
    assert counted(output)["passed"] > 3


def test_known_failures_are_expected(project: Project) -> None:
    """What the file names must fail and does; nothing else fails."""
    project.write("doubled", 'known="known.toml"')
    project.known("benign.*/loss")
    code, output = project.pytest("-n", "2")
    assert code == 0, output
    assert counted(output)["xfailed"] > 3
    assert "the loss is doubled" in output


def test_a_known_failure_that_passes_fails(project: Project) -> None:
    """Strictly."""
    project.write("textbook", 'known="known.toml"')
    project.known("benign.plain*/loss")
    code, output = project.pytest()
    assert code == 1
    assert "[XPASS(strict)] the loss is doubled" in output
    assert counted(output)["failed"] == 1


@pytest.mark.parametrize(
    ("pattern", "expires", "words"),
    [
        ("benign.*/loss", datetime.date(2020, 1, 1), "expired on 2020-01-01"),
        ("nothing is called so", TOMORROW, "matches no check"),
    ],
)
def test_an_entry_that_has_to_go_is_an_error(
    project: Project, pattern: str, expires: datetime.date, words: str
) -> None:
    """Before anything is asked."""
    project.write("doubled", 'known="known.toml"')
    project.known(pattern, expires)
    code, output = project.pytest()
    assert code == 2
    assert words in output


def test_a_program_can_be_tested_too(project: Project) -> None:
    """By its command."""
    project.write("textbook")
    program = f"{sys.executable} {SUITE / 'programs.py'} sound"
    text = (project.folder / "test_it.py").read_text(encoding="utf-8")
    text = text.replace('"target:judged"', repr(program)).replace("only=", 'wire="json", only=')
    (project.folder / "test_it.py").write_text(text, encoding="utf-8")
    code, output = project.pytest("-k", "plain")
    assert code == 0, output
    assert counted(output)["passed"] >= 2
