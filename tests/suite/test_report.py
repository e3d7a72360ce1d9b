"""Reports in every form but the browser's: the same facts in each, and text from outside is text in each."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from markdown_it import MarkdownIt
from rich.console import Console

from infonce_ref.conformance.cli import main
from infonce_ref.conformance.judge import as_fraction
from infonce_ref.conformance.report.badge import endpoint, svg
from infonce_ref.conformance.report.html import data, embedded, page
from infonce_ref.conformance.report.junit import junit
from infonce_ref.conformance.report.markdown import markdown
from infonce_ref.conformance.report.model import STATUSES, from_lines, read
from infonce_ref.conformance.report.terminal import Terminal
from infonce_ref.conformance.report.text import LONGEST, visible
from infonce_ref.conformance.reproduce import Reproducer, filename
from infonce_ref.conformance.results import Usage
from infonce_ref.conformance.run import check_loss
from tests.suite import reports

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


# --- reading -------------------------------------------------------------------------------------------------------


def test_a_report_read_back_says_what_the_run_said(tmp_path: Path) -> None:
    """Verdict, exit code, counts and whom to blame survive the file."""
    for report in (reports.sound(), reports.wrong()):
        run = read(reports.written(report, tmp_path / "out.jsonl"))
        assert run.verdict == report.verdict()
        assert run.exit == report.exit_code
        assert run.report.counts() == report.counts()
        assert run.blame == report.blame()


def test_a_report_without_footer_is_incomplete() -> None:
    """However well everything went until then."""
    run = from_lines(reports.lines_of(reports.sound())[:-1])
    assert not run.conforms
    assert "cut short" in run.verdict
    assert JUnitXml.fromstring(junit([run]).encode()).errors == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "[" * 100_000,
        '{"type": "footer"}',
        '{"type": "header"}',
        '{"type": "header", "target": "a:b", "loss": 1, "seed": 1, "required": []}',
        '{"type": "header", "target": "a:b", "loss": "x", "seed": 1, "required": []}\n{"type": "surprise"}',
        "\x00\xff",
    ],
)
def test_what_is_no_report_is_refused_with_a_reason(text: str, tmp_path: Path, capsys: Any) -> None:
    """By exit code 2, in one line."""
    (tmp_path / "in.jsonl").write_text(text, encoding="utf-8")
    assert main(["report", str(tmp_path / "in.jsonl"), "--html", str(tmp_path / "out.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out.html").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"status": "splendid"},
        {"clauses": [1]},
        {"r": "large"},
        {"worst": [1]},
        {"worst": {"index": ["import os"]}},
        {"id": 7},
    ],
)
def test_a_result_that_cannot_be_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    """Its types are looked at before anything is made of it."""
    lines = reports.lines_of(reports.wrong())
    lines[1].update(change)
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(Usage, match="isn't a report"):
        read(path)


# --- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", reports.EVIL)
def test_visible_text_holds_nothing_that_cannot_be_seen(text: str) -> None:
    """No control character, no character that turns the direction of others, no half of a pair."""
    shown = visible(text, one_line=True)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1


def test_long_text_is_cut() -> None:
    """A megabyte of message isn't a message."""
    assert len(visible("x" * 10**6)) == LONGEST + 2


# --- JUnit ---------------------------------------------------------------------------------------------------------

ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"name", "classname", "time", "group"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"type", "message"},
}
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase"},
    "properties": {"property"},
    "testcase": {"failure", "error", "skipped"},
}
NEEDED = {"testsuite": {"name", "tests", "failures", "errors"}, "testcase": {"name"}, "property": {"name", "value"}}


def structure(element: ElementTree.Element) -> list[str]:
    """Where a document isn't as the schema that Jenkins and others read by (junit-10.xsd) has it."""
    known, given = ATTRIBUTES.get(element.tag), {*element.attrib}
    found = [] if known is not None and given <= known and NEEDED.get(element.tag, set()) <= given else [element.tag]
    strangers = [child.tag for child in element if child.tag not in CHILDREN.get(element.tag, set())]
    return found + strangers + [fault for child in element for fault in structure(child)]


