"""Queries with one positive: moco, triplet, n_pair, and logits that are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from infonce_ref.conformance.cases.case import Case, Cases
from infonce_ref.conformance.cases.draw import few, full32, keep, near32
from infonce_ref.conformance.cases.family.refused import refused, retyped, small, with_own
from infonce_ref.conformance.cases.family.subject import NAN, TINY, Subject, aligned_trio, classes, trio
from infonce_ref.conformance.problem import encode_array


def query_key_queue(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    return {"query": x, "positive_key": y, "queue": z}


def query_and_key(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    return {"query": x, "positive_key": y}


def scores(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    """Numbers that nothing but a row holds together; row i's positive is column i."""
    return {"logits": np.concatenate([x, z / 8.0], axis=1)}


MOCO = Subject(
    "moco",
    query_key_queue,
    4000,
    "the other positive keys as negatives too; the queue normalised otherwise; the queue's row i taken for query i's",
    "log 4",
    lone="one query and a queue of one: axes squeezed away",
    spoils_all=False,
)
TRIPLET = Subject(
    "triplet",
    query_and_key,
    4200,
    "distances in place of similarities; a sum over the negatives; the mean over those that violate the margin",
    "the margin",
    options={"margin": 0.25},
    tiny=(),
    lone="no negative: the query isn't counted, loss 0 and gradients 0, not 0/0",
    spoils_all=False,
)
N_PAIR = Subject(
    "n_pair",
    query_and_key,
    4400,
    "rows normalised, a temperature other than 1, a regularisation of the norms",
    "log 3",
    options={"similarity": "dot"},
    tiny=(),
    spoils_all=False,
)
LOGITS = Subject(
    "info_nce_from_logits",
    scores,
    4600,
    "the temperature left out; the positive in the first column; columns beyond the rows left out",
    "log 7",
    tiny=(),
    lone="one row with five negatives: an axis of length 1 squeezed away",
    spoils_all=False,
)


# --- moco ----------------------------------------------------------------------------------------------------------


def queues() -> Iterator[Case]:
    """Queues of any length."""
    for name, rows, note in (
        ("one", few(4011, 1, 3), "a queue of one key: broadcast or squeezed"),
        ("longer", few(4012, 7, 3), "more keys than queries: row numbers of the one used for the other"),
        ("empty", np.zeros((0, 3)), "a queue without keys: loss 0, gradients 0"),
    ):
        yield Case(
            name,
            MOCO.of({**MOCO.arrays(1), "queue": rows}),
            note,
            ("candidates.none",) if name == "empty" else (),
            profile="negatives",
        )
    some = MOCO.arrays(2)
    yield Case(
        "holds-positives",
        MOCO.of({**some, "queue": np.concatenate([some["positive_key"][:2], some["queue"][:2]])}, reduction="none"),
        "a queue that holds positives: they are negatives like any other, of their own query too",
        profile="negatives",
    )
    spoilt = some["queue"].copy()
    spoilt[1, 0] = NAN
    yield Case(
        "nan",
        MOCO.of({**some, "queue": spoilt}),
        "a NaN in the queue is everyone's",
        ("rows.nonfinite",),
        profile="edges",
        nonfinite={"loss": None, "temperature": None},
    )


def queue_refusals(subject: Subject) -> Iterator[Case]:
    good = small(subject)
    for name, rows, note in (
        ("columns", few(4021, 3, 1), "a queue of shorter keys: broadcast"),
        ("own", few(4022, 2, 1, 2), "a queue for each query"),
        ("1d", few(4023, 2), "one key without its row axis"),
    ):
        yield refused(f"queue.{name}", "input.shape", note, subject.of({**good, "queue": rows}))


# --- triplet -------------------------------------------------------------------------------------------------------


def kinks() -> Iterator[Case]:
    """Negatives exactly at the margin, inside it, outside it; whole numbers, which every order computes exactly."""
    yield Case(
        "exact",
        TRIPLET.of(
            {
                "query": np.array([[1.0, 0.0], [0.0, 1.0]]),
                "positive_key": np.array([[2.0, 1.0], [1.0, 3.0]]),
                "negative_keys": np.array([[[1.0, 3.0], [0.0, 1.0], [2.0, 0.0]], [[5.0, 2.0], [1.0, 2.0], [0.0, 1.0]]]),
            },
            similarity="dot",
            margin=1.0,
            in_batch_negatives=False,
        ),
        "whole numbers, and a negative that stands exactly at the margin beside some inside and outside",
        ("triplet.kink",),
        profile="edges",
    )
    yield Case(
        "zero",
        TRIPLET.of(
            {
                "query": np.array([[0.0, 0.0], [1.0, 2.0]]),
                "positive_key": np.array([[2.0, 1.0], [1.0, 3.0]]),
                "negative_keys": np.array([[1.0, 3.0], [4.0, 2.0], [-1.0, 1.0]]),
            },
            similarity="dot",
            margin=0.0,
            in_batch_negatives=False,
        ),
        "a zero query and no margin: sim - sim_p + margin = 0 however it is computed, and the slope is 0, not 1 or 1/2",
        ("triplet.kink", "gradient.margin"),
        profile="edges",
    )
    yield Case(
        "satisfied",
        TRIPLET.ask(TRIPLET.rows(1), margin=-2.5),
        "every margin kept: loss 0 and every gradient 0, the margin's too",
    )
    yield Case(
        "violated",
        TRIPLET.ask(TRIPLET.rows(1), margin=2.5),
        "every margin violated: each negative's slope is 1 over their number, and the margin's gradient 1",
    )


