"""Open what a user names as one of two models."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from convlens.compare.function import FunctionModel
from convlens.compare.keras_model import KerasModel
from convlens.compare.runtime import Runtime
from convlens.engine.model.loading import load_model
from convlens.engine.model.network import Network
from convlens.files.formats import explain_graph, is_saved_model

GIT = "git:"
# What stands for the commit that a branch started from, in git:merge-base:path.
MERGE_BASE = "merge-base"
_BRANCHES = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
TFLITE_SUFFIX, ONNX_SUFFIX = ".tflite", ".onnx"
# A function that opens a name that is no file: of keras.applications, or module:factory.
Named = Callable[[str], Any]
Opened = Callable[[Any], Network]


def open_source(
    source: Any,
    *,
    named: Named | None = None,
    allow_legacy: bool = False,
    network: Opened = Network.of,
) -> Runtime:
    """Return a model that can be compared.

    Args:
        source: a Keras model, a `Network`, a function of images that returns outputs, a path of a
            .keras, .h5, .tflite or .onnx file or of a SavedModel's folder, or ``git:REV:path``;
            REV may be ``merge-base``.
        named: function that opens other names; None refuses them.
        allow_legacy: also load HDF5 files and SavedModels; see `load_model`.
        network: function that takes a Keras model apart, and holds its further inputs.

    Raises:
        ValueError: there is no such thing, it cannot be read, or its runtime is not installed.
    """
    if isinstance(source, keras.Model | Network):
        return KerasModel(network(source))
    if callable(source):
        return FunctionModel(source)
    if not isinstance(source, str | os.PathLike):
        raise ValueError(
            f"{source!r} is no model: give a Keras model, a function of images, or the path of a "
            ".keras, .h5, .tflite or .onnx file, or of a SavedModel's folder"
        )
    text = os.fspath(source)
    if text.startswith(GIT):
        with revision(text) as file:
            return open_file(file, allow_legacy=allow_legacy, network=network)
    path = Path(text)
    if path.is_file() or is_saved_model(path):
        return open_file(path, allow_legacy=allow_legacy, network=network)
    if named is None or path.suffix in (*KERAS_SUFFIXES, TFLITE_SUFFIX, ONNX_SUFFIX):
        raise ValueError(f"{text} does not exist: give the path of a model file")
    return open_source(named(text), allow_legacy=allow_legacy, network=network)


def open_file(path: Path, *, allow_legacy: bool = False, network: Opened = Network.of) -> Runtime:
    """Return the model of a file, or of a SavedModel's folder; its content decides what it is.

    Raises:
        ValueError: it cannot be read, or its runtime is not installed.
    """
    if path.is_dir():
        if not allow_legacy:
            raise ValueError(explain_graph(path))
        from convlens.compare.graph_model import GraphModel

        return GraphModel(path)
    with path.open("rb") as stream:
        head = stream.read(8)
    if not head:
        raise ValueError(f"{path} is empty: it was not written to the end")
    if head[4:8] == b"TFL3" or path.suffix == TFLITE_SUFFIX:
        from convlens.compare.tflite import TFLiteModel

        return TFLiteModel(path)
    if path.suffix == ONNX_SUFFIX:
        from convlens.compare.onnx_model import OnnxModel

        return OnnxModel(path)
    return KerasModel(network(load_model(path, allow_legacy=allow_legacy)))


@contextmanager
def revision(text: str) -> Iterator[Path]:
    """Give a file as a commit has it, for the time of a ``with`` block.

    Args:
        text: ``git:REV:path``; REV may be ``merge-base``.

    Raises:
        ValueError: there is no such revision or file in the repository of this folder.
    """
    name, _, path = text.removeprefix(GIT).partition(":")
    if not name or not path or name.startswith("-"):
        raise ValueError(f"{text}: give git:REV:path, such as git:main:model.keras")
    if name == MERGE_BASE:
        name = _merge_base(text)
    shown = _git(text, "show", f"{name}:./{path}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, Path(path).name)
        file.write_bytes(shown)
        yield file


def _merge_base(text: str) -> str:
    for branch in _BRANCHES:
        try:
            return _git(text, "merge-base", "HEAD", branch).decode().strip()
        except ValueError:
            continue
    raise ValueError(
        f"{text}: no branch of {', '.join(_BRANCHES)} is here; in CI fetch the whole history "
        "(fetch-depth: 0), or name a revision"
    )


def _git(text: str, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise ValueError(f"{text} needs git, which is not installed") from None
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.decode("utf-8", "replace").split())
        raise ValueError(f"{text} cannot be read: {reason}") from None
