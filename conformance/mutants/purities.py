"""Calls that change their input, or depend on the calls before."""

from __future__ import annotations

import random
from typing import Any

from infonce_ref.conformance.mutants.record import mutant
from infonce_ref.conformance.mutants.textbook import Array, Textbook, constant, straight_through

ANSWERS: dict[Any, Array] = {}
NOISE = random.Random()


def forget() -> None:
    """As in a new process: mutants with a memory start afresh."""
    ANSWERS.clear()
    NOISE.seed(0)


@mutant(
    "purity.normalises-in-place",
    "Queries are normalised in place: `q /= norm` on the caller's array.",
    means="queries normalised in place",
    seen="https://github.com/adambielski/siamese-triplet/issues/51",
    classes=("purity",),
    single="its first answer is right: only a look at the inputs afterwards sees it",
)
class InPlace(Textbook):
    def loss(self) -> Array:
        loss, query = super().loss(), constant(self.query)
        if self.similarity == "cosine":
            with_unit = straight_through(loss, loss)
            query[...] = self.xp.astype(self.unit(self.cast(query)), query.dtype)
            return with_unit
        return loss


@mutant(
    "purity.first-answer",
    "The loss is cached by the arrays' shapes and the temperature: the first answer comes back for other input.",
    means="the first answer of each shape cached",
    classes=("value", "negatives", "variants"),
)
class FirstAnswer(Textbook):
    def loss(self) -> Array:
        loss = super().loss()
        key = (tuple(self.query.shape), float(self.temperature), str(self.query.dtype), self.reduction)
        return straight_through(ANSWERS.setdefault(key, constant(loss)), loss)


@mutant(
    "purity.noise",
    "A dropout was left on: the same call gives another answer each time, by a thousandth.",
    means="noise of a thousandth",
    classes=("value", "gradient", "temperature gradient", "repetition"),
)
class Noise(Textbook):
    def reduce(self, each: Array) -> Array:
        return super().reduce(each) * (1.0 + 1e-3 * NOISE.random())
