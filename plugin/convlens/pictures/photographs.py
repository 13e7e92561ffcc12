"""Read pictures as arrays for networks."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

_LUMINANCE = np.array([[0.299], [0.587], [0.114]], np.float32)  # ITU-R BT.601, as Pillow's


def read_image(source: Any, *, size: int | None = None) -> NDArray[np.float32]:
    """Return a picture as RGB (h, w, 3) float32, with values from 0 to 1.

    Gray pictures become RGB, transparent pictures get a white background, 16-bit gray pictures keep
    their depth, and photographs are rotated by their EXIF orientation. Pillow's limit on
    decompression bombs applies.

    Args:
        source: a file's path, a `PIL.Image.Image`, or an array (h, w), (h, w, 1), (h, w, 3) or
            (h, w, 4): uint8, uint16, or floats from 0 to 1.
        size: length in pixels to which the longest side is resized; None keeps the size.

    Raises:
        ValueError: a file that is not a picture, or too large to be opened safely; an array of a
            wrong shape, or with values that are not finite or out of range.
    """
    from PIL import Image

    picture = _open(source) if isinstance(source, str | os.PathLike) else source
    rgb = _rgb(np.asarray(_plain(picture) if isinstance(picture, Image.Image) else picture))
    return rgb if size is None else resized(rgb, fitted(rgb.shape[:2], size))


def read_resized(path: Any, size: tuple[int, int], channels: int = 3) -> NDArray[np.float32]:
    """Return a file's picture, read as `read_image` reads it and resized to exactly a size.

    Pixels are interpolated linearly, and the aspect ratio may change.

    Args:
        path: the file.
        size: (h, w).
        channels: 3 for RGB, or 1 for gray: 0.299 R + 0.587 G + 0.114 B.

    Returns:
        (h, w, channels) float32, with values from 0 to 1.

    Raises:
        ValueError: the file is not a picture, cannot be read, or has values out of range; the
            message names it.
    """
    from PIL import Image

    plain = _plain(_open(path)).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    try:
        rgb = _rgb(np.asarray(plain))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if channels == 3:
        return rgb
    # Gray pictures have three equal channels, which the weights may change by a rounding error.
    gray = rgb[..., :1] if plain.mode == "F" else rgb @ _LUMINANCE
    return np.clip(gray, 0.0, 1.0)


def fitted(size: tuple[int, ...], longest: int) -> tuple[int, int]:
    """Return a size (h, w) of the same aspect ratio with a longer side of `longest`.

    Raises:
        ValueError: `longest` is below 1.
    """
    if longest < 1:
        raise ValueError(f"size must be at least 1 pixel, not {longest}")
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resized(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return an image (h, w, c) with values in [0, 1], resized to (h, w) with Lanczos filtering."""
    from PIL import Image

    if image.shape[:2] == size:
        return image
    h, w = size
    channels = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(image[..., c]), mode="F").resize(
                (w, h), Image.Resampling.LANCZOS
            )
        )
        for c in range(image.shape[-1])
    ]
    return np.clip(np.stack(channels, axis=-1), 0.0, 1.0)


def _open(path: str | os.PathLike[str]) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow repairs the files of its other warnings, and raises errors for those it cannot.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.load()
                return picture
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ValueError(
            f"{path} has more pixels than Pillow opens safely ({Image.MAX_IMAGE_PIXELS:,}): "
            "make it smaller first"
        ) from None
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture that Pillow can read") from None
    except (OSError, SyntaxError) as error:  # SyntaxError: from a broken PNG
        raise ValueError(f"{path} cannot be read ({error})") from None


def _plain(picture: Image.Image) -> Image.Image:
    """Return a picture upright and opaque: in mode RGB, or in mode F with values from 0 to 1."""
    from PIL import Image, ImageOps

    turned = ImageOps.exif_transpose(picture)
    if turned.mode.startswith("I"):  # 16 bits per pixel, truncated by Pillow's convert("RGB")
        values = np.clip(np.asarray(turned), 0, 65535).astype(np.float32)
        return Image.fromarray(values / np.float32(65535))
    if turned.mode == "F":
        return turned
    if "A" in turned.getbands() or "transparency" in turned.info:
        over = turned.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        turned = Image.alpha_composite(white, over)
    return turned.convert("RGB")


def _rgb(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(
            "a picture must have shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), "
            f"not {array.shape}"
        )
    if array.dtype in (np.uint8, np.uint16):
        array = array / np.float32(np.iinfo(array.dtype).max)
    elif not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"a picture must be uint8, uint16 or float, not {array.dtype}")
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("the picture has values that are not finite (NaN or infinity)")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"the picture's values range from {values.min():g} to {values.max():g}: "
            "give uint8, or floats from 0 to 1"
        )
    if values.shape[-1] == 4:
        alpha = values[..., 3:]
        values = values[..., :3] * alpha + (1 - alpha)
    return np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values
