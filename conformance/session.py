"""One implementation being questioned: who it is, what it has said so far."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infonce_ref.conformance.ranks import Group
from infonce_ref.conformance.runner import Runner

# What is asked of several processes at once can't be asked of anything but callables for PyTorch, by name.
ALONE = "a batch can only be spread over processes of a callable for torch that is named as PKG.MOD:ATTR"


class Session:
    """Asks through a runner and remembers what must hold from one answer to the next."""

    def __init__(self, runner: Runner, group: Group | None = None) -> None:
        self.runner, self.group = runner, group
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
                # a report that is replayed doesn't say the framework, but what was unseen
                if self.group is None or self._hello.get("framework", "torch") != "torch":
                    alone = dict.fromkeys(("distributed.loss", "distributed.gradient"), ALONE)
                    self._hello["unseen"] = {**alone, **(self._hello.get("unseen") or {})}
        return self._hello

    def ask(
        self, problem: Mapping[str, Any], want: Sequence[str], as_array: bool = False, watch: bool = False
    ) -> dict[str, Any]:
        """The reply to one request; its id says nothing about the problem."""
        undeclared = self._undeclared(problem["dtype"])
        if undeclared is not None:
            return undeclared
        request = self._request(problem, want, as_array, watch)
        return self._heard(self.runner.ask(request), want)

    def ask_all(
        self, problems: Sequence[Mapping[str, Any]], want: Sequence[str], as_array: bool = False
    ) -> list[dict[str, Any]]:
        """The replies of a group's processes, a problem for each."""
        undeclared = self._undeclared(problems[0]["dtype"])
        if undeclared is not None:
            return [undeclared]
        assert self.group is not None
        requests = [self._request(problem, want, as_array, False) for problem in problems]
        return [self._heard(reply, want) for reply in self.group.ask_all(requests)]

    def _undeclared(self, dtype: str) -> dict[str, Any] | None:
        """The answer to what the target declares not to have."""
        declared = self.hello.get("dtypes")
        if declared is None or dtype in declared or self.beyond:
            return None
        return {"na": f"dtype {dtype} isn't declared", "undeclared": f"dtype {dtype}"}

    def _request(self, problem: Mapping[str, Any], want: Sequence[str], as_array: bool, watch: bool) -> dict[str, Any]:
        self._count += 1
        return {
            "id": f"r{self._count}",
            "loss": problem["loss"],
            "dtype": problem["dtype"],
            "problem": problem,
            "want": list(want),
            "temperature_as": "array" if as_array else "float",
            **({"undeclared": True} if self.beyond else {}),
            **({"watch": True} if watch else {}),
        }

    def _heard(self, reply: dict[str, Any], want: Sequence[str]) -> dict[str, Any]:
        """The reply, remembered."""
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
        """End the target's processes."""
        self.runner.close()
        if self.group is not None:
            self.group.close()
