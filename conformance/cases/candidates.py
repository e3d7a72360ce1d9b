"""Who is whose negative: explicit negatives in each reading, masks, positives by index."""

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
    keep,
    near32,
    pairs,
    pairs_of,
    uneven,
)

NAN = float("nan")


def negatives() -> Iterator[Case]:
    """Explicit negatives in every reading."""
    some = pairs(201, 3, 5)
    shared, own = uneven(few(203, 7, 5), 1), uneven(few(204, 3, 4, 5), 2)
    for name, rows, in_batch, note in (
        (
            "shared",
            shared,
            False,
            "a bank of 7 for 3 queries, the batch's other keys not among the negatives",
        ),
        ("own", own, False, "4 of its own for each query; read as shared they are 12"),
        ("in-batch+shared", shared, True, "the other keys and the bank in one softmax, not two losses added"),
        (
            "in-batch+own",
            own,
            True,
            "the other keys and the query's own in one softmax; another query's own aren't in it",
        ),
    ):
        yield Case(
            f"{name}.more",
            call({**some, "negative_keys": rows}, 0.375, in_batch_negatives=in_batch),
            note,
            profile="negatives",
        )
    more = pairs(205, 6, 4)
    for name, rows, in_batch in (
        ("shared", few(207, 2, 4), False),
        ("own", few(208, 6, 2, 4), False),
        ("in-batch+shared", few(207, 2, 4), True),
        ("in-batch+own", few(208, 6, 2, 4), True),
    ):
        yield Case(
            f"{name}.fewer",
            call({**more, "negative_keys": rows}, 0.1875, in_batch_negatives=in_batch),
            "fewer negatives than queries: rows and columns of the negatives exchanged",
            profile="negatives",
        )
    for name, rows, in_batch in (
        ("shared", few(210, 1, 5), False),
        ("own", few(211, 3, 1, 5), False),
        ("in-batch+shared", few(210, 1, 5), True),
        ("in-batch+own", few(211, 3, 1, 5), True),
    ):
        yield Case(
            f"{name}.one",
            call({**some, "negative_keys": rows}, 0.625, in_batch_negatives=in_batch),
            "one negative: an axis of length 1 squeezed away or broadcast",
            profile="negatives",
        )
    yield from special_negatives()


