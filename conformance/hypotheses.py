"""What a wrong implementation may have computed: other conventions, other definitions, and the suite's own mutants.

A hypothesis says which numbers it gives for a problem. Conventions start from the exact answer; other definitions are
calls of the reference, in float64; mutants are run, which takes PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

import infonce_ref
from infonce_ref.conformance.adapters.resolve import Unusable
from infonce_ref.conformance.adapters.wire import unpack
from infonce_ref.conformance.family import LOSSES, SCALARS
from infonce_ref.conformance.problem import Problem
from infonce_ref.conformance.runner import LocalRunner

Outputs = Mapping[str, np.ndarray]  # the loss and its gradients, in float64

# Mutants that are caught by these classes of check alone don't give other numbers.
NOT_NUMBERS = {"errors", "purity", "repetition", "shape", "dtype"}


@dataclass(frozen=True)
class Situation:
    """A problem, and what is right for it."""

    problem: Problem
    truth: Outputs


@dataclass(frozen=True)
class Hypothesis:
    """One thing that an implementation may do."""

    id: str
    means: str  # completes: your outputs equal those of …
    predict: Callable[[Situation], Outputs | None]  # None where it has nothing to say
    rank: int = 0  # of two that explain as much, the lower one is named
    definition: bool = False  # another definition or convention, which someone may well mean
    story: str = ""
    native: Callable[[Situation], Outputs | None] | None = None  # the same, computed in the dtype that was asked


class Replay:
    """A function's answers, by the suite's own way of asking."""

    def __init__(self, function: Any, framework: str, loss: str) -> None:
        self.runner = LocalRunner(function, framework, loss=loss)
        self.runner.start()

    def __call__(self, problem: Problem) -> dict[str, np.ndarray] | None:
        """Loss and gradients; None where it refuses."""
        want = ("loss", *problem.differentiable)
        if problem.margin == 0.0 and "margin" in want:
            want = tuple(name for name in want if name != "margin")
        request = {"id": "", "problem": problem.to_json(), "want": want, "temperature_as": "array"}
        reply = self.runner.adapter.answer(request)
        if "loss" not in reply:
            return None
        return {name: unpack(data)[1] for name, data in [("loss", reply["loss"]), *reply["grad"].items()]}


def factor_free(problem: Problem) -> Problem:
    """The same problem in float64."""
    return problem.in_dtype("float64")


# --- conventions: the outputs of something, times or plus something known ------------------------------------------

Change = Callable[[Situation, Outputs], Outputs | None]


@dataclass(frozen=True)
class Convention:
    """A way to say the same thing in other numbers."""

    id: str
    means: str  # with {} for what it is applied to
    change: Change
    alone: str  # how it is called where it is applied to the right answer


def scaled(outputs: Outputs, by: float, slope: float = 0.0) -> dict[str, np.ndarray]:
    """Every output times `by`, a function of the temperature whose derivative is `slope`."""
    found = {name: by * np.asarray(x, dtype=np.float64) for name, x in outputs.items()}
    if slope and "temperature" in found:
        found["temperature"] = found["temperature"] + slope * np.sum(outputs["loss"])
    return found


def gradients(outputs: Outputs) -> dict[str, np.ndarray]:
    return {name: x for name, x in outputs.items() if name != "loss"}


Factor = Callable[[Problem], tuple[float, float]]  # its value and its derivative by the temperature


def rows(problem: Problem) -> int:
    return problem.rows


FACTORS: Mapping[str, tuple[str, Factor]] = {
    "2": ("twice {}", lambda p: (2.0, 0.0)),
    "1/2": ("half {}", lambda p: (0.5, 0.0)),
    "-1": ("minus {}", lambda p: (-1.0, 0.0)),
    "tau": ("the temperature times {}", lambda p: (p.temperature, 1.0)),
    "2tau": ("twice the temperature times {}", lambda p: (2.0 * p.temperature, 2.0)),
    "1/tau": ("{} / temperature", lambda p: (1.0 / p.temperature, -1.0 / p.temperature**2)),
    "tau/0.07": ("temperature / 0.07 times {}", lambda p: (p.temperature / 0.07, 1.0 / 0.07)),
    "log2": ("{} in bits (log₂)", lambda p: (1.0 / math.log(2.0), 0.0)),
    "N": ("N times {}", lambda p: (float(rows(p)), 0.0)),
    "1/N": ("{} / N, a mean over N × N pairs", lambda p: (1.0 / rows(p), 0.0)),
    "N/(N-1)": ("{} with 1 / (N − 1) for 1 / N", lambda p: (rows(p) / (rows(p) - 1.0), 0.0)),
    "1/(N-1)": ("{} / (N − 1)", lambda p: (1.0 / (rows(p) - 1.0), 0.0)),
}  # fmt: skip


def multiplied(factor: Factor) -> Change:
    def change(at: Situation, outputs: Outputs) -> Outputs | None:
        try:
            by, slope = factor(at.problem)
        except ZeroDivisionError:
            return None
        return scaled(outputs, by, slope)

    return change


def only_gradients(change: Change) -> Change:
    """The loss as it is."""

    def changed(at: Situation, outputs: Outputs) -> Outputs | None:
        flat = Situation(at.problem, outputs)
        found = change(flat, {**outputs, "loss": np.zeros(1)})
        return None if found is None else {**found, "loss": outputs["loss"]}

    return changed


def plus(constant: Callable[[Problem], float], slope: Callable[[Problem], float] = lambda p: 0.0) -> Change:
    """A constant added to every row's loss."""

    def change(at: Situation, outputs: Outputs) -> Outputs | None:
        problem, found = at.problem, dict(outputs)
        weight = problem.arrays.get("sample_weight")
        each = np.ones(problem.rows) if weight is None else weight
        share = {"mean": np.ones(()), "sum": np.sum(each), "none": each}[problem.reduction]
        found["loss"] = outputs["loss"] + constant(problem) * share
        if "temperature" in found:
            found["temperature"] = found["temperature"] + slope(problem) * np.sum(share)
        return found

    return change


