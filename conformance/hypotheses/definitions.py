"""Other definitions: the reference asked something else, in float64.

Another loss of the same arrays, another direction, another reading of negatives, another temperature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import infonce_ref
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.hypotheses.base import Hypothesis, Outputs, Predict, Replay, Situation
from infonce_ref.conformance.problem import Problem


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
        return self.replays[problem.loss](problem.in_dtype("float64"))

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


def always(fixed: float) -> Rewrite:
    return temperature_as(lambda _: fixed, lambda _: 0.0)


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


USUAL_TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.07, 0.05)

# What is the same for every loss: id, words, rewrite. The words complete: your outputs equal …
EVERYWHERE: tuple[tuple[str, str, Rewrite], ...] = (
    ("similarity.none", "no normalisation: inner products for cosines", similarity("cosine", "dot")),
    ("similarity.always", "rows normalised where inner products are asked for", similarity("dot", "cosine")),
    ("tau.inverse", "the temperature multiplied, not divided by", temperature_as(lambda t: 1 / t, lambda t: -1 / t**2)),
    ("tau.squared", "the temperature applied twice", temperature_as(lambda t: t * t, lambda t: 2 * t)),
    ("tau.root", "the temperature's square root for it", temperature_as(math.sqrt, lambda t: 0.5 / math.sqrt(t))),
    ("tau.half", "half the temperature", temperature_as(lambda t: t / 2, lambda t: 0.5)),
    ("tau.double", "twice the temperature", temperature_as(lambda t: 2 * t, lambda t: 2.0)),
    *((f"tau.{fixed}", f"the temperature ignored: always {fixed}", always(fixed)) for fixed in USUAL_TEMPERATURES),
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


def of_pair(loss: str, theirs: tuple[str, str], ours: tuple[str, str] = PAIR, **changes: Any) -> Rewrite:
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
        other = as_loss(problem, loss, names, options=options, **changes)
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


def weighted_by(share: Callable[[list[float]], list[float]]) -> Rewrite:
    """Other weights of the dimensions, from those that are given or 1 each."""

    def rewrite(problem: Problem) -> list[Term] | None:
        given = problem.option("weights") or [1.0] * len(problem.option("dims"))
        return [Term(replace(problem, options={**problem.options, "weights": share(given)}))] if sum(given) else None

    return rewrite


def longest_alone(problem: Problem) -> list[Term]:
    return [Term(replace(problem, options={"dims": [max(problem.option("dims"))]}))]


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
        ("relative.gte", "GTE's loss, with negatives of all four kinds", of_pair("gte", ("query", "document"))),
        ("reading.in-batch", "explicit negatives left out, those of the batch used", explicit(True, "none")),
        ("reading.explicit", "explicit negatives alone, without those of the batch", explicit(False, "same")),
        ("reading.both", "the batch's keys as negatives beside the explicit ones", explicit(True, "same")),
        ("reading.shared", "each query's own negatives shared by all", explicit(False, "shared")),
        ("reading.shared-too", "own negatives shared by all, beside the batch's", explicit(True, "shared")),
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
        ("relative.cosine", "InfoNCE of cosines at temperature 1", of_pair("info_nce", PAIR, similarity="cosine")),
        ("direction.other", "the other direction, from key to query", other_direction),
        ("direction.mean", "the mean of both directions", directions(0.5)),
    ),
    "matryoshka": (
        ("relative.mean", "the mean over the dimensions", weighted_by(lambda w: [x / len(w) for x in w])),
        ("relative.weighted-mean", "weights that sum to 1", weighted_by(lambda w: [x / sum(w) for x in w])),
        ("option.weights", "the weights of the dimensions ignored", option("weights", None)),
        ("option.longest", "the longest dimension alone, its weight ignored", longest_alone),
        ("direction.other", "the other direction, from key to query", other_direction),
        ("direction.mean", TWO_WAY, directions(0.5)),
    ),
}


# --- rows of another form: a function of each row's loss ------------------------------------------------------------


def of_rows(reference: Reference, form: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Predict:
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


def by_definition(loss: str) -> Iterator[Hypothesis]:
    """The reference, asked something else."""
    reference = Reference()

    def rewritten(rewrite: Rewrite) -> Predict:
        def predict(at: Situation) -> Outputs | None:
            terms = rewrite(at.problem)
            # where it makes no difference, the answer is the right one
            return at.truth if terms is None else reference.total(terms)

        return predict

    for name, words, rewrite in (*EVERYWHERE, *RELATIVES.get(loss, ())):
        definition = name.startswith(("relative.", "direction.", "reading.", "reduction.", "views."))
        yield Hypothesis(f"definition:{name}", words, rewritten(rewrite), 1, definition)
    if loss in SOFTPLUS:
        for name, (words, form) in FORMS.items():
            yield Hypothesis(f"definition:{name}", words, of_rows(reference, form), 1)
