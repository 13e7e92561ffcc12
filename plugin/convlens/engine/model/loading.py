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

from convlens.engine.model.declared import (
    WEIGHTS,
    check_declared,
    check_declared_legacy,
    check_links,
    stored_bytes,
)
from convlens.engine.model.legacy import RunsCodeError, UnknownClassError, parse_config
from convlens.engine.model.losses import stated_loss
from convlens.files.archive import open_archive
from convlens.files.formats import format_of, is_saved_model

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
# Keras prints parts of its messages in bold.
_COLOR = re.compile(r"\x1b\[[0-9;]*m")


class ModelFileError(ValueError):
    """A model file cannot be loaded, or is not safe to load; the message is one line."""


def load_model(path: str | os.PathLike[str], *, allow_legacy: bool = False) -> keras.Model:
    """Load a `.keras` or HDF5 file in Keras's safe mode, so that code in the file does not run.

    The content decides which format a file has, whatever its name. The configuration of an HDF5
    file (`.h5`) is examined first: it may name nothing but Keras's own layers without code.

    Args:
        path: path of the file, or of the folder of a SavedModel.
        allow_legacy: also load what can run code: HDF5 files with Lambda layers, or with layers
            that are registered outside Keras, and SavedModel folders, as models of one layer. Only
            for those from a trusted source.

    Returns:
        The model, not compiled, ready for inference.

    Three checks run before memory is allocated: the names and sizes of the archive's entries, the
    weights that the layers declare against the stored weights, and links to data outside the file.

    Raises:
        ModelFileError: a missing or truncated file, or one of another format; a Lambda layer, or
            an HDF5 file or SavedModel that can run code, without `allow_legacy`; a custom layer
            that is not registered; a file that declares more than it holds or than fits in
            memory; a version of Keras with known vulnerabilities.
    """
    file = Path(path)
    _check_keras(keras.__version__)
    if allow_legacy and is_saved_model(file):
        return _load_graph(file)
    try:
        kind, refusal = format_of(file)
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read ({error.strerror})") from None
    if refusal:
        raise ModelFileError(refusal)
    saved, safe = "", True
    if kind == "hdf5":
        saved, safe = _examine_legacy(file, allow_legacy)
    else:
        saved = _examine(file)
    try:
        model = _load(file, _LEGACY if kind == "hdf5" else (_NATIVE,), safe)
        model.convlens_loss = stated_loss(file)
    except Exception as error:  # Keras raises errors of nearly every type for a bad file
        raise ModelFileError(_explain_error(file, error, saved)) from error
    return model


def _load(file: Path, suffixes: tuple[str, ...], safe: bool) -> keras.Model:
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
        return keras.models.load_model(file, compile=False, safe_mode=safe)


def _load_graph(folder: Path) -> keras.Model:
    """Load a SavedModel from a trusted source."""
    from convlens.engine.model.saved_model import load_saved_model

    try:
        return load_saved_model(folder)
    except Exception as error:  # TensorFlow raises errors of nearly every type
        reason = f"{type(error).__name__}: {_reason(error)[:_MAX_REASON].rstrip('.')}"
        raise ModelFileError(f"{folder} could not be loaded ({reason})") from error


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


def _examine_legacy(file: Path, allowed: bool) -> tuple[str, bool]:
    """Refuse an HDF5 file that is not a model, or that can run code and is not allowed to.

    Returns:
        (saved, safe): the version of Keras that saved it, and whether it holds no code.

    Raises:
        ModelFileError: the message names the file, and the layer and the remedy if it runs code.
    """
    import h5py

    saved = ""
    try:
        with h5py.File(file, "r") as content:
            config = content.attrs.get("model_config")
            saved = _parse_saved(content.attrs.get("keras_version", ""))
        if config is None:
            raise ModelFileError(
                f"{file} holds weights without a model: build the model in code, load them with "
                "model.load_weights(path), and save it with model.save('model.keras')"
            )
        with file.open("rb") as stream:
            check_links(stream)
            stored = stored_bytes(stream)
        text = config.decode("utf-8") if isinstance(config, bytes) else str(config)
        if not (allowed and _needs_trust(text)):
            check_declared_legacy(text, stored)
            return saved, True
    except ModelFileError:
        raise
    except Exception as error:  # h5py and Keras raise errors of nearly every type
        raise ModelFileError(_explain_error(file, error, saved)) from error
    return saved, False


def _needs_trust(config: str) -> bool:
    """Return whether a configuration of an HDF5 file can run code."""
    try:
        parse_config(config)
    except RunsCodeError:
        return True
    return False


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
    if isinstance(error, RunsCodeError):
        return (
            f"{file} can run code: {reason}. Save the model again as .keras with a layer of Keras "
            "in its place, or pass --convlens-allow-legacy if you trust the file's source"
        )
    is_unknown = isinstance(error, UnknownClassError)
    if not is_unknown and ("safe_mode" in reason or "unsafe" in reason or "Lambda" in reason):
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
    if is_unknown:
        return f"{file} could not be loaded: {reason}"
    short = f"{type(error).__name__}: {reason[:_MAX_REASON].rstrip('.')}"
    if _parse_version(saved)[:1] == (2,) and file.suffix not in _LEGACY:
        return (
            f"{file} could not be loaded, as Keras {saved} saved it, and Keras 3 does not read all "
            f"that Keras 2 wrote ({short}): load it with Keras {saved}, save it there as .h5 and "
            "give that file, or build the model in Keras 3 and load its weights"
        )
    return f"{file} could not be loaded ({_version_hint(saved)}{short})"


def _reason(error: Exception) -> str:
    """Return the reason in an error of Keras without the configurations that Keras quotes."""
    plain = _COLOR.sub("", str(error))
    text = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
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
