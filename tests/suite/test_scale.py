"""The profile `scale`: the answers to large problems are right, and what goes wrong at a block's border shows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from infonce_ref.conformance import check_loss, large, memory
from infonce_ref.conformance.bounds import bound
from infonce_ref.conformance.fresh import Draw
from infonce_ref.conformance.oracle.definition import evaluate
from infonce_ref.conformance.problem import FORMATS
from infonce_ref.conformance.results import Exit, Report
from tests.suite.implementations import textbook

SORTS = [(loss, name) for loss, sorts in large.SORTS.items() for name in sorts]
MIB = 2**20


@pytest.mark.parametrize("dtype", large.FULL)
@pytest.mark.parametrize(("loss", "name"), SORTS)
def test_a_small_problem_with_counts_is_the_large_one(
    loss: str, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is the oracle's to the large problem itself, at a size where that can be asked, and its bounds are
    no smaller; the logarithms of counts are float64 numbers.
    """
    for constant, value in (("KINDS", 5), ("WIDTH", 3), ("FEW", 7)):
        monkeypatch.setattr(large, constant, value)
    drawn = large.SORTS[loss][name].draw(Draw(f"{loss}.{name}", dtype), 23)
    found, truth = large.solve(drawn), evaluate(drawn.problem).outputs()
    radii = bound(drawn.problem, FORMATS[dtype], "textbook")
    assert {*found.expected} == {*truth}
    for output, exact in truth.items():
        rounded = 2.0**-50 * np.max(np.abs(np.asarray(exact, dtype=np.float64)))
        assert np.all(np.abs(np.asarray(found.expected[output] - exact, dtype=np.float64)) <= rounded), output
        assert np.all(found.bounds[output] >= radii[output]), output


def in_blocks(spans: Callable[[int], Iterator[slice]]) -> Callable[..., Any]:
    """info_nce with its gradients from blocks of keys, without the whole matrix at any time."""

    def blocked(query: Any, positive_key: Any, *, temperature: Any) -> Any:
        n = len(query)
        lengths = [np.sqrt(np.sum(x * x, axis=1, keepdims=True)) for x in (query, positive_key)]
        u, v = query / lengths[0], positive_key / lengths[1]
        positive = np.sum(u * v, axis=1) / temperature
        z = sum(np.sum(np.exp(u @ v[cut].T / temperature), axis=1) for cut in spans(n))
        du, dv = -v / n, -u / n
        for cut in spans(n):
            g = np.exp(u @ v[cut].T / temperature) / z[:, None] / n
            du += g @ v[cut]
            dv[cut] += g.T @ u
        du, dv = du / temperature, dv / temperature
        grad = {
            "query": (du - u * np.sum(u * du, axis=1, keepdims=True)) / lengths[0],
            "positive_key": (dv - v * np.sum(v * dv, axis=1, keepdims=True)) / lengths[1],
        }
        return np.mean(np.log(z) - positive), grad

    return blocked


def all_blocks(n: int) -> Iterator[slice]:
    return (slice(lo, lo + 256) for lo in range(0, n, 256))


def whole_blocks_only(n: int) -> Iterator[slice]:
    return (slice(lo, lo + 256) for lo in range(0, n - 255, 256))


def borders_twice(n: int) -> Iterator[slice]:
    return (slice(max(lo - 1, 0), lo + 256) for lo in range(0, n, 256))


def second_for_third(n: int) -> Iterator[slice]:
    return (slice(lo, lo + 256) if lo != 512 else slice(256, 512) for lo in range(0, n, 256))


def scale(target: Any, only: str) -> Report:
    return check_loss(target, profile="scale", only=only)


def test_sound_blocks_conform() -> None:
    """[call.large] [call.memory] A plain loop over blocks is right at every border, and holds no whole matrix."""
    report = scale(in_blocks(all_blocks), ".scale.in-batch")
    assert report.exit_code is Exit.CONFORMS, str(report)
    assert max(r.r or 0.0 for r in report.results) < 0.5


@pytest.mark.parametrize(
    ("spans", "sizes"),
    [(whole_blocks_only, {1023, 4097}), (borders_twice, {1023, 2048, 4097}), (second_for_third, {1023, 2048, 4097})],
)
def test_a_wrong_border_shows(spans: Callable[[int], Iterator[slice]], sizes: set[int]) -> None:
    """[call.large] At every size that has that border, in the loss and in the gradients."""
    report = scale(in_blocks(spans), ".scale.in-batch*float64")
    wrong = {(int(r.check.id.split(".")[3].partition("@")[0]), r.part) for r in report.results if r.wrong}
    assert {(size, part) for size in sizes for part in ("loss", "grad")} <= wrong


def test_all_scores_at_once_are_too_much() -> None:
    """[call.memory] The textbook is right, and takes several matrices."""
    report = scale(textbook, ".scale.in-batch.8192")
    (result,) = report.results
    assert (result.status, result.check.level) == ("fail", "SHOULD")
    assert "where a matrix of all scores takes 256" in result.outcome.reason


def test_nothing_takes_no_memory_and_is_wrong() -> None:
    """[call.memory] A constant isn't praised for it."""
    (result,) = scale(lambda query, positive_key, temperature: 1.0, ".scale.in-batch.8192").results
    assert (result.status, result.outcome.output) == ("fail", "loss")


def test_memory_that_nobody_can_see_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system doesn't tell, the check isn't applicable."""
    monkeypatch.setattr(memory, "resident", lambda process: None)
    (result,) = scale(in_blocks(all_blocks), ".scale.in-batch.8192").results
    assert result.status == "n/a"


@pytest.mark.parametrize("size", [0, 64 * MIB])
def test_what_is_held_meanwhile_is_seen(size: int) -> None:
    """Memory that is taken and given back between the first and the last look."""
    with memory.Watch(os.getpid()) as watch:
        held = np.ones(size, dtype=np.uint8)
        time.sleep(50 * memory.LOOK_SECONDS)
        del held
    assert watch.grown is not None
    assert size - 8 * MIB <= watch.grown <= size + 8 * MIB
