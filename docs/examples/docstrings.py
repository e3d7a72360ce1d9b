"""A small corpus that is at hand wherever the examples run: the documentation of the functions of NumPy and SciPy.

The first sentence of a docstring is a query, the rest of it the document that answers it.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

MODULES = (
    "numpy", "numpy.fft", "numpy.linalg", "numpy.random", "scipy.cluster.hierarchy", "scipy.fft", "scipy.integrate",
    "scipy.interpolate", "scipy.linalg", "scipy.ndimage", "scipy.optimize", "scipy.signal", "scipy.sparse",
    "scipy.sparse.linalg", "scipy.spatial.distance", "scipy.special", "scipy.stats",
)  # fmt: skip


class Corpus(NamedTuple):
    """Rows in random order, the same on every run: row i of `queries` is answered by row i of `documents`."""

    queries: list[str]
    documents: list[str]


def corpus() -> Corpus:
    """Every docstring that has a first paragraph of four words at least, and a body of some length."""
    found = {}
    for module in map(import_module, MODULES):
        for name in sorted(vars(module)):
            function = getattr(module, name)
            text = inspect.getdoc(function) if callable(function) and name.islower() and name[0] != "_" else None
            summary, _, body = re.sub(r"\A\w+\(.*\)\n+", "", text or "").partition("\n\n")
            if len(summary.split()) >= 4 and len(body) > 400:
                found[" ".join(summary.split())] = body.split("\nReferences\n")[0]
    order = np.random.default_rng(0).permutation(len(found))
    pairs = list(found.items())
    return Corpus(*zip(*(pairs[i] for i in order), strict=True))


def sentences(document: str) -> list[str]:
    """The sentences of its first paragraph, but for lists of parameters and what is too short to say anything."""
    paragraph = " ".join(document.partition("\n\n")[0].split())
    return [s for s in re.split(r"(?<=[.])\s+", paragraph) if len(s.split()) >= 6 and " : " not in s]


def features(texts: list[str], of: list[str], size: int = 256) -> np.ndarray:
    """Latent semantic features of some texts, learnt from others without supervision: tf-idf, then an SVD."""
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english").fit(of)
    svd = TruncatedSVD(size, random_state=0).fit(words.transform(of))
    latent = svd.transform(words.transform(texts))
    return latent / np.maximum(np.linalg.norm(latent, axis=1, keepdims=True), 1e-9)
