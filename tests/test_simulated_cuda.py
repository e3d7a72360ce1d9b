"""tests/test_cupy.py on a machine without a GPU: CuPy's own code on a simulated device, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.simulated_cuda import CannotBuild, compiler, environment

ROOT = Path(__file__).parent.parent


def simulated() -> dict[str, str]:
    """The environment of a process with CuPy. Where none can be made the test is skipped, or fails if required."""
    try:
        needed = environment()
    except CannotBuild as reason:
        told = f"CuPy was not tested: {reason}"
        if os.environ.get("INFONCE_CUPY") == "required":
            pytest.fail(told)
        pytest.skip(told)
    return {**os.environ, **needed}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_cupy_on_a_simulated_device(tmp_path: Path) -> None:
    """[input.array] Every test of CuPy runs there and passes; none is skipped."""
    command = ["-m", "pytest", "tests/test_cupy.py", "-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1"]
    report = tmp_path / "report.xml"
    environ = {name: x for name, x in simulated().items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, *command, f"--junitxml={report}"],
        cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(done.stdout[-4000:])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (suite,) = ElementTree.parse(report).getroot()
    assert int(suite.attrib["tests"]) > 300
    assert suite.attrib["skipped"] == "0"


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("tests.simulated_cuda.find_spec", lambda name: None)
    with pytest.raises(CannotBuild, match="no C\\+\\+ compiler"):
        compiler()


def test_where_it_is_required_it_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """With INFONCE_CUPY=required a machine that can't build it fails."""

    def missing() -> None:
        raise CannotBuild("nothing here")

    monkeypatch.setattr("tests.test_simulated_cuda.environment", missing)
    monkeypatch.setenv("INFONCE_CUPY", "required")
    with pytest.raises(pytest.fail.Exception, match="CuPy was not tested: nothing here"):
        simulated()
    monkeypatch.delenv("INFONCE_CUPY")
    with pytest.raises(pytest.skip.Exception):
        simulated()
