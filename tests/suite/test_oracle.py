"""The oracles: right by the exact facts and by differences, equal to each other, and their comparison can fail."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from infonce_ref.conformance.oracle import Answer, agree, definition, second
from infonce_ref.conformance.oracle.definition import candidates, similarity
from infonce_ref.conformance.problem import Problem

CRITERION = 1e-30
READINGS = ("in-batch", "shared", "own", "in-batch+shared", "in-batch+own")
SIMILARITIES = ("cosine", "dot", "bilinear")


@pytest.fixture(autouse=True)
def _sixty_digits() -> Iterator[None]:
    """The tests' own arithmetic on answers is exact enough to be compared to 1e-40."""
    with mp.workdps(60):
        yield


def problem(query: Any, positive_key: Any, *, tau: Any = 0.1, dtype: str = "float64", **options: Any) -> Problem:
    """A problem from nested lists or arrays; options that are arrays go where arrays are."""
    names = ("negative_keys", "bilinear_weight", "sample_weight", "candidate_mask", "positive_index")
    given = {
        "query": query,
        "positive_key": positive_key,
        **{n: options.pop(n) for n in names if n in options},
    }
    return Problem(dtype, {name: np.asarray(a) for name, a in given.items()}, tau, **options)


def random_problem(seed: int, similarity: str, reading: str, *, rows: int = 3, plain: bool = False) -> Problem:
    """A small problem in which every option is drawn: index, mask, weights, margin, reduction, temperature, dtype."""
    rng = np.random.default_rng([seed, SIMILARITIES.index(similarity), READINGS.index(reading)])
    dtype = str(rng.choice(["float32", "float64"]))

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(dtype).astype(np.float64)

    width, key_width, negatives = 3, 2 if similarity == "bilinear" else 3, 2
    keys = rows if plain else int(rng.integers(rows, rows + 2))
    options: dict[str, Any] = {"similarity": similarity, "in_batch_negatives": "in-batch" in reading}
    if "shared" in reading or "own" in reading:
        options["negative_keys"] = normal(*([rows] if "own" in reading else []), negatives, key_width)
    if similarity == "bilinear":
        options["bilinear_weight"] = normal(width, key_width)
    if keys != rows or (not plain and rng.random() < 0.5):
        options["positive_index"] = rng.integers(0, keys, size=rows)
    if not plain:
        columns = keys * ("in-batch" in reading) + negatives * ("negative_keys" in options)
        options["candidate_mask"] = rng.random((rows, columns)) < 0.75
        options["margin"] = float(np.float32(rng.choice([0.0, 0.2])))
        options["reduction"] = str(rng.choice(["mean", "sum", "none"]))
        options["sample_weight"] = rng.integers(0, 4, size=rows) / 2.0
    tau = float(np.float32(rng.choice([0.07, 1.0, 3.0])))
    return problem(normal(rows, width), normal(keys, key_width), tau=tau, dtype=dtype, **options)


def inner(a: np.ndarray, b: np.ndarray) -> mpf:
    """⟨a, b⟩ over all entries, of exact numbers."""
    return mp.fsum(x * mp.mpf(y) for x, y in zip(a.flat, b.flat, strict=True))


def is_zero(array: np.ndarray) -> bool:
    return all(x == 0 for x in array.flat)


def every_combination(function: Callable[..., None]) -> Callable[..., None]:
    """Every similarity with every reading of explicit negatives."""
    by_reading = pytest.mark.parametrize("reading", READINGS)
    return pytest.mark.parametrize("similarity", SIMILARITIES)(by_reading(function))


both_oracles = pytest.mark.parametrize("evaluate", [definition.evaluate, second.evaluate], ids=["first", "second"])


# --- the worked example ----------------------------------------------------------------------------

COSINES = ("0.9", "0.6", "0.3", "0.1")


