"""Tumours: a diagnosis and three measurements of a fine-needle aspirate, from a real table."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlkit.data.memory import InMemory

# what is held back as a target → its column; of the largest nuclei in the picture
MEASURES = {"radius": "worst radius", "texture": "worst texture", "concavity": "worst concave points"}
SHARES = {"train": (0.0, 0.6), "val": (0.6, 0.75), "test": (0.75, 1.0)}
WHY = ("by chance", "suspicious first")


class Tumours(InMemory):
    """569 tumours: 20 measurements of nuclei are given, a diagnosis and three more measurements are asked for.

    W. H. Wolberg, W. N. Street and O. L. Mangasarian, "Breast Cancer Wisconsin (Diagnostic)", UCI Machine Learning
    Repository, 1995 (CC BY 4.0), as scikit-learn brings it.

    A sample is `{"features": float32 [20], "diagnosis": int64 [] (0 benign, 1 malignant), "radius", "texture",
    "concavity": float32 []}`; numbers are in standard deviations of the training tumours. A label that nobody took down
    is -1 or NaN.

    Args:
        split: "train", "val" or "test": 60, 15 and 25 %, benign and malignant alike.
        seed: of the splits, and of which labels are there.
        known: share of the training tumours whose measurements were taken down; the diagnosis is there for all.
        diagnosed: share of the training tumours with a diagnosis.
        why: "by chance", or "suspicious first": the share with the largest nuclei, as one measures what looks bad.
    """

    classes = ("benign", "malignant")

    def __init__(
        self, split: str = "train", seed: int = 0, known: float = 1.0, diagnosed: float = 1.0, why: str = WHY[0]
    ) -> None:
        if split not in SHARES:
            raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SHARES)}")
        if why not in WHY:
            raise ValueError(f"why={why!r}: expected one of {', '.join(map(repr, WHY))}")
        for name, share in (("known", known), ("diagnosed", diagnosed)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share}: expected a share from 0 to 1")
        from sklearn.datasets import load_breast_cancer  # slow to import

        table = load_breast_cancer()
        columns = table.feature_names.tolist()
        malignant = 1 - table.target  # scikit-learn counts the benign ones
        parts = {name: _part(malignant, seed, *ends) for name, ends in SHARES.items()}
        train, rows = parts["train"], parts[split]
        scaled = (table.data - table.data[train].mean(0)) / table.data[train].std(0)
        self.names = columns[:20]
        self.features = torch.tensor(scaled[rows, :20], dtype=torch.float32)
        self.labels = {"diagnosis": torch.tensor(malignant[rows])}
        for name, column in MEASURES.items():
            self.labels[name] = torch.tensor(scaled[rows, columns.index(column)], dtype=torch.float32)
        if split == "train":
            random = np.random.default_rng((seed, 1))
            order = random.permutation(len(rows)) if why == WHY[0] else np.argsort(-scaled[rows, 0], kind="stable")
            for name in MEASURES:
                self.labels[name][order[round(known * len(rows)) :].copy()] = float("nan")
            hidden = random.permutation(len(rows))[round(diagnosed * len(rows)) :]
            self.labels["diagnosis"][hidden] = -1

    def inputs(self, at: Tensor) -> dict[str, Any]:
        """Return what is given."""
        return {"features": self.features[at]}


def _part(malignant: np.ndarray, seed: int, low: float, high: float) -> np.ndarray:
    """Return the rows of a split, of both kinds alike."""
    rows = []
    for kind in (0, 1):
        own = np.random.default_rng((seed, 0, kind)).permutation(np.flatnonzero(malignant == kind))
        rows.append(own[round(low * len(own)) : round(high * len(own))])
    return np.sort(np.concatenate(rows))
