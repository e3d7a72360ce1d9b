"""The options: other similarities, margin, weights, reductions; and the half formats."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import numpy as np

from infonce_ref.conformance.cases.case import HALF, Case, call
from infonce_ref.conformance.cases.draw import (
    aligned,
    few,
    full32,
    full64,
    keep,
    near32,
    pairs,
    pairs_of,
    rounded,
    uneven,
)


def dot() -> Iterator[Case]:
    """Inner products of the rows as they are."""
    some = pairs(301, 4, 5)
    yield Case("plain", call(some, 1.5, similarity="dot"), "rows normalised all the same", profile="variants")
    yield Case(
        "large",
        call({side: 8.0 * x for side, x in some.items()}, 0.75, similarity="dot"),
        "logits of hundreds of either sign: exp without a shift",
        profile="variants",
    )
    yield Case(
        "full-mantissa",
        call(pairs_of(full32, 303, 5, 3), near32(0.3), similarity="dot"),
        "all 24 bits in use; the gradient isn't projected",
        profile="variants",
    )
    yield Case(
        "negatives",
        call(
            {**pairs(305, 3, 4), "negative_keys": few(307, 5, 4)},
            0.875,
            similarity="dot",
            in_batch_negatives=False,
        ),
        "explicit negatives are normalised no more than the keys",
        profile="variants",
    )
    yield Case(
        "own",
        call({**pairs(308, 3, 4), "negative_keys": few(310, 3, 2, 4)}, 1.25, similarity="dot"),
        "own negatives beside the batch, as they are",
        profile="variants",
    )
    yield Case(
        "tiny",
        call(aligned(311, 3, 5), 0.0625, similarity="dot"),
        "tiny losses from inner products",
        ("precise.loss", "precise.gradient"),
        profile="variants",
        precise=True,
    )
    yield Case(
        "unbalanced",
        call(
            {"query": 2.0**60 * some["query"], "positive_key": 2.0**-60 * some["positive_key"]}, 1.5, similarity="dot"
        ),
        "huge queries and tiny keys whose products are ordinary: gradients differ by 2^120",
        profile="variants",
    )


def bilinear() -> Iterator[Case]:
    """xᵀ W y with queries and keys of different lengths."""

    def sides(seed: int, n: int, d: int, e: int) -> dict[str, np.ndarray]:
        return {
            "query": few(seed, n, d),
            "positive_key": few(seed + 1, n, e),
            "bilinear_weight": few(seed + 2, d, e) / 2.0,
        }

    yield Case(
        "wide",
        call(sides(321, 4, 3, 5), 1.25, similarity="bilinear"),
        "queries shorter than keys: W transposed, rows normalised, the gradient of W transposed or of one side only",
        profile="variants",
    )
    yield Case(
        "tall",
        call(sides(324, 3, 6, 2), 2.5, similarity="bilinear"),
        "queries longer than keys",
        profile="variants",
    )
    yield Case(
        "square",
        call(sides(327, 4, 3, 3), 1.75, similarity="bilinear"),
        "a square W that isn't symmetric: only the numbers tell W from its transpose",
        profile="variants",
    )
    yield Case(
        "shared",
        call(
            {**sides(330, 3, 2, 4), "negative_keys": few(333, 5, 4)},
            1.5,
            similarity="bilinear",
            in_batch_negatives=False,
        ),
        "explicit negatives have the keys' length, not the queries'",
        profile="variants",
    )
    yield Case(
        "tiny",
        call(
            {
                "query": 2.0 * np.eye(3, 4) + few(461, 3, 4) / 8.0,
                "positive_key": 2.0 * np.eye(3, 3) + few(462, 3, 3) / 16.0,
                "bilinear_weight": np.eye(4, 3) + few(463, 4, 3) / 32.0,
            },
            0.1875,
            similarity="bilinear",
        ),
        "tiny losses through W: W's gradient keeps its digits",
        ("precise.loss", "precise.gradient"),
        profile="variants",
        precise=True,
    )
    yield Case(
        "full-mantissa",
        call(
            {"query": full32(464, 4, 3), "positive_key": full32(465, 4, 2), "bilinear_weight": full32(466, 3, 2)},
            near32(0.1),
            similarity="bilinear",
        ),
        "all 24 bits in use",
        profile="variants",
    )
    yield Case(
        "in-batch+own",
        call({**sides(334, 3, 4, 2), "negative_keys": few(337, 3, 2, 2)}, 1.5, similarity="bilinear"),
        "W's gradient sums over keys, own negatives and queries",
        profile="variants",
    )
    yield Case(
        "one-feature",
        call(sides(338, 3, 1, 2), 1.5, similarity="bilinear"),
        "D = 1: an axis of length 1 squeezed away",
        profile="variants",
    )


def margin() -> Iterator[Case]:
    """A margin on the positive's similarity."""
    some = pairs(341, 4, 3)
    yield Case(
        "plain",
        call(some, 0.25, margin=0.125),
        "taken off after the division by the temperature, added, taken off the negatives too",
        profile="variants",
    )
    yield Case("negative", call(some, 0.375, margin=-0.3125), "a negative margin: clamped at 0", profile="variants")
    yield Case(
        "dot",
        call(some, 1.75, margin=1.5, similarity="dot"),
        "a margin above 1 with inner products",
        profile="variants",
    )
    yield Case(
        "bilinear",
        call(
            {**pairs(343, 3, 4), "bilinear_weight": few(345, 4, 4) / 4.0},
            0.75,
            margin=near32(0.3),
            similarity="bilinear",
        ),
        "a margin beside W: its gradient is by the similarity, not by the logit",
        profile="variants",
    )
    yield Case(
        "masked",
        call({**some, "candidate_mask": keep(346, 4, 4) & ~np.eye(4, dtype=bool)}, 0.25, margin=0.1875),
        "a mask that leaves the positive out of the candidates must not leave its margin out",
        profile="variants",
    )
    yield Case(
        "no-negative",
        call({side: x[:1] for side, x in some.items()}, 0.25, margin=0.5),
        "one query without negatives: loss 0 and the margin's gradient 0",
        ("candidates.none",),
        profile="variants",
    )
    yield Case(
        "tiny",
        call(aligned(347, 3, 4), 0.0546875, margin=0.25),
        "tiny losses beside a margin",
        ("precise.loss", "precise.gradient"),
        profile="variants",
        precise=True,
    )