def test_worked_example_has_the_published_loss_and_temperature_gradient() -> None:
    """Cosines 0.9, 0.6, 0.3, 0.1 at temperature 0.1 give 0.05126451… and ∂L/∂τ = 1.58576112204365."""
    rows = np.array([[mpf(c), mp.sqrt(1 - mpf(c) ** 2)] for c in COSINES], dtype=object)
    asked = problem(
        [[1.0, 0.0]],
        rows[:1],
        tau=mpf("0.1"),
        negative_keys=rows[1:],
        in_batch_negatives=False,
        similarity="cosine",
    )
    answer = definition.evaluate(asked, digits=60)
    gaps = [mpf(c) - mpf("0.9") for c in COSINES[1:]]
    terms = [mp.exp(gap / mpf("0.1")) for gap in gaps]
    assert abs(answer.loss.item() - mp.log(1 + sum(terms))) < mpf("1e-50")
    assert abs(answer.loss.item() - mpf("0.0512645129871811759694703")) < mpf("1e-25")
    slope = -sum(t * gap for t, gap in zip(terms, gaps, strict=True)) / mpf("0.01") / (1 + sum(terms))
    assert abs(answer.grad["temperature"].item() - slope) < mpf("1e-50")
    assert abs(answer.grad["temperature"].item() - mpf("1.58576112204365")) < mpf("1e-14")


@both_oracles
def test_worked_example_in_float64_is_off_by_the_rounding_of_its_inputs(
    evaluate: Callable[..., Answer],
) -> None:
    """The same numbers as float64 similarities: the loss moves by the inputs' rounding, no more."""
    keys = [[float(c)] for c in COSINES]
    asked = problem([[1.0]], keys[:1], negative_keys=keys[1:], in_batch_negatives=False, similarity="dot")
    assert float(evaluate(asked).loss.item()) == pytest.approx(0.0512645129871811759694703, rel=1e-14)


# --- exact facts -----------------------------------------------------------------------------------


@both_oracles
@pytest.mark.parametrize("reading", READINGS)
def test_identical_rows_give_the_log_of_the_number_of_candidates(reading: str, evaluate: Callable[..., Answer]) -> None:
    """All rows identical: log C, and every gradient by a row is exactly 0."""
    row, count, negatives = np.array([0.3, -1.7]), 3, 4
    options: dict[str, Any] = {"in_batch_negatives": "in-batch" in reading}
    if reading != "in-batch":
        options["negative_keys"] = np.tile(row, (*([count] if "own" in reading else []), negatives, 1))
    answer = evaluate(problem(np.tile(row, (count, 1)), np.tile(row, (count, 1)), **options))
    candidates = (count if "in-batch" in reading else 1) + (negatives if reading != "in-batch" else 0)
    assert abs(mpf(str(answer.loss.item())) - mp.log(candidates)) < mpf("1e-44")
    assert all(is_zero(answer.grad[name]) for name in answer.grad if name != "margin")


@both_oracles
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_query_without_negatives_has_loss_0_and_gradient_0(similarity: str, evaluate: Callable[..., Answer]) -> None:
    """N = 1 in the batch, or a row whose candidates are all masked: 0, and it counts in the mean."""
    weight = {"bilinear_weight": [[1.0, 2.0], [0.5, -1.0]]} if similarity == "bilinear" else {}
    alone = evaluate(problem([[1.0, 2.0]], [[0.5, -3.0]], similarity=similarity, **weight))
    assert alone.loss.item() == 0
    assert all(is_zero(g) for g in alone.grad.values())
    rows = [[1.0, 2.0], [0.5, -3.0]]
    masked = problem(rows, rows, similarity=similarity, candidate_mask=[[True, False], [True, True]], **weight)
    entries = evaluate(replace(masked, reduction="none"))
    assert entries.loss[0] == 0 and is_zero(entries.grad["query"][0])
    assert float(evaluate(masked).loss.item()) == float(entries.loss[1]) / 2


@both_oracles
def test_no_explicit_negatives_is_an_empty_set(evaluate: Callable[..., Answer]) -> None:
    """M = 0 negative keys change nothing."""
    rows = np.array([[1.0, 2.0], [0.5, -3.0]])
    plain = evaluate(problem(rows, rows))
    for shape in ((0, 2), (2, 0, 2)):
        answer = evaluate(problem(rows, rows, negative_keys=np.zeros(shape)))
        assert answer.grad["negative_keys"].shape == shape
        kept = {name: g for name, g in answer.grad.items() if name != "negative_keys"}
        assert agree(plain, replace(answer, grad=kept)) < CRITERION


@pytest.mark.parametrize("reading", READINGS)
def test_cosine_gradients_are_perpendicular_to_their_rows(reading: str) -> None:
    """Scaling a row changes no cosine: ⟨∂L/∂x, x⟩ = 0 for every row of every argument."""
    asked = random_problem(1, "cosine", reading)
    answer = definition.evaluate(asked)
    for name in ("query", "positive_key", "negative_keys"):
        if name in asked.arrays:
            rows, grad = (a.reshape(-1, a.shape[-1]) for a in (asked.arrays[name], answer.grad[name]))
            assert all(abs(inner(g, x)) < mpf("1e-44") for g, x in zip(grad, rows, strict=True))


