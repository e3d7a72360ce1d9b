"""The losses that the suite knows: their arguments, and which of them have a gradient.

One entry a loss; whatever must treat them alike (problems, questions, adapters, reports) reads it here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["embedding", "real", "constant", "mask", "integer"]

SCALARS = ("temperature", "margin", "bias")  # numbers, or arrays of shape (), that may have a gradient

# The arrays that occur anywhere, by what they hold. Embeddings are rows that a similarity compares; other reals that
# have a gradient are `real`, those that have none `constant`.
KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("query", "positive_key", "negative_keys", "image", "text", "negative_texts"), "embedding"),
    **dict.fromkeys(("negative_images", "view_a", "view_b", "features", "keys", "queue"), "embedding"),
    **dict.fromkeys(("document", "positive_bags"), "embedding"),
    **dict.fromkeys(("bilinear_weight", "logit_bias", "logits"), "real"),
    **dict.fromkeys(("sample_weight", "targets"), "constant"),
    "candidate_mask": "mask",
    **dict.fromkeys(("positive_index", "labels", "key_labels"), "integer"),
}


@dataclass(frozen=True)
class Loss:
    """A loss as the suite sees it."""

    name: str
    arrays: tuple[str, ...]  # those that every call has
    optional: tuple[str, ...]  # arrays that it may have
    gradients: tuple[str, ...]  # the arguments that have one, in the order of the reference's named tuple
    options: Mapping[str, Any] = field(default_factory=dict)  # further keywords and their defaults
    required: tuple[str, ...] = ()  # further keywords that have no default
    similarities: tuple[str, ...] = ("cosine", "dot")
    views: int = 1  # rows of the loss for each row of the first array

    @property
    def scalars(self) -> tuple[str, ...]:
        """The scalar arguments that the loss has."""
        return tuple(name for name in self.gradients if name in SCALARS)

    @property
    def sides(self) -> tuple[str, ...]:
        """The arrays of every call that have a gradient."""
        return tuple(name for name in self.arrays if name in self.gradients)

    def rows(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """How many entries reduction="none" gives."""
        return self.views * shapes[self.arrays[0]][0]

    def differentiable(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        """The arguments that have a gradient in a call with the `given` arrays."""
        return tuple(name for name in self.gradients if name in SCALARS or name in given)


def _losses(*losses: Loss) -> dict[str, Loss]:
    return {loss.name: loss for loss in losses}


LOSSES: Mapping[str, Loss] = _losses(
    Loss(
        "info_nce",
        ("query", "positive_key"),
        ("negative_keys", "bilinear_weight", "positive_index", "candidate_mask", "logit_bias", "sample_weight"),
        ("query", "positive_key", "negative_keys", "temperature", "margin", "bilinear_weight", "logit_bias"),
        similarities=("cosine", "dot", "bilinear"),
    ),
    Loss(
        "info_nce_from_logits",
        ("logits",),
        ("positive_index", "candidate_mask", "sample_weight"),
        ("logits", "temperature", "margin"),
        similarities=(),
    ),
    Loss(
        "clip",
        ("image", "text"),
        ("negative_texts", "negative_images", "candidate_mask", "sample_weight"),
        ("image", "text", "negative_texts", "negative_images", "temperature", "margin"),
    ),
    Loss(
        "nt_xent",
        ("view_a", "view_b"),
        ("candidate_mask", "sample_weight"),
        ("view_a", "view_b", "temperature", "margin"),
        views=2,
    ),
    Loss(
        "dcl",
        ("view_a", "view_b"),
        ("candidate_mask", "sample_weight"),
        ("view_a", "view_b", "temperature", "margin"),
        options={"sigma": None},
        views=2,
    ),
    Loss(
        "debiased",
        ("view_a", "view_b"),
        ("candidate_mask", "sample_weight"),
        ("view_a", "view_b", "temperature"),
        required=("prior",),
        views=2,
    ),
    Loss(
        "hard_negative",
        ("view_a", "view_b"),
        ("candidate_mask", "sample_weight"),
        ("view_a", "view_b", "temperature"),
        required=("prior", "beta"),
        views=2,
    ),
    Loss(
        "moco",
        ("query", "positive_key", "queue"),
        ("sample_weight",),
        ("query", "positive_key", "queue", "temperature", "margin"),
    ),
    Loss(
        "gte",
        ("query", "document"),
        ("candidate_mask", "sample_weight"),
        ("query", "document", "temperature", "margin"),
    ),
    Loss(
        "mil_nce",
        ("query", "positive_bags"),
        ("candidate_mask", "sample_weight"),
        ("query", "positive_bags", "temperature", "margin"),
        options={"symmetric": False},
    ),
    Loss(
        "soft_nce",
        ("query", "keys", "targets"),
        ("candidate_mask", "sample_weight"),
        ("query", "keys", "temperature"),
    ),
    Loss(
        "sup_con",
        ("features", "labels"),
        ("keys", "key_labels", "candidate_mask", "sample_weight"),
        ("features", "keys", "temperature", "margin"),
        options={"variant": "out"},
    ),
    Loss(
        "siglip",
        ("image", "text"),
        ("candidate_mask", "sample_weight"),
        ("image", "text", "temperature", "bias"),
    ),
    Loss(
        "triplet",
        ("query", "positive_key"),
        ("negative_keys", "candidate_mask", "sample_weight"),
        ("query", "positive_key", "negative_keys", "margin"),
    ),
    Loss(
        "n_pair",
        ("query", "positive_key"),
        ("candidate_mask", "sample_weight"),
        ("query", "positive_key"),
        similarities=("dot",),
    ),
    Loss(
        "matryoshka",  # of info_nce: the loss that is summed over prefixes of the embeddings
        ("query", "positive_key"),
        ("negative_keys", "candidate_mask", "sample_weight"),
        ("query", "positive_key", "negative_keys", "temperature", "margin"),
        options={"weights": None},
        required=("dims",),
    ),
)

IN_BATCH_OR_NOT = ("info_nce", "triplet", "matryoshka")  # the losses that have in_batch_negatives
