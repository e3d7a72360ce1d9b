"""The `library` fixture: every test that takes it runs on every array library. And the worst r of a run, at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from tests.libraries import LIBRARIES, Library, torch_on

collect_ignore = ["suite/exits_on_import.py"]  # doctests are looked for in every module, and this one ends the process
HERE = [name for name in LIBRARIES if name != "cupy" or find_spec("cupy")]  # without CuPy one skipped test says so


@pytest.fixture(params=HERE)
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    """Each array library, or those named by an indirect parametrisation."""
    with LIBRARIES[request.param]() as loaded:
        yield loaded


@pytest.fixture
def numpy_library() -> Iterator[Library]:
    with LIBRARIES["numpy"]() as loaded:
        yield loaded


@pytest.fixture
def meta() -> Iterator[Library]:
    """torch's meta device: arrays of shape and dtype without numbers."""
    with torch_on("meta") as loaded:
        yield loaded


@pytest.fixture
def conforms(record_property: Callable[[str, object], None]) -> Callable[[float], None]:
    """Asserts that r = |computed − exact| / bound is at most 1, and keeps it for the summary."""

    def check(r: float) -> None:
        record_property("r", r)
        assert r <= 1

    return check


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for every test function that measured r: its worst."""
    worst: dict[str, tuple[float, str]] = {}
    for report in terminalreporter.stats.get("passed", []):
        function, _, parameters = report.nodeid.partition("[")
        for name, value in report.user_properties:
            if name == "r":
                worst[function] = max(worst.get(function, (0.0, "")), (value, parameters.rstrip("]")))
    for function, (r, parameters) in worst.items():
        terminalreporter.write_line(f"worst r = {r:.3f}  {function}  {parameters}")
