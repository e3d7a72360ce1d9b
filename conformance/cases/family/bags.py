"""More in one softmax than a query and its keys: gte, mil_nce, soft_nce."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from infonce_ref.conformance.cases.case import Case, Cases
from infonce_ref.conformance.cases.draw import few, full32, keep, near32, rounded
from infonce_ref.conformance.cases.family.refused import refused, retyped, small, with_own
from infonce_ref.conformance.cases.family.subject import NAN, TINY, Subject, aligned_trio, classes
from infonce_ref.conformance.problem import encode_array


def query_and_document(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    return {"query": x, "document": y}


def query_and_bags(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    """Bags of two: one that is near its query and one that isn't."""
    return {"query": x, "positive_bags": np.stack([y, z], axis=1)}


def query_keys_targets(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    """One key more than there are queries; halves and quarters as targets."""
    n = len(x)
    targets = 0.5 * np.eye(n, n + 1) + 0.25 * np.eye(n, n + 1, 1)
    targets[:, n] += 0.25
    return {"query": x, "keys": np.concatenate([y, z[:1]]), "targets": targets}


GTE = Subject(
    "gte",
    query_and_document,
    5000,
    "the positive counted twice; a row as its own negative; the directions query to query or document to document left "
    "out; four softmaxes in place of one",
    "log 9",
    n=3,
)
MIL = Subject(
    "mil_nce",
    query_and_bags,
    5200,
    "the bag counted twice in the denominator; a mean of logits in place of their sum of exponentials; both directions "
    "in one denominator; elements and bags exchanged",
    "log 3",
    n=3,
    spoils_all=False,
)
SOFT = Subject(
    "soft_nce",
    query_keys_targets,
    5400,
    "the entropy of the targets taken off; targets normalised again or read as labels; a sum over queries in "
    "place of keys",
    "log 4, whatever the targets are",
    n=3,
    tiny=(),
    lone="one query, two keys: an axis of length 1 squeezed away",
    spoils_all=False,
)


# --- gte -----------------------------------------------------------------------------------------------------------


def gte_masks() -> Iterator[Case]:
    """Four blocks of columns."""
    yield Case(
        "some",
        GTE.of(GTE.arrays(1, candidate_mask=keep(5011, 3, 12))),
        "the blocks of the mask in another order, or document to query read across; a positive that is masked away",
        ("candidates.mask.positive",),
        profile="masks",
    )
    for kept, name in enumerate(("q-d", "q-q", "d-q", "d-d")):
        mask = np.zeros((3, 12), dtype=bool)
        mask[:, 3 * kept : 3 * kept + 3] = True
        yield Case(
            f"only.{name}",
            GTE.of(GTE.arrays(2, candidate_mask=mask), reduction="none"),
            "one of the four directions alone: which is which",
            profile="masks",
        )
    lone = np.ones((3, 12), dtype=bool)
    lone[1] = False
    yield Case(
        "whole-row",
        GTE.of(GTE.arrays(2, candidate_mask=lone)),
        "one row has no negative left: its loss is 0 and it counts",
        ("candidates.none",),
        profile="masks",
    )


# --- mil_nce -------------------------------------------------------------------------------------------------------


def mil_bags() -> Iterator[Case]:
    """Bags of other sizes."""
    x, _, _ = MIL.rows(1)
    yield Case(
        "one",
        MIL.of({"query": x, "positive_bags": few(5211, 3, 1, 3)}),
        "bags of one: InfoNCE; an axis of length 1 squeezed away",
    )
    yield Case(
        "three",
        MIL.of({"query": x[:2], "positive_bags": few(5212, 2, 3, 3)}, reduction="none"),
        "two bags of three: rows and elements exchanged",
    )
    bags = few(5213, 3, 2, 3)
    bags[0, 1] = bags[0, 0]
    bags[2, 0] = bags[0, 0]
    yield Case(
        "duplicates",
        MIL.of({"query": x, "positive_bags": bags}),
        "an element that occurs twice in its bag and once in another: counted as often as it occurs",
    )
    spoilt = few(5214, 3, 2, 3)
    spoilt[1, 1, 2] = NAN
    yield Case(
        "nan",
        MIL.of({"query": x, "positive_bags": spoilt}),
        "a NaN in a bag is everyone's",
        ("rows.nonfinite",),
        profile="edges",
        nonfinite={"loss": None, "temperature": None},
    )


def mil_symmetric() -> Iterator[Case]:
    """Both directions."""

    def both(**more: bool) -> dict[str, bool]:
        return {"symmetric": True, **more}

    yield Case(
        "plain",
        MIL.ask(MIL.rows(2), options=both()),
        "both directions in one denominator; a sum of the two; elements that each have a softmax of their own",
        profile="variants",
    )
    yield Case(
        "none",
        MIL.ask(MIL.rows(2), options=both(), reduction="none", margin=0.125),
        "entry i is half of query i's and half of bag i's, the margin in both",
        ("scale.margin",),
        profile="variants",
    )
    yield Case(
        "masked",
        MIL.of(MIL.arrays(3, candidate_mask=keep(5221, 3, 3, 2)), options=both()),
        "the mask read along in one direction and across in the other",
        profile="masks",
    )
    yield Case(
        "tiny",
        MIL.ask(aligned_trio(5222, 2), 0.046875, options=both()),
        "tiny losses in both directions",
        TINY,
        profile="variants",
        precise=True,
    )
    yield Case(
        "sharp",
        MIL.ask((full32(5223, 3, 4), full32(5224, 3, 4), full32(5225, 3, 4)), near32(1e-3), options=both()),
        "logits of hundreds in both directions",
        profile="variants",
    )


def mil_masks() -> Iterator[Case]:
    """Elements of other bags."""
    mask = keep(5231, 3, 3, 2)
    mask[1] = False
    for reduction in ("mean", "none"):
        yield Case(
            f"elements.{reduction}",
            MIL.of(MIL.arrays(4, candidate_mask=mask), reduction=reduction),
            "entries of a query's own bag matter; one query has no negative left",
            ("candidates.mask.positive", "candidates.none"),
            profile="masks",
        )


def mil_refusals(subject: Subject) -> Iterator[Case]:
    good = small(subject)
    yield refused(
        "bags.2d",
        "input.shape",
        "bags without their middle axis: one positive each, or one bag for all",
        subject.of({**good, "positive_bags": good["query"]}),
    )


# --- soft_nce ------------------------------------------------------------------------------------------------------


def soft_targets() -> Iterator[Case]:
    """Targets of all kinds."""
    x, y, z = aligned_trio(5411, 2)
    for name, temperature in (("small", 0.0517578125), ("smaller", 0.0130615234375)):
        yield Case(
            f"one-hot.{name}",
            SOFT.of({"query": x, "keys": np.concatenate([y, z]), "targets": np.eye(2, 4)}, temperature),
            "one-hot targets and well-aligned pairs: 0 times log 0, and a tiny loss that is rounded away",
            TINY,
            precise=True,
        )
    some = SOFT.arrays(1)
    for name, targets, note in (
        (
            "one-hot",
            np.eye(3, 4)[[2, 0, 1]],
            "labels given as one-hot rows, not on the diagonal: InfoNCE with an index",
        ),
        ("smoothed", 0.75 * np.eye(3, 4) + 0.0625, "label smoothing over all keys, the positive's own share included"),
        ("uniform", np.full((3, 4), 0.25), "targets that prefer none: pull towards all alike"),
    ):
        yield Case(name, SOFT.of({**some, "targets": targets}), note, profile="variants")
    share = rounded(full32(5412, 3, 4) + 1.0)
    yield Case(
        "full-mantissa",
        SOFT.of({**some, "targets": rounded(share / share.sum(axis=1, keepdims=True))}, near32(0.07)),
        "targets whose sum is off by a rounding: accepted as they are",
        profile="variants",
        dtypes=("float32",),
    )


def soft_masks() -> Iterator[Case]:
    """Keys that aren't candidates."""
    some = SOFT.arrays(2)
    mask = some["targets"] > 0
    yield Case(
        "some",
        SOFT.of({**some, "candidate_mask": mask}),
        "keys without a target that don't count: left in the softmax",
        profile="masks",
    )
    keys = some["keys"].copy()
    targets = np.array([[0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.0, 0.5]])
    lost = np.ones((3, 4), dtype=bool)
    lost[:, 2] = False
    sound = {**some, "targets": targets, "candidate_mask": lost}
    keys[2] = NAN
    yield Case(
        "unused",
        SOFT.of({**sound, "keys": keys}),
        "a key that is masked for everyone holds NaN",
        ("candidates.mask.unused",),
        profile="masks",
        stand_in=SOFT.of(sound),
    )


def soft_domain() -> Iterator[Case]:
    """Targets that are no distribution."""
    some = SOFT.arrays(3)
    for name, row, note in (
        ("short", [0.5, 0.25, 0.0, 0.0], "targets that sum to 3/4: normalised silently"),
        ("long", [1.0, 0.0, 0.5, 0.0], "targets that sum to 3/2"),
        ("negative", [1.5, 0.0, 0.0, -0.5], "a target below 0"),
    ):
        wrong = some["targets"].copy()
        wrong[1] = row
        yield Case(
            name,
            SOFT.of({**some, "targets": wrong}, reduction="none"),
            note,
            ("soft-nce.domain",),
            profile="edges",
            stand_in=SOFT.of(some, reduction="none"),
            nonfinite={"loss": [1]},
        )
    mask = np.ones((3, 4), dtype=bool)
    mask[2, 3] = False
    kept = mask.copy()
    kept[2, 3] = True
    yield Case(
        "masked",
        SOFT.of({**some, "candidate_mask": mask}, reduction="none"),
        "a target on a masked key: dropped, so that the rest no longer sums to 1",
        ("soft-nce.domain",),
        profile="edges",
        stand_in=SOFT.of({**some, "candidate_mask": kept}, reduction="none"),
        nonfinite={"loss": [2]},
    )


def soft_refusals(subject: Subject) -> Iterator[Case]:
    good = small(subject)
    targets = good["targets"]
    for name, wrong in (("rows", targets[:1]), ("columns", targets[:, :1]), ("1d", targets[0])):
        problem = subject.of({**good, "targets": wrong})
        yield refused(f"targets.{name}", "soft-nce.domain", "targets that are broadcast", problem)
    yield retyped(
        "targets.dtype",
        "soft-nce.domain",
        "labels in place of targets",
        subject.of(good),
        "targets",
        encode_array(np.array([[1, 0, 0], [0, 1, 0]]), "int64"),
    )


CLASSES: Mapping[str, Mapping[str, Cases]] = {
    **classes(GTE, masks=gte_masks, errors=with_own(GTE)),
    **classes(MIL, bags=mil_bags, symmetric=mil_symmetric, masks=mil_masks, errors=with_own(MIL, mil_refusals)),
    **classes(
        SOFT, targets=soft_targets, masks=soft_masks, no_distribution=soft_domain, errors=with_own(SOFT, soft_refusals)
    ),
}
