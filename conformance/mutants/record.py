"""What is known of a wrong implementation, and the list that the modules beside this one write themselves into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from infonce_ref.conformance.mutants.textbook import Steps, as_function

Wrong = TypeVar("Wrong", bound=type[Steps])

FULL = ("float64", "float32")
HALF = ("float16", "bfloat16")

# The classes of check, by what they look at in ordinary input, or by the input that they are about.
CLASSES = (
    "value", "gradient", "temperature gradient", "negatives", "masks", "variants", "half", "edges", "errors",
    "precise", "shape", "dtype", "purity", "repetition",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A wrong implementation and its record."""

    id: str
    function: Callable[..., Any]  # called as the public loss is: arrays, then keywords, in torch, any floating dtype
    story: str  # what goes wrong, and where it comes from
    means: str = ""  # its name in a sentence: "your outputs equal the variant …"
    loss: str = "info_nce"  # which loss it is a wrong one of
    seen: str = ""  # public code where such a bug was seen
    elsewhere: str = ""  # public code of another loss where it was; invented, where both are empty
    wrong_in: tuple[str, ...] = FULL  # the dtypes in which it must be caught; of the full ones, in no other
    classes: tuple[str, ...] = ()  # the classes of check that must catch it
    single: str = ""  # why only one class can see it in one of those dtypes, where that is so

    def __post_init__(self) -> None:
        unknown = {*self.classes} - {*CLASSES}
        if unknown or not self.classes:
            raise ValueError(f"{self.id}: classes must be some of {', '.join(CLASSES)}, got {sorted(unknown)}")


REGISTRY: list[Mutant] = []


def mutant(
    name: str,
    story: str,
    *,
    means: str,
    seen: str = "",
    elsewhere: str = "",
    wrong_in: tuple[str, ...] = FULL,
    classes: tuple[str, ...],
    single: str = "",
) -> Callable[[Wrong], Wrong]:
    """Enter the decorated steps into the list of wrong implementations."""

    def enter(steps: Wrong) -> Wrong:
        function = as_function(steps)
        entry = Mutant(name, function, story, means, steps.name, seen, elsewhere, wrong_in, classes, single)
        REGISTRY.append(entry)
        return steps

    return enter
