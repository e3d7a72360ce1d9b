"""One implementation being questioned: who it is, what it has said so far."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infonce_ref.conformance.runner import Runner


class Session:
    """Asks through a runner and remembers what must hold from one answer to the next."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.replies: list[Mapping[str, Any]] = []  # since someone last looked
        self.beyond = False  # whether what is declared absent is asked for
        self.answered = 0  # replies with numbers: without one, the target was never called
        self.has_gradient: dict[str, bool] = {}  # what the first gradients returned declare
        self._hello: dict[str, Any] | None = None
        self._count = 0
        self._accepts: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def hello(self) -> Mapping[str, Any]:
        """What the target says of itself; the first use starts it, and raises Unusable if that fails."""
        with self._lock:
            if self._hello is None:
                self._hello = self.runner.start()
        return self._hello

    def ask(self, problem: Mapping[str, Any], want: Sequence[str], as_array: bool = False) -> dict[str, Any]:
        """The reply to one request; its id says nothing about the problem."""
        hello = self.hello
        declared = hello.get("dtypes")
        if declared is not None and problem["dtype"] not in declared and not self.beyond:
            return {"na": f"dtype {problem['dtype']} isn't declared", "undeclared": f"dtype {problem['dtype']}"}
        self._count += 1
        request = {
            "id": f"r{self._count}",
            "loss": problem["loss"],
            "dtype": problem["dtype"],
            "problem": problem,
            "want": list(want),
            "temperature_as": "array" if as_array else "float",
            **({"undeclared": True} if self.beyond else {}),
        }
        reply = self.runner.ask(request)
        self.replies.append(reply)
        if "loss" in reply:
            self.answered += 1
            for name in want:
                if name != "loss" and isinstance(reply.get("grad"), Mapping):
                    self.has_gradient.setdefault(name, name in reply["grad"])
        return reply

    @contextlib.contextmanager
    def beyond_declaration(self) -> Iterator[None]:
        """Ask for what is declared absent too."""
        self.beyond = True
        try:
            yield
        finally:
            self.beyond = False

    def accepts(self, problem: Mapping[str, Any]) -> str:
        """Empty if the sound `problem` is answered, else what happened: who refuses everything has judged nothing."""
        key = str(problem["dtype"])
        if key not in self._accepts:
            reply = self.ask(problem, ("loss",))
            happened = "" if "loss" in reply else next((f"{k}: {v}" for k, v in reply.items() if k != "id"), "nothing")
            self._accepts[key] = happened
        return self._accepts[key]

    def close(self) -> None:
        """End the target's process."""
        self.runner.close()
