"""The guide's page on programs and answers: every command runs, every example is what the wires write and read."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from infonce_ref.conformance.adapters.text import TextWire
from infonce_ref.conformance.adapters.wire import JsonWire, checked
from infonce_ref.conformance.load import vector_questions
from infonce_ref.conformance.runner import LONGEST_LINE, MAX_DEATHS_IN_A_ROW, MAX_STRAY_BYTES, MAX_STRAY_LINES
from tests.suite.test_programs import compiler, node

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guide" / "adapters.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def shims(tmp_path: Path) -> Path:
    """The commands of the page, by the names that they have there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    commands = {
        "cc": compiler(),
        "node": [node()],
        "python": [sys.executable],
        "infonce-conformance": [sys.executable, "-m", "infonce_ref.conformance"],
    }
    for name, words in commands.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


def test_every_command_of_the_page_runs(shims: Path, tmp_path: Path) -> None:
    """One after the other, in a folder that has a copy's docs; each exits with 0."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 6
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", "\n".join(commands)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "ZIG_GLOBAL_CACHE_DIR": str(tmp_path / "zig"),
            "ZIG_LOCAL_CACHE_DIR": str(tmp_path / "zig"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.count(" conforms to core, grad") == 3


def test_the_examples_are_what_the_wires_say() -> None:
    """Request, reply and declaration, the same in both forms."""
    request, reply, said = (json.loads(block) for block in blocks("json"))
    text_request, text_reply, text_said = blocks("text")
    assert TextWire().request(request).decode() == text_request
    found = TextWire().reply(text_reply.encode())
    assert found is not None
    assert checked(found) == checked(reply)
    assert TextWire().reply(text_said.encode()) == said
    assert JsonWire().reply(JsonWire().request(request)) == request


def test_the_example_of_answers_names_vectors_that_there_are() -> None:
    """By their ids."""
    (block,) = blocks("jsonl")
    ids = set(re.findall(r'"id": "([^"]+)"', block))
    assert len(ids) == 2
    assert ids <= {question.id for question in vector_questions("info_nce")}


def test_the_limits_are_those_of_the_runner() -> None:
    """As the page says them."""
    limits = f"{MAX_STRAY_LINES:,} lines or {MAX_STRAY_BYTES >> 20} MiB; a line has at most {LONGEST_LINE >> 20} MiB"
    assert limits in TEXT
    assert f"after {['no', 'one', 'two', 'three', 'four', 'five'][MAX_DEATHS_IN_A_ROW]} such failures" in TEXT
