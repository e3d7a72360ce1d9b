"""Matrix products of float32 on a processor, by oneDNN where PyTorch has it.

`torch.mm` is MKL's there, which leaves half of the vector units of some processors idle; oneDNN's kernels are made for
the processor they run on. The operation is the one that PyTorch compiles linear layers to. It isn't documented: where
it is missing, or for small products, `torch.mm` does the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

TALL = 512  # rows


def worth_it(capabilities: Mapping[str, Any]) -> int:
    """Multiplications, below which the call costs more than it saves on a processor that can do these.

    AMD's (SSE4a is nobody else's) have units of 512 bits since they have AVX-VNNI; MKL uses 256 of them. Where it uses
    all there is, oneDNN's calls are the longer ones. A processor of which nothing is known is taken for one of the
    former: what that may cost is less.
    """
    half_idle = capabilities.get("sse4a", True) and capabilities.get("avx_vnni", True)
    return 3 * 2**20 if half_idle else 2**24


WORTH_IT = worth_it(torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {})
WORTH_ADDING = 2**24  # the same where the product is to be added to another, which oneDNN leaves to a second step

onednn: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch._C._has_mkldnn else None


def watched() -> bool:
    """Whether torch.func or a mode of torch.utils._python_dispatch looks on: documented operations are all it knows."""
    return torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack() > 0


def suits(a: Tensor, b: Tensor, least: int) -> bool:
    """Whether oneDNN takes a @ b, and is faster from so many multiplications on."""
    return (
        a.numel() * b.shape[1] >= least
        and a.dtype == torch.float32
        and a.is_cpu
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
    if suits(a, b, WORTH_IT):
        return by_onednn(a, b)
    return torch.mm(a, b) if out is None else torch.mm(a, b, out=out)


def add_mm(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b."""
    if suits(a, b, WORTH_ADDING):
        total += by_onednn(a, b)
    else:
        total.addmm_(a, b)
