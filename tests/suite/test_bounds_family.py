"""The bounds of every loss: no correct implementation comes near them, every wrong one is beyond them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infonce_ref.conformance.bounds import BoundTooLoose, Level, bound
from infonce_ref.conformance.family import KINDS, LOSSES
from infonce_ref.conformance.oracle.definition import evaluate
from infonce_ref.conformance.problem import FORMATS, Problem

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    from tests.suite import adequacy_of_zoo, family_zoo
    from tests.suite.adequacy_of_bounds import worst
    from tests.suite.adequacy_of_family import AT_A_KINK, ratios

COMFORT = adequacy_of_zoo.COMFORT
SEEDS = 20  # of the correct zoo; adequacy_of_zoo.py runs more
SEED = 1


def test_zoo_has_every_loss() -> None:
    """Each loss of the family has textbook implementations."""
    assert set(family_zoo.FUNCTIONS) == set(LOSSES)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("part", adequacy_of_zoo.PARTS)
def test_no_correct_implementation_uses_half_of_its_bound(part: str, seed: int) -> None:
    """Every order of evaluation of every loss has r ≤ 0.5, class of input by class, at every level it promises."""
    for dtype in adequacy_of_zoo.DTYPES:
        found = dict(adequacy_of_zoo.ratios(part, seed, dtype))
        assert found["textbook"]
        assert max(r for each in found.values() for r in each.values()) <= adequacy_of_zoo.COMFORT, found


@pytest.mark.parametrize(("part", "seed"), [("n_pair", 247), ("info_nce_from_logits", 442)])
def test_what_the_long_mode_found_stays_found(part: str, seed: int) -> None:
    """A positive far below a key whose product is small, taken off first; a share of e^{d − lse}, lse rounded."""
    found = dict(adequacy_of_zoo.ratios(part, seed, "float64"))
    assert max(r for each in found.values() for r in each.values()) <= COMFORT, found


def test_the_record_shows_at_least_as_many_seeds_and_none_rejected() -> None:
    """The long mode's record: every loss, in both formats, with no r above 0.5."""
    record = adequacy_of_zoo.read(adequacy_of_zoo.RECORD)
    assert adequacy_of_zoo.seeds(record) >= 5 * SEEDS
    assert all(len(found["worst"]) >= 2 and found["results"] >= found["seeds"] for found in record.values())
    assert 0 < adequacy_of_zoo.worst(record) <= adequacy_of_zoo.COMFORT


def test_the_long_mode_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A run of two seeds, cut after the first, leaves the record of one that wasn't cut."""
    at, whole = tmp_path / "cut.json", tmp_path / "whole.json"

    def some(part: str, seed: int, dtype: str) -> Iterator[tuple[Level, dict[str, float]]]:
        yield "textbook", {"an order": (seed + len(part + dtype)) / 100}

    assert adequacy_of_zoo.main(["--seeds", "1", "--record", str(at)], some) == 0
    assert adequacy_of_zoo.main(["--seeds", "2", "--record", str(at)], some) == 0
    assert adequacy_of_zoo.main(["--seeds", "2", "--record", str(whole)], some) == 0
    assert at.read_text() == whole.read_text()
    assert json.loads(at.read_text())["siglip"]["worst"]["float64 textbook"][::3] == [0.14, 1]
    known = json.loads(at.read_text())
    del known["siglip"]
    at.write_text(json.dumps(known))  # as if it were new
    assert adequacy_of_zoo.main(["--seeds", "2", "--record", str(at)], some) == 0
    assert at.read_text() == whole.read_text()


def test_the_long_mode_fails_where_a_bound_is_too_tight(tmp_path: Path) -> None:
    """One order of one loss with r > 0.5, in one format of one seed: the command exits with 1."""

    def one_bad(part: str, seed: int, dtype: str) -> Iterator[tuple[Level, dict[str, float]]]:
        yield "textbook", {"good": 0.1, "bad": 0.51 if (part, seed, dtype) == ("dcl", 1, "float32") else 0.1}

    assert adequacy_of_zoo.main(["--seeds", "1", "--record", str(tmp_path / "one.json")], one_bad) == 0
    assert adequacy_of_zoo.main(["--seeds", "3", "--record", str(tmp_path / "three.json")], one_bad) == 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("loss", family_zoo.FUNCTIONS)
def test_half_formats_may_narrow_in_parts(loss: str, dtype: str) -> None:
    """In half formats, where some orders narrow a gradient in parts and again as a whole, r ≤ 1."""
    if loss == "info_nce":  # its bound counts one narrowing of the query: tests/suite/test_bounds.py has its orders
        return
    for kind, seed in (("benign", 0), ("margin", 0), ("extras-masks-margin-weights", SEED)):
        found = ratios(family_zoo.problem_of(loss, kind, seed, dtype), "textbook")
        assert max(found.values()) <= 1, found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", AT_A_KINK)
@pytest.mark.parametrize("loss", ["debiased", "hard_negative", "triplet"])
def test_either_branch_is_allowed_at_a_kink(loss: str, kind: str, dtype: str) -> None:
    """Where roundings decide which branch is taken, no order is rejected."""
    for seed in range(4):
        found = ratios(family_zoo.problem_of(loss, kind, seed, dtype), "textbook")
        assert max(found.values(), default=0) <= 1, found


