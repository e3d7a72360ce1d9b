"""Correct textbook implementations of every loss in torch, in many orders of evaluation, and wrong ones.

A score order (`zoo`'s) says how logits come from rows, a form how a row's logits are summed; the loss's own function
puts them together as public code does, and torch differentiates. Written without a look at the bounds' layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import array_api_compat.torch as torch_namespace
import numpy as np
import torch

from infonce_ref.conformance.family import KINDS as ARGUMENT_KINDS
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.problem import FORMATS, Problem
from tests.suite import zoo

Tensor = torch.Tensor
Outputs = dict[str, np.ndarray]
INF = float("inf")


# -------------------------------------------------------------------------------------------- sums of exponentials


def library(rows: Tensor, among: Tensor) -> Tensor:
    return torch.logsumexp(torch.where(among, rows, -INF), 1)


def through_log_softmax(rows: Tensor, among: Tensor) -> Tensor:
    """What log_softmax takes off its largest entry."""
    hidden = torch.where(among, rows, -INF)
    column = hidden.argmax(1, keepdim=True)
    return (torch.gather(hidden, 1, column) - torch.gather(torch.log_softmax(hidden, 1), 1, column))[:, 0]


def by_hand(rows: Tensor, among: Tensor) -> Tensor:
    """The maximum a constant, and the sum from the last to the first."""
    top = torch.where(among, rows, -INF).max(1, keepdim=True).values.detach()
    weights = torch.exp(torch.where(among, rows - top, -INF))
    total = weights[:, -1]
    for column in range(rows.shape[1] - 2, -1, -1):
        total = total + weights[:, column]
    return top[:, 0] + torch.log(total)


def seen_by_all(rows: Tensor, among: Tensor) -> Tensor:
    """As SupCon's code has it: the maximum over all columns, excluded ones too, which are then multiplied by 0."""
    if not calm(rows):
        return library(rows, among)
    top = rows.max(1, keepdim=True).values.detach()
    return top[:, 0] + torch.log((torch.exp(rows - top) * among.to(rows.dtype)).sum(1))


def calm(rows: Tensor) -> bool:
    """Whether exp(s) is far from overflow and from underflow: no code that takes it is correct elsewhere."""
    return bool((rows.abs() < 40).all())


def unshifted(rows: Tensor, among: Tensor) -> Tensor:
    """No maximum taken off at all."""
    if not calm(rows):
        return library(rows, among)
    return torch.log(torch.where(among, torch.exp(torch.where(among, rows, 0.0)), 0.0).sum(1))


def by_blocks(rows: Tensor, among: Tensor) -> Tensor:
    """Running maximum and sum, five columns at a time."""
    top, total = torch.full_like(rows[:, 0], -1e30), torch.zeros_like(rows[:, 0])
    for start in range(0, rows.shape[1], 5):
        part = torch.where(among[:, start : start + 5], rows[:, start : start + 5], -INF)
        new = torch.maximum(top, part.max(1).values).detach()
        total = total * torch.exp(top - new) + torch.exp(part - new[:, None]).sum(1)
        top = new
    return top + torch.log(total)


@dataclass(frozen=True)
class Order:
    """How everything is evaluated."""

    scores: Callable[..., Any]
    lse: Callable[[Tensor, Tensor], Tensor]
    form: int = 0  # which of a loss's usual formulas
    precise: bool = False  # differences of similarities before the temperature, and no cancellation after it
    recast: bool = False  # half formats: every use of an argument widened, and so its gradient narrowed, on its own


ORDERS: dict[str, Order] = {
    "usual": Order(zoo.usual, library),
    "log_softmax": Order(zoo.norms_after, through_log_softmax, 1),
    "by_hand": Order(zoo.divide_first, by_hand, 2, recast=True),
    "reversed": Order(zoo.reversed_sum, by_hand),
    "seen_by_all": Order(zoo.reciprocal, seen_by_all, 1),  # of losses whose rows stand among their own candidates
    "unshifted": Order(zoo.reciprocal_norm, unshifted, 2),
    "blocks": Order(zoo.root_on_both_sides, by_blocks, 1, recast=True),
    "einsum": Order(zoo.einsum, library, 2),
}


# -------------------------------------------------------------------------------------------------- what is given


@dataclass
class Given:
    """A problem in torch: differentiable arguments by name, and its order."""

    problem: Problem
    order: Order
    leaves: Mapping[str, Tensor]
    computed: torch.dtype

    def __getitem__(self, name: str) -> Any:
        """An argument in the compute dtype; None where the problem has none."""
        if name not in self.leaves:
            return None
        return self.leaves[name].to(self.computed)

    def flags(self, name: str, *shape: int) -> Tensor:
        """A mask, all True where there is none."""
        given = self.problem.arrays.get(name)
        return torch.ones(shape, dtype=torch.bool) if given is None else torch.tensor(given)

    @property
    def tau(self) -> Tensor:
        """The temperature that logits are divided by at once."""
        given = None if self.order.precise else self["temperature"]
        return torch.ones((), dtype=self.computed) if given is None else given

    def logits(self, left: Tensor, right: Tensor) -> Tensor:
        """sim / temperature."""
        inputs = {"query": left, "temperature": self.tau, "bilinear_weight": self["bilinear_weight"]}
        at = zoo.Setting(torch_namespace, self.problem.similarity, None, None, None, True)
        return self.order.scores(at, inputs, right)

    def less_margin(self, rows: Tensor, positive: Tensor) -> Tensor:
        margin = self["margin"]
        return rows if margin is None else rows - torch.where(positive, margin / self.tau, 0.0)

    def number(self, name: str) -> Any:
        return self.problem.option(name)


@dataclass(frozen=True)
class Entries:
    """Losses, and which of them count (None: all)."""

    losses: Tensor
    counted: Tensor | None = None


def pick(rows: Tensor, flags: Tensor) -> Tensor:
    return torch.where(flags, rows, 0.0).sum(1)


