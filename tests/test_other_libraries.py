"""Libraries on which the reference runs as it happens: those that are installed are tried on one problem of each loss.

Nothing is done for them. Known limits: MLX's exponential and logarithm of float64 have float32's accuracy; Dask
reduces no empty axis, so that no negatives at all is an error; ndonnx takes seconds for a call, and minutes for some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from infonce_ref.conformance.bounds import bound, flushed
from infonce_ref.conformance.problem import FORMATS
from tests import families, problems
from tests.libraries import OTHERS, Library
from tests.problems import value_and_grad, worst

on = pytest.mark.parametrize
INFO_NCE = ("cosine", "dot", "bilinear", "shared", "mask", "bias", "zero rows")
FAMILY = tuple({p.loss: name for name, p in reversed(families.CASES.items())}.values())  # the first of each loss


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest) -> Iterator[Library]:
    with OTHERS[request.param]() as library:
        yield library


@on("dtype", ["float64", "float32"])
@on(("home", "case"), [*((problems, c) for c in INFO_NCE), *((families, c) for c in FAMILY)], ids=[*INFO_NCE, *FAMILY])
def test_loss_and_gradients_are_exact_within_the_bound(
    other: Library, home: object, case: str, dtype: str, conforms: Callable[[float], None]
) -> None:
    """The oracle's loss and gradients, whichever the loss."""
    if dtype not in other.dtypes:
        pytest.skip(f"{other.name} isn't asked {dtype}")
    p, answer = home.CASES[case], home.exact_answer(case)
    target = flushed(FORMATS[dtype]) if other.name == "mlx" else FORMATS[dtype]
    conforms(worst(value_and_grad(p, other, dtype), answer, bound(p.in_dtype(dtype), target, "textbook")))
