"""Trace code of the user's own: a subclassed model or a custom layer as a graph of layers.

The code is called on symbolic tensors, so that each layer and operation in it records its call.
Code that computes with another library, or that asks for values, cannot be traced.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras


class TraceError(ValueError):
    """Code that cannot be called on symbolic tensors; the message is the reason."""


@contextmanager
def nodes_restored(model: Any) -> Iterator[None]:
    """Put the nodes of all layers back at the end: the user reads them."""
    layers = list(model._flatten_layers())
    before = [(x, list(x._inbound_nodes), list(x._outbound_nodes)) for x in layers]
    try:
        yield
    finally:
        for layer, inbound, outbound in before:
            layer._inbound_nodes[:] = inbound
            layer._outbound_nodes[:] = outbound


def input_symbols(model: Any) -> dict[str, Any]:
    """Return a symbolic tensor for each input of a model, by name.

    Raises:
        ValueError: a subclassed model that was never called, so that its inputs are not known.
    """
    if getattr(model, "inputs", None):
        return {t.name: t for t in model.inputs}
    shapes = _built_shapes(model)
    if not shapes:
        raise ValueError(
            f"{model.name} was never built: call it on a few images first, so that the shape of "
            "its inputs is known"
        )
    return {
        name: keras.Input(tuple(shape[1:]), dtype=model.input_dtype, name=name)
        for name, shape in shapes.items()
    }


def _built_shapes(model: Any) -> dict[str, Any]:
    """Return the shapes with which a subclassed model was built, by the argument of its call."""
    config = model.get_build_config() or {}
    found = config.get("shapes_dict", {"input_shape": config.get("input_shape")})
    found = {name.removesuffix("_shape"): shape for name, shape in found.items() if shape}
    if any(isinstance(shape, dict) or not _is_shape(shape) for shape in found.values()):
        return {}
    return found


def _is_shape(shape: Any) -> bool:
    return all(side is None or isinstance(side, int) for side in shape)


def as_graph(model: Any) -> keras.Model:
    """Return a functional model of one node: the call of a model on its inputs."""
    symbols = input_symbols(model)
    given = list(symbols.values())
    if getattr(model, "inputs", None):
        given = [keras.Input(t.shape[1:], dtype=t.dtype, name=t.name) for t in model.inputs]
        single = isinstance(model, keras.Sequential)
        x = given[0] if single else keras.tree.pack_sequence_as(model.input, given)
        return keras.Model(given, model(x))
    return keras.Model(given, model(*given))


def traced(op: Any, args: Any, kwargs: Any) -> keras.Model:
    """Return the graph of a layer's call, with an input for each tensor among its arguments.

    Args:
        op: a layer, or a subclassed model, of the user's own.
        args, kwargs: the arguments, in symbolic tensors.

    Raises:
        TraceError: the code cannot be called on symbolic tensors.
    """
    inputs: list[Any] = []

    def fresh(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        inputs.append(keras.Input(value.shape[1:], dtype=value.dtype))
        return inputs[-1]

    args, kwargs = keras.tree.map_structure(fresh, (args, kwargs))
    if "training" in inspect.signature(op.call).parameters:
        kwargs = {**kwargs, "training": False}
    try:
        outputs = keras.tree.flatten(op.call(*args, **kwargs))
        return keras.Model(inputs, outputs)
    except Exception as error:  # of any type: it is the user's code
        reason = str(error).strip().partition("\n")[0]
        raise TraceError(f"{type(error).__name__}: {reason}") from None