def eye(count: int, columns: int | None = None) -> Tensor:
    return torch.eye(count, columns or count, dtype=torch.bool)


# ---------------------------------------------------------------------------------------------- rows of a softmax


def one_positive(given: Given, rows: Tensor, active: Tensor, positive: Tensor) -> Tensor:
    """Three usual formulas of InfoNCE."""
    active = active | positive
    if given.order.precise:
        return softplus_of(given, rows, active, positive)
    if given.order.form == 0:
        return given.order.lse(rows, active) - pick(rows, positive)
    if given.order.form == 1:
        return -pick(rows - given.order.lse(rows, active)[:, None], positive)
    shifted = rows - pick(rows, positive)[:, None].detach()
    return given.order.lse(shifted, active) - pick(shifted, positive)


def bag(given: Given, rows: Tensor, active: Tensor, positive: Tensor) -> Tensor:
    """Several positives in the numerator."""
    active = active | positive
    if given.order.precise:
        return softplus_of(given, rows, active, positive)
    whole = given.order.lse(rows, active)
    if given.order.form == 1 and calm(rows):
        return -torch.log(torch.where(positive, torch.exp(rows - whole[:, None]), 0.0).sum(1))
    if given.order.form == 2 and calm(rows) and bool((active & ~positive).any(1).all()):
        return torch.log(1 + torch.exp(given.order.lse(rows, active & ~positive) - given.order.lse(rows, positive)))
    return whole - given.order.lse(rows, positive)


