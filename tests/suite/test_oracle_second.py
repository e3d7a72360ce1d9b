"""The second oracle on every loss: exact facts, worked examples by other formulas, differences, edges, digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from infonce_ref.conformance.cases.draw import few
from infonce_ref.conformance.family import KINDS, LOSSES
from infonce_ref.conformance.oracle import Answer, second
from infonce_ref.conformance.problem import Problem


@pytest.fixture(autouse=True)
def _sixty_digits() -> Iterator[None]:
    """The tests' own arithmetic is exact enough to be compared to 1e-44."""
    with mp.workdps(60):
        yield


def problem(loss: str, *, tau: Any = 1.0, similarity: Any = "dot", reduction: Any = "none", **given: Any) -> Problem:
    """A problem in float64: arrays and the other settings by their names, lists of numbers for rows of one feature."""
    arrays = {name: np.asarray(given.pop(name)) for name in dict(given) if name in KINDS}
    settings = {name: given.pop(name) for name in ("margin", "bias", "in_batch_negatives") if name in given}
    return Problem(
        "float64", arrays, tau, loss=loss, similarity=similarity, reduction=reduction, options=given, **settings
    )


def column(*numbers: float) -> np.ndarray:
    """Rows of one feature: their inner products are products of these numbers."""
    return np.array(numbers)[:, None]


def numbers(array: np.ndarray) -> list[mpf]:
    return [mpf(str(x)) for x in array.flat]


def lse(*exponents: Any) -> mpf:
    """logsumexp."""
    largest = max(mpf(x) for x in exponents)
    return largest + mp.log(mp.fsum(mp.exp(mpf(x) - largest) for x in exponents))


def softplus(x: Any) -> mpf:
    return mp.log1p(mp.exp(mpf(x)))


def mean(values: Sequence[Any]) -> mpf:
    return mp.fsum(values) / len(values)


def assert_close(answered: np.ndarray, expected: Any) -> None:
    """Entry by entry to 1e-44 relative."""
    for x, y in zip(numbers(np.asarray(answered)), np.ravel(np.asarray(expected, dtype=object)), strict=True):
        assert abs(x - y) <= mpf("1e-44") * max(1, abs(y)), (x, y)


def is_zero(array: np.ndarray) -> bool:
    return all(x == 0 for x in array.flat)


# --- identical rows --------------------------------------------------------------------------------

N, M, B = 3, 2, 4
ROW = np.array([0.75, -1.5])


def tiled(*shape: int) -> np.ndarray:
    """Rows all alike."""
    return np.tile(ROW, (*shape, 1))


VIEWS: dict[str, Any] = {"view_a": tiled(N), "view_b": tiled(N)}
PAIRS: dict[str, Any] = {"query": tiled(N), "positive_key": tiled(N)}
LABELS = np.array([0, 1, 0, 0, 1])

IDENTICAL: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "info_nce": ({**PAIRS, "negative_keys": tiled(M)}, lambda: [mp.log(N + M)] * N),
    "clip": ({"image": tiled(N), "text": tiled(N)}, lambda: [mp.log(N)] * N),
    "nt_xent": (VIEWS, lambda: [mp.log(2 * N - 1)] * (2 * N)),
    "dcl": (VIEWS, lambda: [mp.log(2 * N - 2)] * (2 * N)),
    "dcl, sigma": ({**VIEWS, "sigma": 0.5}, lambda: [mp.log(2 * N - 2)] * (2 * N)),
    "debiased": ({**VIEWS, "prior": 0.25}, lambda: [mp.log(1 + 2 * N - 2)] * (2 * N)),
    "hard_negative": ({**VIEWS, "prior": 0.25, "beta": 1.5}, lambda: [mp.log(1 + 2 * N - 2)] * (2 * N)),
    "moco": ({**PAIRS, "queue": tiled(M)}, lambda: [mp.log(1 + M)] * N),
    "gte": ({"query": tiled(N), "document": tiled(N)}, lambda: [mp.log(4 * N - 3)] * N),
    "mil_nce": ({"query": tiled(N), "positive_bags": tiled(N, B)}, lambda: [mp.log(N)] * N),
    "mil_nce, symmetric": (
        {"query": tiled(N), "positive_bags": tiled(N, B), "symmetric": True},
        lambda: [mp.log(N)] * N,
    ),
    "soft_nce": (
        {"query": tiled(N), "keys": tiled(4), "targets": [[0.5, 0.25, 0.25, 0.0]] * N},
        lambda: [mp.log(4)] * N,
    ),
    "sup_con, out": ({"features": tiled(5), "labels": LABELS}, lambda: [mp.log(4)] * 5),
    "sup_con, in": ({"features": tiled(5), "labels": LABELS, "variant": "in"}, lambda: [mp.log(4)] * 5),
    "sup_con, sincere": (
        {"features": tiled(5), "labels": LABELS, "variant": "sincere"},
        lambda: [mp.log(1 + (5 - list(LABELS).count(label))) for label in LABELS],
    ),
    "siglip": (
        {"image": tiled(N), "text": tiled(N), "bias": -1.5, "tau": 0.5},
        lambda: [softplus(-(2 - mpf("1.5"))) + (N - 1) * softplus(2 - mpf("1.5"))] * N,
    ),
    "triplet": ({**PAIRS, "margin": 0.375}, lambda: [mpf("0.375")] * N),
}


