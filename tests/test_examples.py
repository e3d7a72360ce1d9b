"""The examples of docs/examples do what they are there to show: each learns, from real data, in seconds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
on = pytest.mark.parametrize

# By how much each measure rises, at least: about half of what it was seen to; texts change with NumPy's and SciPy's.
GAINS: dict[str, tuple[float, ...]] = {
    "clip_halves": (0.25, 0.25),
    "cpc": (0.13, 0.08, 0.09),
    "dense_retrieval": (0.04, 0.06),
    "simclr": (0.17, 0.02),
    "simcse": (0.03, 0.06),
    "supervised": (0.04,),
    "triplet_and_info_nce": (0.13,),
    "temperatures": (0.15,),
}
NO_TRAINING = {"answers", "digits", "docstrings", "small_net", "textbook"}


def rises(pairs: Iterable[tuple[float, float]], gains: tuple[float, ...]) -> bool:
    """Every measure has risen by its gain at least."""
    return all(after >= before + gain for (before, after), gain in zip(pairs, gains, strict=True))


@on("name", GAINS)
def test_an_example_learns(name: str) -> None:
    """[gradient.query] [gradient.view-a] [gradient.image] [gradient.features] What is measured rises with training."""
    measured = import_module(f"docs.examples.{name}").main()
    assert rises(list(measured.values())[: len(GAINS[name])], GAINS[name])


def test_every_example_is_tested() -> None:
    """A new example is either here, or is no training."""
    assert {path.stem for path in (ROOT / "docs" / "examples").glob("*.py")} == set(GAINS) | NO_TRAINING


@on("name", ["clip_halves", "dense_retrieval", "simclr"])
def test_without_training_nothing_rises(name: str) -> None:
    """The check can fail: untrained, every measure is after as it was before."""
    measured = import_module(f"docs.examples.{name}").main(epochs=0)
    assert all(before == after for before, after in measured.values())
    assert not rises(measured.values(), GAINS[name])


def test_the_same_on_every_run() -> None:
    """Seeds are fixed: the same numbers again."""
    main = import_module("docs.examples.supervised").main
    assert main(epochs=1) == main(epochs=1)


@on("variant", ["in", "sincere"])
def test_every_form_of_sup_con_learns(variant: str) -> None:
    """[sup-con.in] [sup-con.sincere] The digits of a class come together."""
    assert rises(import_module("docs.examples.supervised").main(variant).values(), (0.04,))


def test_triplet_learns_less_of_the_same_batches() -> None:
    """[triplet.rows] It learns, and InfoNCE, which uses all negatives, learns more."""
    example = import_module("docs.examples.triplet_and_info_nce")
    ((_, by_triplet),), ((before, by_info_nce),) = (example.main(name).values() for name in ("triplet", "info_nce"))
    assert before + 0.08 <= by_triplet <= by_info_nce - 0.04


def test_temperatures_between_are_best() -> None:
    """[helper.negative-weights] At 0.01 a few negatives count, at 1 nearly all; the accuracy is best in between."""
    example = import_module("docs.examples.temperatures")
    accuracy, number = zip(*(example.main(t).values() for t in example.TEMPERATURES), strict=True)
    (coldest, cold, cool, warm) = (after for _, after in accuracy)
    assert min(cold, cool) >= max(coldest, warm) + 0.04
    assert [before for before, _ in number] == sorted(before for before, _ in number)
    assert number[0][0] < 5 and number[-1][1] > 100


def test_an_example_is_a_command() -> None:
    """python -m docs.examples.NAME prints what it measured."""
    command = [sys.executable, "-m", "docs.examples.cpc"]
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert len(out.splitlines()) == 3 and "% before" in out