KINDS = {
    "sound": lambda: reports.runs()[0],
    "wrong": lambda: reports.runs()[1],
    "each status": reports.of_each_status,
    "hostile": reports.hostile,
    "stale": lambda: reports.made_up(exit_code=4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_junit_is_as_the_servers_read_it(kind: str) -> None:
    """Elements, attributes and counts; it parses, whatever the report holds."""
    run = KINDS[kind]()
    top = ElementTree.fromstring(junit([run]))
    assert structure(top) == []
    (suite,) = top
    children = Counter(child.tag for case in suite.iter("testcase") for child in case)
    assert int(suite.attrib["tests"]) == len(run.results) == len(list(suite.iter("testcase")))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[name]) == children[tag]


def test_a_stray_element_is_seen() -> None:
    """The structure above isn't one that accepts everything."""
    top = ElementTree.fromstring(junit([reports.of_each_status()]))
    ElementTree.SubElement(top[0], "surprise")
    assert structure(top) == ["surprise", "surprise"]


def test_junit_is_red_where_the_exit_code_is() -> None:
    """What fails in a profile that isn't required, is known or wasn't asked is skipped; xpass is red, being stale."""
    (suite,) = JUnitXml.fromstring(junit([reports.of_each_status()]).encode())
    found = [type(case.result[0]) if case.result else None for case in suite]
    assert found == [Failure, Error, Error, Skipped, Failure, None, Skipped, Skipped]


def test_junit_tells_a_failure_in_full() -> None:
    """Clause, numbers, diagnosis and command."""
    _, run = reports.runs()
    (suite,) = JUnitXml.fromstring(junit([run]).encode())
    failure = next(case.result[0] for case in suite if case.result and isinstance(case.result[0], Failure))
    line = next(line for line in run.results if line["status"] == "fail" and run.required(line))
    for words in (line["worst"]["expected"], line["worst"]["got"], run.again(line), "equal twice the loss"):
        assert words in failure.text


# --- Markdown ------------------------------------------------------------------------------------------------------


def tokens(text: str) -> list[Any]:
    """What a Markdown reader makes of a text."""
    found = []
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        found += [token, *(token.children or [])]
    return found


def test_markdown_shows_hostile_text_as_text() -> None:
    """No link, image, emphasis or element comes of it; what isn't text is what we wrote ourselves."""
    found = tokens(markdown([reports.hostile()]))
    assert not [t.type for t in found if t.type in ("link_open", "image", "em_open", "s_open")]
    elements = {t.content.strip() for t in found if t.type == "html_inline"} | {"<code>", "</code>"}
    assert elements == {"<code>", "</code>"}
    blocks = " ".join(t.content for t in found if t.type == "html_block")
    assert "<img" not in blocks
    assert "<script" not in blocks
    assert "://" not in "".join(t.content for t in found if t.type == "text")


def test_markdown_that_is_not_escaped_is_seen() -> None:
    """The test above would see it."""
    kinds = {token.type for text in reports.EVIL for token in tokens(f"a {text}")}
    assert {"link_open", "html_inline"} <= kinds or {"strong_open", "html_inline"} <= kinds


def test_markdown_has_a_row_for_each_profile_and_the_failures() -> None:
    """And says what to type to see them again."""
    both = reports.runs()
    text = markdown(both)
    assert text.startswith("## 1 of 2 conform")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == sum(len(run.report.profiles) for run in both)
    assert "equal twice the loss" in text
    assert "infonce-conformance run implementations:doubled" in text


# --- badge ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_badges_are_what_they_should_be(kind: str) -> None:
    """The endpoint's keys; a picture that parses, with the same words."""
    run = KINDS[kind]()
    content = json.loads(endpoint(run))
    assert content["schemaVersion"] == 1
    assert {*content} <= {"schemaVersion", "label", "message", "color", "isError"}
    picture = ElementTree.fromstring(svg(run))
    assert picture.attrib["aria-label"].startswith(content["label"][:80])
    assert {child.tag.rpartition("}")[2] for child in picture.iter()} == {
        "svg",
        "title",
        "clipPath",
        "g",
        "rect",
        "text",
    }


def test_a_badge_says_what_is_met() -> None:
    """The required profiles, or how many of their clauses."""
    sound, wrong = reports.runs()
    assert json.loads(endpoint(sound))["message"] == "all profiles"
    message = json.loads(endpoint(wrong))["message"]
    met, _, asked = message.partition(" ")[0].partition("/")
    assert 0 < int(met) < int(asked)
    assert message.endswith("of core, grad")


# --- page ----------------------------------------------------------------------------------------------------------


def test_the_page_embeds_its_data_whatever_it_holds() -> None:
    """Nothing in the JSON can end the script element or begin a comment; it is the same JSON still."""
    value = {"text": [*reports.EVIL[:5], "<!--", "]]>", "&amp;"]}
    text = embedded(value)
    assert not {"<", ">", "&"} & {*text}
    assert json.loads(text) == value


def test_the_page_holds_no_markup_from_a_report() -> None:
    """Two scripts, ours, and no element that a report brought."""
    text = page([reports.hostile()])
    assert text.count("<script") == 2
    assert "<img" not in text
    assert "window.owned = 1<" not in text


def test_the_page_lets_nothing_else_run() -> None:
    """Its security policy names the hashes of its own style and script, and no address."""
    text = page([reports.of_each_status()])
    assert "default-src &#39;none&#39;; style-src &#39;sha256-" in text
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text


def test_the_page_has_every_result_and_every_script() -> None:
    """A case for each line; a script's lines, joined, are the script."""
    runs = reports.runs()
    found = data(runs)
    assert len(found["cases"]) == sum(len(run.results) for run in runs)
    assert found["statuses"] == STATUSES
    _, wrong = runs
    lines = {f"{line['id']}": line for line in wrong.results}
    scripts = {found["ids"][found["cases"][i][1]]: d["script"] for i, d in found["details"].items() if d.get("script")}
    assert scripts
    for identity, numbers in scripts.items():
        expected = wrong.reproducer.script(lines[identity])
        assert expected is not None
        assert "\n".join(found["lines"][n] for n in numbers) == expected.rstrip("\n")


# --- scripts -------------------------------------------------------------------------------------------------------


def scripts_of(run: Any, part: str) -> list[tuple[dict[str, Any], str]]:
    failing = [line for line in run.results if line["status"] == "fail" and line["id"].endswith(part)]
    return [(line, text) for line in failing if (text := run.reproducer.script(line)) is not None]


def executed(text: str, folder: Path = EXAMPLES) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=False)


