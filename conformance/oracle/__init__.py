"""The suite's authority: two evaluations of the loss in high precision, and their comparison.

They share no code. `definition` is the definition of the loss in mpmath with gradients derived by hand; `second` is
the literal formula in decimal with forward-mode dual numbers. Both read the inputs as exact binary numbers, choose
their own working precision so that every number is good to SIGNIFICANT digits, and return an `Answer`; a vector is
written only where `agree` finds them equal to 1e-30 relative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpmath import mp

SIGNIFICANT = 45  # digits of every number of an answer that are right
SMALLEST = -1000  # what is below 10^SMALLEST in magnitude, far below any format's smallest, is answered as 0


@dataclass(frozen=True)
class Answer:
    """The exact loss, shape () or (rows,), and the gradient of its sum by every differentiable argument present.

    The arrays hold `mpmath.mpf` or `decimal.Decimal`; `digits` is the precision they were computed in. Where an
    oracle chose the precision itself, SIGNIFICANT digits of each entry are right and what is exactly zero is 0;
    where the caller chose it, entries are as computed, and one that is exactly zero may be left as rounding noise.
    """

    loss: np.ndarray
    grad: Mapping[str, np.ndarray]
    digits: int

    def outputs(self) -> dict[str, np.ndarray]:
        """All the numbers by name: the loss, then its gradients."""
        return {"loss": self.loss, **self.grad}


def agree(first: Answer, second: Answer) -> float:
    """The worst relative difference of two answers, entry by entry; inf for other names or shapes, or a NaN.

    Zero agrees with zero alone: an oracle that chose its precision answers 0 where the exact number is 0, so
    that 0 against 1e-300 is a disagreement (of 1), not noise to be forgiven.
    """
    one, other = first.outputs(), second.outputs()
    if {name: a.shape for name, a in one.items()} != {name: a.shape for name, a in other.items()}:
        return float("inf")
    with mp.workdps(max(first.digits, second.digits)):
        pairs = (pair for name in one for pair in zip(one[name].flat, other[name].flat, strict=True))
        return max(_difference(x, y) for x, y in pairs)


def _difference(x: Any, y: Any) -> float:
    """|x − y| / max(|x|, |y|), inf where that is no number."""
    x, y = (a if isinstance(a, mp.mpf) else mp.mpf(str(a)) for a in (x, y))
    if not (mp.isfinite(x) and mp.isfinite(y)):
        return float("inf")
    return 0.0 if x == y else float(abs(x - y) / max(abs(x), abs(y)))