@pytest.mark.parametrize("loss", ["debiased", "triplet"])
def test_orders_do_differ_at_a_kink(loss: str) -> None:
    """Some order takes the other branch than the exact answer: without the jump the bound would reject it."""
    used = [max(ratios(family_zoo.problem_of(loss, "kink", seed), "textbook").values()) for seed in range(6)]
    assert max(used) > COMFORT


def test_a_kink_met_exactly_is_asked_for() -> None:
    """A zero row's similarities are exactly 0: with margin 0 the slope must be 0, in every direction."""
    arrays = {"query": np.zeros((2, 3)), "positive_key": np.array([[1.0, 2.0, 3.0], [3.0, -1.0, 0.5]])}
    problem = Problem("float32", arrays, 1.0, loss="triplet")
    radii = bound(problem, FORMATS["float32"])
    assert max(float(np.max(radius)) for radius in radii.values()) <= 2 * FORMATS["float32"].tiny


def crowded(prior: float, similarity: str) -> Problem:
    """Two pairs of unit rows whose negatives' cosines are all 0.6, at temperature 1/16, the entries apart."""
    first = np.array([[1.0, 0.0], [0.6, 0.8]])
    arrays = {"view_a": first, "view_b": first}
    return Problem(
        "float64", arrays, 0.0625, loss="debiased", similarity=similarity, reduction="none", options={"prior": prior}
    )


EMPTYING = float(np.exp((0.6 - 1) / 0.0625))  # the prior at which the bracket is 0


def test_bracket_without_a_floor_must_be_safe() -> None:
    """With dot products there is no floor: a bracket that roundings may make negative has no bound."""
    bound(crowded(0.5 * EMPTYING, "dot"), FORMATS["float32"])
    with pytest.raises(BoundTooLoose, match="bracket"):
        bound(crowded((1 - 1e-6) * EMPTYING, "dot"), FORMATS["float32"])


@pytest.mark.parametrize("short", [1e-1, 1e-2, 1e-3, 1e-4])
def test_debiased_bound_grows_with_the_condition_number(short: float) -> None:
    """As the prior comes near the one that empties the bracket, the loss falls in proportion and its bound doesn't."""
    problem = crowded((1 - short) * EMPTYING, "cosine")
    relative = bound(problem, FORMATS["float64"])["loss"] / evaluate(problem).loss
    apart = crowded(0.0, "cosine")
    ratio = relative * short / (bound(apart, FORMATS["float64"])["loss"] / evaluate(apart).loss)
    assert np.all((ratio > 0.3) & (ratio < 3))


@pytest.mark.parametrize("loss", ["dcl", "debiased", "hard_negative", "siglip", "triplet"])
def test_not_every_loss_promises_relative_accuracy(loss: str) -> None:
    """The level `precise` is refused where a loss holds a true difference."""
    with pytest.raises(ValueError, match="promises no relative accuracy"):
        bound(family_zoo.problem_of(loss, "benign", 0), FORMATS["float32"], "precise")


@pytest.mark.parametrize("loss", ["info_nce", "clip", "nt_xent", "moco", "gte", "mil_nce", "n_pair", "matryoshka"])
def test_precise_bounds_are_relative(loss: str) -> None:
    """However small the loss, its precise bound in float32 is less than 1e-3 of it; the usual form's isn't."""
    problem = tiny(loss)
    exact = evaluate(problem).loss
    assert 0 < exact < 1e-9
    assert bound(problem, FORMATS["float32"], "precise")["loss"] < 1e-3 * exact
    assert bound(problem, FORMATS["float32"])["loss"] > exact


