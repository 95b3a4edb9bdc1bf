"""Image files as they are seen: upright, in 8 bits a colour, on white where they are transparent."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from mtlkit.data.errors import DataError

MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)  # Pillow's own limit
LARGE = 30_000_000  # pixels
_one_at_a_time = threading.Lock()
ORIENTATION = 0x0112  # EXIF's tag
# Of strange but readable files. Once and for all, for `catch_warnings` is not to be used where threads read images.
warnings.filterwarnings("ignore", module="PIL")


@dataclass(frozen=True)
class Measured:
    """What an image file says of itself.

    Attributes:
        size: width and height in pixels, as stored.
        turned: whether it is seen with width and height exchanged (EXIF orientation 5 to 8).
    """

    size: tuple[int, int]
    turned: bool

    @property
    def seen(self) -> tuple[int, int]:
        """Width and height as seen."""
        return self.size[::-1] if self.turned else self.size


def measure(path: Path) -> Measured:
    """Return size and orientation of an image file, without decoding it.

    Raises:
        DataError: as in `read_image`.
    """
    with _opened(path) as image:
        orientation = 1 if image.format == "TIFF" else image.getexif().get(ORIENTATION, 1)  # Pillow turns TIFF itself
        return Measured(image.size, orientation in (5, 6, 7, 8))


def read_image(path: Path, as_stored: bool = False) -> Tensor:
    """Read any image file that Pillow knows, whatever its ending says, as `uint8 [3, H, W]`.

    It is turned as its EXIF orientation says. Pixels of 16 bits are divided by 257, real numbers in 0..1 multiplied by
    255. Of several frames the first is taken. Large images are read one at a time.

    Args:
        path: the file.
        as_stored: leave the orientation alone.

    Raises:
        DataError: if the file is absent, cut off, no image, too large, or holds numbers that are no colours.
    """
    with _opened(path) as image, _one_at_a_time if image.width * image.height > LARGE else nullcontext():
        shown = image if as_stored else ImageOps.exif_transpose(image)
        return F.pil_to_tensor(_to_rgb(shown, path))


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise DataError(f"{path}: has NaN or infinite pixels; replace it")
        low, high = float(values.min()), float(values.max())
        if image.mode == "F":
            scale, most = (255.0, 1.0) if high <= 1 else (1.0, 255.0)
        else:
            scale, most = (1.0, 255.0) if image.mode == "I" and high <= 255 else (1 / 257, 65535.0)
        if low < 0 or high > most:
            raise DataError(f"{path}: has pixels from {low:g} to {high:g}: expected 0 to {most:g}; scale it")
        scaled = np.multiply(values, np.float32(scale), dtype=np.float32)
        return Image.fromarray(np.rint(scaled, out=scaled).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("RGB")
    return image.convert("RGB")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{path}: the annotations name this image, but it is not there") from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path}: has more than {MOST_PIXELS / 1e6:.0f} million pixels; scale it down or cut it into pieces"
        ) from error
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever they like at damaged files
        raise DataError(f"{path}: cannot be read as an image ({error}); replace it") from error


def fit(image: Tensor, size: int) -> tuple[Tensor, float]:
    """Return `image uint8 [3, H, W]` scaled into a square `[3, size, size]`, the rest grey, and the scale."""
    height, width = image.shape[-2:]
    scale = size / max(height, width)
    image = F.resize(image, [max(1, round(height * scale)), max(1, round(width * scale))], antialias=True)
    return torch.nn.functional.pad(image, (0, size - image.shape[-1], 0, size - image.shape[-2]), value=127), scale
