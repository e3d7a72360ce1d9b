"""The first oracle on every loss: published formulas, differences, exact facts, identities, edges, digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from infonce_ref.conformance.family import KINDS, LOSSES
from infonce_ref.conformance.oracle import agree, definition, second
from infonce_ref.conformance.oracle.definition import candidates, formulas, losses
from infonce_ref.conformance.problem import Problem

CRITERION = 1e-30

exp = np.frompyfunc(mp.exp, 1, 1)
log = np.frompyfunc(mp.log, 1, 1)


@pytest.fixture(autouse=True)
def _sixty_digits() -> Iterator[None]:
    """The tests' own arithmetic on answers is exact enough to be compared to 1e-40."""
    with mp.workdps(60):
        yield


# --- problems of every loss ------------------------------------------------------------------------

N, M, K, B, D = 3, 2, 4, 2, 3  # pairs, explicit negatives, keys, elements of a bag, features

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "info_nce": {"query": (N, D), "positive_key": (N, D)},
    "info_nce_from_logits": {"logits": (N, K)},
    "clip": {"image": (N, D), "text": (N, D)},
    "nt_xent": {"view_a": (N, D), "view_b": (N, D)},
    "dcl": {"view_a": (N, D), "view_b": (N, D)},
    "debiased": {"view_a": (N, D), "view_b": (N, D)},
    "hard_negative": {"view_a": (N, D), "view_b": (N, D)},
    "moco": {"query": (N, D), "positive_key": (N, D), "queue": (K, D)},
    "gte": {"query": (N, D), "document": (N, D)},
    "mil_nce": {"query": (N, D), "positive_bags": (N, B, D)},
    "soft_nce": {"query": (N, D), "keys": (K, D)},
    "sup_con": {"features": (5, D)},
    "siglip": {"image": (N, D), "text": (N, D)},
    "triplet": {"query": (N, D), "positive_key": (N, D)},
    "n_pair": {"query": (N, D), "positive_key": (N, D)},
    "matryoshka": {"query": (N, D), "positive_key": (N, D)},
}
MASKS = {
    **dict.fromkeys(("info_nce", "triplet", "clip", "siglip", "n_pair", "matryoshka"), (N, N)),
    **dict.fromkeys(("nt_xent", "dcl", "debiased", "hard_negative"), (2 * N, 2 * N)),
    "info_nce_from_logits": (N, K),
    "gte": (N, 4 * N),
    "mil_nce": (N, N, B),
    "soft_nce": (N, K),
    "sup_con": (5, 5),
}
TARGETS = np.array([[0.5, 0.25, 0.25, 0.0], [0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
LABELS = np.array([0, 1, 0, 0, 2])  # of the second label and of the third there is one each

# Every loss, every option, every optional array that changes who is compared with whom.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "info_nce": ("info_nce", {}),
    "info_nce, logit_bias": ("info_nce", {"logit_bias": (N,)}),
    "info_nce, logit_bias, shared": ("info_nce", {"logit_bias": (N + M,), "negative_keys": (M, D), "columns": N + M}),
    "info_nce, logit_bias, own": (
        "info_nce",
        {"logit_bias": (M,), "negative_keys": (N, M, D), "columns": M, "in_batch_negatives": False},
    ),
    "info_nce, logit_bias, index": ("info_nce", {"logit_bias": (N,), "positive_index": np.array([2, 2, 0])}),
    "info_nce, logit_bias, bilinear": (
        "info_nce",
        {"logit_bias": (N,), "bilinear_weight": (D, D), "similarity": "bilinear"},
    ),
    "info_nce_from_logits": ("info_nce_from_logits", {}),
    "info_nce_from_logits, index": ("info_nce_from_logits", {"positive_index": np.array([3, 0, 3])}),
    "clip": ("clip", {}),
    "clip, shared negatives": ("clip", {"negative_texts": (M, D), "negative_images": (K, D)}),
    "clip, own negatives": ("clip", {"negative_texts": (N, M, D)}),
    "nt_xent": ("nt_xent", {}),
    "dcl": ("dcl", {}),
    "dcl, sigma": ("dcl", {"options": {"sigma": 0.5}}),
    "debiased": ("debiased", {"options": {"prior": 0.125}}),
    "hard_negative": ("hard_negative", {"options": {"prior": 0.125, "beta": 1.5}}),
    "moco": ("moco", {}),
    "gte": ("gte", {}),
    "mil_nce": ("mil_nce", {}),
    "mil_nce, symmetric": ("mil_nce", {"options": {"symmetric": True}}),
    "soft_nce": ("soft_nce", {"targets": TARGETS}),
    "sup_con, out": ("sup_con", {"labels": LABELS}),
    "sup_con, in": ("sup_con", {"labels": LABELS, "options": {"variant": "in"}}),
    "sup_con, sincere": ("sup_con", {"labels": LABELS, "options": {"variant": "sincere"}}),
    "sup_con, keys": (
        "sup_con",
        {"labels": LABELS, "keys": (K, D), "key_labels": np.array([0, 1, 0, 5]), "columns": K},
    ),
    "siglip": ("siglip", {}),
    "triplet": ("triplet", {}),
    "triplet, own": ("triplet", {"negative_keys": (N, M, D), "columns": M, "in_batch_negatives": False}),
    "n_pair": ("n_pair", {"similarity": "dot"}),
    "matryoshka": ("matryoshka", {"options": {"dims": [2, 3]}}),
    "matryoshka, weights": ("matryoshka", {"options": {"dims": [3, 1, 3], "weights": [0.5, 2.0, 0.25]}}),
    "matryoshka, own": (
        "matryoshka",
        {"negative_keys": (N, M, D), "columns": M, "in_batch_negatives": False, "options": {"dims": [2]}},
    ),
}


def draw(case: str, seed: int, **settings: Any) -> Problem:
    """A random problem: masks, weights, margin, bias and reduction, unless `plain`; `settings` go before chance."""
    loss, given = CASES[case]
    known, rng = LOSSES[loss], np.random.default_rng([seed, *case.encode()])
    settings = {**given, **settings}
    columns, plain = settings.pop("columns", None), settings.pop("plain", False)
    arrays = {name: rng.normal(size=shape) for name, shape in SHAPES[loss].items()}
    for name in (*known.arrays, *known.optional):
        if name in settings:
            value = settings.pop(name)
            arrays[name] = rng.normal(size=value) if isinstance(value, tuple) else np.asarray(value)
    if not plain:
        if loss in MASKS:
            shape = MASKS[loss] if columns is None else (MASKS[loss][0], columns)
            arrays.setdefault("candidate_mask", rng.random(shape) < 0.75)
        if loss == "soft_nce":
            arrays["candidate_mask"] |= arrays["targets"] > 0
        rows = known.rows({name: a.shape for name, a in arrays.items()})
        arrays.setdefault("sample_weight", rng.integers(1, 4, size=rows) / 2.0)
        settings.setdefault("reduction", str(rng.choice(["mean", "sum", "none"])))
        if "margin" in known.scalars:
            settings.setdefault("margin", 0.1875)
    if "bias" in known.scalars:
        settings.setdefault("bias", -1.5)
    tau = settings.pop("tau", 0.5)
    return Problem("float64", arrays, tau if "temperature" in known.scalars else 1.0, loss=loss, **settings)


def problem(loss: str, tau: Any = 0.5, **settings: Any) -> Problem:
    """A problem whose arrays are among the settings."""
    arrays = {name: np.asarray(settings.pop(name)) for name in dict(settings) if name in vars_of(loss)}
    return Problem("float64", arrays, tau, loss=loss, **settings)


def vars_of(loss: str) -> tuple[str, ...]:
    return (*LOSSES[loss].arrays, *LOSSES[loss].optional)


def sides(asked: Problem) -> list[str]:
    """The embeddings of a problem."""
    return [name for name in asked.differentiable if KINDS.get(name) == "embedding"]


def inner(a: np.ndarray, b: np.ndarray) -> mpf:
    """⟨a, b⟩ over all entries, of exact numbers."""
    return mp.fsum(x * mp.mpf(y) for x, y in zip(a.flat, b.flat, strict=True))


def is_zero(array: np.ndarray) -> bool:
    return all(x == 0 for x in array.flat)


def value(asked: Problem) -> mpf:
    return definition.evaluate(asked).loss.item()


def close(one: Any, other: Any, tolerance: str = "1e-42") -> bool:
    """Equal, entry by entry, to the test's own arithmetic."""
    one, other = np.asarray(one, dtype=object), np.asarray(other, dtype=object)
    return one.shape == other.shape and all(
        abs(x - y) <= mpf(tolerance) * (1 + abs(y)) for x, y in zip(one.flat, other.flat, strict=True)
    )


every_case = pytest.mark.parametrize("case", CASES)


def test_every_loss_has_a_case() -> None:
    """The cases below cover the losses that the suite knows, and the oracle knows no other."""
    assert {loss for loss, _ in CASES.values()} == set(LOSSES) == set(losses.LOSSES)


# --- gradients are differences of values -----------------------------------------------------------


def difference_quotient(loss: Callable[[mpf], mpf], at: Any) -> mpf:
    """dL/dx by the six-point central difference: its error is of order h⁶ = 1e-120."""
    h, x = mpf("1e-20"), mpf(at)
    return sum(c * (loss(x + i * h) - loss(x - i * h)) for i, c in ((1, 45), (2, -9), (3, 1))) / (60 * h)


def moved(asked: Problem, name: str, place: tuple[int, ...], to: mpf) -> Problem:
    """The problem with one number replaced by one that no format need hold."""
    if name not in asked.arrays:
        return replace(asked, **{name: to})
    array = asked.arrays[name].astype(object)
    array[place] = to
    return replace(asked, arrays={**asked.arrays, name: array})


def assert_gradients_are_differences(asked: Problem) -> None:
    """Every entry of every gradient is the derivative of the loss, summed up, by that number: to 1e-30."""
    exact = definition.evaluate(asked)
    assert tuple(exact.grad) == asked.differentiable
    for name in asked.differentiable:
        assert exact.grad[name].shape == (asked.arrays[name].shape if name in asked.arrays else ())
        for place in np.ndindex(exact.grad[name].shape):
            start = asked.arrays[name][place] if name in asked.arrays else getattr(asked, name)

            def loss(x: mpf, name: str = name, place: tuple[int, ...] = place) -> mpf:
                return mp.fsum(definition.solve(moved(asked, name, place, x), 150).loss.flat)

            with mp.workdps(150):
                slope = difference_quotient(loss, start)
                assert abs(slope - exact.grad[name][place]) <= mpf("1e-30") * abs(slope) + mpf("1e-90"), (name, place)


def freeze_weights(asked: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """DCLW's weights are constants of the gradient: those of the problem that isn't moved."""
    right = losses.decoupled_weights
    with mp.workdps(200):
        call = definition.similarity.read(asked, candidates.two_views(asked))
        kept = right(call)
    monkeypatch.setattr(losses, "decoupled_weights", lambda call: kept)


@every_case
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_gradients_are_the_limits_of_differences(case: str, similarity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every number of every argument, masks, weights, margin and reduction drawn at random."""
    loss, given = CASES[case]
    if similarity != "cosine" and (not LOSSES[loss].similarities or "similarity" in given):
        similarity = given.get("similarity", "cosine")
    asked = draw(case, 1, similarity=given.get("similarity", similarity))
    if "sigma" in asked.options:
        freeze_weights(asked, monkeypatch)
    assert_gradients_are_differences(asked)


def test_gradients_on_the_floor_are_the_limits_of_differences() -> None:
    """A prior so large that the floor holds for some anchors and not for others: the floor moves with τ alone."""
    view_a = np.array([[2.0, 1.0, 0.0], [0.5, -1.0, 3.0], [-1.0, 1.0, 0.25]])
    near = view_a + np.array([[0.25, 0.0, 0.5], [0.0, 0.25, 0.0], [2.0, 1.0, 2.0]])
    for case in ("debiased", "hard_negative"):
        options = {"prior": 0.5} if case == "debiased" else {"prior": 0.5, "beta": 0.5}
        asked = draw(case, 1, options=options, tau=0.75, view_a=view_a, view_b=near)
        floored = [term.by_floor != 0 for term in terms_of(asked)]
        assert 0 < sum(floored) < len(floored)
        assert_gradients_are_differences(asked)


def terms_of(asked: Problem) -> list[formulas.Term]:
    """Every row's value and derivatives by its logits."""
    loss = losses.LOSSES[asked.loss]
    call = definition.similarity.read(asked, loss.entries(asked))
    rows = [row for entry in call.entries for row in entry]
    scores = [definition.logits(call, row)[1] for row in rows]
    formula = loss.formula(call)
    return [f(s[: len(row.positive)], s[len(row.positive) :]) for f, s, row in zip(formula, scores, rows, strict=True)]


# --- published formulas ----------------------------------------------------------------------------


def scaled(left: np.ndarray, right: np.ndarray, tau: Any = 0.5) -> np.ndarray:
    """The matrix of inner products over τ, exactly."""
    x, y = (np.vectorize(mpf, otypes=[object])(a) for a in (left, right))
    return x @ y.T / mpf(tau)


def without(row: np.ndarray, *columns: int) -> np.ndarray:
    """A row less some of its columns."""
    return np.delete(row, columns)


def mean(values: Any) -> mpf:
    listed = list(values)
    return mp.fsum(listed) / len(listed)


def cross_entropy(s: np.ndarray, target: int) -> mpf:
    """−log softmax(s)[target]."""
    return mp.log(exp(s).sum()) - s[target]


def dot(case: str, seed: int = 2, **settings: Any) -> Problem:
    return draw(case, seed, plain=True, similarity="dot", **settings)


def two_sided(asked: Problem) -> np.ndarray:
    """s of all 2N rows with each other."""
    z = np.concatenate([asked.arrays["view_a"], asked.arrays["view_b"]])
    return scaled(z, z)


def other_view(i: int) -> int:
    return (i + N) % (2 * N)


def rest(s: np.ndarray, i: int) -> np.ndarray:
    """The 2N − 2 negatives of row i of two views."""
    return without(s[i], i, other_view(i))


def test_clip_is_radfords() -> None:
    """Figure 3: (cross_entropy(axis 0) + cross_entropy(axis 1)) / 2 of logits with the labels 0 … N − 1."""
    asked = dot("clip")
    s = scaled(asked.arrays["image"], asked.arrays["text"])
    published = (mean(cross_entropy(s[i], i) for i in range(N)) + mean(cross_entropy(s[:, i], i) for i in range(N))) / 2
    assert close(value(asked), published)


def test_clip_with_negatives_has_them_in_their_own_direction() -> None:
    """negative_texts stand beside the texts of an image, negative_images beside the images of a text."""
    asked = dot("clip, shared negatives")
    x = asked.arrays
    to_text = np.concatenate([scaled(x["image"], x["text"]), scaled(x["image"], x["negative_texts"])], axis=1)
    to_image = np.concatenate([scaled(x["text"], x["image"]), scaled(x["text"], x["negative_images"])], axis=1)
    rows = (cross_entropy(s[i], i) for s in (to_text, to_image) for i in range(N))
    assert close(value(asked), mean(rows))


def test_nt_xent_is_chens() -> None:
    """Equation 1: −log(e^{s_ij} / Σ_{k≠i} e^{s_ik}), the mean over all 2N rows."""
    asked = dot("nt_xent")
    s = two_sided(asked)
    rows = (mp.log(exp(without(s[i], i)).sum()) - s[i, other_view(i)] for i in range(2 * N))
    assert close(value(asked), mean(rows))


def test_dcl_is_yehs() -> None:
    """Equation 6: −s_p + log of the sum over the negatives of both views alone."""
    asked = dot("dcl")
    s = two_sided(asked)
    assert close(value(asked), mean(mp.log(exp(rest(s, i)).sum()) - s[i, other_view(i)] for i in range(2 * N)))


def test_dclw_is_yehs() -> None:
    """w_i = 2 − e^{⟨a_i, b_i⟩/σ} / mean_j e^{⟨a_j, b_j⟩/σ} before the positive; it isn't divided by τ."""
    asked = dot("dcl, sigma")
    s, raw = two_sided(asked), [scaled(asked.arrays["view_a"], asked.arrays["view_b"], 1.0)[i, i] for i in range(N)]
    w = [2 - mp.exp(x / mpf("0.5")) / mean(mp.exp(y / mpf("0.5")) for y in raw) for x in raw]
    rows = (mp.log(exp(rest(s, i)).sum()) - w[i % N] * s[i, other_view(i)] for i in range(2 * N))
    assert close(value(asked), mean(rows))


@pytest.mark.parametrize("prior", [0.125, 0.875])
@pytest.mark.parametrize("beta", [0.0, 1.5])
def test_hard_negative_is_robinsons(prior: float, beta: float) -> None:
    """Beside e^{s_p}: M max((mean e^{(1+β)s} / mean e^{βs} − prior e^{s_p}) / (1 − prior), e^{−1/τ}); β = 0: Chuang."""
    unit = np.array([[0.6, 0.8, 0.0], [0.0, -0.6, 0.8], [1.0, 0.0, 0.0]])
    options = {"prior": prior, "beta": beta}
    asked = draw("hard_negative", 1, plain=True, view_a=3 * unit, view_b=unit[::-1], options=options)
    one, other = (np.array([[mpf(round(10 * x)) / 10 for x in row] for row in z]) for z in (unit, unit[::-1]))
    s, c, count = np.concatenate([one, other]) @ np.concatenate([one, other]).T * 2, 1 - mpf(prior), 2 * N - 2

    def row(i: int) -> mpf:
        e_n, weight, e_p = exp(rest(s, i)), exp(beta * rest(s, i)), mp.exp(s[i, other_view(i)])
        ng = max((count * (weight * e_n).sum() / weight.sum() - mpf(prior) * count * e_p) / c, count * mp.exp(-2))
        return -mp.log(e_p / (e_p + ng))

    assert close(value(asked), mean(map(row, range(2 * N))), "1e-15")  # 0.6 and 0.8 are rounded
    if beta == 0:
        assert agree(*(definition.evaluate(a) for a in (asked, as_loss(asked, "debiased", prior=prior)))) < CRITERION


def as_loss(asked: Problem, loss: str, **options: Any) -> Problem:
    """The same arrays asked of another loss."""
    return replace(asked, loss=loss, options=options)


def test_moco_is_hes() -> None:
    """Equation 1: −log(e^{q·k₊} / (e^{q·k₊} + Σ over the queue))."""
    x = dot("moco").arrays
    positive, queue = scaled(x["query"], x["positive_key"]), scaled(x["query"], x["queue"])
    rows = (cross_entropy(np.array([positive[i, i], *queue[i]]), 0) for i in range(N))
    assert close(value(dot("moco")), mean(rows))


def test_gte_is_one_softmax_over_four_blocks() -> None:
    """q_i→d_j for all j, then q_i→q_j, d_i→q_j and d_i→d_j for j ≠ i, each once."""
    x = dot("gte").arrays
    qd, qq, dd = (scaled(x[a], x[b]) for a, b in (("query", "document"), ("query", "query"), ("document", "document")))
    rows = (
        cross_entropy(np.array([*qd[i], *without(qq[i], i), *without(qd[:, i], i), *without(dd[i], i)]), i)
        for i in range(N)
    )
    assert close(value(dot("gte")), mean(rows))


@pytest.mark.parametrize("symmetric", [False, True])
def test_mil_nce_is_miechs(symmetric: bool) -> None:
    """−log(Σ_own e^s / (Σ_own + Σ_others)), the bag once; symmetric: half of it, and half with the other queries."""
    asked = dot("mil_nce", options={"symmetric": symmetric})
    e = exp(scaled(asked.arrays["query"], asked.arrays["positive_bags"].reshape(-1, D))).reshape(N, N, B)
    to_bags = [mp.log(e[i].sum() / e[i, i].sum()) for i in range(N)]
    to_queries = [mp.log(e[:, i].sum() / e[i, i].sum()) for i in range(N)]
    assert close(value(asked), mean(to_bags + to_queries if symmetric else to_bags))


def test_soft_nce_is_the_cross_entropy_with_the_targets() -> None:
    """−Σ_c t_c log softmax(s)_c, over the candidates that aren't masked."""
    mask = np.array([[True, True, True, False], [True] * 4, [True] * 4])
    asked = dot("soft_nce", candidate_mask=mask)
    s = scaled(asked.arrays["query"], asked.arrays["keys"])
    rows = (mp.fsum(t * cross_entropy(s[i][mask[i]], c) for c, t in enumerate(TARGETS[i][mask[i]])) for i in range(N))
    assert close(value(asked), mean(rows))


def test_sup_con_is_khoslas_and_feeneys() -> None:
    """Equations 2 and 3, and SINCERE's: over the anchors that have a positive."""
    x = dot("sup_con, out").arrays["features"]
    s, anchors = scaled(x, x), [0, 2, 3]

    def of(i: int) -> tuple[list[mpf], mpf, mpf]:
        negative = mp.fsum(mp.exp(s[i, a]) for a in (1, 4))
        return [s[i, p] for p in anchors if p != i], mp.fsum(mp.exp(s[i, a]) for a in range(5) if a != i), negative

    out = mean(mean(-mp.log(mp.exp(s_p) / total) for s_p in s_ps) for s_ps, total, _ in map(of, anchors))
    inside = mean(-mp.log(mean(mp.exp(s_p) / total for s_p in s_ps)) for s_ps, total, _ in map(of, anchors))
    sincere = mean(mean(-mp.log(mp.exp(p) / (mp.exp(p) + n)) for p in s_ps) for s_ps, _, n in map(of, anchors))
    assert close(value(dot("sup_con, out")), out)
    assert close(value(dot("sup_con, out", options={"variant": "in"})), inside)
    assert close(value(dot("sup_con, out", options={"variant": "sincere"})), sincere)


def test_siglip_is_zhais() -> None:
    """−(1/N) Σ_i Σ_j log(1 / (1 + e^{z_ij (−s_ij − b)})), z = 1 on the diagonal and −1 elsewhere."""
    asked = dot("siglip", bias=-1.5)
    s = scaled(asked.arrays["image"], asked.arrays["text"])
    z = 2 * np.eye(N, dtype=int) - 1
    published = -log(1 / (1 + exp(z * (-s - mpf(asked.bias))))).sum() / N
    assert close(value(asked), published)


def test_triplet_is_schroffs() -> None:
    """On unit rows, half of ‖a − p‖² − ‖a − n‖² + 2m, cut off below 0: the mean over the negatives."""
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    x = {"query": rows, "positive_key": rows[[1, 1, 2]], "negative_keys": rows[[2, 0]]}
    asked = problem("triplet", 1.0, **x, margin=0.25, in_batch_negatives=False)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(((a - b) ** 2).sum())

    published = np.mean(
        [
            [max(0.0, distance(q, p) - distance(q, n) + 0.5) / 2 for n in x["negative_keys"]]
            for q, p in zip(x["query"], x["positive_key"], strict=True)
        ]
    )
    assert close(value(asked), mpf(published))


def test_n_pair_is_sohns() -> None:
    """log(1 + Σ_{j≠i} e^{q_i·k_j − q_i·k_i})."""
    x = dot("n_pair").arrays
    s = scaled(x["query"], x["positive_key"], 1.0)
    assert close(value(dot("n_pair")), mean(mp.log(1 + exp(without(s[i], i) - s[i, i]).sum()) for i in range(N)))


def test_logit_bias_is_added_after_the_temperature() -> None:
    """Cross-entropy of s_ic + b_c: a candidate's entry also where it is the positive."""
    asked = dot("info_nce, logit_bias, shared")
    x = asked.arrays
    s = np.concatenate([scaled(x["query"], x["positive_key"]), scaled(x["query"], x["negative_keys"])], axis=1)
    s = s + np.vectorize(mpf, otypes=[object])(x["logit_bias"])
    assert close(value(asked), mean(cross_entropy(s[i], i) for i in range(N)))


def test_a_positive_that_is_no_column_has_no_logit_bias() -> None:
    """Out of the batch the positive's entry is 0: a constant added to all of b isn't nothing."""
    asked = dot("info_nce, logit_bias, own")
    x = asked.arrays
    own = np.array([scaled(x["query"][i : i + 1], x["negative_keys"][i])[0] for i in range(N)])
    own, positive = own + np.vectorize(mpf, otypes=[object])(x["logit_bias"]), scaled(x["query"], x["positive_key"])
    assert close(value(asked), mean(cross_entropy(np.array([positive[i, i], *own[i]]), 0) for i in range(N)))


def test_logits_are_divided_by_the_temperature_alone() -> None:
    """info_nce_from_logits: cross-entropy of logits / τ with the positive at its index; the worked example's digits."""
    asked = draw("info_nce_from_logits, index", 0, plain=True)
    s = scaled(asked.arrays["logits"], np.eye(K))
    assert close(value(asked), mean(cross_entropy(s[i], p) for i, p in enumerate(asked.arrays["positive_index"])))
    example = np.array([[mpf("0.9"), mpf("0.6"), mpf("0.3"), mpf("0.1")]])
    answer = definition.evaluate(problem("info_nce_from_logits", mpf("0.1"), logits=example), digits=60)
    assert abs(answer.loss.item() - mpf("0.0512645129871811759694703")) < mpf("1e-25")
    assert abs(answer.grad["temperature"].item() - mpf("1.58576112204365")) < mpf("1e-14")


@pytest.mark.parametrize("case", [case for case, (loss, _) in CASES.items() if "margin" in LOSSES[loss].scalars])
def test_margin_is_taken_from_the_positives_before_the_scale(case: str) -> None:
    """The logits with margin m are those without, the positives' lower by m/τ, all others the same."""
    one, other = draw(case, 0, margin=0.0), draw(case, 0, margin=0.25)
    entries = losses.LOSSES[one.loss].entries(one)
    plain, lowered = (definition.similarity.read(asked, entries) for asked in (one, other))
    for row in (row for entry in entries for row in entry):
        count = len(row.positive)
        (_, s), (_, t) = definition.logits(plain, row), definition.logits(lowered, row)
        assert close(t[:count], s[:count] - mpf("0.25") / mpf(one.temperature)) and close(t[count:], s[count:])


# --- exact facts -----------------------------------------------------------------------------------


def identical(case: str, **settings: Any) -> Problem:
    """All rows the same, no margin: (1, 0, 0)."""
    asked = draw(case, 0, plain=True, margin=0.0, **settings)
    rows = {name: np.zeros_like(a) for name, a in asked.arrays.items() if name in sides(asked)}
    for array in rows.values():
        array[..., 0] = 1.0
    return replace(asked, arrays={**asked.arrays, **rows})


LOGS = {
    "info_nce_from_logits": K,
    "clip": N,
    "clip, own negatives": None,  # N + M one way, N the other
    "nt_xent": 2 * N - 1,
    "dcl": 2 * N - 2,
    "dcl, sigma": 2 * N - 2,
    "debiased": 2 * N - 1,
    "hard_negative": 2 * N - 1,
    "moco": 1 + K,
    "gte": 4 * N - 3,
    "mil_nce": mpf(N * B) / B,
    "mil_nce, symmetric": N,
    "sup_con, out": 4,
    "sup_con, in": 4,
    "sup_con, sincere": 3,  # a positive and the two rows of other labels
    "sup_con, keys": 4,
    "soft_nce": K,
    "n_pair": N,
}


@pytest.mark.parametrize("case", LOGS)
def test_identical_rows_give_the_log_of_the_number_of_candidates(case: str) -> None:
    """All rows the same: log C; with cosine every gradient by a row is exactly 0."""
    settings: dict[str, Any] = {"logits": np.ones((N, K))} if case == "info_nce_from_logits" else {}
    if case == "sup_con, keys":
        settings = {"labels": np.zeros(5, dtype=int), "key_labels": np.zeros(K, dtype=int)}
    answer = definition.evaluate(identical(case, **settings))
    expected = (mp.log(N + M) + mp.log(N)) / 2 if LOGS[case] is None else mp.log(LOGS[case])
    assert close(answer.loss.item(), expected)
    assert case in ("n_pair", "info_nce_from_logits") or all(
        is_zero(answer.grad[name]) for name in sides(identical(case, **settings))
    )


def test_identical_rows_in_siglip_and_triplet() -> None:
    """softplus(−(s + b)) + (N − 1) softplus(s + b), and the margin."""
    s = mpf(2) - mpf("1.5")
    expected = mp.log(1 + mp.exp(-s)) + (N - 1) * mp.log(1 + mp.exp(s))
    assert close(value(identical("siglip")), expected)
    asked = replace(identical("triplet"), margin=0.25)
    assert value(asked) == 0.25
    assert definition.evaluate(asked).grad["margin"].item() == 1


@pytest.mark.parametrize("case", ["clip", "nt_xent", "debiased", "hard_negative", "gte", "mil_nce", "n_pair"])
def test_one_pair_has_loss_0_and_gradient_0(case: str) -> None:
    """N = 1 without negatives."""
    loss, given = CASES[case]
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(1, *shape[1:])) for name, shape in SHAPES[loss].items()}
    answer = definition.evaluate(problem(loss, **{**arrays, **given}))
    assert answer.loss.item() == 0 and all(is_zero(g) for g in answer.grad.values())


def test_one_pair_in_siglip_is_its_own_term() -> None:
    """softplus(−(s + b)): −1.5 of bias against a logit of 2."""
    asked = problem("siglip", image=[[3.0, 0.0]], text=[[1.0, 0.0]], bias=-1.5)
    assert close(value(asked), mp.log(1 + mp.exp(mpf("-0.5"))))


NOT_NEGATIVE = [case for case in CASES if not case.startswith("dcl")]


@pytest.mark.parametrize("case", NOT_NEGATIVE)
def test_losses_are_not_negative(case: str) -> None:
    """Every row of every loss but dcl's."""
    asked = draw(case, 3, reduction="none", plain=True)
    assert all(x >= 0 for x in definition.evaluate(asked).loss)


def rows_are_one_array(loss: str) -> bool:
    """Whether both sides of the similarity are drawn from the same rows."""
    return loss in ("nt_xent", "dcl", "debiased", "hard_negative", "gte", "sup_con")


EULER = [case for case, (loss, _) in CASES.items() if loss not in ("siglip", "triplet", "n_pair")]


@pytest.mark.parametrize("case", [c for c in EULER if "logit_bias" not in c and "sigma" not in c and "logits" not in c])
def test_euler_identity(case: str) -> None:
    """Dot, no margin, no bias: Σ⟨∂z, z⟩ over all rows is −2τ ∂L/∂τ, half of it from each side where there are two."""
    asked = draw(case, 5, similarity="dot", margin=0.0) if "margin" in LOSSES[CASES[case][0]].scalars else dot(case)
    grad = definition.evaluate(asked).grad
    sums = {name: inner(grad[name], asked.arrays[name]) for name in sides(asked)}
    whole = -mpf(asked.temperature) * grad["temperature"].item()
    assert close(mp.fsum(sums.values()), 2 * whole)
    if not rows_are_one_array(asked.loss) and asked.loss != "clip":
        first = next(iter(sums))
        assert close(sums[first], whole)


def test_euler_identity_of_given_logits() -> None:
    """Σ ⟨∂logits, logits⟩ = −τ ∂L/∂τ."""
    asked = draw("info_nce_from_logits", 5, margin=0.0)
    grad = definition.evaluate(asked).grad
    assert close(inner(grad["logits"], asked.arrays["logits"]), -grad["temperature"].item() / 2)


@every_case
def test_cosine_gradients_are_perpendicular_to_their_rows(case: str) -> None:
    """Scaling a row changes no cosine: ⟨∂L/∂x, x⟩ = 0 for every row of every embedding."""
    asked = draw(case, 6)
    if asked.similarity != "cosine" or not sides(asked):
        return
    grad = definition.evaluate(asked).grad
    for name in sides(asked):
        rows = zip(*(a.reshape(-1, D) for a in (grad[name], asked.arrays[name])), strict=True)
        assert all(abs(inner(g, x)) < mpf("1e-42") for g, x in rows)


@pytest.mark.parametrize("case", ["info_nce, logit_bias", "moco", "soft_nce", "mil_nce", "n_pair", "sup_con, keys"])
def test_key_gradients_of_a_one_sided_dot_loss_sum_to_zero(case: str) -> None:
    """Adding one vector to all keys moves all logits of a row alike."""
    asked = draw(case, 7, similarity="dot")
    grad = definition.evaluate(asked).grad
    total = np.concatenate([grad[name].reshape(-1, D) for name in sides(asked)[1:]]).sum(axis=0)
    assert close(total, [mpf(0)] * D)


@pytest.mark.parametrize("case", ["info_nce, logit_bias", "info_nce, logit_bias, shared"])
def test_logit_bias_gradients_sum_to_zero(case: str) -> None:
    """In the batch every candidate has its entry: a constant added to all of them changes nothing."""
    assert close(definition.evaluate(draw(case, 8)).grad["logit_bias"].sum(), mpf(0))


@every_case
def test_sum_is_count_times_mean(case: str) -> None:
    """Count being that of the anchors that have what the loss needs; none has the gradients of sum."""
    asked = draw(case, 9)
    asked = replace(asked, arrays={name: a for name, a in asked.arrays.items() if name != "sample_weight"})
    none, total, average = (definition.evaluate(replace(asked, reduction=r)) for r in ("none", "sum", "mean"))
    loss = losses.LOSSES[asked.loss]
    count = sum(all(loss.counts(row) for row in entry) for entry in loss.entries(asked))
    assert none.loss.shape == (asked.rows,) and close(none.loss.sum(), total.loss.item())
    assert close(total.loss.item(), count * average.loss.item())
    assert all(close(none.grad[name], total.grad[name]) for name in total.grad)
    assert all(close(total.grad[name], count * average.grad[name]) for name in total.grad)


# --- identities ------------------------------------------------------------------------------------


def same(one: Problem, other: Problem, **names: str) -> bool:
    """Equal answers; `names` says what an argument of the first is called in the other."""
    first, second = definition.evaluate(one), definition.evaluate(other)
    kept = {name: g for name, g in first.grad.items() if names.get(name, name) in second.grad}
    matched = {name: second.grad[names.get(name, name)] for name in kept}
    return agree(replace(first, grad=kept), replace(second, grad=matched)) < CRITERION and len(kept) >= 2


def test_debiased_of_prior_0_is_nt_xent() -> None:
    """Without debiasing the mean of M negatives times M is their sum."""
    for seed in range(3):
        asked = draw("debiased", seed, options={"prior": 0.0})
        assert same(asked, as_loss(asked, "nt_xent"))


def test_prior_0_has_an_answer_with_dot_however_sharp() -> None:
    """Nothing is taken from the mean, so that it is positive, and NT-Xent's sum, also e^−1000 below the positive."""
    for seed in range(3):
        asked = draw("debiased", seed, similarity="dot", tau=2.0**-8, options={"prior": 0.0})
        assert same(asked, as_loss(asked, "nt_xent"))


def test_hard_negative_of_beta_0_is_debiased() -> None:
    """Without hardness all weights are the same, also where the floor holds."""
    for prior in (0.125, 0.75):
        asked = draw("hard_negative", 1, options={"prior": prior, "beta": 0.0})
        assert same(asked, as_loss(asked, "debiased", prior=prior))


def test_bags_of_one_are_positive_keys() -> None:
    """mil_nce with B = 1 is info_nce, whose mask is its first two axes; symmetric, it is clip."""
    asked = draw("mil_nce", 1, positive_bags=(N, 1, D), candidate_mask=np.ones((N, N, 1), dtype=bool), margin=0.0)
    asked.arrays["candidate_mask"][0, 2] = False
    x = {**asked.arrays, "positive_key": asked.arrays["positive_bags"][:, 0]}
    x["candidate_mask"] = x["candidate_mask"][..., 0]
    bags = x.pop("positive_bags")
    plain = replace(asked, loss="info_nce", arrays=x)
    assert same(asked, plain)
    keys = definition.evaluate(plain).grad["positive_key"]
    assert agree_arrays(definition.evaluate(asked).grad["positive_bags"][:, 0], keys) and bags.shape == (N, 1, D)
    both = replace(asked, loss="clip", arrays={**x, "image": x["query"], "text": x["positive_key"]})
    both = replace(both, arrays={n: a for n, a in both.arrays.items() if n in vars_of("clip")})
    assert same(replace(asked, options={"symmetric": True}), both, query="image")


def agree_arrays(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal to 1e-30 relative, entry by entry."""
    return one.shape == other.shape and all(
        abs(x - y) <= mpf(CRITERION) * abs(y) for x, y in zip(one.flat, other.flat, strict=True)
    )


def test_onehot_targets_are_a_positive_index() -> None:
    """soft_nce with one target of 1 in each row is info_nce over the keys."""
    index = np.array([2, 0, 2])
    asked = draw("soft_nce", 1, targets=np.eye(K)[index])
    arrays = {**asked.arrays, "positive_key": asked.arrays["keys"], "positive_index": index}
    other = replace(asked, loss="info_nce", arrays={n: a for n, a in arrays.items() if n in vars_of("info_nce")})
    assert same(asked, other, keys="positive_key")


@pytest.mark.parametrize("variant", ["out", "in", "sincere"])
def test_two_views_with_labels_of_their_own_are_nt_xent(variant: str) -> None:
    """One positive each: out, in and sincere are the same loss, NT-Xent's."""
    views = draw("nt_xent", 1)
    x = views.arrays
    rows = np.concatenate([x["view_a"], x["view_b"]])
    arrays = {**x, "features": rows, "labels": np.arange(2 * N) % N}
    arrays = {name: a for name, a in arrays.items() if name in vars_of("sup_con")}
    asked = replace(views, loss="sup_con", arrays=arrays, options={"variant": variant})
    assert same(asked, views)
    both = definition.evaluate(views).grad
    joined = np.concatenate([both["view_a"], both["view_b"]])
    assert agree_arrays(definition.evaluate(asked).grad["features"], joined)


def test_out_is_never_below_in() -> None:
    """Jensen: the mean of the logarithms is at most the logarithm of the mean; equal where each has one positive."""
    for seed in range(4):
        out, inside = (
            draw("sup_con, out", seed, plain=True, reduction="none", options={"variant": v}) for v in ("out", "in")
        )
        pairs = zip(definition.evaluate(out).loss, definition.evaluate(inside).loss, strict=True)
        assert all(x > y for i, (x, y) in enumerate(pairs) if i in (0, 2, 3))


def test_clip_is_symmetric() -> None:
    """Images and texts exchanged, negatives too, the mask transposed: the same loss, the gradients exchanged."""
    asked = draw("clip, shared negatives", 1)
    flip = {"image": "text", "text": "image", "negative_texts": "negative_images", "negative_images": "negative_texts"}
    arrays = {flip.get(name, name): a for name, a in asked.arrays.items()}
    arrays["candidate_mask"] = arrays["candidate_mask"].T
    assert same(asked, replace(asked, arrays=arrays), **flip)


def test_clip_is_half_of_each_direction() -> None:
    """Entry i is ½ (L_i(image→text) + L_i(text→image)), each an info_nce with its own explicit negatives."""
    asked = draw("clip, shared negatives", 1, plain=True, reduction="none")
    x = asked.arrays

    def direction(query: str, key: str, negatives: str) -> np.ndarray:
        given = {"query": x[query], "positive_key": x[key], "negative_keys": x[negatives]}
        return definition.evaluate(problem("info_nce", **given, reduction="none")).loss

    halves = direction("image", "text", "negative_texts") + direction("text", "image", "negative_images")
    assert close(definition.evaluate(asked).loss, halves / 2)


def test_moco_is_info_nce_against_the_queue() -> None:
    """in_batch_negatives=False, the queue as shared negatives."""
    asked = draw("moco", 1)
    arrays = {("negative_keys" if name == "queue" else name): a for name, a in asked.arrays.items()}
    other = replace(asked, loss="info_nce", arrays=arrays, in_batch_negatives=False)
    assert same(asked, other, queue="negative_keys")


def test_n_pair_is_info_nce_with_dot_and_temperature_1() -> None:
    """The same value and gradients, masks and weights included."""
    asked = draw("n_pair", 1)
    assert same(asked, replace(asked, loss="info_nce"))


def test_equal_logit_biases_in_the_batch_change_nothing() -> None:
    """A constant b cancels between the positive and the negatives, by the temperature too."""
    asked = draw("info_nce, logit_bias", 1, logit_bias=np.full(N, 3.25))
    plain = replace(asked, arrays={name: a for name, a in asked.arrays.items() if name != "logit_bias"})
    assert same(asked, plain)


def test_features_as_their_own_keys_count_themselves() -> None:
    """With keys given nothing is excluded: row i's own copy is a positive of it."""
    asked = draw("sup_con, out", 1, plain=True)
    x = asked.arrays
    keys = replace(asked, arrays={**x, "keys": x["features"], "key_labels": x["labels"]}, reduction="none")
    s = scaled_cosines(x["features"])
    expected = mean(cross_entropy(s[0], p) for p in (0, 2, 3))
    assert close(definition.evaluate(keys).loss[0], expected)


def scaled_cosines(rows: np.ndarray) -> np.ndarray:
    """All cosines over τ = ½."""
    exact = np.vectorize(mpf, otypes=[object])(rows)
    unit = exact / np.array([[mp.sqrt(mp.fsum(x * x for x in row))] for row in exact])
    return 2 * (unit @ unit.T)


# --- edges -----------------------------------------------------------------------------------------


def test_an_anchor_without_a_positive_does_not_count() -> None:
    """sup_con: 0 in "none", not in the mean, whatever its weight; its row's gradient comes from the others alone."""
    asked = draw("sup_con, keys", 1, plain=True, sample_weight=np.array([1.0, 0.5, 2.0, 1.0, 100.0]))
    none = definition.evaluate(replace(asked, reduction="none"))
    assert none.loss[4] == 0 and is_zero(none.grad["features"][4])
    assert close(value(asked), none.loss.sum() / mpf("4.5"))
    alone = replace(asked, arrays={**asked.arrays, "key_labels": np.full(K, 9)})
    answer = definition.evaluate(alone)
    assert answer.loss.item() == 0 and all(is_zero(g) for g in answer.grad.values())


@pytest.mark.parametrize("case", ["dcl", "dcl, sigma", "triplet"])
def test_an_anchor_without_a_negative_does_not_count(case: str) -> None:
    """dcl and triplet: 0 in "none", not in the mean, no gradient through it."""
    rows = 2 * N if case != "triplet" else N
    mask = np.ones((rows, rows), dtype=bool)
    mask[1] = False
    asked = draw(case, 1, plain=True, candidate_mask=mask, reduction="none")
    none = definition.evaluate(asked)
    assert none.loss[1] == 0 and all(x != 0 for i, x in enumerate(none.loss) if i != 1 and case != "triplet")
    assert close(value(replace(asked, reduction="mean")), none.loss.sum() / (rows - 1))
    nobody = replace(asked, arrays={**asked.arrays, "candidate_mask": mask & False})
    answer = definition.evaluate(nobody)
    assert is_zero(answer.loss) and all(is_zero(g) for g in answer.grad.values())


@pytest.mark.parametrize("case", ["nt_xent", "debiased", "gte", "sup_con, in", "sup_con, sincere", "mil_nce"])
def test_an_anchor_without_a_negative_counts_with_0(case: str) -> None:
    """Everything masked: softplus(−∞) = 0, in the mean too; L_in has its log |P| less the positives' own."""
    asked = draw(case, 1)
    mask = np.zeros_like(asked.arrays["candidate_mask"])
    answer = definition.evaluate(replace(asked, arrays={**asked.arrays, "candidate_mask": mask}, reduction="none"))
    expected = [mp.log(2) if case == "sup_con, in" and i in (0, 2, 3) else mpf(0) for i in range(asked.rows)]
    weight = [mpf(x) for x in asked.arrays["sample_weight"]]
    assert close(answer.loss, [w * x for w, x in zip(weight, expected, strict=True)])
    assert all(is_zero(g) for g in answer.grad.values())


def test_out_without_negatives_is_the_positives_own_cross_entropy() -> None:
    """π − s̄: not 0 where the positives differ, and with a gradient."""
    features = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    answer = definition.evaluate(problem("sup_con", 1.0, features=features, labels=[0, 0, 0], reduction="none"))
    assert close(answer.loss[0], mp.log(1 + mp.e) - mpf("0.5"))
    assert close(answer.loss[1], mp.log(2)) and not is_zero(answer.grad["features"])


@every_case
def test_zero_rows_have_gradient_0(case: str) -> None:
    """A zero row has cosine 0 with everything; its own gradient is 0, the others' aren't."""
    asked = draw(case, 2, plain=True)
    asked = replace(asked, margin=4.0 if asked.loss == "triplet" else 0.0)  # every negative is within the margin
    if asked.similarity != "cosine" or not sides(asked):
        return
    name = sides(asked)[0]
    zeroed = asked.arrays[name].copy()
    zeroed[0] = 0.0
    answer = definition.evaluate(replace(asked, arrays={**asked.arrays, name: zeroed}))
    assert is_zero(answer.grad[name][0]) and not is_zero(answer.grad[name][2])


def test_a_masked_candidate_may_hold_anything() -> None:
    """Masked for all and nobody's positive: NaN there is the same problem, and its gradient 0."""
    nan = np.full((1, D), np.nan)
    soft = draw("soft_nce", 1, plain=True)
    padded = {
        "keys": np.concatenate([soft.arrays["keys"], nan]),
        "targets": np.concatenate([TARGETS, np.zeros((N, 1))], axis=1),
        "candidate_mask": np.arange(K + 1) < np.full((N, 1), K),
    }
    one = definition.evaluate(soft)
    other = definition.evaluate(replace(soft, arrays={**soft.arrays, **padded}))
    assert is_zero(other.grad["keys"][K])
    assert agree(one, replace(other, grad={**other.grad, "keys": other.grad["keys"][:K]})) < CRITERION
    logits = draw("info_nce_from_logits", 1, plain=True)
    mask = np.arange(K) < np.full((N, 1), K - 1)
    spoilt = logits.arrays["logits"].copy()
    spoilt[:, K - 1] = np.inf
    answer = definition.evaluate(replace(logits, arrays={"logits": spoilt, "candidate_mask": mask}))
    plain = definition.evaluate(replace(logits, arrays={"logits": spoilt[:, : K - 1]}))
    assert answer.loss.item() == plain.loss.item() and is_zero(answer.grad["logits"][:, K - 1])


WITHOUT_EFFECT = {  # entries of the mask: those of the positives, and of a row with itself
    "clip": N,
    "nt_xent": 2 * 2 * N,
    "gte": 4 * N,
    "mil_nce": N * B,
    "mil_nce, symmetric": N * B,
    "sup_con, out": 6 + 5,
    "sup_con, keys": 2 * 3 + 1,
    "siglip": N,
    "triplet": N,
    "info_nce_from_logits": N,
}


@pytest.mark.parametrize("case", WITHOUT_EFFECT)
def test_masks_on_positives_are_ignored(case: str) -> None:
    """Every other entry takes out one negative, of each direction where there are two; none a positive."""
    asked = draw(case, 4)
    loss, mask = losses.LOSSES[asked.loss], np.ones_like(asked.arrays["candidate_mask"])

    def entries(with_mask: np.ndarray) -> list[candidates.Entry]:
        return loss.entries(replace(asked, arrays={**asked.arrays, "candidate_mask": with_mask}))

    def negatives(found: list[candidates.Entry]) -> int:
        return sum(len(row.negative) for entry in found for row in entry)

    full, ignored = entries(mask), 0
    for place in np.ndindex(mask.shape):
        holed = mask.copy()
        holed[place] = False
        found = entries(holed)
        assert [row.positive for e in found for row in e] == [row.positive for e in full for row in e]
        ignored += found == full
        assert found == full or negatives(full) - negatives(found) == len(full[0])
    assert ignored == WITHOUT_EFFECT[case]


def test_the_kink_has_slope_0() -> None:
    """A negative that equals the positive in direction, margin 0: irrational cosines, gradient 0 exactly."""
    query, key = [[1.0, 2.0, -3.0]], [[0.5, 1.0, 1.0]]
    asked = problem("triplet", 1.0, query=query, positive_key=key, negative_keys=3 * np.array(key))
    answer = definition.evaluate(asked)
    assert answer.loss.item() == 0 and all(is_zero(g) for g in answer.grad.values())
    moved_up = definition.evaluate(replace(asked, margin=2.0**-1074))
    assert moved_up.loss.item() == mpf(2) ** -1074 and moved_up.grad["margin"].item() == 1


def test_a_kink_at_a_margin_is_one() -> None:
    """cos = ½ against a positive of 1 and a margin of ½: neither √2 nor √3 leaves a trace."""
    query, key, negative = [[1.0, 1.0, 0.0]], [[3.0, 3.0, 0.0]], [[0.0, 1.0, 1.0]]
    asked = problem("triplet", 1.0, query=query, positive_key=key, negative_keys=negative, margin=0.5)
    answer = definition.evaluate(asked)
    assert answer.loss.item() == 0 and all(is_zero(g) for g in answer.grad.values())
    above = definition.evaluate(replace(asked, margin=0.5 + 2.0**-53))
    assert close(above.loss.item() * mpf(2) ** 53, mpf(1)) and not is_zero(above.grad["negative_keys"])


def test_a_tie_with_the_floor_takes_the_datas_side() -> None:
    """Two negatives, one opposite to the anchor and one beside its positive, prior ½: the bracket is e^{−1/τ}."""
    a, p = [1.0, 2.0, 2.0], [2.0, 1.0, 3.0]
    mask = np.zeros((4, 4), dtype=bool)
    mask[0] = True
    opposite, beside = [-3 * x for x in a], [2 * x for x in p]
    asked = problem("debiased", view_a=[a, opposite], view_b=[p, beside], candidate_mask=mask, options={"prior": 0.5})
    with mp.workdps(60):
        (term, *_) = terms_of(asked)
    s = mpf(10) / mp.sqrt(126) * 2
    odds = 2 * mp.exp(-2) / mp.exp(s)
    assert close(term.value, mp.log(1 + odds)) and term.by_floor == 0
    inside = mp.exp(s) / mp.exp(-2) / 2 / (mpf(1) / 2)  # of d log g by s_p, and of half of it by each negative
    share = odds / (1 + odds)
    assert close(term.by_positive, [share * (-inside - 1) / 1], "1e-30")
    assert not is_zero(definition.evaluate(asked).grad["view_b"][1])
    lower = terms_of(replace(asked, options={"prior": 0.5 + 2.0**-53}))[0]
    assert lower.by_floor > 0 and is_zero(lower.by_negative)


def test_a_bracket_that_is_not_positive_has_no_answer_without_a_floor() -> None:
    """dot: ValueError, as for a NaN; cosine: the floor."""
    rows = {"view_a": [[2.0, 0.0], [0.0, 2.0]], "view_b": [[1.0, 0.0], [0.0, 1.0]], "options": {"prior": 0.5}}
    with pytest.raises(ValueError, match="bracket"):
        definition.evaluate(problem("debiased", similarity="dot", **rows))
    assert all(term.by_floor > 0 for term in terms_of(problem("debiased", **rows)))


@pytest.mark.parametrize(
    ("targets", "mask"),
    [
        ([[1.25, -0.25]], [[True, True]]),
        ([[0.5, 0.5]], [[True, False]]),
        ([[0.5, 0.5 + 2.0**-49]], [[True, True]]),
        ([[np.nan, 0.5]], [[True, True]]),
    ],
    ids=["negative", "masked", "sum", "NaN"],
)
def test_targets_must_be_a_distribution(targets: Any, mask: Any) -> None:
    """≥ 0, 0 where masked, and 1 in sum but for rounding: 4 K u."""
    asked = problem("soft_nce", query=[[1.0]], keys=[[1.0], [2.0]], targets=targets, candidate_mask=mask)
    with pytest.raises(ValueError, match="targets"):
        definition.evaluate(asked)
    rounded = problem("soft_nce", query=[[1.0]], keys=[[1.0], [2.0]], targets=[[0.5, 0.5 + 2.0**-51]])
    assert close(value(rounded), mp.log(2) * (1 + mpf(2) ** -51))


@pytest.mark.parametrize("spoilt", ["logits", "logit_bias", "bias", "keys", "positive_index"])
def test_what_matters_must_be_finite(spoilt: str) -> None:
    """NaN where it matters, or an index of no column, has no exact answer: ValueError."""
    cases = {
        "logits": "info_nce_from_logits",
        "logit_bias": "info_nce, logit_bias",
        "bias": "siglip",
        "keys": "sup_con, keys",
        "positive_index": "info_nce_from_logits, index",
    }
    asked = draw(cases[spoilt], 1, plain=True)
    if spoilt == "bias":
        asked = replace(asked, bias=float("nan"))
    else:
        array = asked.arrays[spoilt].copy()
        array.flat[0] = -1 if spoilt == "positive_index" else np.nan
        asked = replace(asked, arrays={**asked.arrays, spoilt: array})
    with pytest.raises(ValueError, match=spoilt):
        definition.evaluate(asked)


# --- digits ----------------------------------------------------------------------------------------


def assert_settled(asked: Problem) -> None:
    """Computed anew with 200 digits more: no entry moves in its first 44 digits, and what was 0 is."""
    answer = definition.evaluate(asked)
    more = (definition.solve(asked, answer.digits + d) for d in (200, 200 + definition.STEP))
    settled = definition.settle(*more)
    assert settled is not None and agree(answer, settled) < 1e-44


@every_case
@pytest.mark.parametrize("tau", [2.0**-4, 2.0**-9])
def test_every_digit_reported_survives_more_digits(case: str, tau: float) -> None:
    """Sharp problems of every loss: shares of 1e-10 to 1e-400, and what cancels to nothing."""
    assert_settled(draw(case, 1, tau=tau))


@pytest.mark.parametrize("case", [case for case, (loss, _) in CASES.items() if loss != "info_nce_from_logits"])
def test_shares_that_stand_alone_keep_their_digits(case: str) -> None:
    """Rows with hardly a coordinate in common: tiny shares aren't hidden behind large ones."""
    asked = draw(case, 2, plain=True)
    rng = np.random.default_rng(3)
    arrays = dict(asked.arrays)
    for name in sides(asked):
        arrays[name] = asked.arrays[name] * (rng.random(asked.arrays[name].shape) < 0.5)
    sharp = {"temperature": 2.0**-8} if "temperature" in asked.differentiable else {}
    assert_settled(replace(asked, arrays=arrays, similarity=asked.similarity, **sharp))


def test_dclw_weights_that_are_tiny_keep_their_digits() -> None:
    """Two pairs at σ = 2^-10: w of the better one is 2(1 − 1/(1 + e^{−819})), its positive's gradient that small."""
    view_a, view_b = np.eye(2, 6), np.zeros((2, 6))
    view_b[0, [0, 2]], view_b[1, 3:] = [4.0, 3.0], [1.0, 2.0, 2.0]
    asked = problem("dcl", view_a=view_a, view_b=view_b, options={"sigma": 2.0**-10})
    assert_settled(asked)
    with mp.workdps(1000):
        call = definition.similarity.read(asked, candidates.two_views(asked))
        w = losses.decoupled_weights(call)[0]
        expected = 2 * mp.exp(mpf("-0.8") * 1024) / (1 + mp.exp(mpf("-0.8") * 1024))
        assert w > 0 and abs(w / expected - 1) < mpf("1e-40")
    grad = definition.evaluate(asked).grad["view_a"][0]
    assert 0 < abs(grad[2]) < mpf("1e-300")


def test_products_of_shares_keep_their_digits() -> None:
    """A bag's worse element against far negatives: its gradient is a product of two shares."""
    bags = np.zeros((2, 2, 3))
    bags[0, 0, 0], bags[0, 1, 1], bags[1, :, 2] = 1.0, 1.0, 1.0
    query = np.array([[100.0, 0.0, -100.0], [0.0, 0.0, 0.0]])
    asked = problem("mil_nce", 1.0, query=query, positive_bags=bags, similarity="dot", reduction="none")
    grad = definition.evaluate(asked).grad["query"][0, 1]
    good, bad, far = (mp.exp(x) for x in (mpf(100), mpf(0), mpf(-100)))
    expected = -(2 * far / (good + bad + 2 * far)) * bad / (good + bad)
    assert abs(grad / expected - 1) < mpf("1e-40") and abs(grad) < mpf("1e-129")
    assert_settled(asked)


def test_a_tiny_loss_of_siglip_is_the_sum_of_its_terms() -> None:
    """Logits of 54 and −74, τ = 2^-6: the loss is log(1 + e^−54) + log(1 + e^−74)."""
    asked = problem("siglip", 2.0**-6, image=np.eye(2), text=2 * np.eye(2) - 1, bias=-10.0, similarity="dot")
    expected = mp.log1p(mp.exp(-54)) + mp.log1p(mp.exp(-74))
    assert abs(value(asked) / expected - 1) < mpf("1e-40")


def test_dcl_keeps_its_digits_where_it_crosses_0() -> None:
    """Logits one unit in the last place apart: ν − s_p of 1e-16 of its terms, and 0 exactly where they are equal."""
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, 1] = True
    rows = {"view_a": [[1.0], [0.5 + 2.0**-53]], "view_b": [[0.5], [3.0]], "candidate_mask": mask}
    asked = problem("dcl", 1.0, **rows, similarity="dot")
    assert abs(value(asked) * mpf(2) ** 53 - 1) < mpf("1e-44")
    assert value(problem("dcl", 1.0, **{**rows, "view_a": [[1.0], [0.5]]}, similarity="dot")) == 0


def test_a_bracket_near_the_floor_keeps_its_digits() -> None:
    """prior e^{s_p} within 1e-15 of e^A: the difference, and log1p(−e^c) of c ≈ −1e-15, lose nothing."""
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, 1] = True
    prior = float(mp.exp(mpf("-0.5")))
    prior = prior if mpf(prior) < mp.exp(mpf("-0.5")) else float(np.nextafter(prior, 0.0))
    rows = {"view_a": [[1.0], [0.5]], "view_b": [[1.0], [3.0]], "candidate_mask": mask}
    asked = problem("debiased", 1.0, **rows, similarity="dot", options={"prior": prior}, reduction="none")
    bracket = (mp.exp(mpf("0.5")) - mpf(prior) * mp.e) / (1 - mpf(prior))
    assert bracket < mpf("1e-15")
    with mp.workdps(100):
        expected = mp.log(1 + (mp.exp(mpf("0.5")) - mpf(prior) * mp.e) / (1 - mpf(prior)) / mp.e)
        assert abs(definition.evaluate(asked).loss[0] / expected - 1) < mpf("1e-44")
    assert_settled(asked)


# --- the two oracles -------------------------------------------------------------------------------


def similarities_of(case: str) -> tuple[str, ...]:
    """Those that the case's arrays allow."""
    loss, given = CASES[case]
    if "similarity" in given:
        return (given["similarity"],)
    return tuple(s for s in LOSSES[loss].similarities if s != "bilinear") or ("cosine",)


def drawn_with(case: str, seed: int, similarity: str, **settings: Any) -> Problem:
    """A random problem that has an answer: without a floor the prior is so small that every bracket is positive."""
    if similarity == "dot" and "prior" in CASES[case][1].get("options", {}):
        settings["options"] = {**CASES[case][1]["options"], "prior": 2.0**-20}
    return draw(case, seed, similarity=similarity, **settings)


@every_case
@pytest.mark.parametrize("seed", range(3))
def test_the_oracles_agree_on_random_problems(case: str, seed: int) -> None:
    """Every loss with its options, masks, weights, margin and reduction; each similarity: far beyond 1e-30."""
    for similarity in similarities_of(case):
        asked = drawn_with(case, seed, similarity)
        assert agree(definition.evaluate(asked), second.evaluate(asked)) < CRITERION


@every_case
def test_the_oracles_agree_on_sharp_problems(case: str) -> None:
    """τ = 2^-8, rows with hardly a coordinate in common: tiny shares, alone in their entries."""
    rng = np.random.default_rng(7)
    for similarity in similarities_of(case):
        asked = drawn_with(case, 4, similarity, tau=2.0**-8, plain=True)
        if similarity == "dot" and "prior" in asked.options:
            asked = replace(asked, temperature=0.5)
        sparse = {name: a * (rng.random(a.shape) < 0.5) for name, a in asked.arrays.items() if name in sides(asked)}
        asked = replace(asked, arrays={**asked.arrays, **sparse})
        assert agree(definition.evaluate(asked), second.evaluate(asked)) < CRITERION


@every_case
def test_the_oracles_agree_on_identical_rows(case: str) -> None:
    """Where every gradient by a row is 0, so are both answers."""
    asked = identical(case)
    assert agree(definition.evaluate(asked), second.evaluate(asked)) < CRITERION


# Rows of which many are parallel, opposite, equal or zero: large terms cancel exactly and leave tiny ones or nothing.
FEW = np.array([[1.0, 0, 0], [-1, 0, 0], [0.5, 1, 0], [0, 0, 0], [1, 0, 0], [-2, 0, 0], [0, 3, 0], [0.5, 1, 0.25]])


@every_case
@pytest.mark.parametrize("tau", [0.5, 2.0**-6, 2.0**-8])
def test_the_oracles_agree_on_ties_and_cancellations(case: str, tau: float) -> None:
    """Margins that put hinges on the kink, cosines of −1 on the floor, zero rows: what is exactly 0 is 0 in both."""
    rng = np.random.default_rng(11)
    for similarity, margin in zip(("cosine", "dot", "cosine"), (0.0, 0.5, 1.0), strict=True):
        known = LOSSES[CASES[case][0]]
        settings: dict[str, Any] = {"tau": tau} if "temperature" in known.scalars else {}
        settings |= {"margin": margin} if "margin" in known.scalars else {}
        if similarity not in similarities_of(case):
            continue
        asked = drawn_with(case, 6, similarity, **settings)
        if similarity == "dot" and "prior" in asked.options:
            asked = replace(asked, options={**asked.options, "prior": 0.0})
        rows = {n: FEW[rng.integers(0, len(FEW), size=a.shape[:-1])] for n, a in asked.arrays.items() if is_rows(n)}
        asked = replace(asked, arrays={**asked.arrays, **rows})
        assert agree(definition.evaluate(asked), second.evaluate(asked)) < CRITERION


def is_rows(name: str) -> bool:
    return KINDS[name] == "embedding"


OPPOSITE = [[1.0], [-1.0]]  # both views: every negative is opposite to its anchor


@pytest.mark.parametrize(
    "impossible",
    [
        {"loss": "debiased", "view_a": OPPOSITE, "view_b": OPPOSITE, "options": {"prior": 0.5}},
        {"loss": "hard_negative", "view_a": OPPOSITE, "view_b": OPPOSITE, "options": {"prior": 0.5, "beta": 1.0}},
        {"loss": "soft_nce", "query": [[1.0]], "keys": [[1.0], [2.0]], "targets": [[0.5, 0.25]]},
        {"loss": "soft_nce", "query": [[1.0]], "keys": [[1.0], [2.0]], "targets": [[1.5, -0.5]]},
        {"loss": "info_nce", "query": [[1.0]], "positive_key": [[1.0]], "positive_index": [1]},
        {"loss": "info_nce_from_logits", "logits": [[1.0]], "positive_index": [-1]},
    ],
    ids=["bracket", "bracket, beta", "targets' sum", "negative target", "index", "column"],
)
def test_the_oracles_refuse_alike(impossible: dict[str, Any]) -> None:
    """A bracket below 0, targets that are no distribution, an index outside: where NaN is right, nothing is exact."""
    asked = problem(**impossible, similarity="dot")
    for evaluate in (definition.evaluate, second.evaluate):
        with pytest.raises(ValueError, match=r"prior|targets|positive_index|bracket"):
            evaluate(asked)


@every_case
def test_the_oracles_agree_where_nothing_is_a_negative(case: str) -> None:
    """All masked, a zero row among the rest."""
    asked = draw(case, 5, similarity=similarities_of(case)[0])
    arrays = {name: np.zeros_like(a) if name == "candidate_mask" else a for name, a in asked.arrays.items()}
    if asked.loss == "soft_nce":
        arrays["candidate_mask"] = asked.arrays["targets"] > 0
    for name in sides(asked)[:1]:
        arrays[name] = np.concatenate([np.zeros((1, D)), asked.arrays[name][1:]])
    asked = replace(asked, arrays=arrays)
    assert agree(definition.evaluate(asked), second.evaluate(asked)) < CRITERION


# --- what is wrong is seen -------------------------------------------------------------------------


def with_entries(loss: str, change: Callable[[candidates.Row], candidates.Row]) -> dict[str, losses.Loss]:
    """The table of losses with every row of one of them changed."""
    right = losses.LOSSES[loss]

    def wrong(asked: Problem) -> list[candidates.Entry]:
        return [tuple(change(row) for row in entry) for entry in right.entries(asked)]

    return {loss: right._replace(entries=wrong)}


def with_formula(loss: str, formula: formulas.Formula) -> dict[str, losses.Loss]:
    """The table of losses with another formula for one of them."""
    return {loss: losses.LOSSES[loss]._replace(formula=losses.plain(formula))}


def twice(row: candidates.Row) -> candidates.Row:
    return row._replace(negative=row.negative + row.positive)


def slope_at_the_kink(positive: np.ndarray, negative: np.ndarray) -> formulas.Term:
    """The subgradient 1 where the difference is 0."""
    slope = np.where(negative - positive[0] >= -formulas.rounding(4), mp.one / len(negative), mp.zero)
    return formulas.Term((slope * (negative - positive[0])).sum(), np.array([-slope.sum()]), slope)


everyone_counts = definition.reduction_weights

MISTAKES: dict[str, tuple[str, dict[str, Any], Any, str, Any]] = {
    "gte, the positive twice": ("gte", {}, definition, "LOSSES", with_entries("gte", twice)),
    "mil_nce, the bag twice": ("mil_nce", {}, definition, "LOSSES", with_entries("mil_nce", twice)),
    "dcl with the positive": ("dcl", {}, definition, "LOSSES", with_entries("dcl", twice)),
    "sincere for in": (
        "sup_con, in",
        {},
        definition,
        "LOSSES",
        with_formula("sup_con", formulas.sincere),
    ),
    "in less log |P|": ("sup_con, in", {}, definition, "LOSSES", with_formula("sup_con", formulas.bag)),
    "anchors without a positive count": (
        "sup_con, out",
        {"reduction": "mean"},
        definition,
        "reduction_weights",
        lambda asked, counted: everyone_counts(asked, [True] * len(counted)),
    ),
    "a floor of 0": (
        "debiased",
        {"options": {"prior": 0.875}},
        losses,
        "debiased_floor",
        lambda call: mpf(0),
    ),
    "sigma ignored": (
        "dcl, sigma",
        {},
        losses,
        "decoupled_weights",
        lambda call: definition.similarity.numbers([mp.one] * N),
    ),
    "a slope at the kink": (
        "triplet",
        {"positive_key": np.ones((N, D)), "margin": 0.0},
        definition,
        "LOSSES",
        with_formula("triplet", slope_at_the_kink),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_caught(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these well-known readings in the first oracle leaves the criterion, by far."""
    case, settings, module, name, wrong = MISTAKES[mistake]
    asked = draw(case, 1, **settings)
    right = second.evaluate(asked)
    assert agree(definition.evaluate(asked), right) < CRITERION
    monkeypatch.setattr(module, name, wrong)
    assert agree(definition.evaluate(asked), right) > 1e3 * CRITERION
