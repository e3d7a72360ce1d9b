"""infonce-conformance export: the stored vectors for those who compute elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from infonce_ref.conformance.export import WRITERS
from infonce_ref.conformance.load import losses
from infonce_ref.conformance.results import Exit, Usage


def add_parser(commands: Any) -> None:
    words = "write the stored vectors: inputs, exact values, bounds, clauses"
    export = commands.add_parser("export", help=words, description=words.capitalize() + ".")
    export.add_argument("--loss", default="info_nce", help="default: %(default)s")
    export.add_argument("--format", choices=[*WRITERS], default="json", help="default: %(default)s")
    export.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIR", help="default: the current folder")
    export.set_defaults(function=export_command)


def export_command(arguments: argparse.Namespace) -> int:
    """Write one file, and say which."""
    if arguments.loss not in losses():
        raise Usage(f"loss must be one of {', '.join(losses())}, got {arguments.loss!r}")
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
        path = WRITERS[arguments.format](arguments.loss, arguments.output)
    except OSError as error:
        raise Usage(f"can't write to {arguments.output}: {error.strerror}") from error
    print(path)
    return Exit.CONFORMS
