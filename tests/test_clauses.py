"""Specification, code, tests and vectors name the same clauses: docs/spec/index.md."""

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from infonce_ref.conformance.clauses import as_json, defined_by, defined_in, sentences
from infonce_ref.conformance.mutants import MUTANTS

ROOT = Path(__file__).parents[1]
DEFINED = defined_by(ROOT / "docs" / "spec")
STAGES = {slug.split(".")[0] for slug in DEFINED}

# Clauses that no line of the reference could cite, each with the reason.
UNCITED = {
    "call.repeatable": "there is no state that a line could keep",
    "call.pure": "there is no line that writes into an array",
    "call.shape": "every stage's shapes together",
    "precise.loss": "follows from the form of the loss as a whole",
    "precise.gradient": "follows from the form of the gradient as a whole",
    "distributed.loss": "the reference is called in one process",
    "distributed.gradient": "the reference is called in one process",
    "rows.nonfinite": "follows where no line hides a NaN",
}


def slugs(text: str, stages: Iterable[str] = STAGES) -> set[str]:
    """What reads as a slug in a text: a stage, a dot, and words of small letters; names of files don't."""
    found = re.findall(rf"(?<![\w./`:-])(?:{'|'.join(stages)})(?:\.[a-z]+(?:-[a-z]+)*)+(?![\w(])", text)
    return {slug for slug in found if not slug.endswith((".md", ".py", ".json"))}


def cited(source: str, stages: Iterable[str] = STAGES) -> set[str]:
    """The clauses that a module names in its comments and strings; a name like `scale.temperature` in code is none."""
    comments = [t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT]
    constants = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return slugs("\n".join([*comments, *(value for value in constants if isinstance(value, str))]), stages)


def cited_under(folder: Path) -> set[str]:
    """The clauses that the modules of a folder name, this one aside; links aren't followed."""
    modules = [path for path in folder.rglob("*.py") if path != Path(__file__)]
    return {slug for path in modules for slug in cited(path.read_text(encoding="utf-8"))}


def vectors(folder: Path) -> list[dict[str, Any]]:
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/*.json"))]
    return [vector for file in files for vector in file["vectors"]]


def gaps(defined: set[str], by_code: set[str], excused: set[str], checked: set[str]) -> dict[str, set[str]]:
    """Where specification, code and checks don't meet."""
    found = {
        "cited by code, not defined": by_code - defined,
        "defined, not cited by code": defined - by_code - excused,
        "excused without need": (excused & by_code) | (excused - defined),
        "defined, named by no test or vector": defined - checked,
        "named by a test or vector, not defined": checked - defined,
    }
    return {gap: slugs for gap, slugs in found.items() if slugs}


def test_the_suites_table_is_the_specification() -> None:
    """conformance/clauses.json is what `python -m infonce_ref.conformance.clauses docs/spec` writes."""
    assert (ROOT / "conformance" / "clauses.json").read_text(encoding="utf-8") == as_json(DEFINED)
    assert sentences() == DEFINED


def test_specification_code_tests_and_vectors_meet() -> None:
    """Code cites what is defined and all of it; every clause has a test or a vector, and every test's clause exists."""
    stored = vectors(ROOT / "conformance" / "vectors")
    formed_alike = {mutant.id for mutant in MUTANTS} | {vector["id"].partition("#")[0] for vector in stored}
    checked = {slug for vector in stored for slug in vector["clauses"]} | cited_under(ROOT / "tests") - formed_alike
    assert gaps(set(DEFINED), cited_under(ROOT / "infonce_ref"), set(UNCITED), checked) == {}


def test_no_mutant_bears_a_clauses_name() -> None:
    """What is named by a test is told apart: a clause or a mutant."""
    assert {mutant.id for mutant in MUTANTS} & set(DEFINED) == set()


@pytest.mark.parametrize(
    ("defined", "by_code", "excused", "checked", "gap"),
    [
        ("a b", "a b c", "", "a b", "cited by code, not defined"),
        ("a b", "a", "", "a b", "defined, not cited by code"),
        ("a b", "a b", "b", "a b", "excused without need"),
        ("a", "a", "b", "a", "excused without need"),
        ("a b", "a b", "", "a", "defined, named by no test or vector"),
        ("a", "a", "", "a b", "named by a test or vector, not defined"),
    ],
)
def test_a_gap_is_found(defined: str, by_code: str, excused: str, checked: str, gap: str) -> None:
    """Each kind of gap is seen where it is, and no other."""
    found = gaps(set(defined.split()), set(by_code.split()), set(excused.split()), set(checked.split()))
    assert list(found) == [gap]


def test_a_clause_is_a_paragraph() -> None:
    """Its sentence ends where the paragraph does, and spans lines."""
    page = "Text.\n\n**[rows.one]** L = 1\nor so.\n\nA remark on **[rows.two]** here.\n\n**[rows.three]** End."
    assert defined_in(page) == [("rows.one", "L = 1 or so."), ("rows.three", "End.")]


def test_a_clause_defined_twice_is_refused(tmp_path: Path) -> None:
    """One slug, one sentence, in one place."""
    (tmp_path / "a.md").write_text("**[rows.wrong]** One.\n")
    (tmp_path / "b.md").write_text("**[rows.wrong]** Two.\n")
    with pytest.raises(ValueError, match=r"rows\.wrong"):
        defined_by(tmp_path)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = 1  # rows.one rows.two", {"rows.one", "rows.two"}),
        ('f"temperature must be > 0, got {x!r} [rows.one.domain]"', {"rows.one.domain"}),
        ('def f():\n    """Clause: rows.positive-key."""', {"rows.positive-key"}),
        ("rows.one(x) + scale.two", set()),
        ('"see rows.md, x.rows.one and docs/rows.py"', set()),
    ],
)
def test_a_citation_is_told_from_code(source: str, found: set[str]) -> None:
    """Comments, error messages and docstrings cite; attributes and names of files don't."""
    assert cited(source, ["rows", "scale"]) == found
