"""Targets that die, hang, print or grow in their process: each request gets a reply that says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infonce_ref.conformance.adapters.resolve import Unusable
from infonce_ref.conformance.adapters.wire import unpack
from infonce_ref.conformance.problem import Problem
from infonce_ref.conformance.runner import MAX_DEATHS_IN_A_ROW, ChildRunner, LocalRunner

PAIR = {"query": np.array([[1.0, 0.5], [0.25, 2.0]]), "positive_key": np.array([[1.0, 0.75], [-1.0, 2.0]])}
Start = Callable[..., ChildRunner]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts runners on what implementations.py holds, in the folder where it lies, and ends them."""
    monkeypatch.chdir(Path(__file__).parent)
    running: list[ChildRunner] = []

    def begin(name: str, framework: str = "numpy", **options: Any) -> ChildRunner:
        running.append(ChildRunner(f"implementations:{name}", framework, **options))
        return running[-1]

    yield begin
    for runner in running:
        runner.close()


def request(
    dtype: str = "float32", want: tuple[str, ...] = ("loss",), name: str = "r1", **options: Any
) -> dict[str, Any]:
    problem = Problem(dtype, PAIR, 0.5, **options)
    return {"id": name, "loss": "info_nce", "dtype": dtype, "problem": problem.to_json(), "want": list(want)}


def test_a_child_answers_as_a_callable_here_does(start: Start) -> None:
    """The very same bits, by either runner."""
    from tests.suite.implementations import textbook

    asked = request(want=("query", "positive_key"))
    there, here = start("textbook").ask(asked), LocalRunner(textbook, "numpy").ask(asked)
    assert there == here
    assert set(there) == {"id", "loss", "grad"}


def test_hello_tells_the_resolved_call(start: Start) -> None:
    """Before the first request."""
    hello = start("scaled").start()
    assert hello["resolved"] == "scaled(q=query, k=positive_key, logit_scale=1/temperature)"
    assert "numpy" in hello["versions"]


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("exits", "dead", "exited with code 7; last words: these are the last words"),
        ("leaves", "dead", "exited with code 0"),
        ("hangs", "timeout", "no answer within 1 s"),
        ("hungry", "refused", "Memory"),
        ("refuses_everything", "refused", "ValueError: no"),
    ],
)
def test_what_happens_to_a_target_is_told(start: Start, name: str, key: str, words: str) -> None:
    """A crash, an exit, a hang, too large an array and an exception are replies."""
    assert words in start(name, timeout=1.0 if name == "hangs" else 60.0).ask(request())[key]


def test_a_dead_target_is_started_again(start: Start) -> None:
    """One death is one failed request."""
    runner = start("exits")
    assert "exited" in runner.ask(request())["dead"]
    assert "exited" in runner.ask(request(name="r2"))["dead"]


def test_a_target_that_only_dies_is_given_up(start: Start) -> None:
    """After a few deaths in a row nothing more is started."""
    runner = start("exits")
    for i in range(MAX_DEATHS_IN_A_ROW):
        runner.ask(request(name=f"r{i}"))
    assert "not asked" in runner.ask(request(name="last"))["dead"]
    assert runner.process is None


def test_printing_does_not_reach_the_wire(start: Start) -> None:
    """Not even what looks like an answer; nor does a flood block."""
    runner = start("chatty")
    replies = [runner.ask(request(name=f"r{i}")) for i in range(3)]
    assert replies[0]["loss"] == replies[2]["loss"] != {"dtype": "float64", "shape": [], "bits": ["0" * 16]}


def test_a_fork_does_not_answer_twice(start: Start) -> None:
    """The second process ends without a word."""
    runner = start("forks")
    replies = [runner.ask(request(name=f"r{i}")) for i in range(3)]
    assert [r["id"] for r in replies] == ["r0", "r1", "r2"]


@pytest.mark.parametrize(
    "target", ["implementations:missing", "implementations:NUMBER", "exits_on_import:f", "no_such:f"]
)
def test_a_target_that_cannot_start_is_unusable(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not found, not callable, or its import ends the process."""
    monkeypatch.chdir(Path(__file__).parent)
    runner = ChildRunner(target, "numpy")
    with pytest.raises(Unusable):
        runner.start()
    assert runner.process is None


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("framework", ["numpy", "torch", "jax", "array-api:array_api_strict"])
def test_arrays_arrive_bit_for_bit(framework: str, dtype: str) -> None:
    """Subnormals, minus zero and extremes go through every library unchanged, there and back."""
    seen = {"float64": 2.0**-1074, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}[dtype]
    rows = np.array([[seen, -0.0, 1.5], [-3.0, 0.0, -seen]])

    def echo(query: Any, positive_key: Any, temperature: float) -> Any:
        return query

    problem = Problem(dtype, {"query": rows, "positive_key": rows}, 0.5)
    asked = {"id": "r1", "problem": problem.to_json(), "want": ["loss"]}
    reply = LocalRunner(echo, framework).ask(asked)
    if framework.startswith("array-api") and dtype in ("float16", "bfloat16"):
        assert "array_api_strict has no" in reply["na"]
        return
    assert reply["loss"]["bits"] == problem.to_json()["arrays"]["query"]["bits"]
    assert unpack(reply["loss"])[0] == dtype


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_gradients_come_from_the_library(framework: str) -> None:
    """Of the sum, for every argument asked for, temperature among them; an argument that isn't used has gradient 0."""

    def cubes(query: Any, positive_key: Any, temperature: Any) -> Any:
        return (query**3).sum(-1) * temperature

    asked = {**request("float64", ("query", "positive_key", "temperature")), "temperature_as": "array"}
    grad = {name: unpack(a)[1] for name, a in LocalRunner(cubes, framework).ask(asked)["grad"].items()}
    assert np.array_equal(grad["query"], 1.5 * PAIR["query"] ** 2)
    assert np.array_equal(grad["positive_key"], np.zeros((2, 2)))
    assert grad["temperature"] == np.sum(PAIR["query"] ** 3)


def test_a_detached_loss_is_an_error() -> None:
    """Where gradients are wanted and the loss carries none, the target has failed, it isn't excused."""

    def detached(query: Any, positive_key: Any, temperature: Any) -> Any:
        return query.detach().sum()

    assert "no gradient" in LocalRunner(detached, "torch").ask(request(want=("query",)))["refused"]


def test_value_and_grad_is_called_where_the_library_has_no_autodiff() -> None:
    """The reference on NumPy."""
    from infonce_ref import info_nce

    asked = {**request("float64", ("query", "temperature")), "temperature_as": "array"}
    reply = LocalRunner(info_nce, "numpy").ask(asked)
    assert set(reply["grad"]) == {"query", "temperature"}
