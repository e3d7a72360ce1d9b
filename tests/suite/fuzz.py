"""Damaged bytes, for whatever reads a file or a wire: 200 mutations in a test, more by the variable INFONCE_FUZZ.

    INFONCE_FUZZ=10000 pytest tests/suite -k mutation
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

COUNT = int(os.environ.get("INFONCE_FUZZ", "200"))
TOKENS = (  # what parsers stumble over
    b"{", b"}", b"[", b"]", b'"', b",", b":", b"\n", b"\0", b"\xff", b"\xe2\x82", b"\\u0000", b"\\ud800", b"null", b"true",
    b"-1", b"1e999", b"NaN", b"-0", b"9" * 400, b"[" * 2000, b'{"a":' * 2000, b" ", b"<script>", b"../", b"__proto__",
)  # fmt: skip


def flip(data: bytearray, at: int, source: random.Random) -> None:
    data[at : at + 1] = bytes([source.randrange(256)])


def insert(data: bytearray, at: int, source: random.Random) -> None:
    data[at:at] = source.choice(TOKENS)


def replace(data: bytearray, at: int, source: random.Random) -> None:
    data[at : at + source.randint(1, 12)] = source.choice(TOKENS)


def delete(data: bytearray, at: int, source: random.Random) -> None:
    del data[at : at + source.randint(1, 40)]


def repeat(data: bytearray, at: int, source: random.Random) -> None:
    piece = data[at : at + source.randint(1, 200)]
    data[at:at] = piece * source.randint(1, 20)


def cut(data: bytearray, at: int, source: random.Random) -> None:
    del data[at:]


MUTATIONS: tuple[Callable[[bytearray, int, random.Random], None], ...] = (flip, flip, insert, replace, delete, repeat, cut)


def mutated(data: bytes, seed: int) -> bytes:
    """`data` with one to four places damaged; a function of `seed`."""
    source, damaged = random.Random(seed), bytearray(data)
    for _ in range(source.randint(1, 4)):
        source.choice(MUTATIONS)(damaged, source.randrange(len(damaged) + 1), source)
    return bytes(damaged)


def mutations(data: bytes, count: int = COUNT) -> Iterator[bytes]:
    """`count` damaged copies of `data`, always the same ones."""
    return (mutated(data, seed) for seed in range(count))
