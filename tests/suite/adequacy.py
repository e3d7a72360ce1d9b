"""Is the suite itself enough? Clause × vectors × tests × mutants, as a page of the documentation.

python -m tests.suite.adequacy --write     # docs/results/adequacy.md

What it says of correct implementations was found by `python -m tests.suite.adequacy_of_zoo`.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infonce_ref.conformance.checks import checks_of
from infonce_ref.conformance.clauses import sentences
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.fresh import DEFAULT_SEED, fresh_questions
from infonce_ref.conformance.load import vector_questions
from infonce_ref.conformance.mutants import MUTANTS
from tests.suite.adequacy_of_zoo import RECORD, read, section
from tests.test_clauses import cited

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results" / "adequacy.md"
KILLS = ROOT / "conformance" / "mutants" / "kills.json"


@dataclass
class Evidence:
    """What stands behind a clause."""

    vectors: set[str] = field(default_factory=set)  # slugs of the vectors that name it
    losses: set[str] = field(default_factory=set)
    fresh: set[str] = field(default_factory=set)  # kinds of fresh problems whose checks name it
    tests: set[str] = field(default_factory=set)  # tests that name it
    mutants: set[str] = field(default_factory=set)  # wrong implementations that its vectors kill

    @property
    def independent(self) -> int:
        """How many checks there are that don't share their input: vectors, kinds of fresh problems, tests."""
        return len(self.vectors) + len(self.fresh) + len(self.tests)


def evidence() -> dict[str, Evidence]:
    """Every clause with what stands behind it."""
    found = {slug: Evidence() for slug in sentences()}
    kills: Mapping[str, list[str]] = json.loads(KILLS.read_text(encoding="utf-8"))
    for loss in LOSSES:
        stored = list(vector_questions(loss))
        for question in stored:
            slug = question.id.partition("#")[0]
            for clause in {clause for check in checks_of(question, stored) for clause in check.clauses}:
                found[clause].vectors.add(slug)
                found[clause].losses.add(loss)
                found[clause].mutants.update(kills.get(slug, []))
        for question in fresh_questions(loss, DEFAULT_SEED):
            for clause in question.clauses:
                found[clause].fresh.add(question.kind)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if path.name != "test_clauses.py":
            for test, clauses in cited_by_tests(path.read_text(encoding="utf-8")):
                for clause in clauses & found.keys():
                    found[clause].tests.add(f"{path.name}::{test}")
    return found


def cited_by_tests(source: str) -> Iterator[tuple[str, set[str]]]:
    """The tests of a module, by name, with the clauses that each of them names."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name, cited(ast.unparse(node))


def gaps(found: Mapping[str, Evidence]) -> list[str]:
    """The clauses with fewer than two independent checks."""
    return [clause for clause, behind in found.items() if behind.independent < 2]


def page(found: Mapping[str, Evidence]) -> Iterator[str]:
    """The table, a line at a time."""
    seen = sum(bool(mutant.seen) for mutant in MUTANTS)
    vectors = {slug for behind in found.values() for slug in behind.vectors}
    yield f"""# Is the suite enough?

Written by `python -m tests.suite.adequacy --write`; `tests/suite/test_adequacy.py` fails where a clause has fewer than
two independent checks. Who is rejected: [wrong implementations](mutants.md). Who is accepted: the
[correct zoo](#correct-implementations), and more in [bounds](../spec/bounds.md) and [textbook](textbook.md).

{len(found)} clauses, {len(vectors)} vectors of {len(LOSSES)} losses, {len(MUTANTS)} wrong implementations,
{seen} of them seen in public code.

*Vectors* and *fresh*: how many stored vectors and kinds of fresh problems have a check of the clause; *tests*: how many
tests name it; *mutants*: how many wrong implementations its vectors kill by two bounds or more.
"""
    yield "| clause | losses | vectors | fresh | tests | mutants |"
    yield "|---|---|---|---|---|---|"
    for clause, e in found.items():
        counts = " | ".join(str(len(x)) for x in (e.losses, e.vectors, e.fresh, e.tests, e.mutants))
        yield f"| `{clause}` | {counts} |"
    yield from section(read(RECORD))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.suite.adequacy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write docs/results/adequacy.md")
    options = parser.parse_args()
    found = evidence()
    text = "\n".join(page(found)) + "\n"
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)
    missing = gaps(found)
    print(f"{len(found)} clauses, {len(missing)} with fewer than two checks: {', '.join(missing)}")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
