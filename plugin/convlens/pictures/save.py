"""Write PNG and GIF files atomically, with safe file names."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from convlens.files.atomic import write_atomic
from convlens.pictures.normalize import range_pixels

_COMPRESSION = 3
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def slug(name: str) -> str:
    """Return a safe file name for a layer's or a model's name.

    A safe name is returned unchanged. In any other name, characters other than letters, digits,
    dots, underscores and hyphens become underscores, and a short hash makes the result unique. The
    result never points outside its folder.
    """
    if _SAFE.fullmatch(name) and not _RESERVED.fullmatch(name) and not name.endswith("."):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")[:60]
    return f"{kept}~{digest}" if kept else f"~{digest}"


def save_png(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a picture as PNG, atomically.

    Raises:
        OSError: the folder cannot be created or written to; the message names it.
    """
    content = io.BytesIO()
    # Level 6, the default, takes three times as long for a few percent.
    image.save(content, format="PNG", compress_level=_COMPRESSION)
    write_atomic(path, content.getvalue())


def save_gif(
    frames: Sequence[ArrayLike], path: str | os.PathLike[str], *, seconds: float = 0.1
) -> None:
    """Write images as a repeating GIF animation, atomically.

    Args:
        frames: images (h, w, c) with 1 or 3 channels and values in [0, 1].
        path: path of the file.
        seconds: duration of each frame; the last frame is shown ten times as long.

    Raises:
        ValueError: no frame.
        OSError: the folder cannot be created or written to; the message names it.
    """
    if not len(frames):
        raise ValueError(
            "an animation needs at least one frame: keep frames with the option frame_every"
        )
    pixels = [range_pixels(frame, (0.0, 1.0)) for frame in frames]
    pages = [Image.fromarray(np.squeeze(p)).convert("RGB") for p in pixels]
    shown = [round(1000 * seconds)] * (len(pages) - 1) + [round(10_000 * seconds)]
    content = io.BytesIO()
    pages[0].save(
        content, format="GIF", save_all=True, append_images=pages[1:], duration=shown, loop=0
    )
    write_atomic(path, content.getvalue())
