"""Positives by label: sup_con, its three variants, one array or two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from infonce_ref.conformance.cases.case import Case, Cases
from infonce_ref.conformance.cases.draw import few, full32, keep, near32, uneven
from infonce_ref.conformance.cases.family.refused import edited, refused, retyped, small, with_own
from infonce_ref.conformance.cases.family.subject import (
    NAN,
    TINY,
    Subject,
    aligned_trio,
    classes,
    crowded_trio,
    trio,
    trio_of,
)
from infonce_ref.conformance.problem import Problem, encode_array

# By the number of rows of x: three of a label, two of another, one alone; pairs where there are few.
LABELS = {1: [0, 0], 2: [0, 1, 0, 1], 3: [0, 1, 0, 0, 1, 2]}
VARIANTS = ("out", "in", "sincere")


def features(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    return {"features": np.concatenate([x, y]), "labels": np.array(LABELS[len(x)])}


SUP_CON = Subject(
    "sup_con",
    features,
    6000,
    "L_in in place of L_out; an anchor as its own positive; an anchor without positives counted in the mean; "
    "divided by the number of pairs, not of positives of each anchor; a factor tau / 0.07",
    "log 5",
    n=3,
    tiny=(),
    lone="one class of two: no negative, and one positive each: loss 0",
)


def ask(variant: str, rows: Any, temperature: float | None = None, **more: Any) -> Problem:
    return SUP_CON.ask(rows, temperature, options={"variant": variant}, **more)


def of(variant: str, arrays: Mapping[str, np.ndarray], temperature: float | None = None, **more: Any) -> Problem:
    return SUP_CON.of(arrays, temperature, options={"variant": variant}, **more)


def variants() -> Iterator[Case]:
    """L_in and SINCERE, where L_out has been asked."""
    for variant, note in (
        ("in", "L_out in place of L_in; log |P| left out"),
        ("sincere", "other positives left in the denominator, or in the numerator; the mean over pairs"),
    ):
        yield Case(f"{variant}.plain", ask(variant, SUP_CON.rows()), note)
        yield Case(
            f"{variant}.full-mantissa",
            ask(variant, trio_of(full32, 6010, 3, 4), near32(0.13)),
            "all 24 bits in use",
        )
        yield Case(
            f"{variant}.sharp",
            ask(variant, SUP_CON.rows(40), near32(1e-3)),
            "losses of hundreds beside small ones",
        )
        yield Case(
            f"{variant}.crowded",
            ask(variant, crowded_trio(6050, 3, 4), 2.0**-10),
            "several large terms among positives and negatives",
        )
        yield Case(
            f"{variant}.none",
            ask(variant, SUP_CON.rows(90), reduction="none", margin=0.125),
            "entries in the order of the rows, 0 for the one that is alone; the margin on every positive",
            ("sup-con.none", "scale.margin"),
            profile="variants",
        )
        yield Case(
            f"{variant}.identical",
            ask(variant, tuple(np.repeat(few(6080, 1, 3), 3, 0) for _ in range(3)), 0.125),
            "all rows identical: log 5 for L_in, log(1 + the number of other labels' rows) for SINCERE",
        )
    for name, temperature in (("small", 0.0517578125), ("smaller", 0.0130615234375)):
        yield Case(
            f"sincere.tiny.{name}",
            ask("sincere", aligned_trio(6070, 2), temperature),
            "a tiny true loss",
            TINY,
            precise=True,
        )


def groups() -> Iterator[Case]:
    """Labels of all kinds."""
    rows = uneven(few(6110, 5, 3))
    for variant in VARIANTS:
        yield Case(
            f"one-class.{variant}",
            of(variant, {"features": rows, "labels": np.full(5, 3)}),
            "no negative: pi less the mean for L_out, log 4 for L_in, 0 for SINCERE; NaN from the logarithm of nothing",
            ("sup-con.none",),
            profile="edges",
        )
    yield Case(
        "singletons",
        of("out", {"features": rows, "labels": np.arange(5)}),
        "nobody has a positive: loss 0 and gradients 0, not 0/0",
        ("sup-con.none",),
        profile="edges",
    )
    yield Case(
        "singletons.none",
        of("in", {"features": rows, "labels": np.arange(5)}, reduction="none"),
        "nobody has a positive: five zeros, not log 0",
        ("sup-con.none",),
        profile="edges",
    )
    yield Case(
        "any-integers",
        of("out", {"features": rows, "labels": np.array([-7, 2**40 - 7, -7, 2**40 - 7, 2**40 - 6])}, reduction="none"),
        "labels that are no small numbers: used as indices, cut to 32 bits, or read as real numbers",
        profile="variants",
    )
    yield Case(
        "alone.weighted",
        of(
            "out",
            {
                "features": rows,
                "labels": np.array([1, 0, 1, 2, 1]),
                "sample_weight": np.array([0.5, 4.0, 1.0, 2.0, 0.25]),
            },
        ),
        "the weights of anchors without positives don't count",
        ("sup-con.none",),
        profile="variants",
    )
    twins = rows.copy()
    twins[3] = twins[0]
    for variant in ("out", "sincere"):
        yield Case(
            f"twins.{variant}",
            of(variant, {"features": twins, "labels": np.array([0, 1, 0, 1, 1])}),
            "a row that equals the anchor but stands elsewhere is a candidate: self found by value",
            ("sup-con.self",),
            profile="edges",
        )


def keys() -> Iterator[Case]:
    """Two arrays: all keys are candidates."""
    x, y, z = trio(6210, 3, 3)
    both = {
        "features": x,
        "labels": np.array([0, 1, 2]),
        "keys": np.concatenate([y, z]),
        "key_labels": np.array([1, 0, 1, 0, 1, 0]),
    }
    for variant in VARIANTS:
        yield Case(
            f"plain.{variant}",
            of(variant, both),
            "the anchor's place left out among the keys; labels of one side used for both; features that get a "
            "gradient as candidates; an anchor without a key of its label",
            ("sup-con.none",),
            profile="negatives",
        )
    yield Case(
        "themselves",
        of("out", {"features": x, "labels": np.array([0, 1, 0]), "keys": x, "key_labels": np.array([0, 1, 0])}),
        "keys that are the features: with two arrays nothing is left out, the anchor's twin is a positive",
        profile="negatives",
    )
    a, b, c = aligned_trio(6211, 2)
    yield Case(
        "tiny",
        of(
            "sincere",
            {
                "features": a,
                "labels": np.array([0, 1]),
                "keys": np.concatenate([b, c]),
                "key_labels": np.array([0, 1, 2, 3]),
            },
            0.046875,
        ),
        "tiny losses against keys",
        TINY,
        profile="negatives",
        precise=True,
    )
    mask = np.ones((3, 6), dtype=bool)
    mask[:, 5] = False
    sound = {**both, "key_labels": np.array([1, 0, 1, 0, 2, 9]), "candidate_mask": mask}
    spoilt = sound["keys"].copy()
    spoilt[5] = NAN
    yield Case(
        "unused",
        of("out", {**sound, "keys": spoilt}),
        "a key that is nobody's positive and masked for all holds NaN",
        ("candidates.mask.unused",),
        profile="masks",
        stand_in=of("out", sound),
    )


def masks() -> Iterator[Case]:
    """Masks take out negatives only."""
    for variant in VARIANTS:
        yield Case(
            f"some.{variant}",
            of(variant, SUP_CON.arrays(1, candidate_mask=keep(6310, 6, 6))),
            "a mask that takes positives out as well",
            ("candidates.mask.positive",),
            profile="masks",
        )
        yield Case(
            f"no-negative.{variant}",
            of(variant, SUP_CON.arrays(1, candidate_mask=np.zeros((6, 6), dtype=bool)), reduction="none"),
            "every negative masked: what is left of each variant, and no NaN",
            ("sup-con.none",),
            profile="masks",
        )


def solved() -> Iterator[Case]:
    """Anchors whose loss is 0 and which count."""
    rows = uneven(few(6510, 4, 3))
    pairs = {"features": rows, "labels": np.array([0, 1, 1, 0])}
    mask = np.ones((4, 4), dtype=bool)
    mask[[0, 2]] = False
    yield Case(
        "masked",
        of("out", {**pairs, "candidate_mask": mask}),
        "two of four anchors have one positive and no negative left: their loss is 0, and they count in the mean",
        profile="masks",
    )
    x, y, z = aligned_trio(6511, 2)
    apart = np.concatenate([x, y, z, z[::-1] + x])
    yield Case(
        "underflow",
        of("out", {"features": apart, "labels": np.array([0, 1, 0, 1, 2, 3, 3, 2])}, 2.0**-10),
        "anchors whose loss is too small for any format, beside others: a mean over losses above 0",
    )


def refusals(subject: Subject) -> Iterator[Case]:
    good = small(subject)
    sound = subject.of(good)
    domain = "sup-con.domain"
    yield edited("variant", domain, "an unknown variant: the default taken", sound, options={"variant": "outside"})
    yield refused(
        "labels.short", domain, "labels for three of four rows", subject.of({**good, "labels": good["labels"][:3]})
    )
    yield refused(
        "labels.column",
        domain,
        "a column of labels: broadcast",
        subject.of({**good, "labels": good["labels"][:, None]}),
    )
    yield retyped(
        "labels.dtype", domain, "labels that are real numbers", sound, "labels", encode_array(np.zeros(4), "float32")
    )
    yield refused("keys.alone", domain, "keys without their labels", subject.of({**good, "keys": few(6410, 3, 2)}))
    yield refused(
        "key-labels.alone",
        domain,
        "labels of keys without the keys",
        subject.of({**good, "key_labels": np.array([0, 1])}),
    )
    yield refused(
        "keys.columns",
        "input.shape",
        "keys of another length: broadcast",
        subject.of({**good, "keys": few(6411, 3, 1), "key_labels": np.array([0, 1, 0])}),
    )
    yield refused("shape.1d", "input.shape", "features without rows", subject.of({**good, "features": few(6412, 4)}))


CLASSES: Mapping[str, Mapping[str, Cases]] = classes(
    SUP_CON, variants=variants, groups=groups, keys=keys, masks=masks, solved=solved, errors=with_own(SUP_CON, refusals)
)
