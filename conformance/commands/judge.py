"""infonce-conformance judge: the verdict on answers that were computed elsewhere, from exported vectors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from infonce_ref.conformance.answers import AnswersRunner
from infonce_ref.conformance.commands.run import add_verdict_options, give_verdict
from infonce_ref.conformance.fresh import DEFAULT_SEED
from infonce_ref.conformance.run import Options, new_report
from infonce_ref.conformance.session import Session


def add_parser(commands: Any) -> None:
    words = "judge answers that were computed elsewhere, from exported vectors"
    judge = commands.add_parser("judge", help=words, description=words.capitalize() + ".")
    judge.add_argument("answers", type=Path, metavar="ANSWERS.jsonl")
    add_verdict_options(judge)
    judge.set_defaults(function=judge_command)


def judge_command(arguments: argparse.Namespace) -> int:
    """The same report, options and exit codes as `run`; only stored vectors can be asked."""
    options = Options(loss=arguments.loss, profile=arguments.profile, only=arguments.only)
    report = new_report(str(arguments.answers), options, DEFAULT_SEED)
    known = [] if arguments.known is None else ["--known", str(arguments.known)]
    report.command = ("infonce-conformance", "judge", str(arguments.answers), "--loss", arguments.loss, *known)
    return give_verdict(arguments, report, options, lambda: Session(AnswersRunner(arguments.answers, arguments.loss)))