def temperature_gradient(by: Callable[[float], float]) -> Change:
    def change(at: Situation, outputs: Outputs) -> Outputs | None:
        if "temperature" not in outputs:
            return None
        return {**outputs, "temperature": by(at.problem.temperature) * outputs["temperature"]}

    return change


def without_gradient(names: Iterable[str]) -> Change:
    def change(at: Situation, outputs: Outputs) -> Outputs | None:
        if not {*names} <= {*outputs}:
            return None
        return {**outputs, **{name: np.zeros_like(outputs[name]) for name in names}}

    names = tuple(names)
    return change


def conventions(loss: str) -> Iterator[Convention]:
    """Those that may be combined with any other mistake, simplest first."""
    for name, (words, factor) in FACTORS.items():
        yield Convention(f"factor.{name}", words, multiplied(factor), words.format("the loss"))
    for name, (words, factor) in FACTORS.items():
        change = only_gradients(multiplied(factor))
        meant = "{} with " + words.format("its gradient")
        yield Convention(f"gradient-factor.{name}", meant, change, meant.format("the loss"))


def singular(loss: str) -> Iterator[Convention]:
    """Those that are applied to the right answer alone."""
    added: Mapping[str, tuple[str, Callable[[Problem], float]]] = {
        "+log-N": ("the loss + log N", lambda p: math.log(rows(p))),
        "-log-N": ("the loss − log N", lambda p: -math.log(rows(p))),
        "+log-2": ("the loss + log 2", lambda p: math.log(2.0)),
        "-log-2": ("the loss − log 2", lambda p: -math.log(2.0)),
    }
    for name, (words, constant) in added.items():
        yield Convention(f"constant.{name}", words, plus(constant), words)
    names = LOSSES[loss].gradients
    if "temperature" in names:
        log_tau = plus(lambda p: math.log(p.temperature), lambda p: 1.0 / p.temperature)
        yield Convention("constant.+log-tau", "", log_tau, "the loss + log temperature")
        for name, (words, by) in TEMPERATURE_GRADIENTS.items():
            yield Convention(f"temperature-gradient.{name}", "", temperature_gradient(by), words)
    sides = [name for name in names if name not in SCALARS]
    for count in (1, 2):
        for chosen in combinations(sides, count):
            if count < len(sides):
                words = f"{' and '.join(chosen)} detached: no gradient"
                yield Convention(f"detached.{'+'.join(chosen)}", "", without_gradient(chosen), words)


