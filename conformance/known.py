"""Known failures: a TOML file of checks that are expected to fail, each entry with its reason and the day it expires.

    [[known]]
    pattern = "info_nce.zero-rows.*/grad"       # as --only reads it
    reason = "zero rows are divided by eps"
    issue = "https://example.org/issues/12"     # if there is one
    expires = 2027-01-31

Strict: an entry that matches a check that passes, that matches nothing, or that has expired is stale and fails the run.
"""

from __future__ import annotations

import datetime
import json
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infonce_ref.conformance.checks import NAMED, Check, matches
from infonce_ref.conformance.clauses import sentences
from infonce_ref.conformance.fresh import DEFAULT_SEED
from infonce_ref.conformance.results import Report, Result, Usage

DEFAULT_FILE = "infonce-known-failures.toml"
DRAFTED_DAYS = 90
MAX_BYTES = 256 * 2**10
MAX_ENTRIES = 1000
MAX_TEXT = 2000


@dataclass(frozen=True)
class Entry:
    """Some checks that are expected to fail."""

    pattern: str
    reason: str
    expires: datetime.date
    issue: str | None = None

    def matches(self, check_id: str) -> bool:
        return matches(self.pattern, check_id)

    @property
    def words(self) -> str:
        """The reason, with the link."""
        return self.reason + (f" ({self.issue})" if self.issue else "")

    def to_json(self) -> dict[str, Any]:
        link = {"issue": self.issue} if self.issue else {}
        return {"pattern": self.pattern, "reason": self.reason, **link, "expires": self.expires.isoformat()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Entry:
        """What `to_json` wrote; ValueError for a day that isn't in the calendar."""
        expires = datetime.date.fromisoformat(data["expires"])
        return Entry(data["pattern"], data["reason"], expires, data.get("issue"))


@dataclass(frozen=True)
class KnownFailures:
    """The entries of a file."""

    entries: tuple[Entry, ...] = ()
    source: str = ""
    today: datetime.date = field(default_factory=datetime.date.today)

    @staticmethod
    def load(path: Path) -> KnownFailures:
        """The file's entries; Usage, saying what is wrong and where, if it isn't such a file."""
        return KnownFailures(tuple(_entries(path)), str(path))

    def entry_for(self, check: Check) -> Entry | None:
        """The first entry that matches."""
        return next((entry for entry in self.entries if entry.matches(check.id)), None)

    def reason_for(self, check: Check) -> str | None:
        """Why `check` is expected to fail; None if it isn't."""
        entry = self.entry_for(check)
        return None if entry is None else entry.words

    def stale(
        self, results: Iterable[Result], required: Collection[str] | None = None, every: Collection[str] = ()
    ) -> list[str]:
        """For each entry that has to go, why.

        `results` are those of the run, of which the profiles in `required` count (all, if None). `every` is the ids of
        all the checks that there are: an entry about checks that weren't asked isn't stale.
        """
        asked = [r for r in results if required is None or r.check.profile in required]
        ids = {*every, *(r.check.id for r in asked)}
        found = [(entry, self._complaint(entry, asked, ids)) for entry in self.entries]
        return [f'"{entry.pattern}" {complaint}' for entry, complaint in found if complaint]

    def _complaint(self, entry: Entry, asked: Sequence[Result], ids: Collection[str]) -> str:
        matched = [r for r in asked if entry.matches(r.check.id)]
        if not matched:
            of_these = [part for profile in NAMED if (part := f".{profile}.") in entry.pattern]
            unasked = "@" in entry.pattern or any(not any(part in i for i in ids) for part in of_these)
            return "" if any(entry.matches(i) for i in ids) or unasked else "matches no check"
        passing = [r.check.id for r in matched if r.outcome.status == "pass" and not _of_another_seed(r.check.id)]
        if passing:
            more = f" and {len(passing) - 1} more" if len(passing) > 1 else ""
            return f"matches what passes: {passing[0]}{more}"
        if entry.expires < self.today:
            return f"expired on {entry.expires}"
        if not any(r.ran for r in matched) and len(matched) == sum(entry.matches(i) for i in ids):
            return f"matches only what isn't applicable: {matched[0].outcome.reason}"
        return ""


def _of_another_seed(check_id: str) -> bool:
    """Whether a fresh problem isn't one of the usual ones: what fails on those may pass on others."""
    return "@" in check_id and f"@{DEFAULT_SEED}/" not in check_id


def known_failures(path: Path | None) -> KnownFailures:
    """Those of `path`, or of the usual file in the current folder if there is one."""
    if path is not None:
        return KnownFailures.load(path)
    usual = Path(DEFAULT_FILE)
    return KnownFailures.load(usual) if usual.is_file() else KnownFailures()


# --- reading -------------------------------------------------------------------------------------------------------


def _entries(path: Path) -> Iterator[Entry]:
    document = _document(path)
    unknown = {*document} - {"known"}
    if unknown:
        raise Usage(f"{path}: unknown key {min(unknown)!r}; the file holds [[known]] entries alone")
    tables = document.get("known", [])
    if not isinstance(tables, list) or len(tables) > MAX_ENTRIES:
        raise Usage(f"{path}: known must be at most {MAX_ENTRIES} [[known]] entries")
    for number, table in enumerate(tables, 1):
        yield _entry(f"{path}: entry {number}", table)


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise Usage(f"can't read {path}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise Usage(f"{path} is longer than {MAX_BYTES} bytes")
    try:
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Usage(f"{path} isn't UTF-8: byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise Usage(f"{path} isn't TOML: {error}") from error


def _entry(where: str, table: Any) -> Entry:
    if not isinstance(table, dict):
        raise Usage(f"{where} must be a table, got {table!r:.80}")
    allowed = ("pattern", "reason", "issue", "expires")
    for key in table:
        if key not in allowed:
            raise Usage(f"{where}: unknown key {key!r:.80}; an entry has {', '.join(allowed)}")
    for key in ("pattern", "reason"):
        text = table.get(key)
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT:
            raise Usage(f"{where}: {key} must be some text, got {text!r:.80}")
    issue, expires = table.get("issue"), table.get("expires")
    if issue is not None and not (isinstance(issue, str) and issue.startswith(("https://", "http://"))):
        raise Usage(f"{where}: issue must be a link, got {issue!r:.80}")
    if not isinstance(expires, datetime.date) or isinstance(expires, datetime.datetime):
        raise Usage(f"{where}: expires must be a date such as 2027-01-31, without quotes, got {expires!r:.80}")
    return Entry(table["pattern"], table["reason"], expires, issue)


# --- drafting ------------------------------------------------------------------------------------------------------


def refuse_to_overwrite(path: Path) -> None:
    """Usage, if `path` holds entries that someone may have written."""
    if path.exists() and KnownFailures.load(path).entries:
        raise Usage(f"{path} has entries already: write to another file and take over what you need")


def drafted(report: Report, every: Collection[str], today: datetime.date | None = None) -> list[Entry]:
    """Entries for the failures that count, in few patterns, none of which matches anything that may pass."""
    spared = {r.check.id for r in report.results if r.wrong or not r.ran}
    sound = {*every, *(r.check.id for r in report.results)} - spared
    open_failures = {r.check.id: r for r in report.failures(report.required)}
    expires = (today or datetime.date.today()) + datetime.timedelta(days=DRAFTED_DAYS)
    safe = [p for p in _patterns(open_failures) if not any(matches(p, i) for i in sound)]
    blame = report.blame()
    entries = []
    while open_failures:
        best = max(safe, key=lambda p: sum(matches(p, i) for i in open_failures))
        covered = [i for i in open_failures if matches(best, i)]
        clauses = Counter(clause for i in covered for clause in blame[i])
        entries.append(Entry(best, _reason([open_failures[i] for i in covered], clauses), expires))
        for i in covered:
            del open_failures[i]
    return entries


def _patterns(ids: Iterable[str]) -> list[str]:
    """Patterns for each id, the broadest first: a dtype, an output, a class, a class in one dtype, …, the id itself."""
    found: dict[str, int] = {}
    for check_id in ids:
        problem, *rest = check_id.split("/")  # rest: dtype and output; a behaviour of all outputs has a dtype alone
        names = problem.split("#")[0].split("@")[0].split(".")
        ends = ["/".join(["", *words]) for words in ([], rest[:1], ["*", *rest[1:]], rest)]
        kinds = [".".join(names[:depth]) + "." for depth in range(1, len(names))]
        patterns = [*(f"{kind}*{end}" for kind in kinds for end in ends), f"{problem}/", check_id]
        for breadth, pattern in enumerate(patterns):
            found.setdefault(pattern, breadth)
    return sorted(found, key=lambda pattern: (found[pattern], pattern))


def _reason(failures: Sequence[Result], clauses: Counter[str]) -> str:
    """What is known without asking anyone: the clause that isn't met."""
    how = failures[0].outcome.reason
    if not clauses:
        return how or "fails"
    (clause, _) = clauses.most_common(1)[0]
    return f"doesn't meet [{clause}]: {sentences().get(clause, how)}"[:500]


def as_toml(entries: Iterable[Entry], target: str) -> str:
    """The entries as a file."""
    lines = [f"# Checks that {target} is known to fail. An entry that no longer holds, or has expired, fails the run."]
    for entry in entries:
        link = [f"issue = {_quoted(entry.issue)}"] if entry.issue else []
        lines += ["", "[[known]]", f"pattern = {_quoted(entry.pattern)}", f"reason = {_quoted(entry.reason)}", *link]
        lines.append(f"expires = {entry.expires.isoformat()}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML string; JSON's escapes are TOML's too, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
