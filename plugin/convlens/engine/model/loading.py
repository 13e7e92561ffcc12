"""Load saved models from untrusted sources."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path

import keras

from convlens.engine.model.declared import WEIGHTS, check_declared, check_links
from convlens.engine.model.losses import stated_loss
from convlens.files.archive import open_archive
from convlens.files.formats import format_of

_NATIVE = ".keras"
_LEGACY = (".h5", ".hdf5")
# In older versions a model file can run code, or read and write files: CVE-2025-1550, -8747,
# -9905, -9906, -12058, -12060, CVE-2026-0897, -1462, -1669, -9335, -11816, -12479, -12480, -12481,
# -12484 and -12570.
MIN_KERAS = (3, 15, 1)
_METADATA = "metadata.json"
_MAX_METADATA_BYTES = 2**16
# Keras quotes the configuration of a layer before, or after, the reason why it fails.
_REASON_BELOW, _CONFIG_BELOW = "Exception encountered: ", "Full object config:"
_UNKNOWN_OBJECT = re.compile(
    r"(?:Could not locate (?:class|function)|Unknown [\w ]+:) '(?P<name>[^']+)'"
)
_MAX_REASON = 300


class ModelFileError(ValueError):
    """A model file cannot be loaded, or is not safe to load; the message is one line."""


def load_model(path: str | os.PathLike[str], *, allow_legacy: bool = False) -> keras.Model:
    """Load a `.keras` file in Keras's safe mode, so that code in the file does not run.

    The content decides which format a file has, whatever its name.

    Args:
        path: path of the file.
        allow_legacy: also load HDF5 files (`.h5`). Keras does not check them as it checks `.keras`
            files: a file from an untrusted source can run code.

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
    _check_keras(keras.__version__)
    try:
        kind, refusal = format_of(file)
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read ({error.strerror})") from None
    if refusal:
        raise ModelFileError(refusal)
    is_legacy = kind == "hdf5"
    saved = _examine_legacy(file, allow_legacy) if is_legacy else _examine(file)
    try:
        model = _load(file, _LEGACY if is_legacy else (_NATIVE,))
        model.convlens_loss = stated_loss(file)
    except Exception as error:  # Keras raises errors of nearly every type for a bad file
        raise ModelFileError(_explain_error(file, error, saved)) from error
    return model


def _load(file: Path, suffixes: tuple[str, ...]) -> keras.Model:
    """Load a file with Keras, which tells the format by the file's suffix."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        # Keras gives advice on how to write the layers of the file, which exist already.
        warnings.simplefilter("ignore", UserWarning)
        if file.suffix not in suffixes:
            renamed = Path(folder, f"model{suffixes[0]}")
            try:
                renamed.symlink_to(file.resolve())
            except OSError:  # Windows allows links only to some users
                shutil.copyfile(file, renamed)
            file = renamed
        return keras.models.load_model(file, compile=False, safe_mode=True)


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
                    # HDF5 jumps to and fro; a jump back in an archive reads the entry anew.
                    with archive.open(name) as stream, tempfile.TemporaryFile() as copy:
                        shutil.copyfileobj(stream, copy)
                        check_links(copy)
    except Exception as error:  # of nearly every type, as from Keras
        raise ModelFileError(_explain_error(file, error, saved)) from error
    return saved


def _examine_legacy(file: Path, allowed: bool) -> str:
    """Refuse an HDF5 file that is not a model, or is not allowed; return its version of Keras.

    Raises:
        ModelFileError: the message names the file and the remedy.
    """
    import h5py

    is_model, saved = True, ""
    try:
        with h5py.File(file, "r") as content:
            is_model = "model_config" in content.attrs
            saved = _parse_saved(content.attrs.get("keras_version", ""))
        with file.open("rb") as stream:
            check_links(stream)
    except Exception as error:  # h5py raises errors of nearly every type for a damaged file
        if allowed:
            raise ModelFileError(_explain_error(file, error)) from error
    if not is_model:
        raise ModelFileError(
            f"{file} holds weights without a model: build the model in code, load them with "
            "model.load_weights(path), and save it with model.save('model.keras')"
        )
    if not allowed:
        named = f" under the name of a {_NATIVE} file" if file.suffix == _NATIVE else ""
        raise ModelFileError(
            f"{file} is a legacy HDF5 model{named}, and loading it can run code from the file: "
            "save it again as .keras, or pass --convlens-allow-legacy if you trust its source"
        )
    return saved


def _saved_version(archive: zipfile.ZipFile) -> str:
    """Return the version of Keras that saved a model; '' if the file does not state it."""
    if _METADATA not in archive.namelist():
        return ""
    with archive.open(_METADATA) as stream:
        metadata = json.loads(stream.read(_MAX_METADATA_BYTES))
    return _parse_saved(metadata.get("keras_version", "") if isinstance(metadata, dict) else "")


def _parse_saved(stated: object) -> str:
    """Return the version at the beginning of a file's statement; '' if there is none."""
    text = stated.decode("utf-8", "replace") if isinstance(stated, bytes) else str(stated)
    found = re.match(r"\d+(\.\d+)*", text[:20])
    return found[0] if found else ""


def _explain_error(file: Path, error: Exception, saved: str = "") -> str:
    reason = _reason(error)
    if "safe_mode" in reason or "unsafe" in reason or "Lambda" in reason:
        return (
            f"{file} holds a Lambda layer or other code, which safe mode refuses to run: replace "
            "it with a Keras layer or a registered class of your own, and save the model again"
        )
    unknown = _UNKNOWN_OBJECT.search(reason)
    if unknown is not None:
        return (
            f"{file} needs the custom object {unknown['name']!r}: register it with "
            "@keras.saving.register_keras_serializable() and give --convlens module:factory, a "
            "function that returns the model"
        )
    short = f"{type(error).__name__}: {reason[:_MAX_REASON].rstrip('.')}"
    if _parse_version(saved)[:1] == (2,) and file.suffix not in _LEGACY:
        return (
            f"{file} could not be loaded, as Keras {saved} saved it, and Keras 3 does not read all "
            f"that Keras 2 wrote ({short}): load it with Keras {saved}, save it there as .h5, and "
            "pass --convlens-allow-legacy, or build the model in Keras 3 and load its weights"
        )
    return f"{file} could not be loaded ({_version_hint(saved)}{short})"


def _reason(error: Exception) -> str:
    """Return the reason in an error of Keras without the configurations that Keras quotes."""
    text = " ".join(str(error).split())
    return text.rpartition(_REASON_BELOW)[2].partition(_CONFIG_BELOW)[0].strip()


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
