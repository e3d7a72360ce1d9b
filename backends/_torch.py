"""The losses on PyTorch tensors: the reference's definitions, carried out by tiles, with gradients by autograd.

A loss takes the arguments of the reference's loss of that name, refuses what that refuses, and can be differentiated
any number of times:

>>> import torch
>>> from infonce_ref.backends import torch as fast
>>> query = torch.eye(2, requires_grad=True)
>>> loss = fast.info_nce(query, torch.eye(2), temperature=0.5)
>>> print(f"{loss.item():.6f}")  # log(1 + e^{-1/0.5})
0.126928
>>> loss.backward()
>>> query.grad.shape
torch.Size([2, 2])
>>> loss, grad = fast.info_nce.value_and_grad(torch.eye(2), torch.eye(2), temperature=0.5)
>>> print(f"{grad.temperature.item():.6f}")  # sigmoid(-1/0.5) / 0.5**2
0.476812

The modules are what a training loop holds: `InfoNCELoss`, `CLIPLoss`, `NTXentLoss`, `SupConLoss`, `MoCoLoss`; `InfoNCE`
takes what info-nce-pytorch's class of that name does, and `info_nce_loss` what the function proposed for
torch.nn.functional does (pytorch/pytorch#195380).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

import infonce_ref
from infonce_ref.backends import _torch_plans as plans
from infonce_ref.backends._plans import reference_of
from infonce_ref.backends._torch_autograd import TorchLoss
from infonce_ref.loss import G, P

info_nce = TorchLoss(infonce_ref.info_nce, plans.info_nce)
clip = TorchLoss(infonce_ref.clip, plans.clip)
nt_xent = TorchLoss(infonce_ref.nt_xent, plans.nt_xent)
moco = TorchLoss(infonce_ref.moco)
gte = TorchLoss(infonce_ref.gte)
n_pair = TorchLoss(infonce_ref.n_pair)
sup_con = TorchLoss(infonce_ref.sup_con)
mil_nce = TorchLoss(infonce_ref.mil_nce)
soft_nce = TorchLoss(infonce_ref.soft_nce)
dcl = TorchLoss(infonce_ref.dcl)
debiased = TorchLoss(infonce_ref.debiased)
hard_negative = TorchLoss(infonce_ref.hard_negative)
siglip = TorchLoss(infonce_ref.siglip)
triplet = TorchLoss(infonce_ref.triplet)
info_nce_from_logits = TorchLoss(infonce_ref.info_nce_from_logits)


def matryoshka(loss: TorchLoss[P, G], dims: Sequence[int], weights: Sequence[float] | None = None) -> TorchLoss[P, G]:
    """`infonce_ref.matryoshka` of a loss of this module; differentiable as they are.

    >>> nested = matryoshka(info_nce, dims=(2,), weights=(2.0,))
    >>> print(f"{nested(torch.eye(2), torch.eye(2), temperature=0.5).item():.6f}")  # 2 log(1 + e^{-1/0.5})
    0.253856
    """
    return TorchLoss(infonce_ref.matryoshka(reference_of(loss), dims, weights))


Reduction = Literal["mean", "sum", "none"]


def info_nce_loss(
    query: Tensor,
    positive_key: Tensor,
    negative_keys: Tensor | None = None,
    temperature: float | Tensor = 0.1,
    reduction: Reduction = "mean",
) -> Tensor:
    """InfoNCE of cosines, where explicit negatives replace those in the batch.

    Parameters
    ----------
    query, positive_key : Tensor (N, D)
        Row i of one belongs to row i of the other.
    negative_keys : Tensor (M, D), or (N, M, D), optional
        The negatives of every query, or each one's own. Without them: the other queries' positive keys.
    temperature : float or 0-d Tensor, > 0
        τ.
    reduction : "mean", "sum" or "none"
        Over the N queries.

    Examples
    --------
    >>> query = torch.eye(2)
    >>> print(f"{info_nce_loss(query, query, -query, temperature=0.5).item():.6f}")  # log(1 + e^{-2} + e^{-4})
    0.142932
    """
    in_batch = negative_keys is None
    return info_nce(
        query, positive_key, negative_keys,
        temperature=temperature, in_batch_negatives=in_batch, reduction=reduction,
    )  # fmt: skip


class InfoNCELoss(nn.Module):
    """`info_nce` as a module.

    Examples
    --------
    >>> loss = InfoNCELoss(temperature=0.5)
    >>> print(f"{loss(torch.eye(2), torch.eye(2)).item():.6f}")  # log(1 + e^{-1/0.5})
    0.126928
    """

    def __init__(
        self,
        temperature: float = 0.1,
        reduction: Reduction = "mean",
        *,
        similarity: Literal["cosine", "dot"] = "cosine",
        in_batch_negatives: bool | None = None,
        margin: float = 0.0,
    ) -> None:
        """`in_batch_negatives` None: only where no explicit negatives are given, as `info_nce_loss`."""
        super().__init__()
        self.temperature, self.reduction, self.similarity = temperature, reduction, similarity
        self.in_batch_negatives, self.margin = in_batch_negatives, margin

    def forward(self, query: Tensor, positive_key: Tensor, negative_keys: Tensor | None = None) -> Tensor:
        in_batch = negative_keys is None if self.in_batch_negatives is None else self.in_batch_negatives
        return info_nce(
            query, positive_key, negative_keys,
            temperature=self.temperature, similarity=self.similarity, in_batch_negatives=in_batch, margin=self.margin,
            reduction=self.reduction,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, reduction={self.reduction!r}, similarity={self.similarity!r}"


class InfoNCE(nn.Module):
    """The loss with info-nce-pytorch's arguments, and its results.

    Examples
    --------
    >>> loss = InfoNCE(temperature=0.5, negative_mode="paired")
    >>> query = torch.eye(2)
    >>> print(f"{loss(query, query, -query[:, None, :]).item():.6f}")  # log(1 + e^{-2/0.5})
    0.018150
    """

    def __init__(
        self,
        temperature: float = 0.1,
        reduction: Reduction = "mean",
        negative_mode: Literal["unpaired", "paired"] = "unpaired",
    ) -> None:
        """negative_mode "unpaired": negative keys (M, D), for every query; "paired": (N, M, D), each one's own."""
        super().__init__()
        self.temperature, self.reduction, self.negative_mode = temperature, reduction, negative_mode

    def forward(self, query: Tensor, positive_key: Tensor, negative_keys: Tensor | None = None) -> Tensor:
        if negative_keys is not None:
            if self.negative_mode not in ("unpaired", "paired"):
                raise ValueError(f"negative_mode must be 'unpaired' or 'paired', got {self.negative_mode!r}")
            wanted = 3 if self.negative_mode == "paired" else 2
            if negative_keys.ndim != wanted:
                raise ValueError(
                    f"negative_keys must have {wanted} dimensions where negative_mode is {self.negative_mode!r}, "
                    f"got {tuple(negative_keys.shape)} [input.shape]"
                )
        return info_nce_loss(query, positive_key, negative_keys, self.temperature, self.reduction)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, reduction={self.reduction!r}, negative_mode={self.negative_mode!r}"


