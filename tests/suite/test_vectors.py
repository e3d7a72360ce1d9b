"""The stored vectors: well-formed, the same when made again, exact in every dtype, true to what is known by hand."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from mpmath import mp, mpf

from infonce_ref.conformance import generate
from infonce_ref.conformance.bounds import BoundTooLoose, bound
from infonce_ref.conformance.cases.case import Case, call, outputs
from infonce_ref.conformance.cases.draw import crowded, few
from infonce_ref.conformance.family import KINDS, LOSSES
from infonce_ref.conformance.oracle import Answer, agree, definition
from infonce_ref.conformance.problem import FORMATS, Problem

FOLDER = generate.VECTORS
SCHEMA = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
FILES = {
    f"{path.parent.name}/{path.stem}": json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(FOLDER.glob("*/*.json"))
}
VECTORS: dict[str, dict[str, Any]] = {
    vector["id"].split("#")[0]: vector for file in FILES.values() for vector in file["vectors"]
}
VALUED = {slug: vector for slug, vector in VECTORS.items() if vector["expect"] == "values"}
INFO_NCE = {slug: vector for slug, vector in VALUED.items() if vector["problem"]["loss"] == "info_nce"}
SMALL = "info_nce.benign.two"  # quick to solve


@pytest.fixture(autouse=True)
def _forty_five_digits() -> Iterator[None]:
    """Stored decimals have 40 digits; the tests' own arithmetic adds nothing to their error."""
    with mp.workdps(45):
        yield


def stored(vector: Mapping[str, Any], output: str) -> np.ndarray:
    """An expected output as mpf."""
    data = vector["expected"][output]
    return np.array([mpf(x) for x in data["values"]], dtype=object).reshape(data["shape"])


def loss_of(slug: str) -> Any:
    """The expected loss of a vector, a number or an array of them."""
    return stored(VECTORS[slug], "loss")[()]


def exactly(array: np.ndarray) -> np.ndarray:
    """Input numbers as mpf."""
    return np.frompyfunc(mpf, 1, 1)(array)


def along(slug: str, name: str) -> np.ndarray:
    """⟨∂L/∂x, x⟩ of every row x of an argument, and how large its terms are: (rows, 2)."""
    terms = exactly(np.nan_to_num(Problem.from_json(VALUED[slug]["problem"]).arrays[name])) * stored(VALUED[slug], name)
    rows = terms.reshape(-1, terms.shape[-1])
    return np.stack([rows.sum(axis=1), abs(rows).sum(axis=1)], axis=1)


def embeddings(vector: Mapping[str, Any]) -> list[str]:
    """The arguments of a vector whose rows are compared."""
    return [name for name in vector["problem"]["arrays"] if KINDS[name] == "embedding"]


def close(a: Any, b: Any, scale: Any = 1) -> bool:
    """Whether two numbers are equal to the 40 digits that are stored, of a sum whose terms are of size `scale`."""
    return bool(abs(a - b) <= mpf("1e-38") * max(abs(a), abs(b), scale))


# --- form ----------------------------------------------------------------------------------------------------------


def test_files_follow_the_schema() -> None:
    """Every file is valid, and the schema is one itself."""
    Draft202012Validator.check_schema(SCHEMA)
    for name, file in FILES.items():
        errors = [f"{e.json_path}: {e.message[:200]}" for e in Draft202012Validator(SCHEMA).iter_errors(file)]
        assert not errors, name


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("vectors", 0),
        ("vectors", 0, "problem"),
        ("vectors", 0, "problem", "arrays"),
        ("vectors", 0, "problem", "arrays", "query"),
        ("vectors", 0, "expected"),
        ("vectors", 0, "expected", "loss"),
        ("vectors", 0, "dtypes"),
        ("vectors", 0, "dtypes", "float32"),
        ("vectors", 0, "dtypes", "float32", "bound"),
    ],
)
def test_an_unknown_key_is_rejected(path: tuple[str | int, ...]) -> None:
    """A key that the schema doesn't name makes the file invalid, wherever it stands."""
    file = json.loads(json.dumps(FILES["info_nce/benign"]))
    place = file
    for step in path:
        place = place[step]
    assert Draft202012Validator(SCHEMA).is_valid(file)
    place["surprise"] = {}
    assert not Draft202012Validator(SCHEMA).is_valid(file)


