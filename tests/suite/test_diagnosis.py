"""The diagnosis: the right mistake is named, of code that shares nothing with the hypotheses; sound code gets none."""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infonce_ref
from infonce_ref.conformance import check_loss
from infonce_ref.conformance.adapters.wire import pack_numpy
from infonce_ref.conformance.cli import main
from infonce_ref.conformance.diagnosis import Diagnosis, Search, diagnose
from infonce_ref.conformance.evidence import Comparison, Observed, gathered
from infonce_ref.conformance.hypotheses import Hypothesis, known
from infonce_ref.conformance.judge import exact
from infonce_ref.conformance.mutants import MUTANTS, named
from infonce_ref.conformance.mutants.run import AskOnce, exam
from infonce_ref.conformance.problem import Problem
from infonce_ref.conformance.report.model import read, run_of
from infonce_ref.conformance.results import Report, Result
from infonce_ref.conformance.runner import LocalRunner
from infonce_ref.conformance.session import Session
from tests.suite import family_zoo, implementations, zoo

PAGE = Path(__file__).parents[2] / named.PAGE
ALL, ONE_IN = bool(os.environ.get("INFONCE_ALL")), 6  # of the mutants, or else one in so many


@cache
def search(loss: str) -> Search:
    """What has been asked of a hypothesis once is kept for all tests."""
    return Search(loss)


def judged(function: Any, loss: str = "info_nce", framework: str = "numpy") -> Report:
    """The report on all stored vectors; each output is asked for by itself, for who lacks some."""
    session, report = Session(LocalRunner(function, framework, loss=loss)), Report(loss, "someone", 0, "")
    report.results = [Result(check, check.run(session)) for check in exam(loss).numbers]
    return report


def diagnosis(function: Any, loss: str = "info_nce", framework: str = "numpy") -> Diagnosis:
    return diagnose(judged(function, loss, framework), search=search(loss))


# --- wrong implementations, written from scratch ----------------------------------------------------------------------


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def scores(q: Any, k: Any, tau: Any) -> Any:
    return unit(q) @ unit(k).T / tau


def cross_entropy(s: Any, label: Any) -> Any:
    """Of each row, by the formula that everyone has."""
    top = s.max(axis=1, keepdims=True)
    log_sum = top[:, 0] + np.log(np.exp(s - top).sum(axis=1))
    return log_sum - s[np.arange(len(s)), label]


def own(s: Any) -> Any:
    return np.arange(len(s))


def of_rows(form: Callable[[Any], Any]) -> Callable[..., Any]:
    """A loss of query and positive_key from its matrix of scores."""

    def loss(query: Any, positive_key: Any, *, temperature: Any) -> Any:
        return form(scores(query, positive_key, temperature))

    return loss