@pytest.mark.parametrize("case", IDENTICAL)
def test_identical_rows(case: str) -> None:
    """All rows one and the same: the logarithm of a count, and no gradient by any row."""
    given, expected = IDENTICAL[case]
    answer = second.evaluate(problem(case.split(",")[0], similarity="cosine", **{"tau": 0.125, **given}))
    assert_close(answer.loss, expected())
    assert all(is_zero(g) for name, g in answer.grad.items() if KINDS.get(name) == "embedding")


def test_identical_logits_and_products() -> None:
    """The two losses that know no cosine: log C too."""
    logits = second.evaluate(problem("info_nce_from_logits", logits=np.full((2, 5), 0.75), tau=0.5))
    assert_close(logits.loss, [mp.log(5)] * 2)
    assert_close(second.evaluate(problem("n_pair", **PAIRS, similarity="cosine")).loss, [mp.log(N)] * N)


# --- worked examples -------------------------------------------------------------------------------
# Rows of one feature and dot similarity, so that every logit is a product of two numbers over the temperature; the
# expected losses are written with nu and pi, the logsumexps over negatives and positives, that the oracle never forms.

Q, K = (1.0, -2.0, 0.5), (0.75, 1.5, -1.0)
HALF: dict[str, Any] = {"tau": 0.5}


def s(x: float, y: float, tau: float = 0.5) -> mpf:
    """The logit of two numbers."""
    return mpf(x) * mpf(y) / mpf(tau)


def others(values: Sequence[float], *without: int) -> list[float]:
    return [x for j, x in enumerate(values) if j not in without]


def test_logit_bias_is_added_to_every_column_and_to_the_positives_own() -> None:
    """(sim_j − sim_p + m)/τ + b_j − b_p, p the positive's column; without in-batch keys b_p = 0."""
    bias = (0.25, -1.0, 2.0, 0.5)
    pairs: dict[str, Any] = {
        "query": column(*Q),
        "positive_key": column(*K),
        "negative_keys": column(3.0),
        "margin": 0.25,
    }
    answer = second.evaluate(problem("info_nce", **pairs, logit_bias=bias, positive_index=[2, 0, 0], **HALF))
    keys = (*K, 3.0)
    expected = [
        softplus(lse(*((x * keys[j] - x * K[p] + mpf("0.25")) / mpf("0.5") + bias[j] - bias[p] for j in rest)))
        for x, p, rest in zip(Q, (2, 0, 0), ((0, 1, 3), (1, 2, 3), (1, 2, 3)), strict=True)
    ]
    assert_close(answer.loss, expected)
    own = second.evaluate(problem("info_nce", **pairs, logit_bias=[1.5], in_batch_negatives=False, **HALF))
    shifted = [(x * 3 - x * k + mpf("0.25")) / mpf("0.5") + mpf("1.5") for x, k in zip(Q, K, strict=True)]
    assert_close(own.loss, [softplus(x) for x in shifted])
    assert_close(own.grad["logit_bias"], mp.fsum(1 / (1 + mp.exp(-x)) for x in shifted))


def test_logits_are_divided_by_the_temperature_and_the_positive_less_the_margin() -> None:
    """softplus(lse of the others − positive), a positive's column by index, a masked one gone."""
    logits = [[0.5, 1.0, -2.0], [3.0, 0.25, 0.75]]
    answer = second.evaluate(
        problem("info_nce_from_logits", logits=logits, positive_index=[2, 0], margin=0.125, **HALF)
    )
    expected = [softplus(lse(1, 2) - mpf("-4.25")), softplus(lse("0.5", "1.5") - mpf("5.75"))]
    assert_close(answer.loss, expected)
    mask = [[True, False, False], [True, True, True]]
    masked = second.evaluate(problem("info_nce_from_logits", logits=logits, candidate_mask=mask, **HALF))
    assert_close(masked.loss, [0, softplus(lse(6, "1.5") - mpf("0.5"))])


def test_clip_halves_both_directions_each_with_its_negatives() -> None:
    """½ softplus(ν − π) of rows and of columns; the mask transposed, explicit negatives unmasked."""
    mask = np.array([[False, True, False], [True, False, True], [True, True, False]])
    own = [[[2.0]], [[-0.5]], [[1.0]]]
    answer = second.evaluate(
        problem(
            "clip",
            image=column(*Q),
            text=column(*K),
            negative_texts=column(0.25, 4.0),
            negative_images=own,
            candidate_mask=mask,
            **HALF,
        )
    )
    expected = []
    for i in range(3):
        texts = [K[j] for j in range(3) if j != i and mask[i, j]] + [0.25, 4.0]
        images = [Q[j] for j in range(3) if j != i and mask[j, i]] + own[i][0]
        rows = softplus(lse(*(s(Q[i], x) for x in texts)) - s(Q[i], K[i]))
        columns = softplus(lse(*(s(x, K[i]) for x in images)) - s(Q[i], K[i]))
        expected.append((rows + columns) / 2)
    assert_close(answer.loss, expected)


