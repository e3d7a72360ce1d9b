"""Markdown for a CI summary: the verdict, a table, what fails by clause, and the first failures in full."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from infonce_ref.conformance.clauses import sentences
from infonce_ref.conformance.recorded import Line
from infonce_ref.conformance.report.model import Run, diagnosis, failing, number, short
from infonce_ref.conformance.report.text import visible

SHOWN = 8  # failures in full, one for each set of clauses to blame
SPECIAL = re.compile(r"([\\`*_\[\]<>|~#&$!])")
LINKING = re.compile(r"(?<=[:@])(?=\S)|(?<=www)(?=\.)", re.IGNORECASE)  # where an address would be made a link


def markdown(runs: Sequence[Run]) -> str:
    """The summary of one run or several."""
    sound = sum(run.conforms for run in runs)
    title = f"{sound} of {len(runs)} conform" if len(runs) > 1 else f"{code(runs[0].name)}: {outcome(runs[0])}"
    return "\n\n".join([f"## {title}", table(runs), *(part for run in runs for part in section(run))]) + "\n"


def outcome(run: Run) -> str:
    mark = {0: "✅", 1: "❌"}.get(run.exit, "⚠️")
    return f"{mark} {escape(run.verdict)}"


def table(runs: Sequence[Run]) -> str:
    """A line for each profile of each run."""
    lines = ["| implementation | profile | required | clauses | checks | worst r |", "|---|---|---|---|---|---|"]
    for run in runs:
        for profile in run.report.profiles:
            scores, counts = run.report.scores(profile), run.report.counts(profile)
            whole = sum(score.passed == score.total for score in scores.values())
            worst = max((score.worst for score in scores.values() if score.worst is not None), default=None)
            told = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
            required = "yes" if profile in run.report.required else ""
            cells = (code(run.name), escape(profile), required, f"{whole}/{len(scores)}", escape(told), short(worst))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def section(run: Run) -> list[str]:
    """The failures of a run: by clause, then some of them."""
    groups: dict[tuple[str, ...], list[Line]] = defaultdict(list)
    for line in sorted(failing(run.results), key=lambda line: (not run.required(line), line["id"])):
        groups[run.blame.get(line["id"], tuple(line["clauses"]))].append(line)
    if not groups:
        return []
    by_clause = [f"- **{names(clauses)}**: {len(lines)} failing" for clauses, lines in groups.items()]
    shown = [failure(run, lines[0]) for lines in list(groups.values())[:SHOWN]]
    found = [f"**Diagnosis:** {escape(' '.join(run.diagnosis))}"] if run.diagnosis else []
    return [f"### {code(run.name)}: what fails", *found, "\n".join(by_clause), *shown]


def names(clauses: Sequence[str]) -> str:
    more = f" and {len(clauses) - 3} more" if len(clauses) > 3 else ""
    return ", ".join(code(clause) for clause in clauses[:3]) + more


def failure(run: Run, line: Line) -> str:
    """One failure, folded."""
    worst = line.get("worst") or {}
    clauses = run.sentences(line)[:2]
    lines = [f"{code(clause)} {escape(sentence or sentences().get(clause, ''))}" for clause, sentence in clauses]
    lines += [f"**Diagnosis:** {escape(sentence)}" for sentence in diagnosis(line)]
    lines += [f"Known: {escape(line['known'])}"] if line.get("known") else []
    lines += [escape(str(line["reason"]))] if line.get("reason") else []
    if worst.get("expected"):
        rows = [("at", f"{worst.get('output')}{worst.get('index') or ''}"), ("expected", worst["expected"])]
        rows += [("got", worst.get("got")), ("bound", worst.get("bound")), ("r", short(number(line.get("r"))))]
        lines.append("\n".join(["| | |", "|---|---|", *(f"| {name} | {code(value)} |" for name, value in rows)]))
    lines.append("Again:\n\n" + fenced(run.again(line)))
    title = f"<code>{escape(line['status'])}</code> <code>{escape(line['id'])}</code>"
    return f"<details><summary>{title}</summary>\n\n" + "\n\n".join(lines) + "\n\n</details>"


# --- escaping ------------------------------------------------------------------------------------------------------


def escape(text: object) -> str:
    """Text as text: nothing in it is markup, an address or a mention."""
    plain = visible(text, one_line=True)
    escaped = SPECIAL.sub(lambda m: f"&#{ord(m[1])};", LINKING.sub("\u200b", plain))
    return re.sub(r"^(\s*)([-+=]|\d+[.)])", lambda m: f"{m[1]}\u200b{m[2]}", escaped)


def code(text: object) -> str:
    """Text in a code span, in a table too."""
    plain = visible(text, one_line=True).replace("|", "¦").strip() or " "
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{ticks}{pad}{plain}{pad}{ticks}"


def fenced(text: object) -> str:
    plain = visible(text, one_line=True)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    return f"{fence}sh\n{plain}\n{fence}"
