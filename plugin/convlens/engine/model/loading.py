"""Load saved models that may come from strangers."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path

import keras

from convlens.engine.model.declared import WEIGHTS, check_declared, check_links
from convlens.files.archive import open_archive

_NATIVE = ".keras"
_LEGACY = (".h5", ".hdf5")
# Older ones can be made to run code, or to read and write files, by a model file: CVE-2025-1550,
# -8747, -9905, -9906, -12058, -12060, CVE-2026-0897, -1462, -1669, -9335, -11816, -12479, -12480,
# -12481, -12484 and -12570.
OLDEST_KERAS = (3, 15, 1)
_METADATA = "metadata.json"
_LARGEST_METADATA = 2**16
_HDF5 = b"\x89HDF\r\n\x1a\n"


class ModelFileError(ValueError):
    """A model file that cannot, or must not, be loaded; the message is one line."""


def load_model(path: str | os.PathLike[str], *, allow_legacy: bool = False) -> keras.Model:
    """Load a `.keras` file with Keras's safe mode on, so that no code of the file's runs.

    Args:
        path: the file.
        allow_legacy: also load `.h5` files. Keras ignores safe mode for them: a file from a
            stranger can run code of its own.

    Returns:
        The model, ready for inference; it is not compiled.

    Before anything is allocated, its entries' names and sizes are examined, what its layers
    declare is held against the weights that are there, and weights kept elsewhere are refused.

    Raises:
        ModelFileError: a missing, truncated or foreign file, a legacy file without
            `allow_legacy`, a Lambda layer, a custom layer that is not registered, a file that
            claims more than it holds or than memory has room for; or a Keras with known holes.
    """
    file = Path(path)
    saved = ""
    _check_keras(keras.__version__)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ModelFileError(f"{file} {what}: a .keras file is needed")
    with file.open("rb") as stream:
        head = stream.read(8)
    if head == _HDF5 or file.suffix in _LEGACY:
        if not allow_legacy:
            raise ModelFileError(
                f"{file} is a legacy HDF5 model, and loading one can run code that it holds: "
                "save it again as .keras, or pass --convlens-allow-legacy if you trust its source"
            )
    elif file.suffix != _NATIVE:
        raise ModelFileError(f"{file} is not a .keras file")
    elif not zipfile.is_zipfile(file):
        raise ModelFileError(f"{file} is truncated or no Keras file: it is not a ZIP archive")
    else:
        saved = _examine(file)
    try:
        return keras.models.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises nearly every type there is for a bad file
        raise ModelFileError(_reason(file, error, saved)) from error


def _check_keras(version: str) -> None:
    if _numbers(version) < OLDEST_KERAS:
        least = ".".join(map(str, OLDEST_KERAS))
        raise ModelFileError(
            f"Keras {version} can be made to run code by a model file, safe mode or not: "
            f"pip install -U 'keras>={least}'"
        )


def _examine(file: Path) -> str:
    """Refuse an archive that is dangerous to load; return the version of Keras that saved it.

    Raises:
        ModelFileError: the file, and what is wrong with it.
    """
    saved = ""
    try:
        with open_archive(file) as archive:
            saved = _saved_by(archive)
            check_declared(archive)
            for name in WEIGHTS[:1]:
                if name in archive.namelist():
                    with archive.open(name) as stream:
                        check_links(stream)
    except Exception as error:  # as Keras does for a bad file
        raise ModelFileError(_reason(file, error, saved)) from error
    return saved


def _saved_by(archive: zipfile.ZipFile) -> str:
    """Return the version of Keras that saved a model; nothing where its file does not say."""
    if _METADATA not in archive.namelist():
        return ""
    with archive.open(_METADATA) as stream:
        metadata = json.loads(stream.read(_LARGEST_METADATA))
    saved = metadata.get("keras_version", "") if isinstance(metadata, dict) else ""
    found = re.match(r"\d+(\.\d+)*", str(saved)[:20])
    return found[0] if found else ""


def _reason(file: Path, error: Exception, saved: str = "") -> str:
    text = " ".join(str(error).split())
    if "safe_mode" in text or "unsafe" in text or "Lambda" in text:
        return (
            f"{file} holds a Lambda layer or other code, which safe mode refuses to run: replace "
            "it by a layer of Keras's or a registered class of your own, and save the model again"
        )
    if "Could not locate class" in text or "not locate function" in text:
        name = text.split("'")[1] if text.count("'") > 1 else "a class"
        return (
            f"{file} needs the custom object {name!r}: register it with "
            "@keras.saving.register_keras_serializable() and give --convlens module:factory, a "
            "function that returns the model"
        )
    return f"{file} could not be loaded ({_newer(saved)}{type(error).__name__}: {text[:200]})"


def _newer(saved: str) -> str:
    """Return, of a file that a later Keras than this one saved, that this may be the reason."""
    if _numbers(saved) <= _numbers(keras.__version__):
        return ""
    return (
        f"Keras {saved} saved it, and this is {keras.__version__}: if that is the reason, "
        "pip install -U keras; "
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
