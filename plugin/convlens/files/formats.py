"""Recognize the formats of model files, and say what to do with those that are not Keras's.

This module imports neither Keras nor NumPy, because it is also used while options are parsed.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

Format = Literal["keras", "hdf5", "other"]

CONFIG = "config.json"
# Suffixes of model files that convlens does not read; with a path on the command line they are
# collected all the same, to say so.
FOREIGN_SUFFIXES = (".tflite", ".onnx", ".pb", ".pt", ".pth", ".safetensors")
# Those of them that --convlens-against can hold against a Keras model.
CONVERTED_SUFFIXES = (".tflite", ".onnx")
_AGAINST = (
    "or add --convlens-against model.keras, the model that it was converted from, to compare the "
    "two layer by layer"
)
_SAVE = "save it from Keras 3 with model.save('model.keras') and give that file"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_SAVED_MODEL = "saved_model.pb"
_MAX_LISTED = 3


def format_of(path: Path) -> tuple[Format, str]:
    """Return a model file's format by its content, and a sentence if convlens cannot read it.

    The sentence names the file, its format and the remedy; it is empty for a `.keras` archive and
    for HDF5, whatever the file's name.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.is_file():
        return "other", _explain_no_file(path)
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(_HDF5):
        return "hdf5", ""
    found = _name_foreign(path, head)
    if found:
        against = f"; {_AGAINST}" if path.suffix in CONVERTED_SUFFIXES else ""
        return (
            "other",
            f"{path} is {found}, which has no Keras layers to look into: {_SAVE}{against}",
        )
    if zipfile.is_zipfile(path):
        listed = _list_entries(path)
        if CONFIG in listed:
            return "keras", ""
        return "other", _explain_archive(path, listed)
    if path.suffix in (".h5", ".hdf5"):
        return "other", f"{path} is truncated, or not a Keras file: it is not HDF5"
    if path.suffix == ".keras":
        return "other", f"{path} is truncated, or not a Keras file: it is not a ZIP archive"
    return "other", f"{path} is not a .keras file: {_SAVE}"


def is_saved_model(folder: Path) -> bool:
    """Return whether a folder is a TensorFlow SavedModel."""
    return (folder / _SAVED_MODEL).is_file()


def explain_graph(folder: Path) -> str:
    """Return a sentence that says why a SavedModel is not run beside another model, yet."""
    return (
        f"{folder} is a SavedModel, a compiled graph that can read and write files: pass "
        "--convlens-allow-legacy (in a test allow_legacy=True), if you trust its source"
    )


def explain_folder(folder: Path) -> str:
    """Return a sentence that says what a folder in place of a model file is, and what to do."""
    if is_saved_model(folder):
        return (
            f"{folder} is a SavedModel, a compiled graph that can read and write files, and that "
            "has no Keras layers to look into: save the model itself with "
            "model.save('model.keras') in Keras 3 and give that file, or pass "
            "--convlens-allow-legacy, if you trust its source, to test its predictions alone; "
            "with --convlens-against model.keras as well, it is compared with that model layer by "
            "layer"
        )
    if (folder / CONFIG).is_file():
        return f"{folder} is an unpacked .keras file: pack its files into a ZIP archive again"
    return f"{folder} is a folder: give the path of a .keras file in it"


def _explain_no_file(path: Path) -> str:
    if path.is_dir():
        return explain_folder(path)
    what = "is not a regular file" if path.exists() else "does not exist"
    return f"{path} {what}: give the path of a .keras file"


def _name_foreign(path: Path, head: bytes) -> str:
    """Return the name of a known format that is not Keras's; "" for others."""
    if head[4:8] == b"TFL3":
        return "a TFLite model"
    # An ONNX file begins with the version of its format and, in most files, its producer.
    is_onnx = head[:1] == b"\x08" and head[2:3] in (b"\x12", b":") and b"onnx" in head.lower()
    if is_onnx or path.suffix == ".onnx":
        return "an ONNX model"
    if path.name == _SAVED_MODEL:
        return "the graph of a SavedModel"
    if path.suffix == ".pb":
        return "a TensorFlow graph"
    if path.suffix in (".pt", ".pth", ".safetensors"):
        return "a PyTorch file"
    return ""


def _list_entries(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return [CONFIG]  # a damaged archive, which the loader examines and explains


def _explain_archive(path: Path, listed: list[str]) -> str:
    """Return a sentence for a ZIP archive that is not a model."""
    inside = [name for name in listed if name.endswith(f"/{CONFIG}")]
    if any(name.endswith("/data.pkl") for name in listed):
        what = "a PyTorch file"
    elif listed and all(name.endswith(".npy") for name in listed):
        what = "an .npz file of arrays"
    elif any(name.endswith(_SAVED_MODEL) for name in listed):
        what = "a ZIP archive of a SavedModel"
    elif inside:
        return (
            f"{path} could not be loaded: it is a ZIP archive with {inside[0]!a} in a folder; "
            "pack the files of the model at the top of the archive"
        )
    else:
        shown = ", ".join(map(ascii, listed[:_MAX_LISTED])) or "nothing"
        more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
        what = f"a ZIP archive without {CONFIG} (it has {shown}{more})"
    return f"{path} could not be loaded: it is {what}, not a Keras model; {_SAVE}"
