"""QM9: small organic molecules and eleven of their properties, from the package qm9pack.

Ramakrishnan, Dral, Rupp, von Lilienfeld, "Quantum chemistry structures and properties of 134 kilo molecules",
Scientific Data 1, 2014. The package (MIT) holds the 130,831 molecules whose geometry converged. Read once, they are
kept as numbers in `data/molecules.npz`.
"""

import csv
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mtlkit.data.download import data_folder
from mtlkit.data.errors import DataError
from mtlkit.data.memory import InMemory

# property → its column; symbols as in the benchmarks of multi-task learning
PROPERTIES = {
    "mu": "Dipole_debye",
    "alpha": "Polarizability_bohr3",
    "homo": "HOMO_au",
    "lumo": "LUMO_au",
    "r2": "R2_bohr2",
    "zpve": "ZPVE_au",
    "U0": "InternalEnergy_0K_au",
    "U": "InternalEnergy_298K_au",
    "H": "Enthalphy_298K_au",
    "G": "GibbsFreeEnergy_298K_au",
    "Cv": "Heatcapacity_Cv_cal_mol_K",
}
ELEMENTS = ("H", "C", "N", "O", "F")
PAIRS = [(a, b) for a in range(5) for b in range(a, 5)]
CENTRES = np.linspace(0.8, 7.0, 24)  # ångström
FEATURES = len(ELEMENTS) + len(PAIRS) * len(CENTRES)
SIZES = {"train": 110_000, "val": 10_000, "test": 10_831}
FILES = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")


class Molecules(InMemory):
    """Molecules of QM9, each as a row of numbers that turning and shifting it do not change.

    The numbers are how many atoms there are of each of five elements, and for each of their 15 pairs how many pairs of
    atoms lie at about each of 24 distances (sums of Gaussians: the two-body part of Huo and Rupp, arXiv:1704.06439).
    Both are standardised with the training molecules, and so are the properties.

    A sample is `{"features": float32 [365]}` and each of `PROPERTIES` `float32 []`, in standard deviations.

    Args:
        split: "train", "val" or "test", by a fixed permutation.
        n: how many of its molecules; all of them, if not given.

    Raises:
        DataError: if qm9pack is not installed, or the split has fewer molecules.
    """

    def __init__(self, split: str = "train", n: int | None = None) -> None:
        if split not in SIZES:
            raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SIZES)}")
        n = SIZES[split] if n is None else n
        if not 1 <= n <= SIZES[split]:
            raise DataError(f"{n} molecules asked for: {split} has 1 to {SIZES[split]:,}")
        features, properties, atoms = _standardised()
        start = sum(SIZES[name] for name in list(SIZES)[: list(SIZES).index(split)])
        self.features = features[start : start + n]
        self.labels = {name: properties[start : start + n, k] for k, name in enumerate(PROPERTIES)}
        self.atoms = atoms[start : start + n]

    def formula(self, index: int) -> str:
        """Return a molecule's atoms, as chemists write them: "C7 H10 O2"."""
        counts = dict(zip(ELEMENTS, self.atoms[index].tolist(), strict=True))
        return " ".join(f"{element}{counts[element]}" for element in ("C", "H", "N", "O", "F") if counts[element])

    def inputs(self, at: Tensor) -> dict[str, Any]:
        """Return what is given."""
        return {"features": self.features[at].float()}


@cache
def _standardised() -> tuple[Tensor, Tensor, Tensor]:
    """Return features `float16 [n, 365]`, properties `float32 [n, 11]` and atoms `[n, 5]`, in a fixed random order."""
    file = data_folder() / "molecules.npz"
    if not file.exists():
        _keep(file, *_read(_folder()))
    with np.load(file) as kept:
        features, properties = kept["features"], kept["properties"]
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(features))
    train = order[: SIZES["train"]]
    scaled = []
    for values in (features, properties):
        known = values[train].astype(np.float64)
        scaled.append((values - known.mean(0)) / known.std(0).clip(1e-3))
    return (
        torch.from_numpy(scaled[0][order].astype(np.float16)),
        torch.from_numpy(scaled[1][order].astype(np.float32)),
        torch.from_numpy(features[order, : len(ELEMENTS)].astype(np.int64)),
    )


def _folder() -> Path:
    spec = find_spec("qm9pack")
    if spec is None or spec.origin is None:
        raise DataError(
            "the molecules come with the package qm9pack (104 MB), which is not installed: "
            "pip install mtlkit[molecules]"
        )
    return Path(spec.origin).parent / "data"


def _keep(file: Path, features: np.ndarray, properties: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    with os.fdopen(handle, "wb") as part:
        np.savez(part, features=features.astype(np.float16), properties=properties)
    Path(name).replace(file)  # whole, or not at all: another process may make it at the same time


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return features `[n, 365]` and properties `[n, 11]` of all molecules, in the order of the files."""
    features, properties = [], []
    for number, elements, places, values in tqdm(
        _rows(folder), total=sum(SIZES.values()), desc="molecules", disable=None
    ):
        if elements.shape != places.shape[:1]:
            raise DataError(f"molecule {number} in {folder} has {len(elements)} elements and {len(places)} places")
        features.append(describe(elements, places))
        properties.append(values)
    return np.stack(features), np.array(properties)


def _rows(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, list[float]]]:
    for name in FILES:
        with (folder / name).open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                elements = np.array([ELEMENTS.index(mark.strip("'[] ")) for mark in row["Elements"].split(",")])
                places = np.array([float(number.strip("[] ")) for number in row["XYZ_Ang"].split(",")]).reshape(-1, 3)
                yield row["Index"], elements, places, [float(row[column]) for column in PROPERTIES.values()]


def describe(elements: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the features `float32 [365]` of a molecule.

    Args:
        elements: of its atoms, as numbers in `ELEMENTS`, `int [N]`.
        places: in ångström `[N, 3]`.
    """
    first, second = np.triu_indices(len(elements), 1)
    distance = np.linalg.norm(places[first] - places[second], axis=1)
    low, high = np.sort([elements[first], elements[second]], axis=0)
    pair = low * 5 - low * (low - 1) // 2 + high - low  # its place in PAIRS
    width = CENTRES[1] - CENTRES[0]
    near = np.exp(-0.5 * ((distance[:, None] - CENTRES) / width) ** 2)
    counts = np.zeros((len(PAIRS), len(CENTRES)))
    np.add.at(counts, pair, near)
    return np.concatenate([np.bincount(elements, minlength=len(ELEMENTS)), counts.ravel()]).astype(np.float32)
