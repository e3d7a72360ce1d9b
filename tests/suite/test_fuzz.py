"""Damaged bytes on the wire, in vectors and in answers: a clear word and the documented exit code, never a traceback.

200 mutations of each here; `INFONCE_FUZZ=10000 pytest tests/suite -k mutation` tries more.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infonce_ref.conformance.adapters.declared import Declared
from infonce_ref.conformance.adapters.resolve import Unusable
from infonce_ref.conformance.adapters.text import TextWire, digits
from infonce_ref.conformance.adapters.wire import JsonWire
from infonce_ref.conformance.answers import AnswersRunner
from infonce_ref.conformance.checks import Check, all_checks, matching
from infonce_ref.conformance.cli import main
from infonce_ref.conformance.load import folder, vector_questions
from infonce_ref.conformance.problem import from_bits
from infonce_ref.conformance.results import Result, Usage
from infonce_ref.conformance.run import check_loss
from infonce_ref.conformance.runner import LocalRunner, received
from infonce_ref.conformance.session import Session
from tests.suite.fuzz import COUNT, mutations
from tests.suite.implementations import textbook

ONE = "benign.plain"
WIRES: Mapping[str, JsonWire | TextWire] = {"json": JsonWire(), "text": TextWire()}


class Damaged:
    """Gives the reply that damaged bytes are, as a process's would be received."""

    def __init__(self, wire: JsonWire | TextWire) -> None:
        self.wire, self.line = wire, b""

    def start(self) -> dict[str, Any]:
        return {}

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        message = self.wire.reply(self.line)
        return {"timeout": "no answer"} if message is None else received(message, self.wire)

    def close(self) -> None:
        """Nothing was begun."""


def as_text(reply: Mapping[str, Any]) -> bytes:
    """A reply in the whitespace form."""
    tokens = [reply["id"], "ok", str(1 + len(reply["grad"]))]
    for name, array in {"loss": reply["loss"], **reply["grad"]}.items():
        numbers = [digits(from_bits(bits, array["dtype"])) for bits in array["bits"]]
        tokens += [name, array["dtype"], str(len(array["shape"])), *map(str, array["shape"]), *numbers]
    return " ".join(tokens).encode() + b"\n"


@pytest.fixture(scope="module")
def checks() -> list[Check]:
    """A value, a gradient, shapes, dtypes, purity, repetition."""
    every = matching(all_checks("info_nce", 1), "*float64*")
    wanted = (f"{ONE}#", "call.")
    found = [c for c in every if any(w in c.id for w in wanted) and c.profile in ("core", "grad")]
    assert {c.id.split("/")[0].split(".")[1] for c in found} == {"benign", "call"}
    return found


@pytest.mark.parametrize("wire", [*WIRES])
def test_byte_mutations_of_replies(wire: str, checks: list[Check], outcomes: Counter[str]) -> None:
    """Each check has an outcome whatever came, one that a report can hold."""
    question = next(q for q in vector_questions("info_nce") if ONE in q.id and q.dtype == "float64")
    reply = LocalRunner(textbook).ask({"id": "r1", "problem": question.problem, "want": ["query", "positive_key"]})
    sound = json.dumps(reply).encode() if wire == "json" else as_text(reply)
    runner = Damaged(WIRES[wire])
    for line in mutations(sound):
        runner.line = line
        check = checks[outcomes.total() % len(checks)]
        result = Result(check, check.run(Session(runner)))
        json.dumps(result.record(), allow_nan=False)
        outcomes[result.status] += 1
    assert outcomes.total() == COUNT
    assert outcomes["error"] + outcomes["fail"] > COUNT / 4
    assert {*outcomes} <= {"pass", "fail", "error", "timeout", "n/a"}


