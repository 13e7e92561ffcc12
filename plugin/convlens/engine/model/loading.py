"""Load saved models from untrusted sources."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path

import keras

from convlens.engine.model.declared import WEIGHTS, check_declared, check_links
from convlens.engine.model.losses import stated_loss
from convlens.files.archive import open_archive

_NATIVE = ".keras"
_LEGACY = (".h5", ".hdf5")
# In older versions a model file can run code, or read and write files: CVE-2025-1550, -8747,
# -9905, -9906, -12058, -12060, CVE-2026-0897, -1462, -1669, -9335, -11816, -12479, -12480, -12481,
# -12484 and -12570.
MIN_KERAS = (3, 15, 1)
_METADATA = "metadata.json"
_MAX_METADATA_BYTES = 2**16
_HDF5 = b"\x89HDF\r\n\x1a\n"


class ModelFileError(ValueError):
    """A model file cannot be loaded, or is not safe to load; the message is one line."""


def load_model(path: str | os.PathLike[str], *, allow_legacy: bool = False) -> keras.Model:
    """Load a `.keras` file in Keras's safe mode, so that code in the file does not run.

    Args:
        path: path of the file.
        allow_legacy: also load `.h5` files. Keras ignores safe mode for them: a file from an
            untrusted source can run code.

    Returns:
        The model, not compiled, ready for inference.

    Three checks run before memory is allocated: the names and sizes of the archive's entries, the
    weights that the layers declare against the stored weights, and links to data outside the file.

    Raises:
        ModelFileError: a missing or truncated file, or one of another format; a legacy file
            without `allow_legacy`; a Lambda layer; a custom layer that is not registered; a file
            that declares more than it holds or than fits in memory; a version of Keras with known
            vulnerabilities.
    """
    file = Path(path)
    saved = ""
    _check_keras(keras.__version__)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ModelFileError(f"{file} {what}: give the path of a .keras file")
    with file.open("rb") as stream:
        head = stream.read(8)
    if head == _HDF5 or file.suffix in _LEGACY:
        if not allow_legacy:
            raise ModelFileError(
                f"{file} is a legacy HDF5 model, and loading it can run code from the file: "
                "save it again as .keras, or pass --convlens-allow-legacy if you trust its source"
            )
    elif file.suffix != _NATIVE:
        raise ModelFileError(f"{file} is not a .keras file")
    elif not zipfile.is_zipfile(file):
        raise ModelFileError(f"{file} is truncated, or not a Keras file: it is not a ZIP archive")
    else:
        saved = _examine(file)
    try:
        model = keras.models.load_model(file, compile=False, safe_mode=True)
        model.convlens_loss = stated_loss(file)
    except Exception as error:  # Keras raises errors of nearly every type for a bad file
        raise ModelFileError(_explain_error(file, error, saved)) from error
    return model


def _check_keras(version: str) -> None:
    if _parse_version(version) < MIN_KERAS:
        minimum = ".".join(map(str, MIN_KERAS))
        raise ModelFileError(
            f"a model file can run code in Keras {version}, even in safe mode: "
            f"pip install -U 'keras>={minimum}'"
        )


def _examine(file: Path) -> str:
    """Refuse an archive that is unsafe to load; return the version of Keras that saved it.

    Raises:
        ModelFileError: an unsafe or damaged archive; the message names the file and the reason.
    """
    saved = ""
    try:
        with open_archive(file) as archive:
            saved = _saved_version(archive)
            check_declared(archive)
            for name in WEIGHTS[:1]:
                if name in archive.namelist():
                    with archive.open(name) as stream:
                        check_links(stream)
    except Exception as error:  # of nearly every type, as from Keras
        raise ModelFileError(_explain_error(file, error, saved)) from error
    return saved


def _saved_version(archive: zipfile.ZipFile) -> str:
    """Return the version of Keras that saved a model; '' if the file does not state it."""
    if _METADATA not in archive.namelist():
        return ""
    with archive.open(_METADATA) as stream:
        metadata = json.loads(stream.read(_MAX_METADATA_BYTES))
    saved = metadata.get("keras_version", "") if isinstance(metadata, dict) else ""
    found = re.match(r"\d+(\.\d+)*", str(saved)[:20])
    return found[0] if found else ""


def _explain_error(file: Path, error: Exception, saved: str = "") -> str:
    text = " ".join(str(error).split())
    if "safe_mode" in text or "unsafe" in text or "Lambda" in text:
        return (
            f"{file} holds a Lambda layer or other code, which safe mode refuses to run: replace "
            "it with a Keras layer or a registered class of your own, and save the model again"
        )
    if "Could not locate class" in text or "not locate function" in text:
        name = text.split("'")[1] if text.count("'") > 1 else "a class"
        return (
            f"{file} needs the custom object {name!r}: register it with "
            "@keras.saving.register_keras_serializable() and give --convlens module:factory, a "
            "function that returns the model"
        )
    return (
        f"{file} could not be loaded ({_version_hint(saved)}{type(error).__name__}: {text[:200]})"
    )


def _version_hint(saved: str) -> str:
    """Return a hint if a later version of Keras than this one saved the file; else ''."""
    if _parse_version(saved) <= _parse_version(keras.__version__):
        return ""
    return (
        f"saved by Keras {saved}, loaded by Keras {keras.__version__}; if that is the reason, "
        "pip install -U keras; "
    )


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
