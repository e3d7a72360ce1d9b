"""The list of checks: every sort of wrong implementation fails where it is wrong, and only there."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from infonce_ref.conformance import check_loss, parametrize_with_checks
from infonce_ref.conformance.checks import PROFILES, all_checks, judge_values, matching
from infonce_ref.conformance.clauses import sentences
from infonce_ref.conformance.fresh import DEFAULT_SEED, fresh_questions
from infonce_ref.conformance.load import vector_questions
from infonce_ref.conformance.results import Exit, Report, Usage
from infonce_ref.conformance.run import Options
from tests.suite import implementations

FEW = "info_nce.[bfcsn]*"  # benign, fresh, call, sharp, norms, …


def failing(report: Report) -> set[str]:
    """The clauses that are to blame."""
    return {clause for clauses in report.blame().values() for clause in clauses}


def statuses(report: Report, profile: str) -> Counter[str]:
    return report.counts(profile)


@pytest.mark.parametrize(
    ("target", "framework"),
    [(implementations.textbook, "numpy"), (implementations.torch_textbook, "torch"), (implementations.Module, "numpy")],
)
def test_a_textbook_implementation_conforms(target: Any, framework: str) -> None:
    """core and grad pass with room to spare, and what isn't there isn't applicable."""
    report = check_loss(target, framework=framework)
    assert report.exit_code is Exit.CONFORMS, str(report)
    assert max(r.r or 0.0 for r in report.results if r.check.profile in ("core", "grad")) < 0.5
    assert set(statuses(report, "masks")) == {"n/a"}
    assert statuses(report, "precise")["fail"] > 0


@pytest.mark.parametrize("seed", random.Random(5).sample(range(10**6), 5))
def test_no_seed_rejects_a_textbook_implementation(seed: int) -> None:
    """Fresh problems of any seed."""
    report = check_loss(implementations.textbook, only="fresh", seed=seed)
    assert report.conforms, str(report)


def test_a_loss_without_gradients_conforms_to_what_it_has() -> None:
    """grad isn't applicable then, and the verdict says so; asked for by name it is incomplete."""
    report = check_loss(implementations.value_only, only="benign")
    assert (report.exit_code, report.missing) == (Exit.CONFORMS, ["grad"])
    assert report.verdict() == "conforms to core, grad; not applicable: grad"
    assert check_loss(implementations.value_only, only="benign", profile="grad").exit_code is Exit.INCOMPLETE


@pytest.mark.parametrize(
    ("target", "profiles"),
    [
        (implementations.doubled, {"core"}),
        (implementations.constant, {"core"}),
        (implementations.not_a_number, {"core"}),
        (implementations.echoes, {"core", "grad"}),
        (implementations.gradient_of_the_sum, {"grad"}),
        (implementations.vector_valued, {"core"}),
        (implementations.looks_up, {"core"}),
        (implementations.refuses_everything, {"core", "grad"}),
        (implementations.forgets_a_gradient, {"grad"}),
    ],
)
def test_a_wrong_implementation_fails_where_it_is_wrong(target: Any, profiles: set[str]) -> None:
    """Values, gradients and shapes, each under its profile."""
    report = check_loss(target, only=FEW)
    assert report.exit_code is Exit.DOES_NOT
    assert {r.check.profile for r in report.failures(("core", "grad"))} == profiles


@pytest.mark.parametrize(
    ("target", "clause"),
    [
        (implementations.in_place, "call.pure"),
        (implementations.drifting, "call.repeatable"),
        (implementations.promoted, "dtype.result"),
    ],
)
def test_behaviour_is_blamed_by_its_clause(target: Any, clause: str) -> None:
    """What is changed, differs or is promoted is named."""
    report = check_loss(target, only="info_nce.call")
    assert report.exit_code is Exit.DOES_NOT
    assert clause in {c for r in report.failures() for c in r.clauses}


def test_the_first_answer_for_ever_is_seen() -> None:
    """Another problem between two equal calls, and everything in shuffled order."""
    implementations.FIRST.clear()
    report = check_loss(implementations.remembers, only="benign")
    assert statuses(report, "core")["fail"] > 5


def test_a_table_of_answers_passes_the_vectors_and_fails_the_fresh() -> None:
    """That is what fresh problems are for."""
    report = check_loss(implementations.looks_up, only="/loss")
    core = [r for r in report.results if r.check.profile == "core"]
    assert {r.status for r in core if ".fresh." in r.check.id} == {"fail"}
    assert "pass" in {r.status for r in core if ".fresh." not in r.check.id}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (implementations.accepts_everything, "accepted"),
        (implementations.refuses_everything, "sound input isn't answered"),
    ],
)
def test_refusing_or_accepting_everything_is_no_judgement(target: Any, words: str) -> None:
    """A refusal counts only where sound input is answered."""
    report = check_loss(target, only="errors", profile="errors")
    assert report.exit_code is Exit.DOES_NOT
    assert all(words in r.outcome.reason for r in report.failures())
    if target is implementations.refuses_everything:
        assert statuses(report, "errors")["pass"] == 0


