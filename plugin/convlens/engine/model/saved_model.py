"""Load a TensorFlow SavedModel as a model of one layer: its graph."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras

LAYER = "saved_model"
_ENDPOINTS = ("serving_default", "serve")


class GraphLayer(keras.layers.TFSMLayer):
    """The graph of a SavedModel as a layer that takes its inputs by name."""

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        return self.call_endpoint_fn(**inputs)


def load_saved_model(folder: Path) -> keras.Model:
    """Return a SavedModel as a functional model: its inputs, one layer 'saved_model', its outputs.

    The graph is of TensorFlow's operations, some of which read and write files: it must come from
    a trusted source.

    Raises:
        ValueError: it has no signature, or one that takes no arrays of a fixed rank or batches of
            one size alone.
    """
    import tensorflow as tf

    endpoint, signature = signature_of(tf.saved_model.load(str(folder)).signatures)
    specs = signature.structured_input_signature[1]
    inputs = {name: _input(name, spec) for name, spec in sorted(specs.items())}
    if not inputs:
        raise ValueError(f"its signature {endpoint!r} has no input")
    results = GraphLayer(str(folder), call_endpoint=endpoint, name=LAYER)(inputs)
    # TensorFlow gives them in any order.
    results = dict(sorted(results.items(), key=lambda item: order_of(item[0])))
    outputs = list(results.values())
    if len(outputs) > 1:  # each as a layer, so that it has a name
        named = zip(results, outputs, strict=True)
        outputs = [keras.layers.Identity(name=_plain(name))(value) for name, value in named]
    return keras.Model(list(inputs.values()), outputs, name=_plain(folder.name))


def order_of(output: str) -> tuple[int, str]:
    """Return the place of an output by its name, for sorting: "output_2" before "output_10"."""
    return len(output), output


def is_graph(model: Any) -> bool:
    """Return whether a model is a SavedModel, without Keras layers to look into."""
    return any(isinstance(layer, GraphLayer) for layer in getattr(model, "layers", ()))


def signature_of(signatures: Any) -> tuple[str, Any]:
    """Return the signature for predictions, and its name."""
    known = [name for name in signatures if not name.startswith("__")]
    for name in _ENDPOINTS:
        if name in known:
            return name, signatures[name]
    if len(known) == 1:
        return known[0], signatures[known[0]]
    has = f"it has {', '.join(map(ascii, known))}" if known else "it has none"
    raise ValueError(f"it needs a signature 'serving_default' or a single one, but {has}")


def _input(name: str, spec: Any) -> Any:
    shape = None if spec.shape.rank is None else tuple(spec.shape)
    if shape is None or not (spec.dtype.is_floating or spec.dtype.is_integer):
        raise ValueError(f"its input {name!a} takes {spec.dtype.name} of shape {spec.shape}")
    if not shape or shape[0] is not None:
        raise ValueError(
            f"its input {name!a} takes arrays of shape {shape} alone: save it with a free batch "
            "size, (None, …)"
        )
    return keras.Input(shape[1:], dtype=spec.dtype.name, name=_plain(name))


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name) or LAYER
