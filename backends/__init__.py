"""The losses made fast for one array library each: the reference's definitions, carried out tile by tile.

`from infonce_ref.backends import numpy` (or torch, jax, cupy) imports that library's; the names and signatures in it
are the reference's.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infonce_ref.backends import _cupy as cupy
    from infonce_ref.backends import _jax as jax
    from infonce_ref.backends import _numpy as numpy
    from infonce_ref.backends import _torch as torch

__all__ = ["cupy", "jax", "numpy", "torch"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"infonce_ref.backends._{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
