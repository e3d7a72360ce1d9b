"""PyTorch: the bare products, the backend, autograd, and the losses that people install."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from infonce_ref.backends import torch as fast
from tests.benchmarks.inputs import Inputs, of_backend

Call = Callable[[], float | None]
Loss = Callable[[Tensor, Tensor], Tensor]


# --- bare products ---------------------------------------------------------------------------------------------------


def floor_dense(loss: str, x: Inputs) -> Call:
    """Scores, the gradient of one side, the gradient of the other: nothing but their products."""
    a, b = torch.from_numpy(x.a), torch.from_numpy(x.b)

    def call() -> None:
        scores = a @ b.T
        _ = scores @ b, scores.T @ a

    return call


def floor_tiled(height: int) -> Callable[[str, Inputs], Call]:
    """The same, some rows of scores at a time."""

    def build(loss: str, x: Inputs) -> Call:
        a, b = torch.from_numpy(x.a), torch.from_numpy(x.b)
        n = len(a)
        tile = min(height, n)

        def call() -> None:
            room, to_a, to_b = a.new_empty((tile, n)), torch.empty_like(a), torch.zeros_like(b)
            for lo in range(0, n, tile):
                anchors = a[lo : lo + tile]
                scores = torch.mm(anchors, b.T, out=room)
                torch.mm(scores, b, out=to_a[lo : lo + tile])
                to_b.addmm_(scores.T, anchors)

        return call

    return build


def floor_onednn(side: int) -> Callable[[str, Inputs], Call]:
    """The same by the kernels that PyTorch keeps for linear layers, in squares; the second side lying on its side."""

    def build(loss: str, x: Inputs) -> Call:
        a, b = torch.from_numpy(x.a), torch.from_numpy(x.b)
        n = len(a)
        step = min(side, n)

        def times(left: Tensor, right: Tensor) -> Tensor:
            found: Tensor = torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")
            return found

        def call() -> None:
            to_a, to_b = torch.zeros_like(a), a.new_zeros(b.T.shape)
            for lo in range(0, n, step):
                anchors = a[lo : lo + step]
                across = anchors.T.contiguous()
                for left in range(0, n, step):
                    keys = b[left : left + step]
                    scores = times(anchors, keys.T)
                    to_a[lo : lo + step] += times(scores, keys)
                    to_b[:, left : left + step] += times(across, scores)

        return call

    return build


# --- losses: each is made once, then called with the two sides -------------------------------------------------------


def differentiated(make: Callable[[str, Inputs], Loss]) -> Callable[[str, Inputs], Call]:
    """Loss, backward, and the loss as a number."""

    def build(loss: str, x: Inputs) -> Call:
        function = make(loss, x)
        a, b = (torch.from_numpy(side).requires_grad_() for side in (x.a, x.b))

        def call() -> float:
            a.grad = b.grad = None
            value = function(a, b)
            value.backward()
            return value.item()

        return call

    return build


ours = partial(of_backend, fast, torch.from_numpy)


def learnt(loss: str, x: Inputs) -> Loss:
    """Ours with the gradient of the temperature too."""
    temperature = torch.tensor(x.temperature, requires_grad=True)
    return lambda a, b: fast.info_nce(a, b, temperature=temperature)


def one_way(loss: str, x: Inputs) -> Call:
    """info_nce in turn with clip, whose loss it hasn't."""
    call = differentiated(ours)("info_nce", x)

    def without_loss() -> None:
        call()

    return without_loss


def autograd(loss: str, x: Inputs) -> Loss:
    """What is written by hand: normalise, multiply, cross-entropy."""
    n, tau = len(x.a), x.temperature

    def one_way(a: Tensor, b: Tensor) -> Tensor:
        return cross_entropy(normalize(a) @ normalize(b).T / tau, torch.arange(n))

    def both_ways(a: Tensor, b: Tensor) -> Tensor:
        scores, own = normalize(a) @ normalize(b).T / tau, torch.arange(n)
        return (cross_entropy(scores, own) + cross_entropy(scores.T, own)) / 2

    def among_all(a: Tensor, b: Tensor) -> Tensor:
        z = normalize(torch.cat([a, b]))
        scores = (z @ z.T / tau).fill_diagonal_(-torch.inf)
        return cross_entropy(scores, torch.arange(2 * n).roll(n))

    return {"clip": both_ways, "nt_xent": among_all}.get(loss, one_way)


# --- peers -----------------------------------------------------------------------------------------------------------


@cache
def published(name: str, absent: tuple[str, ...] = ()) -> ModuleType:
    """A module of an installed package, run without the package's own __init__, which would want torchvision.

    `absent` are modules that it imports and doesn't use for what is asked of it here.
    """
    top, *inner = name.split(".")
    spec = find_spec(top)
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    folders = {top: folder, **{f"{top}.{p.relative_to(folder)}".replace("/", "."): p for p in folder.rglob("*/")}}
    for package, path in folders.items():
        if (path / "__init__.py").exists():
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = [str(path)]
    for module in absent:
        package, _, last = module.rpartition(".")
        setattr(sys.modules[package], last, ModuleType(module))
    return import_module(".".join([top, *inner]))


def info_nce_pytorch(loss: str, x: Inputs) -> Loss:
    from info_nce import InfoNCE

    return InfoNCE(temperature=x.temperature)


def multiple_negatives_ranking(loss: str, x: Inputs) -> Loss:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    made: Any = MultipleNegativesRankingLoss(model=None, scale=1 / x.temperature)
    nobody = torch.empty(0)
    return lambda a, b: made.compute_loss_from_embeddings([a, b], nobody)


def open_clip(loss: str, x: Inputs) -> Loss:
    made = published("open_clip.loss").ClipLoss()
    return lambda a, b: made(normalize(a), normalize(b), 1 / x.temperature)  # it expects unit rows


def lightly(loss: str, x: Inputs) -> Loss:
    return published("lightly.loss.ntx_ent_loss", absent=("lightly.models.utils",)).NTXentLoss(x.temperature)


def metric_learning_nt_xent(loss: str, x: Inputs) -> Loss:
    from pytorch_metric_learning.losses import NTXentLoss

    made, views = NTXentLoss(temperature=x.temperature), torch.arange(len(x.a)).repeat(2)
    return lambda a, b: made(torch.cat([a, b]), views)


def metric_learning_sup_con(loss: str, x: Inputs) -> Loss:
    from pytorch_metric_learning.losses import SupConLoss

    made, labels = SupConLoss(temperature=x.temperature), torch.from_numpy(x.labels)
    return lambda a, b: made(a, labels)


BUILD: dict[str, Callable[[str, Inputs], Call]] = {
    "torch": differentiated(ours),
    "torch-one-way": one_way,
    "torch-learnt": differentiated(learnt),
    "autograd": differentiated(autograd),
    "torch-dense": floor_dense,
    "torch-256": floor_tiled(256),
    "torch-512": floor_tiled(512),
    "torch-onednn": floor_onednn(512),
    "torch-onednn-dense": floor_onednn(10**9),
    "info-nce-pytorch": differentiated(info_nce_pytorch),
    "sentence-transformers": differentiated(multiple_negatives_ranking),
    "open_clip": differentiated(open_clip),
    "lightly": differentiated(lightly),
    "pml-nt-xent": differentiated(metric_learning_nt_xent),
    "pml-sup-con": differentiated(metric_learning_sup_con),
}
