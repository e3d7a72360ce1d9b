"""Vectors for those who compute elsewhere, and the verdict on what they computed."""

from __future__ import annotations

import csv
import json
import struct
from collections import Counter, defaultdict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infonce_ref.conformance.answers import FRESH, AnswersRunner, as_wire, nearest_bfloat16
from infonce_ref.conformance.cli import main
from infonce_ref.conformance.export import WRITERS
from infonce_ref.conformance.load import losses, vector_questions
from infonce_ref.conformance.problem import Problem, from_bits
from infonce_ref.conformance.results import Usage
from infonce_ref.conformance.runner import LocalRunner
from tests.suite.implementations import doubled, textbook

LOSS = "info_nce"
Line = dict[str, Any]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The vectors in each format."""
    folder = tmp_path_factory.mktemp("export")
    assert {main(["export", "--loss", LOSS, "--format", name, "-o", str(folder)]) for name in WRITERS} == {0}
    return {name: folder / f"{LOSS}.{name}" for name in WRITERS}


@pytest.fixture(scope="module")
def rows(exported: dict[str, Path]) -> list[Line]:
    return json.loads(exported["json"].read_text(encoding="utf-8"))["rows"]


# --- export --------------------------------------------------------------------------------------------------------


def test_json_holds_every_vector_in_each_dtype(rows: list[Line]) -> None:
    """Inputs, values, bounds and clauses as the suite reads them itself."""
    questions = list(vector_questions(LOSS))
    assert [(r["id"], r["dtype"]) for r in rows] == [(q.id, q.dtype) for q in questions]
    for each, question in zip(rows, questions, strict=True):
        assert each["problem"] == question.problem
        assert each["clauses"] == list(question.clauses)
        for name, expected in question.find().expected.items():
            assert each["expected"][name]["values"] == expected["values"]


def test_two_doubles_are_the_decimal(rows: list[Line]) -> None:
    """hi + lo to 100 bits, wherever lo is no subnormal number."""
    compared = 0
    for each in rows[:60]:
        for values in each["expected"].values():
            for decimal, hi, lo in zip(values["values"], values["hi"], values["lo"], strict=True):
                if decimal is None or not 1e-200 < abs(Decimal(decimal)) < 1e200:
                    continue
                total = sum(Fraction(struct.unpack(">d", bytes.fromhex(bits))[0]) for bits in (hi, lo))
                assert abs(total / Fraction(Decimal(decimal)) - 1) < Fraction(1, 2**100)
                compared += 1
    assert compared > 500


def test_jsonl_is_the_same_a_row_a_line(exported: dict[str, Path], rows: list[Line]) -> None:
    """Behind a header that names edition and vectors."""
    head, *lines = map(json.loads, exported["jsonl"].read_text(encoding="utf-8").splitlines())
    assert head["type"] == "header"
    assert {"edition", "suite", "vectors", "loss"} <= {*head}
    assert lines == rows


def test_npz_holds_the_arrays_themselves(exported: dict[str, Path], rows: list[Line]) -> None:
    """Read without pickle; each argument in its own dtype, bit for bit."""
    with np.load(exported["npz"], allow_pickle=False) as arrays:
        about = json.loads(arrays["rows"].tobytes())["rows"]
        assert [r["id"] for r in about] == [r["id"] for r in rows]
        for each in rows[::7]:
            place = f"{each['id']}/{each['dtype']}"
            problem = Problem.from_json(each["problem"])
            for name, array in problem.arrays.items():
                stored = arrays[f"{place}/argument/{name}"]
                assert np.array_equal(stored.astype(np.float64), array.astype(np.float64), equal_nan=True)
                if each["dtype"] in ("float64", "float32") and each["expect"] != "refused" and array.dtype.kind == "f":
                    assert stored.dtype.name == each["dtype"]
            for name, values in each["expected"].items():
                hi = [from_bits(bits, "float64") for bits in values["hi"] if bits is not None]
                stored = arrays[f"{place}/hi/{name}"]
                assert stored.shape == tuple(values["shape"])
                assert np.array_equal(stored[~np.isnan(stored)], hi)


def test_csv_holds_a_number_a_line(exported: dict[str, Path], rows: list[Line]) -> None:
    """As many as there are, and the inputs can be read back from either column."""
    with exported["csv"].open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    found: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for line in table:
        found[line["id"], line["dtype"], line["part"], line["name"]].append(line)
    for each in rows[::11]:
        key = (each["id"], each["dtype"])
        for name, array in each["problem"]["arrays"].items():
            entries = found[(*key, "argument", name)]
            assert [int(line["index"]) for line in entries] == list(range(len(entries)))
            if "bits" in array:
                assert [line["bits"] for line in entries] == array["bits"]
                again = [from_bits(line["bits"], array["dtype"]) for line in entries]
                assert np.array_equal([float(line["value"]) for line in entries], again, equal_nan=True)
        for name, values in each["expected"].items():
            entries = found[(*key, "expected", name)]
            assert [line["value"] or None for line in entries] == values["values"]
            assert [line["bound"] or None for line in entries] == each["bound"].get(name, [None] * len(entries))


@pytest.mark.parametrize("loss", losses())
@pytest.mark.parametrize("form", ["npz", "csv"])
def test_every_loss_can_be_exported(loss: str, form: str, tmp_path: Path) -> None:
    """Whatever its arguments are called."""
    path = WRITERS[form](loss, tmp_path)
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    "words", [["--loss", "nonsense"], ["-o", "/dev/null/folder"]], ids=["unknown loss", "no such folder"]
)
def test_what_cannot_be_exported_is_usage(words: list[str]) -> None:
    """Exit code 2."""
    assert main(["export", *words]) == 2


# --- judge ---------------------------------------------------------------------------------------------------------


def answers(implementation: Any, plain: bool, profiles: tuple[str, ...] = ("core", "grad")) -> list[Line]:
    """What `implementation` gives to the vectors of some profiles, in decimals or in bits."""
    runner = LocalRunner(implementation, "numpy")
    found = []
    for question in vector_questions(LOSS):
        if question.profile not in profiles or question.dtype not in ("float64", "float32"):
            continue
        want = ["loss", *question.arrays]
        reply = runner.ask({"id": "r1", "problem": question.problem, "want": want})
        line = {"id": question.id, "dtype": question.dtype, "loss": reply["loss"], "grad": reply["grad"]}
        if plain:
            line["loss"] = decimals(line["loss"])
            line["grad"] = {name: decimals(array) for name, array in line["grad"].items()}
        found.append(line)
    return found


def decimals(array: Line) -> Any:
    numbers = [float(repr(np.array(from_bits(b, array["dtype"]), array["dtype"])[()].item())) for b in array["bits"]]
    return np.reshape(numbers, array["shape"]).tolist()


HELLO = {"hello": {"dtypes": ["float64", "float32"], "profiles": ["core", "grad"]}}


def file_of(folder: Path, lines: list[Line]) -> str:
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def right() -> list[Line]:
    return answers(textbook, plain=True)


@pytest.mark.parametrize("plain", [True, False])
def test_right_answers_conform(plain: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In decimals and in bits."""
    assert main(["judge", file_of(tmp_path, [HELLO, *answers(textbook, plain)])]) == 0
    assert capsys.readouterr().out.rstrip().endswith("conforms to core, grad")


