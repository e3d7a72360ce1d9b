"""Two views of a batch, all rows against each other: nt_xent, dcl, debiased, hard_negative."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from infonce_ref.conformance.cases.case import Case, Cases
from infonce_ref.conformance.cases.draw import full32, keep, near32
from infonce_ref.conformance.cases.family.refused import edited, refused, small, with_own
from infonce_ref.conformance.cases.family.subject import TINY, Subject, aligned_trio, classes, crowded_trio, trio


def two_views(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    return {"view_a": x, "view_b": y}


NT_XENT = Subject(
    "nt_xent",
    two_views,
    3000,
    "negatives of the other view alone, as in clip; a row as its own negative; twice the mean; the positive found one "
    "row off",
    "log 5",
    n=3,
)
DCL = Subject(
    "dcl",
    two_views,
    3200,
    "the positive left in the denominator; two logsumexps, one for each view, added; negatives of one view alone",
    "log 4",
    n=3,
    tiny=(),
    lone="no negative: no anchor counts, the loss is 0 and so are the gradients, not -inf",
)
DEBIASED = Subject(
    "debiased",
    two_views,
    3400,
    "the correction left out, or not divided by 1 - prior; a sum in place of the mean times the number of negatives; "
    "the positive counted among the negatives",
    "log 5, whatever the prior is",
    options={"options": {"prior": 0.125}},
    n=3,
    dot=64.0,
    tiny=(),
)
HARD = Subject(
    "hard_negative",
    two_views,
    3600,
    "weights that aren't normalised, that are constants for the gradient, or that take the temperature twice",
    "log 5, whatever prior and beta are",
    options={"options": {"prior": 0.125, "beta": 1.0}},
    n=3,
    dot=64.0,
    tiny=(),
)


def masks(subject: Subject, left_out: str) -> Iterator[Case]:
    """Masks over the 2N × 2N pairs; anchors without negatives."""
    yield Case(
        "asymmetric",
        subject.of(subject.arrays(1, candidate_mask=keep(subject.seed + 201, 6, 6))),
        "a mask read across, in another order of the rows, or made symmetric; a positive that is masked away",
        ("candidates.mask.positive", "nt-xent.mask"),
        profile="masks",
    )
    lone = np.ones((6, 6), dtype=bool)
    lone[[1, 5]] = False
    for reduction in ("mean", "none"):
        yield Case(
            f"whole-rows.{reduction}",
            subject.of(subject.arrays(2, candidate_mask=lone), reduction=reduction),
            left_out,
            ("dcl.none" if subject.loss == "dcl" else "candidates.none", "nt-xent.mask"),
            profile="masks",
        )
    yield Case(
        "nothing-left",
        subject.of(subject.arrays(2, candidate_mask=np.zeros((6, 6), dtype=bool))),
        "no negative left at all: loss 0, every gradient 0, none NaN",
        ("dcl.none" if subject.loss == "dcl" else "candidates.none",),
        profile="masks",
    )


STAYS = "two anchors without negatives: their loss is 0 and they count in the mean; NaN in a gradient"
GOES = "two anchors without negatives: 0 in 'none', and the mean is over the other four"


# --- nt_xent -------------------------------------------------------------------------------------------------------


def duplicates() -> Iterator[Case]:
    """Rows that occur twice."""
    x, y, _ = trio(3101, 3, 3)
    yield Case(
        "views-alike",
        NT_XENT.ask((x, x, x)),
        "both views equal: self found by value, so that the positive is left out as well",
    )
    yield Case(
        "within-a-view",
        NT_XENT.ask((x[[0, 1, 0]], y, y)),
        "a row that occurs twice in a view is a negative of its twin, with cosine 1",
    )


def tiny_masked() -> Iterator[Case]:
    """Tiny losses beside a mask and a margin."""
    mask = np.ones((4, 4), dtype=bool)
    mask[0, 1] = mask[2, 1] = False
    yield Case(
        "masked",
        NT_XENT.of({**two_views(*aligned_trio(3111, 2)), "candidate_mask": mask}, 0.0546875, margin=0.125),
        "tiny losses beside a mask and a margin",
        (*TINY, "nt-xent.mask"),
        profile="masks",
        precise=True,
    )


# --- dcl -----------------------------------------------------------------------------------------------------------


def weighted() -> Iterator[Case]:
    """DCLW: weights of the positives."""

    def ask(sigma: float, offset: int, **more: Any) -> Any:
        return DCL.ask(DCL.rows(offset), options={"sigma": sigma}, **more)

    yield Case(
        "plain",
        ask(0.5, 3),
        "weights that sum to 1 in place of N, from logits in place of similarities, or that let the gradient flow",
        profile="variants",
    )
    yield Case(
        "none",
        ask(0.5, 3, reduction="none"),
        "both anchors of a pair have the same weight",
        profile="variants",
    )
    yield Case("small", ask(0.0625, 4), "a weight below 0 and others near 2: clipped at 0", profile="variants")
    yield Case(
        "dot",
        DCL.ask(DCL.rows(5), 4.0, similarity="dot", options={"sigma": 8.0}),
        "weights from inner products where the loss has inner products",
        profile="variants",
    )
    yield Case(
        "margin",
        ask(0.5, 6, margin=0.25),
        "the margin in the weights",
        ("scale.margin",),
        profile="variants",
    )
    yield Case(
        "masked",
        DCL.of(DCL.arrays(7, candidate_mask=keep(3211, 6, 6)), options={"sigma": 0.5}),
        "the mask in the weights",
        ("nt-xent.mask",),
        profile="masks",
    )
    rows = (full32(3212, 3, 4), full32(3213, 3, 4), full32(3214, 3, 4))
    yield Case(
        "sharp",
        DCL.ask(rows, near32(0.01), options={"sigma": 0.5}),
        "weights at a low temperature: logits count by more than their differences, as the temperature's slope shows",
        profile="variants",
    )


def sigmas(subject: Subject) -> Iterator[Case]:
    for name, sigma in (("zero", 0.0), ("negative", -0.5)):
        problem = subject.of(small(subject), options={"sigma": sigma})
        yield refused(f"sigma.{name}", "dcl.domain", "a sigma that isn't above 0", problem)


# --- debiased and hard_negative ------------------------------------------------------------------------------------


def floor(subject: Subject, **options: float) -> Iterator[Case]:
    """Brackets below the floor, and with inner products brackets below 0."""
    near = aligned_trio(subject.seed + 211, 2)
    yield Case(
        "active",
        subject.ask(near, 0.25, options={**options, "prior": 0.25}),
        "positives so near that the corrected mean is negative: the floor e^(-1/tau), its gradient by the temperature, "
        "and none by the negatives",
        ("debiased.floor",),
        profile="variants",
    )
    x, y, z = subject.rows(8)
    y = np.concatenate([x[:1], y[1:]])
    yield Case(
        "one-pair",
        subject.ask((x, y, z), 0.125, options={**options, "prior": 0.5}, reduction="none"),
        "some anchors on the floor, some not: one branch taken for all",
        ("debiased.floor",),
        profile="variants",
    )
    yield Case(
        "no-floor",
        subject.ask(near, 1.0, similarity="dot", options={**options, "prior": 0.25}),
        "inner products have no least value: a bracket below 0 is no number, not a floor",
        ("debiased.floor",),
        profile="edges",
        nonfinite={"loss": None},
    )


def priors() -> Iterator[Case]:
    """Priors from 0 to nearly 1."""
    for name, prior in (("zero", 0.0), ("large", 0.875)):
        yield Case(
            name,
            DEBIASED.ask(DEBIASED.rows(9), options={"prior": prior}),
            "prior 0 is NT-Xent, log 0 and all; a large one multiplies what is left",
            profile="variants",
        )


def betas() -> Iterator[Case]:
    """Betas from 0 up."""
    for name, prior, beta in (("zero", 0.125, 0.0), ("nothing", 0.0, 0.0), ("alone", 0.0, 2.5), ("strong", 0.25, 8.0)):
        yield Case(
            name,
            HARD.ask(HARD.rows(9), options={"prior": prior, "beta": beta}),
            "beta 0 is debiased, prior 0 too is NT-Xent; beta multiplies logits, not similarities",
            profile="variants",
        )
    yield Case(
        "crowded",
        HARD.ask(crowded_trio(3611, 3, 3), 2.0**-8, options={"prior": 0.125, "beta": 4.0}),
        "beta at a low temperature: exp((1 + beta) s) without a shift",
        profile="variants",
    )


def prior_refusals(subject: Subject) -> Iterator[Case]:
    good, clause = small(subject), f"{subject.loss.replace('_', '-')}.domain"
    others = {name: x for name, x in subject.options["options"].items() if name != "prior"}
    for name, prior in (("one", 1.0), ("negative", -0.125)):
        problem = subject.of(good, options={**others, "prior": prior})
        yield refused(f"prior.{name}", clause, "a prior outside 0 … 1", problem)
    missing = "no prior: a default taken, which nobody can know"
    yield edited("prior.missing", clause, missing, subject.of(good), options=others)


def beta_refusals(subject: Subject) -> Iterator[Case]:
    good = small(subject)
    negative = subject.of(good, options={"prior": 0.125, "beta": -0.5})
    yield refused("beta.negative", "hard-negative.domain", "a beta below 0: easy negatives preferred", negative)
    yield edited(
        "beta.missing", "hard-negative.domain", "no beta: a default taken", subject.of(good), options={"prior": 0.125}
    )


CLASSES: Mapping[str, Mapping[str, Cases]] = {
    **classes(
        NT_XENT,
        masks=partial(masks, NT_XENT, STAYS),
        duplicates=duplicates,
        tiny_masked=tiny_masked,
        errors=with_own(NT_XENT),
    ),
    **classes(DCL, weighted=weighted, masks=partial(masks, DCL, GOES), errors=with_own(DCL, sigmas)),
    **classes(
        DEBIASED,
        floor=partial(floor, DEBIASED),
        prior=priors,
        masks=partial(masks, DEBIASED, STAYS),
        errors=with_own(DEBIASED, prior_refusals),
    ),
    **classes(
        HARD,
        floor=partial(floor, HARD, beta=1.0),
        beta=betas,
        masks=partial(masks, HARD, STAYS),
        errors=with_own(HARD, prior_refusals, beta_refusals),
    ),
}