def logit_bias() -> Iterator[Case]:
    """A bias for each candidate, after the temperature."""
    some = pairs(391, 4, 3)
    bias = few(393, 4)
    yield Case(
        "in-batch",
        call({**some, "logit_bias": bias}, 0.25),
        "divided by the temperature, left off the positive, or part of the temperature's gradient",
        profile="variants",
    )
    yield Case(
        "index",
        call({**some, "positive_key": some["positive_key"][:3], "positive_index": np.array([2, 0, 0, 1]),
              "logit_bias": bias[:3]}, 0.375, reduction="none"),
        "the positive's bias is its column's, not its query's; a column that is two queries' positive",
        profile="variants",
    )  # fmt: skip
    for name, rows, in_batch in (
        ("shared", few(394, 5, 3), False),
        ("own", few(395, 4, 2, 3), False),
        ("in-batch+shared", few(396, 2, 3), True),
        ("in-batch+own", few(397, 4, 2, 3), True),
    ):
        columns = 4 * in_batch + rows.shape[-2]
        yield Case(
            name,
            call({**some, "negative_keys": rows, "logit_bias": few(398, columns)}, 0.3125, in_batch_negatives=in_batch),
            "columns are the positive keys first, if they are in the batch; where they aren't the positive has no bias",
            profile="variants",
        )
    yield Case(
        "masked",
        call({**some, "logit_bias": 32.0 * bias, "candidate_mask": keep(399, 4, 4)}, 0.0625, margin=0.125),
        "a large bias on a masked candidate; a masked positive keeps its own",
        ("candidates.mask.positive",),
        profile="variants",
    )
    yield Case(
        "tiny",
        call({**aligned(411, 3, 4), "logit_bias": few(412, 3)}, 0.046875),
        "tiny losses beside a bias",
        ("precise.loss", "precise.gradient"),
        profile="variants",
        precise=True,
    )
    yield Case(
        "full-mantissa",
        call({**pairs_of(full32, 413, 3, 4), "logit_bias": rounded(4.0 * full32(415, 3))}, near32(0.02)),
        "biases with all their bits in use",
        profile="variants",
    )


