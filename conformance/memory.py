"""How much memory a process takes while something is asked of it, looked at from outside."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

LOOK_SECONDS = 0.002


def resident(process: int) -> int | None:
    """Bytes of a process that are in memory now; None where the system doesn't tell."""
    try:
        import resource

        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    except (ImportError, OSError, IndexError):
        return None
    return int(pages) * resource.getpagesize()


class Watch:
    """`with Watch(process) as watch: …`, then `watch.grown`: the most that it had beyond what it had at first."""

    def __init__(self, process: int) -> None:
        self.process, self.most = process, 0
        self.first = resident(process)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self.over.wait(LOOK_SECONDS):
            self.most = max(self.most, resident(self.process) or 0)

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.over.set()
        self.thread.join()

    @property
    def grown(self) -> int | None:
        """Bytes; None where the system doesn't tell."""
        return None if self.first is None else max(0, self.most - self.first)
