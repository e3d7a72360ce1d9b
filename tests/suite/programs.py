"""Programs for the suite to ask over the JSON wire, `python programs.py NAME`: one is sound, and many are not."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from infonce_ref.conformance.adapters.wire import pack_numpy, unpack
from infonce_ref.conformance.problem import from_bits
from tests.suite.implementations import textbook

Request = dict[str, Any]


def write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def right(request: Request) -> dict[str, Any]:
    problem = request["problem"]
    rows = [unpack(problem["arrays"][name])[1] for name in ("query", "positive_key")]
    loss, grad = textbook(*rows, temperature=from_bits(problem["temperature"], problem["dtype"]))
    encoded = {name: pack_numpy(np.asarray(g, dtype=problem["dtype"])) for name, g in grad.items()}
    return {"id": request["id"], "loss": pack_numpy(np.asarray(loss, dtype=problem["dtype"])), "grad": encoded}


def sound(request: Request) -> None:
    write(json.dumps(right(request)))


def segfault(request: Request) -> None:
    ctypes.string_at(0)


def exits(request: Request) -> None:
    print("these are the last words", file=sys.stderr, flush=True)
    os._exit(9)


def spins(request: Request) -> None:
    while True:
        pass


def allocates(request: Request) -> None:
    bytearray(10 * 2**30)
    sound(request)


def floods(request: Request) -> None:
    """Gigabytes without a line's end."""
    while True:
        os.write(1, b"x" * 2**20)


def floods_lines(request: Request) -> None:
    while True:
        os.write(1, b"{}\n" * 2**18)


def leaves_children(request: Request) -> None:
    """Ends, while two processes that it has started keep its pipes open."""
    for _ in range(2):
        if os.fork() == 0:
            with Path(os.environ["INFONCE_TEST_PIDS"]).open("a", encoding="ascii") as out:
                out.write(f"{os.getpid()}\n")
            time.sleep(600)
            os._exit(0)
    time.sleep(0.2)
    os._exit(0)


def closes_stdin(request: Request) -> None:
    os.close(0)
    sound(request)
    time.sleep(600)


def closes_stdout(request: Request) -> None:
    os.close(1)
    time.sleep(600)


def forges(request: Request) -> None:
    """Right, behind lines that look like answers to other requests."""
    wrong = {**right(request), "loss": {"dtype": "float64", "shape": [], "bits": ["0" * 16]}}
    for name in ("r0", "r999", None, ["r1"], {}):
        write(json.dumps({**wrong, "id": name}))
    write('{"hello": {"dtypes": []}}')
    sound(request)


def half_a_line(request: Request) -> None:
    os.write(1, json.dumps(right(request)).encode()[:-20])
    os._exit(0)


def nests(request: Request) -> None:
    os.write(1, b'{"id": ' + b"[" * 10**6 + b"\n")
    sound(request)


def answers_all_but(**change: Any) -> Callable[[Request], None]:
    """The right reply with something in it replaced."""

    def answer(request: Request) -> None:
        write(json.dumps({**right(request), **change}))

    return answer


def says_na_when_it_suits(request: Request) -> None:
    if len(request["problem"]["arrays"]["query"]["shape"]) == 2 and int(request["id"][1:]) % 2:
        write(json.dumps({"id": request["id"], "na": "not today"}))
    else:
        sound(request)


def says_na(request: Request) -> None:
    write(json.dumps({"id": request["id"], "na": "nothing is supported"}))


def refuses(request: Request) -> None:
    write(json.dumps({"id": request["id"], "refused": "ValueError: no"}))


huge_shape = answers_all_but(loss={"dtype": "float64", "shape": [0, 10**30], "bits": []})
no_shape = answers_all_but(loss={"dtype": "float64", "shape": 5, "bits": []})
odd_bits = answers_all_but(loss={"dtype": "bfloat16", "shape": [], "bits": ["  3f"]})
unknown_key = answers_all_but(gard={})
says_it_is_dead = answers_all_but(dead="really")

HELLO = {"arguments": ["query", "positive_key", "temperature"], "dtypes": ["float64", "float32"]}
HELLOS: dict[str, Any] = {
    "says_na": None,
    "says_na_when_it_suits": None,
    "unknown_declaration": {"hello": {"colour": ["blue"]}},
    "no_temperature": {"hello": {"arguments": ["query", "positive_key"]}},
    "not_a_list": {"hello": {"dtypes": "float64"}},
}


def main(name: str) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "hello" not in request:
            globals()[name](request)
        elif name == "dies_at_hello":
            raise SystemExit("no idea what that is")
        elif name != "silent":
            said = HELLOS.get(name, {"hello": HELLO})
            write(json.dumps({"id": "hello", **(said or {"na": "what?"})}))


if __name__ == "__main__":
    main(sys.argv[1])
