"""What exactly is InfoNCE, and does this code compute it? A reference for the loss family, in pure Array API."""

from infonce_ref.diagnostics import (
    NegativeWeights,
    alignment,
    mutual_information_bound,
    negative_weights,
    top_k_accuracy,
    uniformity,
)
from infonce_ref.losses.info_nce import InfoNCEGrads, info_nce
from infonce_ref.queue import KeyQueue
from infonce_ref.scale import temperature_from_logit_scale

__version__ = "0.1.0"

__all__ = [
    "InfoNCEGrads",
    "KeyQueue",
    "NegativeWeights",
    "alignment",
    "info_nce",
    "mutual_information_bound",
    "negative_weights",
    "temperature_from_logit_scale",
    "top_k_accuracy",
    "uniformity",
]
