"""How much memory a process may take, and takes while something is asked of it; looked at from outside."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import TracebackType

LOOK_SECONDS = 0.002


def held(process: int) -> tuple[int, int]:
    """Bytes of its address space, and those of it that are in memory now; OSError or ImportError where nobody tells."""
    import resource

    space, resident = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[:2]
    return int(space) * resource.getpagesize(), int(resident) * resource.getpagesize()


def resident(process: int) -> int | None:
    """Bytes of a process that are in memory now; None where the system doesn't tell."""
    try:
        return held(process)[1]
    except (ImportError, OSError, ValueError):
        return None


def limit(process: int, gibibytes: float) -> None:
    """Let the address space of `process` grow by `gibibytes` from here; where the system can't, do nothing."""
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        hard = resource.prlimit(process, resource.RLIMIT_AS)[1]
        resource.prlimit(process, resource.RLIMIT_AS, (held(process)[0] + int(gibibytes * 2**30), hard))


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
