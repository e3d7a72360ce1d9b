"""A new user's trial: the guide's first page, the workflow that init writes and the action, run from the wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_packaging import LEFT_OUT, ROOT, python

pytestmark = pytest.mark.slow
PAGE = ROOT / "docs" / "guide" / "start.md"
ACTION = ROOT / "conformance" / "action" / "action.yml"
LONGEST = 300  # seconds from nothing to the first verdict
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script(page: str) -> str:
    """The page as a shell script that checks each command's exit code and prints when it ended."""
    lines = ["SECONDS=0"]
    for kind, content in BLOCK.findall(page):
        if kind == "python":
            name = content.splitlines()[0].removeprefix("# ")
            lines.append(f"cat > {name} <<'END'\n{content}END")
            continue
        for command in content.splitlines():
            said = re.search(r"# exits with (\d)$", command)
            expected = said.group(1) if said else "0"
            lines += [
                f"echo '$ {command}'",
                command,
                f"code=$?; test $code = {expected} || {{ echo exited $code; exit 9; }}",
            ]
            lines.append('echo "@ $SECONDS"')
    return "\n".join(lines) + "\n"


def environment(**more: str) -> dict[str, str]:
    """That of someone who has nothing of ours."""
    names = (
        "HOME",
        "PATH",
        "LANG",
        "TMPDIR",
        "PIP_INDEX_URL",
        "PIP_CONFIG_FILE",
        "PIP_EXTRA_INDEX_URL",
        "SSL_CERT_FILE",
    )
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}


def shell(text: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The text run by bash, as GitHub runs a step if it has `more`."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", *(["-eo", "pipefail"] if more else []), "-c", text],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST * 2,
    )


@dataclass(frozen=True)
class Trial:
    """What is left of following the page."""

    folder: Path
    tree: Path
    output: str

    @property
    def path(self) -> str:
        """PATH with the environment that the page made."""
        return f"{self.folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def until(self, words: str) -> int:
        """Seconds to the end of the first command that contains `words`."""
        found = re.search(r"^@ (\d+)$", self.output[self.output.index(words) :], re.MULTILINE)
        assert found is not None
        return int(found.group(1))


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """A copy of the tree, its wheel, and the page followed in a folder with that wheel alone."""
    tree, folder = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("trial")
    for name in ("infonce_ref", "backends", "conformance"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=LEFT_OUT)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    python("-m", "build", "--wheel", "--outdir", folder, ".", cwd=tree)
    done = shell(script(PAGE.read_text(encoding="utf-8")), folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Trial(folder, tree, done.stdout)


def test_every_command_of_the_page_does_what_it_says(
    trial: Trial, record_property: Callable[[str, object], None]
) -> None:
    """The exit codes hold (else there is no trial), the wrong loss is told by its clause, and five minutes suffice."""
    first, second = trial.until("$ infonce-conformance run mine:contrast"), trial.until("$ infonce-conformance verify")
    record_property("first verdict", first)
    record_property("end", second)
    assert first < LONGEST
    wrong = trial.output.split("$ infonce-conformance")[1]
    assert "contrast(z1=query, z2=positive_key, tau=temperature)" in wrong
    assert re.search(r"does not conform to core, grad: .*similarity\.cosine", wrong)
    assert (trial.folder / "report.html").stat().st_size > 10_000


def test_a_page_that_is_wrong_is_seen(tmp_path: Path) -> None:
    """A command that exits otherwise than it is said to stops the script."""
    page = "```python\n# a.py\nimport sys\nsys.exit(3)\n```\n\n```sh\npython3 a.py    # exits with {}\n```\n"
    assert shell(script(page.format(3)), tmp_path).returncode == 0
    assert shell(script(page.format(4)), tmp_path).returncode == 9


def ran(steps: list[dict[str, Any]], folder: Path, inputs: dict[str, str], **more: str) -> int:
    """The `run` steps of a job in bash, their `env` given, up to the first that fails: its exit code."""
    for step in steps:
        if "run" not in step:
            continue
        given = {
            k: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: inputs[m[1]], v)
            for k, v in step.get("env", {}).items()
        }
        done = shell(step["run"], folder, **more, **given)
        if done.returncode:
            print(done.stdout[-3000:], done.stderr[-3000:])
            return done.returncode
    return 0


def github(trial: Trial, folder: Path) -> dict[str, str]:
    """What GitHub sets for a step, and where the wheel is found."""
    paths = {
        "GITHUB_STEP_SUMMARY": folder / "summary.md",
        "GITHUB_OUTPUT": folder / "output",
        "PIP_FIND_LINKS": trial.folder,
    }
    return {"PATH": trial.path, **{name: str(path) for name, path in paths.items()}}


def copied(trial: Trial, folder: Path) -> None:
    """A repository with the loss and what init wrote."""
    for name in ("mine.py", "infonce_adapter.py", "infonce-known-failures.toml"):
        shutil.copy(trial.folder / name, folder / name)


def test_the_workflow_that_init_writes_runs(trial: Trial, tmp_path: Path) -> None:
    """Its steps, in bash, write the summary and the reports that it uploads."""
    copied(trial, tmp_path)
    workflow = yaml.safe_load((trial.folder / ".github/workflows/infonce-conformance.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["conformance"]["steps"]
    assert ran(steps, tmp_path, {}, **github(trial, tmp_path)) == 0
    assert "conforms to core, grad" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    upload = next(step for step in steps if "upload-artifact" in step.get("uses", ""))
    assert {p.name for p in (tmp_path / upload["with"]["path"]).iterdir()} == {
        "report.jsonl",
        "report.html",
        "junit.xml",
    }


ASKED = [
    ("mine:contrast", "--only benign", 0),
    ("mine:contrast", "--only no-such-check --seed 3", 2),
    ("mine:nothing", "", 3),
]


@pytest.mark.parametrize(("target", "arguments", "code"), ASKED)
def test_the_action_runs(target: str, arguments: str, code: int, trial: Trial, tmp_path: Path) -> None:
    """Its steps install the suite from the action's own copy, judge, and hand on the exit code."""
    copied(trial, tmp_path)
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    defaults = {name: str(about.get("default", "")) for name, about in action["inputs"].items()}
    inputs = {**defaults, "target": target, "arguments": arguments}
    more = {**github(trial, tmp_path), "GITHUB_ACTION_PATH": str(trial.tree / "conformance" / "action")}
    assert ran(action["runs"]["steps"], tmp_path, inputs, **more) == code
    assert (tmp_path / "output").read_text() == f"exit-code={code}\n"
    if code == 0:
        assert {p.name for p in (tmp_path / inputs["report"]).iterdir()} == {"report.jsonl", "report.html", "junit.xml"}


def test_the_action_is_well_formed() -> None:
    """Composite; each step of its own names a shell; every input that is read is declared; none stands in a script."""
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    assert action["runs"]["using"] == "composite"
    text = ACTION.read_text(encoding="utf-8")
    assert {*re.findall(r"inputs\.([\w-]+)", text)} == {*action["inputs"]}
    for step in action["runs"]["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert "run" not in step or (step["shell"] == "bash" and "${{" not in step["run"])
    for value in re.findall(r"steps\.([\w-]+)\.", text):
        assert value in {step.get("id") for step in action["runs"]["steps"]}