Z, OTHER = (*Q, *K), (3, 4, 5, 0, 1, 2)  # both views in one list, and where each row's other view is
SELF_MASK = np.array([[(r + 2 * c) % 5 != 0 for c in range(6)] for r in range(6)])


def negatives_of(r: int, tau: float = 0.5) -> list[mpf]:
    """The logits of row r's negatives among both views, masked by SELF_MASK."""
    return [s(Z[r], Z[c], tau) for c in range(6) if c not in (r, OTHER[r]) and SELF_MASK[r, c]]


def views(loss: str, **given: Any) -> Problem:
    given = {"candidate_mask": SELF_MASK, **HALF, **given}
    return problem(loss, view_a=column(*Q), view_b=column(*K), **given)


def test_nt_xent_tells_each_row_from_the_rest_of_both_views() -> None:
    """softplus(ν − s_p), the margin taken from the positive."""
    expected = [softplus(lse(*negatives_of(r)) - s(Z[r], Z[OTHER[r]]) + 2 * mpf("0.25")) for r in range(6)]
    assert_close(second.evaluate(views("nt_xent", margin=0.25)).loss, expected)


def test_dcl_leaves_the_positive_out() -> None:
    """ν − s_p."""
    expected = [lse(*negatives_of(r)) - s(Z[r], Z[OTHER[r]]) for r in range(6)]
    assert_close(second.evaluate(views("dcl")).loss, expected)


def test_dcl_weighted_takes_the_positive_by_a_constant_weight() -> None:
    """ν − w s_p, w from raw similarities over σ; by τ the gradient is that of ν − w s_p with w fixed."""
    asked = views("dcl", sigma=4.0, margin=0.5)
    alike = [mp.exp(mpf(a * b) / 4) for a, b in zip(Q, K, strict=True)]
    w = [2 - 3 * x / mp.fsum(alike) for x in alike] * 2
    answer = second.evaluate(asked)
    s_p = [s(Z[r], Z[OTHER[r]]) - 1 for r in range(6)]
    assert_close(answer.loss, [lse(*negatives_of(r)) - w[r] * s_p[r] for r in range(6)])
    slopes = []
    for r in range(6):
        shares = [mp.exp(x - lse(*negatives_of(r))) for x in negatives_of(r)]
        slopes.append(-2 * (mp.fsum(p * x for p, x in zip(shares, negatives_of(r), strict=True)) - w[r] * s_p[r]))
    assert_close(answer.grad["temperature"], mp.fsum(slopes))
    assert_close(answer.grad["margin"], 2 * mp.fsum(w))


TURNS = np.array([[1.0, 0.0], [0.0, 2.0], [-0.5, 0.0], [0.0, -3.0]])  # rows along the axes, of unequal norms
COSINES = (1, 0, -1, 0)  # of two of them, by how many quarter turns lie between


def turned(a: Sequence[int], b: Sequence[int], loss: str, **given: Any) -> Problem:
    """Both views as quarter turns, so that every cosine is 1, 0 or −1."""
    return problem(loss, view_a=TURNS[list(a)], view_b=TURNS[list(b)], similarity="cosine", **{**HALF, **given})


@pytest.mark.parametrize(("a", "b", "prior"), [((0, 1, 3), (0, 1, 1), 0.25), ((0, 1), (0, 1), 17 / 128)])
@pytest.mark.parametrize(("loss", "beta"), [("debiased", 0.0), ("hard_negative", 0.0), ("hard_negative", 1.5)])
def test_debiased_and_hard_negatives_by_logarithms(
    loss: str, beta: float, a: Sequence[int], b: Sequence[int], prior: float
) -> None:
    """softplus(log M + max(log g, −1/τ) − s_p), log g by logsumexps: above the floor, just below it and far below."""
    count, options = len(a), {"prior": prior, **({"beta": beta} if loss == "hard_negative" else {})}
    expected, on_floor = [], []
    for r, turn in enumerate((*a, *b)):
        other_view = (r + count) % (2 * count)
        cosines = [COSINES[(turn - other) % 4] for other in (*a, *b)]
        s_p, logits = 2 * mpf(cosines[other_view]), [2 * mpf(c) for c in others(cosines, r, other_view)]
        log_average = lse(*((1 + mpf(beta)) * x for x in logits)) - lse(*(mpf(beta) * x for x in logits))
        c = mp.log(mpf(prior)) + s_p - log_average
        log_g = log_average + mp.log(1 - mp.exp(c)) - mp.log1p(-mpf(prior)) if c < 0 else -mp.inf
        on_floor.append(log_g < -2)
        expected.append(softplus(mp.log(2 * count - 2) + max(log_g, mpf(-2)) - s_p))
    assert any(on_floor)
    assert_close(second.evaluate(turned(a, b, loss, **options)).loss, expected)


