"""What must hold for every input, tried on inputs that hypothesis looks for."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from infonce_ref import info_nce
from infonce_ref.conformance.bounds import bound
from infonce_ref.conformance.problem import FORMATS, Problem

N, D = 3, 2
sixteenths = st.integers(-64, 64).map(lambda i: i / 16)
rows = arrays(np.float64, (N, D), elements=sixteenths)
temperatures = st.sampled_from([0.0625, 0.25, 1.0, 4.0])
similarities = st.sampled_from(["cosine", "dot"])
quick = settings(max_examples=40, deadline=None, derandomize=True)  # the same examples on every run


def limit(q: np.ndarray, k: np.ndarray, temperature: float, similarity: Any, **more: np.ndarray) -> float:
    """How far the loss of this problem may be from the exact one."""
    p = Problem("float64", {"query": q, "positive_key": k, **more}, temperature, similarity=similarity)
    return float(bound(p, FORMATS["float64"])["loss"])


@quick
@given(rows, rows, arrays(np.float64, (1, D), elements=sixteenths), temperatures, similarities)
def test_an_added_negative_never_lowers_the_loss(q: Any, k: Any, n: Any, tau: float, similarity: Any) -> None:
    """[rows.softplus] [candidates.shared] One term more in the denominator: the loss is no lower. Never negative."""
    without = info_nce(q, k, temperature=tau, similarity=similarity)
    more = info_nce(q, k, n, temperature=tau, similarity=similarity)
    slack = limit(q, k, tau, similarity) + limit(q, k, tau, similarity, negative_keys=n)
    assert more >= without - slack
    assert without >= 0


@quick
@given(rows, rows, sixteenths, temperatures)
def test_a_shift_of_all_logits_changes_nothing(q: Any, k: Any, c: float, tau: float) -> None:
    """[similarity.dot] [rows.softplus] A constant feature (q: 1, keys: c) adds c/τ to every logit of every query."""
    q1 = np.concatenate([q, np.ones((N, 1))], axis=1)
    k1 = np.concatenate([k, np.full((N, 1), c)], axis=1)
    here, there = (info_nce(*x, temperature=tau, similarity="dot") for x in ((q, k), (q1, k1)))
    assert abs(here - there) <= limit(q, k, tau, "dot") + limit(q1, k1, tau, "dot")


@quick
@given(rows, rows, arrays(np.float64, (N, 1), elements=st.integers(1, 48).map(lambda i: i / 16)), temperatures)
def test_the_length_of_a_row_changes_nothing(q: Any, k: Any, length: Any, tau: float) -> None:
    """[similarity.cosine] Rows times any positive numbers: the same loss."""
    here, there = (info_nce(x, k, temperature=tau) for x in (q, q * length))
    assert abs(here - there) <= limit(q, k, tau, "cosine") + limit(q * length, k, tau, "cosine")


@quick
@given(rows, rows, temperatures, similarities, st.permutations(range(N)))
def test_the_order_of_the_pairs_changes_nothing(q: Any, k: Any, tau: float, similarity: Any, order: Any) -> None:
    """[candidates.in-batch] [reduction.none] Another order of the pairs: the same losses in that order."""
    here = info_nce(q, k, temperature=tau, similarity=similarity, reduction="none")
    there = info_nce(q[order], k[order], temperature=tau, similarity=similarity, reduction="none")
    assert (abs(here[order] - there) <= 2 * N * limit(q, k, tau, similarity)).all()


@quick
@given(rows, rows, st.floats(-3, 3), temperatures)
def test_a_margin_is_a_lower_positive(q: Any, k: Any, m: float, tau: float) -> None:
    """[scale.margin] e^L − 1, the odds against the positive, grow by e^{m/τ}: a margin never reads as a lower loss."""
    plain, with_margin = (
        info_nce(q, k, temperature=tau, margin=x, reduction="none") for x in (0.0, m)
    )
    assert ((with_margin >= plain) if m >= 0 else (with_margin <= plain)).all()


@quick
@given(rows, rows, temperatures, similarities)
def test_the_temperature_belongs_to_the_logits(q: Any, k: Any, tau: float, similarity: Any) -> None:
    """[scale.temperature] With dot, dividing τ by 4 is multiplying the queries by 4, to the last bit."""
    if similarity == "dot":
        assert info_nce(q, k, temperature=tau / 4, similarity="dot") == info_nce(
            4 * q, k, temperature=tau, similarity="dot"
        )
    assert np.isfinite(info_nce(q, k, temperature=tau, similarity=similarity))
