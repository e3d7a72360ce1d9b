"""Who is asked: an implementation in a process that may crash, hang or print, or a callable right here.

A runner takes a request and gives a reply, always; what went wrong on the way is a reply too:
{"dead": reason} for a process that died, {"timeout": reason}, {"garbage": reason}.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import queue
import shlex
import signal
import site
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import infonce_ref
from infonce_ref.conformance.adapters.declared import Declared
from infonce_ref.conformance.adapters.resolve import Unusable
from infonce_ref.conformance.adapters.text import TextWire
from infonce_ref.conformance.adapters.wire import JsonWire, checked
from infonce_ref.conformance.memory import Watch, limit

START_SECONDS = 180.0  # importing an array library on a busy machine
LOOK_SECONDS = 0.2  # between two looks at whether a silent process is still there
LONGEST_LINE = 16 * 2**20  # bytes; ten times the longest reply
MAX_STRAY_BYTES = 4 * LONGEST_LINE
MAX_STRAY_LINES = 10_000
MAX_DEATHS_IN_A_ROW = 5

WIRES: Mapping[str, type[JsonWire | TextWire]] = {"json": JsonWire, "text": TextWire}


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

        def answer() -> dict[str, Any]:
            # through text and back, so that a callable here and a child there get the very same thing
            reply: dict[str, Any] = json.loads(json.dumps(self.adapter.answer(json.loads(json.dumps(request)))))
            return reply

        return watched(os.getpid(), answer) if request.get("watch") else answer()

    def close(self) -> None:
        self.adapter = None


def watched(process: int, answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer, and how much more memory the process had meanwhile, where that can be known."""
    with Watch(process) as watch:
        reply = answer()
    return reply if watch.grown is None else {**reply, "memory": watch.grown}


class Accident(Exception):
    """No reply: the process is dead, or too late, or what it writes is none."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.reply = {kind: reason}


class ProcessRunner:
    """Asks a process by its standard input and output, starts it again when it dies, gives up on one that only dies."""

    process: subprocess.Popen[bytes] | None = None

    def __init__(
        self,
        command: list[str],
        wire: JsonWire | TextWire,
        *,
        timeout: float = 20.0,
        start_timeout: float = START_SECONDS,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command, self.wire, self.environment = command, wire, environment
        self.timeout, self.start_timeout = timeout, start_timeout
        self.requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.lines: queue.Queue[bytes | None] = queue.Queue()
        self.errors: collections.deque[bytes] = collections.deque()
        self.threads: list[threading.Thread] = []
        self.deaths = 0

    def start(self) -> dict[str, Any]:
        """Start the process and return what it says of itself."""
        self.close()
        try:
            self._spawn()
            return self.greet()
        except Accident as accident:
            self.close()
            raise Unusable("the target's process never became ready: " + str(accident)) from None
        except (OSError, Unusable) as error:
            self.close()
            raise Unusable(str(error)) from None

    def greet(self) -> dict[str, Any]:
        """What a process that has just been started says of itself."""
        raise NotImplementedError

    def _spawn(self) -> None:
        pipe = subprocess.PIPE
        self.process = process = subprocess.Popen(
            self.command, stdin=pipe, stdout=pipe, stderr=pipe, env=self.environment, start_new_session=True
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self.requests, self.lines = queue.SimpleQueue(), queue.Queue(maxsize=4)
        self.errors = collections.deque(maxlen=40)
        self.threads = [
            threading.Thread(target=_write, args=(process.stdin, self.requests), daemon=True),
            threading.Thread(target=_read, args=(process.stdout, self.lines), daemon=True),
            threading.Thread(target=_remember, args=(process.stderr, self.errors), daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self.deaths >= MAX_DEATHS_IN_A_ROW:
            return {"dead": f"not asked: the target's process ended {self.deaths} times in a row"}
        if self.process is None:
            try:
                self.start()
            except Unusable as error:
                self.deaths += 1
                return {"dead": f"can't start again: {error}"}
        assert self.process is not None
        if request.get("watch"):
            plain = {key: value for key, value in request.items() if key != "watch"}
            return watched(self.process.pid, lambda: self._ask(plain))
        return self._ask(request)

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The reply of a process that has been started."""
        self.requests.put(self.wire.request(request))
        try:
            reply = self.next(self.timeout, lambda message: message.get("id") == request["id"])
        except Accident as accident:
            self.deaths += 1
            self.close()
            return accident.reply
        self.deaths = 0
        return received(reply, self.wire)

    def next(self, seconds: float, wanted: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        """The next message that is `wanted`; other lines are noise, up to a limit."""
        deadline = time.monotonic() + seconds
        strayed = 0
        for _ in range(MAX_STRAY_LINES):
            line = self._line(deadline, seconds)
            if len(line) > LONGEST_LINE:
                raise Accident("garbage", f"a line of more than {LONGEST_LINE} bytes")
            message = self.wire.reply(line)
            if message is not None and wanted(message):
                return message
            strayed += len(line)
            if strayed > MAX_STRAY_BYTES:
                raise Accident("garbage", f"more than {MAX_STRAY_BYTES} bytes, none of them the answer")
        raise Accident("garbage", f"{MAX_STRAY_LINES} lines, none of them the answer")

    def _line(self, deadline: float, seconds: float) -> bytes:
        """The next line; the process may end and leave the pipe open in the hands of one that it has started."""
        assert self.process is not None
        gone = False
        while True:
            left = max(0.0, deadline - time.monotonic())
            try:
                line = self.lines.get(timeout=min(LOOK_SECONDS, left))
            except queue.Empty:
                if gone:
                    raise Accident("dead", self._epitaph()) from None
                if time.monotonic() >= deadline:
                    raise Accident("timeout", f"no answer within {seconds:g} s") from None
                gone = self.process.poll() is not None
                continue
            if line is None:
                raise Accident("dead", self._epitaph())
            return line

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
        """End the process and whatever it has started in its session."""
        process, self.process = self.process, None
        if process is None:
            return
        self.requests.put(None)
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):  # also where the process is gone and has left others behind
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        self._end_threads()

    def _end_threads(self, seconds: float = 2.0) -> None:
        """Let them come to the end of their pipes; one may be waiting for room in the queue.

        A process that has left the session may hold a pipe open for ever: its thread stays, and closes the pipe then.
        """
        deadline = time.monotonic() + seconds
        while any(thread.is_alive() for thread in self.threads) and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                self.lines.get(timeout=0.01)

    def __del__(self) -> None:
        self.close()