def test_the_floor_is_a_constant_but_for_the_temperature() -> None:
    """A positive at 1 and negatives at −1 or 0: the data are below the floor, L = softplus(log M − 1/τ − 1/τ)."""
    answer = second.evaluate(turned((0, 2), (0, 2), "debiased", prior=0.5))
    floor = softplus(mp.log(2) - 4)
    assert_close(answer.loss, [floor] * 4)
    share = 1 / (1 + mp.exp(4) / 2)
    assert_close(answer.grad["temperature"], 4 * share * 8)  # of −2/τ: 2/τ² = 8
    assert is_zero(answer.grad["view_a"]) and is_zero(answer.grad["view_b"])
    moved = second.evaluate(turned((0, 2), (0, 2), "debiased", prior=0.5, tau=0.25))
    assert_close(moved.loss, [softplus(mp.log(2) - 8)] * 4)


@pytest.mark.parametrize("prior", [0.0, 0.25, 0.875])
def test_a_tie_with_the_floor(prior: float) -> None:
    """One row against the rest, all at cosine −1: the data are at the floor whatever the prior; log 3, no gradient."""
    axis = np.array([3.0, 4.0, 5.0])  # its norm is irrational, so that rounding decides unless ties are seen
    rows: dict[str, Any] = {"view_a": np.array([axis, -axis / 2]), "view_b": np.array([-2 * axis, -3 * axis])}
    asked = problem("debiased", **rows, prior=prior, similarity="cosine", sample_weight=[1.0, 0.0, 0.0, 0.0], **HALF)
    answer = second.evaluate(asked)
    assert_close(answer.loss, [mp.log(3), 0, 0, 0])
    assert all(is_zero(g) for g in answer.grad.values())


def test_moco_has_the_queue_alone_as_negatives() -> None:
    """softplus(lse over the queue − s_p)."""
    queue = (0.5, -1.5)
    asked = problem("moco", query=column(*Q), positive_key=column(*K), queue=column(*queue), margin=0.25, **HALF)
    expected = [softplus(lse(*(s(x, y) for y in queue)) - s(x, k) + mpf("0.5")) for x, k in zip(Q, K, strict=True)]
    assert_close(second.evaluate(asked).loss, expected)


def test_gte_has_one_softmax_over_four_blocks() -> None:
    """q→d, q→q, d→q, d→d, N columns of the mask each, the pair itself once."""
    mask = np.array([[(i + 2 * c) % 5 != 0 for c in range(12)] for i in range(3)])
    answer = second.evaluate(problem("gte", query=column(*Q), document=column(*K), candidate_mask=mask, **HALF))
    expected = []
    for i in range(3):
        scores = [*(s(Q[i], y) for y in K), *(s(Q[i], y) for y in Q)]
        scores += [*(s(K[i], y) for y in Q), *(s(K[i], y) for y in K)]
        nu = lse(*(x for c, x in enumerate(scores) if c % 3 != i and mask[i, c]))
        expected.append(softplus(nu - s(Q[i], K[i])))
    assert_close(answer.loss, expected)


BAGS = ((0.5, -1.0), (1.5, 2.0), (-0.25, 0.75))


@pytest.mark.parametrize("symmetric", [False, True])
def test_mil_nce_tells_a_bag_from_the_other_bags(symmetric: bool) -> None:
    """softplus(ν − π), π over the own bag; symmetric: half of it and of the bag against the other queries."""
    mask = np.array([[[(i + 2 * j + b) % 4 != 0 for b in range(2)] for j in range(3)] for i in range(3)])
    bags = np.array(BAGS)[:, :, None]
    asked = problem(
        "mil_nce", query=column(*Q), positive_bags=bags, candidate_mask=mask, margin=0.5, symmetric=symmetric, **HALF
    )
    expected = []
    for i in range(3):
        pi = lse(*(s(Q[i], k) - 1 for k in BAGS[i]))
        other = [(j, b) for j in range(3) if j != i for b in range(2)]
        to_bags = softplus(lse(*(s(Q[i], BAGS[j][b]) for j, b in other if mask[i, j, b])) - pi)
        to_queries = softplus(lse(*(s(Q[j], BAGS[i][b]) for j, b in other if mask[j, i, b])) - pi)
        expected.append((to_bags + to_queries) / 2 if symmetric else to_bags)
    assert_close(second.evaluate(asked).loss, expected)


