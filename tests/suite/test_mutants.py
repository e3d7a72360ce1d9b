"""The wrong implementations: their records, their run, and that the run can fail."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import infonce_ref
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.load import vector_questions
from infonce_ref.conformance.mutants import MUTANTS, Mutant, run
from infonce_ref.conformance.mutants.family.nested import Nested
from infonce_ref.conformance.mutants.family.textbook import TEXTBOOKS
from infonce_ref.conformance.mutants.record import FULL
from infonce_ref.conformance.mutants.run import Kill, Result
from infonce_ref.conformance.mutants.textbook import Steps, Textbook, as_function

PAGE = Path(__file__).parents[2] / run.PAGE
SAMPLE = ("gradient.last-writer", "mask.before-temperature", "precision.float32-inside", "rows.no-shift")
FAMILY_SAMPLE = (
    "clip.sum-of-directions", "dcl.two-logsumexps", "debiased.no-floor", "gte.positive-twice", "hard-negative.no-shift",
    "logits.index-wraps", "matryoshka.suffix", "mil-nce.directions-joined", "moco.enqueued-first", "n-pair.l2",
    "nt-xent.self-included",
    "siglip.mean-over-pairs", "soft-nce.relative-entropy", "sup-con.positive-rows", "triplet.kink-half",
)  # fmt: skip
BY_THE_BOOK: dict[str, type[Steps]] = {"info_nce": Textbook, "matryoshka": Nested, **TEXTBOOKS}


def right_one(name: str = "right", loss: str = "info_nce") -> Mutant:
    """A right implementation with the record of a wrong one."""
    function = as_function(BY_THE_BOOK[loss])
    return Mutant(name, function, "nothing goes wrong", loss=loss, classes=("value", "gradient"))


def named(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.id == name)


def result(mutant: Mutant, *kinds: str) -> Result:
    """A result with two kills of each kind in each full dtype."""
    return Result(mutant, tuple(Kill(f"{k}/{d}/{i}", "", d, k, 9.0) for k in kinds for d in FULL for i in range(2)))


# --- records ---------------------------------------------------------------------------------------------------------


def test_every_mutant_has_its_own_id_and_a_story() -> None:
    """No two share an id, and each says what goes wrong."""
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS) >= 80
    assert all(mutant.story.endswith(".") and len(mutant.story) > 20 for mutant in MUTANTS)


def test_every_mutant_has_a_name_that_fits_a_sentence() -> None:
    """A few words without a full stop, which no other mutant of the loss has."""
    assert len({(mutant.loss, mutant.means) for mutant in MUTANTS}) == len(MUTANTS)
    assert [mutant.id for mutant in MUTANTS if not 4 < len(mutant.means) <= 72 or mutant.means.endswith(".")] == []


def test_at_least_half_were_seen_in_public_code() -> None:
    """Invented mistakes are the lesser part; one that was seen in another loss isn't invented."""
    assert 2 * sum(bool(mutant.seen or mutant.elsewhere) for mutant in MUTANTS) >= len(MUTANTS)
    assert not [mutant.id for mutant in MUTANTS if mutant.seen and mutant.elsewhere]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_has_wrong_implementations_of_its_own(loss: str) -> None:
    """Five at least, and at least one that was seen in code of that loss."""
    own = [mutant for mutant in MUTANTS if mutant.loss == loss]
    assert len(own) >= 5
    assert any(mutant.seen for mutant in own)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_mutant_is_called_as_its_loss_is(loss: str) -> None:
    """The textbook's parameters are the public function's; only how rows are visited is the reference's own."""
    public = set(inspect.signature(getattr(infonce_ref, loss)).parameters) - {"block_size"}
    if loss == "matryoshka":  # made of info_nce, which has more
        public = {*LOSSES[loss].arrays, *LOSSES[loss].optional, *LOSSES[loss].scalars, "dims", "weights", "reduction"}
        public |= {"similarity", "in_batch_negatives"}
    function = next(mutant.function for mutant in MUTANTS if mutant.loss == loss)
    assert set(inspect.signature(function).parameters) == public


def test_a_mutant_answers_a_plain_call() -> None:
    """Arrays and keywords, in torch: twice the reference's loss."""
    a, b = torch.randn(2, 4, 3, dtype=torch.float64)
    assert float(named("nt-xent.twice").function(a, b, temperature=0.5)) == pytest.approx(
        2.0 * float(infonce_ref.nt_xent(a, b, temperature=0.5))
    )


def test_a_record_of_an_unknown_class_is_refused() -> None:
    """Classes are those that checks have."""
    with pytest.raises(ValueError, match="classes must be some of"):
        replace(right_one(), classes=("values",))


# --- the run can fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_what_the_mutants_are_made_from_is_right(loss: str) -> None:
    """Unchanged, the textbook steps pass every check on every vector: what kills a mutant is its bug."""
    assert run.examine(right_one(loss=loss)).kills == ()


