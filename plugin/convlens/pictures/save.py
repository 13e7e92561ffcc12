"""PNG files: never half-written, and with names that stay in their folder."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

from PIL import Image

from convlens.files import write_whole

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def slug(name: str) -> str:
    """Return a file name made from a layer's or a model's name.

    A name that is safe as it is stays as it is. Of any other, what is not a letter, digit, dot,
    underscore or hyphen becomes an underscore, and a short hash of the name keeps it apart from
    all others; it cannot leave its folder.
    """
    if _SAFE.fullmatch(name) and not _RESERVED.fullmatch(name) and not name.endswith("."):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")[:60]
    return f"{kept}~{digest}" if kept else f"~{digest}"


def save_png(image: Image.Image, path: Path) -> None:
    """Write a picture, whole or not at all.

    Raises:
        OSError: the folder cannot be made or written to; the message names it.
    """
    content = io.BytesIO()
    image.save(content, format="PNG")
    write_whole(path, content.getvalue())