def test_soft_nce_is_the_cross_entropy_with_the_targets() -> None:
    """(Σ t) lse − Σ t s over the candidates that the mask leaves."""
    keys, targets = (0.5, -1.0, 2.0), [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]
    mask = [[True, True, False], [True, True, True], [True, True, True]]
    asked = problem("soft_nce", query=column(*Q), keys=column(*keys), targets=targets, candidate_mask=mask, **HALF)
    expected = []
    for x, t, kept in zip(Q, targets, mask, strict=True):
        logits = [s(x, y) for y in keys]
        expected.append(
            lse(*(y for y, keep in zip(logits, kept, strict=True) if keep))
            - mp.fsum(share * y for share, y in zip(t, logits, strict=True))
        )
    assert_close(second.evaluate(asked).loss, expected)


@pytest.mark.parametrize(
    "targets",
    [[[1.5, -0.5]], [[0.5, 0.25]], [[0.0, 1.0]], [[1.0 + 2.0**-48, 0.0]]],
    ids=["negative", "not 1", "on a masked candidate", "beyond rounding"],
)
def test_targets_that_are_no_distribution_have_no_answer(targets: list[list[float]]) -> None:
    """A negative target, a sum that isn't 1 or a target on a masked candidate is refused."""
    asked = problem("soft_nce", query=column(1.0), keys=column(1.0, 2.0), candidate_mask=[[True, False]])
    with pytest.raises(ValueError, match="targets"):
        second.evaluate(replace(asked, arrays={**asked.arrays, "targets": np.array(targets)}))


F, F_LABELS = (1.0, -2.0, 0.5, 0.75, 1.5), (0, 0, 1, 0, 1)


def sup_con_formula(variant: str, pos: Sequence[mpf], neg: Sequence[mpf]) -> mpf:
    """The three of them by nu, pi and the mean of the positives."""
    if not neg:
        return {"out": lse(*pos) - mean(pos), "in": mp.log(len(pos)), "sincere": mpf(0)}[variant]
    nu, pi = lse(*neg), lse(*pos)
    return {
        "out": softplus(nu - pi) + pi - mean(pos),
        "in": softplus(nu - pi) + mp.log(len(pos)),
        "sincere": mean([softplus(nu - x) for x in pos]),
    }[variant]


@pytest.mark.parametrize("variant", ["out", "in", "sincere"])
def test_sup_con_by_its_three_numbers(variant: str) -> None:
    """Self excluded, the mask on negatives alone, an anchor without negatives, one without positives."""
    mask = np.array([[(i * j) % 3 != 1 for j in range(5)] for i in range(5)])
    mask[1] = False
    asked = problem(
        "sup_con", features=column(*F), labels=F_LABELS, candidate_mask=mask, margin=0.25, variant=variant, **HALF
    )
    expected = []
    for i in range(5):
        pos = [s(F[i], F[j]) - mpf("0.5") for j in range(5) if j != i and F_LABELS[j] == F_LABELS[i]]
        neg = [s(F[i], F[j]) for j in range(5) if F_LABELS[j] != F_LABELS[i] and mask[i, j]]
        expected.append(sup_con_formula(variant, pos, neg))
    assert_close(second.evaluate(asked).loss, expected)


@pytest.mark.parametrize("variant", ["out", "in", "sincere"])
def test_sup_con_with_keys_of_its_own(variant: str) -> None:
    """Keys with labels: nothing is excluded as self; the anchors without a positive don't count."""
    keys, key_labels = (0.25, -1.0, 3.0), (1, 0, 1)
    labels = (0, 1, 1, 7, 0)
    asked = problem(
        "sup_con",
        features=column(*F),
        labels=labels,
        keys=column(*keys),
        key_labels=key_labels,
        variant=variant,
        **HALF,
    )
    expected = []
    for x, label in zip(F, labels, strict=True):
        pos = [s(x, k) for k, other in zip(keys, key_labels, strict=True) if other == label]
        neg = [s(x, k) for k, other in zip(keys, key_labels, strict=True) if other != label]
        expected.append(sup_con_formula(variant, pos, neg) if pos else mpf(0))
    answer = second.evaluate(asked)
    assert_close(answer.loss, expected)
    assert is_zero(answer.grad["features"][3])
    averaged = second.evaluate(replace(asked, reduction="mean"))
    assert_close(averaged.loss, mp.fsum(expected) / 4)


def test_siglip_is_a_sum_of_softplus() -> None:
    """softplus(−y (s + b)) over the row's pairs, masked pairs gone, the diagonal never."""
    mask = np.array([[False, True, False], [True, True, True], [False, False, False]])
    asked = problem("siglip", image=column(*Q), text=column(*K), bias=-1.25, candidate_mask=mask, **HALF)
    expected = []
    for i in range(3):
        rest = [s(Q[i], K[j]) - mpf("1.25") for j in range(3) if j != i and mask[i, j]]
        expected.append(softplus(-s(Q[i], K[i]) + mpf("1.25")) + mp.fsum(softplus(x) for x in rest))
    assert_close(second.evaluate(asked).loss, expected)


