"""From `pkg.mod:attr` to a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infonce_ref
from infonce_ref.conformance.adapters.declare import adapter
from infonce_ref.conformance.adapters.frameworks import framework, split
from infonce_ref.conformance.adapters.resolve import ALIASES, NotApplicable, Unusable, find, resolve, roles_of
from infonce_ref.conformance.family import LOSSES
from infonce_ref.conformance.problem import Problem

PAIR = {"query": np.ones((2, 3)), "positive_key": np.ones((2, 3))}
PLAIN = Problem("float32", PAIR, 0.5)
SHARED = Problem("float32", {**PAIR, "negative_keys": np.ones((4, 3))}, 0.5, in_batch_negatives=False)


def given(target: Any, problem: Problem = PLAIN, **options: Any) -> Any:
    """What `target` returns when it is called as resolved."""
    resolved = resolve(target, **options)
    tau = framework("numpy").temperature(problem.temperature, str(resolved.temperature_role))
    scalars = {"temperature": tau, "margin": problem.margin}
    return resolved.bound_call(resolved.values(problem, problem.arrays, scalars))()


@pytest.mark.parametrize("loss", LOSSES)
def test_no_name_stands_for_two_arguments(loss: str) -> None:
    """For each loss the alias table is a function from names to arguments, an argument's own name going before."""
    roles = roles_of(loss)
    names = [name for role in roles for name in ALIASES[role] if name == role or name not in roles]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "target",
    [
        lambda query, positive_key, *, temperature: temperature,
        lambda q, k, tau: tau,
        lambda anchor, positive, temp=0.07: temp,
        lambda z1, z2, /, temperature: temperature,
        lambda image_features, text_features, logit_scale: 1.0 / logit_scale,
        lambda q, k, log_scale: np.exp(-log_scale),
    ],
)
def test_arguments_are_found_by_their_usual_names(target: Callable[..., Any]) -> None:
    """Names of public code are known, also positional-only; 1/τ and log(1/τ) are worked out."""
    assert given(target) == pytest.approx(0.5)


def test_the_resolved_call_is_told() -> None:
    """People see which argument went where."""
    resolved = resolve(lambda q, k, logit_scale: 0.0, name="their.module:loss")
    assert resolved.resolved == "loss(q=query, k=positive_key, logit_scale=1/temperature)"


def test_map_and_const_correct_the_table() -> None:
    """What the table doesn't know, or knows wrongly, is said."""

    def target(a1: Any, a2: Any, *, warmth: float, mode: str, t: int = 3) -> tuple[Any, ...]:
        return warmth, mode, t

    mapping = {"query": "a1", "positive_key": "a2", "temperature": "warmth"}
    assert given(target, mapping=mapping, const={"mode": "x"}) == (0.5, "x", 3)


class ByConstructor:
    """Options in the constructor, arrays in the call."""

    def __init__(self, temperature: float = 0.1, reduction: str = "mean") -> None:
        self.got = (temperature, reduction)

    def __call__(self, query: Any, positive_key: Any) -> Any:
        return self.got


def test_a_class_is_constructed_for_each_call() -> None:
    """Constructor and call are resolved separately."""
    total = Problem("float32", PAIR, 0.25, reduction="sum")
    assert given(ByConstructor, total) == (0.25, "sum")
    assert resolve(ByConstructor).resolved.startswith(
        "ByConstructor(temperature=temperature, reduction=reduction)(query"
    )


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        (lambda query, positive_key: 0, {}, "temperature"),
        (lambda positive_key, tau: 0, {}, "query"),
        (lambda query, positive_key, tau, mystery: 0, {}, "mystery"),
        (lambda query, anchor, positive_key, tau: 0, {}, "both"),
        (lambda query, positive_key, tau: 0, {"mapping": {"margin": "m"}}, "no parameter m"),
        (lambda query, positive_key, tau: 0, {"mapping": {"nonsense": "tau"}}, "nonsense"),
        (lambda query, positive_key, tau: 0, {"const": {"mode": 1}}, "no parameter mode"),
        (len, {}, "query"),
        (type("Bare", (), {}), {}, "neither forward nor __call__"),
        (7, {}, "can't be called"),
    ],
)
def test_what_cannot_be_resolved_is_unusable(target: Any, options: Any, words: str) -> None:
    """No guess is made, and the message says what to say."""
    with pytest.raises(Unusable, match=words):
        resolve(target, **options)


@pytest.mark.parametrize("spec", ["nomodule", "no.such.module:f", "math:no_such", "math:pi", ":f", "math:"])
def test_what_cannot_be_found_is_unusable(spec: str) -> None:
    """A misspelt target is an error, not a pass."""
    with pytest.raises(Unusable):
        find(spec)


