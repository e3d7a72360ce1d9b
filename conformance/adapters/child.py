"""The child process: requests in on stdin, replies out on stdout, one JSON object a line.

The target can print what it likes: before it is imported, the wire moves to file descriptors of its own, and
standard output becomes standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from infonce_ref.conformance.adapters.answer import Adapter
from infonce_ref.conformance.adapters.declare import declaration_of
from infonce_ref.conformance.adapters.frameworks import framework
from infonce_ref.conformance.adapters.resolve import Unusable, find, resolve
from infonce_ref.conformance.memory import limit

UNUSABLE = 3


def take_wire() -> tuple[TextIO, TextIO]:
    """Keep stdin and stdout for the wire; leave the target an empty stdin and a stdout that is stderr."""
    requests, replies = os.dup(0), os.dup(1)
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return os.fdopen(requests, encoding="utf-8"), os.fdopen(replies, "w", encoding="utf-8")


def load(options: dict[str, Any]) -> Adapter:
    """The adapter that the parent's options describe."""
    function = find(options["target"])
    target = resolve(
        function,
        name=options["target"],
        mapping=options.get("map"),
        const=options.get("const"),
        readings=tuple(options.get("readings", ())),
        loss=options.get("loss", "info_nce"),
    )
    name = options.get("framework") or declaration_of(function).framework or "numpy"
    return Adapter(target, framework(name))


def join(store: str, rank: int, processes: int) -> None:
    """Become one of a torch.distributed group, on this machine alone."""
    import torch.distributed

    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=processes)


def main(arguments: list[str] | None = None) -> int:
    """Say hello (or why not), then answer until the parent closes the wire."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("options", help="JSON: target, framework, map, const, readings, memory, group")
    options = json.loads(parser.parse_args(arguments).options)
    requests, replies = take_wire()
    process = os.getpid()

    def send(message: dict[str, Any]) -> None:
        if os.getpid() != process:  # the target has forked and let its child return here
            os._exit(0)
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    try:
        if options.get("group"):
            join(**options["group"])
        adapter = load(options)
        send({"hello": adapter.hello()})
    except Unusable as error:
        send({"unusable": str(error)})
        return UNUSABLE
    except Exception as error:  # noqa: BLE001  a library that doesn't work on this machine
        send({"unusable": f"{type(error).__name__}: {error}"})
        return UNUSABLE
    limit(process, float(options.get("memory", 4.0)))
    for line in requests:
        send(adapter.answer(json.loads(line)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
