"""infonce-conformance run: judge an implementation."""

from __future__ import annotations

import argparse
import ast
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from infonce_ref.conformance.adapters.declare import READINGS
from infonce_ref.conformance.checks import REQUIRED
from infonce_ref.conformance.fresh import DEFAULT_SEED, MissingExtra
from infonce_ref.conformance.known import DEFAULT_FILE, as_toml, drafted, known_failures, refuse_to_overwrite
from infonce_ref.conformance.report import outputs
from infonce_ref.conformance.report.model import run_of
from infonce_ref.conformance.results import Record, Report, Result, Usage
from infonce_ref.conformance.run import Options, new_report, run, selection, session_for
from infonce_ref.conformance.runner import WIRES
from infonce_ref.conformance.session import Session

EXTRA = "pip install 'infonce-ref[conformance]'"


def add_parser(commands: Any) -> None:
    judge = commands.add_parser("run", help="judge an implementation", description="Judge an implementation.")
    whom = judge.add_mutually_exclusive_group(required=True)
    whom.add_argument("target", metavar="PKG.MOD:ATTR", nargs="?", help="a function, a class, or an adapter function")
    whom.add_argument("--exec", metavar="COMMAND", help="in its place: a program that answers on its standard output")
    judge.add_argument("--wire", choices=[*WIRES], help="what the program of --exec speaks (default: json)")
    judge.add_argument("--framework", metavar="NAME", help="numpy (default), torch, jax, cupy or array-api:MODULE")
    judge.add_argument(
        "--seed", type=seed, default=DEFAULT_SEED, help="of fresh problems: N or random (default: %(default)s)"
    )
    judge.add_argument("--reading", help=f"how explicit negatives are read: one or more of {', '.join(READINGS)}")
    add_renaming(judge)
    judge.add_argument(
        "--timeout", type=float, default=20.0, metavar="S", help="seconds for one call (default: %(default)s)"
    )
    judge.add_argument(
        "--memory", type=float, default=4.0, metavar="GIB", help="that calls may add (default: %(default)s)"
    )
    add_verdict_options(judge)
    judge.set_defaults(function=run_command)


def add_verdict_options(judge: argparse.ArgumentParser) -> None:
    """What may be said of any verdict, whoever was asked: which checks, which are required, where it is told."""
    judge.add_argument("--loss", default="info_nce", help="default: %(default)s")
    judge.add_argument("--profile", help=f"what is required: a,b or all (default: {','.join(REQUIRED)})")
    judge.add_argument("--only", metavar="PATTERN", help="run the checks whose id contains or matches this")
    judge.add_argument("--report", type=Path, metavar="OUT.jsonl", help="write every result, with the raw outputs")
    outputs.add_options(judge)
    judge.add_argument("--failures", action="store_true", help="show every failure")
    judge.add_argument(
        "--no-diagnosis", dest="diagnosis", action="store_false", help="don't look for the mistake that failures show"
    )
    judge.add_argument(
        "--known", type=Path, metavar="FILE", help=f"failures that are known (default: {DEFAULT_FILE}, if it is there)"
    )
    judge.add_argument("--write-known", type=Path, metavar="FILE", help="draft that file from what fails")


def add_renaming(parser: argparse.ArgumentParser) -> None:
    """The options that say what a target calls a parameter, or that it always has one value."""
    parser.add_argument(
        "--map",
        type=assignment,
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="a parameter under another name",
    )
    parser.add_argument(
        "--const",
        type=constant,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter that is always the same",
    )


