"""What the writers of all layouts share."""

from pathlib import Path
from typing import Any

import torch
from torchvision.transforms.v2.functional import to_pil_image

from mtlkit.data.batches import Sample


def all_samples(dataset: Any) -> list[Sample]:
    """Return every sample."""
    return [dataset[index] for index in range(len(dataset))]


def true_boxes(sample: Sample) -> list[tuple[list[float], int]]:
    """Return the boxes of a sample with their labels."""
    return list(
        zip(
            sample.get("boxes", torch.empty(0, 4)).tolist(),
            sample.get("box_labels", torch.empty(0)).tolist(),
            strict=True,
        )
    )


def write_image(sample: Sample, file: Path) -> None:
    """Write the image of a sample; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image((sample["image"] * 255).round().to(torch.uint8)).save(file)