def test_what_a_file_cannot_show_is_not_applicable(right: list[Line], tmp_path: Path) -> None:
    """Fresh problems, repetition, unchanged inputs; of decimals, their dtype. All else of core and grad passes."""
    report = tmp_path / "report.jsonl"
    assert main(["judge", file_of(tmp_path, [HELLO, *right]), "--report", str(report)]) == 0
    results = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()[1:-1]]
    for result in (r for r in results if r["profile"] in ("core", "grad") and r["dtype"] in ("float64", "float32")):
        unseen = "@" in result["id"] or result["clauses"][0] in ("call.pure", "call.repeatable", "dtype.result")
        assert result["status"] == ("n/a" if unseen else "pass")
    reasons = Counter(r["reason"] for r in results if "@" in r["id"] and r["profile"] == "core")
    assert reasons[FRESH] > 5
    assert main(["verify", str(report)]) == 0


def test_wrong_answers_do_not_conform(tmp_path: Path) -> None:
    """Twice the loss."""
    assert main(["judge", file_of(tmp_path, [HELLO, *answers(doubled, plain=True)])]) == 1


def test_a_vector_without_an_answer_is_an_error(
    right: list[Line], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Silence is no declaration."""
    assert main(["judge", file_of(tmp_path, [HELLO, *right[1:]])]) == 1
    assert "the file has no answer to this vector" in capsys.readouterr().out


def test_na_to_one_of_many_alike_is_an_error(
    right: list[Line], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is declared absent is absent everywhere."""
    line = {**{key: right[0][key] for key in ("id", "dtype")}, "na": "too hard"}
    assert main(["judge", file_of(tmp_path, [HELLO, line, *right[1:]])]) == 1
    assert "same arguments, keywords and dtype" in capsys.readouterr().out


def test_a_refusal_counts_where_it_should(right: list[Line], tmp_path: Path) -> None:
    """Bad input that was refused passes if sound input of that dtype is answered."""
    bad = [q for q in vector_questions(LOSS) if q.expect == "refused"]
    refused = [{"id": q.id, "dtype": q.dtype, "refused": "ValueError: no"} for q in bad]
    words = ["--only", "errors", "--profile", "errors"]
    assert main(["judge", file_of(tmp_path, [*right, *refused]), *words]) == 0
    assert main(["judge", file_of(tmp_path, refused), *words]) == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "holds no answer"),
        ([[1]], "isn't an object"),
        ([{"id": "x", "dtype": "float64", "loss": 1.0}], "no vector 'x'"),
        ([{"dtype": "float64", "loss": 1.0}], "the id of a vector"),
        ([{"losz": 1.0}], "has no 'losz'"),
        ([{}], "a reply has a loss"),
        ([{"loss": "much"}], "not a number"),
        ([{"loss": True}], "not a number"),
        ([{"loss": 1.0, "grad": {"query": [[1.0, 2.0], [3.0]]}}], "rows of different lengths"),
        ([{"loss": [[[[[[[[[1.0]]]]]]]]]}], "deep"),
        ([{"loss": 10**400}], "beyond every dtype"),
        ([{"loss": 1.0}, {"loss": 1.0}], "a second answer"),
        ([{"hello": {"colour": []}}, {"loss": 1.0}], "hello declares 'colour'"),
    ],
)
def test_a_file_that_is_none_is_usage(
    lines: list[Any], words: str, right: list[Line], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and a line that says what is wrong where."""
    name = {key: right[0][key] for key in ("id", "dtype")}
    bare = [isinstance(line, dict) and not {"id", "dtype", "hello"} & {*line} for line in lines]
    whole = [{**name, **line} if is_bare else line for line, is_bare in zip(lines, bare, strict=True)]
    assert main(["judge", file_of(tmp_path, whole)]) == 2
    assert words in capsys.readouterr().err


def test_a_missing_file_is_usage(tmp_path: Path) -> None:
    """Exit code 2, as for any name that was mistyped."""
    assert main(["judge", str(tmp_path / "nothing.jsonl")]) == 2
    with pytest.raises(Usage):
        AnswersRunner(tmp_path, LOSS)


def test_decimals_become_the_nearest_numbers() -> None:
    """Of the dtype; ties of bfloat16 to even; NaN and infinities by name."""
    assert as_wire([0.1, "nan", "-inf"], "float32")["bits"] == ["3dcccccd", "7fc00000", "ff800000"]
    assert as_wire(1e39, "float32")["bits"] == ["7f800000"]
    ties = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, 1.0, -np.inf])
    assert nearest_bfloat16(ties).tolist() == [1.0, 1 + 2.0**-6, 1.0, -np.inf]
    assert as_wire([float("nan")], "bfloat16")["bits"] == ["7fc0"]
    assert as_wire([[1.0], [2.0]], "float64")["shape"] == [2, 1]