def assignment(text: str) -> tuple[str, str]:
    """name=value."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    return name.strip(), value.strip()


def constant(text: str) -> tuple[str, Any]:
    """name=value, the value a Python literal, or else a string."""
    name, value = assignment(text)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def seed(text: str) -> int | str:
    """An integer, or random."""
    return text if text == "random" else int(text)


def run_command(arguments: argparse.Namespace) -> int:
    """infonce-conformance run."""
    if arguments.wire and not arguments.exec:
        raise Usage("--wire says what the program of --exec speaks, and there is none")
    options = Options(
        loss=arguments.loss,
        framework=arguments.framework,
        profile=arguments.profile,
        only=arguments.only,
        seed=arguments.seed,
        reading=arguments.reading,
        map=dict(arguments.map),
        const=dict(arguments.const),
        timeout=arguments.timeout,
        memory=arguments.memory,
        wire=(arguments.wire or "json") if arguments.exec else None,
    )
    target = arguments.exec or arguments.target
    number = options.drawn_seed()
    report = new_report(target, options, number)
    report.command = ("infonce-conformance", *again(arguments, number))
    return give_verdict(arguments, report, options, lambda: session_for(target, options))


def give_verdict(arguments: argparse.Namespace, report: Report, options: Options, begin: Callable[[], Session]) -> int:
    """Ask in the session that `begin` gives what the options choose, tell what comes, and return the exit code."""
    try:
        from infonce_ref.conformance.report.terminal import Terminal
    except ImportError as error:
        raise MissingExtra(f"the terminal's report needs {error.name}, which comes with: {EXTRA}") from error
    files = outputs.wanted(arguments)
    if arguments.write_known is not None:
        refuse_to_overwrite(arguments.write_known)
    report.known = known_failures(arguments.known)
    checks, report.every = selection(options, report.seed)
    terminal = Terminal(every_failure=arguments.failures)
    terminal.begin(report)
    if report.known.source:
        terminal.line(f"known failures: {len(report.known.entries)} entries of {report.known.source}")
    session = begin()
    try:
        report.hello = dict(session.hello)
        terminal.resolved(report)
        with record(arguments.report) as out, terminal.progress() as bar:
            task = bar.add_task("asking", total=len(checks))
            write(out, report.header())

            def tell(result: Result) -> None:
                bar.advance(task)
                write(out, result.record())

            run(session, checks, report, tell)
            if arguments.diagnosis and report.failures():
                task = bar.add_task("comparing with known mistakes", total=None)
                report.diagnose(lambda done, every: bar.update(task, completed=done, total=every))
            write(out, report.footer())
    finally:
        session.close()
    terminal.summary(report)
    outputs.write(files, [run_of(report)])
    if arguments.write_known is not None:
        write_known(arguments.write_known, report)
    return report.exit_code


def write_known(path: Path, report: Report) -> None:
    """Draft known failures, and say so."""
    entries = drafted(report, report.every)
    with opened(path) as stream:
        stream.write(as_toml(entries, report.target))
    failures = len(report.failures(report.required))
    print(f"{path}: {len(entries)} entries for {failures} failures, to be read and given their true reasons")


@contextlib.contextmanager
def record(path: Path | None) -> Iterator[Record | None]:
    """The report's file, if one is wanted."""
    if path is None:
        yield None
        return
    with opened(path) as stream:
        yield Record(stream)


def opened(path: Path) -> IO[str]:
    """A file to write; Usage if it can't be."""
    try:
        return path.open("w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise Usage(f"can't write {path}: {error.strerror}") from error


def write(out: Record | None, line: dict[str, Any]) -> None:
    if out is not None:
        out.write(line)


def again(arguments: argparse.Namespace, number: int) -> list[str]:
    """The words that ask for the same run, less what a single failure changes."""
    whom = ["--exec", arguments.exec] if arguments.exec else [arguments.target]
    words = ["run", *whom, "--loss", arguments.loss]
    for name in ("wire", "framework", "reading"):
        if getattr(arguments, name):
            words += [f"--{name}", getattr(arguments, name)]
    if arguments.known is not None:
        words += ["--known", str(arguments.known)]
    words += [w for name, value in arguments.map for w in ("--map", f"{name}={value}")]
    words += [w for name, value in arguments.const for w in ("--const", f"{name}={value}")]
    return words if number == DEFAULT_SEED else [*words, "--seed", str(number)]