TEMPERATURE_GRADIENTS: Mapping[str, tuple[str, Callable[[float], float]]] = {
    "0": ("the temperature detached: no gradient", lambda tau: 0.0),
    "sign": ("minus the temperature's gradient", lambda tau: -1.0),
    "log": ("the gradient by log(temperature) for the temperature's", lambda tau: tau),
    "log-scale": ("the gradient by log(1 / temperature), a log-scale, for the temperature's", lambda tau: -tau),
    "scale": ("the gradient by 1 / temperature, the scale, for the temperature's", lambda tau: -tau * tau),
    "1/tau": ("the temperature's gradient / temperature", lambda tau: 1.0 / tau),
}


def truth(at: Situation) -> Outputs:
    return at.truth


def combined(base: Hypothesis, convention: Convention) -> Hypothesis:
    """A convention on top of another hypothesis."""

    def on_top(predict: Callable[[Situation], Outputs | None]) -> Callable[[Situation], Outputs | None]:
        def predicted(at: Situation) -> Outputs | None:
            found = predict(at)
            return None if found is None else convention.change(at, found)

        return predicted

    return Hypothesis(
        f"{base.id} & {convention.id}",
        convention.means.format(f"[{base.means}]"),
        on_top(base.predict),
        base.rank + 4,
        base.definition,
        base.story,
        None if base.native is None else on_top(base.native),
    )


# --- other definitions: the reference asked something else -----------------------------------------------------------


@dataclass(frozen=True)
class Term:
    """A part of a sum: `weight` times the answer to `problem`, its gradients under our names."""

    problem: Problem
    weight: float = 1.0
    names: Mapping[str, str] = field(default_factory=dict)  # their argument → ours, where they differ
    slope: float = 1.0  # derivative of its temperature by ours


Rewrite = Callable[[Problem], list[Term] | None]  # None where it makes no sense, or no difference


class Reference:
    """The reference's answers in float64, each loss asked through an adapter of its own."""

    def __init__(self) -> None:
        self.replays: dict[str, Replay] = {}

    def __call__(self, problem: Problem) -> dict[str, np.ndarray] | None:
        if problem.loss not in self.replays:
            self.replays[problem.loss] = Replay(getattr(infonce_ref, problem.loss), "numpy", problem.loss)
        return self.replays[problem.loss](factor_free(problem))

    def total(self, terms: Iterable[Term]) -> dict[str, np.ndarray] | None:
        """The sum of the terms; None where one is refused."""
        found: dict[str, np.ndarray] = {}
        for term in terms:
            answer = self(term.problem)
            if answer is None:
                return None
            for name, x in answer.items():
                ours = term.names.get(name, name)
                part = term.weight * (term.slope if name == "temperature" else 1.0) * x
                found[ours] = found[ours] + part if ours in found else part
        return found


def without(problem: Problem, *names: str, **changes: Any) -> Problem:
    """The problem without some arrays."""
    arrays = {name: array for name, array in problem.arrays.items() if name not in names}
    return replace(problem, arrays={**arrays, **changes.pop("arrays", {})}, **changes)


def as_loss(problem: Problem, loss: str, names: Mapping[str, str], **changes: Any) -> Problem:
    """Another loss of the arrays called `names` here (our name → that loss's)."""
    arrays = {theirs: problem.arrays[ours] for ours, theirs in names.items()}
    usual = {"options": {}, "in_batch_negatives": True, "margin": problem.margin}
    return replace(problem, loss=loss, arrays=arrays, **{**usual, **changes})


