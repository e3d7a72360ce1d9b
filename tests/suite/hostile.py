"""Implementations that attack the process they run in. Each is right otherwise, if it comes to that."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.suite.implementations import textbook


def segfaults(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    ctypes.string_at(0)


def aborts(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    os.abort()


def spins(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Deaf to a polite request to end, too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pass


def ten_gigabytes(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    np.ones(10 * 2**30, dtype=np.uint8)
    return textbook(query, positive_key, temperature=temperature)


def floods(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Half a gigabyte on each of stdout and stderr, and then the answer."""
    for _ in range(512):
        os.write(1, b"x" * 2**20)
        os.write(2, b"y" * 2**20)
    return textbook(query, positive_key, temperature=temperature)


def never_stops_printing(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    while True:
        os.write(1, b'{"id": "r1"}\n' * 1000)


def leaves_children(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Ends, while others that it has started keep its pipes open."""
    for _ in range(3):
        if os.fork() == 0:
            with Path(os.environ["INFONCE_TEST_PIDS"]).open("a", encoding="ascii") as out:
                out.write(f"{os.getpid()}\n")
            time.sleep(600)
            os._exit(0)
    time.sleep(0.2)
    os._exit(5)


def closes_everything(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """The wire with it, which it can find."""
    for descriptor in range(64):
        try:
            os.close(descriptor)
        except OSError:
            continue
    time.sleep(600)


def closes_its_streams(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """stdin, stdout and stderr, none of which is the wire."""
    for descriptor in (0, 1, 2):
        try:
            os.close(descriptor)
        except OSError:
            continue
    return textbook(query, positive_key, temperature=temperature)


def writes_on_the_wire(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Garbage, and what looks like replies, on every descriptor that is open."""
    array = {"dtype": "float64", "shape": [], "bits": ["0" * 16]}
    forged = "".join(json.dumps({"id": name, "loss": array, "grad": {}}) + "\n" for name in ("r0", "r10000", 7, None))
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"\x00\xff{{{\n" + forged.encode())
        except OSError:
            continue
    return textbook(query, positive_key, temperature=temperature)


def patches_numpy(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Everything that an adapter could call."""
    answer = textbook(query, positive_key, temperature=temperature)
    for name in ("asarray", "ascontiguousarray", "array", "array_equal", "sum", "isfinite", "prod", "zeros"):
        setattr(np, name, lambda *args, **kwargs: 0.0)
    return answer


def patches_json(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """The adapter's own words."""
    answer = textbook(query, positive_key, temperature=temperature)
    json.dumps = lambda *args, **kwargs: "null"
    return answer


def patches_judge(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Wrong, with a judge that finds everything right, in this process."""
    import infonce_ref.conformance.checks
    import infonce_ref.conformance.judge

    infonce_ref.conformance.judge.measure = lambda *args, **kwargs: infonce_ref.conformance.judge.Measure(0.0)
    infonce_ref.conformance.checks.measure = infonce_ref.conformance.judge.measure
    return 2 * textbook(query, positive_key, temperature=temperature)[0]


def leaves_a_thread(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    threading.Thread(target=time.sleep, args=(600,)).start()
    return textbook(query, positive_key, temperature=temperature)


def dies_in_the_cold(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """At low temperatures only."""
    if temperature < 0.5:
        os._exit(1)
    return textbook(query, positive_key, temperature=temperature)
