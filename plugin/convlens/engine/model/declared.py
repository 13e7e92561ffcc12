"""What a saved model declares, before anything is allocated for it."""

from __future__ import annotations

import json
import math
import threading
import zipfile
from typing import IO, Any

import keras

CONFIG = "config.json"
WEIGHTS = ("model.weights.h5", "model.weights.npz")
_STATELESS = "create a variable while in a stateless scope"
_LARGEST_CONFIG = 2**26
_LARGEST_NAME = 500
# Less than this is allocated without a second thought.
_SMALL = 2**26
_MOST_TIMES_STORED = 4
_LARGEST_OUTPUT = 2**32


def check_declared(archive: zipfile.ZipFile) -> None:
    """Hold a model's layers against the weights that its archive has.

    The layers are made without their variables' values, so that nothing is allocated, in a thread
    of their own, as Keras keeps such variables for the thread's rest. Layers of the user's own that
    make variables in another way than by `add_weight` cannot be made so, and are not held.

    Raises:
        ValueError: no configuration, or one that is too large or nests too deep; variables of more
            than a few times the bytes that are stored; an output of one image beyond 4 GiB; names
            that are no plain text.
        Exception: whatever Keras raises for layers that cannot be made.
    """
    entry = archive.getinfo(CONFIG)
    if entry.file_size > _LARGEST_CONFIG:
        raise ValueError(f"{CONFIG} is larger than {_LARGEST_CONFIG} bytes")
    config = json.loads(archive.read(entry))
    if not isinstance(config, dict):
        raise ValueError(f"{CONFIG} describes no model")
    config["compile_config"] = None  # an optimizer has variables too, which are not loaded
    stored = sum(e.file_size for e in archive.infolist() if e.filename in WEIGHTS)
    found: list[Any] = []

    def probe() -> None:
        try:
            with keras.StatelessScope(initialize_variables=False):
                model = keras.saving.deserialize_keras_object(config, safe_mode=True)
                _check(model, stored)
        except Exception as error:  # it is raised in the thread that waits
            if _STATELESS not in str(error):
                found.append(error)

    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()
    if found:
        raise found[0]


def check_links(stream: IO[bytes]) -> None:
    """Refuse an HDF5 file whose contents are elsewhere.

    Raises:
        ValueError: a link to another file or place, data in another file, or a virtual data set.
        OSError: it is no HDF5 file.
    """
    import h5py

    with h5py.File(stream, "r") as file:
        groups = [file]
        while groups:
            group = groups.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"its weights hold a link, {name!r}, to another place")
                item = group[name]
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif item.external or item.is_virtual:
                    raise ValueError(f"its weights {name!r} are data of another file")


def _check(model: Any, stored: int) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(f"it holds a {type(model).__name__}, not a model")
    needed = sum(math.prod(v.shape) * _bytes_of(v.dtype) for v in model.variables)
    if needed > max(_SMALL, _MOST_TIMES_STORED * stored):
        raise ValueError(
            f"its layers declare {needed} bytes of weights, of which the file has {stored}"
        )
    layers = [model]
    while layers:
        layer = layers.pop()
        layers += getattr(layer, "layers", [])
        if len(layer.name) > _LARGEST_NAME or not layer.name.isprintable():
            raise ValueError(f"the name of a layer is no plain text: {layer.name[:60]!r}")
        for tensor in (t for node in layer._inbound_nodes for t in node.output_tensors):
            size = 4 * math.prod(side for side in tensor.shape if side is not None)
            if size > _LARGEST_OUTPUT:
                raise ValueError(
                    f"layer {layer.name!r} gives {tuple(tensor.shape)} for an image, more than "
                    f"{_LARGEST_OUTPUT} bytes"
                )


def _bytes_of(dtype: str) -> int:
    return 2 if dtype in ("float16", "bfloat16") else 8 if dtype.endswith("64") else 4
