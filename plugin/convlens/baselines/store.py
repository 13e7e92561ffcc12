"""Store each baseline as one `.npz` file without pickle.

The file holds the arrays and a JSON header, so that both are replaced together or not at all. A
picture and a text are beside it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convlens.files.archive import check_array, open_archive
from convlens.files.atomic import write_all_atomic

Variant = Literal["generic", "family", "device"]
# The name of an array in a file, or the steps to it.
Name = str | tuple[str | int, ...]
VARIANTS: tuple[Variant, ...] = ("generic", "family", "device")
MAX_FILE_BYTES = 64 * 2**20
MAX_CONTENT_BYTES = 256 * 2**20
_FORMAT, _VERSION = "convlens-baseline", 3
_READABLE = (2, _VERSION)
_HEADER = "provenance.json"
_MAX_HEADER_BYTES = 16 * 2**20
_MARK = re.compile(r"[0-9a-f]{16}")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that equal content gives equal files


class BaselineFileError(ValueError):
    """A baseline's file cannot be read; the message names the file and says what to do."""


class _FormatVersionError(ValueError):
    """A file of another version of the format; the message says what to do."""


@dataclass(frozen=True)
class Stored:
    """Contents of a baseline's file.

    Attributes:
        key: unique name of the baseline.
        kind: 'network' or 'values'.
        arrays: name → array.
        header: JSON header, which includes the provenance.
    """

    key: str
    kind: str
    arrays: Mapping[Name, NDArray[Any]]
    header: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Device:
    """A device and its family; baselines may have variants for each."""

    name: str
    family: str


def file_stem(key: str) -> str:
    """Return a unique file name, without its suffix, for a baseline's name.

    Characters other than letters, digits and hyphens become hyphens. A hash of the name makes the
    file name unique, also on file systems that ignore case. The file cannot lie outside its
    folder.
    """
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    kept = re.sub(r"[^A-Za-z0-9]+", "-", key).strip("-")[:80]
    return f"{kept}~{digest}"


class Store:
    """A folder of baselines.

    A baseline may have variants for a device or for a family of devices; there they replace the
    generic baseline. A variant may have alternatives; a value must agree with one of them.

    Attributes:
        folder: folder of the files.
        device: device of this run.
    """

    def __init__(self, folder: Path, device: Device) -> None:
        self.folder = folder
        self.device = device

    def find(self, key: str) -> list[Path]:
        """Return the files of the active variant of a baseline."""
        return self.alternatives(key, self.active_variant(key))

    def active_variant(self, key: str) -> Variant:
        """Return the most specific variant of a baseline for this device, or 'generic' if none."""
        existing = (v for v in reversed(VARIANTS) if self.alternatives(key, v))
        return next(existing, "generic")

    def alternatives(self, key: str, variant: Variant) -> list[Path]:
        """Return the files of one variant of a baseline: the first, and the others by name."""
        first = self.path(key, variant)
        rest = sorted(
            path
            for path in self.folder.glob(f"{first.stem}+*.npz")
            if _MARK.fullmatch(path.stem.rpartition("+")[2])
        )
        return [first, *rest] if first.is_file() else rest

    def path(self, key: str, variant: Variant = "generic") -> Path:
        """Return the path of the first file of a variant; the file need not exist."""
        name = {"generic": None, "family": self.device.family, "device": self.device.name}[variant]
        suffix = "" if name is None else f"@{file_stem(name)}"
        return self.folder / f"{file_stem(key)}{suffix}.npz"

    def new_alternative(self, key: str, variant: Variant, mark: str) -> Path:
        """Return the path for a new alternative of a variant.

        Args:
            key: name of the baseline.
            variant: variant to extend.
            mark: fingerprint of the value, so that two workers that add one value write one file.
        """
        first = self.path(key, variant)
        if not first.is_file():
            return first
        return first.with_name(f"{first.stem}+{mark}.npz")


def files(folder: Path) -> list[Path]:
    """Return the files of all baselines in a folder, including their variants."""
    return sorted(folder.glob("*~*.npz"))


def picture_of(path: Path) -> Path:
    """Return the path of the picture beside a baseline's file."""
    return path.with_suffix(".png")


def text_of(path: Path) -> Path:
    """Return the path of the text beside a baseline's file."""
    return path.with_suffix(".txt")


def read_text(path: Path) -> str:
    """Return the text beside a baseline's file; an empty one where there is none to be read."""
    try:
        return text_of(path).read_text(encoding="utf-8", errors="replace")
    except OSError:  # a baseline of an older version has none
        return ""


