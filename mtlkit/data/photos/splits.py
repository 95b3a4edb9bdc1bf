"""Which splits a folder has."""

from pathlib import Path


def train_and_test_split(root: Path) -> tuple[str, str]:
    """Return the names of the splits to train and to test on in a folder in the VOC or COCO layout.

    Where there is a "test", "trainval" is trained on if it exists; otherwise it is "train" and "val".
    """
    lists = [*root.glob("ImageSets/Main/*.txt"), *root.glob("annotations/instances_*.json")]
    names = {file.stem.removeprefix("instances_") for file in lists}
    if not (root / "ImageSets").is_dir() and (root / "Annotations").is_dir():
        return "train", "test"  # `VocFolder` makes its own
    if "test" in names:
        return ("trainval" if "trainval" in names else "train"), "test"
    return "train", "val"
