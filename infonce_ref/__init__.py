"""What exactly is InfoNCE, and does this code compute it? A reference for the loss family, in pure Array API."""

from infonce_ref.diagnostics import (
    NegativeWeights,
    alignment,
    mutual_information_bound,
    negative_weights,
    top_k_accuracy,
    uniformity,
)
from infonce_ref.false_negatives import guide_mask, same_id_mask, similarity_mask
from infonce_ref.losses.clip import CLIPGrads, clip
from infonce_ref.losses.dcl import dcl
from infonce_ref.losses.debiased import UnbiasedGrads, debiased, hard_negative
from infonce_ref.losses.from_logits import LogitsGrads, info_nce_from_logits
from infonce_ref.losses.gte import GTEGrads, gte
from infonce_ref.losses.info_nce import InfoNCEGrads, info_nce
from infonce_ref.losses.matryoshka import matryoshka
from infonce_ref.losses.mil_nce import MILNCEGrads, mil_nce
from infonce_ref.losses.moco import MoCoGrads, moco
from infonce_ref.losses.n_pair import NPairGrads, n_pair
from infonce_ref.losses.nt_xent import nt_xent
from infonce_ref.losses.siglip import SigLIPGrads, siglip
from infonce_ref.losses.soft_nce import SoftNCEGrads, soft_nce
from infonce_ref.losses.sup_con import SupConGrads, sup_con
from infonce_ref.losses.triplet import TripletGrads, triplet
from infonce_ref.losses.views import ViewGrads
from infonce_ref.mining import HardNegatives, mine_hard_negatives
from infonce_ref.queue import KeyQueue
from infonce_ref.scale import temperature_from_logit_scale

__version__ = "0.1.0"

__all__ = [
    "CLIPGrads",
    "GTEGrads",
    "HardNegatives",
    "InfoNCEGrads",
    "KeyQueue",
    "LogitsGrads",
    "MILNCEGrads",
    "MoCoGrads",
    "NPairGrads",
    "NegativeWeights",
    "SigLIPGrads",
    "SoftNCEGrads",
    "SupConGrads",
    "TripletGrads",
    "UnbiasedGrads",
    "ViewGrads",
    "alignment",
    "clip",
    "dcl",
    "debiased",
    "gte",
    "guide_mask",
    "hard_negative",
    "info_nce",
    "info_nce_from_logits",
    "matryoshka",
    "mil_nce",
    "mine_hard_negatives",
    "moco",
    "mutual_information_bound",
    "n_pair",
    "negative_weights",
    "nt_xent",
    "same_id_mask",
    "siglip",
    "similarity_mask",
    "soft_nce",
    "sup_con",
    "temperature_from_logit_scale",
    "top_k_accuracy",
    "triplet",
    "uniformity",
]
