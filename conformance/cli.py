"""infonce-conformance: does this code compute the loss that it says it does?

infonce-conformance run pkg.mod:attr --loss info_nce --framework torch
infonce-conformance --help names the other commands
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from infonce_ref.conformance.adapters.resolve import Unusable
from infonce_ref.conformance.fresh import MissingExtra
from infonce_ref.conformance.results import Exit, Usage

# A subcommand is a module of `commands`, of its name, with a function `add_parser(commands)`.
COMMANDS = (
    "run",
    "export",
    "judge",
    "verify",
    "compare",
    "report",
    "init",
    "list",
)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="infonce-conformance", description=(__doc__ or "").splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        import_module(f"infonce_ref.conformance.commands.{name}").add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    options = parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # what an implementation says of itself may be no text that can be printed
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code: int = options.function(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read along, `head` for one, has seen enough: nothing more to say, to nobody
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.INCOMPLETE
    except Usage as error:
        print(f"infonce-conformance: {error}", file=sys.stderr)
        return Exit.USAGE
    except (Unusable, MissingExtra) as error:
        print(f"infonce-conformance: {error}", file=sys.stderr)
        return Exit.UNUSABLE
    except KeyboardInterrupt:
        print("infonce-conformance: interrupted", file=sys.stderr)
        return Exit.INCOMPLETE
    return code


if __name__ == "__main__":
    sys.exit(main())