def special_negatives() -> Iterator[Case]:
    """Negatives where a shortcut shows: as many as queries, equal to keys, sharp, far away, none."""
    square = pairs(213, 4, 4)
    yield Case(
        "own.square",
        call({**square, "negative_keys": few(215, 4, 4, 4)}, 0.25, in_batch_negatives=False),
        "N = M = D: axes that only their order tells apart",
        profile="negatives",
    )
    yield Case(
        "shared.square",
        call({**square, "negative_keys": few(216, 4, 4)}, 0.25, in_batch_negatives=False),
        "as many shared negatives as queries: paired with them row by row by mistake",
        profile="negatives",
    )
    yield Case(
        "in-batch+shared.duplicates",
        call({**square, "negative_keys": np.concatenate([square["positive_key"][:2], few(217, 1, 4)])}, 0.25),
        "negatives that equal positives: they stay negatives, of their own query too",
        profile="negatives",
    )
    close = crowded(218, 4, 4)
    yield Case(
        "in-batch+shared.sharp",
        call({"query": close["query"][:3], "positive_key": close["positive_key"][:3],
              "negative_keys": close["positive_key"][3:] + crowded(221, 5, 4)["query"] / 64.0}, near32(1e-3)),
        "a low temperature, the row's maximum now in the batch, now among the explicit negatives: one shift for both",
        profile="negatives",
    )  # fmt: skip
    far = aligned(224, 4, 7)
    yield Case(
        "in-batch+own.tiny",
        call({"query": far["query"][:3], "positive_key": far["positive_key"][:3],
              "negative_keys": np.repeat(far["query"][None, 3:], 3, 0) + few(226, 3, 2, 7) / 8.0}, 0.03125),
        "tiny losses with explicit negatives: their part of the gradient keeps its digits",
        ("precise.loss", "precise.gradient"),
        profile="negatives",
        precise=True,
    )  # fmt: skip
    for reading, rows, in_batch in (
        ("shared", uneven(few(227, 4, 7) / 8.0 + 2.0 * np.eye(4, 7, 3)), False),
        ("own", few(228, 3, 2, 7), False),
        ("in-batch+shared", np.repeat(far["query"][3:], 2, 0) + few(229, 2, 7) / 4.0, True),
    ):
        yield Case(
            f"{reading}.tiny",
            call(
                {"query": far["query"][:3], "positive_key": far["positive_key"][:3], "negative_keys": rows},
                0.046875,
                in_batch_negatives=in_batch,
            ),
            "tiny losses in this reading of the negatives: softmax less one-hot has no digit left",
            ("precise.loss", "precise.gradient"),
            profile="negatives",
            precise=True,
        )
    for reading, shape, in_batch in (
        ("shared", (6, 5), False),
        ("own", (3, 3, 5), False),
        ("in-batch+shared", (4, 5), True),
        ("in-batch+own", (3, 3, 5), True),
    ):
        arrays = {**pairs_of(full32, 293, 3, 5), "negative_keys": full32(295, *shape)}
        yield Case(
            f"{reading}.full-mantissa",
            call(arrays, near32(0.06), in_batch_negatives=in_batch),
            "all 24 bits in use: explicit negatives in a lower precision, or normalised otherwise than the keys",
            profile="negatives",
        )
    yield Case(
        "in-batch+own.float64",
        call({**pairs_of(full64, 296, 3, 4), "negative_keys": full64(298, 3, 2, 4)}, 0.07, "float64"),
        "all 53 bits in use",
        profile="negatives",
        dtypes=("float64",),
    )
    yield Case(
        "in-batch+shared.none",
        call({**square, "negative_keys": np.zeros((0, 4))}, 0.25),
        "an empty bank: the in-batch loss",
        profile="negatives",
    )


def masks() -> Iterator[Case]:
    """Candidates that are no negatives, and the temperature's gradient beside them."""
    some = pairs(231, 5, 4)
    yield Case(
        "in-batch",
        call({**some, "candidate_mask": keep(233, 5, 5) | np.eye(5, dtype=bool)}, 0.375),
        "false negatives taken out: the mask read the other way round, transposed, or applied after the softmax",
        profile="masks",
    )
    yield Case(
        "positive",
        call({**some, "candidate_mask": keep(234, 5, 5) & ~np.eye(5, dtype=bool)}, 0.375),
        "the mask is False on every positive, which stays: a positive that is masked away",
        ("candidates.mask.positive",),
        profile="masks",
    )
    whole = keep(235, 5, 5)
    whole[2] = False
    yield Case(
        "whole-row",
        call({**some, "candidate_mask": whole}, 0.25),
        "one query has no negative left: its loss is 0 and it still counts in the mean; NaN in its gradient or in "
        "the temperature's",
        ("candidates.none",),
        profile="masks",
    )
    yield Case(
        "whole-row.none",
        call({**some, "candidate_mask": whole}, 0.25, reduction="none"),
        "the same, row by row: the masked row's entry is 0",
        ("candidates.none",),
        profile="masks",
    )
    yield Case(
        "nothing-left",
        call({**some, "candidate_mask": np.zeros((5, 5), dtype=bool)}, 0.25),
        "no negative left at all: loss 0, every gradient 0, none NaN",
        ("candidates.none",),
        profile="masks",
    )
    yield Case(
        "all-kept",
        call({**some, "candidate_mask": np.ones((5, 5), dtype=bool)}, 0.25),
        "a mask that keeps everything changes nothing",
        profile="masks",
    )
    yield Case(
        "full-mantissa",
        call({**pairs_of(full32, 236, 4, 3), "candidate_mask": keep(238, 4, 4)}, near32(0.05)),
        "all 24 bits in use beside a mask",
        ("candidates.mask.positive",),
        profile="masks",
    )
    yield from masks_that_leak()
    yield from masks_beside_negatives()
    yield from unused_keys()


