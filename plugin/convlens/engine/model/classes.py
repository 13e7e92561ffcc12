"""The vector of classes among a model's outputs, and labels as class numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from convlens.engine.model.losses import has_classes, loss_of
from convlens.engine.model.network import Network
from convlens.engine.model.trace import input_symbols

_BATCH = 32


@dataclass(frozen=True)
class _Head:
    """A vector among a model's outputs: its layer, its activation, and what its loss says."""

    layer: str
    activation: str
    has_classes: bool | None  # None where the loss is unknown


def class_layer(network: Network) -> str:
    """Return the name of the layer whose output is the vector of classes.

    Among several outputs it is the only softmax; without a softmax the only one that was compiled
    with a loss of classes; without such a loss the only sigmoid. A single output is a vector of
    classes unless it was compiled with a loss of numbers, such as the mean squared error; a softmax
    always is.

    Raises:
        ValueError: there is no such output, or there are several; the message is the reason.
    """
    heads = _heads(network)
    alone = len(network.results) == 1
    groups = [
        [head for head in heads if head.activation == "softmax"],
        [head for head in heads if head.has_classes],
        [h for h in heads if h.activation == "sigmoid" and h.has_classes is None],
        [head for head in heads if alone and head.has_classes is None],
    ]
    kinds = ("softmax outputs", "outputs with a loss of classes", "sigmoid outputs", "outputs")
    for kind, group in zip(kinds, groups, strict=True):
        if len(group) > 1:
            names = ", ".join(repr(head.layer) for head in group)
            raise ValueError(
                f"{network.name} has {len(group)} {kind} ({names}), not one of classes"
            )
        if group:
            return group[0].layer
    if heads and all(head.has_classes is False for head in heads):
        names = ", ".join(repr(head.layer) for head in heads)
        raise ValueError(
            f"{network.name} has no vector of classes as its output: {names} was trained with a "
            "loss of numbers (a regression)"
        )
    if heads and not alone:
        raise ValueError(
            f"{network.name} has {len(network.results)} outputs, and none of them is a softmax or "
            "sigmoid, which would tell the vector of classes"
        )
    raise ValueError(f"{network.name} has no vector of classes as its output")


def predicted_classes(
    network: Network, images: NDArray[np.float32], rows: Mapping[str, NDArray[Any]]
) -> NDArray[np.float32]:
    """Return the model's own predictions (n, classes), with a row of its other inputs an image.

    Args:
        network: the network.
        images: (n, *positions, c).
        rows: input → (n, …) its values, for each input but that of the images.

    Raises:
        ValueError: a model without a vector of classes.
    """
    output = network.output_layers.index(class_layer(network))
    model, names = network.model, input_symbols(network.model)
    own = network.inputs_for(ops.convert_to_tensor(images))
    given = [rows.get(name, x) for name, x in zip(names, own, strict=True)]
    packed = keras.tree.pack_sequence_as(model.input, [np.asarray(x) for x in given])
    found = keras.tree.flatten(model.predict(packed, batch_size=_BATCH, verbose=0))
    return np.asarray(found[output], np.float32)


def _heads(network: Network) -> list[_Head]:
    losses = _losses(network)
    return [
        _Head(layer, network.activation_name(layer), has_classes(loss))
        for layer, tensor, loss in zip(network.output_layers, network.results, losses, strict=True)
        if layer is not None and len(tensor.shape) == 2
    ]


def _losses(network: Network) -> list[Any]:
    """Return the loss of each output, None where it is unknown."""
    loss, count = loss_of(network.model), len(network.results)
    if isinstance(loss, Mapping) and "class_name" not in loss:
        found = [None] * count
        for names in _output_names(network):
            found = [
                loss.get(n) if old is None else old for n, old in zip(names, found, strict=True)
            ]
        return found
    if isinstance(loss, Sequence) and not isinstance(loss, str):
        return list(loss) if len(loss) == count else [None] * count
    return [loss] * count


def _output_names(network: Network) -> list[list[str]]:
    """Return the names by which the outputs may be called: by their layers, or by their keys."""
    model = network.model
    if isinstance(model, keras.Sequential):
        return [[model.layers[-1].name]]
    keys = [str(path[-1]) if path else "" for path, _ in keras.tree.flatten_with_path(model.output)]
    return [keys, [str(name) for name in model.output_names]]


def class_numbers(labels: ArrayLike, count: int) -> NDArray[np.int64]:
    """Return labels as class numbers (n,).

    Args:
        labels: whole numbers or booleans (n,) or (n, 1); or one-hot rows (n, classes).
        count: n, the number of images.

    Raises:
        ValueError: labels of another form or number; the message says which forms are allowed.
    """
    given = np.asarray(labels)
    forms = (
        f"{count} images need {count} whole numbers as labels, or {count} one-hot rows, "
        f"not {given.dtype} {given.shape}"
    )
    if (
        given.ndim == 0
        or given.shape[0] != count
        or not given.size
        or given.dtype.kind not in "biuf"
    ):
        raise ValueError(forms)
    rows = given.reshape(count, -1)
    if rows.shape[1] == 1:
        numbers = rows[:, 0]
        if not (np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all()):
            raise ValueError(f"{forms} with fractions or NaN")
        return numbers.astype(np.int64)
    if given.ndim != 2:
        raise ValueError(forms)
    wrong = np.flatnonzero(~(((rows == 0) | (rows == 1)).all(axis=1) & (rows.sum(axis=1) == 1)))
    if wrong.size:
        raise ValueError(f"{forms} whose row {wrong[0]} is not one-hot: {rows[wrong[0]]}")
    return rows.argmax(axis=1).astype(np.int64)
