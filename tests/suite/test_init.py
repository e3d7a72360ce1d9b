"""init: the three files, for any target that the suite can resolve."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
import yaml

from infonce_ref.conformance.cli import main
from infonce_ref.conformance.commands.init import ADAPTER, WORKFLOW
from infonce_ref.conformance.known import DEFAULT_FILE

HERE = Path(__file__).parent
NAMES = ["--map", "query=first", "--map", "positive_key=second", "--map", "temperature=warmth", "--const", "mode=a, b"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with implementations in it, which is the current one."""
    (tmp_path / "implementations.py").write_text((HERE / "implementations.py").read_text(encoding="utf-8"))
    (tmp_path / "more.py").write_text(MORE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


MORE = """
import implementations
import math

def by_log_scale(q, k, log_scale):
    return implementations.textbook(q, k, temperature=math.exp(-log_scale))

def named(first, second, *, warmth, mode):
    assert mode == "a, b"
    return implementations.textbook(first, second, temperature=warmth)

class Losses:
    @staticmethod
    def contrast(q, k, tau):
        return implementations.textbook(q, k, temperature=tau)
"""


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("implementations:textbook", []),
        ("implementations:scaled", []),
        ("implementations:Module", []),
        ("implementations:torch_textbook", ["--framework", "torch"]),
        ("implementations:jax_textbook", ["--framework", "jax"]),
        ("implementations:reads_shared", ["--reading", "shared"]),
        ("infonce_ref:info_nce", []),
        ("more:by_log_scale", []),
        ("more:named", NAMES),
        ("more:Losses.contrast", []),
        (None, []),
        (None, ["--framework", "torch"]),
        (None, ["--framework", "jax"]),
    ],
)
def test_the_adapter_conforms_as_the_target_does(
    target: str | None, options: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that init prints gives the verdict that the target deserves; without a target, the textbook's."""
    assert main(["init", *(["--target", target] if target else []), *options]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "next:  infonce-conformance run infonce_adapter:ours"
    assert main(["run", "infonce_adapter:ours", "--only", "benign"]) == 0
    out = capsys.readouterr().out
    assert f"known failures: 0 entries of {DEFAULT_FILE}" in out
    assert out.splitlines()[-1].startswith("infonce_adapter:ours conforms to core, grad")
    adapter = (folder / ADAPTER).read_text(encoding="utf-8")
    assert max(map(len, adapter.splitlines())) <= 120
    ast.parse(adapter)


def test_the_reading_is_declared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the target makes of explicit negatives is asked of the adapter too."""
    main(["init", "--target", "implementations:reads_shared", "--reading", "shared"])
    assert main(["run", "infonce_adapter:ours", "--only", "fresh.shared", "--profile", "negatives"]) == 0
    assert "not applicable" not in capsys.readouterr().out.splitlines()[-1]


def test_all_arguments_reach_the_target(folder: Path) -> None:
    """The reference behind an adapter has lost nothing: masks, margins, similarities, reductions."""
    main(["init", "--target", "infonce_ref:info_nce"])
    assert (
        main(
            [
                "run",
                "infonce_adapter:ours",
                "--only",
                "fresh*float64/loss",
                "--profile",
                "core,negatives,masks,variants",
            ]
        )
        == 0
    )


def test_the_other_two_files(folder: Path) -> None:
    """The workflow is YAML that runs the adapter; the known failures are TOML without an entry."""
    main(["init", "--framework", "torch"])
    workflow = yaml.safe_load((folder / WORKFLOW).read_text(encoding="utf-8"))
    runs = [step["run"] for step in workflow["jobs"]["conformance"]["steps"] if "run" in step]
    assert "pip install torch 'infonce-ref[conformance]==" in runs[0]
    assert "infonce-conformance run infonce_adapter:ours --loss info_nce" in runs[1]
    assert tomllib.loads((folder / DEFAULT_FILE).read_text(encoding="utf-8")) == {}


def test_nothing_is_overwritten_unasked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file that is there, and none is written; --force overwrites all but known failures that have entries."""
    known = '[[known]]\npattern = "a"\nreason = "b"\nexpires = 2999-01-01\n'
    (folder / DEFAULT_FILE).write_text(known)
    assert main(["init"]) == 2
    assert f"{DEFAULT_FILE} is there already: --force overwrites it" in capsys.readouterr().err
    assert not (folder / ADAPTER).exists()
    (folder / ADAPTER).write_text("mine")
    assert main(["init", "--force"]) == 0
    assert (folder / DEFAULT_FILE).read_text() == known
    assert (folder / ADAPTER).read_text() != "mine"


def test_another_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The target is looked for there, and the next command begins by going there; a folder that isn't there is made."""
    assert main(["init", "new/folder"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("next:  cd new/folder && infonce-conformance")
    (folder / "new" / "folder" / "own.py").write_text("def f(q, k, tau):\n    return 0.0\n")
    assert main(["init", "new/folder", "--force", "--target", "own:f"]) == 0
    assert "own.f(q=query, k=positive_key, tau=temperature)" in (folder / "new" / "folder" / ADAPTER).read_text()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--target", "implementations:nothing"], 3, "has no nothing"),
        (["--target", "implementations:many_names"], 3, "no parameter looks like query"),
        (["--target", "implementations"], 3, "pkg.mod:attr"),
        (["--loss", "clip"], 2, "which function computes clip"),
        (["no/folder", "--target", "implementations:textbook"], 2, "no/folder is no folder"),
        (["implementations.py/x"], 2, "can't make implementations.py/x"),
    ],
)
def test_what_can_not_be_done_is_said_and_nothing_written(
    options: list[str], code: int, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """3 for a target that can't be resolved, 2 for the rest."""
    assert main(["init", *options]) == code
    assert words in capsys.readouterr().err
    assert not (folder / ADAPTER).exists()
