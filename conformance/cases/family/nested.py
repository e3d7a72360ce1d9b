"""Prefixes of embeddings: matryoshka, of info_nce."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from infonce_ref.conformance.cases.case import Case, Cases
from infonce_ref.conformance.cases.draw import few, full32, keep, near32, rounded
from infonce_ref.conformance.cases.family.refused import refused, small, with_own
from infonce_ref.conformance.cases.family.subject import NAN, TINY, Subject, aligned_trio, classes, trio, trio_of
from infonce_ref.conformance.problem import Problem


class Nested(Subject):
    """Half of the coordinates, and all, unless a case says otherwise."""

    def of(
        self, arrays: Mapping[str, np.ndarray], temperature: float | None = None, dtype: str = "float32", **options: Any
    ) -> Problem:
        width = arrays["query"].shape[-1]
        return super().of(arrays, temperature, dtype, **{"options": dims((width + 1) // 2, width), **options})


def dims(*each: Any, weights: list[float] | None = None) -> dict[str, Any]:
    """The options of a call."""
    return {"dims": [*each], **({} if weights is None else {"weights": weights})}


def query_and_key(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    return {"query": x, "positive_key": y}


MATRYOSHKA = Nested(
    "matryoshka",
    query_and_key,
    9000,
    "the mean over the dimensions; rows normalised once and then cut; the last coordinates for the first",
    "2 log 3, of two dimensions",
    spoils_all=False,
)


def wide(offset: int) -> dict[str, np.ndarray]:
    """Four pairs of rows of six coordinates."""
    return query_and_key(*trio(MATRYOSHKA.seed + offset, 4, 6))


def which() -> Iterator[Case]:
    """Which coordinates: one dimension, several, in any order."""
    for name, given, note in (
        ("all", (6,), "one dimension, that of the rows: the loss itself"),
        ("one-prefix", (3,), "one dimension shorter than the rows: the rest isn't looked at and has the gradient 0"),
        ("one-coordinate", (1, 6), "a single coordinate: cosines of 1 and -1"),
        ("many", (1, 2, 3, 4, 5, 6), "every length: a mean in place of the sum; dimensions off by one"),
        ("falling", (5, 2, 3), "dimensions that don't rise: sorted, or gradients that stop at the last"),
        ("repeated", (2, 4, 2), "one dimension twice: counted once"),
        ("inner", (2, 4), "none reaches the end: the whole rows compared too"),
    ):
        yield Case(name, MATRYOSHKA.of(wide(1), options=dims(*given)), note, ("matryoshka.sum",))


def weights() -> Iterator[Case]:
    """Weights, one for each dimension."""
    for name, given, note in (
        ("uneven", dims(2, 4, 6, weights=[2.0, 0.5, 0.75]), "weights ignored, made to sum to 1, divided by their sum"),
        ("order", dims(6, 2, weights=[0.25, 3.0]), "dimensions sorted and weights not"),
        ("zero", dims(2, 6, weights=[0.0, 1.0]), "a weight of 0: left out, not the default"),
        ("none-left", dims(2, 6, weights=[0.0, 0.0]), "weights that are all 0: loss 0, gradients 0, not 0/0"),
        ("one", dims(4, weights=[0.375]), "one weight: normalised away"),
        ("far-apart", dims(2, 4, weights=[2.0**-10, 2.0**10]), "weights through a softmax, or clamped"),
    ):
        yield Case(name, MATRYOSHKA.of(wide(2), options=given), note, ("matryoshka.sum",), profile="variants")
    yield Case(
        "full-mantissa",
        MATRYOSHKA.ask(
            trio_of(full32, MATRYOSHKA.seed + 15, 3, 5),
            near32(0.07),
            options=dims(1, 3, 5, weights=[near32(0.3), near32(1.7), near32(0.9)]),
        ),
        "weights that are no binary fractions: rounded to half precision on their way",
        ("matryoshka.sum",),
        profile="variants",
    )
    yield Case(
        "none-reduction",
        MATRYOSHKA.of(
            {**wide(3), "sample_weight": np.array([0.5, 2.0, 0.0, 1.25])},
            reduction="none",
            options=dims(2, 6, weights=[1.5, 0.5]),
        ),
        "an entry for each query, not for each query and dimension; weights of dimensions and of rows exchanged",
        ("matryoshka.sum", "reduction.none"),
        profile="variants",
    )
    yield Case(
        "tiny",
        MATRYOSHKA.ask(aligned_trio(MATRYOSHKA.seed + 16, 2), 0.03125, options=dims(2, 4, weights=[0.5, 3.0])),
        "tiny losses, weighted: softmax - onehot in one of the parts spoils the sum",
        TINY,
        profile="variants",
        precise=True,
    )


def prefixes() -> Iterator[Case]:
    """Rows whose prefix is unlike the rest."""
    x, y, _ = trio(MATRYOSHKA.seed + 21, 4, 6)
    tall = np.array([1.0, 1.0, 1.0, 16.0, 16.0, 16.0])
    yield Case(
        "long-tails",
        MATRYOSHKA.of(query_and_key(x * tall, y * tall[::-1], x)),
        "most of a row's length behind its prefix, or in it: rows normalised whole and then cut",
        ("matryoshka.sum",),
    )
    head = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    yield Case(
        "zero-tails",
        MATRYOSHKA.of(query_and_key(x * head, y * head, x)),
        "nothing behind the prefix: both dimensions give one loss, and the tail still has a gradient from the whole",
        ("matryoshka.sum",),
    )
    hidden = np.where((np.arange(4) == 1)[:, None], x * (1.0 - head), x)
    yield Case(
        "zero-prefix",
        MATRYOSHKA.of(query_and_key(hidden, y, x)),
        "a prefix of zeros: 0/0 there, though the row isn't zero; its cosines are 0, its gradient the whole row's",
        ("matryoshka.sum", "similarity.cosine.zero"),
        profile="edges",
    )
    far = rounded(np.array([1e-25, 1e-25, 1e-25, 1e20, 1e20, 1e20]))
    x, y, _ = trio_of(full32, MATRYOSHKA.seed + 22, 3, 6)
    yield Case(
        "far-norms",
        MATRYOSHKA.of(query_and_key(rounded(x * far), y, x), 0.375),
        "a prefix too short for its square, in a row too long for its own",
        ("matryoshka.sum", "similarity.cosine.scale"),
        profile="edges",
    )
    beyond = wide(23)
    beyond["query"][1, 5] = NAN
    yield Case(
        "unseen",
        MATRYOSHKA.of(beyond, options=dims(2, 4)),
        "a NaN behind every prefix: not looked at, its gradient 0",
        ("matryoshka.sum",),
        profile="edges",
    )


def negatives() -> Iterator[Case]:
    """Explicit negatives are cut as the rest is."""
    bank, own = few(9031, 3, 6), few(9032, 4, 2, 6)
    for name, rows, in_batch in (
        ("shared", bank, False),
        ("own", own, False),
        ("in-batch-shared", bank, True),
        ("in-batch-own", own, True),
    ):
        yield Case(
            name,
            MATRYOSHKA.of({**wide(30), "negative_keys": rows}, in_batch_negatives=in_batch, options=dims(2, 6)),
            "explicit negatives that aren't cut, or are left out",
            ("matryoshka.sum",),
            profile="negatives",
        )


def masks() -> Iterator[Case]:
    """The mask is the same for every dimension."""
    given = wide(40)
    yield Case(
        "plain",
        MATRYOSHKA.of({**given, "candidate_mask": keep(9041, 4, 4)}),
        "a mask that holds for the whole rows alone; one of candidate x query",
        profile="masks",
    )
    yield Case(
        "own",
        MATRYOSHKA.of({**given, "negative_keys": few(9042, 4, 2, 6), "candidate_mask": keep(9043, 4, 6)}),
        "keys, then negatives: the mask's columns the other way round",
        profile="masks",
    )
    alone = np.ones((4, 4), dtype=bool)
    alone[2] = False
    yield Case(
        "query-alone",
        MATRYOSHKA.of({**given, "candidate_mask": alone}, reduction="none"),
        "a query without negatives: 0 for every dimension",
        ("candidates.none",),
        profile="masks",
    )


def refusals(subject: Subject) -> Iterator[Case]:
    good = small(subject)
    for name, options, note in (
        ("dims.empty", dims(), "no dimension: a loss of 0"),
        ("dims.zero", dims(0, 2), "a dimension of 0: nothing, or everything"),
        ("dims.negative", dims(-1), "a dimension below 0, counted from the end"),
        ("dims.long", dims(2, 3), "more coordinates than the rows have: cut, so that the whole counts twice"),
        ("dims.fraction", dims(1.5), "a dimension that is no integer: cut to one"),
        ("weights.few", dims(1, 2, weights=[1.0]), "a weight too few: broadcast, or a dimension left out"),
        ("weights.many", dims(1, weights=[1.0, 0.5]), "a weight too many: left out"),
        ("weights.negative", dims(1, 2, weights=[1.0, -0.5]), "a weight below 0: a loss that is pushed up"),
    ):
        yield refused(name, "matryoshka.domain", note, subject.of(good, options=options))


CLASSES: Mapping[str, Mapping[str, Cases]] = classes(
    MATRYOSHKA,
    dims=which,
    weights=weights,
    prefixes=prefixes,
    negatives=negatives,
    masks=masks,
    errors=with_own(MATRYOSHKA, refusals),
)
