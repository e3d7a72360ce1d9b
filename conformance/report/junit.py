"""JUnit XML, as CI servers read it: a suite for each run, a case for each check.

A check that fails in a profile that isn't required is a skipped case that says so, as the run's exit code has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree

from infonce_ref.conformance.recorded import Line
from infonce_ref.conformance.report.model import Run, diagnosis, number, short
from infonce_ref.conformance.report.text import visible

DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'


def junit(runs: Sequence[Run]) -> str:
    """The document."""
    top = ElementTree.Element("testsuites", name="infonce-conformance")
    for run in runs:
        top.append(suite(run))
    for name in ("tests", "failures", "errors"):
        top.set(name, str(sum(int(child.get(name, "0")) for child in top)))
    ElementTree.indent(top)
    return DECLARATION + ElementTree.tostring(top, encoding="unicode") + "\n"


def suite(run: Run) -> ElementTree.Element:
    """One run."""
    found = ElementTree.Element("testsuite", name=words(f"{run.header['loss']} of {run.name}"))
    properties = ElementTree.SubElement(found, "properties")
    for name in ("edition", "suite", "vectors", "framework", "seed"):
        ElementTree.SubElement(properties, "property", name=name, value=words(run.header.get(name, "")))
    ElementTree.SubElement(properties, "property", name="verdict", value=words(run.verdict))
    cases = [case(run, line) for line in run.results]
    found.extend(cases)
    kinds = Counter(child.tag for one in cases for child in one)
    counts = {"tests": len(cases), "failures": kinds["failure"], "errors": kinds["error"], "skipped": kinds["skipped"]}
    if run.footer is None:  # what didn't come to its end can't be green
        found.append(_cut_short(run))
        counts["tests"] += 1
        counts["errors"] += 1
    found.attrib.update({name: str(count) for name, count in counts.items()})
    return found


def case(run: Run, line: Line) -> ElementTree.Element:
    """One check."""
    found = ElementTree.Element("testcase", name=words(line["id"]), classname=words(f"{run.name}.{line['profile']}"))
    status, reason = line["status"], str(line.get("reason") or "")
    if status == "n/a":
        ElementTree.SubElement(found, "skipped", message=words(reason or "not applicable"))
    elif status == "xfail":
        ElementTree.SubElement(found, "skipped", message=words(f"known failure: {line.get('known', '')}"))
    elif status != "pass" and not run.required(line):
        ElementTree.SubElement(found, "skipped", message=words(f"{status}, and {line['profile']} isn't required"))
    elif status in ("error", "timeout"):
        told(ElementTree.SubElement(found, "error", type=status, message=words(reason)), run, line)
    elif status != "pass":
        message = reason or ("passes, against expectation" if status == "xpass" else compared(line))
        told(ElementTree.SubElement(found, "failure", type=status, message=words(message)), run, line)
    return found


def compared(line: Line) -> str:
    """got … where … is expected."""
    worst = line.get("worst") or {}
    return f"got {worst.get('got')}, expected {worst.get('expected')}, r = {short(number(line.get('r')))}"


def told(element: ElementTree.Element, run: Run, line: Line) -> None:
    """All there is to say of a failure."""
    lines = [f"[{clause}] {sentence}" for clause, sentence in run.sentences(line)[:2]]
    lines += [f"diagnosis: {sentence}" for sentence in diagnosis(line)]
    worst = line.get("worst") or {}
    lines += [f"{key}: {worst[key]}" for key in ("output", "index", "expected", "got", "bound") if worst.get(key)]
    lines += [f"r: {short(number(line.get('r')))}"] if line.get("r") is not None else []
    element.text = visible("\n".join([*lines, f"again: {run.again(line)}"]))


def _cut_short(run: Run) -> ElementTree.Element:
    found = ElementTree.Element("testcase", name="the run", classname=words(run.name))
    ElementTree.SubElement(found, "error", type="incomplete", message=words(run.verdict))
    return found


def words(text: object) -> str:
    """An attribute: no character that XML forbids, no line end."""
    return visible(text, one_line=True)