@pytest.mark.parametrize(
    ("slug", "change"),
    [
        (SMALL, {"expect": "refused"}),
        (SMALL, {"expect": "nonfinite"}),
        (SMALL, {"profile": "else"}),
        (SMALL, {"expected": {"loss": {"shape": [], "values": ["0.1"]}}}),
        (SMALL, {"dtypes": {"float32": {}}}),
        (SMALL, {"id": "info_nce.benign.two"}),
        ("info_nce.errors.shape.empty", {"expect": "values"}),
        ("info_nce.errors.similarity.unknown", {"expect": "nonfinite", "nonfinite": {"loss": [0]}}),
    ],
)
def test_a_wrong_vector_is_rejected(slug: str, change: dict[str, Any]) -> None:
    """The schema ties what a vector holds to what it expects."""
    file = {"edition": "1", "loss": "info_nce", "class": "any", "vectors": [{**VECTORS[slug], **change}]}
    assert not Draft202012Validator(SCHEMA).is_valid(file)


def test_all_files_together_are_small() -> None:
    """3 MB at most, so that they travel with the package."""
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.json")) <= 3_000_000


def test_ids_are_hashes_of_the_problem() -> None:
    """An id is a slug and eight digits of the problem's SHA-256; none occurs twice, nor does a slug."""
    ids = [vector["id"] for file in FILES.values() for vector in file["vectors"]]
    assert len(set(ids)) == len(ids) == len(VECTORS)
    for slug, vector in VECTORS.items():
        canonical = json.dumps(vector["problem"], sort_keys=True, separators=(",", ":"))
        assert vector["id"] == f"{slug}#{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"


def test_no_problem_is_asked_twice() -> None:
    """Each vector asks something else."""
    problems = [json.dumps(vector["problem"], sort_keys=True) for vector in VECTORS.values()]
    assert len(set(problems)) == len(problems)


def test_every_class_is_there() -> None:
    """The classes of input on which implementations differ, each with a vector at least."""
    of_info_nce = {
        "benign", "sharp", "wide", "aligned", "collapsed", "anti-aligned", "norms", "duplicates", "many",
        "negatives", "masks", "positive-index",
        "dot", "bilinear", "margin", "logit-bias", "reductions", "sample-weight", "half", "example",
        "single", "extreme-norms", "zero-rows", "nonfinite", "errors",
    }  # fmt: skip
    of_all = {"benign", "collapsed", "reductions", "edges", "nonfinite", "half", "errors"}
    for loss in LOSSES:
        found = {name.split("/")[1] for name in FILES if name.startswith(f"{loss}/")}
        assert found >= (of_info_nce if loss == "info_nce" else of_all), loss
    for name, file in FILES.items():
        assert f"{file['loss']}/{file['class']}" == name
        assert all(vector["id"].startswith(f"{file['loss']}.{file['class']}.") for vector in file["vectors"])
        assert {vector["problem"]["loss"] for vector in file["vectors"]} == {file["loss"]}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_takes_its_own_arguments_only(loss: str) -> None:
    """The schema refuses an array that the loss doesn't take, and misses one that it must have."""
    file = json.loads(json.dumps(FILES[f"{loss}/benign"]))
    arrays = file["vectors"][0]["problem"]["arrays"]
    stranger = next(name for name in KINDS if name not in (*LOSSES[loss].arrays, *LOSSES[loss].optional))
    first = arrays[LOSSES[loss].arrays[0]]
    arrays[stranger] = first
    assert not Draft202012Validator(SCHEMA).is_valid(file)
    del arrays[stranger]
    assert Draft202012Validator(SCHEMA).is_valid(file)
    del arrays[LOSSES[loss].arrays[0]]
    assert not Draft202012Validator(SCHEMA).is_valid(file)


# --- inputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", [slug for slug, vector in VECTORS.items() if vector["expect"] != "refused"])
def test_every_dtype_holds_the_inputs(slug: str) -> None:
    """Inputs and temperature are exact numbers of each format that the vector is asked in."""
    problem = Problem.from_json(VECTORS[slug]["problem"])
    for dtype in VECTORS[slug]["dtypes"]:
        again = Problem.from_json(problem.in_dtype(dtype).to_json())
        assert (again.temperature, again.margin) == (problem.temperature, problem.margin)
        for name, array in problem.arrays.items():
            np.testing.assert_array_equal(again.arrays[name], array)


