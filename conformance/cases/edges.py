"""Where implementations break: no negatives, extreme norms, zero rows, NaN and inf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from infonce_ref.conformance.cases.case import Case, call
from infonce_ref.conformance.cases.draw import few, full32, near32, pairs, pairs_of, rounded

NAN, INF = float("nan"), float("inf")


def single() -> Iterator[Case]:
    """One query."""
    one = pairs(401, 1, 4)
    yield Case(
        "alone",
        call(one, 0.25),
        "no negative: loss 0 and gradients 0, not NaN from the logarithm of an empty sum, not log 1 of something else",
        ("candidates.none",),
        profile="edges",
    )
    yield Case(
        "alone.none",
        call(one, 0.25, reduction="none"),
        "the same with an entry for each query: shape (1,), not ()",
        ("candidates.none",),
        profile="edges",
    )
    yield Case(
        "alone.sharp",
        call({"query": full32(403, 1, 4), "positive_key": full32(404, 1, 4)}, near32(1e-3)),
        "no negative and a logit of hundreds: 0 exactly, with no trace of the logit",
        ("candidates.none",),
        profile="edges",
    )
    for name, rows, in_batch in (
        ("shared", few(405, 3, 4), False),
        ("own", few(406, 1, 3, 4), False),
        ("in-batch+shared", few(407, 3, 4), True),
    ):
        yield Case(
            name,
            call({**one, "negative_keys": rows}, 0.4375, in_batch_negatives=in_batch),
            "one query with three negatives: axes of length 1 squeezed away, query and key mistaken for vectors",
            profile="edges",
        )
    yield Case(
        "empty-bank",
        call({**pairs(408, 3, 4), "negative_keys": np.zeros((0, 4))}, 0.25, in_batch_negatives=False),
        "a bank without rows and no negatives in the batch: loss 0, gradients 0",
        ("candidates.none",),
        profile="edges",
    )
    yield Case(
        "one-feature",
        call(pairs(411, 3, 1), 0.625),
        "D = 1: cosines of 1 and -1, gradients 0; an axis of length 1 squeezed away",
        profile="edges",
    )


def extreme_norms() -> Iterator[Case]:
    """Norms whose squares no dtype holds."""
    base = pairs_of(full32, 421, 3, 4)
    for name, query, key in (
        ("1e20", 1e20, 1e20),
        ("1e-20", 1e-20, 1e-20),
        ("1e30", 1e30, 1e30),
        ("1e-30", 1e-30, 1e-30),
        ("1e30.1e-30", 1e30, 1e-30),
        ("subnormal", 2.0**-140, 1.0),
    ):
        yield Case(
            name,
            call(
                {
                    "query": rounded(base["query"] * query),
                    "positive_key": rounded(base["positive_key"] * key),
                },
                0.375,
            ),
            "the square of the norm overflows or underflows in float32: log N with gradient 0, NaN, or rows that a "
            "floor under the norm leaves short",
            ("similarity.cosine.scale",),
            profile="edges",
        )
    for name, scale in (("1e200", 1e200), ("1e-200", 1e-200), ("subnormal", 2.0**-1060)):
        yield Case(
            f"float64.{name}",
            call({side: x * scale for side, x in pairs(423, 3, 4).items()}, 0.375, "float64"),
            "the same in float64",
            ("similarity.cosine.scale",),
            profile="edges",
            dtypes=("float64",),
        )
    yield Case(
        "within-a-row",
        call(
            {
                "query": few(425, 3, 4) * np.array([1.0, 2.0**-90, 2.0**-30, 2.0**90]),
                "positive_key": few(426, 3, 4),
            },
            0.25,
        ),
        "huge and tiny numbers in one row: the row's scale is its largest number",
        ("similarity.cosine.scale",),
        profile="edges",
    )
    yield Case(
        "negatives",
        call(
            {
                **pairs(427, 3, 4),
                "negative_keys": few(429, 4, 4) * np.array([[2.0**90], [2.0**-90], [1.0], [2.0**60]]),
            },
            0.25,
        ),
        "explicit negatives of any length",
        ("similarity.cosine.scale",),
        profile="edges",
    )


def zero_rows() -> Iterator[Case]:
    """A zero row has cosine 0 with everything, and gradient 0."""
    some = pairs(431, 4, 3)

    def without(name: str, *rows: int) -> np.ndarray:
        array = some[name].copy()
        array[list(rows)] = 0.0
        return array

    note = "0/0, or a floor under the norm: gradients of 1e12; a gradient that flows into the zero row"
    zero = ("similarity.cosine.zero",)
    yield Case("query", call({**some, "query": without("query", 1)}, 0.25), note, zero, profile="edges")
    yield Case("key", call({**some, "positive_key": without("positive_key", 2)}, 0.25), note, zero, profile="edges")
    yield Case(
        "pair",
        call({"query": without("query", 0), "positive_key": without("positive_key", 0, 3)}, 0.3125),
        "a pair of zero rows and a zero key: " + note,
        zero,
        profile="edges",
    )
    yield Case(
        "all",
        call({"query": np.zeros((3, 2)), "positive_key": np.zeros((3, 2))}, 0.25),
        "nothing but zeros: log 3, gradients 0",
        zero,
        profile="edges",
    )
    yield Case(
        "sharp",
        call({**some, "query": without("query", 1)}, 2.0**-10),
        "a zero row at a low temperature: a cosine that is nearly 0 becomes a logit that isn't",
        zero,
        profile="edges",
    )
    yield Case(
        "minus-zero",
        call(
            {**some, "positive_key": np.copysign(without("positive_key", 1), np.array([-1.0, 1.0, -1.0]))},
            0.25,
        ),
        "zeros with a sign",
        zero,
        profile="edges",
    )
    bank = few(433, 4, 3)
    bank[2] = 0.0
    yield Case(
        "shared",
        call({**some, "negative_keys": bank}, 0.375, in_batch_negatives=False),
        "an empty slot of the bank is a negative of cosine 0, not left out",
        zero,
        profile="edges",
    )
    own = few(434, 4, 2, 3)
    own[1, 0] = own[3] = 0.0
    yield Case("own", call({**some, "negative_keys": own}, 0.375), "zero rows among its own", zero, profile="edges")
    yield Case(
        "dot",
        call({**some, "query": without("query", 1)}, 1.25, similarity="dot"),
        "with inner products a zero row is an ordinary row, and its gradient isn't 0",
        profile="edges",
    )


def ties() -> Iterator[Case]:
    """A positive that ties exactly with the rest of its row: the loss is log 2, its derivative by the logits 1/2."""
    note = (
        "the positive and the only negative mirror each other in the query: x = 0 in softplus(x), where automatic "
        "differentiation of max(x, 0) or |x| gives 0 or 1 for the derivative 1/2"
    )
    mirrored = {"query": np.array([[2.0, 0.0], [0.5, 0.0]]), "positive_key": np.array([[3.0, 4.0], [3.0, -4.0]])}
    for name, temperature in (("warm", 0.5), ("sharp", 2.0**-10)):
        yield Case(name, call(mirrored, temperature), note, ("gradient.query", "rows.softplus"), profile="edges")
    yield Case(
        "shared",
        call(
            {
                "query": np.array([[0.0, 1.0, 0.0]]),
                "positive_key": np.array([[2.0, 1.0, 2.0]]),
                "negative_keys": np.array([[-2.0, 1.0, 2.0]]),
            },
            0.25,
            in_batch_negatives=False,
        ),
        note,
        ("gradient.query", "rows.softplus"),
        profile="edges",
    )


def nonfinite() -> Iterator[Case]:
    """NaN and infinities: what depends on them is never a finite number."""
    some = pairs(441, 4, 3)
    everything = {"loss": None, "temperature": None}
    for value, name in ((NAN, "nan"), (INF, "inf"), (-INF, "-inf")):
        yield Case(
            f"query.{name}",
            call(changed(some, "query", (2, 1), value), 0.25),
            f"one {name} in a query: skipped by a maximum, a mean over the finite rows, cleaned away",
            ("rows.nonfinite", "similarity.cosine"),
            profile="edges",
            nonfinite={**everything, "query": [2]},
        )
        yield Case(
            f"key.{name}",
            call(changed(some, "positive_key", (1, 0), value), 0.25, reduction="none"),
            f"one {name} in a key, which is a candidate of every query: no loss is finite",
            ("rows.nonfinite", "reduction.none"),
            profile="edges",
            nonfinite={"loss": None},
        )
    yield row_alone("query-alone", some, "query", (2, 1), 0.25, [2])
    shared = {**some, "negative_keys": few(443, 5, 3)}
    own = {**some, "negative_keys": few(444, 4, 2, 3)}
    for reading, arrays in (("shared", shared), ("own", own)):
        yield row_alone(f"{reading}.query", arrays, "query", (1, 2), 0.375, [1], in_batch_negatives=False)
        yield row_alone(f"{reading}.key", arrays, "positive_key", (3, 0), 0.375, [3], in_batch_negatives=False)
    yield row_alone("own.negative", own, "negative_keys", (0, 1, 1), 0.375, [0], in_batch_negatives=False)
    yield row_alone("own.negative.in-batch", own, "negative_keys", (2, 0, 0), 0.375, [2])
    yield Case(
        "shared.negative",
        call(changed(shared, "negative_keys", (4, 1), NAN), 0.375, in_batch_negatives=False),
        "a NaN in the bank is everyone's",
        ("rows.nonfinite",),
        profile="edges",
        nonfinite=everything,
    )
    yield Case(
        "index-outside",
        call({**some, "positive_index": np.array([1, 4, 0, 3])}, 0.25, reduction="none"),
        "a positive that doesn't exist: the last key, or the first, taken instead",
        ("candidates.index.domain",),
        profile="edges",
        stand_in=call({**some, "positive_index": np.array([1, 1, 0, 3])}, 0.25, reduction="none"),
        nonfinite={"loss": [1]},
    )
    yield from overflow()


def row_alone(
    name: str,
    arrays: Mapping[str, np.ndarray],
    side: str,
    place: tuple[int, ...],
    temperature: float,
    rows: Sequence[int],
    in_batch_negatives: bool = True,
) -> Case:
    """A NaN that touches the losses of `rows` and leaves all others as they are."""
    return Case(
        name,
        call(changed(arrays, side, place, NAN), temperature, reduction="none", in_batch_negatives=in_batch_negatives),
        "a NaN in one row: its loss is NaN, and the losses of the rows that don't depend on it are what they were",
        ("rows.nonfinite", "reduction.none"),
        profile="edges",
        stand_in=call(arrays, temperature, reduction="none", in_batch_negatives=in_batch_negatives),
        nonfinite={"loss": rows, side: rows},
    )


def changed(arrays: Mapping[str, np.ndarray], name: str, place: tuple[int, ...], value: float) -> dict[str, np.ndarray]:
    """The arrays with one number replaced."""
    array = arrays[name].copy()
    array[place] = value
    return {**arrays, name: array}


def overflow() -> Iterator[Case]:
    """Inner products that overflow count as infinities."""
    for dtype, big in (("float32", 2.0**100), ("float64", 2.0**900)):
        query = np.array([[big, 1.0], [1.0, 0.5], [-1.0, 2.0]])
        key = np.array([[-big, 0.5], [big, 1.0], [0.25, 1.0]])
        yield Case(
            f"dot.overflow.{dtype}",
            call({"query": query, "positive_key": key}, 2.0, dtype, similarity="dot"),
            "the logit of a negative overflows: clipped, cleaned away, or a maximum that hides it",
            ("rows.nonfinite", "similarity.dot"),
            profile="edges",
            dtypes=(dtype,),
            nonfinite={"loss": None},
        )
        yield Case(
            f"shared.overflow.{dtype}",
            call(
                {"query": query[:1], "positive_key": key[2:], "negative_keys": key[1:]},
                2.0,
                dtype,
                similarity="dot",
                in_batch_negatives=False,
            ),
            "the logit of an explicit negative overflows",
            ("rows.nonfinite", "similarity.dot"),
            profile="edges",
            dtypes=(dtype,),
            nonfinite={"loss": None},
        )


CLASSES = {
    "single": single,
    "extreme-norms": extreme_norms,
    "zero-rows": zero_rows,
    "ties": ties,
    "nonfinite": nonfinite,
}