def test_blame_falls_on_the_clause_that_fails_everywhere() -> None:
    """A textbook implementation divides by a zero row's norm: that clause is to blame, not the mean."""
    report = check_loss(implementations.textbook, only="info_nce.[zb]*")
    assert failing(report) == {"similarity.cosine.zero"}


def test_blame_falls_on_what_all_failures_have_in_common() -> None:
    """Without the positive in the denominator nearly every check fails: its clause is to blame, not the mean."""
    from infonce_ref.conformance.mutants import MUTANTS

    mutant = next(mutant for mutant in MUTANTS if mutant.id == "rows.no-positive")
    report = check_loss(mutant.function, framework="torch", only="info_nce.[bcdnsv]*")
    to_blame = Counter(clause for clauses in report.blame().values() for clause in clauses)
    assert to_blame["rows.softplus"] > len(report.blame()) / 2
    assert to_blame["reduction.mean"] < len(report.blame()) / 10


def test_a_declared_adapter_is_asked_for_what_it_declares() -> None:
    """Other dtypes and profiles aren't applicable."""
    report = check_loss(implementations.declared, only=FEW)
    assert report.conforms
    assert {r.check.dtype for r in report.results if r.ran} == {"float64"}
    assert {r.check.profile for r in report.results if r.ran} == {"core", "grad"}


def test_ids_are_unique_and_depend_on_the_seed_alone() -> None:
    """Known failures and reruns go by id."""
    first, again = (all_checks("info_nce", 3) for _ in range(2))
    assert [c.id for c in first] == [c.id for c in again]
    assert len({c.id for c in first}) == len(first)


def test_fresh_problems_are_a_function_of_the_seed() -> None:
    """The same seed draws the same bits, another one others."""
    problems = [[q.problem for q in fresh_questions("info_nce", seed)] for seed in (1, 1, 2)]
    assert problems[0] == problems[1] != problems[2]


def test_every_check_names_clauses_that_exist_and_a_known_profile() -> None:
    """What a report says can be looked up."""
    for check in all_checks("info_nce", DEFAULT_SEED):
        assert check.clauses, check.id
        assert {*check.clauses} <= {*sentences()}, check.id
        assert check.profile in PROFILES, check.id


def test_a_pattern_is_an_id_a_part_or_a_shell_pattern() -> None:
    """--only with what a failure printed finds that check."""
    checks = all_checks("info_nce", DEFAULT_SEED)
    assert matching(checks, checks[0].id) == [checks[0]]
    assert len(matching(checks, "benign")) > 10
    assert {c.dtype for c in matching(checks, "*/float32/loss")} == {"float32"}


@pytest.mark.parametrize(
    "options",
    [{"loss": "nonsense"}, {"profile": "cores"}, {"reading": "sideways"}, {"seed": "seven"}, {"timeout": 0}],
)
def test_options_without_sense_are_refused(options: Any) -> None:
    """Each with a message that names what is allowed."""
    with pytest.raises(Usage):
        Options(**options)


@parametrize_with_checks(implementations.textbook, only="benign.plain")
def test_conformance(check: Callable[[], None]) -> None:
    """The pytest way in, as its users write it."""
    check()


@parametrize_with_checks(
    implementations.doubled, only="benign.plain", profile="core", expected_failures={"benign*": "twice the loss"}
)
def test_expected_failures_must_fail(check: Callable[[], None]) -> None:
    """xfail, strict."""
    check()


def test_a_failing_check_says_what_is_wrong() -> None:
    """The clause's sentence, expected, got, bound and r."""
    mark = parametrize_with_checks(implementations.doubled, only="benign.plain*float64/loss", profile="core")
    (item,) = (parameter.values[0] for parameter in mark.args[1])
    with pytest.raises(AssertionError, match=r"(?s)\[similarity.cosine\] With .*expected .*got .*bound .*r = "):
        item()


def test_a_python_number_has_no_dtype_to_be_wrong() -> None:
    """[dtype.result] A loss handed back as a float conforms; a NumPy float64 for float32 input doesn't."""

    def plain(query: Any, positive_key: Any, *, temperature: float) -> float:
        return float(implementations.value_only(query, positive_key, temperature=temperature))

    def promoted(query: Any, positive_key: Any, *, temperature: float) -> Any:
        return np.float64(plain(query, positive_key, temperature=temperature))

    assert check_loss(plain, framework="numpy", only=".dtype/float32").conforms
    assert not check_loss(promoted, framework="numpy", only=".dtype/float32").conforms


def test_a_row_of_subnormals_is_not_asked_of_a_device_that_flushes() -> None:
    """[similarity.cosine.scale] Its cosine is 0 there, by declaration; every other question is asked."""

    class Flushing:
        hello = {"flushes": True}  # noqa: RUF012

        def ask(self, *_: Any) -> dict[str, str]:
            return {"na": "asked"}

    questions = [q for q in vector_questions("info_nce") if q.expect == "values"]
    reasons = {q.id: judge_values(Flushing(), q, ("loss",), "textbook", False).reason for q in questions}  # type: ignore[arg-type]
    left_out = {name for name, reason in reasons.items() if reason != "asked"}
    assert {name.split("#")[0] for name in left_out} == {
        "info_nce.extreme-norms.subnormal", "info_nce.extreme-norms.float64.subnormal",
    }  # fmt: skip
