"""Read a Keras model as a flat list of calls: nested models inlined, activations split off."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import keras
from keras import ops

from convlens.engine.model.frames import Frames
from convlens.engine.model.layout import (
    Front,
    InLayout,
    Shaped,
    channels_last,
    front_of,
    is_alike,
    is_channels_first,
    last_shape,
    to_last,
)
from convlens.engine.model.rectify import has_pit_below_zero, is_activation_layer, relu_bound
from convlens.engine.model.trace import (
    Sized,
    SizedNode,
    TraceError,
    as_graph,
    nodes_restored,
    ordered_nodes,
    shapes_of,
    traced,
)


def _of_ranks(name: str, *ranks: int) -> tuple[type[Any], ...]:
    """Return Keras's layers of a kind, such as 'Conv{}D', for numbers of dimensions."""
    return tuple(getattr(keras.layers, name.format(rank)) for rank in ranks)


PLAIN = _of_ranks("Conv{}D", 1, 2, 3)
DEPTHWISE = _of_ranks("DepthwiseConv{}D", 1, 2)
SEPARABLE = _of_ranks("SeparableConv{}D", 1, 2)
RECURRENT = _of_ranks("ConvLSTM{}D", 1, 2, 3)
TRANSPOSED = _of_ranks("Conv{}DTranspose", 1, 2, 3)
CONVOLUTIONS: tuple[type[Any], ...] = (*PLAIN, *DEPTHWISE, *SEPARABLE, *TRANSPOSED, *RECURRENT)
MAX_POOLS = _of_ranks("MaxPooling{}D", 1, 2, 3)
AVERAGE_POOLS = _of_ranks("AveragePooling{}D", 1, 2, 3)
PADDINGS = _of_ranks("ZeroPadding{}D", 1, 2, 3)
CROPPINGS = _of_ranks("Cropping{}D", 1, 2, 3)
ENLARGEMENTS = _of_ranks("UpSampling{}D", 1, 2, 3)
GLOBAL_POOLS = (
    *_of_ranks("GlobalAveragePooling{}D", 1, 2, 3),
    *_of_ranks("GlobalMaxPooling{}D", 1, 2, 3),
)
_FUSED = (*PLAIN, *DEPTHWISE, *SEPARABLE, *TRANSPOSED, keras.layers.Dense)
# The name of the scope in which layers are called: TensorFlow refuses an outermost scope whose name
# begins with an underscore, as a layer's may.
SCOPE = "convlens"


@dataclass(frozen=True, eq=False)
class Call:
    """One node of the graph: `outputs = op(*args, **kwargs)`, in symbolic tensors.

    Attributes:
        op: the user's own layer or operation, a layer without its activation, or an activation.
        args, kwargs: the arguments, without `training`.
        outputs: the symbolic results.
        training: the mode that the graph fixes, by ``layer(x, training=True)`` or by such a call of
            a model around the layer; None if it fixes none. Keras's `predict` overrides it.
    """

    op: Any
    args: Any
    kwargs: Any
    outputs: list[Any]
    training: bool | None = None

    @cached_property
    def inputs(self) -> list[Any]:
        """The symbolic tensors among the arguments."""
        return [t for t in keras.tree.flatten((self.args, self.kwargs)) if is_symbolic(t)]

    @property
    def own_op(self) -> Any:
        """The operation itself, where `op` arranges its arguments."""
        return self.op.op if isinstance(self.op, InLayout | Frames | Sized) else self.op

    @property
    def variables(self) -> list[Any]:
        """The variables that the call reads."""
        given = keras.tree.flatten((self.args, self.kwargs))
        return [
            *getattr(self.op, "variables", []),
            *(v for v in given if isinstance(v, keras.Variable)),
        ]

    def compute(self, args: Any, kwargs: Any, training: bool = False) -> list[Any]:
        """Return the results for tensors in place of the symbolic arguments."""
        with keras.name_scope(SCOPE):
            if isinstance(self.op, InLayout | Frames):
                return self.op.compute(args, kwargs, training)
            return keras.tree.flatten(_apply(self.op, args, kwargs, training))

    def symbolic(self, args: Any, kwargs: Any) -> list[Any]:
        """Return symbolic results for symbolic arguments, of any shape that the operation takes.

        Raises:
            Exception: the operation does not take the shapes.
        """
        return symbolic_results(self.op, args, kwargs)

    def compute_one(self, x: Any) -> Any:
        """Return the result of a call of one input and one output."""
        args, kwargs = keras.tree.map_structure(
            lambda t: x if is_symbolic(t) else t, (self.args, self.kwargs)
        )
        return self.compute(args, kwargs)[0]


