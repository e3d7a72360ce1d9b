"""Who is measured, at which loss, and what each needs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

ALL = ("info_nce", "cold", "clip", "nt_xent", "sup_con")
FLOOR = ("info_nce",)
PAIRS = ("info_nce", "cold", "clip")


class Contender(NamedTuple):
    """Someone to measure. What it holds at once, roughly, decides where it is left out: so many float32 `matrices` of
    N × N, `cubes` of every pair of positives beside every negative.
    """

    label: str
    library: str  # numpy, torch or jax: it is built by tests.benchmarks.in_<library>
    losses: tuple[str, ...]
    matrices: float = 0.0
    cubes: float = 0.0
    module: str = ""  # what must be installed beside the library
    distribution: str = ""  # its name there
    largest: int = 10**9  # rows: beyond this it teaches nothing new and takes long
    threads: tuple[int, ...] = (1, 2)

    def missing(self) -> str:
        """What isn't installed, or nothing."""
        return next((m for m in (self.library, self.module) if m and find_spec(m) is None), "")

    def needs(self, loss: str, rows: int) -> float:
        """GiB, roughly. NT-Xent on N pairs is 2 N × 2 N."""
        rows *= 2 if loss == "nt_xent" else 1
        return (self.matrices * rows**2 + self.cubes * rows**3) * 4 / 2**30


CONTENDERS = {
    "numpy": Contender("infonce_ref, NumPy", "numpy", ALL),
    "torch": Contender("infonce_ref, PyTorch", "torch", ALL),
    "torch-learnt": Contender("infonce_ref, PyTorch, τ learnt", "torch", FLOOR, largest=8192),
    "numpy-one-way": Contender("infonce_ref, NumPy, info_nce", "numpy", ("clip",)),
    "torch-one-way": Contender("infonce_ref, PyTorch, info_nce", "torch", ("clip",)),
    "jax": Contender("infonce_ref, JAX", "jax", ALL),
    "reference": Contender("infonce_ref, the reference on NumPy", "numpy", ALL, largest=16384),
    "autograd": Contender("PyTorch autograd", "torch", (*PAIRS, "nt_xent"), 4),
    "jax-autodiff": Contender("JAX autodiff", "jax", PAIRS, 5, largest=16384),
    "info-nce-pytorch": Contender(
        "info-nce-pytorch", "torch", PAIRS[:2], 4, module="info_nce", distribution="info-nce-pytorch", largest=16384
    ),
    "sentence-transformers": Contender(
        "sentence-transformers, MultipleNegativesRankingLoss", "torch", PAIRS[:2], 6, module="sentence_transformers",
        distribution="sentence-transformers", largest=16384,
    ),
    "open_clip": Contender(
        "open_clip, ClipLoss", "torch", ("clip",), 6, module="open_clip", distribution="open-clip-torch"
    ),
    "lightly": Contender("lightly, NTXentLoss", "torch", ("nt_xent",), 6, module="lightly", distribution="lightly"),
    "pml-nt-xent": Contender(
        "pytorch-metric-learning, NTXentLoss", "torch", ("nt_xent",), cubes=4, module="pytorch_metric_learning",
        distribution="pytorch-metric-learning",
    ),
    "pml-sup-con": Contender(
        "pytorch-metric-learning, SupConLoss", "torch", ("sup_con",), 12, module="pytorch_metric_learning",
        distribution="pytorch-metric-learning",
    ),
    "optax": Contender("optax, ntxent", "jax", ("nt_xent",), cubes=4, module="optax", distribution="optax"),
    "numpy-dense": Contender("products, NumPy, dense", "numpy", FLOOR, 1, largest=16384),
    "numpy-256": Contender("products, NumPy, 256 rows", "numpy", FLOOR, largest=16384),
    "numpy-512": Contender("products, NumPy, 512 rows", "numpy", FLOOR, largest=32768),
    "torch-dense": Contender("products, PyTorch, dense", "torch", FLOOR, 1, largest=16384),
    "torch-256": Contender("products, PyTorch, 256 rows", "torch", FLOOR, largest=16384),
    "torch-512": Contender("products, PyTorch, 512 rows", "torch", FLOOR, largest=16384),
    "torch-onednn-dense": Contender("products, PyTorch by oneDNN, dense", "torch", FLOOR, 1, largest=16384),
    "torch-onednn": Contender("products, PyTorch by oneDNN, 512 × 512", "torch", FLOOR, largest=32768),
    "jax-dense": Contender("products, JAX, dense", "jax", FLOOR, 1, largest=16384),
    "jax-256": Contender("products, JAX, 256 rows", "jax", FLOOR, largest=8192),
    "jax-512": Contender("products, JAX, 512 rows", "jax", FLOOR, largest=8192),
}  # fmt: skip
OURS = ("numpy", "torch", "jax")


def builder(name: str) -> Callable[[str, Any], Callable[[], float | None]]:
    """What makes that contender's call from a loss and its inputs."""
    build: Callable[[str, Any], Callable[[], float | None]]
    build = import_module(f"tests.benchmarks.in_{CONTENDERS[name].library}").BUILD[name]
    return build
