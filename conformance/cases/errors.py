"""Calls that must be refused: an exception, not a number.

Only what shapes, dtypes, Python numbers and strings decide: an implementation needn't read an array's values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from infonce_ref.conformance.cases.case import Case, call
from infonce_ref.conformance.cases.draw import few
from infonce_ref.conformance.problem import encode_array

GOOD = {"query": few(501, 4, 3), "positive_key": few(502, 4, 3)}


def refused(name: str, clause: str, note: str, arrays: dict[str, Any] | None = None, **options: Any) -> Case:
    """A call with wrong arrays or options: those that a Problem can hold."""
    problem = call({**GOOD, **(arrays or {})}, options.pop("temperature", 0.25), **options)
    return Case(name, problem, note, (clause,), profile="errors", dtypes=("float32",))


def edited(name: str, clause: str, note: str, **edits: Any) -> Case:
    """A call that a Problem can't hold: its JSON with some keys replaced."""
    return Case(name, call(GOOD, 0.25), note, (clause,), profile="errors", dtypes=("float32",), edits=edits)


def retyped(name: str, clause: str, note: str, array: str, encoded: dict[str, Any], **others: np.ndarray) -> Case:
    """A call with one array of another dtype."""
    good = call({**GOOD, **others}, 0.25).to_json()["arrays"]
    return edited(name, clause, note, arrays={**good, array: encoded})


def errors() -> Iterator[Case]:
    yield from scalars()
    yield from shapes()
    yield from dtypes()
    yield from options()


def scalars() -> Iterator[Case]:
    for name, value in (("zero", 0.0), ("negative", -1.0), ("nan", float("nan")), ("minus-zero", -0.0)):
        yield refused(
            f"temperature.{name}",
            "scale.temperature.domain",
            "a Python temperature that isn't above 0 gives a number, often a plausible one",
            temperature=value,
        )
    for name, value in (("nan", float("nan")), ("inf", float("inf"))):
        yield refused(f"margin.{name}", "scale.margin.domain", "a margin that is no finite number", margin=value)


def shapes() -> Iterator[Case]:
    shape = "input.shape"
    query, key = GOOD["query"], GOOD["positive_key"]
    for name, arrays, note in (
        ("columns", {"positive_key": key[:, :2]}, "queries and keys of different lengths"),
        (
            "one-column",
            {"positive_key": key[:, :1]},
            "(4, 3) against (4, 1): broadcast into a plausible number",
        ),
        ("one-row", {"positive_key": key[:1]}, "(4, 3) against (1, 3): broadcast into a plausible number"),
        (
            "fewer-keys",
            {"positive_key": key[:3]},
            "four queries, three keys: the last query without its positive",
        ),
        (
            "more-keys",
            {"query": query[:3]},
            "three queries, four keys and no positive_index: a label out of step",
        ),
        ("query-1d", {"query": query[0]}, "a query without rows"),
        ("both-1d", {"query": query[0], "positive_key": key[0]}, "two vectors: a sum over the wrong axis"),
        ("query-3d", {"query": query[None]}, "a batch of batches: broadcast"),
        (
            "both-3d",
            {"query": query[None], "positive_key": key[None]},
            "two batches of batches: batched products",
        ),
        ("key-3d", {"positive_key": key[:, None]}, "keys with an axis too many"),
        (
            "empty",
            {"query": query[:0], "positive_key": key[:0]},
            "an empty batch: NaN, 0, or a mean of nothing",
        ),
        ("no-columns", {"query": query[:, :0], "positive_key": key[:, :0]}, "rows without numbers: log N"),
        ("negatives.columns", {"negative_keys": few(503, 5, 2)}, "negatives of another length"),
        ("negatives.one-column", {"negative_keys": few(504, 5, 1)}, "negatives of length 1: broadcast"),
        (
            "negatives.1d",
            {"negative_keys": few(505, 3)},
            "one negative without its row axis: read as one row",
        ),
        ("negatives.4d", {"negative_keys": few(506, 1, 4, 2, 3)}, "negatives with an axis too many"),
        (
            "negatives.own-rows",
            {"negative_keys": few(507, 3, 2, 3)},
            "own negatives of three queries for four",
        ),
        (
            "negatives.own-one",
            {"negative_keys": few(508, 1, 2, 3)},
            "own negatives of one query for four: broadcast",
        ),
    ):
        yield refused(f"shape.{name}", shape, note, arrays)
    yield refused(
        "shape.bilinear",
        shape,
        "W of the wrong side's length",
        {"bilinear_weight": few(509, 2, 3)},
        similarity="bilinear",
    )
    yield refused(
        "shape.bilinear-1d",
        shape,
        "a diagonal in place of W: broadcast",
        {"bilinear_weight": few(510, 3)},
        similarity="bilinear",
    )
    mask = np.ones((4, 4), dtype=bool)
    for name, wrong in (("rows", mask[:3]), ("columns", mask[:, :3]), ("1d", mask[0]), ("one-row", mask[:1])):
        yield refused(f"mask.{name}", "candidates.mask.domain", "a mask that is broadcast", {"candidate_mask": wrong})
    yield refused(
        "mask.negatives",
        "candidates.mask.domain",
        "a mask over the batch alone where there are explicit negatives too",
        {"candidate_mask": mask, "negative_keys": few(511, 2, 3)},
    )
    index = np.array([1, 0, 3, 2])
    yield refused(
        "index.short",
        "candidates.index.domain",
        "an index for three of four queries",
        {"positive_index": index[:3]},
    )
    yield refused(
        "index.2d",
        "candidates.index.domain",
        "an index with an axis too many",
        {"positive_index": index[:, None]},
    )
    for name, bias, note in (
        ("short", np.ones(3), "biases for three of four columns"),
        ("one", np.ones(1), "one bias for all: broadcast"),
        ("matrix", np.ones((4, 4)), "a bias for each pair"),
    ):
        yield refused(f"logit-bias.{name}", "scale.logit-bias.domain", note, {"logit_bias": bias})
    yield refused(
        "weight.short",
        "reduction.weight.domain",
        "weights for three of four queries",
        {"sample_weight": np.ones(3)},
    )
    yield refused(
        "weight.one",
        "reduction.weight.domain",
        "one weight for four queries: broadcast",
        {"sample_weight": np.ones(1)},
    )
    yield refused(
        "weight.column",
        "reduction.weight.domain",
        "a column of weights: 4 × 4 entries",
        {"sample_weight": np.ones((4, 1))},
    )


