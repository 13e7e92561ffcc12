"""Baselines as files: one `.npz` each, without pickle, that holds its JSON too.

One file, so that arrays and provenance are replaced together or not at all.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convlens.files.archive import check_array, open_archive
from convlens.files.atomic import write_atomic

Variant = Literal["generic", "family", "device"]
VARIANTS: tuple[Variant, ...] = ("generic", "family", "device")
LARGEST_FILE = 64 * 2**20
LARGEST_CONTENT = 256 * 2**20
_FORMAT, _VERSION = "convlens-baseline", 1
_HEADER = "provenance.json"
_LARGEST_HEADER = 16 * 2**20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content is the same file, whenever it was written


class BaselineFileError(ValueError):
    """A baseline's file cannot be used; the message names it and says what to do."""


@dataclass(frozen=True)
class Stored:
    """What a baseline's file holds.

    Attributes:
        key: the baseline's unique name.
        kind: 'network' or 'values'.
        arrays: by name.
        header: JSON, the provenance in it.
    """

    key: str
    kind: str
    arrays: dict[str, NDArray[Any]]
    header: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Device:
    """What variants of a baseline are for: a device, and the family that it is one of."""

    name: str
    family: str


def stem(key: str) -> str:
    """Return a file name made from a baseline's name; no two names share one.

    What is not a letter, digit or hyphen becomes a hyphen; a hash of the name keeps it apart from
    all others, whatever the file system makes of capitals. It cannot leave its folder.
    """
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    kept = re.sub(r"[^A-Za-z0-9]+", "-", key).strip("-")[:80]
    return f"{kept}~{digest}"


class Store:
    """A folder of baselines.

    A baseline may have variants for a device's family or for the very device, which then stand in
    its place there; and alternatives, of which one must match.

    Attributes:
        folder: where the files are.
        device: what this run's variants are for.
    """

    def __init__(self, folder: Path, device: Device) -> None:
        self.folder = folder
        self.device = device

    def find(self, key: str) -> list[Path]:
        """Return the files that count for a baseline here: the most specific variant's."""
        return self.alternatives(key, self.variant_in_force(key))

    def variant_in_force(self, key: str) -> Variant:
        """Return the most specific variant that there is, 'generic' where there is none."""
        there = (v for v in reversed(VARIANTS) if self.alternatives(key, v))
        return next(there, "generic")

    def alternatives(self, key: str, variant: Variant) -> list[Path]:
        """Return the files of one variant of a baseline, in the order in which they were added."""
        first = self.path(key, variant)
        numbered = {}
        for path in self.folder.glob(f"{first.stem}+*.npz"):
            number = path.stem.rpartition("+")[2]
            if number.isdecimal():
                numbered[int(number)] = path
        rest = [numbered[number] for number in sorted(numbered)]
        return [first, *rest] if first.is_file() else rest

    def path(self, key: str, variant: Variant = "generic") -> Path:
        """Return the first file of a variant of a baseline, whether it is there or not."""
        name = {"generic": None, "family": self.device.family, "device": self.device.name}[variant]
        at = "" if name is None else f"@{stem(name)}"
        return self.folder / f"{stem(key)}{at}.npz"

    def new_alternative(self, key: str, variant: Variant) -> Path:
        """Return a file beside those that a variant has."""
        first = self.path(key, variant)
        taken = {path.stem for path in self.alternatives(key, variant)}
        if first.stem not in taken:
            return first
        number = 2
        while f"{first.stem}+{number}" in taken:
            number += 1
        return first.with_name(f"{first.stem}+{number}.npz")


def files(folder: Path) -> list[Path]:
    """Return the files of all baselines in a folder, their variants' too."""
    return sorted(folder.glob("*~*.npz"))


def picture_of(path: Path) -> Path:
    """Return the picture that lies beside a baseline's file."""
    return path.with_suffix(".png")


def remove(path: Path) -> None:
    """Remove a baseline's file and its picture; another worker may have done so before."""
    path.unlink(missing_ok=True)
    picture_of(path).unlink(missing_ok=True)


def write(path: Path, stored: Stored) -> None:
    """Write a baseline, whole or not at all.

    Raises:
        OSError: the folder cannot be made or written to; the message names it and what to do.
    """
    header = {**stored.header, "format": _FORMAT, "version": _VERSION}
    header |= {"key": stored.key, "kind": stored.kind, "arrays": list(stored.arrays)}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        text = json.dumps(header, indent=1, sort_keys=True, ensure_ascii=True)
        archive.writestr(_entry(_HEADER), text)
        for i, array in enumerate(stored.arrays.values()):
            plain = io.BytesIO()
            np.lib.format.write_array(plain, array, allow_pickle=False)
            archive.writestr(_entry(f"{i}.npy"), plain.getvalue())
    write_bytes(path, content.getvalue())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file of the folder, whole or not at all.

    Raises:
        OSError: the folder cannot be made or written to; the message names it and what to do.
    """
    try:
        write_atomic(path, content)
    except OSError as error:
        raise OSError(
            f"{error}: make the folder of baselines writable, or give another one with "
            "--convlens-baselines"
        ) from None


def read(path: Path, key: str) -> Stored:
    """Return what a baseline's file holds.

    Raises:
        BaselineFileError: it is missing, too large, damaged, no baseline, or another one's.
    """
    try:
        with _opened(path) as archive:
            header = _header(archive)
            names = header["arrays"]
            entries = {f"{i}.npy": name for i, name in enumerate(names)}
            if set(archive.namelist()) != {_HEADER, *entries}:
                raise ValueError("its arrays are not those that it lists")
            arrays = {name: _array(archive.read(entry)) for entry, name in entries.items()}
        if header["key"] != key:
            raise ValueError(f"it is the baseline of {header['key']!r}")
        return Stored(key, str(header["kind"]), arrays, header)
    except Exception as error:  # a damaged archive raises nearly every type there is
        raise unusable(path, error) from None


def read_key(path: Path) -> str:
    """Return the name of the baseline that a file holds.

    Raises:
        BaselineFileError: it is missing, too large, damaged, or no baseline.
    """
    try:
        with _opened(path) as archive:
            return str(_header(archive)["key"])
    except Exception as error:  # as above
        raise unusable(path, error) from None


def unusable(path: Path, error: Exception) -> BaselineFileError:
    """Return the error that says why a file cannot be used, and what to do."""
    reason = (
        getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    )
    if isinstance(error, KeyError):
        reason = f"it lacks {reason}"
    return BaselineFileError(
        f"the baseline {path} cannot be read ({reason}): restore it from version control, or "
        "record it anew with --convlens-update=failed"
    )


def _opened(path: Path) -> zipfile.ZipFile:
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ValueError(f"{size} bytes are more than a baseline has, {LARGEST_FILE}")
    return open_archive(path, max_bytes=LARGEST_CONTENT)


def _header(archive: zipfile.ZipFile) -> dict[str, Any]:
    if archive.getinfo(_HEADER).file_size > _LARGEST_HEADER:
        raise ValueError(f"{_HEADER} is larger than {_LARGEST_HEADER} bytes")
    header = json.loads(archive.read(_HEADER))
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError("it is no baseline of convlens")
    if header.get("version") != _VERSION:
        raise ValueError(
            f"it is of version {header.get('version')}; this convlens reads {_VERSION}"
        )
    return header


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