@every_combination
def test_euler_identity(similarity: str, reading: str) -> None:
    """Dot and bilinear: Σ⟨∂q, q⟩ = Σ⟨∂k, k⟩ + Σ⟨∂n, n⟩ = ⟨∂W, W⟩ = −τ ∂L/∂τ; cosine: all are 0."""
    asked = random_problem(2, similarity, reading, plain=True)
    grad = definition.evaluate(asked).grad
    sums = {name: inner(grad[name], asked.arrays[name]) for name in grad if name in asked.arrays}
    whole = mpf(0) if similarity == "cosine" else -mpf(asked.temperature) * grad["temperature"].item()
    assert abs(sums["query"] - whole) < mpf("1e-42")
    assert abs(sums["positive_key"] + sums.get("negative_keys", 0) - whole) < mpf("1e-42")
    assert similarity != "bilinear" or abs(sums["bilinear_weight"] - whole) < mpf("1e-42")


@pytest.mark.parametrize("reading", READINGS)
def test_key_gradients_of_a_dot_loss_sum_to_zero(reading: str) -> None:
    """Dot: adding one vector to all keys changes nothing, so their gradients sum to 0."""
    grad = definition.evaluate(random_problem(3, "dot", reading)).grad
    rows = [grad[name].reshape(-1, 3) for name in ("positive_key", "negative_keys") if name in grad]
    assert all(abs(x) < mpf("1e-42") for x in np.concatenate(rows).sum(axis=0))


@both_oracles
def test_a_zero_row_has_cosine_0_and_gradient_0(evaluate: Callable[..., Answer]) -> None:
    """A zero query's logits are all 0, a zero key's too: log C for the first, and neither has a gradient."""
    query = [[0.0, 0.0], [1.0, 0.5], [-1.0, 2.0]]
    keys = [[1.0, 3.0], [2.0, -1.0], [0.0, 0.0]]
    answer = evaluate(problem(query, keys, reduction="none"))
    assert abs(mpf(str(answer.loss[0])) - mp.log(3)) < mpf("1e-44")
    assert is_zero(answer.grad["query"][0]) and is_zero(answer.grad["positive_key"][2])
    assert not is_zero(answer.grad["query"][1]) and not is_zero(answer.grad["positive_key"][0])


@both_oracles
def test_reductions_and_weights(evaluate: Callable[..., Answer]) -> None:
    """none is w_i L_i, sum adds it up, mean divides by Σ w; none has the gradients of sum; Σ w = 0 gives 0."""
    query, keys, weight = [[1.0, 0.5], [-1.0, 2.0]], [[0.5, 1.0], [2.0, -1.0]], [0.5, 3.0]
    plain = evaluate(problem(query, keys, reduction="none", tau=1.0))
    none, total, mean = (
        evaluate(problem(query, keys, reduction=r, tau=1.0, sample_weight=weight)) for r in ("none", "sum", "mean")
    )
    expected = [float(x) * w for x, w in zip(plain.loss, weight, strict=True)]
    assert [float(x) for x in none.loss] == pytest.approx(expected, rel=1e-15)
    assert float(total.loss.item()) == pytest.approx(sum(expected), rel=1e-15)
    assert float(mean.loss.item()) == pytest.approx(sum(expected) / 3.5, rel=1e-15)
    assert agree(replace(none, loss=total.loss), total) < CRITERION
    ratio = total.grad["temperature"].item() / mean.grad["temperature"].item()
    assert float(ratio) == 3.5
    nothing = evaluate(problem(query, keys, sample_weight=[0.0, 0.0]))
    assert nothing.loss.item() == 0 and all(is_zero(g) for g in nothing.grad.values())


# --- candidates ------------------------------------------------------------------------------------