class CLIPLoss(nn.Module):
    r"""`clip` with CLIP's parameter, the logarithm of the scale 1/τ of the logits.

    The scale is min(exp(logit_scale), max_scale). Where that clamp is active the parameter's gradient is 0, so that it
    stays there; CLIP's own training clamps the parameter after each step instead, which `clamp_` does.

    Examples
    --------
    >>> loss = CLIPLoss()
    >>> loss(torch.eye(4), torch.eye(4)).backward()
    >>> loss.logit_scale.grad.shape
    torch.Size([])
    >>> loss.clamp_()  # after optimizer.step()
    """

    def __init__(
        self,
        initial_temperature: float = 0.07,
        max_scale: float = 100.0,
        reduction: Reduction = "mean",
        *,
        learnable: bool = True,
    ) -> None:
        """`max_scale` math.inf for no clamp. A scale that isn't `learnable` is a buffer."""
        super().__init__()
        self.max_scale, self.reduction = max_scale, reduction
        logit_scale = torch.tensor(-math.log(initial_temperature))
        if learnable:
            self.logit_scale = nn.Parameter(logit_scale)
        else:
            self.register_buffer("logit_scale", logit_scale)

    def temperature(self) -> Tensor:
        """τ, 0-d; differentiable."""
        scale = self.logit_scale
        beyond = scale > math.log(self.max_scale)
        return torch.where(beyond, torch.full_like(scale, 1 / self.max_scale), torch.exp(-scale))

    @torch.no_grad()
    def clamp_(self) -> None:
        """Brings the parameter back to where its scale is no more than `max_scale`."""
        self.logit_scale.clamp_(max=math.log(self.max_scale))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return clip(image, text, temperature=self.temperature(), reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"max_scale={self.max_scale}, reduction={self.reduction!r}"


class NTXentLoss(nn.Module):
    """`nt_xent` as a module.

    Examples
    --------
    >>> loss = NTXentLoss(temperature=0.5)
    >>> print(f"{loss(torch.eye(2), torch.eye(2)).item():.6f}")  # log(1 + 2 e^{-1/0.5})
    0.239545
    """

    def __init__(self, temperature: float = 0.1, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.temperature, self.reduction = temperature, reduction

    def forward(self, view_a: Tensor, view_b: Tensor) -> Tensor:
        return nt_xent(view_a, view_b, temperature=self.temperature, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, reduction={self.reduction!r}"


class SupConLoss(nn.Module):
    """`sup_con` as a module.

    Examples
    --------
    >>> loss = SupConLoss(temperature=0.5)
    >>> features = torch.eye(2).repeat_interleave(2, 0)
    >>> print(f"{loss(features, torch.tensor([0, 0, 1, 1])).item():.6f}")  # log(1 + 2 e^{-1/0.5})
    0.239545
    """

    def __init__(
        self,
        temperature: float = 0.1,
        variant: Literal["out", "in", "sincere"] = "out",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.temperature, self.variant, self.reduction = temperature, variant, reduction

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        return sup_con(features, labels, temperature=self.temperature, variant=self.variant, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, variant={self.variant!r}, reduction={self.reduction!r}"


class MoCoLoss(nn.Module):
    """`moco` as a module, its queue a buffer: `enqueue` takes the batch's keys in and lets the oldest go.

    Examples
    --------
    >>> loss = MoCoLoss(dim=2, capacity=3, temperature=0.5)
    >>> query = torch.eye(2)
    >>> loss(query, query).item()  # nobody in the queue, no negatives
    0.0
    >>> loss.enqueue(-query)
    >>> print(f"{loss(query, query).item():.6f}")  # log(1 + e^{-2/0.5} + e^{-1/0.5})
    0.142932
    """

    queue: Tensor

    def __init__(self, dim: int, capacity: int, temperature: float = 0.1, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.capacity, self.temperature, self.reduction = capacity, temperature, reduction
        self.register_buffer("queue", torch.empty(0, dim))

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """The last `capacity` keys that came in, oldest first."""
        self.queue = torch.cat([self.queue.to(keys), keys])[-self.capacity :]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """A queue is loaded however full it is."""
        if f"{prefix}queue" in state_dict:
            self.queue = self.queue.new_empty(state_dict[f"{prefix}queue"].shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, query: Tensor, positive_key: Tensor) -> Tensor:
        queue = self.queue.to(query)
        return moco(query, positive_key, queue, temperature=self.temperature, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"capacity={self.capacity}, temperature={self.temperature}, reduction={self.reduction!r}"