def test_a_number_that_a_dtype_lacks_is_noticed() -> None:
    """0.1 of float64 is no float32 number, and 2^17 no float16 number."""
    with pytest.raises(ValueError, match="not a float32 number"):
        Problem.from_json(VECTORS["info_nce.benign.float64"]["problem"]).in_dtype("float32").to_json()
    with pytest.raises(OverflowError):
        call({"query": np.array([[2.0**17]]), "positive_key": np.array([[1.0]])}, 0.5, "float16").to_json()


def test_core_spans_temperatures_and_norms() -> None:
    """Temperatures 2^-10 … 2^10 with 1e-3, 0.01, 0.07, 1000 as float32 has them; norms 1e-6 … 1e6."""
    problems = [Problem.from_json(v["problem"]) for v in INFO_NCE.values() if v["profile"] == "core"]
    temperatures = {p.temperature for p in problems}
    assert temperatures >= {2.0**-10, 2.0**10, *(float(np.float32(t)) for t in (1e-3, 0.01, 0.07, 1e3))}
    sides = [p.arrays[side] for p in problems for side in ("query", "positive_key")]
    norms = np.concatenate([np.linalg.norm(rows, axis=1) for rows in sides])
    for size in (1e-6, 1e-5, 1e-3, 1e3, 1e6):
        assert np.any((norms > size / 3) & (norms < size * 3))


def test_draws_have_few_bits_and_no_zero() -> None:
    """Few-bit numbers are k/64 with 0 < |k| < 128, both ends included, and a seed gives the same ones again."""
    counts = 64.0 * few(7, 100, 100)
    assert set(counts.ravel().tolist()) == {float(k) for k in range(-127, 128) if k}
    np.testing.assert_array_equal(64.0 * few(7, 100, 100), counts)


# --- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", VALUED)
def test_answers_are_complete(slug: str) -> None:
    """A vector with values has the loss and every gradient, each with a bound for each number in each dtype."""
    vector = VALUED[slug]
    shapes = outputs(Problem.from_json(vector["problem"]))
    assert {name: tuple(data["shape"]) for name, data in vector["expected"].items()} == shapes
    for levels in vector["dtypes"].values():
        for radii in levels.values():
            assert {name: len(r) for name, r in radii.items()} == {n: int(np.prod(s)) for n, s in shapes.items()}


@pytest.mark.parametrize("slug", [slug for slug, vector in VECTORS.items() if vector["expect"] == "nonfinite"])
def test_nonfinite_places_have_no_value(slug: str) -> None:
    """An entry of the loss either must not be finite or has a value and bounds, never both and never neither."""
    vector = VECTORS[slug]
    count = int(np.prod(outputs(Problem.from_json(vector["problem"]))["loss"]))
    values = vector["expected"].get("loss", {"values": [None] * count})["values"]
    assert [i for i in range(count) if values[i] is None] == vector["nonfinite"]["loss"]
    for levels in vector["dtypes"].values():
        radii = levels.get("bound", {}).get("loss", [None] * count)
        assert [r is None for r in radii] == [x is None for x in values]


def test_collapsed_rows_have_log_c() -> None:
    """[rows.softplus] Identical rows: log C, C the number of candidates, and no gradient but the margin's."""
    for kind, name, count in (
        ("collapsed", "warm", 5),
        ("collapsed", "sharp", 5),
        ("collapsed", "full-mantissa", 3),
        ("zero-rows", "all", 3),
    ):
        vector = VECTORS[f"info_nce.{kind}.{name}"]
        assert close(stored(vector, "loss")[()], mp.log(count))
        for output in ("query", "positive_key", "temperature"):
            assert set(vector["expected"][output]["values"]) == {"0"}
        tau = Problem.from_json(vector["problem"]).temperature
        assert close(stored(vector, "margin")[()], (1 - mpf(1) / count) / mpf(tau))
    assert close(loss_of("info_nce.collapsed.keys"), mp.log(4))


def test_no_negative_is_zero() -> None:
    """[candidates.none] Without a negative the loss and every gradient are exactly 0."""
    slugs = {slug for slug, vector in VALUED.items() if set(vector["expected"]["loss"]["values"]) == {"0"}}
    assert slugs >= {f"info_nce.single.alone{end}" for end in ("", ".none", ".sharp")}
    assert slugs >= {"info_nce.masks.nothing-left", "info_nce.single.empty-bank", "info_nce.positive-index.one-key"}
    for slug in slugs:
        assert {x for data in VALUED[slug]["expected"].values() for x in data["values"]} == {"0"}