def reductions() -> Iterator[Case]:
    """Sum, none and weights."""
    some = pairs(351, 5, 3)
    for reduction, note in (
        ("sum", "divided by N all the same; a sum over the batch divided by something else"),
        ("none", "one entry a query, in the queries' order; gradients of their sum"),
    ):
        yield Case(reduction, call(some, 0.3125, reduction=reduction), note, profile="variants")
    yield Case(
        "none.negatives",
        call(
            {**pairs(353, 3, 4), "negative_keys": few(355, 4, 4)},
            0.4375,
            in_batch_negatives=False,
            reduction="none",
        ),
        "one entry a query, not one a negative",
        profile="variants",
    )
    yield Case(
        "none.two-by-one",
        call(
            {"query": few(356, 2, 1), "positive_key": few(357, 2, 1)},
            0.75,
            reduction="none",
            similarity="dot",
        ),
        "two entries, D = 1: an axis of length 1 squeezed away",
        profile="variants",
    )


def weights() -> Iterator[Case]:
    """A weight for each query."""
    some = pairs(361, 5, 3)
    weight = np.array([0.5, 2.0, 0.0, 1.25, 0.75])
    for reduction, note in (
        (
            "mean",
            "divided by N or by the number of positive weights, not by the sum of the weights; normalised weights",
        ),
        ("sum", "divided by the sum of the weights all the same"),
        ("none", "entries are weighted too: their sum is 'sum'"),
    ):
        yield Case(
            reduction,
            call({**some, "sample_weight": weight}, 0.3125, reduction=reduction),
            note,
            profile="variants",
        )
        yield Case(
            f"zero.{reduction}",
            call({**some, "sample_weight": np.zeros(5)}, 0.3125, reduction=reduction),
            "all weights 0: loss 0 and gradients 0, not 0/0",
            profile="variants",
        )
    yield Case(
        "one-left",
        call({**some, "sample_weight": np.array([0.0, 0.0, 0.0, 0.375, 0.0])}, 0.1875),
        "one query counts: a query of weight 0 is still a source of negatives",
        profile="variants",
    )
    yield Case(
        "full-mantissa",
        call({**some, "sample_weight": rounded(full32(363, 5) + 1.0)}, near32(0.15)),
        "weights with all their bits in use",
        profile="variants",
    )