def triplet_negatives() -> Iterator[Case]:
    """Explicit negatives: a mean over all of a query's."""
    for name, rows, in_batch in (
        ("shared", few(4211, 3, 3), False),
        ("own", few(4212, 4, 2, 3), False),
        ("in-batch+shared", few(4213, 3, 3), True),
        ("in-batch+own", few(4214, 4, 2, 3), True),
    ):
        yield Case(
            name,
            TRIPLET.of(TRIPLET.arrays(2, negative_keys=rows), in_batch_negatives=in_batch),
            "two means added in place of one over all negatives; negatives of another query",
            profile="negatives",
        )


def triplet_masks() -> Iterator[Case]:
    """Masks change how many negatives the mean is over."""
    yield Case(
        "some",
        TRIPLET.of(TRIPLET.arrays(3, candidate_mask=keep(4221, 4, 4)), margin=1.5),
        "divided by the number of all candidates, not of those that are left",
        ("candidates.mask.positive",),
        profile="masks",
    )
    lone = np.ones((4, 4), dtype=bool)
    lone[2] = False
    for reduction in ("mean", "none"):
        yield Case(
            f"whole-row.{reduction}",
            TRIPLET.of(TRIPLET.arrays(3, candidate_mask=lone), reduction=reduction),
            "a query without negatives: 0 in 'none', and the mean is over the other three",
            ("triplet.none",),
            profile="masks",
        )
    weight = np.array([0.5, 1.0, 8.0, 2.0])
    yield Case(
        "whole-row.weighted",
        TRIPLET.of(TRIPLET.arrays(3, candidate_mask=lone, sample_weight=weight)),
        "the weight of a query that isn't counted doesn't count either",
        ("triplet.none",),
        profile="masks",
    )


def triplet_refusals(subject: Subject) -> Iterator[Case]:
    good = small(subject)
    yield refused(
        "candidates",
        "candidates.domain",
        "no negatives from anywhere",
        subject.of(good, in_batch_negatives=False),
    )
    yield refused(
        "margin.nan", "scale.margin.domain", "a margin that is no finite number", subject.of(good, margin=NAN)
    )


# --- n_pair --------------------------------------------------------------------------------------------------------


def n_pair_sizes() -> Iterator[Case]:
    """The norms are the temperature."""
    for name, scale in (("2", 2.0), ("4", 4.0)):
        x, y, z = aligned_trio(4411, 2)
        yield Case(
            f"tiny.{name}",
            N_PAIR.ask((scale * x, scale * y, z)),
            "tiny losses from long rows",
            TINY,
            profile="variants",
            precise=True,
        )
    x, y, z = N_PAIR.rows(1)
    yield Case(
        "large",
        N_PAIR.ask((8.0 * x, 8.0 * y, z)),
        "logits of hundreds of either sign: exp without a shift",
    )
    yield Case(
        "larger",
        N_PAIR.ask((32.0 * x, 32.0 * y, z)),
        "logits of thousands: exp without a shift in float64 too",
    )


def n_pair_masks() -> Iterator[Case]:
    lone = keep(4421, 4, 4)
    lone[1] = False
    yield Case(
        "whole-row",
        N_PAIR.of(N_PAIR.arrays(2, candidate_mask=lone)),
        "false negatives taken out, one query without any left",
        ("candidates.none", "candidates.mask.positive"),
        profile="masks",
    )
    yield Case(
        "positive",
        N_PAIR.of(N_PAIR.arrays(3, candidate_mask=np.eye(4) == 0.0)),
        "every positive masked, and no negative: it stays in the denominator",
        ("candidates.mask.positive",),
        profile="masks",
    )


# --- logits --------------------------------------------------------------------------------------------------------


def equal_logits() -> Iterator[Case]:
    yield Case(
        "equal",
        LOGITS.of({"logits": np.full((3, 7), 100.0)}, 2.0**-4),
        "all logits equal and large: log 7, gradient softmax less one-hot",
    )


def tiny_logits() -> Iterator[Case]:
    """One large logit a row."""
    logits = 4.0 * aligned_trio(4601, 2)[0]
    for name, temperature in (("small", 0.25), ("smaller", 0.0625)):
        yield Case(
            name,
            LOGITS.of({"logits": logits}, temperature),
            "a tiny true loss: logsumexp less positive loses it, and softmax - onehot its gradient",
            TINY,
            precise=True,
        )
    mask = np.array([[1, 1, 0, 1], [0, 1, 1, 1]], dtype=bool)
    yield Case(
        "masked",
        LOGITS.of({"logits": logits, "candidate_mask": mask}, 0.25, margin=0.125),
        "tiny losses beside a mask and a margin",
        TINY,
        profile="masks",
        precise=True,
    )