def dtypes() -> Iterator[Case]:
    whole = {name: (64.0 * x).astype(np.int64) for name, x in GOOD.items()}
    integers = {name: encode_array(x, "int64") for name, x in whole.items()}
    domain = "dtype.domain"
    yield edited("dtype.integer", domain, "integers: a temperature or a norm cut to an integer", arrays=integers)
    yield retyped(
        "dtype.integer-key",
        domain,
        "integer keys beside real queries",
        "positive_key",
        integers["positive_key"],
    )
    yield retyped(
        "dtype.mixed",
        domain,
        "float32 queries, float64 keys: promoted silently",
        "positive_key",
        encode_array(GOOD["positive_key"], "float64"),
    )
    yield retyped(
        "dtype.mixed-half",
        domain,
        "float32 queries, float16 keys: promoted silently",
        "positive_key",
        encode_array(GOOD["positive_key"], "float16"),
    )
    yield retyped(
        "dtype.mixed-negatives",
        domain,
        "float64 negatives beside float32 queries: promoted silently",
        "negative_keys",
        encode_array(few(521, 3, 3), "float64"),
    )
    yield retyped(
        "dtype.bool",
        domain,
        "truth values in place of numbers",
        "query",
        encode_array(GOOD["query"] > 0, "bool"),
    )
    yield retyped(
        "mask.dtype",
        "candidates.mask.domain",
        "a mask of integers: 0 and 1 as an index, or as something to add",
        "candidate_mask",
        encode_array(np.ones((4, 4), dtype=np.int64), "int64"),
    )
    yield retyped(
        "mask.float",
        "candidates.mask.domain",
        "an additive mask of zeros and ones",
        "candidate_mask",
        encode_array(np.ones((4, 4)), "float32"),
    )
    yield retyped(
        "index.dtype",
        "candidates.index.domain",
        "an index of real numbers",
        "positive_index",
        encode_array(np.array([1.0, 0.0, 3.0, 2.0]), "float32"),
    )
    yield retyped(
        "logit-bias.dtype",
        "scale.logit-bias.domain",
        "biases that are integers",
        "logit_bias",
        encode_array(np.ones(4, dtype=np.int64), "int64"),
    )
    yield retyped(
        "weight.dtype",
        "reduction.weight.domain",
        "integer weights",
        "sample_weight",
        encode_array(np.ones(4, dtype=np.int64), "int64"),
    )


def options() -> Iterator[Case]:
    yield edited(
        "similarity.unknown",
        "similarity.domain",
        "an unknown similarity: the default taken",
        similarity="cosine_similarity",
    )
    yield refused(
        "similarity.no-weight",
        "similarity.domain",
        "bilinear without W: the inner product",
        similarity="bilinear",
    )
    yield refused(
        "similarity.weight",
        "similarity.domain",
        "W beside another similarity: left out silently",
        {"bilinear_weight": few(531, 3, 3)},
    )
    yield edited("reduction.unknown", "reduction.domain", "an unknown reduction: the mean taken", reduction="average")
    yield edited("reduction.empty", "reduction.domain", "an empty reduction", reduction="")
    yield refused(
        "candidates.none-given",
        "candidates.domain",
        "no negatives from anywhere: a loss of 0 that trains nothing",
        in_batch_negatives=False,
    )


CLASSES = {"errors": errors}
