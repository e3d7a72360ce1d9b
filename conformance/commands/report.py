"""infonce-conformance report: what `run --report` wrote, as a page, JUnit XML, Markdown, a badge or scripts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from infonce_ref.conformance.report.model import read
from infonce_ref.conformance.report.outputs import add_options, wanted, write
from infonce_ref.conformance.results import Exit, Usage


def add_parser(commands: Any) -> None:
    words = "Write reports of runs that have been: of several, a page that compares them."
    report = commands.add_parser("report", help="write a page and other forms of reports", description=words)
    report.add_argument("reports", metavar="REPORT.jsonl", nargs="+", type=Path, help="what `run --report` wrote")
    add_options(report)
    report.set_defaults(function=report_command)


def report_command(arguments: argparse.Namespace) -> int:
    """infonce-conformance report: 0 once it is written, whatever the verdicts in it are."""
    files = wanted(arguments)
    if not files:
        raise Usage("say what to write: --html FILE, --junit FILE, --markdown FILE, --badge FILE or --reproduce FOLDER")
    write(files, [read(path) for path in arguments.reports])
    return Exit.CONFORMS
