"""Check the sizes that a model file declares before memory is allocated for them."""

from __future__ import annotations

import json
import math
import threading
import warnings
import zipfile
from collections.abc import Callable
from typing import IO, Any

import keras
import psutil

from convlens.engine.model.legacy import layer_classes, parse_config
from convlens.files.formats import CONFIG

WEIGHTS = ("model.weights.h5", "model.weights.npz")
_STATELESS = "create a variable while in a stateless scope"
_MAX_CONFIG_BYTES = 2**26
_MAX_NAME_LENGTH = 500
# Weights of fewer bytes than this are allocated without a check.
_SMALL = 2**26
_MAX_TIMES_STORED = 4
_MAX_OUTPUT_BYTES = 2**32


def check_declared(archive: zipfile.ZipFile) -> None:
    """Compare the weights that a model's layers declare with the weights stored in its archive.

    The layers are created without values for their variables, so that nothing is allocated. This
    happens in a separate thread, because Keras keeps such variables for the rest of the thread.
    Custom layers that create variables without `add_weight` cannot be created this way and are not
    checked.

    Raises:
        ValueError: a missing, too large or too deeply nested configuration; variables that need
            more than a few times the stored bytes; an output of more than 4 GiB for one image;
            layer names with unprintable characters.
        Exception: any error that Keras raises for layers that it cannot create.
    """
    entry = archive.getinfo(CONFIG)
    if entry.file_size > _MAX_CONFIG_BYTES:
        raise ValueError(f"{CONFIG} is larger than {_MAX_CONFIG_BYTES} bytes")
    config = json.loads(archive.read(entry))
    if not isinstance(config, dict):
        raise ValueError(f"{CONFIG} does not describe a model")
    config["compile_config"] = None  # the optimizer's variables are not loaded
    stored = sum(e.file_size for e in archive.infolist() if e.filename in WEIGHTS)
    _probe(lambda: keras.saving.deserialize_keras_object(config, safe_mode=True), stored)


def check_declared_legacy(config: str, stored: int) -> None:
    """Compare the weights that the layers of an HDF5 model declare with those stored, likewise.

    Args:
        config: the model's configuration, as it stands in the file.
        stored: bytes of the stored weights, see `stored_bytes`.

    Raises:
        RunsCodeError: the configuration can run code.
        ValueError, Exception: as `check_declared`.
    """
    parsed, classes = parse_config(config), layer_classes()
    _probe(lambda: keras.legacy.saving.deserialize_keras_object(parsed, classes), stored)


def stored_bytes(stream: IO[bytes]) -> int:
    """Return the bytes of all data sets of an HDF5 file, in memory.

    Raises:
        ValueError: more than half of the free memory.
        OSError: not an HDF5 file.
    """
    import h5py

    sizes: list[int] = []

    def add(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            sizes.append(math.prod(item.shape or ()) * item.dtype.itemsize)

    with h5py.File(stream, "r") as file:
        file.visititems(add)
    limit = psutil.virtual_memory().available // 2
    if sum(sizes) > limit:
        raise ValueError(
            f"the weights take {sum(sizes)} bytes in memory, more than the limit of {limit}"
        )
    return sum(sizes)


def _probe(make: Callable[[], Any], stored: int) -> None:
    """Make a model without values for its variables, and check what it declares."""
    found: list[Any] = []

    def probe() -> None:
        try:
            with keras.StatelessScope(initialize_variables=False):
                _check_model(make(), stored)
        except Exception as error:  # raised again in the waiting thread
            if _STATELESS not in str(error):
                found.append(error)

    thread = threading.Thread(target=probe)
    with warnings.catch_warnings():  # Keras's advice on how to write the layers of the file
        warnings.simplefilter("ignore", UserWarning)
        thread.start()
        thread.join()
    if found:
        raise found[0]


def check_links(stream: IO[bytes]) -> None:
    """Refuse an HDF5 file that reads data from outside itself.

    Raises:
        ValueError: a link to another file or place, data in another file, or a virtual data set.
        OSError: not an HDF5 file.
    """
    import h5py

    with h5py.File(stream, "r") as file:
        groups, seen = [file], set()
        while groups:
            group = groups.pop()
            address = h5py.h5o.get_info(group.id).addr
            if address in seen:  # a group may contain itself
                continue
            seen.add(address)
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"the weights contain {name!r}, a link to another place")
                item = group[name]
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif item.external or item.is_virtual:
                    raise ValueError(f"the weights {name!r} are stored in another file")


def _check_model(model: Any, stored: int) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(f"the file holds a {type(model).__name__}, not a model")
    needed = sum(math.prod(v.shape) * _bytes_of(v.dtype) for v in model.variables)
    if needed > max(_SMALL, _MAX_TIMES_STORED * stored):
        raise ValueError(f"the layers declare {needed} bytes of weights, but the file has {stored}")
    layers = [model]
    while layers:
        layer = layers.pop()
        layers += getattr(layer, "layers", [])
        if len(layer.name) > _MAX_NAME_LENGTH or not layer.name.isprintable():
            raise ValueError(
                f"a layer's name must have at most {_MAX_NAME_LENGTH} printable characters, "
                f"not {layer.name[:60]!r}"
            )
        for tensor in (t for node in layer._inbound_nodes for t in node.output_tensors):
            size = 4 * math.prod(side for side in tensor.shape if side is not None)
            if size > _MAX_OUTPUT_BYTES:
                raise ValueError(
                    f"the output of layer {layer.name!r} for one image, {tuple(tensor.shape)}, "
                    f"takes more than {_MAX_OUTPUT_BYTES} bytes"
                )


def _bytes_of(dtype: str) -> int:
    return 2 if dtype in ("float16", "bfloat16") else 8 if dtype.endswith("64") else 4