def simclr_twice(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """Both views' rows, added up in place of averaged."""
    z = unit(np.concatenate([query, positive_key]))
    s = z @ z.T / temperature
    np.fill_diagonal(s, -np.inf)
    n = len(query)
    return 2 * np.mean(cross_entropy(s, np.concatenate([np.arange(n) + n, np.arange(n)])))


def simclr(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    return simclr_twice(query, positive_key, temperature=temperature) / 2


def no_positive(s: Any) -> Any:
    """log of the sum over the others, less the positive."""
    others = s[~np.eye(len(s), dtype=bool)].reshape(len(s), len(s) - 1)
    if not others.size:
        return s.dtype.type(0)
    top = others.max(axis=1)
    return np.mean(top + np.log(np.exp(others - top[:, None]).sum(axis=1)) - np.diag(s))


def not_normalised(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    s = query @ positive_key.T / temperature
    return np.mean(cross_entropy(s, own(s)))


def multiplied(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    s = unit(query) @ unit(positive_key).T * temperature
    return np.mean(cross_entropy(s, own(s)))


def always_007(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    s = scores(query, positive_key, query.dtype.type(0.07))
    return np.mean(cross_entropy(s, own(s)))


def bits(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    s = scores(query, positive_key, temperature)
    return np.mean(cross_entropy(s, own(s))) / query.dtype.type(np.log(2))


def times_tau(query: Any, positive_key: Any, *, temperature: Any) -> Any:
    """As SupCon's code weighs it, with a base temperature of 0.07."""
    s = scores(query, positive_key, temperature)
    return np.mean(cross_entropy(s, own(s))) * query.dtype.type(temperature / 0.07)


def with_gradients(change: Callable[[dict[str, Any], int], dict[str, Any]]) -> Callable[..., Any]:
    """The right loss with other gradients."""

    def loss(query: Any, positive_key: Any, *, temperature: Any) -> Any:
        value, grad = implementations.textbook(query, positive_key, temperature=temperature)
        return value, change(grad, len(query))

    return loss


def zero(x: Any) -> Any:
    return np.zeros_like(x)


# Name of the mistake → the implementation, and ids of hypotheses that are that mistake.
WRONG: dict[str, tuple[Callable[..., Any], set[str]]] = {
    "both directions added": (
        of_rows(lambda s: np.mean(cross_entropy(s, own(s))) + np.mean(cross_entropy(s.T, own(s)))),
        {"definition:direction.sum"},
    ),
    "both directions averaged": (
        of_rows(lambda s: (np.mean(cross_entropy(s, own(s))) + np.mean(cross_entropy(s.T, own(s)))) / 2),
        {"definition:direction.mean", "rows.both-directions"},
    ),
    "other direction": (
        of_rows(lambda s: np.mean(cross_entropy(s.T, own(s)))),
        {"definition:direction.other", "rows.other-direction"},
    ),
    "SimCLR in its place": (simclr, {"definition:relative.nt-xent"}),
    "SimCLR, twice": (simclr_twice, {"definition:relative.nt-xent & factor.2"}),
    "positive dropped": (of_rows(no_positive), {"definition:rows.without-positive", "rows.no-positive"}),
    "nothing normalised": (not_normalised, {"definition:similarity.none", "cosine.none"}),
    "times the temperature": (multiplied, {"definition:tau.inverse", "temperature.multiplied"}),
    "temperature of 0.07 whatever is asked": (always_007, {"definition:tau.0.07"}),
    "bits": (bits, {"convention:factor.log2", "reduction.bits"}),
    "labels off by one": (
        of_rows(lambda s: np.mean(cross_entropy(s, (own(s) + 1) % len(s)))),
        {"labels.off-by-one"},
    ),
    "labels all 0": (of_rows(lambda s: np.mean(cross_entropy(s, 0 * own(s)))), {"labels.zero"}),
    "summed": (
        of_rows(lambda s: np.sum(cross_entropy(s, own(s)))),
        {"convention:factor.N", "definition:reduction.sum", "reduction.sum-for-mean"},
    ),
    "mean over all pairs": (
        of_rows(lambda s: np.mean(cross_entropy(s, own(s))) / s.dtype.type(len(s))),
        {"convention:factor.1/N", "reduction.mean-twice"},
    ),
    "base temperature": (times_tau, {"convention:factor.tau/0.07", "reduction.base-temperature"}),
    "log N taken off": (
        of_rows(lambda s: np.mean(cross_entropy(s, own(s))) - s.dtype.type(np.log(len(s)))),
        {"convention:constant.-log-N"},
    ),
    "gradients of the sum": (
        with_gradients(lambda grad, n: {name: n * g for name, g in grad.items()}),
        {"convention:gradient-factor.N", "gradient.of-the-sum"},
    ),
    "gradients downhill": (
        with_gradients(lambda grad, n: {name: -g for name, g in grad.items()}),
        {"convention:gradient-factor.-1"},
    ),
    "keys without gradient": (
        with_gradients(lambda grad, n: {**grad, "positive_key": zero(grad["positive_key"])}),
        {"convention:detached.positive_key", "gradient.keys-stopped"},
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_written_from_scratch_is_named(mistake: str) -> None:
    """What is named is that mistake; others beside it give the same numbers wherever it can be asked."""
    function, ids = WRONG[mistake]
    found = diagnosis(function)
    assert {*found.named} & ids, found
    assert len(found.findings) == 1, found
    assert found.sentences[0].startswith("Your ")


@pytest.mark.parametrize("mistake", ["positive dropped", "bits", "SimCLR in its place"])
def test_the_sentence_counts_all_failing_vectors(mistake: str) -> None:
    """Every vector that fails is explained, and the sentence says of how many."""
    report = judged(WRONG[mistake][0])
    report.results = [r for r in report.results if r.check.profile in ("core", "grad")]
    failing = {r.check.question.id for r in report.results if r.failed and r.check.question}
    (finding,) = diagnose(report, search=search("info_nce")).findings
    assert f"on {len(failing)} of {len(failing)} vectors." in finding.sentences[0]
    assert {*finding.checks} == {r.check.id for r in report.results if r.failed}


def sup_con_factor(features: Any, labels: Any, *, temperature: Any) -> Any:
    """SupCon's own code: the mean over the positives, times temperature / 0.07."""
    z = unit(features)
    s = z @ z.T / temperature
    self_ = np.eye(len(s), dtype=bool)
    top = np.where(self_, -np.inf, s).max(axis=1, keepdims=True)
    log_p = s - top - np.log(np.where(self_, 0, np.exp(s - top)).sum(axis=1, keepdims=True))
    positive = (labels[:, None] == labels[None, :]) & ~self_
    rows = [-log_p[i, positive[i]].mean() for i in range(len(s)) if positive[i].any()]
    return features.dtype.type(temperature / 0.07 * np.mean(rows) if rows else 0.0)


def one_way(image: Any, text: Any, *, temperature: Any) -> Any:
    s = scores(image, text, temperature)
    return np.mean(cross_entropy(s, own(s)))


def first_rows(view_a: Any, view_b: Any, *, temperature: Any) -> Any:
    """NT-Xent of the first view's rows only."""
    z = unit(np.concatenate([view_a, view_b]))
    s = z @ z.T / temperature
    np.fill_diagonal(s, -np.inf)
    n = len(view_a)
    return np.mean(cross_entropy(s, np.arange(2 * n) % n + n)[:n])


def n_pair_of_cosines(query: Any, positive_key: Any) -> Any:
    s = unit(query) @ unit(positive_key).T
    return np.mean(cross_entropy(s, own(s)))


@pytest.mark.parametrize(
    ("function", "loss", "hypothesis"),
    [
        (sup_con_factor, "sup_con", "convention:factor.tau/0.07"),
        (one_way, "clip", "definition:direction.forth"),
        (first_rows, "nt_xent", "definition:views.first"),
        (n_pair_of_cosines, "n_pair", "definition:relative.cosine"),
    ],
)
def test_a_mistake_in_another_loss_is_named(function: Any, loss: str, hypothesis: str) -> None:
    """The conventions, and the relatives of each loss, are tried on all of the family."""
    assert hypothesis in diagnosis(function, loss).named


# --- the suite's own wrong implementations ----------------------------------------------------------------------------

SAMPLE = ("cosine.wrong-axis", "gradient.clipped", "rows.softmax-twice")


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_of_the_mutants_is_named_alone(name: str) -> None:
    """Its own mistake, among all the others."""
    mutant = next(mutant for mutant in MUTANTS if mutant.id == name)
    assert diagnosis(mutant.function, mutant.loss, "torch").named == (name,)


def test_a_prediction_that_one_format_alone_denies_counts_for_nothing() -> None:
    """Targets that add up to 1 in float32 don't quite in float64, where the mutant's loss of them is another."""
    mutant = next(mutant for mutant in MUTANTS if mutant.id == "soft-nce.mask-ignored")
    assert mutant.id in diagnosis(mutant.function, mutant.loss, "torch").named


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nine_in_ten_of_the_mutants_are_named() -> None:
    """Of those that give other numbers for ordinary input, some or all; what the page says of them is so."""
    mutants = sorted(named.of_numbers(), key=lambda mutant: (mutant.loss, mutant.id))[:: None if ALL else ONE_IN]
    results = list(named.all_named(mutants))
    right = {result.mutant.id for result in results if result.right}
    assert len(results) == len(mutants) >= 40
    assert len(right) >= named.LEAST * len(results)
    assert {mutant.id for mutant in mutants} & named_on_the_page()[True] <= right


def test_a_run_that_names_too_few_fails() -> None:
    """A right implementation, listed as a mutant, isn't named: exit code 1."""
    sound = next(m for m in MUTANTS if m.id == "rows.cancelled")  # the textbook formula
    listed = sound.__class__(**{**vars(sound), "classes": ("value",)})
    assert named.main([], mutants=[listed]) == 1


def named_on_the_page() -> dict[bool, set[str]]:
    """The mutants that the committed page says are named, and those that it says are not."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return {right: {row.split("`")[1] for row in rows if ("**not**" not in row) == right} for right in (True, False)}


def test_the_page_of_results_shows_nine_in_ten() -> None:
    """It has a row for each mutant of numbers, and its rows bear out its sentence."""
    right, wrong = named_on_the_page()[True], named_on_the_page()[False]
    assert f"{len(right)} of {len(right | wrong)} are named rightly" in PAGE.read_text(encoding="utf-8")
    assert right | wrong == {mutant.id for mutant in named.of_numbers()}
    assert len(right) >= named.LEAST * len(right | wrong)


# --- sound implementations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_the_reference_gets_no_diagnosis(framework: str) -> None:
    """Nothing fails, so nothing is said, and no hypothesis is even made."""
    report = judged(infonce_ref.info_nce, framework=framework)
    assert diagnose(report, search=None).findings == ()


@pytest.mark.parametrize(
    ("function", "framework"), [(implementations.textbook, "numpy"), (implementations.torch_textbook, "torch")]
)
def test_a_sound_textbook_formula_is_called_just_that(function: Any, framework: str) -> None:
    """It fails tiny losses and edges; no mistake is named, and the sentences say what it is."""
    found = diagnosis(function, framework=framework)
    assert found.named == ()
    assert found.findings
    assert all("this is the textbook formula" in sentence for sentence in found.sentences)


class Computing:
    """A runner that answers with what a function of whole problems computes."""

    def __init__(self, outputs: Callable[[Problem, str], dict[str, np.ndarray]]) -> None:
        self.outputs = outputs

    def start(self) -> dict[str, Any]:
        return {}

    def ask(self, request: Any) -> dict[str, Any]:
        problem = Problem.from_json(request["problem"])
        found = self.outputs(problem, problem.dtype)
        packed = {name: pack_numpy(np.asarray(x, dtype=problem.dtype)) for name, x in found.items()}
        return {"id": request["id"], "loss": packed.pop("loss"), "grad": packed}

    def close(self) -> None:
        pass


def plain_report(loss: str, outputs: Callable[[Problem, str], dict[str, np.ndarray]]) -> Report:
    """The report on the plain vectors in full precision."""
    session, report = AskOnce(Computing(outputs)), Report(loss, "zoo", 0, "")
    checks = [c for c in exam(loss).numbers if c.dtype in ("float64", "float32") and c.profile in ("core", "grad")]
    report.results = [Result(check, check.run(session)) for check in checks]
    return report


SOUND = {
    **{("info_nce", name): zoo.TEXTBOOK[name] for name in ("numpy:reversed", "torch:einsum+streamed")},
    ("info_nce", "numpy:softplus"): zoo.PRECISE["numpy:softplus"],
    **{(loss, "library"): next(iter(family_zoo.textbook(loss).values())) for loss in family_zoo.FUNCTIONS},
}


@pytest.mark.parametrize(("loss", "name"), SOUND)
def test_the_correct_zoo_gets_no_diagnosis(loss: str, name: str) -> None:
    """Other orders of evaluation, of every loss."""
    report = plain_report(loss, SOUND[loss, name])
    assert sum(result.outcome.status == "pass" for result in report.results) > 10
    assert diagnose(report, search=None).named == ()


def test_a_mistake_that_nobody_knows_is_not_named() -> None:
    """A little noise of its own in every output: the sentence says that nothing known explains it."""

    def odd(query: Any, positive_key: Any, *, temperature: Any) -> Any:
        value, grad = implementations.textbook(query, positive_key, temperature=temperature)
        return value * query.dtype.type(1.0137), {name: np.sign(g) * np.abs(g) ** 1.01 for name, g in grad.items()}

    found = diagnosis(odd)
    assert found.named == ()
    assert found.sentences[0].startswith("No known mistake explains this: ")


def test_a_mistake_in_too_few_checks_is_not_named() -> None:
    """Two checks may be anything: what gives their numbers is told as that, and no more."""
    report = judged(WRONG["bits"][0])
    failing = [r for r in report.results if r.failed and r.check.profile == "core"]
    report.results = failing[:2]
    found = diagnose(report, search=search("info_nce"))
    assert found.named == ()
    assert found.sentences[0].startswith("Too few checks fail to name a mistake.")
    assert "bits" in found.sentences[0]


def test_a_hypothesis_that_expects_failures_where_there_are_none_is_not_named() -> None:
    """Bits in float32 alone: in float64 it passes, which the hypothesis denies."""

    def now_and_then(query: Any, positive_key: Any, *, temperature: Any) -> Any:
        right = implementations.value_only(query, positive_key, temperature=temperature)
        return right / query.dtype.type(np.log(2)) if len(query) == 2 else right

    assert diagnosis(now_and_then).named == ()


# --- without PyTorch --------------------------------------------------------------------------------------------------


def test_conventions_are_compared_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those need NumPy alone; what is missing is said where nothing was found."""
    load = builtins.__import__

    def no_torch(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "torch":
            raise ImportError(name)
        return load(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    few = Search("info_nce")
    assert not {h.id for h in few.hypotheses} & {m.id for m in MUTANTS if m.loss == "info_nce"}
    report = judged(WRONG["positive dropped"][0])
    assert diagnose(report, search=few).named == ("definition:rows.without-positive",)
    assert (
        few.none(gathered(report.results)).sentences[1]
        == "The suite's wrong implementations are compared only where PyTorch is installed."
    )


# --- hypotheses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", sorted(family_zoo.FUNCTIONS))
def test_hypotheses_have_ids_of_their_own_and_words(loss: str) -> None:
    """No two of a loss share an id, and each can be said."""
    hypotheses, missing = known(loss)
    assert len({h.id for h in hypotheses}) == len(hypotheses) > 20
    assert all(h.means and "{}" not in h.means for h in hypotheses)
    assert missing == ""


@pytest.mark.parametrize("loss", ["info_nce", "clip", "nt_xent", "sup_con", "siglip"])
def test_what_makes_no_difference_is_what_is_right(loss: str) -> None:
    """On plain vectors, ignoring a mask, a margin or weights that aren't there is no mistake."""
    report = plain_report(loss, next(iter(family_zoo.textbook(loss).values())))
    for hypothesis in search(loss).hypotheses:
        if hypothesis.id.partition(":")[2] in ("mask.none", "mask.not", "margin.none", "weights.none"):
            for case in gathered(report.results)[:6]:
                predicted = Comparison().predicted(hypothesis, case)
                assert not any(item.refutes(predicted[item.output]) for item in case.observed)


def test_a_number_is_equal_within_two_bounds_and_no_further() -> None:
    """What decides is the bound, whatever the hypothesis."""

    def seen(got: float) -> Observed:
        return Observed("loss", "c", np.array(got), exact(np.array(1.0)), np.array(1e-6), 2.0**-24, True)

    assert seen(3.0 + 1e-6).equals(np.array(3.0))
    assert not seen(3.0 + 4e-5).equals(np.array(3.0))
    assert seen(np.nan).equals(np.array(np.nan))
    assert not seen(np.nan).equals(np.array(3.0))
    assert seen(2.0).refutes(np.array(2.0))
    assert not seen(2.0).refutes(np.array(1.0 + 1e-6))


def test_code_that_raises_predicts_nothing() -> None:
    """A hypothesis may be wrong code in any way."""

    def raises(situation: Any) -> Any:
        raise RuntimeError

    case = gathered(plain_report("info_nce", zoo.PRECISE["numpy:softplus"]).results)[0]
    assert Comparison().predicted(Hypothesis("h", "", raises), case) == {}


# --- where it is shown ------------------------------------------------------------------------------------------------


@cache
def doubled() -> Report:
    """A report of a loss that is twice as large, with its diagnosis."""
    report = check_loss(implementations.doubled, only="info_nce.aligned")
    assert report.diagnosis.named[0] == "convention:factor.2"
    return report


def test_every_failure_that_it_explains_says_so() -> None:
    """In the record's lines, in the footer, and in the model that the other forms are made from."""
    report = doubled()
    core = [result for result in report.results if result.failed and result.check.profile == "core"]
    sentence = report.diagnosis.sentences[0]
    assert sentence.startswith("Your outputs equal another definition, 'twice the loss' on ")
    assert all(result.record()["diagnosis"][0] == sentence for result in core)
    assert report.footer()["diagnosis"][0]["says"][0] == sentence
    assert run_of(report).diagnosis[0] == sentence


def test_a_sound_report_has_no_diagnosis_in_its_footer() -> None:
    """Nothing is said of nothing."""
    report = check_loss(infonce_ref.info_nce, only="info_nce.aligned.1e-3")
    assert report.diagnosis == Diagnosis()
    assert "diagnosis" not in report.footer()


def test_the_command_prints_it_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After the failures; the file's footer holds it, and each line that it explains has it when the file is read."""
    path, target = tmp_path / "out.jsonl", "tests.suite.implementations:doubled"
    assert main(["run", target, "--only", "info_nce.aligned", "--report", str(path)]) == 1
    assert "diagnosis: Your outputs equal another definition, 'twice the loss' on " in capsys.readouterr().out
    run = read(path)
    explained = {line["id"] for line in run.results if line.get("diagnosis")}
    assert run.footer is not None
    assert explained == {*run.footer["diagnosis"][0]["checks"]} != set()
    assert main(["verify", str(path)]) == 1  # what doesn't conform, and nothing untrue
    assert "untrue" not in capsys.readouterr().out


def test_the_command_leaves_it_out_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--no-diagnosis."""
    path, target = tmp_path / "out.jsonl", "tests.suite.implementations:doubled"
    main(["run", target, "--only", "info_nce.aligned", "--report", str(path), "--no-diagnosis"])
    assert "diagnosis" not in capsys.readouterr().out
    assert "diagnosis" not in json.loads(path.read_text().splitlines()[-1])
