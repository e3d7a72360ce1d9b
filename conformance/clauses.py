"""The clauses of the specification, slug → sentence.

docs/spec defines them and isn't installed; clauses.json beside this file is its copy, written by

    python -m infonce_ref.conformance.clauses docs/spec
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path

# A clause is a paragraph that begins with its slug in bold brackets; the paragraph's text is its sentence.
CLAUSE = re.compile(r"^\*\*\[([a-z0-9.-]+)\]\*\*\s+(.+?)\s*(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


@cache
def sentences() -> dict[str, str]:
    """Every clause's sentence, in the order of the specification's pages."""
    table: dict[str, str] = json.loads(files(__package__).joinpath("clauses.json").read_text(encoding="utf-8"))
    return table


def defined_in(markdown: str) -> list[tuple[str, str]]:
    """The clauses that one page defines, in order."""
    return [(slug, " ".join(text.split())) for slug, text in CLAUSE.findall(markdown)]


def defined_by(folder: Path) -> dict[str, str]:
    """The clauses that a folder of pages defines; a slug defined twice is an error."""
    table: dict[str, str] = {}
    for page in sorted(folder.glob("*.md")):
        for slug, sentence in defined_in(page.read_text(encoding="utf-8")):
            if slug in table:
                raise ValueError(f"{page.name} defines [{slug}] a second time")
            table[slug] = sentence
    return table


def as_json(table: dict[str, str]) -> str:
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> None:
    (folder,) = arguments
    Path(__file__).with_name("clauses.json").write_text(as_json(defined_by(Path(folder))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
