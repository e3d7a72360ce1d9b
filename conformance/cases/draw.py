"""Numbers for vectors: the same on every machine, and exactly representable where they are asked.

Only `random.Random(seed).random()`, integer arithmetic, exact scaling and one rounding to float32 are used.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

Draw = Callable[..., np.ndarray]


def units(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0, 1) with 53 bits."""
    source = random.Random(seed)
    return np.array([source.random() for _ in range(int(np.prod(shape)))]).reshape(shape)


def few(seed: int, *shape: int) -> np.ndarray:
    """Numbers of at most seven bits in (-2, 2), never 0: every format of the suite holds them."""
    count = np.floor(units(seed, shape) * 254.0)  # 0 … 253
    return (count - np.where(count < 127.0, 127.0, 126.0)) / 64.0  # -127 … -1, 1 … 127


def full32(seed: int, *shape: int) -> np.ndarray:
    """Numbers in (-1, 1) with all 24 bits of a float32."""
    return rounded(2.0 * units(seed, shape) - 1.0)


def full64(seed: int, *shape: int) -> np.ndarray:
    """Numbers in (-1, 1) that only float64 holds."""
    return 2.0 * units(seed, shape) - 1.0


def rounded(x: np.ndarray | float) -> np.ndarray:
    """The float32 numbers nearest to x, as float64."""
    return np.asarray(x, dtype=np.float64).astype(np.float32).astype(np.float64)


def near32(x: float) -> float:
    """The float32 number nearest to x."""
    return float(rounded(x))


def uneven(x: np.ndarray, first: int = 0) -> np.ndarray:
    """x with its rows scaled by different powers of two, so that a missing normalisation shows."""
    powers = np.array([1.0, 0.5, 4.0, 2.0, 0.25, 8.0, 0.125])
    scaled: np.ndarray = x * powers[(np.arange(x.shape[-2]) + first) % len(powers)][:, None]
    return scaled


def mixed(seed: int, like: np.ndarray, share: int = 3) -> np.ndarray:
    """Few-bit rows that lean towards the rows of `like`: (share · like + fresh) / (share + 1), cut to 1/64."""
    cut: np.ndarray = np.trunc((share * like + few(seed, *like.shape)) / (share + 1) * 64.0) / 64.0
    return cut


def pairs(seed: int, n: int, d: int, share: int = 1) -> dict[str, np.ndarray]:
    """n queries and their positives: related, of unequal norms, few bits."""
    query = few(seed, n, d)
    return {"query": uneven(query), "positive_key": uneven(mixed(seed + 1, query, share), 3)}


def pairs_of(draw: Draw, seed: int, n: int, d: int) -> dict[str, np.ndarray]:
    """n queries and unrelated keys from `draw`, full mantissas, unequal norms."""
    return {"query": uneven(draw(seed, n, d)), "positive_key": uneven(draw(seed + 1, n, d), 3)}


def crowded(seed: int, n: int, d: int, spread: float = 2.0**-6) -> dict[str, np.ndarray]:
    """n pairs that all point nearly the same way: at a sharp temperature the softmax still has several large terms."""
    centre = few(seed, 1, d)
    return {
        "query": centre + spread * few(seed + 1, n, d),
        "positive_key": centre + spread * few(seed + 2, n, d),
    }


def aligned(seed: int, n: int, d: int) -> dict[str, np.ndarray]:
    """n pairs that are nearly parallel within and nearly orthogonal between (n ≤ d): tiny losses."""
    query = 2.0 * np.eye(n, d) + few(seed, n, d) / 8.0
    return {"query": uneven(query), "positive_key": uneven(query + few(seed + 1, n, d) / 16.0, 2)}


def keep(seed: int, *shape: int, share: float = 0.6) -> np.ndarray:
    """A mask that keeps about `share` of the candidates."""
    kept: np.ndarray = units(seed, shape) < share
    return kept
