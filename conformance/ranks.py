"""Several processes that hold a shard of the batch each and can speak with each other: a torch.distributed group."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from infonce_ref.conformance.adapters.resolve import Unusable
from infonce_ref.conformance.runner import ChildRunner

PROCESSES = 3  # so that half a gradient isn't one divided by the number of processes
BROKEN = ("refused", "garbage", "timeout", "dead")  # the others wait for ever then, and are ended: causes go first


def rank_of_trouble(reply: Mapping[str, Any]) -> int:
    """0 for the likeliest cause of everybody's trouble; the most for none."""
    return next((i for i, kind in enumerate(BROKEN) if kind in reply), len(BROKEN))


def broken(reply: Mapping[str, Any]) -> bool:
    return rank_of_trouble(reply) < len(BROKEN)


class Group(Protocol):
    """Asks several processes at a time."""

    def ask_all(self, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The reply of each to its own request."""

    def close(self) -> None:
        """End them."""


class Ranks:
    """As many child processes as there are requests, in one group; started anew after one has failed the others."""

    def __init__(self, child: Callable[[Mapping[str, Any]], ChildRunner]) -> None:
        self.child = child
        self.runners: list[ChildRunner] = []
        self.folder: tempfile.TemporaryDirectory[str] | None = None

    def ask_all(self, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        try:
            self._start(len(requests))
        except Unusable as error:
            self.close()
            return [{"dead": str(error)} for _ in requests]

        def ask(runner: ChildRunner, request: Mapping[str, Any]) -> dict[str, Any]:
            reply = runner.ask(request)
            if broken(reply):
                self._end()
            return reply

        with ThreadPoolExecutor(len(requests)) as pool:
            replies = list(pool.map(ask, self.runners, requests))
        if any(map(broken, replies)):
            self.close()
        return replies

    def _end(self) -> None:
        """End the processes, which wait for one that doesn't come: who asks them learns of their death."""
        for runner in self.runners:
            if (process := runner.process) is not None:
                process.kill()

    def _start(self, count: int) -> None:
        """Every process waits in its start for all the others."""
        if self.runners:
            return
        self.folder = tempfile.TemporaryDirectory(prefix="infonce-group-")
        store = str(Path(self.folder.name) / "store")
        self.runners = [self.child({"store": store, "rank": rank, "processes": count}) for rank in range(count)]
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda runner: runner.start(), self.runners))

    def close(self) -> None:
        """End the processes."""
        for runner in self.runners:
            runner.close()
        self.runners = []
        if self.folder is not None:
            with contextlib.suppress(OSError):
                self.folder.cleanup()
            self.folder = None
