"""The `library` fixture: every test that takes it runs on every array library. What tests measure, kept and told."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from tests.libraries import LIBRARIES, Library, torch_on

collect_ignore = ["suite/exits_on_import.py"]  # doctests are looked for in every module, and this one ends the process
HERE = [name for name in LIBRARIES if name != "cupy" or find_spec("cupy")]  # without CuPy one skipped test says so


# Of tests that are many and alike, one in so many runs by default; INFONCE_ALL=1 runs all. The rest is "deselected".
ONE_IN = {
    "test_bounds_family.py::test_wrong_factors_are_beyond_every_bound": 3,
    "test_family.py::test_loss_and_gradients_are_exact_within_the_bound[jax": 3,
    "test_oracle_family.py::": 3,
    "test_backend_torch.py::": 3,
    "test_distributed.py::test_what_gathers_with_gradients_conforms": 3,
    "test_diagnosis.py::test_the_correct_zoo_gets_no_diagnosis": 3,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Thin out what is many and alike; which ones stay depends on their order alone."""
    if os.environ.get("INFONCE_ALL"):
        return
    seen: Counter[str] = Counter()
    kept, left = [], []
    for item in items:
        kind = next((part for part in ONE_IN if part in item.nodeid and "[" in item.nodeid), None)
        (kept if kind is None or seen[kind] % ONE_IN[kind] == 0 else left).append(item)
        seen[kind or ""] += 1
    if len(kept) > len(left) and left:  # a test asked for by its name runs
        config.hook.pytest_deselected(items=left)
        items[:] = kept


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


@pytest.fixture
def outcomes(record_property: Callable[[str, object], None]) -> Iterator[Counter[str]]:
    """How often a test saw what; kept in the run's results even if the test fails on the way."""
    seen: Counter[str] = Counter()
    yield seen
    for outcome, count in seen.items():
        record_property(outcome, count)


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
