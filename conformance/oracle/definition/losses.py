"""Every loss: whose pairs its rows compare, and by which formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from mpmath import mp

from infonce_ref.conformance.oracle.definition import candidates, formulas
from infonce_ref.conformance.oracle.definition.candidates import Entry, Pair, Row, free
from infonce_ref.conformance.oracle.definition.formulas import Array, Formula, softmax
from infonce_ref.conformance.oracle.definition.similarity import Call, exact, finite, numbers, similarities, sizes
from infonce_ref.conformance.problem import FORMATS, Problem


def always(row: Row) -> bool:
    """A row counts, with a loss of 0 where it has no negative."""
    return True


def with_a_positive(row: Row) -> bool:
    return bool(row.positive)


def with_a_negative(row: Row) -> bool:
    return bool(row.negative)


class Reach(NamedTuple):
    """How small a loss or a share can become: exponents x of the e^x that are compared with one another."""

    beside: Sequence[Any] = ()  # with the logits of every row
    apart: Sequence[Any] = ()  # among themselves
    power: Any = 1  # of how many shares a gradient may be the product


def softmax_alone(call: Call) -> Reach:
    return Reach()


class Loss(NamedTuple):
    """A loss by its parts."""

    entries: Callable[[Problem], list[Entry]]
    formula: Callable[[Call], Sequence[Formula]]  # of every entry's rows
    counts: Callable[[Row], bool] = always  # whether a row is an anchor; one that isn't has neither loss nor gradient
    reach: Callable[[Call], Reach] = softmax_alone


def plain(formula: Formula) -> Callable[[Call], Sequence[Formula]]:
    """The same formula for every entry."""
    return lambda call: [formula] * len(call.entries)


# --- formulas that depend on more than a row's logits ----------------------------------------------


def soft_targets(call: Call) -> Sequence[Formula]:
    """Weights are the targets, which must be a distribution over the candidates that aren't masked."""
    targets = call.problem.arrays["targets"]
    slack = 4 * targets.shape[1] * FORMATS[call.problem.dtype].unit
    chosen = []
    for i, row in enumerate(exact(finite("targets", targets))):
        if min(row) < 0 or any(t > 0 and not free(call.problem, i, c) for c, t in enumerate(row)):
            raise ValueError("targets must be ≥ 0, and 0 where masked: there is no exact answer")
        if abs(row.sum() - 1) > slack:
            raise ValueError("targets must sum to 1 in every row: there is no exact answer")
        chosen.append(partial(formulas.outside, weight=row[row > 0]))
    return chosen


def sup_con(call: Call) -> Sequence[Formula]:
    """out: every positive weighs the same; in; sincere."""
    variant = call.problem.option("variant")
    if variant == "out":
        return [partial(formulas.outside, weight=equal(len(row.positive))) for (row,) in call.entries]
    return plain({"in": formulas.inside, "sincere": formulas.sincere}[variant])(call)


def equal(count: int) -> Array:
    """`count` weights that sum to 1."""
    return numbers(mp.one / count for _ in range(count))


def decoupled(call: Call) -> Sequence[Formula]:
    """w_i = 1, or with sigma 2 − N softmax_i(sim(a_i, b_i) / σ) of the raw similarities, shared by both views."""
    views = [partial(formulas.decoupled, weight=w) for w in decoupled_weights(call)]
    return views + views


def decoupled_weights(call: Call) -> Array:
    """w of every pair of views, a constant."""
    count = len(call.entries) // 2
    raw = raw_over_sigma(call)
    return numbers([mp.one] * count) if raw is None else numbers(2 - count * softmax(raw))


def raw_over_sigma(call: Call) -> Array | None:
    """sim(a_i, b_i) / σ, without margin; None where there is no sigma."""
    sigma = call.problem.option("sigma")
    pairs = [Pair(("view_a", i), ("view_b", i)) for i in range(len(call.entries) // 2)]
    return None if sigma is None else numbers(similarities(call, pairs) / exact(finite("sigma", sigma)))


def debiased(call: Call) -> Sequence[Formula]:
    """prior, beta (0 where the loss has none), and the floor, cosine's −1/τ."""
    prior, beta = (option(call, name) for name in ("prior", "beta"))
    return plain(partial(formulas.debiased, prior=prior, beta=beta, floor=debiased_floor(call)))(call)


def option(call: Call, name: str) -> Any:
    """A number among the options, 0 where the loss hasn't got it."""
    return exact(finite(name, call.problem.options.get(name, 0.0)))


def debiased_floor(call: Call) -> Any:
    """The lowest logit that the similarity can have; −∞ where there is none."""
    return -1 / call.tau if call.problem.similarity == "cosine" else mp.ninf


def hinge(call: Call) -> Sequence[Formula]:
    """With the size of the terms that its differences are made of."""
    chosen = []
    for (row,) in call.entries:
        size = sizes(call, row.negative) + sizes(call, row.positive)[0] + abs(call.margin)
        chosen.append(partial(formulas.hinge, size=size))
    return chosen


# --- reaches ---------------------------------------------------------------------------------------


def products(call: Call) -> Reach:
    """The share of a positive among its like, times that of the negatives."""
    return Reach(power=2)


def soft_reach(call: Call) -> Reach:
    """Softmaxes and targets."""
    targets = call.problem.arrays["targets"]
    return Reach(apart=[mp.zero, *formulas.log(exact(targets[targets > 0]))], power=2)


def decoupled_reach(call: Call) -> Reach:
    """The softmax that the weights come from."""
    raw = raw_over_sigma(call)
    return Reach(apart=() if raw is None else list(raw))


def debiased_reach(call: Call) -> Reach:
    """The floor, if any, and a bracket over it; weights that are powers of e^s."""
    floor = debiased_floor(call)
    return Reach(beside=() if floor == mp.ninf else (floor,), power=2 + option(call, "beta"))


def paired_reach(call: Call) -> Reach:
    """log(1 + e^s)."""
    return Reach(beside=(mp.zero,))


def hinge_reach(call: Call) -> Reach:
    """A margin beside similarities of 1: it decides where they are equal."""
    return Reach(apart=() if call.margin == 0 else (mp.zero, mp.log(abs(call.margin))))


LOSSES: Mapping[str, Loss] = {
    "info_nce": Loss(candidates.info_nce, plain(formulas.bag)),
    "info_nce_from_logits": Loss(candidates.info_nce_from_logits, plain(formulas.bag)),
    "clip": Loss(candidates.clip, plain(formulas.bag)),
    "nt_xent": Loss(candidates.two_views, plain(formulas.bag)),
    "dcl": Loss(candidates.two_views, decoupled, with_a_negative, decoupled_reach),
    "debiased": Loss(candidates.two_views, debiased, reach=debiased_reach),
    "hard_negative": Loss(candidates.two_views, debiased, reach=debiased_reach),
    "moco": Loss(candidates.moco, plain(formulas.bag)),
    "gte": Loss(candidates.gte, plain(formulas.bag)),
    "mil_nce": Loss(candidates.mil_nce, plain(formulas.bag), reach=products),
    "soft_nce": Loss(candidates.soft_nce, soft_targets, reach=soft_reach),
    "sup_con": Loss(candidates.sup_con, sup_con, with_a_positive, products),
    "siglip": Loss(candidates.siglip, plain(formulas.paired), reach=paired_reach),
    "triplet": Loss(candidates.info_nce, hinge, with_a_negative, hinge_reach),
    "n_pair": Loss(candidates.info_nce, plain(formulas.bag)),
    "matryoshka": Loss(candidates.info_nce, plain(formulas.bag)),  # of every part: `nested`
}