def array_changed(name: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Rewrite:
    """The problem with another array, or None, in the place of one that it has."""

    def rewrite(problem: Problem) -> list[Term] | None:
        if name not in problem.arrays:
            return None
        changed = change(problem.arrays[name])
        return [Term(without(problem, name, arrays={} if changed is None else {name: changed}))]

    return rewrite


def temperature_as(value: Callable[[float], float], slope: Callable[[float], float]) -> Rewrite:
    def rewrite(problem: Problem) -> list[Term] | None:
        tau = problem.temperature
        if "temperature" not in LOSSES[problem.loss].scalars or tau <= 0.0:
            return None
        return [Term(replace(problem, temperature=value(tau)), slope=slope(tau))]

    return rewrite


def changed(**changes: Any) -> Rewrite:
    """The problem with other keywords, where that makes a difference."""

    def rewrite(problem: Problem) -> list[Term] | None:
        other = replace(problem, **changes)
        return None if other == problem else [Term(other)]

    return rewrite


def similarity(before: str, after: Any) -> Rewrite:
    def rewrite(problem: Problem) -> list[Term] | None:
        return [Term(replace(problem, similarity=after))] if problem.similarity == before else None

    return rewrite


def option(name: str, value: Any) -> Rewrite:
    def rewrite(problem: Problem) -> list[Term] | None:
        if problem.option(name) == value:
            return None
        options = {key: given for key, given in problem.options.items() if key != name}
        return [Term(replace(problem, options=options if value is None else {**options, name: value}))]

    return rewrite


def reduced(before: str, after: Any) -> Rewrite:
    def rewrite(problem: Problem) -> list[Term] | None:
        return [Term(replace(problem, reduction=after))] if problem.reduction == before else None

    return rewrite


def margin_negated(problem: Problem) -> list[Term] | None:
    if problem.margin == 0.0:
        return None
    return [Term(replace(problem, margin=-problem.margin))]


# What is the same for every loss: id, words, rewrite. The words complete: your outputs equal …
EVERYWHERE: tuple[tuple[str, str, Rewrite], ...] = (
    ("similarity.none", "no normalisation: inner products for cosines", similarity("cosine", "dot")),
    ("similarity.always", "rows normalised where inner products are asked for", similarity("dot", "cosine")),
    ("tau.inverse", "the temperature multiplied, not divided by", temperature_as(lambda t: 1 / t, lambda t: -1 / t**2)),
    ("tau.squared", "the temperature applied twice", temperature_as(lambda t: t * t, lambda t: 2 * t)),
    ("tau.root", "the temperature's square root for it", temperature_as(math.sqrt, lambda t: 0.5 / math.sqrt(t))),
    ("tau.half", "half the temperature", temperature_as(lambda t: t / 2, lambda t: 0.5)),
    ("tau.double", "twice the temperature", temperature_as(lambda t: 2 * t, lambda t: 2.0)),
    *(
        (
            f"tau.{fixed}",
            f"the temperature ignored: always {fixed}",
            temperature_as(lambda _, f=fixed: f, lambda _: 0.0),
        )
        for fixed in (1.0, 0.5, 0.2, 0.1, 0.07, 0.05)
    ),
    ("margin.none", "the margin ignored", changed(margin=0.0)),
    ("margin.minus", "the margin added to the positive, not taken off", margin_negated),
    ("mask.none", "the mask ignored", array_changed("candidate_mask", lambda m: None)),
    ("mask.not", "the mask read the other way round: True for masked", array_changed("candidate_mask", lambda m: ~m)),
    (
        "mask.transposed",
        "the mask read as candidate × query",
        array_changed("candidate_mask", lambda m: m.T if m.ndim == 2 and m.shape[0] == m.shape[1] else m),
    ),
    ("weights.none", "sample_weight ignored", array_changed("sample_weight", lambda w: None)),
    ("reduction.sum", "the sum for the mean", reduced("mean", "sum")),
    ("reduction.mean", "the mean for the sum", reduced("sum", "mean")),
)


# --- info_nce's relatives ---------------------------------------------------------------------------------------------

PAIR = ("query", "positive_key")
SWAPPED = {"query": "positive_key", "positive_key": "query"}


def pure_batch(problem: Problem) -> bool:
    """Whether it is N queries, their N keys, and nothing else that couldn't be turned round."""
    arrays = {*problem.arrays} - {*LOSSES[problem.loss].arrays, "sample_weight", "candidate_mask"}
    one, other = (problem.arrays[name] for name in LOSSES[problem.loss].arrays[:2])
    return not arrays and one.shape == other.shape and problem.in_batch_negatives


def turned(problem: Problem) -> Term:
    """Query and key exchanged."""
    one, other = LOSSES[problem.loss].arrays[:2]
    arrays = {**problem.arrays, one: problem.arrays[other], other: problem.arrays[one]}
    if "candidate_mask" in arrays:
        arrays["candidate_mask"] = arrays["candidate_mask"].T
    return Term(replace(problem, arrays=arrays), names={one: other, other: one})


def other_direction(problem: Problem) -> list[Term] | None:
    return [turned(problem)] if pure_batch(problem) else None


def directions(weight: float) -> Rewrite:
    def rewrite(problem: Problem) -> list[Term] | None:
        if not pure_batch(problem):
            return None
        back = turned(problem)
        return [Term(problem, weight), replace(back, weight=weight)]

    return rewrite


def of_pair(loss: str, theirs: tuple[str, str], ours: tuple[str, str] = PAIR, weights: bool = False) -> Rewrite:
    """Another loss of the same two arrays, where there is nothing beside them."""

    def rewrite(problem: Problem) -> list[Term] | None:
        if {*problem.arrays} != {*ours} or not pure_batch(problem) or problem.reduction == "none":
            return None
        names = dict(zip(ours, theirs, strict=True))
        options = {name: value for name, value in problem.options.items() if name in LOSSES[loss].options}
        options |= {name: problem.options[name] for name in LOSSES[loss].required if name in problem.options}
        if not {*LOSSES[loss].required} <= {*options}:
            return None
        # a mean over N rows of one and over 2N of the other is a mean; sums are left as they are
        other = as_loss(problem, loss, names, options=options)
        return [Term(other, names={name: mine for mine, name in names.items()})]

    return rewrite


def first_view(problem: Problem) -> list[Term] | None:
    """The rows of the first view alone."""
    if "sample_weight" in problem.arrays or problem.reduction == "none":
        return None
    half = problem.rows // 2
    weight = np.concatenate([np.ones(half), np.zeros(half)])
    return [Term(replace(problem, arrays={**problem.arrays, "sample_weight": weight}))]


def explicit(in_batch: bool, how: str) -> Rewrite:
    """Another reading of explicit negatives."""

    def rewrite(problem: Problem) -> list[Term] | None:
        keys = problem.arrays.get("negative_keys")
        if keys is None or "candidate_mask" in problem.arrays or "logit_bias" in problem.arrays:
            return None
        if how == "none":
            return [Term(without(problem, "negative_keys", in_batch_negatives=True))]
        arrays = dict(problem.arrays)
        if how == "shared" and keys.ndim == 3:
            arrays["negative_keys"] = keys.reshape(-1, keys.shape[-1])
        elif how == "own" and keys.ndim == 2:
            if len(keys) != len(problem.arrays["query"]):
                return None
            arrays["negative_keys"] = keys[:, None, :]
        other = replace(problem, arrays=arrays, in_batch_negatives=in_batch)
        return None if other.reading == problem.reading else [Term(other)]

    return rewrite


def queue_and_batch(problem: Problem) -> list[Term] | None:
    names = {"query": "query", "positive_key": "positive_key", "queue": "negative_keys"}
    if "sample_weight" in problem.arrays:
        names["sample_weight"] = "sample_weight"
    return [Term(as_loss(problem, "info_nce", names), names={"negative_keys": "queue"})]


VIEWS = ("view_a", "view_b")
SIDES = ("image", "text")
TWO_WAY = "the mean of both directions, CLIP's loss"
NT_XENT = "NT-Xent over both views, SimCLR's loss"

RELATIVES: Mapping[str, tuple[tuple[str, str, Rewrite], ...]] = {
    "info_nce": (
        ("direction.other", "the other direction, from key to query", other_direction),
        ("direction.mean", TWO_WAY, directions(0.5)),
        ("direction.sum", "the sum of both directions", directions(1.0)),
        ("relative.nt-xent", NT_XENT, of_pair("nt_xent", VIEWS)),
        ("relative.dcl", "DCL over both views", of_pair("dcl", VIEWS)),
        ("relative.gte", "GTE's loss, with keys and queries of both sides as negatives", of_pair("gte", ("query", "document"))),
        ("reading.in-batch", "explicit negatives left out, those of the batch used", explicit(True, "none")),
        ("reading.explicit", "explicit negatives alone, without those of the batch", explicit(False, "same")),
        ("reading.both", "the batch's keys as negatives beside the explicit ones", explicit(True, "same")),
        ("reading.shared", "each query's own negatives shared by all", explicit(False, "shared")),
        ("reading.shared-too", "each query's own negatives shared by all, beside the batch's", explicit(True, "shared")),
        ("reading.own", "shared negatives read as one for each query", explicit(False, "own")),
        ("reading.own-too", "shared negatives read as one for each query, beside the batch's", explicit(True, "own")),
        ("index.none", "positive_index ignored", array_changed("positive_index", lambda i: None)),
        ("bias.none", "logit_bias ignored", array_changed("logit_bias", lambda b: None)),
        ("bias.minus", "logit_bias taken off, not added", array_changed("logit_bias", lambda b: -b)),
    ),
    "info_nce_from_logits": (
        ("index.none", "positive_index ignored", array_changed("positive_index", lambda i: None)),
    ),
    "clip": (
        ("direction.forth", "the direction from image to text alone", of_pair("info_nce", PAIR, SIDES)),
        (
            "direction.back",
            "the direction from text to image alone",
            of_pair("info_nce", ("positive_key", "query"), SIDES),
        ),
        ("relative.nt-xent", NT_XENT, of_pair("nt_xent", VIEWS, SIDES)),
        ("hard.texts", "negative_texts left out", array_changed("negative_texts", lambda x: None)),
        ("hard.images", "negative_images left out", array_changed("negative_images", lambda x: None)),
    ),
    "nt_xent": (
        ("relative.one-way", "InfoNCE from the first view to the second", of_pair("info_nce", PAIR, VIEWS)),
        ("relative.clip", TWO_WAY, of_pair("clip", SIDES, VIEWS)),
        ("relative.dcl", "the positive left out of the denominator (DCL)", of_pair("dcl", VIEWS, VIEWS)),
        ("views.first", "the first view's rows alone", first_view),
    ),
    "dcl": (
        ("relative.nt-xent", "the positive kept in the denominator: NT-Xent", of_pair("nt_xent", VIEWS, VIEWS)),
        ("option.sigma", "the weights of sigma left out", option("sigma", None)),
        ("views.first", "the first view's rows alone", first_view),
    ),
    "debiased": (
        ("relative.nt-xent", "the prior ignored: NT-Xent", of_pair("nt_xent", VIEWS, VIEWS)),
        ("views.first", "the first view's rows alone", first_view),
    ),
    "hard_negative": (
        ("relative.nt-xent", "prior and beta ignored: NT-Xent", of_pair("nt_xent", VIEWS, VIEWS)),
        ("relative.debiased", "beta ignored: the debiased loss", of_pair("debiased", VIEWS, VIEWS)),
        ("option.prior", "the prior ignored", option("prior", 0.0)),
        ("views.first", "the first view's rows alone", first_view),
    ),
    "moco": (("queue.batch", "the batch's keys as negatives beside the queue", queue_and_batch),),
    "gte": (
        ("relative.one-way", "InfoNCE from query to document", of_pair("info_nce", PAIR, ("query", "document"))),
        ("relative.clip", TWO_WAY, of_pair("clip", SIDES, ("query", "document"))),
        ("relative.nt-xent", NT_XENT, of_pair("nt_xent", VIEWS, ("query", "document"))),
        ("direction.other", "query and document exchanged", other_direction),
    ),
    "mil_nce": (
        ("option.one-way", "one direction alone", option("symmetric", False)),
        ("option.two-way", "both directions where one is asked for", option("symmetric", True)),
    ),
    "sup_con": tuple(
        (f"option.{variant}", f'the variant "{variant}" whatever is asked for', option("variant", variant))
        for variant in ("out", "in", "sincere")
    ),
    "siglip": (
        ("bias.none", "the bias ignored", changed(bias=0.0)),
        ("bias.default", "the bias ignored: always -10", changed(bias=-10.0)),
        ("relative.clip", TWO_WAY, of_pair("clip", SIDES, SIDES)),
    ),
    "n_pair": (
        ("relative.cosine", "InfoNCE of cosines at temperature 1", of_pair("info_nce", PAIR)),
        ("direction.other", "the other direction, from key to query", other_direction),
        ("direction.mean", "the mean of both directions", directions(0.5)),
    ),
}  # fmt: skip


# --- rows of another form: a function of each row's loss ---------------------------------------------------------------


def of_rows(reference: Reference, form: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Callable[..., Any]:
    """The loss whose rows are `form` of the right ones; `form` gives values and slopes.

    Its gradient is that of the right loss with each row weighted by its slope.
    """

    def predict(at: Situation) -> Outputs | None:
        problem = at.problem
        bare = without(problem, "sample_weight", reduction="none")
        right = reference(bare)
        if right is None:
            return None
        with np.errstate(all="ignore"):
            values, slopes = form(right["loss"])
        weight = problem.arrays.get("sample_weight", np.ones(problem.rows))
        share = weight / np.sum(weight) if problem.reduction == "mean" and np.sum(weight) else weight
        if not np.all(np.isfinite(slopes)):
            return None
        weighted = without(problem, arrays={"sample_weight": share * slopes}, reduction="sum")
        found = reference(weighted)
        if found is None:
            return None
        loss = share * values
        return {**found, "loss": loss if problem.reduction == "none" else np.sum(loss)}

    return predict


def without_positive(loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """softplus(x) → x."""
    return loss + np.log(-np.expm1(-loss)), -1.0 / np.expm1(-loss)


def positive_twice(loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log(1 + e^x) → log(2 + e^x)."""
    return np.log1p(np.exp(loss)), 1.0 / (1.0 + np.exp(-loss))


SOFTPLUS = ("info_nce", "info_nce_from_logits", "nt_xent", "moco", "gte", "mil_nce", "n_pair")
FORMS = {
    "rows.without-positive": ("the positive left out of the denominator (DCL)", without_positive),
    "rows.with-positive-twice": ("the positive twice in the denominator", positive_twice),
}


# --- all of them --------------------------------------------------------------------------------------------------------


def by_convention(loss: str) -> Iterator[Hypothesis]:
    """The right answer in other numbers."""
    exact = Hypothesis("", "", truth)
    for convention in (*conventions(loss), *singular(loss)):
        definition = convention.id.startswith("factor.") and not convention.id.endswith("-1")
        found = combined(exact, convention)
        yield replace(found, id=convention.id, means=convention.alone, rank=0, definition=definition)


def by_definition(loss: str) -> Iterator[Hypothesis]:
    """The reference, asked something else."""
    reference = Reference()

    def rewritten(rewrite: Rewrite) -> Callable[[Situation], Outputs | None]:
        def predict(at: Situation) -> Outputs | None:
            terms = rewrite(at.problem)
            # where it makes no difference, the answer is the right one
            return at.truth if terms is None else reference.total(terms)

        return predict

    for name, words, rewrite in (*EVERYWHERE, *RELATIVES.get(loss, ())):
        definition = name.startswith(("relative.", "direction.", "reading.", "reduction.", "views."))
        yield Hypothesis(name, words, rewritten(rewrite), 1, definition)
    if loss in SOFTPLUS:
        for name, (words, form) in FORMS.items():
            yield Hypothesis(name, words, of_rows(reference, form), 1)


def by_mutant(loss: str) -> Iterator[Hypothesis]:
    """The suite's wrong implementations; ImportError without PyTorch."""
    import torch  # noqa: F401  what they are written in

    from infonce_ref.conformance.mutants import MUTANTS

    for mutant in MUTANTS:
        if getattr(mutant, "loss", "info_nce") != loss or {*mutant.classes} <= NOT_NUMBERS:
            continue
        try:
            replay = Replay(mutant.function, "torch", loss)
        except Unusable:
            continue
        yield Hypothesis(
            id=mutant.id,
            means=getattr(mutant, "means", "") or mutant.story,
            predict=lambda at, replay=replay: replay(factor_free(at.problem)),
            rank=2,
            story=mutant.story + (f" Seen in {mutant.seen}." if mutant.seen else ""),
            native=lambda at, replay=replay: replay(at.problem),
        )


def known(loss: str) -> tuple[list[Hypothesis], str]:
    """Every hypothesis about `loss`, simplest first, and what is missing to have more."""
    found = [*by_convention(loss), *by_definition(loss)]
    try:
        return [*found, *by_mutant(loss)], ""
    except ImportError:
        return found, "the suite's wrong implementations are compared only where PyTorch is installed"