def masks_that_leak() -> Iterator[Case]:
    """Masked logits that a finite number added to them would not outweigh."""
    query = few(241, 4, 3)
    key = np.concatenate([-query[:2], query[2:]])
    key[2], key[3] = query[0], query[1]
    lost = np.ones((4, 4), dtype=bool)
    lost[0, 2] = lost[1, 3] = lost[2, 0] = False
    for name, temperature in (("sharp", 2.0**-10), ("1e-2", near32(0.01))):
        yield Case(
            f"hardest.{name}",
            call({"query": query, "positive_key": key, "candidate_mask": lost}, temperature),
            "the masked candidate is the query's twin, its positive the opposite, logits up to 2 / temperature "
            "apart: -100 or -1000 added in place of a mask leaks",
            profile="masks",
        )
    yield Case(
        "hardest.dot",
        call(
            {"query": 16.0 * query, "positive_key": 16.0 * key, "candidate_mask": lost},
            0.5,
            similarity="dot",
        ),
        "the same with inner products near 1000",
        profile="masks",
    )
    twin = np.array([[96.0, 64.0], [-64.0, 96.0]])
    yield Case(
        "hardest.dot.far",
        call(
            {
                "query": twin,
                "positive_key": -0.5 * twin,
                "negative_keys": np.concatenate([twin, [[1.0, 0.5]]]),
                "candidate_mask": np.array([[True, True, False, True, True], [True, True, True, False, True]]),
            },
            1.0,
            similarity="dot",
        ),
        "a masked logit that lies 20000 above the positive's: -10000 added in place of a mask leaks",
        profile="masks",
    )


def masks_beside_negatives() -> Iterator[Case]:
    """Masks over explicit negatives: the columns are the positive keys first, then the negatives."""
    some = pairs(251, 3, 4)
    shared, own = few(253, 4, 4), few(254, 3, 2, 4)
    for name, rows, in_batch, columns in (
        ("shared", shared, False, 4),
        ("own", own, False, 2),
        ("in-batch+shared", shared, True, 7),
        ("in-batch+own", own, True, 5),
    ):
        mask = keep(255 + columns, 3, columns)
        mask[1] = False
        mask[0, :2] = (True, False)
        yield Case(
            name,
            call({**some, "negative_keys": rows, "candidate_mask": mask}, 0.3125, in_batch_negatives=in_batch),
            "columns of the mask in the wrong order or shifted by the batch; query 1 has no negative left",
            ("candidates.none",),
            profile="masks",
        )
    far = aligned(265, 4, 5)
    yield Case(
        "tiny",
        call(
            {
                **far,
                "candidate_mask": np.array([[1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]], dtype=bool),
            },
            0.046875,
        ),
        "tiny losses beside a mask",
        ("precise.loss", "precise.gradient"),
        profile="masks",
        precise=True,
    )


def unused_keys() -> Iterator[Case]:
    """Keys that are masked for everyone and nobody's positive: whatever they hold doesn't matter."""
    query, key = few(271, 3, 4), uneven(few(272, 5, 4))
    index = np.array([3, 0, 2])
    mask = np.ones((3, 5), dtype=bool)
    mask[:, [1, 4]] = False
    mask[2, 3] = False
    spoilt = key.copy()
    spoilt[1], spoilt[4, 2] = NAN, np.inf
    whole = {"query": query, "positive_key": key, "positive_index": index, "candidate_mask": mask}
    yield Case(
        "unused.positive-keys",
        call({**whole, "positive_key": spoilt}, 0.25),
        "padding that holds NaN and inf: 0 times NaN in the gradients of the queries or of the temperature",
        ("candidates.mask.unused",),
        profile="masks",
        stand_in=call(whole, 0.25),
    )
    negative = few(273, 4, 4)
    columns = np.ones((3, 4), dtype=bool)
    columns[:, 2] = False
    holed = negative.copy()
    holed[2] = NAN
    three = {"query": query, "positive_key": key[:3], "negative_keys": negative, "candidate_mask": columns}
    yield Case(
        "unused.shared",
        call({**three, "negative_keys": holed}, 0.25, in_batch_negatives=False),
        "a slot of the bank that isn't filled yet holds NaN",
        ("candidates.mask.unused",),
        profile="masks",
        stand_in=call(three, 0.25, in_batch_negatives=False),
    )
    own = few(274, 3, 2, 4)
    lacking = np.array([[1, 1], [1, 0], [0, 0]], dtype=bool)
    gaps = own.copy()
    gaps[~lacking] = NAN
    padded = {"query": query, "positive_key": key[:3], "negative_keys": own, "candidate_mask": lacking}
    yield Case(
        "unused.own",
        call({**padded, "negative_keys": gaps}, 0.25, in_batch_negatives=False),
        "lists of hard negatives of unequal length, padded with NaN",
        ("candidates.mask.unused", "candidates.none"),
        profile="masks",
        stand_in=call(padded, 0.25, in_batch_negatives=False),
    )