def received(message: Mapping[str, Any], wire: JsonWire | TextWire) -> dict[str, Any]:
    """The reply that a message is, or that it is none."""
    if "garbage" in message and isinstance(wire, TextWire):  # what no JSON wire can say
        return {"garbage": f"not an answer: {message['garbage']}"}
    try:
        return checked(message)
    except ValueError as error:
        return {"garbage": f"not an answer: {error}"}


class ChildRunner(ProcessRunner):
    """Asks a `pkg.mod:attr` in a Python process of its own."""

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
        command = [sys.executable, "-m", module, json.dumps(described)]
        limits = {"timeout": timeout, "start_timeout": start_timeout}
        super().__init__(command, JsonWire(), environment=_environment(), **limits)

    def greet(self) -> dict[str, Any]:
        """Its hello comes unasked, or the reason why the target can't be used."""
        reply = self.next(self.start_timeout, lambda message: bool({"hello", "unusable"} & {*message}))
        if "unusable" in reply:
            raise Unusable(str(reply["unusable"]))
        if not isinstance(reply["hello"], dict):
            raise Unusable(f"the target's process says hello as {str(reply['hello'])[:80]}")
        hello: dict[str, Any] = reply["hello"]
        return hello


# What a program's inputs and results can't show, because they were copied on their way.
UNSEEN = {"call.pure": "the call's inputs are the program's own copies, which nobody else sees"}


class ExecRunner(ProcessRunner):
    """Asks a program in any language: one line for each request, one for each reply."""

    def __init__(
        self,
        command: str,
        wire: str = "json",
        *,
        loss: str = "info_nce",
        readings: tuple[str, ...] = (),
        memory: float = 4.0,
        timeout: float = 20.0,
        start_timeout: float = START_SECONDS,
    ) -> None:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise Unusable(f"can't read the command {command!r}: {error}") from error
        if not words:
            raise Unusable("the command is empty")
        super().__init__(words, WIRES[wire](), timeout=timeout, start_timeout=start_timeout)
        self.name, self.loss, self.readings, self.memory = command, loss, readings, memory
        self.declared: Declared | None = None

    def greet(self) -> dict[str, Any]:
        """Its reply to hello; one line it must be, what it declares is up to the program."""
        self.requests.put(self.wire.hello())
        reply = self.next(self.start_timeout, lambda message: message.get("id") == "hello" or "hello" in message)
        hello = reply.get("hello")
        declared = Declared(self.name, hello if isinstance(hello, dict) else {}, self.loss, self.readings)
        if self.declared is not None and declared.hello != self.declared.hello:
            raise Unusable("it declares something else than before it was started again")
        self.declared = self.declared or declared
        assert self.process is not None
        limit(self.process.pid, self.memory)
        said = self.declared.hello
        return {
            "resolved": self.declared.resolved,
            "framework": f"{self.wire.name} wire",
            "versions": said["versions"],
            "profiles": said.get("profiles"),
            "dtypes": said.get("dtypes"),
            "unseen": UNSEEN,
        }

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self.declared is not None and (refusal := self.declared.refuses(request)):
            return refusal
        reply = super().ask({k: v for k, v in request.items() if k not in ("temperature_as", "undeclared")})
        if self.declared is not None and {"loss", "na", "refused"} & {*reply}:
            breach = self.declared.breach(request, reply)
            return {"garbage": breach} if breach else reply
        return reply


# A thread each, which closes its pipe at the end: nobody closes under a thread that waits.


def _write(stream: IO[bytes], pieces: queue.SimpleQueue[bytes | None]) -> None:
    """Write `pieces` until there is a None, or nobody who reads."""
    with contextlib.suppress(ValueError, OSError), stream:
        while (piece := pieces.get()) is not None:
            stream.write(piece)
            stream.flush()


def _read(stream: IO[bytes], lines: queue.Queue[bytes | None]) -> None:
    """Put every line of `stream` into `lines`, None at the end; a full queue makes the writer wait."""
    with contextlib.suppress(ValueError, OSError), stream:
        while line := stream.readline(LONGEST_LINE + 1):
            lines.put(line)
    lines.put(None)


def _remember(stream: IO[bytes], last: collections.deque[bytes]) -> None:
    """Read `stream` to its end, so that its writer never waits, and keep the last of it."""
    with contextlib.suppress(ValueError, OSError), stream:
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