def test_losses_are_not_negative() -> None:
    """softplus is above 0; only the one that leaves the positive out of the denominator may be negative, and is."""
    negative = {v["problem"]["loss"] for v in VALUED.values() if any(x < 0 for x in stored(v, "loss").flat)}
    assert negative == {"dcl"}


@pytest.mark.parametrize(
    ("loss", "count"),
    [
        ("clip", 3), ("nt_xent", 5), ("dcl", 4), ("debiased", 5), ("hard_negative", 5), ("moco", 4), ("gte", 9),
        ("mil_nce", 3), ("soft_nce", 4), ("sup_con", 5), ("n_pair", 3),
    ],
)  # fmt: skip
def test_identical_rows_count_the_candidates(loss: str, count: int) -> None:
    """The logarithm of the number that docs/spec/edges.md gives, and no gradient for any row."""
    (slug,) = (slug for slug in VALUED if slug.startswith(f"{loss}.collapsed."))
    assert close(loss_of(slug), mp.log(count))
    for name in embeddings(VALUED[slug]):
        assert set(VALUED[slug]["expected"][name]["values"]) == {"0"}


def test_prefixes_add_up() -> None:
    """[matryoshka.sum] Identical rows: log C for each dimension; all coordinates: info_nce; one twice: twice."""
    assert close(loss_of("matryoshka.collapsed.identical"), 2 * mp.log(3))
    whole = Problem.from_json(VECTORS["matryoshka.dims.all"]["problem"])
    plain = definition.evaluate(replace(whole, loss="info_nce", options={}))
    vector = VALUED["matryoshka.dims.all"]
    again = Answer(stored(vector, "loss"), {name: stored(vector, name) for name in plain.grad}, 45)
    assert agree(plain, again) < 1e-38
    both = [definition.evaluate(replace(whole, options={"dims": [d]})).loss[()] for d in (2, 4)]
    assert close(loss_of("matryoshka.dims.repeated"), 2 * both[0] + both[1])
    assert close(loss_of("matryoshka.dims.inner"), both[0] + both[1])


def test_a_coordinate_that_no_prefix_reaches_has_no_gradient() -> None:
    """[matryoshka.sum] Exactly 0 there, and the bound leaves no room for more than the smallest number."""
    vector = VALUED["matryoshka.dims.inner"]
    for name in ("query", "positive_key"):
        assert set(stored(vector, name)[:, 4:].ravel()) == {0}
        assert 0 not in set(stored(vector, name)[:, :4].ravel())
        for dtype in vector["dtypes"]:
            radii = np.array(vector["dtypes"][dtype]["bound"][name], dtype=float).reshape(-1, 6)
            assert radii[:, 4:].max() <= 2 * FORMATS[dtype].tiny


def test_identical_rows_beside_the_softmax() -> None:
    """Equal logits: log C; a sigmoid for every pair; the margin."""
    (logits,), (pairs,), (hinge,) = (
        [slug for slug in VALUED if slug.startswith(f"{loss}.collapsed.")]
        for loss in ("info_nce_from_logits", "siglip", "triplet")
    )
    assert close(loss_of(logits), mp.log(7))
    problem = Problem.from_json(VALUED[pairs]["problem"])
    z = 1 / mpf(problem.temperature) + mpf(problem.bias)
    assert close(loss_of(pairs), mp.log1p(mp.exp(-z)) + 2 * mp.log1p(mp.exp(z)), z)
    assert loss_of(hinge) == mpf(Problem.from_json(VALUED[hinge]["problem"]).margin)


@pytest.mark.parametrize("slug", [slug for slug, v in VALUED.items() if v["problem"]["similarity"] == "cosine"])
def test_cosine_gradients_stand_across_their_rows(slug: str) -> None:
    """[similarity.cosine.scale] Scaling a row changes nothing: ⟨∂L/∂x, x⟩ = 0 for every row."""
    for name in embeddings(VALUED[slug]):
        for total, scale in along(slug, name):
            assert close(total, 0, scale)


SCALED = {s: v for s, v in VALUED.items() if "temperature" in v["expected"] and "margin" not in v["problem"]}