def tiny(loss: str) -> Problem:
    """Pairs along the axes: every pair's cosine is 1 or nearly, all others 0."""
    axes = np.eye(4) + 0.0078125 * np.arange(16).reshape(4, 4) % 5 / 4
    near = axes + 0.015625 * np.eye(4)[::-1]
    names = {"clip": ("image", "text"), "nt_xent": ("view_a", "view_b"), "gte": ("query", "document")}
    first, second = names.get(loss, ("query", "positive_bags" if loss == "mil_nce" else "positive_key"))
    other = np.stack([near, axes], axis=1) if loss == "mil_nce" else near
    arrays = {first: axes, second: other, **({"queue": -axes} if loss == "moco" else {})}
    if loss == "n_pair":
        arrays = {name: 8 * x for name, x in arrays.items()}
        return Problem("float32", arrays, 1.0, loss=loss, similarity="dot")
    options = {"dims": [4, 4], "weights": [0.5, 3.0]} if loss == "matryoshka" else {}
    return Problem("float32", arrays, 0.03125, loss=loss, options=options)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_one_dimension_has_the_bound_of_its_prefix(dtype: str) -> None:
    """matryoshka of one dimension with a weight of 1 has info_nce's bound of the prefix: nothing is lost in adding.

    Gradients have the other losses' allowance for a positive's that is minus the sum of the others: a few per cent.
    """
    nested = replace(family_zoo.problem_of("matryoshka", "extras-masks", SEED, dtype), options={"dims": [2]})
    cut = {name: x[..., :2] if KINDS[name] == "embedding" else x for name, x in nested.arrays.items()}
    wanted = bound(replace(nested, loss="info_nce", options={}, arrays=cut), FORMATS[dtype])
    for name, radius in bound(nested, FORMATS[dtype]).items():
        found = radius[..., :2] if KINDS.get(name) == "embedding" else radius
        ratio = found.astype(float) / wanted[name].astype(float)
        assert np.all((ratio > 1 - 1e-12) & (ratio < (1 + 1e-12 if name == "loss" else 1.25)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("loss", "name"), family_zoo.WRONG)
def test_every_wrong_implementation_is_beyond_its_bound(loss: str, name: str, dtype: str) -> None:
    """Each seeded mistake, computed in float64, has r > 1 on a problem of the class that shows it."""
    kind, run = family_zoo.WRONG[loss, name]
    assert caught(loss, kind, run, dtype)


@pytest.mark.parametrize("name", family_zoo.EVERYWHERE)
@pytest.mark.parametrize("loss", family_zoo.FUNCTIONS)
def test_wrong_factors_are_beyond_every_bound(loss: str, name: str) -> None:
    """A wrong factor, weight, similarity or temperature has r > 1 in float32 for every loss that has such a thing."""
    entry = LOSSES[loss]
    if (name.startswith("temperature") and "temperature" not in entry.gradients) or (
        name.startswith("other") and not entry.similarities
    ):
        return
    kind = "weights" if name.startswith("weights") else "benign"
    assert caught(loss, kind, family_zoo.EVERYWHERE[name], "float32")


def caught(loss: str, kind: str, run: family_zoo.Wrong, dtype: str) -> bool:
    """Whether one of three problems shows the mistake."""
    for seed in range(3):
        problem = family_zoo.problem_of(loss, kind, seed)
        exact, radii = evaluate(problem).outputs(), bound(problem, FORMATS[dtype])
        if worst(run(problem), exact, radii, dtype) > 1:
            return True
    return False


TINY = FORMATS["float32"].tiny


@pytest.mark.parametrize("variant", ["out", "in", "sincere"])
@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 1]])
def test_anchors_without_a_positive_must_be_exact(variant: str, labels: list[int]) -> None:
    """An anchor of sup_con that has no positive doesn't count: its entry is 0; if none counts all gradients are too."""
    features = family_zoo.problem_of("nt_xent", "benign", 0).arrays["view_a"][:3]
    arrays = {"features": features, "labels": np.array(labels)}
    problem = Problem("float32", arrays, 0.125, loss="sup_con", reduction="none", options={"variant": variant})
    radii = bound(problem, FORMATS["float32"])
    lonely = [labels.count(label) == 1 for label in labels]
    assert np.array_equal((radii["loss"] <= 2 * TINY).astype(bool), lonely)
    if all(lonely):
        assert max(float(np.max(radius)) for radius in radii.values()) <= 2 * TINY


@pytest.mark.parametrize("loss", ["dcl", "debiased", "hard_negative", "triplet", "clip", "gte", "nt_xent"])
def test_one_pair_alone_must_be_exact(loss: str) -> None:
    """Without a negative loss and gradients are 0, but where a maximum over excluded columns may be taken off."""
    radii = bound(family_zoo.problem_of(loss, "single", 0), FORMATS["float32"])
    exactly = loss not in ("gte", "nt_xent")
    assert (max(float(np.max(radius)) for radius in radii.values()) <= 2 * TINY) == exactly
    if not exactly:
        assert (
            max(
                float(np.max(x))
                for x in bound(family_zoo.problem_of(loss, "single", 0), FORMATS["float32"], "precise").values()
            )
            <= 2 * TINY
        )


@pytest.mark.parametrize("level", ["textbook", "precise"])
def test_what_no_pair_uses_may_hold_anything(level: Level) -> None:
    """A key or a logit masked for every query may be NaN; its gradient may be off by the smallest subnormal only."""
    for loss, name in (("soft_nce", "keys"), ("info_nce_from_logits", "logits")):
        problem = family_zoo.problem_of(loss, "benign", 0)
        array, mask = problem.arrays[name].copy(), np.ones(family_zoo.mask_shape(loss, problem.arrays), dtype=bool)
        unused = int(np.argmin(problem.arrays.get("targets", np.eye(*mask.shape)).sum(axis=0)))
        mask[:, unused] = False
        at = (unused,) if name == "keys" else (slice(None), unused)
        array[at] = np.nan
        arrays = {**problem.arrays, name: array, "candidate_mask": mask}
        if "targets" in arrays:
            arrays["targets"] = np.where(mask, arrays["targets"], 0.0)
            arrays["targets"][:, (unused + 1) % mask.shape[1]] += 1 - arrays["targets"].sum(axis=1)
        radii = bound(Problem("float32", arrays, 0.125, loss=loss), FORMATS["float32"], level)
        assert np.all(radii[name][at] <= 2 * TINY)
        assert all(np.all(radius < 1) for radius in radii.values())
