"""Device: CuPy computes on the current device; what isn't a loss enters its arguments' own here, as losses do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from infonce_ref.loss import device_of

P = ParamSpec("P")
R = TypeVar("R")


def on_their_device(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run on the device of its arguments."""

    @functools.wraps(function)
    def there(*args: P.args, **kwargs: P.kwargs) -> R:
        with device_of((*args, *kwargs.values())):
            return function(*args, **kwargs)

    return there