def mean_of_positives(given: Given, rows: Tensor, active: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy."""
    if given.order.precise:
        return precise_targets(given, rows, active, weights)
    whole = given.order.lse(rows, active | (weights > 0))
    if given.order.form == 1:
        return -(torch.where(weights > 0, rows - whole[:, None], 0.0) * weights).sum(1)
    if given.order.form == 2:
        return (weights * torch.where(weights > 0, whole[:, None] - rows, 0.0)).sum(1)
    return weights.sum(1) * whole - torch.where(weights > 0, rows * weights, 0.0).sum(1)


# --------------------------------------------------------------------------------------------------- the losses


def info_nce(given: Given) -> Entries:
    query, keys, negatives = given["query"], given["positive_key"], given["negative_keys"]
    count, width = len(query), len(keys)
    rows = given.logits(query, keys)
    if negatives is not None:
        rows = torch.cat([rows, given.logits(query, negatives)], 1)
    index = torch.as_tensor(given.problem.arrays.get("positive_index", np.arange(count)))
    positive = torch.zeros(rows.shape, dtype=torch.bool)
    positive[torch.arange(count), index] = True
    active = torch.ones(rows.shape, dtype=torch.bool)
    active[:, :width] = given.problem.in_batch_negatives
    if "candidate_mask" in given.problem.arrays:
        mask = given.flags("candidate_mask")
        active[:, -mask.shape[1] :] &= mask
    rows = given.less_margin(rows, positive)
    if given.problem.loss == "triplet":
        return hinge(given, rows, active & ~positive, positive)
    bias = given["logit_bias"]
    if bias is None:
        return Entries(one_positive(given, rows, active, positive))
    bias = torch.cat([torch.zeros(rows.shape[1] - len(bias), dtype=bias.dtype), bias])
    if given.order.precise:
        return Entries(softplus_of(given, rows, active, positive, bias))
    return Entries(one_positive(given, rows + bias, active, positive))


def moco(given: Given) -> Entries:
    query, key, queue = given["query"], given["positive_key"], given["queue"]
    if given.order.form == 1:
        own = given.logits(query, key[:, None, :])
    else:
        own = given.logits(query, key).diagonal()[:, None]
    rows = torch.cat([own, given.logits(query, queue)], 1)
    positive = torch.zeros(rows.shape, dtype=torch.bool)
    positive[:, 0] = True
    return Entries(one_positive(given, given.less_margin(rows, positive), ~positive, positive))


def from_logits(given: Given) -> Entries:
    logits = given["logits"]
    rows = logits * (1 / given.tau) if given.order.form == 1 else logits / given.tau
    index = torch.as_tensor(given.problem.arrays.get("positive_index", np.arange(len(rows))))
    positive = torch.zeros(rows.shape, dtype=torch.bool)
    positive[torch.arange(len(rows)), index] = True
    rows = given.less_margin(rows, positive)
    return Entries(one_positive(given, rows, given.flags("candidate_mask", *rows.shape), positive))


def clip(given: Given) -> Entries:
    """One matrix and its transpose, or two matrices."""
    count = len(given["image"])
    mask = given.flags("candidate_mask", count, count)
    first = given.logits(given["image"], given["text"])
    second = given.logits(given["text"], given["image"]) if given.order.form == 1 else first.T
    found = []
    for rows, own, explicit, allowed in (
        (first, "image", "negative_texts", mask),
        (second, "text", "negative_images", mask.T),
    ):
        if given[explicit] is not None:
            more = given.logits(given[own], given[explicit])
            rows, allowed = torch.cat([rows, more], 1), torch.cat([allowed, torch.ones(more.shape, dtype=bool)], 1)
        positive = eye(count, rows.shape[1])
        found.append(one_positive(given, given.less_margin(rows, positive), allowed, positive))
    return Entries((found[0] + found[1]) / 2)


def two_views(given: Given) -> tuple[Tensor, Tensor, Tensor]:
    """The 2N x 2N matrix as one product or as four; candidates; positives."""
    a, b = given["view_a"], given["view_b"]
    if given.order.form == 1:
        top = torch.cat([given.logits(a, a), given.logits(a, b)], 1)
        rows = torch.cat([top, torch.cat([given.logits(b, a), given.logits(b, b)], 1)])
    else:
        both = torch.cat([a, b])
        rows = given.logits(both, both)
    count = len(rows)
    active = given.flags("candidate_mask", count, count) & ~eye(count)
    return rows, active, eye(count).roll(count // 2, 1)


def nt_xent(given: Given) -> Entries:
    rows, active, positive = two_views(given)
    return Entries(one_positive(given, given.less_margin(rows, positive), active, positive))


def dcl(given: Given) -> Entries:
    rows, active, positive = two_views(given)
    negative = active & ~positive
    counted = negative.any(1)
    weight = torch.ones((), dtype=rows.dtype)
    if given.number("sigma") is not None:
        a, b = given["view_a"].detach(), given["view_b"].detach()
        if given.problem.similarity == "cosine":
            a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
        weight = (2 - len(a) * torch.softmax((a * b).sum(1) / given.number("sigma"), 0)).repeat(2)[counted]
    kept, negative = given.less_margin(rows, positive)[counted], negative[counted]
    own = pick(kept, positive[counted])
    found = given.order.lse(kept, negative)
    found = found - weight * own if given.order.form != 1 else -weight * own + found
    return Entries(torch.zeros(len(rows), dtype=rows.dtype).masked_scatter(counted, found), counted)


def debiased(given: Given) -> Entries:
    """Chuang's and Robinson's code with the floor, or in logarithms."""
    rows, active, positive = two_views(given)
    negative = active & ~positive
    prior, beta = given.number("prior"), given.problem.options.get("beta", 0.0)
    counts = negative.sum(1)
    some, own = counts > 0, pick(rows, positive)
    floor = torch.exp(-1 / given.tau) if given.problem.similarity == "cosine" else torch.zeros((), dtype=rows.dtype)
    rows, negative, own, counts = rows[some], negative[some], own[some], counts[some].to(rows.dtype)
    if given.order.form == 2 or not calm((1 + 2 * beta) * rows):
        sharp, flat = given.order.lse((1 + beta) * rows, negative), given.order.lse(beta * rows, negative)
        exponent = sharp - flat
        c = own + float(np.log(prior)) - exponent if prior else torch.full_like(own, -INF)
        above = c < 0
        log_data = exponent + torch.log1p(-torch.exp(torch.where(above, c, -1.0))) - float(np.log1p(-prior))
        log_floor = -1 / given.tau if given.problem.similarity == "cosine" else torch.tensor(-INF, dtype=rows.dtype)
        log_g = torch.where(above & (log_data >= log_floor), log_data, log_floor)
        x = torch.log(counts) + log_g - own
        found = torch.clamp(x, min=0) + torch.log1p(torch.exp(-abs(x)))
    else:
        e = torch.where(negative, torch.exp(torch.where(negative, rows, 0.0)), 0.0)
        pos = torch.exp(own)
        if given.order.form == 1:
            weights = torch.where(negative, torch.exp(beta * torch.log(torch.where(negative, e, 1.0))), 0.0)
        else:
            weights = torch.where(negative, torch.exp(beta * torch.where(negative, rows, 0.0)), 0.0)
        mean = (weights * e).sum(1) / (weights.sum(1) / counts)
        bracket = (-prior * counts * pos + mean) / (1 - prior)
        ng = torch.where(bracket >= counts * floor, bracket, counts * floor)
        found = -torch.log(pos / (pos + ng))
    return Entries(torch.zeros(len(some), dtype=rows.dtype).masked_scatter(some, found))


def gte(given: Given) -> Entries:
    query, document = given["query"], given["document"]
    count = len(query)
    crossed = given.logits(query, document)
    back = given.logits(document, query) if given.order.form == 1 else crossed.T
    rows = torch.cat([crossed, given.logits(query, query), back, given.logits(document, document)], 1)
    active = given.flags("candidate_mask", *rows.shape) & ~eye(count).repeat(1, 4)
    positive = eye(count, 4 * count)
    return Entries(one_positive(given, given.less_margin(rows, positive), active, positive))


def mil_nce(given: Given) -> Entries:
    query, bags = given["query"], given["positive_bags"]
    count, size = bags.shape[:2]
    mask = given.flags("candidate_mask", count, count, size)
    rows = given.logits(query, bags.reshape(count * size, -1))
    positive = eye(count).repeat_interleave(size, 1)
    rows = given.less_margin(rows, positive)
    found = bag(given, rows, mask.reshape(count, -1), positive)
    if not given.number("symmetric"):
        return Entries(found)
    turned = rows.reshape(count, count, size).transpose(0, 1).reshape(count, -1)
    if given.order.form == 1:
        fresh = given.logits(bags.reshape(count * size, -1), query).reshape(count, size, count).transpose(1, 2)
        turned = given.less_margin(fresh.reshape(count, -1), positive)
    return Entries((found + bag(given, turned, mask.transpose(0, 1).reshape(count, -1), positive)) / 2)


def soft_nce(given: Given) -> Entries:
    rows = given.logits(given["query"], given["keys"])
    active = given.flags("candidate_mask", *rows.shape)
    weights = torch.tensor(given.problem.arrays["targets"], dtype=rows.dtype)
    return Entries(mean_of_positives(given, rows, active, weights))


def sup_con(given: Given) -> Entries:
    features, keys = given["features"], given["keys"]
    labels = torch.as_tensor(given.problem.arrays["labels"])
    other = labels if keys is None else torch.as_tensor(given.problem.arrays["key_labels"])
    rows = given.logits(features, features if keys is None else keys)
    same = labels[:, None] == other[None, :]
    self = torch.zeros_like(same) if keys is not None else eye(len(labels))
    positive, negative = same & ~self, ~same & given.flags("candidate_mask", *same.shape)
    rows, counted = given.less_margin(rows, positive), positive.any(1)
    kept, positive, negative = rows[counted], positive[counted], negative[counted]
    sizes = positive.sum(1).to(rows.dtype)
    variant = given.number("variant")
    if variant == "out":
        weights = positive / sizes[:, None]
        if given.order.form == 1:  # the code of the paper: a masked sum, divided at the end
            found = -(positive * (kept - given.order.lse(kept, positive | negative)[:, None])).sum(1) / sizes
        else:
            found = mean_of_positives(given, kept, negative, weights)
    elif variant == "in":
        found = bag(given, kept, negative, positive) + torch.log(sizes)
    else:
        each = torch.zeros_like(kept)
        for column in range(kept.shape[1]):
            hit = positive[:, column]
            one = eye(kept.shape[1])[column].expand(int(hit.sum()), -1)
            if hit.any():
                part = one_positive(given, kept[hit], negative[hit], one)
                each = each + torch.zeros_like(kept).masked_scatter(hit[:, None] & one[:1], part)
        found = each.sum(1) / sizes if given.order.form else (each / sizes[:, None]).sum(1)
    return Entries(torch.zeros(len(rows), dtype=rows.dtype).masked_scatter(counted, found), counted)


def siglip(given: Given) -> Entries:
    rows = given.logits(given["image"], given["text"]) + given["bias"]
    count = len(rows)
    active, sign = given.flags("candidate_mask", count, count) | eye(count), 2 * eye(count).to(rows.dtype) - 1
    z = sign * rows
    if given.order.form == 0 or not calm(rows):
        each = -torch.nn.functional.logsigmoid(z)
    elif given.order.form == 1:
        each = torch.log(1 + torch.exp(-z))
    else:
        each = -torch.log(1 / (1 + torch.exp(-z)))
    return Entries(torch.where(active, each, 0.0).sum(1))


def hinge(given: Given, rows: Tensor, negative: Tensor, positive: Tensor) -> Entries:
    counted = negative.any(1)
    own = pick(rows, positive)[:, None]
    gap = torch.relu(rows - own)
    if given.order.form == 1:
        gap = torch.where(rows > own, rows - own, 0.0)
    if given.order.form == 2:
        gap = torch.clamp(-(own - rows), min=0.0)
    sums = torch.where(negative, gap, 0.0).sum(1)
    sizes = torch.clamp(negative.sum(1), min=1).to(rows.dtype)
    return Entries(sums / sizes, counted)


def matryoshka(given: Given) -> Entries:
    """A sum of row losses, in or against the order of dims; or the rows' losses side by side, times the weights."""
    dims, width = given.number("dims"), given["query"].shape[1]
    weights = given.number("weights") or [1.0] * len(dims)
    parts = list(zip(weights, dims, strict=True))
    if given.order.form == 2:
        rows = torch.stack([info_nce(Cut.of(given, d)).losses for d in dims], 1)
        return Entries((rows * torch.tensor(weights, dtype=rows.dtype)).sum(1))
    total = torch.zeros(len(given["query"]), dtype=given.computed)
    for w, d in parts if given.order.form == 0 else parts[::-1]:
        total = total + w * info_nce(given if d == width else Cut.of(given, d)).losses
    return Entries(total)


@dataclass
class Cut(Given):
    """The first coordinates of every embedding."""

    length: int = 0

    @classmethod
    def of(cls, given: Given, length: int) -> Cut:
        return cls(given.problem, given.order, given.leaves, given.computed, length)

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        return found if found is None or ARGUMENT_KINDS.get(name) != "embedding" else found[..., : self.length]


FUNCTIONS: dict[str, Callable[[Given], Entries]] = {
    **dict.fromkeys(("info_nce", "triplet", "n_pair"), info_nce),
    **dict.fromkeys(("debiased", "hard_negative"), debiased),
    "info_nce_from_logits": from_logits,
    "clip": clip,
    "nt_xent": nt_xent,
    "dcl": dcl,
    "moco": moco,
    "gte": gte,
    "mil_nce": mil_nce,
    "soft_nce": soft_nce,
    "sup_con": sup_con,
    "siglip": siglip,
    "matryoshka": matryoshka,
}


# ------------------------------------------------------------------------------------------------- running one


class Recast(Given):
    """Every use of an argument is widened on its own: its gradient is narrowed in parts."""

    def logits(self, left: Tensor, right: Tensor) -> Tensor:
        def narrowed(x: Tensor) -> Tensor:
            stored = getattr(torch, self.problem.dtype)
            return x.to(stored).to(self.computed) if x.dtype != stored else x

        return super().logits(narrowed(left), narrowed(right))


def reduced(problem: Problem, entries: Entries, dtype: torch.dtype) -> Tensor:
    """By weights and by what counts."""
    count = len(entries.losses)
    weights = torch.tensor(problem.arrays.get("sample_weight", np.ones(count)), dtype=dtype)
    if entries.counted is not None:
        weights = torch.where(entries.counted, weights, 0.0)
    losses = entries.losses * weights
    if problem.reduction == "none":
        return losses
    whole = weights.sum()
    return losses.sum() if problem.reduction == "sum" or whole == 0 else losses.sum() / whole


Implementation = Callable[[Problem, str], Outputs]


def run(problem: Problem, dtype: str, order: Order, function: Callable[[Given], Entries] | None = None) -> Outputs:
    """The loss and its gradients, computed in `dtype` (half formats: stored in it) and differentiated by torch."""
    stored, computed = getattr(torch, dtype), torch.float64 if dtype == "float64" else torch.float32
    numbers = {name: getattr(problem, name) for name in ("temperature", "margin", "bias")}
    leaves = {
        name: torch.tensor(numbers.get(name, problem.arrays.get(name)), dtype=stored, requires_grad=True)
        for name in problem.differentiable
    }
    kind = Recast if order.recast and dtype != FORMATS[dtype].compute else Given
    given = kind(replace(problem, dtype=dtype), order, leaves, computed)
    loss = reduced(problem, (function or FUNCTIONS[problem.loss])(given), computed)
    (loss.sum() + sum(0 * leaf.sum() for leaf in leaves.values())).backward()
    return {"loss": loss.detach().double().numpy()} | {
        name: leaf.grad.double().numpy() for name, leaf in leaves.items()
    }


SELF = ("nt_xent", "dcl", "debiased", "hard_negative", "gte", "sup_con")  # losses whose matrix holds a row with itself


def textbook(loss: str) -> dict[str, Implementation]:
    """Every order; a maximum over excluded columns only where public code takes one."""
    return {name: bind(order) for name, order in ORDERS.items() if loss in SELF or order.lse is not seen_by_all}


def bind(order: Order) -> Implementation:
    return lambda problem, dtype: run(problem, dtype, order)


# ---------------------------------------------------------------------------------------- without cancellation


def softplus_of(given: Given, rows: Tensor, active: Tensor, positive: Tensor, bias: Tensor | None = None) -> Tensor:
    """softplus of the negatives' logsumexp less the positives', all taken from the largest positive."""
    negative = active & ~positive
    some = negative.any(1)
    kept, negative, positive = rows[some], negative[some], positive[some]
    top = torch.where(positive, kept, -INF).argmax(1, keepdim=True)
    differences = (kept - torch.gather(kept, 1, top)) / (1.0 if given["temperature"] is None else given["temperature"])
    if bias is not None:
        differences = differences + (bias - bias[top])
    x = given.order.lse(differences, negative)
    if bool((positive.sum(1) > 1).any()):
        x = x - given.order.lse(differences, positive)
    found = torch.where(x > 0, x, 0.0) + torch.log1p(torch.exp(torch.where(x > 0, -x, x)))
    return torch.zeros(len(rows), dtype=rows.dtype).masked_scatter(some, found)


def precise_targets(given: Given, rows: Tensor, active: Tensor, weights: Tensor) -> Tensor:
    """Everything taken from the largest logit; no term is negative."""
    top = torch.where(active, rows, -INF).argmax(1, keepdim=True)
    differences = (rows - torch.gather(rows, 1, top)) / given["temperature"]
    rest = active & ~torch.zeros_like(active).scatter(1, top, True)
    odds = torch.where(rest, torch.exp(torch.where(rest, differences, 0.0)), 0.0).sum(1)
    return weights.sum(1) * torch.log1p(odds) - torch.where(rest, weights * differences, 0.0).sum(1)


PRECISE_ORDERS: dict[str, Order] = {
    "softplus": Order(zoo.usual, by_hand, precise=True),
    "softplus_reversed": Order(zoo.reversed_sum, by_hand, 1, precise=True),
    "softplus_library": Order(zoo.reciprocal_norm, library, precise=True),
}
PRECISE_LOSSES = (
    "info_nce", "info_nce_from_logits", "clip", "nt_xent", "moco", "gte", "mil_nce", "soft_nce", "sup_con", "n_pair",
    "matryoshka",
)  # fmt: skip


def precise() -> dict[str, Implementation]:
    """The forms that promise relative accuracy."""
    return {name: bind(order) for name, order in PRECISE_ORDERS.items()}


# ------------------------------------------------------------------------------------------------------ inputs


CLASSES = (
    "benign", "benign-dot", "sharp-tau-0.01", "aligned-tau-0.01", "aligned", "collapsed", "anti", "norms",
    "masks", "masks-tau-0.07", "margin", "margin-dot", "weights", "weights-none-masks", "sum", "extras",
    "extras-masks-margin-weights", "single", "tau-100", "floor", "kink", "steep",
)  # fmt: skip


def problem_of(loss: str, kind: str, seed: int, dtype: str = "float32") -> Problem:
    """One problem of a class; "extras" brings what the loss has of optional arrays and options."""
    rng = np.random.default_rng([seed, *loss.encode(), *kind.encode()])
    words, entry = kind.split("-"), LOSSES[loss]
    rows, dim = int(rng.choice([3, 5, 8])), int(rng.choice([2, 7, 16]))
    rows = 1 if "single" in words else rows
    temperature = float(rng.choice([0.0625, 0.125, 0.5, 1.0]))
    if "tau" in words:
        temperature = float(zoo.rounded(np.array(float(words[words.index("tau") + 1])), dtype))
    if "floor" in words:
        temperature = 0.75  # below, a floor is too small to be seen
    extras = "extras" in words
    left, right = rng.standard_normal((2, rows, dim))
    if "aligned" in words:
        right = left + 0.05 * right
    if "anti" in words:
        right = 0.05 * right - left
    if "collapsed" in words:
        left, right = (left[:1] + 1e-3 * x * rng.integers(0, 2) for x in (left, right))
    if "norms" in words:
        left, right = (x * 10.0 ** rng.uniform(-1.5, 1.5, (len(x), 1)) for x in (left, right))
    arrays: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if loss in ("nt_xent", "dcl", "debiased", "hard_negative"):
        arrays |= {"view_a": left, "view_b": right}
        if loss == "dcl" and extras:
            options["sigma"] = 0.5
        if loss in ("debiased", "hard_negative"):
            options["prior"] = 0.0 if "dot" in words else float(rng.choice([0.0, 0.0625, 0.125]))
        if loss == "hard_negative":
            options["beta"] = float(rng.choice([0.0, 0.5, 1.0]))
        if loss in ("debiased", "hard_negative") and {"floor", "kink", "steep"} & set(words):
            arrays["view_b"] = left + 0.3 * right
            short = {"floor": 1.5, "kink": 1.0, "steep": 1 - 2.0**-10}[kind]
            prior = short * critical_prior(arrays, temperature, options.get("beta", 0.0), dtype)
            options["prior"] = float(zoo.rounded(np.array(prior), dtype))
    elif loss in ("clip", "siglip"):
        arrays |= {"image": left, "text": right}
        if loss == "clip" and extras:
            arrays["negative_texts"] = rng.standard_normal((4, dim))
            arrays["negative_images"] = rng.standard_normal((rows, 2, dim))
    elif loss == "gte":
        arrays |= {"query": left, "document": right}
    elif loss == "mil_nce":
        size = int(rng.choice([1, 3]))
        bags = right[:, None, :] + 0.1 * rng.standard_normal((rows, size, dim))
        arrays |= {"query": left, "positive_bags": bags}
        if extras:
            options["symmetric"] = True
    elif loss == "soft_nce":
        keys = np.concatenate([right, rng.standard_normal((3, dim))])
        arrays |= {"query": left, "keys": keys, "targets": targets(rng, rows, len(keys), "aligned" in words)}
    elif loss == "sup_con":
        options["variant"] = str(rng.choice(["out", "in", "sincere"]))
        arrays |= {"features": np.concatenate([left, right]), "labels": np.tile(rng.integers(0, rows, rows), 2)}
        if "single" in words:
            arrays["labels"] = np.array([0, 1])
        if extras:
            arrays |= {"keys": rng.standard_normal((6, dim)), "key_labels": rng.integers(0, rows, 6)}
    elif loss == "info_nce_from_logits":
        arrays["logits"] = rng.standard_normal((rows, rows + 2)) * (10 if "anti" in words else 1)
        if "aligned" in words:
            arrays["logits"] = 0.1 * arrays["logits"] + np.eye(rows, rows + 2)
        if extras:
            arrays["positive_index"] = rng.integers(0, rows + 2, rows)
    else:
        if "kink" in words:
            right = right[rng.integers(0, max(1, rows // 2), rows)]
        arrays |= {"query": left, "positive_key": right}
        if loss == "moco":
            arrays["queue"] = rng.standard_normal((5, dim))
        if loss == "matryoshka":
            options["dims"] = [dim, *(int(d) for d in rng.integers(1, dim + 1, int(rng.integers(1, 4))))][::-1]
            if extras:
                arrays["negative_keys"] = rng.standard_normal((rows, 2, dim))
                options["weights"] = zoo.rounded(rng.uniform(0.1, 3, len(options["dims"])), dtype).tolist()
        if loss == "triplet" and extras:
            arrays["negative_keys"] = rng.standard_normal((rows, 2, dim))
        if loss == "info_nce":
            arrays["negative_keys"] = rng.standard_normal((3, dim))
            arrays["logit_bias"] = rng.standard_normal(rows + 3)
    arrays = {
        n: x if ARGUMENT_KINDS[n] == "integer" or n == "targets" else zoo.rounded(x, dtype) for n, x in arrays.items()
    }
    shape = mask_shape(loss, arrays)
    if "masks" in words and shape is not None:
        mask = rng.uniform(size=shape) > 0.4
        arrays["candidate_mask"] = mask | (arrays["targets"] > 0) if loss == "soft_nce" else mask
    similarity = "dot" if "dot" in words or loss == "n_pair" else "cosine"
    problem = Problem(
        dtype,
        arrays,
        temperature if "temperature" in entry.gradients else 1.0,
        loss=loss,
        margin=0.25
        if "margin" in entry.gradients and ("margin" in words or (loss == "triplet" and "kink" not in words))
        else 0.0,
        bias=-2.5 if loss == "siglip" else 0.0,
        similarity=similarity,
        reduction="none" if "none" in words else "sum" if "sum" in words else "mean",
        options=options,
    )
    if "weights" in words:
        weights = rng.uniform(0.1, 2, problem.rows) * (rng.uniform(size=problem.rows) > 0.2)
        problem = replace(problem, arrays={**arrays, "sample_weight": zoo.rounded(weights, dtype)})
    return problem


def critical_prior(arrays: Mapping[str, np.ndarray], temperature: float, beta: float, dtype: str) -> float:
    """The prior that puts the first anchor's bracket on its floor, if there is one below 1/2."""
    views = np.concatenate([zoo.rounded(arrays[name], dtype) for name in ("view_a", "view_b")])
    views = views / np.linalg.norm(views, axis=1, keepdims=True)
    logits = views[0] @ views.T / temperature
    half = len(views) // 2
    others = np.delete(logits, [0, half])
    if len(others) == 0:
        return 0.0
    mean = np.exp((1 + beta) * others).sum() / np.exp(beta * others).sum()
    floor = np.exp(-1 / temperature)
    return float(min(0.5, (mean - floor) / (np.exp(logits[half]) - floor)))


def targets(rng: np.random.Generator, rows: int, columns: int, smooth: bool) -> np.ndarray:
    """Distributions in sixteenths: some spread out, or almost all on one."""
    counts = np.zeros((rows, columns))
    for row in counts:
        row[int(rng.integers(columns)) if not smooth else 0] += 12
        np.add.at(row, rng.integers(0, columns, 4), 1)
    return counts / 16


def mask_shape(loss: str, arrays: Mapping[str, np.ndarray]) -> tuple[int, ...] | None:
    """The layout of the loss's mask; None where it has none."""
    first = len(next(iter(arrays.values())))
    if "candidate_mask" not in LOSSES[loss].optional:
        return None
    if loss in ("nt_xent", "dcl", "debiased", "hard_negative"):
        return (2 * first, 2 * first)
    if loss == "gte":
        return (first, 4 * first)
    if loss == "mil_nce":
        return (first, first, arrays["positive_bags"].shape[1])
    if loss == "soft_nce":
        return arrays["targets"].shape
    if loss == "info_nce_from_logits":
        return arrays["logits"].shape
    if loss == "sup_con":
        return (first, len(arrays.get("keys", arrays["features"])))
    explicit = arrays["negative_keys"].shape[-2] if "negative_keys" in arrays else 0
    return (first, first + explicit)


# --------------------------------------------------------------------------------------------------- wrong ones


Wrong = Callable[[Problem], Outputs]


def right(problem: Problem, function: Callable[[Given], Entries] | None = None) -> Outputs:
    return run(problem, "float64", ORDERS["usual"], function)


def scaled(factor: Callable[[Problem], float], *names: str) -> Callable[[Problem], Outputs]:
    """Right but for the named outputs (none: all), which are multiplied by a factor."""

    def wrong(problem: Problem) -> Outputs:
        return {n: x * factor(problem) if n in names or not names else x for n, x in right(problem).items()}

    return wrong


def asked(**changes: Any) -> Callable[[Problem], Outputs]:
    """Right for another problem."""
    return lambda problem: right(replace(problem, **changes))


def without(name: str) -> Callable[[Problem], Outputs]:
    """Right for the problem without an array, whose gradient is then 0."""

    def wrong(problem: Problem) -> Outputs:
        left = {other: array for other, array in problem.arrays.items() if other != name}
        gone = {name: np.zeros(problem.arrays[name].shape)}
        return (gone if name in problem.differentiable else {}) | right(replace(problem, arrays=left))

    return wrong


def computed_by(function: Callable[[Given], Entries]) -> Callable[[Problem], Outputs]:
    return lambda problem: right(problem, function)


def self_included(given: Given) -> Entries:
    rows, active, positive = two_views(given)
    return Entries(one_positive(given, given.less_margin(rows, positive), active | eye(len(rows)), positive))


def positive_kept(given: Given) -> Entries:
    rows, active, positive = two_views(given)
    rows = given.less_margin(rows, positive)
    return Entries(library(rows, active | positive) - pick(rows, positive), (active & ~positive).any(1))


def one_logsumexp_a_view(given: Given) -> Entries:
    rows, active, positive = two_views(given)
    negative, half = active & ~positive, len(rows) // 2
    rows = given.less_margin(rows, positive)
    first = torch.logsumexp(torch.where(negative, rows, -INF)[:, :half], 1)
    second = torch.logsumexp(torch.where(negative, rows, -INF)[:, half:], 1)
    return Entries((first + second) / 2 - pick(rows, positive))


def weights_with_gradient(given: Given) -> Entries:
    """DCLW whose weights aren't held constant."""
    rows, active, positive = two_views(given)
    a, b = (given[name] / given[name].norm(dim=1, keepdim=True) for name in ("view_a", "view_b"))
    weight = (2 - len(a) * torch.softmax((a * b).sum(1) / given.number("sigma"), 0)).repeat(2)
    kept = given.less_margin(rows, positive)
    return Entries(library(kept, active & ~positive) - weight * pick(kept, positive))


def without_floor(given: Given) -> Entries:
    """A floor so low that it is never met."""
    return debiased_with(given, lambda floor: floor * 1e-3, lambda weights: weights)


def constant_floor(given: Given) -> Entries:
    return debiased_with(given, lambda floor: floor.detach(), lambda weights: weights)


def constant_weights(given: Given) -> Entries:
    return debiased_with(given, lambda floor: floor, lambda weights: weights.detach())


def debiased_with(given: Given, floor_of: Callable[..., Any], weights_of: Callable[..., Any]) -> Entries:
    rows, active, positive = two_views(given)
    negative, prior, beta = active & ~positive, given.number("prior"), given.problem.options.get("beta", 0.0)
    counts, pos = negative.sum(1), torch.exp(pick(rows, positive))
    weights = weights_of(torch.where(negative, torch.exp(beta * rows), 0.0))
    mean = (weights * torch.exp(rows)).sum(1) / (weights.sum(1) / counts)
    bracket = (mean - prior * counts * pos) / (1 - prior)
    return Entries(torch.log1p(torch.maximum(bracket, counts * floor_of(torch.exp(-1 / given.tau))) / pos))


def positive_twice(given: Given) -> Entries:
    """gte with the document's own query among its candidates, as the paper's sum has it."""
    query, document = given["query"], given["document"]
    count, crossed = len(query), given.logits(query, document)
    rows = torch.cat([crossed, given.logits(query, query), crossed.T, given.logits(document, document)], 1)
    active = ~eye(count).repeat(1, 4)
    active[:, 2 * count : 3 * count] = True
    return Entries(one_positive(given, rows, active, eye(count, 4 * count)))


def each_positive_alone(given: Given) -> Entries:
    """mil_nce as a mean over the bag."""
    query, bags = given["query"], given["positive_bags"]
    count, size = bags.shape[:2]
    rows, own = given.logits(query, bags.reshape(count * size, -1)), eye(count).repeat_interleave(size, 1)
    return Entries(mean_of_positives(given, rows, torch.ones_like(own), own / size))


def all_anchors(given: Given) -> Entries:
    """sup_con's mean over all anchors."""
    return Entries(sup_con(given).losses)


def other_variant(given: Given) -> Entries:
    other = {"out": "in", "in": "sincere", "sincere": "out"}[given.number("variant")]
    return sup_con(replace_problem(given, options={"variant": other}))


def replace_problem(given: Given, **changes: Any) -> Given:
    return Given(replace(given.problem, **changes), given.order, given.leaves, given.computed)


def sum_of_directions(given: Given) -> Entries:
    return Entries(2 * clip(given).losses)


def one_direction(given: Given) -> Entries:
    rows = given.logits(given["image"], given["text"])
    return Entries(one_positive(given, rows, torch.ones_like(rows) > 0, eye(len(rows))))


def mask_not_transposed(given: Given) -> Entries:
    count = len(given["image"])
    rows, mask, positive = given.logits(given["image"], given["text"]), given.flags("candidate_mask"), eye(count)
    return Entries((one_positive(given, rows, mask, positive) + one_positive(given, rows.T, mask, positive)) / 2)


def sum_over_negatives(given: Given) -> Entries:
    found = info_nce(given)
    return Entries(found.losses * (len(found.losses) - 1), found.counted)


def squared_hinge(given: Given) -> Entries:
    rows = given.less_margin(given.logits(given["query"], given["positive_key"]), eye(len(given["query"])))
    gap = torch.relu(rows - rows.diagonal()[:, None]) ** 2
    return Entries(torch.where(eye(len(rows)), 0.0, gap).sum(1) / (len(rows) - 1))


def keys_in_batch_too(given: Given) -> Entries:
    query, key, queue = given["query"], given["positive_key"], given["queue"]
    rows = torch.cat([given.logits(query, key), given.logits(query, queue)], 1)
    return Entries(one_positive(given, rows, torch.ones_like(rows) > 0, eye(len(query), rows.shape[1])))


def bias_before_the_temperature(given: Given) -> Entries:
    rows = torch.cat([given.logits(given["query"], given[n]) for n in ("positive_key", "negative_keys")], 1)
    active = torch.ones_like(rows) > 0
    return Entries(one_positive(given, rows + given["logit_bias"] / given.tau, active, eye(*rows.shape)))


def hardest_target(given: Given) -> Entries:
    targets = given.problem.arrays["targets"]
    hard = np.eye(targets.shape[1])[targets.argmax(1)]
    return soft_nce(replace_problem(given, arrays={**given.problem.arrays, "targets": hard}))


def normalised_once(given: Given) -> Entries:
    """Rows normalised whole, then cut."""
    unit = {name: given[name] / given[name].norm(dim=-1, keepdim=True) for name in ("query", "positive_key")}
    dot = replace_problem(Given(given.problem, given.order, {**given.leaves, **unit}, given.computed), similarity="dot")
    return matryoshka(dot)


def last_coordinates(given: Given) -> Entries:
    turned = {name: given[name].flip(-1) for name in ("query", "positive_key")}
    return matryoshka(Given(given.problem, given.order, {**given.leaves, **turned}, given.computed))


def mean_over_pairs(problem: Problem) -> float:
    return 1 / problem.rows


EVERYWHERE: dict[str, Callable[[Problem], Outputs]] = {
    "twice": scaled(lambda _: 2.0),
    "in bits": scaled(lambda _: 1 / np.log(2)),
    "mean over N - 1": scaled(lambda p: p.rows / (p.rows - 1)),
    "off by 1e-3": scaled(lambda _: 1.001),
    "weights ignored": lambda p: right(replace(p, arrays={**p.arrays, "sample_weight": np.ones(p.rows)})),
    "other similarity": lambda p: right(replace(p, similarity="dot" if p.similarity == "cosine" else "cosine")),
    "temperature off by 1e-4": lambda p: right(replace(p, temperature=p.temperature * (1 + 1e-4))),
}
WRONG: dict[tuple[str, str], tuple[str, Callable[[Problem], Outputs]]] = {  # the class that shows it
    ("info_nce", "logit_bias ignored"): ("benign", without("logit_bias")),
    ("info_nce", "logit_bias before the temperature"): ("benign", computed_by(bias_before_the_temperature)),
    ("info_nce_from_logits", "index ignored"): ("extras", without("positive_index")),
    ("info_nce_from_logits", "margin ignored"): ("margin", asked(margin=0.0)),
    ("clip", "sum of directions"): ("benign", computed_by(sum_of_directions)),
    ("clip", "one direction"): ("benign", computed_by(one_direction)),
    ("clip", "mask not transposed"): ("masks", computed_by(mask_not_transposed)),
    ("clip", "negative texts detached"): ("extras", scaled(lambda _: 0.0, "negative_texts")),
    ("nt_xent", "self included"): ("benign", computed_by(self_included)),
    ("nt_xent", "positive left out"): ("benign", asked(loss="dcl")),
    ("nt_xent", "one view detached"): ("benign", scaled(lambda _: 0.5, "view_b")),
    ("dcl", "positive kept"): ("benign", computed_by(positive_kept)),
    ("dcl", "two logsumexps"): ("benign", computed_by(one_logsumexp_a_view)),
    ("dcl", "weights with a gradient"): ("extras", computed_by(weights_with_gradient)),
    ("dcl", "no weights"): ("extras", asked(options={})),
    ("debiased", "prior ignored"): ("floor", asked(options={"prior": 0.0})),
    ("debiased", "no floor"): ("floor", computed_by(without_floor)),
    ("debiased", "constant floor"): ("floor", computed_by(constant_floor)),
    ("hard_negative", "hardness ignored"): ("benign", lambda p: asked(options={**p.options, "beta": 0.0})(p)),
    ("hard_negative", "constant weights"): ("benign", computed_by(constant_weights)),
    ("moco", "keys are negatives too"): ("benign", computed_by(keys_in_batch_too)),
    ("moco", "queue detached"): ("benign", scaled(lambda _: 0.0, "queue")),
    ("gte", "positive twice"): ("benign", computed_by(positive_twice)),
    ("mil_nce", "each positive alone"): ("benign", computed_by(each_positive_alone)),
    ("mil_nce", "one direction"): ("extras", asked(options={})),
    ("soft_nce", "hardest target"): ("benign", computed_by(hardest_target)),
    ("soft_nce", "mask ignored"): ("masks", without("candidate_mask")),
    ("sup_con", "another variant"): ("benign", computed_by(other_variant)),
    ("sup_con", "mean over all anchors"): ("extras", computed_by(all_anchors)),
    ("siglip", "mean over pairs"): ("benign", scaled(mean_over_pairs)),
    ("siglip", "no bias"): ("benign", asked(bias=0.0)),
    ("siglip", "bias's sign"): ("benign", scaled(lambda _: -1.0, "bias")),
    ("triplet", "sum over negatives"): ("benign", computed_by(sum_over_negatives)),
    ("triplet", "squared"): ("benign", computed_by(squared_hinge)),
    ("triplet", "margin's sign"): ("benign", lambda p: asked(margin=-p.margin)(p)),
    ("n_pair", "cosine"): ("benign", asked(similarity="cosine")),
    ("matryoshka", "mean over dims"): ("benign", scaled(lambda p: 1 / len(p.option("dims")))),
    ("matryoshka", "whole rows alone"): ("benign", lambda p: asked(options={"dims": [max(p.option("dims"))]})(p)),
    ("matryoshka", "weights ignored"): ("extras", lambda p: asked(options={"dims": p.option("dims")})(p)),
    ("matryoshka", "normalised once"): ("benign", computed_by(normalised_once)),
    ("matryoshka", "last coordinates"): ("benign", computed_by(last_coordinates)),
}
