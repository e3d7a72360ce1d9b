"""Losses of a batch that is spread over torch.distributed processes: sound ones, and the ways to lose something."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather

import infonce_ref


def everyone(rows: Tensor) -> Tensor:
    """The rows of all processes; gradients go back to where the rows came from."""
    return torch.cat(list(all_gather(rows.contiguous())))


def everyone_without_gradients(rows: Tensor) -> Tensor:
    """The rows of all processes, of which only one's own are differentiated through."""
    parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows.detach().contiguous())
    parts[distributed.get_rank()] = rows
    return torch.cat(parts)


def own_rows(query: Tensor) -> Tensor:
    return torch.arange(len(query)) + distributed.get_rank() * len(query)


def own_queries(query: Tensor, positive_key: Tensor, temperature: Any) -> Any:
    """The mean over one's own queries."""
    return infonce_ref.info_nce(query, everyone(positive_key), temperature=temperature, positive_index=own_rows(query))


def info_nce(query: Tensor, positive_key: Tensor, temperature: Any) -> Any:
    """Everybody computes the whole batch's loss."""
    return infonce_ref.info_nce(everyone(query), everyone(positive_key), temperature=temperature)


def clip(image: Tensor, text: Tensor, temperature: Any) -> Any:
    return infonce_ref.clip(everyone(image), everyone(text), temperature=temperature)


def nt_xent(view_a: Tensor, view_b: Tensor, temperature: Any) -> Any:
    return infonce_ref.nt_xent(everyone(view_a), everyone(view_b), temperature=temperature)


def siglip(image: Tensor, text: Tensor, temperature: Any, bias: Any) -> Any:
    return infonce_ref.siglip(everyone(image), everyone(text), temperature=temperature, bias=bias)


def sup_con(features: Tensor, labels: Tensor, temperature: Any) -> Any:
    return infonce_ref.sup_con(everyone(features), torch.cat(list(all_gather(labels))), temperature=temperature)


# --- wrong -----------------------------------------------------------------------------------------------------------


def nothing_gathered(query: Tensor, positive_key: Tensor, temperature: Any) -> Any:
    return infonce_ref.info_nce(query, positive_key, temperature=temperature)


def gradients_stay(query: Tensor, positive_key: Tensor, temperature: Any) -> Any:
    keys = everyone_without_gradients(positive_key)
    return infonce_ref.info_nce(query, keys, temperature=temperature, positive_index=own_rows(query))


def divided_twice(query: Tensor, positive_key: Tensor, temperature: Any) -> Any:
    """The whole batch's loss, differentiated through one's own rows only: right before an average, not after."""
    both = (everyone_without_gradients(rows) for rows in (query, positive_key))
    return infonce_ref.info_nce(*both, temperature=temperature)


def labels_not_shifted(query: Tensor, positive_key: Tensor, temperature: Any) -> Any:
    keys = everyone(positive_key)
    return infonce_ref.info_nce(query, keys, temperature=temperature, positive_index=torch.arange(len(query)))


def one_raises(query: Tensor, positive_key: Tensor, temperature: Any) -> Any:
    if distributed.get_rank() == 1:
        raise RuntimeError("not here")
    return info_nce(query, positive_key, temperature)