@both_oracles
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_keys_that_nobody_uses_may_hold_anything(similarity: str, evaluate: Callable[..., Answer]) -> None:
    """NaN in a key masked for all and nobody's positive: the rest is as without it, its own gradient 0."""
    query, keys = [[1.0, 0.5], [-1.0, 2.0]], [[0.5, 1.0], [2.0, -1.0]]
    nan, index = [float("nan"), float("inf")], [0, 1]
    options = {"similarity": similarity, "positive_index": index}
    plain = evaluate(problem(query, keys, negative_keys=[[3.0, 1.0]], **options))
    mask = [[True, True, False, False, True]] * 2
    padded = evaluate(problem(query, [*keys, nan], negative_keys=[nan, [3.0, 1.0]], candidate_mask=mask, **options))
    assert is_zero(padded.grad["positive_key"][2]) and is_zero(padded.grad["negative_keys"][0])
    kept = {
        "positive_key": padded.grad["positive_key"][:2],
        "negative_keys": padded.grad["negative_keys"][1:],
    }
    assert agree(plain, replace(padded, grad={**padded.grad, **kept})) < CRITERION


@both_oracles
def test_masked_own_negatives_may_hold_anything(evaluate: Callable[..., Answer]) -> None:
    """An own negative has one user: masked for it, it may be NaN, and its gradient is 0."""
    query, keys = [[1.0, 0.5], [-1.0, 2.0]], [[0.5, 1.0], [2.0, -1.0]]
    own = [[[3.0, 1.0], [float("nan"), 0.0]], [[float("inf"), 0.0], [1.0, 1.0]]]
    mask = [[True, False], [False, True]]
    answer = evaluate(problem(query, keys, negative_keys=own, candidate_mask=mask, in_batch_negatives=False))
    alone = [[[3.0, 1.0]], [[1.0, 1.0]]]
    plain = evaluate(problem(query, keys, negative_keys=alone, in_batch_negatives=False))
    assert answer.loss.item() == plain.loss.item()
    assert is_zero(answer.grad["negative_keys"][0, 1]) and is_zero(answer.grad["negative_keys"][1, 0])


@both_oracles
def test_mask_entries_on_the_positive_are_ignored(evaluate: Callable[..., Answer]) -> None:
    """A positive is never a negative and never removed, whatever the mask says of it."""
    query, keys, index = [[1.0, 0.5], [-1.0, 2.0]], [[0.5, 1.0], [2.0, -1.0], [1.0, 1.0]], [2, 0]
    said, unsaid = np.ones((2, 3), dtype=bool), np.ones((2, 3), dtype=bool)
    unsaid[[0, 1], index] = False
    one, other = (evaluate(problem(query, keys, positive_index=index, candidate_mask=m)) for m in (said, unsaid))
    assert agree(one, other) == 0


@both_oracles
def test_a_duplicate_of_the_positive_is_an_ordinary_negative(evaluate: Callable[..., Answer]) -> None:
    """The positive's row repeated among the negatives: log 2 where nothing else is there."""
    asked = problem([[1.0, 2.0]], [[0.5, 1.5]], negative_keys=[[0.5, 1.5]])
    assert abs(mpf(str(evaluate(asked).loss.item())) - mp.log(2)) < mpf("1e-44")


@both_oracles
@pytest.mark.parametrize(
    "spoilt",
    ["query", "positive_key", "negative_keys", "bilinear_weight", "sample_weight", "temperature", "margin"],
)
def test_what_matters_must_be_finite(spoilt: str, evaluate: Callable[..., Answer]) -> None:
    """NaN where it matters has no exact answer: ValueError."""
    asked = random_problem(4, "bilinear", "in-batch+shared", plain=True)
    asked = replace(asked, arrays={**asked.arrays, "sample_weight": np.ones(3)})
    if spoilt in asked.arrays:
        array = asked.arrays[spoilt].copy()
        array.flat[0] = np.nan
        asked = replace(asked, arrays={**asked.arrays, spoilt: array})
    else:
        asked = replace(asked, **{spoilt: float("nan")})
    with pytest.raises(ValueError, match=spoilt):
        evaluate(asked)


# --- gradients -------------------------------------------------------------------------------------


def difference_quotient(loss: Callable[[mpf], mpf], at: Any) -> mpf:
    """dL/dx by the six-point central difference: its error is of order h⁶ = 1e-120."""
    h, x = mpf("1e-20"), mpf(at)
    return sum(c * (loss(x + i * h) - loss(x - i * h)) for i, c in ((1, 45), (2, -9), (3, 1))) / (60 * h)


def moved(asked: Problem, name: str, place: tuple[int, ...], value: mpf) -> Problem:
    """The problem with one number replaced by one that no format need hold."""
    if name not in asked.arrays:
        return replace(asked, **{name: value})
    array = asked.arrays[name].astype(object)
    array[place] = value
    return replace(asked, arrays={**asked.arrays, name: array})