@dataclass(frozen=True)
class Graph:
    """A model as part of the flat list, to find where the list computes something else.

    Attributes:
        model: the user's model.
        prefix: the names of the models around it, each followed by a dot.
        inputs: the values of the model's inputs in the flat list.
        nodes: for each node, its operation, its outputs in the model, and those in the list.
        is_traced: whether it was traced from code, and not kept by the model.
    """

    model: Any
    prefix: str
    inputs: list[Any]
    nodes: list[tuple[Any, list[Any], list[Any]]] = field(default_factory=list)
    is_traced: bool = False


@dataclass
class Flat:
    """A model as a list of calls in the order of computation.

    Attributes:
        image: the symbolic input of the images (None, *positions, c).
        inputs: all symbolic inputs by name, including the image.
        results: the model's outputs, in its own order.
        calls: all calls, each after the calls that it depends on.
        layers: the user's own layers by flat name.
        outputs: each layer's output by flat name.
        preactivations: each layer's value before its activation, by flat name; only layers that
            have an activation.
        graphs: the model, and each call of a nested model.
        front: the layout in which the model takes its images.
        image_name: name of the input of the images.
        untraced: the reason for each layer whose convolutions cannot be reached, by flat name.
        moved: ids of the tensors whose axes are moved: channels last here, first in the model.
    """

    image: Any = None
    inputs: dict[str, Any] = field(default_factory=dict)
    results: list[Any] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    layers: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    preactivations: dict[str, Any] = field(default_factory=dict)
    graphs: list[Graph] = field(default_factory=list)
    front: Front = field(default_factory=Front)
    image_name: str = ""
    untraced: dict[str, str] = field(default_factory=dict)
    moved: set[int] = field(default_factory=set)


def is_convolution(layer: Any) -> bool:
    """Return whether a layer's channels are the units of a convolution, in both directions too."""
    if isinstance(layer, keras.layers.Bidirectional):
        layer = layer.forward_layer
    return isinstance(layer, CONVOLUTIONS)


def is_symbolic(value: Any) -> bool:
    """Return whether `value` is a symbolic tensor."""
    return isinstance(value, keras.KerasTensor)


def flatten(model: keras.Model, image: str | None = None) -> Flat:
    """Read `model` into a `Flat`; the model itself is neither called nor changed.

    The calls hold the user's own layers, so that they compute with the layers' current weights and
    settings.

    Args:
        model: a Sequential or functional model.
        image: name of the input that takes the images; None for the first.
    """
    with nodes_restored(model):
        graph = model if is_graph(model) else as_graph(model)
        number = 0 if image is None else [t.name for t in graph.inputs].index(image)
        flat = _flatten(model, graph, number, Front())
        front = front_of(flat.image, flat.calls)
        return flat if front.is_plain else _flatten(model, graph, number, front)


def _flatten(root: keras.Model, model: keras.Model, number: int, front: Front) -> Flat:
    """Read a graph whose images, its input of a number, come in a layout.

    Args:
        root: the user's model.
        model: its graph: the model itself, or one that calls it.
        number: number of the input of the images.
        front: the layout.
    """
    flattener = _Flattener(front, root)
    flat = flattener.flat
    inputs = [_fresh(t) for t in model.inputs]
    own = inputs[number]
    flat.image, flat.front = own, front
    if front.first:
        flat.image = inputs[number] = flattener.moved_symbol(own)
    elif front.shape is not None:
        flat.image = _fresh_of((None, *front.shape), own.dtype)
        shaped = Shaped(tuple(own.shape[1:]))
        inputs[number] = flattener.record(shaped, (flat.image,), {}, None)[0]
    flat.inputs = {t.name: symbol for t, symbol in zip(model.inputs, inputs, strict=True)}
    flat.image_name = model.inputs[number].name
    flat.results = flattener.read(model, "", inputs, None)
    flat.moved = flattener.moved
    return flat


