"""Trace code of the user's own: a subclassed model or a custom layer as a graph of layers.

The code is called on symbolic tensors, so that each layer and operation in it records its call.
Code that computes with another library, or that asks for values, cannot be traced.

Code may ask for the number of images, as ``ops.reshape(x, (ops.shape(x)[0], -1))`` does. So it is
called twice, for batches of two sizes: a number that differs follows the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

# Sizes of the batches: any two numbers, as long as no layer needs more members than these.
_SIZES = 7, 11


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


@dataclass(frozen=True)
class Traced:
    """The graph of a layer's call, with an input for each tensor among its arguments.

    Attributes:
        graph: the graph, for a batch of a fixed size.
        sized: the nodes whose settings or arguments follow the size of the batch, by the node's id.
    """

    graph: keras.Model
    sized: Mapping[int, SizedNode]


@dataclass(frozen=True)
class SizedNode:
    """A node of a traced graph of which some numbers follow the size of the batch.

    Attributes:
        reader: the tensor of the graph whose first axis tells the size of the batch.
        unit: number of rows of `reader` for each member of the batch.
        settings: attributes of the operation, with `Size` and `Rows` among their values.
        args, kwargs: the node's arguments, with `Size` and `Rows` among them.
        outputs: symbolic results; an axis that follows the batch is None.
    """

    reader: Any
    unit: int
    settings: Mapping[str, Any]
    args: Any
    kwargs: Any
    outputs: tuple[Any, ...]


@dataclass(frozen=True)
class Size:
    """A number that follows the batch: `offset` and `slope` for each member."""

    slope: int
    offset: int

    def of(self, count: Any) -> Any:
        """Return the number for a batch of a size."""
        return self.offset + self.slope * count


@dataclass(frozen=True, eq=False)
class Rows:
    """A tensor whose rows are all the same, as many as a number that follows the batch.

    Attributes:
        row: (1, …) the row.
        size: number of rows.
    """

    row: Any
    size: Size

    def of(self, count: Any) -> Any:
        """Return the tensor for a batch of a size."""
        return ops.broadcast_to(self.row, (self.size.of(count), *self.row.shape[1:]))


@dataclass(frozen=True, eq=False)
class Sized:
    """An operation that is given the size of the batch: called as (reader, args, kwargs).

    Attributes:
        op: the user's own operation.
        settings: its attributes that follow the batch.
        unit: number of rows of the reader for each member of the batch.
        shapes: the shapes of the tensors among its arguments.
        results: symbolic results; an axis that follows the batch is None.
    """

    op: Any
    settings: Mapping[str, Any]
    unit: int
    shapes: tuple[tuple[int | None, ...], ...]
    results: tuple[Any, ...]

    def symbols(self, args: Any) -> tuple[Any, ...]:
        """Return the symbolic results for symbolic arguments.

        Raises:
            ValueError: arguments of other shapes than those with which it was traced.
        """
        if shapes_of(args) != self.shapes:
            raise ValueError(f"{type(self.op).__name__} was traced for other shapes")
        return self.results

    def __call__(self, reader: Any, args: Any, kwargs: Any) -> Any:
        count = ops.shape(reader)[0] // self.unit
        settings = {name: filled(value, count) for name, value in self.settings.items()}
        op = object.__new__(type(self.op))
        vars(op).update({**vars(self.op), **settings})
        return op(*filled(args, count), **filled(kwargs, count))


def traced(op: Any, args: Any, kwargs: Any) -> Traced:
    """Return the graph of a layer's call.

    Args:
        op: a layer, or a subclassed model, of the user's own.
        args, kwargs: the arguments, in symbolic tensors.

    Raises:
        TraceError: the code cannot be called on symbolic tensors, or its graph depends on the size
            of the batch by more than some numbers.
    """
    one, other = (_graph(op, args, kwargs, size) for size in _SIZES)
    pairs = list(zip(ordered_nodes(one), ordered_nodes(other), strict=False))
    if len(ordered_nodes(one)) != len(ordered_nodes(other)) or any(
        type(a.operation) is not type(b.operation) for a, b in pairs
    ):
        raise TraceError("it computes something else for each size of the batch")
    found = {id(a): _sized(a, b, one.inputs) for a, b in pairs}
    return Traced(one, {key: node for key, node in found.items() if node is not None})


def ordered_nodes(model: keras.Model) -> list[Any]:
    """Return the nodes of a graph in the order in which Keras runs them, without its inputs."""
    depths = model._nodes_by_depth
    nodes = (node for depth in sorted(depths, reverse=True) for node in depths[depth])
    return [node for node in nodes if not node.is_input]


def shapes_of(arguments: Any) -> tuple[tuple[int | None, ...], ...]:
    """Return the shapes of the symbolic tensors among arguments."""
    leaves = keras.tree.flatten(arguments)
    return tuple(tuple(t.shape) for t in leaves if isinstance(t, keras.KerasTensor))


def filled(value: Any, count: Any) -> Any:
    """Return a value with its numbers and rows as they are for a batch of a size."""
    if isinstance(value, Size | Rows):
        return value.of(count)
    if isinstance(value, list | tuple):
        return type(value)([filled(each, count) for each in value])
    if isinstance(value, dict):
        return {key: filled(each, count) for key, each in value.items()}
    if isinstance(value, slice):
        return slice(*(filled(each, count) for each in _ends(value)))
    return value


def _graph(op: Any, args: Any, kwargs: Any, size: int) -> keras.Model:
    """Return the graph of a layer's call for a batch of a size."""
    inputs: list[Any] = []

    def fresh(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        shape = tuple(value.shape)
        if shape and shape[0] is None:
            shape = (size, *shape[1:])
        inputs.append(keras.Input(batch_shape=shape, dtype=value.dtype))
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


def _sized(one: Any, other: Any, inputs: list[Any]) -> SizedNode | None:
    """Return what follows the batch in a node, given its twin for another size of the batch."""
    args = _merged(one.arguments.args, other.arguments.args)
    kwargs = _merged(one.arguments.kwargs, other.arguments.kwargs)
    settings = {}
    if not isinstance(one.operation, keras.Layer):
        own, twins = vars(one.operation), vars(other.operation)
        settings = {name: _merged(own[name], twins[name]) for name in own if name in twins}
        settings = {name: value for name, value in settings.items() if _follows(value)}
    if not (settings or _follows(args) or _follows(kwargs)):
        return None
    if isinstance(one.operation, keras.Layer):
        raise TraceError(f"the size of the batch is an argument of its layer {one.operation.name}")
    readers = [*one.input_tensors, *inputs]
    reader = next(
        (t for t in readers if t.shape and t.shape[0] and t.shape[0] % _SIZES[0] == 0), None
    )
    if reader is None:
        raise TraceError("none of its tensors tells the size of the batch")
    outputs = tuple(_open_ended(a, b) for a, b in zip(one.outputs, other.outputs, strict=True))
    return SizedNode(reader, reader.shape[0] // _SIZES[0], settings, args, kwargs, outputs)


def _merged(one: Any, other: Any) -> Any:
    """Return a value of a node with what follows the batch as `Size` and `Rows`."""
    if isinstance(one, list | tuple) and type(one) is type(other) and len(one) == len(other):
        if not hasattr(one, "_fields"):
            return type(one)([_merged(a, b) for a, b in zip(one, other, strict=True)])
    elif isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return {key: _merged(one[key], other[key]) for key in one}
    elif isinstance(one, slice) and isinstance(other, slice):
        return slice(*(_merged(a, b) for a, b in zip(_ends(one), _ends(other), strict=True)))
    elif isinstance(one, int) and isinstance(other, int) and one != other:
        return _size(one, other)
    elif ops.is_tensor(one) and ops.is_tensor(other) and one.shape != other.shape:
        return _rows(one, other)
    return one


def _size(one: int, other: int) -> Size:
    """Return the number that has two values for batches of the two sizes."""
    slope, rest = divmod(other - one, _SIZES[1] - _SIZES[0])
    offset = one - slope * _SIZES[0]
    # The square of a size is on a line through any two of them, which starts far below 0.
    if rest or abs(offset) > abs(slope):
        raise TraceError(f"{one} and {other} for {_SIZES[0]} and {_SIZES[1]} images are no line")
    return Size(slope, offset)


def _rows(one: Any, other: Any) -> Rows:
    """Return the rows of a tensor that was computed from weights or constants alone."""
    values, same = ops.convert_to_numpy(one), ops.convert_to_numpy(other)
    alike = values.shape[1:] == same.shape[1:] and np.array_equal(values[:1], same[:1])
    if not (alike and (values == values[:1]).all() and (same == same[:1]).all()):
        raise TraceError("it gives each member of the batch other constants")
    return Rows(ops.convert_to_tensor(values[:1]), _size(len(values), len(same)))


def _follows(value: Any) -> bool:
    """Return whether a value has parts that follow the batch."""
    if isinstance(value, list | tuple):
        return any(map(_follows, value))
    if isinstance(value, dict):
        return any(map(_follows, value.values()))
    return (
        any(map(_follows, _ends(value)))
        if isinstance(value, slice)
        else isinstance(value, Size | Rows)
    )


def _ends(value: slice) -> tuple[Any, Any, Any]:
    return value.start, value.stop, value.step


def _open_ended(one: Any, other: Any) -> Any:
    """Return a symbolic tensor of the shape of two, None where they differ."""
    sides = zip(one.shape, other.shape, strict=True)
    return keras.KerasTensor(tuple(a if a == b else None for a, b in sides), dtype=one.dtype)