@every_combination
def test_gradients_are_the_limits_of_differences(similarity: str, reading: str) -> None:
    """Every gradient entry is the derivative of the loss (its sum, for "none") by that number, to 1e-30."""
    asked = random_problem(5, similarity, reading, rows=2)
    exact = definition.evaluate(asked)
    for name in asked.differentiable:
        for place in np.ndindex(exact.grad[name].shape):
            start = asked.arrays[name][place] if name in asked.arrays else getattr(asked, name)

            def loss(x: mpf, name: str = name, place: tuple[int, ...] = place) -> mpf:
                return mp.fsum(definition.solve(moved(asked, name, place, x), 150).loss.flat)

            with mp.workdps(150):
                slope = difference_quotient(loss, start)
                assert abs(slope - exact.grad[name][place]) <= mpf("1e-30") * abs(slope) + mpf("1e-90"), (
                    name,
                    place,
                )


# --- the two oracles -------------------------------------------------------------------------------


@every_combination
@pytest.mark.parametrize("seed", range(4))
def test_the_oracles_agree_on_random_problems(similarity: str, reading: str, seed: int) -> None:
    """Index, mask, weights, margin, reduction, temperature and dtype at random: equal far beyond 1e-30."""
    asked = random_problem(seed, similarity, reading)
    assert agree(definition.evaluate(asked), second.evaluate(asked)) < CRITERION


