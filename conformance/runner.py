"""Who is asked: an implementation in a child process that may crash, hang or print, or a callable right here.

A runner takes a request and gives a reply, always; what went wrong on the way is a reply too:
{"dead": reason} for a process that died, {"timeout": reason}, {"garbage": reason}.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import queue
import signal
import site
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import infonce_ref
from infonce_ref.conformance.adapters.resolve import Unusable

START_SECONDS = 180.0  # importing an array library on a busy machine
LONGEST_LINE = 64 * 2**20
MAX_STRAY_LINES = 10_000
MAX_DEATHS_IN_A_ROW = 5


class Runner(Protocol):
    """Asks an implementation."""

    def start(self) -> dict[str, Any]:
        """What the implementation says of itself; Unusable if it can't be asked at all."""

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to `request`, or what happened in its place."""

    def close(self) -> None:
        """End whatever `start` began."""


class LocalRunner:
    """Asks a callable in this process: no limits, no protection."""

    def __init__(self, target: Any, framework: str | None = None, **options: Any) -> None:
        self.target, self.framework, self.options = target, framework, options
        self.adapter: Any = None

    def start(self) -> dict[str, Any]:
        from infonce_ref.conformance.adapters.answer import Adapter
        from infonce_ref.conformance.adapters.frameworks import framework
        from infonce_ref.conformance.adapters.resolve import resolve

        if self.adapter is None:
            options = self.options
            target = resolve(
                self.target,
                mapping=options.get("map"),
                const=options.get("const"),
                readings=tuple(options.get("readings", ())),
                loss=options.get("loss", "info_nce"),
            )
            self.adapter = Adapter(target, framework(self.framework or target.declaration.framework or "numpy"))
        hello: dict[str, Any] = self.adapter.hello()
        return hello

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self.adapter is None:
            self.start()
        # through text and back, so that a callable here and a child there get the very same thing
        reply: dict[str, Any] = json.loads(json.dumps(self.adapter.answer(json.loads(json.dumps(request)))))
        return reply

    def close(self) -> None:
        self.adapter = None


class ChildRunner:
    """Asks a child process, starts it again when it dies, and gives up on one that only dies."""

    def __init__(
        self,
        target: str,
        framework: str | None = None,
        *,
        timeout: float = 20.0,
        start_timeout: float = START_SECONDS,
        **options: Any,
    ) -> None:
        described = {"target": target, "framework": framework, **options}
        module = "infonce_ref.conformance.adapters.child"
        self.command = [sys.executable, "-m", module, json.dumps(described)]
        self.timeout, self.start_timeout = timeout, start_timeout
        self.process: subprocess.Popen[bytes] | None = None
        self.lines: queue.Queue[bytes | None] = queue.Queue(maxsize=256)
        self.errors: collections.deque[bytes] = collections.deque(maxlen=40)
        self.readers: list[threading.Thread] = []
        self.deaths = 0

    def start(self) -> dict[str, Any]:
        """Start the child and return its first line's hello."""
        self.close()
        self.lines, self.errors = queue.Queue(maxsize=256), collections.deque(maxlen=40)
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,
        )
        self.process = process
        assert process.stdout is not None and process.stderr is not None
        self.readers = [
            threading.Thread(target=_read, args=(process.stdout, self.lines), daemon=True),
            threading.Thread(target=_remember, args=(process.stderr, self.errors), daemon=True),
        ]
        for reader in self.readers:
            reader.start()
        ready = time.monotonic() + self.start_timeout
        reply = self._next(ready, lambda message: "hello" in message or "unusable" in message)
        if "unusable" in reply:
            self.close()
            raise Unusable(str(reply["unusable"]))
        if not isinstance(reply.get("hello"), dict):
            self.close()
            raise Unusable("the target's process never became ready: " + next(iter(map(str, reply.values()))))
        hello: dict[str, Any] = reply["hello"]
        return hello

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self.deaths >= MAX_DEATHS_IN_A_ROW:
            return {"dead": f"not asked: the target's process ended {self.deaths} times in a row"}
        if self.process is None:
            try:
                self.start()
            except Unusable as error:
                self.deaths += 1
                return {"dead": f"can't start again: {error}"}
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            reply = {"dead": self._epitaph()}
        else:
            deadline = time.monotonic() + self.timeout
            reply = self._next(deadline, lambda message: message.get("id") == request["id"])
        if {"dead", "timeout", "garbage"} & {*reply}:
            self.deaths += 1
            self.close()
        else:
            self.deaths = 0
        return reply

    def _next(self, deadline: float, wanted: Any) -> dict[str, Any]:
        """The next line that is a JSON object as `wanted`; other lines are noise, up to a limit."""
        for _ in range(MAX_STRAY_LINES):
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return {"timeout": f"no answer within {self.timeout:g} s"}
            if line is None:
                return {"dead": self._epitaph()}
            with contextlib.suppress(ValueError, RecursionError):
                message = json.loads(line)
                if isinstance(message, dict) and wanted(message):
                    return message
        return {"garbage": f"{MAX_STRAY_LINES} lines, none of them the answer"}

    def _epitaph(self) -> str:
        """How the process ended, in words, with the last line that it wrote to stderr."""
        assert self.process is not None
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed the wire and went on running"
        how = f"exited with code {code}" if code >= 0 else f"was killed by {_signal_name(-code)}"
        time.sleep(0.05)  # the thread that reads stderr may be a moment behind
        written = b"".join(self.errors).decode(errors="replace").strip().splitlines()
        return f"process {how}" + (f"; last words: {written[-1][:300]}" if written else "")

    def close(self) -> None:
        """End the child and whatever it has started."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError, OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._end_readers()
        for stream in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def _end_readers(self, seconds: float = 2.0) -> None:
        """Let the readers come to the end of their pipes; one may be waiting for room in the queue."""
        deadline = time.monotonic() + seconds
        while any(reader.is_alive() for reader in self.readers) and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                self.lines.get(timeout=0.01)

    def __del__(self) -> None:
        self.close()


def _read(stream: IO[bytes], lines: queue.Queue[bytes | None]) -> None:
    """Put every line of `stream` into `lines`, None at the end; a full queue makes the writer wait."""
    with contextlib.suppress(ValueError, OSError):
        while line := stream.readline(LONGEST_LINE):
            lines.put(line)
    lines.put(None)


def _remember(stream: IO[bytes], last: collections.deque[bytes]) -> None:
    """Read `stream` to its end, so that its writer never waits, and keep the last of it."""
    with contextlib.suppress(ValueError, OSError):
        while piece := stream.readline(4096):
            last.append(piece)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _environment() -> dict[str, str]:
    """The child's: this package importable also where it is used from a checkout, JAX with 64-bit numbers."""
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    root = str(Path(str(infonce_ref.__file__)).resolve().parent.parent)
    installed = {str(Path(p).resolve()) for p in [*site.getsitepackages(), site.getusersitepackages()]}
    if root not in installed:
        path = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = root if not path else path + os.pathsep + root
    return environment
