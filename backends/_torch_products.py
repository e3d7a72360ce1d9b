"""Matrix products of float32 on a processor, by oneDNN where PyTorch has it.

`torch.mm` is MKL's there, which on processors of some makers leaves half of their vector units idle; oneDNN's kernels
are made for the processor they run on. The operation is the one that PyTorch compiles linear layers to. It isn't
documented: where it is missing, or for small products, `torch.mm` does the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WORTH_IT = 3 * 2**20  # multiplications, below which the call costs more than it saves
WORTH_ADDING = 2**24  # the same where the product is to be added to another, which oneDNN leaves to a second step
TALL = 512  # rows

onednn: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch._C._has_mkldnn else None


def watched() -> bool:
    """Whether torch.func or a mode of torch.utils._python_dispatch looks on: documented operations are all it knows."""
    return torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack() > 0


def suits(a: Tensor, b: Tensor, least: int = WORTH_IT) -> bool:
    """Whether oneDNN takes a @ b, and is faster."""
    return (
        a.shape[0] * a.shape[1] * b.shape[1] >= least
        and a.dtype == torch.float32
        and a.device.type == "cpu"
        and onednn is not None
        and bool(torch.backends.mkldnn.enabled)
        and not watched()
    )


def by_onednn(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, a tall a that lies on its side as (bᵀ aᵀ)ᵀ, which is quicker.

    A b that is part of a wider array is copied: oneDNN would take a thousand times as long with it.
    """
    if a.shape[0] >= TALL and a.mT.is_contiguous() and not b.mT.is_contiguous():
        return by_onednn(b.mT.contiguous(), a.mT).mT.contiguous()
    dense = b.is_contiguous() or b.mT.is_contiguous()
    found: Tensor = onednn(a, (b if dense else b.contiguous()).mT, None, "none", [], "")
    return found


def mm(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """a @ b, in `out` or in room of its own."""
    if suits(a, b):
        return by_onednn(a, b)
    return torch.mm(a, b) if out is None else torch.mm(a, b, out=out)


def add_mm(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b."""
    if suits(a, b, WORTH_ADDING):
        total += by_onednn(a, b)
    else:
        total.addmm_(a, b)