def remove(path: Path) -> None:
    """Remove a baseline's file, picture and text, if another worker has not removed them yet."""
    for each in (path, picture_of(path), text_of(path)):
        each.unlink(missing_ok=True)


def write(path: Path, stored: Stored, picture: bytes, text: str) -> None:
    """Write a baseline with its picture and its text: all three or none.

    Raises:
        OSError: the folder cannot be created or written to; the message says what to do.
    """
    header = {**stored.header, "format": _FORMAT, "version": _VERSION}
    header |= {"key": stored.key, "kind": stored.kind, "arrays": list(stored.arrays)}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        # In the order given: that of layers is the network's.
        described = json.dumps(header, indent=1, ensure_ascii=True)
        archive.writestr(_entry(_HEADER), described)
        for i, array in enumerate(stored.arrays.values()):
            plain = io.BytesIO()
            np.lib.format.write_array(plain, array, allow_pickle=False)
            archive.writestr(_entry(f"{i}.npy"), plain.getvalue())
    # The file that is compared comes last: until it is replaced, the old baseline counts, and a
    # later update writes all three again.
    contents = {
        picture_of(path): picture,
        text_of(path): text.encode(),
        path: content.getvalue(),
    }
    try:
        write_all_atomic(contents)
    except OSError as error:
        raise OSError(
            f"{error}: make the folder of baselines writable, or give another one with "
            "--convlens-baselines"
        ) from None


def read(path: Path, key: str) -> Stored:
    """Return the contents of a baseline's file.

    Raises:
        BaselineFileError: the file is missing, too large, damaged, not a baseline, or the baseline
            of another key.
    """
    try:
        with _opened(path) as archive:
            header = _header(archive)
            names = header["arrays"]
            entries = {f"{i}.npy": _name(name) for i, name in enumerate(names)}
            if set(archive.namelist()) != {_HEADER, *entries}:
                raise ValueError("its arrays do not match its header")
            arrays = {name: _array(archive.read(entry)) for entry, name in entries.items()}
        if header["key"] != key:
            raise ValueError(f"it is the baseline of {header['key']!r}")
        return Stored(key, str(header["kind"]), arrays, header)
    except Exception as error:  # a damaged archive can raise almost any exception
        raise unreadable(path, error) from None


def read_key(path: Path) -> str:
    """Return the name of the baseline in a file.

    Raises:
        BaselineFileError: the file is missing, too large, damaged, or not a baseline.
    """
    try:
        return str(read_header(path)["key"])
    except KeyError as error:
        raise unreadable(path, error) from None


def read_header(path: Path) -> dict[str, Any]:
    """Return the JSON header of a baseline's file, without its arrays.

    Raises:
        BaselineFileError: the file is missing, too large, damaged, or not a baseline.
    """
    try:
        with _opened(path) as archive:
            return _header(archive)
    except Exception as error:  # as above
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> BaselineFileError:
    """Return the error for a file that cannot be read, with the reason and the remedy."""
    if isinstance(error, _FormatVersionError):
        return BaselineFileError(f"the baseline {path} {error}")
    reason = (
        getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    )
    if isinstance(error, KeyError):
        reason = f"it lacks {reason}"
    return BaselineFileError(
        f"the baseline {path} cannot be read ({reason}): restore it from version control, or "
        "record it again with --convlens-update=failed"
    )


def _opened(path: Path) -> zipfile.ZipFile:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(f"its size, {size} bytes, exceeds the limit of {MAX_FILE_BYTES} bytes")
    return open_archive(path, max_bytes=MAX_CONTENT_BYTES)


def _header(archive: zipfile.ZipFile) -> dict[str, Any]:
    if archive.getinfo(_HEADER).file_size > _MAX_HEADER_BYTES:
        raise ValueError(f"{_HEADER} is larger than {_MAX_HEADER_BYTES} bytes")
    header = json.loads(archive.read(_HEADER))
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError("it is not a convlens baseline")
    version = header.get("version")
    if version not in _READABLE:
        is_old = isinstance(version, int) and version < _VERSION
        remedy = "record it again with --convlens-update=failed" if is_old else "upgrade convlens"
        raise _FormatVersionError(
            f"has format version {version!r}, but this convlens reads version {_VERSION}: {remedy}"
        )
    return header


def _name(stored: Any) -> Name:
    if isinstance(stored, list) and all(isinstance(step, str | int) for step in stored):
        return tuple(stored)
    return str(stored)


def _array(content: bytes) -> NDArray[Any]:
    check_array(io.BytesIO(content), len(content))
    stream = io.BytesIO(content)
    array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("it has values that are not finite")
    return array


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
