"""Examine the configuration of a legacy HDF5 model before Keras reads it.

Keras resolves the names in such a configuration in several ways, and was known to run code of the
file in some. So the configuration is walked first, as plain JSON, and every name in it must be one
of Keras's own classes or activations that can neither hold code nor read other files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import keras

MAX_CONFIG_BYTES = 2**26
# Keras's own nested models take four levels each.
_MAX_DEPTH = 400
_KERAS = re.compile(r"builtins|keras(\.[A-Za-z_]\w*)*")
# Names that stand for values, not for classes.
_VALUES = (
    *("__tuple__", "__ellipsis__", "__bytes__", "__slice__", "TensorShape"),
    *("__keras_tensor__", "__tensor__", "__numpy__"),
)
_NAMES = ("name", "module")
_CODE = {
    "Lambda": "is a Lambda layer, whose Python code is in the file",
    "__lambda__": "holds a Python function, whose code is in the file",
    "TorchModuleWrapper": "is a TorchModuleWrapper, whose module is a pickle in the file",
    "TFSMLayer": "is a TFSMLayer, which loads a SavedModel from elsewhere",
    "JaxLayer": "is a JaxLayer, which calls functions by their names",
    "FlaxLayer": "is a FlaxLayer, which calls functions by their names",
    "StringLookup": "is a StringLookup layer, which can read other files",
    "IntegerLookup": "is an IntegerLookup layer, which can read other files",
    "TextVectorization": "is a TextVectorization layer, which can read other files",
    "TypeSpec": "holds a type of TensorFlow, which is made by a function that the file names",
    "__typespec__": "holds a type of TensorFlow, which is made by a function that the file names",
    "CompositeTensor": "holds a tensor of a type that the file names",
}
# Layers of Keras 2 that call a function of TensorFlow by its name.
_OPERATIONS = (
    *("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"),
    "TensorFlowOpLayer",
)


class RunsCodeError(ValueError):
    """A configuration holds code, or names what is not Keras's own."""


class UnknownClassError(ValueError):
    """A configuration names a class that neither Keras nor the user has."""


def parse_config(text: str) -> dict[str, Any]:
    """Return the configuration in a file's text, after all names in it were found to be safe.

    Raises:
        RunsCodeError: it can run code; the message names the layer and the reason.
        UnknownClassError: it names a class that is unknown.
        ValueError: it is too large, too deep, or not the configuration of a model.
    """
    if len(text) > MAX_CONFIG_BYTES:
        raise ValueError(f"the configuration is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        config = json.loads(text)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ValueError("the configuration does not describe a model")
    for layer, found in _objects(config):
        _check_object(layer, found)
    decoded: dict[str, Any] = json.loads(text, object_hook=_decode)
    return decoded


def layer_classes() -> dict[str, Any]:
    """Return the classes of layers and models that a configuration may name, by name."""
    models = dict.fromkeys(("Model", "Functional"), keras.Model)
    found = {name: v for name, v in vars(keras.layers).items() if _is_layer(v)}
    return {**found, **models, "Sequential": keras.Sequential}


def _objects(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield every object and text of a configuration that Keras may look up by name.

    Yields:
        (layer, value): the flat name of the layer around it, '' outside of layers, and a mapping
        with a class name or a text.

    Raises:
        ValueError: the configuration is nested too deeply.
    """
    pending = [(config, "", 0)]
    while pending:
        value, layer, depth = pending.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(_too_deep())
        if isinstance(value, str):
            yield layer, value
        elif isinstance(value, list):
            pending += [(part, layer, depth + 1) for part in reversed(value)]
        elif isinstance(value, dict):
            if "class_name" in value:
                layer = _path(layer, value) if depth else ""
                yield layer, value
            # A name that is a text is not looked up.
            inner = [p for k, p in value.items() if k not in _NAMES or not isinstance(p, str)]
            pending += [(part, layer, depth + 1) for part in reversed(inner)]


def _path(outer: str, entry: Mapping[str, Any]) -> str:
    """Return the flat name of an object: its layer's, or that of the layer around it."""
    if entry["class_name"] in ("function", *_VALUES):
        return outer
    config = entry.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    name = entry.get("name", name)
    if not isinstance(name, str):
        return outer
    return f"{outer}.{name}" if outer else name


def _check_object(layer: str, found: Any) -> None:
    """Check that an object or a text names nothing but what is Keras's own and cannot run code."""
    registered = keras.saving.get_custom_objects()
    where = f"layer {layer[:200]!a}" if layer else "the model"
    if isinstance(found, str):
        if found in registered:
            raise RunsCodeError(f"{where} names {found!a}, which is registered outside Keras")
        return
    name, module = found["class_name"], found.get("module")
    if not isinstance(name, str):
        raise ValueError(f"{where} has no name of a class")
    if name in _CODE:
        raise RunsCodeError(f"{where} {_CODE[name]}")
    if name in _VALUES:
        return
    if module is not None and not (isinstance(module, str) and _KERAS.fullmatch(module)):
        raise RunsCodeError(
            f"{where} is of {str(name)[:100]!a} from {str(module)[:100]!a}, not from Keras"
        )
    if name == "function":
        name, known = found.get("config"), _activations()
    else:
        known = _classes()
    alias = found.get("registered_name")
    for given in (name, alias):
        if isinstance(given, str) and given in registered:
            raise RunsCodeError(f"{where} is of {given[:100]!a}, which is registered outside Keras")
    if name in known and alias in (None, name, "function"):
        return
    if name in known:
        raise RunsCodeError(f"{where} is registered as {str(alias)[:100]!a}, which is not Keras's")
    if name in _OPERATIONS:
        raise UnknownClassError(
            f"{where} calls a function of TensorFlow ({name}), which Keras 3 cannot: rebuild the "
            "model in Keras 3 with a layer or an operation of keras.ops in its place, and load its "
            "weights"
        )
    raise UnknownClassError(f"Could not locate class {str(name)[:100]!r}")


@cache
def _classes() -> frozenset[str]:
    """Return the names of Keras's own classes that hold no code and read no files."""
    spaces = (
        *(keras.initializers, keras.regularizers, keras.constraints),
        *(keras.dtype_policies, keras.quantizers),
    )
    found = {name for space in spaces for name, v in vars(space).items() if isinstance(v, type)}
    # Keras 2 calls a policy of types so; Keras 3 says itself that it cannot read one.
    return frozenset(found.union(layer_classes(), {"Policy"}) - _CODE.keys())


@cache
def _activations() -> frozenset[str]:
    found = vars(keras.activations)
    helpers = ("get", "serialize", "deserialize")
    return frozenset(n for n, v in found.items() if callable(v) and n not in helpers)


def _is_layer(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, keras.Layer)


def _decode(entry: dict[str, Any]) -> Any:
    """Return the value that an entry of JSON stands for, as Keras decodes it."""
    if entry.get("class_name") in ("__tuple__", "TensorShape"):
        items = entry.get("items")
        return tuple(items) if isinstance(items, list) else None
    return entry


def _too_deep() -> str:
    return f"the configuration is nested more than {_MAX_DEPTH} levels deep"