def is_graph(op: Any) -> bool:
    """Return whether `op` is a Sequential or functional model that runs as its graph says."""
    return has_graph(op) and runs_as_keras(op)


def has_graph(op: Any) -> bool:
    """Return whether `op` is a Sequential or functional model, not a subclassed one."""
    return isinstance(op, keras.Model) and bool(getattr(op, "inputs", None))


def runs_as_keras(layer: Any) -> bool:
    """Return whether Keras's own code runs a layer: neither a subclass nor the user replaced it."""
    for method in ("__call__", "call", "quantized_call"):
        owner = next((c for c in type(layer).__mro__ if method in vars(c)), None)
        if method in vars(layer) or (owner and owner.__module__.split(".")[0] != "keras"):
            return False
    return True


class _Flattener:
    def __init__(self, front: Front, root: Any) -> None:
        self.root = root
        self.flat = Flat()
        self.front = front
        self.moved: set[int] = set()
        self.opened: dict[Any, Any] = {}  # by the id of the user's layer
        self.in_frames = False  # whether the layers read now are inside a TimeDistributed

    def read(
        self,
        model: Any,
        prefix: str,
        inputs: list[Any],
        training: bool | None,
        *,
        sized: Mapping[int, SizedNode] | None = None,
    ) -> list[Any]:
        """Record a model's calls on given inputs, and return its outputs.

        Args:
            model: the model, or a traced graph.
            prefix: the names of the models around it, each followed by a dot.
            inputs: values of its inputs.
            training: the mode that a model around it fixes.
            sized: the nodes that follow the size of the batch; None for a model that kept its own
                graph.
        """
        graph = Graph(model, prefix, inputs, is_traced=sized is not None)
        self.flat.graphs.append(graph)
        function = keras.Model(list(model.inputs), list(model.outputs), name=SCOPE)
        known = {id(t): value for t, value in zip(function.inputs, inputs, strict=True)}
        for node in ordered_nodes(function):
            if any(id(t) not in known for t in node.input_tensors):
                continue
            own = (sized or {}).get(id(node))
            arguments = node.arguments if own is None else own
            args, kwargs = keras.tree.map_structure(
                lambda t: known[id(t)] if is_symbolic(t) else t, (arguments.args, arguments.kwargs)
            )
            if own is None:
                outputs = self.call(node.operation, prefix, args, kwargs, training)
            else:
                outputs = self.sized(node.operation, own, known[id(own.reader)], args, kwargs)
            known.update((id(t), v) for t, v in zip(node.outputs, outputs, strict=True))
            graph.nodes.append((node.operation, list(node.outputs), outputs))
        return [known[id(t)] for t in model.outputs]

    def sized(self, op: Any, node: SizedNode, reader: Any, args: Any, kwargs: Any) -> list[Any]:
        """Record a node that follows the size of the batch, which `reader` tells."""
        given = (reader, args, kwargs)
        sized = Sized(op, node.settings, node.unit, shapes_of(given), node.outputs)
        return self.record(sized, given, {}, None)

    def call(
        self, op: Any, prefix: str, args: Any, kwargs: Any, training: bool | None
    ) -> list[Any]:
        """Record one node; `training` is the mode that a model around it fixes."""
        if is_graph(op):
            given = inspect.signature(op.call).bind(*args, **kwargs).arguments
            # Keras gives a model of several inputs a mask for each, and None where it has none.
            if all(mask is None for mask in keras.tree.flatten(given.get("mask"))):
                own = given.get("training")
                inputs = self.enter(op, given["inputs"])
                return self.read(
                    op, f"{prefix}{op.name}.", inputs, own if training is None else training
                )
        if not isinstance(op, keras.Layer):
            return self.record(op, args, kwargs, training)
        if self.opens_frames(op, args, kwargs):
            return self.each_frame(op, prefix, args, training)
        if _is_closed(op) and not self.in_frames:
            inside = {k: v for k, v in kwargs.items() if k not in ("training", "mask")}
            try:
                found = traced(op, args, inside)
            except TraceError as reason:
                self.flat.untraced[prefix + op.name] = str(reason)
            else:
                inputs = [t for t in keras.tree.flatten((args, inside)) if is_symbolic(t)]
                name = prefix if op is self.root else f"{prefix}{op.name}."
                return self.read(found.graph, name, inputs, training, sized=found.sized)
        own = kwargs.get("training")
        if own is not None and _default_mode(op) is own:
            own = None  # Keras records the default too, so that nobody may have fixed it
        fixed = own if training is None else training
        kwargs = {key: value for key, value in kwargs.items() if key != "training"}
        return self.layer(op, prefix, args, kwargs, fixed)

    def opens_frames(self, op: Any, args: Any, kwargs: Any) -> bool:
        """Return whether a layer is a `TimeDistributed` around one of Keras's layers or a graph."""
        if not (isinstance(op, keras.layers.TimeDistributed) and runs_as_keras(op)):
            return False
        known = is_graph(op.layer) or (runs_as_keras(op.layer) and not has_graph(op.layer))
        masks = [mask for mask in keras.tree.flatten(kwargs.get("mask")) if mask is not None]
        return known and not masks and not self.in_frames and len(args) == 1

    def each_frame(self, op: Any, prefix: str, args: Any, training: bool | None) -> list[Any]:
        """Record what a `TimeDistributed` layer has inside, for each frame."""
        self.in_frames = True
        try:
            if is_graph(op.layer):
                inputs = self.enter(op.layer, args[0])
                return self.read(op.layer, f"{prefix}{op.name}.", inputs, training)
            return self.layer(op.layer, prefix, args, {}, training, name=op.name)
        finally:
            self.in_frames = False

    def layer(
        self,
        op: Any,
        prefix: str,
        args: Any,
        kwargs: Any,
        training: bool | None,
        *,
        name: str | None = None,
    ) -> list[Any]:
        name = self.free_name(prefix + (name or op.name))
        opened = self.without_activation(op)
        if self.shapes_the_images(op, args):
            y = self.record(Shaped(self.flat.image.shape[1:]), (self.flat.image,), {}, training)
        else:
            y = self.record(op if opened is None else opened, args, kwargs, training)
        if opened is not None:
            self.flat.preactivations[name] = y[0]
            y = self.record(op.activation, (y[0],), {}, training)
        elif is_activation_layer(op) or _is_users_relu(self.flat.calls[-1]):
            self.flat.preactivations[name] = self.flat.calls[-1].inputs[0]
        self.flat.layers[name] = op
        self.flat.outputs[name] = y[0]
        return y

    def enter(self, model: Any, inputs: Any) -> list[Any]:
        """Return the values of a nested model's inputs, cast and shaped as Keras does."""
        if isinstance(inputs, dict) and all(t.name in inputs for t in model.inputs):
            values = [inputs[t.name] for t in model.inputs]
        else:
            values = keras.tree.flatten(inputs)
        return [
            value
            if value is None or _fits(value, t, self.in_frames)
            else self.entered(_Entrance(t.dtype, len(t.shape)), value)
            for value, t in zip(values, model.inputs, strict=True)
        ]

    def entered(self, entrance: _Entrance, value: Any) -> Any:
        """Return the value of a nested model's input that needs a cast or an axis."""
        return self.record(entrance, (value,), {}, None)[0]

    def shapes_the_images(self, op: Any, args: Any) -> bool:
        """Return whether a layer does no more than give the images their shape."""
        own = self.flat.calls[0].outputs[0] if self.flat.calls else None
        reads = own is not None and len(args) == 1 and args[0] is own
        return self.front.shape is not None and reads and isinstance(op, keras.layers.Reshape)

    def record(self, op: Any, args: Any, kwargs: Any, training: bool | None) -> list[Any]:
        if self.in_frames and isinstance(op, keras.Operation | _Entrance):
            framed = tuple(is_symbolic(t) for t in keras.tree.flatten((args, kwargs)))
            op = Frames(op, _apply, framed)
        elif self.front.anywhere:
            op, args, kwargs = self.in_layout(op, args, kwargs)
        outputs = symbolic_results(op, args, kwargs)
        self.flat.calls.append(Call(op, args, kwargs, outputs, training))
        if isinstance(op, InLayout):
            self.moved.update(id(t) for t in outputs if len(t.shape) == op.rank)
        elif self.front.anywhere and any(id(t) in self.moved for t in self.flat.calls[-1].inputs):
            read = next(t for t in self.flat.calls[-1].inputs if id(t) in self.moved)
            self.moved.update(id(t) for t in outputs if len(t.shape) == len(read.shape))
        return outputs

    def in_layout(self, op: Any, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
        """Return an operation and its arguments so that maps are channels last."""
        leaves = keras.tree.flatten((args, kwargs))
        symbols = [t for t in leaves if is_symbolic(t)]
        moved = [t for t in symbols if id(t) in self.moved]
        settings = channels_last(op) if _is_own(op) else None
        if settings is not None and is_channels_first(op):
            # A map that comes from elsewhere, such as a layer that is channels last.
            fresh = {id(t): self.moved_last(t) for t in symbols if id(t) not in self.moved}
            args, kwargs = keras.tree.map_structure(lambda t: fresh.get(id(t), t), (args, kwargs))
            return self.set_to(op, settings), args, kwargs
        if not moved or (is_alike(op) and len(moved) == len(symbols) == len(leaves)):
            return op, args, kwargs
        if settings is not None and len(moved) == len(symbols):
            return self.set_to(op, settings), args, kwargs
        turns = isinstance(op, keras.layers.Permute) or type(op).__name__ == "Transpose"
        rank = 0 if turns else len(moved[0].shape)
        flags = tuple(is_symbolic(t) and id(t) in self.moved for t in leaves)
        return InLayout(op, _apply, flags, rank), args, kwargs

    def set_to(self, op: Any, settings: dict[str, Any]) -> Any:
        """Return a view of a layer with other settings, the same one for each of its calls."""
        key = id(op), "layout"
        if key not in self.opened:
            self.opened[key] = _view(op, **settings)
        return self.opened[key]

    def moved_last(self, tensor: Any) -> Any:
        """Return a channels-first tensor with its channels last."""
        found = self.moved_symbol(tensor)
        self.flat.calls.append(Call(to_last, (tensor,), {}, [found]))
        return found

    def moved_symbol(self, tensor: Any) -> Any:
        """Return a new symbol for a channels-first tensor whose axes are moved."""
        found = _fresh_of(last_shape(tensor.shape), tensor.dtype)
        self.moved.add(id(found))
        return found

    def without_activation(self, layer: Any) -> Any | None:
        """Return a layer as it is before its activation; None if it has none, or is the user's.

        It shares all the layer's variables and settings.
        """
        if not (isinstance(layer, _FUSED) and runs_as_keras(layer)):
            return None
        if layer.activation in (None, keras.activations.linear):
            return None
        if id(layer) not in self.opened:
            self.opened[id(layer)] = _view(layer, activation=keras.activations.linear)
        return self.opened[id(layer)]

    def free_name(self, name: str) -> str:
        """Return `name`, or `name:2` and so on where a shared layer is called again."""
        calls, free = 1, name
        while free in self.flat.outputs:
            calls += 1
            free = f"{name}:{calls}"
        return free


@dataclass(frozen=True)
class _Entrance:
    """Cast a value to the type of a nested model's input, and add or drop a last axis of 1."""

    dtype: str
    rank: int

    def __call__(self, x: Any) -> Any:
        x = ops.cast(x, self.dtype)
        if len(x.shape) > self.rank:
            return ops.squeeze(x, axis=-1)
        return ops.expand_dims(x, axis=-1) if len(x.shape) < self.rank else x

    def symbol(self, x: Any) -> Any:
        """Return the symbolic result for a symbolic tensor."""
        shape = tuple(x.shape)
        if len(shape) != self.rank:
            shape = shape[:-1] if len(shape) > self.rank else (*shape, 1)
        return keras.KerasTensor(shape, dtype=self.dtype)


def symbolic_results(op: Any, args: Any, kwargs: Any) -> list[Any]:
    """Return an operation's results for symbolic arguments, as new symbolic tensors."""
    if isinstance(op, keras.Operation):
        # Its nodes must stay as they are, for the user reads them.
        view = _view(op, _inbound_nodes=[], _outbound_nodes=[])
        with keras.name_scope(SCOPE):
            return [_fresh(t) for t in keras.tree.flatten(_apply(view, args, kwargs, False))]
    if isinstance(op, InLayout):
        own = op.own_symbols(args, kwargs)
        return op.symbolic(symbolic_results(op.op, *own))
    if isinstance(op, Frames):
        own = op.own_symbols(args, kwargs)
        return op.symbolic(symbolic_results(op.op, *own), args, kwargs)
    if isinstance(op, Sized):
        return [_fresh(t) for t in op.symbols(args)]
    if op is to_last:
        return [_fresh_of(last_shape(args[0].shape), args[0].dtype)]
    if isinstance(op, _Entrance | Shaped):
        return [op.symbol(args[0])]
    return [_fresh(args[0])]  # an activation, which keeps shape and type


def _apply(op: Any, args: Any, kwargs: Any, training: bool) -> Any:
    if isinstance(op, keras.Layer):  # every one takes it, and hands it on to the layers inside
        kwargs = {**kwargs, "training": training}
    return op(*args, **kwargs)


def _default_mode(layer: Any) -> Any:
    """Return the default of a layer's argument `training`, which is True for augmentation."""
    parameter = inspect.signature(layer.call).parameters.get("training")
    return None if parameter is None else parameter.default


def _view(op: Any, **changed: Any) -> Any:
    """Return an object with the attributes of `op`, some of them changed."""
    view = object.__new__(type(op))
    # Assignments to attributes would go through Keras, which counts variables.
    vars(view).update({**vars(op), **changed})
    return view


def _fresh(tensor: Any) -> Any:
    """Return a symbolic tensor of the same shape and type, of which there is no other."""
    return keras.KerasTensor(tuple(tensor.shape), dtype=tensor.dtype)


def _fresh_of(shape: Any, dtype: str) -> Any:
    return keras.KerasTensor(tuple(shape), dtype=dtype)


def _is_closed(op: Any) -> bool:
    """Return whether a layer of the user's own has convolutions inside."""
    if runs_as_keras(op) or isinstance(op, CONVOLUTIONS):
        return False
    inside = op._flatten_layers(include_self=False)
    return isinstance(op, keras.Model) or any(isinstance(x, CONVOLUTIONS) for x in inside)


def _is_own(op: Any) -> bool:
    """Return whether an operation is a layer that Keras's own code runs."""
    return isinstance(op, keras.Layer) and runs_as_keras(op)


def _fits(value: Any, tensor: Any, in_frames: bool) -> bool:
    return value.dtype == tensor.dtype and len(value.shape) == len(tensor.shape) + in_frames


def _is_users_relu(call: Call) -> bool:
    """Return whether a call is of a layer of the user's own, or of a Lambda, that is a ReLU."""
    own = isinstance(call.op, keras.layers.Lambda) or not runs_as_keras(call.op)
    return own and bound_of(call) is not None


def bound_of(call: Call) -> float | None:
    """Return the bound of a call that is a ReLU, infinity where it has none; None for others.

    The values decide that the call computes, not its name; see `relu_bound`.
    """
    source = _source_of_curve(call)
    return None if source is None else relu_bound(call.compute_one, source.shape, source.dtype)


def falls_silent(call: Call) -> bool:
    """Return whether a call is an activation that falls silent below 0: a ReLU, swish or GELU.

    The values decide it, not its name; see `has_pit_below_zero`.
    """
    source = _source_of_curve(call)
    if source is None:
        return False
    given = call.compute_one, source.shape, source.dtype
    return relu_bound(*given) is not None or has_pit_below_zero(*given)


def _source_of_curve(call: Call) -> Any:
    """Return the input of a call that may change each number by a fixed curve, else None."""
    if len(call.inputs) != 1 or len(call.outputs) != 1 or getattr(call.op, "variables", None):
        return None
    source, result = call.inputs[0], call.outputs[0]
    return source if source.shape == result.shape else None
