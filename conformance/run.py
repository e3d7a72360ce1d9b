"""A run: the checks that were chosen, asked one after the other."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infonce_ref.conformance.adapters.declare import READINGS
from infonce_ref.conformance.capabilities import contradictions
from infonce_ref.conformance.checks import NAMED, ORDINARY, PROFILES, REQUIRED, Check, all_checks, matching
from infonce_ref.conformance.fresh import DEFAULT_SEED
from infonce_ref.conformance.known import KnownFailures
from infonce_ref.conformance.load import digest, losses
from infonce_ref.conformance.ranks import Ranks
from infonce_ref.conformance.results import Report, Result, Usage
from infonce_ref.conformance.runner import WIRES, ChildRunner, ExecRunner, LocalRunner, Runner
from infonce_ref.conformance.session import Session


@dataclass(frozen=True)
class Options:
    """How a run is asked for; the same on the command line and from Python."""

    loss: str = "info_nce"
    framework: str | None = None
    profile: str | None = None  # "a,b" or "all"; None: those required of everyone
    only: str | None = None
    seed: int | str = DEFAULT_SEED  # or "random"
    reading: str | None = None  # "a,b"
    map: Mapping[str, str] = field(default_factory=dict)
    const: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 20.0
    memory: float = 4.0  # GiB beyond what the target's process has once it is ready
    vectors: Any = None  # a folder in place of the suite's own
    wire: str | None = None  # json or text: the target is a command, a program that answers over that wire

    def __post_init__(self) -> None:
        known = losses(self.vectors)
        if self.loss not in known:
            raise Usage(f"loss must be one of {', '.join(known)}, got {self.loss!r}")
        for profile in self.required:
            if profile not in PROFILES:
                raise Usage(f"profile must be all or some of {','.join(PROFILES)}, got {profile!r}")
        for reading in self.readings:
            if reading not in READINGS:
                raise Usage(f"reading must be some of {', '.join(READINGS)}, got {reading!r}")
        if isinstance(self.seed, str) and self.seed != "random":
            raise Usage(f"seed must be an integer or random, got {self.seed!r}")
        if self.wire not in (None, *WIRES):
            raise Usage(f"wire must be one of {', '.join(WIRES)}, got {self.wire!r}")
        if self.wire is not None and (self.framework or self.map or self.const):
            raise Usage("--framework, --map and --const are for callables; a program is handed everything by its name")
        if not self.timeout > 0:
            raise Usage(f"timeout must be > 0, got {self.timeout}")

    @property
    def required(self) -> tuple[str, ...]:
        if self.profile is None:
            return REQUIRED
        return ORDINARY if self.profile == "all" else tuple(p.strip() for p in self.profile.split(","))

    @property
    def readings(self) -> tuple[str, ...]:
        return tuple(r.strip() for r in self.reading.split(",")) if self.reading else ()

    def drawn_seed(self) -> int:
        return random.SystemRandom().randrange(10**9) if self.seed == "random" else int(self.seed)


def runner_for(target: Any, options: Options) -> Runner:
    """The program itself for a command, a child process for `pkg.mod:attr`, this process for anything callable."""
    if options.wire is not None:
        limits = {"timeout": options.timeout, "memory": options.memory}
        return ExecRunner(target, options.wire, loss=options.loss, readings=options.readings, **limits)
    if not isinstance(target, str):
        return LocalRunner(target, options.framework, **call_of(options))
    return child_runner(target, options)


def child_runner(target: str, options: Options, **more: Any) -> ChildRunner:
    limits = {"timeout": options.timeout, "memory": options.memory}
    return ChildRunner(target, options.framework, **limits, **call_of(options), **more)


def call_of(options: Options) -> dict[str, Any]:
    """What the options say of the call."""
    return {
        "map": dict(options.map),
        "const": dict(options.const),
        "readings": list(options.readings),
        "loss": options.loss,
    }


def session_for(target: Any, options: Options) -> Session:
    """The session in which a target is asked; over several processes too, where those can be."""
    group = None
    if isinstance(target, str) and options.wire is None:
        group = Ranks(lambda member: child_runner(target, options, group=dict(member)))
    return Session(runner_for(target, options), group)


def selection(options: Options, seed: int) -> tuple[list[Check], list[str]]:
    """The checks that the options choose, and the ids of all that there are; Usage if the pattern matches none."""
    every = all_checks(options.loss, seed, options.vectors, options.required)
    for profile in NAMED:
        if profile in options.required and not any(check.profile == profile for check in every):
            raise Usage(f"there are no checks of {options.loss} in the profile {profile}")
    checks = matching(every, options.only)
    if not checks:
        raise Usage(f"no check matches {options.only!r}" if options.only else f"there are no checks of {options.loss}")
    return checks, [check.id for check in every]


def name_of(target: Any) -> str:
    return target if isinstance(target, str) else getattr(target, "__qualname__", type(target).__name__)


def new_report(target: Any, options: Options, seed: int) -> Report:
    """A report without results."""
    return Report(
        loss=options.loss,
        target=name_of(target),
        seed=seed,
        vectors=digest(options.loss, options.vectors),
        required=options.required,
        named=options.profile not in (None, "all"),
        only=options.only,
    )


def run(session: Session, checks: list[Check], report: Report, tell: Callable[[Result], None]) -> None:
    """Fill `report` with a result for every check, telling each one as it comes."""
    report.hello = dict(session.hello)
    for check in checks:
        session.replies = []
        outcome = check.run(session)
        known = report.known.reason_for(check) if report.known else None
        result = Result(check, outcome, known, tuple(session.replies))
        report.results.append(result)
        tell(result)
    report.capabilities = contradictions(report, session)


def check_loss(
    fn: Any, loss: str = "info_nce", framework: str | None = None, known: str | Path | None = None, **options: Any
) -> Report:
    """Judge `fn`, a callable (in this process) or `pkg.mod:attr` (in its own), and return the report.

    `known` is a file of known failures. The other options are those of `Options`: profile, only, seed, reading, map,
    const, timeout, memory.
    """
    asked = Options(loss=loss, framework=framework, **options)
    seed = asked.drawn_seed()
    report = new_report(fn, asked, seed)
    report.known = None if known is None else KnownFailures.load(Path(known))
    checks, report.every = selection(asked, seed)
    session = session_for(fn, asked)
    try:
        run(session, checks, report, lambda _: None)
    finally:
        session.close()
    return report