def half() -> Iterator[Case]:
    """float16 and bfloat16: stored in half precision, computed in float32."""
    some = pairs(371, 5, 4)

    def ask(name: str, arrays: dict[str, np.ndarray], temperature: float, note: str, **options: object) -> Case:
        dtypes = options.pop("dtypes", HALF)
        clauses = options.pop("clauses", ())
        return Case(
            name,
            call(arrays, temperature, dtypes[0], **options),  # type: ignore[index]
            note,
            clauses,  # type: ignore[arg-type]
            profile="half",
            dtypes=dtypes,  # type: ignore[arg-type]
        )

    yield ask("plain", some, 0.25, "computed in half precision: errors of 1e-3 in the loss")
    yield ask(
        "cool",
        some,
        0.0703125,
        "cosines rounded to half precision before they are divided by the temperature",
    )
    yield ask("sharp", pairs(373, 4, 6, share=0), 2.0**-7, "logits of 100 carried in half precision: off by 1")
    yield ask(
        "large-rows",
        {side: 128.0 * x for side, x in some.items()},
        0.375,
        "sums of squares above 65504: inf in float16",
    )
    yield ask(
        "small-rows",
        {side: 2.0**-10 * x for side, x in some.items()},
        0.375,
        "squares below 2^-24: 0 in float16; an epsilon of 1e-3 or 1e-4 for half precision",
    )
    yield ask(
        "dot.large",
        {side: 32.0 * x for side, x in some.items()},
        64.0,
        "inner products above 65504 before they are divided by the temperature",
        similarity="dot",
    )
    yield ask(
        "subnormal",
        {
            "query": 2.0**-18 * some["query"][:3] / np.array([1.0, 0.5, 4.0])[:, None],
            "positive_key": some["positive_key"][:3],
        },
        0.1875,
        "rows of float16's subnormal numbers, flushed to 0 before they are made float32; gradients beyond float16",
        clauses=("similarity.cosine.scale",),
    )
    yield ask(
        "long-rows",
        {"query": few(375, 2, 24), "positive_key": few(376, 2, 24)},
        0.5,
        "sums accumulated in half precision",
    )
    yield ask(
        "shared",
        {**some, "negative_keys": few(377, 7, 4)},
        0.3125,
        "explicit negatives in half precision",
        in_batch_negatives=False,
    )
    yield ask("own", {**some, "negative_keys": few(378, 5, 2, 4)}, 0.4375, "own negatives in half precision")
    yield ask("sum", some, 0.1875, "a sum in half precision", reduction="sum")
    yield ask("none", some, 0.1875, "entries come back in float32", reduction="none")
    yield ask(
        "mask",
        {**some, "candidate_mask": keep(379, 5, 5)},
        0.09375,
        "-1e9 or -1e4 added in float16: -inf, or a leak",
        clauses=("candidates.mask.positive",),
    )
    yield ask(
        "bilinear",
        {"query": few(381, 3, 4), "positive_key": few(382, 3, 2), "bilinear_weight": few(383, 4, 2)},
        2.5,
        "W in half precision: q W rounded between the two products",
        similarity="bilinear",
    )
    yield ask(
        "zero-row",
        {**some, "query": some["query"] * np.array([1.0, 1.0, 0.0, 1.0, 1.0])[:, None]},
        0.25,
        "a zero row over an epsilon that is 0 in float16: NaN",
        clauses=("similarity.cosine.zero",),
    )
    yield ask(
        "float16",
        {side: x.astype(np.float16).astype(np.float64) for side, x in pairs_of(full64, 385, 4, 5).items()},
        float(np.float16(0.07)),
        "all 11 bits in use: float16 passed through bfloat16",
        dtypes=("float16",),
    )
    yield ask(
        "bfloat16",
        {side: 2.0**90 * x for side, x in pairs(387, 4, 5).items()},
        0.25,
        "bfloat16 reaches as far as float32: sums of squares overflow both",
        dtypes=("bfloat16",),
        clauses=("similarity.cosine.scale",),
    )


def example() -> Iterator[Case]:
    """One query, similarities 0.9 (its positive), 0.6, 0.3 and 0.1, temperature 0.1: loss 0.0513."""
    aside = np.array([0.4375, 0.8125, 0.953125, 1.0])  # a second coordinate, across the query: seen by no product
    note = (
        "worked by hand: exp(9), exp(6), exp(3), exp(1) give a probability of 0.950 and a loss of 0.0513; 0.9 and 0.1 "
        "aren't binary numbers, so the inputs are the nearest that are, and the answer is theirs"
    )
    for dtype, sims, temperature in (
        ("float64", np.array([0.9, 0.6, 0.3, 0.1]), 0.1),
        ("float32", rounded(np.array([0.9, 0.6, 0.3, 0.1])), near32(0.1)),
    ):
        keys = np.stack([sims, aside], axis=1)
        dtypes = ("float64",) if dtype == "float64" else ("float64", "float32")
        query = np.array([[1.0, 0.0]])
        yield Case(
            f"shared.{dtype}",
            call(
                {"query": query, "positive_key": keys[:1], "negative_keys": keys[1:]},
                temperature,
                dtype,
                similarity="dot",
            ),
            note,
            profile="variants",
            dtypes=dtypes,
        )
        yield Case(
            f"index.{dtype}",
            call(
                {"query": query, "positive_key": keys, "positive_index": np.array([0])},
                temperature,
                dtype,
                similarity="dot",
            ),
            note,
            profile="variants",
            dtypes=dtypes,
        )
    unit = np.array([[0.9, sqrt(0.19)], [0.6, 0.8], [0.3, sqrt(0.91)], [0.1, sqrt(0.99)]])
    yield Case(
        "cosine",
        call(
            {"query": np.array([[2.0, 0.0]]), "positive_key": unit[:1], "negative_keys": uneven(unit[1:])},
            0.1,
            "float64",
        ),
        note,
        profile="negatives",
        dtypes=("float64",),
    )


CLASSES = {
    "dot": dot,
    "bilinear": bilinear,
    "margin": margin,
    "logit-bias": logit_bias,
    "reductions": reductions,
    "sample-weight": weights,
    "half": half,
    "example": example,
}