def test_triplet_is_the_mean_of_hinges() -> None:
    """Hand-made: similarities 2 to the positive, 1, 2 and 4 to the negatives, margin ½: (0 + ½ + 2½)/3."""
    asked = problem(
        "triplet",
        query=column(2.0),
        positive_key=column(1.0),
        negative_keys=column(0.5, 1.0, 2.0),
        margin=0.5,
        in_batch_negatives=False,
    )
    answer = second.evaluate(asked)
    assert [float(x) for x in answer.loss] == [1.0]
    assert_close(answer.grad["query"], [mpf(0 + 0 + 1) / 3])
    assert_close(answer.grad["positive_key"], [mpf(-4) / 3])
    assert_close(answer.grad["negative_keys"], [0, mpf(2) / 3, mpf(2) / 3])
    assert_close(answer.grad["margin"], mpf(2) / 3)
    assert "temperature" not in answer.grad


def test_n_pair_knows_neither_cosine_nor_temperature() -> None:
    """softplus(lse of the other keys' inner products − the own)."""
    mask = [[True, True, False], [True, True, True], [False, False, True]]
    asked = problem("n_pair", query=column(*Q), positive_key=column(*K), candidate_mask=mask)
    expected = [
        softplus(s(1, 1.5, 1) - s(1, 0.75, 1)),
        softplus(lse("-1.5", "2") - mpf(-3)),
        mpf(0),
    ]
    assert_close(second.evaluate(asked).loss, expected)
    assert_close(second.evaluate(replace(asked, similarity="cosine")).loss, expected)


# --- edges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 3.0, 7.0, 23.0])
def test_at_the_kink_triplet_has_slope_0(scale: float) -> None:
    """sim_j − sim_p + margin = 0 exactly: loss 0 and every gradient 0, though its square roots are rounded."""
    near = np.array([[2.0, -1.0, 5.0]])
    rows: dict[str, Any] = {"query": [[1.0, 2.0, 3.0]], "positive_key": near, "negative_keys": scale * near}
    asked = problem("triplet", **rows, similarity="cosine" if scale != 1 else "dot", margin=0.0)
    answer = second.evaluate(asked)
    assert is_zero(answer.loss) and all(is_zero(g) for g in answer.grad.values())
    above = second.evaluate(replace(asked, margin=5e-324))
    assert_close(above.grad["margin"], 1)
    assert float(above.loss[0]) == 5e-324


def test_near_the_kink_triplet_is_on_its_side() -> None:
    """A difference of 2^-1074 beside similarities of 1 is no tie."""
    for sign in (1.0, -1.0):
        asked = problem(
            "triplet", query=[[1.0, 1.0]], positive_key=[[1.0, 0.0]], negative_keys=[[1.0, sign * 5e-324]], margin=0.0
        )
        assert_close(second.evaluate(asked).grad["margin"], 1 if sign > 0 else 0)


@pytest.mark.parametrize(
    ("loss", "names", "options", "counts"),
    [
        ("nt_xent", ("view_a", "view_b"), {}, True),
        ("debiased", ("view_a", "view_b"), {"prior": 0.5}, True),
        ("hard_negative", ("view_a", "view_b"), {"prior": 0.5, "beta": 1.0}, True),
        ("dcl", ("view_a", "view_b"), {}, False),
        ("dcl", ("view_a", "view_b"), {"sigma": 0.5}, False),
        ("triplet", ("query", "positive_key"), {}, False),
        ("clip", ("image", "text"), {}, True),
        ("gte", ("query", "document"), {}, True),
        ("n_pair", ("query", "positive_key"), {}, True),
    ],
)
def test_rows_without_negatives(loss: str, names: tuple[str, str], options: dict[str, Any], counts: bool) -> None:
    """0 with gradient 0; in the mean they count, except in dcl and triplet."""
    pair: dict[str, Any] = {name: [[1.0, 0.5]] for name in names}
    alone = second.evaluate(problem(loss, **pair, reduction="mean", **options))
    assert is_zero(alone.loss) and all(is_zero(g) for g in alone.grad.values())
    three: dict[str, Any] = {names[0]: column(*Q), names[1]: column(*K)}
    views = LOSSES[loss].views
    mask = np.ones((3 * views, 12 if loss == "gte" else 3 * views), dtype=bool)
    mask[0] = False
    if loss == "clip":
        mask[:, 0] = False
    asked = problem(loss, **three, candidate_mask=mask, margin=100.0 if loss == "triplet" else 0.0, **options)
    if "prior" in options:  # of inner products, the brackets of these rows are below 0
        asked = replace(asked, similarity="cosine", arrays={**asked.arrays, **{n: np.eye(3) for n in names}})
    entries, averaged = second.evaluate(asked), second.evaluate(replace(asked, reduction="mean"))
    assert entries.loss[0] == 0 and all(x != 0 for x in entries.loss[1:])
    whole, size = mp.fsum(numbers(entries.loss)), len(entries.loss)
    assert_close(averaged.loss, whole / (size if counts else size - 1))


