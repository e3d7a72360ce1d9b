"""Large problems, for the profile `scale`: sizes beside the borders of blocks, and one whose scores fill much memory.

A large batch of few different rows is a small problem with counts: row i is one of a few, each loss and each gradient
is that of its kind, and e^{s} summed over n equal candidates is e^{s + log n}. So the oracle's answer to the small
problem, which has the counts as weights and their logarithms as a `logit_bias`, is the answer to the large one.
The kinds are in random order: a block that is left out, counted twice or taken for another one shows.

Bounds are the small problem's with every sum as long as the large one's (`terms` of the rounding). A logarithm is
rounded to 2^-51 at most, under a hundredth of the bound 2^-53 N of a sum of N ≥ 1023 terms: radii are 1/64 wider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from infonce_ref.conformance.cases.case import FULL, implied
from infonce_ref.conformance.family import SCALARS
from infonce_ref.conformance.fresh import Draw
from infonce_ref.conformance.problem import FORMATS, Problem
from infonce_ref.conformance.question import Answers, Question

KINDS = 29  # different rows of an array: an odd number, so that no block has a whole number of turns
WIDTH = 8
FEW = 257  # queries, where the keys are many
WIDER = 65 / 64

# One less and one more than blocks of every power of two up to 1024 and 4096, and a whole number of them.
BORDERS = (1023, 2048, 4097)
MEMORY = 8192  # rows whose scores in float32 take 256 MiB


@dataclass(frozen=True)
class Kinds:
    """Rows of an array that come from a few: the kind of each, and how often each occurs."""

    rows: np.ndarray  # (KINDS, WIDTH)
    kind: np.ndarray  # (N,)

    @property
    def counts(self) -> np.ndarray:
        return np.bincount(self.kind, minlength=len(self.rows)).astype(np.float64)

    @property
    def array(self) -> np.ndarray:
        whole: np.ndarray = self.rows[self.kind]
        return whole


# In the small problem, whose array a gradient's rows belong to: (small name, its first row) -> the large name.
Owners = Mapping[tuple[str, int], str]


@dataclass(frozen=True)
class Part:
    """A small problem whose loss is the large one's, or that of an equal share of its rows."""

    problem: Problem
    owners: Owners


@dataclass(frozen=True)
class Large:
    """A large problem, and the small ones that it is the mean of."""

    problem: Problem
    arrays: Mapping[str, Kinds]
    parts: Sequence[Part]


def shuffled(d: Draw, n: int) -> np.ndarray:
    """(n,) every kind as often as any other, but for one."""
    order = [i % KINDS for i in range(n)]
    d.source.shuffle(order)
    return np.array(order)


def paired(d: Draw, names: tuple[str, str], n: int) -> dict[str, Kinds]:
    """Two arrays whose rows i belong together."""
    one = Kinds(d.normal(KINDS, WIDTH), shuffled(d, n))
    return {names[0]: one, names[1]: Kinds(d.near(one.rows, 1.0), one.kind)}


def problem_of(d: Draw, loss: str, arrays: Mapping[str, Kinds]) -> Problem:
    whole = {name: kinds.array for name, kinds in arrays.items()}
    return Problem(d.dtype, whole, d.temperature(-0.6, 0.0), loss=loss)


def small(
    whole: Problem, query: Kinds, key: Kinds, others: Sequence[tuple[np.ndarray, np.ndarray]], in_batch: bool = True
) -> Problem:
    """A query of each kind against a key of each kind and the `others`: rows, and how many of them (KINDS, rows)."""
    rows = [rows for rows, _ in others]
    counts = np.concatenate([counts for _, counts in others], axis=1)
    most = np.max(counts, axis=0)
    mask = counts > 0
    assert np.all(counts[mask] == np.broadcast_to(most, counts.shape)[mask])  # a bias is a column's
    bias = np.log(np.maximum(most, 1.0))
    if in_batch:
        bias = np.concatenate([np.zeros(len(key.rows)), bias])
        mask = np.concatenate([np.ones((len(query.rows), len(key.rows)), dtype=bool), mask], axis=1)
    arrays = {
        "query": query.rows,
        "positive_key": key.rows,
        "negative_keys": np.concatenate(rows),
        "logit_bias": bias,
        "candidate_mask": mask,
        "sample_weight": query.counts,
    }
    return Problem(whole.dtype, arrays, whole.temperature, in_batch_negatives=in_batch)


