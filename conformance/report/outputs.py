"""The files that a report can be written to, and the options that ask for them; `run` and `report` share both."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infonce_ref.conformance.fresh import MissingExtra
from infonce_ref.conformance.report.badge import endpoint, svg
from infonce_ref.conformance.report.html import page
from infonce_ref.conformance.report.junit import junit
from infonce_ref.conformance.report.markdown import markdown
from infonce_ref.conformance.report.model import Run, failing
from infonce_ref.conformance.results import Usage

FORMS: Mapping[str, str] = {
    "html": "one self-contained page",
    "junit": "JUnit XML",
    "markdown": "a summary, such as $GITHUB_STEP_SUMMARY, to whose end it is added",
    "badge": "shields.io's endpoint JSON, or a picture if FILE ends in .svg",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """--html FILE and the others."""
    for name, words in FORMS.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write {words}")
    parser.add_argument("--reproduce", type=Path, metavar="FOLDER", help="write a script for each failing check")


def wanted(arguments: argparse.Namespace) -> dict[str, Path]:
    """The files that are asked for; Usage before anything has run if one can't be written."""
    found = {name: getattr(arguments, name) for name in FORMS if getattr(arguments, name, None) is not None}
    for path in found.values():
        if path.is_dir() or not path.parent.is_dir():
            raise Usage(f"can't write {path}: {'it is a folder' if path.is_dir() else 'there is no such folder'}")
    if getattr(arguments, "reproduce", None) is not None:
        found["reproduce"] = arguments.reproduce
    return found


def write(files: Mapping[str, Path], runs: Sequence[Run]) -> None:
    """Write them all."""
    if "badge" in files and len(runs) != 1:
        raise Usage(f"a badge is of one run, and there are {len(runs)}")
    forms: Mapping[str, Callable[[], str]] = {
        "html": lambda: page(runs),
        "junit": lambda: junit(runs),
        "badge": lambda: (svg if files["badge"].suffix == ".svg" else endpoint)(runs[0]),
    }
    try:
        for name, path in files.items():
            if name == "markdown":
                with path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                    stream.write(markdown(runs))
            elif name == "reproduce":
                for run in runs:
                    run.reproducer.write(failing(run.results), path)
            else:
                path.write_text(forms[name](), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise Usage(f"can't write {error.filename}: {error.strerror}") from error
    except ImportError as error:
        needs = f"this report needs {error.name}, which comes with: pip install 'infonce-ref[conformance]'"
        raise MissingExtra(needs) from error