def aligned(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Queries far apart, keys close to them, float64."""
    rng = np.random.default_rng(seed)
    query = np.eye(3, 4) + rng.normal(size=(3, 4)) / 10
    return query, query + rng.normal(size=(3, 4)) / 50


@pytest.mark.parametrize("tau", [2.0**-5, 2.0**-8, 2.0**-10])
def test_the_oracles_agree_on_tiny_losses(tau: float) -> None:
    """Losses of 1e-10 to below 1e-300 and every gradient entry of them keep their digits, in both."""
    query, keys = aligned(0)
    asked = problem(query, keys, tau=tau, reduction="none")
    first = definition.evaluate(asked)
    assert all(0 < x < mpf(10) ** (-mpf("0.3") / tau) for x in first.loss)
    assert not any(is_zero(row) for row in first.grad["query"])
    assert agree(first, second.evaluate(asked)) < CRITERION


@both_oracles
def test_a_tiny_loss_is_its_first_term(evaluate: Callable[..., Answer]) -> None:
    """One negative on the far side at τ = 2^-10: L = log(1 + e^(−2/τ)), which is e^−2048 to 889 digits."""
    asked = problem([[1.0, 0.0]], [[2.0, 0.0]], negative_keys=[[-1.0, 0.0]], tau=2.0**-10)
    answer = evaluate(asked)
    assert abs(mpf(str(answer.loss.item())) / mp.exp(-2048) - 1) < mpf("1e-44")
    assert abs(mpf(str(answer.grad["temperature"].item())) / (mp.exp(-2048) * 2**21) - 1) < mpf("1e-44")


@pytest.mark.parametrize("scale", [5e-324, 2.0**-149, 1e-30, 1e30, 1e300])
def test_the_oracles_agree_on_extreme_norms(scale: float) -> None:
    """Subnormal, tiny and huge rows have ordinary cosines, and gradients of size 1/‖x‖."""
    query, keys = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[2.0, 1.0], [1.0, 4.0]])
    asked = problem(query * scale, keys, tau=0.07)
    first = definition.evaluate(asked)
    plain = definition.evaluate(problem(query, keys, tau=0.07))
    assert abs(first.loss.item() / plain.loss.item() - 1) < mpf("1e-14")
    assert agree(first, second.evaluate(asked)) < CRITERION


def test_the_oracles_agree_where_losses_are_below_anything() -> None:
    """Dot logits 5e8 apart: what is below 1e-1000 is 0 in both, and costs no more digits."""
    asked = problem(np.eye(2), np.eye(2) + 0.25, tau=2.0**-30, similarity="dot", margin=0.5)
    first = definition.evaluate(asked)
    assert first.loss.item() == 0 and first.digits < 2500
    assert agree(first, second.evaluate(asked)) == 0


def test_nearly_equal_rows_keep_their_digits() -> None:
    """Rows one unit in the last place apart: gradients that cancel to 1e-32 of their terms agree too."""
    row = np.array([1.0, 0.5, -0.75])
    near = np.array([row, np.nextafter(row, 2.0), row * (1 + 2.0**-50)])
    asked = problem(near, near[::-1].copy(), tau=2.0**-6)
    assert agree(definition.evaluate(asked), second.evaluate(asked)) < CRITERION


def test_every_digit_reported_survives_more_digits() -> None:
    """Computed anew with 200 digits more, no entry moves in its first 45 digits."""
    query, keys = aligned(2)
    asked = problem(query, keys, tau=2.0**-9)
    answer = definition.evaluate(asked)
    assert agree(answer, definition.solve(asked, answer.digits + 200)) < 1e-45


def test_the_callers_precision_is_left_alone() -> None:
    """Neither oracle changes the precision of mpmath or decimal for anyone else."""
    before = mp.prec, decimal.getcontext().prec
    asked = random_problem(0, "cosine", "in-batch")
    definition.evaluate(asked)
    second.evaluate(asked)
    assert (mp.prec, decimal.getcontext().prec) == before


# --- the comparison can fail -----------------------------------------------------------------------


def positive_among_negatives(asked: Problem) -> list[candidates.Entry]:
    """The positive counted twice in the denominator."""
    return [(row._replace(negative=row.negative + row.positive),) for (row,) in candidates.info_nce(asked)]


positive_twice = definition.LOSSES["info_nce"]._replace(entries=positive_among_negatives)


def no_projection(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The gradient by the unit row taken for that by the row."""
    return g / similarity.nonzero_norm(x)


def mean_over_rows(asked: Problem, counted: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """The weighted mean divided by N instead of Σ w."""
    weight = similarity.exact(asked.arrays["sample_weight"])
    return weight / len(weight), weight


def norm_with_an_eps(x: np.ndarray) -> np.ndarray:
    """An eps in the norm, far below double precision."""
    return similarity.sqrt((x * x).sum(axis=-1, keepdims=True) + mpf("1e-26"))


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (definition, "LOSSES", {"info_nce": positive_twice}),
        (similarity, "unit_pullback", no_projection),
        (definition, "reduction_weights", mean_over_rows),
        (similarity, "nonzero_norm", norm_with_an_eps),
    ],
)
def test_a_wrong_definition_is_caught(
    module: ModuleType, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these mistakes in the first oracle leaves the criterion, by far."""
    query, keys = aligned(4)
    asked = problem(query, keys, tau=0.5, sample_weight=[1.0, 2.0, 0.5])
    right = second.evaluate(asked)
    assert agree(definition.evaluate(asked), right) < CRITERION
    monkeypatch.setattr(module, name, wrong)
    assert agree(definition.evaluate(asked), right) > 1e3 * CRITERION


def perturbed(answer: Answer, name: str, place: tuple[int, ...], change: Callable[[mpf], Any]) -> Answer:
    array = answer.outputs()[name].copy()
    array[place] = change(array[place])
    return replace(answer, loss=array) if name == "loss" else replace(answer, grad={**answer.grad, name: array})


@pytest.mark.parametrize(
    ("change", "worst"),
    [
        (lambda x: x * (1 + mpf("1e-29")), 1e-29),
        (lambda x: -x, 2.0),
        (lambda x: mpf(0), 1.0),
        (lambda x: mp.nan, float("inf")),
    ],
    ids=["relative 1e-29", "sign", "zero", "NaN"],
)
@pytest.mark.parametrize(("name", "place"), [("loss", (0,)), ("query", (1, 2)), ("temperature", ())])
def test_agree_measures_a_change_of_one_entry(
    change: Callable[[mpf], Any], worst: float, name: str, place: tuple[int, ...]
) -> None:
    """One number wrong among all, however tiny, is the worst relative difference."""
    query, keys = aligned(6)
    answer = definition.evaluate(problem(query, keys, tau=2.0**-8, reduction="none"))
    assert agree(answer, perturbed(answer, name, place, change)) == pytest.approx(worst, rel=1e-6)


def test_agree_compares_names_and_shapes() -> None:
    """An answer that lacks a gradient, or has it in another shape, agrees with nothing."""
    answer = definition.evaluate(random_problem(0, "dot", "shared", plain=True))
    fewer = {name: g for name, g in answer.grad.items() if name != "margin"}
    assert agree(answer, replace(answer, grad=fewer)) == float("inf")
    assert agree(answer, replace(answer, loss=answer.loss.reshape(1))) == float("inf")