@pytest.mark.parametrize(
    ("wire", "hello"),
    [
        (
            "json",
            b'{"id": "hello", "hello": {"arguments": ["query", "positive_key", "temperature"], "dtypes": ["float64"]}}',
        ),
        ("text", b"hello 2 arguments 3 query positive_key temperature dtypes 1 float64"),
    ],
    ids=[*WIRES],
)
def test_byte_mutations_of_a_declaration(wire: str, hello: bytes, outcomes: Counter[str]) -> None:
    """It is read, or refused with a reason, or no declaration at all, for which a program is given its time."""
    for line in mutations(hello):
        message = WIRES[wire].reply(line)
        said = (message or {}).get("hello")
        try:
            Declared("program", said if isinstance(said, dict) else {}, "info_nce")
        except Unusable as error:
            outcomes["refused" if str(error) else "no reason"] += 1
        else:
            none = "overlooked" if message is None else "nothing declared"
            outcomes["read" if isinstance(said, dict) else none] += 1
    assert {*outcomes} <= {"read", "refused", "nothing declared", "overlooked"}
    assert outcomes.total() == COUNT
    assert 0 < outcomes["read"] < COUNT


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """A folder that holds one file of vectors."""
    (tmp_path / "info_nce").mkdir()
    (tmp_path / "info_nce" / "benign.json").write_bytes(folder("info_nce").joinpath("benign.json").read_bytes())
    return tmp_path


def test_byte_mutations_of_a_vector_file(vectors: Path, outcomes: Counter[str]) -> None:
    """The suite says that its vectors are damaged, or, where a digit became another, runs to its verdict."""
    place = vectors / "info_nce" / "benign.json"
    sound = place.read_bytes()
    assert check_loss(textbook, vectors=vectors, only=f"{ONE}#").conforms
    complaints: list[str] = []
    for content in mutations(sound):
        place.write_bytes(content)
        try:
            list(vector_questions("info_nce", vectors))
        except Unusable as error:
            complaints.append(str(error))
            outcomes["refused"] += 1
        else:
            assert check_loss(textbook, vectors=vectors, only=f"{ONE}#*float64/loss").results
            outcomes["judged"] += 1
    assert len(complaints) > COUNT / 2
    assert all("damaged, in info_nce/benign.json: " in words for words in complaints)


ANSWERED = f"{ONE}#*float64/*"


@pytest.fixture
def answers() -> bytes:
    """A declaration, an answer in bits and one in decimals."""
    question = next(q for q in vector_questions("info_nce") if f"{ONE}#" in q.id and q.dtype == "float64")
    reply = LocalRunner(textbook).ask({"id": "r1", "problem": question.problem, "want": ["query", "positive_key"]})
    bits = {"id": question.id, "dtype": "float64", "loss": reply["loss"], "grad": reply["grad"]}
    decimals = {"loss": 0.56680464, "grad": {"query": [[0.5, "nan"], [1, -2e-3]]}}
    lines = [{"hello": {"dtypes": ["float64", "float32"]}}, bits, {**bits, "dtype": "float32", **decimals}]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def test_byte_mutations_of_answers(answers: bytes, vectors: Path, outcomes: Counter[str]) -> None:
    """The file is refused with the number of a line, or judged."""
    checks = [c for c in matching(all_checks("info_nce", 1, vectors), ANSWERED) if c.profile in ("core", "grad")]
    path = vectors / "answers.jsonl"
    statuses: set[str] = set()
    for content in mutations(answers):
        path.write_bytes(content)
        try:
            session = Session(AnswersRunner(path, "info_nce", vectors))
        except Usage as error:
            outcomes["refused" if "answers.jsonl" in str(error) else "no reason"] += 1
        else:
            statuses.update(check.run(session).status for check in checks)
            outcomes["judged"] += 1
    assert {*outcomes} <= {"refused", "judged"}
    assert statuses <= {"pass", "fail", "error", "n/a"}
    assert outcomes["refused"] > COUNT / 4


def test_judge_ends_with_the_documented_code(
    answers: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0, 1 or 5 for what is a file of answers, 2 for what is none, whatever else it holds."""
    path = tmp_path / "answers.jsonl"
    path.write_bytes(answers)
    words = ["judge", str(path), "--only", ANSWERED]
    assert main(words) == 0
    for content in mutations(answers, 12, seed=1):
        path.write_bytes(content)
        capsys.readouterr()
        code = main(words)
        assert code in (0, 1, 2, 5)
        assert ("answers.jsonl" in capsys.readouterr().err) == (code == 2)
