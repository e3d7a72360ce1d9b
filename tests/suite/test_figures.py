"""The suite's own figures: what a test records arrives, and the page says what is reached, missed and not measured."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.suite import figures
from tests.support import Result, results

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results" / "suite.md"
ATTACK, *_ = figures.HOSTILE
ORDINARY, C, VECTORS = figures.RUNS["core,grad"], figures.ADAPTERS["C"], figures.DAMAGED["a file of vectors"]
WELL: Mapping[str, Mapping[str, str]] = {
    **{test: {"first line": "2.9", "end": "19", "passed": "1500"} for test in figures.RUNS.values()},
    figures.START: {"first verdict": "299", "end": "400"},
    **{test: {"pass": "250", "n/a": "2"} for test in figures.ADAPTERS.values()},
    **{test: {"refused": "9000", "judged": "1000"} for test in figures.DAMAGED.values()},
    **{f"{test}[floods]": {"pass": "2", "exit code 0": "1"} for test in figures.HOSTILE},
    f"{ATTACK}[spins-timeout-no answer]": {"timeout": "1", "exit code 1": "1"},
}  # each target just reached


def page(found: Mapping[str, Mapping[str, str]], failed: str = "") -> str:
    """The page of tests that recorded this, of which one failed."""
    runs = []
    for name, said in found.items():
        test, _, parameters = name.partition("[")
        runs.append(Result(test, parameters.rstrip("]"), "failed" if name == failed else "passed", said))
    return figures.page(runs, "A machine.")


def reached(text: str) -> list[str]:
    """The fourth column of the targets."""
    return [line.split(" | ")[3] for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")][2:]


def test_what_is_reached_is_said_to_be() -> None:
    """Every target, with the figures that reach it and no failure."""
    text = page(WELL)
    assert {*reached(text)} == {"yes"}
    assert len(reached(text)) == 8
    assert "failed**" not in text
    assert "not measured" not in text
    assert "| a file of vectors | 10,000 | 9,000 × refused, 1,000 × judged |" in text
    assert "| pass, exit code 0 | `floods`, `floods` | `floods`, `floods` |\n" in text
    assert "| timeout, exit code 1 | `spins` |  |\n" in text


@pytest.mark.parametrize(
    ("test", "said", "row"),
    [
        (ORDINARY, {"first line": "3.1", "end": "19"}, 0),
        (ORDINARY, {"first line": "2", "end": "20.1"}, 1),
        (figures.START, {"first verdict": "301", "end": "400"}, 2),
        (C, {"pass": "249", "fail": "1"}, 3),
        (VECTORS, {"refused": "9000", "judged": "999"}, 5),
    ],
)
def test_a_target_that_is_missed_is_said_to_be(test: str, said: dict[str, str], row: int) -> None:
    """That one, and no other."""
    said_of = reached(page({**WELL, test: said}))
    assert said_of.pop(row) == "**no**"
    assert {*said_of} == {"yes"}


@pytest.mark.parametrize(
    ("test", "row", "word"),
    [
        (ORDINARY, 0, "not measured"),
        (figures.START, 2, "not measured"),
        (C, 3, "**no**"),
        (VECTORS, 5, "not measured"),
        (VECTORS, 6, "**no**"),
        (f"{ATTACK}[spins-timeout-no answer]", 7, "**no**"),
    ],
)
def test_the_figures_of_a_failed_test_reach_nothing(test: str, row: int, word: str) -> None:
    """Though they are good; the page names the test."""
    text = page(WELL, failed=test)
    assert reached(text)[row] == word
    assert f"**These tests failed**, so that their figures don't count:\n\n- `{test}`\n" in text


def test_what_was_not_measured_is_not_reached() -> None:
    """Of no test at all, and of all but one: where that one counts, nothing is reached."""
    assert {*reached(page({}))} == {"not measured"}
    alone = f"{[*figures.HOSTILE][-1]}[floods]"
    for missing, rows in {ORDINARY: [0, 1], figures.START: [2], C: [3], VECTORS: [5, 6], alone: [7]}.items():
        said = reached(page({name: said for name, said in WELL.items() if name != missing}))
        assert [row for row, word in enumerate(said) if word == "not measured"] == rows
        assert [word for word in said if word != "not measured"] == ["yes"] * (8 - len(rows))


def test_a_busy_machine_is_said_to_be_one() -> None:
    """And one that doesn't say is no quiet one."""
    assert "**A busy machine**: other processes had 0.6 CPUs" in figures.machine(0.6)
    assert "busy" not in figures.machine(0.04)
    assert "isn't known" in figures.machine(None)


def test_what_a_test_saw_arrives(tmp_path: Path) -> None:
    """By way of pytest's results: as many outcomes as inputs were tried."""
    xml, test = tmp_path / "results.xml", figures.DAMAGED["a declaration in JSON"]
    node = next(node for node in figures.tests() if "declaration[json]" in node)
    words = [sys.executable, "-m", "pytest", node, f"--junitxml={xml}", "-p", "no:cacheprovider"]
    subprocess.run(words, cwd=ROOT, env={**os.environ, "INFONCE_FUZZ": "37"}, check=True, stdout=subprocess.PIPE)
    assert figures.outcomes(figures.by_name(results(xml)), test).total() == 37


def test_every_test_with_figures_exists_and_every_damaged_input_has_its_figures() -> None:
    """A renamed test would leave its row empty, and a new one of byte mutations must get a row."""
    asked = {test.partition("[")[0] for test in figures.tests()}
    defined = {
        f"tests/suite/{path.name}::{node.name}"
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert asked <= defined
    assert {test for test in defined if "mutation" in test} <= asked


def test_every_parameter_of_those_has_its_figures() -> None:
    """Both wires, and whatever comes to them: the tests that pytest finds are those of the page."""
    listed = {test for test in figures.tests() if "mutation" in test}
    files = {test.partition("::")[0] for test in listed}
    words = [sys.executable, "-m", "pytest", *files, "-k", "mutation", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert {line for line in done.stdout.splitlines() if "::" in line} == listed


def test_the_committed_page_has_every_figure() -> None:
    """No target missed, no test failed, nothing left unmeasured."""
    text = PAGE.read_text(encoding="utf-8")
    assert {*reached(text)} == {"yes"}
    assert "failed**" not in text
    assert "not measured" not in text
    assert all(f"\n| {what} | 10,000 | " in text for what in figures.DAMAGED)
