"""Two batches that match row by row: clip and siglip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from infonce_ref.conformance.cases.case import Case, Cases
from infonce_ref.conformance.cases.draw import few, full32, keep, near32
from infonce_ref.conformance.cases.family.refused import refused, small, with_own
from infonce_ref.conformance.cases.family.subject import NAN, TINY, Subject, aligned_trio, classes


def image_and_text(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    return {"image": x, "text": y}


CLIP = Subject(
    "clip",
    image_and_text,
    2000,
    "one direction only, the sum of both in place of their mean, the softmax over the same axis twice; a gradient that "
    "a side gets as query or as candidate alone",
    "log 3 in both directions",
)
SIGLIP = Subject(
    "siglip",
    image_and_text,
    2200,
    "a softmax in place of sigmoids; the mean over all pairs, not over images; the sign of the bias; images and texts "
    "exchanged",
    "softplus(-(s + b)) + 2 softplus(s + b)",
    options={"bias": -2.0},
    tiny=(),
    lone="one pair: softplus(-(s + b)), not 0",
    spoils_all=False,
)


# --- clip ----------------------------------------------------------------------------------------------------------


def clip_negatives() -> Iterator[Case]:
    """Hard negatives of either direction."""
    shared, own = few(2011, 3, 3), few(2012, 4, 2, 3)
    yield Case(
        "shared-texts",
        CLIP.of(CLIP.arrays(1, negative_texts=shared)),
        "texts that are negatives of images: added to the other direction too, or to neither's gradient",
        ("clip.negatives",),
        profile="negatives",
    )
    yield Case(
        "own-images",
        CLIP.of(CLIP.arrays(1, negative_images=own)),
        "each text's own images: shared by all, or given to the images",
        ("clip.negatives",),
        profile="negatives",
    )
    yield Case(
        "both",
        CLIP.of(CLIP.arrays(2, negative_texts=few(2013, 4, 1, 3), negative_images=few(2014, 5, 3)), reduction="none"),
        "own texts and shared images, of different numbers: exchanged between the directions",
        ("clip.negatives",),
        profile="negatives",
    )
    x, y, z = aligned_trio(2015, 2)
    yield Case(
        "tiny",
        CLIP.of({**CLIP.build(x, y, z), "negative_texts": z, "negative_images": z[:, None]}, 0.046875),
        "tiny losses with explicit negatives in both directions",
        (*TINY, "clip.negatives"),
        profile="negatives",
        precise=True,
    )
    spoilt = own.copy()
    spoilt[2, 1, 0] = NAN
    yield Case(
        "nan",
        CLIP.of(CLIP.arrays(1, negative_images=spoilt), reduction="none"),
        "a NaN among one text's own images: the other pairs' losses are what they were",
        ("rows.nonfinite", "clip.negatives"),
        profile="edges",
        stand_in=CLIP.of(CLIP.arrays(1, negative_images=own), reduction="none"),
        nonfinite={"loss": [2], "negative_images": [2]},
    )


def clip_masks() -> Iterator[Case]:
    """Masks, read along and across."""
    yield Case(
        "asymmetric",
        CLIP.of(CLIP.arrays(3, candidate_mask=keep(2021, 4, 4))),
        "the mask in place of its transpose for text to image, or the other way round; a positive that is masked away",
        ("candidates.mask.positive",),
        profile="masks",
    )
    lone = np.ones((4, 4), dtype=bool)
    lone[1] = False
    yield Case(
        "whole-row",
        CLIP.of(CLIP.arrays(3, candidate_mask=lone), reduction="none"),
        "image 1 has no text left, text 1 has all images: half of the pair's loss is 0, not all",
        ("candidates.none",),
        profile="masks",
    )
    yield Case(
        "beside-negatives",
        CLIP.of(CLIP.arrays(3, candidate_mask=np.zeros((4, 4), dtype=bool), negative_texts=few(2022, 2, 3))),
        "only explicit texts are left: they aren't masked, and text to image is 0",
        ("candidates.none", "clip.negatives"),
        profile="masks",
    )


def clip_tiny_masked() -> Iterator[Case]:
    """A mask that is read along in one direction and across in the other, at tiny losses."""
    x, y, z = aligned_trio(2025, 2)
    three = {"image": np.concatenate([x, z[:1]]), "text": np.concatenate([y, z[:1] + x[:1] / 4.0])}
    mask = np.array([[1, 0, 1], [1, 1, 1], [0, 1, 1]], dtype=bool)
    yield Case(
        "asymmetric",
        CLIP.of({**three, "candidate_mask": mask}, 0.0625),
        "tiny losses, of which the largest comes from a pair that is masked in one direction only",
        (*TINY, "clip.mask"),
        profile="masks",
        precise=True,
    )


def clip_refusals(subject: Subject) -> Iterator[Case]:
    good = small(subject)
    for name, rows, note in (
        ("columns", few(2031, 3, 1), "negatives of another length: broadcast"),
        ("own-rows", few(2032, 3, 1, 2), "own negatives of three texts for two"),
    ):
        yield refused(f"negatives.{name}", "input.shape", note, subject.of({**good, "negative_images": rows}))


# --- siglip --------------------------------------------------------------------------------------------------------


def siglip_bias() -> Iterator[Case]:
    """Biases of any sign."""
    for name, bias, temperature in (("start", -10.0, near32(0.1)), ("zero", 0.0, 0.25), ("positive", 3.5, 0.5)):
        yield Case(
            name,
            SIGLIP.ask(SIGLIP.rows(1), temperature, bias=bias),
            "the bias left out, divided by the temperature, or taken off; a default in its place",
            ("scale.bias",),
            profile="core" if name == "start" else "variants",
        )
    yield Case(
        "beyond-20",
        SIGLIP.ask((few(2211, 3, 3), -few(2211, 3, 3), few(2212, 3, 3)), 0.0625, bias=-16.0),
        "softplus of more than 20 and less than -20: cut off at 20, or log(sigmoid) of 0",
        profile="variants",
    )


def siglip_masks() -> Iterator[Case]:
    """Pairs that don't count."""
    yield Case(
        "pairs",
        SIGLIP.of(SIGLIP.arrays(2, candidate_mask=keep(2221, 4, 4))),
        "a masked pair counts with label 0 or as log 2; a matching pair that is masked away",
        ("candidates.mask.positive",),
        profile="masks",
    )
    yield Case(
        "nothing-left",
        SIGLIP.of(SIGLIP.arrays(2, candidate_mask=np.zeros((4, 4), dtype=bool)), reduction="none"),
        "no pair but the matching ones: their losses, not 0",
        ("candidates.mask.positive",),
        profile="masks",
    )


def siglip_refusals(subject: Subject) -> Iterator[Case]:
    for name, bias in (("nan", NAN), ("inf", float("inf"))):
        yield refused(
            f"bias.{name}", "scale.bias", "a bias that is no finite number", subject.of(small(subject), bias=bias)
        )


def siglip_dtypes() -> Iterator[Case]:
    """A bias that takes all bits."""
    yield Case(
        "full-mantissa",
        SIGLIP.ask((full32(2231, 3, 4), full32(2232, 3, 4), full32(2233, 3, 4)), near32(0.07), bias=near32(-3.3)),
        "a bias in a lower precision",
        profile="variants",
    )


CLASSES: Mapping[str, Mapping[str, Cases]] = {
    **classes(
        CLIP,
        negatives=clip_negatives,
        masks=clip_masks,
        tiny_masked=clip_tiny_masked,
        errors=with_own(CLIP, clip_refusals),
    ),
    **classes(
        SIGLIP, bias=siglip_bias, masks=siglip_masks, dtype=siglip_dtypes, errors=with_own(SIGLIP, siglip_refusals)
    ),
}
