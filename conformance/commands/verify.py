"""infonce-conformance verify: judge a report again from the raw outputs that it holds, without running anyone's code.

What can't be seen: whether the raw outputs are those that the target gave.
"""

from __future__ import annotations

import argparse
import datetime
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infonce_ref.conformance.adapters.resolve import Unusable
from infonce_ref.conformance.checks import PROFILES, Check, all_checks, matching
from infonce_ref.conformance.known import Entry, KnownFailures
from infonce_ref.conformance.load import EDITION, digest, losses
from infonce_ref.conformance.recorded import Line, Recorded, read
from infonce_ref.conformance.results import Exit, Report, Result, Usage
from infonce_ref.conformance.session import Session

SHOWN = 20
SAME_R = 1e-6  # relative: libraries of elementary functions differ in their last digit


def add_parser(commands: Any) -> None:
    again = commands.add_parser(
        "verify",
        help="judge a report again from its raw outputs",
        description="Judge a report again from its raw outputs.",
    )
    again.add_argument("report", type=Path, metavar="REPORT.jsonl")
    again.set_defaults(function=verify_command)


def verify_command(arguments: argparse.Namespace) -> int:
    """Say what the report should say, and where it says something else."""
    verified = verify(read(arguments.report))
    for words in [*verified.untrue[:SHOWN], *verified.missing[:SHOWN]]:
        print(words)
    for kind, found in (("untrue", verified.untrue), ("missing", verified.missing)):
        if len(found) > SHOWN:
            print(f"… and {len(found) - SHOWN} more {kind}")
    report = verified.report
    print(f"{len(report.results)} results of {report.target} judged again from their raw outputs: {verified.words}")
    return verified.exit_code


@dataclass
class Verified:
    """The verdict that the raw outputs give, and what is wrong with the report."""

    report: Report
    untrue: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> Exit:
        if self.untrue:
            return Exit.DOES_NOT
        return Exit.INCOMPLETE if self.missing else self.report.exit_code

    @property
    def words(self) -> str:
        if self.untrue:
            return f"the report is untrue in {len(self.untrue)} places. By its raw outputs it {self.report.verdict()}"
        if self.missing:
            return f"the report is incomplete; what there is of it is true, and it {self.report.verdict()}"
        return f"it {self.report.verdict()}"


class Replay:
    """A runner that gives the replies of a report, in their order."""

    def __init__(self, declared: Mapping[str, Any]) -> None:
        self.declared = declared
        self.replies: deque[Mapping[str, Any]] = deque()

    def start(self) -> dict[str, Any]:
        return {key: value for key, value in self.declared.items() if value is not None}

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self.replies.popleft()) if self.replies else {"garbage": "no raw output is left"}

    def ask_all(self, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [self.ask(request) for request in requests]

    def close(self) -> None:
        self.replies.clear()


def verify(recorded: Recorded) -> Verified:
    """Judge what is recorded again; Unusable if it was judged by other vectors than this suite's."""
    report = _begun(recorded.header)
    every = all_checks(report.loss, report.seed, named=report.required)
    report.every = [check.id for check in every]
    asked = {check.id: check for check in matching(every, report.only)}
    verified = Verified(report)
    replay = Replay(recorded.header["declared"])
    session = Session(replay, replay)
    for number, line in enumerate(recorded.results, 2):
        check = asked.pop(line["id"], None)
        if check is None:
            verified.untrue.append(f"line {number}: {line['id']} isn't asked, or was before")
        elif line["raw"] is None:
            verified.missing.append(f"line {number}: {line['id']} is without its raw outputs")
        else:
            _judge_line(verified, f"line {number}: {line['id']}", line, check, session, replay)
    verified.missing += [f"no result of {check_id}" for check_id in asked]
    if recorded.footer is None:
        verified.missing.append("no footer: the run was cut short")
    else:
        verified.untrue += _differences("footer", recorded.footer, _footer(report, recorded.footer))
    return verified


def _begun(header: Line) -> Report:
    """The report without its results, as the header has it."""
    if header["loss"] not in losses() or header["edition"] != EDITION:
        raise Unusable(f"this suite has no vectors of {header['loss']}, edition {header['edition']}")
    own = digest(header["loss"])
    if header["vectors"] != own:
        raise Unusable(
            f"the report was made with vectors {header['vectors']} of infonce-ref {header['suite']}, "
            f"and these are {own}: verify it with that version"
        )
    unknown = {*header["required"]} - {*PROFILES}
    if unknown:
        raise Unusable(f"this suite has no profile {min(unknown)!r}")
    try:
        entries = tuple(Entry.from_json(entry) for entry in header["known"])
        date = datetime.date.fromisoformat(header["date"])
    except ValueError as error:
        raise Usage(f"the report's header: {error}") from error
    return Report(
        loss=header["loss"],
        target=header["target"],
        seed=header["seed"],
        vectors=own,
        hello=header["declared"],
        required=tuple(header["required"]),
        named=header["named"],
        only=header["only"],
        known=KnownFailures(entries, "the report", date),
        date=date,
    )


def _judge_line(verified: Verified, name: str, line: Line, check: Check, session: Session, replay: Replay) -> None:
    """One result line, judged by its own replies."""
    replay.replies = deque(line["raw"])
    session.replies = []
    outcome = check.run(session)
    known = verified.report.known
    result = Result(check, outcome, known.reason_for(check) if known else None, tuple(session.replies))
    verified.report.results.append(result)
    verified.untrue += _differences(name, line, result.record())


def _footer(report: Report, footer: Line) -> Line:
    """The footer that the results give; capabilities were tried apart from them."""
    return {**report.footer(), "capabilities": footer["capabilities"]}


def _differences(name: str, said: Line, found: Line) -> list[str]:
    """Where a line doesn't say what was found; what only a newer suite would say isn't looked at."""
    keys = [key for key in (*found, "known", "worst") if not _same(said.get(key), found.get(key))]
    return [
        f"{name} says {key} {_short(said.get(key))}, and it is {_short(found.get(key))}" for key in dict.fromkeys(keys)
    ]


def _same(said: Any, found: Any) -> bool:
    """Equal, but for the last digits of r."""
    if isinstance(said, float) and isinstance(found, float):
        return math.isclose(said, found, rel_tol=SAME_R)
    if isinstance(said, Mapping) and isinstance(found, Mapping):
        return said.keys() == found.keys() and all(_same(said[key], found[key]) for key in found)
    if isinstance(said, Sequence) and isinstance(found, Sequence) and not isinstance(said, str):
        return len(said) == len(found) and all(map(_same, said, found))
    return bool(said == found)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
