"""Byte mutations of a sound file: what whoever reads files from elsewhere must survive."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

COUNT = int(os.environ.get("INFONCE_FUZZ", "200"))  # mutations of each kind of file; 10000 in the long run
WORDS = (
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\0",
    b"\xff",
    b"-",
    b"1e999",
    b"NaN",
    b"null",
    b"true",
)


def mutations(data: bytes, count: int = COUNT, seed: int = 0) -> Iterator[bytes]:
    """`count` variants of `data`, each changed in one to four places; the same ones for the same seed."""
    for i in range(count):
        draw = random.Random(f"{seed}/{i}")
        mutated = bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 4))):
            _change(mutated, draw)
        yield bytes(mutated)


def _change(data: bytearray, draw: random.Random) -> None:
    """One change in place: a byte or bit, bytes deleted, doubled, put elsewhere, a word put in, the end cut off."""
    start = draw.randrange(len(data) + 1)
    end = min(len(data), start + draw.choice((1, 2, 8, 64)))
    kind = draw.randrange(7)
    if kind == 0 and start < len(data):
        data[start] = draw.randrange(256)
    elif kind == 1 and start < len(data):
        data[start] ^= 1 << draw.randrange(8)
    elif kind == 2:
        del data[start:end]
    elif kind == 3:
        data[start:start] = data[start:end]
    elif kind == 4:
        elsewhere = draw.randrange(len(data) + 1)
        data[elsewhere:elsewhere] = data[start:end]
    elif kind == 5:
        data[start:start] = draw.choice(WORDS)
    elif draw.randrange(4) == 0:
        del data[start:]