def test_a_right_implementation_listed_as_wrong_survives(capsys: pytest.CaptureFixture[str]) -> None:
    """The run names it and its exit code isn't 0."""
    assert run.main([], mutants=[right_one("a-copy")]) == 1
    assert "a-copy survives in float64\na-copy survives in float32\n" in capsys.readouterr().out


def test_a_mutant_that_is_caught_leaves_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    """The same run of a wrong implementation finds no fault."""
    assert run.main([], mutants=[named("temperature.multiplied")]) == 0
    assert "1 mutants ran, 0 faults" in capsys.readouterr().out


def test_two_processes_find_what_one_finds() -> None:
    """The same kills, in the mutants' order."""
    mutants = [named("siglip.mean-over-pairs"), named("n-pair.l2")]
    with run.answers_of(mutants, 2) as answers:
        assert run.run(mutants, answers=answers) == run.run(mutants)


def test_a_mutant_that_cannot_be_asked_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer ran than are registered."""
    assert run.main([], mutants=[replace(right_one(), function=lambda x: x)]) == 1
    assert "0 of 1 registered mutants ran" in capsys.readouterr().out


def test_a_pattern_that_matches_nothing_is_a_usage_error() -> None:
    """Nothing ran, which is no success."""
    assert run.main(["--only", "no-such-mutant"]) == 2


@pytest.mark.parametrize(
    ("mutant", "kinds", "fault"),
    [
        (right_one(), ("value",), "isn't caught by gradient"),
        (replace(right_one(), classes=("value",)), ("value",), "by value alone, and its record gives no reason"),
        (replace(right_one(), single="why"), ("value", "gradient"), "says that only one class can"),
        (replace(right_one(), wrong_in=("float64",)), ("value", "gradient"), "is caught in float32"),
    ],
)
def test_a_record_that_is_not_what_is_found_is_a_fault(mutant: Mutant, kinds: Sequence[str], fault: str) -> None:
    """A class that doesn't catch it, a single class without a reason, a reason too many, a dtype too many."""
    assert [f for f in result(mutant, *kinds).faults() if fault in f]


def test_two_classes_are_asked_for_in_each_dtype() -> None:
    """Value in float32 and gradients in float64 aren't two checks of different classes in either."""
    every = result(right_one(), "value", "gradient").kills
    kills = [kill for kill in every if (kill.kind == "value") == (kill.dtype == "float32")]
    faults = list(Result(right_one(), tuple(kills)).faults())
    assert [fault.split(" is caught in ")[1].split(",")[0] for fault in faults] == [
        "float64 by gradient alone",
        "float32 by value alone",
    ]
    assert list(Result(replace(right_one(), single="why"), tuple(kills)).faults()) == []


def test_a_record_that_is_what_is_found_is_none() -> None:
    """Two classes in both dtypes."""
    assert list(result(right_one(), "value", "gradient").faults()) == []


# --- the committed lists ---------------------------------------------------------------------------------------------


def committed() -> dict[str, list[str]]:
    table: dict[str, list[str]] = json.loads(run.KILLS.read_text(encoding="utf-8"))
    return table


def outdated(results: Sequence[Result]) -> list[str]:
    """Where kills.json isn't what these results say: kills near the limit may differ from machine to machine."""
    found, listed = run.kills_by_vector(results, 1.0), committed()
    clear = run.kills_by_vector(results, 2.0 * run.CLEAR)
    ids = {one.mutant.id for one in results}
    return [
        f"{slug}: {name}"
        for slug in {*found, *listed}
        for name in ids
        if (name in clear.get(slug, ()) and name not in listed.get(slug, ()))
        or (name in listed.get(slug, ()) and name not in found.get(slug, ()))
    ]


@pytest.mark.parametrize("names", [SAMPLE, FAMILY_SAMPLE])
def test_a_sample_of_the_committed_kills_is_current(names: Sequence[str]) -> None:
    """Four mutants of info_nce, and one of every other loss, kill the vectors that kills.json says, and no others."""
    assert outdated(run.run([named(name) for name in names])) == []


def test_a_kill_that_nobody_makes_is_outdated() -> None:
    """The comparison fails for a mutant that kills nothing."""
    assert outdated([Result(named("rows.no-shift"), ())]) != []


def test_the_lists_name_all_mutants_and_only_vectors_that_exist() -> None:
    """kills.json's slugs are vectors, and the page has a row for each mutant."""
    slugs = {question.id.split("#")[0] for loss in LOSSES for question in vector_questions(loss)}
    page = PAGE.read_text(encoding="utf-8")
    assert {*committed()} <= slugs
    assert [mutant.id for mutant in MUTANTS if f"| `{mutant.id}` | {mutant.story} |" not in page] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_mutant_is_caught_as_its_record_and_the_lists_say(loss: str) -> None:
    """All mutants of a loss on all its vectors."""
    mutants = [mutant for mutant in MUTANTS if mutant.loss == loss]
    results = run.run(mutants)
    assert run.faults(results, len(mutants)) == []
    assert outdated(results) == []