def test_targets_are_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dotted attributes too."""
    (tmp_path / "lies_here.py").write_text("class A:\n    class B:\n        @staticmethod\n        def f(): return 5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    assert find("lies_here:A.B.f")() == 5


@pytest.mark.parametrize(
    ("arrays", "options", "words"),
    [
        ({"candidate_mask": np.ones((2, 2), bool)}, {}, "candidate_mask"),
        ({"positive_index": np.array([0, 1])}, {}, "positive_index"),
        ({"sample_weight": np.ones(2)}, {}, "sample_weight"),
        ({"negative_keys": np.ones((2, 3))}, {}, "negative_keys"),
        ({}, {"similarity": "dot"}, "similarity"),
        ({}, {"margin": 0.5}, "margin"),
        ({}, {"reduction": "sum"}, "reduction"),
    ],
)
def test_what_the_signature_lacks_is_not_applicable(arrays: Any, options: Any, words: str) -> None:
    """The signature is the declaration."""
    problem = Problem("float32", {**PAIR, **arrays}, 0.5, **options)
    with pytest.raises(NotApplicable, match=words):
        resolve(lambda query, positive_key, temperature: 0).refuse_to_ask(problem)


def test_explicit_negatives_need_a_declared_reading() -> None:
    """A negative_keys argument alone doesn't say whether the batch counts too: --reading does."""

    def target(query: Any, positive_key: Any, negative_keys: Any = None, temperature: float = 0.1) -> None:
        """Explicit negatives, read in some way."""

    with pytest.raises(NotApplicable, match="--reading"):
        resolve(target).refuse_to_ask(SHARED)
    resolve(target, readings=("shared",)).refuse_to_ask(SHARED)
    with pytest.raises(NotApplicable, match="shared"):
        resolve(target, readings=("own",)).refuse_to_ask(SHARED)
    resolve(target).refuse_to_ask(PLAIN)


def test_an_in_batch_argument_means_every_reading() -> None:
    """Who can be told has all of them."""

    def target(query: Any, positive_key: Any, negative_keys: Any, in_batch_negatives: bool, tau: float) -> bool:
        return in_batch_negatives

    resolve(target).refuse_to_ask(SHARED)
    assert given(target, SHARED) is False
    with pytest.raises(NotApplicable, match="requires negative_keys"):
        resolve(target).refuse_to_ask(PLAIN)


NESTED = Problem("float64", PAIR, 0.5, loss="matryoshka", options={"dims": [2, 3]})


def test_a_function_from_a_loss_to_a_loss_is_given_info_nce() -> None:
    """[matryoshka.sum] What it makes of the reference's info_nce, dims and weights is called as info_nce is."""
    made = []

    def factory(loss: Any, nesting_list: list[int], relative_importance: Any = None) -> Callable[..., Any]:
        made.append((loss, nesting_list, relative_importance))
        return lambda query, positive_key, **rest: rest["temperature"]

    assert given(factory, NESTED, loss="matryoshka") == 0.5
    assert made == [(infonce_ref.info_nce, [2, 3], None)]
    assert given("infonce_ref:matryoshka", NESTED, loss="matryoshka") == pytest.approx(2 * np.log(2))
    assert (
        "matryoshka(loss=info_nce, dims=dims, weights=weights)(query=query"
        in resolve("infonce_ref:matryoshka", loss="matryoshka").resolved
    )


def test_dims_may_go_to_a_constructor_and_weights_be_missing() -> None:
    """A class is told its dimensions when it is made; who has no weights, or no dims, isn't asked for them."""

    class Loss:
        def __init__(self, matryoshka_dims: list[int]) -> None:
            self.dims = matryoshka_dims

        def __call__(self, anchor: Any, positive: Any, temperature: float) -> list[int]:
            return self.dims

    assert given(Loss, NESTED, loss="matryoshka") == [2, 3]
    weighted = replace(NESTED, options={"dims": [2, 3], "weights": [1.0, 0.5]})
    with pytest.raises(NotApplicable, match="weights"):
        resolve(Loss, loss="matryoshka").refuse_to_ask(weighted)
    with pytest.raises(NotApplicable, match="dims"):
        resolve(lambda q, k, tau: 0.0, loss="matryoshka").refuse_to_ask(NESTED)


def test_a_declaration_is_the_adapters_own_word() -> None:
    """Dtypes and losses that it leaves out aren't asked for; an unknown reading is an error."""

    @adapter(loss="info_nce", dtypes=("float64",), readings=("shared",))
    def target(query: Any, positive_key: Any, negative_keys: Any = None, temperature: float = 0.1) -> None:
        """Of float64 alone."""

    resolved = resolve(target)
    with pytest.raises(NotApplicable, match="float32"):
        resolved.refuse_to_ask(PLAIN)
    resolved.refuse_to_ask(SHARED.in_dtype("float64"))
    with pytest.raises(ValueError, match="reading"):
        adapter(readings=("sideways",))


def test_gradients_go_by_our_names_or_theirs() -> None:
    """A dict or a named tuple beside the loss; None and anything else left out."""
    loss, grad = split((1.0, {"anchor": 2.0, "second": 3.0, "margin": None}), {"second": "positive_key"})
    assert (loss, grad) == (1.0, {"query": 2.0, "positive_key": 3.0})
    with pytest.raises(TypeError, match="returns its loss"):
        split((1.0, 2.0, 3.0), {})


@pytest.mark.parametrize("name", ["tensorflow", "numpy:x", "array-api:", "array-api:no_such_module"])
def test_an_unknown_framework_is_unusable(name: str) -> None:
    """Also one that isn't installed."""
    with pytest.raises(Unusable):
        framework(name)