def everyone(kinds: Kinds, less: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """For every query all rows of an array, less some of each kind."""
    return kinds.rows, np.tile(kinds.counts - less, (KINDS, 1))


def but_for_its_own(kinds: Kinds) -> tuple[np.ndarray, np.ndarray]:
    """For every query one row of each kind other than its own."""
    return kinds.rows, 1.0 - np.eye(KINDS)


def info_nce(d: Draw, n: int) -> Large:
    arrays = paired(d, ("query", "positive_key"), n)
    query, key = arrays.values()
    problem = problem_of(d, "info_nce", arrays)
    owners = {("query", 0): "query", ("positive_key", 0): "positive_key", ("negative_keys", 0): "positive_key"}
    return Large(problem, arrays, [Part(small(problem, query, key, [everyone(key, 1)]), owners)])


def shared(d: Draw, n: int) -> Large:
    """Few queries against many keys that all of them share."""
    arrays = paired(d, ("query", "positive_key"), FEW)
    arrays["negative_keys"] = others = Kinds(d.normal(KINDS, WIDTH), shuffled(d, n))
    query, key, _ = arrays.values()
    problem = problem_of(d, "info_nce", arrays)
    owners = {
        ("query", 0): "query",
        ("positive_key", 0): "positive_key",
        ("negative_keys", 0): "positive_key",
        ("negative_keys", KINDS): "negative_keys",
    }
    return Large(problem, arrays, [Part(small(problem, query, key, [everyone(key, 1), everyone(others)]), owners)])


def moco(d: Draw, n: int) -> Large:
    arrays = paired(d, ("query", "positive_key"), FEW)
    arrays["queue"] = queue = Kinds(d.normal(KINDS, WIDTH), shuffled(d, n))
    query, key, _ = arrays.values()
    problem = problem_of(d, "moco", arrays)
    owners = {("query", 0): "query", ("positive_key", 0): "positive_key", ("negative_keys", 0): "queue"}
    return Large(problem, arrays, [Part(small(problem, query, key, [everyone(queue)], in_batch=False), owners)])


def clip(d: Draw, n: int) -> Large:
    names = ("image", "text")
    arrays = paired(d, names, n)
    problem = problem_of(d, "clip", arrays)

    def direction(one: str, other: str) -> Part:
        owners = {("query", 0): one, ("positive_key", 0): other, ("negative_keys", 0): other}
        return Part(small(problem, arrays[one], arrays[other], [everyone(arrays[other], 1)]), owners)

    return Large(problem, arrays, [direction(*names), direction(*names[::-1])])


def nt_xent(d: Draw, n: int) -> Large:
    """n rows of each view: 2 n of them, of which each has its other view for a positive."""
    names = ("view_a", "view_b")
    arrays = paired(d, names, n)
    problem = problem_of(d, "nt_xent", arrays)

    def view(one: str, other: str) -> Part:
        own, theirs = arrays[one], arrays[other]
        negatives = [everyone(theirs, 1), everyone(own, 1), but_for_its_own(own)]
        places = {("negative_keys", 0): other, ("negative_keys", KINDS): one, ("negative_keys", 2 * KINDS): one}
        return Part(small(problem, own, theirs, negatives), {("query", 0): one, ("positive_key", 0): other, **places})

    return Large(problem, arrays, [view(*names), view(*names[::-1])])


@dataclass(frozen=True)
class Sort:
    """A sort of large problem of a loss: what draws it, its sizes, and the one that is watched for its memory."""

    draw: Callable[[Draw, int], Large]
    sizes: Sequence[int]
    memory: int | None = None


SORTS: Mapping[str, Mapping[str, Sort]] = {
    "info_nce": {"in-batch": Sort(info_nce, BORDERS, MEMORY), "shared": Sort(shared, BORDERS)},
    "clip": {"in-batch": Sort(clip, BORDERS, MEMORY)},
    "nt_xent": {"in-batch": Sort(nt_xent, [n // 2 for n in BORDERS], MEMORY // 2)},
    "moco": {"queue": Sort(moco, BORDERS)},
}


def large_questions(loss: str, seed: int) -> Iterator[Question]:
    """The large problems of `seed`."""
    for name, sort in SORTS.get(loss, {}).items():
        for dtype in FULL:
            for n in sort.sizes:
                yield _question(loss, seed, f"{name}.{n}", dtype, sort.draw, n, ("call.large",))


def watched_questions(loss: str, seed: int) -> Iterator[tuple[Question, int]]:
    """Those during which the memory is watched, and how many bytes a matrix of all their scores takes."""
    for name, sort in SORTS.get(loss, {}).items():
        if sort.memory is not None:
            n = sort.memory
            label = f"{name}.{n}.memory"
            yield _question(loss, seed, label, "float32", sort.draw, n, ("call.memory",)), 4 * MEMORY**2


def _question(
    loss: str, seed: int, name: str, dtype: str, draw: Callable[[Draw, int], Large], n: int, clauses: tuple[str, ...]
) -> Question:
    label = f"{loss}.scale.{name}@{seed}"
    large = draw(Draw(f"{label}/{dtype}", dtype), n)
    return Question(
        id=label,
        kind=f"{loss}.scale.{name}",
        dtype=dtype,
        profile="scale",
        clauses=(*clauses, *implied(large.problem)),
        problem=large.problem.to_json(),
        note="many rows: a block left out, counted twice or taken for another, and all scores held at once",
        find=cache(lambda: solve(large)),
    )


def solve(large: Large) -> Answers:
    """The oracle's answers to the parts, put together; and their bounds."""
    from mpmath import mp, mpf

    from infonce_ref.conformance.bounds import bound
    from infonce_ref.conformance.oracle.definition import evaluate

    format_ = FORMATS[large.problem.dtype]
    terms = -(-max(len(kinds.kind) for kinds in large.arrays.values()) // KINDS)
    names = [name for name in large.problem.differentiable if name not in SCALARS]
    numbers = ["loss", *(name for name in large.problem.differentiable if name in SCALARS)]
    with mp.workdps(50):
        share = mpf(1) / len(large.parts)
        expected = {name: np.full(large.arrays[name].rows.shape, mpf(0)) for name in names}
        bounds = {name: np.full(large.arrays[name].rows.shape, mpf(0)) for name in names}
        for total in (expected, bounds):
            total.update({name: np.full((), mpf(0)) for name in numbers})
        for part in large.parts:
            answer = evaluate(part.problem).outputs()
            radii = bound(part.problem, format_, "textbook", terms)
            for total, found, wider in ((expected, answer, mpf(1)), (bounds, radii, mpf(WIDER))):
                for name in numbers:
                    total[name] = total[name] + share * wider * found[name]
                for (name, first), owner in part.owners.items():
                    total[owner] = total[owner] + share * wider * found[name][first : first + KINDS]
        for total in (expected, bounds):
            for name in names:
                kinds = large.arrays[name]
                total[name] = (total[name] / kinds.counts[:, None])[kinds.kind]
    return Answers(expected=expected, bounds=bounds)
