"""The loss that a model was trained with, and whether it is one of classes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from convlens.files.formats import CONFIG

# Parts of the names of losses, without underscores. A squared hinge is a loss of classes.
_LOSSES_OF_CLASSES = ("crossentropy", "hinge", "focal", "kldivergence", "kullback")
_LOSSES_OF_NUMBERS = (
    *("squared", "absolute", "huber", "logcosh", "cosine", "poisson"),
    *("mse", "mae", "mape", "msle"),
)


def loss_of(model: keras.Model) -> Any:
    """Return the loss that a model was compiled with, or that its file states; None if unknown.

    It is a name, a loss, a function, the configuration of one, or a list or dictionary of these.
    """
    loss = getattr(model, "loss", None)
    return getattr(model, "convlens_loss", None) if loss is None else loss


def has_classes(loss: Any) -> bool | None:
    """Return whether a loss is one of classes or of numbers; None where that is unknown."""
    if isinstance(loss, Mapping):  # a configuration
        inner = loss.get("config")
        parts = [loss.get("class_name"), inner.get("name") if isinstance(inner, Mapping) else inner]
    else:
        parts = [
            loss,
            getattr(loss, "__name__", ""),
            getattr(loss, "name", ""),
            type(loss).__name__,
        ]
    name = " ".join(part for part in parts if isinstance(part, str)).lower().replace("_", "")
    if any(part in name for part in _LOSSES_OF_CLASSES):
        return True
    return False if any(part in name for part in _LOSSES_OF_NUMBERS) else None


def stated_loss(file: Path) -> Any:
    """Return the loss that a model file states for its training; None if it states none.

    Args:
        file: a `.keras` or HDF5 file that was loaded before.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            compiled = json.loads(archive.read(CONFIG)).get("compile_config")
    else:
        import h5py

        with h5py.File(file) as stored:
            text = stored.attrs.get("training_config")
            compiled = None if text is None else json.loads(text)
    return compiled.get("loss") if isinstance(compiled, Mapping) else None