def positive_index() -> Iterator[Case]:
    """Positives named by index."""
    query, key = few(281, 4, 3), uneven(few(282, 7, 3))
    yield Case(
        "more-keys",
        call({"query": query, "positive_key": key, "positive_index": np.array([5, 0, 3, 6])}, 0.3125),
        "seven gathered keys, four local queries: an offset in place of the index, keys of nobody left out",
        profile="variants",
    )
    yield Case(
        "shuffled",
        call({"query": query, "positive_key": key[:4], "positive_index": np.array([2, 0, 3, 1])}, 0.25),
        "a permutation that isn't its own inverse: the inverse taken, the gradient not sent back",
        profile="variants",
    )
    yield Case(
        "same-positive",
        call({"query": query, "positive_key": key[:3], "positive_index": np.array([1, 2, 1, 0])}, 0.4375),
        "two queries share a positive, which is a negative of neither; its gradient is a sum, not the last one written",
        profile="variants",
    )
    yield Case(
        "fewer-keys",
        call(
            {"query": query, "positive_key": key[:2], "positive_index": np.array([1, 1, 0, 1])},
            0.25,
            reduction="none",
        ),
        "more queries than keys",
        profile="variants",
    )
    yield Case(
        "one-key",
        call({"query": query, "positive_key": key[:1], "positive_index": np.array([0, 0, 0, 0])}, 0.25),
        "all queries have the only key as their positive: no negative, loss 0",
        ("candidates.none",),
        profile="variants",
    )
    yield Case(
        "not-in-batch",
        call(
            {
                "query": query,
                "positive_key": key,
                "positive_index": np.array([4, 1, 1, 6]),
                "negative_keys": few(284, 3, 3),
            },
            0.25,
            in_batch_negatives=False,
        ),
        "keys that are neither positive nor negative of anyone have gradient 0",
        profile="variants",
    )
    yield Case(
        "masked",
        call(
            {
                "query": query,
                "positive_key": key,
                "positive_index": np.array([5, 0, 5, 6]),
                "candidate_mask": keep(286, 4, 7, share=0.7),
            },
            near32(0.07),
        ),
        "a mask over gathered keys: the diagonal taken for the positive",
        ("candidates.mask.positive",),
        profile="variants",
    )
    apart = aligned(291, 5, 6)
    yield Case(
        "tiny",
        call(
            {
                "query": apart["query"][[1, 4, 1]],
                "positive_key": apart["positive_key"],
                "positive_index": np.array([1, 4, 1]),
            },
            0.046875,
        ),
        "tiny losses and a positive that two queries share: its gradient is a sum of tiny terms",
        ("precise.loss", "precise.gradient"),
        profile="variants",
        precise=True,
    )
    yield Case(
        "full-mantissa",
        call(
            {
                "query": full32(287, 2, 5),
                "positive_key": full32(288, 5, 5),
                "positive_index": np.array([4, 3]),
            },
            near32(0.01),
        ),
        "five keys for two queries, all 24 bits in use, low temperature",
        profile="variants",
    )


CLASSES = {"negatives": negatives, "masks": masks, "positive-index": positive_index}
