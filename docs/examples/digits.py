"""scikit-learn's handwritten digits: 1797 images of 8 × 8 pixels, and random views of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits


class Digits(NamedTuple):
    train: np.ndarray  # (1297, 8, 8), pixels between 0 and 1
    train_labels: np.ndarray
    test: np.ndarray  # (500, 8, 8), by other writers
    test_labels: np.ndarray


def digits() -> Digits:
    data = load_digits()
    images, labels = data.images / 16, data.target
    return Digits(images[:-500], labels[:-500], images[-500:], labels[-500:])


def view(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """Each image moved by up to one pixel, brighter or darker, with noise: (N, 64)."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    down, right = rng.integers(0, 3, size=(2, len(images)))
    moved = np.stack([x[i : i + 8, j : j + 8] for x, i, j in zip(padded, down, right, strict=True)])
    light = rng.uniform(0.7, 1.3, size=(len(images), 1, 1))
    return (moved * light + 0.1 * rng.normal(size=images.shape)).reshape(len(images), -1)


def same_label_nearby(embedded: np.ndarray, labels: np.ndarray, k: int = 10) -> float:
    """The share of each row's k nearest others, by cosine, that have its label."""
    unit = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    nearest = np.argsort(-similar, axis=1, kind="stable")[:, :k]
    return float(np.mean(labels[nearest] == labels[:, None]))
