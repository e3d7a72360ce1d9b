"""What every implementation of info_nce must get right: two matrices and a temperature."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from infonce_ref.conformance.cases.case import Case, call
from infonce_ref.conformance.cases.draw import (
    aligned,
    crowded,
    few,
    full32,
    full64,
    near32,
    pairs,
    pairs_of,
    rounded,
)


def benign() -> Iterator[Case]:
    """Ordinary input: the definition itself."""
    yield Case(
        "plain",
        call(pairs(101, 4, 5), 0.25),
        "unequal norms, few-bit numbers: normalisation missing, on one side only or along the wrong axis; the two "
        "sides exchanged; a constant factor; the positive not counted, or counted twice",
    )
    yield Case(
        "more-columns",
        call(pairs(102, 3, 8), 0.375),
        "fewer rows than columns: an axis mistaken for the other, a mean taken over D",
    )
    yield Case(
        "more-rows",
        call(pairs(103, 8, 2), 0.8125),
        "more rows than columns: an axis mistaken for the other, a mean over N - 1",
    )
    yield Case(
        "two",
        call(pairs(104, 2, 6), 0.4375),
        "two rows, one negative each: a sum over negatives that skips or repeats one",
    )
    yield Case(
        "full-mantissa",
        call(pairs_of(full32, 105, 5, 6), near32(0.13)),
        "all 24 bits in use: a step that runs in a lower precision than the input's",
    )
    yield Case(
        "full-mantissa.close",
        call(pairs(107, 6, 4, share=3), near32(0.2)),
        "related pairs at a temperature that is no binary fraction: a temperature rounded or defaulted",
    )
    yield Case(
        "float64",
        call(pairs_of(full64, 109, 5, 6), 0.13, "float64"),
        "all 53 bits in use: float64 input computed in float32",
        dtypes=("float64",),
    )
    yield Case(
        "warm",
        call(pairs(111, 4, 7), 2.5),
        "a temperature above 1: multiplied by, not divided by; clamped to at most 1",
    )


def sharp() -> Iterator[Case]:
    """Low temperatures: logits of hundreds, where an exponential without a shift overflows."""
    for name, temperature in (("1e-3", near32(1e-3)), ("2^-10", 2.0**-10), ("1e-2", near32(1e-2))):
        yield Case(
            f"few.{name}",
            call(pairs(121, 4, 5, share=0), temperature),
            "losses of hundreds beside losses near 0: exp without a shift gives inf or NaN, log(p + eps) saturates",
        )
        yield Case(
            f"crowded.{name}",
            call(crowded(123, 5, 4), temperature),
            "keys closer together than the temperature: several large terms in the softmax, a gradient that cancels",
        )
    yield Case(
        "full-mantissa",
        call(pairs_of(full32, 126, 4, 6), near32(2e-3)),
        "all 24 bits in use at a low temperature: logits computed in a lower precision",
    )
    for name, temperature in (("1e-3", 1e-3), ("1e-2", 1e-2)):
        yield Case(
            f"float64.{name}",
            call(pairs_of(full64, 128, 4, 5), temperature, "float64"),
            "temperature and input that only float64 holds: either of them rounded to float32",
            dtypes=("float64",),
        )


def wide() -> Iterator[Case]:
    """Temperatures from 2^-10 to 1000."""
    for name, temperature in (
        ("2^-10", 2.0**-10),
        ("0.07", near32(0.07)),
        ("2^4", 16.0),
        ("1e3", 1e3),
        ("2^10", 1024.0),
    ):
        yield Case(
            name,
            call(pairs(131, 4, 3), temperature),
            "the same pairs at temperatures from 2^-10 to 2^10: a clamped temperature or scale, 1/temperature "
            "taken for the temperature, a temperature that isn't used at all",
        )


def tiny() -> Iterator[Case]:
    """Well-aligned pairs: losses that the textbook formula rounds to 0."""
    for name, temperature in (
        ("1e-3", 0.1171875),
        ("1e-7", 0.0517578125),
        ("1e-12", 0.02978515625),
        ("1e-27", 0.0130615234375),
    ):
        yield Case(
            name,
            call(aligned(141, 4, 6), temperature),
            f"true loss about {name}: logsumexp less positive loses it, and softmax - onehot its gradient",
            ("precise.loss", "precise.gradient"),
            precise=True,
        )
    yield from tiny_otherwise()
    for name, temperature in (("1e-60", 0.007), ("1e-150", 0.0028), ("1e-290", 0.00142)):
        yield Case(
            f"float64.{name}",
            call(aligned(143, 3, 4), temperature, "float64"),
            f"true loss about {name}, which float64 still holds: a loss or gradient cut off at some small number",
            ("precise.loss", "precise.gradient"),
            dtypes=("float64",),
            precise=True,
        )


def tiny_otherwise() -> Iterator[Case]:
    """Tiny losses in other company: full mantissas, two rows, rows of all sizes."""
    pair = aligned(145, 4, 5)
    noise = {side: rounded(x + full32(147 + i, 4, 5) / 64.0) for i, (side, x) in enumerate(pair.items())}
    yield Case(
        "full-mantissa",
        call(noise, near32(0.04)),
        "all 24 bits in use and a loss near 1e-9: differences of similarities rounded before they are taken",
        ("precise.loss", "precise.gradient"),
        precise=True,
    )
    yield Case(
        "two",
        call(aligned(149, 2, 3), 0.03125),
        "one negative a row: the maximum over the negatives is the negative itself",
        ("precise.loss", "precise.gradient"),
        precise=True,
    )
    nearer = np.array([0.0, 0.5, 1.0, 1.25])[:, None]
    uphill = {"query": pair["query"], "positive_key": pair["positive_key"] + nearer * np.roll(pair["query"], 1, 0)}
    yield Case(
        "rows",
        call(uphill, 0.03125, reduction="none"),
        "losses of 1e-13 beside losses above 1, row by row: an error of the large ones spread over all",
        ("precise.loss", "precise.gradient"),
        profile="variants",
        precise=True,
    )


def collapsed() -> Iterator[Case]:
    """All rows alike: log C, gradients 0."""
    row = few(151, 1, 3)
    for name, temperature in (("warm", 0.5), ("sharp", 2.0**-10)):
        yield Case(
            name,
            call({"query": np.repeat(row, 5, 0), "positive_key": np.repeat(row, 5, 0)}, temperature),
            "all rows identical: log 5 exactly and no gradient; another count in the denominator, another logarithm",
        )
    full = full32(152, 1, 4)
    yield Case(
        "full-mantissa",
        call({"query": np.repeat(full, 3, 0), "positive_key": np.repeat(full, 3, 0)}, near32(0.07)),
        "all rows identical with full mantissas: log 3; gradients whose terms cancel exactly",
    )
    yield Case(
        "keys",
        call({"query": few(153, 4, 3), "positive_key": np.repeat(few(154, 1, 3), 4, 0)}, 0.25),
        "all keys identical: log 4 whatever the queries; query gradients 0, key gradients not",
    )


def anti_aligned() -> Iterator[Case]:
    """Positives that point away: the loss is large."""
    query = few(161, 4, 5)
    yield Case(
        "opposite",
        call({"query": query, "positive_key": -2.0 * query}, 0.25),
        "every positive is its query's opposite: cosine clipped at 0 or mapped to 0 … 1",
    )
    yield Case(
        "sharp",
        call({"query": query, "positive_key": -0.5 * query}, near32(0.02)),
        "losses near 2 / temperature: a positive that underflows in the softmax, log(p + eps) saturates",
    )
    yield Case(
        "beyond-20",
        call({"query": query, "positive_key": -0.5 * query}, 0.046875),
        "losses of 14 to 23: a softplus that is cut off at 20 is 1e-10 off, which float64 shows",
    )
    shifted = few(163, 5, 3)
    yield Case(
        "rotated",
        call({"query": shifted, "positive_key": np.roll(shifted, 1, 0)}, 0.125),
        "each query's twin is the next row's key: the diagonal taken for something else, labels off by one",
    )


def norms() -> Iterator[Case]:
    """Rows from 1e-6 to 1e6 long: only directions count."""
    base = pairs_of(full32, 171, 6, 3)
    for name, scale in (("1e-6", 1e-6), ("1e-5", 1e-5), ("1e-3", 1e-3), ("1e6", 1e6)):
        yield Case(
            name,
            call({side: rounded(array[:4] * scale) for side, array in base.items()}, near32(0.3)),
            f"all norms about {name}: an epsilon added to the norm, to its square or to the product of two norms; "
            "a floor under the norm",
            ("similarity.cosine.scale",),
        )
    ladder = np.array([1e-6, 1e-5, 1e-3, 1.0, 1e3, 1e6])[:, None]
    yield Case(
        "mixed",
        call(
            {
                "query": rounded(base["query"] * ladder),
                "positive_key": rounded(base["positive_key"] * ladder[::-1]),
            },
            0.375,
        ),
        "norms from 1e-6 to 1e6 in one batch: a norm over the whole tensor, normalisation on one side only",
        ("similarity.cosine.scale",),
    )
    yield Case(
        "one-side",
        call({"query": base["query"][:3], "positive_key": rounded(base["positive_key"][:3] * 1e-5)}, 0.25),
        "only the keys are short: an epsilon that disturbs one side",
        ("similarity.cosine.scale",),
    )


def duplicates() -> Iterator[Case]:
    """Equal rows: ties, and negatives that equal the positive."""
    some = pairs(181, 5, 3)
    query, key = some["query"], some["positive_key"]
    yield Case(
        "of-the-positive",
        call({"query": query, "positive_key": key[[0, 1, 0, 3, 1]]}, 0.25),
        "keys that occur twice: a duplicate of the positive is an ordinary negative, not left out, not a positive",
    )
    yield Case(
        "of-a-negative",
        call({"query": query[:4], "positive_key": np.concatenate([key[:2], key[2:3], 2.0 * key[2:3]])}, 0.125),
        "two keys of one direction: a set in place of a list, a tie for the maximum that is counted once",
    )
    yield Case(
        "of-the-query",
        call({"query": query[[0, 1, 1, 0]], "positive_key": key[:4]}, 0.3125),
        "queries that occur twice with different positives: rows found by value, not by place",
    )
    yield Case(
        "keys-are-queries",
        call({"query": query, "positive_key": query}, 0.5),
        "each key is its query: cosine 1 on the diagonal; a diagonal that is left out as 'self'",
    )


def many() -> Iterator[Case]:
    """More rows than a block."""
    yield Case(
        "97-rows",
        call(pairs(191, 97, 2), 0.25),
        "97 rows, a prime number: borders of blocks, a last block that is shorter, rows dropped",
    )


CLASSES = {
    "benign": benign,
    "sharp": sharp,
    "wide": wide,
    "aligned": tiny,
    "collapsed": collapsed,
    "anti-aligned": anti_aligned,
    "norms": norms,
    "duplicates": duplicates,
    "many": many,
}