@pytest.mark.parametrize("slug", [s for s, v in SCALED.items() if v["problem"]["similarity"] == "dot"])
def test_eulers_identity_over_all_rows(slug: str) -> None:
    """Dot, without a margin: every logit has two rows, so that Σ⟨∂L/∂x, x⟩ over all rows is −2τ ∂L/∂τ."""
    total, scale = sum(along(slug, name).sum(axis=0) for name in embeddings(SCALED[slug]))
    tau = mpf(Problem.from_json(SCALED[slug]["problem"]).temperature)
    assert close(total, -2 * tau * stored(SCALED[slug], "temperature")[()], scale)


@pytest.mark.parametrize("slug", [s for s in SCALED if s.startswith("info_nce_from_logits.")])
def test_eulers_identity_of_logits(slug: str) -> None:
    """Without a margin Σ x ∂L/∂x over all logits is −τ ∂L/∂τ."""
    total, scale = along(slug, "logits").sum(axis=0)
    tau = mpf(Problem.from_json(SCALED[slug]["problem"]).temperature)
    assert close(total, -tau * stored(SCALED[slug], "temperature")[()], scale)


@pytest.mark.parametrize("slug", [s for s, v in INFO_NCE.items() if v["problem"]["similarity"] != "cosine"])
def test_eulers_identity(slug: str) -> None:
    """Dot and bilinear, without a margin: Σ⟨∂q, q⟩ = Σ⟨∂k, k⟩ + Σ⟨∂n, n⟩ = ⟨∂W, W⟩ = −τ ∂L/∂τ."""
    vector = VALUED[slug]
    problem = Problem.from_json(vector["problem"])
    named = [name for name in problem.arrays if name in vector["expected"]]
    terms = {name: exactly(problem.arrays[name]) * stored(vector, name) for name in named}
    scale = max(abs(t).sum() for t in terms.values())
    keys = sum(terms[name].sum() for name in ("positive_key", "negative_keys") if name in terms)
    assert close(terms["query"].sum(), keys, scale)
    if "bilinear_weight" in terms:
        assert close(terms["query"].sum(), terms["bilinear_weight"].sum(), scale)
    if problem.margin == 0.0:
        assert close(terms["query"].sum(), -mpf(problem.temperature) * stored(vector, "temperature")[()], scale)


def test_sum_is_the_sum_of_none_and_mean_their_mean() -> None:
    """[reduction.sum] [reduction.none] [reduction.weight] The same pairs by every reduction."""
    assert close(loss_of("info_nce.reductions.sum"), loss_of("info_nce.reductions.none").sum())
    weighted = "info_nce.sample-weight"
    weight = exactly(Problem.from_json(VECTORS[f"{weighted}.mean"]["problem"]).arrays["sample_weight"])
    entries = loss_of(f"{weighted}.none")
    assert close(loss_of(f"{weighted}.sum"), entries.sum())
    assert close(loss_of(f"{weighted}.mean"), entries.sum() / weight.sum())
    assert {loss_of(f"{weighted}.zero.{reduction}") for reduction in ("mean", "sum")} == {0}


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "info_nce"])
def test_reductions_of_every_loss(loss: str) -> None:
    """[reduction.sum] [reduction.weight] The sum is that of "none"; the weighted mean, of the entries that count."""
    entries = loss_of(f"{loss}.reductions.none")
    assert close(loss_of(f"{loss}.reductions.sum"), entries.sum(), abs(entries).sum())
    problem = Problem.from_json(VECTORS[f"{loss}.reductions.weighted"]["problem"])
    weight, counts = exactly(problem.arrays["sample_weight"]), np.ones(len(entries), dtype=bool)
    if loss == "sup_con":
        labels = problem.arrays["labels"]
        counts = (labels[:, None] == labels).sum(axis=1) > 1
        assert not counts.all()
    mean = (weight * entries)[counts].sum() / weight[counts].sum()
    assert close(loss_of(f"{loss}.reductions.weighted"), mean, abs(entries).max())


def test_a_mask_that_keeps_everything_changes_nothing() -> None:
    """[candidates.mask] The stored loss is that of the same call without a mask."""
    kept = Problem.from_json(VECTORS["info_nce.masks.all-kept"]["problem"])
    arrays = {name: array for name, array in kept.arrays.items() if name != "candidate_mask"}
    plain = definition.evaluate(call(arrays, kept.temperature))
    assert close(loss_of("info_nce.masks.all-kept"), plain.loss[()])