WRONG = """
import textbook

def loss(query, positive_key, *, temperature):
    return 2 * textbook.in_torch(query, positive_key, temperature=temperature)
"""


@pytest.mark.parametrize("part", ["/loss", "/grad", "/temperature"])
def test_a_script_shows_the_failure_without_the_suite(part: str, tmp_path: Path) -> None:
    """It imports nothing of the suite, gets what the suite got, and exits with 1."""
    pytest.importorskip("torch")
    shutil.copy(EXAMPLES / "textbook.py", tmp_path)
    (tmp_path / "twice.py").write_text(WRONG)
    line, text = asked_of("twice:loss", "torch", f"benign.plain*float32{part}", tmp_path)
    assert line["status"] == "fail"
    assert "infonce_ref" not in text
    done = executed(text, tmp_path)
    assert done.returncode == 1, done.stderr
    assert f"got       {line['worst']['got']}" in done.stdout
    assert math.isclose(float(done.stdout.split("r = ")[1]), line["r"], rel_tol=0.02)  # of a bound of three digits


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("part", ["/loss", "/grad"])
def test_a_script_speaks_the_target_s_framework(library: str, part: str) -> None:
    """Its gradients as returned, by autograd or by jax.grad; of a sound target, the script finds nothing wrong."""
    pytest.importorskip(library)
    line, text = asked_of(f"textbook:in_{library}", library, f"benign.plain*float32{part}", EXAMPLES)
    assert line["status"] == "pass"
    done = executed(text)
    assert done.returncode == 0, done.stderr
    assert math.isclose(float(done.stdout.split()[3]), float(line["worst"]["got"]), rel_tol=1e-5)


def test_a_script_shows_what_is_accepted_and_must_be_refused(tmp_path: Path) -> None:
    """It exits with 1 if the call goes through."""
    line, text = asked_of("textbook:in_numpy", "numpy", "errors.temperature.negative*/refused", EXAMPLES, "errors")
    assert line["status"] == "fail"
    done = executed(text)
    assert done.returncode == 1
    assert "must be refused" in done.stdout