def test_weights_of_rows_that_do_not_count_do_not_count() -> None:
    """The mean is Σ w L / Σ w over the anchors with a positive."""
    asked = problem("sup_con", features=column(*F), labels=[0, 0, 1, 0, 2], sample_weight=[1.0, 2.0, 8.0, 0.5, 8.0])
    entries, averaged = second.evaluate(asked), second.evaluate(replace(asked, reduction="mean"))
    assert_close(averaged.loss, mp.fsum(numbers(entries.loss)) / mpf("3.5"))
    nobody = second.evaluate(replace(asked, reduction="mean", arrays={**asked.arrays, "labels": np.arange(5)}))
    assert is_zero(nobody.loss) and all(is_zero(g) for g in nobody.grad.values())


def test_a_bracket_below_0_has_no_answer() -> None:
    """Inner products have no floor: an average below prior times the positive is refused, and at 0 too."""
    for loss, beta in (("debiased", {}), ("hard_negative", {"beta": 1.0})):
        asked = problem(loss, view_a=column(1.0, -1.0), view_b=column(1.0, -1.0), prior=0.5, **beta)
        with pytest.raises(ValueError, match="prior"):
            second.evaluate(asked)
        assert second.evaluate(replace(asked, similarity="cosine")).loss.shape == (4,)


@pytest.mark.parametrize("index", [-1, 2])
@pytest.mark.parametrize("loss", ["info_nce", "info_nce_from_logits"])
def test_an_index_outside_has_no_answer(loss: str, index: int) -> None:
    """positive_index below 0 or beyond the last column is refused, not wrapped."""
    arrays: dict[str, Any] = dict.fromkeys(LOSSES[loss].arrays, np.eye(2))
    with pytest.raises(ValueError, match="positive_index"):
        second.evaluate(problem(loss, **arrays, positive_index=[0, index]))


def test_zero_rows_have_gradient_0_in_every_loss() -> None:
    """Cosine 0 with everything, by value; a zero row moves nothing."""
    for case, (given, _) in IDENTICAL.items():
        arrays = {n: np.array(a, dtype=float) for n, a in given.items() if KINDS.get(n) == "embedding"}
        for array in arrays.values():
            array[0] = 0.0
        answer = second.evaluate(problem(case.split(",")[0], similarity="cosine", **{**given, **arrays}))
        assert all(is_zero(answer.grad[name][0]) for name in arrays)


# --- derivatives -----------------------------------------------------------------------------------