@pytest.mark.parametrize("slug", [slug for slug in VALUED if ".unused" in slug])
def test_unused_keys_change_nothing(slug: str) -> None:
    """[candidates.mask.unused] The problem as it is asked, NaN and all, has the answer that its stand-in gave."""
    answer = definition.evaluate(Problem.from_json(VALUED[slug]["problem"]))
    again = Answer(stored(VALUED[slug], "loss"), {name: stored(VALUED[slug], name) for name in answer.grad}, 45)
    assert agree(answer, again) < 1e-38


def test_the_worked_example() -> None:
    """Similarities 0.9, 0.6, 0.3, 0.1 at temperature 0.1: p = 0.95002734…, L = 0.0512645…, ∂L/∂τ = 1.58576…

    The vectors hold the nearest binary numbers, so their answers differ from the decimals' by what those differ.
    """
    sims = [mpf(s) for s in ("0.9", "0.6", "0.3", "0.1")]
    shares = [mp.exp(s * 10) for s in sims]
    p = shares[0] / sum(shares)
    assert mp.nstr(p, 8) == "0.95002734"
    slope = sum(share * (sims[0] - s) for share, s in zip(shares, sims, strict=True)) / sum(shares) * 100
    for slug, nearness in (
        ("shared.float64", "1e-15"),
        ("index.float64", "1e-15"),
        ("cosine", "1e-15"),
        ("shared.float32", "1e-7"),
    ):
        vector = VECTORS[f"info_nce.example.{slug}"]
        assert abs(stored(vector, "loss")[()] + mp.log(p)) < mpf(nearness)
        assert abs(stored(vector, "temperature")[()] - slope) < 100 * mpf(nearness)
        assert "aren't binary numbers" in vector["note"]


# --- numbers as text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "text"),
    [("0", "0"), ("0.5", "5e-1"), ("-1234.5", "-1.2345e+3"), ("1e-330", "1e-330"), ("7e12", "7e+12")],
)
def test_decimals(number: str, text: str) -> None:
    """One digit before the point, no trailing zeros."""
    assert generate.decimal40(mpf(number)) == text


def test_decimals_have_forty_digits() -> None:
    """1/3 and 2/3 to 40 digits, rounded to the nearest."""
    with mp.workdps(80):
        assert generate.decimal40(mpf(1) / 3) == "3." + "3" * 39 + "e-1"
        assert generate.decimal40(mpf(2) / 3) == "6." + "6" * 38 + "7e-1"


@pytest.mark.parametrize(
    ("number", "text"), [("1.001e-7", "1.01e-7"), ("9.991", "1e+1"), ("2.5", "2.5e+0"), ("0", "0")]
)
def test_bounds_are_rounded_up(number: str, text: str) -> None:
    """Three digits, never below the bound itself."""
    assert generate.rounded_up(mpf(number)) == text


def test_written_bounds_hold_the_rules() -> None:
    """Stored bounds are at most 1 % above what the rules give and never below."""
    vector = VECTORS["info_nce.aligned.1e-7"]
    problem = Problem.from_json(vector["problem"])
    for dtype, levels in vector["dtypes"].items():
        for key, level in (("bound", "textbook"), ("precise", "precise")):
            radii = bound(problem.in_dtype(dtype), FORMATS[dtype], level)  # type: ignore[arg-type]
            for name, texts in levels[key].items():
                for text, radius in zip(texts, radii[name].flat, strict=True):
                    assert radius <= mpf(text) <= radius * mpf("1.01")


# --- regeneration --------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The stored files, to be spoilt."""
    return Path(shutil.copytree(FOLDER, tmp_path / "vectors"))


def edit(folder: Path, kind: str, old: str, new: str) -> None:
    """Replace the first `old` of a class's file."""
    path = folder / "info_nce" / f"{kind}.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_sample_regenerates_byte_for_byte(capsys: pytest.CaptureFixture[str]) -> None:
    """Some vectors solved again give the stored bytes, and every file has its cases' ids."""
    assert generate.main(["--check", "--sample", "12"]) == 0
    assert "12 vectors" in capsys.readouterr().out