def asked_of(target: str, framework: str, only: str, folder: Path, profile: str | None = None) -> tuple[Any, str]:
    """The first result of a run of one's own, in its own process, and its script."""
    with contextlib.chdir(folder):
        report = check_loss(target, framework=framework, only=only, profile=profile)
    header, *results, _ = reports.lines_of(report)
    line = min(results, key=lambda line: STATUSES.index(line["status"]))
    text = Reproducer(header).script(line)
    assert text is not None
    return line, text


def test_a_script_s_literals_are_the_inputs_bit_for_bit() -> None:
    """The arrays that the script makes are the vector's."""
    import numpy as np

    from infonce_ref.conformance.problem import Problem

    run = reports.runs()[1]
    line, text = scripts_of(run, "float32/loss")[0]
    question = run.reproducer.question(line)
    made: dict[str, Any] = {}
    begin = text.index("nan, inf")
    exec("import math\nimport numpy as np\n" + text[begin : text.index("returned")], made)
    for name, array in Problem.from_json(question.problem).arrays.items():
        assert made[name].dtype == np.float32
        assert [as_fraction(float(x)) for x in made[name].ravel()] == [as_fraction(float(x)) for x in array.ravel()]


@pytest.mark.parametrize(
    "call",
    [
        "__import__('os').system('true')",
        "f(query=__import__('os'))",
        "f(query=(lambda: 1)())",
        "f(query)(query)(query)",
        "f(print(1))(query=query)",
        "(lambda: f)()(query=query)",
        "f(query=[x for x in (1,)])",
        "f(",
    ],
)
def test_a_report_does_not_bring_code_into_a_script(call: str) -> None:
    """A resolved call is names and constants; anything else makes no script."""
    header, *results = reports.lines_of(reports.wrong())
    line = next(line for line in results if line.get("status") == "fail")
    assert Reproducer({**header, "resolved": call}).script(line) is None


def test_scripts_are_written_beside_a_report(tmp_path: Path) -> None:
    """A file for each failing check that a script can show."""
    source = reports.written(reports.wrong(), tmp_path / "out.jsonl")
    assert main(["report", str(source), "--reproduce", str(tmp_path / "scripts")]) == 0
    run = read(source)
    names = {filename(line["id"]) for line, _ in scripts_of(run, "")}
    assert {path.name for path in (tmp_path / "scripts").iterdir()} == names


# --- the command ---------------------------------------------------------------------------------------------------


def test_report_writes_every_form(tmp_path: Path) -> None:
    """From files alone; the exit code is 0, since it reports and doesn't judge."""
    one = reports.written(reports.sound(), tmp_path / "one.jsonl")
    two = reports.written(reports.wrong(), tmp_path / "two.jsonl")
    out = {name: tmp_path / f"out.{name}" for name in ("html", "junit", "markdown")}
    assert main(["report", str(one), str(two), *(w for name, p in out.items() for w in (f"--{name}", str(p)))]) == 0
    assert all(path.stat().st_size > 1000 for path in out.values())
    assert main(["report", str(one), "--badge", str(tmp_path / "badge.svg")]) == 0
    assert (tmp_path / "badge.svg").read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.parametrize(
    "options",
    [[], ["--html", "no/such/folder/out.html"], ["--html", "."], ["{again}", "--badge", "badge.json"]],
)
def test_report_refuses_what_makes_no_sense(options: list[str], tmp_path: Path) -> None:
    """Nothing to write, nowhere to write it, a badge of two."""
    source = str(reports.written(reports.wrong(), tmp_path / "one.jsonl"))
    assert main(["report", source, *(o.format(again=source) for o in options)]) == 2


# --- the terminal --------------------------------------------------------------------------------------------------


def test_the_terminal_tells_every_status() -> None:
    """Known failures and those that pass have their own words, and don't count as failures."""
    console = Console(width=120, record=True, color_system=None, highlight=False)
    Terminal(console).summary(reports.of_each_status().report)
    out = console.export_text()
    assert "1 pass, 1 fail, 1 error, 1 timeout, 1 xfail, 1 xpass, 1 n/a" in out
    assert "does not conform to core: 3 checks fail, of rows.softplus" in out