DIFFERENTIATED: dict[str, dict[str, Any]] = {
    "info_nce": {"query": few(1, 2, 2), "positive_key": few(2, 2, 2), "logit_bias": few(3, 2)},
    "info_nce_from_logits": {"logits": few(4, 2, 3)},
    "clip": {"image": few(5, 2, 2), "text": few(6, 2, 2), "negative_texts": few(7, 1, 2)},
    "nt_xent": {"view_a": few(8, 2, 2), "view_b": few(9, 2, 2)},
    "dcl": {"view_a": few(10, 2, 2), "view_b": few(11, 2, 2)},
    "debiased": {"view_a": few(12, 2, 2), "view_b": few(13, 2, 2), "prior": 0.0625},
    "hard_negative": {"view_a": few(14, 2, 2), "view_b": few(15, 2, 2), "prior": 0.0625, "beta": 1.5},
    "moco": {"query": few(16, 2, 2), "positive_key": few(17, 2, 2), "queue": few(18, 2, 2)},
    "gte": {"query": few(19, 2, 2), "document": few(20, 2, 2)},
    "mil_nce": {"query": few(21, 2, 2), "positive_bags": few(22, 2, 2, 2)},
    "mil_nce, symmetric": {"query": few(23, 2, 2), "positive_bags": few(24, 2, 2, 2), "symmetric": True},
    "soft_nce": {"query": few(25, 2, 2), "keys": few(26, 3, 2), "targets": [[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]},
    "sup_con, out": {"features": few(27, 4, 2), "labels": [0, 1, 0, 0]},
    "sup_con, in": {"features": few(28, 4, 2), "labels": [0, 1, 0, 0], "variant": "in"},
    "sup_con, sincere": {"features": few(29, 4, 2), "labels": [0, 1, 0, 0], "variant": "sincere"},
    "siglip": {"image": few(30, 2, 2), "text": few(31, 2, 2), "bias": -1.5},
    "triplet": {"query": few(32, 2, 2), "positive_key": few(33, 2, 2), "margin": 2.5, "tau": 1.0},
    "n_pair": {"query": few(34, 2, 2), "positive_key": few(35, 2, 2), "tau": 1.0},
    "matryoshka": {
        "query": few(36, 2, 3),
        "positive_key": few(37, 2, 3),
        "dims": [2, 3, 1],
        "weights": [0.5, 2.0, 1.0],
    },
}


def test_every_loss_is_differentiated() -> None:
    """No loss of the family is left out below."""
    assert {case.split(",")[0] for case in DIFFERENTIATED} == set(LOSSES)


def moved(asked: Problem, name: str, place: tuple[int, ...], by: float) -> Problem:
    """The problem with one number moved, exactly."""
    if name not in asked.arrays:
        return replace(asked, **{name: getattr(asked, name) + by})
    array = np.array(asked.arrays[name], dtype=np.float64)
    array[place] += by
    return replace(asked, arrays={**asked.arrays, name: array})


def slope(asked: Problem, name: str, place: tuple[int, ...]) -> mpf:
    """The six-point central difference of the loss at steps of 2^-20: its error is of the order 2^-120 = 1e-36."""
    h = 2.0**-20

    def loss(by: float) -> mpf:
        return mpf(str(second.evaluate(moved(asked, name, place, by), 80).loss.item()))

    differences = [(c, loss(i * h) - loss(-i * h)) for i, c in ((1, 45), (2, -9), (3, 1))]
    with mp.workdps(100):
        return mp.fsum(c * x for c, x in differences) / (60 * mpf(h))


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("case", DIFFERENTIATED)
def test_dual_derivatives_are_the_limits_of_differences(case: str, similarity: str) -> None:
    """Every entry of every gradient is the slope of the loss by that number."""
    given = {"tau": 2.0, **DIFFERENTIATED[case]}
    asked = problem(case.split(",")[0], similarity=similarity, reduction="sum", **given)
    exact = second.evaluate(asked)
    for name, grad in exact.grad.items():
        for place in np.ndindex(grad.shape):
            with mp.workdps(100):
                error = slope(asked, name, place) - mpf(str(grad[place]))
                assert abs(error) <= mpf("1e-29"), (name, place)


# --- digits ----------------------------------------------------------------------------------------


def digits_kept(one: Answer, other: Answer) -> bool:
    """Whether no number of two answers differs in its first 45 digits, nor is 0 in one alone."""
    pairs = (
        (x, y) for name, a in one.outputs().items() for x, y in zip(a.flat, other.outputs()[name].flat, strict=True)
    )
    with mp.workdps(60):
        return all(abs(mpf(str(x)) - mpf(str(y))) <= mpf("1e-44") * abs(mpf(str(y))) for x, y in pairs)


POSITIVE, RARE, PLAIN = [4.0, 1.0], [-4.0, 2.0], [1.0, 1.0]  # logits 4/τ, −4/τ and 1/τ with the query (1, 0)
RARELY: dict[str, dict[str, Any]] = {
    "mil_nce": {
        "query": [[1.0, 0.0], PLAIN],
        "positive_bags": [[POSITIVE, RARE], [PLAIN, PLAIN]],
        "sample_weight": [1.0, 0.0],
    },
    "sup_con": {
        "features": [[1.0, 0.0]],
        "labels": [7],
        "keys": [POSITIVE, RARE, PLAIN],
        "key_labels": [7, 7, 8],
        "variant": "in",
    },
    "hard_negative": {
        "view_a": [[1.0, 0.0], PLAIN],
        "view_b": [[20.0, 1.0], RARE],
        "prior": 0.0,
        "beta": 4.0,
        "tau": 2.0**-5,
        "sample_weight": [1.0, 0.0, 0.0, 0.0],
    },
}


@pytest.mark.parametrize("loss", RARELY)
def test_products_of_two_small_shares_keep_their_digits(loss: str) -> None:
    """All keys but a rare one have second coordinate 1: the query's gradient there is the rare one's share alone."""
    asked = problem(loss, **{"tau": 2.0**-7, **RARELY[loss]})
    answer = second.evaluate(asked)
    entry = answer.grad[asked.differentiable[0]][0, 1]
    assert Decimal("1e-1000") < abs(entry) < Decimal("1e-500")
    assert digits_kept(answer, second.evaluate(asked, answer.digits + 800))


def test_a_tiny_debiased_loss_is_its_floor() -> None:
    """All negatives opposite, τ = 2^-9: L = log(1 + 2 e^−1024), which is 2 e^−1024 to 444 digits."""
    answer = second.evaluate(turned((0, 2), (0, 2), "debiased", prior=0.5, tau=2.0**-9))
    assert all(abs(x / (2 * mp.exp(-1024)) - 1) < mpf("1e-44") for x in numbers(answer.loss))


def test_a_tiny_siglip_is_its_exponential() -> None:
    """log(1 + e^−z) is e^−z to z/log 10 digits, and e^−1600 is no zero."""
    asked = problem("siglip", image=column(1.0), text=column(1.0), bias=0.0, tau=2.0**-4 / 100)
    z = 1 / mpf(2.0**-4 / 100)
    answer = second.evaluate(asked)
    assert abs(mpf(str(answer.loss[0])) / mp.exp(-z) - 1) < mpf("1e-44")
    assert abs(mpf(str(answer.grad["bias"].item())) / mp.exp(-z) + 1) < mpf("1e-44")