def test_a_sample_is_always_the_same_and_reaches_many_classes() -> None:
    """Which vectors a sample holds depends on their names alone."""
    sample = generate.choose("*", 12)
    assert sample == generate.choose("*", 12) < generate.choose("*", 13)
    assert len({slug.split(".")[1] for slug in sample}) >= 5


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"values":["', '"values":["-'),
        ("normalisation missing", "normalization missing"),
        ('"float64":{"bound":{"loss":["', '"float64":{"bound":{"loss":["9'),
    ],
    ids=["sign", "note", "bound"],
)
def test_a_changed_vector_is_noticed(copy: Path, capsys: pytest.CaptureFixture[str], old: str, new: str) -> None:
    """A sign, a letter of a note, a digit of a bound; the others are as they were."""
    slug = "info_nce.benign.plain"
    edit(copy, "benign", old, new)
    assert generate.main(["--check", "--only", slug, "--folder", str(copy)]) == 1
    assert f"{slug}#" in capsys.readouterr().out
    assert generate.main(["--check", "--only", SMALL, "--folder", str(copy)]) == 0


def test_a_flipped_digit_is_noticed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last digit of an expected loss."""
    value = VECTORS[SMALL]["expected"]["loss"]["values"][0]
    digits, exponent = value.split("e")
    flipped = f"{digits[:-1]}{(int(digits[-1]) + 1) % 9 + 1}e{exponent}"
    assert flipped != value
    edit(copy, "benign", value, flipped)
    assert generate.main(["--check", "--only", SMALL, "--folder", str(copy)]) == 1
    assert f"{SMALL}#" in capsys.readouterr().out


def test_a_missing_an_extra_and_a_foreign_vector_are_noticed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files are compared with the cases even where nothing in them is solved again."""
    path = copy / "info_nce" / "benign.json"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([lines[0], *lines[2:]]), encoding="utf-8")
    (copy / "info_nce" / "sharp.json").write_text(
        (copy / "info_nce" / "wide.json").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (copy / "info_nce" / "foreign.json").write_text("{}", encoding="utf-8")
    assert generate.main(["--check", "--only", SMALL, "--folder", str(copy)]) == 1
    out = capsys.readouterr().out
    assert "info_nce/benign.json: info_nce.benign.plain#" in out
    assert "info_nce/sharp.json: info_nce.wide.0.07#" in out
    assert "info_nce/foreign.json: of no class" in out


def test_another_layout_is_noticed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with the right vectors and other bytes around them isn't the file."""
    edit(copy, "many", '"class":"many",', '"class": "many",')
    assert generate.main(["--check", "--only", SMALL, "--folder", str(copy)]) == 1
    assert "info_nce/many.json: another layout" in capsys.readouterr().out


def test_writing_some_keeps_the_others(copy: Path) -> None:
    """--only writes what matches and leaves every other byte; a vector that was spoilt is mended."""
    value = VECTORS[SMALL]["expected"]["loss"]["values"][0]
    edit(copy, "benign", value, "1e+0")
    assert generate.main(["--only", SMALL, "--folder", str(copy)]) == 0
    for path in FOLDER.rglob("*.json"):
        assert (copy / path.relative_to(FOLDER)).read_bytes() == path.read_bytes()


def test_a_pattern_that_matches_nothing_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and nothing is written."""
    assert generate.main(["--only", "info_nce.nothing.*"]) == 2
    assert "info_nce.nothing.*" in capsys.readouterr().err


def test_oracles_that_disagree_write_no_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second oracle that is off by 1e-29 stops the generator."""
    problem = call({"query": few(1, 2, 2), "positive_key": few(2, 2, 2)}, 0.5)
    case = Case("any", problem, "a note")

    def off(asked: Problem) -> Answer:
        answer = definition.evaluate(asked)
        return Answer(np.asarray(answer.loss * (1 + mpf("1e-29")), dtype=object), answer.grad, answer.digits)

    assert generate.vector("any", case)["expected"]["loss"]["shape"] == []
    monkeypatch.setattr(generate.second, "evaluate", off)
    with pytest.raises(generate.OraclesDisagree, match=r"any: the oracles differ by 1\.0e-29"):
        generate.vector("any", case)


def test_a_bound_that_says_nothing_writes_no_vector() -> None:
    """Where rounding spoils the logits altogether the generator names the vector and stops."""
    case = Case("any", call(crowded(1, 2, 3), 2.0**-20), "a note")
    with pytest.raises(BoundTooLoose, match="any in float32"):
        generate.vector("any", case)