def indices() -> Iterator[Case]:
    """Positives named by index."""
    some = few(4611, 4, 5)
    yield Case(
        "plain",
        LOGITS.of({"logits": some, "positive_index": np.array([4, 0, 4, 2])}),
        "the positive on the diagonal, or in the first column",
        profile="variants",
    )
    yield Case(
        "fewer-columns",
        LOGITS.of({"logits": few(4612, 4, 2), "positive_index": np.array([1, 1, 0, 1])}, reduction="none"),
        "more rows than columns",
        profile="variants",
    )
    for name, wrong in (("below", -1), ("beyond", 5)):
        yield Case(
            f"outside.{name}",
            LOGITS.of({"logits": some, "positive_index": np.array([4, wrong, 0, 2])}, reduction="none"),
            "a positive that doesn't exist: the last column, or the first, taken instead",
            ("candidates.index.domain",),
            profile="edges",
            stand_in=LOGITS.of({"logits": some, "positive_index": np.array([4, 1, 0, 2])}, reduction="none"),
            nonfinite={"loss": [1]},
        )


def logits_masks() -> Iterator[Case]:
    """Masked logits may hold anything."""
    some, mask = few(4621, 3, 5), keep(4622, 3, 5)
    mask[1] = False
    yield Case(
        "some",
        LOGITS.of({"logits": some, "candidate_mask": mask}),
        "a finite number added in place of the mask; a row without negatives, whose loss is 0",
        ("candidates.mask.positive", "candidates.none"),
        profile="masks",
    )
    yield Case(
        "positive",
        LOGITS.of({"logits": some, "candidate_mask": np.eye(3, 5) == 0.0}),
        "every positive masked, and no negative: it stays in the denominator",
        ("candidates.mask.positive",),
        profile="masks",
    )
    spoilt = some.copy()
    out = ~mask & ~np.eye(3, 5, dtype=bool)
    spoilt[out] = np.resize([NAN, np.inf, -np.inf], int(out.sum()))
    yield Case(
        "unused",
        LOGITS.of({"logits": spoilt, "candidate_mask": mask}),
        "masked logits that hold NaN and infinities: 0 times NaN in the temperature's gradient",
        ("candidates.mask.unused",),
        profile="masks",
        stand_in=LOGITS.of({"logits": some, "candidate_mask": mask}),
    )


def logits_refusals(subject: Subject) -> Iterator[Case]:
    good = few(4631, 3, 3)
    for name, wrong, note in (
        ("1d", good[0], "one row without its axis"),
        ("3d", good[None], "a batch of matrices"),
        ("narrow", good[:, :2], "fewer columns than rows and no positive_index: a positive that doesn't exist"),
        ("empty", good[:0], "no rows: NaN, 0, or a mean of nothing"),
    ):
        yield refused(f"shape.{name}", "input.shape", note, subject.of({"logits": wrong}))
    yield retyped(
        "index.dtype",
        "candidates.index.domain",
        "an index of real numbers",
        subject.of({"logits": good, "positive_index": np.array([0, 1, 2])}),
        "positive_index",
        encode_array(np.array([0.0, 1.0, 2.0]), "float32"),
    )


def full_mantissa_logits() -> Iterator[Case]:
    yield Case(
        "shifted",
        LOGITS.of({"logits": 1000.0 + few(4641, 3, 4)}, 0.25),
        "logits far from 0: a shift of all changes nothing, and exp without one overflows",
    )
    yield Case(
        "full-mantissa",
        LOGITS.of({"logits": full32(4642, 3, 4)}, near32(0.03), margin=near32(0.1)),
        "a margin taken off after the division",
        profile="variants",
    )


def one_queue() -> Iterator[Case]:
    x, y, _ = trio(4031, 3, 3)
    yield Case(
        "queue-of-zeros",
        MOCO.ask((x, y, np.zeros((2, 3)))),
        "zero rows in the queue: negatives of cosine 0, not left out",
        ("similarity.cosine.zero",),
        profile="edges",
    )


CLASSES: Mapping[str, Mapping[str, Cases]] = {
    **classes(MOCO, queue=queues, zeros=one_queue, errors=with_own(MOCO, queue_refusals)),
    **classes(
        TRIPLET,
        kink=kinks,
        negatives=triplet_negatives,
        masks=triplet_masks,
        errors=with_own(TRIPLET, triplet_refusals),
    ),
    **classes(N_PAIR, sizes=n_pair_sizes, masks=n_pair_masks, errors=with_own(N_PAIR)),
    **classes(
        LOGITS,
        aligned=tiny_logits,
        collapsed=equal_logits,
        index=indices,
        masks=logits_masks,
        far=full_mantissa_logits,
        errors=with_own(LOGITS, logits_refusals),
    ),
}
